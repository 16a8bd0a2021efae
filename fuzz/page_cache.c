/* SPDX-License-Identifier: MIT */
/* fuzz: sources=../src/?*.c flags=-UWEIR_CHECKED,-U_GNU_SOURCE,-DWEIR_ATOMIC_HOOK="spurious.h",-DWEIR_WITH_MEMB=0,-DWEIR_WITH_CK=0,-I../test,-I../src,-Xlinker,--wrap=mmap,-Xlinker,--wrap=munmap,-Xlinker,--wrap=mprotect,-Xlinker,--wrap=malloc,-Xlinker,--wrap=aligned_alloc,-Xlinker,--wrap=clock_gettime,-Xlinker,--wrap=write libraries=-lurcu-qsbr,-ldl options=-max_len=774 */
/*
 * The page cache against a model: the input's bytes are a configuration and a sequence of operations, in one
 * thread that changes CPUs. The model knows what is out and what waits for a grace period, and what was
 * written to it. After each step the statistics must add up to the model; nothing may be handed out twice, or
 * while a reader could see it; what is out keeps its contents; an allocation may only fail if there is
 * nothing to be had; and in the end everything comes back.
 *
 * The first six bytes are the configuration (see read_config()), and after it each step is three: the
 * operation, an amount, and bits. A difference stops the program with one line that names the step and the
 * operation; WEIR_FUZZ_TRACE=1 prints every step.
 *
 * Nothing depends on time or on another thread: the source of grace periods has no helper, and the clock is
 * the target's own, moved by a step. The build is not a checked one, because that checks in every page cache;
 * here the configuration says whether it does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>

#define FIXTURE_FAIL fail
static _Noreturn void __attribute__((format(printf, 1, 2))) fail(const char *format, ...);

#include "fixtures.h"
#include "weir/page_cache.h"
#include "weir/shrinker.h"
#include "weir/stack.h"

enum {
    AREA = 512,
    MOST = 3 * AREA, /* pages of a range */
    MOST_AT_ONCE = 1024,
    CONFIG_BYTES = 6,
    STEP_BYTES = 3,
    STEPS = 256, /* bounds the time of one input */
    LOOK_EVERY = 16,
};

/* What the program can have. */
enum kind { NOBODYS, PAGE, EXTENT, LENT, WAITING, KINDS };

static const char *const kind_names[KINDS] = {"free", "a page", "an extent", "lent", "waiting for readers"};

struct item {
    char *at;
    size_t n;       /* pages */
    uint64_t stamp; /* of what was written to it */
    bool covered;   /* a waiting one's grace period has begun */
};

struct set {
    size_t n;
    struct item at[MOST];
};

static struct set sets[KINDS];
static unsigned char owner[MOST]; /* enum kind, by number of the page in the range */
static char *lowest, *highest;    /* page that was ever seen; NULL: none yet */
static uint64_t stamps;

static struct weir_page_cache_config config;
static struct weir_page_cache *pages;
static struct weir_page_cache_stats before, now;
static struct weir_grace *grace;
static size_t capacity, limit; /* pages; without the reserve */

static struct {
    uint64_t extents, rcu; /* allocated, and handed over, so far */
    unsigned refusals;     /* how often a grace period that is asked for is not over yet */
    unsigned asked;
    bool moved; /* has been on more than one CPU */
} model;

unsigned fuzz_cas_failures;

static unsigned cpus[64], nr_cpus;
static bool trace;

static struct step {
    const char *name;
    unsigned number, amount, bits;
} step;

static void print_step(void)
{
    fprintf(stderr, "step %u, %s(%u, %u)", step.number, step.name, step.amount, step.bits);
}

static _Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "fuzz/page_cache: %s layout, ", weir_stack_layout());
    print_step();
    fprintf(stderr, ": ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    abort();
}

static void same(const char *what, uint64_t of_model, uint64_t of_weir)
{
    if (of_model != of_weir)
        fail("%s: %llu in the model, %llu from weir", what, (unsigned long long)of_model,
             (unsigned long long)of_weir);
}

/* --- the system, which refuses memory when told to, has its own time, and listens ------------------------- */

static struct {
    unsigned fail_from, fail_n; /* calls for memory that fail, counted from 1; fail_n 0: none */
    unsigned calls, failed;
    size_t mapped; /* bytes */
    bool own_time;
    uint64_t milliseconds;
    bool listening; /* to what destroy says */
    size_t said_pages, said_extents, said_extent_pages, said_lines;
} world;

static bool refuses(void)
{
    if (world.fail_n == 0)
        return false;
    world.calls++;
    if (world.calls < world.fail_from || world.calls - world.fail_from >= world.fail_n)
        return false;
    world.failed++;
    errno = ENOMEM;
    return true;
}

void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (refuses())
        return MAP_FAILED;
    void *map = __real_mmap(at, bytes, protection, flags, fd, offset);
    if (map != MAP_FAILED)
        world.mapped += bytes;
    return map;
}

