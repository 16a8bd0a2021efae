/* SPDX-License-Identifier: MIT */
/* pages_report.c - the figures, for people (at most 100 columns), for docs/pages.md, as JSON and for the plots. */
#include <string.h>

#include "pages.h"

#define NAME_WIDTH 20
#define CELL_WIDTH 18
#define MEBIBYTE (1 << 20)

/* Where the shares of nolock are shown together: from one percentage to below the next. */
static const unsigned levels[] = {0, 50, 80, 90, 95, 97, 98, 99, NOLOCK_BINS};
#define LEVELS (sizeof levels / sizeof levels[0] - 1)

static const char nolock_note[] =
    "Ordinary: weir_page_alloc by the threads that are interrupted. Nolock: weir_page_alloc_nolock in the\n"
    "handler. Kept: weir_page_free_nolock there found room in the CPU's magazine; the others were laid "
    "aside\n"
    "for the next slow path, which is no failure. Full: the share of the range that the program holds.";
static const char burst_note[] = "Baseline: both threads have used pages and extents, and what was idle of "
                                 "them has gone back. It is what is\n"
                                 "in use, the program, libraries, stacks, metadata, and pages in the CPUs' "
                                 "magazines. In use: pages that are\n"
                                 "held all along; none in the first run, which is not judged. Start: before "
                                 "there was a page cache. Nobody\n"
                                 "calls anything after the burst.";

static int decimals(double value)
{
    return value < 9.995 ? 2 : value < 999.5 ? 1 : 0;
}

static bool shown(const struct pages_table *table, unsigned row)
{
    return (table->rows[0] & 1u << row) != 0;
}

static bool has_reference(const struct pages_table *table)
{
    return table->base == PAGES_FRAMES;
}

static unsigned period_of(const struct burst_run *run)
{
    return run->decay_milliseconds != 0 ? run->decay_milliseconds : WEIR_CACHE_DECAY_DEFAULT;
}

static double mebibytes(size_t bytes)
{
    return (double)bytes / MEBIBYTE;
}

static void level_text(char text[24], size_t level)
{
    unsigned from = levels[level], to = levels[level + 1];
    snprintf(text, 24, "%u to %u %%", from, to < 100 ? to : 100);
}

/* "-" where it did not happen. */
static const char *share_text(char text[16], double share)
{
    if (share < 0)
        return "-";
    snprintf(text, 16, "%.*f %%", share > 99 && share < 100 ? 3 : 1, share);
    return text;
}

static const char *back_text(char text[24], const struct burst_run *run)
{
    if (run->back < 0)
        return "not";
    snprintf(text, 24, "%.2f s", run->back);
    return text;
}

static void print_indented(FILE *to, const char *text)
{
    fputs("  ", to);
    for (; *text != '\0'; text++) {
        fputc(*text, to);
        if (*text == '\n')
            fputs("  ", to);
    }
    fputc('\n', to);
}

/* --- for people --- */

static void print_title(FILE *to, const char *title)
{
    fprintf(to, "\n%s\n", title);
    for (size_t i = strlen(title); i != 0; i--)
        fputc('-', to);
    fputc('\n', to);
}

static void print_headings(FILE *to, const struct pages_table *table)
{
    fprintf(to, "  %-*s", NAME_WIDTH, "");
    for (unsigned column = 0; column < table->columns; column++)
        fprintf(to, "%*s", has_reference(table) ? CELL_WIDTH - 3 : CELL_WIDTH, table->heading[column]);
    if (table->fresh)
        fprintf(to, "%*s", CELL_WIDTH, "peak MiB");
    fputc('\n', to);
}

static void print_cell(FILE *to, const struct pages_results *results, const struct pages_result *result,
                       unsigned row, unsigned column)
{
    struct spread value = pages_figure(results, result, row, column);
    struct spread ratio = pages_ratio(results, result, row, column);
    char text[48] = "-";
    if (value.median > 0 && has_reference(result->table))
        snprintf(text, sizeof text, "%.*f +-%.0f%%", decimals(value.median), value.median,
                 text_deviation(&value));
    else if (value.median > 0)
        snprintf(text, sizeof text, "%.*f +-%.0f%% %5.*f", decimals(value.median), value.median,
                 text_deviation(&value), decimals(ratio.median), ratio.median);
    fprintf(to, " %*s", (has_reference(result->table) ? CELL_WIDTH - 3 : CELL_WIDTH) - 1, text);
}

