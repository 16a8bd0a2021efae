/* SPDX-License-Identifier: MIT */
/* arguments.h - a command line as a table: --name, --name value or --name=value. */
#ifndef BENCH_ARGUMENTS_H
#define BENCH_ARGUMENTS_H

#include <stdbool.h>

enum argument_kind {
    ARGUMENT_FLAG,   /* `to` is a bool */
    ARGUMENT_NUMBER, /* an unsigned from min to max */
    ARGUMENT_WORD,   /* a const char *, one of `words` */
    ARGUMENT_TEXT,   /* a const char *, not empty; `words` says what it is */
};

struct argument {
    const char *name; /* ends the table: NULL */
    enum argument_kind kind;
    void *to;
    unsigned min, max;
    const char *words; /* separated by ", " */
};

/* Fills in what the table says. If something is wrong: one line on standard error that names the option,
 * its value and the rule, and exit status 2. `script` is what people call, and knows --help. */
void arguments_parse(const char *program, const char *script, const struct argument table[], int argc,
                     char **argv);

#endif /* BENCH_ARGUMENTS_H */
