/* SPDX-License-Identifier: MIT */
/*
 * mempool.c - a guaranteed reserve over any allocator: see weir/mempool.h, and reserve.h for the reserve.
 *
 * Who waits stands in line, first come first served. Only the first one looks at the reserve, sleeps on
 * reserve.returns, and is woken by who puts something there: one sleeper, one wakeup. The others sleep each
 * on a word of his own, until the one in front leaves and says that it is their turn. So elements that come
 * back add up until the first one has all he wants, be it one or a bulk; nobody passes him, since who is not
 * in line takes nothing while there is one; and nobody holds a part.
 *
 * Who wants more than the reserve holds when it is full would stand in the others' way for ever. He is not in
 * line: he hopes, by the clock.
 *
 * fork(): cells are only in somebody's hands inside the gate (fork.h), and so is the mutex of the line. The
 * allocator is called outside, and resize's mutex is held meanwhile. In the child there is no line, and
 * nobody resizes.
 */
#define _GNU_SOURCE
#include "weir/mempool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "fork.h"
#include "futex.h"
#include "heirs.h"
#include "mempool.h"
#include "reserve.h"
#include "weir/llist.h"

#define LONGEST_SLEEP 100

unsigned weir__mempool_clock = LONGEST_SLEEP;

struct chunk {
    struct weir_llist_node link;
    size_t nr;
    struct weir__cell cell[];
};

struct waiter {
    struct waiter *next;
    uint32_t turn; /* a futex; 1: is the first in line */
};

struct weir_mempool {
    struct weir__heir heir;

    /* Is only read; not in the first line: see WEIR__PATHS_OFFSET. */
    void *arg WEIR_ALIGNED(WEIR__PATHS_OFFSET);
    void *(*alloc_one)(void *arg);
    void (*free_one)(void *arg, void *element);

    struct weir__reserve reserve;
    size_t nr WEIR_ALIGNED(WEIR_LINE_PAIR); /* cells, filled, vacant or in somebody's hands: min_nr */
    uint64_t from_reserve, waits;           /* statistics */

    pthread_mutex_t line_mutex; /* protects the line; is only held inside the gate */
    struct waiter *first, *last;
    size_t in_line;

    pthread_mutex_t resize_mutex;  /* protects what follows */
    struct weir_stack spare;       /* cells that are not needed: the reserve was larger once */
    struct weir_llist_head chunks; /* all cells; checked builds look at it without the mutex */
};

/* Checked builds: what is freed is not in the reserve. */
static void check_free(struct weir_mempool *pool, size_t n, void *const elements[])
{
#ifdef WEIR_CHECKED
    for (size_t i = 0; i < n; i++) {
        weir__check(elements[i] != NULL, "weir_mempool_free", elements[i], "is no element");
        /* Acquire: pairs with the release in weir_llist_add(): the chunk is whole. */
        struct weir_llist_node *chunks = weir_load_acquire(&pool->chunks.first);
        weir_llist_for_each_entry(chunk, chunks, struct chunk, link)
            for (size_t k = 0; k < chunk->nr; k++)
                /* Relaxed: its owner has got it from a cell that was emptied before. */
                weir__check(weir_load_relaxed(&chunk->cell[k].element) != elements[i], "weir_mempool_free",
                            elements[i], "is free already");
    }
#else
    (void)pool, (void)n, (void)elements;
#endif
}

/* --- free --- */

/* Something came back, to the reserve or not. */
static void wake_one(struct weir_mempool *pool, bool kept)
{
    struct weir__reserve *reserve = &pool->reserve;
    /* What went to the allocator is no business of the first in line's: the reserve was full, or will be. But
     * he may be served at once. */
    if ((kept || weir__reserve_line(reserve)) && weir__reserve_tell(reserve))
        weir__futex_wake_all(&reserve->returns); /* it is one: the first in line */
    /* Relaxed, both: who hopes and is missed looks again by the clock. */
    if (weir_unlikely(weir_load_relaxed(&reserve->hoping) != 0)) {
        weir_fetch_add_relaxed(&reserve->hope, 1u);
        weir__futex_wake_one(&reserve->hope);
    }
}

/* How many of the n the reserve takes. */
static size_t keep(struct weir_mempool *pool, size_t n, void *const elements[])
{
    if (weir_likely(weir_stack_empty(&pool->reserve.vacant)) || !weir__enter())
        return 0;
    size_t kept = weir__reserve_put(&pool->reserve, n, elements);
    weir__leave();
    return kept;
}

void weir_mempool_free_bulk(struct weir_mempool *pool, size_t n, void *const elements[])
{
    if (n == 0)
        return;
    check_free(pool, n, elements);
    size_t kept = keep(pool, n, elements);
    for (size_t i = kept; i < n; i++)
        pool->free_one(pool->arg, elements[i]);
    wake_one(pool, kept != 0);
}

