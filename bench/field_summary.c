/* SPDX-License-Identifier: MIT */
/* field_summary.c - figures over the rounds, ratios round against round, and the targets of deferred free. */
#include <string.h>

#include "field.h"

/* Nanoseconds per object of each thread to the end of the barrier; 0: it did not run. */
static double time_of(const struct field_table *table, unsigned round, unsigned row)
{
    return table->missing[row][0] == '\0' ? field_cell_of(table, round, row)->barrier : 0;
}

static double smaller(double a, double b)
{
    return a > 0 && (b <= 0 || a < b) ? a : b;
}

/* The faster of both. */
static double floor_of(const struct field_table *table, unsigned round, unsigned row)
{
    bool page = field_row_is_page(row);
    return smaller(time_of(table, round, page ? ROW_PAGE_BLOCKS : ROW_FLOOR_BLOCKS),
                   time_of(table, round, page ? ROW_PAGE_ONES : ROW_FLOOR_ONES));
}

static double call_rcu_of(const struct field_table *table, unsigned round)
{
    return smaller(time_of(table, round, ROW_CALL_RCU), time_of(table, round, ROW_CALL_RCU_PER_CPU));
}

static double value_of(const struct field_table *table, unsigned round, unsigned row,
                       enum field_figure figure)
{
    double to_barrier = time_of(table, round, row), floor = floor_of(table, round, row);
    if (to_barrier <= 0 || figure == TO_BARRIER)
        return to_barrier;
    if (figure == TO_FLOOR)
        return floor > 0 ? to_barrier / floor : 0;
    const struct field_cell *cell = field_cell_of(table, round, row);
    return figure == HAND_OVER ? cell->hand_over : (double)cell->periods;
}

struct spread field_figure(const struct field_results *results, const struct field_table *table, unsigned row,
                           enum field_figure figure)
{
    double value[ROUNDS_MAX];
    unsigned n = 0;
    for (unsigned round = 0; round < results->options->rounds; round++)
        if (time_of(table, round, row) > 0)
            value[n++] = value_of(table, round, row, figure);
    return spread_of(value, n);
}

bool field_periods_known(const struct field_table *table, unsigned row)
{
    return table->missing[row][0] == '\0' && field_cell_of(table, 0, row)->periods_known;
}

size_t field_peak(const struct field_results *results, const struct field_table *table, unsigned row)
{
    size_t most = 0;
    for (unsigned round = 0; table->missing[row][0] == '\0' && round < results->options->rounds; round++)
        if (field_cell_of(table, round, row)->peak > most)
            most = field_cell_of(table, round, row)->peak;
    return most;
}

/* --- targets --- */

static const struct field_table *find(const struct field_results *results, enum allocator allocator,
                                      unsigned threads)
{
    for (unsigned i = 0; i < results->tables; i++)
        if (results->table[i].allocator == allocator && results->table[i].threads == threads)
            return &results->table[i];
    return NULL;
}

struct goals {
    const struct field_results *results;
    struct field_goal *goal;
    unsigned n;
};

/* The figure of a round; 0: there is none. */
typedef double (*figure_of)(const struct goals *goals, const struct field_table *table, unsigned round);

static double to_floor(const struct goals *goals, const struct field_table *table, unsigned round)
{
    (void)goals;
    return value_of(table, round, ROW_WEIR, TO_FLOOR);
}

static double ratio(double above, double below)
{
    return above > 0 && below > 0 ? above / below : 0;
}

static double to_ck(const struct goals *goals, const struct field_table *table, unsigned round)
{
    (void)goals;
    return ratio(time_of(table, round, ROW_WEIR), time_of(table, round, ROW_CK));
}

static double call_rcu_to_weir(const struct goals *goals, const struct field_table *table, unsigned round)
{
    (void)goals;
    return ratio(call_rcu_of(table, round), time_of(table, round, ROW_WEIR));
}

/* Of a whole run, not of a round. */
static double memory(const struct goals *goals, const struct field_table *table, unsigned round)
{
    (void)round;
    double one = (double)field_peak(goals->results, table, ROW_CALL_RCU);
    double per_cpu = (double)field_peak(goals->results, table, ROW_CALL_RCU_PER_CPU);
    return ratio((double)field_peak(goals->results, table, ROW_WEIR), smaller(one, per_cpu));
}

static double page(const struct goals *goals, const struct field_table *table, unsigned round)
{
    (void)goals;
    return time_of(table, round, ROW_PAGES);
}

