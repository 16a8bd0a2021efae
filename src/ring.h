/* SPDX-License-Identifier: MIT */
/*
 * ring.h - a bounded ring of pointers: many put, one takes. See weir/recycle.h.
 *
 *         head                       tail
 *     .   |A  B  C  .  E  F  G  H   |.   .   .   .       a dot is NULL: an empty place
 *                   ^
 *                   reserved, and not yet written
 *
 * Who puts reserves places from tail on, as many as it wants and there is room for, by one compare-and-swap,
 * and then writes its pointers there. Who takes reads from head on until it meets an empty place, empties
 * what it has read, and moves head on.
 *
 * A producer that is stopped between reserving and writing makes the ring look empty from its first place
 * on: the consumer finds A, B and C above, and the allocator has to do for the rest. Nothing is lost: E to H
 * lie where they are, and are taken in their turn when the place before them has been written. Nobody waits:
 * other producers reserve behind it as long as there is room, and are told when there is none; the consumer
 * is told that there is nothing.
 *
 * Why a place is never written twice. head and tail only grow (64 bits: they do not wrap round in the life
 * of a machine). A producer reads tail, t, and then head, h. If the compare-and-swap of t to t + n succeeds,
 * tail was t all the time, and t + n - h <= size. So all places up to h were emptied, of those before the
 * wrap the ones at t to t + n - 1 among them; and since h was read with acquire, and written with release
 * after the places had been emptied, the producer's pointers come after the consumer's NULLs. Old values of
 * either are harmless: an old t makes the compare-and-swap fail, an old h makes the ring look fuller than it
 * is.
 *
 * (The idea of an empty place as the sign between the two sides is that of J. Giacomoni, T. Moseley and M.
 * Vachharajani's FastForward, PPoPP 2008, and of the Linux kernel's ptr_ring, M. Tsirkin, 2016; that of
 * reserving many places by one compare-and-swap is DPDK's rte_ring, after FreeBSD's bufring.)
 */
#ifndef WEIR_SRC_RING_H
#define WEIR_SRC_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/atomic.h"
#include "weir/detail/checked.h"

struct weir__ring {
    void **place; /* size of them */
    uint64_t size;
    uint64_t head WEIR_ALIGNED(WEIR_LINE_PAIR); /* the consumer's; producers read it */
    uint64_t tail WEIR_ALIGNED(WEIR_LINE_PAIR); /* the producers' */
} WEIR_ALIGNED(WEIR_LINE_PAIR);

/* Puts up to n pointers, the first ones, n not 0, none NULL; how many. Any context, lock-free. */
static inline size_t weir__ring_put(struct weir__ring *ring, size_t n, void *const objects[])
{
    uint64_t tail = weir_load_relaxed(&ring->tail); /* relaxed: an old one makes the exchange fail */
    uint64_t take;
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        /* Acquire: pairs with the release in weir__ring_take(): the places are empty. If head is ahead of an
         * old tail, the room is nonsense, but then tail has been moved, and the exchange fails. */
        uint64_t room = ring->size - (tail - weir_load_acquire(&ring->head));
        if (room == 0)
            return 0;
        take = n < room ? n : room;
        if (weir_likely(weir_cas_relaxed(&ring->tail, &tail, tail + take)))
            break;
    }
    for (uint64_t i = 0; i < take; i++) {
        void **place = &ring->place[(tail + i) & (ring->size - 1)];
        /* Relaxed: the acquire above has seen it emptied. */
        weir__check(weir_load_relaxed(place) == NULL, "weir_recycle_free", objects[i],
                    "finds its place taken");
        weir_store_release(place, objects[i]); /* pairs with the acquire in weir__ring_take() */
    }
    return (size_t)take;
}

/* Takes up to n pointers; how many. The consumer, wait-free. */
static inline size_t weir__ring_take(struct weir__ring *ring, size_t n, void *objects[])
{
    uint64_t head = ring->head; /* nobody else writes it */
    size_t got = 0;
    while (got < n) {
        void **place = &ring->place[(head + got) & (ring->size - 1)];
        /* Acquire: pairs with the release in weir__ring_put(). */
        void *object = weir_load_acquire(place);
        if (object == NULL)
            break;
        objects[got++] = object;
        /* Relaxed: the release below is what puts it before the producers. */
        weir_store_relaxed(place, (void *)NULL);
    }
    if (got != 0)
        weir_store_release(&ring->head, head + got); /* pairs with the acquire in weir__ring_put() */
    return got;
}

/* Places that are reserved or written. */
static inline size_t weir__ring_count(const struct weir__ring *ring)
{
    /* Relaxed: a statistic; a tail that is older than the head counts as none. */
    uint64_t head = weir_load_relaxed(&ring->head), tail = weir_load_relaxed(&ring->tail);
    return tail > head ? (size_t)(tail - head) : 0;
}

/* When nobody else is there, nor comes back: moves the pointers together, over places that were reserved and
 * will not be written any more. */
static inline void weir__ring_close_up(struct weir__ring *ring)
{
    uint64_t to = ring->head;
    for (uint64_t from = ring->head; from != ring->tail; from++) {
        void *object = ring->place[from & (ring->size - 1)];
        ring->place[from & (ring->size - 1)] = NULL;
        if (object != NULL)
            ring->place[to++ & (ring->size - 1)] = object;
    }
    ring->tail = to;
}

#endif /* WEIR_SRC_RING_H */
