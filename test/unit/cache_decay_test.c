/* SPDX-License-Identifier: MIT */
/* How much a cache keeps: limits that follow the use, decay on demand and by the helper thread, shrink. */
#include "cache_fixture.h"
#include "weir/shrinker.h"

enum { MOST = 16, BASE = MOST / 4 }; /* magazines in the depot */

static void start_decaying(unsigned milliseconds, unsigned percent)
{
    prepare(true);
    struct weir_cache_config config = config_of(CAPACITY, MOST * CAPACITY);
    config.decay_milliseconds = milliseconds;
    config.decay_percent = percent;
    create(&config, &(struct weir__cache_surroundings){NULL, imitate(1)});
}

static size_t limit(void)
{
    return stats_now().limit / CAPACITY;
}

static size_t in_depot(void)
{
    return weir__depots_objects(&cache->depots, CAPACITY) / CAPACITY;
}

/* Allocates so many magazines' worth, and frees it. */
static void burst(size_t magazines)
{
    cr_assert_eq(take_n(magazines * CAPACITY), magazines * CAPACITY);
    give_n(magazines * CAPACITY);
}

static void settle(void)
{
    while (!settled())
        weir_cache_decay(cache);
}

/* --- the limit --- */

Test(cache_decay, limit_begins_with_high_and_falls_to_a_quarter_where_nothing_happens)
{
    size_t above = MOST - BASE;
    start_decaying(WEIR_CACHE_DECAY_NEVER, 0);
    cr_assert_eq(limit(), (size_t)MOST);
    while (above != 0) {
        above -= (above + 3) / 4;
        cr_assert_eq(weir_cache_decay(cache), 0u);
        cr_assert_eq(limit(), BASE + above);
    }
    weir_cache_decay(cache);
    cr_assert_eq(limit(), (size_t)BASE);
    cr_assert_eq(stats_now().raises, 0u);
    finish();
}

Test(cache_decay, burst_that_repeats_comes_to_be_kept)
{
    enum { SIZE = 12 };
    struct weir_cache_stats before, after;
    unsigned rounds = 0;
    start_decaying(WEIR_CACHE_DECAY_NEVER, 0);
    settle();
    burst(SIZE);
    cr_assert_eq(in_depot(), (size_t)BASE);
    cr_assert_eq(stats_now().spills, (uint64_t)SIZE - 2 - BASE);
    cr_assert_eq(stats_now().raises, 0u, "nobody has missed it yet");
    do {
        before = stats_now();
        burst(SIZE);
        after = stats_now();
        cr_assert_leq(++rounds, 5u);
    } while (after.allocated != before.allocated);
    cr_assert_geq(limit(), SIZE - 2u);
    cr_assert_leq(limit(), (size_t)MOST);
    cr_assert_eq(stats_now().raises, limit() - BASE);
    check_counts(0);
    settle();
    cr_assert_eq(limit(), (size_t)BASE, "and when it does not, is kept no more");
    cr_assert_eq(in_depot(), 0u);
    finish();
}

Test(cache_decay, one_burst_raises_nothing)
{
    start_decaying(WEIR_CACHE_DECAY_NEVER, 0);
    settle();
    for (unsigned i = 0; i < 10; i++) {
        burst(MOST);
        weir_cache_decay(cache); /* that long ago: it does not repeat */
        weir_cache_decay(cache);
        while (in_depot() != 0)
            weir_cache_decay(cache);
    }
    cr_assert_eq(stats_now().raises, 0u);
    cr_assert_eq(limit(), (size_t)BASE);
    finish();
}

Test(cache_decay, limit_rises_to_high_and_not_above)
{
    start_decaying(WEIR_CACHE_DECAY_NEVER, 0);
    settle();
    for (unsigned i = 0; i < 20; i++)
        burst(3 * MOST);
    cr_assert_eq(limit(), (size_t)MOST);
    cr_assert_eq(stats_now().raises, (uint64_t)MOST - BASE);
    cr_assert_eq(in_depot(), (size_t)MOST);
    check_counts(0);
    finish();
}

/* --- percent --- */

Test(cache_decay, hundred_percent_gives_back_all_that_was_idle_at_once)
{
    start_decaying(WEIR_CACHE_DECAY_NEVER, 100);
    burst(10);
    cr_assert_eq(weir_cache_decay(cache), 0u, "all of it came in since the last time");
    cr_assert_eq(weir_cache_decay(cache), 8u * CAPACITY);
    cr_assert_eq(weir_cache_decay(cache), 0u, "what was the spare has just come in");
    cr_assert_eq(weir_cache_decay(cache), (size_t)CAPACITY);
    cr_assert_eq(stats_now().cached, (size_t)CAPACITY, "what is loaded");
    cr_assert_eq(stats_now().decayed, 9u * CAPACITY);
    finish();
}

