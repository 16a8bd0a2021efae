/* SPDX-License-Identifier: MIT */
/* cache_summary.c - figures over the rounds, ratios round against round, and the targets of the engine. */
#include <string.h>

#include "cache.h"

/* In the unit of its table; 0: there is no such cell, or it failed. */
static double value_of(const struct cache_result *result, unsigned round, unsigned row, unsigned column)
{
    if (result == NULL || result->missing[row][0] != '\0')
        return 0;
    const struct cache_cell *cell = cache_cell_of(result, round, row, column);
    if (cell->failure[0] != '\0')
        return 0;
    return result->table->time ? cell->value : cell->value * 1e-6;
}

struct spread cache_figure(const struct cache_results *results, const struct cache_result *result,
                           unsigned row, unsigned column)
{
    double value[ROUNDS_MAX];
    unsigned n = 0;
    for (unsigned round = 0; round < results->options->rounds; round++)
        if (value_of(result, round, row, column) > 0)
            value[n++] = value_of(result, round, row, column);
    return spread_of(value, n);
}

struct spread cache_ratio(const struct cache_results *results, const struct cache_result *result,
                          unsigned row, unsigned column)
{
    double ratio[ROUNDS_MAX];
    unsigned n = 0;
    for (unsigned round = 0; round < results->options->rounds; round++) {
        double value = value_of(result, round, row, column);
        double weir = value_of(result, round, ROW_WEIR, column);
        if (value > 0 && weir > 0)
            ratio[n++] = value / weir;
    }
    return spread_of(ratio, n);
}

size_t cache_peak(const struct cache_results *results, const struct cache_result *result, unsigned row,
                  unsigned column)
{
    size_t most = 0;
    for (unsigned round = 0; round < results->options->rounds; round++)
        if (cache_cell_of(result, round, row, column)->peak > most)
            most = cache_cell_of(result, round, row, column)->peak;
    return most;
}

/* --- what weir's statistics say --- */

const char *const cache_exchange_ids[CACHE_EXCHANGES] = {"refills", "depot_hits", "depot_misses",
                                                         "flushes", "spills",     "backend_calls"};
const char *const cache_exchange_names[CACHE_EXCHANGES] = {
    "refills", "of them from the depot", "depot empty", "flushes", "depot was full", "calls of the backend"};

void cache_exchanges_of(const struct cache_results *results, const struct cache_result *result,
                        unsigned column, struct spread per_million[CACHE_EXCHANGES])
{
    double value[CACHE_EXCHANGES][ROUNDS_MAX];
    unsigned n = 0;
    for (unsigned round = 0; round < results->options->rounds; round++) {
        const struct cache_cell *cell = cache_cell_of(result, round, ROW_WEIR, column);
        const struct cache_exchanges *counts = &cell->exchanges;
        const uint64_t count[CACHE_EXCHANGES] = {counts->refills, counts->depot_hits, counts->misses,
                                                 counts->flushes, counts->spills,     counts->backend_calls};
        if (cell->objects == 0)
            continue;
        for (unsigned i = 0; i < CACHE_EXCHANGES; i++)
            value[i][n] = (double)count[i] * 1e6 / (double)cell->objects;
        n++;
    }
    for (unsigned i = 0; i < CACHE_EXCHANGES; i++)
        per_million[i] = spread_of(value[i], n);
}

/* --- targets --- */

static const struct cache_result *find_table(const struct cache_results *results, const char *id)
{
    for (unsigned i = 0; i < CACHE_TABLES; i++)
        if (results->table[i].cells != NULL && strcmp(results->table[i].table->id, id) == 0)
            return &results->table[i];
    return NULL;
}

/* A figure of some contenders: the best of them, in each round. */
struct side {
    const struct cache_result *result[2]; /* NULL: only one table */
    unsigned column;
    unsigned rows; /* bits; all of them have to be there */
};

/* 0 if one of them is not there. Which one was best in *best. */
static double best_of(const struct side *side, unsigned round, unsigned *best)
{
    double found = 0;
    for (unsigned i = 0; i < 2; i++) {
        const struct cache_result *result = side->result[i];
        for (unsigned row = 0; result != NULL && row < CACHE_ROWS; row++) {
            if ((side->rows & 1u << row) == 0)
                continue;
            double value = value_of(result, round, row, side->column);
            if (value <= 0)
                return 0;
            if (found > 0 && (result->table->time ? value >= found : value <= found))
                continue;
            found = value;
            *best = row;
        }
    }
    return found;
}

