/* SPDX-License-Identifier: MIT */
/*
 * weir/cache.h over a backend that counts and can be told to fail: nothing is lost and nothing comes twice,
 * whatever fails; what is given back when; and what the statistics say.
 */
#include <urcu/urcu-qsbr.h>

#include "cache_fixture.h"

/* --- making one --- */

Test(cache, bad_configurations_are_refused)
{
    static const struct weir_cache_ops no_alloc = {NULL, backend_free}, no_free = {backend_alloc, NULL};
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    cache = (void *)&config;
    cr_assert_eq(weir_cache_create(&cache, NULL), -EINVAL);
    cr_assert_null(cache);
    cr_assert_eq(weir_cache_create(&cache, &config), -EINVAL);
    config.ops = &no_alloc;
    cr_assert_eq(weir_cache_create(&cache, &config), -EINVAL);
    config.ops = &no_free;
    cr_assert_eq(weir_cache_create(&cache, &config), -EINVAL);
    config.ops = &ops;
    config.capacity = WEIR_CACHE_CAPACITY_MAX + 1;
    cr_assert_eq(weir_cache_create(&cache, &config), -EINVAL);
    cr_assert_null(cache);
    cr_assert_eq(weir_cache_destroy(NULL), 0);
}

/* The first word of what is wrong with a configuration is the field's name. */
static void check_error(const struct weir_cache_config *config, const char *field)
{
    const char *said = weir_cache_config_error(config);
    if (field == NULL) {
        cr_assert_null(said);
        return;
    }
    cr_assert_not_null(said, "%s", field);
    cr_assert_eq(strncmp(said, field, strlen(field)), 0, "'%s' does not begin with '%s'", said, field);
    cr_assert_eq(weir_cache_create(&cache, config), -EINVAL, "%s", field);
}

Test(cache, what_is_wrong_with_a_configuration_is_said)
{
    static const struct weir_cache_ops no_alloc = {NULL, backend_free}, no_free = {backend_alloc, NULL};
    struct weir_cache_config config = config_of(0, 0);
    check_error(&config, NULL);
    check_error(NULL, "config: ");
    config.ops = NULL;
    check_error(&config, "ops: ");
    config.ops = &no_alloc;
    check_error(&config, "ops: ");
    config.ops = &no_free;
    check_error(&config, "ops: ");
    config = config_of(WEIR_CACHE_CAPACITY_MAX, SIZE_MAX / 2);
    check_error(&config, NULL);
    config.capacity++;
    check_error(&config, "capacity: ");
    config = config_of(0, SIZE_MAX / 2 + 1);
    check_error(&config, "high: ");
    config = config_of(0, 0);
    config.decay_percent = 100;
    check_error(&config, NULL);
    config.decay_percent = 101;
    check_error(&config, "decay_percent: ");
}

Test(cache, capacity_follows_the_size_of_the_objects)
{
    static const struct {
        size_t object_size, capacity;
    } cases[] = {
        {0, WEIR_CACHE_CAPACITY_DEFAULT},
        {1, 252},
        {64, 252},
        {2080, 252},
        {2081, 124},
        {4096, 124},
        {4228, 124},
        {4229, 60},
        {8738, 60},
        {8739, 28},
        {18724, 28},
        {18725, 12},
        {43690, 12},
        {43691, 4},
        {1 << 20, 4},
        {SIZE_MAX, 4},
    };
    prepare(true);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct weir_cache_config config = config_of(0, 0);
        config.object_size = cases[i].object_size;
        cr_assert_eq(weir_cache_capacity_for(config.object_size), cases[i].capacity, "%zu",
                     config.object_size);
        cr_assert_eq(weir_cache_create(&cache, &config), 0);
        cr_assert_eq(cache->capacity, cases[i].capacity);
        weir_cache_destroy(cache);
        config.capacity = 7; /* what was asked for comes first */
        cr_assert_eq(weir_cache_create(&cache, &config), 0);
        cr_assert_eq(cache->capacity, 7u);
        weir_cache_destroy(cache);
    }
}

Test(cache, magazines_fill_whole_cache_lines)
{
    for (size_t size = 1; size < (size_t)1 << 17; size += size / 8 + 1) {
        size_t capacity = weir_cache_capacity_for(size), bytes = WEIR_MAGAZINE_BYTES(capacity);
        cr_assert_leq(WEIR__CHUNK_STRIDE(bytes) - bytes, sizeof(void *), "%zu could be one more", capacity);
    }
}

