/* SPDX-License-Identifier: MIT */
/*
 * weir/page_cache.h: threads that change CPUs, and a signal handler that interrupts them, allocate and free
 * pages and extents in all ways, decay, drain, shrink and ask for statistics, in a range that is often
 * exhausted, while the helper thread decays as well. Whoever has a page writes to its first and last word;
 * every page is counted in the end.
 */
#include "stress.h"

#define FIXTURE_FAIL stress_fail
#include "readers.h"
#include "weir/page_cache.h"
#include "weir/shrinker.h"

enum { PAGE = 4096, RANGE = 1024, MOST_HELD = 200, PUBLISHED = 16, BATCH = 16, MOST_EXTENTS = 4, MIN = 20 };

static struct weir_page_cache *pages;
static unsigned owned[2 * RANGE]; /* by page number; the range is aligned to half of its size */
static char *published[PUBLISHED];
static unsigned cpus[64], nr_cpus;

struct hand {
    void *pages[MOST_HELD];
    size_t n;
    struct {
        char *first; /* NULL: none */
        size_t pages;
    } extents[MOST_EXTENTS];
    uint64_t random;
};

static unsigned *owner_of(const void *page)
{
    return &owned[(uintptr_t)page / PAGE % (2 * RANGE)];
}

static uint64_t *first_word(void *page)
{
    return page;
}

static uint64_t *last_word(void *page)
{
    return (uint64_t *)page + PAGE / sizeof(uint64_t) - 1;
}

static void *own(void *page, uint64_t pattern)
{
    if ((uintptr_t)page % PAGE != 0)
        stress_fail("page %p is not aligned", page);
    if (weir_xchg_relaxed(owner_of(page), 1u) != 0)
        stress_fail("a page was handed out twice");
    *first_word(page) = pattern;
    *last_word(page) = ~pattern;
    return page;
}

static void *disown(void *page)
{
    if (*first_word(page) != ~*last_word(page))
        stress_fail("somebody wrote to a page that was not his");
    if (weir_xchg_relaxed(owner_of(page), 0u) != 1)
        stress_fail("a page had two owners");
    return page;
}

static void take(struct hand *hand)
{
    if (hand->n == MOST_HELD)
        return;
    void *page = hand->random & 64 ? weir_page_alloc(pages) : NULL;
    if (!page) {
        size_t populated = weir_page_alloc_bulk_array(pages, 1, &page);
        if (populated != (page != NULL))
            stress_fail("alloc_bulk_array says %zu and leaves %p", populated, page);
    }
    if (page)
        hand->pages[hand->n++] = own(page, stress_random(&hand->random));
}

static void take_array(struct hand *hand, size_t n)
{
    void *array[32] = {NULL};
    size_t populated, found = 0;
    n = n < MOST_HELD - hand->n ? n : MOST_HELD - hand->n;
    if (n > 3 && hand->n != 0)
        array[n / 2] = hand->pages[--hand->n];
    void *kept = array[n / 2];
    populated = weir_page_alloc_bulk_array(pages, n, array);
    for (size_t i = 0; i < n; i++) {
        if (!array[i])
            continue;
        found++;
        hand->pages[hand->n++] = array[i] == kept ? kept : own(array[i], stress_random(&hand->random));
    }
    if (found != populated)
        stress_fail("alloc_bulk_array says %zu, but fills %zu of %zu", populated, found, n);
    if (kept && array[n / 2] != kept)
        stress_fail("alloc_bulk_array changed a slot that was not NULL");
}

static void take_list(struct hand *hand, size_t n)
{
    WEIR_LLIST_HEAD(list);
    n = n < MOST_HELD - hand->n ? n : MOST_HELD - hand->n;
    size_t said = weir_page_alloc_bulk_list(pages, n, &list), found = 0;
    for (struct weir_llist_node *node = weir_llist_del_all(&list), *next; node; node = next, found++) {
        next = weir_llist_next(node);
        hand->pages[hand->n++] = own(node, stress_random(&hand->random));
    }
    if (said != found)
        stress_fail("alloc_bulk_list says %zu, but the list has %zu", said, found);
}

