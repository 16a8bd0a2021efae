/* SPDX-License-Identifier: MIT */
/* cache_report.c - the tables, for people (at most 100 columns), for docs/engine.md, and as JSON. */
#include <string.h>

#include "cache.h"

#define NAME_WIDTH 17
#define CELL_WIDTH 16
#define EXCHANGE_WIDTH 22

static int decimals(double value)
{
    return value < 9.995 ? 2 : value < 999.5 ? 1 : 0;
}

static bool shown(const struct cache_table *table, unsigned row)
{
    unsigned columns = 0;
    for (unsigned column = 0; column < table->columns; column++)
        columns += (table->rows[column] & 1u << row) != 0;
    return columns != 0;
}

static double mebibytes(const struct cache_results *results, const struct cache_result *result, unsigned row,
                        unsigned column)
{
    return (double)cache_peak(results, result, row, column) / (1 << 20);
}

/* The median, and between what half of the rounds lie. */
static void exchange_text(char text[48], const struct spread *value, const char *to)
{
    int digits = value->high < 99.5 ? 1 : 0;
    snprintf(text, 48, "%.*f (%.*f%s%.*f)", digits, value->median, digits, value->low, to, digits,
             value->high);
}

/* --- for people --- */

static void print_line(FILE *to, char c, size_t length)
{
    while (length-- != 0)
        fputc(c, to);
    fputc('\n', to);
}

static void print_headings(FILE *to, const struct cache_table *table, int width)
{
    fprintf(to, "  %-*s", width, "");
    for (unsigned column = 0; column < table->columns; column++)
        fprintf(to, "%*s", CELL_WIDTH, table->heading[column]);
    fputc('\n', to);
}

static void print_row(FILE *to, const struct cache_results *results, const struct cache_result *result,
                      unsigned row)
{
    const struct cache_table *table = result->table;
    fprintf(to, "  %-*s", NAME_WIDTH, cache_row_name(row, table->job[0].inlined));
    if (result->missing[row][0] != '\0') {
        fprintf(to, "  %.78s\n", result->missing[row]);
        return;
    }
    for (unsigned column = 0; column < table->columns; column++) {
        struct spread value = cache_figure(results, result, row, column);
        struct spread ratio = cache_ratio(results, result, row, column);
        char text[48] = "-";
        if (value.median > 0)
            snprintf(text, sizeof text, "%.*f+-%.0f%% %.*f", decimals(value.median), value.median,
                     text_deviation(&value), decimals(ratio.median), ratio.median);
        fprintf(to, " %*s", CELL_WIDTH - 1, text);
    }
    fputc('\n', to);
}

static void print_memory(FILE *to, const struct cache_results *results, const struct cache_result *result)
{
    const struct cache_table *table = result->table;
    fputs("\n  Peak resident memory, MiB\n", to);
    print_headings(to, table, NAME_WIDTH);
    for (unsigned row = 0; row < CACHE_ROWS; row++) {
        if (!shown(table, row) || result->missing[row][0] != '\0')
            continue;
        fprintf(to, "  %-*s", NAME_WIDTH, cache_row_name(row, false));
        for (unsigned column = 0; column < table->columns; column++) {
            if (cache_figure(results, result, row, column).median > 0)
                fprintf(to, "%*.1f", CELL_WIDTH, mebibytes(results, result, row, column));
            else
                fprintf(to, "%*s", CELL_WIDTH, "-");
        }
        fputc('\n', to);
    }
}

static void print_exchanges(FILE *to, const struct cache_results *results, const struct cache_result *result)
{
    const struct cache_table *table = result->table;
    struct spread count[CACHE_COLUMNS_MAX][CACHE_EXCHANGES];
    for (unsigned column = 0; column < table->columns; column++)
        cache_exchanges_of(results, result, column, count[column]);
    fputs("\n  weir_cache's statistics, per million objects allocated and freed: medians (half of the "
          "rounds)\n",
          to);
    print_headings(to, table, EXCHANGE_WIDTH - 4);
    for (unsigned i = 0; i < CACHE_EXCHANGES; i++) {
        fprintf(to, "  %-*s", EXCHANGE_WIDTH, cache_exchange_names[i]);
        for (unsigned column = 0; column < table->columns; column++) {
            char text[48];
            exchange_text(text, &count[column][i], "..");
            fprintf(to, " %*s", (column == 0 ? CELL_WIDTH - 4 : CELL_WIDTH) - 1, text);
        }
        fputc('\n', to);
    }
}

static void print_table(FILE *to, const struct cache_results *results, const struct cache_result *result)
{
    const struct cache_table *table = result->table;
    fprintf(to, "\n%s\n", table->title);
    print_line(to, '-', strlen(table->title));
    print_headings(to, table, NAME_WIDTH);
    for (unsigned row = 0; row < CACHE_ROWS; row++)
        if (shown(table, row))
            print_row(to, results, result, row);
    fprintf(to, "  %s\n", table->note);
    if (table->own_processes)
        print_memory(to, results, result);
    if (table->shows_exchanges)
        print_exchanges(to, results, result);
}

