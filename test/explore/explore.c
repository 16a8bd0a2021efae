/* SPDX-License-Identifier: MIT */
#include "explore.h"

#include <ctype.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"

enum { STACK_BYTES = 128 << 10, BYTES_SURPRISES = 10 };

/* --- the run under way --- */

struct coroutine {
    struct context where;
    bool ended, chosen; /* chosen: it makes the next access */
    uint64_t first;     /* access since explore_mark() */
    _Alignas(16) char stack[STACK_BYTES];
};

static struct {
    const struct explore_program *program;
    struct explore_result *result;
    struct coroutine thread[EXPLORE_THREADS];
    bool born; /* the coroutines exist, each at its beginning */
    bool running;
    unsigned self;
    uint64_t accesses;
    size_t written;    /* of result->schedule: */
    char letter;       /* its last, */
    unsigned repeated; /* so often, without a mark */
    jmp_buf ground;    /* out of start() or finish() */
    FILE *trace;
    const volatile void *address; /* of the access under way */
    const char *operation, *file;
    int line, order;
    bool old;     /* the access under way has read one */
    bool refused; /* the schedule to replay cannot be followed */
} run;

/* --- who is next: one of four ways to decide --- */

/* One of the threads in `can`, a bit each, which has more than one; `self` is the one that runs, and may not be
 * in it. */
static unsigned (*choose)(unsigned can, unsigned self);
/* Less than `n`, which is 2 or more; 0 is no surprise. */
static unsigned (*surprise)(unsigned n);

static unsigned lowest(unsigned can)
{
    return (unsigned)__builtin_ctz(can);
}

static bool one_of(unsigned thread, unsigned can)
{
    return can >> thread & 1;
}

/* Depth first through all of them. */

struct decision {
    uint8_t chosen, untried; /* a number, and bits */
};

static struct {
    struct decision decision[2 * EXPLORE_ACCESSES + EXPLORE_THREADS];
    unsigned known, at;              /* decisions to repeat; the present one */
    unsigned preemptions, surprises; /* made */
    unsigned preemptions_bound, surprises_bound;
} depth;

/* The decision that is repeated, or else `usual` now and `others` later. */
static unsigned depth_decide(unsigned usual, unsigned others)
{
    struct decision *d = &depth.decision[depth.at];
    if (depth.at++ >= depth.known) {
        d->chosen = (uint8_t)usual;
        d->untried = (uint8_t)others;
        depth.known = depth.at;
    }
    return d->chosen;
}

static unsigned depth_choose(unsigned can, unsigned self)
{
    bool could_go_on = one_of(self, can);
    unsigned usual = could_go_on ? self : lowest(can);
    bool may = !could_go_on || depth.preemptions < depth.preemptions_bound;
    unsigned chosen = depth_decide(usual, may ? can & ~(1u << usual) : 0);
    depth.preemptions += could_go_on && chosen != self;
    return chosen;
}

static unsigned depth_surprise(unsigned n)
{
    if (depth.surprises_bound == 0)
        return 0;
    unsigned chosen = depth_decide(0, depth.surprises < depth.surprises_bound ? (1u << n) - 2 : 0);
    depth.surprises += chosen != 0;
    return chosen;
}

/* To the next schedule; false if there is none. */
static bool depth_next(void)
{
    while (depth.known > 0) {
        struct decision *d = &depth.decision[depth.known - 1];
        if (d->untried != 0) {
            d->chosen = (uint8_t)lowest(d->untried);
            d->untried &= (uint8_t)(d->untried - 1);
            return true;
        }
        depth.known--;
    }
    return false;
}

/* Random, by priorities that change a few times. */

static struct {
    uint64_t state;
    unsigned priority[EXPLORE_THREADS], lowest;
    uint64_t change_at[8];
    unsigned changes;
} chance;

