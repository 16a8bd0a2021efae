/* SPDX-License-Identifier: MIT */
/* What is done to pages on their way out and back: zero, hook, poison, and each misuse named. */
#include "prepare.h"
#include "fixtures.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <link.h>
#include <signal.h>

#include "caught.h"
#include "stopped.h"
#include "weir_test.h"

enum { AREA = WEIR_FRAMES_PER_AREA, AREAS = 3, MOST = AREAS * AREA };

static struct weir__frames frames;
static struct weir__prepare *prepare;
static bool used[MOST];
static void *got[MOST];
static char said[65536];

static struct weir_page_cache_config config_now(enum weir_zero zero, bool check)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    config.name = "test";
    config.zero = zero;
    config.check = check;
    return config;
}

static void start_with(const struct weir_page_cache_config *config, size_t frame_bytes)
{
    const struct weir__frames_config range = {.bytes = MOST * frame_bytes, .frame_bytes = frame_bytes};
    cr_assert_eq(weir_percpu_init(), 0);
    cr_assert_eq(weir__frames_init(&frames, &range), 0);
    cr_assert_eq(weir__prepare_create(&prepare, &frames, config), 0);
}

static void start(enum weir_zero zero, bool check)
{
    const struct weir_page_cache_config config = config_now(zero, check);
    start_with(&config, 4096);
    cr_assert_not_null(prepare);
}

static void start_with_sites(void)
{
    struct weir_page_cache_config config = config_now(WEIR_ZERO_NEVER, true);
    config.sites = true;
    start_with(&config, 4096);
}

static void finish(void)
{
    weir__prepare_destroy(prepare);
    weir__frames_destroy(&frames);
    memset(used, 0, sizeof used);
}

/* --- frames, the lowest that are free: what is taken in turn lies in a row --- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static size_t find_run(size_t n)
{
    size_t run = 0;
    for (size_t i = 0; i < MOST; i++) {
        run = used[i] ? 0 : run + 1;
        if (run == n)
            return i + 1 - n;
    }
    return MOST;
}

static void *frames_take(size_t n)
{
    pthread_mutex_lock(&mutex);
    size_t first = find_run(n);
    for (size_t i = 0; i < n && first < MOST; i++)
        used[first + i] = true;
    pthread_mutex_unlock(&mutex);
    cr_assert_lt(first, (size_t)MOST);
    return frames.base + first * frames.frame_bytes;
}

static void frames_give(const void *memory, size_t n)
{
    size_t first = (size_t)((const char *)memory - frames.base) / frames.frame_bytes;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < n; i++)
        used[first + i] = false;
    pthread_mutex_unlock(&mutex);
}

/* As the page cache does it. */
static void *take_from(const void *site)
{
    void *page = frames_take(1);
    weir__prepare_alloc(prepare, 1, &page, site);
    return page;
}

static void *take(void)
{
    return take_from(NULL);
}

static void give(void *page)
{
    weir__prepare_free(prepare, 1, &page, "weir_page_free");
    frames_give(page, 1);
}

static void give_rcu(void *page)
{
    weir__prepare_free_rcu(prepare, page, "weir_page_free_rcu");
    frames_give(page, 1);
}

static char *take_extent_from(size_t n, const void *site)
{
    void *extent = frames_take(n);
    weir__prepare_alloc_extent(prepare, extent, n, site);
    return extent;
}

static char *take_extent(size_t n)
{
    return take_extent_from(n, NULL);
}

static void give_extent(void *extent, size_t n)
{
    weir__prepare_free_extent(prepare, extent, n);
    frames_give(extent, n);
}

/* The first byte that is something else; `bytes`: none is. */
static size_t first_other(const void *memory, size_t bytes, int value)
{
    const unsigned char *byte = memory;
    size_t i = 0;
    while (i < bytes && byte[i] == value)
        i++;
    return i;
}

