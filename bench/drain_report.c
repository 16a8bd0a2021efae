/* SPDX-License-Identifier: MIT */
/* drain_report.c - the tables, for people (at most 100 columns) and for docs/drain.md; as JSON; and for
 * the plot. */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "drain.h"

#define COLUMNS_MAX 8
#define ROWS_MAX 8
#define NAME_WIDTH 24

/* A table as text, to be printed in either form. */
struct grid {
    const char *title, *note;
    unsigned columns, rows;
    const char *heading[COLUMNS_MAX];
    struct grid_row {
        const char *name, *missing; /* missing: why there are no cells; NULL: there are */
        unsigned cells;
        char cell[COLUMNS_MAX][32];
    } row[ROWS_MAX];
};

static struct grid_row *add_row(struct grid *grid, const char *name, const char *missing)
{
    struct grid_row *row = &grid->row[grid->rows++];
    *row = (struct grid_row){.name = name, .missing = missing != NULL && missing[0] != '\0' ? missing : NULL};
    return row;
}

static __attribute__((format(printf, 2, 3))) void add_cell(struct grid_row *row, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(row->cell[row->cells++], sizeof row->cell[0], format, arguments);
    va_end(arguments);
}

/* Three digits that matter. */
static void add_figure(struct grid_row *row, double value)
{
    double size = fabs(value);
    add_cell(row, "%.*f", size < 9.995 ? 2 : size < 99.95 ? 1 : 0, value);
}

static double per(double sum, double n)
{
    return n > 0 ? sum / n : 0;
}

/* --- the tables --- */

static void fast_row(struct grid *grid, const struct drain_results *results, enum process process, bool lifo)
{
    static const char *const names[] = {"weir_cache, rseq mode", "weir_cache, lock mode"};
    const struct fast_result *fast = &results->fast[process];
    struct grid_row *row =
        add_row(grid, lifo ? "LIFO of the thread's own" : names[process], results->missing[process]);
    for (unsigned bulk = 0; bulk < 2; bulk++) {
        double ratio[DRAIN_ROUNDS_MAX];
        for (unsigned i = 0; i < results->rounds; i++)
            ratio[i] = per(lifo ? fast->lifo[bulk][i] : fast->cache[bulk][i], fast->lifo[bulk][i]);
        add_figure(row, spread_of(lifo ? fast->lifo[bulk] : fast->cache[bulk], results->rounds).median);
        add_cell(row, "%.2f", spread_of(ratio, results->rounds).median);
    }
}

static void fast_grid(struct grid *grid, const struct drain_results *results)
{
    *grid = (struct grid){.title = "The fast path, with nobody draining: nanoseconds per alloc and free",
                          .note = "To LIFO: as a multiple of it, round against round. LIFO: a plain array "
                                  "of pointers, inlined.",
                          .columns = 4,
                          .heading = {"one object", "to LIFO", "each of 32", "to LIFO"}};
    for (enum process p = 0; p < OWN_SOURCE; p++)
        fast_row(grid, results, p, false);
    fast_row(grid, results, results->missing[RSEQ][0] == '\0' ? RSEQ : LOCK, true);
}

static void slices_grid(struct grid *grid, const struct drain_results *results, enum mix mix)
{
    static const char *const titles[MIXES] = {
        [PAIRS] = "A busy thread that allocs and frees one object, over and over",
        [SWINGS] = "A busy thread that holds now more objects, now fewer, up to two magazines of them"};
    *grid = (struct grid){
        .title = titles[mix],
        .note = "Half of them: half of the pairs of slices. Costs: what the thread loses per drain; refill: "
                "of\n  that, in the backend, for new objects. Every: how often it says that it is quiescent.",
        .columns = 8,
        .heading = {"ns", "slower %", "half of them", "drains/s", "objects", "costs us", "refill us",
                    "every us"}};
    for (enum way way = 0; way < WAYS; way++) {
        if (mix != PAIRS && drain_ways[way].pairs_only)
            continue;
        const struct slices_result *slices = &results->way[way].slices[mix];
        struct spread ratio = spread_of(slices->ratio, slices->pairs);
        struct grid_row *row = add_row(grid, drain_ways[way].name, results->missing[drain_ways[way].process]);
        double drains = (double)slices->drains;
        add_figure(row, spread_of(slices->without, slices->pairs).median);
        add_cell(row, "%.2f", ratio.median * 100);
        add_cell(row, "%.2f to %.2f", ratio.low * 100, ratio.high * 100);
        for (unsigned i = 0; i < 4 && slices->drains == 0; i++)
            add_cell(row, "-");
        if (slices->drains != 0) {
            add_cell(row, "%.0f", per(drains, slices->drain_seconds));
            add_cell(row, "%.0f", per((double)slices->objects, drains));
            add_cell(row, "%.1f", ratio.median * per(slices->drain_seconds, drains) * 1e6);
            add_cell(row, "%.2f", per(slices->refill_seconds, drains) * 1e6);
        }
        add_cell(row, "%.2f", slices->quiescent_every * 1e6);
    }
}

