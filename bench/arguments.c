/* SPDX-License-Identifier: MIT */
/* arguments.c - see arguments.h. */
#include "arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *program;

static void refuse(const struct argument *argument, const char *value, const char *accepted)
{
    if (value != NULL)
        fprintf(stderr, "%s: %s: \"%s\" is not %s\n", program, argument->name, value, accepted);
    else
        fprintf(stderr, "%s: %s needs a value: %s\n", program, argument->name, accepted);
    exit(2);
}

static void set_number(const struct argument *argument, const char *value)
{
    char accepted[64], *end = NULL;
    snprintf(accepted, sizeof accepted, "a number from %u to %u", argument->min, argument->max);
    if (value == NULL)
        refuse(argument, value, accepted);
    errno = 0;
    unsigned long n = strtoul(value, &end, 10);
    if (errno != 0 || strspn(value, "0123456789") != strlen(value) || *value == '\0' || n < argument->min ||
        n > argument->max)
        refuse(argument, value, accepted);
    *(unsigned *)argument->to = (unsigned)n;
}

static bool is_one_of(const char *word, const char *words)
{
    for (const char *at = words; at != NULL; at = strstr(at, ", ")) {
        at += at == words ? 0 : 2;
        size_t length = strcspn(at, ",");
        if (strlen(word) == length && strncmp(word, at, length) == 0)
            return true;
    }
    return false;
}

static void set_text(const struct argument *argument, const char *value)
{
    char accepted[160];
    bool word = argument->kind == ARGUMENT_WORD;
    snprintf(accepted, sizeof accepted, "%s%s", word ? "one of " : "", argument->words);
    if (value == NULL || *value == '\0' || (word && !is_one_of(value, argument->words)))
        refuse(argument, value != NULL && *value != '\0' ? value : NULL, accepted);
    *(const char **)argument->to = value;
}

void arguments_parse(const char *program_, const char *script, const struct argument table[], int argc,
                     char **argv)
{
    program = program_;
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        size_t length = equals != NULL ? (size_t)(equals - argv[i]) : strlen(argv[i]);
        const struct argument *argument = table;
        while (argument->name != NULL &&
               (strlen(argument->name) != length || strncmp(argument->name, argv[i], length) != 0))
            argument++;
        bool flag = argument->kind == ARGUMENT_FLAG;
        if (argument->name == NULL || (flag && equals != NULL)) {
            fprintf(stderr, "%s: unknown option \"%s\"; %s --help lists the options\n", program, argv[i],
                    script);
            exit(2);
        }
        if (flag) {
            *(bool *)argument->to = true;
            continue;
        }
        const char *value = equals != NULL ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (argument->kind == ARGUMENT_NUMBER)
            set_number(argument, value);
        else
            set_text(argument, value);
    }
}