Test(cache, largest_and_smallest_capacity_work)
{
    static const size_t capacities[] = {1, 2, 3, WEIR_CACHE_CAPACITY_MAX, 0};
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
        fixture_stay(NULL);
        backend_init(&backend, NR);
        gate_create(&gate, true);
        struct weir_cache_config config = config_of(capacities[i], 0);
        cr_assert_eq(weir_cache_create(&cache, &config), 0);
        cr_assert_eq(take_n(NR), (size_t)NR);
        cr_assert_not(take());
        give_rcu(NR / 2);
        give_n(nr_held);
        weir_cache_rcu_barrier(cache);
        check_counts(0);
        finish();
    }
}

Test(cache, default_grace_period_source_is_qsbr)
{
    backend_init(&backend, NR);
    struct weir_cache_config config = config_of(0, 0);
    cr_assert_null(config.grace);
    cr_assert_eq(weir_cache_create(&cache, &config), 0);
    take_n(NR);
    give_rcu(NR);
    weir_cache_rcu_barrier(cache);
    check_counts(0);
    cr_assert_geq(stats_now().periods, 1u);
    cr_assert_eq(weir_cache_destroy(cache), 0);
    backend_destroy(&backend);
}

/* --- objects in and out --- */

Test(cache, every_object_is_handed_out_once_and_then_none)
{
    start(0, true);
    cr_assert_eq(take_n(NR + 1), (size_t)NR);
    cr_assert_not(take());
    cr_assert_eq(take_bulk(1), 0u);
    give_n(1);
    cr_assert(take());
    check_counts(0);
    finish();
}

Test(cache, bulk_of_any_size_gets_and_gives_all)
{
    static const size_t sizes[] = {0, 1, CAPACITY - 1, CAPACITY, CAPACITY + 1, 3 * CAPACITY + 2, 50, NR};
    start(0, true);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++) {
            cr_assert_eq(take_bulk(sizes[i]), sizes[i]);
            size_t more = sizes[j] < NR - nr_held ? sizes[j] : NR - nr_held;
            cr_assert_eq(take_bulk(sizes[j]), more);
            check_counts(0);
            give_bulk(nr_held);
            check_counts(0);
        }
    finish();
}

Test(cache, bulk_gives_what_there_is)
{
    start(0, true);
    cr_assert_eq(take_n(NR - 10), (size_t)NR - 10);
    cr_assert_eq(take_bulk(30), 10u);
    check_counts(0);
    finish();
}

Test(cache, bulk_free_leaves_the_callers_array_alone)
{
    void *copy[50];
    start(1, true); /* almost everything goes on to the backend, which scribbles over arrays */
    cr_assert_eq(take_bulk(50), 50u);
    memcpy(copy, held, sizeof copy);
    give_bulk(50);
    cr_assert_eq(memcmp(copy, held, sizeof copy), 0);
    finish();
}

Test(cache, mix_around_a_magazines_boundary_stays_off_the_backend_and_the_depot)
{
    for (size_t amplitude = 1; amplitude <= CAPACITY; amplitude++) {
        for (size_t offset = 0; offset < 2 * CAPACITY; offset++) {
            start(0, true);
            take_n(8 * CAPACITY);
            give_n(2 * CAPACITY + offset);
            take_n(amplitude); /* after the first swing both magazines are there */
            give_n(amplitude);
            struct weir_cache_stats before = stats_now();
            for (unsigned i = 0; i < 100; i++) {
                cr_assert_eq(take_n(amplitude), amplitude);
                give_n(amplitude);
            }
            struct weir_cache_stats after = stats_now();
            cr_assert_eq(after.alloc_calls, before.alloc_calls, "%zu, %zu", amplitude, offset);
            cr_assert_eq(after.free_calls, before.free_calls, "%zu, %zu", amplitude, offset);
            cr_assert_eq(after.depot_hits, before.depot_hits, "%zu, %zu", amplitude, offset);
            check_counts(0);
            finish();
        }
    }
}

Test(cache, freed_objects_come_before_fresh_ones)
{
    start(10 * CAPACITY, true);
    take_n(10 * CAPACITY);
    give_n(10 * CAPACITY);
    struct weir_cache_stats before = stats_now();
    cr_assert_eq(take_n(10 * CAPACITY), 10u * CAPACITY);
    cr_assert_eq(stats_now().alloc_calls, before.alloc_calls);
    cr_assert_geq(stats_now().depot_hits, before.depot_hits + 8);
    finish();
}

