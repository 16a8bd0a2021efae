/* SPDX-License-Identifier: MIT */
/*
 * mutation_hook.h - what stands under weir/atomic.h in stress tests that carry a deliberate mistake (mutant.h).
 *
 * And the jitter mode: WEIR_JITTER=N gives the CPU away at every N-th access or so, which widens the windows in
 * which threads meet.
 */
#ifndef MUTATION_HOOK_H
#define MUTATION_HOOK_H

#pragma GCC system_header /* Statement expressions; names that shadow when operations are nested. */

#include <sched.h>

#include "mutant.h"

static unsigned mutation_jitter;

__attribute__((constructor)) static void mutation_read_jitter(void)
{
    const char *wanted = getenv("WEIR_JITTER");
    if (wanted != NULL && (sscanf(wanted, "%u", &mutation_jitter) != 1 || mutation_jitter == 0)) {
        fprintf(stderr, "WEIR_JITTER='%s' is not a number from 1 on\n", wanted);
        exit(2);
    }
}

static inline void mutation_before(void)
{
    static _Thread_local unsigned state;
    if (mutation_jitter == 0)
        return;
    if (state == 0)
        state = (unsigned)(uintptr_t)&state;
    state = state * 1664525 + 1013904223;
    if ((state >> 8) % mutation_jitter == 0)
        sched_yield();
}

#define MUTATION_ORDER(order) (mutation_before(), mutant_order(order, __FILE__, __LINE__))

#define weir__load(p, order)                                                                                 \
    __extension__({                                                                                          \
        __typeof__(p) mutation_p = (p);                                                                      \
        (__typeof__(*mutation_p))mutant_load(mutation_p, 0,                                                  \
                                             (uint64_t)__atomic_load_n(mutation_p, MUTATION_ORDER(order)),   \
                                             __FILE__, __LINE__);                                            \
    })
#define weir__store(p, v, order) __atomic_store_n((p), (v), MUTATION_ORDER(order))
#define weir__xchg(p, v, order) __atomic_exchange_n((p), (v), MUTATION_ORDER(order))
#define weir__cas(p, expected, desired, order, failed)                                                       \
    (__atomic_compare_exchange_n((p), (expected), (desired), 1, MUTATION_ORDER(order),                       \
                                 MUTATION_ORDER(failed)) ||                                                  \
     mutant_cut(__FILE__, __LINE__))
#define weir__cas16(p, expected, desired)                                                                    \
    (mutation_before(), weir__cas16_native((p), (expected), (desired)) || mutant_cut(__FILE__, __LINE__))
#define weir__fetch_add(p, v, order) __atomic_fetch_add((p), (v), MUTATION_ORDER(order))
#define weir__fetch_sub(p, v, order) __atomic_fetch_sub((p), (v), MUTATION_ORDER(order))
#define weir__fetch_and(p, v, order) __atomic_fetch_and((p), (v), MUTATION_ORDER(order))
#define weir__pause() weir_cpu_pause()

#endif
