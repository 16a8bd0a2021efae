/* SPDX-License-Identifier: MIT */
/* drain_main.c - how to empty another CPU's cache: options, rounds, output. See bench/README.md. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drain.h"

#define PATIENCE_SECONDS 60
#define TURN_NOISE_AT_MOST 0.04 /* of the CPUs' time; clock ticks are no finer */

/* --- options; bench/drain.txt is what people read --- */

static void refuse(const char *name, const char *value, const char *accepted)
{
    if (value != NULL)
        fprintf(stderr, "weir-bench-drain: %s: \"%s\" is not %s\n", name, value, accepted);
    else
        fprintf(stderr, "weir-bench-drain: %s needs a value: %s\n", name, accepted);
    exit(2);
}

static unsigned whole_number(const char *name, const char *value, long min, long max)
{
    char *end = NULL, accepted[48];
    errno = 0;
    long n = value != NULL ? strtol(value, &end, 10) : 0;
    snprintf(accepted, sizeof accepted, "a number from %ld to %ld", min, max);
    if (value == NULL || *value < '0' || *value > '9' || *end != '\0' || errno != 0 || n < min || n > max)
        refuse(name, value, accepted);
    return (unsigned)n;
}

static bool parse_flag(struct drain_options *options, const char *name)
{
    if (strcmp(name, "--json") == 0) {
        options->json = true;
    } else if (strcmp(name, "--markdown") == 0) {
        options->markdown = true;
    } else if (strcmp(name, "--quick") == 0) {
        options->rounds = 1;
        options->slice = 5;
    } else {
        return false;
    }
    return true;
}

static bool parse_value(struct drain_options *options, const char *name, const char *value)
{
    if (strcmp(name, "--rounds") == 0) {
        options->rounds = whole_number(name, value, 1, DRAIN_ROUNDS_MAX);
    } else if (strcmp(name, "--slice") == 0) {
        options->slice = whole_number(name, value, 5, 500);
    } else if (strcmp(name, "--rate") == 0) {
        options->rate = whole_number(name, value, 1, 100000);
    } else if (strcmp(name, "--patience") == 0) {
        options->patience = whole_number(name, value, 0, 3600);
    } else if (strcmp(name, "--busy-cpu") == 0) {
        options->busy_cpu = (int)whole_number(name, value, 0, 8191);
    } else if (strcmp(name, "--drainer-cpu") == 0) {
        options->drainer_cpu = (int)whole_number(name, value, 0, 8191);
    } else if (strcmp(name, "--out") == 0) {
        if (value == NULL || *value == '\0')
            refuse(name, NULL, "a folder");
        options->out = value;
    } else {
        return false;
    }
    return true;
}

static void parse(struct drain_options *options, int argc, char **argv)
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
            fprintf(stderr, "weir-bench-drain: unknown option \"%s\"; bench/drain --help lists the options\n",
                    argv[i]);
            exit(2);
        }
        i += equals == NULL;
    }
    if (options->json && options->markdown) {
        fputs("weir-bench-drain: --json and --markdown: only one of them can be printed\n", stderr);
        exit(2);
    }
}

static bool try_pin(unsigned cpu)
{
    struct machine now = {0};
    bool can = drain_pin(cpu);
    machine_cpus(&now); /* a system that pins without doing so is found out, too */
    return can && now.cpus == 1 && now.cpu[0] == cpu;
}

/* Which CPUs: as asked for, else the last and the first. The process itself ends up on the drainer's. */
static void choose_cpus(struct drain_results *results, const struct drain_options *options,
                        const struct machine *machine)
{
    results->busy_cpu =
        options->busy_cpu >= 0 ? (unsigned)options->busy_cpu : machine->cpu[machine->cpus - 1];
    results->drainer_cpu = options->drainer_cpu >= 0 ? (unsigned)options->drainer_cpu : machine->cpu[0];
    if (results->busy_cpu == results->drainer_cpu) {
        if (options->busy_cpu < 0 && options->drainer_cpu < 0)
            fputs("weir-bench-drain: needs two CPUs: one that is drained, one that drains\n", stderr);
        else
            fprintf(stderr, "weir-bench-drain: --busy-cpu and --drainer-cpu: both are %u; they must differ\n",
                    results->busy_cpu);
        exit(options->busy_cpu < 0 && options->drainer_cpu < 0 ? 1 : 2);
    }
    if (!try_pin(results->busy_cpu) || !try_pin(results->drainer_cpu)) {
        fprintf(stderr,
                "weir-bench-drain: --busy-cpu %u, --drainer-cpu %u: one is not a CPU that this process "
                "may use\n",
                results->busy_cpu, results->drainer_cpu);
        exit(2);
    }
}

/* --- rounds --- */

static bool take_turn(struct child *child, char request, const char *what)
{
    const struct patience patience = {PATIENCE_SECONDS, NULL, NULL};
    char answer, why[160];
    if (child->pid <= 0 || child_turn(child, request, &answer, 1, &patience, why)) {
        return true;
    }
    fprintf(stderr, "weir-bench-drain: %s: the process %s\n", what, why);
    child->pid = -1;
    return false;
}

