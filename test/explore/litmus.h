/* SPDX-License-Identifier: MIT */
/* litmus.h - is the explorer's memory model the one it says it is? Prints a line for each program. */
#ifndef LITMUS_H
#define LITMUS_H

#include "explore.h"

bool litmus(void);

#endif
