/* SPDX-License-Identifier: MIT */
/*
 * primitives_loop.h - the workloads of weir-bench-primitives. Every contender gets the same loop: it is inlined
 * with the contender's operations, which the compiler sees.
 *
 * What a thread has added is off the list once it has taken all: either it got it, or somebody else did before. So
 * it adds the same nodes again, and nobody runs out of any. Chains that were taken are not walked: a walk would
 * measure the cache, and find other nodes there by then. Whether chains are complete is checked by cell_check().
 */
#ifndef BENCH_PRIMITIVES_LOOP_H
#define BENCH_PRIMITIVES_LOOP_H

#include "primitives.h"

/* The compiler does not know what becomes of it. */
ALWAYS_INLINE void use(const void *chain)
{
    __asm__ __volatile__("" : : "r"(chain) : "memory");
}

ALWAYS_INLINE bool stopped(const struct worker *worker)
{
    return weir_load_relaxed(worker->stop) != 0;
}

ALWAYS_INLINE void loop_add_take(struct worker *worker, void (*add)(void *structure, struct node *node),
                                 void *(*take)(void *structure))
{
    void *structure = worker->structure;
    struct node *nodes = worker->nodes;
    uint64_t operations = 0;
    do {
        for (unsigned i = 0; i < TAKE_EVERY; i++)
            add(structure, &nodes[i]);
        use(take(structure));
        operations += TAKE_EVERY;
    } while (!stopped(worker));
    worker->operations = operations;
}

/* `link`: the nodes of a batch are linked before each add; otherwise they still are from the time before. */
ALWAYS_INLINE void loop_add_batch(struct worker *worker,
                                  void (*add)(void *structure, struct node *first, struct node *last),
                                  void *(*take)(void *structure), bool link)
{
    void *structure = worker->structure;
    struct node *nodes = worker->nodes;
    unsigned batch = worker->batch;
    uint64_t operations = 0;
    do {
        for (struct node *first = nodes; first != nodes + BATCH_NODES; first += batch) {
            for (unsigned i = 1; link && i < batch; i++)
                weir_store_relaxed(&first[i - 1].next, &first[i]);
            add(structure, first, first + batch - 1);
        }
        use(take(structure));
        operations += BATCH_NODES;
    } while (!stopped(worker));
    worker->operations = operations;
}

/* A pop that got nothing: again, until there is something. */
static __attribute__((noinline, cold, unused)) struct node *pop_again(struct worker *worker,
                                                                      struct node *(*pop)(void *structure))
{
    double since = seconds_now();
    struct node *node;
    do {
        worker->refused++;
        weir_cpu_pause();
    } while ((node = pop(worker->structure)) == NULL);
    double spell = seconds_now() - since;
    if (spell > worker->refused_longest)
        worker->refused_longest = spell;
    return node;
}

ALWAYS_INLINE void loop_pair(struct worker *worker, void (*push)(void *structure, struct node *node),
                             struct node *(*pop)(void *structure))
{
    void *structure = worker->structure;
    struct node *node = worker->nodes;
    uint64_t operations = 0;
    do {
        for (unsigned i = 0; i < TAKE_EVERY; i++) {
            push(structure, node);
            node = pop(structure);
            if (weir_unlikely(node == NULL))
                node = pop_again(worker, pop);
        }
        operations += TAKE_EVERY;
    } while (!stopped(worker));
    push(structure, node);
    worker->operations = operations;
}

/* `move`: pops up to `n` nodes, pushes them back, and says how many they were. */
ALWAYS_INLINE void loop_bulk(struct worker *worker, size_t (*move)(void *structure, unsigned n))
{
    void *structure = worker->structure;
    unsigned batch = worker->batch;
    uint64_t operations = 0, refused = 0;
    double since = 0;
    do {
        for (unsigned i = 0; i < TAKE_EVERY / 4; i++) {
            size_t moved = move(structure, batch);
            operations += moved;
            if (weir_likely(moved != 0 && since == 0))
                continue;
            double now = seconds_now();
            if (moved == 0) {
                refused++;
                since = since == 0 ? now : since;
                weir_cpu_pause();
            } else {
                worker->refused_longest =
                    now - since > worker->refused_longest ? now - since : worker->refused_longest;
                since = 0;
            }
        }
    } while (!stopped(worker));
    worker->operations = operations;
    worker->refused = refused;
}

/* The length of a chain that nobody else has. */
ALWAYS_INLINE size_t chain_length(const struct node *node)
{
    size_t n = 0;
    for (; node != NULL; node = node->next)
        n++;
    return n;
}

#endif /* BENCH_PRIMITIVES_LOOP_H */
