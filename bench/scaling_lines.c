/* SPDX-License-Identifier: MIT */
/*
 * scaling_lines.c - the lines shared by the CPUs of a domain that each kind of exchange touches, read off
 * src/cache.c, src/depot.c and src/blocks.c. weir-bench-scaling-count counts them; a difference is an error.
 *
 * A depot has two lines, the head of its pool and the words that steer it; the empty magazines' pool has one.
 */
#define _GNU_SOURCE
#include "scaling.h"

const struct exchange_lines exchange_lines[EXCHANGES] = {
    [REFILL_SPARE] = {"refill-spare", "refill from the spare magazine",
                      "all is the CPU's own; but one in 33 at most is levelled, by way of an idle one (1)", 0,
                      0},
    [REFILL_DEPOT] = {"refill-depot", "refill from the depot",
                      "the empty spare goes to the idle ones (1); a get from the pool (1); in_use, low (1)",
                      3, 0},
    [REFILL_STOLEN] = {"refill-stolen", "refill from another domain's depot",
                       "as above, in vain; then head (1) and in_use, low (1) of the other", 3, 2},
    [REFILL_BACKEND] = {"refill-backend", "refill from the backend",
                        "as from the depot, in vain; a look at each other depot (1 each)", 3, 1},
    [FLUSH_SPARE] = {"flush-spare", "flush to the spare magazine", "likewise", 0, 0},
    [FLUSH_DEPOT] = {"flush-depot", "flush to the depot",
                     "a put into the pool (1); limit, watched (1); an empty one from the idle ones (1)", 3,
                     0},
    [FLUSH_SPILL] = {"flush-spill", "flush to the backend",
                     "a look at the head (1), limit and spilled (1); back and forth to the idle ones (1)", 3,
                     0},
};

bool scaling_lines_agree(const struct exchange_result *counted, enum exchange exchange)
{
    const struct exchange_lines *derived = &exchange_lines[exchange];
    uint64_t own = 0, other = 0;
    for (unsigned i = 0; i < LINES; i++)
        *(i < OTHER_HEAD ? &own : &other) += counted->tally.lines[i];
    if (exchange == REFILL_SPARE || exchange == FLUSH_SPARE)
        return counted->tally.unknown == 0 && own <= counted->counted / 4 && other == 0;
    return counted->tally.unknown == 0 && counted->tally.exchanges == counted->counted &&
           own == (uint64_t)derived->own * counted->counted &&
           other == (uint64_t)derived->other * counted->counted;
}
