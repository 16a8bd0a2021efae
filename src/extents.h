/* SPDX-License-Identifier: MIT */
/*
 * extents.h - frames in a row, 1 to 256 of them, cached by size.
 *
 * A node per CPU, up to 128, each with a pool of idle extents for each size. An extent that is freed goes to
 * the pool of the node that allocated it; the next alloc of that size on that node takes it from there; so
 * the pools hold what is really asked for, and nothing is made ahead. Decay gives a quarter of each pool back
 * to the frames.
 *
 * What is on a pool is not the extent but a descriptor that stands for it, in memory that stays: so who pops
 * and is slow never reads what somebody else writes to by now. Who allocated an extent, and how large it is,
 * is 16 bits in a table with an entry per frame: a free with the wrong size, of the middle of an extent, or a
 * second one is noticed by every build.
 */
#ifndef WEIR_SRC_EXTENTS_H
#define WEIR_SRC_EXTENTS_H

#include "frames.h"
#include "weir/page_cache.h"
#include "weir/pool.h"

struct weir__extents;

/* `name`: of the page cache, for messages. 0, or -ENOMEM. */
int weir__extents_create(struct weir__extents **extents, struct weir__frames *frames, const char *name);
/* Nothing must be out. NULL is allowed. */
void weir__extents_destroy(struct weir__extents *extents);

/* Any context, lock-free, no system call. */
void *weir__extents_alloc(struct weir__extents *extents, size_t n);
void weir__extents_free(struct weir__extents *extents, void *extent, size_t n);

/* Gives `percent` of each pool, rounded up, back to the frames; how many frames that was. 0 if somebody else
 * is at it. */
size_t weir__extents_decay(struct weir__extents *extents, unsigned percent);
/* Frames in idle extents. */
size_t weir__extents_idle(const struct weir__extents *extents);
/* Frames that hold descriptors: out of `frames` as long as the extents exist. */
size_t weir__extents_frames(const struct weir__extents *extents);

/* Fills in what is about extents. */
void weir__extents_stats(const struct weir__extents *extents, struct weir_page_cache_stats *stats);
/* Calls `found` for each extent that is out, when all is still. */
void weir__extents_each_out(struct weir__extents *extents, void (*found)(void *arg, void *extent, size_t n),
                            void *arg);

#endif /* WEIR_SRC_EXTENTS_H */
