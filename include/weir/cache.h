/* SPDX-License-Identifier: MIT */
/*
 * weir/cache.h - the engine: per-CPU magazines in front of a depot in front of any allocator that works in
 * bulk.
 *
 *     static const struct weir_cache_ops ops = {my_alloc_bulk, my_free_bulk};
 *     struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
 *     config.ops = &ops;
 *     config.backend = &my_allocator;
 *     struct weir_cache *cache;
 *     int error = weir_cache_create(&cache, &config);
 *
 *     void *object = weir_cache_alloc(cache);
 *     weir_cache_free(cache, object);                 // or weir_cache_free_rcu(cache, object)
 *
 * Where an object can be, and how it moves:
 *
 *     one object      loaded magazine (per CPU)     get or put one pointer: a few instructions, no lock
 *     one magazine    spare magazine (per CPU)      swapped with the loaded one when that is empty or full:
 *                                                   a mix around the boundary stays on the CPU
 *     one magazine    depot (shared)                a pool of magazines with objects, and one of empty ones
 *     one magazine    the backend                   alloc_bulk and free_bulk
 *
 * free_rcu puts into a second magazine per CPU. When that is full it waits for a grace period, and then goes
 * to the depot as it is: its objects are not touched. (The layout is Bonwick's and Adams's, USENIX 2001;
 * putting a grace period on whole magazines, and everything per CPU instead of per thread, is what weir
 * adds.)
 *
 * Memory it keeps: at most `capacity` objects three times per CPU (loaded, spare, waiting to be sealed) plus
 * `high` objects in the depot, plus what waits for a grace period.
 */
#ifndef WEIR_CACHE_H
#define WEIR_CACHE_H

#include "weir/detail/block_stats.h"
#include "weir/grace.h"
#include "weir/percpu.h"

WEIR_BEGIN_C_NAMES

/* The allocator behind it. Both are called by whatever thread needs them, several at the same time, and by
 * whatever context: if the cache is used from signal handlers, they must allow that. */
struct weir_cache_ops {
    /* Fills objects[0..] with up to n objects; how many. Fewer than n, or 0, if there are no more. */
    size_t (*alloc_bulk)(void *backend, size_t n, void *objects[]);
    /* Takes n objects back. */
    void (*free_bulk)(void *backend, size_t n, void *objects[]);
};

struct weir_cache_config {
    const struct weir_cache_ops *ops;
    void *backend;
    /* Pointers per magazine, 1 to WEIR_CACHE_CAPACITY_MAX; 0: WEIR_CACHE_CAPACITY_DEFAULT. */
    size_t capacity;
    /* Objects that the depot keeps; further full magazines go to the backend. 0: four magazines per CPU. */
    size_t high;
    /* For weir_cache_free_rcu(); NULL: weir_grace_qsbr(). The cache takes a reference of its own. */
    struct weir_grace *grace;
    /* Every thread that uses the cache is a registered reader of `grace`, and is in a read-side critical
     * section (for liburcu-qsbr: online) when it does. Then, and only then, WEIR_DRAIN_QUIET is allowed. A
     * promise: nothing checks it. */
    bool registered_users;
};

/* clang-format off */
#define WEIR_CACHE_CONFIG_INIT { NULL, NULL, 0, 0, NULL, false }
/* clang-format on */
#define WEIR_CACHE_CAPACITY_DEFAULT 124 /* four magazines in a 4 KiB page */
#define WEIR_CACHE_CAPACITY_MAX 65536

struct weir_cache_stats {
    size_t cached;        /* objects in loaded and spare magazines and the depot; a snapshot, exact at rest */
    size_t waiting;       /* magazines waiting for a grace period, being filled for one included */
    uint64_t refills;     /* loaded magazine empty: exchanged for one with objects ... */
    uint64_t depot_hits;  /* ... from the depot; the rest came from the spare or the backend */
    uint64_t flushes;     /* loaded magazine full: exchanged for one with room */
    uint64_t allocated;   /* objects got from the backend ... */
    uint64_t alloc_calls; /* ... in so many calls */
    uint64_t freed;       /* objects given back to the backend ... */
    uint64_t free_calls;  /* ... in so many calls */
    uint64_t rcu_freed;   /* objects whose grace period is over */
    uint64_t rcu_waits;   /* times weir_cache_free_rcu() had no magazine and waited */
    uint64_t periods;     /* grace periods since the source was made */
    struct weir_block_stats blocks;
};

