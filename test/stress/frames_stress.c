/* SPDX-License-Identifier: MIT */
/*
 * The frames under the page cache, without the engine in front of them: threads, and a signal handler that
 * interrupts them, allocate and free, and give empty areas back to the system, first in a range that is
 * often exhausted, then in one that is often empty. Whoever has a frame finds in it what he wrote; every
 * frame is counted.
 */
#include "stress.h"

#define FIXTURE_FAIL stress_fail
#include "fixtures.h"
#include "frames.h"

enum { PAGE = 4096, MOST_AREAS = 3, MOST_HELD = 300 };

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

static size_t take(size_t n, void *into[], uint64_t pattern)
{
    size_t got = weir__frames_alloc(&frames, n, into);
    if (got > n)
        stress_fail("%zu frames were wanted, %zu came", n, got);
    for (size_t i = 0; i < got; i++) {
        uint64_t *words = into[i];
        if (weir_xchg_relaxed(&owned[number_of(into[i])], 1u) != 0)
            stress_fail("a frame was handed out twice");
        words[0] = pattern;
        words[PAGE / sizeof *words - 1] = ~pattern;
    }
    return got;
}

static void give(size_t n, void *const from[])
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t *words = from[i];
        if (words[0] != ~words[PAGE / sizeof *words - 1])
            stress_fail("a frame lost what was written to it");
        if (weir_xchg_relaxed(&owned[number_of(from[i])], 0u) != 1)
            stress_fail("a frame had two owners");
    }
    weir__frames_free(&frames, n, from);
}

static void interrupt(void)
{
    static uint64_t number;
    uint64_t dice = weir_fetch_add_relaxed(&number, UINT64_C(1));
    void *some[64];
    size_t n = take(dice % at_once % 64 + 1, some, dice);
    give(n / 2, some + n - n / 2);
    give(n - n / 2, some);
}

static void *work(void *argument)
{
    uint64_t random = stress_seed((unsigned)(uintptr_t)argument);
    void *held[MOST_HELD];
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
        if ((dice >> 32 & 15) == 0 &&
            weir__frames_release(&frames, dice >> 40 & 127) % (512 * (size_t)PAGE) != 0)
            stress_fail("part of an area was given back");
    }
    give(n, held);
    return NULL;
}

static void round_with(size_t areas, size_t most)
{
    static void *all[MOST_AREAS * WEIR_FRAMES_PER_AREA];
    at_once = most;
    const struct weir__frames_config config = {.bytes = areas * WEIR_FRAMES_PER_AREA * PAGE,
                                               .frame_bytes = PAGE};
    if (weir__frames_init(&frames, &config))
        stress_fail("out of memory");
    stress_run(work, stress.milliseconds / 2, interrupt);
    if (frames.out != 0)
        stress_fail("at rest %zu frames are said to be out", frames.out);
    if (frames.out_peak > frames.frames)
        stress_fail("of %zu frames %zu are said to have been out", frames.frames, frames.out_peak);
    size_t n = take(frames.frames, all, 1);
    if (n != frames.frames)
        stress_fail("%zu of %zu frames are left", n, frames.frames);
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
