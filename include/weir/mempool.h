/* SPDX-License-Identifier: MIT */
/*
 * weir/mempool.h - a guaranteed reserve over any allocator: so many elements lie ready for bad times.
 *
 *     static void *get(void *pages) { return weir_page_alloc(pages); }
 *     static void put(void *pages, void *page) { weir_page_free(pages, page); }
 *
 *     struct weir_mempool *pool;
 *     weir_mempool_create(&pool, 16, get, put, pages);          // takes 16 pages, and keeps them
 *
 *     void *page = weir_mempool_alloc(pool, WEIR_MEMPOOL_WAIT); // never NULL
 *     ... what has to be done even if there is no memory: write something out, so that there is some ...
 *     weir_mempool_free(pool, page);
 *
 * An alloc asks the allocator first; then it takes from the reserve; then, if it may, it waits until
 * something comes back. A free fills the reserve up first; when that is full, it goes to the allocator. The
 * kernel's mempool is the model. See docs/mempool.md.
 *
 * The guarantee. With WEIR_MEMPOOL_WAIT, an alloc of up to min_nr elements at once succeeds as long as those
 * who hold elements of this mempool free them in the end, through it. Who waits stands in line, and is
 * served in the order of arrival; while there is a line, nobody else gets anything from the reserve. So it
 * must not be used to wait for a second element by one who holds the first, but in one step with
 * weir_mempool_alloc_bulk(). For more than min_nr elements, with min_nr 0 for any, there is no guarantee,
 * and no line: WEIR_MEMPOOL_WAIT asks the allocator again when something was freed, and, since nothing may
 * ever be freed through the mempool, every 100 ms at the latest.
 *
 * The allocator: alloc_one gives one element, or NULL, without waiting for long; free_one takes one. Both are
 * called in whatever thread and context an element is allocated and freed in, several at the same time. The
 * elements are never read nor written, and need no room for anything.
 *
 * fork(): the child may go on using it. Elements that other threads held are lost to it, and so are those
 * that they were about to get or to give back. While a thread is in fork(), others that need the reserve
 * wait for it, whatever "Progress" says below.
 *
 * Signal handlers: a free may make a system call, to wake somebody, and change errno; a handler saves it.
 */
#ifndef WEIR_MEMPOOL_H
#define WEIR_MEMPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "weir/detail/api.h"

WEIR_BEGIN_C_NAMES

/* Flags of an alloc; 0: never waits. */
#define WEIR_MEMPOOL_WAIT 1u /* may wait until elements come back */

/* The largest reserve. */
#define WEIR_MEMPOOL_NR_MAX UINT32_MAX

struct weir_mempool_stats {
    size_t min_nr;         /* elements that the reserve holds when it is full */
    size_t reserved;       /* elements in it now */
    uint64_t from_reserve; /* elements that were taken from it for an alloc */
    size_t waiting;        /* allocs that are waiting now */
    uint64_t waits;        /* allocs that had to wait */
};

struct weir_mempool;

/*
 * Makes a mempool and fills its reserve with min_nr elements, 0 allowed: alloc_one(arg) is called so often.
 * 0; or, with *pool set to NULL: -EINVAL if a function is NULL or min_nr above WEIR_MEMPOOL_NR_MAX; -ENOMEM,
 * also if alloc_one gives NULL: what it gave before goes to free_one(arg, element); -EOWNERDEAD in a child
 * process that cannot use weir; or what weir_percpu_init() says.
 *   Progress: may block: a mutex, and what alloc_one does.  Callers: any thread, not a signal handler.
 *   Ordering: none.  Memory: 16 bytes per element of the reserve, and the elements; -ENOMEM.
 */
WEIR_API int weir_mempool_create(struct weir_mempool **pool, size_t min_nr, void *(*alloc_one)(void *arg),
                                 void (*free_one)(void *arg, void *element), void *arg);

