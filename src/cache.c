/* SPDX-License-Identifier: MIT */
/* cache.c - the engine's slow paths: what happens once per magazine. See weir/cache.h. */
#define _GNU_SOURCE
#include "cache.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Swaps of loaded and spare between two attempts to level them. */
#define LEVELLING_PATIENCE 32

/* CPUs that are drained under one grace period or system call. */
#define DRAIN_AT_ONCE 64

/* What a magazine of weir_cache_capacity_for() pins at most, and the part of `high` that depots keep at
 * least. */
#define PINNED_BYTES ((size_t)512 * 1024)
#define LEAST_PART 4

static struct weir__cache_cpu *cpu_of(struct weir_cache *cache, unsigned nr)
{
    return &cache->cpus[nr];
}

/* Relaxed: statistics; mostly the CPU's own, so the line is at hand. */
static void count(struct weir_cache *cache, unsigned nr, enum weir__count what, uint64_t n)
{
    weir_fetch_add_relaxed(&cache->counts[nr].count[what], n);
}

/* --- the backend --- */

static size_t backend_alloc(struct weir_cache *cache, unsigned nr, size_t n, void *objects[])
{
    size_t got = cache->ops.alloc_bulk(cache->backend, n, objects);
    count(cache, nr, WEIR__ALLOC_CALLS, 1);
    count(cache, nr, WEIR__ALLOCATED, got);
    return got;
}

static void backend_free(struct weir_cache *cache, unsigned nr, size_t n, void *objects[])
{
    cache->ops.free_bulk(cache->backend, n, objects);
    count(cache, nr, WEIR__FREE_CALLS, 1);
    count(cache, nr, WEIR__FREED, n);
}

/* Empties a magazine into the backend; how many objects that were. */
static size_t unload(struct weir_cache *cache, unsigned nr, struct weir_magazine *magazine)
{
    size_t n = magazine->count;
    if (n != 0)
        backend_free(cache, nr, n, weir_magazine_objects(magazine));
    weir__blocks_put(&cache->blocks, nr, magazine);
    return n;
}

/* Of a chain; counted as `what` too. */
static size_t unload_chain(struct weir_cache *cache, unsigned nr, struct weir_stack_node *chain,
                           enum weir__count what)
{
    size_t objects = 0;
    while (chain != NULL) {
        struct weir_magazine *magazine = weir_magazine_of_node(chain);
        chain = weir_stack_next(chain);
        objects += unload(cache, nr, magazine);
    }
    count(cache, nr, what, objects);
    return objects;
}

/* --- the depot --- */

/* Keeps a magazine, whatever the limit: never calls the backend. Makes no system call: if the helper thread
 * must be told that there is something to decay, the next depot_keep() does. */
static void depot_keep_nolock(struct weir_cache *cache, unsigned nr, struct weir_magazine *magazine)
{
    if (magazine->count == 0) {
        weir__blocks_put(&cache->blocks, nr, magazine);
        return;
    }
    if (weir__depot_keep(&cache->depots, cpu_of(cache, nr)->domain, magazine) && cache->decays != 0)
        weir_store_relaxed(&cache->untold, 1u); /* relaxed: the kick orders what it is about */
}

static void depot_keep(struct weir_cache *cache, unsigned nr, struct weir_magazine *magazine)
{
    depot_keep_nolock(cache, nr, magazine);
    if (weir_load_relaxed(&cache->untold) == 0)
        return;
    weir_store_relaxed(&cache->untold, 0u);
    weir__grace_kick(cache->grace);
}

/* Keeps it if there is room. */
static void depot_put(struct weir_cache *cache, unsigned nr, struct weir_magazine *magazine)
{
    if (magazine->count != 0 && !weir__depot_has_room(&cache->depots, cpu_of(cache, nr)->domain)) {
        count(cache, nr, WEIR__SPILLS, 1);
        unload(cache, nr, magazine);
    } else {
        depot_keep(cache, nr, magazine);
    }
}

static void depot_reclaim(void *arg, struct weir_magazine *magazine)
{
    depot_put(arg, weir_percpu_cpu(), magazine);
}

/* --- exchanging magazines --- */

/* A magazine that has just left a slot, and is ours: what has the fast path done with it? Its cookie is the
 * number of objects it came with. */
static void account(struct weir_cache *cache, unsigned nr, const struct weir_magazine *magazine)
{
    uint64_t before = magazine->cookie, now = magazine->count;
    if (now < before)
        count(cache, nr, WEIR__FAST_ALLOCS, before - now);
    else if (now > before)
        count(cache, nr, WEIR__FAST_FREES, now - before);
}

/* Makes `magazine`, which is the caller's, this CPU's loaded one. What is in the way: the magazine that was
 * loaded becomes the spare, and the spare, or `magazine` if there is no slot to be had, is returned; NULL:
 * nothing. */
