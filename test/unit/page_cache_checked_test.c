/* SPDX-License-Identifier: MIT */
/*
 * weir/page_cache.h with `check`, `zero` and `prepare`: every way in and out goes through them; each misuse
 * is stopped by SIGABRT, after one line; who does right is not stopped.
 */
#include "weir/page_cache.h"

#include "fixtures.h"

#include <link.h>
#include <signal.h>
#include <sys/time.h>

#include "caught.h"
#include "stopped.h"
#include "weir_test.h"

enum { PAGE = 4096, RANGE = 1024, EXTENT = 16 };

static struct weir_page_cache *pages;
static struct gate gate;
static char *page, *extent, *it;
static size_t it_pages;

static struct weir_page_cache_config config_now(void)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    config.capacity = (size_t)RANGE * PAGE;
    config.batch = 8;
    config.grace = gate.grace;
    config.name = "test";
    return config;
}

static void start_with(const struct weir_page_cache_config *config)
{
    cr_assert_eq(weir_page_cache_create(&pages, config), 0);
}

static void start(void)
{
    fixture_stay(NULL);
    gate_create(&gate, true);
    struct weir_page_cache_config config = config_now();
    config.check = true;
    start_with(&config);
}

static void finish(void)
{
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
    gate_destroy(&gate);
}

static void drain(void)
{
    weir_page_cache_drain_all(pages, fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED);
}

static bool is_all(const char *memory, size_t bytes, char value)
{
    for (size_t i = 0; i < bytes; i++)
        if (memory[i] != value)
            return false;
    return true;
}

/* --- misuse --- */

static void do_free(void)
{
    weir_page_free(pages, it);
}

static void do_free_bulk(void)
{
    void *array[3] = {NULL, it, NULL};
    weir_page_free_bulk(pages, 3, array);
}

static void do_free_nolock(void)
{
    weir_page_free_nolock(pages, it);
}

static void do_free_rcu(void)
{
    weir_page_free_rcu(pages, it);
}

static void do_free_extent(void)
{
    weir_extent_free(pages, it, it_pages);
}

static const struct {
    void (*run)(void);
    const char *function;
} ways[] = {
    {do_free, "weir_page_free"},
    {do_free_bulk, "weir_page_free_bulk"},
    {do_free_nolock, "weir_page_free_nolock"},
    {do_free_rcu, "weir_page_free_rcu"},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

/* Nothing but one line, of which this is the part after the name. */
__attribute__((format(printf, 2, 3))) static void check_stopped(void (*run)(void), const char *format, ...)
{
    char what[512], line[640];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    snprintf(line, sizeof line, "weir: page cache \"test\": %s\n", what);
    int status = stopped(run);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x, and it says: %s instead of %s",
              (unsigned)status, stopped_said, line);
    cr_assert_str_eq(stopped_said, line, "it says: %s instead of %s", stopped_said, line);
}

/* By each function that frees a page. */
static void check_all_ways(void *memory, const char *but)
{
    it = memory;
    for (unsigned i = 0; i < WAYS; i++)
        check_stopped(ways[i].run, "%p is given to %s(), but %s", memory, ways[i].function, but);
}

static void check_all_ways_of_page(void *memory, const char *but)
{
    it = memory;
    for (unsigned i = 0; i < WAYS; i++)
        check_stopped(ways[i].run, "page %p is given to %s(), but %s", memory, ways[i].function, but);
}

Test(page_cache_checked, page_freed_twice_is_stopped)
{
    start();
    for (unsigned first = 0; first < WAYS; first++) {
        it = weir_page_alloc(pages);
        ways[first].run();
        check_all_ways_of_page(it, "it is free already");
    }
    drain(); /* by now it is with the frames, and its memory with the system */
    check_all_ways_of_page(it, "it is free already");
    finish();
}

Test(page_cache_checked, foreign_and_misaligned_pointers_are_stopped)
{
    static char mine[PAGE];
    start();
    page = weir_page_alloc(pages);
    check_all_ways(mine, "it is none of its pages");
    check_all_ways(page + 1, "it points into the middle of a page");
    check_all_ways(page + PAGE / 2, "it points into the middle of a page");
    weir_page_free(pages, page);
    finish();
}

Test(page_cache_checked, extent_freed_as_pages_is_stopped)
{
    char but[128];
    start();
    extent = weir_extent_alloc(pages, EXTENT);
    snprintf(but, sizeof but, "it belongs to the extent of 16 pages at %p", (void *)extent);
    check_all_ways_of_page(extent, but);
    check_all_ways_of_page(extent + 5 * PAGE, but);
    weir_extent_free(pages, extent, EXTENT);
    check_all_ways_of_page(extent, "it is free already");
    finish();
}

