/* SPDX-License-Identifier: MIT */
/* drain_busy.c - the threads on the CPU that is drained, and what they use: a backend, and readers' marks. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <urcu/urcu-qsbr.h>

#include "drain_threads.h"

#define PAIRS_IN_A_STEP 64 /* about as many operations as an average step of SWINGS */
#define LOOKS_IN_A_STEP 64 /* of the thread that looks at the clock */
#define LOOKS_PER_PAIR 4096

struct drain_shared drain_shared;

/* --- the clock of the gaps --- */

#ifdef __x86_64__
static inline uint64_t ticks(void)
{
    return __builtin_ia32_rdtsc();
}
#else
static inline uint64_t ticks(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
#endif

static double tick; /* seconds */

void drain_calibrate(void)
{
    const struct timespec time = {0, 50000000};
    double start = seconds_now();
    uint64_t first = ticks();
    nanosleep(&time, NULL);
    tick = (seconds_now() - start) / (double)(ticks() - first);
}

/* --- the backend: hands out numbers, each once, and sums up what comes back. Nothing waits there, so what a
 * drain costs is weir's own; a real backend's refills cost more. --- */

struct account {
    uint64_t objects, checksum;
};

static uint64_t last_number;
/* Of all threads; relaxed sums. On lines of their own: one is the busy thread's, mostly, and one the
 * drainer's. */
static struct account handed_out WEIR_ALIGNED(WEIR_LINE_PAIR), taken_back WEIR_ALIGNED(WEIR_LINE_PAIR);
static __thread uint64_t refills, refilled, refill_ticks;

static uint64_t check(const void *object)
{
    uint64_t number = (uintptr_t)object;
    return number * number;
}

static void enter(struct account *account, size_t n, void *const objects[])
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += check(objects[i]);
    weir_fetch_add_relaxed(&account->objects, (uint64_t)n);
    weir_fetch_add_relaxed(&account->checksum, sum);
}

static size_t backend_alloc(void *backend, size_t n, void *objects[])
{
    uint64_t start = ticks();
    uint64_t number = weir_fetch_add_relaxed(&last_number, (uint64_t)n); /* relaxed: only to be different */
    (void)backend;
    for (size_t i = 0; i < n; i++)
        objects[i] = (void *)(uintptr_t)(number + i + 1);
    enter(&handed_out, n, objects);
    refills++;
    refilled += n;
    refill_ticks += ticks() - start;
    return n;
}

static void backend_free(void *backend, size_t n, void *objects[])
{
    (void)backend;
    enter(&taken_back, n, objects);
}

const struct weir_cache_ops drain_backend = {backend_alloc, backend_free};

bool drain_backend_is_even(uint64_t *out, uint64_t *back)
{
    *out = weir_load_relaxed(&handed_out.objects);
    *back = weir_load_relaxed(&taken_back.objects);
    return *out == *back &&
           weir_load_relaxed(&handed_out.checksum) == weir_load_relaxed(&taken_back.checksum);
}

/* --- readers --- */

/*
 * A source of grace periods that never has a reader wake it up, as liburcu's does when it has looked a
 * hundred times: it sleeps and looks again. For one reader at a time. Odd: it is online; each quiescent state
 * adds 2.
 */
#define LOOK_EVERY_NANOSECONDS 20000

static uint64_t checkpoints WEIR_ALIGNED(WEIR_LINE_PAIR);

static void own_synchronize(void *unused)
{
    const struct timespec time = {0, LOOK_EVERY_NANOSECONDS};
    /* Acquire-release: ordered with the reader's on this word. If that one comes first, it has seen what
     * the caller did; else its next one shows here. */
    uint64_t before = weir_fetch_add_acq_rel(&checkpoints, UINT64_C(0));
    (void)unused;
    if (before % 2 == 0)
        return;
    while (weir_load_acquire(&checkpoints) == before)
        nanosleep(&time, NULL);
}

const struct weir_grace_source drain_own_source = {.name = "checkpoints", .synchronize = own_synchronize};

/* A read-modify-write, so that no later look at a slot can be ahead of it (on x86-64, the only machine
 * that comes here). */
static void checkpoint(uint64_t step)
{
    weir_fetch_add_acq_rel(&checkpoints, step);
}

static bool own_source; /* of this process */

void drain_readers(bool own)
{
    own_source = own;
}

static void reader_begin(void)
{
    if (own_source)
        checkpoint(1);
    else
        urcu_qsbr_register_thread();
}

