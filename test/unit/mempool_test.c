/* SPDX-License-Identifier: MIT */
/*
 * A reserve over an allocator that has as much as the test lets it have: what goes where, who waits for what,
 * and what a resize, a failure and a fork() leave. Elements are from malloc(), so that the address sanitizer
 * sees who looks at one that was freed.
 */
#include "fixtures.h"
#include "mempool.h"
#include "weir/mempool.h"
#include "weir/page_cache.h"

#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "weir_test.h"

/* --- the allocator --- */

static struct {
    size_t has; /* so many more it gives */
    size_t out;
    size_t allocs, frees;
    struct backend
        *bare; /* gives its objects instead: for children of busy threads, where malloc() may be locked */
} supply;

static void *supply_alloc(void *arg)
{
    size_t has = weir_load_relaxed(&supply.has);
    if (arg != &supply)
        FIXTURE_FAIL("the allocator got %p", arg);
    do
        if (has == 0)
            return NULL;
    while (!weir_cas_relaxed(&supply.has, &has, has - 1));
    weir_fetch_add_relaxed(&supply.out, (size_t)1);
    weir_fetch_add_relaxed(&supply.allocs, (size_t)1);
    void *element;
    if (supply.bare == NULL)
        return malloc(8);
    return backend_alloc(supply.bare, 1, &element) == 1 ? element : NULL;
}

static void supply_free(void *arg, void *element)
{
    if (arg != &supply)
        FIXTURE_FAIL("the allocator got %p", arg);
    if (supply.bare == NULL)
        free(element);
    else
        backend_free(supply.bare, 1, &element);
    weir_fetch_sub_relaxed(&supply.out, (size_t)1);
    weir_fetch_add_relaxed(&supply.frees, (size_t)1);
    weir_fetch_add_relaxed(&supply.has, (size_t)1);
}

/* What it has is somebody else's for the time being. */
static void supply_has(size_t n)
{
    weir_store_relaxed(&supply.has, n);
}

static struct weir_mempool *pool;

/* With `min_nr` in the reserve, and `more` in the allocator. A lost wakeup is lost for ever. */
static void create(size_t min_nr, size_t more)
{
    weir__mempool_clock = 0;
    supply_has(min_nr + more);
    cr_assert_eq(weir_mempool_create(&pool, min_nr, supply_alloc, supply_free, &supply), 0);
}

static void destroy(void)
{
    cr_assert_eq(weir_mempool_destroy(pool), 0);
    cr_assert_eq(supply.out, 0u);
}

static struct weir_mempool_stats stats_of(void)
{
    struct weir_mempool_stats stats;
    weir_mempool_stats(pool, &stats);
    return stats;
}

static size_t reserved(void)
{
    return stats_of().reserved;
}

static void *get(void)
{
    void *element = weir_mempool_alloc(pool, 0);
    cr_assert_not_null(element);
    memset(element, 0xA5, 8);
    return element;
}

/* --- one thread --- */

Test(mempool, bad_arguments_are_refused)
{
    pool = (struct weir_mempool *)&supply;
    cr_assert_eq(weir_mempool_create(&pool, 1, NULL, supply_free, &supply), -EINVAL);
    cr_assert_null(pool);
    cr_assert_eq(weir_mempool_create(&pool, 1, supply_alloc, NULL, &supply), -EINVAL);
    if (SIZE_MAX > WEIR_MEMPOOL_NR_MAX) {
        cr_assert_eq(weir_mempool_create(&pool, SIZE_MAX, supply_alloc, supply_free, &supply), -EINVAL);
        create(0, 0);
        cr_assert_eq(weir_mempool_resize(pool, SIZE_MAX), -EINVAL);
        destroy();
    }
    cr_assert_eq(weir_mempool_destroy(NULL), 0);
}

Test(mempool, reserve_is_filled_at_the_start_and_given_back_at_the_end)
{
    create(7, 0);
    cr_assert_eq(supply.out, 7u);
    cr_assert_eq(stats_of().min_nr, 7u);
    cr_assert_eq(stats_of().reserved, 7u);
    cr_assert_eq(stats_of().from_reserve, 0u);
    cr_assert_eq(stats_of().waits, 0u);
    destroy();
    cr_assert_eq(supply.frees, 7u);
}

