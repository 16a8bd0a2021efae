/* SPDX-License-Identifier: MIT */
/* page_cache.c - the engine over the frames: see weir/page_cache.h. */
#define _GNU_SOURCE
#include "weir/page_cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "extents.h"
#include "frames.h"
#include "prepare.h"
#include "weir/shrinker.h"

#define DECAY_PERCENT 25

/* Pages that go from a list into magazines at once, and the other way. */
#define AT_ONCE 128

struct weir_page_cache {
    char name[64];
    struct weir__page_cache_paths paths; /* the inline functions read it */
    struct weir__frames frames;
    struct weir__extents *extents;
    struct weir__prepare *prepare; /* NULL: nothing is done to pages */
    struct weir_percpu_slot *none; /* slots that are always empty, then */
    struct weir_grace *grace;
    struct weir__grace_client client;
    struct weir_shrinker shrinker;
    bool shrinks;       /* is registered */
    bool checks;        /* destroy says what is still out */
    unsigned decays;    /* every so many milliseconds; 0: not by itself */
    uint32_t watched;   /* there is something to be given back, perhaps; set by who has put it there */
    uint32_t again;     /* ... there was, the last time. The helper's own */
    size_t block_pages; /* frames that hold the engine's magazines */
    size_t lent_pages;  /* ... and others', through weir_page_cache_block_source() */
    uint64_t released;  /* bytes */
    /* Pages that weir_page_free_nolock() laid aside, linked by their first words. */
    struct weir_llist_head parked WEIR_ALIGNED(WEIR_LINE_PAIR);
    size_t nr_parked;
};
_Static_assert(offsetof(struct weir_page_cache, paths) == WEIR__PATHS_OFFSET, "");

/*
 * Tells the helper thread that there is something to be given back, unless it knows. The load may miss that
 * it has just stopped watching: it looks once more a period later, when what the caller did before is there
 * to be seen.
 */
static void watch(struct weir_page_cache *pages)
{
    if (weir_likely(weir_load_relaxed(&pages->watched) != 0) || pages->decays == 0)
        return;
    /* Acquire-release: pairs with the exchange in sweep(). */
    if (weir_xchg_acq_rel(&pages->watched, 1u) == 0)
        weir__grace_kick(pages->grace);
}

/* --- the frames as the engine's backend, and as memory for its magazines --- */

static size_t frames_alloc(void *backend, size_t n, void *objects[])
{
    struct weir_page_cache *pages = backend;
    return weir__frames_alloc(&pages->frames, n, objects);
}

static void frames_free(void *backend, size_t n, void *objects[])
{
    struct weir_page_cache *pages = backend;
    weir__frames_free(&pages->frames, n, objects);
    watch(pages);
}

static const struct weir_cache_ops frames_ops = {frames_alloc, frames_free};

static void *frame_get(struct weir_page_cache *pages, size_t *count, size_t *bytes)
{
    void *frame;
    if (weir__frames_alloc(&pages->frames, 1, &frame) == 0)
        return NULL;
    weir_fetch_add_relaxed(count, (size_t)1); /* a statistic, and for destroy, when all is still */
    if (pages->prepare != NULL)
        weir__prepare_spoiled(pages->prepare, frame);
    *bytes = pages->frames.frame_bytes;
    return frame;
}

static void frame_put(struct weir_page_cache *pages, size_t *count, void *frame)
{
    /* Before the frame can be had again, so that no more are counted than there are. */
    weir_fetch_sub_relaxed(count, (size_t)1);
    weir__frames_free(&pages->frames, 1, &frame);
}

static void *chunk_get(void *arg, size_t *bytes)
{
    struct weir_page_cache *pages = arg;
    return frame_get(pages, &pages->block_pages, bytes);
}

static void chunk_put(void *arg, void *chunk, size_t bytes)
{
    struct weir_page_cache *pages = arg;
    (void)bytes;
    frame_put(pages, &pages->block_pages, chunk);
}

static void *lent_get(void *arg, size_t *bytes)
{
    struct weir_page_cache *pages = arg;
    return frame_get(pages, &pages->lent_pages, bytes);
}

