#include "core/base/list.h"

#include "tests/unit/core/base/unit_main.h"

struct item {
    int id;
    struct list node;
};

static int sum_and_drop(struct list *head, int drop)
{
    struct list *pos;
    struct list *tmp;
    int sum = 0;

    LIST_FOREACH(pos, tmp, head) {
        struct item *item = LIST_ENTRY(pos, struct item, node);

        sum = sum * 10 + item->id;
        if (item->id == drop) {
            list_remove(pos);
        }
    }
    return sum;
}

START_TEST(items_stay_in_order_and_leave_in_any)
{
    /*
     * First, middle, last; removing the current one does not disturb the walk; twice is harmless.
     */
    struct item items[4] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}};
    struct list head;

    list_init(&head);
    ck_assert(list_is_empty(&head));
    for (int i = 0; i < 4; i++) {
        list_push(&head, &items[i].node);
    }
    ck_assert_int_eq(sum_and_drop(&head, 2), 1234);
    ck_assert_int_eq(sum_and_drop(&head, 1), 134);
    ck_assert_int_eq(sum_and_drop(&head, 4), 34);
    ck_assert_int_eq(sum_and_drop(&head, 3), 3);
    ck_assert(list_is_empty(&head));
    list_remove(&items[0].node);
    ck_assert(list_is_empty(&items[0].node));
}
END_TEST

START_TEST(a_list_moves_as_a_whole)
{
    /* Behind what is there, in its order; nothing, onto nothing, is fine. */
    struct item items[4] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}};
    struct list from;
    struct list to;

    list_init(&from);
    list_init(&to);
    list_move_all(&from, &to);
    ck_assert(list_is_empty(&from) && list_is_empty(&to));
    list_push(&from, &items[0].node);
    list_push(&from, &items[1].node);
    list_move_all(&from, &to);
    ck_assert(list_is_empty(&from));
    ck_assert_int_eq(sum_and_drop(&to, 0), 12);
    list_push(&from, &items[2].node);
    list_push(&from, &items[3].node);
    list_move_all(&from, &to);
    ck_assert_int_eq(sum_and_drop(&to, 4), 1234);
    ck_assert_int_eq(sum_and_drop(&to, 1), 123);
    ck_assert(to.prev == &items[2].node && to.next == &items[1].node);
    ck_assert(list_is_empty(&from));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/list");
    TCase *tc = tcase_create("list");

    tcase_add_test(tc, items_stay_in_order_and_leave_in_any);
    tcase_add_test(tc, a_list_moves_as_a_whole);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
