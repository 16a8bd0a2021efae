/* SPDX-License-Identifier: MIT */
/*
 * cache.h - the engine beside its peers: what the programs of bench/cache share.
 *
 * A contender is a process: weir-bench-cache forked, or a program that lies beside it. All of a table's
 * contenders are alive at the same time and take turns. A job is what a contender is asked to do, by one byte
 * on standard input; a cell is what it answers. The loops are the same for all (cache_loop.h, cache_cell.c).
 */
#ifndef BENCH_CACHE_H
#define BENCH_CACHE_H

#include <stdlib.h>

#include "bench.h"

#define CACHE_THREADS_MAX 64
#define CACHE_RUN_MAX 64 /* objects that a thread of `threads` holds */
#define CACHE_BULK_MAX 128
#define PIPE_BATCH 32   /* objects that change hands at once */
#define PIPE_SLOTS 1024 /* that may be on their way */

enum cache_kind {
    CACHE_PAIRS,  /* n allocs, n frees; one thread */
    CACHE_BULK,   /* n objects at once; one thread */
    CACHE_FILL,   /* the same at 64 levels of what the thread holds besides: the slowest */
    CACHE_RUNS,   /* n threads, runs of a random length */
    CACHE_PIPE,   /* from one thread to another, n objects per call */
    CACHE_CIRCLE, /* from each of two threads to the other */
};

struct cache_job {
    enum cache_kind kind;
    unsigned n;
    bool touch;   /* pairs: the first byte is written */
    bool inlined; /* pairs and bulk: not called through pointers */
};

/* What weir's statistics count. */
struct cache_exchanges {
    uint64_t refills, depot_hits, misses, flushes, spills, backend_calls;
};

struct cache_cell {
    double value;     /* nanoseconds per object, allocated and freed; or objects per second */
    uint64_t objects; /* allocated and freed */
    uint64_t damaged; /* that did not hold what was written to them, or not in that order */
    uint64_t missing; /* allocated, and neither freed nor anywhere else */
    size_t peak;      /* bytes: the most the process has had resident, less what it had before it set up */
    struct cache_exchanges exchanges;
    char failure[96]; /* empty: it ran */
};

/* --- contenders --- */

struct cache_setting {
    size_t object_bytes;
    unsigned milliseconds; /* of a cell of runs, pipe or circle */
    unsigned threads;      /* at most */
};

struct cache_contender {
    bool (*open)(const struct cache_setting *setting);
    /* In each thread that uses it; NULL: nothing to do. */
    bool (*enter)(void);
    void (*leave)(void);
    void *(*alloc)(size_t bytes);
    void (*free_it)(void *object);
    bool (*alloc_bulk)(size_t n, void *objects[]); /* all or nothing */
    void (*free_bulk)(size_t n, void *objects[]);
    /* The same loops inlined; NULL: it has no inline functions. */
    double (*pairs_inlined)(unsigned run, bool touch);
    double (*bulk_inlined)(unsigned n);
    /* How many objects are not where they should be, when no thread has any; NULL: nobody can know. */
    uint64_t (*missing)(void);
    uint64_t (*recount)(void); /* the same once more, thoroughly, at the end; NULL: there is no other way */
    void (*exchanges)(struct cache_exchanges *exchanges); /* since it was set up; NULL: it does not count */
};

extern const struct cache_contender cache_lifo, cache_weir;

/* cache_cell.c: answers requests for jobs until there are no more. False if something failed. */
bool cache_serve(const struct cache_contender *contender, const struct cache_setting *setting);
/* What a program that is not this one is told: bytes, milliseconds, threads. */
static inline struct cache_setting cache_setting_of(char *const argv[])
{
    return (struct cache_setting){strtoul(argv[0], NULL, 10), (unsigned)strtoul(argv[1], NULL, 10),
                                  (unsigned)strtoul(argv[2], NULL, 10)};
}

/* --- cache_tables.c: what is measured --- */

enum cache_row {
    ROW_LIFO,
    ROW_WEIR,
    ROW_GLIBC,
    ROW_TCMALLOC,
    ROW_JEMALLOC,
    ROW_MIMALLOC,
    ROW_RTE,
    CACHE_ROWS
};

