/* SPDX-License-Identifier: MIT */
/*
 * weir/pool.h - a counted pool of nodes: put, get, batches, decay by percent, drain.
 *
 *     static struct weir_pool idle;                          // weir_pool_init(&idle) once
 *
 *     weir_pool_put(&idle, &buffer->link);
 *     struct weir_stack_node *node = weir_pool_get(&idle);   // NULL: make a new one
 *     // now and then, so that a burst does not stay for ever:
 *     size_t n;
 *     recycle_chain(weir_pool_decay(&idle, 25, &n));
 *
 * A weir/stack.h and a counter. Any mix of all operations may run at the same time.
 *
 * The count. A put counts its nodes before it pushes them; a removal subtracts after it has taken. So the
 * count is never below the number of nodes on the stack, hence never negative, and ahead of it by at most the
 * nodes in the hands of puts and removals that are under way. With none under way it is exact. A get may
 * therefore find nothing although weir_pool_count() just said one: the count is for watermarks, not promises.
 *
 * Nobody walks the pool while others wait for it: batches are taken in one step of bounded size, and drain
 * counts what it took when it already owns it. As in weir/stack.h, nodes must stay mapped: what decay and
 * drain return may be put to another use, but only be unmapped when no removal that may have seen it is still
 * under way.
 */
#ifndef WEIR_POOL_H
#define WEIR_POOL_H

#include "weir/stack.h"

/* Aligned to a cache line: static, or from aligned_alloc(). Zeroed memory is an empty pool too. The counter
 * shares the head's cache line on purpose: whoever needs one needs the other. */
struct weir_pool {
    struct weir_stack stack;
    size_t count;
} WEIR_ALIGNED(WEIR_CACHE_LINE);

/* Most nodes that one step of decay takes: bounds how often others make it start again. */
#define WEIR_POOL_DECAY_STEP 64

/*
 * Makes the pool empty.
 *   Progress: wait-free.  Callers: one thread, before the pool is shared.
 *   Ordering: none.       Memory: none.
 */
static inline void weir_pool_init(struct weir_pool *pool)
{
    weir_stack_init(&pool->stack);
    weir_store_relaxed(&pool->count, (size_t)0);
}

/*
 * Nodes in the pool: exact at rest, never negative, otherwise ahead by what puts and removals under way hold.
 *   Progress: wait-free.  Callers: any context.
 *   Ordering: none (relaxed: a number for watermarks and statistics).  Memory: none.
 */
static inline size_t weir_pool_count(const struct weir_pool *pool)
{
    return weir_load_relaxed(&pool->count);
}

/*
 * Puts `n` nodes first..last, already linked, into the pool.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: releases everything written before to whoever takes the nodes.  Memory: none.
 */
static inline void weir_pool_put_batch(struct weir_pool *pool, struct weir_stack_node *first,
                                       struct weir_stack_node *last, size_t n)
{
    /* Before the push, so that no taker can subtract what was not yet added. Relaxed: the push releases it,
     * and the taker's acquire puts its subtraction after it. */
    weir_fetch_add_relaxed(&pool->count, n);
    weir_stack_push_batch(&pool->stack, first, last);
}

/*
 * Puts one node into the pool.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: releases to whoever takes the node.  Memory: none.
 */
static inline void weir_pool_put(struct weir_pool *pool, struct weir_stack_node *node)
{
    weir_pool_put_batch(pool, node, node, 1);
}

/*
 * Takes one node, NULL if there is none: the one put last.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: acquires what its put released.  Memory: none.
 */
static inline struct weir_stack_node *weir_pool_get(struct weir_pool *pool)
{
    struct weir_stack_node *node = weir_stack_pop(&pool->stack);
    if (node != NULL)
        weir_fetch_sub_relaxed(&pool->count, (size_t)1); /* relaxed: after the put's add, see put_batch */
    return node;
}

/*
 * Takes up to `max` nodes in one step: a chain, NULL if there is none, and its length in *n. Costs in
 * proportion to what it takes.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: acquires what their puts released.  Memory: none.
 */
static inline struct weir_stack_node *weir_pool_get_batch(struct weir_pool *pool, size_t max, size_t *n)
{
    struct weir_stack_node *first = weir_stack_pop_n(&pool->stack, max, n);
    if (first != NULL)
        weir_fetch_sub_relaxed(&pool->count, *n);
    return first;
}

/*
 * Takes `percent` (0 to 100; more counts as 100) of the pool, rounded up, so that repeated decay ends at an
 * empty pool: a chain, and its length in *n. Takes from the top: reaching the cold end of a singly linked
 * list would mean walking all of it.
 *   Progress: lock-free, in steps of WEIR_POOL_DECAY_STEP.  Callers: any context.
 *   Ordering: acquires what the puts released.  Memory: none.
 */
static inline struct weir_stack_node *weir_pool_decay(struct weir_pool *pool, unsigned percent, size_t *n)
{
    size_t count = weir_pool_count(pool), share = percent < 100 ? percent : 100;
    size_t want = count / 100 * share + (count % 100 * share + 99) / 100;
    struct weir_stack_node *chain = NULL;

    *n = 0;
    while (*n < want) {
        size_t step = want - *n < WEIR_POOL_DECAY_STEP ? want - *n : WEIR_POOL_DECAY_STEP, taken;
        struct weir_stack_node *first = weir_pool_get_batch(pool, step, &taken), *last = first;
        if (first == NULL)
            break;
        while (weir_load_relaxed(&last->next) != NULL)
            last = weir_load_relaxed(&last->next);
        weir_store_relaxed(&last->next, chain);
        chain = first;
        *n += taken;
    }
    return chain;
}

/*
 * Takes everything there is at one instant: a chain, and its length in *n.
 *   Progress: lock-free.  Callers: any context.
 *   Ordering: acquires what the puts released.  Memory: none.
 */
static inline struct weir_stack_node *weir_pool_drain(struct weir_pool *pool, size_t *n)
{
    struct weir_stack_node *first = weir_stack_pop_all(&pool->stack);
    size_t taken = 0;
    /* Walks a chain that is the caller's already: nobody waits for it. */
    for (struct weir_stack_node *node = first; node != NULL; node = weir_load_relaxed(&node->next))
        taken++;
    if (taken != 0)
        weir_fetch_sub_relaxed(&pool->count, taken);
    *n = taken;
    return first;
}

#endif /* WEIR_POOL_H */
