/* SPDX-License-Identifier: MIT */
/*
 * deferred.c - the workload that deferred free is about: allocate, write the first byte, hand over for a free
 * after a grace period, a million times; and the same with other means. One loop for all of them.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <urcu/urcu-qsbr.h>
#include <urcu/call-rcu.h>

#include "bench.h"
#include "readers.h"

#define QUIESCENT_EVERY 64                  /* operations: workers are readers too */
#define PUBLISH_EVERY (4 * QUIESCENT_EVERY) /* operations */
#define SAMPLE_NANOSECONDS 50000

/* A malloc'd object: whoever frees it finds room for its own head, so all have the same size. */
struct object {
    struct stamp stamp;
    struct rcu_head urcu_head;
    struct weir_rcu_head weir_head;
};
_Static_assert(sizeof(struct object) <= 48, "the smallest --object-bytes");

/* One case, in its child. What the loop reads of this and of a worker must not be the first word of a page: a
 * load waits there for each write to the first byte of a page that is not in the CPU's cache, as it may be the
 * same one for all that the low 12 bits of their addresses tell. */
struct run {
    const struct method *method; /* read once a round */
    const struct options *options;
    const struct machine *machine;
    struct deferred_result *result;
    struct weir_page_cache *pages;
    struct weir_reclaimer *reclaimer;
    struct weir_grace *grace; /* NULL: the default; --self-check: a broken one */
    struct readers readers;
    pthread_barrier_t line; /* workers and the child's main thread: before and after each round */
    uint32_t stop;
    uint32_t finished; /* workers, in this round */
    double barrier_from, barrier_to;
    uint32_t sampling;
    double sampling_since;
    struct worker *workers;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

struct worker {
    double start, end; /* of its last round, in seconds */
    struct run *run;
    struct slot *slots; /* its own SLOTS_PER_WORKER of the readers' table */
    unsigned number;
    uint64_t published, no_memory;
    pthread_t thread;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

/* A way to allocate and to free. */
struct method {
    const char *id, *name;
    /* The loop, with allocation and hand-over inlined. */
    void (*work)(struct worker *worker);
    int (*open)(struct run *run); /* 0 or -errno */
    /* Returns when everything handed over is freed. */
    void (*barrier)(struct run *run);
    /* Leaves statistics in the result. */
    void (*close)(struct run *run);
};

/* --- the loop --- */

/* Out of memory, or of pages: gives grace periods a chance. */
static __attribute__((noinline, cold)) void *alloc_again(struct worker *worker,
                                                         void *(*alloc)(struct run *run))
{
    void *object;
    do {
        worker->no_memory++;
        urcu_qsbr_quiescent_state();
        sched_yield();
    } while ((object = alloc(worker->run)) == NULL);
    return object;
}

ALWAYS_INLINE void *alloc_one(struct worker *worker, void *(*alloc)(struct run *run))
{
    void *object = alloc(worker->run);
    if (weir_unlikely(object == NULL))
        object = alloc_again(worker, alloc);
    return object;
}

ALWAYS_INLINE void loop(struct worker *worker, void *(*alloc)(struct run *run),
                        void (*hand_over)(struct run *run, void *object), bool publish)
{
    struct run *run = worker->run;
    uint64_t left = run->options->objects;

    for (uint64_t stretch_number = 0; left != 0; stretch_number++) {
        uint64_t stretch = left < QUIESCENT_EVERY ? left : QUIESCENT_EVERY, i = 0;
        if (publish && stretch_number % (PUBLISH_EVERY / QUIESCENT_EVERY) == 0) {
            /* This one is put into the table, and the one that leaves the table is handed over. */
            struct slot *slot = &worker->slots[worker->published++ % SLOTS_PER_WORKER];
            uint64_t number = (uint64_t)worker->number << 38 | worker->published;
            void *object = readers_publish(slot, alloc_one(worker, alloc), number);
            if (object != NULL)
                hand_over(run, object);
            i++;
        }
        for (; i < stretch; i++) {
            void *object = alloc_one(worker, alloc);
            *(volatile unsigned char *)object = PLAIN_BYTE;
            hand_over(run, object);
        }
        left -= stretch;
        urcu_qsbr_quiescent_state();
    }
    for (unsigned i = 0; publish && i < SLOTS_PER_WORKER; i++) {
        void *object = readers_unpublish(&worker->slots[i]);
        if (object != NULL)
            hand_over(run, object);
    }
}

/* --- the ways --- */

ALWAYS_INLINE void *alloc_malloc(struct run *run)
{
    return malloc(run->options->object_bytes);
}

static void poison_and_free(void *object)
{
    readers_poison(object);
    free(object);
}

ALWAYS_INLINE void free_at_once(struct run *run, void *object)
{
    (void)run;
    poison_and_free(object);
}

static void free_by_call_rcu(struct rcu_head *head)
{
    poison_and_free((char *)head - offsetof(struct object, urcu_head));
}

ALWAYS_INLINE void hand_to_call_rcu(struct run *run, void *object)
{
    (void)run;
    urcu_qsbr_call_rcu(&((struct object *)object)->urcu_head, free_by_call_rcu);
}

ALWAYS_INLINE void hand_to_weir(struct run *run, void *object)
{
    weir_free_rcu(run->reclaimer, object, &((struct object *)object)->weir_head);
}

ALWAYS_INLINE void hand_to_weir_mightsleep(struct run *run, void *object)
{
    weir_free_rcu_mightsleep(run->reclaimer, object);
}

ALWAYS_INLINE void *alloc_page(struct run *run)
{
    return weir_page_alloc(run->pages);
}

ALWAYS_INLINE void hand_page(struct run *run, void *page)
{
    weir_page_free_rcu(run->pages, page);
}

/* What the allocator alone costs when objects are not freed at once, one by one, but later and by the block,
 * as with deferred free: objects wait in a ring of blocks, and when one is full, the oldest is freed. */
#define LATER_BLOCK 512
#define LATER_BLOCKS 4

static __thread struct {
    void *object[LATER_BLOCKS][LATER_BLOCK];
    unsigned block, used;
} later;

static void free_block(void *block[LATER_BLOCK])
{
    for (unsigned i = 0; i < LATER_BLOCK; i++) {
        if (block[i] != NULL)
            poison_and_free(block[i]);
        block[i] = NULL;
    }
}

ALWAYS_INLINE void free_later(struct run *run, void *object)
{
    (void)run;
    later.object[later.block][later.used++] = object;
    if (later.used == LATER_BLOCK) {
        later.block = (later.block + 1) % LATER_BLOCKS;
        later.used = 0;
        free_block(later.object[later.block]);
    }
}

static void work_later(struct worker *worker)
{
    loop(worker, alloc_malloc, free_later, false);
    for (unsigned i = 0; i < LATER_BLOCKS; i++)
        free_block(later.object[i]);
}

static void work_plain(struct worker *worker)
{
    loop(worker, alloc_malloc, free_at_once, false);
}

static void work_free_at_once(struct worker *worker)
{
    loop(worker, alloc_malloc, free_at_once, true);
}

static void work_call_rcu(struct worker *worker)
{
    loop(worker, alloc_malloc, hand_to_call_rcu, true);
}

static void work_weir(struct worker *worker)
{
    loop(worker, alloc_malloc, hand_to_weir, true);
}

static void work_weir_mightsleep(struct worker *worker)
{
    loop(worker, alloc_malloc, hand_to_weir_mightsleep, true);
}

static void work_page(struct worker *worker)
{
    loop(worker, alloc_page, hand_page, true);
}

static int open_nothing(struct run *run)
{
    (void)run;
    return 0;
}

static void barrier_nothing(struct run *run)
{
    (void)run;
}

static void close_nothing(struct run *run)
{
    (void)run;
}

static int open_per_cpu_call_rcu(struct run *run)
{
    (void)run;
    return urcu_qsbr_create_all_cpu_call_rcu_data(0) == 0 ? 0 : -1;
}

static void barrier_call_rcu(struct run *run)
{
    (void)run;
    urcu_qsbr_barrier();
}

static int open_reclaimer(struct run *run)
{
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    config.free_one = poison_and_free;
    config.grace = run->grace;
    return weir_reclaimer_create(&run->reclaimer, &config);
}

static void barrier_reclaimer(struct run *run)
{
    weir_free_rcu_barrier(run->reclaimer);
}

static void close_reclaimer(struct run *run)
{
    weir_reclaimer_stats(run->reclaimer, &run->result->reclaimer);
    weir_reclaimer_destroy(run->reclaimer);
}

static int open_pages(struct run *run)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    config.high_fraction = run->result->method == PAGE_HIGH_FRACTION_8 ? 8 : 0;
    config.grace = run->grace;
    return weir_page_cache_create(&run->pages, &config);
}

static void barrier_pages(struct run *run)
{
    weir_page_cache_rcu_barrier(run->pages);
}

static void close_pages(struct run *run)
{
    weir_page_cache_stats(run->pages, &run->result->pages);
    if (weir_page_cache_destroy(run->pages) != 0)
        snprintf(run->result->failure, sizeof run->result->failure,
                 "pages were lost: still out after the barrier");
}

static const struct method methods[METHODS] = {
    [PLAIN_MALLOC] = {"malloc-free", "malloc + free at once", work_plain, open_nothing, barrier_nothing,
                      close_nothing},
    [MALLOC_LATER] = {"malloc-free-later", "malloc + free later, 512 at once", work_later, open_nothing,
                      barrier_nothing, close_nothing},
    [CALL_RCU] = {"malloc-call-rcu", "malloc + call_rcu", work_call_rcu, open_nothing, barrier_call_rcu,
                  close_nothing},
    [CALL_RCU_PER_CPU] = {"malloc-call-rcu-per-cpu", "malloc + call_rcu, helper per CPU", work_call_rcu,
                          open_per_cpu_call_rcu, barrier_call_rcu, close_nothing},
    [WEIR_TWO_ARGUMENT] = {"malloc-weir", "malloc + weir_free_rcu", work_weir, open_reclaimer,
                           barrier_reclaimer, close_reclaimer},
    [WEIR_MIGHTSLEEP] = {"malloc-weir-mightsleep", "malloc + weir_free_rcu_mightsleep", work_weir_mightsleep,
                         open_reclaimer, barrier_reclaimer, close_reclaimer},
    [PAGE_HIGH_FRACTION_0] = {"page-high-fraction-0", "page, high_fraction 0", work_page, open_pages,
                              barrier_pages, close_pages},
    [PAGE_HIGH_FRACTION_8] = {"page-high-fraction-8", "page, high_fraction 8", work_page, open_pages,
                              barrier_pages, close_pages},
    [FREE_AT_ONCE] = {"free-at-once", "malloc + free at once", work_free_at_once, open_nothing,
                      barrier_nothing, close_nothing},
};

const char *deferred_id(enum method_id method)
{
    return methods[method].id;
}

const char *deferred_name(enum method_id method)
{
    return methods[method].name;
}

/* --- one case --- */

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct run *run = worker->run;

