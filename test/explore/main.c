/* SPDX-License-Identifier: MIT */
/*
 * weir-explore: runs scenarios of the list, the stack and the pool, protocols of the engine, and the page
 * frames, through every interleaving.
 *
 * A sweep makes scenarios of every combination of some operations; without arguments all of them run.
 * `--bugs` instead tries the explorer: counts the schedules of programs whose number is known, goes through
 * litmus tests, and looks for deliberate mistakes: each has to be found, and its schedule to fail again when
 * replayed.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"
#include "litmus.h"
#include "page_frames.h"
#include "reserves.h"
#include "scenario.h"

static const char usage[] =
    "usage: weir-explore [--list | --sweep NAME | --bugs | --engine | --reserves | --frames]\n"
    "       weir-explore SCENARIO [--preemptions N] [--surprises N]\n"
    "       weir-explore SCENARIO --random RUNS [--seed N] [--changes N]\n"
    "       weir-explore SCENARIO --replay SCHEDULE\n"
    "\n"
    "  SCENARIO          as in 'stack 2: pop push | pop_n2': two nodes, what thread a does, what thread b "
    "does\n"
    "  --preemptions N   schedules with at most N preemptions (default: 3)\n"
    "  --surprises N     and at most N surprises: a weak compare-and-swap fails for no reason, and with "
    "--weak a load\n"
    "                    returns an old value (default: 0)\n"
    "  --weak 1          loads may return old values, as the C11 model allows\n"
    "  --random RUNS     random schedules instead, with --changes priority changes (default: 3) and --seed\n"
    "  --replay SCHEDULE one schedule, with a trace\n";

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static struct explore_result result;

/* Says what failed, how to see it again, and what happened. */
static void report(struct scenario *scenario, const struct explore_result *failed)
{
    static struct explore_result again;
    struct explore_program program = scenario_program(scenario);
    char text[512];
    scenario_write(scenario, text, sizeof text);
    printf("\nFAILED: %s\n    %s\n    replay: weir-explore '%s'%s --replay '%s'\n\n", text, failed->message,
           text, scenario->weak ? " --weak 1" : "", failed->schedule);
    explore_replay(&program, failed->schedule, stdout, &again);
    printf("\n");
}

/* --- sweeps --- */

struct sweep {
    const char *name, *about, *subject;
    unsigned threads, ops; /* of each thread */
    unsigned least, most;  /* initial nodes */
    unsigned preemptions, surprises;
    bool weak;
    enum op first[OPS], others[OPS]; /* what thread a and what the others choose from; ends with OPS */
    bool alike;      /* both are the same: combinations that differ in the order of threads are skipped */
    uint64_t random; /* not 0: so many random schedules of random combinations */
};

#define LLIST_MANY                                                                                           \
    {                                                                                                        \
        OP_PUSH, OP_PUSH2, OP_POP_ALL, OP_POP_ALL_FIFO, OP_EMPTY, OPS                                        \
    }
#define LLIST_CONSUMER                                                                                       \
    {                                                                                                        \
        OP_POP, OP_POP_INIT, OP_POP_THIS, OP_PUSH, OPS                                                       \
    }
#define LLIST_ADDER                                                                                          \
    {                                                                                                        \
        OP_PUSH, OP_PUSH2, OP_EMPTY, OPS                                                                     \
    }
#define STACK_ALL                                                                                            \
    {                                                                                                        \
        OP_PUSH, OP_PUSH2, OP_POP, OP_POP_N2, OP_POP_N3, OP_POP_ALL, OP_EMPTY, OPS                           \
    }
#define POOL_ALL                                                                                             \
    {                                                                                                        \
        OP_PUSH, OP_PUSH2, OP_POP, OP_POP_N2, OP_POP_N3, OP_POP_ALL, OP_DECAY50, OP_COUNT, OPS               \
    }

