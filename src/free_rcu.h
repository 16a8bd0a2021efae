/* SPDX-License-Identifier: MIT */
/* free_rcu.h - what tests may do to a reclaimer beyond weir/free_rcu.h. */
#ifndef WEIR_SRC_FREE_RCU_H
#define WEIR_SRC_FREE_RCU_H

#include "blocks.h"
#include "weir/free_rcu.h"

/* What checked builds write over each byte of what free() is given. */
#define WEIR_RECLAIMER_POISON 0x6b

/* As weir_reclaimer_create(), with magazines from `chunks`. */
int weir__reclaimer_create(struct weir_reclaimer **reclaimer, const struct weir_reclaimer_config *config,
                           const struct weir__chunk_source *chunks);

#endif /* WEIR_SRC_FREE_RCU_H */
