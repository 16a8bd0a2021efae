/* SPDX-License-Identifier: MIT */
/* drain_summary.c - what the ways of draining are judged by. */
#include <math.h>
#include <stdlib.h>

#include "drain.h"

#define SLOWER_AT_MOST 1.0 /* percent */
#define RATE_AT_LEAST 0.99 /* of what was asked for */

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double drain_latency(const struct way_result *way, double share)
{
    static float sorted[LATENCIES_MAX];
    if (way->latencies == 0)
        return 0;
    for (unsigned i = 0; i < way->latencies; i++)
        sorted[i] = way->latency[i];
    qsort(sorted, way->latencies, sizeof sorted[0], compare);
    return (double)sorted[(size_t)((way->latencies - 1) * share)];
}

static void slower(struct drain_goal *goal, const char *what, const struct slices_result *slices)
{
    struct spread ratio = spread_of(slices->ratio, slices->pairs);
    *goal = (struct drain_goal){.state = NOT_RUN};
    snprintf(goal->figure, sizeof goal->figure, "QUIET: %s: slower by, %%", what);
    snprintf(goal->target, sizeof goal->target, "less than %.0f", SLOWER_AT_MOST);
    goal->value = ratio.median * 100;
    goal->low = ratio.low * 100;
    goal->high = ratio.high * 100;
    goal->state = slices->pairs == 0 ? NOT_RUN : goal->value < SLOWER_AT_MOST ? MET : NOT_MET;
}

/* Something is counted with drains and without. Counts of the same thing differ by chance, the more the
 * higher they are: by a tenth, or two standard deviations of a count, is still the same. */
static void no_more_often(struct drain_goal *goal, const char *what, double with, double seconds,
                          double without, double seconds_without)
{
    *goal = (struct drain_goal){.state = NOT_RUN};
    snprintf(goal->figure, sizeof goal->figure, "QUIET: %s", what);
    if (seconds <= 0 || seconds_without <= 0)
        return;
    double expected = without * seconds / seconds_without, by_chance = 2 * sqrt(with + expected);
    snprintf(goal->target, sizeof goal->target, "as without: %.1f", expected / seconds);
    goal->value = goal->low = goal->high = with / seconds;
    goal->state = with <= expected + fmax(by_chance, expected / 10) ? MET : NOT_MET;
}

unsigned drain_summary(struct drain_goal goals[DRAIN_GOALS_MAX], const struct drain_results *results)
{
    const struct way_result *quiet = &results->way[QUIET], *nobody = &results->way[NOBODY];
    struct drain_goal *goal = goals;

    slower(goal++, "one object, over and over", &quiet->slices[PAIRS]);
    slower(goal++, "up to two magazines", &quiet->slices[SWINGS]);

    double seconds = quiet->slices[PAIRS].seconds + quiet->slices[SWINGS].seconds;
    double drains = (double)(quiet->slices[PAIRS].drains + quiet->slices[SWINGS].drains + quiet->spin.drains);
    *goal = (struct drain_goal){.figure = "QUIET: drains per second"};
    snprintf(goal->target, sizeof goal->target, "at least %.0f", RATE_AT_LEAST * results->rate);
    double draining =
        quiet->slices[PAIRS].drain_seconds + quiet->slices[SWINGS].drain_seconds + quiet->spin.seconds;
    goal->value = goal->low = goal->high = draining > 0 ? drains / draining : 0;
    goal->state = seconds <= 0 ? NOT_RUN : goal->value >= RATE_AT_LEAST * results->rate ? MET : NOT_MET;
    goal++;

    const struct slices_result *pairs = &quiet->slices[PAIRS], *swings = &quiet->slices[SWINGS];
    no_more_often(goal++, "busy threads are preempted, times/s",
                  (double)(pairs->involuntary + swings->involuntary), seconds,
                  (double)(pairs->involuntary_without + swings->involuntary_without), seconds);
    no_more_often(goal++, "busy threads wait in the kernel, times/s",
                  (double)(pairs->voluntary + swings->voluntary), seconds,
                  (double)(pairs->voluntary_without + swings->voluntary_without), seconds);
    no_more_often(goal++, "a thread that only looks at the clock: gaps/s",
                  spread_of(quiet->spin.gaps_per_second, quiet->spin.turns).median * quiet->spin.seconds,
                  quiet->spin.seconds,
                  spread_of(nobody->spin.gaps_per_second, nobody->spin.turns).median * nobody->spin.seconds,
                  nobody->spin.seconds);
    if (results->interrupts_known)
        no_more_often(goal++, "its CPU: function call interrupts/s", (double)quiet->spin.calls,
                      quiet->spin.seconds, (double)nobody->spin.calls, nobody->spin.seconds);
    return (unsigned)(goal - goals);
}