static void lent_put(void *arg, void *frame, size_t bytes)
{
    struct weir_page_cache *pages = arg;
    (void)bytes;
    frame_put(pages, &pages->lent_pages, frame);
}

void weir_page_cache_block_source(struct weir_page_cache *pages, struct weir_block_source *source)
{
    *source = (struct weir_block_source){lent_get, lent_put, pages, pages->frames.frame_bytes};
}

/* --- pages laid aside --- */

/* The pages of a chain of at most AT_ONCE, as an array; the rest of the chain. */
static struct weir_llist_node *spread(struct weir_page_cache *pages, struct weir_llist_node *chain,
                                      void *array[], size_t *n)
{
    for (*n = 0; chain != NULL && *n < AT_ONCE; (*n)++) {
        array[*n] = chain;
        chain = weir_llist_next(chain);
        if (pages->prepare != NULL)
            weir__prepare_spoiled(pages->prepare, array[*n]); /* by the link */
    }
    weir_fetch_sub_relaxed(&pages->nr_parked, *n); /* a statistic */
    return chain;
}

/* Takes what was laid aside into magazines. Inside the gate. */
static void unpark(struct weir_page_cache *pages)
{
    if (weir_likely(weir_llist_empty(&pages->parked)))
        return;
    struct weir_llist_node *chain = weir_llist_del_all(&pages->parked);
    while (chain != NULL) {
        void *array[AT_ONCE];
        size_t n;
        chain = spread(pages, chain, array, &n);
        weir_cache_free_bulk(pages->paths.cache, n, array);
    }
}

/* Gives it to the frames; how many pages. For whoever gives back: he may be none of the registered users, who
 * alone may touch magazines; the helper thread never is. Inside the gate. */
static size_t unpark_to_frames(struct weir_page_cache *pages)
{
    struct weir_llist_node *chain = weir_llist_del_all(&pages->parked);
    size_t total = 0;
    while (chain != NULL) {
        void *array[AT_ONCE];
        size_t n;
        chain = spread(pages, chain, array, &n);
        frames_free(pages, n, array);
        total += n;
    }
    return total;
}

/* One of them, the others to the frames: never into a depot, which might call the helper. Inside the gate. */
static void *unpark_one(struct weir_page_cache *pages)
{
    struct weir_llist_node *chain = weir_llist_del_all(&pages->parked);
    void *one = NULL, *array[AT_ONCE];
    while (chain != NULL) {
        size_t n;
        chain = spread(pages, chain, array, &n);
        if (one == NULL)
            one = array[--n];
        weir__frames_free(&pages->frames, n, array);
    }
    return one;
}

/* --- alloc --- */

/* The code that called the public function. */
#define SITE() __builtin_return_address(0)

/* Before it is said that there is none left: what lies idle elsewhere and is nobody's. True: try again. */
static bool recover(struct weir_page_cache *pages)
{
    bool any = false;
    if (!weir__enter())
        return false;
    if (!weir_llist_empty(&pages->parked)) {
        unpark(pages);
        any = true;
    }
    if (weir__extents_decay(pages->extents, 100) != 0)
        any = true;
    weir__leave();
    return any;
}

static void unpark_if_any(struct weir_page_cache *pages)
{
    if (weir_likely(weir_llist_empty(&pages->parked)) || !weir__enter())
        return;
    unpark(pages);
    weir__leave();
}

static void *alloc_one(struct weir_page_cache *pages)
{
    void *page = weir_cache_alloc(pages->paths.cache);
    if (weir_unlikely(page == NULL) && recover(pages))
        page = weir_cache_alloc(pages->paths.cache);
    return page;
}

void *weir__page_alloc_slow(struct weir_page_cache *pages)
{
    unpark_if_any(pages);
    void *page = alloc_one(pages);
    if (page != NULL && pages->prepare != NULL)
        weir__prepare_alloc(pages->prepare, 1, &page, SITE());
    return page;
}

