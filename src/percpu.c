/* SPDX-License-Identifier: MIT */
/* percpu.c - the operations of weir/percpu.h that are too long to inline. percpu_mode.c chooses the mode. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "percpu.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct weir_magazine weir_percpu_none;

unsigned weir_percpu_cpu(void)
{
#if WEIR__RSEQ
    if (weir__use_rseq()) {
        int32_t number = weir__rseq_cpu();
        if (weir_unlikely(number < 0) && weir__rseq_register())
            number = weir__rseq_cpu();
        if (weir_likely((uint32_t)number < weir__percpu.nr_cpus))
            return (unsigned)number;
    }
#endif
    int cpu = sched_getcpu();
    return cpu < 0 || weir__percpu.nr_cpus == 0 ? 0 : (unsigned)cpu % weir__percpu.nr_cpus;
}

/*
 * Around the slots, others that hold weir_percpu_none for good: in front, for threads whose CPU number is -1
 * or -2; behind, for CPUs that have no slot, up to the highest number the kernel may show. So the fast paths
 * need not look at the number.
 */
enum { GUARDS = 2 };

static size_t bytes_with_guards(void)
{
    size_t numbers = weir__percpu.bound > weir__percpu.nr_cpus ? weir__percpu.bound : weir__percpu.nr_cpus;
    return (GUARDS + numbers) * WEIR_PERCPU_STRIDE;
}

static void fill(struct weir_magazine **from, void *end)
{
    while ((void *)from != end)
        *from++ = &weir_percpu_none;
}

void *weir_percpu_alloc(void)
{
    if (weir_percpu_init() != 0)
        return NULL;
    size_t bytes = bytes_with_guards();
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    char *first = memory + GUARDS * WEIR_PERCPU_STRIDE;
    char *end = first + (size_t)weir__percpu.nr_cpus * WEIR_PERCPU_STRIDE;
    fill((struct weir_magazine **)(void *)memory, first);
    fill((struct weir_magazine **)(void *)end, memory + bytes);
    return first;
}

void weir_percpu_free(void *percpu)
{
    if (percpu != NULL)
        munmap((char *)percpu - GUARDS * WEIR_PERCPU_STRIDE, bytes_with_guards());
}

static struct weir_percpu_slot *slot_of(struct weir_percpu_slot *slots, unsigned cpu)
{
    return (struct weir_percpu_slot *)(void *)((char *)slots + (size_t)cpu * WEIR_PERCPU_STRIDE);
}

void weir_percpu_slots_init(struct weir_percpu_slot *slots)
{
    for (unsigned cpu = 0; cpu < weir__percpu.nr_cpus; cpu++)
        *slot_of(slots, cpu) = (struct weir_percpu_slot){&weir_percpu_none, &weir_percpu_none, 0};
}

/* Acquire: pairs with the release in unlock(). */
static bool try_lock(struct weir_percpu_slot *slot)
{
    return weir_xchg_acquire(&slot->busy, 1u) == 0;
}

/* The current CPU's slot, locked; NULL if somebody else holds it. */
static struct weir_percpu_slot *try_lock_mine(struct weir_percpu_slot *slots)
{
    struct weir_percpu_slot *slot = slot_of(slots, weir_percpu_cpu());
    return try_lock(slot) ? slot : NULL;
}

static void unlock(struct weir_percpu_slot *slot)
{
    weir_store_release(&slot->busy, 0u); /* pairs with try_lock()'s acquire */
}

void *weir__percpu_get_locked(struct weir_percpu_slot *slots)
{
    void *object;
    if (weir__use_rseq())
        return weir__rseq_register() && weir__percpu_get_fast(slots, &object) ? object : NULL;
    struct weir_percpu_slot *slot = try_lock_mine(slots);
    if (slot == NULL)
        return NULL;
    object = weir_magazine_get(slot->locked);
    unlock(slot);
    return object;
}

bool weir__percpu_put_locked(struct weir_percpu_slot *slots, void *object)
{
    if (weir__use_rseq())
        return weir__rseq_register() && weir__percpu_put_fast(slots, object);
    struct weir_percpu_slot *slot = try_lock_mine(slots);
    if (slot == NULL)
        return false;
    bool done = weir_magazine_put(slot->locked, object);
    unlock(slot);
    return done;
}

