/* SPDX-License-Identifier: MIT */
/* recycle.c - the slow sides of the recycling ring: see weir/recycle.h, and ring.h for the ring. */
#define _GNU_SOURCE
#include "weir/recycle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fork.h"
#include "heirs.h"
#include "ring.h"

enum { BATCH = 64 };

struct weir_recycle {
    /* Is only read. */
    struct weir_cache_ops ops;
    void *backend;
    size_t refill;
    struct weir__heir heir;

    /* The consumer's. */
    struct weir__recycle_cache cache WEIR_ALIGNED(WEIR__PATHS_OFFSET); /* the inline functions use it */
    uint64_t slow, refills, empty;                                     /* statistics */

    struct weir__ring ring;

    uint64_t full WEIR_ALIGNED(WEIR_LINE_PAIR); /* a statistic of those who free */
} WEIR_ALIGNED(WEIR_LINE_PAIR);
_Static_assert(offsetof(struct weir_recycle, cache) == WEIR__PATHS_OFFSET, "");

/* A statistic that only the consumer writes. */
static void count(uint64_t *statistic, uint64_t n)
{
    weir_store_relaxed(statistic, *statistic + n);
}

/* --- free --- */

/* Checked builds: what is freed is not in the ring. Relaxed: who owns it has got it from the consumer, who
 * emptied its place before. */
static void check_not_in_ring(const struct weir_recycle *recycle, const void *buffer)
{
#ifdef WEIR_CHECKED
    weir__check(buffer != NULL, "weir_recycle_free", buffer, "is no buffer");
    for (uint64_t i = 0; i < recycle->ring.size; i++)
        weir__check(weir_load_relaxed(&recycle->ring.place[i]) != buffer, "weir_recycle_free", buffer,
                    "is free already");
#else
    (void)recycle, (void)buffer;
#endif
}

void weir__recycle_check_free(struct weir_recycle *recycle, const void *buffer)
{
    check_not_in_ring(recycle, buffer);
    for (uint64_t i = 0; i < recycle->cache.filled - recycle->cache.taken; i++)
        weir__check(recycle->cache.objects[i] != buffer, "weir_recycle_free_local", buffer,
                    "is free already");
}

/* The allocator may write to the array that it gets. */
static void to_allocator(struct weir_recycle *recycle, size_t n, void *const objects[])
{
    void *batch[BATCH];
    for (size_t done = 0, some; done < n; done += some) {
        some = n - done < BATCH ? n - done : BATCH;
        memcpy(batch, objects + done, some * sizeof batch[0]);
        recycle->ops.free_bulk(recycle->backend, some, batch);
    }
}

/* n not 0. */
static void put(struct weir_recycle *recycle, size_t n, void *const objects[])
{
    size_t kept = weir__ring_put(&recycle->ring, n, objects);
    if (weir_likely(kept == n))
        return;
    weir_fetch_add_relaxed(&recycle->full, (uint64_t)(n - kept)); /* relaxed: a statistic */
    to_allocator(recycle, n - kept, objects + kept);
}

void weir_recycle_free_bulk(struct weir_recycle *recycle, size_t n, void *const objects[])
{
    for (size_t i = 0; i < n; i++)
        check_not_in_ring(recycle, objects[i]);
    if (n != 0)
        put(recycle, n, objects);
}

void weir_recycle_free(struct weir_recycle *recycle, void *buffer)
{
    check_not_in_ring(recycle, buffer);
    put(recycle, 1, &buffer);
}

/* The cache is full. */
void weir__recycle_spill(struct weir_recycle *recycle)
{
    struct weir__recycle_cache *cache = &recycle->cache;
    size_t n = recycle->refill;
    void **top = cache->objects + (cache->capacity - n);
    /* First, for the child of a fork() in between: they must not be in both. Relaxed: what they go to is
     * written with release, or in the allocator. */
    weir_store_relaxed(&cache->filled, cache->filled - n);
    put(recycle, n, top);
}

/* --- alloc --- */

static size_t from_ring(struct weir_recycle *recycle, size_t n, void *objects[])
{
    size_t got = weir__ring_take(&recycle->ring, n, objects);
    count(got != 0 ? &recycle->refills : &recycle->empty, 1);
    return got;
}

static size_t from_allocator(struct weir_recycle *recycle, size_t n, void *objects[])
{
    size_t got = recycle->ops.alloc_bulk(recycle->backend, n, objects);
    count(&recycle->slow, got);
    return got;
}

/* The cache is empty. */
void *weir__recycle_alloc_slow(struct weir_recycle *recycle)
{
    struct weir__recycle_cache *cache = &recycle->cache;
    size_t got = from_ring(recycle, recycle->refill, cache->objects);
    if (got == 0)
        got = from_allocator(recycle, recycle->refill, cache->objects);
    if (got == 0)
        return NULL;
    /* Release, for the child of a fork() at this moment: what is counted here is in no other place. */
    weir_store_release(&cache->filled, cache->filled + got - 1);
    return cache->objects[got - 1];
}

static size_t from_cache(struct weir__recycle_cache *cache, size_t n, void *objects[])
{
    size_t left = (size_t)(cache->filled - cache->taken), got = n < left ? n : left;
    memcpy(objects, cache->objects + (left - got), got * sizeof objects[0]);
    weir_store_relaxed(&cache->taken, cache->taken + got); /* relaxed: others read it for statistics */
    return got;
}

