/* SPDX-License-Identifier: MIT */
/*
 * cache_malloc.c - whatever malloc this program is run with, beside the engine.
 *
 *     LD_PRELOAD=libjemalloc.so.2 weir-bench-cache-malloc 64 50 libjemalloc.so.2
 *
 * The size of an object, the milliseconds of a cell, and the library that malloc must come from; none: the C library's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "cache_loop.h"

static bool open_malloc(size_t object_bytes)
{
    (void)object_bytes;
    return true;
}

static __attribute__((noinline)) bool malloc_bulk(size_t n, void *objects[])
{
    for (size_t i = 0; i < n; i++)
        objects[i] = malloc(cache_object_bytes);
    return true;
}

static __attribute__((noinline)) void free_bulk(size_t n, void *objects[])
{
    for (size_t i = 0; i < n; i++)
        free(objects[i]);
}

int main(int argc, char **argv)
{
    static const struct cache_contender contender = {
        .open = open_malloc,
        .alloc = malloc,
        .free_it = free,
        .alloc_bulk = malloc_bulk,
        .free_bulk = free_bulk,
    };
    if (argc > 3) {
        Dl_info info;
        const void *function = dlsym(RTLD_DEFAULT, "malloc");
        if (function == NULL || dladdr(function, &info) == 0 || strstr(info.dli_fname, argv[3]) == NULL) {
            fprintf(stderr, "%s is not installed\n", argv[3]);
            return 1;
        }
    }
    return argc > 2 && cache_serve(&contender, (size_t)atoi(argv[1]), (unsigned)atoi(argv[2])) ? 0 : 1;
}
