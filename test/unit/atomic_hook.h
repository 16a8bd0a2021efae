/* SPDX-License-Identifier: MIT */
/*
 * WEIR_ATOMIC_HOOK of atomic_hook_test.c. It writes down which operations are used, and keeps shared memory in a code:
 * what a store leaves is not what a load gives. An access that goes round the hook reads or leaves nonsense.
 *
 * For one thread.
 */
#ifndef ATOMIC_HOOK_H
#define ATOMIC_HOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    char trace[4096];   /* names of the operations, each behind a blank */
    unsigned pauses;    /* not in the trace: there are many */
    unsigned fail_next; /* so many compare-and-swaps fail for no reason */
    void (*before_cas)(void);
} hook;

static inline void hook_note(const char *operation)
{
    size_t used = strlen(hook.trace);
    if (used + 16 > sizeof hook.trace) { /* a loop without end: something goes round the hook */
        fprintf(stderr, "it never ends:%.60s ...\n", hook.trace);
        abort();
    }
    snprintf(hook.trace + used, sizeof hook.trace - used, " %s", operation);
}

/* The code: all bits but the lowest are turned round, so that not even NULL is NULL. */
#define HOOK_CODE (~UINT64_C(1))

static inline uint64_t hook_get(const void *p, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, p, size);
    return (value ^ HOOK_CODE) & (UINT64_MAX >> (64 - 8 * size));
}

static inline void hook_set(void *p, size_t size, uint64_t value)
{
    value ^= HOOK_CODE;
    memcpy(p, &value, size);
}

static inline uint64_t hook_load(const void *p, size_t size)
{
    hook_note("load");
    return hook_get(p, size);
}

static inline void hook_store(void *p, size_t size, uint64_t value)
{
    hook_note("store");
    hook_set(p, size, value);
}

static inline uint64_t hook_modify(const char *operation, void *p, size_t size, uint64_t keep, uint64_t add)
{
    uint64_t old = hook_get(p, size);
    hook_note(operation);
    hook_set(p, size, (old & keep) + add);
    return old;
}

/* Does this compare-and-swap go on? */
static inline bool hook_enter_cas(const char *operation)
{
    void (*before)(void) = hook.before_cas;
    hook_note(operation);
    hook.before_cas = NULL;
    if (before != NULL)
        before();
    if (hook.fail_next == 0)
        return true;
    hook.fail_next--;
    return false;
}

static inline bool hook_cas(void *p, size_t size, void *expected, uint64_t desired)
{
    uint64_t found, wanted = 0;
    bool on = hook_enter_cas("cas");
    memcpy(&wanted, expected, size);
    found = hook_get(p, size);
    if (on && found == wanted) {
        hook_set(p, size, desired);
        return true;
    }
    memcpy(expected, &found, size);
    return false;
}

static inline bool hook_cas16(uint64_t *p, const uint64_t expected[2], const uint64_t desired[2])
{
    bool on = hook_enter_cas("cas16");
    if (!on || hook_get(&p[0], 8) != expected[0] || hook_get(&p[1], 8) != expected[1])
        return false;
    hook_set(&p[0], 8, desired[0]);
    hook_set(&p[1], 8, desired[1]);
    return true;
}

/* The type of *p without const. */
#define HOOK_TYPE(p) __typeof__(*(p) + 0)
#define HOOK_WORD(v) ((uint64_t)(uintptr_t)(v))

#define weir__load(p, order) ((void)(order), (HOOK_TYPE(p))(uintptr_t)hook_load((p), sizeof *(p)))
#define weir__store(p, v, order) ((void)(order), hook_store((p), sizeof *(p), HOOK_WORD(v)))
#define weir__xchg(p, v, order)                                                                              \
    ((void)(order), (HOOK_TYPE(p))(uintptr_t)hook_modify("xchg", (p), sizeof *(p), 0, HOOK_WORD(v)))
#define weir__cas(p, expected, desired, order, failed)                                                       \
    ((void)(order), (void)(failed), hook_cas((p), sizeof *(p), (expected), HOOK_WORD(desired)))
#define weir__cas16(p, expected, desired) hook_cas16((p), (expected), (desired))
#define weir__fetch_add(p, v, order)                                                                         \
    ((void)(order), (HOOK_TYPE(p))hook_modify("add", (p), sizeof *(p), UINT64_MAX, (v)))
#define weir__fetch_sub(p, v, order)                                                                         \
    ((void)(order), (HOOK_TYPE(p))hook_modify("sub", (p), sizeof *(p), UINT64_MAX, -(uint64_t)(v)))
#define weir__fetch_and(p, v, order)                                                                         \
    ((void)(order), (HOOK_TYPE(p))hook_modify("and", (p), sizeof *(p), (v), 0))
#define weir__pause() ((void)hook.pauses++)

#endif