static void print_row(FILE *to, const struct pages_results *results, const struct pages_result *result,
                      unsigned row)
{
    const struct pages_table *table = result->table;
    fprintf(to, "  %-*s", NAME_WIDTH, pages_row_name(row));
    if (result->missing[row][0] != '\0') {
        fprintf(to, "  %.76s\n", result->missing[row]);
        return;
    }
    for (unsigned column = 0; column < table->columns; column++)
        print_cell(to, results, result, row, column);
    if (table->fresh)
        fprintf(to, "%*.1f", CELL_WIDTH,
                pages_peak(results, result, row, table->columns - 1).median / MEBIBYTE);
    fputc('\n', to);
}

static void print_table(FILE *to, const struct pages_results *results, const struct pages_result *result)
{
    const struct pages_table *table = result->table;
    print_title(to, table->title);
    print_headings(to, table);
    for (unsigned row = 0; row < PAGES_ROWS; row++)
        if (shown(table, row))
            print_row(to, results, result, row);
    if (has_reference(table))
        fprintf(to, "  %-*s%*s    reference, not measured here\n", NAME_WIDTH, "LLFree's C version",
                CELL_WIDTH - 3, PAGES_LLFREE_TEXT);
    print_indented(to, table->note);
}

static void print_nolock(FILE *to, const struct pages_results *results)
{
    char text[3][16], level[24];
    if (results->nolock_runs == 0)
        return;
    print_title(to, "In a signal handler: how often a page is to be had, by how full the range is");
    fprintf(to, "  %-14s", "");
    for (unsigned i = 0; i < results->nolock_runs; i++) {
        snprintf(level, sizeof level, "reserve of %u:", results->nolock[i].reserve);
        fprintf(to, "%-37s", level);
    }
    fprintf(to, "\n  %-14s", "full");
    for (unsigned i = 0; i < results->nolock_runs; i++)
        fprintf(to, "%-12s%-12s%-13s", "ordinary", "nolock", "kept");
    fputc('\n', to);
    for (size_t k = 0; k < LEVELS; k++) {
        level_text(level, k);
        fprintf(to, "  %-14s", level);
        for (unsigned i = 0; i < results->nolock_runs; i++) {
            struct nolock_share share = nolock_share(&results->nolock[i], levels[k], levels[k + 1]);
            fprintf(to, "%-12s%-12s%-13s", share_text(text[0], share.ordinary),
                    share_text(text[1], share.alloc), share_text(text[2], share.kept));
        }
        fputc('\n', to);
    }
    for (unsigned i = 0; i < results->nolock_runs; i++) {
        const struct nolock_run *run = &results->nolock[i];
        fprintf(to, "  reserve %u: %u thread%s, a range of %u pages, %llu signals in %.1f s%s%s\n",
                run->reserve, run->threads, run->threads == 1 ? "" : "s", run->pages,
                (unsigned long long)run->signals, run->seconds, run->failure[0] != '\0' ? "; " : "",
                run->failure);
    }
    print_indented(to, nolock_note);
}

static void print_bursts(FILE *to, const struct pages_results *results)
{
    char text[24];
    if (results->burst_runs == 0)
        return;
    print_title(to, "Burst and idle: resident memory, MiB");
    fprintf(to, "  %-18s%10s%9s%11s%10s%13s%11s%15s\n", "", "in use", "start", "baseline", "burst",
            "at the end", "5 % line", "within after");
    for (unsigned i = 0; i < results->burst_runs; i++) {
        const struct burst_run *run = &results->burst[i];
        fprintf(to, "  decay every %4u ms", period_of(run));
        if (run->failure[0] != '\0') {
            fprintf(to, "  %.70s\n", run->failure);
            continue;
        }
        fprintf(to, "%8.2f%9.2f%11.2f%10.2f%13.2f%11.2f%15s\n", mebibytes(run->in_use), mebibytes(run->start),
                mebibytes(run->baseline), mebibytes(run->peak), mebibytes(run->end),
                mebibytes(run->baseline) * (1 + BURST_SHARE), back_text(text, run));
    }
    print_indented(to, burst_note);
}

