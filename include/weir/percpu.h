/* SPDX-License-Identifier: MIT */
/*
 * weir/percpu.h - per-CPU slots, each holding a magazine that whoever runs on that CPU may use.
 *
 *     struct weir_percpu_slot *slots = weir_percpu_alloc();  // one per CPU
 *     weir_percpu_slots_init(slots);
 *
 *     void *object = weir_percpu_get(slots);             // from the slot of the CPU we are on
 *     if (object == NULL)
 *         object = slow_path();                          // weir_percpu_exchange() a full magazine in
 *
 * Two modes, chosen once per process (weir_percpu_mode(), weir_percpu_reason()):
 *
 *   WEIR_PERCPU_RSEQ  restartable sequences: a few instructions that end in one store. If the thread is
 *                     preempted, migrated or interrupted by a signal before that store, the kernel makes it
 *                     start again. No atomic read-modify-write, no lock; a signal handler may use the slot
 *                     its own thread was just using. (P. Turner and A. Hunter, Linux Plumbers 2013;
 *                     M. Desnoyers, Linux 4.18.)
 *                     On x86-64 and aarch64; registered with the kernel by the C library (glibc 2.35 and
 *                     later) or, thread by thread as each first needs it, by weir.
 *   WEIR_PERCPU_LOCK  everywhere else: each slot has a try-lock. Whoever does not get it does not wait, but
 *                     is told there is nothing to be had, and goes to the shared depot.
 *
 * What an owner may rely on. A magazine that weir_percpu_exchange() returned is the caller's: nobody is in
 * the middle of using it. One that weir_percpu_detach() took from *another* CPU may still be in use there,
 * until weir_percpu_settle() has returned.
 *
 * Two limits of restartable sequences: a debugger that steps through one by single instructions never gets
 * to its end; and a shared object that has these functions inlined must not be unloaded while threads that
 * used them live on, because the kernel may still look at the descriptor of the last sequence.
 */
#ifndef WEIR_PERCPU_H
#define WEIR_PERCPU_H

#include "weir/detail/api.h"
#include "weir/magazine.h"

/* Bytes from one CPU's slot to the next: a pair of cache lines. */
#define WEIR_PERCPU_STRIDE 128

enum weir_percpu_mode {
    WEIR_PERCPU_LOCK = 0,
    WEIR_PERCPU_RSEQ = 1,
};

/* Anywhere, but at the same place, in the WEIR_PERCPU_STRIDE bytes of each CPU. Private inside. */
struct weir_percpu_slot {
    struct weir_magazine *magazine; /* WEIR_PERCPU_RSEQ: the one in use; never NULL */
    struct weir_magazine *locked;   /* WEIR_PERCPU_LOCK: the one in use; never NULL */
    uint32_t busy;                  /* WEIR_PERCPU_LOCK: the try-lock */
};

/* Stands in a slot that has no magazine: capacity and count are zero, so get and put both fail. Never
 * written. */
WEIR_API extern struct weir_magazine weir_percpu_none;

WEIR_BEGIN_C_NAMES

/*
 * Chooses the mode; done by whatever creates slots, or a source of grace periods. The environment variable
 * WEIR_PERCPU (rseq or lock) forces one; empty is as if unset. 0; -EINVAL if it holds anything else and
 * -ENOTSUP if it asks for rseq and that does not work here, both after one line on standard error that says
 * so.
 *   Progress: may block, the first time.  Callers: any thread, not a signal handler.
 *   Ordering: what it set up is visible when it returns.  Memory: none that stays.
 */
WEIR_API int weir_percpu_init(void);

/*
 * The mode in force.
 *   Progress: may block, the first time.  Callers: any thread, not a signal handler.
 *   Ordering: none.  Memory: none.
 */
WEIR_API enum weir_percpu_mode weir_percpu_mode(void);

/*
 * Why that one, in words, for people to read: "rseq: ..." or "lock: ...".
 *   Progress: may block, the first time.  Callers: any thread, not a signal handler.
 *   Ordering: none.  Memory: none; the text stays valid.
 */
WEIR_API const char *weir_percpu_reason(void);

/* CPU numbers are below this: one more than the highest the kernel may ever use, not the number on line.
 *   Progress: may block, the first time.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: none. */
WEIR_API unsigned weir_percpu_nr_cpus(void);

/*
 * WEIR_PERCPU_STRIDE zeroed bytes for each CPU, with what the fast paths need around them: CPU 0's. NULL if
 * there is no memory or weir_percpu_init() fails.
 *   Progress: may block.  Callers: any thread, not a signal handler.
 *   Ordering: none.       Memory: maps it; weir_percpu_free() unmaps it.
 */
WEIR_API void *weir_percpu_alloc(void);

/* Gives it back; nobody may be using it. NULL is allowed.
 *   Progress: may block.  Callers: any thread.  Ordering: none.  Memory: unmaps. */
WEIR_API void weir_percpu_free(void *percpu);

/*
 * Makes the slot that lies at `slots` in CPU 0's bytes, and the one at the same place of every other CPU,
 * hold weir_percpu_none.
 *   Progress: wait-free.  Callers: one thread, before the slots are shared.  Ordering: none.  Memory: none.
 */
