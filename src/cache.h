/* SPDX-License-Identifier: MIT */
/* cache.h - the inside of a cache, for the files that make it up, and what the rest of libweir may do to one.
 * */
#ifndef WEIR_SRC_CACHE_H
#define WEIR_SRC_CACHE_H

#include "blocks.h"
#include "deferred.h"
#include "depot.h"
#include "fork.h"
#include "grace.h"
#include "weir/cache.h"
#include "weir/shrinker.h"

/* What the counts of struct weir_cache_stats are made of. As few as can be: each costs a read-modify-write.
 * */
enum weir__count {
    WEIR__FAST_ALLOCS,
    WEIR__FAST_FREES,
    WEIR__FROM_SPARE, /* refills, by where the magazine came from */
    WEIR__FROM_DEPOT,
    WEIR__FROM_OTHER_DEPOT,
    WEIR__FROM_BACKEND,
    WEIR__DEPOT_MISSES,
    WEIR__FLUSHES,
    WEIR__SLOW_ALLOCS, /* objects beyond the one that each refill hands out */
    WEIR__SLOW_FREES,  /* ... that each flush takes in */
    WEIR__SPILLS,
    WEIR__ALLOCATED,
    WEIR__ALLOC_CALLS,
    WEIR__FREED,
    WEIR__FREE_CALLS,
    WEIR__DECAYED,
    WEIR__DRAINED,
    WEIR__RCU_WAITS,
    WEIR__COUNTS
};

struct weir__cache_counts {
    uint64_t count[WEIR__COUNTS];
} WEIR_ALIGNED(WEIR_LINE_PAIR);

/* What one CPU has. */
struct weir__cache_cpu {
    struct weir_magazine *spare; /* NULL: none. Belongs to whoever exchanges it out */
    uint64_t exchanges;          /* refills and flushes at the last decay */
    /* Not first, for some CPU's would lie where a page begins: see WEIR__PATHS_OFFSET. */
    struct weir_percpu_slot loaded;
    uint32_t domain;   /* whose depot it uses */
    uint32_t swapped;  /* loaded and spare, by which kind of operation last; 0: neither */
    uint32_t patience; /* swaps to go until levelling may be tried again */
} WEIR_ALIGNED(WEIR_PERCPU_STRIDE);
_Static_assert(sizeof(struct weir__cache_cpu) == WEIR_PERCPU_STRIDE, "one stride per CPU");

struct weir_cache {
    struct weir_cache_ops ops;
    void *backend;
    const char *name;
    size_t capacity;
    size_t object_size; /* for the shrinker; 0: not registered */
    unsigned decays;    /* every so many milliseconds; 0: never by itself */
    unsigned decay_percent;
    struct weir__cache_counts *counts; /* of each CPU */

    struct weir__cache_paths paths; /* the inline functions read it */
    struct weir__cache_cpu *cpus;
    uint32_t untold; /* the helper thread is to be told that there is something to decay */
    struct weir_grace *grace;
    struct weir__grace_client client;
    struct weir__guarded guarded;
    struct weir_shrinker shrinker;
    uint32_t shrinks; /* of CPUs' magazines, by the shrinker, so far */
    struct weir__depots depots;
    struct weir__blocks blocks; /* empty magazines */
    struct weir_llist_head
        limbo; /* taken out of slots by WEIR_DRAIN_QUIET; each waits for the grace period of its cookie */
    struct weir__deferred deferred;
};
_Static_assert(offsetof(struct weir_cache, paths) == WEIR__PATHS_OFFSET, "");

/* What a cache gets from its surroundings and not from its user. */
struct weir__cache_surroundings {
    const struct weir_block_source *chunks; /* memory for magazines; NULL: the system's */
    const struct weir__topology *topology;  /* NULL: this machine's. It must stay */
};

int weir__cache_create(struct weir_cache **cache, const struct weir_cache_config *config,
                       const struct weir__cache_surroundings *around);

#endif /* WEIR_SRC_CACHE_H */
