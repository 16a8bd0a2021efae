/* SPDX-License-Identifier: MIT */
/* Checked builds: what is freed twice to a mempool or a recycling ring stops the program by name, and so
 * does a second consumer. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "stopped.h"
#include "weir/mempool.h"
#include "weir/recycle.h"

#include "weir_test.h"

static void stops(void (*run)(void), const char *function, const char *rule)
{
    int status = stopped(run);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "it ended with status %d: %s", status,
              stopped_said);
    cr_assert_not_null(strstr(stopped_said, function), "%s", stopped_said);
    cr_assert_not_null(strstr(stopped_said, rule), "%s", stopped_said);
}

/* --- mempool --- */

static char elements[16];
static unsigned given;
static struct weir_mempool *pool;

static void *element(void *unused)
{
    (void)unused;
    return given < 4 ? &elements[given++] : NULL;
}

static void forget(void *unused, void *it)
{
    (void)unused, (void)it;
}

static void make_pool(void)
{
    cr_assert_eq(weir_mempool_create(&pool, 4, element, forget, NULL), 0);
}

static void free_twice_to_the_mempool(void)
{
    void *a = weir_mempool_alloc(pool, 0), *b = weir_mempool_alloc(pool, 0);
    weir_mempool_free(pool, a);
    weir_mempool_free(pool, b);
    weir_mempool_free(pool, a);
}

static void free_nothing_to_the_mempool(void)
{
    weir_mempool_free(pool, NULL);
}

static void ask_with_a_flag_that_is_none(void)
{
    weir_mempool_alloc(pool, 2);
}

Test(reserves_checked, misuse_of_a_mempool_is_named)
{
    make_pool();
    stops(free_twice_to_the_mempool, "weir_mempool_free", "is free already");
    stops(free_nothing_to_the_mempool, "weir_mempool_free", "is no element");
    stops(ask_with_a_flag_that_is_none, "weir_mempool_alloc", "flags");
    cr_assert_eq(weir_mempool_destroy(pool), 0);
}

/* --- recycle --- */

static struct weir_recycle *recycle;
static bool ask_again;

static size_t some(void *unused, size_t n, void *objects[])
{
    size_t i = 0;
    (void)unused;
    if (ask_again)
        weir_recycle_alloc(recycle);
    while (i < n && given < sizeof elements)
        objects[i++] = &elements[given++];
    return i;
}

static void forget_all(void *unused, size_t n, void *objects[])
{
    (void)unused, (void)n, (void)objects;
}

static void make_ring(void)
{
    static const struct weir_cache_ops ops = {some, forget_all};
    struct weir_recycle_config config = {&ops, NULL, 8, 8, 4};
    cr_assert_eq(weir_recycle_create(&recycle, &config), 0);
}

static void free_twice_to_the_ring(void)
{
    void *a = weir_recycle_alloc(recycle), *b = weir_recycle_alloc(recycle);
    weir_recycle_free(recycle, a);
    weir_recycle_free(recycle, b);
    weir_recycle_free_bulk(recycle, 1, &a);
}

static void free_twice_to_the_cache(void)
{
    void *a = weir_recycle_alloc(recycle);
    weir_recycle_free_local(recycle, a);
    weir_recycle_free_local(recycle, a);
}

static void free_to_the_cache_what_is_in_the_ring(void)
{
    void *a = weir_recycle_alloc(recycle);
    weir_recycle_free(recycle, a);
    weir_recycle_free_local(recycle, a);
}

static void free_nothing_to_the_ring(void)
{
    weir_recycle_free(recycle, NULL);
}

static void consume_twice_at_once(void)
{
    ask_again = true;
    weir_recycle_alloc(recycle);
}

Test(reserves_checked, misuse_of_a_ring_is_named)
{
    make_ring();
    stops(free_twice_to_the_ring, "weir_recycle_free", "is free already");
    stops(free_twice_to_the_cache, "weir_recycle_free", "is free already");
    stops(free_to_the_cache_what_is_in_the_ring, "weir_recycle_free", "is free already");
    stops(free_nothing_to_the_ring, "weir_recycle_free", "is no buffer");
    stops(consume_twice_at_once, "weir_recycle_alloc", "two consumers at once");
    cr_assert_eq(weir_recycle_destroy(recycle), 0);
}
