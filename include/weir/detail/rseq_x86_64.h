/* SPDX-License-Identifier: MIT */
/*
 * weir/detail/rseq_x86_64.h - private: the instructions of the sequences of weir/detail/rseq.h for x86-64.
 *
 * The thread pointer is %fs:0, and the thread's own memory is addressed by %fs: struct rseq is at %fs:(rseq).
 * The names in brackets are the operands of the functions in weir/detail/rseq.h and src/percpu.c.
 */
#ifndef WEIR_DETAIL_RSEQ_X86_64_H
#define WEIR_DETAIL_RSEQ_X86_64_H

#include <stdint.h>

#define WEIR__RSEQ_SIGNATURE 0x53053053

/* In front of an abort handler: ud1 signature(%rip), %edi. Never executed, keeps disassembly readable. */
#define WEIR__RSEQ_MARK ".byte 0x0f, 0xb9, 0x3d\n\t.long 0x53053053\n"
#define WEIR__RSEQ_LOAD "movq (%[variable]), %[at]"
#define WEIR__RSEQ_JUMP "jmp "

/* Arms the descriptor at label 3; `b` is not needed here. */
#define WEIR__RSEQ_ARM(a, b)                                                                                 \
    "leaq 3b(%%rip), %[" a "]\n\t"                                                                           \
    "movq %[" a "], %%fs:8(%[rseq])\n"

/* This CPU's magazine. */
#define WEIR__RSEQ_MAGAZINE                                                                                  \
    "movslq %%fs:4(%[rseq]), %[magazine]\n\t"                                                                \
    "shlq $7, %[magazine]\n\t" /* WEIR_PERCPU_STRIDE */                                                      \
    "movq (%[slots], %[magazine]), %[magazine]\n\t"

#define WEIR__RSEQ_GET                                                                                       \
    WEIR__RSEQ_MAGAZINE                                                                                      \
    "movl %c[count_at](%[magazine]), %k[count]\n\t"                                                          \
    "subl $1, %k[count]\n\t"                                                                                 \
    "jc %l[none]\n\t"                                                                                        \
    "movq %c[objects_at](%[magazine], %[count], 8), %[taken]\n\t"                                            \
    "movl %k[count], %k[later]\n\t"                                                                          \
    "subl $4, %k[later]\n\t" /* if there are so many: */                                                     \
    "cmovbl %k[count], %k[later]\n\t"                                                                        \
    "movq %c[objects_at](%[magazine], %[later], 8), %[later]\n\t"                                            \
    "movl %k[count], %c[count_at](%[magazine])\n" /* commit */

#define WEIR__RSEQ_PUT                                                                                       \
    WEIR__RSEQ_MAGAZINE                                                                                      \
    "movl %c[count_at](%[magazine]), %k[count]\n\t"                                                          \
    "cmpl %c[capacity_at](%[magazine]), %k[count]\n\t"                                                       \
    "jae %l[none]\n\t"                                                                                       \
    "movq %[object], %c[objects_at](%[magazine], %[count], 8)\n\t" /* above count: */                        \
    "addl $1, %k[count]\n\t"                                       /* nobody's until the commit */           \
    "movl %k[count], %c[count_at](%[magazine])\n"                  /* commit */

/* A register that WEIR__RSEQ_PUT needs besides magazine and count: none. */
#define WEIR__RSEQ_PUT_SCRATCH(at)

/*
 * Copies `n` pointers from `from` to `to`: eight at a time, then four, two and one. Moves both. Where the
 * processor has AVX (`wide` is not zero) the eight are two registers of 32 bytes, which are cleared behind in
 * case that what follows does not know AVX.
 */
