/* SPDX-License-Identifier: MIT */
/* What the tests of weir/cache.h share: a cache over a backend that counts, and a hand that takes and gives
 * objects. */
#ifndef CACHE_FIXTURE_H
#define CACHE_FIXTURE_H

#include "cache.h"
#include "fixtures.h"

#include "weir_test.h"

enum { CAPACITY = 4, NR = 200 };

static const struct weir_cache_ops ops = {backend_alloc, backend_free};
static struct backend backend;
static struct gate gate;
static struct weir_cache *cache;
static void *held[NR]; /* what the test owns */
static size_t nr_held;
static unsigned cpu, other_cpu;

static inline struct weir_cache_config config_of(size_t capacity, size_t high)
{
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    config.ops = &ops;
    config.backend = &backend;
    config.capacity = capacity;
    config.high = high;
    config.grace = gate.grace;
    config.decay_milliseconds = WEIR_CACHE_DECAY_NEVER;
    return config;
}

/* Goes to a CPU; false if there is no other one. */
static inline bool find_cpus(void)
{
    static bool found;
    if (!found)
        cpu = fixture_stay(&other_cpu);
    found = true;
    fixture_pin(cpu);
    return cpu != other_cpu;
}

static inline void prepare(bool open)
{
    find_cpus();
    backend_init(&backend, NR);
    gate_create(&gate, open);
}

static inline void create(const struct weir_cache_config *config,
                          const struct weir__cache_surroundings *around)
{
    cr_assert_eq(weir__cache_create(&cache, config, around), 0);
}

/* Magazines of CAPACITY, `high` objects in the depot, grace periods that end by themselves if `open`. */
static inline void start(size_t high, bool open)
{
    prepare(open);
    struct weir_cache_config config = config_of(CAPACITY, high);
    create(&config, &(struct weir__cache_surroundings){NULL, NULL});
}

/* A topology with `domains` domains: the other CPU is in the second one, if there is, and all the rest in the
 * first. */
static inline const struct weir__topology *imitate(unsigned domains)
{
    static struct weir__topology topology;
    cr_assert_eq(weir_percpu_init(), 0);
    weir__topology_free(&topology);
    cr_assert_eq(weir__topology_split(&topology, 1, weir_percpu_nr_cpus()), 0);
    topology.domains = domains;
    topology.domain_of[other_cpu] = domains > 1;
    return &topology;
}

static inline bool take(void)
{
    void *object = weir_cache_alloc(cache);
    if (object == NULL)
        return false;
    held[nr_held++] = backend_own(&backend, object);
    return true;
}

static inline size_t take_n(size_t n)
{
    size_t got = 0;
    while (got < n && take())
        got++;
    return got;
}

static inline size_t take_bulk(size_t n)
{
    size_t got = weir_cache_alloc_bulk(cache, n, held + nr_held);
    cr_assert_leq(got, n);
    for (size_t i = 0; i < got; i++)
        backend_own(&backend, held[nr_held++]);
    return got;
}

static inline void *drop(void)
{
    cr_assert_gt(nr_held, 0u);
    return backend_disown(held[--nr_held]);
}

static inline void give_n(size_t n)
{
    while (n-- != 0)
        weir_cache_free(cache, drop());
}

static inline void give_bulk(size_t n)
{
    nr_held -= n;
    for (size_t i = 0; i < n; i++)
        backend_disown(held[nr_held + i]);
    weir_cache_free_bulk(cache, n, held + nr_held);
}

static inline void give_rcu(size_t n)
{
    while (n-- != 0)
        weir_cache_free_rcu(cache, drop());
}

static inline struct weir_cache_stats stats_now(void)
{
    struct weir_cache_stats stats;
    weir_cache_stats(cache, &stats);
    return stats;
}

/* The depots are empty, and keep as little as they ever do. */
static inline bool settled(void)
{
    const struct weir__depots *depots = &cache->depots;
    return weir__depots_objects(depots, cache->capacity) == 0 &&
           weir__depots_limit(depots) == depots->domains * depots->base;
}

