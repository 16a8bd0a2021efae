/* SPDX-License-Identifier: MIT */
/* weir_grace_on_stall(): who keeps a grace period from ending is reported, as often as it should be. */
#include "grace.h"
#include "grace_asked.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <urcu/urcu-qsbr.h>

#include "weir_test.h"

static struct asked asked;
static struct gate gate;

/* --- reports --- */

static struct {
    pthread_mutex_t mutex;
    unsigned calls;
    uint64_t milliseconds[64]; /* of the first calls */
    struct weir_grace_stall last;
} reports = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void note(void *arg, const struct weir_grace_stall *stall)
{
    if (arg != &reports)
        FIXTURE_FAIL("the callback was given a wrong argument");
    pthread_mutex_lock(&reports.mutex);
    if (reports.calls < 64)
        reports.milliseconds[reports.calls] = stall->milliseconds;
    reports.calls++;
    reports.last = *stall;
    pthread_mutex_unlock(&reports.mutex);
}

static unsigned reported(void)
{
    pthread_mutex_lock(&reports.mutex);
    unsigned calls = reports.calls;
    pthread_mutex_unlock(&reports.mutex);
    return calls;
}

static struct weir_grace_stall last_report(void)
{
    pthread_mutex_lock(&reports.mutex);
    struct weir_grace_stall last = reports.last;
    pthread_mutex_unlock(&reports.mutex);
    return last;
}

/* --- how often --- */

Test(grace_stall, report_comes_again_each_time_the_time_has_doubled)
{
    gate_create(&gate, false);
    weir_grace_on_stall(gate.grace, 3, note, &reports);
    weir_grace_start(gate.grace);
    FIXTURE_AWAIT(reported() >= 6);
    struct weir_grace_stall last = last_report();
    cr_assert_str_eq(last.source, "gate");
    cr_assert_eq(last.found, 0u);
    cr_assert_eq(last.listed, 0u);
    pthread_mutex_lock(&reports.mutex);
    for (unsigned i = 0, due = 3; i < 6; i++) {
        cr_assert_geq(reports.milliseconds[i], (uint64_t)due, "report %u", i);
        while (due <= reports.milliseconds[i]) /* a late one stands for those that it is too late for */
            due *= 2;
    }
    pthread_mutex_unlock(&reports.mutex);
    gate_destroy(&gate);
}

Test(grace_stall, each_grace_period_has_its_own_time)
{
    gate_create(&gate, false);
    weir_grace_on_stall(gate.grace, 5, note, &reports);
    for (unsigned round = 1; round <= 3; round++) {
        unsigned before = reported();
        weir_grace_cookie cookie = weir_grace_start(gate.grace);
        gate_await_begun(&gate, round);
        FIXTURE_AWAIT(reported() > before);
        gate_let_one(&gate);
        cr_assert_eq(weir_grace_wait(gate.grace, cookie), 0);
    }
    gate_destroy(&gate);
}

Test(grace_stall, nothing_is_reported_when_it_is_off_or_when_none_is_under_way)
{
    gate_create(&gate, false);
    weir_grace_on_stall(gate.grace, 3, note, &reports);
    fixture_sleep(30000);
    cr_assert_eq(reported(), 0u);
    weir_grace_start(gate.grace);
    FIXTURE_AWAIT(reported() >= 2);
    weir_grace_on_stall(gate.grace, 0, note, &reports);
    unsigned calls = reported();
    fixture_sleep(50000);
    cr_assert_eq(reported(), calls);
    weir_grace_on_stall(gate.grace, 3, note, &reports); /* and on, while it is under way */
    FIXTURE_AWAIT(reported() > calls);
    gate_destroy(&gate);
}

/* --- sources come and go --- */

static void *let_one_after_two_more(void *unused)
{
    unsigned before = reported();
    (void)unused;
    FIXTURE_AWAIT(reported() >= before + 2);
    gate_let_one(&gate);
    return NULL;
}

