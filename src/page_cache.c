/* SPDX-License-Identifier: MIT */
/* page_cache.c - the engine over the frames: see weir/page_cache.h. */
#define _GNU_SOURCE
#include "weir/page_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cache.h"
#include "frames.h"

#define DECAY_PERCENT 25

struct weir_page_cache {
    struct weir__page_cache_paths paths; /* first: the inline functions read it */
    struct weir__frames frames;
    size_t block_pages; /* frames that hold the engine's magazines */
    size_t lent_pages;  /* ... and others', through weir_page_cache_block_source() */
};

/* --- the frames as the engine's backend, and as memory for its magazines --- */

static size_t frames_alloc(void *backend, size_t n, void *objects[])
{
    return weir__frames_alloc(backend, n, objects);
}

static void frames_free(void *backend, size_t n, void *objects[])
{
    weir__frames_free(backend, n, objects);
}

static const struct weir_cache_ops frames_ops = {frames_alloc, frames_free};

static void *frame_get(struct weir_page_cache *pages, size_t *count, size_t *bytes)
{
    void *frame;
    if (weir__frames_alloc(&pages->frames, 1, &frame) == 0)
        return NULL;
    weir_fetch_add_relaxed(count, (size_t)1); /* a statistic, and for destroy, when all is still */
    *bytes = pages->frames.frame_bytes;
    return frame;
}

static void frame_put(struct weir_page_cache *pages, size_t *count, void *frame)
{
    /* Before the frame can be had again, so that no more are counted than there are. */
    weir_fetch_sub_relaxed(count, (size_t)1);
    weir__frames_free(&pages->frames, 1, &frame);
}

static void *chunk_get(void *arg, size_t *bytes)
{
    struct weir_page_cache *pages = arg;
    return frame_get(pages, &pages->block_pages, bytes);
}

static void chunk_put(void *arg, void *chunk, size_t bytes)
{
    struct weir_page_cache *pages = arg;
    (void)bytes;
    frame_put(pages, &pages->block_pages, chunk);
}

static void *lent_get(void *arg, size_t *bytes)
{
    struct weir_page_cache *pages = arg;
    return frame_get(pages, &pages->lent_pages, bytes);
}

static void lent_put(void *arg, void *frame, size_t bytes)
{
    struct weir_page_cache *pages = arg;
    (void)bytes;
    frame_put(pages, &pages->lent_pages, frame);
}

void weir_page_cache_block_source(struct weir_page_cache *pages, struct weir_block_source *source)
{
    *source = (struct weir_block_source){lent_get, lent_put, pages, pages->frames.frame_bytes};
}

/* --- bulk --- */

size_t weir_page_alloc_bulk_array(struct weir_page_cache *pages, size_t n, void *array[])
{
    size_t populated = 0;
    bool more = true;

    for (size_t i = 0; i < n;) {
        size_t run = 0; /* of NULLs */
        while (i + run < n && array[i + run] == NULL)
            run++;
        if (run == 0) {
            populated++;
            i++;
            continue;
        }
        size_t got = more ? weir_cache_alloc_bulk(pages->paths.cache, run, array + i) : 0;
        more = got == run;
        /* A sequence that was restarted may have copied more before than there was the second time. */
        for (size_t j = got; j < run; j++)
            array[i + j] = NULL;
        populated += got;
        i += run;
    }
    return populated;
}

size_t weir_page_alloc_bulk_list(struct weir_page_cache *pages, size_t n, struct weir_llist_head *list)
{
    void *batch[64];
    size_t done = 0, got, want;
    do {
        want = n - done < 64 ? n - done : 64;
        got = weir_cache_alloc_bulk(pages->paths.cache, want, batch);
        for (size_t i = 0; i + 1 < got; i++)
            weir_store_relaxed(&((struct weir_llist_node *)batch[i])->next, batch[i + 1]);
        if (got != 0)
            weir_llist_add_batch(batch[0], batch[got - 1], list);
        done += got;
    } while (got == want && done < n);
    return done;
}

void weir_page_free_bulk(struct weir_page_cache *pages, size_t n, void *const array[])
{
    for (size_t i = 0; i < n;) {
        size_t run = 0; /* of pages */
        while (i + run < n && array[i + run] != NULL)
            run++;
        weir_cache_free_bulk(pages->paths.cache, run, array + i);
        i += run + 1;
    }
}

void *weir__page_alloc_slow(struct weir_page_cache *pages)
{
    return weir__cache_alloc_slow(pages->paths.cache);
}

void weir__page_free_slow(struct weir_page_cache *pages, void *page)
{
    weir__cache_free_slow(pages->paths.cache, page);
}

void weir__page_free_rcu_slow(struct weir_page_cache *pages, void *page)
{
    weir__cache_free_rcu_slow(pages->paths.cache, page);
}

/* --- giving back --- */

int weir_page_cache_rcu_barrier(struct weir_page_cache *pages)
{
    return weir_cache_rcu_barrier(pages->paths.cache);
}

