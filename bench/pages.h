/* SPDX-License-Identifier: MIT */
/*
 * pages.h - the page cache measured: what the programs of bench/pages share.
 *
 * Times are tables: a row is a contender, which is a process, weir-bench-pages-one with the allocator that its
 * LD_PRELOAD names; a column is a job, asked for by one byte on standard input; a cell is what it answers. All
 * of a table's contenders take turns, round by round. What happens in signal handlers, and to resident memory
 * after a burst, is measured in processes of their own, once.
 */
#ifndef BENCH_PAGES_H
#define BENCH_PAGES_H

#include "bench.h"

#define PAGE_BYTES 4096
#define EXTENT_PAGES 16
#define BULK 32 /* pages at once */
#define PAGES_THREADS_MAX 2

/* --- tables: pages_tables.c --- */

enum pages_row {
    PAGES_INLINED, /* the page cache */
    PAGES_CALLED,
    PAGES_ENGINE_INLINED,
    PAGES_ENGINE_CALLED,
    PAGES_FRAMES,
    PAGES_GLIBC,
    PAGES_TCMALLOC,
    PAGES_JEMALLOC,
    PAGES_MIMALLOC,
    PAGES_ROWS
};

enum pages_work {
    WORK_PAIR,   /* alloc, free */
    WORK_ARRAY,  /* BULK pages into an array, and back */
    WORK_LIST,   /* the same as a list */
    WORK_EXTENT, /* alloc, free of EXTENT_PAGES pages in a row */
    WORK_RUN,    /* frames: n in a row */
    WORK_BATCH,  /* frames: n, wherever they are */
    WORK_CHURN,  /* a large working set: free n random ones, allocate n; 1 to n if n > 1 */
};

struct pages_job {
    enum pages_work work;
    unsigned n;
    unsigned threads; /* that do it at once, each on a CPU of its own */
};

#define PAGES_COLUMNS_MAX 5
#define PAGES_TABLES 4

struct pages_table {
    const char *id;
    const char *workload; /* of --workload */
    const char *title, *note;
    bool fresh;    /* each round has new processes; and the peak of resident memory is shown */
    unsigned base; /* the row that ratios are to */
    unsigned columns;
    struct pages_job job[PAGES_COLUMNS_MAX];
    const char *heading[PAGES_COLUMNS_MAX];
    unsigned rows[PAGES_COLUMNS_MAX]; /* who takes part: bits 1 << enum pages_row */
};

extern const struct pages_table pages_tables[PAGES_TABLES];

/* A job as a byte, for the way into another process; and the request to count all pages, the last one. */
#define PAGES_RECOUNT '~'
char pages_job_encode(const struct pages_table *table, unsigned column);
const struct pages_job *pages_job_decode(char code);

/* --- contenders, in weir-bench-pages-one --- */

struct pages_setting {
    size_t working_set; /* of churn: pages */
    unsigned steps;
};

struct pages_cell {
    double ns;        /* per page or extent, allocated and freed */
    size_t peak;      /* bytes: the most that the process ever had resident */
    uint64_t wrong;   /* pages that are lost, or were handed out twice */
    char failure[96]; /* empty: it ran */
};

struct pages_contender {
    bool (*open)(const struct pages_setting *setting);
    double (*measure)(const struct pages_job *job); /* nanoseconds; called by each thread at once */
    uint64_t (*missing)(
        void); /* at the end: pages that are not where they should be; NULL: nobody can know */
};

extern const struct pages_contender pages_weir_inlined, pages_weir_called, pages_frames, pages_malloc;
extern const struct pages_contender pages_engine_inlined, pages_engine_called;

/* pages_cell.c: answers requests for jobs until there are no more. False if something failed. */
bool pages_serve(const struct pages_contender *contender, const struct pages_setting *setting);

/* --- pages_players.c: the contenders' processes --- */

struct pages_player {
    struct child child;
    enum pages_row row;
    const char *library; /* that its malloc comes from */
    struct pages_setting setting;
    FILE *errors;      /* what it says when it cannot run; NULL: it was not started */
    char failure[160]; /* empty: it runs */
};

const char *pages_row_id(enum pages_row row);
const char *pages_row_name(enum pages_row row);
bool pages_row_is_peer(enum pages_row row); /* takes part with --peers only */
void pages_player_start(struct pages_player *player, enum pages_row row, const struct pages_setting *setting,
                        char warm_up);
void pages_player_turn(struct pages_player *player, struct pages_cell *cell, char job);
void pages_player_stop(struct pages_player *player);
/* Calls body(run) in a process of its own that shares the `bytes` of *run; body() answers when it is done. What
 * went wrong comes into `failure`, which is a part of *run. */
