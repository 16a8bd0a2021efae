/* SPDX-License-Identifier: MIT */
/* engine.h - the protocols of libweir's engine, explored. Prints a line for each program. */
#ifndef ENGINE_H
#define ENGINE_H

#include "explore.h"

bool engine(void);

#endif