    machine_pin(run->machine, worker->number);
    urcu_qsbr_register_thread();
    for (;;) {
        urcu_qsbr_thread_offline(); /* what waits must not hold up a grace period */
        pthread_barrier_wait(&run->line);
        if (run->stop != 0)
            break;
        urcu_qsbr_thread_online();
        worker->start = seconds_now();
        run->method->work(worker);
        worker->end = seconds_now();
        urcu_qsbr_thread_offline();
        /* The last one waits until everything is freed: the others have handed over all of theirs. */
        if (weir_fetch_add_acq_rel(&run->finished, 1u) == run->result->workers - 1) {
            run->barrier_from = worker->end;
            run->method->barrier(run);
            run->barrier_to = seconds_now();
        }
        pthread_barrier_wait(&run->line);
        urcu_qsbr_thread_online();
    }
    urcu_qsbr_unregister_thread();
    return NULL;
}

/* One round; the two figures, in nanoseconds per operation of each worker. */
static void run_round(struct run *run, double *hand_over, double *barrier)
{
    const struct worker *workers = run->workers;

    run->finished = 0;
    pthread_barrier_wait(&run->line);
    pthread_barrier_wait(&run->line);

    double first = workers[0].start, last = workers[0].end;
    for (unsigned i = 1; i < run->result->workers; i++) {
        first = workers[i].start < first ? workers[i].start : first;
        last = workers[i].end > last ? workers[i].end : last;
    }
    *hand_over = (last - first) * 1e9 / (double)run->options->objects;
    *barrier = (run->barrier_to - first) * 1e9 / (double)run->options->objects;
}

