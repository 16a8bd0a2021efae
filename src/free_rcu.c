/* SPDX-License-Identifier: MIT */
/* free_rcu.c - deferred free of arbitrary pointers: see weir/free_rcu.h; the magazines are deferred.c's. */
#define _GNU_SOURCE
#include "free_rcu.h"

#include <errno.h>
#include <stdlib.h>

#include "deferred.h"

/*
 * Objects for which there was no magazine wait here, linked by their weir_rcu_head: first in `incoming`,
 * then, all of them together, as the generation `waiting`, stamped with a cookie. Like a queue in deferred.h:
 * one generation after the other, and the flag is tried, never waited for.
 */
struct chain {
    struct weir_llist_head incoming;
    uint64_t added;
    uint64_t freed;
    uint32_t reaping; /* the flag; it guards the rest */
    struct weir_llist_node *waiting;
    weir_grace_cookie cookie;
};

struct weir_reclaimer {
    struct weir__reclaimer_paths paths; /* first: the inline functions read it */
    struct weir_reclaimer_config config;
    struct weir_grace *grace;
    size_t pending_limit;               /* magazines per CPU */
    uint64_t waits, throttled, refused; /* statistics */
    struct weir__blocks blocks;
    struct chain chain;
    struct weir__deferred deferred;
};

static void free_array(struct weir_reclaimer *reclaimer, size_t n, void *objects[])
{
    if (reclaimer->config.free_bulk != NULL) {
        reclaimer->config.free_bulk(reclaimer->config.arg, n, objects);
        return;
    }
    for (size_t i = 0; i < n; i++)
        reclaimer->config.free_one(objects[i]);
}

static void reclaim(void *arg, struct weir_magazine *magazine)
{
    struct weir_reclaimer *reclaimer = arg;
    free_array(reclaimer, magazine->count, weir_magazine_objects(magazine));
    weir__blocks_put(&reclaimer->blocks, weir_percpu_cpu(), magazine);
}

/* --- the chain --- */

static void chain_add(struct weir_reclaimer *reclaimer, void *object, struct weir_rcu_head *head)
{
    head->object = object;
    /* Before the add, so that barrier, which reads it, never misses one that is on the list. Relaxed: the add
     * releases it. */
    weir_fetch_add_relaxed(&reclaimer->chain.added, UINT64_C(1));
    weir_llist_add(&head->link, &reclaimer->chain.incoming);
    weir__grace_kick(reclaimer->grace);
}

/* Frees the generation that waits if its time has come, and lets the next one begin to wait. */
static void chain_reap(struct weir_reclaimer *reclaimer)
{
    struct chain *chain = &reclaimer->chain;
    uint64_t freed = 0;

    /* Acquire: pairs with the release below. */
    if (weir_xchg_acquire(&chain->reaping, 1u) != 0)
        return;
    if (chain->waiting != NULL && weir_grace_poll(reclaimer->grace, chain->cookie)) {
        weir_llist_for_each_entry_safe(head, next, chain->waiting, struct weir_rcu_head, link) {
            void *object = head->object;
            free_array(reclaimer, 1, &object);
            freed++;
        }
        chain->waiting = NULL;
    }
    if (chain->waiting == NULL) {
        chain->waiting = weir_llist_del_all(&chain->incoming);
        if (chain->waiting != NULL)
            chain->cookie = weir_grace_start(reclaimer->grace);
    }
    /* Release: pairs with the acquire in barrier. */
    weir_store_release(&chain->freed, chain->freed + freed);
    weir_store_release(&chain->reaping, 0u);
}

static uint64_t chain_pending(const struct weir_reclaimer *reclaimer)
{
    uint64_t freed = weir_load_acquire(&reclaimer->chain.freed); /* first: it never overtakes */
    return weir_load_acquire(&reclaimer->chain.added) - freed;
}

