/* SPDX-License-Identifier: MIT */
/* The frames under the page cache: each handed out once, memory given back, misuse named. */
#include "frames.h"
#include "fixtures.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
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
    cr_assert_eq(weir__frames_out(&frames), 0u);
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
    cr_assert_eq(weir__frames_out(&frames), 3u * AREA);
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
            cr_assert_eq(weir__frames_out(&frames), have);
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

/* Fills four areas, and gives back all but one frame each of areas 1 and 3: *kept. */
static void leave_one_in_each_other(char *kept[4])
{
    start(4, 4096);
    cr_assert_eq(take(4 * AREA, got), 4u * AREA);
    for (size_t i = 0; i < 4 * AREA; i++)
        memset(got[i], 0xa5, 4096);
    cr_assert_eq(weir__frames_release(&frames, 100), 0u);
    for (size_t i = 0, n = 0; i < 4 * AREA; i++, n = 0) {
        char *frame = got[i];
        size_t number = number_of(frame);
        if (number % AREA == 17)
            kept[number / AREA] = frame;
        if (number % AREA != 17 || number / AREA % 2 == 0)
            give(++n, &got[i]);
    }
    cr_assert_eq(weir__frames_out(&frames), 2u);
}

static void check_kept(char *kept[4])
{
    for (unsigned i = 1; i < 4; i += 2)
        for (size_t byte = 0; byte < 4096; byte++)
            cr_assert_eq(kept[i][byte], (char)0xa5);
    give(1, (void **)&kept[1]);
    give(1, (void **)&kept[3]);
}

Test(frames, release_of_all_leaves_memory_to_frames_that_are_out_only)
{
    char *kept[4] = {NULL};
    leave_one_in_each_other(kept);
    cr_assert_eq(weir__frames_releasable(&frames), (4u * AREA - 2) * 4096);
    cr_assert_eq(weir__frames_release(&frames, 100), (4u * AREA - 2) * 4096);
    cr_assert_eq(weir__frames_releasable(&frames), 0u);
    for (size_t i = 0; i < 4 * AREA; i++) {
        char *frame = frames.base + i * 4096;
        cr_assert_eq(is_resident(frame), frame == kept[1] || frame == kept[3], "frame %zu", i);
    }
    cr_assert(is_zero(kept[0]));
    cr_assert(is_zero(kept[2]));
    cr_assert_eq(weir__frames_release(&frames, 100), 0u, "they have no memory any more");
    check_kept(kept);
    cr_assert_eq(weir__frames_release(&frames, 100), 2u * AREA * 4096);
    check_all_free();
    weir__frames_destroy(&frames);
}

Test(frames, decay_takes_rests_of_areas_that_were_not_used_since_the_last_time)
{
    char *kept[4] = {NULL};
    void *one;
    leave_one_in_each_other(kept);
    while (weir__frames_release(&frames, 25) == AREA * (size_t)4096)
        ; /* the two areas with nothing out; the others were looked at meanwhile, and one of them was taken */
    weir__frames_release(&frames, 25);
    cr_assert_eq(weir__frames_releasable(&frames), 0u);
    cr_assert_eq(take(1, &one), 1u); /* of whichever area */
    memset(one, 1, 4096);
    give(1, &one);
    cr_assert_gt(weir__frames_releasable(&frames), 0u);
    if (number_of(one) / AREA % 2 == 1)
        cr_assert_eq(weir__frames_release(&frames, 25), 0u, "it was used just now");
    for (unsigned i = 0; i < 3; i++)
        weir__frames_release(&frames, 25);
    cr_assert_eq(weir__frames_releasable(&frames), 0u, "and comes to an end");
    cr_assert_not(is_resident(one));
    check_kept(kept);
    check_all_free();
    weir__frames_destroy(&frames);
}

/* --- runs --- */

