/* SPDX-License-Identifier: MIT */
/*
 * weir/page_cache.h - the reference page cache: pages out of one reserved address range, through the engine.
 *
 *     struct weir_page_cache *pages;
 *     weir_page_cache_create(&pages, NULL);           // 4 KiB pages, a quarter of the memory
 *
 *     char *page = weir_page_alloc(pages);            // aligned to its size, contents undefined
 *     weir_page_free(pages, page);                    // or weir_page_free_rcu(pages, page)
 *
 * It is weir/cache.h (per-CPU magazines, depot, deferred free by whole magazines) over a lock-free frame
 * allocator. The magazines' own memory comes from the same frames. Address space is reserved at creation;
 * memory is used from when a page is first written, and goes back to the system on decay and drain.
 *
 * weir_page_alloc(), weir_page_free() and their bulk forms never wait and make no system call: they can be
 * called from any context, signal handlers included. weir_page_free_rcu() makes one once per magazine, to
 * wake the helper thread or to step aside for it, and waits only if the range is exhausted. Only create and
 * destroy take a mutex. (In WEIR_PERCPU_LOCK a slot's lock is tried, never waited for. While another thread
 * is in fork(), whoever needs another magazine waits for it, as weir/cache.h says.)
 *
 * A page that is freed twice, or is not of this page cache, stops the program with one line on standard error
 * when it reaches the frames; until then a page freed twice may be handed out twice.
 */
#ifndef WEIR_PAGE_CACHE_H
#define WEIR_PAGE_CACHE_H

#include "weir/cache.h"

WEIR_BEGIN_C_NAMES

struct weir_page_cache_config {
    /* Bytes per page: 4096, 8192, 16384, 32768 or 65536; 0: 4096. */
    size_t page_size;
    /* Bytes of address space, rounded up to 512 pages; 0: a quarter of the machine's memory. */
    size_t capacity;
    /* Pages per magazine: what moves between a CPU, the depot and the frames at once. 1 to 2 less than
     * WEIR_MAGAZINE_CAPACITY(page_size), which is 507 for 4 KiB; 0: weir_cache_capacity_for(page_size), 124
     * for 4 KiB. */
    size_t batch;
    /* The depots keep up to 1/high_fraction of all pages, 8 or more; 0: WEIR_CACHE_MAGAZINES_DEFAULT
     * magazines per CPU. How much of that they use adapts: see weir/cache.h. */
    unsigned high_fraction;
    /* As in struct weir_cache_config. */
    struct weir_grace *grace;
    bool registered_users;
};

/* clang-format off */
#define WEIR_PAGE_CACHE_CONFIG_INIT { 0, 0, 0, 0, NULL, false }
/* clang-format on */

struct weir_page_cache_stats {
    size_t page_size; /* bytes */
    size_t capacity;  /* pages */
    size_t frames; /* pages that are not free: out, cached, waiting for a grace period, holding magazines */
    size_t frames_peak; /* the most there ever were */
    size_t
        block_pages; /* of them, holding magazines: its own, and by weir_page_cache_block_source() others' */
    struct weir_cache_stats cache;
};

struct weir_page_cache; /* begins with struct weir__page_cache_paths */

/* Private: what the inline functions below need: the engine, and its slots again to save a load. */
struct weir__page_cache_paths {
    struct weir__cache_paths engine;
    struct weir_cache *cache;
};

/*
 * Makes a page cache; `config` NULL: the defaults. 0; or, with *pages set to NULL, -EINVAL for a value that
 * is not allowed; -ENOMEM; or what weir_percpu_init() or weir_grace_qsbr() say.
 *   Progress: may block.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: reserves address space, allocates; -ENOMEM.
 */
WEIR_API int weir_page_cache_create(struct weir_page_cache **pages,
                                    const struct weir_page_cache_config *config);

/*
 * Waits for pages handed to weir_page_free_rcu(), then gives everything back to the system. 0; -EBUSY, and
 * the page cache goes on as before, if pages are still out, those of weir_page_cache_block_source() included;
 * as weir_cache_destroy() in a child process that cannot use it. NULL is allowed.
 *   Progress: may block.
 *   Callers: when nobody uses it any more; not in a signal handler, not inside a read-side critical section.
 *   Ordering: none.  Memory: frees.
 */
WEIR_API int weir_page_cache_destroy(struct weir_page_cache *pages);

/*
 * Fills those of array[0..n-1] that are NULL with pages; how many of the n are not NULL then. Fewer than n if
 * there are no more pages.
 *   Progress: lock-free, no system call.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_page_alloc().  Memory: the reserved range.
 */
WEIR_API size_t weir_page_alloc_bulk_array(struct weir_page_cache *pages, size_t n, void *array[]);

/*
 * Adds n pages to a list, each by a node at its beginning; how many: fewer than n if there are no more pages.
 *   Progress: lock-free, no system call.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_page_alloc(); releases to the list's consumers.  Memory: the reserved range.
 */
WEIR_API size_t weir_page_alloc_bulk_list(struct weir_page_cache *pages, size_t n,
                                          struct weir_llist_head *list);

