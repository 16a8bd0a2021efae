/* SPDX-License-Identifier: MIT */
/* primitives_cell.c - one contender, one job, some milliseconds; and whether any node was lost. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "primitives.h"

#define CHECKED_NODES 1024 /* that each thread adds once, when adds are checked */

struct crew {
    struct worker worker[WORKERS_MAX];
    void (*body)(struct worker *worker);
    const struct contender_type *contender;
    const struct machine *machine;
    pthread_barrier_t line;
};

/* What threads write lies on lines of its own. */
static struct {
    char place[PLACE_BYTES] WEIR_ALIGNED(WEIR_LINE_PAIR);
    uint32_t stop WEIR_ALIGNED(WEIR_LINE_PAIR);
    struct node nodes[WORKERS_MAX * CHECKED_NODES] WEIR_ALIGNED(WEIR_LINE_PAIR);
    struct node fill[FILL_FOR_BULK] WEIR_ALIGNED(WEIR_LINE_PAIR);
    struct crew crew;
} all;

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    machine_pin(worker->crew->machine, worker->number);
    pthread_barrier_wait(&worker->crew->line);
    worker->start = seconds_now();
    worker->cpu = cpu_seconds();
    worker->crew->body(worker);
    worker->cpu = cpu_seconds() - worker->cpu;
    worker->end = seconds_now();
    return NULL;
}

/* Adds nodes, each once, and counts what it takes. */
static void add_and_count(struct worker *worker)
{
    const struct contender_type *contender = worker->crew->contender;
    for (unsigned i = 0; i < CHECKED_NODES; i += TAKE_EVERY) {
        struct node *nodes = &worker->nodes[i];
        if (contender->put_batch != NULL) /* its nodes are linked already */
            contender->put_batch(worker->structure, &nodes[TAKE_EVERY / 2], &nodes[TAKE_EVERY - 1]);
        for (unsigned k = 0; k < (contender->put_batch != NULL ? TAKE_EVERY / 2 : TAKE_EVERY); k++)
            contender->put(worker->structure, &nodes[k]);
        worker->counted += contender->drain(worker->structure);
    }
}

static void start_workers(struct crew *crew, void *structure, const struct job *job)
{
    pthread_barrier_init(&crew->line, NULL, job->threads + 1);
    for (unsigned i = 0; i < job->threads; i++) {
        struct worker *worker = &crew->worker[i];
        *worker = (struct worker){.structure = structure,
                                  .nodes = all.nodes + (size_t)i * CHECKED_NODES,
                                  .batch = job->batch,
                                  .stop = &all.stop,
                                  .number = i,
                                  .crew = crew};
        for (unsigned k = 1; k < CHECKED_NODES; k++)
            worker->nodes[k - 1].next = &worker->nodes[k];
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            perror("weir-bench-primitives: pthread_create");
            exit(1);
        }
    }
}

/* Waits for the threads, and sums up; returns how many nodes they counted. */
static size_t join_workers(struct cell *cell, struct crew *crew, unsigned threads)
{
    double first = 0, last = 0;
    size_t counted = 0;
    uint64_t fewest = UINT64_MAX;
    for (unsigned i = 0; i < threads; i++) {
        struct worker *worker = &crew->worker[i];
        pthread_join(worker->thread, NULL);
        if (i == 0 || worker->start < first)
            first = worker->start;
        if (worker->end > last)
            last = worker->end;
        if (worker->refused_longest > cell->refused_longest)
            cell->refused_longest = worker->refused_longest;
        if (worker->operations < fewest)
            fewest = worker->operations;
        cell->operations += worker->operations;
        cell->refused += worker->refused;
        counted += worker->counted;
    }
    pthread_barrier_destroy(&crew->line);
    cell->seconds = threads == 1 ? crew->worker[0].cpu : last - first;
    if (cell->operations != 0)
        cell->slowest = (double)fewest * threads / (double)cell->operations;
    return counted;
}

/* Lets the threads run, and tells them to stop after some milliseconds. `expected`: nodes that are found then;
 * SIZE_MAX: whatever. */
static void work(struct cell *cell, const struct job *job, unsigned milliseconds, size_t fill,
                 size_t expected)
{
    const struct timespec length = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    struct crew *crew = &all.crew;

    memset(all.place, 0, sizeof all.place);
    all.stop = 0;
    void *structure = crew->contender->open(all.place);
    if (structure == NULL) {
        snprintf(cell->failure, sizeof cell->failure, "could not be set up");
        return;
    }
    for (size_t i = 0; i < fill; i++)
        crew->contender->put(structure, &all.fill[i]);
    start_workers(crew, structure, job);
    pthread_barrier_wait(&crew->line);
    if (milliseconds != 0)
        nanosleep(&length, NULL);
    weir_store_relaxed(&all.stop, 1u);
    size_t counted = join_workers(cell, crew, job->threads);
    if (expected == SIZE_MAX)
        return;
    counted += crew->contender->drain(structure);
    if (counted != expected)
        snprintf(cell->failure, sizeof cell->failure, "of %zu nodes, %zu were found", expected, counted);
}

void cell_check(struct cell *cell, const struct contender_type *contender, unsigned threads,
                const struct machine *machine)
{
    const struct job job = {ADD_TAKE, 1, threads};
    *cell = (struct cell){0};
    all.crew = (struct crew){.body = add_and_count, .contender = contender, .machine = machine};
    work(cell, &job, 0, 0, (size_t)threads * CHECKED_NODES);
}

void cell_run(struct cell *cell, const struct contender_type *contender, const struct job *job,
              unsigned milliseconds, const struct machine *machine)
{
    *cell = (struct cell){0};
    all.crew =
        (struct crew){.body = contender->run[job->workload], .contender = contender, .machine = machine};
    if (job->workload == PAIR)
        work(cell, job, milliseconds, FILL_FOR_PAIRS, FILL_FOR_PAIRS + job->threads);
    else if (job->workload == BULK)
        work(cell, job, milliseconds, FILL_FOR_BULK, FILL_FOR_BULK);
    else
        work(cell, job, milliseconds, 0, SIZE_MAX); /* see cell_check() */
}
