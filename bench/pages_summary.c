/* SPDX-License-Identifier: MIT */
/* pages_summary.c - figures over the rounds, ratios round against round, and the targets of the page cache. */
#include <string.h>

#include "pages.h"

/* 0: there is no such cell, or it failed. */
static double value_of(const struct pages_result *result, unsigned round, unsigned row, unsigned column)
{
    if (result == NULL || result->cells == NULL || result->missing[row][0] != '\0')
        return 0;
    const struct pages_cell *cell = pages_cell_of(result, round, row, column);
    return cell->failure[0] == '\0' ? cell->ns : 0;
}

static double peak_of(const struct pages_result *result, unsigned round, unsigned row, unsigned column)
{
    bool there = value_of(result, round, row, column) > 0;
    return there ? (double)pages_cell_of(result, round, row, column)->peak : 0;
}

typedef double (*figure_function)(const struct pages_result *result, unsigned round, unsigned row,
                                  unsigned column);

static struct spread over_rounds(const struct pages_results *results, const struct pages_result *result,
                                 unsigned row, unsigned column, figure_function figure)
{
    double value[ROUNDS_MAX];
    unsigned n = 0;
    for (unsigned round = 0; round < results->options->rounds; round++)
        if (figure(result, round, row, column) > 0)
            value[n++] = figure(result, round, row, column);
    return spread_of(value, n);
}

struct spread pages_figure(const struct pages_results *results, const struct pages_result *result,
                           unsigned row, unsigned column)
{
    return over_rounds(results, result, row, column, value_of);
}

struct spread pages_peak(const struct pages_results *results, const struct pages_result *result, unsigned row,
                         unsigned column)
{
    return over_rounds(results, result, row, column, peak_of);
}

struct spread pages_ratio(const struct pages_results *results, const struct pages_result *result,
                          unsigned row, unsigned column)
{
    double ratio[ROUNDS_MAX];
    unsigned n = 0;
    for (unsigned round = 0; round < results->options->rounds; round++) {
        double value = value_of(result, round, row, column);
        double base = value_of(result, round, result->table->base, column);
        if (value > 0 && base > 0)
            ratio[n++] = value / base;
    }
    return spread_of(ratio, n);
}

struct nolock_share nolock_share(const struct nolock_run *run, unsigned from, unsigned to)
{
    struct nolock_bin sum = {0};
    for (unsigned i = from; i < to && i < NOLOCK_BINS; i++) {
        sum.allocs += run->bin[i].allocs;
        sum.got += run->bin[i].got;
        sum.frees += run->bin[i].frees;
        sum.kept += run->bin[i].kept;
        sum.ordinary += run->bin[i].ordinary;
        sum.had += run->bin[i].had;
    }
    return (struct nolock_share){
        .alloc = sum.allocs != 0 ? (double)sum.got / (double)sum.allocs * 100 : -1,
        .kept = sum.frees != 0 ? (double)sum.kept / (double)sum.frees * 100 : -1,
        .ordinary = sum.ordinary != 0 ? (double)sum.had / (double)sum.ordinary * 100 : -1,
        .allocs = sum.allocs,
        .frees = sum.frees,
    };
}

/* --- targets --- */

struct goals {
    struct verdict *list;
    unsigned n;
    const struct pages_results *results;
};

static void add(struct goals *goals, const char *figure, const char *target, struct spread value,
                const char *unit, enum verdict_state state)
{
    struct verdict *goal = &goals->list[goals->n++];
    *goal = (struct verdict){.value = value, .unit = unit, .state = state};
    snprintf(goal->figure, sizeof goal->figure, "%s", figure);
    snprintf(goal->target, sizeof goal->target, "%s", target);
}

/* A figure of one row, or the least of several, in a round. */
struct side {
    const struct pages_result *result;
    unsigned column, rows; /* bits; all have to be there */
    figure_function figure;
};

static double least_of(const struct side *side, unsigned round)
{
    double least = 0;
    for (unsigned row = 0; row < PAGES_ROWS; row++) {
        if ((side->rows & 1u << row) == 0)
            continue;
        double value = side->figure(side->result, round, row, side->column);
        if (value <= 0)
            return 0;
        least = least == 0 || value < least ? value : least;
    }
    return least;
}

/* above / below, round against round. */
static void add_ratio(struct goals *goals, const char *figure, struct side above, struct side below,
                      bool at_most, double target)
{
    double ratio[ROUNDS_MAX];
    unsigned n = 0;
    char text[32];
    if (above.result->cells == NULL || below.result->cells == NULL)
        return;
    for (unsigned round = 0; round < goals->results->options->rounds; round++) {
        double a = least_of(&above, round), b = least_of(&below, round);
        if (a > 0 && b > 0)
            ratio[n++] = a / b;
    }
    struct spread value = spread_of(ratio, n);
    bool met = at_most ? value.median <= target : value.median >= target;
    snprintf(text, sizeof text, "%s %.2f", at_most ? "at most" : "at least", target);
    add(goals, figure, text, value, "", n == 0 ? NOT_RUN : met ? MET : NOT_MET);
}

static const struct pages_result *find(const struct pages_results *results, const char *id)
{
    const struct pages_result *result = results->table;
    while (strcmp(result->table->id, id) != 0)
        result++;
    return result;
}