#define WEIR__RSEQ_COPY                                                                                      \
    "movq %[n], %[at]\n\t"                                                                                   \
    "subq $8, %[at]\n\t"                                                                                     \
    "jb 7f\n\t"                                                                                              \
    "testl %k[wide], %k[wide]\n\t"                                                                           \
    "jz 6f\n"                                                                                                \
    "10:\n\t"                                                                                                \
    "vmovups (%[from]), %%ymm0\n\t"                                                                          \
    "vmovups 32(%[from]), %%ymm1\n\t"                                                                        \
    "vmovups %%ymm0, (%[to])\n\t"                                                                            \
    "vmovups %%ymm1, 32(%[to])\n\t"                                                                          \
    "addq $64, %[from]\n\t"                                                                                  \
    "addq $64, %[to]\n\t"                                                                                    \
    "subq $8, %[at]\n\t"                                                                                     \
    "jae 10b\n\t"                                                                                            \
    "vzeroupper\n\t"                                                                                         \
    "jmp 7f\n"                                                                                               \
    "6:\n\t"                                                                                                 \
    "movups (%[from]), %%xmm0\n\t"                                                                           \
    "movups 16(%[from]), %%xmm1\n\t"                                                                         \
    "movups 32(%[from]), %%xmm2\n\t"                                                                         \
    "movups 48(%[from]), %%xmm3\n\t"                                                                         \
    "movups %%xmm0, (%[to])\n\t"                                                                             \
    "movups %%xmm1, 16(%[to])\n\t"                                                                           \
    "movups %%xmm2, 32(%[to])\n\t"                                                                           \
    "movups %%xmm3, 48(%[to])\n\t"                                                                           \
    "addq $64, %[from]\n\t"                                                                                  \
    "addq $64, %[to]\n\t"                                                                                    \
    "subq $8, %[at]\n\t"                                                                                     \
    "jae 6b\n"                                                                                               \
    "7:\n\t"                                                                                                 \
    "testb $4, %b[n]\n\t"                                                                                    \
    "jz 8f\n\t"                                                                                              \
    "movups (%[from]), %%xmm0\n\t"                                                                           \
    "movups 16(%[from]), %%xmm1\n\t"                                                                         \
    "movups %%xmm0, (%[to])\n\t"                                                                             \
    "movups %%xmm1, 16(%[to])\n\t"                                                                           \
    "addq $32, %[from]\n\t"                                                                                  \
    "addq $32, %[to]\n"                                                                                      \
    "8:\n\t"                                                                                                 \
    "testb $2, %b[n]\n\t"                                                                                    \
    "jz 9f\n\t"                                                                                              \
    "movups (%[from]), %%xmm0\n\t"                                                                           \
    "movups %%xmm0, (%[to])\n\t"                                                                             \
    "addq $16, %[from]\n\t"                                                                                  \
    "addq $16, %[to]\n"                                                                                      \
    "9:\n\t"                                                                                                 \
    "testb $1, %b[n]\n\t"                                                                                    \
    "jz 5f\n\t"                                                                                              \
    "movq (%[from]), %%xmm0\n\t"                                                                             \
    "movq %%xmm0, (%[to])\n"                                                                                 \
    "5:\n\t"

#ifdef __AVX__ /* then the compiler may have something in the upper halves of all of them */
#define WEIR__RSEQ_COPY_CLOBBERS                                                                             \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",        \
        "xmm12", "xmm13", "xmm14", "xmm15"
#else
#define WEIR__RSEQ_COPY_CLOBBERS "xmm0", "xmm1", "xmm2", "xmm3"
#endif

#define WEIR__RSEQ_GET_N                                                                                     \
    WEIR__RSEQ_MAGAZINE                                                                                      \
    "movl %c[count_at](%[magazine]), %k[count]\n\t"                                                          \
    "movq %[most], %[n]\n\t"                                                                                 \
    "cmpq %[count], %[n]\n\t"                                                                                \
    "cmovaq %[count], %[n]\n\t"                                                                              \
    "testq %[n], %[n]\n\t"                                                                                   \
    "jz %l[none]\n\t" /* weir_percpu_none is never written */                                                \
    "subq %[n], %[count]\n\t"                                                                                \
    "leaq %c[objects_at](%[magazine], %[count], 8), %[from]\n\t"                                             \
    "movq %[objects], %[to]\n\t" WEIR__RSEQ_COPY "movl %k[count], %c[count_at](%[magazine])\n" /* commit */

