/* SPDX-License-Identifier: MIT */
/* cache_tables.c - what bench/cache measures: tables, jobs, and who takes part. */
#include "cache.h"

#define EVERYBODY ((1u << CACHE_ROWS) - 1)
#define INLINE (1u << ROW_LIFO | 1u << ROW_WEIR | 1u << ROW_RTE)
#define SHARED (EVERYBODY & ~(1u << ROW_LIFO))
#define BULKY (1u << ROW_WEIR | 1u << ROW_RTE)

const struct cache_table cache_tables[CACHE_TABLES] = {
    {
        .id = "pair",
        .workload = "pair",
        .title = "Alloc and free, called: nanoseconds per pair",
        .note = "Alternating; the same with the first byte written; runs of 8 and of 64 allocs, then as many "
                "frees.",
        .time = true,
        .columns = 4,
        .job = {{CACHE_PAIRS, 1, false, false},
                {CACHE_PAIRS, 1, true, false},
                {CACHE_PAIRS, 8, false, false},
                {CACHE_PAIRS, 64, false, false}},
        .heading = {"alternating", "written", "runs of 8", "runs of 64"},
        .rows = {EVERYBODY, EVERYBODY, EVERYBODY, EVERYBODY},
    },
    {
        .id = "pair-inlined",
        .workload = "pair",
        .title = "Alloc and free, inlined: nanoseconds per pair",
        .note = "Those that have inline functions.",
        .time = true,
        .columns = 4,
        .job = {{CACHE_PAIRS, 1, false, true},
                {CACHE_PAIRS, 1, true, true},
                {CACHE_PAIRS, 8, false, true},
                {CACHE_PAIRS, 64, false, true}},
        .heading = {"alternating", "written", "runs of 8", "runs of 64"},
        .rows = {INLINE, INLINE, INLINE, INLINE},
    },
    {
        .id = "bulk",
        .workload = "bulk",
        .title = "An array of objects allocated and freed, called: nanoseconds per object",
        .note = "Loops, where there is no bulk call. Worst fill: the slowest of 64 numbers of objects held "
                "besides.",
        .time = true,
        .columns = 4,
        .job = {{CACHE_BULK, 8, false, false},
                {CACHE_BULK, 32, false, false},
                {CACHE_BULK, 128, false, false},
                {CACHE_FILL, 32, false, false}},
        .heading = {"8 at once", "32 at once", "128 at once", "32, worst fill"},
        .rows = {EVERYBODY, EVERYBODY, EVERYBODY, EVERYBODY},
    },
    {
        .id = "bulk-inlined",
        .workload = "bulk",
        .title = "An array of objects allocated and freed, inlined: nanoseconds per object",
        .note = "The number of objects is a constant that the compiler sees.",
        .time = true,
        .columns = 3,
        .job = {{CACHE_BULK, 8, false, true}, {CACHE_BULK, 32, false, true}, {CACHE_BULK, 128, false, true}},
        .heading = {"8 at once", "32 at once", "128 at once"},
        .rows = {INLINE, INLINE, INLINE},
    },
    {
        .id = "threads",
        .workload = "threads",
        .title = "Runs of a random length up to 64: million objects per second, of all threads",
        .note = "Threads are pinned, round and round over the CPUs.",
        .shows_exchanges = true,
        .columns = 5,
        .job = {{CACHE_RUNS, 1, false, false},
                {CACHE_RUNS, 2, false, false},
                {CACHE_RUNS, 4, false, false},
                {CACHE_RUNS, 16, false, false},
                {CACHE_RUNS, 64, false, false}},
        .heading = {"1 thread", "2 threads", "4 threads", "16 threads", "64 threads"},
        .rows = {EVERYBODY, EVERYBODY, EVERYBODY, EVERYBODY, EVERYBODY},
    },
    {
        .id = "pipe",
        .workload = "pipe",
        .title = "Allocated on one CPU, freed on another: million objects per second",
        .note = "One by one, or 32 per call. Circle: each of two threads frees what the other allocates.",
        .own_processes = true,
        .shows_exchanges = true,
        .columns = 4,
        .job = {{CACHE_PIPE, 1, true, false},
                {CACHE_PIPE, PIPE_BATCH, true, false},
                {CACHE_CIRCLE, 1, true, false},
                {CACHE_CIRCLE, PIPE_BATCH, true, false}},
        .heading = {"pipe", "pipe, bulk", "circle", "circle, bulk"},
        .rows = {SHARED, BULKY, EVERYBODY, BULKY},
    },
};

char cache_job_encode(const struct cache_table *table, unsigned column)
{
    return (char)(' ' + (table - cache_tables) * CACHE_COLUMNS_MAX + column);
}

const struct cache_job *cache_job_decode(char code)
{
    unsigned at = (unsigned)(code - ' ') % (CACHE_TABLES * CACHE_COLUMNS_MAX);
    return &cache_tables[at / CACHE_COLUMNS_MAX].job[at % CACHE_COLUMNS_MAX];
}
