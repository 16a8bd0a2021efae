/* SPDX-License-Identifier: MIT */
/* fork.c - the gate of the slow paths, and what happens before and after fork(): see fork.h. */
#define _GNU_SOURCE
#include "fork.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "futex.h"
#include "grace.h"

/* --- the gate --- */

enum { OPEN = 0, CLOSED = 1, UNUSABLE = 2 };
static uint32_t gate;

/* How many have entered, and left; in the stripe of the CPU they were on. */
static struct {
    uint64_t entered, left;
} WEIR_ALIGNED(WEIR_LINE_PAIR) stripes[64];
#define STRIPES (sizeof stripes / sizeof stripes[0])

/* Initial-exec: no function is called, nothing allocated, the first time a thread gets here, be it in a handler. */
#define OF_THREAD static __thread __attribute__((tls_model("initial-exec")))
OF_THREAD unsigned depth;    /* how often this thread is inside */
OF_THREAD unsigned stripe;   /* where it was counted */
OF_THREAD bool forking_here; /* it has closed the gate itself */

bool weir__usable(void)
{
    return weir_load_relaxed(&gate) != UNUSABLE; /* relaxed: set before there is a second thread */
}

/* True: go on. False: the gate was closed, or all is over. */
static bool look_at_gate(void)
{
    /* Acquire: pairs with the release that opens it. */
    uint32_t state = weir_load_acquire(&gate);
    if (weir_likely(state == OPEN) || forking_here)
        return true;
    depth = 0;
    weir_fetch_add_release(&stripes[stripe].left, UINT64_C(1));
    if (state == CLOSED)
        weir__futex_wait(&gate, CLOSED, NULL);
    return false;
}

bool weir__enter(void)
{
    if (depth != 0) { /* so it is usable */
        depth++;
        return true;
    }
    do {
        if (!weir__usable())
            return false;
        stripe = weir_percpu_cpu() % STRIPES;
        /* A read-modify-write, like the look of who closes the gate at this count: if his comes first in the order of
         * this word, we acquire what he released before, and find the gate closed; if not, he finds us, and waits. */
        weir_fetch_add_acq_rel(&stripes[stripe].entered, UINT64_C(1));
        /* A handler that interrupts us here, between the count and the depth, waits at a closed gate for one who waits
         * for us: fork() gives up then, after its second. Anywhere else it finds the depth, and passes. */
        depth = 1;
    } while (!look_at_gate());
    return true;
}

void weir__leave(void)
{
    if (depth > 1) {
        depth--;
        return;
    }
    depth = 0;
    /* Release: pairs with the acquire in nobody_inside(). */
    weir_fetch_add_release(&stripes[stripe].left, UINT64_C(1));
}

/* Apart from this thread. */
static bool nobody_inside(void)
{
    uint64_t left = depth != 0, entered = 0;
    for (size_t i = 0; i < STRIPES; i++)
        left += weir_load_acquire(&stripes[i].left); /* first: who enters later is no excuse */
    for (size_t i = 0; i < STRIPES; i++)
        entered += weir_fetch_add_acq_rel(&stripes[i].entered, UINT64_C(0)); /* see weir__enter() */
    return left == entered;
}

/* --- the slots --- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* protects `all` */
static struct weir__guarded *all;

static struct weir_percpu_slot *slot_of(const struct weir__guarded *guarded, unsigned cpu)
{
    return (struct weir_percpu_slot *)(void *)((char *)guarded->slots + (size_t)cpu * WEIR_PERCPU_STRIDE);
}

static void unlock_slots(const struct weir__guarded *guarded, unsigned nr_cpus)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        weir_store_release(&slot_of(guarded, cpu)->busy, 0u); /* it is the slot's lock */
}

