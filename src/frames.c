/* SPDX-License-Identifier: MIT */
/* frames.c - page frames out of one reserved address range: see frames.h. */
#define _GNU_SOURCE
#include "frames.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "weir/percpu.h"

static size_t area_bytes(const struct weir__frames *frames)
{
    return WEIR_FRAMES_PER_AREA * frames->frame_bytes;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* The CPU whose home an area is nearest to, from above. Where there are more CPUs than areas, some share a
 * home, and the first of them stands for all. */
static struct weir__frames_cpu *owner_of(const struct weir__frames *frames, size_t area)
{
    size_t cpu = area / frames->spacing, last = weir_percpu_nr_cpus() - 1;
    return &frames->cpus[cpu < last ? cpu : last];
}

int weir__frames_init(struct weir__frames *frames, const struct weir__frames_config *config)
{
    size_t bytes = config->bytes, frame_bytes = config->frame_bytes;
    *frames = (struct weir__frames){.frame_bytes = frame_bytes,
                                    .frame_shift = (unsigned)__builtin_ctzll(frame_bytes)};
    size_t area = area_bytes(frames);
    frames->areas = bytes / area + (bytes % area != 0);
    frames->frames = frames->areas * WEIR_FRAMES_PER_AREA;
    frames->spacing = frames->areas < weir_percpu_nr_cpus() ? 1 : frames->areas / weir_percpu_nr_cpus();

    /* One area more than asked for, to align the first one, and a guard frame at either end: memory next to
     * the range faults. */
    frames->map_bytes = (frames->areas + 1) * area + 2 * frame_bytes;
    frames->map =
        mmap(NULL, frames->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (frames->map == MAP_FAILED)
        return -ENOMEM;
    frames->base = (char *)round_up((size_t)frames->map + frame_bytes, area);
    size_t range = frames->areas * area;
    if (mprotect(frames->base, range, PROT_READ | PROT_WRITE) != 0)
        goto fail;
    madvise(frames->base, range,
            MADV_NOHUGEPAGE); /* a page in use is a page of memory; may fail: then it is not so */

    size_t cpus = round_up(weir_percpu_nr_cpus() * sizeof frames->cpus[0], WEIR_LINE_PAIR);
    size_t bits = frames->areas * WEIR_WORDS_PER_AREA * sizeof frames->bits[0];
    frames->meta_bytes = cpus + bits + frames->areas * sizeof frames->area[0];
    /* Zero: everything free and untouched. */
    frames->meta = mmap(NULL, frames->meta_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (frames->meta == MAP_FAILED)
        goto fail;
    frames->cpus = frames->meta;
    frames->bits = (uint64_t *)(void *)((char *)frames->meta + cpus);
    frames->area = (struct weir__area *)(void *)((char *)frames->meta + cpus + bits);
    for (unsigned cpu = 0; cpu < weir_percpu_nr_cpus(); cpu++)
        frames->cpus[cpu].home = cpu * frames->spacing % frames->areas;
    return 0;
fail:
    munmap(frames->map, frames->map_bytes);
    return -ENOMEM;
}

void weir__frames_destroy(struct weir__frames *frames)
{
    munmap(frames->map, frames->map_bytes);
    munmap(frames->meta, frames->meta_bytes);
}

/* Promises up to n of the area's frames to the caller; how many. */
static size_t reserve(struct weir__area *area, size_t n)
{
    uint32_t out = weir_load_relaxed(&area->out), take;
    do {
        size_t left = WEIR_FRAMES_PER_AREA - out;
        take = (uint32_t)(n < left ? n : left);
        if (take == 0)
            return 0;
        /* Acquire: pairs with the release in free and in release_area(): the bits that this promises are
         * clear. */
    } while (!weir_cas_acquire(&area->out, &out, out + take));
    if (weir_load_relaxed(&area->touched) == 0) /* relaxed: only who has the whole area clears it */
        weir_store_relaxed(&area->touched, 1u);
    return take;
}

/* Up to n of the clear bits of `word`, the lowest first. */
static uint64_t pick(uint64_t word, size_t n)
{
    uint64_t clear = ~word;
    if ((size_t)__builtin_popcountll(clear) <= n)
        return clear;
    uint64_t rest = clear;
    while (n-- != 0)
        rest &= rest - 1;
    return clear ^ rest;
}

/* Finds and sets the n bits that were promised. Goes round until it has them all: they are there, but others,
 * who were promised others, may take the ones it looks at. */
static void claim(struct weir__frames *frames, size_t area, size_t n, void *out[])
{
    uint64_t *bits = frames->bits + area * WEIR_WORDS_PER_AREA;
    char *base = frames->base + area * area_bytes(frames);

    for (size_t i = 0; n != 0; i = (i + 1) % WEIR_WORDS_PER_AREA) {
        uint64_t word = weir_load_relaxed(&bits[i]), mine;
        /* Acquire: pairs with the release in free: what the last owner did to the frame comes before. */
        while ((mine = pick(word, n)) != 0 && !weir_cas_acquire(&bits[i], &word, word | mine))
            ;
        for (; mine != 0; mine &= mine - 1, n--)
            *out++ = base + ((i * 64 + (size_t)__builtin_ctzll(mine)) << frames->frame_shift);
    }
}

static void count_out(struct weir__frames *frames, size_t n)
{
    /* Relaxed, all: statistics. */
    size_t out = weir_fetch_add_relaxed(&frames->out, n) + n, peak = weir_load_relaxed(&frames->out_peak);
    while (out > peak && !weir_cas_relaxed(&frames->out_peak, &peak, out))
        ;
}

size_t weir__frames_alloc(struct weir__frames *frames, size_t n, void *out[])
{
    struct weir__frames_cpu *cpu = &frames->cpus[weir_percpu_cpu()];
    size_t near = weir_load_relaxed(&cpu->near), got = 0; /* relaxed, like all of `near`: a hint */

    for (size_t i = 0; i < frames->areas && got < n; i++) {
        size_t distance = near + i < frames->areas ? near + i : near + i - frames->areas;
        size_t area = cpu->home + distance;
        area = area < frames->areas ? area : area - frames->areas;
        size_t promised = reserve(&frames->area[area], n - got);
        if (promised == 0)
            continue;
        claim(frames, area, promised, out + got);
        got += promised;
        if (i != 0)
            weir_store_relaxed(&cpu->near, distance);
    }
    if (got != 0)
        count_out(frames, got);
    return got;
}

static void misuse(const struct weir__frames *frames, const void *frame, const char *what)
{
    fprintf(stderr, "weir: page %p given back to the page cache at %p, but %s\n", frame,
            (const void *)frames->base, what);
    abort();
}

/* The number of a frame. */
static size_t index_of(const struct weir__frames *frames, const void *frame)
{
    uintptr_t offset = (uintptr_t)frame - (uintptr_t)frames->base;
    if (offset >> frames->frame_shift >= frames->frames)
        misuse(frames, frame, "it is none of its pages");
    if ((offset & (frames->frame_bytes - 1)) != 0)
        misuse(frames, frame, "it points into the middle of a page");
    return offset >> frames->frame_shift;
}

static void name_free_frame(const struct weir__frames *frames, size_t word, uint64_t not_out)
{
    size_t index = word * 64 + (size_t)__builtin_ctzll(not_out);
    misuse(frames, frames->base + (index << frames->frame_shift), "it is free already");
}

void weir__frames_free(struct weir__frames *frames, size_t n, void *const in[])
{
    /* Before the frames can be had again, so that no more are counted than there are. Relaxed: a
     * statistic. */
    weir_fetch_sub_relaxed(&frames->out, n);
    for (size_t i = 0; i < n;) {
        /* Neighbours are often given back together: those in the same word with one operation. */
        size_t word = index_of(frames, in[i]) / 64;
        uint64_t mine = 0;
        uint32_t count = 0;
        for (; i < n; i++) {
            size_t index = index_of(frames, in[i]);
            uint64_t bit = UINT64_C(1) << index % 64;
            if (index / 64 != word)
                break;
            if ((mine & bit) != 0)
                misuse(frames, in[i], "it is free already");
            mine |= bit;
            count++;
        }
        /* Release: pairs with the acquire in claim(). */
        uint64_t was = weir_fetch_and_release(&frames->bits[word], ~mine);
        if ((was & mine) != mine)
            name_free_frame(frames, word, mine & ~was);
        /* Release: pairs with the acquire in reserve() and release_area(). */
        size_t area = word / WEIR_WORDS_PER_AREA;
        weir_fetch_sub_release(&frames->area[area].out, count);
        struct weir__frames_cpu *cpu = owner_of(frames, area);
        if (area - cpu->home < weir_load_relaxed(&cpu->near))
            weir_store_relaxed(&cpu->near, area - cpu->home);
    }
}

/* Gives the memory of an area that has nothing out back to the system. False if something is out, or it has
 * none. */
static bool release_area(struct weir__frames *frames, size_t index)
{
    struct weir__area *area = &frames->area[index];
    uint32_t out = 0;

    if (weir_load_relaxed(&area->touched) == 0 || weir_load_relaxed(&area->out) != 0)
        return false;
    /* Acquire: pairs with the release in free: nobody writes to the frames any more. From here on the area is
     * ours: nobody can reserve anything in it. */
    while (!weir_cas_acquire(&area->out, &out, (uint32_t)WEIR_FRAMES_PER_AREA))
        if (out != 0)
            return false;
    weir_store_relaxed(&area->touched, 0u);
    madvise(frames->base + index * area_bytes(frames), area_bytes(frames), MADV_DONTNEED);
    /* Release: pairs with the acquire in reserve(): whoever gets a frame finds the new, empty memory. */
    weir_fetch_sub_release(&area->out, (uint32_t)WEIR_FRAMES_PER_AREA);
    return true;
}

size_t weir__frames_release(struct weir__frames *frames, unsigned percent)
{
    size_t idle = 0, released = 0;
    for (size_t i = 0; i < frames->areas; i++)
        idle +=
            weir_load_relaxed(&frames->area[i].touched) != 0 && weir_load_relaxed(&frames->area[i].out) == 0;
    size_t want = idle / 100 * percent + (idle % 100 * percent + 99) / 100;
    for (size_t i = frames->areas;
         i-- > 0 && released < want;) /* from the far end: CPUs fill areas upwards */
        released += release_area(frames, i);
    return released * area_bytes(frames);
}
