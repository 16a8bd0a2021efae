/* SPDX-License-Identifier: MIT */
/*
 * weir/recycle.h - a recycling ring: one thread takes buffers all the time, others give them back.
 *
 *     struct weir_recycle_config config = WEIR_RECYCLE_CONFIG_INIT;
 *     config.ops = &ops;                                  // alloc_bulk and free_bulk of any allocator,
 *     config.backend = allocator;                         // a weir_cache or a page cache for example
 *     struct weir_recycle *recycle;
 *     int error = weir_recycle_create(&recycle, &config);
 *
 *     void *buffer = weir_recycle_alloc(recycle);         // the consumer: a network receive loop, say
 *     weir_recycle_free(recycle, buffer);                 // anybody who is done with it
 *     weir_recycle_free_local(recycle, buffer);           // the consumer itself: it did not need it
 *
 * The kernel's page_pool is the idea. What the consumer takes from is an array of its own, the cache: a
 * pointer, and no atomic operation. When it is empty, many are taken at once from a ring, to which the others
 * have returned them; only if there is nothing in it, the allocator is asked. When the ring is full, what is
 * returned goes to the allocator. See docs/recycle.md.
 *
 *     consumer                        any thread
 *     alloc    <- cache <- ring       <- free, free_bulk      returned
 *              -> cache <- allocator  <-                      the ring was full
 *     free_local
 *
 * There is one consumer at a time: alloc, alloc_bulk and free_local are called by one thread, which may hand
 * that role to another one if something orders the two (a mutex, a join).
 *
 * fork(): the child may go on using it, with the thread that forked as consumer. What other threads held, or
 * were about to return or to take, is lost to it. Not to be forked inside a signal handler that has
 * interrupted one of these functions.
 */
#ifndef WEIR_RECYCLE_H
#define WEIR_RECYCLE_H

#include <stdint.h>

#include "weir/atomic.h"
#include "weir/cache.h"
#include "weir/detail/checked.h"

WEIR_BEGIN_C_NAMES

struct weir_recycle_config {
    /* The allocator behind it. alloc_bulk is called by the consumer only; free_bulk by whoever finds the ring
     * full, in whatever context that is. Both as struct weir_cache_ops says. */
    const struct weir_cache_ops *ops;
    void *backend;
    /* Places in the ring: a power of two, up to WEIR_RECYCLE_RING_MAX; 0: WEIR_RECYCLE_RING_DEFAULT. */
    size_t ring;
    /* Pointers that the consumer's cache holds, up to WEIR_RECYCLE_CACHE_MAX; 0: WEIR_RECYCLE_CACHE_DEFAULT.
     */
    size_t cache;
    /* How many are taken at once from the ring or the allocator when the cache is empty, and given to the
     * ring when it is full: 1 to `cache`; 0: WEIR_RECYCLE_REFILL_DEFAULT, or `cache` if that is less. */
    size_t refill;
};

#define WEIR_RECYCLE_CONFIG_INIT                                                                             \
    {                                                                                                        \
        NULL, NULL, 0, 0, 0                                                                                  \
    }
#define WEIR_RECYCLE_RING_DEFAULT 1024
#define WEIR_RECYCLE_RING_MAX (1u << 24)
#define WEIR_RECYCLE_CACHE_DEFAULT 128
#define WEIR_RECYCLE_CACHE_MAX 65536
#define WEIR_RECYCLE_REFILL_DEFAULT 64

struct weir_recycle_stats {
    /* Now. */
    size_t cached; /* in the consumer's cache */
    size_t ring;   /* in the ring, those included that are being put there */
    /* Since it was made. */
    uint64_t fast;   /* buffers handed out from the cache, without anything else to do */
    uint64_t slow;   /* buffers got from the allocator */
    uint64_t refill; /* times that buffers were taken from the ring */
    uint64_t empty;  /* times that there were none: the ring was empty, or who was to fill the next place had
                        been interrupted before it had */
    uint64_t full;   /* buffers given to the allocator, since there was no room in the ring */
};

struct weir_recycle; /* has a struct weir__recycle_cache at WEIR__PATHS_OFFSET */

/*
 * Private: the consumer's cache, a stack. Its two counts are what the fast path needs anyway, and the
 * statistics too. Only the consumer writes to them; atomically, for others who want to know how it is going.
 * So it reads them as they are.
 */
struct weir__recycle_cache {
    uint64_t filled; /* pointers that were ever put in, but for those that were given to the ring again */
    uint64_t taken;  /* ... and taken out */
    void **objects;
    uint64_t capacity;
    uint32_t busy; /* checked builds: the consumer is at it */
};

/*
 * What is wrong with a configuration: a sentence that names the field and the rule; NULL if nothing is.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none; the text stays valid.
 */
WEIR_API const char *weir_recycle_config_error(const struct weir_recycle_config *config);

/*
 * Makes a ring, empty. 0; or, with *recycle set to NULL: -EINVAL if weir_recycle_config_error() has something
 * to say; -ENOMEM; -EOWNERDEAD in a child process that cannot use weir; or what weir_percpu_init() says.
 *   Progress: may block: a mutex.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: allocates a pointer for each place of the ring and the cache; -ENOMEM.
 */
WEIR_API int weir_recycle_create(struct weir_recycle **recycle, const struct weir_recycle_config *config);

