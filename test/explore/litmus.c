/* SPDX-License-Identifier: MIT */
/* litmus.c - what the explorer's memory model allows and what not, by the small programs that memory models are told apart
 * with (J. Alglave, L. Maranget, M. Tautschnig, "Herding Cats", TOPLAS 2014, has their names). */
#include "litmus.h"

#include <string.h>

#include "weir/llist.h"
#include "weir/stack.h"

static uint64_t x, y;
static uint64_t seen[4]; /* what the threads have read */

static void start(void *arg)
{
    (void)arg;
    x = y = 0;
    memset(seen, 0xff, sizeof seen);
}

/* Message passing: x is the message, y the flag. */
static void mp_relaxed(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        weir_store_relaxed(&x, UINT64_C(1));
        weir_store_relaxed(&y, UINT64_C(1));
    } else {
        seen[0] = weir_load_relaxed(&y);
        seen[1] = weir_load_relaxed(&x);
    }
}

static void mp_no_acquire(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        weir_store_relaxed(&x, UINT64_C(1));
        weir_store_release(&y, UINT64_C(1));
    } else {
        seen[0] = weir_load_relaxed(&y);
        seen[1] = weir_load_relaxed(&x);
    }
}

static void mp_no_release(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        weir_store_relaxed(&x, UINT64_C(1));
        weir_store_relaxed(&y, UINT64_C(1));
    } else {
        seen[0] = weir_load_acquire(&y);
        seen[1] = weir_load_relaxed(&x);
    }
}

static void mp(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        weir_store_relaxed(&x, UINT64_C(1));
        weir_store_release(&y, UINT64_C(1));
    } else {
        seen[0] = weir_load_acquire(&y);
        seen[1] = weir_load_relaxed(&x);
    }
}

/* The flag is changed once more on the way, by a relaxed read-modify-write: it goes on with the release. */
static void mp_through_rmw(void *arg, unsigned thread)
{
    if (thread == 2)
        weir_fetch_add_relaxed(&y, UINT64_C(1));
    else
        mp(arg, thread);
}

/* The same by a relaxed store: it does not. */
static void mp_through_store(void *arg, unsigned thread)
{
    if (thread == 2)
        weir_store_relaxed(&y, UINT64_C(2));
    else
        mp(arg, thread);
}

static bool stale_message(void)
{
    return seen[0] == 1 && seen[1] == 0;
}

static bool stale_message_2(void)
{
    return seen[0] == 2 && seen[1] == 0;
}

/* Store buffering: both write one and read the other. */
static void sb(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        weir_store_release(&x, UINT64_C(1));
        seen[0] = weir_load_acquire(&y);
    } else {
        weir_store_release(&y, UINT64_C(1));
        seen[1] = weir_load_acquire(&x);
    }
}

/* The same on one word, by read-modify-writes: one of them is first. */
static void sb_one_word(void *arg, unsigned thread)
{
    (void)arg;
    seen[thread] = weir_fetch_add_acq_rel(&x, UINT64_C(1));
}

static bool both_zero(void)
{
    return seen[0] == 0 && seen[1] == 0;
}

/* Coherence: two reads of one word do not go back in time. */
static void corr(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        weir_store_relaxed(&x, UINT64_C(1));
    } else {
        seen[0] = weir_load_relaxed(&x);
        seen[1] = weir_load_relaxed(&x);
    }
}

/* Message passing to one who reads the flag first, and to one who reads the message first. */
static void mp_two_readers(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        weir_store_release(&x, UINT64_C(1));
        weir_store_release(&y, UINT64_C(1));
    } else if (thread == 1) {
        seen[0] = weir_load_acquire(&y);
        seen[1] = weir_load_acquire(&x);
    } else {
        seen[2] = weir_load_acquire(&x);
        seen[3] = weir_load_acquire(&y);
    }
}

/* Load buffering: allowed by C11 for relaxed accesses, and out of this model's reach. */
static void lb(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        seen[0] = weir_load_relaxed(&x);
        weir_store_relaxed(&y, UINT64_C(1));
    } else {
        seen[1] = weir_load_relaxed(&y);
        weir_store_relaxed(&x, UINT64_C(1));
    }
}

static bool both_one(void)
{
    return seen[0] == 1 && seen[1] == 1;
}

/* --- and what weir's list promises beyond its own nodes --- */

static struct weir_llist_head list;
static struct weir_stack stack;
static union {
    struct weir_llist_node list;
    struct weir_stack_node stack;
} nodes[3];

