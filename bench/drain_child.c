/* SPDX-License-Identifier: MIT */
/* drain_child.c - a process in one per-CPU mode: the thread that drains, and the one that is drained. */
#define _GNU_SOURCE
#include "drain.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include <urcu/urcu-qsbr.h>

#define CAPACITY 124
#define PAIRS_IN_A_STEP 64 /* about as many operations as an average step of SWINGS */
#define LOOKS_IN_A_STEP 64 /* of the thread that looks at the clock */
#define LOOKS_PER_PAIR 4096
#define WARM_UP_SECONDS 0.01
#define BACKLOG 5.0    /* wake-ups */
#define SPIN_SLICES 20 /* a turn's length */
#define MARKS (2 * PAIRS_OF_SLICES + 1)

const struct way_type drain_ways[WAYS] = {
    [NOBODY] = {"nobody", "nobody drains", RSEQ, .quiescent_every = 1},
    [QUIET] = {"quiet", "QUIET", RSEQ, true, WEIR_DRAIN_QUIET, 1, false},
    [QUIET_16] = {"quiet-16", "QUIET, every 16 steps", RSEQ, true, WEIR_DRAIN_QUIET, 16, true},
    [QUIET_64] = {"quiet-64", "QUIET, every 64 steps", RSEQ, true, WEIR_DRAIN_QUIET, 64, true},
    [QUIET_256] = {"quiet-256", "QUIET, every 256 steps", RSEQ, true, WEIR_DRAIN_QUIET, 256, false},
    [QUIET_OWN] = {"quiet-own-256", "QUIET, own source, 256", OWN_SOURCE, true, WEIR_DRAIN_QUIET, 256, false},
    [EXPEDITED] = {"expedited", "EXPEDITED", RSEQ, true, WEIR_DRAIN_EXPEDITED, 1, false},
    [LOCKED] = {"lock", "LOCK", LOCK, true, WEIR_DRAIN_LOCK, 1, false},
};

bool drain_pin(unsigned cpu)
{
    bool pinned = false;
    size_t bytes = CPU_ALLOC_SIZE(cpu + 1);
    cpu_set_t *one = CPU_ALLOC(cpu + 1);
    if (one != NULL) {
        CPU_ZERO_S(bytes, one);
        CPU_SET_S(cpu, bytes, one);
        pinned = pthread_setaffinity_np(pthread_self(), bytes, one) == 0;
    }
    CPU_FREE(one);
    return pinned;
}

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

static void calibrate_ticks(void)
{
    const struct timespec time = {0, 50000000};
    double start = seconds_now();
    uint64_t first = ticks();
    nanosleep(&time, NULL);
    tick = (seconds_now() - start) / (double)(ticks() - first);
}

/* --- the backend: hands out numbers, each once, and sums up what comes back. Nothing is shared, nothing waits, so
 * what a drain costs is weir's own; a real backend's refills cost more. --- */

struct account {
    uint64_t objects, checksum;
};

static uint64_t last_number;
static struct account handed_out, taken_back; /* of all threads; relaxed sums */
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

/* --- readers --- */

/*
 * A source of grace periods that never has a reader wake it up, as liburcu's does when it has looked a hundred times: it
 * sleeps and looks again. For one reader at a time. Odd: it is online; each quiescent state adds 2.
 */
#define LOOK_EVERY_NANOSECONDS 20000

static uint64_t checkpoints WEIR_ALIGNED(WEIR_LINE_PAIR);

static void own_synchronize(void *unused)
{
    const struct timespec time = {0, LOOK_EVERY_NANOSECONDS};
    /* Acquire-release: ordered with the reader's on this word. If that one comes first, it has seen what the caller
     * did; else its next one shows here. */
    uint64_t before = weir_fetch_add_acq_rel(&checkpoints, UINT64_C(0));
    (void)unused;
    if (before % 2 == 0)
        return;
    while (weir_load_acquire(&checkpoints) == before)
        nanosleep(&time, NULL);
}

/* A read-modify-write, so that no later look at a slot can be ahead of it (on x86-64, the only machine that comes here).
 */
static void checkpoint(uint64_t step)
{
    weir_fetch_add_acq_rel(&checkpoints, step);
}

static bool own_source; /* of this process */

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

/* What it has done up to the end of a slice, and when; and when the next one began. */
struct mark {
    double end, start, refill_seconds;
    uint64_t operations, steps, refills, refilled;
    uint64_t voluntary, involuntary;
};

