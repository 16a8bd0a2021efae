/* SPDX-License-Identifier: MIT */
/* Which CPUs are close to each other: read from trees of files that imitate those of the kernel. */
#include "topology.h"

#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weir/percpu.h"
#include "weir_test.h"

static char root[] = "/tmp/weir-topology-XXXXXX";

static int remove_one(const char *path, const struct stat *unused, int type, struct FTW *where)
{
    (void)unused, (void)type, (void)where;
    return remove(path);
}

static void make_root(void)
{
    cr_assert_not_null(mkdtemp(root));
}

static void remove_root(void)
{
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#define TREE .init = make_root, .fini = remove_root

/* Makes the folders above a path below the root; the whole path. */
static const char *in_tree(const char *relative)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", root, relative);
    for (char *slash = path + strlen(root); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        cr_assert(mkdir(path, 0700) == 0 || errno == EEXIST, "%s: %s", path, strerror(errno));
        *slash = '/';
    }
    return path;
}

/* A file with one line of text. */
__attribute__((format(printf, 2, 3))) static void put(const char *text, const char *format, ...)
{
    char relative[256];
    va_list args;
    va_start(args, format);
    vsnprintf(relative, sizeof relative, format, args);
    va_end(args);
    FILE *file = fopen(in_tree(relative), "w");
    cr_assert_not_null(file, "%s: %s", relative, strerror(errno));
    fprintf(file, "%s\n", text);
    fclose(file);
}

static void put_cache(unsigned cpu, unsigned index, const char *level, const char *shared)
{
    put(level, "cpu/cpu%u/cache/index%u/level", cpu, index);
    put(shared, "cpu/cpu%u/cache/index%u/shared_cpu_list", cpu, index);
}

/* The caches that are nobody else's: two of the first level, one of the second. */
static void put_own_caches(unsigned cpu)
{
    char self[16];
    snprintf(self, sizeof self, "%u", cpu);
    put_cache(cpu, 0, "1", self);
    put_cache(cpu, 1, "1", self);
    put_cache(cpu, 2, "2", self);
}

/* Each CPU has caches of its own, and shares one of the third level with those in the list. */
static void put_cpu(unsigned cpu, const char *shared)
{
    put_own_caches(cpu);
    put_cache(cpu, 3, "3", shared);
}

/* Reads the tree; the domains of CPUs 0, 1, ... must be these digits. */
static void check(const char *expected)
{
    struct weir__topology topology;
    unsigned nr_cpus = (unsigned)strlen(expected), domains = 1;
    char found[65] = "";

    cr_assert_eq(weir__topology_read(&topology, root, nr_cpus), 0);
    cr_assert_eq(topology.nr_cpus, nr_cpus);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        cr_assert_lt(topology.domain_of[cpu], topology.domains, "CPU %u", cpu);
        found[cpu] = (char)('0' + topology.domain_of[cpu]);
        if (topology.domain_of[cpu] >= domains)
            domains = topology.domain_of[cpu] + 1;
    }
    cr_assert_str_eq(found, expected, "%s, not %s", found, expected);
    cr_assert_eq(topology.domains, domains);
    weir__topology_free(&topology);
}

/* --- caches --- */

Test(topology, one_cache_for_all_is_one_domain, TREE)
{
    for (unsigned cpu = 0; cpu < 4; cpu++)
        put_cpu(cpu, "0-3");
    check("0000");
}

Test(topology, halves_that_share_a_cache_are_domains, TREE)
{
    for (unsigned cpu = 0; cpu < 8; cpu++)
        put_cpu(cpu, cpu < 4 ? "0-3" : "4-7");
    check("00001111");
}

Test(topology, third_level_cache_of_every_four_cpus_makes_a_domain_each, TREE)
{
    static const char *const lists[] = {"0-3", "4-7", "8-11", "12-15"};
    for (unsigned cpu = 0; cpu < 16; cpu++)
        put_cpu(cpu, lists[cpu / 4]);
    put("0-15", "node/node0/cpulist"); /* what the caches say comes first */
    check("0000111122223333");
}

Test(topology, siblings_far_apart_in_number_are_together, TREE)
{
    for (unsigned cpu = 0; cpu < 16; cpu++) /* as hyperthreads are numbered */
        put_cpu(cpu, cpu % 8 < 4 ? "0-3,8-11" : "4-7,12-15");
    check("0000111100001111");
}

