/* SPDX-License-Identifier: MIT */
/*
 * blocks.h - where empty magazines come from and go back to.
 *
 * A pool of magazines of one size. When it is empty it grows by a chunk of memory from a source; memory is
 * given back when the pool is destroyed, not before, so magazines may be on a weir_stack (type-stable
 * memory). No lock: any number of threads, signal handlers included, if the source allows that.
 */
#ifndef WEIR_SRC_BLOCKS_H
#define WEIR_SRC_BLOCKS_H

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

struct weir__blocks {
    struct weir_pool empty;
    struct weir__chunk_source source;
    size_t block_bytes;
    struct weir_llist_head chunks;
    size_t chunk_count;
    size_t total; /* magazines made */
    struct weir__blocks_counts {
        uint64_t hits, grown, misses;
    } counts; /* statistics */
};

/* Magazines of `capacity` pointers; `source` NULL: memory from the system, 64 KiB at a time or more. */
void weir__blocks_init(struct weir__blocks *blocks, size_t capacity, const struct weir__chunk_source *source);
/* Every magazine must be back. */
void weir__blocks_destroy(struct weir__blocks *blocks);
/* Makes the pool grow by a chunk; false if there is no memory. */
bool weir__blocks_grow(struct weir__blocks *blocks);
/* An empty magazine, NULL if there is none and, if `may_grow`, no memory for one. */
struct weir_magazine *weir__blocks_get(struct weir__blocks *blocks, bool may_grow);
/* What has happened so far. */
void weir__blocks_stats(const struct weir__blocks *blocks, struct weir_block_stats *stats);
/* An empty one back. */
void weir__blocks_put(struct weir__blocks *blocks, struct weir_magazine *magazine);

#endif /* WEIR_SRC_BLOCKS_H */
