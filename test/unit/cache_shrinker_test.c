/* SPDX-License-Identifier: MIT */
/* Caches among those whom weir_shrink() asks: each one's share, where it comes from, and when they come and go. */
#include "cache_fixture.h"
#include "weir/free_rcu.h"
#include "weir/shrinker.h"

#include <signal.h>
#include <sys/wait.h>

enum { MOST = 24, BASE = MOST / 4 }; /* magazines in the depot */
enum { BYTES = 1000 };               /* per object, as far as the cache knows */

static struct weir_cache_config shrinkable(size_t object_size)
{
    struct weir_cache_config config = config_of(CAPACITY, MOST * CAPACITY);
    config.object_size = object_size;
    return config;
}

static void start_shrinkable(unsigned domains)
{
    prepare(true);
    struct weir_cache_config config = shrinkable(BYTES);
    create(&config, &(struct weir__cache_surroundings){NULL, imitate(domains)});
}

static size_t in_depot(unsigned domain)
{
    return weir_pool_count(&cache->depots.depot[domain].full);
}

static size_t loaded_on(unsigned nr)
{
    return weir_percpu_count(cache->paths.loaded, nr);
}

static size_t spare_on(unsigned nr)
{
    const struct weir_magazine *spare = cache->cpus[nr].spare;
    return spare != NULL ? spare->count : 0;
}

/* So many magazines' worth lie idle, two of them on this CPU. */
static void fill(size_t magazines)
{
    cr_assert_eq(take_n(magazines * CAPACITY), magazines * CAPACITY);
    give_n(magazines * CAPACITY);
    cr_assert_eq(stats_now().cached, magazines * CAPACITY);
}

/* --- shares --- */

static struct backend other_backend;

static struct weir_cache *fill_other_cache(size_t object_size, size_t magazines)
{
    struct weir_cache *other;
    struct weir_cache_config config = shrinkable(object_size);
    void *objects[NR];
    backend_init(&other_backend, NR);
    config.backend = &other_backend;
    cr_assert_eq(weir_cache_create(&other, &config), 0);
    cr_assert_eq(weir_cache_alloc_bulk(other, magazines * CAPACITY, objects), magazines * CAPACITY);
    weir_cache_free_bulk(other, magazines * CAPACITY, objects);
    return other;
}

static void free_nothing(void *arg, size_t n, void *objects[])
{
    (void)arg;
    (void)n;
    (void)objects;
}

enum { IDLE_PAGES = 60 };

/* Magazines, a page each, which are idle after the grace period. */
static struct weir_reclaimer *fill_reclaimer(void)
{
    static void *objects[IDLE_PAGES * WEIR_RECLAIMER_CAPACITY_DEFAULT];
    static char any[IDLE_PAGES * WEIR_RECLAIMER_CAPACITY_DEFAULT];
    struct weir_reclaimer *reclaimer;
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    size_t n = sizeof objects / sizeof objects[0];
    config.free_bulk = free_nothing;
    config.grace = gate.grace;
    config.capacity = WEIR_RECLAIMER_CAPACITY_DEFAULT;
    config.max_pending = n;
    config.reserve = 0;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
    for (size_t i = 0; i < n; i++)
        objects[i] = &any[i];
    for (size_t i = 0; i < n; i++)
        cr_assert(weir_free_rcu_try(reclaimer, objects[i]));
    return reclaimer;
}

static void check_share(size_t given, size_t had, size_t want, size_t all, size_t piece)
{
    size_t share = (size_t)((double)had * ((double)want / (double)all));
    cr_assert_geq(given, share);
    cr_assert_leq(given, share + 1 + piece, "%zu instead of %zu", given, share);
}

