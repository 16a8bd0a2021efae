/* SPDX-License-Identifier: MIT */
/* grace_qsbr.c - liburcu-qsbr as a source of grace periods: the only file that includes liburcu. */
#include "grace.h"

#include <pthread.h>
#include <urcu/urcu-qsbr.h>

static void synchronize(void *arg)
{
    (void)arg;
    urcu_qsbr_synchronize_rcu();
}

/* liburcu says "read ongoing" of a thread that is registered and online. */
static bool reader_offline(void *arg)
{
    (void)arg;
    if (!urcu_qsbr_read_ongoing())
        return false;
    urcu_qsbr_thread_offline();
    return true;
}

static void reader_online(void *arg)
{
    (void)arg;
    urcu_qsbr_thread_online();
}

/* One for the process: liburcu-qsbr has one set of readers. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct weir_grace *shared;

int weir_grace_qsbr(struct weir_grace **grace)
{
    static const struct weir_grace_source source = {.name = "liburcu-qsbr",
                                                    .synchronize = synchronize,
                                                    .reader_offline = reader_offline,
                                                    .reader_online = reader_online};
    int error = 0;

    pthread_mutex_lock(&mutex);
    if (shared == NULL)
        error = weir_grace_create(&shared, &source);
    if (error == 0)
        weir__grace_get(shared); /* `shared` keeps its own: the helper sleeps when nobody wants anything */
    *grace = shared;
    pthread_mutex_unlock(&mutex);
    return error;
}
