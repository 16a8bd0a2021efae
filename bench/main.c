/* SPDX-License-Identifier: MIT */
/* main.c - runs what the options ask for, and writes the results down. See bench/README.md. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench.h"

/* Opens a file in the output folder; exits with a message if that cannot be. */
static FILE *open_output(const struct options *options, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", options->out, name);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        fprintf(stderr, "weir-bench: --out: cannot write \"%s\": %s\n", path, strerror(errno));
        exit(2);
    }
    return file;
}

/* mkdir -p */
static void make_folder(const char *folder)
{
    char path[4096];
    size_t length = strlen(folder);
    snprintf(path, sizeof path, "%s", folder);
    for (size_t i = 1; i <= length && length < sizeof path; i++) {
        if (folder[i] != '/' && folder[i] != '\0')
            continue;
        path[i] = '\0';
        mkdir(path, 0777); /* if it fails, opening a file in it will say so */
        path[i] = folder[i];
    }
}

static void add_case(struct results *results, enum method_id method, unsigned workers)
{
    struct deferred_result *result = shared_memory(sizeof *result);
    result->method = method;
    result->workers = workers;
    results->case_result[results->cases++] = result;
}

static void add_cases(struct results *results, const struct options *options, unsigned workers)
{
    for (enum method_id method = PLAIN_MALLOC; options->malloc && method <= WEIR_MIGHTSLEEP; method++)
        add_case(results, method, workers);
    for (enum method_id method = PAGE_HIGH_FRACTION_0; options->page && method <= PAGE_HIGH_FRACTION_8;
         method++)
        add_case(results, method, workers);
}

/* For the plots, see plot.gp. */
static void write_samples(const struct options *options, const struct results *results, enum method_id method,
                          const char *name)
{
    FILE *file = open_output(options, name);
    fputs("# SPDX-License-Identifier: MIT\n"
          "# Two blocks per case: milliseconds, pages in use, of them idle in the cache, workers;\n"
          "# and the barriers: milliseconds from, milliseconds to\n",
          file);
    for (unsigned i = 0; i < results->cases; i++) {
        const struct deferred_result *result = results->case_result[i];
        if (result->method != method || result->samples == 0)
            continue;
        for (unsigned k = 0; k < result->samples; k++)
            fprintf(file, "%.4f %zu %zu %u\n", result->sample[k].milliseconds, result->sample[k].frames,
                    result->sample[k].cached, result->workers);
        fputs("\n\n", file);
        for (unsigned k = 0; k < SAMPLED_ROUNDS; k++)
            fprintf(file, "%.4f %.4f\n", result->barrier_from[k], result->barrier_to[k]);
        fputs("\n\n", file);
    }
    fclose(file);
}

/* Exit status 1 if a reader saw something freed too early, or something that was asked for did not run. */
static int status_of(const struct results *results)
{
    int status = 0;
    for (unsigned i = 0; i < results->cases; i++) {
        const struct deferred_result *result = results->case_result[i];
        const char *name = deferred_name(result->method);
        if (result->failure[0] != '\0') {
            fprintf(stderr, "weir-bench: %s, workers: %u: %s\n", name, result->workers, result->failure);
            status = 1;
        } else if (result->checks.violations != 0) {
            fprintf(stderr, "weir-bench: %s, workers: %u: readers saw %llu objects freed too early\n", name,
                    result->workers, (unsigned long long)result->checks.violations);
            status = 1;
        }
    }
    for (enum contender c = 0; c < CONTENDERS; c++) {
        const struct contender_result *contender = &results->pair.contender[c];
        bool peer = c >= TCMALLOC && c <= RTE_MEMPOOL; /* may be missing: the report says so */
        if (contender->failure[0] != '\0' && !peer) {
            fprintf(stderr, "weir-bench: pair, %s: %s\n", contender_name(c), contender->failure);
            status = 1;
        }
    }
    return status;
}

static int measure(const struct options *options, const struct machine *machine)
{
    struct results *results = calloc(1, sizeof *results);
    unsigned workers = options->threads != 0 ? (unsigned)options->threads : machine->cpus;
    struct cpu_time before;
    double start = seconds_now();

    make_folder(options->out);
    FILE *json = open_output(options, "report.json");
    add_cases(results, options, 1);
    unsigned on_one_cpu = results->cases;
    if (workers > 1)
        add_cases(results, options, workers);

    machine_cpu_time(&before);
    progress_start((on_one_cpu != 0 ? 1u : 0u) + (results->cases > on_one_cpu ? 1u : 0u) +
                   (options->pair ? 1u : 0u));
    deferred_run(results->case_result, on_one_cpu, options, machine);
    deferred_run(results->case_result + on_one_cpu, results->cases - on_one_cpu, options, machine);
    if (options->pair)
        pair_run(&results->pair, options, machine);
    progress_clear();
    results->seconds = seconds_now() - start;
    machine_noise(&results->noise, &before);

    json_print(json, options, machine, results);
    fclose(json);
    if (options->page) {
        write_samples(options, results, PAGE_HIGH_FRACTION_0, "pages-high-fraction-0.dat");
        write_samples(options, results, PAGE_HIGH_FRACTION_8, "pages-high-fraction-8.dat");
    }
    if (options->json)
        json_print(stdout, options, machine, results);
    else
        report_print(stdout, options, machine, results);
    fflush(stdout);
    int status = status_of(results);
    free(results);
    return status;
}

/* With a grace period that waits for nobody, and with no grace period at all, readers must notice. */
static int self_check(const struct options *options, const struct machine *machine)
{
    enum { CASES = 4 };
    static const enum method_id broken[CASES] = {FREE_AT_ONCE, WEIR_TWO_ARGUMENT, WEIR_MIGHTSLEEP,
                                                 PAGE_HIGH_FRACTION_0};
    struct deferred_result *result[CASES];
    struct options shorter = *options;
    int status = 0;

    shorter.rounds = 3;
    shorter.objects = options->objects > 100000 ? options->objects : 100000;
    shorter.seconds = 0;
    if (shorter.readers == 0)
        shorter.readers = 1;
    puts("self-check: freeing too early on purpose; the readers have to notice");
    progress_start(1);
    for (size_t i = 0; i < CASES; i++) {
        result[i] = shared_memory(sizeof *result[i]);
        result[i]->method = broken[i];
        result[i]->workers = 1;
        result[i]->break_grace = true;
    }
    deferred_run(result, CASES, &shorter, machine);
    progress_clear();
    for (size_t i = 0; i < CASES; i++) {
        bool noticed = result[i]->failure[0] == '\0' && result[i]->checks.violations != 0;
        printf("  %-36s %8llu objects held, %8llu seen freed too early: %s\n", deferred_name(broken[i]),
               (unsigned long long)result[i]->checks.made, (unsigned long long)result[i]->checks.violations,
               noticed                         ? "noticed"
               : result[i]->failure[0] != '\0' ? result[i]->failure
                                               : "NOT NOTICED");
        status |= !noticed;
    }
    puts(status == 0 ? "self-check: passed" : "self-check: FAILED");
    return status;
}

int main(int argc, char **argv)
{
    static struct options options;
    static struct machine machine;

    options_parse(&options, argc, argv);
    machine_describe(&machine);
    return options.self_check ? self_check(&options, &machine) : measure(&options, &machine);
}
