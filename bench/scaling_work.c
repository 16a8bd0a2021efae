/* SPDX-License-Identifier: MIT */
/* scaling_work.c - the workloads of weir-bench-scaling, run by pinned threads in short slices. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "scaling.h"

#define RING 512 /* objects on their way from one thread to another */
#define BATCH 64 /* ... handed over at once */
#define WALK_MAX 512
#define SPINS 2000 /* before a waiting end of a pipe offers its CPU to others */

/* One writes, one reads. */
struct ring {
    uint32_t head WEIR_ALIGNED(WEIR_LINE_PAIR); /* written so far */
    uint32_t tail WEIR_ALIGNED(WEIR_LINE_PAIR); /* read so far */
    void *slot[RING] WEIR_ALIGNED(WEIR_LINE_PAIR);
};

struct worker {
    pthread_t thread;
    struct crew *crew;
    unsigned number, cpu_number;
    uint64_t pairs, random;
    double cpu, wall; /* of the last slice */
    struct tally tally;
    size_t depth;
    void **held;
    struct ring *ring;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

struct crew {
    const struct job *job;
    const struct machine *machine;
    struct weir_cache *cache;
    unsigned swing, cpus;
    struct worker *worker;
    struct ring *rings;
    void (*tally_begin)(const struct weir_cache *cache, unsigned domain, struct tally *tally);
    pthread_barrier_t line;
    uint32_t stop WEIR_ALIGNED(WEIR_LINE_PAIR);
    bool end WEIR_ALIGNED(WEIR_LINE_PAIR);
};

static const struct {
    const char *id, *name;
} names[WORKLOADS] = {
    [PAIRS] = {"pairs", "alternating pairs"},
    [WALK_64] = {"walk-64", "random walk, up to 64 objects"},
    [WALK_512] = {"walk-512", "random walk, up to 512 objects"},
    [CROWD] = {"crowd", "64 threads, each up to 512 objects"},
    [PIPE] = {"pipe", "pipe from one CPU to another"},
    [SWING] = {"swing", "8 magazines out, 8 back"},
};

const char *workload_id(enum workload workload)
{
    return names[workload].id;
}

const char *workload_name(enum workload workload)
{
    return names[workload].name;
}

/* --- the backend --- */

static size_t make(void *backend, size_t n, void *objects[])
{
    static _Thread_local uintptr_t made;
    (void)backend;
    for (size_t i = 0; i < n; i++)
        objects[i] =
            (void *)(made += 16); /* never looked into; that two threads make the same does no harm */
    return n;
}

static void forget(void *backend, size_t n, void *objects[])
{
    (void)backend, (void)n, (void)objects;
}

const struct weir_cache_ops work_backend = {make, forget};

/* --- the loops --- */

static bool stopped(const struct worker *worker)
{
    return weir_load_relaxed(&worker->crew->stop) != 0;
}

static void run_pairs(struct worker *worker)
{
    struct weir_cache *cache = worker->crew->cache;
    do {
        for (unsigned i = 0; i < 256; i++)
            weir_cache_free(cache, weir_cache_alloc(cache));
        worker->pairs += 256;
    } while (!stopped(worker));
}

static uint64_t next_random(struct worker *worker)
{
    uint64_t x = worker->random; /* xorshift */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return worker->random = x;
}

static void run_walk(struct worker *worker, size_t most)
{
    struct weir_cache *cache = worker->crew->cache;
    size_t depth = worker->depth;
    do {
        uint64_t bits = next_random(worker), pairs = 0;
        for (unsigned i = 0; i < 64; i++, bits >>= 1) {
            if (depth == 0 || ((bits & 1) != 0 && depth < most)) {
                worker->held[depth++] = weir_cache_alloc(cache);
                pairs++;
            } else {
                weir_cache_free(cache, worker->held[--depth]);
            }
        }
        worker->pairs += pairs;
    } while (!stopped(worker));
    worker->depth = depth;
}

static void run_swing(struct worker *worker)
{
    struct weir_cache *cache = worker->crew->cache;
    unsigned depth = worker->crew->swing;
    do {
        for (unsigned i = 0; i < depth; i++)
            worker->held[i] = weir_cache_alloc(cache);
        for (unsigned i = depth; i-- > 0;)
            weir_cache_free(cache, worker->held[i]);
        worker->pairs += depth;
    } while (!stopped(worker));
}

/* False: it is time to stop. */
static bool wait_a_little(const struct worker *worker, unsigned *spins)
{
    if (++*spins % SPINS == 0)
        sched_yield();
    weir_cpu_pause();
    return !stopped(worker);
}

static void run_producer(struct worker *worker)
{
    struct ring *ring = worker->ring;
    uint32_t head = ring->head; /* only we write it */
    unsigned spins = 0;
    do {
        /* Acquire: the reader is done with the slots. */
        while (head - weir_load_acquire(&ring->tail) > RING - BATCH)
            if (!wait_a_little(worker, &spins))
                return;
        for (unsigned i = 0; i < BATCH; i++)
            ring->slot[(head + i) % RING] = weir_cache_alloc(worker->crew->cache);
        head += BATCH;
        weir_store_release(&ring->head, head); /* the slots are filled */
    } while (!stopped(worker));
}

static void run_consumer(struct worker *worker)
{
    struct ring *ring = worker->ring;
    uint32_t tail = ring->tail;
    unsigned spins = 0;
    do {
        while (weir_load_acquire(&ring->head) == tail) /* pairs with the producer's release */
            if (!wait_a_little(worker, &spins))
                return;
        for (unsigned i = 0; i < BATCH; i++)
            weir_cache_free(worker->crew->cache, ring->slot[(tail + i) % RING]);
        tail += BATCH;
        weir_store_release(&ring->tail, tail); /* pairs with the producer's acquire */
        worker->pairs += BATCH;
    } while (!stopped(worker));
}

static void run_one(struct worker *worker)
{
    switch (worker->crew->job->workload) {
    case PAIRS:
        run_pairs(worker);
        break;
    case WALK_64:
        run_walk(worker, 64);
        break;
    case SWING:
        run_swing(worker);
        break;
    case PIPE:
        if (worker->number < worker->crew->job->threads / 2)
            run_producer(worker);
        else
            run_consumer(worker);
        break;
    default:
        run_walk(worker, WALK_MAX);
        break;
    }
}

/* --- slices --- */

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct crew *crew = worker->crew;
    machine_pin(crew->machine, worker->number);
    if (crew->tally_begin != NULL)
        crew->tally_begin(crew->cache, crew->cache->cpus[worker->cpu_number].domain, &worker->tally);
    for (;;) {
        pthread_barrier_wait(&crew->line);
        if (crew->end)
            break;
        double wall = seconds_now(), cpu = thread_seconds();
        worker->pairs = 0;
        run_one(worker);
        worker->cpu = thread_seconds() - cpu;
        worker->wall = seconds_now() - wall;
        pthread_barrier_wait(&crew->line);
    }
    return NULL;
}

