/* SPDX-License-Identifier: MIT */
/*
 * Extents: every size, from the pool of the node that allocated it and back to it, given back by decay, had
 * again when the frames are exhausted; misuse named.
 *
 * Most tests pretend to be on a CPU, of a machine that has 300.
 */
#include "extents.h"
#include "fixtures.h"
#include "percpu.h"
#include "stopped.h"

#include <signal.h>
#include <sys/mman.h>

#include "weir_test.h"

enum { PAGE = 4096, AREA = WEIR_FRAMES_PER_AREA, MOST = WEIR_EXTENT_PAGES_MAX, CPUS = 300, NODES = 128 };
enum { PER_FRAME = PAGE / 16 - 1 }; /* descriptors, as extents.h says */

static struct weir__frames frames;
static struct weir__extents *extents;
static struct weir_page_cache_stats stats;
static int pretended;

/* Instead of the C library's: where weir does without restartable sequences it asks this one. */
int sched_getcpu(void)
{
    return pretended;
}

static void start_on(size_t areas)
{
    const struct weir__frames_config config = {.bytes = areas * AREA * PAGE, .frame_bytes = PAGE};
    cr_assert_eq(weir__frames_init(&frames, &config), 0);
    cr_assert_eq(weir__extents_create(&extents, &frames, "mine"), 0);
}

static void start(size_t areas)
{
    setenv("WEIR_PERCPU", "lock", 1);
    cr_assert_eq(weir_percpu_init(), 0);
    weir__percpu.nr_cpus = CPUS;
    pretended = 0;
    start_on(areas);
}

static const struct weir_page_cache_stats *look(void)
{
    weir__extents_stats(extents, &stats);
    return &stats;
}

/* Nothing is out: neither extents, nor, without the idle ones, frames, but those of the descriptors; and with
 * those gone none at all. */
static void finish(void)
{
    cr_assert_eq(look()->extents, 0u);
    cr_assert_eq(stats.extent_pages, 0u);
    cr_assert_eq(weir__extents_decay(extents, 100), stats.extent_pool_pages);
    cr_assert_eq(weir__extents_idle(extents), 0u);
    cr_assert_eq(weir__frames_out(&frames), weir__extents_frames(extents));
    weir__extents_destroy(extents);
    cr_assert_eq(weir__frames_out(&frames), 0u);
    weir__frames_destroy(&frames);
}

static void *must_have(size_t n)
{
    char *extent = weir__extents_alloc(extents, n);
    cr_assert_not_null(extent, "no %zu pages", n);
    cr_assert_geq(extent, frames.base);
    cr_assert_leq(extent + n * PAGE, frames.base + frames.frames * PAGE);
    cr_assert_eq((uintptr_t)extent % PAGE, 0u);
    if ((n & (n - 1)) == 0)
        cr_assert_eq((uintptr_t)extent % (n * PAGE), 0u, "%zu pages at %p", n, (void *)extent);
    return extent;
}

static void fill(void *extent, size_t n, uint64_t with)
{
    for (size_t i = 0; i < n * PAGE / sizeof with; i += 64)
        ((uint64_t *)extent)[i] = with + i;
}

static bool is_filled(const void *extent, size_t n, uint64_t with)
{
    for (size_t i = 0; i < n * PAGE / sizeof with; i += 64)
        if (((const uint64_t *)extent)[i] != with + i)
            return false;
    return true;
}

/* --- sizes --- */