Test(cache_shrinker, two_caches_and_a_reclaimer_each_give_their_share)
{
    prepare(false);
    struct weir_cache_config config = shrinkable(4096);
    create(&config, &(struct weir__cache_surroundings){NULL, imitate(1)});
    fill(20);
    struct weir_cache *other = fill_other_cache(20000, 15);
    size_t caches = weir_shrinkable();
    struct weir_reclaimer *reclaimer = fill_reclaimer();
    gate_open(&gate);
    cr_assert_eq(weir_free_rcu_barrier(reclaimer), 0);

    struct weir_cache_stats before, after;
    struct weir_reclaimer_stats pages_before, pages_after;
    weir_cache_stats(other, &before);
    weir_reclaimer_stats(reclaimer, &pages_before);
    size_t had = stats_now().cached * 4096, others = before.cached * 20000, all = weir_shrinkable();
    cr_assert_eq(had + others, caches);
    cr_assert_geq(all - caches, (size_t)20 * 4096, "pages of the reclaimer");

    size_t want = all / 3, given = weir_shrink(want);
    weir_cache_stats(other, &after);
    weir_reclaimer_stats(reclaimer, &pages_after);
    size_t pages = (size_t)(pages_after.blocks.given_back - pages_before.blocks.given_back) * 4096;
    check_share(had - stats_now().cached * 4096, had, want, all, CAPACITY * 4096);
    check_share(others - after.cached * 20000, others, want, all, CAPACITY * 20000);
    check_share(pages, all - caches, want, all, 4096);
    cr_assert_geq(given, want);
    cr_assert_eq(all - weir_shrinkable(), given);

    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
    cr_assert_eq(weir_cache_destroy(other), 0);
    cr_assert_eq(backend_lent(&other_backend), 0u);
    finish();
    cr_assert_eq(weir_shrinkable(), 0u);
}

Test(cache_shrinker, part_of_an_object_is_an_object)
{
    start_shrinkable(1);
    fill(10);
    cr_assert_eq(weir_shrink(CAPACITY * BYTES), (size_t)CAPACITY * BYTES);
    cr_assert_eq(weir_shrink(CAPACITY * BYTES + 1), (size_t)2 * CAPACITY * BYTES);
    finish();
}

/* --- where it comes from --- */

Test(cache_shrinker, depot_comes_first_then_the_spare_then_what_is_loaded)
{
    start_shrinkable(1);
    fill(10);
    size_t in = in_depot(0), spare = spare_on(cpu), loaded = loaded_on(cpu);
    cr_assert(in >= 2 && spare != 0 && loaded != 0);
    for (; in != 0; in--) {
        size_t limit = weir__depots_limit(&cache->depots);
        cr_assert_gt(weir_shrink(1), 0u);
        cr_assert_eq(in_depot(0), in - 1);
        cr_assert_eq(weir__depots_limit(&cache->depots), limit > BASE ? limit - 1 : BASE);
        cr_assert_eq(spare_on(cpu), spare);
        cr_assert_eq(loaded_on(cpu), loaded);
    }
    cr_assert_eq(weir_shrink(1), spare * BYTES);
    cr_assert_eq(spare_on(cpu), 0u);
    cr_assert_eq(loaded_on(cpu), loaded);
    cr_assert_eq(weir_shrink(1), loaded * BYTES);
    cr_assert_eq(stats_now().cached, 0u);
    cr_assert_eq(stats_now().drained, 10u * CAPACITY);
    cr_assert_eq(weir_shrink(1), 0u);
    check_counts(0);
    finish();
}

/* Loads one magazine on each CPU, and nothing else is idle. */
static void load_both(void)
{
    weir_cache_shrink(cache);
    fixture_pin(other_cpu);
    cr_assert(take());
    give_n(1);
    fixture_pin(cpu);
    cr_assert(take());
    give_n(1);
}

