#include "src/broker/clients.h"

#include "core/io_uv/clock_system.h"
#include "core/proto/tags.h"
#include "src/broker/broker.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

/* A broker with a loop and a table of clients, and sessions without a connection. */
static struct loop loop;
static struct broker broker;
static struct session sessions[4];

static void set_up(void)
{
    struct hash_key key = {7, 8};

    memset(&broker, 0, sizeof broker);
    memset(sessions, 0, sizeof sessions);
    ck_assert_int_eq(loop_init(&loop), 0);
    broker.loop = &loop;
    list_init(&broker.sessions);
    clients_init(&broker.clients, key);
    for (int i = 0; i < 4; i++) {
        sessions[i].magic = SESSION_MAGIC;
        sessions[i].broker = &broker;
        sessions[i].is_closed = true; /* pushes go nowhere */
        list_init(&sessions[i].roles);
        list_init(&sessions[i].pulls);
        list_init(&sessions[i].node);
        list_push(&broker.sessions, &sessions[i].node);
    }
}

static void tear_down(void)
{
    for (int i = 0; i < 4; i++) {
        clients_on_close(&broker, &sessions[i]);
    }
    ck_assert_uint_eq(broker.clients.producers.count, 0);
    ck_assert_uint_eq(broker.clients.consumers.count, 0);
    ck_assert_uint_eq(broker.clients.bytes, 0);
    clients_fini(&broker);
    loop_fini(&loop);
}

static int beat_producer(int s, const char *id, const char *group)
{
    struct slice name = slice_str(group);
    struct heartbeat hb = {
        .client_id = slice_str(id), .producer_groups = &name, .producer_count = 1};

    return clients_heartbeat(&broker, &sessions[s], &hb);
}

static const char *type_of_beats = "TAG";

/* A broadcasting consumer (which has no retry topic) of one topic, or none. */
static int beat_consumer(int s, const char *id, const char *group, const char *topic,
                         const char *expression, int64_t version)
{
    struct subscription sub = {.topic = topic == NULL ? SLICE_EMPTY : slice_str(topic),
                               .expression = slice_str(expression),
                               .expression_type = slice_str(type_of_beats),
                               .version = version};
    struct heartbeat_consumer consumer = {.group = slice_str(group),
                                          .model = MODEL_BROADCASTING,
                                          .subscriptions = &sub,
                                          .subscription_count = topic == NULL ? 0 : 1};
    struct heartbeat hb = {.client_id = slice_str(id), .consumers = &consumer, .consumer_count = 1};

    return clients_heartbeat(&broker, &sessions[s], &hb);
}

START_TEST(producers_are_asked_in_turn_and_leave_with_their_connection)
{
    /* Three connections of one group: each in turn; the turn survives that one goes. */
    struct session *first;
    struct session *second;

    set_up();
    for (int s = 0; s < 3; s++) {
        ck_assert_int_eq(beat_producer(s, "p", "pg"), 0);
        ck_assert_int_eq(beat_producer(s, "p", "pg"), 0); /* again: one role */
    }
    ck_assert_uint_eq(broker.clients.role_count, 3);
    first = clients_pick_producer(&broker, SLICE_LIT("pg"));
    second = clients_pick_producer(&broker, SLICE_LIT("pg"));
    ck_assert_ptr_ne(first, second);
    clients_on_close(&broker, clients_pick_producer(&broker, SLICE_LIT("pg")));
    for (int i = 0; i < 4; i++) {
        ck_assert_ptr_eq(clients_pick_producer(&broker, SLICE_LIT("pg")),
                         i % 2 == 0 ? first : second);
    }
    clients_on_close(&broker, first);
    clients_on_close(&broker, second);
    ck_assert_ptr_null(clients_pick_producer(&broker, SLICE_LIT("pg")));
    ck_assert_ptr_null(clients_find_producers(&broker, SLICE_LIT("pg")));
    tear_down();
}
END_TEST

START_TEST(newer_subscriptions_replace_older_ones)
{
    /* By version; what a heartbeat does not name any more is gone. */
    const struct client_group *group;
    const struct client_subscription *sub;

    set_up();
    ck_assert_int_eq(beat_consumer(0, "c", "g", "T", "a", 5), 0);
    ck_assert_int_eq(beat_consumer(0, "c", "g", "T", "b", 4), 0);
    group = clients_find_consumers(&broker, SLICE_LIT("g"));
    sub = clients_find_subscription(group, SLICE_LIT("T"));
    ck_assert_int_eq(sub->version, 5);
    ck_assert(filter_may_match(sub->filter, tag_code(SLICE_LIT("a"))));
    ck_assert(!filter_may_match(sub->filter, tag_code(SLICE_LIT("b"))));
    ck_assert_int_eq(beat_consumer(0, "c", "g", "T", "b", 6), 0);
    sub = clients_find_subscription(group, SLICE_LIT("T"));
    ck_assert(filter_may_match(sub->filter, tag_code(SLICE_LIT("b"))));
    ck_assert_int_eq(beat_consumer(0, "c", "g", "Other", "*", 7), 0);
    ck_assert_ptr_null(clients_find_subscription(group, SLICE_LIT("T")));
    ck_assert_uint_eq(group->subscription_count, 1);
    tear_down();
}
END_TEST

