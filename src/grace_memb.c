/* SPDX-License-Identifier: MIT */
/* grace_memb.c - liburcu-memb as a source of grace periods. */
#include "grace.h"

#include <errno.h>

#if WEIR_WITH_MEMB

#include <urcu/urcu-memb.h>
#include <urcu/static/urcu-memb.h> /* only what a reader's record looks like */

static void synchronize(void *arg)
{
    (void)arg;
    urcu_memb_synchronize_rcu();
}

static bool reader_is_online(void *arg)
{
    (void)arg;
    return urcu_memb_read_ongoing();
}

/* As grace_qsbr.c's: in a child the records of other readers would stay in liburcu's ring. */
static bool survives_fork(void *arg)
{
    (void)arg;
    bool registered = urcu_memb_reader.registered;
    if (!registered)
        urcu_memb_register_thread();
    /* Relaxed: others may come and go; the rule asks them not to. */
    bool alone =
        weir_load_relaxed(&urcu_memb_reader.node.next) == weir_load_relaxed(&urcu_memb_reader.node.prev);
    if (!registered)
        urcu_memb_unregister_thread();
    return alone;
}

/*
 * Readers hold up a grace period between rcu_read_lock() and rcu_read_unlock() only, where they must not wait
 * for one anyway: there is nothing to be put offline. Which ones do cannot be found as grace_qsbr.c does: in
 * the second half of a grace period liburcu keeps them on a list on its own stack.
 */
struct weir_grace_source weir_grace_source_memb(void)
{
    return (struct weir_grace_source){.name = "liburcu-memb",
                                      .synchronize = synchronize,
                                      .reader_is_online = reader_is_online,
                                      .survives_fork = survives_fork};
}

int weir_grace_memb(struct weir_grace **grace)
{
    static struct weir_grace *shared;
    struct weir_grace_source source = weir_grace_source_memb();
    return weir__grace_share(&shared, &source, grace);
}

#else

struct weir_grace_source weir_grace_source_memb(void)
{
    return (struct weir_grace_source){.name = "liburcu-memb"};
}

int weir_grace_memb(struct weir_grace **grace)
{
    *grace = NULL;
    return -ENOTSUP;
}

#endif
