/* SPDX-License-Identifier: MIT */
/* free_rcu.c - deferred free of arbitrary pointers: see weir/free_rcu.h; the magazines are deferred.c's. */
#define _GNU_SOURCE
#include "free_rcu.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

#include "deferred.h"
#include "futex.h"
#include "weir/shrinker.h"

/*
 * Objects for which there was no magazine wait here, linked by their weir_rcu_head: first in `incoming`,
 * then, all of them together, as the generation `waiting`, stamped with a cookie. Like a queue in deferred.h:
 * one generation after the other, and the flag is tried, never waited for.
 */
struct chain {
    struct weir_llist_head incoming;
    uint64_t added;
    uint64_t freed;   /* in whole generations, so that barrier may compare it with `added` */
    uint32_t reaping; /* the flag; it guards the rest */
    struct weir_llist_node *waiting;
    uint64_t done; /* objects of that generation that were freed already */
    weir_grace_cookie cookie;
};

struct weir_reclaimer {
    struct weir_shrinker shrinker;
    struct weir__reclaimer_paths paths WEIR_ALIGNED(WEIR__PATHS_OFFSET); /* the inline functions read it */
    struct weir_reclaimer_config config;
    struct weir_grace *grace;
    uint64_t waits, throttled, refused; /* statistics */
    struct weir__blocks blocks;
    struct chain chain;
    struct weir__deferred deferred;
    struct weir__deferred_limit limit;
};
_Static_assert(offsetof(struct weir_reclaimer, paths) == WEIR__PATHS_OFFSET, "");

/* Objects that are freed together, from a chain, if no fewer make a magazine; of a chain, at most as many by
 * whoever hands one over. */
#define CHAIN_BATCH 64

static size_t together(const struct weir_reclaimer *reclaimer, size_t n)
{
    size_t most = reclaimer->config.capacity < CHAIN_BATCH ? reclaimer->config.capacity : CHAIN_BATCH;
    return n < most ? n : most;
}

/* Checked builds: readers that still look at what free() is given find nonsense. Other free functions may
 * have to look at it themselves. */
static void poison(const struct weir_reclaimer *reclaimer, size_t n, void *const objects[])
{
#ifdef WEIR_CHECKED
    for (size_t i = 0; reclaimer->config.free_one == free && i < n; i++)
        memset(objects[i], WEIR_RECLAIMER_POISON, malloc_usable_size(objects[i]));
#else
    (void)reclaimer, (void)n, (void)objects;
#endif
}

static void free_array(void *arg, size_t n, void *objects[])
{
    struct weir_reclaimer *reclaimer = arg;
    if (n == 0)
        return;
    if (reclaimer->config.free_bulk != NULL) {
        reclaimer->config.free_bulk(reclaimer->config.arg, n, objects);
        return;
    }
    poison(reclaimer, n, objects);
    for (size_t i = 0; i < n; i++)
        reclaimer->config.free_one(objects[i]);
}

/* --- the chain --- */

static void chain_reap(struct weir_reclaimer *reclaimer, size_t budget);

static void chain_add(struct weir_reclaimer *reclaimer, void *object, struct weir_rcu_head *head)
{
    if (weir__handed_over(reclaimer->deferred.handed, 1, &object) == 0)
        return;
    weir__deferred_charge(&reclaimer->deferred, 1, &object);
    head->object = object;
    /* Before the add, so that barrier, which reads it, never misses one that is on the list. Relaxed: the add
     * releases it. */
    uint64_t before = weir_fetch_add_relaxed(&reclaimer->chain.added, UINT64_C(1));
    if (weir_llist_add(&head->link, &reclaimer->chain.incoming))
        weir__grace_kick(reclaimer->grace);
    if (before % CHAIN_BATCH == CHAIN_BATCH - 1) {
        sched_yield(); /* to readers and the helper: see BACKLOG_OBJECTS in deferred.c */
        chain_reap(reclaimer, 2 * CHAIN_BATCH); /* more than came, so that a backlog shrinks */
    }
}

/* Takes up to `n` objects off the generation that waits, whose time has come; how many. */
static size_t chain_take(struct chain *chain, size_t n, void *objects[])
{
    size_t taken = 0;
    for (; taken < n && chain->waiting != NULL; taken++) {
        struct weir_rcu_head *head = weir_llist_entry(chain->waiting, struct weir_rcu_head, link);
        chain->waiting = weir_llist_next(chain->waiting);
        objects[taken] = head->object;
    }
    return taken;
}

