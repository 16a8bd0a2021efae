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
 *     one magazine    depot (per last-level cache)  a pool of magazines with objects, and one of empty ones
 *     one magazine    the backend                   alloc_bulk and free_bulk
 *
 * free_rcu puts into a second magazine per CPU. When that is full it waits for a grace period, and then goes
 * to the depot as it is: its objects are not touched. (The layout is Bonwick's and Adams's, USENIX 2001;
 * putting a grace period on whole magazines, and everything per CPU instead of per thread, is what weir
 * adds.)
 *
 * Memory it keeps: at most three times `capacity` objects per CPU (loaded, spare, waiting to be sealed), plus
 * `high` objects in the depots, plus what waits for a grace period. How much of `high` is used follows the
 * program: every `decay_milliseconds` a depot gives back a share of the objects that were of no use, and
 * keeps so many fewer from then on, down to a quarter of `high`; when it turns objects away which are then
 * asked for again, it keeps more.
 *
 * fork(): the child may go on using the cache; what other threads held is lost to it. While a thread is in
 * fork(), other threads that need another magazine wait for it, whatever "Progress" says below. See
 * docs/cache.md.
 *
 * Signal handlers: once per magazine an alloc or a free may change errno; a handler saves it.
 */
#ifndef WEIR_CACHE_H
#define WEIR_CACHE_H

#include <stdio.h>

#include "weir/detail/block_stats.h"
#include "weir/grace.h"
#include "weir/percpu.h"

WEIR_BEGIN_C_NAMES

/* The allocator behind it. Both are called by whatever thread needs them, several at the same time, and by
 * whatever context: if the cache is used from signal handlers, they must allow that. Decay calls free_bulk on
 * the helper thread, and weir_shrink() on whichever thread calls it. */
struct weir_cache_ops {
    /* Fills objects[0..] with up to n objects; how many. Fewer than n, or 0, if there are no more. */
    size_t (*alloc_bulk)(void *backend, size_t n, void *objects[]);
    /* Takes n objects back. */
    void (*free_bulk)(void *backend, size_t n, void *objects[]);
};

struct weir_cache_config {
    const struct weir_cache_ops *ops;
    void *backend;
    /* Pointers per magazine, 1 to WEIR_CACHE_CAPACITY_MAX; 0: weir_cache_capacity_for(object_size). */
    size_t capacity;
    /* Objects that the depots keep at most, rounded up to whole magazines; further full magazines go to the
     * backend. 0: WEIR_CACHE_MAGAZINES_DEFAULT magazines for each CPU on line. */
    size_t high;
    /* For weir_cache_free_rcu(); NULL: weir_grace_qsbr(). The cache takes a reference of its own. */
    struct weir_grace *grace;
    /* Every thread that uses the cache is a registered reader of `grace`, and is in a read-side critical
     * section (for liburcu-qsbr: online) when it does. Then, and only then, WEIR_DRAIN_QUIET is allowed. A
     * promise: only checked builds (WEIR_CHECKED) look whether it is kept. */
    bool registered_users;
    /* Bytes per object, for the choice of `capacity`, and for weir_shrink(); 0: unknown. */
    size_t object_size;
    /* Every so often the helper thread gives a part of what is idle back; 0: WEIR_CACHE_DECAY_DEFAULT, and
     * WEIR_CACHE_DECAY_NEVER: only weir_cache_decay() does. */
    unsigned decay_milliseconds;
    /* How large a part of what was not used since the last time, 1 to 100; 0: 25. */
    unsigned decay_percent;
    /* Stands in front of what weir_cache_print() writes; NULL: "cache". Not copied. */
    const char *name;
    /* weir_shrink() does not ask the cache. (Nor does it if object_size is 0: it asks for bytes.) */
    bool no_shrinker;
};

/* clang-format off */
#define WEIR_CACHE_CONFIG_INIT { NULL, NULL, 0, 0, NULL, false, 0, 0, 0, NULL, false }
/* clang-format on */
#define WEIR_CACHE_CAPACITY_DEFAULT 124 /* four magazines in a 4 KiB page */
#define WEIR_CACHE_CAPACITY_MAX 65536
#define WEIR_CACHE_MAGAZINES_DEFAULT 16
#define WEIR_CACHE_DECAY_DEFAULT 1000
#define WEIR_CACHE_DECAY_NEVER (~0u)

/*
 * What has happened, in a cache or on one of its CPUs.
 *
 * Nothing is counted per object: the fast path costs the same with and without anybody looking. What it does
 * is seen when a magazine leaves its CPU: with fewer objects than it came with, those were allocated on the
 * fast path; with more, they were freed there. An alloc and a free that cancel out in between are not seen.
 */
