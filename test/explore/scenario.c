/* SPDX-License-Identifier: MIT */
#include "scenario.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "subjects.h"

union node nodes[SCENARIO_NODES];

static const char *const op_names[OPS] = {
    [OP_PUSH] = "push",
    [OP_PUSH_NEW] = "push_new",
    [OP_PUSH2] = "push2",
    [OP_PUSH3] = "push3",
    [OP_PUSH_UNSHARED] = "push_unshared",
    [OP_POP] = "pop",
    [OP_POP_INIT] = "pop_init",
    [OP_POP_THIS] = "pop_this",
    [OP_POP_N2] = "pop_n2",
    [OP_POP_N3] = "pop_n3",
    [OP_POP_ALL] = "pop_all",
    [OP_POP_ALL_FIFO] = "pop_all_fifo",
    [OP_DECAY50] = "decay50",
    [OP_EMPTY] = "empty",
    [OP_COUNT] = "count",
};

const char *op_name(enum op op)
{
    return op_names[op];
}

/* --- nodes and chains --- */

static bool is_node(const void *address)
{
    uintptr_t offset = (uintptr_t)address - (uintptr_t)nodes;
    return offset < sizeof nodes && offset % sizeof nodes[0] == 0;
}

uint8_t number_of(const void *node)
{
    if (!is_node(node))
        explore_fail("%p was handed out, which is no node", node);
    return (uint8_t)((const union node *)node - nodes);
}

/* Between the explored accesses, and at once with the one before. */
static uintptr_t link_of(unsigned number)
{
    return (uintptr_t)explore_read_owned(&nodes[number]);
}

static void set_link(unsigned number, uintptr_t value)
{
    explore_write_owned(&nodes[number], value);
}

void take_chain(struct call *call, const void *first)
{
    for (uintptr_t at = (uintptr_t)first; at != 0;) {
        uint8_t number = number_of((const void *)at);
        if (call->outs == SCENARIO_NODES)
            explore_fail("%s returned a chain with a cycle", op_name(call->op));
        call->out[call->outs++] = number;
        at = link_of(number);
        set_link(number, SPOILED);
    }
}

union node *chain_of(const struct call *call, union node **last)
{
    for (unsigned i = 0; i + 1 < call->ins; i++)
        set_link(call->in[i], (uintptr_t)&nodes[call->in[i + 1]]);
    *last = &nodes[call->in[call->ins - 1]];
    return &nodes[call->in[0]];
}

unsigned numbers_of(const void *first, uint8_t numbers[SCENARIO_NODES + 1])
{
    unsigned n = 0;
    for (uintptr_t at = (uintptr_t)first; at != 0; at = link_of(numbers[n++]))
        if (n == SCENARIO_NODES || !is_node((const void *)at))
            return SCENARIO_NODES + 1;
        else
            numbers[n] = number_of((const void *)at);
    return n;
}

/* Nodes are named A, B, C ..., then A1, B1 ... */
static void name_of_number(unsigned number, const char *member, char *text, size_t size)
{
    if (number < 26)
        snprintf(text, size, "%c%s", 'A' + (int)number, member);
    else
        snprintf(text, size, "%c%u%s", 'A' + (int)(number % 26), number / 26, member);
}

void meaning_of_pointer(uint64_t value, char *text, size_t size)
{
    if (value == 0)
        snprintf(text, size, "NULL");
    else if (value == SPOILED)
        snprintf(text, size, "spoiled");
    else if (is_node((const void *)(uintptr_t)value))
        name_of_number(number_of((const void *)(uintptr_t)value), "", text, size);
    else
        snprintf(text, size, "%lld", (long long)value);
}

bool name_of_node(const void *address, char *text, size_t size)
{
    if (!is_node(address))
        return false;
    name_of_number(number_of(address), ".next", text, size);
    return true;
}

/* --- a run --- */

