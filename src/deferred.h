/* SPDX-License-Identifier: MIT */
/*
 * deferred.h - objects that wait for a grace period, a magazine at a time.
 *
 * What weir_free_rcu() and weir_cache_free_rcu() share. Each CPU has a slot whose magazine collects what is
 * handed over there, and a queue of magazines in the order in which they were put into the slot:
 *
 *     slot: [ M4, filling ]          queue: M1 -> M2 -> M3 -> M4
 *                                           done  wait  wait  open
 *
 * A magazine enters the queue when it is installed, OPEN. Whoever takes it out of the slot again (because it
 * is full, or because it has been sitting there) seals it: stamps it with a grace-period cookie, taken after
 * it left the slot, so after everything in it was handed over. Whoever comes by reaps the queue's head: while
 * the first magazine's grace period is over, it is reclaimed. That is usually the CPU that filled it, on its
 * next full magazine, where the objects are still in its cache; the helper thread sweeps up on CPUs that have
 * gone idle.
 *
 * With a `step` the CPU does not wait for its next full magazine. The magazine in the slot gets room for
 * `step` objects at a time: its capacity is set low. Who finds it full raises that, and frees `step` objects
 * of the queue's head, if its time has come, oldest first; the next ones are fetched into the cache already.
 * So no hand-over has much to do, and an allocator that keeps a few free objects for each thread (glibc: 7 of
 * a size) gets back as many as it has just given out, which it is far better at than at hundreds at once.
 *
 * The invariant that makes barrier simple: magazines leave a queue in the order in which they entered it, and
 * no object is ever handed over to a magazine that is not in a queue already. So "everything handed over
 * until now" is "the first `installed` magazines of each queue", and it has been freed once `reclaimed` has
 * got there.
 *
 * Reaping is guarded by a flag that is tried, never waited for: who does not get it knows that somebody else
 * is at it. Nothing here takes a mutex.
 */
#ifndef WEIR_SRC_DEFERRED_H
#define WEIR_SRC_DEFERRED_H

#include "blocks.h"
#include "fork.h"
#include "grace.h"
#include "handed.h"
#include "weir/percpu.h"

struct weir__deferred_cpu {
    struct weir_llist_head incoming; /* the queue's end, newest first */
    uint64_t installed;              /* magazines that entered */
    /* Not first, for some CPU's would lie where a page begins: see WEIR__PATHS_OFFSET. */
    struct weir_percpu_slot slot;
    uint32_t reaping;               /* the flag; it guards the rest */
    struct weir_magazine *head;     /* the rest of the queue, which what came in is behind */
    uint32_t freed;                 /* objects of the first magazine that were freed already */
    bool ripe;                      /* the first magazine's grace period is known to be over */
    uint64_t reclaimed;             /* magazines that left */
    uint64_t objects;               /* objects in them, and those that were freed already */
    uint64_t sealed;                /* objects in magazines that were sealed here; outside the flag */
    uint64_t swept;                 /* `installed` at the last sweep; only sweeps use it, as the next */
    weir_grace_cookie swept_cookie; /* of the magazine that a sweep last took out of the slot */
} WEIR_ALIGNED(WEIR_PERCPU_STRIDE);
_Static_assert(sizeof(struct weir__deferred_cpu) == WEIR_PERCPU_STRIDE, "one stride per CPU");

/*
 * How much may be pending. Objects are counted a magazine at a time: all that fit when it is installed, what
 * is in it when it is sealed, none when it is reclaimed. So `objects` is never less than what is pending, and
 * more by no more than what still fits into the magazines in the slots, and was freed of the first in each
 * queue. Bytes are counted when a magazine is sealed: what is in the slots comes on top.
 */
struct weir__deferred_limit {
    size_t most_objects;
    size_t most_bytes;               /* SIZE_MAX: they are not counted */
    size_t (*size_of)(void *object); /* NULL: likewise */
    size_t objects WEIR_ALIGNED(WEIR_LINE_PAIR);
    size_t bytes;
};

