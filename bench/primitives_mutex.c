/* SPDX-License-Identifier: MIT */
/* primitives_mutex.c - the baseline: a linked list behind a mutex. */
#include <pthread.h>

#include "primitives_loop.h"

struct mutex_list_head {
    pthread_mutex_t mutex;
    struct node *first;
};

static void *open_list(void *place)
{
    struct mutex_list_head *list = place;
    pthread_mutex_init(&list->mutex, NULL);
    return list;
}

ALWAYS_INLINE void push_batch(void *structure, struct node *first, struct node *last)
{
    struct mutex_list_head *list = structure;
    pthread_mutex_lock(&list->mutex);
    last->next = list->first;
    list->first = first;
    pthread_mutex_unlock(&list->mutex);
}

ALWAYS_INLINE void push(void *structure, struct node *node)
{
    push_batch(structure, node, node);
}

ALWAYS_INLINE struct node *pop(void *structure)
{
    struct mutex_list_head *list = structure;
    pthread_mutex_lock(&list->mutex);
    struct node *node = list->first;
    if (node != NULL)
        list->first = node->next;
    pthread_mutex_unlock(&list->mutex);
    return node;
}

ALWAYS_INLINE void *take(void *structure)
{
    struct mutex_list_head *list = structure;
    pthread_mutex_lock(&list->mutex);
    struct node *first = list->first;
    list->first = NULL;
    pthread_mutex_unlock(&list->mutex);
    return first;
}

/* Who pops knows the last node already, and pushes without looking for it. */
ALWAYS_INLINE size_t move(void *structure, unsigned max)
{
    struct mutex_list_head *list = structure;
    size_t n = 0;
    pthread_mutex_lock(&list->mutex);
    struct node *first = list->first, *last = first;
    if (first != NULL) {
        for (n = 1; n < max && last->next != NULL; n++)
            last = last->next;
        list->first = last->next;
        last->next = NULL;
    }
    pthread_mutex_unlock(&list->mutex);
    if (first != NULL)
        push_batch(list, first, last);
    return n;
}

static void put(void *structure, struct node *node)
{
    push(structure, node);
}

static void put_batch(void *structure, struct node *first, struct node *last)
{
    push_batch(structure, first, last);
}

static size_t drain(void *structure)
{
    return chain_length(take(structure));
}

static void run_add(struct worker *worker)
{
    loop_add_take(worker, push, take);
}

static void run_batch(struct worker *worker)
{
    loop_add_batch(worker, push_batch, take, false);
}

static void run_pair(struct worker *worker)
{
    loop_pair(worker, push, pop);
}

static void run_bulk(struct worker *worker)
{
    loop_bulk(worker, move);
}

const struct contender_type mutex_list = {
    .id = "mutex",
    .name = "list behind a mutex",
    .kind = PEER,
    .open = open_list,
    .put = put,
    .put_batch = put_batch,
    .drain = drain,
    .run = {[ADD_TAKE] = run_add, [ADD_BATCH] = run_batch, [PAIR] = run_pair, [BULK] = run_bulk},
};
