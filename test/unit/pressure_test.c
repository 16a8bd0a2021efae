/* SPDX-License-Identifier: MIT */
/*
 * weir_pressure_start(): whenever the kernel says so, weir_shrink() is called. The kernel is a socket here: what
 * is written to it is the trigger, and a byte from its other end an event; time stands still. Then the parts
 * that ask the system, one by one, and the real thing.
 */
#include "pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixtures.h"
#include "weir/shrinker.h"

#include "weir_test.h"

#define MIB ((size_t)1 << 20)

static struct weir__pressure_system machine; /* the real one */
static int kernel[2] = {-1, -1};             /* weir's end, and the test's */
static int open_error;
static char opened[64];
static uint32_t pauses, paused; /* so many, and the last one for so many milliseconds */

static int fake_open(const char *path)
{
    snprintf(opened, sizeof opened, "%s", path);
    if (open_error != 0)
        return open_error;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, kernel) == 0 ? kernel[0] : -errno;
}

static enum weir__pressure_news fake_wait(int trigger, int stop)
{
    struct pollfd files[] = {{.fd = trigger, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
    char byte;
    while (poll(files, 2, -1) < 0)
        ;
    if (files[1].revents != 0)
        return WEIR__PRESSURE_STOP;
    return read(trigger, &byte, 1) == 1 ? WEIR__PRESSURE_EVENT : WEIR__PRESSURE_GONE;
}

static bool fake_pause(int stop, unsigned milliseconds)
{
    (void)stop;
    weir_store_relaxed(&paused, (uint32_t)milliseconds);
    weir_fetch_add_release(&pauses, 1u);
    return false;
}

static void use_fake(void)
{
    machine = weir__pressure_system;
    weir__pressure_system = (struct weir__pressure_system){fake_open, fake_wait, fake_pause};
    open_error = 0;
}

static struct weir_pressure_stats stats_now(void)
{
    struct weir_pressure_stats stats;
    weir_pressure_stats(&stats);
    return stats;
}

static void happen(void)
{
    cr_assert_eq(write(kernel[1], "!", 1), 1);
}

/* Its scan, too, is over then. */
static void happen_and_await(void)
{
    uint64_t before = stats_now().events;
    happen();
    FIXTURE_AWAIT(stats_now().events == before + 1);
}

/* The trigger that was written. */
static const char *trigger(void)
{
    static char text[64];
    ssize_t n = read(kernel[1], text, sizeof text - 1);
    cr_assert_gt(n, 0);
    cr_assert_eq(text[n - 1], '\0', "with its zero byte");
    return text;
}

/* One who has something. */
static size_t has, asked;
static void (*in_scan)(void);

static size_t count(void *arg)
{
    (void)arg;
    return weir_load_relaxed(&has);
}

static size_t scan(void *arg, size_t bytes)
{
    (void)arg;
    weir_store_relaxed(&asked, bytes);
    if (in_scan != NULL)
        in_scan();
    return bytes;
}

static struct weir_shrinker shrinker = {count, scan, NULL, "a test", {0}};

/* The thread runs, and what it asks calls `inside`. */
static void start_with(void (*inside)(void))
{
    use_fake();
    in_scan = inside;
    has = 80 * MIB;
    cr_assert_eq(weir_shrinker_register(&shrinker), 0);
    cr_assert_eq(weir_pressure_start(NULL), 0);
}

static void finish(void)
{
    cr_assert_eq(weir_pressure_stop(), 0);
    cr_assert_not(stats_now().running);
    cr_assert_eq(weir_shrinker_unregister(&shrinker), 0);
}

/* --- what it asks for, and when --- */

static void check_asks(size_t bytes, size_t having, size_t expected)
{
    struct weir_pressure_config config = WEIR_PRESSURE_CONFIG_INIT;
    uint64_t given = stats_now().given;
    config.bytes = bytes;
    weir_store_relaxed(&has, having);
    cr_assert_eq(weir_pressure_start(&config), 0);
    happen_and_await();
    cr_assert_eq(weir_load_relaxed(&asked), expected, "%zu of %zu", asked, having);
    cr_assert_eq(stats_now().given - given, expected);
    cr_assert_eq(weir_pressure_stop(), 0);
    cr_assert_not(stats_now().running);
    close(kernel[1]);
}

Test(pressure, event_asks_for_an_eighth_of_what_is_idle_or_what_was_said)
{
    use_fake();
    cr_assert_eq(weir_shrinker_register(&shrinker), 0);
    check_asks(0, 80 * MIB, 10 * MIB);
    check_asks(0, 2 * MIB, MIB);
    check_asks(3 * MIB, 80 * MIB, 3 * MIB);
    cr_assert_eq(weir_shrinker_unregister(&shrinker), 0);
}

Test(pressure, after_an_event_it_pauses_for_as_long_as_was_said)
{
    struct weir_pressure_config config = WEIR_PRESSURE_CONFIG_INIT;
    start_with(NULL);
    happen_and_await();
    FIXTURE_AWAIT(weir_load_acquire(&pauses) == 1);
    cr_assert_eq(weir_load_relaxed(&paused), 1000u);
    cr_assert_eq(weir_pressure_stop(), 0);
    config.pause_milliseconds = 77;
    cr_assert_eq(weir_pressure_start(&config), 0);
    for (unsigned i = 2; i < 5; i++) {
        happen_and_await();
        FIXTURE_AWAIT(weir_load_acquire(&pauses) == i);
        cr_assert_eq(weir_load_relaxed(&paused), 77u);
    }
    finish();
}

/* --- starting and ending it --- */

static int stop_in_scan, start_in_scan;

static void stop_and_start(void)
{
    stop_in_scan = weir_pressure_stop();
    start_in_scan = weir_pressure_start(NULL);
}

Test(pressure, inside_a_scan_of_its_own_it_can_neither_be_ended_nor_started)
{
    start_with(stop_and_start);
    happen_and_await();
    cr_assert_eq(stop_in_scan, -EDEADLK);
    cr_assert_eq(start_in_scan, -EALREADY);
    finish();
}

static void be_ended(void)
{
    stop_in_scan = weir_pressure_stop();
}

Test(pressure, a_scan_on_another_thread_may_end_it)
{
    start_with(be_ended);
    cr_assert_eq(weir_shrink(1), 1u);
    cr_assert_eq(stop_in_scan, 0);
    cr_assert_not(stats_now().running);
    finish();
}

Test(pressure, trigger_says_what_was_configured)
{
    struct weir_pressure_config config = WEIR_PRESSURE_CONFIG_INIT;
    use_fake();
    cr_assert_eq(weir_pressure_start(NULL), 0);
    cr_assert_str_eq(opened, "/proc/pressure/memory");
    cr_assert_str_eq(trigger(), "some 100000 2000000");
    weir_pressure_stop();
    config.path = "/some/group/memory.pressure";
    config.full = true;
    config.stall_microseconds = 5000;
    config.window_microseconds = 1000000;
    cr_assert_eq(weir_pressure_start(&config), 0);
    cr_assert_str_eq(opened, config.path);
    cr_assert_str_eq(trigger(), "full 5000 1000000");
    weir_pressure_stop();
}

Test(pressure, there_is_one_at_a_time)
{
    use_fake();
    cr_assert_eq(weir_pressure_stop(), 0, "there is none");
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(weir_pressure_start(NULL), 0);
        cr_assert(stats_now().running);
        cr_assert_eq(weir_pressure_start(NULL), -EALREADY);
        cr_assert_eq(weir_pressure_stop(), 0);
        cr_assert_not(stats_now().running);
    }
}

Test(pressure, bad_values_are_refused_with_a_sentence)
{
    static const struct {
        struct weir_pressure_config config;
        const char *says; /* begins with; NULL: nothing is wrong */
    } cases[] = {
        {WEIR_PRESSURE_CONFIG_INIT, NULL},
        {{.window_microseconds = 499999}, "window_microseconds"},
        {{.window_microseconds = 500000}, NULL},
        {{.window_microseconds = 10000001}, "window_microseconds"},
        {{.stall_microseconds = 2000001}, "stall_microseconds"},
        {{.stall_microseconds = 2000000}, NULL},
        {{.path = ""}, "path"},
        {{.pause_milliseconds = 3600001}, "pause_milliseconds"},
        {{.pause_milliseconds = 3600000}, NULL},
    };
    use_fake();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *error = weir_pressure_config_error(&cases[i].config);
        int started = weir_pressure_start(&cases[i].config);
        cr_assert_eq(started, cases[i].says == NULL ? 0 : -EINVAL, "case %zu", i);
        cr_assert_eq(error == NULL, cases[i].says == NULL, "case %zu", i);
        if (error != NULL)
            cr_assert_eq(strncmp(error, cases[i].says, strlen(cases[i].says)), 0, "case %zu: %s", i, error);
        weir_pressure_stop();
    }
    cr_assert_null(weir_pressure_config_error(NULL));
}

