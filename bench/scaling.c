/* SPDX-License-Identifier: MIT */
/* scaling.c - measures what the model of docs/scaling.md needs, and what it predicts. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scaling.h"

const unsigned scaling_capacity[CAPACITIES] = {12, 60, 124, 252};
const unsigned scaling_check_capacity[CHECK_CAPACITIES] = {4, 12, 60, 124, 252};

/* --- options; bench/scaling.txt is what people read --- */

static void refuse(const char *name, const char *value, const char *accepted)
{
    if (value != NULL)
        fprintf(stderr, "weir-bench-scaling: %s: \"%s\" is not %s\n", name, value, accepted);
    else
        fprintf(stderr, "weir-bench-scaling: %s needs a value: %s\n", name, accepted);
    exit(2);
}

static double number(const char *name, const char *whole, const char **at, double min, double max,
                     const char *accepted)
{
    char *end = NULL;
    double n = *at != NULL && **at >= '0' && **at <= '9' ? strtod(*at, &end) : -1;
    if (end == NULL || !(n >= min && n <= max))
        refuse(name, whole, accepted);
    *at = end;
    return n;
}

static double one_number(const char *name, const char *value, double min, double max, bool whole,
                         const char *accepted)
{
    const char *at = value;
    double n = number(name, value, &at, min, max, accepted);
    if (*at != '\0' || (whole && n != (unsigned)n))
        refuse(name, value, accepted);
    return n;
}

/* A,B or A,B,C, each not below the one before. */
static void rising(const char *name, const char *value, double numbers[], unsigned n, double max,
                   const char *accepted)
{
    const char *at = value;
    double least = 1;
    for (unsigned i = 0; i < n; i++) {
        numbers[i] = number(name, value, &at, least, max, accepted);
        least = numbers[i];
        if (*at != (i + 1 < n ? ',' : '\0'))
            refuse(name, value, accepted);
        at++;
    }
}

static bool parse_flag(struct scaling_options *options, const char *name)
{
    if (strcmp(name, "--json") == 0) {
        options->json = true;
    } else if (strcmp(name, "--markdown") == 0) {
        options->markdown = true;
    } else if (strcmp(name, "--quick") == 0) {
        options->quick = true;
        options->slices = 2;
        options->milliseconds = 1;
    } else {
        return false;
    }
    return true;
}

static bool parse_value(struct scaling_options *options, const char *name, const char *value)
{
    static const char two[] =
        "two whole numbers from 1 to 512, the second not smaller: CPUS-PER-CACHE,CPUS-PER-NODE";
    double sizes[2];
    if (strcmp(name, "--rounds") == 0) {
        options->slices = (unsigned)one_number(name, value, 1, 1000, true, "a whole number from 1 to 1000");
    } else if (strcmp(name, "--milliseconds") == 0) {
        options->milliseconds =
            (unsigned)one_number(name, value, 1, 1000, true, "a whole number from 1 to 1000");
    } else if (strcmp(name, "--work") == 0) {
        options->work = one_number(name, value, 0, 1e6, false, "a number from 0 to 1000000");
    } else if (strcmp(name, "--transfer") == 0) {
        rising(name, value, options->distances.ns, 3, 1e5,
               "three numbers from 1 to 100000, none smaller than the one before: CACHE,NODE,MACHINE");
    } else if (strcmp(name, "--groups") == 0) {
        rising(name, value, sizes, 2, SCALING_CPUS_MAX, two);
        for (unsigned i = 0; i < 2; i++) {
            options->distances.size[i] = (unsigned)sizes[i];
            if (sizes[i] != options->distances.size[i])
                refuse(name, value, two);
        }
    } else if (strcmp(name, "--out") == 0) {
        if (value == NULL || *value == '\0')
            refuse(name, NULL, "a folder");
        options->out = value;
    } else {
        return false;
    }
    return true;
}

