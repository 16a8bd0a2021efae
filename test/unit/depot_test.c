/* SPDX-License-Identifier: MIT */
/* The depots on their own: what goes in comes out, from near before from far, and the limit follows the use.
 * */
#include "depot.h"

#include "weir_test.h"

enum { NR = 64, CAPACITY = 4, BASE = 4, MOST = 16 };

static struct weir__depots depots;
static char memory[NR][WEIR_MAGAZINE_BYTES(CAPACITY)] __attribute__((aligned(16)));
static unsigned made;

/* Magazines of `count` objects that were not there before. */
static struct weir_magazine *magazine_with(uint32_t count)
{
    cr_assert_lt(made, (unsigned)NR);
    struct weir_magazine *magazine = weir_magazine_init(memory[made++], sizeof memory[0]);
    magazine->count = count;
    return magazine;
}

static void keep_n(unsigned domain, unsigned n)
{
    while (n-- != 0)
        weir__depot_keep(&depots, domain, magazine_with(CAPACITY));
}

static size_t length(struct weir_stack_node *chain)
{
    size_t n = 0;
    for (; chain != NULL; chain = weir_stack_next(chain))
        n++;
    return n;
}

static size_t limit(void)
{
    return weir__depots_limit(&depots);
}

/* Empty, and at its lower bound: nothing is left to decay. */
static bool settled(void)
{
    return weir__depots_objects(&depots, CAPACITY) == 0 && limit() == depots.domains * depots.base;
}

static size_t decay(unsigned percent)
{
    return length(weir__depot_decay(&depots, 0, percent));
}

/* Gets `n` from domain 0. */
static void get_n(unsigned n)
{
    bool stolen;
    while (n-- != 0)
        cr_assert_not_null(weir__depot_get(&depots, 0, &stolen));
}

/* `n` are turned away. */
static void spill_n(unsigned n)
{
    while (n-- != 0)
        cr_assert_not(weir__depot_has_room(&depots, 0));
}

static void miss_n(unsigned n)
{
    while (n-- != 0)
        weir__depot_missed(&depots, 0);
}

static void start(unsigned domains, size_t base, size_t most)
{
    made = 0;
    cr_assert_eq(weir__depots_init(&depots, domains, base, most), 0);
}

static void finish(void)
{
    for (unsigned domain = 0; domain < depots.domains; domain++)
        weir__depot_drain(&depots, domain);
    cr_assert_eq(weir__depots_objects(&depots, CAPACITY), 0u);
    weir__depots_destroy(&depots);
}

/* --- in and out --- */

Test(depot, what_is_kept_comes_out_once_newest_first)
{
    struct weir_magazine *kept[8];
    bool stolen = true;
    start(1, BASE, MOST);
    cr_assert_null(weir__depot_get(&depots, 0, &stolen));
    cr_assert_not(stolen);
    for (unsigned i = 0; i < 8; i++)
        weir__depot_keep(&depots, 0, kept[i] = magazine_with(CAPACITY));
    for (unsigned i = 8; i-- > 0;) {
        stolen = true;
        cr_assert_eq(weir__depot_get(&depots, 0, &stolen), kept[i]);
        cr_assert_not(stolen);
    }
    cr_assert_null(weir__depot_get(&depots, 0, &stolen));
    finish();
}

Test(depot, own_comes_first_then_the_next_domains_in_order)
{
    struct weir_magazine *own, *next, *last;
    bool stolen;
    start(4, BASE, MOST);
    weir__depot_keep(&depots, 1, last = magazine_with(1));
    weir__depot_keep(&depots, 3, next = magazine_with(1));
    weir__depot_keep(&depots, 2, own = magazine_with(1));
    cr_assert_eq(weir__depot_get(&depots, 2, &stolen), own);
    cr_assert_not(stolen);
    cr_assert_eq(weir__depot_get(&depots, 2, &stolen), next, "3 comes after 2");
    cr_assert(stolen);
    cr_assert_eq(weir__depot_get(&depots, 2, &stolen), last, "then 0, which has none, then 1");
    cr_assert(stolen);
    cr_assert_null(weir__depot_get(&depots, 2, &stolen));
    cr_assert_not(stolen);
    finish();
}

