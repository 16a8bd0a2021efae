/* SPDX-License-Identifier: MIT */
/*
 * weir/percpu.h: threads, and a signal handler that interrupts them, get, put and exchange in shared slots,
 * change CPUs, and take the magazines of other CPUs away from under each other. One thread does nothing but
 * send signals to the others, on top of the timer's; others come, use the slots once, and go. Every object
 * is counted, every magazine too.
 */
#include "stress.h"

#define FIXTURE_FAIL stress_fail
#include "fixtures.h"
#include "weir/pool.h"

enum { NODES = 400, MAGAZINES = 48, CAPACITY = 7, HANDFUL = 2 * CAPACITY };

struct object {
    struct weir_stack_node node;
    struct stress_mark mark;
};

static struct object objects[NODES];
static char magazines[MAGAZINES][WEIR_MAGAZINE_BYTES(CAPACITY)] __attribute__((aligned(16)));
static struct weir_percpu_slot *slots;
static struct weir_pool outside; /* objects in no slot */
static struct weir_pool empty;   /* magazines in no slot */
static unsigned cpus[64], nr_cpus;

static void put_outside(struct object *object)
{
    stress_give(&object->mark);
    weir_pool_put(&outside, &object->node);
}

static struct object *get_outside(void)
{
    struct object *object = (struct object *)(void *)weir_pool_get(&outside);
    if (object)
        stress_take(&object->mark);
    return object;
}

/* Takes what is in a magazine that is ours, and puts the magazine with the empty ones. */
static void unload(struct weir_magazine *magazine)
{
    struct object *object;
    if (magazine->count > CAPACITY)
        stress_fail("a magazine counts %u of %u", magazine->count, CAPACITY);
    while ((object = weir_magazine_get(magazine)) != NULL) {
        stress_take(&object->mark);
        put_outside(object);
    }
    weir_pool_put(&empty, &magazine->node);
}

static void put(struct object *object)
{
    stress_give(&object->mark);
    if (weir_percpu_put(slots, object))
        return;
    stress_take(&object->mark); /* nobody else had it */
    put_outside(object);
}

static struct object *get(void)
{
    struct object *object = weir_percpu_get(slots);
    if (object)
        stress_take(&object->mark);
    return object;
}

static void put_n(size_t n)
{
    void *array[HANDFUL];
    size_t have = 0;
    for (struct object *object; have < n && (object = get_outside()) != NULL;) {
        stress_give(&object->mark);
        array[have++] = object;
    }
    size_t done = weir_percpu_put_n(slots, have, array);
    if (done > have)
        stress_fail("put_n of %zu says %zu", have, done);
    for (size_t i = 0; i < have - done; i++) {
        stress_take(&((struct object *)array[i])->mark);
        put_outside(array[i]);
    }
}

static void get_n(size_t n)
{
    void *array[HANDFUL];
    size_t got = weir_percpu_get_n(slots, n, array);
    if (got > n)
        stress_fail("get_n of %zu says %zu", n, got);
    for (size_t i = 0; i < got; i++)
        stress_take(&((struct object *)array[i])->mark);
    for (size_t i = 0; i < got; i++)
        put_outside(array[i]);
}

/* Puts a magazine with `n` objects into this CPU's slot. */
static void exchange(size_t n)
{
    struct weir_magazine *magazine = weir_magazine_of_node(weir_pool_get(&empty)), *old = NULL;
    struct object *object;
    if (!magazine)
        return;
    while (magazine->count < n && (object = get_outside()) != NULL) {
        stress_give(&object->mark);
        weir_magazine_put(magazine, object);
    }
    if (!weir_percpu_exchange(slots, magazine, &old))
        old = magazine;
    if (old != &weir_percpu_none)
        unload(old);
}

/* The objects of another CPU's magazine are nobody's until no CPU is in the middle of using it. */
static void detach(unsigned cpu, bool settle_all)
{
    struct weir_magazine *magazine = weir_percpu_detach(slots, cpu);
    if (!magazine || magazine == &weir_percpu_none)
        return;
    if (settle_all)
        weir_percpu_settle();
    else
        weir_percpu_settle_cpu(cpu);
    unload(magazine);
}

static void interrupt(void)
{
    struct object *one = get(), *other = get();
    if (one)
        put(one);
    if (other)
        put_outside(other);
    get_n(2);
    put_n(3);
    exchange(1);
}

/* Others find them all before they are joined: the thread that sends to them ends first. */
static pthread_t workers[STRESS_MAX_THREADS];
static unsigned started;

static void *storm(uint64_t random)
{
    while (!stress_stopped()) {
        unsigned who = 1 + (unsigned)(stress_random(&random) % (stress.threads - 1));
        /* Acquire: pairs with the release in work(). */
        if (weir_load_acquire(&started) >> who & 1)
            pthread_kill(workers[who], SIGALRM);
        if ((stress_random(&random) & 7) == 0)
            sched_yield();
    }
    return NULL;
}

static void *come_and_go(void *unused)
{
    interrupt();
    return unused;
}

static void *work(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    uint64_t random = stress_seed(number);
    if (number == 0)
        return storm(random);
    workers[number] = pthread_self();
    weir_fetch_add_release(&started, 1u << number); /* pairs with the acquire in storm() */
    while (!stress_stopped()) {
        uint64_t dice = stress_random(&random);
        size_t n = dice >> 8 & 15;
        struct object *object;
        n = n < HANDFUL ? n : HANDFUL;
        switch (dice & 31) {
        case 0:
            if ((dice >> 12 & 15) == 0)
                fixture_change_cpu(cpus, nr_cpus, dice >> 16);
            else if ((dice >> 12 & 255) == 1)
                pthread_join(fixture_thread(come_and_go, NULL), NULL);
            break;
        case 1:
        case 2:
            detach(cpus[(dice >> 16) % nr_cpus], dice >> 40 & 1);
            break;
        case 3:
        case 4:
        case 5:
            exchange(n % (CAPACITY + 1));
            break;
        case 6:
        case 7:
        case 8:
            get_n(n);
            break;
        case 9:
        case 10:
        case 11:
            put_n(n);
            break;
        case 12:
            if (weir_percpu_count(slots, cpus[(dice >> 16) % nr_cpus]) > CAPACITY)
                stress_fail("a slot counts more than fits");
            break;
        default:
            object = dice >> 5 & 1 ? get() : get_outside();
            if (object && (dice >> 6 & 1))
                put(object);
            else if (object)
                put_outside(object);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    nr_cpus = fixture_cpus(cpus, 64);
    slots = weir_percpu_alloc();
    if (!slots)
        stress_fail("weir_percpu_alloc");
    puts(weir_percpu_reason());
    weir_percpu_slots_init(slots);
    weir_pool_init(&outside);
    weir_pool_init(&empty);
    for (unsigned i = 0; i < NODES; i++)
        put_outside(&objects[i]);
    for (unsigned i = 0; i < MAGAZINES; i++)
        weir_pool_put(&empty, &weir_magazine_init(magazines[i], sizeof magazines[i])->node);

    stress_run(work, stress.milliseconds, interrupt);

    for (unsigned cpu = 0; cpu < weir_percpu_nr_cpus(); cpu++)
        detach(cpu, true);
    size_t found = 0, n;
    for (struct object *object; (object = get_outside()) != NULL;)
        found++;
    if (found != NODES)
        stress_fail("%zu of %u objects are left", found, NODES);
    weir_pool_drain(&empty, &n);
    if (n != MAGAZINES)
        stress_fail("%zu of %u magazines are left", n, MAGAZINES);
    weir_percpu_free(slots);
    return 0;
}