/* Frees objects taken off it. */
static void chain_free(struct weir_reclaimer *reclaimer, size_t n, void *objects[])
{
    size_t bytes = weir__deferred_bytes(&reclaimer->deferred, n, objects);
    free_array(reclaimer, weir__handed_back(reclaimer->deferred.handed, n, objects), objects);
    weir__deferred_discharge(&reclaimer->deferred, n, bytes);
}

/* Frees up to `budget` objects of the generation that waits, if its time has come, and lets the next one
 * begin to wait after the last of them. */
static void chain_reap(struct weir_reclaimer *reclaimer, size_t budget)
{
    struct chain *chain = &reclaimer->chain;
    void *objects[CHAIN_BATCH];
    size_t n;

    /* Acquire: pairs with the release below. */
    if (weir_load_relaxed(&chain->reaping) != 0 || weir_xchg_acquire(&chain->reaping, 1u) != 0)
        return;
    while (budget != 0 && chain->waiting != NULL && weir_grace_poll(reclaimer->grace, chain->cookie)) {
        n = chain_take(chain, together(reclaimer, budget), objects);
        chain_free(reclaimer, n, objects);
        budget -= n;
        chain->done += n;
    }
    if (chain->waiting == NULL) {
        /*
         * Release: pairs with the acquire in barrier. Not before all of them are freed: newer ones come first,
         * and would pass for older ones that barrier waits for. All of an earlier generation were added, and
         * counted, before any of a later one, so with that it is exact.
         */
        weir_store_release(&chain->freed, chain->freed + chain->done);
        chain->done = 0;
        chain->waiting = weir_llist_del_all(&chain->incoming);
        if (chain->waiting != NULL)
            chain->cookie = weir_grace_start(reclaimer->grace);
    }
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
        chain_reap(reclaimer, SIZE_MAX); /* frees, or lets it begin to wait */
        weir__leave();
        /* Acquire: pairs with the release in chain_reap(). */
        if ((int64_t)(weir_load_acquire(&reclaimer->chain.freed) - target) >= 0)
            return 0;
        int error = weir_grace_wait(reclaimer->grace, weir_grace_start(reclaimer->grace));
        if (error != 0)
            return error;
    }
}

/* Both in sweeps. */
static void sweep_chain(void *arg)
{
    chain_reap(arg, SIZE_MAX);
}

static bool chain_is_pending(void *arg)
{
    return chain_pending(arg) != 0;
}

/* --- handing over --- */

/* Whatever is done between weir__enter() and weir__leave() is not done while another thread forks. */

void weir__free_rcu_slow(struct weir_reclaimer *reclaimer, void *object, struct weir_rcu_head *head)
{
    if (weir__deferred_go_on(&reclaimer->deferred, 1, &object) || !weir__enter())
        return;
    if (weir__deferred_add_slow(&reclaimer->deferred, 1, &object) == 0)
        chain_add(reclaimer, object, head);
    weir__leave();
}

static bool over_limit(const struct weir_reclaimer *reclaimer)
{
    /* Relaxed: counts, which may change at any time. */
    const struct weir__deferred_limit *limit = &reclaimer->limit;
    return weir_load_relaxed(&limit->objects) + reclaimer->config.capacity > limit->most_objects ||
           weir_load_relaxed(&limit->bytes) >= limit->most_bytes;
}

/* Copies into the magazine in the slot, then into others, what there is room and memory for; how many, the
 * last ones. */
static size_t add(struct weir_reclaimer *reclaimer, size_t n, void *const objects[])
{
    size_t left = n, added;
    do {
        left -= weir_percpu_put_n(reclaimer->paths.slots, left, objects);
        added = left != 0 ? weir__deferred_add_slow(&reclaimer->deferred, left, objects) : 0;
        left -= added;
    } while (added != 0 && left != 0);
    return n - left;
}

/* Waits for a grace period, and frees `n` objects that were handed over before: 0, or as
 * weir_grace_wait(). */
static int wait_and_free(struct weir_reclaimer *reclaimer, size_t n, void *const objects[])
{
    int error = weir_grace_wait(reclaimer->grace, weir_grace_start(reclaimer->grace));
    if (error != 0)
        return error;
    weir_fetch_add_relaxed(&reclaimer->waits, (uint64_t)n); /* relaxed: a statistic */
    while (n != 0) {
        void *batch[CHAIN_BATCH];
        size_t some = together(reclaimer, n);
        n -= some;
        memcpy(batch, objects + n, some * sizeof batch[0]);
        some = weir__handed_over(reclaimer->deferred.handed, some, batch);
        free_array(reclaimer, weir__handed_back(reclaimer->deferred.handed, some, batch), batch);
    }
    return 0;
}

