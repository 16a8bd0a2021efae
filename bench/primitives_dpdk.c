/* SPDX-License-Identifier: MIT */
/*
 * primitives_dpdk.c - DPDK's rte_stack, lock-free and with a spinlock. A program of its own, like pair_dpdk.c: it
 * waits for a job on standard input (job_encode()), runs a cell, and writes a struct cell to PAIR_FD.
 */
#include <stdio.h>
#include <stdlib.h>
#include <rte_errno.h>
#include <rte_stack.h>

#include "dpdk_start.h"
#include "pair_loop.h" /* PAIR_FD */
#include "primitives_loop.h"

#define STACK_NODES (2 * FILL_FOR_BULK)

static struct rte_stack *lock_free, *standard;

static size_t empty(void *stack)
{
    void *object;
    size_t n = 0;
    while (rte_stack_pop(stack, &object, 1) == 1)
        n++;
    return n;
}

static void *open_lock_free(void *place)
{
    (void)place;
    empty(lock_free);
    return lock_free;
}

static void *open_standard(void *place)
{
    (void)place;
    empty(standard);
    return standard;
}

/* The kind is a constant, so that which of the two it is is not asked each time. */
ALWAYS_INLINE void push_as(struct rte_stack *stack, struct node *node, bool lf)
{
    void *object = node;
    unsigned pushed = lf ? __rte_stack_lf_push(stack, &object, 1) : __rte_stack_std_push(stack, &object, 1);
    if (weir_unlikely(pushed == 0))
        abort(); /* there is room for all */
}

ALWAYS_INLINE struct node *pop_as(struct rte_stack *stack, bool lf)
{
    void *object = NULL;
    unsigned popped = lf ? __rte_stack_lf_pop(stack, &object, 1) : __rte_stack_std_pop(stack, &object, 1);
    return popped != 0 ? object : NULL;
}

ALWAYS_INLINE size_t move_as(struct rte_stack *stack, unsigned n, bool lf)
{
    void *object[BATCH_NODES];
    unsigned popped = lf ? __rte_stack_lf_pop(stack, object, n) : __rte_stack_std_pop(stack, object, n);
    if (popped == 0)
        return 0;
    unsigned pushed = lf ? __rte_stack_lf_push(stack, object, n) : __rte_stack_std_push(stack, object, n);
    if (weir_unlikely(pushed == 0))
        abort();
    return n;
}

ALWAYS_INLINE void push_lock_free(void *stack, struct node *node)
{
    push_as(stack, node, true);
}

ALWAYS_INLINE struct node *pop_lock_free(void *stack)
{
    return pop_as(stack, true);
}

ALWAYS_INLINE size_t move_lock_free(void *stack, unsigned n)
{
    return move_as(stack, n, true);
}

ALWAYS_INLINE void push_standard(void *stack, struct node *node)
{
    push_as(stack, node, false);
}

ALWAYS_INLINE struct node *pop_standard(void *stack)
{
    return pop_as(stack, false);
}

ALWAYS_INLINE size_t move_standard(void *stack, unsigned n)
{
    return move_as(stack, n, false);
}

static void put(void *stack, struct node *node)
{
    void *object = node;
    if (rte_stack_push(stack, &object, 1) == 0)
        abort();
}

static void pair_lock_free(struct worker *worker)
{
    loop_pair(worker, push_lock_free, pop_lock_free);
}

static void bulk_lock_free(struct worker *worker)
{
    loop_bulk(worker, move_lock_free);
}

static void pair_standard(struct worker *worker)
{
    loop_pair(worker, push_standard, pop_standard);
}

static void bulk_standard(struct worker *worker)
{
    loop_bulk(worker, move_standard);
}

static const struct contender_type contenders[] = {
    {
        .id = "rte_stack_lf",
        .name = "",
        .kind = PEER,
        .on_request = true,
        .open = open_lock_free,
        .put = put,
        .drain = empty,
        .run = {[PAIR] = pair_lock_free, [BULK] = bulk_lock_free},
    },
    {
        .id = "rte_stack_std",
        .name = "",
        .kind = PEER,
        .on_request = true,
        .open = open_standard,
        .put = put,
        .drain = empty,
        .run = {[PAIR] = pair_standard, [BULK] = bulk_standard},
    },
};

static bool start_dpdk(char *program, unsigned cpu)
{
    if (!dpdk_start(program, cpu, 256))
        return false;
    lock_free = rte_stack_create("lf", STACK_NODES, SOCKET_ID_ANY, RTE_STACK_F_LF);
    standard = rte_stack_create("std", STACK_NODES, SOCKET_ID_ANY, 0);
    if (lock_free == NULL || standard == NULL) {
        fprintf(stderr, "DPDK has no memory for the stacks: %s\n", rte_strerror(rte_errno));
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct machine machine;
    char request;

    machine_cpus(&machine); /* first: DPDK keeps the calling thread on one of them */
    if (argc < 2 || !start_dpdk(argv[0], machine.cpu[0]))
        return 1;
    while ((request = child_request()) != '\0') {
        struct cell cell;
        int contender;
        struct job job = job_decode(request, &contender);
        cell_run(&cell, &contenders[contender - 1], &job, (unsigned)atoi(argv[1]), &machine);
        if (write(PAIR_FD, &cell, sizeof cell) != (ssize_t)sizeof cell)
            return 1;
    }
    return 0;
}
