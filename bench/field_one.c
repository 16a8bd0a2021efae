/* SPDX-License-Identifier: MIT */
/*
 * field_one.c - a contender of bench/field in a process of its own, with whatever malloc it is run with.
 *
 *     LD_PRELOAD=libmimalloc.so.2 weir-bench-field-one call-rcu libmimalloc.so.2 2 1 10 100000 64 1000 0
 *
 * See FIELD_ARGUMENTS. The contender "malloc" only answers whether malloc is that library's.
 */
#include <string.h>

#include "field.h"

static const struct field_contender *find(const char *id)
{
    static const struct field_contender *const contenders[] = {
        &field_weir[0],
        &field_weir[1],
        &field_weir[2],
        &field_weir[3],
        &field_weir[4],
        &field_weir[5],
        &field_weir[6],
        &field_urcu[0],
        &field_urcu[1],
        &field_urcu[2],
        &field_plain[0],
        &field_plain[1],
        &field_plain[2],
#if BENCH_CK
        &field_ck,
#endif
    };
    for (size_t i = 0; i < sizeof contenders / sizeof contenders[0]; i++)
        if (strcmp(contenders[i]->id, id) == 0)
            return contenders[i];
    fprintf(stderr, "this program was built without %s\n", id);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc > FIELD_ARGUMENTS && !allocator_is_in_use(argv[2]))
        return 1;
    if (argc > FIELD_ARGUMENTS && strcmp(argv[1], "malloc") == 0) {
        child_request();
        child_answer();
        return 0;
    }
    const struct field_contender *contender = argc > FIELD_ARGUMENTS ? find(argv[1]) : NULL;
    if (contender == NULL)
        return 1;
    const struct field_setting setting = field_setting_of(argv + 3);
    return field_serve(contender, &setting) ? 0 : 1;
}
