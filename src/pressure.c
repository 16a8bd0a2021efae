/* SPDX-License-Identifier: MIT */
/*
 * pressure.c - calls weir_shrink() when the kernel says that tasks wait for memory: see weir/shrinker.h.
 *
 * The kernel's pressure stall information (PSI): whoever writes "some 100000 2000000" to its file and keeps it
 * open is told by poll(), at most once per window, when tasks have waited so many microseconds of it.
 *
 *     NONE -start-> RUNNING -stop-> STOPPING -joined-> NONE
 *                      |               ^
 *                      +-> ENDED ------+      by itself: the file is gone; start and stop join it
 *
 * The mutex is held for a few steps, and not while the thread is joined: that takes as long as its scans do.
 *
 * fork(): the mutex is only held inside the gate (fork.h), so it is free when the process forks. The child
 * has copies of the files, which it closes, and no thread; unless it is the thread that forks, in a scan:
 * then it is an ordinary one there, and ends when it comes back from the scan.
 */
#define _GNU_SOURCE
#include "pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fork.h"
#include "futex.h"
#include "weir/shrinker.h"

#define DEFAULT_PATH "/proc/pressure/memory"
#define DEFAULT_STALL 100000
#define DEFAULT_WINDOW 2000000
#define DEFAULT_PAUSE 1000
#define LEAST_BYTES ((size_t)1 << 20)
#define PART 8

/* --- the system --- */

/* What is written to a file of another kind would stay there: so look first. */
static int look_for_psi(int file)
{
    static const char begins[] = "some avg10=";
    char text[sizeof begins - 1];
    ssize_t got = read(file, text, sizeof text);
    if (got < 0)
        return -errno;
    return got == (ssize_t)sizeof text && memcmp(text, begins, sizeof text) == 0 ? 0 : -ENOTSUP;
}

static int open_trigger(const char *path)
{
    int file = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    int error = file < 0 ? -errno : look_for_psi(file);
    if (error == 0)
        return file;
    if (file >= 0)
        close(file);
    return error;
}

/* One of them has something to say; false: none within so long, or it cannot be waited for. */
static bool await(struct pollfd files[], nfds_t n, int milliseconds)
{
    int ready;
    while ((ready = poll(files, n, milliseconds)) < 0)
        if (errno != EINTR)
            return false;
    return ready != 0;
}

static enum weir__pressure_news wait_for_news(int trigger, int stop)
{
    struct pollfd files[] = {{.fd = trigger, .events = POLLPRI}, {.fd = stop, .events = POLLIN}};
    if (!await(files, 2, -1))
        return WEIR__PRESSURE_GONE;
    if (files[1].revents != 0)
        return WEIR__PRESSURE_STOP;
    return files[0].revents == POLLPRI ? WEIR__PRESSURE_EVENT : WEIR__PRESSURE_GONE;
}

static bool pause_for(int stop, unsigned milliseconds)
{
    struct pollfd file = {.fd = stop, .events = POLLIN};
    return await(&file, 1, (int)milliseconds);
}

struct weir__pressure_system weir__pressure_system = {open_trigger, wait_for_news, pause_for};

/* --- the thread --- */

enum { NONE, RUNNING, ENDED, STOPPING };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* protects what follows */
static pthread_t thread;                                  /* unless NONE */
static struct watcher {
    int trigger, stop;
    size_t bytes;
    unsigned pause_milliseconds;
} watcher; /* the thread's, unless NONE */

static uint32_t state; /* the thread itself makes it ENDED; a futex */
static uint32_t forks; /* that have made this process: who saw fewer is not its thread */

/* Statistics. */
static int32_t error_at_end;
static uint64_t total_events, total_given;

static void give_back(size_t bytes)
{
    size_t part = bytes == 0 ? weir_shrinkable() / PART : 0;
    if (bytes == 0)
        bytes = part > LEAST_BYTES ? part : LEAST_BYTES;
    uint64_t given = weir_shrink(bytes);
    weir_fetch_add_relaxed(&total_given, given);        /* relaxed: the next one releases it */
    weir_fetch_add_release(&total_events, UINT64_C(1)); /* pairs with the acquire in weir_pressure_stats() */
}

/* It ends by itself, and touches nothing after this: whoever joins it does not wait. */
static void end(int error)
{
    uint32_t running = RUNNING;
    /* Release: pairs with the acquire in weir_pressure_stats(). Relaxed: by this one. */
    weir_store_relaxed(&error_at_end, (int32_t)error);
    weir_cas_release(&state, &running, (uint32_t)ENDED);
}

static void *pressure_main(void *unused)
{
    const struct watcher mine = watcher; /* written before the thread was made */
    const struct sched_param ordinary = {0};
    uint32_t before = weir_load_relaxed(&forks); /* relaxed: only a fork() on this thread can change it */
    (void)unused;
    pthread_setschedparam(pthread_self(), SCHED_OTHER, &ordinary); /* who started it may be a real-time one */
    for (;;) {
        enum weir__pressure_news news = weir__pressure_system.wait(mine.trigger, mine.stop);
        if (news == WEIR__PRESSURE_EVENT)
            give_back(mine.bytes);
        if (weir_load_relaxed(&forks) != before)
            return NULL; /* a scan has forked: another process, whose thread this is not */
        if (news == WEIR__PRESSURE_GONE)
            end(-ENODEV);
        if (news != WEIR__PRESSURE_EVENT || weir__pressure_system.pause(mine.stop, mine.pause_milliseconds))
            return NULL;
    }
}

