/* SPDX-License-Identifier: MIT */
/* frames.c - page frames out of one reserved address range: see frames.h. */
#define _GNU_SOURCE
#include "frames.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* Older C libraries and kernel headers lack some of these. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#define MPOL_BIND_MODE 2
#define MPOL_ALLOWED_FLAG 4

/* mbind() itself is content with one node that exists. */
static int check_nodes(uint64_t nodes)
{
    unsigned long mask[1024 / (8 * sizeof(long))] = {0}; /* as many as Linux may have */
    uint64_t allowed;
    if (syscall(SYS_get_mempolicy, NULL, mask, 1024ul, NULL, (unsigned long)MPOL_ALLOWED_FLAG) != 0)
        return -errno;
    memcpy(&allowed, mask, sizeof allowed);
    return (nodes & ~allowed) == 0 ? 0 : -EINVAL;
}

static int bind_to_nodes(const struct weir__frames *frames, size_t range, uint64_t nodes)
{
    unsigned long mask[64 / (8 * sizeof(long)) + 1] = {0};
    int error = check_nodes(nodes);
    if (error != 0)
        return error;
    memcpy(mask, &nodes, sizeof nodes);
    return syscall(SYS_mbind, frames->base, range, MPOL_BIND_MODE, mask, 65ul, 0u) == 0 ? 0 : -errno;
}

