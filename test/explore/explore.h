/* SPDX-License-Identifier: MIT */
/*
 * explore.h - runs two or three threads of a test one atomic access at a time, in every order.
 *
 *     static void start(void *arg) { ... }               // makes the state the threads begin with
 *     static void run(void *arg, unsigned thread) { ... } // what each of them does, once
 *     static void finish(void *arg) { ... }              // looks at what is left; explore_fail() if it is wrong
 *
 *     struct explore_program program = {.threads = 2, .start = start, .run = run, .finish = finish};
 *     struct explore_result result;
 *     explore_all(&program, 3, 0, &result);
 *
 * The threads are coroutines in one thread of the system. explore_hook.h, put under weir/atomic.h, calls
 * explore_before() ahead of every atomic access, and there the explorer decides who makes the next one. What a
 * thread does between two accesses happens at once with the first of them.
 *
 * explore_all() goes through all schedules with at most so many preemptions (a thread is left although it could go
 * on): M. Musuvathi and S. Qadeer, "Iterative Context Bounding for Systematic Testing of Multithreaded Programs",
 * PLDI 2007. explore_random() draws schedules from deeper ones: S. Burckhardt et al., "A Randomized Scheduler with
 * Probabilistic Guarantees of Finding Bugs" (PCT), ASPLOS 2010.
 *
 * Two kinds of surprise may be added, so many in a run: a weak compare-and-swap fails for no reason; and, with
 * program.weak, a load returns a value that was overwritten already, as the C11 model allows it to one whom
 * nothing has told of the newer one. Each value then carries what its writer knew if it was released, and who
 * acquires it learns that (the views of J. Kang et al., "A Promising Semantics for Relaxed-Memory Concurrency", POPL
 * 2017, without the promises).
 *
 * What it cannot see: stores that become visible in another order than they were made in without anybody reading
 * an old value, loads that see a store which comes later in its own thread (load buffering), and whatever
 * assembly does. Without program.weak every access is sequentially consistent.
 *
 * A schedule in writing, as a failure prints it and explore_replay() takes it: a letter per access, of the thread
 * that makes it, repeated by a number behind it: "a3b" is "aaab". An access marked '!' is a weak
 * compare-and-swap that fails for no reason; one marked '~' reads the value before the newest, '~~' the one before
 * that. After its end the schedule goes on without preemptions or surprises.
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    EXPLORE_THREADS = 3,
    EXPLORE_ACCESSES = 2000, /* a run that makes more is said not to end */
    EXPLORE_ANY = 1000,      /* as number of preemptions: no bound */
    EXPLORE_OLDER = 3,       /* values before the newest that a load may return */
};

struct explore_program {
    unsigned threads;
    void (*start)(void *arg);
    void (*run)(void *arg, unsigned thread);
    void (*finish)(void *arg);
    void *arg;
    bool weak; /* loads may return old values */
    /* For the trace of a replay, may be NULL: writes what stands at an address, or what a value means. */
    void (*name)(void *arg, const void *address, char *text, size_t size);
    void (*value)(void *arg, uint64_t value, char *text, size_t size);
};

struct explore_result {
    bool failed;
    uint64_t schedules; /* that were run, up to and with the one that failed */
    uint64_t accesses;  /* of the longest one */
    char message[256];
    char schedule[4 * EXPLORE_ACCESSES + 16];
};

/* Every schedule with at most so many preemptions and surprises. */
void explore_all(const struct explore_program *program, unsigned preemptions, unsigned surprises,
                 struct explore_result *result);

/* `runs` random schedules with up to `changes` changes of priority. */
void explore_random(const struct explore_program *program, unsigned changes, uint64_t seed, uint64_t runs,
                    struct explore_result *result);

/* The one schedule that the bytes choose: one byte is consumed wherever more than one thread can go on, and
 * wherever there may be a surprise. For fuzzing. */
void explore_bytes(const struct explore_program *program, const uint8_t *bytes, size_t n,
                   struct explore_result *result);

/* The written schedule; each access goes to `trace`, if it is not NULL. False if it cannot be followed: then
 * result->message says why. */
bool explore_replay(const struct explore_program *program, const char *schedule, FILE *trace,
                    struct explore_result *result);

/* --- for the functions of a program --- */

/* Ends the run as failed. */
__attribute__((format(printf, 1, 2), noreturn)) void explore_fail(const char *format, ...);

/* An object that the thread owns alone, of 8 bytes: what it wrote there last, or what was handed over with it. Fails
 * the run if the thread has not been told of the last write: elsewhere it would read something old. */
uint64_t explore_read_owned(const void *address);
/* A store with release, made at once with the access before. */
void explore_write_owned(void *address, uint64_t value);

/* The number of the thread that runs. */
unsigned explore_self(void);
/* Accesses so far, of all threads. */
uint64_t explore_now(void);
/* From here on, explore_first() is the number of the first access that this thread makes; 0 if it made none. */
void explore_mark(void);
uint64_t explore_first(void);

/* --- for explore_hook.h --- */

/* Before an access: others may be run here. */
void explore_before(const char *operation, int order, const volatile void *address, const char *file,
                    int line);
/* Is the weak compare-and-swap that comes now to fail for no reason? */
bool explore_spurious(void);
/* Which value a load returns, whose newest is given. */
uint64_t explore_loaded(uint64_t newest, int order);
/* What a store, or a read-modify-write, has left. */
void explore_stored(uint64_t value, int order);
void explore_modified(uint64_t value, int order);
/* The access is to this address too. */
void explore_touch(const volatile void *address);
/* What a compare-and-swap of two words has left in both. */
void explore_modified_pair(const uint64_t p[2]);
/* A compare-and-swap that failed: it has read the newest value. */
void explore_compared(int order);
/* After an access, for the trace: the value read or written; and whether a compare-and-swap succeeded. */
void explore_after(uint64_t value, bool done);

#endif