void pages_in_child(void (*body)(void *run), void *run, size_t bytes, double seconds, char failure[160]);

/* --- pages_nolock.c: how often the calls for any context succeed in a handler --- */

#define NOLOCK_CPUS_MAX 2
#define NOLOCK_BINS 101 /* percent of the range in use */

struct nolock_bin {
    uint64_t allocs, got;   /* weir_page_alloc_nolock() in the handler */
    uint64_t frees, kept;   /* weir_page_free_nolock(); into a magazine rather than laid aside */
    uint64_t ordinary, had; /* weir_page_alloc() by who is interrupted */
};

struct nolock_run {
    unsigned reserve; /* pages */
    double seconds;
    /* by the child */
    unsigned pages, threads;
    uint64_t signals;
    struct nolock_bin bin[NOLOCK_BINS];
    char failure[160]; /* empty: it ran */
};

/* A process of its own. */
void nolock_measure(struct nolock_run *run);

/* --- pages_burst.c: resident memory after a burst --- */

#define BURST_POINTS 4000

struct burst_point {
    float seconds; /* since the burst was freed */
    float mebibytes;
};

struct burst_run {
    unsigned decay_milliseconds; /* 0: the default */
    size_t bytes;                /* of the burst */
    size_t in_use;               /* bytes of pages all along */
    /* by the child; sizes are of resident memory, in bytes */
    size_t start;    /* before there was a page cache */
    size_t baseline; /* pages and extents have been used, and what was idle of them is gone by itself */
    size_t peak, end;
    double back; /* seconds from when all was free until it was within 5 % of the baseline; negative: never */
    unsigned points;
    struct burst_point point[BURST_POINTS];
    char failure[160]; /* empty: it ran */
};

#define BURST_SHARE 0.05
void burst_measure(struct burst_run *run);

/* --- results --- */

struct pages_options {
    unsigned rounds, working_set, burst; /* mebibytes */
    bool peers, json, markdown, quick;
    const char *out, *workload; /* "all" is one */
};

struct pages_result {
    const struct pages_table *table;
    char missing[PAGES_ROWS][160]; /* why the contender is not here */
    struct pages_cell *cells;      /* [round][row][column]; NULL: not asked for */
};

#define NOLOCK_RUNS 2   /* without and with a reserve */
#define BURST_IN_USE 32 /* one of so many parts of the burst is in use all along */
#define BURST_FAST 100  /* milliseconds between decays */
#define BURST_ROUNDS_MAX 5

struct pages_results {
    const struct pages_options *options;
    const struct machine *machine;
    struct pages_result table[PAGES_TABLES];
    unsigned nolock_runs; /* 0: not asked for */
    struct nolock_run *nolock;
    unsigned burst_runs; /* 0: not asked for. The first has nothing in use, the last one the default decay */
    struct burst_run *burst;
    double seconds;
    struct noise noise;
};

static inline struct pages_cell *pages_cell_of(const struct pages_result *result, unsigned round,
                                               unsigned row, unsigned column)
{
    return &result->cells[(round * PAGES_ROWS + row) * PAGES_COLUMNS_MAX + column];
}

/* --- pages_summary.c: figures over the rounds, and the targets --- */

/* Nanoseconds; all zero: there is no such figure. */
struct spread pages_figure(const struct pages_results *results, const struct pages_result *result,
                           unsigned row, unsigned column);
/* As a multiple of that of the table's base, round against round. */
struct spread pages_ratio(const struct pages_results *results, const struct pages_result *result,
                          unsigned row, unsigned column);
/* The most, in bytes. */
struct spread pages_peak(const struct pages_results *results, const struct pages_result *result, unsigned row,
                         unsigned column);

/* The shares of what lies from `from` to below `to` percent, in percent; negative: it did not happen there. */
struct nolock_share {
    double alloc, kept, ordinary;
    uint64_t allocs, frees;
};
struct nolock_share nolock_share(const struct nolock_run *run, unsigned from, unsigned to);

/* Nanoseconds of LLFree's C version for a get and a put of order 0, by measurements that are not this program's. */
#define PAGES_LLFREE 67
#define PAGES_LLFREE_TEXT "67"

#define PAGES_GOALS_MAX 24
unsigned pages_summary(struct verdict goals[PAGES_GOALS_MAX], const struct pages_results *results);

/* pages_report.c */
void pages_report(FILE *to, const struct pages_results *results);
void pages_markdown(FILE *to, const struct pages_results *results);
void pages_json(FILE *to, const struct pages_results *results);
void pages_nolock_data(FILE *to, const struct pages_results *results);
void pages_burst_data(FILE *to, const struct pages_results *results);

#endif /* BENCH_PAGES_H */
