/* SPDX-License-Identifier: MIT */
/* weir/free_rcu.h: each object is freed once, after a full grace period, whatever there is no memory for. */
#include "free_rcu.h"
#include "fixtures.h"

#include <urcu/urcu-qsbr.h>

#include "weir_test.h"

enum { CAPACITY = 4, NR = 400 };

struct object {
    char before[8];
    struct weir_rcu_head head; /* not at the beginning */
    unsigned handed, freed;
    bool gone; /* plain: written by the free function, read after a barrier */
};

static struct object objects[NR];
static unsigned nr_handed; /* objects[0..] so far */
static struct gate gate;
static struct weir_reclaimer *reclaimer;
static unsigned cpu, other_cpu;
static int token;

static void free_object(void *pointer)
{
    struct object *object = pointer;
    if (object < objects || object >= objects + NR ||
        (size_t)((char *)object - (char *)objects) % sizeof *object)
        FIXTURE_FAIL("the free function was given %p", pointer);
    if (!weir_load_relaxed(&object->handed))
        FIXTURE_FAIL("object %td was freed, but never handed over", object - objects);
    object->gone = true;
    if (weir_xchg_relaxed(&object->freed, 1u))
        FIXTURE_FAIL("object %td was freed twice", object - objects);
}

static size_t bulk_calls;

static void free_objects(void *arg, size_t n, void *array[])
{
    if (arg != &token || n == 0)
        FIXTURE_FAIL("the bulk free function was given a wrong argument");
    weir_fetch_add_relaxed(&bulk_calls, (size_t)1);
    for (size_t i = 0; i < n; i++) {
        free_object(array[i]);
        array[i] = &token;
    }
}

static unsigned freed(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < NR; i++)
        n += weir_load_relaxed(&objects[i].freed);
    return n;
}

static struct weir_reclaimer_stats stats_now(void)
{
    struct weir_reclaimer_stats stats;
    weir_reclaimer_stats(reclaimer, &stats);
    return stats;
}

static struct weir_reclaimer_config config_now(void)
{
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    config.free_one = free_object;
    config.capacity = CAPACITY;
    config.max_pending = 1000 * CAPACITY;
    config.reserve = 0;
    config.grace = gate.grace;
    return config;
}

static void start(bool open)
{
    cpu = fixture_stay(&other_cpu);
    gate_create(&gate, open);
    struct weir_reclaimer_config config = config_now();
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
}

static void finish(void)
{
    gate_open(&gate);
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
    cr_assert_eq(freed(), nr_handed, "%u of %u objects were freed", freed(), nr_handed);
    gate_destroy(&gate);
}

enum form { TWO_ARGUMENTS, MIGHTSLEEP, TRY, FORMS };

static struct object *next_object(void)
{
    struct object *object = &objects[weir_fetch_add_relaxed(&nr_handed, 1u)];
    cr_assert(object < objects + NR);
    weir_store_relaxed(&object->handed, 1u);
    return object;
}

static bool hand_over(enum form form)
{
    struct object *object = next_object();
    switch (form) {
    case TWO_ARGUMENTS:
        weir_free_rcu(reclaimer, object, &object->head);
        return true;
    case MIGHTSLEEP:
        cr_assert_eq(weir_free_rcu_mightsleep(reclaimer, object), 0);
        return true;
    default:
        if (weir_free_rcu_try(reclaimer, object))
            return true;
        weir_store_relaxed(&object->handed, 0u); /* still ours */
        weir_fetch_sub_relaxed(&nr_handed, 1u);
        return false;
    }
}

static void hand_over_n(enum form form, unsigned n)
{
    while (n-- != 0)
        cr_assert(hand_over(form));
}

/* --- making one --- */

Test(free_rcu, bad_configurations_are_refused)
{
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    reclaimer = (void *)&config;
    config.capacity = WEIR_RECLAIMER_CAPACITY_MAX + 1;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), -EINVAL);
    cr_assert_null(reclaimer);
    cr_assert_eq(weir_reclaimer_destroy(NULL), 0);
}

