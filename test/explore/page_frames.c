/* SPDX-License-Identifier: MIT */
/*
 * page_frames.c - the frame allocator of src/frames.c, in areas of two words. Programs with a mistake in them
 * must fail.
 *
 * A program begins with some frames free, some that its threads hold, and all others out for good; what the
 * threads do is a list of steps. The memory of a frame is a word: its owner writes a number there, and finds
 * it when he gives the frame back; what the system takes is 0. Only some frames have such a word, those that
 * the programs are about.
 */
#include "page_frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WEIR_FRAMES_PER_AREA 128
#define WEIR__CREDIT_MAX 2

/* What the system is asked for, and what stops the program, goes to the explorer. */
static int take_memory(void *first, size_t bytes, int advice);
#define madvise(first, bytes, advice) take_memory(first, bytes, advice)
#define abort() explore_fail("a frame is given back that is not out")
#undef _GNU_SOURCE
#include "../../src/frames.c"
#undef madvise
#undef abort

enum { AREAS = 2, FRAMES = AREAS * WEIR_FRAMES_PER_AREA, STEPS = 4, PIECES = 4, SHIFT = 12 };
enum { NOBODY = EXPLORE_THREADS, OTHERS }; /* owners that are no thread */
enum { CREDIT_CPUS = 3 };

static unsigned cpus = 1, cpu_of[EXPLORE_THREADS];

unsigned weir_percpu_nr_cpus(void)
{
    return cpus;
}

unsigned weir_percpu_cpu(void)
{
    return cpu_of[explore_self()];
}

/* --- programs --- */

enum action {
    NONE,
    ALLOC,    /* n frames */
    RESERVED, /* likewise, the last ones included */
    RUN,      /* n frames in a row */
    FREE,     /* what the thread has held longest */
    MEMORY,   /* that of area n's free frames goes */
    WATCH,    /* areas become quiet */
    RELEASE,  /* n percent of all */
    MOVE,     /* to CPU n */
    /* Mistakes. */
    FREE_COUNTER_FIRST, /* brings the counter down before the bit is clear */
    FREE_MARK_FIRST,    /* marks the area before the counter comes down */
    FREE_OUT_FIRST,     /* counts back before the frame can be had */
    AREA_LATE,          /* takes the memory when the area is everybody's again */
    REST_LATE,          /* EMPTY after the promise */
    REST_UNCLAIMED,     /* takes memory of promised frames without claiming them */
    RUN_HALF,           /* does not give up what it has claimed of a run */
    ONE_LOOK,           /* one frame; there is none if one look at all credits finds none */
};

struct step {
    enum action action;
    size_t n;
    bool must; /* finds as many as it wants */
};

struct frames_program {
    const char *name;
    bool fails;
    unsigned threads, preemptions, surprises;
    struct step step[EXPLORE_THREADS][STEPS];
    uint64_t free[AREAS][WEIR_WORDS_PER_AREA]; /* an area with none is not there */
    uint32_t memory[AREAS];                    /* enum weir__area_memory */
    size_t held[EXPLORE_THREADS];              /* 1 + a frame that the thread holds at first */
    size_t min;
    unsigned cpus;              /* 0: one */
    size_t credit[CREDIT_CPUS]; /* frames that are counted, but free */
};

/* --- the state --- */

struct piece {
    size_t first, n;
    void *frame[PIECES]; /* if it is no run */
    uint64_t stamp;
    bool run;
};

static const struct frames_program *program;
static struct weir__frames frames;
static struct weir__area area[AREAS + 1]; /* one more: the explorer reads 8 bytes at each address */
static uint64_t bits[AREAS * WEIR_WORDS_PER_AREA];
static struct weir__frames_cpu cpu[CREDIT_CPUS];
static uint64_t content[FRAMES];
static unsigned owner[FRAMES];
static struct piece held[EXPLORE_THREADS][PIECES];
static unsigned holds[EXPLORE_THREADS];
static uint64_t stamps;
static size_t of_reserve; /* frames that were had with leave to take the last ones */
static size_t most;       /* frames that were out at once */
static uint64_t moment;   /* an access to it lets others come in between */

