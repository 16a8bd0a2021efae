/* SPDX-License-Identifier: MIT */
/* grace.c - the helper thread that runs grace periods and counts them: see weir/grace.h. */
#define _GNU_SOURCE
#include "grace.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "fork.h"
#include "futex.h"

char weir__grace_readers;

/* Checked builds start just before the count wraps round. */
#ifdef WEIR_CHECKED
#define FIRST_COUNT (UINT64_MAX - 99)
#else
#define FIRST_COUNT UINT64_C(0)
#endif

/* Is the helper thread asleep, and what may wake it? */
enum {
    AWAKE = 0,
    DOZING = 1, /* until a sweep that is near */
    ASLEEP = 2, /* for longer, or for good */
    GONE = 3,   /* it is not there: we are the child of a fork(). Whoever wakes it starts it */
};

struct weir_grace {
    uint64_t count;     /* even: idle; odd: a grace period runs; written by the helper */
    uint64_t requested; /* the count that somebody waits for */
    uint32_t rest;      /* AWAKE, DOZING, ASLEEP, GONE; the helper's futex */
    uint32_t ended;     /* advances at the end of each grace period; the waiters' futex */

    struct weir_grace_source source WEIR_ALIGNED(WEIR_LINE_PAIR);
    pthread_t helper;
    uint32_t stop;
    uint32_t references;
    pthread_mutex_t mutex; /* protects clients */
    struct weir__grace_client *clients;

    /* fork(): */
    struct weir_grace *next; /* of all sources */
    uint32_t running;        /* the helper is in a grace period */
    uint32_t hold;           /* it must not begin one; its futex then */
    uint32_t unproven;       /* a child's first grace period has not ended yet */
    bool dead;               /* a child's, that can have no grace periods */
    /* While the process forks: the thread that does so was a reader; has `mutex`; the source survives it. */
    bool was_online, has_mutex, survives;
};

static pthread_mutex_t sources_mutex = PTHREAD_MUTEX_INITIALIZER; /* protects `sources` */
static struct weir_grace *sources;

