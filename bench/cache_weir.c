/* SPDX-License-Identifier: MIT */
/*
 * cache_weir.c - weir_cache over a trivial backend: an array of objects, those that came back in a weir_pool.
 * The nodes of the pool lie beside the objects, which may be written to, as nodes may not.
 */
#include <stdlib.h>

#include "cache_loop.h"
#include "weir/cache.h"
#include "weir/pool.h"

#define OBJECTS 65536

static struct {
    struct weir_pool back; /* objects that came back */
    size_t fresh;          /* objects from here on were never handed out */
    char *objects;
    size_t bytes;
    struct weir_stack_node nodes[OBJECTS];
} backend;

static struct weir_cache *cache;

static void *object_of(const struct weir_stack_node *node)
{
    return backend.objects + (size_t)(node - backend.nodes) * backend.bytes;
}

static struct weir_stack_node *node_of(const void *object)
{
    return &backend.nodes[(size_t)((const char *)object - backend.objects) / backend.bytes];
}

static size_t backend_alloc(void *arg, size_t n, void *objects[])
{
    size_t got, next, share;
    struct weir_stack_node *node = weir_pool_get_batch(&backend.back, n, &got);
    (void)arg;
    for (size_t i = 0; i < got; i++, node = weir_stack_next(node))
        objects[i] = object_of(node);
    next = weir_load_relaxed(&backend.fresh); /* relaxed: only a number is taken */
    do {
        share = n - got < OBJECTS - next ? n - got : OBJECTS - next;
    } while (share != 0 && !weir_cas_acq_rel(&backend.fresh, &next, next + share));
    for (size_t i = 0; i < share; i++)
        objects[got++] = object_of(&backend.nodes[next + i]);
    return got;
}

static void backend_free(void *arg, size_t n, void *objects[])
{
    (void)arg;
    for (size_t i = 1; i < n; i++)
        weir_stack_link(node_of(objects[i - 1]), node_of(objects[i]));
    weir_pool_put_batch(&backend.back, node_of(objects[0]), node_of(objects[n - 1]), n);
}

static bool open_weir(const struct cache_setting *setting)
{
    static const struct weir_cache_ops ops = {backend_alloc, backend_free};
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    backend.bytes = (setting->object_bytes + 63) / 64 * 64;
    backend.objects = aligned_alloc(4096, OBJECTS * backend.bytes);
    weir_pool_init(&backend.back);
    config.ops = &ops;
    config.object_size = setting->object_bytes;
    return backend.objects != NULL && weir_cache_create(&cache, &config) == 0;
}

ALWAYS_INLINE void *inlined_alloc(size_t bytes)
{
    (void)bytes;
    return weir_cache_alloc(cache);
}

ALWAYS_INLINE void inlined_free(void *object)
{
    weir_cache_free(cache, object);
}

ALWAYS_INLINE bool inlined_alloc_bulk(size_t n, void *objects[])
{
    return weir_cache_alloc_bulk(cache, n, objects) == n;
}

ALWAYS_INLINE void inlined_free_bulk(size_t n, void *objects[])
{
    weir_cache_free_bulk(cache, n, objects);
}

static __attribute__((noinline)) void *called_alloc(size_t bytes)
{
    return inlined_alloc(bytes);
}

static __attribute__((noinline)) void called_free(void *object)
{
    inlined_free(object);
}

static __attribute__((noinline)) bool called_alloc_bulk(size_t n, void *objects[])
{
    return inlined_alloc_bulk(n, objects);
}

static __attribute__((noinline)) void called_free_bulk(size_t n, void *objects[])
{
    inlined_free_bulk(n, objects);
}

static double pairs_inlined(unsigned run, bool touch)
{
    return pairs_of(inlined_alloc, inlined_free, run, touch);
}

static double bulk_inlined(unsigned n)
{
    return bulk_of(inlined_alloc_bulk, inlined_free_bulk, n, BULK_COUNT);
}

/* What the cache thinks is out. The helper thread may be decaying, and the figures not fit together for a
 * moment. */
static uint64_t missing(void)
{
    struct weir_cache_stats stats;
    for (unsigned tries = 0; tries < 1000; tries++) {
        weir_cache_stats(cache, &stats);
        if (stats.out == 0)
            return 0;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return stats.out;
}

/* Everything is emptied into the backend, and has to be there, once. */
static uint64_t recount(void)
{
    static bool seen[OBJECTS];
    size_t n, there = 0;

    weir_cache_destroy(cache);
    struct weir_stack_node *node = weir_pool_drain(&backend.back, &n);
    for (size_t i = 0; i < n && node != NULL; i++, node = weir_stack_next(node)) {
        there += !seen[node - backend.nodes];
        seen[node - backend.nodes] = true;
    }
    return (backend.fresh - there) + (n - there);
}

static void exchanges(struct cache_exchanges *exchanges)
{
    struct weir_cache_stats stats;
    weir_cache_stats(cache, &stats);
    *exchanges = (struct cache_exchanges){.refills = stats.refills,
                                          .depot_hits = stats.depot_hits,
                                          .misses = stats.depot_misses,
                                          .flushes = stats.flushes,
                                          .spills = stats.spills,
                                          .backend_calls = stats.alloc_calls + stats.free_calls};
}

const struct cache_contender cache_weir = {
    .open = open_weir,
    .alloc = called_alloc,
    .free_it = called_free,
    .alloc_bulk = called_alloc_bulk,
    .free_bulk = called_free_bulk,
    .pairs_inlined = pairs_inlined,
    .bulk_inlined = bulk_inlined,
    .missing = missing,
    .recount = recount,
    .exchanges = exchanges,
};