static struct {
    struct weir_cache *cache;
    struct drain_results *results;
    enum mix mix;
    unsigned quiescent_every; /* steps */
    struct spin_result *spin; /* the one that looks at the clock */
    struct mark mark[MARKS + 1];
    uint32_t slice WEIR_ALIGNED(WEIR_LINE_PAIR); /* which it is; MARKS: the end */
    uint32_t seen WEIR_ALIGNED(WEIR_LINE_PAIR);  /* by the busy thread; it starts at 0 */
} shared;

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
 * Objects that it holds: a random number from `base` on, less than a magazine's worth more; and `base` goes to and fro
 * over a magazine's worth. So boundaries between magazines lie everywhere in turn, and a slice does not depend on where
 * a drain has left them.
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
    struct mark *mark = &shared.mark[slice];
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
    weir_store_release(&shared.seen, slice + 1); /* the mark is there: pairs with wait_for_mark() */
}

ALWAYS_INLINE void busy_loop(enum mix mix)
{
    static struct swing swing;
    struct weir_cache *cache = shared.cache;
    uint64_t operations = 0, steps = 0;
    uint32_t slice = UINT32_MAX;

    while (slice != MARKS) {
        uint32_t now = weir_load_relaxed(&shared.slice); /* relaxed: the time matters, nothing else */
        if (weir_unlikely(now != slice))
            set_mark(slice = now, operations, steps);
        operations += mix == PAIRS ? pairs_step(cache) : swing_step(cache, &swing);
        if (++steps % shared.quiescent_every == 0)
            quiescent();
    }
    while (swing.held != 0)
        weir_cache_free(cache, swing.object[--swing.held]);
}

