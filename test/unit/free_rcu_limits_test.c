/* SPDX-License-Identifier: MIT */
/* weir/free_rcu.h: arrays; how much may be pending, and what happens then; flush, reserve and sweeps. */
#include "free_rcu.h"
#include "fixtures.h"

#include <malloc.h>

#include "weir/page_cache.h"
#include "weir/shrinker.h"

#include "weir_test.h"

enum { CAPACITY = 4, NR = 2000, SIZE = 100 };

struct object {
    struct weir_rcu_head head;
    unsigned freed;
};

static struct object objects[NR];
static void *all[NR];
static unsigned nr_handed;
static struct gate gate;
static struct weir_reclaimer *reclaimer;
static struct weir_reclaimer_config config;
static unsigned other_cpu, done;

static void free_object(void *pointer)
{
    struct object *object = pointer;
    if (object < objects || object >= objects + NR || weir_xchg_relaxed(&object->freed, 1u))
        FIXTURE_FAIL("the free function was given %p, twice or wrongly", pointer);
}

static unsigned freed(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < NR; i++)
        n += weir_load_relaxed(&objects[i].freed);
    return n;
}

static size_t hundred_bytes(void *object)
{
    (void)object;
    return SIZE;
}

static struct weir_reclaimer_stats stats_now(void)
{
    struct weir_reclaimer_stats stats;
    weir_reclaimer_stats(reclaimer, &stats);
    return stats;
}

/* What a test changes in `config` comes between these two. */
static void prepare(bool open)
{
    memset(objects, 0, sizeof objects);
    for (unsigned i = 0; i < NR; i++)
        all[i] = &objects[i];
    nr_handed = done = 0;
    fixture_stay(&other_cpu);
    gate_create(&gate, open);
    config = (struct weir_reclaimer_config)WEIR_RECLAIMER_CONFIG_INIT;
    config.free_one = free_object;
    config.capacity = CAPACITY;
    config.grace = gate.grace;
}

static void start(void)
{
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
}

/* Grace periods that are stuck: the helper thread, inside one, empties no slot meanwhile. */
static void start_stuck(void)
{
    start();
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1);
}

static void finish(void)
{
    gate_open(&gate);
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
    cr_assert_eq(freed(), nr_handed, "%u of %u objects were freed", freed(), nr_handed);
    gate_destroy(&gate);
}

static size_t hand_over_array(size_t n, bool may_wait)
{
    size_t taken = may_wait ? weir_free_rcu_bulk_mightsleep(reclaimer, n, all + nr_handed)
                            : weir_free_rcu_bulk_try(reclaimer, n, all + nr_handed);
    cr_assert_leq(taken, n);
    /* The last ones were taken: they go to the front, where those are that were handed over before. */
    for (size_t i = 0; i < n - taken; i++) {
        void *left = all[nr_handed + i];
        all[nr_handed + i] = all[nr_handed + n - 1 - i];
        all[nr_handed + n - 1 - i] = left;
    }
    nr_handed += (unsigned)taken;
    return taken;
}

static void hand_over_two(unsigned n)
{
    while (n-- != 0) {
        struct object *object = all[nr_handed++];
        weir_free_rcu(reclaimer, object, &object->head);
    }
}

static int hand_over_mightsleep(void)
{
    int error = weir_free_rcu_mightsleep(reclaimer, all[nr_handed]);
    nr_handed += error == 0;
    return error;
}

/* --- configurations --- */

static void refused(const char *field)
{
    const char *why = weir_reclaimer_config_error(&config);
    cr_assert_not_null(why, "%s", field);
    cr_assert_eq(strncmp(why, field, strlen(field)), 0, "%s: %s", field, why);
    reclaimer = (void *)&config;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), -EINVAL);
    cr_assert_null(reclaimer);
    config = (struct weir_reclaimer_config)WEIR_RECLAIMER_CONFIG_INIT;
}

