/* SPDX-License-Identifier: MIT */
/* prepare.c - zero, hook, poison and checks of pages: see prepare.h. */
#define _GNU_SOURCE
#include "prepare.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POISON 0x6b
#define PLACES_MOST 16 /* in a report */
#define NOWHERE SIZE_MAX

/* What is known of a frame: see prepare.h. */
enum { OUT = 1, EXTENT = 2, HEAD = 4, FILLED = 8 };

struct weir__prepare {
    const struct weir__frames *frames;
    const char *name;
    uint8_t *known;     /* a byte per frame; NULL: nothing needs to be */
    const void **sites; /* per frame, who allocated it last; NULL: nobody asks */
    enum weir_zero zero;
    bool check;
    uint8_t fill; /* of what is free */
    void (*hook)(void *arg, void *memory, size_t bytes);
    void *hook_arg;
};

/* --- what it says --- */

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

/* One write: this may be a signal handler. */
__attribute__((format(printf, 2, 3))) static void say(const struct weir__prepare *prepare, const char *format,
                                                      ...)
{
    char line[768];
    va_list args;
    int n = snprintf(line, sizeof line, "weir: page cache \"%s\": ", prepare->name);
    va_start(args, format);
    vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    size_t length = strlen(line);
    line[length] = '\n'; /* instead of the zero byte */
    if (write(STDERR_FILENO, line, length + 1) < 0)
        return; /* nobody can be told */
}

/* What is subtracted from an address in this object for addr2line: nothing if it is not relocated. */
static uintptr_t base_of(const Dl_info *info)
{
    const ElfW(Ehdr) *header = info->dli_fbase;
    return header == NULL || header->e_type == ET_EXEC ? 0 : (uintptr_t)header;
}

/* "libfoo.so+0x1234 (symbol+0x20)", of the call that returns to `site`: one byte before is inside of it.
 * dladdr() takes a lock of the dynamic linker's, for which it may have to wait: not on the way of a program
 * that goes on. */
static void name_place(char *text, size_t size, const void *site)
{
    uintptr_t address = (uintptr_t)site - 1;
    Dl_info info;
    if (dladdr((const void *)address, &info) == 0 || info.dli_fname == NULL) {
        snprintf(text, size, "0x%" PRIxPTR, address);
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    int n = snprintf(text, size, "%.100s+0x%" PRIxPTR, slash != NULL ? slash + 1 : info.dli_fname,
                     address - base_of(&info));
    if (info.dli_sname != NULL)
        snprintf(text + n, size - (size_t)n, " (%.200s+0x%" PRIxPTR ")", info.dli_sname,
                 address - (uintptr_t)info.dli_saddr);
}

/* With who allocated the frame `index` last, if that is known. */
__attribute__((noreturn, format(printf, 3, 4))) static void stop(const struct weir__prepare *prepare,
                                                                 size_t index, const char *format, ...)
{
    char what[256], place[384];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    /* Relaxed: it is only named. */
    const void *site =
        prepare->sites != NULL && index != NOWHERE ? weir_load_relaxed(&prepare->sites[index]) : NULL;
    if (site != NULL) {
        name_place(place, sizeof place, site);
        say(prepare, "%s; it was allocated by %s", what, place);
    } else {
        say(prepare, "%s", what);
    }
    abort();
}

/* --- frames --- */

static size_t bytes_of(const struct weir__prepare *prepare, size_t n)
{
    return n << prepare->frames->frame_shift;
}

static void *frame_at(const struct weir__prepare *prepare, size_t index)
{
    return prepare->frames->base + bytes_of(prepare, index);
}

/* Of one that comes from the frames. */
static size_t index_of(const struct weir__prepare *prepare, const void *frame)
{
    return ((uintptr_t)frame - (uintptr_t)prepare->frames->base) >> prepare->frames->frame_shift;
}

/* Of one that the program gives back. */
static size_t checked_index(const struct weir__prepare *prepare, const void *frame, const char *function)
{
    size_t index = index_of(prepare, frame);
    if (index >= prepare->frames->frames)
        stop(prepare, NOWHERE, "%p is given to %s(), but it is none of its pages", frame, function);
    if ((uintptr_t)frame % prepare->frames->frame_bytes != 0)
        stop(prepare, index, "%p is given to %s(), but it points into the middle of a page", frame, function);
    return index;
}

/* Is the frame in an extent, and not the first one of it? Of an extent that is the caller's own, or where it
 * only serves a message. Relaxed: who allocated the extent has handed it to its owner; and the next one's
 * first frame is never without its HEAD, whoever makes or frees that meanwhile. */
static bool continues(const struct weir__prepare *prepare, size_t index)
{
    return index < prepare->frames->frames &&
           (weir_load_relaxed(&prepare->known[index]) & (EXTENT | HEAD)) == EXTENT;
}

/* Frames of the extent whose first one this is. */
static size_t extent_size(const struct weir__prepare *prepare, size_t index)
{
    size_t n = 1;
    while (continues(prepare, index + n))
        n++;
    return n;
}

/* What this frame of an extent is no first one of. */
static size_t extent_head(const struct weir__prepare *prepare, size_t index)
{
    while (index != 0 && continues(prepare, index))
        index--;
    return index;
}

/*
 * Makes a frame that is `expected` free: what it was. Anything else than `expected`: it is as it was.
 * Relaxed: that only one of two succeeds is settled by the order of changes of this one byte; and what was
 * done to the frame before was done by who calls this, or by who handed it to him.
 */
static uint8_t claim(struct weir__prepare *prepare, size_t index, uint8_t expected)
{
    uint8_t was = expected;
    while (!weir_cas_relaxed(&prepare->known[index], &was, (uint8_t)0) && was == expected)
        ; /* weak: it fails for no reason, too */
    return was;
}

/* --- what is free is filled --- */

static bool is_filled(const uint8_t *memory, size_t bytes, uint8_t with)
{
    return memory[0] == with && memcmp(memory, memory + 1, bytes - 1) == 0;
}

static size_t count(const uint8_t *memory, size_t bytes, uint8_t value)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += memory[i] == value;
    return n;
}

