/* SPDX-License-Identifier: MIT */
/* report.c - everything that was measured, for people: at most 110 columns. */
#include <stdarg.h>
#include <string.h>

#include "bench.h"

#define MIB (1024.0 * 1024.0)

/* 1000000 -> "1,000,000" */
static const char *grouped(uint64_t n, char text[32])
{
    char digits[24];
    size_t length = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), out = 0;
    for (size_t i = 0; i < length; i++) {
        if (i != 0 && (length - i) % 3 == 0)
            text[out++] = ',';
        text[out++] = digits[i];
    }
    text[out] = '\0';
    return text;
}

static void title(FILE *to, const char *text)
{
    fprintf(to, "\n%s\n", text);
    for (size_t i = 0; i < strlen(text); i++)
        fputc('-', to);
    fputc('\n', to);
}

/* Prints a group's heading when the number of workers changes. */
static void group_heading(FILE *to, unsigned workers, unsigned *shown)
{
    if (workers == *shown)
        return;
    *shown = workers;
    if (workers == 1)
        fputs("  one worker, on one CPU\n", to);
    else
        fprintf(to, "  %u workers, on all CPUs\n", workers);
}

static void print_machine(FILE *to, const struct options *options, const struct machine *machine,
                          const struct results *results)
{
    char objects[32];
    fprintf(to, "weir %s, benchmark\n\n", BENCH_VERSION);
    fprintf(to, "  machine   %s; %u of %u CPUs, %.0f GiB, %s\n", machine->model, machine->cpus,
            machine->cpus_on_line, (double)machine->memory / (1024 * MIB), machine->kernel);
    fprintf(to, "  software  %s, %s, liburcu %s\n", machine->compiler, machine->libc, BENCH_URCU_VERSION);
    fprintf(to, "  per CPU   %s\n", machine->percpu_reason);
    fprintf(to, "  run       %s operations per worker and round, %u reader%s, %u-byte objects; took %.0f s\n",
            grouped(options->objects, objects), (unsigned)options->readers, options->readers == 1 ? "" : "s",
            (unsigned)options->object_bytes, results->seconds);
    const struct noise *noise = &results->noise;
    if (noise->others >= 0)
        fprintf(
            to,
            "  noise     CPU time used by other programs %.1f %%, by other guests of the host %.1f %%%s\n",
            noise->others * 100, noise->stolen * 100,
            noise->others + noise->stolen > 0.03 ? ": expect wide spreads" : "");
}

static void print_summary(FILE *to, const struct options *options, const struct results *results)
{
    struct verdict verdicts[VERDICTS_MAX];
    unsigned n = summary_make(verdicts, options, results);
    if (n == 0)
        return;
    title(to, "Summary");
    for (unsigned i = 0; i < n; i++) {
        const struct spread *value = &verdicts[i].value;
        char range[32] = "", median[16] = "-";
        if (verdicts[i].state != NOT_RUN)
            snprintf(median, sizeof median, "%.2f", value->median);
        else
            verdicts[i].unit = "";
        if (value->min < value->max)
            snprintf(range, sizeof range, "%.2f .. %.2f", value->low, value->high);
        fprintf(to, "  %-53s %5s %-9s  %-12s  %-11s  %s\n", verdicts[i].figure, median, verdicts[i].unit,
                range, verdicts[i].target,
                verdicts[i].state == MET       ? "met"
                : verdicts[i].state == NOT_MET ? "NOT MET"
                : options->peers               ? "could not run"
                                               : "--peers");
    }
    fputs("  Round against round: the median, and between what half of the rounds lie. call_rcu: the better "
          "of the two.\n",
          to);
    if (options->pair)
        fputs("  Pair: as called functions, alternating, with the first byte written.\n", to);
}

/* "4.20", or a dash where there is nothing to compare with. */
static const char *ratio(char text[16], const struct deferred_result *above,
                         const struct deferred_result *below)
{
    double value = results_ratio(above, below).median;
    snprintf(text, 16, value > 0 ? "%.2f" : "-", value);
    return text;
}

