/* SPDX-License-Identifier: MIT */
/*
 * weir/page_cache.h - the reference page cache: pages, and extents of up to 256 of them, out of one reserved
 * address range, through the engine.
 *
 *     struct weir_page_cache *pages;
 *     weir_page_cache_create(&pages, NULL);           // 4 KiB pages, a quarter of the memory
 *
 *     char *page = weir_page_alloc(pages);            // aligned to its size, contents undefined
 *     weir_page_free(pages, page);                    // or weir_page_free_rcu(pages, page)
 *
 *     char *extent = weir_extent_alloc(pages, 16);    // 16 pages in a row
 *     weir_extent_free(pages, extent, 16);
 *
 * It is weir/cache.h (per-CPU magazines, depot, deferred free by whole magazines) over a lock-free frame
 * allocator. The magazines' own memory comes from the same frames. Address space is reserved at creation;
 * memory is used from when a page is first written, and goes back to the system on decay, drain and shrink.
 *
 * What may be called where:
 *
 *     weir_page_alloc, weir_page_free,        any context, signal handlers included. Never wait, but while
 *     their bulk forms, weir_extent_*         another thread is in fork(): whoever needs more than the CPU's
 *                                             magazine waits for it then. A system call only to wake the
 *                                             helper thread, when there is something to give back again
 *     weir_page_alloc_nolock,                 any context. Never wait, not for fork() either, and make no
 *     weir_page_free_nolock                   system call
 *     weir_page_free_rcu                      any thread. One system call per magazine, to wake the helper
 *                                             thread or to step aside for it; waits if the range is exhausted
 *     create, destroy, decay, drain           any thread, not a signal handler
 *
 * (In WEIR_PERCPU_LOCK a slot's lock is tried, never waited for.)
 *
 * A page that is freed twice, or is not of this page cache, stops the program with one line on standard error
 * when it reaches the frames; until then a page freed twice may be handed out twice. With `check` in the
 * configuration, at once.
 */
#ifndef WEIR_PAGE_CACHE_H
#define WEIR_PAGE_CACHE_H

#include "weir/cache.h"

WEIR_BEGIN_C_NAMES

enum weir_huge_pages {
    WEIR_HUGE_PAGES_NEVER,  /* a page in use costs one page of memory */
    WEIR_HUGE_PAGES_ADVISE, /* the system may back 2 MiB at once, where it has huge pages */
};

enum weir_zero {
    WEIR_ZERO_NEVER,    /* contents of a page are undefined */
    WEIR_ZERO_ON_ALLOC, /* every page and extent is zero when it is handed out */
    WEIR_ZERO_ON_FREE,  /* as well, but the work is done, where it can be, by who frees */
};

struct weir_page_cache_config {
    /* Bytes per page: 4096, 8192, 16384, 32768 or 65536; 0: 4096. */
    size_t page_size;
    /* Bytes of address space, rounded up to 512 pages; 0: a quarter of the machine's memory. */
    size_t capacity;
    /* Pages per magazine: what moves between a CPU, the depot and the frames at once. 1 to 2 less than
     * WEIR_MAGAZINE_CAPACITY(page_size): 507 for 4 KiB; 0: weir_cache_capacity_for(page_size), 124
     * for 4 KiB. */
    size_t batch;
    /* Pages that the depots keep at most: a number, or 1/high_fraction of all pages, 8 or more; not both.
     * Both 0: an eighth of all pages, or WEIR_CACHE_MAGAZINES_DEFAULT magazines per CPU if that is more. How
     * much of that they use adapts: see weir/cache.h. */
    size_t high;
    unsigned high_fraction;
    /* A reserve: the last so many pages go to weir_page_alloc_nolock() only. At most half of all. */
    size_t min;
    /* As in struct weir_cache_config. */
    struct weir_grace *grace;
    bool registered_users;
    /* Every so many milliseconds the helper thread does what weir_page_cache_decay() does, as long as there
     * is anything to give back; 0: WEIR_CACHE_DECAY_DEFAULT, and WEIR_CACHE_DECAY_NEVER: nobody does. */
    unsigned decay_milliseconds;
    enum weir_huge_pages huge_pages;
    /* Memory comes from these NUMA nodes only, bit n for node n; 0: as the system likes. */
    uint64_t numa_nodes;
    /* All memory is there at creation, and stays. */
    bool prefault;
    /* Likewise, and is never paged out: needs RLIMIT_MEMLOCK or CAP_IPC_LOCK. */
    bool lock_memory;
    /* Names the range in /proc/self/maps where the kernel can, and this page cache in messages; letters,
     * digits and -_.:/ and spaces, up to 63; copied. NULL: "page cache". */
    const char *name;
    /* WEIR_ZERO_ON_FREE, which writes to what is freed, looks who frees what as `check` does. */
    enum weir_zero zero;
    /* Called on each page, and for each extent, that is handed out, after zeroing; NULL: nothing is. In the
     * contexts in which it is used. */
    void (*prepare)(void *arg, void *memory, size_t bytes);
    void *prepare_arg;
    /* Hardening, for tests: what is freed twice, with a wrong size, is foreign or misaligned stops the
     * program with a message at once; what is free is filled with 0x6b, and looked at when it is handed out
     * again; destroy names what is still out, with `sites`, by the code that allocated it. Always on where
     * libweir was built with checks. */
    bool check;
    bool sites;
    /* weir_shrink() does not ask it. */
    bool no_shrinker;
};

