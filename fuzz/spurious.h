/* SPDX-License-Identifier: MIT */
/*
 * A hook under weir/atomic.h (WEIR_ATOMIC_HOOK): compare-and-swaps fail for no reason, as a weak one may: the next
 * one if bit 0 of `fuzz_cas_failures` is set, the one after it if bit 1 is, and so on. So one thread runs through
 * the loops that otherwise only a lost race enters. The rest is what weir/atomic.h does itself; a pause does
 * nothing, since nobody is waited for.
 */
#ifndef FUZZ_SPURIOUS_H
#define FUZZ_SPURIOUS_H

extern unsigned fuzz_cas_failures;

static inline bool fuzz_cas_fails(void)
{
    bool fails = (fuzz_cas_failures & 1) != 0;
    fuzz_cas_failures >>= 1;
    return fails;
}

#define weir__load(p, order) __atomic_load_n((p), order)
#define weir__store(p, v, order) __atomic_store_n((p), (v), order)
#define weir__xchg(p, v, order) __atomic_exchange_n((p), (v), order)
#define weir__cas(p, expected, desired, order, failed)                                                       \
    (fuzz_cas_fails() ? (*(expected) = __atomic_load_n((p), failed), false)                                  \
                      : __atomic_compare_exchange_n((p), (expected), (desired), 1, order, failed))
#define weir__cas16(p, expected, desired)                                                                    \
    (!fuzz_cas_fails() && weir__cas16_native((p), (expected), (desired)))
#define weir__fetch_add(p, v, order) __atomic_fetch_add((p), (v), order)
#define weir__fetch_sub(p, v, order) __atomic_fetch_sub((p), (v), order)
#define weir__fetch_and(p, v, order) __atomic_fetch_and((p), (v), order)
#define weir__pause() ((void)0)

#endif /* FUZZ_SPURIOUS_H */
