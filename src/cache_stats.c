/* SPDX-License-Identifier: MIT */
/* cache_stats.c - what weir_cache_stats() and weir_cache_print() say. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cache.h"

static void add_counts(const struct weir__cache_counts *counts, struct weir_cache_stats *stats)
{
    uint64_t n[WEIR__COUNTS];
    for (size_t i = 0; i < WEIR__COUNTS; i++)
        n[i] = weir_load_relaxed(&counts->count[i]);
    uint64_t from_depots = n[WEIR__FROM_DEPOT] + n[WEIR__FROM_OTHER_DEPOT];
    uint64_t refills = n[WEIR__FROM_SPARE] + from_depots + n[WEIR__FROM_BACKEND];
    stats->fast_allocs += n[WEIR__FAST_ALLOCS];
    stats->fast_frees += n[WEIR__FAST_FREES];
    stats->slow_allocs += n[WEIR__SLOW_ALLOCS] + refills;
    stats->slow_frees += n[WEIR__SLOW_FREES] + n[WEIR__FLUSHES];
    stats->refills += refills;
    stats->depot_hits += from_depots;
    stats->stolen += n[WEIR__FROM_OTHER_DEPOT];
    stats->depot_misses += n[WEIR__DEPOT_MISSES];
    stats->flushes += n[WEIR__FLUSHES];
    stats->spills += n[WEIR__SPILLS];
    stats->allocated += n[WEIR__ALLOCATED];
    stats->alloc_calls += n[WEIR__ALLOC_CALLS];
    stats->freed += n[WEIR__FREED];
    stats->free_calls += n[WEIR__FREE_CALLS];
    stats->decayed += n[WEIR__DECAYED];
    stats->drained += n[WEIR__DRAINED];
    stats->rcu_waits += n[WEIR__RCU_WAITS];
}

static void add_cpu(struct weir_cache *cache, unsigned nr, struct weir_cache_stats *stats)
{
    add_counts(&cache->counts[nr], stats);
    /* Acquire: pairs with the exchange that put it there. It may be somebody else's by now; but it stays
     * mapped, and what we read once was true. */
    const struct weir_magazine *spare = weir_load_acquire(&cache->cpus[nr].spare);
    stats->cached += weir_percpu_count(cache->paths.loaded, nr);
    if (spare != NULL)
        stats->cached += weir_load_relaxed(&spare->count);
    stats->waiting += weir__deferred_pending_cpu(&cache->deferred, nr);
    stats->rcu_freed += weir_load_relaxed(&cache->deferred.cpus[nr].objects);
}

void weir_cache_stats_cpu(struct weir_cache *cache, unsigned cpu, struct weir_cache_stats *stats)
{
    *stats = (struct weir_cache_stats){0};
    if (cpu < weir_percpu_nr_cpus())
        add_cpu(cache, cpu, stats);
}

void weir_cache_stats(struct weir_cache *cache, struct weir_cache_stats *stats)
{
    struct weir__deferred_stats deferred;
    *stats = (struct weir_cache_stats){0};
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++)
        add_cpu(cache, nr, stats);
    stats->cached += weir__depots_objects(&cache->depots, cache->capacity);
    weir__deferred_stats(&cache->deferred, &deferred);
    stats->waiting_objects = deferred.objects;
    stats->limit = weir__depots_limit(&cache->depots) * cache->capacity;
    stats->raises = weir__depots_raised(&cache->depots);
    stats->periods = weir_grace_periods(cache->grace);
    weir__blocks_stats(&cache->blocks, &stats->blocks);
    /* What the backend lent less what is here; between the snapshots objects may have moved, so never below
     * zero. */
    uint64_t here = stats->freed + stats->cached + stats->waiting_objects;
    stats->out = stats->allocated > here ? (size_t)(stats->allocated - here) : 0;
}

/* --- printing --- */