Test(free_rcu_limits, bad_configurations_are_refused_and_the_field_is_named)
{
    config = (struct weir_reclaimer_config)WEIR_RECLAIMER_CONFIG_INIT;
    cr_assert_null(weir_reclaimer_config_error(&config));
    cr_assert_null(weir_reclaimer_config_error(NULL));
    config.capacity = WEIR_RECLAIMER_CAPACITY_MAX + 1;
    refused("capacity");
    config.capacity = 10;
    config.max_pending = 9;
    refused("max_pending");
    config.max_pending = SIZE_MAX / 2 + 1;
    refused("max_pending");
    config.free_one = free_object;
    config.max_pending_bytes = 1;
    refused("max_pending_bytes");
    config.policy = (enum weir_pending_policy)3;
    refused("policy");
    config.reserve = WEIR_RECLAIMER_RESERVE_MAX + 1;
    refused("reserve");
    struct weir_block_source source = {chunks_get, chunks_put, NULL, 4096};
    config.block_source = &source;
    config.capacity = 509;
    refused("capacity");
    config.block_source = &source;
    config.capacity = 508;
    config.free_step = SIZE_MAX;
    cr_assert_null(weir_reclaimer_config_error(&config));
    config.max_pending_bytes = 1;
    cr_assert_null(weir_reclaimer_config_error(&config),
                   "free() frees what malloc_usable_size() can tell of");
}

Test(free_rcu_limits, array_frees_as_many_as_it_has_and_the_bytes_go_with_them)
{
    enum { ROOM = 50 };
    prepare(false);
    config.capacity = ROOM;
    config.free_step = 2;
    config.max_pending_bytes = 1000000;
    config.size_of = hundred_bytes;
    config.flush_milliseconds = 1000000;
    start();
    cr_assert_eq(hand_over_array(2 * ROOM, true), 2u * ROOM);
    weir_free_rcu_flush(reclaimer);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_open(&gate);
    FIXTURE_AWAIT(weir_grace_poll(gate.grace, cookie));
    cr_assert_eq(stats_now().pending_bytes, 2u * ROOM * SIZE);
    cr_assert_eq(hand_over_array(1, true), 1u);
    cr_assert_eq(freed(), 2u, "with a magazine of its own: a step");
    cr_assert_eq(hand_over_array(22, false), 22u);
    cr_assert_eq(freed(), 2u + 21u, "one had room");
    cr_assert_eq(stats_now().pending_bytes, (2u * ROOM - 23) * SIZE);
    cr_assert_eq(hand_over_array(26, true), 26u);
    cr_assert_eq(freed(), 23u + 26u);
    cr_assert_eq(stats_now().pending, nr_handed - freed());
    finish();
}

Test(free_rcu_limits, near_the_limit_whole_magazines_are_freed)
{
    enum { ROOM = 16 };
    prepare(false);
    config.capacity = ROOM;
    config.free_step = 1;
    config.max_pending = 8 * ROOM;
    config.flush_milliseconds = 1000000;
    start();
    hand_over_two(7 * ROOM + 1);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_open(&gate);
    FIXTURE_AWAIT(weir_grace_poll(gate.grace, cookie));
    hand_over_two(ROOM - 1);
    unsigned before = freed();
    cr_assert_leq(before, 2u * (ROOM - 1), "two at a time");
    hand_over_two(1);
    cr_assert_geq(freed(), before + ROOM, "by who puts a new one in place");
    finish();
}

Test(free_rcu_limits, small_limit_makes_magazines_small)
{
    for (size_t limit = 1; limit <= 300; limit = limit * 3 + 1) {
        prepare(false);
        config.capacity = 0;
        config.max_pending = limit;
        start_stuck();
        size_t taken = hand_over_array(limit, false);
        cr_assert_geq(taken, limit - limit / 4, "one CPU may use nearly all of it");
        cr_assert_eq(stats_now().pending, taken);
        cr_assert_eq(hand_over_array(1, false), 0u);
        finish();
    }
}

/* --- arrays --- */

static void arrays_of_every_size(bool may_wait)
{
    prepare(true);
    start();
    for (size_t n = 0; n <= 5 * CAPACITY + 1; n++) {
        cr_assert_eq(hand_over_array(n, may_wait), n);
        if (n % 3 == 0) {
            weir_free_rcu_barrier(reclaimer);
            cr_assert_eq(freed(), nr_handed);
        }
    }
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(freed(), nr_handed);
    cr_assert_eq(stats_now().freed, nr_handed);
    finish();
}

Test(free_rcu_limits, arrays_of_every_size_that_may_wait_are_freed)
{
    arrays_of_every_size(true);
}

Test(free_rcu_limits, arrays_of_every_size_that_may_not_wait_are_freed)
{
    arrays_of_every_size(false);
}

Test(free_rcu_limits, arrays_wait_for_a_full_grace_period)
{
    prepare(false);
    start_stuck();
    hand_over_array(3 * CAPACITY + 1, false);
    gate_let_one(&gate);
    gate_await_begun(&gate, 2);
    cr_assert_eq(weir_reclaimer_poll(reclaimer), 0u);
    cr_assert_eq(freed(), 0u);
    finish();
}

