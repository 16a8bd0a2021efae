/* SPDX-License-Identifier: MIT */
/* field_report.c - the tables: for people (at most 100 columns), for docs/deferred.md, as JSON; and what the
 * plots show. */
#include <string.h>

#include "field.h"

#define NAME_WIDTH 36

static int decimals(double value)
{
    return value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
}

static bool is_weir(unsigned row)
{
    return row <= ROW_MIGHTSLEEP || row == ROW_PAGES || row == ROW_PAGES_ALONE;
}

/* What stands in a row, as text. */
struct cells {
    char hand_over[24], barrier[24], deviation[16], to_floor[24], periods[24], peak[24], mean[24], most[24];
};

static void count_text(char text[24], double count)
{
    if (count < 99999.5)
        snprintf(text, 24, "%.0f", count);
    else
        snprintf(text, 24, "%.0f k", count * 1e-3);
}

static void fill(struct cells *cells, const struct field_results *results, const struct field_table *table,
                 unsigned row)
{
    struct spread hand_over = field_figure(results, table, row, HAND_OVER);
    struct spread barrier = field_figure(results, table, row, TO_BARRIER);
    struct spread to_floor = field_figure(results, table, row, TO_FLOOR);
    *cells = (struct cells){.to_floor = "-", .periods = "-"};
    snprintf(cells->hand_over, sizeof cells->hand_over, "%.*f", decimals(hand_over.median), hand_over.median);
    snprintf(cells->barrier, sizeof cells->barrier, "%.*f", decimals(barrier.median), barrier.median);
    snprintf(cells->deviation, sizeof cells->deviation, "%.0f", text_deviation(&barrier));
    if (to_floor.median > 0)
        snprintf(cells->to_floor, sizeof cells->to_floor, "%.*f", decimals(to_floor.median), to_floor.median);
    if (field_periods_known(table, row))
        count_text(cells->periods, field_figure(results, table, row, PERIODS).median);
    snprintf(cells->peak, sizeof cells->peak, "%.1f", (double)field_peak(results, table, row) / (1 << 20));
    count_text(cells->mean, table->sampled[row].mean);
    count_text(cells->most, table->sampled[row].peak);
}

static void title_of(char text[80], const struct field_table *table)
{
    snprintf(text, 80, "%s, %u thread%s", allocator_name(table->allocator), table->threads,
             table->threads == 1 ? "" : "s");
}

static const char notes[] =
    "Nanoseconds per object of each thread, until the last is handed over, and until "
    "the end of the barrier:\n"
    "medians, and how far off half of the rounds are at most. To floor: as a "
    "multiple of the faster floor's,\n"
    "round against round. Periods: grace periods per round; of ck_epoch epochs. MiB: "
    "the most resident, of all\n"
    "rounds. Waiting: objects handed over and not yet freed, in a round that does "
    "not count: their number on\n"
    "average until the last is handed over, and the most. Floors keep, per thread, what weir had waiting.";

/* --- for people --- */

static void print_line(FILE *to, size_t length)
{
    while (length-- != 0)
        fputc('-', to);
    fputc('\n', to);
}

static void print_row(FILE *to, const struct field_results *results, const struct field_table *table,
                      unsigned row)
{
    struct cells cells;
    fprintf(to, "  %-*s", NAME_WIDTH, field_row_name(row));
    if (table->missing[row][0] != '\0') {
        fprintf(to, "  %.60s\n", table->missing[row]);
        return;
    }
    fill(&cells, results, table, row);
    fprintf(to, "%9s%8s +-%2s%%%9s%8s%7s%8s%8s\n", cells.hand_over, cells.barrier, cells.deviation,
            cells.to_floor, cells.periods, cells.peak, cells.mean, cells.most);
}

static void print_table(FILE *to, const struct field_results *results, const struct field_table *table)
{
    char title[80], floor[64];
    title_of(title, table);
    fprintf(to, "\n%s\n", title);
    print_line(to, strlen(title));
    snprintf(floor, sizeof floor, "floors keep %zu, pages: %zu", table->depth, table->page_depth);
    fprintf(to, "  %-*s%9s%14s%9s%8s%7s%8s%8s\n", NAME_WIDTH, floor, "hand over", "to barrier", "to floor",
            "periods", "MiB", "waiting", "most");
    for (unsigned row = 0; row < FIELD_ROWS; row++) {
        if (row == ROW_FREE || row == ROW_PAGES)
            fputc('\n', to);
        print_row(to, results, table, row);
    }
}

static void print_summary(FILE *to, const struct field_results *results)
{
    struct field_goal goals[FIELD_GOALS_MAX];
    unsigned n = field_summary(goals, results);
    fputs("\nSummary\n-------\n", to);
    for (unsigned i = 0; i < n; i++) {
        char value[16] = "-", range[32] = "";
        if (goals[i].state != NOT_RUN) {
            snprintf(value, sizeof value, "%.2f", goals[i].value.median);
            snprintf(range, sizeof range, "%.2f .. %.2f", goals[i].value.low, goals[i].value.high);
        }
        fprintf(to, "  %-46s %6s  %-14s %-14s %s\n", goals[i].figure, value, range, goals[i].target,
                text_verdict(goals[i].state, results->options->peers));
    }
    fputs("  One thread where nothing else is said; both forms by turns; the better of both call_rcu.\n"
          "  Round against round: the median, and between what half of the rounds lie.\n",
          to);
}

