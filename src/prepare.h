/* SPDX-License-Identifier: MIT */
/*
 * prepare.h - what is done to pages on their way to the program and back, where the page cache was told to do
 * anything: zero, the user's hook, poison, and the checks of who frees what.
 *
 * It is done in a second pass, outside of any per-CPU section, on pages that belong to the caller. A byte per
 * frame says what is known of it:
 *
 *     OUT        the program has it
 *     EXTENT     ... as a part of an extent
 *     HEAD       ... as the first one of it
 *     FILLED     it is free and was filled: with 0x6b, or, to zero on free, with zero; nobody should have
 *                written to it since
 *
 *     alloc      OUT, in place of what it was, with one exchange: two that are given the same frame notice
 *     free       OUT away, with one compare-and-swap: of two that free the same frame one is stopped. Then it
 *                is filled, and only then FILLED
 *
 * Who fills what is freed has to know that it is out: so these checks are made to zero on free, too, and
 * there is no byte, and no check, to zero on alloc or for a hook alone.
 *
 * Not found: a second free after the frame was handed out again, until its new owner frees it, who is taken
 * for the culprit. (With `sites` the message says who has it.)
 */
#ifndef WEIR_SRC_PREPARE_H
#define WEIR_SRC_PREPARE_H

#include "frames.h"
#include "weir/page_cache.h"

struct weir__prepare;

/* *prepare NULL: there is nothing to do, and none of the others is to be called. `config` has its defaults
 * filled in; its name stays valid. 0, or -ENOMEM. */
int weir__prepare_create(struct weir__prepare **prepare, const struct weir__frames *frames,
                         const struct weir_page_cache_config *config);
void weir__prepare_destroy(struct weir__prepare *prepare); /* NULL is allowed */

/* `site`: the code that called the public function; `function`: its name, for messages. Any context, no
 * system call, unless the program is stopped. */

/* Each of pages[0..n-1] is about to be handed out. */
void weir__prepare_alloc(struct weir__prepare *prepare, size_t n, void *const pages[], const void *site);
/* ... is back. Checks, stops the program, poisons, zeroes. */
void weir__prepare_free(struct weir__prepare *prepare, size_t n, void *const pages[], const char *function);
/* ... is handed over to wait for a grace period: readers may still look, so nothing is written. */
void weir__prepare_free_rcu(struct weir__prepare *prepare, void *page, const char *function);
/* The same for n frames in a row. */
void weir__prepare_alloc_extent(struct weir__prepare *prepare, void *extent, size_t n, const void *site);
void weir__prepare_free_extent(struct weir__prepare *prepare, void *extent, size_t n);

/* A frame that was taken past all this is being written to: nothing is known of it. */
void weir__prepare_spoiled(struct weir__prepare *prepare, const void *frame);

/* Writes what is still out to standard error, if `check` is on: a line with how many pages, one for each size
 * of extents, and with `sites` one for each place that allocated some. When all is still; not in a signal
 * handler. The bytes say all of it: `extents` is not looked at. */
struct weir__extents;
void weir__prepare_report(struct weir__prepare *prepare, struct weir__extents *extents);

#endif /* WEIR_SRC_PREPARE_H */
