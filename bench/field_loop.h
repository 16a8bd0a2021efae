/* SPDX-License-Identifier: MIT */
/* field_loop.h - what a worker does, with a contender's functions inlined; and how frees are counted. */
#ifndef BENCH_FIELD_LOOP_H
#define BENCH_FIELD_LOOP_H

#include <pthread.h>
#include <sched.h>

#include "field.h"

struct field_worker {
    uint64_t handed; /* since the process began, after each stretch; the sampler reads it */
    unsigned number;
    double start, end; /* of its last round: seconds */
    pthread_t thread;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

/* field_cell.c */
extern struct field_setting field_setting;
extern __thread uint64_t *field_freed;
uint64_t *field_first_free(void);
void *field_no_memory(void) __attribute__((noreturn));

/* Counts objects that have been freed. */
ALWAYS_INLINE void field_count_freed(size_t n)
{
    uint64_t *freed = field_freed;
    if (weir_unlikely(freed == NULL))
        freed = field_first_free();
    weir_store_relaxed(freed,
                       *freed + n); /* relaxed: one writer; whoever needs it exact waits for a barrier */
}

ALWAYS_INLINE void field_free(void *object)
{
    free(object);
    field_count_freed(1);
}

ALWAYS_INLINE void *field_malloc(void)
{
    void *object = malloc(field_setting.object_bytes);
    return weir_likely(object != NULL) ? object : field_no_memory();
}

/* Writes the first byte of each object if `writes`. */
ALWAYS_INLINE void field_loop_of(struct field_worker *worker, bool writes, void *(*alloc)(void),
                                 void (*hand_over)(void *object, uint64_t number), void (*quiescent)(void))
{
    const uint64_t loops = field_setting.loops, objects = field_setting.objects;
    for (uint64_t loop = 0; loop < loops; loop++) {
        for (uint64_t left = objects; left != 0;) {
            uint64_t stretch = left < QUIESCENT_EVERY ? left : QUIESCENT_EVERY;
            for (uint64_t i = 0; i < stretch; i++) {
                void *object = alloc();
                if (writes)
                    *(volatile unsigned char *)object = 0x11;
                hand_over(object, i);
            }
            left -= stretch;
            weir_store_relaxed(&worker->handed,
                               worker->handed + stretch); /* relaxed: as in field_count_freed() */
            quiescent();
        }
    }
}

ALWAYS_INLINE void field_loop(struct field_worker *worker, void *(*alloc)(void),
                              void (*hand_over)(void *object, uint64_t number), void (*quiescent)(void))
{
    field_loop_of(worker, true, alloc, hand_over, quiescent);
}

#endif /* BENCH_FIELD_LOOP_H */
