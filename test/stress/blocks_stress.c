/* SPDX-License-Identifier: MIT */
/*
 * The pools of empty magazines: threads, and a signal handler that interrupts them, get, put, shrink and
 * press at once, from memory of the system and from a page cache, whose pages others write to as soon as they
 * have gone. A magazine is in the hands of one at a time, and stays as its owner left it; in the end the
 * counts agree, and all but the reserve can be given back.
 */
#include <errno.h>

#include "blocks.h"
#include "futex.h"
#include "stress.h"
#include "weir/page_cache.h"

enum { WHOLE = 508, SMALL = 124, RESERVE = 5, HOLD = 12, TABLE = 1 << 16, DOMAINS = 2 };

static struct weir__blocks blocks;
static struct weir_page_cache *pages;
static unsigned nr_cpus;
static unsigned fail_percent; /* of a page cache's calls */
static uint64_t calls;
static uint64_t given_back; /* bytes, by shrink */

/* --- who has which magazine --- */

/* By the place of its memory. The page cache's are at most a few hundred, the system's some thousand. */
static struct {
    uintptr_t place;
    unsigned held;
} table[TABLE];

static unsigned *mark_of(const struct weir_magazine *magazine)
{
    uintptr_t place = (uintptr_t)magazine;
    for (size_t i = (place >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 40;; i++) {
        uintptr_t found = weir_load_relaxed(&table[i % TABLE].place);
        if (found == 0 && !weir_cas_relaxed(&table[i % TABLE].place, &found, place) && found != place)
            continue;
        if (found == 0 || found == place)
            return &table[i % TABLE].held;
    }
}

/* Fills it, with what only its owner knows. */
static void take(struct weir_magazine *magazine, uintptr_t secret)
{
    if (weir_xchg_relaxed(mark_of(magazine), 1u) != 0)
        stress_fail("a magazine was handed out twice");
    if (magazine->count != 0 || magazine->capacity != WEIR_MAGAZINE_CAPACITY(blocks.block_bytes))
        stress_fail("a magazine came with %u of %u pointers", magazine->count, magazine->capacity);
    while (weir_magazine_put(magazine, (void *)(secret + magazine->count)))
        ;
}

static void give(struct weir_magazine *magazine, uintptr_t secret, unsigned cpu)
{
    void **objects = weir_magazine_objects(magazine);
    for (uint32_t i = 0; i < magazine->capacity; i++)
        if (objects[i] != (void *)(secret + i))
            stress_fail("somebody wrote to a magazine that was another's");
    if (weir_xchg_relaxed(mark_of(magazine), 0u) != 1)
        stress_fail("a magazine had two owners");
    weir__blocks_put(&blocks, cpu, magazine);
}

/* --- sources --- */

static struct weir_block_source lender;

static void *get_or_fail(void *arg, size_t *bytes)
{
    uint64_t random = (weir_fetch_add_relaxed(&calls, UINT64_C(1)) + 1) * UINT64_C(0x9E3779B97F4A7C15);
    return stress_random(&random) % 100 < weir_load_relaxed(&fail_percent) ? NULL : lender.get(arg, bytes);
}

/* --- the work --- */

static void interrupt(void)
{
    struct weir_magazine *magazine = weir__blocks_get(&blocks, 0, true);
    if (magazine != NULL) {
        take(magazine, 7);
        give(magazine, 7, nr_cpus - 1);
    }
    weir_fetch_add_relaxed(&given_back, (uint64_t)weir__blocks_shrink(&blocks, 1));
}

/* Takes pages, writes to them, and gives them back: what was a magazine is somebody's page. */
static void use_pages(uint64_t dice)
{
    void *some[8] = {NULL};
    if (pages == NULL)
        return;
    weir_page_alloc_bulk_array(pages, dice % 8, some);
    for (unsigned i = 0; i < 8; i++)
        if (some[i] != NULL)
            memset(some[i], 0xA5, 4096);
    weir_page_free_bulk(pages, 8, some);
    if (dice % 256 == 0)
        weir_page_cache_drain_all(pages, weir_percpu_mode() == WEIR_PERCPU_LOCK ? WEIR_DRAIN_LOCK
                                                                                : WEIR_DRAIN_EXPEDITED);
}

static void *work(void *argument)
{
    uint64_t random = stress_seed((unsigned)(uintptr_t)argument);
    struct weir_magazine *held[HOLD];
    uintptr_t secrets[HOLD];
    unsigned n = 0;
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        unsigned cpu = dice >> 8 & 1 ? nr_cpus - 1 : 0;
        switch (dice & 31) {
        case 0:
            weir_fetch_add_relaxed(&given_back, (uint64_t)weir__blocks_shrink(&blocks, dice >> 10 & 7));
            break;
        case 1:
            weir__blocks_press(&blocks, dice >> 10 & 1 ? weir__milliseconds() + 2 : 0);
            break;
        case 2:
            use_pages(dice >> 10);
            break;
        default:
            if (n < HOLD && (n == 0 || (dice >> 9 & 1))) {
                held[n] = weir__blocks_get(&blocks, cpu, true);
                secrets[n] = dice << 8 | 8;
                if (held[n] != NULL) {
                    take(held[n], secrets[n]);
                    n++;
                }
            } else {
                n--;
                give(held[n], secrets[n], cpu);
            }
        }
    }
    while (n > 0) {
        n--;
        give(held[n], secrets[n], 0);
    }
    return NULL;
}

