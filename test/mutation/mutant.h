/* SPDX-License-Identifier: MIT */
/*
 * mutant.h - one deliberate mistake at one access, chosen when the program starts. For the mutation run.
 *
 * WEIR_MUTANT=FILE:LINE:KIND, the access that stands in that line of a header of weir:
 *   relaxed   its memory order is relaxed
 *   acquire   it only acquires, and releases no more
 *   release   it only releases, and acquires no more
 *   cut       a compare-and-swap that fails says that it succeeded: the loop around it is cut
 *   stale     a load returns what the thread read at that address before, elsewhere
 * WEIR_MUTANT_REACHED=PATH: that file is written when the access is made for the first time, to tell a mistake
 * that nobody noticed from one that nobody made.
 */
#ifndef MUTANT_H
#define MUTANT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum mutant_kind { MUTANT_NONE, MUTANT_RELAXED, MUTANT_ACQUIRE, MUTANT_RELEASE, MUTANT_CUT, MUTANT_STALE };

static struct {
    enum mutant_kind kind;
    char file[64];
    int line;
    const char *reached_path;
    bool reached;
} mutant;

__attribute__((constructor)) static void mutant_read(void)
{
    static const char *const kinds[] = {"none", "relaxed", "acquire", "release", "cut", "stale"};
    const char *wanted = getenv("WEIR_MUTANT");
    char kind[16];
    if (wanted == NULL)
        return;
    if (sscanf(wanted, "%63[^:]:%d:%15s", mutant.file, &mutant.line, kind) == 3)
        for (enum mutant_kind k = MUTANT_RELAXED; k <= MUTANT_STALE; k++)
            if (strcmp(kind, kinds[k]) == 0)
                mutant.kind = k;
    if (mutant.kind == MUTANT_NONE) {
        fprintf(stderr,
                "WEIR_MUTANT='%s' is not FILE:LINE:KIND, with KIND relaxed, acquire, release, cut or stale\n",
                wanted);
        exit(2);
    }
    mutant.reached_path = getenv("WEIR_MUTANT_REACHED");
}

/* Is it here? */
static inline bool mutant_is(enum mutant_kind kind, const char *file, int line)
{
    if (mutant.kind != kind || mutant.line != line)
        return false;
    const char *slash = strrchr(file, '/');
    if (strcmp(slash != NULL ? slash + 1 : file, mutant.file) != 0)
        return false;
    if (!__atomic_exchange_n(&mutant.reached, true, __ATOMIC_RELAXED) && mutant.reached_path != NULL) {
        FILE *reached = fopen(mutant.reached_path, "w");
        if (reached != NULL)
            fclose(reached);
    }
    return true;
}

/* The order of an access. */
static inline int mutant_order(int order, const char *file, int line)
{
    if (mutant_is(MUTANT_RELAXED, file, line))
        return __ATOMIC_RELAXED;
    if (order == __ATOMIC_ACQ_REL && mutant_is(MUTANT_ACQUIRE, file, line))
        return __ATOMIC_ACQUIRE;
    if (order == __ATOMIC_ACQ_REL && mutant_is(MUTANT_RELEASE, file, line))
        return __ATOMIC_RELEASE;
    return order;
}

static inline bool mutant_cut(const char *file, int line)
{
    return mutant_is(MUTANT_CUT, file, line);
}

/* What a load returns: the value, or what the thread read there before. `thread` tells coroutines of one thread of
 * the system apart. */
static inline uint64_t mutant_load(const volatile void *address, unsigned thread, uint64_t value,
                                   const char *file, int line)
{
    enum { REMEMBERED = 16 };
    static _Thread_local struct {
        const volatile void *address;
        unsigned thread;
        uint64_t value;
    } seen[REMEMBERED];
    static _Thread_local unsigned next;
    if (mutant.kind != MUTANT_STALE)
        return value;
    bool here = mutant_is(MUTANT_STALE, file, line);
    for (unsigned i = 0; i < REMEMBERED; i++) {
        if (seen[i].address != address || seen[i].thread != thread)
            continue;
        if (here)
            return seen[i].value;
        seen[i].value = value;
        return value;
    }
    if (!here) {
        seen[next].address = address;
        seen[next].thread = thread;
        seen[next].value = value;
        next = (next + 1) % REMEMBERED;
    }
    return value;
}

#endif
