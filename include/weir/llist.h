/* SPDX-License-Identifier: MIT */
/*
 * weir/llist.h - a lock-free, NULL-terminated, singly linked list: many add, someone takes all.
 *
 *     struct job { int id; struct weir_llist_node link; };
 *     static WEIR_LLIST_HEAD(inbox);
 *
 *     if (weir_llist_add(&job->link, &inbox))         // any thread, any signal handler
 *         wake_the_consumer();                        // only who found it empty wakes
 *
 *     weir_llist_for_each_entry_safe(pos, tmp, weir_llist_del_all_fifo(&inbox), struct job, link)
 *         run_and_free(pos);
 *
 * The list is a stack: del_all gives the newest first, del_all_fifo the oldest. The same contract as the
 * list of this name in the Linux kernel, under our names.
 *
 * Which operations may run at the same time, on one list, without a lock:
 *
 *                    add, add_batch   del_all   del_first*
 *   add, add_batch         yes          yes        yes
 *   del_all**              yes          yes        NO
 *   del_first*             yes          NO         NO
 *
 * *  del_first, del_first_init, del_first_this   ** del_all, del_all_fifo
 * empty and node_on_list: beside anything. init and *_unshared: beside nothing. next, reverse_order and the
 * for_each macros work on a chain that was taken, not on a shared list.
 *
 * del_first* reads `first->next` and then replaces `first`.
 * If another consumer takes `first` in between and it comes back, the head looks unchanged while the
 * `next` that was read is stale (the ABA problem), and nodes are lost. So: one consumer at a time. Where
 * several threads must remove, use weir/stack.h, whose head carries a generation.
 *
 * A node belongs to whoever took it off. Nothing is allocated, nothing is freed, and a node's memory may
 * be reused as soon as it is taken.
 */
#ifndef WEIR_LLIST_H
#define WEIR_LLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/atomic.h"
#include "weir/detail/checked.h"

struct weir_llist_node {
    struct weir_llist_node *next;
};

struct weir_llist_head {
    struct weir_llist_node *first; /* newest; NULL when empty */
};

/* clang-format off */
#define WEIR_LLIST_HEAD_INIT { NULL }
#define WEIR_LLIST_HEAD(name) struct weir_llist_head name = WEIR_LLIST_HEAD_INIT
/* clang-format on */

/*
 * Makes the list empty.
 *   Progress: wait-free.  Callers: one thread, before the list is shared.
 *   Ordering: none.       Memory: none.
 */
static inline void weir_llist_init(struct weir_llist_head *head)
{
    weir_store_relaxed(&head->first, NULL);
}

/*
 * Marks a node as being on no list (it points at itself, which no node on a list does). Only needed by
 * users of weir_llist_node_on_list().
 *   Progress: wait-free.  Callers: the node's owner.
 *   Ordering: none.       Memory: none.
 */
static inline void weir_llist_node_init(struct weir_llist_node *node)
{
    weir_store_relaxed(&node->next, node);
}

/*
 * Is the node on a list? Meaningful for nodes that went through weir_llist_node_init() or
 * weir_llist_del_first_init() when they were last off a list. A hint when others may add or remove it.
 *   Progress: wait-free.  Callers: any context.
 *   Ordering: none (relaxed: the answer orders nothing).  Memory: none.
 */
static inline bool weir_llist_node_on_list(const struct weir_llist_node *node)
{
    return weir_load_relaxed(&node->next) != node;
}

/*
 * Is the list empty? A hint: others may add or remove at once.
 *   Progress: wait-free.  Callers: any context.
 *   Ordering: none (relaxed: to use what is on the list, take it off with an acquiring operation).
 *   Memory: none.
 */
static inline bool weir_llist_empty(const struct weir_llist_head *head)
{
    return weir_load_relaxed(&head->first) == NULL;
}

/* The node after this one in a chain the caller owns, NULL at its end.
 *   Progress: wait-free.  Callers: the chain's owner.  Ordering: none.  Memory: none. */
static inline struct weir_llist_node *weir_llist_next(const struct weir_llist_node *node)
{
    return weir_load_relaxed(&node->next);
}

/*
 * Puts first..last, already linked by their `next`, in front of the list. True if the list was empty:
 * then, and only then, this caller is the one to wake the consumer. (A consumer that goes to sleep has to
 * find the list empty first, and a wake-up that comes in between has to be remembered, as a futex word, an
 * eventfd or a semaphore does.)
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: releases everything written before to whoever takes the nodes off (del_all, del_first); true
 *   acquires what the one who emptied the list had written before, so that the wake-up comes after a
 *   re-arming that was done before taking all.
 *   Memory: none.
 */
