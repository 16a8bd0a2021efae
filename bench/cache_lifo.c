/* SPDX-License-Identifier: MIT */
/* cache_lifo.c - the least one can do: a linked list per thread, last in, first out, no atomics. */
#include <stdlib.h>

#include "cache_loop.h"

struct lifo_object {
    struct lifo_object *next;
};

static __thread struct lifo_object *lifo;
static uint64_t made, unmade; /* objects; each thread gives back what it has at its end */

static __attribute__((noinline, cold)) void *lifo_grow(void)
{
    size_t bytes = cache_object_bytes;
    void *object = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (object != NULL)
        weir_fetch_add_relaxed(&made, UINT64_C(1)); /* relaxed: read when all threads have been joined */
    return object;
}

ALWAYS_INLINE void *lifo_alloc(size_t bytes)
{
    struct lifo_object *object = lifo;
    (void)bytes;
    if (weir_unlikely(object == NULL))
        return lifo_grow();
    lifo = object->next;
    return object;
}

ALWAYS_INLINE void lifo_free(void *pointer)
{
    struct lifo_object *object = pointer;
    object->next = lifo;
    lifo = object;
}

ALWAYS_INLINE bool lifo_alloc_bulk(size_t n, void *objects[])
{
    for (size_t i = 0; i < n; i++)
        objects[i] = lifo_alloc(0);
    return true;
}

ALWAYS_INLINE void lifo_free_bulk(size_t n, void *objects[])
{
    for (size_t i = 0; i < n; i++)
        lifo_free(objects[i]);
}

static __attribute__((noinline)) void *called_alloc(size_t bytes)
{
    return lifo_alloc(bytes);
}

static __attribute__((noinline)) void called_free(void *object)
{
    lifo_free(object);
}

static __attribute__((noinline)) bool called_alloc_bulk(size_t n, void *objects[])
{
    return lifo_alloc_bulk(n, objects);
}

static __attribute__((noinline)) void called_free_bulk(size_t n, void *objects[])
{
    lifo_free_bulk(n, objects);
}

static bool open_lifo(const struct cache_setting *setting)
{
    (void)setting;
    return true;
}

static void leave_lifo(void)
{
    while (lifo != NULL) {
        struct lifo_object *object = lifo;
        lifo = object->next;
        free(object);
        weir_fetch_add_relaxed(&unmade, UINT64_C(1));
    }
}

static double pairs_inlined(unsigned run, bool touch)
{
    return pairs_of(lifo_alloc, lifo_free, run, touch);
}

static double bulk_inlined(unsigned n)
{
    return bulk_of(lifo_alloc_bulk, lifo_free_bulk, n, BULK_COUNT);
}

static uint64_t missing(void)
{
    return made - unmade;
}

const struct cache_contender cache_lifo = {
    .open = open_lifo,
    .leave = leave_lifo,
    .alloc = called_alloc,
    .free_it = called_free,
    .alloc_bulk = called_alloc_bulk,
    .free_bulk = called_free_bulk,
    .pairs_inlined = pairs_inlined,
    .bulk_inlined = bulk_inlined,
    .missing = missing,
};