size_t weir_recycle_alloc_bulk(struct weir_recycle *recycle, size_t n, void *objects[])
{
    if (n == 0)
        return 0;
    weir__recycle_begin(&recycle->cache, "weir_recycle_alloc_bulk");
    size_t got = from_cache(&recycle->cache, n, objects);
    if (got < n)
        got += from_ring(recycle, n - got, objects + got);
    if (got < n)
        got += from_allocator(recycle, n - got, objects + got);
    weir__recycle_end(&recycle->cache);
    return got;
}

/* --- making and unmaking --- */

const char *weir_recycle_config_error(const struct weir_recycle_config *config)
{
    if (config == NULL)
        return "config: is NULL, but ops has no default";
    if (config->ops == NULL || config->ops->alloc_bulk == NULL || config->ops->free_bulk == NULL)
        return "ops: alloc_bulk and free_bulk must both be there";
    if (config->ring > WEIR_RECYCLE_RING_MAX || (config->ring & (config->ring - 1)) != 0)
        return "ring: a power of two, at most 16777216 places, or 0 for the default";
    if (config->cache > WEIR_RECYCLE_CACHE_MAX)
        return "cache: at most 65536 pointers";
    if (config->refill > (config->cache != 0 ? config->cache : WEIR_RECYCLE_CACHE_DEFAULT))
        return "refill: at most as many as the cache holds";
    return NULL;
}

/* In a child of fork(): who had reserved a place is no more. */
static void inherit(struct weir__heir *heir)
{
    struct weir_recycle *recycle =
        (struct weir_recycle *)(void *)((char *)heir - offsetof(struct weir_recycle, heir));
    weir__ring_close_up(&recycle->ring);
    recycle->cache.busy = 0;
}

static void **make_pointers(size_t n)
{
    size_t bytes = (n * sizeof(void *) + WEIR_LINE_PAIR - 1) / WEIR_LINE_PAIR * WEIR_LINE_PAIR;
    void **pointers = aligned_alloc(WEIR_LINE_PAIR, bytes);
    if (pointers != NULL)
        memset(pointers, 0, bytes);
    return pointers;
}

static void free_all(struct weir_recycle *recycle)
{
    free(recycle->ring.place);
    free(recycle->cache.objects);
    free(recycle);
}

static size_t choice(size_t given, size_t otherwise)
{
    return given != 0 ? given : otherwise;
}

int weir_recycle_create(struct weir_recycle **result, const struct weir_recycle_config *config)
{
    *result = NULL;
    if (weir_recycle_config_error(config) != NULL)
        return -EINVAL;
    int error = weir_percpu_init(); /* the gate counts by CPU */
    if (error != 0)
        return error;
    struct weir_recycle *recycle = aligned_alloc(WEIR_LINE_PAIR, sizeof *recycle);
    if (recycle == NULL)
        return -ENOMEM;
    size_t cache = choice(config->cache, WEIR_RECYCLE_CACHE_DEFAULT);
    size_t refill = cache < WEIR_RECYCLE_REFILL_DEFAULT ? cache : WEIR_RECYCLE_REFILL_DEFAULT;
    *recycle = (struct weir_recycle){.ops = *config->ops,
                                     .backend = config->backend,
                                     .refill = choice(config->refill, refill),
                                     .heir = {.inherit = inherit}};
    recycle->ring.size = choice(config->ring, WEIR_RECYCLE_RING_DEFAULT);
    recycle->ring.place = make_pointers((size_t)recycle->ring.size);
    recycle->cache.capacity = cache;
    recycle->cache.objects = make_pointers(cache);
    error = recycle->ring.place != NULL && recycle->cache.objects != NULL ? 0 : -ENOMEM;
    if (error == 0 && !weir__heirs_add(&recycle->heir))
        error = -EOWNERDEAD;
    if (error != 0) {
        free_all(recycle);
        return error;
    }
    *result = recycle;
    return 0;
}

/* Gives what lies in the cache and the ring to the allocator. */
static void drain(struct weir_recycle *recycle)
{
    void *batch[BATCH];
    size_t n;
    while ((n = from_cache(&recycle->cache, BATCH, batch)) != 0)
        to_allocator(recycle, n, batch);
    while ((n = weir__ring_take(&recycle->ring, BATCH, batch)) != 0)
        to_allocator(recycle, n, batch);
}

int weir_recycle_destroy(struct weir_recycle *recycle)
{
    if (recycle == NULL)
        return 0;
    drain(recycle);
    if (weir__ring_count(&recycle->ring) != 0)
        return -EBUSY;
    if (!weir__heirs_remove(&recycle->heir))
        return -EOWNERDEAD;
    free_all(recycle);
    return 0;
}

void weir_recycle_stats(const struct weir_recycle *recycle, struct weir_recycle_stats *stats)
{
    /* Relaxed: statistics. What was taken is read first: it was filled in before, so that the difference is
     * not negative; should it be read otherwise, it counts as none. */
    uint64_t taken = weir_load_relaxed(&recycle->cache.taken);
    uint64_t filled = weir_load_relaxed(&recycle->cache.filled);
    *stats = (struct weir_recycle_stats){.cached = filled > taken ? (size_t)(filled - taken) : 0,
                                         .ring = weir__ring_count(&recycle->ring),
                                         .fast = taken,
                                         .slow = weir_load_relaxed(&recycle->slow),
                                         .refill = weir_load_relaxed(&recycle->refills),
                                         .empty = weir_load_relaxed(&recycle->empty),
                                         .full = weir_load_relaxed(&recycle->full)};
}