static struct weir_magazine *load(struct weir_cache *cache, unsigned nr, struct weir_magazine *magazine)
{
    struct weir_magazine *old;
    /* Relaxed: the exchange releases it; deferred.c, where magazines are stamped, reads cookies of its own
     * only. */
    weir_store_relaxed(&magazine->cookie, (uint64_t)magazine->count);
    if (!weir_percpu_exchange(cache->paths.loaded, magazine, &old))
        return magazine;
    if (old == &weir_percpu_none)
        return NULL;
    account(cache, nr, old);
    /* Acquire-release: ownership of both magazines changes hands, like below in take_spare(). */
    return weir_xchg_acq_rel(&cpu_of(cache, nr)->spare, old);
}

static struct weir_magazine *take_spare(struct weir__cache_cpu *cpu)
{
    if (weir_load_relaxed(&cpu->spare) == NULL) /* relaxed: a hint */
        return NULL;
    return weir_xchg_acq_rel(&cpu->spare, NULL);
}

enum { BY_REFILL = 1, BY_FLUSH = 2 };

/* Is the swap of loaded and spare that is about to happen the way back of the last one, and worth an attempt
 * to come to rest? Not right after the last attempt: that has not helped then. All relaxed: hints. */
static bool should_level(struct weir__cache_cpu *cpu, uint32_t now)
{
    uint32_t last = weir_load_relaxed(&cpu->swapped), patience = weir_load_relaxed(&cpu->patience);
    weir_store_relaxed(&cpu->swapped, now);
    if (patience != 0) {
        weir_store_relaxed(&cpu->patience, patience - 1);
        return false;
    }
    if (last + now != BY_REFILL + BY_FLUSH)
        return false;
    weir_store_relaxed(&cpu->patience, (uint32_t)LEVELLING_PATIENCE);
    return true;
}

/* Moves objects from the fuller of two magazines to the other one, until they have equally many. */
static void level(struct weir_magazine *a, struct weir_magazine *b)
{
    struct weir_magazine *from = a->count > b->count ? a : b, *to = from == a ? b : a;
    uint32_t n = (from->count - to->count) / 2;
    weir__magazine_set_count(from, from->count - n);
    memcpy(weir_magazine_objects(to) + to->count, weir_magazine_objects(from) + from->count,
           n * sizeof(void *));
    weir__magazine_set_count(to, to->count + n);
}

/*
 * As load(), with loaded and spare half full, or half empty, afterwards. A program whose swings around the
 * boundary of two magazines are larger than one object would swap them at each turn; now it stays away from
 * there, for swings of up to half a magazine. An empty magazine is loaded for the moment in which we have
 * both.
 */
static struct weir_magazine *load_levelled(struct weir_cache *cache, unsigned nr,
                                           struct weir_magazine *magazine)
{
    struct weir_magazine *empty = weir__blocks_get(&cache->blocks, nr, false), *old;
    if (empty == NULL)
        return load(cache, nr, magazine);
    weir_store_relaxed(&empty->cookie, UINT64_C(0));
    if (!weir_percpu_exchange(cache->paths.loaded, empty, &old)) {
        weir__blocks_put(&cache->blocks, nr, empty);
        return magazine;
    }
    if (old != &weir_percpu_none) {
        account(cache, nr, old);
        level(old, magazine);
    }
    empty =
        load(cache, nr, magazine); /* our empty one is the spare now, or, if there was one, that is here */
    if (empty != NULL)
        depot_put(cache, nr, empty);
    return old != &weir_percpu_none ? weir_xchg_acq_rel(&cpu_of(cache, nr)->spare, old) : NULL;
}

/* Loads a magazine that was the spare; what was loaded is the spare then. */
static void swap(struct weir_cache *cache, unsigned nr, struct weir_magazine *magazine, uint32_t by)
{
    bool level_them = should_level(cpu_of(cache, nr), by);
    magazine = level_them ? load_levelled(cache, nr, magazine) : load(cache, nr, magazine);
    if (magazine != NULL)
        depot_put(cache, nr, magazine);
}

/* Loads one from elsewhere. */
static void load_or_put(struct weir_cache *cache, unsigned nr, struct weir_magazine *magazine)
{
    weir_store_relaxed(&cpu_of(cache, nr)->swapped, 0u);
    magazine = load(cache, nr, magazine);
    if (magazine != NULL)
        depot_put(cache, nr, magazine);
}

/* A magazine with at least one object, and where it came from: the spare or one of a depot's. Never calls the
 * backend. */
