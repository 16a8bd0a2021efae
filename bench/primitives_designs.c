/* SPDX-License-Identifier: MIT */
/* primitives_designs.c - the designs of pool_designs.h as contenders. */
#include "pool_designs.h"
#include "primitives_loop.h"

/* --- counter --- */

static void *counter_open(void *place)
{
    struct counter_pool *pool = place;
    weir_stack_init(&pool->stack);
    return pool;
}

ALWAYS_INLINE void counter_push(void *pool, struct node *node)
{
    struct weir_stack_node *pushed = (struct weir_stack_node *)node;
    counter_pool_put_batch(pool, pushed, pushed, 1);
}

ALWAYS_INLINE struct node *counter_pop(void *pool)
{
    return (struct node *)counter_pool_get(pool);
}

ALWAYS_INLINE size_t counter_move(void *pool, unsigned max)
{
    size_t n;
    struct weir_stack_node *first = counter_pool_get_batch(pool, max, &n), *last = first;
    if (first == NULL)
        return 0;
    while (last->next != NULL)
        last = last->next;
    counter_pool_put_batch(pool, first, last, n);
    return n;
}

static void counter_put(void *pool, struct node *node)
{
    counter_push(pool, node);
}

static size_t counter_drain(void *structure)
{
    struct counter_pool *pool = structure;
    size_t found = chain_length((struct node *)weir_stack_pop_all(&pool->stack));
    return found == pool->count ? found : 0;
}

static void counter_run_pair(struct worker *worker)
{
    loop_pair(worker, counter_push, counter_pop);
}

static void counter_run_bulk(struct worker *worker)
{
    loop_bulk(worker, counter_move);
}

const struct contender_type design_counter = {
    .id = "counter",
    .name = "A: stack, counter beside it",
    .kind = DESIGN,
    .open = counter_open,
    .put = counter_put,
    .drain = counter_drain,
    .run = {[PAIR] = counter_run_pair, [BULK] = counter_run_bulk},
};

/* --- stash --- */

static void *stash_open(void *place)
{
    struct stash_pool *pool = place;
    weir_llist_init(&pool->list);
    return pool;
}

ALWAYS_INLINE void stash_push(void *pool, struct node *node)
{
    struct weir_llist_node *pushed = (struct weir_llist_node *)node;
    stash_pool_put_batch(pool, pushed, pushed, 1);
}

ALWAYS_INLINE struct node *stash_pop(void *pool)
{
    size_t n;
    return (struct node *)stash_pool_get_batch(pool, 1, &n);
}

ALWAYS_INLINE size_t stash_move(void *pool, unsigned max)
{
    size_t n;
    struct weir_llist_node *first = stash_pool_get_batch(pool, max, &n), *last = first;
    if (first == NULL)
        return 0;
    while (last->next != NULL)
        last = last->next;
    stash_pool_put_batch(pool, first, last, n);
    return n;
}

static void stash_put(void *pool, struct node *node)
{
    stash_push(pool, node);
}

static size_t stash_drain(void *structure)
{
    struct stash_pool *pool = structure;
    size_t found = chain_length((struct node *)pool->stash) +
                   chain_length((struct node *)weir_llist_del_all(&pool->list));
    return found == pool->count ? found : 0;
}

static void stash_run_pair(struct worker *worker)
{
    loop_pair(worker, stash_push, stash_pop);
}

static void stash_run_bulk(struct worker *worker)
{
    loop_bulk(worker, stash_move);
}

const struct contender_type design_stash = {
    .id = "stash",
    .name = "B: stash behind a flag",
    .kind = DESIGN,
    .open = stash_open,
    .put = stash_put,
    .drain = stash_drain,
    .run = {[PAIR] = stash_run_pair, [BULK] = stash_run_bulk},
};

/* --- mutex --- */

static void *mutex_open(void *place)
{
    struct mutex_pool *pool = place;
    pthread_mutex_init(&pool->mutex, NULL);
    return pool;
}

ALWAYS_INLINE void mutex_push(void *pool, struct node *node)
{
    struct weir_llist_node *pushed = (struct weir_llist_node *)node;
    mutex_pool_put_batch(pool, pushed, pushed, 1);
}

ALWAYS_INLINE struct node *mutex_pop(void *pool)
{
    return (struct node *)mutex_pool_get(pool);
}

ALWAYS_INLINE size_t mutex_move(void *pool, unsigned max)
{
    size_t n;
    struct weir_llist_node *last, *first = mutex_pool_get_batch(pool, max, &last, &n);
    if (first != NULL)
        mutex_pool_put_batch(pool, first, last, n);
    return n;
}

static void mutex_put(void *pool, struct node *node)
{
    mutex_push(pool, node);
}

static size_t mutex_drain(void *structure)
{
    struct mutex_pool *pool = structure;
    size_t found = chain_length((struct node *)pool->first);
    return found == pool->count ? found : 0;
}

static void mutex_run_pair(struct worker *worker)
{
    loop_pair(worker, mutex_push, mutex_pop);
}

static void mutex_run_bulk(struct worker *worker)
{
    loop_bulk(worker, mutex_move);
}

const struct contender_type design_mutex = {
    .id = "mutex_pool",
    .name = "D: list, count, mutex",
    .kind = DESIGN,
    .open = mutex_open,
    .put = mutex_put,
    .drain = mutex_drain,
    .run = {[PAIR] = mutex_run_pair, [BULK] = mutex_run_bulk},
};
