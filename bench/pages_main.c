/* SPDX-License-Identifier: MIT */
/* pages_main.c - the page cache measured: options, rounds, and who can take part. See bench/README.md. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "pages.h"

#define PROGRAM "weir-bench-pages"
#define CHURN_ROUNDS_MAX 7 /* more take long */
#define RESERVE 128        /* pages, in the second run of nolock */

static struct pages_options options = {.out = "bench/out", .workload = "all"};
static struct pages_results results;

/* bench/pages.txt is what people read. */
static void parse(int argc, char **argv)
{
    const struct argument table[] = {
        {"--peers", ARGUMENT_FLAG, &options.peers, 0, 0, NULL},
        {"--json", ARGUMENT_FLAG, &options.json, 0, 0, NULL},
        {"--markdown", ARGUMENT_FLAG, &options.markdown, 0, 0, NULL},
        {"--quick", ARGUMENT_FLAG, &options.quick, 0, 0, NULL},
        {"--rounds", ARGUMENT_NUMBER, &options.rounds, 1, ROUNDS_MAX, NULL},
        {"--working-set", ARGUMENT_NUMBER, &options.working_set, 4, 65536, NULL},
        {"--burst", ARGUMENT_NUMBER, &options.burst, 16, 65536, NULL},
        {"--workload", ARGUMENT_WORD, &options.workload, 0, 0, "pair, frames, churn, nolock, burst, all"},
        {"--out", ARGUMENT_TEXT, &options.out, 0, 0, "a folder"},
        {NULL, ARGUMENT_FLAG, NULL, 0, 0, NULL},
    };
    arguments_parse(PROGRAM, "bench/pages", table, argc, argv);
    if (options.rounds == 0)
        options.rounds = options.quick ? 1 : 11;
    if (options.working_set == 0)
        options.working_set = options.quick ? 32 : 1024;
    if (options.burst == 0)
        options.burst = options.quick ? 32 : 512;
    if (options.json && options.markdown) {
        fputs(PROGRAM ": --json and --markdown: only one of them can be printed\n", stderr);
        exit(2);
    }
}

static bool asked_for(const char *workload)
{
    return strcmp(options.workload, "all") == 0 || strcmp(options.workload, workload) == 0;
}

static void *allocate(size_t n, size_t bytes)
{
    void *memory = calloc(n, bytes);
    if (memory == NULL) {
        perror(PROGRAM);
        exit(1);
    }
    return memory;
}

/* --- tables --- */

static struct pages_player cast[PAGES_ROWS];

static bool takes_part(const struct pages_table *table, unsigned row, unsigned column)
{
    return (table->rows[column] & 1u << row) != 0;
}

/* Takes a contender out of the table. True if that must not be: a peer may be missing. */
static bool give_up(struct pages_result *result, unsigned row, const char *why)
{
    snprintf(result->missing[row], sizeof result->missing[row], "not run: %.140s", why);
    if (!pages_row_is_peer(row))
        fprintf(stderr, PROGRAM ": %s: %s: %s\n", result->table->id, pages_row_name(row), why);
    return !pages_row_is_peer(row);
}

/* Starts one; it has done a job before anything counts. */
static bool enter(struct pages_result *result, unsigned row)
{
    const struct pages_table *table = result->table;
    struct pages_setting setting = {0, 0};
    if (table->fresh)
        setting =
            (struct pages_setting){(size_t)options.working_set << 20 >> 12, options.quick ? 50000 : 1000000};
    pages_player_start(&cast[row], row, &setting, pages_job_encode(table, 0));
    return cast[row].failure[0] != '\0' && give_up(result, row, cast[row].failure);
}

/* Lets one count once more, and go. True if something is wrong. */
static bool leave(struct pages_result *result, unsigned row)
{
    struct pages_player *player = &cast[row];
    struct pages_cell cell;
    char why[64];
    bool failed = false;
    if (result->missing[row][0] == '\0') {
        pages_player_turn(player, &cell, PAGES_RECOUNT);
        if (player->failure[0] != '\0')
            failed = give_up(result, row, player->failure);
        snprintf(why, sizeof why, "pages lost, or handed out twice: %llu", (unsigned long long)cell.wrong);
        if (cell.wrong != 0) {
            give_up(result, row, why);
            failed = true;
        }
    }
    pages_player_stop(player);
    return failed;
}

static bool take_turn(struct pages_result *result, unsigned row, unsigned column, unsigned round)
{
    struct pages_cell *cell = pages_cell_of(result, round, row, column);
    if (!takes_part(result->table, row, column) || result->missing[row][0] != '\0')
        return false;
    pages_player_turn(&cast[row], cell, pages_job_encode(result->table, column));
    if (cast[row].failure[0] != '\0')
        return give_up(result, row, cast[row].failure);
    return cell->failure[0] != '\0' && give_up(result, row, cell->failure);
}

static bool is_there(const struct pages_result *result, unsigned row)
{
    return takes_part(result->table, row, 0) && result->missing[row][0] == '\0';
}

/* One after the other, each in a process of its own: so that there is one working set at a time. */
static bool fresh_round(struct pages_result *result, unsigned round)
{
    bool failed = false;
    for (unsigned turn = 0; turn < PAGES_ROWS; turn++) {
        unsigned row = (turn + round) % PAGES_ROWS;
        if (!is_there(result, row))
            continue;
        failed |= enter(result, row);
        for (unsigned column = 0; column < result->table->columns; column++)
            failed |= take_turn(result, row, column, round);
        failed |= leave(result, row);
    }
    return failed;
}

