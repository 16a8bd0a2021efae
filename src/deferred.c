/* SPDX-License-Identifier: MIT */
/* deferred.c - objects that wait for a grace period: see deferred.h. */
#define _GNU_SOURCE
#include "deferred.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "percpu.h"

/* A cookie that no grace period has (those are even): the magazine may still be in a slot; there is none. */
#define OPEN UINT64_C(1)

/* Magazines reclaimed by whoever adds one, if they are reclaimed whole, or the limit is near: two, so that a
 * backlog shrinks. */
#define REAP_PER_ADD 2

/*
 * Objects pending on a CPU that make a backlog. While there is one, who frees a step frees two; and if there
 * is nothing to be freed yet, whoever adds magazines yields the CPU, once in so many objects: often a reader,
 * or the helper thread, is ready to run and waits behind the very thread that waits for it, until the
 * scheduler's next tick, milliseconds later. Yielding is not waiting: if nobody else is ready it returns at
 * once. No more of them than a quarter of what may be pending. Large objects are a backlog sooner: all that
 * are pending take memory, and pages that have left the CPU's cache are slow to be used again.
 */
#define BACKLOG_OBJECTS 16384
#define BACKLOG_BYTES ((size_t)32 << 20)
#define YIELD_OBJECTS 1024

/*
 * While so many magazines are ripe, once in as many installed ones a step more is freed than was handed over: a
 * queue that was longer for a while becomes short again, but slowly, and not too short. A grace period makes
 * several ripe at once, and where none is when it is time to, the allocator has to do without what is freed.
 */
#define SPARE_MAGAZINES 16

/* CPUs whose slots are emptied under one weir_percpu_settle(). */
#define FLUSH_AT_ONCE 64

/* --- how much is pending. Relaxed, all of it: counts; nothing is read because of them --- */

size_t weir__deferred_bytes(const struct weir__deferred *deferred, size_t n, void *const objects[])
{
    const struct weir__deferred_limit *limit = deferred->limit;
    size_t bytes = 0;
    for (size_t i = 0; limit != NULL && limit->size_of != NULL && i < n; i++)
        bytes += limit->size_of(objects[i]);
    return bytes;
}

/* Counts no objects, but bytes. */
static void charge_bytes(struct weir__deferred *deferred, size_t n, void *const objects[])
{
    size_t bytes = weir__deferred_bytes(deferred, n, objects);
    if (bytes != 0)
        weir_fetch_add_relaxed(&deferred->limit->bytes, bytes);
}

void weir__deferred_charge(struct weir__deferred *deferred, size_t n, void *const objects[])
{
    weir_fetch_add_relaxed(&deferred->limit->objects, n);
    charge_bytes(deferred, n, objects);
}

void weir__deferred_discharge(struct weir__deferred *deferred, size_t n, size_t bytes)
{
    if (deferred->limit == NULL)
        return;
    if (n != 0)
        weir_fetch_sub_relaxed(&deferred->limit->objects, n);
    if (bytes != 0)
        weir_fetch_sub_relaxed(&deferred->limit->bytes, bytes);
}

/* Makes room for a magazine that is about to be installed; false if the limit does not allow it. */
static bool admit(struct weir__deferred *deferred)
{
    struct weir__deferred_limit *limit = deferred->limit;
    size_t n = deferred->capacity;
    if (limit == NULL)
        return true;
    if (weir_load_relaxed(&limit->bytes) >= limit->most_bytes ||
        weir_load_relaxed(&limit->objects) + n > limit->most_objects)
        return false;
    if (weir_fetch_add_relaxed(&limit->objects, n) + n <= limit->most_objects)
        return true;
    weir_fetch_sub_relaxed(&limit->objects, n);
    return false;
}

/* Is three quarters of what may be pending? Other CPUs may need what is left. */
static bool is_near(const struct weir__deferred_limit *limit)
{
    return limit != NULL &&
           (weir_load_relaxed(&limit->objects) > limit->most_objects - limit->most_objects / 4 ||
            weir_load_relaxed(&limit->bytes) > limit->most_bytes - limit->most_bytes / 4);
}

/* --- magazines and their queues --- */