static void reader_end(void)
{
    if (own_source)
        checkpoint(1);
    else
        urcu_qsbr_unregister_thread();
}

static inline void quiescent(void)
{
    if (own_source)
        checkpoint(2);
    else
        urcu_qsbr_quiescent_state();
}

/* --- the busy thread --- */

static inline void *use(void *object)
{
    __asm__ __volatile__("" : "+r"(object) : : "memory");
    return object;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/*
 * Objects that it holds: a random number from `base` on, less than a magazine's worth more; and `base` goes
 * to and fro over a magazine's worth. So boundaries between magazines lie everywhere in turn, and a slice
 * does not depend on where a drain has left them.
 */
struct swing {
    unsigned held, base;
    bool down;
    uint64_t random;
    void *object[2 * CAPACITY];
};

/* Returns how many objects it has allocated or freed. */
static inline unsigned swing_step(struct weir_cache *cache, struct swing *swing)
{
    unsigned before = swing->held;
    unsigned target = swing->base + (unsigned)((next_random(&swing->random) * CAPACITY) >> 31);
    swing->base += swing->down ? -1u : 1u;
    if (swing->base == 0 || swing->base == CAPACITY)
        swing->down = !swing->down;
    if (target > before) {
        while (swing->held < target)
            swing->object[swing->held++] = weir_cache_alloc(cache);
        return target - before;
    }
    while (swing->held > target)
        weir_cache_free(cache, swing->object[--swing->held]);
    return before - target;
}

static inline unsigned pairs_step(struct weir_cache *cache)
{
    for (unsigned i = 0; i < PAIRS_IN_A_STEP; i++)
        weir_cache_free(cache, use(weir_cache_alloc(cache)));
    return 2 * PAIRS_IN_A_STEP;
}

static void set_mark(uint32_t slice, uint64_t operations, uint64_t steps)
{
    struct rusage usage;
    struct mark *mark = &drain_shared.mark[slice];
    mark->end = seconds_now();
    getrusage(RUSAGE_THREAD, &usage);
    mark->voluntary = (uint64_t)usage.ru_nvcsw;
    mark->involuntary = (uint64_t)usage.ru_nivcsw;
    mark->operations = operations;
    mark->steps = steps;
    mark->refills = refills;
    mark->refilled = refilled;
    mark->refill_seconds = (double)refill_ticks * tick;
    mark->start = seconds_now();
    weir_store_release(&drain_shared.seen, slice + 1); /* the mark is there: pairs with wait_for_mark() */
}

ALWAYS_INLINE void busy_loop(enum mix mix)
{
    static struct swing swing;
    struct weir_cache *cache = drain_shared.cache;
    uint64_t operations = 0, steps = 0;
    uint32_t slice = UINT32_MAX;

    while (slice != MARKS) {
        uint32_t now = weir_load_relaxed(&drain_shared.slice); /* relaxed: the time matters, nothing else */
        if (weir_unlikely(now != slice))
            set_mark(slice = now, operations, steps);
        operations += mix == PAIRS ? pairs_step(cache) : swing_step(cache, &swing);
        if (++steps % drain_shared.quiescent_every == 0)
            quiescent();
    }
    while (swing.held != 0)
        weir_cache_free(cache, swing.object[--swing.held]);
}

void *drain_busy_main(void *unused)
{
    (void)unused;
    drain_pin(drain_shared.results->busy_cpu);
    reader_begin();
    refills = refilled = refill_ticks = 0;
    if (drain_shared.mix == PAIRS)
        busy_loop(PAIRS);
    else
        busy_loop(SWINGS);
    reader_end();
    return NULL;
}

/* --- the thread that looks at the clock --- */

static void note_gap(struct spin_result *spin, uint64_t gap)
{
    double microseconds = (double)gap * tick * 1e6, limit = 1;
    unsigned bucket = 0;
    while (bucket < GAP_BUCKETS - 1) {
        limit *= GAP_FACTOR;
        if (microseconds < limit)
            break;
        bucket++;
    }
    spin->bucket[spin->turns][bucket]++;
    spin->gaps++;
    spin->lost += microseconds * 1e-6;
    if (microseconds * 1e-6 > spin->longest)
        spin->longest = microseconds * 1e-6;
}

/*
 * Now and then it uses the cache, so that there is something to drain. That is not timed as a gap: it would
 * find the price of a refill, not interruptions. Quiescent states are: they may make a system call.
 */
void *drain_spin_main(void *unused)
{
    struct spin_result *spin = drain_shared.spin;
    const uint64_t threshold = (uint64_t)(1e-6 / tick);
    uint64_t last, now;
    uint32_t slice = UINT32_MAX;

    (void)unused;
    drain_pin(drain_shared.results->busy_cpu);
    reader_begin();
    last = ticks();
    for (uint64_t look = 0; slice != 1; look++) {
        if (look % LOOKS_IN_A_STEP == 0 && look / LOOKS_IN_A_STEP % drain_shared.quiescent_every == 0)
            quiescent();
        now = ticks();
        if (weir_unlikely(now - last >= threshold) && slice == 0)
            note_gap(spin, now - last);
        last = now;
        if (look % LOOKS_PER_PAIR == 0) {
            weir_cache_free(drain_shared.cache, use(weir_cache_alloc(drain_shared.cache)));
            now = ticks();
            if (slice == 0)
                spin->refill_seconds += (double)(now - last) * tick;
            last = now;
        }
        if (weir_unlikely(weir_load_relaxed(&drain_shared.slice) != slice)) {
            set_mark(slice = weir_load_relaxed(&drain_shared.slice), look, 0);
            last = ticks();
        }
    }
    reader_end();
    return NULL;
}

/* --- the fast path, with nobody draining --- */

#define FAST_PAIRS 20000
#define FAST_REPEATS 15

/* The least that one can do: a pointer array that belongs to the thread. */
static __thread struct {
    size_t count;
    void *object[CAPACITY];
} lifo;

static inline void *lifo_alloc(void)
{
    return lifo.count != 0 ? lifo.object[--lifo.count] : NULL;
}

static inline void lifo_free(void *object)
{
    if (weir_likely(lifo.count < CAPACITY))
        lifo.object[lifo.count++] = object;
}

static __attribute__((noinline)) size_t lifo_alloc_bulk(size_t n, void *objects[])
{
    if (n > lifo.count)
        n = lifo.count;
    lifo.count -= n;
    memcpy(objects, &lifo.object[lifo.count], n * sizeof objects[0]);
    return n;
}

static __attribute__((noinline)) void lifo_free_bulk(size_t n, void *objects[])
{
    if (n > CAPACITY - lifo.count)
        n = CAPACITY - lifo.count;
    memcpy(&lifo.object[lifo.count], objects, n * sizeof objects[0]);
    lifo.count += n;
}

/* Nanoseconds per pair of cache and LIFO, by turns; the medians of some repeats. */
void *drain_fast_main(void *arg)
{
    struct fast_result *result = arg;
    struct weir_cache *cache = drain_shared.cache;
    double figure[4][FAST_REPEATS];
    void *objects[BULK];

    drain_pin(drain_shared.results->busy_cpu);
    reader_begin();
    for (lifo.count = 0; lifo.count < CAPACITY / 2; lifo.count++)
        lifo.object[lifo.count] = &lifo;
    weir_cache_free_bulk(cache, BULK, (weir_cache_alloc_bulk(cache, BULK, objects), objects));
    for (unsigned repeat = 0; repeat < FAST_REPEATS; repeat++) {
        double start[5];
        start[0] = seconds_now();
        for (unsigned i = 0; i < FAST_PAIRS; i++)
            weir_cache_free(cache, use(weir_cache_alloc(cache)));
        start[1] = seconds_now();
        for (unsigned i = 0; i < FAST_PAIRS; i++)
            lifo_free(use(lifo_alloc()));
        start[2] = seconds_now();
        for (unsigned i = 0; i < FAST_PAIRS / 4; i++)
            weir_cache_free_bulk(cache, weir_cache_alloc_bulk(cache, BULK, objects), use(objects));
        start[3] = seconds_now();
        for (unsigned i = 0; i < FAST_PAIRS / 4; i++)
            lifo_free_bulk(lifo_alloc_bulk(BULK, objects), use(objects));
        start[4] = seconds_now();
        for (unsigned i = 0; i < 4; i++)
            figure[i][repeat] =
                (start[i + 1] - start[i]) * 1e9 / (i < 2 ? FAST_PAIRS : (double)BULK * (FAST_PAIRS / 4));
        quiescent();
    }
    reader_end();
    for (unsigned bulk = 0; bulk < 2; bulk++) {
        unsigned round = drain_shared.results->round;
        result->cache[bulk][round] = spread_of(figure[2 * bulk], FAST_REPEATS).median;
        result->lifo[bulk][round] = spread_of(figure[2 * bulk + 1], FAST_REPEATS).median;
    }
    return NULL;
}