/* How weir_cache_drain_cpu() makes sure that nobody is using what it takes. */
enum weir_drain {
    WEIR_DRAIN_QUIET,     /* waits for a grace period; interrupts nobody; needs registered_users */
    WEIR_DRAIN_EXPEDITED, /* one membarrier: interrupts the CPU for a microsecond */
    WEIR_DRAIN_LOCK,      /* the per-CPU try-lock; only where the mode is WEIR_PERCPU_LOCK */
};

struct weir_cache; /* begins with struct weir__cache_paths */

/* Private: what the inline functions below need. */
struct weir__cache_paths {
    struct weir_percpu_slot *loaded;
    struct weir_percpu_slot *rcu;
};

/*
 * Makes a cache. 0; or, with *cache set to NULL: -EINVAL if config, ops or one of its functions is missing or
 * a number is out of range; -ENOMEM; or what weir_percpu_init() or weir_grace_qsbr() say.
 *   Progress: may block.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: allocates; -ENOMEM.
 */
WEIR_API int weir_cache_create(struct weir_cache **cache, const struct weir_cache_config *config);

/*
 * Waits for what was handed to weir_cache_free_rcu(), gives every object in the cache back to the backend,
 * and frees the cache. Objects that are still out are the backend's concern. 0. NULL is allowed.
 *   Progress: may block.
 *   Callers: when nobody uses the cache any more; not in a signal handler, not inside a read-side critical
 *   section (an online reader is put offline meanwhile).
 *   Ordering: none.  Memory: frees.
 */
WEIR_API int weir_cache_destroy(struct weir_cache *cache);

/* Private: the slow sides. */
WEIR_API void *weir__cache_alloc_slow(struct weir_cache *cache);
WEIR_API void weir__cache_free_slow(struct weir_cache *cache, void *object);
WEIR_API void weir__cache_free_rcu_slow(struct weir_cache *cache, void *object);

/*
 * Fills objects[0..] with up to n objects, a magazine's worth at a time; how many: fewer than n if the
 * backend has no more, and then the rest of the array may have been overwritten.
 *   Progress: lock-free if the backend is.  Callers: as weir_cache_alloc().  Ordering: as weir_cache_alloc().
 *   Memory: the backend's.
 */
WEIR_API size_t weir_cache_alloc_bulk(struct weir_cache *cache, size_t n, void *objects[]);

/*
 * Frees n objects, a magazine's worth at a time.
 *   Progress: lock-free if the backend is.  Callers: as weir_cache_free().
 *   Ordering, Memory: as weir_cache_free().
 */
WEIR_API void weir_cache_free_bulk(struct weir_cache *cache, size_t n, void *const objects[]);

/*
 * An object without calling the backend: from the loaded or spare magazine or the depot; NULL if there is
 * none.
 *   Progress: lock-free, never waits, makes no system call.
 *   Callers: any thread, signal handlers, read-side critical sections.  Ordering: as weir_cache_alloc().
 *   Memory: none.
 */
WEIR_API void *weir_cache_alloc_nolock(struct weir_cache *cache);

/*
 * Returns when every object handed to weir_cache_free_rcu() before the call is back in the cache.
 *   Progress: may block: a grace period.
 *   Callers: any thread; not in a signal handler, not inside a read-side critical section (an online reader
 *   is put offline meanwhile).
 *   Ordering: acquires the readers' and the free_rcu callers' doings.  Memory: none.
 */
WEIR_API void weir_cache_rcu_barrier(struct weir_cache *cache);

/*
 * Gives a quarter of the depot's full magazines, rounded up, back to the backend; how many objects that were.
 *   Progress: lock-free if the backend is.  Callers: as weir_cache_free().
 *   Ordering: none.  Memory: none.
 */
WEIR_API size_t weir_cache_decay(struct weir_cache *cache);