static char *take_run(size_t n)
{
    char *run = weir__frames_alloc_run(&frames, n);
    if (run == NULL)
        return NULL;
    size_t first = number_of(run);
    cr_assert_eq(first / AREA, (first + n - 1) / AREA, "a run of %zu spans areas", n);
    for (size_t i = 0; i < n; i++) {
        cr_assert_not(out[first + i], "frame %zu was handed out twice", first + i);
        out[first + i] = true;
    }
    return run;
}

static void give_run(void *run, size_t n)
{
    size_t first = number_of(run);
    for (size_t i = 0; i < n; i++) {
        cr_assert(out[first + i]);
        out[first + i] = false;
    }
    weir__frames_free_run(&frames, run, n);
}

Test(frames, orders_0_to_9_are_aligned_and_fill_the_range)
{
    for (unsigned order = 0; order <= 9; order++) {
        size_t n = (size_t)1 << order, runs = 3 * AREA / n;
        start(3, 4096);
        for (size_t i = 0; i < runs; i++) {
            got[i] = take_run(n);
            cr_assert_not_null(got[i], "order %u, after %zu", order, i);
            cr_assert_eq((uintptr_t)got[i] % (n * 4096), 0u);
        }
        cr_assert_eq(weir__frames_out(&frames), 3u * AREA);
        cr_assert_null(take_run(n));
        cr_assert_eq(take(1, got + MOST), 0u);
        for (size_t i = 0; i < runs; i++)
            give_run(got[i], n);
        check_all_free();
        weir__frames_destroy(&frames);
    }
}

Test(frames, runs_of_every_size_are_had_and_fit_side_by_side)
{
    start(2, 4096);
    for (size_t n = 1; n <= AREA; n++) {
        size_t runs = 2 * (AREA / n);
        for (size_t i = 0; i < runs; i++) {
            got[i] = take_run(n);
            cr_assert(got[i] != NULL || i >= 2, "%zu frames, after %zu", n, i);
            if (got[i] == NULL)
                runs = i;
        }
        for (size_t i = 0; i < runs; i++)
            give_run(got[i], n);
        cr_assert_eq(weir__frames_out(&frames), 0u);
    }
    check_all_free();
    weir__frames_destroy(&frames);
}

Test(frames, run_finds_the_only_gap_wherever_it_is)
{
    uint64_t random = 3;
    start(1, 4096);
    cr_assert_eq(take(AREA, got), (size_t)AREA);
    for (unsigned i = 0; i < 2000; i++) {
        size_t n = 1 + fixture_random(&random) % AREA, align = 1;
        if ((n & (n - 1)) == 0)
            align = n;
        size_t first = fixture_random(&random) % (AREA - n + 1) / align * align;
        char *gap = frames.base + first * 4096;
        give_run(gap, n);
        cr_assert_null(n < AREA ? weir__frames_alloc_run(&frames, n + 1) : NULL);
        cr_assert_eq(take_run(n), gap, "%zu frames at %zu", n, first);
    }
    give(AREA, got);
    check_all_free();
    weir__frames_destroy(&frames);
}

Test(frames, run_is_aligned_though_one_that_is_not_would_be_nearer)
{
    start(1, 4096);
    cr_assert_eq(take(AREA, got), (size_t)AREA);
    for (size_t n = 2; n <= AREA / 4; n++) {
        size_t align = (size_t)1 << (63 - __builtin_clzll(n));
        char *gap = frames.base + align * 4096;
        give_run(gap, n + 1);
        cr_assert_eq(take_run(n), gap, "%zu frames", n);
        cr_assert_eq(take(1, got), 1u);
    }
    weir__frames_destroy(&frames);
}

Test(frames, run_of_no_power_of_two_takes_any_place_if_it_must)
{
    start(1, 4096);
    cr_assert_eq(take(AREA, got), (size_t)AREA);
    for (size_t n = 3; n <= AREA / 2; n += 2) {
        char *gap = frames.base + 4096;
        give_run(gap, n);
        cr_assert_eq(take_run(n), gap, "%zu frames", n);
    }
    weir__frames_destroy(&frames);
}

