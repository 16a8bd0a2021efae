/* SPDX-License-Identifier: MIT */
/*
 * weir/stack.h - a lock-free LIFO that any number of threads may push to and pop from.
 *
 *     struct buffer { struct weir_stack_node link; char bytes[2032]; };
 *     static struct weir_stack idle;                    // weir_stack_init(&idle) once
 *
 *     weir_stack_push(&idle, &buffer->link);
 *     struct weir_stack_node *top = weir_stack_pop(&idle);
 *
 * The head is a pointer and a generation. Every operation that removes advances the generation in the same
 * step, so one that was held up between reading the head and replacing it notices (R. K. Treiber's stack,
 * IBM RJ 5118, 1986, with the counter that IBM's System/370 manual gave to free lists). All of pop, pop_n,
 * pop_all, push and push_batch may run at the same time, in any mix.
 *
 * The one rule for memory: a node must stay mapped, and its first word must only ever be written by these
 * functions or atomically, for as long as anyone may be inside a pop: a pop that lost the race has read
 * `next` of a node that somebody else owns by now. It throws the value away, but the read must not fault.
 * Memory that is recycled for the same kind of object and never given back (type-stable memory) fulfils it.
 */
#ifndef WEIR_STACK_H
#define WEIR_STACK_H

#include "weir/detail/tagged.h"

struct weir_stack_node {
    struct weir_stack_node *next;
};

/* Zeroed memory is an empty stack too. */
struct weir_stack {
    struct weir__tagged head;
};

/*
 * Makes the stack empty.
 *   Progress: wait-free.  Callers: one thread, before the stack is shared.
 *   Ordering: none.       Memory: none.
 */
static inline void weir_stack_init(struct weir_stack *stack)
{
    weir__tagged_init(&stack->head);
}

/* Lock-free on this machine? Always: weir has no stack with a hidden lock.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none. */
static inline bool weir_stack_is_lock_free(void)
{
    return true;
}

/* Bits of the generation: 64 where a 16-byte compare-and-swap is used, otherwise 19 or 32 (see
 * weir/detail/tagged.h for what that means).
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none. */
static inline unsigned weir_stack_generation_bits(void)
{
    return WEIR__GENERATION_BITS;
}

/*
 * Is the stack empty? A hint: others may push or pop at once.
 *   Progress: wait-free.  Callers: any context.
 *   Ordering: acquires what the push of the top node released.  Memory: none.
 */
static inline bool weir_stack_empty(const struct weir_stack *stack)
{
    return weir__tagged_load(&stack->head).pointer == NULL;
}

/*
 * Puts first..last, already linked by their `next`, on top: first becomes the top.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: releases everything written before to whoever pops the nodes.
 *   Memory: none.
 */
static inline void weir_stack_push_batch(struct weir_stack *stack, struct weir_stack_node *first,
                                         struct weir_stack_node *last)
{
    struct weir__tag tag = weir__tagged_load(&stack->head);
    do {
        /* Relaxed: published by the release in weir__tagged_push. Atomic: a slower pop may be reading it. */
        weir_store_relaxed(&last->next, (struct weir_stack_node *)tag.pointer);
        /* Release: pairs with the acquire in the removals. */
    } while (!weir__tagged_push(&stack->head, &tag, first));
}

/*
 * Puts one node on top.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: releases to whoever pops the node.  Memory: none.
 */
static inline void weir_stack_push(struct weir_stack *stack, struct weir_stack_node *node)
{
    weir_stack_push_batch(stack, node, node);
}

/*
 * Takes the top node, NULL if the stack is empty.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: acquires what its push released.
 *   Memory: none; nodes must stay mapped (see the rule in weir/stack.h).
 */
static inline struct weir_stack_node *weir_stack_pop(struct weir_stack *stack)
{
    struct weir__tag tag = weir__tagged_load(&stack->head);
    struct weir_stack_node *node;
    do {
        node = (struct weir_stack_node *)tag.pointer;
        if (node == NULL)
            return NULL;
        /* Relaxed: if the node was taken meanwhile this reads a stale or foreign value, and the generation
         * makes the removal fail; if not, the acquire that found `node` has made it visible. */
    } while (!weir__tagged_remove(&stack->head, &tag, weir_load_relaxed(&node->next)));
    return node;
}

/*
 * Takes up to `max` nodes from the top in one step: the chain, top first, NULL-terminated, and their number
 * in *n. NULL and 0 if the stack is empty or max is 0. Costs a step per node taken, never more.
 *   Progress: lock-free; the more nodes it asks for, the likelier it has to start again under contention.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: acquires what their pushes released.
 *   Memory: none; nodes must stay mapped (see the rule in weir/stack.h).
 */
static inline struct weir_stack_node *weir_stack_pop_n(struct weir_stack *stack, size_t max, size_t *n)
{
    struct weir__tag tag = weir__tagged_load(&stack->head);
    for (;;) {
        struct weir_stack_node *node = (struct weir_stack_node *)tag.pointer, *last = NULL;
        size_t taken = 0;
        bool unmoved = true;
        while (node != NULL && taken < max && unmoved) {
            last = node;
            /* Acquire: orders this read before the look at the generation. Only while nothing has been
             * removed is `next` the stack's own link, and only then may it be followed. */
            node = weir_load_acquire(&last->next);
            unmoved = weir__tagged_unmoved(&stack->head, &tag);
            taken++;
        }
        if (taken == 0) {
            *n = 0;
            return NULL;
        }
        struct weir_stack_node *first = (struct weir_stack_node *)tag.pointer;
        if (!unmoved) {
            tag = weir__tagged_load(&stack->head);
        } else if (weir__tagged_remove(&stack->head, &tag, node)) {
            weir_store_relaxed(&last->next, (struct weir_stack_node *)NULL);
            *n = taken;
            return first;
        }
    }
}

/*
 * Takes everything: the chain, top first; NULL if the stack is empty.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: acquires what the pushes released.  Memory: none.
 */
static inline struct weir_stack_node *weir_stack_pop_all(struct weir_stack *stack)
{
    struct weir__tag tag = weir__tagged_load(&stack->head);
    struct weir_stack_node *first;
    do {
        first = (struct weir_stack_node *)tag.pointer;
        if (first == NULL)
            return NULL;
        /* Advances the generation like every removal: otherwise a pop that is under way could succeed after
         * this one, should its node be back on top, with a `next` that has been taken. */
    } while (!weir__tagged_remove(&stack->head, &tag, NULL));
    return first;
}

#endif /* WEIR_STACK_H */