/* Stamps a magazine that is in no slot any more; `nr` is whatever CPU we are on. */
static weir_grace_cookie seal(struct weir__deferred *deferred, unsigned nr, struct weir_magazine *magazine)
{
    void **objects = weir_magazine_objects(magazine);
    magazine->capacity = (uint32_t)deferred->capacity;
    weir__magazine_set_count(magazine,
                             (uint32_t)weir__handed_over(deferred->handed, magazine->count, objects));
    weir__deferred_discharge(deferred, magazine->capacity - magazine->count, 0); /* it is not as many */
    charge_bytes(deferred, magazine->count, objects);
    /* Relaxed: a statistic. Before the stamp, so that who reads `objects` first never sees fewer here. */
    weir_fetch_add_relaxed(&deferred->cpus[nr].sealed, (uint64_t)magazine->count);
    weir_grace_cookie cookie = weir_grace_start(deferred->grace);
    /* Release: pairs with the acquire in ready(); what is in the magazine comes with it. */
    weir_store_release(&magazine->cookie, cookie.value);
    return cookie;
}

static bool ready(const struct weir__deferred *deferred, const struct weir_magazine *magazine)
{
    /* Acquire: pairs with the release in seal(). */
    weir_grace_cookie cookie = {weir_load_acquire(&magazine->cookie)};
    return cookie.value != OPEN && weir_grace_poll(deferred->grace, cookie);
}

/* What has come in makes up the queue when nothing is left of it, oldest first. Under the flag. */
static void take_in(struct weir__deferred_cpu *cpu)
{
    struct weir_llist_node *newest =
        weir_llist_empty(&cpu->incoming) ? NULL : weir_llist_del_all(&cpu->incoming);
    if (newest != NULL)
        cpu->head = weir_llist_entry(weir_llist_reverse_order(newest), struct weir_magazine, link);
}

/* Is there a first magazine whose time has come? Under the flag. */
static bool has_ripe(const struct weir__deferred *deferred, struct weir__deferred_cpu *cpu)
{
    if (cpu->head == NULL)
        take_in(cpu);
    if (cpu->head != NULL && !cpu->ripe)
        cpu->ripe = ready(deferred, cpu->head);
    return cpu->ripe;
}

/* Takes the first magazine off the queue. Under the flag. */
static void take_off(struct weir__deferred_cpu *cpu)
{
    struct weir_llist_node *next = weir_llist_next(&cpu->head->link);
    cpu->head = next != NULL ? weir_llist_entry(next, struct weir_magazine, link) : NULL;
    cpu->freed = 0;
    cpu->ripe = false;
}

/* They will be freed next, and it is long since they were used: lets them come into the cache meanwhile. */
static void fetch(size_t n, void *const objects[])
{
    for (size_t i = 0; i < n; i++)
        __builtin_prefetch(objects[i], 1);
}

/* Reclaims up to `n` of the objects in the first magazine, which is ripe; the last of them with the magazine;
 * how many. All of them, if it is reclaimed whole. Under the flag, which free functions may find taken. */
static size_t reclaim_some(struct weir__deferred *deferred, struct weir__deferred_cpu *cpu, size_t n)
{
    struct weir_magazine *magazine = cpu->head;
    void **objects = weir_magazine_objects(magazine) + cpu->freed;
    size_t count = magazine->count, left = count - cpu->freed;
    bool all = n >= left;
    if (all)
        take_off(cpu);
    else
        cpu->freed += (uint32_t)n;
    n = all ? left : n;
    size_t bytes = weir__deferred_bytes(deferred, n, objects);
    /* Release: pairs with the acquire in stats: `sealed` is not behind. Only the holder of the flag writes
     * it. */
    weir_store_release(&cpu->objects, cpu->objects + n);
    if (!all)
        fetch(n < left - n ? n : left - n, objects + n);
    if (deferred->reclaim != NULL)
        deferred->reclaim(deferred->arg, magazine);
    else
        deferred->free_some(deferred->arg, weir__handed_back(deferred->handed, n, objects), objects);
    if (all && deferred->reclaim == NULL)
        weir__blocks_put(deferred->blocks, weir_percpu_cpu(), magazine);
    weir__deferred_discharge(deferred, all ? count : 0, bytes); /* now: until here they were pending */
    /* Release: pairs with the acquire in barrier: the objects are freed when this says so. */
    if (all)
        weir_store_release(&cpu->reclaimed, cpu->reclaimed + 1);
    return n;
}

static bool begin_to_reap(struct weir__deferred_cpu *cpu)
{
    /* Acquire: pairs with the release in end_reaping(): the queue as the last reaper left it. */
    return weir_load_relaxed(&cpu->reaping) == 0 && weir_xchg_acquire(&cpu->reaping, 1u) == 0;
}

static void end_reaping(struct weir__deferred_cpu *cpu)
{
    weir_store_release(&cpu->reaping, 0u);
}

size_t weir__deferred_reap(struct weir__deferred *deferred, unsigned nr, size_t budget)
{
    struct weir__deferred_cpu *cpu = &deferred->cpus[nr];
    size_t done = 0;
    if (!begin_to_reap(cpu))
        return 0;
    for (; done < budget && has_ripe(deferred, cpu); done++)
        reclaim_some(deferred, cpu, SIZE_MAX);
    end_reaping(cpu);
    return done;
}