/* Looks at the page cache until told to stop. When there is no room for more, every second sample goes. */
static void *sampler_main(void *arg)
{
    struct run *run = arg;
    struct deferred_result *result = run->result;
    struct timespec interval = {0, SAMPLE_NANOSECONDS};

    prctl(PR_SET_TIMERSLACK, 1UL);
    while (weir_load_relaxed(&run->sampling) != 0) {
        struct weir_page_cache_stats stats;
        if (result->samples == SAMPLES_MAX) {
            result->samples /= 2;
            for (unsigned i = 0; i < result->samples; i++)
                result->sample[i] = result->sample[2 * i];
            if (interval.tv_nsec < 500000000)
                interval.tv_nsec *= 2;
        }
        weir_page_cache_stats(run->pages, &stats);
        result->sample[result->samples++] =
            (struct sample){(seconds_now() - run->sampling_since) * 1e3, stats.frames, stats.cache.cached};
        nanosleep(&interval, NULL);
    }
    return NULL;
}

/* Rounds that do not count: one to warm up; with pages a few more, sampled for the plot from the start. */
static void warm_up(struct run *run)
{
    struct deferred_result *result = run->result;
    bool sampled = run->pages != NULL && !result->break_grace;
    double ignored[2];
    pthread_t sampler;

    run->sampling_since = seconds_now();
    weir_store_relaxed(&run->sampling, 1u);
    sampled = sampled && pthread_create(&sampler, NULL, sampler_main, run) == 0;
    for (unsigned i = 0; i < (sampled ? SAMPLED_ROUNDS : 1); i++) {
        run_round(run, &ignored[0], &ignored[1]);
        result->barrier_from[i] = (run->barrier_from - run->sampling_since) * 1e3;
        result->barrier_to[i] = (run->barrier_to - run->sampling_since) * 1e3;
    }
    weir_store_relaxed(&run->sampling, 0u);
    if (sampled)
        pthread_join(sampler, NULL);
}

