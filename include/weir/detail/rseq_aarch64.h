/* SPDX-License-Identifier: MIT */
/*
 * weir/detail/rseq_aarch64.h - private: the instructions of the sequences of weir/detail/rseq.h for aarch64.
 *
 * The thread pointer is in tpidr_el0; struct rseq is at [rseq] from there. The names in brackets are the
 * operands of the functions in weir/detail/rseq.h and src/percpu.c.
 *
 * This machine reorders loads and stores; why there is no barrier in what follows:
 *
 *   - Threads on the same CPU see each other's stores in program order, as a CPU sees its own; a thread that
 *     is moved to another CPU takes what it has seen along, because the kernel's switch is a full barrier.
 *   - The load of the slot is a plain one, though another CPU may have put the magazine there (fork(), by a
 *     store that releases). All that follows from it uses the loaded pointer as an address, and an address
 *     dependency orders it as an acquire would.
 *   - Who detaches a magazine from another CPU reads its count and pointers only after membarrier(), which
 *     makes that CPU pass a full barrier: each commit before it is visible, and there is none after it.
 *   - Only the exchange meets other CPUs at the same word, at the same time: it acquires and releases.
 *   - Who closes the gate (src/fork.c) reads counts without having restarted anybody: those are released.
 */
#ifndef WEIR_DETAIL_RSEQ_AARCH64_H
#define WEIR_DETAIL_RSEQ_AARCH64_H

#include <stdint.h>

#define WEIR__RSEQ_SIGNATURE 0xd428bc00

/* In front of an abort handler: brk #0x45e0, never executed. */
#define WEIR__RSEQ_MARK ".inst 0xd428bc00\n"
#define WEIR__RSEQ_LOAD "ldr %[at], [%[variable]]"
#define WEIR__RSEQ_JUMP "b "

/* Arms the descriptor at label 3; leaves the address of struct rseq in `a`. */
#define WEIR__RSEQ_ARM(a, b)                                                                                 \
    "mrs %[" a "], tpidr_el0\n\t"                                                                            \
    "add %[" a "], %[" a "], %[rseq]\n\t"                                                                    \
    "adrp %[" b "], 3b\n\t"                                                                                  \
    "add %[" b "], %[" b "], :lo12:3b\n\t"                                                                   \
    "str %[" b "], [%[" a "], #8]\n"

/* This CPU's magazine: `magazine` is the address of struct rseq before. */
#define WEIR__RSEQ_MAGAZINE                                                                                  \
    "ldr %w[count], [%[magazine], #4]\n\t"                                                                   \
    "sbfiz %[count], %[count], #7, #32\n\t" /* WEIR_PERCPU_STRIDE; -1 and -2 are signed */                   \
    "ldr %[magazine], [%[slots], %[count]]\n\t"

#define WEIR__RSEQ_GET                                                                                       \
    WEIR__RSEQ_MAGAZINE                                                                                      \
    "ldr %w[count], [%[magazine], #%c[count_at]]\n\t"                                                        \
    "subs %w[count], %w[count], #1\n\t"                                                                      \
    "b.lo %l[none]\n\t"                                                                                      \
    "add %[taken], %[magazine], %[count], lsl #3\n\t"                                                        \
    "ldr %[taken], [%[taken], #%c[objects_at]]\n\t"                                                          \
    "subs %w[later], %w[count], #4\n\t" /* if there are so many: */                                          \
    "csel %w[later], %w[count], %w[later], lo\n\t"                                                           \
    "add %[later], %[magazine], %[later], lsl #3\n\t"                                                        \
    "ldr %[later], [%[later], #%c[objects_at]]\n\t"                                                          \
    "str %w[count], [%[magazine], #%c[count_at]]\n" /* commit */

#define WEIR__RSEQ_PUT                                                                                       \
    WEIR__RSEQ_MAGAZINE                                                                                      \
    "ldr %w[count], [%[magazine], #%c[count_at]]\n\t"                                                        \
    "ldr %w[at], [%[magazine], #%c[capacity_at]]\n\t"                                                        \
    "cmp %w[count], %w[at]\n\t"                                                                              \
    "b.hs %l[none]\n\t"                                                                                      \
    "add %[at], %[magazine], %[count], lsl #3\n\t"                                                           \
    "str %[object], [%[at], #%c[objects_at]]\n\t"   /* above count: */                                       \
    "add %w[count], %w[count], #1\n\t"              /* nobody's until the commit */                          \
    "str %w[count], [%[magazine], #%c[count_at]]\n" /* commit */

