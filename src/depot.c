/* SPDX-License-Identifier: MIT */
/* depot.c - depots whose size follows what is asked of them: see depot.h. */
#include "depot.h"

#include <errno.h>
#include <stdlib.h>

/* `limit`, `low`, `spilled` and `in_use` steer, they do not count: all accesses to them are relaxed, an
 * update may get lost, and then a magazine more or less is kept. `limit` stays within its bounds all the
 * same: each store is of a value that is within them. */

int weir__depots_init(struct weir__depots *depots, unsigned domains, size_t base, size_t most)
{
    depots->domains = domains;
    depots->base = base / domains != 0 ? base / domains : 1;
    depots->most = most / domains > depots->base ? most / domains : depots->base;
    depots->depot = aligned_alloc(WEIR_LINE_PAIR, domains * sizeof depots->depot[0]);
    if (depots->depot == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < domains; i++) {
        depots->depot[i] = (struct weir__depot){.limit = depots->most};
        weir_pool_init(&depots->depot[i].full);
    }
    return 0;
}

void weir__depots_destroy(struct weir__depots *depots)
{
    free(depots->depot);
}

/* Usually it is full, and nothing is to be done. Relaxed: a statistic. */
static size_t lacks(const struct weir_magazine *magazine)
{
    return magazine->capacity - magazine->count;
}

bool weir__depot_keep(struct weir__depots *depots, unsigned domain, struct weir_magazine *magazine)
{
    struct weir__depot *depot = &depots->depot[domain];
    if (lacks(magazine) != 0)
        weir_fetch_add_relaxed(&depot->missing, lacks(magazine));
    weir_pool_put(&depot->full, &magazine->node);
    /* A read-modify-write that changes nothing, like the one in weir__depots_watch() that stops watching: if
     * that comes later in the order of this word, it sees the magazine; if it came before, we see that. */
    return weir_fetch_add_acq_rel(&depot->watched, UINT64_C(0)) == 0 &&
           weir_xchg_acq_rel(&depot->watched, UINT64_C(1)) == 0;
}

bool weir__depot_has_room(struct weir__depots *depots, unsigned domain)
{
    struct weir__depot *depot = &depots->depot[domain];
    if (weir_pool_count(&depot->full) < weir_load_relaxed(&depot->limit))
        return true;
    weir_store_relaxed(&depot->spilled, weir_load_relaxed(&depot->spilled) + 1);
    return false;
}

static struct weir_magazine *get_from(struct weir__depot *depot)
{
    struct weir_magazine *magazine = weir_magazine_of_node(weir_pool_get(&depot->full));
    if (magazine != NULL) {
        if (lacks(magazine) != 0)
            weir_fetch_sub_relaxed(&depot->missing, lacks(magazine));
        if (weir_load_relaxed(&depot->in_use) == 0)
            weir_store_relaxed(&depot->in_use, UINT64_C(1));
    }
    size_t left = weir_pool_count(&depot->full);
    if (left < weir_load_relaxed(&depot->low))
        weir_store_relaxed(&depot->low, left);
    return magazine;
}

struct weir_magazine *weir__depot_get(struct weir__depots *depots, unsigned domain, bool *stolen)
{
    struct weir_magazine *magazine = get_from(&depots->depot[domain]);
    *stolen = false;
    /* The next domains first: so that the thieves spread. */
    for (unsigned i = 1; magazine == NULL && i < depots->domains; i++) {
        struct weir__depot *other = &depots->depot[(domain + i) % depots->domains];
        if (weir_pool_count(&other->full) != 0)
            magazine = get_from(other);
        *stolen = magazine != NULL;
    }
    return magazine;
}

void weir__depot_missed(struct weir__depots *depots, unsigned domain)
{
    struct weir__depot *depot = &depots->depot[domain];
    size_t spilled = weir_load_relaxed(&depot->spilled), limit = weir_load_relaxed(&depot->limit);
    if (spilled == 0)
        return;
    weir_store_relaxed(&depot->spilled, spilled - 1);
    if (limit < depots->most) {
        weir_store_relaxed(&depot->limit, limit + 1);
        weir_fetch_add_relaxed(&depot->raised, UINT64_C(1));
    }
}

