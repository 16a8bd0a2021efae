/* SPDX-License-Identifier: MIT */
/* The frames under the page cache: each handed out once, memory given back, misuse named. */
#include "frames.h"
#include "fixtures.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "weir_test.h"

enum { AREA = WEIR_FRAMES_PER_AREA, MOST = 8 * AREA };

static struct weir__frames frames;
static void *got[MOST + 100];
static bool out[MOST];

static int init(size_t bytes, size_t frame_bytes)
{
    const struct weir__frames_config config = {.bytes = bytes, .frame_bytes = frame_bytes};
    return weir__frames_init(&frames, &config);
}

static void start(size_t areas, size_t frame_bytes)
{
    fixture_stay(NULL);
    cr_assert_eq(weir_percpu_init(), 0);
    cr_assert_eq(init(areas * AREA * frame_bytes, frame_bytes), 0);
    cr_assert_eq(frames.frames, areas * AREA);
    cr_assert_leq(frames.frames, (size_t)MOST);
    memset(out, 0, sizeof out);
}

static size_t number_of(const void *frame)
{
    size_t offset = (size_t)((const char *)frame - frames.base);
    cr_assert_eq(offset % frames.frame_bytes, 0u, "%p is not aligned", frame);
    cr_assert_eq((uintptr_t)frame % frames.frame_bytes, 0u);
    cr_assert_lt(offset / frames.frame_bytes, frames.frames);
    return offset / frames.frame_bytes;
}

static size_t take(size_t n, void *into[])
{
    size_t taken = weir__frames_alloc(&frames, n, into);
    cr_assert_leq(taken, n);
    for (size_t i = 0; i < taken; i++) {
        cr_assert_not(out[number_of(into[i])], "frame %zu was handed out twice", number_of(into[i]));
        out[number_of(into[i])] = true;
    }
    return taken;
}

static void give(size_t n, void *const from[])
{
    for (size_t i = 0; i < n; i++) {
        cr_assert(out[number_of(from[i])]);
        out[number_of(from[i])] = false;
    }
    weir__frames_free(&frames, n, from);
}

/* Every frame can be had, and then none. */
static void check_all_free(void)
{
    cr_assert_eq(frames.out, 0u);
    cr_assert_eq(take(frames.frames + 100, got), frames.frames);
    cr_assert_eq(take(1, got + MOST), 0u);
    give(frames.frames, got);
}

static void shuffle(void *array[], size_t n, uint64_t *random)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = fixture_random(random) % i;
        void *swap = array[i - 1];
        array[i - 1] = array[j];
        array[j] = swap;
    }
}

Test(frames, each_is_handed_out_once_and_then_none)
{
    start(3, 4096);
    for (size_t i = 0; i < 3 * AREA; i++)
        cr_assert_eq(take(1, got + i), 1u, "after %zu", i);
    cr_assert_eq(frames.out, 3u * AREA);
    cr_assert_eq(take(1, got + MOST), 0u);
    give(1, got + 77);
    cr_assert_eq(take(5, got + 77), 1u);
    give(3 * AREA, got);
    check_all_free();
    cr_assert_eq(frames.out_peak, 3u * AREA);
    weir__frames_destroy(&frames);
}

Test(frames, bulk_spans_areas_and_gives_what_there_is)
{
    start(4, 4096);
    cr_assert_eq(take(AREA + 100, got), AREA + 100u);
    cr_assert_eq(take(2 * AREA, got + AREA + 100), 2u * AREA);
    cr_assert_eq(take(AREA, got + 3 * AREA + 100), AREA - 100u);
    give(4 * AREA, got);
    cr_assert_eq(take(0, got), 0u);
    check_all_free();
    weir__frames_destroy(&frames);
}

Test(frames, random_order_and_sizes_lose_nothing)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t random = seed;
        size_t have = 0;
        start(1 + seed % 5, 4096);
        for (unsigned step = 0; step < 300; step++) {
            size_t n = fixture_random(&random) % 300;
            if (fixture_random(&random) & 1) {
                size_t left = frames.frames - have, taken = take(n, got + have);
                cr_assert_eq(taken, n < left ? n : left, "seed %llu, step %u", (unsigned long long)seed,
                             step);
                have += taken;
            } else {
                n = n < have ? n : have;
                if (fixture_random(&random) & 1)
                    shuffle(got, have, &random);
                have -= n;
                give(n, got + have);
            }
            cr_assert_eq(frames.out, have);
            if (step % 50 == 0)
                weir__frames_release(&frames, (unsigned)(fixture_random(&random) % 101));
        }
        give(have, got);
        check_all_free();
        weir__frames_destroy(&frames);
    }
}

Test(frames, capacity_is_rounded_up_to_whole_areas)
{
    static const size_t bytes[] = {
        1, 4096, AREA * 4096 - 1, AREA * 4096, AREA * 4096 + 1, 5 * AREA * 4096 - 7};
    fixture_stay(NULL);
    cr_assert_eq(weir_percpu_init(), 0);
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        cr_assert_eq(init(bytes[i], 4096), 0);
        cr_assert_geq(frames.frames * 4096, bytes[i]);
        cr_assert_lt(frames.frames * 4096, bytes[i] + AREA * 4096);
        check_all_free();
        weir__frames_destroy(&frames);
    }
}

