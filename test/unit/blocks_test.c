/* SPDX-License-Identifier: MIT */
/*
 * The pools of empty magazines: where their memory comes from, what is given back of it and when, and that
 * nothing is lost when there is none.
 */
#include "blocks.h"
#include "fixtures.h"
#include "futex.h"
#include "weir/free_rcu.h"
#include "weir/page_cache.h"

#include "weir_test.h"

enum { SMALL = 124, WHOLE = WEIR_RECLAIMER_CAPACITY_DEFAULT, MANY = 100 };

static struct weir__blocks blocks;
static struct weir_magazine *held[MANY];

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Magazines of which each has at least a page, on machines with larger pages, too. */
static size_t whole_capacity(void)
{
    return page_bytes() == 4096 ? WHOLE : WEIR_MAGAZINE_CAPACITY(page_bytes() - sizeof(void *));
}

static void start(size_t capacity, const struct weir_block_source *source)
{
    cr_assert_eq(weir_percpu_init(), 0);
    cr_assert_eq(weir__blocks_init(&blocks, capacity, source, NULL), 0);
}

static struct weir_magazine *get(void)
{
    return weir__blocks_get(&blocks, 0, true);
}

static void put(struct weir_magazine *magazine)
{
    weir__blocks_put(&blocks, 0, magazine);
}

/* Full of pointers that are not NULL. */
static void fill(struct weir_magazine *magazine)
{
    while (weir_magazine_put(magazine, &blocks))
        ;
}

static void get_n(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        held[i] = get();
        cr_assert_not_null(held[i]);
        fill(held[i]);
    }
}

static void put_n(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put(held[i]);
}

static struct weir_block_stats stats_now(void)
{
    struct weir_block_stats stats;
    weir__blocks_stats(&blocks, &stats);
    return stats;
}

/* How many of the first n that were held have memory now. */
static unsigned resident(unsigned n)
{
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned char pages[64] = {0};
        void *first = (void *)((uintptr_t)held[i] & ~(page_bytes() - 1));
        cr_assert_eq(mincore(first, blocks.whole, pages), 0);
        for (size_t j = 0; j < blocks.whole / page_bytes(); j++)
            if (pages[j] & 1) {
                count++;
                break;
            }
    }
    return count;
}

static bool was_held(const struct weir_magazine *magazine, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (held[i] == magazine)
            return true;
    return false;
}

/* --- a source of pages that counts, runs out, and writes over what comes back --- */

enum { BANK = 300, UNIT = 4096 };

static struct bank {
    char (*memory)[UNIT];
    unsigned out[BANK];
    unsigned calls, fail_from, fail_n; /* as in struct chunks */
    void (*entered)(void);             /* NULL, or called by put first */
} bank;

static void *bank_get(void *arg, size_t *bytes)
{
    (void)arg;
    unsigned call = ++bank.calls;
    if (call >= bank.fail_from && call - bank.fail_from < bank.fail_n)
        return NULL;
    for (unsigned i = 0; i < BANK; i++)
        if (bank.out[i] == 0) {
            bank.out[i] = 1;
            *bytes = UNIT;
            return bank.memory[i];
        }
    return NULL;
}

static void bank_put(void *arg, void *memory, size_t bytes)
{
    size_t offset = (size_t)((char *)memory - bank.memory[0]);
    (void)arg;
    if (bank.entered != NULL)
        bank.entered();
    cr_assert_eq(bytes, (size_t)UNIT);
    cr_assert_lt(offset, sizeof bank.memory[0] * BANK);
    cr_assert_eq(offset % UNIT, 0u);
    cr_assert_eq(bank.out[offset / UNIT], 1u, "a page came back twice");
    bank.out[offset / UNIT] = 0;
    memset(memory, 0xA5, UNIT);
}

static unsigned bank_out(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < BANK; i++)
        n += bank.out[i];
    return n;
}

static struct weir_block_source bank_open(void)
{
    bank = (struct bank){.memory = aligned_alloc(UNIT, sizeof bank.memory[0] * BANK)};
    cr_assert_not_null(bank.memory);
    memset(bank.memory, 0xA5, sizeof bank.memory[0] * BANK);
    return (struct weir_block_source){bank_get, bank_put, NULL, UNIT};
}

