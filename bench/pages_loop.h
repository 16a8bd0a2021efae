/* SPDX-License-Identifier: MIT */
/* pages_loop.h - the loops that bench/pages times, called or inlined; pairs and arrays are cache_loop.h's. */
#ifndef BENCH_PAGES_LOOP_H
#define BENCH_PAGES_LOOP_H

#include <string.h>

#include "cache_loop.h"
#include "pages.h"

#define CHURN_RUN_MAX 512

/* What a contender is made of. */
struct pages_calls {
    pair_alloc_function alloc, extent_alloc;
    pair_free_function free_it, extent_free;
    bool (*alloc_bulk)(size_t n, void *pages[]);
    void (*free_bulk)(size_t n, void *pages[]);
    void *(*alloc_list)(size_t n); /* linked by their first words; NULL: there are not so many */
    void (*free_list)(size_t n, void *list);
};

extern struct pages_setting pages_setting; /* pages_cell.c */

/* The compiler does not know which functions these are from here on. */
ALWAYS_INLINE struct pages_calls pages_hidden(struct pages_calls calls)
{
    __asm__ __volatile__("" : "+m"(calls) : : "memory");
    return calls;
}

ALWAYS_INLINE double list_time(struct pages_calls calls, unsigned n, unsigned count)
{
    double start = 0;
    for (unsigned i = 0; i < count + count / 20; i += n) {
        if (i >= count / 20 && start == 0)
            start = seconds_now();
        void *list = calls.alloc_list(n);
        __asm__ __volatile__("" : "+r"(list) : : "memory");
        if (weir_unlikely(list == NULL))
            return 0;
        calls.free_list(n, list);
    }
    return (seconds_now() - start) * 1e9 / count;
}

/* --- churn --- */

struct churn {
    char **page; /* the working set; NULL: not yet allocated */
    size_t pages;
    uint64_t random;
};

extern struct churn pages_churn; /* pages_cell.c */

ALWAYS_INLINE size_t churn_random(uint64_t *random, size_t below)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (size_t)(((*random >> 32) * below) >> 32);
}

/* The first line says whose page it is; a random line, so that the page is used. */
ALWAYS_INLINE void churn_write(char *page, size_t at, uint64_t *random)
{
    size_t line = 1 + churn_random(random, PAGE_BYTES / 64 - 1);
    *(volatile size_t *)(void *)page = at;
    *(volatile size_t *)(void *)(page + line * 64) = at;
}

/* All of the working set, each page written to as a whole. */
ALWAYS_INLINE bool churn_fill(struct churn *churn, struct pages_calls calls)
{
    for (size_t i = 0; i < churn->pages; i++) {
        churn->page[i] = calls.alloc(PAGE_BYTES);
        if (churn->page[i] == NULL)
            return false;
        memset(churn->page[i], 1, PAGE_BYTES);
        *(size_t *)(void *)churn->page[i] = i;
    }
    return true;
}

ALWAYS_INLINE bool churn_one(struct churn *churn, struct pages_calls calls)
{
    size_t at = churn_random(&churn->random, churn->pages);
    calls.free_it(churn->page[at]);
    char *page = churn->page[at] = calls.alloc(PAGE_BYTES);
    if (weir_unlikely(page == NULL))
        return false;
    churn_write(page, at, &churn->random);
    return true;
}

/* Frees 1 to `most`, then allocates as many. How many; 0: there are none left. */
ALWAYS_INLINE unsigned churn_run(struct churn *churn, struct pages_calls calls, unsigned most)
{
    size_t at[CHURN_RUN_MAX];
    unsigned n = 1 + (unsigned)churn_random(&churn->random, most);
    for (unsigned i = 0; i < n; i++) {
        do {
            at[i] = churn_random(&churn->random, churn->pages);
        } while (churn->page[at[i]] == NULL);
        calls.free_it(churn->page[at[i]]);
        churn->page[at[i]] = NULL;
    }
    for (unsigned i = 0; i < n; i++) {
        char *page = churn->page[at[i]] = calls.alloc(PAGE_BYTES);
        if (weir_unlikely(page == NULL))
            return 0;
        churn_write(page, at[i], &churn->random);
    }
    return n;
}

/* All of the process, helper threads included: so other programs do not matter, and nobody gets away with leaving
 * work to others. */
static inline double churn_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

ALWAYS_INLINE double churn_time(struct churn *churn, struct pages_calls calls, unsigned most, unsigned steps)
{
    if (churn->page[0] == NULL && !churn_fill(churn, calls))
        return 0;
    struct churn own = *churn; /* nothing that is written to can be in it */
    unsigned done = 0;
    double start = churn_clock();
    while (done < steps) {
        unsigned n = most == 1 ? churn_one(&own, calls) : churn_run(&own, calls, most);
        if (weir_unlikely(n == 0))
            return 0;
        done += n;
    }
    churn->random = own.random;
    return (churn_clock() - start) * 1e9 / done;
}

/* Nanoseconds; 0: there were not enough pages, or there is no such job. */
ALWAYS_INLINE double pages_time(struct pages_calls calls, const struct pages_job *job)
{
    switch (job->work) {
    case WORK_PAIR:
        return pair_time(calls.alloc, calls.free_it, 1, false);
    case WORK_ARRAY:
        return bulk_time(calls.alloc_bulk, calls.free_bulk, BULK, BULK_COUNT);
    case WORK_LIST:
        return list_time(calls, BULK, BULK_COUNT);
    case WORK_EXTENT:
        return pair_time(calls.extent_alloc, calls.extent_free, 1, false);
    case WORK_CHURN:
        return churn_time(&pages_churn, calls, job->n, pages_setting.steps);
    default:
        return 0;
    }
}

#endif /* BENCH_PAGES_LOOP_H */
