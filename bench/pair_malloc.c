/* SPDX-License-Identifier: MIT */
/*
 * pair_malloc.c - the alloc + free pair of whatever malloc this program is run with.
 *
 *     LD_PRELOAD=libjemalloc.so.2 weir-bench-malloc libjemalloc.so.2
 *
 * The argument names the library that malloc must come from; a preload that was not found would go unnoticed
 * otherwise. None: the C library's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pair_loop.h"

static void round_of_malloc(struct pair_times *times)
{
    pair_round_called(times, malloc, free);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        Dl_info info;
        const void *function = dlsym(RTLD_DEFAULT, "malloc");
        if (function == NULL || dladdr(function, &info) == 0 || strstr(info.dli_fname, argv[1]) == NULL) {
            fprintf(stderr, "%s is not installed\n", argv[1]);
            return 1;
        }
    }
    return pair_serve(round_of_malloc) ? 0 : 1;
}
