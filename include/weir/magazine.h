/* SPDX-License-Identifier: MIT */
/*
 * weir/magazine.h - the magazine: an array of pointers, and the unit in which weir moves objects.
 *
 *     static _Alignas(8) char memory[1024];
 *     struct weir_magazine *m = weir_magazine_init(memory, sizeof memory);
 *     if (!weir_magazine_put(m, object))
 *         hand_over_the_full_one(m);
 *
 * A bulk allocation is an array of pointers, a per-CPU cache is one, a depot stores full and empty ones, and
 * what waits for a grace period is one. So they are one type, and handing 100 objects from one to the other
 * is handing over one pointer. (J. Bonwick and J. Adams, "Magazines and Vmem", USENIX 2001.)
 *
 * A magazine has one owner at a time, and its functions are for the owner: they are plain loads and stores.
 * Ownership passes through a per-CPU slot (weir/percpu.h), a pool (weir/pool.h) or a queue, and those order
 * it.
 */
#ifndef WEIR_MAGAZINE_H
#define WEIR_MAGAZINE_H

#include "weir/llist.h"
#include "weir/stack.h"

struct weir_magazine {
    union { /* on one of them at a time */
        struct weir_stack_node node;
        struct weir_llist_node link;
    };
    uint32_t count;    /* pointers in it */
    uint32_t capacity; /* pointers that fit */
    uint64_t cookie;   /* of the grace period that what is in it waits for */
    /* the pointers follow: weir_magazine_objects() */
};

/* Bytes that a magazine for `capacity` pointers takes. */
#define WEIR_MAGAZINE_BYTES(capacity) (sizeof(struct weir_magazine) + (capacity) * sizeof(void *))

/* Pointers that fit in a magazine of `bytes` bytes, at least sizeof(struct weir_magazine): with pointers of 8
 * bytes 509 in 4096, 125 in 1024. */
#define WEIR_MAGAZINE_CAPACITY(bytes) (((bytes) - sizeof(struct weir_magazine)) / sizeof(void *))

/*
 * Makes an empty magazine of `bytes` bytes of memory, aligned to 8. NULL if they do not even hold its header.
 * The memory stays the caller's to free.
 *   Progress: wait-free.  Callers: the memory's owner.
 *   Ordering: none.       Memory: uses what it is given.
 */
static inline struct weir_magazine *weir_magazine_init(void *memory, size_t bytes)
{
    struct weir_magazine *magazine = (struct weir_magazine *)memory;
    if (bytes < sizeof *magazine)
        return NULL;
    weir_stack_link(&magazine->node, NULL);
    magazine->count = 0;
    magazine->capacity = (uint32_t)WEIR_MAGAZINE_CAPACITY(bytes);
    magazine->cookie = 0;
    return magazine;
}

/* The array: the first `count` of its `capacity` pointers are in the magazine.
 *   Progress: wait-free.  Callers: the owner.  Ordering: none.  Memory: none. */
static inline void **weir_magazine_objects(struct weir_magazine *magazine)
{
    return (void **)(void *)(magazine + 1);
}

/* Private: the owner's. Relaxed, not plain: statistics may read the count of a magazine that was in their
 * place a moment ago. */
static inline void weir__magazine_set_count(struct weir_magazine *magazine, uint32_t count)
{
    weir_store_relaxed(&magazine->count, count);
}

/* Puts an object in; false if the magazine is full.
 *   Progress: wait-free.  Callers: the owner.  Ordering: none.  Memory: none. */
static inline bool weir_magazine_put(struct weir_magazine *magazine, void *object)
{
    if (magazine->count == magazine->capacity)
        return false;
    weir_magazine_objects(magazine)[magazine->count] = object;
    weir__magazine_set_count(magazine, magazine->count + 1);
    return true;
}

/* Takes the object put in last; NULL if the magazine is empty.
 *   Progress: wait-free.  Callers: the owner.  Ordering: none.  Memory: none. */
static inline void *weir_magazine_get(struct weir_magazine *magazine)
{
    if (magazine->count == 0)
        return NULL;
    weir__magazine_set_count(magazine, magazine->count - 1);
    return weir_magazine_objects(magazine)[magazine->count];
}

/* The magazine whose `node`, on a stack or in a pool, this is; NULL stays NULL.
 *   Progress: wait-free.  Callers: the owner.  Ordering: none.  Memory: none. */
static inline struct weir_magazine *weir_magazine_of_node(struct weir_stack_node *node)
{
    return (struct weir_magazine *)(void *)node; /* its first member */
}

/*
 * Where the memory of magazines comes from, for what makes its own (a reclaimer, a cache): see
 * docs/magazine.md. Both functions are called in any context, signal handlers included, by any number of
 * threads: they must not lock nor wait.
 */
struct weir_block_source {
    /* Memory aligned to 16, and how much it is in *bytes. NULL: there is none now. */
    void *(*get)(void *arg, size_t *bytes);
    /* Back, what one get() gave. It must stay readable, with whatever in it, until what uses the source is
     * destroyed: statistics may look at the count of a magazine that has just gone. */
    void (*put)(void *arg, void *memory, size_t bytes);
    void *arg;
    /* How much every get() gives, of a source that takes memory back at any time: magazines of at least half
     * of it get one each, and can go one by one. 0: put() is called at the end only. */
    size_t unit;
};

#endif /* WEIR_MAGAZINE_H */
