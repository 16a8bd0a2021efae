/* SPDX-License-Identifier: MIT */
/* weir/stack.h, one thread: what each operation returns and leaves behind. */
#include <string.h>

#include "weir/stack.h"

#include "weir_test.h"

static struct weir_stack stack;
static struct weir_stack_node nodes[6];

/* Makes the stack hold nodes[0] .. nodes[n - 1], the last on top. */
static void fill(unsigned n)
{
    weir_stack_init(&stack);
    for (unsigned i = 0; i < n; i++)
        weir_stack_push(&stack, &nodes[i]);
}

Test(stack, empty_stack_gives_nothing)
{
    size_t n = 9;
    fill(0);
    cr_assert(weir_stack_empty(&stack));
    cr_assert_null(weir_stack_pop(&stack));
    cr_assert_null(weir_stack_pop_all(&stack));
    cr_assert_null(weir_stack_pop_n(&stack, 3, &n));
    cr_assert_eq(n, 0u);
}

Test(stack, zeroed_memory_is_an_empty_stack)
{
    static struct weir_stack zeroed;
    cr_assert(weir_stack_empty(&zeroed));
    weir_stack_push(&zeroed, &nodes[0]);
    cr_assert_eq(weir_stack_pop(&zeroed), &nodes[0]);
    cr_assert_null(weir_stack_pop(&zeroed));
}

Test(stack, never_hides_a_lock)
{
    cr_assert(weir_stack_is_lock_free());
}

Test(stack, layout_and_bits_of_the_generation_agree)
{
    unsigned bits = weir_stack_generation_bits();
    if (strcmp(weir_stack_layout(), "wide") == 0) {
        cr_assert_eq(bits, 64u);
    } else {
        cr_assert_str_eq(weir_stack_layout(), "packed");
        cr_assert_eq(bits, sizeof(void *) > 4 ? 19u : 32u);
    }
#if !WEIR_CAS16 || defined(WEIR_STACK_PACKED)
    cr_assert_str_eq(weir_stack_layout(), "packed");
#else
    cr_assert_str_eq(weir_stack_layout(), "wide");
#endif
}

/* All that pop or pop_n can distinguish comes back after 2^bits removals, and not earlier. */
Test(stack, generation_has_as_many_bits_as_it_says)
{
    fill(1);
    uint64_t first = weir__tagged_load(&stack.head).generation;
    unsigned bits = weir_stack_generation_bits();
    if (bits > 20)
        return; /* takes too long */
    for (uint32_t removals = 1; removals <= UINT32_C(1) << bits; removals++) {
        weir_stack_push(&stack, weir_stack_pop(&stack));
        cr_assert_eq(weir__tagged_load(&stack.head).generation == first, removals == UINT32_C(1) << bits,
                     "after %u removals", removals);
    }
}

Test(stack, last_in_is_first_out)
{
    fill(3);
    cr_assert_not(weir_stack_empty(&stack));
    for (unsigned i = 3; i-- > 0;)
        cr_assert_eq(weir_stack_pop(&stack), &nodes[i]);
    cr_assert(weir_stack_empty(&stack));
}

Test(stack, batch_keeps_its_order_on_top_of_the_older)
{
    fill(1);
    for (unsigned i = 1; i < 4; i++)
        nodes[i].next = &nodes[i + 1];
    weir_stack_push_batch(&stack, &nodes[1], &nodes[4]);
    for (unsigned i = 1; i <= 4; i++)
        cr_assert_eq(weir_stack_pop(&stack), &nodes[i]);
    cr_assert_eq(weir_stack_pop(&stack), &nodes[0]);
    cr_assert_null(weir_stack_pop(&stack));
}

Test(stack, pop_all_gives_top_first_and_leaves_nothing)
{
    fill(4);
    struct weir_stack_node *node = weir_stack_pop_all(&stack);
    cr_assert(weir_stack_empty(&stack));
    for (unsigned i = 4; i-- > 0; node = node->next)
        cr_assert_eq(node, &nodes[i]);
    cr_assert_null(node);
}