static void print_summary(FILE *to, const struct pages_results *results)
{
    struct verdict goals[PAGES_GOALS_MAX];
    unsigned n = pages_summary(goals, results);
    if (n == 0)
        return;
    print_title(to, "Summary");
    for (unsigned i = 0; i < n; i++) {
        const struct verdict *goal = &goals[i];
        char value[24] = "-", range[32] = "";
        if (goal->state != NOT_RUN) {
            snprintf(value, sizeof value, "%.2f %s", goal->value.median, goal->unit);
            snprintf(range, sizeof range, "%.2f .. %.2f", goal->value.low, goal->value.high);
        }
        fprintf(to, "  %-52s %9s  %-16s %-14s %s\n", goal->figure, value, range, goal->target,
                text_verdict(goal->state, results->options->peers));
    }
    fputs("  Round against round: the median, and between what half of the rounds lie.\n", to);
}

void pages_report(FILE *to, const struct pages_results *results)
{
    const struct pages_options *options = results->options;
    char line[400];

    text_machine(line, results->machine);
    fprintf(to, "weir %s, the page cache\n\n", BENCH_VERSION);
    fprintf(to, "  machine   %s\n", line);
    fprintf(to, "  per CPU   %s\n", results->machine->percpu_reason);
    fprintf(to, "  run       %u round%s; working set of %u MiB; burst of %u MiB; took %.0f s\n",
            options->rounds, options->rounds == 1 ? "" : "s", options->working_set, options->burst,
            results->seconds);
    fputs("  cells     the median, how far off half of the rounds are at most, and the ratio to the page "
          "cache's,\n"
          "            inlined, round against round\n",
          to);
    text_noise(to, &results->noise);
    for (unsigned i = 0; i < PAGES_TABLES; i++)
        if (results->table[i].cells != NULL)
            print_table(to, results, &results->table[i]);
    print_nolock(to, results);
    print_bursts(to, results);
    print_summary(to, results);
}

/* --- for docs/pages.md --- */

static void markdown_columns(FILE *to, unsigned columns)
{
    fputs("\n|---|", to);
    while (columns-- != 0)
        fputs("--:|", to);
    fputc('\n', to);
}

static void markdown_row(FILE *to, const struct pages_results *results, const struct pages_result *result,
                         unsigned row)
{
    const struct pages_table *table = result->table;
    const char *mark = row == PAGES_INLINED || row == PAGES_CALLED || row == PAGES_FRAMES ? "**" : "";
    fprintf(to, "| %s%s%s |", mark, pages_row_name(row), mark);
    for (unsigned column = 0; column < table->columns; column++) {
        struct spread value = pages_figure(results, result, row, column);
        double ratio = pages_ratio(results, result, row, column).median;
        if (value.median <= 0)
            fputs(" |", to);
        else if (has_reference(table))
            fprintf(to, " %.*f ±%.0f %% |", decimals(value.median), value.median, text_deviation(&value));
        else
            fprintf(to, " %.*f ±%.0f %% (%.*f) |", decimals(value.median), value.median,
                    text_deviation(&value), decimals(ratio), ratio);
    }
    if (table->fresh)
        fprintf(to, " %.1f |", pages_peak(results, result, row, table->columns - 1).median / MEBIBYTE);
    fputc('\n', to);
}