/* Up to `n` objects; where a magazine ends, no more, if that is less than a step. False: not as many are ripe,
 * or somebody else is at it. */
static bool reap_some(struct weir__deferred *deferred, struct weir__deferred_cpu *cpu, size_t n)
{
    bool ripe;
    if (!begin_to_reap(cpu))
        return false;
    while ((ripe = has_ripe(deferred, cpu))) {
        n -= reclaim_some(deferred, cpu, n);
        if (n < deferred->step)
            break;
    }
    end_reaping(cpu);
    return ripe;
}

/* Are as many ripe as need not wait? */
static bool has_spare(const struct weir__deferred *deferred, struct weir__deferred_cpu *cpu)
{
    if (!begin_to_reap(cpu))
        return false;
    struct weir_llist_node *node = cpu->head != NULL ? &cpu->head->link : NULL;
    for (unsigned i = 1; node != NULL && i < SPARE_MAGAZINES; i++)
        node = weir_llist_next(node);
    bool spare = node != NULL && ready(deferred, weir_llist_entry(node, struct weir_magazine, link));
    end_reaping(cpu);
    return spare;
}

size_t weir__deferred_reap_all(struct weir__deferred *deferred)
{
    size_t done = 0;
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++)
        done += weir__deferred_reap(deferred, nr, SIZE_MAX);
    return done;
}

bool weir__deferred_reap_any(struct weir__deferred *deferred)
{
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++)
        if (weir__deferred_reap(deferred, nr, 1) != 0)
            return true;
    return false;
}

/* A magazine to be installed, with room made for it; NULL if there is none, or no room. */
static struct weir_magazine *get_fresh(struct weir__deferred *deferred, unsigned nr)
{
    if (!admit(deferred))
        return NULL;
    struct weir_magazine *fresh = weir__blocks_get(deferred->blocks, nr, true);
    if (fresh == NULL)
        weir__deferred_discharge(deferred, deferred->capacity, 0);
    return fresh;
}

/* There is none to take the place of the magazine in our slot: seals that one, so that its time comes. */
static void retire(struct weir__deferred *deferred, unsigned nr)
{
    struct weir_magazine *old;
    if (weir_percpu_count(&deferred->cpus[0].slot, nr) != 0 &&
        weir_percpu_exchange(&deferred->cpus[0].slot, &weir_percpu_none, &old) && old != &weir_percpu_none)
        seal(deferred, nr, old);
}

static bool has_backlog(const struct weir__deferred *deferred, unsigned nr)
{
    return weir__deferred_pending_cpu(deferred, nr) >= deferred->backlog;
}

/* For `n` objects that were handed over: frees as many, but at least a step. False: none is ripe. */
static bool step(struct weir__deferred *deferred, unsigned nr, size_t n)
{
    n = n > deferred->step ? n : deferred->step;
    return reap_some(deferred, &deferred->cpus[nr], has_backlog(deferred, nr) ? 2 * n : n);
}

bool weir__deferred_go_on(struct weir__deferred *deferred, size_t n, void *const objects[])
{
    struct weir_percpu_slot *slots = &deferred->cpus[0].slot;
    size_t by = n > deferred->step ? n : deferred->step;
    if (!weir__use_rseq() && weir__percpu_put_locked(slots, objects[n - 1])) /* the fast path there */
        return true;
    if (deferred->step == 0 || !weir__percpu_put_more(slots, objects[n - 1], by, deferred->capacity))
        return false;
    if (weir__enter()) {
        step(deferred, weir__percpu_cpu(), by);
        weir__leave();
    }
    return true;
}