struct weir_cache_stats {
    /* Now; snapshots, exact while nobody uses the cache. */
    size_t cached;          /* objects in loaded and spare magazines and the depots */
    size_t out;             /* objects that the program has; 0 for a CPU */
    size_t waiting;         /* magazines that wait for a grace period, being filled for one included */
    size_t waiting_objects; /* objects in them; 0 for a CPU */
    size_t limit;           /* objects that the depots would keep now, at most `high`; 0 for a CPU */
    /* Since the cache was made. */
    uint64_t fast_allocs;  /* objects allocated from the loaded magazine: net, see above */
    uint64_t fast_frees;   /* objects freed into it: net */
    uint64_t slow_allocs;  /* objects handed out on the way to another magazine */
    uint64_t slow_frees;   /* objects taken in on the way to another magazine */
    uint64_t refills;      /* loaded magazine empty: exchanged for one with objects ... */
    uint64_t depot_hits;   /* ... from a depot; the rest came from the spare or the backend */
    uint64_t stolen;       /* ... of those, from the depot of another domain of CPUs */
    uint64_t depot_misses; /* every depot was empty */
    uint64_t flushes;      /* loaded magazine full: exchanged for one with room */
    uint64_t spills;       /* depot at its limit: a magazine went to the backend */
    uint64_t allocated;    /* objects got from the backend ... */
    uint64_t alloc_calls;  /* ... in so many calls */
    uint64_t freed;        /* objects given back to the backend ... */
    uint64_t free_calls;   /* ... in so many calls */
    uint64_t decayed;      /* of those objects: given back by decay ... */
    uint64_t drained;      /* ... and by drains and shrink */
    uint64_t rcu_freed;    /* objects whose grace period is over */
    uint64_t rcu_waits;    /* times weir_cache_free_rcu() had no magazine and waited */
    uint64_t raises;       /* times a depot's limit rose; 0 for a CPU, like all that follows */
    uint64_t periods;      /* grace periods since the source was made */
    struct weir_block_stats blocks;
};

/* How weir_cache_drain_cpu() makes sure that nobody is using what it takes. */
enum weir_drain {
    WEIR_DRAIN_QUIET,     /* waits for a grace period (rseq); interrupts nobody; needs registered_users */
    WEIR_DRAIN_EXPEDITED, /* one membarrier: interrupts the CPU */
    WEIR_DRAIN_LOCK,      /* the per-CPU try-lock; only where the mode is WEIR_PERCPU_LOCK */
};

enum weir_print {
    WEIR_PRINT_TEXT, /* for people: a line each, with units */
    WEIR_PRINT_JSON, /* one object, keys as in struct weir_cache_stats, without a newline at its end */
};

struct weir_cache; /* has a struct weir__cache_paths at WEIR__PATHS_OFFSET */

/* Private: what the inline functions below need. */
struct weir__cache_paths {
    struct weir_percpu_slot *loaded;
    struct weir_percpu_slot *rcu;
    struct weir_grace *readers; /* every user is one of its readers; NULL: nobody has promised that */
};

/*
 * The number of pointers that a magazine should hold for objects of so many bytes: of 252, 124, 60, 28, 12
 * and 4 the largest with which a magazine pins at most 512 KiB (4, if none does); WEIR_CACHE_CAPACITY_DEFAULT
 * for 0. With each of them a whole number of magazines fills a 4 KiB page.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none.
 */
WEIR_API size_t weir_cache_capacity_for(size_t object_size);

/*
 * What is wrong with a configuration: a sentence that names the field and the rule; NULL if nothing is.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none; the text stays valid.
 */
WEIR_API const char *weir_cache_config_error(const struct weir_cache_config *config);

/*
 * Makes a cache. 0; or, with *cache set to NULL: -EINVAL if weir_cache_config_error() has something to say;
 * -ENOMEM; what weir_percpu_init() or weir_grace_qsbr() say; or what weir_shrinker_register() says.
 *   Progress: may block.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: allocates; -ENOMEM.
 */
WEIR_API int weir_cache_create(struct weir_cache **cache, const struct weir_cache_config *config);

/*
 * Waits for what was handed to weir_cache_free_rcu(), gives every object in the cache back to the backend,
 * and frees the cache. Objects that are still out are the backend's concern. 0; -EOWNERDEAD in a child
 * process that cannot use the cache (see weir_cache_usable()), or -EDEADLK inside free_bulk that
 * weir_shrink() has this cache call, and then nothing is freed. NULL is allowed.
 *   Progress: may block.
 *   Callers: when nobody uses the cache any more; not in a signal handler, not inside a read-side critical
 *   section (an online reader is put offline meanwhile); with no lock held that free_bulk takes.
 *   Ordering: none.  Memory: frees.
 */
WEIR_API int weir_cache_destroy(struct weir_cache *cache);

/*
 * Can it be used in this process? Always, but in a child of fork() that could not make other threads pause
 * within a second, because one of them was held up in the middle of a slow path, in the backend for instance.
 * Then every alloc in the child returns NULL, every free loses the object, and what can return an error
 * returns EOWNERDEAD.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none.
 */
WEIR_API bool weir_cache_usable(const struct weir_cache *cache);