static struct {
    struct scenario *scenario;
    struct call call[EXPLORE_THREADS][SCENARIO_OPS];
    unsigned calls[EXPLORE_THREADS];
    uint8_t held[EXPLORE_THREADS][SCENARIO_NODES]; /* taken, and not given back: oldest first */
    unsigned holds[EXPLORE_THREADS];
    uint8_t fresh[EXPLORE_THREADS]; /* the next node of its own */
    uint8_t first_top;
} state;

static unsigned pushes(enum op op)
{
    return op == OP_PUSH || op == OP_PUSH_NEW || op == OP_PUSH_UNSHARED ? 1
           : op == OP_PUSH2                                             ? 2
           : op == OP_PUSH3                                             ? 3
                                                                        : 0;
}

static void supply(struct call *call, unsigned thread)
{
    for (call->ins = 0; call->ins < pushes(call->op); call->ins++) {
        if (state.holds[thread] > 0 && call->op != OP_PUSH_NEW) {
            call->in[call->ins] = state.held[thread][0];
            state.holds[thread]--;
            memmove(&state.held[thread][0], &state.held[thread][1], state.holds[thread]);
        } else {
            call->in[call->ins] = state.fresh[thread]++;
        }
    }
}

static void start(void *arg)
{
    struct scenario *scenario = arg;
    state.scenario = scenario;
    scenario->subject->init();
    for (unsigned i = 0; i < SCENARIO_NODES; i++)
        set_link(i, SPOILED);
    for (unsigned i = scenario->initial; i-- > 0;) {
        struct call call = {.op = OP_PUSH, .in = {(uint8_t)i}, .ins = 1};
        scenario->subject->perform(&call);
    }
    state.first_top = scenario->initial > 0 ? 0 : SCENARIO_INITIAL + SCENARIO_OPS * 3;
    for (unsigned t = 0; t < EXPLORE_THREADS; t++) {
        state.calls[t] = state.holds[t] = 0;
        state.fresh[t] = (uint8_t)(SCENARIO_INITIAL + t * SCENARIO_OPS * 3);
    }
}

static void run(void *arg, unsigned thread)
{
    const struct scenario *scenario = arg;
    for (unsigned i = 0; i < scenario->ops[thread]; i++) {
        struct call *call = &state.call[thread][i];
        call->op = scenario->op[thread][i];
        call->outs = 0;
        call->said = false;
        call->weak = scenario->weak;
        call->count = 0;
        supply(call, thread);
        if (call->op == OP_POP_THIS)
            call->in[0] = state.first_top;
        explore_mark();
        scenario->subject->perform(call);
        call->end = explore_now();
        call->begin = explore_first() != 0 ? explore_first() : call->end;
        if (scenario
                ->weak) /* there is no order in time that all threads agree on; in each of them there is */
            call->begin = call->end = 0;
        for (unsigned k = 0; k < call->outs; k++)
            state.held[thread][state.holds[thread]++] = call->out[k];
        state.calls[thread]++;
    }
}

/* --- every node once --- */

static void count_nodes(void)
{
    const struct scenario *scenario = state.scenario;
    uint8_t seen[SCENARIO_NODES] = {0}, rest[SCENARIO_NODES + 1];
    char name[16];
    unsigned n = scenario->subject->nodes(rest);
    if (n > SCENARIO_NODES)
        explore_fail("what is left in the %s is no chain", scenario->subject->name);
    for (unsigned i = 0; i < n; i++)
        seen[rest[i]]++;
    for (unsigned t = 0; t < EXPLORE_THREADS; t++) {
        for (unsigned i = 0; i < state.holds[t]; i++)
            seen[state.held[t][i]]++;
        for (unsigned i = state.fresh[t]; i < SCENARIO_INITIAL + (t + 1) * SCENARIO_OPS * 3; i++)
            seen[i]++;
    }
    for (unsigned i = scenario->initial; i < SCENARIO_INITIAL; i++)
        seen[i]++;
    for (unsigned i = 0; i < SCENARIO_NODES; i++) {
        name_of_number(i, "", name, sizeof name);
        if (seen[i] == 0)
            explore_fail("node %s is lost", name);
        if (seen[i] > 1)
            explore_fail("node %s is in two places", name);
    }
    if (scenario->subject->count != NULL && scenario->subject->count() != (long)n)
        explore_fail("at rest it counts %ld, and holds %u", scenario->subject->count(), n);
}

