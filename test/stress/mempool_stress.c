/* SPDX-License-Identifier: MIT */
/*
 * A mempool whose allocator fails at random: threads, and a signal handler that interrupts them, allocate
 * and free, one and several at once, wait while they hold nothing, and one makes the reserve larger and
 * smaller. Every element is in one place. Who waits in line is woken by others only, never by the clock: a
 * wakeup that is lost, or two that wait for each other, and the program does not end.
 */
#include <string.h>

#include "stress.h"

#define FIXTURE_FAIL(...) stress_fail(__VA_ARGS__)
#include "fixtures.h"
#include "mempool.h"
#include "weir/mempool.h"

enum { LEAST = 2, MOST = 5, OBJECTS = 64, HOLD = 8, FAIL_PERCENT = 95 };

static struct backend backend;
static struct weir_mempool *pool;
static uint64_t calls;

static void *alloc_or_fail(void *arg)
{
    void *object;
    uint64_t random =
        (weir_fetch_add_relaxed(&calls, UINT64_C(1)) + stress.seed) * UINT64_C(0x9E3779B97F4A7C15) | 1;
    if (!stress_stopped() && stress_random(&random) % 100 < FAIL_PERCENT)
        return NULL;
    return backend_alloc(arg, 1, &object) != 0 ? object : NULL;
}

static void free_one(void *arg, void *element)
{
    backend_free(arg, 1, &element);
}

static size_t get(size_t n, void *elements[], unsigned flags)
{
    size_t got = weir_mempool_alloc_bulk(pool, n, elements, flags);
    if (got != n && (got != 0 || flags == WEIR_MEMPOOL_WAIT))
        stress_fail("%zu of %zu elements", got, n);
    for (size_t i = 0; i < got; i++)
        backend_own(&backend, elements[i]);
    return got;
}

static void put(size_t n, void *elements[])
{
    for (size_t i = 0; i < n; i++)
        backend_disown(elements[i]);
    if (n == 1)
        weir_mempool_free(pool, elements[0]);
    else
        weir_mempool_free_bulk(pool, n, elements);
}

static void interrupt(void)
{
    void *elements[2];
    size_t n = get(1 + (stress_depth & 1), elements, 0);
    put(n, elements);
}

static void *work(void *argument)
{
    unsigned self = (unsigned)(uintptr_t)argument;
    uint64_t random = stress_seed(self);
    void *held[HOLD + MOST];
    size_t n = 0;
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        size_t some = 1 + (dice >> 8) % (dice & 64 ? 1 : LEAST);
        if (self == 0 && dice % 32 == 0)
            weir_mempool_resize(pool, LEAST + (dice >> 16) % (MOST - LEAST + 1)); /* may find no memory */
        else if (n == 0 && dice % 4096 == 1) /* there may never be so many: no guarantee, but in the end */
            n = get(MOST, held, WEIR_MEMPOOL_WAIT);
        else if (n == 0)
            n = get(some, held, dice & 128 ? WEIR_MEMPOOL_WAIT : 0);
        else if (n + some <= HOLD && (dice >> 20 & 1))
            n += get(some, held + n, 0);
        else {
            some = some < n ? some : n;
            n -= some;
            put(some, held + n);
        }
    }
    put(n, held);
    return NULL;
}

int main(int argc, char **argv)
{
    struct weir_mempool_stats stats;
    stress_start(argc, argv);
    weir__mempool_clock = 0;
    backend_init(&backend, OBJECTS);
    stress_stop = true; /* the allocator does not fail */
    if (weir_mempool_create(&pool, LEAST, alloc_or_fail, free_one, &backend) != 0)
        stress_fail("cannot begin");
    stress_run(work, stress.milliseconds, interrupt);
    weir_mempool_stats(pool, &stats);
    if (stats.reserved != stats.min_nr || stats.waiting != 0)
        stress_fail("%zu of %zu are in the reserve, %zu wait", stats.reserved, stats.min_nr, stats.waiting);
    if (backend_lent(&backend) != stats.min_nr)
        stress_fail("%zu elements are out", backend_lent(&backend));
    printf("%llu from the reserve, %llu waits\n", (unsigned long long)stats.from_reserve,
           (unsigned long long)stats.waits);
    if (stats.from_reserve == 0)
        stress_fail("nobody needed the reserve");
    if (weir_mempool_destroy(pool) != 0)
        stress_fail("the mempool misses elements");
    backend_destroy(&backend);
    return 0;
}
