/* SPDX-License-Identifier: MIT */
/*
 * grace_watch.h - notices grace periods that do not end, and says whom they wait for.
 *
 * A helper that waits in `synchronize` cannot look at the clock. So one thread for the process, weir-watch,
 * looks at the counts of all sources that have a helper: a count that is odd, and the same as ever, is a
 * grace period that does not end. It sleeps without a timer when none has been under way for a while; a
 * helper that begins one wakes it then, and makes no system call otherwise. Sources without a helper are
 * looked at by who drives them.
 */
#ifndef WEIR_SRC_GRACE_WATCH_H
#define WEIR_SRC_GRACE_WATCH_H

#include <pthread.h>

#include "weir/grace.h"

typedef void weir__on_stall(void *arg, const struct weir_grace_stall *stall);

/* Part of a source. */
struct weir__watch {
    const struct weir_grace_source *source;
    const uint64_t *count; /* of the source: odd while a grace period is under way */
    uint64_t begun;        /* when that one began, in weir__milliseconds() */
    uint32_t milliseconds; /* after which it is reported; 0: never */

    /* Protected by the mutex of grace_watch.c, as `milliseconds` is against writing: */
    struct weir__watch *next;
    weir__on_stall *callback;
    void *arg;
    uint64_t seen;      /* the count when it was last looked at */
    uint64_t period;    /* the count of the grace period that `due` is about; even: none */
    uint64_t since;     /* how long that has been under way, in milliseconds */
    uint64_t due;       /* ... and for how long when it is reported next */
    bool reporting;     /* the callback is being called, */
    pthread_t reporter; /* ... by this thread */
};

/* A source comes. */
void weir__watch_add(struct weir__watch *watch);

/* Starts the thread if it is not there: 0, or -EAGAIN. */
int weir__watch_start(void);

/* A source goes; a callback that is being called is waited for, here and in the next. */
void weir__watch_remove(struct weir__watch *watch);

void weir__watch_set(struct weir__watch *watch, unsigned milliseconds, weir__on_stall *callback, void *arg);

/* A grace period is about to begin; has begun: the count is odd. */
void weir__watch_begin(struct weir__watch *watch);
void weir__watch_begun(struct weir__watch *watch);

/* Looks at one source, and reports, on the calling thread. */
void weir__watch_look(struct weir__watch *watch);

/* fork(): nobody looks at anything; all goes on. In the child the thread is not there. */
void weir__watch_pause(void);
void weir__watch_go_on(bool in_child);

#endif /* WEIR_SRC_GRACE_WATCH_H */