Test(free_rcu_limits, array_that_finds_too_much_pending_is_taken_in_part)
{
    prepare(false);
    config.max_pending = 3 * CAPACITY;
    start_stuck();
    cr_assert_eq(hand_over_array(2, false), 2u);
    cr_assert_eq(hand_over_array(4 * CAPACITY, false), 3u * CAPACITY - 2);
    cr_assert_eq(stats_now().refused, CAPACITY + 2u);
    cr_assert_eq(stats_now().pending, 3u * CAPACITY);
    cr_assert_eq(hand_over_array(5, false), 0u);
    finish();
}

static struct chunks chunks;

Test(free_rcu_limits, arrays_lose_nothing_when_magazines_cannot_be_had, .timeout = 120)
{
    for (unsigned k = 1; k <= 10; k++)
        for (unsigned n = 1; n <= 2; n++) {
            prepare(true);
            struct weir_block_source source = chunks_init(&chunks, 1, CAPACITY);
            config.block_source = &source;
            chunks.fail_from = k;
            chunks.fail_n = n < 2 ? 1 : UINT32_MAX;
            config.reserve = 0;
            cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
            for (size_t size = 1; size < 3 * CAPACITY; size += 2) {
                hand_over_array(size, false);
                cr_assert_eq(hand_over_array(size, true), size);
            }
            finish();
            cr_assert_eq(chunks.out, 0u);
        }
}

/* --- too much pending --- */

Test(free_rcu_limits, limit_is_for_all_cpus_together)
{
    prepare(false);
    config.max_pending = 4 * CAPACITY;
    start_stuck();
    cr_assert_eq(hand_over_array(2 * CAPACITY, false), 2u * CAPACITY);
    fixture_pin(other_cpu);
    cr_assert_eq(hand_over_array(3 * CAPACITY, false), 2u * CAPACITY);
    finish();
}

Test(free_rcu_limits, two_arguments_chain_beyond_the_limit_and_take_no_magazine)
{
    prepare(false);
    config.max_pending = 2 * CAPACITY;
    start_stuck();
    hand_over_two(2 * CAPACITY);
    cr_assert_eq(stats_now().chained, 0u);
    size_t magazines = stats_now().blocks.in_use;
    hand_over_two(1000);
    cr_assert_eq(stats_now().chained, 1000u);
    cr_assert_eq(stats_now().pending, 1000u + 2 * CAPACITY);
    cr_assert_eq(stats_now().blocks.in_use, magazines);
    cr_assert_eq(hand_over_array(1, false), 0u, "what is chained is pending, too");
    gate_open(&gate);
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(freed(), nr_handed);
    cr_assert_eq(stats_now().pending, 0u);
    cr_assert_eq(hand_over_array(2 * CAPACITY, false), 2u * CAPACITY);
    finish();
}

Test(free_rcu_limits, refusing_policy_says_no_at_once)
{
    prepare(false);
    config.max_pending = 2 * CAPACITY;
    config.policy = WEIR_PENDING_REFUSE;
    start_stuck();
    cr_assert_eq(hand_over_array(2 * CAPACITY + 3, true), 2u * CAPACITY);
    cr_assert_eq(hand_over_mightsleep(), -EAGAIN);
    cr_assert_eq(stats_now().refused, 4u);
    cr_assert_eq(stats_now().throttled, 2u);
    cr_assert_eq(stats_now().waits, 0u);
    gate_open(&gate);
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(hand_over_mightsleep(), 0);
    finish();
}

static void *one_might_sleep(void *unused)
{
    (void)unused;
    fixture_stay(NULL);
    cr_assert_eq(hand_over_mightsleep(), 0);
    weir_fetch_add_release(&done, 1u);
    return NULL;
}

Test(free_rcu_limits, waiting_policy_waits_for_a_full_grace_period_and_frees_its_object)
{
    prepare(false);
    config.max_pending = CAPACITY;
    start_stuck();
    hand_over_array(CAPACITY, false);
    pthread_t thread = fixture_thread(one_might_sleep, NULL);
    FIXTURE_AWAIT(stats_now().throttled == 1);
    gate_let_one(&gate); /* it began before */
    gate_await_begun(&gate, 2);
    fixture_sleep(20000);
    cr_assert_eq(weir_load_acquire(&done), 0u);
    cr_assert_eq(freed(), 0u);
    gate_open(&gate);
    pthread_join(thread, NULL);
    cr_assert_eq(stats_now().waits, 1u);
    cr_assert_eq(freed(), CAPACITY + 1u, "its own, and what was in its way");
    finish();
}

