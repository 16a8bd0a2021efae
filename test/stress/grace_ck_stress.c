/* SPDX-License-Identifier: MIT */
/*
 * weir/grace.h over Concurrency Kit's epochs: writers replace objects in a table, take a cookie for the old
 * one, and poison and reuse it when that is satisfied. Readers, in sections, dwell on what they found before
 * they look at it. Meanwhile somebody uses the library's own ways to advance the epoch. First with a helper,
 * then without: whoever wants an object drives. Every object is used again once for each time it was retired.
 *
 * PROGRAM broken [THREADS ...]: with grace periods that are over at once. Must fail.
 */
#include "stress.h"

#define FIXTURE_FAIL stress_fail
#include "fixtures.h"

#include <ck_epoch.h>

enum { TABLE = 8, OBJECTS = 64 };
static const uint64_t ALIVE = 0x600D, POISON = 0xDEAD;

struct object {
    uint64_t magic, payload, check;
    weir_grace_cookie cookie;
    bool waiting;
};

static struct object objects[STRESS_MAX_THREADS][OBJECTS];
static struct object *table[TABLE];
static ck_epoch_t epoch;
static ck_epoch_record_t records[STRESS_MAX_THREADS];
static struct weir_grace *grace;
static uint64_t retired, reused;

static void dwell(uint64_t dice)
{
    if ((dice & 63) == 0)
        fixture_sleep((unsigned)(dice >> 8 & 255));
    else if ((dice & 63) < 8)
        sched_yield();
    else
        for (unsigned i = dice >> 8 & 63; i != 0; i--)
            weir_cpu_pause();
}

static void look(ck_epoch_record_t *record, uint64_t dice)
{
    ck_epoch_section_t section, *own = dice & 1 << 20 ? &section : NULL;
    ck_epoch_begin(record, own);
    const struct object *object = weir_load_acquire(&table[dice % TABLE]);
    if (object) {
        uint64_t payload = object->payload;
        dwell(dice >> 8);
        if (object->magic != ALIVE || object->payload != payload || object->check != ~payload)
            stress_fail("an object was used again while a reader was looking at it");
    }
    weir_grace_annotate_quiescent();
    ck_epoch_end(record, own);
}

/* The grace period of an object that waited is over: it is the writer's alone. */
static void reclaim(struct object *object)
{
    if (object->magic != ALIVE || object->check != ~object->payload)
        stress_fail("an object changed while it waited");
    object->magic = POISON;
    object->payload = object->check = 0;
    object->waiting = false;
    weir_fetch_add_relaxed(&reused, UINT64_C(1));
}

/* What a writer has: for each object that it puts on the table it gets at most one, which may be another's.
 * */
struct mine {
    struct object *idle[OBJECTS], *waiting[OBJECTS];
    size_t nr_idle, nr_waiting;
};

static void collect(struct mine *mine, bool wait)
{
    size_t kept = 0;
    for (size_t i = 0; i < mine->nr_waiting; i++) {
        struct object *object = mine->waiting[i];
        if (wait && weir_grace_wait(grace, object->cookie) != 0)
            stress_fail("weir_grace_wait failed");
        if (!wait && !weir_grace_poll(grace, object->cookie)) {
            mine->waiting[kept++] = object;
            continue;
        }
        reclaim(object);
        mine->idle[mine->nr_idle++] = object;
    }
    mine->nr_waiting = kept;
}

/* Puts an object on the table; what was there is the caller's when its grace period is over. */
static void replace(struct mine *mine, uint64_t dice)
{
    if (mine->nr_idle == 0) {
        weir_grace_drive(grace);
        collect(mine, (dice >> 40 & 7) == 0);
        return;
    }
    struct object *object = mine->idle[--mine->nr_idle], *old;
    object->payload = dice;
    object->check = ~dice;
    object->magic = ALIVE;
    /* Release: readers find a complete object. Acquire: the old one. */
    old = weir_xchg_acq_rel(&table[dice % TABLE], object);
    if (!old)
        return;
    if (old->waiting)
        stress_fail("an object was on the table that waits for its readers");
    old->waiting = true;
    old->cookie = weir_grace_start(grace);
    mine->waiting[mine->nr_waiting++] = old;
    weir_fetch_add_relaxed(&retired, UINT64_C(1));
}

static void *work(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    uint64_t random = stress_seed(number);
    struct mine mine = {.nr_idle = 0};
    bool writer = number % 2 == 0;
    for (unsigned i = 0; writer && i < OBJECTS; i++)
        mine.idle[mine.nr_idle++] = &objects[number][i];
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        if (writer)
            replace(&mine, dice);
        if (!writer || (dice >> 32 & 7) == 0)
            look(&records[number], dice);
        if (!writer && (dice >> 32 & 15) == 0)
            ck_epoch_poll(&records[number]);
        if (!writer && (dice >> 36 & 1023) == 0) {
            weir_grace_annotate_quiescent();
            ck_epoch_synchronize(&records[number]);
        }
        if (writer && (dice >> 36 & 15) == 0)
            collect(&mine, false);
    }
    collect(&mine, true);
    return NULL;
}

static bool break_it;

static uint64_t begin_broken(void *unused)
{
    (void)unused;
    return 0;
}

static bool over_at_once(void *unused, uint64_t begun)
{
    (void)unused;
    (void)begun;
    return true;
}

static void round_with(bool no_helper)
{
    struct weir_grace_source source = weir_grace_source_ck_epoch(&epoch);
    source.no_helper = no_helper;
    if (break_it) {
        source.begin = begin_broken;
        source.over = over_at_once;
    }
    ck_epoch_init(&epoch);
    for (unsigned i = 0; i < stress.threads; i++)
        ck_epoch_register(&epoch, &records[i], NULL);
    if (weir_grace_create(&grace, &source))
        stress_fail("cannot create the source");
    memset(table, 0, sizeof table);
    memset(objects, 0, sizeof objects);
    retired = reused = 0;
    stress_run(work, stress.milliseconds / 2, NULL);
    if (retired != reused)
        stress_fail("%llu objects were retired, but %llu used again", (unsigned long long)retired,
                    (unsigned long long)reused);
    printf("%llu objects, %llu grace periods, epoch %u\n", (unsigned long long)reused,
           (unsigned long long)weir_grace_periods(grace), epoch.epoch);
    fflush(stdout);
    weir_grace_put(grace);
}

int main(int argc, char **argv)
{
    break_it = argc > 1 && strcmp(argv[1], "broken") == 0;
    stress_start(argc - break_it, argv + break_it);
    round_with(false);
    round_with(true);
    return 0;
}
