/* SPDX-License-Identifier: MIT */
/* cache_players.c - the contenders of bench/cache: their names, and their processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"

#define PATIENCE_SECONDS 30

static const struct {
    const char *id, *name, *inlined;
    const struct cache_contender *here; /* part of this program */
    const char *program;                /* or one that lies beside it */
    const char *preload[3];             /* the names of its library */
    bool peer;                          /* on request */
} rows[CACHE_ROWS] = {
    [ROW_LIFO] = {"lifo", "LIFO per thread", "LIFO per thread", .here = &cache_lifo},
    [ROW_WEIR] = {"weir", "weir_cache", "weir_cache", .here = &cache_weir},
    [ROW_GLIBC] = {"glibc", "glibc malloc", NULL, .program = "weir-bench-cache-malloc"},
    [ROW_TCMALLOC] = {"tcmalloc", "tcmalloc", NULL, .program = "weir-bench-cache-malloc",
                      .preload = {"libtcmalloc_minimal.so.4", "libtcmalloc.so.4"}, .peer = true},
    [ROW_JEMALLOC] = {"jemalloc", "jemalloc", NULL, .program = "weir-bench-cache-malloc",
                      .preload = {"libjemalloc.so.2"}, .peer = true},
    [ROW_MIMALLOC] = {"mimalloc", "mimalloc", NULL, .program = "weir-bench-cache-malloc",
                      .preload = {"libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so.2.0"},
                      .peer = true},
    [ROW_RTE] = {"rte_mempool", "DPDK rte_mempool", "DPDK rte_mempool", .program = "weir-bench-cache-dpdk",
                 .peer = true},
};

const char *cache_row_id(enum cache_row row)
{
    return rows[row].id;
}

const char *cache_row_name(enum cache_row row, bool inlined)
{
    return inlined ? rows[row].inlined : rows[row].name;
}

bool cache_row_is_peer(enum cache_row row)
{
    return rows[row].peer;
}

/* In the child. */
static void play(void *arg)
{
    const struct cache_player *player = arg;
    const char *program = rows[player->row].program;
    char bytes[16], milliseconds[16], threads[16];

    if (program == NULL) {
        if (!cache_serve(rows[player->row].here, &player->setting))
            fputs("could not be set up\n", stderr);
        return;
    }
    snprintf(bytes, sizeof bytes, "%zu", player->setting.object_bytes);
    snprintf(milliseconds, sizeof milliseconds, "%u", player->setting.milliseconds);
    snprintf(threads, sizeof threads, "%u", player->setting.threads);
    if (player->preload != NULL)
        setenv("LD_PRELOAD", player->preload, 1);
    char *argv[] = {(char *)program, bytes, milliseconds, threads, (char *)player->preload, NULL};
    child_become(program, argv);
}

void cache_player_turn(struct cache_player *player, struct cache_cell *cell, char job)
{
    const struct patience patience = {PATIENCE_SECONDS, NULL, NULL};
    *cell = (struct cache_cell){0};
    if (!child_turn(&player->child, job, cell, sizeof *cell, &patience, player->failure))
        child_words(player->errors, player->failure);
}

void cache_player_start(struct cache_player *player, enum cache_row row, const struct cache_setting *setting,
                        char warm_up)
{
    const char *const *preload = rows[row].preload;
    struct cache_cell ignored;
    unsigned tried = 0;

    do {
        *player = (struct cache_player){.child = {-1, -1, -1},
                                        .row = row,
                                        .preload = preload[tried],
                                        .setting = *setting,
                                        .errors = tmpfile()};
        if (player->errors == NULL || !child_start(&player->child, play, player, player->errors))
            snprintf(player->failure, sizeof player->failure, "could not be started: %s", strerror(errno));
        else
            cache_player_turn(player, &ignored, warm_up);
        if (player->failure[0] == '\0')
            return;
        cache_player_stop(player);
    } while (++tried < 3 && preload[tried] != NULL);
}

void cache_player_stop(struct cache_player *player)
{
    child_stop(&player->child);
    if (player->errors != NULL)
        fclose(player->errors);
    player->errors = NULL;
}