Test(frames, what_a_run_could_not_have_is_left_as_it_was)
{
    start(2, 4096);
    cr_assert_eq(take(2 * AREA, got), 2u * AREA);
    size_t n = 0;
    for (size_t i = 0; i < 2 * AREA; i++)
        if (number_of(got[i]) % 2 == 0)
            give(1, &got[i]);
        else
            got[n++] = got[i];
    cr_assert_null(weir__frames_alloc_run(&frames, 2));
    cr_assert_null(weir__frames_alloc_run(&frames, AREA / 2));
    cr_assert_eq(weir__frames_out(&frames), n);
    cr_assert_eq(take(AREA + 1, got + n), (size_t)AREA, "single ones are all there");
    give(2 * AREA, got);
    check_all_free();
    weir__frames_destroy(&frames);
}

Test(frames, part_of_a_run_may_come_back_alone)
{
    start(1, 4096);
    char *run = take_run(300);
    cr_assert_not_null(run);
    give_run(run + 100 * 4096, 100);
    cr_assert_eq(weir__frames_out(&frames), 200u);
    give_run(run, 100);
    give_run(run + 200 * 4096, 100);
    check_all_free();
    weir__frames_destroy(&frames);
}

/* --- credits --- */

/* Goes from CPU to CPU with every other frame in hand: the rest is free here and there, and all of it is had. */
Test(frames, what_is_freed_on_one_cpu_is_had_on_another)
{
    static const size_t freed[] = {1, WEIR__CREDIT_MAX - 1, WEIR__CREDIT_MAX, WEIR__CREDIT_MAX + 1, 2 * AREA};
    unsigned other, first;
    start(2, 4096);
    first = fixture_stay(&other);
    for (size_t i = 0; i < sizeof freed / sizeof freed[0]; i++) {
        cr_assert_eq(take(2 * AREA, got), 2u * AREA);
        give(freed[i], got);
        cr_assert_eq(weir__frames_out(&frames), 2 * AREA - freed[i]);
        fixture_pin(i % 2 == 0 ? other : first);
        cr_assert_eq(take(1, got), 1u);
        cr_assert_eq(take(2 * AREA, got + 1), freed[i] - 1);
        cr_assert_eq(take(1, got + MOST), 0u);
        give(2 * AREA, got);
        check_all_free();
    }
    weir__frames_destroy(&frames);
}

Test(frames, a_run_is_had_of_what_was_freed_on_two_cpus)
{
    unsigned other, first;
    start(1, 4096);
    first = fixture_stay(&other);
    for (unsigned lacks = 0; lacks < 2; lacks++) {
        cr_assert_eq(take(AREA, got), (size_t)AREA);
        give(100, got);
        fixture_pin(other);
        give(AREA - 100 - lacks, got + 100);
        char *run = take_run(AREA);
        cr_assert_eq(run == NULL, lacks == 1);
        if (run != NULL)
            give_run(run, AREA);
        cr_assert_eq(take(AREA, got), AREA - lacks, "what a run could not have is there");
        fixture_pin(first);
        give(AREA - lacks, got);
    }
    cr_assert_eq(weir__frames_out(&frames), 1u);
    weir__frames_destroy(&frames);
}

Test(frames, credits_of_all_cpus_are_released_and_counted_once)
{
    unsigned other, first;
    start(3, 4096);
    first = fixture_stay(&other);
    cr_assert_eq(take(3 * AREA, got), 3u * AREA);
    for (size_t i = 0; i < 3 * AREA; i++)
        memset(got[i], 1, 1);
    give(100, got);
    fixture_pin(other);
    give(100, got + 100);
    give(3 * AREA - 200, got + 200);
    cr_assert_eq(weir__frames_out(&frames), 0u);
    cr_assert_eq(weir__frames_release(&frames, 100), 3u * AREA * 4096);
    fixture_pin(first);
    check_all_free();
    cr_assert_eq(frames.out_peak, 3u * AREA);
    weir__frames_destroy(&frames);
}