static uint64_t chance_draw(void) /* xorshift64* */
{
    chance.state ^= chance.state >> 12;
    chance.state ^= chance.state << 25;
    chance.state ^= chance.state >> 27;
    return chance.state * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

static unsigned chance_choose(unsigned can, unsigned self)
{
    for (unsigned i = 0; i < chance.changes; i++)
        if (chance.change_at[i] == run.accesses && one_of(self, can))
            chance.priority[self] = --chance.lowest;
    unsigned best = lowest(can);
    for (unsigned i = 0; i < EXPLORE_THREADS; i++)
        if (one_of(i, can) && chance.priority[i] > chance.priority[best])
            best = i;
    return best;
}

static unsigned chance_surprise(unsigned n)
{
    return chance_draw() % 16 == 0 ? (unsigned)(chance_draw() % n) : 0;
}

/* By bytes. */

static struct {
    const uint8_t *next, *end;
    unsigned surprises; /* left: without an end of them a run would have none */
} bytes;

static unsigned bytes_choose(unsigned can, unsigned self)
{
    if (bytes.next == bytes.end)
        return one_of(self, can) ? self : lowest(can);
    unsigned skip = *bytes.next++ % (unsigned)__builtin_popcount(can);
    while (skip-- > 0)
        can &= can - 1;
    return lowest(can);
}

static unsigned bytes_surprise(unsigned n)
{
    if (bytes.surprises == 0 || bytes.next == bytes.end)
        return 0;
    unsigned byte = *bytes.next++, chosen = byte >= 240 ? byte % n : 0;
    bytes.surprises -= chosen != 0;
    return chosen;
}

/* As written. */

static struct {
    const char *next;
    unsigned repeat;
    char letter;
    unsigned surprise; /* the marks behind the letter */
} script;

static void refuse(const char *format, unsigned value)
{
    if (!run.refused)
        snprintf(run.result->message, sizeof run.result->message, format, value);
    run.refused = true;
}

static unsigned script_choose(unsigned can, unsigned self)
{
    if (script.repeat == 0 && *script.next != '\0') {
        char *end;
        script.letter = *script.next++;
        script.repeat = (unsigned)strtoul(script.next, &end, 10);
        script.repeat = end == script.next ? 1 : script.repeat;
        script.next = end;
        for (script.surprise = 0; *script.next == '!' || *script.next == '~'; script.next++)
            script.surprise++;
    }
    if (script.repeat == 0) {
        script.surprise = 0;
        return one_of(self, can) ? self : lowest(can);
    }
    script.repeat--;
    unsigned thread = (unsigned)(script.letter - 'a');
    if (!one_of(thread, can)) {
        refuse("the schedule gives access %u to a thread that has ended, or is none",
               (unsigned)run.accesses + 1);
        return lowest(can);
    }
    return thread;
}

static unsigned script_surprise(unsigned n)
{
    return script.surprise < n ? script.surprise : 0;
}

/* --- coroutines --- */

static unsigned runnable(void)
{
    unsigned can = 0;
    for (unsigned i = 0; i < run.program->threads; i++)
        can |= (unsigned)!run.thread[i].ended << i;
    return can;
}

/* Decides who makes the next access. A replay is asked even where there is only one, since its schedule says so too. */
static unsigned next_thread(void)
{
    unsigned can = runnable();
    unsigned next = (can & (can - 1)) != 0 || choose == script_choose ? choose(can, run.self) : lowest(can);
    run.thread[next].chosen = true;
    return next;
}

/* Runs another thread; returns when this one has been chosen again. */
static void switch_to(unsigned thread, struct coroutine *from)
{
    run.self = thread;
    context_switch(&from->where, &run.thread[thread].where);
}

static void body(void)
{
    struct coroutine *const thread = &run.thread[run.self];
    const unsigned self = run.self;
    context_arrived(NULL);
    for (;;) {
        run.program->run(run.program->arg, self);
        thread->ended = true;
        thread->chosen = false;
        /* Either way this one waits for the next run. */
        if (runnable() != 0) {
            switch_to(next_thread(), thread);
        } else {
            run.running = false;
            context_switch(&thread->where, &home);
        }
    }
}

/* --- the schedule in writing --- */

/* Adds an access to the written schedule, marked or not. */
static void write_access(char letter, const char *mark)
{
    char *text = run.result->schedule;
    if (run.repeated > 0 && run.letter == letter && *mark == '\0') {
        /* The number behind the letter grows in place. */
        run.repeated++;
        while (isdigit((unsigned char)text[run.written - 1]))
            run.written--;
        run.written += (size_t)sprintf(text + run.written, "%u", run.repeated);
        return;
    }
    run.written += (size_t)sprintf(text + run.written, "%c%s", letter, mark);
    run.letter = letter;
    run.repeated = *mark == '\0';
}

/* The access under way is a surprise: it is written already, and gets its marks now. */
static void mark_access(const char *mark)
{
    unsigned before = run.repeated - 1;
    while (isdigit((unsigned char)run.result->schedule[run.written - 1]))
        run.written--;
    run.written--;
    run.repeated = 0;
    if (before > 0) {
        run.written += (size_t)sprintf(run.result->schedule + run.written, before > 1 ? "%c%u" : "%c",
                                       run.letter, before);
    }
    write_access(run.letter, mark);
}

/* --- weak programs: the values that a load may still see --- */

enum { LOCATIONS = 64, VALUES = 64 };

/* Of each location, the number of the newest value that one knows of. */
struct view {
    uint8_t newest[LOCATIONS];
};

static struct {
    const volatile void *address;
    unsigned n;
    uint64_t value[VALUES];
    struct view told[VALUES]; /* what acquiring it tells */
} location[LOCATIONS];

static unsigned locations;
static struct view known[EXPLORE_THREADS + 1];
static unsigned here; /* the location of the access under way */

static void forget(void)
{
    locations = 0;
    memset(known, 0, sizeof known);
}

static void learn(struct view *view, const struct view *more)
{
    for (unsigned i = 0; i < LOCATIONS; i++)
        if (more->newest[i] > view->newest[i])
            view->newest[i] = more->newest[i];
}

static bool acquires(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static bool releases(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

/* Finds the location; a new one has the value that all threads begin with. */
static void touch(const volatile void *address)
{
    for (here = 0; here < locations; here++)
        if (location[here].address == address)
            return;
    if (locations == LOCATIONS)
        explore_fail("more than %d locations", LOCATIONS);
    locations++;
    location[here].address = address;
    location[here].n = 1;
    /* It may be a half of 8 bytes. */
    memcpy(&location[here].value[0], (const void *)(uintptr_t)address, sizeof location[here].value[0]);
    memset(&location[here].told[0], 0, sizeof location[here].told[0]);
}

/* The thread has seen that value. */
static void see(unsigned number, int order)
{
    struct view *view = &known[run.self];
    if (number > view->newest[here])
        view->newest[here] = (uint8_t)number;
    if (acquires(order))
        learn(view, &location[here].told[number]);
}

/* The thread adds a value; it passes on what `before` told, if it is part of the same chain. */
static void add(uint64_t value, int order, const struct view *before)
{
    unsigned number = location[here].n;
    struct view *told = &location[here].told[number];
    if (number == VALUES)
        explore_fail("more than %d values in one place", VALUES);
    location[here].n++;
    location[here].value[number] = value;
    known[run.self].newest[here] = (uint8_t)number;
    memset(told, 0, sizeof *told);
    if (before != NULL)
        learn(told, before);
    if (releases(order))
        learn(told, &known[run.self]);
    told->newest[here] = (uint8_t)number;
}

uint64_t explore_loaded(uint64_t newest, int order)
{
    if (!run.running || !run.program->weak)
        return newest;
    unsigned last = location[here].n - 1, oldest = known[run.self].newest[here];
    unsigned choices = last - oldest < EXPLORE_OLDER ? last - oldest + 1 : EXPLORE_OLDER + 1;
    unsigned older = choices > 1 ? surprise(choices) : 0;
    if (older > 0 && choose != depth_choose)
        mark_access(&"~~~"[EXPLORE_OLDER - older]);
    run.old = older > 0;
    see(last - older, order);
    return location[here].value[last - older];
}

void explore_stored(uint64_t value, int order)
{
    if (run.running && run.program->weak)
        add(value, order, NULL);
}

void explore_compared(int order)
{
    if (run.running && run.program->weak)
        see(location[here].n - 1, order);
}

void explore_modified(uint64_t value, int order)
{
    if (!run.running || !run.program->weak)
        return;
    unsigned read = location[here].n - 1;
    see(read, order);
    add(value, order, &location[here].told[read]);
}

void explore_touch(const volatile void *address)
{
    run.address = address;
    if (run.running && run.program->weak)
        touch(address);
}

void explore_modified_pair(const uint64_t p[2])
{
    if (!run.running || !run.program->weak)
        return;
    touch(&p[0]);
    const unsigned first = here;
    explore_modified(p[0], __ATOMIC_ACQ_REL);
    touch(&p[1]);
    explore_modified(p[1], __ATOMIC_ACQ_REL);
    /* Who sees one of the new words knows of the other. */
    location[first].told[location[first].n - 1] = location[here].told[location[here].n - 1];
}

uint64_t explore_read_owned(const void *address)
{
    if (run.running && run.program->weak) {
        touch(address);
        if (known[run.self].newest[here] != location[here].n - 1)
            explore_fail("%c owns an object, and may not see what was written to it last",
                         'a' + (int)run.self);
    }
    return __atomic_load_n((const uint64_t *)address, __ATOMIC_RELAXED);
}

void explore_write_owned(void *address, uint64_t value)
{
    if (run.running && run.program->weak) {
        touch(address);
        add(value, __ATOMIC_RELEASE, NULL);
    }
    __atomic_store_n((uint64_t *)address, value, __ATOMIC_RELAXED);
}

/* --- one run --- */

static void run_once(void)
{
    const struct explore_program *program = run.program;
    for (unsigned i = 0; i < EXPLORE_THREADS && !run.born; i++)
        context_make(&run.thread[i].where, run.thread[i].stack, STACK_BYTES, body);
    run.born = true;
    for (unsigned i = 0; i < EXPLORE_THREADS; i++) {
        run.thread[i].ended = i >= program->threads;
        run.thread[i].chosen = false;
    }
    run.accesses = 0;
    run.written = run.repeated = 0;
    forget();
    run.result->schedule[0] = '\0';
    run.result->schedules++;
    run.refused = false;
    run.self = EXPLORE_THREADS;
    if (_setjmp(run.ground) == 0) {
        program->start(program->arg);
        run.running = true;
        run.self = next_thread();
        context_switch(&home, &run.thread[run.self].where);
        run.self = EXPLORE_THREADS;
        if (!run.result->failed && !run.refused)
            program->finish(program->arg);
    }
    if (run.accesses > run.result->accesses)
        run.result->accesses = run.accesses;
}

void explore_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(run.result->message, sizeof run.result->message, format, args);
    va_end(args);
    run.result->failed = true;
    if (!run.running)
        _longjmp(run.ground, 1);
    run.running = run.born = false; /* the threads are left in the middle of something, for ever */
    struct context nowhere;
    context_switch(&nowhere, &home);
    abort();
}

unsigned explore_self(void)
{
    return run.self;
}

uint64_t explore_now(void)
{
    return run.accesses;
}

void explore_mark(void)
{
    run.thread[run.self].first = 0;
}

uint64_t explore_first(void)
{
    return run.thread[run.self].first;
}

void explore_before(const char *operation, int order, const volatile void *address, const char *file,
                    int line)
{
    if (!run.running)
        return;
    struct coroutine *thread = &run.thread[run.self];
    if (!thread->chosen) {
        unsigned next = next_thread();
        if (next != run.self)
            switch_to(next, thread);
    }
    thread->chosen = false;
    if (++run.accesses > EXPLORE_ACCESSES)
        explore_fail("no end after %d accesses", EXPLORE_ACCESSES);
    if (thread->first == 0)
        thread->first = run.accesses;
    run.operation = operation;
    run.order = order;
    run.address = address;
    run.file = file;
    run.line = line;
    run.old = false;
    if (choose != depth_choose)
        write_access((char)('a' + run.self), "");
    if (run.program->weak)
        touch(address);
}

bool explore_spurious(void)
{
    if (!run.running || surprise(2) == 0)
        return false;
    if (choose != depth_choose)
        mark_access("!");
    return true;
}

void explore_after(uint64_t value, bool done)
{
    static const char *const orders[] = {"relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst"};
    if (!run.running || run.trace == NULL)
        return;
    const struct explore_program *program = run.program;
    char where[64], what[64], name[64] = "", meaning[64];
    const char *slash = strrchr(run.file, '/');
    snprintf(where, sizeof where, "%s:%d", slash != NULL ? slash + 1 : run.file, run.line);
    snprintf(what, sizeof what, "%s %s", run.operation, orders[run.order]);
    snprintf(meaning, sizeof meaning, "%" PRIx64, value);
    if (program->name != NULL)
        program->name(program->arg, (const void *)run.address, name, sizeof name);
    if (program->value != NULL)
        program->value(program->arg, value, meaning, sizeof meaning);
    fprintf(run.trace, "%5" PRIu64 " %*s%c%*s  %-18s %-14s %-20s %s%s\n", run.accesses, (int)(2 * run.self),
            "", 'a' + (int)run.self, (int)(2 * (EXPLORE_THREADS - 1 - run.self)), "", what, name, meaning,
            where, done ? "" : "  fails");
}

/* --- many runs --- */

static void on_crash(int number)
{
    explore_fail("%s", strsignal(number));
}

static void catch_crashes(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT};
    static _Alignas(16) char stack[64 << 10];
    static bool caught;
    if (caught)
        return;
    caught = true;
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_NODEFER};
    for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);
}