Test(cache_decay, one_percent_gives_back_one_magazine_at_a_time_to_the_last)
{
    start_decaying(WEIR_CACHE_DECAY_NEVER, 1);
    burst(10);
    weir_cache_decay(cache);
    for (size_t i = 0; i < 9; i++) {
        cr_assert_eq(weir_cache_decay(cache), (size_t)CAPACITY, "%zu", i);
        check_counts(0);
    }
    cr_assert_eq(weir_cache_decay(cache), 0u);
    cr_assert_eq(stats_now().cached, (size_t)CAPACITY);
    finish();
}

Test(cache_decay, busy_cpu_keeps_its_spare)
{
    start_decaying(WEIR_CACHE_DECAY_NEVER, 100);
    burst(2);
    for (unsigned i = 0; i < 10; i++) {
        burst(2); /* exchanges the two */
        weir_cache_decay(cache);
        cr_assert_eq(stats_now().cached, 2u * CAPACITY);
    }
    weir_cache_decay(cache);
    cr_assert_eq(in_depot(), 1u);
    finish();
}

/* --- by itself --- */

/* One who is asked by the helper thread whenever it is awake. */
static struct weir__grace_client observer;
static unsigned asked;

static unsigned observer_wish(struct weir__grace_client *unused)
{
    (void)unused;
    weir_fetch_add_relaxed(&asked, 1u);
    return 0;
}

static void observer_sweep(struct weir__grace_client *unused)
{
    (void)unused;
    cr_assert_fail("it never wished for that");
}

static void observe(void)
{
    observer = (struct weir__grace_client){.wish = observer_wish, .sweep = observer_sweep};
    weir__grace_register(gate.grace, &observer);
}

static void check_that_the_helper_sleeps(void)
{
    unsigned before = weir_load_relaxed(&asked);
    fixture_sleep(100000);
    /* It may have been on its way to sleep; one that is still at work asks after each millisecond. */
    cr_assert_leq(weir_load_relaxed(&asked), before + 10, "it asked %u times",
                  weir_load_relaxed(&asked) - before);
}

Test(cache_decay, what_is_idle_goes_by_itself_and_then_the_helper_sleeps)
{
    start_decaying(1, 0);
    observe();
    for (unsigned i = 0; i < 5; i++) {
        burst(10);
        cr_assert_geq(stats_now().cached, (size_t)CAPACITY);
        FIXTURE_AWAIT(in_depot() == 0);
        FIXTURE_AWAIT(limit() == BASE);
        FIXTURE_AWAIT(weir_load_acquire(&cache->depots.depot[0].watched) == 0);
        cr_assert_gt(stats_now().decayed, 0u);
        if (i % 2 == 0)
            check_that_the_helper_sleeps();
    }
    weir__grace_unregister(gate.grace, &observer);
    check_counts(0);
    finish();
}

Test(cache_decay, unused_cache_never_wakes_the_helper)
{
    start_decaying(1, 0);
    observe();
    take_n(3); /* nothing has gone to the depot */
    give_n(3);
    check_that_the_helper_sleeps();
    cr_assert_eq(weir_load_relaxed(&cache->depots.depot[0].watched), 0u);
    weir__grace_unregister(gate.grace, &observer);
    finish();
}

Test(cache_decay, objects_freed_by_grace_periods_decay_by_themselves_too)
{
    start_decaying(1, 0);
    observe();
    cr_assert_eq(take_n(20 * CAPACITY), 20u * CAPACITY);
    give_rcu(nr_held);
    FIXTURE_AWAIT(stats_now().waiting == 0);
    FIXTURE_AWAIT(in_depot() == 0);
    FIXTURE_AWAIT(weir_load_acquire(&cache->depots.depot[0].watched) == 0);
    check_that_the_helper_sleeps();
    weir__grace_unregister(gate.grace, &observer);
    finish();
}

Test(cache_decay, never_means_never)
{
    start_decaying(WEIR_CACHE_DECAY_NEVER, 0);
    cr_assert_eq(cache->decays, 0u);
    burst(10);
    size_t cached = stats_now().cached;
    cr_assert(take());
    give_rcu(1); /* keeps the helper busy, for as long as a decay each millisecond would take */
    FIXTURE_AWAIT(stats_now().waiting == 0);
    fixture_sleep(50000);
    cr_assert_eq(stats_now().cached, cached);
    cr_assert_eq(stats_now().decayed, 0u);
    cr_assert_eq(limit(), (size_t)MOST);
    finish();
}

Test(cache_decay, default_is_every_second_a_quarter)
{
    prepare(true);
    struct weir_cache_config config = config_of(CAPACITY, 0);
    config.decay_milliseconds = 0;
    cr_assert_eq(weir_cache_create(&cache, &config), 0);
    cr_assert_eq(cache->decays, (unsigned)WEIR_CACHE_DECAY_DEFAULT);
    cr_assert_eq(cache->decay_percent, 25u);
    burst(10);
    finish(); /* while the helper is still to come */
}