Test(cache, backend_is_asked_once_per_magazine)
{
    start(0, true);
    take_n(10 * CAPACITY);
    cr_assert_eq(backend.alloc_calls, 10u);
    cr_assert_eq(stats_now().refills, 10u);
    finish();
}

Test(cache, backend_that_gives_few_at_a_time_is_enough)
{
    for (size_t most = 1; most <= CAPACITY; most++) {
        start(0, true);
        backend.most = most;
        cr_assert_eq(take_n(NR / 2), NR / 2u);
        cr_assert_eq(take_bulk(CAPACITY), (size_t)CAPACITY);
        give_bulk(nr_held);
        check_counts(0);
        backend.most = SIZE_MAX;
        finish();
    }
}

Test(cache, depot_keeps_its_limit_and_the_rest_goes_to_the_backend)
{
    for (size_t high = 1; high <= 10 * CAPACITY; high += 3) {
        start(high, true);
        take_n(NR);
        give_n(NR);
        size_t kept = (high + CAPACITY - 1) / CAPACITY * CAPACITY;
        cr_assert_leq(stats_now().cached, kept + 2 * CAPACITY);
        cr_assert_geq(stats_now().cached, kept);
        check_counts(0);
        finish();
    }
}

Test(cache, alloc_nolock_takes_what_is_cached_and_never_calls_the_backend)
{
    start(10 * CAPACITY, true);
    cr_assert_null(weir_cache_alloc_nolock(cache));
    cr_assert_eq(backend.alloc_calls, 0u);
    take_n(10 * CAPACITY);
    give_n(10 * CAPACITY);
    struct weir_cache_stats before = stats_now();
    for (size_t i = 0; i < before.cached; i++) {
        void *object = weir_cache_alloc_nolock(cache);
        cr_assert_not_null(object, "after %zu of %zu", i, before.cached);
        held[nr_held++] = backend_own(&backend, object);
    }
    cr_assert_eq(nr_held, 10u * CAPACITY);
    cr_assert_null(weir_cache_alloc_nolock(cache));
    cr_assert_eq(stats_now().alloc_calls, before.alloc_calls);
    cr_assert_eq(stats_now().free_calls, before.free_calls);
    finish();
}

/* A slot that cannot be used now makes whatever was taken go back to the depot, which is at its limit. */
static void alloc_nolock_without_slot(void)
{
    for (unsigned i = 0; i < 2 * CAPACITY; i++)
        held[nr_held++] = backend_own(&backend, weir_cache_alloc_nolock(cache));
}

#if WEIR__RSEQ
static void *alloc_nolock_without_rseq(void *unused)
{
    (void)unused;
    fixture_pin(cpu);
    if (fixture_unregister_rseq(-1))
        alloc_nolock_without_slot();
    return NULL;
}
#endif

Test(cache, alloc_nolock_puts_what_it_pushes_out_into_a_depot_that_is_full)
{
    start(1, true);
    take_n(4 * CAPACITY);
    give_n(3 * CAPACITY); /* loaded, spare, and one in the depot: no room */
    cr_assert_eq(stats_now().cached, 3u * CAPACITY);
    cr_assert_eq(weir__depots_limit(&cache->depots), 1u);
    struct weir_cache_stats before = stats_now();
    if (fixture_locked()) {
        cache->cpus[cpu].loaded.busy = 1; /* as if its holder had been preempted */
        alloc_nolock_without_slot();
        cache->cpus[cpu].loaded.busy = 0;
    } else {
#if WEIR__RSEQ
        pthread_join(fixture_thread(alloc_nolock_without_rseq, NULL), NULL);
#endif
    }
    cr_assert_eq(stats_now().alloc_calls, before.alloc_calls);
    cr_assert_eq(stats_now().free_calls, before.free_calls);
    cr_assert_eq(stats_now().spills, before.spills);
    check_counts(0);
    finish();
}

/* --- giving back --- */

