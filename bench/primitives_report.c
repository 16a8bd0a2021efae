/* SPDX-License-Identifier: MIT */
/* primitives_report.c - the tables, for people (at most 100 columns), for docs/primitives.md, and as JSON. */
#include <string.h>

#include "primitives.h"

#define NAME_WIDTH 28
#define SLOWER_OF_TWO " Slower of 2: what the slower of two threads did, of an even share."

/* A cell's figure over the rounds: nanoseconds, or millions per second. */
static struct spread figure(const struct primitives_results *results, const struct table_result *result,
                            unsigned row, unsigned column)
{
    double value[ROUNDS_MAX];
    unsigned n = 0;
    for (unsigned round = 0; round < results->rounds; round++) {
        double speed = speed_of(result, round, row, column);
        if (speed > 0)
            value[n++] = result->table->time ? 1e9 / speed : speed * 1e-6;
    }
    return spread_of(value, n);
}

/* Of all removals that a cell tried, the share that got nothing, and the longest time a thread got nothing. */
static void refusals(const struct primitives_results *results, const struct table_result *result,
                     unsigned row, unsigned column, double *share, double *longest)
{
    double refused = 0, tried = 0;
    *longest = 0;
    for (unsigned round = 0; round < results->rounds; round++) {
        const struct cell *cell = &result->cells[(round * ROWS_MAX + row) * COLUMNS_MAX + column];
        refused += (double)cell->refused;
        tried += (double)cell->operations / result->table->job[column].batch;
        if (cell->refused_longest > *longest)
            *longest = cell->refused_longest;
    }
    *share = refused + tried > 0 ? refused / (refused + tried) : 0;
}

static bool any_refusals(const struct primitives_results *results, const struct table_result *result,
                         unsigned row)
{
    double share, longest, sum = 0;
    for (unsigned column = 0; column < result->table->columns; column++) {
        refusals(results, result, row, column, &share, &longest);
        sum += share;
    }
    return sum > 0;
}

static void heading(char text[32], const struct table *table, unsigned column)
{
    const struct job *job = &table->job[column];
    bool batches = table->columns == COLUMNS_MAX;
    unsigned n = batches ? job->batch : job->threads;
    snprintf(text, 32, "%u %s%s", n, batches ? "node" : "thread", n == 1 ? "" : "s");
}

/* What the slowest thread did, as a share of an even one: the median of the rounds. */
static double slowest(const struct primitives_results *results, const struct table_result *result,
                      unsigned row, unsigned column)
{
    double value[ROUNDS_MAX];
    for (unsigned round = 0; round < results->rounds; round++)
        value[round] = result->cells[(round * ROWS_MAX + row) * COLUMNS_MAX + column].slowest;
    return spread_of(value, results->rounds).median;
}

static bool has_two_threads(const struct table *table)
{
    return table->columns == 4;
}

/* --- for people --- */

static void print_row(FILE *to, const struct primitives_results *results, const struct table_result *result,
                      unsigned row)
{
    const struct table *table = result->table;
    fprintf(to, "  %-*s", NAME_WIDTH, table->row[row]->name);
    if (result->missing[row][0] != '\0') {
        fprintf(to, "  %.66s\n", result->missing[row]);
        return;
    }
    for (unsigned column = 0; column < table->columns; column++) {
        struct spread value = figure(results, result, row, column);
        struct spread ratio = primitives_ratio(results, result, row, column);
        fprintf(to, value.median < 1000 ? "%8.1f" : "%8.0f", value.median);
        fprintf(to, ratio.median < 9.995 ? " %4.2f" : " %4.1f", ratio.median);
    }
    if (has_two_threads(table))
        fprintf(to, "%9.0f %%", slowest(results, result, row, 1) * 100);
    fputc('\n', to);
    if (!any_refusals(results, result, row))
        return;
    double share, longest;
    fprintf(to, "    %-*s", NAME_WIDTH - 2, "gets refused, %");
    for (unsigned column = 0; column < table->columns; column++) {
        refusals(results, result, row, column, &share, &longest);
        fprintf(to, column + 1 < table->columns ? "%8.1f     " : "%8.1f", share * 100);
    }
    fprintf(to, "\n    %-*s", NAME_WIDTH - 2, "longest refusal, ms");
    for (unsigned column = 0; column < table->columns; column++) {
        refusals(results, result, row, column, &share, &longest);
        fprintf(to, column + 1 < table->columns ? "%8.2f     " : "%8.2f", longest * 1e3);
    }
    fputc('\n', to);
}

static void print_table(FILE *to, const struct primitives_results *results, const struct table_result *result)
{
    const struct table *table = result->table;
    char text[32];
    fprintf(to, "\n%s\n", table->title);
    for (size_t i = 0; i < strlen(table->title); i++)
        fputc('-', to);
    fprintf(to, "\n  %-*s", NAME_WIDTH, "");
    for (unsigned column = 0; column < table->columns; column++) {
        heading(text, table, column);
        fprintf(to, " %12s", text);
    }
    fputs(has_two_threads(table) ? "  slower of 2\n" : "\n", to);
    for (unsigned row = 0; row < ROWS_MAX && table->row[row] != NULL; row++)
        print_row(to, results, result, row);
    fprintf(to, "  %s%s\n", table->note, has_two_threads(table) ? SLOWER_OF_TWO : "");
}

