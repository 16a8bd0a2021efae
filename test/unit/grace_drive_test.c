/* SPDX-License-Identifier: MIT */
/* Grace periods that are asked for, by a helper and without one: weir_grace_drive(), and waiting that drives. */
#include "grace.h"
#include "grace_asked.h"

#include <dirent.h>

#include "weir_test.h"

static struct asked asked;
static struct gate gate;

static unsigned threads(void)
{
    unsigned n = 0;
    DIR *tasks = opendir("/proc/self/task");
    cr_assert_not_null(tasks);
    for (struct dirent *task; (task = readdir(tasks));)
        n += task->d_name[0] != '.';
    closedir(tasks);
    return n;
}

/* --- with a helper --- */

Test(grace_drive, helper_asks_until_the_grace_period_is_over)
{
    asked_create(&asked, false);
    cr_assert(weir__grace_has_helper(asked.grace));
    for (uint64_t round = 1; round <= 20; round++) {
        weir_grace_cookie cookie = weir_grace_start(asked.grace);
        FIXTURE_AWAIT(weir_load_acquire(&asked.begun) == round);
        cr_assert_not(weir_grace_poll(asked.grace, cookie));
        asked_allow(&asked, round);
        cr_assert_eq(weir_grace_wait(asked.grace, cookie), 0);
        cr_assert_eq(weir_grace_periods(asked.grace), round);
    }
    cr_assert_not(weir_grace_drive(asked.grace));
    weir_grace_put(asked.grace);
}

Test(grace_drive, one_that_is_under_way_does_not_satisfy_a_later_cookie_with_a_helper)
{
    asked_create(&asked, false);
    weir_grace_cookie early = weir_grace_start(asked.grace);
    FIXTURE_AWAIT(weir_load_acquire(&asked.begun) == 1);
    weir_grace_cookie late = weir_grace_start(asked.grace);
    asked_allow(&asked, 1);
    cr_assert_eq(weir_grace_wait(asked.grace, early), 0);
    FIXTURE_AWAIT(weir_load_acquire(&asked.begun) == 2);
    cr_assert_not(weir_grace_poll(asked.grace, late));
    asked_allow(&asked, 2);
    cr_assert_eq(weir_grace_wait(asked.grace, late), 0);
    weir_grace_put(asked.grace);
}

Test(grace_drive, source_is_given_back_while_its_helper_asks_in_vain)
{
    asked_create(&asked, false);
    weir_grace_start(asked.grace);
    FIXTURE_AWAIT(weir_load_acquire(&asked.begun) == 1);
    weir_grace_put(asked.grace);
}

Test(grace_drive, drive_leaves_a_helper_alone)
{
    gate_create(&gate, false);
    weir_grace_cookie cookie = weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1);
    cr_assert_not(weir_grace_drive(gate.grace));
    cr_assert_not(weir_grace_poll(gate.grace, cookie));
    gate_destroy(&gate);
}

/* --- without --- */

Test(grace_drive, nothing_happens_but_in_drive)
{
    unsigned before = threads();
    asked_create(&asked, true);
    cr_assert_not(weir__grace_has_helper(asked.grace));
    cr_assert_not(weir_grace_drive(asked.grace)); /* nobody wants one */
    weir_grace_cookie cookie = weir_grace_start(asked.grace);
    weir__grace_kick(asked.grace);
    fixture_sleep(20000);
    cr_assert_eq(asked.begun, 0u);
    cr_assert(weir_grace_drive(asked.grace));
    cr_assert_eq(asked.begun, 1u);
    cr_assert(weir_grace_drive(asked.grace));
    cr_assert_not(weir_grace_poll(asked.grace, cookie));
    asked_allow(&asked, 1);
    cr_assert_not(weir_grace_poll(asked.grace, cookie));
    cr_assert_not(weir_grace_drive(asked.grace));
    cr_assert(weir_grace_poll(asked.grace, cookie));
    cr_assert_eq(threads(), before);
    weir_grace_put(asked.grace);
}