/*
 * Gives what lies in the cache and the ring to the allocator, and frees the ring. Buffers that are still out
 * are the allocator's concern. 0; -EBUSY, and the ring goes on, empty but for that, if a free is under way
 * in it; -EOWNERDEAD in a child process that cannot use weir. NULL is allowed.
 *   Progress: may block: a mutex, and what free_bulk does.
 *   Callers: when nobody uses it any more; not a signal handler.
 *   Ordering: acquires what was done to the buffers before they were freed.  Memory: frees.
 */
WEIR_API int weir_recycle_destroy(struct weir_recycle *recycle);

/* Private: the slow sides. */
WEIR_API void *weir__recycle_alloc_slow(struct weir_recycle *recycle);
WEIR_API void weir__recycle_spill(struct weir_recycle *recycle);
WEIR_API void weir__recycle_check_free(struct weir_recycle *recycle, const void *buffer);

/*
 * Fills objects[0..] with up to n buffers: from the cache, the ring, the allocator, in that order; how many:
 * fewer than n if the allocator has no more, and then the rest of the array may have been overwritten.
 *   Progress: wait-free but for the allocator.  Callers: the consumer.
 *   Ordering: as weir_recycle_alloc().  Memory: the allocator's.
 */
WEIR_API size_t weir_recycle_alloc_bulk(struct weir_recycle *recycle, size_t n, void *objects[]);

/*
 * Returns n buffers, none NULL, to the ring, in one step for as many as there is room for; the others go to
 * the allocator.
 *   Progress: lock-free; if the ring is full, what free_bulk does. Never waits for the consumer.
 *   Callers: any thread, the consumer too; signal handlers and read-side critical sections, if free_bulk
 *   allows it.
 *   Ordering: releases to the consumer who gets them.  Memory: none.
 */
WEIR_API void weir_recycle_free_bulk(struct weir_recycle *recycle, size_t n, void *const objects[]);

/*
 * Returns one buffer, not NULL.
 *   Progress, Callers, Ordering, Memory: as weir_recycle_free_bulk().
 */
WEIR_API void weir_recycle_free(struct weir_recycle *recycle, void *buffer);

/*
 * What has happened so far; of a running ring, at slightly different moments.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none.
 */
WEIR_API void weir_recycle_stats(const struct weir_recycle *recycle, struct weir_recycle_stats *stats);

WEIR_END_C_NAMES

/* Private: checked builds: one consumer at a time. */
static inline void weir__recycle_begin(struct weir__recycle_cache *cache, const char *function)
{
#ifdef WEIR_CHECKED
    /* Relaxed: who has the role now has it from something that orders it behind the one before. */
    weir__check(weir_xchg_relaxed(&cache->busy, 1u) == 0, function, cache, "two consumers at once");
#else
    (void)cache, (void)function;
#endif
}

static inline void weir__recycle_end(struct weir__recycle_cache *cache)
{
#ifdef WEIR_CHECKED
    weir_store_relaxed(&cache->busy, 0u);
#else
    (void)cache;
#endif
}

/*
 * A buffer, the one freed last of those in the cache; NULL if the cache and the ring are empty and the
 * allocator has none.
 *   Progress: wait-free but for the allocator; usually some five instructions, no atomic one among them.
 *   Callers: the consumer; not a signal handler that has interrupted it.
 *   Ordering: acquires what was done to the buffer before it was freed.  Memory: the allocator's.
 */
static inline void *weir_recycle_alloc(struct weir_recycle *recycle)
{
    struct weir__recycle_cache *cache = WEIR__PATHS(struct weir__recycle_cache, recycle);
    void *buffer;
    weir__recycle_begin(cache, "weir_recycle_alloc");
    uint64_t filled = cache->filled, taken = cache->taken;
    if (weir_likely(filled != taken)) {
        buffer = cache->objects[filled - taken - 1];
        weir_store_relaxed(&cache->taken, taken + 1); /* relaxed: others read it for statistics */
    } else {
        buffer = weir__recycle_alloc_slow(recycle);
    }
    weir__recycle_end(cache);
    return buffer;
}

/*
 * Gives a buffer, not NULL, back to the cache. If that is full, `refill` of it go to the ring, or to the
 * allocator if that is full too.
 *   Progress: usually wait-free, some five instructions; otherwise as weir_recycle_free_bulk().
 *   Callers: the consumer; not a signal handler that has interrupted it.
 *   Ordering: none needed, it stays with the consumer; what goes to the ring or the allocator, as
 *   weir_recycle_free_bulk().
 *   Memory: none.
 */
static inline void weir_recycle_free_local(struct weir_recycle *recycle, void *buffer)
{
    struct weir__recycle_cache *cache = WEIR__PATHS(struct weir__recycle_cache, recycle);
    weir__recycle_begin(cache, "weir_recycle_free_local");
#ifdef WEIR_CHECKED
    weir__recycle_check_free(recycle, buffer);
#endif
    if (weir_unlikely(cache->filled - cache->taken == cache->capacity))
        weir__recycle_spill(recycle);
    cache->objects[cache->filled - cache->taken] = buffer;
    /* Release, for the child of a fork() at this moment: it must not find a count without its pointer. */
    weir_store_release(&cache->filled, cache->filled + 1);
    weir__recycle_end(cache);
}

#endif /* WEIR_RECYCLE_H */