Test(grace_stall, stall_is_reported_while_the_source_is_given_back_and_not_after)
{
    gate_create(&gate, false);
    weir_grace_on_stall(gate.grace, 3, note, &reports);
    weir_grace_start(gate.grace);
    gate_await_begun(&gate, 1);
    pthread_t thread = fixture_thread(let_one_after_two_more, NULL);
    weir_grace_put(gate.grace); /* waits for the helper, which waits in `synchronize` */
    pthread_join(thread, NULL);
    unsigned calls = reported();
    fixture_sleep(50000);
    cr_assert_eq(reported(), calls);
    gate.grace = NULL;
    gate_destroy(&gate);
}

static void count_call(void *arg, const struct weir_grace_stall *stall)
{
    (void)stall;
    weir_fetch_add_relaxed((unsigned *)arg, 1u);
}

Test(grace_stall, sources_come_and_go_while_others_stall)
{
    enum { NR = 20 };
    static struct asked many[NR];
    static unsigned calls[NR];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < NR; i++) {
            calls[i] = 0;
            asked_create(&many[i], false);
            weir_grace_on_stall(many[i].grace, 1 + i % 7, count_call, &calls[i]);
            weir_grace_start(many[i].grace);
        }
        for (unsigned i = 0; i < NR; i += 2)
            weir_grace_put(many[i].grace);
        for (unsigned i = 1; i < NR; i += 2)
            FIXTURE_AWAIT(weir_load_relaxed(&calls[i]) >= 2);
        for (unsigned i = 1; i < NR; i += 2)
            weir_grace_put(many[i].grace);
    }
}

static void change_it(void *arg, const struct weir_grace_stall *stall)
{
    (void)stall;
    weir_grace_on_stall(gate.grace, 3, note, arg);
}

Test(grace_stall, callback_may_change_the_callback)
{
    gate_create(&gate, false);
    weir_grace_on_stall(gate.grace, 3, change_it, &reports);
    weir_grace_start(gate.grace);
    FIXTURE_AWAIT(reported() >= 1);
    gate_destroy(&gate);
}

static uint32_t calls_begun, calls_ended;

static void take_long(void *unused, const struct weir_grace_stall *stall)
{
    (void)unused;
    (void)stall;
    weir_fetch_add_acq_rel(&calls_begun, 1u);
    fixture_sleep(20000);
    weir_fetch_add_acq_rel(&calls_ended, 1u);
}

Test(grace_stall, callback_is_not_called_any_more_when_another_has_been_set)
{
    gate_create(&gate, false);
    weir_grace_on_stall(gate.grace, 3, take_long, NULL);
    weir_grace_start(gate.grace);
    FIXTURE_AWAIT(weir_load_acquire(&calls_begun) != 0);
    weir_grace_on_stall(gate.grace, 3, note, &reports);
    cr_assert_eq(weir_load_acquire(&calls_begun), weir_load_acquire(&calls_ended));
    gate_destroy(&gate);
}

/* --- without a helper --- */

static void *wait_for_one(void *unused)
{
    (void)unused;
    if (weir_grace_wait(asked.grace, weir_grace_start(asked.grace)) != 0)
        FIXTURE_FAIL("weir_grace_wait failed");
    return NULL;
}

Test(grace_stall, without_a_helper_drive_and_wait_report)
{
    asked_create(&asked, true);
    weir_grace_on_stall(asked.grace, 3, note, &reports);
    weir_grace_start(asked.grace);
    weir_grace_drive(asked.grace);
    fixture_sleep(20000);
    cr_assert_eq(reported(), 0u); /* nobody drives */
    weir_grace_drive(asked.grace);
    cr_assert_eq(reported(), 1u);
    weir_grace_drive(asked.grace);
    unsigned before = reported();
    pthread_t thread = fixture_thread(wait_for_one, NULL);
    FIXTURE_AWAIT(reported() > before);
    asked_allow(&asked, UINT64_MAX);
    pthread_join(thread, NULL);
    weir_grace_put(asked.grace);
}

