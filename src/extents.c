/* SPDX-License-Identifier: MIT */
/* extents.c - frames in a row, 1 to 256 of them, cached by size: see extents.h. */
#define _GNU_SOURCE
#include "extents.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "weir/percpu.h"

enum { NODES_MOST = 128, SIZES = WEIR_EXTENT_PAGES_MAX };

/* An entry of the table: see extents.h. */
enum { ENTRY_OUT = 0x8000, ENTRY_NODE_SHIFT = 8, ENTRY_SIZE = 0xff };
_Static_assert(NODES_MOST <= ENTRY_OUT >> ENTRY_NODE_SHIFT && SIZES - 1 <= ENTRY_SIZE, "an entry has room");

/* Stands for an idle extent, and knows where it is; how large it is, its pool knows. */
struct descriptor {
    struct weir_stack_node node;
    void *extent; /* a vacant one's means nothing */
} WEIR_ALIGNED(16);

/* A frame full of them. */
struct chunk {
    struct weir_llist_node link;
    struct descriptor descriptors[];
};

struct node {
    /* Sizes whose pool was ever put to, by bits. A bit is set before the first put and stays, so who ought to
     * see an extent in the pool sees the bit, too; who misses it would have been there before the put. */
    uint64_t used[SIZES / 64];
    /* From here on written with each alloc and free, on one line that other nodes do not write to. */
    struct weir_stack vacant WEIR_ALIGNED(WEIR_LINE_PAIR);
    size_t pages; /* out */
    uint64_t hits, misses, frees;
} WEIR_ALIGNED(WEIR_LINE_PAIR);

