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
 * somebody wants one, and counts. Readers go on using their own library's calls and need no change.
 *
 * The count is even while no grace period runs and odd while one does. A cookie is the count at which the
 * first grace period that starts from now on will be over: the next even number but one if one is under way,
 * because that one may have begun before the caller unlinked its object. (The same reckoning as the kernel's
 * rcu_seq_snap; P. McKenney, "A Tour Through RCU's Requirements".)
 */
#ifndef WEIR_GRACE_H
#define WEIR_GRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/atomic.h"
#include "weir/detail/api.h"

WEIR_BEGIN_C_NAMES

struct weir_grace;

typedef struct weir_grace_cookie {
    uint64_t value; /* even; compare with weir_grace_poll() only */
} weir_grace_cookie;

/* Where grace periods come from. All are called without any lock of weir's held. */
struct weir_grace_source {
    const char *name;
    /* Returns when every reader that was reading at the time of the call is done. Only ever called by the
     * helper thread, which is not a reader. */
    void (*synchronize)(void *arg);
    /* The calling thread is about to wait, so it must not hold up a grace period: true if it was a reader
     * that would have, and reader_online must follow. NULL, both: there is no such thing. */
    bool (*reader_offline)(void *arg);
    void (*reader_online)(void *arg);
    void *arg;
    /* Is the calling thread a reader that would hold up a grace period now? For checked builds; NULL: cannot
     * tell. */
    bool (*reader_is_online)(void *arg);
    /* Called in a thread that is about to fork(): will synchronize work in the child? There, this thread is
     * alone. NULL: it will. */
    bool (*survives_fork)(void *arg);
};

/*
 * The process's liburcu-qsbr as a source. Every caller gets the same one; give it back with weir_grace_put().
 * It survives fork() if no other thread is a registered reader then: that is liburcu's own rule.
 * 0; -ENOMEM or -EAGAIN if the helper thread cannot be started.
 *   Progress: may block.  Callers: any thread, not a signal handler.
 *   Ordering: none.       Memory: allocates the first time; -ENOMEM.
 */
WEIR_API int weir_grace_qsbr(struct weir_grace **grace);

/*
 * A source of your own, to be given back with weir_grace_put(). 0; or, with *grace set to NULL: -EINVAL if
 * there is no synchronize, or only one of the reader functions; -ENOMEM or -EAGAIN if the helper thread
 * cannot be started.
 *   Progress: may block.  Callers: any thread, not a signal handler.  Ordering: none.
 *   Memory: allocates; -ENOMEM.
 */
WEIR_API int weir_grace_create(struct weir_grace **grace, const struct weir_grace_source *source);

/*
 * Gives a source back; the last one to do so stops the helper thread of a source of your own. (That of
 * weir_grace_qsbr() sleeps until the process ends.) Everything built on it must have been destroyed before.
 * NULL is allowed.
 *   Progress: may block.
 *   Callers: any thread, not a signal handler; an online reader is put offline meanwhile.  Ordering: none.
 *   Memory: frees.
 */
WEIR_API void weir_grace_put(struct weir_grace *grace);

/*
 * A cookie for the first full grace period from now, and a request to run it.
 *   Progress: wait-free but for a system call that wakes the helper when it sleeps. In a child of fork() the
 *   first call starts the helper thread.
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
 * that, or if the child's first grace period has not ended within a second: see docs/grace.md.
 *   Progress: may block.
 *   Callers: any thread; not a signal handler, not inside a read-side critical section, not a function that
 *   weir calls to free objects.
 *   Ordering: as weir_grace_poll() when true, if 0.  Memory: none.
 */
WEIR_API int weir_grace_wait(struct weir_grace *grace, weir_grace_cookie cookie);

/* Grace periods that have ended since the source was made: a statistic.
 *   Progress: wait-free.  Callers: any context.  Ordering: none.  Memory: none. */
WEIR_API uint64_t weir_grace_periods(const struct weir_grace *grace);

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
