/* SPDX-License-Identifier: MIT */
/*
 * scaling_count.c - weir-bench-scaling-count: the workloads of weir-bench-scaling over a libweir in which
 * every atomic operation is noted (scaling_hook.h), and each kind of exchange by itself. Run by
 * weir-bench-scaling, which reads struct count_result from its standard output:
 *
 *     weir-bench-scaling-count WORKLOAD CAPACITY DOMAINS THREADS SLICES MILLISECONDS
 *     weir-bench-scaling-count exchanges
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scaling.h"
#include "scaling_hook.h"

#define TOUCHED_MAX 16
#define CAPACITY 12 /* when exchanges are counted one by one */
#define MAGAZINES 32

/* What this thread notes down; NULL: nothing yet. */
static _Thread_local struct {
    struct tally *tally;
    const struct weir_cache *cache;
    unsigned domain;
    uintptr_t touched[TOUCHED_MAX], last; /* of this exchange */
    unsigned touches;
} mine;

static bool lies_in(const volatile void *address, const void *from, size_t bytes)
{
    return (uintptr_t)address - (uintptr_t)from < bytes;
}

/* LINES: none of them. */
static enum line line_of(const volatile void *address)
{
    const struct weir__depots *depots = &mine.cache->depots;
    const struct weir__idle_blocks *idle = mine.cache->blocks.idle;
    size_t domain;
    unsigned kind;

    if (lies_in(address, depots->depot, depots->domains * sizeof depots->depot[0])) {
        size_t offset = (uintptr_t)address - (uintptr_t)depots->depot;
        domain = offset / sizeof depots->depot[0];
        kind = offset % sizeof depots->depot[0] < WEIR_CACHE_LINE ? OWN_HEAD : OWN_STEER;
    } else if (lies_in(address, idle, depots->domains * sizeof idle[0])) {
        domain = ((uintptr_t)address - (uintptr_t)idle) / sizeof idle[0];
        kind = OWN_IDLE;
    } else {
        return LINES;
    }
    return (enum line)(domain == mine.domain ? kind : kind + OTHER_HEAD);
}

/* Belongs to a CPU, or to the magazine in the caller's hands. */
static bool is_private(const volatile void *address)
{
    const struct weir_cache *cache = mine.cache;
    unsigned cpus = weir_percpu_nr_cpus();
    if (lies_in(address, cache->cpus, cpus * sizeof cache->cpus[0]) ||
        lies_in(address, cache->counts, cpus * sizeof cache->counts[0]) ||
        lies_in(address, cache->deferred.cpus, cpus * sizeof cache->deferred.cpus[0]))
        return true;
    for (const struct weir_llist_node *chunk = __atomic_load_n(&cache->blocks.chunks.first, __ATOMIC_ACQUIRE);
         chunk != NULL; chunk = chunk->next) {
        size_t bytes;
        memcpy(&bytes, chunk + 1, sizeof bytes); /* see src/blocks.c */
        if (lies_in(address, chunk, bytes))
            return true;
    }
    return false;
}

/* The gate's counters are the only words outside of the cache that change: entering first, leaving last. */
static void note_outside(const volatile void *address, enum access access)
{
    static _Thread_local bool inside;
    if (access == ACCESS_LOAD || is_private(address))
        return;
    if (access != ACCESS_RMW || lies_in(address, mine.cache, sizeof *mine.cache)) {
        mine.tally->unknown++;
        return;
    }
    mine.tally->gate++;
    inside = !inside;
    mine.touches = 0;
    mine.last = 0;
    if (inside)
        mine.tally->exchanges++;
}

void scaling_note(const volatile void *address, enum access access)
{
    if (mine.tally == NULL)
        return;
    enum line line = line_of(address);
    if (line == LINES) {
        note_outside(address, access);
        return;
    }
    uintptr_t number = (uintptr_t)address / WEIR_CACHE_LINE;
    unsigned i = 0;
    mine.tally->rmw[line] += access == ACCESS_RMW;
    mine.tally->stores[line] += access == ACCESS_STORE;
    mine.tally->visits[line] += number != mine.last;
    mine.last = number;
    while (i < mine.touches && mine.touched[i] != number)
        i++;
    if (i < mine.touches || i == TOUCHED_MAX)
        return;
    mine.touched[mine.touches++] = number;
    mine.tally->lines[line]++;
}

static void begin(const struct weir_cache *cache, unsigned domain, struct tally *tally)
{
    mine.tally = tally;
    mine.cache = cache;
    mine.domain = domain;
}

/* --- each kind of exchange by itself: one thread, two domains if there are CPUs for them --- */

static struct weir_cache *cache_for(size_t high, const struct weir__topology *topology)
{
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    struct weir__cache_surroundings around = {NULL, topology};
    struct weir_cache *cache;