static void parse(struct scaling_options *options, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char name[64];
        if (parse_flag(options, argv[i]))
            continue;
        /* --name=value, or --name value */
        const char *equals = strchr(argv[i], '=');
        int length = equals != NULL ? (int)(equals - argv[i]) : (int)strlen(argv[i]);
        snprintf(name, sizeof name, "%.*s", length, argv[i]);
        const char *value = equals != NULL ? equals + 1 : i + 1 < argc ? argv[i + 1] : NULL;
        if (!parse_value(options, name, value)) {
            fprintf(stderr,
                    "weir-bench-scaling: unknown option \"%s\"; bench/scaling --help lists the options\n",
                    argv[i]);
            exit(2);
        }
        i += equals == NULL;
    }
    if (options->json && options->markdown) {
        fputs("weir-bench-scaling: --json and --markdown: only one of them can be printed\n", stderr);
        exit(2);
    }
}

static FILE *open_out(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        fprintf(stderr, "weir-bench-scaling: --out: cannot write \"%s\": %s\n", path, strerror(errno));
        exit(2);
    }
    return file;
}

/* --- the counting program --- */

static void run_count(struct count_result *result, char *const arguments[])
{
    char path[512];
    int out[2];

    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 64);
    path[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(path, '/');
    snprintf(slash != NULL ? slash + 1 : path, 64, "%s", arguments[0]);
    if (pipe(out) != 0) {
        perror("weir-bench-scaling: pipe");
        exit(1);
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        close(out[1]);
        execv(path, arguments);
        fprintf(stderr, "weir-bench-scaling: %s: %s\n", path, strerror(errno));
        _exit(127);
    }
    close(out[1]);
    FILE *from = fdopen(out[0], "r");
    bool read_it = pid > 0 && from != NULL && fread(result, sizeof *result, 1, from) == 1;
    if (from != NULL)
        fclose(from);
    int status = 1;
    if (pid > 0)
        waitpid(pid, &status, 0);
    if (!read_it || status != 0) {
        fputs("weir-bench-scaling: the counting program failed\n", stderr);
        exit(1);
    }
}

static void count_job(struct count_result *result, const struct job *job)
{
    char text[6][16];
    const unsigned value[6] = {job->workload, job->capacity, job->domains,
                               job->threads,  job->slices,   job->milliseconds};
    char name[] = "weir-bench-scaling-count";
    char *arguments[8] = {name};
    for (unsigned i = 0; i < 6; i++) {
        snprintf(text[i], sizeof text[i], "%u", value[i]);
        arguments[i + 1] = text[i];
    }
    run_count(result, arguments);
}

/* Threads of a workload whose exchanges are counted. */
static unsigned count_threads(enum workload workload, const struct machine *machine)
{
    if (workload == CROWD)
        return CROWD_THREADS;
    return machine->cpus > 1 ? 2 : workload == PIPE ? 2 : 1;
}

static void count_everything(struct scaling_results *results)
{
    static struct count_result kinds;
    char name[] = "weir-bench-scaling-count", what[] = "exchanges";
    char *arguments[] = {name, what, NULL};

    progress_show("counting lines", 0);
    run_count(&kinds, arguments);
    memcpy(results->exchange, kinds.exchange, sizeof results->exchange);
    for (enum workload workload = 0; workload < SWING; workload++) {
        for (unsigned c = 0; c < CAPACITIES; c++) {
            for (unsigned two = 0; two <= results->two_domains; two++) {
                struct job job = {.workload = workload,
                                  .capacity = scaling_capacity[c],
                                  .domains = two + 1,
                                  .threads = count_threads(workload, results->machine),
                                  .slices = results->options->quick ? 1 : 6,
                                  .milliseconds = 2 * results->options->milliseconds};
                char text[96];
                snprintf(text, sizeof text, "counting: %s, capacity %u", workload_name(workload),
                         job.capacity);
                progress_show(text, 0.3 * (workload * CAPACITIES + c) / (double)(SWING * CAPACITIES));
                count_job(&results->count[workload][c][two], &job);
            }
        }
    }
}

/* --- one thread: the fast path, an exchange --- */

#define RUN 4096 /* objects allocated, then freed, to see what an exchange costs */

static struct weir_cache *open_cache(unsigned capacity)
{
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    struct weir_cache *cache;
    config.ops = &work_backend;
    config.capacity = capacity;
    config.high = 8 * RUN;
    config.decay_milliseconds = WEIR_CACHE_DECAY_NEVER;
    int error = weir_cache_create(&cache, &config);
    if (error != 0) {
        fprintf(stderr, "weir-bench-scaling: %s\n", strerror(-error));
        exit(1);
    }
    return cache;
}

