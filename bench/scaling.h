/* SPDX-License-Identifier: MIT */
/*
 * scaling.h - what the parts of weir-bench-scaling share: workloads, what they cost, which lines they touch,
 * and the model that is fed with it. See docs/scaling.md.
 *
 * A pair is an alloc and the free that goes with it, wherever that is. All times are CPU nanoseconds per pair
 * unless a name says otherwise.
 */
#ifndef BENCH_SCALING_H
#define BENCH_SCALING_H

#include <pthread.h>

#include "bench.h"
#include "../src/cache.h"

#define SCALING_CPUS_MAX 512
#define NO_EXCHANGES 16384 /* a capacity so large that no workload empties a magazine, the pipe excepted */

/* --- workloads: scaling_work.c --- */

enum workload {
    PAIRS,    /* alloc, free, alloc, free */
    WALK_64,  /* alloc or free at random; each thread holds 0 to 64 objects */
    WALK_512, /* ... 0 to 512 */
    CROWD,    /* 64 threads walk, 0 to 512 objects each */
    PIPE,     /* half of the threads allocate, the other half frees */
    SWING,    /* allocates 8 magazines' worth, frees them: nearly every magazine goes through the depot */
    WORKLOADS,
};

#define CROWD_THREADS 64

struct job {
    enum workload workload;
    unsigned capacity;
    unsigned domains; /* imitated ones; 0: the machine's own */
    unsigned threads;
    unsigned depth; /* of SWING; 0: 8 magazines' worth */
    unsigned slices, milliseconds;
};

/* The lines that CPUs of a domain share, as one thread sees them. */
enum line {
    OWN_HEAD,  /* its domain's depot: the head of the pool */
    OWN_STEER, /* ... limit, low, in_use, watched */
    OWN_IDLE,  /* its domain's pool of empty magazines */
    OTHER_HEAD,
    OTHER_STEER,
    OTHER_IDLE, /* those of other domains */
    LINES,
};

/* What the counting build of the library notes. */
struct tally {
    uint64_t exchanges;                 /* slow paths entered */
    uint64_t rmw[LINES], stores[LINES]; /* operations */
    uint64_t lines[LINES];              /* exchanges that touched such a line, for each line */
    uint64_t visits[LINES];             /* accesses, those to the same line in a row being one */
    uint64_t gate;                      /* read-modify-writes of the fork gate */
    uint64_t unknown;                   /* ... and of anything that is not per CPU */
};

struct outcome {
    uint64_t pairs;
    double ns;     /* CPU time of all threads, per pair: median of the slices that were disturbed least */
    double spread; /* half the distance between the quartiles */
    struct weir_cache_stats stats;
    struct tally tally;
    char failure[96]; /* empty: it ran */
};

/* `tally_begin` is called by each thread before it begins; NULL: nothing is counted. */
void work_run(struct outcome *outcome, const struct job *job, const struct machine *machine,
              void (*tally_begin)(const struct weir_cache *cache, unsigned domain, struct tally *tally));
const char *workload_id(enum workload workload);
const char *workload_name(enum workload workload);
/* The backend: objects that nobody looks into, made without touching anything shared. */
extern const struct weir_cache_ops work_backend;
/* An imitated topology; false if this machine has too few CPUs for it. */
bool work_topology(struct weir__topology *topology, unsigned domains);

static inline double thread_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* --- kinds of exchange, one by one: scaling_count.c derives and counts them --- */

enum exchange {
    REFILL_SPARE,
    REFILL_DEPOT,
    REFILL_STOLEN,
    REFILL_BACKEND,
    FLUSH_SPARE,
    FLUSH_DEPOT,
    FLUSH_SPILL,
    EXCHANGES,
};

struct exchange_result {
    unsigned counted; /* how many of them */
    struct tally tally;
};

/* What the counting program writes to standard output. */
struct count_result {
    struct outcome outcome;
    struct exchange_result exchange[EXCHANGES];
};

/* Lines that an exchange touches, derived from the code: `own` and `other` domains'. */
struct exchange_lines {
    const char *id, *name, *why;
    unsigned own, other;
};
extern const struct exchange_lines exchange_lines[EXCHANGES];

/* --- the model: scaling_model.c --- */

/* How long a line takes from one CPU to another, by how close they are. `size[i]` CPUs are within `ns[i]`. */
struct distances {
    unsigned size[3];
    double ns[3];
};

struct model {
    double own;          /* ns per pair without any waiting: fast path, exchanges, the program's own work */
    double lines[LINES]; /* touched per pair */
    double contents;     /* lines that come with a magazine, as a multiple of moves of a single line */
    double exchanges;    /* per pair */
    struct distances distances;
    unsigned domain_cpus; /* CPUs that share a depot */
    bool by_turns;        /* who takes a magazine is never who put it */
    unsigned gate_lines;  /* of the fork gate; 0: it costs nothing */
};

#define GATE_LINES 512 /* of src/fork.c: a CPU uses the one of its number modulo this */

/* CPU nanoseconds per pair when `cpus` CPUs do this. */
double model_ns(const struct model *model, unsigned cpus);
/* The smallest number of CPUs with which pairs take more than 1.1 times as long as with `better`, or, if that
 * is NULL, as alone; 0: not up to SCALING_CPUS_MAX. */
unsigned model_knee(const struct model *model, const struct model *better);

/* --- measured --- */

#define CAPACITIES 4
extern const unsigned scaling_capacity[CAPACITIES];
#define CHECK_CAPACITIES 5
extern const unsigned scaling_check_capacity[CHECK_CAPACITIES];

struct scaling_options {
    unsigned slices, milliseconds;
    struct distances distances;
    double work; /* ns between alloc and free that the model adds */
    bool json, markdown, quick;
    const char *out;
};

struct check {
    struct job job;
    struct outcome outcome;
    double predicted;
};

#define CHECKS_MAX 512

struct scaling_results {
    const struct scaling_options *options;
    const struct machine *machine;
    unsigned domains; /* of this machine */
    unsigned threads[16], thread_counts;
    double pair;                                  /* alternating pair */
    double refill[CAPACITIES], flush[CAPACITIES]; /* ns per exchange beyond the fast path */
    double spare;                                 /* ... if it is with the CPU's own spare magazine */
    struct spread near, far; /* ns per move of a line; far: 0 if there is only one domain */
    struct spread run;       /* ... per line of a run of them: a magazine's */
    double fast[WORKLOADS];  /* ns per pair without exchanges */
    struct count_result count[WORKLOADS][CAPACITIES][2]; /* [1]: two imitated domains */
    struct exchange_result exchange[EXCHANGES];
    bool two_domains; /* could be imitated */
    unsigned checks;
    struct check check[CHECKS_MAX];
    double seconds;
    struct noise noise;
};

/* The model of a workload with so many CPUs to a depot: fed with what was measured. */
struct model scaling_model(const struct scaling_results *results, enum workload workload,
                           unsigned capacity_index, unsigned domain_cpus, bool far_pipe);

/* scaling_report.c */
void scaling_report(FILE *to, const struct scaling_results *results, bool markdown);
void scaling_json(FILE *to, const struct scaling_results *results);
void scaling_data(FILE *to, const struct scaling_results *results);
/* Does an exchange touch what it should? */
bool scaling_lines_agree(const struct exchange_result *counted, enum exchange exchange);

#endif /* BENCH_SCALING_H */
