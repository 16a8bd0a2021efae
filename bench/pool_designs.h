/* SPDX-License-Identifier: MIT */
/*
 * pool_designs.h - other ways to build a counted pool, to compare weir/pool.h with. Not part of the library.
 *
 *   counter  a stack, and beside it a counter that is changed before each push and after each pop
 *   stash    puts go to a list; a taker that gets hold of a flag takes from a private chain, which it refills by
 *            taking the whole list. A taker that finds the flag taken gets NULL: nobody waits, but the pool looks
 *            empty to everybody for as long as the holder of the flag is not running
 *   mutex    a list and a number behind a mutex
 */
#ifndef BENCH_POOL_DESIGNS_H
#define BENCH_POOL_DESIGNS_H

#include <pthread.h>

#include "weir/llist.h"
#include "weir/stack.h"

/* --- counter --- */

struct counter_pool {
    struct weir_stack stack;
    size_t count;
} WEIR_ALIGNED(WEIR_CACHE_LINE);

static inline void counter_pool_put_batch(struct counter_pool *pool, struct weir_stack_node *first,
                                          struct weir_stack_node *last, size_t n)
{
    /* Relaxed: before the push by its release, so the count is never below the number of nodes. */
    weir_fetch_add_relaxed(&pool->count, n);
    weir_stack_push_batch(&pool->stack, first, last);
}

static inline struct weir_stack_node *counter_pool_get(struct counter_pool *pool)
{
    struct weir_stack_node *node = weir_stack_pop(&pool->stack);
    if (node != NULL)
        weir_fetch_sub_relaxed(&pool->count, (size_t)1);
    return node;
}

static inline struct weir_stack_node *counter_pool_get_batch(struct counter_pool *pool, size_t max, size_t *n)
{
    struct weir_stack_node *chain = weir_stack_pop_n(&pool->stack, max, n);
    if (chain != NULL)
        weir_fetch_sub_relaxed(&pool->count, *n);
    return chain;
}

/* --- stash --- */

struct stash_pool {
    struct weir_llist_head list WEIR_ALIGNED(WEIR_LINE_PAIR); /* written by puts */
    size_t count;
    uint32_t taken WEIR_ALIGNED(WEIR_LINE_PAIR); /* the flag: 1 while somebody has the stash */
    struct weir_llist_node *stash;
};

static inline void stash_pool_put_batch(struct stash_pool *pool, struct weir_llist_node *first,
                                        struct weir_llist_node *last, size_t n)
{
    weir_fetch_add_relaxed(&pool->count, n);
    weir_llist_add_batch(first, last, &pool->list);
}

/* Up to `max` nodes; NULL if there are none, or if somebody else is taking. */
static inline struct weir_llist_node *stash_pool_get_batch(struct stash_pool *pool, size_t max, size_t *n)
{
    struct weir_llist_node *first, *last;
    *n = 0;
    /* Acquire: pairs with the release below, by which the stash is handed over. */
    if (weir_load_relaxed(&pool->taken) != 0 || weir_xchg_acquire(&pool->taken, 1u) != 0)
        return NULL;
    first = last = pool->stash != NULL ? pool->stash : weir_llist_del_all(&pool->list);
    if (first != NULL) {
        for (*n = 1; *n < max && weir_llist_next(last) != NULL; ++*n)
            last = weir_llist_next(last);
        pool->stash = weir_llist_next(last);
    }
    weir_store_release(&pool->taken, 0u);
    if (first == NULL)
        return NULL;
    weir_store_relaxed(&last->next, (struct weir_llist_node *)NULL);
    weir_fetch_sub_relaxed(&pool->count, *n);
    return first;
}

/* --- mutex --- */

struct mutex_pool {
    pthread_mutex_t mutex;
    struct weir_llist_node *first;
    size_t count;
};

static inline void mutex_pool_put_batch(struct mutex_pool *pool, struct weir_llist_node *first,
                                        struct weir_llist_node *last, size_t n)
{
    pthread_mutex_lock(&pool->mutex);
    last->next = pool->first;
    pool->first = first;
    pool->count += n;
    pthread_mutex_unlock(&pool->mutex);
}

static inline struct weir_llist_node *mutex_pool_get(struct mutex_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    struct weir_llist_node *node = pool->first;
    if (node != NULL) {
        pool->first = node->next;
        pool->count--;
    }
    pthread_mutex_unlock(&pool->mutex);
    return node;
}

static inline struct weir_llist_node *mutex_pool_get_batch(struct mutex_pool *pool, size_t max,
                                                           struct weir_llist_node **last, size_t *n)
{
    *n = 0;
    pthread_mutex_lock(&pool->mutex);
    struct weir_llist_node *first = *last = pool->first;
    if (first != NULL) {
        for (*n = 1; *n < max && (*last)->next != NULL; ++*n)
            *last = (*last)->next;
        pool->first = (*last)->next;
        pool->count -= *n;
    }
    pthread_mutex_unlock(&pool->mutex);
    return first;
}

#endif /* BENCH_POOL_DESIGNS_H */