size_t weir_page_cache_decay(struct weir_page_cache *pages)
{
    if (!weir__enter())
        return 0;
    weir_cache_decay(pages->paths.cache);
    size_t released = weir__frames_release(&pages->frames, DECAY_PERCENT);
    weir__leave();
    return released;
}

size_t weir_page_cache_drain_cpu(struct weir_page_cache *pages, unsigned cpu, enum weir_drain how)
{
    return weir_cache_drain_cpu(pages->paths.cache, cpu, how);
}

size_t weir_page_cache_drain_all(struct weir_page_cache *pages, enum weir_drain how)
{
    size_t drained = weir_cache_drain_all(pages->paths.cache, how);
    if (errno == 0 && weir__enter()) {
        weir__frames_release(&pages->frames, 100);
        weir__leave();
        errno = 0; /* whatever the system call left there */
    }
    return drained;
}

void weir_page_cache_stats(struct weir_page_cache *pages, struct weir_page_cache_stats *stats)
{
    weir_cache_stats(pages->paths.cache, &stats->cache);
    stats->page_size = pages->frames.frame_bytes;
    stats->capacity = pages->frames.frames;
    stats->frames = weir_load_relaxed(&pages->frames.out);
    stats->frames_peak = weir_load_relaxed(&pages->frames.out_peak);
    stats->block_pages = weir_load_relaxed(&pages->block_pages) + weir_load_relaxed(&pages->lent_pages);
}

/* --- making and unmaking --- */

static int check_config(const struct weir_page_cache_config *config)
{
    size_t page = config->page_size;
    if (page < 4096 || page > 65536 || (page & (page - 1)) != 0)
        return -EINVAL;
    if (config->high_fraction != 0 && config->high_fraction < 8)
        return -EINVAL;
    /* A magazine and the chunk's header must fit into the page it comes from. */
    if (config->batch > WEIR_MAGAZINE_CAPACITY(page - WEIR__CHUNK_HEADER))
        return -EINVAL;
    if (config->capacity > SIZE_MAX / 4)
        return -EINVAL;
    return 0;
}

static size_t quarter_of_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages / 4 * (size_t)page : (size_t)256 << 20;
}

int weir_page_cache_create(struct weir_page_cache **result, const struct weir_page_cache_config *given)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;

    *result = NULL;
    if (given != NULL)
        config = *given;
    if (config.page_size == 0)
        config.page_size = 4096;
    if (config.capacity == 0)
        config.capacity = quarter_of_memory();
    int error = check_config(&config);
    if (error == 0)
        error = weir_percpu_init();
    if (error != 0)
        return error;

    struct weir_page_cache *pages = aligned_alloc(WEIR_LINE_PAIR, sizeof *pages);
    if (pages == NULL)
        return -ENOMEM;
    *pages = (struct weir_page_cache){0};
    error = weir__frames_init(
        &pages->frames, &(struct weir__frames_config){config.capacity, config.page_size, 0, 0, 0, 0, 0, 0});
    if (error != 0) {
        free(pages);
        return error;
    }
    struct weir_cache_config engine = WEIR_CACHE_CONFIG_INIT;
    engine.ops = &frames_ops;
    engine.backend = &pages->frames;
    engine.capacity = config.batch;
    if (config.high_fraction != 0)
        engine.high = pages->frames.frames / config.high_fraction;
    if (config.high_fraction != 0 && engine.high == 0)
        engine.high = 1; /* 0 is the default */
    engine.grace = config.grace;
    engine.registered_users = config.registered_users;
    engine.object_size = config.page_size;
    engine.decay_milliseconds = WEIR_CACHE_DECAY_NEVER; /* weir_page_cache_decay() gives frames back, too */
    engine.name = "page cache";
    /* Without a unit: the engine's magazines, which are in its depots, stay. */
    const struct weir_block_source chunks = {chunk_get, chunk_put, pages, 0};
    const struct weir__cache_surroundings around = {.chunks = &chunks};
    error = weir__cache_create(&pages->paths.cache, &engine, &around);
    if (error != 0) {
        weir__frames_destroy(&pages->frames);
        free(pages);
        return error;
    }
    pages->paths.engine = *(const struct weir__cache_paths *)(const void *)pages->paths.cache;
    *result = pages;
    return 0;
}

int weir_page_cache_destroy(struct weir_page_cache *pages)
{
    if (pages == NULL)
        return 0;
    int error = weir_page_cache_rcu_barrier(pages);
    if (error != 0)
        return error;
    weir_cache_shrink(pages->paths.cache);
    if (weir_load_relaxed(&pages->frames.out) != weir_load_relaxed(&pages->block_pages))
        return -EBUSY; /* pages, or what holds others' magazines */
    error = weir_cache_destroy(pages->paths.cache);
    if (error != 0)
        return error;
    weir__frames_destroy(&pages->frames);
    free(pages);
    return 0;
}
