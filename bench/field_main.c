/* SPDX-License-Identifier: MIT */
/* field_main.c - deferred free beside its peers: options, allocators, rounds. See bench/README.md. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "arguments.h"
#include "field.h"

#define PROGRAM "weir-bench-field"
#define ALL_ALLOCATORS "glibc, mimalloc, jemalloc, tcmalloc"

static struct field_options options = {.object_bytes = 64, .readers = 1, .out = "bench/out"};
static struct field_results results;
static const char *libraries[ALLOCATORS]; /* NULL: not asked for, or not there */

/* --- options; bench/field.txt is what people read --- */

static void parse(int argc, char **argv)
{
    const struct argument table[] = {
        {"--peers", ARGUMENT_FLAG, &options.peers, 0, 0, NULL},
        {"--allocator", ARGUMENT_TEXT, &options.allocators, 0, 0, "some of " ALL_ALLOCATORS},
        {"--threads", ARGUMENT_NUMBER, &options.threads, 1, FIELD_THREADS_MAX, NULL},
        {"--loops", ARGUMENT_NUMBER, &options.loops, 1, 1000000, NULL},
        {"--objects", ARGUMENT_NUMBER, &options.objects, 1, 100000000, NULL},
        {"--object-bytes", ARGUMENT_NUMBER, &options.object_bytes, 32, 65536, NULL},
        {"--free-step", ARGUMENT_NUMBER, &options.free_step, 1, 65536, NULL},
        {"--readers", ARGUMENT_NUMBER, &options.readers, 1, FIELD_READERS_MAX, NULL},
        {"--rounds", ARGUMENT_NUMBER, &options.rounds, 1, ROUNDS_MAX, NULL},
        {"--quick", ARGUMENT_FLAG, &options.quick, 0, 0, NULL},
        {"--out", ARGUMENT_TEXT, &options.out, 0, 0, "a folder"},
        {"--json", ARGUMENT_FLAG, &options.json, 0, 0, NULL},
        {"--markdown", ARGUMENT_FLAG, &options.markdown, 0, 0, NULL},
        {NULL, ARGUMENT_FLAG, NULL, 0, 0, NULL},
    };
    arguments_parse(PROGRAM, "bench/field", table, argc, argv);
    if (options.rounds == 0)
        options.rounds = options.quick ? 1 : 11;
    if (options.loops == 0)
        options.loops = options.quick ? 1 : 10;
    if (options.objects == 0)
        options.objects = options.quick ? 20000 : 100000;
    if (options.json && options.markdown) {
        fputs(PROGRAM ": --json and --markdown: only one of them can be printed\n", stderr);
        exit(2);
    }
}

/* Says why an allocator cannot be there; if it was asked for by its name, that is the end. */
static void need_allocator(enum allocator allocator, bool by_name)
{
    char tried[200];
    const char *name = allocator_name(allocator);
    libraries[allocator] = field_allocator_library(allocator, tried);
    if (libraries[allocator] != NULL)
        return;
    if (allocator == ALLOCATOR_GLIBC)
        snprintf(results.absent[allocator], sizeof results.absent[allocator],
                 "malloc is not the C library's");
    else
        snprintf(results.absent[allocator], sizeof results.absent[allocator], "not installed: no %s", tried);
    if (!by_name)
        return;
    fprintf(stderr, PROGRAM ": --allocator: \"%s\" is %s%s\n", name, results.absent[allocator],
            allocator == ALLOCATOR_GLIBC || options.peers ? "" : " (--peers installs it)");
    exit(2);
}

static void refuse_allocator(const char *name, size_t length)
{
    fprintf(stderr, PROGRAM ": --allocator: \"%.*s\" is not one of %s, separated by commas\n", (int)length,
            name, ALL_ALLOCATORS);
    exit(2);
}

