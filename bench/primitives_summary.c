/* SPDX-License-Identifier: MIT */
/* primitives_summary.c - ratios, round against round, and the targets of floor 1. */
#include <string.h>

#include "primitives.h"

/* The fastest of some rows in a round; which one in *best. */
static double fastest(const struct table_result *result, unsigned round, unsigned column,
                      const char *const ids[], unsigned *best)
{
    double speed = 0;
    for (unsigned row = 0; row < ROWS_MAX && result->table->row[row] != NULL; row++) {
        const struct contender_type *contender = result->table->row[row];
        bool asked = ids == NULL && contender->kind == PEER;
        for (unsigned i = 0; ids != NULL && ids[i] != NULL; i++)
            asked |= strcmp(ids[i], contender->id) == 0;
        if (!asked || result->missing[row][0] != '\0' || speed_of(result, round, row, column) <= speed)
            continue;
        speed = speed_of(result, round, row, column);
        *best = row;
    }
    return speed;
}

/* What a table compares with, in a round. */
static double reference(const struct table_result *result, unsigned round, unsigned column)
{
    static const char *const pool[] = {"weir_pool", NULL}, *const list[] = {"weir_llist_batch", NULL};
    unsigned best;
    if (result->table->compared == TO_SINGLE_ADDS)
        return fastest(result, round, 0, list, &best); /* the first column is batches of 1 */
    return fastest(result, round, column, result->table->compared == TO_WEIR_POOL ? pool : NULL, &best);
}

struct spread primitives_ratio(const struct primitives_results *results, const struct table_result *result,
                               unsigned row, unsigned column)
{
    double ratio[ROUNDS_MAX];
    unsigned n = 0;
    for (unsigned round = 0; round < results->rounds; round++) {
        double speed = speed_of(result, round, row, column), other = reference(result, round, column);
        if (speed > 0 && other > 0)
            ratio[n++] = result->table->time ? other / speed : speed / other;
    }
    return spread_of(ratio, n);
}

static const struct table_result *find_table(const struct primitives_results *results, const char *id)
{
    for (unsigned i = 0; i < TABLES; i++)
        if (results->table[i].cells != NULL && strcmp(results->table[i].table->id, id) == 0)
            return &results->table[i];
    return NULL;
}

/* The first row of a table beside the best of some others (NULL: of all peers), round against round. Names the
 * one that was best most often. False if one of them is not there. */
static bool compare_with(const struct primitives_results *results, const struct table_result *result,
                         unsigned column, const char *const ids[], struct goal *goal)
{
    double ratio[ROUNDS_MAX];
    unsigned n = 0, won[ROWS_MAX] = {0}, winner = 0;

    for (unsigned row = 0; row < ROWS_MAX && result->table->row[row] != NULL; row++)
        for (unsigned i = 0; ids != NULL && ids[i] != NULL; i++)
            if (strcmp(result->table->row[row]->id, ids[i]) == 0 && result->missing[row][0] != '\0')
                return false;
    for (unsigned round = 0; round < results->rounds; round++) {
        unsigned best = 0;
        double speed = speed_of(result, round, 0, column), other = fastest(result, round, column, ids, &best);
        if (speed <= 0 || other <= 0)
            continue;
        ratio[n++] = result->table->time ? other / speed : speed / other;
        won[best]++;
        winner = won[best] > won[winner] ? best : winner;
    }
    goal->value = spread_of(ratio, n);
    snprintf(goal->note, sizeof goal->note, "%s", result->table->row[winner]->name);
    return n != 0;
}

/* Adds a target about the first row of a table, unless the table was not asked for. `ids`: the peers that count, all
 * of which have to be there; NULL: those that are. */
static void add_goal(struct goal goals[], unsigned *n, const struct primitives_results *results,
                     const char *table, unsigned column, const char *const ids[], double target,
                     const char *figure)
{
    const struct table_result *result = find_table(results, table);
    struct goal *goal = &goals[*n];
    if (result == NULL)
        return;
    ++*n;
    *goal = (struct goal){.state = NOT_RUN};
    snprintf(goal->figure, sizeof goal->figure, "%s", figure);
    snprintf(goal->target, sizeof goal->target, "%s %.2f", result->table->time ? "at most" : "at least",
             target);
    if (result->table->compared == TO_SINGLE_ADDS)
        goal->value = primitives_ratio(results, result, 0, column);
    else if (!compare_with(results, result, column, ids, goal))
        return;
    bool met = result->table->time ? goal->value.median <= target : goal->value.median >= target;
    goal->state = met ? MET : NOT_MET;
}

unsigned primitives_summary(struct goal goals[GOALS_MAX], const struct primitives_results *results)
{
    static const char *const add_peers[] = {"ck_upmc", "lfstack", NULL};
    static const char *const pair_peers[] = {"ck_mpmc", "rte_stack_lf", "rte_stack_std", NULL};
    char figure[96];
    unsigned n = 0;

    add_goal(goals, &n, results, "add", 0, add_peers, 1.05,
             "[1] llist, one thread: time to ck's or lfstack's");
    for (unsigned column = 1; column < 4; column++) {
        snprintf(figure, sizeof figure, "[2] llist adds, %u threads, to the best peer", 1u << column);
        add_goal(goals, &n, results, "contended", column, NULL, 1, figure);
    }
    add_goal(goals, &n, results, "batch-2", 3, NULL, 20, "[3] add_batch of 64 to single adds, 2 threads");
    for (unsigned column = 0; column < 4; column++) {
        snprintf(figure, sizeof figure, "[4] stack pairs, %u thread%s, to ck and rte_stack", 1u << column,
                 column == 0 ? "" : "s");
        add_goal(goals, &n, results, "pair", column, pair_peers, 1, figure);
    }
    return n;
}
