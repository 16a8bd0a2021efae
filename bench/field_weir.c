/* SPDX-License-Identifier: MIT */
/* field_weir.c - weir's deferred free: of malloc'd objects in both forms, by turns and alone; of pages, and
 * their floor: see field_ring.h. */
#include <string.h>
#include <urcu/urcu-qsbr.h>

#include "field_ring.h"

struct object {
    unsigned char first;
    struct weir_rcu_head head;
};
_Static_assert(sizeof(struct object) <= 32, "the smallest --object-bytes");

static struct weir_reclaimer *reclaimer;
/* Not the first word of a page, wherever the linker puts it: see struct run in deferred.c. */
static struct {
    void *unused;
    struct weir_page_cache *pages;
} the WEIR_ALIGNED(16);
static size_t page_block; /* that the floor frees at once */

/* As free() by default: a call for each object. And they are counted. */
static void free_bulk(void *arg, size_t n, void *objects[])
{
    (void)arg;
    for (size_t i = 0; i < n; i++)
        field_free(objects[i]);
}

static bool opened(int error)
{
    if (error != 0)
        fprintf(stderr, "%s\n", strerror(-error));
    return error == 0;
}

static bool open_reclaimer(const struct field_setting *setting)
{
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    config.free_bulk = free_bulk;
    config.free_step = setting->free_step;
    return opened(weir_reclaimer_create(&reclaimer, &config));
}

static void barrier(void)
{
    weir_free_rcu_barrier(reclaimer);
}

static uint64_t periods(void)
{
    struct weir_reclaimer_stats stats;
    weir_reclaimer_stats(reclaimer, &stats);
    return stats.periods;
}

static bool close_reclaimer(void)
{
    return weir_reclaimer_destroy(reclaimer) == 0;
}

ALWAYS_INLINE void two_argument(void *object, uint64_t number)
{
    (void)number;
    weir_free_rcu(reclaimer, object, &((struct object *)object)->head);
}

ALWAYS_INLINE void mightsleep(void *object, uint64_t number)
{
    (void)number;
    weir_free_rcu_mightsleep(reclaimer, object);
}

ALWAYS_INLINE void both(void *object, uint64_t number)
{
    if (number % 2 == 0)
        two_argument(object, number);
    else
        mightsleep(object, number);
}

static void work_both(struct field_worker *worker)
{
    field_loop(worker, field_malloc, both, urcu_qsbr_quiescent_state);
}

static void work_two_argument(struct field_worker *worker)
{
    field_loop(worker, field_malloc, two_argument, urcu_qsbr_quiescent_state);
}

static void work_mightsleep(struct field_worker *worker)
{
    field_loop(worker, field_malloc, mightsleep, urcu_qsbr_quiescent_state);
}

/* --- pages --- */

static bool open_pages(const struct field_setting *setting)
{
    (void)setting;
    return opened(weir_page_cache_create(&the.pages, NULL));
}

/* No page is left: they wait for readers, of which this thread is one. */
static __attribute__((noinline, cold)) void *page_again(void)
{
    void *page;
    do {
        urcu_qsbr_quiescent_state();
        sched_yield();
    } while ((page = weir_page_alloc(the.pages)) == NULL);
    return page;
}

ALWAYS_INLINE void *alloc_page(void)
{
    void *page = weir_page_alloc(the.pages);
    return weir_likely(page != NULL) ? page : page_again();
}

ALWAYS_INLINE void hand_page(void *page, uint64_t number)
{
    (void)number;
    weir_page_free_rcu(the.pages, page);
}

static void work_pages(struct field_worker *worker)
{
    field_loop(worker, alloc_page, hand_page, urcu_qsbr_quiescent_state);
}

/* What weir does, without what the memory of the pages costs. */
static void work_pages_alone(struct field_worker *worker)
{
    field_loop_of(worker, false, alloc_page, hand_page, urcu_qsbr_quiescent_state);
}

static void barrier_pages(void)
{
    weir_page_cache_rcu_barrier(the.pages);
}

static uint64_t page_periods(void)
{
    struct weir_page_cache_stats stats;
    weir_page_cache_stats(the.pages, &stats);
    return stats.cache.periods;
}

static uint64_t pages_freed(void)
{
    struct weir_page_cache_stats stats;
    weir_page_cache_stats(the.pages, &stats);
    return stats.cache.rcu_freed;
}

static bool close_pages(void)
{
    return weir_page_cache_destroy(the.pages) == 0;
}

/* --- pages without readers --- */

static bool open_page_blocks(const struct field_setting *setting)
{
    page_block = field_page_block();
    ring_set(setting->depth, page_block);
    return open_pages(setting);
}

static bool open_page_ones(const struct field_setting *setting)
{
    ring_set(setting->depth, 1);
    return open_pages(setting);
}

static void free_pages(size_t n, void *objects[])
{
    weir_page_free_bulk(the.pages, n, objects);
    field_count_freed(n);
}

static void free_page(size_t n, void *objects[])
{
    (void)n;
    weir_page_free(the.pages, objects[0]);
    field_count_freed(1);
}

ALWAYS_INLINE void put_and_free_pages(void *page, uint64_t number)
{
    (void)number;
    ring_put(page, page_block, free_pages);
}

ALWAYS_INLINE void put_and_free_page(void *page, uint64_t number)
{
    (void)number;
    ring_put(page, 1, free_page);
}

static void work_page_blocks(struct field_worker *worker)
{
    field_loop(worker, alloc_page, put_and_free_pages, urcu_qsbr_quiescent_state);
}

static void work_page_ones(struct field_worker *worker)
{
    field_loop(worker, alloc_page, put_and_free_page, urcu_qsbr_quiescent_state);
}

static void free_rest(void)
{
    ring_free_first(ring.count, free_pages);
}

#define RECLAIMER(ID, WORK)                                                                                  \
    {                                                                                                        \
        URCU_READERS, .id = (ID), .open = open_reclaimer, .work = (WORK), .barrier = barrier,                \
                      .periods = periods, .close = close_reclaimer                                           \
    }

const struct field_contender field_weir[7] = {
    RECLAIMER("weir", work_both),
    RECLAIMER("weir-two-argument", work_two_argument),
    RECLAIMER("weir-mightsleep", work_mightsleep),
    {URCU_READERS, .id = "weir-pages", .open = open_pages, .work = work_pages, .barrier = barrier_pages,
     .periods = page_periods, .freed = pages_freed, .close = close_pages},
    {URCU_READERS, .id = "weir-pages-alone", .open = open_pages, .work = work_pages_alone,
     .barrier = barrier_pages, .periods = page_periods, .freed = pages_freed, .close = close_pages},
    {RING_WORKERS, .id = "floor-page-blocks", .open = open_page_blocks, .work = work_page_blocks,
     .finish = free_rest, .close = close_pages},
    {RING_WORKERS, .id = "floor-page-ones", .open = open_page_ones, .work = work_page_ones,
     .finish = free_rest, .close = close_pages},
};