Test(depot, any_domain_finds_what_any_other_has)
{
    bool stolen;
    for (unsigned domains = 1; domains <= 5; domains++)
        for (unsigned to = 0; to < domains; to++)
            for (unsigned from = 0; from < domains; from++) {
                start(domains, BASE, MOST);
                keep_n(from, 1);
                cr_assert_not_null(weir__depot_get(&depots, to, &stolen), "%u of %u from %u", to, domains,
                                   from);
                cr_assert_eq(stolen, from != to);
                finish();
            }
}

Test(depot, objects_are_counted_exactly)
{
    bool stolen;
    size_t objects = 0;
    start(3, BASE, MOST);
    for (uint32_t i = 0; i < 12; i++) {
        weir__depot_keep(&depots, i % 3, magazine_with(1 + i % CAPACITY));
        objects += 1 + i % CAPACITY;
        cr_assert_eq(weir__depots_objects(&depots, CAPACITY), objects);
    }
    for (unsigned i = 0; i < 4; i++) {
        objects -= weir__depot_get(&depots, 1, &stolen)->count;
        cr_assert_eq(weir__depots_objects(&depots, CAPACITY), objects);
    }
    weir__depot_decay(&depots, 0, 50);
    for (struct weir_stack_node *node = weir__depot_decay(&depots, 0, 50); node != NULL;
         node = weir_stack_next(node))
        objects -= weir_magazine_of_node(node)->count;
    cr_assert_eq(weir__depots_objects(&depots, CAPACITY), objects);
    for (struct weir_stack_node *node = weir__depot_drain(&depots, 2); node != NULL;
         node = weir_stack_next(node))
        objects -= weir_magazine_of_node(node)->count;
    cr_assert_eq(weir__depots_objects(&depots, CAPACITY), objects);
    cr_assert_gt(objects, 0u);
    finish();
}

/* --- the limit --- */

Test(depot, has_room_below_its_limit_only_and_keeps_above_it_all_the_same)
{
    start(1, BASE, MOST);
    for (unsigned i = 0; i < MOST; i++) {
        cr_assert(weir__depot_has_room(&depots, 0), "%u", i);
        keep_n(0, 1);
    }
    cr_assert_not(weir__depot_has_room(&depots, 0));
    keep_n(0, 3);
    cr_assert_not(weir__depot_has_room(&depots, 0));
    get_n(3);
    cr_assert_not(weir__depot_has_room(&depots, 0));
    get_n(1);
    cr_assert(weir__depot_has_room(&depots, 0));
    finish();
}