Test(page_cache_checked, extent_freed_wrongly_is_stopped)
{
    start();
    it = extent = weir_extent_alloc(pages, EXTENT);
    for (it_pages = 15; it_pages <= 17; it_pages += 2)
        check_stopped(do_free_extent, "extent %p of 16 pages is given to weir_extent_free() as one of %zu",
                      (void *)it, it_pages);
    it = extent + 4 * PAGE;
    it_pages = 12;
    check_stopped(
        do_free_extent,
        "extent %p of 12 pages is given to weir_extent_free(), but it is in the middle of the one of "
        "16 pages at %p",
        (void *)it, (void *)extent);
    it = extent;
    it_pages = EXTENT;
    do_free_extent();
    check_stopped(do_free_extent,
                  "extent %p of 16 pages is given to weir_extent_free(), but it is free already", (void *)it);
    it = page = weir_page_alloc(pages);
    it_pages = 1;
    check_stopped(do_free_extent, "extent %p of 1 page is given to weir_extent_free(), but it is a page",
                  (void *)it);
    weir_page_free(pages, page);
    finish();
}

/* Whoever gets it: sooner or later somebody does. */
static void alloc_all(void)
{
    while (weir_page_alloc(pages) != NULL)
        ;
}

static void alloc_all_nolock(void)
{
    while (weir_page_alloc_nolock(pages) != NULL)
        ;
}

static void alloc_all_in_bulk(void)
{
    void *array[20];
    do {
        memset(array, 0, sizeof array);
    } while (weir_page_alloc_bulk_array(pages, 20, array) != 0);
}

static void alloc_all_as_list(void)
{
    WEIR_LLIST_HEAD(list);
    while (weir_page_alloc_bulk_list(pages, 20, &list) != 0)
        ;
}

static void alloc_extent(void)
{
    weir_extent_alloc(pages, EXTENT);
}

Test(page_cache_checked, write_after_free_is_noticed_by_who_allocates)
{
    void (*const allocs[])(void) = {alloc_all, alloc_all_nolock, alloc_all_in_bulk, alloc_all_as_list};
    start();
    page = weir_page_alloc(pages);
    weir_page_free(pages, page);
    page[1234] = 0x41;
    for (unsigned i = 0; i < 4; i++)
        check_stopped(allocs[i], "page %p was written to after it was freed: byte 1234 is 0x41, not 0x6b",
                      (void *)page);
    page[1234] = 0x6b;
    extent = weir_extent_alloc(pages, EXTENT);
    weir_extent_free(pages, extent, EXTENT);
    extent[3 * PAGE] = 0x41;
    check_stopped(alloc_extent, "page %p was written to after it was freed: byte 0 is 0x41, not 0x6b",
                  (void *)(extent + 3 * PAGE));
    extent[3 * PAGE] = 0x6b;
    finish();
}

/* --- what is right is not stopped --- */

static void *held[RANGE];

/* All there are, dirty, and then all of them back that way. */
static void all_out_and_back(void (*free_one)(void))
{
    size_t n = 0;
    while ((held[n] = weir_page_alloc(pages)) != NULL)
        memset(held[n++], 0x5a, PAGE);
    cr_assert_gt(n, RANGE / 2u);
    while (n != 0) {
        it = held[--n];
        free_one();
    }
    cr_assert_eq(weir_page_cache_rcu_barrier(pages), 0);
}

/* Pages that are laid aside, linked by a word, hold magazines, wait for a grace period, lose their memory. */
Test(page_cache_checked, pages_that_went_every_way_are_not_taken_for_written_to)
{
    start();
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < WAYS; i++)
            all_out_and_back(ways[i].run);
        weir_page_cache_decay(pages);
        if (round == 1)
            drain();
        extent = weir_extent_alloc(pages, EXTENT);
        if (extent == NULL)
            continue; /* what lies idle in magazines is everywhere */
        memset(extent, 0x5a, (size_t)EXTENT * PAGE);
        weir_extent_free(pages, extent, EXTENT);
    }
    finish();
}

Test(page_cache_checked, pages_that_others_had_for_magazines_are_not_taken_for_written_to)
{
    struct weir_block_source source;
    size_t n = 0, bytes;
    start();
    all_out_and_back(do_free);
    drain();
    weir_page_cache_block_source(pages, &source);
    while ((held[n] = source.get(source.arg, &bytes)) != NULL)
        memset(held[n++], 0x5a, bytes);
    cr_assert_gt(n, RANGE / 2u);
    while (n != 0)
        source.put(source.arg, held[--n], bytes);
    all_out_and_back(do_free);
    finish();
}

enum { THREADS = 4, HOLD = 16, ROUNDS = 3000 };

