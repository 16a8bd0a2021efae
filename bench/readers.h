/* SPDX-License-Identifier: MIT */
/*
 * readers.h - threads that hold references under RCU and see whether what they hold is left alone.
 *
 * Workers publish some of their objects in a table, each with a stamp that no other object ever has, and hand
 * an object over only after taking it out of the table. A reader picks objects out of the table, holds them
 * for a while, and looks at their stamps again before it announces a quiescent state. An object that was
 * freed in the meantime has lost its stamp: a malloc'd one because the free function overwrites it, a page as
 * soon as it is somebody's again, because whoever gets a page writes its first byte.
 */
#ifndef BENCH_READERS_H
#define BENCH_READERS_H

#include <pthread.h>
#include <string.h>

#include "bench.h"

/* Few slots per worker: an object is out of the table again while a reader still holds it. */
#define SLOTS_PER_WORKER 4

/* The beginning of every object; both words are written when it is published. */
struct stamp {
    uint64_t unique;
    uint64_t complement;
};

/* The first byte of an object that was never published, of a stamp, and of a freed malloc'd object. */
#define PLAIN_BYTE 0x11
#define STAMP_BYTE UINT64_C(0x5a)
#define POISON UINT64_C(0xdddddddddddddddd)

struct slot {
    struct stamp *object;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

struct readers {
    struct slot *slots;
    unsigned slot_count;
    unsigned count, running;
    uint32_t stop;
    pthread_t *threads;
    struct checks checks;  /* of those that have ended */
    pthread_mutex_t mutex; /* protects checks */
};

/* Makes the table of `workers` workers, for `count` readers; false: no memory. */
bool readers_init(struct readers *readers, unsigned count, unsigned workers);
/* Starts the readers; false if one of them could not be started. */
bool readers_start(struct readers *readers);
void readers_stop(struct readers *readers);

/* Publishes an object with the stamp `number`, different for every object; the one that was there before. */
static inline void *readers_publish(struct slot *slot, void *object, uint64_t number)
{
    struct stamp *stamp = object;
    /* The mark is in the first byte of either byte order. */
    uint64_t unique = STAMP_BYTE << 56 | number << 8 | STAMP_BYTE;
    weir_store_relaxed(&stamp->unique, unique);
    weir_store_relaxed(&stamp->complement, ~unique);
    return weir_xchg_acq_rel(&slot->object, stamp); /* release: the stamp is seen by who finds the object */
}

static inline void *readers_unpublish(struct slot *slot)
{
    return weir_xchg_acq_rel(&slot->object, (struct stamp *)NULL);
}

/* What the free function of malloc'd objects does first. */
static inline void readers_poison(void *object)
{
    weir_store_relaxed(&((struct stamp *)object)->unique, POISON);
}

#endif /* BENCH_READERS_H */