Test(free_rcu, defaults_are_qsbr_and_free)
{
    cr_assert_eq(weir_reclaimer_create(&reclaimer, NULL), 0);
    for (unsigned i = 0; i < 2000; i++) {
        struct object *object = malloc(sizeof *object);
        if (i % 3 == 0)
            weir_free_rcu(reclaimer, object, &object->head);
        else if (i % 3 == 1)
            cr_assert_eq(weir_free_rcu_mightsleep(reclaimer, object), 0);
        else
            cr_assert(weir_free_rcu_try(reclaimer, object));
    }
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(stats_now().freed, 2000u);
    cr_assert_eq(stats_now().waiting, 0u);
    cr_assert_eq(stats_now().refused, 0u);
    cr_assert_geq(stats_now().periods, 1u);
    struct object *last = malloc(sizeof *last);
    weir_free_rcu(reclaimer, last, &last->head);
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
}

Test(free_rcu, any_capacity_works)
{
    static const size_t capacities[] = {1, 2, 3, 509, WEIR_RECLAIMER_CAPACITY_MAX, 0};
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
        gate_create(&gate, true);
        struct weir_reclaimer_config config = config_now();
        config.capacity = capacities[i];
        config.max_pending = 0;
        cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
        hand_over_n(TWO_ARGUMENTS, 20);
        hand_over_n(MIGHTSLEEP, 20);
        finish();
    }
}

/* --- freed, once, and not too early --- */

Test(free_rcu, barrier_frees_what_each_form_handed_over)
{
    start(true);
    for (enum form form = TWO_ARGUMENTS; form < FORMS; form++)
        for (unsigned n = 0; n <= 2 * CAPACITY + 1; n++) {
            hand_over_n(form, n);
            weir_free_rcu_barrier(reclaimer);
            cr_assert_eq(freed(), nr_handed, "form %d, %u objects", form, n);
            cr_assert_eq(stats_now().freed, nr_handed);
            cr_assert_eq(stats_now().waiting, 0u);
        }
    finish();
}

static void frees_after_a_full_grace_period(enum form form)
{
    start(false);
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1); /* began before what follows: it does not count */
    hand_over_n(form, 2 * CAPACITY + 1);
    cr_assert_eq(weir_reclaimer_poll(reclaimer), 0u);
    gate_let_one(&gate);
    gate_await_begun(&gate, 2);
    cr_assert_eq(weir_reclaimer_poll(reclaimer), 0u);
    cr_assert_eq(freed(), 0u);
    cr_assert_eq(stats_now().periods, 1u);
    gate_let_one(&gate);
    FIXTURE_AWAIT(stats_now().periods == 2);
    weir_reclaimer_poll(reclaimer); /* or the helper thread has done it already */
    FIXTURE_AWAIT(freed() >= 2 * CAPACITY);
    finish();
}

Test(free_rcu, two_arguments_free_after_a_full_grace_period)
{
    frees_after_a_full_grace_period(TWO_ARGUMENTS);
}

Test(free_rcu, mightsleep_frees_after_a_full_grace_period)
{
    frees_after_a_full_grace_period(MIGHTSLEEP);
}

Test(free_rcu, try_frees_after_a_full_grace_period)
{
    frees_after_a_full_grace_period(TRY);
}

static unsigned barriers_done;

static void *call_barrier(void *unused)
{
    (void)unused;
    weir_free_rcu_barrier(reclaimer);
    weir_fetch_add_release(&barriers_done, 1u);
    return NULL;
}

Test(free_rcu, barrier_does_not_return_before_a_full_grace_period_has_ended)
{
    start(false);
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1);
    hand_over_n(TWO_ARGUMENTS, 2);
    pthread_t thread = fixture_thread(call_barrier, NULL);
    fixture_sleep(20000);
    gate_let_one(&gate);
    gate_await_begun(&gate, 2);
    fixture_sleep(20000);
    cr_assert_eq(weir_load_acquire(&barriers_done), 0u);
    cr_assert_eq(freed(), 0u);
    gate_open(&gate);
    pthread_join(thread, NULL);
    cr_assert_eq(freed(), 2u);
    finish();
}

Test(free_rcu, poll_frees_what_is_done_and_says_how_many_magazines)
{
    start(false);
    hand_over_n(TWO_ARGUMENTS, 5 * CAPACITY);
    gate_await_begun(&gate, 1);
    cr_assert_eq(weir_reclaimer_poll(reclaimer), 0u);
    cr_assert_eq(stats_now().waiting, 5u);
    size_t polled = 0;
    gate_open(&gate);
    FIXTURE_AWAIT((polled += weir_reclaimer_poll(reclaimer), freed()) == 5 * CAPACITY);
    cr_assert_leq(polled, 5u);
    FIXTURE_AWAIT(stats_now().waiting == 0);
    finish();
}