static struct weir_magazine *take_stocked(struct weir_cache *cache, unsigned nr, enum weir__count *from)
{
    bool stolen;
    struct weir_magazine *magazine = take_spare(cpu_of(cache, nr));
    *from = WEIR__FROM_SPARE;
    if (magazine != NULL && magazine->count != 0)
        return magazine;
    if (magazine != NULL)
        weir__blocks_put(&cache->blocks, nr, magazine);
    magazine = weir__depot_get(&cache->depots, cpu_of(cache, nr)->domain, &stolen);
    *from = stolen ? WEIR__FROM_OTHER_DEPOT : WEIR__FROM_DEPOT;
    return magazine;
}

/* A magazine full of fresh objects from the backend. */
static struct weir_magazine *take_fresh(struct weir_cache *cache, unsigned nr, enum weir__count *from)
{
    struct weir_magazine *magazine = weir__blocks_get(&cache->blocks, nr, true);
    *from = WEIR__FROM_BACKEND;
    if (magazine == NULL)
        return NULL;
    size_t got = backend_alloc(cache, nr, magazine->capacity, weir_magazine_objects(magazine));
    weir__magazine_set_count(magazine, (uint32_t)got);
    if (got != 0)
        return magazine;
    weir__blocks_put(&cache->blocks, nr, magazine);
    return NULL;
}

/* A magazine with at least one object, from wherever: one in stock; one that has come back after a grace
 * period without anybody looking; a fresh one; and as a last resort, one that has come back on any CPU, as
 * often as that helps: others may be faster. */
static struct weir_magazine *take_any(struct weir_cache *cache, unsigned nr, enum weir__count *from)
{
    struct weir_magazine *magazine = take_stocked(cache, nr, from);
    if (magazine == NULL && weir__deferred_reap(&cache->deferred, nr, 1) != 0)
        magazine = take_stocked(cache, nr, from);
    if (magazine != NULL)
        return magazine;
    count(cache, nr, WEIR__DEPOT_MISSES, 1);
    weir__depot_missed(&cache->depots, cpu_of(cache, nr)->domain);
    magazine = take_fresh(cache, nr, from);
    while (magazine == NULL && weir__deferred_reap_any(&cache->deferred)) {
        magazine = take_stocked(cache, nr, from);
        if (magazine == NULL) /* what came back was over the depot's limit, and is the backend's */
            magazine = take_fresh(cache, nr, from);
    }
    return magazine;
}

/* What is left of it after an alloc. */
static void refill(struct weir_cache *cache, unsigned nr, struct weir_magazine *magazine,
                   enum weir__count from)
{
    if (from == WEIR__FROM_SPARE)
        swap(cache, nr, magazine, BY_REFILL);
    else
        load_or_put(cache, nr, magazine);
}

/* A magazine at least half empty, and whether it was the spare. */
static struct weir_magazine *take_roomy(struct weir_cache *cache, unsigned nr, bool *was_spare)
{
    struct weir_magazine *magazine = take_spare(cpu_of(cache, nr));
    *was_spare = magazine != NULL && magazine->count <= magazine->capacity / 2;
    if (*was_spare)
        return magazine;
    if (magazine != NULL)
        depot_put(cache, nr, magazine);
    return weir__blocks_get(&cache->blocks, nr, true);
}

/* After a free into it. */
static void flush(struct weir_cache *cache, unsigned nr, struct weir_magazine *magazine, bool was_spare)
{
    if (was_spare)
        swap(cache, nr, magazine, BY_FLUSH);
    else
        load_or_put(cache, nr, magazine);
}

/* --- alloc --- */

/* Without a magazine: either none can be had, or the backend has nothing. The first can be done without. */
static size_t alloc_directly(struct weir_cache *cache, unsigned nr, size_t n, void *objects[])
{
    size_t got = backend_alloc(cache, nr, n, objects);
    count(cache, nr, WEIR__SLOW_ALLOCS, got);
    return got;
}

static void *alloc_slow(struct weir_cache *cache)
{
    unsigned nr = weir_percpu_cpu();
    enum weir__count from;
    struct weir_magazine *magazine = take_any(cache, nr, &from);
    void *object;
    if (magazine == NULL)
        return alloc_directly(cache, nr, 1, &object) != 0 ? object : NULL;
    object = weir_magazine_get(magazine);
    count(cache, nr, from, 1);
    refill(cache, nr, magazine, from);
    return object;
}

void *weir__cache_alloc_slow(struct weir_cache *cache)
{
    void *object = weir__percpu_get_locked(cache->paths.loaded); /* the fast path in WEIR_PERCPU_LOCK */
    if (object != NULL || !weir__enter())
        return object;
    object = alloc_slow(cache);
    weir__leave();
    return object;
}

