/* SPDX-License-Identifier: MIT */
/*
 * weir/free_rcu.h - deferred free: hand an object over now, have it freed when no reader can see it any more.
 *
 *     struct item { struct weir_rcu_head rcu; int key; ... };
 *     struct weir_reclaimer *reclaimer;
 *     weir_reclaimer_create(&reclaimer, NULL);        // liburcu-qsbr and free()
 *
 *     remove_from_table(item);                        // new readers cannot find it
 *     weir_free_rcu(reclaimer, item, &item->rcu);     // returns at once; freed after a grace period
 *
 * Objects are collected in per-CPU arrays of pointers, and one grace period is waited for per array, not per
 * object. When it is over, the CPU that filled the array usually frees it, while the objects are still in its
 * cache (see docs/free_rcu.md). The kernel's kfree_rcu is the model.
 *
 * Three ways to hand over, for three situations, each for one object or for an array of them:
 *
 *   weir_free_rcu             the object has room for a struct weir_rcu_head: never blocks, never fails
 *   weir_free_rcu_mightsleep  no room, but the caller may wait, if there is no memory or too much pending
 *   weir_free_rcu_try         no room and no waiting: may say no
 *
 * How much may be pending is up to you (max_pending, max_pending_bytes), and what happens then (policy).
 *
 * Who runs the free function: any thread that hands something over, the helper thread, or a caller of
 * barrier, flush, poll, destroy or weir_shrink(). So it must not take a lock that somebody may hold when
 * handing over, must not create or destroy reclaimers and caches, and if objects are handed over in signal
 * handlers, must allow to be called from those; free() does not.
 */
#ifndef WEIR_FREE_RCU_H
#define WEIR_FREE_RCU_H

#include "weir/detail/block_stats.h"
#include "weir/grace.h"
#include "weir/percpu.h"

WEIR_BEGIN_C_NAMES

/* Room in an object for the case that there is no magazine to be had. Anywhere in it; weir_free_rcu() is told
 * where it is, and readers must not use it. */
struct weir_rcu_head {
    struct weir_llist_node link;
    void *object;
};

/* What weir_free_rcu_mightsleep() does when as much is pending as may be. */
enum weir_pending_policy {
    WEIR_PENDING_WAIT,   /* waits for a grace period, which makes room, and frees the object itself */
    WEIR_PENDING_HELP,   /* first frees what can be freed, of all CPUs; then as WEIR_PENDING_WAIT */
    WEIR_PENDING_REFUSE, /* returns -EAGAIN at once: the object is still the caller's */
};

struct weir_reclaimer_config {
    /* Frees one object. NULL: free(). Not used if free_bulk is given. */
    void (*free_one)(void *object);
    /* Frees n objects, at most `capacity`; may change the array. */
    void (*free_bulk)(void *arg, size_t n, void *objects[]);
    void *arg;
    /* How many objects are freed at a time by who hands objects over: so many, whenever as many were handed
     * over. Few keep each hand-over short, and suit the allocator; `capacity` and more: whole magazines. 0:
     * with free_bulk whole magazines; else WEIR_RECLAIMER_STEP_GLIBC where malloc() is glibc's, and
     * WEIR_RECLAIMER_STEP_DEFAULT where it is not. */
    size_t free_step;
    /* NULL: weir_grace_qsbr(). The reclaimer takes a reference of its own. */
    struct weir_grace *grace;
    /* Pointers per magazine, 1 to WEIR_RECLAIMER_CAPACITY_MAX. 0: WEIR_RECLAIMER_CAPACITY_DEFAULT, or fewer,
     * so that each CPU may have two magazines within max_pending. */
    size_t capacity;
    /* Objects that may be pending, on all CPUs together, at least `capacity`. A magazine that is being filled
     * counts as full. 0: WEIR_RECLAIMER_PENDING_DEFAULT magazines for each CPU on line. Beyond it
     * weir_free_rcu() chains objects by their heads, so that only the objects take memory; the other forms
     * wait or say no. */
    size_t max_pending;
    /* The same in bytes, as size_of tells them; what is in magazines being filled, up to `capacity` objects
     * per CPU, comes on top. 0: no such limit. */
    size_t max_pending_bytes;
    /* Bytes of an object. NULL: malloc_usable_size(), which is only right if free() frees the objects; with
     * another free function max_pending_bytes needs it. Any context that objects are handed over in. */
    size_t (*size_of)(void *object);
    enum weir_pending_policy policy;
    /* Magazines made at the start and kept, for each CPU on line; 0: none. The initialiser says
     * WEIR_RECLAIMER_RESERVE_DEFAULT. */
    unsigned reserve;
    /* Where memory for more of them comes from: weir_page_cache_block_source(), say. Any context that objects
     * are handed over in; its units must hold a magazine of `capacity` pointers. NULL: the system. */
    const struct weir_block_source *block_source;
    /* How long a magazine that is not full may lie on a CPU where nothing is handed over, before its grace
     * period begins, in milliseconds. 0: WEIR_RECLAIMER_FLUSH_DEFAULT. */
    unsigned flush_milliseconds;
    /* What messages call it; must stay valid. NULL: "reclaimer". */
    const char *name;
};

