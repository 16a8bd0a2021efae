/* SPDX-License-Identifier: MIT */
/*
 * The hook of weir/atomic.h, with atomic_hook.h in it: llist, stack and pool reach shared memory through it and in no
 * other way, by exactly the operations that their comments justify; and a lost race is followed by a wait.
 */
#undef WEIR_CHECKED /* its checks load more */

#include <limits.h>

#include "weir/llist.h"
#include "weir/magazine.h"
#include "weir/pool.h"
#include "weir/stack.h"

#include "weir_test.h"

enum { NODES = 12 };

static struct weir_llist_head list;
static struct weir_llist_node links[NODES];
static struct weir_stack stack;
static struct weir_pool pool;
static struct weir_stack_node nodes[NODES];
static size_t n;

/* What a removal and a push read and replace the head with; a pool's count is a word of its own when packed. */
#if WEIR__TAGGED_WIDE
#define HEAD " load load"
#define CAS " cas16"
#define ANNOUNCE ""
#define SUBTRACT ""
#else
#define HEAD " load"
#define CAS " cas"
#define ANNOUNCE " add"
#define SUBTRACT " sub"
#endif

#define DOES(expected, operation)                                                                            \
    do {                                                                                                     \
        hook.trace[0] = '\0';                                                                                \
        hook.pauses = 0;                                                                                     \
        operation;                                                                                           \
        cr_assert_str_eq(hook.trace, expected, "%s does:%s", #operation, hook.trace);                        \
    } while (0)

static void start(void)
{
    weir_llist_init(&list);
    weir_stack_init(&stack);
    weir_pool_init(&pool);
}

static void link_nodes(unsigned first, unsigned last)
{
    for (unsigned i = first; i < last; i++) {
        weir_store_relaxed(&nodes[i].next, &nodes[i + 1]);
        weir_store_relaxed(&links[i].next, &links[i + 1]);
    }
}

Test(atomic_hook, memory_is_in_code)
{
    uint64_t word = 5;
    weir_store_relaxed(&word, UINT64_C(5));
    cr_assert_neq(word, 5u);
    cr_assert_eq(weir_load_relaxed(&word), 5u);
    cr_assert_eq(weir_fetch_add_relaxed(&word, UINT64_C(3)), 5u);
    cr_assert_eq(weir_fetch_sub_relaxed(&word, UINT64_C(1)), 8u);
    cr_assert_eq(weir_fetch_and_release(&word, UINT64_C(3)), 7u);
    cr_assert_eq(weir_xchg_relaxed(&word, UINT64_C(9)), 3u);
    cr_assert_eq(weir_load_relaxed(&word), 9u);
}

Test(atomic_hook, llist_does_these_operations_and_no_others)
{
    DOES(" store", weir_llist_init(&list));
    DOES(" load", cr_assert(weir_llist_empty(&list)));
    DOES(" load store cas", cr_assert(weir_llist_add(&links[0], &list)));
    link_nodes(1, 3);
    DOES(" load store cas", cr_assert_not(weir_llist_add_batch(&links[1], &links[3], &list)));
    DOES(" load load cas", cr_assert_eq(weir_llist_del_first(&list), &links[1]));
    DOES(" load load cas store", cr_assert_eq(weir_llist_del_first_init(&list), &links[2]));
    DOES(" load", cr_assert_not(weir_llist_node_on_list(&links[2])));
    DOES(" load", cr_assert_not(weir_llist_del_first_this(&list, &links[0])));
    DOES(" load load cas", cr_assert(weir_llist_del_first_this(&list, &links[3])));
    DOES(" xchg", cr_assert_eq(weir_llist_del_all(&list), &links[0]));
    DOES(" load", cr_assert_null(weir_llist_next(&links[0])));
    DOES(" load", cr_assert_null(weir_llist_del_first(&list)));
}

Test(atomic_hook, llist_del_all_fifo_is_an_exchange_and_a_walk)
{
    start();
    weir_llist_add(&links[0], &list);
    weir_llist_add(&links[1], &list);
    DOES(" xchg load store load store", cr_assert_eq(weir_llist_del_all_fifo(&list), &links[0]));
    cr_assert_eq(weir_llist_next(&links[0]), &links[1]);
    DOES(" xchg", cr_assert_null(weir_llist_del_all_fifo(&list)));
}

Test(atomic_hook, llist_unshared_forms_do_no_read_modify_write)
{
    start();
    DOES(" load store store", cr_assert(weir_llist_add_unshared(&links[0], &list)));
    link_nodes(1, 2);
    DOES(" load store store", cr_assert_not(weir_llist_add_batch_unshared(&links[1], &links[2], &list)));
    DOES(" load store", cr_assert_eq(weir_llist_del_all_unshared(&list), &links[1]));
    cr_assert_eq(weir_llist_next(&links[2]), &links[0]);
}

Test(atomic_hook, stack_does_these_operations_and_no_others)
{
    DOES(" store store", weir_stack_init(&stack));
    DOES(HEAD, cr_assert(weir_stack_empty(&stack)));
    DOES(HEAD " store" CAS, weir_stack_push(&stack, &nodes[0]));
    link_nodes(1, 5);
    DOES(HEAD " store" CAS, weir_stack_push_batch(&stack, &nodes[1], &nodes[5]));
    DOES(HEAD " load" CAS, cr_assert_eq(weir_stack_pop(&stack), &nodes[1]));
    DOES(HEAD " load load load load" CAS " store", cr_assert_eq(weir_stack_pop_n(&stack, 2, &n), &nodes[2]));
    cr_assert_eq(n, 2u);
    DOES(HEAD CAS, cr_assert_eq(weir_stack_pop_all(&stack), &nodes[4]));
    DOES(HEAD, cr_assert_null(weir_stack_pop(&stack)));
    DOES(HEAD, cr_assert_null(weir_stack_pop_all(&stack)));
    DOES(HEAD, cr_assert_null(weir_stack_pop_n(&stack, 2, &n)));
}

Test(atomic_hook, pool_does_these_operations_and_no_others)
{
    DOES(" store store", weir_pool_init(&pool));
    DOES(" load", cr_assert_eq(weir_pool_count(&pool), 0u));
    DOES(ANNOUNCE HEAD " store" CAS, weir_pool_put(&pool, &nodes[0]));
    link_nodes(1, 5);
    DOES(ANNOUNCE HEAD " store" CAS, weir_pool_put_batch(&pool, &nodes[1], &nodes[5], 5));
    DOES(" load", cr_assert_eq(weir_pool_count(&pool), 6u));
    DOES(HEAD " load" CAS SUBTRACT, cr_assert_eq(weir_pool_get(&pool), &nodes[1]));
    DOES(HEAD " load load load load" CAS SUBTRACT " store",
         cr_assert_eq(weir_pool_get_batch(&pool, 2, &n), &nodes[2]));
    cr_assert_eq(n, 2u);
    /* The count; one of three; its end, and what earlier steps took (nothing) behind it. */
    DOES(" load" HEAD " load load" CAS SUBTRACT " store store",
         cr_assert_eq(weir_pool_decay(&pool, 30, &n), &nodes[4]));
    cr_assert_eq(n, 1u);
#if WEIR__TAGGED_WIDE
    DOES(HEAD CAS, cr_assert_eq(weir_pool_drain(&pool, &n), &nodes[5]));
#else
    DOES(HEAD CAS " load load sub", cr_assert_eq(weir_pool_drain(&pool, &n), &nodes[5]));
#endif
    cr_assert_eq(n, 2u);
    DOES(HEAD, cr_assert_null(weir_pool_get(&pool)));
    DOES(" load", cr_assert_eq(weir_pool_count(&pool), 0u));
}

Test(atomic_hook, magazine_links_through_it)
{
    static char memory[256] WEIR_ALIGNED(16);
    DOES(" store", weir_magazine_init(memory, sizeof memory));
}

/* --- what follows a lost race --- */

#define FIRST_WAIT WEIR_BACKOFF_MIN

static void waits(unsigned pauses, const char *operation)
{
    cr_assert_eq(hook.pauses, pauses, "%s: %u pauses", operation, hook.pauses);
}

/* The operation loses its race once, waits, loads again and gets through. */
#define RETRIES(before, round, after, operation)                                                             \
    do {                                                                                                     \
        hook.fail_next = 1;                                                                                  \
        DOES(before round round after, operation);                                                           \
        waits(FIRST_WAIT, #operation);                                                                       \
    } while (0)

Test(atomic_hook, each_loop_waits_and_loads_again_after_a_lost_race)
{
    start();
    RETRIES("", " load store cas", "", weir_llist_add(&links[0], &list));
    weir_llist_add(&links[1], &list);
    RETRIES("", " load load cas", "", cr_assert_eq(weir_llist_del_first(&list), &links[1]));
    RETRIES("", " load load cas", "", cr_assert(weir_llist_del_first_this(&list, &links[0])));

    RETRIES("", HEAD " store" CAS, "", weir_stack_push(&stack, &nodes[0]));
    RETRIES("", HEAD " load" CAS, "", cr_assert_eq(weir_stack_pop(&stack), &nodes[0]));
    weir_stack_push(&stack, &nodes[0]);
    RETRIES("", HEAD " load load" CAS, " store", cr_assert_eq(weir_stack_pop_n(&stack, 1, &n), &nodes[0]));
    weir_stack_push(&stack, &nodes[0]);
    RETRIES("", HEAD CAS, "", cr_assert_eq(weir_stack_pop_all(&stack), &nodes[0]));

    RETRIES(ANNOUNCE, HEAD " store" CAS, "", weir_pool_put(&pool, &nodes[0]));
    cr_assert_eq(weir_pool_count(&pool), 1u, "announced once, though pushed twice");
    RETRIES("", HEAD " load" CAS, SUBTRACT, cr_assert_eq(weir_pool_get(&pool), &nodes[0]));
    cr_assert_eq(weir_pool_count(&pool), 0u);
    weir_pool_put(&pool, &nodes[0]);
    RETRIES("", HEAD " load load" CAS, SUBTRACT " store",
            cr_assert_eq(weir_pool_get_batch(&pool, 1, &n), &nodes[0]));
    weir_pool_put(&pool, &nodes[0]);
    hook.fail_next = 1;
    hook.pauses = 0;
    cr_assert_eq(weir_pool_drain(&pool, &n), &nodes[0]);
    waits(FIRST_WAIT, "weir_pool_drain");
    cr_assert_eq(n, 1u);
    cr_assert_eq(weir_pool_count(&pool), 0u);
}

Test(atomic_hook, nobody_waits_without_a_lost_race)
{
    start();
    DOES(" load store cas", weir_llist_add(&links[0], &list));
    waits(0, "add");
    DOES(HEAD " store" CAS, weir_stack_push(&stack, &nodes[0]));
    waits(0, "push");
}

Test(atomic_hook, backoff_doubles_up_to_its_bound_and_stays_there)
{
    static const struct {
        unsigned losses, pauses;
    } cases[] = {{0, 64},   {1, 128},  {2, 256},        {3, 512},       {4, 512},
                 {31, 512}, {32, 512}, {1u << 31, 512}, {UINT_MAX, 512}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hook.pauses = 0;
        cr_assert_eq(weir_backoff(cases[i].losses), cases[i].losses + 1);
        cr_assert_eq(hook.pauses, cases[i].pauses, "after %u losses: %u pauses", cases[i].losses,
                     hook.pauses);
    }
    cr_assert_eq(WEIR_BACKOFF_MIN, 64u);
    cr_assert_eq(WEIR_BACKOFF_MAX, 512u);
}

/* --- the hook as a scheduler: another thread's step at the worst moment --- */

static void top_leaves_and_comes_back(void)
{
    struct weir_stack_node *top = weir_stack_pop(&stack);
    weir_stack_pop(&stack);
    weir_stack_push(&stack, top);
}

Test(atomic_hook, pop_notices_that_the_top_was_away)
{
    start();
    for (unsigned i = 0; i < 3; i++)
        weir_stack_push(&stack, &nodes[i]);
    hook.before_cas = top_leaves_and_comes_back;
    cr_assert_eq(weir_stack_pop(&stack), &nodes[2]);
    cr_assert_eq(weir_stack_pop(&stack), &nodes[0], "nodes[1] has gone meanwhile");
    cr_assert_null(weir_stack_pop(&stack));
}

static void pool_top_leaves_and_comes_back(void)
{
    struct weir_stack_node *top = weir_pool_get(&pool), *below = weir_pool_get(&pool);
    weir_pool_put(&pool, &nodes[9]); /* in its place: the count is the same as before */
    weir_pool_put(&pool, top);
    weir_store_relaxed(&below->next, &nodes[8]);
}

Test(atomic_hook, get_notices_that_the_top_was_away_though_the_count_is_the_same)
{
    for (unsigned round = 0; round < 4; round++) {
        start();
        for (unsigned i = 0; i < 3; i++)
            weir_pool_put(&pool, &nodes[i]);
        hook.before_cas = pool_top_leaves_and_comes_back;
        switch (round) {
        case 0:
            cr_assert_eq(weir_pool_get(&pool), &nodes[2]);
            break;
        case 1:
            cr_assert_eq(weir_pool_get_batch(&pool, 1, &n), &nodes[2]);
            break;
        case 2:
            cr_assert_eq(weir_pool_decay(&pool, 30, &n), &nodes[2]);
            break;
        default:
            cr_assert_eq(weir_pool_drain(&pool, &n), &nodes[2]);
            cr_assert_eq(n, 3u);
            cr_assert_eq(weir_load_relaxed(&nodes[2].next), &nodes[9]);
            cr_assert_eq(weir_pool_count(&pool), 0u);
            continue;
        }
        cr_assert_eq(weir_pool_get(&pool), &nodes[9]);
        cr_assert_eq(weir_pool_get(&pool), &nodes[0]);
        cr_assert_null(weir_pool_get(&pool));
        cr_assert_eq(weir_pool_count(&pool), 0u);
    }
}

static void three_are_taken(void)
{
    weir_pool_get_batch(&pool, 3, &n);
}

Test(atomic_hook, decay_that_finds_less_than_was_counted_says_what_it_took)
{
    size_t taken = 9;
    start();
    for (unsigned i = 0; i < 4; i++)
        weir_pool_put(&pool, &nodes[i]);
    hook.before_cas = three_are_taken;
    cr_assert_eq(weir_pool_decay(&pool, 100, &taken), &nodes[0]);
    cr_assert_eq(taken, 1u);
    cr_assert_null(weir_load_relaxed(&nodes[0].next));
    cr_assert_eq(weir_pool_count(&pool), 0u);
}
