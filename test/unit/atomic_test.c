/* SPDX-License-Identifier: MIT */
/* weir/atomic.h, one thread: what each operation returns and leaves in memory. What it orders, no single thread can
 * see: that is for ThreadSanitizer and the stress tests. */
#include <limits.h>
#include <stddef.h>

#include "weir/atomic.h"

#include "weir_test.h"

static struct object {
    uint8_t before, byte, after;
    bool flag;
    unsigned number;
    uint64_t word;
    struct object *pointer;
} object, other;

Test(atomic, load_gives_what_is_there)
{
    object = (struct object){.byte = 200, .flag = true, .number = 7, .word = UINT64_MAX, .pointer = &other};
    cr_assert_eq(weir_load_relaxed(&object.byte), 200u);
    cr_assert(weir_load_relaxed(&object.flag));
    cr_assert_eq(weir_load_relaxed(&object.word), UINT64_MAX);
    cr_assert_eq(weir_load_relaxed(&object.pointer), &other);
    cr_assert_eq(weir_load_acquire(&object.number), 7u);
    cr_assert_eq(weir_load_acquire(&object.word), UINT64_MAX);
    cr_assert_eq(weir_load_acquire(&object.pointer), &other);
}

Test(atomic, store_leaves_the_value_and_its_neighbours)
{
    object = (struct object){.before = 1, .after = 2};
    weir_store_relaxed(&object.byte, (uint8_t)3);
    cr_assert_eq(object.byte, 3u);
    weir_store_release(&object.byte, (uint8_t)4);
    cr_assert_eq(object.byte, 4u);
    cr_assert_eq(object.before, 1u);
    cr_assert_eq(object.after, 2u);
    weir_store_relaxed(&object.word, UINT64_MAX);
    cr_assert_eq(object.word, UINT64_MAX);
    weir_store_release(&object.pointer, &other);
    cr_assert_eq(object.pointer, &other);
}

Test(atomic, xchg_gives_the_old_and_leaves_the_new)
{
    object = (struct object){.number = 1};
    cr_assert_eq(weir_xchg_relaxed(&object.number, 2u), 1u);
    cr_assert_eq(weir_xchg_acquire(&object.number, 3u), 2u);
    cr_assert_eq(weir_xchg_release(&object.number, 4u), 3u);
    cr_assert_eq(weir_xchg_acq_rel(&object.number, 5u), 4u);
    cr_assert_eq(object.number, 5u);
    cr_assert_null(weir_xchg_acq_rel(&object.pointer, &other));
    cr_assert_eq(object.pointer, &other);
}

