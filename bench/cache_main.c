/* SPDX-License-Identifier: MIT */
/* cache_main.c - the engine beside its peers: options, rounds, and who can take part. See bench/README.md. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "cache.h"

#define PROGRAM "weir-bench-cache"

static struct cache_options options = {.out = "bench/out", .workload = "all", .object_bytes = 64};

/* bench/cache.txt is what people read. */
static void parse(int argc, char **argv)
{
    const struct argument table[] = {
        {"--peers", ARGUMENT_FLAG, &options.peers, 0, 0, NULL},
        {"--json", ARGUMENT_FLAG, &options.json, 0, 0, NULL},
        {"--markdown", ARGUMENT_FLAG, &options.markdown, 0, 0, NULL},
        {"--quick", ARGUMENT_FLAG, &options.quick, 0, 0, NULL},
        {"--rounds", ARGUMENT_NUMBER, &options.rounds, 1, ROUNDS_MAX, NULL},
        {"--milliseconds", ARGUMENT_NUMBER, &options.milliseconds, 1, 1000, NULL},
        {"--object-bytes", ARGUMENT_NUMBER, &options.object_bytes, 8, 4096, NULL},
        {"--workload", ARGUMENT_WORD, &options.workload, 0, 0, "pair, bulk, threads, pipe, all"},
        {"--out", ARGUMENT_TEXT, &options.out, 0, 0, "a folder"},
        {NULL, ARGUMENT_FLAG, NULL, 0, 0, NULL},
    };
    arguments_parse(PROGRAM, "bench/cache", table, argc, argv);
    if (options.rounds == 0)
        options.rounds = options.quick ? 1 : 11;
    if (options.milliseconds == 0)
        options.milliseconds = options.quick ? 3 : 60;
    if (options.json && options.markdown) {
        fputs(PROGRAM ": --json and --markdown: only one of them can be printed\n", stderr);
        exit(2);
    }
}

/* --- the contenders of a table --- */

struct cast {
    struct cache_player player[CACHE_ROWS][CACHE_COLUMNS_MAX];
};

static bool takes_part(const struct cache_table *table, unsigned row, unsigned column)
{
    return (table->rows[column] & 1u << row) != 0;
}

static struct cache_player *player_of(struct cast *cast, const struct cache_table *table, unsigned row,
                                      unsigned column)
{
    return &cast->player[row][table->own_processes ? column : 0];
}

/* Says what is wrong with it. True if something is that must not be: a peer may be missing. */
static bool complain(const struct cache_result *result, unsigned row, const char *heading,
                     const struct cache_cell *cell, const struct cache_player *player)
{
    const char *failure = player->failure[0] != '\0' ? player->failure : cell->failure;
    if (failure[0] == '\0' && cell->missing == 0 && cell->damaged == 0)
        return false;
    fprintf(stderr, PROGRAM ": %s: %s, %s: %s%sobjects lost: %llu, damaged: %llu\n", result->table->id,
            cache_row_name(row, false), heading, failure, failure[0] != '\0' ? "; " : "",
            (unsigned long long)cell->missing, (unsigned long long)cell->damaged);
    return cell->missing != 0 || cell->damaged != 0 || row == ROW_LIFO || row == ROW_WEIR;
}

/* Starts them; each has done a job before anything counts. True if one of this program's does not start. */
static bool gather(struct cast *cast, struct cache_result *result)
{
    const struct cache_table *table = result->table;
    const struct cache_cell nothing = {0};
    struct cache_setting setting = {options.object_bytes, options.milliseconds, 0};
    bool failed = false;
    memset(cast, 0, sizeof *cast);
    for (unsigned column = 0; column < table->columns; column++)
        if (cache_job_threads(&table->job[column]) > setting.threads)
            setting.threads = cache_job_threads(&table->job[column]);
    for (unsigned row = 0; row < CACHE_ROWS; row++) {
        if (cache_row_is_peer(row) && !options.peers)
            snprintf(result->missing[row], sizeof result->missing[row], "with --peers");
        for (unsigned column = 0; column < table->columns; column++) {
            struct cache_player *player = player_of(cast, table, row, column);
            if (!takes_part(table, row, column) || player->errors != NULL || result->missing[row][0] != '\0')
                continue;
            cache_player_start(player, row, &setting, cache_job_encode(table, column));
            if (player->failure[0] == '\0')
                continue;
            snprintf(result->missing[row], sizeof result->missing[row], "not run: %.140s", player->failure);
            failed |= complain(result, row, "at the start", &nothing, player);
        }
    }
    return failed;
}