/* clang-format off */
#define WEIR_RECLAIMER_CONFIG_INIT                                                                           \
    { NULL, NULL, NULL, 0, NULL, 0, 0, 0, NULL, WEIR_PENDING_WAIT, WEIR_RECLAIMER_RESERVE_DEFAULT, NULL, 0, NULL }
/* clang-format on */
#define WEIR_RECLAIMER_CAPACITY_DEFAULT 508 /* with what belongs to it, a page of 4096 bytes */
#define WEIR_RECLAIMER_CAPACITY_MAX 65536
#define WEIR_RECLAIMER_STEP_DEFAULT 28
#define WEIR_RECLAIMER_STEP_GLIBC 7 /* as many free ones as it keeps of each size for a thread, up to 2.41 */
#define WEIR_RECLAIMER_PENDING_DEFAULT 64
#define WEIR_RECLAIMER_RESERVE_DEFAULT 5
#define WEIR_RECLAIMER_RESERVE_MAX 1024
#define WEIR_RECLAIMER_FLUSH_DEFAULT 20

struct weir_reclaimer_stats {
    size_t pending;       /* objects handed over and not freed yet, in whatever way */
    size_t pending_bytes; /* theirs, outside magazines being filled; 0 without max_pending_bytes */
    size_t waiting;       /* magazines waiting for a grace period, being filled for one included */
    size_t chained;       /* objects waiting by their weir_rcu_head, those being freed included */
    uint64_t freed;       /* objects freed after a grace period, in whatever way */
    uint64_t chain_total; /* objects that ever had to be chained */
    uint64_t waits;       /* objects that waited by themselves: no magazine, or too much pending */
    uint64_t throttled;   /* times weir_free_rcu_mightsleep() found too much pending */
    uint64_t refused;     /* objects that weir_free_rcu_try(), or a policy, said no to */
    uint64_t twice;       /* checked builds: hand-overs of an object that was pending already */
    uint64_t periods;     /* grace periods since the source was made */
    struct weir_block_stats blocks;
};

struct weir_reclaimer; /* has a struct weir__reclaimer_paths at WEIR__PATHS_OFFSET */

/* Private: what the inline functions below need. */
struct weir__reclaimer_paths {
    struct weir_percpu_slot *slots;
};

/*
 * What is wrong with a configuration, in words that name the field and the rule; NULL: nothing.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none; the text stays valid.
 */
WEIR_API const char *weir_reclaimer_config_error(const struct weir_reclaimer_config *config);

/*
 * Makes a reclaimer; `config` NULL: liburcu-qsbr and free(). 0; or, with *reclaimer set to NULL, -EINVAL if
 * weir_reclaimer_config_error() has something to say; -ENOMEM; or what weir_percpu_init() or
 * weir_grace_qsbr() say.
 *   Progress: may block.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: allocates; -ENOMEM.
 */
WEIR_API int weir_reclaimer_create(struct weir_reclaimer **reclaimer,
                                   const struct weir_reclaimer_config *config);

/*
 * Waits until everything handed over is freed, and frees the reclaimer. 0, or as weir_free_rcu_barrier(), and
 * then nothing is freed. NULL is allowed.
 *   Progress: may block.
 *   Callers: when nobody hands anything over any more; not in a signal handler, not inside a read-side
 *   critical section (an online reader is put offline meanwhile), not in the free function.
 *   Ordering: as weir_free_rcu_barrier().  Memory: frees.
 */
WEIR_API int weir_reclaimer_destroy(struct weir_reclaimer *reclaimer);

/* Private: the slow sides. */
WEIR_API void weir__free_rcu_slow(struct weir_reclaimer *reclaimer, void *object, struct weir_rcu_head *head);
WEIR_API int weir__free_rcu_mightsleep_slow(struct weir_reclaimer *reclaimer, void *object);
WEIR_API bool weir__free_rcu_try_slow(struct weir_reclaimer *reclaimer, void *object);

/*
 * Headless form that may wait, for the `n` objects of an array: as weir_free_rcu_mightsleep() for each, but
 * they are copied into magazines many at a time. How many it took: n; or fewer with WEIR_PENDING_REFUSE, or
 * in a child of fork() that has no grace periods, and then objects[0] up to n - result are still the
 * caller's.
 *   Progress, Callers, Ordering, Memory: as weir_free_rcu_mightsleep().
 */
WEIR_API size_t weir_free_rcu_bulk_mightsleep(struct weir_reclaimer *reclaimer, size_t n,
                                              void *const objects[]);

/*
 * Headless form that never waits, for the `n` objects of an array. How many it took, the last ones:
 * objects[0] up to n - result are still the caller's.
 *   Progress, Callers, Ordering, Memory: as weir_free_rcu_try().
 */
WEIR_API size_t weir_free_rcu_bulk_try(struct weir_reclaimer *reclaimer, size_t n, void *const objects[]);