/* --- who it is: liburcu-qsbr --- */

struct reader {
    const char *name;
    enum { STUCK, QUIESCENT, OFFLINE } kind;
    long thread; /* once it is there */
    pthread_t handle;
};

static uint32_t stop;

static void *read_as(void *arg)
{
    struct reader *reader = arg;
    pthread_setname_np(pthread_self(), reader->name);
    urcu_qsbr_register_thread();
    if (reader->kind == OFFLINE) {
        weir_grace_annotate_quiescent();
        urcu_qsbr_thread_offline();
    }
    weir_store_release(&reader->thread, syscall(SYS_gettid));
    while (weir_load_acquire(&stop) == 0) {
        if (reader->kind == QUIESCENT) {
            weir_grace_annotate_quiescent();
            urcu_qsbr_quiescent_state();
        }
        fixture_sleep(200);
    }
    weir_grace_annotate_quiescent();
    urcu_qsbr_unregister_thread();
    return NULL;
}

static void start_readers(struct reader readers[], unsigned nr)
{
    weir_store_relaxed(&stop, 0u);
    for (unsigned i = 0; i < nr; i++) {
        readers[i].thread = 0;
        readers[i].handle = fixture_thread(read_as, &readers[i]);
        FIXTURE_AWAIT(weir_load_acquire(&readers[i].thread) != 0);
    }
}

static void stop_readers(struct reader readers[], unsigned nr)
{
    weir_store_release(&stop, 1u);
    for (unsigned i = 0; i < nr; i++)
        pthread_join(readers[i].handle, NULL);
}

/* Are the stuck ones of the readers all there is in the report, with their names? (One that is not stuck may be in an
 * early report: it has not been quiescent yet.) */
static bool names_the_stuck(const struct weir_grace_stall *stall, const struct reader readers[], unsigned nr)
{
    size_t stuck = 0;
    for (unsigned i = 0; i < nr; i++) {
        if (readers[i].kind != STUCK)
            continue;
        stuck++;
        size_t at = 0;
        while (at < stall->listed && stall->readers[at].thread != readers[i].thread)
            at++;
        if (at == stall->listed || strcmp(stall->readers[at].name, readers[i].name) != 0)
            return false;
    }
    return stall->found == stuck && stall->listed == (stuck < 8 ? stuck : 8);
}

static void find_the_stuck(struct reader readers[], unsigned nr)
{
    struct weir_grace *grace;
    cr_assert_eq(weir_grace_qsbr(&grace), 0);
    for (unsigned round = 0; round < 3; round++) {
        unsigned before = reported();
        start_readers(readers, nr);
        weir_grace_on_stall(grace, 10, note, &reports);
        weir_grace_cookie cookie = weir_grace_start(grace);
        FIXTURE_AWAIT(reported() > before);
        struct weir_grace_stall last;
        FIXTURE_AWAIT((last = last_report(), names_the_stuck(&last, readers, nr)));
        cr_assert_str_eq(last.source, "liburcu-qsbr");
        stop_readers(readers, nr);
        cr_assert_eq(weir_grace_wait(grace, cookie), 0);
    }
    weir_grace_put(grace);
}

Test(grace_stall, stuck_qsbr_reader_is_named)
{
    struct reader readers[] = {{.name = "fine", .kind = QUIESCENT},
                               {.name = "the-stuck-one", .kind = STUCK},
                               {.name = "away", .kind = OFFLINE}};
    find_the_stuck(readers, 3);
}

Test(grace_stall, two_stuck_qsbr_readers_among_others_are_named)
{
    struct reader readers[] = {{.name = "stuck-1", .kind = STUCK},  {.name = "fine-1", .kind = QUIESCENT},
                               {.name = "away-1", .kind = OFFLINE}, {.name = "fine-2", .kind = QUIESCENT},
                               {.name = "away-2", .kind = OFFLINE}, {.name = "stuck-2", .kind = STUCK},
                               {.name = "away-3", .kind = OFFLINE}};
    find_the_stuck(readers, 7);
}