Test(extents, every_size_is_served_aligned_and_apart_and_then_from_the_pool)
{
    static char *extent[MOST + 1];
    size_t sum = 0;
    start(100);
    for (unsigned round = 0; round < 3; round++) {
        for (size_t n = 1; n <= MOST; n++) {
            extent[n] = must_have(n);
            fill(extent[n], n, n << 32);
        }
        for (size_t n = 1; n <= MOST; n++)
            cr_assert(is_filled(extent[n], n, n << 32), "the extent of %zu pages is not its owner's only", n);
        sum = MOST * (MOST + 1) / 2;
        cr_assert_eq(look()->extents, (size_t)MOST);
        cr_assert_eq(stats.extent_pages, sum);
        cr_assert_eq(stats.extent_pool_pages, 0u);
        cr_assert_eq(stats.extent_misses, (uint64_t)MOST);
        cr_assert_eq(stats.extent_pool_hits, (uint64_t)MOST * round);
        for (size_t n = 1; n <= MOST; n++)
            weir__extents_free(extents, extent[n], n);
        cr_assert_eq(look()->extents, 0u);
        cr_assert_eq(stats.extent_pages, 0u);
        cr_assert_eq(stats.extent_pool_pages, sum);
        cr_assert_eq(weir__extents_idle(extents), sum);
    }
    cr_assert_eq(weir__frames_out(&frames), sum + weir__extents_frames(extents));
    cr_assert_eq(weir__extents_frames(extents), (size_t)(MOST + PER_FRAME - 1) / PER_FRAME);
    finish();
}

Test(extents, other_sizes_are_refused)
{
    start(2);
    cr_assert_null(weir__extents_alloc(extents, 0));
    cr_assert_null(weir__extents_alloc(extents, MOST + 1));
    cr_assert_null(weir__extents_alloc(extents, SIZE_MAX));
    cr_assert_eq(look()->extent_misses, 0u);
    finish();
}

Test(extents, pages_of_every_size)
{
    for (size_t page = PAGE; page <= 65536; page *= 2) {
        setenv("WEIR_PERCPU", "lock", 1);
        cr_assert_eq(weir_percpu_init(), 0);
        const struct weir__frames_config config = {.bytes = 2 * AREA * page, .frame_bytes = page};
        cr_assert_eq(weir__frames_init(&frames, &config), 0);
        cr_assert_eq(weir__extents_create(&extents, &frames, "mine"), 0);
        char *a = weir__extents_alloc(extents, 16), *b = weir__extents_alloc(extents, 16);
        cr_assert_eq((uintptr_t)a % (16 * page), 0u);
        cr_assert_eq((size_t)(a < b ? b - a : a - b) % (16 * page), 0u);
        weir__extents_free(extents, a, 16);
        cr_assert_eq(weir__extents_alloc(extents, 16), a);
        weir__extents_free(extents, a, 16);
        weir__extents_free(extents, b, 16);
        finish();
    }
}

Test(extents, random_sizes_and_cpus_lose_nothing)
{
    enum { HELD = 60 };
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct {
            void *extent;
            size_t n;
        } held[HELD] = {{NULL, 0}};
        uint64_t random = seed;
        start(8);
        for (unsigned step = 0; step < 3000; step++) {
            uint64_t dice = fixture_random(&random);
            size_t i = dice % HELD;
            pretended = (int)(dice >> 8 & 1 ? dice >> 9 & 3 : (dice >> 9) % CPUS);
            if (held[i].extent != NULL) {
                cr_assert(is_filled(held[i].extent, held[i].n, (uint64_t)i << 40), "seed %llu, step %u",
                          (unsigned long long)seed, step);
                weir__extents_free(extents, held[i].extent, held[i].n);
                held[i].extent = NULL;
            } else {
                held[i].n = (dice >> 20) % (dice >> 40 & 1 ? 8 : MOST) + 1;
                held[i].extent = weir__extents_alloc(extents, held[i].n);
                if (held[i].extent != NULL)
                    fill(held[i].extent, held[i].n, (uint64_t)i << 40);
            }
            if (step % 100 == 0)
                weir__extents_decay(extents, (unsigned)(dice >> 20) % 101);
            look();
            cr_assert_eq(weir__frames_out(&frames),
                         stats.extent_pages + stats.extent_pool_pages + weir__extents_frames(extents));
        }
        for (size_t i = 0; i < HELD; i++)
            if (held[i].extent != NULL)
                weir__extents_free(extents, held[i].extent, held[i].n);
        finish();
    }
}

/* --- nodes --- */

