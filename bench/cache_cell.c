/* SPDX-License-Identifier: MIT */
/* cache_cell.c - one contender, one job; and whether any object was lost. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "cache_loop.h"

#define REPEATS 7 /* measurements of pairs and bulk in a cell; the fastest counts */
#define ENOUGH_SECONDS 0.5
#define FILLS 64         /* numbers of objects held besides, */
#define FILL_STEP 8      /* that far apart */
#define FILL_COUNT 3200  /* objects in one measurement there */
#define WARM_UP_RUNS 100 /* of each thread, before the clock starts */
#define IDLE_SPINS 200   /* looks at a ring, before the CPU is offered to others */

size_t cache_object_bytes;

/* A ring from one thread to one other. Positions only grow. */
struct ring {
    uint64_t tail WEIR_ALIGNED(WEIR_LINE_PAIR); /* the producer's: objects put in, */
    uint64_t head_seen;                         /* and where it last saw the head */
    uint32_t closed;                            /* nothing will be put in any more */
    uint64_t head WEIR_ALIGNED(WEIR_LINE_PAIR); /* the consumer's */
    uint64_t tail_seen;
    void *slot[PIPE_SLOTS] WEIR_ALIGNED(WEIR_LINE_PAIR);
};

struct worker {
    unsigned number;
    double start, end, cpu; /* seconds; cpu: that it has had a CPU */
    double value;           /* pairs and bulk: nanoseconds */
    uint64_t objects, damaged;
    uint64_t sent;
    const char *failure; /* NULL: none */
    pthread_t thread;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

static struct {
    const struct cache_contender *contender;
    struct cache_job job;
    struct machine machine;
    pthread_barrier_t line;
    uint32_t stop WEIR_ALIGNED(WEIR_LINE_PAIR);
    struct worker worker[CACHE_THREADS_MAX];
    struct ring ring[2];
} all;

static const char no_object[] = "there was no object to be had";

static bool stopped(void)
{
    return weir_load_relaxed(&all.stop) != 0; /* relaxed: nothing hangs on it */
}

/* --- one thread: pairs and bulk --- */

static double measure(const struct cache_contender *contender, const struct cache_job *job)
{
    if (job->kind == CACHE_PAIRS)
        return job->inlined ? contender->pairs_inlined(job->n, job->touch)
                            : pairs_called(contender->alloc, contender->free_it, job->n, job->touch);
    return job->inlined ? contender->bulk_inlined(job->n)
                        : bulk_called(contender->alloc_bulk, contender->free_bulk, job->n, BULK_COUNT);
}

/* Where a cache hands whole magazines on, some numbers of objects are at an edge, which is crossed each
 * time. */
static double measure_fills(const struct cache_contender *contender, unsigned n)
{
    static void *held[FILLS][FILL_STEP];
    double slowest = 0;
    unsigned fill = 0;
    for (; fill < FILLS && contender->alloc_bulk(FILL_STEP, held[fill]); fill++) {
        double fastest = 0;
        for (unsigned i = 0; i < REPEATS; i++) {
            double value = bulk_called(contender->alloc_bulk, contender->free_bulk, n, FILL_COUNT);
            fastest = i == 0 || value < fastest ? value : fastest;
        }
        slowest = fastest > slowest ? fastest : slowest;
    }
    while (fill != 0)
        contender->free_bulk(FILL_STEP, held[--fill]);
    return slowest;
}

/* Each is short, or else one will do. Others can only make it slower, by having the CPU meanwhile. */
static void measure_alone(struct worker *worker)
{
    if (all.job.kind == CACHE_FILL) {
        worker->value = measure_fills(all.contender, all.job.n);
        worker->objects = FILLS * REPEATS * FILL_COUNT;
        return;
    }
    worker->value = measure(all.contender, &all.job);
    for (unsigned i = 1; i < REPEATS && seconds_now() - worker->start < ENOUGH_SECONDS; i++) {
        double value = measure(all.contender, &all.job);
        if (value < worker->value)
            worker->value = value;
    }
    worker->objects = REPEATS * (all.job.kind == CACHE_PAIRS ? PAIR_COUNT : BULK_COUNT);
}

/* --- runs of a random length --- */

/* One run: what is written into each object has to be there still when it is freed. */
static bool run(struct worker *worker, unsigned n, uint64_t stamp)
{
    const struct cache_contender *contender = all.contender;
    uint64_t *held[CACHE_RUN_MAX];
    for (unsigned i = 0; i < n; i++) {
        held[i] = contender->alloc(cache_object_bytes);
        if (weir_unlikely(held[i] == NULL)) {
            worker->failure = no_object;
            n = i;
            break;
        }
        *held[i] = stamp + i;
    }
    for (unsigned i = 0; i < n; i++) {
        worker->damaged += *held[i] != stamp + i;
        contender->free_it(held[i]);
    }
    worker->objects += n;
    return worker->failure == NULL;
}

static unsigned run_length(uint32_t *random)
{
    *random = *random * 1664525u + 1013904223u;
    return 1 + (*random >> 16) % CACHE_RUN_MAX;
}

static void warm_up(struct worker *worker)
{
    uint32_t random = worker->number;
    for (unsigned i = 0; i < WARM_UP_RUNS; i++)
        run(worker, run_length(&random), (uint64_t)worker->number << 32);
    worker->objects = 0;
}

static void runs(struct worker *worker)
{
    uint32_t random = worker->number; /* the same for all contenders */
    uint64_t stamp = (uint64_t)worker->number << 48;
    while (run(worker, run_length(&random), stamp) && !stopped())
        stamp += CACHE_RUN_MAX;
}

/* --- from thread to thread --- */

/* False: there is no room. */
static bool ring_put(struct ring *ring, void *objects[PIPE_BATCH])
{
    if (ring->tail + PIPE_BATCH - ring->head_seen > PIPE_SLOTS) {
        ring->head_seen = weir_load_acquire(&ring->head); /* pairs with the release in ring_get() */
        if (ring->tail + PIPE_BATCH - ring->head_seen > PIPE_SLOTS)
            return false;
    }
    memcpy(&ring->slot[ring->tail % PIPE_SLOTS], objects, PIPE_BATCH * sizeof objects[0]);
    weir_store_release(&ring->tail, ring->tail + PIPE_BATCH); /* pairs with the acquire in ring_get() */
    return true;
}

/* False: there is nothing. */
static bool ring_get(struct ring *ring, void *objects[PIPE_BATCH])
{
    if (ring->head == ring->tail_seen) {
        ring->tail_seen = weir_load_acquire(&ring->tail);
        if (ring->head == ring->tail_seen)
            return false;
    }
    memcpy(objects, &ring->slot[ring->head % PIPE_SLOTS], PIPE_BATCH * sizeof objects[0]);
    weir_store_release(&ring->head, ring->head + PIPE_BATCH);
    return true;
}

/* Fills a batch, and writes a number into each object: one more than into the one before. False: none
 * left. */
static bool produce(struct worker *worker, void *objects[PIPE_BATCH])
{
    const struct cache_contender *contender = all.contender;
    if (all.job.n != 1 && !contender->alloc_bulk(PIPE_BATCH, objects))
        return false;
    for (unsigned i = 0; i < PIPE_BATCH; i++) {
        if (all.job.n == 1)
            objects[i] = contender->alloc(cache_object_bytes);
        if (weir_unlikely(objects[i] == NULL))
            return false;
        *(uint64_t *)objects[i] = worker->sent++;
    }
    return true;
}

static void consume(struct worker *worker, void *objects[PIPE_BATCH])
{
    const struct cache_contender *contender = all.contender;
    for (unsigned i = 0; i < PIPE_BATCH; i++) {
        worker->damaged += *(uint64_t *)objects[i] != worker->objects++;
        if (all.job.n == 1)
            contender->free_it(objects[i]);
    }
    if (all.job.n != 1)
        contender->free_bulk(PIPE_BATCH, objects);
}

static unsigned idle(unsigned spins)
{
    if (spins < IDLE_SPINS)
        weir_cpu_pause();
    else
        sched_yield();
    return spins + 1;
}

/* Puts batches into `to` until told to stop, and takes them out of `from` until it is closed. NULL: does
 * not. */
static void pipe_loop(struct worker *worker, struct ring *to, struct ring *from)
{
    void *made[PIPE_BATCH], *taken[PIPE_BATCH];
    bool pending = false, open_to = to != NULL, open_from = from != NULL;
    for (unsigned spins = 0; open_to || open_from;) {
        bool moved = false;
        /* At least one batch: a thread may be late for its CPU. */
        bool enough = worker->sent != 0 && stopped();
        if (open_to && !pending && (enough || !produce(worker, made))) {
            if (!enough)
                worker->failure = no_object;
            weir_store_release(&to->closed, 1u); /* pairs with the acquire below */
            open_to = false;
        } else if (open_to) {
            moved = ring_put(to, made);
            pending = !moved;
        }
        if (open_from && ring_get(from, taken)) {
            consume(worker, taken);
            moved = true;
        } else if (open_from && !moved && weir_load_acquire(&from->closed) != 0) {
            /* Once more: it may have been put in before the ring was closed. */
            open_from = ring_get(from, taken);
            if (open_from)
                consume(worker, taken);
        }
        spins = moved ? 0 : idle(spins);
    }
}

static void pipe_side(struct worker *worker)
{
    bool both = all.job.kind == CACHE_CIRCLE, first = worker->number == 0;
    pipe_loop(worker, first || both ? &all.ring[worker->number] : NULL,
              !first || both ? &all.ring[1 - worker->number] : NULL);
}

/* --- threads --- */

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    enum cache_kind kind = all.job.kind;
    machine_pin(&all.machine, worker->number);
    if (all.contender->enter != NULL && !all.contender->enter())
        worker->failure = "a thread could not be registered";
    if (kind == CACHE_RUNS)
        warm_up(worker);
    pthread_barrier_wait(&all.line);
    worker->start = seconds_now();
    worker->cpu = cpu_seconds();
    if (kind <= CACHE_FILL)
        measure_alone(worker);
    else if (kind == CACHE_RUNS)
        runs(worker);
    else
        pipe_side(worker);
    worker->cpu = cpu_seconds() - worker->cpu;
    worker->end = seconds_now();
    if (all.contender->leave != NULL)
        all.contender->leave();
    return NULL;
}