static void start_with_bank(unsigned fail_from, unsigned fail_n)
{
    struct weir_block_source source = bank_open();
    bank.fail_from = fail_from;
    bank.fail_n = fail_n;
    start(WHOLE, &source);
}

static void finish_with_bank(void)
{
    weir__blocks_destroy(&blocks);
    cr_assert_eq(bank_out(), 0u, "%u pages were not given back", bank_out());
    free(bank.memory);
}

/* --- whole ones, from the system --- */

Test(blocks, magazine_of_a_page_has_it_for_itself)
{
    start(whole_capacity(), NULL);
    get_n(MANY);
    cr_assert_eq(blocks.whole, page_bytes());
    for (unsigned i = 0; i < MANY; i++) {
        cr_assert_eq((uintptr_t)held[i] % page_bytes(), 0u);
        cr_assert_eq(held[i]->capacity, whole_capacity());
        for (unsigned j = 0; j < i; j++)
            cr_assert_neq(held[i], held[j]);
    }
    put_n(MANY);
    weir__blocks_destroy(&blocks);
}

Test(blocks, memory_of_what_is_given_back_is_gone_and_its_address_is_used_again)
{
    start(whole_capacity(), NULL);
    get_n(MANY);
    cr_assert_eq(resident(MANY), (unsigned)MANY);
    put_n(MANY);
    cr_assert_eq(resident(MANY), (unsigned)MANY, "it stays while it is idle");
    cr_assert_eq(weir__blocks_shrinkable(&blocks), MANY * page_bytes());
    cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), MANY * page_bytes());
    cr_assert_eq(resident(MANY), 0u);
    cr_assert_eq(held[0]->count, 0u, "it can still be read");
    cr_assert_eq(stats_now().total, 0u);
    cr_assert_eq(stats_now().given_back, (uint64_t)MANY);
    struct weir_magazine *again[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        again[i] = get();
        cr_assert(was_held(again[i], MANY), "the arena has grown, though it had room");
        cr_assert_eq(again[i]->capacity, whole_capacity());
        cr_assert_eq(again[i]->count, 0u);
    }
    for (unsigned i = 0; i < MANY; i++)
        put(again[i]);
    weir__blocks_destroy(&blocks);
}

Test(blocks, memory_is_used_when_a_magazine_is_made_not_before)
{
    start(whole_capacity(), NULL);
    get_n(1);
    cr_assert_eq(stats_now().total, 1u);
    char *next = (char *)held[0] + page_bytes(), *previous = (char *)held[0] - page_bytes();
    unsigned char here = 0;
    cr_assert_eq(mincore(next, 1, &here), 0);
    cr_assert_eq(here & 1, 0, "the next one's memory is there already");
    cr_assert_eq(mincore(previous, 1, &here), 0);
    cr_assert_eq(here & 1, 1, "where the blocks are");
    put_n(1);
    weir__blocks_destroy(&blocks);
}

Test(blocks, magazine_of_many_pages_is_given_back_whole)
{
    size_t capacity = 10 * page_bytes() / sizeof(void *);
    start(capacity, NULL);
    cr_assert_eq(blocks.whole, 11 * page_bytes());
    get_n(40); /* more than there are in a chunk */
    cr_assert_eq(held[0]->capacity, capacity);
    put_n(40);
    cr_assert_eq(weir__blocks_shrink(&blocks, 15), 15 * 11 * page_bytes());
    cr_assert_eq(resident(40), 25u);
    weir__blocks_destroy(&blocks);
}

Test(blocks, magazine_larger_than_a_chunk_has_one)
{
    start(65536, NULL);
    get_n(3);
    put_n(3);
    cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), 3 * blocks.whole);
    weir__blocks_destroy(&blocks);
}

Test(blocks, memory_that_is_locked_stays)
{
    start(whole_capacity(), NULL);
    get_n(2);
    /* Not everybody may. (The sanitizers' mlock() does nothing.) */
    bool locked = syscall(SYS_mlock, held[0], page_bytes()) == 0;
    put(held[1]);
    put(held[0]);
    cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), locked ? 0 : 2 * page_bytes());
    if (locked) {
        cr_assert_eq(stats_now().total, 2u);
        cr_assert_eq(syscall(SYS_munlock, held[0], page_bytes()), 0);
        cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), 2 * page_bytes());
    }
    weir__blocks_destroy(&blocks);
}