Test(extents, what_a_node_allocated_returns_to_it)
{
    start(4);
    for (int cpu = 0; cpu < CPUS; cpu += 1 + cpu % 40) {
        pretended = cpu;
        void *extent = must_have(5);
        pretended = cpu + 1; /* frees, and has none itself */
        weir__extents_free(extents, extent, 5);
        cr_assert_eq(look()->extent_pool_hits, 0u);
        void *other = must_have(5);
        cr_assert_neq(other, extent, "CPU %d has what CPU %d allocated", cpu + 1, cpu);
        cr_assert_eq(look()->extent_pool_hits, 0u);
        pretended = cpu < NODES ? cpu : cpu - NODES; /* of the same node */
        cr_assert_eq(must_have(5), extent);
        cr_assert_eq(look()->extent_pool_hits, 1u);
        weir__extents_free(extents, extent, 5);
        weir__extents_free(extents, other, 5);
        finish();
        start(4);
    }
    finish();
}

Test(extents, cpus_up_to_128_are_nodes_of_their_own)
{
    void *extent[NODES];
    start(4);
    for (pretended = 0; pretended < NODES; pretended++)
        extent[pretended] = must_have(3);
    for (unsigned i = 0; i < NODES; i++)
        weir__extents_free(extents, extent[i], 3);
    for (pretended = 0; pretended < NODES; pretended++)
        cr_assert_eq(must_have(3), extent[pretended]);
    for (unsigned i = 0; i < NODES; i++)
        weir__extents_free(extents, extent[i], 3);
    pretended = NODES + 5; /* shares one */
    cr_assert_eq(must_have(3), extent[5]);
    weir__extents_free(extents, extent[5], 3);
    finish();
}

/* The same on the CPUs that there are. */
Test(extents, what_a_real_cpu_allocated_returns_to_it)
{
    unsigned other, cpu = fixture_stay(&other);
    cr_assert_eq(weir_percpu_init(), 0);
    start_on(4);
    void *extent = must_have(7);
    fixture_pin(other);
    weir__extents_free(extents, extent, 7);
    void *another = must_have(7);
    if (other != cpu && !fixture_locked()) /* where it is locked, `pretended` counts */
        cr_assert_neq(another, extent);
    fixture_pin(cpu);
    if (other != cpu && !fixture_locked())
        cr_assert_eq(must_have(7), extent);
    else
        cr_assert_eq(another, extent);
    weir__extents_free(extents, extent, 7);
    if (another != extent)
        weir__extents_free(extents, another, 7);
    finish();
}

static size_t resident_pages(void)
{
    size_t all, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%zu %zu", &all, &resident), 2);
    fclose(file);
    return resident;
}

Test(extents, cost_next_to_nothing_until_they_are_used)
{
    start(2);
    finish();
    start(1);
    weir__extents_destroy(extents);
    resident_pages();
    size_t before = resident_pages();
    cr_assert_eq(weir__extents_create(&extents, &frames, "mine"), 0);
    look(); /* looks at all nodes: at 32 KiB, and not at 2 MiB */
    weir__extents_decay(extents, 25);
    size_t after = resident_pages();
    if (!WEIR_TSAN) /* which keeps books about all of it */
        cr_assert_leq(after, before + 32, "%zu pages", after - before);
    cr_assert_eq(weir__frames_out(&frames), 0u);
    finish();
}

/* --- giving back --- */

/* Leaves `count` idle extents of n pages in this CPU's pool. */
static void leave_idle(size_t count, size_t n)
{
    void *some[64];
    for (size_t i = 0; i < count; i++)
        some[i] = must_have(n);
    for (size_t i = 0; i < count; i++)
        weir__extents_free(extents, some[i], n);
}

