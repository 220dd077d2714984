/*
 * Who is woken by what, against a model that looks at everybody; and that work is counted in steps,
 * so that a turn has no more of them than it may.
 */
#include "src/broker/waits.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "core/filter/filter.h"
#include "core/proto/tags.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

#define MANY 100000

/* A waiter, and what it wants. */
struct guest {
    struct wait_item item;
    int topic;
    int group;
    int32_t queue;
    uint32_t lane;
    int tag; /* -1: every message */
    int woken;
};

static struct waits waits;
static struct filter *filters[8]; /* "t0", "t1", ... */
static uint64_t turn;
static struct guest *woken[64]; /* by the last alarm */
static size_t woken_count;

static struct guest *guest_of(struct wait_item *item)
{
    return LIST_ENTRY(item, struct guest, item);
}

static struct slice name_of(char kind, int number)
{
    static char text[4][32];
    static size_t next;
    char *name = text[next++ % 4];

    return slice_of(name, (size_t)snprintf(name, sizeof text[0], "%c%d", kind, number));
}

static int64_t code_of(int tag)
{
    return tag_code(name_of('t', tag));
}

static void set_up(bool wakes_all)
{
    struct err_ctx err;

    waits_init(&waits, (struct hash_key){1, 2}, wakes_all);
    turn = 1;
    (void)waits_turn(&waits, turn);
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(filter_compile(SLICE_LIT("TAG"), name_of('t', i), &filters[i], &err), 0);
    }
}

static void tear_down(void)
{
    waits_fini(&waits);
    for (int i = 0; i < 8; i++) {
        filter_free(&filters[i]);
    }
}

static void new_turn(void)
{
    ck_assert(!waits_turn(&waits, turn));
    ck_assert(waits_turn(&waits, ++turn));
}

static void add(struct guest *g)
{
    struct wait_wish wish = {.topic = name_of('T', g->topic),
                             .group = name_of('g', g->group),
                             .queue = g->queue,
                             .lane = g->lane,
                             .filter = g->tag < 0 ? NULL : filters[g->tag]};

    ck_assert_int_eq(waits_add(&waits, &wish, &g->item), 0);
}

static struct guest *crowd_new(int count)
{
    struct guest *guests = mem_calloc((size_t)count, sizeof *guests);

    ck_assert_ptr_nonnull(guests);
    for (int i = 0; i < count; i++) {
        guests[i].queue = -1;
    }
    return guests;
}

static void leave_all(struct guest *guests, int count)
{
    for (int i = 0; i < count; i++) {
        if (guests[i].item.class != NULL) {
            waits_remove(&waits, &guests[i].item);
        }
    }
    mem_free(guests);
}

static void is_woken(void *arg, struct wait_item *item)
{
    (void)arg;
    ck_assert_ptr_null(item->class);
    ck_assert_uint_lt(woken_count, 64);
    woken[woken_count++] = guest_of(item);
}

static void message(int topic, int32_t queue, int tag)
{
    int64_t code = code_of(tag);
    struct wait_alarm alarm = {.queue = queue, .tag_code = &code, .wake = is_woken};

    woken_count = 0;
    waits_wake_groups(&waits, name_of('T', topic), &alarm);
}

static void wake(int topic, int group, int32_t queue)
{
    struct wait_alarm alarm = {.queue = queue, .wake = is_woken};

    woken_count = 0;
    waits_wake_group(&waits, name_of('T', topic), name_of('g', group), &alarm);
}

START_TEST(a_filter_is_asked_once_however_many_wait_with_it)
{
    /* A hundred thousand of one group that want another tag cost a message no more than one. */
    struct guest *crowd = crowd_new(MANY);
    uint32_t before;

    set_up(false);
    for (int i = 0; i < MANY; i++) {
        crowd[i].tag = 1;
        add(&crowd[i]);
    }
    for (int i = 0; i < 1000; i++) {
        before = waits.steps_left;
        message(0, 3, 0);
        ck_assert_uint_eq(woken_count, 0);
        ck_assert_uint_eq(before - waits.steps_left, 2); /* the group, and its class */
    }
    message(0, 3, 1);
    ck_assert_uint_eq(woken_count, 1);
    ck_assert_ptr_eq(woken[0], &crowd[0]);
    ck_assert(!waits_has_due(&waits));
    leave_all(crowd, MANY);
    tear_down();
}
END_TEST