static void print_times(FILE *to, const struct results *results)
{
    unsigned shown = 0;
    title(to, "Deferred free: allocate, write the first byte, hand over; nanoseconds per operation");
    fputs("                                      to the last hand-over    to the end of the barrier     cost "
          "    speed\n"
          "                                      median   min ..   max    median   min ..   max      malloc  "
          "call_rcu\n"
          "                                                                                             = 1  "
          "     = 1\n",
          to);
    for (unsigned i = 0; i < results->cases; i++) {
        const struct deferred_result *result = results->case_result[i];
        bool all_cpus = result->workers > 1;
        struct spread hand_over = spread_of(result->hand_over, result->rounds);
        struct spread barrier = spread_of(result->barrier, result->rounds);
        char cost[16], speed[16];

        group_heading(to, result->workers, &shown);
        if (result->failure[0] != '\0') {
            fprintf(to, "    %-33s FAILED: %s\n", deferred_name(result->method), result->failure);
            continue;
        }
        fprintf(to, "    %-33s %6.1f %5.1f .. %5.1f    %6.1f %5.1f .. %5.1f %11s %9s\n",
                deferred_name(result->method), hand_over.median, hand_over.min, hand_over.max, barrier.median,
                barrier.min, barrier.max, ratio(cost, result, results_find(results, PLAIN_MALLOC, all_cpus)),
                ratio(speed, results_find(results, CALL_RCU, all_cpus), result));
    }
    fputs("  Median of the rounds, fastest and slowest. When the barrier returns, all that was handed over "
          "is freed.\n"
          "  cost: times as long as plain malloc and free. speed: times as fast as call_rcu. Both to the "
          "barrier's end.\n",
          to);
    if (shown > 1)
        fputs("  With several workers: the time one of them needs per operation while all of them run.\n",
              to);
}

static void print_memory(FILE *to, const struct options *options, const struct results *results)
{
    unsigned shown = 0;
    title(to, "Deferred free: peak memory, grace periods, and what the readers saw");
    fputs("                                      resident memory,          grace     objects that readers "
          "held   freed\n"
          "                                      MiB      in all         periods       all  handed over "
          "since  too early\n",
          to);
    for (unsigned i = 0; i < results->cases; i++) {
        const struct deferred_result *result = results->case_result[i];
        char made[32], handed[32], periods[32] = "-", violations[32];
        if (result->failure[0] != '\0')
            continue;
        group_heading(to, result->workers, &shown);
        if (deferred_is_page(result->method))
            grouped(result->pages.cache.periods, periods);
        if (deferred_is_reclaimer(result->method))
            grouped(result->reclaimer.periods, periods);
        size_t added = result->resident_peak > result->resident_start
                           ? result->resident_peak - result->resident_start
                           : 0;
        bool watched = result->method >= CALL_RCU && options->readers != 0;
        fprintf(to, "    %-33s %6.1f %8.1f %15s %9s %18s %10s\n", deferred_name(result->method),
                (double)added / MIB, (double)result->resident_peak / MIB, periods,
                watched ? grouped(result->checks.made, made) : "-",
                watched ? grouped(result->checks.handed, handed) : "-",
                watched ? grouped(result->checks.violations, violations) : "-");
    }
    fputs("  resident memory: the most that the case added, and the most that its process had in all.\n", to);
    if (options->readers == 0)
        fputs("  No readers: nothing was checked.\n", to);
    else
        fputs("  Readers hold objects for up to 60 microseconds, and then look whether they still are what "
              "they were.\n"
              "  Only those handed over in the meantime could have been freed too early.\n",
              to);
}