Test(pressure, why_it_cannot_be_had_is_said)
{
    struct weir_pressure_config config = WEIR_PRESSURE_CONFIG_INIT;
    use_fake();
    open_error = -ENOENT;
    cr_assert_eq(weir_pressure_start(NULL), -ENOTSUP, "a kernel without");
    config.path = "/not/there";
    cr_assert_eq(weir_pressure_start(&config), -ENOENT);
    open_error = -EACCES;
    cr_assert_eq(weir_pressure_start(NULL), -EACCES);
    cr_assert_not(stats_now().running);
    open_error = -ENOTSUP;
    cr_assert_eq(weir_pressure_start(&config), -ENOTSUP);
    open_error = 0;
    cr_assert_eq(weir_pressure_start(NULL), 0);
    weir_pressure_stop();
}

static int open_for_reading(const char *path)
{
    (void)path;
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

Test(pressure, trigger_that_is_refused_is_an_error)
{
    use_fake();
    weir__pressure_system.open = open_for_reading;
    cr_assert_eq(weir_pressure_start(NULL), -EBADF);
    cr_assert_not(stats_now().running);
}

Test(pressure, it_ends_when_the_file_is_gone_and_may_be_started_again)
{
    use_fake();
    cr_assert_eq(weir_pressure_start(NULL), 0);
    trigger();
    close(kernel[1]);
    FIXTURE_AWAIT(!stats_now().running);
    cr_assert_eq(stats_now().error, -ENODEV);
    cr_assert_eq(weir_pressure_start(NULL), 0);
    cr_assert(stats_now().running);
    cr_assert_eq(stats_now().error, 0);
    cr_assert_eq(weir_pressure_stop(), 0);
}

Test(pressure, one_that_has_ended_by_itself_can_be_ended_again)
{
    use_fake();
    cr_assert_eq(weir_pressure_start(NULL), 0);
    trigger();
    close(kernel[1]);
    FIXTURE_AWAIT(!stats_now().running);
    cr_assert_eq(weir_pressure_stop(), 0);
    cr_assert_eq(weir_pressure_stop(), 0);
    cr_assert_eq(stats_now().error, -ENODEV, "it is still said");
}

/* Files that are open: none may be left over. */
static unsigned open_files(void)
{
    unsigned n = 0;
    for (int file = 0; file < 256; file++)
        n += fcntl(file, F_GETFD) >= 0;
    return n;
}

Test(pressure, nothing_stays_open)
{
    use_fake();
    unsigned before = open_files();
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(weir_pressure_start(NULL), 0);
        if (i == 1) { /* it ends by itself */
            trigger();
            shutdown(kernel[1], SHUT_RDWR);
            FIXTURE_AWAIT(!stats_now().running);
        }
        if (i != 1)
            cr_assert_eq(weir_pressure_stop(), 0);
        close(kernel[1]);
    }
    cr_assert_eq(open_files(), before);
    weir__pressure_system.open = open_for_reading;
    cr_assert_eq(weir_pressure_start(NULL), -EBADF);
    cr_assert_eq(open_files(), before);
}