void *weir_cache_alloc_nolock(struct weir_cache *cache)
{
    weir__cache_check(&cache->paths, "weir_cache_alloc_nolock");
    void *object = weir_percpu_get(cache->paths.loaded);
    if (object != NULL || !weir__try_enter())
        return object;
    unsigned nr = weir_percpu_cpu();
    enum weir__count from;
    struct weir_magazine *magazine = take_stocked(cache, nr, &from);
    if (magazine != NULL) {
        object = weir_magazine_get(magazine);
        count(cache, nr, from, 1);
        magazine = load(cache, nr, magazine);
        if (magazine != NULL)
            depot_keep_nolock(cache, nr, magazine); /* whatever the limit: the backend must not be called */
    }
    weir__leave();
    return object;
}

/* Fills objects[0..] with n objects; how many. */
static size_t alloc_bulk_slow(struct weir_cache *cache, size_t n, void *objects[])
{
    size_t got = 0;
    while (got < n) {
        unsigned nr = weir_percpu_cpu();
        enum weir__count from;
        struct weir_magazine *magazine = take_any(cache, nr, &from);
        if (magazine == NULL)
            return got + alloc_directly(cache, nr, n - got, objects + got);
        size_t share = n - got < magazine->count ? n - got : magazine->count;
        weir__magazine_set_count(magazine, magazine->count - (uint32_t)share);
        memcpy(objects + got, weir_magazine_objects(magazine) + magazine->count, share * sizeof objects[0]);
        got += share;
        count(cache, nr, from, 1);
        if (share > 1)
            count(cache, nr, WEIR__SLOW_ALLOCS, share - 1);
        refill(cache, nr, magazine, from);
    }
    return got;
}

/* Apart, so that the usual way has few registers to save; likewise free_rest(). */
static __attribute__((noinline)) size_t alloc_rest(struct weir_cache *cache, size_t n, size_t got,
                                                   void *objects[])
{
    if (weir__enter()) {
        got += alloc_bulk_slow(cache, n - got, objects + got);
        weir__leave();
    }
    return got;
}

size_t weir_cache_alloc_bulk(struct weir_cache *cache, size_t n, void *objects[])
{
    weir__cache_check(&cache->paths, "weir_cache_alloc_bulk");
    size_t got = weir_percpu_get_n(cache->paths.loaded, n, objects);
    return weir_likely(got == n) ? got : alloc_rest(cache, n, got, objects);
}

/* --- free --- */

static void free_slow(struct weir_cache *cache, void *object)
{
    unsigned nr = weir_percpu_cpu();
    bool was_spare;
    struct weir_magazine *magazine = take_roomy(cache, nr, &was_spare);
    if (magazine == NULL) {
        count(cache, nr, WEIR__SLOW_FREES, 1);
        backend_free(cache, nr, 1, &object);
        return;
    }
    weir_magazine_put(magazine, object);
    count(cache, nr, WEIR__FLUSHES, 1);
    flush(cache, nr, magazine, was_spare);
}

void weir__cache_free_slow(struct weir_cache *cache, void *object)
{
    if (weir__percpu_put_locked(cache->paths.loaded, object) || !weir__enter())
        return;
    free_slow(cache, object);
    weir__leave();
}

static void free_bulk_slow(struct weir_cache *cache, size_t n, void *const objects[])
{
    while (n != 0) {
        unsigned nr = weir_percpu_cpu();
        bool was_spare;
        struct weir_magazine *magazine = take_roomy(cache, nr, &was_spare);
        if (magazine == NULL) {
            count(cache, nr, WEIR__SLOW_FREES, n);
            for (; n != 0; n--) {
                void *object = objects[n - 1]; /* free_bulk may change its array, the caller's is const */
                backend_free(cache, nr, 1, &object);
            }
            return;
        }
        size_t room = magazine->capacity - magazine->count, share = n < room ? n : room;
        memcpy(weir_magazine_objects(magazine) + magazine->count, objects + (n - share),
               share * sizeof objects[0]);
        weir__magazine_set_count(magazine, magazine->count + (uint32_t)share);
        n -= share;
        count(cache, nr, WEIR__FLUSHES, 1);
        if (share > 1)
            count(cache, nr, WEIR__SLOW_FREES, share - 1);
        flush(cache, nr, magazine, was_spare);
    }
}

static __attribute__((noinline)) void free_rest(struct weir_cache *cache, size_t n, void *const objects[])
{
    if (weir__enter()) {
        free_bulk_slow(cache, n, objects);
        weir__leave();
    }
}

void weir_cache_free_bulk(struct weir_cache *cache, size_t n, void *const objects[])
{
    weir__cache_check(&cache->paths, "weir_cache_free_bulk");
    size_t put = weir_percpu_put_n(cache->paths.loaded, n, objects);
    if (weir_unlikely(put != n))
        free_rest(cache, n - put, objects);
}