/* clang-format off */
#define WEIR_PAGE_CACHE_CONFIG_INIT \
    { 0, 0, 0, 0, 0, 0, NULL, false, 0, WEIR_HUGE_PAGES_NEVER, 0, false, false, NULL, \
      WEIR_ZERO_NEVER, NULL, NULL, false, false, false }
/* clang-format on */
#define WEIR_EXTENT_PAGES_MAX 256

struct weir_page_cache_stats {
    size_t page_size; /* bytes */
    size_t capacity;  /* pages */
    size_t frames; /* pages that are not free: out, cached, waiting for a grace period, holding magazines */
    size_t frames_peak; /* the most there ever were; too high by up to 256 for each CPU but one */
    /* Of them, holding magazines: its own, by weir_page_cache_block_source() others', and the descriptors of
     * idle extents. */
    size_t block_pages;
    size_t parked;       /* pages freed by weir_page_free_nolock() that lie aside for the next slow path */
    size_t extents;      /* out */
    size_t extent_pages; /* in them */
    size_t extent_pool_pages;  /* in extents that lie idle in the pools */
    uint64_t extent_pool_hits; /* allocated from a pool ... */
    uint64_t extent_misses;    /* ... and from the frames */
    uint64_t released;         /* bytes given back to the system */
    struct weir_cache_stats cache;
};

struct weir_page_cache; /* has a struct weir__page_cache_paths at WEIR__PATHS_OFFSET */

/* Private: what the inline functions below need: the engine, and its slots again to save a load. Where
 * something has to be done to each page, slots that are always empty: every call is a slow one then. */
struct weir__page_cache_paths {
    struct weir__cache_paths engine;
    struct weir_cache *cache;
};

/*
 * What is wrong with a configuration: a sentence that names the field and the rule; NULL if nothing is.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none; the text stays valid.
 */
WEIR_API const char *weir_page_cache_config_error(const struct weir_page_cache_config *config);

/*
 * Makes a page cache; `config` NULL: the defaults. 0; or, with *pages set to NULL: -EINVAL if
 * weir_page_cache_config_error() has something to say, or for a NUMA node that does not exist; -ENOMEM, also
 * for memory that cannot be locked; -EPERM, if locking needs a right; -ENOSYS for numa_nodes where the kernel
 * has no NUMA; or what weir_percpu_init() or weir_grace_qsbr() say.
 *   Progress: may block.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: reserves address space, allocates; -ENOMEM.
 */
WEIR_API int weir_page_cache_create(struct weir_page_cache **pages,
                                    const struct weir_page_cache_config *config);

/*
 * Waits for pages handed to weir_page_free_rcu(), then gives everything back to the system. 0; -EBUSY, and
 * the page cache goes on as before, if pages or extents are still out, those of
 * weir_page_cache_block_source() included: with `check`, standard error says which; as weir_cache_destroy()
 * in a child process that cannot use it. NULL is allowed.
 *   Progress: may block.
 *   Callers: when nobody uses it any more; not in a signal handler, not inside a read-side critical section.
 *   Ordering: none.  Memory: frees.
 */
WEIR_API int weir_page_cache_destroy(struct weir_page_cache *pages);

/*
 * Fills those of array[0..n-1] that are NULL with pages; how many of the n are not NULL then. Fewer than n if
 * there are no more pages.
 *   Progress: lock-free, no system call but to wake the helper thread.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_page_alloc().  Memory: the reserved range.
 */
WEIR_API size_t weir_page_alloc_bulk_array(struct weir_page_cache *pages, size_t n, void *array[]);

/*
 * Adds n pages to a list, each by a node at its beginning; how many: fewer than n if there are no more pages.
 *   Progress: lock-free, no system call but to wake the helper thread.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_page_alloc(); releases to the list's consumers.  Memory: the reserved range.
 */
WEIR_API size_t weir_page_alloc_bulk_list(struct weir_page_cache *pages, size_t n,
                                          struct weir_llist_head *list);

/*
 * Gives n pages back; NULL among them is skipped.
 *   Progress: lock-free, no system call but to wake the helper thread.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_page_free().  Memory: as weir_cache_free().
 */
