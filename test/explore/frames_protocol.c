/* SPDX-License-Identifier: MIT */
/*
 * frames_protocol.c - the frames under the page cache, explored: one area of two words, in which all but a
 * few frames are out, so that a run spans both. Runs that are claimed and given up beside single frames,
 * the last frames that not everybody may have, and memory that goes back to the system beside who
 * allocates and frees.
 *
 * What happens to memory is played here: who has a frame writes to it, and madvise() does. Whoever gets a
 * frame must see what was written last, and memory must not be taken from a frame that somebody has.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "explore.h"

enum { AREA = 128, NOBODY = 100, OTHERS };

static int play_madvise(void *memory, size_t bytes, int advice);

#define WEIR_FRAMES_PER_AREA 128
#define madvise play_madvise
#undef _GNU_SOURCE
#include "../../src/frames.c"

static struct weir__frames frames;
static struct weir__area areas[2]; /* the explorer reads 8 bytes of any word, so one stands behind */
static struct weir__area *const area = &areas[0];
static struct weir__frames_cpu cpu;
static uint64_t bits[2], memory[AREA];
static unsigned owner[AREA]; /* a thread */
static bool has_memory[AREA];
static size_t got[EXPLORE_THREADS]; /* frames, by thread */

unsigned weir_percpu_cpu(void)
{
    return 0;
}

unsigned weir_percpu_nr_cpus(void)
{
    return 1;
}

/* --- what is played --- */

static void own(void *frame)
{
    size_t i = (size_t)((uint64_t *)frame - memory);
    if (owner[i] != NOBODY)
        explore_fail("frame %zu has two owners", i);
    owner[i] = explore_self();
    explore_read_owned(&memory[i]);
    explore_write_owned(&memory[i], explore_self() + 1);
    has_memory[i] = true;
    got[explore_self()]++;
}

static void disown(size_t i)
{
    if (owner[i] != explore_self())
        explore_fail("frame %zu has another owner", i);
    explore_read_owned(&memory[i]);
    explore_write_owned(&memory[i], OTHERS);
    owner[i] = NOBODY;
    got[explore_self()]--;
}

static int play_madvise(void *first, size_t bytes, int advice)
{
    size_t from = (size_t)((uint64_t *)first - memory), n = bytes / sizeof memory[0];
    (void)advice;
    for (size_t i = from; i < from + n; i++) {
        if (owner[i] != NOBODY)
            explore_fail("the memory of frame %zu goes while somebody has it", i);
        if (has_memory[i]) {
            explore_read_owned(&memory[i]);
            explore_write_owned(&memory[i], 0);
        }
        has_memory[i] = false;
    }
    return 0;
}

/* --- the state at the beginning, and at the end --- */

/* Frames `first` up to `first` + n are the thread's, or nobody's. */
static void set_owner(size_t first, size_t n, unsigned thread)
{
    for (size_t i = first; i < first + n; i++) {
        uint64_t bit = UINT64_C(1) << i % 64;
        bool was = (bits[i / 64] & bit) != 0, is = thread != NOBODY;
        bits[i / 64] = is ? bits[i / 64] | bit : bits[i / 64] & ~bit;
        area->out = area->out - was + is;
        owner[i] = thread;
        if (thread < EXPLORE_THREADS)
            got[thread]++;
    }
    frames.out = area->out;
}

static void start(void *arg)
{
    (void)arg;
    memset(areas, 0, sizeof areas);
    memset(&cpu, 0, sizeof cpu);
    memset(bits, 0, sizeof bits);
    memset(memory, 0, sizeof memory);
    memset(got, 0, sizeof got);
    frames = (struct weir__frames){.base = (char *)memory,
                                   .frame_bytes = sizeof memory[0],
                                   .frame_shift = 3,
                                   .frames = AREA,
                                   .areas = 1,
                                   .limit = AREA,
                                   .spacing = 1,
                                   .area = areas,
                                   .bits = bits,
                                   .cpus = &cpu};
    for (size_t i = 0; i < AREA; i++)
        has_memory[i] = true;
    area->memory = WEIR__AREA_USED;
    set_owner(0, AREA, OTHERS);
    set_owner(62, 4, NOBODY);
}

static void finish(void *arg)
{
    size_t out = 0;
    (void)arg;
    for (size_t i = 0; i < AREA; i++) {
        bool is = owner[i] != NOBODY;
        out += is;
        if ((bits[i / 64] >> i % 64 & 1) != is)
            explore_fail("frame %zu is %s, but its bit says otherwise", i, is ? "out" : "free");
        if (!is && has_memory[i] && area->memory == WEIR__AREA_EMPTY)
            explore_fail("the memory of frame %zu is forgotten", i);
    }
    if (area->out != out || frames.out != out)
        explore_fail("%zu frames are out; counted are %u in the area, %zu in all", out, area->out,
                     frames.out);
}

/* --- what the threads do --- */

static size_t alloc_some(size_t n, bool reserved)
{
    void *some[4];
    size_t here =
        reserved ? weir__frames_alloc_reserved(&frames, n, some) : weir__frames_alloc(&frames, n, some);
    for (size_t i = 0; i < here; i++)
        own(some[i]);
    return here;
}

