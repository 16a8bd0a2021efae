/* SPDX-License-Identifier: MIT */
/*
 * pair_loop.h - the alloc + free pair, timed in the same way for every contender.
 *
 * Each contender is a process of its own, with one idle thread beside the busy one (allocators are allowed to
 * be faster while there is only one thread, and no program that needs one of these has only one). All stay
 * alive, and weir-bench lets them run one after the other, a few milliseconds each, round after round, so
 * that whatever else the machine does hits all of them alike. A contender waits for a byte on standard input,
 * runs a round, and writes a struct pair_times to file descriptor PAIR_FD.
 */
#ifndef BENCH_PAIR_LOOP_H
#define BENCH_PAIR_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#ifndef PAIR_BYTES /* bench/cache: a variable */
#define PAIR_BYTES 4096
#endif
#define PAIR_FD 3
#define PAIR_COUNT 100000 /* pairs of one kind in one round */
#define PAIR_WARM_UP 5000
#define PAIR_RUN_MAX 64

/* The size is for malloc; everybody else knows it. */
typedef void *(*pair_alloc_function)(size_t bytes);
typedef void (*pair_free_function)(void *object);

/* Alternating; runs of 8 allocs and then 8 frees; runs of 64. */
static const unsigned pair_run_length[] = {1, 8, 64};
#define PAIR_PATTERNS 3

/* Nanoseconds per pair; [1]: the first byte is written. */
struct pair_times {
    double ns[PAIR_PATTERNS][2];
};

#define PAIR_INLINE static inline __attribute__((always_inline))

/* The compiler does not know what happens to the object here, so it can neither drop nor merge anything. */
PAIR_INLINE void *pair_use(void *object, bool touch)
{
    if (touch)
        *(volatile char *)object = 1;
    __asm__ __volatile__("" : "+r"(object) : : "memory");
    return object;
}

PAIR_INLINE void pair_repeat(pair_alloc_function alloc, pair_free_function free_it, unsigned run, bool touch,
                             unsigned pairs)
{
    void *held[PAIR_RUN_MAX];
    if (run == 1) {
        for (unsigned i = 0; i < pairs; i++)
            free_it(pair_use(alloc(PAIR_BYTES), touch));
        return;
    }
    for (unsigned i = 0; i < pairs; i += run) {
        for (unsigned k = 0; k < run; k++)
            held[k] = pair_use(alloc(PAIR_BYTES), touch);
        for (unsigned k = 0; k < run; k++)
            free_it(held[k]);
    }
}

PAIR_INLINE double pair_time(pair_alloc_function alloc, pair_free_function free_it, unsigned run, bool touch)
{
    struct timespec start, end;
    pair_repeat(alloc, free_it, run, touch, PAIR_WARM_UP);
    clock_gettime(CLOCK_MONOTONIC, &start);
    pair_repeat(alloc, free_it, run, touch, PAIR_COUNT);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double ns = 1e9 * (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec);
    return ns / ((PAIR_COUNT + run - 1) / run * run);
}

/* A round: with functions the compiler sees, they are inlined. */
PAIR_INLINE void pair_round(struct pair_times *times, pair_alloc_function alloc, pair_free_function free_it)
{
    /* Spelled out, so that length and touch are constants wherever the functions are inlined. */
    times->ns[0][0] = pair_time(alloc, free_it, 1, false);
    times->ns[0][1] = pair_time(alloc, free_it, 1, true);
    times->ns[1][0] = pair_time(alloc, free_it, 8, false);
    times->ns[1][1] = pair_time(alloc, free_it, 8, true);
    times->ns[2][0] = pair_time(alloc, free_it, 64, false);
    times->ns[2][1] = pair_time(alloc, free_it, 64, true);
}

/* A round of called functions: each contender pays for the same two indirect calls. */
static __attribute__((noinline, unused)) void
pair_round_called(struct pair_times *times, pair_alloc_function alloc, pair_free_function free_it)
{
    __asm__ __volatile__("" : "+r"(alloc), "+r"(free_it)); /* hides which functions they are */
    pair_round(times, alloc, free_it);
}

static void *pair_idle(void *arg)
{
    for (;;)
        pause();
    return arg;
}

/* Answers the requests for rounds until there are no more. False if something failed. */
static inline bool pair_serve(void (*round)(struct pair_times *times))
{
    struct pair_times times;
    pthread_t idle;
    char request;

    if (pthread_create(&idle, NULL, pair_idle, NULL) != 0)
        return false;
    while (read(STDIN_FILENO, &request, 1) == 1) {
        round(&times);
        if (write(PAIR_FD, &times, sizeof times) != (ssize_t)sizeof times)
            return false;
    }
    return true;
}

#endif /* BENCH_PAIR_LOOP_H */