static const struct sweep sweeps[] = {
    {.name = "llist",
     .about = "2 threads, 2 operations each, all may take all",
     .subject = "llist",
     .threads = 2,
     .ops = 2,
     .least = 0,
     .most = 1,
     .preemptions = 4,
     .first = LLIST_MANY,
     .others = LLIST_MANY,
     .alike = true},
    {.name = "llist-3",
     .about = "3 threads, 1 operation each, all may take all",
     .subject = "llist",
     .threads = 3,
     .ops = 1,
     .least = 0,
     .most = 1,
     .preemptions = 4,
     .surprises = 1,
     .first = LLIST_MANY,
     .others = LLIST_MANY,
     .alike = true},
    {.name = "llist-first",
     .about = "one consumer of 2, one adder of 2",
     .subject = "llist",
     .threads = 2,
     .ops = 2,
     .least = 0,
     .most = 2,
     .preemptions = 4,
     .surprises = 1,
     .first = LLIST_CONSUMER,
     .others = LLIST_ADDER},
    {.name = "llist-first-3",
     .about = "one consumer, two adders, 2 operations each",
     .subject = "llist",
     .threads = 3,
     .ops = 2,
     .least = 1,
     .most = 1,
     .preemptions = 2,
     .first = LLIST_CONSUMER,
     .others = LLIST_ADDER},
    {.name = "stack",
     .about = "2 threads, 2 operations each",
     .subject = "stack",
     .threads = 2,
     .ops = 2,
     .least = 0,
     .most = 3,
     .preemptions = 2,
     .first = STACK_ALL,
     .others = STACK_ALL,
     .alike = true},
    {.name = "stack-spurious",
     .about = "the same, a compare-and-swap fails for no reason",
     .subject = "stack",
     .threads = 2,
     .ops = 1,
     .least = 2,
     .most = 3,
     .preemptions = 3,
     .surprises = 1,
     .first = STACK_ALL,
     .others = STACK_ALL,
     .alike = true},
    {.name = "stack-3",
     .about = "3 threads, 1 operation each",
     .subject = "stack",
     .threads = 3,
     .ops = 1,
     .least = 1,
     .most = 3,
     .preemptions = 3,
     .first = STACK_ALL,
     .others = STACK_ALL,
     .alike = true},
    {.name = "stack-random",
     .about = "3 threads, 4 operations each, random",
     .subject = "stack",
     .threads = 3,
     .ops = 4,
     .least = 0,
     .most = 4,
     .random = 200000,
     .first = STACK_ALL,
     .others = STACK_ALL},
    {.name = "pool",
     .about = "2 threads, 2 operations each",
     .subject = "pool",
     .threads = 2,
     .ops = 2,
     .least = 0,
     .most = 3,
     .preemptions = 2,
     .first = POOL_ALL,
     .others = POOL_ALL,
     .alike = true},
    {.name = "pool-3",
     .about = "3 threads, 1 operation each",
     .subject = "pool",
     .threads = 3,
     .ops = 1,
     .least = 1,
     .most = 3,
     .preemptions = 2,
     .first = POOL_ALL,
     .others = POOL_ALL,
     .alike = true},
    {.name = "pool-random",
     .about = "3 threads, 4 operations each, random",
     .subject = "pool",
     .threads = 3,
     .ops = 4,
     .least = 0,
     .most = 4,
     .random = 200000,
     .first = POOL_ALL,
     .others = POOL_ALL},
    {.name = "llist-random",
     .about = "3 threads, 4 operations each, random",
     .subject = "llist",
     .threads = 3,
     .ops = 4,
     .least = 0,
     .most = 4,
     .random = 100000,
     .first = LLIST_MANY,
     .others = LLIST_MANY},
    {.name = "llist-weak",
     .about = "2 threads, 2 operations each, old values may be read",
     .subject = "llist",
     .threads = 2,
     .ops = 2,
     .least = 0,
     .most = 2,
     .preemptions = 2,
     .surprises = 2,
     .weak = true,
     .first = LLIST_MANY,
     .others = LLIST_MANY,
     .alike = true},
    {.name = "llist-first-weak",
     .about = "one consumer, one adder, old values may be read",
     .subject = "llist",
     .threads = 2,
     .ops = 2,
     .least = 0,
     .most = 2,
     .preemptions = 2,
     .surprises = 2,
     .weak = true,
     .first = LLIST_CONSUMER,
     .others = LLIST_ADDER},
    {.name = "stack-weak",
     .about = "2 threads, 2 operations each, old values may be read",
     .subject = "stack",
     .threads = 2,
     .ops = 2,
     .least = 1,
     .most = 2,
     .preemptions = 2,
     .surprises = 1,
     .weak = true,
     .first = STACK_ALL,
     .others = STACK_ALL,
     .alike = true},
    {.name = "pool-weak",
     .about = "2 threads, 2 operations each, old values may be read",
     .subject = "pool",
     .threads = 2,
     .ops = 2,
     .least = 1,
     .most = 2,
     .preemptions = 2,
     .surprises = 1,
     .weak = true,
     .first = POOL_ALL,
     .others = POOL_ALL,
     .alike = true},
};
enum { SWEEPS = sizeof sweeps / sizeof sweeps[0] };

