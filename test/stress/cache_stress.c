/* SPDX-License-Identifier: MIT */
/*
 * weir/cache.h: threads that come and go and change CPUs, and a signal handler that interrupts them,
 * allocate, free, free after a grace period, pass objects on, decay, drain, shrink and ask for statistics, all
 * at once; in the second half magazines are often not to be had. Readers look at objects until their grace
 * period is over. The backend counts every object.
 */
#include "stress_cache.h"
#include "weir/shrinker.h"

enum { HIGH = 8 * CAPACITY, PUBLISHED = 16, OBJECT_BYTES = 100 };

static struct backend_object *published[PUBLISHED]; /* where readers find them */
static bool magazines_abound; /* so that a signal handler may call weir_cache_free_rcu() */
static _Thread_local volatile sig_atomic_t in_nolock;

static void backend_entered(void)
{
    if (in_nolock)
        stress_fail("weir_cache_alloc_nolock() called the backend");
}

static void *alloc_nolock(void)
{
    sig_atomic_t before = in_nolock;
    in_nolock = 1;
    void *object = weir_cache_alloc_nolock(cache);
    in_nolock = before;
    return object;
}

/* Puts an object, or nothing, where readers find it, and frees the one that was there. */
static void publish(struct hand *hand, unsigned where)
{
    struct backend_object *old = weir_xchg_acq_rel(&published[where], (struct backend_object *)drop(hand));
    if (old)
        weir_cache_free_rcu(cache, backend_disown_shared(old));
}

/* Nobody may write to an object that was found until we are quiescent. */
static void read_published(uint64_t dice)
{
    const struct backend_object *object = weir_load_acquire(&published[dice % PUBLISHED]);
    if (!object)
        return;
    uint64_t payload = object->payload, check = object->check;
    if ((dice >> 8 & 15) == 0)
        fixture_sleep((unsigned)(dice >> 12 & 63));
    else if ((dice >> 8 & 15) == 1)
        sched_yield();
    if (object->payload != payload || object->check != check || check != payload * 3)
        stress_fail("an object was used again while a reader was looking at it");
}

static void interrupt(void)
{
    struct hand hand = {.n = 0};
    if (!reader_is_online)
        return; /* the cache was promised that its users are */
    sig_atomic_t before = in_nolock;
    int error = errno; /* slow paths make system calls */
    in_nolock = 0;
    take(&hand, weir_cache_alloc(cache));
    take(&hand, alloc_nolock());
    take_bulk(&hand, 5);
    give(&hand);
    give_bulk(&hand, 3);
    if (magazines_abound && hand.n)
        weir_cache_free_rcu(cache, backend_disown_shared(drop(&hand)));
    while (hand.n)
        give(&hand);
    in_nolock = before;
    errno = error;
}

static void seldom(uint64_t dice)
{
    struct weir_cache_stats stats;
    switch (dice % 8) {
    case 0:
        fixture_change_cpu(cpus, nr_cpus, dice >> 8);
        break;
    case 1:
        weir_cache_drain_all(cache, any_drain(dice >> 8));
        break;
    case 2:
        weir_cache_drain_cpu(cache, cpus[(dice >> 16) % nr_cpus], any_drain(dice >> 8));
        break;
    case 3:
        weir_cache_rcu_barrier(cache);
        break;
    case 4:
        weir_cache_decay(cache);
        break;
    case 5:
        if (dice >> 8 & 1)
            weir_cache_shrink(cache);
        else /* a part of it, or all */
            weir_shrink((dice >> 9 & 7) != 0 ? (dice >> 16) % (20 * CAPACITY * OBJECT_BYTES) : SIZE_MAX);
        break;
    case 6:
        weir_cache_stats_cpu(cache, cpus[(dice >> 16) % nr_cpus], &stats);
        break;
    default:
        weir_cache_stats(cache, &stats);
        if (stats.cached > SIZE_MAX / 2 || stats.waiting > SIZE_MAX / 2 || stats.out > SIZE_MAX / 2 ||
            stats.waiting_objects > SIZE_MAX / 2)
            stress_fail("a count went below zero");
    }
}

static void step(struct hand *hand)
{
    uint64_t dice = stress_random(&hand->random);
    switch (dice & 15) {
    case 0:
    case 1:
        take_bulk(hand, dice >> 8 & 31);
        break;
    case 2:
    case 3:
        give_bulk(hand, dice >> 8 & 31);
        break;
    case 4:
        if (hand->n < MOST_HELD)
            take(hand, alloc_nolock());
        break;
    case 5:
        publish(hand, (unsigned)(dice >> 8) % PUBLISHED);
        break;
    case 6:
    case 7:
        read_published(dice >> 8);
        break;
    case 8:
        pass_on(hand);
        break;
    case 9:
        if (hand->n < MOST_HELD)
            take_over(hand);
        break;
    case 10:
    case 11:
    case 12:
        give(hand);
        break;
    case 13:
        if ((dice >> 8 & 31) == 0)
            seldom(dice >> 16);
        break;
    default:
        if (hand->n < MOST_HELD)
            take(hand, weir_cache_alloc(cache));
    }
    if ((dice >> 56 & 3) == 0)
        reader_quiescent();
}

static void *short_life(void *seed)
{
    struct hand hand = {.random = *(uint64_t *)seed | 1};
    reader_register();
    fixture_change_cpu(cpus, nr_cpus, hand.random >> 20);
    for (unsigned i = 0; i < 100; i++)
        step(&hand);
    while (hand.n)
        give(&hand);
    reader_unregister();
    return NULL;
}

static void *work(void *argument)
{
    struct hand hand = {.random = stress_seed((unsigned)(uintptr_t)argument)};
    reader_register();
    while (!stress_stopped()) {
        for (unsigned i = 0; i < 2000; i++)
            step(&hand);
        uint64_t seed = stress_random(&hand.random);
        pthread_t child;
        reader_offline(NULL);
        if ((seed & 7) == 0 && pthread_create(&child, NULL, short_life, &seed) == 0)
            pthread_join(child, NULL);
        reader_online(NULL);
    }
    while (hand.n)
        give(&hand);
    reader_unregister();
    return NULL;
}

static void round_with(unsigned percent_of_magazines_that_fail, unsigned domains)
{
    struct weir_grace *grace = readers_grace();
    struct chunks chunks;
    struct weir_block_source source = one_by_one(&chunks);
    chunks.fail_percent = percent_of_magazines_that_fail;
    chunks.random = stress.seed;
    magazines_abound = percent_of_magazines_that_fail == 0;
    backend_init(&backend, scarce_objects());
    backend.entered = backend_entered;
    struct weir_cache_config config = config_of(HIGH, grace);
    config.registered_users = true;
    config.object_size = OBJECT_BYTES; /* weir_shrink() asks it */
    create(&config, &source, domains);
    stress_run(work, stress.milliseconds / 2, interrupt);
    for (unsigned i = 0; i < PUBLISHED; i++) {
        struct backend_object *old = weir_xchg_acq_rel(&published[i], NULL);
        if (old)
            weir_cache_free_rcu(cache, backend_disown_shared(old));
    }
    finish(&chunks);
    weir_grace_put(grace);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    nr_cpus = fixture_cpus(cpus, 64);
    puts(weir_percpu_reason());
    round_with(0, 2);
    round_with(60, 1);
    return 0;
}
