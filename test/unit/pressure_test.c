/* SPDX-License-Identifier: MIT */
/* weir_pressure_start(): whenever the kernel says so, weir_shrink() is called. The kernel is a socket here: what is
 * written to it is the trigger, and a byte from its other end an event. The last test asks the real one. */
#include "pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixtures.h"
#include "weir/shrinker.h"

#include "weir_test.h"

#define MIB ((size_t)1 << 20)

static int kernel[2] = {-1, -1}; /* weir's end, and the test's */
static int open_error;
static char opened[64];

static int fake_open(const char *path)
{
    snprintf(opened, sizeof opened, "%s", path);
    if (open_error != 0) {
        errno = open_error;
        return -1;
    }
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, kernel) == 0 ? kernel[0] : -1;
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

static void use_fake(void)
{
    weir__pressure_system = (struct weir__pressure_system){fake_open, fake_wait};
    open_error = 0;
}

static struct weir_pressure_stats stats_now(void)
{
    struct weir_pressure_stats stats;
    weir_pressure_stats(&stats);
    return stats;
}

/* For long; what is being waited for decides. */
static bool has_seen(uint64_t events)
{
    for (unsigned i = 0; i < 6000 && stats_now().events < events; i++)
        usleep(10000);
    return stats_now().events == events;
}

static bool has_ended(void)
{
    for (unsigned i = 0; i < 6000 && stats_now().running; i++)
        usleep(10000);
    return !stats_now().running;
}

static void happen(void)
{
    cr_assert_eq(write(kernel[1], "!", 1), 1);
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
static int stop_in_scan, start_in_scan;

static size_t count(void *arg)
{
    (void)arg;
    return weir_load_relaxed(&has);
}

static size_t scan(void *arg, size_t bytes)
{
    (void)arg;
    weir_store_relaxed(&asked, bytes);
    stop_in_scan = weir_pressure_stop();
    start_in_scan = weir_pressure_start(NULL);
    return bytes;
}

static struct weir_shrinker shrinker = {count, scan, NULL, "a test", {0}};

static void check_asks(size_t bytes, size_t having, size_t expected)
{
    struct weir_pressure_config config = WEIR_PRESSURE_CONFIG_INIT;
    uint64_t before = stats_now().events, given = stats_now().given;
    config.bytes = bytes;
    weir_store_relaxed(&has, having);
    cr_assert_eq(weir_pressure_start(&config), 0);
    happen();
    cr_assert(has_seen(before + 1));
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

Test(pressure, inside_a_scan_of_its_own_it_can_neither_be_ended_nor_started)
{
    use_fake();
    cr_assert_eq(weir_shrinker_register(&shrinker), 0);
    check_asks(MIB, 80 * MIB, MIB);
    cr_assert_eq(stop_in_scan, -EDEADLK);
    cr_assert_eq(start_in_scan, -EALREADY);
    cr_assert_eq(weir_shrinker_unregister(&shrinker), 0);
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
    open_error = ENOENT;
    cr_assert_eq(weir_pressure_start(NULL), -ENOTSUP, "a kernel without");
    config.path = "/not/there";
    cr_assert_eq(weir_pressure_start(&config), -ENOENT);
    open_error = EACCES;
    cr_assert_eq(weir_pressure_start(NULL), -EACCES);
    cr_assert_not(stats_now().running);
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
    cr_assert(has_ended());
    cr_assert_eq(stats_now().error, -ENODEV);
    cr_assert_eq(weir_pressure_start(NULL), 0);
    cr_assert(stats_now().running);
    cr_assert_eq(stats_now().error, 0);
    cr_assert_eq(weir_pressure_stop(), 0);
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
    uint64_t before = stats_now().events;
    memcpy(kernel, parents, sizeof kernel);
    happen();
    cr_assert(has_seen(before + 1), "the parent's goes on");
    cr_assert_eq(weir_pressure_stop(), 0);
}
#endif

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
