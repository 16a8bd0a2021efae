/* SPDX-License-Identifier: MIT */
/*
 * weir/free_rcu.h under liburcu-qsbr: writers, and a signal handler that interrupts them, replace objects in
 * a table and hand the old ones over in all three ways; freeing poisons them, and they are used again at
 * once. Readers dwell on what they found before they look at it. Every object is freed once for each time it
 * was handed over; in the second half magazines are often not to be had, and objects are chained.
 *
 * PROGRAM broken [THREADS ...]: with grace periods that end at once. Must fail.
 */
#include "stress.h"

#define FIXTURE_FAIL stress_fail
#include "fixtures.h"
#include "free_rcu.h"
#include "weir/pool.h"
#include "weir/shrinker.h"

#include <urcu/urcu-qsbr.h>

enum { NR = 3000, TABLE = 8, CAPACITY = 16 };
static const uint64_t ALIVE = 0x600D, POISON = 0xDEAD;

struct object {
    struct weir_stack_node node;
    struct weir_rcu_head head;
    unsigned handed; /* over, and not freed yet */
    unsigned frees;  /* how often it was */
    uint64_t magic, payload, check;
};

static struct object objects[NR];
static struct weir_pool idle;
static struct object *table[TABLE];
static struct weir_reclaimer *reclaimer;
static uint64_t handed_over, freed;
static int token;

static void free_objects(void *arg, size_t n, void *array[])
{
    if (arg != &token || n == 0)
        stress_fail("the free function was given a wrong argument");
    for (size_t i = 0; i < n; i++) {
        struct object *object = array[i];
        if (weir_xchg_relaxed(&object->handed, 0u) != 1)
            stress_fail("an object was freed that nobody had handed over, or twice");
        if (object->magic != ALIVE)
            stress_fail("an object was freed before what its last owner wrote was visible");
        object->magic = POISON;
        object->payload = 0;
        weir_fetch_add_relaxed(&object->frees, 1u);
        array[i] = NULL; /* allowed */
        weir_pool_put(&idle, &object->node);
    }
    weir_fetch_add_relaxed(&freed, (uint64_t)n);
}

static struct object *new_object(uint64_t payload)
{
    struct object *object = (struct object *)(void *)weir_pool_get(&idle);
    if (!object)
        return NULL;
    object = (struct object *)(void *)((char *)object - offsetof(struct object, node));
    if (object->magic != POISON)
        stress_fail("an object is idle that was not freed");
    object->payload = payload;
    object->check = ~payload;
    object->magic = ALIVE;
    return object;
}

enum form { TWO_ARGUMENTS, TRY, MIGHTSLEEP };

static void hand_over(struct object *object, enum form form)
{
    if (weir_xchg_relaxed(&object->handed, 1u) != 0)
        stress_fail("an object was used again that had been handed over");
    weir_fetch_add_relaxed(&handed_over, UINT64_C(1));
    if (form == MIGHTSLEEP) {
        weir_free_rcu_mightsleep(reclaimer, object);
        return;
    }
    if (form == TRY && weir_free_rcu_try(reclaimer, object))
        return;
    weir_free_rcu(reclaimer, object, &object->head);
}

static void replace(uint64_t dice, enum form form)
{
    struct object *object = new_object(dice), *old;
    if (!object && form == MIGHTSLEEP) {
        weir_reclaimer_poll(reclaimer);
        sched_yield();
    }
    /* Release: readers find a complete object. Acquire: the old one, to free it. */
    old = weir_xchg_acq_rel(&table[dice % TABLE], object);
    if (old)
        hand_over(old, form);
}

/* Empties a few places of the table, and hands over what was there as an array. */
static void take_several(uint64_t dice, bool may_wait)
{
    void *olds[TABLE];
    size_t n = 0;
    for (unsigned i = 0; i < dice % TABLE; i++) {
        struct object *old = weir_xchg_acq_rel(&table[(dice + i) % TABLE], NULL);
        if (!old)
            continue;
        if (weir_xchg_relaxed(&old->handed, 1u) != 0)
            stress_fail("an object was used again that had been handed over");
        olds[n++] = old;
    }
    weir_fetch_add_relaxed(&handed_over, (uint64_t)n);
    size_t taken = may_wait ? weir_free_rcu_bulk_mightsleep(reclaimer, n, olds)
                            : weir_free_rcu_bulk_try(reclaimer, n, olds);
    for (size_t i = 0; i < n - taken; i++)
        weir_free_rcu(reclaimer, olds[i], &((struct object *)olds[i])->head);
}

static void interrupt(void)
{
    static uint64_t number;
    uint64_t dice = weir_fetch_add_relaxed(&number, UINT64_C(1));
    replace(dice, TWO_ARGUMENTS);
    replace(dice / TABLE, TRY);
    if (dice % 8 == 0)
        take_several(dice / 8, false);
}

static void dwell(uint64_t dice)
{
    if ((dice & 63) == 0)
        fixture_sleep((unsigned)(dice >> 8 & 255));
    else if ((dice & 63) < 8)
        sched_yield();
    else
        for (unsigned i = dice >> 8 & 63; i != 0; i--)
            weir_cpu_pause();
}

static void look(uint64_t dice)
{
    const struct object *object = weir_load_acquire(&table[dice % TABLE]);
    if (!object)
        return;
    uint64_t payload = object->payload;
    dwell(dice >> 8);
    if (object->magic != ALIVE || object->payload != payload || object->check != ~payload)
        stress_fail("an object was freed while a reader was looking at it");
}