static void print_summary(FILE *to, const struct cache_results *results)
{
    struct cache_goal goals[CACHE_GOALS_MAX];
    unsigned n = cache_summary(goals, results);
    if (n != 0)
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
    if (n != 0)
        fputs("  Round against round: the median, and between what half of the rounds lie.\n", to);
}

void cache_report(FILE *to, const struct cache_results *results)
{
    const struct cache_options *options = results->options;
    char line[400];

    text_machine(line, results->machine);
    fprintf(to, "weir %s, the engine beside its peers\n\n", BENCH_VERSION);
    fprintf(to, "  machine   %s\n", line);
    fprintf(to, "  per CPU   %s\n", results->machine->percpu_reason);
    fprintf(to,
            "  run       objects of %u bytes; %u round%s; %u ms per cell of threads and pipe; took %.0f s\n",
            options->object_bytes, options->rounds, options->rounds == 1 ? "" : "s", options->milliseconds,
            results->seconds);
    fputs("  cells     the median, how far off half of the rounds are at most, and the ratio to weir's,\n"
          "            round against round\n",
          to);
    text_noise(to, &results->noise);
    for (unsigned i = 0; i < CACHE_TABLES; i++)
        if (results->table[i].cells != NULL)
            print_table(to, results, &results->table[i]);
    print_summary(to, results);
}

/* --- for docs/engine.md --- */

static void markdown_headings(FILE *to, const struct cache_table *table)
{
    fputs("| |", to);
    for (unsigned column = 0; column < table->columns; column++)
        fprintf(to, " %s |", table->heading[column]);
    fputs("\n|---|", to);
    for (unsigned column = 0; column < table->columns; column++)
        fputs("--:|", to);
    fputc('\n', to);
}

static void markdown_name(FILE *to, const struct cache_table *table, unsigned row)
{
    const char *mark = row == ROW_WEIR ? "**" : "";
    fprintf(to, "| %s%s%s |", mark, cache_row_name(row, table->job[0].inlined), mark);
}

static void markdown_cell(FILE *to, const struct spread *value, double ratio)
{
    fprintf(to, " %.*f ±%.0f %% (%.*f) |", decimals(value->median), value->median, text_deviation(value),
            decimals(ratio), ratio);
}

static void markdown_rows(FILE *to, const struct cache_results *results, const struct cache_result *result,
                          bool memory)
{
    const struct cache_table *table = result->table;
    markdown_headings(to, table);
    for (unsigned row = 0; row < CACHE_ROWS; row++) {
        if (!shown(table, row) || result->missing[row][0] != '\0')
            continue;
        markdown_name(to, table, row);
        for (unsigned column = 0; column < table->columns; column++) {
            struct spread value = cache_figure(results, result, row, column);
            if (value.median <= 0)
                fputs(" |", to);
            else if (memory)
                fprintf(to, " %.1f |", mebibytes(results, result, row, column));
            else
                markdown_cell(to, &value, cache_ratio(results, result, row, column).median);
        }
        fputc('\n', to);
    }
}

static void markdown_exchanges(FILE *to, const struct cache_results *results,
                               const struct cache_result *result)
{
    const struct cache_table *table = result->table;
    struct spread count[CACHE_COLUMNS_MAX][CACHE_EXCHANGES];
    for (unsigned column = 0; column < table->columns; column++)
        cache_exchanges_of(results, result, column, count[column]);
    fprintf(
        to,
        "\n`weir_cache_stats`, per million objects allocated and freed: medians (half of the rounds)\n\n");
    markdown_headings(to, table);
    for (unsigned i = 0; i < CACHE_EXCHANGES; i++) {
        fprintf(to, "| %s |", cache_exchange_names[i]);
        for (unsigned column = 0; column < table->columns; column++) {
            char text[48];
            exchange_text(text, &count[column][i], " to ");
            fprintf(to, " %s |", text);
        }
        fputc('\n', to);
    }
}

static void markdown_summary(FILE *to, const struct cache_results *results)
{
    struct cache_goal goals[CACHE_GOALS_MAX];
    unsigned n = cache_summary(goals, results);
    if (n != 0)
        fputs("\n| target | figure | half of the rounds | best of the others | |\n|---|--:|--:|---|---|\n",
              to);
    for (unsigned i = 0; i < n; i++) {
        const struct cache_goal *goal = &goals[i];
        fprintf(to, "| %s: %s |", goal->figure, goal->target);
        if (goal->state != NOT_RUN)
            fprintf(to, " %.2f | %.2f to %.2f | %s |", goal->value.median, goal->value.low, goal->value.high,
                    goal->note);
        else
            fputs(" | | |", to);
        fprintf(to, " %s |\n", text_verdict(goal->state, results->options->peers));
    }
}

