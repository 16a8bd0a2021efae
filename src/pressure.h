/* SPDX-License-Identifier: MIT */
/* pressure.h - what src/pressure.c asks of the system; tests put something else in its place. */
#ifndef WEIR_SRC_PRESSURE_H
#define WEIR_SRC_PRESSURE_H

#include <stdbool.h>

enum weir__pressure_news { WEIR__PRESSURE_EVENT, WEIR__PRESSURE_STOP, WEIR__PRESSURE_GONE };

struct weir__pressure_system {
    int (*open)(const char *path); /* for writing the trigger; or a negative errno */
    /* Waits until there is an event, or `stop`, a file to be read from, says so, or there will be no more. */
    enum weir__pressure_news (*wait)(int trigger, int stop);
    /* Lets so much time pass; true: `stop` has said so before. */
    bool (*pause)(int stop, unsigned milliseconds);
};

extern struct weir__pressure_system weir__pressure_system;

#endif /* WEIR_SRC_PRESSURE_H */
