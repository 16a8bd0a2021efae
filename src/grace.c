/* SPDX-License-Identifier: MIT */
/* grace.c - runs grace periods and counts them, on a helper thread or without: see weir/grace.h. */
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
#include "grace_watch.h"

char weir__grace_readers;

/* Checked builds start just before the count wraps round. */
#ifdef WEIR_CHECKED
#define FIRST_COUNT (UINT64_MAX - 99)
#else
#define FIRST_COUNT UINT64_C(0)
#endif

/* After how long a grace period is reported that has not ended, if the program says nothing. */
enum { STALL_MILLISECONDS = 5000 };

/* Is the helper thread asleep, and what may wake it? */
enum {
    AWAKE = 0,
    DOZING = 1, /* until a sweep that is near */
    ASLEEP = 2, /* for longer, or for good */
    GONE = 3,   /* it is not there: we are the child of a fork(). Whoever wakes it starts it */
};

struct weir_grace {
    uint64_t count;     /* even: idle; odd: a grace period runs; written by the helper, or by who drives */
    uint64_t requested; /* the count that somebody waits for */
    uint32_t rest;      /* AWAKE, DOZING, ASLEEP, GONE; the helper's futex */
    uint32_t ended;     /* advances at the end of each grace period; the waiters' futex */
    uint32_t driven;    /* without a helper: a thread is driving; it owns what is the helper's otherwise */
    uint32_t sleepers;  /* ... and so many wait until it has done */

    struct weir_grace_source source WEIR_ALIGNED(WEIR_LINE_PAIR);
    pthread_t helper;
    uint32_t stop;
    uint32_t references;
    pthread_mutex_t mutex; /* protects clients */
    struct weir__grace_client *clients;
    uint64_t begun; /* what the source's begin returned */
    struct weir__watch watch;

    /* fork(): */
    struct weir_grace *next; /* of all sources */
    uint32_t running;        /* somebody is in a function of the source, for a grace period */
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
    if (resting < depth || grace->source.no_helper)
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
            return cookie;
        }
    }
    /* In a child, where it was requested before the fork. Relaxed: this thread made it so, or one before
     * it. */
    if (weir_unlikely(weir_load_relaxed(&grace->rest) == GONE))
        wake_helper(grace, GONE);
    return cookie;
}

bool weir_grace_poll(const struct weir_grace *grace, weir_grace_cookie cookie)
{
    /* Acquire: pairs with the release at the end of run_grace_period(). */
    return !before(weir_load_acquire(&grace->count), cookie.value);
}

uint64_t weir_grace_periods(const struct weir_grace *grace)
{
    return (weir_load_relaxed(&grace->count) - FIRST_COUNT) / 2;
}

/* --- grace periods: the helper's, or of the thread that drives --- */

/* The caller is about to wait: true if it was an online reader. */
static bool go_offline(struct weir_grace *grace)
{
    const struct weir_grace_source *source = &grace->source;
    weir_grace_annotate_quiescent();
    return source->reader_offline != NULL && source->reader_offline(source->arg);
}

static void go_online(struct weir_grace *grace, bool was_online)
{
    if (was_online)
        grace->source.reader_online(grace->source.arg);
}

/* Is it asked whether a grace period is over? A helper would rather wait for it. */
static bool asks(const struct weir_grace *grace)
{
    return grace->source.begin != NULL && (grace->source.no_helper || grace->source.synchronize == NULL);
}

static bool wanted(const struct weir_grace *grace)
{
    /* Acquire: pairs with the release in weir_grace_start(). Only this thread changes the count. */
    return before(weir_load_relaxed(&grace->count), weir_load_acquire(&grace->requested));
}

static bool under_way(const struct weir_grace *grace)
{
    return (weir_load_relaxed(&grace->count) & 1) != 0; /* relaxed: only this thread changes it */
}

