/* SPDX-License-Identifier: MIT */
/* weir/pool.h, one thread: the count is exact, decay ends at zero, nothing is lost. */
#include "weir/pool.h"

#include "weir_test.h"

enum { NODES = 500 };

static struct weir_pool pool;
static struct weir_stack_node nodes[NODES];

static void fill(size_t n)
{
    weir_pool_init(&pool);
    for (size_t i = 0; i < n; i++)
        weir_pool_put(&pool, &nodes[i]);
}

/* Length of a chain; fails if it meets the same node twice or one of another array. */
static size_t length(const struct weir_stack_node *chain)
{
    bool met[NODES] = {false};
    size_t n = 0;
    for (; chain; chain = chain->next, n++) {
        cr_assert(chain >= nodes && chain < nodes + NODES);
        cr_assert_not(met[chain - nodes]);
        met[chain - nodes] = true;
    }
    return n;
}

Test(pool, empty_pool_gives_nothing_and_counts_zero)
{
    size_t n = 9;
    fill(0);
    cr_assert_eq(weir_pool_count(&pool), 0u);
    cr_assert_null(weir_pool_get(&pool));
    cr_assert_null(weir_pool_get_batch(&pool, 3, &n));
    cr_assert_eq(n, 0u);
    n = 9;
    cr_assert_null(weir_pool_decay(&pool, 50, &n));
    cr_assert_eq(n, 0u);
    n = 9;
    cr_assert_null(weir_pool_drain(&pool, &n));
    cr_assert_eq(n, 0u);
    cr_assert_eq(weir_pool_count(&pool), 0u);
}

Test(pool, zeroed_memory_is_an_empty_pool)
{
    static struct weir_pool zeroed;
    cr_assert_eq(weir_pool_count(&zeroed), 0u);
    weir_pool_put(&zeroed, &nodes[0]);
    cr_assert_eq(weir_pool_get(&zeroed), &nodes[0]);
    cr_assert_null(weir_pool_get(&zeroed));
}

Test(pool, count_follows_each_put_and_get)
{
    fill(0);
    for (size_t i = 0; i < 5; i++) {
        weir_pool_put(&pool, &nodes[i]);
        cr_assert_eq(weir_pool_count(&pool), i + 1);
    }
    for (size_t i = 5; i-- > 0;) {
        cr_assert_eq(weir_pool_get(&pool), &nodes[i], "the one put last comes first");
        cr_assert_eq(weir_pool_count(&pool), i);
    }
}

Test(pool, put_batch_counts_all_of_it_and_keeps_its_order)
{
    fill(1);
    for (unsigned i = 1; i < 3; i++)
        nodes[i].next = &nodes[i + 1];
    weir_pool_put_batch(&pool, &nodes[1], &nodes[3], 3);
    cr_assert_eq(weir_pool_count(&pool), 4u);
    for (unsigned i = 1; i <= 3; i++)
        cr_assert_eq(weir_pool_get(&pool), &nodes[i]);
    cr_assert_eq(weir_pool_get(&pool), &nodes[0]);
}

Test(pool, get_batch_takes_max_or_what_there_is)
{
    size_t n;
    fill(5);
    cr_assert_eq(length(weir_pool_get_batch(&pool, 3, &n)), 3u);
    cr_assert_eq(n, 3u);
    cr_assert_eq(weir_pool_count(&pool), 2u);
    cr_assert_null(weir_pool_get_batch(&pool, 0, &n));
    cr_assert_eq(n, 0u);
    cr_assert_eq(weir_pool_count(&pool), 2u);
    cr_assert_eq(length(weir_pool_get_batch(&pool, 9, &n)), 2u);
    cr_assert_eq(n, 2u);
    cr_assert_eq(weir_pool_count(&pool), 0u);
}

Test(pool, decay_takes_the_percentage_rounded_up)
{
    static const struct {
        size_t have;
        unsigned percent;
        size_t taken;
    } cases[] = {{100, 25, 25},  {3, 25, 1},  {1, 1, 1},   {5, 20, 1}, {6, 20, 2},  {499, 50, 250},
                 {500, 99, 495}, {7, 100, 7}, {7, 250, 7}, {7, 0, 0},  {201, 1, 3}, {0, 100, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = 999;
        fill(cases[i].have);
        cr_assert_eq(length(weir_pool_decay(&pool, cases[i].percent, &n)), cases[i].taken, "case %zu", i);
        cr_assert_eq(n, cases[i].taken, "case %zu", i);
        cr_assert_eq(weir_pool_count(&pool), cases[i].have - cases[i].taken, "case %zu", i);
    }
}

Test(pool, repeated_decay_ends_at_zero)
{
    size_t left = NODES, n, passes = 0;
    fill(NODES);
    while (left > 0) {
        cr_assert_eq(length(weir_pool_decay(&pool, 25, &n)), n);
        cr_assert_gt(n, 0u);
        left -= n;
        cr_assert_eq(weir_pool_count(&pool), left);
        passes++;
    }
    cr_assert_leq(passes, 25u);
    cr_assert_null(weir_pool_get(&pool));
}

Test(pool, decay_leaves_the_rest_usable)
{
    bool seen[NODES] = {false};
    size_t n;
    fill(NODES);
    for (struct weir_stack_node *node = weir_pool_decay(&pool, 50, &n); node; node = node->next)
        seen[node - nodes] = true;
    for (struct weir_stack_node *node; (node = weir_pool_get(&pool));) {
        cr_assert_not(seen[node - nodes], "node %td was taken twice", node - nodes);
        seen[node - nodes] = true;
    }
    for (size_t i = 0; i < NODES; i++)
        cr_assert(seen[i], "node %zu was lost", i);
}

Test(pool, drain_takes_everything)
{
    size_t n = 0;
    fill(NODES);
    cr_assert_eq(length(weir_pool_drain(&pool, &n)), (size_t)NODES);
    cr_assert_eq(n, (size_t)NODES);
    cr_assert_eq(weir_pool_count(&pool), 0u);
    cr_assert_null(weir_pool_get(&pool));
}
