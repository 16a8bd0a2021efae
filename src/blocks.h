/* SPDX-License-Identifier: MIT */
/*
 * blocks.h - where empty magazines come from and go back to.
 *
 * Magazines of one size, in a pool for each domain of CPUs (topology.h): a CPU uses its own, and the others'
 * when that is empty. When all are empty, a chunk of memory from a source makes it grow; memory is given back
 * when the pools are destroyed, not before, so magazines may be on a weir_stack (type-stable memory). No
 * lock: any number of threads, signal handlers included, if the source allows that.
 */
#ifndef WEIR_SRC_BLOCKS_H
#define WEIR_SRC_BLOCKS_H

#include "topology.h"
#include "weir/detail/block_stats.h"
#include "weir/magazine.h"
#include "weir/pool.h"

/* Bytes that each chunk loses to its own header. */
#define WEIR__CHUNK_HEADER 16

/* Gives and takes chunks of memory, aligned to 16. Must not lock nor wait. */
struct weir__chunk_source {
    void *(*get)(void *arg, size_t *bytes); /* NULL: none now */
    void (*put)(void *arg, void *chunk, size_t bytes);
    void *arg;
};

struct weir__idle_blocks {
    struct weir_pool pool;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

struct weir__blocks {
    struct weir__idle_blocks *idle; /* of each domain */
    const struct weir__topology *topology;
    struct weir__chunk_source source;
    size_t block_bytes;
    struct weir_llist_head chunks;
    size_t chunk_count;
    size_t total; /* magazines made */
    struct weir__blocks_counts {
        uint64_t grown, misses;
    } counts WEIR_ALIGNED(WEIR_LINE_PAIR); /* statistics */
};

/* Magazines of `capacity` pointers; `source` NULL: memory from the system, 64 KiB at a time or more;
 * `topology` NULL: this machine's. 0, or -ENOMEM. */
int weir__blocks_init(struct weir__blocks *blocks, size_t capacity, const struct weir__chunk_source *source,
                      const struct weir__topology *topology);
/* Every magazine must be back. After a failed init, too. */
void weir__blocks_destroy(struct weir__blocks *blocks);
/* Makes the pool of the domain of `cpu` grow by a chunk; false if there is no memory. */
bool weir__blocks_grow(struct weir__blocks *blocks, unsigned cpu);
/* An empty magazine for use on `cpu`, NULL if there is none and, if `may_grow`, no memory for one. */
struct weir_magazine *weir__blocks_get(struct weir__blocks *blocks, unsigned cpu, bool may_grow);
/* One back, which needs not be empty: what is in it is forgotten. */
void weir__blocks_put(struct weir__blocks *blocks, unsigned cpu, struct weir_magazine *magazine);
/* What has happened so far. */
void weir__blocks_stats(const struct weir__blocks *blocks, struct weir_block_stats *stats);

#endif /* WEIR_SRC_BLOCKS_H */