__attribute__((noreturn)) static void written_to(const struct weir__prepare *prepare, size_t index,
                                                 const uint8_t *frame)
{
    /* What is most of it, was most likely all of it. */
    size_t bytes = prepare->frames->frame_bytes, i = 0;
    uint8_t fill = count(frame, bytes, 0) > count(frame, bytes, prepare->fill) ? 0 : prepare->fill;
    while (i < bytes - 1 && frame[i] == fill)
        i++;
    stop(prepare, index, "page %p was written to after it was freed: byte %zu is 0x%02x, not 0x%02x",
         (const void *)frame, i, frame[i], fill);
}

/*
 * All 0x6b, or, if its memory went back to the system meanwhile, all zero. That cannot be told from a program
 * that zeroed the whole page after it had freed it; and what was written to a page before its memory went is
 * gone: both are missed.
 */
static void verify(const struct weir__prepare *prepare, size_t index, const uint8_t *frame)
{
    size_t bytes = prepare->frames->frame_bytes;
    if (!is_filled(frame, bytes, prepare->fill) && !is_filled(frame, bytes, 0))
        written_to(prepare, index, frame);
}

/* Of n frames that were taken by claim(). Release: pairs with the acquire in mark_out(): who sees that a
 * frame is filled, sees it filled. */
static void fill(struct weir__prepare *prepare, size_t index, size_t n)
{
    memset(frame_at(prepare, index), prepare->fill, bytes_of(prepare, n));
    for (size_t i = 0; i < n; i++)
        weir_store_release(&prepare->known[index + i], (uint8_t)FILLED);
}

/* --- alloc --- */

/* What was known of it. Acquire: pairs with the release in fill(). */
static uint8_t mark_out(struct weir__prepare *prepare, size_t index, uint8_t as)
{
    uint8_t was = weir_xchg_acquire(&prepare->known[index], as);
    if (weir_unlikely((was & OUT) != 0))
        stop(prepare, index, "page %p is handed out while it is out", frame_at(prepare, index));
    return was;
}

static void alloc_frame(struct weir__prepare *prepare, size_t index, uint8_t as, const void *site)
{
    uint8_t *frame = frame_at(prepare, index);
    uint8_t was = prepare->known != NULL ? mark_out(prepare, index, as) : 0;
    if (prepare->check && (was & FILLED) != 0)
        verify(prepare, index, frame);
    /* Of a fresh frame nothing is known, though it often is zero. */
    if (prepare->zero == WEIR_ZERO_ON_ALLOC || (prepare->zero == WEIR_ZERO_ON_FREE && (was & FILLED) == 0))
        memset(frame, 0, prepare->frames->frame_bytes);
    /* Now: what was said so far was about who had it before. */
    if (prepare->sites != NULL)
        weir_store_relaxed(&prepare->sites[index], site); /* relaxed: it is only named */
}

static void call_hook(const struct weir__prepare *prepare, void *memory, size_t n)
{
    if (prepare->hook != NULL)
        prepare->hook(prepare->hook_arg, memory, bytes_of(prepare, n));
}

void weir__prepare_alloc(struct weir__prepare *prepare, size_t n, void *const pages[], const void *site)
{
    for (size_t i = 0; i < n; i++) {
        alloc_frame(prepare, index_of(prepare, pages[i]), OUT, site);
        call_hook(prepare, pages[i], 1);
    }
}