Test(depot, bounds_are_shared_among_the_domains_and_each_is_at_least_one)
{
    static const struct {
        unsigned domains;
        size_t base, most, each_base, each_most;
    } cases[] = {
        {1, 4, 16, 4, 16}, {4, 4, 16, 1, 4}, {4, 0, 0, 1, 1},
        {3, 4, 16, 1, 5},  {8, 2, 5, 1, 1},  {2, 9, 3, 4, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start(cases[i].domains, cases[i].base, cases[i].most);
        cr_assert_eq(limit(), cases[i].domains * cases[i].each_most, "case %zu", i);
        for (unsigned domain = 0; domain < cases[i].domains; domain++)
            weir__depot_drain(&depots, domain);
        cr_assert_eq(limit(), cases[i].domains * cases[i].each_base, "case %zu", i);
        finish();
    }
}

/* At its lower bound, and as many in it. */
static void start_at_base(void)
{
    start(1, BASE, MOST);
    weir__depot_drain(&depots, 0);
    keep_n(0, BASE);
    cr_assert_eq(limit(), (size_t)BASE);
}

Test(depot, limit_rises_by_one_when_something_was_spilled_and_then_missed)
{
    start_at_base();
    miss_n(1);
    cr_assert_eq(limit(), (size_t)BASE, "nothing was spilled");
    spill_n(3);
    cr_assert_eq(limit(), (size_t)BASE, "nothing was missed");
    miss_n(1);
    cr_assert_eq(limit(), BASE + 1u);
    miss_n(7);
    cr_assert_eq(limit(), BASE + 3u, "as often as there were spills");
    cr_assert_eq(weir__depots_raised(&depots), 3u);
    cr_assert(weir__depot_has_room(&depots, 0));
    finish();
}

Test(depot, limit_rises_up_to_the_most_and_no_further)
{
    start_at_base();
    for (size_t i = BASE; i < MOST + 5; i++) {
        spill_n(1);
        miss_n(1);
        cr_assert_eq(limit(), i < MOST ? i + 1 : (size_t)MOST);
        keep_n(0, i < MOST); /* up to the limit again */
    }
    cr_assert_eq(weir__depots_raised(&depots), (uint64_t)MOST - BASE);
    finish();
}

Test(depot, spills_are_forgotten_at_the_next_decay)
{
    start_at_base();
    spill_n(2);
    decay(25);
    miss_n(2);
    cr_assert_eq(limit(), (size_t)BASE);
    spill_n(2);
    weir__depot_drain(&depots, 0);
    miss_n(2);
    cr_assert_eq(limit(), (size_t)BASE);
    finish();
}

Test(depot, miss_raises_the_limit_of_its_own_domain_only)
{
    bool stolen;
    start(2, 2 * BASE, 2 * MOST);
    weir__depot_drain(&depots, 0);
    weir__depot_drain(&depots, 1);
    for (unsigned i = 0; i < BASE; i++)
        keep_n(1, 1);
    cr_assert_not(weir__depot_has_room(&depots, 1));
    weir__depot_missed(&depots, 0);
    cr_assert_eq(limit(), 2u * BASE);
    weir__depot_missed(&depots, 1);
    cr_assert_eq(limit(), 2u * BASE + 1);
    cr_assert_eq(depots.depot[1].limit, BASE + 1u);
    cr_assert_not_null(weir__depot_get(&depots, 0, &stolen));
    finish();
}

/* --- decay --- */

Test(depot, decay_takes_the_percent_of_what_was_never_used_rounded_up)
{
    static const unsigned percents[] = {1, 7, 25, 33, 50, 99, 100};
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++)
        for (unsigned kept = 1; kept <= 30; kept++) {
            start(1, 1, 100);
            keep_n(0, kept);
            cr_assert_eq(decay(percents[i]), 0u, "it was empty when the time began");
            cr_assert_eq(limit(), 100u);
            size_t share = (kept * percents[i] + 99) / 100;
            cr_assert_eq(decay(percents[i]), share, "%u%% of %u", percents[i], kept);
            cr_assert_eq(limit(), 100 - share);
            cr_assert_eq(weir__depots_objects(&depots, CAPACITY), (kept - share) * CAPACITY);
            finish();
        }
}

Test(depot, decay_leaves_what_was_used_since_the_last_time)
{
    start(1, BASE, MOST);
    keep_n(0, 10);
    decay(100);
    get_n(7); /* down to three */
    keep_n(0, 5);
    cr_assert_eq(decay(100), 3u);
    cr_assert_eq(limit(), MOST - 3u);
    cr_assert_eq(decay(100), 5u, "and now these were idle, too");
    finish();
}

Test(depot, busy_depot_that_runs_empty_keeps_its_limit)
{
    start(1, BASE, MOST);
    for (unsigned i = 0; i < 10; i++) {
        keep_n(0, 2);
        get_n(2);
        cr_assert_eq(decay(25), 0u);
        cr_assert_eq(limit(), (size_t)MOST);
    }
    finish();
}

Test(depot, limit_of_a_depot_that_nobody_uses_falls_to_the_base)
{
    size_t above = MOST - BASE;
    start(1, BASE, MOST);
    while (above != 0) {
        cr_assert_not(settled());
        above -= (above * 25 + 99) / 100;
        cr_assert_eq(decay(25), 0u);
        cr_assert_eq(limit(), BASE + above);
    }
    cr_assert(settled());
    cr_assert_eq(decay(25), 0u);
    cr_assert_eq(limit(), (size_t)BASE);
    cr_assert(settled());
    finish();
}

Test(depot, decay_by_any_percent_comes_to_an_end_and_the_limit_never_falls_below_the_base)
{
    for (unsigned percent = 1; percent <= 100; percent++) {
        unsigned rounds = 0;
        start(1, BASE, MOST);
        keep_n(0, 20); /* more than the limit */
        while (!settled()) {
            decay(percent);
            cr_assert_geq(limit(), (size_t)BASE);
            cr_assert_leq(++rounds, 60u, "%u%%", percent);
        }
        cr_assert_eq(weir__depots_objects(&depots, CAPACITY), 0u);
        cr_assert_eq(limit(), (size_t)BASE);
        finish();
    }
}

