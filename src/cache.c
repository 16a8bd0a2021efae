/* SPDX-License-Identifier: MIT */
/* cache.c - the engine's slow paths: what happens once per magazine. See weir/cache.h. */
#define _GNU_SOURCE
#include "cache.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "deferred.h"

#define DECAY_PERCENT 25
#define DEFAULT_MAGAZINES_PER_CPU 4 /* in the depot */

/* What one CPU has. The counts are statistics: relaxed, and mostly written by the CPU itself. */
struct weir__cache_cpu {
    struct weir_percpu_slot loaded;
    struct weir_magazine *spare; /* NULL: none. Belongs to whoever exchanges it out */
    uint64_t refills, flushes, depot_hits;
    uint64_t allocated, alloc_calls, freed, free_calls;
} WEIR_ALIGNED(WEIR_PERCPU_STRIDE);
_Static_assert(sizeof(struct weir__cache_cpu) == WEIR_PERCPU_STRIDE, "one stride per CPU");

struct weir_cache {
    struct weir__cache_paths paths; /* first: the inline functions read it */
    struct weir__cache_cpu *cpus;
    struct weir_cache_ops ops;
    void *backend;
    size_t depot_limit; /* magazines that `full` keeps */
    bool registered_users;
    struct weir_grace *grace;
    struct weir_pool full;      /* the depot: magazines with at least one object */
    size_t depot_objects;       /* in them; ahead of the pool by what is on its way in or out */
    struct weir__blocks blocks; /* ... and the empty ones */
    struct weir__deferred deferred;
    uint64_t rcu_waits; /* times weir_cache_free_rcu() had no magazine and waited */
};

static struct weir__cache_cpu *this_cpu(struct weir_cache *cache)
{
    return &cache->cpus[weir_percpu_cpu()];
}

/* --- the backend --- */

static size_t backend_alloc(struct weir_cache *cache, size_t n, void *objects[])
{
    struct weir__cache_cpu *cpu = this_cpu(cache);
    size_t got = cache->ops.alloc_bulk(cache->backend, n, objects);
    weir_fetch_add_relaxed(&cpu->alloc_calls, UINT64_C(1));
    weir_fetch_add_relaxed(&cpu->allocated, (uint64_t)got);
    return got;
}

static void backend_free(struct weir_cache *cache, size_t n, void *objects[])
{
    struct weir__cache_cpu *cpu = this_cpu(cache);
    cache->ops.free_bulk(cache->backend, n, objects);
    weir_fetch_add_relaxed(&cpu->free_calls, UINT64_C(1));
    weir_fetch_add_relaxed(&cpu->freed, (uint64_t)n);
}

/* Empties a magazine into the backend; how many objects that were. */
static size_t unload(struct weir_cache *cache, struct weir_magazine *magazine)
{
    size_t n = magazine->count;
    if (n != 0)
        backend_free(cache, n, weir_magazine_objects(magazine));
    weir__blocks_put(&cache->blocks, magazine);
    return n;
}

/* --- the depot --- */

/* Keeps a magazine, whatever the limit: never calls the backend. */
static void depot_keep(struct weir_cache *cache, struct weir_magazine *magazine)
{
    if (magazine->count == 0) {
        weir__blocks_put(&cache->blocks, magazine);
        return;
    }
    weir_fetch_add_relaxed(&cache->depot_objects, (size_t)magazine->count); /* relaxed: a statistic */
    weir_pool_put(&cache->full, &magazine->node);
}

/* Keeps it if there is room. */
static void depot_put(struct weir_cache *cache, struct weir_magazine *magazine)
{
    if (magazine->count != 0 && weir_pool_count(&cache->full) >= cache->depot_limit)
        unload(cache, magazine);
    else
        depot_keep(cache, magazine);
}

static struct weir_magazine *depot_get(struct weir_cache *cache)
{
    struct weir_magazine *magazine = weir_magazine_of_node(weir_pool_get(&cache->full));
    if (magazine != NULL)
        weir_fetch_sub_relaxed(&cache->depot_objects, (size_t)magazine->count);
    return magazine;
}