START_TEST(other_queues_and_other_groups_cost_nothing)
{
    /* A message looks at those of its queue only, an acknowledgement at those of its group. */
    struct guest *crowd = crowd_new(2000);
    uint32_t before;

    set_up(false);
    for (int i = 0; i < 2000; i++) {
        crowd[i].group = i < 1000 ? 0 : i;
        crowd[i].topic = i < 1000 ? 0 : 1;
        crowd[i].queue = i < 1000 ? i : -1;
        crowd[i].tag = -1;
        add(&crowd[i]);
    }
    before = waits.steps_left;
    message(0, 500, 0);
    ck_assert_uint_eq(woken_count, 1);
    ck_assert_ptr_eq(woken[0], &crowd[500]);
    wake(1, 1500, 7);
    ck_assert_uint_eq(woken_count, 1);
    ck_assert_ptr_eq(woken[0], &crowd[1500]);
    ck_assert_uint_eq(before - waits.steps_left, 4);
    leave_all(crowd, 2000);
    tear_down();
}
END_TEST

/* ---- against a model ---- */

#define GUESTS 60

static bool model_wants(const struct guest *g, int32_t queue, int tag)
{
    return g->item.class != NULL && (g->queue < 0 || g->queue == queue) &&
           (g->tag < 0 || tag < 0 || g->tag == tag);
}

/* Who of the group and lane waits longest and wants it; NULL: nobody. */
static struct guest *model_first(struct guest *guests, const struct guest *like, int32_t queue,
                                 int tag)
{
    struct guest *first = NULL;

    for (int i = 0; i < GUESTS; i++) {
        struct guest *g = &guests[i];
        if (g->topic == like->topic && g->group == like->group && g->lane == like->lane &&
            model_wants(g, queue, tag) && (first == NULL || g->item.number < first->item.number)) {
            first = g;
        }
    }
    return first;
}

/* Everyone whom the alarm has to wake gets the mark; how many. */
static size_t model_mark(struct guest *guests, int topic, int group, int32_t queue, int tag)
{
    size_t count = 0;

    for (int i = 0; i < GUESTS; i++) {
        guests[i].woken = 0;
    }
    for (int g = 0; g < 3; g++) {
        for (uint32_t lane = 0; lane < WAITS_LANES; lane++) {
            struct guest like = {.topic = topic, .group = g, .lane = lane};
            struct guest *first =
                group >= 0 && g != group ? NULL : model_first(guests, &like, queue, tag);
            if (first != NULL) {
                first->woken = 1;
                count++;
            }
        }
    }
    return count;
}

START_TEST(of_those_who_want_it_one_of_each_lane_is_woken_the_longest_waiting_first)
{
    /* Whoever comes, goes, and is woken, in any order: as if everybody were looked at. */
    struct guest *guests = crowd_new(GUESTS);
    struct rand rnd;

    set_up(false);
    rand_init(&rnd, 7);
    for (int step = 0; step < 20000; step++) {
        struct guest *g = &guests[rand_below(&rnd, GUESTS)];
        int topic = (int)rand_below(&rnd, 2);
        int group = (int)rand_below(&rnd, 4) - 1;
        int32_t queue = (int32_t)rand_below(&rnd, 3);
        int tag = group >= 0 ? -1 : (int)rand_below(&rnd, 3);
        size_t count;
        new_turn();
        if (rand_below(&rnd, 8) > 0) {
            if (g->item.class != NULL) {
                waits_remove(&waits, &g->item);
                continue;
            }
            *g = (struct guest){.topic = topic,
                                .group = (int)rand_below(&rnd, 3),
                                .queue = queue - 1,
                                .lane = (uint32_t)rand_below(&rnd, WAITS_LANES),
                                .tag = (int)rand_below(&rnd, 4) - 1};
            add(g);
            continue;
        }
        count = model_mark(guests, topic, group, queue, tag);
        if (group < 0) {
            message(topic, queue, tag);
        } else {
            wake(topic, group, queue);
        }
        ck_assert_uint_eq(woken_count, count);
        for (size_t i = 0; i < woken_count; i++) {
            ck_assert_int_eq(woken[i]->woken, 1);
        }
        waits_check(&waits);
    }
    leave_all(guests, GUESTS);
    tear_down();
}
END_TEST