static void print_notes(FILE *to)
{
    fputs("\n  ", to);
    for (const char *at = notes; *at != '\0'; at++) {
        fputc(*at, to);
        if (*at == '\n')
            fputs("  ", to);
    }
    fputc('\n', to);
}

void field_report(FILE *to, const struct field_results *results)
{
    const struct field_options *options = results->options;
    char line[400];

    text_machine(line, results->machine);
    fprintf(to, "weir %s, deferred free beside its peers\n\n", BENCH_VERSION);
    fprintf(to, "  machine   %s\n", line);
    fprintf(to, "  per CPU   %s\n", results->machine->percpu_reason);
    fprintf(to,
            "  run       %u loop%s of %u objects of %u bytes per thread; %u reader%s besides;\n"
            "            blocks of %u objects, %zu pages; %u round%s; took %.0f s\n",
            options->loops, options->loops == 1 ? "" : "s", options->objects, options->object_bytes,
            options->readers, options->readers == 1 ? "" : "s", (unsigned)FIELD_BLOCK, field_page_block(),
            options->rounds, options->rounds == 1 ? "" : "s", results->seconds);
    if (options->free_step != 0)
        fprintf(to, "            weir's reclaimer frees %u at a time\n", options->free_step);
    text_noise(to, &results->noise);
    for (enum allocator allocator = ALLOCATOR_GLIBC; allocator < ALLOCATORS; allocator++)
        if (results->absent[allocator][0] != '\0')
            fprintf(to, "  %-9s %.86s\n", allocator_name(allocator), results->absent[allocator]);
    for (unsigned i = 0; i < results->tables; i++)
        print_table(to, results, &results->table[i]);
    print_notes(to);
    print_summary(to, results);
}

/* --- for docs/deferred.md --- */

static void markdown_table(FILE *to, const struct field_results *results, const struct field_table *table)
{
    char title[80];
    title_of(title, table);
    fprintf(to, "\n**%s**; the floors keep %zu objects, %zu pages alive per thread\n\n", title, table->depth,
            table->page_depth);
    fputs("| | hand over | to barrier | to floor | periods | MiB | waiting | most |\n"
          "|---|--:|--:|--:|--:|--:|--:|--:|\n",
          to);
    for (unsigned row = 0; row < FIELD_ROWS; row++) {
        const char *mark = is_weir(row) ? "**" : "";
        struct cells cells;
        if (table->missing[row][0] != '\0')
            continue;
        fill(&cells, results, table, row);
        fprintf(to, "| %s%s%s | %s | %s ±%s %% | %s | %s | %s | %s | %s |\n", mark, field_row_name(row), mark,
                cells.hand_over, cells.barrier, cells.deviation, cells.to_floor, cells.periods, cells.peak,
                cells.mean, cells.most);
    }
}

static void markdown_summary(FILE *to, const struct field_results *results)
{
    struct field_goal goals[FIELD_GOALS_MAX];
    unsigned n = field_summary(goals, results);
    fputs("\n| target | figure | half of the rounds | |\n|---|--:|--:|---|\n", to);
    for (unsigned i = 0; i < n; i++) {
        const struct field_goal *goal = &goals[i];
        fprintf(to, "| %s: %s |", goal->figure, goal->target);
        if (goal->state != NOT_RUN)
            fprintf(to, " %.2f | %.2f to %.2f |", goal->value.median, goal->value.low, goal->value.high);
        else
            fputs(" | |", to);
        fprintf(to, " %s |\n", text_verdict(goal->state, results->options->peers));
    }
}

void field_markdown(FILE *to, const struct field_results *results)
{
    const struct field_options *options = results->options;
    char text[400];

    text_machine(text, results->machine);
    fprintf(
        to,
        "Measured on: %s. %u loop%s of %u objects of %u bytes per thread, %u reader%s besides; medians of "
        "%u round%s; other programs used %.1f %% of the CPUs.\n",
        text, options->loops, options->loops == 1 ? "" : "s", options->objects, options->object_bytes,
        options->readers, options->readers == 1 ? "" : "s", options->rounds, options->rounds == 1 ? "" : "s",
        results->noise.others > 0 ? results->noise.others * 100 : 0);
    markdown_summary(to, results);
    fputs("\nOne thread where nothing else is said; both forms by turns; the better of both `call_rcu`.\n",
          to);
    for (unsigned i = 0; i < results->tables; i++)
        markdown_table(to, results, &results->table[i]);
    fprintf(to, "\n%s\n", notes);
}