static void begin_grace_period(struct weir_grace *grace)
{
    const struct weir_grace_source *source = &grace->source;
    weir__watch_begin(&grace->watch);
    /* Acquire-release: see weir_grace_start(). */
    weir_fetch_add_acq_rel(&grace->count, UINT64_C(1));
    weir__watch_begun(&grace->watch);
    if (asks(grace))
        grace->begun = source->begin(source->arg);
}

static void end_grace_period(struct weir_grace *grace)
{
#if WEIR_TSAN
    __tsan_acquire(&weir__grace_readers);
#endif
    /* Release: pairs with the acquire in weir_grace_poll(); what the readers did comes before. */
    weir_fetch_add_acq_rel(&grace->count, UINT64_C(1));
    weir_store_release(&grace->unproven, 0u); /* both: pair with the acquires in weir_grace_wait() */
    weir_fetch_add_release(&grace->ended, 1u);
}

/*
 * Begins a grace period if none is under way, and asks whether it is over or, where that cannot be asked,
 * waits until it is. True if it has ended. False also if the process is about to fork: then nothing was done.
 */
static bool step(struct weir_grace *grace)
{
    const struct weir_grace_source *source = &grace->source;
    /* A read-modify-write on either side: see weir__grace_stop_periods(). */
    weir_xchg_acq_rel(&grace->running, 1u);
    if (weir_fetch_add_acq_rel(&grace->hold, 0u) != 0) {
        weir_xchg_acq_rel(&grace->running, 0u);
        return false;
    }
    if (!under_way(grace))
        begin_grace_period(grace);
    bool over = true;
    if (asks(grace))
        over = source->over(source->arg, grace->begun);
    else
        source->synchronize(source->arg);
    if (over)
        end_grace_period(grace);
    weir_xchg_acq_rel(&grace->running, 0u);
    if (over)
        weir__futex_wake_all(&grace->ended);
    return over;
}

/*
 * Between two questions whether a grace period is over. Most readers are done within microseconds, so at
 * first the CPU is only offered to others; then the naps grow, so that waiting for long costs little, and
 * stay so short that the end is not noticed much later than it comes. It sleeps in the futex, which is no
 * cancellation point.
 */
