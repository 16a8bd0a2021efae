/* SPDX-License-Identifier: MIT */
/* weir/page_cache.h: pages are aligned, counted, and go back to the system. */
#include "weir/page_cache.h"

#include "fixtures.h"
#include "weir/shrinker.h"

#include <sys/mman.h>
#include <unistd.h>

#include "weir_test.h"

enum { PAGE = 4096, RANGE = 1024, MOST = RANGE + 100 };

static struct weir_page_cache *pages;
static struct gate gate;
static void *held[MOST];
static size_t nr_held;
static char *lowest; /* that was ever held */
static unsigned cpu, other_cpu;

static struct weir_page_cache_config config_now(void)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    config.capacity = (size_t)RANGE * PAGE;
    config.batch = 8;
    config.grace = gate.grace;
    config.decay_milliseconds = WEIR_CACHE_DECAY_NEVER; /* but where it is looked at */
    return config;
}

static void start(bool open)
{
    cpu = fixture_stay(&other_cpu);
    gate_create(&gate, open);
    struct weir_page_cache_config config = config_now();
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
}

static struct weir_page_cache_stats stats_now(void)
{
    struct weir_page_cache_stats stats;
    weir_page_cache_stats(pages, &stats);
    return stats;
}

/* The pages that are not in the cache nor free. */
static void check_counts(void)
{
    struct weir_page_cache_stats stats = stats_now();
    cr_assert_eq(stats.frames, stats.block_pages + stats.cache.cached + nr_held, "%zu != %zu + %zu + %zu",
                 stats.frames, stats.block_pages, stats.cache.cached, nr_held);
    cr_assert_leq(stats.frames, stats.frames_peak);
    cr_assert_leq(stats.frames_peak, stats.capacity);
}

/* A page that the test owns from now on: writable, aligned, and nobody else's. */
static void own(void *page)
{
    cr_assert_not_null(page);
    cr_assert_eq((uintptr_t)page % PAGE, 0u);
    cr_assert_lt(nr_held, (size_t)MOST);
    memset(page, 0xee, PAGE);
    *(size_t *)page = nr_held;
    *(size_t *)((char *)page + PAGE - sizeof(size_t)) = ~nr_held;
    held[nr_held++] = page;
    lowest = lowest == NULL || (char *)page < lowest ? page : lowest;
}

static size_t take_n(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *page = weir_page_alloc(pages);
        if (page == NULL)
            return i;
        own(page);
    }
    return n;
}

/* Nobody has written to it. */
static void *disown(void)
{
    cr_assert_gt(nr_held, 0u);
    char *page = held[--nr_held];
    cr_assert_eq(*(size_t *)(void *)page, nr_held);
    cr_assert_eq(*(size_t *)(void *)(page + PAGE - sizeof(size_t)), ~nr_held);
    return page;
}

static void give_n(size_t n)
{
    while (n-- != 0)
        weir_page_free(pages, disown());
}

static void finish(void)
{
    give_n(nr_held);
    gate_open(&gate);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
    gate_destroy(&gate);
}

static enum weir_drain usual_drain(void)
{
    return fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED;
}

/* --- making one --- */

Test(page_cache, defaults_are_4_kib_and_a_quarter_of_the_memory)
{
    cr_assert_eq(weir_page_cache_create(&pages, NULL), 0);
    struct weir_page_cache_stats stats = stats_now();
    size_t quarter = (size_t)sysconf(_SC_PHYS_PAGES) / 4 * (size_t)sysconf(_SC_PAGESIZE);
    cr_assert_eq(stats.page_size, 4096u);
    cr_assert_geq(stats.capacity * 4096, quarter);
    cr_assert_lt(stats.capacity * 4096, quarter + 512u * 4096);
    cr_assert_eq(take_n(1000), 1000u);
    give_n(500);
    while (nr_held)
        weir_page_free_rcu(pages, disown());
    weir_page_cache_rcu_barrier(pages);
    check_counts();
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
    cr_assert_eq(weir_page_cache_destroy(NULL), 0);
}