Test(mempool, reserve_that_cannot_be_filled_is_no_mempool)
{
    for (size_t has = 0; has < 5; has++) {
        supply_has(has);
        pool = (struct weir_mempool *)&supply;
        cr_assert_eq(weir_mempool_create(&pool, 5, supply_alloc, supply_free, &supply), -ENOMEM);
        cr_assert_null(pool);
        cr_assert_eq(supply.out, 0u);
    }
}

Test(mempool, allocator_is_asked_first)
{
    create(2, 3);
    void *elements[3] = {get(), get(), get()};
    cr_assert_eq(supply.allocs, 5u);
    cr_assert_eq(reserved(), 2u);
    for (unsigned i = 0; i < 3; i++)
        weir_mempool_free(pool, elements[i]);
    cr_assert_eq(supply.frees, 3u, "the reserve is full");
    cr_assert_eq(stats_of().from_reserve, 0u);
    destroy();
}

Test(mempool, reserve_serves_when_the_allocator_has_none)
{
    create(3, 0);
    void *elements[3] = {get(), get(), get()};
    cr_assert_eq(stats_of().from_reserve, 3u);
    cr_assert_eq(reserved(), 0u);
    cr_assert_null(weir_mempool_alloc(pool, 0));
    cr_assert_eq(stats_of().waits, 0u);
    for (unsigned i = 0; i < 3; i++)
        weir_mempool_free(pool, elements[i]);
    destroy();
}

Test(mempool, free_fills_the_reserve_first)
{
    create(2, 0);
    void *a = get(), *b = get();
    supply_has(2);
    void *c = get(), *d = get(); /* from the allocator */
    weir_mempool_free(pool, c);
    weir_mempool_free(pool, d);
    cr_assert_eq(reserved(), 2u);
    cr_assert_eq(supply.frees, 0u);
    weir_mempool_free(pool, a);
    weir_mempool_free(pool, b);
    cr_assert_eq(supply.frees, 2u);
    destroy();
}

Test(mempool, elements_of_the_reserve_are_handed_out_as_they_were_put_in)
{
    create(4, 0);
    void *elements[4], *again[4];
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 4, elements, 0), 4u);
    for (unsigned i = 0; i < 4; i++)
        memset(elements[i], (int)i, 8);
    weir_mempool_free_bulk(pool, 4, elements);
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 4, again, 0), 4u);
    unsigned seen = 0;
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 4; k++)
            if (again[i] == elements[k] && *(unsigned char *)again[i] == k &&
                ((unsigned char *)again[i])[7] == k)
                seen |= 1u << k;
    cr_assert_eq(seen, 15u, "nothing was written to them");
    weir_mempool_free_bulk(pool, 4, again);
    destroy();
}

Test(mempool, nothing_in_the_reserve_is_allowed)
{
    create(0, 1);
    void *element = get();
    cr_assert_null(weir_mempool_alloc(pool, 0));
    weir_mempool_free(pool, element);
    cr_assert_eq(supply.frees, 1u);
    destroy();
}

/* --- bulk --- */

Test(mempool, bulk_takes_from_the_allocator_and_the_rest_from_the_reserve)
{
    create(4, 3);
    void *elements[6];
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 6, elements, 0), 6u);
    cr_assert_eq(stats_of().from_reserve, 3u);
    cr_assert_eq(reserved(), 1u);
    for (unsigned i = 0; i < 6; i++)
        for (unsigned k = 0; k < i; k++)
            cr_assert_neq(elements[i], elements[k]);
    weir_mempool_free_bulk(pool, 6, elements);
    cr_assert_eq(supply.frees, 3u);
    destroy();
}