Test(frames, pages_of_every_size_are_aligned_and_apart)
{
    for (size_t page = 4096; page <= 65536; page *= 2) {
        start(2, page);
        cr_assert_eq(take(2 * AREA, got), 2u * AREA);
        for (size_t i = 0; i < 2 * AREA; i++)
            memcpy((char *)got[i] + page - sizeof i, &i, sizeof i); /* to the last byte */
        for (size_t i = 0; i < 2 * AREA; i++)
            cr_assert_eq(memcmp((char *)got[i] + page - sizeof i, &i, sizeof i), 0);
        give(2 * AREA, got);
        weir__frames_destroy(&frames);
    }
}

Test(frames, range_that_cannot_be_had_is_an_error)
{
    cr_assert_eq(weir_percpu_init(), 0);
    cr_assert_eq(init((size_t)1 << 60, 4096), -ENOMEM);
}

/* Sanitizers turn a fault into a report of their own. */
#if defined(__SANITIZE_ADDRESS__) || WEIR_TSAN
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifndef SANITIZED

static void write_at(ptrdiff_t offset)
{
    start(2, 4096);
    *(volatile char *)(frames.base + offset) = 1;
}

Test(frames, write_before_the_range_faults, .signal = SIGSEGV)
{
    write_at(-1);
}

Test(frames, write_behind_the_range_faults, .signal = SIGSEGV)
{
    write_at(2 * AREA * 4096);
}

#endif

/* --- giving memory back --- */

static bool is_zero(const char *frame)
{
    for (size_t i = 0; i < frames.frame_bytes; i++)
        if (frame[i])
            return false;
    return true;
}

static bool is_resident(const void *frame)
{
    unsigned char in[1];
    cr_assert_eq(mincore((void *)(uintptr_t)frame, 1, in), 0);
    return in[0] & 1;
}

Test(frames, release_empties_areas_with_nothing_out_and_no_others)
{
    char *first_of_area[4] = {NULL};
    start(4, 4096);
    cr_assert_eq(take(4 * AREA, got), 4u * AREA);
    for (size_t i = 0; i < 4 * AREA; i++)
        memset(got[i], 0xa5, 4096);
    cr_assert_eq(weir__frames_release(&frames, 100), 0u);
    /* One frame stays out in areas 1 and 3. */
    for (size_t i = 0, n = 0; i < 4 * AREA; i++, n = 0) {
        char *frame = got[i];
        size_t number = number_of(frame);
        if (number % AREA == 17)
            first_of_area[number / AREA] = frame;
        if (number % AREA != 17 || number / AREA % 2 == 0)
            give(++n, &got[i]);
    }
    cr_assert_eq(frames.out, 2u);
    cr_assert_eq(weir__frames_release(&frames, 100), 2u * AREA * 4096);
    for (size_t i = 0; i < 4 * AREA; i++) {
        char *frame = frames.base + i * 4096;
        cr_assert_eq(is_resident(frame), i / AREA % 2 == 1, "frame %zu", i);
    }
    cr_assert(is_zero(first_of_area[0]));
    cr_assert(is_zero(first_of_area[2]));
    for (unsigned i = 1; i < 4; i += 2)
        for (size_t byte = 0; byte < 4096; byte++)
            cr_assert_eq(first_of_area[i][byte], (char)0xa5);
    cr_assert_eq(weir__frames_release(&frames, 100), 0u, "they have no memory any more");
    give(1, (void **)&first_of_area[1]);
    give(1, (void **)&first_of_area[3]);
    cr_assert_eq(weir__frames_release(&frames, 100), 2u * AREA * 4096);
    check_all_free();
    weir__frames_destroy(&frames);
}

Test(frames, release_gives_back_the_percentage_rounded_up)
{
    static const struct {
        unsigned percent, areas;
    } cases[] = {{0, 0}, {1, 1}, {12, 1}, {13, 2}, {25, 2}, {50, 4}, {51, 5}, {100, 8}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start(8, 4096);
        cr_assert_eq(take(8 * AREA, got), 8u * AREA);
        give(8 * AREA, got);
        cr_assert_eq(weir__frames_release(&frames, cases[i].percent), (size_t)cases[i].areas * AREA * 4096);
        check_all_free();
        weir__frames_destroy(&frames);
    }
}

Test(frames, untouched_areas_are_not_given_back)
{
    start(8, 4096);
    cr_assert_eq(take(AREA, got), (size_t)AREA);
    give(AREA, got);
    cr_assert_eq(weir__frames_release(&frames, 100), AREA * (size_t)4096);
    weir__frames_destroy(&frames);
}

Test(frames, released_area_is_touched_again_when_it_is_used_again)
{
    start(1, 4096);
    for (unsigned round = 0; round < 3; round++) {
        cr_assert_eq(take(3, got), 3u);
        cr_assert(is_zero(got[0]));
        memset(got[0], 0x5a, 4096);
        give(3, got);
        cr_assert_eq(weir__frames_release(&frames, 100), AREA * (size_t)4096);
    }
    weir__frames_destroy(&frames);
}

