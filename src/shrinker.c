/* SPDX-License-Identifier: MIT */
/*
 * shrinker.c - who can give memory back, and asking them: see weir/shrinker.h.
 *
 * The mutex protects the list, and is held for a few steps only, never while count or scan runs. What keeps
 * a shrinker there meanwhile is a pin. Who unregisters it marks it as leaving, so that there are no new
 * pins, and waits until there are none.
 *
 * fork(): the mutex is only held inside the gate (fork.h), so it is free when the process forks. count and
 * scan run outside: they may take long. So in the child the pins of threads that are no more are dropped;
 * only the thread that forked can have one. What was leaving stays so: who waited for it is no more either.
 */
#define _GNU_SOURCE
#include "weir/shrinker.h"

#include <errno.h>
#include <pthread.h>

#include "fork.h"
#include "futex.h"

#define MOST_ROUNDS 16

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct weir_shrinker *all; /* by number */
static uint64_t numbers;          /* given so far */
static uint64_t turn;             /* the number of the one that was asked last */
static uint32_t unpinned;         /* advances when one that is leaving has no pins any more; a futex */
static __thread struct weir_shrinker *running; /* the one whose count or scan this thread is in */

static void in_child(void)
{
    for (struct weir_shrinker *shrinker = all; shrinker != NULL; shrinker = shrinker->entry.next)
        shrinker->entry.pins = shrinker == running;
}

static void init(void)
{
    weir_percpu_init(); /* the gate uses it; chosen here, and not by a fork() behind others' backs */
    weir__fork_init();
    pthread_atfork(NULL, NULL, in_child);
}

/* False: in this child nothing can be used. */
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

/* Where it is linked; if it is not registered, where it would be. */
static struct weir_shrinker **find(const struct weir_shrinker *shrinker)
{
    struct weir_shrinker **link = &all;
    while (*link != NULL && *link != shrinker)
        link = &(*link)->entry.next;
    return link;
}

/* --- register --- */

int weir_shrinker_register(struct weir_shrinker *shrinker)
{
    if (shrinker->count == NULL || shrinker->scan == NULL)
        return -EINVAL;
    if (!lock())
        return -EOWNERDEAD;
    struct weir_shrinker **link = find(shrinker);
    bool is_new = *link == NULL;
    if (is_new) {
        shrinker->entry = (struct weir__shrinker_entry){.number = ++numbers};
        *link = shrinker;
    }
    unlock();
    return is_new ? 0 : -EEXIST;
}

/* Takes it off the list if nobody is in it; 0, -EAGAIN if somebody is, or -ENOENT. */
static int try_unlink(struct weir_shrinker *shrinker)
{
    struct weir_shrinker **link = find(shrinker);
    if (*link == NULL)
        return -ENOENT;
    shrinker->entry.leaving = true;
    if (shrinker->entry.pins != 0)
        return -EAGAIN;
    *link = shrinker->entry.next;
    return 0;
}

int weir_shrinker_unregister(struct weir_shrinker *shrinker)
{
    if (shrinker == running)
        return -EDEADLK;
    for (;;) {
        if (!lock())
            return -EOWNERDEAD;
        int error = try_unlink(shrinker);
        uint32_t before = weir_load_relaxed(&unpinned); /* relaxed: the mutex orders it */
        unlock();
        if (error != -EAGAIN)
            return error;
        weir__futex_wait(&unpinned, before, NULL);
    }
}

/* --- asking --- */

/* Pins the first one behind number `after`, up to `last`, that is not leaving; NULL: there is none. */
static struct weir_shrinker *pin_next(uint64_t after, uint64_t last)
{
    if (!lock())
        return NULL;
    struct weir_shrinker *shrinker = all;
    while (shrinker != NULL && (shrinker->entry.number <= after || shrinker->entry.leaving))
        shrinker = shrinker->entry.next;
    if (shrinker != NULL && shrinker->entry.number > last)
        shrinker = NULL;
    if (shrinker != NULL)
        shrinker->entry.pins++;
    unlock();
    running = shrinker;
    return shrinker;
}

/* Its number; `asked`: the next round begins behind it. */
static uint64_t unpin(struct weir_shrinker *shrinker, bool asked)
{
    running = NULL;
    if (!lock())
        return UINT64_MAX;
    uint64_t number = shrinker->entry.number;
    if (asked)
        turn = number;
    bool wake = --shrinker->entry.pins == 0 && shrinker->entry.leaving;
    if (wake)
        weir_store_relaxed(&unpinned, unpinned + 1); /* relaxed: the mutex, or the futex, orders it */
    unlock();
    if (wake)
        weir__futex_wake_all(&unpinned);
    return number;
}

/* What all have together. */
static size_t count_all(void)
{
    size_t total = 0;
    struct weir_shrinker *shrinker;
    for (uint64_t number = 0; (shrinker = pin_next(number, UINT64_MAX)) != NULL;) {
        size_t count = shrinker->count(shrinker->arg);
        total = count < SIZE_MAX - total ? total + count : SIZE_MAX;
        number = unpin(shrinker, false);
    }
    return total;
}

/* One round: how much is wanted of what all have together, and how much has been given. */
struct round {
    size_t want, total, given;
};

/* Of `count` bytes, rounded up. */
static size_t share_of(size_t count, const struct round *round)
{
    if (round->want >= round->total)
        return count;
    double exact = (double)count * ((double)round->want / (double)round->total);
    size_t share = exact < (double)count ? (size_t)exact : count;
    return share < count && (double)share < exact ? share + 1 : share;
}

/* Asks those behind number `after`, up to `last`, for their shares, until enough is given. */
static void ask(struct round *round, uint64_t after, uint64_t last)
{
    struct weir_shrinker *shrinker;
    while (round->given < round->want && (shrinker = pin_next(after, last)) != NULL) {
        size_t count = shrinker->count(shrinker->arg);
        if (count != 0)
            round->given += shrinker->scan(shrinker->arg, share_of(count, round));
        after = unpin(shrinker, count != 0);
    }
}

/* Asks each one once, beginning behind the one that was asked last, so that small targets do not always meet
 * the same one; how much was given. */
static size_t ask_all(size_t want)
{
    struct round round = {want, count_all(), 0};
    if (round.total == 0 || !lock())
        return 0;
    uint64_t first = turn;
    unlock();
    ask(&round, first, UINT64_MAX);
    ask(&round, 0, first);
    return round.given;
}

size_t weir_shrink(size_t target)
{
    size_t given = 0, more = 1;
    if (running != NULL)
        return 0;
    for (unsigned i = 0; i < MOST_ROUNDS && given < target && more != 0; i++) {
        more = ask_all(target - given);
        given += more;
    }
    return given;
}

size_t weir_shrinkable(void)
{
    return running == NULL ? count_all() : 0;
}
