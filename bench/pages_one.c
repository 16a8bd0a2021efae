/* SPDX-License-Identifier: MIT */
/*
 * pages_one.c - a contender of bench/pages in a process of its own, with whatever malloc it is run with.
 *
 *     LD_PRELOAD=libmimalloc.so.2 weir-bench-pages-one malloc libmimalloc.so.2 262144 1000000
 *
 * The library that malloc must come from, pages of a working set, steps.
 */
#include <stdlib.h>
#include <string.h>

#include "allocators.h"
#include "pages.h"

int main(int argc, char **argv)
{
    static const struct {
        const char *id;
        const struct pages_contender *contender;
    } known[] = {
        {"inlined", &pages_weir_inlined},
        {"called", &pages_weir_called},
        {"engine-inlined", &pages_engine_inlined},
        {"engine-called", &pages_engine_called},
        {"frames", &pages_frames},
        {"malloc", &pages_malloc},
    };
    if (argc < 5 || !allocator_is_in_use(argv[2]))
        return 1;
    const struct pages_setting setting = {strtoul(argv[3], NULL, 10), (unsigned)strtoul(argv[4], NULL, 10)};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].id, argv[1]) == 0)
            return pages_serve(known[i].contender, &setting) ? 0 : 1;
    return 1;
}
