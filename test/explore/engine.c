/* SPDX-License-Identifier: MIT */
/* engine.c - what the engine's correctness hangs on besides floor 1: the gate that fork() closes, and who
 * tells the helper thread that a depot has something to decay. The programs with a mistake in them must fail.
 * */
#include "engine.h"

#include <string.h>

#define WEIR__GATE_STRIPES 2
#include "../../src/gate.h"

#include "../../src/depot.c"

/* --- the gate --- */

static struct weir__gate gate;
static bool inside[2], shut; /* what is so, seen from outside: no access of the threads' */
static uint64_t done[2];
static bool late_look; /* the mistake: who enters looks first, and is counted then */

static void start_gate(void *arg)
{
    (void)arg;
    memset(&gate, 0, sizeof gate);
    memset(inside, 0, sizeof inside);
    memset(done, 0, sizeof done);
    shut = false;
}

static void pass(unsigned thread)
{
    uint32_t state = late_look ? weir__gate_look(&gate) : WEIR__OPEN;
    weir__gate_count_in(&gate, thread);
    if (!late_look)
        state = weir__gate_look(&gate);
    if (state == WEIR__OPEN) {
        if (shut)
            explore_fail("somebody got in after nobody was inside");
        inside[thread] = true;
        weir_store_relaxed(&done[thread], UINT64_C(1));
        inside[thread] = false;
    }
    weir__gate_count_out(&gate, thread);
}

static void shut_it(uint64_t known)
{
    if (!weir__gate_nobody_inside(&gate, known))
        return;
    if (inside[0] || inside[1])
        explore_fail("somebody is inside");
    for (unsigned i = 0; i < 2; i++)
        if (gate.stripe[i].entered != 0 && done[i] != 0 && weir_load_relaxed(&done[i]) == 0)
            explore_fail("what was done inside is not visible");
    shut = true;
}

static void run_gate(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        weir__gate_set(&gate, WEIR__CLOSED);
        shut_it(0);
    } else {
        pass(thread - 1);
    }
}

/*
 * Who enters by a restartable sequence (src/fork.c). The model of one: it commits only if it has not been made
 * to start again since it began. That is what weir_percpu_settle() does, and what the upper half of the word
 * counts that it counts in. And settling is a barrier for whoever begins after it: the acquire.
 */
static uint64_t entered_by_sequence, left_by_sequence;
static bool no_settling; /* the mistake */

static void start_sequences(void *arg)
{
    start_gate(arg);
    entered_by_sequence = left_by_sequence = 0;
}

static void pass_by_sequence(unsigned thread)
{
    uint64_t before;
    do {
        before = weir_load_acquire(&entered_by_sequence);
        if (weir__gate_look(&gate) != WEIR__OPEN) {
            pass(thread);
            return;
        }
    } while (!weir_cas_relaxed(&entered_by_sequence, &before, before + 1));
    if (shut)
        explore_fail("somebody got in after nobody was inside");
    inside[thread] = true;
    weir_store_relaxed(&done[thread], UINT64_C(1));
    inside[thread] = false;
    weir_fetch_add_release(&left_by_sequence, UINT64_C(1));
}

static void run_sequences(void *arg, unsigned thread)
{
    (void)arg;
    if (thread != 0) {
        pass_by_sequence(thread - 1);
        return;
    }
    weir__gate_set(&gate, WEIR__CLOSED);
    if (!no_settling)
        weir_fetch_add_acq_rel(&entered_by_sequence, UINT64_C(1) << 32);
    uint64_t left = weir_load_acquire(&left_by_sequence);
    shut_it(left - (uint32_t)weir_load_relaxed(&entered_by_sequence));
    for (unsigned i = 0; shut && i < 2; i++)
        if (done[i] != 0 && weir_load_relaxed(&done[i]) == 0)
            explore_fail("what was done inside is not visible");
}

/* It was closed, and opens. */
static void start_closed(void *arg)
{
    start_gate(arg);
    gate.state = WEIR__CLOSED;
}