int __real_munmap(void *at, size_t bytes);
int __wrap_munmap(void *at, size_t bytes);
int __wrap_munmap(void *at, size_t bytes)
{
    world.mapped -= bytes;
    return __real_munmap(at, bytes);
}

int __real_mprotect(void *at, size_t bytes, int protection);
int __wrap_mprotect(void *at, size_t bytes, int protection);
int __wrap_mprotect(void *at, size_t bytes, int protection)
{
    return refuses() ? -1 : __real_mprotect(at, bytes, protection);
}

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes)
{
    return refuses() ? NULL : __real_malloc(bytes);
}

void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return refuses() ? NULL : __real_aligned_alloc(alignment, bytes);
}

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    if (!world.own_time || clock != CLOCK_MONOTONIC)
        return __real_clock_gettime(clock, time);
    time->tv_sec = (time_t)(world.milliseconds / 1000);
    time->tv_nsec = (long)(world.milliseconds % 1000) * 1000000;
    return 0;
}

/* A line of the report of destroy: "weir: page cache "...": 3 extents of 4 pages are still out". */
static void listen(const char *line, size_t bytes)
{
    char text[256];
    size_t n, size;
    snprintf(text, sizeof text, "%.*s", (int)bytes, line);
    const char *what = strstr(text, "\": ");
    if (what == NULL || strstr(text, "still out") == NULL)
        return;
    if (sscanf(what + 3, "%zu extent%*[s] of %zu page", &n, &size) == 2 ||
        sscanf(what + 3, "%zu extent of %zu page", &n, &size) == 2) {
        world.said_extents += n;
        world.said_extent_pages += n * size;
    } else if (sscanf(what + 3, "%zu page", &n) == 1) {
        world.said_pages += n;
    }
}

ssize_t __real_write(int fd, const void *data, size_t bytes);
ssize_t __wrap_write(int fd, const void *data, size_t bytes);
ssize_t __wrap_write(int fd, const void *data, size_t bytes)
{
    if (!world.listening || fd != STDERR_FILENO)
        return __real_write(fd, data, bytes);
    world.said_lines++;
    listen(data, bytes);
    return trace ? __real_write(fd, data, bytes) : (ssize_t)bytes;
}

/* --- what is out ------------------------------------------------------------------------------------------ */

static size_t number_of(const char *page)
{
    return (uintptr_t)page / config.page_size % capacity; /* the range is aligned to areas */
}

static uint64_t *word_at(char *page, size_t offset)
{
    return (uint64_t *)(void *)(page + offset);
}

static uint64_t mixed(uint64_t stamp, uint64_t with)
{
    return (stamp + with) * UINT64_C(0x9E3779B97F4A7C15);
}

/* Each page of it is marked in its first and last word, and one in between. */
static size_t mark_at(const struct item *item, unsigned which)
{
    const size_t words = config.page_size / 8;
    return 8 * (which == 0 ? 0 : which == 1 ? words - 1 : (size_t)(item->stamp >> 8) % words);
}

static void stamp_item(struct item *item)
{
    item->stamp = mixed(++stamps, 0);
    for (size_t i = 0; i < item->n; i++)
        for (unsigned which = 0; which < 3; which++) {
            size_t offset = i * config.page_size + mark_at(item, which);
            *word_at(item->at, offset) = mixed(item->stamp, offset);
        }
}

static void check_item(const struct item *item, enum kind kind)
{
    for (size_t i = 0; i < item->n; i++)
        for (unsigned which = 0; which < 3; which++) {
            size_t offset = i * config.page_size + mark_at(item, which);
            if (*word_at(item->at, offset) != mixed(item->stamp, offset))
                fail("%p, %s of %zu, was changed at byte %zu", (void *)item->at, kind_names[kind], item->n,
                     offset);
        }
}

static void check_contents(void)
{
    for (enum kind kind = PAGE; kind < KINDS; kind++)
        for (size_t i = 0; i < sets[kind].n; i++)
            check_item(&sets[kind].at[i], kind);
}

static size_t pages_in(enum kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < sets[kind].n; i++)
        n += sets[kind].at[i].n;
    return n;
}

/* One range, as large as it says. */
static void check_range(char *at, size_t n)
{
    char *last = at + (n - 1) * config.page_size;
    if ((uintptr_t)at % config.page_size != 0)
        fail("%p is not aligned", (void *)at);
    if (lowest == NULL)
        lowest = highest = at;
    lowest = at < lowest ? at : lowest;
    highest = last > highest ? last : highest;
    if ((size_t)(highest - lowest) / config.page_size >= capacity)
        fail("%p and %p are further apart than the range is long", (void *)lowest, (void *)highest);
}

static void own_range(char *at, size_t n, enum kind kind)
{
    check_range(at, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char *is = &owner[number_of(at + i * config.page_size)];
        if (*is != NOBODYS)
            fail("%p is handed out, but it is %s", (void *)(at + i * config.page_size), kind_names[*is]);
        *is = (unsigned char)kind;
    }
}

/* --- the hook, and zero ----------------------------------------------------------------------------------- */

#define HOOK_MARK UINT64_C(0x4b4f4f48)
static size_t hook_calls, handed_out; /* in this step */

