/* SPDX-License-Identifier: MIT */
/*
 * weir/detail/tagged.h - private: a pointer, a generation, and if wanted a count, that change in one step.
 *
 * The head of weir/stack.h and weir/pool.h. Two layouts behind the same functions, chosen at compile time:
 *
 *   wide    x86-64 and aarch64: two words, replaced together by a 16-byte compare-and-swap. The second word
 *           of a stack is its generation, 64 bits, which does not wrap round in the life of a machine. That
 *           of a pool is a generation of 32 bits and a count of 32 bits.
 *   packed  everywhere else, and under ThreadSanitizer (which cannot see into inline assembly): pointer and
 *           generation in one word. On 64-bit machines a user address below 2^48 and aligned to 8 leaves 19
 *           bits for the generation; on 32-bit machines 32 bits. The count of a pool is a word of its own,
 *           beside it.
 *
 * What so many bits mean: a removal goes wrong only if its thread is held up between reading the head and
 * replacing it while exactly a multiple of 2^bits removals happen, after which the same node is on top again
 * with another successor (and, in a wide pool, with the same count). 2^32 = 4,294,967,296 removals are a
 * minute at full speed; 2^19 = 524,288 are some milliseconds, as long as a thread is preempted, so that
 * there only the exactness protects: see docs/stack.md.
 *
 * Both are lock-free; there is no hidden lock. Define WEIR_STACK_PACKED to get the packed layout everywhere.
 */
#ifndef WEIR_DETAIL_TAGGED_H
#define WEIR_DETAIL_TAGGED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/atomic.h"
#include "weir/detail/checked.h"

#if WEIR_CAS16 && !defined(WEIR_STACK_PACKED)
#define WEIR__TAGGED_WIDE 1
#else
#define WEIR__TAGGED_WIDE 0
#endif

struct weir_stack_node {
    struct weir_stack_node *next;
};

/* The head as it stands in memory: 16 bytes in both layouts, so that it does not depend on the build. Zeroed
 * memory is an empty one. */
struct weir__tagged {
    uint64_t word[2];
} WEIR_ALIGNED(16);

/* What was read from it. */
struct weir__tag {
    struct weir_stack_node *top;
    uint64_t generation; /* wide: the whole second word */
};

/* Checked builds start close to the wrap-around, so that tests cross it. (Zeroed memory starts at 0.) */
#ifdef WEIR_CHECKED
#define WEIR__TAG_START(bits) ((UINT64_MAX >> (64 - (bits))) - 100)
#else
#define WEIR__TAG_START(bits) UINT64_C(0)
#endif

#if WEIR__TAGGED_WIDE

#define WEIR__GENERATION_BITS 64
#define WEIR__COUNTED_GENERATION_BITS 32
#define WEIR__COUNT_MASK UINT64_C(0xffffffff)
#define WEIR__COUNTED_REMOVAL (UINT64_C(1) << 32) /* one more in the generation of a head with a count */

static inline void weir__tagged_init(struct weir__tagged *head)
{
    weir_store_relaxed(&head->word[0], UINT64_C(0));
    weir_store_relaxed(&head->word[1], WEIR__TAG_START(WEIR__GENERATION_BITS));
}

/* Checked builds: any address fits. */
static inline void weir__check_fits(const struct weir_stack_node *top, const char *function)
{
    (void)top, (void)function;
}

static inline void weir__counted_init(struct weir__tagged *head)
{
    weir_store_relaxed(&head->word[0], UINT64_C(0));
    weir_store_relaxed(&head->word[1], WEIR__TAG_START(WEIR__COUNTED_GENERATION_BITS) << 32);
}

/*
 * Generation first: if it is still the same when the head is replaced, nothing was removed since, and the
 * pointer read after it is, or will be found not to be, the one on top. (Acquire on the generation keeps the
 * two loads in this order.)
 * Acquire on the pointer: pairs with the release of the push that put it there, and, since every change of
 * the head is a read-modify-write, with those of all pushes below it.
 */
