/* SPDX-License-Identifier: MIT */
/* percpu_mode.c - choosing the per-CPU mode: are there restartable sequences here, and do they restart? */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "percpu.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __GLIBC_PREREQ
#if __GLIBC_PREREQ(2, 35)
#include <sys/rseq.h>
#define GLIBC_RSEQ 1
#endif
#endif
#ifndef GLIBC_RSEQ
#define GLIBC_RSEQ 0
#endif

struct weir__percpu weir__percpu;

/* Written once, by choose(). */
static struct {
    pthread_once_t once;
    int error;
    const char *reason;
} chosen = {.once = PTHREAD_ONCE_INIT};

/* --- CPU numbers --- */

enum { MOST_CPUS = 1 << 16, WORD_BITS = 8 * sizeof(unsigned long) };
typedef unsigned long cpu_mask[MOST_CPUS / WORD_BITS];

/*
 * The CPUs that this thread may run on, and a number that all CPU numbers are below: the kernel refuses a
 * mask that has no room for the highest one it may ever use. 0 if it does not say.
 */
static uint32_t cpus_of_affinity(cpu_mask mask)
{
    memset(mask, 0, sizeof(cpu_mask));
    for (size_t bytes = sizeof mask[0]; bytes <= sizeof(cpu_mask); bytes += sizeof mask[0])
        if (syscall(SYS_sched_getaffinity, 0, bytes, mask) > 0)
            return (uint32_t)(8 * bytes);
    return 0;
}

static bool may_run_on(const unsigned long *mask, uint32_t cpu)
{
    return mask[cpu / WORD_BITS] >> cpu % WORD_BITS & 1;
}

/* One more than the last number in the kernel's list of CPUs that may ever be there, "0-3,5"; 0 if there is
 * no such list. */
static uint32_t cpus_of_list(void)
{
    char list[4096] = "";
    FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
    if (file != NULL) {
        if (fgets(list, sizeof list, file) == NULL)
            list[0] = '\0';
        fclose(file);
    }
    const char *last = list;
    for (const char *c = list; *c != '\0'; c++)
        if (*c == '-' || *c == ',')
            last = c + 1;
    char *end;
    long highest = strtol(last, &end, 10);
    return end == last || highest < 0 || highest >= MOST_CPUS ? 0 : (uint32_t)highest + 1;
}

/*
 * The list is exact, but a container may hide it or show one of its own; the affinity is the kernel's word.
 * So there are slots for the list and for where we may run now; and up to `bound`, a CPU that the list forgot
 * finds weir_percpu_none (see weir_percpu_alloc()).
 */
static void count_cpus(void)
{
    static cpu_mask mask;
    uint32_t bound = cpus_of_affinity(mask), nr = cpus_of_list();
    if (nr == 0)
        nr = bound;
    for (uint32_t cpu = nr; cpu < bound; cpu++)
        if (may_run_on(mask, cpu))
            nr = cpu + 1;
    if (nr == 0) {
        long configured = sysconf(_SC_NPROCESSORS_CONF);
        nr = configured > 0 && configured < MOST_CPUS ? (uint32_t)configured : 1;
        bound = 0; /* nobody knows */
    } else if (bound < nr) {
        bound = nr;
    }
    weir__percpu.nr_cpus = nr;
    weir__percpu.bound = bound;
}

/* --- membarrier --- */

/* From linux/membarrier.h, which not every system has: the commands for restartable sequences. */
enum { RESTART = 1 << 7, REGISTER = 1 << 8 };

int weir__restart_sequences(unsigned flags, unsigned cpu)
{
    return (int)syscall(SYS_membarrier, RESTART, flags, cpu);
}

int weir__restart_register(void)
{
    return (int)syscall(SYS_membarrier, REGISTER, 0, 0);
}

#if WEIR__RSEQ

/* --- registering --- */

/* In place of CPU numbers, as the kernel and the C library have them. */
enum { NOT_YET = -1, NEVER = -2 };

/* struct rseq, for threads whose C library registers none: the kernel's first version of it. Initial-exec:
 * always there, and at the same offset in each thread. */
struct area {
    uint32_t cpu_id_start;
    int32_t cpu_id;
    uint64_t rseq_cs;
    uint32_t flags, unused[3];
} WEIR_ALIGNED(32);
static __thread struct area area __attribute__((tls_model("initial-exec"))) = {.cpu_id = NOT_YET};

struct weir__rseq_area weir__rseq_area;

/* Threads are registered by weir. Written once, by choose(). */
static bool by_weir;

static int rseq(int flags)
{
    return (int)syscall(SYS_rseq, &area, sizeof area, flags, WEIR__RSEQ_SIGNATURE);
}

