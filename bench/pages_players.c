/* SPDX-License-Identifier: MIT */
/* pages_players.c - the contenders of bench/pages: their names, and their processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "allocators.h"
#include "pages.h"

#define PROGRAM "weir-bench-pages-one"
#define PATIENCE_SECONDS 120

static const struct {
    const char *id, *name, *contender; /* as pages_one.c knows it */
    enum allocator allocator;
    bool peer; /* on request */
} rows[PAGES_ROWS] = {
    [PAGES_INLINED] = {"weir", "page cache", "inlined", ALLOCATOR_GLIBC, false},
    [PAGES_CALLED] = {"weir-called", "page cache, called", "called", ALLOCATOR_GLIBC, false},
    [PAGES_ENGINE_INLINED] = {"engine", "engine", "engine-inlined", ALLOCATOR_GLIBC, false},
    [PAGES_ENGINE_CALLED] = {"engine-called", "engine, called", "engine-called", ALLOCATOR_GLIBC, false},
    [PAGES_FRAMES] = {"frames", "frames", "frames", ALLOCATOR_GLIBC, false},
    [PAGES_GLIBC] = {"glibc", "glibc malloc", "malloc", ALLOCATOR_GLIBC, false},
    [PAGES_TCMALLOC] = {"tcmalloc", "tcmalloc", "malloc", ALLOCATOR_TCMALLOC, true},
    [PAGES_JEMALLOC] = {"jemalloc", "jemalloc", "malloc", ALLOCATOR_JEMALLOC, true},
    [PAGES_MIMALLOC] = {"mimalloc", "mimalloc", "malloc", ALLOCATOR_MIMALLOC, true},
};

const char *pages_row_id(enum pages_row row)
{
    return rows[row].id;
}

const char *pages_row_name(enum pages_row row)
{
    return rows[row].name;
}

bool pages_row_is_peer(enum pages_row row)
{
    return rows[row].peer;
}

/* In the child. */
static void play(void *arg)
{
    const struct pages_player *player = arg;
    char pages[24], steps[16];
    snprintf(pages, sizeof pages, "%zu", player->setting.working_set);
    snprintf(steps, sizeof steps, "%u", player->setting.steps);
    char *argv[] = {(char *)PROGRAM,
                    (char *)rows[player->row].contender,
                    (char *)allocator_preload(player->library),
                    pages,
                    steps,
                    NULL};
    child_become(PROGRAM, argv);
}

void pages_player_turn(struct pages_player *player, struct pages_cell *cell, char job)
{
    const struct patience patience = {PATIENCE_SECONDS, NULL, NULL};
    *cell = (struct pages_cell){0};
    if (!child_turn(&player->child, job, cell, sizeof *cell, &patience, player->failure))
        child_words(player->errors, player->failure);
}

void pages_player_start(struct pages_player *player, enum pages_row row, const struct pages_setting *setting,
                        char warm_up)
{
    for (const char *const *library = allocator_libraries(rows[row].allocator); *library != NULL; library++) {
        struct pages_cell ignored;
        *player = (struct pages_player){
            .child = {-1, -1, -1}, .row = row, .library = *library, .setting = *setting, .errors = tmpfile()};
        if (player->errors == NULL || !child_start(&player->child, play, player, player->errors))
            snprintf(player->failure, sizeof player->failure, "could not be started: %s", strerror(errno));
        else
            pages_player_turn(player, &ignored, warm_up);
        if (player->failure[0] == '\0')
            return;
        pages_player_stop(player);
    }
}

void pages_player_stop(struct pages_player *player)
{
    child_stop(&player->child);
    if (player->errors != NULL)
        fclose(player->errors);
    player->errors = NULL;
}

void pages_in_child(void (*body)(void *run), void *run, size_t bytes, double seconds, char failure[160])
{
    const struct patience patience = {seconds, NULL, NULL};
    FILE *errors = tmpfile();
    struct child child;
    char answer, why[160] = "could not be started";
    void *shared = shared_memory(bytes);

    memcpy(shared, run, bytes);
    bool done =
        child_start(&child, body, shared, errors) && child_turn(&child, 'r', &answer, 1, &patience, why);
    child_stop(&child);
    memcpy(run, shared, bytes);
    munmap(shared, bytes);
    if (!done && failure[0] == '\0') {
        if (errors != NULL)
            child_words(errors, why);
        memcpy(failure, why, sizeof why);
    }
    if (errors != NULL)
        fclose(errors);
}