/* Locks those of each CPU; false, with none locked, if one's holder does not let go in time. */
static bool lock_slots(const struct weir__guarded *guarded, uint64_t deadline)
{
    for (unsigned cpu = 0; cpu < weir_percpu_nr_cpus(); cpu++)
        while (weir_xchg_acquire(&slot_of(guarded, cpu)->busy, 1u) != 0) {
            if (weir__milliseconds() >= deadline) {
                unlock_slots(guarded, cpu);
                return false;
            }
            sched_yield();
        }
    return true;
}

/* For WEIR_PERCPU_LOCK: all of them or none. */
static bool lock_all(uint64_t deadline)
{
    for (struct weir__guarded *guarded = all; guarded != NULL; guarded = guarded->next)
        if (!lock_slots(guarded, deadline)) {
            for (struct weir__guarded *locked = all; locked != guarded; locked = locked->next)
                unlock_slots(locked, weir_percpu_nr_cpus());
            return false;
        }
    return true;
}

static void unlock_all(void)
{
    for (struct weir__guarded *guarded = all; guarded != NULL; guarded = guarded->next)
        unlock_slots(guarded, weir_percpu_nr_cpus());
}

/* In a child that cannot use anything: what is in the slots is lost. */
static void empty_all(void)
{
    for (struct weir__guarded *guarded = all; guarded != NULL; guarded = guarded->next)
        weir_percpu_slots_init(guarded->slots);
}

void weir__guarded_register(struct weir__guarded *guarded, struct weir_percpu_slot *slots)
{
    weir__fork_init();
    pthread_mutex_lock(&mutex);
    *guarded = (struct weir__guarded){all, slots};
    all = guarded;
    pthread_mutex_unlock(&mutex);
}

void weir__guarded_unregister(struct weir__guarded *guarded)
{
    pthread_mutex_lock(&mutex);
    struct weir__guarded **link = &all;
    while (*link != guarded)
        link = &(*link)->next;
    *link = guarded->next;
    pthread_mutex_unlock(&mutex);
}

/* --- fork() --- */

static bool ready; /* everybody has paused in time */
static sigset_t signals;

static void open_gate(uint32_t state)
{
    forking_here = false;
    weir_xchg_acq_rel(&gate, state); /* pairs with look_at_gate() */
    weir__futex_wake_all(&gate);
}

static void prepare(void)
{
    sigset_t everything;
    uint64_t deadline = weir__milliseconds() + WEIR_FORK_MILLISECONDS;

    /* A handler in this thread would wait for its own thread. */
    sigfillset(&everything);
    pthread_sigmask(SIG_SETMASK, &everything, &signals);
    pthread_mutex_lock(&mutex);
    weir__grace_stop_periods(deadline -
                             WEIR_FORK_MILLISECONDS / 2); /* readers may have to get through the gate first */
    ready = weir__grace_stop_sweeps(deadline);
    if (weir__usable()) {
        forking_here = true;
        weir_xchg_acq_rel(&gate, (uint32_t)CLOSED); /* see weir__enter() */
    }
    while (ready && !nobody_inside()) {
        ready = weir__milliseconds() < deadline;
        sched_yield();
    }
    if (weir_percpu_mode() == WEIR_PERCPU_LOCK)
        ready = ready && lock_all(deadline);
}

static void in_parent(void)
{
    weir__grace_go_on(false);
    if (ready && weir_percpu_mode() == WEIR_PERCPU_LOCK)
        unlock_all();
    if (weir__usable())
        open_gate(OPEN);
    pthread_mutex_unlock(&mutex);
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
}

static void in_child(void)
{
    for (size_t i = 0; i < STRIPES; i++)
        stripes[i].entered = stripes[i].left = 0;
    stripes[stripe].entered = depth != 0;
    weir__grace_go_on(true);
    bool usable = ready && weir__usable();
    if (!usable)
        empty_all();
    else if (weir_percpu_mode() == WEIR_PERCPU_LOCK)
        unlock_all();
    open_gate(usable ? OPEN : UNUSABLE);
    pthread_mutex_unlock(&mutex);
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
}

static void init(void)
{
    pthread_atfork(prepare, in_parent, in_child);
}

void weir__fork_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init);
}
