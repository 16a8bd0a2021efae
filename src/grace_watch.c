/* SPDX-License-Identifier: MIT */
/* grace_watch.c - notices grace periods that do not end: see grace_watch.h. */
#define _GNU_SOURCE
#include "grace_watch.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include "futex.h"

enum {
    AWAKE = 0,
    TIMED = 1,  /* asleep until a time */
    ASLEEP = 2, /* until it is woken */
};

#define NEVER UINT64_MAX

static uint32_t sleeping;                                  /* AWAKE, TIMED, ASLEEP; the thread's futex */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;  /* protects what follows; held for moments */
static pthread_cond_t reported = PTHREAD_COND_INITIALIZER; /* some `reporting` has become false */
static struct weir__watch *sources;
static bool started;

/* --- the line on standard error --- */

struct line {
    char text[1200];
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line->text + line->length, sizeof line->text - line->length, format, args);
    va_end(args);
    if (n > 0)
        line->length += (size_t)n;
    if (line->length >= sizeof line->text)
        line->length = sizeof line->text - 1;
}

static void add_reader(struct line *line, const struct weir_grace_reader *reader)
{
    if (reader->thread != 0)
        add(line, "thread %ld", reader->thread);
    else
        add(line, "record %p", reader->record);
    if (reader->name[0] != '\0')
        add(line, " (%s)", reader->name);
    if (reader->context != NULL)
        add(line, " (context %p)", reader->context);
}

static void add_readers(struct line *line, const struct weir_grace_stall *stall)
{
    for (size_t i = 0; i < stall->listed; i++) {
        add(line, i == 0 ? "" : i + 1 == stall->found ? " and " : ", ");
        add_reader(line, &stall->readers[i]);
    }
    if (stall->found > stall->listed)
        add(line, " and %zu more", stall->found - stall->listed);
}

/* Readers that can go offline hold up grace periods while they are not, whatever they do. */
static void print(const struct weir_grace_source *source, const struct weir_grace_stall *stall)
{
    struct line line = {.length = 0};
    bool one = stall->found == 1;
    add(&line, "weir: %s: a grace period has not ended for %llu ms: ", stall->source,
        (unsigned long long)stall->milliseconds);
    if (stall->found == 0)
        add(&line, "which readers it waits for is not known");
    else
        add_readers(&line, stall);
    if (stall->found != 0 && source->reader_offline != NULL)
        add(&line, one ? " is online without a quiescent state; it should go offline before it blocks"
                       : " are online without a quiescent state; they should go offline before they block");
    else if (stall->found != 0)
        add(&line, one ? " has not left its read-side critical section"
                       : " have not left their read-side critical sections");
    fprintf(stderr, "%s\n", line.text);
}

/* --- looking --- */

/* In how many milliseconds a source has to be looked at again; 0: it has to be reported; NEVER. */
static uint64_t look(struct weir__watch *watch, uint64_t now)
{
    /* Acquires: pair with the releases in weir__watch_begin() and where the count is advanced. If `begun` is
     * of a later grace period than the count, the second look at that finds another one. */
    uint64_t count = weir_load_acquire(watch->count);
    uint64_t begun = weir_load_acquire(&watch->begun);
    if (watch->milliseconds == 0)
        return NEVER;
    if ((count & 1) == 0 || weir_load_acquire(watch->count) != count)
        return watch->milliseconds; /* the next one begins later than now */
    if (count != watch->period) {
        watch->period = count;
        watch->due = watch->milliseconds;
    }
    watch->since = now > begun ? now - begun : 0;
    return watch->since < watch->due ? watch->due - watch->since : 0;
}

/* With the mutex, which is not held while the callback is called: the list may have changed then. */
static void report(struct weir__watch *watch)
{
    const struct weir_grace_source *source = watch->source;
    uint64_t count = watch->period;
    struct weir_grace_stall stall = {.source = source->name != NULL ? source->name : "a source",
                                     .milliseconds = watch->since};
    while (watch->due <= watch->since)
        watch->due *= 2;
    if (source->stalled != NULL)
        stall.found = source->stalled(source->arg, WEIR_GRACE_STALL_READERS, stall.readers);
    stall.listed = stall.found < WEIR_GRACE_STALL_READERS ? stall.found : WEIR_GRACE_STALL_READERS;
    if (weir_load_acquire(watch->count) != count)
        return; /* it has ended after all */
    weir__on_stall *callback = watch->callback;
    void *arg = watch->arg;
    watch->reporting = true;
    watch->reporter = pthread_self();
    pthread_mutex_unlock(&mutex);
    if (callback != NULL)
        callback(arg, &stall);
    else
        print(source, &stall);
    pthread_mutex_lock(&mutex);
    watch->reporting = false;
    pthread_cond_broadcast(&reported);
}