/* Does the policy say no to objects for which there was no room? If not, does what it says before waiting. */
static bool refuses(struct weir_reclaimer *reclaimer, size_t n)
{
    if (!over_limit(reclaimer))
        return false;                                           /* it was memory */
    weir_fetch_add_relaxed(&reclaimer->throttled, UINT64_C(1)); /* relaxed, both: statistics */
    if (reclaimer->config.policy == WEIR_PENDING_HELP) {
        weir__deferred_flush(&reclaimer->deferred);
        weir__deferred_reap_all(&reclaimer->deferred);
        chain_reap(reclaimer, SIZE_MAX);
    }
    if (reclaimer->config.policy != WEIR_PENDING_REFUSE)
        return false;
    weir_fetch_add_relaxed(&reclaimer->refused, (uint64_t)n);
    return true;
}

/* 0: all were taken. Or what is the matter with the first *left ones. */
static int add_or_wait(struct weir_reclaimer *reclaimer, size_t *left, void *const objects[])
{
    if (!weir__enter())
        return -EOWNERDEAD;
    *left -= add(reclaimer, *left, objects);
    bool refused = *left != 0 && refuses(reclaimer, *left);
    if (*left != 0 && !refused && reclaimer->config.policy == WEIR_PENDING_HELP)
        *left -= add(reclaimer, *left, objects); /* there may be room now */
    weir__leave();
    if (*left == 0)
        return 0;
    if (refused)
        return -EAGAIN;
    int error = wait_and_free(reclaimer, *left, objects);
    if (error != 0)
        return error;
    *left = 0;
    if (weir__enter()) { /* the grace period was others', too: makes room */
        weir__deferred_reap(&reclaimer->deferred, weir_percpu_cpu(), SIZE_MAX);
        weir__leave();
    }
    return 0;
}

int weir__free_rcu_mightsleep_slow(struct weir_reclaimer *reclaimer, void *object)
{
    size_t left = 1;
    if (weir__deferred_go_on(&reclaimer->deferred, 1, &object))
        return 0;
    return add_or_wait(reclaimer, &left, &object);
}

size_t weir_free_rcu_bulk_mightsleep(struct weir_reclaimer *reclaimer, size_t n, void *const objects[])
{
    size_t left = n - weir_percpu_put_n(reclaimer->paths.slots, n, objects);
    if (left != 0)
        add_or_wait(reclaimer, &left, objects);
    return n - left;
}

size_t weir_free_rcu_bulk_try(struct weir_reclaimer *reclaimer, size_t n, void *const objects[])
{
    size_t left = n - weir_percpu_put_n(reclaimer->paths.slots, n, objects);
    if (left == 0 || !weir__enter())
        return n - left;
    left -= add(reclaimer, left, objects);
    if (left != 0 && weir__deferred_reap(&reclaimer->deferred, weir_percpu_cpu(), SIZE_MAX) != 0)
        left -= add(reclaimer, left, objects);
    weir__leave();
    if (left != 0)
        weir_fetch_add_relaxed(&reclaimer->refused, (uint64_t)left); /* relaxed: a statistic */
    return n - left;
}

bool weir__free_rcu_try_slow(struct weir_reclaimer *reclaimer, void *object)
{
    return weir__deferred_go_on(&reclaimer->deferred, 1, &object) ||
           weir_free_rcu_bulk_try(reclaimer, 1, &object) != 0;
}

int weir_free_rcu_barrier(struct weir_reclaimer *reclaimer)
{
    int error = chain_barrier(reclaimer);
    return error != 0 ? error : weir__deferred_barrier(&reclaimer->deferred);
}

void weir_free_rcu_flush(struct weir_reclaimer *reclaimer)
{
    if (!weir__enter())
        return;
    weir__deferred_flush(&reclaimer->deferred);
    chain_reap(reclaimer, CHAIN_BATCH);
    weir__leave();
}

size_t weir_reclaimer_poll(struct weir_reclaimer *reclaimer)
{
    weir_grace_drive(reclaimer->grace); /* nothing, if there is a helper thread */
    if (!weir__enter())
        return 0;
    if (chain_pending(reclaimer) != 0)
        chain_reap(reclaimer, SIZE_MAX);
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
    stats->pending = deferred.objects + stats->chained;
    stats->pending_bytes = weir_load_relaxed(&reclaimer->limit.bytes);
    stats->chain_total = weir_load_relaxed(&reclaimer->chain.added);
    stats->freed += weir_load_relaxed(&reclaimer->chain.freed);
    stats->waits = weir_load_relaxed(&reclaimer->waits);
    stats->freed += stats->waits; /* one object each */
    stats->throttled = weir_load_relaxed(&reclaimer->throttled);
    stats->refused = weir_load_relaxed(&reclaimer->refused);
    stats->twice = weir__handed_twice(reclaimer->deferred.handed);
    stats->periods = weir_grace_periods(reclaimer->grace);
    weir__blocks_stats(&reclaimer->blocks, &stats->blocks);
}

