/* SPDX-License-Identifier: MIT */
/*
 * field_plain.c - what the allocator alone costs: malloc and free at once; and the floor under all deferred free,
 * malloc and free with as many objects alive as weir had waiting, first in, first out, by the block or one by one.
 */
#include "field_loop.h"
#include "field_urcu.h"

/* A worker's objects that wait to be freed: a ring, full but for `room` slots. */
static __thread struct {
    void **object;
    size_t slots, first, count;
} ring;

static size_t slots;

static __attribute__((noinline, cold)) void make_ring(void)
{
    ring.object = calloc(slots, sizeof ring.object[0]);
    ring.slots = slots;
    if (ring.object == NULL)
        field_no_memory();
}

static void free_first(size_t n)
{
    for (ring.count -= n; n != 0; n--) {
        field_free(ring.object[ring.first]);
        ring.first = ring.first + 1 != ring.slots ? ring.first + 1 : 0;
    }
}

static void free_rest(void)
{
    free_first(ring.count);
}

/* Frees `n` of the oldest first if the ring is full. */
ALWAYS_INLINE void put(void *object, size_t n)
{
    if (weir_unlikely(ring.count == ring.slots)) {
        if (ring.slots == 0)
            make_ring();
        else
            free_first(n);
    }
    size_t at = ring.first + ring.count++;
    ring.object[at < ring.slots ? at : at - ring.slots] = object;
}

/* With a block more or less, on average `depth` wait. */
static bool open_blocks(const struct field_setting *setting)
{
    slots = (setting->depth > FIELD_BLOCK / 2 ? setting->depth - FIELD_BLOCK / 2 : 0) + FIELD_BLOCK;
    return true;
}

static bool open_ones(const struct field_setting *setting)
{
    slots = setting->depth != 0 ? setting->depth : 1;
    return true;
}

ALWAYS_INLINE void put_and_free_block(void *object, uint64_t number)
{
    (void)number;
    put(object, FIELD_BLOCK);
}

ALWAYS_INLINE void put_and_free_one(void *object, uint64_t number)
{
    (void)number;
    put(object, 1);
}

ALWAYS_INLINE void free_at_once(void *object, uint64_t number)
{
    (void)number;
    field_free(object);
}

static void work_free(struct field_worker *worker)
{
    field_loop(worker, field_malloc, free_at_once, urcu_qsbr_quiescent_state);
}

static void work_blocks(struct field_worker *worker)
{
    field_loop(worker, field_malloc, put_and_free_block, urcu_qsbr_quiescent_state);
}

static void work_ones(struct field_worker *worker)
{
    field_loop(worker, field_malloc, put_and_free_one, urcu_qsbr_quiescent_state);
}

const struct field_contender field_plain[3] = {
    {URCU_READERS, .id = "free", .open = field_urcu_open, .work = work_free},
    {URCU_READERS, .id = "floor-blocks", .open = open_blocks, .work = work_blocks, .finish = free_rest},
    {URCU_READERS, .id = "floor-ones", .open = open_ones, .work = work_ones, .finish = free_rest},
};
