/* SPDX-License-Identifier: MIT */
/*
 * field.h - deferred free beside its peers: what the programs of bench/field share.
 *
 * A contender is a process: weir-bench-field-one, or the program with DPDK's, each with the allocator that
 * its LD_PRELOAD names. All of a table's contenders are alive at the same time and take turns. The loop is
 * the same for all (field_loop.h), and so are the threads around it (field_cell.c).
 */
#ifndef BENCH_FIELD_H
#define BENCH_FIELD_H

#include <limits.h>
#include <stdlib.h>

#include "allocators.h"
#include "bench.h"

#define FIELD_THREADS_MAX 64
#define FIELD_READERS_MAX 64

/* Operations between two quiescent states: workers are readers too. At these ck_epoch also polls. */
#define QUIESCENT_EVERY 64

/* What the floors free at once: as many objects or pages as weir's magazines hold by default. */
#define FIELD_BLOCK WEIR_RECLAIMER_CAPACITY_DEFAULT
static inline size_t field_page_block(void)
{
    return weir_cache_capacity_for(4096);
}

/* What every contender is told. */
struct field_setting {
    unsigned threads, readers;
    uint64_t loops, objects; /* of each thread, in a round; objects: per loop */
    size_t object_bytes;
    size_t depth;     /* the floor's: objects of each thread that wait to be freed */
    size_t free_step; /* the reclaimer's */
};

/* What is asked of a contender's process, a byte each; the answer. */
enum field_request {
    FIELD_WARM_UP = 'w', /* a round; struct field_cell */
    FIELD_SAMPLE = 's',  /* a round in which somebody looks on; struct field_sampled */
    FIELD_ROUND = 'r',   /* a round; struct field_cell */
    FIELD_CLOSE = 'c',   /* the end; struct field_cell, without times */
};

struct field_cell {
    double hand_over,
        barrier;            /* nanoseconds per object of each thread: until the last is handed over, freed */
    uint64_t handed, freed; /* objects, since the process began; equal after a barrier */
    uint64_t periods;       /* grace periods of this round */
    bool periods_known;
    size_t peak; /* bytes: the most that was ever resident, less what was before the contender was set up */
    char failure[96]; /* empty: it ran */
};

/* Objects that were handed over and not yet freed, over the time of a round. */
#define FIELD_POINTS 240
struct field_sampled {
    double mean;         /* over the time until the last was handed over */
    double peak;         /* at any time */
    double handed_over;  /* milliseconds from the start until the last was handed over, ... */
    double barrier_over; /* ... until the end of the barrier */
    unsigned points;
    struct {
        float milliseconds, pending;
    } point[FIELD_POINTS];
};
_Static_assert(sizeof(struct field_sampled) <= 4096, "one write to a pipe");

/* --- contenders --- */

struct field_worker;

struct field_contender {
    const char *id;
    /* False, after a line on standard error: it cannot run. */
    bool (*open)(const struct field_setting *setting);
    /* In each thread, whose numbers count workers first, then readers: it becomes an online reader. */
    bool (*enter)(unsigned number);
    void (*leave)(unsigned number);
    void (*quiescent)(void);
    void (*offline)(void);
    void (*online)(void);
    void (*work)(struct field_worker *worker); /* field_loop() with its functions inlined */
    /* In each worker, offline, when it has handed over all of its own; NULL: nothing to do. */
    void (*finish)(void);
    /* In the last worker after that: returns when everything is freed. NULL: it is. */
    void (*barrier)(void);
    uint64_t (*periods)(void); /* so far; NULL: it cannot tell */
    uint64_t (*freed)(void);   /* so far; NULL: field_count_freed() knows */
    bool (*close)(void);       /* false: objects are missing. NULL: nothing to do */
};

extern const struct field_contender field_weir[7], field_urcu[3], field_plain[3], field_ck;

/* field_cell.c: answers requests until there are no more. False if something failed. */
bool field_serve(const struct field_contender *contender, const struct field_setting *setting);

/* A program's arguments after its name: the contender's id, the library that malloc has to come from, and the
 * setting. */
#define FIELD_ARGUMENTS 9
static inline struct field_setting field_setting_of(char *const argv[])
{
    return (struct field_setting){.threads = (unsigned)strtoul(argv[0], NULL, 10),
                                  .readers = (unsigned)strtoul(argv[1], NULL, 10),
                                  .loops = strtoull(argv[2], NULL, 10),
                                  .objects = strtoull(argv[3], NULL, 10),
                                  .object_bytes = strtoul(argv[4], NULL, 10),
                                  .depth = strtoul(argv[5], NULL, 10),
                                  .free_step = strtoul(argv[6], NULL, 10)};
}