Test(stack, pop_n_of_zero_takes_nothing)
{
    size_t n = 9;
    fill(2);
    cr_assert_null(weir_stack_pop_n(&stack, 0, &n));
    cr_assert_eq(n, 0u);
    cr_assert_eq(weir_stack_pop(&stack), &nodes[1]);
}

Test(stack, pop_n_takes_max_from_the_top_in_order)
{
    size_t n = 0;
    fill(5);
    struct weir_stack_node *node = weir_stack_pop_n(&stack, 3, &n);
    cr_assert_eq(n, 3u);
    for (unsigned i = 5; i-- > 2; node = node->next)
        cr_assert_eq(node, &nodes[i]);
    cr_assert_null(node, "the chain ends after max nodes");
    cr_assert_eq(weir_stack_pop(&stack), &nodes[1]);
    cr_assert_eq(weir_stack_pop(&stack), &nodes[0]);
    cr_assert_null(weir_stack_pop(&stack));
}

Test(stack, pop_n_takes_all_there_is_when_asked_for_as_many_or_more)
{
    for (size_t max = 3; max <= 5; max++) {
        size_t n = 0;
        fill(3);
        struct weir_stack_node *node = weir_stack_pop_n(&stack, max, &n);
        cr_assert_eq(n, 3u);
        for (unsigned i = 3; i-- > 0; node = node->next)
            cr_assert_eq(node, &nodes[i]);
        cr_assert_null(node);
        cr_assert(weir_stack_empty(&stack));
    }
}

Test(stack, popped_nodes_can_be_pushed_again_at_once)
{
    fill(2);
    for (unsigned i = 0; i < 1000; i++) {
        struct weir_stack_node *top = weir_stack_pop(&stack), *below = weir_stack_pop(&stack);
        cr_assert_neq(top, below);
        cr_assert_null(weir_stack_pop(&stack));
        weir_stack_push(&stack, top);
        weir_stack_push(&stack, below);
    }
}

/* The heart of the ABA defence: each kind of removal changes the generation, also when the same node is back. */
Test(stack, every_removal_advances_the_generation)
{
    size_t n;
    fill(6);
    uint64_t before = weir__tagged_load(&stack.head).generation;
    weir_stack_push(&stack, weir_stack_pop(&stack));
    uint64_t after_pop = weir__tagged_load(&stack.head).generation;
    cr_assert_neq(after_pop, before);
    weir_stack_push(&stack, weir_stack_pop_n(&stack, 1, &n));
    uint64_t after_pop_n = weir__tagged_load(&stack.head).generation;
    cr_assert_neq(after_pop_n, after_pop);
    struct weir_stack_node *chain = weir_stack_pop_all(&stack);
    weir_stack_push_batch(&stack, chain, &nodes[0]);
    cr_assert_neq(weir__tagged_load(&stack.head).generation, after_pop_n);
    cr_assert_eq(weir_stack_pop(&stack), &nodes[5]);
}

/* A pop that was held up between reading the head and replacing it, done by hand. */
Test(stack, removal_fails_when_the_same_node_is_back_on_top)
{
    fill(3);
    struct weir__tag held_up = weir__tagged_load(&stack.head);
    struct weir_stack_node *stale = nodes[2].next;
    weir_stack_pop(&stack);
    weir_stack_pop(&stack);
    weir_stack_push(&stack, &nodes[2]);
    cr_assert_not(weir__tagged_remove(&stack.head, &held_up, stale));
    cr_assert_eq(weir_stack_pop(&stack), &nodes[2]);
    cr_assert_eq(weir_stack_pop(&stack), &nodes[0]);
    cr_assert_null(weir_stack_pop(&stack));
}

Test(stack, chain_is_linked_and_walked_by_functions)
{
    size_t n = 0;
    fill(0);
    weir_stack_link(&nodes[0], &nodes[1]);
    weir_stack_push_batch(&stack, &nodes[0], &nodes[1]);
    struct weir_stack_node *chain = weir_stack_pop_n(&stack, 5, &n);
    cr_assert_eq(n, 2u);
    cr_assert_eq(chain, &nodes[0]);
    cr_assert_eq(weir_stack_next(chain), &nodes[1]);
    cr_assert_null(weir_stack_next(&nodes[1]));
}
