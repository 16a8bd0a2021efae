/* SPDX-License-Identifier: MIT */
/* grace.h - what the rest of libweir needs of a grace-period source beyond weir/grace.h. */
#ifndef WEIR_SRC_GRACE_H
#define WEIR_SRC_GRACE_H

#include "weir/grace.h"

/* How often the helper thread looks after CPUs that have gone idle with something pending. */
#define WEIR_SWEEP_MILLISECONDS 20

/* Somebody who has things waiting. `sweep` is called on the helper thread now and then, while it says true
 * (something is still pending). */
struct weir__grace_client {
    struct weir__grace_client *next;
    bool (*sweep)(struct weir__grace_client *client);
    bool (*pending)(struct weir__grace_client *client);
};

void weir__grace_get(struct weir_grace *grace);
void weir__grace_register(struct weir_grace *grace, struct weir__grace_client *client);
void weir__grace_unregister(struct weir_grace *grace, struct weir__grace_client *client);

/* Something is pending that was not before: sweeps are wanted again. Any context. */
void weir__grace_kick(struct weir_grace *grace);

#endif /* WEIR_SRC_GRACE_H */
