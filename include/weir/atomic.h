/* SPDX-License-Identifier: MIT */
/*
 * weir/atomic.h - short names for the atomic operations weir is built from.
 *
 *     static unsigned hits;
 *     weir_fetch_add_relaxed(&hits, 1);
 *
 * Each name says what it does and what it orders: weir_load_acquire(), weir_xchg_acq_rel(). The
 * argument is a pointer to an ordinary integer or pointer object; the operations are the compiler's
 * __atomic builtins and nothing else, so that ThreadSanitizer sees every one of them. (The one that
 * swaps 16 bytes is assembly, and is not there under ThreadSanitizer.)
 *
 * Everything in weir that several threads touch goes through this file. It is the one place to hook
 * in a scheduler for tests, and the one place to read to know which orders are in use:
 *
 *   relaxed   the value matters, nothing else is learned from it
 *   acquire   whoever wrote the value has released what I am about to read
 *   release   what I wrote before is visible to whoever acquires this value
 *   acq_rel   both, for a read-modify-write that takes one thing over and hands another on
 *
 * There is no consume (compilers treat it as acquire) and no sequentially consistent access: where
 * two threads each write one word and read the other's, both sides use a read-modify-write on one
 * and the same word, whose single modification order settles who came first. There is no fence
 * either: ThreadSanitizer does not understand fences.
 *
 * Progress: wait-free, but for the compare-and-swap loops callers build. Callers: any context.
 * Ordering: as the name says. Memory: allocates nothing.
 */
#ifndef WEIR_ATOMIC_H
#define WEIR_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The hook. Every operation below is one of these macros, and nothing else in the headers of floors 0 and 1
 * touches memory that threads share. Compile with -DWEIR_ATOMIC_HOOK='"file.h"' and file.h defines them
 * instead: to hand control to a scheduler before each access, to delay one, to weaken an order, or to put
 * the primitives of a model checker in their place. docs/testing.md describes the hooks of weir's own
 * tests.
 */
#ifdef WEIR_ATOMIC_HOOK
#include WEIR_ATOMIC_HOOK
#else
#define weir__load(p, order) __atomic_load_n((p), order)
#define weir__store(p, v, order) __atomic_store_n((p), (v), order)
#define weir__xchg(p, v, order) __atomic_exchange_n((p), (v), order)
#define weir__cas(p, expected, desired, order, failed)                                                       \
    __atomic_compare_exchange_n((p), (expected), (desired), 1, order, failed)
#define weir__cas16(p, expected, desired) weir__cas16_native((p), (expected), (desired))
#define weir__fetch_add(p, v, order) __atomic_fetch_add((p), (v), order)
#define weir__fetch_sub(p, v, order) __atomic_fetch_sub((p), (v), order)
#define weir__fetch_and(p, v, order) __atomic_fetch_and((p), (v), order)
#define weir__pause() weir_cpu_pause()
#endif

#define weir_load_relaxed(p) weir__load(p, __ATOMIC_RELAXED)
#define weir_load_acquire(p) weir__load(p, __ATOMIC_ACQUIRE)

#define weir_store_relaxed(p, v) weir__store(p, v, __ATOMIC_RELAXED)
#define weir_store_release(p, v) weir__store(p, v, __ATOMIC_RELEASE)

#define weir_xchg_relaxed(p, v) weir__xchg(p, v, __ATOMIC_RELAXED)
#define weir_xchg_acquire(p, v) weir__xchg(p, v, __ATOMIC_ACQUIRE)
#define weir_xchg_release(p, v) weir__xchg(p, v, __ATOMIC_RELEASE)
#define weir_xchg_acq_rel(p, v) weir__xchg(p, v, __ATOMIC_ACQ_REL)

/*
 * Compare and swap: true when *p held *expected and now holds desired; false after putting the value
 * found into *expected. Weak, that is, it may fail for no reason: call it in a loop.
 * The value found by a failed weir_cas_acquire or weir_cas_acq_rel may be dereferenced (acquire);
 * the one found by a failed weir_cas_relaxed or weir_cas_release may only be compared or stored.
 */
