/* SPDX-License-Identifier: MIT */
/*
 * The register of shrinkers: who is asked for how much, what may be called from where and when, and what
 * unregister waits for.
 */
#include "fixtures.h"
#include "weir/page_cache.h"
#include "weir/shrinker.h"

#include <signal.h>
#include <sys/wait.h>

#include "weir_test.h"

/* Has bytes, and gives them back in pieces. */
struct hoard {
    struct weir_shrinker shrinker;
    size_t has;
    size_t piece;    /* gives whole ones */
    size_t most;     /* with one scan */
    size_t refill;   /* comes back after each scan */
    size_t asked[8]; /* for so much, by the first scans */
    unsigned counts, scans;
    void (*entered)(struct hoard *hoard); /* NULL, or called by scan first */
};

static size_t hoard_count(void *arg)
{
    struct hoard *hoard = arg;
    weir_fetch_add_relaxed(&hoard->counts, 1u);
    return weir_load_relaxed(&hoard->has);
}

static size_t hoard_scan(void *arg, size_t bytes)
{
    struct hoard *hoard = arg;
    if (hoard->scans < 8)
        hoard->asked[hoard->scans] = bytes;
    hoard->scans++;
    if (hoard->entered != NULL)
        hoard->entered(hoard);
    size_t give = (bytes + hoard->piece - 1) / hoard->piece * hoard->piece;
    give = give < hoard->most ? give : hoard->most;
    give = give < hoard->has ? give : hoard->has;
    hoard->has -= give;
    hoard->has += hoard->refill;
    return give;
}

static struct hoard hoards[3];

static void add(struct hoard *hoard, size_t has)
{
    *hoard = (struct hoard){.has = has, .piece = 1, .most = SIZE_MAX};
    hoard->shrinker = (struct weir_shrinker){.count = hoard_count, .scan = hoard_scan, .arg = hoard};
    hoard->shrinker.name = "hoard";
    cr_assert_eq(weir_shrinker_register(&hoard->shrinker), 0);
}

static void add_three(size_t a, size_t b, size_t c)
{
    add(&hoards[0], a);
    add(&hoards[1], b);
    add(&hoards[2], c);
}

static size_t left(void)
{
    return hoards[0].has + hoards[1].has + hoards[2].has;
}

/* --- how much --- */

Test(shrinker, nobody_registered_gives_nothing)
{
    cr_assert_eq(weir_shrink(SIZE_MAX), 0u);
}

Test(shrinker, each_gives_in_proportion_to_what_it_has)
{
    add_three(0, 1000000, 3000000);
    size_t given = weir_shrink(400000);
    cr_assert_geq(given, 400000u);
    cr_assert_leq(given, 400002u);
    cr_assert_geq(hoards[1].asked[0], 100000u);
    cr_assert_leq(hoards[1].asked[0], 100001u); /* rounded up */
    cr_assert_geq(hoards[2].asked[0], 300000u);
    cr_assert_leq(hoards[2].asked[0], 300001u);
    cr_assert_eq(left(), 4000000u - given);
    cr_assert_eq(hoards[0].scans, 0u, "it has nothing, and is not asked");
}

Test(shrinker, all_of_it_is_everything)
{
    add_three(1, SIZE_MAX / 2 + 10, 77);
    size_t had = left();
    cr_assert_eq(weir_shrink(SIZE_MAX), had);
    cr_assert_eq(left(), 0u);
    cr_assert_eq(weir_shrink(SIZE_MAX), 0u);
}

Test(shrinker, counts_that_overflow_together_are_a_lot)
{
    add_three(SIZE_MAX, SIZE_MAX, 5);
    cr_assert_geq(weir_shrink(1000), 1000u);
    cr_assert_leq(hoards[0].asked[0], 1001u);
}

Test(shrinker, nothing_is_asked_for_nothing)
{
    add_three(5, 5, 5);
    cr_assert_eq(weir_shrink(0), 0u);
    cr_assert_eq(hoards[0].counts, 0u);
}

Test(shrinker, rounds_go_on_until_the_target_is_reached)
{
    add_three(1000, 1000, 0);
    hoards[0].most = 30; /* gives less than it is asked for */
    hoards[1].most = 100;
    cr_assert_geq(weir_shrink(900), 900u);
    cr_assert_gt(hoards[0].scans, 1u);
    cr_assert_geq(2000 - left(), 900u);
}

Test(shrinker, a_round_that_gives_nothing_is_the_last)
{
    add_three(1000, 50, 0);
    hoards[0].most = 0; /* says that it has something, and gives nothing */
    cr_assert_eq(weir_shrink(SIZE_MAX), 50u);
    cr_assert_eq(hoards[0].scans, 2u);
}