/* --- after a grace period --- */

void weir__cache_free_rcu_slow(struct weir_cache *cache, void *object)
{
    if (weir__percpu_put_locked(cache->paths.rcu, object) || !weir__enter())
        return;
    bool added = weir__deferred_add_slow(&cache->deferred, 1, &object) != 0;
    weir__leave();
    if (added)
        return;
    count(cache, weir_percpu_cpu(), WEIR__RCU_WAITS, 1);
    if (weir_grace_wait(cache->grace, weir_grace_start(cache->grace)) == 0)
        weir_cache_free(cache, object);
}

int weir_cache_rcu_barrier(struct weir_cache *cache)
{
    return weir__deferred_barrier(&cache->deferred);
}

void weir__cache_check_reader(const struct weir_grace *grace, const char *function)
{
    weir__grace_check_reader(grace, function);
}

/* --- giving back --- */

/* The spare magazines of CPUs that exchanged none since the last time go to the depots, and age there. */
static void collect_idle_spares(struct weir_cache *cache)
{
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++) {
        struct weir__cache_cpu *cpu = cpu_of(cache, nr);
        const uint64_t *counts = cache->counts[nr].count;
        uint64_t exchanges = 0;
        for (size_t i = WEIR__FROM_SPARE; i <= WEIR__FLUSHES; i++)
            exchanges += weir_load_relaxed(&counts[i]);
        /* Relaxed: two that decay at the same time may both find it idle, or neither; one of them gets the
         * spare. */
        bool idle = weir_load_relaxed(&cpu->exchanges) == exchanges;
        weir_store_relaxed(&cpu->exchanges, exchanges);
        struct weir_magazine *magazine = idle ? take_spare(cpu) : NULL;
        if (magazine != NULL)
            depot_keep(cache, nr, magazine);
    }
}

static size_t decay(struct weir_cache *cache)
{
    unsigned nr = weir_percpu_cpu();
    size_t objects = 0;
    for (unsigned domain = 0; domain < cache->depots.domains; domain++)
        objects += unload_chain(cache, nr, weir__depot_decay(&cache->depots, domain, cache->decay_percent),
                                WEIR__DECAYED);
    collect_idle_spares(cache);
    return objects;
}

size_t weir_cache_decay(struct weir_cache *cache)
{
    if (!weir__enter())
        return 0;
    size_t objects = decay(cache);
    weir__leave();
    return objects;
}

static struct weir_cache *of_client(struct weir__grace_client *client)
{
    return (struct weir_cache *)(void *)((char *)client - offsetof(struct weir_cache, client));
}

/* On the helper thread. */
static unsigned wish(struct weir__grace_client *client)
{
    struct weir_cache *cache = of_client(client);
    return weir__depots_watched(&cache->depots) ? cache->decays : 0;
}

/* Interest is lost here and nowhere else: a depot that is empty now and then would have somebody wake the
 * helper each time that there is something in it again. */
static void sweep(struct weir__grace_client *client)
{
    struct weir_cache *cache = of_client(client);
    decay(cache);
    weir__depots_watch(&cache->depots);
}

/* 0 if `how` can be done, or the errno to set. */
static int refuse_drain(const struct weir_cache *cache, enum weir_drain how)
{
    bool rseq = weir_percpu_mode() == WEIR_PERCPU_RSEQ;
    switch (how) {
    case WEIR_DRAIN_QUIET:
        return cache->paths.readers != NULL ? 0 : ENOTSUP;
    case WEIR_DRAIN_EXPEDITED:
        return rseq ? 0 : ENOTSUP;
    case WEIR_DRAIN_LOCK:
        return rseq ? ENOTSUP : 0;
    default:
        return EINVAL;
    }
}

/* Takes the magazine out of a CPU's slot; NULL: it had none. */
static struct weir_magazine *detach(struct weir_cache *cache, unsigned nr)
{
    struct weir_magazine *magazine;
    while ((magazine = weir_percpu_detach(cache->paths.loaded, nr)) == NULL)
        sched_yield(); /* WEIR_PERCPU_LOCK: the slot's holder is about to let go */
    return magazine != &weir_percpu_none ? magazine : NULL;
}

static size_t unload_spare(struct weir_cache *cache, unsigned nr)
{
    struct weir_magazine *spare = take_spare(cpu_of(cache, nr));
    size_t objects = spare != NULL ? unload(cache, nr, spare) : 0;
    count(cache, nr, WEIR__DRAINED, objects);
    return objects;
}

static size_t unload_detached(struct weir_cache *cache, unsigned nr, struct weir_magazine *magazine)
{
    account(cache, nr, magazine);
    size_t objects = unload(cache, nr, magazine);
    count(cache, nr, WEIR__DRAINED, objects);
    return objects;
}