/* 0, or as weir_grace_wait(). */
static int chain_barrier(struct weir_reclaimer *reclaimer)
{
    uint64_t target = weir_load_acquire(&reclaimer->chain.added);
    for (;;) {
        if (!weir__enter())
            return -EOWNERDEAD;
        chain_reap(reclaimer); /* frees, or lets it begin to wait */
        weir__leave();
        /* Acquire: pairs with the release in chain_reap(). */
        if ((int64_t)(weir_load_acquire(&reclaimer->chain.freed) - target) >= 0)
            return 0;
        int error = weir_grace_wait(reclaimer->grace, weir_grace_start(reclaimer->grace));
        if (error != 0)
            return error;
    }
}

/* Both on the helper thread. */
static void sweep_chain(void *arg)
{
    chain_reap(arg);
}

static bool chain_is_pending(void *arg)
{
    return chain_pending(arg) != 0;
}

/* --- handing over --- */

/* From here on, whatever is done between weir__enter() and weir__leave() is not done while another thread
 * forks. */

void weir__free_rcu_slow(struct weir_reclaimer *reclaimer, void *object, struct weir_rcu_head *head)
{
    if (!weir__enter())
        return;
    if (!weir__deferred_add_slow(&reclaimer->deferred, object))
        chain_add(reclaimer, object, head);
    weir__leave();
}

static bool over_limit(struct weir_reclaimer *reclaimer, unsigned cpu)
{
    return weir__deferred_pending_cpu(&reclaimer->deferred, cpu) >= reclaimer->pending_limit;
}

/* Waits for a grace period; 0, or as weir_grace_wait(). */
static int wait_for_readers(struct weir_reclaimer *reclaimer)
{
    return weir_grace_wait(reclaimer->grace, weir_grace_start(reclaimer->grace));
}

int weir__free_rcu_mightsleep_slow(struct weir_reclaimer *reclaimer, void *object)
{
    if (weir__percpu_put_locked(reclaimer->paths.slots, object)) /* the fast path in WEIR_PERCPU_LOCK */
        return 0;
    unsigned cpu = weir_percpu_cpu();
    int error = 0;
    if (over_limit(reclaimer, cpu)) {
        weir_fetch_add_relaxed(&reclaimer->throttled, UINT64_C(1));
        error = wait_for_readers(reclaimer);
    }
    if (!weir__enter())
        return -EOWNERDEAD;
    if (over_limit(reclaimer, cpu) && error == 0)
        weir__deferred_reap(&reclaimer->deferred, cpu, SIZE_MAX);
    bool added = weir__deferred_add_slow(&reclaimer->deferred, object);
    weir__leave();
    if (added)
        return 0;
    weir_fetch_add_relaxed(&reclaimer->waits, UINT64_C(1));
    error = wait_for_readers(reclaimer);
    if (error == 0)
        free_array(reclaimer, 1, &object);
    return error;
}

bool weir__free_rcu_try_slow(struct weir_reclaimer *reclaimer, void *object)
{
    if (weir__percpu_put_locked(reclaimer->paths.slots, object))
        return true;
    if (!weir__enter())
        return false;
    unsigned cpu = weir_percpu_cpu();
    if (over_limit(reclaimer, cpu))
        weir__deferred_reap(&reclaimer->deferred, cpu, SIZE_MAX);
    bool added = !over_limit(reclaimer, cpu) && weir__deferred_add_slow(&reclaimer->deferred, object);
    weir__leave();
    if (!added)
        weir_fetch_add_relaxed(&reclaimer->refused, UINT64_C(1));
    return added;
}

int weir_free_rcu_barrier(struct weir_reclaimer *reclaimer)
{
    int error = chain_barrier(reclaimer);
    return error != 0 ? error : weir__deferred_barrier(&reclaimer->deferred);
}

size_t weir_reclaimer_poll(struct weir_reclaimer *reclaimer)
{
    if (!weir__enter())
        return 0;
    if (chain_pending(reclaimer) != 0)
        chain_reap(reclaimer);
    size_t reaped = weir__deferred_reap_all(&reclaimer->deferred);
    weir__leave();
    return reaped;
}

