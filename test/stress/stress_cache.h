/* SPDX-License-Identifier: MIT */
/*
 * What the stress programs of weir/cache.h share: a cache over a backend that counts every object, hands that
 * take and give, objects that are passed on, and what must hold when all is over.
 */
#ifndef STRESS_CACHE_H
#define STRESS_CACHE_H

#include "stress.h"

#define FIXTURE_FAIL stress_fail
#include "cache.h"
#include "readers.h"
#include "weir/pool.h"

enum { CAPACITY = 8, MOST_HELD = 40 };

static const struct weir_cache_ops ops = {backend_alloc, backend_free};
static struct backend backend;
static struct weir_cache *cache;
static struct weir_pool passed_on; /* owned by whoever takes them */
static unsigned cpus[64], nr_cpus;

struct hand {
    void *objects[MOST_HELD];
    size_t n;
    uint64_t random;
};

static inline void take(struct hand *hand, void *object)
{
    if (object)
        hand->objects[hand->n++] = backend_own(&backend, object);
}

static inline void take_bulk(struct hand *hand, size_t n)
{
    void **into = hand->objects + hand->n;
    n = n < MOST_HELD - hand->n ? n : MOST_HELD - hand->n;
    size_t got = weir_cache_alloc_bulk(cache, n, into);
    if (got > n)
        stress_fail("alloc_bulk of %zu says %zu", n, got);
    for (size_t i = 0; i < got; i++)
        backend_own(&backend, into[i]);
    hand->n += got;
}

static inline void *drop(struct hand *hand)
{
    return hand->n != 0 ? hand->objects[--hand->n] : NULL;
}

static inline void give(struct hand *hand)
{
    void *object = drop(hand);
    if (object)
        weir_cache_free(cache, backend_disown(object));
}

static inline void give_bulk(struct hand *hand, size_t n)
{
    n = n < hand->n ? n : hand->n;
    hand->n -= n;
    for (size_t i = 0; i < n; i++)
        backend_disown(hand->objects[hand->n + i]);
    weir_cache_free_bulk(cache, n, hand->objects + hand->n);
}

static inline void pass_on(struct hand *hand)
{
    struct backend_object *object = drop(hand);
    if (object)
        weir_pool_put(&passed_on, &object->node);
}

static inline void take_over(struct hand *hand)
{
    struct weir_stack_node *node = weir_pool_get(&passed_on);
    if (node)
        hand->objects[hand->n++] = node; /* owned already */
}

static inline enum weir_drain any_drain(uint64_t dice)
{
    if (dice & 1)
        return WEIR_DRAIN_QUIET;
    return fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED;
}

/* The CPUs that we may be on take turns in `domains` domains. */
static inline const struct weir__topology *imitate(unsigned domains)
{
    static struct weir__topology topology;
    if (weir_percpu_init() != 0)
        stress_fail("weir_percpu_init");
    weir__topology_free(&topology);
    if (weir__topology_split(&topology, 1, weir_percpu_nr_cpus()) != 0)
        stress_fail("out of memory");
    topology.domains = domains;
    for (unsigned i = 0; i < nr_cpus; i++)
        topology.domain_of[cpus[i]] = i % domains;
    return &topology;
}

/* Objects, enough for all that threads and CPUs can hold but for a few. */
static inline size_t scarce_objects(void)
{
    return 100 + 50 * (size_t)stress.threads;
}

static inline struct weir_cache_config config_of(size_t high, struct weir_grace *grace)
{
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    config.ops = &ops;
    config.backend = &backend;
    config.capacity = CAPACITY;
    config.high = high;
    config.grace = grace;
    config.decay_milliseconds = 2;
    return config;
}

/* Magazines one at a time from the system, so that as many are made as are needed. */
static inline struct weir_block_source one_by_one(struct chunks *chunks)
{
    struct weir_block_source source = chunks_init(chunks, 1, CAPACITY);
    chunks->mapped = true;
    return source;
}

static inline void create(const struct weir_cache_config *config, const struct weir_block_source *chunks,
                          unsigned domains)
{
    weir_pool_init(&passed_on);
    if (weir__cache_create(&cache, config, &(struct weir__cache_surroundings){chunks, imitate(domains)}) != 0)
        stress_fail("cannot create the cache");
}

/* The CPUs' numbers, added up, are those of the whole. */
static inline void check_sums(const struct weir_cache_stats *whole)
{
    struct weir_cache_stats one;
    uint64_t fast = 0, slow = 0, refills = 0, stolen = 0;
    size_t cached = weir__depots_objects(&cache->depots, CAPACITY);
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++) {
        weir_cache_stats_cpu(cache, nr, &one);
        cached += one.cached;
        fast += one.fast_allocs + one.fast_frees;
        slow += one.slow_allocs + one.slow_frees;
        refills += one.refills;
        stolen += one.stolen;
    }
    if (cached != whole->cached || fast != whole->fast_allocs + whole->fast_frees ||
        slow != whole->slow_allocs + whole->slow_frees || refills != whole->refills ||
        stolen != whole->stolen)
        stress_fail("the CPUs' statistics do not add up to those of the whole");
}

/* Nobody uses it any more: everything is counted, and it is destroyed. Prints what has happened. */
static inline void finish(const struct chunks *chunks)
{
    struct weir_cache_stats stats;
    for (struct weir_stack_node *node; (node = weir_pool_get(&passed_on)) != NULL;)
        weir_cache_free(cache, backend_disown(node));
    if (cache->decays != 0) { /* no more of the helper's decays: what is counted below must not move */
        weir__grace_unregister(cache->grace, &cache->client);
        cache->decays = 0;
    }
    weir_cache_rcu_barrier(cache);
    weir_cache_stats(cache, &stats);
    if (backend_owned(&backend) != 0)
        stress_fail("%zu objects were forgotten", backend_owned(&backend));
    if (stats.cached != backend_lent(&backend))
        stress_fail("at rest %zu objects are said to be cached, but %zu are", stats.cached,
                    backend_lent(&backend));
    if (stats.waiting != 0 || stats.waiting_objects != 0)
        stress_fail("%zu magazines and %zu objects wait after a barrier", stats.waiting,
                    stats.waiting_objects);
    if (stats.out != 0)
        stress_fail("at rest %zu objects are said to be out", stats.out);
    if (stats.allocated != backend.given || stats.alloc_calls != backend.alloc_calls ||
        stats.freed != backend.taken || stats.free_calls != backend.free_calls)
        stress_fail("the cache's statistics differ from the backend's");
    if (stats.depot_hits > stats.refills || stats.stolen > stats.depot_hits)
        stress_fail("more refills from the depots than refills");
    if (stats.decayed + stats.drained > stats.freed)
        stress_fail("more given back by decay and drains than at all");
    check_sums(&stats);
    printf("%llu from the backend in %llu calls, %llu refills, %llu from a depot, %llu stolen, %llu decayed, "
           "%llu after a grace period, %llu waits, %zu magazines\n",
           (unsigned long long)stats.allocated, (unsigned long long)stats.alloc_calls,
           (unsigned long long)stats.refills, (unsigned long long)stats.depot_hits,
           (unsigned long long)stats.stolen, (unsigned long long)stats.decayed,
           (unsigned long long)stats.rcu_freed, (unsigned long long)stats.rcu_waits, stats.blocks.total);
    fflush(stdout);
    weir_cache_destroy(cache);
    backend_destroy(&backend);
    if (chunks->out != 0)
        stress_fail("%u chunks were not given back", chunks->out);
}

#endif
