/* SPDX-License-Identifier: MIT */
/* fuzz: options=-max_len=768 */
/*
 * The primitives of floor 1 against a model: the input's bytes are a sequence of operations over two lists, two
 * stacks, two pools and a magazine, in one thread. After each step the results, the order, the lengths and counts,
 * and where every object is are compared with plain arrays.
 *
 * A step is three bytes: the operation, an amount, and bits (see `struct step`). A difference stops the program
 * with one line that names the step and the operation; WEIR_FUZZ_TRACE=1 prints every step.
 */
#define WEIR_ATOMIC_HOOK "spurious.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/llist.h"
#include "weir/magazine.h"
#include "weir/pool.h"
#include "weir/stack.h"

enum {
    OBJECTS = 160, /* more than 100, and more than two steps of decay */
    NONE = OBJECTS,
    STRANGER,
    STEP_BYTES = 3,
    STEPS = 256, /* bounds the time of one input */
    CANARY = 0x5eed,
};

/* An object can be on a list, or on a stack or in a pool. */
struct object {
    struct weir_stack_node node;
    struct weir_llist_node link;
    unsigned canary;
};

/* Where an object can be. */
enum place { LIST_0, LIST_1, STACK_0, STACK_1, POOL_0, POOL_1, MAGAZINE, OWNED, PLACES };

static const char *const place_names[PLACES] = {"list 0", "list 1", "stack 0",  "stack 1",
                                                "pool 0", "pool 1", "magazine", "our hands"};

/* The model of a place: objects by number, the newest or top one last. */
struct sequence {
    unsigned n;
    unsigned char at[OBJECTS];
};

/* A chain of objects that is in nobody's hands but this step's: the first one first. */
struct chain {
    unsigned n;
    unsigned char at[OBJECTS];
};

struct step {
    const char *name;
    unsigned number;
    enum place place;
    unsigned amount; /* of nodes, percent, bytes */
    unsigned
        bits; /* 0: which of the two; 1: pass the chain on as it is, 2 and 3: where to; 6 and 7: CAS that fail */
};

unsigned fuzz_cas_failures;

static struct object objects[OBJECTS];
static struct sequence model[PLACES];
static struct weir_llist_head lists[2];
static struct weir_stack stacks[2];
static struct weir_pool pools[2];
static struct weir_stack depot; /* for magazines */
static struct weir_magazine *magazine;
static size_t magazine_bytes;

/* What an object links to when it is on no stack: whoever follows it is wrong. */
static struct weir_stack_node astray = {&astray};

static struct step step;

static void print_step(void)
{
    fprintf(stderr, "step %u, %s(%s, %u)", step.number, step.name,
            step.place < PLACES ? place_names[step.place] : "", step.amount);
}

static _Noreturn void __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "fuzz/floor1: %s layout, ", weir_stack_layout());
    print_step();
    fprintf(stderr, ": ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    abort();
}

static void same(const char *what, size_t of_model, size_t of_weir)
{
    if (of_model != of_weir)
        fail("%s: %zu in the model, %zu from weir", what, of_model, of_weir);
}

static const char *object_name(unsigned id, char text[16])
{
    if (id == NONE)
        return "NULL";
    if (id == STRANGER)
        return "no object";
    snprintf(text, 16, "object %u", id);
    return text;
}

static void same_object(const char *what, unsigned of_model, unsigned of_weir)
{
    char text[2][16];
    if (of_model != of_weir)
        fail("%s: %s in the model, %s from weir", what, object_name(of_model, text[0]),
             object_name(of_weir, text[1]));
}

/* The number of the object with a member at `member`. */
static unsigned id_at(const void *member, size_t offset)
{
    uintptr_t distance = (uintptr_t)member - (uintptr_t)objects - offset;
    if (member == NULL)
        return NONE;
    return distance < sizeof objects && distance % sizeof *objects == 0
               ? (unsigned)(distance / sizeof *objects)
               : STRANGER;
}