static char *const base = (char *)(uintptr_t)(1 << 30); /* nothing is there */

/* Has the frame a word for its memory? */
static bool is_seen(size_t frame)
{
    return frame % 64 < 3 || frame % 64 > 61;
}

static size_t number_of(const void *frame)
{
    return (size_t)((const char *)frame - base) >> SHIFT;
}

static bool is_free(size_t frame)
{
    return (program->free[frame / WEIR_FRAMES_PER_AREA][frame % WEIR_FRAMES_PER_AREA / 64] >> frame % 64 &
            1) != 0;
}

static size_t owned(void)
{
    size_t n = 0;
    for (size_t i = 0; i < frames.frames; i++)
        n += owner[i] != NOBODY;
    return n;
}

static void start(void *arg)
{
    program = arg;
    cpus = program->cpus != 0 ? program->cpus : 1;
    size_t areas = (program->free[1][0] | program->free[1][1]) != 0 ? 2 : 1;
    frames = (struct weir__frames){.base = base,
                                   .frame_bytes = 1 << SHIFT,
                                   .frame_shift = SHIFT,
                                   .frames = areas * WEIR_FRAMES_PER_AREA,
                                   .areas = areas,
                                   .limit = areas * WEIR_FRAMES_PER_AREA - program->min,
                                   .spacing = 1,
                                   .area = area,
                                   .bits = bits,
                                   .cpus = cpu};
    memset(cpu, 0, sizeof cpu);
    for (unsigned i = 0; i < cpus; i++) {
        cpu[i].home = i % areas;
        cpu[i].credit = program->credit[i];
        frames.out += program->credit[i];
    }
    for (unsigned t = 0; t < program->threads; t++)
        cpu_of[t] = t % cpus;
    memset(holds, 0, sizeof holds);
    stamps = 1;
    of_reserve = 0;
    for (size_t i = 0; i < areas; i++) {
        size_t left = 0;
        for (size_t w = 0; w < WEIR_WORDS_PER_AREA; w++) {
            bits[i * WEIR_WORDS_PER_AREA + w] = ~program->free[i][w];
            left += (size_t)__builtin_popcountll(program->free[i][w]);
        }
        area[i].out = (uint32_t)(WEIR_FRAMES_PER_AREA - left);
        area[i].memory = program->memory[i];
        frames.out += WEIR_FRAMES_PER_AREA - left;
    }
    for (size_t i = 0; i < frames.frames; i++) {
        owner[i] = is_free(i) ? NOBODY : OTHERS;
        content[i] = !is_free(i) || program->memory[i / WEIR_FRAMES_PER_AREA] != WEIR__AREA_EMPTY;
    }
    for (unsigned t = 0; t < program->threads; t++) {
        if (program->held[t] == 0)
            continue;
        size_t first = program->held[t] - 1;
        held[t][holds[t]++] =
            (struct piece){.first = first, .n = 1, .frame = {base + (first << SHIFT)}, .stamp = 1};
        owner[first] = t;
    }
    frames.out_peak = frames.out;
    most = weir__frames_out(&frames);
}

/* Frames are the thread's now. */
static void own(const struct piece *piece, size_t frame)
{
    if (owner[frame] != NOBODY)
        explore_fail("frame %zu is handed out twice", frame);
    owner[frame] = explore_self();
    if (!is_seen(frame))
        return;
    explore_read_owned(&content[frame]); /* the last owner's, or what the system has left, is to be known */
    explore_write_owned(&content[frame], piece->stamp);
}

static void disown(const struct piece *piece, size_t frame)
{
    if (is_seen(frame) && explore_read_owned(&content[frame]) != piece->stamp)
        explore_fail("what was written to frame %zu is lost", frame);
    owner[frame] = NOBODY;
}

