/* SPDX-License-Identifier: MIT */
/*
 * weir/llist.h, in two rounds, a signal handler adding and removing meanwhile:
 *   all    every thread adds, alone and in batches, and takes all, on two lists;
 *   first  every thread but one adds; that one takes with del_first and its variants, and sends the nodes back.
 * Every node is counted, arrival order is checked per thread, and "the list was empty" is said as often as the list
 * was emptied.
 */
#include "stress.h"
#include "weir/llist.h"

enum { NODES = 300, BATCH = 5 };

struct object {
    struct weir_llist_node link;
    struct stress_mark mark;
    unsigned adder;
    uint64_t sequence; /* of its adder */
};

static struct object objects[NODES];
static struct weir_llist_head lists[2];
static struct weir_llist_head returns[STRESS_MAX_THREADS]; /* round "first": back to each adder */
static size_t filled[2], emptied[2];                       /* how often a list ceased, began to be empty */

static void added(unsigned which, bool was_empty)
{
    if (was_empty)
        weir_fetch_add_relaxed(&filled[which], (size_t)1);
}

/* Takes the whole list and all its marks. */
static struct weir_llist_node *take_all(unsigned which)
{
    struct weir_llist_node *chain = weir_llist_del_all(&lists[which]);
    if (chain)
        weir_fetch_add_relaxed(&emptied[which], (size_t)1);
    size_t n = 0;
    weir_llist_for_each_entry(object, chain, struct object, link) {
        if (n++ == NODES)
            stress_fail("a chain has a cycle");
        stress_take(&object->mark);
    }
    return chain;
}

/* In arrival order the nodes of one thread carry rising numbers. The handler's have none. */
static void check_order(const struct weir_llist_node *chain)
{
    uint64_t last[STRESS_MAX_THREADS] = {0};
    weir_llist_for_each_entry(object, chain, struct object, link) {
        if (object->adder == STRESS_MAX_THREADS)
            continue;
        if (object->sequence <= last[object->adder])
            stress_fail("thread %u's number %llu arrived after its %llu", object->adder,
                        (unsigned long long)object->sequence, (unsigned long long)last[object->adder]);
        last[object->adder] = object->sequence;
    }
}

static void interrupt_all(void)
{
    weir_llist_for_each_entry_safe(object, next, take_all(0), struct object, link) {
        object->adder = STRESS_MAX_THREADS;
        stress_give(&object->mark);
        added(0, weir_llist_add(&object->link, &lists[0]));
    }
}

static void *work_all(void *argument)
{
    unsigned self = (unsigned)(uintptr_t)argument;
    uint64_t random = stress_seed(self), sequence = 0;
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        unsigned from = dice & 1, to = dice >> 1 & 1, want = (unsigned)(dice >> 2) % BATCH;
        struct weir_llist_node *chain = weir_llist_reverse_order(take_all(from));
        check_order(chain);

        /* Batches of want + 1; the last of a batch arrives first, so it gets the lowest number. */
        struct weir_llist_node *first = NULL, *last = NULL;
        unsigned length = 0;
        weir_llist_for_each_entry_safe(object, next, chain, struct object, link) {
            object->adder = self;
            object->sequence = ++sequence;
            stress_give(&object->mark);
            weir_store_relaxed(&object->link.next, first);
            first = &object->link;
            last = last ? last : first;
            if (length++ < want && next)
                continue;
            added(to, length == 1 ? weir_llist_add(first, &lists[to])
                                  : weir_llist_add_batch(first, last, &lists[to]));
            first = last = NULL;
            length = 0;
        }
    }
    return NULL;
}

/* Only adds and the empty check may run beside a del_first. */
static struct weir_llist_head spare;

static void interrupt_first(void)
{
    struct weir_llist_node *chain = weir_llist_del_all(&spare);
    weir_llist_for_each_entry_safe(object, next, chain, struct object, link)
        added(0, weir_llist_add(&object->link, &lists[0]));
}

static void consume(uint64_t *random)
{
    struct weir_llist_node *node;
    uint64_t dice = stress_random(random);
    switch (dice & 3) {
    case 0:
        node = weir_llist_del_first_init(&lists[0]);
        if (node && weir_llist_node_on_list(node))
            stress_fail("del_first_init left its node marked as on a list");
        break;
    case 1:
        /* Relaxed: that del_first_this acquires is for it to do. */
        node = weir_load_relaxed(&lists[0].first);
        if (node && !weir_llist_del_first_this(&lists[0], node))
            return;
        break;
    default:
        node = weir_llist_del_first(&lists[0]);
    }
    if (!node)
        return;
    struct object *object = weir_llist_entry(node, struct object, link);
    stress_take(&object->mark);
    stress_give(&object->mark);
    if ((dice >> 2 & 15) == 0)
        weir_llist_add(node, &spare);
    else
        weir_llist_add(node, &returns[1 + (dice >> 6) % (stress.threads - 1)]);
}

static void *work_first(void *argument)
{
    unsigned self = (unsigned)(uintptr_t)argument;
    uint64_t random = stress_seed(self);
    while (!stress_stopped()) {
        if (self == 0) {
            consume(&random);
            continue;
        }
        weir_llist_for_each_entry_safe(object, next, weir_llist_del_all(&returns[self]), struct object,
                                       link) {
            stress_take(&object->mark);
            stress_give(&object->mark);
            weir_llist_add(&object->link, &lists[0]);
        }
    }
    return NULL;
}

static void reset(void)
{
    for (unsigned i = 0; i < 2; i++) {
        weir_llist_init(&lists[i]);
        filled[i] = emptied[i] = 0;
    }
    for (unsigned i = 0; i < NODES; i++) {
        objects[i].adder = STRESS_MAX_THREADS;
        stress_give(&objects[i].mark);
        added(0, weir_llist_add(&objects[i].link, &lists[0]));
    }
}

static size_t count(struct weir_llist_head *head)
{
    size_t n = 0;
    weir_llist_for_each_entry(object, weir_llist_del_all(head), struct object, link) {
        if (n++ == NODES)
            stress_fail("a chain has a cycle");
        stress_take(&object->mark);
    }
    return n;
}

static void round_all(void)
{
    reset();
    stress_run(work_all, stress.milliseconds / 2, interrupt_all);
    size_t left = 0;
    for (unsigned i = 0; i < 2; i++) {
        if (filled[i] - emptied[i] != !weir_llist_empty(&lists[i]))
            stress_fail("list %u was emptied %zu times, but found empty by %zu adds", i, emptied[i],
                        filled[i]);
        left += count(&lists[i]);
    }
    if (left != NODES)
        stress_fail("%zu of %d nodes are left", left, NODES);
}

static void round_first(void)
{
    reset();
    stress_run(work_first, stress.milliseconds / 2, interrupt_first);
    size_t left = count(&lists[0]) + count(&spare);
    for (unsigned i = 0; i < stress.threads; i++)
        left += count(&returns[i]);
    if (left != NODES)
        stress_fail("%zu of %d nodes are left", left, NODES);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    round_all();
    round_first();
    return 0;
}
