/* SPDX-License-Identifier: MIT */
/*
 * Checked builds (WEIR_CHECKED) of llist, stack and pool: each broken rule stops the program by SIGABRT, after one line
 * that names the function, the object and the rule.
 */
#include <signal.h>

#include "weir/llist.h"
#include "weir/pool.h"
#include "weir/stack.h"

#include "stopped.h"
#include "weir_test.h"

static WEIR_LLIST_HEAD(list);
static struct weir_llist_node links[4];
static struct weir_stack stack;
static struct weir_pool pool;
static struct weir_stack_node nodes[6];
static size_t n;

/* Nothing but the one line, down to the object's address. */
static void stops(void (*run)(void), const char *function, const void *object, const char *rule)
{
    char line[256];
    int status = stopped(run);
    snprintf(line, sizeof line, "weir: %s: %p: %s\n", function, object, rule);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: status %#x, and it says: %s", line,
              (unsigned)status, stopped_said);
    cr_assert_str_eq(stopped_said, line, "it says: %s", stopped_said);
}

static void fill(void)
{
    weir_stack_init(&stack);
    weir_pool_init(&pool);
    for (unsigned i = 0; i < 3; i++) {
        weir_stack_push(&stack, &nodes[i]);
        weir_llist_add(&links[i], &list);
    }
}

static void fill_pool(void)
{
    weir_pool_init(&pool);
    for (unsigned i = 0; i < 3; i++)
        weir_pool_put(&pool, &nodes[i]);
}

/* --- chains --- */

static void add_the_first(void)
{
    fill();
    weir_llist_add(&links[2], &list);
}

static void add_batch_that_ends_in_the_first(void)
{
    fill();
    links[3].next = &links[2];
    weir_llist_add_batch(&links[3], &links[2], &list);
}

static void add_batch_with_another_last(void)
{
    fill();
    links[3].next = NULL;
    weir_llist_add_batch(&links[3], &links[1], &list);
}

static void add_nothing(void)
{
    weir_llist_add_batch(NULL, NULL, &list);
}

Test(misuse, llist_add_of_the_node_that_is_first_already)
{
    stops(add_the_first, "weir_llist_add", &links[2], "is on the list already");
    stops(add_batch_that_ends_in_the_first, "weir_llist_add", &links[2], "is on the list already");
}

Test(misuse, llist_add_batch_whose_last_is_not_reached)
{
    stops(add_batch_with_another_last, "weir_llist_add", &links[1],
          "is not reached from the chain's first node");
    stops(add_nothing, "weir_llist_add", NULL, "a chain without nodes");
}

static void push_the_top(void)
{
    fill();
    weir_stack_push(&stack, &nodes[2]);
}

static void push_batch_with_another_last(void)
{
    fill();
    nodes[3].next = NULL;
    weir_stack_push_batch(&stack, &nodes[3], &nodes[1]);
}

/* 3, 4, 5, 4, 5, ... */
static void push_batch_that_is_a_cycle(void)
{
    fill();
    nodes[3].next = &nodes[4];
    nodes[4].next = &nodes[5];
    nodes[5].next = &nodes[4];
    weir_stack_push_batch(&stack, &nodes[3], &nodes[1]);
}

static void push_nothing(void)
{
    weir_stack_push_batch(&stack, NULL, NULL);
}

Test(misuse, stack_push_of_the_node_that_is_on_top_already)
{
    stops(push_the_top, "weir_stack_push", &nodes[2], "is on the stack already");
}

Test(misuse, stack_push_batch_whose_last_is_not_reached)
{
    stops(push_batch_with_another_last, "weir_stack_push", &nodes[1],
          "is not reached from the chain's first node");
    stops(push_batch_that_is_a_cycle, "weir_stack_push", &nodes[1],
          "is not reached from the chain's first node");
    stops(push_nothing, "weir_stack_push", NULL, "a chain without nodes");
}

static void put_the_top(void)
{
    fill_pool();
    weir_pool_put(&pool, &nodes[2]);
}

static void put_batch_with_another_last(void)
{
    fill_pool();
    nodes[3].next = NULL;
    weir_pool_put_batch(&pool, &nodes[3], &nodes[1], 1);
}

Test(misuse, pool_put_of_the_node_that_is_on_top_already)
{
    stops(put_the_top, "weir_pool_put_batch", &nodes[2], "is in the pool already");
}

Test(misuse, pool_put_batch_whose_last_is_not_reached)
{
    stops(put_batch_with_another_last, "weir_pool_put_batch", &nodes[1],
          "is not reached from the chain's first node");
}

static void put_three_as(size_t number)
{
    weir_pool_init(&pool);
    for (unsigned i = 0; i < 3; i++)
        nodes[i].next = &nodes[i + 1];
    weir_pool_put_batch(&pool, &nodes[0], &nodes[2], number);
}

static void put_three_as_two(void)
{
    put_three_as(2);
}

static void put_three_as_four(void)
{
    put_three_as(4);
}

static void put_three_as_none(void)
{
    put_three_as(0);
}

Test(misuse, pool_put_batch_with_a_number_that_is_not_the_chains_length)
{
    static const char rule[] = "n is not the number of nodes from first to last";
    stops(put_three_as_two, "weir_pool_put_batch", &nodes[0], rule);
    stops(put_three_as_four, "weir_pool_put_batch", &nodes[0], rule);
    stops(put_three_as_none, "weir_pool_put_batch", &nodes[0], rule);
    put_three_as(3);
    cr_assert_eq(weir_pool_count(&pool), 3u);
}