#define CACHE_COLUMNS_MAX 5
#define CACHE_TABLES 6

struct cache_table {
    const char *id;
    const char *workload; /* of --workload */
    const char *title, *note;
    bool time;          /* nanoseconds per object instead of millions of objects per second */
    bool own_processes; /* for each column, so that the peak of resident memory is its own */
    bool shows_exchanges;
    unsigned columns;
    struct cache_job job[CACHE_COLUMNS_MAX];
    const char *heading[CACHE_COLUMNS_MAX];
    unsigned rows[CACHE_COLUMNS_MAX]; /* who takes part: bits 1 << enum cache_row */
};

extern const struct cache_table cache_tables[CACHE_TABLES];

static inline unsigned cache_job_threads(const struct cache_job *job)
{
    if (job->kind == CACHE_RUNS)
        return job->n;
    return job->kind == CACHE_PIPE || job->kind == CACHE_CIRCLE ? 2 : 1;
}

/* A job as a byte, for the way into another process; and the request to count all objects, the last one. */
#define CACHE_RECOUNT '~'
char cache_job_encode(const struct cache_table *table, unsigned column);
const struct cache_job *cache_job_decode(char code);

/* --- cache_players.c: the contenders' processes --- */

struct cache_player {
    struct child child;
    enum cache_row row;
    const char *preload;
    struct cache_setting setting;
    FILE *errors;      /* what it says when it cannot run */
    char failure[160]; /* empty: it runs */
};

const char *cache_row_id(enum cache_row row);
const char *cache_row_name(enum cache_row row, bool inlined);
bool cache_row_is_peer(enum cache_row row); /* takes part with --peers only */
void cache_player_start(struct cache_player *player, enum cache_row row, const struct cache_setting *setting,
                        char warm_up);
void cache_player_turn(struct cache_player *player, struct cache_cell *cell, char job);
void cache_player_stop(struct cache_player *player);

/* --- results --- */

struct cache_options {
    unsigned rounds, milliseconds, object_bytes;
    bool peers, json, markdown, quick;
    const char *out, *workload; /* "all" is one */
};

struct cache_result {
    const struct cache_table *table;
    char missing[CACHE_ROWS][160]; /* why the contender is not here */
    struct cache_cell *cells;      /* [round][row][column]; NULL: not asked for */
};

struct cache_results {
    const struct cache_options *options;
    const struct machine *machine;
    struct cache_result table[CACHE_TABLES];
    double seconds;
    struct noise noise;
};

static inline struct cache_cell *cache_cell_of(const struct cache_result *result, unsigned round,
                                               unsigned row, unsigned column)
{
    return &result->cells[(round * CACHE_ROWS + row) * CACHE_COLUMNS_MAX + column];
}

/* --- cache_summary.c: figures over the rounds, and the targets --- */

/* All zero: there is no such figure. */
struct spread cache_figure(const struct cache_results *results, const struct cache_result *result,
                           unsigned row, unsigned column);
/* As a multiple of weir's in the same column, round against round. */
struct spread cache_ratio(const struct cache_results *results, const struct cache_result *result,
                          unsigned row, unsigned column);
/* The most of all rounds, bytes. */
size_t cache_peak(const struct cache_results *results, const struct cache_result *result, unsigned row,
                  unsigned column);
/* Of weir, per million objects that were allocated and freed. */
#define CACHE_EXCHANGES 6
extern const char *const cache_exchange_ids[CACHE_EXCHANGES], *const cache_exchange_names[CACHE_EXCHANGES];
void cache_exchanges_of(const struct cache_results *results, const struct cache_result *result,
                        unsigned column, struct spread per_million[CACHE_EXCHANGES]);

struct cache_goal {
    char figure[96], target[24], note[48];
    struct spread value;
    enum verdict_state state;
};

#define CACHE_GOALS_MAX 16
unsigned cache_summary(struct cache_goal goals[CACHE_GOALS_MAX], const struct cache_results *results);

/* cache_report.c */
void cache_report(FILE *to, const struct cache_results *results);
void cache_markdown(FILE *to, const struct cache_results *results);
void cache_json(FILE *to, const struct cache_results *results);

#endif /* BENCH_CACHE_H */
