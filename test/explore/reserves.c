/* SPDX-License-Identifier: MIT */
/* reserves.c - the protocols of src/reserve.h and src/ring.h. Programs with a mistake in them must fail. */
#include "reserves.h"

#include <string.h>

#include "../../src/reserve.h"

/* What the ring checks in checked builds ends the run here. */
#undef weir__check
#define weir__check(holds, function, object, rule) ((holds) ? (void)0 : explore_fail("%s %s", function, rule))
#include "../../src/ring.h"

enum { OBJECTS = 4, THREADS = EXPLORE_THREADS };

/* What is handed over: 1 + its number, written by who hands it over. */
static uint64_t object[OBJECTS];
static void *held[THREADS][OBJECTS]; /* what a thread has in the end */
static unsigned holds[THREADS];

static bool mistaken; /* the program's mistake is made */

static void hold(unsigned thread, size_t n, void *const objects[])
{
    for (size_t i = 0; i < n; i++) {
        uint64_t *it = objects[i];
        if (it < object || it >= object + OBJECTS)
            explore_fail("%p was handed out, which is no object", objects[i]);
        if (explore_read_owned(it) != 1 + (uint64_t)(it - object))
            explore_fail("an object was handed out before what was written to it");
        held[thread][holds[thread]++] = it;
    }
}

static void start_objects(void)
{
    memset(object, 0, sizeof object);
    memset(holds, 0, sizeof holds);
}

static void *hand_over(unsigned number)
{
    explore_write_owned(&object[number], 1 + number);
    return &object[number];
}

/* Each of the first n is in one place: in `rest`, or held. */
static void count_objects(unsigned n, void *const rest[], unsigned in_rest)
{
    unsigned seen[OBJECTS] = {0};
    for (unsigned i = 0; i < in_rest; i++)
        if (rest[i] != NULL)
            seen[(uint64_t *)rest[i] - object]++;
    for (unsigned t = 0; t < THREADS; t++)
        for (unsigned i = 0; i < holds[t]; i++)
            seen[(uint64_t *)held[t][i] - object]++;
    for (unsigned i = 0; i < n; i++)
        if (seen[i] != 1)
            explore_fail("object %u is in %u places", i, seen[i]);
}

/* --- the reserve --- */

static struct weir__reserve reserve;
static struct weir__cell cells[OBJECTS];
static unsigned nr; /* of them */
static bool asleep;
static uint64_t moment; /* an access to it lets others come in between */

/* `filled` of `all` cells are filled, with the first objects. */
static void start_reserve(unsigned filled, unsigned all)
{
    start_objects();
    weir__reserve_init(&reserve);
    asleep = false;
    nr = all;
    for (unsigned i = 0; i < all; i++) {
        cells[i].element = NULL;
        weir_stack_push(&reserve.vacant, &cells[i].node);
    }
    for (unsigned i = 0; i < filled; i++) {
        void *element = hand_over(i);
        weir__reserve_put(&reserve, 1, &element);
    }
}

static void count_cells(unsigned objects)
{
    void *rest[OBJECTS];
    unsigned filled = 0;
    for (unsigned i = 0; i < nr; i++) {
        rest[i] = cells[i].element;
        filled += rest[i] != NULL;
    }
    if (weir_pool_count(&reserve.filled) != filled)
        explore_fail("%u cells are filled, and it counts %zu", filled, weir_pool_count(&reserve.filled));
    count_objects(objects, rest, nr);
}

/* By a thread that takes all or none. */
static bool take(unsigned thread, size_t n)
{
    void *elements[OBJECTS];
    if (!weir__reserve_take(&reserve, n, elements))
        return false;
    hold(thread, n, elements);
    return true;
}

static void put_back(unsigned thread)
{
    size_t kept = weir__reserve_put(&reserve, holds[thread], held[thread]);
    if (kept != holds[thread])
        explore_fail("%zu of %u found a vacant cell", kept, holds[thread]);
    holds[thread] = 0;
}

static void start_wait(void *arg)
{
    (void)arg;
    start_reserve(0, 2);
}

static void wait_for(size_t n)
{
    weir__reserve_line_up(&reserve);
    uint32_t seen = weir__reserve_seen(&reserve);
    if (take(0, n))
        return;
    if (mistaken)
        seen = weir__reserve_seen(&reserve); /* the mistake: reads the count after it has looked */
    /* The kernel looks at the newest value. */
    asleep = weir_fetch_add_relaxed(&reserve.returns, 0u) == seen;
}

static void put_and_wake(unsigned number)
{
    void *element = hand_over(number);
    weir__reserve_put(&reserve, 1, &element);
    if (!weir__reserve_tell(&reserve))
        return;
    weir_load_relaxed(&moment);
    asleep = false;
}

static void run_wait(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0)
        wait_for(1);
    else
        put_and_wake(thread - 1);
}

/* The mistake: who puts looks first whether there is somebody to tell. */
static void run_look_first(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        wait_for(1);
    } else {
        void *element = hand_over(0);
        weir__reserve_put(&reserve, 1, &element);
        if (weir__reserve_line(&reserve) && weir__reserve_tell(&reserve))
            asleep = false;
    }
}

static void finish_wait(void *arg)
{
    (void)arg;
    if (asleep)
        explore_fail("there is an element, and who waits for it sleeps");
}

static void finish_wait_one(void *arg)
{
    count_cells(1);
    finish_wait(arg);
}

static void finish_wait_two(void *arg)
{
    count_cells(2);
    finish_wait(arg);
}

static void run_wait_two(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0)
        wait_for(2);
    else
        put_and_wake(thread - 1);
}

static void start_three(void *arg)
{
    (void)arg;
    start_reserve(3, 3);
}

