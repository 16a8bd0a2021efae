/* SPDX-License-Identifier: MIT */
/* grace_qsbr.c - liburcu-qsbr as a source of grace periods. */
#define _GNU_SOURCE
#include "grace.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <urcu/urcu-qsbr.h>
#include <urcu/static/urcu-qsbr.h> /* only what a reader's record looks like */

static void synchronize(void *arg)
{
    (void)arg;
    urcu_qsbr_synchronize_rcu();
}

/* liburcu says "read ongoing" of a thread that is registered and online. */
static bool reader_offline(void *arg)
{
    (void)arg;
    if (!urcu_qsbr_read_ongoing())
        return false;
    urcu_qsbr_thread_offline();
    return true;
}

static void reader_online(void *arg)
{
    (void)arg;
    urcu_qsbr_thread_online();
}

static bool reader_is_online(void *arg)
{
    (void)arg;
    return urcu_qsbr_read_ongoing();
}

/*
 * In a child the records of other readers stay in liburcu's list, which lies in the memory of their threads'
 * stacks: it would be waited for them, or, once that memory is used again, worse. So: is there any other? The
 * list is a ring through its head; if we are its only member, we have the head on both sides. Who is not on
 * it is put there for a moment.
 */
static bool survives_fork(void *arg)
{
    (void)arg;
    bool registered = urcu_qsbr_reader.registered;
    if (!registered)
        urcu_qsbr_register_thread();
    /* Relaxed: others may come and go; the rule asks them not to. */
    bool alone =
        weir_load_relaxed(&urcu_qsbr_reader.node.next) == weir_load_relaxed(&urcu_qsbr_reader.node.prev);
    if (!registered)
        urcu_qsbr_unregister_thread();
    return alone;
}

/*
 * --- who is it? ---
 *
 * liburcu keeps the records of its readers, which are thread-local, in a ring, and has no function that looks
 * at it. While synchronize waits, the ring of its `registry` holds the readers that it waits for and those
 * that have come since; others are moved to a list on its stack, at each round. A new reader is put on the
 * registry's. So does the calling thread for a moment: it is offline, so that nobody waits for it, and the
 * ring that it is on is the one. (Unless a round comes just then and moves it: then nobody is found, and it
 * is tried again.)
 *
 * A thread may end meanwhile, and its record with it. So memory is looked at by a system call, which says so
 * if it is not there; and what is there must look like a record. It is a guess, made for a message.
 */

static bool peek(const void *from, void *to, size_t bytes)
{
    struct iovec remote = {(void *)(uintptr_t)from, bytes}, local = {to, bytes};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)bytes;
}

static size_t bytes_between(const void *low, const void *high)
{
    return (size_t)((uintptr_t)high - (uintptr_t)low);
}

/* glibc, musl: the address of what the C library keeps of a thread. */
static const void *handle(pthread_t thread)
{
    return (const void *)(uintptr_t)thread;
}

/*
 * Is it a reader's record, and not the head of a list or the rest of one? The record of a thread is as far
 * from what the C library keeps of that thread as ours is of ours. (If liburcu was loaded by dlopen(), it
 * need not be: then nobody is found.)
 */
static bool looks_like_reader(const struct urcu_qsbr_reader *record, const struct urcu_qsbr_reader *copy)
{
    return copy->registered && bytes_between(handle(copy->tid), record) ==
                                   bytes_between(handle(pthread_self()), &urcu_qsbr_reader);
}

/*
 * The kernel's id of a thread; 0: unknown. It lies where, in what is kept of the calling thread, its own
 * does. (pthread_getcpuclockid() knows the place, but must not be asked about a thread that may have ended.)
 */
static pid_t thread_id(pthread_t thread)
{
    pid_t own = (pid_t)syscall(SYS_gettid), id;
    for (size_t offset = 0; offset < 4096; offset += sizeof id) {
        if (!peek((const char *)handle(pthread_self()) + offset, &id, sizeof id))
            return 0;
        if (id == own)
            return peek((const char *)handle(thread) + offset, &id, sizeof id) ? id : 0;
    }
    return 0;
}

/* Only if there is such a thread. */
static void name_thread(struct weir_grace_reader *reader, pid_t id)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", (int)id);
    FILE *file = id > 0 ? fopen(path, "re") : NULL;
    if (file == NULL)
        return;
    reader->thread = id;
    if (fgets(reader->name, sizeof reader->name, file) != NULL)
        reader->name[strcspn(reader->name, "\n")] = '\0';
    fclose(file);
}

/* Walks the ring that the calling thread is on. */
static size_t walk(size_t n, struct weir_grace_reader readers[])
{
    const struct cds_list_head *start = &urcu_qsbr_reader.node;
    struct cds_list_head node;
    size_t found = 0;
    const void *at = start;

    for (unsigned steps = 0; steps < 100000 && peek(at, &node, sizeof node) && node.next != start; steps++) {
        struct urcu_qsbr_reader copy;
        at = node.next;
        const struct urcu_qsbr_reader *record =
            (const void *)((const char *)at - offsetof(struct urcu_qsbr_reader, node));
        if (!peek(record, &copy, sizeof copy) || !looks_like_reader(record, &copy))
            continue;
        if (copy.ctr == 0 || copy.ctr == weir_load_relaxed(&urcu_qsbr_gp.ctr)) /* relaxed: a guess */
            continue; /* offline, or has been quiescent */
        if (found < n) {
            readers[found].record = record;
            name_thread(&readers[found], thread_id(copy.tid));
        }
        found++;
    }
    return found;
}

static size_t stalled(void *arg, size_t n, struct weir_grace_reader readers[])
{
    size_t found = 0;
    (void)arg;
    if (urcu_qsbr_reader.registered)
        return 0; /* which list it is on is not known */
    for (unsigned tries = 0; tries < 3 && found == 0; tries++) {
        urcu_qsbr_register_thread();
        urcu_qsbr_thread_offline();
        found = walk(n, readers);
        urcu_qsbr_unregister_thread();
    }
    return found;
}

struct weir_grace_source weir_grace_source_qsbr(void)
{
    return (struct weir_grace_source){.name = "liburcu-qsbr",
                                      .synchronize = synchronize,
                                      .reader_offline = reader_offline,
                                      .reader_online = reader_online,
                                      .reader_is_online = reader_is_online,
                                      .survives_fork = survives_fork,
                                      .stalled = stalled};
}

int weir_grace_qsbr(struct weir_grace **grace)
{
    static struct weir_grace *shared;
    struct weir_grace_source source = weir_grace_source_qsbr();
    return weir__grace_share(&shared, &source, grace);
}