static void take_nolock(struct hand *hand)
{
    void *page = hand->n < MOST_HELD ? weir_page_alloc_nolock(pages) : NULL;
    if (page)
        hand->pages[hand->n++] = own(page, stress_random(&hand->random));
}

static void give_nolock(struct hand *hand)
{
    if (hand->n != 0)
        weir_page_free_nolock(pages, disown(hand->pages[--hand->n]));
}

static void give_extent(struct hand *hand, unsigned which)
{
    char *first = hand->extents[which].first;
    size_t n = hand->extents[which].pages;
    if (!first)
        return;
    for (size_t i = 0; i < n; i++)
        disown(first + i * PAGE);
    weir_extent_free(pages, first, n);
    hand->extents[which].first = NULL;
}

static void take_extent(struct hand *hand, unsigned which, size_t n)
{
    give_extent(hand, which);
    char *first = weir_extent_alloc(pages, n);
    for (size_t i = 0; first && i < n; i++)
        own(first + i * PAGE, stress_random(&hand->random));
    hand->extents[which].first = first;
    hand->extents[which].pages = n;
}

static void give(struct hand *hand)
{
    if (hand->n != 0)
        weir_page_free(pages, disown(hand->pages[--hand->n]));
}

static void give_bulk(struct hand *hand, size_t n)
{
    void *array[64] = {NULL};
    n = n < hand->n ? n : hand->n;
    for (size_t i = 0; i < n; i++)
        array[2 * i] = disown(hand->pages[--hand->n]);
    weir_page_free_bulk(pages, 2 * n, array);
}

static void publish(struct hand *hand, unsigned where)
{
    char *page = hand->n != 0 ? hand->pages[--hand->n] : NULL;
    char *old = weir_xchg_acq_rel(&published[where], page);
    if (old)
        weir_page_free_rcu(pages, disown(old));
}

static void read_published(uint64_t dice)
{
    char *page = weir_load_acquire(&published[dice % PUBLISHED]);
    if (!page)
        return;
    uint64_t pattern = *first_word(page);
    if ((dice >> 8 & 15) == 0)
        fixture_sleep((unsigned)(dice >> 12 & 63));
    else if ((dice >> 8 & 15) == 1)
        sched_yield();
    if (*first_word(page) != pattern || *last_word(page) != ~pattern)
        stress_fail("a page was used again while a reader was looking at it");
}

static void interrupt(void)
{
    static uint64_t number;
    struct hand hand = {.random = weir_fetch_add_relaxed(&number, UINT64_C(1)) + 1};
    if (!reader_is_online)
        return;
    for (unsigned i = 0; i < 3; i++)
        take(&hand);
    take_array(&hand, 6);
    take_list(&hand, 3);
    take_nolock(&hand);
    take_extent(&hand, 0, hand.random % 9 + 1);
    give(&hand);
    give_bulk(&hand, 4);
    give_nolock(&hand);
    give_extent(&hand, 0);
    while (hand.n)
        give(&hand);
}

static enum weir_drain any_drain(uint64_t dice)
{
    if (dice & 1)
        return WEIR_DRAIN_QUIET;
    return fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED;
}

static void seldom(uint64_t dice)
{
    struct weir_page_cache_stats stats;
    switch (dice % 9) {
    case 0:
        fixture_change_cpu(cpus, nr_cpus, dice >> 8);
        break;
    case 1:
        weir_page_cache_drain_all(pages, any_drain(dice >> 8));
        break;
    case 2:
        weir_page_cache_drain_cpu(pages, cpus[(dice >> 16) % nr_cpus], any_drain(dice >> 8));
        break;
    case 3:
        weir_page_cache_rcu_barrier(pages);
        break;
    case 4:
    case 5:
        if (weir_page_cache_decay(pages) % PAGE != 0)
            stress_fail("decay gave part of a page back");
        break;
    case 6:
        weir_shrink((size_t)(dice >> 8 & 255) * PAGE);
        break;
    default:
        weir_page_cache_stats(pages, &stats);
        if (stats.frames > stats.capacity || stats.frames_peak > stats.capacity)
            stress_fail("%zu of %zu pages are out, at most there were %zu", stats.frames, stats.capacity,
                        stats.frames_peak);
    }
}

