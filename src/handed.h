/* SPDX-License-Identifier: MIT */
/*
 * handed.h - checked builds: is an object handed over for a deferred free that has been already?
 *
 * A set of the pointers that wait for their grace period. A pointer gets in when its magazine leaves the
 * slot, or when it is chained, and out before it is freed. Who finds it there already, reports it and drops
 * it: the first hand-over frees it. What still lies in a slot at that time is not in the set; so before
 * something is freed, the slots are searched for it, too. Then it is the later one that frees it.
 *
 * Not found: a second hand-over after the object was freed (that is a use after free: the allocator's to
 * find), and one that takes place at the very moment of the free.
 */
#ifndef WEIR_SRC_HANDED_H
#define WEIR_SRC_HANDED_H

#include "weir/percpu.h"

struct weir__handed;

#ifdef WEIR_CHECKED

/* `slots`: where magazines of `capacity` pointers are filled. NULL: no memory. */
struct weir__handed *weir__handed_create(struct weir_percpu_slot *slots, size_t capacity, const char *name);
void weir__handed_destroy(struct weir__handed *handed);

/* All of them let everything pass if `handed` is NULL, and in other builds. Any context. */

/* Moves those of `n` objects to the front of the array that were handed over for the first time; how many. */
size_t weir__handed_over(struct weir__handed *handed, size_t n, void *objects[]);
/* Those that are to be freed now; how many. */
size_t weir__handed_back(struct weir__handed *handed, size_t n, void *objects[]);
/* How many there were. */
uint64_t weir__handed_twice(const struct weir__handed *handed);

#else

static inline struct weir__handed *weir__handed_create(struct weir_percpu_slot *slots, size_t capacity,
                                                       const char *name)
{
    (void)slots, (void)capacity, (void)name;
    return NULL;
}

static inline void weir__handed_destroy(struct weir__handed *handed)
{
    (void)handed;
}

static inline size_t weir__handed_over(struct weir__handed *handed, size_t n, void *objects[])
{
    (void)handed, (void)objects;
    return n;
}

static inline size_t weir__handed_back(struct weir__handed *handed, size_t n, void *objects[])
{
    (void)handed, (void)objects;
    return n;
}

static inline uint64_t weir__handed_twice(const struct weir__handed *handed)
{
    (void)handed;
    return 0;
}

#endif
#endif /* WEIR_SRC_HANDED_H */
