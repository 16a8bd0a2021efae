/* SPDX-License-Identifier: MIT */
/* weir/detail/api.h - private: how libweir's functions are declared. */
#ifndef WEIR_DETAIL_API_H
#define WEIR_DETAIL_API_H

#define WEIR_API __attribute__((visibility("default")))

/* An inline function that is inlined without optimisation, too: what libweir takes for the code that called it
 * is where it was written then. */
#define WEIR_INTO_CALLER __attribute__((always_inline))

/*
 * What inline functions read of an object that is opaque otherwise: WEIR__PATHS_OFFSET behind its beginning. Not
 * in its first line, for that may be the first of a page: on some CPUs a load waits for an earlier store to the
 * same place of another page until that is in the cache, and where pages begin is where programs write to them.
 */
#define WEIR__PATHS_OFFSET 64
#define WEIR__PATHS(type, object) ((type *)(void *)((char *)(object) + WEIR__PATHS_OFFSET))

/* Around declarations. C++: C linkage; and no warning that a function named like a struct hides its
 * constructor, which is how C names its statistics. */
#ifdef __cplusplus
#define WEIR_BEGIN_C_NAMES                                                                                   \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wshadow\"") extern "C"                 \
    {
#define WEIR_END_C_NAMES                                                                                     \
    }                                                                                                        \
    _Pragma("GCC diagnostic pop")
#else
#define WEIR_BEGIN_C_NAMES
#define WEIR_END_C_NAMES
#endif

#endif /* WEIR_DETAIL_API_H */