/* --- rounds --- */

static void check_stats(size_t total)
{
    struct weir_block_stats stats;
    weir__blocks_stats(&blocks, &stats);
    if (stats.in_use != 0)
        stress_fail("%zu of %zu magazines are in use, and nobody has them", stats.in_use, stats.total);
    if (total != 0 && stats.total != total)
        stress_fail("%zu magazines are left, not %zu", stats.total, total);
    if (stats.given_back < given_back / (blocks.whole != 0 ? blocks.whole : 1))
        stress_fail("shrink has given more back than there was");
}

static void round_with(size_t capacity, const struct weir_block_source *source, unsigned failing,
                       const struct weir__topology *topology)
{
    memset(table, 0, sizeof table);
    given_back = 0;
    int error = weir__blocks_init(&blocks, capacity, source, topology);
    if (error == 0)
        error = weir__blocks_reserve(&blocks, RESERVE);
    if (error != 0)
        stress_fail("cannot begin: %s", strerror(-error));
    weir_store_relaxed(&fail_percent, failing);
    stress_run(work, stress.milliseconds / 4, interrupt);
    weir_store_relaxed(&fail_percent, 0u);
    check_stats(0);
    size_t idle = weir__blocks_shrinkable(&blocks);
    if (weir__blocks_shrink(&blocks, SIZE_MAX) != idle)
        stress_fail("at rest shrink does not give what shrinkable says");
    check_stats(blocks.whole != 0 ? RESERVE : 0);
    weir__blocks_destroy(&blocks);
}

int main(int argc, char **argv)
{
    struct weir__topology topology;
    stress_start(argc, argv);
    if (weir_percpu_init() != 0 || weir__topology_split(&topology, DOMAINS, DOMAINS) != 0)
        stress_fail("cannot begin");
    nr_cpus = topology.nr_cpus;
    round_with(WHOLE, NULL, 0, &topology);
    round_with(SMALL, NULL, 0, &topology);

    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    config.capacity = 4 << 20;
    if (weir_page_cache_create(&pages, &config) != 0)
        stress_fail("cannot begin");
    weir_page_cache_block_source(pages, &lender);
    struct weir_block_source source = lender;
    source.get = get_or_fail;
    round_with(WHOLE, &source, 0, &topology);
    round_with(WHOLE, &source, 40, &topology);
    struct weir_page_cache_stats stats;
    weir_page_cache_stats(pages, &stats);
    if (stats.frames != stats.block_pages + stats.cache.cached)
        stress_fail("%zu frames are out, %zu with magazines, %zu cached", stats.frames, stats.block_pages,
                    stats.cache.cached);
    if (weir_page_cache_destroy(pages) != 0)
        stress_fail("the page cache misses pages");
    weir__topology_free(&topology);
    return 0;
}