static void depot_reclaim(void *arg, struct weir_magazine *magazine)
{
    depot_put(arg, magazine);
}

/* Empties a chain of the depot's magazines into the backend. */
static size_t unload_chain(struct weir_cache *cache, struct weir_stack_node *chain)
{
    size_t objects = 0;
    while (chain != NULL) {
        struct weir_magazine *magazine = weir_magazine_of_node(chain);
        chain = weir_load_relaxed(&chain->next);
        weir_fetch_sub_relaxed(&cache->depot_objects, (size_t)magazine->count);
        objects += unload(cache, magazine);
    }
    return objects;
}

/* --- exchanging magazines --- */

/* A magazine that has just left a slot becomes the spare; the spare it replaces goes to the depot. */
static void stash(struct weir_cache *cache, struct weir__cache_cpu *cpu, struct weir_magazine *magazine)
{
    if (magazine == &weir_percpu_none)
        return;
    /* Acquire-release: ownership of both magazines changes hands, like below in take_spare(). */
    magazine = weir_xchg_acq_rel(&cpu->spare, magazine);
    if (magazine != NULL)
        depot_put(cache, magazine);
}

static struct weir_magazine *take_spare(struct weir__cache_cpu *cpu)
{
    if (weir_load_relaxed(&cpu->spare) == NULL) /* relaxed: a hint */
        return NULL;
    return weir_xchg_acq_rel(&cpu->spare, NULL);
}

/* Makes `magazine`, which is the caller's, this CPU's loaded one. */
static void load(struct weir_cache *cache, struct weir__cache_cpu *cpu, struct weir_magazine *magazine)
{
    struct weir_magazine *old;
    if (weir_percpu_exchange(cache->paths.loaded, magazine, &old))
        stash(cache, cpu, old);
    else
        depot_put(cache, magazine); /* no slot to be had */
}

/* A magazine with at least one object: the spare or one of the depot's. Never calls the backend. */
static struct weir_magazine *take_stocked(struct weir_cache *cache, struct weir__cache_cpu *cpu)
{
    struct weir_magazine *magazine = take_spare(cpu);
    if (magazine != NULL && magazine->count != 0)
        return magazine;
    if (magazine != NULL)
        weir__blocks_put(&cache->blocks, magazine);
    magazine = depot_get(cache);
    if (magazine != NULL)
        weir_fetch_add_relaxed(&cpu->depot_hits, UINT64_C(1));
    return magazine;
}

/* A magazine full of fresh objects from the backend. */
static struct weir_magazine *take_fresh(struct weir_cache *cache)
{
    struct weir_magazine *magazine = weir__blocks_get(&cache->blocks, true);
    if (magazine == NULL)
        return NULL;
    magazine->count = (uint32_t)backend_alloc(cache, magazine->capacity, weir_magazine_objects(magazine));
    if (magazine->count != 0)
        return magazine;
    weir__blocks_put(&cache->blocks, magazine);
    return NULL;
}

/* A magazine with at least one object, from wherever: one in stock; one that has come back after a grace
 * period without anybody looking; a fresh one; and as a last resort, whatever has come back on any CPU. */
static struct weir_magazine *take_any(struct weir_cache *cache, struct weir__cache_cpu *cpu)
{
    struct weir_magazine *magazine = take_stocked(cache, cpu);
    if (magazine == NULL && weir__deferred_reap(&cache->deferred, weir_percpu_cpu(), 1) != 0)
        magazine = take_stocked(cache, cpu);
    if (magazine == NULL)
        magazine = take_fresh(cache);
    if (magazine == NULL && weir__deferred_reap_all(&cache->deferred) != 0) {
        magazine = take_stocked(cache, cpu);
        if (magazine == NULL)
            magazine = take_fresh(cache);
    }
    return magazine;
}