Test(cache, decay_gives_back_a_quarter_of_what_was_not_used_rounded_up_until_nothing_is_left)
{
    size_t in_depot, idle;
    start(20 * CAPACITY, true);
    take_n(15 * CAPACITY);
    give_n(15 * CAPACITY);
    idle = in_depot = 13; /* magazines; the rest is loaded and spare */
    cr_assert_eq(stats_now().cached, 15u * CAPACITY);
    cr_assert_eq(weir_cache_decay(cache), 0u, "it was empty at first: nothing has been idle all the time");
    for (bool first = true; in_depot != 0; first = false) {
        uint64_t before = backend.taken;
        size_t share = (idle + 3) / 4;
        cr_assert_eq(weir_cache_decay(cache), share * CAPACITY);
        cr_assert_eq(backend.taken - before, share * CAPACITY);
        in_depot -= share;
        idle = in_depot;
        in_depot += first; /* the spare of a CPU that had no exchange: in the depot from now on */
        check_counts(0);
    }
    cr_assert_eq(weir_cache_decay(cache), 0u);
    cr_assert_eq(stats_now().cached, (size_t)CAPACITY);
    cr_assert_eq(stats_now().decayed, 14u * CAPACITY);
    finish();
}

Test(cache, drain_cpu_gives_back_what_is_loaded_and_spare_and_leaves_the_depot)
{
    start(20 * CAPACITY, true);
    take_n(10 * CAPACITY);
    give_n(10 * CAPACITY);
    errno = 1;
    cr_assert_eq(weir_cache_drain_cpu(cache, cpu, usual_drain()), 2u * CAPACITY);
    cr_assert_eq(errno, 0);
    cr_assert_eq(stats_now().cached, 8u * CAPACITY);
    check_counts(0);
    errno = 1;
    cr_assert_eq(weir_cache_drain_cpu(cache, cpu, usual_drain()), 0u);
    cr_assert_eq(errno, 0);
    finish();
}

static void *fill_other_cpu(void *unused)
{
    (void)unused;
    fixture_pin(other_cpu);
    cr_assert_eq(take_n(3 * CAPACITY), 3u * CAPACITY);
    give_n(2 * CAPACITY - 1);
    return NULL;
}

Test(cache, another_cpus_objects_can_be_drained)
{
    start(20 * CAPACITY, true);
    pthread_join(fixture_thread(fill_other_cpu, NULL), NULL);
    size_t cached = stats_now().cached;
    cr_assert_geq(cached, 2u * CAPACITY - 1);
    cr_assert_eq(weir_cache_drain_cpu(cache, other_cpu, usual_drain()), cached);
    cr_assert_eq(stats_now().cached, 0u);
    check_counts(0);
    finish();
}

Test(cache, drain_all_leaves_nothing)
{
    start(20 * CAPACITY, true);
    pthread_join(fixture_thread(fill_other_cpu, NULL), NULL);
    take_n(10 * CAPACITY);
    give_n(nr_held);
    size_t cached = stats_now().cached;
    errno = 1;
    cr_assert_eq(weir_cache_drain_all(cache, usual_drain()), cached);
    cr_assert_eq(errno, 0);
    cr_assert_eq(stats_now().cached, 0u);
    cr_assert_eq(backend_lent(&backend), 0u);
    cr_assert_eq(take_n(NR), (size_t)NR, "it can still be used");
    finish();
}

static void check_refused(size_t result, int error, const char *what)
{
    int found = errno;
    cr_assert_eq(result, 0u, "%s", what);
    cr_assert_eq(found, error, "%s: errno %d, not %d", what, found, error);
    cr_assert_eq(stats_now().cached, 2u * CAPACITY, "%s", what);
    errno = 0;
}

Test(cache, drains_that_cannot_be_done_are_refused_and_change_nothing)
{
    enum weir_drain refused = fixture_locked() ? WEIR_DRAIN_EXPEDITED : WEIR_DRAIN_LOCK;
    start(20 * CAPACITY, true);
    take_n(2 * CAPACITY);
    give_n(2 * CAPACITY);
    check_refused(weir_cache_drain_cpu(cache, weir_percpu_nr_cpus(), usual_drain()), EINVAL, "no such CPU");
    check_refused(weir_cache_drain_cpu(cache, cpu, (enum weir_drain)3), EINVAL, "no such way");
    check_refused(weir_cache_drain_all(cache, (enum weir_drain)77), EINVAL, "no such way");
    check_refused(weir_cache_drain_cpu(cache, cpu, WEIR_DRAIN_QUIET), ENOTSUP, "quiet");
    check_refused(weir_cache_drain_all(cache, WEIR_DRAIN_QUIET), ENOTSUP, "quiet");
    check_refused(weir_cache_drain_cpu(cache, cpu, refused), ENOTSUP, "the other mode's");
    check_refused(weir_cache_drain_all(cache, refused), ENOTSUP, "the other mode's");
    finish();
}