/* Longer ones, for what takes more than two operations: ABA above all. */
static const struct {
    const char *scenario;
    unsigned preemptions;
    bool weak; /* with 3 surprises */
} deep[] = {
    {"stack 2: pop | pop pop push", EXPLORE_ANY, false},
    {"stack 3: pop | pop pop push push", 5, false},
    {"stack 2: pop | pop_all push pop", EXPLORE_ANY, false},
    {"stack 3: pop_n2 | pop pop push", 5, false},
    {"stack 3: pop_n2 | pop_all push push", 4, false},
    {"stack 3: pop_n3 | pop_n2 push pop push", 4, false},
    {"stack 2: pop_all | pop pop push", 5, false},
    {"stack 1: push pop | pop push | pop push", 3, false},
    {"pool 2: pop | pop pop push", 5, false},
    {"pool 3: pop_n2 | pop_all push push", 4, false},
    {"pool 2: pop_all push push | pop pop push", 4, false},
    {"pool 3: decay50 | pop push decay50", 5, false},
    {"pool 2: pop | pop | push count", 3, false},
    {"llist 1: pop push pop | push2 push push", 5, false},
    {"llist 2: pop_init push | push | push", 4, false},
    {"llist 1: pop_all push | push2 | pop_all_fifo push", 4, false},
    {"stack 2: pop_n3 | pop push_new push", 2, true},
    {"pool 2: pop_n3 | pop push_new push", 2, true},
    {"stack 2: pop_n3 | pop push2", 2, true},
    {"stack 1: pop | pop push_new push", 3, true},
    {"pool 1: pop_all | push_new count pop", 3, true},
    {"llist 0: pop_this | push_new push_new", 3, true},
    {"llist 1: pop_this pop | push2 push", 3, true},
};

static unsigned length_of(const enum op *choice)
{
    unsigned n = 0;
    while (choice[n] != OPS)
        n++;
    return n;
}

/* The `index`-th combination of a thread's operations. */
static void choose_ops(struct scenario *scenario, unsigned thread, const enum op *choice, unsigned ops,
                       unsigned index)
{
    unsigned n = length_of(choice);
    scenario->ops[thread] = ops;
    for (unsigned i = 0; i < ops; i++, index /= n)
        scenario->op[thread][i] = choice[index % n];
}

static unsigned power(unsigned base, unsigned exponent)
{
    unsigned p = 1;
    while (exponent-- > 0)
        p *= base;
    return p;
}

struct tally {
    uint64_t scenarios, schedules, longest;
};

static bool explore_one(struct scenario *scenario, const struct sweep *sweep, uint64_t seed,
                        struct tally *tally)
{
    struct explore_program program = scenario_program(scenario);
    if (sweep->random != 0)
        explore_random(&program, 1 + (unsigned)(seed % 4), seed, 100, &result);
    else
        explore_all(&program, sweep->preemptions, sweep->surprises, &result);
    tally->scenarios++;
    tally->schedules += result.schedules;
    if (result.accesses > tally->longest)
        tally->longest = result.accesses;
    if (result.failed)
        report(scenario, &result);
    return !result.failed;
}

static bool sweep_random(const struct sweep *sweep, struct scenario *scenario, struct tally *tally)
{
    uint64_t state = 1;
    for (uint64_t i = 0; i < sweep->random / 100; i++) {
        for (unsigned t = 0; t < sweep->threads; t++) {
            const enum op *choice = t == 0 ? sweep->first : sweep->others;
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            choose_ops(scenario, t, choice, sweep->ops,
                       (unsigned)(state >> 33) % power(length_of(choice), sweep->ops));
        }
        scenario->initial = sweep->least + (unsigned)(i % (sweep->most - sweep->least + 1));
        if (!explore_one(scenario, sweep, i + 1, tally))
            return false;
    }
    return true;
}

