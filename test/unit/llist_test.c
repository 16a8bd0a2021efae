/* SPDX-License-Identifier: MIT */
/* weir/llist.h, one thread: what each operation returns and leaves behind. */
#include "weir/llist.h"

#include "weir_test.h"

struct item {
    int id;
    struct weir_llist_node link;
};

static WEIR_LLIST_HEAD(from_initializer);

static struct weir_llist_node nodes[5];

/* Adds nodes[0] .. nodes[n - 1] in this order. */
static void add_nodes(struct weir_llist_head *head, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        weir_llist_add(&nodes[i], head);
}

Test(llist, initialized_list_is_empty)
{
    struct weir_llist_head head = {&nodes[0]};
    weir_llist_init(&head);
    cr_assert(weir_llist_empty(&head));
    cr_assert(weir_llist_empty(&from_initializer));
}

Test(llist, empty_list_gives_nothing)
{
    WEIR_LLIST_HEAD(head);
    cr_assert_null(weir_llist_del_all(&head));
    cr_assert_null(weir_llist_del_first(&head));
    cr_assert_null(weir_llist_del_first_init(&head));
    cr_assert_not(weir_llist_del_first_this(&head, &nodes[0]));
    cr_assert(weir_llist_empty(&head));
}

Test(llist, only_the_add_to_an_empty_list_says_so)
{
    WEIR_LLIST_HEAD(head);
    cr_assert(weir_llist_add(&nodes[0], &head));
    cr_assert_not(weir_llist_add(&nodes[1], &head));
    cr_assert_not(weir_llist_empty(&head));
    weir_llist_del_all(&head);
    cr_assert(weir_llist_add(&nodes[2], &head));
    weir_llist_del_first(&head);
    cr_assert(weir_llist_add(&nodes[3], &head));
}

Test(llist, only_the_batch_to_an_empty_list_says_so)
{
    WEIR_LLIST_HEAD(head);
    nodes[0].next = &nodes[1];
    cr_assert(weir_llist_add_batch(&nodes[0], &nodes[1], &head));
    nodes[2].next = &nodes[3];
    cr_assert_not(weir_llist_add_batch(&nodes[2], &nodes[3], &head));
}

Test(llist, del_all_gives_newest_first_and_leaves_nothing)
{
    WEIR_LLIST_HEAD(head);
    add_nodes(&head, 3);
    struct weir_llist_node *chain = weir_llist_del_all(&head);
    cr_assert(weir_llist_empty(&head));
    cr_assert_eq(chain, &nodes[2]);
    cr_assert_eq(weir_llist_next(chain), &nodes[1]);
    cr_assert_eq(weir_llist_next(&nodes[1]), &nodes[0]);
    cr_assert_null(weir_llist_next(&nodes[0]));
}

Test(llist, batch_keeps_its_order_in_front_of_the_older)
{
    WEIR_LLIST_HEAD(head);
    weir_llist_add(&nodes[4], &head);
    for (unsigned i = 0; i < 3; i++)
        nodes[i].next = &nodes[i + 1];
    weir_llist_add_batch(&nodes[0], &nodes[3], &head);
    unsigned i = 0;
    weir_llist_for_each(pos, weir_llist_del_all(&head))
        cr_assert_eq(pos, &nodes[i++]);
    cr_assert_eq(i, 5u);
}

Test(llist, reverse_order_gives_arrival_order)
{
    WEIR_LLIST_HEAD(head);
    add_nodes(&head, 5);
    struct weir_llist_node *chain = weir_llist_reverse_order(weir_llist_del_all(&head));
    for (unsigned i = 0; i < 5; i++, chain = weir_llist_next(chain))
        cr_assert_eq(chain, &nodes[i]);
    cr_assert_null(chain);
}

Test(llist, reverse_order_of_none_and_of_one)
{
    cr_assert_null(weir_llist_reverse_order(NULL));
    nodes[0].next = NULL;
    cr_assert_eq(weir_llist_reverse_order(&nodes[0]), &nodes[0]);
    cr_assert_null(weir_llist_next(&nodes[0]));
}

Test(llist, del_all_fifo_gives_oldest_first_and_leaves_nothing)
{
    WEIR_LLIST_HEAD(head);
    cr_assert_null(weir_llist_del_all_fifo(&head));
    for (unsigned length = 1; length <= 5; length++) {
        add_nodes(&head, length);
        struct weir_llist_node *chain = weir_llist_del_all_fifo(&head);
        cr_assert(weir_llist_empty(&head));
        for (unsigned i = 0; i < length; i++, chain = weir_llist_next(chain))
            cr_assert_eq(chain, &nodes[i]);
        cr_assert_null(chain);
    }
}

Test(llist, unshared_add_says_like_add_whether_the_list_was_empty)
{
    WEIR_LLIST_HEAD(head);
    cr_assert(weir_llist_add_unshared(&nodes[0], &head));
    cr_assert_not(weir_llist_add_unshared(&nodes[1], &head));
    cr_assert_eq(weir_llist_del_all_unshared(&head), &nodes[1]);
    cr_assert_eq(weir_llist_next(&nodes[1]), &nodes[0]);
    cr_assert_null(weir_llist_next(&nodes[0]));
    cr_assert(weir_llist_empty(&head));
    cr_assert_null(weir_llist_del_all_unshared(&head));
}