static void begin(const struct explore_program *program, struct explore_result *result,
                  unsigned (*how)(unsigned, unsigned), unsigned (*surprises)(unsigned))
{
    memset(result, 0, offsetof(struct explore_result, message));
    result->message[0] = result->schedule[0] = '\0';
    run.program = program;
    run.result = result;
    run.trace = NULL;
    choose = how;
    surprise = surprises;
}

/* A failed run of explore_all() has not written its schedule: run it once more, by its decisions. */
static void write_down(struct explore_result *result);

void explore_all(const struct explore_program *program, unsigned preemptions, unsigned surprises,
                 struct explore_result *result)
{
    begin(program, result, depth_choose, depth_surprise);
    catch_crashes();
    depth.known = 0;
    depth.preemptions_bound = preemptions;
    depth.surprises_bound = surprises;
    do {
        depth.at = depth.preemptions = depth.surprises = 0;
        run_once();
    } while (!result->failed && depth_next());
    if (result->failed)
        write_down(result);
}

static unsigned repeat_choose(unsigned can, unsigned self)
{
    return depth_choose(can, self);
}

static void write_down(struct explore_result *result)
{
    uint64_t schedules = result->schedules;
    choose = repeat_choose; /* the same decisions, but not the way that leaves out writing */
    result->failed = false;
    depth.at = depth.preemptions = depth.surprises = 0;
    run_once();
    result->schedules = schedules;
    if (!result->failed) {
        result->failed = true;
        snprintf(result->message, sizeof result->message,
                 "failed once, but not when it was run again: the program "
                 "does not do the same each time");
    }
}

