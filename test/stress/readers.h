/* SPDX-License-Identifier: MIT */
/*
 * Readers and grace periods for the stress programs: quiescent states in the simplest way, out of operations
 * that ThreadSanitizer sees. A grace period is over when every reader that is online has been quiescent since
 * it began.
 */
#ifndef READERS_H
#define READERS_H

#include "fixtures.h"
#include "weir/grace.h"

enum { READERS_MAX = 160 };

/* When each reader was last quiescent; 0: offline. */
static struct reader {
    uint64_t seen WEIR_ALIGNED(WEIR_LINE_PAIR);
    unsigned taken;
} readers[READERS_MAX];
static uint64_t readers_epoch = 2;
static _Thread_local struct reader *reader_me;
static _Thread_local volatile sig_atomic_t reader_is_online; /* for signal handlers */

static inline void reader_online(void *unused)
{
    (void)unused;
    weir_store_relaxed(&reader_me->seen, UINT64_C(1));
    /* A read-modify-write, like that of readers_synchronize(): if this comes first, that one sees the store
     * above; if it comes later, it makes visible here what was unlinked before. */
    weir_store_relaxed(&reader_me->seen, weir_fetch_add_acq_rel(&readers_epoch, UINT64_C(0)));
    reader_is_online = 1;
}

static inline bool reader_offline(void *unused)
{
    (void)unused;
    if (!reader_me || !reader_is_online)
        return false;
    reader_is_online = 0;
    weir_store_release(&reader_me->seen, UINT64_C(0)); /* what was read before is done with */
    return true;
}

/* What the calling thread found before may be gone from here on. */
static inline void reader_quiescent(void)
{
    /* Acquire: what was unlinked before that grace period is visible. Release: what was read is done with. */
    weir_store_release(&reader_me->seen, weir_load_acquire(&readers_epoch));
}

static inline void reader_register(void)
{
    for (unsigned i = 0; !reader_me; i = (i + 1) % READERS_MAX)
        if (weir_xchg_acquire(&readers[i].taken, 1u) == 0)
            reader_me = &readers[i];
    reader_online(NULL);
}

static inline void reader_unregister(void)
{
    reader_offline(NULL);
    weir_store_release(&reader_me->taken, 0u);
    reader_me = NULL;
}

static inline void readers_synchronize(void *unused)
{
    (void)unused;
    uint64_t now = weir_fetch_add_acq_rel(&readers_epoch, UINT64_C(1)) + 1, seen;
    for (unsigned i = 0; i < READERS_MAX; i++)
        while ((seen = weir_load_acquire(&readers[i].seen)) != 0 && seen < now)
            fixture_sleep(20);
}

static inline struct weir_grace *readers_grace(void)
{
    static const struct weir_grace_source source = {.name = "readers",
                                                    .synchronize = readers_synchronize,
                                                    .reader_offline = reader_offline,
                                                    .reader_online = reader_online};
    struct weir_grace *grace;
    if (weir_grace_create(&grace, &source))
        FIXTURE_FAIL("cannot create a source of grace periods");
    return grace;
}

#endif
