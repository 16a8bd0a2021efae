/* SPDX-License-Identifier: MIT */
/* drain_threads.h - between the thread that drains and the threads that are drained. */
#ifndef BENCH_DRAIN_THREADS_H
#define BENCH_DRAIN_THREADS_H

#include "drain.h"

#define CAPACITY 124 /* of a magazine */
#define MARKS (2 * PAIRS_OF_SLICES + 1)

/* What it has done up to the end of a slice, and when; and when the next one began. */
struct mark {
    double end, start, refill_seconds;
    uint64_t operations, steps, refills, refilled;
    uint64_t voluntary, involuntary;
};

struct drain_shared {
    struct weir_cache *cache;
    struct drain_results *results;
    enum mix mix;
    unsigned quiescent_every; /* steps */
    struct spin_result *spin; /* the one that looks at the clock */
    struct mark mark[MARKS + 1];
    uint32_t slice WEIR_ALIGNED(WEIR_LINE_PAIR); /* which it is; MARKS: the end */
    uint32_t seen WEIR_ALIGNED(WEIR_LINE_PAIR);  /* by the busy thread; it starts at 0 */
};

extern struct drain_shared drain_shared;

/* drain_busy.c: thread functions. */
void *drain_busy_main(void *unused);
void *drain_spin_main(void *unused);
void *drain_fast_main(void *fast_result);

/* The backend; and, at the end, whether everything that was handed out has come back, once. */
extern const struct weir_cache_ops drain_backend;
bool drain_backend_is_even(uint64_t *handed_out, uint64_t *taken_back);

/* Grace periods of the program's own, if `own`: a source; else readers are liburcu's. */
void drain_readers(bool own);
extern const struct weir_grace_source drain_own_source;

void drain_calibrate(void);

#endif /* BENCH_DRAIN_THREADS_H */
