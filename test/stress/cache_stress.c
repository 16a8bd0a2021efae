/* SPDX-License-Identifier: MIT */
/*
 * weir/cache.h: threads that come and go and change CPUs, and a signal handler that interrupts them,
 * allocate, free, free after a grace period, pass objects on, decay, drain and ask for statistics, all at
 * once; in the second half magazines are often not to be had. Readers look at objects until their grace
 * period is over. The backend counts every object.
 */
#include "stress.h"

#define FIXTURE_FAIL stress_fail
#include "cache.h"
#include "readers.h"
#include "weir/pool.h"

enum { NR = 500, CAPACITY = 8, HIGH = 8 * CAPACITY, MOST_HELD = 40, PUBLISHED = 16 };

static const struct weir_cache_ops ops = {backend_alloc, backend_free};
static struct backend backend;
static struct weir_cache *cache;
static struct backend_object *published[PUBLISHED]; /* where readers find them */
static struct weir_pool passed_on;                  /* owned by whoever takes them */
static unsigned cpus[64], nr_cpus;
static _Thread_local volatile sig_atomic_t in_nolock;

static void backend_entered(void)
{
    if (in_nolock)
        stress_fail("weir_cache_alloc_nolock() called the backend");
}

struct hand {
    void *objects[MOST_HELD];
    size_t n;
    uint64_t random;
};

static void take(struct hand *hand, void *object)
{
    if (object)
        hand->objects[hand->n++] = backend_own(&backend, object);
}

static void *alloc_nolock(void)
{
    sig_atomic_t before = in_nolock;
    in_nolock = 1;
    void *object = weir_cache_alloc_nolock(cache);
    in_nolock = before;
    return object;
}

static void take_bulk(struct hand *hand, size_t n)
{
    void **into = hand->objects + hand->n;
    n = n < MOST_HELD - hand->n ? n : MOST_HELD - hand->n;
    size_t got = weir_cache_alloc_bulk(cache, n, into);
    if (got > n)
        stress_fail("alloc_bulk of %zu says %zu", n, got);
    for (size_t i = 0; i < got; i++)
        backend_own(&backend, into[i]);
    hand->n += got;
}

static void *drop(struct hand *hand)
{
    return hand->n != 0 ? hand->objects[--hand->n] : NULL;
}

static void give(struct hand *hand)
{
    void *object = drop(hand);
    if (object)
        weir_cache_free(cache, backend_disown(object));
}

static void give_bulk(struct hand *hand, size_t n)
{
    n = n < hand->n ? n : hand->n;
    hand->n -= n;
    for (size_t i = 0; i < n; i++)
        backend_disown(hand->objects[hand->n + i]);
    weir_cache_free_bulk(cache, n, hand->objects + hand->n);
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

static void pass_on(struct hand *hand)
{
    struct backend_object *object = drop(hand);
    if (object)
        weir_pool_put(&passed_on, &object->node);
}

static void take_over(struct hand *hand)
{
    struct weir_stack_node *node = weir_pool_get(&passed_on);
    if (node)
        hand->objects[hand->n++] = node; /* owned already */
}

static void interrupt(void)
{
    struct hand hand = {.n = 0};
    if (!reader_is_online)
        return; /* the cache was promised that its users are */
    sig_atomic_t before = in_nolock;
    in_nolock = 0;
    take(&hand, weir_cache_alloc(cache));
    take(&hand, alloc_nolock());
    take_bulk(&hand, 5);
    give(&hand);
    give_bulk(&hand, 3);
    while (hand.n)
        give(&hand);
    in_nolock = before;
}

static enum weir_drain any_drain(uint64_t dice)
{
    if (dice & 1)
        return WEIR_DRAIN_QUIET;
    return fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED;
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
    case 5:
        weir_cache_decay(cache);
        break;
    default:
        weir_cache_stats(cache, &stats);
        if (stats.cached > SIZE_MAX / 2 || stats.waiting > SIZE_MAX / 2)
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

static void at_rest(void)
{
    struct weir_cache_stats stats;
    for (unsigned i = 0; i < PUBLISHED; i++) {
        struct backend_object *old = weir_xchg_acq_rel(&published[i], NULL);
        if (old)
            weir_cache_free_rcu(cache, backend_disown_shared(old));
    }
    for (struct weir_stack_node *node; (node = weir_pool_get(&passed_on)) != NULL;)
        weir_cache_free(cache, backend_disown(node));
    weir_cache_rcu_barrier(cache);
    weir_cache_stats(cache, &stats);
    if (backend_owned(&backend) != 0)
        stress_fail("%zu objects were forgotten", backend_owned(&backend));
    if (stats.cached != backend_lent(&backend))
        stress_fail("at rest %zu objects are said to be cached, but %zu are", stats.cached,
                    backend_lent(&backend));
    if (stats.waiting != 0)
        stress_fail("%zu magazines wait after a barrier", stats.waiting);
    if (stats.allocated != backend.given || stats.alloc_calls != backend.alloc_calls ||
        stats.freed != backend.taken || stats.free_calls != backend.free_calls)
        stress_fail("the cache's statistics differ from the backend's");
    if (stats.depot_hits > stats.refills)
        stress_fail("more refills from the depot than refills");
    printf(
        "%llu from the backend in %llu calls, %llu refills, %llu from the depot, %llu after a grace period, "
        "%llu waits\n",
        (unsigned long long)stats.allocated, (unsigned long long)stats.alloc_calls,
        (unsigned long long)stats.refills, (unsigned long long)stats.depot_hits,
        (unsigned long long)stats.rcu_freed, (unsigned long long)stats.rcu_waits);
    fflush(stdout);
}

static void round_with(unsigned percent_of_magazines_that_fail)
{
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    struct weir_grace *grace = readers_grace();
    struct chunks chunks;
    struct weir__chunk_source source = chunks_init(&chunks, 1, CAPACITY);
    chunks.mapped = true;
    chunks.fail_percent = percent_of_magazines_that_fail;
    chunks.random = stress.seed;
    backend_init(&backend, NR);
    backend.entered = backend_entered;
    config.ops = &ops;
    config.backend = &backend;
    config.capacity = CAPACITY;
    config.high = HIGH;
    config.grace = grace;
    config.registered_users = true;
    if (weir__cache_create(&cache, &config, &(struct weir__cache_surroundings){.chunks = &source}))
        stress_fail("cannot create the cache");
    stress_run(work, stress.milliseconds / 2, interrupt);
    at_rest();
    weir_cache_destroy(cache);
    weir_grace_put(grace);
    backend_destroy(&backend);
    if (chunks.out != 0)
        stress_fail("%u chunks were not given back", chunks.out);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    nr_cpus = fixture_cpus(cpus, 64);
    puts(weir_percpu_reason());
    round_with(0);
    round_with(60);
    return 0;
}
