/* SPDX-License-Identifier: MIT */
/*
 * cache_dpdk.c - DPDK's rte_mempool with its per-core caches beside the engine. Every thread that uses it is
 * registered as a core of DPDK's, else it would have no cache.
 *
 *     weir-bench-cache-dpdk 64 50 2: see cache_setting_of()
 */
#include <stdio.h>
#include <stdlib.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mempool.h>

#include "dpdk_start.h"
#include "cache_loop.h"

#define CACHED RTE_MEMPOOL_CACHE_MAX_SIZE /* 512, of which a cache may have half as many more */

static struct rte_mempool *pool;
static unsigned pool_objects;

static bool start(char *program)
{
    struct machine machine = {.cpus = 0};
    machine_cpus(&machine);
    return dpdk_start(program, machine.cpu[0], 512);
}

/* As many as its caches and the program can have, so that nobody finds it empty, and not more: they go
 * round. */
static bool open_pool(const struct cache_setting *setting)
{
    unsigned most = setting->threads * (CACHED * 3 / 2 + CACHE_RUN_MAX) + 2 * PIPE_SLOTS + 2 * CACHE_BULK_MAX;
    for (pool_objects = 1023; pool_objects < most;) /* 2^n - 1 is what DPDK advises */
        pool_objects = pool_objects * 2 + 1;
    pool = rte_mempool_create("objects", pool_objects, (unsigned)setting->object_bytes, CACHED, 0, NULL, NULL,
                              NULL, NULL, SOCKET_ID_ANY, 0);
    if (pool == NULL)
        fprintf(stderr, "DPDK has no memory for the pool: %s\n", rte_strerror(rte_errno));
    return pool != NULL;
}

static bool enter(void)
{
    return rte_thread_register() == 0;
}

ALWAYS_INLINE void *inlined_alloc(size_t bytes)
{
    void *object;
    (void)bytes;
    return rte_mempool_get(pool, &object) == 0 ? object : NULL;
}

ALWAYS_INLINE void inlined_free(void *object)
{
    rte_mempool_put(pool, object);
}

ALWAYS_INLINE bool inlined_alloc_bulk(size_t n, void *objects[])
{
    return rte_mempool_get_bulk(pool, objects, (unsigned)n) == 0;
}

ALWAYS_INLINE void inlined_free_bulk(size_t n, void *objects[])
{
    rte_mempool_put_bulk(pool, objects, (unsigned)n);
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

static uint64_t missing(void)
{
    return pool_objects - rte_mempool_avail_count(pool);
}

int main(int argc, char **argv)
{
    static const struct cache_contender contender = {
        .open = open_pool,
        .enter = enter,
        .leave = rte_thread_unregister,
        .alloc = called_alloc,
        .free_it = called_free,
        .alloc_bulk = called_alloc_bulk,
        .free_bulk = called_free_bulk,
        .pairs_inlined = pairs_inlined,
        .bulk_inlined = bulk_inlined,
        .missing = missing,
    };
    if (argc < 4 || !start(argv[0]))
        return 1;
    const struct cache_setting setting = cache_setting_of(argv + 1);
    return cache_serve(&contender, &setting) ? 0 : 1;
}