Test(free_rcu_limits, helping_policy_frees_what_other_cpus_have_finished_waiting_for)
{
    prepare(false);
    config.max_pending = 2 * CAPACITY;
    config.policy = WEIR_PENDING_HELP;
    start_stuck();
    fixture_pin(other_cpu);
    hand_over_array(2 * CAPACITY, false);
    weir_free_rcu_flush(reclaimer); /* what is full and lies in the slot */
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_let_one(&gate);
    gate_let_one(&gate);
    FIXTURE_AWAIT(weir_grace_poll(gate.grace, cookie));
    fixture_stay(NULL);
    cr_assert_eq(hand_over_mightsleep(), 0); /* grace periods do not end now: it must not need one */
    cr_assert_eq(freed(), 2u * CAPACITY);
    cr_assert_eq(stats_now().waits, 0u);
    finish();
}

Test(free_rcu_limits, bytes_are_limited_but_for_magazines_being_filled)
{
    prepare(false);
    config.max_pending_bytes = 10 * CAPACITY * SIZE;
    config.size_of = hundred_bytes;
    start_stuck();
    size_t taken = hand_over_array(100 * CAPACITY, false);
    cr_assert_geq(taken, 10u * CAPACITY);
    cr_assert_leq(taken, 11u * CAPACITY);
    cr_assert_geq(stats_now().pending_bytes, 10u * CAPACITY * SIZE);
    hand_over_two(10);
    cr_assert_eq(stats_now().pending_bytes, nr_handed * (size_t)SIZE,
                 "what was being filled has been sealed");
    gate_open(&gate);
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(stats_now().pending_bytes, 0u);
    finish();
}

Test(free_rcu_limits, bytes_of_malloc_are_what_malloc_says)
{
    prepare(false);
    config.free_one = NULL;
    config.max_pending_bytes = 1000000;
    start_stuck();
    size_t bytes = 0;
    for (unsigned i = 1; i <= 3 * CAPACITY; i++) {
        void *object = malloc(i * 100);
        bytes += malloc_usable_size(object);
        cr_assert(weir_free_rcu_try(reclaimer, object));
    }
    weir_free_rcu_flush(reclaimer);
    cr_assert_eq(stats_now().pending_bytes, bytes);
    gate_open(&gate);
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(stats_now().pending_bytes, 0u);
    finish();
}

/* --- flush, sweeps, reserve --- */

Test(free_rcu_limits, flush_lets_the_grace_period_of_half_full_magazines_begin)
{
    prepare(false);
    config.flush_milliseconds = 3600000; /* nobody else does */
    start();
    hand_over_array(1, false);
    fixture_pin(other_cpu);
    hand_over_array(1, false);
    cr_assert_eq(gate_begun(&gate), 0u);
    weir_free_rcu_flush(reclaimer);
    gate_await_begun(&gate, 1);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_let_one(&gate);
    gate_let_one(&gate);
    FIXTURE_AWAIT(weir_grace_poll(gate.grace, cookie));
    weir_reclaimer_poll(reclaimer);
    FIXTURE_AWAIT(freed() == 2);
    finish();
}
Test(free_rcu_limits, reserve_is_made_at_the_start)
{
    prepare(true);
    struct weir_block_source source = chunks_init(&chunks, 1, CAPACITY);
    config.block_source = &source;
    config.reserve = 3;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
    unsigned made = chunks.calls;
    cr_assert_geq(made, 3u);
    chunks.fail_n = UINT32_MAX; /* no more from now on */
    cr_assert_eq(hand_over_array(3 * CAPACITY, false), 3u * CAPACITY);
    cr_assert_eq(stats_now().chain_total, 0u);
    finish();
    cr_assert_eq(chunks.out, 0u);
}

Test(free_rcu_limits, reserve_that_cannot_be_had_fails_the_creation)
{
    for (unsigned k = 1; k <= 3; k++) {
        prepare(true);
        struct weir_block_source source = chunks_init(&chunks, 1, CAPACITY);
        config.block_source = &source;
        chunks.fail_from = k;
        chunks.fail_n = UINT32_MAX;
        config.reserve = 3;
        cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), -ENOMEM);
        cr_assert_null(reclaimer);
        cr_assert_eq(chunks.out, 0u);
        gate_destroy(&gate);
    }
}

/* --- under pressure, and with a page cache --- */