#define CHECK_ALL(memory, bytes, value)                                                                      \
    cr_assert_eq(first_other(memory, bytes, value), (size_t)(bytes), "byte %zu is not %#x",                  \
                 first_other(memory, bytes, value), (unsigned)(value))

/* --- making one --- */

Test(prepare, nothing_to_do_makes_none)
{
    struct weir_page_cache_config config = config_now(WEIR_ZERO_NEVER, false);
    config.sites = true;
    prepare = (void *)&config;
    start_with(&config, 4096);
    cr_assert_null(prepare);
    finish();
}

/* --- zero --- */

static void check_zeroed(enum weir_zero zero, bool check)
{
    start(zero, check);
    /* What others left in frames that nothing is known of. */
    memset(frames.base, 0xa5, (size_t)MOST * 4096);
    for (unsigned round = 0; round < 3; round++) {
        char *page = take(), *other = take(), *extent = take_extent(16);
        CHECK_ALL(page, 4096, 0);
        CHECK_ALL(other, 4096, 0);
        CHECK_ALL(extent, 16 * 4096, 0);
        memset(page, 0x5a, 4096);
        memset(other, 0x5a, 4096);
        memset(extent, 0x5a, (size_t)16 * 4096);
        give(page);
        give_rcu(other);
        give_extent(extent, 16);
    }
    finish();
}

Test(prepare, zero_on_alloc_makes_everything_zero)
{
    check_zeroed(WEIR_ZERO_ON_ALLOC, false);
    check_zeroed(WEIR_ZERO_ON_ALLOC, true);
}

Test(prepare, zero_on_free_makes_everything_zero)
{
    check_zeroed(WEIR_ZERO_ON_FREE, false);
    check_zeroed(WEIR_ZERO_ON_FREE, true);
}

Test(prepare, zero_on_alloc_writes_nothing_on_free)
{
    start(WEIR_ZERO_ON_ALLOC, false);
    char *page = take(), *extent = take_extent(4);
    memset(page, 0x5a, 4096);
    memset(extent, 0x5a, (size_t)4 * 4096);
    give(page);
    give_extent(extent, 4);
    CHECK_ALL(page, 4096, 0x5a);
    CHECK_ALL(extent, 4 * 4096, 0x5a);
    finish();
}

/* The byte that is written meanwhile, which nobody may, shows who zeroes. */
Test(prepare, zero_on_free_zeroes_on_free_and_not_again)
{
    start(WEIR_ZERO_ON_FREE, false);
    char *page = take(), *extent = take_extent(4);
    memset(page, 0x5a, 4096);
    memset(extent, 0x5a, (size_t)4 * 4096);
    weir__prepare_free(prepare, 1, (void **)&page, "weir_page_free");
    weir__prepare_free_extent(prepare, extent, 4);
    CHECK_ALL(page, 4096, 0);
    CHECK_ALL(extent, 4 * 4096, 0);
    page[77] = 1;
    extent[7777] = 1;
    weir__prepare_alloc(prepare, 1, (void **)&page, NULL);
    weir__prepare_alloc_extent(prepare, extent, 4, NULL);
    cr_assert_eq(page[77], 1);
    cr_assert_eq(extent[7777], 1);
    finish();
}

Test(prepare, page_that_readers_may_still_see_is_not_written_to)
{
    for (int zero = WEIR_ZERO_NEVER; zero <= WEIR_ZERO_ON_FREE; zero++) {
        start((enum weir_zero)zero, true);
        char *page = take();
        memset(page, 0x5a, 4096);
        weir__prepare_free_rcu(prepare, page, "weir_page_free_rcu");
        CHECK_ALL(page, 4096, 0x5a);
        weir__prepare_alloc(prepare, 1, (void **)&page, NULL); /* and is not looked at */
        CHECK_ALL(page, 4096, zero == WEIR_ZERO_NEVER ? 0x5a : 0);
        finish();
    }
}