static void start_workers(unsigned threads)
{
    pthread_barrier_init(&all.line, NULL, threads + 1);
    for (unsigned i = 0; i < threads; i++) {
        all.worker[i] = (struct worker){.number = i};
        if (pthread_create(&all.worker[i].thread, NULL, worker_main, &all.worker[i]) != 0) {
            perror("pthread_create");
            exit(1);
        }
    }
}

static void join_workers(struct cache_cell *cell, unsigned threads)
{
    double first = 0, last = 0;
    uint64_t sent = 0;
    for (unsigned i = 0; i < threads; i++) {
        struct worker *worker = &all.worker[i];
        pthread_join(worker->thread, NULL);
        if (i == 0 || worker->start < first)
            first = worker->start;
        if (worker->end > last)
            last = worker->end;
        cell->objects += worker->objects;
        cell->damaged += worker->damaged;
        sent += worker->sent;
        if (worker->failure != NULL)
            snprintf(cell->failure, sizeof cell->failure, "%s", worker->failure);
    }
    pthread_barrier_destroy(&all.line);
    double seconds = threads == 1 ? all.worker[0].cpu : last - first;
    bool alone = all.job.kind <= CACHE_FILL;
    cell->value = alone ? all.worker[0].value : (double)cell->objects / seconds;
    if (all.job.kind == CACHE_PIPE || all.job.kind == CACHE_CIRCLE)
        cell->missing = sent - cell->objects;
}

