/* SPDX-License-Identifier: MIT */
/*
 * weir/detail/rseq.h - private: the restartable sequences behind weir/percpu.h.
 *
 * How one works. The thread's struct rseq, which the kernel knows, lies at a fixed offset,
 * weir__rseq_area, from the thread pointer. A sequence first stores the address of a descriptor {start,
 * length, abort handler} there. From then on, whenever the kernel takes the thread off its CPU or delivers a
 * signal while the program counter is within [start, start + length), it continues at the abort handler, and
 * that jumps back to the beginning. So the instructions of the sequence see one CPU, with nobody else on it,
 * until the last one, the commit, has taken effect. Leaving by a jump before the commit is fine: nothing has
 * happened yet, and the kernel drops a descriptor the program counter is not in.
 *
 * What is in the sections: descriptors in __rseq_cs, for debuggers that step over sequences; abort handlers
 * in __rseq_failure, behind the signature the kernel checks before it jumps there. "?" puts both into the
 * group of the function they are inlined into, so that C++ inline functions can be discarded as a whole.
 *
 * The functions are here, once; their instructions are in weir/detail/rseq_x86_64.h and rseq_aarch64.h.
 */
#ifndef WEIR_DETAIL_RSEQ_H
#define WEIR_DETAIL_RSEQ_H

#include "weir/detail/api.h"
#include "weir/magazine.h"

struct weir_percpu_slot; /* begins with its struct weir_magazine * */

/* Is there assembly for this machine? Not under ThreadSanitizer, which cannot see into it. */
#if defined(__linux__) && defined(__LP64__) && !WEIR_TSAN
#if defined(__x86_64__)
#include "weir/detail/rseq_x86_64.h"
#define WEIR__RSEQ 1
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#include "weir/detail/rseq_aarch64.h"
#define WEIR__RSEQ 1
#endif
#endif
#ifndef WEIR__RSEQ
#define WEIR__RSEQ 0
#endif

#if WEIR__RSEQ

/*
 * From the thread pointer to struct rseq: the C library's, or weir's own. Written once, by
 * weir_percpu_init(), before there is a slot.
 *
 * No mode is tested on the way, nor whether the CPU number is good: where sequences must not be used, they
 * run into weir_percpu_none. A thread that the kernel does not know has CPU number -1 or -2 and finds one of
 * the two guards in front of CPU 0's slot; in WEIR_PERCPU_LOCK no thread is known at the offset, and every
 * slot's `magazine` stays weir_percpu_none, too.
 */
WEIR_BEGIN_C_NAMES
/* Not at the beginning of a line, and so never of a page: see WEIR__PATHS_OFFSET in detail/api.h. */
struct weir__rseq_area {
    ptrdiff_t unused, offset;
} WEIR_ALIGNED(64);
WEIR_API extern struct weir__rseq_area weir__rseq_area;
WEIR_END_C_NAMES

/*
 * A sequence of the instructions `body`, the last of which is the commit. Label 3 is its descriptor, 0 where
 * it starts again, 1 and 2 its start and end, 4 its abort handler, which goes on at `aborted`. `a` and `b`
 * name two operands, outputs, to arm it with. Needs the operands of WEIR__RSEQ_OPERANDS().
 */
#define WEIR__SEQUENCE(a, b, body, aborted)                                                                  \
    ".pushsection __rseq_cs, \"aw?\"\n\t"                                                                    \
    ".balign 32\n"                                                                                           \
    "3:\n\t"                                                                                                 \
    ".long 0, 0\n\t"                                                                                         \
    ".quad 1f, 2f - 1f, 4f\n\t"                                                                              \
    ".popsection\n"                                                                                          \
    "0:\n\t" WEIR__RSEQ_ARM(a, b) /* */                                                                      \
        "1:\n\t" body "2:\n\t"                                                                               \
        ".pushsection __rseq_failure, \"ax?\"\n\t" WEIR__RSEQ_MARK "4:\n\t" WEIR__RSEQ_JUMP aborted "\n\t"   \
        ".popsection\n\t"

/*
 * The offset, which does not change any more once there are slots. Says so to the compiler: what it loads
 * depends on `slots` alone, so one load may do for many sequences, but is not moved in front of where the
 * slots come from. (A plain variable would be loaded again after each sequence: 0.2 ns of 0.65.)
 */
static inline ptrdiff_t weir__rseq_at(struct weir_percpu_slot *slots)
{
    ptrdiff_t at;
    __asm__(WEIR__RSEQ_LOAD : [at] "=r"(at) : [variable] "r"(&weir__rseq_area.offset), "r"(slots));
    return at;
}

/* Operands every sequence has. */
#define WEIR__RSEQ_OPERANDS(slots_)                                                                          \
    [rseq] "r"(weir__rseq_at(slots_)), [slots] "r"(slots_),                                                  \
        [count_at] "i"(offsetof(struct weir_magazine, count)),                                               \
        [capacity_at] "i"(offsetof(struct weir_magazine, capacity)),                                         \
        [objects_at] "i"(sizeof(struct weir_magazine))

/*
 * Takes an object, and has the first bytes of the one that is due four later fetched into the cache: whoever
 * gets it writes to them. (The kernel's allocators do that for the next one. Memory takes longer, and more
 * than a few lines that lie at the same place of different pages do not stay in a cache.) False: there is
 * none, or the mode is WEIR_PERCPU_LOCK.
 */
static inline bool weir__percpu_get_fast(struct weir_percpu_slot *slots, void **object)
{
    void *taken, *later;
    uint64_t magazine, count;
    __asm__ __volatile__ goto(
        WEIR__SEQUENCE("magazine", "count", WEIR__RSEQ_GET, "0b")
        : [taken] "=&r"(taken), [later] "=&r"(later), [magazine] "=&r"(magazine), [count] "=&r"(count)
        : WEIR__RSEQ_OPERANDS(slots)
        : "memory", "cc"
        : none);
    __asm__ __volatile__(""); /* gcc bug 113921: outputs of asm goto lost without something after it */
    *object = taken;
    __builtin_prefetch(later, 1);
    return true;
none:
    return false;
}

/* Puts an object in; false: it is full, or the mode is WEIR_PERCPU_LOCK. */
static inline bool weir__percpu_put_fast(struct weir_percpu_slot *slots, void *object)
{
    uint64_t magazine, count, at;
    __asm__ __volatile__ goto(WEIR__SEQUENCE("magazine", "count", WEIR__RSEQ_PUT, "0b")
                              : [magazine] "=&r"(magazine), [count] "=&r"(count)WEIR__RSEQ_PUT_SCRATCH(at)
                              : WEIR__RSEQ_OPERANDS(slots), [object] "r"(object)
                              : "memory", "cc"
                              : none);
    __asm__ __volatile__("");
    (void)at;
    return true;
none:
    return false;
}

#else

static inline bool weir__percpu_get_fast(struct weir_percpu_slot *slots, void **object)
{
    (void)slots;
    (void)object;
    return false;
}

static inline bool weir__percpu_put_fast(struct weir_percpu_slot *slots, void *object)
{
    (void)slots;
    (void)object;
    return false;
}

#endif /* WEIR__RSEQ */

#endif /* WEIR_DETAIL_RSEQ_H */
