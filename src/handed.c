/* SPDX-License-Identifier: MIT */
/* handed.c - checked builds: what was handed over twice: see handed.h. */
#define _GNU_SOURCE
#include "handed.h"

#ifdef WEIR_CHECKED

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* An open-addressed table of pointers, with linear probing, at most half full; what is taken out of it is
 * closed up at once (D. E. Knuth, The Art of Computer Programming 3, 6.4, algorithm R). */
struct weir__handed {
    struct weir_percpu_slot *slots;
    size_t capacity; /* of the magazines in them */
    const char *name;
    pthread_mutex_t mutex; /* held with all signals blocked: a handler may hand over, too */
    void **table;
    size_t size; /* a power of two, or 0 */
    size_t used;
    uint64_t twice;
};

static size_t place(const struct weir__handed *handed, const void *object)
{
    uint64_t mixed = (uint64_t)(uintptr_t)object * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(mixed >> 20) & (handed->size - 1);
}

/* Where it is, or where it would be put. */
static size_t find(const struct weir__handed *handed, const void *object)
{
    size_t i = place(handed, object);
    while (handed->table[i] != NULL && handed->table[i] != object)
        i = (i + 1) & (handed->size - 1);
    return i;
}

static bool holds(const struct weir__handed *handed, const void *object)
{
    return handed->size != 0 && handed->table[find(handed, object)] != NULL;
}

/* Memory from the system: this may be a signal handler. */
static bool grow(struct weir__handed *handed)
{
    struct weir__handed old = *handed;
    size_t size = old.size != 0 ? old.size * 2 : 4096;
    void *table =
        mmap(NULL, size * sizeof(void *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED)
        return false;
    handed->table = table;
    handed->size = size;
    for (size_t i = 0; i < old.size; i++)
        if (old.table[i] != NULL)
            handed->table[find(handed, old.table[i])] = old.table[i];
    if (old.size != 0)
        munmap(old.table, old.size * sizeof(void *));
    return true;
}

/* Without memory it goes unnoticed. */
static void insert(struct weir__handed *handed, void *object)
{
    if (handed->used * 2 >= handed->size && !grow(handed))
        return;
    handed->table[find(handed, object)] = object;
    handed->used++;
}

static void take_out(struct weir__handed *handed, const void *object)
{
    if (!holds(handed, object))
        return;
    size_t mask = handed->size - 1, hole = find(handed, object);
    for (size_t i = (hole + 1) & mask; handed->table[i] != NULL; i = (i + 1) & mask) {
        /* It may move into the hole unless its own place lies between the two. */
        if (((i - place(handed, handed->table[i])) & mask) < ((i - hole) & mask))
            continue;
        handed->table[hole] = handed->table[i];
        hole = i;
    }
    handed->table[hole] = NULL;
    handed->used--;
}

/* One write: this may be a signal handler. */
static void report(struct weir__handed *handed, const void *object)
{
    char line[160];
    int n = snprintf(line, sizeof line,
                     "weir: %s: %p was handed over for a deferred free twice; it is freed once\n",
                     handed->name, object);
    weir_store_relaxed(&handed->twice,
                       handed->twice + 1); /* relaxed: a statistic; the mutex orders writers */
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nobody can be told */
}

static void lock(struct weir__handed *handed, sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
    pthread_mutex_lock(&handed->mutex);
}

static void unlock(struct weir__handed *handed, const sigset_t *before)
{
    pthread_mutex_unlock(&handed->mutex);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

static bool add(struct weir__handed *handed, void *object)
{
    if (holds(handed, object)) {
        report(handed, object);
        return false;
    }
    insert(handed, object);
    return true;
}

/* Does `object` lie in a slot now? What is found in passing may be out of date, so it is looked at once more
 * after everybody has been made to finish what he was in the middle of. */
static bool in_slot(const struct weir__handed *handed, unsigned cpu, const void *object)
{
    const struct weir_percpu_slot *slot =
        (const struct weir_percpu_slot *)(const void *)((const char *)handed->slots +
                                                        (size_t)cpu * WEIR_PERCPU_STRIDE);
    bool rseq = weir_percpu_mode() == WEIR_PERCPU_RSEQ;
    /* Acquire, the magazine: pairs with the release of weir_percpu_exchange(). The rest has no partner: it is
     * read again after weir_percpu_settle(), if it matters. */
    struct weir_magazine *magazine = weir_load_acquire(rseq ? &slot->magazine : &slot->locked);
    uint32_t count = weir_load_acquire(&magazine->count);
    bool found = false;
    for (size_t i = 0; i < count && i < handed->capacity && !found; i++)
        found = weir_load_relaxed(&weir_magazine_objects(magazine)[i]) == object;
    /* Still the one in the slot, and the pointer among those in it? */
    return found && weir_load_acquire(rseq ? &slot->magazine : &slot->locked) == magazine;
}

static bool in_any_slot(struct weir__handed *handed, const void *object)
{
    for (unsigned cpu = 0; cpu < weir_percpu_nr_cpus(); cpu++) {
        if (!in_slot(handed, cpu, object))
            continue;
        weir_percpu_settle();
        if (in_slot(handed, cpu, object))
            return true;
    }
    return false;
}

static bool remove_one(struct weir__handed *handed, void *object)
{
    take_out(handed, object);
    if (!in_any_slot(handed, object))
        return true;
    report(handed, object);
    return false;
}

/* Moves those objects to the front that `keep` says are to stay; how many. */
static size_t filter(struct weir__handed *handed, size_t n, void *objects[],
                     bool (*keep)(struct weir__handed *handed, void *object))
{
    size_t left = 0;
    sigset_t before;
    if (handed == NULL)
        return n;
    lock(handed, &before);
    for (size_t i = 0; i < n; i++)
        if (keep(handed, objects[i]))
            objects[left++] = objects[i];
    unlock(handed, &before);
    return left;
}

size_t weir__handed_over(struct weir__handed *handed, size_t n, void *objects[])
{
    return filter(handed, n, objects, add);
}

size_t weir__handed_back(struct weir__handed *handed, size_t n, void *objects[])
{
    return filter(handed, n, objects, remove_one);
}

uint64_t weir__handed_twice(const struct weir__handed *handed)
{
    return handed != NULL ? weir_load_relaxed(&handed->twice) : 0;
}

struct weir__handed *weir__handed_create(struct weir_percpu_slot *slots, size_t capacity, const char *name)
{
    struct weir__handed *handed = malloc(sizeof *handed);
    if (handed != NULL) {
        *handed = (struct weir__handed){.slots = slots, .capacity = capacity, .name = name};
        pthread_mutex_init(&handed->mutex, NULL);
    }
    return handed;
}

void weir__handed_destroy(struct weir__handed *handed)
{
    if (handed == NULL)
        return;
    if (handed->size != 0)
        munmap(handed->table, handed->size * sizeof(void *));
    pthread_mutex_destroy(&handed->mutex);
    free(handed);
}

#endif /* WEIR_CHECKED */
