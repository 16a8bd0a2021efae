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
 * The one rule for memory (type-stable memory): for as long as anyone may be inside a removal, a node that
 * was ever on the stack stays mapped, and its first word is only written by these functions or with
 * weir_store_release() (chains: weir_stack_link()). A removal that lost a race has read `next` of a node
 * that somebody else owns by now. It throws the value away, but the read must neither fault nor be a data
 * race. Static arrays, slabs and pools that are never given back fulfil the rule. AddressSanitizer and
 * ThreadSanitizer report a node that was freed too early if a removal meets it; checked builds (WEIR_CHECKED)
 * stop when a node was written to while it was on the stack, was pushed while it was the top already, or
 * cannot be packed.
 */
#ifndef WEIR_STACK_H
#define WEIR_STACK_H

#include "weir/detail/tagged.h"

/* Aligned to 16: static, or from malloc() where that aligns to 16. Zeroed memory is an empty stack too. */
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

/* Which head this build uses: "wide" (16-byte compare-and-swap) or "packed" (pointer and generation in one
 * word; see weir/detail/tagged.h). All that share a stack have to be built alike.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none. */
static inline const char *weir_stack_layout(void)
{
    return WEIR__TAGGED_WIDE ? "wide" : "packed";
}

/* Bits of the generation: 64 in the wide layout, otherwise 19 or, on 32-bit machines, 32.
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
    return weir__tagged_load(&stack->head).top == NULL;
}

/*
 * Links a node of a chain that is to be pushed to the next one.
 *   Progress: wait-free.  Callers: the chain's owner.
 *   Ordering: releases to a pop_n that has lost its race, and still reads the link (see the rule in
 *   weir/stack.h).
 *   Memory: none.
 */
static inline void weir_stack_link(struct weir_stack_node *node, struct weir_stack_node *next)
{
    weir_store_release(&node->next, next); /* pairs with the acquire in weir__tagged_walk() */
}

/* The node after this one in a chain that was popped, NULL at its end.
 *   Progress: wait-free.  Callers: the chain's owner.  Ordering: none.  Memory: none. */
static inline struct weir_stack_node *weir_stack_next(const struct weir_stack_node *node)
{
    return weir_load_relaxed(&node->next);
}

/*
 * Puts first..last, already linked by weir_stack_link(), on top: first becomes the top.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: releases everything written before to whoever pops the nodes.
 *   Memory: none.
 */
static inline void weir_stack_push_batch(struct weir_stack *stack, struct weir_stack_node *first,
                                         struct weir_stack_node *last)
{
    weir__check_fits(first, "weir_stack_push");
    weir__check_chain(struct weir_stack_node, first, last, "weir_stack_push");
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        struct weir__tag tag = weir__tagged_load(&stack->head);
        weir__check(tag.top != first && tag.top != last, "weir_stack_push", tag.top,
                    "is on the stack already");
        /* Release: pairs with the acquire in weir__tagged_walk(), where a slower pop_n may be reading it. */
        weir_store_release(&last->next, tag.top);
        /* Release: pairs with the acquire in the removals' weir__tagged_load(). */
        if (weir_likely(weir__tagged_push(&stack->head, &tag, first)))
            return;
    }
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
 * Takes the top node, NULL if the stack is empty. It is one node, no chain: its link means nothing any more.
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: acquires what its push released.
 *   Memory: none; nodes must stay mapped (see the rule in weir/stack.h).
 */
static inline struct weir_stack_node *weir_stack_pop(struct weir_stack *stack)
{
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        struct weir__tag tag = weir__tagged_load(&stack->head);
        if (tag.top == NULL)
            return NULL;
        /* Relaxed: if the node was taken meanwhile this reads a stale or foreign value, and the generation
         * makes the removal fail; if not, the acquire that found the top has made it visible. */
        struct weir_stack_node *next = weir_load_relaxed(&tag.top->next);
        if (weir_likely(weir__tagged_remove(&stack->head, &tag, next))) {
            weir__check_links(tag.top, 1, next, "weir_stack_pop");
            return tag.top;
        }
    }
}

/*
 * Takes up to `max` nodes from the top in one step: the chain, top first, NULL-terminated, and their number
 * in *n. NULL and 0 if the stack is empty or max is 0. An attempt costs a step per node it may take.
 *   Progress: lock-free; the more nodes it asks for, the likelier it has to start again under contention.
 *   Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: acquires what their pushes released.
 *   Memory: none; nodes must stay mapped (see the rule in weir/stack.h).
 */
static inline struct weir_stack_node *weir_stack_pop_n(struct weir_stack *stack, size_t max, size_t *n)
{
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        struct weir__tag tag = weir__tagged_load(&stack->head);
        struct weir__run run;
        if (tag.top == NULL || max == 0) {
            *n = 0;
            return NULL;
        }
        if (weir_likely(weir__tagged_walk(&stack->head, &tag, false, max, &run) &&
                        weir__tagged_remove(&stack->head, &tag, run.next))) {
            weir__check_links(tag.top, run.n, run.next, "weir_stack_pop_n");
            /* Relaxed: a slower removal that reads it fails, whatever it reads, and does not follow NULL. */
            weir_store_relaxed(&run.last->next, (struct weir_stack_node *)NULL);
            *n = run.n;
            return tag.top;
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
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        struct weir__tag tag = weir__tagged_load(&stack->head);
        if (tag.top == NULL)
            return NULL;
        /* Advances the generation like every removal: otherwise a pop that is under way could succeed after
         * this one, should its node be back on top, with a `next` that has been taken. */
        if (weir_likely(weir__tagged_remove(&stack->head, &tag, NULL)))
            return tag.top;
    }
}

#endif /* WEIR_STACK_H */