void explore_random(const struct explore_program *program, unsigned changes, uint64_t seed, uint64_t runs,
                    struct explore_result *result)
{
    begin(program, result, chance_choose, chance_surprise);
    catch_crashes();
    if (changes > sizeof chance.change_at / sizeof chance.change_at[0])
        changes = sizeof chance.change_at / sizeof chance.change_at[0];
    chance.state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    chance.changes = changes;
    for (uint64_t i = 0; i < runs && !result->failed; i++) {
        chance.lowest = 100;
        for (unsigned t = 0; t < EXPLORE_THREADS; t++)
            chance.priority[t] = 101 + (unsigned)(chance_draw() % 1000) * EXPLORE_THREADS + t;
        for (unsigned c = 0; c < changes; c++)
            chance.change_at[c] = 1 + chance_draw() % (result->accesses + 1);
        run_once();
    }
}

void explore_bytes(const struct explore_program *program, const uint8_t *first, size_t n,
                   struct explore_result *result)
{
    begin(program, result, bytes_choose, bytes_surprise);
    bytes.next = first;
    bytes.end = first + n;
    bytes.surprises = BYTES_SURPRISES;
    run_once();
}

bool explore_replay(const struct explore_program *program, const char *schedule, FILE *trace,
                    struct explore_result *result)
{
    begin(program, result, script_choose, script_surprise);
    catch_crashes();
    script.next = schedule;
    script.repeat = 0;
    script.surprise = 0;
    run.trace = trace;
    for (const char *c = schedule; *c != '\0'; c++)
        if (!isdigit((unsigned char)*c) && *c != '!' && *c != '~' &&
            (*c < 'a' || *c >= 'a' + (int)program->threads)) {
            snprintf(result->message, sizeof result->message,
                     "'%c' in the schedule is no thread of this program: a to %c", *c,
                     'a' + (int)program->threads - 1);
            return false;
        }
    run_once();
    return !run.refused;
}