static void check_zero(const char *memory, size_t bytes)
{
    if (config.zero != WEIR_ZERO_NEVER && (memory[0] != 0 || memcmp(memory, memory + 1, bytes - 1) != 0))
        fail("%p of %zu bytes is not zero", (const void *)memory, bytes);
}

static uint64_t *hook_word(char *memory, size_t bytes)
{
    return word_at(memory, bytes - 8);
}

static void hook(void *arg, void *memory, size_t bytes)
{
    if (arg != &hook_calls)
        fail("the hook was given %p", arg);
    check_zero(memory, bytes);
    *hook_word(memory, bytes) = HOOK_MARK ^ (uintptr_t)memory;
    hook_calls++;
}

/* `skip`: of a page that came on a list, the bytes of the link. */
static void check_prepared(char *at, size_t bytes, size_t skip)
{
    if (config.prepare == NULL)
        check_zero(at + skip, bytes - skip);
    else if (*hook_word(at, bytes) != (HOOK_MARK ^ (uintptr_t)at))
        fail("the hook was not called for %p", (void *)at);
}

/* --- the model's own steps -------------------------------------------------------------------------------- */

static void got(void *memory, size_t n, enum kind kind, size_t skip)
{
    struct set *set = &sets[kind];
    own_range(memory, n, kind);
    if (kind != LENT) {
        check_prepared(memory, n * config.page_size, skip);
        handed_out++;
    }
    set->at[set->n] = (struct item){.at = memory, .n = n};
    stamp_item(&set->at[set->n++]);
}

/* Out of a set, its owner being nobody. */
static struct item take_out(enum kind kind, size_t index)
{
    struct set *set = &sets[kind];
    struct item item = set->at[index];
    set->at[index] = set->at[--set->n];
    for (size_t i = 0; i < item.n; i++)
        owner[number_of(item.at + i * config.page_size)] = NOBODYS;
    return item;
}

/* The one that `choice` says, about to be given back; false: there is none. */
static bool choose(enum kind kind, unsigned choice, struct item *item)
{
    if (sets[kind].n == 0)
        return false;
    *item = take_out(kind, choice % sets[kind].n);
    check_item(item, kind);
    return true;
}

/* A number of the step's, another one for each i. */
static unsigned dice(unsigned i)
{
    return (step.amount + i) * 7 + step.bits * (i + 1);
}

static void look(struct weir_page_cache_stats *stats)
{
    memset(stats, 0xa5, sizeof *stats);
    weir_page_cache_stats(pages, stats);
}

/* --- grace periods ---------------------------------------------------------------------------------------- */

/* Who was handed over before is looked at by readers until this one is over. */
static uint64_t begin_period(void *arg)
{
    static uint64_t number;
    (void)arg;
    for (size_t i = 0; i < sets[WAITING].n; i++)
        sets[WAITING].at[i].covered = true;
    model.asked = 0;
    return ++number;
}

static bool is_over(void *arg, uint64_t begun)
{
    (void)arg;
    (void)begun;
    if (model.asked++ < model.refusals)
        return false;
    for (size_t i = 0; i < sets[WAITING].n;)
        if (sets[WAITING].at[i].covered) {
            check_item(&sets[WAITING].at[i], WAITING);
            take_out(WAITING, i);
        } else {
            i++;
        }
    return true;
}

/* --- when an allocation may fail -------------------------------------------------------------------------- */

/* What lies on this CPU or in a depot would have been taken. */
static void check_nothing_cached(void)
{
    if (!model.moved && now.cache.cached != 0)
        fail("there was none, but %zu are cached", now.cache.cached);
    if (now.parked != 0)
        fail("there was none, but %zu lie aside", now.parked);
}

static void check_exhausted(void)
{
    look(&now);
    check_nothing_cached();
    if (now.frames < limit)
        fail("there was none, but of %zu pages only %zu are not free", limit, now.frames);
    if (now.extent_pool_pages != 0)
        fail("there was none, but %zu pages are in idle extents", now.extent_pool_pages);
}

static void check_exhausted_with_reserve(void)
{
    look(&now);
    check_nothing_cached();
    if (now.frames < capacity)
        fail("there was none, but of all %zu pages only %zu are not free", capacity, now.frames);
}

/* How many runs of n pages, aligned as an extent of that size is, have nothing out in them; none of them overlap. */
static size_t clear_runs(size_t n)
{
    size_t runs = 0, align = (n & (n - 1)) == 0 ? n : 1;
    for (size_t area = 0; area < capacity; area += AREA)
        for (size_t i = 0; i + n <= AREA;) {
            size_t clear = 0;
            while (clear < n && owner[area + i + clear] == NOBODYS)
                clear++;
            runs += clear == n;
            i = clear == n ? i + n : (i + clear) / align * align + align;
        }
    return runs;
}

