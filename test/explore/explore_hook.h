/* SPDX-License-Identifier: MIT */
/* explore_hook.h - what stands under weir/atomic.h in programs for the explorer (WEIR_ATOMIC_HOOK). */
#ifndef EXPLORE_HOOK_H
#define EXPLORE_HOOK_H

#pragma GCC system_header /* Statement expressions; names that shadow when operations are nested. */

#include "explore.h"
#include "../mutation/mutant.h"

#define EXPLORE_ORDER(order) mutant_order(order, __FILE__, __LINE__)
#define EXPLORE_BEFORE(operation, order, p) explore_before(operation, order, (p), __FILE__, __LINE__)

#define weir__load(p, order)                                                                                 \
    __extension__({                                                                                          \
        __typeof__(p) explore_p = (p);                                                                       \
        const int explore_o = EXPLORE_ORDER(order);                                                          \
        EXPLORE_BEFORE("load", explore_o, explore_p);                                                        \
        uint64_t explore_v =                                                                                 \
            explore_loaded((uint64_t)__atomic_load_n(explore_p, __ATOMIC_RELAXED), explore_o);               \
        explore_v = mutant_load(explore_p, explore_self(), explore_v, __FILE__, __LINE__);                   \
        explore_after(explore_v, true);                                                                      \
        (__typeof__(*explore_p))explore_v;                                                                   \
    })

#define weir__store(p, v, order)                                                                             \
    __extension__({                                                                                          \
        __typeof__(p) explore_p = (p);                                                                       \
        __typeof__(*explore_p) explore_v = (v);                                                              \
        const int explore_o = EXPLORE_ORDER(order);                                                          \
        EXPLORE_BEFORE("store", explore_o, explore_p);                                                       \
        __atomic_store_n(explore_p, explore_v, __ATOMIC_RELAXED);                                            \
        explore_stored((uint64_t)explore_v, explore_o);                                                      \
        explore_after((uint64_t)explore_v, true);                                                            \
    })

#define EXPLORE_RMW(name, builtin, p, v, order)                                                              \
    __extension__({                                                                                          \
        __typeof__(p) explore_p = (p);                                                                       \
        __typeof__(*explore_p) explore_v = (v);                                                              \
        const int explore_o = EXPLORE_ORDER(order);                                                          \
        EXPLORE_BEFORE(name, explore_o, explore_p);                                                          \
        explore_v = builtin(explore_p, explore_v, __ATOMIC_RELAXED);                                         \
        explore_modified((uint64_t)__atomic_load_n(explore_p, __ATOMIC_RELAXED), explore_o);                 \
        explore_after((uint64_t)explore_v, true);                                                            \
        explore_v;                                                                                           \
    })

#define weir__xchg(p, v, order) EXPLORE_RMW("xchg", __atomic_exchange_n, p, v, order)
#define weir__fetch_add(p, v, order) EXPLORE_RMW("fetch_add", __atomic_fetch_add, p, v, order)
#define weir__fetch_sub(p, v, order) EXPLORE_RMW("fetch_sub", __atomic_fetch_sub, p, v, order)
#define weir__fetch_and(p, v, order) EXPLORE_RMW("fetch_and", __atomic_fetch_and, p, v, order)

#define weir__cas(p, expected, desired, order, failed)                                                       \
    __extension__({                                                                                          \
        __typeof__(p) explore_p = (p);                                                                       \
        __typeof__(*explore_p) explore_v = (desired);                                                        \
        const int explore_o = EXPLORE_ORDER(order);                                                          \
        EXPLORE_BEFORE("cas", explore_o, explore_p);                                                         \
        bool explore_done =                                                                                  \
            !explore_spurious() && __atomic_compare_exchange_n(explore_p, (expected), explore_v, 0,          \
                                                               __ATOMIC_RELAXED, __ATOMIC_RELAXED);          \
        if (explore_done)                                                                                    \
            explore_modified((uint64_t)explore_v, explore_o);                                                \
        else                                                                                                 \
            explore_compared(EXPLORE_ORDER(failed));                                                         \
        explore_after((uint64_t)explore_v, explore_done);                                                    \
        explore_done || mutant_cut(__FILE__, __LINE__);                                                      \
    })

/* Two words at once. What it finds when it fails it does not say. */
#define weir__cas16(p, expected, desired)                                                                    \
    __extension__({                                                                                          \
        EXPLORE_BEFORE("cas16", __ATOMIC_ACQ_REL, &(p)[1]);                                                  \
        explore_touch(&(p)[0]);                                                                              \
        bool explore_done = !explore_spurious() && (p)[0] == (expected)[0] && (p)[1] == (expected)[1];       \
        if (explore_done) {                                                                                  \
            (p)[0] = (desired)[0];                                                                           \
            (p)[1] = (desired)[1];                                                                           \
            explore_modified_pair(p);                                                                        \
        }                                                                                                    \
        explore_after((desired)[0], explore_done);                                                           \
        explore_done || mutant_cut(__FILE__, __LINE__);                                                      \
    })

/* Waiting takes no time here. */
#define weir__pause() ((void)0)

#endif
