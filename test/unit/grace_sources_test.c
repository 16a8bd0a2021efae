/* SPDX-License-Identifier: MIT */
/* The sources that weir knows, with readers of their libraries: with a helper, without one, and changed. */
#include "grace.h"
#include "fixtures.h"

#include <urcu/urcu-qsbr.h>
#if WEIR_WITH_MEMB
#include <urcu/urcu-memb.h>
#endif
#if WEIR_WITH_CK
#include <ck_epoch.h>
#endif

#include "weir_test.h"

/* A reader that is inside from when it says so until it is told to leave. */
struct reader {
    void *(*run)(void *);
    pthread_t thread;
    uint32_t inside, leave;
};

static void stay_inside(struct reader *reader)
{
    weir_store_release(&reader->inside, 1u);
    while (weir_load_acquire(&reader->leave) == 0)
        fixture_sleep(100);
    weir_grace_annotate_quiescent();
}

static void enter(struct reader *reader)
{
    reader->inside = reader->leave = 0;
    reader->thread = fixture_thread(reader->run, reader);
    FIXTURE_AWAIT(weir_load_acquire(&reader->inside) != 0);
}

static void leave(struct reader *reader)
{
    weir_store_release(&reader->leave, 1u);
    pthread_join(reader->thread, NULL);
}

static void *read_qsbr(void *reader)
{
    urcu_qsbr_register_thread();
    stay_inside(reader);
    urcu_qsbr_unregister_thread();
    return NULL;
}

/* A reader that was there before holds a grace period up; one that comes later does not, where it is
 * `overtaken`; no later cookie is satisfied by what began before. */
static void check_readers(struct weir_grace *grace, void *(*run)(void *), bool overtaken)
{
    struct reader old = {.run = run}, young = {.run = run};
    enter(&old);
    weir_grace_cookie cookie = weir_grace_start(grace);
    for (unsigned i = 0; i < 30; i++) {
        weir_grace_drive(grace);
        fixture_sleep(500);
        cr_assert_not(weir_grace_poll(grace, cookie));
    }
    enter(&young);
    weir_grace_cookie late = weir_grace_start(grace);
    leave(&old);
    if (overtaken)
        cr_assert_eq(weir_grace_wait(grace, cookie), 0);
    for (unsigned i = 0; i < 30; i++) {
        weir_grace_drive(grace);
        fixture_sleep(500);
        cr_assert_not(weir_grace_poll(grace, late),
                      "a grace period that was under way satisfied a later cookie");
    }
    leave(&young);
    cr_assert_eq(weir_grace_wait(grace, late), 0);
}

Test(grace_sources, what_is_not_built_in_says_so)
{
    struct weir_grace *grace = (void *)&grace;
    struct weir_grace_source source = weir_grace_source_memb();
    cr_assert_eq(source.synchronize != NULL, WEIR_WITH_MEMB != 0);
#if !WEIR_WITH_MEMB
    cr_assert_eq(weir_grace_memb(&grace), -ENOTSUP);
    cr_assert_null(grace);
    cr_assert_eq(weir_grace_create(&grace, &source), -EINVAL);
#endif
    source = weir_grace_source_ck_epoch(NULL);
    cr_assert_eq(source.begin != NULL, WEIR_WITH_CK != 0);
#if !WEIR_WITH_CK
    cr_assert_eq(weir_grace_ck_epoch(&grace, NULL), -ENOTSUP);
    cr_assert_null(grace);
    cr_assert_eq(weir_grace_create(&grace, &source), -EINVAL);
#endif
    (void)grace;
}

/* A waiting driver is of no use here: where a source can only wait, drive() waits for the readers. */
static void *drive_to_the_end(void *grace)
{
    while (weir_grace_drive(grace))
        sched_yield();
    return NULL;
}

static void check_waiting_driver(struct weir_grace_source source, void *(*run)(void *))
{
    struct weir_grace *grace;
    struct reader reader = {.run = run};
    source.no_helper = true;
    cr_assert_eq(weir_grace_create(&grace, &source), 0);
    enter(&reader);
    weir_grace_cookie cookie = weir_grace_start(grace);
    pthread_t driver = fixture_thread(drive_to_the_end, grace);
    fixture_sleep(20000);
    cr_assert_not(weir_grace_poll(grace, cookie));
    leave(&reader);
    pthread_join(driver, NULL);
    cr_assert(weir_grace_poll(grace, cookie));
    weir_grace_put(grace);
}

/* --- liburcu-qsbr --- */

static struct weir_grace *qsbr;