static size_t alloc_bulk(struct weir_page_cache *pages, size_t n, void *array[], const void *site)
{
    size_t got = weir_cache_alloc_bulk(pages->paths.cache, n, array);
    if (weir_unlikely(got < n) && recover(pages))
        got += weir_cache_alloc_bulk(pages->paths.cache, n - got, array + got);
    if (pages->prepare != NULL && got != 0)
        weir__prepare_alloc(pages->prepare, got, array, site);
    return got;
}

size_t weir_page_alloc_bulk_array(struct weir_page_cache *pages, size_t n, void *array[])
{
    size_t populated = 0;
    bool more = true;

    for (size_t i = 0; i < n;) {
        size_t run = 0; /* of NULLs */
        while (i + run < n && array[i + run] == NULL)
            run++;
        if (run == 0) {
            populated++;
            i++;
            continue;
        }
        size_t got = more ? alloc_bulk(pages, run, array + i, SITE()) : 0;
        more = got == run;
        /* A sequence that was restarted may have copied more before than there was the second time. */
        for (size_t j = got; j < run; j++)
            array[i + j] = NULL;
        populated += got;
        i += run;
    }
    return populated;
}

size_t weir_page_alloc_bulk_list(struct weir_page_cache *pages, size_t n, struct weir_llist_head *list)
{
    void *batch[AT_ONCE];
    size_t done = 0, got, want;
    do {
        want = n - done < AT_ONCE ? n - done : AT_ONCE;
        got = alloc_bulk(pages, want, batch, SITE());
        for (size_t i = 0; i + 1 < got; i++)
            weir_store_relaxed(&((struct weir_llist_node *)batch[i])->next, batch[i + 1]);
        if (got != 0)
            weir_llist_add_batch(batch[0], batch[got - 1], list);
        done += got;
    } while (got == want && done < n);
    return done;
}

void *weir_page_alloc_nolock(struct weir_page_cache *pages)
{
    void *page = weir_cache_alloc_nolock(pages->paths.cache);
    if (page == NULL && weir__try_enter()) {
        if (weir__frames_alloc_reserved(&pages->frames, 1, &page) == 0)
            page = unpark_one(pages);
        weir__leave();
    }
    if (page != NULL && pages->prepare != NULL)
        weir__prepare_alloc(pages->prepare, 1, &page, SITE());
    return page;
}

void *weir_extent_alloc(struct weir_page_cache *pages, size_t n)
{
    if (n == 0 || n > WEIR_EXTENT_PAGES_MAX || !weir__enter())
        return NULL;
    void *extent = weir__extents_alloc(pages->extents, n);
    weir__leave();
    if (extent != NULL && pages->prepare != NULL)
        weir__prepare_alloc_extent(pages->prepare, extent, n, SITE());
    return extent;
}

/* --- free --- */

void weir__page_free_slow(struct weir_page_cache *pages, void *page)
{
    if (pages->prepare != NULL)
        weir__prepare_free(pages->prepare, 1, &page, "weir_page_free");
    unpark_if_any(pages);
    weir_cache_free(pages->paths.cache, page);
}

void weir_page_free_bulk(struct weir_page_cache *pages, size_t n, void *const array[])
{
    for (size_t i = 0; i < n;) {
        size_t run = 0; /* of pages */
        while (i + run < n && array[i + run] != NULL)
            run++;
        if (pages->prepare != NULL && run != 0)
            weir__prepare_free(pages->prepare, run, array + i, "weir_page_free_bulk");
        weir_cache_free_bulk(pages->paths.cache, run, array + i);
        i += run + 1;
    }
}

void weir__page_free_rcu_slow(struct weir_page_cache *pages, void *page)
{
    if (pages->prepare != NULL)
        weir__prepare_free_rcu(pages->prepare, page, "weir_page_free_rcu");
    weir_cache_free_rcu(pages->paths.cache, page);
}

void weir_page_free_nolock(struct weir_page_cache *pages, void *page)
{
    if (pages->prepare != NULL)
        weir__prepare_free(pages->prepare, 1, &page, "weir_page_free_nolock");
    /* Where the reserve is short: in a magazine a page would be anybody's. */
    if (weir__frames_reserve_used(&pages->frames) && weir__try_enter()) {
        weir__frames_free(&pages->frames, 1, &page);
        weir__leave();
        return;
    }
    if (weir_percpu_put(pages->paths.cache->paths.loaded, page))
        return;
    struct weir_llist_node *node = page;
    weir_llist_node_init(node);
    weir_fetch_add_relaxed(&pages->nr_parked, (size_t)1); /* before it can be taken: never below zero */
    weir_llist_add(node, &pages->parked);
}

