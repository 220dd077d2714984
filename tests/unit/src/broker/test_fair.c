#include "src/broker/fair.h"

#include "tests/unit/core/base/unit_main.h"

#include <stdlib.h>
#include <string.h>

#define ITEMS_MAX 64

/* Items that note in which order they were started; `leaves`: done at once. */
struct thing {
    struct fair_item item;
    char name;
    bool leaves;
};

static struct fair fair;
static struct thing things[ITEMS_MAX];
static char order[ITEMS_MAX + 1];
static size_t started;
static int depth;

static void start_thing(struct fair_item *item)
{
    struct thing *t = LIST_ENTRY(item, struct thing, item);

    ck_assert_int_eq(++depth, 1);
    ck_assert_int_eq(item->state, FAIR_IN);
    order[started++] = t->name;
    order[started] = '\0';
    if (t->leaves) {
        fair_leave(&fair, item);
    }
    depth--;
}

static void set_up(uint32_t limit)
{
    memset(things, 0, sizeof things);
    started = 0;
    order[0] = '\0';
    fair_init(&fair, limit);
}

static struct thing *enter(struct fair_lane *lane, int i, char name)
{
    things[i].name = name;
    fair_enter(&fair, lane, &things[i].item, start_thing);
    return &things[i];
}

START_TEST(lanes_take_turns_however_many_wait_in_one)
{
    /* Ten of lane a, then two each of b and c: one slot goes a, a, b, c, a, b, c, a, a, ... */
    struct fair_lane a;
    struct fair_lane b;
    struct fair_lane c;

    set_up(1);
    fair_lane_init(&a, FAIR_NO_LIMIT);
    fair_lane_init(&b, FAIR_NO_LIMIT);
    fair_lane_init(&c, FAIR_NO_LIMIT);
    for (int i = 0; i < 10; i++) {
        (void)enter(&a, i, 'a');
    }
    ck_assert_str_eq(order, "a");
    for (int i = 10; i < 12; i++) {
        (void)enter(&b, i, 'b');
        (void)enter(&c, i + 2, 'c');
    }
    for (int left = 0; left < 14; left++) {
        for (int i = 0; i < 14; i++) {
            if (things[i].item.state == FAIR_IN) {
                fair_leave(&fair, &things[i].item);
                break;
            }
        }
    }
    ck_assert_str_eq(order, "aabcabcaaaaaaa");
    ck_assert_int_eq(fair.running, 0);
}
END_TEST

START_TEST(a_lane_at_its_limit_leaves_the_slots_to_others)
{
    /* Of eight slots a lane limited to two gets two; raised to three, three; lowered, no more. */
    struct fair_lane a;
    struct fair_lane b;

    set_up(8);
    fair_lane_init(&a, 2);
    fair_lane_init(&b, FAIR_NO_LIMIT);
    for (int i = 0; i < 6; i++) {
        (void)enter(&a, i, 'a');
    }
    ck_assert_str_eq(order, "aa");
    (void)enter(&b, 6, 'b');
    ck_assert_str_eq(order, "aab");
    fair_set_limit(&fair, &a, 3);
    ck_assert_str_eq(order, "aaba");
    fair_set_limit(&fair, &a, 1);
    fair_leave(&fair, &things[0].item);
    fair_leave(&fair, &things[1].item);
    ck_assert_str_eq(order, "aaba");
    fair_leave(&fair, &things[2].item);
    ck_assert_str_eq(order, "aabaa");
}
END_TEST

START_TEST(whoever_leaves_early_is_never_started)
{
    /* Leaving while waiting, twice, and without having entered; the rest go on. */
    struct fair_lane a;

    set_up(1);
    fair_lane_init(&a, FAIR_NO_LIMIT);
    for (int i = 0; i < 4; i++) {
        (void)enter(&a, i, (char)('0' + i));
    }
    fair_leave(&fair, &things[1].item);
    fair_leave(&fair, &things[1].item);
    fair_leave(&fair, &things[9].item);
    fair_leave(&fair, &things[0].item);
    fair_leave(&fair, &things[2].item);
    fair_leave(&fair, &things[3].item);
    ck_assert_str_eq(order, "023");
    ck_assert(list_is_empty(&fair.lanes));
    (void)enter(&a, 5, '5');
    ck_assert_str_eq(order, "0235");
}
END_TEST

START_TEST(a_start_that_leaves_at_once_does_not_nest)
{
    /* Many steps one after the other on one slot; after close nobody is started. */
    struct fair_lane a;

    set_up(1);
    fair_lane_init(&a, FAIR_NO_LIMIT);
    (void)enter(&a, 0, 'x');
    for (int i = 1; i < ITEMS_MAX; i++) {
        things[i].leaves = true;
        (void)enter(&a, i, 'y');
    }
    ck_assert_uint_eq(started, 1);
    fair_leave(&fair, &things[0].item);
    ck_assert_uint_eq(started, ITEMS_MAX);
    fair_close(&fair);
    (void)enter(&a, 0, 'z');
    ck_assert_uint_eq(started, ITEMS_MAX);
    fair_leave(&fair, &things[0].item);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/fair");
    TCase *tc = tcase_create("fair");

    tcase_add_test(tc, lanes_take_turns_however_many_wait_in_one);
    tcase_add_test(tc, a_lane_at_its_limit_leaves_the_slots_to_others);
    tcase_add_test(tc, whoever_leaves_early_is_never_started);
    tcase_add_test(tc, a_start_that_leaves_at_once_does_not_nest);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