static void *churn(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg * 77 + 1;
    struct {
        void *memory;
        size_t n; /* 0: a page */
    } mine[HOLD] = {{NULL, 0}};
    for (unsigned round = 0; round < ROUNDS + HOLD; round++) {
        size_t i = round < ROUNDS ? fixture_random(&random) % HOLD : round - ROUNDS;
        size_t dice = fixture_random(&random) % 16;
        if (mine[i].memory != NULL && mine[i].n != 0)
            weir_extent_free(pages, mine[i].memory, mine[i].n);
        else if (mine[i].memory != NULL && dice % 3 == 0)
            weir_page_free(pages, mine[i].memory);
        else if (mine[i].memory != NULL && dice % 3 == 1)
            weir_page_free_nolock(pages, mine[i].memory);
        else if (mine[i].memory != NULL)
            weir_page_free_rcu(pages, mine[i].memory);
        mine[i].memory = NULL;
        if (round >= ROUNDS)
            continue;
        mine[i].n = dice < 4 ? dice : 0;
        mine[i].memory = mine[i].n != 0 ? weir_extent_alloc(pages, mine[i].n)
                         : dice & 1     ? weir_page_alloc(pages)
                                        : weir_page_alloc_nolock(pages);
        if (mine[i].memory != NULL)
            memset(mine[i].memory, (int)dice, (mine[i].n != 0 ? mine[i].n : 1) * PAGE);
        if (dice == 15)
            weir_page_cache_decay(pages);
    }
    return NULL;
}

Test(page_cache_checked, threads_that_do_right_are_not_stopped)
{
    pthread_t threads[THREADS];
    gate_create(&gate, true);
    struct weir_page_cache_config config = config_now();
    config.check = config.sites = true;
    start_with(&config);
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = fixture_thread(churn, (void *)(i + 1));
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    finish();
}

static unsigned handled;

static void use_in_handler(int signal)
{
    (void)signal;
    char *one = weir_page_alloc_nolock(pages), *other = weir_page_alloc(pages),
         *some = weir_extent_alloc(pages, 3);
    if (one != NULL) {
        memset(one, 1, PAGE);
        weir_page_free_nolock(pages, one);
    }
    if (other != NULL) {
        memset(other, 1, PAGE);
        weir_page_free(pages, other);
    }
    if (some != NULL)
        weir_extent_free(pages, some, 3);
    weir_fetch_add_relaxed(&handled, 1u);
}