void weir_extent_free(struct weir_page_cache *pages, void *extent, size_t n)
{
    if (!weir__enter())
        return;
    if (pages->prepare != NULL)
        weir__prepare_free_extent(pages->prepare, extent, n);
    weir__extents_free(pages->extents, extent, n);
    watch(pages);
    weir__leave();
}

/* --- giving back --- */

int weir_page_cache_rcu_barrier(struct weir_page_cache *pages)
{
    return weir_cache_rcu_barrier(pages->paths.cache);
}

/* To the system. Inside the gate. */
static size_t release(struct weir_page_cache *pages, unsigned percent)
{
    size_t bytes = weir__frames_release(&pages->frames, percent);
    weir_fetch_add_relaxed(&pages->released, (uint64_t)bytes); /* a statistic */
    return bytes;
}

static size_t decay(struct weir_page_cache *pages)
{
    unpark_to_frames(pages);
    weir_cache_decay(pages->paths.cache);
    weir__extents_decay(pages->extents, DECAY_PERCENT);
    return release(pages, DECAY_PERCENT);
}

size_t weir_page_cache_decay(struct weir_page_cache *pages)
{
    if (!weir__enter())
        return 0;
    size_t released = decay(pages);
    weir__leave();
    return released;
}

/* --- by itself: on the helper thread, inside the gate --- */

static struct weir_page_cache *of_client(struct weir__grace_client *client)
{
    return (struct weir_page_cache *)(void *)((char *)client - offsetof(struct weir_page_cache, client));
}

static unsigned wish(struct weir__grace_client *client)
{
    const struct weir_page_cache *pages = of_client(client);
    bool any = weir_load_relaxed(&pages->watched) != 0 || pages->again != 0;
    return any ? pages->decays : 0;
}

/* Is there more to be given back? */
static bool anything_idle(const struct weir_page_cache *pages)
{
    return weir__depots_watched(&pages->paths.cache->depots) || weir__extents_idle(pages->extents) != 0 ||
           weir__frames_releasable(&pages->frames) != 0 || !weir_llist_empty(&pages->parked);
}

/* Goes on for one period more after there was nothing: see watch(). */
static void sweep(struct weir__grace_client *client)
{
    struct weir_page_cache *pages = of_client(client);
    bool told = weir_xchg_acq_rel(&pages->watched, 0u) != 0; /* acquire-release: pairs with watch() */
    decay(pages);
    weir__depots_watch(&pages->paths.cache->depots);
    pages->again = told || anything_idle(pages);
}

/* --- when asked --- */

static size_t idle_bytes(void *arg)
{
    struct weir_page_cache *pages = arg;
    struct weir_cache_stats stats;
    weir_cache_stats(pages->paths.cache, &stats);
    size_t cached = stats.cached + weir__extents_idle(pages->extents) + weir_load_relaxed(&pages->nr_parked);
    return (cached << pages->frames.frame_shift) + weir__frames_releasable(&pages->frames);
}

/* The gate is passed once for each step: a fork() in another thread waits for one only. */
static size_t release_when_let_in(struct weir_page_cache *pages, unsigned percent)
{
    if (!weir__enter())
        return 0;
    size_t bytes = release(pages, percent);
    weir__leave();
    return bytes;
}

/* What lies idle outside of the engine goes to the frames. */
static void give_up_idle(struct weir_page_cache *pages)
{
    if (!weir__enter())
        return;
    unpark_to_frames(pages);
    weir__extents_decay(pages->extents, 100);
    weir__leave();
}

