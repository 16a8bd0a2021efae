/* SPDX-License-Identifier: MIT */
/* progress.c - one line on standard error, redrawn, if that is a terminal. */
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define BAR 24

static struct {
    bool on;
    unsigned stages, stage;
    double start;
} progress;

void progress_start(unsigned stages)
{
    progress.on = isatty(STDERR_FILENO);
    progress.stages = stages;
    progress.start = seconds_now();
}

void progress_show(const char *text, double fraction)
{
    char bar[BAR + 1];
    if (!progress.on)
        return;
    double share = ((double)progress.stage + (fraction < 1 ? fraction : 1)) / (double)progress.stages;
    size_t filled = (size_t)(share * BAR);
    memset(bar, '.', BAR);
    memset(bar, '#', filled < BAR ? filled : BAR);
    bar[BAR] = '\0';
    fprintf(stderr, "\r\033[K[%s] %4.0f s  %.70s", bar, seconds_now() - progress.start, text);
    fflush(stderr);
}

void progress_next_stage(void)
{
    progress.stage++;
}

void progress_clear(void)
{
    if (progress.on)
        fputs("\r\033[K", stderr);
}