Test(shrinker, one_that_is_refilled_at_once_does_not_hold_up_for_ever)
{
    add(&hoards[0], 10);
    hoards[0].refill = 10;
    cr_assert_eq(weir_shrink(SIZE_MAX), 160u, "16 rounds");
}

Test(shrinker, small_targets_meet_one_after_the_other)
{
    add_three(40960, 40960, 40960);
    for (unsigned i = 0; i < 3; i++)
        hoards[i].piece = 4096;
    for (unsigned i = 0; i < 9; i++)
        cr_assert_eq(weir_shrink(100), 4096u, "one of them is enough");
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(hoards[i].has, 40960u - 3 * 4096);
}

/* --- the register --- */

Test(shrinker, bad_shrinkers_are_not_registered)
{
    struct weir_shrinker no_count = {.scan = hoard_scan}, no_scan = {.count = hoard_count};
    cr_assert_eq(weir_shrinker_register(&no_count), -EINVAL);
    cr_assert_eq(weir_shrinker_register(&no_scan), -EINVAL);
    cr_assert_eq(weir_shrinker_unregister(&no_count), -ENOENT);
}

Test(shrinker, is_registered_once_and_again_after_it_was_unregistered)
{
    add(&hoards[0], 100);
    cr_assert_eq(weir_shrinker_register(&hoards[0].shrinker), -EEXIST);
    cr_assert_eq(weir_shrink(10), 10u);
    cr_assert_eq(weir_shrinker_unregister(&hoards[0].shrinker), 0);
    cr_assert_eq(weir_shrinker_unregister(&hoards[0].shrinker), -ENOENT);
    cr_assert_eq(weir_shrink(10), 0u);
    cr_assert_eq(weir_shrinker_register(&hoards[0].shrinker), 0);
    cr_assert_eq(weir_shrink(10), 10u);
}

Test(shrinker, any_of_several_can_leave)
{
    for (unsigned gone = 0; gone < 3; gone++) {
        add_three(1, 10, 100);
        cr_assert_eq(weir_shrinker_unregister(&hoards[gone].shrinker), 0);
        cr_assert_eq(weir_shrink(SIZE_MAX), 111u - left());
        cr_assert_neq(hoards[gone].has, 0u);
        for (unsigned i = 0; i < 3; i++)
            cr_assert_eq(weir_shrinker_unregister(&hoards[i].shrinker), i == gone ? -ENOENT : 0);
    }
}

/* --- from inside a scan --- */

static void shrink_again(struct hoard *hoard)
{
    (void)hoard;
    cr_assert_eq(weir_shrink(SIZE_MAX), 0u);
}

Test(shrinker, shrink_inside_a_scan_gives_nothing)
{
    add_three(100, 100, 0);
    hoards[0].entered = shrink_again;
    cr_assert_eq(weir_shrink(200), 200u);
    cr_assert_eq(hoards[1].scans, 1u);
}

static void leave_itself(struct hoard *hoard)
{
    cr_assert_eq(weir_shrinker_unregister(&hoard->shrinker), -EDEADLK);
}

Test(shrinker, unregistering_itself_inside_its_scan_is_an_error)
{
    add(&hoards[0], 100);
    hoards[0].entered = leave_itself;
    cr_assert_eq(weir_shrink(10), 10u);
    cr_assert_eq(weir_shrink(10), 10u, "it is still registered");
    cr_assert_eq(weir_shrinker_unregister(&hoards[0].shrinker), 0);
}

static void replace_the_next(struct hoard *hoard)
{
    struct hoard *next = hoard + 1;
    hoard->entered = NULL;
    cr_assert_eq(weir_shrinker_unregister(&next->shrinker), 0);
    memset(&next->shrinker, 0xA5, sizeof next->shrinker); /* its memory is somebody else's */
    add(hoard + 2, 50);
}

Test(shrinker, scan_may_unregister_another_and_register_one)
{
    add(&hoards[0], 100);
    add(&hoards[1], 100);
    hoards[0].entered = replace_the_next;
    cr_assert_eq(weir_shrink(SIZE_MAX), 150u);
    cr_assert_eq(hoards[1].scans, 0u);
}

static size_t replace_another_and_count(void *arg)
{
    weir_shrinker_unregister(&hoards[1].shrinker);
    add(&hoards[1], 100);
    return hoard_count(arg);
}

Test(shrinker, count_may_unregister_another_and_register_one)
{
    add(&hoards[0], 100);
    hoards[0].shrinker.count = replace_another_and_count;
    add(&hoards[1], 100);
    cr_assert_eq(weir_shrink(100), 100u);
    cr_assert_geq(hoards[0].scans, 1u);
}

/* --- other threads --- */

