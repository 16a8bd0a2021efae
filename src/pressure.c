/* SPDX-License-Identifier: MIT */
/*
 * pressure.c - calls weir_shrink() when the kernel says that tasks wait for memory: see weir/shrinker.h.
 *
 * The kernel's pressure stall information (PSI): whoever writes "some 100000 2000000" to its file and keeps it
 * open is told by poll(), at most once per window, when tasks have waited so many microseconds of it.
 *
 * fork(): the mutex is not held while the process forks, and this file's handler runs before the gate
 * (fork.h) is closed: who ends the thread holds the mutex and waits for scans, which may have to pass the
 * gate. The child has copies of the files, which it closes, and no thread.
 */
#define _GNU_SOURCE
#include "pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fork.h"
#include "weir/shrinker.h"

#define DEFAULT_PATH "/proc/pressure/memory"
#define DEFAULT_STALL 100000
#define DEFAULT_WINDOW 2000000
#define LEAST_BYTES ((size_t)1 << 20)
#define PART 8

/* --- the system --- */

static int open_trigger(const char *path)
{
    return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

static enum weir__pressure_news wait_for_news(int trigger, int stop)
{
    struct pollfd files[] = {{.fd = trigger, .events = POLLPRI}, {.fd = stop, .events = POLLIN}};
    for (;;) {
        if (poll(files, 2, -1) < 0)
            continue; /* interrupted */
        if (files[1].revents != 0)
            return WEIR__PRESSURE_STOP;
        if ((files[0].revents & (POLLERR | POLLNVAL | POLLHUP)) != 0)
            return WEIR__PRESSURE_GONE;
        if ((files[0].revents & POLLPRI) != 0)
            return WEIR__PRESSURE_EVENT;
    }
}

struct weir__pressure_system weir__pressure_system = {open_trigger, wait_for_news};

/* --- the thread --- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* protects what follows */
static bool started;                                      /* there is a thread to be joined */
static pthread_t thread;
static __thread bool on_it; /* this is the thread */
static struct watcher {
    int trigger, stop;
    size_t bytes;
} watcher; /* the thread's, while it runs */

static pthread_mutex_t stats_mutex = PTHREAD_MUTEX_INITIALIZER; /* protects what follows, for moments */
static struct weir_pressure_stats totals;

static void give_back(size_t bytes)
{
    size_t part = weir_shrinkable() / PART;
    if (bytes == 0)
        bytes = part > LEAST_BYTES ? part : LEAST_BYTES;
    size_t given = weir_shrink(bytes);
    pthread_mutex_lock(&stats_mutex);
    totals.events++;
    totals.given += given;
    pthread_mutex_unlock(&stats_mutex);
}

static void *pressure_main(void *unused)
{
    enum weir__pressure_news news;
    (void)unused;
    on_it = true;
    while ((news = weir__pressure_system.wait(watcher.trigger, watcher.stop)) == WEIR__PRESSURE_EVENT)
        give_back(watcher.bytes);
    pthread_mutex_lock(&stats_mutex);
    totals.running = false;
    totals.error = news == WEIR__PRESSURE_GONE ? -ENODEV : 0;
    pthread_mutex_unlock(&stats_mutex);
    return NULL;
}

/* --- fork() --- */

static void before_fork(void)
{
    pthread_mutex_lock(&mutex);
    pthread_mutex_lock(&stats_mutex);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&stats_mutex);
    pthread_mutex_unlock(&mutex);
}

static void in_child(void)
{
    if (started) {
        close(watcher.trigger);
        close(watcher.stop);
    }
    started = false;
    totals = (struct weir_pressure_stats){0};
    after_fork();
}

static void init(void)
{
    weir__fork_init(); /* first: what is registered later runs earlier */
    pthread_atfork(before_fork, after_fork, in_child);
}

/* --- starting and ending it --- */

static struct weir_pressure_config complete(const struct weir_pressure_config *given)
{
    static const struct weir_pressure_config defaults = WEIR_PRESSURE_CONFIG_INIT;
    struct weir_pressure_config config = given != NULL ? *given : defaults;
    if (config.stall_microseconds == 0)
        config.stall_microseconds = DEFAULT_STALL;
    if (config.window_microseconds == 0)
        config.window_microseconds = DEFAULT_WINDOW;
    return config;
}