/* --- is there an order? --- */

struct model {
    uint8_t node[SCENARIO_NODES]; /* the last is on top */
    unsigned n;
};

static bool takes(struct model *model, const struct call *call, unsigned most, bool oldest_first)
{
    unsigned take = most < model->n ? most : model->n;
    if (call->outs != take)
        return false;
    for (unsigned i = 0; i < take; i++)
        if (call->out[oldest_first ? take - 1 - i : i] != model->node[model->n - 1 - i])
            return false;
    model->n -= take;
    return true;
}

/* Does the call give this result when it happens to the model? */
static bool happens(struct model *model, const struct call *call)
{
    const struct subject *subject = state.scenario->subject;
    switch (call->op) {
    case OP_PUSH:
    case OP_PUSH_NEW:
    case OP_PUSH2:
    case OP_PUSH3:
    case OP_PUSH_UNSHARED:
        if (subject->says_empty && call->said != (model->n == 0))
            return false;
        for (unsigned i = call->ins; i-- > 0;)
            model->node[model->n++] = call->in[i];
        return true;
    case OP_POP:
    case OP_POP_INIT:
        return takes(model, call, 1, false);
    case OP_POP_THIS:
        if (call->said != (model->n > 0 && model->node[model->n - 1] == call->in[0]))
            return false;
        return takes(model, call, call->said, false);
    case OP_POP_N2:
        return takes(model, call, 2, false);
    case OP_POP_N3:
        return takes(model, call, 3, false);
    case OP_POP_ALL:
        return takes(model, call, SCENARIO_NODES, false);
    case OP_POP_ALL_FIFO:
        return takes(model, call, SCENARIO_NODES, true);
    case OP_DECAY50:
        /* It counts, and takes some time after: how much is not promised, nor tested, beside others. */
        return takes(model, call, call->outs, false);
    case OP_EMPTY:
        return call->said == (model->n == 0);
    case OP_COUNT:
        return !subject->counts || call->count == model->n;
    default:
        return false;
    }
}

/* Can the calls from done[] on happen in some order? */
static bool ordered(const struct model *model, unsigned done[EXPLORE_THREADS])
{
    uint64_t earliest_end = UINT64_MAX;
    for (unsigned t = 0; t < EXPLORE_THREADS; t++)
        if (done[t] < state.calls[t] && state.call[t][done[t]].end < earliest_end)
            earliest_end = state.call[t][done[t]].end;
    if (earliest_end == UINT64_MAX)
        return true;
    for (unsigned t = 0; t < EXPLORE_THREADS; t++) {
        if (done[t] == state.calls[t] || state.call[t][done[t]].begin > earliest_end)
            continue;
        struct model after = *model;
        if (!happens(&after, &state.call[t][done[t]]))
            continue;
        done[t]++;
        bool all = ordered(&after, done);
        done[t]--;
        if (all)
            return true;
    }
    return false;
}

/* The calls with their results, for a message. */
static void write_calls(char *text, size_t size)
{
    size_t at = 0;
    for (unsigned t = 0; t < state.scenario->threads && at < size; t++)
        for (unsigned i = 0; i < state.calls[t] && at < size; i++) {
            const struct call *call = &state.call[t][i];
            char name[16];
            at += (size_t)snprintf(text + at, size - at, "%s%c %s", at > 0 ? "; " : "", 'a' + (int)t,
                                   op_name(call->op));
            for (unsigned k = 0; k < call->ins && at < size; k++) {
                name_of_number(call->in[k], "", name, sizeof name);
                at += (size_t)snprintf(text + at, size - at, " %s", name);
            }
            if (call->said && at < size)
                at += (size_t)snprintf(text + at, size - at, " true");
            if (call->op == OP_COUNT && at < size)
                at += (size_t)snprintf(text + at, size - at, " %zu", call->count);
            for (unsigned k = 0; k < call->outs && at < size; k++) {
                name_of_number(call->out[k], "", name, sizeof name);
                at += (size_t)snprintf(text + at, size - at, "%s%s", k > 0 ? " " : " -> ", name);
            }
        }
}

