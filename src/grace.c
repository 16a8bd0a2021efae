/* SPDX-License-Identifier: MIT */
/* grace.c - the helper thread that runs grace periods and counts them: see weir/grace.h. */
#define _GNU_SOURCE
#include "grace.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

char weir__grace_readers;

/* Checked builds start just before the count wraps round. */
#ifdef WEIR_CHECKED
#define FIRST_COUNT (UINT64_MAX - 99)
#else
#define FIRST_COUNT UINT64_C(0)
#endif

/* Is the helper thread asleep, and what may wake it? */
enum { AWAKE = 0, DOZING = 1 /* until the next sweep */, ASLEEP = 2 /* until somebody kicks it */ };

struct weir_grace {
    uint64_t count;     /* even: idle; odd: a grace period runs; written by the helper */
    uint64_t requested; /* the count that somebody waits for */
    uint32_t rest;      /* AWAKE, DOZING, ASLEEP; the helper's futex */
    uint32_t ended;     /* advances at the end of each grace period; the waiters' futex */

    struct weir_grace_source source WEIR_ALIGNED(WEIR_LINE_PAIR);
    pthread_t helper;
    uint32_t stop;
    uint32_t references;
    pthread_mutex_t mutex; /* protects clients */
    struct weir__grace_client *clients;
};

static void futex_wait(uint32_t *word, uint32_t value, const struct timespec *timeout)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout, NULL, 0);
}

static void futex_wake_all(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static uint64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Does count `a` come before count `b`? They wrap round. */
static bool before(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b) < 0;
}

/*
 * Wakes the helper if it rests at `depth` or deeper. The caller has just written what the helper must see.
 * Every change of `rest` is a read-modify-write, acquire and release, here and in rest(): whichever is later
 * in that word's order sees what the other side wrote before.
 */
static void wake_helper(struct weir_grace *grace, uint32_t depth)
{
    if (weir_fetch_add_acq_rel(&grace->rest, 0u) >= depth) {
        weir_xchg_acq_rel(&grace->rest, (uint32_t)AWAKE);
        futex_wake_all(&grace->rest);
    }
}

weir_grace_cookie weir_grace_start(struct weir_grace *grace)
{
    /*
     * A read-modify-write that changes nothing, so that it has a place in the order of the helper's own on
     * this word. Before the helper's start of a grace period: then that acquires what we released, our
     * unlinking happens before it, and it is the one to wait for. After: we see the odd count, and wait for
     * the next.
     */
    uint64_t count = weir_fetch_add_acq_rel(&grace->count, UINT64_C(0));
    weir_grace_cookie cookie = {(count + 3) & ~UINT64_C(1)};

    /* Whoever raises `requested` wakes the helper. Relaxed load: too old a value only means trying. */
    uint64_t requested = weir_load_relaxed(&grace->requested);
    while (before(requested, cookie.value)) {
        /* Release: pairs with the helper's acquire of `requested`. */
        if (weir_cas_acq_rel(&grace->requested, &requested, cookie.value)) {
            wake_helper(grace, DOZING);
            break;
        }
    }
    return cookie;
}

bool weir_grace_poll(const struct weir_grace *grace, weir_grace_cookie cookie)
{
    /* Acquire: pairs with the release at the end of run_grace_period(). */
    return !before(weir_load_acquire(&grace->count), cookie.value);
}

/* The caller is about to wait: true if it was an online reader. */
static bool go_offline(struct weir_grace *grace)
{
    const struct weir_grace_source *source = &grace->source;
    weir_grace_annotate_quiescent();
    return source->reader_offline != NULL && source->reader_offline(source->arg);
}

void weir_grace_wait(struct weir_grace *grace, weir_grace_cookie cookie)
{
    if (weir_grace_poll(grace, cookie))
        return;
    bool was_online = go_offline(grace);
    for (;;) {
        /* Acquire: orders this before the poll, so that an end between the two makes the wait return. */
        uint32_t ended = weir_load_acquire(&grace->ended);
        if (weir_grace_poll(grace, cookie))
            break;
        futex_wait(&grace->ended, ended, NULL);
    }
    if (was_online)
        grace->source.reader_online(grace->source.arg);
}

uint64_t weir_grace_periods(const struct weir_grace *grace)
{
    return (weir_load_relaxed(&grace->count) - FIRST_COUNT) / 2;
}

static void run_grace_period(struct weir_grace *grace)
{
    /* Acquire-release: see weir_grace_start(). */
    weir_fetch_add_acq_rel(&grace->count, UINT64_C(1));
    grace->source.synchronize(grace->source.arg);
#if WEIR_TSAN
    __tsan_acquire(&weir__grace_readers);
#endif
    /* Release: pairs with the acquire in weir_grace_poll(); what the readers did comes before. */
    weir_fetch_add_acq_rel(&grace->count, UINT64_C(1));
    weir_fetch_add_release(&grace->ended, 1u); /* pairs with the acquire in weir_grace_wait() */
    futex_wake_all(&grace->ended);
}