/* The statistics of a whole cache; those up to `last_of_cpu` also of a CPU. `size`: of the member. */
static const struct field {
    const char *key, *text;
    size_t offset, size;
} fields[] = {
#define FIELD(member, text)                                                                                  \
    {                                                                                                        \
#member, text, offsetof(struct weir_cache_stats, member),                                            \
            sizeof(((struct weir_cache_stats *)0)->member)                                                   \
    }
    FIELD(cached, "objects cached"),
    FIELD(waiting, "magazines waiting for a grace period"),
    FIELD(fast_allocs, "objects allocated on the fast path, net"),
    FIELD(fast_frees, "objects freed on the fast path, net"),
    FIELD(slow_allocs, "objects allocated on the slow path"),
    FIELD(slow_frees, "objects freed on the slow path"),
    FIELD(refills, "refills"),
    FIELD(depot_hits, "... from a depot"),
    FIELD(stolen, "... from the depot of another domain"),
    FIELD(depot_misses, "times every depot was empty"),
    FIELD(flushes, "flushes"),
    FIELD(spills, "magazines above a depot's limit"),
    FIELD(allocated, "objects from the backend"),
    FIELD(alloc_calls, "... in calls"),
    FIELD(freed, "objects back to the backend"),
    FIELD(free_calls, "... in calls"),
    FIELD(decayed, "... by decay"),
    FIELD(drained, "... by drains and shrink"),
    FIELD(rcu_freed, "objects whose grace period is over"),
    FIELD(rcu_waits, "waits of free_rcu for want of a magazine"),
#define FIELDS_OF_CPU 20
    FIELD(out, "objects out"),
    FIELD(waiting_objects, "objects waiting for a grace period"),
    FIELD(limit, "objects that the depots keep at most now"),
    FIELD(raises, "times a depot's limit rose"),
    FIELD(periods, "grace periods"),
    FIELD(blocks.total, "magazines made"),
    FIELD(blocks.in_use, "... in use"),
    FIELD(blocks.grown, "... asked for, and memory had to be got first"),
    FIELD(blocks.misses, "... asked for, and there was no memory"),
#undef FIELD
};
#define FIELDS (sizeof fields / sizeof fields[0])

static uint64_t value_of(const struct weir_cache_stats *stats, const struct field *field)
{
    const char *at = (const char *)stats + field->offset;
    uint64_t wide;
    size_t size;
    if (field->size == sizeof wide) {
        memcpy(&wide, at, sizeof wide);
        return wide;
    }
    memcpy(&size, at, sizeof size);
    return size;
}

static bool has_been_used(const struct weir_cache_stats *stats)
{
    for (size_t i = 0; i < FIELDS_OF_CPU; i++)
        if (value_of(stats, &fields[i]) != 0)
            return true;
    return false;
}

static void print_text(FILE *to, const struct weir_cache_stats *stats, size_t n, const char *indent)
{
    for (size_t i = 0; i < n; i++)
        fprintf(to, "%s%16" PRIu64 "  %s\n", indent, value_of(stats, &fields[i]), fields[i].text);
}

/* A string, as JSON wants it. */
static void print_quoted(FILE *to, const char *text)
{
    fputc('"', to);
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(to, "\\%c", *c);
        else if (*c < 0x20)
            fprintf(to, "\\u%04x", *c);
        else
            fputc(*c, to);
    }
    fputc('"', to);
}

static void print_members(FILE *to, const struct weir_cache_stats *stats, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fprintf(to, "%s\"%s\": %" PRIu64, i != 0 ? ", " : "", fields[i].key, value_of(stats, &fields[i]));
}

int weir_cache_print(struct weir_cache *cache, FILE *to, enum weir_print how)
{
    struct weir_cache_stats stats;
    if (how != WEIR_PRINT_TEXT && how != WEIR_PRINT_JSON)
        return -EINVAL;
    bool json = how == WEIR_PRINT_JSON, first = true;

    weir_cache_stats(cache, &stats);
    if (json) {
        fputs("{\"name\": ", to);
        print_quoted(to, cache->name);
        fprintf(to, ", \"capacity\": %zu, \"domains\": %u, ", cache->capacity, cache->depots.domains);
        print_members(to, &stats, FIELDS);
        fputs(", \"cpus\": [", to);
    } else {
        fprintf(to, "%s: %zu objects per magazine, %u depot%s\n", cache->name, cache->capacity,
                cache->depots.domains, cache->depots.domains != 1 ? "s" : "");
        print_text(to, &stats, FIELDS, "");
    }
    for (unsigned nr = 0; nr < weir_percpu_nr_cpus(); nr++) {
        weir_cache_stats_cpu(cache, nr, &stats);
        if (!has_been_used(&stats))
            continue;
        fprintf(to, json ? "%s{\"cpu\": %u, " : "%sCPU %u\n", json && !first ? ", " : "", nr);
        if (json)
            print_members(to, &stats, FIELDS_OF_CPU);
        else
            print_text(to, &stats, FIELDS_OF_CPU, "  ");
        if (json)
            fputc('}', to);
        first = false;
    }
    if (json)
        fputs("]}", to);
    return ferror(to) ? -EIO : 0;
}