/* CPU nanoseconds to allocate RUN objects, and to free them. */
static void run_once(struct weir_cache *cache, void *held[RUN], double *alloc, double *release)
{
    double start = thread_seconds();
    for (unsigned i = 0; i < RUN; i++)
        held[i] = weir_cache_alloc(cache);
    double between = thread_seconds();
    for (unsigned i = RUN; i-- > 0;)
        weir_cache_free(cache, held[i]);
    *release = (thread_seconds() - between) * 1e9;
    *alloc = (between - start) * 1e9;
}

/* In turns with a cache that makes no exchanges. On one CPU, with nobody else there. */
static void time_exchanges(struct scaling_results *results, unsigned c, unsigned rounds)
{
    static void *held[RUN];
    static double alloc[ROUNDS_MAX], release[ROUNDS_MAX];
    struct weir_cache *cache = open_cache(scaling_capacity[c]), *fast = open_cache(NO_EXCHANGES);
    struct weir_cache_stats before, after;
    double a, r, fast_a, fast_r;

    for (unsigned i = 0; i < 4; i++) {
        run_once(fast, held, &a, &r);
        run_once(cache, held, &a, &r);
    }
    weir_cache_stats(cache, &before);
    for (unsigned i = 0; i < rounds; i++) {
        run_once(fast, held, &fast_a, &fast_r);
        run_once(cache, held, &a, &r);
        alloc[i] = a - fast_a;
        release[i] = r - fast_r;
    }
    weir_cache_stats(cache, &after);
    results->refill[c] = spread_of(alloc, rounds).median * rounds / (double)(after.refills - before.refills);
    results->flush[c] = spread_of(release, rounds).median * rounds / (double)(after.flushes - before.flushes);
    weir_cache_destroy(cache);
    weir_cache_destroy(fast);
}

/* A magazine's worth of objects to and fro across the boundary of two magazines: an exchange with the spare each way.
 * (With fewer objects the engine levels the two, and there are none.) */
static double time_spare(const struct scaling_results *results, unsigned rounds)
{
    static double ns[ROUNDS_MAX];
    const unsigned capacity = scaling_capacity[0], cycles = 1000;
    struct weir_cache *cache = open_cache(capacity);
    void *held[64], *object;

    object = weir_cache_alloc(cache); /* so neither magazine is ever just full or empty */
    for (unsigned i = 0; i < rounds; i++) {
        double start = thread_seconds();
        for (unsigned k = 0; k < cycles; k++) {
            for (unsigned n = 0; n < capacity; n++)
                held[n] = weir_cache_alloc(cache);
            for (unsigned n = 0; n < capacity; n++)
                weir_cache_free(cache, held[n]);
        }
        ns[i] = (thread_seconds() - start) * 1e9 / (2.0 * cycles);
    }
    weir_cache_free(cache, object);
    weir_cache_destroy(cache);
    double beyond = spread_of(ns, rounds).low - results->pair * capacity / 2;
    return beyond > 0 ? beyond : 0;
}

static void *time_alone(void *arg)
{
    struct scaling_results *results = arg;
    unsigned rounds = results->options->slices * 10 < 400 ? results->options->slices * 10 : 400;
    machine_pin(results->machine, 0);
    for (unsigned c = 0; c < CAPACITIES; c++)
        time_exchanges(results, c, rounds);
    results->spare = time_spare(results, rounds);
    return NULL;
}

/* --- two threads: how long a line takes --- */

#define MOVES 1000   /* in a slice, to and fro */
#define RUN_LINES 16 /* of a magazine for 124 pointers */

struct ping {
    uint64_t turn WEIR_ALIGNED(WEIR_LINE_PAIR);
    uint64_t block[RUN_LINES * 8] WEIR_ALIGNED(WEIR_LINE_PAIR);
    bool with_block;
    const struct machine *machine;
    unsigned cpu[2], rounds;
    double ns[1000];
    pthread_barrier_t line;
};