static void *busy_main(void *unused)
{
    (void)unused;
    drain_pin(shared.results->busy_cpu);
    reader_begin();
    refills = refilled = refill_ticks = 0;
    if (shared.mix == PAIRS)
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
 * Now and then it uses the cache, so that there is something to drain. That is not timed as a gap: it would find the
 * price of a refill, not interruptions. Quiescent states are: they may make a system call.
 */
static void *spin_main(void *unused)
{
    struct spin_result *spin = shared.spin;
    const uint64_t threshold = (uint64_t)(1e-6 / tick);
    uint64_t last, now;
    uint32_t slice = UINT32_MAX;

    (void)unused;
    drain_pin(shared.results->busy_cpu);
    reader_begin();
    last = ticks();
    for (uint64_t look = 0; slice != 1; look++) {
        if (look % LOOKS_IN_A_STEP == 0 && look / LOOKS_IN_A_STEP % shared.quiescent_every == 0)
            quiescent();
        now = ticks();
        if (weir_unlikely(now - last >= threshold) && slice == 0)
            note_gap(spin, now - last);
        last = now;
        if (look % LOOKS_PER_PAIR == 0) {
            weir_cache_free(shared.cache, use(weir_cache_alloc(shared.cache)));
            now = ticks();
            if (slice == 0)
                spin->refill_seconds += (double)(now - last) * tick;
            last = now;
        }
        if (weir_unlikely(weir_load_relaxed(&shared.slice) != slice)) {
            set_mark(slice = weir_load_relaxed(&shared.slice), look, 0);
            last = ticks();
        }
    }
    reader_end();
    return NULL;
}

/* --- the thread that drains --- */

static void start(pthread_t *thread, void *(*body)(void *))
{
    weir_store_relaxed(&shared.seen, 0u);
    if (pthread_create(thread, NULL, body, NULL) != 0) {
        perror("weir-bench-drain: pthread_create");
        _exit(1);
    }
}

static void sleep_until(double when)
{
    const struct timespec time = {(time_t)when, (long)((when - (double)(time_t)when) * 1e9)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* The busy thread has noticed that a slice has begun. */
static void wait_for_mark(uint32_t slice)
{
    while (weir_load_acquire(&shared.seen) != slice + 1)
        sleep_until(seconds_now() + 20e-6);
}

struct drained {
    uint64_t drains, empty, objects;
    double seconds;
};

/* Wakes up `rate` times a second, and drains or does not. What it is late with it makes up for, up to a point. */
static struct drained run_slice(double seconds, const struct way_type *type, bool drains,
                                struct way_result *result)
{
    struct drained drained = {0, 0, 0, 0};
    double start = seconds_now(), now = start, next = now, end = now + seconds;
    while (now < end) {
        if (drains) {
            size_t objects = weir_cache_drain_cpu(shared.cache, shared.results->busy_cpu, type->how);
            double after = seconds_now();
            if (result != NULL && result->latencies < LATENCIES_MAX)
                result->latency[result->latencies++] = (float)((after - now) * 1e6);
            drained.drains++;
            drained.empty += objects == 0;
            drained.objects += objects;
            now = after;
        }
        next += 1.0 / shared.results->rate;
        if (next > now)
            sleep_until(next);
        now = seconds_now();
        if (next < now - BACKLOG / shared.results->rate)
            next = now;
    }
    drained.seconds = now - start;
    return drained;
}

/* Time per operation in a slice; nanoseconds. */
static double slice_cost(unsigned slice)
{
    const struct mark *from = &shared.mark[slice], *to = &shared.mark[slice + 1];
    return (to->end - from->start) * 1e9 / ((double)(to->operations - from->operations) / 2);
}

static void add_slice(struct slices_result *result, unsigned slice, bool drains,
                      const struct drained *drained)
{
    const struct mark *from = &shared.mark[slice], *to = &shared.mark[slice + 1];
    if (!drains) {
        result->voluntary_without += to->voluntary - from->voluntary;
        result->involuntary_without += to->involuntary - from->involuntary;
        result->quiescent_every =
            (to->end - from->start) / (double)(to->steps - from->steps) * shared.quiescent_every;
        return;
    }
    result->seconds += to->end - from->start;
    result->drain_seconds += drained->seconds;
    result->drains += drained->drains;
    result->empty += drained->empty;
    result->objects += drained->objects;
    result->refills += to->refills - from->refills;
    result->refilled += to->refilled - from->refilled;
    result->refill_seconds += to->refill_seconds - from->refill_seconds;
    result->voluntary += to->voluntary - from->voluntary;
    result->involuntary += to->involuntary - from->involuntary;
}

/* Which slice of a pair is the one with drains: 0 or 1. */
static unsigned place_of_drains(unsigned pair)
{
    return (pair + shared.results->round) % 2;
}

/* Slices with and without, in pairs; which comes first changes. Those of NOBODY are all without: what is left is the
 * noise of the measurement. */
static void turn_slices(enum way way, enum mix mix)
{
    const struct way_type *type = &drain_ways[way];
    struct way_result *result = &shared.results->way[way];
    struct slices_result *slices = &result->slices[mix];
    struct drained drained[MARKS];
    double seconds = shared.results->slice * 1e-3;
    pthread_t thread;

    shared.mix = mix;
    shared.quiescent_every = type->quiescent_every;
    weir_store_relaxed(&shared.slice, 0u);
    start(&thread, busy_main);
    wait_for_mark(0);
    run_slice(WARM_UP_SECONDS, type, type->drains, NULL);
    for (uint32_t slice = 0; slice < MARKS - 1; slice++) {
        bool drains = slice % 2 == place_of_drains(slice / 2);
        weir_store_relaxed(&shared.slice, slice + 1);
        wait_for_mark(slice + 1);
        drained[slice] = run_slice(seconds, type, drains && type->drains, result);
    }
    weir_store_relaxed(&shared.slice, (uint32_t)MARKS);
    pthread_join(thread, NULL);

    for (unsigned pair = 0; pair < PAIRS_OF_SLICES; pair++) {
        unsigned first = 2 * pair + 1; /* 0 was for warming up */
        unsigned with = first + place_of_drains(pair), without = 2 * first + 1 - with;
        unsigned n = slices->pairs++;
        slices->with[n] = slice_cost(with);
        slices->without[n] = slice_cost(without);
        slices->ratio[n] = slices->with[n] / slices->without[n] - 1;
        add_slice(slices, with, true, &drained[with - 1]);
        add_slice(slices, without, false, NULL);
    }
}

/* Interrupts of the busy CPU so far. */
static bool count_interrupts(uint64_t *all, uint64_t *calls)
{
    char line[16384], name[24];
    unsigned column = 0;
    bool found = false;
    FILE *file = fopen("/proc/interrupts", "r");

    *all = *calls = 0;
    if (file == NULL)
        return false;
    snprintf(name, sizeof name, "CPU%u", shared.results->busy_cpu);
    if (fgets(line, sizeof line, file) != NULL)
        for (char *word = strtok(line, " \n"); word != NULL && !found; word = strtok(NULL, " \n")) {
            found = strcmp(word, name) == 0;
            column++;
        }
    while (found && fgets(line, sizeof line, file) != NULL) {
        char *at = strchr(line, ':');
        unsigned long long count = 0;
        for (unsigned i = 0; at != NULL && i < column; i++)
            count = strtoull(at + 1, &at, 10), at--;
        *all += count;
        if (strstr(line, "Function call") != NULL)
            *calls += count;
    }
    fclose(file);
    return found;
}

static void turn_spin(enum way way)
{
    const struct way_type *type = &drain_ways[way];
    struct spin_result *spin = &shared.results->way[way].spin;
    const uint64_t gaps = spin->gaps;
    const double lost = spin->lost;
    const struct mark *from = &shared.mark[0], *to = &shared.mark[1];
    uint64_t all[2], calls[2];
    pthread_t thread;

    shared.spin = spin;
    shared.quiescent_every = type->quiescent_every;
    weir_store_relaxed(&shared.slice, 2u);
    start(&thread, spin_main);
    wait_for_mark(2);
    run_slice(WARM_UP_SECONDS, type, type->drains, NULL);
    shared.results->interrupts_known = count_interrupts(&all[0], &calls[0]);
    weir_store_relaxed(&shared.slice, 0u);
    wait_for_mark(0);
    struct drained drained =
        run_slice(SPIN_SLICES * 1e-3 * shared.results->slice, type, type->drains, &shared.results->way[way]);
    weir_store_relaxed(&shared.slice, 1u);
    pthread_join(thread, NULL);
    count_interrupts(&all[1], &calls[1]);

    double seconds = to->end - from->start;
    spin->seconds += seconds;
    spin->looks += to->operations - from->operations;
    spin->drains += drained.drains;
    spin->voluntary += to->voluntary - from->voluntary;
    spin->involuntary += to->involuntary - from->involuntary;
    spin->interrupts += all[1] - all[0];
    spin->calls += calls[1] - calls[0];
    spin->gaps_per_second[spin->turns] = (double)(spin->gaps - gaps) / seconds;
    spin->lost_per_second[spin->turns] = (spin->lost - lost) / seconds;
    spin->involuntary_per_second[spin->turns] = (double)(to->involuntary - from->involuntary) / seconds;
    spin->calls_per_second[spin->turns] = (double)(calls[1] - calls[0]) / seconds;
    spin->turn_seconds[spin->turns] = seconds;
    spin->turns++;
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
static void *fast_main(void *arg)
{
    struct fast_result *result = arg;
    struct weir_cache *cache = shared.cache;
    double figure[4][FAST_REPEATS];
    void *objects[BULK];

    drain_pin(shared.results->busy_cpu);
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
        unsigned round = shared.results->round;
        result->cache[bulk][round] = spread_of(figure[2 * bulk], FAST_REPEATS).median;
        result->lifo[bulk][round] = spread_of(figure[2 * bulk + 1], FAST_REPEATS).median;
    }
    return NULL;
}

static void turn_fast(enum process process)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, fast_main, &shared.results->fast[process]) == 0)
        pthread_join(thread, NULL);
}

