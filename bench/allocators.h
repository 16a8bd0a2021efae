/* SPDX-License-Identifier: MIT */
/* allocators.h - the mallocs that weir is measured beside: each in a process that has its library preloaded. */
#ifndef BENCH_ALLOCATORS_H
#define BENCH_ALLOCATORS_H

#include <stdbool.h>

enum allocator { ALLOCATOR_GLIBC, ALLOCATOR_MIMALLOC, ALLOCATOR_JEMALLOC, ALLOCATOR_TCMALLOC, ALLOCATORS };

const char *allocator_name(enum allocator allocator);
/* The names that its library may have, as LD_PRELOAD takes them, up to a NULL; "": nothing has to be loaded. */
const char *const *allocator_libraries(enum allocator allocator);
/* In the child, before it becomes another program, which then gets as an argument what is returned: for
 * allocator_is_in_use(). */
const char *allocator_preload(const char *library);
/* Is malloc that of `library`, a part of its file's name? If not, says so on standard error. */
bool allocator_is_in_use(const char *library);

#endif /* BENCH_ALLOCATORS_H */
