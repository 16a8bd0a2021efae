/* SPDX-License-Identifier: MIT */
/* free_rcu.h - what tests know of a reclaimer beyond weir/free_rcu.h. */
#ifndef WEIR_SRC_FREE_RCU_H
#define WEIR_SRC_FREE_RCU_H

#include "weir/free_rcu.h"

/* What checked builds write over each byte of what free() is given. */
#define WEIR_RECLAIMER_POISON 0x6b

#endif /* WEIR_SRC_FREE_RCU_H */
