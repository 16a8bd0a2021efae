/* SPDX-License-Identifier: MIT */
/*
 * blocks.h - where empty magazines come from and go back to.
 *
 * Magazines of one size, in a pool for each domain of CPUs (topology.h): a CPU uses its own, and the others'
 * when that is empty. When all are empty, memory from a source makes more. No lock: any number of threads,
 * signal handlers included, if the source allows that. Two kinds, by size:
 *
 *     sharing   Small ones are cut from chunks, many from one. They are in the pools themselves, so their
 *               memory must stay as it is (type-stable memory): it is given back by destroy, not before.
 *     whole     One of at least half a unit (a page of the system's, or what the source says) has its memory
 *               to itself. It can be given back alone: by shrink, or under pressure.
 *
 * Whole magazines are not in the pools themselves. A block stands for each, 16 bytes, in memory that lies
 * apart and stays:
 *
 *     idle pools   o -> o -> o             blocks whose magazine is idle
 *                  |    |    |
 *                [mag][mag][mag]           their memory; its last word is the way back to the block
 *
 *     vacant       o -> o -> o -> o        blocks without a magazine: not made yet, or given back
 *
 * So who takes from a pool and is slow reads a block, never memory that has been given back, and a source may
 * use that for something else at once. The system's memory is an arena: chunks of which the first page has
 * the blocks, one for each magazine that fits behind it; what is given back keeps its address
 * (MADV_DONTNEED), for the next one. A source's unit is got when a magazine is made, and one more for the
 * blocks of hundreds.
 *
 * Only what is on no other stack or pool may be shrunk: whoever pops there may look at `next` in a magazine
 * that has gone. So a reclaimer's magazines may, and a cache's, which are in its depots, may not.
 */
#ifndef WEIR_SRC_BLOCKS_H
#define WEIR_SRC_BLOCKS_H

#include "topology.h"
#include "weir/detail/block_stats.h"
#include "weir/magazine.h"
#include "weir/pool.h"

/* Magazines that share a chunk begin so far apart, and behind the chunk's own header: each at a cache line, so
 * that the last pointers of one do not lie in the line of another's count, which another CPU may be at. */
#define WEIR__CHUNK_LINE 64
#define WEIR__CHUNK_HEADER WEIR__CHUNK_LINE
#define WEIR__CHUNK_STRIDE(block_bytes)                                                                      \
    (((block_bytes) + WEIR__CHUNK_LINE - 1) / WEIR__CHUNK_LINE * WEIR__CHUNK_LINE)

struct weir__idle_blocks {
    struct weir_pool pool;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

struct weir__blocks {
    /* What every get and put reads, and is hardly ever written. */
    struct weir__idle_blocks *idle; /* of each domain */
    const struct weir__topology *topology;
    size_t block_bytes;   /* of a magazine */
    size_t whole;         /* bytes of memory that each has for itself; 0: they share */
    uint64_t press_until; /* weir__milliseconds() until which what comes back is given back; 0: not */
    size_t reserve;       /* idle ones that are not given back */
    struct weir_block_source source;
    size_t system_chunk; /* bytes of one, if the source is the system */
    size_t arena_header; /* bytes in front of the whole ones in a chunk of the system's; 0: no arena */

    /* What making and giving back writes. */
    struct weir_stack vacant WEIR_ALIGNED(WEIR_LINE_PAIR);
    struct weir_llist_head chunks;
    size_t total;       /* magazines there are */
    uint32_t shrinking; /* somebody is at it */
    struct weir__blocks_counts {
        uint64_t grown, misses, given_back;
    } counts; /* statistics */
};

/* Magazines of `capacity` pointers; `source` NULL: memory from the system, 64 KiB at a time or more;
 * `topology` NULL: this machine's. 0; -EINVAL if they do not fit the source's unit; or -ENOMEM. */
int weir__blocks_init(struct weir__blocks *blocks, size_t capacity, const struct weir_block_source *source,
                      const struct weir__topology *topology);
/* Every magazine must be back. After a failed init, too. */
void weir__blocks_destroy(struct weir__blocks *blocks);
/* Makes magazines for the pool of the domain of `cpu`: a whole one, or a chunk full. False if there is no
 * memory. */
bool weir__blocks_grow(struct weir__blocks *blocks, unsigned cpu);
/* Makes `n` ahead, which shrink and pressure leave where they are; get takes them like others. At creation.
 * 0, or -ENOMEM. */
int weir__blocks_reserve(struct weir__blocks *blocks, size_t n);
/* An empty magazine for use on `cpu`, NULL if there is none and, if `may_grow`, no memory for one. */
struct weir_magazine *weir__blocks_get(struct weir__blocks *blocks, unsigned cpu, bool may_grow);
/* One back, which needs not be empty: what is in it is forgotten. */
void weir__blocks_put(struct weir__blocks *blocks, unsigned cpu, struct weir_magazine *magazine);

/*
 * The rest is for whole magazines. For sharing ones it does nothing.
 */

/* Gives up to `max` idle ones back, one after the other, but not the reserve; how many bytes that was. 0 if
 * somebody else is at it. Any context, if the source allows it. */
size_t weir__blocks_shrink(struct weir__blocks *blocks, size_t max);
/* Bytes that shrink would give back now. */
size_t weir__blocks_shrinkable(const struct weir__blocks *blocks);
/* Pressure: until then, by weir__milliseconds(), what comes back above the reserve is given back at once. The
 * last call counts; 0: no more. */
void weir__blocks_press(struct weir__blocks *blocks, uint64_t until_milliseconds);

/* What has happened so far. */
void weir__blocks_stats(const struct weir__blocks *blocks, struct weir_block_stats *stats);

#endif /* WEIR_SRC_BLOCKS_H */
