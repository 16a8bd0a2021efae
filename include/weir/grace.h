/* SPDX-License-Identifier: MIT */
/*
 * weir/grace.h - grace periods as cookies: take one, go on working, ask later whether it is over.
 *
 *     struct weir_grace *grace;
 *     weir_grace_qsbr(&grace);                               // readers: liburcu-qsbr, as they are
 *
 *     unlink(object);
 *     weir_grace_cookie cookie = weir_grace_start(grace);
 *     ...
 *     if (weir_grace_poll(grace, cookie))                    // every reader of back then is gone
 *         free(object);
 *
 * A grace period is a stretch of time at whose end every read-side critical section that was under way at its
 * start has ended. Libraries for read-copy-update can wait for one; few can be asked. This turns the waiting
 * kind into the asking kind: one helper thread per source (named weir-grace) runs grace periods while
 * somebody wants one, and counts; or, if you want no thread, whoever calls weir_grace_drive() does. Readers
 * go on using their own library's calls and need no change.
 *
 * The count is even while no grace period runs and odd while one does. A cookie is the count at which the
 * first grace period that starts from now on will be over: the next even number but one if one is under way,
 * because that one may have begun before the caller unlinked its object. (The same reckoning as the kernel's
 * rcu_seq_snap; P. McKenney, "A Tour Through RCU's Requirements".)
 */
#ifndef WEIR_GRACE_H
#define WEIR_GRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/atomic.h"
#include "weir/detail/api.h"

WEIR_BEGIN_C_NAMES

struct weir_grace;
struct ck_epoch; /* ck_epoch_t */

typedef struct weir_grace_cookie {
    uint64_t value; /* even; compare with weir_grace_poll() only */
} weir_grace_cookie;

/* A reader that keeps a grace period from ending, as far as it is known. */
struct weir_grace_reader {
    long thread;         /* the kernel's id of its thread; 0: unknown */
    char name[16];       /* its thread's; "": unknown */
    const void *record;  /* what the library keeps of it */
    const void *context; /* what the program gave the library with it; NULL: nothing */
};

/* Where grace periods come from. All are called without any lock of weir's held, but for `stalled`. */
struct weir_grace_source {
    const char *name;
    /* Returns when every reader that was reading at the time of the call is done. Called by the helper
     * thread, which is not a reader; without one, by a thread that is offline. */
    void (*synchronize)(void *arg);
    /* The calling thread is about to wait, so it must not hold up a grace period: true if it was a reader
     * that would have, and reader_online must follow. NULL, both: there is no such thing. */
    bool (*reader_offline)(void *arg);
    void (*reader_online)(void *arg);
    void *arg;
    /* Is the calling thread a reader that would hold up a grace period now? For checked builds; NULL: cannot
     * tell. */
    bool (*reader_is_online)(void *arg);
    /* Called in a thread that is about to fork(), offline, while no grace period is under way: will grace
     * periods end in the child? There, this thread is alone. NULL: they will. */
    bool (*survives_fork)(void *arg);
    /* Instead of synchronize, or beside it: a grace period that is asked for, not waited for. begin: one
     * starts now; over: has it ended? It is given what begin returned. One at a time, from any thread, and
     * neither waits. NULL, both: there is no such thing. */
    uint64_t (*begin)(void *arg);
    bool (*over)(void *arg, uint64_t begun);
    /* Which readers keep the grace period that is under way from ending: writes up to n of them to `readers`,
     * which is zeroed, and returns how many there are. Called while synchronize waits, or between begin and
     * over, from another thread or from the one that asks. It must not wait for grace periods, nor call weir.
     * NULL: cannot tell. */
    size_t (*stalled)(void *arg, size_t n, struct weir_grace_reader readers[]);
    /* No helper thread: grace periods and sweeps take place in weir_grace_drive() and weir_grace_wait(). */
    bool no_helper;
};

/*
 * liburcu-qsbr as a source to be changed (say, to no_helper) and given to weir_grace_create().
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none.
 */
WEIR_API struct weir_grace_source weir_grace_source_qsbr(void);

/*
 * Likewise liburcu-memb. If it is not built in: a source without functions, which weir_grace_create()
 * refuses.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none.
 */
WEIR_API struct weir_grace_source weir_grace_source_memb(void);

/*
 * Likewise an epoch of Concurrency Kit, which must live longer than what is made of the source.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none.
 */
WEIR_API struct weir_grace_source weir_grace_source_ck_epoch(struct ck_epoch *epoch);

/*
 * The process's liburcu-qsbr as a source. Every caller gets the same one; give it back with weir_grace_put().
 * It survives fork() if no other thread is a registered reader then: that is liburcu's own rule.
 * 0; -ENOMEM or -EAGAIN if the helper thread cannot be started.
 *   Progress: may block.  Callers: any thread, not a signal handler.
 *   Ordering: none.       Memory: allocates the first time; -ENOMEM.
 */
WEIR_API int weir_grace_qsbr(struct weir_grace **grace);

/*
 * The process's liburcu-memb, as weir_grace_qsbr(); or -ENOTSUP, with *grace set to NULL, if it is not built
 * in.
 *   Progress: may block.  Callers: any thread, not a signal handler.
 *   Ordering: none.       Memory: allocates the first time; -ENOMEM.
 */
WEIR_API int weir_grace_memb(struct weir_grace **grace);

/*
 * An epoch of Concurrency Kit as a source: a new one with each call, to be given back with weir_grace_put()
 * while the epoch is still there. 0; or, with *grace set to NULL, as weir_grace_create(), and -ENOTSUP if it
 * is not built in.
 *   Progress: may block.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: allocates; -ENOMEM.
 */