Test(page_cache, bad_configurations_are_refused)
{
    static const size_t sizes[] = {1, 512, 2048, 4095, 4097, 12288, 131072};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct weir_page_cache_config config = config_now();
        pages = (void *)&config;
        config.page_size = sizes[i];
        cr_assert_eq(weir_page_cache_create(&pages, &config), -EINVAL, "page size %zu", sizes[i]);
        cr_assert_null(pages);
    }
    for (unsigned fraction = 1; fraction < 8; fraction++) {
        struct weir_page_cache_config config = config_now();
        config.high_fraction = fraction;
        cr_assert_eq(weir_page_cache_create(&pages, &config), -EINVAL, "high_fraction %u", fraction);
    }
    struct weir_page_cache_config config = config_now();
    config.batch = 512; /* with its header it does not fit into a page */
    cr_assert_eq(weir_page_cache_create(&pages, &config), -EINVAL);
    config = config_now();
    config.capacity = SIZE_MAX;
    cr_assert_eq(weir_page_cache_create(&pages, &config), -EINVAL);
    config.capacity = (size_t)1 << 60;
    cr_assert_eq(weir_page_cache_create(&pages, &config), -ENOMEM);
    cr_assert_null(pages);
}

Test(page_cache, what_is_wrong_with_a_configuration_is_said_and_create_agrees)
{
    static const struct {
        struct weir_page_cache_config config;
        const char *says; /* begins with; NULL: nothing is wrong */
    } cases[] = {
        {WEIR_PAGE_CACHE_CONFIG_INIT, NULL},
        {{.page_size = 5000}, "page_size"},
        {{.capacity = SIZE_MAX / 2}, "capacity"},
        {{.batch = 508}, "batch"},
        {{.batch = 507, .capacity = 1 << 22}, NULL},
        {{.high = SIZE_MAX}, "high:"},
        {{.high_fraction = 7}, "high_fraction"},
        {{.high = 100, .high_fraction = 8}, "high and high_fraction"},
        {{.capacity = 1 << 22, .min = 513}, "min"},
        {{.capacity = 1 << 22, .min = 512}, NULL},
        {{.capacity = 1, .min = 256}, NULL}, /* of a whole area */
        {{.capacity = 1, .min = 257}, "min"},
        {{.huge_pages = (enum weir_huge_pages)2}, "huge_pages"},
        {{.zero = (enum weir_zero)3}, "zero"},
        {{.name = ""}, "name"},
        {{.name = "what\n"}, "name"},
        {{.name = "0123456789012345678901234567890123456789012345678901234567890123"}, "name"},
        {{.name = "012345678901234567890123456789012345678901234567890123456789012"}, NULL},
        {{.sites = true, .check = true}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *error = weir_page_cache_config_error(&cases[i].config);
        int created = weir_page_cache_create(&pages, &cases[i].config);
        if (cases[i].says == NULL) {
            cr_assert_null(error, "case %zu: %s", i, error);
            cr_assert_eq(created, 0, "case %zu", i);
            cr_assert_eq(weir_page_cache_destroy(pages), 0);
        } else {
            cr_assert_not_null(error, "case %zu", i);
            cr_assert_eq(strncmp(error, cases[i].says, strlen(cases[i].says)), 0, "case %zu: %s", i, error);
            cr_assert_eq(created, -EINVAL, "case %zu", i);
        }
    }
    cr_assert_null(weir_page_cache_config_error(NULL));
#ifndef WEIR_CHECKED
    const struct weir_page_cache_config sites = {.sites = true};
    cr_assert_not_null(weir_page_cache_config_error(&sites));
#endif
}

Test(page_cache, options_that_need_the_system_work_or_say_why_not)
{
    struct weir_page_cache_config config = config_now();
    gate_create(&gate, true);
    config.grace = gate.grace;
    config.prefault = true;
    config.huge_pages = WEIR_HUGE_PAGES_ADVISE;
    config.name = "a test";
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    take_n(10);
    give_n(10);
    cr_assert_eq(weir_page_cache_drain_all(pages, usual_drain()), 10u + 6, "a magazine of 8 and one more");
    cr_assert_eq(stats_now().released, 0u);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
    config.numa_nodes = UINT64_C(1) << 63;
    int error = weir_page_cache_create(&pages, &config);
    cr_assert(error == -EINVAL || error == -ENOSYS || error == -EPERM, "%d", error);
    gate_destroy(&gate);
}

Test(page_cache, every_page_size_and_batch_works)
{
    static const size_t batches[] = {0, 1, 2, 100, 501, 502, 507};
    fixture_stay(NULL); /* what another CPU has is not had here */
    for (size_t page = 4096; page <= 65536; page *= 2)
        for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
            gate_create(&gate, true);
            struct weir_page_cache_config config = config_now();
            config.page_size = page;
            config.capacity = 512 * page;
            config.batch = batches[i];
            cr_assert_eq(weir_page_cache_create(&pages, &config), 0, "%zu, %zu", page, batches[i]);
            cr_assert_eq(stats_now().page_size, page);
            cr_assert_eq(stats_now().capacity, 512u);
            for (size_t n = 0; n < 100; n++) {
                own(weir_page_alloc(pages));
                cr_assert_eq((uintptr_t)held[n] % page, 0u);
            }
            while (nr_held > 50)
                weir_page_free_rcu(pages, disown());
            for (unsigned n = 0; n < 2000; n++) {
                own(weir_page_alloc(pages));
                weir_page_free(pages, disown());
            }
            cr_assert_leq(stats_now().block_pages, 120u, "%zu, %zu", page, batches[i]);
            finish();
        }
}