/* Private: the slow sides. */
WEIR_API void *weir__cache_alloc_slow(struct weir_cache *cache);
WEIR_API void weir__cache_free_slow(struct weir_cache *cache, void *object);
WEIR_API void weir__cache_free_rcu_slow(struct weir_cache *cache, void *object);
WEIR_API void weir__cache_check_reader(const struct weir_grace *grace, const char *function);

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
 * Returns when every object handed to weir_cache_free_rcu() before the call is back in the cache. 0;
 * -EOWNERDEAD if weir_cache_usable() is false, or in a child of fork() as weir_grace_wait().
 *   Progress: may block: a grace period.
 *   Callers: any thread; not in a signal handler, not inside a read-side critical section (an online reader
 *   is put offline meanwhile).
 *   Ordering: acquires the readers' and the free_rcu callers' doings.  Memory: none.
 */
WEIR_API int weir_cache_rcu_barrier(struct weir_cache *cache);

/*
 * Gives decay_percent of what was not used since the last time, rounded up, back to the backend; how many
 * objects that were. Not used were as many of a depot's magazines as were in it all the time, and the spare
 * magazine of a CPU that exchanged none. Usually the helper thread does it: see decay_milliseconds.
 *   Progress: lock-free if the backend is; in proportion to the CPUs and to what it gives back.
 *   Callers: as weir_cache_free().  Ordering: none.  Memory: none.
 */
WEIR_API size_t weir_cache_decay(struct weir_cache *cache);

/*
 * Gives everything that lies idle back to the backend, of all CPUs and depots: weir_cache_drain_all() in
 * whichever way needs no promise; how many objects that were. The limits of the depots fall to a quarter of
 * `high`, and rise again when they turn out too low.
 *   Progress: may block (a system call, or a slot's holder).
 *   Callers: any thread, not a signal handler.  Ordering: none.  Memory: none.
 */
WEIR_API size_t weir_cache_shrink(struct weir_cache *cache);

/*
 * Gives what `cpu` has in its loaded and spare magazines back to the backend; how many objects that were (of
 * several quiet drains at the same time, one may give back and count what another one took). 0,
 * with errno set, if `how` cannot be done: EINVAL for a CPU that does not exist or a value that is none of
 * enum weir_drain; ENOTSUP for WEIR_DRAIN_QUIET in a cache without registered_users, for WEIR_DRAIN_LOCK in
 * mode WEIR_PERCPU_RSEQ, and for WEIR_DRAIN_EXPEDITED in mode WEIR_PERCPU_LOCK; EOWNERDEAD if
 * weir_cache_usable() is false, or if a grace period cannot be had after fork(): weir_grace_wait(). Sets
 * errno to 0 otherwise.
 *   Progress: may block (a grace period, a system call, or the slot's holder).
 *   Callers: any thread, not a signal handler.  Ordering: none.  Memory: none.
 */
WEIR_API size_t weir_cache_drain_cpu(struct weir_cache *cache, unsigned cpu, enum weir_drain how);

/*
 * The same for every CPU, and for the depots. WEIR_DRAIN_QUIET waits for one grace period for all of them.
 *   Progress, Callers, Ordering, Memory: as weir_cache_drain_cpu().
 */
WEIR_API size_t weir_cache_drain_all(struct weir_cache *cache, enum weir_drain how);

/*
 * What has happened so far; of a running cache, at slightly different moments.
 *   Progress: wait-free, in proportion to the CPUs.  Callers: any thread, signal handlers.
 *   Ordering: none.  Memory: none.
 */
WEIR_API void weir_cache_stats(struct weir_cache *cache, struct weir_cache_stats *stats);

/*
 * What has happened on one CPU; all zero if there is no such CPU.
 *   Progress: wait-free.  Callers: any thread, signal handlers.  Ordering: none.  Memory: none.
 */
WEIR_API void weir_cache_stats_cpu(struct weir_cache *cache, unsigned cpu, struct weir_cache_stats *stats);

/*
 * Writes the statistics of a cache, and of each CPU that has had any use of it. 0; -EINVAL for a value that
 * is none of enum weir_print; -EIO if writing fails.
 *   Progress: may block (the file).  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: what the C library takes for the file.
 */
WEIR_API int weir_cache_print(struct weir_cache *cache, FILE *to, enum weir_print how);

WEIR_END_C_NAMES

/* Checked builds: is the promise of registered_users kept? */
#ifdef WEIR_CHECKED
#define weir__cache_check(paths, function)                                                                   \
    do {                                                                                                     \
        if ((paths)->readers != NULL)                                                                        \
            weir__cache_check_reader((paths)->readers, (function));                                          \
    } while (0)
#else
#define weir__cache_check(paths, function) ((void)0)
#endif

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
    const struct weir__cache_paths *paths = WEIR__PATHS(const struct weir__cache_paths, cache);
    void *object;
    weir__cache_check(paths, "weir_cache_alloc");
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
    const struct weir__cache_paths *paths = WEIR__PATHS(const struct weir__cache_paths, cache);
    weir__cache_check(paths, "weir_cache_free");
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
    const struct weir__cache_paths *paths = WEIR__PATHS(const struct weir__cache_paths, cache);
    weir__cache_check(paths, "weir_cache_free_rcu");
    if (weir_unlikely(!weir__percpu_put_fast(paths->rcu, object)))
        weir__cache_free_rcu_slow(cache, object);
}

#endif /* WEIR_CACHE_H */
