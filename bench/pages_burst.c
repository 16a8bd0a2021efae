/* SPDX-License-Identifier: MIT */
/*
 * pages_burst.c - what is resident before, during and after a burst of pages and extents, when nobody calls
 * anything any more: memory goes back by itself.
 *
 *     start      the process, before there is a page cache
 *     baseline   both threads have used pages and extents, as many as fill the magazines of their CPU several
 *                times, and what was idle of them has gone back; and they have some in use, or none. What stays
 *                is in here: that, the program, its libraries and stacks, metadata, and the CPUs' magazines.
 *     burst      each thread allocates its half, three quarters as pages and a quarter as extents, writes to
 *                each page, and frees all of it
 *     idle       the threads sleep
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pages.h"

#define THREADS 2
#define WARM_UP_PAGES 1024 /* of each thread */
#define SETTLED_PERIODS 12 /* without a change: that is the baseline */
#define SETTLE_SECONDS 60  /* at most */
#define PATIENCE_PERIODS 120
#define GOES_ON 0.25 /* how much longer the plot is than the way back */

static struct {
    struct weir_page_cache *cache;
    struct burst_run *run;
    struct machine machine;
    pthread_barrier_t line;
    pthread_t thread[THREADS];
    bool short_of_pages[THREADS];
} all;

static size_t resident(void)
{
    char line[128];
    size_t kib = 0;
    FILE *file =
        fopen("/proc/self/smaps_rollup", "r"); /* exact, as the counters of /proc/self/status are not */
    if (file == NULL)
        return machine_status_bytes("VmRSS:");
    while (kib == 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "Rss:", 4) == 0)
            kib = strtoul(line + 4, NULL, 10);
    fclose(file);
    return kib * 1024;
}