/* --- the process --- */

/*
 * The affinity is narrowed before the cache is made: the library's helper thread (weir-grace) inherits it, and stays
 * off the busy CPU. Only the busy thread goes there. This is how an isolated CPU is used.
 */
static bool set_up(struct drain_results *results, enum process process)
{
    static const struct weir_cache_ops ops = {backend_alloc, backend_free};
    static const struct weir_grace_source own = {.name = "checkpoints", .synchronize = own_synchronize};
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    char *missing = results->missing[process];

    if (process == LOCK)
        setenv("WEIR_PERCPU", "lock", 1);
    else
        unsetenv("WEIR_PERCPU");
    drain_pin(results->drainer_cpu);
    prctl(PR_SET_TIMERSLACK, 1UL); /* wake up when asked to */
    calibrate_ticks();
    config.ops = &ops;
    config.capacity = CAPACITY;
    config.registered_users = true;
    own_source = process == OWN_SOURCE;
    int error = own_source ? weir_grace_create(&config.grace, &own) : 0;
    if (error == 0)
        error = weir_cache_create(&shared.cache, &config);
    weir_grace_put(config.grace); /* the cache has its own reference */
    if (error != 0)
        snprintf(missing, 160, "not run: no cache: %s", strerror(-error));
    else if (weir_percpu_mode() != (process == LOCK ? WEIR_PERCPU_LOCK : WEIR_PERCPU_RSEQ))
        snprintf(missing, 160, "not run: %.140s", weir_percpu_reason());
    return missing[0] == '\0';
}

/* Everything that was handed out has come back, once. */
static void check_objects(struct drain_results *results, enum process process)
{
    weir_cache_destroy(shared.cache);
    if (handed_out.objects != taken_back.objects || handed_out.checksum != taken_back.checksum)
        snprintf(results->failure, sizeof results->failure,
                 "%s mode: %llu objects were handed out, %llu came back%s", process == LOCK ? "lock" : "rseq",
                 (unsigned long long)handed_out.objects, (unsigned long long)taken_back.objects,
                 handed_out.objects == taken_back.objects ? ", not the same ones" : "");
}

void drain_child(void *arg)
{
    const struct drain_child *child = arg;
    struct drain_results *results = child->results;
    bool usable = false;

    shared.results = results;
    for (char request; (request = child_request()) != '\0'; child_answer()) {
        unsigned code = (unsigned)request - 1;
        enum mix mix = code % MIXES;
        enum way way = code / MIXES % WAYS;
        switch (code / MIXES / WAYS) {
        case TURN_BEGIN:
            usable = set_up(results, child->process);
            break;
        case TURN_FAST:
            if (usable)
                turn_fast(child->process);
            break;
        case TURN_SLICES:
            turn_slices(way, mix);
            break;
        case TURN_SPIN:
            turn_spin(way);
            break;
        default:
            if (usable)
                check_objects(results, child->process);
        }
    }
}