Test(cache, quiet_drain_waits_for_a_grace_period)
{
    cpu = fixture_stay(&other_cpu);
    backend_init(&backend, NR);
    gate_create(&gate, true);
    struct weir_cache_config config = config_of(CAPACITY, 0);
    config.registered_users = true;
    cr_assert_eq(weir_cache_create(&cache, &config), 0);
    take_n(2 * CAPACITY);
    give_n(2 * CAPACITY);
    unsigned begun = gate_begun(&gate);
    cr_assert_eq(weir_cache_drain_cpu(cache, cpu, WEIR_DRAIN_QUIET), 2u * CAPACITY);
    cr_assert_eq(errno, 0);
    cr_assert(fixture_locked() || gate_begun(&gate) > begun, "where sequences are, it has to wait");
    take_n(2 * CAPACITY);
    give_n(2 * CAPACITY);
    cr_assert_eq(weir_cache_drain_all(cache, WEIR_DRAIN_QUIET), 2u * CAPACITY);
    cr_assert_eq(errno, 0);
    check_counts(0);
    finish();
}

Test(cache, online_reader_drains_quietly_without_deadlock)
{
    backend_init(&backend, NR);
    struct weir_cache_config config = config_of(CAPACITY, 0);
    config.registered_users = true;
    cr_assert_eq(weir_cache_create(&cache, &config), 0);
    urcu_qsbr_register_thread();
    take_n(2 * CAPACITY);
    give_n(2 * CAPACITY);
    cr_assert_eq(weir_cache_drain_all(cache, WEIR_DRAIN_QUIET), 2u * CAPACITY);
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
    cr_assert_eq(weir_cache_destroy(cache), 0);
    backend_destroy(&backend);
}

Test(cache, destroy_gives_everything_back)
{
    start(5 * CAPACITY, true);
    pthread_join(fixture_thread(fill_other_cpu, NULL), NULL);
    take_n(NR / 2);
    give_rcu(2 * CAPACITY + 1);
    give_n(20);
    finish();
}

/* --- after a grace period --- */

Test(cache, rcu_freed_objects_wait_for_a_full_grace_period)
{
    start(0, false);
    take_n(NR);
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1); /* this one began too early for what follows */
    give_rcu(3 * CAPACITY + 1);
    check_counts(3 * CAPACITY + 1);
    cr_assert_not(take());
    gate_let_one(&gate);
    gate_await_begun(&gate, 2);
    cr_assert_not(take());
    cr_assert_eq(take_bulk(1), 0u);
    cr_assert_null(weir_cache_alloc_nolock(cache));
    cr_assert_eq(stats_now().rcu_freed, 0u);
    gate_let_one(&gate);
    gate_await(&gate, &gate.ended, 2);
    FIXTURE_AWAIT(stats_now().periods == 2);
    cr_assert_eq(take_n(3 * CAPACITY), 3u * CAPACITY, "nobody had to ask for them");
    gate_open(&gate);
    weir_cache_rcu_barrier(cache);
    cr_assert_eq(stats_now().rcu_freed, 3u * CAPACITY + 1);
    cr_assert_eq(stats_now().waiting, 0u);
    cr_assert(take());
    cr_assert_not(take());
    check_counts(0);
    finish();
}

static void *free_rcu_on_other_cpu(void *unused)
{
    (void)unused;
    fixture_pin(other_cpu);
    give_rcu(CAPACITY + 2);
    return NULL;
}

Test(cache, barrier_brings_back_what_other_cpus_handed_over)
{
    start(0, true);
    take_n(NR);
    pthread_join(fixture_thread(free_rcu_on_other_cpu, NULL), NULL);
    give_rcu(1);
    weir_cache_rcu_barrier(cache);
    cr_assert_eq(stats_now().rcu_freed, (uint64_t)CAPACITY + 3);
    check_counts(0);
    finish();
}

Test(cache, alloc_finds_what_came_back_on_another_cpu_before_it_says_there_is_nothing)
{
    start(0, false);
    take_n(NR);
    pthread_join(fixture_thread(free_rcu_on_other_cpu, NULL), NULL);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_let_one(&gate);
    gate_let_one(&gate);
    weir_grace_wait(gate.grace, cookie);
    cr_assert(take());
    finish();
}