static void markdown_table(FILE *to, const struct pages_results *results, const struct pages_result *result)
{
    const struct pages_table *table = result->table;
    fprintf(to, "\n**%s**\n\n| |", table->title);
    for (unsigned column = 0; column < table->columns; column++)
        fprintf(to, " %s |", table->heading[column]);
    if (table->fresh)
        fputs(" peak MiB |", to);
    markdown_columns(to, table->columns + table->fresh);
    for (unsigned row = 0; row < PAGES_ROWS; row++)
        if (shown(table, row) && result->missing[row][0] == '\0')
            markdown_row(to, results, result, row);
    if (has_reference(table))
        fputs("| LLFree's C version: reference, not measured here | " PAGES_LLFREE_TEXT " | | | | |\n", to);
    fprintf(to, "\n%s\n", table->note);
}

static void markdown_nolock(FILE *to, const struct pages_results *results)
{
    char text[3][16], level[24];
    if (results->nolock_runs == 0)
        return;
    fputs("\n**In a signal handler: how often a page is to be had, by how full the range is**\n\n| full |",
          to);
    for (unsigned i = 0; i < results->nolock_runs; i++)
        fprintf(to, " reserve %u: ordinary | nolock | kept |", results->nolock[i].reserve);
    markdown_columns(to, 3 * results->nolock_runs);
    for (size_t k = 0; k < LEVELS; k++) {
        level_text(level, k);
        fprintf(to, "| %s |", level);
        for (unsigned i = 0; i < results->nolock_runs; i++) {
            struct nolock_share share = nolock_share(&results->nolock[i], levels[k], levels[k + 1]);
            fprintf(to, " %s | %s | %s |", share_text(text[0], share.ordinary),
                    share_text(text[1], share.alloc), share_text(text[2], share.kept));
        }
        fputc('\n', to);
    }
    fputc('\n', to);
    for (unsigned i = 0; i < results->nolock_runs; i++) {
        const struct nolock_run *run = &results->nolock[i];
        fprintf(to, "Reserve %u: %u thread%s, a range of %u pages, %llu signals in %.1f s. ", run->reserve,
                run->threads, run->threads == 1 ? "" : "s", run->pages, (unsigned long long)run->signals,
                run->seconds);
    }
    fprintf(to, "\n%s\n", nolock_note);
}

static void markdown_bursts(FILE *to, const struct pages_results *results)
{
    char text[24];
    if (results->burst_runs == 0)
        return;
    fputs("\n**Burst and idle: resident memory, MiB**\n\n"
          "| decay every | in use | start | baseline | burst | at the end | 5 % line | within after |",
          to);
    markdown_columns(to, 7);
    for (unsigned i = 0; i < results->burst_runs; i++) {
        const struct burst_run *run = &results->burst[i];
        if (run->failure[0] == '\0')
            fprintf(to, "| %u ms | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %s |\n", period_of(run),
                    mebibytes(run->in_use), mebibytes(run->start), mebibytes(run->baseline),
                    mebibytes(run->peak), mebibytes(run->end), mebibytes(run->baseline) * (1 + BURST_SHARE),
                    back_text(text, run));
    }
    fprintf(to, "\n%s\n", burst_note);
}

static void markdown_summary(FILE *to, const struct pages_results *results)
{
    struct verdict goals[PAGES_GOALS_MAX];
    unsigned n = pages_summary(goals, results);
    fputs("\n| figure | | half of the rounds | target | |\n|---|--:|--:|---|---|\n", to);
    for (unsigned i = 0; i < n; i++) {
        const struct verdict *goal = &goals[i];
        fprintf(to, "| %s |", goal->figure);
        if (goal->state != NOT_RUN)
            fprintf(to, " %.2f%s%s | %.2f to %.2f |", goal->value.median, goal->unit[0] != '\0' ? " " : "",
                    goal->unit, goal->value.low, goal->value.high);
        else
            fputs(" | |", to);
        fprintf(to, " %s | %s |\n", goal->target, text_verdict(goal->state, results->options->peers));
    }
}