struct slice {
    double ns, share; /* share: of the time that passed, the part that each thread had a CPU */
};

static struct slice run_slice(struct crew *crew, struct outcome *outcome)
{
    const struct timespec length = {crew->job->milliseconds / 1000,
                                    crew->job->milliseconds % 1000 * 1000000L};
    double cpu = 0, share = 1;
    uint64_t pairs = 0;

    weir_store_relaxed(&crew->stop, 0u);
    pthread_barrier_wait(&crew->line);
    nanosleep(&length, NULL);
    weir_store_relaxed(&crew->stop, 1u);
    pthread_barrier_wait(&crew->line);
    for (unsigned i = 0; i < crew->job->threads; i++) {
        const struct worker *worker = &crew->worker[i];
        cpu += worker->cpu;
        pairs += worker->pairs;
        if (worker->cpu / worker->wall < share)
            share = worker->cpu / worker->wall;
    }
    outcome->pairs += pairs;
    /* A pipe of which only one end had a CPU says nothing. */
    if (pairs == 0 || (crew->job->workload == PIPE && pairs < (uint64_t)4 * RING * (crew->job->threads / 2)))
        return (struct slice){1e9, 0};
    return (struct slice){cpu * 1e9 / (double)pairs, share};
}

static int by_share(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    return (x->share < y->share) - (x->share > y->share);
}

static uint64_t *words_of(void *stats)
{
    return stats;
}

/* What has happened since `before`: the counters; the rest is as it is now. */
static void subtract(struct weir_cache_stats *now, struct weir_cache_stats *before)
{
    uint64_t *to = words_of(&now->fast_allocs), *from = words_of(&before->fast_allocs);
    size_t n =
        (offsetof(struct weir_cache_stats, rcu_waits) - offsetof(struct weir_cache_stats, fast_allocs)) /
        sizeof *to;
    for (size_t i = 0; i <= n; i++)
        to[i] -= from[i];
}