/* --- pages --- */

Test(page_cache, all_pages_but_those_of_magazines_can_be_had_and_then_none)
{
    start(true);
    size_t n = take_n(RANGE + 1);
    cr_assert_geq(n, RANGE - 64u);
    cr_assert_null(weir_page_alloc(pages));
    cr_assert_eq(stats_now().frames, (size_t)RANGE);
    check_counts();
    give_n(10);
    cr_assert_eq(take_n(20), 10u);
    check_counts();
    give_n(nr_held);
    cr_assert_geq(take_n(RANGE + 1) + 4, n, "again, but for pages of magazines that were needed meanwhile");
    finish();
}

Test(page_cache, freed_while_exhausted_they_can_be_had_again)
{
    start(true);
    take_n(RANGE + 1);
    size_t all = nr_held;
    for (unsigned round = 0; round < 5; round++) {
        while (nr_held > all / 2)
            weir_page_free_rcu(pages, disown());
        weir_page_cache_rcu_barrier(pages);
        check_counts();
        cr_assert_geq(take_n(RANGE), all / 2 - 16); /* a few hold magazines now */
    }
    finish();
}

Test(page_cache, bulk_array_fills_null_slots_only)
{
    void *array[40] = {NULL}, *mine[3];
    start(true);
    for (unsigned i = 0; i < 3; i++)
        mine[i] = weir_page_alloc(pages);
    array[0] = mine[0];
    array[17] = mine[1];
    array[39] = mine[2];
    cr_assert_eq(weir_page_alloc_bulk_array(pages, 40, array), 40u);
    cr_assert_eq(array[0], mine[0]);
    cr_assert_eq(array[17], mine[1]);
    cr_assert_eq(array[39], mine[2]);
    for (unsigned i = 0; i < 40; i++)
        own(array[i]);
    cr_assert_eq(weir_page_alloc_bulk_array(pages, 40, array), 40u, "all of them are there");
    check_counts();
    cr_assert_eq(weir_page_alloc_bulk_array(pages, 0, NULL), 0u);
    finish();
}