/* Where magazines and descriptors lie, the model does not know: each may be in the middle of a run. */
static void check_no_run(size_t n)
{
    look(&now);
    if (now.extent_pool_pages != 0)
        fail("there was none, but %zu pages are in idle extents", now.extent_pool_pages);
    size_t unknown = now.frames - pages_in(PAGE) - pages_in(EXTENT) - pages_in(LENT);
    if (now.frames + n <= limit && clear_runs(n) > unknown)
        fail("there was no extent of %zu, but there are %zu such runs and %zu pages in unknown places", n,
             clear_runs(n), unknown);
}

/* --- operations ------------------------------------------------------------------------------------------- */

static void op_alloc(void)
{
    for (unsigned i = 0; i <= step.amount % 16; i++) {
        void *page = weir_page_alloc(pages);
        if (page == NULL) {
            check_exhausted();
            return;
        }
        got(page, 1, PAGE, 0);
    }
}

static void op_alloc_nolock(void)
{
    for (unsigned i = 0; i <= step.amount % 16; i++) {
        void *page = weir_page_alloc_nolock(pages);
        if (page == NULL) {
            check_exhausted_with_reserve();
            return;
        }
        got(page, 1, PAGE, 0);
    }
}

/* In a call, up to 1020. */
static size_t many(void)
{
    return (size_t)step.amount * (step.bits & 1 ? 4 : 1);
}

static void op_array(void)
{
    static char taken[MOST_AT_ONCE]; /* what slots that are not NULL point to */
    void *array[MOST_AT_ONCE];
    size_t n = many(), populated = 0;
    unsigned every = step.bits >> 1 & 7; /* 0: no slot is taken already */
    for (size_t i = 0; i < n; i++)
        array[i] = every != 0 && i % (every + 1) == 0 ? &taken[i] : NULL;
    size_t said = weir_page_alloc_bulk_array(pages, n, array);
    for (size_t i = 0; i < n; i++) {
        bool was_taken = every != 0 && i % (every + 1) == 0;
        populated += array[i] != NULL;
        if (was_taken && array[i] != &taken[i])
            fail("slot %zu was not NULL, and was changed", i);
        if (!was_taken && array[i] != NULL)
            got(array[i], 1, PAGE, 0);
    }
    same("slots that are not NULL", populated, said);
    if (said < n)
        check_exhausted();
}

static void op_list(void)
{
    struct weir_llist_node own;
    WEIR_LLIST_HEAD(list);
    size_t n = many(), found = 0;
    weir_llist_node_init(&own);
    weir_llist_add(&own, &list);
    size_t said = weir_page_alloc_bulk_list(pages, n, &list);
    struct weir_llist_node *node = weir_llist_del_all(&list), *next;
    for (; node != NULL && node != &own; node = next, found++) {
        next = weir_llist_next(node);
        got(node, 1, PAGE, sizeof *node);
    }
    if (node != &own || weir_llist_next(node) != NULL)
        fail("what was on the list is not there");
    same("pages on the list", found, said);
    if (said < n)
        check_exhausted();
}

static void op_free(void)
{
    struct item item;
    for (unsigned i = 0; i <= step.amount % 16 && choose(PAGE, dice(i), &item); i++)
        weir_page_free(pages, item.at);
}

static void op_free_nolock(void)
{
    struct item item;
    for (unsigned i = 0; i <= step.amount % 16 && choose(PAGE, dice(i), &item); i++)
        weir_page_free_nolock(pages, item.at);
}

static void op_free_bulk(void)
{
    void *array[MOST_AT_ONCE];
    size_t n = many();
    unsigned every = step.bits >> 1 & 7;
    struct item item;
    for (size_t i = 0; i < n; i++) {
        bool hole = every != 0 && i % (every + 1) == 0;
        array[i] = !hole && choose(PAGE, dice((unsigned)i), &item) ? item.at : NULL;
    }
    weir_page_free_bulk(pages, n, array);
}

static void op_free_rcu(void)
{
    struct item item;
    for (unsigned i = 0; i <= step.amount % 64 && choose(PAGE, dice(i), &item); i++) {
        own_range(item.at, 1, WAITING);
        sets[WAITING].at[sets[WAITING].n++] = item;
        model.rcu++;
        weir_page_free_rcu(pages, item.at);
    }
}

static void op_barrier(void)
{
    same("the barrier's result", 0, (uint64_t)weir_page_cache_rcu_barrier(pages));
    same("pages that wait after a barrier", 0, sets[WAITING].n);
    look(&now);
    same("objects that wait after a barrier", 0, now.cache.waiting_objects);
}

static void op_drive(void)
{
    model.refusals = step.amount % 8;
    for (unsigned i = 0; i <= step.bits % 8; i++)
        weir_grace_drive(grace);
}

static void op_time(void)
{
    world.milliseconds += (uint64_t)step.amount * step.amount / 16 + 1;
    weir_grace_drive(grace);
}

static size_t extent_size(unsigned i)
{
    static const size_t wrong[] = {0, 257, 512, SIZE_MAX};
    unsigned amount = step.amount + i * (step.bits >> 2 & 3);
    switch (step.bits & 3) {
    case 0:
        return amount % 8 + 1;
    case 1:
        return (size_t)1 << amount % 9;
    case 2:
        return amount % WEIR_EXTENT_PAGES_MAX + 1;
    default:
        return amount < 16 ? wrong[amount % 4] : amount % 32 + 1;
    }
}

