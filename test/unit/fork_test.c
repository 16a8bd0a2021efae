/* SPDX-License-Identifier: MIT */
/*
 * fork() while other threads use caches: the child finds every object once, can use what there is, and gets
 * an error and not a hang for what there is not; the parent never notices.
 */
#include "cache.h"
#include "fixtures.h"
#include "weir/free_rcu.h"
#include "weir/page_cache.h"

#include <signal.h>
#include <sys/wait.h>
#include <urcu/urcu-qsbr.h>

#include "weir_test.h"

enum { NR = 4000, CAPACITY = 8, WORKERS = 3, FORKS = 40 };

static const struct weir_cache_ops ops = {backend_alloc, backend_free};
static struct backend backend;
static struct weir_cache *cache;
static uint32_t stop;
static bool workers_are_readers;

static void create(bool registered_users, const struct weir__topology *topology)
{
    struct weir_cache_config config = WEIR_CACHE_CONFIG_INIT;
    config.ops = &ops;
    config.backend = &backend;
    config.capacity = CAPACITY;
    config.registered_users = registered_users;
    config.decay_milliseconds = 1; /* so that the helper is at it, too */
    cr_assert_eq(
        weir__cache_create(&cache, &config, &(struct weir__cache_surroundings){.topology = topology}), 0);
}

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
    cr_assert(WIFEXITED(status), "the child died of signal %d", WTERMSIG(status));
    cr_assert_eq(WEXITSTATUS(status), 0, "the child failed at line %d", WEXITSTATUS(status) + 0);
}

/* In a child: the line, modulo 250, as exit status. */
#define CHILD_REQUIRE(condition)                                                                             \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "child: %s:%d: %s\n", __FILE__, __LINE__, #condition);                           \
            return __LINE__ % 250 + 1;                                                                       \
        }                                                                                                    \
    } while (0)

/* Takes and gives, in all ways, as fast as it can. */
static void *work(void *arg)
{
    uint64_t random = 88172645463325252u + (uintptr_t)arg * 7919;
    void *held[3 * CAPACITY];
    size_t n = 0;
    if (workers_are_readers)
        urcu_qsbr_register_thread();
    while (weir_load_relaxed(&stop) == 0) {
        uint64_t dice = fixture_random(&random);
        /* For a while only on the fast path, which nobody stops at a gate. */
        for (unsigned i = 0; (dice >> 30 & 15) == 0 && i < 20000 && weir_load_relaxed(&stop) == 0; i++) {
            void *object = weir_cache_alloc(cache);
            if (object != NULL)
                weir_cache_free(cache, backend_disown(backend_own(&backend, object)));
            if (workers_are_readers) {
                weir_grace_annotate_quiescent();
                urcu_qsbr_quiescent_state();
            }
        }
        size_t want = dice >> 8 & 15;
        if ((dice & 1) != 0 && n + want <= 3 * CAPACITY) {
            size_t got = weir_cache_alloc_bulk(cache, want, held + n);
            for (size_t i = 0; i < got; i++)
                backend_own(&backend, held[n++]);
        } else if ((dice & 2) != 0) {
            while (n != 0 && want-- != 0)
                weir_cache_free(cache, backend_disown(held[--n]));
        } else if (n != 0) {
            weir_cache_free_rcu(cache, backend_disown(held[--n]));
        }
        if ((dice >> 20 & 255) == 0)
            weir_cache_drain_all(cache, fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED);
        if ((dice >> 20 & 255) == 1)
            weir_cache_decay(cache);
        if (workers_are_readers) {
            weir_grace_annotate_quiescent();
            urcu_qsbr_quiescent_state();
        }
    }
    while (n != 0)
        weir_cache_free(cache, backend_disown(held[--n]));
    if (workers_are_readers) {
        weir_grace_annotate_quiescent();
        urcu_qsbr_unregister_thread();
    }
    return NULL;
}

