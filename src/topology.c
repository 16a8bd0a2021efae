/* SPDX-License-Identifier: MIT */
/* topology.c - reads which CPUs share a cache or a node from the kernel's files: see topology.h. */
#define _GNU_SOURCE
#include "topology.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/percpu.h"

#define UNKNOWN UINT32_MAX
#define NUMBERED UINT32_C(0x80000000) /* this is the number of a domain, no mark any more */
#define INDEXES_MAX 16                /* of caches that one CPU uses */
#define NODES_MAX 1024

/* The first line of a file, without its end; false if there is none. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool found = fgets(line, (int)size, file) != NULL;
    fclose(file);
    if (found)
        line[strcspn(line, "\n")] = '\0';
    return found;
}

/* The next range of a list of CPUs like "0-3,8"; false at its end, and where it is no such list any more. */
static bool next_range(const char **list, unsigned long *from, unsigned long *to)
{
    char *end;
    if (**list == ',')
        ++*list;
    *from = *to = strtoul(*list, &end, 10);
    if (end == *list)
        return false;
    if (*end == '-') {
        const char *second = end + 1;
        *to = strtoul(second, &end, 10);
        if (end == second)
            return false;
    }
    *list = end;
    return *from <= *to;
}

/* A number that all CPUs which share the last-level cache of `cpu` have in common: the lowest of them. */
static uint32_t cache_of(const char *root, unsigned cpu)
{
    char path[512], line[4096];
    unsigned long highest = 0, from, to;
    uint32_t first = UNKNOWN;

    for (unsigned index = 0; index < INDEXES_MAX; index++) {
        snprintf(path, sizeof path, "%s/cpu/cpu%u/cache/index%u/level", root, cpu, index);
        if (!read_line(path, line, sizeof line))
            break;
        unsigned long level = strtoul(line, NULL, 10);
        snprintf(path, sizeof path, "%s/cpu/cpu%u/cache/index%u/shared_cpu_list", root, cpu, index);
        const char *list = line;
        if (level > highest && read_line(path, line, sizeof line) && next_range(&list, &from, &to) &&
            from < NUMBERED) {
            highest = level;
            first = (uint32_t)from;
        }
    }
    /* Caches below the third level belong to one core: no domain worth having. */
    return highest >= 3 ? first : UNKNOWN;
}

/* Marks the CPUs of each node with its number. */
static void mark_nodes(const char *root, struct weir__topology *topology)
{
    char path[512], line[4096];
    unsigned long from, to;

    for (unsigned node = 0; node < NODES_MAX; node++) {
        snprintf(path, sizeof path, "%s/node/node%u/cpulist", root, node);
        if (!read_line(path, line, sizeof line))
            continue; /* numbers may be missing in between */
        const char *list = line;
        while (next_range(&list, &from, &to))
            for (unsigned long cpu = from; cpu <= to && cpu < topology->nr_cpus; cpu++)
                topology->domain_of[cpu] = node;
    }
}

/* Gives the marks consecutive numbers from 0, in the order in which they are first met. */
static void number_domains(struct weir__topology *topology)
{
    uint32_t *domain_of = topology->domain_of;
    topology->domains = 0;
    for (unsigned cpu = 0; cpu < topology->nr_cpus; cpu++) {
        uint32_t mark = domain_of[cpu];
        if (mark == UNKNOWN || (mark & NUMBERED) != 0)
            continue; /* unknown, or numbered already */
        for (unsigned other = cpu; other < topology->nr_cpus; other++)
            if (domain_of[other] == mark)
                domain_of[other] = topology->domains | NUMBERED;
        topology->domains++;
    }
    for (unsigned cpu = 0; cpu < topology->nr_cpus; cpu++)
        domain_of[cpu] = domain_of[cpu] == UNKNOWN ? 0 : domain_of[cpu] & ~NUMBERED;
    if (topology->domains == 0)
        topology->domains = 1;
}

static int prepare(struct weir__topology *topology, unsigned nr_cpus)
{
    *topology = (struct weir__topology){.domains = 1, .nr_cpus = nr_cpus};
    topology->domain_of = malloc(nr_cpus * sizeof topology->domain_of[0]);
    return topology->domain_of != NULL ? 0 : -ENOMEM;
}

int weir__topology_read(struct weir__topology *topology, const char *root, unsigned nr_cpus)
{
    int error = prepare(topology, nr_cpus);
    if (error != 0)
        return error;
    bool caches = false;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        topology->domain_of[cpu] = cache_of(root, cpu);
        caches |= topology->domain_of[cpu] != UNKNOWN;
    }
    if (!caches)
        mark_nodes(root, topology);
    number_domains(topology);
    return 0;
}

int weir__topology_split(struct weir__topology *topology, unsigned domains, unsigned nr_cpus)
{
    int error = prepare(topology, nr_cpus);
    if (error != 0)
        return error;
    topology->domains = domains < nr_cpus ? domains : nr_cpus;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        topology->domain_of[cpu] = (uint32_t)((uint64_t)cpu * topology->domains / nr_cpus);
    return 0;
}

void weir__topology_free(struct weir__topology *topology)
{
    free(topology->domain_of);
}

static struct weir__topology machine;

static void read_machine(void)
{
    weir__topology_read(&machine, WEIR_TOPOLOGY_ROOT, weir_percpu_nr_cpus());
}

const struct weir__topology *weir__topology(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, read_machine);
    return machine.domain_of != NULL ? &machine : NULL;
}
