/* SPDX-License-Identifier: MIT */
/* pair_dpdk.c - the alloc + free pair of DPDK's rte_mempool: one object with its per-core cache. */
#include <stdio.h>
#include <stdlib.h>
#include <rte_errno.h>
#include <rte_mempool.h>

#include "dpdk_start.h"
#include "pair_loop.h"

#define OBJECTS 4095
#define CACHED 250 /* per core; weir has two magazines of 124 */

static struct rte_mempool *pool;

static __attribute__((noinline)) void *mempool_alloc(size_t bytes)
{
    void *object;
    (void)bytes;
    return rte_mempool_get(pool, &object) == 0 ? object : NULL;
}

static __attribute__((noinline)) void mempool_free(void *object)
{
    rte_mempool_put(pool, object);
}

static void round_of_mempool(struct pair_times *times)
{
    pair_round_called(times, mempool_alloc, mempool_free);
}

int main(int argc, char **argv)
{
    /* On the CPU that we were put on. */
    if (!dpdk_start(argv[0], argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0, 256))
        return 1;
    pool =
        rte_mempool_create("pages", OBJECTS, PAIR_BYTES, CACHED, 0, NULL, NULL, NULL, NULL, SOCKET_ID_ANY, 0);
    if (pool == NULL) {
        fprintf(stderr, "DPDK has no memory for the pool: %s\n", rte_strerror(rte_errno));
        return 1;
    }
    return pair_serve(round_of_mempool) ? 0 : 1;
}
