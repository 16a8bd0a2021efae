/* SPDX-License-Identifier: MIT */
/* subjects.c - weir's list, stack and pool as subjects of a scenario. */
#include "subjects.h"

#include <string.h>

const struct subject subject_llist, subject_stack, subject_pool;

const struct subject *const subjects[] = {
    &subject_llist,           &subject_stack, &subject_pool, &subject_broken_stack, &subject_broken_overwrite,
    &subject_broken_subtract,
};
const unsigned subjects_count = sizeof subjects / sizeof subjects[0];

/* The generation and the count in a head are not worth a name in a trace; its pointer is. */
static void meaning_of_tagged(uint64_t word, char *text, size_t size)
{
#if WEIR__TAGGED_WIDE
    meaning_of_pointer(word, text, size);
#else
    struct weir__tag tag = weir__tag_unpack(word);
    char top[16];
    if (word < SCENARIO_NODES || (int64_t)word < 0 ||
        ((uintptr_t)word >= (uintptr_t)nodes && (uintptr_t)word < (uintptr_t)(nodes + SCENARIO_NODES))) {
        meaning_of_pointer(word, text, size);
        return;
    }
    meaning_of_pointer((uint64_t)(uintptr_t)tag.top, top, sizeof top);
    snprintf(text, size, "%s/%llu", top, (unsigned long long)tag.generation);
#endif
}

static void name_of_tagged(const void *address, const struct weir__tagged *head, char *text, size_t size)
{
    if (address == &head->word[0])
        snprintf(text, size, "head");
    else if (address == &head->word[1])
        snprintf(text, size, WEIR__TAGGED_WIDE ? "generation" : "count");
}

/* What a pop returned. */
static void take_node(struct call *call, void *node)
{
    if (node == NULL)
        return;
    call->out[call->outs++] = number_of(node);
    explore_read_owned(node); /* may be read */
    explore_write_owned(node, SPOILED);
}

/* What a pop of several returned: a chain, and how long it says that it is. */
static void take_counted(struct call *call, const void *chain, size_t n)
{
    take_chain(call, chain);
    if (call->outs != n)
        explore_fail("%s says %zu, its chain has %u", op_name(call->op), n, call->outs);
}

/* --- llist --- */

static struct weir_llist_head list;

static void llist_init(void)
{
    weir_llist_init(&list);
}

static void llist_perform(struct call *call)
{
    union node *last, *first;
    struct weir_llist_node *node;
    switch (call->op) {
    case OP_PUSH:
    case OP_PUSH_NEW:
        call->said = weir_llist_add(&nodes[call->in[0]].list, &list);
        break;
    case OP_PUSH_UNSHARED:
        call->said = weir_llist_add_unshared(&nodes[call->in[0]].list, &list);
        break;
    case OP_PUSH2:
    case OP_PUSH3:
        first = chain_of(call, &last);
        call->said = weir_llist_add_batch(&first->list, &last->list, &list);
        break;
    case OP_POP:
        take_node(call, weir_llist_del_first(&list));
        break;
    case OP_POP_INIT:
        node = weir_llist_del_first_init(&list);
        if (node != NULL && weir_llist_node_on_list(node))
            explore_fail("a node that del_first_init took is marked as on a list");
        take_node(call, node);
        break;
    case OP_POP_THIS:
        call->said = weir_llist_del_first_this(&list, &nodes[call->in[0]].list);
        take_node(call, call->said ? &nodes[call->in[0]] : NULL);
        break;
    case OP_POP_ALL:
        take_chain(call, weir_llist_del_all(&list));
        break;
    case OP_POP_ALL_FIFO:
        take_chain(call, weir_llist_del_all_fifo(&list));
        break;
    default: /* OP_EMPTY */
        call->said = weir_llist_empty(&list);
    }
}

static unsigned llist_nodes(uint8_t numbers[SCENARIO_NODES + 1])
{
    return numbers_of(list.first, numbers);
}

static void llist_name(const void *address, char *text, size_t size)
{
    if (address == &list.first)
        snprintf(text, size, "head");
}

const struct subject subject_llist = {
    .name = "llist",
    .has = {[OP_PUSH] = true,
            [OP_PUSH_NEW] = true,
            [OP_PUSH2] = true,
            [OP_PUSH3] = true,
            [OP_PUSH_UNSHARED] = true,
            [OP_POP] = true,
            [OP_POP_INIT] = true,
            [OP_POP_THIS] = true,
            [OP_POP_ALL] = true,
            [OP_POP_ALL_FIFO] = true,
            [OP_EMPTY] = true},
    .says_empty = true,
    .init = llist_init,
    .perform = llist_perform,
    .nodes = llist_nodes,
    .name_of = llist_name,
    .meaning = meaning_of_pointer,
};

/* --- stack --- */

static struct weir_stack stack;

static void stack_init(void)
{
    weir_stack_init(&stack);
}