#define weir_cas_relaxed(p, expected, desired)                                                               \
    weir__cas(p, expected, desired, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#define weir_cas_acquire(p, expected, desired)                                                               \
    weir__cas(p, expected, desired, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)
#define weir_cas_release(p, expected, desired)                                                               \
    weir__cas(p, expected, desired, __ATOMIC_RELEASE, __ATOMIC_RELAXED)
#define weir_cas_acq_rel(p, expected, desired)                                                               \
    weir__cas(p, expected, desired, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/* Fetch and modify: the value before the operation. */
#define weir_fetch_add_relaxed(p, v) weir__fetch_add(p, v, __ATOMIC_RELAXED)
#define weir_fetch_add_acquire(p, v) weir__fetch_add(p, v, __ATOMIC_ACQUIRE)
#define weir_fetch_add_release(p, v) weir__fetch_add(p, v, __ATOMIC_RELEASE)
#define weir_fetch_add_acq_rel(p, v) weir__fetch_add(p, v, __ATOMIC_ACQ_REL)
#define weir_fetch_sub_relaxed(p, v) weir__fetch_sub(p, v, __ATOMIC_RELAXED)
#define weir_fetch_sub_release(p, v) weir__fetch_sub(p, v, __ATOMIC_RELEASE)
#define weir_fetch_sub_acq_rel(p, v) weir__fetch_sub(p, v, __ATOMIC_ACQ_REL)
#define weir_fetch_and_release(p, v) weir__fetch_and(p, v, __ATOMIC_RELEASE)

/*
 * The same for 16 bytes, aligned to 16, as two 64-bit words: where WEIR_CAS16 is 1. Weak. Says nothing about
 * what it found: load again.
 */
#define weir_cas16_acq_rel(p, expected, desired) weir__cas16(p, expected, desired)

/* Bytes that one core takes from another at a time. Data that different CPUs write sits at least this
 * far apart; adjacent-line prefetch makes pairs of lines travel together on x86, hence WEIR_LINE_PAIR. */
#define WEIR_CACHE_LINE 64
#define WEIR_LINE_PAIR 128
#define WEIR_ALIGNED(bytes) __attribute__((aligned(bytes)))

#define weir_likely(condition) __builtin_expect(!!(condition), 1)
#define weir_unlikely(condition) __builtin_expect(!!(condition), 0)

/* Built with ThreadSanitizer? Then nothing may hide in inline assembly. */
#if defined(__SANITIZE_THREAD__)
#define WEIR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEIR_TSAN 1
#endif
#endif
#ifndef WEIR_TSAN
#define WEIR_TSAN 0
#endif

/* Can 16 bytes be compared and swapped without a lock? By instructions that ThreadSanitizer cannot see, so
 * not under it. */
#if (defined(__x86_64__) || defined(__aarch64__)) && !WEIR_TSAN
#define WEIR_CAS16 1

/* A 16-byte word as an operand of assembly. */
struct weir__word16 {
    uint64_t half[2];
} WEIR_ALIGNED(16);

/* What weir_cas16_acq_rel() is. (Not the compiler's builtin: gcc calls a library for it, which may take a
 * lock.) */
static inline bool weir__cas16_native(uint64_t *p, const uint64_t expected[2], const uint64_t desired[2])
{
    struct weir__word16 *word = (struct weir__word16 *)(void *)p;
#if defined(__x86_64__)
    bool done;
    uint64_t low = expected[0], high = expected[1];
    /* A locked instruction is a full barrier; "memory" keeps the compiler to it. */
    __asm__ __volatile__("lock cmpxchg16b %[word]"
                         : [word] "+m"(*word), "+a"(low), "+d"(high), "=@ccz"(done)
                         : "b"(desired[0]), "c"(desired[1])
                         : "memory");
    return done;
#else
    uint64_t low, high;
    uint32_t failed;
    __asm__ __volatile__("    ldaxp %[low], %[high], %[word]\n"
                         "    cmp %[low], %[old_low]\n"
                         "    ccmp %[high], %[old_high], #0, eq\n"
                         "    mov %w[failed], #1\n"
                         "    b.ne 1f\n"
                         "    stlxp %w[failed], %[new_low], %[new_high], %[word]\n"
                         "1:\n"
                         : [low] "=&r"(low), [high] "=&r"(high), [failed] "=&r"(failed), [word] "+Q"(*word)
                         : [old_low] "r"(expected[0]), [old_high] "r"(expected[1]), [new_low] "r"(desired[0]),
                           [new_high] "r"(desired[1])
                         : "cc", "memory");
    return failed == 0;
#endif
}
#else
#define WEIR_CAS16 0
#endif

/*
 * Tells the CPU that this is a spin-wait, for the sake of its sibling thread and the power bill.
 * Progress: wait-free. Callers: any context. Ordering: none. Memory: none.
 */
static inline void weir_cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    /* `yield` does nothing on most of them; this takes about as long as x86's pause. */
    __asm__ __volatile__("isb");
#elif defined(__arm__)
    __asm__ __volatile__("yield");
#endif
}

/*
 * What a compare-and-swap loop does after it has lost a race, before it loads again: it lets the winner, in
 * whose cache the line is now, get on undisturbed. Takes how often the caller has lost before, and returns
 * one more.
 *
 *     for (unsigned losses = 0;; losses = weir_backoff(losses)) {
 *         ... load, prepare ...
 *         if (weir_cas_release(...))
 *             return;
 *     }
 *
 * Waits WEIR_BACKOFF_MIN pauses after the first loss and twice as many after each further one, up to
 * WEIR_BACKOFF_MAX; define both to have it otherwise, as 0u for no wait. A pause is 10 to 50 ns, so the
 * first wait is about what 10 to 20 moves of the line cost: a run of operations on a line one already has,
 * instead of a move of the line for each. (T. E. Anderson, "The Performance of Spin Lock Alternatives",
 * IEEE TPDS 1990; measured by bench/primitives.)
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none.
 */
#ifndef WEIR_BACKOFF_MIN
#define WEIR_BACKOFF_MIN 64u
#define WEIR_BACKOFF_MAX 512u
#endif

static inline unsigned weir_backoff(unsigned losses)
{
    unsigned pauses = WEIR_BACKOFF_MIN << (losses < 16 ? losses : 16);
    for (pauses = pauses < WEIR_BACKOFF_MAX ? pauses : WEIR_BACKOFF_MAX; pauses != 0; pauses--)
        weir__pause();
    return losses + 1;
}

#endif /* WEIR_ATOMIC_H */