/* --- field_players.c: who takes part --- */

enum field_row {
    ROW_WEIR,
    ROW_TWO_ARGUMENT,
    ROW_MIGHTSLEEP,
    ROW_CK,
    ROW_DEFER,
    ROW_CALL_RCU,
    ROW_CALL_RCU_PER_CPU,
    ROW_DPDK,
    ROW_FREE,
    ROW_FLOOR_BLOCKS,
    ROW_FLOOR_ONES,
    ROW_PAGES,
    ROW_PAGES_ALONE,
    ROW_PAGE_BLOCKS,
    ROW_PAGE_ONES,
    FIELD_ROWS
};

struct field_player {
    struct child child;
    enum field_row row;
    enum allocator allocator;
    const char *library; /* what malloc has to come from */
    struct field_setting setting;
    FILE *errors;      /* what it says when it cannot run; NULL: it was never started */
    char failure[160]; /* empty: it runs */
};

const char *field_row_id(enum field_row row);
const char *field_row_name(enum field_row row);
bool field_row_is_peer(enum field_row row); /* takes part with --peers only */
static inline bool field_row_is_page(enum field_row row)
{
    return row >= ROW_PAGES;
}
static inline bool field_row_is_floor(enum field_row row)
{
    return row == ROW_FLOOR_BLOCKS || row == ROW_FLOOR_ONES || row > ROW_PAGES_ALONE;
}
/* Objects wait for readers: there is something to be seen over time. */
static inline bool field_row_defers(enum field_row row)
{
    return row < ROW_FREE || row == ROW_PAGES || row == ROW_PAGES_ALONE;
}
/* The name to preload it by ("": none is needed), or NULL if it is not installed; `tried`: the names. */
const char *field_allocator_library(enum allocator allocator, char tried[200]);

void field_player_start(struct field_player *player, enum field_row row, enum allocator allocator,
                        const char *library, const struct field_setting *setting);
/* False: no answer; the player's failure says why. */
bool field_player_turn(struct field_player *player, enum field_request request, void *answer, size_t bytes,
                       void (*tick)(void *arg), void *arg);
void field_player_stop(struct field_player *player);

/* --- results --- */

struct field_options {
    unsigned threads, loops, objects, object_bytes, readers, rounds;
    unsigned free_step; /* 0: the reclaimer's default */
    bool peers, quick, json, markdown;
    const char *out, *allocators;
};

/* An allocator, and a number of threads. */
struct field_table {
    enum allocator allocator;
    unsigned threads;
    size_t depth, page_depth;      /* the floors', of each thread */
    char missing[FIELD_ROWS][160]; /* why the contender is not here */
    struct field_cell *cells;      /* [round][row] */
    struct field_sampled sampled[FIELD_ROWS];
};

struct field_results {
    const struct field_options *options;
    const struct machine *machine;
    unsigned tables;
    struct field_table table[2 * ALLOCATORS];
    char absent[ALLOCATORS][240]; /* why the allocator is not here; empty: it is, or was not asked for */
    double seconds;
    struct noise noise;
};

static inline struct field_cell *field_cell_of(const struct field_table *table, unsigned round, unsigned row)
{
    return &table->cells[round * FIELD_ROWS + row];
}

/* --- field_summary.c: figures over the rounds, and the targets --- */

enum field_figure { HAND_OVER, TO_BARRIER, TO_FLOOR, PERIODS };
/* TO_FLOOR: to the end of the barrier, as a multiple of the faster floor's, round against round. All zero:
 * there is no such figure. */
struct spread field_figure(const struct field_results *results, const struct field_table *table, unsigned row,
                           enum field_figure figure);
bool field_periods_known(const struct field_table *table, unsigned row);
/* The most of all rounds, bytes; 0: it did not run. */
size_t field_peak(const struct field_results *results, const struct field_table *table, unsigned row);

struct field_goal {
    char figure[96], target[24];
    struct spread value;
    enum verdict_state state;
};

#define FIELD_GOALS_MAX 16
unsigned field_summary(struct field_goal goals[FIELD_GOALS_MAX], const struct field_results *results);

/* --- field_report.c --- */

void field_report(FILE *to, const struct field_results *results);
void field_markdown(FILE *to, const struct field_results *results);
void field_json(FILE *to, const struct field_results *results);
/* For field.gp: what was sampled with one allocator. */
void field_data(FILE *to, const struct field_results *results, enum allocator allocator);

#endif /* BENCH_FIELD_H */