Test(free_rcu, whoever_hands_over_frees_what_is_done)
{
    start(false);
    hand_over_n(TWO_ARGUMENTS, CAPACITY + 1);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_let_one(&gate);
    gate_let_one(&gate);
    FIXTURE_AWAIT(weir_grace_poll(gate.grace, cookie));
    hand_over_n(TWO_ARGUMENTS, CAPACITY);
    FIXTURE_AWAIT(freed() >= CAPACITY);
    finish();
}

Test(free_rcu, few_objects_are_freed_although_nothing_more_is_called)
{
    start(true);
    for (unsigned round = 1; round <= 5; round++) {
        hand_over_n(TWO_ARGUMENTS, 1 + round % 3);
        FIXTURE_AWAIT(freed() == nr_handed);
    }
    FIXTURE_AWAIT(stats_now().waiting == 0);
    finish();
}

static void *hand_over_elsewhere(void *form)
{
    fixture_pin(other_cpu);
    hand_over_n((enum form)(uintptr_t)form, CAPACITY / 2 + 1);
    return NULL;
}

Test(free_rcu, barrier_frees_half_full_magazines_of_other_cpus)
{
    start(true);
    for (enum form form = TWO_ARGUMENTS; form < FORMS; form++) {
        pthread_join(fixture_thread(hand_over_elsewhere, (void *)(uintptr_t)form), NULL);
        hand_over_n(form, 1);
        weir_free_rcu_barrier(reclaimer);
        cr_assert_eq(freed(), nr_handed);
    }
    finish();
}

Test(free_rcu, other_cpus_idle_magazines_are_freed_although_nothing_more_is_called)
{
    start(true);
    pthread_join(fixture_thread(hand_over_elsewhere, (void *)(uintptr_t)TWO_ARGUMENTS), NULL);
    FIXTURE_AWAIT(freed() == nr_handed);
    finish();
}

Test(free_rcu, destroy_frees_what_is_pending)
{
    start(true);
    pthread_join(fixture_thread(hand_over_elsewhere, (void *)(uintptr_t)TWO_ARGUMENTS), NULL);
    hand_over_n(TWO_ARGUMENTS, 7 * CAPACITY + 3);
    finish();
}

static void *destroy_it(void *unused)
{
    (void)unused;
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
    weir_fetch_add_release(&barriers_done, 1u);
    return NULL;
}

Test(free_rcu, destroy_waits_for_a_grace_period)
{
    start(false);
    hand_over_n(TWO_ARGUMENTS, CAPACITY + 2);
    pthread_t thread = fixture_thread(destroy_it, NULL);
    fixture_sleep(30000);
    cr_assert_eq(weir_load_acquire(&barriers_done), 0u);
    cr_assert_eq(freed(), 0u);
    gate_open(&gate);
    pthread_join(thread, NULL);
    cr_assert_eq(freed(), nr_handed);
    gate_destroy(&gate);
}

static void *hand_over_and_wait(void *number)
{
    unsigned cpus[8], n = fixture_cpus(cpus, 8), mine[5];
    fixture_pin(cpus[(uintptr_t)number % n]);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 5; i++) {
            struct object *object = next_object();
            mine[i] = (unsigned)(object - objects);
            weir_free_rcu(reclaimer, object, &object->head);
        }
        weir_free_rcu_barrier(reclaimer);
        for (unsigned i = 0; i < 5; i++)
            if (!objects[mine[i]].gone)
                FIXTURE_FAIL("barrier returned before object %u was freed", mine[i]);
    }
    return NULL;
}