struct side {
    struct ping *ping;
    unsigned number;
};

static void *ping_side(void *arg)
{
    const struct side *side = arg;
    struct ping *ping = side->ping;
    machine_pin(ping->machine, ping->cpu[side->number]);
    for (unsigned round = 0; round < ping->rounds; round++) {
        pthread_barrier_wait(&ping->line);
        double start = seconds_now();
        for (unsigned i = 0; i < MOVES; i++) {
            /* Relaxed, both: nothing but the line itself is handed over. */
            while ((weir_load_relaxed(&ping->turn) & 1) != side->number)
                ;
            for (unsigned k = ping->with_block ? RUN_LINES * 8 : 0; k-- > 0;) /* as a magazine is used */
                weir_store_relaxed(&ping->block[k], weir_load_relaxed(&ping->block[k]) + 1);
            weir_fetch_add_relaxed(&ping->turn, UINT64_C(1));
        }
        if (side->number == 0)
            ping->ns[round] = (seconds_now() - start) * 1e9 / (2 * MOVES);
        pthread_barrier_wait(&ping->line);
    }
    return NULL;
}

/* Nanoseconds per move between two CPUs, given by their places in `machine`. Those of the quickest quarter of
 * the slices: in the others somebody had to wait for a CPU. */
static struct spread time_moves(const struct machine *machine, unsigned one, unsigned other, unsigned rounds,
                                bool with_block)
{
    static struct ping ping;
    struct side side[2] = {{&ping, 0}, {&ping, 1}};
    pthread_t thread[2];
    ping = (struct ping){.machine = machine, .cpu = {one, other}, .rounds = rounds, .with_block = with_block};
    pthread_barrier_init(&ping.line, NULL, 2);
    for (unsigned i = 0; i < 2; i++)
        if (pthread_create(&thread[i], NULL, ping_side, &side[i]) != 0)
            exit(1);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&ping.line);
    double limit = spread_of(ping.ns, rounds).low;
    unsigned n = 0;
    for (unsigned i = 0; i < rounds; i++)
        if (ping.ns[i] <= limit)
            ping.ns[n++] = ping.ns[i];
    return spread_of(ping.ns, n);
}

static void time_lines(struct scaling_results *results)
{
    const struct weir__topology *topology = weir__topology();
    const struct machine *machine = results->machine;
    unsigned rounds = results->options->quick ? 10 : 400;
    unsigned near = 0, far = 0, first = topology->domain_of[machine->cpu[0]];
    for (unsigned i = 1; i < machine->cpus; i++) {
        bool same = topology->domain_of[machine->cpu[i]] == first;
        if (same && near == 0)
            near = i;
        if (!same)
            far = i; /* the last one: far away */
    }
    if (near != 0)
        results->near = time_moves(machine, 0, near, rounds, false);
    if (far != 0)
        results->far = time_moves(machine, 0, far, rounds, false);
    if (near == 0)
        results->near = results->far;
    struct spread both = time_moves(machine, 0, near != 0 ? near : far, rounds, true);
    results->run.median = (both.median - results->near.median) / RUN_LINES;
}

/* --- the model, fed --- */

static double per_pair(uint64_t n, const struct outcome *outcome)
{
    return outcome->pairs != 0 ? (double)n / (double)outcome->pairs : 0;
}

/* What exchanges cost without anybody else. What comes out of a depot has gone into one. */
static double exchange_ns(const struct scaling_results *results, unsigned c, const struct outcome *outcome)
{
    const struct weir_cache_stats *stats = &outcome->stats;
    uint64_t in = stats->depot_hits + stats->spills, out = stats->depot_hits + stats->alloc_calls;
    uint64_t swaps =
        (stats->refills > out ? stats->refills - out : 0) + (stats->flushes > in ? stats->flushes - in : 0);
    return per_pair(out, outcome) * results->refill[c] + per_pair(in, outcome) * results->flush[c] +
           per_pair(swaps, outcome) * results->spare;
}

/* What comes with a magazine: its header, which is waited for, and its pointers. Those of a pipe always come
 * from elsewhere: that is part of its fast path. */