/* Where the portable code copies: the last n of the magazine's objects, in the order they lie there. */
static __attribute__((noinline)) size_t get_n_locked(struct weir_percpu_slot *slots, size_t n,
                                                     void *objects[])
{
    struct weir_percpu_slot *slot = try_lock_mine(slots);
    if (slot == NULL)
        return 0;
    struct weir_magazine *magazine = slot->locked;
    if (n > magazine->count)
        n = magazine->count;
    if (n != 0) { /* weir_percpu_none is never written */
        weir__magazine_set_count(magazine, magazine->count - (uint32_t)n);
        memcpy(objects, weir_magazine_objects(magazine) + magazine->count, n * sizeof objects[0]);
    }
    unlock(slot);
    return n;
}

static __attribute__((noinline)) size_t put_n_locked(struct weir_percpu_slot *slots, size_t n,
                                                     void *const objects[])
{
    struct weir_percpu_slot *slot = try_lock_mine(slots);
    if (slot == NULL)
        return 0;
    struct weir_magazine *magazine = slot->locked;
    size_t room = magazine->capacity - magazine->count, put = n < room ? n : room;
    if (put != 0) {
        memcpy(weir_magazine_objects(magazine) + magazine->count, objects + (n - put),
               put * sizeof objects[0]);
        weir__magazine_set_count(magazine, magazine->count + (uint32_t)put);
    }
    unlock(slot);
    return put;
}

bool weir__percpu_put_more_locked(struct weir_percpu_slot *slots, void *object, size_t by, size_t most)
{
    struct weir_percpu_slot *slot = try_lock_mine(slots);
    if (slot == NULL)
        return false;
    struct weir_magazine *magazine = slot->locked;
    size_t count = magazine->count, capacity = by < most - count ? count + by : most;
    bool more = magazine->capacity != 0 && count < capacity; /* weir_percpu_none is never written */
    if (more) {
        magazine->capacity = (uint32_t)capacity;
        weir_magazine_put(magazine, object);
    }
    unlock(slot);
    return more;
}

static bool exchange_locked(struct weir_percpu_slot *slots, struct weir_magazine *magazine,
                            struct weir_magazine **old)
{
    struct weir_percpu_slot *slot = try_lock_mine(slots);
    if (slot == NULL)
        return false;
    *old = slot->locked;
    slot->locked = magazine;
    unlock(slot);
    return true;
}

#if WEIR__RSEQ

static size_t get_n_rseq(struct weir_percpu_slot *slots, size_t most, void *objects[])
{
    uint64_t magazine, count, from, to, at, n;
    __asm__ __volatile__ goto(
        WEIR__SEQUENCE("magazine", "count", WEIR__RSEQ_GET_N, "0b")
        : [magazine] "=&r"(magazine), [count] "=&r"(count), [from] "=&r"(from), [to] "=&r"(to),
          [at] "=&r"(at), [n] "=&r"(n)
        : WEIR__RSEQ_OPERANDS(slots), [most] "r"(most), [objects] "r"(objects), [wide] "r"(weir__percpu.wide)
        : "memory", "cc", WEIR__RSEQ_COPY_CLOBBERS
        : none);
    __asm__ __volatile__("");
    return n;
none:
    return 0;
}

static size_t put_n_rseq(struct weir_percpu_slot *slots, size_t most, void *const objects[])
{
    uint64_t magazine, count, from, to, at, n;
    __asm__ __volatile__ goto(
        WEIR__SEQUENCE("magazine", "count", WEIR__RSEQ_PUT_N, "0b")
        : [magazine] "=&r"(magazine), [count] "=&r"(count), [from] "=&r"(from), [to] "=&r"(to),
          [at] "=&r"(at), [n] "=&r"(n)
        : WEIR__RSEQ_OPERANDS(slots), [most] "r"(most), [objects] "r"(objects), [wide] "r"(weir__percpu.wide)
        : "memory", "cc", WEIR__RSEQ_COPY_CLOBBERS
        : none);
    __asm__ __volatile__("");
    return n;
none:
    return 0;
}

/* The commit is an exchange, not a store: a detach on another CPU may hit the same slot at the same time, and
 * only one of them must get what is in it. Acquires and releases: pairs with weir_percpu_detach(). */