void primitives_report(FILE *to, const struct primitives_results *results)
{
    struct goal goals[GOALS_MAX];
    const struct noise *noise = &results->noise;
    char line[400];

    text_machine(line, results->machine);
    fprintf(to, "weir %s, floor 1 beside its peers\n\n", BENCH_VERSION);
    fprintf(to, "  machine   %s\n", line);
    fprintf(to, "  run       %u round%s of %u ms per cell; medians; took %.0f s\n", results->rounds,
            results->rounds == 1 ? "" : "s", results->options->milliseconds, results->seconds);
    if (noise->others >= 0)
        fprintf(
            to,
            "  noise     CPU time used by other programs %.1f %%, by other guests of the host %.1f %%%s\n",
            noise->others * 100, noise->stolen * 100,
            noise->others + noise->stolen > 0.03 ? ": too much" : "");
    for (unsigned i = 0; i < TABLES; i++)
        if (results->table[i].cells != NULL)
            print_table(to, results, &results->table[i]);

    unsigned n = primitives_summary(goals, results);
    if (n == 0)
        return;
    fputs("\nSummary\n-------\n", to);
    for (unsigned i = 0; i < n; i++) {
        char value[16] = "-", range[32] = "";
        if (goals[i].state != NOT_RUN) {
            snprintf(value, sizeof value, "%.2f", goals[i].value.median);
            snprintf(range, sizeof range, "%.2f .. %.2f", goals[i].value.low, goals[i].value.high);
        }
        fprintf(to, "  %-50s %6s  %-14s %-14s %s\n", goals[i].figure, value, range, goals[i].target,
                text_verdict(goals[i].state, results->options->peers));
    }
    fputs("  Round against round: the median, and between what half of the rounds lie.\n", to);
}

/* --- for docs/primitives.md --- */

static void markdown_row(FILE *to, const struct primitives_results *results,
                         const struct table_result *result, unsigned row)
{
    const struct table *table = result->table;
    const char *mark = table->row[row]->kind == WEIR ? "**" : "";
    if (result->missing[row][0] != '\0')
        return;
    fprintf(to, "| %s%s%s |", mark, table->row[row]->name, mark);
    for (unsigned column = 0; column < table->columns; column++) {
        double value = figure(results, result, row, column).median;
        fprintf(to, value < 1000 ? " %.1f" : " %.0f", value);
        double ratio = primitives_ratio(results, result, row, column).median;
        if (ratio > 0)
            fprintf(to, ratio < 9.995 ? " (%.2f)" : " (%.1f)", ratio);
        fputs(" |", to);
    }
    if (has_two_threads(table))
        fprintf(to, " %.0f %% |", slowest(results, result, row, 1) * 100);
    fputc('\n', to);
    if (!any_refusals(results, result, row))
        return;
    for (unsigned which = 0; which < 2; which++) {
        fputs(which == 0 ? "| gets refused |" : "| longest refusal |", to);
        for (unsigned column = 0; column < table->columns; column++) {
            double share, longest;
            refusals(results, result, row, column, &share, &longest);
            if (which == 0)
                fprintf(to, " %.1f %% |", share * 100);
            else
                fprintf(to, " %.2f ms |", longest * 1e3);
        }
        fputs(has_two_threads(table) ? " |" : "", to);
        fputc('\n', to);
    }
}

void primitives_markdown(FILE *to, const struct primitives_results *results)
{
    struct goal goals[GOALS_MAX];
    char text[400];

    text_machine(text, results->machine);
    fprintf(
        to,
        "Measured on: %s. Medians of %u rounds of %u ms per cell; other programs used %.1f %% of the CPUs.\n",
        text, results->rounds, results->options->milliseconds,
        results->noise.others > 0 ? results->noise.others * 100 : 0);
    unsigned n = primitives_summary(goals, results);
    if (n != 0)
        fputs("\n| target | figure | half of the rounds | best of the others | |\n|---|--:|--:|---|---|\n",
              to);
    for (unsigned i = 0; i < n; i++) {
        const struct goal *goal = &goals[i];
        fprintf(to, "| %s: %s |", goal->figure, goal->target);
        if (goal->state != NOT_RUN)
            fprintf(to, " %.2f | %.2f to %.2f | %s |", goal->value.median, goal->value.low, goal->value.high,
                    goal->note);
        else
            fputs(" | | |", to);
        fprintf(to, " %s |\n", text_verdict(goal->state, results->options->peers));
    }
    for (unsigned i = 0; i < TABLES; i++) {
        const struct table_result *result = &results->table[i];
        if (result->cells == NULL)
            continue;
        fprintf(to, "\n**%s**\n\n| |", result->table->title);
        for (unsigned column = 0; column < result->table->columns; column++) {
            heading(text, result->table, column);
            fprintf(to, " %s |", text);
        }
        fputs(has_two_threads(result->table) ? " slower of 2 |\n|---|--:|" : "\n|---|", to);
        for (unsigned column = 0; column < result->table->columns; column++)
            fputs("--:|", to);
        fputc('\n', to);
        for (unsigned row = 0; row < ROWS_MAX && result->table->row[row] != NULL; row++)
            markdown_row(to, results, result, row);
        fprintf(to, "\n%s%s\n", result->table->note, has_two_threads(result->table) ? SLOWER_OF_TWO : "");
    }
}

