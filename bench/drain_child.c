/* SPDX-License-Identifier: MIT */
/* drain_child.c - a process in one per-CPU mode: its main thread drains. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "drain_threads.h"

#define WARM_UP_SECONDS 0.01
#define BACKLOG 5.0    /* wake-ups */
#define SPIN_SLICES 20 /* a turn's length */

const struct way_type drain_ways[WAYS] = {
    [NOBODY] = {"nobody", "nobody drains", RSEQ, .quiescent_every = 1},
    [QUIET] = {"quiet", "QUIET", RSEQ, true, WEIR_DRAIN_QUIET, 1, false},
    [QUIET_16] = {"quiet-16", "QUIET, every 16 steps", RSEQ, true, WEIR_DRAIN_QUIET, 16, true},
    [QUIET_64] = {"quiet-64", "QUIET, every 64 steps", RSEQ, true, WEIR_DRAIN_QUIET, 64, true},
    [QUIET_256] = {"quiet-256", "QUIET, every 256 steps", RSEQ, true, WEIR_DRAIN_QUIET, 256, false},
    [QUIET_OWN] = {"quiet-own-256", "QUIET, own source, 256", OWN_SOURCE, true, WEIR_DRAIN_QUIET, 256, false},
    [EXPEDITED] = {"expedited", "EXPEDITED", RSEQ, true, WEIR_DRAIN_EXPEDITED, 1, false},
    [LOCKED] = {"lock", "LOCK", LOCK, true, WEIR_DRAIN_LOCK, 1, false},
};

bool drain_pin(unsigned cpu)
{
    bool pinned = false;
    size_t bytes = CPU_ALLOC_SIZE(cpu + 1);
    cpu_set_t *one = CPU_ALLOC(cpu + 1);
    if (one != NULL) {
        CPU_ZERO_S(bytes, one);
        CPU_SET_S(cpu, bytes, one);
        pinned = pthread_setaffinity_np(pthread_self(), bytes, one) == 0;
    }
    CPU_FREE(one);
    return pinned;
}

/* --- the thread that drains --- */

static void start(pthread_t *thread, void *(*body)(void *))
{
    weir_store_relaxed(&drain_shared.seen, 0u);
    if (pthread_create(thread, NULL, body, NULL) != 0) {
        perror("weir-bench-drain: pthread_create");
        _exit(1);
    }
}

