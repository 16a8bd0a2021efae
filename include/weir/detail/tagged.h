/* SPDX-License-Identifier: MIT */
/*
 * weir/detail/tagged.h - private: a pointer and a generation that change in one step.
 *
 * The head of weir/stack.h. Two layouts behind the same four functions, chosen at compile time:
 *
 *   wide    x86-64: pointer and 64-bit generation side by side, replaced by cmpxchg16b. The generation
 *           does not wrap round in the life of a machine.
 *   packed  everywhere else, and under ThreadSanitizer (which cannot see into inline assembly): one
 *           64-bit word. On 64-bit machines a user address below 2^48 and aligned to 8 leaves 19 bits for
 *           the generation; on 32-bit machines 32 bits. What 19 bits mean: a pop goes wrong only if its
 *           thread is held up between reading the head and replacing it while exactly a multiple of
 *           524,288 removals happen, after which the same node is on top again with another successor.
 *
 * Both are lock-free; there is no hidden lock. Define WEIR_STACK_PACKED to get the packed layout on x86-64.
 */
#ifndef WEIR_DETAIL_TAGGED_H
#define WEIR_DETAIL_TAGGED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/atomic.h"

#if defined(__x86_64__) && !WEIR_TSAN && !defined(WEIR_STACK_PACKED)
#define WEIR__TAGGED_WIDE 1
#else
#define WEIR__TAGGED_WIDE 0
#endif

/* The head as it stands in memory: 16 bytes in both layouts, so that it does not depend on the build. */
struct weir__tagged {
    uint64_t word[2];
} WEIR_ALIGNED(16);

/* What was read from it. */
struct weir__tag {
    void *pointer;
    uint64_t generation;
};

/* Checked builds start close to the wrap-around, so that every test crosses it. */
#ifdef WEIR_CHECKED
#define WEIR__TAG_START(bits) ((UINT64_MAX >> (64 - (bits))) - 100)
#else
#define WEIR__TAG_START(bits) UINT64_C(0)
#endif

#if WEIR__TAGGED_WIDE

#define WEIR__GENERATION_BITS 64

static inline void weir__tagged_init(struct weir__tagged *head)
{
    weir_store_relaxed(&head->word[0], UINT64_C(0));
    weir_store_relaxed(&head->word[1], WEIR__TAG_START(WEIR__GENERATION_BITS));
}

/*
 * Generation first: if it is still the same when the head is replaced, nothing was removed since, and the
 * pointer read after it is, or will be found not to be, the one on top.
 * Acquire on the pointer: pairs with the release of the push that put it there.
 */
static inline struct weir__tag weir__tagged_load(const struct weir__tagged *head)
{
    struct weir__tag tag;
    tag.generation = weir_load_acquire(&head->word[1]);
    tag.pointer = (void *)(uintptr_t)weir_load_acquire(&head->word[0]);
    return tag;
}

/* Puts `pointer` on top; the generation stays. Release. False: `tag` holds what was found. */
static inline bool weir__tagged_push(struct weir__tagged *head, struct weir__tag *tag, void *pointer)
{
    /* The pointer alone decides: if it is the one the new top links to, the push is right whatever was
     * popped and pushed in between. */
    uint64_t old = (uint64_t)(uintptr_t)tag->pointer;
    bool done = weir_cas_release(&head->word[0], &old, (uint64_t)(uintptr_t)pointer);
    tag->pointer = (void *)(uintptr_t)old;
    return done;
}

/* Takes the top off, leaving `pointer`; the generation advances. Acquire. False: `tag` is what was found. */
static inline bool weir__tagged_remove(struct weir__tagged *head, struct weir__tag *tag, void *pointer)
{
    bool done;
    uint64_t low = (uint64_t)(uintptr_t)tag->pointer, high = tag->generation;
    /* A locked instruction is a full barrier on x86; "memory" keeps the compiler to it. */
    __asm__ __volatile__("lock cmpxchg16b %[head]"
                         : [head] "+m"(*head), "+a"(low), "+d"(high), "=@ccz"(done)
                         : "b"((uint64_t)(uintptr_t)pointer), "c"(tag->generation + 1)
                         : "memory");
    tag->pointer = (void *)(uintptr_t)low;
    tag->generation = high;
    return done;
}

/* Has nothing been removed since `tag` was read? Whatever the caller read before this call, with acquire
 * or by a later one, it read while that was so. */
static inline bool weir__tagged_unmoved(const struct weir__tagged *head, const struct weir__tag *tag)
{
    return weir_load_acquire(&head->word[1]) == tag->generation;
}

#else /* packed */

#if UINTPTR_MAX > UINT32_MAX
#define WEIR__GENERATION_BITS 19
#define WEIR__POINTER_SHIFT 3 /* nodes are aligned to 8 */
#else
#define WEIR__GENERATION_BITS 32
#define WEIR__POINTER_SHIFT 0
#endif
#define WEIR__GENERATION_MASK ((UINT64_C(1) << WEIR__GENERATION_BITS) - 1)

static inline struct weir__tag weir__tag_unpack(uint64_t word)
{
    struct weir__tag tag;
    tag.pointer = (void *)(uintptr_t)(word >> WEIR__GENERATION_BITS << WEIR__POINTER_SHIFT);
    tag.generation = word & WEIR__GENERATION_MASK;
    return tag;
}

static inline uint64_t weir__tag_pack(const void *pointer, uint64_t generation)
{
    uint64_t word = (uint64_t)(uintptr_t)pointer >> WEIR__POINTER_SHIFT << WEIR__GENERATION_BITS |
                    (generation & WEIR__GENERATION_MASK);
#ifdef WEIR_CHECKED
    if (weir__tag_unpack(word).pointer != pointer)
        __builtin_trap(); /* a node that is not aligned to 8, or lies above 2^48 */
#endif
    return word;
}

static inline void weir__tagged_init(struct weir__tagged *head)
{
    weir_store_relaxed(&head->word[0], weir__tag_pack(NULL, WEIR__TAG_START(WEIR__GENERATION_BITS)));
    weir_store_relaxed(&head->word[1], UINT64_C(0));
}

static inline struct weir__tag weir__tagged_load(const struct weir__tagged *head)
{
    return weir__tag_unpack(weir_load_acquire(&head->word[0]));
}

static inline bool weir__tagged_push(struct weir__tagged *head, struct weir__tag *tag, void *pointer)
{
    uint64_t old = weir__tag_pack(tag->pointer, tag->generation);
    bool done = weir_cas_release(&head->word[0], &old, weir__tag_pack(pointer, tag->generation));
    *tag = weir__tag_unpack(old);
    return done;
}

static inline bool weir__tagged_remove(struct weir__tagged *head, struct weir__tag *tag, void *pointer)
{
    uint64_t old = weir__tag_pack(tag->pointer, tag->generation);
    bool done = weir_cas_acquire(&head->word[0], &old, weir__tag_pack(pointer, tag->generation + 1));
    *tag = weir__tag_unpack(old);
    return done;
}

static inline bool weir__tagged_unmoved(const struct weir__tagged *head, const struct weir__tag *tag)
{
    return (weir_load_acquire(&head->word[0]) & WEIR__GENERATION_MASK) == tag->generation;
}

#endif

#endif /* WEIR_DETAIL_TAGGED_H */