Test(extents, decay_gives_a_share_of_each_pool_back_rounded_up)
{
    start(16);
    leave_idle(10, 3);
    leave_idle(1, 7);
    leave_idle(4, 256);
    pretended = 200;
    leave_idle(5, 64);
    size_t idle = 10 * 3 + 7 + 4 * 256 + 5 * 64;
    cr_assert_eq(weir__extents_idle(extents), idle);
    cr_assert_eq(weir__extents_decay(extents, 0), 0u);
    cr_assert_eq(weir__extents_decay(extents, 25), 3u * 3 + 7 + 256 + 2 * 64);
    idle -= 3 * 3 + 7 + 256 + 2 * 64;
    cr_assert_eq(weir__extents_idle(extents), idle);
    cr_assert_eq(weir__frames_out(&frames), idle + weir__extents_frames(extents));
    /* 7, 3, 3 left: */
    cr_assert_eq(weir__extents_decay(extents, 25), 2u * 3 + 256 + 64);
    for (unsigned pass = 0; pass < 8; pass++) /* by 8 more the largest is gone */
        weir__extents_decay(extents, 25);
    cr_assert_eq(weir__extents_idle(extents), 0u);
    cr_assert_eq(weir__extents_decay(extents, 25), 0u);
    finish();
}

Test(extents, drain_takes_all_of_every_node_and_leaves_the_descriptors)
{
    start(64);
    for (int cpu = 0; cpu < NODES; cpu += 9) {
        pretended = cpu;
        leave_idle(3, (size_t)cpu + 1);
        leave_idle(2, 250);
    }
    size_t idle = weir__extents_idle(extents), descriptors = weir__extents_frames(extents);
    cr_assert_eq(descriptors, 15u, "one frame per node");
    cr_assert_eq(weir__extents_decay(extents, 100), idle);
    cr_assert_eq(weir__frames_out(&frames), descriptors);
    for (size_t i = 0; i < 2 * PER_FRAME; i += 64) {
        leave_idle(64, 2);
        cr_assert_eq(weir__extents_decay(extents, 100), 128u);
    }
    cr_assert_eq(weir__extents_frames(extents), descriptors, "descriptors are used again");
    finish();
}

Test(extents, a_node_has_as_many_descriptors_as_it_needs)
{
    enum { MANY = 2 * PER_FRAME + 1 };
    static void *some[MANY];
    start(8);
    for (size_t i = 0; i < MANY; i++)
        some[i] = must_have(1);
    for (size_t i = 0; i < MANY; i++) {
        weir__extents_free(extents, some[i], 1);
        cr_assert_eq(weir__extents_frames(extents), i / PER_FRAME + 1);
    }
    cr_assert_eq(weir__extents_idle(extents), (size_t)MANY);
    finish();
}

static char *descriptors;
static volatile sig_atomic_t interrupted;
static size_t given_in_handler;

static void on_fault(int number)
{
    (void)number;
    mprotect(descriptors, PAGE, PROT_READ | PROT_WRITE);
    given_in_handler += weir__extents_decay(extents, 100);
    interrupted++;
}

/* The first one is stopped in the middle, when it looks at the descriptors. */
Test(extents, a_second_walker_gives_nothing_back)
{
    struct sigaction action = {.sa_handler = on_fault};
    void *frame;
    start(8);
    void *a = must_have(200), *b = must_have(100);
    cr_assert_eq(weir__frames_alloc(&frames, 1, &frame), 1u);
    weir__frames_free(&frames, 1, &frame);
    descriptors = frame; /* the next one, too */
    weir__extents_free(extents, a, 200);
    weir__extents_free(extents, b, 100);
    cr_assert_eq(weir__extents_frames(extents), 1u);
    cr_assert_eq(sigaction(SIGSEGV, &action, NULL), 0);
    cr_assert_eq(mprotect(descriptors, PAGE, PROT_NONE), 0);
    cr_assert_eq(weir__extents_decay(extents, 100), 300u);
    cr_assert_eq(interrupted, 1);
    cr_assert_eq(given_in_handler, 0u);
    leave_idle(1, 10);
    cr_assert_eq(weir__extents_decay(extents, 100), 10u, "it is over, and others may");
    finish();
}

/* --- exhaustion --- */