Test(depot, decay_of_one_domain_leaves_the_others)
{
    start(2, 2 * BASE, 2 * MOST);
    keep_n(0, 8);
    keep_n(1, 8);
    decay(100);
    cr_assert_eq(decay(100), 8u);
    cr_assert_eq(weir__depots_objects(&depots, CAPACITY), 8u * CAPACITY);
    cr_assert_eq(limit(), MOST - 8u + MOST);
    cr_assert_not(settled());
    finish();
}

Test(depot, drain_takes_all_and_lowers_the_limit_to_the_base)
{
    start(2, 2 * BASE, 2 * MOST);
    keep_n(0, 8);
    keep_n(1, 3);
    cr_assert_eq(length(weir__depot_drain(&depots, 0)), 8u);
    cr_assert_eq(weir__depots_objects(&depots, CAPACITY), 3u * CAPACITY);
    cr_assert_eq(limit(), BASE + (size_t)MOST);
    cr_assert_eq(length(weir__depot_drain(&depots, 0)), 0u);
    cr_assert_eq(length(weir__depot_drain(&depots, 1)), 3u);
    cr_assert(settled());
    finish();
}

Test(depot, what_a_thief_takes_counts_as_used)
{
    bool stolen;
    start(2, 2 * BASE, 2 * MOST);
    keep_n(0, 8);
    decay(100);
    for (unsigned i = 0; i < 6; i++)
        cr_assert_not_null(weir__depot_get(&depots, 1, &stolen));
    cr_assert_eq(decay(100), 2u);
    finish();
}

/* --- when memory is short --- */

Test(depot, shrink_takes_one_and_lowers_the_limit_by_one_but_not_below_the_base)
{
    start(1, BASE, MOST);
    keep_n(0, 3);
    for (unsigned i = 1; i <= 3; i++) {
        cr_assert_eq(length(weir__depot_shrink(&depots, 0)), 1u);
        cr_assert_eq(limit(), (size_t)MOST - i);
    }
    cr_assert_eq(length(weir__depot_shrink(&depots, 0)), 0u);
    cr_assert_eq(limit(), (size_t)MOST - 3, "there was nothing to be had");
    for (unsigned i = 0; i < 2 * MOST; i++) {
        keep_n(0, 1);
        cr_assert_eq(length(weir__depot_shrink(&depots, 0)), 1u);
    }
    cr_assert_eq(limit(), (size_t)BASE);
    finish();
}

Test(depot, what_comes_after_a_shrink_was_not_idle_all_the_time)
{
    start(1, BASE, MOST);
    keep_n(0, 8);
    decay(100);
    keep_n(0, 8);
    decay(1); /* one goes, seven have been there since then */
    while (weir__depot_shrink(&depots, 0) != NULL)
        ;
    keep_n(0, 7);
    cr_assert_eq(decay(100), 0u);
    finish();
}

/* --- who decays, and when there is nothing to be done --- */

Test(depot, is_watched_from_the_first_magazine_until_it_is_empty_and_at_its_base)
{
    start(1, BASE, MOST);
    cr_assert_not(weir__depots_watch(&depots), "nobody has ever used it");
    cr_assert(weir__depot_keep(&depots, 0, magazine_with(1)), "whoever decays must be told");
    cr_assert_not(weir__depot_keep(&depots, 0, magazine_with(1)), "and knows");
    cr_assert(weir__depots_watch(&depots));
    get_n(2);
    cr_assert(weir__depots_watch(&depots), "empty, but not at its base");
    cr_assert_not(weir__depot_keep(&depots, 0, magazine_with(1)));
    while (!settled())
        decay(50);
    cr_assert_not(weir__depots_watch(&depots));
    cr_assert(weir__depot_keep(&depots, 0, magazine_with(1)));
    cr_assert(weir__depots_watch(&depots), "at its base, but not empty");
    finish();
}

Test(depot, each_domain_is_watched_for_itself)
{
    start(3, BASE, MOST);
    cr_assert(weir__depot_keep(&depots, 1, magazine_with(1)));
    cr_assert(weir__depot_keep(&depots, 2, magazine_with(1)));
    weir__depot_drain(&depots, 1);
    cr_assert(weir__depots_watch(&depots));
    cr_assert(weir__depot_keep(&depots, 1, magazine_with(1)), "this one was not watched any more");
    cr_assert_not(weir__depot_keep(&depots, 2, magazine_with(1)), "and this one was");
    weir__depot_drain(&depots, 1);
    weir__depot_drain(&depots, 2);
    cr_assert_not(weir__depots_watch(&depots));
    finish();
}