enum { LARGE = WEIR_RECLAIMER_CAPACITY_DEFAULT };

Test(free_rcu_limits, shrinking_gives_idle_magazines_back_but_for_the_reserve)
{
    prepare(false);
    config.capacity = LARGE;
    config.reserve = 1;
    start();
    size_t reserve = stats_now().blocks.total;
    cr_assert_eq(hand_over_array(NR, false), (size_t)NR);
    gate_open(&gate);
    weir_free_rcu_barrier(reclaimer);
    size_t most = stats_now().blocks.total;
    cr_assert_geq(most, (size_t)NR / LARGE);
    cr_assert_eq(stats_now().blocks.in_use, 0u);
    size_t given = weir_shrink(SIZE_MAX);
    cr_assert_eq(stats_now().blocks.total, reserve);
    cr_assert_geq(given, (most - reserve) * LARGE * sizeof(void *));
    finish();
}

Test(free_rcu_limits, shrinking_lets_what_is_queued_go_and_keeps_no_magazines_for_a_while)
{
    prepare(false);
    config.capacity = LARGE;
    config.reserve = 0;
    config.flush_milliseconds = 3600000;
    start();
    hand_over_array(NR / 2, false);
    cr_assert_eq(weir_shrink(SIZE_MAX), 0u, "no grace period has ended");
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_open(&gate);
    FIXTURE_AWAIT(weir_grace_poll(gate.grace, cookie));
    cr_assert_geq(weir_shrink(SIZE_MAX), (size_t)NR / 2);
    FIXTURE_AWAIT(freed() == NR / 2); /* or the helper thread did it */
    FIXTURE_AWAIT(stats_now().waiting == 0);
    cr_assert_eq(stats_now().blocks.total, 0u);
    finish();
}

Test(free_rcu_limits, magazines_may_come_from_a_page_cache)
{
    struct weir_page_cache_config page_config = WEIR_PAGE_CACHE_CONFIG_INIT;
    struct weir_page_cache *pages;
    struct weir_block_source source;
    prepare(true);
    page_config.grace = gate.grace;
    page_config.capacity = (size_t)16 << 20;
    cr_assert_eq(weir_page_cache_create(&pages, &page_config), 0);
    weir_page_cache_block_source(pages, &source);
    config.block_source = &source;
    config.capacity = LARGE;
    start();
    hand_over_array(NR, false);
    cr_assert_eq(stats_now().chain_total + stats_now().refused, 0u);
    cr_assert_eq(weir_page_cache_destroy(pages), -EBUSY);
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
    cr_assert_eq(freed(), nr_handed);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
    gate_destroy(&gate);
}

Test(free_rcu_limits, page_cache_without_pages_left_loses_nothing)
{
    struct weir_page_cache_config page_config = WEIR_PAGE_CACHE_CONFIG_INIT;
    struct weir_page_cache *pages;
    struct weir_block_source source;
    static void *page[4096];
    size_t n;
    prepare(true);
    page_config.grace = gate.grace;
    page_config.capacity = (size_t)2 << 20;
    cr_assert_eq(weir_page_cache_create(&pages, &page_config), 0);
    weir_page_cache_block_source(pages, &source);
    config.block_source = &source;
    config.capacity = LARGE;
    config.reserve = 0;
    start();
    for (n = 0; n < 4096 && (page[n] = weir_page_alloc(pages)) != NULL; n++)
        ;
    hand_over_two(20);
    cr_assert_eq(stats_now().chain_total, 20u);
    cr_assert_eq(hand_over_array(20, false), 0u);
    cr_assert_eq(hand_over_array(20, true), 20u);
    cr_assert_eq(stats_now().waits, 20u);
    weir_page_free_bulk(pages, n, page);
    weir_page_cache_drain_all(pages, WEIR_DRAIN_EXPEDITED);
    hand_over_two(20);
    cr_assert_eq(stats_now().chain_total, 20u);
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
    cr_assert_eq(freed(), nr_handed);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
    gate_destroy(&gate);
}

/* --- without a helper thread --- */

/* A source whose grace periods are asked for; they end when `open`, or when `allowed` says so. */
static struct {
    unsigned begun, over, allowed;
    bool open;
} asked;

static uint64_t asked_begin(void *arg)
{
    (void)arg;
    return weir_fetch_add_acq_rel(&asked.begun, 1u);
}

static bool asked_over(void *arg, uint64_t begun)
{
    (void)arg;
    if (!weir_load_acquire(&asked.open) && begun >= weir_load_acquire(&asked.allowed))
        return false;
    weir_fetch_add_acq_rel(&asked.over, 1u);
    return true;
}