static void print_needs(FILE *to, const struct results *results)
{
    unsigned shown = 0;
    title(to, "Deferred free: what weir needed for it");
    fputs("                                     pages of 4 KiB      pointer blocks:                  had\n"
          "                                       peak   at end    grown   none there     made  to wait\n",
          to);
    for (unsigned i = 0; i < results->cases; i++) {
        const struct deferred_result *result = results->case_result[i];
        const struct weir_block_stats *blocks;
        uint64_t fallback;
        char at_end[32] = "-", peak[32] = "-", total[32];

        if (result->failure[0] != '\0' ||
            (!deferred_is_page(result->method) && !deferred_is_reclaimer(result->method)))
            continue;
        group_heading(to, result->workers, &shown);
        if (deferred_is_page(result->method)) {
            blocks = &result->pages.cache.blocks;
            fallback = result->pages.cache.rcu_waits + result->no_memory;
            grouped(result->pages.frames, at_end);
            grouped(result->pages.frames_peak, peak);
        } else {
            blocks = &result->reclaimer.blocks;
            fallback = result->reclaimer.chain_total + result->reclaimer.waits + result->reclaimer.throttled;
        }
        fprintf(to, "    %-33s %7s %8s %8llu %12llu %8s %8llu\n", deferred_name(result->method), peak, at_end,
                (unsigned long long)blocks->grown, (unsigned long long)blocks->misses,
                grouped(blocks->total, total), (unsigned long long)fallback);
    }
    fputs("  pages: not free: handed out, cached, waiting for a grace period, or holding pointer blocks.\n"
          "  pointer blocks: arrays in which pointers wait. grown: needed new memory. none there: and got "
          "none.\n"
          "  had to wait: hand-overs that waited (nothing to be had, or too much pending) or were chained.\n",
          to);
}

/* A time and its ratio in 12 columns. */
static void print_cell(FILE *to, double ns, double times)
{
    fprintf(to, ns < 100 ? "%6.2f" : "%6.0f", ns);
    fprintf(to, times < 10 ? " %4.1fx" : " %4.0fx", times);
}

static void print_contender(FILE *to, const struct contender_result *contender, const char *name)
{
    if (!contender->asked_for)
        return;
    if (contender->failure[0] != '\0') {
        fprintf(to, "    %-31s not run: %.70s\n", name, contender->failure);
        return;
    }
    fprintf(to, "    %-31s", name);
    for (unsigned pattern = 0; pattern < PATTERNS; pattern++)
        for (unsigned touch = 0; touch < 2; touch++)
            print_cell(to, contender->ns[pattern][touch].median, contender->to_lifo[pattern][touch].median);
    fputc('\n', to);
}

static void print_pairs(FILE *to, const struct options *options, const struct pair_result *pair)
{
    title(
        to,
        "Pair: a 4096-byte page allocated and freed; nanoseconds per pair, and as a multiple of the LIFO's");
    fputs("                                         alternating         8 allocs, 8 frees      64 allocs, 64 "
          "frees\n"
          "                                    untouched  1st byte     untouched  1st byte     untouched  "
          "1st byte\n"
          "  called functions\n",
          to);
    for (enum contender c = 0; c < CONTENDERS; c++) {
        if (c == LIFO_INLINED)
            fputs("  inlined into the caller\n", to);
        print_contender(to, &pair->contender[c], contender_name(c));
    }
    fprintf(to,
            "  Medians of %u rounds in which all take turns on one CPU. 1st byte: it is written after the "
            "alloc.\n",
            pair->rounds);
    if (!options->peers)
        fputs("  --peers adds tcmalloc, jemalloc, mimalloc and DPDK's rte_mempool.\n", to);
}

void report_print(FILE *to, const struct options *options, const struct machine *machine,
                  const struct results *results)
{
    print_machine(to, options, machine, results);
    if (results->cases != 0) {
        print_times(to, results);
        print_memory(to, options, results);
        print_needs(to, results);
    }
    if (options->pair)
        print_pairs(to, options, &results->pair);
    print_summary(to, options, results);
}