/* Takes all that there is, in extents of n pages. */
static size_t exhaust(void *into[], size_t n)
{
    size_t got = 0;
    while ((into[got] = weir__extents_alloc(extents, n)) != NULL)
        got++;
    return got;
}

Test(extents, when_all_is_out_there_is_none_and_what_is_idle_is_had_again)
{
    static void *some[4 * AREA];
    start(2);
    size_t n = exhaust(some, 256);
    cr_assert_eq(n, 2u * AREA / 256);
    cr_assert_null(weir__extents_alloc(extents, 1));
    cr_assert_eq(look()->extents, n);
    cr_assert_eq(stats.extent_misses, (uint64_t)n);
    /* The first one back has no descriptor, and goes to the frames; its frame serves the second's. */
    weir__extents_free(extents, some[0], 256);
    cr_assert_eq(weir__extents_idle(extents), 0u);
    weir__extents_free(extents, some[1], 256);
    cr_assert_eq(weir__extents_idle(extents), 256u);
    /* In the first one's frames are three of 64 left, wherever the descriptors lie; then the second is broken
     * up. */
    void *small[7];
    for (unsigned i = 0; i < 7; i++) {
        small[i] = must_have(64);
        cr_assert_eq(weir__extents_idle(extents), i < 3 ? 256u : 0u);
    }
    cr_assert_null(weir__extents_alloc(extents, 64));
    for (unsigned i = 0; i < 7; i++)
        weir__extents_free(extents, small[i], 64);
    cr_assert_eq(weir__extents_idle(extents), 7u * 64);
    /* And put together again. */
    void *whole = must_have(256);
    cr_assert_null(weir__extents_alloc(extents, 256));
    weir__extents_free(extents, whole, 256);
    for (size_t i = 2; i < n; i++)
        weir__extents_free(extents, some[i], 256);
    finish();
}

Test(extents, when_the_frames_have_none_that_of_another_node_is_taken)
{
    static void *some[4 * AREA];
    start(2);
    size_t n = exhaust(some, 32);
    weir__extents_free(extents, some[0], 32); /* to the frames, but for one */
    weir__extents_free(extents, some[1], 32);
    weir__extents_free(extents, some[2], 32);
    cr_assert_eq(weir__extents_idle(extents), 64u);
    pretended = 77;
    cr_assert_eq(must_have(32), some[2]);
    cr_assert_eq(look()->extent_pool_hits, 1u);
    cr_assert_eq(stats.extent_pool_pages, 32u, "the other one stays where it is");
    /* It is of node 77 from now on. */
    pretended = 0;
    weir__extents_free(extents, some[2], 32);
    pretended = 77;
    cr_assert_eq(must_have(32), some[2]);
    weir__extents_free(extents, some[2], 32);
    for (size_t i = 3; i < n; i++)
        weir__extents_free(extents, some[i], 32);
    finish();
}

Test(extents, without_a_frame_for_descriptors_extents_go_to_the_frames)
{
    static void *some[4 * AREA];
    static void *all[2 * AREA];
    start(1);
    size_t n = exhaust(some, 8);
    cr_assert_eq(n, (size_t)AREA / 8);
    for (size_t i = 0; i < n; i++) {
        weir__extents_free(extents, some[i], 8);
        cr_assert_eq(weir__extents_frames(extents), 0u);
        cr_assert_eq(weir__frames_out(&frames), (size_t)AREA - 8);
        cr_assert_eq(weir__frames_alloc(&frames, 9, all + 8 * i), 8u);
    }
    weir__frames_free(&frames, 8 * n, all);
    finish();
}

/* --- what is out --- */

static size_t found_sum, found_count;
static const char *found_last;

static void found(void *arg, void *extent, size_t n)
{
    cr_assert_eq(arg, &found_sum);
    cr_assert((const char *)extent > found_last);
    cr_assert(is_filled(extent, n, n));
    found_last = extent;
    found_sum += n;
    found_count++;
}