static size_t frame_in(const struct piece *piece, size_t i)
{
    return piece->run ? piece->first + i : number_of(piece->frame[i]);
}

static void hold(struct piece piece)
{
    unsigned self = explore_self();
    piece.stamp = ++stamps;
    for (size_t i = 0; i < piece.n; i++)
        own(&piece, frame_in(&piece, i));
    held[self][holds[self]++] = piece;
    size_t now = owned();
    most = now > most ? now : most;
}

static struct piece let_go(void)
{
    unsigned self = explore_self();
    struct piece piece = held[self][0];
    for (size_t i = 0; i < piece.n; i++)
        disown(&piece, frame_in(&piece, i));
    memmove(&held[self][0], &held[self][1], --holds[self] * sizeof piece);
    return piece;
}

/* The system takes the memory of frames: they are nobody's, and whoever had them is known to be done. */
static int take_memory(void *first, size_t bytes, int advice)
{
    (void)advice;
    weir_load_relaxed(&moment);
    for (size_t i = number_of(first); i < number_of((char *)first + bytes); i++) {
        if (owner[i] != NOBODY)
            explore_fail("the system takes the memory of frame %zu, which is out", i);
        if (!is_seen(i))
            continue;
        explore_read_owned(&content[i]);
        explore_write_owned(&content[i], 0);
    }
    return 0;
}

/* --- steps --- */

static void alloc_frames(const struct step *step)
{
    struct piece piece = {.n = 0};
    piece.n = (step->action == ALLOC ? weir__frames_alloc : weir__frames_alloc_reserved)(&frames, step->n,
                                                                                         piece.frame);
    if (step->must && piece.n != step->n)
        explore_fail("%zu of %zu frames are had", piece.n, step->n);
    if (piece.n == 0)
        return;
    hold(piece);
    if (step->action == RESERVED)
        of_reserve += piece.n;
    else if (owned() > frames.limit + of_reserve)
        explore_fail("frames of the reserve are had");
}

static void alloc_run(const struct step *step)
{
    const char *run = weir__frames_alloc_run(&frames, step->n);
    if (step->must && run == NULL)
        explore_fail("no run is had");
    if (run != NULL)
        hold((struct piece){.first = number_of(run), .n = step->n, .run = true});
}

static void free_piece(void)
{
    if (holds[explore_self()] == 0)
        return;
    struct piece piece = let_go();
    if (piece.run)
        weir__frames_free_run(&frames, base + (piece.first << SHIFT), piece.n);
    else
        weir__frames_free(&frames, piece.n, piece.frame);
}

/* weir__frames_free() of one frame, in another order. */
static void free_wrong(enum action mistake)
{
    if (holds[explore_self()] == 0)
        return;
    struct piece piece = let_go();
    size_t frame = number_of(piece.frame[0]), in = frame / WEIR_FRAMES_PER_AREA;
    uint64_t mine = UINT64_C(1) << frame % 64;
    if (mistake == FREE_OUT_FIRST)
        count_back(&frames, 1);
    if (mistake == FREE_MARK_FIRST)
        mark_used(&area[in]);
    if (mistake == FREE_COUNTER_FIRST)
        give_up(&area[in], 1);
    clear(&frames, frame / 64, mine);
    if (mistake != FREE_COUNTER_FIRST)
        give_up(&area[in], 1);
    if (mistake != FREE_MARK_FIRST)
        mark_used(&area[in]);
    if (mistake != FREE_OUT_FIRST)
        count_back(&frames, 1);
}

static void release_area_late(size_t index)
{
    uint32_t out = 0;
    if (!weir_cas_acquire(&area[index].out, &out, (uint32_t)WEIR_FRAMES_PER_AREA))
        return;
    weir_store_relaxed(&area[index].memory, (uint32_t)WEIR__AREA_EMPTY);
    give_up(&area[index], WEIR_FRAMES_PER_AREA);
    take_memory(base + index * area_bytes(&frames), area_bytes(&frames), MADV_DONTNEED);
}

