/* SPDX-License-Identifier: MIT */
/*
 * Checked builds (WEIR_CHECKED) of a cache with registered_users: who uses it and is no online reader is
 * stopped by SIGABRT, after one line that names the function and the source; who is, is not.
 */
#include <signal.h>
#include <urcu/urcu-qsbr.h>

#include "cache_fixture.h"
#include "stopped.h"

static void start_with_readers(bool registered_users)
{
    find_cpus();
    backend_init(&backend, NR);
    struct weir_cache_config config = config_of(CAPACITY, 0);
    config.grace = NULL; /* liburcu-qsbr */
    config.registered_users = registered_users;
    cr_assert_eq(weir_cache_create(&cache, &config), 0);
}

/* An object, got as a reader; who calls this is none, before and after. */
static void take_as_reader(void)
{
    urcu_qsbr_register_thread();
    take_n(3);
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
}

static void do_alloc(void)
{
    weir_cache_alloc(cache);
}

static void do_alloc_bulk(void)
{
    void *objects[3];
    weir_cache_alloc_bulk(cache, 3, objects);
}

static void do_alloc_nolock(void)
{
    weir_cache_alloc_nolock(cache);
}

static void do_free(void)
{
    weir_cache_free(cache, held[0]);
}

static void do_free_bulk(void)
{
    weir_cache_free_bulk(cache, 3, held);
}

static void do_free_rcu(void)
{
    weir_cache_free_rcu(cache, held[0]);
}

static const struct {
    void (*run)(void);
    const char *function;
} uses[] = {
    {do_alloc, "weir_cache_alloc"},
    {do_alloc_bulk, "weir_cache_alloc_bulk"},
    {do_alloc_nolock, "weir_cache_alloc_nolock"},
    {do_free, "weir_cache_free"},
    {do_free_bulk, "weir_cache_free_bulk"},
    {do_free_rcu, "weir_cache_free_rcu"},
};
enum { USES = sizeof uses / sizeof uses[0] };

/* Nothing but the one line. */
static void check_stopped(void (*run)(void), const char *function)
{
    char line[256];
    int status = stopped(run);
    snprintf(
        line, sizeof line,
        "weir: %s: its cache has registered_users, but this thread is no online reader of liburcu-qsbr\n",
        function);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: status %#x, and it says: %s", function,
              (unsigned)status, stopped_said);
    cr_assert_str_eq(stopped_said, line, "it says: %s", stopped_said);
}

Test(cache_checked, who_is_no_reader_is_stopped)
{
    start_with_readers(true);
    take_as_reader();
    for (unsigned i = 0; i < USES; i++)
        check_stopped(uses[i].run, uses[i].function);
}

Test(cache_checked, reader_that_is_off_line_is_stopped)
{
    start_with_readers(true);
    urcu_qsbr_register_thread();
    take_n(3);
    weir_grace_annotate_quiescent();
    urcu_qsbr_thread_offline();
    for (unsigned i = 0; i < USES; i++)
        check_stopped(uses[i].run, uses[i].function);
    urcu_qsbr_unregister_thread();
}

static unsigned current;

static void use_as_reader(void)
{
    urcu_qsbr_register_thread();
    for (unsigned i = 0; i < 3; i++)
        backend_disown_shared(held[i]);
    uses[current].run();
}

Test(cache_checked, online_reader_is_not_stopped)
{
    start_with_readers(true);
    take_as_reader();
    for (current = 0; current < USES; current++) {
        int status = stopped(use_as_reader);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: status %#x, and it says: %s",
                  uses[current].function, (unsigned)status, stopped_said);
        cr_assert_str_eq(stopped_said, "");
    }
}

Test(cache_checked, without_the_promise_nobody_is_stopped)
{
    start_with_readers(false);
    cr_assert_eq(take_n(20), 20u);
    give_rcu(5);
    give_bulk(7);
    give_n(nr_held);
    cr_assert_eq(take_bulk(10), 10u);
    held[nr_held++] = backend_own(&backend, weir_cache_alloc_nolock(cache));
    give_n(nr_held);
    cr_assert_eq(weir_cache_rcu_barrier(cache), 0);
    check_counts(0);
    cr_assert_eq(weir_cache_destroy(cache), 0);
    backend_destroy(&backend);
}

/* Decay, drains, statistics and the rest are for anybody, and so is a source that cannot tell its readers. */
Test(cache_checked, who_only_looks_after_it_need_not_be_a_reader)
{
    start_with_readers(true);
    take_as_reader();
    weir_cache_decay(cache);
    cr_assert_gt(weir_cache_drain_all(cache, WEIR_DRAIN_QUIET), 0u);
    weir_cache_shrink(cache);
    cr_assert_eq(weir_cache_rcu_barrier(cache), 0);
    check_counts(0);
    cr_assert_eq(weir_cache_destroy(cache), 0);
}

Test(cache_checked, source_that_cannot_tell_stops_nobody)
{
    prepare(true);
    struct weir_cache_config config = config_of(CAPACITY, 0);
    config.registered_users = true;
    cr_assert_eq(weir_cache_create(&cache, &config), 0);
    take_n(10);
    check_counts(0);
    finish();
}