void cache_markdown(FILE *to, const struct cache_results *results)
{
    const struct cache_options *options = results->options;
    char text[400];

    text_machine(text, results->machine);
    fprintf(to,
            "Measured on: %s. Objects of %u bytes; medians of %u rounds; cells of threads and pipe are %u ms "
            "long; "
            "other programs used %.1f %% of the CPUs.\n",
            text, options->object_bytes, options->rounds, options->milliseconds,
            results->noise.others > 0 ? results->noise.others * 100 : 0);
    markdown_summary(to, results);
    for (unsigned i = 0; i < CACHE_TABLES; i++) {
        const struct cache_result *result = &results->table[i];
        if (result->cells == NULL)
            continue;
        fprintf(to, "\n**%s**\n\n", result->table->title);
        markdown_rows(to, results, result, false);
        fprintf(to, "\n%s\n", result->table->note);
        if (result->table->own_processes) {
            fputs("\nPeak resident memory, MiB:\n\n", to);
            markdown_rows(to, results, result, true);
        }
        if (result->table->shows_exchanges)
            markdown_exchanges(to, results, result);
    }
}

/* --- JSON --- */

static void json_cells(FILE *to, const struct cache_results *results, const struct cache_result *result,
                       unsigned row)
{
    const struct cache_table *table = result->table;
    bool first = true;
    fputs("\"cells\": [", to);
    for (unsigned column = 0; column < table->columns; column++) {
        struct spread value = cache_figure(results, result, row, column);
        if (value.median <= 0)
            continue;
        fputs(first ? "\n          {" : ",\n          {", to);
        first = false;
        text_json_named(to, "id", table->heading[column]);
        fputs(", ", to);
        text_json_spread(to, &value);
        fprintf(to, ", \"ratio\": %.4f, \"peak_bytes\": %zu",
                cache_ratio(results, result, row, column).median, cache_peak(results, result, row, column));
        if (row == ROW_WEIR && table->shows_exchanges) {
            struct spread count[CACHE_EXCHANGES];
            cache_exchanges_of(results, result, column, count);
            fputs(",\n            \"per_million\": {", to);
            for (unsigned i = 0; i < CACHE_EXCHANGES; i++) {
                fprintf(to, "%s\"%s\": {", i == 0 ? "" : ",\n              ", cache_exchange_ids[i]);
                text_json_spread(to, &count[i]);
                fputc('}', to);
            }
            fputc('}', to);
        }
        fputc('}', to);
    }
    fputs("\n        ]", to);
}

static void json_table(FILE *to, const struct cache_results *results, const struct cache_result *result)
{
    const struct cache_table *table = result->table;
    bool first = true;
    fputs("    {", to);
    text_json_named(to, "id", table->id);
    fputs(", ", to);
    text_json_named(to, "title", table->title);
    fprintf(to, ",\n      \"unit\": \"%s\", \"ratio_to\": \"weir\", \"rows\": [",
            table->time ? "nanoseconds" : "millions per second");
    for (unsigned row = 0; row < CACHE_ROWS; row++) {
        if (!shown(table, row))
            continue;
        fputs(first ? "\n        {" : ",\n        {", to);
        first = false;
        text_json_named(to, "id", cache_row_id(row));
        fputs(", ", to);
        if (result->missing[row][0] != '\0')
            text_json_named(to, "missing", result->missing[row]);
        else
            json_cells(to, results, result, row);
        fputc('}', to);
    }
    fputs("\n      ]\n    }", to);
}

void cache_json(FILE *to, const struct cache_results *results)
{
    const struct cache_options *options = results->options;
    struct cache_goal goals[CACHE_GOALS_MAX];
    bool first = true;

    fputs("{\n  ", to);
    text_json_named(to, "weir", BENCH_VERSION);
    fputs(",\n", to);
    text_json_machine(to, results->machine);
    fprintf(to, "  \"rounds\": %u, \"milliseconds\": %u, \"object_bytes\": %u, \"seconds\": %.1f,\n",
            options->rounds, options->milliseconds, options->object_bytes, results->seconds);
    fprintf(to, "  \"noise\": {\"others\": %.4f, \"stolen\": %.4f},\n  \"tables\": [\n",
            results->noise.others, results->noise.stolen);
    for (unsigned i = 0; i < CACHE_TABLES; i++) {
        if (results->table[i].cells == NULL)
            continue;
        fputs(first ? "" : ",\n", to);
        first = false;
        json_table(to, results, &results->table[i]);
    }
    fputs("\n  ],\n  \"targets\": [\n", to);
    unsigned n = cache_summary(goals, results);
    for (unsigned i = 0; i < n; i++) {
        fputs("    {", to);
        text_json_named(to, "figure", goals[i].figure);
        fputs(", ", to);
        text_json_named(to, "target", goals[i].target);
        if (goals[i].state != NOT_RUN) {
            fputs(", ", to);
            text_json_spread(to, &goals[i].value);
            fprintf(to, ", \"met\": %s", goals[i].state == MET ? "true" : "false");
        }
        fprintf(to, "}%s\n", i + 1 < n ? "," : "");
    }
    fputs("  ]\n}\n", to);
}