Test(cache, idle_cpus_objects_come_back_by_themselves)
{
    start(0, true);
    take_n(NR);
    give_rcu(3);
    FIXTURE_AWAIT(stats_now().rcu_freed == 3);
    FIXTURE_AWAIT(stats_now().waiting == 0);
    check_counts(0);
    finish();
}

Test(cache, rcu_freed_objects_above_the_depots_limit_go_to_the_backend)
{
    start(CAPACITY, true);
    take_n(NR);
    give_rcu(NR);
    weir_cache_rcu_barrier(cache);
    cr_assert_leq(stats_now().cached, (size_t)CAPACITY);
    check_counts(0);
    finish();
}

/* --- failures --- */

Test(cache, random_use_loses_nothing, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        start(seed % 7 * CAPACITY, true);
        use_everything(seed, 200);
        finish();
    }
}

/* With `magazines` per chunk; `fail_n` chunks from `fail_from` on are not to be had. */
static unsigned use_with_failing_chunks(size_t magazines, unsigned fail_from, unsigned fail_n)
{
    struct chunks chunks;
    fixture_stay(NULL);
    backend_init(&backend, NR);
    gate_create(&gate, true);
    struct weir_block_source source = chunks_init(&chunks, magazines, CAPACITY);
    chunks.fail_from = fail_from;
    chunks.fail_n = fail_n;
    struct weir_cache_config config = config_of(CAPACITY, 8 * CAPACITY);
    cr_assert_eq(weir__cache_create(&cache, &config, &(struct weir__cache_surroundings){.chunks = &source}),
                 0);
    use_everything(77, 60);
    give_rcu(nr_held); /* not with give_n(), for once */
    finish();
    cr_assert_eq(chunks.out, 0u);
    return chunks.calls;
}

Test(cache, magazine_that_cannot_be_had_loses_nothing, .timeout = 120)
{
    for (size_t magazines = 1; magazines <= 3; magazines++) {
        unsigned calls = use_with_failing_chunks(magazines, 0, 0);
        cr_assert_geq(calls, 2u);
        for (unsigned k = 1; k <= calls; k++) {
            use_with_failing_chunks(magazines, k, 1);
            use_with_failing_chunks(magazines, k, UINT32_MAX);
        }
    }
}

Test(cache, without_any_magazine_objects_come_straight_from_the_backend)
{
    struct chunks chunks;
    fixture_stay(NULL);
    backend_init(&backend, NR);
    gate_create(&gate, true);
    struct weir_block_source source = chunks_init(&chunks, 1, CAPACITY);
    chunks.fail_n = UINT32_MAX;
    struct weir_cache_config config = config_of(CAPACITY, 0);
    cr_assert_eq(weir__cache_create(&cache, &config, &(struct weir__cache_surroundings){.chunks = &source}),
                 0);
    cr_assert_eq(take_n(10), 10u);
    cr_assert_eq(take_bulk(NR), (size_t)NR - 10);
    give_n(3);
    void *copy[7];
    memcpy(copy, held + nr_held - 7, sizeof copy);
    give_bulk(7);
    cr_assert_eq(memcmp(copy, held + nr_held, sizeof copy), 0, "the array is the caller's, and const");
    cr_assert_eq(backend_lent(&backend), (size_t)NR - 10);
    give_rcu(5);
    cr_assert_eq(stats_now().rcu_waits, 5u);
    cr_assert_geq(gate_begun(&gate), 5u);
    cr_assert_gt(stats_now().blocks.misses, 0u);
    cr_assert_eq(stats_now().blocks.total, 0u);
    check_counts(0);
    finish();
    cr_assert_eq(chunks.out, 0u);
}

/* Of the backend's allocating calls, `n` from the `first` on give nothing; how many there were. */
static uint64_t use_with_failing_backend(uint64_t first, uint64_t n)
{
    start(4 * CAPACITY, true);
    backend.fail_from = first;
    backend.fail_n = n;
    use_everything(99, 60);
    uint64_t calls = backend.alloc_calls;
    finish();
    return calls;
}

Test(cache, backend_that_fails_at_any_call_loses_nothing, .timeout = 120)
{
    uint64_t calls = use_with_failing_backend(0, 0);
    cr_assert_gt(calls, 5u);
    for (uint64_t k = 1; k <= calls; k++) {
        use_with_failing_backend(k, 1);
        use_with_failing_backend(k, 5);
        use_with_failing_backend(k, UINT64_MAX);
    }
}

