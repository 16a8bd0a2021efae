/* SPDX-License-Identifier: MIT */
/* primitives_main.c - floor 1 beside its peers: options, rounds, and who can take part. See bench/README.md. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "primitives.h"

#define PATIENCE_SECONDS 30

/* --- options; bench/primitives.txt is what people read --- */

static void refuse(const char *name, const char *value, const char *accepted)
{
    if (value != NULL)
        fprintf(stderr, "weir-bench-primitives: %s: \"%s\" is not %s\n", name, value, accepted);
    else
        fprintf(stderr, "weir-bench-primitives: %s needs a value: %s\n", name, accepted);
    exit(2);
}

static unsigned whole_number(const char *name, const char *value)
{
    char *end = NULL;
    long n = value != NULL ? strtol(value, &end, 10) : 0;
    if (value == NULL || *value < '0' || *value > '9' || *end != '\0' || n < 1 || n > ROUNDS_MAX)
        refuse(name, value, "a number from 1 to 1000");
    return (unsigned)n;
}

static const char *workload_name(const char *name, const char *value)
{
    for (unsigned i = 0; value != NULL && i < TABLES; i++)
        if (strcmp(value, primitives_tables[i].option) == 0)
            return value;
    if (value == NULL || strcmp(value, "all") != 0)
        refuse(name, value, "one of add, contended, batch, pair, bulk, designs, all");
    return NULL;
}

static bool parse_flag(struct primitives_options *options, const char *name)
{
    if (strcmp(name, "--peers") == 0) {
        options->peers = true;
    } else if (strcmp(name, "--json") == 0) {
        options->json = true;
    } else if (strcmp(name, "--markdown") == 0) {
        options->markdown = true;
    } else if (strcmp(name, "--quick") == 0) {
        options->rounds = 1;
        options->milliseconds = 3;
    } else {
        return false;
    }
    return true;
}

static bool parse_value(struct primitives_options *options, const char *name, const char *value)
{
    if (strcmp(name, "--rounds") == 0) {
        options->rounds = whole_number(name, value);
    } else if (strcmp(name, "--milliseconds") == 0) {
        options->milliseconds = whole_number(name, value);
    } else if (strcmp(name, "--workload") == 0) {
        options->workload = workload_name(name, value);
    } else if (strcmp(name, "--out") == 0) {
        if (value == NULL || *value == '\0')
            refuse(name, NULL, "a folder");
        options->out = value;
    } else {
        return false;
    }
    return true;
}

static void parse(struct primitives_options *options, int argc, char **argv)
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
            fprintf(
                stderr,
                "weir-bench-primitives: unknown option \"%s\"; bench/primitives --help lists the options\n",
                argv[i]);
            exit(2);
        }
        i += equals == NULL;
    }
    if (options->json && options->markdown) {
        fputs("weir-bench-primitives: --json and --markdown: only one of them can be printed\n", stderr);
        exit(2);
    }
}

/* --- DPDK's program --- */

struct dpdk {
    struct child child;
    FILE *errors; /* what it says when it cannot run */
    unsigned milliseconds;
    char failure[160]; /* empty: it runs */
};

/* In the child. */
static void become_dpdk(void *arg)
{
    const struct dpdk *dpdk = arg;
    char program[] = "weir-bench-primitives-dpdk", milliseconds[16];
    char *argv[] = {program, milliseconds, NULL};
    snprintf(milliseconds, sizeof milliseconds, "%u", dpdk->milliseconds);
    child_become(program, argv);
}

static void dpdk_cell(struct dpdk *dpdk, struct cell *cell, const struct job *job, int contender)
{
    const struct patience patience = {PATIENCE_SECONDS, NULL, NULL};

    *cell = (struct cell){0};
    if (dpdk->failure[0] != '\0' ||
        child_turn(&dpdk->child, job_encode(job, contender), cell, sizeof *cell, &patience, dpdk->failure))
        return;
    child_words(dpdk->errors, dpdk->failure);
}

static void dpdk_start(struct dpdk *dpdk, unsigned milliseconds)
{
    const struct job job = {PAIR, 1, 1};
    struct cell ignored;
    *dpdk = (struct dpdk){.errors = tmpfile(), .milliseconds = milliseconds};
    if (dpdk->errors == NULL || !child_start(&dpdk->child, become_dpdk, dpdk, dpdk->errors))
        snprintf(dpdk->failure, sizeof dpdk->failure, "could not be started: %s", strerror(errno));
    else
        dpdk_cell(dpdk, &ignored, &job, 1);
}

/* --- everything --- */

/* Leaves in `missing` why a contender cannot take part. */
static void admit(char missing[160], const struct contender_type *contender,
                  const struct primitives_options *options, const struct dpdk *dpdk)
{
    if (contender->on_request && !options->peers)
        snprintf(missing, 160, "with --peers");
    else if (contender->elsewhere != 0 && dpdk->failure[0] != '\0')
        snprintf(missing, 160, "not run: %.140s", dpdk->failure);
    else if (contender->elsewhere == 0 && contender->open == NULL)
        snprintf(missing, 160, "not run: was not there when this was built");
}

