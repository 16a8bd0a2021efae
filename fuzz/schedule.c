/* SPDX-License-Identifier: MIT */
/* fuzz: sources=../test/explore/explore.c,../test/explore/scenario.c,../test/explore/subjects.c flags=-DWEIR_ATOMIC_HOOK="explore_hook.h",-I../test/explore,-D_GNU_SOURCE options=-max_len=256 */
/*
 * The input's bytes choose what two or three threads do to a list, a stack or a pool, and who makes each atomic
 * access (test/explore). After the run every node is counted, and the results have to be those of some order of
 * the operations. A failure prints the command that replays it with a trace.
 *
 * Byte 0: the subject, of a list whether all may take all or thread a takes one by one, and whether loads may return
 * old values; byte 1: how many threads and initial nodes; then for each thread the number of its operations and a byte for each; the rest is the schedule.
 */
#include <stdlib.h>

#include "scenario.h"
#include "weir/stack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const enum op list_all[] = {OP_PUSH, OP_PUSH2, OP_PUSH3, OP_POP_ALL, OP_POP_ALL_FIFO, OP_EMPTY};
static const enum op list_taker[] = {OP_POP, OP_POP_INIT, OP_POP_THIS, OP_PUSH, OP_PUSH2, OP_EMPTY};
static const enum op list_adder[] = {OP_PUSH, OP_PUSH2, OP_PUSH3, OP_EMPTY};
static const enum op stack_ops[] = {OP_PUSH,   OP_PUSH2,  OP_PUSH3,   OP_POP,
                                    OP_POP_N2, OP_POP_N3, OP_POP_ALL, OP_EMPTY};
static const enum op pool_ops[] = {OP_PUSH,   OP_PUSH2,   OP_PUSH3,   OP_POP,  OP_POP_N2,
                                   OP_POP_N3, OP_POP_ALL, OP_DECAY50, OP_COUNT};

#define CHOICE(ops)                                                                                          \
    {                                                                                                        \
        (ops), sizeof(ops) / sizeof((ops)[0])                                                                \
    }
static const struct {
    const char *subject;
    struct {
        const enum op *op;
        size_t n;
    } first, others;
} kinds[] = {
    {"llist", CHOICE(list_all), CHOICE(list_all)},
    {"llist", CHOICE(list_taker), CHOICE(list_adder)},
    {"stack", CHOICE(stack_ops), CHOICE(stack_ops)},
    {"pool", CHOICE(pool_ops), CHOICE(pool_ops)},
};

static struct {
    const uint8_t *next, *end;
} input;

static unsigned byte(unsigned below)
{
    return input.next == input.end ? 0 : *input.next++ % below;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct explore_result result;
    struct scenario scenario = {.threads = 2};
    char text[512];

    input.next = data;
    input.end = data + size;
    const unsigned all_kinds = sizeof kinds / sizeof kinds[0];
    unsigned kind = byte(2 * all_kinds);
    scenario.weak = kind >= all_kinds;
    kind %= all_kinds;
    scenario.subject = subject_named(kinds[kind].subject);
    unsigned shape = byte(2 * (SCENARIO_INITIAL + 1));
    scenario.threads = 2 + shape % 2;
    scenario.initial = shape / 2;
    for (unsigned t = 0; t < scenario.threads; t++) {
        scenario.ops[t] = 1 + byte(SCENARIO_OPS);
        for (unsigned i = 0; i < scenario.ops[t]; i++)
            scenario.op[t][i] = t == 0 ? kinds[kind].first.op[byte((unsigned)kinds[kind].first.n)]
                                       : kinds[kind].others.op[byte((unsigned)kinds[kind].others.n)];
    }
    struct explore_program program = scenario_program(&scenario);
    explore_bytes(&program, input.next, (size_t)(input.end - input.next), &result);
    scenario_write(&scenario, text, sizeof text);
    if (getenv("WEIR_FUZZ_TRACE") != NULL) {
        printf("%s, schedule %s\n", text, result.schedule);
        static struct explore_result again;
        explore_replay(&program, result.schedule, stdout, &again);
    }
    if (result.failed) {
        fprintf(stderr, "%s: %s\nreplay: weir-explore '%s'%s --replay '%s' (%s)\n", text, result.message,
                text, scenario.weak ? " --weak 1" : "", result.schedule, weir_stack_layout());
        abort();
    }
    return 0;
}
