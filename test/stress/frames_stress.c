/* SPDX-License-Identifier: MIT */
/*
 * The frames under the page cache, without the engine in front of them: threads, and a signal handler that
 * interrupts them, allocate and free single frames and runs, and give memory of free frames back to the
 * system, first in a range that is often exhausted, then in one that is often empty. Whoever has a frame finds
 * in it what he wrote; every frame is counted.
 */
#include "stress.h"

#define FIXTURE_FAIL stress_fail
#include "fixtures.h"
#include "frames.h"

enum { PAGE = 4096, MOST_AREAS = 3, MOST_HELD = 300, MOST_RUNS = 6, MIN = 16 };

static struct weir__frames frames;
static unsigned owned[MOST_AREAS * WEIR_FRAMES_PER_AREA];
static size_t at_once; /* frames that one operation takes, at most */

static size_t number_of(const void *frame)
{
    size_t offset = (size_t)((const char *)frame - frames.base);
    if (offset % PAGE != 0 || offset / PAGE >= frames.frames)
        stress_fail("%p is no frame", frame);
    return offset / PAGE;
}

static void own(void *frame, uint64_t pattern)
{
    uint64_t *words = frame;
    if (weir_xchg_relaxed(&owned[number_of(frame)], 1u) != 0)
        stress_fail("a frame was handed out twice");
    words[0] = pattern;
    words[PAGE / sizeof *words - 1] = ~pattern;
}

static void disown(const void *frame)
{
    const uint64_t *words = frame;
    if (words[0] != ~words[PAGE / sizeof *words - 1])
        stress_fail("a frame lost what was written to it");
    if (weir_xchg_relaxed(&owned[number_of(frame)], 0u) != 1)
        stress_fail("a frame had two owners");
}

static size_t take(size_t n, void *into[], uint64_t pattern)
{
    bool reserved = (pattern & 3) == 0;
    size_t got =
        reserved ? weir__frames_alloc_reserved(&frames, n, into) : weir__frames_alloc(&frames, n, into);
    if (got > n)
        stress_fail("%zu frames were wanted, %zu came", n, got);
    for (size_t i = 0; i < got; i++)
        own(into[i], pattern);
    return got;
}

static void give(size_t n, void *const from[])
{
    for (size_t i = 0; i < n; i++)
        disown(from[i]);
    weir__frames_free(&frames, n, from);
}

struct run {
    char *first; /* NULL: none */
    size_t n;
};

static struct run take_run(size_t n, uint64_t pattern)
{
    struct run run = {weir__frames_alloc_run(&frames, n), n};
    for (size_t i = 0; run.first != NULL && i < n; i++)
        own(run.first + i * PAGE, pattern + i);
    if (run.first != NULL && (n & (n - 1)) == 0 && number_of(run.first) % n != 0)
        stress_fail("a run of %zu frames is not aligned", n);
    return run;
}

/* At once, or in two parts. */
static void give_run(struct run *run, size_t part)
{
    if (run->first == NULL)
        return;
    for (size_t i = 0; i < run->n; i++)
        disown(run->first + i * PAGE);
    if (part != 0 && part < run->n) {
        weir__frames_free_run(&frames, run->first + part * PAGE, run->n - part);
        run->n = part;
    }
    weir__frames_free_run(&frames, run->first, run->n);
    run->first = NULL;
}

static void interrupt(void)
{
    static uint64_t number;
    uint64_t dice = weir_fetch_add_relaxed(&number, UINT64_C(1));
    void *some[64];
    size_t n = take(dice % at_once % 64 + 1, some, dice);
    struct run run = take_run(dice % 70 + 1, dice);
    give(n / 2, some + n - n / 2);
    give_run(&run, 0);
    give(n - n / 2, some);
}

static void change_run(struct run *run, uint64_t dice)
{
    static const size_t sizes[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
    size_t n = dice & 1 ? sizes[(dice >> 1) % 10] : (dice >> 1) % 200 + 1;
    give_run(run, (dice >> 16) % (2 * n));
    if ((dice >> 32 & 3) != 0)
        *run = take_run(n, dice);
}

static void *work(void *argument)
{
    uint64_t random = stress_seed((unsigned)(uintptr_t)argument);
    void *held[MOST_HELD];
    struct run runs[MOST_RUNS] = {{NULL, 0}};
    size_t n = 0;
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        size_t want = (dice >> 8) % at_once + 1;
        if ((dice & 7) == 0) {
            give(n, held);
            n = 0;
        } else if (dice & 1) {
            want = want < MOST_HELD - n ? want : MOST_HELD - n;
            n += take(want, held + n, dice);
        } else {
            want = want < n ? want : n;
            n -= want;
            give(want, held + n);
        }
        if ((dice >> 30 & 3) == 0)
            change_run(&runs[(dice >> 32) % MOST_RUNS], stress_random(&random));
        if ((dice >> 36 & 15) == 0 && weir__frames_release(&frames, (unsigned)(dice >> 40) % 101) % PAGE != 0)
            stress_fail("part of a frame was given back");
        if (weir__frames_releasable(&frames) > frames.frames * PAGE)
            stress_fail("more can be given back than there is");
    }
    for (unsigned i = 0; i < MOST_RUNS; i++)
        give_run(&runs[i], 0);
    give(n, held);
    return NULL;
}

static void round_with(size_t areas, size_t most)
{
    static void *all[MOST_AREAS * WEIR_FRAMES_PER_AREA];
    at_once = most;
    const struct weir__frames_config config = {
        .bytes = areas * WEIR_FRAMES_PER_AREA * PAGE, .frame_bytes = PAGE, .min = MIN};
    if (weir__frames_init(&frames, &config))
        stress_fail("out of memory");
    stress_run(work, stress.milliseconds / 2, interrupt);
    if (weir__frames_out(&frames) != 0)
        stress_fail("at rest %zu frames are said to be out", weir__frames_out(&frames));
    if (frames.out_peak > frames.frames)
        stress_fail("of %zu frames %zu are said to have been out", frames.frames, frames.out_peak);
    size_t n = take(frames.frames, all, 1);
    if (n != frames.frames - MIN)
        stress_fail("%zu of %zu frames are left", n, frames.frames - MIN);
    n += take(frames.frames, all + n, 4);
    if (n != frames.frames)
        stress_fail("%zu of %zu frames are left with the reserve", n, frames.frames);
    give(n, all);
    weir__frames_destroy(&frames);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    if (weir_percpu_init())
        stress_fail("weir_percpu_init");
    round_with(1, 200);
    round_with(MOST_AREAS, 3);
    return 0;
}
