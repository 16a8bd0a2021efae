/* SPDX-License-Identifier: MIT */
/*
 * weir/pool.h: threads, and a signal handler that interrupts them, put, get, decay and drain two pools at once. Every
 * node is counted; the count of a pool is never more than all nodes (nor, being unsigned, negative), and exact in the
 * end.
 */
#include "stress.h"
#include "weir/pool.h"

enum { NODES = 300, FEW = 9 };

struct object {
    struct weir_stack_node node;
    struct stress_mark mark;
};

static struct object objects[NODES];
static struct weir_pool pools[2];
static size_t in_use; /* of objects[] */

static struct stress_mark *mark_of(struct weir_stack_node *node)
{
    return &((struct object *)(void *)node)->mark;
}

static void check_count(const struct weir_pool *pool)
{
    size_t count = weir_pool_count(pool);
    if (count > in_use)
        stress_fail("a pool counts %zu of %zu nodes", count, in_use);
}

static void put(unsigned which, struct weir_stack_node *node)
{
    stress_give(mark_of(node));
    weir_pool_put(&pools[which], node);
}

static struct weir_stack_node *get(unsigned which)
{
    struct weir_stack_node *node = weir_pool_get(&pools[which]);
    if (node) {
        stress_take(mark_of(node));
        weir_store_relaxed(&node->next, NULL);
    }
    return node;
}

/* Takes the marks of a chain that says to have `n` nodes. */
static struct weir_stack_node *take_chain(struct weir_stack_node *chain, size_t n, const char *operation)
{
    size_t length = 0;
    for (struct weir_stack_node *node = chain; node; node = weir_load_relaxed(&node->next), length++) {
        if (length == n)
            stress_fail("%s says %zu, its chain is longer", operation, n);
        stress_take(mark_of(node));
    }
    if (length != n)
        stress_fail("%s says %zu, its chain has %zu", operation, n, length);
    return chain;
}

static void put_chain(unsigned which, struct weir_stack_node *chain, bool at_once)
{
    struct weir_stack_node *last = NULL;
    size_t n = 0;
    for (struct weir_stack_node *node = chain, *next; node; node = next, n++) {
        next = weir_load_relaxed(&node->next);
        last = node;
        if (at_once)
            stress_give(mark_of(node));
        else
            put(which, node);
    }
    if (at_once && last)
        weir_pool_put_batch(&pools[which], chain, last, n);
}

static void interrupt(void)
{
    struct weir_stack_node *one = get(0), *other = get(0);
    if (one)
        put(0, one);
    if (other)
        put(1, other);
    check_count(&pools[0]);
}

static void *work(void *argument)
{
    uint64_t random = stress_seed((unsigned)(uintptr_t)argument);
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        unsigned from = dice & 1, to = dice >> 1 & 1;
        struct weir_stack_node *chain;
        size_t n;
        switch (dice >> 2 & 15) {
        case 0:
            chain = weir_pool_drain(&pools[from], &n);
            take_chain(chain, n, "drain");
            break;
        case 1:
            chain = weir_pool_decay(&pools[from], dice >> 8 & 127, &n);
            take_chain(chain, n, "decay");
            break;
        case 2:
        case 3:
        case 4:
            chain = weir_pool_get_batch(&pools[from], dice >> 8 & 7, &n);
            take_chain(chain, n, "get_batch");
            break;
        default:
            chain = get(from);
        }
        check_count(&pools[from]);
        put_chain(to, chain, dice >> 7 & 1);
        check_count(&pools[to]);
    }
    return NULL;
}

static void round_with(unsigned count)
{
    in_use = count;
    for (unsigned i = 0; i < 2; i++)
        weir_pool_init(&pools[i]);
    for (unsigned i = 0; i < in_use; i++)
        put(i & 1, &objects[i].node);
    stress_run(work, stress.milliseconds / 2, interrupt);
    size_t left = 0;
    for (unsigned i = 0; i < 2; i++) {
        size_t n, said = weir_pool_count(&pools[i]);
        struct weir_stack_node *chain = weir_pool_drain(&pools[i], &n);
        take_chain(chain, n, "drain");
        if (said != n || weir_pool_count(&pools[i]) != 0)
            stress_fail("at rest a pool of %zu nodes counted %zu, and %zu after its drain", n, said,
                        weir_pool_count(&pools[i]));
        left += n;
    }
    if (left != in_use)
        stress_fail("%zu of %zu nodes are left", left, in_use);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    round_with(FEW);
    round_with(NODES);
    return 0;
}