WEIR_API int weir_grace_ck_epoch(struct weir_grace **grace, struct ck_epoch *epoch);

/*
 * A source of your own, to be given back with weir_grace_put(). 0; or, with *grace set to NULL: -EINVAL if
 * there is neither synchronize nor begin and over, or only one of the latter, or only one of the reader
 * functions; -ENOMEM or -EAGAIN if the helper thread cannot be started.
 *   Progress: may block.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: allocates; -ENOMEM.
 */
WEIR_API int weir_grace_create(struct weir_grace **grace, const struct weir_grace_source *source);

/*
 * Gives a source back; the last one to do so stops the helper thread of a source of your own. (That of
 * weir_grace_qsbr() and weir_grace_memb() sleeps until the process ends.) Everything built on it must have
 * been destroyed before. NULL is allowed.
 *   Progress: may block.
 *   Callers: any thread, not a signal handler; an online reader is put offline meanwhile.  Ordering: none.
 *   Memory: frees.
 */
WEIR_API void weir_grace_put(struct weir_grace *grace);

/*
 * A cookie for the first full grace period from now, and a request to run it.
 *   Progress: wait-free but for a system call that wakes the helper when it sleeps (without a helper, nobody
 *   is woken). In a child of fork() the first call starts the helper thread.
 *   Callers: any thread, read-side critical sections, and, but for that first call, signal handlers.
 *   Ordering: what the caller did before (unlinking) is visible to every reader that starts after the grace
 *   period has; releases to the helper.
 *   Memory: none.
 */
WEIR_API weir_grace_cookie weir_grace_start(struct weir_grace *grace);

/*
 * Is the grace period over?
 *   Progress: wait-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: if true, everything readers did before is visible: acquires what the helper released.
 *   Memory: none.
 */
WEIR_API bool weir_grace_poll(const struct weir_grace *grace, weir_grace_cookie cookie);

/*
 * Returns when it is over. A reader (liburcu-qsbr: registered and online) is put offline meanwhile, so
 * whatever references it holds end here. 0; in a child of fork(), -EOWNERDEAD if the source does not survive
 * that, or if the child's first grace period has not ended within a second: see docs/grace.md. Without a
 * helper it does what weir_grace_drive() does until then, or sleeps while another thread does.
 *   Progress: may block.
 *   Callers: any thread; not a signal handler, not inside a read-side critical section, not a function that
 *   weir calls to free objects.
 *   Ordering: as weir_grace_poll() when true, if 0.  Memory: none.
 */
WEIR_API int weir_grace_wait(struct weir_grace *grace, weir_grace_cookie cookie);

/* Grace periods that have ended since the source was made: a statistic.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none. */
WEIR_API uint64_t weir_grace_periods(const struct weir_grace *grace);

/*
 * For a source without a helper: does on the calling thread, as far as that can be done without waiting, what
 * the helper would do. If a grace period is wanted it begins one, or asks whether the one under way is over;
 * and it sweeps what is due in caches and reclaimers, which may call the functions that free objects. Only
 * where the source has nothing but `synchronize` it waits for that, and an online reader is put offline
 * meanwhile. True: something is still wanted or pending, or another thread is just driving: call again.
 * False: nothing is, or the source has a helper.
 *   Progress: non-blocking with begin and over, but for what it sweeps; else it may block.
 *   Callers: any thread, several at once; not a signal handler, not inside a read-side critical section, not
 *   a function that weir calls to free objects.
 *   Ordering: as weir_grace_poll() when a grace period has ended.  Memory: none.
 */
WEIR_API bool weir_grace_drive(struct weir_grace *grace);

enum { WEIR_GRACE_STALL_READERS = 8 };

/* A grace period that does not end. */
struct weir_grace_stall {
    const char *source;    /* its name */
    uint64_t milliseconds; /* since it began */
    /* Readers that keep it from ending, as far as they are known; the first `listed` of `found`. */
    size_t found, listed;
    struct weir_grace_reader readers[WEIR_GRACE_STALL_READERS];
};

/*
 * Has `callback` called when a grace period has not ended after so many milliseconds, and again when that
 * time has doubled, and so on. 0: never. NULL: a line on standard error, which is how it is from the start,
 * after 5000. It is called by a thread of weir's (weir-watch), which blocks all signals; without a helper in
 * weir_grace_drive() and weir_grace_wait(). It must not wait for grace periods nor give sources back. When
 * this function returns the callback before is not called any more, unless it is called from there.
 *   Progress: may block.  Callers: any thread, not a signal handler.
 *   Ordering: releases to the callback.  Memory: none.
 */
WEIR_API void weir_grace_on_stall(struct weir_grace *grace, unsigned milliseconds,
                                  void (*callback)(void *arg, const struct weir_grace_stall *stall),
                                  void *arg);

/* Private: stands for "all readers" towards ThreadSanitizer. */
WEIR_API extern char weir__grace_readers;

WEIR_END_C_NAMES

#if WEIR_TSAN
WEIR_BEGIN_C_NAMES
void __tsan_release(void *);
void __tsan_acquire(void *);
WEIR_END_C_NAMES
#endif

/*
 * For ThreadSanitizer builds of programs whose RCU library is not built with it: call it in a reader right
 * before it announces a quiescent state, goes offline or unregisters. It tells the sanitizer what the library
 * does out of its sight. Nothing in other builds.
 *   Progress: wait-free.  Callers: readers.
 *   Ordering: to ThreadSanitizer, releases what the reader did to whoever sees the grace period end.
 *   Memory: none.
 */
static inline void weir_grace_annotate_quiescent(void)
{
#if WEIR_TSAN
    __tsan_release(&weir__grace_readers);
#endif
}

#endif /* WEIR_GRACE_H */