/* With a system call per DRAIN_AT_ONCE CPUs; none where slots have locks. */
static size_t drain_at_once(struct weir_cache *cache, unsigned from, unsigned to)
{
    struct weir_magazine *taken[DRAIN_AT_ONCE];
    size_t objects = 0;
    bool any = false;

    for (unsigned nr = from; nr < to; nr++)
        any |= (taken[nr - from] = detach(cache, nr)) != NULL;
    if (any && to - from == 1)
        weir_percpu_settle_cpu(from);
    else if (any)
        weir_percpu_settle();
    for (unsigned nr = from; nr < to; nr++) {
        objects += unload_spare(cache, nr);
        if (taken[nr - from] != NULL)
            objects += unload_detached(cache, nr, taken[nr - from]);
    }
    return objects;
}

/* Those in limbo whose grace period is over, or all of them. */
static size_t empty_limbo(struct weir_cache *cache, bool all)
{
    unsigned nr = weir_percpu_cpu();
    size_t objects = 0;
    struct weir_llist_node *first = weir_llist_del_all(&cache->limbo);
    weir_llist_for_each_entry_safe(magazine, next, first, struct weir_magazine, link) {
        uint64_t cookie = magazine->cookie;
        if (!all && !weir_grace_poll(cache->grace, (weir_grace_cookie){cookie})) {
            weir_llist_add(&magazine->link, &cache->limbo); /* another drain's */
            continue;
        }
        magazine->cookie = magazine->count; /* what it came with is forgotten: nothing to account for */
        objects += unload_detached(cache, nr, magazine);
    }
    return objects;
}

/*
 * With one grace period for all. While it waits, what it has taken lies in limbo, and not in its hands, so
 * that a fork() does not wait for it, and loses nothing. Several drains share limbo: who comes first empties
 * it for the others.
 */
static int drain_quietly(struct weir_cache *cache, unsigned from, unsigned to, size_t *objects)
{
    int error = 0;
    if (!weir__enter())
        return EOWNERDEAD;
    for (unsigned nr = from; nr < to; nr++) {
        struct weir_magazine *magazine = detach(cache, nr);
        *objects += unload_spare(cache, nr);
        if (magazine == NULL)
            continue;
        magazine->cookie = weir_grace_start(cache->grace).value;
        weir_llist_add(&magazine->link, &cache->limbo);
    }
    weir__leave();
    if (!weir_llist_empty(&cache->limbo))
        error = -weir_grace_wait(cache->grace, weir_grace_start(cache->grace));
    if (!weir__enter())
        return EOWNERDEAD;
    *objects += empty_limbo(cache, false);
    weir__leave();
    return error;
}

/* 0, or an errno. */
static int drain(struct weir_cache *cache, unsigned from, unsigned to, enum weir_drain how, size_t *objects)
{
    int error = refuse_drain(cache, how);
    if (error != 0)
        return error;
    /* With the slots' locks there is nobody to be waited for. */
    if (how == WEIR_DRAIN_QUIET && weir_percpu_mode() == WEIR_PERCPU_RSEQ)
        return drain_quietly(cache, from, to, objects);
    while (from < to) {
        unsigned n = to - from < DRAIN_AT_ONCE ? to - from : DRAIN_AT_ONCE;
        if (!weir__enter())
            return EOWNERDEAD;
        *objects += drain_at_once(cache, from, from + n);
        weir__leave();
        from += n;
    }
    return 0;
}

size_t weir_cache_drain_cpu(struct weir_cache *cache, unsigned cpu, enum weir_drain how)
{
    size_t objects = 0;
    errno = cpu < weir_percpu_nr_cpus() ? drain(cache, cpu, cpu + 1, how, &objects) : EINVAL;
    return objects;
}

static size_t drain_depots(struct weir_cache *cache)
{
    size_t objects = 0;
    for (unsigned domain = 0; domain < cache->depots.domains; domain++)
        objects +=
            unload_chain(cache, weir_percpu_cpu(), weir__depot_drain(&cache->depots, domain), WEIR__DRAINED);
    return objects;
}

size_t weir_cache_drain_all(struct weir_cache *cache, enum weir_drain how)
{
    size_t objects = 0;
    int error = drain(cache, 0, weir_percpu_nr_cpus(), how, &objects);
    if (error == 0 && weir__enter()) {
        objects += drain_depots(cache);
        weir__leave();
    }
    errno = error;
    return objects;
}

/* The way to drain that asks for no promise. */
static enum weir_drain usual_drain(void)
{
    return weir_percpu_mode() == WEIR_PERCPU_RSEQ ? WEIR_DRAIN_EXPEDITED : WEIR_DRAIN_LOCK;
}