Test(cache, alloc_recovers_when_the_backend_does)
{
    start(0, true);
    backend.fail_from = 1;
    backend.fail_n = UINT64_MAX;
    cr_assert_not(take());
    cr_assert_eq(take_bulk(5), 0u);
    check_counts(0);
    backend.fail_n = 0;
    cr_assert(take());
    cr_assert_eq(take_bulk(5), 5u);
    finish();
}

/* --- teardown at any point --- */

/* One operation of a script; false at its end. */
static bool use_once(unsigned step)
{
    static const char script[] =
        "aaaaaBaFaarrrfffffAbfraaAanrDfffaBBffrrrrrrbdaaaaafffffffffcAfaaaBrfSafffnRaaaarbbA";
    switch (script[step]) {
    case 'a':
        take();
        break;
    case 'A':
        take_bulk(2 * CAPACITY + 1);
        break;
    case 'B':
        take_bulk(5 * CAPACITY);
        break;
    case 'f':
        give_n(nr_held != 0);
        break;
    case 'F':
    case 'b':
        give_bulk(nr_held / 2);
        break;
    case 'r':
        give_rcu(nr_held != 0);
        break;
    case 'R':
        weir_cache_rcu_barrier(cache);
        break;
    case 'n': {
        void *object = weir_cache_alloc_nolock(cache);
        if (object != NULL)
            held[nr_held++] = backend_own(&backend, object);
        break;
    }
    case 'd':
        weir_cache_decay(cache);
        break;
    case 'D':
        weir_cache_drain_all(cache, usual_drain());
        break;
    case 'c':
        weir_cache_drain_cpu(cache, cpu, usual_drain());
        break;
    case 'S':
        weir_cache_shrink(cache);
        break;
    default:
        return false;
    }
    return true;
}

/* What is still held goes back last, in one way or the other; destroy() must find it wherever it lies. */
Test(cache, destroyed_at_any_point_it_gives_everything_back, .timeout = 120)
{
    bool all = false;
    for (unsigned last = 0; !all; last++)
        for (unsigned way = 0; way < 3; way++) {
            start(3 * CAPACITY, true);
            unsigned step = 0;
            while (step < last && use_once(step))
                step++;
            all = step < last;
            if (way == 1)
                give_rcu(nr_held);
            else if (way == 2)
                give_bulk(nr_held);
            finish();
        }
}

Test(cache, objects_that_are_out_when_it_is_destroyed_are_the_backends_concern)
{
    start(3 * CAPACITY, true);
    take_n(10);
    weir_cache_destroy(cache);
    cr_assert_eq(backend_lent(&backend), 10u);
    for (unsigned i = 0; i < 10; i++)
        backend_disown(held[i]);
    backend_free(&backend, 10, held);
    gate_destroy(&gate);
    backend_destroy(&backend);
}

/* --- statistics of the magazines --- */

Test(cache, magazines_are_counted)
{
    start(0, true);
    take_n(CAPACITY + 1);
    struct weir_block_stats blocks = stats_now().blocks;
    cr_assert_eq(blocks.in_use, 2u, "loaded and spare");
    cr_assert_geq(blocks.total, 2u);
    cr_assert_eq(blocks.grown, 1u);
    cr_assert_eq(blocks.misses, 0u);
    finish();
}

/* --- threads without rseq --- */

#if WEIR__RSEQ

static void *use_without_rseq(void *unused)
{
    (void)unused;
    fixture_pin(cpu);
    if (!fixture_unregister_rseq(-1))
        return NULL;
    for (unsigned i = 0; i < 20; i++) {
        cr_assert_eq(take_n(5), 5u);
        give_rcu(2);
        give_n(3);
        cr_assert_eq(take_bulk(2 * CAPACITY + 1), 2u * CAPACITY + 1);
        give_bulk(2 * CAPACITY + 1);
    }
    return NULL;
}

Test(cache, thread_without_rseq_gets_and_gives_objects)
{
    start(0, true);
    take_n(3 * CAPACITY);
    give_n(nr_held);
    pthread_join(fixture_thread(use_without_rseq, NULL), NULL);
    weir_cache_rcu_barrier(cache);
    check_counts(0);
    finish();
}

#endif