const char *weir_pressure_config_error(const struct weir_pressure_config *given)
{
    const struct weir_pressure_config config = complete(given);
    if (config.window_microseconds < 500000 || config.window_microseconds > 10000000)
        return "window_microseconds: 500000 to 10000000, or 0 for 2000000";
    if (config.stall_microseconds > config.window_microseconds)
        return "stall_microseconds: at most window_microseconds, or 0 for 100000";
    if (config.path != NULL && config.path[0] == '\0')
        return "path: is empty";
    return NULL;
}

/* A file that tells; or a negative errno. */
static int arm(const struct weir_pressure_config *config)
{
    char text[64];
    int file = weir__pressure_system.open(config->path != NULL ? config->path : DEFAULT_PATH);
    if (file < 0)
        return errno == ENOENT && config->path == NULL ? -ENOTSUP : -errno;
    int n = snprintf(text, sizeof text, "%s %u %u", config->full ? "full" : "some",
                     config->stall_microseconds, config->window_microseconds);
    ssize_t written = write(file, text, (size_t)n + 1); /* the kernel wants the zero byte, too */
    if (written >= 0)
        return file;
    int error = errno == EOPNOTSUPP ? -ENOTSUP : -errno;
    close(file);
    return error;
}

/* With the mutex. */
static void join(void)
{
    pthread_join(thread, NULL);
    close(watcher.trigger);
    close(watcher.stop);
    started = false;
}

static bool is_running(void)
{
    pthread_mutex_lock(&stats_mutex);
    bool running = totals.running;
    pthread_mutex_unlock(&stats_mutex);
    return running;
}

static void set_running(bool running)
{
    pthread_mutex_lock(&stats_mutex);
    totals.running = running;
    totals.error = 0;
    pthread_mutex_unlock(&stats_mutex);
}

/* The files are there. */
static int start_thread(void)
{
    sigset_t all, before;
    set_running(true);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's own threads */
    int error = pthread_create(&thread, NULL, pressure_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        set_running(false);
        return -error;
    }
    pthread_setname_np(thread, "weir-pressure");
    started = true;
    return 0;
}

/* With the mutex. */
static int start(const struct weir_pressure_config *config)
{
    if (started && is_running())
        return -EALREADY;
    if (started)
        join(); /* it has ended by itself */
    int trigger = arm(config);
    if (trigger < 0)
        return trigger;
    int stop = eventfd(0, EFD_CLOEXEC);
    int error = stop < 0 ? -errno : 0;
    watcher = (struct watcher){trigger, stop, config->bytes};
    if (error == 0)
        error = start_thread();
    if (error != 0) {
        close(trigger);
        if (stop >= 0)
            close(stop);
    }
    return error;
}

static void init_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init);
}

int weir_pressure_start(const struct weir_pressure_config *given)
{
    if (weir_pressure_config_error(given) != NULL)
        return -EINVAL;
    if (!weir__usable())
        return -EOWNERDEAD;
    if (on_it)
        return -EALREADY; /* who waits for it to end may hold the mutex */
    const struct weir_pressure_config config = complete(given);
    init_once();
    pthread_mutex_lock(&mutex);
    int error = start(&config);
    pthread_mutex_unlock(&mutex);
    return error;
}

int weir_pressure_stop(void)
{
    static const uint64_t one = 1;
    if (on_it)
        return -EDEADLK;
    pthread_mutex_lock(&mutex);
    if (started) {
        ssize_t written = write(watcher.stop, &one, sizeof one);
        (void)written; /* cannot fail: nobody has written before */
        join();
    }
    pthread_mutex_unlock(&mutex);
    return 0;
}

void weir_pressure_stats(struct weir_pressure_stats *stats)
{
    pthread_mutex_lock(&stats_mutex);
    *stats = totals;
    pthread_mutex_unlock(&stats_mutex);
}
