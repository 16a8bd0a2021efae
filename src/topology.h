/* SPDX-License-Identifier: MIT */
/*
 * topology.h - which CPUs are close to each other: those that share a last-level cache or, where the system
 * does not say, a NUMA node. Such a group is a domain; what is shared by all CPUs of a domain stays in one
 * cache.
 */
#ifndef WEIR_SRC_TOPOLOGY_H
#define WEIR_SRC_TOPOLOGY_H

#include <stdint.h>

#define WEIR_TOPOLOGY_ROOT "/sys/devices/system"

struct weir__topology {
    unsigned domains;    /* at least one */
    unsigned nr_cpus;    /* at least one */
    uint32_t *domain_of; /* the domain of each CPU, below `domains` */
};

/*
 * Reads the tree below `root`, laid out like WEIR_TOPOLOGY_ROOT. A CPU that it says nothing of, one that is
 * off line for instance, is in domain 0; if it says nothing at all, there is one domain. 0, or -ENOMEM.
 */
int weir__topology_read(struct weir__topology *topology, const char *root, unsigned nr_cpus);

/* Every CPU in one of `domains` domains, neighbours together: for tests and models. 0, or -ENOMEM. */
int weir__topology_split(struct weir__topology *topology, unsigned domains, unsigned nr_cpus);

void weir__topology_free(struct weir__topology *topology);

/* This machine's, read once; NULL if there was no memory for it. May block, the first time. */
const struct weir__topology *weir__topology(void);

#endif /* WEIR_SRC_TOPOLOGY_H */