/*
 * Gives what `cpu` has in its loaded and spare magazines back to the backend; how many objects that were. 0,
 * with errno set, if `how` cannot be done: EINVAL for a CPU that does not exist or a value that is none of
 * enum weir_drain; ENOTSUP for WEIR_DRAIN_QUIET in a cache without registered_users, for WEIR_DRAIN_LOCK in
 * mode WEIR_PERCPU_RSEQ, and for WEIR_DRAIN_EXPEDITED in mode WEIR_PERCPU_LOCK. Sets errno to 0 otherwise.
 *   Progress: may block (a grace period, a system call, or the slot's holder).
 *   Callers: any thread, not a signal handler.  Ordering: none.  Memory: none.
 */
WEIR_API size_t weir_cache_drain_cpu(struct weir_cache *cache, unsigned cpu, enum weir_drain how);

/*
 * The same for every CPU, and for the depot.
 *   Progress, Callers, Ordering, Memory: as weir_cache_drain_cpu().
 */
WEIR_API size_t weir_cache_drain_all(struct weir_cache *cache, enum weir_drain how);

/*
 * What has happened so far. Counts are taken when magazines are exchanged, so they cost nothing per object;
 * those of a running cache are from slightly different moments.
 *   Progress: lock-free, in proportion to the CPUs; a spare magazine may move to the depot.
 *   Callers: any thread, signal handlers.  Ordering: none.  Memory: none.
 */
WEIR_API void weir_cache_stats(struct weir_cache *cache, struct weir_cache_stats *stats);

WEIR_END_C_NAMES

/*
 * An object, or NULL if there is none left: not here, not in the depot, not in the backend. What lies idle in
 * another CPU's magazines is not taken from it: see weir_cache_drain_all().
 *   Progress: lock-free if the backend is; usually a restartable sequence of some ten instructions. Once per
 *   magazine it may make a system call: mmap, for memory for magazines.
 *   Callers: any thread; signal handlers and read-side critical sections if the backend allows them.
 *   Ordering: what was written to the object before it was freed is visible.  Memory: the backend's.
 */
static inline void *weir_cache_alloc(struct weir_cache *cache)
{
    const struct weir__cache_paths *paths = (const struct weir__cache_paths *)(const void *)cache;
    void *object;
    return weir_likely(weir__percpu_get_fast(paths->loaded, &object)) ? object
                                                                      : weir__cache_alloc_slow(cache);
}

/*
 * Gives an object back; not NULL.
 *   Progress, Callers: as weir_cache_alloc().
 *   Ordering: what was written to the object is visible to who gets it next.
 *   Memory: a full magazine needs an empty one; if there is no memory for it, the object goes to the backend.
 */
static inline void weir_cache_free(struct weir_cache *cache, void *object)
{
    const struct weir__cache_paths *paths = (const struct weir__cache_paths *)(const void *)cache;
    if (weir_unlikely(!weir__percpu_put_fast(paths->loaded, object)))
        weir__cache_free_slow(cache, object);
}

/*
 * Gives an object back, not NULL, after a grace period: when every reader that may have seen it is gone. The
 * caller has made it unreachable for new readers.
 *   Progress: lock-free; but if no magazine can be had, which takes the system to be out of memory, it waits
 *   for a grace period. Once per magazine it may make system calls: mmap for memory for magazines, futex to
 *   wake the helper thread, and, while this CPU has a backlog of thousands of objects, sched_yield to let
 *   readers and the helper run.
 *   Callers: any thread; inside a read-side critical section and in signal handlers only if memory for
 *   magazines is never short.
 *   Ordering: releases the caller's unlinking to readers that start after the grace period has.
 *   Memory: one magazine per `capacity` objects.
 */
static inline void weir_cache_free_rcu(struct weir_cache *cache, void *object)
{
    const struct weir__cache_paths *paths = (const struct weir__cache_paths *)(const void *)cache;
    if (weir_unlikely(!weir__percpu_put_fast(paths->rcu, object)))
        weir__cache_free_rcu_slow(cache, object);
}

#endif /* WEIR_CACHE_H */