static void add_pairs(struct goals *goals)
{
    const struct pages_result *pair = find(goals->results, "pair");
    const struct side inlined = {pair, 0, 1u << PAGES_INLINED, value_of},
                      called = {pair, 0, 1u << PAGES_CALLED, value_of},
                      engine = {pair, 0, 1u << PAGES_ENGINE_INLINED, value_of},
                      engine_called = {pair, 0, 1u << PAGES_ENGINE_CALLED, value_of},
                      tcmalloc = {pair, 0, 1u << PAGES_TCMALLOC, value_of},
                      jemalloc = {pair, 0, 1u << PAGES_JEMALLOC, value_of};
    add_ratio(goals, "[1] pair, inlined: time to the bare engine's", inlined, engine, true, 1.2);
    add_ratio(goals, "[1] pair, called: time to the bare engine's", called, engine_called, true, 1.2);
    add_ratio(goals, "[1] pair: tcmalloc's time to the inlined one", tcmalloc, inlined, false, 2);
    add_ratio(goals, "[1] pair: tcmalloc's time to the called one", tcmalloc, called, false, 2);
    add_ratio(goals, "[1] pair: jemalloc's time to the inlined one", jemalloc, inlined, false, 3);
    add_ratio(goals, "[1] pair: jemalloc's time to the called one", jemalloc, called, false, 3);
}

static void add_frames(struct goals *goals)
{
    const struct pages_result *frames = find(goals->results, "frames");
    const struct side one = {frames, 0, 1u << PAGES_FRAMES, value_of},
                      two = {frames, 1, 1u << PAGES_FRAMES, value_of};
    char text[32];
    if (frames->cells == NULL)
        return;
    struct spread value = pages_figure(goals->results, frames, PAGES_FRAMES, 0);
    snprintf(text, sizeof text, "at most %d", PAGES_LLFREE);
    add(goals, "[2] frames: get and put of order 0", text, value, "ns",
        value.median <= 0              ? NOT_RUN
        : value.median <= PAGES_LLFREE ? MET
                                       : NOT_MET);
    add_ratio(goals, "[2] frames: two CPUs at once, time of each to one's", two, one, true, 1.1);
}

static void add_churn(struct goals *goals)
{
    const struct pages_result *churn = find(goals->results, "churn");
    const unsigned weir = 1u << PAGES_INLINED, others = 1u << PAGES_GLIBC | 1u << PAGES_TCMALLOC |
                                                        1u << PAGES_JEMALLOC | 1u << PAGES_MIMALLOC;
    static const char *const names[] = {"[3] churn, one for one: time to the best malloc's",
                                        "[3] churn, up to 512: time to the best malloc's"};
    for (unsigned column = 0; column < 2; column++)
        add_ratio(goals, names[column], (struct side){churn, column, weir, value_of},
                  (struct side){churn, column, others, value_of}, true, 1);
    add_ratio(goals, "[3] churn: peak resident memory to the least", (struct side){churn, 1, weir, peak_of},
              (struct side){churn, 1, others, peak_of}, true, 1);
}

static struct spread one_number(double value)
{
    return (struct spread){value, value, value, value, value};
}

/* The shares in the fullest two percent: no targets. */
static void add_nolock(struct goals *goals)
{
    for (unsigned i = 0; i < goals->results->nolock_runs; i++) {
        const struct nolock_run *run = &goals->results->nolock[i];
        char figure[96];
        if (run->failure[0] != '\0')
            continue;
        struct nolock_share share = nolock_share(run, 98, NOLOCK_BINS);
        snprintf(figure, sizeof figure, "[4] nolock, 98 %% full and more, %s: got a page",
                 run->reserve != 0 ? "reserve" : "no reserve");
        if (share.alloc >= 0)
            add(goals, figure, "", one_number(share.alloc), "%", BESIDE);
    }
}

static unsigned period_of(const struct burst_run *run)
{
    return run->decay_milliseconds != 0 ? run->decay_milliseconds : WEIR_CACHE_DECAY_DEFAULT;
}

static double percent_above(const struct burst_run *run)
{
    return ((double)run->end / (double)run->baseline - 1) * 100;
}

/* Of the runs that are set up as the `first` of them: above the baseline at the end, and when it was within the
 * share. The next one that is set up differently. */
static unsigned add_bursts(struct goals *goals, unsigned first)
{
    const struct burst_run *run = &goals->results->burst[first];
    double above[BURST_ROUNDS_MAX], back[BURST_ROUNDS_MAX];
    unsigned n = 0, never = 0, i = first;
    char figure[96];
    for (; i < goals->results->burst_runs; i++) {
        const struct burst_run *other = &goals->results->burst[i];
        if (other->decay_milliseconds != run->decay_milliseconds || other->in_use != run->in_use)
            break;
        if (other->failure[0] != '\0')
            continue;
        above[n] = percent_above(other);
        never += other->back < 0;
        back[n++] = other->back;
    }
    if (n == 0)
        return i;
    bool judged = run->in_use != 0;
    snprintf(figure, sizeof figure, "[5] burst, decay every %u ms%s: above baseline", period_of(run),
             judged ? "" : ", bare");
    add(goals, figure, judged ? "at most 5" : "", spread_of(above, n), "%",
        !judged      ? BESIDE
        : never == 0 ? MET
                     : NOT_MET);
    snprintf(figure, sizeof figure, "[5] burst, decay every %u ms: within 5 %% after", period_of(run));
    if (judged && never == 0)
        add(goals, figure, "", spread_of(back, n), "s", BESIDE);
    return i;
}

unsigned pages_summary(struct verdict list[PAGES_GOALS_MAX], const struct pages_results *results)
{
    struct goals goals = {list, 0, results};
    add_pairs(&goals);
    add_frames(&goals);
    add_churn(&goals);
    add_nolock(&goals);
    for (unsigned i = 0; i < results->burst_runs;)
        i = add_bursts(&goals, i);
    return goals.n;
}
