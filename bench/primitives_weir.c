/* SPDX-License-Identifier: MIT */
/* primitives_weir.c - weir's list, stack and pool. Compiled once more with WEIR_STACK_PACKED. */
#include "primitives_loop.h"
#include "weir/llist.h"
#include "weir/pool.h"
#include "weir/stack.h"

#ifndef WEIR_STACK_PACKED

/* --- llist --- */

static void *llist_open(void *place)
{
    weir_llist_init(place);
    return place;
}

ALWAYS_INLINE void llist_batch(void *head, struct node *first, struct node *last)
{
    weir_llist_add_batch((struct weir_llist_node *)first, (struct weir_llist_node *)last, head);
}

ALWAYS_INLINE void llist_add(void *head, struct node *node)
{
    weir_llist_add((struct weir_llist_node *)node, head);
}

ALWAYS_INLINE void *llist_take(void *head)
{
    return weir_llist_del_all(head);
}

static void llist_put(void *head, struct node *node)
{
    llist_add(head, node);
}

static void llist_put_batch(void *structure, struct node *first, struct node *last)
{
    llist_batch(structure, first, last);
}

static size_t llist_drain(void *head)
{
    return chain_length(llist_take(head));
}

static void llist_run_add(struct worker *worker)
{
    loop_add_take(worker, llist_add, llist_take);
}

static void llist_run_batch(struct worker *worker)
{
    loop_add_batch(worker, llist_batch, llist_take, false);
}

static void llist_run_link(struct worker *worker)
{
    loop_add_batch(worker, llist_batch, llist_take, true);
}

const struct contender_type weir_llist_add_one = {
    .id = "weir_llist",
    .name = "weir_llist_add, _del_all",
    .kind = WEIR,
    .open = llist_open,
    .put = llist_put,
    .put_batch = llist_put_batch,
    .drain = llist_drain,
    .run = {[ADD_TAKE] = llist_run_add},
};
const struct contender_type weir_llist_batch = {
    .id = "weir_llist_batch",
    .name = "weir_llist_add_batch",
    .kind = WEIR,
    .open = llist_open,
    .put = llist_put,
    .put_batch = llist_put_batch,
    .drain = llist_drain,
    .run = {[ADD_BATCH] = llist_run_batch},
};
const struct contender_type weir_llist_link = {
    .id = "weir_llist_link",
    .name = "... and linking the nodes",
    .kind = WEIR,
    .open = llist_open,
    .put = llist_put,
    .put_batch = llist_put_batch,
    .drain = llist_drain,
    .run = {[ADD_BATCH] = llist_run_link},
};

#define CONTENDER(wide, packed) wide
#else
#define CONTENDER(wide, packed) packed
#endif

/* --- stack --- */

static void *stack_open(void *place)
{
    weir_stack_init(place);
    return place;
}

ALWAYS_INLINE void stack_batch(void *stack, struct node *first, struct node *last)
{
    weir_stack_push_batch(stack, (struct weir_stack_node *)first, (struct weir_stack_node *)last);
}

ALWAYS_INLINE void stack_push(void *stack, struct node *node)
{
    weir_stack_push(stack, (struct weir_stack_node *)node);
}

ALWAYS_INLINE struct node *stack_pop(void *stack)
{
    return (struct node *)weir_stack_pop(stack);
}

ALWAYS_INLINE void *stack_take(void *stack)
{
    return weir_stack_pop_all(stack);
}

ALWAYS_INLINE struct weir_stack_node *last_of(struct weir_stack_node *node)
{
    while (node->next != NULL)
        node = node->next;
    return node;
}

ALWAYS_INLINE size_t stack_move(void *stack, unsigned max)
{
    size_t n;
    struct weir_stack_node *first = weir_stack_pop_n(stack, max, &n);
    if (first != NULL)
        weir_stack_push_batch(stack, first, last_of(first));
    return n;
}

static void stack_put(void *stack, struct node *node)
{
    stack_push(stack, node);
}

static void stack_put_batch(void *structure, struct node *first, struct node *last)
{
    stack_batch(structure, first, last);
}

static size_t stack_drain(void *stack)
{
    return chain_length(stack_take(stack));
}

static void stack_run_add(struct worker *worker)
{
    loop_add_take(worker, stack_push, stack_take);
}

static void stack_run_batch(struct worker *worker)
{
    loop_add_batch(worker, stack_batch, stack_take, false);
}

static void stack_run_pair(struct worker *worker)
{
    loop_pair(worker, stack_push, stack_pop);
}

static void stack_run_bulk(struct worker *worker)
{
    loop_bulk(worker, stack_move);
}

const struct contender_type CONTENDER(weir_stack_wide, weir_stack_packed) = {
    .id = CONTENDER("weir_stack", "weir_stack_packed"),
    .name = CONTENDER("weir_stack", "weir_stack, packed"),
    .kind = WEIR,
    .open = stack_open,
    .put = stack_put,
    .put_batch = stack_put_batch,
    .drain = stack_drain,
    .run = {[ADD_TAKE] = stack_run_add,
            [ADD_BATCH] = stack_run_batch,
            [PAIR] = stack_run_pair,
            [BULK] = stack_run_bulk},
};

/* --- pool --- */

static void *pool_open(void *place)
{
    weir_pool_init(place);
    return place;
}

ALWAYS_INLINE void pool_push(void *pool, struct node *node)
{
    weir_pool_put(pool, (struct weir_stack_node *)node);
}

ALWAYS_INLINE struct node *pool_pop(void *pool)
{
    return (struct node *)weir_pool_get(pool);
}

ALWAYS_INLINE size_t pool_move(void *pool, unsigned max)
{
    size_t n;
    struct weir_stack_node *first = weir_pool_get_batch(pool, max, &n);
    if (first != NULL)
        weir_pool_put_batch(pool, first, last_of(first), n);
    return n;
}

static void pool_put(void *pool, struct node *node)
{
    pool_push(pool, node);
}

/* A count that is wrong is a node lost. */
static size_t pool_drain(void *pool)
{
    size_t count = weir_pool_count(pool), n;
    size_t found = chain_length((struct node *)weir_pool_drain(pool, &n));
    return n == count && weir_pool_count(pool) == 0 ? found : 0;
}

static void pool_run_pair(struct worker *worker)
{
    loop_pair(worker, pool_push, pool_pop);
}

static void pool_run_bulk(struct worker *worker)
{
    loop_bulk(worker, pool_move);
}

const struct contender_type CONTENDER(weir_pool_wide, weir_pool_packed) = {
    .id = CONTENDER("weir_pool", "weir_pool_packed"),
    .name = CONTENDER("weir_pool", "weir_pool, packed"),
    .kind = WEIR,
    .open = pool_open,
    .put = pool_put,
    .drain = pool_drain,
    .run = {[PAIR] = pool_run_pair, [BULK] = pool_run_bulk},
};
