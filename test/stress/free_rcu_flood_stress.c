/* SPDX-License-Identifier: MIT */
/*
 * weir/free_rcu.h with a limit, a slow reader, and writers that hand over as fast as they can, one by one and
 * by the array, by each policy: at no time are more objects pending than the limit allows, but for those that
 * a writer has in its hands; and all are freed in the end. In the last round the limit is in bytes.
 */
#include "stress.h"

#define FIXTURE_FAIL stress_fail
#include "fixtures.h"
#include "weir/free_rcu.h"

#include <urcu/urcu-qsbr.h>

enum { CAPACITY = 32, MOST = 1000, ARRAY = 12, BYTES = 64, LIFE = 0x5AFE };

struct object {
    struct weir_rcu_head head;
    uint64_t life;
    char more[BYTES - sizeof(struct weir_rcu_head) - sizeof(uint64_t)];
};

static struct weir_reclaimer *reclaimer;
static struct object *shown; /* to the reader */
static size_t out;           /* handed over, or about to be, and not freed */
static size_t bound;         /* that it must never exceed */
static uint64_t handed_over, freed, refused;

static void free_object(void *pointer)
{
    struct object *object = pointer;
    if (object->life != LIFE)
        stress_fail("an object was freed twice");
    object->life = 0;
    weir_fetch_add_relaxed(&freed, UINT64_C(1));
    free(object);
    weir_fetch_sub_relaxed(&out, (size_t)1);
}

static size_t size_of(void *object)
{
    (void)object;
    return BYTES;
}

static struct object *new_object(void)
{
    struct object *object = malloc(sizeof *object);
    if (object == NULL)
        stress_fail("out of memory");
    object->life = LIFE;
    return object;
}

static void about_to_hand_over(size_t n)
{
    size_t now = weir_fetch_add_relaxed(&out, n) + n;
    if (now > bound)
        stress_fail("%zu objects are pending or about to be; at most %zu may", now, bound);
}

static void was_refused(void *object)
{
    weir_fetch_sub_relaxed(&out, (size_t)1);
    weir_fetch_add_relaxed(&refused, UINT64_C(1));
    free(object);
    sched_yield();
}

static void hand_over_array(bool may_wait)
{
    void *objects[ARRAY];
    for (unsigned i = 0; i < ARRAY; i++)
        objects[i] = new_object();
    about_to_hand_over(ARRAY);
    size_t taken = may_wait ? weir_free_rcu_bulk_mightsleep(reclaimer, ARRAY, objects)
                            : weir_free_rcu_bulk_try(reclaimer, ARRAY, objects);
    weir_fetch_add_relaxed(&handed_over, (uint64_t)taken);
    for (size_t i = 0; i < ARRAY - taken; i++)
        was_refused(objects[i]);
}

static void hand_over_one(bool may_wait)
{
    /* One that the reader may be looking at. */
    struct object *object = weir_xchg_acq_rel(&shown, new_object());
    if (object == NULL)
        return;
    about_to_hand_over(1);
    if (may_wait ? weir_free_rcu_mightsleep(reclaimer, object) == 0 : weir_free_rcu_try(reclaimer, object))
        weir_fetch_add_relaxed(&handed_over, UINT64_C(1));
    else if (weir_free_rcu_mightsleep(reclaimer, object) == 0) /* a reader may have it: only this will do */
        weir_fetch_add_relaxed(&handed_over, UINT64_C(1));
    else {
        /* Refused: as a program would that must not lose it, wait for the readers and free it. */
        weir_free_rcu_barrier(reclaimer);
        struct weir_grace *grace;
        if (weir_grace_qsbr(&grace) != 0)
            stress_fail("no source of grace periods");
        weir_grace_wait(grace, weir_grace_start(grace));
        weir_grace_put(grace);
        was_refused(object);
    }
}

static void read_slowly(void)
{
    urcu_qsbr_register_thread();
    while (!stress_stopped()) {
        const struct object *object = weir_load_acquire(&shown);
        fixture_sleep(10000);
        if (object != NULL && object->life != LIFE)
            stress_fail("an object was freed while the reader was looking at it");
        weir_grace_annotate_quiescent();
        urcu_qsbr_quiescent_state();
    }
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
}

static void *work(void *number)
{
    uint64_t random = stress_seed((unsigned)(uintptr_t)number);
    if (number == NULL) {
        read_slowly();
        return NULL;
    }
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        if (dice & 1)
            hand_over_array(dice & 2);
        else
            hand_over_one(dice & 2);
    }
    return NULL;
}

static void flood(enum weir_pending_policy policy, bool bytes)
{
    static const char *const names[] = {"wait", "help", "refuse"};
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    struct weir_reclaimer_stats stats;
    config.free_one = free_object;
    config.capacity = CAPACITY;
    config.policy = policy;
    bound = MOST + stress.threads * ARRAY;
    if (bytes) {
        config.max_pending_bytes = (size_t)MOST * BYTES;
        config.size_of = size_of;
        /* What is being filled comes on top, and whoever finds the limit not reached adds a magazine. */
        bound += ((size_t)weir_percpu_nr_cpus() + stress.threads) * CAPACITY;
    } else {
        config.max_pending = MOST;
    }
    out = 0;
    handed_over = freed = refused = 0;
    if (weir_reclaimer_create(&reclaimer, &config) != 0)
        stress_fail("cannot create the reclaimer");
    stress_run(work, stress.milliseconds / 4, NULL);
    struct object *last = weir_xchg_acq_rel(&shown, NULL);
    free(last); /* the reader is gone */
    weir_free_rcu_barrier(reclaimer);
    weir_reclaimer_stats(reclaimer, &stats);
    if (freed != handed_over || out != 0 || stats.pending != 0)
        stress_fail("%llu objects were handed over, but %llu freed; %zu pending",
                    (unsigned long long)handed_over, (unsigned long long)freed, stats.pending);
    printf("%s, %s: %llu freed, %llu of them after a wait of their own; %llu refused\n", names[policy],
           bytes ? "bytes" : "objects", (unsigned long long)freed, (unsigned long long)stats.waits,
           (unsigned long long)refused);
    weir_reclaimer_destroy(reclaimer);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    flood(WEIR_PENDING_WAIT, false);
    flood(WEIR_PENDING_HELP, false);
    flood(WEIR_PENDING_REFUSE, false);
    flood(WEIR_PENDING_HELP, true);
    return 0;
}
