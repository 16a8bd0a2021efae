/* SPDX-License-Identifier: MIT */
/* field_urcu.c - liburcu-qsbr's own ways: call_rcu with one helper and with one per CPU, and defer_rcu. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

#include "field_loop.h"
#include "field_urcu.h"

struct object {
    unsigned char first;
    struct rcu_head head;
};
_Static_assert(sizeof(struct object) <= 32, "the smallest --object-bytes");

/* --- grace periods, counted: the program's function goes before the library's --- */

static uint64_t synchronized;

void urcu_qsbr_synchronize_rcu(void)
{
    static void (*next)(void);
    void (*function)(void) = weir_load_relaxed(&next); /* relaxed: everybody finds the same */
    if (function == NULL) {
        *(void **)&function = dlsym(RTLD_NEXT, "urcu_qsbr_synchronize_rcu");
        weir_store_relaxed(&next, function);
    }
    function();
    weir_fetch_add_relaxed(&synchronized, UINT64_C(1)); /* relaxed: a count */
}

static uint64_t periods(void)
{
    return weir_load_relaxed(&synchronized);
}

/* --- readers --- */

bool field_urcu_open(const struct field_setting *setting)
{
    (void)setting;
    return true;
}

bool field_urcu_enter(unsigned number)
{
    (void)number;
    urcu_qsbr_register_thread();
    return true;
}

void field_urcu_leave(unsigned number)
{
    (void)number;
    urcu_qsbr_unregister_thread();
}

/* --- call_rcu --- */

static bool open_per_cpu(const struct field_setting *setting)
{
    (void)setting;
    if (urcu_qsbr_create_all_cpu_call_rcu_data(0) == 0)
        return true;
    fputs("no helper thread per CPU\n", stderr);
    return false;
}

static void free_by_head(struct rcu_head *head)
{
    field_free((char *)head - offsetof(struct object, head));
}

ALWAYS_INLINE void call(void *object, uint64_t number)
{
    (void)number;
    urcu_qsbr_call_rcu(&((struct object *)object)->head, free_by_head);
}

static void work_call_rcu(struct field_worker *worker)
{
    field_loop(worker, field_malloc, call, urcu_qsbr_quiescent_state);
}

/*
 * --- defer_rcu: a queue of 4096 slots per thread ---
 *
 * A full queue is emptied by the call that finds it full, which waits for a mutex while its thread is online;
 * who holds the mutex may be waiting for a grace period, and so for that thread. So workers empty their queue
 * themselves, offline, before it is full.
 */
#define DEFER_EVERY 3840 /* calls; each takes a slot, but for the first few */
_Static_assert(DEFER_EVERY % QUIESCENT_EVERY == 0, "it happens at a quiescent state");

static __thread unsigned deferred;

static bool enter_defer(unsigned number)
{
    bool worker = number < field_setting.threads;
    field_urcu_enter(number);
    urcu_qsbr_thread_offline(); /* registering waits for the mutex, too */
    if (worker && urcu_qsbr_defer_register_thread() != 0)
        return false;
    urcu_qsbr_thread_online();
    return true;
}

static void leave_defer(unsigned number)
{
    if (number < field_setting.threads)
        urcu_qsbr_defer_unregister_thread();
    field_urcu_leave(number);
}

static __attribute__((noinline)) void empty_queue(void)
{
    urcu_qsbr_thread_offline();
    urcu_qsbr_defer_barrier_thread();
    urcu_qsbr_thread_online();
    deferred = 0;
}

ALWAYS_INLINE void quiescent_and_empty(void)
{
    if (weir_unlikely((deferred += QUIESCENT_EVERY) >= DEFER_EVERY))
        empty_queue();
    else
        urcu_qsbr_quiescent_state();
}

static void free_deferred(void *object)
{
    field_free(object);
}

ALWAYS_INLINE void defer(void *object, uint64_t number)
{
    (void)number;
    urcu_qsbr_defer_rcu(free_deferred, object);
}

static void work_defer(struct field_worker *worker)
{
    field_loop(worker, field_malloc, defer, quiescent_and_empty);
    deferred = 0; /* the barrier empties it */
}

const struct field_contender field_urcu[3] = {
    {URCU_READERS, .id = "call-rcu", .open = field_urcu_open, .work = work_call_rcu,
     .barrier = urcu_qsbr_barrier, .periods = periods},
    {URCU_READERS, .id = "call-rcu-per-cpu", .open = open_per_cpu, .work = work_call_rcu,
     .barrier = urcu_qsbr_barrier, .periods = periods},
    {URCU_READERS_WITH(enter_defer, leave_defer), .id = "defer-rcu", .open = field_urcu_open,
     .work = work_defer, .barrier = urcu_qsbr_defer_barrier, .periods = periods},
};