static void quiescent(void)
{
    weir_grace_annotate_quiescent();
    urcu_qsbr_quiescent_state();
}

static void read_table(uint64_t random)
{
    urcu_qsbr_register_thread();
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        look(dice);
        if ((dice >> 40 & 3) == 0)
            quiescent();
        if ((dice >> 42 & 255) == 0) {
            weir_grace_annotate_quiescent();
            urcu_qsbr_thread_offline();
            sched_yield();
            urcu_qsbr_thread_online();
        }
    }
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
}

static void check_barrier(uint64_t dice)
{
    struct object *object = new_object(dice);
    if (!object)
        return;
    unsigned before = weir_load_relaxed(&object->frees);
    hand_over(object, dice & 1 ? TWO_ARGUMENTS : MIGHTSLEEP);
    weir_free_rcu_barrier(reclaimer);
    if (weir_load_relaxed(&object->frees) == before)
        stress_fail("barrier returned before an object that had been handed over was freed");
}

/* Some writers are readers too. */
static void write_table(uint64_t random, bool registered)
{
    struct weir_reclaimer_stats stats;
    if (registered)
        urcu_qsbr_register_thread();
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        replace(dice >> 8, (enum form)((dice & 63) % 3));
        if (registered) {
            look(dice >> 16);
            quiescent();
        }
        if ((dice >> 24 & 1023) == 0)
            check_barrier(dice >> 34);
        if ((dice >> 34 & 255) == 0)
            weir_reclaimer_poll(reclaimer);
        if ((dice >> 34 & 63) == 1)
            take_several(dice >> 44, dice >> 43 & 1);
        if ((dice >> 34 & 511) == 2)
            weir_free_rcu_flush(reclaimer);
        if ((dice >> 34 & 1023) == 3)
            weir_shrink(SIZE_MAX);
        if ((dice >> 42 & 1023) == 0)
            weir_reclaimer_stats(reclaimer, &stats);
    }
    if (registered) {
        weir_grace_annotate_quiescent();
        urcu_qsbr_unregister_thread();
    }
}

static void *work(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    if (number % 2 == 0)
        read_table(stress_seed(number));
    else
        write_table(stress_seed(number), number % 4 == 3);
    return NULL;
}

static void at_rest(void)
{
    struct weir_reclaimer_stats stats;
    size_t n;
    for (unsigned i = 0; i < TABLE; i++) {
        struct object *old = weir_xchg_acq_rel(&table[i], NULL);
        if (old)
            hand_over(old, TWO_ARGUMENTS);
    }
    weir_free_rcu_barrier(reclaimer);
    if (freed != handed_over)
        stress_fail("%llu objects were handed over, but %llu freed", (unsigned long long)handed_over,
                    (unsigned long long)freed);
    weir_reclaimer_stats(reclaimer, &stats);
    if (stats.freed != freed || stats.waiting != 0 || stats.chained != 0)
        stress_fail("at rest: %llu freed of %llu, %zu waiting, %zu chained, %llu waits",
                    (unsigned long long)stats.freed, (unsigned long long)freed, stats.waiting, stats.chained,
                    (unsigned long long)stats.waits);
    weir_reclaimer_destroy(reclaimer);
    weir_pool_drain(&idle, &n);
    if (n != NR)
        stress_fail("%zu of %u objects are idle", n, NR);
    printf("%llu freed, of them %llu chained; %llu waits, %llu throttled, %llu refused, %llu grace periods\n",
           (unsigned long long)stats.freed, (unsigned long long)stats.chain_total,
           (unsigned long long)stats.waits, (unsigned long long)stats.throttled,
           (unsigned long long)stats.refused, (unsigned long long)stats.periods);
    fflush(stdout);
}

static void round_with(struct weir_grace *grace, unsigned percent_of_magazines_that_fail, size_t step)
{
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    struct chunks chunks;
    struct weir_block_source source = chunks_init(&chunks, 1, CAPACITY);
    config.block_source = &source;
    chunks.mapped = true;
    chunks.fail_percent = percent_of_magazines_that_fail;
    chunks.random = stress.seed;
    config.free_bulk = free_objects;
    config.arg = &token;
    config.grace = grace;
    config.capacity = CAPACITY;
    config.free_step = step;
    config.reserve = 0;
    config.max_pending = 20 * CAPACITY;
    if (weir_reclaimer_create(&reclaimer, &config))
        stress_fail("cannot create the reclaimer");
    freed = handed_over = 0;
    weir_pool_init(&idle);
    for (unsigned i = 0; i < NR; i++) {
        objects[i].magic = POISON;
        weir_pool_put(&idle, &objects[i].node);
    }
    stress_run(work, stress.milliseconds / 4, interrupt);
    at_rest();
    if (chunks.out != 0)
        stress_fail("%u chunks were not given back", chunks.out);
}

static void ends_at_once(void *unused)
{
    (void)unused;
}

int main(int argc, char **argv)
{
    static const struct weir_grace_source broken_source = {.name = "broken", .synchronize = ends_at_once};
    struct weir_grace *broken = NULL;
    bool break_it = argc > 1 && strcmp(argv[1], "broken") == 0;

    if (break_it && weir_grace_create(&broken, &broken_source))
        return 2;
    stress_start(argc - break_it, argv + break_it);
    puts(weir_percpu_reason());
    for (size_t step = 3; step <= CAPACITY; step += CAPACITY - 3) {
        round_with(broken, 0, step);
        round_with(broken, 90, step);
    }
    return 0;
}
