/* SPDX-License-Identifier: MIT */
/* fork() and sources that are asked, driven or watched: the child has grace periods of its own, or is told not. */
#include "fork.h"
#include "grace.h"
#include "grace_asked.h"

#include <sys/wait.h>
#include <urcu/urcu-qsbr.h>
#if WEIR_WITH_CK
#include <ck_epoch.h>
#endif

#include "weir_test.h"

static struct asked asked;
static struct gate gate;

/* Runs `body` in a child; what it returns has to be true. One that hangs is killed by its alarm. */
static void in_child(bool (*body)(void))
{
    int status = -1;
    weir__fork_patience = 1000 * FIXTURE_PATIENCE_SECONDS / 2; /* however busy the machine is */
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        alarm(FIXTURE_PATIENCE_SECONDS);
        _exit(body() ? 0 : 1);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status), "the child died of signal %d", WTERMSIG(status));
    cr_assert_eq(WEXITSTATUS(status), 0);
}

static weir_grace_cookie cookie;

/* One that was under way has not begun in the child: this thread may be a reader that it would wait for. */
static bool begin_anew(void)
{
    asked.under_way = false;
    asked.begun = asked.allowed = 0;
    if (weir_grace_poll(asked.grace, cookie))
        return false;
    weir_grace_cookie later = weir_grace_start(asked.grace);
    if (!asked_drive_until_begun(&asked, 1) || weir_grace_poll(asked.grace, cookie))
        return false;
    asked_allow(&asked, 10);
    return weir_grace_wait(asked.grace, later) == 0 && weir_grace_poll(asked.grace, cookie);
}

Test(grace_fork, grace_period_that_is_driven_begins_anew_in_the_child_and_goes_on_in_the_parent)
{
    asked_create(&asked, true);
    cookie = weir_grace_start(asked.grace);
    weir_grace_drive(asked.grace);
    in_child(begin_anew);
    cr_assert_not(weir_grace_poll(asked.grace, cookie));
    asked_allow(&asked, 1);
    cr_assert_not(weir_grace_drive(asked.grace));
    cr_assert(weir_grace_poll(asked.grace, cookie));
    cr_assert_eq(asked.begun, 1u);
    weir_grace_put(asked.grace);
}

Test(grace_fork, grace_period_that_a_helper_asks_for_begins_anew_in_the_child)
{
    asked_create(&asked, false);
    cookie = weir_grace_start(asked.grace);
    FIXTURE_AWAIT(weir_load_acquire(&asked.begun) == 1);
    in_child(begin_anew);
    asked_allow(&asked, 1);
    cr_assert_eq(weir_grace_wait(asked.grace, cookie), 0);
    weir_grace_put(asked.grace);
}

static void *wait_for_cookie(void *unused)
{
    (void)unused;
    if (weir_grace_wait(asked.grace, cookie) != 0)
        FIXTURE_FAIL("weir_grace_wait failed");
    return NULL;
}

Test(grace_fork, child_can_drive_although_another_thread_drove)
{
    pthread_t threads[3];
    asked_create(&asked, true);
    cookie = weir_grace_start(asked.grace);
    for (unsigned i = 0; i < 3; i++)
        threads[i] = fixture_thread(wait_for_cookie, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&asked.begun) == 1);
    for (unsigned i = 0; i < 5; i++)
        in_child(begin_anew);
    asked_allow(&asked, 1);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    weir_grace_put(asked.grace);
}

static struct weir_grace *qsbr;

static bool wait_as_reader(void)
{
    return urcu_qsbr_read_ongoing() && weir_grace_wait(qsbr, weir_grace_start(qsbr)) == 0;
}

Test(grace_fork, child_of_the_only_qsbr_reader_has_grace_periods_without_a_helper)
{
    struct weir_grace_source source = weir_grace_source_qsbr();
    source.no_helper = true;
    cr_assert_eq(weir_grace_create(&qsbr, &source), 0);
    urcu_qsbr_register_thread();
    in_child(wait_as_reader);
    cr_assert_eq(weir_grace_wait(qsbr, weir_grace_start(qsbr)), 0);
    urcu_qsbr_unregister_thread();
    weir_grace_put(qsbr);
}

static uint32_t reading, stop;

static void *be_a_reader(void *unused)
{
    (void)unused;
    urcu_qsbr_register_thread();
    weir_store_release(&reading, 1u);
    while (weir_load_acquire(&stop) == 0) {
        urcu_qsbr_quiescent_state();
        fixture_sleep(100);
    }
    urcu_qsbr_unregister_thread();
    return NULL;
}

static bool be_told(void)
{
    return weir_grace_wait(qsbr, weir_grace_start(qsbr)) == -EOWNERDEAD && !weir_grace_drive(qsbr);
}

