/* SPDX-License-Identifier: MIT */
/* field_players.c - the contenders and the allocators of bench/field: their names, and their processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "field.h"

#define ONE "weir-bench-field-one"
#define PATIENCE_SECONDS 60

static const struct {
    const char *id, *name, *program;
    bool peer; /* on request */
} rows[FIELD_ROWS] = {
    [ROW_WEIR] = {"weir", "weir, both forms by turns", ONE, false},
    [ROW_TWO_ARGUMENT] = {"weir-two-argument", "weir_free_rcu", ONE, false},
    [ROW_MIGHTSLEEP] = {"weir-mightsleep", "weir_free_rcu_mightsleep", ONE, false},
    [ROW_CK] = {"ck-epoch", "ck_epoch_call, poll every 64", ONE, false},
    [ROW_DEFER] = {"defer-rcu", "liburcu defer_rcu", ONE, false},
    [ROW_CALL_RCU] = {"call-rcu", "liburcu call_rcu", ONE, false},
    [ROW_CALL_RCU_PER_CPU] = {"call-rcu-per-cpu", "liburcu call_rcu, helper per CPU", ONE, false},
    [ROW_DPDK] = {"dpdk", "DPDK rte_rcu_qsbr_dq", "weir-bench-field-dpdk", true},
    [ROW_FREE] = {"free", "free at once, no readers waited for", ONE, false},
    [ROW_FLOOR_BLOCKS] = {"floor-blocks", "floor: free later, by the block", ONE, false},
    [ROW_FLOOR_ONES] = {"floor-ones", "floor: free later, one by one", ONE, false},
    [ROW_PAGES] = {"weir-pages", "weir_page_alloc, _free_rcu", ONE, false},
    [ROW_PAGES_ALONE] = {"weir-pages-alone", "likewise, nothing written to them", ONE, false},
    [ROW_PAGE_BLOCKS] = {"floor-page-blocks", "floor: page free later, by the block", ONE, false},
    [ROW_PAGE_ONES] = {"floor-page-ones", "floor: page free later, one by one", ONE, false},
};
_Static_assert(QUIESCENT_EVERY == 64, "the name of ck_epoch's row");

const char *field_row_id(enum field_row row)
{
    return rows[row].id;
}

const char *field_row_name(enum field_row row)
{
    return rows[row].name;
}

bool field_row_is_peer(enum field_row row)
{
    return rows[row].peer;
}

/* In the child: becomes the program, with the allocator. */
static void become(const char *program, const char *id, const char *library,
                   const struct field_setting *setting)
{
    char text[7][24];
    snprintf(text[0], sizeof text[0], "%u", setting->threads);
    snprintf(text[1], sizeof text[1], "%u", setting->readers);
    snprintf(text[2], sizeof text[2], "%llu", (unsigned long long)setting->loops);
    snprintf(text[3], sizeof text[3], "%llu", (unsigned long long)setting->objects);
    snprintf(text[4], sizeof text[4], "%zu", setting->object_bytes);
    snprintf(text[5], sizeof text[5], "%zu", setting->depth);
    snprintf(text[6], sizeof text[6], "%zu", setting->free_step);
    char *argv[] = {(char *)program, (char *)id, (char *)allocator_preload(library),
                    text[0],         text[1],    text[2],
                    text[3],         text[4],    text[5],
                    text[6],         NULL};
    child_become(program, argv);
}

static void play(void *arg)
{
    const struct field_player *player = arg;
    become(rows[player->row].program, rows[player->row].id, player->library, &player->setting);
}

/* --- allocators --- */

static void try_library(void *arg)
{
    const struct field_setting nothing = {0};
    become(ONE, "malloc", arg, &nothing);
}

/* Whether a process has its malloc from there. */
static bool is_installed(const char *library)
{
    const struct patience patience = {PATIENCE_SECONDS, NULL, NULL};
    FILE *errors = tmpfile();
    struct child child;
    char answer, why[160];
    bool found = errors != NULL && child_start(&child, try_library, (void *)library, errors) &&
                 child_turn(&child, FIELD_WARM_UP, &answer, 1, &patience, why);
    if (errors != NULL) {
        child_stop(&child);
        fclose(errors);
    }
    return found;
}

const char *field_allocator_library(enum allocator allocator, char tried[200])
{
    tried[0] = '\0';
    for (const char *const *library = allocator_libraries(allocator); *library != NULL; library++) {
        if (is_installed(*library))
            return *library;
        size_t length = strlen(tried);
        snprintf(tried + length, 200 - length, "%s%s", length != 0 ? ", " : "", *library);
    }
    return NULL;
}

/* --- contenders --- */

void field_player_start(struct field_player *player, enum field_row row, enum allocator allocator,
                        const char *library, const struct field_setting *setting)
{
    *player = (struct field_player){.child = {-1, -1, -1},
                                    .row = row,
                                    .allocator = allocator,
                                    .library = library,
                                    .setting = *setting,
                                    .errors = tmpfile()};
    if (player->errors == NULL || !child_start(&player->child, play, player, player->errors))
        snprintf(player->failure, sizeof player->failure, "could not be started: %s", strerror(errno));
}

bool field_player_turn(struct field_player *player, enum field_request request, void *answer, size_t bytes,
                       void (*tick)(void *arg), void *arg)
{
    /* A hundred times what a round should take. */
    const struct field_setting *setting = &player->setting;
    const double objects = (double)setting->loops * (double)setting->objects * setting->threads;
    const struct patience patience = {PATIENCE_SECONDS + 10e-6 * objects, tick, arg};
    if (player->failure[0] != '\0')
        return false;
    if (child_turn(&player->child, (char)request, answer, bytes, &patience, player->failure))
        return true;
    child_words(player->errors, player->failure);
    return false;
}

void field_player_stop(struct field_player *player)
{
    if (player->errors == NULL)
        return;
    child_stop(&player->child);
    fclose(player->errors);
    player->errors = NULL;
}