static void add_tally(struct tally *sum, const struct tally *part)
{
    uint64_t *to = (uint64_t *)(void *)sum;
    const uint64_t *from = (const uint64_t *)(const void *)part;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

static void run_slices(struct crew *crew, struct outcome *outcome)
{
    static struct slice slices[ROUNDS_MAX];
    static double ns[ROUNDS_MAX];
    struct weir_cache_stats before;
    unsigned n = crew->job->slices, best = 0;

    for (unsigned i = 0; i < 2; i++) /* to warm up: the depot fills */
        run_slice(crew, outcome);
    weir_cache_stats(crew->cache, &before);
    for (unsigned i = 0; i < crew->job->threads; i++)
        crew->worker[i].tally = (struct tally){0};
    outcome->pairs = 0;
    for (unsigned i = 0; i < n; i++)
        slices[i] = run_slice(crew, outcome);
    weir_cache_stats(crew->cache, &outcome->stats);
    subtract(&outcome->stats, &before);
    for (unsigned i = 0; i < crew->job->threads; i++)
        add_tally(&outcome->tally, &crew->worker[i].tally);
    /* Those in which nobody was kept waiting for a CPU; if there are hardly any, the closest three. */
    if (crew->job->threads <= crew->cpus) {
        qsort(slices, n, sizeof slices[0], by_share);
        while (best < n && slices[best].share > 0.95)
            best++;
        if (best < 3)
            best = n < 3 ? n : 3;
    } else {
        best = n;
    }
    for (unsigned i = 0; i < best; i++)
        ns[i] = slices[i].ns;
    struct spread spread = spread_of(ns, best);
    /* What disturbs a thread that is alone, or the ends of a pipe, makes it slower: so the quarter below.
     * Others get quicker, too, when somebody they compete with has no CPU. */
    bool slower = crew->job->threads == 1 || crew->job->workload == PIPE;
    outcome->ns = slower ? spread.low : spread.median;
    outcome->spread = (spread.high - spread.low) / 2;
}

static bool start(struct crew *crew)
{
    const struct job *job = crew->job;
    unsigned deep = crew->swing > WALK_MAX ? crew->swing : WALK_MAX;
    crew->worker = aligned_alloc(WEIR_LINE_PAIR, job->threads * sizeof crew->worker[0]);
    crew->rings = aligned_alloc(WEIR_LINE_PAIR, (job->threads / 2 + 1) * sizeof crew->rings[0]);
    if (crew->worker == NULL || crew->rings == NULL)
        return false;
    pthread_barrier_init(&crew->line, NULL, job->threads + 1);
    for (unsigned i = 0; i < job->threads; i++) {
        struct worker *worker = &crew->worker[i];
        size_t bytes = (deep * sizeof(void *) + WEIR_LINE_PAIR) & ~(size_t)(WEIR_LINE_PAIR - 1);
        *worker = (struct worker){.crew = crew,
                                  .number = i,
                                  .cpu_number = crew->machine->cpu[i % crew->machine->cpus],
                                  .random = UINT64_C(0x9e3779b97f4a7c15) * (i + 1),
                                  .held = aligned_alloc(WEIR_LINE_PAIR, bytes)};
        if (job->workload == PIPE) {
            worker->ring = &crew->rings[i % (job->threads / 2)];
            worker->ring->head = worker->ring->tail = 0;
        }
        if (worker->held == NULL || pthread_create(&worker->thread, NULL, worker_main, worker) != 0)
            return false;
    }
    return true;
}

static void finish(struct crew *crew)
{
    crew->end = true;
    pthread_barrier_wait(&crew->line);
    for (unsigned i = 0; i < crew->job->threads; i++) {
        pthread_join(crew->worker[i].thread, NULL);
        free(crew->worker[i].held); /* what is held is nothing */
    }
    pthread_barrier_destroy(&crew->line);
}

bool work_topology(struct weir__topology *topology, unsigned domains)
{
    *topology = (struct weir__topology){0};
    if (weir__topology_split(topology, domains, weir_percpu_nr_cpus()) != 0)
        return false;
    return topology->domains == domains;
}

void work_run(struct outcome *outcome, const struct job *job, const struct machine *machine,
              void (*tally_begin)(const struct weir_cache *cache, unsigned domain, struct tally *tally))
{
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    struct weir__topology topology = {0};
    struct weir__cache_surroundings around = {NULL, NULL};
    struct crew crew = {.job = job, .machine = machine, .cpus = machine->cpus, .tally_begin = tally_begin};

    *outcome = (struct outcome){0};
    crew.swing = job->depth != 0 ? job->depth : 8 * job->capacity;
    config.ops = &work_backend;
    config.capacity = job->capacity;
    config.decay_milliseconds = WEIR_CACHE_DECAY_NEVER;
    if (job->workload == SWING) /* nothing of it goes to the backend */
        config.high = (size_t)job->threads * (crew.swing + 4 * job->capacity) * 2;
    if (job->domains != 0) {
        if (!work_topology(&topology, job->domains)) {
            snprintf(outcome->failure, sizeof outcome->failure, "too few CPUs for %u domains", job->domains);
            weir__topology_free(&topology);
            return;
        }
        around.topology = &topology;
    }
    int error = weir__cache_create(&crew.cache, &config, &around);
    if (error != 0 || !start(&crew)) {
        fprintf(stderr, "weir-bench-scaling: %s\n", strerror(error != 0 ? -error : ENOMEM));
        exit(1);
    }
    run_slices(&crew, outcome);
    finish(&crew);
    weir_cache_destroy(crew.cache);
    free(crew.worker);
    free(crew.rings);
    weir__topology_free(&topology);
}
