/* SPDX-License-Identifier: MIT */
/*
 * grace_ck.c - Concurrency Kit's epochs as a source of grace periods. Only its header is used, no record of
 * our own.
 *
 * A reader that enters its first section marks its record active, then, after a full fence, copies the global
 * epoch into it. The epoch may advance from e to e + 1 when every active record says e.
 * ck_epoch_synchronize() looks at all records, advances, looks again, and is content; or it is when others
 * have advanced the epoch by three. Here it is when every record was found inactive, or when the epoch has
 * advanced by GRACE, no matter by whom.
 *
 * Why that is a grace period. Say that a section S has found something which was unlinked before begin(),
 * whose fence is between the unlinking and its reading of the epoch, e; and that S has not ended.
 *
 *   - Whoever looks at the records after that finds S's active. The reader's fence is between marking it and
 *     finding; if both the finding came before the unlinking, and the looking before the marking, the two
 *     fences would each come before the other. So it is not found inactive. The same goes for others who look
 *     after they have read an epoch later than e, which was written after begin() read e: they, too, have a
 *     fence in between.
 *   - S's record says a value from before S, at most e, for the same reason; then x, which it copies in S.
 *     Where loads are done in order, x was read before something was found, so it is at most e, too. Who
 *     advances the epoch from e + 1 has looked after begin(), and found S's record active and saying e + 1.
 *     So nobody has, and the epoch has not advanced by two.
 *   - Where loads may be done out of order x may be later than e. Who advances the epoch from e + 1, and who
 *     does from e + 2, both looked after begin(). They would have found S active and saying e + 1, and e + 2.
 *     It says but one x: the epoch has not advanced by three, which is what Concurrency Kit trusts, too.
 *
 * A thread whose sections overlap (ck_epoch_section) keeps its record at the epoch of the oldest one.
 *
 * Records are never taken off the list, nor freed: a walk needs no protection.
 */
#include "grace.h"

#include <errno.h>

#if WEIR_WITH_CK

#include <ck_epoch.h>

/* By how many the epoch has advanced when a grace period is over: see above. */
#ifdef CK_MD_TSO
#define GRACE 2u
#else
#define GRACE 3u
#endif

#define STATE_FREE 1u /* as in Concurrency Kit's ck_epoch.c: a record that nobody has */

static ck_epoch_record_t *record_of(ck_stack_entry_t *entry)
{
    return (ck_epoch_record_t *)(void *)((char *)entry - offsetof(ck_epoch_record_t, record_next));
}

static ck_stack_entry_t *first(ck_epoch_t *epoch)
{
    /* Acquire: pairs with ck_epoch_register(): the record is complete. */
    return weir_load_acquire(&epoch->records.head);
}

static ck_stack_entry_t *next(ck_stack_entry_t *entry)
{
    return weir_load_relaxed(&entry->next); /* relaxed: it was complete before `entry` was on the list */
}

static bool is_active(ck_epoch_record_t *record)
{
    /* Acquires: pair with the release in ck_epoch_end(), so that what a reader did comes before the end of
     * the grace period; and that in ck_epoch_unregister(). */
    return (weir_load_acquire(&record->state) & STATE_FREE) == 0 && weir_load_acquire(&record->active) != 0;
}

static bool is_behind(ck_epoch_record_t *record, unsigned now)
{
    return is_active(record) && weir_load_acquire(&record->epoch) != now;
}

static uint64_t begin(void *arg)
{
    ck_epoch_t *epoch = arg;
    ck_pr_fence_memory(); /* between the unlinking and the epoch; pairs with that in ck_epoch_begin() */
    return weir_load_relaxed(&epoch->epoch);
}

/* Looks at all records. NONE: nobody is in a section; ALL_SEEN: who is has seen this epoch. */
static enum { BEHIND, ALL_SEEN, NONE } scan(ck_epoch_t *epoch, unsigned now)
{
    bool active = false;
    for (ck_stack_entry_t *entry = first(epoch); entry != NULL; entry = next(entry)) {
        if (is_behind(record_of(entry), now))
            return BEHIND;
        active |= is_active(record_of(entry));
    }
    return active ? ALL_SEEN : NONE;
}

static bool over(void *arg, uint64_t begun)
{
    ck_epoch_t *epoch = arg;
    for (;;) {
        /* Acquire: pairs with the release of who advanced it, who has seen the readers leave. */
        unsigned now = weir_load_acquire(&epoch->epoch);
        if (now - (unsigned)begun >= GRACE)
            return true;
        ck_pr_fence_memory(); /* between reading the epoch and looking at the records */
        switch (scan(epoch, now)) {
        case NONE:
            return true;
        case BEHIND:
            return false;
        case ALL_SEEN:
            /* Somebody else may have done so; at most GRACE times round. */
            weir_cas_acq_rel(&epoch->epoch, &now, now + 1);
        }
    }
}

static size_t stalled(void *arg, size_t n, struct weir_grace_reader readers[])
{
    ck_epoch_t *epoch = arg;
    unsigned now = weir_load_relaxed(&epoch->epoch); /* relaxed: for a message */
    size_t found = 0;
    for (ck_stack_entry_t *entry = first(epoch); entry != NULL; entry = next(entry)) {
        ck_epoch_record_t *record = record_of(entry);
        if (!is_behind(record, now))
            continue;
        if (found < n) {
            readers[found].record = record;
            readers[found].context = weir_load_relaxed(&record->ct); /* relaxed: for a message */
        }
        found++;
    }
    return found;
}

/* Threads that are in a section will never leave it in the child. */
static bool survives_fork(void *arg)
{
    ck_epoch_t *epoch = arg;
    return scan(epoch, weir_load_relaxed(&epoch->epoch)) == NONE; /* relaxed: others may come and go */
}

struct weir_grace_source weir_grace_source_ck_epoch(struct ck_epoch *epoch)
{
    return (struct weir_grace_source){.name = "ck_epoch",
                                      .begin = begin,
                                      .over = over,
                                      .stalled = stalled,
                                      .survives_fork = survives_fork,
                                      .arg = epoch};
}

#else

struct weir_grace_source weir_grace_source_ck_epoch(struct ck_epoch *epoch)
{
    return (struct weir_grace_source){.name = "ck_epoch", .arg = epoch};
}

#endif

int weir_grace_ck_epoch(struct weir_grace **grace, struct ck_epoch *epoch)
{
    struct weir_grace_source source = weir_grace_source_ck_epoch(epoch);
    *grace = NULL;
    return source.begin != NULL ? weir_grace_create(grace, &source) : -ENOTSUP;
}