Test(topology, cpus_that_alternate_between_two_caches, TREE)
{
    for (unsigned cpu = 0; cpu < 6; cpu++)
        put_cpu(cpu, cpu % 2 == 0 ? "0,2,4" : "1,3,5");
    check("010101");
}

Test(topology, highest_level_counts_in_whatever_order_the_caches_are_listed, TREE)
{
    for (unsigned cpu = 0; cpu < 4; cpu++) {
        put_cache(cpu, 0, "4", "0-3");
        put_cache(cpu, 1, "3", cpu < 2 ? "0-1" : "2-3");
        put_cache(cpu, 2, "1", cpu < 1 ? "0" : "1-3");
    }
    check("0000");
}

Test(topology, last_level_may_be_above_the_third, TREE)
{
    for (unsigned cpu = 0; cpu < 4; cpu++) {
        put_cpu(cpu, "0-3");
        put_cache(cpu, 4, "4", cpu < 2 ? "0-1" : "2-3");
    }
    check("0011");
}

Test(topology, cache_without_a_list_of_cpus_does_not_count, TREE)
{
    for (unsigned cpu = 0; cpu < 4; cpu++) {
        put_cpu(cpu, cpu < 2 ? "0-1" : "2-3");
        put("4", "cpu/cpu%u/cache/index4/level", cpu);
    }
    check("0011");
}

/* --- nodes --- */

Test(topology, second_level_caches_make_no_domain, TREE)
{
    for (unsigned cpu = 0; cpu < 4; cpu++)
        put_own_caches(cpu);
    check("0000");
}

Test(topology, without_a_third_level_nodes_are_domains, TREE)
{
    for (unsigned cpu = 0; cpu < 8; cpu++)
        put_own_caches(cpu);
    put("0-3", "node/node0/cpulist");
    put("4-7", "node/node1/cpulist");
    check("00001111");
}

Test(topology, nodes_with_gaps_in_their_numbers_and_lists_of_ranges, TREE)
{
    put("0-1,4", "node/node2/cpulist");
    put("2,6-7", "node/node7/cpulist");
    put("3,5", "node/node300/cpulist");
    check("00120211");
}

Test(topology, node_without_cpus_is_no_domain, TREE)
{
    put("", "node/node0/cpulist"); /* memory only */
    put("0-1", "node/node1/cpulist");
    put("2-3", "node/node2/cpulist");
    check("0011");
}

/* --- what is missing --- */

Test(topology, nothing_at_all_is_one_domain)
{
    check("0000"); /* not even the root */
}

Test(topology, empty_tree_is_one_domain, TREE)
{
    check("0000");
}

Test(topology, cpu_off_line_is_in_the_first_domain, TREE)
{
    for (unsigned cpu = 0; cpu < 8; cpu++)
        if (cpu != 5)
            put_cpu(cpu, cpu < 4 ? "0-3" : "4,6-7");
    check("00001011");
}

Test(topology, first_cpu_off_line, TREE)
{
    for (unsigned cpu = 1; cpu < 4; cpu++)
        put_cpu(cpu, cpu < 2 ? "1" : "2-3");
    check("0011");
}

Test(topology, gaps_in_the_numbers_of_cpus, TREE)
{
    put_cpu(0, "0,2");
    put_cpu(2, "0,2");
    put_cpu(5, "5,9");
    put_cpu(9, "5,9");
    check("0000010001");
}

Test(topology, cpus_above_what_was_asked_for_are_left_out, TREE)
{
    for (unsigned cpu = 0; cpu < 16; cpu++)
        put_cpu(cpu, cpu < 8 ? "0-7" : "8-15");
    check("0000");
    check("000000001");
    put("0-1000000", "node/node0/cpulist");
    check("0000");
}

Test(topology, nodes_may_name_more_cpus_than_there_are, TREE)
{
    put("0-1,100", "node/node0/cpulist");
    put("2-4000000000", "node/node1/cpulist");
    check("0011");
}

Test(topology, one_cpu_is_one_domain, TREE)
{
    put_cpu(0, "0-63");
    check("0");
}

/* --- what is no such file --- */