Test(prepare, spoiled_page_is_zeroed_and_not_looked_at)
{
    for (int zero = WEIR_ZERO_NEVER; zero <= WEIR_ZERO_ON_FREE; zero++) {
        start((enum weir_zero)zero, true);
        char *page = take();
        weir__prepare_free(prepare, 1, (void **)&page, "weir_page_free");
        weir__prepare_spoiled(prepare, page);
        memset(page, 0x5a, 4096);
        weir__prepare_alloc(prepare, 1, (void **)&page, NULL);
        CHECK_ALL(page, 4096, zero == WEIR_ZERO_NEVER ? 0x5a : 0);
        finish();
    }
}

/* --- hook --- */

static struct hooked {
    void *memory;
    size_t bytes;
} hooked[100];
static size_t nr_hooked;
static int hook_arg;

static void hook(void *arg, void *memory, size_t bytes)
{
    cr_assert_eq(arg, (void *)&hook_arg);
    CHECK_ALL(memory, bytes, 0);
    memset(memory, 0x77, bytes);
    hooked[nr_hooked++] = (struct hooked){memory, bytes};
}

static void check_hook(enum weir_zero zero)
{
    struct weir_page_cache_config config = config_now(zero, false);
    config.prepare = hook;
    config.prepare_arg = &hook_arg;
    start_with(&config, 4096);
    nr_hooked = 0;
    for (size_t i = 0; i < 5; i++)
        got[i] = frames_take(1);
    weir__prepare_alloc(prepare, 5, got, NULL);
    char *extent = take_extent(7);
    cr_assert_eq(nr_hooked, 6u);
    for (size_t i = 0; i < 5; i++) {
        cr_assert_eq(hooked[i].memory, got[i]);
        cr_assert_eq(hooked[i].bytes, 4096u);
        CHECK_ALL(got[i], 4096, 0x77);
    }
    cr_assert_eq(hooked[5].memory, (void *)extent);
    cr_assert_eq(hooked[5].bytes, 7u * 4096);
    weir__prepare_free(prepare, 5, got, "weir_page_free_bulk");
    weir__prepare_free_rcu(prepare, take(), "weir_page_free_rcu");
    weir__prepare_free_extent(prepare, extent, 7);
    cr_assert_eq(nr_hooked, 7u, "nothing is called on free");
    finish();
}

Test(prepare, hook_is_called_on_each_page_and_extent_after_zeroing)
{
    check_hook(WEIR_ZERO_ON_ALLOC);
    check_hook(WEIR_ZERO_ON_FREE);
    check_hook(WEIR_ZERO_NEVER); /* fresh frames: they are zero all the same */
}

/* --- poison --- */

/* Stopped by SIGABRT, with one line, of which this is the part after the name. */
__attribute__((format(printf, 2, 3))) static void check_stopped(void (*run)(void), const char *format, ...)
{
    char what[512], line[640];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    snprintf(line, sizeof line, "weir: page cache \"test\": %s\n", what);
    int status = stopped(run);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x, and it says: %s instead of %s",
              (unsigned)status, stopped_said, line);
    cr_assert_str_eq(stopped_said, line, "it says: %s instead of %s", stopped_said, line);
}

static char *it; /* what the misuses are about */
static size_t it_pages;

static void do_alloc(void)
{
    weir__prepare_alloc(prepare, 1, (void **)&it, NULL);
}

static void do_alloc_extent(void)
{
    weir__prepare_alloc_extent(prepare, it, it_pages, NULL);
}

Test(prepare, free_page_is_filled)
{
    for (int zero = WEIR_ZERO_NEVER; zero <= WEIR_ZERO_ON_FREE; zero++) {
        start((enum weir_zero)zero, true);
        char *page = take(), *extent = take_extent(9);
        memset(page, 0x5a, 4096);
        give(page);
        give_extent(extent, 9);
        CHECK_ALL(page, 4096, zero == WEIR_ZERO_ON_FREE ? 0 : 0x6b);
        CHECK_ALL(extent, 9 * 4096, zero == WEIR_ZERO_ON_FREE ? 0 : 0x6b);
        finish();
    }
}