static void latency_grid(struct grid *grid, const struct drain_results *results)
{
    *grid = (struct grid){.title = "One call of weir_cache_drain_cpu: microseconds",
                          .note = "All calls of this run, whatever the drained CPU did.",
                          .columns = 4,
                          .heading = {"median", "99 % within", "longest", "calls"}};
    for (enum way way = QUIET; way < WAYS; way++) {
        const struct way_result *result = &results->way[way];
        struct grid_row *row = add_row(grid, drain_ways[way].name, results->missing[drain_ways[way].process]);
        add_figure(row, drain_latency(result, 0.5));
        add_figure(row, drain_latency(result, 0.99));
        add_figure(row, drain_latency(result, 1));
        add_cell(row, "%u", result->latencies);
    }
}

static void switches_grid(struct grid *grid, const struct drain_results *results)
{
    *grid = (struct grid){.title = "The busy threads are switched out: times per second",
                          .note = "Without: in the slices beside, without drains. Own will: the thread "
                                  "waited for something.",
                          .columns = 4,
                          .heading = {"own will", "without", "preempted", "without"}};
    for (enum way way = 0; way < WAYS; way++) {
        if (drain_ways[way].pairs_only)
            continue;
        const struct slices_result *slices = results->way[way].slices;
        double seconds = slices[PAIRS].seconds + slices[SWINGS].seconds;
        struct grid_row *row = add_row(grid, drain_ways[way].name, results->missing[drain_ways[way].process]);
        add_cell(row, "%.1f", per((double)(slices[PAIRS].voluntary + slices[SWINGS].voluntary), seconds));
        add_cell(row, "%.1f",
                 per((double)(slices[PAIRS].voluntary_without + slices[SWINGS].voluntary_without), seconds));
        add_cell(row, "%.1f", per((double)(slices[PAIRS].involuntary + slices[SWINGS].involuntary), seconds));
        add_cell(
            row, "%.1f",
            per((double)(slices[PAIRS].involuntary_without + slices[SWINGS].involuntary_without), seconds));
    }
}

static void spin_grid(struct grid *grid, const struct drain_results *results)
{
    *grid = (struct grid){
        .title = "A thread that does nothing but look at the clock, on the CPU that is drained: per second",
        .note = "Gaps of a microsecond or more. Switched, interrupts: of the thread, of its CPU. Calls: "
                "interrupts by\n  another CPU that wants a function called. Refill: in its own use of the "
                "cache, not a gap.",
        .columns = 8,
        .heading = {"drains", "gaps", "lost us", "longest us", "switched", "interrupts", "calls",
                    "refill us"}};
    for (enum way way = 0; way < WAYS; way++) {
        if (drain_ways[way].pairs_only)
            continue;
        const struct spin_result *spin = &results->way[way].spin;
        struct grid_row *row = add_row(grid, drain_ways[way].name, results->missing[drain_ways[way].process]);
        add_cell(row, "%.0f", per((double)spin->drains, spin->seconds));
        add_cell(row, "%.0f", spread_of(spin->gaps_per_second, spin->turns).median);
        add_cell(row, "%.0f", spread_of(spin->lost_per_second, spin->turns).median * 1e6);
        add_cell(row, "%.0f", spin->longest * 1e6);
        add_cell(row, "%.1f", spread_of(spin->involuntary_per_second, spin->turns).median);
        add_cell(row, results->interrupts_known ? "%.0f" : "-", per((double)spin->interrupts, spin->seconds));
        add_cell(row, results->interrupts_known ? "%.0f" : "-",
                 spread_of(spin->calls_per_second, spin->turns).median);
        add_cell(row, "%.0f", per(spin->refill_seconds, spin->seconds) * 1e6);
    }
}