/* --- the thread --- */

static struct {
    sigset_t blocked;
    int policy;
    char name[16];
} seen;

static void look_at_the_thread(void)
{
    pthread_sigmask(SIG_SETMASK, NULL, &seen.blocked);
    seen.policy = sched_getscheduler(0);
    pthread_getname_np(pthread_self(), seen.name, sizeof seen.name);
}

Test(pressure, thread_has_its_name_and_gets_no_signals)
{
    start_with(look_at_the_thread);
    happen_and_await();
    cr_assert_str_eq(seen.name, "weir-pressure");
    for (int number = 1; number < 32; number++)
        if (number != SIGKILL && number != SIGSTOP)
            cr_assert_eq(sigismember(&seen.blocked, number), 1, "signal %d", number);
    finish();
}

Test(pressure, thread_that_a_real_time_one_starts_is_none)
{
    struct sched_param param = {.sched_priority = 1}, ordinary = {.sched_priority = 0};
    if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &param) != 0) {
        fprintf(stderr, "not checked: this process may have no real-time threads\n");
        return;
    }
    start_with(look_at_the_thread);
    cr_assert_eq(pthread_setschedparam(pthread_self(), SCHED_OTHER, &ordinary), 0);
    happen_and_await();
    cr_assert_eq(seen.policy, SCHED_OTHER);
    finish();
}