static double contents(const struct scaling_results *results, enum workload workload, unsigned capacity)
{
    double ratio = results->near.median > 0 ? results->run.median / results->near.median : 0;
    return 1 + (workload != PIPE ? ratio * capacity / 8 : 0);
}

struct model scaling_model(const struct scaling_results *results, enum workload workload, unsigned c,
                           unsigned domain_cpus, bool far_pipe)
{
    const struct outcome *outcome = &results->count[workload][c][far_pipe && results->two_domains].outcome;
    struct model model = {.own = results->fast[workload] + results->options->work +
                                 exchange_ns(results, c, outcome),
                          .exchanges = per_pair(outcome->tally.exchanges, outcome),
                          .distances = results->options->distances,
                          .domain_cpus = domain_cpus,
                          .contents = contents(results, workload, scaling_capacity[c]),
                          .by_turns = workload == PIPE,
                          .gate_lines = GATE_LINES};
    for (unsigned i = 0; i < LINES; i++)
        model.lines[i] = per_pair(outcome->tally.lines[i], outcome);
    if (!far_pipe) /* whatever is taken from other domains for want of something better */
        for (unsigned i = OTHER_HEAD; i < LINES; i++)
            model.lines[i] = 0;
    return model;
}

/* --- predicted beside measured --- */

static unsigned capacity_index(unsigned capacity)
{
    unsigned c = 0;
    while (c + 1 < CAPACITIES && scaling_capacity[c] < capacity)
        c++;
    return c;
}

/* From the exchanges that were made, and the lines that each kind touches. */
static double predict(const struct scaling_results *results, const struct job *job,
                      const struct outcome *outcome, double fast)
{
    const struct machine *machine = results->machine;
    unsigned running = job->threads < machine->cpus ? job->threads : machine->cpus;
    unsigned domains = job->domains != 0 ? job->domains : results->domains;
    const struct weir_cache_stats *stats = &outcome->stats;
    unsigned per_domain = (machine->cpus + results->domains - 1) / results->domains;
    double far = results->far.median > 0 ? results->far.median : results->near.median;
    struct model model = {
        .own = fast + exchange_ns(results, capacity_index(job->capacity), outcome),
        .distances = {{per_domain, machine->cpus, 0}, {results->near.median, far, far}},
        .domain_cpus = (running + domains - 1) / domains,
        .contents = contents(results, job->workload, job->capacity),
        .by_turns = job->workload == PIPE,
    };
    /* What comes out of depots went into one. */
    double stolen = per_pair(stats->stolen, outcome), hits = per_pair(stats->depot_hits, outcome);
    double fresh = per_pair(stats->alloc_calls, outcome), spilled = per_pair(stats->spills, outcome);
    double all = 2 * hits + fresh + spilled;
    for (unsigned i = 0; i < OTHER_HEAD; i++)
        model.lines[i] = all;
    model.lines[OTHER_HEAD] = stolen + (domains > 1 ? fresh : 0);
    model.lines[OTHER_STEER] = stolen;
    return model_ns(&model, running);
}

static void add_check(struct scaling_results *results, const struct job *job, double fast)
{
    if (results->checks == CHECKS_MAX)
        return;
    struct check *check = &results->check[results->checks++];
    check->job = *job;
    work_run(&check->outcome, job, results->machine, NULL);
    check->predicted = predict(results, job, &check->outcome, fast);
}

/* The same loop with magazines so large that there are no exchanges. */
static double time_fast(const struct scaling_results *results, const struct job *job)
{
    struct outcome outcome;
    struct job fast = *job;
    fast.depth = 8 * job->capacity;
    fast.capacity = NO_EXCHANGES;
    fast.domains = 1;
    fast.threads = job->workload == PIPE ? 2 : 1;
    work_run(&outcome, &fast, results->machine, NULL);
    return outcome.ns;
}

