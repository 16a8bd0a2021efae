/* SPDX-License-Identifier: MIT */
/* percpu.c - choosing the per-CPU mode, and the operations of weir/percpu.h that are too long to inline. */
#define _GNU_SOURCE
#include "weir/percpu.h"

#include <errno.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct weir_magazine weir_percpu_none;

/* Written once, by choose(). */
static struct {
    pthread_once_t once;
    int error;
    enum weir_percpu_mode mode;
    const char *reason;
    uint32_t nr_cpus;
} chosen = {.once = PTHREAD_ONCE_INIT};

static bool use_rseq(void)
{
    return weir_likely(chosen.mode == WEIR_PERCPU_RSEQ);
}

static int membarrier(int command, unsigned flags, unsigned cpu)
{
    return (int)syscall(SYS_membarrier, command, flags, cpu);
}

/* One more than the highest CPU number the kernel may ever use: the last number in its list "0-3,5". */
static uint32_t possible_cpus(void)
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
    if (end == last || highest < 0 || highest >= INT_MAX)
        highest = sysconf(_SC_NPROCESSORS_CONF) - 1;
    return highest < 0 ? 1 : (uint32_t)highest + 1;
}

#if WEIR__RSEQ

/*
 * The self-test: one thread sits in a sequence that does nothing until `leave` is set, another asks the
 * kernel to restart it, and then sets that. Being asked is like being preempted, and what
 * weir_percpu_settle() builds on. Several times, since a chance preemption may restart one of them.
 */
#define SELF_TESTS 8

static uint32_t in_sequence, leave;

static void *sit_in_sequence(void *unused)
{
    (void)unused;
    uint64_t scratch;
    __asm__ __volatile__ goto(".pushsection __rseq_cs, \"aw?\"\n\t"
                              ".balign 32\n"
                              "3:\n\t"
                              ".long 0, 0\n\t"
                              ".quad 1f, 2f - 1f, 4f\n\t"
                              ".popsection\n\t"
                              "leaq 3b(%%rip), %[scratch]\n\t"
                              "movq %[scratch], %%fs:" WEIR__RSEQ_CS "(%[rseq])\n"
                              "1:\n\t"
                              "movl $1, %[in_sequence]\n"
                              "5:\n\t"
                              "pause\n\t"
                              "cmpl $0, %[leave]\n\t"
                              "je 5b\n"
                              "2:\n\t"
                              ".pushsection __rseq_failure, \"ax?\"\n\t"
                              ".byte 0x0f, 0xb9, 0x3d\n\t"
                              ".long " WEIR__RSEQ_SIGNATURE "\n"
                              "4:\n\t"
                              "jmp %l[restarted]\n\t"
                              ".popsection\n\t"
                              : [scratch] "=&r"(scratch), [in_sequence] "+m"(in_sequence)
                              : [leave] "m"(leave), [rseq] "r"(__rseq_offset)
                              : "memory", "cc"
                              : restarted);
    __asm__ __volatile__("");
    return NULL;
restarted:
    return &in_sequence;
}

static bool sequences_restart(void)
{
    sigset_t all, before;
    pthread_t thread;
    void *restarted = NULL;

    weir_store_relaxed(&in_sequence, 0u); /* relaxed: the thread is started after, and joined before */
    weir_store_relaxed(&leave, 0u);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread takes no signal meant for the program */
    int error = pthread_create(&thread, NULL, sit_in_sequence, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return false;
    while (weir_load_acquire(&in_sequence) == 0)
        sched_yield();
    membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 0, 0);
    weir_store_release(&leave, 1u);
    pthread_join(thread, &restarted);
    return restarted != NULL;
}

/* Why restartable sequences cannot be used, or NULL after setting up for them. */
static const char *try_rseq(void)
{
    if (__rseq_size == 0)
        return "lock: the C library could not register rseq with the kernel";
    if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0) != 0)
        return "lock: the kernel has no membarrier command that restarts sequences (needs Linux 5.10)";
    for (int i = 0; i < SELF_TESTS; i++)
        if (!sequences_restart())
            return "lock: the self-test failed: an interrupted sequence did not restart";
    return NULL;
}

#else

static const char *try_rseq(void)
{
    return WEIR_TSAN ? "lock: built with ThreadSanitizer, which cannot see into sequences"
                     : "lock: no restartable sequences for this architecture and C library";
}

#endif