struct weir__deferred {
    struct weir__deferred_cpu *cpus;
    struct weir_grace *grace;
    struct weir__blocks *blocks;
    /* One of the two: takes over a magazine whose grace period is over; or frees objects that were in one, and
     * may change the array. */
    void (*reclaim)(void *arg, struct weir_magazine *magazine);
    void (*free_some)(void *arg, size_t n, void *objects[]);
    void *arg;
    size_t step; /* see above: with free_some, below the capacity; 0: magazines are reclaimed whole */
    /* What else has to be swept, on the helper thread, and is something pending there? NULL, both:
     * nothing. */
    void (*also_sweep)(void *arg);
    bool (*also_pending)(void *arg);
    struct weir__deferred_limit *limit; /* NULL: none */
    struct weir__handed *handed;        /* NULL: nobody looks for what is handed over twice */
    size_t object_size;                 /* bytes; 0: not known */
    unsigned interval;                  /* milliseconds between sweeps; 0: WEIR_SWEEP_MILLISECONDS */
    struct weir__grace_client client;
    struct weir__guarded guarded;
    size_t capacity; /* of a magazine */
    size_t backlog;  /* magazines pending on a CPU that are one */
    size_t yields;   /* adding them yields then, once in so many */
};

/* -ENOMEM, or weir_percpu_init()'s error. The fields from `grace` to `interval` are filled in by the caller
 * before. */
int weir__deferred_init(struct weir__deferred *deferred);
/* Everything must have been reclaimed (barrier), and nobody be using it. */
void weir__deferred_destroy(struct weir__deferred *deferred);

/*
 * When the inline fast path found no room for the last of `n` objects, at least one: puts that one in, if
 * there is room after all (see above; or this is WEIR_PERCPU_LOCK, which has no inline fast path), makes room
 * for the others, and frees some. False: weir__deferred_add_slow() has to.
 */
bool weir__deferred_go_on(struct weir__deferred *deferred, size_t n, void *const objects[]);

/* When the inline fast path found no room for the last of `n` objects, at least one: installs another
 * magazine with as many of the last ones as fit, and seals the one that was there. How many that were: none
 * if there is no magazine to be had, or if the limit is reached; the others are still the caller's. */
size_t weir__deferred_add_slow(struct weir__deferred *deferred, size_t n, void *const objects[]);

/* Counts objects that are pending elsewhere, whether the limit allows it or not; and no longer, when they
 * have been freed: so their bytes are asked for before. */
void weir__deferred_charge(struct weir__deferred *deferred, size_t n, void *const objects[]);
void weir__deferred_discharge(struct weir__deferred *deferred, size_t n, size_t bytes);
/* The bytes of objects, as the limit counts them. */
size_t weir__deferred_bytes(const struct weir__deferred *deferred, size_t n, void *const objects[]);

/* Reclaims up to `budget` magazines of one CPU whose time has come; how many. */
size_t weir__deferred_reap(struct weir__deferred *deferred, unsigned cpu, size_t budget);
/* Of all CPUs, all of them. */
size_t weir__deferred_reap_all(struct weir__deferred *deferred);
/* One magazine, whatever CPU's; false if there is none. */
bool weir__deferred_reap_any(struct weir__deferred *deferred);
/* Takes what is in the slots and seals it. May block. */
void weir__deferred_flush(struct weir__deferred *deferred);
/* Returns when everything handed over before the call has been reclaimed. May block. 0, or as
 * weir_grace_wait(). Outside the gate (fork.h), unlike the rest. */
int weir__deferred_barrier(struct weir__deferred *deferred);
/* Magazines of `cpu` (of all) that are in a queue, the one in the slot included. */
size_t weir__deferred_pending_cpu(const struct weir__deferred *deferred, unsigned cpu);
size_t weir__deferred_pending(const struct weir__deferred *deferred);

struct weir__deferred_stats {
    size_t magazines, objects; /* that wait, what is being filled included */
    uint64_t reclaimed;        /* objects */
};
void weir__deferred_stats(struct weir__deferred *deferred, struct weir__deferred_stats *stats);

#endif /* WEIR_SRC_DEFERRED_H */