/* The memory of free frames first, which costs nobody anything; then what lies idle anywhere. */
static size_t give_back(void *arg, size_t bytes)
{
    struct weir_page_cache *pages = arg;
    size_t free_bytes = weir__frames_releasable(&pages->frames), given = 0;
    if (free_bytes != 0)
        given = release_when_let_in(
            pages, bytes >= free_bytes ? 100 : (unsigned)(bytes / (free_bytes / 100 + 1) + 1));
    if (given >= bytes)
        return given;
    give_up_idle(pages);
    weir_cache_shrink(pages->paths.cache);
    return given + release_when_let_in(pages, 100);
}

/* --- drains --- */

size_t weir_page_cache_drain_cpu(struct weir_page_cache *pages, unsigned cpu, enum weir_drain how)
{
    return weir_cache_drain_cpu(pages->paths.cache, cpu, how);
}

size_t weir_page_cache_drain_all(struct weir_page_cache *pages, enum weir_drain how)
{
    size_t drained = weir_cache_drain_all(pages->paths.cache, how);
    if (errno == 0 && weir__enter()) {
        drained += unpark_to_frames(pages);
        drained += weir__extents_decay(pages->extents, 100);
        release(pages, 100);
        weir__leave();
        errno = 0; /* whatever the system call left there */
    }
    return drained;
}

/* The engine does not see what weir_page_alloc_nolock() took from the frames, and what came back to them past
 * it. Between the snapshots pages may have moved: never below zero. */
static size_t pages_out(const struct weir_page_cache_stats *stats)
{
    size_t here = stats->cache.cached + stats->cache.waiting_objects + stats->block_pages + stats->parked +
                  stats->extent_pages + stats->extent_pool_pages;
    return stats->frames > here ? stats->frames - here : 0;
}

void weir_page_cache_stats(struct weir_page_cache *pages, struct weir_page_cache_stats *stats)
{
    weir_cache_stats(pages->paths.cache, &stats->cache);
    stats->page_size = pages->frames.frame_bytes;
    stats->capacity = pages->frames.frames;
    stats->frames = weir__frames_out(&pages->frames);
    stats->frames_peak = weir_load_relaxed(&pages->frames.out_peak);
    stats->block_pages = weir_load_relaxed(&pages->block_pages) + weir_load_relaxed(&pages->lent_pages) +
                         weir__extents_frames(pages->extents);
    stats->parked = weir_load_relaxed(&pages->nr_parked);
    stats->released = weir_load_relaxed(&pages->released);
    weir__extents_stats(pages->extents, stats);
    stats->cache.out = pages_out(stats);
}

/* --- making and unmaking --- */

static bool is_page_size(size_t page)
{
    return page >= 4096 && page <= 65536 && (page & (page - 1)) == 0;
}

static bool is_name(const char *name)
{
    size_t n = strlen(name);
    return n >= 1 && n <= 63 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/ ") == n;
}

static size_t quarter_of_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages / 4 * (size_t)page : (size_t)256 << 20;
}

/* With the defaults of what others are derived from. */
static struct weir_page_cache_config complete(const struct weir_page_cache_config *given)
{
    static const struct weir_page_cache_config defaults = WEIR_PAGE_CACHE_CONFIG_INIT;
    struct weir_page_cache_config config = given != NULL ? *given : defaults;
    if (config.page_size == 0)
        config.page_size = 4096;
    if (config.capacity == 0)
        config.capacity = quarter_of_memory();
    if (config.name == NULL)
        config.name = "page cache";
#ifdef WEIR_CHECKED
    config.check = true;
#endif
    return config;
}

/* In whole areas, as the frames have it. */
static size_t pages_of(const struct weir_page_cache_config *config)
{
    size_t area = WEIR_FRAMES_PER_AREA * config->page_size;
    return (config->capacity / area + (config->capacity % area != 0)) * WEIR_FRAMES_PER_AREA;
}