static void *wait_as_qsbr_reader(void *unused)
{
    (void)unused;
    urcu_qsbr_register_thread();
    for (unsigned i = 0; i < 20; i++) {
        if (weir_grace_wait(qsbr, weir_grace_start(qsbr)) != 0)
            FIXTURE_FAIL("weir_grace_wait failed");
        weir_grace_drive(qsbr);
        if (!urcu_qsbr_read_ongoing())
            FIXTURE_FAIL("a reader did not come back online");
    }
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
    return NULL;
}

Test(grace_sources, qsbr_helper_waits_for_readers)
{
    cr_assert_eq(weir_grace_qsbr(&qsbr), 0);
    check_readers(qsbr, read_qsbr, true);
    weir_grace_put(qsbr);
}

Test(grace_sources, qsbr_without_a_helper_waits_for_readers)
{
    check_waiting_driver(weir_grace_source_qsbr(), read_qsbr);
}

Test(grace_sources, qsbr_readers_that_drive_and_wait_do_not_wait_for_each_other, .timeout = 120)
{
    struct weir_grace_source source = weir_grace_source_qsbr();
    pthread_t threads[3];
    source.no_helper = true;
    cr_assert_eq(weir_grace_create(&qsbr, &source), 0);
    for (unsigned i = 0; i < 3; i++)
        threads[i] = fixture_thread(wait_as_qsbr_reader, NULL);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    weir_grace_put(qsbr);
}

/* --- liburcu-memb --- */

#if WEIR_WITH_MEMB

static void *read_memb(void *reader)
{
    urcu_memb_register_thread();
    urcu_memb_read_lock();
    stay_inside(reader);
    urcu_memb_read_unlock();
    urcu_memb_unregister_thread();
    return NULL;
}

Test(grace_sources, memb_is_one_source_for_all_and_waits_for_readers)
{
    struct weir_grace *first, *second;
    cr_assert_eq(weir_grace_memb(&first), 0);
    cr_assert_eq(weir_grace_memb(&second), 0);
    cr_assert_eq(first, second);
    check_readers(first, read_memb, true);
    weir_grace_put(first);
    weir_grace_put(second);
}

Test(grace_sources, memb_without_a_helper_waits_for_readers)
{
    check_waiting_driver(weir_grace_source_memb(), read_memb);
}

Test(grace_sources, memb_reader_is_online_only_inside)
{
    struct weir_grace_source source = weir_grace_source_memb();
    urcu_memb_register_thread();
    cr_assert_not(source.reader_is_online(source.arg));
    urcu_memb_read_lock();
    cr_assert(source.reader_is_online(source.arg));
    urcu_memb_read_unlock();
    cr_assert_not(source.reader_is_online(source.arg));
    urcu_memb_unregister_thread();
}

#endif

/* --- Concurrency Kit's epochs --- */

#if WEIR_WITH_CK

static ck_epoch_t epoch;
static int context;

static void read_as(struct reader *reader, ck_epoch_section_t *section)
{
    ck_epoch_record_t *record = ck_epoch_recycle(&epoch, &context);
    if (record == NULL) {
        record = aligned_alloc(_Alignof(ck_epoch_record_t), sizeof *record); /* stays for good */
        ck_epoch_register(&epoch, record, &context);
    }
    ck_epoch_begin(record, section);
    stay_inside(reader);
    ck_epoch_end(record, section);
    ck_epoch_unregister(record);
}

static void *read_ck(void *reader)
{
    read_as(reader, NULL);
    return NULL;
}

static void *read_ck_section(void *reader)
{
    ck_epoch_section_t section;
    read_as(reader, &section);
    return NULL;
}

static void free_records(void)
{
    ck_stack_entry_t *entry, *following;
    CK_STACK_FOREACH_SAFE(&epoch.records, entry, following)
    free((char *)entry - offsetof(ck_epoch_record_t, record_next));
}

static void check_ck(bool no_helper, void *(*run)(void *))
{
    struct weir_grace *grace;
    ck_epoch_init(&epoch);
    struct weir_grace_source source = weir_grace_source_ck_epoch(&epoch);
    source.no_helper = no_helper;
    cr_assert_eq(weir_grace_create(&grace, &source), 0);
    cr_assert_eq(weir_grace_wait(grace, weir_grace_start(grace)), 0); /* no records at all */
#ifdef CK_MD_TSO
    check_readers(grace, run, true);
#else
    check_readers(grace, run, false); /* see grace_ck.c */
#endif
    cr_assert_eq(weir_grace_wait(grace, weir_grace_start(grace)), 0); /* none in use */
    weir_grace_put(grace);
    free_records();
}

