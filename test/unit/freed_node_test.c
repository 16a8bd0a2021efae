/* SPDX-License-Identifier: MIT */
/*
 * The rule for memory of weir/stack.h, in AddressSanitizer builds: a node that is freed while a removal is about to read
 * it is reported. Every removal is held up between reading the head and reading the top's next; meanwhile another one
 * takes that node and frees it. The same without the free must not be reported.
 *
 * Expects AddressSanitizer to write to stderr: run it through meson.
 */
#include <stdlib.h>

#include "weir/pool.h"
#include "weir/stack.h"

#include "stopped.h"
#include "weir_test.h"

static struct weir_stack stack;
static struct weir_pool pool;
static bool keep;
static size_t n;

static void take_the_top(void)
{
    struct weir_stack_node *top = weir_stack_pop(&stack);
    if (!keep)
        free(top);
}

static void get_the_top(void)
{
    struct weir_stack_node *top = weir_pool_get(&pool);
    if (!keep)
        free(top);
}

static struct weir_stack_node *new_node(void)
{
    struct weir_stack_node *node = malloc(64);
    if (node == NULL)
        abort();
    return node;
}

static void hold_up(void)
{
    weir_stack_init(&stack);
    weir_pool_init(&pool);
    for (unsigned i = 0; i < 2; i++) {
        weir_stack_push(&stack, new_node());
        weir_pool_put(&pool, new_node());
    }
}

static void at_the_top_of(const struct weir__tagged *head, void (*step)(void))
{
    misuse.loaded = &weir__tagged_load(head).top->next;
    misuse.before_load = step;
}

static void slow_pop(void)
{
    hold_up();
    at_the_top_of(&stack.head, take_the_top);
    weir_stack_pop(&stack);
}

static void slow_pop_n(void)
{
    hold_up();
    at_the_top_of(&stack.head, take_the_top);
    weir_stack_pop_n(&stack, 2, &n);
}

static void slow_get(void)
{
    hold_up();
    at_the_top_of(&pool.head, get_the_top);
    weir_pool_get(&pool);
}

static void slow_get_batch(void)
{
    hold_up();
    at_the_top_of(&pool.head, get_the_top);
    weir_pool_get_batch(&pool, 2, &n);
}

static void is_reported(void (*run)(void), const char *function)
{
    int status = stopped(run);
    cr_assert_not(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: nothing was reported", function);
    cr_assert_not_null(strstr(stopped_said, "AddressSanitizer: heap-use-after-free"), "%s: %s", function,
                       stopped_said);
    cr_assert_not_null(strstr(stopped_said, function), "%s: %s", function, stopped_said);
}

Test(freed_node, removal_that_reads_a_node_freed_too_early_is_reported)
{
    is_reported(slow_pop, "weir_stack_pop");
    is_reported(slow_pop_n, "weir_stack_pop_n");
    is_reported(slow_get, "weir_pool_get");
    is_reported(slow_get_batch, "weir_pool_get_batch");
}

Test(freed_node, removal_that_reads_a_node_somebody_owns_is_not)
{
    static void (*const runs[])(void) = {slow_pop, slow_pop_n, slow_get, slow_get_batch};
    keep = true;
    for (unsigned i = 0; i < 4; i++) {
        int status = stopped(runs[i]);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%u: %s", i, stopped_said);
        cr_assert_str_eq(stopped_said, "");
    }
}