void weir_reclaimer_stats(struct weir_reclaimer *reclaimer, struct weir_reclaimer_stats *stats)
{
    struct weir__deferred_stats deferred;
    weir__deferred_stats(&reclaimer->deferred, &deferred);
    *stats = (struct weir_reclaimer_stats){.waiting = deferred.magazines, .freed = deferred.reclaimed};
    stats->chained = (size_t)chain_pending(reclaimer);
    stats->chain_total = weir_load_relaxed(&reclaimer->chain.added);
    stats->freed += weir_load_relaxed(&reclaimer->chain.freed);
    stats->waits = weir_load_relaxed(&reclaimer->waits);
    stats->freed += stats->waits; /* one object each */
    stats->throttled = weir_load_relaxed(&reclaimer->throttled);
    stats->refused = weir_load_relaxed(&reclaimer->refused);
    stats->periods = weir_grace_periods(reclaimer->grace);
    weir__blocks_stats(&reclaimer->blocks, &stats->blocks);
}

/* --- making and unmaking --- */

static void destroy_parts(struct weir_reclaimer *reclaimer)
{
    weir_grace_put(reclaimer->grace);
    weir__blocks_destroy(&reclaimer->blocks);
    free(reclaimer);
}

int weir__reclaimer_create(struct weir_reclaimer **result, const struct weir_reclaimer_config *given,
                           const struct weir__chunk_source *chunks)
{
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    int error;

    *result = NULL;
    if (given != NULL)
        config = *given;
    if (config.capacity > WEIR_RECLAIMER_CAPACITY_MAX)
        return -EINVAL;
    if (config.free_one == NULL)
        config.free_one = free;
    if (config.capacity == 0)
        config.capacity = WEIR_RECLAIMER_CAPACITY_DEFAULT;
    if (config.max_pending == 0)
        config.max_pending = WEIR_RECLAIMER_PENDING_DEFAULT * config.capacity;

    struct weir_reclaimer *reclaimer = aligned_alloc(WEIR_LINE_PAIR, sizeof *reclaimer);
    if (reclaimer == NULL)
        return -ENOMEM;
    *reclaimer = (struct weir_reclaimer){.config = config};
    /* The magazine being filled is pending too: at least two, or nothing would ever fit. */
    reclaimer->pending_limit = (config.max_pending + config.capacity - 1) / config.capacity;
    if (reclaimer->pending_limit < 2)
        reclaimer->pending_limit = 2;
    if ((error = weir__blocks_init(&reclaimer->blocks, config.capacity, chunks, NULL)) != 0)
        goto fail;
    if (config.grace != NULL)
        weir__grace_get(config.grace);
    else if ((error = weir_grace_qsbr(&config.grace)) != 0)
        goto fail;
    reclaimer->grace = config.grace;
    reclaimer->deferred = (struct weir__deferred){.grace = config.grace,
                                                  .blocks = &reclaimer->blocks,
                                                  .reclaim = reclaim,
                                                  .arg = reclaimer,
                                                  .also_sweep = sweep_chain,
                                                  .also_pending = chain_is_pending};
    error = weir__deferred_init(&reclaimer->deferred);
    if (error != 0)
        goto fail;
    reclaimer->paths.slots = &reclaimer->deferred.cpus[0].slot;
    *result = reclaimer;
    return 0;
fail:
    destroy_parts(reclaimer);
    return error;
}

int weir_reclaimer_create(struct weir_reclaimer **reclaimer, const struct weir_reclaimer_config *config)
{
    return weir__reclaimer_create(reclaimer, config, NULL);
}

int weir_reclaimer_destroy(struct weir_reclaimer *reclaimer)
{
    if (reclaimer == NULL)
        return 0;
    int error = weir_free_rcu_barrier(reclaimer);
    if (error != 0)
        return error;
    weir__deferred_destroy(&reclaimer->deferred);
    destroy_parts(reclaimer);
    return 0;
}
