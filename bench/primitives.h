/* SPDX-License-Identifier: MIT */
/*
 * primitives.h - floor 1 beside its peers: what the parts of weir-bench-primitives share.
 *
 * A contender is a structure with its operations; a job is what its threads do, for how many nodes at a time; a
 * cell is one contender doing one job for some milliseconds. The loops are in primitives_loop.h, one for each
 * workload, inlined with each contender's operations.
 */
#ifndef BENCH_PRIMITIVES_H
#define BENCH_PRIMITIVES_H

#include <pthread.h>

#include "bench.h"

#define WORKERS_MAX 8
#define TAKE_EVERY 64     /* adds: then the thread takes all */
#define BATCH_NODES 256   /* nodes that a thread adds in batches: then it takes all */
#define FILL_FOR_PAIRS 64 /* nodes in the structure before pairs begin */
#define FILL_FOR_BULK ((WORKERS_MAX + 1) * BATCH_NODES)
#define PLACE_BYTES 4096

/* A line of its own. Contenders see the same memory as a node of their own type. */
struct node {
    struct node *next;
} __attribute__((aligned(64), may_alias));

enum workload {
    ADD_TAKE,  /* add one by one, take all after every TAKE_EVERY */
    ADD_BATCH, /* add `batch` nodes at once, take all after every BATCH_NODES */
    PAIR,      /* push a node, pop one */
    BULK,      /* pop `batch` nodes, push them back */
    WORKLOADS
};

struct job {
    enum workload workload;
    unsigned batch, threads;
};

struct cell {
    uint64_t operations;    /* adds, pairs, or nodes popped and pushed back: of all threads */
    double seconds;         /* of one thread: without the time in which others had its CPU */
    double slowest;         /* operations of the thread that did fewest, as a share of an even one */
    uint64_t refused;       /* removals that got nothing although there was something */
    double refused_longest; /* seconds that a thread went on getting nothing */
    char failure[128];      /* empty: it ran, and no node was lost */
};

struct worker {
    void *structure;
    struct node *nodes; /* its own: BATCH_NODES; of a pair: one */
    unsigned batch;
    const uint32_t *stop;
    uint64_t operations, refused;
    double refused_longest;
    double start, end, cpu; /* seconds; cpu: that it has had a CPU */
    unsigned number;
    size_t counted;
    pthread_t thread;
    struct crew *crew;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

enum kind { WEIR, PEER, DESIGN };

struct contender_type {
    const char *id, *name;
    enum kind kind;
    bool on_request; /* with --peers only */
    int elsewhere;   /* not 0: a contender of DPDK's program, counted from 1; then the rest is not here */
    /* Makes it empty, in PLACE_BYTES zeroed bytes aligned to 128, or elsewhere. */
    void *(*open)(void *place);
    void (*put)(void *structure, struct node *node);
    /* Several, linked; NULL: it has no such operation. */
    void (*put_batch)(void *structure, struct node *first, struct node *last);
    /* Takes everything, counted. May be called by several threads if the structure has ADD_TAKE. */
    size_t (*drain)(void *structure);
    void (*run[WORKLOADS])(struct worker *worker); /* NULL: it has no such operation */
};

/* primitives_cell.c: runs one cell. */
void cell_run(struct cell *cell, const struct contender_type *contender, const struct job *job,
              unsigned milliseconds, const struct machine *machine);
/* Threads add nodes and count what they take, which must be the same number. Not timed. */
void cell_check(struct cell *cell, const struct contender_type *contender, unsigned threads,
                const struct machine *machine);

/* The contenders. */
extern const struct contender_type weir_llist_add_one, weir_llist_batch, weir_llist_link, weir_stack_wide,
    weir_pool_wide, weir_stack_packed, weir_pool_packed;
extern const struct contender_type lfstack_inlined, lfstack_called, wfstack_inlined, wfstack_called;
extern const struct contender_type ck_upmc, ck_mpmc;
extern const struct contender_type mutex_list;
extern const struct contender_type design_counter, design_stash, design_mutex;

/* A job for DPDK's program, and which of its contenders does it, as a character. */
static inline char job_encode(const struct job *job, int contender)
{
    unsigned threads = (unsigned)__builtin_ctz(job->threads), batch = (unsigned)__builtin_ctz(job->batch) / 2;
    return (char)(((contender - 1) << 6 | (job->workload == BULK) << 5 | (int)(threads << 3 | batch)) + 1);
}

static inline struct job job_decode(char code, int *contender)
{
    unsigned bits = (unsigned char)code - 1u;
    *contender = (int)(bits >> 6) + 1;
    return (struct job){bits & 32 ? BULK : PAIR, 1u << (bits & 7) * 2, 1u << (bits >> 3 & 3)};
}

/* --- results --- */

#define COLUMNS_MAX 5
#define ROWS_MAX 12

/* What a table's ratios are to: the best peer in the same column; the list's single adds; weir_pool. */
enum compared { TO_BEST_PEER, TO_SINGLE_ADDS, TO_WEIR_POOL };

struct table {
    const char *id;
    const char *option; /* of --workload */
    const char *title, *note;
    bool time; /* nanoseconds per operation instead of millions per second */
    enum compared compared;
    unsigned columns;
    struct job job[COLUMNS_MAX];
    const struct contender_type *row[ROWS_MAX]; /* ends with NULL */
};

struct primitives_options {
    unsigned rounds, milliseconds;
    bool peers, json, markdown;
    const char *out, *workload; /* NULL: all */
};

struct table_result {
    const struct table *table;
    char missing[ROWS_MAX][160]; /* why the row's contender is not here */
    struct cell *cells;          /* [round][row][column] */
};

#define TABLES 9
extern const struct table primitives_tables[TABLES];

struct primitives_results {
    const struct primitives_options *options;
    const struct machine *machine;
    unsigned rounds;
    struct table_result table[TABLES]; /* without cells: not asked for */
    double seconds;
    struct noise noise;
};

/* Operations per second, or 0 if there is no such cell or it failed. */
static inline double speed_of(const struct table_result *result, unsigned round, unsigned row,
                              unsigned column)
{
    const struct cell *cell = &result->cells[(round * ROWS_MAX + row) * COLUMNS_MAX + column];
    return cell->failure[0] == '\0' && cell->seconds > 0 ? (double)cell->operations / cell->seconds : 0;
}

/* primitives_summary.c: the targets. */
struct goal {
    char figure[96], target[24], note[48];
    struct spread value;
    enum verdict_state state;
};

#define GOALS_MAX 16
unsigned primitives_summary(struct goal goals[GOALS_MAX], const struct primitives_results *results);
/* Of a cell, round against round: its speed (or time, in tables of times) as a multiple of what its table compares
 * with. Of 0 rounds: nothing to compare with. */
struct spread primitives_ratio(const struct primitives_results *results, const struct table_result *result,
                               unsigned row, unsigned column);

/* primitives_report.c */
void primitives_report(FILE *to, const struct primitives_results *results);
void primitives_markdown(FILE *to, const struct primitives_results *results);
void primitives_json(FILE *to, const struct primitives_results *results);

#endif /* BENCH_PRIMITIVES_H */
