/* SPDX-License-Identifier: MIT */
/* weir/magazine.h: as many objects as fit, last in first out. */
#include "weir/magazine.h"

#include "weir_test.h"

Test(magazine, holds_exactly_its_capacity_last_in_first_out)
{
    _Alignas(16) char memory[WEIR_MAGAZINE_BYTES(3)];
    int objects[4];
    struct weir_magazine *magazine = weir_magazine_init(memory, sizeof memory);
    cr_assert_eq(magazine->capacity, 3u);
    cr_assert_null(weir_magazine_get(magazine));
    for (int i = 0; i < 3; i++)
        cr_assert(weir_magazine_put(magazine, &objects[i]));
    cr_assert_not(weir_magazine_put(magazine, &objects[3]));
    cr_assert_eq(magazine->count, 3u);
    for (int i = 3; i-- > 0;)
        cr_assert_eq(weir_magazine_get(magazine), &objects[i]);
    cr_assert_null(weir_magazine_get(magazine));
}

Test(magazine, fills_its_memory_and_no_more)
{
    for (size_t bytes = WEIR_MAGAZINE_BYTES(0); bytes <= 4096; bytes += sizeof(void *)) {
        size_t capacity = WEIR_MAGAZINE_CAPACITY(bytes);
        cr_assert_leq(WEIR_MAGAZINE_BYTES(capacity), bytes);
        cr_assert_gt(WEIR_MAGAZINE_BYTES(capacity + 1), bytes);
    }
    cr_assert_eq(WEIR_MAGAZINE_CAPACITY(4096), sizeof(void *) == 8 ? 509u : 1018u);
}

Test(magazine, is_found_again_from_its_node)
{
    _Alignas(16) char memory[WEIR_MAGAZINE_BYTES(1)];
    struct weir_magazine *magazine = weir_magazine_init(memory, sizeof memory);
    cr_assert_eq(weir_magazine_of_node(&magazine->node), magazine);
    cr_assert_null(weir_magazine_of_node(NULL));
}

Test(magazine, memory_that_does_not_hold_a_header_makes_none)
{
    static char memory[64] WEIR_ALIGNED(8);
    cr_assert_null(weir_magazine_init(memory, 0));
    cr_assert_null(weir_magazine_init(memory, sizeof(struct weir_magazine) - 1));
    struct weir_magazine *magazine = weir_magazine_init(memory, sizeof(struct weir_magazine));
    cr_assert_not_null(magazine);
    cr_assert_eq(magazine->capacity, 0u);
    cr_assert_not(weir_magazine_put(magazine, memory));
}
