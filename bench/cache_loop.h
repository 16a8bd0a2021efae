/* SPDX-License-Identifier: MIT */
/* cache_loop.h - the loops that bench/cache times with one thread, called or inlined; pairs are
 * pair_loop.h's. */
#ifndef BENCH_CACHE_LOOP_H
#define BENCH_CACHE_LOOP_H

#include "cache.h"

extern size_t cache_object_bytes; /* cache_cell.c */

#define PAIR_BYTES cache_object_bytes
#include "pair_loop.h"

#define BULK_COUNT PAIR_COUNT /* objects in one measurement */

/* Nanoseconds per pair. Spelled out, so that length and touch are constants wherever the functions are
 * inlined. */
ALWAYS_INLINE double pairs_of(pair_alloc_function alloc, pair_free_function free_it, unsigned run, bool touch)
{
    if (run == 1)
        return touch ? pair_time(alloc, free_it, 1, true) : pair_time(alloc, free_it, 1, false);
    return run == 8 ? pair_time(alloc, free_it, 8, false) : pair_time(alloc, free_it, 64, false);
}

ALWAYS_INLINE void bulk_repeat(bool (*alloc_bulk)(size_t n, void *objects[]),
                               void (*free_bulk)(size_t n, void *objects[]), unsigned n, unsigned objects)
{
    void *held[CACHE_BULK_MAX];
    for (unsigned i = 0; i < objects; i += n) {
        if (weir_unlikely(!alloc_bulk(n, held)))
            return;
        __asm__ __volatile__(""
                             :
                             : "r"(held)
                             : "memory"); /* the compiler does not know what happens to them */
        free_bulk(n, held);
    }
}

/* Nanoseconds per object. */
ALWAYS_INLINE double bulk_time(bool (*alloc_bulk)(size_t n, void *objects[]),
                               void (*free_bulk)(size_t n, void *objects[]), unsigned n, unsigned count)
{
    bulk_repeat(alloc_bulk, free_bulk, n, count / 20);
    double start = seconds_now();
    bulk_repeat(alloc_bulk, free_bulk, n, count);
    return (seconds_now() - start) * 1e9 / ((count + n - 1) / n * n);
}

/* The numbers are constants here too. */
ALWAYS_INLINE double bulk_of(bool (*alloc_bulk)(size_t n, void *objects[]),
                             void (*free_bulk)(size_t n, void *objects[]), unsigned n, unsigned count)
{
    if (n == 8)
        return bulk_time(alloc_bulk, free_bulk, 8, count);
    return n == 32 ? bulk_time(alloc_bulk, free_bulk, 32, count)
                   : bulk_time(alloc_bulk, free_bulk, 128, count);
}

/* Called functions: which they are is hidden from the compiler. */
static __attribute__((noinline, unused)) double
pairs_called(pair_alloc_function alloc, pair_free_function free_it, unsigned run, bool touch)
{
    __asm__ __volatile__("" : "+r"(alloc), "+r"(free_it));
    return pairs_of(alloc, free_it, run, touch);
}

static __attribute__((noinline, unused)) double bulk_called(bool (*alloc_bulk)(size_t n, void *objects[]),
                                                            void (*free_bulk)(size_t n, void *objects[]),
                                                            unsigned n, unsigned count)
{
    __asm__ __volatile__("" : "+r"(alloc_bulk), "+r"(free_bulk));
    return bulk_of(alloc_bulk, free_bulk, n, count);
}

#endif /* BENCH_CACHE_LOOP_H */