Test(cache_decay, several_caches_of_one_source_decay_each_for_itself)
{
    struct weir_cache *caches[5];
    void *objects[20];
    prepare(true);
    for (unsigned i = 0; i < 5; i++) {
        struct weir_cache_config config = config_of(CAPACITY, MOST * CAPACITY);
        config.decay_milliseconds = i != 4 ? 1 + i : WEIR_CACHE_DECAY_NEVER;
        cr_assert_eq(weir_cache_create(&caches[i], &config), 0);
    }
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 5; i++) {
            cr_assert_eq(weir_cache_alloc_bulk(caches[i], 20, objects), 20u);
            weir_cache_free_bulk(caches[i], 20, objects);
        }
        for (unsigned i = 0; i < 4; i++)
            FIXTURE_AWAIT(weir__depots_objects(&caches[i]->depots, CAPACITY) == 0);
    }
    cr_assert_gt(weir__depots_objects(&caches[4]->depots, CAPACITY), 0u);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(weir_cache_destroy(caches[i]), 0);
    gate_destroy(&gate);
    backend_destroy(&backend);
}

Test(cache_decay, cache_can_be_destroyed_in_the_middle_of_it, .timeout = 120)
{
    for (unsigned i = 0; i < 100; i++) {
        start_decaying(1, 1 + i);
        burst(10);
        if (i % 2 == 1)
            FIXTURE_AWAIT(stats_now().decayed != 0);
        give_rcu(take_n(i % 4));
        finish();
    }
}

Test(cache_decay, decay_by_the_helper_loses_nothing_that_is_in_use, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        start_decaying(1, 25);
        for (unsigned i = 0; i < 30; i++) {
            take_n(seed + i);
            give_n(nr_held / 2);
            give_rcu(nr_held / 2);
            fixture_sleep(100);
        }
        finish();
    }
}

/* --- shrink --- */

static void *leave_some_on_other_cpu(void *unused)
{
    (void)unused;
    fixture_pin(other_cpu);
    take_n(3 * CAPACITY);
    give_n(2 * CAPACITY + 1);
    return NULL;
}

Test(cache_decay, shrink_gives_back_all_that_lies_idle_anywhere)
{
    start_decaying(WEIR_CACHE_DECAY_NEVER, 0);
    pthread_join(fixture_thread(leave_some_on_other_cpu, NULL), NULL);
    burst(10);
    size_t cached = stats_now().cached;
    cr_assert_geq(cached, 10u * CAPACITY);
    cr_assert_eq(limit(), (size_t)MOST);
    cr_assert_eq(weir_cache_shrink(cache), cached);
    cr_assert_eq(stats_now().cached, 0u);
    cr_assert_eq(stats_now().drained, cached);
    cr_assert_eq(limit(), (size_t)BASE);
    cr_assert_eq(backend_lent(&backend), nr_held);
    cr_assert_eq(weir_cache_shrink(cache), 0u);
    check_counts(0);
    for (unsigned i = 0; i < 5; i++)
        burst(12);
    cr_assert_geq(limit(), 10u, "the limit rises again");
    finish();
}

Test(cache_decay, shrink_leaves_what_waits_for_a_grace_period)
{
    prepare(false);
    struct weir_cache_config config = config_of(CAPACITY, MOST * CAPACITY);
    cr_assert_eq(weir_cache_create(&cache, &config), 0);
    take_n(10);
    give_rcu(6);
    give_n(4);
    weir_cache_shrink(cache);
    cr_assert_eq(stats_now().cached, 0u);
    check_counts(6);
    cr_assert_eq(backend_lent(&backend), 6u);
    finish();
}

/* --- weir_shrink() --- */

enum { BYTES = 1000 }; /* per object, as far as the cache knows */

static void start_shrinkable(bool shrinkable)
{
    prepare(true);
    struct weir_cache_config config = config_of(CAPACITY, MOST * CAPACITY);
    config.object_size = BYTES;
    config.no_shrinker = !shrinkable;
    create(&config, &(struct weir__cache_surroundings){NULL, imitate(1)});
    burst(10);
}

Test(cache_decay, shrink_takes_from_the_depot_first_and_then_what_the_cpu_has)
{
    start_shrinkable(true);
    size_t cached = stats_now().cached, magazines = in_depot();
    cr_assert_gt(magazines, 2u);
    cr_assert_eq(weir_shrinkable(), cached * BYTES);
    cr_assert_eq(weir_shrink(CAPACITY * BYTES + 1), 2u * CAPACITY * BYTES, "whole magazines");
    cr_assert_eq(in_depot(), magazines - 2);
    cr_assert_eq(stats_now().drained, 2u * CAPACITY);
    cr_assert_eq(weir_shrink(SIZE_MAX), (cached - 2 * CAPACITY) * BYTES);
    cr_assert_eq(stats_now().cached, 0u);
    cr_assert_eq(weir_shrink(SIZE_MAX), 0u);
    finish();
    cr_assert_eq(weir_shrinkable(), 0u, "it is registered no longer");
}

Test(cache_decay, shrink_passes_by_who_does_not_want_it_or_has_no_size)
{
    start_shrinkable(false);
    cr_assert_eq(weir_shrink(SIZE_MAX), 0u);
    finish();
    start(MOST * CAPACITY, true);
    burst(10);
    cr_assert_eq(weir_shrink(SIZE_MAX), 0u);
    finish();
}