static void finish(void *arg)
{
    (void)arg;
    struct model model = {.n = 0};
    unsigned done[EXPLORE_THREADS] = {0};
    char text[200];
    count_nodes();
    for (unsigned i = state.scenario->initial; i-- > 0;)
        model.node[model.n++] = (uint8_t)i;
    if (!ordered(&model, done)) {
        write_calls(text, sizeof text);
        explore_fail("no order gives: %s", text);
    }
}

static void name(void *arg, const void *address, char *text, size_t size)
{
    const struct scenario *scenario = arg;
    if (!name_of_node(address, text, size))
        scenario->subject->name_of(address, text, size);
}

static void value(void *arg, uint64_t number, char *text, size_t size)
{
    const struct scenario *scenario = arg;
    scenario->subject->meaning(number, text, size);
}

struct explore_program scenario_program(struct scenario *scenario)
{
    return (struct explore_program){.threads = scenario->threads,
                                    .start = start,
                                    .run = run,
                                    .finish = finish,
                                    .arg = scenario,
                                    .weak = scenario->weak,
                                    .name = name,
                                    .value = value};
}

/* --- in writing --- */

const struct subject *subject_named(const char *name)
{
    for (unsigned i = 0; i < subjects_count; i++)
        if (strcmp(subjects[i]->name, name) == 0)
            return subjects[i];
    return NULL;
}

static bool parse_word(struct scenario *scenario, const char *word, char message[256])
{
    unsigned t = scenario->threads - 1;
    if (strcmp(word, "|") == 0) {
        if (scenario->threads == EXPLORE_THREADS) {
            snprintf(message, 256, "more than %d threads", EXPLORE_THREADS);
            return false;
        }
        scenario->threads++;
        return true;
    }
    for (enum op op = 0; op < OPS; op++) {
        if (strcmp(word, op_names[op]) != 0)
            continue;
        if (!scenario->subject->has[op]) {
            snprintf(message, 256, "a %s has no '%s'", scenario->subject->name, word);
            return false;
        }
        if (scenario->ops[t] == SCENARIO_OPS) {
            snprintf(message, 256, "'%s' is one too many: a thread does at most %d operations", word,
                     SCENARIO_OPS);
            return false;
        }
        scenario->op[t][scenario->ops[t]++] = op;
        return true;
    }
    snprintf(message, 256, "'%.100s' is no operation", word);
    return false;
}

bool scenario_parse(struct scenario *scenario, const char *text, char message[256])
{
    char subject[64], copy[512], *rest;
    int length = 0;
    memset(scenario, 0, sizeof *scenario);
    if (sscanf(text, "%63s %u:%n", subject, &scenario->initial, &length) != 2 || length == 0) {
        snprintf(message, 256, "'%.100s' is not SUBJECT NODES: OPERATION... | OPERATION...", text);
        return false;
    }
    scenario->subject = subject_named(subject);
    if (scenario->subject == NULL) {
        snprintf(message, 256, "'%s' is no subject", subject);
        return false;
    }
    if (scenario->initial > SCENARIO_INITIAL) {
        snprintf(message, 256, "%u nodes; at most %d", scenario->initial, SCENARIO_INITIAL);
        return false;
    }
    scenario->threads = 1;
    snprintf(copy, sizeof copy, "%s", text + length);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        if (!parse_word(scenario, word, message))
            return false;
    return true;
}

void scenario_write(const struct scenario *scenario, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "%s %u:", scenario->subject->name, scenario->initial);
    for (unsigned t = 0; t < scenario->threads; t++) {
        if (t > 0 && at < size)
            at += (size_t)snprintf(text + at, size - at, " |");
        for (unsigned i = 0; i < scenario->ops[t] && at < size; i++)
            at += (size_t)snprintf(text + at, size - at, " %s", op_name(scenario->op[t][i]));
    }
}