static void prepare_without_helper(void)
{
    static const struct weir_grace_source source = {
        .name = "asked", .begin = asked_begin, .over = asked_over, .no_helper = true};
    prepare(true);
    gate_destroy(&gate);
    memset(&asked, 0, sizeof asked);
    cr_assert_eq(weir_grace_create(&config.grace, &source), 0);
    config.flush_milliseconds = 1;
}

static void finish_without_helper(void)
{
    weir_store_release(&asked.open, true);
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
    cr_assert_eq(freed(), nr_handed);
    weir_grace_put(config.grace);
}

static unsigned threads_now(void)
{
    char line[100];
    unsigned threads = 0;
    FILE *file = fopen("/proc/self/status", "r");
    cr_assert_not_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Threads: %u", &threads) == 1)
            break;
    fclose(file);
    return threads;
}

Test(free_rcu_limits, poll_alone_frees_everything_without_a_helper_thread)
{
    prepare_without_helper();
    unsigned threads = threads_now();
    start();
    cr_assert_eq(threads_now(), threads);
    hand_over_array(3 * CAPACITY + 1, false);
    hand_over_two(2);
    for (unsigned i = 0; i < 10; i++) {
        weir_reclaimer_poll(reclaimer);
        fixture_sleep(1000);
    }
    cr_assert_eq(freed(), 0u, "the grace period has not ended");
    weir_store_release(&asked.open, true);
    FIXTURE_AWAIT((weir_reclaimer_poll(reclaimer), freed()) == nr_handed);
    finish_without_helper();
}

Test(free_rcu_limits, barrier_and_mightsleep_drive_grace_periods_without_a_helper_thread)
{
    prepare_without_helper();
    config.max_pending = CAPACITY;
    weir_store_release(&asked.open, true);
    start();
    for (unsigned i = 0; i < 10 * CAPACITY; i++)
        cr_assert_eq(hand_over_mightsleep(), 0);
    cr_assert_gt(stats_now().waits, 0u);
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(freed(), nr_handed);
    finish_without_helper();
}

Test(free_rcu_limits, polls_empty_no_more_slots_while_what_they_took_still_waits)
{
    prepare_without_helper();
    start();
    for (unsigned i = 0; i < 30; i++) {
        hand_over_array(1, false);
        for (unsigned polls = 0; polls < 5; polls++) {
            weir_reclaimer_poll(reclaimer);
            fixture_sleep(500);
        }
    }
    cr_assert_eq(freed(), 0u);
    cr_assert_leq(stats_now().waiting, 30u / CAPACITY + 2, "not one for each object");
    finish_without_helper();
}

/* --- barrier, beside others who chain --- */

struct slow_object {
    struct weir_rcu_head head;
    unsigned *freed; /* NULL: nobody wants to know */
};

static unsigned stop_chaining;

static void free_slowly(void *pointer)
{
    struct slow_object *object = pointer;
    for (unsigned spin = 1000; spin != 0; spin--)
        weir_cpu_pause();
    if (object->freed != NULL)
        weir_store_release(object->freed, 1u);
    free(object);
}

static void chain_one(unsigned *freed_flag)
{
    struct slow_object *object = malloc(sizeof *object);
    cr_assert_not_null(object);
    object->freed = freed_flag;
    weir_free_rcu(reclaimer, object, &object->head);
}

static void *chain_on_and_on(void *unused)
{
    while (!weir_load_acquire(&stop_chaining)) {
        chain_one(NULL);
        if (stats_now().chained > 1000)
            fixture_sleep(1000);
    }
    return unused;
}

Test(free_rcu_limits, barrier_waits_for_what_was_chained_before_and_not_for_as_much_that_came_later,
     .timeout = 120)
{
    prepare(true);
    config.capacity = 1;
    config.max_pending = 4;
    config.free_one = free_slowly;
    start();
    weir_store_release(&stop_chaining, 0u);
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++)
        threads[i] = fixture_thread(chain_on_and_on, NULL);
    for (unsigned i = 0; i < 40; i++) {
        static unsigned mine[40];
        chain_one(&mine[i]);
        cr_assert_eq(weir_free_rcu_barrier(reclaimer), 0);
        cr_assert_eq(weir_load_acquire(&mine[i]), 1u, "round %u", i);
    }
    weir_store_release(&stop_chaining, 1u);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
    gate_destroy(&gate);
}