static void choose(void)
{
    const char *forced = getenv("WEIR_PERCPU");
    if (forced != NULL && forced[0] == '\0')
        forced = NULL;
    bool want_lock = forced != NULL && strcmp(forced, "lock") == 0;
    bool want_rseq = forced != NULL && strcmp(forced, "rseq") == 0;

    chosen.nr_cpus = possible_cpus();
    if (forced != NULL && !want_lock && !want_rseq) {
        fprintf(stderr, "weir: WEIR_PERCPU is \"%s\"; it must be rseq or lock, or unset\n", forced);
        chosen.error = -EINVAL;
        chosen.reason = "lock: WEIR_PERCPU holds an unknown value";
        return;
    }
    const char *why_not = want_lock ? "lock: WEIR_PERCPU asks for it" : try_rseq();
    if (why_not != NULL && want_rseq) {
        fprintf(stderr, "weir: WEIR_PERCPU=rseq cannot be done: %s\n", why_not + strlen("lock: "));
        chosen.error = -ENOTSUP;
    }
    chosen.mode = why_not == NULL ? WEIR_PERCPU_RSEQ : WEIR_PERCPU_LOCK;
    chosen.reason = why_not == NULL ? "rseq: registered, and an interrupted sequence restarts" : why_not;
}

int weir_percpu_init(void)
{
    pthread_once(&chosen.once, choose);
    return chosen.error;
}

enum weir_percpu_mode weir_percpu_mode(void)
{
    weir_percpu_init();
    return chosen.mode;
}

const char *weir_percpu_reason(void)
{
    weir_percpu_init();
    return chosen.reason;
}

unsigned weir_percpu_nr_cpus(void)
{
    weir_percpu_init();
    return chosen.nr_cpus;
}

unsigned weir_percpu_cpu(void)
{
#if WEIR__RSEQ
    if (use_rseq()) {
        uint32_t cpu;
        __asm__ __volatile__("movl %%fs:" WEIR__RSEQ_CPU "(%[rseq]), %[cpu]"
                             : [cpu] "=r"(cpu)
                             : [rseq] "r"(__rseq_offset));
        if (weir_likely(cpu < chosen.nr_cpus))
            return cpu;
    }
#endif
    int cpu = sched_getcpu();
    return cpu < 0 || chosen.nr_cpus == 0 ? 0 : (unsigned)cpu % chosen.nr_cpus;
}

/* Slots in front of CPU 0's, for threads whose CPU number is -1 or -2: see weir/detail/rseq.h. */
#define GUARDS 2

static size_t bytes_with_guards(void)
{
    return ((size_t)chosen.nr_cpus + GUARDS) * WEIR_PERCPU_STRIDE;
}