Test(grace_drive, one_that_is_under_way_does_not_satisfy_a_later_cookie)
{
    asked_create(&asked, true);
    for (uint64_t round = 1; round < 20; round += 2) {
        weir_grace_cookie early = weir_grace_start(asked.grace);
        weir_grace_drive(asked.grace);
        weir_grace_cookie late = weir_grace_start(asked.grace);
        asked_allow(&asked, round);
        cr_assert(weir_grace_drive(asked.grace)); /* another one is wanted */
        cr_assert(weir_grace_poll(asked.grace, early));
        cr_assert_not(weir_grace_poll(asked.grace, late));
        asked_allow(&asked, round + 1);
        cr_assert_not(weir_grace_drive(asked.grace));
        cr_assert(weir_grace_poll(asked.grace, late));
    }
    cr_assert_eq(asked.begun, 20u);
    weir_grace_put(asked.grace);
}

/* A source that can only wait, and knows readers. */
static struct {
    bool online, was_online_in_synchronize;
    unsigned synchronized;
} reader = {.online = true};

static void synchronize(void *unused)
{
    (void)unused;
    reader.was_online_in_synchronize |= reader.online;
    reader.synchronized++;
}

static bool reader_offline(void *unused)
{
    (void)unused;
    bool was_online = reader.online;
    reader.online = false;
    return was_online;
}

static void reader_online(void *unused)
{
    (void)unused;
    reader.online = true;
}

Test(grace_drive, driver_is_offline_while_it_waits_for_a_source_that_can_only_wait)
{
    struct weir_grace_source source = {.name = "waits",
                                       .synchronize = synchronize,
                                       .reader_offline = reader_offline,
                                       .reader_online = reader_online,
                                       .no_helper = true};
    struct weir_grace *grace;
    cr_assert_eq(weir_grace_create(&grace, &source), 0);
    weir_grace_cookie cookie = weir_grace_start(grace);
    cr_assert_not(weir_grace_drive(grace));
    cr_assert(weir_grace_poll(grace, cookie));
    cr_assert(reader.online);
    cr_assert_eq(weir_grace_wait(grace, weir_grace_start(grace)), 0);
    cr_assert(reader.online);
    cr_assert_not(reader.was_online_in_synchronize);
    cr_assert_eq(reader.synchronized, 2u);
    weir_grace_put(grace);
}

Test(grace_drive, source_with_both_is_waited_for_by_a_helper_and_asked_without)
{
    struct weir_grace_source source = {
        .name = "both", .synchronize = synchronize, .begin = asked_begin, .over = asked_over, .arg = &asked};
    struct weir_grace *grace;
    asked_allow(&asked, 100);
    cr_assert_eq(weir_grace_create(&grace, &source), 0);
    cr_assert_eq(weir_grace_wait(grace, weir_grace_start(grace)), 0);
    cr_assert_eq(reader.synchronized, 1u);
    weir_grace_put(grace);
    source.no_helper = true;
    cr_assert_eq(weir_grace_create(&grace, &source), 0);
    cr_assert_eq(weir_grace_wait(grace, weir_grace_start(grace)), 0);
    cr_assert_eq(asked.begun, 1u);
    cr_assert_eq(reader.synchronized, 1u);
    weir_grace_put(grace);
}

/* --- sweeps --- */

static struct weir__grace_client client;
static unsigned client_pending, swept;

static unsigned client_wish(struct weir__grace_client *unused)
{
    (void)unused;
    return client_pending;
}

static void sweep_client(struct weir__grace_client *unused)
{
    (void)unused;
    client_pending = 0;
    swept++;
}

Test(grace_drive, drive_sweeps_what_is_due_and_says_that_something_is_pending)
{
    asked_create(&asked, true);
    client = (struct weir__grace_client){.sweep = sweep_client, .wish = client_wish};
    weir__grace_register(asked.grace, &client);
    cr_assert_not(weir_grace_drive(asked.grace));
    client_pending = 5;
    weir__grace_kick(asked.grace);
    while (weir_grace_drive(asked.grace))
        fixture_sleep(500);
    cr_assert_eq(swept, 1u);
    cr_assert_eq(asked.begun, 0u);
    weir__grace_unregister(asked.grace, &client);
    weir_grace_put(asked.grace);
}

