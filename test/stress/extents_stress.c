/* SPDX-License-Identifier: MIT */
/*
 * Extents: threads on changing CPUs, and a signal handler that interrupts them, allocate and free extents of
 * all sizes, pass them on to each other, decay and drain, and take single frames meanwhile, first in a range
 * that is often exhausted, then in one that is often empty. Whoever has an extent finds in it what he, or who
 * passed it on, wrote; in the end every frame is counted.
 */
#include "stress.h"

#define FIXTURE_FAIL stress_fail
#include "extents.h"
#include "fixtures.h"

enum { PAGE = 4096, MOST_AREAS = 24, MOST_HELD = 40, SLOTS = 16, MOST_CPUS = 64 };

static struct weir__frames frames;
static struct weir__extents *extents;
static unsigned owned[MOST_AREAS * WEIR_FRAMES_PER_AREA];
static unsigned cpus[MOST_CPUS], nr_cpus;
static uintptr_t slots[SLOTS]; /* extents that were passed on: address + pages; 0: none */

struct held {
    char *extent;
    size_t n;
};

static void mark(struct held it, unsigned from, unsigned to)
{
    size_t first = (size_t)(it.extent - frames.base) / PAGE;
    if ((uintptr_t)it.extent % PAGE != 0 || first + it.n > frames.frames)
        stress_fail("%p is no extent of %zu pages", (void *)it.extent, it.n);
    if ((it.n & (it.n - 1)) == 0 && (uintptr_t)it.extent % (it.n * PAGE) != 0)
        stress_fail("%p is not aligned to %zu pages", (void *)it.extent, it.n);
    for (size_t i = first; i < first + it.n; i++)
        if (weir_xchg_relaxed(&owned[i], to) != from)
            stress_fail(to != 0 ? "a frame was handed out twice" : "a frame had two owners");
}

static uint64_t *last_word(struct held it)
{
    return (uint64_t *)(void *)(it.extent + it.n * PAGE) - 1;
}

static bool take(struct held *it, size_t n, uint64_t pattern)
{
    *it = (struct held){weir__extents_alloc(extents, n), n};
    if (it->extent == NULL)
        return false;
    mark(*it, 0, 1);
    *(uint64_t *)(void *)it->extent = pattern;
    *last_word(*it) = ~pattern;
    return true;
}

static void give(struct held it)
{
    if (*(uint64_t *)(void *)it.extent != ~*last_word(it))
        stress_fail("an extent lost what was written to it");
    mark(it, 1, 0);
    weir__extents_free(extents, it.extent, it.n);
}

/* Passes one on, and frees the one that lay there. Acquire-release: what the last owner wrote. */
static void pass(struct held it, uint64_t dice)
{
    uintptr_t word =
        weir_xchg_acq_rel(&slots[dice % SLOTS], it.extent != NULL ? (uintptr_t)it.extent + it.n : 0);
    if (word != 0)
        give((struct held){(char *)(word / PAGE * PAGE), word % PAGE});
}

/* Mostly small ones, of few sizes; but all there are. */
static size_t size_by(uint64_t dice)
{
    static const size_t usual[4] = {1, 2, 16, 5};
    return dice & 3 ? usual[dice >> 2 & 3] : (dice >> 4) % WEIR_EXTENT_PAGES_MAX + 1;
}

static void use_frames(uint64_t dice)
{
    void *some[64];
    size_t n = weir__frames_alloc(&frames, dice % 64 + 1, some);
    for (size_t i = 0; i < n; i++)
        mark((struct held){some[i], 1}, 0, 2);
    for (size_t i = 0; i < n; i++)
        mark((struct held){some[i], 1}, 2, 0);
    weir__frames_free(&frames, n, some);
}

