/* SPDX-License-Identifier: MIT */
/*
 * drain.h - how to empty another CPU's cache without interrupting it: what the parts of weir-bench-drain
 * share.
 *
 * A process per per-CPU mode, because a process chooses it once. Its main thread stays on one CPU and drains
 * (or, as a control, only wakes up as often); a busy thread on another CPU is who gets drained. A turn is one
 * way of draining and one thing that the busy thread does, for some slices of time; turns are taken round by
 * round.
 */
#ifndef BENCH_DRAIN_H
#define BENCH_DRAIN_H

#include "bench.h"
#include "weir/cache.h"

#define DRAIN_ROUNDS_MAX 50
#define PAIRS_OF_SLICES 20 /* in a turn: one without and one with drains */
#define LATENCIES_MAX (1u << 17)
#define BULK 32

enum process { RSEQ, LOCK, OWN_SOURCE /* rseq, and grace periods of the program's own */, PROCESSES };

/* How it is drained, and how often the busy thread says that it is quiescent. */
enum way { NOBODY, QUIET, QUIET_16, QUIET_64, QUIET_256, QUIET_OWN, EXPEDITED, LOCKED, WAYS };

struct way_type {
    const char *id, *name;
    enum process process;
    bool drains;
    enum weir_drain how;
    unsigned quiescent_every; /* steps of the busy thread */
    bool pairs_only;          /* the rest is not measured */
};

extern const struct way_type drain_ways[WAYS];

/* What the busy thread does with the cache: alloc and free one object; or hold more objects and fewer, up
 * to two magazines of them, a random number of allocs and then of frees. */
enum mix { PAIRS, SWINGS, MIXES };

/* One alloc and one free, in nanoseconds; [1]: objects of a bulk of 32, each. */
struct fast_result {
    double cache[2][DRAIN_ROUNDS_MAX], lifo[2][DRAIN_ROUNDS_MAX];
};

/* Slices with and without drains, side by side. */
struct slices_result {
    unsigned pairs;
    double ratio[ROUNDS_MAX];                     /* time per operation with drains, to without, less one */
    double without[ROUNDS_MAX], with[ROUNDS_MAX]; /* nanoseconds per alloc and free */
    double seconds;                               /* of the slices with drains; the rest: in them */
    uint64_t drains, empty, objects;              /* drains that found nothing; objects in the others */
    uint64_t refills, refilled;           /* calls of the backend by the busy thread, and objects it got */
    double refill_seconds, drain_seconds; /* drain_seconds: as `seconds`, by the draining thread's clock */
    double quiescent_every;               /* seconds, without drains */
    uint64_t voluntary, involuntary, voluntary_without, involuntary_without; /* context switches */
};

/* Gaps of at least a microsecond, by length: GAP_STEPS buckets for each power of two. */
#define GAP_STEPS 4
#define GAP_BUCKETS (20 * GAP_STEPS)
#define GAP_FACTOR 1.189207115002721 /* the fourth root of 2 */

/* A thread that does nothing but look at the clock. */
struct spin_result {
    double seconds;
    uint64_t looks, gaps, bucket[DRAIN_ROUNDS_MAX][GAP_BUCKETS];
    double lost, longest;  /* in gaps; seconds */
    double refill_seconds; /* in its own use of the cache, which is not among the gaps */
    uint64_t drains, voluntary, involuntary;
    uint64_t interrupts, calls; /* of that CPU, all kinds; "function call interrupts" */
    double gaps_per_second[DRAIN_ROUNDS_MAX], lost_per_second[DRAIN_ROUNDS_MAX];
    double involuntary_per_second[DRAIN_ROUNDS_MAX], calls_per_second[DRAIN_ROUNDS_MAX];
    double turn_seconds[DRAIN_ROUNDS_MAX];
    unsigned turns;
};

struct way_result {
    struct slices_result slices[MIXES];
    struct spin_result spin;
    unsigned latencies;
    float latency[LATENCIES_MAX]; /* microseconds */
};

/* Lives in memory that the children and the parent share. */
struct drain_results {
    /* filled in before */
    unsigned slice, rate; /* milliseconds; drains per second */
    unsigned busy_cpu, drainer_cpu;
    unsigned round;
    /* by the children */
    char missing[PROCESSES][160]; /* why it is not here; empty: it is */
    char failure[160];            /* an object was lost or handed out twice */
    struct fast_result fast[PROCESSES];
    struct way_result way[WAYS];
    bool interrupts_known;
    /* by the parent */
    unsigned rounds, repeated; /* turns that did not count */
    double seconds;
    struct noise noise;
};

struct drain_options {
    unsigned rounds, slice, rate;
    unsigned patience;         /* seconds: for turns that others disturbed, and that are taken again */
    int busy_cpu, drainer_cpu; /* negative: the last and the first that the process may use */
    bool json, markdown;
    const char *out;
};

/* drain_child.c. A turn's request is one character. */
enum turn { TURN_BEGIN, TURN_FAST, TURN_SLICES, TURN_SPIN, TURN_END };
static inline char turn_encode(enum turn turn, enum way way, enum mix mix)
{
    return (char)(1 + ((turn * WAYS + way) * MIXES + mix));
}

struct drain_child {
    struct drain_results *results;
    enum process process;
};
void drain_child(void *arg);
/* Keeps the calling thread on a CPU, whatever it was on before; false: it cannot be there. */
bool drain_pin(unsigned cpu);

/* drain_summary.c: the targets. */
struct drain_goal {
    char figure[80], target[32];
    double value, low, high; /* low, high: between what half of the figures lie */
    enum verdict_state state;
};
#define DRAIN_GOALS_MAX 8
unsigned drain_summary(struct drain_goal goals[DRAIN_GOALS_MAX], const struct drain_results *results);

/* Microseconds; sorts them. `share` of the drains took at most that long. */
double drain_latency(const struct way_result *way, double share);

/* drain_report.c */
void drain_report(FILE *to, const struct drain_results *results, const struct machine *machine);
void drain_markdown(FILE *to, const struct drain_results *results, const struct machine *machine);
void drain_json(FILE *to, const struct drain_results *results, const struct machine *machine);
/* For drain.gp. */
void drain_data(FILE *to, const struct drain_results *results);

#endif /* BENCH_DRAIN_H */
