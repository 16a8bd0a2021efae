/* SPDX-License-Identifier: MIT */
/*
 * The recycling ring: where a buffer goes and comes from, what is counted, what happens when there is no room
 * and no buffer, and what a stopped producer, and a fork(), leave.
 */
#include "fixtures.h"
#include "ring.h"
#include "weir/page_cache.h"
#include "weir/recycle.h"

#include <sys/wait.h>

#include "weir_test.h"

static const struct weir_cache_ops ops = {backend_alloc, backend_free};
static struct backend backend;
static struct weir_recycle *recycle;

static void create(size_t buffers, size_t ring, size_t cache, size_t refill)
{
    struct weir_recycle_config config = {&ops, &backend, ring, cache, refill};
    backend_init(&backend, buffers);
    cr_assert_eq(weir_recycle_create(&recycle, &config), 0);
}

static void destroy(void)
{
    cr_assert_eq(weir_recycle_destroy(recycle), 0);
    backend_destroy(&backend);
}

static void *get(void)
{
    void *buffer = weir_recycle_alloc(recycle);
    cr_assert_not_null(buffer);
    return backend_own(&backend, buffer);
}

static void get_all(void *buffers[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        buffers[i] = get();
}

static void put(void *buffer)
{
    weir_recycle_free(recycle, backend_disown(buffer));
}

static void put_local(void *buffer)
{
    weir_recycle_free_local(recycle, backend_disown(buffer));
}

static void put_all(void *buffers[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        backend_disown(buffers[i]);
    weir_recycle_free_bulk(recycle, n, buffers);
}

static void expect(uint64_t fast, uint64_t slow, uint64_t refill, uint64_t empty, uint64_t full)
{
    struct weir_recycle_stats stats;
    weir_recycle_stats(recycle, &stats);
    cr_assert_eq(stats.fast, fast, "fast is %llu", (unsigned long long)stats.fast);
    cr_assert_eq(stats.slow, slow, "slow is %llu", (unsigned long long)stats.slow);
    cr_assert_eq(stats.refill, refill, "refill is %llu", (unsigned long long)stats.refill);
    cr_assert_eq(stats.empty, empty, "empty is %llu", (unsigned long long)stats.empty);
    cr_assert_eq(stats.full, full, "full is %llu", (unsigned long long)stats.full);
}

static void expect_in(size_t cached, size_t ring)
{
    struct weir_recycle_stats stats;
    weir_recycle_stats(recycle, &stats);
    cr_assert_eq(stats.cached, cached, "cached is %zu", stats.cached);
    cr_assert_eq(stats.ring, ring, "ring is %zu", stats.ring);
}

/* --- configuration --- */

static void refused(struct weir_recycle_config config, const char *field)
{
    const char *error = weir_recycle_config_error(&config);
    cr_assert_not_null(error);
    cr_assert_eq(strncmp(error, field, strlen(field)), 0, "%s", error);
    recycle = (struct weir_recycle *)&backend;
    cr_assert_eq(weir_recycle_create(&recycle, &config), -EINVAL);
    cr_assert_null(recycle);
}

Test(recycle, bad_configurations_are_refused_by_name)
{
    static const struct weir_cache_ops no_alloc = {NULL, backend_free}, no_free = {backend_alloc, NULL};
    cr_assert_not_null(weir_recycle_config_error(NULL));
    cr_assert_eq(weir_recycle_create(&recycle, NULL), -EINVAL);
    refused((struct weir_recycle_config)WEIR_RECYCLE_CONFIG_INIT, "ops:");
    refused((struct weir_recycle_config){&no_alloc, NULL, 0, 0, 0}, "ops:");
    refused((struct weir_recycle_config){&no_free, NULL, 0, 0, 0}, "ops:");
    refused((struct weir_recycle_config){&ops, NULL, 3, 0, 0}, "ring:");
    refused((struct weir_recycle_config){&ops, NULL, 2 * WEIR_RECYCLE_RING_MAX, 0, 0}, "ring:");
    refused((struct weir_recycle_config){&ops, NULL, 0, WEIR_RECYCLE_CACHE_MAX + 1, 0}, "cache:");
    refused((struct weir_recycle_config){&ops, NULL, 0, 8, 9}, "refill:");
    refused((struct weir_recycle_config){&ops, NULL, 0, 0, WEIR_RECYCLE_CACHE_DEFAULT + 1}, "refill:");
    cr_assert_eq(weir_recycle_destroy(NULL), 0);
}

Test(recycle, defaults_are_those_of_the_kernel)
{
    void *buffers[2000];
    create(2000, 0, 0, 0);
    get_all(buffers, 1);
    expect_in(63, 0);
    get_all(buffers + 1, 1999);
    for (unsigned i = 0; i < 128; i++)
        put_local(buffers[i]);
    expect_in(128, 0);
    put_all(buffers + 128, 1872);
    expect_in(128, 1024);
    destroy();
}

Test(recycle, refill_is_at_most_the_cache_by_default)
{
    create(100, 0, 10, 0);
    put(get());
    expect_in(9, 1);
    destroy();
}

/* --- one after the other --- */

Test(recycle, what_is_returned_comes_back)
{
    void *buffers[8], *again[8];
    create(8, 16, 4, 4);
    get_all(buffers, 8);
    cr_assert_null(weir_recycle_alloc(recycle));
    for (unsigned i = 0; i < 4; i++)
        put(buffers[i]);
    put_all(buffers + 4, 4);
    expect_in(0, 8);
    get_all(again, 8);
    cr_assert_eq(again[3], buffers[0], "the ring hands on in order, four at a time");
    cr_assert_eq(again[7], buffers[4]);
    expect(3 + 3 + 3 + 3, 8, 2, 3, 0);
    put_all(again, 8);
    destroy();
}

Test(recycle, what_stays_with_the_consumer_is_used_first)
{
    create(8, 16, 4, 2);
    void *a = get(), *b = get();
    put(a);
    put_local(b);
    cr_assert_eq(get(), b);
    put_local(b);
    expect(2, 2, 0, 1, 0);
    destroy();
}

Test(recycle, full_ring_sends_to_the_allocator)
{
    void *buffers[8];
    create(8, 4, 4, 4);
    get_all(buffers, 8);
    put_all(buffers, 6);
    expect_in(0, 4);
    cr_assert_eq(backend.taken, 2u);
    put(buffers[6]);
    put(buffers[7]);
    cr_assert_eq(backend.taken, 4u);
    expect(6, 8, 0, 2, 4);
    destroy();
}

Test(recycle, bulk_beyond_the_ring_goes_to_the_allocator_in_pieces)
{
    void *buffers[300];
    create(300, 2, 1, 1);
    get_all(buffers, 300);
    void *first = buffers[0];
    put_all(buffers, 300);
    cr_assert_eq(buffers[0], first, "the caller's array is left alone");
    cr_assert_eq(backend.taken, 298u);
    cr_assert_eq(backend.free_calls, 5u);
    destroy();
}

Test(recycle, full_cache_gives_to_the_ring_and_then_to_the_allocator)
{
    void *buffers[32];
    create(32, 8, 8, 4);
    get_all(buffers, 32);
    for (unsigned i = 0; i < 8; i++)
        put_local(buffers[i]);
    expect_in(8, 0);
    put_local(buffers[8]);
    expect_in(5, 4);
    for (unsigned i = 9; i < 17; i++)
        put_local(buffers[i]);
    expect_in(5, 8);
    cr_assert_eq(backend.taken, 4u);
    put_all(buffers + 17, 15);
    destroy();
}

Test(recycle, bulk_takes_from_the_cache_the_ring_and_the_allocator)
{
    void *buffers[20];
    create(20, 8, 8, 4);
    cr_assert_eq(weir_recycle_alloc_bulk(recycle, 0, buffers), 0u);
    cr_assert_eq(weir_recycle_alloc_bulk(recycle, 10, buffers), 10u);
    expect(0, 10, 0, 1, 0);
    for (unsigned i = 0; i < 10; i++)
        backend_own(&backend, buffers[i]);
    put_local(buffers[0]);
    put_local(buffers[1]);
    put_all(buffers + 2, 5);
    void *more[30];
    cr_assert_eq(weir_recycle_alloc_bulk(recycle, 1, more), 1u);
    cr_assert_eq(more[0], buffers[1]);
    cr_assert_eq(weir_recycle_alloc_bulk(recycle, 30, more + 1), 16u, "no more than there are");
    for (unsigned i = 0; i < 17; i++)
        backend_own(&backend, more[i]);
    expect(2, 20, 1, 1, 0);
    put_all(more, 17);
    put_all(buffers + 7, 3);
    destroy();
}

Test(recycle, allocator_that_has_fewer_is_enough)
{
    create(3, 8, 8, 8);
    void *buffers[3];
    get_all(buffers, 3);
    cr_assert_null(weir_recycle_alloc(recycle));
    expect(2, 3, 0, 2, 0);
    put_all(buffers, 3);
    destroy();
}

Test(recycle, smallest_one_works)
{
    create(2, 1, 1, 1);
    for (unsigned i = 0; i < 1000; i++) {
        void *a = get(), *b = get();
        put(a);
        put_local(b);
        expect_in(1, 1);
    }
    destroy();
}

Test(recycle, ring_goes_round)
{
    void *buffers[12];
    create(12, 8, 4, 3);
    for (unsigned i = 0; i < 1000; i++) {
        size_t n = i % 12 + 1;
        get_all(buffers, n);
        put_all(buffers, n);
    }
    destroy();
}

Test(recycle, destroy_gives_back_what_lies_in_cache_and_ring)
{
    void *buffers[200];
    create(300, 256, 128, 64);
    get_all(buffers, 200);
    put_all(buffers, 150);
    for (unsigned i = 150; i < 200; i++)
        put_local(buffers[i]);
    destroy();
}

/* --- the roles --- */

static void *return_everything(void *arg)
{
    void **buffers = arg;
    for (unsigned i = 0; i < 64; i++)
        put(buffers[i]);
    return NULL;
}

Test(recycle, another_thread_returns)
{
    void *buffers[64], *again[64];
    create(64, 64, 64, 64);
    get_all(buffers, 64);
    pthread_t thread = fixture_thread(return_everything, buffers);
    for (unsigned i = 0; i < 64; i++) {
        FIXTURE_AWAIT((again[i] = weir_recycle_alloc(recycle)) != NULL);
        backend_own(&backend, again[i]);
    }
    pthread_join(thread, NULL);
    put_all(again, 64);
    destroy();
}

static void *consume(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < 100; i++)
        put_local(get());
    return NULL;
}

Test(recycle, consumer_may_be_another_thread_later)
{
    create(64, 64, 16, 8);
    consume(NULL);
    pthread_join(fixture_thread(consume, NULL), NULL);
    pthread_join(fixture_thread(consume, NULL), NULL);
    consume(NULL);
    expect(399, 8, 0, 1, 0);
    destroy();
}

/* --- a producer that is stopped between reserving and writing --- */

static struct weir__ring ring;
static void *places[8];

/* What weir__ring_put() does first. */
static uint64_t reserve(uint64_t n)
{
    return weir_fetch_add_relaxed(&ring.tail, n);
}

static void start_ring(void)
{
    ring = (struct weir__ring){.place = places, .size = 8};
}

Test(recycle, stopped_producer_hides_what_comes_after_and_loses_nothing)
{
    char object[8];
    void *objects[8], *taken[8];
    start_ring();
    for (unsigned i = 0; i < 8; i++)
        objects[i] = &object[i];
    cr_assert_eq(weir__ring_put(&ring, 2, objects), 2u);
    uint64_t place = reserve(2);
    cr_assert_eq(weir__ring_put(&ring, 4, objects + 4), 4u, "nobody waits for him");
    cr_assert_eq(weir__ring_put(&ring, 1, objects + 2), 0u, "his places are taken");
    cr_assert_eq(weir__ring_take(&ring, 8, taken), 2u);
    cr_assert_eq(weir__ring_take(&ring, 8, taken), 0u);
    weir_store_release(&places[place], objects[2]);
    cr_assert_eq(weir__ring_take(&ring, 8, taken), 1u);
    cr_assert_eq(taken[0], objects[2]);
    weir_store_release(&places[place + 1], objects[3]);
    cr_assert_eq(weir__ring_take(&ring, 8, taken), 5u);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(taken[i], objects[3 + i]);
}

Test(recycle, ring_is_closed_up_over_places_that_nobody_will_write)
{
    char object[8];
    void *objects[8], *taken[8];
    start_ring();
    for (unsigned i = 0; i < 8; i++)
        objects[i] = &object[i];
    cr_assert_eq(weir__ring_put(&ring, 6, objects), 6u);
    cr_assert_eq(weir__ring_take(&ring, 6, taken), 6u); /* so that it goes round the end */
    reserve(1);
    cr_assert_eq(weir__ring_put(&ring, 2, objects), 2u);
    reserve(2);
    cr_assert_eq(weir__ring_put(&ring, 1, objects + 2), 1u);
    reserve(1);
    weir__ring_close_up(&ring);
    cr_assert_eq(weir__ring_count(&ring), 3u);
    cr_assert_eq(weir__ring_put(&ring, 8, objects + 3), 5u);
    cr_assert_eq(weir__ring_take(&ring, 8, taken), 8u);
    for (unsigned i = 0; i < 8; i++)
        cr_assert_eq(taken[i], objects[i]);
}

/* --- other allocators behind it --- */

static size_t pages_alloc(void *pages, size_t n, void *objects[])
{
    memset(objects, 0, n * sizeof objects[0]);
    size_t got = weir_page_alloc_bulk_array(pages, n, objects);
    return got;
}

static void pages_free(void *pages, size_t n, void *objects[])
{
    weir_page_free_bulk(pages, n, objects);
}

Test(recycle, page_cache_behind_it)
{
    static const struct weir_cache_ops page_ops = {pages_alloc, pages_free};
    struct weir_page_cache *pages;
    struct weir_page_cache_config page_config = WEIR_PAGE_CACHE_CONFIG_INIT;
    page_config.capacity = 4 << 20;
    cr_assert_eq(weir_page_cache_create(&pages, &page_config), 0);
    struct weir_recycle_config config = WEIR_RECYCLE_CONFIG_INIT;
    config.ops = &page_ops;
    config.backend = pages;
    cr_assert_eq(weir_recycle_create(&recycle, &config), 0);
    void *page[2000];
    size_t n = 0;
    while (n < 2000 && (page[n] = weir_recycle_alloc(recycle)) != NULL)
        memset(page[n++], 0xA5, 4096);
    cr_assert_geq(n, 512u);
    cr_assert_lt(n, 2000u);
    weir_recycle_free_bulk(recycle, n, page);
    cr_assert_eq(weir_recycle_destroy(recycle), 0);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
}

/* --- fork(). The children start no threads. Not in checked builds, which would say that the same is
 * returned again and again. --- */

#ifndef WEIR_CHECKED

static uint32_t stop;
enum { MANY = 300 }; /* so that one who is putting them is mostly in the middle of it */

static void *return_often(void *unused)
{
    void *buffers[MANY];
    (void)unused;
    for (unsigned i = 0; i < MANY; i++)
        buffers[i] = backend.objects + i % 3;
    while (weir_load_relaxed(&stop) == 0)
        weir_recycle_free_bulk(recycle, MANY, buffers);
    return NULL;
}

/* Takes whatever there is, NULL is the end. It may be anything of what was returned again and again. */
static int use_in_child(void)
{
    struct weir_recycle_stats stats;
    void *buffers[64];
    size_t n = 0, got;
    weir_recycle_stats(recycle, &stats);
    while ((got = weir_recycle_alloc_bulk(recycle, 64, buffers)) != 0) {
        for (size_t i = 0; i < got; i++)
            if ((struct backend_object *)buffers[i] < backend.objects ||
                (struct backend_object *)buffers[i] > backend.objects + 2)
                return 1;
        n += got;
    }
    if (n != stats.ring + stats.cached)
        return 2;
    weir_recycle_free_bulk(recycle, 2, (void *[]){backend.objects, backend.objects + 1});
    if (weir_recycle_alloc(recycle) == NULL || weir_recycle_alloc(recycle) == NULL)
        return 3;
    return weir_recycle_destroy(recycle) == 0 ? 0 : 4;
}

static size_t none(void *arg, size_t n, void *objects[])
{
    (void)arg, (void)n, (void)objects;
    return 0;
}

static void drop(void *arg, size_t n, void *objects[])
{
    (void)arg, (void)n, (void)objects;
}

Test(recycle, children_of_busy_producers_find_no_gap, .timeout = 60)
{
    static const struct weir_cache_ops nothing = {none, drop};
    struct weir_recycle_config config = {&nothing, NULL, 1024, 8, 8};
    pthread_t threads[3];
    void *buffers[1024];
    backend_init(&backend, 3);
    cr_assert_eq(weir_recycle_create(&recycle, &config), 0);
    for (unsigned i = 0; i < 3; i++)
        threads[i] = fixture_thread(return_often, NULL);
    for (unsigned i = 0; i < 100; i++) {
        weir_recycle_alloc_bulk(recycle, 1024, buffers);
        pid_t pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0) {
            alarm(FIXTURE_PATIENCE_SECONDS);
            _exit(use_in_child());
        }
        int status = -1;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status %d", status);
    }
    weir_store_relaxed(&stop, 1u);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(weir_recycle_destroy(recycle), 0);
    backend_destroy(&backend);
}
#endif