/* A register that WEIR__RSEQ_PUT needs besides magazine and count. */
#define WEIR__RSEQ_PUT_SCRATCH(at) , [at] "=&r"(at)

/* Copies `n` pointers from `from` to `to`: eight at a time, then four, two and one. Moves both. */
#define WEIR__RSEQ_COPY                                                                                      \
    "subs %[at], %[n], #8\n\t"                                                                               \
    "b.lo 7f\n"                                                                                              \
    "6:\n\t"                                                                                                 \
    "ldp q0, q1, [%[from]], #32\n\t"                                                                         \
    "ldp q2, q3, [%[from]], #32\n\t"                                                                         \
    "stp q0, q1, [%[to]], #32\n\t"                                                                           \
    "stp q2, q3, [%[to]], #32\n\t"                                                                           \
    "subs %[at], %[at], #8\n\t"                                                                              \
    "b.hs 6b\n"                                                                                              \
    "7:\n\t"                                                                                                 \
    "tbz %[n], #2, 8f\n\t"                                                                                   \
    "ldp q0, q1, [%[from]], #32\n\t"                                                                         \
    "stp q0, q1, [%[to]], #32\n"                                                                             \
    "8:\n\t"                                                                                                 \
    "tbz %[n], #1, 9f\n\t"                                                                                   \
    "ldr q0, [%[from]], #16\n\t"                                                                             \
    "str q0, [%[to]], #16\n"                                                                                 \
    "9:\n\t"                                                                                                 \
    "tbz %[n], #0, 5f\n\t"                                                                                   \
    "ldr d0, [%[from]]\n\t"                                                                                  \
    "str d0, [%[to]]\n"                                                                                      \
    "5:\n\t"
#define WEIR__RSEQ_COPY_CLOBBERS "v0", "v1", "v2", "v3"

#define WEIR__RSEQ_GET_N                                                                                     \
    WEIR__RSEQ_MAGAZINE                                                                                      \
    "ldr %w[count], [%[magazine], #%c[count_at]]\n\t"                                                        \
    "cmp %[most], %[count]\n\t"                                                                              \
    "csel %[n], %[most], %[count], lo\n\t"                                                                   \
    "cbz %[n], %l[none]\n\t" /* weir_percpu_none is never written */                                         \
    "sub %[count], %[count], %[n]\n\t"                                                                       \
    "add %[from], %[magazine], %[count], lsl #3\n\t"                                                         \
    "add %[from], %[from], #%c[objects_at]\n\t"                                                              \
    "mov %[to], %[objects]\n\t" WEIR__RSEQ_COPY "str %w[count], [%[magazine], #%c[count_at]]\n" /* commit */

#define WEIR__RSEQ_PUT_N                                                                                     \
    WEIR__RSEQ_MAGAZINE                                                                                      \
    "ldr %w[count], [%[magazine], #%c[count_at]]\n\t"                                                        \
    "ldr %w[n], [%[magazine], #%c[capacity_at]]\n\t"                                                         \
    "sub %[n], %[n], %[count]\n\t"                                                                           \
    "cmp %[most], %[n]\n\t"                                                                                  \
    "csel %[n], %[most], %[n], lo\n\t"                                                                       \
    "cbz %[n], %l[none]\n\t" /* weir_percpu_none is never written */                                         \
    "sub %[from], %[most], %[n]\n\t"                                                                         \
    "add %[from], %[objects], %[from], lsl #3\n\t"                                                           \
    "add %[to], %[magazine], %[count], lsl #3\n\t"                                                           \
    "add %[to], %[to], #%c[objects_at]\n\t" WEIR__RSEQ_COPY "add %w[count], %w[count], %w[n]\n\t"            \
    "str %w[count], [%[magazine], #%c[count_at]]\n" /* commit */