/* --- several threads --- */

static uint32_t released;

static void *wait_for(void *cookie)
{
    if (weir_grace_wait(asked.grace, *(weir_grace_cookie *)cookie) != 0)
        FIXTURE_FAIL("weir_grace_wait failed");
    weir_fetch_add_acq_rel(&released, 1u);
    return NULL;
}

Test(grace_drive, waiter_that_sleeps_takes_over_when_the_one_that_drives_is_done)
{
    enum { LATE = 4 };
    pthread_t first, others[LATE];
    asked_create(&asked, true);
    weir_grace_cookie early = weir_grace_start(asked.grace);
    first = fixture_thread(wait_for, &early);
    FIXTURE_AWAIT(weir_load_acquire(&asked.begun) == 1); /* it drives */
    weir_grace_cookie late = weir_grace_start(asked.grace);
    for (unsigned i = 0; i < LATE; i++)
        others[i] = fixture_thread(wait_for, &late);
    fixture_sleep(10000);                     /* most likely they sleep by now */
    cr_assert(weir_grace_drive(asked.grace)); /* tried, not waited for */
    asked_allow(&asked, 1);
    pthread_join(first, NULL);
    FIXTURE_AWAIT(weir_load_acquire(&asked.begun) == 2);
    fixture_sleep(10000);
    cr_assert_eq(weir_load_acquire(&released), 1u);
    asked_allow(&asked, 2);
    for (unsigned i = 0; i < LATE; i++)
        pthread_join(others[i], NULL);
    weir_grace_put(asked.grace);
}

static pthread_t waiter;

/* Asked by a driver that will not stay, while another thread comes and waits. */
static bool leave_to_the_other(void *arg, uint64_t begun)
{
    static weir_grace_cookie cookie;
    if (waiter == 0) {
        cookie = weir_grace_start(asked.grace);
        waiter = fixture_thread(wait_for, &cookie);
        fixture_sleep(20000); /* most likely it sleeps by now */
        return false;
    }
    return asked_over(arg, begun);
}

Test(grace_drive, waiter_that_sleeps_takes_over_when_drive_returns_with_the_grace_period_under_way)
{
    struct weir_grace_source source = {
        .name = "left", .begin = asked_begin, .over = leave_to_the_other, .no_helper = true, .arg = &asked};
    cr_assert_eq(weir_grace_create(&asked.grace, &source), 0);
    asked_allow(&asked, UINT64_MAX);
    weir_grace_start(asked.grace);
    cr_assert(weir_grace_drive(asked.grace));
    FIXTURE_AWAIT(weir_load_acquire(&released) == 1);
    pthread_join(waiter, NULL);
    weir_grace_put(asked.grace);
}

static void *drive_and_wait(void *arg)
{
    uint64_t random = 88172645463325252u + (uintptr_t)arg * 7919;
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t dice = fixture_random(&random), begun = weir_load_acquire(&asked.begun);
        weir_grace_cookie cookie = weir_grace_start(asked.grace);
        if ((dice & 1) != 0 && weir_grace_wait(asked.grace, cookie) != 0)
            FIXTURE_FAIL("weir_grace_wait failed");
        for (unsigned n = dice >> 8 & 3; n != 0; n--)
            weir_grace_drive(asked.grace);
        if (weir_grace_poll(asked.grace, cookie) && weir_load_acquire(&asked.begun) == begun)
            FIXTURE_FAIL("a cookie is satisfied although no grace period has begun since it was taken");
    }
    return NULL;
}

Test(grace_drive, threads_that_drive_and_wait_at_once_all_come_through, .timeout = 120)
{
    pthread_t all[4];
    asked_create(&asked, true);
    asked_allow(&asked, UINT64_MAX);
    for (uintptr_t i = 0; i < 4; i++)
        all[i] = fixture_thread(drive_and_wait, (void *)i);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(all[i], NULL);
    while (weir_grace_drive(asked.grace))
        ;
    weir_grace_put(asked.grace);
}