void *weir_percpu_alloc(void)
{
    if (weir_percpu_init() != 0)
        return NULL;
    char *memory =
        mmap(NULL, bytes_with_guards(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    struct weir_magazine **words = (struct weir_magazine **)(void *)memory;
    for (size_t i = 0; i < GUARDS * WEIR_PERCPU_STRIDE / sizeof words[0]; i++)
        words[i] = &weir_percpu_none;
    return memory + GUARDS * WEIR_PERCPU_STRIDE;
}

void weir_percpu_free(void *percpu)
{
    if (percpu != NULL)
        munmap((char *)percpu - GUARDS * WEIR_PERCPU_STRIDE, bytes_with_guards());
}

static struct weir_percpu_slot *slot_of(struct weir_percpu_slot *slots, unsigned cpu)
{
    return (struct weir_percpu_slot *)(void *)((char *)slots + (size_t)cpu * WEIR_PERCPU_STRIDE);
}

void weir_percpu_slots_init(struct weir_percpu_slot *slots)
{
    for (unsigned cpu = 0; cpu < chosen.nr_cpus; cpu++)
        *slot_of(slots, cpu) = (struct weir_percpu_slot){&weir_percpu_none, &weir_percpu_none, 0};
}

/* Acquire: pairs with the release in unlock(). */
static bool try_lock(struct weir_percpu_slot *slot)
{
    return weir_xchg_acquire(&slot->busy, 1u) == 0;
}

/* The current CPU's slot, locked; NULL if somebody else holds it. */
static struct weir_percpu_slot *try_lock_mine(struct weir_percpu_slot *slots)
{
    struct weir_percpu_slot *slot = slot_of(slots, weir_percpu_cpu());
    return try_lock(slot) ? slot : NULL;
}

static void unlock(struct weir_percpu_slot *slot)
{
    weir_store_release(&slot->busy, 0u); /* pairs with try_lock()'s acquire */
}

void *weir__percpu_get_locked(struct weir_percpu_slot *slots)
{
    struct weir_percpu_slot *slot = use_rseq() ? NULL : try_lock_mine(slots);
    if (slot == NULL)
        return NULL;
    void *object = weir_magazine_get(slot->locked);
    unlock(slot);
    return object;
}

bool weir__percpu_put_locked(struct weir_percpu_slot *slots, void *object)
{
    struct weir_percpu_slot *slot = use_rseq() ? NULL : try_lock_mine(slots);
    if (slot == NULL)
        return false;
    bool done = weir_magazine_put(slot->locked, object);
    unlock(slot);
    return done;
}

/* Where the portable code copies: the last n of the magazine's objects, in the order they lie there. */
static size_t get_n_locked(struct weir_percpu_slot *slots, size_t n, void *objects[])
{
    struct weir_percpu_slot *slot = try_lock_mine(slots);
    if (slot == NULL)
        return 0;
    struct weir_magazine *magazine = slot->locked;
    if (n > magazine->count)
        n = magazine->count;
    if (n != 0) { /* weir_percpu_none is never written */
        magazine->count -= (uint32_t)n;
        memcpy(objects, weir_magazine_objects(magazine) + magazine->count, n * sizeof objects[0]);
    }
    unlock(slot);
    return n;
}

static size_t put_n_locked(struct weir_percpu_slot *slots, size_t n, void *const objects[])
{
    struct weir_percpu_slot *slot = try_lock_mine(slots);
    if (slot == NULL)
        return 0;
    struct weir_magazine *magazine = slot->locked;
    size_t room = magazine->capacity - magazine->count, put = n < room ? n : room;
    if (put != 0) {
        memcpy(weir_magazine_objects(magazine) + magazine->count, objects + (n - put),
               put * sizeof objects[0]);
        magazine->count += (uint32_t)put;
    }
    unlock(slot);
    return put;
}

static bool exchange_locked(struct weir_percpu_slot *slots, struct weir_magazine *magazine,
                            struct weir_magazine **old)
{
    struct weir_percpu_slot *slot = try_lock_mine(slots);
    if (slot == NULL)
        return false;
    *old = slot->locked;
    slot->locked = magazine;
    unlock(slot);
    return true;
}

#if WEIR__RSEQ

/*
 * Copies `n` pointers from `from` to `to`, two at a time and the odd one last. Needs operands [from], [to],
 * [n], and [at], a scratch register; clobbers %xmm0.
 */
#define COPY                                                                                                 \
    "xorl %k[at], %k[at]\n"                                                                                  \
    "6:\n\t"                                                                                                 \
    "addq $2, %[at]\n\t"                                                                                     \
    "cmpq %[n], %[at]\n\t"                                                                                   \
    "ja 7f\n\t"                                                                                              \
    "movups -16(%[from], %[at], 8), %%xmm0\n\t"                                                              \
    "movups %%xmm0, -16(%[to], %[at], 8)\n\t"                                                                \
    "jmp 6b\n"                                                                                               \
    "7:\n\t"                                                                                                 \
    "subq $2, %[at]\n\t"                                                                                     \
    "cmpq %[n], %[at]\n\t"                                                                                   \
    "jae 8f\n\t"                                                                                             \
    "movq (%[from], %[at], 8), %%xmm0\n\t"                                                                   \
    "movq %%xmm0, (%[to], %[at], 8)\n"                                                                       \
    "8:\n\t"

static size_t get_n_rseq(struct weir_percpu_slot *slots, size_t wanted, void *objects[])
{
    uint64_t magazine, left, from, at, n;
    __asm__ __volatile__ goto(
        WEIR__RSEQ_BEGIN("%[magazine]") WEIR__RSEQ_MAGAZINE /* */
        "movl %c[count_at](%[magazine]), %k[left]\n\t"
        "movq %[wanted], %[n]\n\t"
        "cmpq %[left], %[n]\n\t"
        "cmovaq %[left], %[n]\n\t"
        "testq %[n], %[n]\n\t"
        "jz %l[none]\n\t" /* weir_percpu_none is never written */
        "subq %[n], %[left]\n\t"
        "leaq %c[objects_at](%[magazine], %[left], 8), %[from]\n\t" COPY
        "movl %k[left], %c[count_at](%[magazine])\n" /* commit */
        WEIR__RSEQ_END
        : [magazine] "=&r"(magazine), [left] "=&r"(left), [from] "=&r"(from), [at] "=&r"(at), [n] "=&r"(n)
        : WEIR__RSEQ_OPERANDS(slots), [wanted] "r"(wanted), [to] "r"(objects)
        : "memory", "cc", "xmm0"
        : none);
    __asm__ __volatile__("");
    return n;
none:
    return 0;
}

static size_t put_n_rseq(struct weir_percpu_slot *slots, size_t offered, void *const objects[])
{
    uint64_t magazine, count, from, to, at, n;
    __asm__ __volatile__ goto(WEIR__RSEQ_BEGIN("%[magazine]") WEIR__RSEQ_MAGAZINE /* */
                              "movl %c[count_at](%[magazine]), %k[count]\n\t"
                              "movl %c[capacity_at](%[magazine]), %k[n]\n\t"
                              "subq %[count], %[n]\n\t"
                              "cmpq %[offered], %[n]\n\t"
                              "cmovaq %[offered], %[n]\n\t"
                              "testq %[n], %[n]\n\t"
                              "jz %l[none]\n\t" /* weir_percpu_none is never written */
                              "movq %[offered], %[from]\n\t"
                              "subq %[n], %[from]\n\t"
                              "leaq (%[objects], %[from], 8), %[from]\n\t"
                              "leaq %c[objects_at](%[magazine], %[count], 8), %[to]\n\t" COPY
                              "addl %k[n], %k[count]\n\t"
                              "movl %k[count], %c[count_at](%[magazine])\n" /* commit */
                              WEIR__RSEQ_END
                              : [magazine] "=&r"(magazine), [count] "=&r"(count), [from] "=&r"(from),
                                [to] "=&r"(to), [at] "=&r"(at), [n] "=&r"(n)
                              : WEIR__RSEQ_OPERANDS(slots), [offered] "r"(offered), [objects] "r"(objects)
                              : "memory", "cc", "xmm0"
                              : none);
    __asm__ __volatile__("");
    return n;
none:
    return 0;
}

/* The commit is an exchange, not a store: a detach on another CPU may hit the same slot at the same time, and
 * only one of them must get what is in it. */
static bool exchange_rseq(struct weir_percpu_slot *slots, struct weir_magazine *magazine,
                          struct weir_magazine **old)
{
    uint64_t slot;
    struct weir_magazine *taken;
    __asm__ __volatile__ goto(
        WEIR__RSEQ_BEGIN("%[slot]") "movl %%fs:" WEIR__RSEQ_CPU "(%[rseq]), %k[slot]\n\t"
                                    "cmpl %[nr_cpus], %k[slot]\n\t" /* unsigned: also -1 and -2 */
                                    "jae %l[none]\n\t"
                                    "shlq $7, %[slot]\n\t"
                                    "movq %[magazine], %[taken]\n\t"
                                    "xchgq %[taken], (%[slots], %[slot])\n" /* commit */
        WEIR__RSEQ_END
        : [slot] "=&r"(slot), [taken] "=&r"(taken)
        : WEIR__RSEQ_OPERANDS(slots), [magazine] "r"(magazine), [nr_cpus] "m"(chosen.nr_cpus)
        : "memory", "cc"
        : none);
    __asm__ __volatile__("");
    *old = taken;
    return true;
none:
    return false;
}

#else

#define get_n_rseq get_n_locked
#define put_n_rseq put_n_locked
#define exchange_rseq exchange_locked

#endif

size_t weir_percpu_get_n(struct weir_percpu_slot *slots, size_t n, void *objects[])
{
    return use_rseq() ? get_n_rseq(slots, n, objects) : get_n_locked(slots, n, objects);
}

size_t weir_percpu_put_n(struct weir_percpu_slot *slots, size_t n, void *const objects[])
{
    return use_rseq() ? put_n_rseq(slots, n, objects) : put_n_locked(slots, n, objects);
}

bool weir_percpu_exchange(struct weir_percpu_slot *slots, struct weir_magazine *magazine,
                          struct weir_magazine **old)
{
    return use_rseq() ? exchange_rseq(slots, magazine, old) : exchange_locked(slots, magazine, old);
}

struct weir_magazine *weir_percpu_detach(struct weir_percpu_slot *slots, unsigned cpu)
{
    struct weir_percpu_slot *slot = slot_of(slots, cpu);
    if (use_rseq())
        /* Acquire: pairs with the exchange that put the magazine there. */
        return weir_xchg_acq_rel(&slot->magazine, &weir_percpu_none);
    if (!try_lock(slot))
        return NULL;
    struct weir_magazine *magazine = slot->locked;
    slot->locked = &weir_percpu_none;
    unlock(slot);
    return magazine;
}

size_t weir_percpu_count(struct weir_percpu_slot *slots, unsigned cpu)
{
    struct weir_percpu_slot *slot = slot_of(slots, cpu);
    if (use_rseq())
        /* Relaxed, though the magazine may be somebody else's by now: a number that once was true. */
        return weir_load_relaxed(&weir_load_acquire(&slot->magazine)->count);
    if (!try_lock(slot))
        return 0;
    size_t count = slot->locked->count;
    unlock(slot);
    return count;
}

/* Going on without it could hand an object out twice. So: short of memory, try again; not allowed any more (a
 * filter of system calls set up after weir_percpu_init()), stop. */
static void settle(unsigned flags, unsigned cpu)
{
    while (use_rseq() && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, flags, cpu) != 0) {
        if (errno != ENOMEM) {
            fprintf(stderr, "weir: membarrier worked once and does not any more: %s\n", strerror(errno));
            abort();
        }
        sched_yield();
    }
}

void weir_percpu_settle(void)
{
    settle(0, 0);
}

void weir_percpu_settle_cpu(unsigned cpu)
{
    settle(MEMBARRIER_CMD_FLAG_CPU, cpu);
}