Test(free_rcu, several_barriers_at_once, .timeout = 120)
{
    pthread_t threads[6];
    start(true);
    for (uintptr_t i = 0; i < 6; i++)
        threads[i] = fixture_thread(hand_over_and_wait, (void *)i);
    for (unsigned i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(freed(), 300u);
    finish();
}

Test(free_rcu, bulk_function_gets_its_argument_and_whole_magazines)
{
    gate_create(&gate, true);
    fixture_stay(NULL);
    struct weir_reclaimer_config config = config_now();
    config.free_bulk = free_objects;
    config.free_one = NULL;
    config.arg = &token;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
    hand_over_n(TWO_ARGUMENTS, 10 * CAPACITY);
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(freed(), 10u * CAPACITY);
    cr_assert_leq(weir_load_relaxed(&bulk_calls),
                  12u); /* ten, but for the helper's visits to a half-full one */
    finish();
}

/* --- a few at a time --- */

enum { ROOM = 16, STEP = 3 };

/* Magazines of ROOM. Nothing is swept: who hands over is left to himself. */
static void start_stepwise(bool open, size_t step)
{
    cpu = fixture_stay(&other_cpu);
    gate_create(&gate, open);
    struct weir_reclaimer_config config = config_now();
    config.capacity = ROOM;
    config.free_step = step;
    config.flush_milliseconds = 1000000;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
}

/* Two magazines have been handed over, and one object more; no grace period is over before all have begun. */
static void hand_over_two_magazines(void)
{
    hand_over_n(TWO_ARGUMENTS, 2 * ROOM + 1);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    cr_assert_eq(freed(), 0u);
    gate_open(&gate);
    FIXTURE_AWAIT(weir_grace_poll(gate.grace, cookie));
}

Test(free_rcu, who_hands_over_frees_a_few_of_the_oldest)
{
    start_stepwise(false, STEP);
    hand_over_two_magazines();
    cr_assert_eq(freed(), 0u);
    for (unsigned n = 1; n <= 2 * ROOM / STEP; n++) {
        hand_over_n((enum form)(n % FORMS), STEP);
        unsigned oldest = 0;
        while (weir_load_relaxed(&objects[oldest].freed))
            oldest++;
        cr_assert_eq(oldest, freed(), "first in, first out");
        /* A step stops at the end of a magazine, and there is one more for each that is begun. */
        cr_assert_geq(oldest + 2 * STEP, n * STEP);
        cr_assert_leq(oldest, (n + 2) * STEP);
        cr_assert_eq(stats_now().freed, freed());
        cr_assert_eq(stats_now().pending, nr_handed - freed());
    }
    finish();
}

static void what_is_left_of_a_magazine_is_freed_by(void (*what)(void))
{
    start_stepwise(false, STEP);
    hand_over_two_magazines();
    hand_over_n(TWO_ARGUMENTS, 2 * STEP);
    unsigned some = freed();
    cr_assert(some != 0 && some < ROOM, "%u", some);
    what();
    cr_assert_geq(freed(), 2u * ROOM);
    for (unsigned i = 0; i < 2 * ROOM; i++)
        cr_assert(weir_load_relaxed(&objects[i].freed));
    cr_assert_eq(stats_now().pending, nr_handed - freed());
    finish();
}

static void poll(void)
{
    cr_assert_eq(weir_reclaimer_poll(reclaimer), 2u);
}

static void barrier(void)
{
    weir_free_rcu_barrier(reclaimer);
}

Test(free_rcu, poll_frees_what_is_left_of_a_magazine)
{
    what_is_left_of_a_magazine_is_freed_by(poll);
}

Test(free_rcu, barrier_frees_what_is_left_of_a_magazine)
{
    what_is_left_of_a_magazine_is_freed_by(barrier);
}

Test(free_rcu, step_of_the_capacity_frees_whole_magazines)
{
    start_stepwise(false, ROOM);
    hand_over_two_magazines();
    hand_over_n(TWO_ARGUMENTS, ROOM - 1);
    cr_assert_eq(freed(), 0u);
    hand_over_n(TWO_ARGUMENTS, 1);
    cr_assert_eq(freed(), 2u * ROOM);
    finish();
}

Test(free_rcu, steps_keep_up_and_free_what_waited_for_long)
{
    start_stepwise(true, STEP);
    for (unsigned i = 0; i < NR / 2; i++) {
        hand_over_n(TWO_ARGUMENTS, 1);
        if (i % ROOM == 0)
            weir_grace_wait(gate.grace, weir_grace_start(gate.grace));
    }
    cr_assert_geq(freed() + 3 * ROOM, nr_handed, "%u of %u", freed(), nr_handed);
    finish();
}

/* Blocks that malloc() gives, as many as one likes. */
static void start_with_blocks(void)
{
    gate_create(&gate, false);
    fixture_stay(NULL);
    struct weir_reclaimer_config config = config_now();
    config.free_one = NULL;
    config.capacity = ROOM;
    config.free_step = STEP;
    config.flush_milliseconds = 1000000;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
}

static void hand_over_a_block(void)
{
    void *block = malloc(16);
    weir_free_rcu(reclaimer, block, block);
}

/* As many are freed as are handed over, but for a step now and then. */
Test(free_rcu, steps_make_a_queue_short_again_that_was_long)
{
    start_with_blocks();
    for (unsigned i = 0; i < 40 * ROOM; i++)
        hand_over_a_block();
    cr_assert_eq(stats_now().pending, 40u * ROOM);
    gate_open(&gate);
    for (unsigned magazine = 0; magazine < 3000; magazine++) {
        weir_grace_wait(gate.grace, weir_grace_start(gate.grace));
        for (unsigned i = 0; i < ROOM; i++)
            hand_over_a_block();
    }
    cr_assert_leq(stats_now().pending, 25u * ROOM, "%zu", stats_now().pending);
    cr_assert_geq(stats_now().pending, 10u * ROOM, "%zu", stats_now().pending);
    finish();
}

/* Arrays longer than a step, which end anywhere in a magazine. */
Test(free_rcu, arrays_free_as_many_as_they_hand_over)
{
    enum { ARRAY = 10 };
    start_with_blocks();
    gate_open(&gate);
    for (unsigned i = 0; i < 600; i++) {
        void *blocks[ARRAY];
        for (unsigned j = 0; j < ARRAY; j++)
            blocks[j] = malloc(16);
        cr_assert_eq(weir_free_rcu_bulk_try(reclaimer, ARRAY, blocks), (size_t)ARRAY);
        weir_grace_wait(gate.grace, weir_grace_start(gate.grace));
    }
    cr_assert_leq(stats_now().pending, 6u * ROOM);
    finish();
}

static void free_and_hand_over(void *pointer)
{
    free_object(pointer);
    if (weir_load_relaxed(&nr_handed) < NR)
        hand_over_n(TWO_ARGUMENTS, 1);
}

Test(free_rcu, free_function_may_hand_over_where_few_are_freed_at_a_time)
{
    cpu = fixture_stay(&other_cpu);
    gate_create(&gate, true);
    struct weir_reclaimer_config config = config_now();
    config.capacity = ROOM;
    config.free_step = STEP;
    config.free_one = free_and_hand_over;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
    hand_over_n(TWO_ARGUMENTS, NR / 2);
    FIXTURE_AWAIT(freed() == NR);
    finish();
}

/* --- no memory for magazines --- */

static struct chunks chunks;

static void start_with_chunks(bool open, unsigned fail_from, unsigned fail_n)
{
    fixture_stay(&other_cpu);
    gate_create(&gate, open);
    struct weir_reclaimer_config config = config_now();
    struct weir_block_source source = chunks_init(&chunks, 1, CAPACITY);
    config.block_source = &source;
    chunks.fail_from = fail_from;
    chunks.fail_n = fail_n;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
}

static void free_few(void *arg, size_t n, void *array[])
{
    if (n > CAPACITY)
        FIXTURE_FAIL("%zu objects at once", n);
    free_objects(arg, n, array);
}

Test(free_rcu, chain_is_freed_in_arrays_no_larger_than_a_magazine)
{
    fixture_stay(&other_cpu);
    gate_create(&gate, false);
    struct weir_reclaimer_config config = config_now();
    struct weir_block_source source = chunks_init(&chunks, 1, CAPACITY);
    config.block_source = &source;
    config.free_bulk = free_few;
    config.arg = &token;
    chunks.fail_n = UINT32_MAX;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
    hand_over_n(TWO_ARGUMENTS, 10 * CAPACITY);
    gate_open(&gate);
    hand_over_n(MIGHTSLEEP, 1);
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(freed(), 10u * CAPACITY + 1);
    finish();
}

Test(free_rcu, two_arguments_chain_when_there_is_no_magazine)
{
    start_with_chunks(false, 0, UINT32_MAX);
    hand_over_n(TWO_ARGUMENTS, 3 * CAPACITY);
    cr_assert_eq(stats_now().chained, 3u * CAPACITY);
    cr_assert_eq(stats_now().chain_total, 3u * CAPACITY);
    cr_assert_geq(stats_now().blocks.misses, 3u * CAPACITY);
    cr_assert_eq(freed(), 0u);
    gate_open(&gate);
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(freed(), 3u * CAPACITY);
    cr_assert_eq(stats_now().chained, 0u);
    cr_assert_eq(stats_now().chain_total, 3u * CAPACITY);
    cr_assert_eq(stats_now().freed, 3u * CAPACITY);
    finish();
}

Test(free_rcu, chained_objects_wait_for_a_full_grace_period)
{
    start_with_chunks(false, 0, UINT32_MAX);
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1);
    hand_over_n(TWO_ARGUMENTS, 3);
    weir_reclaimer_poll(reclaimer); /* begins to wait */
    hand_over_n(TWO_ARGUMENTS, 2);
    gate_let_one(&gate);
    gate_await_begun(&gate, 2);
    weir_reclaimer_poll(reclaimer);
    cr_assert_eq(freed(), 0u);
    hand_over_n(TWO_ARGUMENTS, 2);
    weir_reclaimer_poll(reclaimer);
    cr_assert_eq(freed(), 0u);
    gate_let_one(&gate);
    FIXTURE_AWAIT((weir_reclaimer_poll(reclaimer), freed()) >= 3);
    cr_assert_eq(freed(), 3u, "what was chained later waits for the next");
    cr_assert_eq(stats_now().chained, 4u);
    finish();
}