static unsigned touched(void)
{
    unsigned n = 0;
    for (size_t i = 0; i < frames.areas; i++)
        n += frames.area[i].touched;
    return n;
}

Test(frames, churn_stays_in_areas_that_have_been_used)
{
    uint64_t random = 5;
    start(8, 4096);
    cr_assert_eq(take(AREA, got), (size_t)AREA);
    unsigned before = touched();
    for (unsigned round = 0; round < 500; round++) {
        size_t n = 1 + fixture_random(&random) % AREA;
        shuffle(got, AREA, &random);
        give(n, got);
        cr_assert_eq(take(n, got), n);
    }
    cr_assert_eq(touched(), before);
    give(AREA, got);
    weir__frames_destroy(&frames);
}

Test(frames, frames_freed_near_home_come_before_untouched_areas)
{
    void *near_home[AREA];
    size_t n = 0;
    start(8, 4096);
    size_t home = frames.cpus[weir_percpu_cpu()].home;
    cr_assert_eq(take(3 * AREA, got), 3u * AREA);
    for (size_t i = 0; i < 3 * AREA; i++)
        if (number_of(got[i]) / AREA == home)
            near_home[n++] = got[i];
    cr_assert_eq(n, (size_t)AREA);
    unsigned before = touched();
    cr_assert_eq(before, 3u);
    give(AREA, near_home);
    cr_assert_eq(take(AREA, near_home), (size_t)AREA);
    cr_assert_eq(touched(), before);
    give(3 * AREA, got); /* the same ones, whatever their order */
    weir__frames_destroy(&frames);
}

Test(frames, cpus_use_different_areas_while_there_are_enough)
{
    unsigned cpus[2], n = fixture_cpus(cpus, 2);
    size_t area[2] = {0, 0};
    start(8, 4096);
    for (unsigned i = 0; i < n; i++) {
        fixture_pin(cpus[i]);
        cr_assert_eq(take(1, got + i), 1u);
        area[i] = number_of(got[i]) / AREA;
    }
    if (n == 2 && weir_percpu_nr_cpus() <= 8)
        cr_assert_neq(area[0], area[1]);
    give(n, got);
    weir__frames_destroy(&frames);
}

/* --- misuse: the program stops, and the message names the page --- */

static struct rlimit no_core = {0, 0};

/* What the frames do in a child is printed there; it must stop, with `page` and `words` in its message. */
static void stops_naming(size_t n, void *const array[], const void *page, const char *words)
{
    char text[500] = "", name[40];
    int pipe_ends[2], status;
    cr_assert_eq(pipe(pipe_ends), 0);
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        dup2(pipe_ends[1], 2);
        weir__frames_free(&frames, n, array);
        _exit(0);
    }
    close(pipe_ends[1]);
    for (size_t have = 0; have < sizeof text - 1;) {
        ssize_t more = read(pipe_ends[0], text + have, sizeof text - 1 - have);
        if (more <= 0)
            break;
        have += (size_t)more;
    }
    close(pipe_ends[0]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %d, it said: %s", status, text);
    snprintf(name, sizeof name, "%p", page);
    cr_assert_not_null(strstr(text, name), "%s: it said: %s", name, text);
    cr_assert_not_null(strstr(text, words), "it said: %s", text);
}

Test(frames, double_free_stops_the_program_and_names_the_page)
{
    start(2, 4096);
    cr_assert_eq(take(100, got), 100u);
    void *twice[3] = {got[1], got[2], got[1]}, *freed = got[50];
    stops_naming(3, twice, got[1], "free already");
    give(1, &freed);
    stops_naming(1, &freed, freed, "free already");
    void *among[3] = {got[49], freed, got[51]};
    stops_naming(3, among, freed, "free already");
    void *never_out = frames.base + 2 * AREA * 4096 - 4096;
    stops_naming(1, &never_out, never_out, "free already");
    weir__frames_destroy(&frames);
}

Test(frames, foreign_pointers_stop_the_program_and_are_named)
{
    int on_stack;
    start(2, 4096);
    cr_assert_eq(take(2, got), 2u);
    void *foreign[] = {&on_stack, NULL, frames.base - 4096, frames.base + 2 * AREA * 4096};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        if (foreign[i])
            stops_naming(1, &foreign[i], foreign[i], "none of its pages");
        void *second[2] = {got[0], foreign[i]};
        if (foreign[i])
            stops_naming(2, second, foreign[i], "none of its pages");
    }
    weir__frames_destroy(&frames);
}

Test(frames, pointers_into_a_page_stop_the_program_and_are_named)
{
    start(2, 4096);
    cr_assert_eq(take(1, got), 1u);
    for (size_t offset = 1; offset < 4096; offset *= 2) {
        void *inside = (char *)got[0] + offset;
        stops_naming(1, &inside, inside, "middle of a page");
    }
    weir__frames_destroy(&frames);
}
