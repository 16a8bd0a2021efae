/* SPDX-License-Identifier: MIT */
/*
 * scenario.h - what a few threads do to one list, stack or pool, as data: for the explorer and for fuzzing.
 *
 * In writing: "stack 2: pop push | pop_n2", a stack of two nodes; thread a pops and then pushes, thread b pops up
 * to two. What a thread pushes is what it has taken longest ago, or, if it holds nothing, a node of its own; so
 * "pop pop push" brings back the first node without the second, which is what ABA needs. As soon as a node is
 * taken its link is overwritten with an address that faults.
 *
 * After each run every node is counted, and the results of all operations have to be those that some order
 * of them gives when each happens at once: an order in which an operation that had ended before another began
 * comes before it (linearizability: M. Herlihy and J. Wing, TOPLAS 1990).
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include "explore.h"

enum {
    SCENARIO_OPS = 4,     /* of one thread */
    SCENARIO_INITIAL = 4, /* nodes */
    SCENARIO_NODES = SCENARIO_INITIAL + EXPLORE_THREADS * SCENARIO_OPS * 3,
};

enum op {
    OP_PUSH,
    OP_PUSH_NEW, /* a node of its own, also if it holds others */
    OP_PUSH2,    /* a chain of two */
    OP_PUSH3,
    OP_PUSH_UNSHARED, /* beside nothing */
    OP_POP,
    OP_POP_INIT,
    OP_POP_THIS, /* the node that was on top when the threads began, or the first that thread b adds; if it is there */
    OP_POP_N2,
    OP_POP_N3,
    OP_POP_ALL,
    OP_POP_ALL_FIFO,
    OP_DECAY50,
    OP_EMPTY,
    OP_COUNT,
    OPS,
};

/* What was asked for, and what came of it. */
struct call {
    enum op op;
    uint64_t begin, end;                    /* its first and last access */
    uint8_t in[3], out[SCENARIO_NODES + 1]; /* numbers of nodes */
    uint8_t ins, outs;
    bool said; /* the result of those that return bool */
    bool weak; /* of the scenario */
    size_t count;
};

/* Something to be tested: the operations as functions. */
struct subject {
    const char *name;
    bool has[OPS];
    bool counts;     /* its count is exact at every instant */
    bool says_empty; /* pushing says whether it was empty */
    void (*init)(void);
    void (*perform)(struct call *call);
    /* At rest: its nodes, top first, into numbers[]; returns how many; SCENARIO_NODES + 1: a cycle, or no node. */
    unsigned (*nodes)(uint8_t numbers[SCENARIO_NODES + 1]);
    /* At any instant: its count, or -1. */
    long (*count)(void);
    void (*name_of)(const void *address, char *text, size_t size);
    void (*meaning)(uint64_t value, char *text, size_t size);
};

struct scenario {
    const struct subject *subject;
    unsigned threads, initial;
    bool weak; /* loads may return old values */
    unsigned ops[EXPLORE_THREADS];
    enum op op[EXPLORE_THREADS][SCENARIO_OPS];
};

/* Subjects: "llist", "stack", "pool", and those of broken.c. */
extern const struct subject *const subjects[];
extern const unsigned subjects_count;
const struct subject *subject_named(const char *name);
const char *op_name(enum op op);

/* False with a message that names the word that is wrong. */
bool scenario_parse(struct scenario *scenario, const char *text, char message[256]);
void scenario_write(const struct scenario *scenario, char *text, size_t size);

/* The scenario as a program for the explorer. */
struct explore_program scenario_program(struct scenario *scenario);

#endif
