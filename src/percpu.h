/* SPDX-License-Identifier: MIT */
/*
 * percpu.h - private: what percpu_mode.c chose and percpu.c goes by.
 *
 * percpu_mode.c decides whether restartable sequences can be used, and sees to it that the kernel knows each
 * thread's struct rseq; percpu.c has the operations on slots.
 */
#ifndef PERCPU_H
#define PERCPU_H

#include "weir/percpu.h"

/* Written once, by weir_percpu_init(), before there is a slot. */
struct weir__percpu {
    enum weir_percpu_mode mode;
    uint32_t nr_cpus; /* CPUs below have a slot */
    uint32_t bound;   /* no CPU number the kernel shows is as high: at least nr_cpus */
    uint32_t wide;    /* the processor has registers of 32 bytes, and the system saves them (x86-64) */
};
extern struct weir__percpu weir__percpu;

static inline bool weir__use_rseq(void)
{
    return weir_likely(weir__percpu.mode == WEIR_PERCPU_RSEQ);
}

/* Makes the kernel restart the sequences of every CPU, or of one only: 0; -1 and errno. (By membarrier.) */
enum { WEIR__RESTART_ONE = 1 };
int weir__restart_sequences(unsigned flags, unsigned cpu);

/* Asks for the permission to do that; the child of a fork() inherits it. */
int weir__restart_register(void);

/* weir__percpu_put_more() in WEIR_PERCPU_LOCK. */
bool weir__percpu_put_more_locked(struct weir_percpu_slot *slots, void *object, size_t by, size_t most);

#if WEIR__RSEQ

/* The CPU number in the calling thread's struct rseq; -1 or -2 if the kernel does not know it. */
static inline int32_t weir__rseq_cpu(void)
{
    int32_t *cpu = (int32_t *)(void *)(weir__thread_pointer() + weir__rseq_area.offset + 4);
    return weir_load_relaxed(cpu); /* relaxed: written by the kernel on this CPU */
}

/* The capacity is stored before the commit: all that one which starts again has changed is how soon somebody
 * finds the magazine full. */
static inline bool weir__percpu_put_more_rseq(struct weir_percpu_slot *slots, void *object, size_t by,
                                              size_t most)
{
    uint64_t magazine, count, at, to;
    __asm__ __volatile__ goto(
        WEIR__SEQUENCE("magazine", "count", WEIR__RSEQ_PUT_MORE, "0b")
        : [magazine] "=&r"(magazine), [count] "=&r"(count), [at] "=&r"(at), [to] "=&r"(to)
        : WEIR__RSEQ_OPERANDS(slots), [object] "r"(object), [by] "r"(by), [most] "r"(most)
        : "memory", "cc"
        : none);
    __asm__ __volatile__("");
    return true;
none:
    return false;
}

/*
 * Adds one to the current CPU's word, of which `words` is CPU 0's, WEIR_PERCPU_STRIDE apart, if *state is
 * zero. False: it is not, or the CPU has none. Acquires *state; releases what was done before to who acquires
 * the word. Who writes *state and has sequences restarted finds all that has been added, and nothing is added
 * any more.
 */
static inline bool weir__percpu_tick(uint64_t *words, const uint32_t *state)
{
    struct weir_percpu_slot *slots = (struct weir_percpu_slot *)(void *)words;
    uint64_t slot, taken;
    __asm__ __volatile__ goto(
        WEIR__SEQUENCE("slot", "taken", WEIR__RSEQ_TICK, "0b")
        : [slot] "=&r"(slot), [taken] "=&r"(taken)
        : WEIR__RSEQ_OPERANDS(slots), [state] "r"(state), [nr_cpus] "r"(weir__percpu.nr_cpus)
        : "memory", "cc"
        : none);
    __asm__ __volatile__("");
    return true;
none:
    return false;
}

/* Tells the kernel of the calling thread's struct rseq, if that is weir's own and it does not know it yet.
 * True if that was it: what found no slot may be tried again. In any context. */
bool weir__rseq_register(void);

#else

#define weir__percpu_put_more_rseq weir__percpu_put_more_locked

static inline bool weir__percpu_tick(uint64_t *words, const uint32_t *state)
{
    (void)words, (void)state;
    return false;
}

static inline bool weir__rseq_register(void)
{
    return false;
}

#endif

/*
 * Puts an object into the current CPU's magazine though that has no room left, if this is because its capacity
 * was set below `most`: it is set to `by` more than there were in it, but to `most` at most. False: there are
 * `most`, there is no magazine, or the slot is busy (WEIR_PERCPU_LOCK only). Any context.
 */
static inline bool weir__percpu_put_more(struct weir_percpu_slot *slots, void *object, size_t by, size_t most)
{
    return weir__use_rseq() ? weir__percpu_put_more_rseq(slots, object, by, most)
                            : weir__percpu_put_more_locked(slots, object, by, most);
}

/* As weir_percpu_cpu(), which this calls if the thread is new, or the mode WEIR_PERCPU_LOCK. */
static inline unsigned weir__percpu_cpu(void)
{
#if WEIR__RSEQ
    if (weir__use_rseq()) {
        uint32_t number = (uint32_t)weir__rseq_cpu();
        if (weir_likely(number < weir__percpu.nr_cpus))
            return number;
    }
#endif
    return weir_percpu_cpu();
}

#endif /* PERCPU_H */