/* The counts of the past that CPUs have, as an array. */
enum {
    FIRST_COUNT = offsetof(struct weir_cache_stats, fast_allocs),
    COUNTS = (offsetof(struct weir_cache_stats, raises) - FIRST_COUNT) / sizeof(uint64_t)
};

static inline void counts_of(const struct weir_cache_stats *stats, uint64_t counts[COUNTS])
{
    memcpy(counts, (const char *)stats + FIRST_COUNT, COUNTS * sizeof counts[0]);
}

/* What is said of the CPUs, added up, is what is said of the whole, but for what has no CPU. */
static inline void check_sums(const struct weir_cache_stats *whole)
{
    struct weir_cache_stats one;
    size_t cached = weir__depots_objects(&cache->depots, cache->capacity), waiting = 0;
    uint64_t expected[COUNTS], sums[COUNTS] = {0}, counts[COUNTS];

    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++) {
        weir_cache_stats_cpu(cache, nr, &one);
        cr_assert_eq(one.out + one.waiting_objects + one.limit + one.raises + one.periods, 0u);
        cached += one.cached;
        waiting += one.waiting;
        counts_of(&one, counts);
        for (size_t i = 0; i < COUNTS; i++)
            sums[i] += counts[i];
    }
    counts_of(whole, expected);
    cr_assert_eq(cached, whole->cached);
    cr_assert_eq(waiting, whole->waiting);
    for (size_t i = 0; i < COUNTS; i++)
        cr_assert_eq(sums[i], expected[i], "count %zu", i);
}

/* At rest: every object is in the backend, in the cache, waiting (that many), or held by the test. */
static inline void check_counts(size_t waiting_objects)
{
    struct weir_cache_stats stats = stats_now();
    cr_assert_eq(stats.allocated, backend.given);
    cr_assert_eq(stats.alloc_calls, backend.alloc_calls);
    cr_assert_eq(stats.freed, backend.taken);
    cr_assert_eq(stats.free_calls, backend.free_calls);
    cr_assert_eq(stats.waiting_objects, waiting_objects);
    cr_assert_eq(stats.out, nr_held);
    cr_assert_eq(backend_owned(&backend), nr_held);
    cr_assert_eq(stats.cached + waiting_objects + nr_held, backend_lent(&backend), "%zu + %zu + %zu != %zu",
                 stats.cached, waiting_objects, nr_held, backend_lent(&backend));
    check_sums(&stats);
}

static inline void finish(void)
{
    give_n(nr_held);
    gate_open(&gate);
    cr_assert_eq(weir_cache_destroy(cache), 0);
    backend_destroy(&backend);
    gate_destroy(&gate);
}

/* The way to drain that this mode has. */
static inline enum weir_drain usual_drain(void)
{
    return fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED;
}

/* Uses everything, with whatever fails; every object has to be somewhere all the time. */
static inline void use_everything(uint64_t seed, unsigned steps)
{
    uint64_t random = seed;
    for (unsigned step = 0; step < steps; step++) {
        size_t n = fixture_random(&random) % (3 * CAPACITY);
        switch (fixture_random(&random) % 8) {
        case 0:
        case 1:
            take_n(n);
            break;
        case 2:
            take_bulk(n < NR - nr_held ? n : NR - nr_held);
            break;
        case 3:
        case 4:
            give_n(n < nr_held ? n : nr_held);
            break;
        case 5:
            give_bulk(n < nr_held ? n : nr_held);
            break;
        case 6:
            give_rcu(n < nr_held ? n : nr_held);
            break;
        default:
            if (n == 0)
                weir_cache_drain_all(cache, usual_drain());
            else if (n < 4)
                weir_cache_decay(cache);
            else if (n < 6)
                weir_cache_rcu_barrier(cache);
        }
        if (step % 8 == 0) { /* at rest: nothing waits */
            weir_cache_rcu_barrier(cache);
            check_counts(0);
        }
    }
}

#endif