size_t weir__deferred_add_slow(struct weir__deferred *deferred, size_t n, void *const objects[])
{
    if (weir__deferred_go_on(deferred, n, objects) ||
        weir_percpu_put(&deferred->cpus[0].slot, objects[n - 1])) /* for a thread that was new */
        return 1;
    unsigned nr = weir_percpu_cpu();
    struct weir__deferred_cpu *cpu = &deferred->cpus[nr];
    struct weir_magazine *fresh = get_fresh(deferred, nr), *old;
    if (fresh == NULL) {
        retire(deferred, nr);
        if (weir__deferred_reap(deferred, nr, REAP_PER_ADD) != 0)
            fresh = get_fresh(deferred, nr);
        if (fresh == NULL)
            return 0;
    }
    size_t added = n < deferred->capacity ? n : deferred->capacity;
    memcpy(weir_magazine_objects(fresh), objects + (n - added), added * sizeof objects[0]);
    weir__magazine_set_count(fresh, (uint32_t)added);
    if (deferred->step != 0)
        fresh->capacity = (uint32_t)(added > deferred->step ? added : deferred->step);
    weir_store_relaxed(&fresh->cookie, OPEN); /* relaxed: released by the add */

    /* Into the queue before into the slot: see the invariant. Relaxed: whoever later finds `fresh` in the
     * slot and calls barrier acquires this with it. */
    uint64_t number = weir_fetch_add_relaxed(&cpu->installed, UINT64_C(1));
    weir_llist_add(&fresh->link, &cpu->incoming);
    if (!weir_percpu_exchange(&deferred->cpus[0].slot, fresh, &old))
        old = fresh; /* no slot to be had: it goes alone */
    if (old != &weir_percpu_none)
        seal(deferred, nr, old);
    else
        weir__grace_kick(deferred->grace);
    bool enough = deferred->step != 0 && step(deferred, nr, added);
    if (deferred->step == 0 || is_near(deferred->limit))
        enough = weir__deferred_reap(deferred, nr, REAP_PER_ADD) == REAP_PER_ADD;
    if (deferred->step != 0 && number % SPARE_MAGAZINES == 0 && has_spare(deferred, cpu))
        step(deferred, nr, 0); /* apart: one ends where a magazine does */
    if (!enough && number % deferred->yields == 0 && has_backlog(deferred, nr))
        sched_yield();
    return added;
}

/* Takes a CPU's magazine out of its slot; NULL if there is none. Waits for the slot's holder to let go of
 * it. */
static struct weir_magazine *detach(struct weir__deferred *deferred, unsigned nr)
{
    struct weir_magazine *magazine;
    while ((magazine = weir_percpu_detach(&deferred->cpus[0].slot, nr)) == NULL)
        sched_yield();
    return magazine != &weir_percpu_none ? magazine : NULL;
}

/* Only sweeps ask these two, one at a time. Has nothing been installed since the last time? */
static bool has_been_idle(struct weir__deferred_cpu *cpu)
{
    uint64_t before = cpu->swept;
    cpu->swept = weir_load_relaxed(&cpu->installed);
    return cpu->swept == before;
}

/* Is what the last sweep took from there still waiting? Then another one waits until it is: a reader that is
 * stuck must not make the half-empty magazines of idle CPUs more and more. */
static bool still_waits(const struct weir__deferred *deferred, const struct weir__deferred_cpu *cpu)
{
    return cpu->swept_cookie.value != OPEN && !weir_grace_poll(deferred->grace, cpu->swept_cookie);
}

/* Empties the slots of the CPUs from `from` to below `to`; `sweep`: only of those that have been idle. */
static void flush(struct weir__deferred *deferred, unsigned from, unsigned to, bool sweep)
{
    struct weir_magazine *taken[FLUSH_AT_ONCE];
    unsigned of[FLUSH_AT_ONCE];
    while (from < to) {
        unsigned n = 0;
        for (; from < to && n < FLUSH_AT_ONCE; from++) {
            struct weir__deferred_cpu *cpu = &deferred->cpus[from];
            if (sweep && (!has_been_idle(cpu) || still_waits(deferred, cpu)))
                continue;
            of[n] = from;
            taken[n] = detach(deferred, from);
            if (taken[n] != NULL)
                n++;
        }
        if (n != 0)
            weir_percpu_settle();
        while (n-- != 0) {
            weir_grace_cookie cookie = seal(deferred, weir_percpu_cpu(), taken[n]);
            if (sweep)
                deferred->cpus[of[n]].swept_cookie = cookie;
        }
    }
}

void weir__deferred_flush(struct weir__deferred *deferred)
{
    flush(deferred, 0, weir_percpu_nr_cpus(), false);
}

/* Have the first `target` magazines of a queue been reclaimed? If not, does what can be done about it now. */
static bool has_reclaimed(struct weir__deferred *deferred, unsigned nr, uint64_t target)
{
    weir__deferred_reap(deferred, nr, SIZE_MAX);
    /* Acquire: pairs with the release in reap. */
    if ((int64_t)(weir_load_acquire(&deferred->cpus[nr].reclaimed) - target) >= 0)
        return true;
    weir__deferred_flush(deferred);
    return false;
}

