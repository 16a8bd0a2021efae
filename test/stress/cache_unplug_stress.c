/* SPDX-License-Identifier: MIT */
/*
 * weir/cache.h: CPUs that are taken away and come back. All threads leave a CPU, as they do when it is
 * unplugged; what it has left in its magazines is drained by others, in each of the ways there are, while
 * they go on; then it is empty, and stays so until it comes back. Thread 0 does that to the others.
 */
#include "stress_cache.h"

enum { HIGH = 8 * CAPACITY, PASSED_ON = 40 };

static unsigned unplugged; /* an index into cpus[]; nr_cpus: none */
static unsigned order;     /* how often that has changed */
static unsigned obeyed[STRESS_MAX_THREADS];
static unsigned rounds;

static void step(struct hand *hand)
{
    uint64_t dice = stress_random(&hand->random);
    switch (dice % 10) {
    case 0:
        take_bulk(hand, dice >> 8 & 15);
        break;
    case 1:
        give_bulk(hand, dice >> 8 & 15);
        break;
    case 2:
    case 3:
        give(hand);
        break;
    case 4:
        if (hand->n != 0)
            weir_cache_free_rcu(cache, backend_disown(drop(hand)));
        break;
    case 5:
        if (weir_pool_count(&passed_on) < PASSED_ON)
            pass_on(hand);
        break;
    case 6:
        if (hand->n < MOST_HELD)
            take_over(hand);
        break;
    case 7:
        if ((dice >> 8 & 255) == 0)
            weir_cache_decay(cache);
        break;
    default:
        if (hand->n < MOST_HELD)
            take(hand, weir_cache_alloc(cache));
    }
    if ((dice >> 56 & 3) == 0)
        reader_quiescent();
}

/* To a CPU that is there. */
static void move(uint64_t dice)
{
    unsigned away = weir_load_relaxed(&unplugged), i = (unsigned)(dice % nr_cpus);
    fixture_pin(cpus[i != away ? i : (i + 1) % nr_cpus]);
}

static void use(unsigned self)
{
    struct hand hand = {.random = stress_seed(self)};
    while (!stress_stopped()) {
        unsigned now = weir_load_acquire(&order);
        if (now != weir_load_relaxed(&obeyed[self])) {
            move(stress_random(&hand.random));
            weir_store_release(&obeyed[self], now);
        }
        for (unsigned i = 0; i < 50; i++)
            step(&hand);
        sched_yield(); /* to who waits for us to obey */
    }
    weir_store_release(&obeyed[self], ~0u); /* has left for good */
    while (hand.n != 0)
        give(&hand);
}

/* All threads know, and have left the CPU. False if it is too late for that. */
static bool command(unsigned away)
{
    weir_store_relaxed(&unplugged, away);
    unsigned now = weir_fetch_add_release(&order, 1u) + 1;
    for (unsigned i = 1; i < stress.threads; i++)
        while (weir_load_acquire(&obeyed[i]) != now) {
            if (stress_stopped())
                return false;
            reader_quiescent();
            sched_yield();
        }
    return true;
}

static void check_empty(unsigned nr, const char *when)
{
    struct weir_cache_stats stats;
    weir_cache_stats_cpu(cache, nr, &stats);
    if (stats.cached != 0)
        stress_fail("%zu objects on CPU %u, where nobody is, %s", stats.cached, nr, when);
}

/* In the way that is `round`'s turn. */
static void drain(unsigned nr, unsigned round)
{
    enum weir_drain immediate = fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED;
    errno = 0;
    switch (round % 5) {
    case 0:
        weir_cache_drain_cpu(cache, nr, WEIR_DRAIN_QUIET);
        break;
    case 1:
        weir_cache_drain_cpu(cache, nr, immediate);
        break;
    case 2:
        weir_cache_drain_all(cache, WEIR_DRAIN_QUIET);
        break;
    case 3:
        weir_cache_drain_all(cache, immediate);
        break;
    default:
        weir_cache_shrink(cache);
    }
    if (errno != 0)
        stress_fail("a drain of CPU %u failed: %s", nr, strerror(errno));
}

static void unplug(unsigned away)
{
    struct weir_cache_stats stats;
    unsigned nr = cpus[away];
    if (!command(away))
        return;
    drain(nr, rounds++);
    check_empty(nr, "after a drain");
    weir_cache_rcu_barrier(cache); /* what waits for a grace period there, too */
    weir_cache_stats_cpu(cache, nr, &stats);
    if (stats.waiting != 0)
        stress_fail("%zu magazines wait on CPU %u after a barrier", stats.waiting, nr);
    drain(nr, rounds);
    check_empty(nr, "and it was empty already");
}

static void *work(void *argument)
{
    unsigned self = (unsigned)(uintptr_t)argument;
    reader_register();
    if (self != 0)
        use(self);
    while (self == 0 && !stress_stopped()) {
        for (unsigned i = 0; i < nr_cpus; i++)
            unplug(i);
        command(nr_cpus); /* all are back */
    }
    reader_unregister();
    return NULL;
}

static void round_with(unsigned domains)
{
    struct weir_grace *grace = readers_grace();
    struct chunks chunks;
    struct weir_block_source source = one_by_one(&chunks);

    backend_init(&backend, scarce_objects());
    struct weir_cache_config config = config_of(HIGH, grace);
    config.registered_users = true;
    create(&config, &source, domains);
    unplugged = nr_cpus;
    memset(obeyed, 0, sizeof obeyed);
    order = 0;
    stress_run(work, stress.milliseconds / 2, NULL);
    printf("%u times a CPU was gone\n", rounds);
    finish(&chunks);
    weir_grace_put(grace);
}

int main(int argc, char **argv)
{
    enum { SKIPPED = 77 };
    stress_start(argc, argv);
    nr_cpus = fixture_cpus(cpus, 64);
    if (nr_cpus < 2) {
        puts("there is but one CPU to be on");
        return SKIPPED;
    }
    puts(weir_percpu_reason());
    round_with(1);
    round_with(2);
    return 0;
}