/* ---- in pieces ---- */

/* Everyone who is handed out in this turn; how many. */
static int hand_out(void)
{
    struct wait_item *item;
    int count = 0;

    while ((item = waits_next(&waits)) != NULL) {
        guest_of(item)->woken++;
        count++;
    }
    return count;
}

START_TEST(what_a_turn_cannot_ask_about_is_made_up_for_in_turns_that_follow)
{
    /*
     * Each of many groups hears of both messages, whatever steps there were; who came after them is
     * not woken; no turn has more steps than it may.
     */
    const int groups = 3 * WAITS_STEPS_MAX;
    struct guest *crowd = crowd_new(4 * groups);
    struct guest late = {.queue = -1, .tag = -1};
    int turns = 0;
    int count = 0;

    set_up(false);
    for (int i = 0; i < 3 * groups; i++) { /* three of each */
        crowd[i].group = i % groups;
        crowd[i].tag = 1;
        add(&crowd[i]);
    }
    message(0, 0, 0);
    ck_assert_uint_eq(woken_count, 0);
    message(0, 0, 0);
    ck_assert_uint_eq(waits.steps_left, 0);
    add(&late);
    waits_check(&waits);
    while (waits_has_due(&waits)) {
        new_turn();
        count += hand_out();
        ck_assert_int_lt(++turns, 100);
    }
    ck_assert_int_eq(count, 2 * groups);
    for (int i = 0; i < 3 * groups; i++) {
        ck_assert_int_eq(crowd[i].woken, i < 2 * groups ? 1 : 0);
    }
    ck_assert_int_eq(late.woken, 0);
    ck_assert_int_ge(turns, 6);
    waits_check(&waits);
    waits_remove(&waits, &late.item);
    leave_all(crowd, 4 * groups);
    tear_down();
}
END_TEST

START_TEST(who_is_woken_for_nothing_and_waits_again_is_not_woken_again)
{
    /* Else those whom nothing suits would keep the broker busy with one message for ever. */
    struct guest guests[3] = {{.queue = -1, .tag = 1}, {.queue = -1, .tag = 1}, {.queue = -1}};
    struct wait_item *item;

    set_up(false);
    for (int i = 0; i < 3; i++) {
        add(&guests[i]);
    }
    waits.steps_left = 0;
    for (int i = 0; i < 10; i++) {
        message(0, 0, 0);
    }
    new_turn();
    while ((item = waits_next(&waits)) != NULL) {
        ck_assert_int_eq(++guest_of(item)->woken, 1);
        add(guest_of(item));
    }
    ck_assert(!waits_has_due(&waits));
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(guests[i].woken, 1);
        waits_remove(&waits, &guests[i].item);
    }
    tear_down();
}
END_TEST

START_TEST(topics_take_turns_when_many_are_due)
{
    /* One that waits for another topic is not behind thousands of the first. */
    struct guest *crowd = crowd_new(1000);
    struct wait_item *item;
    int place = 0;

    set_up(false);
    for (int i = 0; i < 1000; i++) {
        crowd[i].topic = i < 999 ? 0 : 1;
        crowd[i].group = i;
        add(&crowd[i]);
    }
    waits.steps_left = 0;
    message(0, 0, 0);
    message(1, 0, 0);
    new_turn();
    while ((item = waits_next(&waits)) != NULL) {
        place++;
        if (guest_of(item) == &crowd[999]) {
            break;
        }
    }
    ck_assert_int_le(place, 2);
    leave_all(crowd, 1000);
    ck_assert(!waits_has_due(&waits));
    tear_down();
}
END_TEST

START_TEST(a_pop_for_whichever_queue_wakes_one_of_each_kind)
{
    /*
     * It is not known for which queue: for a single queue, for all of them, with and without order.
     */
    struct guest guests[5] = {{.queue = -1, .tag = -1},
                              {.queue = -1, .tag = -1},
                              {.queue = 4, .tag = -1},
                              {.queue = 5, .tag = -1},
                              {.queue = 5, .tag = -1, .lane = 1}};

    set_up(false);
    for (int i = 0; i < 5; i++) {
        add(&guests[i]);
    }
    wake(0, 0, -1);
    ck_assert_int_eq((int)woken_count + hand_out(), 4);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(guests[i].woken, i == 1 ? 0 : 1);
    }
    wake(0, 0, -1); /* only those are left that wait for any: the first of them, at once */
    ck_assert_uint_eq(woken_count, 1);
    ck_assert_ptr_eq(woken[0], &guests[1]);
    tear_down();
}
END_TEST

