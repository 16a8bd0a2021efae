/* SPDX-License-Identifier: MIT */
/* fork.c - the gate of the slow paths, and what happens before and after fork(): see fork.h. */
#define _GNU_SOURCE
#include "fork.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "futex.h"
#include "gate.h"
#include "grace.h"
#include "percpu.h"

/* --- the gate --- */

unsigned weir__fork_patience = 1000;

static struct weir__gate gate;

/*
 * In WEIR_PERCPU_RSEQ the usual way through the gate has no locked instruction: in one sequence, it looks at
 * the state and counts. Who closes has the sequences restarted: after that whoever found it open has been
 * counted, and nobody finds it open any more. Who does not find it open, and threads that the kernel does not
 * know, are counted in gate.h's stripes. One may come in here and leave there: only the sums matter.
 */
struct counts {
    uint64_t entered, left;
};
static struct counts *counts; /* CPU 0's; NULL: all use the stripes */

/* Initial-exec: no function is called, nothing allocated, the first time a thread gets here, be it in a
 * handler. */
#define OF_THREAD static __thread __attribute__((tls_model("initial-exec")))
OF_THREAD unsigned depth;    /* how often this thread is inside */
OF_THREAD unsigned stripe;   /* where it was counted */
OF_THREAD bool forking_here; /* it has closed the gate itself */

bool weir__usable(void)
{
    return weir_load_relaxed(&gate.state) !=
           WEIR__UNUSABLE; /* relaxed: set before there is a second thread */
}

static struct counts *counts_of(unsigned cpu)
{
    return (struct counts *)(void *)((char *)counts + (size_t)cpu * WEIR_PERCPU_STRIDE);
}

static void count_out(void)
{
    static const uint32_t always;
    struct counts *mine = weir_load_acquire(&counts); /* acquire: pairs with the release in init() */
    depth = 0;
    if (mine == NULL || !weir__percpu_tick(&mine->left, &always))
        weir__gate_count_out(&gate, stripe);
}

/* After the gate was closed: is nobody inside, but those whom the caller knows of? */
static bool nobody_inside(uint64_t known)
{
    for (unsigned cpu = 0; counts != NULL && cpu < weir_percpu_nr_cpus(); cpu++) {
        /* Acquire: pairs with the release of weir__percpu_tick(): what was done inside is visible. */
        known += weir_load_acquire(&counts_of(cpu)->left);
        known -= weir_load_relaxed(&counts_of(cpu)->entered); /* relaxed: they do not change any more */
    }
    return weir__gate_nobody_inside(&gate, known);
}

/* Inside if it is WEIR__OPEN, or closed by this thread itself; what the gate was. */
static uint32_t knock(void)
{
    struct counts *mine = weir_load_acquire(&counts); /* acquire: as in count_out() */
    if (mine != NULL && weir_likely(weir__percpu_tick(&mine->entered, &gate.state))) {
        depth = 1; /* a handler between the two: see below */
        return WEIR__OPEN;
    }
    stripe = weir_percpu_cpu() % WEIR__GATE_STRIPES;
    weir__gate_count_in(&gate, stripe);
    /* A handler that interrupts us here, between the count and the depth, waits at a closed gate for one who
     * waits for us: fork() gives up then, after its second. So it does between the two in count_out(). Anywhere
     * else the handler finds the depth, and passes. */
    depth = 1;
    uint32_t state = weir__gate_look(&gate);
    if (weir_likely(state == WEIR__OPEN) || (state == WEIR__CLOSED && forking_here))
        return WEIR__OPEN;
    count_out();
    return state;
}

bool weir__enter(void)
{
    if (depth != 0) { /* so it is usable */
        depth++;
        return true;
    }
    for (;;) {
        uint32_t state = knock();
        if (state != WEIR__CLOSED)
            return state == WEIR__OPEN;
        weir__futex_wait(&gate.state, WEIR__CLOSED, NULL);
    }
}

bool weir__try_enter(void)
{
    if (depth != 0) {
        depth++;
        return true;
    }
    return knock() == WEIR__OPEN;
}

void weir__leave(void)
{
    if (depth > 1)
        depth--;
    else
        count_out();
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

static void open_gate(enum weir__gate_state state)
{
    forking_here = false;
    weir__gate_set(&gate, state);
    weir__futex_wake_all(&gate.state);
}

static void prepare(void)
{
    sigset_t everything;
    uint64_t deadline = weir__milliseconds() + weir__fork_patience;

    /* A handler in this thread would wait for its own thread. */
    sigfillset(&everything);
    pthread_sigmask(SIG_SETMASK, &everything, &signals);
    pthread_mutex_lock(&mutex);
    weir__grace_stop_periods(deadline -
                             weir__fork_patience / 2); /* readers may have to get through the gate first */
    ready = weir__grace_stop_sweeps(deadline);
    if (weir__usable()) {
        forking_here = true;
        weir__gate_set(&gate, WEIR__CLOSED);
        /* As weir_percpu_settle(), but if it is refused there is a way out. */
        ready = (counts == NULL || weir__restart_sequences(0, 0) == 0) && ready;
    }
    while (ready && !nobody_inside(depth != 0)) {
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
        open_gate(WEIR__OPEN);
    pthread_mutex_unlock(&mutex);
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
}

static void in_child(void)
{
    for (size_t i = 0; i < WEIR__GATE_STRIPES; i++)
        gate.stripe[i].entered = gate.stripe[i].left = 0;
    for (unsigned cpu = 0; counts != NULL && cpu < weir_percpu_nr_cpus(); cpu++)
        *counts_of(cpu) = (struct counts){0, 0};
    gate.stripe[stripe].entered = depth != 0;
    weir__grace_go_on(true);
    bool usable = ready && weir__usable();
    if (!usable)
        empty_all();
    else if (weir_percpu_mode() == WEIR_PERCPU_LOCK)
        unlock_all();
    open_gate(usable ? WEIR__OPEN : WEIR__UNUSABLE);
    pthread_mutex_unlock(&mutex);
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
}

static void init(void)
{
#ifndef WEIR_ATOMIC_HOOK /* who wants to see every atomic operation sees those of the gate, too */
    if (weir_percpu_mode() == WEIR_PERCPU_RSEQ)
        weir_store_release(&counts, (struct counts *)weir_percpu_alloc()); /* pairs with the acquires above */
#endif
    pthread_atfork(prepare, in_parent, in_child);
}

void weir__fork_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init);
}