Test(free_rcu, chained_objects_are_freed_although_nothing_more_is_called)
{
    start_with_chunks(true, 0, UINT32_MAX);
    hand_over_n(TWO_ARGUMENTS, 3);
    FIXTURE_AWAIT(freed() == 3);
    hand_over_n(TWO_ARGUMENTS, 1);
    FIXTURE_AWAIT(freed() == 4);
    FIXTURE_AWAIT(stats_now().chained == 0);
    finish();
}

Test(free_rcu, destroy_frees_what_is_chained)
{
    start_with_chunks(true, 0, UINT32_MAX);
    hand_over_n(TWO_ARGUMENTS, 50);
    finish();
}

Test(free_rcu, try_says_no_when_there_is_no_magazine)
{
    start_with_chunks(true, 0, UINT32_MAX);
    for (unsigned i = 1; i <= 3; i++) {
        cr_assert_not(hand_over(TRY));
        cr_assert_eq(stats_now().refused, i);
    }
    finish();
    cr_assert_eq(freed(), 0u);
}

Test(free_rcu, mightsleep_waits_itself_when_there_is_no_magazine)
{
    start_with_chunks(true, 0, UINT32_MAX);
    for (unsigned i = 1; i <= 3; i++) {
        unsigned begun = gate_begun(&gate);
        hand_over_n(MIGHTSLEEP, 1);
        cr_assert_eq(freed(), i);
        cr_assert_gt(gate_begun(&gate), begun);
        cr_assert_eq(stats_now().waits, i);
    }
    finish();
}