/* Of all frames whose bits are clear. */
static void take_clear(size_t index)
{
    for (size_t i = index * WEIR_FRAMES_PER_AREA; i < (index + 1) * WEIR_FRAMES_PER_AREA; i++)
        if ((bits[i / 64] >> i % 64 & 1) == 0)
            take_memory(base + (i << SHIFT), 1 << SHIFT, MADV_DONTNEED);
}

static void release_rest_wrong(enum action mistake, size_t index, size_t wanted)
{
    void *mine[PIECES];
    size_t n = promise(&area[index], wanted, 1);
    if (n == 0)
        return;
    weir_store_relaxed(&area[index].memory, (uint32_t)WEIR__AREA_EMPTY);
    if (mistake == REST_UNCLAIMED) {
        take_clear(index);
    } else {
        claim(&frames, index, n, mine);
        release_frames(&frames, n, mine);
    }
    give_up(&area[index], n);
}

static void release_wrong(enum action mistake, size_t index)
{
    size_t n = mistake == AREA_LATE ? WEIR_FRAMES_PER_AREA : PIECES;
    size_t counted = count(&frames, n, mistake == AREA_LATE ? n : 1, true);
    if (counted == 0)
        return;
    if (mistake == AREA_LATE)
        release_area_late(index);
    else
        release_rest_wrong(mistake, index, counted);
    uncount(&frames, counted);
}

/* In the first area. */
static void claim_half(size_t n)
{
    size_t first = 32, count;
    if (admit(&frames, n, n, false) == 0)
        return;
    if (reserve(&area[0], n, n) == 0) {
        count_back(&frames, n);
        return;
    }
    for (size_t done = 0; done < n; done += count)
        if (!set_part(&bits[(first + done) / 64], part_of(first + done, n - done, &count))) {
            settle(&frames, 0, n);
            count_back(&frames, n);
            return;
        }
    hold((struct piece){.first = first, .n = n, .run = true});
}

static void alloc_by_one_look(void)
{
    struct piece piece = {.n = 1};
    if (take_credits(&frames, 1) == 0)
        explore_fail("0 of 1 frames are had");
    take(&frames, 1, piece.frame);
    hold(piece);
}

static void make(const struct step *step)
{
    switch (step->action) {
    case NONE:
        return;
    case ALLOC:
    case RESERVED:
        alloc_frames(step);
        return;
    case RUN:
        alloc_run(step);
        return;
    case FREE:
        free_piece();
        return;
    case MEMORY:
        release_one(&frames, step->n);
        return;
    case WATCH:
        watch_rests(&frames);
        return;
    case RELEASE:
        weir__frames_release(&frames, (unsigned)step->n);
        return;
    case MOVE:
        cpu_of[explore_self()] = (unsigned)step->n;
        return;
    case FREE_COUNTER_FIRST:
    case FREE_MARK_FIRST:
    case FREE_OUT_FIRST:
        free_wrong(step->action);
        return;
    case AREA_LATE:
    case REST_LATE:
    case REST_UNCLAIMED:
        release_wrong(step->action, step->n);
        return;
    case RUN_HALF:
        claim_half(step->n);
        return;
    case ONE_LOOK:
        alloc_by_one_look();
        return;
    }
}

static void run(void *arg, unsigned thread)
{
    (void)arg;
    for (unsigned i = 0; i < STEPS; i++)
        make(&program->step[thread][i]);
}

/* --- what is left --- */

static void finish_frame(size_t frame)
{
    bool out = (bits[frame / 64] >> frame % 64 & 1) != 0;
    if (out != (owner[frame] != NOBODY))
        explore_fail("frame %zu %s", frame, out ? "is out, and nobody has it" : "is somebody's, and free");
    if (!out && is_seen(frame) && content[frame] != 0 &&
        area[frame / WEIR_FRAMES_PER_AREA].memory == WEIR__AREA_EMPTY)
        explore_fail("free frame %zu has memory, and its area is said to have none", frame);
}

