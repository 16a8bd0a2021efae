/* SPDX-License-Identifier: MIT */
/*
 * WEIR_ATOMIC_HOOK of the tests of misuse: the operations are the real ones, but before one of them something else can
 * happen, as if another thread had done it.
 */
#ifndef MISUSE_HOOK_H
#define MISUSE_HOOK_H

#include <stddef.h>

static struct {
    void (*before_cas)(void);  /* before the next compare-and-swap */
    void (*before_load)(void); /* before the next load of */
    const void *loaded;
} misuse;

static inline void misuse_enter(void (**step)(void))
{
    void (*now)(void) = *step;
    *step = NULL;
    if (now != NULL)
        now();
}

static inline void misuse_enter_load(const void *p)
{
    if (p == misuse.loaded)
        misuse_enter(&misuse.before_load);
}

#define weir__load(p, order) (misuse_enter_load(p), __atomic_load_n((p), order))
#define weir__store(p, v, order) __atomic_store_n((p), (v), order)
#define weir__xchg(p, v, order) __atomic_exchange_n((p), (v), order)
#define weir__cas(p, expected, desired, order, failed)                                                       \
    (misuse_enter(&misuse.before_cas),                                                                       \
     __atomic_compare_exchange_n((p), (expected), (desired), 1, order, failed))
#define weir__cas16(p, expected, desired)                                                                    \
    (misuse_enter(&misuse.before_cas), weir__cas16_native((p), (expected), (desired)))
#define weir__fetch_add(p, v, order) __atomic_fetch_add((p), (v), order)
#define weir__fetch_sub(p, v, order) __atomic_fetch_sub((p), (v), order)
#define weir__fetch_and(p, v, order) __atomic_fetch_and((p), (v), order)
#define weir__pause() weir_cpu_pause()

#endif