#define WEIR__RSEQ_PUT_N                                                                                     \
    WEIR__RSEQ_MAGAZINE                                                                                      \
    "movl %c[count_at](%[magazine]), %k[count]\n\t"                                                          \
    "movl %c[capacity_at](%[magazine]), %k[n]\n\t"                                                           \
    "subq %[count], %[n]\n\t"                                                                                \
    "cmpq %[most], %[n]\n\t"                                                                                 \
    "cmovaq %[most], %[n]\n\t"                                                                               \
    "testq %[n], %[n]\n\t"                                                                                   \
    "jz %l[none]\n\t" /* weir_percpu_none is never written */                                                \
    "movq %[most], %[from]\n\t"                                                                              \
    "subq %[n], %[from]\n\t"                                                                                 \
    "leaq (%[objects], %[from], 8), %[from]\n\t"                                                             \
    "leaq %c[objects_at](%[magazine], %[count], 8), %[to]\n\t" WEIR__RSEQ_COPY "addl %k[n], %k[count]\n\t"   \
    "movl %k[count], %c[count_at](%[magazine])\n" /* commit */

/* Puts one in, and sets the capacity to `by` more than there were before, but `most` at most. */
#define WEIR__RSEQ_PUT_MORE                                                                                  \
    WEIR__RSEQ_MAGAZINE                                                                                      \
    "movl %c[count_at](%[magazine]), %k[count]\n\t"                                                          \
    "cmpl $0, %c[capacity_at](%[magazine])\n\t"                                                              \
    "je %l[none]\n\t" /* weir_percpu_none is never written */                                                \
    "leaq (%[count], %[by]), %[at]\n\t"                                                                      \
    "cmpq %[most], %[at]\n\t"                                                                                \
    "cmovaq %[most], %[at]\n\t"                                                                              \
    "cmpq %[at], %[count]\n\t"                                                                               \
    "jae %l[none]\n\t"                                                                                       \
    "leaq (%[magazine], %[count], 8), %[to]\n\t"                                                             \
    "movq %[object], %c[objects_at](%[to])\n\t"                                                              \
    "movl %k[at], %c[capacity_at](%[magazine])\n\t"                                                          \
    "addl $1, %k[count]\n\t"                                                                                 \
    "movl %k[count], %c[count_at](%[magazine])\n" /* commit */

/* The commit acquires and releases: x86's exchange with memory is a full barrier. */
#define WEIR__RSEQ_EXCHANGE                                                                                  \
    "movl %%fs:4(%[rseq]), %k[slot]\n\t"                                                                     \
    "cmpl %k[nr_cpus], %k[slot]\n\t" /* unsigned: also -1 and -2 */                                          \
    "jae %l[none]\n\t"                                                                                       \
    "shlq $7, %[slot]\n\t"                                                                                   \
    "movq %[magazine], %[taken]\n\t"                                                                         \
    "xchgq %[taken], (%[slots], %[slot])\n" /* commit */

/* After its end: nothing. Register it needs: none. */
#define WEIR__RSEQ_EXCHANGE_AFTER
#define WEIR__RSEQ_EXCHANGE_SCRATCH(failed)

/* Adds one to this CPU's word if *state is zero. */
#define WEIR__RSEQ_TICK                                                                                      \
    "cmpl $0, (%[state])\n\t"                                                                                \
    "jne %l[none]\n\t"                                                                                       \
    "movl %%fs:4(%[rseq]), %k[slot]\n\t"                                                                     \
    "cmpl %k[nr_cpus], %k[slot]\n\t" /* unsigned: also -1 and -2 */                                          \
    "jae %l[none]\n\t"                                                                                       \
    "shlq $7, %[slot]\n\t"                                                                                   \
    "addq $1, (%[slots], %[slot])\n" /* commit */

/* Says that it is in the sequence, and stays there until told to leave. */
#define WEIR__RSEQ_SIT                                                                                       \
    "movl $1, (%[inside])\n"                                                                                 \
    "5:\n\t"                                                                                                 \
    "pause\n\t"                                                                                              \
    "cmpl $0, (%[leave])\n\t"                                                                                \
    "je 5b\n"

static inline char *weir__thread_pointer(void)
{
    char *pointer;
    __asm__ __volatile__("movq %%fs:0, %[pointer]" : [pointer] "=r"(pointer));
    return pointer;
}

#endif /* WEIR_DETAIL_RSEQ_X86_64_H */
