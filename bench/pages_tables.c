/* SPDX-License-Identifier: MIT */
/* pages_tables.c - what bench/pages times: tables, jobs, and who takes part. */
#include "pages.h"

#define WEIR (1u << PAGES_INLINED | 1u << PAGES_CALLED)
#define ENGINE (1u << PAGES_ENGINE_INLINED | 1u << PAGES_ENGINE_CALLED)
#define MALLOCS (1u << PAGES_GLIBC | 1u << PAGES_TCMALLOC | 1u << PAGES_JEMALLOC | 1u << PAGES_MIMALLOC)
#define ALL (WEIR | ENGINE | MALLOCS)
#define CHURN (1u << PAGES_INLINED | MALLOCS)
#define ONLY_FRAMES (1u << PAGES_FRAMES)

const struct pages_table pages_tables[PAGES_TABLES] = {
    {
        .id = "pair",
        .workload = "pair",
        .title = "Allocated and freed, one thread: nanoseconds per page; of an extent, per extent",
        .note = "A malloc is asked for 4096 bytes, and for 65536. It has no bulk call: a loop.",
        .base = PAGES_INLINED,
        .columns = 4,
        .job = {{WORK_PAIR, 1, 1}, {WORK_ARRAY, BULK, 1}, {WORK_LIST, BULK, 1}, {WORK_EXTENT, 1, 1}},
        .heading = {"one page", "array of 32", "list of 32", "extent of 16"},
        .rows = {ALL, ALL, WEIR | MALLOCS, WEIR | MALLOCS},
    },
    {
        .id = "pair-two",
        .workload = "pair",
        .title = "The same by two threads at once, a CPU each: nanoseconds of each thread",
        .note = "The slower one of both threads.",
        .base = PAGES_INLINED,
        .columns = 4,
        .job = {{WORK_PAIR, 1, 2}, {WORK_ARRAY, BULK, 2}, {WORK_LIST, BULK, 2}, {WORK_EXTENT, 1, 2}},
        .heading = {"one page", "array of 32", "list of 32", "extent of 16"},
        .rows = {ALL, ALL, WEIR | MALLOCS, WEIR | MALLOCS},
    },
    {
        .id = "frames",
        .workload = "frames",
        .title = "The frames alone, without the engine: nanoseconds per get and put",
        .note = "Of an order, per run of 2^order frames; of a batch, what a magazine takes, per frame.",
        .base = PAGES_FRAMES,
        .columns = 5,
        .job = {{WORK_BATCH, 1, 1},
                {WORK_BATCH, 1, 2},
                {WORK_RUN, 16, 1},
                {WORK_RUN, 512, 1},
                {WORK_BATCH, 124, 1}},
        .heading = {"order 0", "two at once", "order 4", "order 9", "batch of 124"},
        .rows = {ONLY_FRAMES, ONLY_FRAMES, ONLY_FRAMES, ONLY_FRAMES, ONLY_FRAMES},
    },
    {
        .id = "churn",
        .workload = "churn",
        .title = "Churn over a working set: nanoseconds per page freed and another one allocated",
        .note =
            "Freed at random, one and then one allocated; or up to 512 and then as many. Into each that is\n"
            "allocated the first line and a random one are written.",
        .fresh = true,
        .base = PAGES_INLINED,
        .columns = 2,
        .job = {{WORK_CHURN, 1, 1}, {WORK_CHURN, 512, 1}},
        .heading = {"one for one", "up to 512"},
        .rows = {CHURN, CHURN},
    },
};

char pages_job_encode(const struct pages_table *table, unsigned column)
{
    return (char)(' ' + (table - pages_tables) * PAGES_COLUMNS_MAX + column);
}

const struct pages_job *pages_job_decode(char code)
{
    unsigned at = (unsigned)(code - ' ') % (PAGES_TABLES * PAGES_COLUMNS_MAX);
    return &pages_tables[at / PAGES_COLUMNS_MAX].job[at % PAGES_COLUMNS_MAX];
}