void weir_mempool_free(struct weir_mempool *pool, void *element)
{
    weir_mempool_free_bulk(pool, 1, &element);
}

/* --- alloc --- */

static bool take(struct weir_mempool *pool, size_t n, void *elements[], bool first_in_line)
{
    if ((!first_in_line && weir__reserve_line(&pool->reserve)) || !weir__enter())
        return false;
    bool taken = weir__reserve_take(&pool->reserve, n, elements);
    weir__leave();
    if (taken)
        weir_fetch_add_relaxed(&pool->from_reserve, (uint64_t)n); /* relaxed: a statistic */
    return taken;
}

/* Without waiting: all of them or none. */
static bool attempt(struct weir_mempool *pool, size_t n, void *elements[], bool first_in_line)
{
    size_t got = 0;
    while (got < n && (elements[got] = pool->alloc_one(pool->arg)) != NULL)
        got++;
    if (weir_likely(got == n) || take(pool, n - got, elements + got, first_in_line))
        return true;
    weir_mempool_free_bulk(pool, got, elements);
    return false;
}

/* --- waiting --- */

/* The last in line from now on, and returns when it is the first. False in a child that cannot use it. */
static bool line_up(struct weir_mempool *pool, struct waiter *self)
{
    if (!weir__enter())
        return false;
    pthread_mutex_lock(&pool->line_mutex);
    *self = (struct waiter){NULL, pool->first == NULL};
    if (pool->first == NULL) {
        pool->first = self;
        weir__reserve_line_up(&pool->reserve);
    } else {
        pool->last->next = self;
    }
    pool->last = self;
    weir_store_relaxed(&pool->in_line, pool->in_line + 1); /* relaxed: a statistic */
    pthread_mutex_unlock(&pool->line_mutex);
    weir__leave();
    /* Acquire: pairs with the release in leave_line(): what the one in front has left is visible. */
    while (weir_load_acquire(&self->turn) == 0)
        weir__futex_wait(&self->turn, 0, NULL);
    return true;
}

/* The next one's turn. In the child of a fork() in the allocator there is no line any more. */
static void leave_line(struct weir_mempool *pool, const struct waiter *self)
{
    if (!weir__enter())
        return;
    pthread_mutex_lock(&pool->line_mutex);
    if (pool->first == self) {
        weir_store_relaxed(&pool->in_line, pool->in_line - 1); /* relaxed: a statistic */
        struct waiter *next = pool->first = self->next;
        if (next == NULL) {
            weir__reserve_line_ends(&pool->reserve);
        } else {
            weir_store_release(&next->turn, 1u); /* pairs with the acquire in line_up() */
            weir__futex_wake_all(&next->turn);   /* it is there until it has had the mutex */
        }
    }
    pthread_mutex_unlock(&pool->line_mutex);
    weir__leave();
}

/* The clock of one who waits: sleeps twice as long each time. */
static void sleep_while(uint32_t *word, uint32_t value, unsigned *milliseconds, unsigned most)
{
    *milliseconds = *milliseconds * 2 < most ? *milliseconds * 2 : most;
    struct timespec timeout = weir__timespec(*milliseconds);
    weir__futex_wait(word, value, most != 0 ? &timeout : NULL);
}

static size_t most_at_once(const struct weir_mempool *pool)
{
    /* Relaxed: after a change somebody tells, and who hears it looks again. */
    return weir_load_relaxed(&pool->nr);
}

/* By the first in line. False: the reserve holds less now than it wants. */
static bool wait_in_front(struct weir_mempool *pool, size_t n, void *elements[])
{
    for (unsigned milliseconds = 1;;) {
        uint32_t seen = weir__reserve_seen(&pool->reserve);
        if (attempt(pool, n, elements, true))
            return true;
        if (n > most_at_once(pool))
            return false;
        sleep_while(&pool->reserve.returns, seen, &milliseconds, weir__mempool_clock);
    }
}

static void hope(struct weir__reserve *reserve, unsigned *milliseconds)
{
    /* Relaxed: see wake_one(). */
    weir_fetch_add_relaxed(&reserve->hoping, 1u);
    sleep_while(&reserve->hope, weir_load_relaxed(&reserve->hope), milliseconds, LONGEST_SLEEP);
    weir_fetch_sub_relaxed(&reserve->hoping, 1u);
}