static unsigned id_of_link(const struct weir_llist_node *link)
{
    return id_at(link, offsetof(struct object, link));
}

static unsigned id_of_node(const struct weir_stack_node *node)
{
    return id_at(node, offsetof(struct object, node));
}

static bool is_list(enum place place)
{
    return place <= LIST_1;
}

static bool is_pool(enum place place)
{
    return place == POOL_0 || place == POOL_1;
}

/* --- the model ------------------------------------------------------------------------------------------------ */

static unsigned model_top(enum place place)
{
    return model[place].n != 0 ? model[place].at[model[place].n - 1] : NONE;
}

/* Puts a chain on top, its first object topmost. */
static void model_put(enum place place, const struct chain *chain)
{
    struct sequence *sequence = &model[place];
    for (unsigned i = chain->n; i-- > 0;)
        sequence->at[sequence->n++] = chain->at[i];
}

/* Takes up to `max` objects from the top: a chain, the top first. */
static void model_take(enum place place, size_t max, struct chain *chain)
{
    struct sequence *sequence = &model[place];
    for (chain->n = 0; chain->n < max && sequence->n != 0; chain->n++)
        chain->at[chain->n] = sequence->at[--sequence->n];
}

static void chain_reverse(struct chain *chain)
{
    for (unsigned i = 0; i < chain->n / 2; i++) {
        unsigned char other = chain->at[chain->n - 1 - i];
        chain->at[chain->n - 1 - i] = chain->at[i];
        chain->at[i] = other;
    }
}

/* --- chains of weir's nodes ----------------------------------------------------------------------------------- */

/* Is what weir returned the expected chain, ended by NULL? */
static void same_links(const char *what, const struct chain *chain, struct weir_llist_node *first)
{
    unsigned i = 0;
    weir_llist_for_each(pos, first) {
        same_object(what, i < chain->n ? chain->at[i] : NONE, id_of_link(pos));
        i++;
    }
    same(what, chain->n, i);
}

static void same_nodes(const char *what, const struct chain *chain, const struct weir_stack_node *first)
{
    const struct weir_stack_node *node = first;
    for (unsigned i = 0; i < chain->n; i++, node = node->next)
        same_object(what, chain->at[i], id_of_node(node));
    same_object(what, NONE, id_of_node(node));
}

/* The same objects in whatever order: takes weir's. */
static void same_set_of_nodes(const char *what, struct chain *chain, const struct weir_stack_node *first)
{
    bool expected[OBJECTS] = {false};
    for (unsigned i = 0; i < chain->n; i++)
        expected[chain->at[i]] = true;
    const struct weir_stack_node *node = first;
    for (unsigned i = 0; i < chain->n; i++, node = node->next) {
        unsigned id = id_of_node(node);
        if (id >= OBJECTS || !expected[id])
            same_object(what, chain->at[i], id);
        expected[id] = false;
        chain->at[i] = (unsigned char)id;
    }
    same_object(what, NONE, id_of_node(node));
}

static struct weir_llist_node *link_chain(const struct chain *chain)
{
    for (unsigned i = 0; i + 1 < chain->n; i++)
        objects[chain->at[i]].link.next = &objects[chain->at[i + 1]].link;
    return chain->n != 0 ? &objects[chain->at[0]].link : NULL;
}

static struct weir_stack_node *link_nodes(const struct chain *chain)
{
    for (unsigned i = 0; i + 1 < chain->n; i++)
        objects[chain->at[i]].node.next = &objects[chain->at[i + 1]].node;
    return chain->n != 0 ? &objects[chain->at[0]].node : NULL;
}

/* Objects that are ours: on no list, and with a node that leads nowhere. */
static void release(const struct chain *chain)
{
    for (unsigned i = 0; i < chain->n; i++) {
        struct object *object = &objects[chain->at[i]];
        weir_llist_node_init(&object->link);
        object->node.next = &astray;
    }
    model_put(OWNED, chain);
}