static bool wanted(const struct weir_grace *grace)
{
    /* Acquire: pairs with the release in weir_grace_start(). Only this thread changes the count. */
    return before(weir_load_relaxed(&grace->count), weir_load_acquire(&grace->requested));
}

/* Calls every client; true if one has something pending still. */
static bool sweep_clients(struct weir_grace *grace, bool sweep)
{
    bool pending = false;
    pthread_mutex_lock(&grace->mutex);
    for (struct weir__grace_client *client = grace->clients; client != NULL; client = client->next)
        pending |= sweep ? client->sweep(client) : client->pending(client);
    pthread_mutex_unlock(&grace->mutex);
    return pending;
}

/* Sleeps: `timeout` milliseconds; or, if that is 0, until it is kicked, unless it finds that something is
 * pending already: then true, at once. */
static bool rest(struct weir_grace *grace, uint64_t timeout)
{
    uint32_t depth = timeout != 0 ? DOZING : ASLEEP;
    struct timespec time = {(time_t)(timeout / 1000), (long)(timeout % 1000 * 1000000)};
    bool pending = false;

    /* Pairs with wake_helper(): what was written before one that came first is seen below; one that comes
     * later finds `depth`. */
    weir_xchg_acq_rel(&grace->rest, depth);
    if (!wanted(grace) && weir_load_acquire(&grace->stop) == 0 &&
        (timeout != 0 || !(pending = sweep_clients(grace, false))))
        futex_wait(&grace->rest, depth, timeout != 0 ? &time : NULL);
    weir_xchg_acq_rel(&grace->rest, (uint32_t)AWAKE);
    return pending;
}

static void *helper_main(void *arg)
{
    struct weir_grace *grace = arg;
    uint64_t last_sweep = milliseconds();
    bool pending = false;

    while (weir_load_acquire(&grace->stop) == 0) {
        bool ran = wanted(grace);
        if (ran) {
            run_grace_period(grace);
            pending = true;
        }
        uint64_t now = milliseconds(), since = now - last_sweep;
        if (since >= WEIR_SWEEP_MILLISECONDS) {
            pending = sweep_clients(grace, true);
            last_sweep = now;
            since = 0;
        }
        if (!ran)
            pending |= rest(grace, pending ? WEIR_SWEEP_MILLISECONDS - since : 0);
    }
    return NULL;
}

static int start_helper(struct weir_grace *grace)
{
    sigset_t all, before_all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_all); /* signals are for the program's own threads */
    int error = pthread_create(&grace->helper, NULL, helper_main, grace);
    pthread_sigmask(SIG_SETMASK, &before_all, NULL);
    if (error == 0)
        pthread_setname_np(grace->helper, "weir-grace");
    return -error;
}

int weir_grace_create(struct weir_grace **result, const struct weir_grace_source *source)
{
    *result = NULL;
    if (source == NULL || source->synchronize == NULL ||
        (source->reader_offline == NULL) != (source->reader_online == NULL))
        return -EINVAL;
    struct weir_grace *grace = aligned_alloc(WEIR_LINE_PAIR, sizeof *grace);
    if (grace == NULL)
        return -ENOMEM;
    *grace = (struct weir_grace){
        .count = FIRST_COUNT, .requested = FIRST_COUNT, .source = *source, .references = 1};
    pthread_mutex_init(&grace->mutex, NULL);
    int error = start_helper(grace);
    if (error != 0) {
        free(grace);
        return error;
    }
    *result = grace;
    return 0;
}

void weir__grace_get(struct weir_grace *grace)
{
    weir_fetch_add_relaxed(&grace->references, 1u);
}

void weir_grace_put(struct weir_grace *grace)
{
    /* Acquire-release: the last one sees what the others did with it. */
    if (grace == NULL || weir_fetch_sub_acq_rel(&grace->references, 1u) != 1)
        return;
    weir_store_release(&grace->stop, 1u); /* pairs with the helper's acquire */
    wake_helper(grace, DOZING);
    bool was_online = go_offline(grace); /* the helper may be waiting for us */
    pthread_join(grace->helper, NULL);
    if (was_online)
        grace->source.reader_online(grace->source.arg);
    pthread_mutex_destroy(&grace->mutex);
    free(grace);
}

void weir__grace_register(struct weir_grace *grace, struct weir__grace_client *client)
{
    pthread_mutex_lock(&grace->mutex);
    client->next = grace->clients;
    grace->clients = client;
    pthread_mutex_unlock(&grace->mutex);
}

void weir__grace_unregister(struct weir_grace *grace, struct weir__grace_client *client)
{
    pthread_mutex_lock(&grace->mutex);
    struct weir__grace_client **link = &grace->clients;
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    pthread_mutex_unlock(&grace->mutex);
}

void weir__grace_kick(struct weir_grace *grace)
{
    wake_helper(grace, ASLEEP);
}
