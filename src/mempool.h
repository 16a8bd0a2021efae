/* SPDX-License-Identifier: MIT */
/* mempool.h - what tests change of mempool.c. */
#ifndef WEIR_SRC_MEMPOOL_H
#define WEIR_SRC_MEMPOOL_H

/* Who is first in line asks the allocator again so many milliseconds after the last time at the latest,
 * nobody having woken him: 100. 0: never; then a wakeup that is lost is lost for ever. */
extern unsigned weir__mempool_clock;

#endif /* WEIR_SRC_MEMPOOL_H */