/* --- fork() --- */

static void in_child(void)
{
    if (weir__usable() && state != NONE) {
        close(watcher.trigger);
        close(watcher.stop);
    }
    state = NONE;
    forks++;
    error_at_end = 0;
    total_events = total_given = 0;
}

static void init(void)
{
    weir_percpu_init(); /* the gate counts by CPU */
    weir__fork_init();
    pthread_atfork(NULL, NULL, in_child);
}

/* False: in this child nothing can be used. */
static bool lock(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init);
    if (!weir__enter())
        return false;
    pthread_mutex_lock(&mutex);
    return true;
}

static void unlock(void)
{
    pthread_mutex_unlock(&mutex);
    weir__leave();
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
    if (config.pause_milliseconds == 0)
        config.pause_milliseconds = DEFAULT_PAUSE;
    return config;
}

const char *weir_pressure_config_error(const struct weir_pressure_config *given)
{
    const struct weir_pressure_config config = complete(given);
    if (config.window_microseconds < 500000 || config.window_microseconds > 10000000)
        return "window_microseconds: 500000 to 10000000, or 0 for 2000000";
    if (config.stall_microseconds > config.window_microseconds)
        return "stall_microseconds: at most window_microseconds, or 0 for 100000";
    if (config.pause_milliseconds > 3600000)
        return "pause_milliseconds: at most 3600000, an hour, or 0 for 1000";
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
        return file == -ENOENT && config->path == NULL ? -ENOTSUP : file;
    int n = snprintf(text, sizeof text, "%s %u %u", config->full ? "full" : "some",
                     config->stall_microseconds, config->window_microseconds);
    ssize_t written = write(file, text, (size_t)n + 1); /* the kernel wants the zero byte, too */
    if (written >= 0)
        return file;
    int error = -errno;
    close(file);
    return error;
}

/* The thread has been joined, or never was. */
static void close_files(void)
{
    close(watcher.trigger);
    close(watcher.stop);
    weir_store_relaxed(&state, (uint32_t)NONE); /* relaxed: the mutex orders it */
}

/* `watcher` is complete. */
static int start_thread(void)
{
    sigset_t all, before;
    sigfillset(&all);
    weir_store_relaxed(&error_at_end, 0);          /* relaxed, both: ordered by the thread's creation, and */
    weir_store_relaxed(&state, (uint32_t)RUNNING); /* ... for others by the mutex */
    pthread_sigmask(SIG_SETMASK, &all, &before);   /* signals are for the program's own threads */
    int error = pthread_create(&thread, NULL, pressure_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        pthread_setname_np(thread, "weir-pressure");
    return -error;
}

/* With the mutex. */
static int start(const struct weir_pressure_config *config)
{
    uint32_t now = weir_load_acquire(&state); /* pairs with the release in end() */
    if (now == RUNNING || now == STOPPING)
        return -EALREADY;
    if (now == ENDED) { /* nothing keeps it any more */
        pthread_join(thread, NULL);
        close_files();
    }
    int trigger = arm(config);
    if (trigger < 0)
        return trigger;
    int stop = eventfd(0, EFD_CLOEXEC);
    int error = stop < 0 ? -errno : 0;
    watcher = (struct watcher){trigger, stop, config->bytes, config->pause_milliseconds};
    if (error == 0)
        error = start_thread();
    if (error != 0)
        close_files();
    return error;
}

int weir_pressure_start(const struct weir_pressure_config *given)
{
    if (weir_pressure_config_error(given) != NULL)
        return -EINVAL;
    const struct weir_pressure_config config = complete(given);
    if (!lock())
        return -EOWNERDEAD;
    int error = start(&config);
    unlock();
    return error;
}

/* With the mutex: 0, and the thread is to be joined by the caller; -EALREADY if somebody is at it; or what
 * weir_pressure_stop() returns. */
static int begin_to_stop(bool *join)
{
    static const uint64_t one = 1;
    uint32_t now = weir_load_relaxed(&state); /* relaxed: what is ENDED by now is joined all the same */
    *join = false;
    if (now == NONE)
        return 0;
    if (pthread_equal(thread, pthread_self()))
        return -EDEADLK;
    if (now == STOPPING)
        return -EALREADY;
    *join = true;
    weir_store_relaxed(&state, (uint32_t)STOPPING); /* relaxed: the mutex orders it */
    ssize_t written = write(watcher.stop, &one, sizeof one);
    (void)written; /* cannot fail: nobody has written before */
    return 0;
}

int weir_pressure_stop(void)
{
    bool join;
    int error;
    for (;;) {
        if (!lock())
            return 0; /* there is none */
        error = begin_to_stop(&join);
        unlock();
        if (error != -EALREADY)
            break;
        weir__futex_wait(&state, STOPPING, NULL);
    }
    if (!join)
        return error;
    pthread_join(thread, NULL);
    if (lock()) { /* always: it is where the thread was */
        close_files();
        unlock();
    }
    weir__futex_wake_all(&state);
    return 0;
}

void weir_pressure_stats(struct weir_pressure_stats *stats)
{
    /* Acquires: pair with the releases in end() and give_back(); what comes first there is read last here.
     * Relaxed: by them. */
    uint32_t now = weir_load_acquire(&state);
    stats->running = now == RUNNING || now == STOPPING;
    stats->error = weir_load_relaxed(&error_at_end);
    stats->events = weir_load_acquire(&total_events);
    stats->given = weir_load_relaxed(&total_given);
}