/* What other programs used of the CPUs while a child ran, as a share. The child's own time is asked for:
 * among ours it counts only when it has ended. */
struct watch {
    struct cpu_time before;
    double child;
};

static double child_seconds(const struct child *child)
{
    clockid_t clock;
    struct timespec time = {0, 0};
    if (child->pid > 0 && clock_getcpuclockid(child->pid, &clock) == 0)
        clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void watch_start(struct watch *watch, const struct child *child)
{
    machine_cpu_time(&watch->before);
    watch->child = child_seconds(child);
}

static double watch_others(const struct watch *watch, const struct child *child)
{
    struct cpu_time now;
    machine_cpu_time(&now);
    double total = (double)(now.total - watch->before.total);
    double own = (double)(now.own - watch->before.own) +
                 (child_seconds(child) - watch->child) * (double)sysconf(_SC_CLK_TCK);
    return now.known && total > 0 ? ((double)(now.busy - watch->before.busy) - own) / total : 0;
}

/* A turn; if others disturbed it and there is patience left, it does not count and is taken again. */
static bool take_quiet_turn(struct drain_results *results, struct child *child, char request, enum way way,
                            double *patience)
{
    struct way_result *result = &results->way[way];
    static struct way_result saved;
    for (;;) {
        struct watch watch;
        double start = seconds_now();
        saved = *result;
        watch_start(&watch, child);
        if (!take_turn(child, request, drain_ways[way].name))
            return false;
        if (*patience <= 0 || watch_others(&watch, child) < TURN_NOISE_AT_MOST)
            return true;
        *patience -= seconds_now() - start;
        *result = saved;
        results->repeated++;
    }
}

/* True if all went well. */
static bool run_rounds(struct drain_results *results, const struct drain_options *options)
{
    struct child child[PROCESSES];
    struct drain_child arguments[PROCESSES];
    const unsigned stages = options->rounds * (OWN_SOURCE + WAYS * (MIXES + 1));
    double patience = options->patience;
    bool ok = true;

    for (enum process p = 0; p < PROCESSES; p++) {
        arguments[p] = (struct drain_child){results, p};
        if (!child_start(&child[p], drain_child, &arguments[p], NULL)) {
            perror("weir-bench-drain: fork");
            exit(1);
        }
        ok &= take_turn(&child[p], turn_encode(TURN_BEGIN, 0, 0), "the beginning");
    }
    progress_start(stages);
    for (unsigned round = 0; round < options->rounds && ok; round++) {
        results->round = round;
        for (enum process p = 0; p < OWN_SOURCE; p++, progress_next_stage()) {
            progress_show("fast path", 0);
            ok &= take_turn(&child[p], turn_encode(TURN_FAST, 0, 0), "fast path");
        }
        for (unsigned turn = 0; turn < WAYS * (MIXES + 1); turn++, progress_next_stage()) {
            enum way way = (turn + round) % WAYS;
            unsigned what = turn / WAYS;
            enum process p = drain_ways[way].process;
            char text[80];
            snprintf(text, sizeof text, "round %u/%u: %s", round + 1, options->rounds, drain_ways[way].name);
            progress_show(text, 0);
            if (results->missing[p][0] == '\0' && ok && (what == PAIRS || !drain_ways[way].pairs_only))
                ok &= take_quiet_turn(results, &child[p],
                                      what < MIXES ? turn_encode(TURN_SLICES, way, what)
                                                   : turn_encode(TURN_SPIN, way, 0),
                                      way, &patience);
        }
        results->rounds++;
    }
    for (enum process p = 0; p < PROCESSES; p++) {
        ok &= take_turn(&child[p], turn_encode(TURN_END, 0, 0), "the end");
        child_stop(&child[p]);
    }
    progress_clear();
    if (results->failure[0] != '\0')
        fprintf(stderr, "weir-bench-drain: %s\n", results->failure);
    return ok && results->failure[0] == '\0';
}

static FILE *open_output(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        fprintf(stderr, "weir-bench-drain: --out: cannot write \"%s\": %s\n", path, strerror(errno));
        exit(2);
    }
    return file;
}

int main(int argc, char **argv)
{
    struct drain_options options = {
        .rounds = 9, .slice = 20, .rate = 1000, .busy_cpu = -1, .drainer_cpu = -1, .out = "bench/out"};
    static struct machine machine;
    struct cpu_time before;

    parse(&options, argc, argv);
    FILE *json = open_output(options.out, "drain.json");
    FILE *data = open_output(options.out, "drain.dat");
    machine_describe(&machine);
    struct drain_results *results = shared_memory(sizeof *results);
    results->slice = options.slice;
    results->rate = options.rate;
    choose_cpus(results, &options, &machine);

    machine_cpu_time(&before);
    double start = seconds_now();
    bool ok = run_rounds(results, &options);
    results->seconds = seconds_now() - start;
    machine_noise(&results->noise, &before);

    drain_json(json, results, &machine);
    fclose(json);
    drain_data(data, results);
    fclose(data);
    if (options.json)
        drain_json(stdout, results, &machine);
    else if (options.markdown)
        drain_markdown(stdout, results, &machine);
    else
        drain_report(stdout, results, &machine);
    return ok ? 0 : 1;
}
