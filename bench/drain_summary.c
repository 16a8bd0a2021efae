/* SPDX-License-Identifier: MIT */
/* drain_summary.c - what the ways of draining are judged by. */
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
    snprintf(goal->figure, sizeof goal->figure, "QUIET: %s, slower by, %%", what);
    snprintf(goal->target, sizeof goal->target, "less than %.0f", SLOWER_AT_MOST);
    goal->value = ratio.median * 100;
    goal->low = ratio.low * 100;
    goal->high = ratio.high * 100;
    goal->state = slices->pairs == 0 ? NOT_RUN : goal->value < SLOWER_AT_MOST ? MET : NOT_MET;
}

unsigned drain_summary(struct drain_goal goals[DRAIN_GOALS_MAX], const struct drain_results *results)
{
    const struct way_result *quiet = &results->way[QUIET], *nobody = &results->way[NOBODY];
    struct drain_goal *goal = goals;

    slower(goal++, "a thread that allocs and frees one object", &quiet->slices[PAIRS]);
    slower(goal++, "a thread that holds up to two magazines", &quiet->slices[SWINGS]);

    double seconds = quiet->slices[PAIRS].seconds + quiet->slices[SWINGS].seconds;
    uint64_t drains = quiet->slices[PAIRS].drains + quiet->slices[SWINGS].drains;
    *goal = (struct drain_goal){.figure = "QUIET: drains per second"};
    snprintf(goal->target, sizeof goal->target, "%u", results->rate);
    goal->value = goal->low = goal->high = seconds > 0 ? (double)drains / seconds : 0;
    goal->state = seconds <= 0 ? NOT_RUN : goal->value >= RATE_AT_LEAST * results->rate ? MET : NOT_MET;
    goal++;

    /* Noise comes and goes, so the turns' medians are compared; "beyond" is beyond three quarters of the control's
     * turns. */
    struct spread control = spread_of(nobody->spin.involuntary_per_second, nobody->spin.turns);
    struct spread mine = spread_of(quiet->spin.involuntary_per_second, quiet->spin.turns);
    *goal = (struct drain_goal){.figure = "QUIET: a spinning thread is switched out, per second"};
    snprintf(goal->target, sizeof goal->target, "control: %.1f", control.high);
    goal->value = mine.median;
    goal->low = mine.low;
    goal->high = mine.high;
    goal->state = quiet->spin.turns == 0 || nobody->spin.turns == 0 ? NOT_RUN
                  : mine.median <= control.high                     ? MET
                                                                    : NOT_MET;
    goal++;

    if (results->interrupts_known) {
        control = spread_of(nobody->spin.calls_per_second, nobody->spin.turns);
        mine = spread_of(quiet->spin.calls_per_second, quiet->spin.turns);
        *goal = goal[-1];
        snprintf(goal->figure, sizeof goal->figure,
                 "QUIET: function call interrupts of that CPU, per second");
        snprintf(goal->target, sizeof goal->target, "control: %.1f", control.high);
        goal->value = mine.median;
        goal->low = mine.low;
        goal->high = mine.high;
        if (goal->state != NOT_RUN)
            goal->state = mine.median <= control.high ? MET : NOT_MET;
        goal++;
    }
    return (unsigned)(goal - goals);
}