WEIR_API void weir_page_free_bulk(struct weir_page_cache *pages, size_t n, void *const array[]);

/*
 * A page, if one can be had without waiting for anything: from this CPU's magazine, the depot, or the frames,
 * the reserve of `min` pages included. NULL: none now.
 *   Progress: lock-free, no system call, never waits.
 *   Callers: any context, a signal handler that interrupts any function of weir's included.
 *   Ordering: as weir_page_alloc().  Memory: the reserved range.
 */
WEIR_API void *weir_page_alloc_nolock(struct weir_page_cache *pages);

/*
 * Gives a page back, not NULL, without waiting for anything. Into the reserve, if any of it is out; else into
 * this CPU's magazine; if that is full or busy, the page is laid aside, linked by its first word, for the
 * next function of this page cache that needs another magazine, decays or drains.
 *   Progress: lock-free, no system call, never waits.  Callers: as weir_page_alloc_nolock().
 *   Ordering: as weir_page_free().  Memory: none.
 */
WEIR_API void weir_page_free_nolock(struct weir_page_cache *pages, void *page);

/*
 * `n` pages in a row, 1 to WEIR_EXTENT_PAGES_MAX, aligned to a page, and to their size if n is a power of
 * two; contents as of a page. From the pool of extents of that size of this CPU's node, or from the frames;
 * NULL if there are not so many in a row, or n is none of these numbers.
 *   Progress: lock-free, no system call.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_page_alloc().  Memory: the reserved range.
 */
WEIR_API void *weir_extent_alloc(struct weir_page_cache *pages, size_t n);

/*
 * Gives an extent of `n` pages back, as a whole. Not NULL. It goes to the pool of the node that allocated it.
 * An extent that is not out, or has another size, stops the program with one line on standard error.
 *   Progress: lock-free, no system call but to wake the helper thread.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_page_free().  Memory: none.
 */
WEIR_API void weir_extent_free(struct weir_page_cache *pages, void *extent, size_t n);

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
 * frames, likewise of the idle extents, and of the memory of free frames to the system. How many bytes went
 * to the system. Usually the helper thread does it: see decay_milliseconds.
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
 * Gives what lies idle on all CPUs, in the depot and in the pools of extents back to the frames, and the
 * memory of all free frames to the system; how many pages went to the frames. 0 and errno as
 * weir_cache_drain_cpu().
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

/* Private: the slow sides. */
WEIR_API void *weir__page_alloc_slow(struct weir_page_cache *pages);
WEIR_API void weir__page_free_slow(struct weir_page_cache *pages, void *page);
WEIR_API void weir__page_free_rcu_slow(struct weir_page_cache *pages, void *page);

WEIR_END_C_NAMES

/*
 * A page, aligned to its size, its contents undefined; NULL if there is none left. What lies idle in another
 * CPU's magazines is not taken from it: see weir_page_cache_drain_all().
 *   Progress: lock-free, no system call but to wake the helper thread; usually a restartable sequence of
 *   some ten instructions.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: what was written to the page before it was freed is visible.  Memory: the reserved range.
 */
WEIR_INTO_CALLER static inline void *weir_page_alloc(struct weir_page_cache *pages)
{
    const struct weir__page_cache_paths *paths = WEIR__PATHS(const struct weir__page_cache_paths, pages);
    void *page;
    weir__cache_check(&paths->engine, "weir_page_alloc");
    return weir_likely(weir__percpu_get_fast(paths->engine.loaded, &page)) ? page
                                                                           : weir__page_alloc_slow(pages);
}

/*
 * Gives a page back; not NULL.
 *   Progress, Callers: as weir_page_alloc().
 *   Ordering: what was written to the page is visible to who gets it next.  Memory: as weir_cache_free().
 */
WEIR_INTO_CALLER static inline void weir_page_free(struct weir_page_cache *pages, void *page)
{
    const struct weir__page_cache_paths *paths = WEIR__PATHS(const struct weir__page_cache_paths, pages);
    weir__cache_check(&paths->engine, "weir_page_free");
    if (weir_unlikely(!weir__percpu_put_fast(paths->engine.loaded, page)))
        weir__page_free_slow(pages, page);
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
WEIR_INTO_CALLER static inline void weir_page_free_rcu(struct weir_page_cache *pages, void *page)
{
    const struct weir__page_cache_paths *paths = WEIR__PATHS(const struct weir__page_cache_paths, pages);
    weir__cache_check(&paths->engine, "weir_page_free_rcu");
    if (weir_unlikely(!weir__percpu_put_fast(paths->engine.rcu, page)))
        weir__page_free_rcu_slow(pages, page);
}

#endif /* WEIR_PAGE_CACHE_H */