static inline struct weir__tag weir__tagged_load(const struct weir__tagged *head)
{
    struct weir__tag tag;
    tag.generation = weir_load_acquire(&head->word[1]);
    tag.top = (struct weir_stack_node *)(uintptr_t)weir_load_acquire(&head->word[0]);
    return tag;
}

/* Replaces both words if they are still what was read. Release for a push, whose nodes it publishes; a
 * removal needs none, its acquire was in the load. */
static inline bool weir__tagged_replace(struct weir__tagged *head, const struct weir__tag *tag,
                                        const struct weir_stack_node *top, uint64_t generation)
{
    const uint64_t expected[2] = {(uint64_t)(uintptr_t)tag->top, tag->generation};
    const uint64_t desired[2] = {(uint64_t)(uintptr_t)top, generation};
    return weir_cas16_acq_rel(head->word, expected, desired);
}

/* Puts `top` on top; the generation stays. */
static inline bool weir__tagged_push(struct weir__tagged *head, const struct weir__tag *tag,
                                     const struct weir_stack_node *top)
{
    return weir__tagged_replace(head, tag, top, tag->generation);
}

/* Takes nodes off, leaving `top`; the generation advances. */
static inline bool weir__tagged_remove(struct weir__tagged *head, const struct weir__tag *tag,
                                       const struct weir_stack_node *top)
{
    return weir__tagged_replace(head, tag, top, tag->generation + 1);
}

/* Has nothing been removed since `tag` was read? Relaxed: see weir__tagged_walk(). */
static inline bool weir__tagged_unmoved(const struct weir__tagged *head, const struct weir__tag *tag)
{
    return weir_load_relaxed(&head->word[1]) == tag->generation;
}

/* The same for a head with a count, which pushes change too. */
static inline bool weir__counted_unmoved(const struct weir__tagged *head, const struct weir__tag *tag)
{
    return (weir_load_relaxed(&head->word[1]) ^ tag->generation) < WEIR__COUNTED_REMOVAL;
}

/* Before a push of n nodes: nothing to do here, the push itself counts them. */
static inline void weir__counted_announce(struct weir__tagged *head, size_t n)
{
    (void)head;
    (void)n;
}

static inline bool weir__counted_push(struct weir__tagged *head, const struct weir__tag *tag,
                                      const struct weir_stack_node *top, size_t n)
{
    weir__check((tag->generation & WEIR__COUNT_MASK) + n <= WEIR__COUNT_MASK, "weir_pool_put_batch", head,
                "holds more than 4294967295 nodes");
    return weir__tagged_replace(head, tag, top, tag->generation + n);
}

/* Takes n nodes off, leaving `top`. */
static inline bool weir__counted_remove(struct weir__tagged *head, const struct weir__tag *tag,
                                        const struct weir_stack_node *top, size_t n)
{
    return weir__tagged_replace(head, tag, top, tag->generation + WEIR__COUNTED_REMOVAL - n);
}

/* Relaxed: a number for watermarks and statistics, which orders nothing. */
static inline size_t weir__counted_count(const struct weir__tagged *head)
{
    return (size_t)(weir_load_relaxed(&head->word[1]) & WEIR__COUNT_MASK);
}

/* Takes everything off: what the tag says is their number. */
static inline bool weir__counted_remove_all(struct weir__tagged *head, const struct weir__tag *tag, size_t *n)
{
    *n = (size_t)(tag->generation & WEIR__COUNT_MASK);
    return weir__counted_remove(head, tag, NULL, *n);
}

#else /* packed */

#if __GCC_ATOMIC_LLONG_LOCK_FREE != 2
#error "weir/stack.h: this machine cannot compare and swap 64 bits without a lock"
#endif