/* --- JSON --- */

static void json_figure(FILE *to, const char *name, const struct spread *spread)
{
    fprintf(to, ",\n       \"%s\": {", name);
    text_json_spread(to, spread);
    fputc('}', to);
}

static void json_row(FILE *to, const struct field_results *results, const struct field_table *table,
                     unsigned row)
{
    static const char *const names[] = {[HAND_OVER] = "hand_over_ns",
                                        [TO_BARRIER] = "to_barrier_ns",
                                        [TO_FLOOR] = "to_floor",
                                        [PERIODS] = "periods"};
    fputs("      {", to);
    text_json_named(to, "id", field_row_id(row));
    if (table->missing[row][0] != '\0') {
        fputs(", ", to);
        text_json_named(to, "missing", table->missing[row]);
        fputc('}', to);
        return;
    }
    for (enum field_figure figure = HAND_OVER; figure <= PERIODS; figure++) {
        struct spread spread = field_figure(results, table, row, figure);
        if (figure != PERIODS || field_periods_known(table, row))
            json_figure(to, names[figure], &spread);
    }
    fprintf(to, ",\n       \"peak_bytes\": %zu, \"waiting_mean\": %.0f, \"waiting_most\": %.0f}",
            field_peak(results, table, row), table->sampled[row].mean, table->sampled[row].peak);
}

static void json_goals(FILE *to, const struct field_results *results)
{
    struct field_goal goals[FIELD_GOALS_MAX];
    unsigned n = field_summary(goals, results);
    for (unsigned i = 0; i < n; i++) {
        fputs("    {", to);
        text_json_named(to, "figure", goals[i].figure);
        fputs(", ", to);
        text_json_named(to, "target", goals[i].target);
        if (goals[i].state != NOT_RUN) {
            fputs(", ", to);
            text_json_spread(to, &goals[i].value);
            if (goals[i].state != BESIDE)
                fprintf(to, ", \"met\": %s", goals[i].state == MET ? "true" : "false");
        }
        fprintf(to, "}%s\n", i + 1 < n ? "," : "");
    }
}

void field_json(FILE *to, const struct field_results *results)
{
    const struct field_options *options = results->options;

    fputs("{\n  ", to);
    text_json_named(to, "weir", BENCH_VERSION);
    fputs(",\n", to);
    text_json_machine(to, results->machine);
    fprintf(to,
            "  \"loops\": %u, \"objects\": %u, \"object_bytes\": %u, \"free_step\": %u, \"readers\": %u, "
            "\"rounds\": %u, \"seconds\": %.1f,\n",
            options->loops, options->objects, options->object_bytes, options->free_step, options->readers,
            options->rounds, results->seconds);
    fprintf(to, "  \"noise\": {\"others\": %.4f, \"stolen\": %.4f},\n  \"tables\": [\n",
            results->noise.others, results->noise.stolen);
    for (unsigned i = 0; i < results->tables; i++) {
        const struct field_table *table = &results->table[i];
        fputs("    {", to);
        text_json_named(to, "allocator", allocator_name(table->allocator));
        fprintf(to, ", \"threads\": %u, \"floor_depth\": %zu, \"page_floor_depth\": %zu, \"rows\": [\n",
                table->threads, table->depth, table->page_depth);
        for (unsigned row = 0; row < FIELD_ROWS; row++) {
            json_row(to, results, table, row);
            fputs(row + 1 < FIELD_ROWS ? ",\n" : "\n", to);
        }
        fprintf(to, "    ]}%s\n", i + 1 < results->tables ? "," : "");
    }
    fputs("  ],\n  \"targets\": [\n", to);
    json_goals(to, results);
    fputs("  ]\n}\n", to);
}

/* --- for the plots --- */

static void data_block(FILE *to, const struct field_table *table, unsigned row)
{
    const struct field_sampled *sampled = &table->sampled[row];
    char title[80];
    title_of(title, table);
    fprintf(to, "\"%s\" \"%s\" %u %.4f\n\n\n", field_row_name(row), title, table->threads,
            sampled->handed_over);
    for (unsigned i = 0; i < sampled->points; i++)
        fprintf(to, "%.4f %.0f\n", (double)sampled->point[i].milliseconds, (double)sampled->point[i].pending);
    fprintf(to, "%.4f 0\n\n\n", sampled->barrier_over);
}

void field_data(FILE *to, const struct field_results *results, enum allocator allocator)
{
    fputs("# SPDX-License-Identifier: MIT\n"
          "# Two blocks per contender and number of threads: its name, a title, threads, milliseconds until "
          "the\n"
          "# last object was handed over; and: milliseconds, objects handed over and not yet freed\n",
          to);
    for (unsigned row = 0; row < FIELD_ROWS; row++)
        for (unsigned i = 0; i < results->tables; i++)
            if (results->table[i].allocator == allocator && field_row_defers(row) &&
                results->table[i].missing[row][0] == '\0')
                data_block(to, &results->table[i], row);
}