/* In a scan until it is let go. Meanwhile there is nothing for others to scan for. */
static uint32_t inside, let_go, done;

static void stay(struct hoard *hoard)
{
    weir_store_relaxed(&hoard->has, (size_t)0);
    weir_fetch_add_acq_rel(&inside, 1u);
    while (weir_load_acquire(&let_go) == 0)
        fixture_sleep(200);
}

static void *shrink_all(void *unused)
{
    (void)unused;
    weir_shrink(SIZE_MAX);
    return NULL;
}

static void *unregister_first(void *unused)
{
    (void)unused;
    cr_assert_eq(weir_shrinker_unregister(&hoards[0].shrinker), 0);
    weir_store_release(&done, 1u);
    memset(&hoards[0], 0xA5, sizeof hoards[0]); /* nobody may be in it any more */
    return NULL;
}

static bool first_is_leaving(void)
{
    unsigned before = weir_load_relaxed(&hoards[0].counts);
    weir_shrink(1);
    return weir_load_relaxed(&hoards[0].counts) == before; /* not asked any more */
}

Test(shrinker, unregister_waits_for_the_scan_that_is_under_way)
{
    add(&hoards[0], 100);
    hoards[0].entered = stay;
    pthread_t scanning = fixture_thread(shrink_all, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&inside) == 1);
    pthread_t leaving = fixture_thread(unregister_first, NULL);
    FIXTURE_AWAIT(first_is_leaving());
    fixture_sleep(20000); /* time to go wrong in */
    cr_assert_eq(weir_load_acquire(&done), 0u);
    weir_store_release(&let_go, 1u);
    pthread_join(scanning, NULL);
    pthread_join(leaving, NULL);
    cr_assert_eq(weir_load_acquire(&done), 1u);
    cr_assert_eq(weir_shrink(SIZE_MAX), 0u);
}

Test(shrinker, others_come_and_go_while_a_scan_is_under_way)
{
    add(&hoards[0], 100);
    hoards[0].entered = stay;
    pthread_t scanning = fixture_thread(shrink_all, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&inside) == 1);
    add(&hoards[1], 7);
    cr_assert_eq(weir_shrinker_unregister(&hoards[1].shrinker), 0);
    add(&hoards[2], 9);
    weir_store_release(&let_go, 1u);
    pthread_join(scanning, NULL);
    cr_assert_eq(left(), 7u);
}

/* Four threads ask for the memory of, and unregister and register, what they share. */
enum { SHARED = 4, TURNS = 300 };

static struct shared {
    struct weir_shrinker shrinker;
    uint32_t alive; /* registered */
    size_t has;
} shared[SHARED];

static size_t shared_count(void *arg)
{
    struct shared *it = arg;
    if (weir_load_relaxed(&it->alive) == 0)
        FIXTURE_FAIL("count of one that was unregistered");
    return weir_load_relaxed(&it->has);
}

static size_t shared_scan(void *arg, size_t bytes)
{
    struct shared *it = arg;
    if (weir_load_relaxed(&it->alive) == 0)
        FIXTURE_FAIL("scan of one that was unregistered");
    size_t has = weir_load_relaxed(&it->has), give;
    do
        give = bytes < has ? bytes : has;
    while (!weir_cas_relaxed(&it->has, &has, has - give));
    return give;
}

static size_t put_in, got_out;

static void *shrink_and_come_and_go(void *arg)
{
    struct shared *mine = &shared[(uintptr_t)arg];
    for (unsigned i = 0; i < TURNS; i++) {
        mine->shrinker = (struct weir_shrinker){.count = shared_count, .scan = shared_scan, .arg = mine};
        weir_store_relaxed(&mine->alive, 1u);
        weir_fetch_add_relaxed(&mine->has, (size_t)1000);
        weir_fetch_add_relaxed(&put_in, (size_t)1000);
        cr_assert_eq(weir_shrinker_register(&mine->shrinker), 0);
        weir_fetch_add_relaxed(&got_out, weir_shrink(i % 4 == 0 ? SIZE_MAX : 700));
        cr_assert_eq(weir_shrinker_unregister(&mine->shrinker), 0);
        weir_store_relaxed(&mine->alive, 0u);
        memset(&mine->shrinker, 0xA5, sizeof mine->shrinker);
    }
    return NULL;
}

Test(shrinker, threads_shrink_and_come_and_go_at_once, .timeout = 60)
{
    pthread_t threads[SHARED];
    for (uintptr_t i = 0; i < SHARED; i++)
        threads[i] = fixture_thread(shrink_and_come_and_go, (void *)i);
    for (unsigned i = 0; i < SHARED; i++)
        pthread_join(threads[i], NULL);
    size_t rest = 0;
    for (unsigned i = 0; i < SHARED; i++)
        rest += shared[i].has;
    cr_assert_eq(put_in, got_out + rest);
    cr_assert_gt(got_out, 0u);
}