/* Each may fail for no reason, but not for ever. */
#define CAS_SUCCEEDS(cas)                                                                                    \
    do {                                                                                                     \
        unsigned value = 1, expected, tries = 0;                                                             \
        bool done = false;                                                                                   \
        while (!done && tries++ < 1000) {                                                                    \
            expected = 1;                                                                                    \
            done = cas(&value, &expected, 2u);                                                               \
            cr_assert_eq(expected, 1u, #cas ": what was found is what was expected");                        \
        }                                                                                                    \
        cr_assert(done, #cas " never succeeds");                                                             \
        cr_assert_eq(value, 2u, #cas " leaves the desired value");                                           \
    } while (0)

#define CAS_FAILS(cas)                                                                                       \
    do {                                                                                                     \
        unsigned value = 7, expected = 1;                                                                    \
        cr_assert_not(cas(&value, &expected, 2u), #cas);                                                     \
        cr_assert_eq(value, 7u, #cas " changes nothing when it fails");                                      \
        cr_assert_eq(expected, 7u, #cas " tells what it found");                                             \
    } while (0)

Test(atomic, cas_replaces_what_was_expected)
{
    CAS_SUCCEEDS(weir_cas_relaxed);
    CAS_SUCCEEDS(weir_cas_acquire);
    CAS_SUCCEEDS(weir_cas_release);
    CAS_SUCCEEDS(weir_cas_acq_rel);
}

Test(atomic, cas_leaves_anything_else_and_tells_what_it_is)
{
    CAS_FAILS(weir_cas_relaxed);
    CAS_FAILS(weir_cas_acquire);
    CAS_FAILS(weir_cas_release);
    CAS_FAILS(weir_cas_acq_rel);
}

Test(atomic, fetch_add_gives_the_old_and_adds)
{
    object = (struct object){.number = UINT_MAX - 10, .word = UINT64_C(1) << 40};
    cr_assert_eq(weir_fetch_add_relaxed(&object.number, 1u), UINT_MAX - 10);
    cr_assert_eq(weir_fetch_add_acquire(&object.number, 3u), UINT_MAX - 9);
    cr_assert_eq(weir_fetch_add_release(&object.number, 3u), UINT_MAX - 6);
    cr_assert_eq(weir_fetch_add_acq_rel(&object.number, 4u), UINT_MAX - 3);
    cr_assert_eq(object.number, 0u, "round, at the type's end");
    cr_assert_eq(weir_fetch_add_acq_rel(&object.word, UINT64_C(1) << 40), UINT64_C(1) << 40);
    cr_assert_eq(object.word, UINT64_C(1) << 41);
}

Test(atomic, fetch_sub_gives_the_old_and_subtracts)
{
    object = (struct object){.number = 5};
    cr_assert_eq(weir_fetch_sub_relaxed(&object.number, 1u), 5u);
    cr_assert_eq(weir_fetch_sub_release(&object.number, 2u), 4u);
    cr_assert_eq(weir_fetch_sub_acq_rel(&object.number, 3u), 2u);
    cr_assert_eq(object.number, UINT_MAX, "round, at the type's end");
}

Test(atomic, fetch_and_gives_the_old_and_keeps_the_common_bits)
{
    object = (struct object){.number = 0xf5};
    cr_assert_eq(weir_fetch_and_release(&object.number, 0x1fu), 0xf5u);
    cr_assert_eq(object.number, 0x15u);
}

#if WEIR_CAS16

static struct {
    uint64_t before[2], pair[2], after[2];
} WEIR_ALIGNED(16) wide;

static void pair_is(uint64_t low, uint64_t high)
{
    cr_assert_eq(wide.pair[0], low);
    cr_assert_eq(wide.pair[1], high);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(wide.before[i], 0u);
        cr_assert_eq(wide.after[i], 0u);
    }
}

/* Halves that cannot be confused: not with each other, nor with their own upper or lower 32 bits. */
static const uint64_t held[2] = {UINT64_C(0x0123456789abcdef), UINT64_C(0xfedcba9876543210)};
static const uint64_t desired[2] = {UINT64_C(0x1111111122222222), UINT64_C(0x3333333344444444)};

Test(atomic, cas16_replaces_both_halves)
{
    wide.pair[0] = held[0];
    wide.pair[1] = held[1];
    bool done = false;
    for (unsigned tries = 0; !done && tries < 1000; tries++)
        done = weir_cas16_acq_rel(wide.pair, held, desired);
    cr_assert(done);
    pair_is(desired[0], desired[1]);
}

Test(atomic, cas16_fails_and_changes_nothing_when_any_bit_of_either_half_differs)
{
    for (unsigned bit = 0; bit < 128; bit++) {
        uint64_t expected[2] = {held[0], held[1]};
        expected[bit / 64] ^= UINT64_C(1) << bit % 64;
        wide.pair[0] = held[0];
        wide.pair[1] = held[1];
        cr_assert_not(weir_cas16_acq_rel(wide.pair, expected, desired), "bit %u", bit);
        pair_is(held[0], held[1]);
        cr_assert_eq(expected[0] ^ expected[1] ^ held[0] ^ held[1], UINT64_C(1) << bit % 64,
                     "bit %u: the expected value is only read", bit);
    }
}

Test(atomic, cas16_counts_to_a_thousand_with_a_carry_from_half_to_half)
{
    wide.pair[0] = UINT64_MAX - 500;
    wide.pair[1] = 0;
    for (unsigned n = 0, tries = 0; n < 1000; tries++) {
        uint64_t old[2] = {wide.pair[0], wide.pair[1]};
        uint64_t next[2] = {old[0] + 1, old[1] + (old[0] == UINT64_MAX)};
        if (weir_cas16_acq_rel(wide.pair, old, next))
            n++;
        cr_assert_lt(tries, 1000000u);
    }
    pair_is(499, 1);
}

#endif

Test(atomic, backoff_counts_the_losses)
{
    for (unsigned losses = 0; losses < 40; losses++)
        cr_assert_eq(weir_backoff(losses), losses + 1);
    cr_assert_eq(weir_backoff(UINT_MAX - 1), UINT_MAX);
    cr_assert_eq(weir_backoff(UINT_MAX), 0u,
                 "starts again, and waits no longer than ever (see atomic_hook_test.c)");
}

Test(atomic, lines_and_alignment)
{
    struct apart {
        char a;
        char b WEIR_ALIGNED(WEIR_LINE_PAIR);
    };
    cr_assert_eq(offsetof(struct apart, b), (size_t)WEIR_LINE_PAIR);
    cr_assert_eq(WEIR_LINE_PAIR % WEIR_CACHE_LINE, 0);
}