/* Puts a chain, already linked, into a place that takes it. */
static void put_chain(enum place place, const struct chain *chain)
{
    if (chain->n == 0)
        return;
    struct object *first = &objects[chain->at[0]], *last = &objects[chain->at[chain->n - 1]];
    if (is_list(place)) {
        bool was_empty = weir_llist_add_batch(&first->link, &last->link, &lists[place - LIST_0]);
        same("weir_llist_add_batch of the chain, was empty", model[place].n == 0, was_empty);
    } else if (is_pool(place)) {
        weir_pool_put_batch(&pools[place - POOL_0], &first->node, &last->node, chain->n);
    } else {
        weir_stack_push_batch(&stacks[place - STACK_0], &first->node, &last->node);
    }
    model_put(place, chain);
}

/* A chain that was taken becomes ours, or goes on as it is to another list, stack or pool. */
static void settle(const struct chain *chain)
{
    unsigned to = step.bits >> 2 & 3;
    if ((step.bits & 2) == 0)
        release(chain);
    else
        put_chain(is_list(step.place) ? LIST_0 + (enum place)(to & 1) : STACK_0 + (enum place)to, chain);
}

/* --- the operations: weir first, then the model, then the comparison ------------------------------------------- */

static void list_add(bool shared, bool batch)
{
    struct weir_llist_head *list = &lists[step.place - LIST_0];
    struct chain chain;
    bool was_empty;

    model_take(OWNED, batch ? step.amount : 1, &chain);
    if (chain.n == 0)
        return;
    struct weir_llist_node *first = link_chain(&chain), *last = &objects[chain.at[chain.n - 1]].link;
    if (batch)
        was_empty = shared ? weir_llist_add_batch(first, last, list)
                           : weir_llist_add_batch_unshared(first, last, list);
    else
        was_empty = shared ? weir_llist_add(first, list) : weir_llist_add_unshared(first, list);
    same("was empty", model[step.place].n == 0, was_empty);
    model_put(step.place, &chain);
}

static void op_llist_add(void)
{
    list_add(true, false);
}

static void op_llist_add_batch(void)
{
    list_add(true, true);
}

static void op_llist_add_unshared(void)
{
    list_add(false, false);
}

static void op_llist_add_batch_unshared(void)
{
    list_add(false, true);
}

static void op_llist_del_all(void)
{
    struct chain chain;
    struct weir_llist_node *first = weir_llist_del_all(&lists[step.place - LIST_0]);
    model_take(step.place, OBJECTS, &chain);
    same_links("chain", &chain, first);
    settle(&chain);
}

static void op_llist_del_all_unshared(void)
{
    struct chain chain;
    struct weir_llist_node *first = weir_llist_del_all_unshared(&lists[step.place - LIST_0]);
    model_take(step.place, OBJECTS, &chain);
    same_links("chain", &chain, first);
    settle(&chain);
}

static void op_llist_del_all_fifo(void)
{
    struct chain chain;
    struct weir_llist_node *first = weir_llist_del_all_fifo(&lists[step.place - LIST_0]);
    model_take(step.place, OBJECTS, &chain);
    chain_reverse(&chain);
    same_links("chain", &chain, first);
    settle(&chain);
}

static void op_llist_del_first(void)
{
    struct chain chain;
    struct weir_llist_node *link = weir_llist_del_first(&lists[step.place - LIST_0]);
    model_take(step.place, 1, &chain);
    same_object("result", chain.n != 0 ? chain.at[0] : NONE, id_of_link(link));
    release(&chain);
}

static void op_llist_del_first_init(void)
{
    struct chain chain;
    struct weir_llist_node *link = weir_llist_del_first_init(&lists[step.place - LIST_0]);
    model_take(step.place, 1, &chain);
    same_object("result", chain.n != 0 ? chain.at[0] : NONE, id_of_link(link));
    if (link != NULL)
        same("node_on_list", false, weir_llist_node_on_list(link));
    release(&chain);
}

