/* SPDX-License-Identifier: MIT */
/* heirs.c - who is told in a child of fork(): see heirs.h. */
#define _GNU_SOURCE
#include "heirs.h"

#include <pthread.h>

#include "fork.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* protects `all`; is only held inside the gate */
static struct weir__heir *all;

static void in_child(void)
{
    for (struct weir__heir *heir = all; heir != NULL; heir = heir->next)
        heir->inherit(heir);
}

static void init(void)
{
    weir__fork_init();
    pthread_atfork(NULL, NULL, in_child);
}

static bool lock(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init);
    if (!weir__enter())
        return false;
    pthread_mutex_lock(&mutex);
    return true;
}

static void unlock(void)
{
    pthread_mutex_unlock(&mutex);
    weir__leave();
}

bool weir__heirs_add(struct weir__heir *heir)
{
    if (!lock())
        return false;
    heir->next = all;
    all = heir;
    unlock();
    return true;
}

bool weir__heirs_remove(struct weir__heir *heir)
{
    if (!lock())
        return false;
    struct weir__heir **link = &all;
    while (*link != heir)
        link = &(*link)->next;
    *link = heir->next;
    unlock();
    return true;
}
