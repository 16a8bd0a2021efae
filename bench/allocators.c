/* SPDX-License-Identifier: MIT */
/* allocators.c - see allocators.h. */
#define _GNU_SOURCE
#include "allocators.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *library[6];
} allocators[ALLOCATORS] = {
    [ALLOCATOR_GLIBC] = {"glibc", {""}},
    [ALLOCATOR_MIMALLOC] = {"mimalloc",
                            {"libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so.2.0", "libmimalloc.so",
                             "/usr/local/lib/libmimalloc.so"}},
    [ALLOCATOR_JEMALLOC] = {"jemalloc",
                            {"libjemalloc.so.2", "libjemalloc.so", "/usr/local/lib/libjemalloc.so.2"}},
    [ALLOCATOR_TCMALLOC] = {"tcmalloc",
                            {"libtcmalloc_minimal.so.4", "libtcmalloc.so.4", "libtcmalloc_minimal.so",
                             "/usr/local/lib/libtcmalloc_minimal.so.4"}},
};

const char *allocator_name(enum allocator allocator)
{
    return allocators[allocator].name;
}

const char *const *allocator_libraries(enum allocator allocator)
{
    return allocators[allocator].library;
}

const char *allocator_preload(const char *library)
{
    if (library[0] != '\0')
        setenv("LD_PRELOAD", library, 1);
    else
        unsetenv("LD_PRELOAD");
    return library[0] != '\0' ? library : "libc.so";
}

bool allocator_is_in_use(const char *library)
{
    Dl_info info;
    const void *function = dlsym(RTLD_DEFAULT, "malloc");
    bool found = function != NULL && dladdr(function, &info) != 0;
    if (found && strstr(info.dli_fname, library) != NULL)
        return true;
    fprintf(stderr, "malloc is not that of %s but of %s\n", library,
            found ? info.dli_fname : "something else");
    return false;
}