/* False in a child that cannot use it. */
static bool wait_for(struct weir_mempool *pool, size_t n, void *elements[])
{
    bool got = false;
    weir_fetch_add_relaxed(&pool->waits, UINT64_C(1)); /* relaxed: a statistic */
    for (unsigned milliseconds = 1; !got;) {
        if (n <= most_at_once(pool)) {
            struct waiter self;
            if (!line_up(pool, &self))
                return false;
            got = wait_in_front(pool, n, elements);
            leave_line(pool, &self);
        } else {
            hope(&pool->reserve, &milliseconds);
            got = attempt(pool, n, elements, false);
        }
        if (!got && !weir__usable())
            return false;
    }
    return true;
}

size_t weir_mempool_alloc_bulk(struct weir_mempool *pool, size_t n, void *elements[], unsigned flags)
{
    weir__check((flags & ~WEIR_MEMPOOL_WAIT) == 0, "weir_mempool_alloc", pool,
                "flags: only WEIR_MEMPOOL_WAIT");
    if (n == 0)
        return 0;
    if (weir_likely(attempt(pool, n, elements, false)))
        return n;
    return flags & WEIR_MEMPOOL_WAIT && wait_for(pool, n, elements) ? n : 0;
}

void *weir_mempool_alloc(struct weir_mempool *pool, unsigned flags)
{
    void *element;
    return weir_mempool_alloc_bulk(pool, 1, &element, flags) != 0 ? element : NULL;
}

/* --- resize --- */

/* More cells among the spare ones; false if there is no memory. */
static bool make_cells(struct weir_mempool *pool, size_t n)
{
    if (n > (SIZE_MAX / 2 - sizeof(struct chunk)) / sizeof(struct weir__cell))
        return false;
    size_t bytes = sizeof(struct chunk) + n * sizeof(struct weir__cell);
    struct chunk *chunk = aligned_alloc(16, (bytes + 15) / 16 * 16);
    if (chunk == NULL)
        return false;
    chunk->nr = n;
    for (size_t i = 0; i < n; i++) {
        chunk->cell[i].element = NULL;
        weir_stack_link(&chunk->cell[i].node, i + 1 < n ? &chunk->cell[i + 1].node : NULL);
    }
    weir_llist_add(&chunk->link, &pool->chunks);
    weir_stack_push_batch(&pool->spare, &chunk->cell[0].node, &chunk->cell[n - 1].node);
    return true;
}

/* Gives the elements of a chain of cells to the allocator, and the cells to the spare ones. */
static void empty_cells(struct weir_mempool *pool, struct weir_stack_node *chain)
{
    while (chain != NULL) {
        struct weir_stack_node *next = weir_stack_next(chain);
        void *element = weir__cell_empty(weir__cell_of(chain));
        weir_stack_push(&pool->spare, chain);
        pool->free_one(pool->arg, element);
        chain = next;
    }
}

/* A chain of n spare cells, filled by the allocator; its last one. NULL if it has not so many. */
static struct weir_stack_node *fill_cells(struct weir_mempool *pool, size_t n, struct weir_stack_node **last)
{
    struct weir_stack_node *chain = NULL;
    for (size_t i = 0; i < n; i++) {
        struct weir_stack_node *node = weir_stack_pop(&pool->spare);
        void *element = NULL;
        if (node == NULL && make_cells(pool, n - i))
            node = weir_stack_pop(&pool->spare);
        if (node != NULL)
            element = pool->alloc_one(pool->arg);
        if (element == NULL) {
            if (node != NULL)
                weir_stack_push(&pool->spare, node);
            empty_cells(pool, chain);
            return NULL;
        }
        weir_store_relaxed(&weir__cell_of(node)->element, element); /* relaxed: see weir__cell_empty() */
        weir_stack_link(node, chain);
        if (chain == NULL)
            *last = node;
        chain = node;
    }
    return chain;
}

static int grow(struct weir_mempool *pool, size_t n)
{
    struct weir_stack_node *last, *chain = fill_cells(pool, n, &last);
    if (chain == NULL)
        return -ENOMEM;
    if (!weir__enter()) {
        empty_cells(pool, chain);
        return -EOWNERDEAD;
    }
    weir_pool_put_batch(&pool->reserve.filled, chain, last, n);
    weir_store_relaxed(&pool->nr, pool->nr + n); /* relaxed: what follows tells */
    weir__leave();
    wake_one(pool, true);
    return 0;
}

/* One cell less: a vacant one if there is one, so that what lies ready stays as much as it can. */
static int drop_cell(struct weir_mempool *pool)
{
    if (!weir__enter())
        return -EOWNERDEAD;
    struct weir_stack_node *node = weir_stack_pop(&pool->reserve.vacant);
    void *element = NULL;
    if (node == NULL && (node = weir_pool_get(&pool->reserve.filled)) != NULL)
        element = weir__cell_empty(weir__cell_of(node));
    if (node != NULL) {
        weir_stack_push(&pool->spare, node);
        weir_store_relaxed(&pool->nr, pool->nr - 1); /* relaxed: what follows the last one tells */
    }
    weir__leave();
    if (element != NULL)
        pool->free_one(pool->arg, element);
    return node != NULL ? 0 : -EAGAIN; /* all of them are in the hands of others for a moment */
}