Test(page_cache_checked, handler_that_does_right_is_not_stopped)
{
    struct sigaction action = {.sa_handler = use_in_handler, .sa_flags = SA_RESTART};
    const struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    start();
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (weir_load_relaxed(&handled) < 300)
        churn(NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    finish();
}

/* --- zero and hook --- */

static size_t hook_calls, hook_bytes;

static void count_calls(void *arg, void *memory, size_t bytes)
{
    cr_assert_eq(arg, (void *)&hook_calls);
    cr_assert(is_all(memory, bytes, 0));
    hook_calls++;
    hook_bytes += bytes;
}

static void check_zero_out(char *memory, size_t from, size_t bytes)
{
    cr_assert_not_null(memory);
    cr_assert(is_all(memory + from, bytes - from, 0));
    memset(memory, 0x5a, bytes);
}

/* Dirties all it gets, a few times, so that nothing is zero by itself. */
static void check_zeroed(enum weir_zero zero)
{
    fixture_stay(NULL);
    gate_create(&gate, true);
    struct weir_page_cache_config config = config_now();
    config.zero = zero;
    config.prepare = count_calls;
    config.prepare_arg = &hook_calls;
    start_with(&config);
    hook_calls = hook_bytes = 0;
    for (unsigned round = 0; round < 40; round++) {
        void *array[20] = {NULL};
        WEIR_LLIST_HEAD(list);
        check_zero_out(it = weir_page_alloc(pages), 0, PAGE);
        ways[round % WAYS].run();
        check_zero_out(it = weir_page_alloc_nolock(pages), 0, PAGE);
        ways[(round + 1) % WAYS].run();
        extent = weir_extent_alloc(pages, EXTENT);
        check_zero_out(extent, 0, (size_t)EXTENT * PAGE);
        weir_extent_free(pages, extent, EXTENT);
        cr_assert_eq(weir_page_alloc_bulk_array(pages, 20, array), 20u);
        for (unsigned i = 0; i < 20; i++)
            check_zero_out(array[i], 0, PAGE);
        weir_page_free_bulk(pages, 20, array);
        cr_assert_eq(weir_page_alloc_bulk_list(pages, 20, &list), 20u);
        for (struct weir_llist_node *node = weir_llist_del_all(&list), *next; node != NULL; node = next) {
            next = weir_llist_next(node);
            check_zero_out((char *)node, sizeof *node, PAGE);
            weir_page_free(pages, node);
        }
        if (round % 10 == 9)
            drain();
    }
    cr_assert_eq(hook_calls, 40u * (1 + 1 + 1 + 20 + 20));
    cr_assert_eq(hook_bytes, 40u * (1 + 1 + EXTENT + 20 + 20) * PAGE);
    finish();
}

Test(page_cache_checked, zero_on_alloc_makes_everything_zero)
{
    check_zeroed(WEIR_ZERO_ON_ALLOC);
}

Test(page_cache_checked, zero_on_free_makes_everything_zero)
{
    check_zeroed(WEIR_ZERO_ON_FREE);
}

/* --- what is still out --- */

static char said[4096];

static void check_busy(void)
{
    catch_stderr();
    int error = weir_page_cache_destroy(pages);
    caught_lines(said, sizeof said);
    cr_assert_eq(error, -EBUSY);
}

#define LINE(text) "weir: page cache \"test\": " text "\n"

Test(page_cache_checked, destroy_says_what_is_still_out)
{
    start();
    page = weir_page_alloc(pages);
    check_busy();
    cr_assert_str_eq(said, LINE("1 page is still out"), "%s", said);
    for (unsigned i = 0; i < 30; i++)
        held[i] = weir_page_alloc(pages);
    extent = weir_extent_alloc(pages, EXTENT);
    weir_extent_free(pages, weir_extent_alloc(pages, 3), 3);
    check_busy();
    cr_assert_str_eq(said, LINE("31 pages are still out") LINE("1 extent of 16 pages is still out"), "%s",
                     said);
    weir_page_free_rcu(pages, page);
    weir_page_free_bulk(pages, 29, held);
    weir_page_free_nolock(pages, held[29]);
    check_busy();
    cr_assert_str_eq(said, LINE("1 extent of 16 pages is still out"), "%s", said);
    weir_extent_free(pages, extent, EXTENT);
    finish();
}

/* Where they are is asked of these functions. Each makes one kind of call. */
__attribute__((noinline)) static void leak_pages(void)
{
    static volatile unsigned three = 3; /* or the loop is unrolled, into three places */
    for (unsigned i = 0; i < three; i++)
        held[i] = weir_page_alloc(pages);
}

__attribute__((noinline)) static void leak_bulk(void)
{
    memset(held + 3, 0, 5 * sizeof held[0]);
    cr_assert_eq(weir_page_alloc_bulk_array(pages, 5, held + 3), 5u);
}

__attribute__((noinline)) static void leak_extents(void)
{
    held[8] = weir_extent_alloc(pages, EXTENT);
    __asm__ volatile("" ::: "memory"); /* no jump out of here */
}

static int main_base(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    *(uintptr_t *)arg = info->dlpi_addr;
    return 1; /* the first one is the program */
}

/* The line says so many of them, and an address in that function. Where that ends is not known: no further
 * than so. */
static const char *check_place(const char *line, unsigned number, void (*in)(void))
{
    enum { FURTHEST = 2048 };
    char start_of_line[128];
    uintptr_t base = 0;
    dl_iterate_phdr(main_base, &base);
    int n = snprintf(start_of_line, sizeof start_of_line, LINE("  %u of them from "), number) - 1;
    cr_assert_eq(strncmp(line, start_of_line, (size_t)n), 0, "%s instead of %s", line, start_of_line);
    const char *plus = strchr(line, '+'); /* after the name that the program was started by */
    cr_assert_not_null(plus, "%s", line);
    uintptr_t address = strtoull(plus + 1, NULL, 16) + base;
    cr_assert(address - (uintptr_t)in < FURTHEST, "%s is not in %p", line, (void *)(uintptr_t)in);
    return strchr(line, '\n') + 1;
}

/* The line is this one; the one after it. */
static const char *check_line(const char *line, const char *expected)
{
    cr_assert_eq(strncmp(line, expected, strlen(expected)), 0, "%s instead of %s", line, expected);
    return line + strlen(expected);
}

Test(page_cache_checked, destroy_says_who_allocated_what_is_still_out)
{
    fixture_stay(NULL);
    gate_create(&gate, true);
    struct weir_page_cache_config config = config_now();
    config.check = config.sites = true;
    start_with(&config);
    leak_pages();
    leak_bulk();
    leak_extents();
    check_busy();
    const char *line = check_line(said, LINE("8 pages are still out"));
    line = check_place(line, 5, leak_bulk);
    line = check_place(line, 3, leak_pages);
    line = check_line(line, LINE("1 extent of 16 pages is still out"));
    line = check_place(line, 1, leak_extents);
    cr_assert_str_eq(line, "");
    weir_page_free_bulk(pages, 8, held);
    weir_extent_free(pages, held[8], EXTENT);
    finish();
}
