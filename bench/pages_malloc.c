/* SPDX-License-Identifier: MIT */
/* pages_malloc.c - whatever malloc the program is run with, for pages and extents. */
#include <stdlib.h>

#include "pages_loop.h"

static bool open_malloc(const struct pages_setting *setting)
{
    (void)setting;
    return true;
}

static __attribute__((noinline)) void *extent_alloc(size_t bytes)
{
    return malloc(bytes * EXTENT_PAGES);
}

static __attribute__((noinline)) bool array_alloc(size_t n, void *pages[])
{
    for (size_t i = 0; i < n; i++)
        pages[i] = malloc(PAGE_BYTES);
    return pages[n - 1] != NULL;
}

static __attribute__((noinline)) void array_free(size_t n, void *pages[])
{
    for (size_t i = 0; i < n; i++)
        free(pages[i]);
}

static __attribute__((noinline)) void *list_alloc(size_t n)
{
    void **list = NULL;
    for (size_t i = 0; i < n; i++) {
        void **page = malloc(PAGE_BYTES);
        if (page == NULL)
            return NULL;
        *page = list;
        list = page;
    }
    return list;
}

static __attribute__((noinline)) void list_free(size_t n, void *list)
{
    while (n-- != 0) {
        void *next = *(void **)list;
        free(list);
        list = next;
    }
}

static double measure(const struct pages_job *job)
{
    return pages_time(pages_hidden((struct pages_calls){malloc, extent_alloc, free, free, array_alloc,
                                                        array_free, list_alloc, list_free}),
                      job);
}

const struct pages_contender pages_malloc = {open_malloc, measure, NULL};