Test(free_rcu, magazine_that_cannot_be_had_loses_nothing, .timeout = 120)
{
    for (unsigned k = 1; k <= 12; k++)
        for (unsigned n = 1; n <= 3; n++) {
            memset(objects, 0, sizeof objects);
            nr_handed = 0;
            start_with_chunks(true, k, n < 3 ? n : UINT32_MAX);
            for (unsigned round = 0; round < 6; round++) {
                hand_over_n(TWO_ARGUMENTS, 2 * CAPACITY - 1);
                for (unsigned i = 0; i < CAPACITY; i++)
                    hand_over(TRY);
                hand_over_n(MIGHTSLEEP, 3);
                if (round == 3) {
                    weir_free_rcu_barrier(reclaimer);
                    cr_assert_eq(freed(), nr_handed);
                }
            }
            finish();
            cr_assert_eq(chunks.out, 0u);
        }
}

/* --- too much pending --- */

static void start_limited(size_t max_pending)
{
    fixture_stay(&other_cpu);
    gate_create(&gate, false);
    struct weir_reclaimer_config config = config_now();
    config.max_pending = max_pending;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1); /* stuck: the helper empties no slot meanwhile */
}

Test(free_rcu, try_refuses_above_max_pending)
{
    for (unsigned magazines = 2; magazines <= 6; magazines++) {
        memset(objects, 0, sizeof objects);
        nr_handed = 0;
        start_limited(magazines * CAPACITY);
        unsigned accepted = 0;
        while (hand_over(TRY))
            accepted++;
        cr_assert_eq(accepted, magazines * CAPACITY);
        cr_assert_eq(stats_now().refused, 1u);
        cr_assert_not(hand_over(TRY));
        cr_assert_eq(stats_now().refused, 2u);
        cr_assert_eq(stats_now().waiting, magazines);
        hand_over_n(TWO_ARGUMENTS, 3 * CAPACITY); /* has no limit */
        gate_open(&gate);
        weir_free_rcu_barrier(reclaimer);
        cr_assert(hand_over(TRY));
        finish();
    }
}