static void op_extent_alloc(void)
{
    for (unsigned i = 0; i <= (step.bits >> 3 & 7); i++) {
        size_t n = extent_size(i);
        char *extent = weir_extent_alloc(pages, n);
        if (n == 0 || n > WEIR_EXTENT_PAGES_MAX) {
            if (extent != NULL)
                fail("an extent of %zu pages was handed out", n);
            return;
        }
        if (extent == NULL) {
            check_no_run(n);
            return;
        }
        if ((n & (n - 1)) == 0 && (uintptr_t)extent % (n * config.page_size) != 0)
            fail("the extent %p of %zu pages is not aligned to its size", (void *)extent, n);
        got(extent, n, EXTENT, 0);
        model.extents++;
    }
}

static void op_extent_free(void)
{
    struct item item;
    for (unsigned i = 0; i <= step.amount % 8 && choose(EXTENT, dice(i), &item); i++)
        weir_extent_free(pages, item.at, item.n);
}

static void op_block_get(void)
{
    struct weir_block_source source;
    weir_page_cache_block_source(pages, &source);
    same("the source's unit", config.page_size, source.unit);
    for (unsigned i = 0; i <= step.amount % 16; i++) {
        size_t bytes = 0;
        void *block = source.get(source.arg, &bytes);
        look(&now);
        if (block == NULL && now.frames < limit)
            fail("the source gives none, but of %zu pages only %zu are not free", limit, now.frames);
        if (block == NULL)
            return;
        same("bytes of the source's memory", config.page_size, bytes);
        got(block, 1, LENT, 0);
    }
}

static void op_block_put(void)
{
    struct weir_block_source source;
    struct item item;
    weir_page_cache_block_source(pages, &source);
    for (unsigned i = 0; i <= step.amount % 16 && choose(LENT, dice(i), &item); i++)
        source.put(source.arg, item.at, config.page_size);
}

static void op_decay(void)
{
    look(&before);
    size_t bytes = weir_page_cache_decay(pages);
    look(&now);
    same("bytes that decay gave back", now.released - before.released, bytes);
    same("the rest of a page that decay gave back", 0, bytes % config.page_size);
    same("pages that lie aside after decay", 0, now.parked);
    check_contents();
}

/* How, and the errno that is to be had for it. */
static enum weir_drain any_drain(int *error)
{
    static const enum weir_drain hows[] = {WEIR_DRAIN_EXPEDITED, WEIR_DRAIN_QUIET, WEIR_DRAIN_LOCK,
                                           (enum weir_drain)9};
    bool locked = weir_percpu_mode() == WEIR_PERCPU_LOCK;
    enum weir_drain how = hows[step.bits & 3];
    *error = how == WEIR_DRAIN_QUIET       ? (config.registered_users ? 0 : ENOTSUP)
             : how == WEIR_DRAIN_EXPEDITED ? (locked ? ENOTSUP : 0)
             : how == WEIR_DRAIN_LOCK      ? (locked ? 0 : ENOTSUP)
                                           : EINVAL;
    return how;
}

/* A drain that does not wait for a grace period takes what is cached, and nothing else. */
static void op_drain_cpu(void)
{
    int error;
    enum weir_drain how = any_drain(&error);
    bool no_cpu = step.amount == 255;
    look(&before);
    errno = 77;
    size_t drained = weir_page_cache_drain_cpu(pages, no_cpu ? 1u << 20 : cpus[step.amount % nr_cpus], how);
    same("errno after drain_cpu", (uint64_t)(no_cpu ? EINVAL : error), (uint64_t)errno);
    look(&now);
    same("pages that drain_cpu took", before.cache.drained + drained, now.cache.drained);
    if (how != WEIR_DRAIN_QUIET)
        same("pages cached after drain_cpu", before.cache.cached - drained, now.cache.cached);
}

static void check_all_idle_is_free(const char *after)
{
    look(&now);
    if (now.cache.cached + now.extent_pool_pages + now.parked != 0)
        fail("after %s %zu pages are cached, %zu in idle extents, %zu lie aside", after, now.cache.cached,
             now.extent_pool_pages, now.parked);
}

static void op_drain_all(void)
{
    int error;
    enum weir_drain how = any_drain(&error);
    look(&before);
    errno = 77;
    size_t drained = weir_page_cache_drain_all(pages, how);
    same("errno after drain_all", (uint64_t)error, (uint64_t)errno);
    check_contents();
    if (error != 0) {
        same("pages that a refused drain_all took", 0, drained);
        return;
    }
    check_all_idle_is_free("drain_all");
    if (how != WEIR_DRAIN_QUIET)
        same("pages that drain_all took", before.cache.cached + before.extent_pool_pages + before.parked,
             drained);
}

