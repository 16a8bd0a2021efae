/* SPDX-License-Identifier: MIT */
/* grace.h - what the rest of libweir needs of a grace-period source beyond weir/grace.h. */
#ifndef WEIR_SRC_GRACE_H
#define WEIR_SRC_GRACE_H

#include "weir/grace.h"

/* How soon the helper thread looks after CPUs that have gone idle with something pending. */
#define WEIR_SWEEP_MILLISECONDS 20

/* Somebody who has something to be done now and then, on the helper thread or whatever thread drives. */
struct weir__grace_client {
    struct weir__grace_client *next;
    uint64_t
        due; /* when `sweep` is to be called, in the helper's milliseconds; 0: not at all. The helper's own */
    /* In how many milliseconds it wants to be swept; 0: it has nothing to be done. Asked again and again:
     * what counts is the earliest time that has been wished for since it last had nothing or was swept. */
    unsigned (*wish)(struct weir__grace_client *client);
    void (*sweep)(struct weir__grace_client *client);
};

void weir__grace_get(struct weir_grace *grace);

/* One for the process: weir_grace_create() into *shared, which keeps a reference of its own, unless it is
 * there already; *grace is one for the caller. 0, or as weir_grace_create(). */
int weir__grace_share(struct weir_grace **shared, const struct weir_grace_source *source,
                      struct weir_grace **grace);

void weir__grace_register(struct weir_grace *grace, struct weir__grace_client *client);
void weir__grace_unregister(struct weir_grace *grace, struct weir__grace_client *client);

/* Is there a helper thread, or do grace periods and sweeps wait for weir_grace_drive()? */
bool weir__grace_has_helper(const struct weir_grace *grace);

/* A client that had nothing to be done wishes to be swept. Any context. */
void weir__grace_kick(struct weir_grace *grace);

/* Stops the program with a message unless the calling thread is an online reader, as far as the source can
 * tell. */
void weir__grace_check_reader(const struct weir_grace *grace, const char *function);

/* fork(), see fork.h, in this order. No more grace periods, and no more sweeps (false: one did not end in
 * time), until the deadline, in weir__milliseconds(). And all goes on; in the child, with a new helper thread
 * as soon as one is needed. The calling thread is offline meanwhile. */
void weir__grace_stop_periods(uint64_t deadline);
bool weir__grace_stop_sweeps(uint64_t deadline);
void weir__grace_go_on(bool in_child);

#endif /* WEIR_SRC_GRACE_H */