static void check_write_after_free(enum weir_zero zero, size_t bytes)
{
    static const size_t offsets[] = {0, 1, 7, 8, 123, 2048, 4094, 4095};
    const struct weir_page_cache_config config = config_now(zero, true);
    unsigned filled = zero == WEIR_ZERO_ON_FREE ? 0 : 0x6b;
    start_with(&config, bytes);
    it = take();
    weir__prepare_free(prepare, 1, (void **)&it, "weir_page_free");
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        size_t offset = i % 2 ? bytes - 4096 + offsets[i] : offsets[i];
        char was = it[offset];
        it[offset] = 0x41;
        check_stopped(do_alloc, "page %p was written to after it was freed: byte %zu is 0x41, not 0x%02x",
                      (void *)it, offset, filled);
        it[offset] = was;
    }
    do_alloc();
    finish();
}

Test(prepare, write_after_free_stops_the_program)
{
    check_write_after_free(WEIR_ZERO_NEVER, 4096);
    check_write_after_free(WEIR_ZERO_ON_ALLOC, 4096);
    check_write_after_free(WEIR_ZERO_ON_FREE, 4096);
    check_write_after_free(WEIR_ZERO_NEVER, 65536);
}

Test(prepare, zeros_written_after_free_stop_the_program)
{
    start(WEIR_ZERO_NEVER, true);
    it = take();
    weir__prepare_free(prepare, 1, (void **)&it, "weir_page_free");
    memset(it, 0, 64);
    check_stopped(do_alloc, "page %p was written to after it was freed: byte 0 is 0x00, not 0x6b",
                  (void *)it);
    finish();
}

Test(prepare, write_to_a_freed_extent_stops_the_program)
{
    start(WEIR_ZERO_NEVER, true);
    it = take_extent(8);
    it_pages = 8;
    weir__prepare_free_extent(prepare, it, 8);
    it[5 * 4096 + 9] = 0x42;
    check_stopped(do_alloc_extent, "page %p was written to after it was freed: byte 9 is 0x42, not 0x6b",
                  (void *)(it + 5 * 4096));
    finish();
}

Test(prepare, memory_that_went_back_to_the_system_may_be_zero_and_nothing_else)
{
    start(WEIR_ZERO_NEVER, true);
    it = take();
    weir__prepare_free(prepare, 1, (void **)&it, "weir_page_free");
    cr_assert_eq(madvise(it, 4096, MADV_DONTNEED), 0);
    it[123] = 0x41;
    check_stopped(do_alloc, "page %p was written to after it was freed: byte 123 is 0x41, not 0x00",
                  (void *)it);
    it[123] = 0;
    do_alloc();
    CHECK_ALL(it, 4096, 0);
    finish();
}

Test(prepare, without_check_nothing_is_looked_at)
{
    start(WEIR_ZERO_ON_FREE, false);
    it = take();
    weir__prepare_free(prepare, 1, (void **)&it, "weir_page_free");
    it[0] = 0x41;
    do_alloc();
    finish();
}

/* --- who frees what --- */

static void do_free(void)
{
    weir__prepare_free(prepare, 1, (void **)&it, "weir_page_free");
}

static void do_free_rcu(void)
{
    weir__prepare_free_rcu(prepare, it, "weir_page_free_rcu");
}

static void do_free_twice_at_once(void)
{
    void *array[3] = {got[0], it, it};
    weir__prepare_free(prepare, 3, array, "weir_page_free_bulk");
}

static void do_free_extent(void)
{
    weir__prepare_free_extent(prepare, it, it_pages);
}

static void do_spoil(void)
{
    weir__prepare_spoiled(prepare, it);
}

