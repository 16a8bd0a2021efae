/* SPDX-License-Identifier: MIT */
/* What a test writes to standard error, caught. */
#ifndef CAUGHT_H
#define CAUGHT_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int stderr_saved;
static FILE *stderr_file;

static inline void catch_stderr(void)
{
    stderr_file = tmpfile();
    if (stderr_file == NULL)
        abort();
    stderr_saved = dup(2);
    dup2(fileno(stderr_file), 2);
}

/* Lets go again; the text since, and its number of lines. */
static inline unsigned caught_lines(char *text, size_t size)
{
    unsigned lines = 0;
    dup2(stderr_saved, 2);
    rewind(stderr_file);
    size_t n = fread(text, 1, size - 1, stderr_file);
    text[n] = '\0';
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    return lines;
}

#endif