static void finish(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < frames.frames; i++)
        finish_frame(i);
    for (size_t i = 0; i < frames.areas; i++) {
        size_t out = 0;
        for (size_t w = 0; w < WEIR_WORDS_PER_AREA; w++)
            out += (size_t)__builtin_popcountll(bits[i * WEIR_WORDS_PER_AREA + w]);
        if (area[i].out != out)
            explore_fail("%zu frames of area %zu are out, and it counts %u", out, i, area[i].out);
    }
    if (weir__frames_out(&frames) != owned())
        explore_fail("%zu frames are out, and %zu are counted", owned(), weir__frames_out(&frames));
    if (frames.out > frames.limit || frames.reserve_out > frames.frames - frames.limit)
        explore_fail("%zu frames are counted, and %zu of the reserve", frames.out, frames.reserve_out);
    if (frames.out_peak < most)
        explore_fail("%zu frames were out at once, and the most it has seen is %zu", most, frames.out_peak);
    for (unsigned t = 0; t < program->threads; t++)
        while (holds[t] != 0) {
            const struct piece *piece = &held[t][--holds[t]];
            for (size_t i = 0; i < piece->n; i++)
                if (is_seen(frame_in(piece, i)) && content[frame_in(piece, i)] != piece->stamp)
                    explore_fail("what was written to frame %zu is lost", frame_in(piece, i));
        }
}

static void name(void *arg, const void *address, char *text, size_t size)
{
    (void)arg;
    for (size_t i = 0; i < AREAS; i++) {
        if (address == &area[i].out)
            snprintf(text, size, "%zu.out", i);
        if (address == &area[i].memory)
            snprintf(text, size, "%zu.memory", i);
    }
    for (size_t i = 0; i < AREAS * WEIR_WORDS_PER_AREA; i++)
        if (address == &bits[i])
            snprintf(text, size, "%zu.bits[%zu]", i / WEIR_WORDS_PER_AREA, i % WEIR_WORDS_PER_AREA);
    if (address == &frames.out)
        snprintf(text, size, "out");
    if (address == &frames.out_peak)
        snprintf(text, size, "peak");
    if (address == &frames.reserve_out)
        snprintf(text, size, "reserve");
    for (unsigned i = 0; i < cpus; i++)
        if (address == &cpu[i].credit)
            snprintf(text, size, "credit of %u", i);
    if (address == &moment)
        snprintf(text, size, "madvise");
}

/* --- all of them --- */

#define ALL                                                                                                  \
    {                                                                                                        \
        ~UINT64_C(0), ~UINT64_C(0)                                                                           \
    }
#define ALL_BUT_0                                                                                            \
    {                                                                                                        \
        ~UINT64_C(1), ~UINT64_C(0)                                                                           \
    }