static void sleep_until(double when)
{
    const struct timespec time = {(time_t)when, (long)((when - (double)(time_t)when) * 1e9)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* The busy thread has noticed that a slice has begun. */
static void wait_for_mark(uint32_t slice)
{
    while (weir_load_acquire(&drain_shared.seen) != slice + 1)
        sleep_until(seconds_now() + 20e-6);
}

struct drained {
    uint64_t drains, empty, objects;
    double seconds;
};

/* Wakes up `rate` times a second, and drains or does not. What it is late with it makes up for, up to a
 * point. */
static struct drained run_slice(double seconds, const struct way_type *type, bool drains,
                                struct way_result *result)
{
    struct drained drained = {0, 0, 0, 0};
    double start = seconds_now(), now = start, next = now, end = now + seconds;
    while (now < end) {
        if (drains) {
            size_t objects =
                weir_cache_drain_cpu(drain_shared.cache, drain_shared.results->busy_cpu, type->how);
            double after = seconds_now();
            if (result != NULL && result->latencies < LATENCIES_MAX)
                result->latency[result->latencies++] = (float)((after - now) * 1e6);
            drained.drains++;
            drained.empty += objects == 0;
            drained.objects += objects;
            now = after;
        }
        next += 1.0 / drain_shared.results->rate;
        if (next > now)
            sleep_until(next);
        now = seconds_now();
        if (next < now - BACKLOG / drain_shared.results->rate)
            next = now;
    }
    drained.seconds = now - start;
    return drained;
}

/* Time per operation in a slice; nanoseconds. */
static double slice_cost(unsigned slice)
{
    const struct mark *from = &drain_shared.mark[slice], *to = &drain_shared.mark[slice + 1];
    return (to->end - from->start) * 1e9 / ((double)(to->operations - from->operations) / 2);
}

static void add_slice(struct slices_result *result, unsigned slice, bool drains,
                      const struct drained *drained)
{
    const struct mark *from = &drain_shared.mark[slice], *to = &drain_shared.mark[slice + 1];
    if (!drains) {
        result->voluntary_without += to->voluntary - from->voluntary;
        result->involuntary_without += to->involuntary - from->involuntary;
        result->quiescent_every =
            (to->end - from->start) / (double)(to->steps - from->steps) * drain_shared.quiescent_every;
        return;
    }
    result->seconds += to->end - from->start;
    result->drain_seconds += drained->seconds;
    result->drains += drained->drains;
    result->empty += drained->empty;
    result->objects += drained->objects;
    result->refills += to->refills - from->refills;
    result->refilled += to->refilled - from->refilled;
    result->refill_seconds += to->refill_seconds - from->refill_seconds;
    result->voluntary += to->voluntary - from->voluntary;
    result->involuntary += to->involuntary - from->involuntary;
}

/* Which slice of a pair is the one with drains: 0 or 1. */
static unsigned place_of_drains(unsigned pair)
{
    return (pair + drain_shared.results->round) % 2;
}

/* Slices with and without, in pairs; which comes first changes. Those of NOBODY are all without: what is
 * left is the noise of the measurement. */
static void turn_slices(enum way way, enum mix mix)
{
    const struct way_type *type = &drain_ways[way];
    struct way_result *result = &drain_shared.results->way[way];
    struct slices_result *slices = &result->slices[mix];
    struct drained drained[MARKS];
    double seconds = drain_shared.results->slice * 1e-3;
    pthread_t thread;

    drain_shared.mix = mix;
    drain_shared.quiescent_every = type->quiescent_every;
    weir_store_relaxed(&drain_shared.slice, 0u);
    start(&thread, drain_busy_main);
    wait_for_mark(0);
    run_slice(WARM_UP_SECONDS, type, type->drains, NULL);
    for (uint32_t slice = 0; slice < MARKS - 1; slice++) {
        bool drains = slice % 2 == place_of_drains(slice / 2);
        weir_store_relaxed(&drain_shared.slice, slice + 1);
        wait_for_mark(slice + 1);
        drained[slice] = run_slice(seconds, type, drains && type->drains, result);
    }
    weir_store_relaxed(&drain_shared.slice, (uint32_t)MARKS);
    pthread_join(thread, NULL);

    for (unsigned pair = 0; pair < PAIRS_OF_SLICES; pair++) {
        unsigned first = 2 * pair + 1; /* 0 was for warming up */
        unsigned with = first + place_of_drains(pair), without = 2 * first + 1 - with;
        unsigned n = slices->pairs++;
        slices->with[n] = slice_cost(with);
        slices->without[n] = slice_cost(without);
        slices->ratio[n] = slices->with[n] / slices->without[n] - 1;
        add_slice(slices, with, true, &drained[with - 1]);
        add_slice(slices, without, false, NULL);
    }
}

/* Interrupts of the busy CPU so far. */
static bool count_interrupts(uint64_t *all, uint64_t *calls)
{
    char line[16384], name[24];
    unsigned column = 0;
    bool found = false;
    FILE *file = fopen("/proc/interrupts", "r");

    *all = *calls = 0;
    if (file == NULL)
        return false;
    snprintf(name, sizeof name, "CPU%u", drain_shared.results->busy_cpu);
    if (fgets(line, sizeof line, file) != NULL)
        for (char *word = strtok(line, " \n"); word != NULL && !found; word = strtok(NULL, " \n")) {
            found = strcmp(word, name) == 0;
            column++;
        }
    while (found && fgets(line, sizeof line, file) != NULL) {
        char *at = strchr(line, ':');
        unsigned long long count = 0;
        for (unsigned i = 0; at != NULL && i < column; i++)
            count = strtoull(at + 1, &at, 10), at--;
        *all += count;
        if (strstr(line, "Function call") != NULL)
            *calls += count;
    }
    fclose(file);
    return found;
}

static void turn_spin(enum way way)
{
    const struct way_type *type = &drain_ways[way];
    struct spin_result *spin = &drain_shared.results->way[way].spin;
    const uint64_t gaps = spin->gaps;
    const double lost = spin->lost;
    const struct mark *from = &drain_shared.mark[0], *to = &drain_shared.mark[1];
    uint64_t all[2], calls[2];
    pthread_t thread;

    drain_shared.spin = spin;
    drain_shared.quiescent_every = type->quiescent_every;
    weir_store_relaxed(&drain_shared.slice, 2u);
    start(&thread, drain_spin_main);
    wait_for_mark(2);
    run_slice(WARM_UP_SECONDS, type, type->drains, NULL);
    drain_shared.results->interrupts_known = count_interrupts(&all[0], &calls[0]);
    weir_store_relaxed(&drain_shared.slice, 0u);
    wait_for_mark(0);
    struct drained drained = run_slice(SPIN_SLICES * 1e-3 * drain_shared.results->slice, type, type->drains,
                                       &drain_shared.results->way[way]);
    weir_store_relaxed(&drain_shared.slice, 1u);
    pthread_join(thread, NULL);
    count_interrupts(&all[1], &calls[1]);

    double seconds = to->end - from->start;
    spin->seconds += seconds;
    spin->looks += to->operations - from->operations;
    spin->drains += drained.drains;
    spin->voluntary += to->voluntary - from->voluntary;
    spin->involuntary += to->involuntary - from->involuntary;
    spin->interrupts += all[1] - all[0];
    spin->calls += calls[1] - calls[0];
    spin->gaps_per_second[spin->turns] = (double)(spin->gaps - gaps) / seconds;
    spin->lost_per_second[spin->turns] = (spin->lost - lost) / seconds;
    spin->involuntary_per_second[spin->turns] = (double)(to->involuntary - from->involuntary) / seconds;
    spin->calls_per_second[spin->turns] = (double)(calls[1] - calls[0]) / seconds;
    spin->turn_seconds[spin->turns] = seconds;
    spin->turns++;
}

/* --- the process --- */

static void turn_fast(enum process process)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, drain_fast_main, &drain_shared.results->fast[process]) == 0)
        pthread_join(thread, NULL);
}