static void nap(struct weir_grace *grace, unsigned *naps)
{
    uint32_t nothing = 0;
    unsigned n = (*naps)++;
    if (weir_load_relaxed(&grace->hold) != 0) { /* relaxed: it is asked again */
        weir__futex_wait(&grace->hold, 1, NULL);
    } else if (n < 10) {
        sched_yield();
    } else {
        struct timespec time = {0, n < 17 ? 1000L << (n - 10) : 100000L};
        weir__futex_wait(&nothing, 0, &time);
    }
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

/*
 * Those who end a grace period wake the helper up, and where no CPU is idle that is often on one on which
 * somebody is handing over: it would preempt him, only to spin for the very reader that it keeps from
 * running. As a batch task it preempts nobody: it gets the CPU that is idle first, or its turn, or what a
 * thread with a backlog yields (deferred.c). If the program has given its threads another policy, that stays.
 */
static void preempt_nobody(void)
{
    static const struct sched_param none = {0};
    if (sched_getscheduler(0) == SCHED_OTHER)
        sched_setscheduler(0, SCHED_BATCH, &none); /* if not, not */
}

static void *helper_main(void *arg)
{
    struct weir_grace *grace = arg;
    uint64_t last_sweep = weir__milliseconds();
    unsigned naps = 0;

    preempt_nobody();
    while (weir_load_acquire(&grace->stop) == 0) {
        if (!wanted(grace)) {
            rest(grace);
            continue;
        }
        if (step(grace))
            naps = 0;
        else
            nap(grace, &naps);
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
    int error = weir__watch_start();
    if (error != 0)
        return error;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_all); /* signals are for the program's own threads */
    error = pthread_create(&grace->helper, NULL, helper_main, grace);
    pthread_sigmask(SIG_SETMASK, &before_all, NULL);
    if (error == 0)
        pthread_setname_np(grace->helper, "weir-grace");
    return -error;
}

/* --- without a helper --- */

/* False: another thread is driving. Acquire-release, here and at the end: what belongs to the driver is
 * handed on, and see stop_driving(). */
static bool try_to_drive(struct weir_grace *grace)
{
    return weir_xchg_acq_rel(&grace->driven, 1u) == 0;
}

/*
 * Who sleeps until the driver has done says so first, then reads `ended`, then fails to drive, then sleeps
 * while `ended` stays the same. Its failed attempt is a read-modify-write before ours below, which therefore
 * sees that it is there; and `ended` advances after it was read.
 */
static void stop_driving(struct weir_grace *grace)
{
    weir_xchg_acq_rel(&grace->driven, 0u);
    if (weir_load_relaxed(&grace->sleepers) == 0) /* relaxed: acquired above */
        return;
    weir_fetch_add_release(&grace->ended, 1u); /* pairs with the acquire in await() */
    weir__futex_wake_all(&grace->ended);
}

/* Calls a function of `grace` that may wait for readers. */
static void step_offline(struct weir_grace *grace)
{
    bool was_online = go_offline(grace);
    step(grace);
    go_online(grace, was_online);
}

bool weir_grace_drive(struct weir_grace *grace)
{
    if (!grace->source.no_helper || grace->dead)
        return false;
    if (!try_to_drive(grace))
        return true;
    if (wanted(grace) && asks(grace))
        step(grace);
    else if (wanted(grace))
        step_offline(grace);
    if (under_way(grace))
        weir__watch_look(&grace->watch);
    bool more = sweep_clients(grace) != 0 || wanted(grace);
    stop_driving(grace);
    return more;
}

/* Drives until the grace period is over, or until the deadline if the first one in a child does not end. */
static void drive_until(struct weir_grace *grace, weir_grace_cookie cookie, uint64_t deadline)
{
    unsigned naps = 0;
    while (!weir_grace_poll(grace, cookie)) {
        if (weir_load_relaxed(&grace->unproven) != 0 && weir__milliseconds() >= deadline)
            return; /* relaxed: only this thread changes it */
        if (step(grace)) {
            naps = 0;
            continue;
        }
        weir__watch_look(&grace->watch);
        nap(grace, &naps);
    }
    sweep_clients(grace);
}

/* --- waiting --- */

/* Sleeps until a grace period has ended or the driver has left. */
static void sleep_on(struct weir_grace *grace, uint32_t ended, uint64_t deadline)
{
    if (weir_likely(weir_load_acquire(&grace->unproven) == 0)) {
        weir__futex_wait(&grace->ended, ended, NULL);
        return;
    }
    /* In a child, where the source may be waiting for readers that are no more. */
    uint64_t now = weir__milliseconds();
    struct timespec time = weir__timespec(deadline > now ? deadline - now : 0);
    wake_helper(grace, GONE);
    weir__futex_wait(&grace->ended, ended, &time);
}

/* Waits for a grace period to end; without a helper, drives if nobody does. May return earlier. */
static void await(struct weir_grace *grace, weir_grace_cookie cookie, uint64_t deadline)
{
    weir_fetch_add_acq_rel(&grace->sleepers, 1u); /* before what follows: see stop_driving() */
    /* Acquire: orders this before the poll, so that an end between the two makes the wait return. */
    uint32_t ended = weir_load_acquire(&grace->ended);
    bool over = weir_grace_poll(grace, cookie);
    bool drive = !over && grace->source.no_helper && try_to_drive(grace);
    if (!over && !drive)
        sleep_on(grace, ended, deadline);
    weir_fetch_sub_acq_rel(&grace->sleepers, 1u);
    if (drive) {
        drive_until(grace, cookie, deadline);
        stop_driving(grace);
    }
}

int weir_grace_wait(struct weir_grace *grace, weir_grace_cookie cookie)
{
    if (weir_grace_poll(grace, cookie))
        return 0;
    bool was_online = go_offline(grace);
    uint64_t deadline = weir__milliseconds() + weir__fork_patience;
    int error = 0;
    while (error == 0 && !weir_grace_poll(grace, cookie)) {
        if (weir_load_acquire(&grace->unproven) != 0 && (grace->dead || weir__milliseconds() >= deadline))
            error = -EOWNERDEAD;
        else
            await(grace, cookie, deadline);
    }
    go_online(grace, was_online);
    return error;
}

/* --- sources come and go --- */

static bool is_complete(const struct weir_grace_source *source)
{
    return source != NULL && (source->synchronize != NULL || source->begin != NULL) &&
           (source->begin == NULL) == (source->over == NULL) &&
           (source->reader_offline == NULL) == (source->reader_online == NULL);
}

int weir_grace_create(struct weir_grace **result, const struct weir_grace_source *source)
{
    *result = NULL;
    if (!is_complete(source))
        return -EINVAL;
    struct weir_grace *grace = aligned_alloc(WEIR_LINE_PAIR, sizeof *grace);
    if (grace == NULL)
        return -ENOMEM;
    *grace = (struct weir_grace){
        .count = FIRST_COUNT, .requested = FIRST_COUNT, .source = *source, .references = 1};
    grace->watch = (struct weir__watch){.source = &grace->source,
                                        .count = &grace->count,
                                        .milliseconds = STALL_MILLISECONDS,
                                        .seen = FIRST_COUNT};
    pthread_mutex_init(&grace->mutex, NULL);
    weir__fork_init();
    int error = source->no_helper ? 0 : start_helper(grace);
    if (error != 0) {
        free(grace);
        return error;
    }
    weir__watch_add(&grace->watch);
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
    if (!grace->source.no_helper && weir_fetch_add_acq_rel(&grace->rest, 0u) != GONE) {
        wake_helper(grace, DOZING);
        bool was_online = go_offline(grace); /* the helper may be waiting for us */
        pthread_join(grace->helper, NULL);
        go_online(grace, was_online);
    }
    weir__watch_remove(&grace->watch);
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

bool weir__grace_has_helper(const struct weir_grace *grace)
{
    return !grace->source.no_helper;
}

void weir_grace_on_stall(struct weir_grace *grace, unsigned milliseconds, weir__on_stall *callback, void *arg)
{
    weir__watch_set(&grace->watch, milliseconds, callback, arg);
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
    weir__watch_pause(); /* it may be a reader for a moment */
    for (struct weir_grace *grace = sources; grace != NULL; grace = grace->next) {
        bool running;
        grace->was_online = go_offline(grace); /* it may be us who is waited for */
        /* Read-modify-writes, like the helper's: either it finds `hold`, or we find it running. */
        weir_xchg_acq_rel(&grace->hold, 1u);
        while ((running = weir_fetch_add_acq_rel(&grace->running, 0u) != 0) &&
               weir__milliseconds() < deadline)
            sched_yield();
        /* Not before: in the middle of a grace period a library's readers may be anywhere. */
        grace->survives = grace->source.survives_fork == NULL ||
                          (!running && grace->source.survives_fork(grace->source.arg));
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
 * no more: every grace period that was asked for is over. Elsewhere this thread may be reading: one that was
 * under way has not begun. */
static void revive(struct weir_grace *grace)
{
    if (!grace->has_mutex)
        pthread_mutex_init(&grace->mutex, NULL); /* its holder is gone */
    grace->count &= ~UINT64_C(1);
    if (grace->source.reader_offline != NULL && before(grace->count, grace->requested))
        grace->count = grace->requested;
    grace->running = grace->driven = grace->sleepers = 0;
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
        go_online(grace, grace->was_online);
    }
    weir__watch_go_on(in_child);
    pthread_mutex_unlock(&sources_mutex);
}
