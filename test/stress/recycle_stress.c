/* SPDX-License-Identifier: MIT */
/*
 * A recycling ring between one consumer and the others, and a signal handler that interrupts all of them and
 * returns buffers too, over an allocator that fails at random: with a ring that is seldom full, and with ones
 * that mostly are. Every buffer is in one place.
 */
#include <string.h>

#include "stress.h"

#define FIXTURE_FAIL(...) stress_fail(__VA_ARGS__)
#include "fixtures.h"
#include "weir/recycle.h"

enum { OBJECTS = 4096, MAIL = 256, SOME = 40 };

static struct backend backend;
static struct weir_recycle *recycle;
static uint64_t calls;

/* What the consumer hands to one of the others, and to the handler, who is the last. */
static struct mailbox {
    void *slot[MAIL];
} mailbox[STRESS_MAX_THREADS + 1];
static unsigned mailboxes;

static size_t alloc_or_fail(void *arg, size_t n, void *objects[])
{
    uint64_t random =
        (weir_fetch_add_relaxed(&calls, UINT64_C(1)) + stress.seed) * UINT64_C(0x9E3779B97F4A7C15) | 1;
    uint64_t dice = stress_random(&random);
    return dice % 4 == 0 ? 0 : backend_alloc(arg, dice % 4 == 1 ? (n + 1) / 2 : n, objects);
}

static const struct weir_cache_ops ops = {alloc_or_fail, backend_free};

/* --- the others --- */

static void put(size_t n, void *buffers[])
{
    for (size_t i = 0; i < n; i++)
        backend_disown(buffers[i]);
    if (n == 1)
        weir_recycle_free(recycle, buffers[0]);
    else
        weir_recycle_free_bulk(recycle, n, buffers);
}

/* Up to `most` from a mailbox. */
static size_t collect(struct mailbox *box, size_t from, size_t most, void *buffers[])
{
    size_t n = 0;
    for (size_t i = 0; i < MAIL && n < most; i++) {
        void **slot = &box->slot[(from + i) % MAIL];
        if (weir_load_relaxed(slot) != NULL && (buffers[n] = weir_xchg_acquire(slot, (void *)NULL)) != NULL)
            n++;
    }
    return n;
}

static void interrupt(void)
{
    void *buffers[2];
    size_t n = collect(&mailbox[mailboxes - 1], (size_t)stress_depth * 17, 1 + (stress_depth & 1), buffers);
    put(n, buffers);
}

static void return_buffers(unsigned self, uint64_t *random)
{
    void *buffers[SOME];
    while (!stress_stopped()) {
        uint64_t dice = stress_random(random);
        put(collect(&mailbox[self], dice >> 16, 1 + dice % SOME, buffers), buffers);
    }
}

/* --- the consumer --- */

static size_t get(size_t n, void *buffers[])
{
    size_t got = 0;
    if (n > 1)
        got = weir_recycle_alloc_bulk(recycle, n, buffers);
    else if ((buffers[0] = weir_recycle_alloc(recycle)) != NULL)
        got = 1;
    for (size_t i = 0; i < got; i++)
        backend_own(&backend, buffers[i]);
    return got;
}

/* Into a mailbox; the rest, and sometimes all, back by itself. */
static void hand_out(size_t n, void *buffers[], uint64_t dice)
{
    struct mailbox *box = &mailbox[1 + dice % (mailboxes - 1)];
    for (size_t i = 0; i < n; i++) {
        void **slot = &box->slot[((dice >> 8) + i) % MAIL];
        if (dice >> 30 & 3 && weir_load_relaxed(slot) == NULL)
            weir_store_release(slot, buffers[i]); /* pairs with the acquire in collect() */
        else if (dice >> 32 & 1)
            weir_recycle_free_local(recycle, backend_disown(buffers[i]));
        else
            put(1, &buffers[i]);
    }
}

static void consume(uint64_t *random)
{
    void *buffers[SOME];
    while (!stress_stopped()) {
        uint64_t dice = stress_random(random);
        size_t n = get(dice & 1 ? 1 : 1 + (dice >> 1) % SOME, buffers);
        hand_out(n, buffers, dice >> 8);
    }
}

static void *work(void *argument)
{
    unsigned self = (unsigned)(uintptr_t)argument;
    uint64_t random = stress_seed(self);
    if (self == 0)
        consume(&random);
    else
        return_buffers(self, &random);
    return NULL;
}

/* --- rounds --- */

static void round_with(size_t ring, size_t cache, size_t refill)
{
    struct weir_recycle_config config = {&ops, &backend, ring, cache, refill};
    struct weir_recycle_stats stats;
    void *buffers[MAIL];
    backend_init(&backend, OBJECTS);
    if (weir_recycle_create(&recycle, &config) != 0)
        stress_fail("cannot begin");
    stress_run(work, stress.milliseconds / 3 + 1, interrupt);
    for (unsigned i = 1; i < mailboxes; i++)
        put(collect(&mailbox[i], 0, MAIL, buffers), buffers);
    weir_recycle_stats(recycle, &stats);
    if (stats.cached + stats.ring != backend_lent(&backend))
        stress_fail("%zu in the cache, %zu in the ring; the allocator misses %zu", stats.cached, stats.ring,
                    backend_lent(&backend));
    if (stats.slow != backend.given || stats.full != backend.taken)
        stress_fail("counts that do not agree with the allocator's");
    printf("ring %zu: fast %llu slow %llu refill %llu empty %llu full %llu\n", ring,
           (unsigned long long)stats.fast, (unsigned long long)stats.slow, (unsigned long long)stats.refill,
           (unsigned long long)stats.empty, (unsigned long long)stats.full);
    if (weir_recycle_destroy(recycle) != 0)
        stress_fail("a place of the ring was never written");
    backend_destroy(&backend);
}

int main(int argc, char **argv)
{
    stress_start(argc, argv);
    mailboxes = stress.threads + 1;
    round_with(1024, 128, 64);
    round_with(64, 8, 8);
    round_with(2, 3, 2);
    return 0;
}