static void step(struct hand *hand)
{
    uint64_t dice = stress_random(&hand->random);
    switch (dice & 15) {
    case 0:
        take_array(hand, dice >> 8 & 31);
        break;
    case 1:
        take_list(hand, dice >> 8 & 127);
        break;
    case 2:
    case 3:
        give_bulk(hand, dice >> 8 & 31);
        break;
    case 4:
    case 5:
        publish(hand, (unsigned)(dice >> 8) % PUBLISHED);
        break;
    case 6:
    case 7:
        read_published(dice >> 8);
        break;
    case 8:
        if ((dice >> 8 & 31) == 0)
            seldom(dice >> 16);
        break;
    case 9: /* now and then all of it */
        if ((dice >> 8 & 255) == 0)
            while (hand->n)
                give(hand);
        break;
    case 10:
        if (dice >> 8 & 1)
            take_nolock(hand);
        else
            give_nolock(hand);
        break;
    case 11:
        if (dice >> 8 & 1)
            take_extent(hand, dice >> 9 & (MOST_EXTENTS - 1),
                        (dice >> 16) % ((dice >> 32 & 7) != 0 ? 8 : 256) + 1);
        else
            give_extent(hand, dice >> 9 & (MOST_EXTENTS - 1));
        break;
    case 12:
    case 13:
        give(hand);
        break;
    default:
        take(hand);
    }
    if ((dice >> 56 & 3) == 0)
        reader_quiescent();
}

static void *work(void *argument)
{
    struct hand hand = {.random = stress_seed((unsigned)(uintptr_t)argument)};
    reader_register();
    while (!stress_stopped())
        step(&hand);
    for (unsigned i = 0; i < MOST_EXTENTS; i++)
        give_extent(&hand, i);
    while (hand.n)
        give(&hand);
    reader_unregister();
    return NULL;
}

/* The helper thread may have some in its hands for a moment. */
static struct weir_page_cache_stats stats_when_drained(void)
{
    struct weir_page_cache_stats stats;
    for (unsigned i = 0; i < 1000; i++) {
        weir_page_cache_drain_all(pages, any_drain(0));
        weir_page_cache_stats(pages, &stats);
        if (stats.frames == stats.block_pages && stats.cache.cached == 0 && stats.extent_pool_pages == 0 &&
            stats.parked == 0)
            return stats;
        fixture_sleep(10000);
    }
    stress_fail("after a drain %zu pages are out, %zu cached, %zu in idle extents, %zu hold magazines",
                stats.frames, stats.cache.cached, stats.extent_pool_pages, stats.block_pages);
}

int main(int argc, char **argv)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    struct weir_page_cache_stats stats;

    stress_start(argc, argv);
    nr_cpus = fixture_cpus(cpus, 64);
    puts(weir_percpu_reason());
    struct weir_grace *grace = readers_grace();
    config.capacity = (size_t)RANGE * PAGE;
    config.batch = BATCH;
    config.high_fraction = 8;
    config.grace = grace;
    config.registered_users = true;
    config.decay_milliseconds = 5;
    config.min = MIN;
    config.name = "stress";
    if (weir_page_cache_create(&pages, &config))
        stress_fail("cannot create the page cache");

    stress_run(work, stress.milliseconds, interrupt);

    for (unsigned i = 0; i < PUBLISHED; i++)
        if (published[i])
            weir_page_free_rcu(pages, disown(published[i]));
    weir_page_cache_rcu_barrier(pages);
    for (unsigned i = 0; i < 2 * RANGE; i++)
        if (owned[i])
            stress_fail("page %u was forgotten", i);
    weir_page_cache_stats(pages, &stats);
    if (stats.extents != 0 || stats.extent_pages != 0)
        stress_fail("at rest %zu extents are out", stats.extents);
    stats = stats_when_drained();
    printf("%llu pages from the frames, %llu after a grace period, at most %zu out, %zu for magazines, %llu "
           "waits\n",
           (unsigned long long)stats.cache.allocated, (unsigned long long)stats.cache.rcu_freed,
           stats.frames_peak, stats.block_pages, (unsigned long long)stats.cache.rcu_waits);
    if (weir_page_cache_destroy(pages))
        stress_fail("pages are out, says destroy");
    weir_grace_put(grace);
    return 0;
}