    config.ops = &work_backend;
    config.capacity = CAPACITY;
    config.high = high;
    config.decay_milliseconds = WEIR_CACHE_DECAY_NEVER;
    if (weir__cache_create(&cache, &config, &around) != 0)
        exit(1);
    return cache;
}

static void *held[MAGAZINES * CAPACITY];

static void take(struct weir_cache *cache, unsigned from, unsigned to)
{
    for (unsigned i = from * CAPACITY; i < to * CAPACITY; i++)
        held[i] = weir_cache_alloc(cache);
}

static void give(struct weir_cache *cache, unsigned from, unsigned to)
{
    for (unsigned i = from * CAPACITY; i < to * CAPACITY; i++)
        weir_cache_free(cache, held[i]);
}

/* Notes `operation`, which makes `n` exchanges. */
static void count_exchanges(struct exchange_result *result, struct weir_cache *cache, unsigned cpu,
                            void (*operation)(struct weir_cache *, unsigned, unsigned), unsigned n)
{
    begin(cache, cache->cpus[cpu].domain, &result->tally);
    operation(cache, 4, 4 + n);
    mine.tally = NULL;
    result->counted = n;
}

/* A magazine's worth out and back, which crosses the boundary of the loaded and the spare one once each way. */
static void count_spare(struct exchange_result exchange[EXCHANGES], struct weir_cache *cache, unsigned cpu)
{
    unsigned domain = cache->cpus[cpu].domain;
    held[CAPACITY] = weir_cache_alloc(cache); /* so neither is ever just full or empty */
    for (unsigned i = 0; i < 8; i++) {        /* comes to rest */
        take(cache, 0, 1);
        give(cache, 0, 1);
    }
    for (unsigned i = 0; i < MAGAZINES; i++) {
        begin(cache, domain, &exchange[REFILL_SPARE].tally);
        take(cache, 0, 1);
        begin(cache, domain, &exchange[FLUSH_SPARE].tally);
        give(cache, 0, 1);
        mine.tally = NULL;
    }
    exchange[REFILL_SPARE].counted = exchange[FLUSH_SPARE].counted = MAGAZINES;
    weir_cache_free(cache, held[CAPACITY]);
}

static void count_all(struct exchange_result exchange[EXCHANGES], const struct machine *machine)
{
    struct weir__topology topology;
    bool two = work_topology(&topology, 2);
    unsigned here = machine->cpu[0], there = machine->cpu[machine->cpus - 1];
    machine_pin(machine, 0);

    struct weir_cache *cache = cache_for((size_t)4 * MAGAZINES * CAPACITY, &topology);
    take(cache, 0, MAGAZINES); /* makes them */
    give(cache, 0, MAGAZINES);
    take(cache, 0, 4); /* those of the CPU, and a magazine to have an empty spare */
    count_exchanges(&exchange[REFILL_DEPOT], cache, here, take, MAGAZINES - 8);
    give(cache, 0, 4);
    count_exchanges(&exchange[FLUSH_DEPOT], cache, here, give, MAGAZINES - 8);
    if (two && topology.domain_of[here] != topology.domain_of[there]) {
        machine_pin(machine, machine->cpus - 1);
        take(cache, 0, 4);
        count_exchanges(&exchange[REFILL_STOLEN], cache, there, take, MAGAZINES - 12);
        machine_pin(machine, 0);
    }
    weir_cache_destroy(cache);

    cache = cache_for(1, &topology);
    take(cache, 0, 4);
    take(cache, 0, 4);
    weir__blocks_grow(&cache->blocks, here);
    count_exchanges(&exchange[REFILL_BACKEND], cache, here, take, MAGAZINES - 8);
    give(cache, 0, 4);
    count_exchanges(&exchange[FLUSH_SPILL], cache, here, give, MAGAZINES - 8);
    weir_cache_destroy(cache);

    cache = cache_for((size_t)4 * MAGAZINES * CAPACITY, &topology);
    count_spare(exchange, cache, here);
    weir_cache_destroy(cache);
    weir__topology_free(&topology);
}

int main(int argc, char **argv)
{
    static struct count_result result;
    static struct machine machine;
    unsigned value[6] = {0};

    machine_cpus(&machine);
    if (weir_percpu_init() != 0)
        return 1;
    if (argc == 2 && strcmp(argv[1], "exchanges") == 0) {
        count_all(result.exchange, &machine);
    } else if (argc == 7) {
        for (int i = 0; i < 6; i++)
            value[i] = (unsigned)strtoul(argv[i + 1], NULL, 10);
        struct job job = {.workload = (enum workload)value[0],
                          .capacity = value[1],
                          .domains = value[2],
                          .threads = value[3],
                          .slices = value[4],
                          .milliseconds = value[5]};
        work_run(&result.outcome, &job, &machine, begin);
    } else {
        fputs("weir-bench-scaling-count is run by weir-bench-scaling: bench/scaling\n", stderr);
        return 2;
    }
    return fwrite(&result, sizeof result, 1, stdout) == 1 ? 0 : 1;
}
