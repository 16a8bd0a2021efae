/* SPDX-License-Identifier: MIT */
/*
 * field_ring.h - the floor under deferred free: as many objects alive as weir had waiting, first in, first
 * out, with no readers to wait for; freed by the block, or one by one.
 */
#ifndef BENCH_FIELD_RING_H
#define BENCH_FIELD_RING_H

#include "field_loop.h"
#include "field_urcu.h"

/* A worker's objects that wait. */
static __thread struct {
    void **object;
    size_t slots, first, count;
} ring;

static size_t ring_slots;

typedef void (*ring_free)(size_t n, void *objects[]);

/* With a block more or less, on average `depth` wait; block 1: always. */
static void ring_set(size_t depth, size_t block)
{
    size_t below = block / 2;
    ring_slots = (depth > below ? depth - below : 0) + block;
}

static __attribute__((noinline, cold)) void ring_make(void)
{
    ring.object = calloc(ring_slots, sizeof ring.object[0]);
    ring.slots = ring_slots;
    if (ring.object == NULL)
        field_no_memory();
}

ALWAYS_INLINE void ring_free_first(size_t n, ring_free free_objects)
{
    for (ring.count -= n; n != 0;) {
        size_t together = n < ring.slots - ring.first ? n : ring.slots - ring.first;
        free_objects(together, &ring.object[ring.first]);
        n -= together;
        ring.first = ring.first + together != ring.slots ? ring.first + together : 0;
    }
}

/* Frees a block of the oldest first if the ring is full. */
ALWAYS_INLINE void ring_put(void *object, size_t block, ring_free free_objects)
{
    if (weir_unlikely(ring.slots == 0))
        ring_make();
    if (ring.count == ring.slots)
        ring_free_first(block, free_objects);
    size_t at = ring.first + ring.count++;
    ring.object[at < ring.slots ? at : at - ring.slots] = object;
}

static void ring_leave(unsigned number)
{
    free(ring.object);
    field_urcu_leave(number);
}

#define RING_WORKERS URCU_READERS_WITH(field_urcu_enter, ring_leave)

#endif /* BENCH_FIELD_RING_H */
