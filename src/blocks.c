/* SPDX-License-Identifier: MIT */
/* blocks.c - the pools of empty magazines: see blocks.h. */
#define _GNU_SOURCE
#include "blocks.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "futex.h"

#define SYSTEM_CHUNK ((size_t)64 * 1024)
#define SYSTEM_ARENA ((size_t)256 * 1024) /* a chunk of whole ones: memory is used when one is made */

/* At the start of each chunk. What they share, or blocks, or both follow. */
struct chunk {
    struct weir_llist_node link;
    size_t bytes;
};
_Static_assert(sizeof(struct chunk) <= WEIR__CHUNK_HEADER, "the header's size is part of the interface");

/* Stands for a whole magazine. */
struct block {
    struct weir_stack_node node;
    void *memory; /* a vacant one's has nothing in it; where there is an arena it stays the same */
};

/* --- memory --- */

static void *system_get(void *arg, size_t *bytes)
{
    *bytes = *(const size_t *)arg;
    void *chunk = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return chunk != MAP_FAILED ? chunk : NULL;
}

static void system_put(void *arg, void *chunk, size_t bytes)
{
    (void)arg;
    munmap(chunk, bytes);
}

static size_t page_bytes(void)
{
    long bytes = sysconf(_SC_PAGESIZE);
    return bytes > 0 ? (size_t)bytes : 4096;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void use_system(struct weir__blocks *blocks)
{
    size_t page = page_bytes(), block = blocks->block_bytes;
    blocks->source = (struct weir_block_source){system_get, system_put, &blocks->system_chunk, 0};
    if (block >= page / 2) {
        blocks->whole = round_up(block + sizeof(struct block *), page);
        blocks->arena_header = page;
        blocks->system_chunk = larger(SYSTEM_ARENA, page + blocks->whole);
    } else {
        blocks->system_chunk =
            larger(SYSTEM_CHUNK, round_up(WEIR__CHUNK_HEADER + WEIR__CHUNK_STRIDE(block), page));
    }
}

/* False if they do not fit it. */
static bool use_source(struct weir__blocks *blocks, const struct weir_block_source *source)
{
    blocks->source = *source;
    if (source->unit == 0 || blocks->block_bytes < source->unit / 2)
        return true;
    blocks->whole = source->unit;
    return blocks->block_bytes + sizeof(struct block *) <= source->unit;
}

/* Are magazines whole, and each one's memory a unit of a source, not part of an arena's chunk? */
static bool has_units(const struct weir__blocks *blocks)
{
    return blocks->whole != 0 && blocks->arena_header == 0;
}

/* A chunk from the source, on the list. NULL: there is none, or not a large one. */
static struct chunk *get_chunk(struct weir__blocks *blocks, size_t bytes_at_least)
{
    size_t bytes;
    struct chunk *chunk = blocks->source.get(blocks->source.arg, &bytes);
    if (chunk == NULL)
        return NULL;
    if (bytes < bytes_at_least) {
        blocks->source.put(blocks->source.arg, chunk, bytes);
        return NULL;
    }
    chunk->bytes = bytes;
    weir_llist_add(&chunk->link, &blocks->chunks);
    return chunk;
}

/* --- making and unmaking --- */

int weir__blocks_init(struct weir__blocks *blocks, size_t capacity, const struct weir_block_source *source,
                      const struct weir__topology *topology)
{
    *blocks = (struct weir__blocks){.block_bytes = WEIR_MAGAZINE_BYTES(capacity),
                                    .topology = topology != NULL ? topology : weir__topology()};
    if (source == NULL)
        use_system(blocks);
    else if (!use_source(blocks, source))
        return -EINVAL;
    if (blocks->topology == NULL)
        return -ENOMEM;
    size_t domains = blocks->topology->domains;
    blocks->idle = aligned_alloc(WEIR_LINE_PAIR, domains * sizeof blocks->idle[0]);
    if (blocks->idle == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < domains; i++)
        weir_pool_init(&blocks->idle[i].pool);
    weir_stack_init(&blocks->vacant);
    return 0;
}

static struct block *block_of_node(struct weir_stack_node *node)
{
    return (struct block *)(void *)node; /* its first member */
}

/* Gives the memory of the idle whole magazines of one domain back. */
static void put_idle(struct weir__blocks *blocks, struct weir_pool *pool)
{
    size_t n;
    struct weir_stack_node *node = weir_pool_drain(pool, &n);
    for (; node != NULL; node = weir_stack_next(node))
        blocks->source.put(blocks->source.arg, block_of_node(node)->memory, blocks->whole);
}

void weir__blocks_destroy(struct weir__blocks *blocks)
{
    if (blocks->idle != NULL && has_units(blocks))
        for (unsigned i = 0; i < blocks->topology->domains; i++)
            put_idle(blocks, &blocks->idle[i].pool);
    struct weir_llist_node *chunks = weir_llist_del_all(&blocks->chunks);
    weir_llist_for_each_entry_safe(chunk, next, chunks, struct chunk, link)
        blocks->source.put(blocks->source.arg, chunk, chunk->bytes);
    free(blocks->idle);
}

/* --- whole magazines --- */

/* In the last word of its memory: the way back to its block. */
static struct block **way_back(const struct weir__blocks *blocks, void *memory)
{
    return (struct block **)(void *)((char *)memory + blocks->whole - sizeof(struct block *));
}

/* More vacant blocks; false if there is no memory for them. */
static bool make_vacant(struct weir__blocks *blocks)
{
    struct chunk *chunk = get_chunk(blocks, sizeof *chunk + sizeof(struct block));
    if (chunk == NULL)
        return false;
    struct block *block = (struct block *)(void *)(chunk + 1);
    size_t header = blocks->arena_header;
    size_t n = header != 0 ? (chunk->bytes - header) / blocks->whole
                           : (chunk->bytes - sizeof *chunk) / sizeof *block;
    for (size_t i = 0; i < n; i++) {
        block[i].memory = header != 0 ? (char *)chunk + header + i * blocks->whole : NULL;
        weir_stack_link(&block[i].node, i + 1 < n ? &block[i + 1].node : NULL);
    }
    weir_stack_push_batch(&blocks->vacant, &block[0].node, &block[n - 1].node);
    return true;
}

/* Makes the magazine of a block that was vacant; false if there is no memory. */
static bool furnish(struct weir__blocks *blocks, struct block *block)
{
    size_t bytes;
    if (has_units(blocks))
        block->memory = blocks->source.get(blocks->source.arg, &bytes);
    if (block->memory == NULL)
        return false;
    weir_magazine_init(block->memory, blocks->block_bytes);
    *way_back(blocks, block->memory) = block;
    weir_fetch_add_relaxed(&blocks->total, (size_t)1); /* relaxed: a statistic */
    return true;
}

/* Gives the memory of a block's magazine back, and leaves the block vacant. False, and nothing has happened,
 * if the system does not take it: it is locked into memory. */
static bool vacate(struct weir__blocks *blocks, struct block *block)
{
    if (has_units(blocks))
        blocks->source.put(blocks->source.arg, block->memory, blocks->whole);
    else if (madvise(block->memory, blocks->whole, MADV_DONTNEED) != 0)
        return false;
    weir_fetch_sub_relaxed(&blocks->total, (size_t)1); /* relaxed, both: statistics */
    weir_fetch_add_relaxed(&blocks->counts.given_back, UINT64_C(1));
    weir_stack_push(&blocks->vacant, &block->node);
    return true;
}

static bool make_whole(struct weir__blocks *blocks, struct weir_pool *pool)
{
    struct weir_stack_node *node;
    while ((node = weir_stack_pop(&blocks->vacant)) == NULL)
        if (!make_vacant(blocks))
            return false;
    if (!furnish(blocks, block_of_node(node))) {
        weir_stack_push(&blocks->vacant, node);
        return false;
    }
    weir_pool_put(pool, node);
    return true;
}

/* --- magazines that share --- */

/* How many fit behind a header of so many bytes. */
static size_t fitting(const struct weir__blocks *blocks, size_t bytes, size_t header)
{
    size_t block = blocks->block_bytes;
    return bytes >= header + block ? (bytes - header - block) / WEIR__CHUNK_STRIDE(block) + 1 : 0;
}

static bool make_sharing(struct weir__blocks *blocks, struct weir_pool *pool)
{
    struct chunk *chunk = get_chunk(blocks, sizeof *chunk + blocks->block_bytes);
    if (chunk == NULL)
        return false;

    size_t stride = WEIR__CHUNK_STRIDE(blocks->block_bytes);
    size_t header = round_up((uintptr_t)(chunk + 1), WEIR__CHUNK_LINE) - (uintptr_t)chunk;
    size_t n = fitting(blocks, chunk->bytes, header);
    if (n == 0) { /* one that is alone needs no line of its own */
        header = sizeof *chunk;
        n = 1;
    }
    char *memory = (char *)chunk + header;
    struct weir_magazine *first = NULL, *last = NULL;
    for (size_t i = n; i-- > 0;) {
        struct weir_magazine *magazine = weir_magazine_init(memory + i * stride, blocks->block_bytes);
        weir_stack_link(&magazine->node, first != NULL ? &first->node : NULL);
        first = magazine;
        if (last == NULL)
            last = magazine;
    }
    weir_fetch_add_relaxed(&blocks->total, n); /* relaxed: a statistic */
    weir_pool_put_batch(pool, &first->node, &last->node, n);
    return true;
}

/* --- get and put --- */

/* The pool that a CPU uses. */
static struct weir_pool *pool_of(struct weir__blocks *blocks, unsigned cpu)
{
    return &blocks->idle[blocks->topology->domain_of[cpu]].pool;
}

bool weir__blocks_grow(struct weir__blocks *blocks, unsigned cpu)
{
    struct weir_pool *pool = pool_of(blocks, cpu);
    return blocks->whole != 0 ? make_whole(blocks, pool) : make_sharing(blocks, pool);
}

static size_t count_idle(const struct weir__blocks *blocks)
{
    size_t idle = 0;
    for (unsigned i = 0; i < blocks->topology->domains; i++)
        idle += weir_pool_count(&blocks->idle[i].pool);
    return idle;
}

int weir__blocks_reserve(struct weir__blocks *blocks, size_t n)
{
    blocks->reserve = n;
    while (count_idle(blocks) < n)
        if (!weir__blocks_grow(blocks, 0))
            return -ENOMEM;
    return 0;
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
    if (node == NULL || blocks->whole == 0)
        return weir_magazine_of_node(node);
    return block_of_node(node)->memory;
}

/* Is there pressure, and as many idle as have to be? */
static bool not_wanted(struct weir__blocks *blocks)
{
    /* Relaxed, all: one that comes back a moment before or after is kept or not, either is right. */
    uint64_t until = weir_load_relaxed(&blocks->press_until);
    if (weir_likely(until == 0))
        return false;
    if (weir__milliseconds() < until)
        return count_idle(blocks) >= blocks->reserve;
    weir_cas_relaxed(&blocks->press_until, &until, UINT64_C(0)); /* over: nobody needs the clock any more */
    return false;
}

void weir__blocks_put(struct weir__blocks *blocks, unsigned cpu, struct weir_magazine *magazine)
{
    struct weir_stack_node *node = &magazine->node;
    weir__magazine_set_count(magazine, 0);
    if (blocks->whole != 0) {
        struct block *block = *way_back(blocks, magazine);
        if (not_wanted(blocks) && vacate(blocks, block))
            return;
        node = &block->node;
    }
    weir_pool_put(pool_of(blocks, cpu), node);
}

/* --- giving back --- */

/* The pool with the most. */
static struct weir_pool *fullest(struct weir__blocks *blocks)
{
    struct weir_pool *most = &blocks->idle[0].pool;
    for (unsigned i = 1; i < blocks->topology->domains; i++)
        if (weir_pool_count(&blocks->idle[i].pool) > weir_pool_count(most))
            most = &blocks->idle[i].pool;
    return most;
}

/* One that is idle, if it is not of the reserve. Only one at a time may ask, so that two do not take for
 * spare what is the last one. */
static bool shrink_by_one(struct weir__blocks *blocks)
{
    if (count_idle(blocks) <= blocks->reserve)
        return false;
    struct weir_pool *pool = fullest(blocks);
    struct weir_stack_node *node = weir_pool_get(pool);
    if (node == NULL)
        return false;
    if (vacate(blocks, block_of_node(node)))
        return true;
    weir_pool_put(pool, node);
    return false;
}

size_t weir__blocks_shrink(struct weir__blocks *blocks, size_t max)
{
    size_t n = 0;
    /* Acquire: pairs with the release below: counts what the last one has left. */
    if (blocks->whole == 0 || weir_xchg_acquire(&blocks->shrinking, 1u) != 0)
        return 0;
    while (n < max && shrink_by_one(blocks))
        n++;
    weir_store_release(&blocks->shrinking, 0u);
    return n * blocks->whole;
}

size_t weir__blocks_shrinkable(const struct weir__blocks *blocks)
{
    size_t idle = count_idle(blocks);
    return idle > blocks->reserve ? (idle - blocks->reserve) * blocks->whole : 0;
}

void weir__blocks_press(struct weir__blocks *blocks, uint64_t until_milliseconds)
{
    weir_store_relaxed(&blocks->press_until, until_milliseconds); /* relaxed: see not_wanted() */
}

void weir__blocks_stats(const struct weir__blocks *blocks, struct weir_block_stats *stats)
{
    size_t idle = count_idle(blocks);
    stats->total = weir_load_relaxed(&blocks->total);
    stats->in_use = stats->total > idle ? stats->total - idle : 0;
    stats->grown = weir_load_relaxed(&blocks->counts.grown);
    stats->misses = weir_load_relaxed(&blocks->counts.misses);
    stats->given_back = weir_load_relaxed(&blocks->counts.given_back);
}
