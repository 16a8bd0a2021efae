/* SPDX-License-Identifier: MIT */
/* A cache whose CPUs are in several domains, of an imitated topology: what one frees the other finds. */
#include "cache_fixture.h"

static struct chunks chunks;

/* This CPU and the other one in different domains, of `domains`; magazines one at a time. */
static void start_in(unsigned domains, size_t high)
{
    prepare(true);
    struct weir_cache_config config = config_of(CAPACITY, high);
    struct weir_block_source source = chunks_init(&chunks, 1, CAPACITY);
    create(&config, &(struct weir__cache_surroundings){&source, imitate(domains)});
    cr_assert_eq(cache->depots.domains, domains);
}

static void finish_chunks(void)
{
    finish();
    cr_assert_eq(chunks.out, 0u);
}

static struct weir_cache_stats stats_of(unsigned nr)
{
    struct weir_cache_stats stats;
    weir_cache_stats_cpu(cache, nr, &stats);
    return stats;
}

/* So many full magazines in the other domain's depot, and two on its CPU. */
static void fill_other_domain(size_t magazines)
{
    fixture_pin(other_cpu);
    cr_assert_eq(take_n((magazines + 2) * CAPACITY), (magazines + 2) * CAPACITY);
    give_n((magazines + 2) * CAPACITY);
    cr_assert_eq(weir__depots_objects(&cache->depots, CAPACITY), magazines * CAPACITY);
    fixture_pin(cpu);
}

Test(cache_domains, what_another_domain_freed_is_found_before_the_backend_is_asked)
{
    if (!find_cpus())
        return; /* with one CPU there is nobody to steal from */
    for (unsigned domains = 2; domains <= 5; domains++) {
        start_in(domains, 100 * CAPACITY);
        fill_other_domain(8);
        uint64_t calls = backend.alloc_calls;
        cr_assert_eq(take_n(8 * CAPACITY), 8u * CAPACITY);
        cr_assert_eq(backend.alloc_calls, calls);
        cr_assert_eq(stats_of(cpu).stolen, 8u);
        cr_assert_eq(stats_of(cpu).depot_hits, 8u);
        cr_assert_eq(stats_of(cpu).depot_misses, 0u);
        cr_assert_eq(stats_of(other_cpu).stolen, 0u);
        check_counts(0);
        cr_assert(take());
        cr_assert_eq(backend.alloc_calls, calls + 1, "what is loaded elsewhere is not taken away");
        cr_assert_eq(stats_of(cpu).depot_misses, 1u);
        finish_chunks();
    }
}

Test(cache_domains, own_depot_comes_first)
{
    if (!find_cpus())
        return;
    start_in(2, 100 * CAPACITY);
    take_n(6 * CAPACITY);
    fill_other_domain(4);
    give_n(6 * CAPACITY); /* four in the own depot */
    take_n(6 * CAPACITY);
    cr_assert_eq(stats_now().depot_hits, 4u);
    cr_assert_eq(stats_now().stolen, 0u);
    take_n(1);
    cr_assert_eq(stats_now().stolen, 1u);
    check_counts(0);
    finish_chunks();
}

Test(cache_domains, bulk_and_nolock_find_it_too)
{
    if (!find_cpus())
        return;
    start_in(2, 100 * CAPACITY);
    fill_other_domain(8);
    uint64_t calls = backend.alloc_calls;
    cr_assert_eq(take_bulk(5 * CAPACITY), 5u * CAPACITY);
    cr_assert_eq(stats_now().stolen, 5u);
    for (unsigned i = 0; i < 3 * CAPACITY; i++)
        held[nr_held++] = backend_own(&backend, weir_cache_alloc_nolock(cache));
    cr_assert_null(weir_cache_alloc_nolock(cache));
    cr_assert_eq(stats_now().stolen, 8u);
    cr_assert_eq(backend.alloc_calls, calls);
    check_counts(0);
    finish_chunks();
}

Test(cache_domains, no_domain_keeps_more_than_its_share)
{
    if (!find_cpus())
        return;
    start_in(2, 10 * CAPACITY);
    fill_other_domain(5);
    cr_assert_eq(stats_now().spills, 0u);
    fixture_pin(other_cpu);
    take_n(9 * CAPACITY);
    give_n(9 * CAPACITY);
    cr_assert_eq(stats_now().spills, 2u,
                 "the fifth is the last that fits; the other depot's place is not used");
    check_counts(0);
    finish_chunks();
}