/* The first one, or any object, wherever it is. */
static void op_llist_del_first_this(void)
{
    struct chain chain;
    unsigned top = model_top(step.place);
    unsigned id = (step.bits & 2) != 0 && top != NONE ? top : step.amount % OBJECTS;
    bool taken = weir_llist_del_first_this(&lists[step.place - LIST_0], &objects[id].link);
    same("taken", id == top, taken);
    model_take(step.place, taken, &chain);
    release(&chain);
}

static void op_llist_reverse_order(void)
{
    struct chain chain;
    model_take(OWNED, step.amount, &chain);
    if (chain.n != 0)
        objects[chain.at[chain.n - 1]].link.next = NULL;
    struct weir_llist_node *first = weir_llist_reverse_order(link_chain(&chain));
    chain_reverse(&chain);
    same_links("chain", &chain, first);
    settle(&chain);
}

static void op_llist_entries(void)
{
    struct chain chain;
    unsigned i = 0;
    struct weir_llist_node *first = weir_llist_del_all(&lists[step.place - LIST_0]);
    model_take(step.place, OBJECTS, &chain);
    weir_llist_for_each_entry(object, first, struct object, link) {
        same_object("entry", i < chain.n ? chain.at[i] : NONE, (unsigned)(object - objects));
        i++;
    }
    same("entries", chain.n, i);
    i = 0;
    if ((step.bits & 2) != 0) {
        weir_llist_for_each_entry_safe(object, next, first, struct object, link) {
            weir_llist_node_init(&object->link);
            same_object("entry", i < chain.n ? chain.at[i] : NONE, (unsigned)(object - objects));
            i++;
        }
    } else {
        weir_llist_for_each_safe(pos, next, first) {
            weir_llist_node_init(pos);
            same_object("node", i < chain.n ? chain.at[i] : NONE,
                        (unsigned)(weir_llist_entry(pos, struct object, link) - objects));
            i++;
        }
    }
    same("entries", chain.n, i);
    release(&chain);
}

static void op_put(void)
{
    struct chain chain;
    model_take(OWNED, 1, &chain);
    if (chain.n == 0)
        return;
    if (is_pool(step.place))
        weir_pool_put(&pools[step.place - POOL_0], link_nodes(&chain));
    else
        weir_stack_push(&stacks[step.place - STACK_0], link_nodes(&chain));
    model_put(step.place, &chain);
}

static void op_put_batch(void)
{
    struct chain chain;
    model_take(OWNED, step.amount, &chain);
    link_nodes(&chain);
    put_chain(step.place, &chain);
}

static struct weir_stack_node *take_one(void)
{
    return is_pool(step.place) ? weir_pool_get(&pools[step.place - POOL_0])
                               : weir_stack_pop(&stacks[step.place - STACK_0]);
}

static void op_take(void)
{
    struct chain chain;
    struct weir_stack_node *node = take_one();
    model_take(step.place, 1, &chain);
    same_object("result", chain.n != 0 ? chain.at[0] : NONE, id_of_node(node));
    release(&chain);
}

static void op_take_n(void)
{
    struct chain chain;
    size_t n = STRANGER, max = step.amount == 255 ? SIZE_MAX : step.amount;
    struct weir_stack_node *first = is_pool(step.place)
                                        ? weir_pool_get_batch(&pools[step.place - POOL_0], max, &n)
                                        : weir_stack_pop_n(&stacks[step.place - STACK_0], max, &n);
    model_take(step.place, max, &chain);
    same("n", chain.n, n);
    same_nodes("chain", &chain, first);
    settle(&chain);
}

static void op_stack_pop_all(void)
{
    struct chain chain;
    struct weir_stack_node *first = weir_stack_pop_all(&stacks[step.place - STACK_0]);
    model_take(step.place, OBJECTS, &chain);
    same_nodes("chain", &chain, first);
    settle(&chain);
}

