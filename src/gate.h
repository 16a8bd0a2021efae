/* SPDX-License-Identifier: MIT */
/*
 * gate.h - a gate that can be closed behind those who are inside, who are then waited for: see fork.h.
 *
 *     who enters                           who closes
 *     ----------                           ----------
 *     count in          (1)                state = closed         (2)
 *     look at state     (3)                look at the counts     (4)
 *
 * (1) and the look at its count in (4) are read-modify-writes of one word, so one of them is first. If (4)
 * is, (1) acquires what (4) released, the closing among it, and (3) finds the gate closed. If (1) is, (4)
 * finds the count. So whoever goes on is waited for.
 *
 * Counts are kept in stripes, so that CPUs keep apart. The sum of those who left is taken first: who has left
 * by then is among those who entered when these are summed up, so equal sums mean that nobody is inside.
 */
#ifndef WEIR_SRC_GATE_H
#define WEIR_SRC_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/atomic.h"

#ifndef WEIR__GATE_STRIPES
#define WEIR__GATE_STRIPES 512
#endif

enum weir__gate_state { WEIR__OPEN = 0, WEIR__CLOSED = 1, WEIR__UNUSABLE = 2 };

struct weir__gate {
    uint32_t state; /* enum weir__gate_state; a futex */
    struct {
        uint64_t entered, left;
    } WEIR_ALIGNED(WEIR_LINE_PAIR) stripe[WEIR__GATE_STRIPES];
};

static inline void weir__gate_count_in(struct weir__gate *gate, unsigned stripe)
{
    weir_fetch_add_acq_rel(&gate->stripe[stripe].entered, UINT64_C(1)); /* (1) */
}

static inline void weir__gate_count_out(struct weir__gate *gate, unsigned stripe)
{
    /* Release: pairs with the acquire in weir__gate_nobody_inside(): what was done inside is visible to who
     * closes. */
    weir_fetch_add_release(&gate->stripe[stripe].left, UINT64_C(1));
}

static inline uint32_t weir__gate_look(const struct weir__gate *gate)
{
    /* Acquire: pairs with the release in weir__gate_set(): what was done while it was closed is visible. */
    return weir_load_acquire(&gate->state);
}

static inline void weir__gate_set(struct weir__gate *gate, enum weir__gate_state state)
{
    weir_store_release(&gate->state, (uint32_t)state);
}

/* After it was closed: is nobody inside, but those whom the caller knows of? */
static inline bool weir__gate_nobody_inside(struct weir__gate *gate, uint64_t known)
{
    uint64_t left = known, entered = 0;
    for (unsigned i = 0; i < WEIR__GATE_STRIPES; i++)
        left += weir_load_acquire(&gate->stripe[i].left);
    for (unsigned i = 0; i < WEIR__GATE_STRIPES; i++)
        entered += weir_fetch_add_acq_rel(&gate->stripe[i].entered, UINT64_C(0)); /* (4) */
    return left == entered;
}

#endif /* WEIR_SRC_GATE_H */
