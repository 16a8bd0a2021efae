/* SPDX-License-Identifier: MIT */
/*
 * prepare.h - what is done to pages on their way to the program and back, where the page cache was told to do
 * anything: zero, the user's hook, poison, and the checks of who frees what.
 *
 * It is done in a second pass, outside of any per-CPU section, on pages that belong to the caller. A byte per
 * frame says what is known of it:
 *
 *     OUT        the program has it
 *     ZEROED     it is free and was zeroed
 *     POISONED   it is free and filled with 0x6b, or, if its memory went back to the system since, with zero
 */
#ifndef WEIR_SRC_PREPARE_H
#define WEIR_SRC_PREPARE_H

#include "frames.h"
#include "weir/page_cache.h"

struct weir__prepare;

/* *prepare NULL: there is nothing to do, and none of the others is to be called. `config` has its defaults
 * filled in. 0, or -ENOMEM. */
int weir__prepare_create(struct weir__prepare **prepare, const struct weir__frames *frames,
                         const struct weir_page_cache_config *config);
void weir__prepare_destroy(struct weir__prepare *prepare); /* NULL is allowed */

/* `site`: the code that called the public function; `function`: its name, for messages. Any context. */

/* Each of pages[0..n-1] is about to be handed out. */
void weir__prepare_alloc(struct weir__prepare *prepare, size_t n, void *const pages[], const void *site);
/* ... is back. Checks, stops the program, poisons, zeroes. */
void weir__prepare_free(struct weir__prepare *prepare, size_t n, void *const pages[], const char *function);
/* ... is handed over to wait for a grace period: readers may still look, so nothing is written. */
void weir__prepare_free_rcu(struct weir__prepare *prepare, void *page, const char *function);
/* The same for n frames in a row. */
void weir__prepare_alloc_extent(struct weir__prepare *prepare, void *extent, size_t n, const void *site);
void weir__prepare_free_extent(struct weir__prepare *prepare, void *extent, size_t n);

/* A frame that was taken past all this has been written to: nothing is known of it. */
void weir__prepare_spoiled(struct weir__prepare *prepare, const void *frame);

/* Writes what is still out to standard error, if `check` is on: a line with how many pages, one for each size
 * of extents, and with `sites` one for each place that allocated some. When all is still. `extents` may be
 * NULL. */
struct weir__extents;
void weir__prepare_report(struct weir__prepare *prepare, struct weir__extents *extents);

#endif /* WEIR_SRC_PREPARE_H */