Test(cache_shrinker, only_so_many_cpus_are_interrupted_as_are_needed_and_another_one_each_time)
{
    unsigned hit_here = 0, hit_there = 0;
    if (!find_cpus())
        return;
    start_shrinkable(1);
    for (unsigned i = 0; i < 2 * weir_percpu_nr_cpus(); i++) {
        load_both();
        size_t here = loaded_on(cpu), there = loaded_on(other_cpu);
        cr_assert(here != 0 && there != 0);
        size_t given = weir_shrink(1);
        cr_assert_neq(loaded_on(cpu) == 0, loaded_on(other_cpu) == 0, "one of them");
        hit_here += loaded_on(cpu) == 0;
        hit_there += loaded_on(other_cpu) == 0;
        cr_assert_eq(given, (loaded_on(cpu) == 0 ? here : there) * BYTES);
    }
    cr_assert(hit_here != 0 && hit_there != 0, "%u and %u times", hit_here, hit_there);
    load_both();
    size_t both = loaded_on(cpu) + loaded_on(other_cpu);
    cr_assert_eq(weir_shrink(SIZE_MAX), both * BYTES);
    finish();
}

Test(cache_shrinker, depots_of_all_domains_give_in_turn)
{
    if (!find_cpus())
        return;
    start_shrinkable(2);
    cr_assert_eq(take_n(16 * CAPACITY), 16u * CAPACITY);
    fixture_pin(other_cpu);
    give_n(8 * CAPACITY);
    fixture_pin(cpu);
    give_n(8 * CAPACITY);
    size_t here = in_depot(0), there = in_depot(1);
    cr_assert(here >= 2 && there >= 2, "%zu and %zu", here, there);
    weir_shrink((size_t)4 * CAPACITY * BYTES);
    cr_assert_eq(in_depot(0), here - 2);
    cr_assert_eq(in_depot(1), there - 2);
    size_t rest = stats_now().cached;
    cr_assert_eq(weir_shrink(SIZE_MAX), rest * BYTES);
    cr_assert_eq(in_depot(0) + in_depot(1), 0u);
    finish();
}

Test(cache_shrinker, what_waits_for_a_grace_period_is_not_counted)
{
    prepare(false);
    struct weir_cache_config config = shrinkable(BYTES);
    create(&config, &(struct weir__cache_surroundings){NULL, imitate(1)});
    cr_assert(take());
    give_rcu(1);
    size_t idle = stats_now().cached;
    cr_assert_eq(weir_shrinkable(), idle * BYTES);
    cr_assert_eq(weir_shrink(SIZE_MAX), idle * BYTES);
    finish();
}

/* --- coming and going --- */

static int destroyed;

static void destroy_inside(void)
{
    destroyed = weir_cache_destroy(cache);
}

Test(cache_shrinker, destroying_it_inside_its_own_scan_is_an_error)
{
    start_shrinkable(1);
    fill(5);
    backend.entered = destroy_inside;
    cr_assert_gt(weir_shrink(1), 0u);
    cr_assert_eq(destroyed, -EDEADLK);
    backend.entered = NULL;
    cr_assert_gt(weir_shrink(1), 0u, "it is still registered");
    finish();
}

static uint32_t inside, let_go, done;

static void stay(void)
{
    weir_store_release(&inside, 1u);
    while (weir_load_acquire(&let_go) == 0)
        fixture_sleep(200);
}

static void *shrink_all(void *unused)
{
    (void)unused;
    weir_shrink(SIZE_MAX);
    return NULL;
}

static void *destroy_it(void *unused)
{
    (void)unused;
    cr_assert_eq(weir_cache_destroy(cache), 0);
    weir_store_release(&done, 1u);
    return NULL;
}

Test(cache_shrinker, destroy_waits_for_the_scan_that_is_under_way)
{
    start_shrinkable(1);
    fill(5);
    backend.entered = stay;
    pthread_t shrinking = fixture_thread(shrink_all, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&inside) == 1);
    pthread_t destroying = fixture_thread(destroy_it, NULL);
    FIXTURE_AWAIT(weir_shrinkable() == 0); /* it is leaving */
    fixture_sleep(20000);                  /* time to go wrong in */
    cr_assert_eq(weir_load_acquire(&done), 0u);
    weir_store_release(&let_go, 1u);
    pthread_join(shrinking, NULL);
    pthread_join(destroying, NULL);
    cr_assert_eq(backend_lent(&backend), 0u);
    backend_destroy(&backend);
    gate_destroy(&gate);
}