Test(mempool, bulk_is_all_or_none)
{
    create(4, 2);
    void *elements[8];
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 7, elements, 0), 0u);
    cr_assert_eq(supply.out, 4u, "what the allocator gave has gone back");
    cr_assert_eq(reserved(), 4u);
    cr_assert_eq(stats_of().from_reserve, 0u);
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 0, elements, 0), 0u);
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 0, elements, WEIR_MEMPOOL_WAIT), 0u);
    weir_mempool_free_bulk(pool, 0, NULL);
    destroy();
}

Test(mempool, bulk_that_fails_fills_the_reserve_with_what_it_got)
{
    create(4, 0);
    void *held[3], *elements[4];
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 3, held, 0), 3u);
    supply_has(2);
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 4, elements, 0), 0u);
    cr_assert_eq(reserved(), 3u);
    cr_assert_eq(supply.has, 0u);
    weir_mempool_free_bulk(pool, 3, held);
    cr_assert_eq(supply.frees, 2u);
    destroy();
}

/* --- destroy --- */

Test(mempool, destroy_is_refused_while_elements_of_the_reserve_are_out)
{
    create(2, 1);
    void *a = get(), *b = get();
    cr_assert_eq(weir_mempool_destroy(pool), -EBUSY);
    cr_assert_eq(reserved(), 1u, "it goes on");
    weir_mempool_free(pool, a);
    supply_has(0);
    cr_assert_eq(weir_mempool_destroy(pool), 0, "full: what is out beyond that is the allocator's concern");
    cr_assert_eq(supply.out, 1u);
    supply_free(&supply, b);
}

/* --- resize --- */

Test(mempool, reserve_grows_and_shrinks)
{
    create(2, 10);
    cr_assert_eq(weir_mempool_resize(pool, 7), 0);
    cr_assert_eq(reserved(), 7u);
    cr_assert_eq(supply.out, 7u);
    cr_assert_eq(weir_mempool_resize(pool, 7), 0);
    cr_assert_eq(weir_mempool_resize(pool, 3), 0);
    cr_assert_eq(reserved(), 3u);
    cr_assert_eq(stats_of().min_nr, 3u);
    cr_assert_eq(supply.out, 3u);
    cr_assert_eq(weir_mempool_resize(pool, 5), 0);
    cr_assert_eq(weir_mempool_resize(pool, 0), 0);
    cr_assert_eq(supply.out, 0u);
    cr_assert_eq(weir_mempool_resize(pool, 12), 0);
    cr_assert_eq(reserved(), 12u);
    destroy();
}

Test(mempool, reserve_that_cannot_grow_stays_as_it_is)
{
    create(2, 3);
    cr_assert_eq(weir_mempool_resize(pool, 6), -ENOMEM);
    cr_assert_eq(stats_of().min_nr, 2u);
    cr_assert_eq(reserved(), 2u);
    cr_assert_eq(supply.out, 2u);
    cr_assert_eq(weir_mempool_resize(pool, 5), 0);
    destroy();
}

Test(mempool, reserve_shrinks_by_what_is_out_first)
{
    create(4, 0);
    void *a = get(), *b = get();
    cr_assert_eq(weir_mempool_resize(pool, 3), 0);
    cr_assert_eq(reserved(), 2u, "one that is out will not be missed");
    cr_assert_eq(weir_mempool_resize(pool, 1), 0);
    cr_assert_eq(reserved(), 1u);
    cr_assert_eq(supply.frees, 1u);
    weir_mempool_free(pool, a);
    weir_mempool_free(pool, b);
    cr_assert_eq(supply.frees, 3u);
    destroy();
}

Test(mempool, reserve_grows_while_elements_are_out)
{
    create(1, 0);
    void *a = get();
    supply_has(2);
    cr_assert_eq(weir_mempool_resize(pool, 3), 0);
    cr_assert_eq(reserved(), 2u);
    cr_assert_eq(weir_mempool_destroy(pool), -EBUSY);
    weir_mempool_free(pool, a);
    destroy();
}

/* --- waiting --- */

struct waiting {
    pthread_t thread;
    size_t n;
    void *elements[8];
    uint32_t done;
};