/* Lets everybody count once more, and go. True if something is missing. */
static bool dismiss(struct cast *cast, const struct cache_result *result)
{
    bool failed = false;
    for (unsigned row = 0; row < CACHE_ROWS; row++) {
        for (unsigned column = 0; column < CACHE_COLUMNS_MAX; column++) {
            struct cache_player *player = &cast->player[row][column];
            struct cache_cell cell;
            if (player->errors == NULL)
                continue;
            if (player->failure[0] == '\0') {
                cache_player_turn(player, &cell, CACHE_RECOUNT);
                failed |= complain(result, row, "at the end", &cell, player);
            }
            cache_player_stop(player);
        }
    }
    return failed;
}

/* All contenders by turns, column by column; who begins changes. True if something failed. */
static bool round_of(struct cast *cast, struct cache_result *result, unsigned round)
{
    const struct cache_table *table = result->table;
    bool failed = false;
    for (unsigned turn = 0; turn < table->columns * CACHE_ROWS; turn++) {
        unsigned column = turn / CACHE_ROWS, row = (turn + round) % CACHE_ROWS;
        struct cache_player *player = player_of(cast, table, row, column);
        struct cache_cell *cell = cache_cell_of(result, round, row, column);
        if (!takes_part(table, row, column) || result->missing[row][0] != '\0')
            continue;
        cache_player_turn(player, cell, cache_job_encode(table, column));
        failed |= complain(result, row, table->heading[column], cell, player);
        if (player->failure[0] != '\0')
            snprintf(result->missing[row], sizeof result->missing[row], "not run: %.140s", player->failure);
    }
    return failed;
}

static bool measure_table(struct cache_result *result)
{
    static struct cast cast;
    char text[80];
    bool failed;

    result->cells = calloc((size_t)options.rounds * CACHE_ROWS * CACHE_COLUMNS_MAX, sizeof *result->cells);
    if (result->cells == NULL) {
        perror(PROGRAM);
        exit(1);
    }
    snprintf(text, sizeof text, "%s: starting the contenders", result->table->id);
    progress_show(text, 0);
    failed = gather(&cast, result);
    for (unsigned round = 0; round < options.rounds; round++) {
        snprintf(text, sizeof text, "%s: round %u/%u", result->table->id, round + 1, options.rounds);
        progress_show(text, (double)round / options.rounds);
        failed |= round_of(&cast, result, round);
    }
    failed |= dismiss(&cast, result);
    progress_next_stage();
    return failed;
}

static FILE *open_json(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/cache.json", folder);
    FILE *json = fopen(path, "w");
    if (json == NULL) {
        fprintf(stderr, PROGRAM ": --out: cannot write \"%s\": %s\n", path, strerror(errno));
        exit(2);
    }
    return json;
}

static bool asked_for(const struct cache_table *table)
{
    return strcmp(options.workload, "all") == 0 || strcmp(options.workload, table->workload) == 0;
}

int main(int argc, char **argv)
{
    static struct cache_results results;
    static struct machine machine;
    struct cpu_time before;
    unsigned tables = 0;
    bool failed = false;

    parse(argc, argv);
    FILE *json = open_json(options.out);
    machine_describe(&machine);
    results.options = &options;
    results.machine = &machine;
    machine_cpu_time(&before);
    double start = seconds_now();
    for (unsigned i = 0; i < CACHE_TABLES; i++) {
        results.table[i].table = &cache_tables[i];
        tables += asked_for(&cache_tables[i]);
    }
    progress_start(tables);
    for (unsigned i = 0; i < CACHE_TABLES; i++)
        if (asked_for(&cache_tables[i]))
            failed |= measure_table(&results.table[i]);
    progress_clear();
    results.seconds = seconds_now() - start;
    machine_noise(&results.noise, &before);

    cache_json(json, &results);
    fclose(json);
    if (options.json)
        cache_json(stdout, &results);
    else if (options.markdown)
        cache_markdown(stdout, &results);
    else
        cache_report(stdout, &results);
    for (unsigned i = 0; i < CACHE_TABLES; i++)
        free(results.table[i].cells);
    return failed ? 1 : 0;
}