/* ---- all ---- */

static int asked;

static bool wants_tag(void *arg, struct wait_class *class)
{
    asked++;
    return class->filter == NULL || filter_may_match(class->filter, *(int64_t *)arg);
}

static void message_for_all(int tag)
{
    int64_t code = code_of(tag);

    waits_wake_all(&waits, name_of('T', 0), wants_tag, &code);
}

START_TEST(everyone_who_wants_it_is_woken_where_a_message_is_for_all)
{
    /* A filter is asked once, and they come in pieces; who waits again since is not among them. */
    struct guest *crowd = crowd_new(MANY);
    struct wait_item *item;
    int count = 0;

    set_up(true);
    for (int i = 0; i < MANY; i++) {
        crowd[i].tag = i % 2;
        add(&crowd[i]);
    }
    asked = 0;
    message_for_all(2);
    ck_assert_int_eq(asked, 2);
    ck_assert(!waits_has_due(&waits));
    message_for_all(1);
    ck_assert_int_eq(asked, 4);
    while (waits_has_due(&waits)) {
        new_turn();
        while ((item = waits_next(&waits)) != NULL) {
            ck_assert_int_eq(guest_of(item)->tag, 1);
            ck_assert_int_eq(++guest_of(item)->woken, 1);
            add(guest_of(item));
            count++;
        }
        ck_assert_int_le(count, (int)turn * WAITS_STEPS_MAX);
    }
    ck_assert_int_eq(count, MANY / 2);
    waits_check(&waits);
    leave_all(crowd, MANY);
    tear_down();
}
END_TEST

START_TEST(who_came_since_is_woken_by_the_next_message)
{
    /* Also while those of the message before are still on their way out. */
    struct guest guests[3] = {{.queue = -1, .tag = 1}, {.queue = -1, .tag = 1}, {.queue = -1}};

    set_up(true);
    guests[2].tag = 1;
    add(&guests[0]);
    message_for_all(1);
    add(&guests[1]);
    message_for_all(0); /* nobody's */
    ck_assert_int_eq(hand_out(), 1);
    ck_assert_int_eq(guests[0].woken, 1);
    message_for_all(1);
    add(&guests[2]);
    message_for_all(1);
    ck_assert_int_eq(hand_out(), 2);
    ck_assert_uint_eq(waits.count, 0);
    tear_down();
}
END_TEST

START_TEST(too_many_filters_for_a_turn_wake_everyone)
{
    /* What could not be asked may want it. */
    struct guest guests[2] = {{.queue = -1, .tag = 1}, {.queue = -1, .tag = 2}};

    set_up(true);
    add(&guests[0]);
    add(&guests[1]);
    waits.steps_left = 1;
    message_for_all(0);
    new_turn();
    ck_assert_int_eq(hand_out(), 2);
    tear_down();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/waits");
    TCase *tc = tcase_create("waits");

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, a_filter_is_asked_once_however_many_wait_with_it);
    tcase_add_test(tc, other_queues_and_other_groups_cost_nothing);
    tcase_add_test(tc, of_those_who_want_it_one_of_each_lane_is_woken_the_longest_waiting_first);
    tcase_add_test(tc, what_a_turn_cannot_ask_about_is_made_up_for_in_turns_that_follow);
    tcase_add_test(tc, who_is_woken_for_nothing_and_waits_again_is_not_woken_again);
    tcase_add_test(tc, topics_take_turns_when_many_are_due);
    tcase_add_test(tc, a_pop_for_whichever_queue_wakes_one_of_each_kind);
    tcase_add_test(tc, everyone_who_wants_it_is_woken_where_a_message_is_for_all);
    tcase_add_test(tc, who_came_since_is_woken_by_the_next_message);
    tcase_add_test(tc, too_many_filters_for_a_turn_wake_everyone);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
