/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the library put around it, all of it under the test's control: a source of grace periods
 * that ends one when it is told to, a backend that counts, memory for magazines that runs out, and the CPU to
 * be on.
 *
 * FIXTURE_FAIL(format, ...) reports what the library did wrong; it may be called in any thread.
 */
#ifndef FIXTURES_H
#define FIXTURES_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "blocks.h"
#include "weir/grace.h"
#include "weir/percpu.h"
#include "weir/stack.h"

#if WEIR__RSEQ
#include <sys/syscall.h>
#endif

#ifndef FIXTURE_FAIL
#define FIXTURE_FAIL(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), abort())
#endif

/* How long to wait for what has to come: no verdict depends on it but "never". */
enum { FIXTURE_PATIENCE_SECONDS = 60 };

static inline struct timespec fixture_deadline(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    time.tv_sec += FIXTURE_PATIENCE_SECONDS;
    return time;
}

static inline void fixture_sleep(unsigned microseconds)
{
    struct timespec time = {microseconds / 1000000, (long)(microseconds % 1000000) * 1000};
    nanosleep(&time, NULL);
}

/* Waits until the condition holds; fails if it never does. */
#define FIXTURE_AWAIT(condition)                                                                             \
    do {                                                                                                     \
        time_t fixture_end = fixture_deadline(CLOCK_MONOTONIC).tv_sec;                                       \
        while (!(condition)) {                                                                               \
            struct timespec fixture_now;                                                                     \
            clock_gettime(CLOCK_MONOTONIC, &fixture_now);                                                    \
            if (fixture_now.tv_sec > fixture_end)                                                            \
                FIXTURE_FAIL("%s:%d: never came true: %s", __FILE__, __LINE__, #condition);                  \
            fixture_sleep(200);                                                                              \
        }                                                                                                    \
    } while (0)

static inline uint64_t fixture_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

static inline pthread_t fixture_thread(void *(*run)(void *), void *arg)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, arg))
        FIXTURE_FAIL("cannot start a thread");
    return thread;
}

static inline bool fixture_locked(void)
{
    return weir_percpu_mode() == WEIR_PERCPU_LOCK;
}

/* --- CPUs --- */

/* CPUs that this process may run on; how many, of up to `max`. */
static inline unsigned fixture_cpus(unsigned cpus[], unsigned max)
{
    cpu_set_t set;
    unsigned n = 0;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set))
        FIXTURE_FAIL("sched_getaffinity: %s", strerror(errno));
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && n < max; cpu++)
        if (CPU_ISSET(cpu, &set))
            cpus[n++] = cpu;
    return n;
}

static inline void fixture_pin(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        FIXTURE_FAIL("cannot run on CPU %u: %s", cpu, strerror(errno));
}

/* Goes to one of `nr` CPUs, or lets the scheduler choose among all of them, as the dice say. */
static inline void fixture_change_cpu(const unsigned cpus[], unsigned nr, uint64_t dice)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned i = 0; i < nr; i++)
        if (dice % (nr + 1) == i || dice % (nr + 1) == nr)
            CPU_SET(cpus[i], &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* Stays on the first CPU; which one that is, and another one (the same, if there is only one). */
static inline unsigned fixture_stay(unsigned *other)
{
    unsigned cpus[2], n = fixture_cpus(cpus, 2);
    fixture_pin(cpus[0]);
    if (other)
        *other = cpus[n - 1];
    return cpus[0];
}

#if WEIR__RSEQ
/* Makes the calling thread one whose rseq is not registered, with the CPU number `cpu_id`: -1, and weir
 * registers it if the C library did not, or -2, and it stays so. False if that cannot be done. */
static inline bool fixture_unregister_rseq(int32_t cpu_id)
{
    enum { UNREGISTER = 1 };
    weir_percpu_init();
    char *area = weir__thread_pointer() + weir__rseq_area.offset;
    int32_t before;
    memcpy(&before, area + 4, sizeof before);
    bool done = before < 0; /* in WEIR_PERCPU_LOCK it never was */
    /* The C library registered a fixed 32 bytes, or all of a larger area. */
    for (unsigned size = 32; size <= 1024 && !done; size += 32)
        done = syscall(SYS_rseq, area, size, UNREGISTER, WEIR__RSEQ_SIGNATURE) == 0;
    if (done)
        memcpy(area + 4, &cpu_id, sizeof cpu_id);
    return done;
}
#endif

/* --- grace periods that end when they are told to --- */

struct gate {
    struct weir_grace *grace;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned begun, ended, allowed;
    bool open; /* lets all of them end at once */
};

static inline void gate_synchronize(void *arg)
{
    struct gate *gate = arg;
    pthread_mutex_lock(&gate->mutex);
    gate->begun++;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open && gate->allowed == 0)
        pthread_cond_wait(&gate->changed, &gate->mutex);
    if (!gate->open)
        gate->allowed--;
    gate->ended++;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

static inline void gate_create(struct gate *gate, bool open)
{
    *gate = (struct gate){.open = open};
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->changed, NULL);
    struct weir_grace_source source = {.name = "gate", .synchronize = gate_synchronize, .arg = gate};
    if (weir_grace_create(&gate->grace, &source))
        FIXTURE_FAIL("cannot create a source of grace periods");
}

