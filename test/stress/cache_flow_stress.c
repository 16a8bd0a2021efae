/* SPDX-License-Identifier: MIT */
/*
 * weir/cache.h: producers on one CPU allocate, consumers on another free, through a bounded queue. What flows
 * so must come round: neither the objects out of the backend nor the magazines made may be more than can be
 * in use at once, however many have flowed. With one domain and with two; freed at once, and after a grace
 * period.
 */
#include "stress_cache.h"

enum { HIGH = 16, QUEUE = 10000, HANDFUL = 100, BARRIER_EVERY = 2000 }; /* magazines, then objects */

static bool after_grace;
static uint64_t flowed;

/* A few at a time, so that they do not give way to each other after every object. */
static void produce(void)
{
    uint64_t done = 0;
    while (!stress_stopped()) {
        if (weir_pool_count(&passed_on) > QUEUE - HANDFUL) {
            sched_yield();
            continue;
        }
        for (unsigned i = 0; i < HANDFUL; i++) {
            void *object = weir_cache_alloc(cache);
            if (object == NULL)
                stress_fail("the backend has run out of objects");
            weir_pool_put(&passed_on, &((struct backend_object *)backend_own(&backend, object))->node);
        }
        done += HANDFUL;
    }
    weir_fetch_add_relaxed(&flowed, done);
}

static void give_back(void *object, unsigned *since_barrier)
{
    if (!after_grace) {
        weir_cache_free(cache, backend_disown(object));
        return;
    }
    weir_cache_free_rcu(cache, backend_disown(object));
    if (++*since_barrier == BARRIER_EVERY) { /* so much may wait, and no more */
        weir_cache_rcu_barrier(cache);
        *since_barrier = 0;
    }
}

static void consume(void)
{
    unsigned since_barrier = 0;
    while (!stress_stopped()) {
        struct weir_stack_node *node = weir_pool_get(&passed_on);
        if (node != NULL)
            give_back(node, &since_barrier);
        else
            sched_yield();
    }
}

static void *work(void *argument)
{
    bool producer = (uintptr_t)argument % 2 == 0;
    fixture_pin(producer ? cpus[0] : cpus[nr_cpus - 1]);
    if (producer)
        produce();
    else
        consume();
    return NULL;
}

static void round_with(bool rcu, unsigned domains)
{
    struct weir_grace *grace = readers_grace(); /* there are none */
    struct chunks chunks;
    struct weir_block_source source = one_by_one(&chunks);
    struct weir_cache_stats stats;
    size_t threads = stress.threads;

    after_grace = rcu;
    flowed = 0;
    /* On two CPUs; in the depots, where each thread and the helper may put one more that saw room, or see too
     * small a count, and decay puts spares; and one in the hands of each. */
    size_t magazines = 2 * 2 + HIGH + 2 * 2 + 3 * (threads + 1);
    size_t objects = magazines * CAPACITY + QUEUE + threads * (HANDFUL + 1);
    if (rcu) { /* those that wait may have one object each, and two slots are open */
        objects += threads * BARRIER_EVERY;
        magazines += threads * BARRIER_EVERY + 2;
    }
    backend_init(&backend, objects);
    struct weir_cache_config config = config_of(HIGH * CAPACITY, grace);
    create(&config, &source, domains);
    stress_run(work, stress.milliseconds / 4, NULL);
    weir_cache_stats(cache, &stats);
    printf("%llu objects have flowed\n", (unsigned long long)flowed);
    if (stats.blocks.total > magazines)
        stress_fail("%zu magazines were made, but at most %zu can have been in use", stats.blocks.total,
                    magazines);
    if (domains == 1 && stats.stolen != 0)
        stress_fail("%llu magazines were stolen from nobody", (unsigned long long)stats.stolen);
    finish(&chunks);
    weir_grace_put(grace);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    nr_cpus = fixture_cpus(cpus, 64);
    puts(weir_percpu_reason());
    for (unsigned domains = 1; domains <= 2; domains++) {
        round_with(false, domains);
        round_with(true, domains);
    }
    return 0;
}