#define GRIDS 6

static void make_grid(struct grid *grid, const struct drain_results *results, unsigned n)
{
    switch (n) {
    case 0:
        fast_grid(grid, results);
        break;
    case 1:
    case 2:
        slices_grid(grid, results, n == 1 ? PAIRS : SWINGS);
        break;
    case 3:
        latency_grid(grid, results);
        break;
    case 4:
        spin_grid(grid, results);
        break;
    default:
        switches_grid(grid, results);
    }
}

static void machine_line(char text[600], const struct machine *machine)
{
    snprintf(text, 600, "%s%u CPU%s (%s), %s, %s, %s, liburcu %s", machine->guest ? "virtual machine, " : "",
             machine->cpus, machine->cpus == 1 ? "" : "s", machine->model, machine->kernel, machine->compiler,
             machine->libc, BENCH_URCU_VERSION);
}

static const char *state_name(const struct drain_goal *goal)
{
    return goal->state == MET ? "met" : goal->state == NOT_MET ? "NOT MET" : "not run";
}

/* --- for people --- */

static void print_grid(FILE *to, const struct grid *grid)
{
    int width[COLUMNS_MAX];
    for (unsigned i = 0; i < grid->columns; i++) {
        size_t widest = strlen(grid->heading[i]);
        for (unsigned r = 0; r < grid->rows; r++)
            if (grid->row[r].missing == NULL && strlen(grid->row[r].cell[i]) > widest)
                widest = strlen(grid->row[r].cell[i]);
        width[i] = (int)widest + (grid->columns > 4 ? 1 : 3);
    }
    fprintf(to, "\n%s\n", grid->title);
    for (size_t i = 0; i < strlen(grid->title); i++)
        fputc('-', to);
    fprintf(to, "\n  %-*s", NAME_WIDTH - 2, "");
    for (unsigned i = 0; i < grid->columns; i++)
        fprintf(to, "%*s", width[i], grid->heading[i]);
    for (unsigned r = 0; r < grid->rows; r++) {
        const struct grid_row *row = &grid->row[r];
        fprintf(to, "\n  %-*s", NAME_WIDTH - 2, row->name);
        if (row->missing != NULL)
            fprintf(to, "  %.70s", row->missing);
        for (unsigned i = 0; i < row->cells && row->missing == NULL; i++)
            fprintf(to, "%*s", width[i], row->cell[i]);
    }
    fprintf(to, "\n  %s\n", grid->note);
}

void drain_report(FILE *to, const struct drain_results *results, const struct machine *machine)
{
    struct drain_goal goals[DRAIN_GOALS_MAX];
    const struct noise *noise = &results->noise;
    struct grid grid;
    char line[600];

    machine_line(line, machine);
    fprintf(to, "weir %s: CPU %u drains the cache of CPU %u, %u times a second\n\n", BENCH_VERSION,
            results->drainer_cpu, results->busy_cpu, results->rate);
    fprintf(to, "  machine   %s\n", line);
    fprintf(to, "  run       %u round%s of %u pairs of slices of %u ms; took %.0f s\n", results->rounds,
            results->rounds == 1 ? "" : "s", PAIRS_OF_SLICES, results->slice, results->seconds);
    if (noise->others >= 0)
        fprintf(
            to,
            "  noise     CPU time used by other programs %.1f %%, by other guests of the host %.1f %%%s\n",
            noise->others * 100, noise->stolen * 100,
            noise->others + noise->stolen > 0.03 ? ": too much" : "");
    if (results->repeated != 0)
        fprintf(to, "  repeated  %u turns that other programs disturbed\n", results->repeated);
    for (unsigned i = 0; i < GRIDS; i++) {
        make_grid(&grid, results, i);
        print_grid(to, &grid);
    }

    unsigned n = drain_summary(goals, results);
    fputs("\nSummary\n-------\n", to);
    for (unsigned i = 0; i < n; i++) {
        char value[16] = "-", range[32] = "";
        if (goals[i].state != NOT_RUN) {
            snprintf(value, sizeof value, "%.2f", goals[i].value);
            if (goals[i].low < goals[i].high)
                snprintf(range, sizeof range, "%.2f .. %.2f", goals[i].low, goals[i].high);
        }
        fprintf(to, "  %-54s %8s  %-17s %-13s %s\n", goals[i].figure, value, range, goals[i].target,
                state_name(&goals[i]));
    }
}