/* As chain_of(), by the function that is there for it. */
static struct weir_stack_node *stack_chain_of(const struct call *call, struct weir_stack_node **last)
{
    for (unsigned i = 0; i + 1 < call->ins; i++)
        weir_stack_link(&nodes[call->in[i]].stack, &nodes[call->in[i + 1]].stack);
    *last = &nodes[call->in[call->ins - 1]].stack;
    return &nodes[call->in[0]].stack;
}

static void stack_perform(struct call *call)
{
    struct weir_stack_node *chain, *last, *first;
    size_t n = 0;
    switch (call->op) {
    case OP_PUSH:
    case OP_PUSH_NEW:
        weir_stack_push(&stack, &nodes[call->in[0]].stack);
        break;
    case OP_PUSH2:
    case OP_PUSH3:
        first = stack_chain_of(call, &last);
        weir_stack_push_batch(&stack, first, last);
        break;
    case OP_POP:
        take_node(call, weir_stack_pop(&stack));
        break;
    case OP_POP_N2:
    case OP_POP_N3:
        chain = weir_stack_pop_n(&stack, call->op == OP_POP_N2 ? 2 : 3, &n);
        take_counted(call, chain, n);
        break;
    case OP_POP_ALL:
        take_chain(call, weir_stack_pop_all(&stack));
        break;
    default: /* OP_EMPTY */
        call->said = weir_stack_empty(&stack);
    }
}

/* The explorer is not running: the accesses below are no steps. */
static unsigned stack_nodes(uint8_t numbers[SCENARIO_NODES + 1])
{
    return numbers_of(weir__tagged_load(&stack.head).top, numbers);
}

static void stack_name(const void *address, char *text, size_t size)
{
    name_of_tagged(address, &stack.head, text, size);
}

#define STACK_HAS                                                                                            \
    {                                                                                                        \
        [OP_PUSH] = true, [OP_PUSH_NEW] = true, [OP_PUSH2] = true, [OP_PUSH3] = true, [OP_POP] = true,       \
        [OP_POP_N2] = true, [OP_POP_N3] = true, [OP_POP_ALL] = true, [OP_EMPTY] = true                       \
    }

const struct subject subject_stack = {
    .name = "stack",
    .has = STACK_HAS,
    .init = stack_init,
    .perform = stack_perform,
    .nodes = stack_nodes,
    .name_of = stack_name,
    .meaning = meaning_of_tagged,
};

/* --- pool --- */

static struct weir_pool pool;

static void pool_init(void)
{
    weir_pool_init(&pool);
}

/* Looks without taking a step. */
static unsigned pool_nodes(uint8_t numbers[SCENARIO_NODES + 1])
{
    struct weir__tagged copy = pool.head;
#if WEIR__TAGGED_WIDE
    return numbers_of((const void *)(uintptr_t)copy.word[0], numbers);
#else
    return numbers_of(weir__tag_unpack(copy.word[0]).top, numbers);
#endif
}

static long pool_count(void)
{
    return (long)(pool.head.word[1] & 0xffffffff);
}

static void pool_perform(struct call *call)
{
    struct weir_stack_node *chain, *last, *first;
    uint8_t numbers[SCENARIO_NODES + 1];
    size_t n = 0;
    switch (call->op) {
    case OP_PUSH:
    case OP_PUSH_NEW:
        weir_pool_put(&pool, &nodes[call->in[0]].stack);
        break;
    case OP_PUSH2:
    case OP_PUSH3:
        first = stack_chain_of(call, &last);
        weir_pool_put_batch(&pool, first, last, call->ins);
        break;
    case OP_POP:
        take_node(call, weir_pool_get(&pool));
        break;
    case OP_POP_N2:
    case OP_POP_N3:
        chain = weir_pool_get_batch(&pool, call->op == OP_POP_N2 ? 2 : 3, &n);
        take_counted(call, chain, n);
        break;
    case OP_POP_ALL:
        chain = weir_pool_drain(&pool, &n);
        take_counted(call, chain, n);
        break;
    case OP_DECAY50:
        chain = weir_pool_decay(&pool, 50, &n);
        take_counted(call, chain, n);
        break;
    default: /* OP_COUNT */
        call->count = weir_pool_count(&pool);
        /* Never more than there is at all, and, unless it may be an old number, never below what is there. */
        if (call->count > SCENARIO_NODES || (!call->weak && call->count < pool_nodes(numbers)))
            explore_fail("it counts %zd, and holds %u", (ssize_t)call->count, pool_nodes(numbers));
    }
}

static void pool_name(const void *address, char *text, size_t size)
{
    name_of_tagged(address, &pool.head, text, size);
}

#define POOL_HAS                                                                                             \
    {                                                                                                        \
        [OP_PUSH] = true, [OP_PUSH_NEW] = true, [OP_PUSH2] = true, [OP_PUSH3] = true, [OP_POP] = true,       \
        [OP_POP_N2] = true, [OP_POP_N3] = true, [OP_POP_ALL] = true, [OP_DECAY50] = true, [OP_COUNT] = true  \
    }