/*
 * Gives n pages back; NULL among them is skipped.
 *   Progress: lock-free, no system call.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_page_free().  Memory: as weir_cache_free().
 */
WEIR_API void weir_page_free_bulk(struct weir_page_cache *pages, size_t n, void *const array[]);

/*
 * Returns when every page handed to weir_page_free_rcu() before the call is back. 0, or as
 * weir_cache_rcu_barrier().
 *   Progress: may block: a grace period.
 *   Callers: any thread; not in a signal handler, not inside a read-side critical section (an online reader
 *   is put offline meanwhile).
 *   Ordering: acquires the readers' doings.  Memory: none.
 */
WEIR_API int weir_page_cache_rcu_barrier(struct weir_page_cache *pages);

/*
 * Gives a quarter of what was not used since the last time back, rounded up: as weir_cache_decay() to the
 * frames, and of the 512-page areas with nothing out to the system. How many bytes went to the system.
 *   Progress: lock-free but for the system calls.  Callers: any thread, not a signal handler.
 *   Ordering: none.  Memory: gives back.
 */
WEIR_API size_t weir_page_cache_decay(struct weir_page_cache *pages);

/*
 * Gives what lies idle on `cpu` back to the frames; how many pages. 0 and errno as weir_cache_drain_cpu().
 *   Progress, Callers, Ordering, Memory: as weir_cache_drain_cpu().
 */
WEIR_API size_t weir_page_cache_drain_cpu(struct weir_page_cache *pages, unsigned cpu, enum weir_drain how);

/*
 * Gives what lies idle on all CPUs and in the depot back to the frames, and all areas with nothing out to the
 * system; how many pages went to the frames. 0 and errno as weir_cache_drain_cpu().
 *   Progress, Callers, Ordering, Memory: as weir_cache_drain_cpu().
 */
WEIR_API size_t weir_page_cache_drain_all(struct weir_page_cache *pages, enum weir_drain how);

/*
 * Makes *source one that takes pages for magazines from the frames of this page cache, one page for each
 * magazine of at least half a page, and gives them back there. Each is out until what uses the source has
 * given it back: destroy that first, or weir_page_cache_destroy() says -EBUSY.
 *   Progress: wait-free; the source's functions: lock-free, no system call.
 *   Callers: any thread; the source's functions: any context.
 *   Ordering: none.  Memory: the reserved range; the source's get() gives NULL when it is exhausted.
 */
WEIR_API void weir_page_cache_block_source(struct weir_page_cache *pages, struct weir_block_source *source);

/*
 * What has happened so far; of a running page cache, at slightly different moments.
 *   Progress: wait-free, in proportion to the CPUs.  Callers: any thread.
 *   Ordering: none.  Memory: none.
 */
WEIR_API void weir_page_cache_stats(struct weir_page_cache *pages, struct weir_page_cache_stats *stats);

WEIR_END_C_NAMES

/*
 * A page, aligned to its size, its contents undefined; NULL if there is none left. What lies idle in another
 * CPU's magazines is not taken from it: see weir_page_cache_drain_all().
 *   Progress: lock-free, no system call; usually a restartable sequence of some ten instructions.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: what was written to the page before it was freed is visible.  Memory: the reserved range.
 */
static inline void *weir_page_alloc(struct weir_page_cache *pages)
{
    const struct weir__page_cache_paths *paths = (const struct weir__page_cache_paths *)(const void *)pages;
    void *page;
    weir__cache_check(&paths->engine, "weir_page_alloc");
    return weir_likely(weir__percpu_get_fast(paths->engine.loaded, &page))
               ? page
               : weir__cache_alloc_slow(paths->cache);
}

/*
 * Gives a page back; not NULL.
 *   Progress, Callers: as weir_page_alloc().
 *   Ordering: what was written to the page is visible to who gets it next.  Memory: as weir_cache_free().
 */
static inline void weir_page_free(struct weir_page_cache *pages, void *page)
{
    const struct weir__page_cache_paths *paths = (const struct weir__page_cache_paths *)(const void *)pages;
    weir__cache_check(&paths->engine, "weir_page_free");
    if (weir_unlikely(!weir__percpu_put_fast(paths->engine.loaded, page)))
        weir__cache_free_slow(paths->cache, page);
}

/*
 * Gives a page back, not NULL, after a grace period: when every reader that may have seen it is gone. The
 * caller has made it unreachable for new readers.
 *   Progress: lock-free; but if no page is left for a magazine, it waits for a grace period.
 *   Callers: any thread; signal handlers and read-side critical sections only if the range is never
 *   exhausted.
 *   Ordering: releases the caller's unlinking to readers that start after the grace period has.
 *   Memory: the reserved range: one page per four magazines of the default size.
 */
static inline void weir_page_free_rcu(struct weir_page_cache *pages, void *page)
{
    const struct weir__page_cache_paths *paths = (const struct weir__page_cache_paths *)(const void *)pages;
    weir__cache_check(&paths->engine, "weir_page_free_rcu");
    if (weir_unlikely(!weir__percpu_put_fast(paths->engine.rcu, page)))
        weir__cache_free_rcu_slow(paths->cache, page);
}

#endif /* WEIR_PAGE_CACHE_H */