/* --- under pressure: see weir/shrinker.h --- */

/* What an object takes, for count and scan, where size_of is not asked. */
#define GUESSED_BYTES 64

/* For so many milliseconds magazines that come back are not kept. */
#define PRESSURE_MILLISECONDS 5000

static size_t bytes_of(const struct weir_reclaimer *reclaimer, size_t objects)
{
    /* Relaxed: an estimate. */
    if (reclaimer->limit.size_of == NULL)
        return objects * GUESSED_BYTES;
    return objects != 0 ? weir_load_relaxed(&reclaimer->limit.bytes) : 0;
}

static size_t count(void *arg)
{
    struct weir_reclaimer *reclaimer = arg;
    struct weir_reclaimer_stats stats;
    weir_reclaimer_stats(reclaimer, &stats);
    return weir__blocks_shrinkable(&reclaimer->blocks) + bytes_of(reclaimer, stats.pending);
}

/* Lets what is not waiting yet begin to, and frees what is done; a grace period later there is more to be
 * had. */
static size_t free_what_is_queued(struct weir_reclaimer *reclaimer)
{
    struct weir_reclaimer_stats before, after;
    weir_reclaimer_stats(reclaimer, &before);
    weir__deferred_flush(&reclaimer->deferred);
    weir__deferred_reap_all(&reclaimer->deferred);
    chain_reap(reclaimer, SIZE_MAX);
    weir_reclaimer_stats(reclaimer, &after);
    size_t freed = (size_t)(after.freed - before.freed);
    if (reclaimer->limit.size_of == NULL)
        return freed * GUESSED_BYTES;
    return before.pending != 0
               ? (size_t)((double)before.pending_bytes * (double)freed / (double)before.pending)
               : 0;
}

static size_t scan(void *arg, size_t bytes)
{
    struct weir_reclaimer *reclaimer = arg;
    if (!weir__enter())
        return 0;
    weir__blocks_press(&reclaimer->blocks, weir__milliseconds() + PRESSURE_MILLISECONDS);
    size_t given = free_what_is_queued(reclaimer);
    if (given < bytes)
        given += weir__blocks_shrink(&reclaimer->blocks, (bytes - given) / reclaimer->blocks.block_bytes + 1);
    weir__leave();
    return given;
}

/* --- making and unmaking --- */

static size_t cpus_on_line(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (size_t)online : 1;
}

const char *weir_reclaimer_config_error(const struct weir_reclaimer_config *config)
{
    if (config == NULL)
        return NULL;
    if (config->capacity > WEIR_RECLAIMER_CAPACITY_MAX)
        return "capacity: at most 65536 pointers";
    if (config->max_pending > SIZE_MAX / 2)
        return "max_pending: at most half of SIZE_MAX objects";
    if (config->max_pending != 0 && config->max_pending < config->capacity)
        return "max_pending: at least `capacity` objects, or 0 for the default";
    if (config->max_pending_bytes != 0 && config->size_of == NULL &&
        (config->free_bulk != NULL || (config->free_one != NULL && config->free_one != free)))
        return "max_pending_bytes: with a free function of your own it needs size_of";
    if (config->block_source != NULL && config->block_source->unit != 0 &&
        WEIR_MAGAZINE_BYTES(config->capacity) + sizeof(void *) > config->block_source->unit)
        return "capacity: a magazine must fit into a unit of block_source, with 8 bytes to spare";
    if ((unsigned)config->policy > WEIR_PENDING_REFUSE)
        return "policy: WEIR_PENDING_WAIT, WEIR_PENDING_HELP or WEIR_PENDING_REFUSE";
    if (config->reserve > WEIR_RECLAIMER_RESERVE_MAX)
        return "reserve: at most 1024 magazines for each CPU";
    return NULL;
}

static size_t usable_size(void *object)
{
    return malloc_usable_size(object);
}

/* Not a preloaded one, nor one of another library or of the program. */
static bool malloc_is_glibc(void)
{
#ifdef __GLIBC__
    Dl_info of_malloc, of_library;
    return dladdr((void *)(uintptr_t)malloc, &of_malloc) != 0 &&
           dladdr((void *)(uintptr_t)gnu_get_libc_version, &of_library) != 0 &&
           of_malloc.dli_fbase == of_library.dli_fbase;
#else
    return false;
#endif
}