void weir__prepare_alloc_extent(struct weir__prepare *prepare, void *extent, size_t n, const void *site)
{
    size_t index = index_of(prepare, extent);
    /* The first one last: from then on it is out. */
    for (size_t i = n - 1; i != 0; i--)
        alloc_frame(prepare, index + i, OUT | EXTENT, site);
    alloc_frame(prepare, index, OUT | EXTENT | HEAD, site);
    call_hook(prepare, extent, n);
}

/* --- free --- */

/* A page that is none is given back: says why. */
__attribute__((noreturn)) static void no_page(const struct weir__prepare *prepare, size_t index, uint8_t is,
                                              const char *function)
{
    void *page = frame_at(prepare, index);
    if ((is & OUT) == 0)
        stop(prepare, index, "page %p is given to %s(), but it is free already", page, function);
    size_t head = extent_head(prepare, index), n = extent_size(prepare, head);
    stop(prepare, head, "page %p is given to %s(), but it belongs to the extent of %zu page%s at %p", page,
         function, n, plural(n), frame_at(prepare, head));
}

/* Makes a page that is out free; its number. */
static size_t take_page(struct weir__prepare *prepare, const void *page, const char *function)
{
    size_t index = checked_index(prepare, page, function);
    uint8_t was = claim(prepare, index, OUT);
    if (weir_unlikely(was != OUT))
        no_page(prepare, index, was, function);
    return index;
}