Test(extents, each_that_is_out_is_found)
{
    static void *some[MOST + 1];
    start(100);
    for (size_t n = 1; n <= MOST; n++) {
        pretended = (int)n;
        fill(some[n] = must_have(n), n, n);
    }
    for (size_t n = 1; n <= MOST; n += 3)
        weir__extents_free(extents, some[n], n);
    weir__extents_each_out(extents, found, &found_sum);
    cr_assert_eq(found_count, look()->extents);
    cr_assert_eq(found_sum, stats.extent_pages);
    for (size_t n = 1; n <= MOST; n++)
        if (n % 3 != 1)
            weir__extents_free(extents, some[n], n);
    finish();
}

/* --- misuse: the program stops, and one line says why --- */

static char *victim; /* of 16 pages */
static char *passed;
static size_t as;

static void free_it(void)
{
    weir__extents_free(extents, passed, as);
}

static void stops(void *extent, size_t n, const char *why)
{
    char line[256];
    passed = extent;
    as = n;
    int status = stopped(free_it);
    snprintf(line, sizeof line, "weir: page cache \"mine\": extent %p of %s\n", extent, why);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: status %#x, and it says: %s", line,
              (unsigned)status, stopped_said);
    cr_assert_str_eq(stopped_said, line, "it says: %s", stopped_said);
}

#define GIVEN "is given to weir_extent_free()"
#define NOT_OUT ", but it is not out: it is free already, or was not allocated as an extent"

Test(extents, wrong_size_is_named)
{
    start(2);
    victim = must_have(16);
    stops(victim, 15, "16 pages " GIVEN " as one of 15");
    stops(victim, 17, "16 pages " GIVEN " as one of 17");
    stops(victim, 16 + 256, "16 pages " GIVEN " as one of 272");
    stops(victim, 0, "16 pages " GIVEN " as one of 0");
    weir__extents_free(extents, victim, 16);
    victim = must_have(1);
    stops(victim, 2, "1 page " GIVEN " as one of 2");
    weir__extents_free(extents, victim, 1);
    finish();
}

Test(extents, what_is_not_out_is_named)
{
    void *page;
    start(2);
    victim = must_have(16);
    weir__extents_free(extents, victim, 16);
    stops(victim, 16, "16 pages " GIVEN NOT_OUT);
    weir__extents_decay(extents, 100);
    stops(victim, 16, "16 pages " GIVEN NOT_OUT);
    cr_assert_eq(weir__frames_alloc(&frames, 1, &page), 1u);
    stops(page, 1, "1 page " GIVEN NOT_OUT);
    weir__frames_free(&frames, 1, &page);
    stops(frames.base, 256, "256 pages " GIVEN NOT_OUT); /* the first: nothing lies before it */
    finish();
}

Test(extents, the_middle_of_one_is_named)
{
    char why[200];
    start(2);
    victim = must_have(256);
    snprintf(why, sizeof why, "16 pages " GIVEN ", but it is in the middle of the one of 256 pages at %p",
             (void *)victim);
    stops(victim + PAGE, 16, why);
    stops(victim + 255 * PAGE, 16, why);
    stops(victim + 8, 256, "256 pages " GIVEN ", but it points into the middle of a page");
    weir__extents_free(extents, victim, 256);
    finish();
}

Test(extents, what_is_not_of_the_range_is_named)
{
    static char here[2 * PAGE];
    start(2);
    stops(here, 2, "2 pages " GIVEN ", but it is none of its pages");
    stops(frames.base - PAGE, 1, "1 page " GIVEN ", but it is none of its pages");
    stops(frames.base + frames.frames * PAGE, 1, "1 page " GIVEN ", but it is none of its pages");
    finish();
}

/* What an extent was freed as is kept for each allocation anew. */
Test(extents, correct_use_of_the_same_memory_goes_on)
{
    start(1);
    for (size_t n = 1; n <= MOST; n++) {
        victim = must_have(n);
        weir__extents_free(extents, victim, n);
        weir__extents_decay(extents, 100);
    }
    finish();
}
