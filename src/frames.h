/* SPDX-License-Identifier: MIT */
/*
 * frames.h - page frames out of one reserved address range, without a lock.
 *
 * The range is cut into areas of 512 frames (2 MiB of 4 KiB pages). Each area has a bitmap, one bit per
 * frame, set while the frame is out, and a counter of frames that are out or promised:
 *
 *     reserve   compare-and-swap the counter up by as many frames as there are: so many clear bits are
 *               ours now, whichever they are
 *     claim     find clear bits and set them, up to 64 with one compare-and-swap
 *     free      clear the bits, then bring the counter down: it never promises a bit that is not clear
 *
 * A run, frames in a row, is promised like any n frames, all of it or nothing. That so many clear bits are
 * neighbours is not promised: they are looked for from the top of the area, claimed word by word, and
 * given up again if somebody else was faster; then the promise is given back, and the next area is tried.
 * Single frames come from the bottom.
 *
 * A counter that is zero means an area with nothing out: whoever swaps it from zero to full has the area
 * for himself, and may give its memory back to the system. Freed frames merge by themselves, there is
 * nothing to merge.
 *
 * Each CPU has a home, the homes are spread over the range, and a CPU allocates from the first area at or
 * after its home that has a frame left: so CPUs keep apart, memory that has been used before is used again
 * before untouched memory, and the areas far from home are the ones that run empty.
 *
 * One counter of all frames comes before those of the areas: who it lets in to frames finds them. CPUs would
 * meet at it each time; so what is freed stays counted, up to WEIR__CREDIT_MAX frames per CPU, as a credit for
 * the next one who allocates there. A credit is used elsewhere before an alloc fails. The last frames, which
 * not everybody may have, are counted apart, and come back first.
 *
 * The metadata lies apart from the frames: 72 bytes per area of 2 MiB, 192 where there are fewer than 16
 * areas per CPU, and 128 per CPU. At most 0.1 % of a range of 2 MiB per CPU or more, with two bytes per
 * frame, and another one, that others keep (extents.c, prepare.c). (The counter in front of the bitmap is
 * LLFree's idea: L. Wrenger et al., USENIX ATC 2023.)
 */
#ifndef WEIR_SRC_FRAMES_H
#define WEIR_SRC_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/atomic.h"

#ifndef WEIR_FRAMES_PER_AREA /* the explorer has smaller ones */
#define WEIR_FRAMES_PER_AREA 512
#endif
#define WEIR_WORDS_PER_AREA (WEIR_FRAMES_PER_AREA / 64)

/* More than a magazine of the engine's holds: so a CPU that goes back and forth between alloc and free by the
 * magazine leaves the common counter alone. */
#ifndef WEIR__CREDIT_MAX
#define WEIR__CREDIT_MAX 256
#endif

struct weir__area {
    uint32_t out;    /* frames out or promised; WEIR_FRAMES_PER_AREA: full, or held by who gives it back */
    uint32_t memory; /* enum weir__area_memory */
};

/* Where there are few areas per CPU, each has a line pair for itself: one in 1 << this many. */
#define WEIR__AREA_APART 4

/* Do free frames of an area have memory? */
enum weir__area_memory {
    WEIR__AREA_EMPTY, /* no */
    WEIR__AREA_QUIET, /* perhaps; nobody has used the area since release looked at it */
    WEIR__AREA_USED,  /* perhaps */
};

struct weir__frames_cpu {
    size_t home;     /* an area */
    size_t near;     /* a hint: no area nearer to home than this has a frame left, as a distance from home */
    size_t near_run; /* likewise: where the last run was found */
    uint64_t credit; /* frames that are counted, and nobody's; above the low 32 bits, how often some came */
} WEIR_ALIGNED(WEIR_LINE_PAIR);

