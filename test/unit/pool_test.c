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

Test(pool, zeroed_memory_counts_like_an_initialized_pool)
{
    static struct weir_pool zeroed;
    size_t n;
    for (unsigned i = 0; i < 8; i++)
        weir_pool_put(&zeroed, &nodes[i]);
    cr_assert_eq(weir_pool_count(&zeroed), 8u);
    cr_assert_eq(length(weir_pool_get_batch(&zeroed, 3, &n)), 3u);
    cr_assert_eq(weir_pool_count(&zeroed), 5u);
    cr_assert_eq(length(weir_pool_drain(&zeroed, &n)), 5u);
    cr_assert_eq(n, 5u);
    cr_assert_eq(weir_pool_count(&zeroed), 0u);
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

Test(pool, drain_gives_the_number_that_is_there_and_leaves_a_pool_that_works)
{
    for (size_t have = 1; have <= 5; have++) {
        size_t n = 999;
        fill(have);
        weir_pool_put(&pool, weir_pool_get(&pool));
        cr_assert_eq(length(weir_pool_drain(&pool, &n)), have);
        cr_assert_eq(n, have);
        cr_assert_null(weir_pool_drain(&pool, &n));
        cr_assert_eq(n, 0u);
        weir_pool_put(&pool, &nodes[0]);
        cr_assert_eq(weir_pool_count(&pool), 1u);
        cr_assert_eq(weir_pool_get(&pool), &nodes[0]);
    }
}

static uint64_t random_state = 88172645463325252u;

static size_t dice(size_t sides)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)(random_state % sides);
}

/* Against a stack of the simplest kind. Removals enough to take the generation of a checked build round its end. */
Test(pool, count_and_order_are_exact_after_every_mix)
{
    struct weir_stack_node *model[NODES], *mine[NODES], *node;
    size_t in_pool = 0, owned = NODES, n;

    weir_pool_init(&pool);
    for (size_t i = 0; i < NODES; i++)
        mine[i] = &nodes[i];
    for (unsigned step = 0; step < 20000; step++) {
        size_t kind = dice(40), want = 0;
        n = 0;
        node = NULL;
        if (kind < 14 && owned > 0) { /* mine[owned - k] .. mine[owned - 1], the last on top */
            size_t k = kind < 7 ? 1 : 1 + dice(owned < 30 ? owned : 30);
            for (size_t i = owned - k + 1; i < owned; i++)
                mine[i]->next = mine[i - 1];
            if (k == 1)
                weir_pool_put(&pool, mine[owned - 1]);
            else
                weir_pool_put_batch(&pool, mine[owned - 1], mine[owned - k], k);
            for (size_t i = owned - k; i < owned; i++)
                model[in_pool++] = mine[i];
            owned -= k;
        } else if (kind < 26) {
            want = in_pool > 0;
            node = weir_pool_get(&pool);
            n = node != NULL;
            if (node)
                node->next = NULL;
        } else if (kind < 36) {
            size_t max = dice(30);
            want = max < in_pool ? max : in_pool;
            node = weir_pool_get_batch(&pool, max, &n);
        } else if (kind < 39) {
            unsigned percent = (unsigned)dice(40);
            want = (in_pool * percent + 99) / 100;
            node = weir_pool_decay(&pool, percent, &n);
        } else {
            want = in_pool;
            node = weir_pool_drain(&pool, &n);
        }
        cr_assert_eq(n, want, "step %u, kind %zu: %zu of %zu", step, kind, n, want);
        cr_assert_eq(length(node), n, "step %u, kind %zu", step, kind);
        for (bool in_order = n <= WEIR_POOL_DECAY_STEP; node; node = node->next) {
            in_pool--;
            cr_assert(!in_order || node == model[in_pool], "step %u, kind %zu: another node", step, kind);
            mine[owned++] = node;
        }
        cr_assert_eq(weir_pool_count(&pool), in_pool, "step %u, kind %zu: counts %zu of %zu", step, kind,
                     weir_pool_count(&pool), in_pool);
    }
}