static void *wait_for_elements(void *arg)
{
    struct waiting *waiting = arg;
    size_t got = weir_mempool_alloc_bulk(pool, waiting->n, waiting->elements, WEIR_MEMPOOL_WAIT);
    cr_assert_eq(got, waiting->n);
    for (size_t i = 0; i < got; i++)
        memset(waiting->elements[i], 0x5A, 8);
    weir_store_release(&waiting->done, 1u);
    return NULL;
}

/* Returns when it is in line. */
static void start_waiting(struct waiting *waiting, size_t n)
{
    size_t before = stats_of().waiting;
    *waiting = (struct waiting){.n = n};
    waiting->thread = fixture_thread(wait_for_elements, waiting);
    FIXTURE_AWAIT(stats_of().waiting == before + 1);
}

static bool is_done(const struct waiting *waiting)
{
    return weir_load_acquire(&waiting->done) == 1;
}

static void await_and_free(struct waiting *waiting)
{
    pthread_join(waiting->thread, NULL);
    weir_mempool_free_bulk(pool, waiting->n, waiting->elements);
}

Test(mempool, alloc_waits_until_an_element_comes_back)
{
    struct waiting waiting;
    create(1, 0);
    void *element = get();
    start_waiting(&waiting, 1);
    fixture_sleep(20000); /* time to go wrong in */
    cr_assert_not(is_done(&waiting));
    weir_mempool_free(pool, element);
    await_and_free(&waiting);
    cr_assert_eq(waiting.elements[0], element);
    cr_assert_eq(stats_of().waits, 1u);
    cr_assert_eq(stats_of().waiting, 0u);
    destroy();
}

Test(mempool, alloc_that_may_wait_does_not_if_there_is_something)
{
    create(1, 1);
    void *a = weir_mempool_alloc(pool, WEIR_MEMPOOL_WAIT), *b = weir_mempool_alloc(pool, WEIR_MEMPOOL_WAIT);
    cr_assert_eq(stats_of().waits, 0u);
    weir_mempool_free(pool, a);
    weir_mempool_free(pool, b);
    destroy();
}

Test(mempool, waiters_are_served_one_by_one_in_order)
{
    enum { WAITERS = 4 };
    struct waiting waiting[WAITERS];
    void *elements[WAITERS];
    create(WAITERS, 0);
    cr_assert_eq(weir_mempool_alloc_bulk(pool, WAITERS, elements, 0), (size_t)WAITERS);
    for (unsigned i = 0; i < WAITERS; i++)
        start_waiting(&waiting[i], 1);
    for (unsigned i = 0; i < WAITERS; i++) {
        weir_mempool_free(pool, elements[i]);
        FIXTURE_AWAIT(is_done(&waiting[i]));
        for (unsigned k = i + 1; k < WAITERS; k++)
            cr_assert_not(is_done(&waiting[k]));
    }
    for (unsigned i = 0; i < WAITERS; i++)
        await_and_free(&waiting[i]);
    destroy();
}

Test(mempool, several_that_come_back_at_once_serve_several)
{
    struct waiting waiting[3];
    void *elements[3];
    create(3, 0);
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 3, elements, 0), 3u);
    for (unsigned i = 0; i < 3; i++)
        start_waiting(&waiting[i], 1);
    weir_mempool_free_bulk(pool, 3, elements);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(waiting[i].thread, NULL);
    for (unsigned i = 0; i < 3; i++)
        weir_mempool_free(pool, waiting[i].elements[0]);
    destroy();
}

Test(mempool, nobody_passes_who_is_in_line)
{
    struct waiting bulk;
    create(2, 0);
    void *a = get(), *b = get();
    start_waiting(&bulk, 2);
    weir_mempool_free(pool, a);
    FIXTURE_AWAIT(reserved() == 1);
    cr_assert_null(weir_mempool_alloc(pool, 0), "it is not for those who do not wait");
    cr_assert_not(is_done(&bulk));
    weir_mempool_free(pool, b);
    await_and_free(&bulk);
    weir_mempool_free(pool, get()); /* the line is gone */
    destroy();
}