static void *one_might_sleep(void *unused)
{
    (void)unused;
    fixture_stay(NULL);
    hand_over_n(MIGHTSLEEP, 1);
    weir_fetch_add_release(&barriers_done, 1u);
    return NULL;
}

Test(free_rcu, mightsleep_waits_above_max_pending)
{
    start_limited(3 * CAPACITY);
    hand_over_n(MIGHTSLEEP, 3 * CAPACITY);
    cr_assert_eq(stats_now().throttled, 0u);
    pthread_t thread = fixture_thread(one_might_sleep, NULL);
    FIXTURE_AWAIT(stats_now().throttled == 1);
    fixture_sleep(20000);
    cr_assert_eq(weir_load_acquire(&barriers_done), 0u);
    cr_assert_eq(freed(), 0u);
    gate_open(&gate);
    pthread_join(thread, NULL);
    cr_assert_geq(freed(), 3u * CAPACITY + 1, "it has made room, and freed what it waited with");
    cr_assert_eq(stats_now().waits, 1u);
    finish();
}

/* --- who may call --- */

Test(free_rcu, online_readers_barrier_and_mightsleep_do_not_deadlock)
{
    struct weir_reclaimer_config config = config_now();
    cr_assert_null(config.grace); /* liburcu-qsbr */
    config.max_pending = CAPACITY;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
    urcu_qsbr_register_thread();
    for (unsigned i = 0; i < 5; i++) {
        hand_over_n(MIGHTSLEEP, 5 * CAPACITY); /* and is throttled at times */
        cr_assert(urcu_qsbr_read_ongoing());
    }
    cr_assert_gt(stats_now().throttled, 0u);
    weir_free_rcu_barrier(reclaimer);
    cr_assert(urcu_qsbr_read_ongoing());
    cr_assert_eq(freed(), nr_handed);
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
}

/* Frees a tree: the parent's free function hands its child over. */
static void free_and_hand_over_the_next(void *pointer)
{
    struct object *object = pointer;
    free_object(object);
    if (weir_load_relaxed(&nr_handed) < 100)
        hand_over(TWO_ARGUMENTS);
}

static void frees_that_hand_over(unsigned chunks_to_fail)
{
    fixture_stay(NULL);
    gate_create(&gate, true);
    struct weir_reclaimer_config config = config_now();
    config.free_one = free_and_hand_over_the_next;
    struct weir_block_source source = chunks_init(&chunks, 1, CAPACITY);
    config.block_source = &source;
    chunks.fail_n = chunks_to_fail;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
    hand_over_n(TWO_ARGUMENTS, 1);
    FIXTURE_AWAIT((weir_free_rcu_barrier(reclaimer), freed()) == 100);
    finish();
}

Test(free_rcu, free_function_may_hand_over)
{
    frees_that_hand_over(0);
}

Test(free_rcu, free_function_may_hand_over_without_magazines)
{
    frees_that_hand_over(UINT32_MAX);
}

/* --- threads without rseq --- */

#if WEIR__RSEQ

static void *hand_over_without_rseq(void *unused)
{
    (void)unused;
    if (!fixture_unregister_rseq(-1))
        return NULL;
    hand_over_n(TWO_ARGUMENTS, 10);
    hand_over_n(MIGHTSLEEP, 10);
    hand_over_n(TRY, 10);
    return NULL;
}

Test(free_rcu, thread_without_rseq_hands_over)
{
    start(true);
    pthread_join(fixture_thread(hand_over_without_rseq, NULL), NULL);
    weir_free_rcu_barrier(reclaimer);
    cr_assert_eq(freed(), nr_handed);
    finish();
}

#endif