enum { COMING = 3, TURNS = 60 };

static uint32_t still_coming;

static void *come_and_go(void *unused)
{
    struct weir_cache_config config = shrinkable(BYTES);
    (void)unused;
    for (unsigned i = 0; i < TURNS; i++) {
        struct weir_cache *mine;
        void *objects[NR / COMING];
        cr_assert_eq(weir_cache_create(&mine, &config), 0);
        for (unsigned j = 0; j < 10; j++)
            weir_cache_free_bulk(mine, weir_cache_alloc_bulk(mine, NR / COMING, objects), objects);
        weir_shrink((size_t)i * BYTES);
        cr_assert_eq(weir_cache_destroy(mine), 0);
    }
    weir_fetch_sub_release(&still_coming, 1u);
    return NULL;
}

Test(cache_shrinker, caches_come_and_go_while_others_shrink, .timeout = 60)
{
    pthread_t threads[COMING];
    prepare(true);
    still_coming = COMING;
    for (unsigned i = 0; i < COMING; i++)
        threads[i] = fixture_thread(come_and_go, NULL);
    while (weir_load_acquire(&still_coming) != 0)
        weir_shrink(weir_shrinkable() / 2);
    for (unsigned i = 0; i < COMING; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(backend.taken, backend.given);
    cr_assert_eq(backend_lent(&backend), 0u);
    cr_assert_eq(weir_shrinkable(), 0u);
    backend_destroy(&backend);
    gate_destroy(&gate);
}

/* --- fork(). The children start no threads. --- */

/* Runs `body` in a child; its exit status has to be 0. One that hangs is killed by its alarm. */
static void in_child(int (*body)(void))
{
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        alarm(FIXTURE_PATIENCE_SECONDS);
        _exit(body());
    }
    int status = -1;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status %d", status);
}

static int shrink_and_leave(void)
{
    size_t cached = stats_now().cached;
    if (cached == 0 || weir_shrinkable() != cached * BYTES || weir_shrink(SIZE_MAX) != cached * BYTES)
        return 1;
    if (weir_cache_destroy(cache) != 0 || backend_lent(&backend) != 0)
        return 2;
    return weir_shrinkable() == 0 ? 0 : 3;
}

Test(cache_shrinker, child_has_it_in_its_register_and_can_destroy_it)
{
    start_shrinkable(1);
    fill(8);
    in_child(shrink_and_leave);
    finish();
}

static void *stay_in_the_gate(void *unused)
{
    (void)unused;
    cr_assert(weir__enter());
    stay();
    weir__leave();
    return NULL;
}

static int cannot_be_created(void)
{
    struct weir_cache_config config = shrinkable(BYTES);
    struct weir_cache *another = cache;
    unsigned periods = gate.begun;
    for (unsigned i = 0; i < 2; i++)
        if (weir_cache_create(&another, &config) != -EOWNERDEAD || another != NULL)
            return 1;
    if (weir_cache_destroy(cache) != -EOWNERDEAD || weir_shrink(SIZE_MAX) != 0)
        return 2;
    return gate.begun == periods ? 0 : 3;
}

Test(cache_shrinker, one_that_cannot_be_registered_is_not_made)
{
    start_shrinkable(1);
    fill(8);
    weir__fork_patience = 50;
    pthread_t thread = fixture_thread(stay_in_the_gate, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&inside) == 1);
    in_child(cannot_be_created);
    weir_store_release(&let_go, 1u);
    pthread_join(thread, NULL);
    finish();
}