Test(mempool, bulk_waiters_do_not_hold_halves)
{
    struct waiting first, second, third;
    void *elements[4];
    create(4, 0);
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 4, elements, 0), 4u);
    start_waiting(&first, 3);
    start_waiting(&second, 4);
    start_waiting(&third, 1);
    for (unsigned i = 0; i < 4; i++)
        weir_mempool_free(pool, elements[i]);
    await_and_free(&first);
    await_and_free(&second);
    await_and_free(&third);
    destroy();
}

Test(mempool, bulk_waiter_collects_what_the_allocator_gives_in_the_reserve)
{
    struct waiting bulk;
    void *elements[4];
    create(4, 0);
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 4, elements, 0), 4u);
    start_waiting(&bulk, 4);
    supply_has(3);
    weir_mempool_free(pool, elements[0]); /* he asks the allocator again, and has four */
    await_and_free(&bulk);
    weir_mempool_free_bulk(pool, 3, elements + 1);
    destroy();
}

Test(mempool, who_is_in_line_hears_by_the_clock_that_the_allocator_has_something)
{
    struct waiting waiting;
    create(1, 0);
    weir__mempool_clock = 100;
    void *element = get();
    start_waiting(&waiting, 1);
    supply_has(1);
    pthread_join(waiting.thread, NULL);
    weir_mempool_free(pool, element);
    weir_mempool_free(pool, waiting.elements[0]);
    destroy();
}

Test(mempool, without_a_reserve_alloc_waits_for_the_allocator)
{
    struct waiting waiting[2];
    create(0, 2);
    void *a = get(), *b = get();
    for (unsigned i = 0; i < 2; i++)
        start_waiting(&waiting[i], 1);
    weir_mempool_free(pool, a);
    weir_mempool_free(pool, b);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(waiting[i].thread, NULL);
    for (unsigned i = 0; i < 2; i++)
        weir_mempool_free(pool, waiting[i].elements[0]);
    destroy();
}

Test(mempool, bulk_beyond_the_reserve_waits_without_holding_others_up)
{
    struct waiting large, small;
    create(2, 0);
    void *a = get(), *b = get();
    start_waiting(&large, 4);
    start_waiting(&small, 1);
    weir_mempool_free(pool, a);
    FIXTURE_AWAIT(is_done(&small));
    cr_assert_not(is_done(&large));
    await_and_free(&small);
    supply_has(2);
    weir_mempool_free(pool, b);
    await_and_free(&large);
    destroy();
}

/* --- resize while somebody waits --- */

Test(mempool, growing_serves_who_waits)
{
    struct waiting waiting;
    create(1, 0);
    void *element = get();
    start_waiting(&waiting, 1);
    supply_has(2); /* he may not sleep yet, and get one of them himself */
    cr_assert_eq(weir_mempool_resize(pool, 2), 0);
    pthread_join(waiting.thread, NULL);
    weir_mempool_free(pool, element);
    weir_mempool_free(pool, waiting.elements[0]);
    destroy();
}

Test(mempool, who_waits_for_more_than_there_can_be_now_leaves_the_line)
{
    struct waiting large, small;
    void *elements[4];
    create(4, 0);
    cr_assert_eq(weir_mempool_alloc_bulk(pool, 4, elements, 0), 4u);
    start_waiting(&large, 4);
    start_waiting(&small, 1);
    supply_has(1); /* which nobody hears of but by the resize */
    cr_assert_eq(weir_mempool_resize(pool, 1), 0);
    await_and_free(&small);
    cr_assert_not(is_done(&large));
    weir_mempool_free_bulk(pool, 4, elements); /* to the allocator, which has enough now */
    await_and_free(&large);
    destroy();
}

/* --- a page cache behind it --- */

static void *page_get(void *pages)
{
    return weir_page_alloc(pages);
}

static void page_put(void *pages, void *page)
{
    weir_page_free(pages, page);
}