/* All by turns, column by column; who begins changes. */
static bool round_of(struct pages_result *result, unsigned round)
{
    bool failed = false;
    for (unsigned turn = 0; turn < result->table->columns * PAGES_ROWS; turn++)
        failed |= take_turn(result, (turn + round) % PAGES_ROWS, turn / PAGES_ROWS, round);
    return failed;
}

static bool measure_table(struct pages_result *result)
{
    const struct pages_table *table = result->table;
    bool failed = false;

    memset(cast, 0, sizeof cast);
    result->cells = allocate((size_t)options.rounds * PAGES_ROWS * PAGES_COLUMNS_MAX, sizeof *result->cells);
    for (unsigned row = 0; row < PAGES_ROWS; row++) {
        if (pages_row_is_peer(row) && !options.peers)
            snprintf(result->missing[row], sizeof result->missing[row], "with --peers");
        if (!table->fresh && is_there(result, row))
            failed |= enter(result, row);
    }
    unsigned rounds = table->fresh && options.rounds > CHURN_ROUNDS_MAX ? CHURN_ROUNDS_MAX : options.rounds;
    for (unsigned round = 0; round < rounds; round++) {
        char text[80];
        snprintf(text, sizeof text, "%s: round %u/%u", table->id, round + 1, rounds);
        progress_show(text, (double)round / rounds);
        failed |= table->fresh ? fresh_round(result, round) : round_of(result, round);
    }
    for (unsigned row = 0; row < PAGES_ROWS; row++)
        if (!table->fresh && takes_part(table, row, 0))
            failed |= leave(result, row);
    progress_next_stage();
    return failed;
}

/* --- what is not a table --- */

static bool measure_nolock(void)
{
    bool failed = false;
    results.nolock = allocate(NOLOCK_RUNS, sizeof results.nolock[0]);
    results.nolock_runs = NOLOCK_RUNS;
    for (unsigned i = 0; i < NOLOCK_RUNS; i++) {
        struct nolock_run *run = &results.nolock[i];
        progress_show("nolock", (double)i / NOLOCK_RUNS);
        run->reserve = i == 0 ? 0 : RESERVE;
        run->seconds = options.quick ? 0.3 : 8;
        nolock_measure(run);
        if (run->failure[0] != '\0')
            fprintf(stderr, PROGRAM ": nolock, reserve of %u: %s\n", run->reserve, run->failure);
        failed |= run->failure[0] != '\0';
    }
    progress_next_stage();
    return failed;
}

/* Nothing in use, then some pages in use and several times, then with the default decay. */
static bool measure_bursts(void)
{
    unsigned often = options.rounds < BURST_ROUNDS_MAX ? options.rounds : BURST_ROUNDS_MAX;
    bool failed = false;
    results.burst_runs = 1 + often + !options.quick;
    results.burst = allocate(results.burst_runs, sizeof results.burst[0]);
    for (unsigned i = 0; i < results.burst_runs; i++) {
        struct burst_run *run = &results.burst[i];
        bool by_default = i > often;
        progress_show(by_default ? "burst and idle, default decay" : "burst and idle",
                      (double)i / results.burst_runs);
        run->decay_milliseconds = by_default ? 0 : options.quick ? 10 : BURST_FAST;
        run->bytes = (size_t)options.burst << 20;
        run->in_use = i == 0 ? 0 : run->bytes / BURST_IN_USE;
        burst_measure(run);
        if (run->failure[0] != '\0')
            fprintf(stderr, PROGRAM ": burst, decay every %u ms: %s\n", run->decay_milliseconds,
                    run->failure);
        failed |= run->failure[0] != '\0';
    }
    progress_next_stage();
    return failed;
}

/* --- everything --- */

static FILE *open_output(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", options.out, name);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        fprintf(stderr, PROGRAM ": --out: cannot write \"%s\": %s\n", path, strerror(errno));
        exit(2);
    }
    return file;
}

static void write_data(const char *name, void (*write_to)(FILE *to, const struct pages_results *results))
{
    FILE *file = open_output(name);
    write_to(file, &results);
    fclose(file);
}

static bool measure_all(void)
{
    unsigned stages = asked_for("nolock") + asked_for("burst");
    bool failed = false;
    for (unsigned i = 0; i < PAGES_TABLES; i++) {
        results.table[i].table = &pages_tables[i];
        stages += asked_for(pages_tables[i].workload);
    }
    progress_start(stages);
    for (unsigned i = 0; i < PAGES_TABLES; i++)
        if (asked_for(pages_tables[i].workload))
            failed |= measure_table(&results.table[i]);
    if (asked_for("nolock"))
        failed |= measure_nolock();
    if (asked_for("burst"))
        failed |= measure_bursts();
    progress_clear();
    return failed;
}

int main(int argc, char **argv)
{
    static struct machine machine;
    struct cpu_time before;

    parse(argc, argv);
    FILE *json = open_output("pages.json");
    machine_describe(&machine);
    results.options = &options;
    results.machine = &machine;
    machine_cpu_time(&before);
    double start = seconds_now();
    bool failed = measure_all();
    results.seconds = seconds_now() - start;
    machine_noise(&results.noise, &before);

    pages_json(json, &results);
    fclose(json);
    if (results.nolock_runs != 0)
        write_data("pages-nolock.dat", pages_nolock_data);
    if (results.burst_runs != 0)
        write_data("pages-burst.dat", pages_burst_data);
    if (options.json)
        pages_json(stdout, &results);
    else if (options.markdown)
        pages_markdown(stdout, &results);
    else
        pages_report(stdout, &results);
    for (unsigned i = 0; i < PAGES_TABLES; i++)
        free(results.table[i].cells);
    free(results.nolock);
    free(results.burst);
    return failed ? 1 : 0;
}