struct weir__extents {
    struct weir__frames *frames;
    const char *name;
    unsigned nr_nodes;
    struct node *nodes;
    struct weir_pool *pools; /* SIZES per node */
    uint16_t *table;         /* an entry per frame */
    size_t map_bytes;        /* of all this */
    /* Seldom written, but not beside what is read all the time. */
    struct weir_llist_head chunks WEIR_ALIGNED(WEIR_LINE_PAIR);
    size_t nr_chunks;
    unsigned walking; /* somebody gives idle extents back */
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static struct weir_pool *pool_of(const struct weir__extents *extents, unsigned node, size_t n)
{
    return &extents->pools[(size_t)node * SIZES + n - 1];
}

static struct descriptor *descriptor_of(struct weir_stack_node *node)
{
    return (struct descriptor *)(void *)node; /* its first member */
}

/* --- making and unmaking --- */

int weir__extents_create(struct weir__extents **result, struct weir__frames *frames, const char *name)
{
    unsigned cpus = weir_percpu_nr_cpus(), nr_nodes = cpus < NODES_MOST ? cpus : NODES_MOST;
    size_t nodes_at = round_up(sizeof(struct weir__extents), WEIR_LINE_PAIR);
    size_t pools_at = nodes_at + nr_nodes * sizeof(struct node);
    size_t table_at = pools_at + nr_nodes * SIZES * sizeof(struct weir_pool);
    size_t bytes = table_at + frames->frames * sizeof(uint16_t);

    *result = NULL;
    /* Zero: empty pools and stacks, nothing out. */
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -ENOMEM;
    madvise(map, bytes, MADV_NOHUGEPAGE); /* one pool in use is no 2 MiB; may fail: then it may be */
    struct weir__extents *extents = (struct weir__extents *)(void *)map;
    extents->frames = frames;
    extents->name = name;
    extents->nr_nodes = nr_nodes;
    extents->nodes = (struct node *)(void *)(map + nodes_at);
    extents->pools = (struct weir_pool *)(void *)(map + pools_at);
    extents->table = (uint16_t *)(void *)(map + table_at);
    extents->map_bytes = bytes;
    *result = extents;
    return 0;
}

void weir__extents_destroy(struct weir__extents *extents)
{
    if (extents == NULL)
        return;
    weir__extents_decay(extents, 100);
    struct weir_llist_node *chunks = weir_llist_del_all(&extents->chunks);
    weir_llist_for_each_entry_safe(chunk, next, chunks, struct chunk, link) {
        void *frame = chunk;
        weir__frames_free(extents->frames, 1, &frame);
    }
    munmap(extents, extents->map_bytes);
}

/* --- descriptors --- */

/* A frame full of vacant ones for the node; false if there is no frame. */
static bool make_vacant(struct weir__extents *extents, struct node *node)
{
    void *frame;
    if (weir__frames_alloc(extents->frames, 1, &frame) == 0)
        return false;
    struct chunk *chunk = frame;
    struct descriptor *descriptor = chunk->descriptors;
    size_t n = (extents->frames->frame_bytes - sizeof *chunk) / sizeof *descriptor;
    weir_llist_add(&chunk->link, &extents->chunks);
    weir_fetch_add_relaxed(&extents->nr_chunks,
                           (size_t)1); /* relaxed: read for what it is when all is still */
    for (size_t i = 0; i < n; i++)
        weir_stack_link(&descriptor[i].node, i + 1 < n ? &descriptor[i + 1].node : NULL);
    weir_stack_push_batch(&node->vacant, &descriptor[0].node, &descriptor[n - 1].node);
    return true;
}

static struct descriptor *get_vacant(struct weir__extents *extents, struct node *node)
{
    struct weir_stack_node *vacant;
    while ((vacant = weir_stack_pop(&node->vacant)) == NULL)
        if (!make_vacant(extents, node))
            return NULL;
    return descriptor_of(vacant);
}

/* --- the pools --- */

static void mark_used(struct node *node, size_t n)
{
    uint64_t *word = &node->used[(n - 1) / 64], bit = UINT64_C(1) << (n - 1) % 64;
    uint64_t was = weir_load_relaxed(word); /* relaxed, both: see struct node */
    while (weir_unlikely((was & bit) == 0) && !weir_cas_relaxed(word, &was, was | bit))
        ;
}

static bool is_used(const struct node *node, size_t n)
{
    return (weir_load_relaxed(&node->used[(n - 1) / 64]) >> (n - 1) % 64 & 1) != 0; /* see struct node */
}

/* False if there is no descriptor for it. */
static bool put_idle(struct weir__extents *extents, unsigned node, void *extent, size_t n)
{
    struct descriptor *descriptor = get_vacant(extents, &extents->nodes[node]);
    if (descriptor == NULL)
        return false;
    descriptor->extent = extent;
    mark_used(&extents->nodes[node], n);
    weir_pool_put(pool_of(extents, node, n), &descriptor->node);
    return true;
}

/* The descriptor stays with the node. */
static void *get_idle(struct weir__extents *extents, unsigned node, size_t n)
{
    struct weir_stack_node *got = weir_pool_get(pool_of(extents, node, n));
    if (got == NULL)
        return NULL;
    void *extent = descriptor_of(got)->extent;
    weir_stack_push(&extents->nodes[node].vacant, got);
    return extent;
}

static void *get_idle_elsewhere(struct weir__extents *extents, unsigned node, size_t n)
{
    void *extent = NULL;
    for (unsigned i = 1; extent == NULL && i < extents->nr_nodes; i++) {
        unsigned other = (node + i) % extents->nr_nodes;
        if (is_used(&extents->nodes[other], n))
            extent = get_idle(extents, other, n);
    }
    return extent;
}

/* Calls `visit` for each pool that was ever put to; the sum of what it returns. */
static size_t each_pool(const struct weir__extents *extents,
                        size_t (*visit)(const struct weir__extents *, unsigned node, size_t n, unsigned arg),
                        unsigned arg)
{
    size_t sum = 0;
    for (unsigned node = 0; node < extents->nr_nodes; node++)
        for (size_t word = 0; word < SIZES / 64; word++) {
            uint64_t used = weir_load_relaxed(&extents->nodes[node].used[word]); /* see struct node */
            for (; used != 0; used &= used - 1)
                sum += visit(extents, node, word * 64 + (size_t)__builtin_ctzll(used) + 1, arg);
        }
    return sum;
}

static size_t decay_pool(const struct weir__extents *extents, unsigned node, size_t n, unsigned percent)
{
    size_t count;
    struct weir_stack_node *first = weir_pool_decay(pool_of(extents, node, n), percent, &count), *last = NULL;
    if (first == NULL)
        return 0;
    for (struct weir_stack_node *at = first; at != NULL; at = weir_stack_next(at)) {
        weir__frames_free_run(extents->frames, descriptor_of(at)->extent, n);
        last = at;
    }
    weir_stack_push_batch(&extents->nodes[node].vacant, first, last);
    return count * n;
}

size_t weir__extents_decay(struct weir__extents *extents, unsigned percent)
{
    /* Acquire: pairs with the release below: counts what the last one has left. */
    if (weir_xchg_acquire(&extents->walking, 1u) != 0)
        return 0;
    size_t given = each_pool(extents, decay_pool, percent);
    weir_store_release(&extents->walking, 0u);
    return given;
}

/* --- alloc --- */

/* What this CPU's pool does not have; *pooled if it comes from another one's. */
static void *find(struct weir__extents *extents, unsigned node, size_t n, bool *pooled)
{
    void *extent = weir__frames_alloc_run(extents->frames, n);
    if (extent != NULL)
        return extent;
    extent = get_idle_elsewhere(extents, node, n);
    *pooled = extent != NULL;
    if (extent != NULL)
        return extent;
    weir__extents_decay(extents, 100);
    return weir__frames_alloc_run(extents->frames, n);
}

void *weir__extents_alloc(struct weir__extents *extents, size_t n)
{
    if (n == 0 || n > SIZES)
        return NULL;
    unsigned cpu = weir_percpu_cpu(), node = cpu < extents->nr_nodes ? cpu : cpu % extents->nr_nodes;
    void *extent = get_idle(extents, node, n);
    bool pooled = extent != NULL;
    if (!pooled)
        extent = find(extents, node, n, &pooled);
    if (extent == NULL)
        return NULL;
    size_t index = (size_t)((char *)extent - extents->frames->base) >> extents->frames->frame_shift;
    /* Relaxed: nobody knows of the extent yet; who frees it has it from the caller. */
    weir_store_relaxed(&extents->table[index], (uint16_t)(ENTRY_OUT | node << ENTRY_NODE_SHIFT | (n - 1)));
    struct node *own = &extents->nodes[node];
    /* Relaxed: statistics. `pages` is added before anybody can subtract: it is never below zero. */
    weir_fetch_add_relaxed(&own->pages, n);
    weir_fetch_add_relaxed(pooled ? &own->hits : &own->misses, UINT64_C(1));
    return extent;
}

/* --- free --- */

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

__attribute__((noreturn, format(printf, 4, 5))) static void
misuse(const struct weir__extents *extents, const void *extent, size_t n, const char *format, ...)
{
    char what[160];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    fprintf(stderr, "weir: page cache \"%s\": extent %p of %zu page%s is given to weir_extent_free()%s\n",
            extents->name, extent, n, plural(n), what);
    abort();
}

/* The number of an extent's first frame. */
static size_t index_of(const struct weir__extents *extents, const void *extent, size_t n)
{
    const struct weir__frames *frames = extents->frames;
    uintptr_t offset = (uintptr_t)extent - (uintptr_t)frames->base;
    if (weir_unlikely(offset >> frames->frame_shift >= frames->frames))
        misuse(extents, extent, n, ", but it is none of its pages");
    if (weir_unlikely((offset & (frames->frame_bytes - 1)) != 0))
        misuse(extents, extent, n, ", but it points into the middle of a page");
    return offset >> frames->frame_shift;
}

static size_t size_of(uint16_t entry)
{
    return (size_t)(entry & ENTRY_SIZE) + 1;
}

/* Says what is wrong with the free of an extent whose entry was `entry`. */
__attribute__((noreturn, cold)) static void stop(const struct weir__extents *extents, size_t index,
                                                 uint16_t entry, const void *extent, size_t n)
{
    if (entry != 0)
        misuse(extents, extent, size_of(entry), " as one of %zu", n);
    for (size_t back = 1; back < SIZES && back <= index; back++) {
        uint16_t before = weir_load_relaxed(&extents->table[index - back]); /* relaxed: it is only named */
        if (before != 0 && size_of(before) > back)
            misuse(extents, extent, n, ", but it is in the middle of the one of %zu pages at %p",
                   size_of(before),
                   (const void *)((const char *)extent - (back << extents->frames->frame_shift)));
    }
    misuse(extents, extent, n, ", but it is not out: it is free already, or was not allocated as an extent");
}

void weir__extents_free(struct weir__extents *extents, void *extent, size_t n)
{
    size_t index = index_of(extents, extent, n);
    /* Relaxed: of two that free it, whoever swaps second finds that it is not out. What the caller wrote to
     * the extent, the pool or the frames release. */
    uint16_t entry = weir_xchg_relaxed(&extents->table[index], (uint16_t)0);
    if (weir_unlikely(entry == 0 || size_of(entry) != n))
        stop(extents, index, entry, extent, n);
    unsigned node = (unsigned)(entry & ~ENTRY_OUT) >> ENTRY_NODE_SHIFT;
    struct node *own = &extents->nodes[node];
    /* Before it can be had again, so that no more is counted than there is. Relaxed: statistics. */
    weir_fetch_sub_relaxed(&own->pages, n);
    weir_fetch_add_relaxed(&own->frees, UINT64_C(1));
    if (!put_idle(extents, node, extent, n))
        weir__frames_free_run(extents->frames, extent, n);
}

/* --- what there is --- */

static size_t count_pool(const struct weir__extents *extents, unsigned node, size_t n, unsigned arg)
{
    (void)arg;
    return weir_pool_count(pool_of(extents, node, n)) * n;
}

size_t weir__extents_idle(const struct weir__extents *extents)
{
    return each_pool(extents, count_pool, 0);
}

size_t weir__extents_frames(const struct weir__extents *extents)
{
    return weir_load_relaxed(&extents->nr_chunks); /* relaxed: for when all is still */
}

void weir__extents_stats(const struct weir__extents *extents, struct weir_page_cache_stats *stats)
{
    uint64_t hits = 0, misses = 0, frees = 0;
    size_t pages = 0;
    for (unsigned i = 0; i < extents->nr_nodes; i++) {
        const struct node *node = &extents->nodes[i];
        /* Relaxed, all: statistics. */
        frees += weir_load_relaxed(&node->frees);
        pages += weir_load_relaxed(&node->pages);
        hits += weir_load_relaxed(&node->hits);
        misses += weir_load_relaxed(&node->misses);
    }
    stats->extents = hits + misses > frees ? (size_t)(hits + misses - frees) : 0;
    stats->extent_pages = pages;
    stats->extent_pool_pages = weir__extents_idle(extents);
    stats->extent_pool_hits = hits;
    stats->extent_misses = misses;
}

void weir__extents_each_out(struct weir__extents *extents, void (*found)(void *arg, void *extent, size_t n),
                            void *arg)
{
    const struct weir__frames *frames = extents->frames;
    for (size_t i = 0; i < frames->frames;) {
        uint16_t entry = weir_load_relaxed(&extents->table[i]); /* relaxed: all is still */
        if (entry != 0)
            found(arg, frames->base + (i << frames->frame_shift), size_of(entry));
        i += entry != 0 ? size_of(entry) : 1;
    }
}