/* Allocated on one CPU and freed on the other, again and again. */
static void flow_once(bool rcu)
{
    fixture_pin(other_cpu);
    cr_assert_eq(take_n(20 * CAPACITY), 20u * CAPACITY);
    fixture_pin(cpu);
    if (rcu) {
        give_rcu(nr_held);
        weir_cache_rcu_barrier(cache);
    } else {
        give_n(nr_held);
    }
}

static void check_flow(size_t high, bool rcu, bool backend_is_left_alone)
{
    struct weir_cache_stats warm;
    if (!find_cpus())
        return;
    for (unsigned domains = 1; domains <= 3; domains++) {
        start_in(domains, high);
        for (unsigned i = 0; i < 5; i++)
            flow_once(rcu);
        warm = stats_now();
        for (unsigned i = 0; i < 50; i++)
            flow_once(rcu);
        cr_assert_eq(stats_now().blocks.total, warm.blocks.total,
                     "%u domains: with %zu magazines more than before", domains,
                     stats_now().blocks.total - warm.blocks.total);
        if (backend_is_left_alone)
            cr_assert_eq(stats_now().alloc_calls, warm.alloc_calls, "%u domains", domains);
        cr_assert_eq(stats_now().stolen != 0, domains > 1);
        check_counts(0);
        finish_chunks();
    }
}

Test(cache_domains, flow_from_one_to_the_other_takes_no_more_and_more_memory)
{
    check_flow(300 * CAPACITY, false, true);
}

Test(cache_domains, flow_after_grace_periods_takes_no_more_and_more_memory)
{
    check_flow(300 * CAPACITY, true, true);
}

Test(cache_domains, flow_above_the_depots_limits_takes_no_more_and_more_memory)
{
    check_flow(6 * CAPACITY, false, false);
    check_flow(6 * CAPACITY, true, false);
}

/* The magazines that carried objects over are empty in the domain that took them, and are used in the other.
 * */
Test(cache_domains, empty_magazines_are_found_in_another_domain_before_more_are_made)
{
    if (!find_cpus())
        return;
    start_in(2, 100 * CAPACITY);
    take_n(20 * CAPACITY);
    give_n(20 * CAPACITY);
    weir_cache_shrink(cache); /* all empty, in this domain */
    cr_assert_eq(stats_now().blocks.in_use, 0u);
    struct weir_cache_stats before = stats_now();
    cr_assert_geq(before.blocks.total, 20u);
    fixture_pin(other_cpu);
    take_n(18 * CAPACITY);
    give_n(18 * CAPACITY);
    cr_assert_eq(stats_now().blocks.total, before.blocks.total);
    cr_assert_eq(stats_now().blocks.grown, before.blocks.grown);
    weir_cache_shrink(cache);
    cr_assert_geq(weir_pool_count(&cache->blocks.idle[1].pool), 10u, "now they are at home there");
    finish_chunks();
}

Test(cache_domains, decay_drain_and_shrink_reach_every_domain)
{
    if (!find_cpus())
        return;
    start_in(4, 200 * CAPACITY);
    take_n(12 * CAPACITY);
    fixture_pin(other_cpu);
    take_n(10 * CAPACITY);
    give_n(10 * CAPACITY);
    fixture_pin(cpu);
    give_n(12 * CAPACITY);
    cr_assert_gt(weir_pool_count(&cache->depots.depot[0].full), 0u);
    cr_assert_gt(weir_pool_count(&cache->depots.depot[1].full), 0u);
    while (!settled())
        weir_cache_decay(cache);
    cr_assert_eq(weir__depots_objects(&cache->depots, CAPACITY), 0u);
    check_counts(0);
    fill_other_domain(8);
    size_t cached = stats_now().cached;
    cr_assert_eq(weir_cache_drain_all(cache, usual_drain()), cached);
    fill_other_domain(8);
    cr_assert_eq(weir_cache_shrink(cache), 10u * CAPACITY);
    cr_assert_eq(backend_lent(&backend), 0u);
    finish_chunks();
}

Test(cache_domains, random_use_on_all_cpus_loses_nothing, .timeout = 120)
{
    for (unsigned domains = 1; domains <= 17; domains += domains < 4 ? 1 : 13)
        for (uint64_t seed = 1; seed <= 8; seed++) {
            start_in(domains, seed % 7 * CAPACITY);
            for (unsigned i = 0; i < 10; i++) {
                fixture_pin(i % 2 ? cpu : other_cpu);
                use_everything(seed * 100 + i, 20);
            }
            finish_chunks();
        }
}