static bool sweep_all(const struct sweep *sweep, struct scenario *scenario, struct tally *tally)
{
    unsigned firsts = power(length_of(sweep->first), sweep->ops);
    unsigned others = power(length_of(sweep->others), sweep->ops);
    unsigned all = firsts * power(others, sweep->threads - 1);
    for (unsigned initial = sweep->least; initial <= sweep->most; initial++)
        for (unsigned index = 0; index < all; index++) {
            unsigned choice[EXPLORE_THREADS], rest = index / firsts;
            bool skip = false;
            choice[0] = index % firsts;
            for (unsigned t = 1; t < sweep->threads; t++, rest /= others) {
                choice[t] = rest % others;
                skip = skip || ((sweep->alike || t > 1) && choice[t] < choice[t - 1]);
            }
            if (skip)
                continue;
            for (unsigned t = 0; t < sweep->threads; t++)
                choose_ops(scenario, t, t == 0 ? sweep->first : sweep->others, sweep->ops, choice[t]);
            scenario->initial = initial;
            if (!explore_one(scenario, sweep, 0, tally))
                return false;
        }
    return true;
}

static void print_tally(const char *name, const struct tally *tally, double since, bool ok)
{
    printf("%-16s %7llu scenarios %10llu schedules, longest %3llu accesses, %5.1f s  %s\n", name,
           (unsigned long long)tally->scenarios, (unsigned long long)tally->schedules,
           (unsigned long long)tally->longest, seconds() - since, ok ? "ok" : "FAILED");
    fflush(stdout);
}

static bool run_sweep(const struct sweep *sweep)
{
    struct scenario scenario = {.subject = subject_named(sweep->subject), .threads = sweep->threads};
    struct tally tally = {0};
    double since = seconds();
    scenario.weak = sweep->weak;
    bool ok =
        sweep->random != 0 ? sweep_random(sweep, &scenario, &tally) : sweep_all(sweep, &scenario, &tally);
    print_tally(sweep->name, &tally, since, ok);
    return ok;
}

static bool run_deep(void)
{
    struct scenario scenario;
    struct tally tally = {0};
    double since = seconds();
    bool ok = true;
    for (unsigned i = 0; i < sizeof deep / sizeof deep[0]; i++) {
        const struct sweep sweep = {.preemptions = deep[i].preemptions, .surprises = deep[i].weak ? 3 : 0};
        char message[256];
        if (!scenario_parse(&scenario, deep[i].scenario, message)) {
            printf("%s: %s\n", deep[i].scenario, message);
            return false;
        }
        scenario.weak = deep[i].weak;
        ok = explore_one(&scenario, &sweep, 0, &tally) && ok;
    }
    print_tally("deep", &tally, since, ok);
    return ok;
}

/* --- deliberate mistakes --- */

static const struct {
    const char *about, *scenario;
} bugs[] = {
    {"two del_first at once (ABA)", "llist 2: pop | pop pop push"},
    {"pop_all leaves the generation", "stack-generation-stays 2: pop | pop_all push"},
    {"decay overwrites the head", "pool-overwrites-head 3: decay50 | push"},
    {"get subtracts before it has taken", "pool-subtracts-first 0: pop | count"},
};

static bool fails_again(const struct explore_program *program)
{
    static struct explore_result again;
    return explore_replay(program, result.schedule, NULL, &again) && again.failed &&
           strcmp(again.message, result.message) == 0;
}

/* Threads that make so many accesses each have so many interleavings. */
static const struct {
    const char *scenario;
    uint64_t interleavings;
} counts[] = {
    {"llist 1: empty empty empty | empty empty empty", 20},          /* 6! / (3! 3!) */
    {"llist 1: empty empty | empty empty | empty empty", 90},        /* 6! / (2! 2! 2!) */
    {"llist 1: empty empty empty empty | empty empty | empty", 105}, /* 7! / (4! 2! 1!) */
};

static bool run_counts(void)
{
    bool ok = true;
    for (unsigned i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct scenario scenario;
        char message[256];
        if (!scenario_parse(&scenario, counts[i].scenario, message)) {
            printf("%s: %s\n", counts[i].scenario, message);
            return false;
        }
        struct explore_program program = scenario_program(&scenario);
        explore_all(&program, EXPLORE_ANY, 0, &result);
        bool right = !result.failed && result.schedules == counts[i].interleavings;
        ok = ok && right;
        printf("%-60s %3llu schedules, %s\n", counts[i].scenario, (unsigned long long)result.schedules,
               right ? "all there are" : "NOT as many as there are");
    }
    return ok;
}

