/* SPDX-License-Identifier: MIT */
/*
 * weir/cache.h: thousands of threads that come, allocate and free a little, and die; some leave objects to
 * others. Nothing is per thread, so nothing may be lost with one, and the magazines made are as many as can
 * be in use at once.
 */
#include "stress_cache.h"

enum {
    HIGH = 8,
    PASSED_ON = 60,
    BARRIER_EVERY = 25,
    RCU_PER_LIFE = 4
}; /* magazines, objects, lives, objects */

static uint64_t lives;

static void *live(void *seed)
{
    struct hand hand = {.random = *(uint64_t *)seed | 1};
    unsigned rcu = 0;
    fixture_change_cpu(cpus, nr_cpus, stress_random(&hand.random));
    for (uint64_t i = stress_random(&hand.random) % 40; i != 0; i--) {
        uint64_t dice = stress_random(&hand.random);
        switch (dice % 8) {
        case 0:
            take_bulk(&hand, dice >> 8 & 15);
            break;
        case 1:
            give_bulk(&hand, dice >> 8 & 15);
            break;
        case 2:
            if (weir_pool_count(&passed_on) < PASSED_ON)
                pass_on(&hand);
            break;
        case 3:
            if (hand.n < MOST_HELD)
                take_over(&hand);
            break;
        case 4:
            if (hand.n != 0 && rcu++ < RCU_PER_LIFE)
                weir_cache_free_rcu(cache, backend_disown(drop(&hand)));
            break;
        case 5:
            give(&hand);
            break;
        default:
            if (hand.n < MOST_HELD)
                take(&hand, weir_cache_alloc(cache));
        }
    }
    while (hand.n != 0 && weir_pool_count(&passed_on) < PASSED_ON)
        pass_on(&hand); /* the heirs' */
    while (hand.n != 0)
        give(&hand);
    return NULL;
}

static void *work(void *argument)
{
    uint64_t random = stress_seed((unsigned)(uintptr_t)argument), done = 0;
    while (!stress_stopped()) {
        uint64_t seed = stress_random(&random);
        pthread_t child;
        if (pthread_create(&child, NULL, live, &seed) != 0)
            stress_fail("cannot start a thread");
        pthread_join(child, NULL);
        if (++done % BARRIER_EVERY == 0)
            weir_cache_rcu_barrier(cache);
    }
    weir_fetch_add_relaxed(&lives, done);
    return NULL;
}

static void round_with(unsigned domains)
{
    struct weir_grace *grace = readers_grace(); /* there are none */
    struct chunks chunks;
    struct weir_block_source source = one_by_one(&chunks);
    struct weir_cache_stats stats;
    size_t threads = stress.threads;
    /* On each CPU loaded, spare and the one being filled for a grace period; in the depots, where each thread
     * and the helper may put one more that saw room, or see too small a count, and decay puts spares; two in
     * the hands of each; and what waits, one object in each. */
    size_t magazines = 3 * (size_t)nr_cpus + HIGH + 2 * (size_t)nr_cpus + 4 * (threads + 1) +
                       threads * BARRIER_EVERY * RCU_PER_LIFE;

    backend_init(&backend, scarce_objects());
    struct weir_cache_config config = config_of(HIGH * CAPACITY, grace);
    create(&config, &source, domains);
    stress_run(work, stress.milliseconds / 2, NULL);
    weir_cache_stats(cache, &stats);
    printf("%llu threads\n", (unsigned long long)lives);
    if (stats.blocks.total > magazines)
        stress_fail("%zu magazines were made, but at most %zu can have been in use", stats.blocks.total,
                    magazines);
    finish(&chunks);
    weir_grace_put(grace);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    nr_cpus = fixture_cpus(cpus, 64);
    puts(weir_percpu_reason());
    round_with(1);
    round_with(2);
    return 0;
}