/* Two that each want two of three. The mistake: takes one after the other. */
static void run_two_of_three(void *arg, unsigned thread)
{
    (void)arg;
    bool got = mistaken ? take(thread, 1) && take(thread, 1) : take(thread, 2);
    if (holds[thread] != (got ? 2u : 0u))
        explore_fail("one of two is held");
    if (got && thread == 0)
        put_back(0);
}

static void start_one(void *arg)
{
    (void)arg;
    start_reserve(1, 2);
}

static void run_bulk_single_put(void *arg, unsigned thread)
{
    (void)arg;
    void *element;
    if (thread == 0)
        take(0, 2);
    else if (thread == 1)
        take(1, 1);
    else {
        element = hand_over(1);
        if (weir__reserve_put(&reserve, 1, &element) != 1)
            hold(2, 1, &element); /* the vacant cell is in somebody's hands */
    }
}

static void finish_two(void *arg)
{
    (void)arg;
    count_cells(2);
}

static void finish_three(void *arg)
{
    (void)arg;
    count_cells(3);
}

/* --- the ring --- */

static struct weir__ring ring;
static void *place[4];

static void start_ring(uint64_t size)
{
    start_objects();
    memset(place, 0, sizeof place);
    ring = (struct weir__ring){.place = place, .size = size};
}

static void ring_put(unsigned thread, unsigned first, size_t n)
{
    void *objects[OBJECTS];
    for (unsigned i = 0; i < n; i++)
        objects[i] = hand_over(first + i);
    size_t kept = weir__ring_put(&ring, n, objects);
    hold(thread, n - kept, objects + kept);
}

/* The mistake: says that the places are empty before they are. */
static void take_early(void)
{
    void *it = weir_load_acquire(&ring.place[ring.head & (ring.size - 1)]);
    if (it == NULL)
        return;
    uint64_t head = ring.head;
    weir_store_release(&ring.head, head + 1);
    weir_store_relaxed(&ring.place[head & (ring.size - 1)], (void *)NULL);
    hold(0, 1, &it);
}

static void ring_take(size_t n)
{
    void *objects[OBJECTS];
    if (mistaken)
        take_early();
    else
        hold(0, weir__ring_take(&ring, n, objects), objects);
}

static void start_ring_1(void *arg)
{
    (void)arg;
    start_ring(1);
}

static void start_ring_2(void *arg)
{
    (void)arg;
    start_ring(2);
}

static void start_ring_4(void *arg)
{
    (void)arg;
    start_ring(4);
}

/* One puts one after the other. */
static void run_laps(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        ring_take(1);
        ring_take(1);
    } else {
        ring_put(1, 0, 1);
        ring_put(1, 1, 1);
        ring_put(1, 2, 1);
    }
}

static void run_bulk_laps(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0) {
        ring_take(2);
        ring_take(2);
    } else {
        ring_put(1, 0, 2);
        ring_put(1, 2, 2);
    }
}

static void run_producers(void *arg, unsigned thread)
{
    (void)arg;
    if (thread == 0)
        ring_take(3);
    else
        ring_put(thread, thread == 1 ? 0 : 2, thread == 1 ? 2 : 1);
}

static void finish_ring(void *arg)
{
    (void)arg;
    count_objects(3, place, 4);
    for (uint64_t i = 0; i < ring.size; i++)
        if ((place[(ring.head + i) & (ring.size - 1)] != NULL) != (i < ring.tail - ring.head))
            explore_fail("what is between head and tail is not what is in the ring");
}

/* --- all of them --- */

static const struct {
    const char *name;
    unsigned threads;
    void (*start)(void *arg);
    void (*run)(void *arg, unsigned thread);
    void (*finish)(void *arg);
    bool mistake;
    unsigned preemptions;
} programs[] = {
    {"reserve: one waits, one puts", 2, start_wait, run_wait, finish_wait_one, false, 3},
    {"reserve: one waits for two, two put", 3, start_wait, run_wait_two, finish_wait_two, false, 2},
    {"reserve: reads the count after the look", 2, start_wait, run_wait, finish_wait_one, true, 3},
    {"reserve: looks before it tells", 2, start_wait, run_look_first, finish_wait_one, true, 3},
    {"reserve: two want two of three", 2, start_three, run_two_of_three, finish_three, false, 3},
    {"reserve: takes one after the other", 2, start_three, run_two_of_three, finish_three, true, 3},
    {"reserve: two, one, and one more", 3, start_one, run_bulk_single_put, finish_two, false, 2},
    {"ring: one place, again and again", 2, start_ring_1, run_laps, finish_ring, false, EXPLORE_ANY},
    {"ring: two places, two at once", 2, start_ring_2, run_bulk_laps, finish_ring, false, EXPLORE_ANY},
    {"ring: two put, one takes", 3, start_ring_2, run_producers, finish_ring, false, 4},
    {"ring: two put, one takes, room for all", 3, start_ring_4, run_producers, finish_ring, false, 4},
    {"ring: head before the places are empty", 2, start_ring_1, run_laps, finish_ring, true, EXPLORE_ANY},
};

bool reserves(void)
{
    static struct explore_result result;
    bool ok = true;
    for (unsigned i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        const struct explore_program program = {.threads = programs[i].threads,
                                                .start = programs[i].start,
                                                .run = programs[i].run,
                                                .finish = programs[i].finish,
                                                .weak = true};
        mistaken = programs[i].mistake;
        explore_all(&program, programs[i].preemptions, 2, &result);
        bool right = result.failed == programs[i].mistake;
        ok = ok && right;
        printf("%-50s %7llu schedules, %s%s%s\n", programs[i].name, (unsigned long long)result.schedules,
               result.failed ? result.message : "all well", right ? "" : ": WRONG, ",
               right ? "" : result.schedule);
        fflush(stdout);
    }
    return ok;
}