Test(grace_sources, ck_helper_waits_for_readers)
{
    check_ck(false, read_ck);
}

Test(grace_sources, ck_without_a_helper_waits_for_readers)
{
    check_ck(true, read_ck);
}

Test(grace_sources, ck_readers_with_sections_are_waited_for)
{
    check_ck(true, read_ck_section);
}

/* Somebody else advances the epoch, or would like to. */
Test(grace_sources, ck_grace_period_is_over_when_others_have_advanced_the_epoch)
{
    static ck_epoch_record_t mine, other;
    struct weir_grace *grace;
    ck_epoch_init(&epoch);
    ck_epoch_register(&epoch, &mine, NULL);
    ck_epoch_register(&epoch, &other, NULL);
    struct weir_grace_source source = weir_grace_source_ck_epoch(&epoch);
    source.no_helper = true;
    cr_assert_eq(weir_grace_create(&grace, &source), 0);
    ck_epoch_begin(&mine, NULL);
    weir_grace_cookie cookie = weir_grace_start(grace);
    weir_grace_drive(grace);
    weir_grace_drive(grace);
    cr_assert_not(weir_grace_poll(grace, cookie));
    for (unsigned i = 0; i < 2; i++) {
        ck_epoch_poll(&other);
        weir_grace_drive(grace);
        cr_assert_not(weir_grace_poll(grace, cookie), "the reader is still inside");
    }
    for (unsigned i = 0; i < 4 && !weir_grace_poll(grace, cookie); i++) {
        ck_epoch_end(&mine, NULL);
        ck_epoch_begin(&mine, NULL); /* always inside, but in new sections */
        ck_epoch_poll(&other);
        weir_grace_drive(grace);
    }
    cr_assert(weir_grace_poll(grace, cookie));
    ck_epoch_end(&mine, NULL);
    weir_grace_put(grace);
}

/* The epoch wraps round. */
Test(grace_sources, ck_grace_periods_go_on_when_the_epoch_wraps_round)
{
    static ck_epoch_record_t record;
    struct weir_grace *grace;
    ck_epoch_init(&epoch);
    epoch.epoch = UINT32_MAX - 4;
    ck_epoch_register(&epoch, &record, NULL);
    struct weir_grace_source source = weir_grace_source_ck_epoch(&epoch);
    source.no_helper = true;
    cr_assert_eq(weir_grace_create(&grace, &source), 0);
    ck_epoch_begin(&record, NULL);
    for (unsigned i = 0; i < 6; i++) {
        weir_grace_cookie cookie = weir_grace_start(grace);
        weir_grace_drive(grace);
        cr_assert_not(weir_grace_poll(grace, cookie));
        for (unsigned j = 0; j < 4 && !weir_grace_poll(grace, cookie); j++) {
            ck_epoch_end(&record, NULL);
            ck_epoch_begin(&record, NULL);
            weir_grace_drive(grace);
        }
        cr_assert(weir_grace_poll(grace, cookie));
    }
    cr_assert_lt(epoch.epoch, 100u);
    ck_epoch_end(&record, NULL);
    weir_grace_put(grace);
}

static struct weir_grace_stall stall;
static uint32_t stalls;

static void note(void *unused, const struct weir_grace_stall *now)
{
    (void)unused;
    stall = *now;
    weir_store_release(&stalls, 1u);
}

Test(grace_sources, ck_readers_that_stall_are_reported_by_record_and_context)
{
    static ck_epoch_record_t idle, stuck;
    struct weir_grace *grace;
    ck_epoch_init(&epoch);
    ck_epoch_register(&epoch, &idle, NULL);
    ck_epoch_register(&epoch, &stuck, &context);
    cr_assert_eq(weir_grace_ck_epoch(&grace, &epoch), 0);
    weir_grace_on_stall(grace, 5, note, NULL);
    ck_epoch_begin(&stuck, NULL);
    weir_grace_cookie cookie = weir_grace_start(grace);
    FIXTURE_AWAIT(weir_load_acquire(&stalls) != 0);
    weir_grace_on_stall(grace, 0, NULL, NULL);
    cr_assert_str_eq(stall.source, "ck_epoch");
    cr_assert_eq(stall.found, 1u);
    cr_assert_eq(stall.listed, 1u);
    cr_assert_eq(stall.readers[0].record, &stuck);
    cr_assert_eq(stall.readers[0].context, &context);
    cr_assert_eq(stall.readers[0].thread, 0);
    weir_grace_annotate_quiescent();
    ck_epoch_end(&stuck, NULL);
    cr_assert_eq(weir_grace_wait(grace, cookie), 0);
    weir_grace_put(grace);
}

#endif
