/* SPDX-License-Identifier: MIT */
/*
 * reserve.h - what a mempool keeps for bad times: cells for so many elements, and the word by which one who
 * waits hears that something came back. See weir/mempool.h.
 *
 * An element's memory is its allocator's, and may be gone as soon as it is freed. So nothing is linked
 * through elements: who takes from a list and is slow would read what is no more. What is on the lists are
 * cells, in memory that stays:
 *
 *     filled   o -> o -> o      each has an element; a pool, so that their number is known
 *     vacant   o -> o           each stands for an element that is out
 *
 * put takes a vacant cell, writes the element into it, and gives it to the filled ones; take goes the other
 * way. Who finds no vacant cell has an element too many.
 *
 * There are never more cells without an element than elements that are out. Every operation keeps that: take
 * adds one to both; put takes one from both. An element that finds no vacant cell, and goes to the allocator,
 * is one that no cell stands for: those without an element were all in somebody's hands at that moment, each
 * together with an element of its own, which was being taken or put. So as elements come back, the cells are
 * filled, and when none is out, all of them are.
 *
 * n or none. take walks n filled cells and removes them in one step. If it finds fewer, no removal came in
 * between, and they were all there were when it looked at the head. Nobody ever holds a part of what he
 * wants.
 *
 * Waiting. `returns` counts what was put; its lowest bit says that somebody is in line.
 *
 *     the first in line                     who puts
 *     -----------------                     --------
 *     sets the bit          (1)             puts the element      (4)
 *     reads the count       (2)             adds to the count     (5)
 *     takes: finds too few  (3)             wakes, if the bit was there
 *     sleeps, if the count is unchanged
 *
 * (1) and (5) are read-modify-writes of one word, and the kernel looks at it again before it lets anybody
 * sleep. If (5) is before what (2) reads, (2) acquires what (5) released, and (3) finds the element. If it is
 * after, the count is another one than (2) has read, and there is no sleep; or there was one already, and
 * then (5) is after (1), finds the bit, and wakes. (The count has 31 bits: to be taken for unchanged it would
 * have to go round once, 2,147,483,648 puts, between (2) and the sleep.)
 */
#ifndef WEIR_SRC_RESERVE_H
#define WEIR_SRC_RESERVE_H

#include "weir/pool.h"

struct weir__cell {
    struct weir_stack_node node;
    void *element; /* NULL: none */
};

#define WEIR__IN_LINE 1u

struct weir__reserve {
    struct weir_pool filled WEIR_ALIGNED(WEIR_LINE_PAIR);
    /* What every free looks at, and is hardly ever written. */
    struct weir_stack vacant WEIR_ALIGNED(WEIR_LINE_PAIR);
    uint32_t returns; /* a futex */
    uint32_t hoping;  /* who waits, but not in line: so much is not in the reserve, even if it is full */
    uint32_t hope;    /* advances when something came back while somebody hoped; a futex */
};

static inline void weir__reserve_init(struct weir__reserve *reserve)
{
    weir_pool_init(&reserve->filled);
    weir_stack_init(&reserve->vacant);
    reserve->returns = reserve->hoping = reserve->hope = 0;
}

static inline struct weir__cell *weir__cell_of(struct weir_stack_node *node)
{
    return (struct weir__cell *)(void *)node; /* its first member */
}

/* The cell is the caller's, and loses its element. Relaxed, all accesses to it: what puts a cell on a list
 * releases them, what takes it from there acquires. Atomic, because checked builds look at all cells. */
static inline void *weir__cell_empty(struct weir__cell *cell)
{
    void *element = weir_load_relaxed(&cell->element);
    weir_store_relaxed(&cell->element, (void *)NULL);
    return element;
}

/* n filled cells, n not 0, or none and NULL. */
static inline struct weir_stack_node *weir__reserve_cells(struct weir__reserve *reserve, size_t n,
                                                          struct weir__run *run)
{
    struct weir__tagged *head = &reserve->filled.head;
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        struct weir__tag tag = weir__tagged_load(head);
        if (tag.top == NULL)
            return NULL;
        if (!weir__tagged_walk(head, &tag, true, n, run))
            continue;
        if (run->n < n)
            return NULL;
        if (weir_likely(weir__counted_remove(head, &tag, run->next, n))) {
            weir__check_links(tag.top, n, run->next, "weir_mempool_alloc");
            return tag.top;
        }
    }
}

/* Takes n elements, n not 0; or none, and false. Any context. */
static inline bool weir__reserve_take(struct weir__reserve *reserve, size_t n, void *elements[])
{
    struct weir__run run;
    struct weir_stack_node *first = weir__reserve_cells(reserve, n, &run), *node = first;
    if (first == NULL)
        return false;
    for (size_t i = 0; i < n; i++, node = weir_stack_next(node))
        elements[i] = weir__cell_empty(weir__cell_of(node));
    weir_stack_push_batch(&reserve->vacant, first, run.last);
    return true;
}

/* Puts up to n elements, n not 0, the first ones; how many. Any context. */
static inline size_t weir__reserve_put(struct weir__reserve *reserve, size_t n, void *const elements[])
{
    size_t room, i = 0;
    struct weir_stack_node *first = weir_stack_pop_n(&reserve->vacant, n, &room), *last = first;
    for (struct weir_stack_node *node = first; node != NULL; node = weir_stack_next(node)) {
        weir_store_relaxed(&weir__cell_of(node)->element, elements[i++]);
        last = node;
    }
    if (first != NULL)
        weir_pool_put_batch(&reserve->filled, first, last, room);
    return room;
}

/* Something was put: (5). True: somebody is in line, and has to be woken. */
static inline bool weir__reserve_tell(struct weir__reserve *reserve)
{
    /* Release: pairs with the acquire in weir__reserve_seen(). */
    return weir_fetch_add_release(&reserve->returns, 2u) & WEIR__IN_LINE;
}

/* (2) */
static inline uint32_t weir__reserve_seen(const struct weir__reserve *reserve)
{
    return weir_load_acquire(&reserve->returns);
}

/* (1), and the opposite. By one at a time, in turn. Relaxed: who tells finds it or not by the order of the
 * changes of this one word. */
static inline void weir__reserve_line_up(struct weir__reserve *reserve)
{
    weir_fetch_add_relaxed(&reserve->returns, WEIR__IN_LINE);
}

static inline void weir__reserve_line_ends(struct weir__reserve *reserve)
{
    weir_fetch_sub_relaxed(&reserve->returns, WEIR__IN_LINE);
}

/* A hint: relaxed, since it may be another the next moment. */
static inline bool weir__reserve_line(const struct weir__reserve *reserve)
{
    return weir_load_relaxed(&reserve->returns) & WEIR__IN_LINE;
}

#endif /* WEIR_SRC_RESERVE_H */