static void interrupt(void)
{
    static uint64_t number;
    uint64_t random = weir_fetch_add_relaxed(&number, UINT64_C(1)) + 1, dice = stress_random(&random);
    struct held it;
    if (take(&it, size_by(dice >> 8), dice)) {
        if (dice & 1)
            pass(it, dice >> 1);
        else
            give(it);
    }
    if ((dice >> 40) % 16 == 0)
        weir__extents_decay(extents, (unsigned)(dice >> 32) % 101);
}

static void tend(uint64_t dice)
{
    struct weir_page_cache_stats stats;
    switch (dice % 16) {
    case 0:
        weir__extents_decay(extents, 100);
        break;
    case 1:
        weir__frames_release(&frames, (unsigned)(dice >> 8) % 101);
        break;
    case 2:
        fixture_change_cpu(cpus, nr_cpus, dice >> 8);
        break;
    case 3:
    case 4:
        weir__extents_decay(extents, 25);
        break;
    case 5:
        weir__extents_stats(extents, &stats);
        if (stats.extent_pages > frames.frames)
            stress_fail("%zu pages of %zu are said to be in extents", stats.extent_pages, frames.frames);
        break;
    default:
        use_frames(dice >> 8);
    }
}

static void *work(void *argument)
{
    uint64_t random = stress_seed((unsigned)(uintptr_t)argument);
    struct held held[MOST_HELD];
    size_t n = 0;
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        if ((dice & 31) == 0)
            tend(dice >> 8);
        else if ((dice & 31) == 1)
            while (n > 0)
                give(held[--n]);
        else if ((dice & 32) != 0 && n < MOST_HELD)
            n += take(&held[n], size_by(dice >> 8), dice);
        else if (n > 0 && (dice & 64) != 0)
            pass(held[--n], dice >> 8);
        else if (n > 0)
            give(held[--n]);
    }
    while (n > 0)
        give(held[--n]);
    return NULL;
}

static void is_out(void *arg, void *extent, size_t n)
{
    (void)arg;
    stress_fail("nobody has the %zu pages at %p, and they are out", n, extent);
}

static void check_end(void)
{
    static void *all[MOST_AREAS * WEIR_FRAMES_PER_AREA + 1];
    struct weir_page_cache_stats stats;
    for (unsigned i = 0; i < SLOTS; i++)
        pass((struct held){NULL, 0}, i);
    weir__extents_each_out(extents, is_out, NULL);
    weir__extents_stats(extents, &stats);
    if (stats.extents != 0 || stats.extent_pages != 0)
        stress_fail("%zu extents of %zu pages are said to be out", stats.extents, stats.extent_pages);
    size_t own = weir__extents_frames(extents);
    if (weir__frames_out(&frames) != stats.extent_pool_pages + own)
        stress_fail("%zu frames are out: %zu idle, %zu for descriptors", weir__frames_out(&frames),
                    stats.extent_pool_pages, own);
    if (weir__extents_decay(extents, 100) != stats.extent_pool_pages)
        stress_fail("a drain did not give what was idle");
    size_t n = weir__frames_alloc(&frames, frames.frames + 1, all);
    if (n != frames.frames - own)
        stress_fail("%zu of %zu frames are left, and %zu hold descriptors", n, frames.frames, own);
    weir__frames_free(&frames, n, all);
    weir__extents_destroy(extents);
    if (weir__frames_out(&frames) != 0)
        stress_fail("in the end %zu frames are said to be out", weir__frames_out(&frames));
}

static void round_with(size_t areas)
{
    const struct weir__frames_config config = {.bytes = areas * WEIR_FRAMES_PER_AREA * PAGE,
                                               .frame_bytes = PAGE};
    if (weir__frames_init(&frames, &config) || weir__extents_create(&extents, &frames, "stress"))
        stress_fail("out of memory");
    stress_run(work, stress.milliseconds / 2, interrupt);
    check_end();
    weir__frames_destroy(&frames);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    if (weir_percpu_init())
        stress_fail("weir_percpu_init");
    nr_cpus = fixture_cpus(cpus, MOST_CPUS);
    round_with(2);
    round_with(MOST_AREAS);
    return 0;
}
