/* SPDX-License-Identifier: MIT */
/* readers.c - see readers.h. */
#define _GNU_SOURCE
#include "readers.h"

#include <stdlib.h>
#include <sys/prctl.h>
#include <urcu/urcu-qsbr.h>

#define HELD_AT_ONCE 8
#define HOLD_MICROSECONDS_MAX 60

struct held {
    const struct slot *slot;
    const struct stamp *object;
    uint64_t unique;
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Three times out of four sleeping, so that the workers have the CPUs; else spinning. */
static void pass_time(uint64_t random)
{
    long nanoseconds = (long)(random >> 8) % (HOLD_MICROSECONDS_MAX * 1000L);
    if (random % 4 != 0) {
        struct timespec time = {0, nanoseconds};
        nanosleep(&time, NULL);
        return;
    }
    for (double end = seconds_now() + 1e-9 * (double)nanoseconds; seconds_now() < end;)
        weir_cpu_pause();
}

static bool intact(const struct stamp *object, uint64_t unique)
{
    return weir_load_relaxed(&object->unique) == unique && weir_load_relaxed(&object->complement) == ~unique;
}

/* Picks objects up, holds them, looks at them again. True if there was anything to hold. */
static bool hold(const struct readers *readers, uint64_t *random, struct checks *checks)
{
    struct held held[HELD_AT_ONCE];
    unsigned n = 0;

    for (unsigned i = 0; i < HELD_AT_ONCE; i++) {
        const struct slot *slot = &readers->slots[next_random(random) % readers->slot_count];
        const struct stamp *object = weir_load_acquire(&slot->object); /* acquire: its stamp */
        if (object != NULL)
            held[n++] = (struct held){slot, object, weir_load_relaxed(&object->unique)};
    }
    if (n == 0)
        return false;
    pass_time(next_random(random));
    for (unsigned i = 0; i < n; i++) {
        bool stamped = held[i].unique >> 56 == STAMP_BYTE && (held[i].unique & 0xff) == STAMP_BYTE;
        checks->made++;
        checks->handed += weir_load_relaxed(&held[i].slot->object) != held[i].object;
        checks->violations += !stamped || !intact(held[i].object, held[i].unique);
    }
    return true;
}

static void *reader_main(void *arg)
{
    struct readers *readers = arg;
    struct checks checks = {0};
    uint64_t random = UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)(uintptr_t)&checks;

    prctl(PR_SET_TIMERSLACK, 1UL); /* sleep for microseconds, if that is asked for */
    urcu_qsbr_register_thread();
    while (weir_load_relaxed(&readers->stop) == 0) {
        if (hold(readers, &random, &checks)) {
            urcu_qsbr_quiescent_state();
        } else {
            urcu_qsbr_thread_offline();
            pass_time(~UINT64_C(0));
            urcu_qsbr_thread_online();
        }
    }
    urcu_qsbr_unregister_thread();

    pthread_mutex_lock(&readers->mutex);
    readers->checks.made += checks.made;
    readers->checks.handed += checks.handed;
    readers->checks.violations += checks.violations;
    pthread_mutex_unlock(&readers->mutex);
    return NULL;
}

bool readers_init(struct readers *readers, unsigned count, unsigned workers)
{
    *readers = (struct readers){.slot_count = workers * SLOTS_PER_WORKER, .count = count};
    pthread_mutex_init(&readers->mutex, NULL);
    readers->slots = aligned_alloc(WEIR_LINE_PAIR, readers->slot_count * sizeof readers->slots[0]);
    readers->threads = calloc(count + 1, sizeof readers->threads[0]);
    if (readers->slots == NULL || readers->threads == NULL)
        return false;
    memset(readers->slots, 0, readers->slot_count * sizeof readers->slots[0]);
    return true;
}

bool readers_start(struct readers *readers)
{
    weir_store_relaxed(&readers->stop, 0u);
    for (readers->running = 0; readers->running < readers->count; readers->running++)
        if (pthread_create(&readers->threads[readers->running], NULL, reader_main, readers) != 0)
            return false;
    return true;
}

void readers_stop(struct readers *readers)
{
    weir_store_relaxed(&readers->stop, 1u);
    while (readers->running != 0)
        pthread_join(readers->threads[--readers->running], NULL);
}