/* --- JSON --- */

static void json_cell(FILE *to, const struct primitives_results *results, const struct table_result *result,
                      unsigned row, unsigned column)
{
    const struct job *job = &result->table->job[column];
    struct spread value = figure(results, result, row, column);
    struct spread ratio = primitives_ratio(results, result, row, column);
    double share, longest;
    refusals(results, result, row, column, &share, &longest);
    fprintf(to,
            "          {\"threads\": %u, \"batch\": %u, \"median\": %.3f, \"min\": %.3f, \"max\": %.3f, "
            "\"ratio\": %.3f, \"slowest_share\": %.3f, \"refused\": %.6f, \"longest_refusal_ms\": %.4f}%s\n",
            job->threads, job->batch, value.median, value.min, value.max, ratio.median,
            slowest(results, result, row, column), share, longest * 1e3,
            column + 1 < result->table->columns ? "," : "");
}

static void json_table(FILE *to, const struct primitives_results *results, const struct table_result *result)
{
    const struct table *table = result->table;
    static const char *const compared[] = {"best peer", "single adds", "weir_pool"};
    fputs("    {", to);
    text_json_named(to, "id", table->id);
    fputs(", ", to);
    text_json_named(to, "title", table->title);
    fprintf(to, ",\n      \"unit\": \"%s\", \"ratio_to\": \"%s\", \"rows\": [",
            table->time ? "nanoseconds" : "millions per second", compared[table->compared]);
    for (unsigned row = 0; row < ROWS_MAX && table->row[row] != NULL; row++) {
        fputs(row == 0 ? "\n        {" : ",\n        {", to);
        text_json_named(to, "id", table->row[row]->id);
        fputs(", ", to);
        text_json_named(to, "name", table->row[row]->name);
        fputs(", ", to);
        if (result->missing[row][0] != '\0') {
            text_json_named(to, "missing", result->missing[row]);
        } else {
            fputs("\"cells\": [\n", to);
            for (unsigned column = 0; column < table->columns; column++)
                json_cell(to, results, result, row, column);
            fputs("        ]", to);
        }
        fputc('}', to);
    }
    fputs("\n      ]\n    }", to);
}

void primitives_json(FILE *to, const struct primitives_results *results)
{
    const struct machine *machine = results->machine;
    struct goal goals[GOALS_MAX];
    bool first = true;

    fputs("{\n  ", to);
    text_json_named(to, "weir", BENCH_VERSION);
    fputs(",\n  \"machine\": {", to);
    text_json_named(to, "model", machine->model);
    fprintf(to, ", \"cpus\": %u, \"virtual\": %s, ", machine->cpus, machine->guest ? "true" : "false");
    text_json_named(to, "kernel", machine->kernel);
    fputs(", ", to);
    text_json_named(to, "libc", machine->libc);
    fputs(", ", to);
    text_json_named(to, "compiler", machine->compiler);
    fputs(", ", to);
    text_json_named(to, "liburcu", BENCH_URCU_VERSION);
    fprintf(to, "},\n  \"rounds\": %u, \"milliseconds\": %u, \"seconds\": %.1f,\n", results->rounds,
            results->options->milliseconds, results->seconds);
    fprintf(to, "  \"noise\": {\"others\": %.4f, \"stolen\": %.4f},\n  \"tables\": [\n",
            results->noise.others, results->noise.stolen);
    for (unsigned i = 0; i < TABLES; i++) {
        if (results->table[i].cells == NULL)
            continue;
        fputs(first ? "" : ",\n", to);
        first = false;
        json_table(to, results, &results->table[i]);
    }
    fputs("\n  ],\n  \"targets\": [\n", to);
    unsigned n = primitives_summary(goals, results);
    for (unsigned i = 0; i < n; i++) {
        fputs("    {", to);
        text_json_named(to, "figure", goals[i].figure);
        fputs(", ", to);
        text_json_named(to, "target", goals[i].target);
        if (goals[i].state != NOT_RUN)
            fprintf(to, ", \"value\": %.3f, \"low\": %.3f, \"high\": %.3f, \"met\": %s",
                    goals[i].value.median, goals[i].value.low, goals[i].value.high,
                    goals[i].state == MET ? "true" : "false");
        fprintf(to, "}%s\n", i + 1 < n ? "," : "");
    }
    fputs("  ]\n}\n", to);
}