const char *weir_page_cache_config_error(const struct weir_page_cache_config *given)
{
    const struct weir_page_cache_config config = complete(given);
    if (!is_page_size(config.page_size))
        return "page_size: 4096, 8192, 16384, 32768 or 65536 bytes, or 0 for 4096";
    if (config.capacity > SIZE_MAX / 4)
        return "capacity: at most a quarter of SIZE_MAX bytes";
    /* A magazine and what belongs to it must fit into the page it comes from. */
    if (config.batch > WEIR_MAGAZINE_CAPACITY(config.page_size - 2 * sizeof(void *)))
        return "batch: a magazine of so many pointers does not fit into a page (at most 507 for 4 KiB)";
    if (config.high > SIZE_MAX / 2)
        return "high: at most half of SIZE_MAX pages";
    if (config.high_fraction != 0 && config.high_fraction < 8)
        return "high_fraction: 8 or more, or 0 for the default";
    if (config.high != 0 && config.high_fraction != 0)
        return "high and high_fraction: one of them only";
    if (config.min > pages_of(&config) / 2)
        return "min: at most half of the pages";
    if (config.huge_pages != WEIR_HUGE_PAGES_NEVER && config.huge_pages != WEIR_HUGE_PAGES_ADVISE)
        return "huge_pages: none of enum weir_huge_pages";
    if (config.zero != WEIR_ZERO_NEVER && config.zero != WEIR_ZERO_ON_ALLOC &&
        config.zero != WEIR_ZERO_ON_FREE)
        return "zero: none of enum weir_zero";
    if (!is_name(config.name))
        return "name: 1 to 63 letters, digits, spaces and -_.:/";
    if (config.sites && !config.check)
        return "sites: only with check";
    return NULL;
}

static int make_frames(struct weir_page_cache *pages, const struct weir_page_cache_config *config)
{
    const struct weir__frames_config frames = {
        .bytes = config->capacity,
        .frame_bytes = config->page_size,
        .min = config->min,
        .huge = config->huge_pages == WEIR_HUGE_PAGES_ADVISE,
        .prefault = config->prefault,
        .lock = config->lock_memory,
        .nodes = config->numa_nodes,
        .name = config->name,
    };
    return weir__frames_init(&pages->frames, &frames);
}

/* Not less than a cache's default, unless told so, since small ranges have nothing to lose by it. */
static size_t high_of(const struct weir__frames *frames, const struct weir_page_cache_config *config)
{
    size_t batch = config->batch != 0 ? config->batch : weir_cache_capacity_for(config->page_size);
    size_t least = WEIR_CACHE_MAGAZINES_DEFAULT * batch * weir_percpu_nr_cpus();
    size_t part = frames->frames / (config->high_fraction != 0 ? config->high_fraction : 8);
    if (config->high != 0)
        return config->high;
    return config->high_fraction != 0 || part > least ? part + (part == 0)
                                                      : least; /* 0: the cache's default */
}

static int make_engine(struct weir_page_cache *pages, const struct weir_page_cache_config *config)
{
    struct weir_cache_config engine = WEIR_CACHE_CONFIG_INIT;
    engine.ops = &frames_ops;
    engine.backend = pages;
    engine.capacity = config->batch;
    engine.high = high_of(&pages->frames, config);
    engine.grace = config->grace;
    engine.registered_users = config->registered_users;
    engine.object_size = config->page_size;
    engine.decay_milliseconds = WEIR_CACHE_DECAY_NEVER; /* the page cache has it decay */
    engine.name = pages->name;
    engine.no_shrinker = true; /* the page cache is one, with the frames in mind */
    /* Without a unit: the engine's magazines, which are in its depots, stay. */
    const struct weir_block_source chunks = {chunk_get, chunk_put, pages, 0};
    const struct weir__cache_surroundings around = {.chunks = &chunks};
    return weir__cache_create(&pages->paths.cache, &engine, &around);
}

/* What the inline functions see. */
static int make_paths(struct weir_page_cache *pages)
{
    pages->paths.engine = pages->paths.cache->paths;
    if (pages->prepare == NULL)
        return 0;
    pages->none = weir_percpu_alloc();
    if (pages->none == NULL)
        return -ENOMEM;
    weir_percpu_slots_init(pages->none);
    pages->paths.engine.loaded = pages->none;
    pages->paths.engine.rcu = pages->none;
    return 0;
}

