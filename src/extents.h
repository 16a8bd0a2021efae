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
 * and is slow never reads what somebody else writes to by now. Descriptors that stand for nothing are on a
 * stack of their node's; they are cut out of frames, 255 out of one of 4 KiB, and are never more than the
 * node's pools have held at once, rounded up to whole frames. Where there is no frame for them, the extent
 * goes back to the frames at once.
 *
 * Who allocated an extent, and how large it is, is 16 bits in a table with an entry per frame: a free with
 * the wrong size, of the middle of an extent, or a second one is noticed by every build.
 *
 *     entry of an extent's first frame, while it is out; any other entry is 0
 *     15    14 ... 8    7 ... 0
 *     out   node        frames - 1
 *
 * None of it uses memory before somebody uses extents: table and pools are reserved, not committed.
 */
#ifndef WEIR_SRC_EXTENTS_H
#define WEIR_SRC_EXTENTS_H

#include "frames.h"
#include "weir/page_cache.h"
#include "weir/pool.h"

struct weir__extents;

/* `name`: of the page cache, for messages; stays the caller's. After weir_percpu_init(). 0, or -ENOMEM. */
int weir__extents_create(struct weir__extents **extents, struct weir__frames *frames, const char *name);
/* Gives what is idle, and the descriptors, back to the frames. Nothing must be out. NULL is allowed. */
void weir__extents_destroy(struct weir__extents *extents);

/*
 * All of the following: any context, lock-free, no system call.
 */

/* n frames in a row; aligned to their size if n is a power of two. From the pool of this CPU's node, from the
 * frames, from another node's pool; then all that is idle goes back to the frames, and they are asked once
 * more. NULL if n is not 1 to WEIR_EXTENT_PAGES_MAX, or there are not so many in a row; also if what would do
 * is in the hands of a decay that is under way. */
void *weir__extents_alloc(struct weir__extents *extents, size_t n);
/* Stops the program with a message if it is not the beginning of an extent of n frames that is out. */
void weir__extents_free(struct weir__extents *extents, void *extent, size_t n);

/* Gives `percent` of each pool, rounded up, back to the frames; how many frames that was. 0 if somebody else
 * is at it. */
size_t weir__extents_decay(struct weir__extents *extents, unsigned percent);
/* Frames in idle extents: exact at rest. */
size_t weir__extents_idle(const struct weir__extents *extents);
/* Frames that hold descriptors: out of `frames` as long as the extents exist. */
size_t weir__extents_frames(const struct weir__extents *extents);

/* Fills in what is about extents: exact at rest. */
void weir__extents_stats(const struct weir__extents *extents, struct weir_page_cache_stats *stats);
/* Calls `found` for each extent that is out, from the lowest on, when all is still. */
void weir__extents_each_out(struct weir__extents *extents, void (*found)(void *arg, void *extent, size_t n),
                            void *arg);

#endif /* WEIR_SRC_EXTENTS_H */