/* No signal handler may register the thread again between the two. */
static void unregister(void *unused)
{
    enum { UNREGISTER = 1 };
    sigset_t all, before;
    (void)unused;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rseq(UNREGISTER);
    weir_store_relaxed(&area.cpu_id, (int32_t)NEVER); /* relaxed: this thread's */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/*
 * At the end of a thread. The kernel writes into the area whenever it lets the thread go on in user space, so
 * the memory must be there until the thread makes its last system call.
 *
 * glibc keeps a thread's thread-local memory, and its stack around it, for reuse or to unmap it, until the
 * kernel has cleared the thread's id, which it does in that last call. So there is nothing to do, and glibc
 * itself does nothing about its own area.
 *
 * musl, and who knows who else, lets a detached thread unmap its own stack and then end: in between the
 * kernel might write. So a destructor, which runs before, unregisters; from then on the thread finds no
 * slot. (pthread_setspecific() may have been called by a signal handler: in musl that is two stores.)
 */
#ifdef __GLIBC__

static int prepare_for_exit(void)
{
    return 0;
}

static void unregister_at_exit(void) {}

#else

static pthread_key_t at_exit;

static int prepare_for_exit(void)
{
    return pthread_key_create(&at_exit, unregister);
}

static void unregister_at_exit(void)
{
    if (pthread_setspecific(at_exit, &area) != 0)
        unregister(NULL);
}

#endif

/*
 * fork() needs nothing: the child's thread is registered, at the same address, and may ask for membarrier as
 * its parent might.
 */
bool weir__rseq_register(void)
{
    if (!by_weir || weir_load_relaxed(&area.cpu_id) != NOT_YET) /* relaxed: this thread's */
        return false;
    int error = errno;
    /* EBUSY: a signal handler was here since the line before, and has done it. */
    bool known = rseq(0) == 0 || errno == EBUSY;
    if (known)
        unregister_at_exit();
    else
        weir_store_relaxed(&area.cpu_id, (int32_t)NEVER);
    errno = error;
    return known;
}

static ptrdiff_t offset_of_area(void)
{
    return (char *)&area - weir__thread_pointer();
}

/* Where struct rseq is: the C library's, if it has one that the kernel knows, else weir's. */
static const char *find_area(void)
{
#if GLIBC_RSEQ
    if (__rseq_size != 0) {
        weir__rseq_area.offset = __rseq_offset;
        return NULL;
    }
#endif
    weir__rseq_area.offset = offset_of_area();
    if (prepare_for_exit() != 0)
        return "lock: no key left for thread-specific data";
    if (rseq(0) != 0)
        return errno == ENOSYS ? "lock: the kernel has no restartable sequences"
               : errno == EINVAL || errno == EBUSY
                   ? "lock: somebody else in this process has registered rseq for its own use"
                   : "lock: the kernel refuses to register rseq";
    by_weir = true;
    unregister_at_exit();
    return NULL;
}

/* From now on the fast paths of all threads find weir_percpu_none. */
static void do_without(void)
{
    if (by_weir)
        unregister(NULL);
    by_weir = false;
    weir__rseq_area.offset = offset_of_area();
}

/* --- the self-test --- */

static int current_cpu(void)
{
    unsigned cpu;
    /* Not the C library's function: that may read it in struct rseq. */
    return syscall(SYS_getcpu, &cpu, NULL, NULL) == 0 ? (int)cpu : sched_getcpu();
}

/* Is the CPU number in the calling thread's struct rseq the right one? NULL, or why not. */
static const char *check_number(void)
{
    for (int i = 0; i < 1000; i++) { /* each time we may be moved in between */
        int32_t number = weir__rseq_cpu();
        if (number < 0)
            return "lock: rseq is registered, but not for every thread";
        if ((uint32_t)number >= weir__percpu.nr_cpus)
            return "lock: the CPU number that rseq shows is higher than any CPU's";
        if (number == current_cpu())
            return NULL;
    }
    return "lock: the CPU number that rseq shows is not that of the CPU we are on";
}

/*
 * One thread, on a CPU of its own choice, sits in a sequence that does nothing until `leave` is set; another
 * asks the kernel to restart it, and then sets that. Being asked is like being preempted, and what
 * weir_percpu_settle() builds on. Several times, since a chance preemption may restart one of them.
 */
enum { SELF_TESTS = 8 };

static uint32_t in_sequence, leave;

static bool restarted_in_sequence(void)
{
    uint64_t magazine, scratch;
    __asm__ __volatile__ goto(
        WEIR__SEQUENCE("magazine", "scratch", WEIR__RSEQ_SIT, "%l[restarted]")
        : [magazine] "=&r"(magazine), [scratch] "=&r"(scratch)
        : [rseq] "r"(weir__rseq_area.offset), [inside] "r"(&in_sequence), [leave] "r"(&leave)
        : "memory", "cc"
        : restarted);
    __asm__ __volatile__("");
    return false;
restarted:
    return true;
}

static void go_to(const cpu_set_t *cpu)
{
    if (CPU_COUNT(cpu) != 0)
        sched_setaffinity(0, sizeof *cpu, cpu); /* if not, then here */
}

static void *self_test(void *cpu)
{
    go_to(cpu);
    weir__rseq_register();
    const char *why_not = check_number();
    bool restarted = restarted_in_sequence();
    if (why_not == NULL && !restarted)
        why_not = "lock: the self-test failed: an interrupted sequence did not restart";
    return (void *)(uintptr_t)why_not;
}

static const char *self_test_on(cpu_set_t *cpu)
{
    sigset_t all, before;
    pthread_t thread;
    void *why_not = NULL;

    weir_store_relaxed(&in_sequence, 0u); /* relaxed: the thread is started after, and joined before */
    weir_store_relaxed(&leave, 0u);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread takes no signal meant for the program */
    int error = pthread_create(&thread, NULL, self_test, cpu);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return "lock: no thread could be started for the self-test";
    while (weir_load_acquire(&in_sequence) == 0)
        sched_yield();
    weir__restart_sequences(0, 0);
    weir_store_release(&leave, 1u);
    pthread_join(thread, &why_not);
    return why_not;
}

/* On the CPUs we may use, in turn. */
static const char *self_tests(void)
{
    cpu_set_t allowed, one;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        CPU_ZERO(&allowed);
    size_t cpu = CPU_SETSIZE;
    for (int i = 0; i < SELF_TESTS; i++) {
        CPU_ZERO(&one);
        do
            cpu = (cpu + 1) % (CPU_SETSIZE + 1);
        while (cpu < CPU_SETSIZE && !CPU_ISSET(cpu, &allowed));
        if (cpu < CPU_SETSIZE)
            CPU_SET(cpu, &one);
        const char *why_not = self_test_on(&one);
        if (why_not != NULL)
            return why_not;
    }
    return NULL;
}

/* Why restartable sequences cannot be used, or NULL after setting up for them. */
static const char *try_rseq(void)
{
    const char *why_not = find_area();
    if (why_not == NULL && weir__percpu.bound == 0)
        why_not = "lock: the kernel does not tell how high CPU numbers may be";
    if (why_not == NULL && weir__restart_register() != 0)
        why_not = "lock: the kernel has no membarrier command that restarts sequences (needs Linux 5.10)";
    if (why_not == NULL)
        why_not = check_number();
    if (why_not == NULL)
        why_not = self_tests();
    return why_not;
}

static const char *why_rseq(void)
{
    return by_weir ? "rseq: registered by weir, and an interrupted sequence restarts"
                   : "rseq: registered by the C library, and an interrupted sequence restarts";
}

#else

static void do_without(void) {}

static const char *try_rseq(void)
{
    return WEIR_TSAN ? "lock: built with ThreadSanitizer, which cannot see into sequences"
                     : "lock: no restartable sequences for this architecture";
}

static const char *why_rseq(void)
{
    return "rseq: never";
}

#endif

/* --- the choice --- */

static void choose(void)
{
    const char *forced = getenv("WEIR_PERCPU");
    if (forced != NULL && forced[0] == '\0')
        forced = NULL;
    bool want_lock = forced != NULL && strcmp(forced, "lock") == 0;
    bool want_rseq = forced != NULL && strcmp(forced, "rseq") == 0;
    const char *why_not;

    count_cpus();
#ifdef __x86_64__
    weir__percpu.wide = __builtin_cpu_supports("avx") != 0;
#endif
    if (forced != NULL && !want_lock && !want_rseq) {
        fprintf(stderr, "weir: WEIR_PERCPU is \"%s\"; it must be rseq or lock, or unset\n", forced);
        chosen.error = -EINVAL;
        why_not = "lock: WEIR_PERCPU holds an unknown value";
    } else {
        why_not = want_lock ? "lock: WEIR_PERCPU asks for it" : try_rseq();
    }
    if (why_not != NULL && want_rseq) {
        fprintf(stderr, "weir: WEIR_PERCPU=rseq cannot be done: %s\n", why_not + strlen("lock: "));
        chosen.error = -ENOTSUP;
    }
    if (why_not != NULL)
        do_without();
    weir__percpu.mode = why_not == NULL ? WEIR_PERCPU_RSEQ : WEIR_PERCPU_LOCK;
    chosen.reason = why_not == NULL ? why_rseq() : why_not;
}

int weir_percpu_init(void)
{
    pthread_once(&chosen.once, choose);
    return chosen.error;
}

enum weir_percpu_mode weir_percpu_mode(void)
{
    weir_percpu_init();
    return weir__percpu.mode;
}

const char *weir_percpu_reason(void)
{
    weir_percpu_init();
    return chosen.reason;
}

unsigned weir_percpu_nr_cpus(void)
{
    weir_percpu_init();
    return weir__percpu.nr_cpus;
}