static void op_shrink(void)
{
    size_t target = step.amount == 255 ? SIZE_MAX : (size_t)step.amount * config.page_size * 4 + 1;
    look(&before);
    size_t said = weir_shrinkable(), given = weir_shrink(target);
    look(&now);
    same("bytes that shrink gave back", now.released - before.released, given);
    if (config.no_shrinker)
        same("bytes of a page cache that is not asked", 0, said + given);
    else if (target == SIZE_MAX)
        check_all_idle_is_free("shrink");
    check_contents();
}

static void op_cpu(void)
{
    model.moved = model.moved || nr_cpus > 1;
    fixture_pin(cpus[step.amount % nr_cpus]);
}

/* All that there is, one by one or in extents. */
static void op_fill(void)
{
    for (;;) {
        size_t n = step.bits & 1 ? step.amount % 64 + 1 : 1;
        void *memory = step.bits & 1 ? weir_extent_alloc(pages, n) : weir_page_alloc(pages);
        if (memory == NULL && (step.bits & 1) == 0)
            check_exhausted();
        else if (memory == NULL)
            check_no_run(n);
        if (memory == NULL)
            return;
        got(memory, n, step.bits & 1 ? EXTENT : PAGE, 0);
        model.extents += step.bits & 1;
    }
}

static void give_everything(void)
{
    struct weir_block_source source;
    struct item item;
    weir_page_cache_block_source(pages, &source);
    while (choose(PAGE, step.amount, &item))
        weir_page_free(pages, item.at);
    while (choose(EXTENT, step.amount, &item))
        weir_extent_free(pages, item.at, item.n);
    while (choose(LENT, step.amount, &item))
        source.put(source.arg, item.at, config.page_size);
}

/* --- coming and going ------------------------------------------------------------------------------------- */

/* The rules, as the header has them. */
static bool is_good(const struct weir_page_cache_config *c)
{
    size_t page = c->page_size != 0 ? c->page_size : 4096;
    if (page != 4096 && page != 8192 && page != 16384 && page != 32768 && page != 65536)
        return false;
    size_t all = (c->capacity + AREA * page - 1) / (AREA * page) * AREA;
    return c->capacity <= SIZE_MAX / 4 && c->batch <= WEIR_MAGAZINE_CAPACITY(page) - 2 &&
           c->high <= SIZE_MAX / 2 && (c->high_fraction == 0 || (c->high_fraction >= 8 && c->high == 0)) &&
           c->min <= all / 2 && (unsigned)c->huge_pages <= WEIR_HUGE_PAGES_ADVISE &&
           (unsigned)c->zero <= WEIR_ZERO_ON_FREE && (!c->sites || c->check);
}

/* One field of it is other than it was. */
static struct weir_page_cache_config spoiled(unsigned how)
{
    static const size_t sizes[] = {1, 2048, 4095, 12288, 131072, SIZE_MAX};
    struct weir_page_cache_config c = config;
    unsigned by = how >> 4;
    switch (how & 15) {
    case 1:
        c.page_size = sizes[by % 6];
        break;
    case 2:
        c.capacity = SIZE_MAX / 4 + 1 + by;
        break;
    case 3:
        c.batch = WEIR_MAGAZINE_CAPACITY(config.page_size) - 5 + by;
        break;
    case 4:
        c.high = SIZE_MAX / 2 + 1 + by;
        c.high_fraction = 0;
        break;
    case 5:
        c.high_fraction = by % 8;
        break;
    case 6:
        c.high_fraction = 8;
        c.high = by;
        break;
    case 7:
        c.min = capacity / 2 - 7 + by;
        break;
    case 8:
        c.huge_pages = (enum weir_huge_pages)by;
        break;
    case 9:
        c.zero = (enum weir_zero)by;
        break;
    case 10:
        c.sites = true;
        c.check = by & 1;
        break;
    default:
        break;
    }
    return c;
}

static void try_spoiled(unsigned how)
{
    struct weir_page_cache_config other = spoiled(how);
    struct weir_page_cache *made = (struct weir_page_cache *)(void *)&other;
    bool good = is_good(&other);
    const char *error = weir_page_cache_config_error(&other);
    if (good != (error == NULL))
        fail("a %s configuration (%u) is %s", good ? "good" : "bad", how, error != NULL ? error : "accepted");
    if (good && other.capacity > (size_t)MOST * 65536)
        return;
    int created = weir_page_cache_create(&made, &other);
    same("what create says", (uint64_t)(good ? 0 : -EINVAL), (uint64_t)created);
    if ((made != NULL) != good)
        fail("create says %d and leaves %p", created, (void *)made);
    same("destroy", 0, (uint64_t)weir_page_cache_destroy(made));
}

/* With failures, if there are any to be had, and then without. */
static void create(unsigned fail_from, unsigned fail_n)
{
    size_t mapped = world.mapped;
    world.calls = world.failed = 0;
    world.fail_from = fail_from;
    world.fail_n = fail_n;
    pages = (struct weir_page_cache *)(void *)&config;
    int error = weir_page_cache_create(&pages, &config);
    world.fail_n = 0;
    if (error == 0 && world.failed != 0)
        fail("create works though it was refused memory %u times", world.failed);
    if (error == 0)
        return;
    if (error != -ENOMEM || world.failed == 0 || pages != NULL)
        fail("create says %d, was refused memory %u times, and leaves %p", error, world.failed,
             (void *)pages);
    same("bytes mapped after create has failed", mapped, world.mapped);
    create(0, 0);
}