START_TEST(a_broken_expression_keeps_the_program_before_it)
{
    /* SQL92: version and error say what is there; of tags every message passes instead. */
    static const struct slice match = {(const uint8_t *)"a\x01"
                                                        "6",
                                       3};
    const struct client_subscription *sub;

    set_up();
    type_of_beats = "SQL92";
    ck_assert_int_eq(beat_consumer(0, "c", "g", "T", "a >", 5), 0);
    sub =
        clients_find_subscription(clients_find_consumers(&broker, SLICE_LIT("g")), SLICE_LIT("T"));
    ck_assert(!sub->is_tag);
    ck_assert_int_eq(sub->version, 5);
    ck_assert_ptr_null(sub->filter);
    ck_assert_ptr_nonnull(strstr(sub->filter_error, "column 4"));
    ck_assert_int_eq(beat_consumer(0, "c", "g", "T", "a > 5", 6), 0);
    ck_assert_ptr_null(sub->filter_error);
    ck_assert_int_eq(sub->filter_version, 6);
    ck_assert(filter_match(sub->filter, match));
    ck_assert_int_eq(beat_consumer(0, "c", "g", "T", "a < ", 7), 0);
    ck_assert_int_eq(sub->version, 7);
    ck_assert_int_eq(sub->filter_version, 6);
    ck_assert(filter_match(sub->filter, match));
    type_of_beats = "TAG";
    ck_assert_int_eq(beat_consumer(0, "c", "g", "T", " || ", 8), 0);
    ck_assert(sub->is_tag);
    ck_assert_int_eq(filter_type_of(sub->filter), FILTER_ALL);
    type_of_beats = "GROOVY";
    ck_assert_int_eq(beat_consumer(0, "c", "g", "T", "x", 9), 0);
    ck_assert(!sub->is_tag);
    ck_assert_ptr_null(sub->filter);
    tear_down();
    type_of_beats = "TAG";
}
END_TEST

START_TEST(members_leave_by_name_or_with_the_connection)
{
    /* Two client ids on one connection are two members. */
    const struct client_group *group;

    set_up();
    ck_assert_int_eq(beat_consumer(0, "a", "g", "T", "*", 1), 0);
    ck_assert_int_eq(beat_consumer(0, "b", "g", "T", "*", 1), 0);
    ck_assert_int_eq(beat_consumer(1, "c", "g", "T", "*", 1), 0);
    group = clients_find_consumers(&broker, SLICE_LIT("g"));
    ck_assert_uint_eq(group->role_count, 3);
    clients_unregister(&broker, &sessions[0], SLICE_LIT("b"), SLICE_EMPTY, SLICE_LIT("g"));
    clients_unregister(&broker, &sessions[0], SLICE_LIT("c"), SLICE_EMPTY,
                       SLICE_LIT("g")); /* not his */
    clients_unregister(&broker, &sessions[0], SLICE_LIT("a"), SLICE_LIT("g"),
                       SLICE_EMPTY); /* no producer */
    ck_assert_uint_eq(group->role_count, 2);
    clients_on_close(&broker, &sessions[0]);
    ck_assert_uint_eq(group->role_count, 1);
    tear_down();
}
END_TEST

START_TEST(memory_of_all_subscriptions_is_limited)
{
    /*
     * Long expressions of many groups: refused before they take more than all clients together may.
     */
    static char expression[4096];
    char group[32];
    size_t made = 0;
    int rc = 0;

    set_up();
    memset(expression, ' ', sizeof expression - 1);
    memcpy(expression, "a > 1", 5);
    type_of_beats = "SQL92";
    for (int g = 0; g < 4000 && rc == 0; g++) {
        (void)snprintf(group, sizeof group, "G%d", g);
        rc = beat_consumer(g % 4, "c", group, "T", expression, 1);
        made += rc == 0 ? 1 : 0;
    }
    type_of_beats = "TAG";
    ck_assert_int_eq(rc, ESCROW_ELIMIT);
    ck_assert_uint_gt(made, 500);
    ck_assert_uint_le(broker.clients.bytes, CLIENT_BYTES_MAX);
    ck_assert_int_eq(beat_consumer(0, "c", "G0", "T", "*", 2), 0); /* shorter: fits again */
    tear_down();
}
END_TEST

START_TEST(bad_heartbeats_leave_nothing_behind)
{
    /* Names, lengths, limits: refused; the group of a refused member does not stay. */
    char id[300];
    char group[16];

    memset(id, 'x', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    set_up();
    ck_assert_int_eq(beat_producer(0, "", "pg"), ESCROW_EINVAL);
    ck_assert_int_eq(beat_producer(0, id, "pg"), ESCROW_EINVAL);
    ck_assert_int_eq(beat_producer(0, "p", "no good!"), ESCROW_EINVAL);
    ck_assert_int_eq(beat_consumer(0, "c", "g", "no good!", "*", 1), ESCROW_EINVAL);
    clients_on_close(&broker, &sessions[0]);
    ck_assert_uint_eq(broker.clients.producers.count, 0);
    for (int i = 0; i < CLIENT_ROLES_OF_ONE_MAX; i++) {
        (void)snprintf(group, sizeof group, "g%d", i); /* fits */
        ck_assert_int_eq(beat_producer(0, "p", group), 0);
    }
    ck_assert_int_eq(beat_producer(0, "p", "one-more"), ESCROW_ELIMIT);
    ck_assert_ptr_null(clients_find_producers(&broker, SLICE_LIT("one-more")));
    ck_assert_int_eq(beat_producer(0, "p", "g7"), 0); /* a known one may repeat itself */
    ck_assert_int_eq(beat_producer(1, "p", "one-more"), 0);
    tear_down();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/clients");
    TCase *tc = tcase_create("clients");

    tcase_add_test(tc, producers_are_asked_in_turn_and_leave_with_their_connection);
    tcase_add_test(tc, newer_subscriptions_replace_older_ones);
    tcase_add_test(tc, a_broken_expression_keeps_the_program_before_it);
    tcase_add_test(tc, members_leave_by_name_or_with_the_connection);
    tcase_add_test(tc, memory_of_all_subscriptions_is_limited);
    tcase_add_test(tc, bad_heartbeats_leave_nothing_behind);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
