/* SPDX-License-Identifier: MIT */
/*
 * weir/stack.h: threads, and a signal handler that interrupts them, push and pop the same nodes on two stacks in every
 * way there is. Few nodes, so that the same one is soon on top again (ABA). Every node is counted.
 */
#include "stress.h"
#include "weir/stack.h"

enum { NODES = 400, FEW = 7 };

/* An address that faults. */
#define SPOILED ((struct weir_stack_node *)8)

struct object {
    struct weir_stack_node node;
    struct stress_mark mark;
};

static struct object objects[NODES];
static struct weir_stack stacks[2];
static unsigned in_use; /* of objects[] */

static struct stress_mark *mark_of(struct weir_stack_node *node)
{
    return &((struct object *)(void *)node)->mark;
}

static void push(unsigned which, struct weir_stack_node *node)
{
    stress_give(mark_of(node));
    weir_stack_push(&stacks[which], node);
}

/*
 * Takes the marks of a chain that was popped and spoils the links: nobody may follow one that is no longer the stack's.
 * The nodes go to `taken`; returns their number.
 */
static size_t take_chain(struct weir_stack_node *chain, struct weir_stack_node *taken[NODES])
{
    size_t n = 0;
    while (chain) {
        struct weir_stack_node *next = weir_load_relaxed(&chain->next);
        if (n == NODES)
            stress_fail("a chain has a cycle");
        stress_take(mark_of(chain));
        /* Atomic: a slow pop may still be reading it. */
        weir_store_relaxed(&chain->next, SPOILED);
        taken[n++] = chain;
        chain = next;
    }
    return n;
}

/* Pushes nodes the caller owns, at once or one by one. */
static void push_nodes(unsigned which, struct weir_stack_node *taken[], size_t n, bool at_once)
{
    for (size_t i = 0; i < n; i++) {
        if (!at_once) {
            push(which, taken[i]);
            continue;
        }
        stress_give(mark_of(taken[i]));
        if (i + 1 < n)
            weir_store_relaxed(&taken[i]->next, taken[i + 1]);
    }
    if (at_once && n > 0)
        weir_stack_push_batch(&stacks[which], taken[0], taken[n - 1]);
}

/* What makes an interrupted pop fall for ABA: the top goes, the one below it too, the top comes back. */
static void interrupt(void)
{
    struct weir_stack_node *top = weir_stack_pop(&stacks[0]);
    if (!top)
        return;
    stress_take(mark_of(top));
    struct weir_stack_node *below = weir_stack_pop(&stacks[0]);
    if (below)
        stress_take(mark_of(below));
    push(0, top);
    if (below)
        push(1, below);
}

static void *work(void *argument)
{
    uint64_t random = stress_seed((unsigned)(uintptr_t)argument);
    struct weir_stack_node *taken[NODES];
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        unsigned from = dice & 1, to = dice >> 1 & 1;
        size_t n, said, max = dice >> 8 & 7;
        struct weir_stack_node *node;
        switch (dice >> 2 & 15) {
        case 0:
            n = take_chain(weir_stack_pop_all(&stacks[from]), taken);
            break;
        case 1:
        case 2:
        case 3:
        case 4:
            node = weir_stack_pop_n(&stacks[from], max, &said);
            n = take_chain(node, taken);
            if (n != said || n > max)
                stress_fail("pop_n: asked for %zu, says %zu, its chain has %zu", max, said, n);
            break;
        default:
            node = weir_stack_pop(&stacks[from]);
            n = node != NULL;
            if (node) {
                stress_take(mark_of(node));
                weir_store_relaxed(&node->next, SPOILED);
                taken[0] = node;
            }
        }
        push_nodes(to, taken, n, dice >> 7 & 1);
    }
    return NULL;
}

static void round_with(unsigned count)
{
    in_use = count;
    for (unsigned i = 0; i < 2; i++)
        weir_stack_init(&stacks[i]);
    for (unsigned i = 0; i < in_use; i++)
        push(i & 1, &objects[i].node);
    stress_run(work, stress.milliseconds / 2, interrupt);
    struct weir_stack_node *taken[NODES];
    size_t left = take_chain(weir_stack_pop_all(&stacks[0]), taken);
    left += take_chain(weir_stack_pop_all(&stacks[1]), taken);
    if (left != in_use)
        stress_fail("%zu of %u nodes are left", left, in_use);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    round_with(FEW);
    round_with(NODES);
    return 0;
}