/* What the copy of the backend says is lent is either out of the cache, with whatever thread had it, or in
 * here: so each object can be had at most once, and those that were out cannot be had at all. (A thread may
 * have been between taking an object and noting down that it has it: such an object is not to be had either.)
 * */
static int take_everything(void)
{
    size_t n = 0;
    bool *seen = calloc(NR, sizeof seen[0]);
    CHILD_REQUIRE(seen != NULL);
    for (;;) {
        struct backend_object *object = weir_cache_alloc(cache);
        if (object == NULL)
            break;
        size_t number = (size_t)(object - backend.objects);
        CHILD_REQUIRE(number < NR);
        CHILD_REQUIRE(!seen[number]);
        CHILD_REQUIRE(object->owned == 0);
        CHILD_REQUIRE(object->check == object->payload * 3);
        seen[number] = true;
        n++;
    }
    /* All but what waits for a grace period and what the workers have; some they may just have taken, or be
     * giving. */
    struct weir_cache_stats stats;
    weir_cache_stats(cache, &stats);
    size_t gone = stats.waiting_objects + backend_owned(&backend);
    CHILD_REQUIRE(n + gone <= NR + WORKERS * 16);
    CHILD_REQUIRE(n + gone + WORKERS * 16 >= NR);
    for (size_t i = 0; i < NR; i++)
        if (seen[i])
            weir_cache_free(cache, &backend.objects[i]);
    free(seen);
    return 0;
}

/* Without readers in the parent the child has grace periods, too: all comes back but what the workers had. */
static int take_everything_after_a_barrier(void)
{
    struct weir_cache_stats stats;
    CHILD_REQUIRE(weir_cache_rcu_barrier(cache) == 0);
    weir_cache_stats(cache, &stats);
    CHILD_REQUIRE(stats.waiting_objects == 0);
    CHILD_REQUIRE(take_everything() == 0);
    weir_cache_shrink(cache);
    weir_cache_stats(cache, &stats);
    CHILD_REQUIRE(stats.cached == 0);
    CHILD_REQUIRE(weir_cache_destroy(cache) == 0);
    return 0;
}

/* However busy the machine is. */
static void be_patient(void)
{
    weir__fork_patience = 1000 * FIXTURE_PATIENCE_SECONDS / 2;
}

static void fork_often(int (*body)(void), bool readers, const struct weir__topology *topology)
{
    pthread_t threads[WORKERS];
    be_patient();
    backend_init(&backend, NR);
    create(false, topology);
    weir_store_relaxed(&stop, 0u);
    workers_are_readers = readers;
    for (uintptr_t i = 0; i < WORKERS; i++)
        threads[i] = fixture_thread(work, (void *)i);
    for (unsigned i = 0; i < FORKS; i++)
        in_child(body);
    weir_store_relaxed(&stop, 1u);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    weir_cache_rcu_barrier(cache);
    cr_assert_eq(backend_owned(&backend), 0u);
    cr_assert(weir_cache_usable(cache));
    cr_assert_eq(weir_cache_destroy(cache), 0);
    backend_destroy(&backend);
}

Test(fork, child_of_busy_readers_finds_every_object_at_most_once, .timeout = 120)
{
    fork_often(take_everything, true, NULL);
}

Test(fork, child_of_busy_threads_has_grace_periods_and_finds_every_object_once, .timeout = 120)
{
    fork_often(take_everything_after_a_barrier, false, NULL);
}

Test(fork, child_finds_every_object_once_with_several_depots, .timeout = 120)
{
    struct weir__topology topology;
    cr_assert_eq(weir__topology_split(&topology, 2, weir_percpu_nr_cpus()), 0);
    fork_often(take_everything_after_a_barrier, false, &topology);
    weir__topology_free(&topology);
}

/* --- what a child can do --- */

static struct weir_page_cache *pages;
static struct weir_reclaimer *reclaimer;
static unsigned freed;

static void count_free(void *object)
{
    weir_fetch_add_relaxed(&freed, 1u);
    free(object);
}

