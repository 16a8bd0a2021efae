/* SPDX-License-Identifier: MIT */
/* pages_cell.c - one contender, one job, in threads; and whether any page was lost. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "pages_loop.h"

#define REPEATS 7 /* measurements in a cell; the fastest counts */

size_t cache_object_bytes = PAGE_BYTES;
struct pages_setting pages_setting;
struct churn pages_churn = {.random = 88172645463325252u}; /* the same for all */

struct worker {
    unsigned number;
    double ns[REPEATS];
    pthread_t thread;
};

static struct {
    const struct pages_contender *contender;
    struct pages_job job;
    struct machine machine;
    unsigned repeats;
    pthread_barrier_t line;
    struct worker worker[PAGES_THREADS_MAX];
} all;

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    machine_pin(&all.machine, worker->number);
    for (unsigned i = 0; i < all.repeats; i++) {
        pthread_barrier_wait(&all.line);
        worker->ns[i] = all.contender->measure(&all.job);
    }
    return NULL;
}

static void run_workers(void)
{
    pthread_barrier_init(&all.line, NULL, all.job.threads);
    for (unsigned i = 0; i < all.job.threads; i++) {
        all.worker[i] = (struct worker){.number = i};
        if (pthread_create(&all.worker[i].thread, NULL, worker_main, &all.worker[i]) != 0) {
            perror("pthread_create");
            exit(1);
        }
    }
    for (unsigned i = 0; i < all.job.threads; i++)
        pthread_join(all.worker[i].thread, NULL);
    pthread_barrier_destroy(&all.line);
}

/* Of both threads the slower one: so the fastest repeat is one in which nobody else had one of their CPUs. */
static double slowest(unsigned repeat)
{
    double ns = 0;
    for (unsigned i = 0; i < all.job.threads; i++) {
        double own = all.worker[i].ns[repeat];
        if (own <= 0)
            return 0;
        ns = own > ns ? own : ns;
    }
    return ns;
}

static void cell_run(struct pages_cell *cell, const struct pages_job *job)
{
    all.job = *job;
    all.repeats = job->work == WORK_CHURN ? 1 : REPEATS;
    run_workers();
    cell->ns = slowest(0);
    for (unsigned i = 1; i < all.repeats; i++)
        cell->ns = slowest(i) < cell->ns ? slowest(i) : cell->ns;
    if (cell->ns <= 0)
        snprintf(cell->failure, sizeof cell->failure, "there was no page to be had");
    cell->peak = machine_status_bytes("VmHWM:");
}

/* Room for the pointers, which comes from nobody's malloc. */
static bool churn_prepare(void)
{
    size_t bytes = (pages_churn.pages + 1) * sizeof pages_churn.page[0];
    void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (room == MAP_FAILED)
        return false;
    pages_churn.page = room;
    return true;
}

/* Is each page of the working set still that of its place? */
static uint64_t churn_wrong(void)
{
    uint64_t wrong = 0;
    for (size_t i = 0; i < pages_churn.pages && pages_churn.page[0] != NULL; i++)
        wrong += *(size_t *)(void *)pages_churn.page[i] != i;
    return wrong;
}

bool pages_serve(const struct pages_contender *contender, const struct pages_setting *setting)
{
    char request;

    machine_cpus(&all.machine);
    all.contender = contender;
    pages_setting = *setting;
    pages_churn.pages = setting->working_set;
    if (!churn_prepare() || !contender->open(setting))
        return false;
    while ((request = child_request()) != '\0') {
        struct pages_cell cell = {0};
        if (request != PAGES_RECOUNT) {
            cell_run(&cell, pages_job_decode(request));
        } else {
            cell.wrong = churn_wrong();
            if (contender->missing != NULL)
                cell.wrong += contender->missing();
        }
        if (write(PAIR_FD, &cell, sizeof cell) != (ssize_t)sizeof cell)
            return false;
    }
    return true;
}