/* From here on others make it give back: the helper thread, and who calls weir_shrink(). */
static int start_giving(struct weir_page_cache *pages)
{
    int error = pages->shrinks ? weir_shrinker_register(&pages->shrinker) : 0;
    if (error == 0 && pages->decays != 0) {
        pages->client = (struct weir__grace_client){.wish = wish, .sweep = sweep};
        weir__grace_register(pages->grace, &pages->client);
    }
    return error;
}

static void stop_giving(struct weir_page_cache *pages)
{
    if (pages->decays != 0)
        weir__grace_unregister(pages->grace, &pages->client);
    if (pages->shrinks)
        weir_shrinker_unregister(&pages->shrinker);
}

/* The parts that can fail, in order; what was made before a failure is unmade by destroy_parts(). */
static int create_parts(struct weir_page_cache *pages, const struct weir_page_cache_config *config)
{
    int error = make_frames(pages, config);
    if (error != 0)
        return error;
    error = weir__extents_create(&pages->extents, &pages->frames, pages->name);
    if (error != 0)
        return error;
    error = weir__prepare_create(&pages->prepare, &pages->frames, config);
    if (error != 0)
        return error;
    error = make_engine(pages, config);
    if (error != 0)
        return error;
    error = make_paths(pages);
    if (error != 0)
        return error;
    pages->grace = pages->paths.cache->grace;
    if (config->decay_milliseconds != WEIR_CACHE_DECAY_NEVER)
        pages->decays =
            config->decay_milliseconds != 0 ? config->decay_milliseconds : WEIR_CACHE_DECAY_DEFAULT;
    pages->shrinks = !config->no_shrinker;
    pages->checks = config->check;
    return start_giving(pages);
}

/* When nobody else makes it give back. */
static void destroy_parts(struct weir_page_cache *pages)
{
    weir_cache_destroy(pages->paths.cache);
    weir_percpu_free(pages->none);
    weir__prepare_destroy(pages->prepare);
    weir__extents_destroy(pages->extents);
    if (pages->frames.frames != 0)
        weir__frames_destroy(&pages->frames);
    free(pages);
}

int weir_page_cache_create(struct weir_page_cache **result, const struct weir_page_cache_config *given)
{
    *result = NULL;
    if (weir_page_cache_config_error(given) != NULL)
        return -EINVAL;
    int error = weir_percpu_init();
    if (error != 0)
        return error;
    struct weir_page_cache_config config = complete(given);
    struct weir_page_cache *pages = aligned_alloc(WEIR_LINE_PAIR, sizeof *pages);
    if (pages == NULL)
        return -ENOMEM;
    *pages = (struct weir_page_cache){0};
    memcpy(pages->name, config.name, strlen(config.name) + 1); /* it fits: see is_name() */
    config.name = pages->name;
    pages->shrinker = (struct weir_shrinker){idle_bytes, give_back, pages, pages->name, {0}};
    error = create_parts(pages, &config);
    if (error != 0) {
        destroy_parts(pages);
        return error;
    }
    *result = pages;
    return 0;
}

/* Is anything still out, after everything idle went to the frames? */
static bool is_busy(struct weir_page_cache *pages)
{
    /* Relaxed: all is still. */
    size_t own = weir_load_relaxed(&pages->block_pages) + weir__extents_frames(pages->extents);
    return weir__frames_out(&pages->frames) != own;
}

static void report(struct weir_page_cache *pages)
{
    size_t lent = weir_load_relaxed(&pages->lent_pages);
    if (!pages->checks)
        return;
    weir__prepare_report(pages->prepare, pages->extents);
    if (lent != 0)
        fprintf(stderr, "weir: page cache \"%s\": %zu pages hold the magazines of others\n", pages->name,
                lent);
}

int weir_page_cache_destroy(struct weir_page_cache *pages)
{
    if (pages == NULL)
        return 0;
    int error = weir_page_cache_rcu_barrier(pages);
    if (error != 0)
        return error;
    stop_giving(pages); /* what they have in their hands would look as if it were out */
    give_up_idle(pages);
    weir_cache_shrink(pages->paths.cache);
    if (is_busy(pages)) {
        report(pages);
        start_giving(pages);
        return -EBUSY;
    }
    destroy_parts(pages);
    return 0;
}