/* A configuration with every default put in. */
static struct weir_reclaimer_config complete(const struct weir_reclaimer_config *given)
{
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    size_t cpus = cpus_on_line();
    if (given != NULL)
        config = *given;
    if (config.free_one == NULL)
        config.free_one = free;
    if (config.name == NULL)
        config.name = "reclaimer";
    if (config.capacity == 0) {
        config.capacity = WEIR_RECLAIMER_CAPACITY_DEFAULT;
        if (config.max_pending != 0 && config.capacity > config.max_pending / (2 * cpus))
            config.capacity = config.max_pending / (2 * cpus) + (config.max_pending < 2 * cpus);
    }
    if (config.max_pending == 0)
        config.max_pending = WEIR_RECLAIMER_PENDING_DEFAULT * config.capacity * cpus;
    if (config.free_step == 0 && config.free_bulk == NULL)
        config.free_step = malloc_is_glibc() ? WEIR_RECLAIMER_STEP_GLIBC : WEIR_RECLAIMER_STEP_DEFAULT;
    if (config.free_step >= config.capacity)
        config.free_step = 0; /* whole magazines */
    if (config.flush_milliseconds == 0)
        config.flush_milliseconds = WEIR_RECLAIMER_FLUSH_DEFAULT;
    return config;
}

static void destroy_parts(struct weir_reclaimer *reclaimer)
{
    weir__handed_destroy(reclaimer->deferred.handed);
    weir_grace_put(reclaimer->grace);
    weir__blocks_destroy(&reclaimer->blocks);
    free(reclaimer);
}

/* The parts that can fail, in order; what was made before a failure is unmade by destroy_parts(). */
static int create_parts(struct weir_reclaimer *reclaimer)
{
    const struct weir_reclaimer_config *config = &reclaimer->config;
    int error = weir__blocks_init(&reclaimer->blocks, config->capacity, config->block_source, NULL);
    if (error != 0)
        return error;
    error = weir__blocks_reserve(&reclaimer->blocks, config->reserve * cpus_on_line());
    if (error != 0)
        return error;
    if (config->grace != NULL)
        weir__grace_get(reclaimer->grace = config->grace);
    else if ((error = weir_grace_qsbr(&reclaimer->grace)) != 0)
        return error;
    reclaimer->limit =
        (struct weir__deferred_limit){.most_objects = config->max_pending, .most_bytes = SIZE_MAX};
    if (config->max_pending_bytes != 0) {
        reclaimer->limit.most_bytes = config->max_pending_bytes;
        reclaimer->limit.size_of = config->size_of != NULL ? config->size_of : usable_size;
    }
    reclaimer->deferred = (struct weir__deferred){.grace = reclaimer->grace,
                                                  .blocks = &reclaimer->blocks,
                                                  .free_some = free_array,
                                                  .arg = reclaimer,
                                                  .step = config->free_step,
                                                  .also_sweep = sweep_chain,
                                                  .also_pending = chain_is_pending,
                                                  .limit = &reclaimer->limit,
                                                  .interval = config->flush_milliseconds};
    return weir__deferred_init(&reclaimer->deferred);
}

int weir_reclaimer_create(struct weir_reclaimer **result, const struct weir_reclaimer_config *given)
{
    *result = NULL;
    if (weir_reclaimer_config_error(given) != NULL)
        return -EINVAL;
    struct weir_reclaimer *reclaimer = aligned_alloc(WEIR_LINE_PAIR, sizeof *reclaimer);
    if (reclaimer == NULL)
        return -ENOMEM;
    *reclaimer = (struct weir_reclaimer){.config = complete(given)};
    int error = create_parts(reclaimer);
    if (error != 0) {
        destroy_parts(reclaimer);
        return error;
    }
    reclaimer->paths.slots = &reclaimer->deferred.cpus[0].slot;
    /* Without memory for it, what is handed over twice goes unnoticed. */
    reclaimer->deferred.handed =
        weir__handed_create(reclaimer->paths.slots, reclaimer->config.capacity, reclaimer->config.name);
    reclaimer->shrinker = (struct weir_shrinker){count, scan, reclaimer, reclaimer->config.name, {0}};
    weir_shrinker_register(&reclaimer->shrinker);
    *result = reclaimer;
    return 0;
}

int weir_reclaimer_destroy(struct weir_reclaimer *reclaimer)
{
    if (reclaimer == NULL)
        return 0;
    int error = weir_free_rcu_barrier(reclaimer);
    if (error != 0)
        return error;
    weir_shrinker_unregister(&reclaimer->shrinker);
    weir__deferred_destroy(&reclaimer->deferred);
    destroy_parts(reclaimer);
    return 0;
}