/* --- the reserve --- */

Test(frames, last_ones_are_kept_for_who_may_have_them)
{
    const struct weir__frames_config config = {.bytes = AREA * 4096, .frame_bytes = 4096, .min = 10};
    fixture_stay(NULL);
    cr_assert_eq(weir_percpu_init(), 0);
    cr_assert_eq(weir__frames_init(&frames, &config), 0);
    memset(out, 0, sizeof out);
    cr_assert_null(weir__frames_alloc_run(&frames, AREA - 9), "it would take one of them");
    cr_assert_eq(take(AREA, got), AREA - 10u);
    cr_assert_eq(take(1, got + MOST), 0u);
    cr_assert_null(weir__frames_alloc_run(&frames, 1));
    cr_assert_eq(weir__frames_alloc_reserved(&frames, 4, got + AREA - 10), 4u);
    cr_assert_eq(weir__frames_alloc_reserved(&frames, 40, got + AREA - 6), 6u);
    cr_assert(weir__frames_reserve_used(&frames));
    weir__frames_free(&frames, 9, got + AREA - 10);
    cr_assert(weir__frames_reserve_used(&frames));
    weir__frames_free(&frames, 1, got + AREA - 1);
    cr_assert_not(weir__frames_reserve_used(&frames));
    cr_assert_eq(take(1, got + MOST), 0u, "they fill the reserve first");
    give(1, got);
    cr_assert_eq(take(2, got), 1u);
    give(AREA - 10, got);
    cr_assert_eq(weir__frames_out(&frames), 0u);
    weir__frames_destroy(&frames);
}

/* --- options --- */

static int init_with(struct weir__frames_config config)
{
    config.bytes = AREA * 4096;
    config.frame_bytes = 4096;
    cr_assert_eq(weir_percpu_init(), 0);
    return weir__frames_init(&frames, &config);
}

Test(frames, prefaulted_memory_is_there_and_stays)
{
    cr_assert_eq(init_with((struct weir__frames_config){.prefault = true}), 0);
    for (size_t i = 0; i < AREA; i++)
        cr_assert(is_resident(frames.base + i * 4096), "frame %zu", i);
    cr_assert_eq(weir__frames_releasable(&frames), 0u);
    cr_assert_eq(weir__frames_release(&frames, 100), 0u);
    cr_assert(is_resident(frames.base));
    weir__frames_destroy(&frames);
}

Test(frames, memory_that_may_not_be_locked_is_an_error)
{
    struct rlimit none = {0, 0};
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    int error = init_with((struct weir__frames_config){.lock = true});
    cr_assert(error == 0 || error == -EPERM || error == -ENOMEM, "%d", error);
    if (error == 0)
        weir__frames_destroy(&frames); /* with CAP_IPC_LOCK */
}

Test(frames, memory_comes_from_nodes_that_exist_or_there_is_an_error)
{
    int error = init_with((struct weir__frames_config){.nodes = 1});
    cr_assert(error == 0 || error == -ENOSYS || error == -EPERM, "%d", error);
    if (error != 0)
        return;
    cr_assert_eq(take(1, got), 1u);
    memset(got[0], 1, 4096);
    give(1, got);
    weir__frames_destroy(&frames);
    cr_assert_eq(init_with((struct weir__frames_config){.nodes = UINT64_C(1) << 63}), -EINVAL);
    cr_assert_eq(init_with((struct weir__frames_config){.nodes = UINT64_C(1) << 63 | 1}), -EINVAL,
                 "one of them does not exist");
}

/* From now on this process has a kernel in which a system call with this third argument, -1: with any, fails.
 * False if that cannot be had. */
static bool refuse(unsigned number, unsigned third, unsigned error)
{
    uint8_t other = third == UINT32_MAX ? 0 : 1;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, third, 0, other),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

