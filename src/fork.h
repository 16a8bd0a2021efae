/* SPDX-License-Identifier: MIT */
/*
 * fork.h - makes fork() safe in a process with many threads.
 *
 * The child is a copy of the process at one instant, as far as each thread can tell: one that writes to a
 * page that has been copied already faults, and waits for the end of the fork. But the copy has only one
 * thread. What the others had in their hands is lost there, and what they had locked stays locked. So nobody
 * must be in the middle of anything:
 *
 *     slow paths    enter and leave through a gate. It is closed, and those that are inside are waited for.
 *                   Whoever comes meanwhile waits
 *     fast paths    may go on in WEIR_PERCPU_RSEQ, where a sequence has not happened before its last
 *                   instruction. In WEIR_PERCPU_LOCK the slots are locked
 *     helper        is not in the middle of a grace period, nor of a sweep
 *
 * All of that within a second. If it cannot be had, because a slow path is held up in a backend that waits
 * for the very thread that forks, fork() goes on regardless, and in the child nothing can be used: every
 * function says so, or does nothing. The parent never notices.
 *
 * A thread that is inside the gate (gate.h) passes it again without waiting: in a signal handler, or where a
 * slow path calls another one.
 */
#ifndef WEIR_SRC_FORK_H
#define WEIR_SRC_FORK_H

#include "weir/percpu.h"

/* How long fork() waits for others, and a child for its first grace period, in milliseconds: 1000. Tests
 * change it. */
extern unsigned weir__fork_patience;

/* Begins and ends a slow path. False: nothing may be done, and there is nothing to leave. Any context. */
bool weir__enter(void);
/* The same without waiting: false, too, while another thread is in fork(). */
bool weir__try_enter(void);
void weir__leave(void);

/* False in a child that cannot use anything. */
bool weir__usable(void);

/* Slots that belong to a cache or the like. */
struct weir__guarded {
    struct weir__guarded *next;
    struct weir_percpu_slot *slots;
};

void weir__guarded_register(struct weir__guarded *guarded, struct weir_percpu_slot *slots);
void weir__guarded_unregister(struct weir__guarded *guarded);

/* Has fork() taken care of from now on. May block, the first time. */
void weir__fork_init(void);

#endif /* WEIR_SRC_FORK_H */