void pages_markdown(FILE *to, const struct pages_results *results)
{
    const struct pages_options *options = results->options;
    char text[400];

    text_machine(text, results->machine);
    fprintf(to,
            "Measured on: %s. Medians of %u round%s; a working set of %u MiB, a burst of %u MiB; other "
            "programs used "
            "%.1f %% of the CPUs.\n",
            text, options->rounds, options->rounds == 1 ? "" : "s", options->working_set, options->burst,
            results->noise.others > 0 ? results->noise.others * 100 : 0);
    markdown_summary(to, results);
    for (unsigned i = 0; i < PAGES_TABLES; i++)
        if (results->table[i].cells != NULL)
            markdown_table(to, results, &results->table[i]);
    markdown_nolock(to, results);
    markdown_bursts(to, results);
}

/* --- JSON --- */

static void json_row(FILE *to, const struct pages_results *results, const struct pages_result *result,
                     unsigned row)
{
    const struct pages_table *table = result->table;
    bool first = true;
    fputs("        {", to);
    text_json_named(to, "id", pages_row_id(row));
    fputs(", ", to);
    if (result->missing[row][0] != '\0') {
        text_json_named(to, "missing", result->missing[row]);
        fputc('}', to);
        return;
    }
    fputs("\"cells\": [", to);
    for (unsigned column = 0; column < table->columns; column++) {
        struct spread value = pages_figure(results, result, row, column);
        if (value.median <= 0)
            continue;
        fputs(first ? "\n          {" : ",\n          {", to);
        first = false;
        text_json_named(to, "id", table->heading[column]);
        fputs(", ", to);
        text_json_spread(to, &value);
        fprintf(to, ", \"ratio\": %.4f, \"peak_bytes\": %.0f}",
                pages_ratio(results, result, row, column).median,
                pages_peak(results, result, row, column).median);
    }
    fputs("]}", to);
}

static void json_table(FILE *to, const struct pages_results *results, const struct pages_result *result)
{
    bool first = true;
    fputs("    {", to);
    text_json_named(to, "id", result->table->id);
    fputs(", ", to);
    text_json_named(to, "title", result->table->title);
    fputs(", \"unit\": \"nanoseconds\", \"rows\": [", to);
    for (unsigned row = 0; row < PAGES_ROWS; row++) {
        if (!shown(result->table, row))
            continue;
        fputs(first ? "\n" : ",\n", to);
        first = false;
        json_row(to, results, result, row);
    }
    fputs("\n      ]}", to);
}

static void json_nolock(FILE *to, const struct pages_results *results)
{
    fputs("  \"nolock\": [", to);
    for (unsigned i = 0; i < results->nolock_runs; i++) {
        const struct nolock_run *run = &results->nolock[i];
        fprintf(to,
                "%s\n    {\"reserve\": %u, \"pages\": %u, \"threads\": %u, \"signals\": %llu, \"percent\": [",
                i == 0 ? "" : ",", run->reserve, run->pages, run->threads, (unsigned long long)run->signals);
        for (unsigned k = 0; k < NOLOCK_BINS; k++) {
            const struct nolock_bin *bin = &run->bin[k];
            fprintf(
                to,
                "%s\n      {\"from\": %u, \"allocs\": %llu, \"got\": %llu, \"frees\": %llu, \"kept\": %llu, "
                "\"ordinary\": %llu, \"had\": %llu}",
                k == 0 ? "" : ",", k, (unsigned long long)bin->allocs, (unsigned long long)bin->got,
                (unsigned long long)bin->frees, (unsigned long long)bin->kept,
                (unsigned long long)bin->ordinary, (unsigned long long)bin->had);
        }
        fputs("]}", to);
    }
    fputs("\n  ],\n", to);
}

static void json_bursts(FILE *to, const struct pages_results *results)
{
    fputs("  \"bursts\": [", to);
    for (unsigned i = 0; i < results->burst_runs; i++) {
        const struct burst_run *run = &results->burst[i];
        fprintf(to,
                "%s\n    {\"decay_milliseconds\": %u, \"bytes\": %zu, \"in_use\": %zu, \"start\": %zu, "
                "\"baseline\": %zu, "
                "\"peak\": %zu, \"end\": %zu, \"back_seconds\": %.4f}",
                i == 0 ? "" : ",", period_of(run), run->bytes, run->in_use, run->start, run->baseline,
                run->peak, run->end, run->back);
    }
    fputs("\n  ],\n", to);
}