static int use_page_cache_and_reclaimer(void)
{
    freed = 0;
    void *page = weir_page_alloc(pages);
    CHILD_REQUIRE(page != NULL);
    weir_page_free_rcu(pages, page);
    CHILD_REQUIRE(weir_page_cache_rcu_barrier(pages) == 0);
    for (unsigned i = 0; i < 100; i++)
        CHILD_REQUIRE(weir_free_rcu_mightsleep(reclaimer, malloc(16)) == 0);
    CHILD_REQUIRE(weir_free_rcu_barrier(reclaimer) == 0);
    CHILD_REQUIRE(weir_load_relaxed(&freed) == 100);
    return 0;
}

static int use_them_and_fork_again(void)
{
    CHILD_REQUIRE(use_page_cache_and_reclaimer() == 0);
    in_child(use_page_cache_and_reclaimer);
    CHILD_REQUIRE(use_page_cache_and_reclaimer() == 0);
    CHILD_REQUIRE(weir_page_cache_destroy(pages) == 0);
    CHILD_REQUIRE(weir_reclaimer_destroy(reclaimer) == 0);
    return 0;
}

Test(fork, child_and_grandchild_use_page_cache_and_reclaimer)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    struct weir_reclaimer_config reclaim = WEIR_RECLAIMER_CONFIG_INIT;
    be_patient();
    config.capacity = 8 << 20;
    reclaim.free_one = count_free;
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    cr_assert_eq(weir_reclaimer_create(&reclaimer, &reclaim), 0);
    cr_assert_eq(use_page_cache_and_reclaimer(), 0);
    in_child(use_them_and_fork_again);
    cr_assert_eq(use_page_cache_and_reclaimer(), 0);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
    cr_assert_eq(weir_reclaimer_destroy(reclaimer), 0);
}

/* The child of a reader, the only one there is. */
static int drain_quietly(void)
{
    weir_cache_free(cache, weir_cache_alloc(cache));
    CHILD_REQUIRE(weir_cache_drain_all(cache, WEIR_DRAIN_QUIET) != 0);
    CHILD_REQUIRE(errno == 0);
    weir_cache_free_rcu(cache, weir_cache_alloc(cache));
    CHILD_REQUIRE(weir_cache_rcu_barrier(cache) == 0);
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
    CHILD_REQUIRE(weir_cache_destroy(cache) == 0);
    return backend_lent(&backend) == 0 ? 0 : 1;
}

Test(fork, child_of_the_only_reader_drains_quietly)
{
    be_patient();
    backend_init(&backend, NR);
    create(true, NULL);
    urcu_qsbr_register_thread();
    weir_cache_free_rcu(cache, weir_cache_alloc(cache));
    in_child(drain_quietly);
    cr_assert_gt(weir_cache_drain_all(cache, WEIR_DRAIN_QUIET), 0u);
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
    cr_assert_eq(weir_cache_destroy(cache), 0);
    backend_destroy(&backend);
}

/* --- what it cannot do, and is told --- */

static uint32_t reader_is_there;

static void *be_a_reader(void *unused)
{
    (void)unused;
    urcu_qsbr_register_thread();
    weir_store_release(&reader_is_there, 1u);
    while (weir_load_acquire(&stop) == 0) {
        weir_grace_annotate_quiescent();
        urcu_qsbr_quiescent_state();
        fixture_sleep(100);
    }
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
    return NULL;
}

static int be_told_that_there_are_no_grace_periods(void)
{
    void *object = weir_cache_alloc(cache);
    CHILD_REQUIRE(weir_cache_usable(cache));
    CHILD_REQUIRE(object != NULL);
    weir_cache_free(cache, weir_cache_alloc(cache));
    weir_cache_free_rcu(cache, object);
    CHILD_REQUIRE(weir_cache_rcu_barrier(cache) == -EOWNERDEAD);
    weir_cache_drain_all(cache, WEIR_DRAIN_QUIET);
    CHILD_REQUIRE(errno == (fixture_locked() ? 0 : EOWNERDEAD)); /* with locks it needs none */
    weir_cache_shrink(cache);
    CHILD_REQUIRE(errno == 0);
    CHILD_REQUIRE(weir_cache_destroy(cache) == -EOWNERDEAD);
    return 0;
}

