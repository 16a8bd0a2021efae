/* SPDX-License-Identifier: MIT */
/* grace_share.c - sources of which the process has one, because their library has one set of readers. */
#include "grace.h"

#include <pthread.h>

#include "fork.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

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

int weir__grace_share(struct weir_grace **shared, const struct weir_grace_source *source,
                      struct weir_grace **grace)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int error = 0;

    pthread_once(&once, survive_fork);
    lock();
    if (*shared == NULL)
        error = weir_grace_create(shared, source);
    if (error == 0)
        weir__grace_get(*shared); /* the helper sleeps when nobody wants anything */
    *grace = *shared;
    unlock();
    return error;
}