static int shrink(struct weir_mempool *pool, size_t min_nr)
{
    int error = 0;
    while (pool->nr > min_nr && error == 0) {
        error = drop_cell(pool);
        if (error == -EAGAIN) {
            struct timespec moment = weir__timespec(1);
            nanosleep(&moment, NULL);
            error = 0;
        }
    }
    wake_one(pool, true); /* the first in line may want too much now */
    return error;
}

int weir_mempool_resize(struct weir_mempool *pool, size_t min_nr)
{
    int error = 0;
    if (min_nr > WEIR_MEMPOOL_NR_MAX)
        return -EINVAL;
    if (!weir__usable())
        return -EOWNERDEAD;
    pthread_mutex_lock(&pool->resize_mutex);
    if (min_nr > pool->nr)
        error = grow(pool, min_nr - pool->nr);
    else if (min_nr < pool->nr)
        error = shrink(pool, min_nr);
    pthread_mutex_unlock(&pool->resize_mutex);
    return error;
}

/* --- making and unmaking --- */

/* In a child of fork(): who waited, and who resized, was another thread. */
static void inherit(struct weir__heir *heir)
{
    struct weir_mempool *pool =
        (struct weir_mempool *)(void *)((char *)heir - offsetof(struct weir_mempool, heir));
    pool->first = pool->last = NULL;
    pool->in_line = 0;
    pool->reserve.hoping = 0;
    weir_fetch_and_release(&pool->reserve.returns, ~WEIR__IN_LINE);
    pthread_mutex_init(&pool->resize_mutex, NULL);
}

static void free_all(struct weir_mempool *pool)
{
    size_t n;
    empty_cells(pool, weir_pool_drain(&pool->reserve.filled, &n));
    struct weir_llist_node *chunks = weir_llist_del_all(&pool->chunks);
    weir_llist_for_each_entry_safe(chunk, next, chunks, struct chunk, link)
        free(chunk);
    pthread_mutex_destroy(&pool->line_mutex);
    pthread_mutex_destroy(&pool->resize_mutex);
    free(pool);
}

int weir_mempool_create(struct weir_mempool **result, size_t min_nr, void *(*alloc_one)(void *arg),
                        void (*free_one)(void *arg, void *element), void *arg)
{
    *result = NULL;
    if (alloc_one == NULL || free_one == NULL || min_nr > WEIR_MEMPOOL_NR_MAX)
        return -EINVAL;
    int error = weir_percpu_init(); /* the gate counts by CPU */
    if (error != 0)
        return error;
    struct weir_mempool *pool = aligned_alloc(WEIR_LINE_PAIR, sizeof *pool);
    if (pool == NULL)
        return -ENOMEM;
    *pool = (struct weir_mempool){.alloc_one = alloc_one, .free_one = free_one, .arg = arg};
    weir__reserve_init(&pool->reserve);
    weir_stack_init(&pool->spare);
    pthread_mutex_init(&pool->line_mutex, NULL);
    pthread_mutex_init(&pool->resize_mutex, NULL);
    pool->heir.inherit = inherit;
    error = weir_mempool_resize(pool, min_nr);
    if (error == 0 && !weir__heirs_add(&pool->heir))
        error = -EOWNERDEAD;
    if (error != 0) {
        free_all(pool);
        return error;
    }
    *result = pool;
    return 0;
}

int weir_mempool_destroy(struct weir_mempool *pool)
{
    if (pool == NULL)
        return 0;
    if (weir_pool_count(&pool->reserve.filled) < pool->nr)
        return -EBUSY;
    if (!weir__heirs_remove(&pool->heir))
        return -EOWNERDEAD;
    free_all(pool);
    return 0;
}

void weir_mempool_stats(const struct weir_mempool *pool, struct weir_mempool_stats *stats)
{
    /* Relaxed: statistics. */
    *stats = (struct weir_mempool_stats){.min_nr = weir_load_relaxed(&pool->nr),
                                         .reserved = weir_pool_count(&pool->reserve.filled),
                                         .from_reserve = weir_load_relaxed(&pool->from_reserve),
                                         .waiting = weir_load_relaxed(&pool->in_line) +
                                                    weir_load_relaxed(&pool->reserve.hoping),
                                         .waits = weir_load_relaxed(&pool->waits)};
}