static struct frames_program programs[] = {
    {"single frames against each other, and freed",
     false,
     2,
     3,
     1,
     {{{ALLOC, 1, true}, {FREE, 0, false}}, {{ALLOC, 1, true}, {FREE, 0, false}}},
     .free = {{0x3}},
     .memory = {WEIR__AREA_USED}},
    {"two want three of four",
     false,
     2,
     3,
     1,
     {{{ALLOC, 3, false}, {FREE, 0, false}}, {{ALLOC, 3, false}}},
     .free = {{0x3, 0x3}},
     .memory = {WEIR__AREA_USED}},
    {"one is freed, two want it",
     false,
     3,
     3,
     1,
     {{{FREE, 0, false}}, {{ALLOC, 1, false}}, {{ALLOC, 1, false}}},
     .free = {{0, 0x1}},
     .memory = {WEIR__AREA_USED},
     .held = {1}},
    {"two areas, two CPUs",
     false,
     2,
     3,
     1,
     {{{ALLOC, 2, false}, {FREE, 0, false}}, {{ALLOC, 2, false}}},
     .free = {{0x1}, {0x2}},
     .memory = {WEIR__AREA_EMPTY, WEIR__AREA_USED},
     .cpus = 2},
    {"a run of both words, a single frame",
     false,
     2,
     3,
     1,
     {{{RUN, 65, false}, {FREE, 0, false}}, {{ALLOC, 1, true}, {FREE, 0, false}}},
     .free = {ALL},
     .memory = {WEIR__AREA_EMPTY}},
    {"a run of both words rolls back, two single frames",
     false,
     3,
     2,
     1,
     {{{RUN, 65, false}}, {{ALLOC, 1, true}, {FREE, 0, false}}, {{ALLOC, 1, true}}},
     .free = {{~UINT64_C(0), 0x7}},
     .memory = {WEIR__AREA_USED}},
    {"two runs that overlap",
     false,
     2,
     3,
     1,
     {{{RUN, 65, false}, {FREE, 0, false}}, {{RUN, 63, false}, {FREE, 0, false}}},
     .free = {ALL},
     .memory = {WEIR__AREA_USED}},
    {"two runs of both words, one area",
     false,
     2,
     3,
     1,
     {{{RUN, 128, false}, {FREE, 0, false}}, {{RUN, 65, false}, {FREE, 0, false}}},
     .free = {ALL},
     .memory = {WEIR__AREA_USED}},
    {"two runs of both words, two areas",
     false,
     2,
     2,
     1,
     {{{RUN, 128, true}, {FREE, 0, false}}, {{RUN, 65, true}}},
     .free = {ALL, ALL},
     .memory = {WEIR__AREA_USED, WEIR__AREA_EMPTY},
     .cpus = 2},
    {"free, and the area's memory goes",
     false,
     2,
     EXPLORE_ANY,
     1,
     {{{FREE, 0, false}}, {{MEMORY, 0, false}}},
     .free = {ALL_BUT_0},
     .memory = {WEIR__AREA_USED},
     .held = {1}},
    {"free and alloc, and the area's memory goes",
     false,
     2,
     3,
     2,
     {{{FREE, 0, false}, {ALLOC, 1, false}, {FREE, 0, false}}, {{MEMORY, 0, false}}},
     .free = {ALL_BUT_0},
     .memory = {WEIR__AREA_USED},
     .held = {1}},
    {"a run is freed, a single one had, the memory goes",
     false,
     3,
     2,
     1,
     {{{RUN, 65, false}, {FREE, 0, false}}, {{ALLOC, 1, false}}, {{MEMORY, 0, false}}},
     .free = {ALL},
     .memory = {WEIR__AREA_USED}},
    {"the memory goes twice",
     false,
     3,
     3,
     1,
     {{{MEMORY, 0, false}}, {{MEMORY, 0, false}}, {{ALLOC, 1, false}, {FREE, 0, false}}},
     .free = {ALL},
     .memory = {WEIR__AREA_QUIET}},
    {"free, and the rest's memory goes",
     false,
     2,
     5,
     1,
     {{{FREE, 0, false}}, {{MEMORY, 0, false}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_QUIET},
     .held = {1}},
    {"free, watched, and the rest's memory goes",
     false,
     2,
     4,
     2,
     {{{FREE, 0, false}}, {{WATCH, 0, false}, {MEMORY, 0, false}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_USED},
     .held = {1}},
    {"alloc and free, and the rest's memory goes",
     false,
     2,
     3,
     2,
     {{{ALLOC, 1, false}, {FREE, 0, false}}, {{WATCH, 0, false}, {MEMORY, 0, false}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_USED}},
    {"free and alloc, and the rest's memory goes",
     false,
     3,
     3,
     1,
     {{{FREE, 0, false}}, {{ALLOC, 1, false}}, {{MEMORY, 0, false}}},
     .free = {{0, 0x2}},
     .memory = {WEIR__AREA_QUIET},
     .held = {1}},
    {"a run fails, and the rest is full",
     false,
     2,
     2,
     2,
     {{{RUN, 32, false}}, {{WATCH, 0, false}, {MEMORY, 0, false}}},
     .free = {{0x2FFFFFFFE}},
     .memory = {WEIR__AREA_USED}},
    {"a run fails, and the rest's memory goes",
     false,
     2,
     2,
     2,
     {{{RUN, 32, false}}, {{WATCH, 0, false}, {MEMORY, 0, false}}},
     .free = {{0x6FFFFFFFE}},
     .memory = {WEIR__AREA_USED}},
    {"freed, and two take the memory",
     false,
     3,
     3,
     1,
     {{{FREE, 0, false}}, {{MEMORY, 0, false}}, {{MEMORY, 0, false}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_QUIET},
     .held = {1}},
    {"the rest goes twice, one is freed",
     false,
     3,
     3,
     1,
     {{{FREE, 0, false}}, {{MEMORY, 0, false}}, {{WATCH, 0, false}, {MEMORY, 0, false}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_QUIET},
     .held = {1}},
    {"all is released twice, and one is freed",
     false,
     3,
     2,
     1,
     {{{FREE, 0, false}}, {{RELEASE, 100, false}}, {{RELEASE, 100, false}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_USED},
     .held = {1}},
    {"a credit of another CPU",
     false,
     3,
     3,
     1,
     {{{ALLOC, 1, true}, {FREE, 0, false}}, {{ALLOC, 1, true}, {FREE, 0, false}}, {{ALLOC, 1, true}}},
     .free = {{0x7}},
     .memory = {WEIR__AREA_USED},
     .cpus = 3,
     .credit = {0, 1, 1}},
    {"a frame that is free in turn here and there",
     false,
     2,
     2,
     3,
     {{{FREE, 0, false}, {MOVE, 1, false}, {ALLOC, 1, true}}, {{MOVE, 2, false}, {ALLOC, 1, true}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_USED},
     .held = {1},
     .cpus = 3,
     .credit = {0, 1}},
    {"a frame that is free in turn as a credit and not",
     false,
     2,
     2,
     3,
     {{{FREE, 0, false}, {MOVE, 1, false}, {ALLOC, 1, true}}, {{MOVE, 2, false}, {ALLOC, 1, true}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_USED},
     .held = {1},
     .cpus = 3},
    {"a run of credits, a single frame",
     false,
     2,
     3,
     1,
     {{{RUN, 3, true}, {FREE, 0, false}}, {{MOVE, 2, false}, {ALLOC, 1, true}, {FREE, 0, false}}},
     .free = {{0x1F}},
     .memory = {WEIR__AREA_USED},
     .cpus = 3,
     .credit = {1, 2, 1}},
    {"a credit, and the memory goes",
     false,
     3,
     2,
     1,
     {{{FREE, 0, false}, {ALLOC, 1, false}}, {{MEMORY, 0, false}}, {{ALLOC, 1, false}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_QUIET},
     .held = {1},
     .cpus = 2,
     .credit = {0, 1}},
    {"a credit is no reserve",
     false,
     3,
     2,
     1,
     {{{FREE, 0, false}, {ALLOC, 1, false}}, {{ALLOC, 1, false}}, {{RESERVED, 1, true}, {FREE, 0, false}}},
     .free = {{0x6}},
     .memory = {WEIR__AREA_USED},
     .held = {1},
     .min = 1,
     .cpus = 2,
     .credit = {0, 1}},
    {"the last one, one that has a reserve",
     false,
     2,
     6,
     0,
     {{{ALLOC, 1, false}}, {{RESERVED, 1, true}}},
     .free = {{0x3}},
     .memory = {WEIR__AREA_USED},
     .min = 1},
    {"two want what is no reserve, one has it",
     false,
     3,
     2,
     1,
     {{{ALLOC, 1, false}}, {{ALLOC, 1, false}}, {{RESERVED, 1, true}}},
     .free = {{0x3}},
     .memory = {WEIR__AREA_USED},
     .min = 1},
    {"freed and had again, one has the reserve",
     false,
     2,
     3,
     1,
     {{{FREE, 0, false}, {ALLOC, 1, false}}, {{RESERVED, 1, true}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_USED},
     .held = {1},
     .min = 1},
    {"a run fails, one has the reserve",
     false,
     2,
     3,
     1,
     {{{RUN, 65, false}}, {{RESERVED, 1, true}}},
     .free = {{~UINT64_C(0), 0x2}},
     .memory = {WEIR__AREA_USED},
     .min = 1},
    {"mistake: the counter before the bit",
     true,
     2,
     3,
     1,
     {{{FREE_COUNTER_FIRST, 0, false}}, {{ALLOC, 1, false}}},
     .free = {{0}, {0, 2}},
     .memory = {WEIR__AREA_USED},
     .held = {1}},
    {"mistake: marked before the counter",
     true,
     2,
     3,
     1,
     {{{FREE_MARK_FIRST, 0, false}}, {{WATCH, 0, false}, {MEMORY, 0, false}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_QUIET},
     .held = {1}},
    {"mistake: counted back before it can be had",
     true,
     2,
     3,
     1,
     {{{FREE_OUT_FIRST, 0, false}}, {{RESERVED, 1, false}, {RESERVED, 1, true}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_USED},
     .held = {1},
     .min = 1},
    {"mistake: the memory goes when the area is back",
     true,
     2,
     3,
     1,
     {{{ALLOC, 1, false}, {FREE, 0, false}}, {{AREA_LATE, 0, false}}},
     .free = {ALL},
     .memory = {WEIR__AREA_USED}},
    {"mistake: empty after the promise",
     true,
     2,
     3,
     1,
     {{{FREE, 0, false}}, {{REST_LATE, 0, false}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_QUIET},
     .held = {1}},
    {"mistake: promised and not claimed",
     true,
     2,
     3,
     1,
     {{{ALLOC, 1, false}, {FREE, 0, false}}, {{REST_UNCLAIMED, 0, false}}},
     .free = {{0x6}},
     .memory = {WEIR__AREA_USED}},
    {"mistake: one look at all credits",
     true,
     2,
     4,
     1,
     {{{FREE, 0, false}, {MOVE, 1, false}, {ALLOC, 1, true}}, {{MOVE, 2, false}, {ONE_LOOK, 0, false}}},
     .free = {{0x2}},
     .memory = {WEIR__AREA_USED},
     .held = {1},
     .cpus = 3,
     .credit = {0, 1}},
    {"mistake: half a run is kept",
     true,
     2,
     3,
     1,
     {{{RUN_HALF, 64, false}}, {{RUN, 64, false}}},
     .free = {ALL},
     .memory = {WEIR__AREA_USED}},
};

bool page_frames(void)
{
    static struct explore_result result, again;
    bool ok = true;
    for (unsigned i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        const struct explore_program explored = {.threads = programs[i].threads,
                                                 .start = start,
                                                 .run = run,
                                                 .finish = finish,
                                                 .arg = &programs[i],
                                                 .weak = true,
                                                 .name = name};
        explore_all(&explored, programs[i].preemptions, programs[i].surprises, &result);
        bool right = result.failed == programs[i].fails;
        ok = ok && right;
        printf("%-50s %7llu schedules, %s%s\n", programs[i].name, (unsigned long long)result.schedules,
               result.failed ? result.message : "all well", right ? "" : ": WRONG");
        if (!right && result.failed) {
            printf("    %s\n", result.schedule);
            explore_replay(&explored, result.schedule, stdout, &again);
        }
        fflush(stdout);
    }
    return ok;
}