static void op_pool_drain(void)
{
    struct chain chain;
    size_t n = STRANGER;
    struct weir_stack_node *first = weir_pool_drain(&pools[step.place - POOL_0], &n);
    model_take(step.place, OBJECTS, &chain);
    same("n", chain.n, n);
    same_nodes("chain", &chain, first);
    settle(&chain);
}

static void op_pool_decay(void)
{
    struct chain chain;
    size_t n = STRANGER;
    unsigned percent = step.amount == 255 ? ~0u : step.amount, share = percent < 100 ? percent : 100;
    struct weir_stack_node *first = weir_pool_decay(&pools[step.place - POOL_0], percent, &n);
    model_take(step.place, (model[step.place].n * share + 99) / 100, &chain);
    same("n", chain.n, n);
    same_set_of_nodes("chain", &chain, first);
    settle(&chain);
}

/* Takes and puts back, `amount` times: generations wrap round. */
static void op_churn(void)
{
    if (model[step.place].n == 0)
        op_put();
    unsigned top = model_top(step.place);
    for (unsigned i = 0; top != NONE && i < step.amount; i++) {
        struct weir_stack_node *node = take_one();
        same_object("result", top, id_of_node(node));
        node->next = &astray;
        if (is_pool(step.place))
            weir_pool_put(&pools[step.place - POOL_0], node);
        else
            weir_stack_push(&stacks[step.place - STACK_0], node);
    }
}

/* Whatever is empty may begin anew: by init, or, being zeroed memory, without. */
static void op_restart(void)
{
    bool zero = (step.bits & 2) != 0;
    if (model[step.place].n != 0)
        return;
    if (is_list(step.place)) {
        weir_llist_init(&lists[step.place - LIST_0]);
    } else if (is_pool(step.place)) {
        if (zero)
            memset(&pools[step.place - POOL_0], 0, sizeof *pools);
        else
            weir_pool_init(&pools[step.place - POOL_0]);
    } else {
        if (zero)
            memset(&stacks[step.place - STACK_0], 0, sizeof *stacks);
        else
            weir_stack_init(&stacks[step.place - STACK_0]);
    }
}

static void op_magazine_init(void)
{
    struct chain chain;
    model_take(MAGAZINE, OBJECTS, &chain);
    release(&chain);
    free(magazine);
    magazine_bytes = WEIR_MAGAZINE_BYTES(0) + step.amount;
    void *memory = malloc(magazine_bytes);
    if (memory == NULL)
        abort();
    memset(memory, 0xa5, magazine_bytes);
    magazine = weir_magazine_init(memory, magazine_bytes);
    same("capacity", step.amount / sizeof(void *), magazine->capacity);
}

static void op_magazine_put(void)
{
    struct chain chain;
    bool full = model[MAGAZINE].n == (magazine_bytes - sizeof *magazine) / sizeof(void *);
    if (model[OWNED].n == 0)
        return;
    bool stored = weir_magazine_put(magazine, &objects[model_top(OWNED)]);
    same("stored", !full, stored);
    model_take(OWNED, stored, &chain);
    model_put(MAGAZINE, &chain);
}

static void op_magazine_get(void)
{
    struct chain chain;
    const void *object = weir_magazine_get(magazine);
    model_take(MAGAZINE, 1, &chain);
    same_object("result", chain.n != 0 ? chain.at[0] : NONE, id_at(object, 0));
    release(&chain);
}

/* A magazine goes through a stack and comes back as it was. */
static void op_magazine_of_node(void)
{
    struct weir_magazine *none = weir_magazine_of_node(weir_stack_pop(&depot));
    same("magazine of NULL", 0, (uintptr_t)none);
    weir_stack_push(&depot, &magazine->node);
    struct weir_magazine *back = weir_magazine_of_node(weir_stack_pop(&depot));
    same("magazine", (uintptr_t)magazine, (uintptr_t)back);
}

