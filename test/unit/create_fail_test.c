/* SPDX-License-Identifier: MIT */
/*
 * What creating a cache, a page cache, a reclaimer, a mempool or a recycling ring needs fails, one thing
 * after the other and everything from one on: the error is returned, nothing is handed out, and the next
 * attempt works.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>

#include "fixtures.h"
#include "weir/free_rcu.h"
#include "weir/mempool.h"
#include "weir/page_cache.h"
#include "weir/recycle.h"

#include "weir_test.h"

/* The test's own, in front of the C library's. While armed, the calls from `fail_from` on fail, `fail_n` of
 * them. */
static unsigned armed, calls, fail_from, fail_n;

static bool fails(void)
{
    if (!weir_load_acquire(&armed))
        return false;
    unsigned call = weir_fetch_add_relaxed(&calls, 1u) + 1;
    return call >= fail_from && call - fail_from < fail_n;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    static void *(*real)(size_t, size_t);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "aligned_alloc");
    if (!fails())
        return real(alignment, size);
    errno = ENOMEM;
    return NULL;
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "mmap");
    if (!fails())
        return real(address, length, protection, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return fails() ? EAGAIN : real(thread, attributes, run, arg);
}

static const struct weir_cache_ops ops = {backend_alloc, backend_free};
static struct backend backend;

static int make_cache(void **made, struct weir_grace *grace)
{
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    config.ops = &ops;
    config.backend = &backend;
    config.grace = grace;
    return weir_cache_create((struct weir_cache **)made, &config);
}

static int destroy_cache(void *made)
{
    return weir_cache_destroy(made);
}

static int make_pages(void **made, struct weir_grace *grace)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    config.capacity = (size_t)4 << 20;
    config.grace = grace;
    return weir_page_cache_create((struct weir_page_cache **)made, &config);
}

static int destroy_pages(void *made)
{
    return weir_page_cache_destroy(made);
}

static int make_reclaimer(void **made, struct weir_grace *grace)
{
    struct weir_reclaimer_config config = WEIR_RECLAIMER_CONFIG_INIT;
    config.grace = grace;
    return weir_reclaimer_create((struct weir_reclaimer **)made, &config);
}

static int destroy_reclaimer(void *made)
{
    return weir_reclaimer_destroy(made);
}

static void *alloc_one(void *arg)
{
    void *object;
    return !fails() && backend_alloc(arg, 1, &object) == 1 ? object : NULL;
}

static void free_one(void *arg, void *object)
{
    backend_free(arg, 1, &object);
}

static int make_mempool(void **made, struct weir_grace *unused)
{
    (void)unused;
    return weir_mempool_create((struct weir_mempool **)made, 1, alloc_one, free_one, &backend);
}

static int destroy_mempool(void *made)
{
    return weir_mempool_destroy(made);
}

static struct weir_mempool *grown;

/* What could not grow goes on as it was. */
static int grow_mempool(void **made, struct weir_grace *unused)
{
    struct weir_mempool_stats stats;
    (void)unused;
    int error = weir_mempool_resize(grown, 1);
    weir_mempool_stats(grown, &stats);
    if (stats.reserved != (error == 0) || stats.min_nr != stats.reserved)
        FIXTURE_FAIL("%zu of %zu are in the reserve", stats.reserved, stats.min_nr);
    *made = error == 0 ? grown : NULL;
    return error;
}

static int shrink_mempool(void *made)
{
    weir_mempool_destroy(made);
    return weir_mempool_create(&grown, 0, alloc_one, free_one, &backend);
}

static int make_recycle(void **made, struct weir_grace *unused)
{
    struct weir_recycle_config config = {&ops, &backend, 0, 0, 0};
    (void)unused;
    return weir_recycle_create((struct weir_recycle **)made, &config);
}

static int destroy_recycle(void *made)
{
    return weir_recycle_destroy(made);
}

static void synchronize(void *unused)
{
    (void)unused;
}

static int make_grace(void **made, struct weir_grace *unused)
{
    static const struct weir_grace_source source = {.name = "test", .synchronize = synchronize};
    (void)unused;
    return weir_grace_create((struct weir_grace **)made, &source);
}

static int destroy_grace(void *made)
{
    weir_grace_put(made);
    return 0;
}

static void fail_at_every_point(int (*make)(void **made, struct weir_grace *grace),
                                int (*destroy)(void *made), unsigned least)
{
    void *grace, *made;
    unsigned failures = 0;
    backend_init(&backend, 1);
    cr_assert_eq(weir_percpu_init(), 0);
    cr_assert_eq(make_grace(&grace, NULL), 0);
    for (fail_n = 1; fail_n != 0; fail_n = fail_n == 1 ? UINT32_MAX : 0)
        for (fail_from = 1;; fail_from++) {
            made = &backend;
            calls = 0;
            weir_store_release(&armed, 1u);
            int error = make(&made, grace);
            weir_store_release(&armed, 0u);
            if (error == 0) { /* it needs no more than that, or can do without */
                cr_assert_eq(destroy(made), 0);
                if (calls < fail_from)
                    break;
                continue;
            }
            failures++;
            cr_assert(error == -ENOMEM || error == -EAGAIN, "%d", error);
            cr_assert_null(made);
        }
    cr_assert_geq(failures, 2 * least, "%u", failures);
    destroy_grace(grace);
    backend_destroy(&backend);
}

Test(create_fail, cache_whose_memory_cannot_be_had)
{
    fail_at_every_point(make_cache, destroy_cache, 3);
}

Test(create_fail, page_cache_whose_memory_cannot_be_had)
{
    fail_at_every_point(make_pages, destroy_pages, 5);
}

Test(create_fail, reclaimer_whose_memory_cannot_be_had)
{
    fail_at_every_point(make_reclaimer, destroy_reclaimer, 3);
}

Test(create_fail, source_whose_helper_cannot_be_started)
{
    fail_at_every_point(make_grace, destroy_grace, 2);
}

Test(create_fail, mempool_whose_memory_or_elements_cannot_be_had)
{
    fail_at_every_point(make_mempool, destroy_mempool, 3);
}

Test(create_fail, mempool_that_cannot_grow)
{
    cr_assert_eq(weir_mempool_create(&grown, 0, alloc_one, free_one, &backend), 0);
    fail_at_every_point(grow_mempool, shrink_mempool, 2);
    cr_assert_eq(weir_mempool_destroy(grown), 0);
}

Test(create_fail, recycling_ring_whose_memory_cannot_be_had)
{
    fail_at_every_point(make_recycle, destroy_recycle, 3);
}