/* --- how much is given back --- */

Test(blocks, shrink_gives_back_no_more_than_asked_and_nothing_that_is_in_use)
{
    start(whole_capacity(), NULL);
    get_n(10);
    cr_assert_eq(weir__blocks_shrinkable(&blocks), 0u);
    cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), 0u);
    put_n(6);
    cr_assert_eq(weir__blocks_shrink(&blocks, 0), 0u);
    cr_assert_eq(weir__blocks_shrink(&blocks, 2), 2 * page_bytes());
    cr_assert_eq(stats_now().total, 8u);
    cr_assert_eq(stats_now().in_use, 4u);
    cr_assert_eq(weir__blocks_shrink(&blocks, 100), 4 * page_bytes());
    cr_assert_eq(stats_now().total, 4u);
    for (unsigned i = 6; i < 10; i++)
        cr_assert_eq(held[i]->count, held[i]->capacity);
    for (unsigned i = 6; i < 10; i++)
        put(held[i]);
    weir__blocks_destroy(&blocks);
}

Test(blocks, shrink_takes_from_every_domain)
{
    struct weir__topology topology;
    cr_assert_eq(weir__topology_split(&topology, 2, 2), 0);
    cr_assert_eq(weir__blocks_init(&blocks, whole_capacity(), NULL, &topology), 0);
    get_n(8);
    for (unsigned i = 0; i < 8; i++)
        weir__blocks_put(&blocks, i < 2, held[i]);
    cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), 8 * page_bytes());
    cr_assert_eq(stats_now().total, 0u);
    weir__blocks_destroy(&blocks);
    weir__topology_free(&topology);
}

Test(blocks, small_magazines_stay_whatever_the_pressure)
{
    start(SMALL, NULL);
    get_n(20);
    weir__blocks_press(&blocks, UINT64_MAX);
    put_n(20);
    size_t total = stats_now().total;
    cr_assert_geq(total, 20u);
    cr_assert_eq(weir__blocks_shrinkable(&blocks), 0u);
    cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), 0u);
    cr_assert_eq(stats_now().total, total);
    cr_assert_eq(stats_now().in_use, 0u);
    cr_assert_eq(stats_now().given_back, 0u);
    weir__blocks_destroy(&blocks);
}

static size_t shrunk_meanwhile;

static void shrink_meanwhile(void)
{
    shrunk_meanwhile += weir__blocks_shrink(&blocks, 1);
}

Test(blocks, second_shrink_at_once_gives_back_nothing)
{
    start_with_bank(0, 0);
    get_n(5);
    put_n(5);
    bank.entered = shrink_meanwhile;
    cr_assert_eq(weir__blocks_shrink(&blocks, 3), (size_t)3 * UNIT);
    cr_assert_eq(shrunk_meanwhile, 0u);
    bank.entered = NULL;
    cr_assert_eq(weir__blocks_shrink(&blocks, 3), (size_t)2 * UNIT, "the first is over");
    finish_with_bank();
}

/* --- a reserve --- */

Test(blocks, reserve_is_made_ahead_and_left_alone)
{
    start_with_bank(0, 0);
    cr_assert_eq(weir__blocks_reserve(&blocks, 4), 0);
    cr_assert_eq(stats_now().total, 4u);
    cr_assert_eq(weir__blocks_shrinkable(&blocks), 0u);
    cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), 0u);
    bank.fail_n = UINT32_MAX;
    get_n(4);
    cr_assert_null(get());
    bank.fail_n = 0;
    for (unsigned i = 4; i < 10; i++)
        cr_assert_not_null(held[i] = get());
    put_n(10);
    cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), (size_t)6 * UNIT);
    cr_assert_eq(stats_now().total, 4u);
    cr_assert_eq(stats_now().in_use, 0u);
    finish_with_bank();
}

