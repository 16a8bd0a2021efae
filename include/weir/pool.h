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
 * A stack as in weir/stack.h whose head holds the count too. Any mix of all operations may run at the same
 * time.
 *
 * The count. Where 16 bytes can be swapped at once (weir_stack_layout() says "wide"), nodes and count
 * change in one step, and the count is exact at every instant. Elsewhere a put counts its nodes before it
 * pushes them, and a removal subtracts after it has taken. There the count is never below the number of
 * nodes in the pool, hence never negative, and ahead of it by at most the nodes in the hands of puts and
 * removals that are under way; with none under way it is exact. In both, a get may find nothing although
 * weir_pool_count() just said one: somebody else was faster. The count is for watermarks, not promises.
 *
 * Nobody walks the pool while others wait for it: batches are taken in one step of bounded size, and where
 * drain has to count what it took, it counts when it already owns it. Nodes obey weir/stack.h's rule for
 * memory: what decay and drain return may be put to another use, but only be unmapped when no removal that
 * may have seen it is still under way.
 */
#ifndef WEIR_POOL_H
#define WEIR_POOL_H

#include "weir/stack.h"

/* Aligned to a cache line: static, or from aligned_alloc(). Zeroed memory is an empty pool too. At most
 * 4,294,967,295 nodes. */
struct weir_pool {
    struct weir__tagged head;
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
    weir__counted_init(&pool->head);
}

/*
 * Nodes in the pool: exact at rest, never negative; in the packed layout, ahead by what puts and removals
 * under way hold, otherwise exact at every instant.
 *   Progress: wait-free.  Callers: any context.
 *   Ordering: none (relaxed: a number for watermarks and statistics).  Memory: none.
 */
static inline size_t weir_pool_count(const struct weir_pool *pool)
{
    return weir__counted_count(&pool->head);
}

/*
 * Puts `n` nodes first..last, already linked by weir_stack_link(), into the pool. `n` has to be their number:
 * a wrong one breaks more than the count. Checked builds look.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: releases everything written before to whoever takes the nodes.  Memory: none.
 */
static inline void weir_pool_put_batch(struct weir_pool *pool, struct weir_stack_node *first,
                                       struct weir_stack_node *last, size_t n)
{
    weir__check_fits(first, "weir_pool_put_batch");
    weir__check_chain(struct weir_stack_node, first, last, "weir_pool_put_batch");
    weir__check_length(first, last, n, "weir_pool_put_batch");
    weir__counted_announce(&pool->head, n);
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        struct weir__tag tag = weir__tagged_load(&pool->head);
        weir__check(tag.top != first && tag.top != last, "weir_pool_put_batch", tag.top,
                    "is in the pool already");
        /* Release: pairs with the acquire in weir__tagged_walk(), where a slower get_batch may be reading
         * it. */
        weir_store_release(&last->next, tag.top);
        /* Release: pairs with the acquire in the removals' weir__tagged_load(). */
        if (weir_likely(weir__counted_push(&pool->head, &tag, first, n)))
            return;
    }
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
 * Takes one node, NULL if there is none: the one put last. It is no chain: its link means nothing any more.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: acquires what its put released.  Memory: none.
 */
static inline struct weir_stack_node *weir_pool_get(struct weir_pool *pool)
{
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        struct weir__tag tag = weir__tagged_load(&pool->head);
        if (tag.top == NULL)
            return NULL;
        /* Relaxed: as in weir_stack_pop(). */
        struct weir_stack_node *next = weir_load_relaxed(&tag.top->next);
        if (weir_likely(weir__counted_remove(&pool->head, &tag, next, 1))) {
            weir__check_links(tag.top, 1, next, "weir_pool_get");
            return tag.top;
        }
    }
}

/* Takes up to `max` nodes in one step and says which: the first, NULL if there is none, and run->last,
 * run->n. */
static inline struct weir_stack_node *weir__pool_take(struct weir_pool *pool, size_t max,
                                                      struct weir__run *run)
{
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        struct weir__tag tag = weir__tagged_load(&pool->head);
        if (tag.top == NULL || max == 0) {
            run->n = 0;
            return NULL;
        }
        if (weir_likely(weir__tagged_walk(&pool->head, &tag, true, max, run) &&
                        weir__counted_remove(&pool->head, &tag, run->next, run->n))) {
            weir__check_links(tag.top, run->n, run->next, "weir_pool_get_batch");
            /* Relaxed: as in weir_stack_pop_n(). */
            weir_store_relaxed(&run->last->next, (struct weir_stack_node *)NULL);
            return tag.top;
        }
    }
}

/*
 * Takes up to `max` nodes in one step: a chain, NULL if there is none, and its length in *n. Costs in
 * proportion to what it takes.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: acquires what their puts released.  Memory: none.
 */
static inline struct weir_stack_node *weir_pool_get_batch(struct weir_pool *pool, size_t max, size_t *n)
{
    struct weir__run run;
    struct weir_stack_node *first = weir__pool_take(pool, max, &run);
    *n = run.n;
    return first;
}

/*
 * Takes `percent` (0 to 100; more counts as 100) of the pool, rounded up, so that repeated decay ends at an
 * empty pool: a chain, and its length in *n. How many is decided at the start; stops early when others have
 * emptied the pool. Takes from the top: reaching the cold end of a singly linked list would mean walking all
 * of it.
 *   Progress: lock-free, in steps of WEIR_POOL_DECAY_STEP.  Callers: any context.
 *   Ordering: acquires what the puts released.  Memory: none.
 */
static inline struct weir_stack_node *weir_pool_decay(struct weir_pool *pool, unsigned percent, size_t *n)
{
    size_t count = weir_pool_count(pool), share = percent < 100 ? percent : 100;
    size_t want = count / 100 * share + (count % 100 * share + 99) / 100;
    struct weir_stack_node *chain = NULL;
    struct weir__run run;

    *n = 0;
    while (*n < want) {
        size_t step = want - *n < WEIR_POOL_DECAY_STEP ? want - *n : WEIR_POOL_DECAY_STEP;
        struct weir_stack_node *first = weir__pool_take(pool, step, &run);
        if (first == NULL)
            break;
        weir_stack_link(run.last, chain);
        chain = first;
        *n += run.n;
        if (run.n < step)
            break;
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
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        struct weir__tag tag = weir__tagged_load(&pool->head);
        if (tag.top == NULL) {
            *n = 0;
            return NULL;
        }
        if (weir_likely(weir__counted_remove_all(&pool->head, &tag, n))) {
            weir__check_links(tag.top, *n, NULL, "weir_pool_drain");
            return tag.top;
        }
    }
}

#endif /* WEIR_POOL_H */