/* Zeroing on free writes to what is freed, and so has to check, too. */
static const struct {
    enum weir_zero zero;
    bool check;
} checked[] = {{WEIR_ZERO_NEVER, true}, {WEIR_ZERO_ON_ALLOC, true}, {WEIR_ZERO_ON_FREE, false}};

#define FOR_CHECKED                                                                                          \
    for (size_t way = 0; way < sizeof checked / sizeof checked[0]; finish(), way++)                          \
        if (start(checked[way].zero, checked[way].check), true)

Test(prepare, page_freed_twice_stops_the_program)
{
    FOR_CHECKED
    {
        void (*const ways[])(void) = {do_free, do_free_rcu};
        for (unsigned i = 0; i < 4; i++) {
            it = take();
            ways[i / 2]();
            check_stopped(ways[i % 2], "page %p is given to %s(), but it is free already", (void *)it,
                          i % 2 ? "weir_page_free_rcu" : "weir_page_free");
        }
        it = take();
        got[0] = take();
        check_stopped(do_free_twice_at_once,
                      "page %p is given to weir_page_free_bulk(), but it is free already", (void *)it);
    }
}

Test(prepare, page_never_handed_out_stops_the_program)
{
    FOR_CHECKED
    {
        it = frames.base + 100 * 4096;
        check_stopped(do_free, "page %p is given to weir_page_free(), but it is free already", (void *)it);
    }
}

Test(prepare, foreign_pointer_stops_the_program)
{
    static char mine[4096];
    FOR_CHECKED
    {
        char *const foreign[] = {mine, NULL, frames.base - 4096, frames.base - 1,
                                 frames.base + (size_t)MOST * 4096};
        for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
            it = foreign[i];
            it_pages = 2;
            check_stopped(do_free, "%p is given to weir_page_free(), but it is none of its pages",
                          (void *)it);
            check_stopped(do_free_rcu, "%p is given to weir_page_free_rcu(), but it is none of its pages",
                          (void *)it);
            check_stopped(do_free_extent, "%p is given to weir_extent_free(), but it is none of its pages",
                          (void *)it);
        }
    }
}

Test(prepare, pointer_into_a_page_stops_the_program)
{
    FOR_CHECKED
    {
        char *page = take(), *extent = take_extent(4);
        static const size_t offsets[] = {1, 8, 2048, 4095};
        for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
            it = page + offsets[i];
            check_stopped(do_free, "%p is given to weir_page_free(), but it points into the middle of a page",
                          (void *)it);
            it = extent + offsets[i];
            it_pages = 4;
            check_stopped(do_free_extent,
                          "%p is given to weir_extent_free(), but it points into the middle of a page",
                          (void *)it);
        }
    }
}

Test(prepare, extent_freed_as_pages_stops_the_program)
{
    FOR_CHECKED
    {
        char *extent = take_extent(8), *single = take_extent(1);
        for (size_t i = 0; i < 8; i++) {
            it = extent + i * 4096;
            check_stopped(
                do_free,
                "page %p is given to weir_page_free(), but it belongs to the extent of 8 pages at %p",
                (void *)it, (void *)extent);
        }
        it = single;
        check_stopped(
            do_free_rcu,
            "page %p is given to weir_page_free_rcu(), but it belongs to the extent of 1 page at %p",
            (void *)it, (void *)single);
        give_extent(extent, 8);
        give_extent(single, 1);
    }
}

Test(prepare, extent_freed_with_a_wrong_size_stops_the_program)
{
    FOR_CHECKED
    {
        /* In front of another one, and of a page. */
        char *extent = take_extent(8), *next = take_extent(8);
        static const size_t wrong[] = {0, 1, 7, 9, 16, 256, 1000, SIZE_MAX};
        for (size_t i = 0; i < 2 * sizeof wrong / sizeof wrong[0]; i++) {
            it = i % 2 ? extent : next;
            it_pages = wrong[i / 2];
            check_stopped(do_free_extent, "extent %p of 8 pages is given to weir_extent_free() as one of %zu",
                          (void *)it, it_pages);
        }
        give_extent(extent, 8);
        give_extent(next, 8);
    }
}