static void run_opening(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        weir_store_relaxed(&done[0], UINT64_C(1));
        weir__gate_set(&gate, WEIR__OPEN);
    } else if (weir__gate_look(&gate) == WEIR__OPEN && weir_load_relaxed(&done[0]) == 0) {
        explore_fail("what was done while it was closed is not visible");
    }
}

/* --- who watches a depot --- */

static struct weir__depots depots;
static struct weir__depot depot;
static struct {
    struct weir_magazine magazine;
    void *object;
} magazines[2];
static bool told, interested;
static bool blind; /* the mistake: nobody looks again after having lost interest */

static void start_watch(void *arg)
{
    (void)arg;
    depot = (struct weir__depot){.limit = 1, .watched = 1};
    depots = (struct weir__depots){.depot = &depot, .domains = 1, .base = 1, .most = 1};
    weir_pool_init(&depot.full);
    for (unsigned i = 0; i < 2; i++)
        magazines[i].magazine = (struct weir_magazine){.count = 1, .capacity = 1};
    told = interested = false;
}

static void run_watch(void *arg, unsigned thread)
{
    (void)arg;
    if (thread != 0) {
        if (weir__depot_keep(&depots, 0, &magazines[thread - 1].magazine))
            told = true;
    } else if (blind) {
        interested = weir_pool_count(&depot.full) != 0;
        if (!interested)
            weir_xchg_acq_rel(&depot.watched, UINT64_C(0));
    } else {
        interested = weir__depots_watch(&depots);
    }
}

static void finish_watch(void *arg)
{
    (void)arg;
    if (weir_pool_count(&depot.full) == 0)
        explore_fail("a magazine is lost");
    if (!told && !interested)
        explore_fail("there is something to decay, and nobody knows");
}

/* --- all of them --- */

static void nothing(void *arg)
{
    (void)arg;
}

static const struct {
    const char *name;
    unsigned threads;
    void (*start)(void *arg);
    void (*run)(void *arg, unsigned thread);
    void (*finish)(void *arg);
    bool *mistake; /* NULL: none */
} programs[] = {
    {"gate: one enters, one closes", 2, start_gate, run_gate, nothing, NULL},
    {"gate: two enter, one closes", 3, start_gate, run_gate, nothing, NULL},
    {"gate: one enters, one opens", 2, start_closed, run_opening, nothing, NULL},
    {"gate: one enters by a sequence, one closes", 2, start_sequences, run_sequences, nothing, NULL},
    {"gate: two enter by sequences, one closes", 3, start_sequences, run_sequences, nothing, NULL},
    {"gate: who closes makes no sequence start again", 2, start_sequences, run_sequences, nothing,
     &no_settling},
    {"gate: who enters looks before being counted", 2, start_gate, run_gate, nothing, &late_look},
    {"depot: one keeps, one loses interest", 2, start_watch, run_watch, finish_watch, NULL},
    {"depot: two keep, one loses interest", 3, start_watch, run_watch, finish_watch, NULL},
    {"depot: no second look", 2, start_watch, run_watch, finish_watch, &blind},
};

bool engine(void)
{
    static struct explore_result result;
    bool ok = true;
    for (unsigned i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        const struct explore_program program = {.threads = programs[i].threads,
                                                .start = programs[i].start,
                                                .run = programs[i].run,
                                                .finish = programs[i].finish,
                                                .weak = true};
        if (programs[i].mistake != NULL)
            *programs[i].mistake = true;
        explore_all(&program, programs[i].threads == 2 ? EXPLORE_ANY : 4, 2, &result);
        if (programs[i].mistake != NULL)
            *programs[i].mistake = false;
        bool right = result.failed == (programs[i].mistake != NULL);
        ok = ok && right;
        printf("%-50s %7llu schedules, %s%s%s\n", programs[i].name, (unsigned long long)result.schedules,
               result.failed ? result.message : "all well", right ? "" : ": WRONG, ",
               right ? "" : result.schedule);
    }
    return ok;
}
