/* SPDX-License-Identifier: MIT */
/* primitives_tables.c - what weir-bench-primitives measures. */
#include "primitives.h"

#ifndef BENCH_CK
#define BENCH_CK 0
#endif
#if BENCH_CK
#define CK_UPMC ck_upmc
#define CK_MPMC ck_mpmc
#else
static const struct contender_type no_upmc = {
    .id = "ck_upmc",
    .name = "ck_stack, upmc",
    .kind = PEER,
    .on_request = true,
};
static const struct contender_type no_mpmc = {
    .id = "ck_mpmc",
    .name = "ck_stack, mpmc",
    .kind = PEER,
    .on_request = true,
};
#define CK_UPMC no_upmc
#define CK_MPMC no_mpmc
#endif

/* In a program beside this one: primitives_dpdk.c. */
static const struct contender_type rte_lock_free = {
    .id = "rte_stack_lf",
    .name = "DPDK rte_stack, lock-free",
    .kind = PEER,
    .on_request = true,
    .elsewhere = 1,
};
static const struct contender_type rte_standard = {
    .id = "rte_stack_std",
    .name = "DPDK rte_stack, spinlock",
    .kind = PEER,
    .on_request = true,
    .elsewhere = 2,
};

/* clang-format off */
#define FOR_THREADS(workload, batch) \
    {{workload, batch, 1}, {workload, batch, 2}, {workload, batch, 4}, {workload, batch, 8}}
#define FOR_BATCHES(workload, threads) \
    {{workload, 1, threads}, {workload, 4, threads}, {workload, 16, threads}, {workload, 64, threads}, \
     {workload, 256, threads}}
/* clang-format on */

const struct table primitives_tables[TABLES] = {
    {"add",
     "add",
     "Add, and take all after every 64 adds; one thread: nanoseconds per add",
     "Ratio: to the time of the best peer.",
     true,
     TO_BEST_PEER,
     1,
     {{ADD_TAKE, 1, 1}},
     {&weir_llist_add_one, &weir_stack_wide, &weir_stack_packed, &CK_UPMC, &lfstack_inlined, &lfstack_called,
      &wfstack_inlined, &wfstack_called, &mutex_list}},
    {"contended",
     "contended",
     "Each thread adds, and takes all after every 64 of its adds: million adds per second",
     "Ratio: to the best peer.",
     false,
     TO_BEST_PEER,
     4,
     FOR_THREADS(ADD_TAKE, 1),
     {&weir_llist_add_one, &weir_stack_wide, &weir_stack_packed, &CK_UPMC, &lfstack_inlined, &wfstack_inlined,
      &mutex_list}},
    {"batch-1",
     "batch",
     "Add in batches, and take all after every 256 nodes; one thread: million nodes per second",
     "Ratio: to weir_llist's batches of 1, which are single adds. The chains are linked already.",
     false,
     TO_SINGLE_ADDS,
     5,
     FOR_BATCHES(ADD_BATCH, 1),
     {&weir_llist_batch, &weir_llist_link, &weir_stack_wide, &mutex_list}},
    {"batch-2",
     "batch",
     "Add in batches, and take all after every 256 nodes; 2 threads: million nodes per second",
     "Ratio: to weir_llist's batches of 1, which are single adds. The chains are linked already.",
     false,
     TO_SINGLE_ADDS,
     5,
     FOR_BATCHES(ADD_BATCH, 2),
     {&weir_llist_batch, &weir_llist_link, &weir_stack_wide, &mutex_list}},
    {"pair",
     "pair",
     "Push a node, pop a node: million pairs per second",
     "Ratio: to the best peer.",
     false,
     TO_BEST_PEER,
     4,
     FOR_THREADS(PAIR, 1),
     {&weir_stack_wide, &weir_stack_packed, &weir_pool_wide, &weir_pool_packed, &CK_MPMC, &rte_lock_free,
      &rte_standard, &lfstack_inlined, &wfstack_inlined, &mutex_list}},
    {"bulk-1",
     "bulk",
     "Pop n nodes, push them back; one thread: million nodes per second",
     "Ratio: to the best peer.",
     false,
     TO_BEST_PEER,
     5,
     FOR_BATCHES(BULK, 1),
     {&weir_stack_wide, &weir_stack_packed, &weir_pool_wide, &weir_pool_packed, &rte_lock_free, &rte_standard,
      &mutex_list}},
    {"bulk-2",
     "bulk",
     "Pop n nodes, push them back; 2 threads: million nodes per second",
     "Ratio: to the best peer.",
     false,
     TO_BEST_PEER,
     5,
     FOR_BATCHES(BULK, 2),
     {&weir_stack_wide, &weir_stack_packed, &weir_pool_wide, &weir_pool_packed, &rte_lock_free, &rte_standard,
      &mutex_list}},
    {"designs-pair",
     "designs",
     "Designs of a counted pool, put and get: million pairs per second",
     "Ratio: to C, weir_pool.",
     false,
     TO_WEIR_POOL,
     4,
     FOR_THREADS(PAIR, 1),
     {&design_counter, &design_stash, &weir_pool_wide, &weir_pool_packed, &design_mutex}},
    {"designs-bulk",
     "designs",
     "Designs of a counted pool, get 16 and put them back: million nodes per second",
     "Ratio: to C, weir_pool.",
     false,
     TO_WEIR_POOL,
     4,
     FOR_THREADS(BULK, 16),
     {&design_counter, &design_stash, &weir_pool_wide, &weir_pool_packed, &design_mutex}},
};
