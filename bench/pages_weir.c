/* SPDX-License-Identifier: MIT */
/* pages_weir.c - the page cache, inlined and called; its engine over an array of pages, which is bench/cache's;
 * and its frames alone. */
#include <stdlib.h>

#include "frames.h"
#include "pages_loop.h"
#include "weir/page_cache.h"

#define SMALL ((size_t)256 << 20) /* bytes of address space, where there is no working set */

/* --- the page cache --- */

/* Not the first word of a page, wherever the linker puts it: see struct run in deferred.c. */
static struct {
    void *unused;
    struct weir_page_cache *cache;
} the WEIR_ALIGNED(16);

static bool open_weir(const struct pages_setting *setting)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    /* Some more than the working set: for what lies in magazines, and the magazines. */
    config.capacity = setting->working_set * PAGE_BYTES * 5 / 4 + SMALL;
    return weir_page_cache_create(&the.cache, &config) == 0;
}

ALWAYS_INLINE void *page_alloc(size_t bytes)
{
    (void)bytes;
    return weir_page_alloc(the.cache);
}

ALWAYS_INLINE void page_free(void *page)
{
    weir_page_free(the.cache, page);
}

ALWAYS_INLINE void *extent_alloc(size_t bytes)
{
    (void)bytes;
    return weir_extent_alloc(the.cache, EXTENT_PAGES);
}

ALWAYS_INLINE void extent_free(void *extent)
{
    weir_extent_free(the.cache, extent, EXTENT_PAGES);
}

ALWAYS_INLINE bool array_alloc(size_t n, void *pages[])
{
    memset(pages, 0, n * sizeof pages[0]); /* only slots that are NULL are filled */
    return weir_page_alloc_bulk_array(the.cache, n, pages) == n;
}

ALWAYS_INLINE void array_free(size_t n, void *pages[])
{
    weir_page_free_bulk(the.cache, n, pages);
}

ALWAYS_INLINE void *list_alloc(size_t n)
{
    struct weir_llist_head list = WEIR_LLIST_HEAD_INIT;
    return weir_page_alloc_bulk_list(the.cache, n, &list) == n ? weir_llist_del_all(&list) : NULL;
}

ALWAYS_INLINE void list_free(size_t n, void *list)
{
    void *pages[BULK];
    struct weir_llist_node *node = list;
    for (size_t i = 0; i < n; i++, node = weir_llist_next(node))
        pages[i] = node;
    weir_page_free_bulk(the.cache, n, pages);
}

static __attribute__((noinline)) void *page_alloc_called(size_t bytes)
{
    return page_alloc(bytes);
}

static __attribute__((noinline)) void page_free_called(void *page)
{
    page_free(page);
}

static __attribute__((noinline)) void *extent_alloc_called(size_t bytes)
{
    return extent_alloc(bytes);
}

static __attribute__((noinline)) void extent_free_called(void *extent)
{
    extent_free(extent);
}

static __attribute__((noinline)) bool array_alloc_called(size_t n, void *pages[])
{
    return array_alloc(n, pages);
}

static __attribute__((noinline)) void array_free_called(size_t n, void *pages[])
{
    array_free(n, pages);
}

static __attribute__((noinline)) void *list_alloc_called(size_t n)
{
    return list_alloc(n);
}

static __attribute__((noinline)) void list_free_called(size_t n, void *list)
{
    list_free(n, list);
}

static double measure_inlined(const struct pages_job *job)
{
    return pages_time((struct pages_calls){page_alloc, extent_alloc, page_free, extent_free, array_alloc,
                                           array_free, list_alloc, list_free},
                      job);
}

static double measure_called(const struct pages_job *job)
{
    return pages_time(pages_hidden((struct pages_calls){
                          page_alloc_called, extent_alloc_called, page_free_called, extent_free_called,
                          array_alloc_called, array_free_called, list_alloc_called, list_free_called}),
                      job);
}

/* The page cache says whether all pages are back. */
static uint64_t weir_missing(void)
{
    for (size_t i = 0; i < pages_churn.pages && pages_churn.page[0] != NULL; i++)
        weir_page_free(the.cache, pages_churn.page[i]);
    return weir_page_cache_destroy(the.cache) != 0;
}

const struct pages_contender pages_weir_inlined = {open_weir, measure_inlined, weir_missing};
const struct pages_contender pages_weir_called = {open_weir, measure_called, weir_missing};

/* --- the engine --- */

static bool open_engine(const struct pages_setting *setting)
{
    const struct cache_setting engine = {.object_bytes = PAGE_BYTES};
    (void)setting;
    return cache_weir.open(&engine);
}

static double engine_inlined(const struct pages_job *job)
{
    return job->work == WORK_PAIR ? cache_weir.pairs_inlined(1, false) : cache_weir.bulk_inlined(BULK);
}

static double engine_called(const struct pages_job *job)
{
    return job->work == WORK_PAIR
               ? pairs_called(cache_weir.alloc, cache_weir.free_it, 1, false)
               : bulk_called(cache_weir.alloc_bulk, cache_weir.free_bulk, BULK, BULK_COUNT);
}

static uint64_t engine_missing(void)
{
    return cache_weir.recount();
}

const struct pages_contender pages_engine_inlined = {open_engine, engine_inlined, engine_missing};
const struct pages_contender pages_engine_called = {open_engine, engine_called, engine_missing};

/* --- the frames --- */

static struct weir__frames frames;

static bool open_frames(const struct pages_setting *setting)
{
    const struct weir__frames_config config = {.bytes = SMALL, .frame_bytes = PAGE_BYTES};
    (void)setting;
    return weir_percpu_init() == 0 && weir__frames_init(&frames, &config) == 0;
}

ALWAYS_INLINE void *frame_alloc(size_t bytes)
{
    void *frame;
    (void)bytes;
    return weir__frames_alloc(&frames, 1, &frame) == 1 ? frame : NULL;
}

ALWAYS_INLINE void frame_free(void *frame)
{
    weir__frames_free(&frames, 1, &frame);
}

ALWAYS_INLINE bool frames_alloc(size_t n, void *array[])
{
    return weir__frames_alloc(&frames, n, array) == n;
}

ALWAYS_INLINE void frames_free(size_t n, void *array[])
{
    weir__frames_free(&frames, n, array);
}

static double measure_runs(size_t n)
{
    double start = 0;
    for (unsigned i = 0; i < PAIR_WARM_UP + PAIR_COUNT; i++) {
        if (i == PAIR_WARM_UP)
            start = seconds_now();
        void *run = weir__frames_alloc_run(&frames, n);
        if (weir_unlikely(run == NULL))
            return 0;
        weir__frames_free_run(&frames, run, n);
    }
    return (seconds_now() - start) * 1e9 / PAIR_COUNT;
}

static double measure_frames(const struct pages_job *job)
{
    if (job->work == WORK_RUN)
        return measure_runs(job->n);
    return job->n == 1 ? pair_time(frame_alloc, frame_free, 1, false)
                       : bulk_time(frames_alloc, frames_free, job->n, BULK_COUNT);
}

static uint64_t frames_missing(void)
{
    return weir__frames_out(&frames);
}

const struct pages_contender pages_frames = {open_frames, measure_frames, frames_missing};