const struct subject subject_pool = {
    .name = "pool",
    .has = POOL_HAS,
    .counts = WEIR__TAGGED_WIDE,
    .init = pool_init,
    .perform = pool_perform,
    .nodes = pool_nodes,
    .count = pool_count,
    .name_of = pool_name,
    .meaning = meaning_of_tagged,
};

/* --- the same with mistakes, which the explorer has to find --- */

/* A stack whose pop_all leaves the generation as it is: what was a real bug of a respected library until 2026. */
static void broken_stack_perform(struct call *call)
{
    if (call->op != OP_POP_ALL) {
        stack_perform(call);
        return;
    }
    for (;;) {
        struct weir__tag tag = weir__tagged_load(&stack.head);
        if (tag.top == NULL || weir__tagged_push(&stack.head, &tag, NULL)) {
            take_chain(call, tag.top);
            return;
        }
    }
}

const struct subject subject_broken_stack = {
    .name = "stack-generation-stays",
    .has = STACK_HAS,
    .init = stack_init,
    .perform = broken_stack_perform,
    .nodes = stack_nodes,
    .name_of = stack_name,
    .meaning = meaning_of_tagged,
};

/* Two pools of a stack and a counter beside it. */
static size_t beside;

static void beside_init(void)
{
    weir_stack_init(&stack);
    beside = 0;
}

static void beside_put(struct call *call)
{
    struct weir_stack_node *last, *first = stack_chain_of(call, &last);
    weir_fetch_add_relaxed(&beside, (size_t)call->ins);
    weir_stack_push_batch(&stack, first, last);
}

static void beside_count(struct call *call)
{
    call->count = weir_load_relaxed(&beside);
    if (call->count > SCENARIO_NODES)
        explore_fail("it counts %zd", (ssize_t)call->count);
}

static long beside_at_rest(void)
{
    return (long)beside;
}

static void beside_name(const void *address, char *text, size_t size)
{
    if (address == &beside)
        snprintf(text, size, "count");
    else
        stack_name(address, text, size);
}

/* One whose decay takes everything, keeps half, and puts the rest back by overwriting the head. */
static void overwrite_perform(struct call *call)
{
    struct weir_stack_node *chain, *node;
    unsigned length = 0;
    switch (call->op) {
    case OP_DECAY50:
        chain = weir_stack_pop_all(&stack);
        for (node = chain; node != NULL; node = weir_load_relaxed(&node->next))
            length++;
        if (length == 0)
            return;
        node = chain;
        for (unsigned i = 1; i < (length + 1) / 2; i++)
            node = weir_load_relaxed(&node->next);
        struct weir_stack_node *rest = weir_load_relaxed(&node->next);
        weir_store_relaxed(&node->next, (struct weir_stack_node *)NULL);
#if WEIR__TAGGED_WIDE
        weir_store_release(&stack.head.word[0], (uint64_t)(uintptr_t)rest);
#else
        weir_store_release(&stack.head.word[0],
                           weir__tag_pack(rest, weir__tagged_load(&stack.head).generation));
#endif
        weir_fetch_sub_relaxed(&beside, (size_t)(length + 1) / 2);
        take_chain(call, chain);
        break;
    case OP_POP:
        node = weir_stack_pop(&stack);
        if (node != NULL)
            weir_fetch_sub_relaxed(&beside, (size_t)1);
        take_node(call, node);
        break;
    case OP_COUNT:
        beside_count(call);
        break;
    default:
        beside_put(call);
    }
}

const struct subject subject_broken_overwrite = {
    .name = "pool-overwrites-head",
    .has = {[OP_PUSH] = true,
            [OP_PUSH_NEW] = true,
            [OP_PUSH2] = true,
            [OP_POP] = true,
            [OP_DECAY50] = true,
            [OP_COUNT] = true},
    .init = beside_init,
    .perform = overwrite_perform,
    .nodes = stack_nodes,
    .count = beside_at_rest,
    .name_of = beside_name,
    .meaning = meaning_of_tagged,
};

/* One that subtracts before it has taken. */
static void subtract_perform(struct call *call)
{
    struct weir_stack_node *node;
    switch (call->op) {
    case OP_POP:
        weir_fetch_sub_relaxed(&beside, (size_t)1);
        node = weir_stack_pop(&stack);
        if (node == NULL)
            weir_fetch_add_relaxed(&beside, (size_t)1);
        take_node(call, node);
        break;
    case OP_COUNT:
        beside_count(call);
        break;
    default:
        beside_put(call);
    }
}

const struct subject subject_broken_subtract = {
    .name = "pool-subtracts-first",
    .has = {[OP_PUSH] = true, [OP_PUSH_NEW] = true, [OP_PUSH2] = true, [OP_POP] = true, [OP_COUNT] = true},
    .init = beside_init,
    .perform = subtract_perform,
    .nodes = stack_nodes,
    .count = beside_at_rest,
    .name_of = beside_name,
    .meaning = meaning_of_tagged,
};