Test(fork, child_that_has_lost_other_readers_is_told_that_it_has_no_grace_periods)
{
    pthread_t reader;
    backend_init(&backend, NR);
    create(true, NULL);
    weir_store_relaxed(&stop, 0u);
    be_patient();
    urcu_qsbr_register_thread(); /* this one is allowed */
    reader = fixture_thread(be_a_reader, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&reader_is_there) != 0);
    in_child(be_told_that_there_are_no_grace_periods);
    weir_cache_free_rcu(cache, weir_cache_alloc(cache));
    cr_assert_eq(weir_cache_rcu_barrier(cache), 0);
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
    weir_store_release(&stop, 1u);
    pthread_join(reader, NULL);
    cr_assert_eq(weir_cache_destroy(cache), 0);
    backend_destroy(&backend);
}

/* A grace period in the child that never ends. */
static struct gate gate;

static int wait_in_vain(void)
{
    gate.open = false;
    gate.allowed = 0;
    CHILD_REQUIRE(weir_grace_wait(gate.grace, weir_grace_start(gate.grace)) == -EOWNERDEAD);
    return 0;
}

Test(fork, child_whose_first_grace_period_does_not_end_gives_up_waiting)
{
    gate_create(&gate, true);
    in_child(wait_in_vain);
    cr_assert_eq(weir_grace_wait(gate.grace, weir_grace_start(gate.grace)), 0);
    gate_destroy(&gate);
}

/* A backend that waits for the thread that forks: it cannot be made to pause. */
static uint32_t held_up, go_on;

static void hold_up(void)
{
    if (weir_load_acquire(&go_on) != 0)
        return;
    weir_store_release(&held_up, 1u);
    while (weir_load_acquire(&go_on) == 0)
        fixture_sleep(1000);
}

static void *use_backend(void *unused)
{
    void *objects[4 * CAPACITY]; /* more than there are in the cache */
    (void)unused;
    size_t got = weir_cache_alloc_bulk(cache, 4 * CAPACITY, objects);
    weir_cache_free_bulk(cache, got, objects);
    return NULL;
}

static int be_told_that_nothing_can_be_used(void)
{
    void *objects[2];
    CHILD_REQUIRE(!weir_cache_usable(cache));
    CHILD_REQUIRE(weir_cache_alloc(cache) == NULL);
    CHILD_REQUIRE(weir_cache_alloc_nolock(cache) == NULL);
    CHILD_REQUIRE(weir_cache_alloc_bulk(cache, 2, objects) == 0);
    weir_cache_free(cache, &backend.objects[0]);
    weir_cache_free_bulk(cache, 1, (void *[]){&backend.objects[1]});
    weir_cache_free_rcu(cache, &backend.objects[2]);
    CHILD_REQUIRE(weir_cache_decay(cache) == 0);
    CHILD_REQUIRE(weir_cache_shrink(cache) == 0 && errno == EOWNERDEAD);
    CHILD_REQUIRE(weir_cache_rcu_barrier(cache) == -EOWNERDEAD);
    CHILD_REQUIRE(weir_cache_destroy(cache) == -EOWNERDEAD);
    return 0;
}

Test(fork, child_of_a_process_that_could_not_pause_is_told_so)
{
    backend_init(&backend, NR);
    create(false, NULL);
    weir_cache_free(cache, weir_cache_alloc(cache)); /* there is something in a slot */
    backend.entered = hold_up;
    pthread_t thread = fixture_thread(use_backend, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&held_up) != 0);
    in_child(be_told_that_nothing_can_be_used);
    cr_assert(weir_cache_usable(cache));
    weir_store_release(&go_on, 1u);
    pthread_join(thread, NULL);
    in_child(take_everything);
    cr_assert_eq(weir_cache_destroy(cache), 0);
    backend_destroy(&backend);
}
