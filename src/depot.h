/* SPDX-License-Identifier: MIT */
/*
 * depot.h - the shared part of a cache: magazines with objects in them, and how many of those to keep.
 *
 * There is one depot per domain of CPUs (topology.h). A CPU puts magazines into its own depot and takes them
 * from there; only when that is empty does it look into the others, so what is freed in one domain and
 * allocated in another flows, and is not stranded.
 *
 * How many magazines a depot keeps, its limit, adapts between two bounds. It begins with the upper one:
 *
 *     spilled    a magazine was turned away because the depot was at its limit; its objects went to the
 *                backend
 *     missed     no depot had one, and the backend had to make objects: had a spilled one been kept, it
 *                would have been of use. So the limit rises by one, as often as there were spills since the
 *                last decay
 *     decay      `low` is the smallest number of magazines that the depot has held since the last decay: so
 *                many were of no use. A share of them goes, and the limit falls by as much, never below
 *                `base`. That of an empty depot which nobody has used falls by the same share of what it is
 *                above `base`
 *     shrink     memory is short: as many magazines go as are asked for, and the limit falls by as many
 */
#ifndef WEIR_SRC_DEPOT_H
#define WEIR_SRC_DEPOT_H

#include "topology.h"
#include "weir/magazine.h"
#include "weir/pool.h"

struct weir__depot {
    struct weir_pool full; /* magazines with at least one object */
    size_t missing;        /* objects for all of them to be full; ahead of the pool by what is on its way */
    size_t limit;
    size_t low;
    size_t spilled;   /* since the last decay, and not yet missed */
    uint64_t in_use;  /* something was taken since then */
    uint64_t watched; /* whoever decays knows that there is something to decay */
    uint64_t raised;  /* times the limit rose: a statistic */
} WEIR_ALIGNED(WEIR_LINE_PAIR);

struct weir__depots {
    struct weir__depot *depot; /* one per domain */
    unsigned domains;
    size_t base, most; /* magazines: the bounds of each limit */
};

/* Depots that keep between `base` and `most` magazines, all of them together; each at least one. 0, or
 * -ENOMEM. */
int weir__depots_init(struct weir__depots *depots, unsigned domains, size_t base, size_t most);
/* They must be empty. */
void weir__depots_destroy(struct weir__depots *depots);

/* Keeps a magazine with objects, whatever the limit. True: this depot is not watched, and is from now on. */
bool weir__depot_keep(struct weir__depots *depots, unsigned domain, struct weir_magazine *magazine);
/* Is it below its limit? If not, the caller gives a magazine to the backend, and this is a spill. */
bool weir__depot_has_room(struct weir__depots *depots, unsigned domain);
/* A magazine with objects, from this domain's depot or any other; NULL: there is none. `stolen` says that it
 * came from another one. */
struct weir_magazine *weir__depot_get(struct weir__depots *depots, unsigned domain, bool *stolen);
/* The backend had to make a magazine's worth of objects. */
void weir__depot_missed(struct weir__depots *depots, unsigned domain);

/* Takes `percent` of what the time since the last call has not used, rounded up: a chain of magazines, linked
 * by `node`. */
struct weir_stack_node *weir__depot_decay(struct weir__depots *depots, unsigned domain, unsigned percent);
/* Takes one magazine, if there is any, and the limit falls by one, never below its lower bound: likewise. */
struct weir_stack_node *weir__depot_shrink(struct weir__depots *depots, unsigned domain);
/* Takes everything, and sets the limit to its lower bound: likewise. */
struct weir_stack_node *weir__depot_drain(struct weir__depots *depots, unsigned domain);

/* Objects in all of them, of magazines of `capacity`: exact while nothing moves. */
size_t weir__depots_objects(const struct weir__depots *depots, size_t capacity);
/* Magazines they keep now at most, all of them together. */
size_t weir__depots_limit(const struct weir__depots *depots);
/* Times that a limit rose. */
uint64_t weir__depots_raised(const struct weir__depots *depots);
/* Is any of them watched? */
bool weir__depots_watched(const struct weir__depots *depots);
/* Is there anything that decay would change in those that are watched? If there is not, none is watched any
 * more: the next weir__depot_keep() says so. */
bool weir__depots_watch(struct weir__depots *depots);

#endif /* WEIR_SRC_DEPOT_H */