static const struct operation {
    const char *name;
    enum place place; /* the first of two */
    void (*run)(void);
} operations[] = {
    {"weir_llist_add", LIST_0, op_llist_add},
    {"weir_llist_add_batch", LIST_0, op_llist_add_batch},
    {"weir_llist_add_unshared", LIST_0, op_llist_add_unshared},
    {"weir_llist_add_batch_unshared", LIST_0, op_llist_add_batch_unshared},
    {"weir_llist_del_all", LIST_0, op_llist_del_all},
    {"weir_llist_del_all_unshared", LIST_0, op_llist_del_all_unshared},
    {"weir_llist_del_all_fifo", LIST_0, op_llist_del_all_fifo},
    {"weir_llist_del_first", LIST_0, op_llist_del_first},
    {"weir_llist_del_first_init", LIST_0, op_llist_del_first_init},
    {"weir_llist_del_first_this", LIST_0, op_llist_del_first_this},
    {"weir_llist_reverse_order", LIST_0, op_llist_reverse_order},
    {"weir_llist_for_each_entry", LIST_0, op_llist_entries},
    {"weir_llist_init", LIST_0, op_restart},
    {"weir_stack_push", STACK_0, op_put},
    {"weir_stack_push_batch", STACK_0, op_put_batch},
    {"weir_stack_pop", STACK_0, op_take},
    {"weir_stack_pop_n", STACK_0, op_take_n},
    {"weir_stack_pop_all", STACK_0, op_stack_pop_all},
    {"weir_stack_pop, weir_stack_push", STACK_0, op_churn},
    {"weir_stack_init", STACK_0, op_restart},
    {"weir_pool_put", POOL_0, op_put},
    {"weir_pool_put_batch", POOL_0, op_put_batch},
    {"weir_pool_get", POOL_0, op_take},
    {"weir_pool_get_batch", POOL_0, op_take_n},
    {"weir_pool_decay", POOL_0, op_pool_decay},
    {"weir_pool_drain", POOL_0, op_pool_drain},
    {"weir_pool_get, weir_pool_put", POOL_0, op_churn},
    {"weir_pool_init", POOL_0, op_restart},
    {"weir_magazine_init", MAGAZINE, op_magazine_init},
    {"weir_magazine_put", MAGAZINE, op_magazine_put},
    {"weir_magazine_get", MAGAZINE, op_magazine_get},
    {"weir_magazine_of_node", MAGAZINE, op_magazine_of_node},
};

/*
 * Which operations met a place with how many objects, and compare-and-swaps that fail: libFuzzer takes what is
 * counted here for coverage, keeps inputs that lead to new combinations, and goes on from them.
 */
enum { OPERATIONS = sizeof operations / sizeof *operations, SIZES = 5 };

__attribute__((used, section("__libfuzzer_extra_counters"))) static uint8_t met[OPERATIONS][SIZES][2];

static void count_what_is_met(unsigned operation)
{
    unsigned n = model[step.place].n;
    unsigned size = n == 0                          ? 0
                    : n == 1                        ? 1
                    : n <= WEIR_POOL_DECAY_STEP     ? 2
                    : n <= 2 * WEIR_POOL_DECAY_STEP ? 3
                                                    : 4;
    met[operation][size][fuzz_cas_failures != 0] = 1;
}

/* --- where everything is, after each step ----------------------------------------------------------------------- */

static void check_list(enum place place)
{
    const struct sequence *sequence = &model[place];
    unsigned i = sequence->n;
    weir_llist_for_each(pos, lists[place - LIST_0].first) {
        same_object(place_names[place], i != 0 ? sequence->at[i - 1] : NONE, id_of_link(pos));
        i--;
    }
    same_object(place_names[place], i != 0 ? sequence->at[i - 1] : NONE, NONE);
    same("empty", sequence->n == 0, weir_llist_empty(&lists[place - LIST_0]));
}