struct weir__frames {
    char *base;
    size_t frame_bytes;
    unsigned frame_shift; /* frame_bytes is a power of two */
    size_t frames;        /* a whole number of areas */
    size_t areas;
    size_t limit; /* how many of them are not of the reserve */
    bool stays;   /* memory is not given back */
    bool huge;
    size_t spacing;      /* areas from one CPU's home to the next */
    unsigned area_shift; /* see weir__frames_area() */
    struct weir__area *area;
    uint64_t *bits; /* WEIR_WORDS_PER_AREA per area; set: out */
    struct weir__frames_cpu *cpus;
    void *map; /* the range with its guard pages, and the metadata */
    size_t map_bytes;
    void *meta;
    size_t meta_bytes;
    /* On a line of their own: frames that are out, about to be, in the hands of release, or a credit: up to
     * `limit`. */
    size_t out WEIR_ALIGNED(WEIR_LINE_PAIR);
    size_t out_peak; /* the most that were counted, those of the reserve included */
    /* Likewise, of the reserve. */
    size_t reserve_out WEIR_ALIGNED(WEIR_LINE_PAIR);
};

struct weir__frames_config {
    size_t bytes;       /* of address space, rounded up to whole areas */
    size_t frame_bytes; /* a power of two, 4096 to 65536 */
    size_t min;         /* frames that only weir__frames_alloc_reserved() may have: the last ones */
    bool huge;          /* the system may back 2 MiB at once */
    bool prefault;      /* all memory is there from the start and stays: release does nothing */
    bool lock;          /* likewise, and is locked in memory */
    uint64_t nodes;     /* NUMA nodes that memory comes from, by bits; 0: as the system likes */
    const char *name;   /* for the kernel's list of mappings; NULL: none */
};

static inline struct weir__area *weir__frames_area(const struct weir__frames *frames, size_t index)
{
    return &frames->area[index << frames->area_shift];
}

/* Reserves address space, and, unless told otherwise, commits nothing: frames cost memory from when they are
 * first written. 0; -ENOMEM; -EINVAL for NUMA nodes that do not exist, -ENOSYS where the kernel has none;
 * what mlock() says. */
int weir__frames_init(struct weir__frames *frames, const struct weir__frames_config *config);
void weir__frames_destroy(struct weir__frames *frames);

/*
 * All of the following: any context, lock-free, no system call, but release.
 */

/* Up to n frames; how many: as many as there are, but for those that another thread has in its hands just
 * now, to give them back, to release their memory, or to find that they do not make a run. Leaves `min`. */
size_t weir__frames_alloc(struct weir__frames *frames, size_t n, void *out[]);
/* The same, the last ones included. */
size_t weir__frames_alloc_reserved(struct weir__frames *frames, size_t n, void *out[]);
/* Gives n frames back. Stops the program with a message if one is not out or not a frame. */
void weir__frames_free(struct weir__frames *frames, size_t n, void *const in[]);

/* n frames in a row, 1 to WEIR_FRAMES_PER_AREA, all in one area; NULL if there are not. Aligned to their size
 * if n is a power of two (so order 0 to 9), else to the next smaller power of two where that is to be had.
 * Leaves `min`. */
void *weir__frames_alloc_run(struct weir__frames *frames, size_t n);
/* Gives n frames in a row back: a run, or a part of one. */
void weir__frames_free_run(struct weir__frames *frames, void *first, size_t n);

/* How many frames are out or in the hands of release; while others allocate and free, an estimate. */
size_t weir__frames_out(const struct weir__frames *frames);
/* Is any of the reserve out? A guess: it may be another the next moment. */
bool weir__frames_reserve_used(const struct weir__frames *frames);

/* Gives memory of free frames back to the system: of `percent` of the areas that have nothing out, rounded
 * up; and likewise of those that have something out but were not used since the last call, or, with 100,
 * of all of them. How many bytes. */
size_t weir__frames_release(struct weir__frames *frames, unsigned percent);
/* How many bytes release could give back, by and by; an estimate, but 0 only if there are none. */
size_t weir__frames_releasable(const struct weir__frames *frames);

#endif /* WEIR_SRC_FRAMES_H */