Test(grace_stall, qsbr_reader_that_came_later_is_not_named)
{
    struct reader stuck = {.name = "stuck", .kind = STUCK}, young = {.name = "young", .kind = STUCK};
    struct weir_grace *grace;
    cr_assert_eq(weir_grace_qsbr(&grace), 0);
    start_readers(&stuck, 1);
    weir_grace_on_stall(grace, 3, note, &reports);
    weir_grace_cookie cookie = weir_grace_start(grace);
    FIXTURE_AWAIT(reported() != 0);
    start_readers(&young, 1);
    weir_grace_on_stall(grace, 3, note, &reports);
    unsigned before = reported();
    FIXTURE_AWAIT(reported() >= before + 2);
    cr_assert_eq(last_report().found, 1u);
    cr_assert_eq(last_report().readers[0].thread, stuck.thread);
    stop_readers(&stuck, 1);
    stop_readers(&young, 1);
    cr_assert_eq(weir_grace_wait(grace, cookie), 0);
    weir_grace_put(grace);
}

Test(grace_stall, more_stuck_readers_than_fit_are_counted)
{
    struct reader readers[11];
    struct weir_grace *grace;
    for (unsigned i = 0; i < 11; i++)
        readers[i] = (struct reader){.name = "one-of-many", .kind = STUCK};
    cr_assert_eq(weir_grace_qsbr(&grace), 0);
    start_readers(readers, 11);
    weir_grace_on_stall(grace, 5, note, &reports);
    weir_grace_cookie cookie = weir_grace_start(grace);
    FIXTURE_AWAIT(last_report().found == 11);
    cr_assert_eq(last_report().listed, 8u);
    stop_readers(readers, 11);
    cr_assert_eq(weir_grace_wait(grace, cookie), 0);
    weir_grace_put(grace);
}

static void *read_briefly(void *arg)
{
    (void)arg;
    urcu_qsbr_register_thread();
    weir_grace_annotate_quiescent();
    urcu_qsbr_thread_offline();
    sched_yield();
    urcu_qsbr_unregister_thread();
    return NULL;
}

/* Threads whose records go while somebody may be looking. */
Test(grace_stall, readers_may_end_while_somebody_looks_for_the_stuck_one)
{
    struct reader stuck = {.name = "stuck", .kind = STUCK};
    struct weir_grace *grace;
    cr_assert_eq(weir_grace_qsbr(&grace), 0);
    start_readers(&stuck, 1);
    weir_grace_cookie cookie = weir_grace_start(grace);
    for (unsigned i = 0; i < 100; i++) {
        pthread_t passing[3];
        weir_grace_on_stall(grace, 1, note, &reports); /* from the start, so that reports are frequent */
        for (unsigned j = 0; j < 3; j++)
            passing[j] = fixture_thread(read_briefly, NULL);
        for (unsigned j = 0; j < 3; j++)
            pthread_join(passing[j], NULL);
    }
    FIXTURE_AWAIT(last_report().found == 1 && last_report().readers[0].thread == stuck.thread);
    stop_readers(&stuck, 1);
    cr_assert_eq(weir_grace_wait(grace, cookie), 0);
    weir_grace_put(grace);
}

Test(grace_stall, qsbr_readers_that_pass_quiescent_states_are_not_reported)
{
    struct reader readers[] = {{.name = "fine-1", .kind = QUIESCENT},
                               {.name = "fine-2", .kind = QUIESCENT},
                               {.name = "away", .kind = OFFLINE}};
    struct weir_grace *grace;
    cr_assert_eq(weir_grace_qsbr(&grace), 0);
    weir_grace_on_stall(grace, 1000 * FIXTURE_PATIENCE_SECONDS / 4, note, &reports);
    start_readers(readers, 3);
    for (unsigned i = 0; i < 20; i++)
        cr_assert_eq(weir_grace_wait(grace, weir_grace_start(grace)), 0);
    cr_assert_eq(reported(), 0u);
    stop_readers(readers, 3);
    weir_grace_put(grace);
}

