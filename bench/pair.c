/* SPDX-License-Identifier: MIT */
/* pair.c - the alloc + free pair: starts the contenders, lets them run in turn, collects the figures. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "pair_loop.h"

#define ROUNDS_PER_ROUND 3 /* they are short */
#define PATIENCE_SECONDS 30

/* --- the contenders that are part of this program --- */

/* Not the first word of a page, wherever the linker puts it: see struct run in deferred.c. */
static struct {
    void *unused;
    struct weir_page_cache *pages;
} the WEIR_ALIGNED(16);

static __attribute__((noinline)) void *weir_alloc_called(size_t bytes)
{
    (void)bytes;
    return weir_page_alloc(the.pages);
}

static __attribute__((noinline)) void weir_free_called(void *page)
{
    weir_page_free(the.pages, page);
}

PAIR_INLINE void *weir_alloc_inlined(size_t bytes)
{
    (void)bytes;
    return weir_page_alloc(the.pages);
}

PAIR_INLINE void weir_free_inlined(void *page)
{
    weir_page_free(the.pages, page);
}

/* The least one can do: a linked list per thread, last in, first out, no atomics; of 4096-byte pages, linked
 * by their first word. */
struct lifo_page {
    struct lifo_page *next;
};

static __thread struct lifo_page *lifo;

static __attribute__((noinline, cold)) void *lifo_grow(void)
{
    return aligned_alloc(PAIR_BYTES, PAIR_BYTES);
}

PAIR_INLINE void *lifo_alloc_inlined(size_t bytes)
{
    struct lifo_page *page = lifo;
    (void)bytes;
    if (weir_unlikely(page == NULL))
        return lifo_grow();
    lifo = page->next;
    return page;
}

PAIR_INLINE void lifo_free_inlined(void *object)
{
    struct lifo_page *page = object;
    page->next = lifo;
    lifo = page;
}

static __attribute__((noinline)) void *lifo_alloc_called(size_t bytes)
{
    return lifo_alloc_inlined(bytes);
}

static __attribute__((noinline)) void lifo_free_called(void *page)
{
    lifo_free_inlined(page);
}

static void round_weir_called(struct pair_times *times)
{
    pair_round_called(times, weir_alloc_called, weir_free_called);
}

static void round_weir_inlined(struct pair_times *times)
{
    pair_round(times, weir_alloc_inlined, weir_free_inlined);
}

static void round_lifo_called(struct pair_times *times)
{
    pair_round_called(times, lifo_alloc_called, lifo_free_called);
}

static void round_lifo_inlined(struct pair_times *times)
{
    pair_round(times, lifo_alloc_inlined, lifo_free_inlined);
}

/* --- all of them --- */

static const struct {
    const char *id, *name;
    void (*round)(struct pair_times *times); /* in this program, */
    const char *program;                     /* or a program beside it, */
    const char *preload[3];                  /* with the first of these that is installed */
} contenders[CONTENDERS] = {
    [LIFO_CALLED] = {"lifo", "linked LIFO per thread", .round = round_lifo_called},
    [WEIR_CALLED] = {"weir", "weir_page_alloc, weir_page_free", .round = round_weir_called},
    [GLIBC] = {"malloc", "malloc(4096), free", .program = "weir-bench-malloc"},
    [TCMALLOC] = {"tcmalloc", "tcmalloc: malloc(4096), free", .program = "weir-bench-malloc",
                  .preload = {"libtcmalloc_minimal.so.4", "libtcmalloc.so.4"}},
    [JEMALLOC] = {"jemalloc", "jemalloc: malloc(4096), free", .program = "weir-bench-malloc",
                  .preload = {"libjemalloc.so.2"}},
    [MIMALLOC] = {"mimalloc", "mimalloc: malloc(4096), free", .program = "weir-bench-malloc",
                  .preload = {"libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so.2.0"}},
    [RTE_MEMPOOL] = {"rte_mempool", "DPDK: rte_mempool_get, _put", .program = "weir-bench-dpdk"},
    [LIFO_INLINED] = {"lifo-inlined", "linked LIFO per thread", .round = round_lifo_inlined},
    [WEIR_INLINED] = {"weir-inlined", "weir_page_alloc, weir_page_free", .round = round_weir_inlined},
};

const char *contender_id(enum contender contender)
{
    return contenders[contender].id;
}

const char *contender_name(enum contender contender)
{
    return contenders[contender].name;
}

static unsigned pair_rounds(const struct options *options)
{
    unsigned rounds = (unsigned)options->rounds * ROUNDS_PER_ROUND;
    return rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
}

/* A contender's process. */
struct player {
    struct child child;
    enum contender contender;
    const char *preload;
    const struct machine *machine;
    FILE *errors; /* what it says when it cannot run */
};

static void play_here(enum contender contender)
{
    struct weir_page_cache_config config = WEIR_PAGE_CACHE_CONFIG_INIT;
    config.capacity = 64 << 20;
    if (weir_page_cache_create(&the.pages, &config) != 0) {
        fputs("no page cache to be had\n", stderr);
        return;
    }
    for (unsigned i = 0; i < 2 * PAIR_RUN_MAX; i++)
        lifo_free_inlined(lifo_grow());
    pair_serve(contenders[contender].round);
}

