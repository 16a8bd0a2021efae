/* SPDX-License-Identifier: MIT */
/* field_plain.c - what the allocator alone costs: free at once; and the floor, see field_ring.h. */
#include "field_ring.h"

static void free_objects(size_t n, void *objects[])
{
    for (size_t i = 0; i < n; i++)
        field_free(objects[i]);
}

static void free_rest(void)
{
    ring_free_first(ring.count, free_objects);
}

static bool open_blocks(const struct field_setting *setting)
{
    ring_set(setting->depth, FIELD_BLOCK);
    return true;
}

static bool open_ones(const struct field_setting *setting)
{
    ring_set(setting->depth, 1);
    return true;
}

ALWAYS_INLINE void put_and_free_block(void *object, uint64_t number)
{
    (void)number;
    ring_put(object, FIELD_BLOCK, free_objects);
}

ALWAYS_INLINE void put_and_free_one(void *object, uint64_t number)
{
    (void)number;
    ring_put(object, 1, free_objects);
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
    {RING_WORKERS, .id = "floor-blocks", .open = open_blocks, .work = work_blocks, .finish = free_rest},
    {RING_WORKERS, .id = "floor-ones", .open = open_ones, .work = work_ones, .finish = free_rest},
};