/* --- memory --- */

/* --- cells --- */

static void since(struct cache_exchanges *now, const struct cache_exchanges *before)
{
    now->refills -= before->refills;
    now->depot_hits -= before->depot_hits;
    now->misses -= before->misses;
    now->flushes -= before->flushes;
    now->spills -= before->spills;
    now->backend_calls -= before->backend_calls;
}

static void cell_run(struct cache_cell *cell, const struct cache_job *job, unsigned milliseconds)
{
    const struct timespec length = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    const struct cache_contender *contender = all.contender;
    struct cache_exchanges before = {0};
    unsigned threads = cache_job_threads(job);

    all.job = *job;
    all.stop = 0;
    memset(all.ring, 0, sizeof all.ring);
    if (contender->exchanges != NULL)
        contender->exchanges(&before);
    start_workers(threads);
    pthread_barrier_wait(&all.line);
    if (job->kind > CACHE_FILL)
        nanosleep(&length, NULL);
    weir_store_relaxed(&all.stop, 1u);
    join_workers(cell, threads);
    if (contender->exchanges != NULL) {
        contender->exchanges(&cell->exchanges);
        since(&cell->exchanges, &before);
    }
    if (contender->missing != NULL && cell->missing == 0)
        cell->missing = contender->missing();
}

bool cache_serve(const struct cache_contender *contender, const struct cache_setting *setting)
{
    size_t resident = machine_status_bytes("VmRSS:");
    char request;

    machine_cpus(&all.machine);
    all.contender = contender;
    cache_object_bytes = setting->object_bytes;
    if (!contender->open(setting))
        return false;
    while ((request = child_request()) != '\0') {
        struct cache_cell cell = {0};
        if (request != CACHE_RECOUNT)
            cell_run(&cell, cache_job_decode(request), setting->milliseconds);
        else if (contender->recount != NULL)
            cell.missing = contender->recount();
        size_t most = machine_status_bytes("VmHWM:");
        cell.peak = most > resident ? most - resident : 0;
        if (write(PAIR_FD, &cell, sizeof cell) != (ssize_t)sizeof cell)
            return false;
    }
    return true;
}