Test(blocks, reserve_of_small_ones_is_made_ahead_too)
{
    start(SMALL, NULL);
    cr_assert_eq(weir__blocks_reserve(&blocks, 100), 0);
    for (unsigned i = 0; i < 100; i++)
        cr_assert_not_null(held[i] = weir__blocks_get(&blocks, 0, false));
    cr_assert_eq(stats_now().grown, 0u);
    put_n(100);
    weir__blocks_destroy(&blocks);
}

Test(blocks, reserve_that_cannot_be_had_is_an_error)
{
    start_with_bank(5, UINT32_MAX);
    cr_assert_eq(weir__blocks_reserve(&blocks, 4), -ENOMEM);
    finish_with_bank();
}

/* --- pressure --- */

Test(blocks, under_pressure_what_comes_back_above_the_reserve_is_given_back)
{
    start_with_bank(0, 0);
    cr_assert_eq(weir__blocks_reserve(&blocks, 2), 0);
    get_n(10);
    weir__blocks_press(&blocks, UINT64_MAX);
    put_n(6);
    cr_assert_eq(stats_now().total, 6u, "two idle and four in use");
    cr_assert_eq(stats_now().in_use, 4u);
    cr_assert_eq(stats_now().given_back, UINT64_C(4));
    weir__blocks_press(&blocks, 0);
    for (unsigned i = 6; i < 10; i++)
        put(held[i]);
    cr_assert_eq(stats_now().total, 6u);
    finish_with_bank();
}

Test(blocks, pressure_ends_when_its_time_is_over)
{
    start_with_bank(0, 0);
    get_n(3);
    weir__blocks_press(&blocks, weir__milliseconds() + 3600 * 1000);
    put(held[0]);
    cr_assert_eq(stats_now().total, 2u);
    weir__blocks_press(&blocks, weir__milliseconds());
    put(held[1]);
    cr_assert_eq(stats_now().total, 2u);
    cr_assert_eq(weir_load_relaxed(&blocks.press_until), UINT64_C(0), "the clock is read no more");
    put(held[2]);
    cr_assert_eq(stats_now().total, 2u);
    finish_with_bank();
}

/* --- sources --- */

Test(blocks, source_that_fails_once_loses_nothing)
{
    for (unsigned fail = 1; fail <= 8; fail++) {
        unsigned n = 0, misses = 0;
        start_with_bank(fail, 1);
        while (n < 6) {
            struct weir_magazine *magazine = get();
            if (magazine == NULL) {
                misses++;
                continue;
            }
            fill(magazine);
            held[n++] = magazine;
        }
        cr_assert_eq(misses, fail <= 7 ? 1u : 0u, "six magazines and their blocks: seven calls");
        cr_assert_eq(stats_now().misses, (uint64_t)misses);
        cr_assert_eq(stats_now().total, 6u);
        put_n(6);
        cr_assert_eq(bank_out(), 7u);
        cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), (size_t)6 * UNIT);
        cr_assert_eq(bank_out(), 1u);
        finish_with_bank();
    }
}

Test(blocks, source_that_fails_for_ever_gives_what_it_has_given)
{
    start_with_bank(4, UINT32_MAX);
    get_n(2);
    for (unsigned i = 0; i < 1000; i++)
        cr_assert_null(get());
    cr_assert_eq(stats_now().misses, UINT64_C(1000));
    put(held[1]);
    cr_assert_eq(get(), held[1]);
    cr_assert_eq(held[1]->count, 0u);
    bank.fail_n = 0;
    held[2] = get();
    cr_assert_eq(bank_out(), 4u, "three, and the one for the blocks, of which none was lost");
    put_n(3);
    finish_with_bank();
}

Test(blocks, one_page_of_blocks_is_enough_for_hundreds)
{
    start_with_bank(0, 0);
    for (unsigned i = 0; i < 3; i++) {
        get_n(MANY);
        cr_assert_eq(bank_out(), MANY + 1u);
        put_n(MANY);
        cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), (size_t)MANY * UNIT);
    }
    finish_with_bank();
}

Test(blocks, small_magazines_share_a_source_s_units_to_the_end)
{
    struct weir_block_source source = bank_open();
    start(SMALL, &source);
    get_n(6);
    cr_assert_eq(bank_out(), 2u, "three in each, behind the line of its header");
    for (unsigned i = 0; i < 6; i++)
        cr_assert_eq((uintptr_t)held[i] % WEIR__CHUNK_LINE, 0u, "no two share a line");
    put_n(6);
    cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), 0u);
    cr_assert_eq(bank_out(), 2u);
    finish_with_bank();
}