static bool run_bugs(void)
{
    bool ok = run_counts();
    ok = litmus() && ok;
    for (unsigned i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        struct scenario scenario;
        char message[256];
        if (!scenario_parse(&scenario, bugs[i].scenario, message)) {
            printf("%s: %s\n", bugs[i].scenario, message);
            return false;
        }
        struct explore_program program = scenario_program(&scenario);
        for (unsigned how = 0; how < 2; how++) {
            double since = seconds();
            if (how == 0)
                explore_all(&program, EXPLORE_ANY, 0, &result);
            else
                explore_random(&program, 3, 1, 1000000, &result);
            bool found = result.failed && fails_again(&program);
            ok = ok && found;
            printf("%-34s %-11s %-9s schedule %6llu, %4.2f s: %s: %s\n", bugs[i].about,
                   how == 0 ? "exhaustive" : "random", found ? "found" : "NOT FOUND",
                   (unsigned long long)result.schedules, seconds() - since, result.schedule, result.message);
        }
    }
    return ok;
}

/* --- the command line --- */

static int bad(const char *format, const char *value)
{
    fprintf(stderr, "weir-explore: ");
    fprintf(stderr, format, value);
    fprintf(stderr, "\n");
    return 2;
}

static bool number(const char *text, uint64_t *value)
{
    char *end;
    *value = strtoull(text, &end, 10);
    return end != text && *end == '\0' && text[0] != '-';
}

static int run_scenario(const char *text, int argc, char **argv)
{
    struct scenario scenario;
    char message[256];
    const char *schedule = NULL;
    struct {
        const char *name;
        uint64_t value;
    } options[] = {{"--preemptions", 3}, {"--surprises", 0}, {"--random", 0},
                   {"--seed", 1},        {"--changes", 3},   {"--weak", 0}};
    if (!scenario_parse(&scenario, text, message))
        return bad("%s; see --help", message);
    for (int i = 0; i < argc; i += 2) {
        bool known = strcmp(argv[i], "--replay") == 0;
        if (i + 1 == argc)
            return bad("'%s' needs a value; see --help", argv[i]);
        if (known)
            schedule = argv[i + 1];
        for (unsigned k = 0; k < sizeof options / sizeof options[0] && !known; k++) {
            known = strcmp(argv[i], options[k].name) == 0;
            if (known && !number(argv[i + 1], &options[k].value))
                return bad("'%s' is not a number", argv[i + 1]);
        }
        if (!known)
            return bad("unknown option '%s'; see --help", argv[i]);
    }
    scenario.weak = options[5].value != 0;
    struct explore_program program = scenario_program(&scenario);
    if (schedule != NULL) {
        if (!explore_replay(&program, schedule, stdout, &result))
            return bad("%s", result.message);
        printf("%s%s\n", result.failed ? "FAILED: " : "ok", result.message);
        return result.failed;
    }
    if (options[2].value != 0)
        explore_random(&program, (unsigned)options[4].value, options[3].value, options[2].value, &result);
    else
        explore_all(&program, (unsigned)options[0].value, (unsigned)options[1].value, &result);
    if (result.failed)
        report(&scenario, &result);
    printf("%llu schedules, the longest of %llu accesses: %s\n", (unsigned long long)result.schedules,
           (unsigned long long)result.accesses, result.failed ? "FAILED" : "ok");
    return result.failed;
}

int main(int argc, char **argv)
{
    const char *first = argc > 1 ? argv[1] : "";
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (strcmp(first, "--list") == 0 && argc == 2) {
        for (unsigned i = 0; i < SWEEPS; i++)
            printf("%-16s %s\n", sweeps[i].name, sweeps[i].about);
        printf("%-16s longer scenarios, one by one\n", "deep");
        return 0;
    }
    if (strcmp(first, "--bugs") == 0 && argc == 2)
        return !run_bugs();
    if (strcmp(first, "--engine") == 0 && argc == 2)
        return !engine();
    if (strcmp(first, "--reserves") == 0 && argc == 2)
        return !reserves();
    if (strcmp(first, "--frames") == 0 && argc == 2)
        return !page_frames();
    if (strcmp(first, "--sweep") == 0 && argc == 3) {
        for (unsigned i = 0; i < SWEEPS; i++)
            if (strcmp(argv[2], sweeps[i].name) == 0)
                return !run_sweep(&sweeps[i]);
        if (strcmp(argv[2], "deep") == 0)
            return !run_deep();
        return bad("no sweep is called '%s'; --list names them", argv[2]);
    }
    if (argc > 1 && first[0] != '-')
        return run_scenario(first, argc - 2, argv + 2);
    if (argc > 1)
        return bad("'%s' is not understood here; see --help", first);
    bool ok = engine() && reserves() && page_frames();
    for (unsigned i = 0; i < SWEEPS; i++)
        ok = run_sweep(&sweeps[i]) && ok;
    return !(run_deep() && ok);
}