Test(frames, memory_is_prefaulted_without_help_of_the_kernel_too)
{
    if (!refuse(SYS_madvise, 23 /* MADV_POPULATE_WRITE */, EINVAL))
        return;
    cr_assert_eq(madvise(NULL, 0, 23), -1);
    cr_assert_eq(init_with((struct weir__frames_config){.prefault = true}), 0);
    for (size_t i = 0; i < AREA; i++)
        cr_assert(is_resident(frames.base + i * 4096), "frame %zu", i);
    cr_assert_eq(weir__frames_release(&frames, 100), 0u);
    check_all_free();
    weir__frames_destroy(&frames);
}

Test(frames, memory_that_cannot_be_had_is_an_error)
{
    if (refuse(SYS_madvise, 23 /* MADV_POPULATE_WRITE */, ENOMEM))
        cr_assert_eq(init_with((struct weir__frames_config){.prefault = true}), -ENOMEM);
}

Test(frames, kernel_without_nodes_says_so)
{
    if (!refuse(SYS_get_mempolicy, UINT32_MAX, ENOSYS))
        return;
    cr_assert_eq(init_with((struct weir__frames_config){.nodes = 1}), -ENOSYS);
    cr_assert_eq(init_with((struct weir__frames_config){.nodes = 0}), 0);
    weir__frames_destroy(&frames);
}

#ifndef SANITIZED /* they take mlock() away */
Test(frames, what_locking_says_is_passed_on)
{
    if (refuse(SYS_mlock, UINT32_MAX, EAGAIN))
        cr_assert_eq(init_with((struct weir__frames_config){.lock = true}), -EAGAIN);
}
#endif

Test(frames, name_that_the_kernel_refuses_does_no_harm)
{
    cr_assert_eq(init_with((struct weir__frames_config){.name = "no [brackets] $ or `ticks`"}), 0);
    check_all_free();
    weir__frames_destroy(&frames);
}

Test(frames, name_is_shown_where_the_kernel_can)
{
    char line[512];
    bool shown = false;
    cr_assert_eq(init_with((struct weir__frames_config){.name = "weir test 1", .huge = true}), 0);
    bool can = prctl(0x53564d41, 0, frames.base, 4096, "weir test 1") == 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    cr_assert_not_null(maps);
    while (fgets(line, sizeof line, maps) != NULL)
        shown = shown || strstr(line, "[anon:weir test 1]") != NULL;
    fclose(maps);
    cr_assert_eq(shown, can);
    weir__frames_destroy(&frames);
}

Test(frames, metadata_is_at_most_a_thousandth_of_the_range)
{
    size_t cpus = weir_percpu_nr_cpus(), others = sizeof(uint16_t) + 1; /* extents.c, prepare.c */
    for (size_t areas = cpus; areas <= 64 * cpus; areas *= 2) {
        cr_assert_eq(weir_percpu_init(), 0);
        cr_assert_eq(init(areas * AREA * 4096, 4096), 0);
        cr_assert_leq((frames.meta_bytes + frames.frames * others) * 1000, frames.frames * 4096,
                      "%zu areas for %zu CPUs", areas, cpus);
        weir__frames_destroy(&frames);
    }
}

Test(frames, homes_of_cpus_have_counters_on_different_lines)
{
    size_t cpus = weir_percpu_nr_cpus();
    for (size_t areas = cpus; areas <= 64 * cpus; areas *= 2) {
        cr_assert_eq(weir_percpu_init(), 0);
        cr_assert_eq(init(areas * AREA * 4096, 4096), 0);
        for (size_t cpu = 1; cpu < cpus; cpu++) {
            char *before = (char *)weir__frames_area(&frames, frames.cpus[cpu - 1].home);
            char *here = (char *)weir__frames_area(&frames, frames.cpus[cpu].home);
            cr_assert_geq(here - before, WEIR_LINE_PAIR, "CPU %zu of %zu, %zu areas", cpu, cpus, areas);
        }
        weir__frames_destroy(&frames);
    }
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
        n += weir__frames_area(&frames, i)->memory != WEIR__AREA_EMPTY;
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
