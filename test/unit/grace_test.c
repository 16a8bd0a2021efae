/* SPDX-License-Identifier: MIT */
/* weir/grace.h over a source that ends a grace period when it is told to, and over liburcu-qsbr. */
#include "grace.h"
#include "fixtures.h"

#include <dirent.h>
#include <urcu/urcu-qsbr.h>

#include "weir_test.h"

static struct gate gate;

static void source_that_does_nothing(void *unused)
{
    (void)unused;
}

static bool no_reader(void *unused)
{
    (void)unused;
    return false;
}

/* Threads of this process that are named like the helper. */
static unsigned helpers(void)
{
    unsigned n = 0;
    DIR *tasks = opendir("/proc/self/task");
    cr_assert_not_null(tasks);
    for (struct dirent *task; (task = readdir(tasks));) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        n += fgets(name, sizeof name, file) && strcmp(name, "weir-grace\n") == 0;
        fclose(file);
    }
    closedir(tasks);
    return n;
}

Test(grace, sources_that_lack_a_function_are_refused)
{
    struct weir_grace *grace = (void *)&gate;
    struct weir_grace_source source = {.name = "incomplete"};
    cr_assert_eq(weir_grace_create(&grace, NULL), -EINVAL);
    cr_assert_null(grace);
    cr_assert_eq(weir_grace_create(&grace, &source), -EINVAL);
    source.synchronize = source_that_does_nothing;
    source.reader_offline = no_reader;
    cr_assert_eq(weir_grace_create(&grace, &source), -EINVAL);
    source.reader_offline = NULL;
    source.reader_online = source_that_does_nothing;
    cr_assert_eq(weir_grace_create(&grace, &source), -EINVAL);
    cr_assert_null(grace);
    source.reader_offline = no_reader;
    cr_assert_eq(weir_grace_create(&grace, &source), 0);
    weir_grace_put(grace);
    weir_grace_put(NULL);
}

Test(grace, helper_thread_runs_only_while_the_source_is_held)
{
    gate_create(&gate, true);
    FIXTURE_AWAIT(helpers() == 1);
    gate_destroy(&gate);
    cr_assert_eq(helpers(), 0u);
}

Test(grace, cookie_is_not_satisfied_before_a_grace_period_has_ended)
{
    gate_create(&gate, false);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1);
    cr_assert_not(weir_grace_poll(gate.grace, cookie));
    cr_assert_eq(weir_grace_periods(gate.grace), 0u);
    gate_let_one(&gate);
    weir_grace_wait(gate.grace, cookie);
    cr_assert(weir_grace_poll(gate.grace, cookie));
    cr_assert_eq(weir_grace_periods(gate.grace), 1u);
    weir_grace_wait(gate.grace, cookie); /* at once */
    gate_destroy(&gate);
}

Test(grace, nobody_wants_one_and_none_runs)
{
    gate_create(&gate, true);
    fixture_sleep(50000);
    cr_assert_eq(gate_begun(&gate), 0u);
    weir_grace_wait(gate.grace, weir_grace_start(gate.grace));
    fixture_sleep(50000);
    cr_assert_eq(gate_begun(&gate), 1u);
    gate_destroy(&gate);
}

Test(grace, grace_period_under_way_does_not_satisfy_a_cookie_taken_meanwhile)
{
    gate_create(&gate, false);
    for (unsigned round = 0; round < 20; round++) {
        weir_grace_cookie early = weir_grace_start(gate.grace);
        gate_await_begun(&gate, 2 * round + 1);
        weir_grace_cookie late = weir_grace_start(gate.grace);
        gate_let_one(&gate);
        weir_grace_wait(gate.grace, early);
        gate_await_begun(&gate, 2 * round + 2);
        cr_assert(weir_grace_poll(gate.grace, early));
        cr_assert_not(weir_grace_poll(gate.grace, late));
        gate_let_one(&gate);
        weir_grace_wait(gate.grace, late);
        cr_assert(weir_grace_poll(gate.grace, late));
    }
    cr_assert_eq(gate_begun(&gate), 40u);
    gate_destroy(&gate);
}

Test(grace, many_starts_share_one_grace_period)
{
    weir_grace_cookie cookies[1000];
    gate_create(&gate, false);
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1);
    for (unsigned i = 0; i < 1000; i++)
        cookies[i] = weir_grace_start(gate.grace);
    gate_let_one(&gate);
    gate_let_one(&gate);
    for (unsigned i = 0; i < 1000; i++)
        weir_grace_wait(gate.grace, cookies[i]);
    fixture_sleep(50000);
    cr_assert_eq(gate_begun(&gate), 2u);
    cr_assert_eq(weir_grace_periods(gate.grace), 2u);
    gate_destroy(&gate);
}