Test(page_cache, bulk_array_says_how_many_are_populated_when_there_are_no_more)
{
    static void *array[MOST];
    start(true);
    take_n(RANGE + 1);
    give_n(10);
    void *kept = disown();
    for (unsigned i = 0; i < 30; i++)
        array[i] = NULL;
    array[25] = kept; /* behind the point where they run out */
    size_t populated = weir_page_alloc_bulk_array(pages, 30, array), found = 0;
    cr_assert_eq(populated, 11u);
    cr_assert_eq(array[25], kept);
    for (unsigned i = 0; i < 30; i++)
        if (array[i]) {
            own(array[i]);
            found++;
        }
    cr_assert_eq(found, 11u);
    finish();
}

Test(page_cache, bulk_list_chains_pages)
{
    static const size_t sizes[] = {0, 1, 2, 63, 64, 65, 128, 300};
    WEIR_LLIST_HEAD(list);
    start(true);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t before = nr_held;
        cr_assert_eq(weir_page_alloc_bulk_list(pages, sizes[i], &list), sizes[i]);
        for (struct weir_llist_node *node = weir_llist_del_all(&list), *next; node; node = next) {
            next = weir_llist_next(node);
            own(node);
        }
        cr_assert_eq(nr_held - before, sizes[i]);
        check_counts();
    }
    size_t left = RANGE - stats_now().frames, before = nr_held;
    size_t got = weir_page_alloc_bulk_list(pages, RANGE, &list), chained = 0;
    cr_assert_geq(got, left);
    for (struct weir_llist_node *node = weir_llist_del_all(&list), *next; node; node = next, chained++) {
        next = weir_llist_next(node);
        own(node);
    }
    cr_assert_eq(chained, got);
    cr_assert_eq(nr_held, before + got);
    check_counts();
    finish();
}

Test(page_cache, bulk_free_skips_null)
{
    void *array[30];
    start(true);
    take_n(20);
    for (unsigned i = 0; i < 30; i++)
        array[i] = i % 3 == 0 ? NULL : disown();
    weir_page_free_bulk(pages, 30, array);
    check_counts();
    weir_page_free_bulk(pages, 0, array);
    for (unsigned i = 0; i < 30; i++)
        array[i] = NULL;
    weir_page_free_bulk(pages, 30, array);
    check_counts();
    finish();
}

/* --- rcu --- */

Test(page_cache, rcu_freed_pages_wait_for_a_full_grace_period)
{
    start(false);
    take_n(RANGE + 1);
    give_n(1);
    for (unsigned i = 0; i < 16; i++) /* leaves pages for magazines */
        weir_page_free(pages, disown());
    weir_page_cache_drain_all(pages, usual_drain());
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1);
    for (unsigned i = 0; i < 20; i++)
        weir_page_free_rcu(pages, disown());
    size_t before = nr_held, ordinary = take_n(RANGE);
    cr_assert_leq(ordinary, 17u);
    gate_let_one(&gate);
    gate_await_begun(&gate, 2);
    cr_assert_eq(take_n(1), 0u);
    gate_open(&gate);
    weir_page_cache_rcu_barrier(pages);
    cr_assert_eq(take_n(RANGE), 20u);
    cr_assert_eq(nr_held, before + ordinary + 20);
    finish();
}

/* --- giving back --- */

Test(page_cache, destroy_refuses_while_a_page_is_out_and_it_can_still_be_used)
{
    start(true);
    take_n(30);
    give_n(29);
    cr_assert_eq(weir_page_cache_destroy(pages), -EBUSY);
    check_counts();
    cr_assert_eq(take_n(50), 50u);
    for (unsigned i = 0; i < 20; i++)
        weir_page_free_rcu(pages, disown());
    cr_assert_eq(weir_page_cache_destroy(pages), -EBUSY);
    give_n(nr_held);
    finish();
}

Test(page_cache, destroy_counts_pages_on_other_cpus_as_in)
{
    start(true);
    fixture_pin(other_cpu);
    take_n(20);
    give_n(20);
    fixture_pin(cpu);
    finish();
}

