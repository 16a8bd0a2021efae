/* SPDX-License-Identifier: MIT */
/* field_ck.c - Concurrency Kit's ck_epoch_call. Whoever hands over polls as well, between two of its own read
 * sections, every QUIESCENT_EVERY calls: there is no helper thread. */
#include <ck_epoch.h>
#include <stddef.h>

#include "field_loop.h"

struct object {
    unsigned char first;
    ck_epoch_entry_t entry;
};
_Static_assert(sizeof(struct object) <= 32, "the smallest --object-bytes");

static ck_epoch_t epoch;
static ck_epoch_record_t records[FIELD_THREADS_MAX + FIELD_READERS_MAX];
static bool known[FIELD_THREADS_MAX + FIELD_READERS_MAX]; /* a record is registered once, whoever has it */
static __thread ck_epoch_record_t *record;

static bool open_epoch(const struct field_setting *setting)
{
    (void)setting;
    ck_epoch_init(&epoch);
    return true;
}

static void online(void)
{
    ck_epoch_begin(record, NULL);
}

static void offline(void)
{
    ck_epoch_end(record, NULL);
}

static bool enter(unsigned number)
{
    record = &records[number];
    if (!known[number])
        ck_epoch_register(&epoch, record, NULL);
    known[number] = true;
    online();
    return true;
}

static void leave(unsigned number)
{
    (void)number;
}

static void quiescent(void)
{
    ck_epoch_end(record, NULL);
    ck_epoch_begin(record, NULL);
}

ALWAYS_INLINE void quiescent_and_poll(void)
{
    ck_epoch_end(record, NULL);
    ck_epoch_poll(record);
    ck_epoch_begin(record, NULL);
}

static void free_by_entry(ck_epoch_entry_t *entry)
{
    field_free((char *)entry - offsetof(struct object, entry));
}

ALWAYS_INLINE void call(void *object, uint64_t number)
{
    (void)number;
    ck_epoch_call(record, &((struct object *)object)->entry, free_by_entry);
}

static void work(struct field_worker *worker)
{
    field_loop(worker, field_malloc, call, quiescent_and_poll);
}

/* Each record has objects of its own. */
static void finish(void)
{
    ck_epoch_barrier(record);
}

static uint64_t epochs(void)
{
    return ck_epoch_value(&epoch);
}

const struct field_contender field_ck = {
    .id = "ck-epoch",
    .open = open_epoch,
    .enter = enter,
    .leave = leave,
    .quiescent = quiescent,
    .offline = offline,
    .online = online,
    .work = work,
    .finish = finish,
    .periods = epochs,
};