static inline bool weir_llist_add_batch(struct weir_llist_node *first, struct weir_llist_node *last,
                                        struct weir_llist_head *head)
{
    weir__check_chain(struct weir_llist_node, first, last, "weir_llist_add");
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        /* Relaxed: the old first is only stored into last->next, never dereferenced here. */
        struct weir_llist_node *old = weir_load_relaxed(&head->first);
        weir__check(old != first && old != last, "weir_llist_add", old, "is on the list already");
        /* Release: not for the list, but for nodes that are on a stack at other times (weir/magazine.h):
         * pairs with the acquire in weir__tagged_walk(), where a slower pop_n may be reading it. */
        weir_store_release(&last->next, old);
        /* Release: pairs with the acquire in del_all and del_first. Acquire: pairs with the release in
         * those. */
        if (weir_likely(weir_cas_acq_rel(&head->first, &old, first)))
            return old == NULL;
    }
}

/*
 * Puts one node in front of the list; otherwise as weir_llist_add_batch().
 *   Progress: lock-free.  Callers: any thread, signal handlers, read-side critical sections.
 *   Ordering: as weir_llist_add_batch().  Memory: none.
 */
static inline bool weir_llist_add(struct weir_llist_node *node, struct weir_llist_head *head)
{
    return weir_llist_add_batch(node, node, head);
}

/*
 * Takes the whole list and leaves it empty. The chain, newest first, is the caller's; NULL if there was
 * nothing.
 *   Progress: wait-free.  Callers: any thread, signal handlers, read-side critical sections; but not
 *   while another thread is in a del_first*.
 *   Ordering: acquires what each add released; releases to the next add, which finds the list empty.
 *   Memory: none.
 */
static inline struct weir_llist_node *weir_llist_del_all(struct weir_llist_head *head)
{
    /* Acquire: pairs with the release in add_batch. Every add on the list is in that release's sequence
     * of read-modify-writes, so the one exchange acquires them all. Release: pairs with the acquire in
     * add_batch. */
    return weir_xchg_acq_rel(&head->first, NULL);
}

/*
 * Takes the newest node, NULL if the list is empty.
 *   Progress: lock-free.  Callers: any context, one consumer at a time (see the table in weir/llist.h).
 *   Ordering: acquires what its add released; as weir_llist_del_all() if it leaves the list empty.
 *   Memory: none.
 */
static inline struct weir_llist_node *weir_llist_del_first(struct weir_llist_head *head)
{
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        /* Acquire: pairs with the release in add_batch; `next` is about to be read. */
        struct weir_llist_node *node = weir_load_acquire(&head->first), *expected = node;
        if (node == NULL)
            return NULL;
        /* Relaxed: written before the release that made `node` visible. */
        struct weir_llist_node *next = weir_load_relaxed(&node->next);
        /* Release: pairs with the acquire in add_batch, should this leave the list empty. No acquire: the
         * load above has acquired what is taken. */
        if (weir_likely(weir_cas_release(&head->first, &expected, next)))
            return node;
    }
}

/*
 * Takes the newest node and marks it as being on no list.
 *   Progress: lock-free.  Callers: any context, one consumer at a time.
 *   Ordering: acquires what its add released; as weir_llist_del_all() if it leaves the list empty.
 *   Memory: none.
 */
static inline struct weir_llist_node *weir_llist_del_first_init(struct weir_llist_head *head)
{
    struct weir_llist_node *node = weir_llist_del_first(head);
    if (node != NULL)
        weir_llist_node_init(node);
    return node;
}

/*
 * Takes `node` off if it is the newest one; false, changing nothing, if it is not. The node is only looked
 * into if it is the newest.
 *   Progress: lock-free.  Callers: any context, one consumer at a time.
 *   Ordering: acquires what its add released; as weir_llist_del_all() if it leaves the list empty.
 *   Memory: none.
 */
static inline bool weir_llist_del_first_this(struct weir_llist_head *head, struct weir_llist_node *node)
{
    for (unsigned losses = 0;; losses = weir_backoff(losses)) {
        /* Acquire: pairs with the release in add_batch. */
        struct weir_llist_node *first = weir_load_acquire(&head->first);
        if (first != node || first == NULL)
            return false;
        /* Relaxed, and release: as in weir_llist_del_first(). */
        struct weir_llist_node *next = weir_load_relaxed(&node->next);
        if (weir_likely(weir_cas_release(&head->first, &first, next)))
            return true;
    }
}

