/* SPDX-License-Identifier: MIT */
/* weir/detail/block_stats.h - private: what weir/cache.h and weir/free_rcu.h both report of their
 * magazines. */
#ifndef WEIR_DETAIL_BLOCK_STATS_H
#define WEIR_DETAIL_BLOCK_STATS_H

#include <stddef.h>
#include <stdint.h>

/* Magazines that pointers wait or lie in: weir's own overhead. */
struct weir_block_stats {
    size_t in_use; /* now */
    /* In use or idle. More are made only when none is idle. Those of at least half a page are made one by
     * one, and may be given back before the end; smaller ones a chunk (64 KiB, or a page) at a time, and they
     * stay: at most a chunk above the most ever in use. */
    size_t total;
    uint64_t grown;      /* one was asked for, and memory for more had to be got first */
    uint64_t misses;     /* ... and there was none */
    uint64_t given_back; /* before the end, because it was idle or under pressure */
};

#endif /* WEIR_DETAIL_BLOCK_STATS_H */