/* All memory now. */
static int populate(const struct weir__frames *frames, size_t range)
{
    if (madvise(frames->base, range, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno == ENOMEM || errno == EFAULT || errno == EHWPOISON)
        return -ENOMEM;
    for (size_t i = 0; i < range; i += 4096) /* a kernel before 5.14 */
        *(volatile char *)(frames->base + i) = 0;
    return 0;
}

/* What was asked for beyond address space. */
static int apply_options(struct weir__frames *frames, const struct weir__frames_config *config)
{
    size_t range = frames->areas * area_bytes(frames);
    int error = 0;
    /* May fail: then it is not so. */
    madvise(frames->base, range, config->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    if (config->name != NULL)
        prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, frames->base, range, config->name);
    if (config->nodes != 0)
        error = bind_to_nodes(frames, range, config->nodes);
    if (error == 0 && config->lock && mlock(frames->base, range) != 0)
        error = -errno;
    if (error == 0 && config->prefault)
        error = populate(frames, range);
    frames->stays = config->prefault || config->lock;
    frames->huge = config->huge;
    return error;
}

int weir__frames_init(struct weir__frames *frames, const struct weir__frames_config *config)
{
    size_t frame_bytes = config->frame_bytes;
    *frames = (struct weir__frames){.frame_bytes = frame_bytes,
                                    .frame_shift = (unsigned)__builtin_ctzll(frame_bytes)};
    size_t area = area_bytes(frames);
    frames->areas = config->bytes / area + (config->bytes % area != 0);
    frames->frames = frames->areas * WEIR_FRAMES_PER_AREA;
    frames->limit = frames->frames - config->min;
    frames->spacing = frames->areas < weir_percpu_nr_cpus() ? 1 : frames->areas / weir_percpu_nr_cpus();

    /* One area more than asked for, to align the first one, and a guard frame at either end: memory next to
     * the range faults. */
    frames->map_bytes = (frames->areas + 1) * area + 2 * frame_bytes;
    frames->map =
        mmap(NULL, frames->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (frames->map == MAP_FAILED)
        goto none;
    int error = -ENOMEM;
    frames->base = (char *)round_up((size_t)frames->map + frame_bytes, area);
    if (mprotect(frames->base, frames->areas * area, PROT_READ | PROT_WRITE) != 0)
        goto no_range;
    error = apply_options(frames, config);
    if (error != 0)
        goto no_range;

    size_t cpus = round_up(weir_percpu_nr_cpus() * sizeof frames->cpus[0], WEIR_LINE_PAIR);
    size_t bits = frames->areas * WEIR_WORDS_PER_AREA * sizeof frames->bits[0];
    /* Homes of CPUs that are so near would have their counters on one line. */
    frames->area_shift = frames->spacing * sizeof frames->area[0] < WEIR_LINE_PAIR ? WEIR__AREA_APART : 0;
    frames->meta_bytes = cpus + bits + (frames->areas << frames->area_shift) * sizeof frames->area[0];
    /* Zero: everything free and without memory. */
    frames->meta = mmap(NULL, frames->meta_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    error = -ENOMEM;
    if (frames->meta == MAP_FAILED)
        goto no_range;
    frames->cpus = frames->meta;
    frames->bits = (uint64_t *)(void *)((char *)frames->meta + cpus);
    frames->area = (struct weir__area *)(void *)((char *)frames->meta + cpus + bits);
    for (unsigned cpu = 0; cpu < weir_percpu_nr_cpus(); cpu++)
        frames->cpus[cpu].home = cpu * frames->spacing % frames->areas;
    return 0;
no_range:
    munmap(frames->map, frames->map_bytes);
    frames->frames = 0;
    return error;
none:
    frames->frames = 0;
    return -ENOMEM;
}

void weir__frames_destroy(struct weir__frames *frames)
{
    munmap(frames->map, frames->map_bytes);
    munmap(frames->meta, frames->meta_bytes);
}

/* --- the counters --- */

/* Counts up to n more in one of the common counters, as long as there are no more than `limit`; how many. Not
 * fewer than `least`: otherwise none. */
static size_t count_in(size_t *counter, size_t n, size_t least, size_t limit)
{
    /* Relaxed, like all accesses to counters and credits where nothing else is said: numbers; what they stand for
     * is ordered by the counters of the areas. */
    size_t out = weir_load_relaxed(counter), take;
    do {
        size_t left = out < limit ? limit - out : 0;
        take = n < left ? n : left;
        if (take < least || take == 0)
            return 0;
        /* Release: pairs with the acquire in all_counted(). */
    } while (!weir_cas_release(counter, &out, out + take));
    return take;
}

#define CREDIT_COUNT UINT64_C(0xffffffff)
#define CREDIT_CAME (CREDIT_COUNT + 1)

/* Takes up to n of a CPU's credit, but not fewer than `least`; how many. */
static size_t take_credit(struct weir__frames_cpu *cpu, size_t n, size_t least)
{
    uint64_t credit = weir_load_relaxed(&cpu->credit);
    size_t take;
    do {
        size_t left = credit & CREDIT_COUNT;
        take = n < left ? n : left;
        if (take < least || take == 0)
            return 0;
        /* Release: pairs with the acquire in credits(), for all_counted(). */
    } while (!weir_cas_release(&cpu->credit, &credit, credit - take));
    return take;
}

/* Gives a CPU credit for n frames, if there is room for it. */
static bool give_credit(struct weir__frames_cpu *cpu, size_t n)
{
    uint64_t credit = weir_load_relaxed(&cpu->credit);
    do {
        if (n > WEIR__CREDIT_MAX - (credit & CREDIT_COUNT))
            return false;
    } while (!weir_cas_relaxed(&cpu->credit, &credit, credit + n + CREDIT_CAME));
    return true;
}

/* Takes up to n of all CPUs' credits; how many. */
static size_t take_credits(struct weir__frames *frames, size_t n)
{
    size_t taken = 0;
    for (unsigned cpu = 0; cpu < weir_percpu_nr_cpus() && taken < n; cpu++)
        taken += take_credit(&frames->cpus[cpu], n - taken, 1);
    return taken;
}

/* How many credits there are; *came: how often some came to a CPU, so far. */
static size_t credits(const struct weir__frames *frames, uint64_t *came)
{
    size_t sum = 0;
    *came = 0;
    for (unsigned cpu = 0; cpu < weir_percpu_nr_cpus(); cpu++) {
        /* Acquire: see all_counted(). */
        uint64_t credit = weir_load_acquire(&frames->cpus[cpu].credit);
        sum += credit & CREDIT_COUNT;
        *came += credit >> 32;
    }
    return sum;
}

/*
 * Was there a moment at which no frame was left that is not of the reserve? A look at one CPU after the other
 * does not tell: a credit may have gone from where the look was still to come to where it had been. If there are
 * none, and none came anywhere until a second look, there was none from the end of the first look to the
 * beginning of the second, and if the common counter was at its limit in between, that is the moment. Acquire:
 * keeps the three in order; and pairs with the release in count_in() and take_credit(): who learns that a frame has
 * been taken here learns where its taker had put another one before.
 */
static bool all_counted(const struct weir__frames *frames)
{
    uint64_t before, after;
    return credits(frames, &before) == 0 && weir_load_acquire(&frames->out) >= frames->limit &&
           credits(frames, &after) == 0 && before == after;
}

/* What count() does where neither its CPU's credit nor the common counter have as many as are wanted: n more, so
 * far. Lock-free: goes round only if others have given or taken. */
static size_t count_rest(struct weir__frames *frames, size_t n)
{
    size_t taken = 0;
    do {
        taken += take_credits(frames, n - taken);
        taken += count_in(&frames->out, n - taken, 0, frames->limit);
    } while (taken < n && !all_counted(frames));
    return taken;
}

/* Puts up to n frames back into the reserve, as many as it lacks; how many are left. */
static size_t refill_reserve(struct weir__frames *frames, size_t n)
{
    if (frames->limit == frames->frames)
        return n;
    size_t out = weir_load_relaxed(&frames->reserve_out);
    while (out != 0) {
        size_t back = n < out ? n : out;
        if (weir_cas_relaxed(&frames->reserve_out, &out, out - back))
            return n - back;
    }
    return n;
}

/* So many frames can be had again, and are counted no longer. */
static void uncount(struct weir__frames *frames, size_t n)
{
    n = refill_reserve(frames, n);
    if (n != 0)
        weir_fetch_sub_relaxed(&frames->out, n);
}

/* The same for those that somebody had: they may become a credit. */
static void count_back(struct weir__frames *frames, size_t n)
{
    n = refill_reserve(frames, n);
    if (n != 0 && !give_credit(&frames->cpus[weir_percpu_cpu()], n))
        weir_fetch_sub_relaxed(&frames->out, n);
}

static void note_peak(struct weir__frames *frames)
{
    size_t out = weir_load_relaxed(&frames->out) + weir_load_relaxed(&frames->reserve_out);
    size_t peak = weir_load_relaxed(&frames->out_peak);
    while (out > peak && !weir_cas_relaxed(&frames->out_peak, &peak, out))
        ;
}

/* Frames that can be counted, about. */
static size_t countable(const struct weir__frames *frames, bool reserve)
{
    uint64_t came;
    size_t out = weir_load_relaxed(&frames->out), sum = credits(frames, &came);
    sum += out < frames->limit ? frames->limit - out : 0;
    if (reserve)
        sum += frames->frames - frames->limit - weir_load_relaxed(&frames->reserve_out);
    return sum;
}

/* Counts up to n frames as out, but not fewer than `least`; with the last ones if `reserve`. How many. */
static size_t count(struct weir__frames *frames, size_t n, size_t least, bool reserve)
{
    size_t got = take_credit(&frames->cpus[weir_percpu_cpu()], n, least);
    if (got < n)
        got += count_in(&frames->out, n - got, got == 0 ? least : 0, frames->limit);
    if (got == n || (least > 1 && countable(frames, reserve) < least))
        return got;
    got += count_rest(frames, n - got);
    if (reserve)
        got += count_in(&frames->reserve_out, n - got, 0, frames->frames - frames->limit);
    if (got >= least)
        return got;
    uncount(frames, got);
    return 0;
}

/*
 * The same for a caller who will have them.
 *
 * Every frame is counted here before it is promised in an area, and until after that promise was given
 * back. So the areas have at least as many frames left as this has let in who have not found theirs yet:
 * they are there.
 */
static size_t admit(struct weir__frames *frames, size_t n, size_t least, bool reserve)
{
    /* Who leaves the common counters alone sets no new peak. */
    if (take_credit(&frames->cpus[weir_percpu_cpu()], n, n) != 0)
        return n;
    size_t counted = count(frames, n, least, reserve);
    if (counted != 0)
        note_peak(frames);
    return counted;
}

size_t weir__frames_out(const struct weir__frames *frames)
{
    uint64_t came;
    size_t credit = credits(frames, &came);
    size_t out = weir_load_relaxed(&frames->out) + weir_load_relaxed(&frames->reserve_out);
    return out > credit ? out - credit : 0;
}

bool weir__frames_reserve_used(const struct weir__frames *frames)
{
    return weir_load_relaxed(&frames->reserve_out) != 0;
}

/* Relaxed, like all of it: see release_rest(). */
static void mark_used(struct weir__area *area)
{
    if (weir_load_relaxed(&area->memory) != WEIR__AREA_USED)
        weir_store_relaxed(&area->memory, (uint32_t)WEIR__AREA_USED);
}

/* Promises up to n of the area's frames to the caller, but not fewer than `least`; how many. */
static size_t promise(struct weir__area *area, size_t n, size_t least)
{
    uint32_t out = weir_load_relaxed(&area->out);
    size_t take;
    do {
        size_t left = WEIR_FRAMES_PER_AREA - out;
        take = n < left ? n : left;
        if (take < least)
            return 0;
        /* Acquire: pairs with the release in give_up(): the bits that this promises are clear. Release: pairs
         * with the acquire there: for the sake of release_rest(). */
    } while (!weir_cas_acq_rel(&area->out, &out, out + (uint32_t)take));
    return take;
}

/* The same for somebody who uses them. */
static size_t reserve(struct weir__area *area, size_t n, size_t least)
{
    size_t take = promise(area, n, least);
    if (take != 0)
        mark_used(area);
    return take;
}

/* So many of the area's frames are promised to nobody any more. */
static void give_up(struct weir__area *area, size_t n)
{
    /* Release: pairs with the acquire in promise() and release_area(). Acquire: pairs with the release in
     * promise(): mark_used(), which comes next, sees what release_rest() did before. */
    weir_fetch_sub_acq_rel(&area->out, (uint32_t)n);
}

/* The area has frames left again. Relaxed, like all hints. */
static void hint(struct weir__frames *frames, size_t area)
{
    struct weir__frames_cpu *cpu = owner_of(frames, area);
    size_t distance = area - cpu->home;
    if (distance < weir_load_relaxed(&cpu->near))
        weir_store_relaxed(&cpu->near, distance);
    if (distance < weir_load_relaxed(&cpu->near_run))
        weir_store_relaxed(&cpu->near_run, distance);
}

/* So many frames of an area, whose bits are clear, can be had again. */
static void settle(struct weir__frames *frames, size_t area, size_t n)
{
    give_up(weir__frames_area(frames, area), n);
    mark_used(weir__frames_area(frames, area)); /* after the counter: see release_rest() */
    hint(frames, area);
}

/* The i-th area to look at, from `near` on, and how far from the home of `cpu` it is. */
static size_t area_after(const struct weir__frames *frames, const struct weir__frames_cpu *cpu, size_t near,
                         size_t i, size_t *distance)
{
    *distance = near + i < frames->areas ? near + i : near + i - frames->areas;
    size_t area = cpu->home + *distance;
    return area < frames->areas ? area : area - frames->areas;
}

/* --- single frames --- */

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

/*
 * Finds and sets the n bits that were promised. Goes round until it has them all. They are there: nobody
 * sets more bits than he was promised, not even for a moment, not even who claims a run, fails and clears
 * what he has set; and bits are cleared before their promise is given back. So at every moment at least n
 * are clear; but others, who were promised others, may take the ones it looks at.
 *
 * Lock-free: a round finds nothing only if others have set bits meanwhile. Each call sets and clears bits
 * a bounded number of times before it ends: this one as many as it was promised, claim_run() at most a
 * word's for each word of each place it tries. So if one goes round for ever, others come to an end again
 * and again. Who is stopped in the middle, for good even, keeps what he was promised, and nobody waits for
 * that.
 */
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

/* Finds the n frames that were counted. Goes round until it has them all, for the same reasons as claim(). */
static void take(struct weir__frames *frames, size_t n, void *out[])
{
    struct weir__frames_cpu *cpu = &frames->cpus[weir_percpu_cpu()];
    size_t near = weir_load_relaxed(&cpu->near), distance;

    for (size_t i = 0; n != 0; i = i + 1 < frames->areas ? i + 1 : 0) {
        size_t area = area_after(frames, cpu, near, i, &distance);
        size_t promised = reserve(weir__frames_area(frames, area), n, 1);
        if (promised == 0)
            continue;
        claim(frames, area, promised, out);
        out += promised;
        n -= promised;
        if (i != 0)
            weir_store_relaxed(&cpu->near, distance);
    }
}

static size_t alloc(struct weir__frames *frames, size_t n, void *out[], bool reserve)
{
    size_t admitted = admit(frames, n, 1, reserve);
    take(frames, admitted, out);
    return admitted;
}

size_t weir__frames_alloc(struct weir__frames *frames, size_t n, void *out[])
{
    return alloc(frames, n, out, false);
}

size_t weir__frames_alloc_reserved(struct weir__frames *frames, size_t n, void *out[])
{
    return alloc(frames, n, out, true);
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

/* Clears bits of one word. */
static void clear(struct weir__frames *frames, size_t word, uint64_t mine)
{
    /* Release: pairs with the acquire in claim() and claim_run(). */
    uint64_t was = weir_fetch_and_release(&frames->bits[word], ~mine);
    if ((was & mine) != mine)
        name_free_frame(frames, word, mine & ~was);
}

void weir__frames_free(struct weir__frames *frames, size_t n, void *const in[])
{
    for (size_t i = 0; i < n;) {
        /* Neighbours are often given back together: those in the same word with one operation. */
        size_t word = index_of(frames, in[i]) / 64, count = 0;
        uint64_t mine = 0;
        for (; i < n; i++, count++) {
            size_t index = index_of(frames, in[i]);
            uint64_t bit = UINT64_C(1) << index % 64;
            if (index / 64 != word)
                break;
            if ((mine & bit) != 0)
                misuse(frames, in[i], "it is free already");
            mine |= bit;
        }
        clear(frames, word, mine);
        settle(frames, word / WEIR_WORDS_PER_AREA, count);
    }
    count_back(frames, n);
}

/* --- runs --- */

/* The part of n bits from `first` on that lies in the same word as `first`. */
static uint64_t part_of(size_t first, size_t n, size_t *count)
{
    size_t room = 64 - first % 64;
    *count = n < room ? n : room;
    uint64_t ones = *count == 64 ? ~UINT64_C(0) : (UINT64_C(1) << *count) - 1;
    return ones << first % 64;
}

/* The lowest of n bits from `first` on that is set; first + n: none. Relaxed: a guess; claim_run()
 * decides. */
static size_t lowest_set(const uint64_t *bits, size_t first, size_t n)
{
    size_t count;
    for (; n != 0; first += count, n -= count) {
        uint64_t found = weir_load_relaxed(&bits[first / 64]) & part_of(first, n, &count);
        if (found != 0)
            return first / 64 * 64 + (size_t)__builtin_ctzll(found);
    }
    return first;
}

static bool set_part(uint64_t *bits, uint64_t mine)
{
    uint64_t word = weir_load_relaxed(bits);
    do {
        if ((word & mine) != 0)
            return false;
        /* Acquire: as in claim(). */
    } while (!weir_cas_acquire(bits, &word, word | mine));
    return true;
}

/* Sets n bits from `first` on, word by word, or none. */
static bool claim_run(uint64_t *bits, size_t first, size_t n)
{
    size_t count;
    for (size_t done = 0; done < n; done += count) {
        if (set_part(&bits[(first + done) / 64], part_of(first + done, n - done, &count)))
            continue;
        /* Release: nobody has written to the frames, but who did before us is still to be acquired. */
        for (size_t back = 0; back < done; back += count) {
            uint64_t mine = part_of(first + back, done - back, &count);
            weir_fetch_and_release(&bits[(first + back) / 64], ~mine);
        }
        return false;
    }
    return true;
}

/* Looks for n clear bits in a row, the first at a multiple of `step`, from the top, where single frames come
 * last. WEIR_FRAMES_PER_AREA: there are none. Ends: each try goes further down. */
static size_t find_run(uint64_t *bits, size_t n, size_t step)
{
    for (size_t end = WEIR_FRAMES_PER_AREA; end >= n;) {
        size_t first = (end - n) / step * step;
        size_t set = lowest_set(bits, first, n);
        if (set == first + n && claim_run(bits, first, n))
            return first;
        end = set == first + n ? first + n - 1 : set; /* lost it: somebody has one of them by now */
    }
    return WEIR_FRAMES_PER_AREA;
}

/* In an area in which n frames were promised. */
static void *take_run(struct weir__frames *frames, size_t area, size_t n)
{
    uint64_t *bits = frames->bits + area * WEIR_WORDS_PER_AREA;
    size_t step = (size_t)1 << (63 - __builtin_clzll(n)); /* the power of two that is not larger */
    size_t first = find_run(bits, n, step);
    if (first == WEIR_FRAMES_PER_AREA && step != n)
        first = find_run(bits, n, 1);
    if (first == WEIR_FRAMES_PER_AREA)
        return NULL;
    return frames->base + area * area_bytes(frames) + (first << frames->frame_shift);
}

void *weir__frames_alloc_run(struct weir__frames *frames, size_t n)
{
    struct weir__frames_cpu *cpu = &frames->cpus[weir_percpu_cpu()];
    size_t near = weir_load_relaxed(&cpu->near_run), distance;

    if (admit(frames, n, n, false) == 0)
        return NULL;
    for (size_t i = 0; i < frames->areas; i++) {
        size_t area = area_after(frames, cpu, near, i, &distance);
        if (reserve(weir__frames_area(frames, area), n, n) == 0)
            continue;
        void *run = take_run(frames, area, n);
        if (run != NULL) {
            if (i != 0)
                weir_store_relaxed(&cpu->near_run, distance);
            return run;
        }
        settle(frames, area, n); /* as if freed: who came by meanwhile may have taken it for full */
    }
    count_back(frames, n);
    return NULL;
}

/* Clears the bits of n frames in a row, the first of which is `index`. */
static void clear_run(struct weir__frames *frames, size_t index, size_t n)
{
    size_t count;
    for (; n != 0; index += count, n -= count) {
        uint64_t mine = part_of(index, n, &count);
        clear(frames, index / 64, mine);
    }
}

void weir__frames_free_run(struct weir__frames *frames, void *first, size_t n)
{
    size_t index = index_of(frames, first);
    if (n == 0 || n > WEIR_FRAMES_PER_AREA - index % WEIR_FRAMES_PER_AREA)
        misuse(frames, first, "it is not the first of so many pages in a row");
    clear_run(frames, index, n);
    settle(frames, index / WEIR_FRAMES_PER_AREA, n);
    count_back(frames, n);
}

/* --- memory of free frames --- */

/* Bytes; whether the area's free frames have any memory. */
static size_t free_bytes(const struct weir__frames *frames, const struct weir__area *area)
{
    /* Relaxed, both: an estimate. */
    if (weir_load_relaxed(&area->memory) == WEIR__AREA_EMPTY)
        return 0;
    return (WEIR_FRAMES_PER_AREA - (size_t)weir_load_relaxed(&area->out)) << frames->frame_shift;
}

/* Gives the memory of an area that has nothing out back to the system; how many bytes. 0 if something is
 * out. */
static size_t release_area(struct weir__frames *frames, size_t index)
{
    struct weir__area *area = weir__frames_area(frames, index);
    uint32_t out = 0;

    /* Acquire: pairs with the release in give_up(): nobody writes to the frames any more. From here on the
     * area is ours: nobody can reserve anything in it. */
    while (!weir_cas_acquire(&area->out, &out, (uint32_t)WEIR_FRAMES_PER_AREA))
        if (out != 0)
            return 0;
    weir_store_relaxed(&area->memory, (uint32_t)WEIR__AREA_EMPTY);
    madvise(frames->base + index * area_bytes(frames), area_bytes(frames), MADV_DONTNEED);
    /* Whoever gets a frame finds the new, empty memory. */
    give_up(area, WEIR_FRAMES_PER_AREA);
    hint(frames, index);
    return area_bytes(frames);
}

/* Gives the memory of frames that are ours back, and then the frames, neighbours at once. */
static void release_frames(struct weir__frames *frames, size_t n, void *const in[])
{
    for (size_t i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && (char *)in[i] + (run << frames->frame_shift) == in[i + run];)
            run++;
        madvise(in[i], run << frames->frame_shift, MADV_DONTNEED);
        clear_run(frames, index_of(frames, in[i]), run);
    }
}

/* Is any frame of the area free, or about to be? */
static bool any_clear(const struct weir__frames *frames, size_t area)
{
    const uint64_t *bits = frames->bits + area * WEIR_WORDS_PER_AREA;
    for (size_t i = 0; i < WEIR_WORDS_PER_AREA; i++)
        if (weir_load_relaxed(&bits[i]) != ~UINT64_C(0)) /* relaxed: what matters the counter has told us */
            return true;
    return false;
}

/*
 * The same for the free frames of an area that has something out. How many bytes.
 *
 * Its state becomes EMPTY before the rest of it is promised to us. Whoever frees brings the counter down, and
 * looks at the state after that. If he was first, his frame is among those that were promised. If we were, he
 * learns of EMPTY by the counter, and the area is USED when this is over, and looked at again. So it is if
 * frames are left that were promised to others: they may take ours instead, once we have given them back.
 */
static size_t release_rest(struct weir__frames *frames, size_t index, size_t most)
{
    struct weir__area *area = weir__frames_area(frames, index);
    uint32_t quiet = WEIR__AREA_QUIET;
    void *mine[WEIR_FRAMES_PER_AREA];

    /* Relaxed: the release in promise() comes after it. */
    if (!weir_cas_relaxed(&area->memory, &quiet, (uint32_t)WEIR__AREA_EMPTY))
        return 0;
    size_t n = promise(area, most, 1);
    if (n == 0) {
        mark_used(area); /* nothing was left; but what comes back has memory */
        return 0;
    }
    claim(frames, index, n, mine);
    bool more = any_clear(frames, index);
    release_frames(frames, n, mine);
    give_up(area, n);
    if (more)
        mark_used(area);
    hint(frames, index);
    return n << frames->frame_shift;
}

/* Either, with as many frames counted as out as it will need: others must not be let in to frames that we
 * have. How many bytes. */
static size_t release_one(struct weir__frames *frames, size_t index)
{
    size_t out = weir_load_relaxed(&weir__frames_area(frames, index)->out); /* relaxed: a guess */
    size_t n = WEIR_FRAMES_PER_AREA - out, least = out == 0 ? n : 1;
    size_t counted = count(frames, n, least, true);
    if (counted == 0)
        return 0;
    size_t bytes = out == 0 ? release_area(frames, index) : release_rest(frames, index, counted);
    uncount(frames, counted); /* no credit: nobody has had them, and the peak does not know of them */
    return bytes;
}

static bool is_idle(const struct weir__frames *frames, size_t index)
{
    const struct weir__area *area = weir__frames_area(frames, index);
    return weir_load_relaxed(&area->memory) != WEIR__AREA_EMPTY && weir_load_relaxed(&area->out) == 0;
}

static bool has_rest(const struct weir__frames *frames, size_t index, enum weir__area_memory memory)
{
    const struct weir__area *area = weir__frames_area(frames, index);
    /* Relaxed: a guess. A part of a huge page is not given back. */
    return !frames->huge && weir_load_relaxed(&area->memory) == (uint32_t)memory &&
           weir_load_relaxed(&area->out) != 0 && free_bytes(frames, area) != 0;
}

/* From here on those that are not used until the next call are quiet. */
static void watch_rests(struct weir__frames *frames)
{
    for (size_t i = 0; i < frames->areas; i++) {
        uint32_t used = WEIR__AREA_USED;
        if (has_rest(frames, i, WEIR__AREA_USED))
            /* Relaxed: who uses it stores USED again. */
            weir_cas_relaxed(&weir__frames_area(frames, i)->memory, &used, (uint32_t)WEIR__AREA_QUIET);
    }
}

/* Rounded up. */
static size_t percent_of(size_t n, unsigned percent)
{
    return n / 100 * percent + (n % 100 * percent + 99) / 100;
}

/* All of these from the far end: CPUs fill areas upwards. */
static size_t release_areas(struct weir__frames *frames, unsigned percent)
{
    size_t n = 0, bytes = 0, given;
    for (size_t i = 0; i < frames->areas; i++)
        n += is_idle(frames, i);
    size_t want = percent_of(n, percent);
    for (size_t i = frames->areas; i-- > 0 && want != 0;)
        if (is_idle(frames, i) && (given = release_one(frames, i)) != 0) {
            bytes += given;
            want--;
        }
    return bytes;
}

static size_t release_rests(struct weir__frames *frames, unsigned percent)
{
    size_t n = 0, bytes = 0, given;
    for (size_t i = 0; i < frames->areas; i++)
        n += has_rest(frames, i, WEIR__AREA_QUIET);
    size_t want = percent_of(n, percent);
    for (size_t i = frames->areas; i-- > 0 && want != 0;)
        if (has_rest(frames, i, WEIR__AREA_QUIET) && (given = release_one(frames, i)) != 0) {
            bytes += given;
            want--;
        }
    return bytes;
}

size_t weir__frames_release(struct weir__frames *frames, unsigned percent)
{
    if (frames->stays)
        return 0;
    size_t bytes = release_areas(frames, percent);
    if (percent == 100)
        watch_rests(frames); /* all that there is, used or not */
    bytes += release_rests(frames, percent);
    watch_rests(frames);
    return bytes;
}

size_t weir__frames_releasable(const struct weir__frames *frames)
{
    size_t bytes = 0;
    if (frames->stays)
        return 0;
    for (size_t i = 0; i < frames->areas; i++)
        if (!frames->huge || is_idle(frames, i))
            bytes += free_bytes(frames, weir__frames_area(frames, i));
    return bytes;
}