/* --- for docs/drain.md --- */

static void markdown_grid(FILE *to, const struct grid *grid)
{
    fprintf(to, "\n**%s**\n\n| |", grid->title);
    for (unsigned i = 0; i < grid->columns; i++)
        fprintf(to, " %s |", grid->heading[i]);
    fputs("\n|---|", to);
    for (unsigned i = 0; i < grid->columns; i++)
        fputs("--:|", to);
    fputc('\n', to);
    for (unsigned r = 0; r < grid->rows; r++) {
        const struct grid_row *row = &grid->row[r];
        fprintf(to, "| %s |", row->name);
        for (unsigned i = 0; i < grid->columns; i++)
            fprintf(to, " %s |", row->missing != NULL ? (i == 0 ? row->missing : "") : row->cell[i]);
        fputc('\n', to);
    }
    fputc('\n', to);
    for (const char *c = grid->note; *c != '\0'; c++)
        if (*c != '\n' && (c == grid->note || c[0] != ' ' || c[1] != ' '))
            fputc(*c, to);
    fputc('\n', to);
}

void drain_markdown(FILE *to, const struct drain_results *results, const struct machine *machine)
{
    struct drain_goal goals[DRAIN_GOALS_MAX];
    struct grid grid;
    char line[600];

    machine_line(line, machine);
    fprintf(
        to,
        "Measured on: %s. %u rounds of %u pairs of slices of %u ms; other programs used %.1f %% of the CPUs, "
        "other guests of the host %.1f %%.\n",
        line, results->rounds, PAIRS_OF_SLICES, results->slice,
        results->noise.others > 0 ? results->noise.others * 100 : 0,
        results->noise.stolen > 0 ? results->noise.stolen * 100 : 0);
    if (results->repeated != 0)
        fprintf(to, "%u turns that other programs disturbed did not count and were taken again.\n",
                results->repeated);
    unsigned n = drain_summary(goals, results);
    fputs("\n| figure | | half of them | target | |\n|---|--:|---|---|---|\n", to);
    for (unsigned i = 0; i < n; i++) {
        const struct drain_goal *goal = &goals[i];
        fprintf(to, "| %s |", goal->figure);
        if (goal->state != NOT_RUN && goal->low < goal->high)
            fprintf(to, " %.2f | %.2f to %.2f |", goal->value, goal->low, goal->high);
        else if (goal->state != NOT_RUN)
            fprintf(to, " %.2f | |", goal->value);
        else
            fputs(" | |", to);
        fprintf(to, " %s | %s |\n", goal->target, state_name(goal));
    }
    for (unsigned i = 0; i < GRIDS; i++) {
        make_grid(&grid, results, i);
        markdown_grid(to, &grid);
    }
}

/* --- JSON: times in nanoseconds if they say _ns, microseconds if _us --- */

/* A string of ours or of the system's: no control characters expected; they become spaces. */
static void put_named(FILE *to, const char *name, const char *text)
{
    fprintf(to, "\"%s\": \"", name);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', to);
        fputc((unsigned char)*text < 0x20 ? ' ' : *text, to);
    }
    fputc('"', to);
}

static void put_spread(FILE *to, const char *name, const double *values, size_t n)
{
    struct spread spread = spread_of(values, n);
    fprintf(to, "\"%s\": {\"median\": %.6g, \"min\": %.6g, \"low\": %.6g, \"high\": %.6g, \"max\": %.6g}",
            name, spread.median, spread.min, spread.low, spread.high, spread.max);
}

