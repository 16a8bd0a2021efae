/* SPDX-License-Identifier: MIT */
/* field_cell.c - a contender's process: its workers, its readers, its rounds, and who looks on. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "field_loop.h"
#include "pair_loop.h" /* PAIR_FD */

#define HOLD_NANOSECONDS 60000 /* a reader passes a quiescent state after at most that, if it has a CPU */
#define SAMPLE_NANOSECONDS 50000
#define FREERS_MAX 4096 /* threads that free */

struct field_setting field_setting;
__thread uint64_t *field_freed;

static struct {
    const struct field_contender *contender;
    struct machine machine;
    struct field_worker worker[FIELD_THREADS_MAX];
    pthread_barrier_t line; /* workers and the main thread: before and after each round */
    bool stop;              /* ordered by the line */
    uint32_t finished;      /* workers, in this round */
    double barrier_over;
    uint32_t readers_stop, sampling;
    pthread_t reader[FIELD_READERS_MAX];
    size_t resident; /* before anything was set up */
} all;

static struct {
    uint32_t used;
    struct {
        uint64_t freed WEIR_ALIGNED(WEIR_LINE_PAIR);
    } by[FREERS_MAX];
} freers;

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

void *field_no_memory(void)
{
    fail("malloc has no memory");
    abort();
}

uint64_t *field_first_free(void)
{
    uint32_t number = weir_fetch_add_relaxed(&freers.used, 1u); /* relaxed: only the number matters */
    if (number >= FREERS_MAX)
        fail("too many threads free objects");
    return field_freed = &freers.by[number].freed;
}

/* Exact after a barrier; else a little less or more. */
static uint64_t freed_so_far(void)
{
    uint64_t sum = 0;
    if (all.contender->freed != NULL)
        return all.contender->freed();
    for (uint32_t i = 0; i < weir_load_relaxed(&freers.used); i++) /* relaxed: see field_count_freed() */
        sum += weir_load_relaxed(&freers.by[i].freed);
    return sum;
}

static uint64_t handed_so_far(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < field_setting.threads; i++)
        sum += weir_load_relaxed(&all.worker[i].handed); /* relaxed: see field_loop() */
    return sum;
}

/* --- readers --- */

/* Holds what it might hold for a while: three times out of four asleep, so that workers have the CPUs. */
static void hold(uint64_t *random)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    long nanoseconds = (long)(*random >> 33) % HOLD_NANOSECONDS;
    if (*random >> 62 != 0) {
        const struct timespec time = {0, nanoseconds};
        nanosleep(&time, NULL);
        return;
    }
    for (double end = seconds_now() + 1e-9 * (double)nanoseconds; seconds_now() < end;)
        weir_cpu_pause();
}

static void *reader_main(void *arg)
{
    unsigned number = (unsigned)(uintptr_t)arg;
    uint64_t random = number; /* the same for all contenders */

    prctl(PR_SET_TIMERSLACK, 1UL); /* sleep for microseconds, if that is asked for */
    if (!all.contender->enter(number))
        fail("a reader could not be registered");
    while (weir_load_relaxed(&all.readers_stop) == 0) { /* relaxed: nothing hangs on it */
        hold(&random);
        all.contender->quiescent();
    }
    all.contender->offline();
    all.contender->leave(number);
    return NULL;
}

static void start_readers(void)
{
    weir_store_relaxed(&all.readers_stop, 0u); /* relaxed: pthread_create() orders it */
    for (unsigned i = 0; i < field_setting.readers; i++)
        if (pthread_create(&all.reader[i], NULL, reader_main,
                           (void *)(uintptr_t)(field_setting.threads + i)) != 0)
            fail("a reader could not be started");
}

static void stop_readers(void)
{
    weir_store_relaxed(&all.readers_stop, 1u); /* relaxed: see reader_main() */
    for (unsigned i = 0; i < field_setting.readers; i++)
        pthread_join(all.reader[i], NULL);
}

/* --- workers --- */

static void work(struct field_worker *worker)
{
    const struct field_contender *contender = all.contender;
    contender->online();
    worker->start = seconds_now();
    contender->work(worker);
    worker->end = seconds_now();
    contender->offline();
    if (contender->finish != NULL)
        contender->finish();
    /* The others have handed over all of theirs. Acquire and release: the last one knows what they did. */
    if (weir_fetch_add_acq_rel(&all.finished, 1u) != field_setting.threads - 1)
        return;
    if (contender->barrier != NULL)
        contender->barrier();
    all.barrier_over = seconds_now();
}

static void *worker_main(void *arg)
{
    struct field_worker *worker = arg;
    machine_pin(&all.machine, worker->number);
    if (!all.contender->enter(worker->number))
        fail("a worker could not be registered");
    all.contender->offline(); /* what waits must not hold up a grace period */
    for (;;) {
        pthread_barrier_wait(&all.line);
        if (all.stop)
            break;
        work(worker);
        pthread_barrier_wait(&all.line);
    }
    all.contender->leave(worker->number);
    return NULL;
}

static void start_workers(void)
{
    if (pthread_barrier_init(&all.line, NULL, field_setting.threads + 1) != 0)
        fail("there is no barrier");
    for (unsigned i = 0; i < field_setting.threads; i++) {
        all.worker[i].number = i;
        if (pthread_create(&all.worker[i].thread, NULL, worker_main, &all.worker[i]) != 0)
            fail("a worker could not be started");
    }
}

static void stop_workers(void)
{
    all.stop = true;
    pthread_barrier_wait(&all.line);
    for (unsigned i = 0; i < field_setting.threads; i++)
        pthread_join(all.worker[i].thread, NULL);
}

/* --- rounds --- */