int weir__deferred_barrier(struct weir__deferred *deferred)
{
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++) {
        uint64_t target = weir_load_acquire(&deferred->cpus[nr].installed);
        for (;;) {
            if (!weir__enter())
                return -EOWNERDEAD;
            bool done = has_reclaimed(deferred, nr, target);
            weir__leave();
            if (done)
                break;
            /* Usually once, for all CPUs. More than once if somebody else is reaping, or is between
             * installing a magazine and sealing the one it replaced, or installed one of this queue on
             * another CPU. */
            int error = weir_grace_wait(deferred->grace, weir_grace_start(deferred->grace));
            if (error != 0)
                return error;
        }
    }
    return 0;
}

size_t weir__deferred_pending_cpu(const struct weir__deferred *deferred, unsigned nr)
{
    const struct weir__deferred_cpu *cpu = &deferred->cpus[nr];
    /* Reclaimed first: it never overtakes. Acquire: keeps the two reads in this order. */
    uint64_t reclaimed = weir_load_acquire(&cpu->reclaimed);
    return (size_t)(weir_load_acquire(&cpu->installed) - reclaimed);
}

size_t weir__deferred_pending(const struct weir__deferred *deferred)
{
    size_t pending = 0;
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++)
        pending += weir__deferred_pending_cpu(deferred, nr);
    return pending;
}

void weir__deferred_stats(struct weir__deferred *deferred, struct weir__deferred_stats *stats)
{
    *stats = (struct weir__deferred_stats){.magazines = weir__deferred_pending(deferred)};
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++)
        stats->reclaimed += weir_load_acquire(&deferred->cpus[nr].objects); /* first: it never overtakes */
    uint64_t sealed = 0;
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++) {
        sealed += weir_load_relaxed(&deferred->cpus[nr].sealed);
        stats->objects += weir_percpu_count(&deferred->cpus[0].slot, nr);
    }
    stats->objects += (size_t)(sealed - stats->reclaimed);
}

static struct weir__deferred *of_client(struct weir__grace_client *client)
{
    return (struct weir__deferred *)(void *)((char *)client - offsetof(struct weir__deferred, client));
}

static unsigned wish(struct weir__grace_client *client)
{
    struct weir__deferred *deferred = of_client(client);
    bool pending = weir__deferred_pending(deferred) != 0 ||
                   (deferred->also_pending != NULL && deferred->also_pending(deferred->arg));
    return pending ? deferred->interval : 0;
}

/* On the helper thread: CPUs where nothing has been installed since the last sweep are emptied and reaped;
 * the others look after themselves. */
static void sweep(struct weir__grace_client *client)
{
    struct weir__deferred *deferred = of_client(client);
    unsigned nr_cpus = weir_percpu_nr_cpus();

    for (unsigned nr = 0; nr < nr_cpus; nr++)
        if (weir_load_relaxed(&deferred->cpus[nr].installed) == deferred->cpus[nr].swept)
            weir__deferred_reap(deferred, nr, SIZE_MAX);
    flush(deferred, 0, nr_cpus, true);
    if (deferred->also_sweep != NULL)
        deferred->also_sweep(deferred->arg);
}

static void set_backlog(struct weir__deferred *deferred)
{
    size_t objects = BACKLOG_OBJECTS, capacity = deferred->capacity;
    if (deferred->object_size > BACKLOG_BYTES / BACKLOG_OBJECTS)
        objects = BACKLOG_BYTES / deferred->object_size;
    if (deferred->limit != NULL && deferred->limit->most_objects / 4 < objects)
        objects = deferred->limit->most_objects / 4;
    deferred->backlog = objects / capacity + 2;
    deferred->yields = capacity < YIELD_OBJECTS ? YIELD_OBJECTS / capacity : 1;
}

int weir__deferred_init(struct weir__deferred *deferred)
{
    int error = weir_percpu_init();
    if (error != 0)
        return error;
    deferred->cpus = weir_percpu_alloc();
    if (deferred->cpus == NULL)
        return -ENOMEM;
    weir_percpu_slots_init(&deferred->cpus[0].slot);
    deferred->capacity = WEIR_MAGAZINE_CAPACITY(deferred->blocks->block_bytes);
    set_backlog(deferred);
    if (deferred->interval == 0)
        deferred->interval = WEIR_SWEEP_MILLISECONDS;
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++)
        deferred->cpus[nr].swept_cookie.value = OPEN;
    deferred->client = (struct weir__grace_client){.wish = wish, .sweep = sweep};
    weir__grace_register(deferred->grace, &deferred->client);
    weir__guarded_register(&deferred->guarded, &deferred->cpus[0].slot);
    return 0;
}

void weir__deferred_destroy(struct weir__deferred *deferred)
{
    weir__guarded_unregister(&deferred->guarded);
    weir__grace_unregister(deferred->grace, &deferred->client);
    weir_percpu_free(deferred->cpus);
}