/* One by one: no single step is long. */
static struct weir_stack_node *take(struct weir__depot *depot, size_t wanted)
{
    struct weir_stack_node *chain = NULL;
    while (wanted != 0) {
        struct weir_stack_node *node = weir_pool_get(&depot->full);
        if (node == NULL)
            break;
        if (lacks(weir_magazine_of_node(node)) != 0)
            weir_fetch_sub_relaxed(&depot->missing, lacks(weir_magazine_of_node(node)));
        weir_stack_link(node, chain);
        chain = node;
        wanted--;
    }
    return chain;
}

struct weir_stack_node *weir__depot_decay(struct weir__depots *depots, unsigned domain, unsigned percent)
{
    struct weir__depot *depot = &depots->depot[domain];
    size_t now = weir_pool_count(&depot->full), unused = weir_load_relaxed(&depot->low);
    size_t limit = weir_load_relaxed(&depot->limit);
    bool in_use = weir_load_relaxed(&depot->in_use) != 0;

    if (unused > now)
        unused = now;
    size_t surplus = now != 0 || in_use ? unused : limit - depots->base;
    size_t share = surplus / 100 * percent + (surplus % 100 * percent + 99) / 100;
    weir_store_relaxed(&depot->limit, limit - depots->base > share ? limit - share : depots->base);
    weir_store_relaxed(&depot->spilled, (size_t)0);
    weir_store_relaxed(&depot->in_use, UINT64_C(0));
    weir_store_relaxed(&depot->low, now > share ? now - share : 0);
    return now != 0 ? take(depot, share) : NULL;
}

struct weir_stack_node *weir__depot_shrink(struct weir__depots *depots, unsigned domain)
{
    struct weir__depot *depot = &depots->depot[domain];
    struct weir_stack_node *chain = take(depot, 1);
    size_t left = weir_pool_count(&depot->full), limit = weir_load_relaxed(&depot->limit);
    if (left < weir_load_relaxed(&depot->low))
        weir_store_relaxed(&depot->low, left);
    if (chain != NULL && limit > depots->base)
        weir_store_relaxed(&depot->limit, limit - 1);
    return chain;
}

struct weir_stack_node *weir__depot_drain(struct weir__depots *depots, unsigned domain)
{
    struct weir__depot *depot = &depots->depot[domain];
    weir_store_relaxed(&depot->limit, depots->base);
    weir_store_relaxed(&depot->spilled, (size_t)0);
    weir_store_relaxed(&depot->low, (size_t)0);
    return take(depot, weir_pool_count(&depot->full));
}

size_t weir__depots_objects(const struct weir__depots *depots, size_t capacity)
{
    size_t objects = 0;
    for (unsigned i = 0; i < depots->domains; i++) {
        size_t most = weir_pool_count(&depots->depot[i].full) * capacity;
        size_t missing = weir_load_relaxed(&depots->depot[i].missing);
        objects += most > missing ? most - missing : 0;
    }
    return objects;
}

size_t weir__depots_limit(const struct weir__depots *depots)
{
    size_t limit = 0;
    for (unsigned i = 0; i < depots->domains; i++)
        limit += weir_load_relaxed(&depots->depot[i].limit);
    return limit;
}

uint64_t weir__depots_raised(const struct weir__depots *depots)
{
    uint64_t raised = 0;
    for (unsigned i = 0; i < depots->domains; i++)
        raised += weir_load_relaxed(&depots->depot[i].raised);
    return raised;
}

static bool settled(const struct weir__depots *depots, const struct weir__depot *depot)
{
    return weir_pool_count(&depot->full) == 0 && weir_load_relaxed(&depot->limit) <= depots->base;
}

bool weir__depots_watched(const struct weir__depots *depots)
{
    for (unsigned i = 0; i < depots->domains; i++)
        if (weir_load_relaxed(&depots->depot[i].watched) != 0) /* relaxed: whoever sets it tells us */
            return true;
    return false;
}

bool weir__depots_watch(struct weir__depots *depots)
{
    bool any = false;
    for (unsigned i = 0; i < depots->domains; i++) {
        struct weir__depot *depot = &depots->depot[i];
        if (weir_load_relaxed(&depot->watched) == 0) /* relaxed: as above */
            continue;
        if (settled(depots, depot)) {
            weir_xchg_acq_rel(&depot->watched, UINT64_C(0)); /* see weir__depot_keep() */
            if (settled(depots, depot))
                continue;
            weir_xchg_acq_rel(&depot->watched, UINT64_C(1));
        }
        any = true;
    }
    return any;
}