size_t weir_cache_shrink(struct weir_cache *cache)
{
    return weir_cache_drain_all(cache, usual_drain());
}

/* --- the shrinker --- */

static size_t idle_bytes(void *arg)
{
    struct weir_cache *cache = arg;
    struct weir_cache_stats stats;
    weir_cache_stats(cache, &stats);
    return stats.cached * cache->object_size;
}

/* One magazine of a depot; how many objects that were. */
static size_t shrink_depot(struct weir_cache *cache, unsigned domain)
{
    if (!weir__enter())
        return 0;
    size_t objects =
        unload_chain(cache, weir_percpu_cpu(), weir__depot_shrink(&cache->depots, domain), WEIR__DRAINED);
    weir__leave();
    return objects;
}

/* One magazine of each in turn, until it is enough or there are no more. One at a time passes the gate, so
 * that fork() does not wait for all of them. */
static size_t shrink_depots(struct weir_cache *cache, size_t want)
{
    size_t objects = 0;
    unsigned domains = cache->depots.domains;
    for (unsigned domain = 0, empty = 0; objects < want && empty < domains; domain = (domain + 1) % domains) {
        size_t n = shrink_depot(cache, domain);
        empty = n != 0 ? 0 : empty + 1;
        objects += n;
    }
    return objects;
}

static size_t shrink_spare(struct weir_cache *cache, unsigned nr)
{
    if (!weir__enter())
        return 0;
    size_t objects = unload_spare(cache, nr);
    weir__leave();
    return objects;
}

/* Of each CPU, until it is enough: first the spare magazines, then the loaded ones, for each of which its CPU
 * is interrupted. Another CPU is the first each time. */
static size_t shrink_cpus(struct weir_cache *cache, size_t want)
{
    size_t objects = 0;
    unsigned cpus = weir_percpu_nr_cpus();
    uint32_t first = weir_fetch_add_relaxed(&cache->shrinks, 1u); /* relaxed: only to be another one */
    for (unsigned i = 0; i < cpus && objects < want; i++)
        objects += shrink_spare(cache, (first + i) % cpus);
    for (unsigned i = 0; i < cpus && objects < want; i++) {
        unsigned nr = (first + i) % cpus;
        if (weir_percpu_count(cache->paths.loaded, nr) != 0)
            drain(cache, nr, nr + 1, usual_drain(), &objects);
    }
    return objects;
}

/* The depots first: what is there interrupts nobody. */
static size_t give_back(void *arg, size_t bytes)
{
    struct weir_cache *cache = arg;
    size_t want = bytes / cache->object_size + (bytes % cache->object_size != 0);
    size_t objects = shrink_depots(cache, want);
    if (objects < want)
        objects += shrink_cpus(cache, want - objects);
    return objects * cache->object_size;
}

/* --- making and unmaking --- */

size_t weir_cache_capacity_for(size_t object_size)
{
    static const size_t capacities[] = {252, 124, 60, 28, 12};
    if (object_size == 0)
        return WEIR_CACHE_CAPACITY_DEFAULT;
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++)
        if (object_size <= PINNED_BYTES / capacities[i])
            return capacities[i];
    return 4;
}

const char *weir_cache_config_error(const struct weir_cache_config *config)
{
    if (config == NULL)
        return "config: is NULL, but ops has no default";
    if (config->ops == NULL || config->ops->alloc_bulk == NULL || config->ops->free_bulk == NULL)
        return "ops: alloc_bulk and free_bulk must both be there";
    if (config->capacity > WEIR_CACHE_CAPACITY_MAX)
        return "capacity: at most 65536 pointers";
    if (config->high > SIZE_MAX / 2)
        return "high: at most half of SIZE_MAX objects";
    if (config->decay_percent > 100)
        return "decay_percent: 1 to 100, or 0 for the default";
    return NULL;
}

/* Magazines that the depots keep at most. */
static size_t most_magazines(const struct weir_cache_config *config, size_t capacity)
{
    if (config->high != 0)
        return (config->high + capacity - 1) / capacity;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return WEIR_CACHE_MAGAZINES_DEFAULT * (online > 0 ? (size_t)online : 1);
}

