/* Consumers of a broker that falls silent, lost messages, or moved to another address. */
#include "tests/integration/client/fake_broker.h"
#include "tests/integration/client/rig.h"

#include <string.h>

static const struct escrow_option quick[] = {{"commit.ms", "20"}, {NULL, NULL}};
static const struct escrow_option last[] = {{"commit.ms", "20"}, {"from", "last"}, {NULL, NULL}};

static struct fake_broker fake;
static struct bag bag;
static struct escrow_client *client;
static struct escrow_consumer *consumer;

static void start_with(const struct escrow_option *client_options,
                       const struct escrow_option *options)
{
    bag_init(&bag);
    client = rig_client_with(fake.addr, client_options);
    consumer = rig_consume(client, FAKE_GROUP, FAKE_TOPIC, "*", options, bag_handler, &bag);
}

static void end(void)
{
    escrow_consumer_free(&consumer);
    escrow_client_free(&client);
    bag_fini(&bag);
    fake_stop(&fake);
}

/*
 * A broker that keeps its connection and says nothing any more: after 10 s the client connects
 * anew, is a member again, and goes on where it was.
 */
START_TEST(a_silent_broker_is_connected_anew)
{
    const struct escrow_option often[] = {{"heartbeat.ms", "1000"}, {NULL, NULL}};
    uint64_t accepted;

    fake_start(&fake, 0, 3, 0);
    start_with(often, quick);
    bag_wait_for(&bag, "m2");
    fake_wait_stored(&fake, 3);
    accepted = fake_read(&fake, &fake.accepted);
    fake_fall_silent(&fake);
    fake_set_range(&fake, 0, 6);
    fake_wait(&fake, &fake.closed, 1);
    bag_wait_for(&bag, "m5");
    fake_wait_stored(&fake, 6);
    ck_assert_uint_gt(fake_read(&fake, &fake.accepted), accepted);
    ck_assert_uint_eq(bag_count(&bag), 6);
    end();
}
END_TEST

/* A pull that is kept waiting is no silence while heartbeats are answered. */
START_TEST(a_broker_with_nothing_to_say_is_kept)
{
    const struct escrow_option often[] = {{"heartbeat.ms", "500"}, {NULL, NULL}};
    uint64_t pings;

    fake_start(&fake, 0, 1, 0);
    start_with(often, quick);
    bag_wait_for(&bag, "m0");
    pings = fake_read(&fake, &fake.pings);
    fake_wait(&fake, &fake.pings, pings + 25); /* 12 s: more than the silence that counts */
    ck_assert_uint_eq(fake_read(&fake, &fake.closed), 0);
    end();
}
END_TEST

/* What the group stood at was removed: it goes on with the oldest message that is left. */
START_TEST(an_offset_below_the_queue_moves_up)
{
    fake_start(&fake, 1000, 1003, 5);
    start_with(NULL, quick);
    bag_wait_for(&bag, "m1002");
    fake_wait_stored(&fake, 1003);
    ck_assert_uint_eq(bag_count(&bag), 3);
    end();
}
END_TEST

/* The broker has less than the group has seen: it goes on at the end of what is there. */
START_TEST(an_offset_above_the_queue_moves_down)
{
    fake_start(&fake, 0, 10, 500);
    start_with(NULL, quick);
    fake_wait_stored(&fake, 10);
    fake_set_range(&fake, 0, 12);
    bag_wait_for(&bag, "m11");
    fake_wait_stored(&fake, 12);
    ck_assert_uint_eq(bag_count(&bag), 2);
    end();
}
END_TEST

/* Messages go while the consumer waits for more: the same, without a restart. */
START_TEST(an_offset_may_move_while_a_pull_waits)
{
    fake_start(&fake, 0, 4, 0);
    start_with(NULL, quick);
    bag_wait_for(&bag, "m3");
    fake_set_range(&fake, 50, 51);
    bag_wait_for(&bag, "m50");
    fake_wait_stored(&fake, 51);
    ck_assert_uint_eq(bag_count(&bag), 5);
    end();
}
END_TEST

/* A broker that says OFFSET_MOVED to whatever it is asked is asked ever more rarely. */
START_TEST(an_offset_that_moves_all_the_time_is_no_busy_loop)
{
    static const int64_t to[] = {7, -1, INT64_MAX};

    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
        uint64_t pulls;
        uint64_t pings;
        const struct escrow_option often[] = {{"heartbeat.ms", "100"}, {NULL, NULL}};
        fake_start(&fake, 0, 1, 5);
        fake_move_to(&fake, to[i]);
        start_with(often, last);
        fake_wait(&fake, &fake.pulls, 2);
        pings = fake_read(&fake, &fake.pings);
        fake_wait(&fake, &fake.pings, pings + 10); /* a second */
        pulls = fake_read(&fake, &fake.pulls);
        ck_assert_msg(pulls < 30, "%llu pulls, to %lld", (unsigned long long)pulls,
                      (long long)to[i]);
        end();
    }
}
END_TEST

/* The broker is at another address: the consumer asks the name server, and goes on there. */
START_TEST(a_broker_that_moved_is_found)
{
    struct fake_broker moved;

    fake_start(&fake, 0, 0, 0); /* from now on only the name server */
    fake_start(&moved, 0, 3, 0);
    fake_set_route(&fake, moved.addr);
    start_with(NULL, quick);
    bag_wait_for(&bag, "m2");
    fake_wait_stored(&moved, 3);
    fake_stop(&moved);
    fake_start(&moved, 0, 6, 3);
    fake_set_route(&fake, moved.addr);
    bag_wait_for(&bag, "m5");
    fake_wait_stored(&moved, 6);
    ck_assert_uint_eq(bag_count(&bag), 6);
    escrow_consumer_free(&consumer);
    fake_stop(&moved);
    end();
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, a_silent_broker_is_connected_anew);
    tcase_add_test(tc, a_broker_with_nothing_to_say_is_kept);
    tcase_add_test(tc, an_offset_below_the_queue_moves_up);
    tcase_add_test(tc, an_offset_above_the_queue_moves_down);
    tcase_add_test(tc, an_offset_may_move_while_a_pull_waits);
    tcase_add_test(tc, an_offset_that_moves_all_the_time_is_no_busy_loop);
    tcase_add_test(tc, a_broker_that_moved_is_found);
}

int main(void)
{
    return rig_main("client_trouble", add);
}
