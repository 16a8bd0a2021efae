/* SPDX-License-Identifier: MIT */
/*
 * primitives_urcu.c - liburcu's lock-free and wait-free stacks. Compiled twice: as called functions, and with
 * _LGPL_SOURCE, by which liburcu's headers give them inline.
 */
#include <urcu/lfstack.h>
#include <urcu/wfstack.h>

#include "primitives_loop.h"

#ifdef _LGPL_SOURCE
#define CONTENDER(inlined, called) inlined
#else
#define CONTENDER(inlined, called) called
#endif

/* --- lfstack --- */

static void *lfs_open(void *place)
{
    struct cds_lfs_stack *stack = place;
    cds_lfs_init(stack);
    return stack;
}

ALWAYS_INLINE void lfs_push(void *stack, struct node *node)
{
    cds_lfs_stack_ptr_t to = {.s = stack};
    cds_lfs_push(to, (struct cds_lfs_node *)node);
}

ALWAYS_INLINE void *lfs_take(void *stack)
{
    cds_lfs_stack_ptr_t from = {.s = stack};
    return __cds_lfs_pop_all(from);
}

ALWAYS_INLINE struct node *lfs_pop(void *stack)
{
    return (struct node *)cds_lfs_pop_blocking(stack);
}

static void lfs_put(void *stack, struct node *node)
{
    lfs_push(stack, node);
}

static size_t lfs_drain(void *stack)
{
    return chain_length(lfs_take(stack));
}

static void lfs_run_add(struct worker *worker)
{
    loop_add_take(worker, lfs_push, lfs_take);
}

static void lfs_run_pair(struct worker *worker)
{
    loop_pair(worker, lfs_push, lfs_pop);
}

const struct contender_type CONTENDER(lfstack_inlined, lfstack_called) = {
    .id = CONTENDER("lfstack", "lfstack_called"),
    .name = CONTENDER("liburcu lfstack", "liburcu lfstack, called"),
    .kind = PEER,
    .open = lfs_open,
    .put = lfs_put,
    .drain = lfs_drain,
    .run = {[ADD_TAKE] = lfs_run_add, [PAIR] = lfs_run_pair},
};

/* --- wfstack --- */

static void *wfs_open(void *place)
{
    struct cds_wfs_stack *stack = place;
    cds_wfs_init(stack);
    return stack;
}

ALWAYS_INLINE void wfs_push(void *stack, struct node *node)
{
    cds_wfs_stack_ptr_t to = {.s = stack};
    struct cds_wfs_node *pushed = (struct cds_wfs_node *)node;
    cds_wfs_node_init(pushed);
    cds_wfs_push(to, pushed);
}

ALWAYS_INLINE void *wfs_take(void *stack)
{
    cds_wfs_stack_ptr_t from = {.s = stack};
    return __cds_wfs_pop_all(from);
}

ALWAYS_INLINE struct node *wfs_pop(void *stack)
{
    return (struct node *)cds_wfs_pop_blocking(stack);
}

static void wfs_put(void *stack, struct node *node)
{
    wfs_push(stack, node);
}

static size_t wfs_drain(void *stack)
{
    size_t n = 0;
    struct cds_wfs_head *head = wfs_take(stack);
    struct cds_wfs_node *node;
    if (head != NULL)
        cds_wfs_for_each_blocking(head, node) n++;
    return n;
}

static void wfs_run_add(struct worker *worker)
{
    loop_add_take(worker, wfs_push, wfs_take);
}

static void wfs_run_pair(struct worker *worker)
{
    loop_pair(worker, wfs_push, wfs_pop);
}

const struct contender_type CONTENDER(wfstack_inlined, wfstack_called) = {
    .id = CONTENDER("wfstack", "wfstack_called"),
    .name = CONTENDER("liburcu wfstack", "liburcu wfstack, called"),
    .kind = PEER,
    .open = wfs_open,
    .put = wfs_put,
    .drain = wfs_drain,
    .run = {[ADD_TAKE] = wfs_run_add, [PAIR] = wfs_run_pair},
};