static void start_lists(void *arg)
{
    start(arg);
    weir_llist_init(&list);
    weir_llist_add(&nodes[0].list, &list);
    weir_stack_init(&stack);
    weir_stack_push(&stack, &nodes[1].stack);
    nodes[2].stack.next = (struct weir_stack_node *)(uintptr_t)0x5d01ed; /* faults; never was on the stack */
}

/* The consumer re-arms its wake-up and empties the list; who finds it empty then must see that it was re-armed. */
static void add_and_look(void)
{
    if (weir_llist_add(&nodes[2].list, &list))
        seen[0] = weir_load_relaxed(&x);
}

static void wake_all(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 1) {
        add_and_look();
        return;
    }
    weir_store_relaxed(&x, UINT64_C(1));
    weir_llist_del_all(&list);
}

static void wake_first(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 1) {
        add_and_look();
        return;
    }
    weir_store_relaxed(&x, UINT64_C(1));
    weir_llist_del_first(&list);
}

static void wake_this(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 1) {
        add_and_look();
        return;
    }
    weir_store_relaxed(&x, UINT64_C(1));
    weir_llist_del_first_this(&list, &nodes[0].list);
}

static bool not_armed(void)
{
    return seen[0] == 0;
}

/* A node goes from a stack to a list while a pop_n is looking at it: it must not be followed there. */
static void moves_by_add(void *arg, unsigned thread)
{
    (void)arg;
    size_t n;
    if (thread == 0) {
        weir_stack_pop_n(&stack, 3, &n);
    } else if (weir_stack_pop(&stack) != NULL) {
        weir_llist_add(&nodes[2].list, &list);
        weir_llist_add(&nodes[1].list, &list);
    }
}

static void moves_by_reverse(void *arg, unsigned thread)
{
    (void)arg;
    size_t n;
    if (thread == 0) {
        weir_stack_pop_n(&stack, 3, &n);
    } else if (weir_stack_pop(&stack) != NULL) {
        weir_llist_add(&nodes[1].list, &list);
        weir_llist_add(&nodes[2].list, &list);
        weir_llist_del_all_fifo(&list);
    }
}

static bool never(void) /* but by a crash */
{
    return false;
}

static const struct {
    const char *name;
    unsigned threads;
    void (*run)(void *arg, unsigned thread);
    bool (*outcome)(void);
    bool allowed;
    bool lists; /* starts with them */
} tests[] = {
    {"MP, all relaxed: the message is missed", 2, mp_relaxed, stale_message, true, false},
    {"MP, without acquire", 2, mp_no_acquire, stale_message, true, false},
    {"MP, without release", 2, mp_no_release, stale_message, true, false},
    {"MP, release and acquire", 2, mp, stale_message, false, false},
    {"MP, through a relaxed read-modify-write", 3, mp_through_rmw, stale_message_2, false, false},
    {"MP, through a relaxed store", 3, mp_through_store, stale_message_2, true, false},
    {"MP, two readers: the first misses it", 3, mp_two_readers, stale_message, false, false},
    {"SB, release and acquire: neither sees the other", 2, sb, both_zero, true, false},
    {"SB, on one word by read-modify-writes", 2, sb_one_word, both_zero, false, false},
    {"CoRR: back in time", 2, corr, stale_message, false, false},
    {"LB: out of reach", 2, lb, both_one, false, false},
    {"llist: found empty, missed what was before del_all", 2, wake_all, not_armed, false, true},
    {"llist: found empty, missed what was before del_first", 2, wake_first, not_armed, false, true},
    {"llist: found empty, missed what was before del_first_this", 2, wake_this, not_armed, false, true},
    {"stack, then llist: pop_n follows an add", 2, moves_by_add, never, false, true},
    {"stack, then llist: pop_n follows a reverse_order", 2, moves_by_reverse, never, false, true},
};

static bool (*wanted)(void);

static void finish(void *arg)
{
    (void)arg;
    if (wanted())
        explore_fail("that");
}

bool litmus(void)
{
    static struct explore_result result;
    bool ok = true;
    for (unsigned i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        const struct explore_program program = {.threads = tests[i].threads,
                                                .start = tests[i].lists ? start_lists : start,
                                                .run = tests[i].run,
                                                .finish = finish,
                                                .weak = true};
        wanted = tests[i].outcome;
        explore_all(&program, tests[i].lists ? 3 : EXPLORE_ANY, tests[i].lists ? 3 : EXPLORE_ANY, &result);
        bool right = result.failed == tests[i].allowed;
        ok = ok && right;
        printf("%-60s %5llu schedules, %s%s\n", tests[i].name, (unsigned long long)result.schedules,
               result.failed ? "happens" : "never happens", right ? "" : ": WRONG");
    }
    return ok;
}