Test(prepare, last_extent_of_the_range_ends_there)
{
    FOR_CHECKED
    {
        it = frames.base + (size_t)(MOST - 4) * 4096;
        it_pages = 4;
        do_alloc_extent();
        it_pages = 5;
        check_stopped(do_free_extent, "extent %p of 4 pages is given to weir_extent_free() as one of 5",
                      (void *)it);
        it_pages = 4;
        do_free_extent();
    }
}

Test(prepare, middle_of_an_extent_freed_as_one_stops_the_program)
{
    FOR_CHECKED
    {
        char *extent = take_extent(8);
        for (size_t i = 1; i < 8; i++) {
            it = extent + i * 4096;
            it_pages = 8 - i;
            check_stopped(
                do_free_extent,
                "extent %p of %zu page%s is given to weir_extent_free(), but it is in the middle of "
                "the one of 8 pages at %p",
                (void *)it, it_pages, it_pages == 1 ? "" : "s", (void *)extent);
        }
        give_extent(extent, 8);
    }
}

Test(prepare, page_freed_as_an_extent_stops_the_program)
{
    FOR_CHECKED
    {
        it = take();
        it_pages = 1;
        check_stopped(do_free_extent, "extent %p of 1 page is given to weir_extent_free(), but it is a page",
                      (void *)it);
        give(it);
    }
}

Test(prepare, extent_freed_twice_stops_the_program)
{
    FOR_CHECKED
    {
        it = take_extent(3);
        it_pages = 3;
        do_free_extent();
        check_stopped(do_free_extent,
                      "extent %p of 3 pages is given to weir_extent_free(), but it is free already",
                      (void *)it);
        check_stopped(do_free, "page %p is given to weir_page_free(), but it is free already", (void *)it);
    }
}

Test(prepare, frame_handed_out_twice_stops_the_program)
{
    FOR_CHECKED
    {
        void *in_front = frames_take(1);
        char *page = take();
        it = page;
        check_stopped(do_alloc, "page %p is handed out while it is out", (void *)it);
        check_stopped(do_spoil, "page %p is taken for other use while it is out", (void *)it);
        it = page - 4096;
        it_pages = 2;
        check_stopped(do_alloc_extent, "page %p is handed out while it is out", (void *)page);
        frames_give(in_front, 1);
    }
}

/* Where nothing is known of frames, nothing is looked up: the frames and the extents stop it later. */
Test(prepare, zero_on_alloc_and_a_hook_alone_check_nothing)
{
    start(WEIR_ZERO_ON_ALLOC, false);
    it = frames.base + 1;
    it_pages = 3;
    do_free();
    do_free_rcu();
    do_free_extent();
    do_spoil();
    finish();
}

/* --- who allocated it --- */

struct object {
    uintptr_t address, base;
};

static int find_base(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct object *object = arg;
    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD &&
            object->address - info->dlpi_addr - info->dlpi_phdr[i].p_vaddr < info->dlpi_phdr[i].p_memsz)
            object->base = info->dlpi_addr;
    return 0;
}

/* What has to be printed for a call that returns to `site`, by what the dynamic linker's other interface
 * says. */
static const char *place(const void *site)
{
    static char text[4][512];
    static unsigned next;
    struct object object = {(uintptr_t)site - 1, 1};
    Dl_info info;
    dl_iterate_phdr(find_base, &object);
    cr_assert_neq(object.base, 1u);
    cr_assert_neq(dladdr((void *)object.address, &info), 0);
    const char *slash = strrchr(info.dli_fname, '/');
    char *line = text[next++ % 4];
    int n = snprintf(line, 512, "%s+0x%" PRIxPTR, slash ? slash + 1 : info.dli_fname,
                     object.address - object.base);
    if (info.dli_sname)
        snprintf(line + n, 512 - (size_t)n, " (%s+0x%" PRIxPTR ")", info.dli_sname,
                 object.address - (uintptr_t)info.dli_saddr);
    return line;
}