static unsigned released;

static void *wait_for_one(void *cookie)
{
    weir_grace_wait(gate.grace, *(weir_grace_cookie *)cookie);
    weir_fetch_add_relaxed(&released, 1u);
    return NULL;
}

Test(grace, all_waiters_are_released_and_none_too_early)
{
    enum { EARLY = 4, LATE = 3 };
    pthread_t early[EARLY], late[LATE];
    gate_create(&gate, false);
    weir_grace_cookie first = weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1);
    weir_grace_cookie second = weir_grace_start(gate.grace);
    for (unsigned i = 0; i < EARLY; i++)
        early[i] = fixture_thread(wait_for_one, &first);
    for (unsigned i = 0; i < LATE; i++)
        late[i] = fixture_thread(wait_for_one, &second);
    fixture_sleep(20000); /* most likely they sleep by now */
    cr_assert_eq(weir_load_relaxed(&released), 0u);
    gate_let_one(&gate);
    for (unsigned i = 0; i < EARLY; i++)
        pthread_join(early[i], NULL);
    fixture_sleep(20000);
    cr_assert_eq(weir_load_relaxed(&released), (unsigned)EARLY);
    gate_let_one(&gate);
    for (unsigned i = 0; i < LATE; i++)
        pthread_join(late[i], NULL);
    gate_destroy(&gate);
}

/* Past where the count wraps round in checked builds, which start 50 grace periods before. */
Test(grace, cookies_survive_the_wrap_of_the_count)
{
    gate_create(&gate, false);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    for (unsigned i = 0; i < 120; i++) {
        gate_await_begun(&gate, i + 1);
        cr_assert_not(weir_grace_poll(gate.grace, cookie), "grace period %u", i);
        weir_grace_cookie next = weir_grace_start(gate.grace);
        gate_let_one(&gate);
        weir_grace_wait(gate.grace, cookie);
        cr_assert_not(weir_grace_poll(gate.grace, next), "grace period %u", i);
        cr_assert_eq(weir_grace_periods(gate.grace), i + 1u);
        cookie = next;
    }
    gate_destroy(&gate);
}

static void *start_and_wait(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < 300; i++) {
        unsigned begun_before = gate_begun(&gate);
        weir_grace_cookie cookie = weir_grace_start(gate.grace);
        weir_grace_wait(gate.grace, cookie);
        if (gate_begun(&gate) == begun_before)
            FIXTURE_FAIL("a wait returned although no grace period had begun since the cookie was taken");
    }
    return NULL;
}

Test(grace, no_start_is_forgotten_when_many_threads_start_at_once, .timeout = 120)
{
    pthread_t threads[4];
    gate_create(&gate, true);
    for (unsigned i = 0; i < 4; i++)
        threads[i] = fixture_thread(start_and_wait, NULL);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    gate_destroy(&gate);
}

/* --- what the helper does for those who have something pending --- */

static struct weir__grace_client client;
static unsigned client_pending, asked, swept;

/* Wishes to be swept in so many milliseconds. */
static unsigned client_wish(struct weir__grace_client *unused)
{
    (void)unused;
    weir_fetch_add_relaxed(&asked, 1u);
    return weir_load_relaxed(&client_pending);
}

static void sweep_client(struct weir__grace_client *unused)
{
    (void)unused;
    weir_store_relaxed(&client_pending, 0u);
    weir_fetch_add_relaxed(&swept, 1u);
}

Test(grace, kick_makes_the_helper_sweep_and_it_sleeps_until_then)
{
    gate_create(&gate, true);
    client = (struct weir__grace_client){.sweep = sweep_client, .wish = client_wish};
    weir__grace_register(gate.grace, &client);
    for (unsigned i = 0; i < 20; i++) {
        unsigned before = weir_load_relaxed(&swept);
        weir_store_relaxed(&client_pending, i % 2 ? 1u : 3 * WEIR_SWEEP_MILLISECONDS); /* near, far */
        weir__grace_kick(gate.grace);
        FIXTURE_AWAIT(weir_load_relaxed(&swept) > before);
    }
    /* A few times each time that it goes to sleep; one that does not sleep asks a hundred thousand times. */
    cr_assert_leq(weir_load_relaxed(&asked), 1000u);
    weir__grace_unregister(gate.grace, &client);
    gate_destroy(&gate);
}

/* --- a waiter that is a reader --- */

static struct {
    bool online;
    unsigned offline_calls, online_calls;
} reader;

static bool reader_offline(void *arg)
{
    cr_assert_eq(arg, &gate);
    reader.offline_calls++;
    return reader.online;
}

static void reader_online(void *arg)
{
    cr_assert_eq(arg, &gate);
    reader.online_calls++;
}