static void measure_round(struct run *run)
{
    struct deferred_result *result = run->result;
    run_round(run, &result->hand_over[result->rounds], &result->barrier[result->rounds]);
    result->rounds++;
}

static bool start_workers(struct run *run)
{
    unsigned n = run->result->workers;
    run->workers = aligned_alloc(WEIR_LINE_PAIR, n * sizeof run->workers[0]);
    if (run->workers == NULL || pthread_barrier_init(&run->line, NULL, n + 1) != 0)
        return false;
    for (unsigned i = 0; i < n; i++) {
        struct worker *worker = &run->workers[i];
        *worker =
            (struct worker){.run = run, .number = i, .slots = run->readers.slots + i * SLOTS_PER_WORKER};
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0)
            return false;
    }
    return true;
}

static void stop_workers(struct run *run)
{
    run->stop = 1; /* ordered by the barrier */
    pthread_barrier_wait(&run->line);
    for (unsigned i = 0; i < run->result->workers; i++) {
        pthread_join(run->workers[i].thread, NULL);
        run->result->no_memory += run->workers[i].no_memory;
    }
}

/* --self-check: a grace period that waits for nobody. */
static void do_not_wait(void *arg)
{
    (void)arg;
}

static const struct weir_grace_source broken_source = {.name = "broken", .synchronize = do_not_wait};

static void fail(struct run *run, const char *what, int error)
{
    snprintf(run->result->failure, sizeof run->result->failure, "%s%s%s", what, error != 0 ? ": " : "",
             error != 0 ? strerror(-error) : "");
}

static bool open_case(struct run *run)
{
    struct deferred_result *result = run->result;
    int error = 0;

    result->resident_start = machine_status_bytes("VmRSS:");
    if (result->break_grace)
        error = weir_grace_create(&run->grace, &broken_source);
    if (error == 0)
        error = run->method->open(run);
    if (error != 0) {
        fail(run, "could not be set up", error);
        return false;
    }
    if (readers_init(&run->readers, (unsigned)run->options->readers, result->workers) && start_workers(run))
        return true;
    fail(run, "could not start its threads", 0);
    return false;
}