#if WEIR__TAGGED_WIDE
static void put_one_too_many(void)
{
    weir_pool_init(&pool);
    pool.head.word[1] |= WEIR__COUNT_MASK; /* as full as can be */
    weir_pool_put(&pool, &nodes[0]);
}

Test(misuse, pool_put_beyond_what_the_count_can_hold)
{
    stops(put_one_too_many, "weir_pool_put_batch", &pool, "holds more than 4294967295 nodes");
}
#endif

/* --- a node that is written to while it is on the stack --- */

static void write_to_the_top(void)
{
    nodes[2].next = &nodes[3];
}

static void clear_the_top(void)
{
    nodes[2].next = NULL;
}

static void write_below_the_top(void)
{
    nodes[1].next = &nodes[3];
}

static void clear_below_the_top(void)
{
    nodes[1].next = NULL;
}

#define WRITTEN "was written to while it was on the stack"
#define WHILE_REMOVING(name, filler, step, operation)                                                        \
    static void name(void)                                                                                   \
    {                                                                                                        \
        filler();                                                                                            \
        misuse.before_cas = step;                                                                            \
        operation;                                                                                           \
    }

WHILE_REMOVING(pop_written, fill, write_to_the_top, weir_stack_pop(&stack))
WHILE_REMOVING(pop_cleared, fill, clear_the_top, weir_stack_pop(&stack))
WHILE_REMOVING(pop_n_written, fill, write_below_the_top, weir_stack_pop_n(&stack, 2, &n))
WHILE_REMOVING(pop_n_written_early, fill, write_to_the_top, weir_stack_pop_n(&stack, 2, &n))
WHILE_REMOVING(pop_n_cleared, fill, clear_below_the_top, weir_stack_pop_n(&stack, 3, &n))
WHILE_REMOVING(pop_n_cleared_early, fill, clear_the_top, weir_stack_pop_n(&stack, 3, &n))
WHILE_REMOVING(get_written, fill_pool, write_to_the_top, weir_pool_get(&pool))
WHILE_REMOVING(get_cleared, fill_pool, clear_the_top, weir_pool_get(&pool))
WHILE_REMOVING(get_batch_written, fill_pool, write_below_the_top, weir_pool_get_batch(&pool, 2, &n))
WHILE_REMOVING(get_batch_cleared, fill_pool, clear_the_top, weir_pool_get_batch(&pool, 3, &n))

Test(misuse, node_written_to_while_a_pop_takes_it)
{
    stops(pop_written, "weir_stack_pop", &nodes[2], WRITTEN);
    stops(pop_cleared, "weir_stack_pop", &nodes[2], WRITTEN);
}

Test(misuse, node_written_to_while_a_pop_n_takes_it)
{
    stops(pop_n_written, "weir_stack_pop_n", &nodes[2], WRITTEN);
    stops(pop_n_written_early, "weir_stack_pop_n", &nodes[2], WRITTEN);
    stops(pop_n_cleared, "weir_stack_pop_n", &nodes[2], WRITTEN);
    stops(pop_n_cleared_early, "weir_stack_pop_n", &nodes[2], WRITTEN);
}

Test(misuse, node_written_to_while_a_get_takes_it)
{
    stops(get_written, "weir_pool_get", &nodes[2], WRITTEN);
    stops(get_cleared, "weir_pool_get", &nodes[2], WRITTEN);
}

Test(misuse, node_written_to_while_a_get_batch_takes_it)
{
    stops(get_batch_written, "weir_pool_get_batch", &nodes[2], WRITTEN);
    stops(get_batch_cleared, "weir_pool_get_batch", &nodes[2], WRITTEN);
}

/* --- nodes that cannot be packed --- */

#if !WEIR__TAGGED_WIDE
static char bytes[32] WEIR_ALIGNED(8);

static void push_misaligned(void)
{
    weir_stack_init(&stack);
    weir_stack_push(&stack, (struct weir_stack_node *)(void *)(bytes + 4));
}

static void put_misaligned(void)
{
    weir_pool_init(&pool);
    weir_pool_put(&pool, (struct weir_stack_node *)(void *)(bytes + 4));
}

/* Where UndefinedBehaviorSanitizer is at work it is the first to see the misaligned node. */
#ifdef WEIR_TEST_UBSAN
#define STOPS_MISALIGNED(run, function)                                                                      \
    cr_assert_not(WIFEXITED(stopped(run)) && stopped_said[0] == '\0', "nobody has noticed")
#else
#define STOPS_MISALIGNED(run, function)                                                                      \
    stops(run, function, bytes + 4, "a node has to be aligned to 8 and lie below 2^48")
#endif

Test(misuse, packed_push_of_a_misaligned_node)
{
    STOPS_MISALIGNED(push_misaligned, "weir_stack_push");
    STOPS_MISALIGNED(put_misaligned, "weir_pool_put_batch");
}
#endif

/* --- and without misuse nobody is stopped --- */

Test(misuse, correct_use_goes_on)
{
    fill();
    cr_assert_eq(weir_stack_pop_n(&stack, 9, &n), &nodes[2]);
    cr_assert_eq(n, 3u);
    fill_pool();
    cr_assert_eq(weir_pool_get_batch(&pool, 9, &n), &nodes[2]);
    cr_assert_eq(n, 3u);
    cr_assert_eq(weir_llist_del_all(&list), &links[2]);
}