/* A magazine at least half empty. */
static struct weir_magazine *take_roomy(struct weir_cache *cache, struct weir__cache_cpu *cpu)
{
    struct weir_magazine *magazine = take_spare(cpu);
    if (magazine != NULL && magazine->count <= magazine->capacity / 2)
        return magazine;
    if (magazine != NULL)
        depot_put(cache, magazine);
    return weir__blocks_get(&cache->blocks, true);
}

/* Takes one object out of a magazine that is the caller's, and loads the rest. */
static void *take_one_and_load(struct weir_cache *cache, struct weir__cache_cpu *cpu,
                               struct weir_magazine *magazine)
{
    void *object = weir_magazine_get(magazine);
    weir_fetch_add_relaxed(&cpu->refills, UINT64_C(1));
    load(cache, cpu, magazine);
    return object;
}

void *weir__cache_alloc_slow(struct weir_cache *cache)
{
    void *object =
        weir__percpu_get_locked(cache->paths.loaded); /* what the fast path is in WEIR_PERCPU_LOCK */
    if (object != NULL)
        return object;
    struct weir__cache_cpu *cpu = this_cpu(cache);
    struct weir_magazine *magazine = take_any(cache, cpu);
    if (magazine != NULL)
        return take_one_and_load(cache, cpu, magazine);

    /* No magazine to be had, or the backend has nothing: the first can be done without. */
    return backend_alloc(cache, 1, &object) != 0 ? object : NULL;
}

void *weir_cache_alloc_nolock(struct weir_cache *cache)
{
    void *object = weir_percpu_get(cache->paths.loaded);
    if (object != NULL)
        return object;
    struct weir_magazine *magazine = take_stocked(cache, this_cpu(cache));
    if (magazine == NULL)
        return NULL;
    object = weir_magazine_get(magazine);
    depot_keep(cache, magazine); /* loading it might push another one out to the backend */
    return object;
}

void weir__cache_free_slow(struct weir_cache *cache, void *object)
{
    if (weir__percpu_put_locked(cache->paths.loaded, object))
        return;
    struct weir__cache_cpu *cpu = this_cpu(cache);
    struct weir_magazine *magazine = take_roomy(cache, cpu);
    if (magazine == NULL) {
        backend_free(cache, 1, &object);
        return;
    }
    weir_magazine_put(magazine, object);
    weir_fetch_add_relaxed(&cpu->flushes, UINT64_C(1));
    load(cache, cpu, magazine);
}

size_t weir_cache_alloc_bulk(struct weir_cache *cache, size_t n, void *objects[])
{
    size_t got = weir_percpu_get_n(cache->paths.loaded, n, objects);
    while (got < n) {
        struct weir__cache_cpu *cpu = this_cpu(cache);
        struct weir_magazine *magazine = take_any(cache, cpu);
        if (magazine == NULL)
            return got + backend_alloc(cache, n - got, objects + got);
        size_t share = n - got < magazine->count ? n - got : magazine->count;
        magazine->count -= (uint32_t)share;
        memcpy(objects + got, weir_magazine_objects(magazine) + magazine->count, share * sizeof objects[0]);
        got += share;
        weir_fetch_add_relaxed(&cpu->refills, UINT64_C(1));
        load(cache, cpu, magazine);
    }
    return got;
}

void weir_cache_free_bulk(struct weir_cache *cache, size_t n, void *const objects[])
{
    n -= weir_percpu_put_n(cache->paths.loaded, n, objects);
    while (n != 0) {
        struct weir__cache_cpu *cpu = this_cpu(cache);
        struct weir_magazine *magazine = take_roomy(cache, cpu);
        if (magazine == NULL) {
            for (; n != 0; n--) {
                void *object = objects[n - 1]; /* free_bulk may change its array, the caller's is const */
                backend_free(cache, 1, &object);
            }
            return;
        }
        size_t room = magazine->capacity - magazine->count, share = n < room ? n : room;
        memcpy(weir_magazine_objects(magazine) + magazine->count, objects + (n - share),
               share * sizeof objects[0]);
        magazine->count += (uint32_t)share;
        n -= share;
        weir_fetch_add_relaxed(&cpu->flushes, UINT64_C(1));
        load(cache, cpu, magazine);
    }
}

