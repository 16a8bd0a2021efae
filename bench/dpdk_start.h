/* SPDX-License-Identifier: MIT */
/* dpdk_start.h - DPDK without huge pages, devices or files; its one core, `cpu`, is where the calling thread
 * waits. */
#ifndef BENCH_DPDK_START_H
#define BENCH_DPDK_START_H

#include <stdbool.h>
#include <stdio.h>
#include <rte_eal.h>
#include <rte_errno.h>

static bool dpdk_start(char *program, unsigned cpu, unsigned megabytes)
{
    char lcores[32], memory[16];
    snprintf(lcores, sizeof lcores, "0@%u", cpu);
    snprintf(memory, sizeof memory, "%u", megabytes);
    char *eal[] = {program,
                   (char *)"--lcores",
                   lcores,
                   (char *)"--no-huge",
                   (char *)"--no-pci",
                   (char *)"--no-shconf",
                   (char *)"--no-telemetry",
                   (char *)"-m",
                   memory,
                   NULL};
    if (rte_eal_init(9, eal) >= 0)
        return true;
    fprintf(stderr, "DPDK does not start: %s\n", rte_strerror(rte_errno));
    return false;
}

#endif /* BENCH_DPDK_START_H */
