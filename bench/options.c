/* SPDX-License-Identifier: MIT */
/* options.c - the command line. bench/usage.txt is what people read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static void refuse(const char *name, const char *value, const char *accepted)
{
    if (value != NULL)
        fprintf(stderr, "weir-bench: %s: \"%s\" is not %s\n", name, value, accepted);
    else
        fprintf(stderr, "weir-bench: %s needs a value: %s\n", name, accepted);
    exit(2);
}

static double number(const char *name, const char *value, double min, double max, bool whole)
{
    char accepted[80], *end = NULL;
    snprintf(accepted, sizeof accepted, "a %snumber from %.*f to %.0f", whole ? "" : "decimal ",
             whole ? 0 : 1, min, max);
    if (value == NULL)
        refuse(name, value, accepted);
    errno = 0;
    double n = strtod(value, &end);
    bool digits = strspn(value, whole ? "0123456789" : "0123456789.") == strlen(value);
    if (errno != 0 || end == value || *end != '\0' || !digits || n < min || n > max)
        refuse(name, value, accepted);
    return n;
}

static void parse_workload(struct options *options, const char *name, const char *value)
{
    static const char accepted[] = "one of page, malloc, pair, all";
    if (value == NULL)
        refuse(name, value, accepted);
    bool all = strcmp(value, "all") == 0;
    options->page = all || strcmp(value, "page") == 0;
    options->malloc = all || strcmp(value, "malloc") == 0;
    options->pair = all || strcmp(value, "pair") == 0;
    if (!options->page && !options->malloc && !options->pair)
        refuse(name, value, accepted);
}

static bool parse_flag(struct options *options, const char *name)
{
    if (strcmp(name, "--json") == 0)
        options->json = true;
    else if (strcmp(name, "--peers") == 0)
        options->peers = true;
    else if (strcmp(name, "--self-check") == 0)
        options->self_check = true;
    else
        return false;
    return true;
}

static bool parse_value(struct options *options, const char *name, const char *value)
{
    static const struct {
        const char *name;
        size_t offset;
        double min, max;
    } numbers[] = {
        {"--objects", offsetof(struct options, objects), 1, 1e9},
        {"--threads", offsetof(struct options, threads), 1, 1024},
        {"--readers", offsetof(struct options, readers), 0, 64},
        {"--rounds", offsetof(struct options, rounds), 1, ROUNDS_MAX},
        {"--object-bytes", offsetof(struct options, object_bytes), 48, 65536},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(name, numbers[i].name) != 0)
            continue;
        uint64_t n = (uint64_t)number(name, value, numbers[i].min, numbers[i].max, true);
        memcpy((char *)options + numbers[i].offset, &n, sizeof n);
        return true;
    }
    if (strcmp(name, "--workload") == 0) {
        parse_workload(options, name, value);
    } else if (strcmp(name, "--seconds") == 0) {
        options->seconds = number(name, value, 0.1, 3600, false);
    } else if (strcmp(name, "--out") == 0) {
        if (value == NULL || *value == '\0')
            refuse(name, NULL, "a folder");
        options->out = value;
    } else {
        return false;
    }
    return true;
}

void options_parse(struct options *options, int argc, char **argv)
{
    *options = (struct options){.page = true,
                                .malloc = true,
                                .pair = true,
                                .objects = 1000000,
                                .readers = 1,
                                .rounds = 9,
                                .object_bytes = 64,
                                .out = "bench/out"};
    for (int i = 1; i < argc; i++) {
        char name[64];
        const char *equals = strchr(argv[i], '=');
        if (parse_flag(options, argv[i]))
            continue;
        /* --name=value, or --name value */
        int length = equals != NULL ? (int)(equals - argv[i]) : (int)strlen(argv[i]);
        snprintf(name, sizeof name, "%.*s", length, argv[i]);
        const char *value = equals != NULL ? equals + 1 : i + 1 < argc ? argv[i + 1] : NULL;
        if (!parse_value(options, name, value)) {
            fprintf(stderr, "weir-bench: unknown option \"%s\"; bench/run --help lists the options\n",
                    argv[i]);
            exit(2);
        }
        i += equals == NULL;
    }
}
