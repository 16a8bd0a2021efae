/* SPDX-License-Identifier: MIT */
/* summary.c - the figures that weir is judged by, each with its target. */
#include "bench.h"

const struct deferred_result *results_find(const struct results *results, enum method_id method,
                                           bool all_cpus)
{
    for (unsigned i = 0; i < results->cases; i++) {
        const struct deferred_result *result = results->case_result[i];
        if (result->method == method && (result->workers > 1) == all_cpus && result->failure[0] == '\0')
            return result;
    }
    return NULL;
}

struct spread results_ratio(const struct deferred_result *above, const struct deferred_result *below)
{
    double ratio[ROUNDS_MAX];
    unsigned rounds = 0;
    if (above == NULL || below == NULL)
        return spread_of(NULL, 0);
    for (; rounds < above->rounds && rounds < below->rounds; rounds++)
        ratio[rounds] = above->barrier[rounds] / below->barrier[rounds];
    return spread_of(ratio, rounds);
}

/* liburcu as it does best in this run: with its one helper thread, or with one per CPU. */
static const struct deferred_result *best_call_rcu(const struct results *results, bool all_cpus, bool by_time)
{
    const struct deferred_result *one = results_find(results, CALL_RCU, all_cpus);
    const struct deferred_result *many = results_find(results, CALL_RCU_PER_CPU, all_cpus);
    if (one == NULL || many == NULL)
        return one != NULL ? one : many;
    bool second = by_time ? results_ratio(many, one).median < 1 : many->resident_peak < one->resident_peak;
    return second ? many : one;
}

static void add(struct verdict verdicts[], unsigned *n, const char *figure, const char *target,
                const char *unit, struct spread value, enum verdict_state state)
{
    struct verdict *verdict = &verdicts[(*n)++];
    *verdict = (struct verdict){.value = value, .unit = unit, .state = state};
    snprintf(verdict->figure, sizeof verdict->figure, "%s", figure);
    snprintf(verdict->target, sizeof verdict->target, "%s", target);
}

static void judge_deferred(struct verdict verdicts[], unsigned *n, const struct results *results,
                           bool all_cpus)
{
    const struct deferred_result *weir = results_find(results, WEIR_TWO_ARGUMENT, all_cpus);
    const struct deferred_result *fastest = best_call_rcu(results, all_cpus, true);
    const struct deferred_result *smallest = best_call_rcu(results, all_cpus, false);
    char figure[96], where[32];

    if (weir == NULL || fastest == NULL)
        return;
    snprintf(where, sizeof where, weir->workers == 1 ? "one CPU" : "%u workers", weir->workers);
    struct spread speed = results_ratio(fastest, weir);
    snprintf(figure, sizeof figure, "deferred malloc'd objects against call_rcu, %s", where);
    add(verdicts, n, figure, "at least 3", "x as fast", speed, speed.median >= 3 ? MET : NOT_MET);
    double memory = (double)weir->resident_peak / (double)smallest->resident_peak;
    snprintf(figure, sizeof figure, "their peak memory against call_rcu's, %s", where);
    add(verdicts, n, figure, "less than 1", "x as much", spread_of(&memory, 1), memory < 1 ? MET : NOT_MET);
}

static void judge_pair(struct verdict verdicts[], unsigned *n, const struct options *options,
                       const struct pair_result *pair)
{
    static const char *const name[] = {
        [TCMALLOC] = "tcmalloc", [JEMALLOC] = "jemalloc", [MIMALLOC] = "mimalloc"};
    const struct contender_result *weir = &pair->contender[WEIR_CALLED],
                                  *lifo = &pair->contender[LIFO_CALLED];

    if (weir->failure[0] != '\0' || lifo->failure[0] != '\0')
        return;
    struct spread ratio = weir->to_lifo[ALTERNATING][1];
    add(verdicts, n, "page alloc + free pair against a linked LIFO", "at most 1.5", "x as long", ratio,
        ratio.median <= 1.5 ? MET : NOT_MET);
    for (enum contender c = TCMALLOC; c <= MIMALLOC; c++) {
        const struct contender_result *peer = &pair->contender[c];
        bool ran = options->peers && peer->failure[0] == '\0';
        struct spread speed = peer->to_weir[ALTERNATING][1];
        char figure[96];
        snprintf(figure, sizeof figure, "page alloc + free pair against %s, 4096 bytes", name[c]);
        add(verdicts, n, figure, "more than 1", "x as fast", speed,
            !ran                 ? NOT_RUN
            : speed.median > 1.0 ? MET
                                 : NOT_MET);
    }
}

unsigned summary_make(struct verdict verdicts[VERDICTS_MAX], const struct options *options,
                      const struct results *results)
{
    unsigned n = 0;
    judge_deferred(verdicts, &n, results, false);
    judge_deferred(verdicts, &n, results, true);
    if (options->pair)
        judge_pair(verdicts, &n, options, &results->pair);
    return n;
}