static void json_goals(FILE *to, const struct pages_results *results)
{
    struct verdict goals[PAGES_GOALS_MAX];
    unsigned n = pages_summary(goals, results);
    fputs("  \"targets\": [", to);
    for (unsigned i = 0; i < n; i++) {
        fputs(i == 0 ? "\n    {" : ",\n    {", to);
        text_json_named(to, "figure", goals[i].figure);
        fputs(", ", to);
        text_json_named(to, "target", goals[i].target);
        if (goals[i].state != NOT_RUN) {
            fputs(", ", to);
            text_json_spread(to, &goals[i].value);
            if (goals[i].state != BESIDE)
                fprintf(to, ", \"met\": %s", goals[i].state == MET ? "true" : "false");
        }
        fputc('}', to);
    }
    fputs("\n  ]\n}\n", to);
}

void pages_json(FILE *to, const struct pages_results *results)
{
    const struct pages_options *options = results->options;
    bool first = true;

    fputs("{\n  ", to);
    text_json_named(to, "weir", BENCH_VERSION);
    fputs(",\n", to);
    text_json_machine(to, results->machine);
    fprintf(to,
            "  \"rounds\": %u, \"working_set_mebibytes\": %u, \"burst_mebibytes\": %u, \"seconds\": %.1f,\n"
            "  \"noise\": {\"others\": %.4f, \"stolen\": %.4f},\n  \"tables\": [",
            options->rounds, options->working_set, options->burst, results->seconds, results->noise.others,
            results->noise.stolen);
    for (unsigned i = 0; i < PAGES_TABLES; i++) {
        if (results->table[i].cells == NULL)
            continue;
        fputs(first ? "\n" : ",\n", to);
        first = false;
        json_table(to, results, &results->table[i]);
    }
    fputs("\n  ],\n", to);
    json_nolock(to, results);
    json_bursts(to, results);
    json_goals(to, results);
}

/* --- for the plots --- */

#define ENOUGH 30 /* tries, for a point of the plot */

void pages_nolock_data(FILE *to, const struct pages_results *results)
{
    fputs("# SPDX-License-Identifier: MIT\n"
          "# A block per run: the reserve in pages; and percent of the range in use, success in percent of\n"
          "# weir_page_alloc, of weir_page_alloc_nolock in a handler, of weir_page_free_nolock into a "
          "magazine\n",
          to);
    for (unsigned i = 0; i < results->nolock_runs; i++) {
        const struct nolock_run *run = &results->nolock[i];
        fprintf(to, "\"%u\"\n", run->reserve);
        for (unsigned k = 0; k < NOLOCK_BINS; k++) {
            struct nolock_share share = nolock_share(run, k, k + 1);
            if (share.allocs >= ENOUGH && share.frees >= ENOUGH && share.ordinary >= 0)
                fprintf(to, "%u %.4f %.4f %.4f\n", k, share.ordinary, share.alloc, share.kept);
        }
        fputs("\n\n", to);
    }
}

/* Of the fast ones the last. */
void pages_burst_data(FILE *to, const struct pages_results *results)
{
    fputs("# SPDX-License-Identifier: MIT\n"
          "# A block per setting: milliseconds between decays, the baseline in MiB; and seconds since the "
          "burst was\n"
          "# freed, MiB resident\n",
          to);
    for (unsigned i = 0; i < results->burst_runs; i++) {
        const struct burst_run *run = &results->burst[i];
        bool last = i + 1 == results->burst_runs || period_of(run + 1) != period_of(run);
        if (!last || run->failure[0] != '\0')
            continue;
        fprintf(to, "\"%u\" %.4f\n", period_of(run), mebibytes(run->baseline));
        for (unsigned k = 0; k < run->points; k++)
            fprintf(to, "%.4f %.4f\n", (double)run->point[k].seconds, (double)run->point[k].mebibytes);
        fputs("\n\n", to);
    }
}