Test(mempool, page_cache_behind_it)
{
    struct weir_page_cache *pages;
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    void *page[4096];
    size_t n = 0;
    config.capacity = 2 << 20;
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    cr_assert_eq(weir_mempool_create(&pool, 16, page_get, page_put, pages), 0);
    while (n < 4096 && (page[n] = weir_mempool_alloc(pool, 0)) != NULL)
        memset(page[n++], 0xA5, 4096);
    cr_assert_lt(n, 4096u);
    cr_assert_eq(stats_of().from_reserve, 16u);
    weir_mempool_free_bulk(pool, n, page);
    cr_assert_eq(reserved(), 16u);
    cr_assert_eq(weir_mempool_destroy(pool), 0);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
}

/* --- fork(). The children start no threads. --- */

static void in_child(int (*body)(void))
{
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        alarm(FIXTURE_PATIENCE_SECONDS);
        _exit(body());
    }
    int status = -1;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status %d", status);
}

static void *held[2];

static void free_in_handler(int number)
{
    signal(number, SIG_DFL);
    alarm(FIXTURE_PATIENCE_SECONDS);
    weir_mempool_free(pool, held[0]);
}

/* The line of the parent's is not here. */
static int use_without_a_line(void)
{
    struct weir_mempool_stats stats = stats_of();
    if (stats.waiting != 0 || stats.reserved != 0)
        return 1;
    signal(SIGALRM, free_in_handler);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 20000}}, NULL);
    if (weir_mempool_alloc(pool, WEIR_MEMPOOL_WAIT) != held[0])
        return 5;
    weir_mempool_free(pool, held[0]);
    void *element = weir_mempool_alloc(pool, 0);
    if (element != held[0])
        return 2;
    weir_mempool_free(pool, element);
    weir_mempool_free(pool, held[1]);
    void *both[2];
    if (weir_mempool_alloc_bulk(pool, 2, both, WEIR_MEMPOOL_WAIT) != 2)
        return 3;
    weir_mempool_free_bulk(pool, 2, both);
    return weir_mempool_resize(pool, 1) == 0 && weir_mempool_destroy(pool) == 0 ? 0 : 4;
}

Test(mempool, child_has_no_line)
{
    struct waiting waiting, another;
    create(2, 0);
    for (unsigned i = 0; i < 2; i++)
        held[i] = get();
    start_waiting(&waiting, 2);
    start_waiting(&another, 1);
    in_child(use_without_a_line);
    weir_mempool_free_bulk(pool, 2, held);
    await_and_free(&waiting);
    await_and_free(&another);
    destroy();
}

static uint32_t stop;

static void *use_often(void *unused)
{
    (void)unused;
    while (weir_load_relaxed(&stop) == 0) {
        void *elements[2];
        if (weir_mempool_alloc_bulk(pool, 2, elements, 0) == 2)
            weir_mempool_free_bulk(pool, 2, elements);
        cr_assert_eq(weir_mempool_resize(pool, 4), 0);
        cr_assert_eq(weir_mempool_resize(pool, 3), 0);
    }
    return NULL;
}

/* The reserve is whole, but for what the other thread held. */
static int use_in_child(void)
{
    struct weir_mempool_stats stats = stats_of();
    void *elements[4];
    size_t n = 0;
    if (stats.min_nr < 3 || stats.min_nr > 4 || stats.reserved > stats.min_nr || stats.reserved == 0)
        return 1;
    supply_has(0);
    while (n < 4 && (elements[n] = weir_mempool_alloc(pool, 0)) != NULL)
        n++;
    if (n != stats.reserved)
        return 2;
    weir_mempool_free_bulk(pool, n, elements);
    if (stats_of().reserved != n)
        return 3;
    return weir_mempool_resize(pool, 1) == 0 && weir_mempool_destroy(pool) == 0 ? 0 : 4;
}

Test(mempool, children_of_busy_threads_find_the_reserve_whole, .timeout = 60)
{
    static struct backend backend;
    backend_init(&backend, 8);
    supply.bare = &backend;
    create(3, 1);
    pthread_t thread = fixture_thread(use_often, NULL);
    for (unsigned i = 0; i < 50; i++)
        in_child(use_in_child);
    weir_store_relaxed(&stop, 1u);
    pthread_join(thread, NULL);
    destroy();
    backend_destroy(&backend);
}