static void check_report(void)
{
    if (!config.check) {
        same("lines on standard error", 0, world.said_lines);
        return;
    }
    same("pages that are out, as reported", sets[PAGE].n, world.said_pages);
    same("extents that are out, as reported", sets[EXTENT].n, world.said_extents);
    same("pages in them, as reported", pages_in(EXTENT), world.said_extent_pages);
}

static void destroy_busy(void)
{
    world.said_pages = world.said_extents = world.said_extent_pages = world.said_lines = 0;
    world.listening = true;
    int error = weir_page_cache_destroy(pages);
    world.listening = false;
    same("destroy while pages are out", (uint64_t)-EBUSY, (uint64_t)error);
    same("pages that wait after destroy", 0, sets[WAITING].n);
    check_report();
    check_all_idle_is_free("destroy");
    check_contents();
}

static void forget(void)
{
    memset(owner, NOBODYS, sizeof owner);
    for (enum kind kind = PAGE; kind < KINDS; kind++)
        sets[kind].n = 0;
    lowest = highest = NULL;
    model.extents = model.rcu = 0;
    model.moved = false;
}

static void destroy_idle(void)
{
    same("destroy", 0, (uint64_t)weir_page_cache_destroy(pages));
    same("pages that wait after destroy", 0, sets[WAITING].n);
    pages = NULL;
    forget();
}

static bool anything_out(void)
{
    return sets[PAGE].n + sets[EXTENT].n + sets[LENT].n != 0;
}

static void op_destroy(void)
{
    if (anything_out()) {
        destroy_busy();
        return;
    }
    destroy_idle();
    create(step.amount % 32, step.bits & 1 ? 1 : UINT32_MAX);
}

static void op_give_everything(void)
{
    give_everything();
    if (step.bits & 1)
        op_destroy();
}

/* --- a step ----------------------------------------------------------------------------------------------- */

static const struct operation {
    const char *name;
    void (*run)(void);
} operations[] = {
    {"alloc", op_alloc},
    {"alloc_nolock", op_alloc_nolock},
    {"bulk_array", op_array},
    {"bulk_list", op_list},
    {"free", op_free},
    {"free_nolock", op_free_nolock},
    {"free_bulk", op_free_bulk},
    {"free_rcu", op_free_rcu},
    {"rcu_barrier", op_barrier},
    {"drive", op_drive},
    {"time", op_time},
    {"extent_alloc", op_extent_alloc},
    {"extent_free", op_extent_free},
    {"block_get", op_block_get},
    {"block_put", op_block_put},
    {"decay", op_decay},
    {"drain_cpu", op_drain_cpu},
    {"drain_all", op_drain_all},
    {"shrink", op_shrink},
    {"cpu", op_cpu},
    {"fill", op_fill},
    {"give_everything", op_give_everything},
    {"destroy", op_destroy},
};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

/* Every page is in exactly one place. */
static void check_counts(void)
{
    size_t out = sets[PAGE].n, in_extents = pages_in(EXTENT);
    same("page_size", config.page_size, now.page_size);
    same("capacity", capacity, now.capacity);
    same("extents", sets[EXTENT].n, now.extents);
    same("extent_pages", in_extents, now.extent_pages);
    same("extents allocated", model.extents, now.extent_pool_hits + now.extent_misses);
    same("frames",
         out + in_extents + now.cache.waiting_objects + now.cache.cached + now.parked +
             now.extent_pool_pages + now.block_pages,
         now.frames);
    same("pages out", out, now.cache.out);
    same("pages that were handed over", model.rcu,
         now.cache.waiting_objects + now.cache.rcu_freed + now.cache.rcu_waits);
    if (now.frames > now.frames_peak || now.frames_peak > capacity || now.block_pages < sets[LENT].n ||
        now.cache.waiting_objects < sets[WAITING].n)
        fail("%zu frames, at most %zu; %zu of magazines; %zu wait", now.frames, now.frames_peak,
             now.block_pages, now.cache.waiting_objects);
}

static void run_step(const struct operation *operation)
{
    struct weir_page_cache_stats start;
    look(&start);
    hook_calls = handed_out = 0;
    operation->run();
    fuzz_cas_failures = 0;
    if (config.prepare != NULL)
        same("calls of the hook", handed_out, hook_calls);
    look(&now);
    check_counts();
    if (operation->run != op_alloc_nolock && now.frames > start.frames && now.frames > limit)
        fail("%zu of %zu pages are not free, but only %zu may be", now.frames, capacity, limit);
    if (step.number % LOOK_EVERY == 0)
        check_contents();
}

/* --- an input --------------------------------------------------------------------------------------------- */