static double page_alone(const struct goals *goals, const struct field_table *table, unsigned round)
{
    (void)goals;
    return time_of(table, round, ROW_PAGES_ALONE);
}

static double call_rcu_to_page(const struct goals *goals, const struct field_table *table, unsigned round)
{
    (void)goals;
    return ratio(call_rcu_of(table, round), time_of(table, round, ROW_PAGES));
}

static double growth(const struct goals *goals, const struct field_table *table, unsigned round, unsigned row)
{
    const struct field_table *one = find(goals->results, table->allocator, 1);
    return table->threads * ratio(one != NULL ? time_of(one, round, row) : 0, time_of(table, round, row));
}

static double throughput(const struct goals *goals, const struct field_table *table, unsigned round)
{
    return growth(goals, table, round, ROW_WEIR);
}

/* What the machine and malloc allow, without anything deferred. */
static double plain_throughput(const struct goals *goals, const struct field_table *table, unsigned round)
{
    return growth(goals, table, round, ROW_FREE);
}

/* What freeing by the block costs, whoever does it. */
static double blocks_to_floor(const struct goals *goals, const struct field_table *table, unsigned round)
{
    (void)goals;
    return value_of(table, round, ROW_FLOOR_BLOCKS, TO_FLOOR);
}

/* With `target` 0: a figure to see the one before it by. */
static void add(struct goals *goals, const struct field_table *table, figure_of figure, bool at_most,
                double target, const char *name)
{
    double value[ROUNDS_MAX];
    unsigned n = 0;
    struct field_goal *goal = &goals->goal[goals->n++];

    *goal = (struct field_goal){.state = NOT_RUN};
    snprintf(goal->figure, sizeof goal->figure, "%s", name);
    if (target > 0)
        snprintf(goal->target, sizeof goal->target, "%s %.4g", at_most ? "at most" : "at least", target);
    else
        snprintf(goal->target, sizeof goal->target, "beside it");
    for (unsigned round = 0; table != NULL && round < goals->results->options->rounds; round++) {
        double found = figure(goals, table, round);
        if (found > 0)
            value[n++] = found;
    }
    if (n == 0)
        return;
    goal->value = spread_of(value, n);
    bool met = at_most ? goal->value.median <= target : goal->value.median >= target;
    goal->state = target <= 0 ? BESIDE : met ? MET : NOT_MET;
}

static void add_for(struct goals *goals, enum allocator allocator, double floor, double call_rcu)
{
    const struct field_table *table = find(goals->results, allocator, 1);
    const char *name = allocator_name(allocator);
    char text[96];
    snprintf(text, sizeof text, "[1] %s: time to the floor's", name);
    add(goals, table, to_floor, true, floor, text);
    snprintf(text, sizeof text, "    %s: floor by the block to the floor", name);
    add(goals, table, blocks_to_floor, true, 0, text);
    snprintf(text, sizeof text, "[2] %s: time to ck_epoch's", name);
    add(goals, table, to_ck, true, 1, text);
    snprintf(text, sizeof text, "[3] %s: call_rcu's time to weir's", name);
    add(goals, table, call_rcu_to_weir, false, call_rcu, text);
    snprintf(text, sizeof text, "[4] %s: peak memory to call_rcu's", name);
    add(goals, table, memory, true, 0.25, text);
}

unsigned field_summary(struct field_goal goals_[FIELD_GOALS_MAX], const struct field_results *results)
{
    struct goals goals = {results, goals_, 0};
    const struct field_table *one = find(results, ALLOCATOR_GLIBC, 1);
    const unsigned threads = results->options->threads;
    char text[96];

    add_for(&goals, ALLOCATOR_GLIBC, 1.3, 4);
    add_for(&goals, ALLOCATOR_MIMALLOC, 1.6, 8);
    add(&goals, one, page, true, 5, "[5] pages: ns per object");
    add(&goals, one, page_alone, true, 0, "    pages, nothing written to them");
    add(&goals, one, call_rcu_to_page, false, 15, "[5] glibc: call_rcu's time to a page's");
    /* At least 1.8 with two. */
    snprintf(text, sizeof text, "[6] glibc: throughput of %u threads to one's", threads);
    if (threads != 1)
        add(&goals, find(results, ALLOCATOR_GLIBC, threads), throughput, false, 0.9 * threads, text);
    snprintf(text, sizeof text, "    glibc: likewise, malloc + free at once");
    if (threads != 1)
        add(&goals, find(results, ALLOCATOR_GLIBC, threads), plain_throughput, false, 0, text);
    return goals.n;
}
