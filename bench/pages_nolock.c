/* SPDX-License-Identifier: MIT */
/*
 * pages_nolock.c - how often weir_page_alloc_nolock() and weir_page_free_nolock() succeed in a signal handler.
 *
 * A thread per CPU, two at most, allocates and frees pages of a small range in bursts, up to a level that changes
 * every millisecond and is often close to all there is. Each is interrupted by a timer, wherever it is, and the
 * handler allocates a page, or frees one that it allocated before. What came of it is counted by how full the
 * range was just then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pages.h"

#ifndef sigev_notify_thread_id /* older C libraries */
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define RANGE ((size_t)64 << 20)
#define BURST 64             /* pages at most, allocated or freed by a thread before it looks around again */
#define STASH 16             /* pages that a thread's handler holds at most */
#define TICK 100000          /* nanoseconds between two signals of a thread */
#define LEVEL_HOLDS 1e-3     /* seconds */
#define MARK ((uintptr_t)-1) /* in the first word of a page that the handler frees */

struct bursty {
    size_t held; /* pages; written by itself, read by all */
    uint64_t random, handler_random;
    size_t stashed; /* the handler's */
    void *stash[STASH];
    uint64_t signals;
    struct nolock_bin bin[NOLOCK_BINS]; /* the handler's, but for `ordinary` and `had` */
    void **page;                        /* that it holds */
    unsigned number;
    pthread_t thread;
    timer_t timer;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

static struct {
    struct weir_page_cache *cache;
    size_t pages;
    struct machine machine;
    struct bursty thread[NOLOCK_CPUS_MAX];
    unsigned threads;
    size_t level WEIR_ALIGNED(WEIR_LINE_PAIR); /* pages that the threads should hold, together */
    uint32_t stop;
} all;

static __thread struct bursty *self;

static uint64_t random_of(uint64_t *state, uint64_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*state >> 33) % below;
}

/* Percent of the range that the threads and their handlers hold. */
static struct nolock_bin *bin_now(struct bursty *bursty)
{
    size_t held = 0;
    for (unsigned i = 0; i < all.threads; i++) /* relaxed, both: a figure of this moment, more or less */
        held += weir_load_relaxed(&all.thread[i].held) + weir_load_relaxed(&all.thread[i].stashed);
    size_t percent = held * 100 / all.pages;
    return &bursty->bin[percent < NOLOCK_BINS ? percent : NOLOCK_BINS - 1];
}

/* --- in the handler --- */

static void alloc_nolock(struct nolock_bin *bin)
{
    void *page = weir_page_alloc_nolock(all.cache);
    bin->allocs++;
    if (page == NULL)
        return;
    bin->got++;
    self->stash[self->stashed] = page;
    weir_store_relaxed(&self->stashed, self->stashed + 1); /* relaxed: see bin_now() */
}

/* A page that is laid aside is linked by its first word; nobody else here writes there. */
static void free_nolock(struct nolock_bin *bin)
{
    weir_store_relaxed(&self->stashed, self->stashed - 1);
    uintptr_t *page = self->stash[self->stashed];
    weir_store_relaxed(page, MARK); /* relaxed, like the load: only the value counts */
    weir_page_free_nolock(all.cache, page);
    bin->frees++;
    bin->kept += weir_load_relaxed(page) == MARK;
}

static void on_signal(int number)
{
    int error = errno;
    (void)number;
    self->signals++;
    struct nolock_bin *bin = bin_now(self);
    bool has_room = self->stashed < STASH, has_page = self->stashed != 0;
    if (has_room && (!has_page || random_of(&self->handler_random, 2) == 0))
        alloc_nolock(bin);
    else
        free_nolock(bin);
    errno = error;
}

/* --- who is interrupted --- */

/* The first try of each burst counts: not each one that succeeds in front of one that fails. */
static void alloc_burst(struct bursty *bursty, size_t n)
{
    struct nolock_bin *bin = bin_now(bursty);
    size_t first = bursty->held, held = first;
    for (; held < first + n; held++) {
        void *page = weir_page_alloc(all.cache);
        if (page == NULL)
            break;
        bursty->page[held] = page;
        weir_store_relaxed(&bursty->held, held + 1);
    }
    bin->ordinary++;
    bin->had += held != first;
}

static void free_burst(struct bursty *bursty, size_t n)
{
    for (; n != 0; n--) {
        weir_store_relaxed(&bursty->held, bursty->held - 1);
        weir_page_free(all.cache, bursty->page[bursty->held]);
    }
}

