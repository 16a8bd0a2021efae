/* SPDX-License-Identifier: MIT */
/*
 * fork.h - makes fork() safe in a process with many threads.
 *
 * fork() copies one page after the other while other threads go on. What a thread moves from a page that was not yet
 * copied to one that was is in the copy twice, or not at all: a child that went on with such a copy would hand objects
 * out twice. So for the time of the fork nobody else may move anything:
 *
 *     slow paths    enter and leave through a gate. It is closed, and those that are inside are waited for. Whoever
 *                   comes meanwhile waits: fork() would make it wait anyway, at its first page fault
 *     fast paths    find empty slots: the loaded magazines are parked, and go back when it is done
 *     helper        is not in the middle of a grace period, nor of a sweep
 *
 * All of that within a second. If it cannot be had, because a slow path is held up in a backend that waits for the very
 * thread that forks, fork() goes on regardless, and in the child nothing can be used: every function says so, or does
 * nothing. The parent never notices.
 *
 * The gate counts who enters and who leaves, in stripes, so that CPUs keep apart. A thread that is inside passes it again
 * without waiting: in a signal handler, or where a slow path calls another one.
 */
#ifndef WEIR_SRC_FORK_H
#define WEIR_SRC_FORK_H

#include "weir/percpu.h"

/* How long fork() waits for others, and a child for its first grace period. */
#define WEIR_FORK_MILLISECONDS 1000

/* Begins and ends a slow path. False: nothing may be done, and there is nothing to leave. Any context. */
bool weir__enter(void);
void weir__leave(void);

/* False in a child that cannot use anything. */
bool weir__usable(void);

/* Slots whose magazines are parked in a word of their own in each CPU's bytes while the process forks. */
struct weir__parked {
    struct weir__parked *next;
    struct weir_percpu_slot *slots;
    struct weir_magazine **place; /* CPU 0's */
};

void weir__parked_register(struct weir__parked *parked, struct weir_percpu_slot *slots,
                           struct weir_magazine **place);
void weir__parked_unregister(struct weir__parked *parked);

/* Has fork() taken care of from now on. May block, the first time. */
void weir__fork_init(void);

#endif /* WEIR_SRC_FORK_H */