/* --- a page cache behind one --- */

static struct weir_page_cache *pages;

static size_t idle_pages(void *unused)
{
    struct weir_page_cache_stats stats;
    (void)unused;
    weir_page_cache_stats(pages, &stats);
    return stats.cache.cached * stats.page_size;
}

static size_t drain_pages(void *unused, size_t bytes)
{
    (void)unused;
    (void)bytes;
    return weir_page_cache_drain_all(pages, fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED) * 4096;
}

Test(shrinker, page_cache_gives_what_lies_idle)
{
    struct weir_shrinker shrinker = {.count = idle_pages, .scan = drain_pages};
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    config.capacity = 2 << 20;
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    cr_assert_eq(weir_shrinker_register(&shrinker), 0);
    weir_page_free(pages, weir_page_alloc(pages));
    cr_assert_geq(weir_shrink(SIZE_MAX), (size_t)4096);
    cr_assert_eq(idle_pages(NULL), 0u);
    cr_assert_eq(weir_shrinker_unregister(&shrinker), 0);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
}

/* --- fork(). The children start no threads. --- */

/* Runs `body` in a child; its exit status has to be 0. One that hangs is killed by its alarm. */
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

static int use_and_unregister(void)
{
    hoards[0].entered = NULL;
    hoards[0].has = 100;
    if (weir_shrink(10) != 10)
        return 1;
    return weir_shrinker_unregister(&hoards[0].shrinker) == 0 ? 0 : 2;
}

Test(shrinker, scan_of_another_thread_is_over_in_the_child)
{
    add(&hoards[0], 100);
    hoards[0].entered = stay;
    pthread_t scanning = fixture_thread(shrink_all, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&inside) == 1);
    in_child(use_and_unregister);
    weir_store_release(&let_go, 1u);
    pthread_join(scanning, NULL);
    cr_assert_eq(hoards[0].has, 0u);
    cr_assert_eq(weir_shrinker_unregister(&hoards[0].shrinker), 0);
}

static int finish_leaving(void)
{
    if (!first_is_leaving())
        return 1;
    return weir_shrinker_unregister(&hoards[0].shrinker) == 0 ? 0 : 2;
}

Test(shrinker, child_can_unregister_what_another_thread_was_unregistering)
{
    add(&hoards[0], 100);
    hoards[0].entered = stay;
    pthread_t scanning = fixture_thread(shrink_all, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&inside) == 1);
    pthread_t leaving = fixture_thread(unregister_first, NULL);
    FIXTURE_AWAIT(first_is_leaving());
    in_child(finish_leaving);
    weir_store_release(&let_go, 1u);
    pthread_join(scanning, NULL);
    pthread_join(leaving, NULL);
}

static pid_t forked;

static void fork_once(struct hoard *hoard)
{
    hoard->entered = NULL;
    forked = fork();
    if (forked == 0)
        alarm(FIXTURE_PATIENCE_SECONDS);
}

Test(shrinker, scan_that_forks_goes_on_in_the_child)
{
    add_three(100, 100, 100);
    hoards[0].entered = fork_once;
    size_t given = weir_shrink(SIZE_MAX);
    int error = weir_shrinker_unregister(&hoards[0].shrinker);
    if (forked == 0)
        _exit(given == 300 && error == 0 && weir_shrinker_unregister(&hoards[1].shrinker) == 0 ? 0 : 1);
    cr_assert_eq(given, 300u);
    cr_assert_eq(error, 0);
    int status = -1;
    cr_assert_eq(waitpid(forked, &status, 0), forked);
    cr_assert_eq(status, 0);
}

static uint32_t stop;

static void *register_often(void *unused)
{
    static struct hoard hoard;
    (void)unused;
    while (weir_load_relaxed(&stop) == 0) {
        add(&hoard, 10);
        weir_shrink(SIZE_MAX);
        cr_assert_eq(weir_shrinker_unregister(&hoard.shrinker), 0);
    }
    return NULL;
}

static int register_in_child(void)
{
    add(&hoards[1], 100);
    if (weir_shrink(SIZE_MAX) < 100)
        return 1;
    return weir_shrinker_unregister(&hoards[1].shrinker) == 0 ? 0 : 2;
}

Test(shrinker, children_of_busy_threads_find_the_register_whole, .timeout = 60)
{
    add(&hoards[0], 0);
    pthread_t thread = fixture_thread(register_often, NULL);
    for (unsigned i = 0; i < 30; i++)
        in_child(register_in_child);
    weir_store_relaxed(&stop, 1u);
    pthread_join(thread, NULL);
}
