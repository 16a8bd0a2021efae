/* SPDX-License-Identifier: MIT */
/*
 * context.h - where a coroutine, or what runs them, is left; for explore.c. swapcontext() would do, but calls the
 * system twice.
 */
#ifndef EXPLORE_CONTEXT_H
#define EXPLORE_CONTEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif
#ifdef ASAN
#include <sanitizer/asan_interface.h>
#endif

struct context {
#if defined(__x86_64__)
    void *stack_pointer;
#else
    ucontext_t state;
#endif
    const void *stack; /* for AddressSanitizer; NULL until known */
    size_t bytes;
};

#if defined(__x86_64__)
/* Keeps the registers that a function has to keep on the stack that is left. */
void explore_switch_stack(void **from, void *to);
__asm__(".text\n"
        "explore_switch_stack:\n"
        "    push %rbp\n    push %rbx\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbx\n    pop %rbp\n"
        "    ret\n");
#endif

static void context_make(struct context *context, char *stack, size_t bytes, void (*body)(void))
{
    context->stack = stack;
    context->bytes = bytes;
#ifdef ASAN
    /* A run that failed has left functions that never returned there. */
    __asan_unpoison_memory_region(stack, bytes);
#endif
#if defined(__x86_64__)
    /* Six registers, the address to return to, and one that body() never returns to. */
    void **top = (void **)(void *)(stack + bytes) - 8;
    memset(top, 0, 8 * sizeof *top);
    top[6] = (void *)(uintptr_t)body;
    context->stack_pointer = top;
#else
    getcontext(&context->state);
    context->state.uc_stack.ss_sp = stack;
    context->state.uc_stack.ss_size = bytes;
    context->state.uc_link = NULL;
    makecontext(&context->state, body, 0);
#endif
}

static struct context home; /* where a run was started */

/* At the start of a coroutine, and after each switch. */
static void context_arrived(void *fake_stack)
{
#ifdef ASAN
    const void *stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(fake_stack, &stack, &bytes);
    if (home.stack == NULL) { /* the first switch comes from there */
        home.stack = stack;
        home.bytes = bytes;
    }
#else
    (void)fake_stack;
#endif
}

static void context_switch(struct context *from, struct context *to)
{
    void *fake_stack = NULL;
#ifdef ASAN
    __sanitizer_start_switch_fiber(&fake_stack, to->stack, to->bytes);
#endif
#if defined(__x86_64__)
    explore_switch_stack(&from->stack_pointer, to->stack_pointer);
#else
    swapcontext(&from->state, &to->state);
#endif
    context_arrived(fake_stack);
}

#endif