Test(grace_fork, child_that_has_lost_readers_is_told_so_without_a_helper)
{
    struct weir_grace_source source = weir_grace_source_qsbr();
    source.no_helper = true;
    cr_assert_eq(weir_grace_create(&qsbr, &source), 0);
    pthread_t thread = fixture_thread(be_a_reader, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&reading) != 0);
    in_child(be_told);
    cr_assert_eq(weir_grace_wait(qsbr, weir_grace_start(qsbr)), 0);
    weir_store_release(&stop, 1u);
    pthread_join(thread, NULL);
    weir_grace_put(qsbr);
}

/* --- stalls --- */

static uint32_t reports;

static void count(void *unused, const struct weir_grace_stall *stall)
{
    (void)unused;
    (void)stall;
    weir_fetch_add_relaxed(&reports, 1u);
}

static bool stall_in_child(void)
{
    reports = 0;
    gate.open = false;
    weir_grace_cookie mine = weir_grace_start(gate.grace);
    FIXTURE_AWAIT(weir_load_relaxed(&reports) >= 2);
    gate_open(&gate);
    return weir_grace_wait(gate.grace, mine) == 0;
}

Test(grace_fork, stalls_are_reported_in_the_child)
{
    gate_create(&gate, true);
    weir_grace_on_stall(gate.grace, 3, count, NULL);
    cr_assert_eq(weir_grace_wait(gate.grace, weir_grace_start(gate.grace)), 0);
    in_child(stall_in_child);
    gate_destroy(&gate);
}

/* The thread that watches becomes a reader for a moment, to see who is one: no fork() falls into that. */
Test(grace_fork, child_has_grace_periods_although_a_stall_was_reported_meanwhile, .timeout = 120)
{
    cr_assert_eq(weir_grace_qsbr(&qsbr), 0);
    urcu_qsbr_register_thread();
    for (unsigned i = 0; i < 30; i++) {
        weir_grace_on_stall(qsbr, 1, count, NULL);
        weir_grace_start(qsbr); /* waits for us */
        fixture_sleep(500 + i * 50);
        in_child(wait_as_reader);
        urcu_qsbr_quiescent_state();
    }
    urcu_qsbr_unregister_thread();
    weir_grace_put(qsbr);
}

/* --- Concurrency Kit --- */

#if WEIR_WITH_CK

static ck_epoch_t epoch;
static ck_epoch_record_t mine, others;
static struct weir_grace *ck;

static bool wait_for_ck(void)
{
    ck_epoch_begin(&mine, NULL);
    weir_grace_cookie now = weir_grace_start(ck);
    ck_epoch_end(&mine, NULL);
    return weir_grace_wait(ck, now) == 0;
}

static bool wait_for_ck_in_vain(void)
{
    return weir_grace_wait(ck, weir_grace_start(ck)) == -EOWNERDEAD;
}

Test(grace_fork, child_has_ck_grace_periods_unless_somebody_was_in_a_section)
{
    ck_epoch_init(&epoch);
    ck_epoch_register(&epoch, &mine, NULL);
    ck_epoch_register(&epoch, &others, NULL);
    cr_assert_eq(weir_grace_ck_epoch(&ck, &epoch), 0);
    in_child(wait_for_ck);
    ck_epoch_begin(&others, NULL); /* of a thread that will not be there */
    in_child(wait_for_ck_in_vain);
    ck_epoch_end(&others, NULL);
    in_child(wait_for_ck);
    cr_assert(wait_for_ck());
    weir_grace_put(ck);
}

#endif

/* liburcu takes readers off its list for a while during a grace period: whoever looks then finds nobody there. */
static struct weir_grace *shared_qsbr;
static unsigned reading, stop_reading;

static void *read_now_and_then(void *unused)
{
    urcu_qsbr_register_thread();
    weir_store_release(&reading, 1u);
    while (!weir_load_acquire(&stop_reading)) {
        fixture_sleep(100);
        urcu_qsbr_quiescent_state();
    }
    urcu_qsbr_unregister_thread();
    return unused;
}

static bool is_told(void)
{
    return weir_grace_wait(shared_qsbr, weir_grace_start(shared_qsbr)) == -EOWNERDEAD;
}

Test(grace_fork, child_that_has_lost_readers_is_told_so_although_a_grace_period_had_just_begun,
     .timeout = 120)
{
    cr_assert_eq(weir_grace_qsbr(&shared_qsbr), 0);
    pthread_t reader = fixture_thread(read_now_and_then, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&reading));
    for (unsigned i = 0; i < 400; i++) {
        struct timespec now, begun;
        weir_grace_start(shared_qsbr);
        clock_gettime(CLOCK_MONOTONIC, &begun);
        do
            clock_gettime(CLOCK_MONOTONIC, &now);
        while ((now.tv_sec - begun.tv_sec) * 1000000000 + now.tv_nsec - begun.tv_nsec <
               (long)(i % 100) * 1000);
        in_child(is_told);
    }
    weir_store_release(&stop_reading, 1u);
    pthread_join(reader, NULL);
    weir_grace_put(shared_qsbr);
}