/* Half of the time anywhere, half of the time close to the end. */
static void choose_level(struct bursty *bursty)
{
    size_t tenth = all.pages / 10;
    size_t level = random_of(&bursty->random, 2) == 0
                       ? random_of(&bursty->random, all.pages)
                       : all.pages - tenth + random_of(&bursty->random, tenth + tenth / 10);
    weir_store_relaxed(&all.level, level); /* relaxed: a number, and nothing hangs on it */
}

static void *bursty_main(void *arg)
{
    struct bursty *bursty = arg;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    const struct itimerspec ticks = {{0, TICK}, {0, TICK}}, never = {{0, 0}, {0, 0}};
    double chosen = 0;

    self = bursty;
    machine_pin(&all.machine, bursty->number);
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &bursty->timer) != 0)
        return NULL; /* no signals: see body() */
    timer_settime(bursty->timer, 0, &ticks, NULL);
    while (weir_load_relaxed(&all.stop) == 0) {
        double now = seconds_now();
        if (bursty->number == 0 && now - chosen > LEVEL_HOLDS) {
            choose_level(bursty);
            chosen = now;
        }
        size_t share = weir_load_relaxed(&all.level) / all.threads, held = bursty->held;
        size_t burst = 1 + random_of(&bursty->random, BURST);
        if (held < share)
            alloc_burst(bursty, burst);
        else
            free_burst(bursty, burst < held ? burst : held);
    }
    timer_settime(bursty->timer, 0, &never, NULL);
    timer_delete(bursty->timer);
    free_burst(bursty, bursty->held);
    while (bursty->stashed != 0) {
        bursty->stashed--;
        weir_page_free(all.cache, bursty->stash[bursty->stashed]);
    }
    return NULL;
}

/* --- the child --- */

static bool open_cache(struct nolock_run *run)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    struct weir_page_cache_stats stats;
    config.capacity = RANGE;
    config.min = run->reserve;
    int error = weir_page_cache_create(&all.cache, &config);
    if (error != 0) {
        snprintf(run->failure, sizeof run->failure, "could not be set up: %s", strerror(-error));
        return false;
    }
    weir_page_cache_stats(all.cache, &stats);
    all.pages = run->pages = (unsigned)stats.capacity;
    return true;
}

static void add_up(struct nolock_run *run)
{
    for (unsigned i = 0; i < all.threads; i++) {
        const struct bursty *bursty = &all.thread[i];
        run->signals += bursty->signals;
        for (unsigned k = 0; k < NOLOCK_BINS; k++) {
            run->bin[k].allocs += bursty->bin[k].allocs;
            run->bin[k].got += bursty->bin[k].got;
            run->bin[k].frees += bursty->bin[k].frees;
            run->bin[k].kept += bursty->bin[k].kept;
            run->bin[k].ordinary += bursty->bin[k].ordinary;
            run->bin[k].had += bursty->bin[k].had;
        }
    }
}

static void body(void *arg)
{
    struct nolock_run *run = arg;
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    child_request();
    machine_cpus(&all.machine);
    all.threads = run->threads = all.machine.cpus < NOLOCK_CPUS_MAX ? all.machine.cpus : NOLOCK_CPUS_MAX;
    if (!open_cache(run))
        return;
    sigaction(SIGUSR1, &action, NULL);
    for (unsigned i = 0; i < all.threads; i++) {
        struct bursty *bursty = &all.thread[i];
        *bursty = (struct bursty){.number = i, .random = i + 1, .handler_random = i + 100};
        bursty->page = malloc(2 * all.pages * sizeof bursty->page[0]);
        if (bursty->page == NULL || pthread_create(&bursty->thread, NULL, bursty_main, bursty) != 0) {
            snprintf(run->failure, sizeof run->failure, "no thread could be started");
            return;
        }
    }
    const time_t whole = (time_t)run->seconds;
    const struct timespec time = {whole, (long)((run->seconds - (double)whole) * 1e9)};
    nanosleep(&time, NULL);
    weir_store_relaxed(&all.stop, 1u);
    for (unsigned i = 0; i < all.threads; i++)
        pthread_join(all.thread[i].thread, NULL);
    add_up(run);
    if (run->signals == 0)
        snprintf(run->failure, sizeof run->failure, "there were no signals");
    if (weir_page_cache_destroy(all.cache) != 0)
        snprintf(run->failure, sizeof run->failure, "pages were lost");
    child_answer();
}

void nolock_measure(struct nolock_run *run)
{
    pages_in_child(body, run, sizeof *run, run->seconds + 60, run->failure);
}