static bool alloc_run(size_t n)
{
    uint64_t *run = weir__frames_alloc_run(&frames, n);
    for (size_t i = 0; run != NULL && i < n; i++)
        own(run + i);
    return run != NULL;
}

static void free_one(size_t i)
{
    void *frame = &memory[i];
    disown(i);
    weir__frames_free(&frames, 1, &frame);
}

static void free_run(size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++)
        disown(i);
    weir__frames_free_run(&frames, &memory[first], n);
}

/* Four are free: a run of three across the words, and one. */
static void run_beside_one(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0)
        alloc_run(3);
    else if (alloc_some(1, false) != 1)
        explore_fail("there was one for each");
}

/* The same, but two more are free, and a thread has two of them, and frees them: a run may have one whose
 * bit is clear already and whose promise has not been given back. */
static void start_two_back(void *arg)
{
    start(arg);
    set_owner(60, 2, NOBODY);
    set_owner(64, 2, 2);
}

static void run_beside_free(void *arg, unsigned thread)
{
    if (thread == 2)
        free_run(64, 2);
    else if (thread == 0)
        alloc_run(3);
    else
        run_beside_one(arg, thread);
}

/* Three, and four are wanted: all three go. */
static void start_three(void *arg)
{
    start(arg);
    set_owner(65, 1, OTHERS);
}

static void two_want_two(void *arg, unsigned thread)
{
    (void)arg;
    (void)thread;
    alloc_some(2, false);
}

static void finish_three(void *arg)
{
    finish(arg);
    if (frames.out != AREA)
        explore_fail("there were three, and %zu are left", AREA - frames.out);
}

/* The last of them are kept. */
static void start_min(void *arg)
{
    start(arg);
    frames.limit = AREA - 2;
}

static void take_all_but_min(void *arg, unsigned thread)
{
    (void)arg;
    if (thread < 2)
        alloc_some(3, false);
    else if (alloc_some(1, true) != 1)
        explore_fail("the reserve was empty");
}

static void finish_min(void *arg)
{
    finish(arg);
    if (got[0] + got[1] < 1 || got[0] + got[1] > 2)
        explore_fail("two were for all, or one if the reserve was first: %zu were taken", got[0] + got[1]);
}

/* One of five is a thread's. */
static void start_five(void *arg)
{
    start(arg);
    set_owner(64, 1, 1);
}

/* 100: it does not matter how long ago the area was used, so it comes as close to others as can be. */
static void release_beside_free(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0)
        weir__frames_release(&frames, 100);
    else if (thread == 1)
        free_one(64);
    else
        alloc_some(1, false);
}

/* No two are neighbours. */
static void start_no_row(void *arg)
{
    start(arg);
    set_owner(61, 1, NOBODY);
    set_owner(62, 1, OTHERS);
    set_owner(64, 1, OTHERS);
}

static void release_beside_run(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0)
        weir__frames_release(&frames, 100);
    else if (alloc_run(2))
        explore_fail("that is no row");
}

static void start_one(void *arg)
{
    start_three(arg);
    set_owner(62, 2, OTHERS);
}

static void release_beside_pair(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0)
        weir__frames_release(&frames, 100);
    else if (alloc_some(1, false) == 1)
        free_one(64);
}

/* Nothing is out but what a thread frees; two have memory. */
static void start_nearly_idle(void *arg)
{
    start(arg);
    set_owner(0, AREA, NOBODY);
    set_owner(64, 1, 1);
    for (size_t i = 0; i < AREA; i++)
        has_memory[i] = i == 0 || i == 64;
}

static const struct {
    const char *name;
    unsigned threads, preemptions;
    void (*start)(void *arg);
    void (*run)(void *arg, unsigned thread);
    void (*finish)(void *arg);
} programs[] = {
    {"a run across two words, and one frame", 2, 4, start, run_beside_one, finish},
    {"a run, one frame, and two come back", 3, 2, start_two_back, run_beside_free, finish},
    {"two want two, there are three", 2, 6, start_three, two_want_two, finish_three},
    {"two take what there is but the reserve", 3, 3, start_min, take_all_but_min, finish_min},
    {"memory goes, one frame comes back, one goes out", 3, 2, start_five, release_beside_free, finish},
    {"memory goes, and one frame comes back", 2, 4, start_five, release_beside_free, finish},
    {"memory goes, and a run is given up", 2, 2, start_no_row, release_beside_run, finish},
    {"memory goes, and the only frame goes out and comes back", 2, 4, start_one, release_beside_pair, finish},
    {"memory of a whole area goes, the last frame comes back", 2, 4, start_nearly_idle, release_beside_free,
     finish},
};

int main(void)
{
    static struct explore_result result;
    bool ok = true;
    for (unsigned i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        const struct explore_program program = {.threads = programs[i].threads,
                                                .start = programs[i].start,
                                                .run = programs[i].run,
                                                .finish = programs[i].finish,
                                                .weak = true};
        explore_all(&program, programs[i].preemptions, 1, &result);
        ok = ok && !result.failed;
        printf("%-56s %8llu schedules, %s%s%s\n", programs[i].name, (unsigned long long)result.schedules,
               result.failed ? result.message : "all well", result.failed ? ": " : "",
               result.failed ? result.schedule : "");
        fflush(stdout);
    }
    return !ok;
}