/* --- who ends it waits for the scan; others do not wait for him --- */

static uint32_t inside, let_go, stopped_it;

static void stay(void)
{
    weir_store_release(&inside, 1u);
    while (weir_load_acquire(&let_go) == 0)
        fixture_sleep(200);
}

static void *stop_it(void *unused)
{
    (void)unused;
    cr_assert_eq(weir_pressure_stop(), 0);
    weir_fetch_add_release(&stopped_it, 1u);
    return NULL;
}

/* Two threads end it, one scan is under way. */
static void start_to_stop(pthread_t stoppers[2])
{
    start_with(stay);
    happen();
    FIXTURE_AWAIT(weir_load_acquire(&inside) == 1);
    for (unsigned i = 0; i < 2; i++)
        stoppers[i] = fixture_thread(stop_it, NULL);
    fixture_sleep(20000); /* time to go wrong in */
    cr_assert_eq(weir_load_acquire(&stopped_it), 0u);
}

static void finish_stopping(pthread_t stoppers[2])
{
    weir_store_release(&let_go, 1u);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(stoppers[i], NULL);
    cr_assert_eq(weir_load_acquire(&stopped_it), 2u);
    finish();
}

Test(pressure, ending_it_waits_for_its_scan_and_starting_it_does_not)
{
    pthread_t stoppers[2];
    start_to_stop(stoppers);
    cr_assert_eq(weir_pressure_start(NULL), -EALREADY);
    cr_assert(stats_now().running);
    finish_stopping(stoppers);
}

/* --- fork(). Most children start no threads. --- */

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

static int has_none(void)
{
    if (stats_now().running || stats_now().events != 0)
        return 1;
    if (fcntl(kernel[0], F_GETFD) >= 0)
        return 2; /* the trigger stays open here */
    return weir_pressure_stop() == 0 ? 0 : 3;
}

Test(pressure, fork_waits_neither_for_the_scan_nor_for_who_ends_it)
{
    pthread_t stoppers[2];
    start_to_stop(stoppers);
    in_child(has_none);
    cr_assert_eq(weir_load_acquire(&stopped_it), 0u);
    finish_stopping(stoppers);
}

static pid_t forked;
static pthread_key_t at_end;

static void leave_child(void *unused)
{
    (void)unused;
    if (getpid() != forked)
        _exit(0);
}

/* In the child files of other kinds have the numbers that weir's have had. */
static void fork_here(void)
{
    int files[2];
    pid_t parent = getpid(), child = fork();
    if (child != 0) {
        weir_store_relaxed(&forked, child);
        return;
    }
    alarm(FIXTURE_PATIENCE_SECONDS);
    forked = parent;
    if (has_none() != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, files) != 0 || files[0] != kernel[0])
        _exit(1);
    pthread_key_create(&at_end, leave_child);
    pthread_setspecific(at_end, &forked);
}

Test(pressure, thread_whose_scan_forks_ends_in_the_child)
{
    start_with(fork_here);
    happen_and_await();
    int status = -1;
    cr_assert_eq(waitpid(forked, &status, 0), forked);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
    in_scan = NULL;
    happen_and_await(); /* the parent's goes on */
    finish();
}

#if !WEIR_TSAN /* no threads after fork() of a process with threads */
Test(pressure, child_has_none_and_may_start_one)
{
    use_fake();
    cr_assert_eq(weir_pressure_start(NULL), 0);
    int parents[2] = {kernel[0], kernel[1]};
    pid_t child = fork();
    if (child == 0) {
        bool none = !stats_now().running && weir_pressure_stop() == 0;
        bool one = weir_pressure_start(NULL) == 0 && stats_now().running && weir_pressure_stop() == 0;
        _exit(none && one ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
    cr_assert(stats_now().running);
    memcpy(kernel, parents, sizeof kernel);
    happen_and_await(); /* the parent's goes on */
    cr_assert_eq(weir_pressure_stop(), 0);
}
#endif

/* --- what asks the system --- */

/* A connection over the loopback interface: its urgent data is an event for poll(), as the kernel's pressure
 * is. */
static void connect_tcp(int ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, size), 0);
    cr_assert_eq(listen(listener, 1), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    ends[1] = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(ends[1], (struct sockaddr *)&address, size), 0);
    ends[0] = accept(listener, NULL, NULL);
    cr_assert_geq(ends[0], 0);
    close(listener);
}

