/* SPDX-License-Identifier: MIT */
/* spread.c - the figures of several rounds: see bench.h. */
#include <stdlib.h>

#include "bench.h"

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct spread spread_of(const double values[], size_t n)
{
    double sorted[ROUNDS_MAX];
    struct spread spread = {0, 0, 0, 0, 0};
    if (n == 0)
        return spread;
    for (size_t i = 0; i < n; i++)
        sorted[i] = values[i];
    qsort(sorted, n, sizeof sorted[0], compare);
    spread.min = sorted[0];
    spread.max = sorted[n - 1];
    spread.low = sorted[n / 4];
    spread.high = sorted[n - 1 - n / 4];
    spread.median = n % 2 != 0 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    return spread;
}