#if UINTPTR_MAX > UINT32_MAX
#define WEIR__GENERATION_BITS 19
#define WEIR__POINTER_SHIFT 3 /* nodes are aligned to 8 */
#else
#define WEIR__GENERATION_BITS 32
#define WEIR__POINTER_SHIFT 0
#endif
#define WEIR__COUNTED_GENERATION_BITS WEIR__GENERATION_BITS
#define WEIR__GENERATION_MASK ((UINT64_C(1) << WEIR__GENERATION_BITS) - 1)

static inline struct weir__tag weir__tag_unpack(uint64_t word)
{
    struct weir__tag tag;
    tag.top = (struct weir_stack_node *)(uintptr_t)(word >> WEIR__GENERATION_BITS << WEIR__POINTER_SHIFT);
    tag.generation = word & WEIR__GENERATION_MASK;
    return tag;
}

/* A removal that lost its race may ask for a value that is no node, and will not be stored. */
static inline uint64_t weir__tag_pack(const struct weir_stack_node *top, uint64_t generation)
{
    return (uint64_t)(uintptr_t)top >> WEIR__POINTER_SHIFT << WEIR__GENERATION_BITS |
           (generation & WEIR__GENERATION_MASK);
}

/* Checked builds: what is to be the top has to fit. */
static inline void weir__check_fits(const struct weir_stack_node *top, const char *function)
{
    weir__check(weir__tag_unpack(weir__tag_pack(top, 0)).top == top, function, top,
                "a node has to be aligned to 8 and lie below 2^48");
    (void)top, (void)function;
}

static inline void weir__tagged_init(struct weir__tagged *head)
{
    weir_store_relaxed(&head->word[0], weir__tag_pack(NULL, WEIR__TAG_START(WEIR__GENERATION_BITS)));
    weir_store_relaxed(&head->word[1], UINT64_C(0));
}

static inline void weir__counted_init(struct weir__tagged *head)
{
    weir__tagged_init(head);
}

/* Acquire: pairs with the release of the push that put the top there, and, since every change of the head
 * is a read-modify-write, with those of all pushes below it. */
static inline struct weir__tag weir__tagged_load(const struct weir__tagged *head)
{
    return weir__tag_unpack(weir_load_acquire(&head->word[0]));
}

/* Puts `top` on top; the generation stays. Release: pairs with the acquire in weir__tagged_load(). */
static inline bool weir__tagged_push(struct weir__tagged *head, const struct weir__tag *tag,
                                     const struct weir_stack_node *top)
{
    uint64_t expected = weir__tag_pack(tag->top, tag->generation);
    return weir_cas_release(&head->word[0], &expected, weir__tag_pack(top, tag->generation));
}

/* Takes nodes off, leaving `top`; the generation advances. Relaxed: the load of `tag` has acquired what is
 * taken, and publishes nothing. */
static inline bool weir__tagged_remove(struct weir__tagged *head, const struct weir__tag *tag,
                                       const struct weir_stack_node *top)
{
    uint64_t expected = weir__tag_pack(tag->top, tag->generation);
    if (!weir_cas_relaxed(&head->word[0], &expected, weir__tag_pack(top, tag->generation + 1)))
        return false;
    weir__check_fits(top, "weir_stack_push"); /* of a chain that was pushed */
    return true;
}

/* Has nothing been removed since `tag` was read? Relaxed: see weir__tagged_walk(). */
static inline bool weir__tagged_unmoved(const struct weir__tagged *head, const struct weir__tag *tag)
{
    return (weir_load_relaxed(&head->word[0]) & WEIR__GENERATION_MASK) == tag->generation;
}

static inline bool weir__counted_unmoved(const struct weir__tagged *head, const struct weir__tag *tag)
{
    return weir__tagged_unmoved(head, tag);
}

/* Before a push of n nodes, so that no taker can subtract what was not yet added. Relaxed: the release of the
 * push puts it before the push, and the taker's acquire puts its subtraction after it. */
static inline void weir__counted_announce(struct weir__tagged *head, size_t n)
{
    weir_fetch_add_relaxed(&head->word[1], (uint64_t)n);
}

