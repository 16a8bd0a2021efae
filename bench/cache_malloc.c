/* SPDX-License-Identifier: MIT */
/*
 * cache_malloc.c - whatever malloc this program is run with, beside the engine.
 *
 *     LD_PRELOAD=libjemalloc.so.2 weir-bench-cache-malloc 64 50 2 libjemalloc.so.2
 *
 * What cache_setting_of() reads, and the library that malloc must come from; none: the C library's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "cache_loop.h"

static bool open_malloc(const struct cache_setting *setting)
{
    (void)setting;
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
    if (argc > 4) {
        Dl_info info;
        const void *function = dlsym(RTLD_DEFAULT, "malloc");
        if (function == NULL || dladdr(function, &info) == 0 || strstr(info.dli_fname, argv[4]) == NULL) {
            fprintf(stderr, "%s is not installed\n", argv[4]);
            return 1;
        }
    }
    if (argc < 4)
        return 1;
    const struct cache_setting setting = cache_setting_of(argv + 1);
    return cache_serve(&contender, &setting) ? 0 : 1;
}