/* --- the line --- */

static char printed[4096];

/* What is on standard error from now on. */
static int capture(int *before)
{
    char path[] = "/tmp/weir-stall-XXXXXX";
    int file = mkstemp(path);
    cr_assert_geq(file, 0);
    unlink(path);
    fflush(stderr);
    *before = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    return file;
}

static const char *captured(int file)
{
    ssize_t n = pread(file, printed, sizeof printed - 1, 0);
    printed[n > 0 ? n : 0] = '\0';
    return printed;
}

static void release(int file, int before)
{
    dup2(before, STDERR_FILENO);
    close(before);
    close(file);
}

Test(grace_stall, line_on_standard_error_names_the_reader_and_the_remedy)
{
    struct reader stuck = {.name = "reader-3", .kind = STUCK};
    struct weir_grace *grace;
    char expected[200];
    int before, file;
    unsigned long long milliseconds = 0;
    cr_assert_eq(weir_grace_qsbr(&grace), 0);
    start_readers(&stuck, 1);
    file = capture(&before);
    weir_grace_on_stall(grace, 20, NULL, NULL);
    weir_grace_cookie cookie = weir_grace_start(grace);
    FIXTURE_AWAIT(strchr(captured(file), '\n'));
    stop_readers(&stuck, 1);
    weir_grace_wait(grace, cookie);
    release(file, before);
    *strchr(printed, '\n') = '\0';
    sscanf(printed, "weir: liburcu-qsbr: a grace period has not ended for %llu ms", &milliseconds);
    cr_assert_geq(milliseconds, 20u);
    snprintf(expected, sizeof expected,
             "weir: liburcu-qsbr: a grace period has not ended for %llu ms: thread %ld (reader-3) is online "
             "without a quiescent state; it should go offline before it blocks",
             milliseconds, stuck.thread);
    cr_assert_str_eq(printed, expected);
    weir_grace_put(grace);
}

Test(grace_stall, line_on_standard_error_says_when_the_readers_are_not_known)
{
    int before, file;
    gate_create(&gate, false);
    file = capture(&before);
    weir_grace_on_stall(gate.grace, 3, NULL, NULL);
    weir_grace_start(gate.grace);
    FIXTURE_AWAIT(strchr(captured(file), '\n'));
    release(file, before);
    gate_destroy(&gate);
    cr_assert(strstr(printed, " ms: which readers it waits for is not known\n") != NULL, "%s", printed);
}

/* --- what it costs --- */

/* How often the thread of that name has gone to sleep; 0: there is none. */
static unsigned long sleeps(const char *name)
{
    unsigned long n = 0;
    DIR *tasks = opendir("/proc/self/task");
    cr_assert_not_null(tasks);
    for (struct dirent *task; (task = readdir(tasks));) {
        char path[300], line[100];
        bool found = false;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file)) {
            if (strncmp(line, "Name:\t", 6) == 0)
                found = strncmp(line + 6, name, strlen(name)) == 0;
            if (found)
                sscanf(line, "voluntary_ctxt_switches: %lu", &n);
        }
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return n;
}

Test(grace_stall, watching_thread_is_not_woken_for_every_grace_period)
{
    gate_create(&gate, true);
    weir_grace_on_stall(gate.grace, 1000 * FIXTURE_PATIENCE_SECONDS, note, &reports);
    FIXTURE_AWAIT(sleeps("weir-watch") > 0);
    unsigned long before = sleeps("weir-watch");
    for (unsigned i = 0; i < 1000; i++)
        cr_assert_eq(weir_grace_wait(gate.grace, weir_grace_start(gate.grace)), 0);
    cr_assert_leq(sleeps("weir-watch"), before + 20);
    cr_assert_eq(reported(), 0u);
    gate_destroy(&gate);
}