static void choose_allocators(void)
{
    for (const char *at = options.allocators; at != NULL;
         at = strchr(at, ',') != NULL ? strchr(at, ',') + 1 : NULL) {
        enum allocator allocator = ALLOCATOR_GLIBC;
        size_t length = strcspn(at, ",");
        for (; allocator < ALLOCATORS; allocator++) {
            const char *name = allocator_name(allocator);
            if (strlen(name) == length && strncmp(name, at, length) == 0)
                break;
        }
        if (allocator == ALLOCATORS)
            refuse_allocator(at, length);
        need_allocator(allocator, true);
    }
    if (options.allocators != NULL)
        return;
    need_allocator(ALLOCATOR_GLIBC, true);
    for (enum allocator allocator = ALLOCATOR_MIMALLOC; options.peers && allocator < ALLOCATORS; allocator++)
        need_allocator(allocator, false);
}

/* --- the contenders of a table --- */

static struct field_player cast[FIELD_ROWS];

struct progress {
    const struct field_table *table;
    const char *what;
    double fraction;
};

static void show(void *arg)
{
    const struct progress *progress = arg;
    char text[128];
    snprintf(text, sizeof text, "%s, %u thread%s, %s", allocator_name(progress->table->allocator),
             progress->table->threads, progress->table->threads == 1 ? "" : "s", progress->what);
    progress_show(text, progress->fraction);
}

/* Takes a contender that has failed out of the table. True if that must not be: a peer may be missing. */
static bool give_up(struct field_table *table, enum field_row row, const char *failure, bool optional)
{
    snprintf(table->missing[row], sizeof table->missing[row], "not run: %.140s", failure);
    if (!optional)
        fprintf(stderr, PROGRAM ": %s, threads: %u, %s: %s\n", allocator_name(table->allocator),
                table->threads, field_row_name(row), failure);
    return !optional;
}

static bool is_optional(enum field_row row)
{
    return field_row_is_peer(row) || row == ROW_CK;
}

/* A round; *cell is what came of it. True if something is wrong. */
static bool take_turn(struct field_table *table, enum field_row row, enum field_request request,
                      struct field_cell *cell, struct progress *progress)
{
    struct field_player *player = &cast[row];
    char what[128];
    snprintf(what, sizeof what, "no answer");
    show(progress);
    if (!field_player_turn(player, request, cell, sizeof *cell, show, progress))
        snprintf(what, sizeof what, "%.120s", player->failure);
    else if (cell->failure[0] != '\0')
        snprintf(what, sizeof what, "%s", cell->failure);
    else if (cell->handed != cell->freed)
        snprintf(what, sizeof what, "of %llu objects handed over %llu were freed",
                 (unsigned long long)cell->handed, (unsigned long long)cell->freed);
    else
        return false;
    return give_up(table, row, what, is_optional(row) && player->failure[0] != '\0');
}

/* What a reclaimer whose objects are freed by free() chooses. */
static size_t free_step(enum allocator allocator)
{
    if (options.free_step != 0)
        return options.free_step;
    return allocator == ALLOCATOR_GLIBC ? WEIR_RECLAIMER_STEP_GLIBC : WEIR_RECLAIMER_STEP_DEFAULT;
}

/* Starts one, which warms up; and somebody looks on for a round. True if something is wrong. */
static bool enter(struct field_table *table, enum field_row row, struct progress *progress)
{
    const struct field_setting setting = {.threads = table->threads,
                                          .readers = options.readers,
                                          .loops = options.loops,
                                          .objects = options.objects,
                                          .object_bytes = options.object_bytes,
                                          .depth = field_row_is_page(row) ? table->page_depth : table->depth,
                                          .free_step = free_step(table->allocator)};
    struct field_player *player = &cast[row];
    struct field_cell ignored;
    if (field_row_is_peer(row) && !options.peers) {
        snprintf(table->missing[row], sizeof table->missing[row], "with --peers");
        return false;
    }
    progress->what = field_row_id(row);
    field_player_start(player, row, table->allocator, libraries[table->allocator], &setting);
    if (take_turn(table, row, FIELD_WARM_UP, &ignored, progress))
        return true;
    if (table->missing[row][0] != '\0' || field_player_turn(player, FIELD_SAMPLE, &table->sampled[row],
                                                            sizeof table->sampled[row], show, progress))
        return false;
    return give_up(table, row, player->failure, is_optional(row));
}