/* --- after a grace period --- */

void weir__cache_free_rcu_slow(struct weir_cache *cache, void *object)
{
    if (weir__deferred_add_slow(&cache->deferred, object))
        return;
    weir_fetch_add_relaxed(&cache->rcu_waits, UINT64_C(1));
    weir_grace_wait(cache->grace, weir_grace_start(cache->grace));
    weir_cache_free(cache, object);
}

void weir_cache_rcu_barrier(struct weir_cache *cache)
{
    weir__deferred_barrier(&cache->deferred);
}

/* --- giving back --- */

size_t weir_cache_decay(struct weir_cache *cache)
{
    size_t magazines;
    return unload_chain(cache, weir_pool_decay(&cache->full, DECAY_PERCENT, &magazines));
}

/* 0 if `how` can be done, or the errno to set. */
static int refuse_drain(const struct weir_cache *cache, enum weir_drain how)
{
    bool rseq = weir_percpu_mode() == WEIR_PERCPU_RSEQ;
    switch (how) {
    case WEIR_DRAIN_QUIET:
        return cache->registered_users ? 0 : ENOTSUP;
    case WEIR_DRAIN_EXPEDITED:
        return rseq ? 0 : ENOTSUP;
    case WEIR_DRAIN_LOCK:
        return rseq ? ENOTSUP : 0;
    default:
        return EINVAL;
    }
}

static size_t drain_cpu(struct weir_cache *cache, unsigned nr, enum weir_drain how)
{
    struct weir_magazine *magazine;
    size_t objects = 0;

    while ((magazine = weir_percpu_detach(cache->paths.loaded, nr)) == NULL)
        sched_yield(); /* WEIR_PERCPU_LOCK: the slot's holder is about to let go */
    if (magazine != &weir_percpu_none) {
        if (how == WEIR_DRAIN_QUIET)
            weir_grace_wait(cache->grace, weir_grace_start(cache->grace));
        else
            weir_percpu_settle_cpu(nr);
        objects += unload(cache, magazine);
    }
    magazine = take_spare(&cache->cpus[nr]);
    if (magazine != NULL)
        objects += unload(cache, magazine);
    return objects;
}

size_t weir_cache_drain_cpu(struct weir_cache *cache, unsigned cpu, enum weir_drain how)
{
    errno = cpu < weir_percpu_nr_cpus() ? refuse_drain(cache, how) : EINVAL;
    if (errno != 0)
        return 0;
    size_t objects = drain_cpu(cache, cpu, how);
    errno = 0;
    return objects;
}

size_t weir_cache_drain_all(struct weir_cache *cache, enum weir_drain how)
{
    errno = refuse_drain(cache, how);
    if (errno != 0)
        return 0;
    size_t objects = 0, magazines;
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++)
        objects += drain_cpu(cache, nr, how);
    objects += unload_chain(cache, weir_pool_drain(&cache->full, &magazines));
    errno = 0;
    return objects;
}

/* --- counting --- */

/* Objects in a CPU's spare magazine. It has to be taken to be looked into; if another one takes its place
 * meanwhile, that one goes to the depot. */
static size_t count_spare(struct weir_cache *cache, struct weir__cache_cpu *cpu)
{
    struct weir_magazine *magazine = take_spare(cpu);
    if (magazine == NULL)
        return 0;
    size_t count = magazine->count;
    magazine = weir_xchg_acq_rel(&cpu->spare, magazine);
    if (magazine != NULL)
        depot_keep(cache, magazine);
    return count;
}