static void pause_for(double seconds)
{
    const struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

/* --- the threads --- */

static void write_to(char *memory, size_t pages)
{
    for (size_t i = 0; i < pages; i++)
        *(volatile char *)(memory + i * PAGE_BYTES) = 1;
}

/* Allocates and writes; how many it got. */
static size_t take(char *held[], size_t n, bool extents)
{
    for (size_t i = 0; i < n; i++) {
        held[i] = extents ? weir_extent_alloc(all.cache, EXTENT_PAGES) : weir_page_alloc(all.cache);
        if (held[i] == NULL)
            return i;
        write_to(held[i], extents ? EXTENT_PAGES : 1);
    }
    return n;
}

static void drop(char *held[], size_t n, bool extents)
{
    for (size_t i = 0; i < n; i++) {
        if (extents)
            weir_extent_free(all.cache, held[i], EXTENT_PAGES);
        else
            weir_page_free(all.cache, held[i]);
    }
}

/* False: there were not so many. */
static bool use(size_t pages)
{
    size_t extents = pages / 4 / EXTENT_PAGES, singles = pages - extents * EXTENT_PAGES;
    char **held = malloc((singles + extents) * sizeof held[0]);
    if (held == NULL)
        return false;
    size_t got = take(held, singles, false), got_extents = take(held + singles, extents, true);
    pthread_barrier_wait(&all.line); /* all of it is there */
    pthread_barrier_wait(&all.line);
    drop(held, got, false);
    drop(held + singles, got_extents, true);
    free(held);
    pthread_barrier_wait(&all.line); /* all of it is free */
    return got == singles && got_extents == extents;
}

static void *thread_main(void *arg)
{
    bool *short_of_pages = arg;
    size_t n = all.run->in_use / PAGE_BYTES / THREADS;
    char **in_use = malloc((n + 1) * sizeof in_use[0]);
    machine_pin(&all.machine, (unsigned)(short_of_pages - all.short_of_pages));
    *short_of_pages = !use(WARM_UP_PAGES);
    size_t got = in_use != NULL ? take(in_use, n, false) : 0;
    pthread_barrier_wait(&all.line); /* what is in use is there */
    pthread_barrier_wait(&all.line); /* the baseline is known */
    *short_of_pages |= got != n || !use(all.run->bytes / PAGE_BYTES / THREADS);
    pthread_barrier_wait(&all.line); /* the end */
    drop(in_use, got, false);
    free(in_use);
    return NULL;
}

/* --- who looks on --- */

static void add_point(double seconds, size_t bytes)
{
    struct burst_run *run = all.run;
    if (run->points < BURST_POINTS)
        run->point[run->points++] = (struct burst_point){(float)seconds, (float)bytes / (1 << 20)};
}

/* Until nothing changes any more. */
static size_t settle(double period)
{
    double start = seconds_now();
    size_t before = resident();
    for (unsigned same = 0; same < SETTLED_PERIODS && seconds_now() - start < SETTLE_SECONDS; same++) {
        pause_for(period);
        size_t now = resident();
        if (now != before)
            same = 0;
        before = now;
    }
    return before;
}

/* Until it is back within the share of the baseline, and somewhat longer. */
static void watch(double period)
{
    struct burst_run *run = all.run;
    size_t limit = (size_t)((double)run->baseline * (1 + BURST_SHARE));
    double start = seconds_now(), now = 0, until = period * PATIENCE_PERIODS;
    run->back = -1;
    while (now < until) {
        size_t bytes = resident();
        now = seconds_now() - start;
        add_point(now, bytes);
        run->end = bytes;
        if (run->back < 0 && bytes <= limit) {
            run->back = now;
            until = now * (1 + GOES_ON) + 2 * period;
        } else if (bytes > limit) {
            run->back = -1; /* not for good */
        }
        pause_for(period / 10);
    }
}

static void measure(double period)
{
    struct burst_run *run = all.run;
    for (unsigned i = 0; i < 4; i++)
        pthread_barrier_wait(&all.line); /* the warm-up, and what is in use */
    run->baseline = settle(period);
    add_point(-2 * period, run->baseline);
    add_point(-period, run->baseline);
    pthread_barrier_wait(&all.line);
    pthread_barrier_wait(&all.line); /* the burst is there */
    run->peak = resident();
    add_point(0, run->peak);
    pthread_barrier_wait(&all.line);
    pthread_barrier_wait(&all.line); /* and is gone */
    watch(period);
    pthread_barrier_wait(&all.line);
}

static void body(void *arg)
{
    struct burst_run *run = arg;
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    unsigned period = run->decay_milliseconds != 0 ? run->decay_milliseconds : WEIR_CACHE_DECAY_DEFAULT;

    child_request();
    all.run = run;
    memset(run->point, 0, sizeof run->point); /* resident, from the beginning */
    machine_cpus(&all.machine);
    pthread_barrier_init(&all.line, NULL, THREADS + 1);
    run->start = resident();
    config.capacity = 2 * run->bytes + run->in_use;
    config.decay_milliseconds = run->decay_milliseconds;
    int error = weir_page_cache_create(&all.cache, &config);
    if (error != 0) {
        snprintf(run->failure, sizeof run->failure, "could not be set up: %s", strerror(-error));
        return;
    }
    for (unsigned i = 0; i < THREADS; i++) {
        if (pthread_create(&all.thread[i], NULL, thread_main, &all.short_of_pages[i]) != 0) {
            snprintf(run->failure, sizeof run->failure, "no thread could be started");
            return;
        }
    }
    measure(period * 1e-3);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(all.thread[i], NULL);
        if (all.short_of_pages[i])
            snprintf(run->failure, sizeof run->failure, "there were not enough pages");
    }
    if (weir_page_cache_destroy(all.cache) != 0)
        snprintf(run->failure, sizeof run->failure, "pages were lost");
    child_answer();
}

void burst_measure(struct burst_run *run)
{
    double period = run->decay_milliseconds != 0 ? run->decay_milliseconds : WEIR_CACHE_DECAY_DEFAULT;
    pages_in_child(body, run, sizeof *run, SETTLE_SECONDS + PATIENCE_PERIODS * period * 1e-3 + 60,
                   run->failure);
}