/*
 * Turns a chain the caller owns round and returns its new first node: arrival order, after del_all.
 *   Progress: wait-free, in proportion to the chain.  Callers: the chain's owner.
 *   Ordering: none.  Memory: none.
 */
static inline struct weir_llist_node *weir_llist_reverse_order(struct weir_llist_node *node)
{
    struct weir_llist_node *reversed = NULL;
    while (node != NULL) {
        struct weir_llist_node *next = weir_load_relaxed(&node->next);
        weir_store_release(&node->next, reversed); /* release: as in weir_llist_add_batch() */
        reversed = node;
        node = next;
    }
    return reversed;
}

/*
 * Takes the whole list, and returns it oldest first: a queue of all that has arrived so far. NULL if there
 * was nothing.
 *   Progress: wait-free, in proportion to the chain.  Callers: as weir_llist_del_all().
 *   Ordering: acquires what each add released.  Memory: none.
 */
static inline struct weir_llist_node *weir_llist_del_all_fifo(struct weir_llist_head *head)
{
    return weir_llist_reverse_order(weir_llist_del_all(head));
}

/*
 * For a list that one thread owns, or that others cannot reach at the time: the same results without atomic
 * read-modify-writes.
 *   Progress: wait-free.  Callers: the list's owner.
 *   Ordering: none (relaxed: nobody else is there).  Memory: none.
 */
static inline bool weir_llist_add_batch_unshared(struct weir_llist_node *first, struct weir_llist_node *last,
                                                 struct weir_llist_head *head)
{
    struct weir_llist_node *old = weir_load_relaxed(&head->first);
    weir_store_relaxed(&last->next, old);
    weir_store_relaxed(&head->first, first);
    return old == NULL;
}

/* One node; otherwise as weir_llist_add_batch_unshared().
 *   Progress: wait-free.  Callers: the list's owner.  Ordering: none.  Memory: none. */
static inline bool weir_llist_add_unshared(struct weir_llist_node *node, struct weir_llist_head *head)
{
    return weir_llist_add_batch_unshared(node, node, head);
}

/* Takes the whole list, newest first, and leaves it empty; otherwise as weir_llist_add_batch_unshared().
 *   Progress: wait-free.  Callers: the list's owner.  Ordering: none.  Memory: none. */
static inline struct weir_llist_node *weir_llist_del_all_unshared(struct weir_llist_head *head)
{
    struct weir_llist_node *first = weir_load_relaxed(&head->first);
    weir_store_relaxed(&head->first, NULL);
    return first;
}

/* The object of `type` whose `member` is the node at `ptr`. */
#define weir_llist_entry(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* The same as a function, where NULL stays NULL: what the iteration below steps with.
 *   Progress: wait-free.  Callers: the chain's owner.  Ordering: none.  Memory: none. */
static inline void *weir__llist_container(const struct weir_llist_node *node, size_t offset)
{
    return node != NULL ? (void *)((uintptr_t)node - offset) : NULL;
}

/*
 * Iteration over a chain the caller owns. The loop declares `pos` (and `tmp`) itself and evaluates `first`
 * once. In the _safe forms the body may free `pos` or put it on another list.
 */
#define weir_llist_for_each(pos, first)                                                                      \
    for (struct weir_llist_node *pos = (first); pos != NULL; pos = weir_llist_next(pos))

#define weir_llist_for_each_safe(pos, tmp, first)                                                            \
    for (struct weir_llist_node *pos = (first), *tmp; pos != NULL && (tmp = weir_llist_next(pos), true);     \
         pos = tmp)

#define weir_llist_for_each_entry(pos, first, type, member)                                                  \
    for (type *pos = (type *)weir__llist_container((first), offsetof(type, member)); pos != NULL;            \
         pos = (type *)weir__llist_container(weir_llist_next(&pos->member), offsetof(type, member)))

#define weir_llist_for_each_entry_safe(pos, tmp, first, type, member)                                        \
    for (type *pos = (type *)weir__llist_container((first), offsetof(type, member)), *tmp;                   \
         pos != NULL &&                                                                                      \
         (tmp = (type *)weir__llist_container(weir_llist_next(&pos->member), offsetof(type, member)), true); \
         pos = tmp)

#endif /* WEIR_LLIST_H */
