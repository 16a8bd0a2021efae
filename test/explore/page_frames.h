/* SPDX-License-Identifier: MIT */
/* page_frames.h - the page frames of src/frames.c, explored. Prints a line for each program. */
#ifndef PAGE_FRAMES_H
#define PAGE_FRAMES_H

#include "explore.h"

bool page_frames(void);

#endif