static const void *here(void)
{
    return (const char *)(uintptr_t)here + 1;
}

/* In a shared library, with a name. */
static const void *there(void)
{
    const char *symbol = dlsym(RTLD_DEFAULT, "qsort");
    cr_assert_not_null(symbol);
    return symbol + 8;
}

Test(prepare, misuse_names_who_allocated)
{
    start_with_sites();
    cr_assert_not_null(strstr(place(there()), "qsort+0x7)"), "%s", place(there()));
    it = take_from(here());
    do_free();
    check_stopped(do_free,
                  "page %p is given to weir_page_free(), but it is free already; it was allocated by %s",
                  (void *)it, place(here()));
    it[5] = 1;
    check_stopped(
        do_alloc,
        "page %p was written to after it was freed: byte 5 is 0x01, not 0x6b; it was allocated by %s",
        (void *)it, place(here()));
    char *extent = take_extent_from(6, there());
    it = extent + 4 * 4096;
    check_stopped(
        do_free,
        "page %p is given to weir_page_free(), but it belongs to the extent of 6 pages at %p; it was "
        "allocated by %s",
        (void *)it, (void *)extent, place(there()));
    it = extent;
    check_stopped(do_alloc, "page %p is handed out while it is out; it was allocated by %s", (void *)it,
                  place(there()));
    it_pages = 5;
    check_stopped(do_free_extent,
                  "extent %p of 6 pages is given to weir_extent_free() as one of 5; it was allocated by %s",
                  (void *)it, place(there()));
    weir__prepare_free_extent(prepare, it, 6);
    it[5 * 4096] = 1;
    it_pages = 6;
    check_stopped(
        do_alloc_extent,
        "page %p was written to after it was freed: byte 0 is 0x01, not 0x6b; it was allocated by %s",
        (void *)(it + 5 * 4096), place(there()));
    finish();
}

Test(prepare, address_outside_of_any_object_is_printed_as_it_is)
{
    start_with_sites();
    it = take_from((void *)17);
    do_free();
    check_stopped(do_free,
                  "page %p is given to weir_page_free(), but it is free already; it was allocated by 0x10",
                  (void *)it);
    finish();
}

/* --- the report --- */

static void check_report(const char *expected)
{
    catch_stderr();
    weir__prepare_report(prepare, NULL);
    caught_lines(said, sizeof said);
    cr_assert_str_eq(said, expected, "it says: %s instead of %s", said, expected);
}

#define LINE(text) "weir: page cache \"test\": " text "\n"

Test(prepare, report_counts_what_is_out)
{
    start(WEIR_ZERO_NEVER, true);
    check_report("");
    void *page = take();
    check_report(LINE("1 page is still out"));
    char *single = take_extent(1);
    check_report(LINE("1 page is still out") LINE("1 extent of 1 page is still out"));
    void *more[2] = {take(), take()};
    char *extents[3] = {take_extent(16), take_extent(16), take_extent(256)};
    give_extent(single, 1);
    check_report(LINE("3 pages are still out") LINE("2 extents of 16 pages are still out")
                     LINE("1 extent of 256 pages is still out"));
    give(page);
    give_rcu(more[0]);
    give(more[1]);
    give_extent(extents[1], 16);
    give_extent(extents[2], 256);
    check_report(LINE("1 extent of 16 pages is still out"));
    give_extent(extents[0], 16);
    check_report("");
    finish();
}