void weir__prepare_free(struct weir__prepare *prepare, size_t n, void *const pages[], const char *function)
{
    if (prepare->known == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        fill(prepare, take_page(prepare, pages[i], function), 1);
}

void weir__prepare_free_rcu(struct weir__prepare *prepare, void *page, const char *function)
{
    if (prepare->known != NULL)
        take_page(prepare, page, function);
}

__attribute__((noreturn)) static void no_extent(const struct weir__prepare *prepare, size_t index, size_t n,
                                                uint8_t is)
{
    void *extent = frame_at(prepare, index);
    if ((is & OUT) == 0)
        stop(prepare, index, "extent %p of %zu page%s is given to weir_extent_free(), but it is free already",
             extent, n, plural(n));
    if ((is & EXTENT) == 0)
        stop(prepare, index, "extent %p of %zu page%s is given to weir_extent_free(), but it is a page",
             extent, n, plural(n));
    size_t head = extent_head(prepare, index), size = extent_size(prepare, head);
    stop(prepare, head,
         "extent %p of %zu page%s is given to weir_extent_free(), but it is in the middle of the one of %zu "
         "pages at %p",
         extent, n, plural(n), size, frame_at(prepare, head));
}

void weir__prepare_free_extent(struct weir__prepare *prepare, void *extent, size_t n)
{
    const uint8_t whole = OUT | EXTENT | HEAD;
    if (prepare->known == NULL)
        return;
    size_t index = checked_index(prepare, extent, "weir_extent_free");
    uint8_t was = claim(prepare, index, whole);
    if (weir_unlikely(was != whole))
        no_extent(prepare, index, n, was);
    /* Who took the first one has all of it. */
    size_t size = extent_size(prepare, index);
    if (weir_unlikely(size != n))
        stop(prepare, index, "extent %p of %zu page%s is given to weir_extent_free() as one of %zu", extent,
             size, plural(size), n);
    fill(prepare, index, n);
}

void weir__prepare_spoiled(struct weir__prepare *prepare, const void *frame)
{
    /* Relaxed: whoever gets the frame next gets it from the allocator, which orders what was done before. */
    size_t index = index_of(prepare, frame);
    if (prepare->known != NULL && (weir_xchg_relaxed(&prepare->known[index], (uint8_t)0) & OUT) != 0)
        stop(prepare, index, "page %p is taken for other use while it is out", frame);
}

/* --- what is still out --- */

struct place {
    const void *site;
    size_t n;
};

static int by_site(const void *a, const void *b)
{
    uintptr_t left = (uintptr_t)((const struct place *)a)->site;
    uintptr_t right = (uintptr_t)((const struct place *)b)->site;
    return (left > right) - (left < right);
}

/* The most first. */
static int by_number(const void *a, const void *b)
{
    size_t left = ((const struct place *)a)->n, right = ((const struct place *)b)->n;
    return left != right ? (left < right) - (left > right) : by_site(a, b);
}

/* What is out from this frame on: of how many pages an extent; 0: a page; NOWHERE: nothing. Relaxed, all of
 * it: all is still. */
static size_t kind_at(const struct weir__prepare *prepare, size_t index)
{
    switch (weir_load_relaxed(&prepare->known[index])) {
    case OUT:
        return 0;
    case OUT | EXTENT | HEAD:
        return extent_size(prepare, index);
    default:
        return NOWHERE;
    }
}

/* Fills in who allocated the n of a kind; how many. */
static size_t find_sites(const struct weir__prepare *prepare, size_t kind, size_t n, struct place places[])
{
    size_t found = 0;
    for (size_t i = 0; i < prepare->frames->frames && found < n; i++)
        if (kind_at(prepare, i) == kind)
            places[found++] = (struct place){weir_load_relaxed(&prepare->sites[i]), 1};
    return found;
}

/* Sums up what is from the same place; how many places are left. */
static size_t merge(struct place places[], size_t n)
{
    size_t left = 0;
    qsort(places, n, sizeof places[0], by_site);
    for (size_t i = 0; i < n; i++)
        if (left != 0 && places[left - 1].site == places[i].site)
            places[left - 1].n++;
        else
            places[left++] = places[i];
    qsort(places, left, sizeof places[0], by_number);
    return left;
}

static void report_places(const struct weir__prepare *prepare, size_t kind, size_t n)
{
    struct place *places = malloc(n * sizeof places[0]);
    if (places == NULL)
        return;
    n = merge(places, find_sites(prepare, kind, n, places));
    for (size_t i = 0; i < n && i < PLACES_MOST; i++) {
        char text[384];
        name_place(text, sizeof text, places[i].site);
        say(prepare, "  %zu of them from %s", places[i].n, text);
    }
    if (n > PLACES_MOST)
        say(prepare, "  and %zu more place%s", n - PLACES_MOST, plural(n - PLACES_MOST));
    free(places);
}

static void report_kind(const struct weir__prepare *prepare, size_t kind, size_t n)
{
    const char *are = n == 1 ? "is" : "are";
    if (kind == 0)
        say(prepare, "%zu page%s %s still out", n, plural(n), are);
    else
        say(prepare, "%zu extent%s of %zu page%s %s still out", n, plural(n), kind, plural(kind), are);
    if (prepare->sites != NULL)
        report_places(prepare, kind, n);
}

void weir__prepare_report(struct weir__prepare *prepare, struct weir__extents *extents)
{
    size_t out[WEIR_EXTENT_PAGES_MAX + 1] = {0}; /* by kind */
    (void)extents;
    if (!prepare->check)
        return;
    for (size_t i = 0; i < prepare->frames->frames; i++) {
        size_t kind = kind_at(prepare, i);
        if (kind <= WEIR_EXTENT_PAGES_MAX)
            out[kind]++;
    }
    for (size_t kind = 0; kind <= WEIR_EXTENT_PAGES_MAX; kind++)
        if (out[kind] != 0)
            report_kind(prepare, kind, out[kind]);
}

/* --- making and unmaking --- */

/* Zero, and no memory before it is written. */
static void *map(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at != MAP_FAILED ? at : NULL;
}

static size_t sites_bytes(const struct weir__prepare *prepare)
{
    return prepare->frames->frames * sizeof prepare->sites[0];
}

static int make_maps(struct weir__prepare *prepare, const struct weir_page_cache_config *config)
{
    if (!config->check && config->zero != WEIR_ZERO_ON_FREE)
        return 0;
    prepare->known = map(prepare->frames->frames);
    if (prepare->known == NULL)
        return -ENOMEM;
    if (!config->check || !config->sites)
        return 0;
    prepare->sites = map(sites_bytes(prepare));
    return prepare->sites != NULL ? 0 : -ENOMEM;
}

int weir__prepare_create(struct weir__prepare **result, const struct weir__frames *frames,
                         const struct weir_page_cache_config *config)
{
    *result = NULL;
    if (!config->check && config->zero == WEIR_ZERO_NEVER && config->prepare == NULL)
        return 0;
    struct weir__prepare *prepare = malloc(sizeof *prepare);
    if (prepare == NULL)
        return -ENOMEM;
    *prepare = (struct weir__prepare){
        .frames = frames,
        .name = config->name,
        .zero = config->zero,
        .check = config->check,
        .fill = config->zero == WEIR_ZERO_ON_FREE ? 0 : POISON,
        .hook = config->prepare,
        .hook_arg = config->prepare_arg,
    };
    int error = make_maps(prepare, config);
    if (error != 0) {
        weir__prepare_destroy(prepare);
        return error;
    }
    *result = prepare;
    return 0;
}

void weir__prepare_destroy(struct weir__prepare *prepare)
{
    if (prepare == NULL)
        return;
    if (prepare->known != NULL)
        munmap(prepare->known, prepare->frames->frames);
    if (prepare->sites != NULL)
        munmap(prepare->sites, sites_bytes(prepare));
    free(prepare);
}