static void read_config(const uint8_t *data)
{
    static const size_t page_sizes[] = {4096, 4096, 4096, 4096, 8192, 16384, 32768, 65536};
    static const size_t areas[] = {1, 1, 2, 3}, less[] = {0, 1, 5000, 300000};
    static const size_t batches[] = {0, 1, 2, 3, 8, 16, 60, 0};
    static const size_t highs[] = {0, 1, 10, 100, 0, 0, 0, 0};
    static const unsigned fractions[] = {0, 0, 0, 0, 8, 16, 64, 5000};
    static const unsigned decays[] = {WEIR_CACHE_DECAY_NEVER, 1, 10, 0};

    config = (struct weir_page_cache_config)WEIR_PAGE_CACHE_CONFIG_INIT;
    config.grace = grace;
    config.page_size = page_sizes[data[0] & 7];
    config.zero = (enum weir_zero)((data[0] >> 3 & 3) % 3);
    config.check = data[0] >> 5 & 1;
    config.sites = config.check && (data[0] >> 6 & 1);
    if (data[0] >> 7 & 1) {
        config.prepare = hook;
        config.prepare_arg = &hook_calls;
    }
    capacity = areas[data[1] & 3] * AREA;
    config.capacity = capacity * config.page_size - less[data[1] >> 2 & 3];
    config.registered_users = data[1] >> 4 & 1;
    config.no_shrinker = data[1] >> 5 & 1;
    config.huge_pages = data[1] >> 6 == 3 ? WEIR_HUGE_PAGES_ADVISE : WEIR_HUGE_PAGES_NEVER;
    config.batch = batches[data[2] & 7];
    if ((data[2] & 7) == 7)
        config.batch = WEIR_MAGAZINE_CAPACITY(config.page_size) - 2;
    config.high = highs[data[2] >> 3 & 7];
    config.high_fraction = fractions[data[2] >> 3 & 7];
    config.decay_milliseconds = decays[data[2] >> 6];
    const size_t mins[] = {0, 0, 1, 7, 20, 100, capacity / 4, capacity / 2};
    config.min = mins[data[3] & 7];
    limit = capacity - config.min;
    config.name = "fuzz";
}

static void start(const uint8_t *data)
{
    static const struct weir_grace_source source = {
        .name = "fuzz", .begin = begin_period, .over = is_over, .no_helper = true};
    step = (struct step){.name = "create"};
    world.own_time = true;
    world.milliseconds = 1000000;
    memset(&model, 0, sizeof model);
    stamps = 0;
    fixture_pin(cpus[0]);
    same("a source of grace periods", 0, (uint64_t)weir_grace_create(&grace, &source));
    weir_grace_on_stall(grace, 0, NULL, NULL);
    read_config(data);
    forget();
    model.refusals = data[3] >> 3 & 7;
    try_spoiled(data[4]);
    create(data[5] & 63, data[5] >> 6 == 0 ? 0 : data[5] >> 6 == 1 ? 1 : UINT32_MAX);
}

static void finish(void)
{
    step = (struct step){.name = "finish"};
    check_contents();
    if (anything_out())
        destroy_busy();
    give_everything();
    destroy_idle();
    weir_grace_put(grace);
    world.own_time = false;
}

/* What is made once for the process is there before the first input, so that this runs like all others. */
static void start_process(void)
{
    struct weir_page_cache *first;
    trace = getenv("WEIR_FUZZ_TRACE") != NULL;
    nr_cpus = fixture_cpus(cpus, 64);
    struct weir_page_cache_config c = WEIR_PAGE_CACHE_CONFIG_INIT;
    c.capacity = 1;
    static const struct weir_grace_source source = {
        .name = "first", .begin = begin_period, .over = is_over, .no_helper = true};
    if (weir_grace_create(&c.grace, &source) != 0 || weir_page_cache_create(&first, &c) != 0 ||
        weir_page_cache_destroy(first) != 0)
        fail("nothing can be made");
    weir_grace_put(c.grace);
}

/* Of the next 32 compare-and-swaps none, the first, about a quarter or half of them. */
static unsigned failures(unsigned kind)
{
    uint64_t any = mixed(step.amount, step.bits + ((uint64_t)step.number << 16));
    return kind < 2 ? kind : kind == 2 ? (unsigned)(any >> 32 & any >> 16) : (unsigned)(any >> 24);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    if (!started)
        start_process();
    started = true;
    if (size < CONFIG_BYTES)
        return 0;
    size_t mapped = world.mapped;
    start(data);
    data += CONFIG_BYTES;
    size -= CONFIG_BYTES;
    for (unsigned i = 0; i < STEPS && size >= STEP_BYTES; i++, data += STEP_BYTES, size -= STEP_BYTES) {
        const struct operation *operation = &operations[data[0] % OPERATIONS];
        step = (struct step){.name = operation->name, .number = i, .amount = data[1], .bits = data[2] & 63};
        if (trace) {
            print_step();
            fprintf(stderr, "\n");
        }
        fuzz_cas_failures = failures(data[2] >> 6);
        run_step(operation);
    }
    finish();
    same("bytes mapped in the end", mapped, world.mapped);
    return 0;
}
