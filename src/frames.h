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
 * A counter that is zero means an area with nothing out: whoever swaps it from zero to full has the area for
 * himself, and may give its memory back to the system. Freed frames merge by themselves, there is nothing to
 * merge.
 *
 * Each CPU has a home, the homes are spread over the range, and a CPU allocates from the first area at or
 * after its home that has a frame left: so CPUs keep apart, memory that has been used before is used again
 * before untouched memory, and the areas far from home are the ones that run empty. The metadata lies apart
 * from the frames: 72 bytes per area of 2 MiB. (The counter in front of the bitmap is LLFree's idea: L.
 * Wrenger et al., USENIX ATC 2023.)
 */
#ifndef WEIR_SRC_FRAMES_H
#define WEIR_SRC_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/atomic.h"

#define WEIR_FRAMES_PER_AREA 512
#define WEIR_WORDS_PER_AREA (WEIR_FRAMES_PER_AREA / 64)

struct weir__area {
    uint32_t out;     /* frames out or promised; WEIR_FRAMES_PER_AREA: full, or held by who gives it back */
    uint32_t touched; /* has memory, perhaps: a frame was out since it was last given back */
};

struct weir__frames_cpu {
    size_t home; /* an area */
    size_t near; /* a hint: no area nearer to home than this has a frame left, as a distance from home */
} WEIR_ALIGNED(WEIR_LINE_PAIR);

struct weir__frames {
    char *base;
    size_t frame_bytes;
    unsigned frame_shift; /* frame_bytes is a power of two */
    size_t frames;        /* a whole number of areas */
    size_t areas;
    size_t spacing; /* areas from one CPU's home to the next */
    struct weir__area *area;
    uint64_t *bits; /* WEIR_WORDS_PER_AREA per area; set: out */
    struct weir__frames_cpu *cpus;
    void *map; /* the range with its guard pages, and the metadata */
    size_t map_bytes;
    void *meta;
    size_t meta_bytes;
    /* Statistics, on a line of their own. */
    size_t out WEIR_ALIGNED(WEIR_LINE_PAIR); /* frames out */
    size_t out_peak;
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

/* Reserves address space, and, unless told otherwise, commits nothing: frames cost memory from when they are
 * first written. 0; -ENOMEM; -EINVAL for NUMA nodes that do not exist, -ENOSYS where the kernel has none;
 * what mlock() says. */
int weir__frames_init(struct weir__frames *frames, const struct weir__frames_config *config);
void weir__frames_destroy(struct weir__frames *frames);

/*
 * All of the following: any context, lock-free, no system call, but release.
 */

/* Up to n frames; how many. Leaves `min`. */
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

/* Gives the memory of `percent` of the free frames that have any back to the system, rounded up to whole
 * areas: those of areas that have nothing out, and then those of areas that have something out but were not
 * used since the last call. How many bytes. */
size_t weir__frames_release(struct weir__frames *frames, unsigned percent);
/* Could release give something back, now or at the call after the next? */
bool weir__frames_releasable(const struct weir__frames *frames);

#endif /* WEIR_SRC_FRAMES_H */
