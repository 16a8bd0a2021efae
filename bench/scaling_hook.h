/* SPDX-License-Identifier: MIT */
/*
 * scaling_hook.h - WEIR_ATOMIC_HOOK of weir-bench-scaling-count: every atomic operation of the library is
 * noted with its address before it is done. See weir/atomic.h.
 */
#ifndef BENCH_SCALING_HOOK_H
#define BENCH_SCALING_HOOK_H

enum access { ACCESS_LOAD, ACCESS_STORE, ACCESS_RMW };

void scaling_note(const volatile void *address, enum access access);

#define weir__load(p, order) (scaling_note((p), ACCESS_LOAD), __atomic_load_n((p), order))
#define weir__store(p, v, order) (scaling_note((p), ACCESS_STORE), __atomic_store_n((p), (v), order))
#define weir__xchg(p, v, order) (scaling_note((p), ACCESS_RMW), __atomic_exchange_n((p), (v), order))
#define weir__cas(p, expected, desired, order, failed)                                                       \
    (scaling_note((p), ACCESS_RMW), __atomic_compare_exchange_n((p), (expected), (desired), 1, order, failed))
#define weir__cas16(p, expected, desired)                                                                    \
    (scaling_note((p), ACCESS_RMW), weir__cas16_native((p), (expected), (desired)))
#define weir__fetch_add(p, v, order) (scaling_note((p), ACCESS_RMW), __atomic_fetch_add((p), (v), order))
#define weir__fetch_sub(p, v, order) (scaling_note((p), ACCESS_RMW), __atomic_fetch_sub((p), (v), order))
#define weir__fetch_and(p, v, order) (scaling_note((p), ACCESS_RMW), __atomic_fetch_and((p), (v), order))
#define weir__pause() weir_cpu_pause()

#endif /* BENCH_SCALING_HOOK_H */