/*
 * Gives the reserve back to the allocator, and frees the mempool. 0; -EBUSY, and the mempool goes on as
 * before, if the reserve is not full: then elements are out. If it is full, that proves nothing: what is out
 * beyond it is not counted, which would cost each alloc and each free of the fast path an access to a line
 * that all threads share. Such elements are the allocator's concern. -EOWNERDEAD in a child process that
 * cannot use weir. NULL is allowed.
 *   Progress: may block: a mutex, and what free_one does.
 *   Callers: when nobody uses it any more; not a signal handler.
 *   Ordering: acquires what was done to the elements of the reserve before they were freed.  Memory: frees.
 */
WEIR_API int weir_mempool_destroy(struct weir_mempool *pool);

/*
 * Gives `n` elements, all or none: n, or 0, and then the array may have been overwritten. As many as it can
 * from the allocator, the missing ones together from the reserve. If that has not so many, what the allocator
 * gave goes back, as by weir_mempool_free_bulk(), and 0 is returned, or, with WEIR_MEMPOOL_WAIT, it waits.
 * Nobody waits with a part in his hands. 0 for n = 0; with WEIR_MEMPOOL_WAIT otherwise only in a child of
 * fork() that cannot use weir.
 *   Progress: lock-free if the allocator is; with WEIR_MEMPOOL_WAIT it may block.
 *   Callers: any thread; with flags 0 also signal handlers and read-side critical sections, if the allocator
 *   allows it. With WEIR_MEMPOOL_WAIT a reader of liburcu-qsbr is offline: what it waits for may be waiting
 *   for a grace period.
 *   Ordering: acquires what was done to elements of the reserve before they were freed.
 *   Memory: the allocator's and the reserve.
 */
WEIR_API size_t weir_mempool_alloc_bulk(struct weir_mempool *pool, size_t n, void *elements[],
                                        unsigned flags);

/*
 * An element; NULL if the allocator has none and the reserve is empty, or somebody else is waiting for what
 * is in it; with WEIR_MEMPOOL_WAIT only in a child of fork() that cannot use weir.
 *   Progress, Callers, Ordering, Memory: as weir_mempool_alloc_bulk().
 */
WEIR_API void *weir_mempool_alloc(struct weir_mempool *pool, unsigned flags);

/*
 * Gives n elements of this mempool back, none NULL: as many as it has room for to the reserve, the others to
 * the allocator. If somebody is waiting, wakes one.
 *   Progress: lock-free if the allocator is; a system call if somebody is waiting.
 *   Callers: any thread, signal handlers, read-side critical sections, if the allocator allows it.
 *   Ordering: releases to who gets them from the reserve.  Memory: none.
 */
WEIR_API void weir_mempool_free_bulk(struct weir_mempool *pool, size_t n, void *const elements[]);

/*
 * Gives one back, not NULL.
 *   Progress, Callers, Ordering, Memory: as weir_mempool_free_bulk().
 */
WEIR_API void weir_mempool_free(struct weir_mempool *pool, void *element);

/*
 * Makes the reserve larger or smaller, while others use it. Larger: the elements come from the allocator;
 * -ENOMEM, and nothing has changed, if it has not so many. Smaller: what is too much goes back to it; whoever
 * is in line for more than there can be now goes on to wait without a guarantee. 0; -EINVAL above
 * WEIR_MEMPOOL_NR_MAX; -EOWNERDEAD in a child process that cannot use weir.
 *   Progress: may block: a mutex, what the allocator does, and allocs and frees that are under way.
 *   Callers: any thread; not a signal handler, not inside the allocator.
 *   Ordering: none.
 *   Memory: 16 bytes for each element more than there ever were, kept until destroy, and the elements;
 *   -ENOMEM.
 */
WEIR_API int weir_mempool_resize(struct weir_mempool *pool, size_t min_nr);

/*
 * What has happened so far; of a mempool in use, at slightly different moments.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none.
 */
WEIR_API void weir_mempool_stats(const struct weir_mempool *pool, struct weir_mempool_stats *stats);

WEIR_END_C_NAMES

#endif /* WEIR_MEMPOOL_H */
