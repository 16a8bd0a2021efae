/* SPDX-License-Identifier: MIT */
/* primitives_ck.c - Concurrency Kit's stack: for many pushing and one popping (upmc: unique producers, nodes are
 * not reused while a pop may see them), and for many of both (mpmc). */
#include <ck_stack.h>

#include "primitives_loop.h"

static void *ck_open(void *place)
{
    struct ck_stack *stack = place;
    ck_stack_init(stack);
    return stack;
}

ALWAYS_INLINE void upmc_push(void *stack, struct node *node)
{
    ck_stack_push_upmc(stack, (struct ck_stack_entry *)node);
}

ALWAYS_INLINE void *upmc_take(void *stack)
{
    return ck_stack_batch_pop_upmc(stack);
}

ALWAYS_INLINE void mpmc_push(void *stack, struct node *node)
{
    ck_stack_push_mpmc(stack, (struct ck_stack_entry *)node);
}

ALWAYS_INLINE struct node *mpmc_pop(void *stack)
{
    return (struct node *)ck_stack_pop_mpmc(stack);
}

static void ck_put(void *stack, struct node *node)
{
    upmc_push(stack, node);
}

static size_t ck_drain(void *stack)
{
    return chain_length(upmc_take(stack));
}

static void upmc_run_add(struct worker *worker)
{
    loop_add_take(worker, upmc_push, upmc_take);
}

static void mpmc_run_pair(struct worker *worker)
{
    loop_pair(worker, mpmc_push, mpmc_pop);
}

const struct contender_type ck_upmc = {
    .id = "ck_upmc",
    .name = "ck_stack, upmc",
    .kind = PEER,
    .on_request = true,
    .open = ck_open,
    .put = ck_put,
    .drain = ck_drain,
    .run = {[ADD_TAKE] = upmc_run_add},
};
const struct contender_type ck_mpmc = {
    .id = "ck_mpmc",
    .name = "ck_stack, mpmc",
    .kind = PEER,
    .on_request = true,
    .open = ck_open,
    .put = ck_put,
    .drain = ck_drain,
    .run = {[PAIR] = mpmc_run_pair},
};