/* Adds a target about above / below, round against round; names what was most often the best of `named`. */
static void add_goal(struct cache_goal goals[], unsigned *n, const struct cache_results *results,
                     const struct side *above, const struct side *below, const struct side *named,
                     bool at_most, double target, const char *figure)
{
    double ratio[ROUNDS_MAX];
    unsigned rounds = 0, won[CACHE_ROWS] = {0}, winner = ROW_LIFO;
    struct cache_goal *goal = &goals[*n];

    if (above->result[0] == NULL || below->result[0] == NULL)
        return;
    ++*n;
    *goal = (struct cache_goal){.state = NOT_RUN};
    snprintf(goal->figure, sizeof goal->figure, "%s", figure);
    snprintf(goal->target, sizeof goal->target, "%s %.2f", at_most ? "at most" : "at least", target);
    for (unsigned round = 0; round < results->options->rounds; round++) {
        unsigned best_above = 0, best_below = 0;
        double a = best_of(above, round, &best_above), b = best_of(below, round, &best_below);
        if (a <= 0 || b <= 0)
            continue;
        ratio[rounds++] = a / b;
        unsigned best = named == above ? best_above : best_below;
        won[best]++;
        winner = won[best] > won[winner] ? best : winner;
    }
    if (rounds == 0)
        return;
    goal->value = spread_of(ratio, rounds);
    if (named != NULL)
        snprintf(goal->note, sizeof goal->note, "%s", cache_row_name(winner, false));
    bool met = at_most ? goal->value.median <= target : goal->value.median >= target;
    goal->state = met ? MET : NOT_MET;
}

unsigned cache_summary(struct cache_goal goals[CACHE_GOALS_MAX], const struct cache_results *results)
{
    const struct cache_result *pair = find_table(results, "pair"), *bulk = find_table(results, "bulk");
    const struct cache_result *pair_inlined = find_table(results, "pair-inlined");
    const struct cache_result *bulk_inlined = find_table(results, "bulk-inlined");
    const struct cache_result *threads = find_table(results, "threads"), *pipe = find_table(results, "pipe");
    const unsigned weir = 1u << ROW_WEIR, rte = 1u << ROW_RTE;
    const unsigned mallocs = 1u << ROW_TCMALLOC | 1u << ROW_JEMALLOC | 1u << ROW_MIMALLOC;
    const unsigned lifo = 1u << ROW_LIFO;
    unsigned n = 0;

    /* As a program uses them: weir, the list and rte_mempool inlined, a malloc called; and all called. */
    const struct side used_weir = {{pair_inlined, NULL}, 0, weir}, used_rte = {{pair_inlined, NULL}, 0, rte},
                      used_lifo = {{pair_inlined, NULL}, 0, lifo};
    const struct side pair_weir = {{pair, NULL}, 0, weir}, pair_rte = {{pair, NULL}, 0, rte},
                      pair_lifo = {{pair, NULL}, 0, lifo},
                      pair_tcmalloc = {{pair, NULL}, 0, 1u << ROW_TCMALLOC};
    add_goal(goals, &n, results, &used_weir, &used_lifo, NULL, true, 1.2,
             "[1] pair, inlined: time to the LIFO's");
    add_goal(goals, &n, results, &pair_weir, &pair_lifo, NULL, true, 1.2,
             "[1] pair, called: time to the LIFO's");
    add_goal(goals, &n, results, &pair_tcmalloc, &used_weir, NULL, false, 2,
             "[1] pair: tcmalloc's time to weir's inlined");
    add_goal(goals, &n, results, &pair_tcmalloc, &pair_weir, NULL, false, 2,
             "[1] pair, called: tcmalloc's time to weir's");
    add_goal(goals, &n, results, &used_rte, &used_weir, NULL, false, 3,
             "[1] pair, inlined: rte_mempool's time to weir's");
    add_goal(goals, &n, results, &pair_rte, &pair_weir, NULL, false, 3,
             "[1] pair, called: rte_mempool's time to weir's");
    const struct side bulk_weir = {{bulk, NULL}, 1, weir}, bulk_rte = {{bulk, NULL}, 1, rte};
    const struct side constant_weir = {{bulk_inlined, NULL}, 1, weir},
                      constant_rte = {{bulk_inlined, NULL}, 1, rte};
    add_goal(goals, &n, results, &bulk_weir, &bulk_rte, NULL, true, 1,
             "[2] bulk of 32, called: time to rte_mempool's");
    add_goal(goals, &n, results, &constant_weir, &constant_rte, NULL, true, 1,
             "[2] bulk of 32, inlined: time to rte_mempool's");
    const struct side threads_64 = {{threads, NULL}, 4, weir}, threads_2 = {{threads, NULL}, 1, weir};
    add_goal(goals, &n, results, &threads_64, &threads_2, NULL, false, 0.9, "[3] 64 threads to 2 threads");
    const struct side pipe_weir = {{pipe, NULL}, 0, weir}, pipe_others = {{pipe, NULL}, 0, mallocs};
    add_goal(goals, &n, results, &pipe_weir, &pipe_others, &pipe_others, false, 1,
             "[4] pipe: to the best malloc");
    const struct side circle_weir = {{pipe, NULL}, 2, weir}, circle_others = {{pipe, NULL}, 2, mallocs};
    add_goal(goals, &n, results, &circle_weir, &circle_others, &circle_others, false, 1,
             "[4] circle: to the best malloc");
    return n;
}
