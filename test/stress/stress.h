/* SPDX-License-Identifier: MIT */
/*
 * Common to the stress programs: PROGRAM [THREADS [SEED|clock [MILLISECONDS]]], marks that find an object that is lost
 * or handed out twice, threads, and a signal that interrupts them in the middle of what they do.
 *
 * The marks use relaxed operations and a plain payload on purpose: they add no ordering of their own, so that
 * ThreadSanitizer sees it if the code under test has too little.
 */
#ifndef STRESS_H
#define STRESS_H

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "weir/atomic.h"

enum { STRESS_MAX_THREADS = 64 };

static struct {
    const char *program;
    unsigned threads, milliseconds;
    uint64_t seed;
} stress;

static bool stress_stop;

__attribute__((format(printf, 1, 2), noreturn, unused)) static void stress_fail(const char *format, ...)
{
    static bool failed;
    sigset_t everything;
    sigfillset(&everything); /* a handler that fails, too, would wait here for its own thread */
    pthread_sigmask(SIG_BLOCK, &everything, NULL);
    while (weir_xchg_relaxed(&failed, true))
        pause(); /* the first to fail reports */
    va_list args;
    va_start(args, format);
    fprintf(stderr, "FAILED: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nreplay: %s %u %llu %u\n", stress.program, stress.threads,
            (unsigned long long)stress.seed, stress.milliseconds);
    va_end(args);
    _exit(1);
}

static inline unsigned long long stress_number(const char *text, unsigned long long low,
                                               unsigned long long high)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end || end == text || value < low || value > high) {
        fprintf(stderr,
                "'%s' is not a number from %llu to %llu; usage: %s [THREADS [SEED|clock [MILLISECONDS]]]\n",
                text, low, high, stress.program);
        exit(2);
    }
    return value;
}

static inline void stress_start(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    stress.program = argv[0];
    stress.threads = argc > 1 ? (unsigned)stress_number(argv[1], 2, STRESS_MAX_THREADS) : 4;
    bool seeded = argc > 2 && strcmp(argv[2], "clock") != 0;
    stress.seed = seeded ? stress_number(argv[2], 0, UINT64_MAX) : (uint64_t)now.tv_nsec;
    stress.milliseconds = argc > 3 ? (unsigned)stress_number(argv[3], 1, 604800000) : 1000;
    printf("%s %u %llu %u\n", stress.program, stress.threads, (unsigned long long)stress.seed,
           stress.milliseconds);
    fflush(stdout);
}

/* xorshift64*, one state per thread. */
static inline uint64_t stress_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

static inline uint64_t stress_seed(unsigned thread)
{
    uint64_t state = (stress.seed + 1) * UINT64_C(0x9E3779B97F4A7C15) + thread;
    return state ? state : 1;
}

struct stress_mark {
    unsigned given; /* in the structure under test, or its owner is about to put it there */
    uint64_t payload, check;
};

/* The caller, who owns the object, is about to hand it over. */
static inline void stress_give(struct stress_mark *mark)
{
    mark->payload++;
    mark->check = ~mark->payload;
    if (weir_xchg_relaxed(&mark->given, 1u) != 0)
        stress_fail("an object was given while somebody else had given it");
}

/* The caller has got the object from the structure under test. */
static inline void stress_take(struct stress_mark *mark)
{
    if (weir_xchg_relaxed(&mark->given, 0u) != 1)
        stress_fail("an object was handed out twice");
    if (mark->check != ~mark->payload)
        stress_fail("an object was handed out before what its last owner wrote was visible");
}

/*
 * Runs `thread` (given its number) in all threads for `milliseconds`. `interrupt`, if not NULL, is meanwhile run
 * thousands of times a second as a signal handler in whichever thread it hits, and interrupts itself too: to a
 * bounded depth, since where signals come faster than the handler ends, as in an emulator, the stack would not
 * hold them.
 */
enum { STRESS_DEPTH = 4 };
static void (*stress_interrupt)(void);
static _Thread_local volatile sig_atomic_t stress_depth, stress_raised;

static void stress_on_signal(int number)
{
    if (++stress_depth >= STRESS_DEPTH) { /* no deeper; the return unblocks it again */
        sigset_t deeper;
        sigemptyset(&deeper);
        sigaddset(&deeper, number);
        pthread_sigmask(SIG_BLOCK, &deeper, NULL);
    }
    if (stress_raised) {
        stress_raised = 0;
    } else {
        /* One more, which hits this handler itself. (Under ThreadSanitizer it comes after it.) */
        stress_raised = 1;
        raise(number);
    }
    stress_interrupt();
    stress_depth--;
}

static inline void stress_run(void *(*thread)(void *), unsigned milliseconds, void (*interrupt)(void))
{
    pthread_t threads[STRESS_MAX_THREADS];
    struct timespec span = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
    sigset_t blocked, before;

    weir_store_relaxed(&stress_stop, false);
    stress_interrupt = interrupt;
    struct sigaction action = {.sa_handler = stress_on_signal, .sa_flags = SA_RESTART | SA_NODEFER};
    sigaction(SIGALRM, &action, NULL);
    for (uintptr_t i = 0; i < stress.threads; i++)
        if (pthread_create(&threads[i], NULL, thread, (void *)i))
            stress_fail("cannot start thread %u", (unsigned)i);

    /* Not here, in the threads. */
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    if (interrupt)
        setitimer(ITIMER_REAL, &often, NULL);
    nanosleep(&span, NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    weir_store_relaxed(&stress_stop, true);
    for (unsigned i = 0; i < stress.threads; i++)
        pthread_join(threads[i], NULL);
    /* One that came too late for them is dropped before it could hit this thread. */
    signal(SIGALRM, SIG_IGN);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static inline bool stress_stopped(void)
{
    return weir_load_relaxed(&stress_stop);
}

#endif