static void play_elsewhere(const struct player *player)
{
    const char *program = contenders[player->contender].program;
    char core[16];
    snprintf(core, sizeof core, "%u", player->machine->cpu[0]);
    if (player->preload != NULL)
        setenv("LD_PRELOAD", player->preload, 1);
    const char *argument = player->contender == RTE_MEMPOOL ? core : player->preload;
    char *argv[] = {(char *)program, (char *)argument, NULL};
    child_become(program, argv);
}

/* In the child. */
static void play(void *arg)
{
    const struct player *player = arg;
    machine_pin(player->machine, 0);
    if (contenders[player->contender].program == NULL)
        play_here(player->contender);
    else
        play_elsewhere(player);
}

static bool play_round(struct player *player, struct pair_times *times, char failure[160])
{
    const struct patience patience = {PATIENCE_SECONDS, NULL, NULL};

    if (child_turn(&player->child, 'r', times, sizeof *times, &patience, failure))
        return true;
    child_words(player->errors, failure);
    return false;
}

/* Starts a contender and lets it run a round to warm up. */
static void enter(struct player *player, struct contender_result *result, enum contender contender,
                  const struct machine *machine)
{
    const char *const *preload = contenders[contender].preload;
    struct pair_times ignored;
    unsigned tried = 0;

    do {
        result->failure[0] = '\0';
        *player = (struct player){
            .contender = contender, .preload = preload[tried], .machine = machine, .errors = tmpfile()};
        if (player->errors == NULL || !child_start(&player->child, play, player, player->errors))
            snprintf(result->failure, sizeof result->failure, "could not be started: %s", strerror(errno));
        else if (play_round(player, &ignored, result->failure))
            return;
    } while (++tried < 3 && preload[tried] != NULL);
}

/* One contender's time as a multiple of another's, round by round. */
static struct spread compare(const struct pair_times *times, unsigned rounds, unsigned pattern,
                             unsigned touch, enum contender above, enum contender below)
{
    double ratio[ROUNDS_MAX];
    for (unsigned i = 0; i < rounds; i++)
        ratio[i] = times[i * CONTENDERS + above].ns[pattern][touch] /
                   times[i * CONTENDERS + below].ns[pattern][touch];
    return spread_of(ratio, rounds);
}

static void collect(struct pair_result *result, const struct pair_times *times)
{
    double column[ROUNDS_MAX];
    for (unsigned cell = 0; cell < 2 * PATTERNS * CONTENDERS; cell++) {
        unsigned pattern = cell / 2 % PATTERNS, touch = cell % 2, rounds = result->rounds;
        enum contender c = cell / (2 * PATTERNS);
        struct contender_result *contender = &result->contender[c];
        if (!contender->asked_for || contender->failure[0] != '\0')
            continue;
        for (unsigned i = 0; i < rounds; i++)
            column[i] = times[i * CONTENDERS + c].ns[pattern][touch];
        contender->ns[pattern][touch] = spread_of(column, rounds);
        contender->to_lifo[pattern][touch] =
            compare(times, rounds, pattern, touch, c, c < LIFO_INLINED ? LIFO_CALLED : LIFO_INLINED);
        contender->to_weir[pattern][touch] = compare(times, rounds, pattern, touch, c, WEIR_CALLED);
    }
}

void pair_run(struct pair_result *result, const struct options *options, const struct machine *machine)
{
    struct player players[CONTENDERS];
    unsigned rounds = options->seconds > 0 ? ROUNDS_MAX : pair_rounds(options);
    struct pair_times *times = calloc((size_t)rounds * CONTENDERS, sizeof *times);
    double start = seconds_now();
    bool more = times != NULL;

    progress_show("pairs: starting the contenders", 0);
    for (enum contender c = 0; c < CONTENDERS; c++) {
        result->contender[c].asked_for = options->peers || c < TCMALLOC || c > RTE_MEMPOOL;
        if (result->contender[c].asked_for)
            enter(&players[c], &result->contender[c], c, machine);
    }
    while (more && result->rounds < rounds) {
        char name[64];
        snprintf(name, sizeof name, "pairs, all contenders in turn: round %u", result->rounds + 1);
        progress_show(name, (double)result->rounds / (double)rounds);
        for (enum contender c = 0; c < CONTENDERS; c++) {
            struct contender_result *contender = &result->contender[c];
            if (!contender->asked_for || contender->failure[0] != '\0')
                continue;
            play_round(&players[c], &times[result->rounds * CONTENDERS + c], contender->failure);
        }
        result->rounds++;
        if (options->seconds > 0)
            more = seconds_now() - start < options->seconds;
    }
    for (enum contender c = 0; c < CONTENDERS; c++)
        if (result->contender[c].asked_for)
            child_stop(&players[c].child);
    collect(result, times);
    free(times);
    progress_next_stage();
}