WEIR_API void weir_percpu_slots_init(struct weir_percpu_slot *slots);

/* The CPU the caller is on, below weir_percpu_nr_cpus(): a hint, it may be on another one by now.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none. */
WEIR_API unsigned weir_percpu_cpu(void);

/* Private: get and put when the fast ones found nothing. In WEIR_PERCPU_LOCK: the real ones. In
 * WEIR_PERCPU_RSEQ: once more, if that was because the thread was not registered yet. */
WEIR_API void *weir__percpu_get_locked(struct weir_percpu_slot *slots);
WEIR_API bool weir__percpu_put_locked(struct weir_percpu_slot *slots, void *object);

/*
 * Copies up to `n` objects out of the current CPU's magazine; how many. In one sequence: all or none of them
 * is taken if it is interrupted. objects[result] up to objects[n - 1] may have been overwritten.
 *   Progress: rseq: restarts when preempted; lock: wait-free.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_percpu_get().  Memory: none.
 */
WEIR_API size_t weir_percpu_get_n(struct weir_percpu_slot *slots, size_t n, void *objects[]);

/*
 * Copies the last ones of `n` objects, as many as fit, into the current CPU's magazine; how many. The rest
 * are still the caller's: objects[0] up to n - result.
 *   Progress: rseq: restarts when preempted; lock: wait-free.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_percpu_put().  Memory: none.
 */
WEIR_API size_t weir_percpu_put_n(struct weir_percpu_slot *slots, size_t n, void *const objects[]);

/*
 * Puts `magazine` into the current CPU's slot and hands out the one that was there in *old, the caller's from
 * now on. False, nothing changed, if the slot is busy (WEIR_PERCPU_LOCK only) or the CPU's number is not
 * below weir_percpu_nr_cpus().
 *   Progress: rseq: restarts when preempted; lock: wait-free.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: releases `magazine` to, and acquires *old from, others who use this slot.  Memory: none.
 */
WEIR_API bool weir_percpu_exchange(struct weir_percpu_slot *slots, struct weir_magazine *magazine,
                                   struct weir_magazine **old);

/*
 * Takes the magazine out of the slot of `cpu`, whichever CPU the caller is on, and leaves weir_percpu_none
 * there. In WEIR_PERCPU_RSEQ its count and pointers may change until weir_percpu_settle() has returned.
 * NULL if the slot is busy (WEIR_PERCPU_LOCK only).
 *   Progress: wait-free.  Callers: any thread.
 *   Ordering: acquires what others put in, once settled.  Memory: none.
 */
WEIR_API struct weir_magazine *weir_percpu_detach(struct weir_percpu_slot *slots, unsigned cpu);

/* Objects in the magazine of `cpu`: a snapshot for statistics; 0 if the slot is busy (WEIR_PERCPU_LOCK only).
 *   Progress: wait-free.  Callers: any thread.  Ordering: none.  Memory: magazines must stay mapped. */
WEIR_API size_t weir_percpu_count(struct weir_percpu_slot *slots, unsigned cpu);

/*
 * Returns when no CPU is in the middle of using a magazine that was detached before the call. Costs one
 * membarrier system call, which interrupts every CPU that runs a thread of this process;
 * nothing in WEIR_PERCPU_LOCK. If that call is refused, though it worked at the start, the program is stopped
 * with a message: to go on could hand an object out twice.
 *   Progress: may block (the system call).  Callers: any thread.
 *   Ordering: what others did to those magazines is visible when it returns.  Memory: none.
 */
WEIR_API void weir_percpu_settle(void);

/*
 * The same for magazines that were detached from `cpu`: interrupts no other CPU.
 *   Progress, Callers, Ordering, Memory: as weir_percpu_settle().
 */
WEIR_API void weir_percpu_settle_cpu(unsigned cpu);

WEIR_END_C_NAMES

#include "weir/detail/rseq.h"

/*
 * Takes an object from the current CPU's magazine. NULL if there is none, the slot is busy, or the CPU has no
 * slot.
 *   Progress: rseq: restarts when preempted; lock: wait-free.  Callers: any thread, signal handlers,
 *   read-side critical sections.
 *   Ordering: what was written before an object was put on this CPU is visible to who gets it: same CPU, so
 *   program order and the kernel's context switch (rseq), or the try-lock (lock) order it.  Memory: none.
 */
static inline void *weir_percpu_get(struct weir_percpu_slot *slots)
{
    void *object;
    return weir_likely(weir__percpu_get_fast(slots, &object)) ? object : weir__percpu_get_locked(slots);
}

/*
 * Puts an object into the current CPU's magazine. False if it is full, the slot is busy, or the CPU has no
 * slot: the object is still the caller's.
 *   Progress: rseq: restarts when preempted; lock: wait-free.  Callers: any thread, signal handlers,
 *   read-side critical sections.
 *   Ordering: as weir_percpu_get().  Memory: none.
 */
static inline bool weir_percpu_put(struct weir_percpu_slot *slots, void *object)
{
    return weir_likely(weir__percpu_put_fast(slots, object)) || weir__percpu_put_locked(slots, object);
}

#endif /* WEIR_PERCPU_H */
