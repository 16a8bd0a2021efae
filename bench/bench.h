/* SPDX-License-Identifier: MIT */
/* bench.h - what the parts of the benchmark share: the options, and the results of everything it measures. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#include "weir/free_rcu.h"
#include "weir/page_cache.h"

#define ROUNDS_MAX 1000
#define ALWAYS_INLINE static inline __attribute__((always_inline))

static inline double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* --- options.c --- */

struct options {
    bool page, malloc, pair; /* the workloads */
    uint64_t objects;
    uint64_t threads; /* 0: one per CPU */
    uint64_t readers;
    uint64_t rounds;
    double seconds; /* 0: `rounds` counts */
    uint64_t object_bytes;
    const char *out;
    bool json, peers, self_check;
};

/* Exits with status 2 and a message that names the option and what it accepts if something is wrong. */
void options_parse(struct options *options, int argc, char **argv);

/* --- machine.c --- */

struct machine {
    char model[128];
    unsigned cpus;      /* that this process may use */
    unsigned cpu[1024]; /* their numbers */
    unsigned cpus_on_line;
    bool guest;    /* a virtual machine */
    size_t memory; /* bytes */
    char kernel[80], libc[80], compiler[80];
    char percpu_mode[8];
    char percpu_reason[160];
};

void machine_describe(struct machine *machine);
/* Only the CPUs. */
void machine_cpus(struct machine *machine);
/* Keeps the calling thread on the n-th CPU that the process may use, counted round and round. */
void machine_pin(const struct machine *machine, unsigned n);
/* A line of /proc/self/status, in bytes: VmRSS:, resident now, or VmHWM:, the most that ever was; 0:
 * unknown. */
size_t machine_status_bytes(const char *name);

/* CPU time of the whole machine and of this program and its children, in clock ticks since they began. */
struct cpu_time {
    uint64_t total, busy, stolen, own;
    bool known;
};

/* Of the machine's CPU time since `before`, the shares that other programs used and that a hypervisor gave to
 * other guests. Negative: unknown. */
struct noise {
    double others, stolen;
};

void machine_cpu_time(struct cpu_time *now);
void machine_noise(struct noise *noise, const struct cpu_time *before);

/* --- the figures of several rounds: their median, the extremes, and between what half of them lie --- */

struct spread {
    double median, min, max, low, high;
};

/* spread.c */
struct spread spread_of(const double values[], size_t n);

/* --- deferred.c: allocate, write the first byte, hand over --- */

enum method_id {
    PLAIN_MALLOC,
    MALLOC_LATER,
    CALL_RCU,
    CALL_RCU_PER_CPU,
    WEIR_TWO_ARGUMENT,
    WEIR_MIGHTSLEEP,
    PAGE_HIGH_FRACTION_0,
    PAGE_HIGH_FRACTION_8,
    FREE_AT_ONCE, /* for --self-check only: a published object is freed without waiting */
    METHODS
};

/* Counts of the reader threads. */
struct checks {
    uint64_t made;   /* objects picked up, held, and looked at again */
    uint64_t handed; /* of them, already handed over by then: only these could have been freed too early */
    uint64_t violations; /* objects that were freed under the reader's eyes */
};

#define SAMPLES_MAX 4096
#define SAMPLED_ROUNDS 3

/* A look at the page cache, while a round runs that does not count. */
struct sample {
    double milliseconds;
    size_t frames, cached;
};

/* Lives in memory that the child, which runs the case, and the parent share. */
struct deferred_result {
    /* filled in before */
    enum method_id method;
    unsigned workers;
    bool break_grace; /* --self-check */
    /* by the child */
    unsigned rounds;
    double hand_over[ROUNDS_MAX], barrier[ROUNDS_MAX]; /* nanoseconds per operation of each worker */
    size_t resident_start, resident_peak;              /* bytes */
    struct checks checks;
    uint64_t no_memory; /* times an allocation failed, and had to be tried again */
    union {
        struct weir_page_cache_stats pages;
        struct weir_reclaimer_stats reclaimer;
    };
    unsigned samples;
    struct sample sample[SAMPLES_MAX];
    double barrier_from[SAMPLED_ROUNDS], barrier_to[SAMPLED_ROUNDS]; /* milliseconds, as in sample */
    char failure[160];                                               /* empty: it ran */
};

const char *deferred_id(enum method_id method);   /* for machines: "malloc-call-rcu" */
const char *deferred_name(enum method_id method); /* for people */
static inline bool deferred_is_page(enum method_id method)
{
    return method == PAGE_HIGH_FRACTION_0 || method == PAGE_HIGH_FRACTION_8;
}
static inline bool deferred_is_reclaimer(enum method_id method)
{
    return method == WEIR_TWO_ARGUMENT || method == WEIR_MIGHTSLEEP;
}
/* Runs some cases, each in a child of its own, all of them by turns. */
void deferred_run(struct deferred_result *results[], unsigned n, const struct options *options,
                  const struct machine *machine);