static inline bool weir__counted_push(struct weir__tagged *head, const struct weir__tag *tag,
                                      const struct weir_stack_node *top, size_t n)
{
    (void)n; /* is announced */
    return weir__tagged_push(head, tag, top);
}

/* Takes n nodes off, leaving `top`. Relaxed: see weir__counted_announce(). */
static inline bool weir__counted_remove(struct weir__tagged *head, const struct weir__tag *tag,
                                        const struct weir_stack_node *top, size_t n)
{
    bool removed = weir__tagged_remove(head, tag, top);
    if (removed && n != 0)
        weir_fetch_sub_relaxed(&head->word[1], (uint64_t)n);
    return removed;
}

static inline size_t weir__counted_count(const struct weir__tagged *head)
{
    return (size_t)weir_load_relaxed(&head->word[1]);
}

/* Takes everything off, and counts it when it is the caller's already: nobody waits for that. */
static inline bool weir__counted_remove_all(struct weir__tagged *head, const struct weir__tag *tag, size_t *n)
{
    if (!weir__tagged_remove(head, tag, NULL))
        return false;
    *n = 0;
    /* Relaxed: the load of `tag` has acquired the chain. */
    for (struct weir_stack_node *node = tag->top; node != NULL; node = weir_load_relaxed(&node->next))
        ++*n;
    weir_fetch_sub_relaxed(&head->word[1], (uint64_t)*n);
    return true;
}

#endif /* packed */

/* The first nodes of a stack: what comes after `last`, and how many they are. */
struct weir__run {
    struct weir_stack_node *last, *next;
    size_t n;
};

/*
 * Finds the first nodes, at most `max` and at least one, of a stack whose head was read as `tag`, not
 * empty. False if a removal came in between: what was found may be no part of the stack then.
 *
 * A node whose `next` is read may have been removed, and been linked to something else by its new owner. That
 * owner stored `next` with release (as pushes do), after the removal had advanced the generation. So who
 * reads the new `next`, with acquire, and then the generation, finds it advanced, and follows `next` no
 * further.
 */
static inline bool weir__tagged_walk(const struct weir__tagged *head, const struct weir__tag *tag,
                                     bool counted, size_t max, struct weir__run *run)
{
    run->next = tag->top;
    run->n = 0;
    do {
        run->last = run->next;
        run->next = weir_load_acquire(&run->last->next);
        if (counted ? !weir__counted_unmoved(head, tag) : !weir__tagged_unmoved(head, tag))
            return false;
        run->n++;
    } while (run->n < max && run->next != NULL);
    return true;
}

/* Checked builds: the n nodes from `first` on were removed just now. They are still linked as they were
 * when the removal read them, unless somebody has written to a node on the stack: one who had freed it, or
 * never given it away. */
static inline void weir__check_links(const struct weir_stack_node *first, size_t n,
                                     const struct weir_stack_node *next, const char *function)
{
#ifdef WEIR_CHECKED
    const struct weir_stack_node *node = first;
    for (size_t i = 0; i < n; i++) {
        weir__check(node != NULL, function, first, "was written to while it was on the stack");
        node = weir_load_relaxed(&node->next);
    }
    weir__check(node == next, function, first, "was written to while it was on the stack");
#else
    (void)first, (void)n, (void)next, (void)function;
#endif
}

/* Checked builds: n is the number of nodes from `first` to `last`, which is reached from it. */
static inline void weir__check_length(const struct weir_stack_node *first, const struct weir_stack_node *last,
                                      size_t n, const char *function)
{
#ifdef WEIR_CHECKED
    size_t length = 1;
    for (const struct weir_stack_node *node = first; node != last; node = weir_load_relaxed(&node->next))
        length++;
    weir__check(length == n, function, first, "n is not the number of nodes from first to last");
#else
    (void)first, (void)last, (void)n, (void)function;
#endif
}

#endif /* WEIR_DETAIL_TAGGED_H */