static void check_everything(struct scaling_results *results)
{
    static const enum workload workloads[] = {WALK_64, WALK_512, SWING, PIPE, CROWD};
    const struct scaling_options *options = results->options;
    for (unsigned w = 0; w < sizeof workloads / sizeof workloads[0]; w++) {
        for (unsigned c = 0; c < CHECK_CAPACITIES; c++) {
            if (options->quick && scaling_check_capacity[c] != 12)
                continue;
            struct job job = {.workload = workloads[w],
                              .capacity = scaling_check_capacity[c],
                              .slices = options->slices,
                              .milliseconds = options->milliseconds};
            char text[96];
            snprintf(text, sizeof text, "checking: %s, capacity %u", workload_name(job.workload),
                     job.capacity);
            progress_show(text, 0.4 + 0.12 * w + 0.12 * c / CHECK_CAPACITIES);
            double fast = job.workload != SWING ? results->fast[job.workload] : time_fast(results, &job);
            for (unsigned domains = 1; domains <= 1u + results->two_domains; domains++) {
                for (unsigned t = 0; t < results->thread_counts; t++) {
                    job.domains = domains;
                    job.threads = results->threads[t];
                    if (job.workload == CROWD && t == 0)
                        job.threads = CROWD_THREADS;
                    else if (job.workload == CROWD || (job.workload == PIPE && job.threads < 2) ||
                             (domains == 2 && job.threads == 1))
                        continue;
                    add_check(results, &job, fast);
                }
            }
            if (results->domains > 2 && job.workload != CROWD) { /* the machine's own depots */
                job.domains = 0;
                job.threads = results->machine->cpus & ~1u;
                add_check(results, &job, fast);
            }
        }
    }
}

/* --- everything --- */

static void measure(struct scaling_results *results)
{
    const struct scaling_options *options = results->options;
    pthread_t alone; /* a thread of its own, so that only that is pinned */
    struct job job = {.slices = options->slices, .milliseconds = options->milliseconds};

    count_everything(results);
    progress_show("one thread", 0.32);
    for (enum workload workload = 0; workload < SWING; workload++) {
        job.workload = workload == CROWD ? WALK_512 : workload;
        job.capacity = 252;
        job.slices = workload == PIPE && !options->quick ? 200 : options->slices;
        results->fast[workload] = time_fast(results, &job);
    }
    results->pair = results->fast[PAIRS];
    if (pthread_create(&alone, NULL, time_alone, results) != 0)
        exit(1);
    pthread_join(alone, NULL);
    progress_show("moving lines", 0.36);
    if (results->machine->cpus > 1)
        time_lines(results);
    check_everything(results);
}

int main(int argc, char **argv)
{
    static struct scaling_options options = {
        .slices = 40, .milliseconds = 2, .distances = {{8, 64, 0}, {50, 150, 500}}, .out = "bench/out"};
    static struct scaling_results results;
    static struct machine machine;
    struct weir__topology topology;
    struct cpu_time before;
    bool wrong = false;

    parse(&options, argc, argv);
    FILE *json = open_out(options.out, "scaling.json"), *data = open_out(options.out, "scaling.dat");
    machine_describe(&machine);
    if (weir_percpu_init() != 0)
        return 1;
    results.options = &options;
    results.machine = &machine;
    results.domains = weir__topology() != NULL ? weir__topology()->domains : 1;
    results.two_domains = machine.cpus > 1 && work_topology(&topology, 2);
    for (unsigned n = 1; n <= machine.cpus && results.thread_counts < 15; n *= 2)
        results.threads[results.thread_counts++] = n;
    if ((machine.cpus & (machine.cpus - 1)) != 0)
        results.threads[results.thread_counts++] = machine.cpus & ~1u;
    machine_cpu_time(&before);
    double start = seconds_now();
    progress_start(1);
    measure(&results);
    progress_clear();
    results.seconds = seconds_now() - start;
    machine_noise(&results.noise, &before);

    scaling_json(json, &results);
    scaling_data(data, &results);
    fclose(json);
    fclose(data);
    if (options.json)
        scaling_json(stdout, &results);
    else
        scaling_report(stdout, &results, options.markdown);
    for (enum exchange exchange = 0; exchange < EXCHANGES; exchange++) {
        if (results.exchange[exchange].counted == 0 ||
            scaling_lines_agree(&results.exchange[exchange], exchange))
            continue;
        fprintf(stderr, "weir-bench-scaling: %s touches other lines than src/ says: see the table\n",
                exchange_lines[exchange].id);
        wrong = true;
    }
    return wrong ? 1 : 0;
}