void weir_cache_stats(struct weir_cache *cache, struct weir_cache_stats *stats)
{
    *stats = (struct weir_cache_stats){0};
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++) {
        struct weir__cache_cpu *cpu = &cache->cpus[nr];
        stats->cached += weir_percpu_count(cache->paths.loaded, nr) + count_spare(cache, cpu);
        stats->refills += weir_load_relaxed(&cpu->refills);
        stats->flushes += weir_load_relaxed(&cpu->flushes);
        stats->depot_hits += weir_load_relaxed(&cpu->depot_hits);
        stats->allocated += weir_load_relaxed(&cpu->allocated);
        stats->alloc_calls += weir_load_relaxed(&cpu->alloc_calls);
        stats->freed += weir_load_relaxed(&cpu->freed);
        stats->free_calls += weir_load_relaxed(&cpu->free_calls);
    }
    stats->cached += weir_load_relaxed(&cache->depot_objects);
    weir__deferred_stats(&cache->deferred, &stats->waiting, &stats->rcu_freed);
    stats->periods = weir_grace_periods(cache->grace);
    weir__blocks_stats(&cache->blocks, &stats->blocks);
    stats->rcu_waits = weir_load_relaxed(&cache->rcu_waits);
}

/* --- making and unmaking --- */

static int check_config(const struct weir_cache_config *config)
{
    if (config == NULL || config->ops == NULL || config->ops->alloc_bulk == NULL ||
        config->ops->free_bulk == NULL || config->capacity > WEIR_CACHE_CAPACITY_MAX)
        return -EINVAL;
    return 0;
}

/* The parts that can fail, in order; what was made before a failure is unmade by the caller's
 * destroy_parts(). */
static int create_parts(struct weir_cache *cache, struct weir_grace *grace)
{
    int error = weir_percpu_init();
    if (error != 0)
        return error;
    if (grace != NULL)
        weir__grace_get(grace);
    else if ((error = weir_grace_qsbr(&grace)) != 0)
        return error;
    cache->grace = grace;
    cache->cpus = weir_percpu_alloc();
    if (cache->cpus == NULL)
        return -ENOMEM;
    weir_percpu_slots_init(&cache->cpus[0].loaded);
    cache->deferred.grace = grace;
    cache->deferred.blocks = &cache->blocks;
    cache->deferred.reclaim = depot_reclaim;
    cache->deferred.arg = cache;
    return weir__deferred_init(&cache->deferred);
}

static void destroy_parts(struct weir_cache *cache)
{
    weir_percpu_free(cache->cpus);
    weir_grace_put(cache->grace);
    weir__blocks_destroy(&cache->blocks);
    free(cache);
}

int weir__cache_create(struct weir_cache **result, const struct weir_cache_config *config,
                       const struct weir__chunk_source *chunks)
{
    *result = NULL;
    int error = check_config(config);
    if (error != 0)
        return error;
    struct weir_cache *cache = aligned_alloc(WEIR_CACHE_LINE, sizeof *cache);
    if (cache == NULL)
        return -ENOMEM;
    size_t capacity = config->capacity != 0 ? config->capacity : WEIR_CACHE_CAPACITY_DEFAULT;
    *cache = (struct weir_cache){
        .ops = *config->ops, .backend = config->backend, .registered_users = config->registered_users};
    weir_pool_init(&cache->full);
    weir__blocks_init(&cache->blocks, capacity, chunks);
    error = create_parts(cache, config->grace);
    if (error != 0) {
        destroy_parts(cache);
        return error;
    }
    cache->depot_limit = config->high != 0 ? (config->high + capacity - 1) / capacity
                                           : (size_t)DEFAULT_MAGAZINES_PER_CPU * weir_percpu_nr_cpus();
    cache->paths.loaded = &cache->cpus[0].loaded;
    cache->paths.rcu = &cache->deferred.cpus[0].slot;
    *result = cache;
    return 0;
}

int weir_cache_create(struct weir_cache **cache, const struct weir_cache_config *config)
{
    return weir__cache_create(cache, config, NULL);
}

int weir_cache_destroy(struct weir_cache *cache)
{
    if (cache == NULL)
        return 0;
    weir__deferred_barrier(&cache->deferred);
    weir__deferred_destroy(&cache->deferred);
    size_t magazines;
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++)
        drain_cpu(cache, nr, WEIR_DRAIN_EXPEDITED);
    unload_chain(cache, weir_pool_drain(&cache->full, &magazines));
    destroy_parts(cache);
    return 0;
}
