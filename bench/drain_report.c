/* SPDX-License-Identifier: MIT */
/* drain_report.c - the tables, for people (at most 100 columns) and for docs/drain.md; as JSON; and for the plot. */
#include <math.h>
#include <string.h>

#include "drain.h"

void drain_report(FILE *to, const struct drain_results *results, const struct machine *machine)
{
    drain_markdown(to, results, machine);
}

void drain_markdown(FILE *to, const struct drain_results *results, const struct machine *machine)
{
    (void)machine;
    for (enum process p = 0; p < PROCESSES; p++)
        for (int bulk = 0; bulk < 2; bulk++)
            fprintf(to, "fast %u %d: cache %.2f lifo %.2f\n", p, bulk,
                    spread_of(results->fast[p].cache[bulk], results->rounds).median,
                    spread_of(results->fast[p].lifo[bulk], results->rounds).median);
    for (enum way way = 0; way < WAYS; way++)
        for (enum mix mix = 0; mix < MIXES; mix++) {
            const struct slices_result *s = &results->way[way].slices[mix];
            struct spread r = spread_of(s->ratio, s->pairs);
            fprintf(
                to,
                "%-24s %u: off %.2f ns slower %.2f%% (%.2f..%.2f) rate %.0f objects/drain %.1f empty %.2f "
                "refills/drain %.2f obj %.1f ns each %.0f; qs every %.2f us, sw/s vol %.1f invol %.1f, "
                "without %.1f %.1f\n",
                drain_ways[way].name, mix, spread_of(s->without, s->pairs).median, r.median * 100,
                r.low * 100, r.high * 100, (double)s->drains / s->seconds,
                (double)s->objects / (double)s->drains, (double)s->empty / (double)s->drains,
                (double)s->refills / (double)s->drains, (double)s->refilled / (double)s->drains,
                s->refill_seconds * 1e9 / (double)s->refills, s->quiescent_every * 1e6,
                (double)s->voluntary / s->seconds, (double)s->involuntary / s->seconds,
                (double)s->voluntary_without / s->seconds, (double)s->involuntary_without / s->seconds);
        }
    for (enum way way = 0; way < WAYS; way++) {
        const struct way_result *w = &results->way[way];
        const struct spin_result *s = &w->spin;
        fprintf(
            to,
            "%-24s latency %.1f %.1f %.1f (%u); spin: rate %.0f, gaps/s %.0f lost %.1f us/s longest %.0f us "
            "refill %.1f us/s invol %.1f/s int %.0f/s calls %.0f/s\n",
            drain_ways[way].name, drain_latency(w, .5), drain_latency(w, .99), drain_latency(w, 1),
            w->latencies, (double)s->drains / s->seconds, (double)s->gaps / s->seconds,
            s->lost * 1e6 / s->seconds, s->longest * 1e6, s->refill_seconds * 1e6 / s->seconds,
            (double)s->involuntary / s->seconds, (double)s->interrupts / s->seconds,
            (double)s->calls / s->seconds);
    }
}

void drain_json(FILE *to, const struct drain_results *results, const struct machine *machine)
{
    (void)to;
    (void)results;
    (void)machine;
}

void drain_data(FILE *to, const struct drain_results *results)
{
    (void)to;
    (void)results;
}