/* Pages of the range that have memory, after more than half of it was had: so both of its areas. */
static size_t resident(void)
{
    static unsigned char in[RANGE];
    char *base = (char *)((uintptr_t)lowest & ~((uintptr_t)512 * PAGE - 1));
    size_t n = 0;
    cr_assert_eq(mincore(base, (size_t)RANGE * PAGE, in), 0);
    for (unsigned i = 0; i < RANGE; i++)
        n += in[i] & 1;
    return n;
}

Test(page_cache, drain_all_gives_the_memory_back)
{
    start(true);
    take_n(900);
    cr_assert_geq(resident(), 900u);
    give_n(nr_held);
    cr_assert_geq(resident(), 900u, "freeing alone keeps it");
    errno = 1;
    size_t cached = stats_now().cache.cached;
    cr_assert_eq(weir_page_cache_drain_all(pages, usual_drain()), cached);
    cr_assert_eq(errno, 0);
    cr_assert_eq(stats_now().cache.cached, 0u);
    cr_assert_eq(stats_now().frames, stats_now().block_pages);
    cr_assert_eq(resident(), stats_now().block_pages);
    take_n(900);
    finish();
}

Test(page_cache, decay_gives_everything_idle_back_in_the_end)
{
    size_t bytes = 0;
    start(true);
    take_n(900);
    give_n(nr_held);
    for (unsigned i = 0; i < 50; i++) {
        bytes += weir_page_cache_decay(pages);
        check_counts();
    }
    cr_assert_gt(bytes, 0u);
    cr_assert_eq(bytes % PAGE, 0u);
    cr_assert_eq(bytes, stats_now().released);
    /* What has memory is what the frames do not have back. */
    cr_assert_eq(resident(), stats_now().frames);
    cr_assert_leq(stats_now().frames, stats_now().block_pages + 2 * 8u, "one CPU was used");
    finish();
}

Test(page_cache, drains_that_cannot_be_done_are_refused)
{
    enum weir_drain refused = fixture_locked() ? WEIR_DRAIN_EXPEDITED : WEIR_DRAIN_LOCK;
    start(true);
    take_n(20);
    give_n(20);
    size_t cached = stats_now().cache.cached;
    cr_assert_eq(weir_page_cache_drain_all(pages, refused), 0u);
    cr_assert_eq(errno, ENOTSUP);
    cr_assert_eq(weir_page_cache_drain_cpu(pages, cpu, WEIR_DRAIN_QUIET), 0u);
    cr_assert_eq(errno, ENOTSUP);
    cr_assert_eq(weir_page_cache_drain_cpu(pages, weir_percpu_nr_cpus(), usual_drain()), 0u);
    cr_assert_eq(errno, EINVAL);
    cr_assert_eq(stats_now().cache.cached, cached);
    cr_assert_gt(weir_page_cache_drain_cpu(pages, cpu, usual_drain()), 0u);
    cr_assert_eq(errno, 0);
    check_counts();
    finish();
}

Test(page_cache, quiet_drain_works_with_registered_users)
{
    fixture_stay(NULL);
    gate_create(&gate, true);
    struct weir_page_cache_config config = config_now();
    config.registered_users = true;
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    take_n(20);
    give_n(20);
    cr_assert_gt(weir_page_cache_drain_all(pages, WEIR_DRAIN_QUIET), 0u);
    cr_assert_eq(errno, 0);
    cr_assert(fixture_locked() || gate_begun(&gate) > 0, "where sequences are, it has to wait");
    finish();
}

Test(page_cache, high_fraction_bounds_what_the_depot_keeps)
{
    fixture_stay(NULL);
    gate_create(&gate, true);
    struct weir_page_cache_config config = config_now();
    config.high_fraction = 32; /* of 1024 pages: 32 */
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    take_n(500);
    give_n(500);
    cr_assert_leq(stats_now().cache.cached, 32u + 2 * 8);
    cr_assert_geq(stats_now().cache.cached, 32u);
    finish();
}