/* Chunks with room for one magazine behind a header, but not at the next line; and with less. */
Test(blocks, one_magazine_needs_no_line_of_its_own)
{
    struct chunks chunks;
    struct weir_block_source source = chunks_init(&chunks, 1, SMALL);
    chunks.bytes = 16 + WEIR_MAGAZINE_BYTES(SMALL);
    start(SMALL, &source);
    get_n(3);
    cr_assert_eq(chunks.out, 3u);
    cr_assert_eq(held[0]->capacity, (uint32_t)SMALL);
    put_n(3);
    weir__blocks_destroy(&blocks);
    cr_assert_eq(chunks.out, 0u);
    source = chunks_init(&chunks, 1, SMALL);
    chunks.bytes = 8 + WEIR_MAGAZINE_BYTES(SMALL);
    start(SMALL, &source);
    cr_assert_null(get());
    cr_assert_eq(chunks.out, 0u, "it was given back");
    weir__blocks_destroy(&blocks);
}

Test(blocks, magazine_that_does_not_fit_a_unit_is_an_error)
{
    struct weir_block_source source = bank_open();
    cr_assert_eq(weir__blocks_init(&blocks, WHOLE, &source, NULL), 0);
    weir__blocks_destroy(&blocks);
    cr_assert_eq(weir__blocks_init(&blocks, WHOLE + 1, &source, NULL), -EINVAL);
    finish_with_bank();
}

/* --- a page cache as source --- */

static struct weir_page_cache *pages;

static struct weir_page_cache_stats page_stats(void)
{
    struct weir_page_cache_stats stats;
    weir_page_cache_stats(pages, &stats);
    return stats;
}

static void start_with_pages(size_t capacity)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    struct weir_block_source source;
    config.capacity = 2 << 20;
    cr_assert_eq(weir_page_cache_create(&pages, &config), 0);
    weir_page_cache_block_source(pages, &source);
    start(capacity, &source);
}

Test(blocks, page_cache_lends_its_frames_and_gets_them_back)
{
    start_with_pages(WHOLE);
    size_t before = page_stats().block_pages, frames = page_stats().frames;
    get_n(10);
    cr_assert_eq(page_stats().block_pages, before + 11, "ten, and one for the blocks");
    cr_assert_eq(page_stats().frames, frames + 11);
    put_n(10);
    cr_assert_eq(weir__blocks_shrink(&blocks, 7), (size_t)7 * 4096);
    cr_assert_eq(page_stats().block_pages, before + 4);
    cr_assert_eq(page_stats().frames, frames + 4);
    weir__blocks_destroy(&blocks);
    cr_assert_eq(page_stats().block_pages, before);
    cr_assert_eq(page_stats().frames, frames);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
}

Test(blocks, page_cache_is_busy_until_its_borrower_is_destroyed)
{
    start_with_pages(WHOLE);
    get_n(1);
    cr_assert_eq(weir_page_cache_destroy(pages), -EBUSY);
    put_n(1);
    cr_assert_eq(weir__blocks_shrink(&blocks, SIZE_MAX), (size_t)4096);
    cr_assert_eq(weir_page_cache_destroy(pages), -EBUSY, "the blocks are there");
    weir__blocks_destroy(&blocks);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
}

Test(blocks, exhausted_page_cache_gives_no_magazine_and_loses_nothing)
{
    start_with_pages(WHOLE);
    void *taken[1024] = {NULL};
    size_t n = weir_page_alloc_bulk_array(pages, 1024, taken);
    cr_assert_lt(n, 1024u);
    cr_assert_null(get());
    weir_page_free_bulk(pages, 1024, taken);
    weir_page_cache_drain_all(pages, fixture_locked() ? WEIR_DRAIN_LOCK : WEIR_DRAIN_EXPEDITED);
    get_n(MANY);
    put_n(MANY);
    weir__blocks_destroy(&blocks);
    cr_assert_eq(weir_page_cache_destroy(pages), 0);
}