/* The beginning of the last round, or when its last object was handed over. */
static double first_start(void)
{
    double first = all.worker[0].start;
    for (unsigned i = 1; i < field_setting.threads; i++)
        first = all.worker[i].start < first ? all.worker[i].start : first;
    return first;
}

static double last_end(void)
{
    double last = all.worker[0].end;
    for (unsigned i = 1; i < field_setting.threads; i++)
        last = all.worker[i].end > last ? all.worker[i].end : last;
    return last;
}

static void run_round(void)
{
    start_readers();
    all.finished = 0;
    pthread_barrier_wait(&all.line);
    pthread_barrier_wait(&all.line);
    stop_readers();
}

static void count(struct field_cell *cell)
{
    size_t most = machine_status_bytes("VmHWM:");
    cell->peak = most > all.resident ? most - all.resident : 0;
    cell->handed = handed_so_far();
    cell->freed = freed_so_far();
}

static void measure_round(struct field_cell *cell)
{
    uint64_t (*periods)(void) = all.contender->periods;
    const double objects = (double)(field_setting.loops * field_setting.objects);
    uint64_t before = periods != NULL ? periods() : 0;

    run_round();
    cell->periods_known = periods != NULL;
    cell->periods = periods != NULL ? periods() - before : 0;
    cell->hand_over = (last_end() - first_start()) * 1e9 / objects;
    cell->barrier = (all.barrier_over - first_start()) * 1e9 / objects;
    count(cell);
}

/* --- who looks on --- */

static struct {
    struct field_sampled result;
    struct {
        double time, pending;
    } look[1 << 16];
    unsigned looks;
} sampler;

static void *sampler_main(void *arg)
{
    const unsigned room = sizeof sampler.look / sizeof sampler.look[0];
    struct timespec interval = {0, SAMPLE_NANOSECONDS};

    prctl(PR_SET_TIMERSLACK, 1UL);
    while (weir_load_relaxed(&all.sampling) != 0) { /* relaxed: nothing hangs on it */
        if (sampler.looks == room) {                /* every second one goes */
            sampler.looks /= 2;
            for (unsigned i = 0; i < sampler.looks; i++)
                sampler.look[i] = sampler.look[2 * i];
            if (interval.tv_nsec < 500000000)
                interval.tv_nsec *= 2;
        }
        uint64_t freed = freed_so_far(), handed = handed_so_far();
        sampler.look[sampler.looks].time = seconds_now();
        sampler.look[sampler.looks++].pending = handed > freed ? (double)(handed - freed) : 0;
        nanosleep(&interval, NULL);
    }
    return arg;
}

/* The looks of the round as a few points, each the most since the one before. */
static void draw(struct field_sampled *to, double start, double end)
{
    double step = (all.barrier_over - start) / (FIELD_POINTS - 2), most = 0, next = 0;
    for (unsigned i = 0; i < sampler.looks; i++) {
        double time = sampler.look[i].time - start, pending = sampler.look[i].pending;
        if (time < 0 || time > all.barrier_over - start || to->points == FIELD_POINTS)
            continue;
        to->peak = pending > to->peak ? pending : to->peak;
        most = pending > most ? pending : most;
        if (time < next)
            continue;
        to->point[to->points].milliseconds = (float)(time * 1e3);
        to->point[to->points++].pending = (float)most;
        most = 0;
        next = time + step;
    }
    to->handed_over = (end - start) * 1e3;
    to->barrier_over = (all.barrier_over - start) * 1e3;
}

/* Over the time until the last was handed over: between two looks, what the second of them saw. */
static double mean(double start, double end)
{
    double sum = 0, before = start;
    for (unsigned i = 0; i < sampler.looks; i++) {
        double time = sampler.look[i].time;
        if (time <= start || time > end)
            continue;
        sum += sampler.look[i].pending * (time - before);
        before = time;
    }
    return before > start ? sum / (before - start) : 0;
}

static void sample_round(struct field_sampled *result)
{
    pthread_t thread;

    *result = (struct field_sampled){0};
    sampler.looks = 0;
    weir_store_relaxed(&all.sampling, 1u); /* relaxed: pthread_create() orders it */
    if (pthread_create(&thread, NULL, sampler_main, NULL) != 0)
        fail("nobody can look on");
    run_round();
    weir_store_relaxed(&all.sampling, 0u); /* relaxed: see sampler_main() */
    pthread_join(thread, NULL);
    result->mean = mean(first_start(), last_end());
    draw(result, first_start(), last_end());
}

/* --- requests --- */

static void answer(const void *with, size_t bytes)
{
    if (write(PAIR_FD, with, bytes) != (ssize_t)bytes)
        exit(1);
}

static void close_contender(struct field_cell *cell)
{
    stop_workers();
    count(cell);
    if (all.contender->close != NULL && !all.contender->close())
        snprintf(cell->failure, sizeof cell->failure, "objects are missing at the end");
}

bool field_serve(const struct field_contender *contender, const struct field_setting *setting)
{
    char request;

    field_setting = *setting;
    all.contender = contender;
    machine_cpus(&all.machine);
    memset(&sampler, 0, sizeof sampler); /* it is resident from now on, for everybody */
    all.resident = machine_status_bytes("VmRSS:");
    if (!contender->open(setting))
        return false;
    start_workers();
    while ((request = child_request()) != '\0') {
        struct field_cell cell = {0};
        if (request == FIELD_SAMPLE) {
            sample_round(&sampler.result);
            answer(&sampler.result, sizeof sampler.result);
            continue;
        }
        if (request == FIELD_CLOSE)
            close_contender(&cell);
        else
            measure_round(&cell);
        answer(&cell, sizeof cell);
    }
    return true;
}