Test(prepare, report_names_who_allocated_the_most_first)
{
    char expected[4096];
    start_with_sites();
    char *extent = take_extent_from(16, there());
    for (unsigned i = 0; i < 7; i++)
        got[i] = take_from(i % 3 ? there() : here());
    got[7] = take_from((void *)17);
    snprintf(expected, sizeof expected,
             LINE("8 pages are still out") LINE("  4 of them from %s") LINE("  3 of them from %s")
                 LINE("  1 of them from 0x10") LINE("1 extent of 16 pages is still out")
                     LINE("  1 of them from %s"),
             place(there()), place(here()), place(there()));
    check_report(expected);
    for (unsigned i = 0; i < 8; i++)
        give(got[i]);
    give_extent(extent, 16);
    check_report("");
    finish();
}

Test(prepare, report_names_sixteen_places)
{
    char expected[8192];
    start_with_sites();
    for (uintptr_t i = 0; i < 19; i++)
        for (uintptr_t n = 0; n <= i; n++)
            take_from((void *)(i + 1));
    size_t length = (size_t)sprintf(expected, LINE("190 pages are still out"));
    for (unsigned i = 19; i > 3; i--)
        length += (size_t)sprintf(expected + length, LINE("  %u of them from 0x%x"), i, i - 1);
    sprintf(expected + length, LINE("  and 3 more places"));
    check_report(expected);
    finish();
}

Test(prepare, report_is_for_check_only)
{
    start(WEIR_ZERO_ON_FREE, false);
    take();
    check_report("");
    finish();
    start(WEIR_ZERO_ON_ALLOC, false);
    take();
    check_report("");
    finish();
}

/* --- threads --- */

enum { THREADS = 4, HOLD = 40, ROUNDS = 1500 };

/* Pages and extents go out and back, written to by their owners: nobody is stopped. */
static void *churn(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg * 77 + 1;
    struct {
        void *memory;
        size_t n; /* 0: a page */
    } held[HOLD] = {{NULL, 0}};
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t i = fixture_random(&random) % HOLD, n = fixture_random(&random) % 6;
        if (held[i].memory != NULL && held[i].n != 0)
            give_extent(held[i].memory, held[i].n);
        else if (held[i].memory != NULL)
            (n & 1 ? give : give_rcu)(held[i].memory);
        held[i].memory = n != 0 ? take_extent_from(n, here()) : take_from(there());
        held[i].n = n;
        memset(held[i].memory, (int)round, (n != 0 ? n : 1) * 4096);
    }
    for (size_t i = 0; i < HOLD; i++)
        if (held[i].memory != NULL && held[i].n != 0)
            give_extent(held[i].memory, held[i].n);
        else if (held[i].memory != NULL)
            give(held[i].memory);
    return NULL;
}

Test(prepare, threads_that_do_right_are_not_stopped)
{
    pthread_t threads[THREADS];
    start_with_sites();
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = fixture_thread(churn, (void *)(i + 1));
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check_report("");
    finish();
}

static unsigned arrived;

static void *free_with_another(void *arg)
{
    void (*run)(void) = *(void (**)(void))arg;
    weir_fetch_add_acq_rel(&arrived, 1u);
    while (weir_load_acquire(&arrived) < 2)
        weir_cpu_pause();
    run();
    return NULL;
}

static void (*raced)(void);

static void free_twice_at_once(void)
{
    pthread_t other = fixture_thread(free_with_another, &raced);
    free_with_another(&raced);
    pthread_join(other, NULL);
}

/* Whoever comes first: exactly one is stopped. */
Test(prepare, two_threads_that_free_the_same_never_both_succeed)
{
    start(WEIR_ZERO_NEVER, true);
    for (unsigned round = 0; round < 150; round++) {
        void (*const ways[])(void) = {do_free, do_free_rcu, do_free_extent};
        raced = ways[round % 3];
        it_pages = 5;
        it = raced == do_free_extent ? take_extent(5) : take();
        int status = stopped(free_twice_at_once);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "round %u: status %#x: %s", round,
                  (unsigned)status, stopped_said);
        cr_assert_not_null(strstr(stopped_said, "but it is free already\n"), "%s", stopped_said);
    }
    finish();
}