static void close_case(struct run *run)
{
    stop_workers(run);
    run->result->checks = run->readers.checks;
    run->result->resident_peak = machine_status_bytes("VmHWM:");
    run->method->close(run);
    weir_grace_put(run->grace);
}

enum { WARM_UP = 'w', ROUND = 'r', CLOSE = 'c' };

/* A case's child. Between its turns it sleeps: no reader runs. */
static void case_main(void *arg)
{
    struct run *run = arg;
    char request;

    if (!open_case(run))
        _exit(1);
    while ((request = child_request()) == WARM_UP || request == ROUND) {
        if (!readers_start(&run->readers)) {
            fail(run, "could not start its readers", 0);
            _exit(1);
        }
        if (request == WARM_UP)
            warm_up(run);
        else
            measure_round(run);
        readers_stop(&run->readers);
        child_answer();
    }
    close_case(run);
    child_answer();
}

/* --- all cases of a group --- */

/* For the progress line. */
struct status {
    const struct deferred_result *result;
    const char *what;
    unsigned round, rounds;
    double fraction;
};

static void tick(void *arg)
{
    const struct status *status = arg;
    char text[128], of[16] = "", workers[32] = "one worker";

    if (status->result->workers != 1)
        snprintf(workers, sizeof workers, "%u workers", status->result->workers);
    if (status->rounds != 0)
        snprintf(of, sizeof of, "/%u", status->rounds);
    snprintf(text, sizeof text, "%s, %s %u%s: %s", workers, status->what, status->round, of,
             deferred_name(status->result->method));
    progress_show(text, status->fraction);
}

struct group {
    struct run *run;
    struct child *child;
    unsigned n;
    double patience; /* seconds for a turn */
};

/* Every case that is still running has a turn. */
static void take_turns(struct group *group, char request, struct status *status)
{
    for (unsigned i = 0; i < group->n; i++) {
        struct deferred_result *result = group->run[i].result;
        char answer, why[160];
        if (group->child[i].requests < 0)
            continue;
        status->result = result;
        struct patience patience = {group->patience, tick, status};
        tick(status);
        if (!child_turn(&group->child[i], request, &answer, 1, &patience, why) && result->failure[0] == '\0')
            snprintf(result->failure, sizeof result->failure, "%s", why);
    }
}

void deferred_run(struct deferred_result *results[], unsigned n, const struct options *options,
                  const struct machine *machine)
{
    struct group group = {aligned_alloc(WEIR_LINE_PAIR, n * sizeof(struct run)),
                          calloc(n, sizeof(struct child)), n, 0};
    unsigned rounds = options->seconds > 0 ? ROUNDS_MAX : (unsigned)options->rounds;
    double start = seconds_now();

    if (n == 0 || group.run == NULL || group.child == NULL)
        return;
    /* A hundred times what a round should take. */
    group.patience = 60 + 10e-6 * SAMPLED_ROUNDS * (double)options->objects * results[0]->workers;
    for (unsigned i = 0; i < n; i++) {
        group.run[i] = (struct run){.method = &methods[results[i]->method],
                                    .options = options,
                                    .machine = machine,
                                    .result = results[i]};
        if (!child_start(&group.child[i], case_main, &group.run[i], NULL))
            fail(&group.run[i], "could not fork", 0);
    }
    struct status status = {.what = "warming up", .round = 1, .rounds = 1};
    take_turns(&group, WARM_UP, &status);
    for (unsigned round = 0; round < rounds; round++) {
        double elapsed = seconds_now() - start, budget = options->seconds * n;
        if (options->seconds > 0 && elapsed >= budget && round != 0)
            break;
        double done = options->seconds > 0 ? elapsed / budget : (double)round / rounds;
        status = (struct status){.what = "round",
                                 .round = round + 1,
                                 .rounds = options->seconds > 0 ? 0 : rounds,
                                 .fraction = done};
        take_turns(&group, ROUND, &status);
    }
    take_turns(&group, CLOSE, &status);
    for (unsigned i = 0; i < n; i++)
        child_stop(&group.child[i]);
    free(group.run);
    free(group.child);
    progress_next_stage();
}