/* --- pair.c: alloc + free --- */

enum pattern { ALTERNATING, RUNS_OF_8, RUNS_OF_64, PATTERNS };

enum contender {
    LIFO_CALLED,
    WEIR_CALLED,
    GLIBC,
    TCMALLOC,
    JEMALLOC,
    MIMALLOC,
    RTE_MEMPOOL,
    LIFO_INLINED,
    WEIR_INLINED,
    CONTENDERS
};

struct contender_result {
    char failure[160]; /* empty: it ran */
    bool asked_for;
    struct spread ns[PATTERNS][2]; /* per pair; [1]: the first byte is written */
    /* Round by round, its time as a multiple of the LIFO's of the same kind, and of weir's, called. */
    struct spread to_lifo[PATTERNS][2], to_weir[PATTERNS][2];
};

struct pair_result {
    unsigned rounds;
    struct contender_result contender[CONTENDERS];
};

const char *contender_id(enum contender contender);
const char *contender_name(enum contender contender);
void pair_run(struct pair_result *result, const struct options *options, const struct machine *machine);

/* --- everything --- */

struct results {
    unsigned cases;
    struct deferred_result *case_result[2 * METHODS];
    struct pair_result pair;
    double seconds;     /* that it all took */
    struct noise noise; /* meanwhile */
};

const struct deferred_result *results_find(const struct results *results, enum method_id method,
                                           bool all_cpus);
/* Times to the end of the barrier, one as a multiple of the other: round by round. Zero: unknown. */
struct spread results_ratio(const struct deferred_result *above, const struct deferred_result *below);

/* --- summary.c: the figures that the benchmark is judged by --- */

enum verdict_state { NOT_RUN, NOT_MET, MET, BESIDE /* no target: a figure to see another one by */ };

struct verdict {
    char figure[96];
    char target[32];
    struct spread value; /* of the rounds; a figure that is one number has it three times */
    const char *unit;
    enum verdict_state state;
};

#define VERDICTS_MAX 16
unsigned summary_make(struct verdict verdicts[VERDICTS_MAX], const struct options *options,
                      const struct results *results);

/* --- report.c, json.c --- */

void report_print(FILE *to, const struct options *options, const struct machine *machine,
                  const struct results *results);
void json_print(FILE *to, const struct options *options, const struct machine *machine,
                const struct results *results);

/* --- text.c: pieces of reports --- */

/* The machine in one line. */
void text_machine(char text[400], const struct machine *machine);
/* A line of a report's head; none if it is unknown. */
void text_noise(FILE *to, const struct noise *noise);
/* What half of the rounds differ from the median, at most: percent. */
double text_deviation(const struct spread *spread);
/* A string in quotes; and as a member of an object, with its name. */
void text_json(FILE *to, const char *text);
void text_json_named(FILE *to, const char *name, const char *text);
void text_json_spread(FILE *to, const struct spread *spread);
void text_json_machine(FILE *to, const struct machine *machine);
/* `peers`: they were asked for. */
const char *text_verdict(enum verdict_state state, bool peers);

/* --- progress.c: one line on a terminal, nothing elsewhere --- */

void progress_start(unsigned stages);
/* `fraction` of the stage that is under way. */
void progress_show(const char *text, double fraction);
void progress_next_stage(void);
void progress_clear(void);

/* --- child.c: processes that take turns --- */

struct child {
    pid_t pid;
    int requests, answers; /* negative: it does not run */
};

/* How long to wait for an answer, and what to call meanwhile, ten times a second; NULL: nothing. */
struct patience {
    double seconds;
    void (*tick)(void *arg);
    void *arg;
};

/* Memory that children share with the parent, zeroed. Exits if there is none. */
void *shared_memory(size_t bytes);
/* Calls body(arg) in a forked child. Its standard output and error go to `errors`; NULL: standard error. */
bool child_start(struct child *child, void (*body)(void *arg), void *arg, FILE *errors);
/* Sends a request, and waits for the answer. False if there is none; `why` says what became of the child (it
 * crashed, or hung and was killed), and it is stopped. */
bool child_turn(struct child *child, char request, void *answer, size_t bytes,
                const struct patience *patience, char why[160]);
/* Kills it, if it is still there. */
void child_stop(struct child *child);
/* What a child that could not go on left in `errors` says why: the last line, but of DPDK, which goes on with
 * a page of usage, its first. Unchanged if there is nothing. */
void child_words(FILE *errors, char why[160]);
/* In the child: becomes a program that lies beside this one. Returns, after a line on standard error, if it
 * cannot. */
void child_become(const char *program, char *const argv[]);
/* In the child: the next request; and an answer of one byte. */
char child_request(void);
void child_answer(void);

#endif /* BENCH_H */
