/* SPDX-License-Identifier: MIT */
/*
 * weir/shrinker.h - who can give memory back when there is little: a register, and the call that asks.
 *
 *     static size_t count(void *arg) { return bytes that lie idle in arg; }
 *     static size_t scan(void *arg, size_t bytes) { free about so many; return how many }
 *     static struct weir_shrinker shrinker = {count, scan, &my_cache, "my cache"};
 *
 *     weir_shrinker_register(&shrinker);
 *     size_t freed = weir_shrink(64 << 20);      // 64 MiB, from all that are registered together
 *     weir_shrinker_unregister(&shrinker);       // from here on nobody calls it, and it may go
 *
 *     weir_pressure_start(NULL);                 // Linux: weir_shrink() whenever the system is short of memory
 *
 * The kernel's shrinkers are the model: whoever keeps memory that could be had again says how much it is, and
 * each is asked for the same share of what it has. weir's caches, page caches and reclaimers are registered.
 * See docs/shrinker.md.
 *
 * Rules for count and scan. They run in whatever thread calls weir_shrink(), several at once if several call
 * it. No lock of weir's is held: they may register, and unregister others, but not themselves. They must not
 * take a lock that is held by who calls weir_shrink() or weir_shrinker_unregister(); where that cannot be
 * known, scan tries its lock and returns 0. And not crosswise: while two scans run, each unregistering the
 * other's shrinker, both wait for ever.
 */
#ifndef WEIR_SHRINKER_H
#define WEIR_SHRINKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/detail/api.h"

WEIR_BEGIN_C_NAMES

struct weir_shrinker {
    /* Bytes that scan could give back now; an estimate. 0: scan is not called. */
    size_t (*count)(void *arg);
    /* Gives about so many bytes back, at least 1; how many it did, 0 if it cannot now. */
    size_t (*scan)(void *arg, size_t bytes);
    void *arg;
    const char *name; /* for people who look for it in a debugger; may be NULL */
    /* Private. */
    struct weir__shrinker_entry {
        struct weir_shrinker *next;
        uint64_t number; /* in the order of registration, from 1 */
        unsigned pins;   /* count or scan is running so often */
        bool leaving;    /* is being unregistered: not to be called any more */
    } entry;
};

/*
 * Has weir_shrink() ask this one, too. *shrinker stays where it is until it is unregistered. 0; -EINVAL if
 * count or scan is NULL; -EEXIST if it is registered; -EOWNERDEAD in a child process that cannot use weir.
 *   Progress: may block: a mutex.  Callers: any thread, count and scan included; not a signal handler.
 *   Ordering: none but the mutex's.  Memory: none.
 */
WEIR_API int weir_shrinker_register(struct weir_shrinker *shrinker);

/*
 * Returns when neither count nor scan is running and none will be called again: *shrinker and what it stands
 * for may go. 0; -ENOENT if it is not registered; -EDEADLK inside its own count or scan, which it would wait
 * for; -EOWNERDEAD as weir_shrinker_register().
 *   Progress: may block: waits for count and scan.
 *   Callers: any thread, other shrinkers' count and scan included; not a signal handler; with no lock held
 *   that its scan takes.
 *   Ordering: acquires what its count and scan did.  Memory: none.
 */
WEIR_API int weir_shrinker_unregister(struct weir_shrinker *shrinker);

/*
 * Has about `target` bytes given back, SIZE_MAX: all there are; how many it were, which may be more: each
 * gives whole pieces. Asks each for a share in proportion to its count, round after round, until the target
 * is reached, a round has given nothing, or after 16 rounds. 0 inside count or scan.
 *   Progress: may block: a mutex, and what count and scan do.
 *   Callers: any thread; not a signal handler; with no lock held that a scan takes.
 *   Ordering: none.  Memory: gives back.
 */
WEIR_API size_t weir_shrink(size_t target);

/*
 * How many bytes all of them together say they could give back now: an estimate. 0 inside count or scan.
 *   Progress, Callers: as weir_shrink().  Ordering: none.  Memory: none.
 */
WEIR_API size_t weir_shrinkable(void);

/* When to call weir_shrink(), and for how much. */
struct weir_pressure_config {
    /* The file of the kernel's pressure stall information; NULL: /proc/pressure/memory, which is the whole
     * system's. A control group's is memory.pressure in its folder. */
    const char *path;
    /* Time for which all tasks that could run waited for memory at once; false: for which some did. */
    bool full;
    /* An event is so much waiting within so long, at most one per window; microseconds. stall: 1 to the
     * window; 0: 100000. window: 500000 to 10000000, and without CAP_SYS_RESOURCE a multiple of 2000000; 0:
     * 2000000. */
    unsigned stall_microseconds;
    unsigned window_microseconds;
    /* What is asked for at each event; 0: an eighth of weir_shrinkable(), but at least 1 MiB. */
    size_t bytes;
    /* For so long after that nothing more is asked for; what happens meanwhile counts as one event, then. At
     * most 3600000; 0: 1000. */
    unsigned pause_milliseconds;
};

/* clang-format off */
#define WEIR_PRESSURE_CONFIG_INIT { NULL, false, 0, 0, 0, 0 }
/* clang-format on */

struct weir_pressure_stats {
    bool running; /* the thread is there */
    int error; /* why it has ended by itself: a negative errno, -ENODEV if the file is gone; 0: it has not */
    uint64_t events; /* since the process began, or since fork() */
    uint64_t given;  /* bytes that weir_shrink() said were given */
};

/*
 * What is wrong with a configuration: a sentence that names the field and the rule; NULL if nothing is.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none; the text stays valid.
 */
WEIR_API const char *weir_pressure_config_error(const struct weir_pressure_config *config);

/*
 * Starts a thread, weir-pressure, that sleeps until the kernel says that tasks wait for memory, and then
 * calls weir_shrink(). It gets no signals, and is no real-time thread, whoever starts it. `config` NULL: the
 * defaults. 0; -EALREADY if there is one, one that is being ended included; -EINVAL if
 * weir_pressure_config_error() has something to say, or if the kernel takes no such window from a process
 * without CAP_SYS_RESOURCE; -ENOTSUP if this kernel has no pressure stall information (none is built in, or
 * it was started without: psi=1), or if the file given is of another kind, and then nothing is written to it;
 * -ENOENT if there is no file of the name given; -EACCES or -EPERM if it may not be written; -EOWNERDEAD as
 * weir_shrinker_register(); or what else the system says. A child of fork() has no such thread, and may start
 * one; where a scan forks, the thread goes on in the child to the end of the scans, and ends.
 *   Progress: may block: a mutex, system calls.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: a thread's stack.
 */
WEIR_API int weir_pressure_start(const struct weir_pressure_config *config);

/*
 * Ends the thread, after the scans that it may be in. 0, also if there is none; -EDEADLK on that thread
 * itself: inside a count or scan that it calls.
 *   Progress: may block: waits for count and scan.
 *   Callers: any thread, not a signal handler; with no lock held that a scan takes.
 *   Ordering: acquires what count and scan did on it.  Memory: none.
 */
WEIR_API int weir_pressure_stop(void);

/*
 * What it has done; who sees an event here sees what it gave, too.
 *   Progress: wait-free.  Callers: any context.  Ordering: acquires the scans of the events.  Memory: none.
 */
WEIR_API void weir_pressure_stats(struct weir_pressure_stats *stats);

WEIR_END_C_NAMES

#endif /* WEIR_SHRINKER_H */