Test(page_cache, high_fraction_of_less_than_a_page_keeps_one_magazine_not_the_default)
{
    fixture_stay(NULL);
    gate_create(&gate, true);
    struct weir_page_cache_config config = config_now();
    config.high_fraction = 4 * RANGE;
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    take_n(500);
    give_n(500);
    cr_assert_leq(stats_now().cache.cached, 3u * 8);
    finish();
}

/* --- any context --- */

Test(page_cache, nolock_takes_from_magazine_depot_frames_and_the_reserve)
{
    struct weir_page_cache_config config = config_now();
    cpu = fixture_stay(&other_cpu);
    gate_create(&gate, true);
    config.grace = gate.grace;
    config.min = 20;
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    while (take_n(1) == 1)
        ;
    size_t ordinary = nr_held;
    check_counts();
    cr_assert_eq(stats_now().frames, RANGE - 20u, "the reserve is left");
    void *none[1] = {NULL};
    cr_assert_eq(weir_page_alloc_bulk_array(pages, 1, none), 0u);
    cr_assert_null(weir_extent_alloc(pages, 1));
    for (unsigned i = 0; i < 20; i++)
        own(weir_page_alloc_nolock(pages));
    cr_assert_null(weir_page_alloc_nolock(pages));
    cr_assert_eq(stats_now().frames, (size_t)RANGE);
    check_counts();
    for (unsigned i = 0; i < 10; i++)
        weir_page_free_nolock(pages, disown());
    cr_assert_eq(take_n(1), 0u, "they fill the reserve, not a magazine");
    for (unsigned i = 0; i < 10; i++)
        own(weir_page_alloc_nolock(pages));
    give_n(nr_held - ordinary);
    finish();
}

Test(page_cache, nolock_frees_beyond_the_magazine_are_laid_aside_until_the_next_slow_path)
{
    start(true);
    take_n(100);
    size_t cached = stats_now().cache.cached, n = 0;
    while (stats_now().parked == 0) {
        weir_page_free_nolock(pages, disown());
        n++;
    }
    cr_assert_leq(n, 9u, "a magazine holds 8");
    for (; n < 60; n++)
        weir_page_free_nolock(pages, disown());
    struct weir_page_cache_stats stats = stats_now();
    cr_assert_eq(stats.parked + stats.cache.cached, cached + 60u);
    give_n(1); /* the magazine is full: a slow path */
    cr_assert_eq(stats_now().parked, 0u);
    check_counts();
    for (n = 0; n < 30; n++)
        weir_page_free_nolock(pages, disown());
    cr_assert_gt(stats_now().parked, 0u);
    cached = stats_now().cache.cached;
    weir_page_cache_decay(pages);
    cr_assert_eq(stats_now().parked, 0u);
    cr_assert_leq(stats_now().cache.cached, cached, "who decays puts nothing into magazines");
    check_counts();
    finish();
}

Test(page_cache, parked_pages_are_found_by_who_finds_nothing_else)
{
    start(true);
    while (take_n(1) == 1)
        ;
    size_t all = nr_held;
    for (unsigned i = 0; i < 50; i++)
        weir_page_free_nolock(pages, disown());
    cr_assert_gt(stats_now().parked, 0u);
    for (unsigned i = 0; i < 50; i++)
        own(weir_page_alloc_nolock(pages));
    cr_assert_eq(nr_held, all);
    cr_assert_null(weir_page_alloc_nolock(pages));
    cr_assert_eq(stats_now().parked, 0u);
    check_counts();
    for (unsigned i = 0; i < 50; i++)
        weir_page_free_nolock(pages, disown());
    cr_assert_eq(take_n(50), 50u);
    cr_assert_eq(take_n(1), 0u);
    finish();
}

/* --- extents --- */

