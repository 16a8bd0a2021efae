/* SPDX-License-Identifier: MIT */
/* weir/free_rcu.h in checked builds: what is handed over twice is reported and freed once; free() is given
 * poison. */
#include "caught.h"
#include "fixtures.h"
#include "free_rcu.h"

#include "weir_test.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEIR_TEST_ASAN 1
#endif
#endif

enum { CAPACITY = 4, NR = 3000 };

struct object {
    struct weir_rcu_head head;
    unsigned freed;
};

static struct object objects[NR];
static struct gate gate;
static struct weir_reclaimer *reclaimer;
static unsigned other_cpu, freed;
static char text[4000];

static void free_object(void *pointer)
{
    struct object *object = pointer;
    weir_fetch_add_relaxed(&object->freed, 1u);
    weir_fetch_add_relaxed(&freed, 1u);
}

static size_t step = CAPACITY; /* whole magazines */

static void start(bool with_magazines)
{
    static struct chunks chunks;
    fixture_stay(&other_cpu);
    gate_create(&gate, false);
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    config.free_one = free_object;
    config.capacity = CAPACITY;
    config.free_step = step;
    config.grace = gate.grace;
    config.reserve = 0;
    config.name = "orders";
    struct weir_block_source source = chunks_init(&chunks, 1, CAPACITY);
    config.block_source = &source;
    chunks.fail_n = with_magazines ? 0 : UINT32_MAX;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
    catch_stderr();
}

static void hand_over(struct object *object)
{
    weir_free_rcu(reclaimer, object, &object->head);
}

/* Ends it; `twice` must have been reported that often, and every object that was handed over be freed
 * once. */
static void finish(struct object *twice, unsigned times, unsigned handed)
{
    struct weir_reclaimer_stats stats;
    char expected[100];
    gate_open(&gate);
    weir_free_rcu_barrier(reclaimer);
    weir_reclaimer_stats(reclaimer, &stats);
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
    gate_destroy(&gate);
    unsigned lines = caught_lines(text, sizeof text);
    cr_assert_eq(stats.twice, times);
    cr_assert_eq(lines, times, "%s", text);
    snprintf(expected, sizeof expected, "weir: orders: %p was handed over", (void *)twice);
    cr_assert(times == 0 || strncmp(text, expected, strlen(expected)) == 0, "%s", text);
    cr_assert_eq(freed, handed);
    for (unsigned i = 0; i < NR; i++)
        cr_assert_leq(objects[i].freed, 1u);
}

Test(free_rcu_checked, what_is_handed_over_once_is_not_reported)
{
    start(true);
    for (unsigned i = 0; i < NR; i++)
        hand_over(&objects[i]);
    finish(NULL, 0, NR);
}

Test(free_rcu_checked, twice_into_one_magazine_is_reported)
{
    start(true);
    hand_over(&objects[0]);
    hand_over(&objects[1]);
    hand_over(&objects[1]);
    finish(&objects[1], 1, 2);
}

Test(free_rcu_checked, twice_with_many_in_between_is_reported)
{
    start(true);
    for (unsigned i = 0; i < NR; i++)
        hand_over(&objects[i]);
    hand_over(&objects[NR / 2]);
    finish(&objects[NR / 2], 1, NR);
}

Test(free_rcu_checked, twice_is_reported_where_magazines_are_freed_a_few_objects_at_a_time)
{
    step = 1;
    start(true);
    for (unsigned i = 0; i <= CAPACITY; i++)
        hand_over(&objects[i]);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_open(&gate);
    while (!weir_grace_poll(gate.grace, cookie))
        fixture_sleep(200);
    hand_over(&objects[CAPACITY - 1]);
    for (unsigned i = CAPACITY + 1; i < 2 * CAPACITY; i++)
        hand_over(&objects[i]);
    finish(&objects[CAPACITY - 1], 1, 2 * CAPACITY);
}

Test(free_rcu_checked, three_times_is_reported_twice)
{
    start(true);
    for (unsigned i = 0; i < 3 * CAPACITY; i++)
        hand_over(&objects[i % CAPACITY == 0 ? 0 : i]);
    finish(&objects[0], 2, 3 * CAPACITY - 2);
}

Test(free_rcu_checked, twice_into_a_chain_is_reported)
{
    start(false);
    hand_over(&objects[0]);
    hand_over(&objects[1]);
    hand_over(&objects[0]);
    hand_over(&objects[2]);
    finish(&objects[0], 1, 3);
}

Test(free_rcu_checked, twice_headless_without_magazines_is_reported)
{
    start(false);
    hand_over(&objects[0]);
    gate_open(&gate);
    gate_await_begun(&gate, 1);
    weir_free_rcu_barrier(reclaimer); /* freed by now */
    cr_assert_eq(weir_free_rcu_mightsleep(reclaimer, &objects[1]), 0);
    finish(NULL, 0, 2);
}

static void *hand_over_elsewhere(void *object)
{
    fixture_pin(other_cpu);
    hand_over(object);
    return NULL;
}

/* The first is sealed, and its grace period over, while the second still lies in a slot. */
Test(free_rcu_checked, second_one_that_lies_in_a_slot_when_the_first_is_to_be_freed_is_reported)
{
    start(true);
    for (unsigned i = 0; i <= CAPACITY; i++)
        hand_over(&objects[i]);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_let_one(&gate);
    gate_await_begun(&gate, 1);
    pthread_join(fixture_thread(hand_over_elsewhere, &objects[2]), NULL);
    while (!weir_grace_poll(gate.grace, cookie)) {
        gate_let_one(&gate);
        fixture_sleep(200);
    }
    weir_reclaimer_poll(reclaimer);
    finish(&objects[2], 1, CAPACITY + 1);
}

/* Looks at a block after it was freed: glibc leaves all but its first bytes alone (with MALLOC_PERTURB_
 * unset), the address sanitizer does not allow it. */
#if !defined(__SANITIZE_ADDRESS__) && !WEIR_TEST_ASAN
Test(free_rcu_checked, free_is_given_poison)
{
    enum { SIZE = 200, LOOK = 100 };
    gate_create(&gate, true);
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    config.grace = gate.grace;
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &config), 0);
    volatile unsigned char *object = malloc(SIZE);
    for (unsigned i = 0; i < SIZE; i++)
        object[i] = 1;
    weir_free_rcu(reclaimer, (void *)object, (struct weir_rcu_head *)(void *)object);
    cr_assert_eq(object[LOOK], 1u, "readers may still look at it");
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
    cr_assert_eq(object[LOOK], WEIR_RECLAIMER_POISON);
    gate_destroy(&gate);
}
#endif