Test(llist, unshared_batch_keeps_its_order_in_front_of_the_older)
{
    WEIR_LLIST_HEAD(head);
    nodes[3].next = &nodes[4];
    cr_assert(weir_llist_add_batch_unshared(&nodes[3], &nodes[4], &head));
    for (unsigned i = 0; i < 2; i++)
        nodes[i].next = &nodes[i + 1];
    cr_assert_not(weir_llist_add_batch_unshared(&nodes[0], &nodes[2], &head));
    unsigned i = 0;
    weir_llist_for_each(pos, weir_llist_del_all_unshared(&head))
        cr_assert_eq(pos, &nodes[i++]);
    cr_assert_eq(i, 5u);
}

Test(llist, shared_and_unshared_forms_work_on_the_same_list)
{
    WEIR_LLIST_HEAD(head);
    weir_llist_add_unshared(&nodes[0], &head);
    cr_assert_not(weir_llist_add(&nodes[1], &head));
    weir_llist_add_unshared(&nodes[2], &head);
    cr_assert_eq(weir_llist_del_first(&head), &nodes[2]);
    cr_assert_eq(weir_llist_del_all_fifo(&head), &nodes[0]);
    cr_assert_eq(weir_llist_next(&nodes[0]), &nodes[1]);
}

Test(llist, del_first_takes_the_newest_one_by_one)
{
    WEIR_LLIST_HEAD(head);
    add_nodes(&head, 3);
    for (unsigned i = 3; i-- > 0;)
        cr_assert_eq(weir_llist_del_first(&head), &nodes[i]);
    cr_assert(weir_llist_empty(&head));
    cr_assert_null(weir_llist_del_first(&head));
}

Test(llist, node_is_off_list_after_init_and_after_del_first_init)
{
    WEIR_LLIST_HEAD(head);
    weir_llist_node_init(&nodes[0]);
    weir_llist_node_init(&nodes[1]);
    cr_assert_not(weir_llist_node_on_list(&nodes[0]));
    weir_llist_add(&nodes[0], &head);
    cr_assert(weir_llist_node_on_list(&nodes[0]), "the last node of a list is on it too");
    weir_llist_add(&nodes[1], &head);
    cr_assert(weir_llist_node_on_list(&nodes[1]));
    cr_assert_eq(weir_llist_del_first_init(&head), &nodes[1]);
    cr_assert_not(weir_llist_node_on_list(&nodes[1]));
    cr_assert(weir_llist_node_on_list(&nodes[0]));
    cr_assert_eq(weir_llist_del_first_init(&head), &nodes[0]);
    cr_assert_not(weir_llist_node_on_list(&nodes[0]));
}

Test(llist, del_first_this_takes_the_newest_only)
{
    WEIR_LLIST_HEAD(head);
    add_nodes(&head, 2);
    cr_assert_not(weir_llist_del_first_this(&head, &nodes[0]));
    cr_assert_eq(head.first, &nodes[1]);
    cr_assert(weir_llist_del_first_this(&head, &nodes[1]));
    cr_assert(weir_llist_del_first_this(&head, &nodes[0]));
    cr_assert(weir_llist_empty(&head));
}

Test(llist, del_first_this_of_no_node_takes_nothing)
{
    WEIR_LLIST_HEAD(head);
    cr_assert_not(weir_llist_del_first_this(&head, NULL));
    add_nodes(&head, 1);
    cr_assert_not(weir_llist_del_first_this(&head, NULL));
    cr_assert_eq(head.first, &nodes[0]);
}

Test(llist, entry_finds_the_object_around_a_node)
{
    struct item item = {.id = 7};
    cr_assert_eq(weir_llist_entry(&item.link, struct item, link), &item);
}

Test(llist, for_each_entry_visits_all_in_order)
{
    WEIR_LLIST_HEAD(head);
    struct item items[3];
    for (int i = 0; i < 3; i++) {
        items[i].id = i;
        weir_llist_add(&items[i].link, &head);
    }
    int expected = 2;
    weir_llist_for_each_entry(pos, weir_llist_del_all(&head), struct item, link)
        cr_assert_eq(pos->id, expected--);
    cr_assert_eq(expected, -1);
}

Test(llist, iteration_over_nothing_does_nothing)
{
    weir_llist_for_each(pos, NULL)
        cr_assert_fail();
    weir_llist_for_each_safe(pos, tmp, NULL)
        cr_assert_fail();
    weir_llist_for_each_entry(pos, NULL, struct item, link)
        cr_assert_fail();
    weir_llist_for_each_entry_safe(pos, tmp, NULL, struct item, link)
        cr_assert_fail();
}

Test(llist, safe_iteration_survives_moving_each_to_another_list)
{
    WEIR_LLIST_HEAD(from);
    WEIR_LLIST_HEAD(to);
    add_nodes(&from, 5);
    weir_llist_for_each_safe(pos, tmp, weir_llist_del_all(&from))
        weir_llist_add(pos, &to);
    unsigned i = 0;
    weir_llist_for_each(pos, to.first)
        cr_assert_eq(pos, &nodes[i++]);
    cr_assert_eq(i, 5u);
}

Test(llist, safe_entry_iteration_survives_freeing_each)
{
    WEIR_LLIST_HEAD(head);
    for (int i = 0; i < 3; i++) {
        struct item *item = malloc(sizeof *item);
        cr_assert_not_null(item);
        item->id = i;
        weir_llist_add(&item->link, &head);
    }
    int sum = 0;
    weir_llist_for_each_entry_safe(pos, tmp, weir_llist_del_all(&head), struct item, link) {
        sum += pos->id;
        free(pos);
    }
    cr_assert_eq(sum, 3);
}