static void json_slices(FILE *to, const char *name, const struct slices_result *slices)
{
    double drains = (double)slices->drains, seconds = slices->seconds;
    fprintf(to, ",\n     \"%s\": {\"pairs_of_slices\": %u, ", name, slices->pairs);
    put_spread(to, "slower_by", slices->ratio, slices->pairs);
    fputs(",\n       ", to);
    put_spread(to, "without_ns", slices->without, slices->pairs);
    fputs(",\n       ", to);
    put_spread(to, "with_ns", slices->with, slices->pairs);
    fprintf(
        to,
        ",\n       \"drains_per_second\": %.1f, \"objects_per_drain\": %.2f, \"empty_drains\": %.4f, "
        "\"refills_per_drain\": %.3f,\n       \"refilled_per_drain\": %.2f, \"refill_us_per_drain\": %.3f, "
        "\"quiescent_every_us\": %.3f,\n       \"voluntary_switches_per_second\": [%.2f, %.2f], "
        "\"involuntary_switches_per_second\": [%.2f, %.2f]}",
        per(drains, slices->drain_seconds), per((double)slices->objects, drains),
        per((double)slices->empty, drains), per((double)slices->refills, drains),
        per((double)slices->refilled, drains), per(slices->refill_seconds, drains) * 1e6,
        slices->quiescent_every * 1e6, per((double)slices->voluntary, seconds),
        per((double)slices->voluntary_without, seconds), per((double)slices->involuntary, seconds),
        per((double)slices->involuntary_without, seconds));
}

static void json_spin(FILE *to, const struct spin_result *spin)
{
    fprintf(to, ",\n     \"spin\": {\"seconds\": %.3f, \"drains_per_second\": %.1f, ", spin->seconds,
            per((double)spin->drains, spin->seconds));
    put_spread(to, "gaps_per_second", spin->gaps_per_second, spin->turns);
    fputs(",\n       ", to);
    put_spread(to, "lost_seconds_per_second", spin->lost_per_second, spin->turns);
    fputs(",\n       ", to);
    put_spread(to, "involuntary_switches_per_second", spin->involuntary_per_second, spin->turns);
    fputs(",\n       ", to);
    put_spread(to, "function_call_interrupts_per_second", spin->calls_per_second, spin->turns);
    fprintf(
        to,
        ",\n       \"interrupts_per_second\": %.1f, \"longest_us\": %.1f, \"refill_us_per_second\": %.2f}",
        per((double)spin->interrupts, spin->seconds), spin->longest * 1e6,
        per(spin->refill_seconds, spin->seconds) * 1e6);
}

static void json_way(FILE *to, const struct drain_results *results, enum way way)
{
    const struct way_result *result = &results->way[way];
    const char *missing = results->missing[drain_ways[way].process];
    fputs("    {", to);
    put_named(to, "id", drain_ways[way].id);
    fputs(", ", to);
    put_named(to, "name", drain_ways[way].name);
    if (missing[0] != '\0') {
        fputs(", ", to);
        put_named(to, "missing", missing);
        fputc('}', to);
        return;
    }
    fprintf(to, ",\n     \"latency_us\": {\"median\": %.2f, \"p99\": %.2f, \"max\": %.2f, \"calls\": %u}",
            drain_latency(result, 0.5), drain_latency(result, 0.99), drain_latency(result, 1),
            result->latencies);
    json_slices(to, "one_object", &result->slices[PAIRS]);
    if (!drain_ways[way].pairs_only) {
        json_slices(to, "up_to_two_magazines", &result->slices[SWINGS]);
        json_spin(to, &result->spin);
    }
    fputc('}', to);
}

