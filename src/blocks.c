/* SPDX-License-Identifier: MIT */
/* blocks.c - the pools of empty magazines: see blocks.h. */
#define _GNU_SOURCE
#include "blocks.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SYSTEM_CHUNK ((size_t)64 * 1024)

/* At the start of each chunk; blocks follow. */
struct chunk {
    struct weir_llist_node link;
    size_t bytes;
};
_Static_assert(sizeof(struct chunk) <= WEIR__CHUNK_HEADER, "the header's size is part of the interface");

static void *system_get(void *arg, size_t *bytes)
{
    size_t least = sizeof(struct chunk) + *(const size_t *)arg;
    *bytes = least > SYSTEM_CHUNK ? (least + 4095) & ~(size_t)4095 : SYSTEM_CHUNK;
    void *chunk = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return chunk != MAP_FAILED ? chunk : NULL;
}

static void system_put(void *arg, void *chunk, size_t bytes)
{
    (void)arg;
    munmap(chunk, bytes);
}

int weir__blocks_init(struct weir__blocks *blocks, size_t capacity, const struct weir__chunk_source *source,
                      const struct weir__topology *topology)
{
    *blocks = (struct weir__blocks){.block_bytes = WEIR_MAGAZINE_BYTES(capacity),
                                    .topology = topology != NULL ? topology : weir__topology()};
    if (source != NULL)
        blocks->source = *source;
    else
        blocks->source = (struct weir__chunk_source){system_get, system_put, &blocks->block_bytes};
    if (blocks->topology == NULL)
        return -ENOMEM;
    size_t domains = blocks->topology->domains;
    blocks->idle = aligned_alloc(WEIR_LINE_PAIR, domains * sizeof blocks->idle[0]);
    if (blocks->idle == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < domains; i++)
        weir_pool_init(&blocks->idle[i].pool);
    return 0;
}

void weir__blocks_destroy(struct weir__blocks *blocks)
{
    struct weir_llist_node *chunks = weir_llist_del_all(&blocks->chunks);
    weir_llist_for_each_entry_safe(chunk, next, chunks, struct chunk, link)
        blocks->source.put(blocks->source.arg, chunk, chunk->bytes);
    free(blocks->idle);
}

/* The pool that a CPU uses. */
static struct weir_pool *pool_of(struct weir__blocks *blocks, unsigned cpu)
{
    return &blocks->idle[blocks->topology->domain_of[cpu]].pool;
}

bool weir__blocks_grow(struct weir__blocks *blocks, unsigned cpu)
{
    size_t bytes;
    struct chunk *chunk = blocks->source.get(blocks->source.arg, &bytes);
    if (chunk == NULL)
        return false;
    chunk->bytes = bytes;

    size_t n = (bytes - sizeof *chunk) / blocks->block_bytes;
    char *memory = (char *)(chunk + 1);
    struct weir_magazine *first = NULL, *last = NULL;
    for (size_t i = n; i-- > 0;) {
        struct weir_magazine *magazine =
            weir_magazine_init(memory + i * blocks->block_bytes, blocks->block_bytes);
        weir_stack_link(&magazine->node, first != NULL ? &first->node : NULL);
        first = magazine;
        if (last == NULL)
            last = magazine;
    }
    weir_llist_add(&chunk->link, &blocks->chunks);
    weir_fetch_add_relaxed(&blocks->chunk_count, (size_t)1); /* relaxed, both: statistics */
    weir_fetch_add_relaxed(&blocks->total, n);
    if (n != 0)
        weir_pool_put_batch(pool_of(blocks, cpu), &first->node, &last->node, n);
    return n != 0;
}

/* One that is idle, wherever. */
static struct weir_stack_node *get_idle(struct weir__blocks *blocks, unsigned cpu)
{
    struct weir_stack_node *node = weir_pool_get(pool_of(blocks, cpu));
    unsigned domains = blocks->topology->domains, domain = blocks->topology->domain_of[cpu];
    for (unsigned i = 1; node == NULL && i < domains; i++)
        node = weir_pool_get(&blocks->idle[(domain + i) % domains].pool);
    return node;
}

struct weir_magazine *weir__blocks_get(struct weir__blocks *blocks, unsigned cpu, bool may_grow)
{
    struct weir_stack_node *node = get_idle(blocks, cpu);
    bool grown = false;
    while (node == NULL && may_grow && weir__blocks_grow(blocks, cpu)) {
        node = get_idle(blocks, cpu); /* others may have taken all of it: grow again */
        grown = true;
    }
    /* Relaxed: statistics. The usual case is not counted, it would be one more line that all share. */
    if (node == NULL)
        weir_fetch_add_relaxed(&blocks->counts.misses, UINT64_C(1));
    else if (grown)
        weir_fetch_add_relaxed(&blocks->counts.grown, UINT64_C(1));
    return weir_magazine_of_node(node);
}

void weir__blocks_put(struct weir__blocks *blocks, unsigned cpu, struct weir_magazine *magazine)
{
    weir__magazine_set_count(magazine, 0);
    weir_pool_put(pool_of(blocks, cpu), &magazine->node);
}

void weir__blocks_stats(const struct weir__blocks *blocks, struct weir_block_stats *stats)
{
    size_t idle = 0;
    for (unsigned i = 0; i < blocks->topology->domains; i++)
        idle += weir_pool_count(&blocks->idle[i].pool);
    stats->total = weir_load_relaxed(&blocks->total);
    stats->in_use = stats->total > idle ? stats->total - idle : 0;
    stats->grown = weir_load_relaxed(&blocks->counts.grown);
    stats->misses = weir_load_relaxed(&blocks->counts.misses);
}