static inline void gate_set(struct gate *gate, bool open, unsigned allowed)
{
    pthread_mutex_lock(&gate->mutex);
    gate->open = open;
    gate->allowed += allowed;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

/* From now on they end by themselves. */
static inline void gate_open(struct gate *gate)
{
    gate_set(gate, true, 0);
}

/* Lets one end. */
static inline void gate_let_one(struct gate *gate)
{
    gate_set(gate, false, 1);
}

static inline void gate_await(struct gate *gate, const unsigned *count, unsigned least)
{
    struct timespec deadline = fixture_deadline(CLOCK_REALTIME);
    pthread_mutex_lock(&gate->mutex);
    while (*count < least)
        if (pthread_cond_timedwait(&gate->changed, &gate->mutex, &deadline) == ETIMEDOUT)
            FIXTURE_FAIL("%u grace periods have begun and %u have ended; %u never did", gate->begun,
                         gate->ended, least);
    pthread_mutex_unlock(&gate->mutex);
}

static inline void gate_await_begun(struct gate *gate, unsigned least)
{
    gate_await(gate, &gate->begun, least);
}

static inline unsigned gate_begun(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    unsigned begun = gate->begun;
    pthread_mutex_unlock(&gate->mutex);
    return begun;
}

static inline void gate_destroy(struct gate *gate)
{
    gate_open(gate);
    weir_grace_put(gate->grace);
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->mutex);
}

/* --- memory for magazines that runs out --- */

struct chunks {
    size_t bytes;               /* per chunk */
    unsigned fail_from, fail_n; /* of the calls, counted from 1, those that get nothing; fail_n 0: none */
    unsigned fail_percent;      /* ... and so many of the others, at random */
    bool mapped;                /* from the system: for signal handlers, where malloc() must not be called */
    unsigned calls, out;
    uint64_t random;
};

