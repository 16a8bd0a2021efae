/* SPDX-License-Identifier: MIT */
/*
 * heirs.h - what has to be put in order in a child of fork(), besides what fork.h takes care of.
 *
 * An heir's function is called in the child before fork() returns there, when it is the only thread. What
 * other threads did outside the gate may be half done; what they did inside is done, unless the child cannot
 * use anything.
 */
#ifndef WEIR_SRC_HEIRS_H
#define WEIR_SRC_HEIRS_H

#include <stdbool.h>

struct weir__heir {
    void (*inherit)(struct weir__heir *heir);
    struct weir__heir *next;
};

/* Each may block: a mutex. False, and nothing has happened, in a child that cannot use anything. */
bool weir__heirs_add(struct weir__heir *heir);
bool weir__heirs_remove(struct weir__heir *heir);

#endif /* WEIR_SRC_HEIRS_H */