void drain_json(FILE *to, const struct drain_results *results, const struct machine *machine)
{
    static const char *const processes[] = {"rseq", "lock"};
    static const char *const states[] = {[NOT_RUN] = "not run", [NOT_MET] = "not met", [MET] = "met"};
    struct drain_goal goals[DRAIN_GOALS_MAX];

    fputs("{\n  ", to);
    put_named(to, "weir", BENCH_VERSION);
    fputs(",\n  \"machine\": {", to);
    put_named(to, "model", machine->model);
    fprintf(to, ", \"cpus\": %u, \"virtual\": %s, ", machine->cpus, machine->guest ? "true" : "false");
    put_named(to, "kernel", machine->kernel);
    fputs(", ", to);
    put_named(to, "libc", machine->libc);
    fputs(", ", to);
    put_named(to, "compiler", machine->compiler);
    fputs(", ", to);
    put_named(to, "liburcu", BENCH_URCU_VERSION);
    fprintf(to,
            "},\n  \"rounds\": %u, \"slice_ms\": %u, \"rate\": %u, \"busy_cpu\": %u, \"drainer_cpu\": %u, "
            "\"seconds\": %.1f, \"repeated\": %u,\n  \"noise\": {\"others\": %.4f, \"stolen\": %.4f},\n  "
            "\"fast_path\": {",
            results->rounds, results->slice, results->rate, results->busy_cpu, results->drainer_cpu,
            results->seconds, results->repeated, results->noise.others, results->noise.stolen);
    for (enum process p = 0; p < OWN_SOURCE; p++) {
        fprintf(to, "%s\n    \"%s\": {", p == 0 ? "" : ",", processes[p]);
        put_spread(to, "one_ns", results->fast[p].cache[0], results->rounds);
        fputs(",\n      ", to);
        put_spread(to, "each_of_32_ns", results->fast[p].cache[1], results->rounds);
        fputs(",\n      ", to);
        put_spread(to, "lifo_one_ns", results->fast[p].lifo[0], results->rounds);
        fputs(",\n      ", to);
        put_spread(to, "lifo_each_of_32_ns", results->fast[p].lifo[1], results->rounds);
        fputc('}', to);
    }
    fputs("},\n  \"ways\": [\n", to);
    for (enum way way = 0; way < WAYS; way++) {
        json_way(to, results, way);
        fputs(way + 1 < WAYS ? ",\n" : "\n", to);
    }
    fputs("  ],\n  \"summary\": [", to);
    unsigned n = drain_summary(goals, results);
    for (unsigned i = 0; i < n; i++) {
        fprintf(to, "%s\n    {", i == 0 ? "" : ",");
        put_named(to, "figure", goals[i].figure);
        fprintf(to, ", \"value\": %.4f, \"low\": %.4f, \"high\": %.4f, ", goals[i].value, goals[i].low,
                goals[i].high);
        put_named(to, "target", goals[i].target);
        fputs(", ", to);
        put_named(to, "state", states[goals[i].state]);
        fputc('}', to);
    }
    fputs("\n  ]\n}\n", to);
}

/* --- the plot --- */

/* Blocks: for each way, its slow-downs and latencies; and then, way by way, gaps as long or longer per
 * second, the medians of the turns. */
void drain_data(FILE *to, const struct drain_results *results)
{
    fputs("# SPDX-License-Identifier: MIT\n# way, slower by %: two times median, low, high; latency: median, "
          "99 %, "
          "longest\n",
          to);
    for (enum way way = 0; way < WAYS; way++) {
        const struct way_result *result = &results->way[way];
        struct spread pairs = spread_of(result->slices[PAIRS].ratio, result->slices[PAIRS].pairs);
        struct spread swings = spread_of(result->slices[SWINGS].ratio, result->slices[SWINGS].pairs);
        fprintf(to, "\"%s\" %.4f %.4f %.4f %.4f %.4f %.4f %.3f %.3f %.3f\n", drain_ways[way].name,
                pairs.median * 100, pairs.low * 100, pairs.high * 100, swings.median * 100, swings.low * 100,
                swings.high * 100, drain_latency(result, 0.5), drain_latency(result, 0.99),
                drain_latency(result, 1));
    }
    for (enum way way = 0; way < WAYS; way++) {
        const struct spin_result *spin = &results->way[way].spin;
        double left[DRAIN_ROUNDS_MAX], microseconds = 1;
        fprintf(to, "\n\n# %s: microseconds, gaps per second that are at least as long\n",
                drain_ways[way].name);
        for (unsigned turn = 0; turn < spin->turns; turn++)
            left[turn] = spin->gaps_per_second[turn];
        for (unsigned i = 0; i < GAP_BUCKETS; i++) {
            fprintf(to, "%.3f %.4f\n", microseconds, spread_of(left, spin->turns).median);
            for (unsigned turn = 0; turn < spin->turns; turn++)
                left[turn] -= (double)spin->bucket[turn][i] / spin->turn_seconds[turn];
            microseconds *= GAP_FACTOR;
        }
    }
}
