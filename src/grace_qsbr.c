/* SPDX-License-Identifier: MIT */
/* grace_qsbr.c - liburcu-qsbr as a source of grace periods: the only file that includes liburcu. */
#include "grace.h"

#include <pthread.h>
#include <urcu/urcu-qsbr.h>

#include "fork.h"

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

static bool reader_is_online(void *arg)
{
    (void)arg;
    return urcu_qsbr_read_ongoing();
}

/* One for the process: liburcu-qsbr has one set of readers. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct weir_grace *shared;

static void lock(void)
{
    pthread_mutex_lock(&mutex);
}

static void unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

/* Registered after fork.c's, so that it is called before it: who has this mutex may be waiting for those of grace.c. */
static void survive_fork(void)
{
    weir__fork_init();
    pthread_atfork(lock, unlock, unlock);
}

int weir_grace_qsbr(struct weir_grace **grace)
{
    static const struct weir_grace_source source = {.name = "liburcu-qsbr",
                                                    .synchronize = synchronize,
                                                    .reader_offline = reader_offline,
                                                    .reader_online = reader_online,
                                                    .reader_is_online = reader_is_online};
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int error = 0;

    pthread_once(&once, survive_fork);
    lock();
    if (shared == NULL)
        error = weir_grace_create(&shared, &source);
    if (error == 0)
        weir__grace_get(shared); /* `shared` keeps its own: the helper sleeps when nobody wants anything */
    *grace = shared;
    unlock();
    return error;
}
