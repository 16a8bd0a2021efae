/* SPDX-License-Identifier: MIT */
/* reserves.h - the reserve of a mempool and the recycling ring, explored. Prints a line for each program. */
#ifndef RESERVES_H
#define RESERVES_H

#include "explore.h"

bool reserves(void);

#endif
