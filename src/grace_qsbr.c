/* SPDX-License-Identifier: MIT */
/* grace_qsbr.c - liburcu-qsbr as a source of grace periods: the only file that includes liburcu. */
#include "grace.h"

#include <pthread.h>
#include <urcu/urcu-qsbr.h>
#include <urcu/static/urcu-qsbr.h> /* only what a reader's record looks like */

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

/*
 * In a child the records of other readers stay in liburcu's list, which lies in the memory of their threads'
 * stacks: it would be waited for them, or, once that memory is used again, worse. So: is there any other? The
 * list is a ring through its head; if we are its only member, we have the head on both sides. Who is not on
 * it is put there for a moment.
 */
static bool survives_fork(void *arg)
{
    (void)arg;
    bool registered = urcu_qsbr_reader.registered;
    if (!registered)
        urcu_qsbr_register_thread();
    /* Relaxed: others may come and go; the rule asks them not to. */
    bool alone =
        weir_load_relaxed(&urcu_qsbr_reader.node.next) == weir_load_relaxed(&urcu_qsbr_reader.node.prev);
    if (!registered)
        urcu_qsbr_unregister_thread();
    return alone;
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

/* Registered after fork.c's, so that it is called before it: who has this mutex may be waiting for those of
 * grace.c. */
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
                                                    .reader_is_online = reader_is_online,
                                                    .survives_fork = survives_fork};
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