/* The floors come last: they keep as many objects alive as weir's ways did, on average, per thread. */
static bool enter_all(struct field_table *table, struct progress *progress)
{
    bool failed = false;
    for (enum field_row row = 0; row < FIELD_ROWS; row++)
        if (!field_row_is_floor(row))
            failed |= enter(table, row, progress);
    double pending = (table->sampled[ROW_WEIR].mean + table->sampled[ROW_TWO_ARGUMENT].mean +
                      table->sampled[ROW_MIGHTSLEEP].mean) /
                     3;
    table->depth = (size_t)(pending / table->threads + 0.5);
    table->page_depth = (size_t)(table->sampled[ROW_PAGES].mean / table->threads + 0.5);
    for (enum field_row row = 0; row < FIELD_ROWS; row++)
        if (field_row_is_floor(row))
            failed |= enter(table, row, progress);
    return failed;
}

/* Who is still there closes, and has to have every object. */
static bool leave_all(struct field_table *table, struct progress *progress)
{
    bool failed = false;
    for (enum field_row row = 0; row < FIELD_ROWS; row++) {
        struct field_cell cell;
        if (table->missing[row][0] == '\0')
            failed |= take_turn(table, row, FIELD_CLOSE, &cell, progress);
        field_player_stop(&cast[row]);
    }
    return failed;
}

/* True if something is wrong. */
static bool measure_table(struct field_table *table)
{
    struct progress progress = {table, "", 0};
    char what[40];

    memset(cast, 0, sizeof cast);
    table->cells = calloc((size_t)options.rounds * FIELD_ROWS, sizeof *table->cells);
    if (table->cells == NULL) {
        perror(PROGRAM);
        exit(1);
    }
    bool failed = enter_all(table, &progress);
    progress.what = what;
    for (unsigned turn = 0; turn < options.rounds * FIELD_ROWS; turn++) {
        /* By turns; who begins changes with each round. */
        unsigned round = turn / FIELD_ROWS;
        enum field_row row = (turn + round) % FIELD_ROWS;
        snprintf(what, sizeof what, "round %u/%u: %.20s", round + 1, options.rounds, field_row_id(row));
        progress.fraction = (double)turn / (options.rounds * FIELD_ROWS);
        if (table->missing[row][0] == '\0')
            failed |= take_turn(table, row, FIELD_ROUND, field_cell_of(table, round, row), &progress);
    }
    failed |= leave_all(table, &progress);
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

static void add_tables(const struct machine *machine)
{
    unsigned many = options.threads != 0 ? options.threads : machine->cpus;
    if (many > FIELD_THREADS_MAX)
        many = FIELD_THREADS_MAX;
    options.threads = many;
    for (enum allocator allocator = ALLOCATOR_GLIBC; allocator < ALLOCATORS; allocator++) {
        if (libraries[allocator] == NULL)
            continue;
        results.table[results.tables++] = (struct field_table){.allocator = allocator, .threads = 1};
        if (many != 1)
            results.table[results.tables++] = (struct field_table){.allocator = allocator, .threads = many};
    }
}

static void write_data(void)
{
    for (enum allocator allocator = ALLOCATOR_GLIBC; allocator < ALLOCATORS; allocator++) {
        char name[40];
        if (libraries[allocator] == NULL)
            continue;
        snprintf(name, sizeof name, "field-%s.dat", allocator_name(allocator));
        FILE *data = open_output(name);
        field_data(data, &results, allocator);
        fclose(data);
    }
}

int main(int argc, char **argv)
{
    static struct machine machine;
    struct cpu_time before;
    bool failed = false;

    parse(argc, argv);
    choose_allocators();
    FILE *json = open_output("field.json");
    machine_describe(&machine);
    results.options = &options;
    results.machine = &machine;
    add_tables(&machine);
    machine_cpu_time(&before);
    double start = seconds_now();
    progress_start(results.tables);
    for (unsigned i = 0; i < results.tables; i++)
        failed |= measure_table(&results.table[i]);
    progress_clear();
    results.seconds = seconds_now() - start;
    machine_noise(&results.noise, &before);

    field_json(json, &results);
    fclose(json);
    write_data();
    if (options.json)
        field_json(stdout, &results);
    else if (options.markdown)
        field_markdown(stdout, &results);
    else
        field_report(stdout, &results);
    for (unsigned i = 0; i < results.tables; i++)
        free(results.table[i].cells);
    return failed ? 1 : 0;
}
