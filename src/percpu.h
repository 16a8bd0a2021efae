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

#if WEIR__RSEQ

/* The CPU number in the calling thread's struct rseq; -1 or -2 if the kernel does not know it. */
static inline int32_t weir__rseq_cpu(void)
{
    int32_t *cpu = (int32_t *)(void *)(weir__thread_pointer() + weir__rseq_area.offset + 4);
    return weir_load_relaxed(cpu); /* relaxed: written by the kernel on this CPU */
}

/* Tells the kernel of the calling thread's struct rseq, if that is weir's own and it does not know it yet.
 * True if that was it: what found no slot may be tried again. In any context. */
bool weir__rseq_register(void);

#else

static inline bool weir__rseq_register(void)
{
    return false;
}

#endif

#endif /* PERCPU_H */