static inline void *chunks_get(void *arg, size_t *bytes)
{
    struct chunks *chunks = arg;
    unsigned call = weir_fetch_add_relaxed(&chunks->calls, 1u) + 1;
    if (call >= chunks->fail_from && call - chunks->fail_from < chunks->fail_n)
        return NULL;
    uint64_t random = call * UINT64_C(0x9E3779B97F4A7C15) ^ chunks->random;
    if (chunks->fail_percent && fixture_random(&random) % 100 < chunks->fail_percent)
        return NULL;
    weir_fetch_add_relaxed(&chunks->out, 1u);
    *bytes = chunks->bytes;
    if (!chunks->mapped)
        return aligned_alloc(16, (chunks->bytes + 15) / 16 * 16);
    return mmap(NULL, chunks->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static inline void chunks_put(void *arg, void *chunk, size_t bytes)
{
    struct chunks *chunks = arg;
    if (bytes != chunks->bytes)
        FIXTURE_FAIL("a chunk of %zu bytes came back as one of %zu", chunks->bytes, bytes);
    weir_fetch_sub_relaxed(&chunks->out, 1u);
    if (chunks->mapped)
        munmap(chunk, bytes);
    else
        free(chunk);
}

/* Chunks that hold `magazines` of `capacity` pointers each. */
static inline struct weir_block_source chunks_init(struct chunks *chunks, size_t magazines, size_t capacity)
{
    *chunks = (struct chunks){.bytes = WEIR__CHUNK_HEADER +
                                       magazines * WEIR__CHUNK_STRIDE(WEIR_MAGAZINE_BYTES(capacity))};
    return (struct weir_block_source){chunks_get, chunks_put, chunks, 0};
}

/* --- a backend that counts --- */

struct backend_object {
    struct weir_stack_node node;
    unsigned lent;           /* the cache got it from the backend */
    unsigned owned;          /* somebody got it from the cache */
    uint64_t payload, check; /* plain: whoever owns it writes it */
};

struct backend {
    struct backend_object *objects;
    size_t nr;
    size_t most;                      /* that one call gives */
    uint64_t fail_from, fail_n;       /* of the allocating calls, counted from 1, those that give nothing */
    void (*entered)(void);            /* NULL, or called first by either function */
    uint64_t alloc_calls, free_calls; /* so many were made, */
    uint64_t given, taken;            /* ... and moved so many objects */
    struct weir_stack idle;
};

static inline size_t backend_alloc(void *arg, size_t n, void *objects[])
{
    struct backend *backend = arg;
    uint64_t call = weir_fetch_add_relaxed(&backend->alloc_calls, UINT64_C(1)) + 1;
    size_t got = 0;

    if (backend->entered)
        backend->entered();
    if (n == 0)
        FIXTURE_FAIL("the backend was asked for nothing");
    if (call >= backend->fail_from && call - backend->fail_from < backend->fail_n)
        return 0;
    while (got < n && got < backend->most) {
        struct weir_stack_node *node = weir_stack_pop(&backend->idle);
        if (!node)
            break;
        struct backend_object *object = (struct backend_object *)(void *)node;
        if (weir_xchg_relaxed(&object->lent, 1u) != 0)
            FIXTURE_FAIL("the backend's list is broken");
        objects[got++] = object;
    }
    weir_fetch_add_relaxed(&backend->given, (uint64_t)got);
    return got;
}

/* Scribbles over the array: the contract allows that. */
static inline void backend_free(void *arg, size_t n, void *objects[])
{
    struct backend *backend = arg;
    weir_fetch_add_relaxed(&backend->free_calls, UINT64_C(1));
    if (backend->entered)
        backend->entered();
    if (n == 0)
        FIXTURE_FAIL("the backend was given nothing");
    for (size_t i = 0; i < n; i++) {
        struct backend_object *object = objects[i];
        size_t offset = (size_t)((char *)object - (char *)backend->objects);
        if (offset / sizeof *object >= backend->nr || offset % sizeof *object != 0)
            FIXTURE_FAIL("the backend was given %p, none of its objects", objects[i]);
        if (weir_load_relaxed(&object->owned))
            FIXTURE_FAIL("the backend was given an object that somebody owns");
        if (weir_xchg_relaxed(&object->lent, 0u) != 1)
            FIXTURE_FAIL("the backend was given an object twice");
        objects[i] = backend;
        weir_stack_push(&backend->idle, &object->node);
    }
    weir_fetch_add_relaxed(&backend->taken, (uint64_t)n);
}

static inline void backend_init(struct backend *backend, size_t nr)
{
    *backend =
        (struct backend){.objects = calloc(nr, sizeof backend->objects[0]), .nr = nr, .most = SIZE_MAX};
    if (!backend->objects)
        FIXTURE_FAIL("out of memory");
    weir_stack_init(&backend->idle);
    for (size_t i = nr; i-- > 0;)
        weir_stack_push(&backend->idle, &backend->objects[i].node);
}

/* Objects that are not in the backend. */
static inline size_t backend_lent(const struct backend *backend)
{
    size_t lent = 0;
    for (size_t i = 0; i < backend->nr; i++)
        lent += weir_load_relaxed(&backend->objects[i].lent);
    return lent;
}

static inline size_t backend_owned(const struct backend *backend)
{
    size_t owned = 0;
    for (size_t i = 0; i < backend->nr; i++)
        owned += weir_load_relaxed(&backend->objects[i].owned);
    return owned;
}

/* Every object must be back. */
static inline void backend_destroy(struct backend *backend)
{
    size_t lost = backend_lent(backend);
    if (lost != 0)
        FIXTURE_FAIL("%zu of %zu objects did not come back to the backend", lost, backend->nr);
    free(backend->objects);
}

/* The caller got `object` from the cache. */
static inline void *backend_own(const struct backend *backend, void *pointer)
{
    struct backend_object *object = pointer;
    size_t offset = (size_t)((char *)object - (char *)backend->objects);
    if (offset / sizeof *object >= backend->nr || offset % sizeof *object != 0)
        FIXTURE_FAIL("the cache gave %p, none of the backend's objects", pointer);
    if (weir_xchg_relaxed(&object->owned, 1u) != 0)
        FIXTURE_FAIL("an object was handed out twice");
    if (weir_load_relaxed(&object->lent) != 1)
        FIXTURE_FAIL("an object was handed out that lies in the backend");
    if (object->check != object->payload * 3)
        FIXTURE_FAIL("an object was handed out before what its last owner wrote was visible");
    return object;
}

/* The caller is about to give it to the cache, while others may still read it. */
static inline void *backend_disown_shared(void *pointer)
{
    struct backend_object *object = pointer;
    if (weir_xchg_relaxed(&object->owned, 0u) != 1)
        FIXTURE_FAIL("an object had two owners");
    return object;
}

/* The caller is about to give it to the cache. */
static inline void *backend_disown(void *pointer)
{
    struct backend_object *object = pointer;
    object->payload++;
    object->check = object->payload * 3;
    return backend_disown_shared(object);
}

#endif