Test(page_cache, extents_are_counted_and_those_idle_are_broken_up_for_pages)
{
    char *extents[100];
    size_t n = 0;
    start(true);
    cr_assert_null(weir_extent_alloc(pages, 0));
    cr_assert_null(weir_extent_alloc(pages, WEIR_EXTENT_PAGES_MAX + 1));
    while (n < 100 && (extents[n] = weir_extent_alloc(pages, 32)) != NULL) {
        cr_assert_eq((uintptr_t)extents[n] % (32 * PAGE), 0u);
        memset(extents[n], (int)n, 32 * PAGE);
        n++;
    }
    cr_assert_eq(n, (size_t)RANGE / 32);
    cr_assert_eq(stats_now().extents, n);
    cr_assert_eq(stats_now().extent_pages, 32 * n);
    cr_assert_eq(weir_page_cache_destroy(pages), -EBUSY);
    for (size_t i = 0; i < n; i++) {
        for (size_t byte = 0; byte < 32 * PAGE; byte += 512)
            cr_assert_eq(extents[i][byte], (char)i);
        weir_extent_free(pages, extents[i], 32);
    }
    struct weir_page_cache_stats stats = stats_now();
    cr_assert_eq(stats.extents, 0u);
    cr_assert_eq(stats.extent_pool_pages + stats.block_pages, stats.frames);
    cr_assert_gt(take_n(RANGE), RANGE / 2u);
    cr_assert_eq(stats_now().extent_pool_pages, 0u);
    finish();
}

/* --- by itself, and when asked --- */

/* Waits for it, for long; what is being waited for decides, not the time. */
static bool comes_true(bool (*what)(void))
{
    for (unsigned i = 0; i < 6000; i++) {
        if (what())
            return true;
        usleep(10000);
    }
    return false;
}

static bool only_what_cannot_be_had_back_is_resident(void)
{
    struct weir_page_cache_stats stats = stats_now();
    return stats.extent_pool_pages == 0 && stats.frames <= stats.block_pages + 3 * 8u &&
           resident() <= stats.frames;
}

Test(page_cache, after_a_burst_everything_idle_goes_back_by_itself)
{
    struct weir_page_cache_config config = config_now();
    void *extents[8];
    fixture_stay(NULL);
    config.grace = NULL; /* with a helper thread */
    config.decay_milliseconds = 10;
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    for (unsigned round = 0; round < 2; round++) {
        cr_assert_eq(take_n(600), 600u);
        for (unsigned i = 0; i < 8; i++) {
            extents[i] = weir_extent_alloc(pages, 16);
            cr_assert_not_null(extents[i]);
            memset(extents[i], 1, 16 * PAGE);
        }
        cr_assert_geq(resident(), 728u);
        for (unsigned i = 0; i < 8; i++)
            weir_extent_free(pages, extents[i], 16);
        give_n(nr_held);
        bool gone = comes_true(only_what_cannot_be_had_back_is_resident);
        struct weir_page_cache_stats stats = stats_now();
        cr_assert(gone, "round %u: %zu resident, %zu frames out, %zu in blocks, %zu in idle extents", round,
                  resident(), stats.frames, stats.block_pages, stats.extent_pool_pages);
    }
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
}

Test(page_cache, shrink_asks_it_unless_told_otherwise)
{
    start(true);
    take_n(900);
    give_n(nr_held);
    size_t some = weir_shrink((size_t)100 * PAGE);
    cr_assert_geq(some, (size_t)100 * PAGE);
    cr_assert_eq(stats_now().released, some);
    weir_shrink(SIZE_MAX);
    cr_assert_eq(resident(), stats_now().block_pages);
    finish();

    struct weir_page_cache_config config = config_now();
    gate_create(&gate, true);
    config.grace = gate.grace;
    config.no_shrinker = true;
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    take_n(900);
    give_n(nr_held);
    cr_assert_eq(weir_shrink(SIZE_MAX), 0u);
    finish();
}
