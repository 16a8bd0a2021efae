/* SPDX-License-Identifier: MIT */
/* subjects.h - what the subjects of a scenario share: the nodes, and how chains become numbers. */
#ifndef SUBJECTS_H
#define SUBJECTS_H

#include "scenario.h"
#include "weir/llist.h"
#include "weir/pool.h"
#include "weir/stack.h"

/* A node of a list or of a stack; on one of them at a time. */
union node {
    struct weir_llist_node list;
    struct weir_stack_node stack;
};

extern union node nodes[SCENARIO_NODES];

/* An address that faults: nobody may follow the link of a node that was taken. */
#define SPOILED ((uintptr_t)0x5d01ed)

/* The number of a node; fails the run for what is none. */
uint8_t number_of(const void *node);

/* A chain that was taken: its numbers go to call->out, its links are spoiled. */
void take_chain(struct call *call, const void *first);

/* The nodes call->in as a chain: its first and last. */
union node *chain_of(const struct call *call, union node **last);

/* The numbers of a chain at rest; what subject.nodes() returns. */
unsigned numbers_of(const void *first, uint8_t numbers[SCENARIO_NODES + 1]);

/* For traces: "A", "NULL", "spoiled", a number. */
void meaning_of_pointer(uint64_t value, char *text, size_t size);
/* "A.next", or nothing. */
bool name_of_node(const void *address, char *text, size_t size);

extern const struct subject subject_broken_stack, subject_broken_overwrite, subject_broken_subtract;

#endif