/* The parts that can fail, in order; what was made before a failure is unmade by destroy_parts(). */
static int create_parts(struct weir_cache *cache, const struct weir_cache_config *config, size_t capacity,
                        const struct weir__cache_surroundings *around)
{
    int error = weir_percpu_init();
    if (error != 0)
        return error;
    error = weir__blocks_init(&cache->blocks, capacity, around->chunks, around->topology);
    if (error != 0)
        return error;
    size_t most = most_magazines(config, capacity);
    error = weir__depots_init(&cache->depots, cache->blocks.topology->domains, most / LEAST_PART, most);
    if (error != 0)
        return error;
    cache->cpus = weir_percpu_alloc();
    cache->counts = aligned_alloc(WEIR_LINE_PAIR, weir_percpu_nr_cpus() * sizeof cache->counts[0]);
    if (cache->cpus == NULL || cache->counts == NULL)
        return -ENOMEM;
    memset(cache->counts, 0, weir_percpu_nr_cpus() * sizeof cache->counts[0]);
    weir_percpu_slots_init(&cache->cpus[0].loaded);
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++)
        cache->cpus[nr].domain = cache->blocks.topology->domain_of[nr];
    cache->grace = config->grace;
    if (cache->grace != NULL)
        weir__grace_get(cache->grace);
    else if ((error = weir_grace_qsbr(&cache->grace)) != 0)
        return error;
    cache->deferred = (struct weir__deferred){.grace = cache->grace,
                                              .blocks = &cache->blocks,
                                              .reclaim = depot_reclaim,
                                              .arg = cache,
                                              .object_size = config->object_size};
    return weir__deferred_init(&cache->deferred);
}

static void destroy_parts(struct weir_cache *cache)
{
    weir_percpu_free(cache->cpus);
    free(cache->counts);
    weir__depots_destroy(&cache->depots);
    weir__blocks_destroy(&cache->blocks);
    weir_grace_put(cache->grace);
    free(cache);
}

/* What is complete, and used by nobody. */
static void unmake(struct weir_cache *cache)
{
    size_t objects = 0;
    weir__guarded_unregister(&cache->guarded);
    if (cache->decays != 0)
        weir__grace_unregister(cache->grace, &cache->client);
    weir__deferred_destroy(&cache->deferred);
    drain(cache, 0, weir_percpu_nr_cpus(), usual_drain(), &objects);
    drain_depots(cache);
    empty_limbo(cache, true);
    destroy_parts(cache);
}

int weir__cache_create(struct weir_cache **result, const struct weir_cache_config *config,
                       const struct weir__cache_surroundings *around)
{
    *result = NULL;
    if (weir_cache_config_error(config) != NULL)
        return -EINVAL;
    struct weir_cache *cache = aligned_alloc(WEIR_LINE_PAIR, sizeof *cache);
    if (cache == NULL)
        return -ENOMEM;
    *cache = (struct weir_cache){.ops = *config->ops,
                                 .backend = config->backend,
                                 .name = config->name != NULL ? config->name : "cache",
                                 .decay_percent = config->decay_percent != 0 ? config->decay_percent : 25};
    if (config->decay_milliseconds != WEIR_CACHE_DECAY_NEVER)
        cache->decays =
            config->decay_milliseconds != 0 ? config->decay_milliseconds : WEIR_CACHE_DECAY_DEFAULT;
    cache->object_size = config->no_shrinker ? 0 : config->object_size;
    cache->shrinker = (struct weir_shrinker){idle_bytes, give_back, cache, cache->name, {0}};
    cache->capacity = config->capacity != 0 ? config->capacity : weir_cache_capacity_for(config->object_size);
    int error = create_parts(cache, config, cache->capacity, around);
    if (error != 0) {
        destroy_parts(cache);
        return error;
    }
    cache->paths = (struct weir__cache_paths){.loaded = &cache->cpus[0].loaded,
                                              .rcu = &cache->deferred.cpus[0].slot,
                                              .readers = config->registered_users ? cache->grace : NULL};
    if (cache->decays != 0) {
        cache->client = (struct weir__grace_client){.wish = wish, .sweep = sweep};
        weir__grace_register(cache->grace, &cache->client);
    }
    weir__guarded_register(&cache->guarded, cache->paths.loaded);
    error = cache->object_size != 0 ? weir_shrinker_register(&cache->shrinker) : 0;
    if (error != 0) { /* -EOWNERDEAD: it could not be used either */
        unmake(cache);
        return error;
    }
    *result = cache;
    return 0;
}

int weir_cache_create(struct weir_cache **cache, const struct weir_cache_config *config)
{
    static const struct weir__cache_surroundings machine = {NULL, NULL};
    return weir__cache_create(cache, config, &machine);
}

bool weir_cache_usable(const struct weir_cache *cache)
{
    (void)cache;
    return weir__usable();
}

int weir_cache_destroy(struct weir_cache *cache)
{
    if (cache == NULL)
        return 0;
    int error = cache->object_size != 0 ? weir_shrinker_unregister(&cache->shrinker) : 0;
    if (error == 0 || error == -ENOENT) /* it was taken off when destroy failed before */
        error = weir__deferred_barrier(&cache->deferred);
    if (error == 0)
        unmake(cache);
    return error;
}