Test(pressure, poll_tells_an_event_from_the_end_of_the_file_and_from_being_told_to_stop)
{
    int ends[2], stop = eventfd(0, EFD_CLOEXEC);
    static const uint64_t one = 1;
    use_fake();
    connect_tcp(ends);
    cr_assert_eq(send(ends[1], "!", 1, MSG_OOB), 1);
    cr_assert_eq(machine.wait(ends[0], stop), WEIR__PRESSURE_EVENT);
    close(ends[0]);
    cr_assert_eq(machine.wait(ends[0], stop), WEIR__PRESSURE_GONE);
    cr_assert_eq(write(stop, &one, sizeof one), (ssize_t)sizeof one);
    cr_assert_eq(machine.wait(ends[1], stop), WEIR__PRESSURE_STOP);
}

/* As a control group's file does when the group is removed: an event and an error at once. */
Test(pressure, an_event_with_an_error_is_the_end)
{
    int ends[2], stop = eventfd(0, EFD_CLOEXEC);
    struct linger at_once = {1, 0};
    use_fake();
    connect_tcp(ends);
    cr_assert_eq(send(ends[1], "!", 1, MSG_OOB), 1);
    cr_assert_eq(machine.wait(ends[0], stop), WEIR__PRESSURE_EVENT);
    setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(ends[1]); /* a reset: an error */
    cr_assert_eq(machine.wait(ends[0], stop), WEIR__PRESSURE_GONE);
}

Test(pressure, a_pause_ends_by_itself_or_when_it_is_told_to_stop)
{
    int stop = eventfd(0, EFD_CLOEXEC);
    static const uint64_t one = 1;
    use_fake();
    cr_assert_not(machine.pause(stop, 1));
    cr_assert_eq(write(stop, &one, sizeof one), (ssize_t)sizeof one);
    cr_assert(machine.pause(stop, 3600000));
}

Test(pressure, ending_it_does_not_wait_for_the_pause, .timeout = FIXTURE_PATIENCE_SECONDS)
{
    struct weir_pressure_config config = WEIR_PRESSURE_CONFIG_INIT;
    use_fake();
    weir__pressure_system.pause = machine.pause;
    config.pause_milliseconds = 3600000;
    cr_assert_eq(weir_pressure_start(&config), 0);
    happen_and_await();
    cr_assert_eq(weir_pressure_stop(), 0);
}

Test(pressure, file_of_another_kind_is_refused_and_stays_as_it_is)
{
    static const char text[] = "some notes";
    char path[64], now[64];
    struct weir_pressure_config config = WEIR_PRESSURE_CONFIG_INIT;
    int file = memfd_create("notes", MFD_CLOEXEC);
    cr_assert_eq(write(file, text, sizeof text), (ssize_t)sizeof text);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    config.path = path;
    unsigned before = open_files();
    cr_assert_eq(weir_pressure_start(&config), -ENOTSUP);
    cr_assert_eq(pread(file, now, sizeof now, 0), (ssize_t)sizeof text);
    cr_assert_str_eq(now, text);
    cr_assert_eq(open_files(), before);
    config.path = "/not/there";
    cr_assert_eq(weir_pressure_start(&config), -ENOENT);
}

Test(pressure, real_one_works_or_says_why_not)
{
    int error = weir_pressure_start(NULL);
    if (error != 0) {
        cr_assert(error == -ENOTSUP || error == -EACCES || error == -EPERM || error == -EINVAL, "%d", error);
        fprintf(stderr, "no pressure stall information here: %s\n", strerror(-error));
        return;
    }
    cr_assert(stats_now().running);
    cr_assert_eq(weir_pressure_start(NULL), -EALREADY);
    cr_assert_eq(weir_pressure_stop(), 0);
    struct weir_pressure_config config = WEIR_PRESSURE_CONFIG_INIT;
    config.path = "/proc/pressure/nothing";
    cr_assert_eq(weir_pressure_start(&config), -ENOENT);
}