static int start_helper(struct weir_grace *grace);

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
    uint32_t resting = weir_fetch_add_acq_rel(&grace->rest, 0u);
    if (resting < depth)
        return;
    if (resting != GONE) {
        weir_xchg_acq_rel(&grace->rest, (uint32_t)AWAKE);
        weir__futex_wake_all(&grace->rest);
    } else if (!grace->dead && weir_cas_acq_rel(&grace->rest, &resting, (uint32_t)AWAKE) &&
               start_helper(grace) != 0) {
        weir_xchg_acq_rel(&grace->rest,
                          (uint32_t)GONE); /* who waits tries again, and gives up after a while */
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

int weir_grace_wait(struct weir_grace *grace, weir_grace_cookie cookie)
{
    if (weir_grace_poll(grace, cookie))
        return 0;
    bool was_online = go_offline(grace);
    uint64_t deadline = weir__milliseconds() + weir__fork_patience;
    int error = 0;
    for (;;) {
        /* Acquire: orders this before the poll, so that an end between the two makes the wait return. */
        uint32_t ended = weir_load_acquire(&grace->ended);
        if (weir_grace_poll(grace, cookie))
            break;
        if (weir_likely(weir_load_acquire(&grace->unproven) == 0)) {
            weir__futex_wait(&grace->ended, ended, NULL);
            continue;
        }
        /* In a child, where the source may be waiting for readers that are no more. */
        uint64_t now = weir__milliseconds();
        if (now >= deadline || grace->dead) {
            error = -EOWNERDEAD;
            break;
        }
        wake_helper(grace, GONE);
        struct timespec time = weir__timespec(deadline - now);
        weir__futex_wait(&grace->ended, ended, &time);
    }
    if (was_online)
        grace->source.reader_online(grace->source.arg);
    return error;
}

uint64_t weir_grace_periods(const struct weir_grace *grace)
{
    return (weir_load_relaxed(&grace->count) - FIRST_COUNT) / 2;
}

static void run_grace_period(struct weir_grace *grace)
{
    /* A read-modify-write on either side: see weir__grace_stop_periods(). */
    weir_xchg_acq_rel(&grace->running, 1u);
    if (weir_fetch_add_acq_rel(&grace->hold, 0u) != 0) {
        weir_xchg_acq_rel(&grace->running, 0u);
        weir__futex_wait(&grace->hold, 1, NULL);
        return;
    }
    /* Acquire-release: see weir_grace_start(). */
    weir_fetch_add_acq_rel(&grace->count, UINT64_C(1));
    grace->source.synchronize(grace->source.arg);
#if WEIR_TSAN
    __tsan_acquire(&weir__grace_readers);
#endif
    /* Release: pairs with the acquire in weir_grace_poll(); what the readers did comes before. */
    weir_fetch_add_acq_rel(&grace->count, UINT64_C(1));
    weir_store_release(&grace->unproven, 0u); /* both: pair with the acquires in weir_grace_wait() */
    weir_fetch_add_release(&grace->ended, 1u);
    weir_xchg_acq_rel(&grace->running, 0u);
    weir__futex_wake_all(&grace->ended);
}

static bool wanted(const struct weir_grace *grace)
{
    /* Acquire: pairs with the release in weir_grace_start(). Only this thread changes the count. */
    return before(weir_load_relaxed(&grace->count), weir_load_acquire(&grace->requested));
}

/* Calls every client that is due; in how many milliseconds the next one is, 0: none has anything to be done.
 * */
static uint64_t sweep_clients(struct weir_grace *grace)
{
    uint64_t now = weir__milliseconds(), next = 0;
    if (pthread_mutex_trylock(&grace->mutex) != 0)
        return 1; /* a client comes or goes, or the process forks: soon again */
    for (struct weir__grace_client *client = grace->clients; client != NULL; client = client->next) {
        unsigned wish = client->wish(client);
        if (wish == 0)
            client->due = 0;
        else if (client->due == 0 || client->due > now + wish)
            client->due = now + wish;
        if (client->due != 0 && client->due <= now && weir__enter()) {
            client->sweep(client);
            weir__leave();
            wish = client->wish(client);
            client->due = wish != 0 ? now + wish : 0;
        }
        if (client->due != 0 && (next == 0 || client->due - now < next))
            next = client->due - now;
    }
    pthread_mutex_unlock(&grace->mutex);
    return next;
}

/* Sleeps until somebody is due or it is woken up. */
static void rest(struct weir_grace *grace)
{
    uint64_t timeout = sweep_clients(grace);
    bool near = timeout != 0 && timeout <= WEIR_SWEEP_MILLISECONDS, busy = false;

    /* Pairs with wake_helper(): what was written before one that came first is seen below; one that comes
     * later finds how deep we sleep. So whoever wishes to wake us from a long sleep is heard by the second
     * round of questions, or wakes us. */
    weir_xchg_acq_rel(&grace->rest, near ? (uint32_t)DOZING : (uint32_t)ASLEEP);
    if (!near) {
        timeout = sweep_clients(grace);
        busy = timeout != 0 && timeout <= WEIR_SWEEP_MILLISECONDS;
    }
    struct timespec time = weir__timespec(timeout);
    if (!busy && !wanted(grace) && weir_load_acquire(&grace->stop) == 0)
        weir__futex_wait(&grace->rest, near ? DOZING : ASLEEP, timeout != 0 ? &time : NULL);
    weir_xchg_acq_rel(&grace->rest, (uint32_t)AWAKE);
}

static void *helper_main(void *arg)
{
    struct weir_grace *grace = arg;
    uint64_t last_sweep = weir__milliseconds();

    while (weir_load_acquire(&grace->stop) == 0) {
        if (!wanted(grace)) {
            rest(grace);
            continue;
        }
        run_grace_period(grace);
        uint64_t now = weir__milliseconds();
        if (now - last_sweep >= WEIR_SWEEP_MILLISECONDS) { /* it may go on like this for long */
            sweep_clients(grace);
            last_sweep = now;
        }
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
    weir__fork_init();
    int error = start_helper(grace);
    if (error != 0) {
        free(grace);
        return error;
    }
    pthread_mutex_lock(&sources_mutex);
    grace->next = sources;
    sources = grace;
    pthread_mutex_unlock(&sources_mutex);
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
    pthread_mutex_lock(&sources_mutex);
    struct weir_grace **link = &sources;
    while (*link != grace)
        link = &(*link)->next;
    *link = grace->next;
    pthread_mutex_unlock(&sources_mutex);
    weir_store_release(&grace->stop, 1u); /* pairs with the helper's acquire */
    if (weir_fetch_add_acq_rel(&grace->rest, 0u) != GONE) {
        wake_helper(grace, DOZING);
        bool was_online = go_offline(grace); /* the helper may be waiting for us */
        pthread_join(grace->helper, NULL);
        if (was_online)
            grace->source.reader_online(grace->source.arg);
    }
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

void weir__grace_check_reader(const struct weir_grace *grace, const char *function)
{
    if (grace->source.reader_is_online == NULL || grace->source.reader_is_online(grace->source.arg))
        return;
    fprintf(stderr, "weir: %s: its cache has registered_users, but this thread is no online reader of %s\n",
            function, grace->source.name != NULL ? grace->source.name : "its source");
    abort();
}

/* --- fork(): called by fork.c, one after the other, in the thread that forks --- */

void weir__grace_stop_periods(uint64_t deadline)
{
    pthread_mutex_lock(&sources_mutex);
    for (struct weir_grace *grace = sources; grace != NULL; grace = grace->next) {
        grace->survives =
            grace->source.survives_fork == NULL || grace->source.survives_fork(grace->source.arg);
        grace->was_online = go_offline(grace); /* it may be us who is waited for */
        /* Read-modify-writes, like the helper's: either it finds `hold`, or we find it running. */
        weir_xchg_acq_rel(&grace->hold, 1u);
        while (weir_fetch_add_acq_rel(&grace->running, 0u) != 0 && weir__milliseconds() < deadline)
            sched_yield();
    }
}

bool weir__grace_stop_sweeps(uint64_t deadline)
{
    bool stopped = true;
    for (struct weir_grace *grace = sources; grace != NULL; grace = grace->next) {
        while (!(grace->has_mutex = pthread_mutex_trylock(&grace->mutex) == 0) &&
               weir__milliseconds() < deadline)
            sched_yield();
        stopped &= grace->has_mutex;
    }
    return stopped;
}

/* The child is alone, the helper is gone. Where readers can go offline, this thread did, and the others are
 * no more: every grace period that was asked for is over. */
static void revive(struct weir_grace *grace)
{
    if (!grace->has_mutex)
        pthread_mutex_init(&grace->mutex, NULL); /* its holder is gone */
    grace->count = (grace->count + 1) & ~UINT64_C(1);
    if (grace->source.reader_offline != NULL && before(grace->count, grace->requested))
        grace->count = grace->requested;
    grace->running = 0;
    grace->rest = GONE;
    grace->unproven = 1;
    grace->dead |= !grace->survives;
}

void weir__grace_go_on(bool in_child)
{
    for (struct weir_grace *grace = sources; grace != NULL; grace = grace->next) {
        if (in_child)
            revive(grace);
        if (grace->has_mutex)
            pthread_mutex_unlock(&grace->mutex);
        weir_xchg_acq_rel(&grace->hold, 0u);
        weir__futex_wake_all(&grace->hold);
        if (grace->was_online)
            grace->source.reader_online(grace->source.arg);
    }
    pthread_mutex_unlock(&sources_mutex);
}
