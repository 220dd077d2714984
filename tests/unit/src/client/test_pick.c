#include "src/client/pick.h"

#include "tests/unit/src/client/client_main.h"

#include <stdio.h>
#include <string.h>

static struct route_target targets[3];
static struct topic_route route;
static uint32_t turn;

/* Brokers a, b, c with so many queues each. */
static void set_route(uint32_t a, uint32_t b, uint32_t c)
{
    const uint32_t queues[3] = {a, b, c};

    for (int i = 0; i < 3; i++) {
        (void)snprintf(targets[i].broker, sizeof targets[i].broker, "%c", 'a' + i);
        (void)snprintf(targets[i].addr, sizeof targets[i].addr, "10.0.0.%d:1", i);
        targets[i].write_queues = queues[i];
    }
    route = (struct topic_route){.targets = targets, .target_count = 3};
    turn = 0;
}

/* "b2": queue 2 of broker b. */
static const char *pick(const char *key, const char *avoid)
{
    static char text[ROUTER_NAME_MAX + 16];
    struct pick p = {.route = &route,
                     .create_queues = 2,
                     .key = key == NULL ? SLICE_EMPTY : slice_str(key),
                     .avoid = avoid,
                     .turn = &turn};
    struct route_target target;
    int32_t queue_id;

    if (!pick_queue(&p, &target, &queue_id)) {
        return "none";
    }
    (void)snprintf(text, sizeof text, "%s%d", target.broker, (int)queue_id);
    return text;
}

/* Without a key every queue has its turn. */
START_TEST(queues_take_turns)
{
    static const char *const order[] = {"a0", "a1", "c0", "c1", "c2", "a0"};

    set_route(2, 0, 3);
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        ck_assert_str_eq(pick(NULL, NULL), order[i]);
    }
}
END_TEST

/* A key has one queue, whosever turn it is and whoever is avoided; keys are spread. */
START_TEST(a_key_has_one_queue)
{
    char first[ROUTER_NAME_MAX + 16];
    bool differs = false;

    set_route(4, 4, 4);
    (void)snprintf(first, sizeof first, "%s", pick("TagA", NULL)); /* Java's hash: 2598919 */
    ck_assert_str_eq(first, "b3");                                 /* 2598919 % 12 == 7 */
    for (int i = 0; i < 20; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "key%d", i);
        ck_assert_str_eq(pick("TagA", "b"), first);
        differs = differs || strcmp(pick(key, NULL), first) != 0;
        (void)pick(NULL, NULL);
    }
    ck_assert(differs);
}
END_TEST

/* A broker that failed is passed over while there is another, and is better than none. */
START_TEST(a_broker_that_failed_is_avoided)
{
    set_route(2, 1, 0);
    for (int i = 0; i < 5; i++) {
        ck_assert_str_eq(pick(NULL, "a"), "b0");
    }
    set_route(2, 0, 0);
    ck_assert_str_eq(pick(NULL, "a"), "a0");
    ck_assert_str_eq(pick(NULL, "a"), "a1");
}
END_TEST

/* Brokers without an address or without queues to write to do not count. */
START_TEST(there_may_be_no_queue)
{
    set_route(0, 0, 0);
    ck_assert_str_eq(pick(NULL, NULL), "none");
    ck_assert_str_eq(pick("key", NULL), "none");
    ck_assert_uint_eq(turn, 0);
    set_route(3, 1, 0);
    targets[0].addr[0] = '\0';
    ck_assert_str_eq(pick(NULL, NULL), "b0");
    ck_assert_str_eq(pick("TagA", NULL), "b0");
}
END_TEST

/*
 * A topic that the send creates has so many queues as the producer says, not those of the template.
 */
START_TEST(a_new_topic_has_the_producers_queues)
{
    set_route(8, 1, 0);
    route.is_template = true;
    ck_assert_str_eq(pick(NULL, NULL), "a0");
    ck_assert_str_eq(pick(NULL, NULL), "a1");
    ck_assert_str_eq(pick(NULL, NULL), "b0");
    ck_assert_str_eq(pick(NULL, NULL), "a0");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {queues_take_turns, a_key_has_one_queue,
                                  a_broker_that_failed_is_avoided, there_may_be_no_queue,
                                  a_new_topic_has_the_producers_queues};

    return client_main("client_pick", tests, sizeof tests / sizeof tests[0]);
}