void weir__watch_look(struct weir__watch *watch)
{
    uint64_t now = weir__milliseconds();
    /* Relaxed, both: this thread runs the grace period, and what is set meanwhile counts the next time. */
    uint32_t milliseconds = weir_load_relaxed(&watch->milliseconds);
    if (milliseconds == 0 || now - weir_load_relaxed(&watch->begun) < milliseconds)
        return;
    pthread_mutex_lock(&mutex);
    if (look(watch, now) == 0)
        report(watch);
    pthread_mutex_unlock(&mutex);
}

/* --- the thread --- */

/* Wakes it if it sleeps at `depth` or deeper, as wake_helper() in grace.c does. */
static void wake(uint32_t depth)
{
    if (weir_fetch_add_acq_rel(&sleeping, 0u) < depth)
        return;
    weir_xchg_acq_rel(&sleeping, (uint32_t)AWAKE);
    weir__futex_wake_all(&sleeping);
}

/* Looks at all sources; in how many milliseconds again. *busy: a grace period is or was under way. */
static uint64_t look_at_all(bool *busy)
{
    uint64_t next = NEVER;
    *busy = false;
    pthread_mutex_lock(&mutex);
    for (struct weir__watch *watch = sources; watch != NULL;) {
        uint64_t wait = watch->source->no_helper ? NEVER : look(watch, weir__milliseconds());
        if (wait == 0) {
            report(watch);
            watch = sources; /* from the start */
            continue;
        }
        if (wait != NEVER) {
            uint64_t count = weir_load_acquire(watch->count);
            *busy |= (count & 1) != 0 || count != watch->seen;
            watch->seen = count;
        }
        next = wait < next ? wait : next;
        watch = watch->next;
    }
    pthread_mutex_unlock(&mutex);
    return next;
}

static void *watch_main(void *unused)
{
    (void)unused;
    for (;;) {
        bool busy, busy_now;
        look_at_all(&busy);
        /* Pairs with wake(): what was written before one that came first is seen below; one that comes later
         * finds how deep we sleep. */
        weir_xchg_acq_rel(&sleeping, busy ? (uint32_t)TIMED : (uint32_t)ASLEEP);
        uint64_t next = look_at_all(&busy_now);
        struct timespec time = weir__timespec(next);
        if (busy && next != NEVER)
            weir__futex_wait(&sleeping, TIMED, &time);
        else if (!busy && !busy_now)
            weir__futex_wait(&sleeping, ASLEEP, NULL);
        weir_xchg_acq_rel(&sleeping, (uint32_t)AWAKE);
    }
    return NULL;
}

int weir__watch_start(void)
{
    sigset_t all, before;
    pthread_t thread;
    int error = 0;
    pthread_mutex_lock(&mutex);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's own threads */
    if (!started)
        error = pthread_create(&thread, NULL, watch_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started && error == 0) {
        pthread_setname_np(thread, "weir-watch");
        pthread_detach(thread);
        started = true;
    }
    pthread_mutex_unlock(&mutex);
    return -error;
}

/* --- sources --- */

void weir__watch_add(struct weir__watch *watch)
{
    pthread_mutex_lock(&mutex);
    watch->next = sources;
    sources = watch;
    pthread_mutex_unlock(&mutex);
}

/* With the mutex. */
static void await_report(struct weir__watch *watch)
{
    while (watch->reporting && !pthread_equal(watch->reporter, pthread_self()))
        pthread_cond_wait(&reported, &mutex);
}

void weir__watch_remove(struct weir__watch *watch)
{
    pthread_mutex_lock(&mutex);
    struct weir__watch **link = &sources;
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    await_report(watch);
    pthread_mutex_unlock(&mutex);
}

void weir__watch_set(struct weir__watch *watch, unsigned milliseconds, weir__on_stall *callback, void *arg)
{
    pthread_mutex_lock(&mutex);
    await_report(watch);
    weir_store_relaxed(&watch->milliseconds, milliseconds); /* relaxed: see weir__watch_begun() */
    watch->callback = callback;
    watch->arg = arg;
    watch->period = 0;
    pthread_mutex_unlock(&mutex);
    if (!watch->source->no_helper)
        wake(TIMED);
}

void weir__watch_begin(struct weir__watch *watch)
{
    weir_store_release(&watch->begun, weir__milliseconds()); /* pairs with the acquire in look() */
}

void weir__watch_begun(struct weir__watch *watch)
{
    /* Relaxed: whoever has just changed it wakes the thread, which looks at the count after that. */
    if (!watch->source->no_helper && weir_load_relaxed(&watch->milliseconds) != 0)
        wake(ASLEEP);
}

/* --- fork() --- */

void weir__watch_pause(void)
{
    pthread_mutex_lock(&mutex);
}

void weir__watch_go_on(bool in_child)
{
    if (in_child) {
        pthread_cond_init(&reported, NULL);
        started = false;
        sleeping = AWAKE;
        for (struct weir__watch *watch = sources; watch != NULL; watch = watch->next)
            watch->reporting = false;
    }
    pthread_mutex_unlock(&mutex);
}