/*
 * The affinity is narrowed before the cache is made: the library's helper thread (weir-grace) inherits it,
 * and stays off the busy CPU. Only the busy thread goes there. This is how an isolated CPU is used.
 */
static bool set_up(struct drain_results *results, enum process process)
{
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    char *missing = results->missing[process];

    if (process == LOCK)
        setenv("WEIR_PERCPU", "lock", 1);
    else
        unsetenv("WEIR_PERCPU");
    drain_pin(results->drainer_cpu);
    prctl(PR_SET_TIMERSLACK, 1UL); /* wake up when asked to */
    drain_calibrate();
    config.ops = &drain_backend;
    config.capacity = CAPACITY;
    config.registered_users = true;
    drain_readers(process == OWN_SOURCE);
    int error = process == OWN_SOURCE ? weir_grace_create(&config.grace, &drain_own_source) : 0;
    if (error == 0)
        error = weir_cache_create(&drain_shared.cache, &config);
    weir_grace_put(config.grace); /* the cache has its own reference */
    if (error != 0)
        snprintf(missing, 160, "not run: no cache: %s", strerror(-error));
    else if (weir_percpu_mode() != (process == LOCK ? WEIR_PERCPU_LOCK : WEIR_PERCPU_RSEQ))
        snprintf(missing, 160, "not run: %.140s", weir_percpu_reason());
    return missing[0] == '\0';
}

/* Everything that was handed out has come back, once. */
static void check_objects(struct drain_results *results, enum process process)
{
    uint64_t out, back;
    weir_cache_destroy(drain_shared.cache);
    if (!drain_backend_is_even(&out, &back))
        snprintf(results->failure, sizeof results->failure,
                 "%s mode: %llu objects were handed out, %llu came back%s", process == LOCK ? "lock" : "rseq",
                 (unsigned long long)out, (unsigned long long)back, out == back ? ", not the same ones" : "");
}

void drain_child(void *arg)
{
    const struct drain_child *child = arg;
    struct drain_results *results = child->results;
    bool usable = false;

    drain_shared.results = results;
    for (char request; (request = child_request()) != '\0'; child_answer()) {
        unsigned code = (unsigned)request - 1;
        enum mix mix = code % MIXES;
        enum way way = code / MIXES % WAYS;
        switch (code / MIXES / WAYS) {
        case TURN_BEGIN:
            usable = set_up(results, child->process);
            break;
        case TURN_FAST:
            if (usable)
                turn_fast(child->process);
            break;
        case TURN_SLICES:
            turn_slices(way, mix);
            break;
        case TURN_SPIN:
            turn_spin(way);
            break;
        default:
            if (usable)
                check_objects(results, child->process);
        }
    }
}