/* From the head down. The head is private: there is no public way to look without taking. */
static void check_nodes(enum place place, const struct weir__tagged *head)
{
    const struct weir_stack_node *node = weir__tagged_load(head).top;
    for (unsigned i = model[place].n; i-- > 0; node = node->next)
        same_object(place_names[place], model[place].at[i], id_of_node(node));
    same_object(place_names[place], NONE, id_of_node(node));
}

static void check_magazine(void)
{
    same("objects in the magazine", model[MAGAZINE].n, magazine->count);
    for (unsigned i = 0; i < model[MAGAZINE].n; i++)
        same_object("magazine", model[MAGAZINE].at[i], id_at(weir_magazine_objects(magazine)[i], 0));
}

/* Every object is in exactly one place, whole, and knows whether it is on a list. */
static void check_objects(void)
{
    bool seen[OBJECTS] = {false};
    for (enum place place = 0; place < PLACES; place++) {
        for (unsigned i = 0; i < model[place].n; i++) {
            unsigned id = model[place].at[i];
            if (seen[id])
                fail("object %u is in two places", id);
            seen[id] = true;
            same("node_on_list", is_list(place), weir_llist_node_on_list(&objects[id].link));
        }
    }
    for (unsigned id = 0; id < OBJECTS; id++)
        if (!seen[id] || objects[id].canary != CANARY)
            fail("object %u is lost or was overwritten", id);
    if (astray.next != &astray)
        fail("wrote to a node that it was not given");
}

static void check_all(void)
{
    for (unsigned i = 0; i < 2; i++) {
        check_list(LIST_0 + i);
        check_nodes(STACK_0 + i, &stacks[i].head);
        same("empty", model[STACK_0 + i].n == 0, weir_stack_empty(&stacks[i]));
        check_nodes(POOL_0 + i, &pools[i].head);
        same("count", model[POOL_0 + i].n, weir_pool_count(&pools[i]));
    }
    check_magazine();
    check_objects();
}

static void start(void)
{
    step = (struct step){.name = "init", .place = OWNED};
    fuzz_cas_failures = 0;
    memset(model, 0, sizeof model);
    for (unsigned i = 0; i < 2; i++) {
        weir_llist_init(&lists[i]);
        weir_stack_init(&stacks[i]);
        weir_pool_init(&pools[i]);
    }
    weir_stack_init(&depot);
    for (unsigned id = 0; id < OBJECTS; id++) {
        objects[id].canary = CANARY;
        release(&(struct chain){.n = 1, .at = {(unsigned char)id}});
    }
    step.amount = 3 * sizeof(void *);
    op_magazine_init();
    same("lock-free", true, weir_stack_is_lock_free());
    same("bits of the generation",
         strcmp(weir_stack_layout(), "wide") == 0 ? 64
         : sizeof(void *) == 8                    ? 19
                                                  : 32,
         weir_stack_generation_bits());
    check_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int trace = -1;
    if (trace < 0)
        trace = getenv("WEIR_FUZZ_TRACE") != NULL;

    start();
    for (unsigned i = 0; i < STEPS && size >= STEP_BYTES; i++, data += STEP_BYTES, size -= STEP_BYTES) {
        const struct operation *operation = &operations[data[0] % OPERATIONS];
        step = (struct step){.name = operation->name,
                             .number = i,
                             .place = operation->place,
                             .amount = data[1],
                             .bits = data[2]};
        if (step.place != MAGAZINE)
            step.place += step.bits & 1;
        fuzz_cas_failures = (1u << (step.bits >> 6)) - 1;
        if (trace) {
            print_step();
            fprintf(stderr, "\n");
        }
        count_what_is_met((unsigned)(operation - operations));
        operation->run();
        fuzz_cas_failures = 0;
        check_all();
    }
    free(magazine);
    magazine = NULL;
    return 0;
}
