/* SPDX-License-Identifier: MIT */
/*
 * weir/atomic.h - short names for the atomic operations weir is built from.
 *
 *     static unsigned hits;
 *     weir_fetch_add_relaxed(&hits, 1);
 *
 * Each name says what it does and what it orders: weir_load_acquire(), weir_xchg_acq_rel(). The
 * argument is a pointer to an ordinary integer or pointer object; the operations are the compiler's
 * __atomic builtins and nothing else, so that ThreadSanitizer sees every one of them.
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

#define weir_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define weir_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)

#define weir_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define weir_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

#define weir_xchg_relaxed(p, v) __atomic_exchange_n((p), (v), __ATOMIC_RELAXED)
#define weir_xchg_acquire(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE)
#define weir_xchg_release(p, v) __atomic_exchange_n((p), (v), __ATOMIC_RELEASE)
#define weir_xchg_acq_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)

/*
 * Compare and swap: true when *p held *expected and now holds desired; false after putting the value
 * found into *expected. Weak, that is, it may fail for no reason: call it in a loop.
 * The value found by a failed weir_cas_acquire or weir_cas_acq_rel may be dereferenced (acquire);
 * the one found by a failed weir_cas_relaxed or weir_cas_release may only be compared or stored.
 */
#define weir_cas_relaxed(p, expected, desired)                                                               \
    __atomic_compare_exchange_n((p), (expected), (desired), 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#define weir_cas_acquire(p, expected, desired)                                                               \
    __atomic_compare_exchange_n((p), (expected), (desired), 1, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)
#define weir_cas_release(p, expected, desired)                                                               \
    __atomic_compare_exchange_n((p), (expected), (desired), 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED)
#define weir_cas_acq_rel(p, expected, desired)                                                               \
    __atomic_compare_exchange_n((p), (expected), (desired), 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/* Fetch and modify: the value before the operation. */
#define weir_fetch_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define weir_fetch_add_acquire(p, v) __atomic_fetch_add((p), (v), __ATOMIC_ACQUIRE)
#define weir_fetch_add_release(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELEASE)
#define weir_fetch_add_acq_rel(p, v) __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)
#define weir_fetch_sub_relaxed(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define weir_fetch_sub_release(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELEASE)
#define weir_fetch_sub_acq_rel(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
#define weir_fetch_and_release(p, v) __atomic_fetch_and((p), (v), __ATOMIC_RELEASE)

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

/*
 * Tells the CPU that this is a spin-wait, for the sake of its sibling thread and the power bill.
 * Progress: wait-free. Callers: any context. Ordering: none. Memory: none.
 */
static inline void weir_cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ __volatile__("yield");
#endif
}

#endif /* WEIR_ATOMIC_H */