/*
 * Lets the grace period of everything handed over before begin: takes what lies in half-full magazines on any
 * CPU. Waits for none: it is freed after that by whoever comes by, a later hand-over, poll, or the helper
 * thread within flush_milliseconds. What is chained begins to wait when what was chained before it has been
 * freed.
 *   Progress: may block: one membarrier system call; and the free function, for some of what was chained.
 *   Callers: any thread; not in a signal handler, not in the free function.  Ordering: none.  Memory: none.
 */
WEIR_API void weir_free_rcu_flush(struct weir_reclaimer *reclaimer);

/*
 * Returns when everything handed over before the call has been freed: what lies in half-full magazines on any
 * CPU, what is chained, what is waiting. Any number of threads may call it at the same time. 0; in a child of
 * fork() -EOWNERDEAD, as weir_grace_wait() and where weir_cache_usable() would be false.
 *   Progress: may block: a grace period.
 *   Callers: any thread; not in a signal handler, not inside a read-side critical section (an online reader
 *   is put offline meanwhile), not in the free function.
 *   Ordering: what the free function did is visible when it returns.  Memory: none.
 */
WEIR_API int weir_free_rcu_barrier(struct weir_reclaimer *reclaimer);

/*
 * Frees what can be freed now, on all CPUs, without waiting; how many magazines that were. If the source of
 * grace periods has no helper thread (no_helper), first does what one would: weir_grace_drive(). Then, called
 * again and again, it is what frees everything.
 *   Progress: non-blocking, but for the free function; without a helper thread as weir_grace_drive().
 *   Callers: any thread, read-side critical sections; signal handlers if the free function allows that;
 *   without a helper thread as weir_grace_drive(). Not in the free function.
 *   Ordering: none.  Memory: none.
 */
WEIR_API size_t weir_reclaimer_poll(struct weir_reclaimer *reclaimer);

/*
 * What has happened so far; of a running reclaimer, at slightly different moments.
 *   Progress: wait-free, in proportion to the CPUs.  Callers: any thread.
 *   Ordering: none.  Memory: none.
 */
WEIR_API void weir_reclaimer_stats(struct weir_reclaimer *reclaimer, struct weir_reclaimer_stats *stats);

WEIR_END_C_NAMES

/*
 * Two-argument form: frees `object` after a grace period. `head` lies in the object, neither is ever NULL; it
 * is only written if there is no memory for a magazine or too much is pending, and then the object waits in a
 * chain. Freeing what other calls handed over may be done on the way, a bounded amount.
 *   Progress: lock-free but for the free function; usually a restartable sequence of some ten instructions.
 *   Once per magazine it may make system calls: mmap for memory for magazines, futex to wake the helper
 *   thread, and, while this CPU has a backlog (16384 objects, or a quarter of max_pending) of which none may be
 *   freed yet, sched_yield to let readers and the helper run.
 *   Callers: any thread, read-side critical sections; signal handlers if the free function allows that.
 *   Ordering: releases the caller's unlinking to readers that start after the grace period has, and what was
 *   written to the object to the free function.
 *   Memory: one magazine per `capacity` objects; the chain without it.
 */
static inline void weir_free_rcu(struct weir_reclaimer *reclaimer, void *object, struct weir_rcu_head *head)
{
    const struct weir__reclaimer_paths *paths = WEIR__PATHS(const struct weir__reclaimer_paths, reclaimer);
    if (weir_unlikely(!weir__percpu_put_fast(paths->slots, object)))
        weir__free_rcu_slow(reclaimer, object, head);
}

/*
 * Headless form that may wait: frees `object` after a grace period. Waits for one itself if there is no
 * memory for a magazine or too much is pending. 0; or -EAGAIN, by WEIR_PENDING_REFUSE; or in a child of
 * fork() -EOWNERDEAD as weir_free_rcu_barrier(). If not 0, the object is still the caller's.
 *   Progress: may block.
 *   Callers: any thread; not in signal handlers, not inside read-side critical sections (an online reader is
 *   put offline while it waits), not in the free function.
 *   Ordering: as weir_free_rcu().  Memory: one magazine per `capacity` objects; waits without it.
 */
static inline int weir_free_rcu_mightsleep(struct weir_reclaimer *reclaimer, void *object)
{
    const struct weir__reclaimer_paths *paths = WEIR__PATHS(const struct weir__reclaimer_paths, reclaimer);
    if (weir_likely(weir__percpu_put_fast(paths->slots, object)))
        return 0;
    return weir__free_rcu_mightsleep_slow(reclaimer, object);
}

/*
 * Headless form that never waits: false, and the object is still the caller's, if there is no memory for a
 * magazine or too much is pending.
 *   Progress, Callers, Ordering: as weir_free_rcu().
 *   Memory: one magazine per `capacity` objects; false without it.
 */
static inline bool weir_free_rcu_try(struct weir_reclaimer *reclaimer, void *object)
{
    const struct weir__reclaimer_paths *paths = WEIR__PATHS(const struct weir__reclaimer_paths, reclaimer);
    return weir_likely(weir__percpu_put_fast(paths->slots, object)) ||
           weir__free_rcu_try_slow(reclaimer, object);
}

#endif /* WEIR_FREE_RCU_H */
