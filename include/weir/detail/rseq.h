/* SPDX-License-Identifier: MIT */
/*
 * weir/detail/rseq.h - private: the restartable sequences behind weir/percpu.h, for x86-64.
 *
 * How one works. The thread's struct rseq (registered with the kernel by the C library) lies at a fixed
 * offset, __rseq_offset, from the thread pointer, which is %fs:0 here. A sequence first stores the address of
 * a descriptor {start, length, abort handler} there. From then on, whenever the kernel takes the thread off
 * its CPU or delivers a signal while the program counter is within [start, start + length), it continues at
 * the abort handler, and that jumps back to the beginning. So the instructions of the sequence see one CPU,
 * with nobody else on it, until the last one, the commit, has taken effect. Leaving by a jump before the
 * commit is fine: nothing has happened yet, and the kernel drops a descriptor the program counter is not in.
 *
 * What is in the sections: descriptors in __rseq_cs, for debuggers that step over sequences; abort handlers
 * in __rseq_failure, behind the signature the kernel checks before it jumps there. "?" puts both into the
 * group of the function they are inlined into, so that C++ inline functions can be discarded as a whole.
 */
#ifndef WEIR_DETAIL_RSEQ_H
#define WEIR_DETAIL_RSEQ_H

#include "weir/magazine.h"

struct weir_percpu_slot; /* begins with its struct weir_magazine * */

/*
 * No mode is tested on the way, nor whether the CPU number is good: where sequences must not be used, they
 * run into weir_percpu_none. A thread without rseq has CPU number -1 or -2 and finds one of the two guards in
 * front of CPU 0's slot; in WEIR_PERCPU_LOCK every slot's `magazine` stays weir_percpu_none.
 */
#if defined(__x86_64__) && defined(__LP64__) && defined(__GLIBC__) && !WEIR_TSAN
#if __GLIBC_PREREQ(2, 35)
#include <sys/rseq.h>
#define WEIR__RSEQ 1
#endif
#endif
#ifndef WEIR__RSEQ
#define WEIR__RSEQ 0
#endif

#if WEIR__RSEQ

/* Offsets in the kernel's struct rseq (linux/rseq.h), and x86's signature. */
#define WEIR__RSEQ_CPU "4"
#define WEIR__RSEQ_CS "8"
#define WEIR__RSEQ_SIGNATURE "0x53053053"

/*
 * Opens a sequence: defines its descriptor (label 3), arms it by way of `scratch`, and starts it (label 1).
 * Label 0 is where it starts again. Needs an operand [rseq], the offset of struct rseq.
 */
#define WEIR__RSEQ_BEGIN(scratch)                                                                            \
    ".pushsection __rseq_cs, \"aw?\"\n\t"                                                                    \
    ".balign 32\n"                                                                                           \
    "3:\n\t"                                                                                                 \
    ".long 0, 0\n\t"                                                                                         \
    ".quad 1f, 2f - 1f, 4f\n\t"                                                                              \
    ".popsection\n"                                                                                          \
    "0:\n\t"                                                                                                 \
    "leaq 3b(%%rip), " scratch "\n\t"                                                                        \
    "movq " scratch ", %%fs:" WEIR__RSEQ_CS "(%[rseq])\n"                                                    \
    "1:\n\t"

/* Closes it: the instruction before is the commit (label 2 follows it). */
#define WEIR__RSEQ_END                                                                                       \
    "2:\n\t"                                                                                                 \
    ".pushsection __rseq_failure, \"ax?\"\n\t"                                                               \
    ".byte 0x0f, 0xb9, 0x3d\n\t" /* ud1 signature(%rip), %edi: never executed, keeps disassembly readable */ \
    ".long " WEIR__RSEQ_SIGNATURE "\n"                                                                       \
    "4:\n\t"                                                                                                 \
    "jmp 0b\n\t"                                                                                             \
    ".popsection\n\t"

/* Loads this CPU's magazine into the register `magazine`. */
#define WEIR__RSEQ_MAGAZINE                                                                                  \
    "movslq %%fs:" WEIR__RSEQ_CPU "(%[rseq]), %[magazine]\n\t"                                               \
    "shlq $7, %[magazine]\n\t" /* WEIR_PERCPU_STRIDE */                                                      \
    "movq (%[slots], %[magazine]), %[magazine]\n\t"

/* Operands every sequence has. */
#define WEIR__RSEQ_OPERANDS(slots_)                                                                          \
    [rseq] "r"(__rseq_offset), [slots] "r"(slots_), [count_at] "i"(offsetof(struct weir_magazine, count)),   \
        [capacity_at] "i"(offsetof(struct weir_magazine, capacity)),                                         \
        [objects_at] "i"(sizeof(struct weir_magazine))

/* Takes an object; false: there is none, or the mode is WEIR_PERCPU_LOCK. */
static inline bool weir__percpu_get_fast(struct weir_percpu_slot *slots, void **object)
{
    void *taken;
    uint64_t magazine, count;
    __asm__ __volatile__ goto(WEIR__RSEQ_BEGIN("%[magazine]") WEIR__RSEQ_MAGAZINE /* */
                              "movl %c[count_at](%[magazine]), %k[count]\n\t"
                              "subl $1, %k[count]\n\t"
                              "jc %l[none]\n\t"
                              "movq %c[objects_at](%[magazine], %[count], 8), %[taken]\n\t"
                              "movl %k[count], %c[count_at](%[magazine])\n" /* commit */
                              WEIR__RSEQ_END
                              : [taken] "=&r"(taken), [magazine] "=&r"(magazine), [count] "=&r"(count)
                              : WEIR__RSEQ_OPERANDS(slots)
                              : "memory", "cc"
                              : none);
    __asm__ __volatile__(""); /* gcc bug 113921: outputs of asm goto lost without something after it */
    *object = taken;
    return true;
none:
    return false;
}

/* Puts an object in; false: it is full, or the mode is WEIR_PERCPU_LOCK. */
static inline bool weir__percpu_put_fast(struct weir_percpu_slot *slots, void *object)
{
    uint64_t magazine, count;
    __asm__ __volatile__ goto(
        WEIR__RSEQ_BEGIN("%[magazine]") WEIR__RSEQ_MAGAZINE /* */
        "movl %c[count_at](%[magazine]), %k[count]\n\t"
        "cmpl %c[capacity_at](%[magazine]), %k[count]\n\t"
        "jae %l[full]\n\t"
        "movq %[object], %c[objects_at](%[magazine], %[count], 8)\n\t" /* above count: */
        "addl $1, %k[count]\n\t"                                       /* nobody's until the commit */
        "movl %k[count], %c[count_at](%[magazine])\n"                  /* commit */
        WEIR__RSEQ_END
        : [magazine] "=&r"(magazine), [count] "=&r"(count)
        : WEIR__RSEQ_OPERANDS(slots), [object] "r"(object)
        : "memory", "cc"
        : full);
    __asm__ __volatile__("");
    return true;
full:
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