Test(topology, files_that_cannot_be_read_say_nothing, TREE)
{
    for (unsigned cpu = 0; cpu < 4; cpu++)
        put_cpu(cpu, cpu < 2 ? "0-1" : "2-3");
    /* Of CPU 3, a folder where a file is expected, and of CPU 2, a link that leads nowhere. */
    cr_assert_eq(unlink(in_tree("cpu/cpu3/cache/index3/shared_cpu_list")), 0);
    in_tree("cpu/cpu3/cache/index3/shared_cpu_list/");
    cr_assert_eq(unlink(in_tree("cpu/cpu2/cache/index0/level")), 0);
    cr_assert_eq(symlink("nowhere", in_tree("cpu/cpu2/cache/index0/level")), 0);
    check("0000");
}

Test(topology, garbage_makes_no_domain_that_does_not_exist, TREE)
{
    static const char *const garbage[] = {
        "",   ",",   "-",    "x",          "0-",         "-5",         "7-3",
        "0x", "1 2", ",,,,", "4294967295", "2147483648", "2147483653", "99999999999999999999999",
    };
    struct weir__topology topology;
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++)
        for (unsigned in_level = 0; in_level < 2; in_level++) {
            put_cpu(0, "0");
            put_cpu(1, "1-3");
            put_own_caches(2);
            put_cache(2, 3, in_level ? garbage[i] : "3", in_level ? "1-3" : garbage[i]);
            put(garbage[i], "node/node0/cpulist");
            cr_assert_eq(weir__topology_read(&topology, root, 4), 0);
            cr_assert_leq(topology.domains, 3u, "'%s'", garbage[i]);
            for (unsigned cpu = 0; cpu < 4; cpu++)
                cr_assert_lt(topology.domain_of[cpu], topology.domains, "'%s', CPU %u", garbage[i], cpu);
            cr_assert_neq(topology.domain_of[0], topology.domain_of[1], "'%s'", garbage[i]);
            weir__topology_free(&topology);
        }
}

Test(topology, garbage_in_the_nodes_is_one_domain, TREE)
{
    put("nonsense", "node/node0/cpulist");
    put("3-1", "node/node1/cpulist");
    put("-", "node/node2/cpulist");
    check("0000");
    put("2-3,x,0", "node/node3/cpulist"); /* what comes before it counts */
    check("0000");
    put("0-1", "node/node0/cpulist");
    check("0011");
}

Test(topology, line_that_does_not_end_is_cut, TREE)
{
    char list[8192];
    for (size_t i = 0; i + 2 < sizeof list; i += 2)
        memcpy(list + i, "1,", 3);
    put("0,2-3", "node/node0/cpulist");
    put(list, "node/node1/cpulist");
    check("0100");
}

/* --- split, and this machine --- */

static void check_split(unsigned domains, const char *expected)
{
    struct weir__topology topology;
    unsigned nr_cpus = (unsigned)strlen(expected);
    char found[65] = "";
    cr_assert_eq(weir__topology_split(&topology, domains, nr_cpus), 0);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        found[cpu] = (char)('0' + topology.domain_of[cpu]);
    cr_assert_str_eq(found, expected, "%s, not %s", found, expected);
    cr_assert_eq(topology.domains, (unsigned)(expected[nr_cpus - 1] - '0') + 1);
    cr_assert_eq(topology.nr_cpus, nr_cpus);
    weir__topology_free(&topology);
}

Test(topology, split_puts_neighbours_together_and_leaves_no_domain_empty)
{
    check_split(1, "0000");
    check_split(2, "0011");
    check_split(2, "00011");
    check_split(3, "0001122");
    check_split(4, "0123");
    check_split(9, "012"); /* more than CPUs */
}

Test(topology, this_machines_is_read_once_and_has_all_cpus)
{
    const struct weir__topology *topology = weir__topology();
    cr_assert_not_null(topology);
    cr_assert_eq(weir__topology(), topology);
    cr_assert_eq(topology->nr_cpus, weir_percpu_nr_cpus());
    cr_assert_geq(topology->domains, 1u);
    for (unsigned cpu = 0; cpu < topology->nr_cpus; cpu++)
        cr_assert_lt(topology->domain_of[cpu], topology->domains);
}