static bool exchange_rseq(struct weir_percpu_slot *slots, struct weir_magazine *magazine,
                          struct weir_magazine **old)
{
    uint64_t slot, failed;
    struct weir_magazine *taken;
    __asm__ __volatile__ goto(
        WEIR__SEQUENCE("slot", "taken", WEIR__RSEQ_EXCHANGE, "0b") WEIR__RSEQ_EXCHANGE_AFTER
        : [slot] "=&r"(slot), [taken] "=&r"(taken)WEIR__RSEQ_EXCHANGE_SCRATCH(failed)
        : WEIR__RSEQ_OPERANDS(slots), [magazine] "r"(magazine), [nr_cpus] "r"(weir__percpu.nr_cpus)
        : "memory", "cc"
        : none);
    __asm__ __volatile__("");
    (void)failed;
    *old = taken;
    return true;
none:
    return false;
}

#else

#define get_n_rseq get_n_locked
#define put_n_rseq put_n_locked
#define exchange_rseq exchange_locked

#endif

/* Apart, so that the usual way has no registers to save. */
static __attribute__((noinline, cold)) size_t get_n_again(struct weir_percpu_slot *slots, size_t n,
                                                          void *objects[])
{
    return weir__rseq_register() ? weir_percpu_get_n(slots, n, objects) : 0;
}

static __attribute__((noinline, cold)) size_t put_n_again(struct weir_percpu_slot *slots, size_t n,
                                                          void *const objects[])
{
    return weir__rseq_register() ? weir_percpu_put_n(slots, n, objects) : 0;
}

size_t weir_percpu_get_n(struct weir_percpu_slot *slots, size_t n, void *objects[])
{
    if (!weir__use_rseq())
        return get_n_locked(slots, n, objects);
    size_t got = get_n_rseq(slots, n, objects);
    return weir_likely(got != 0) ? got : get_n_again(slots, n, objects);
}

size_t weir_percpu_put_n(struct weir_percpu_slot *slots, size_t n, void *const objects[])
{
    if (!weir__use_rseq())
        return put_n_locked(slots, n, objects);
    size_t put = put_n_rseq(slots, n, objects);
    return weir_likely(put != 0) ? put : put_n_again(slots, n, objects);
}

bool weir_percpu_exchange(struct weir_percpu_slot *slots, struct weir_magazine *magazine,
                          struct weir_magazine **old)
{
    if (!weir__use_rseq())
        return exchange_locked(slots, magazine, old);
    bool done;
    do
        done = exchange_rseq(slots, magazine, old);
    while (!done && weir__rseq_register());
    return done;
}

struct weir_magazine *weir_percpu_detach(struct weir_percpu_slot *slots, unsigned cpu)
{
    struct weir_percpu_slot *slot = slot_of(slots, cpu);
    if (weir__use_rseq())
        /* Acquire: pairs with the exchange that put the magazine there. */
        return weir_xchg_acq_rel(&slot->magazine, &weir_percpu_none);
    if (!try_lock(slot))
        return NULL;
    struct weir_magazine *magazine = slot->locked;
    slot->locked = &weir_percpu_none;
    unlock(slot);
    return magazine;
}

size_t weir_percpu_count(struct weir_percpu_slot *slots, unsigned cpu)
{
    struct weir_percpu_slot *slot = slot_of(slots, cpu);
    /* The memory of a magazine that has gone may be used for something else: only a count read while it was
     * in the slot counts. Whoever exchanges them that fast is asked in vain. */
    for (unsigned tries = 0; weir__use_rseq(); tries++) {
        struct weir_magazine *magazine = weir_load_acquire(&slot->magazine);
        size_t count = weir_load_acquire(&magazine->count); /* acquire: before the next look */
        if (weir_load_relaxed(&slot->magazine) == magazine)
            return count;
        if (tries == 8)
            return 0;
    }
    if (!try_lock(slot))
        return 0;
    size_t count = slot->locked->count;
    unlock(slot);
    return count;
}

/*
 * Going on without it could hand an object out twice. So: short of memory, try again; not registered any more
 * (a process that was restored from a checkpoint), register and try again; not allowed any more (a filter of
 * system calls set up after weir_percpu_init()), stop.
 */
static void settle(unsigned flags, unsigned cpu)
{
    while (weir__use_rseq() && weir__restart_sequences(flags, cpu) != 0) {
        if (errno != ENOMEM && (errno != EPERM || weir__restart_register() != 0)) {
            fprintf(stderr, "weir: membarrier worked once and does not any more: %s\n", strerror(errno));
            abort();
        }
        sched_yield();
    }
}

void weir_percpu_settle(void)
{
    settle(0, 0);
}

void weir_percpu_settle_cpu(unsigned cpu)
{
    settle(WEIR__RESTART_ONE, cpu);
}