static bool complain(const struct table *table, unsigned row, const struct job *job, const struct cell *cell)
{
    if (cell->failure[0] == '\0')
        return false;
    fprintf(stderr, "weir-bench-primitives: %s: %s, threads: %u, batch: %u: %s\n", table->id,
            table->row[row]->name, job->threads, job->batch, cell->failure);
    return true;
}

/* Does everybody who adds keep all nodes? True if not. */
static bool check_adds(const struct table_result *result, const struct machine *machine)
{
    bool failed = false;
    for (unsigned row = 0; row < ROWS_MAX && result->table->row[row] != NULL; row++) {
        for (unsigned threads = 1; threads <= WORKERS_MAX && result->missing[row][0] == '\0'; threads *= 2) {
            const struct job job = {ADD_TAKE, 1, threads};
            struct cell cell;
            cell_check(&cell, result->table->row[row], threads, machine);
            failed |= complain(result->table, row, &job, &cell);
        }
    }
    return failed;
}

/* All contenders of a table by turns, column by column; who begins changes. True if something failed. */
static bool round_of(struct table_result *result, unsigned round, const struct primitives_options *options,
                     const struct machine *machine, struct dpdk *dpdk)
{
    const struct table *table = result->table;
    unsigned rows = 0;
    bool failed = false;

    while (rows < ROWS_MAX && table->row[rows] != NULL)
        rows++;
    for (unsigned turn = 0; turn < table->columns * rows; turn++) {
        unsigned column = turn / rows, row = (turn + round) % rows;
        const struct contender_type *contender = table->row[row];
        struct cell *cell = &result->cells[(round * ROWS_MAX + row) * COLUMNS_MAX + column];
        if (result->missing[row][0] != '\0')
            continue;
        if (contender->elsewhere == 0)
            cell_run(cell, contender, &table->job[column], options->milliseconds, machine);
        else
            dpdk_cell(dpdk, cell, &table->job[column], contender->elsewhere);
        failed |= complain(table, row, &table->job[column], cell);
        if (contender->elsewhere != 0)
            admit(result->missing[row], contender, options, dpdk);
    }
    return failed;
}

static bool prepare(struct primitives_results *results, const struct dpdk *dpdk)
{
    const struct primitives_options *options = results->options;
    bool failed = false;
    for (unsigned i = 0; i < TABLES; i++) {
        struct table_result *result = &results->table[i];
        const struct table *table = result->table = &primitives_tables[i];
        if (options->workload != NULL && strcmp(options->workload, table->option) != 0)
            continue;
        result->cells = calloc((size_t)options->rounds * ROWS_MAX * COLUMNS_MAX, sizeof *result->cells);
        if (result->cells == NULL) {
            perror("weir-bench-primitives");
            exit(1);
        }
        for (unsigned row = 0; row < ROWS_MAX && table->row[row] != NULL; row++)
            admit(result->missing[row], table->row[row], options, dpdk);
        if (table->job[0].workload == ADD_TAKE || table->job[0].workload == ADD_BATCH)
            failed |= check_adds(result, results->machine);
    }
    return failed;
}

static FILE *open_json(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/primitives.json", folder);
    FILE *json = fopen(path, "w");
    if (json == NULL) {
        fprintf(stderr, "weir-bench-primitives: --out: cannot write \"%s\": %s\n", path, strerror(errno));
        exit(2);
    }
    return json;
}

int main(int argc, char **argv)
{
    static struct primitives_options options = {.rounds = 7, .milliseconds = 30, .out = "bench/out"};
    static struct primitives_results results;
    static struct machine machine;
    struct dpdk dpdk = {.child = {-1, -1, -1}};
    struct cpu_time before;

    parse(&options, argc, argv);
    FILE *json = open_json(options.out);
    machine_describe(&machine);
    results = (struct primitives_results){.options = &options, .machine = &machine};
    machine_cpu_time(&before);
    double start = seconds_now();

    progress_start(1);
    progress_show("starting", 0);
    if (options.peers)
        dpdk_start(&dpdk, options.milliseconds);
    bool failed = prepare(&results, &dpdk);
    for (unsigned round = 0; round < options.rounds; round++) {
        for (unsigned i = 0; i < TABLES; i++) {
            char text[64];
            snprintf(text, sizeof text, "round %u/%u: %s", round + 1, options.rounds,
                     primitives_tables[i].id);
            progress_show(text, ((double)round + (double)i / TABLES) / options.rounds);
            if (results.table[i].cells != NULL)
                failed |= round_of(&results.table[i], round, &options, &machine, &dpdk);
        }
        results.rounds++;
    }
    child_stop(&dpdk.child); /* before the noise, so that its CPU time counts as ours */
    progress_clear();
    results.seconds = seconds_now() - start;
    machine_noise(&results.noise, &before);

    primitives_json(json, &results);
    fclose(json);
    if (options.json)
        primitives_json(stdout, &results);
    else if (options.markdown)
        primitives_markdown(stdout, &results);
    else
        primitives_report(stdout, &results);
    for (unsigned i = 0; i < TABLES; i++)
        free(results.table[i].cells);
    return failed ? 1 : 0;
}