/* A gate whose source knows readers. */
static void start_with_readers(bool online)
{
    struct weir_grace_source source = {.name = "readers",
                                       .synchronize = gate_synchronize,
                                       .reader_offline = reader_offline,
                                       .reader_online = reader_online,
                                       .arg = &gate};
    gate_create(&gate, false);
    weir_grace_put(gate.grace);
    cr_assert_eq(weir_grace_create(&gate.grace, &source), 0);
    reader.online = online;
}

static void *let_one_later(void *unused)
{
    (void)unused;
    fixture_sleep(20000);
    gate_let_one(&gate);
    return NULL;
}

Test(grace, reader_that_need_not_wait_stays_online)
{
    start_with_readers(true);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_let_one(&gate);
    FIXTURE_AWAIT(weir_grace_poll(gate.grace, cookie));
    weir_grace_wait(gate.grace, cookie);
    cr_assert_eq(reader.offline_calls, 0u);
    cr_assert_eq(reader.online_calls, 0u);
    gate_destroy(&gate);
}

static void wait_as(bool online)
{
    start_with_readers(online);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    pthread_t later = fixture_thread(let_one_later, NULL);
    weir_grace_wait(gate.grace, cookie);
    cr_assert_eq(reader.offline_calls, 1u);
    cr_assert_eq(reader.online_calls, online ? 1u : 0u);
    pthread_join(later, NULL);
    gate_destroy(&gate);
}

Test(grace, reader_that_has_to_wait_goes_offline_and_comes_back)
{
    wait_as(true);
}

Test(grace, waiter_that_is_no_reader_does_not_become_one)
{
    wait_as(false);
}

Test(grace, reader_that_gives_the_source_back_does_not_hold_up_its_helper)
{
    start_with_readers(true);
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1);
    pthread_t later = fixture_thread(let_one_later, NULL);
    weir_grace_put(gate.grace);
    cr_assert_eq(reader.offline_calls, 1u);
    cr_assert_eq(reader.online_calls, 1u);
    pthread_join(later, NULL);
    gate.grace = NULL;
    gate_destroy(&gate);
}

/* --- liburcu-qsbr --- */

Test(grace, qsbr_is_one_source_for_all)
{
    struct weir_grace *first, *second;
    cr_assert_eq(weir_grace_qsbr(&first), 0);
    cr_assert_eq(weir_grace_qsbr(&second), 0);
    cr_assert_eq(first, second);
    FIXTURE_AWAIT(helpers() == 1);
    weir_grace_put(first);
    weir_grace_wait(second, weir_grace_start(second));
    weir_grace_put(second);
    cr_assert_eq(weir_grace_qsbr(&first), 0);
    cr_assert_eq(first, second);
    weir_grace_wait(first, weir_grace_start(first));
    weir_grace_put(first);
    FIXTURE_AWAIT(helpers() == 1);
}

Test(grace, online_qsbr_reader_waits_without_deadlock_and_is_online_again, .timeout = 120)
{
    struct weir_grace *grace;
    cr_assert_eq(weir_grace_qsbr(&grace), 0);
    urcu_qsbr_register_thread();
    cr_assert(urcu_qsbr_read_ongoing());
    for (unsigned i = 0; i < 20; i++) {
        weir_grace_wait(grace, weir_grace_start(grace));
        cr_assert(urcu_qsbr_read_ongoing());
    }
    weir_grace_annotate_quiescent();
    urcu_qsbr_thread_offline();
    weir_grace_wait(grace, weir_grace_start(grace));
    cr_assert_not(urcu_qsbr_read_ongoing());
    urcu_qsbr_unregister_thread();
    weir_grace_wait(grace, weir_grace_start(grace));
    weir_grace_put(grace);
}

static unsigned reading, may_stop_reading;

static void *read_for_long(void *unused)
{
    (void)unused;
    urcu_qsbr_register_thread();
    weir_store_release(&reading, 1u);
    while (!weir_load_acquire(&may_stop_reading))
        fixture_sleep(100);
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
    return NULL;
}

Test(grace, qsbr_reader_holds_up_a_grace_period)
{
    struct weir_grace *grace;
    cr_assert_eq(weir_grace_qsbr(&grace), 0);
    pthread_t thread = fixture_thread(read_for_long, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&reading));
    weir_grace_cookie cookie = weir_grace_start(grace);
    for (unsigned i = 0; i < 50; i++) {
        fixture_sleep(1000);
        cr_assert_not(weir_grace_poll(grace, cookie));
    }
    weir_store_release(&may_stop_reading, 1u);
    weir_grace_wait(grace, cookie);
    pthread_join(thread, NULL);
    weir_grace_put(grace);
}