/* Puts one in, and sets the capacity to `by` more than there were before, but `most` at most. */
#define WEIR__RSEQ_PUT_MORE                                                                                  \
    WEIR__RSEQ_MAGAZINE                                                                                      \
    "ldr %w[count], [%[magazine], #%c[count_at]]\n\t"                                                        \
    "ldr %w[at], [%[magazine], #%c[capacity_at]]\n\t"                                                        \
    "cbz %w[at], %l[none]\n\t" /* weir_percpu_none is never written */                                       \
    "add %[at], %[count], %[by]\n\t"                                                                         \
    "cmp %[at], %[most]\n\t"                                                                                 \
    "csel %[at], %[most], %[at], hi\n\t"                                                                     \
    "cmp %[count], %[at]\n\t"                                                                                \
    "b.hs %l[none]\n\t"                                                                                      \
    "add %[to], %[magazine], %[count], lsl #3\n\t"                                                           \
    "str %[object], [%[to], #%c[objects_at]]\n\t"                                                            \
    "str %w[at], [%[magazine], #%c[capacity_at]]\n\t"                                                        \
    "add %w[count], %w[count], #1\n\t"                                                                       \
    "str %w[count], [%[magazine], #%c[count_at]]\n" /* commit */

/* This CPU's slot: `slot` is the address of struct rseq before. */
#define WEIR__RSEQ_SLOT                                                                                      \
    "ldr %w[slot], [%[slot], #4]\n\t"                                                                        \
    "cmp %w[slot], %w[nr_cpus]\n\t" /* unsigned: also -1 and -2 */                                           \
    "b.hs %l[none]\n\t"                                                                                      \
    "add %[slot], %[slots], %[slot], lsl #7\n\t"

/*
 * The commit has to be one instruction. With the large system extensions that is a swap. Without, it is the
 * store-exclusive, the last instruction of the sequence: if another CPU was in between it stores nothing and
 * says so, and behind the end it is begun again. The kernel's switch drops the reservation, but an
 * interruption between the two starts again anyhow.
 */
#ifdef __ARM_FEATURE_ATOMICS
#define WEIR__RSEQ_EXCHANGE                                                                                  \
    WEIR__RSEQ_SLOT                                                                                          \
    "swpal %[magazine], %[taken], [%[slot]]\n" /* commit */
#define WEIR__RSEQ_EXCHANGE_AFTER
#define WEIR__RSEQ_EXCHANGE_SCRATCH(failed)
#else
#define WEIR__RSEQ_EXCHANGE                                                                                  \
    WEIR__RSEQ_SLOT                                                                                          \
    "ldaxr %[taken], [%[slot]]\n\t"                                                                          \
    "stlxr %w[failed], %[magazine], [%[slot]]\n" /* commit */
#define WEIR__RSEQ_EXCHANGE_AFTER "cbnz %w[failed], 0b\n\t"
#define WEIR__RSEQ_EXCHANGE_SCRATCH(failed) , [failed] "=&r"(failed)
#endif

/* Adds one to this CPU's word if *state is zero: acquires that, and releases what was done before. */
#define WEIR__RSEQ_TICK                                                                                      \
    "ldar %w[taken], [%[state]]\n\t"                                                                         \
    "cbnz %w[taken], %l[none]\n\t" WEIR__RSEQ_SLOT "ldr %[taken], [%[slot]]\n\t"                             \
    "add %[taken], %[taken], #1\n\t"                                                                         \
    "stlr %[taken], [%[slot]]\n" /* commit */

/* Says that it is in the sequence, and stays there until told to leave. */
#define WEIR__RSEQ_SIT                                                                                       \
    "mov %w[scratch], #1\n\t"                                                                                \
    "str %w[scratch], [%[inside]]\n"                                                                         \
    "5:\n\t"                                                                                                 \
    "yield\n\t"                                                                                              \
    "ldr %w[scratch], [%[leave]]\n\t"                                                                        \
    "cbz %w[scratch], 5b\n"

static inline char *weir__thread_pointer(void)
{
    char *pointer;
    __asm__ __volatile__("mrs %[pointer], tpidr_el0" : [pointer] "=r"(pointer));
    return pointer;
}

#endif /* WEIR_DETAIL_RSEQ_AARCH64_H */
