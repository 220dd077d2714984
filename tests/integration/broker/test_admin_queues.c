/* What administration tools ask about queues, groups and topics, and change in them. */
#include "tests/integration/broker/admin_client.h"

#include "core/base/bytes.h"
#include "core/proto/body_queues.h"

static struct broker_fixture f;

static void start(struct client *c)
{
    broker_fixture_start(&f, NULL);
    client_open(c, f.port, HEADER_JSON);
    client_topic(c, "T", 2);
}

static void stop(struct client *c)
{
    client_close(c);
    broker_fixture_stop(&f);
}

/* The row of a queue in a decoded table, which must have it. */
static struct queue_stats row_of(const struct queue_table *table, const char *topic, int32_t queue)
{
    for (size_t i = 0; i < table->count; i++) {
        if (slice_eq_str(table->rows[i].queue.topic, topic) &&
            table->rows[i].queue.queue_id == queue) {
            return table->rows[i];
        }
    }
    ck_abort_msg("no row of %s %d", topic, queue);
}

START_TEST(where_queues_and_groups_stand)
{
    /* Three messages in queue 0, one of them consumed; the other queue is empty. */
    struct client c;
    struct queue_table table;
    struct queue_stats row;

    start(&c);
    for (int i = 0; i < 3; i++) {
        send_tagged(&c, "T", "a");
    }
    commit(&c, "g", "T", 1);
    ck_assert_int_eq(ask(&c, REQUEST_GET_TOPIC_STATS_INFO, "topic", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(queue_table_decode(c.body, QUEUE_TABLE_TOPIC, &table), 0);
    ck_assert_uint_eq(table.count, 2);
    row = row_of(&table, "T", 0);
    ck_assert_int_eq(row.min_offset, 0);
    ck_assert_int_eq(row.max_offset, 3);
    ck_assert_int_gt(row.last_ms, 0);
    ck_assert(slice_eq_str(row.queue.broker_name, "escrow-a"));
    ck_assert_int_eq(row_of(&table, "T", 1).max_offset, 0);
    ck_assert_int_eq(row_of(&table, "T", 1).last_ms, 0);
    queue_table_fini(&table);

    ck_assert_int_eq(ask(&c, REQUEST_GET_CONSUME_STATS, "consumerGroup", "g"), RESPONSE_SUCCESS);
    ck_assert_int_eq(queue_table_decode(c.body, QUEUE_TABLE_CONSUME, &table), 0);
    ck_assert_uint_eq(table.count, 2);
    row = row_of(&table, "T", 0);
    ck_assert_int_eq(row.max_offset, 3);
    ck_assert_int_eq(row.consumer_offset, 1);
    ck_assert_int_eq(row.pull_offset, 1);
    ck_assert_int_gt(row.last_ms, 0);
    ck_assert_int_eq(row_of(&table, "T", 1).last_ms, 0);
    queue_table_fini(&table);

    ck_assert_int_eq(client_heartbeat(&c, "me", NULL, "h", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(ask(&c, REQUEST_GET_CONSUME_STATS, "consumerGroup", "h"), RESPONSE_SUCCESS);
    ck_assert_int_eq(queue_table_decode(c.body, QUEUE_TABLE_CONSUME, &table), 0);
    ck_assert_uint_eq(table.count, 2);
    ck_assert_int_eq(row_of(&table, "T", 0).consumer_offset, 0);
    queue_table_fini(&table);

    ck_assert_int_eq(ask(&c, REQUEST_GET_BROKER_CONSUME_STATS, "isOrder", "false"),
                     RESPONSE_SUCCESS);
    expect_body(&c, "\"g\":[{\"consumeTps\":0.000");
    expect_body(&c, "\"h\":[{");
    expect_body(&c, "\"totalDiff\":5,\"totalInflightDiff\":0");
    ck_assert_int_eq(ask(&c, REQUEST_GET_BROKER_CONSUME_STATS, "isOrder", "true"),
                     RESPONSE_SUCCESS);
    expect_body(&c, "\"consumeStatsList\":[]");
    ck_assert_int_eq(ask(&c, REQUEST_GET_TOPIC_STATS_INFO, "topic", "None"),
                     RESPONSE_TOPIC_NOT_EXIST);
    ck_assert_int_eq(ask(&c, REQUEST_GET_CONSUME_STATS, "consumerGroup", "none"), RESPONSE_SUCCESS);
    expect_body(&c, "\"offsetTable\":{}");
    stop(&c);
}
END_TEST

START_TEST(a_topic_with_the_most_queues_takes_several_turns)
{
    /* More rows than one turn looks at, after a restart: their records come from the disk. */
    struct client c;
    struct queue_table table;

    start(&c);
    client_topic(&c, "Wide", 1000);
    for (int32_t q = 0; q < 1000; q++) {
        client_put_send(&c,
                        &(struct test_message){.topic = "Wide", .body = SLICE_LIT("x"), .queue = q},
                        HEADER_FLAG_ONEWAY);
    }
    (void)client_send(&c, &(struct test_message){.topic = "Wide", .body = SLICE_LIT("x")});
    client_close(&c);
    broker_fixture_stop(&f);
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(ask(&c, REQUEST_GET_TOPIC_STATS_INFO, "topic", "Wide"), RESPONSE_SUCCESS);
    ck_assert_int_eq(queue_table_decode(c.body, QUEUE_TABLE_TOPIC, &table), 0);
    ck_assert_uint_eq(table.count, 1000);
    for (size_t i = 0; i < table.count; i++) {
        ck_assert_int_eq(table.rows[i].max_offset, table.rows[i].queue.queue_id == 0 ? 2 : 1);
        ck_assert_int_gt(table.rows[i].last_ms, 0);
    }
    queue_table_fini(&table);
    stop(&c);
}
END_TEST

static int32_t ask_traffic(struct client *c, const char *name, const char *key)
{
    struct header_writer *w = client_begin(c, REQUEST_VIEW_BROKER_STATS_DATA, 0);

    header_put_str(w, "statsName", slice_str(name));
    header_put_str(w, "statsKey", slice_str(key));
    return client_call(c, SLICE_EMPTY);
}

START_TEST(what_goes_in_and_out_is_counted)
{
    /* Messages of a topic when they are visible, of a group when they are handed out. */
    struct client c;

    start(&c);
    ck_assert_int_eq(ask_traffic(&c, "TOPIC_PUT_NUMS", "T"), RESPONSE_SYSTEM_ERROR);
    for (int i = 0; i < 3; i++) {
        send_tagged(&c, "T", "a");
    }
    ck_assert_int_eq(
        client_pull(&c, &(struct test_pull){.group = "g", .topic = "T", .offset = 1, .count = 10}),
        RESPONSE_SUCCESS);
    ck_assert_int_eq(ask_traffic(&c, "TOPIC_PUT_NUMS", "T"), RESPONSE_SUCCESS);
    expect_body(&c, "{\"statsDay\":{\"sum\":3,");
    ck_assert_int_eq(ask_traffic(&c, "GROUP_GET_NUMS", "T@g"), RESPONSE_SUCCESS);
    expect_body(&c, "{\"statsDay\":{\"sum\":2,");
    ck_assert_int_eq(ask_traffic(&c, "BROKER_PUT_NUMS", "DefaultCluster"), RESPONSE_SUCCESS);
    expect_body(&c, "{\"statsDay\":{\"sum\":3,");
    ck_assert_int_eq(ask_traffic(&c, "GROUP_GET_NUMS", "T@"), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(ask_traffic(&c, "GROUP_GET_NUMS", "T@h"), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(ask_traffic(&c, "TOPIC_PUT_NUMS", "T@g"), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(ask_traffic(&c, "TOPIC_PUT_SIZE", "T"), RESPONSE_SYSTEM_ERROR);
    stop(&c);
}
END_TEST

START_TEST(entries_of_a_queue_are_listed)
{
    /* From an index on, with what the group's filter says to each. */
    struct client c;
    struct header_writer *w;

    start(&c);
    send_tagged(&c, "T", "a");
    send_tagged(&c, "T", "b");
    (void)client_begin(&c, REQUEST_HEART_BEAT, 0);
    ck_assert_int_eq(
        client_call(&c, SLICE_LIT("{\"clientID\":\"me@1\",\"consumerDataSet\":[{\"groupName\":"
                                  "\"cg\",\"subscriptionDataSet\":[{\"topic\":\"T\","
                                  "\"subString\":\"b\",\"subVersion\":7}]}]}")),
        RESPONSE_SUCCESS);
    w = client_begin(&c, REQUEST_QUERY_CONSUME_QUEUE, 0);
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "index", 0);
    header_put_i64(w, "count", 10);
    header_put_str(w, "consumerGroup", SLICE_LIT("cg"));
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    expect_body(&c, "{\"maxQueueIndex\":2,\"minQueueIndex\":0,\"queueData\":[{\"eval\":false,");
    expect_body(&c, "\"tagsCode\":97},{\"eval\":true,");
    expect_body(&c, "\"tagsCode\":98}],\"subscriptionData\":{");
    w = client_begin(&c, REQUEST_QUERY_CONSUME_QUEUE, 0);
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 1);
    header_put_i64(w, "index", 0);
    header_put_i64(w, "count", 10);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SYSTEM_ERROR);
    stop(&c);
}
END_TEST

struct test_reset {
    const char *group;
    int64_t time_ms;
    int32_t queue;
    int64_t offset;
    bool is_forced;
};

static int32_t reset(struct client *c, const struct test_reset *r)
{
    struct header_writer *w = client_begin(c, REQUEST_INVOKE_BROKER_TO_RESET_OFFSET, 0);

    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_str(w, "group", slice_str(r->group));
    header_put_i64(w, "timestamp", r->time_ms);
    header_put_bool(w, "isForce", r->is_forced);
    header_put_i64(w, "queueId", r->queue);
    header_put_i64(w, "offset", r->offset);
    return client_call(c, SLICE_EMPTY);
}

START_TEST(offsets_of_a_group_that_is_not_there_are_set)
{
    /* To the end, to the beginning, to an offset, never forward unless forced; and it lasts. */
    struct client c;

    start(&c);
    for (int i = 0; i < 3; i++) {
        send_tagged(&c, "T", "a");
    }
    ck_assert_int_eq(reset(&c, &(struct test_reset){"g", -1, -1, -1, true}), RESPONSE_SUCCESS);
    expect_body(&c,
                "{\"offsetTable\":{{\"brokerName\":\"escrow-a\",\"queueId\":0,\"topic\":\"T\"}:3,"
                "{\"brokerName\":\"escrow-a\",\"queueId\":1,\"topic\":\"T\"}:0}}");
    ck_assert_int_eq(committed(&c, "g", 0), 3);
    ck_assert_int_eq(committed(&c, "g", 1), 0);
    ck_assert_int_eq(reset(&c, &(struct test_reset){"g", 0, -1, -1, false}), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(&c, "g", 0), 0);
    ck_assert_int_eq(reset(&c, &(struct test_reset){"g", -1, -1, -1, false}), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(&c, "g", 0), 0);
    ck_assert_int_eq(reset(&c, &(struct test_reset){"g", 0, 0, 2, true}), RESPONSE_SUCCESS);
    ck_assert_int_eq(reset(&c, &(struct test_reset){"g", 0, 0, 4, true}),
                     RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(reset(&c, &(struct test_reset){"g", 0, 2, -1, true}),
                     RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(reset(&c, &(struct test_reset){"g", 0, -1, 1, true}),
                     RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(reset(&c, &(struct test_reset){"a b", 0, -1, -1, true}),
                     RESPONSE_INVALID_PARAMETER);
    client_close(&c);
    broker_fixture_kill(&f); /* what was answered is durable */
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(committed(&c, "g", 0), 2);
    stop(&c);
}
END_TEST

/* HEART_BEAT of a consumer of group g, as the C++ client sends it. */
static void heartbeat_as_cpp(struct client *c)
{
    static const char head[] =
        "{\"code\":34,\"extFields\":{},\"flag\":0,\"language\":\"CPP\","
        "\"opaque\":77,\"serializeTypeCurrentRPC\":\"JSON\",\"version\":333}";
    static const char body[] = "{\"clientID\":\"cpp\",\"consumerDataSet\":[{\"groupName\":\"g\","
                               "\"subscriptionDataSet\":[{\"topic\":\"T\",\"subString\":\"*\"}]}]}";
    uint8_t prefix[8];

    put_be32(prefix, (uint32_t)(4 + sizeof head - 1 + sizeof body - 1));
    put_be32(prefix + 4, (uint32_t)(sizeof head - 1));
    ck_assert_int_eq(client_raw(c, prefix, sizeof prefix), 0);
    ck_assert_int_eq(client_raw(c, head, sizeof head - 1), 0);
    ck_assert_int_eq(client_raw(c, body, sizeof body - 1), 0);
    do {
        ck_assert_int_eq(client_receive(c, CLIENT_WAIT_MS), 0);
    } while (c->header.opaque != 77);
    ck_assert_int_eq(c->header.code, RESPONSE_SUCCESS);
}

START_TEST(a_member_written_in_c_plus_plus_is_told_in_its_own_form)
{
    /* Its reader knows a list of queues, not an object as a key. */
    struct client c;
    struct client member;

    start(&c);
    send_tagged(&c, "T", "a");
    client_open(&member, f.port, HEADER_JSON);
    heartbeat_as_cpp(&member);
    ck_assert_int_eq(reset(&c, &(struct test_reset){"g", -1, 0, -1, true}), RESPONSE_SUCCESS);
    do {
        ck_assert_int_eq(client_receive(&member, CLIENT_WAIT_MS), 0);
    } while (member.header.code != REQUEST_RESET_CONSUMER_CLIENT_OFFSET);
    expect_body(&member,
                "{\"offsetTable\":[{\"brokerName\":\"escrow-a\",\"offset\":1,\"queueId\":0,"
                "\"topic\":\"T\"}]}");
    client_close(&member);
    stop(&c);
}
END_TEST

START_TEST(members_are_told_of_new_offsets)
{
    /* Down the connection of each; broadcast offsets are not ours. */
    struct client c;
    struct client member;
    struct queue_table table;

    start(&c);
    send_tagged(&c, "T", "a");
    client_open(&member, f.port, HEADER_JSON);
    ck_assert_int_eq(client_heartbeat(&member, "me", NULL, "g", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(reset(&c, &(struct test_reset){"g", -1, -1, -1, true}), RESPONSE_SUCCESS);
    do {
        ck_assert_int_eq(client_receive(&member, CLIENT_WAIT_MS), 0);
    } while (member.header.code != REQUEST_RESET_CONSUMER_CLIENT_OFFSET);
    ck_assert(header_is_oneway(&member.header));
    ck_assert(slice_eq_str(header_str(&member.header, "topic"), "T"));
    ck_assert(slice_eq_str(header_str(&member.header, "group"), "g"));
    ck_assert(slice_eq_str(header_str(&member.header, "timestamp"), "-1"));
    ck_assert(slice_eq_str(header_str(&member.header, "isForce"), "true"));
    ck_assert_int_eq(queue_table_decode(member.body, QUEUE_TABLE_OFFSETS, &table), 0);
    ck_assert_int_eq(row_of(&table, "T", 0).consumer_offset, 1);
    queue_table_fini(&table);
    ck_assert_int_eq(committed(&c, "g", 0), 1);

    (void)client_begin(&member, REQUEST_HEART_BEAT, 0);
    ck_assert_int_eq(
        client_call(&member,
                    SLICE_LIT("{\"clientID\":\"me\",\"consumerDataSet\":[{\"groupName\":\"all\","
                              "\"messageModel\":\"BROADCASTING\",\"subscriptionDataSet\":[]}]}")),
        RESPONSE_SUCCESS);
    ck_assert_int_eq(reset(&c, &(struct test_reset){"all", -1, -1, -1, true}), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_receive(&member, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(member.header.code, REQUEST_RESET_CONSUMER_CLIENT_OFFSET);
    ck_assert_int_eq(committed(&c, "all", 0), -1);
    client_close(&member);
    stop(&c);
}
END_TEST

static int32_t update_group(struct client *c, const char *config)
{
    (void)client_begin(c, REQUEST_UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, 0);
    return client_call(c, slice_str(config));
}

/* offsets: the field that says to delete them too, as 4.x or 5.x names it; NULL: keep them. */
static int32_t delete_group(struct client *c, const char *group, const char *offsets)
{
    struct header_writer *w = client_begin(c, REQUEST_DELETE_SUBSCRIPTIONGROUP, 0);

    header_put_str(w, "groupName", slice_str(group));
    if (offsets != NULL) {
        header_put_bool(w, offsets, true);
    }
    return client_call(c, SLICE_EMPTY);
}

START_TEST(a_group_is_configured_and_deleted_for_good)
{
    /* What was answered outlives a kill, from the log and from a checkpoint alike. */
    const struct test_pull pull = {.group = "g", .topic = "T", .offset = 0, .count = 1};
    struct client c;

    start(&c);
    send_tagged(&c, "T", "a");
    ck_assert_int_eq(ask(&c, REQUEST_GET_SUBSCRIPTIONGROUP_CONFIG, "group", "g"),
                     RESPONSE_SUBSCRIPTION_GROUP_NOT_EXIST);
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_SUCCESS);
    commit(&c, "g", "T", 1);
    ck_assert_int_eq(ask(&c, REQUEST_GET_SUBSCRIPTIONGROUP_CONFIG, "group", "g"), RESPONSE_SUCCESS);
    expect_body(&c, "\"retryMaxTimes\":16");
    ck_assert_int_eq(update_group(&c,
                                  "{\"groupName\":\"g\",\"retryMaxTimes\":3,\"retryQueueNums\":2,"
                                  "\"consumeEnable\":false}"),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_NO_PERMISSION);
    ck_assert_int_eq(update_group(&c, "{\"groupName\":\"a b\"}"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(update_group(&c, "{\"groupName\":\"g\",\"retryQueueNums\":1025}"),
                     RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(update_group(&c, "{}"), RESPONSE_INVALID_PARAMETER);
    for (int i = 0; i < 2; i++) { /* replayed, then loaded */
        client_close(&c);
        if (i == 0) {
            broker_fixture_kill(&f);
        } else {
            broker_fixture_stop(&f);
        }
        broker_fixture_launch(&f);
        client_open(&c, f.port, HEADER_JSON);
        ck_assert_int_eq(ask(&c, REQUEST_GET_ALL_SUBSCRIPTIONGROUP_CONFIG, "x", "x"),
                         RESPONSE_SUCCESS);
        expect_body(&c, "\"retryMaxTimes\":3");
        ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_NO_PERMISSION);
    }
    ck_assert_int_eq(client_heartbeat(&c, "me", NULL, "g", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(ask(&c, REQUEST_GET_TOPIC_CONFIG, "topic", "%RETRY%g"), RESPONSE_SUCCESS);
    expect_body(&c, "\"readQueueNums\":2");

    ck_assert_int_eq(update_group(&c, "{\"groupName\":\"g\",\"retryMaxTimes\":0}"),
                     RESPONSE_SUCCESS);
    (void)client_send(&c, &(struct test_message){
                              .topic = "%RETRY%g", .body = SLICE_LIT("x"), .reconsume_times = 1});
    ck_assert_int_eq(client_max_offset(&c, "%DLQ%g", 0), 1); /* no retries: dead at once */

    ck_assert_int_eq(delete_group(&c, "g", NULL), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(&c, "g", 0), 1);
    ck_assert_int_eq(delete_group(&c, "g", "removeOffset"), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(&c, "g", 0), -1);
    commit(&c, "g", "T", 1);
    ck_assert_int_eq(delete_group(&c, "g", "cleanOffset"), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(&c, "g", 0), -1);
    client_close(&c);
    broker_fixture_kill(&f);
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(committed(&c, "g", 0), -1);
    ck_assert_int_eq(ask(&c, REQUEST_GET_SUBSCRIPTIONGROUP_CONFIG, "group", "g"),
                     RESPONSE_SUBSCRIPTION_GROUP_NOT_EXIST);
    stop(&c);
}
END_TEST

START_TEST(what_a_group_has_for_others_is_kept_for_good)
{
    /* Attributes, retry policy and subscriptions; shown by 352 and 201, after a kill and a stop. */
    static const char *const kept[] = {
        "\"attributes\":{\"priority.factor\":\"7\"}",
        "\"exponentialRetryPolicy\":{\"initial\":100,\"max\":7200000,\"multiplier\":3}",
        "\"type\":\"EXPONENTIAL\"",
        "\"subscriptionDataSet\":[{\"expression\":\"*\",\"expressionType\":\"TAG\",\"topic\":\"T\"",
    };
    struct client c;

    start(&c);
    ck_assert_int_eq(
        update_group(
            &c, "{\"groupName\":\"g\",\"attributes\":{\"+priority.factor\":\"7\",\"+x\":\"y\"},"
                "\"groupRetryPolicy\":{\"type\":\"EXPONENTIAL\",\"exponentialRetryPolicy\":"
                "{\"initial\":100,\"multiplier\":3}},\"nobodyKnows\":[{\"this\":1}],"
                "\"subscriptionDataSet\":[{\"topic\":\"T\",\"expressionType\":\"TAG\","
                "\"expression\":\"*\",\"version\":1}]}"),
        RESPONSE_SUCCESS);
    ck_assert_int_eq(
        update_group(&c,
                     "{\"groupName\":\"g\",\"attributes\":{\"-x\":\"\"},"
                     "\"groupRetryPolicy\":{\"type\":\"EXPONENTIAL\",\"exponentialRetryPolicy\":"
                     "{\"initial\":100,\"multiplier\":3}},"
                     "\"subscriptionDataSet\":[{\"topic\":\"T\",\"expressionType\":\"TAG\","
                     "\"expression\":\"*\",\"version\":1}]}"),
        RESPONSE_SUCCESS);
    ck_assert_int_eq(update_group(&c, "{\"groupName\":\"g\",\"attributes\":{\"-x\":\"\"}}"),
                     RESPONSE_INVALID_PARAMETER);
    for (int i = 0; i < 3; i++) { /* live, replayed, loaded */
        for (size_t k = 0; k < sizeof kept / sizeof kept[0]; k++) {
            ck_assert_int_eq(ask(&c, REQUEST_GET_SUBSCRIPTIONGROUP_CONFIG, "group", "g"),
                             RESPONSE_SUCCESS);
            expect_body(&c, kept[k]);
            ck_assert_int_eq(ask(&c, REQUEST_GET_ALL_SUBSCRIPTIONGROUP_CONFIG, "x", "x"),
                             RESPONSE_SUCCESS);
            expect_body(&c, kept[k]);
        }
        client_close(&c);
        if (i == 0) {
            broker_fixture_kill(&f);
        } else {
            broker_fixture_stop(&f);
        }
        broker_fixture_launch(&f);
        client_open(&c, f.port, HEADER_JSON);
    }
    stop(&c);
}
END_TEST

START_TEST(a_topic_is_deleted_with_what_was_in_it)
{
    /*
     * Through a kill and a restart; one of that name that comes later has nothing of the old one.
     */
    const struct test_pull pull = {.group = "h", .topic = "T", .offset = 0, .count = 10};
    struct client c;

    start(&c);
    for (int i = 0; i < 3; i++) {
        send_tagged(&c, "T", "a");
    }
    commit(&c, "g", "T", 3);
    ck_assert_int_eq(ask(&c, REQUEST_DELETE_TOPIC_IN_BROKER, "topic", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_TOPIC_NOT_EXIST);
    ck_assert_int_eq(ask(&c, REQUEST_GET_TOPIC_CONFIG, "topic", "T"), RESPONSE_TOPIC_NOT_EXIST);
    ck_assert_int_eq(ask(&c, REQUEST_DELETE_TOPIC_IN_BROKER, "topic", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(ask(&c, REQUEST_DELETE_TOPIC_IN_BROKER, "topic", "TBW102"),
                     RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(ask(&c, REQUEST_DELETE_TOPIC_IN_NAMESRV, "topic", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(ask(&c, REQUEST_GET_ROUTEINFO_BY_TOPIC, "topic", "T"),
                     RESPONSE_TOPIC_NOT_EXIST);
    for (int i = 0; i < 2; i++) { /* replayed, then loaded */
        client_close(&c);
        if (i == 0) {
            broker_fixture_kill(&f);
        } else {
            broker_fixture_stop(&f);
        }
        broker_fixture_launch(&f);
        client_open(&c, f.port, HEADER_JSON);
        ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_TOPIC_NOT_EXIST);
    }
    client_topic(&c, "T", 2);
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_PULL_OFFSET_MOVED);
    ck_assert(slice_eq_str(header_str(&c.header, "nextBeginOffset"), "3"));
    ck_assert_int_eq(
        client_send(&c, &(struct test_message){.topic = "T", .body = SLICE_LIT("new")}), 3);
    ck_assert_int_eq(
        client_pull(&c, &(struct test_pull){.group = "g", .topic = "T", .offset = 3, .count = 10}),
        RESPONSE_SUCCESS);
    expect_body(&c, "new");
    ck_assert_int_eq(committed(&c, "g", 0), 3);
    stop(&c);
}
END_TEST

/* Messages that the answer to 202 says are there. */
static int64_t visible_now(const struct client *c)
{
    struct queue_table table;
    int64_t count = 0;

    ck_assert_int_eq(queue_table_decode(c->body, QUEUE_TABLE_TOPIC, &table), 0);
    for (size_t i = 0; i < table.count; i++) {
        count += table.rows[i].max_offset - table.rows[i].min_offset;
    }
    queue_table_fini(&table);
    return count;
}

START_TEST(nothing_enters_a_topic_that_is_being_deleted)
{
    /* Requests that are handled together with the deletion: refused, or stored before it. */
    struct client c;

    start(&c);
    for (int i = 0; i < 20; i++) {
        const struct test_message m = {.topic = "T", .body = SLICE_LIT("x")};
        struct header_writer *w;
        int refused = 0;
        client_put_send(&c, &m, 0);
        w = client_begin(&c, REQUEST_DELETE_TOPIC_IN_BROKER, 0);
        header_put_str(w, "topic", SLICE_LIT("T"));
        client_finish(&c, SLICE_EMPTY);
        client_put_send(&c, &m, 0);
        ck_assert_int_eq(client_flush(&c), 0);
        for (int answers = 0; answers < 3; answers++) {
            ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
            refused += c.header.code == RESPONSE_SYSTEM_BUSY ? 1 : 0;
            ck_assert(c.header.code == RESPONSE_SYSTEM_BUSY || c.header.code == RESPONSE_SUCCESS);
        }
        client_topic(&c, "T", 2);
        ck_assert_int_eq(ask(&c, REQUEST_GET_TOPIC_STATS_INFO, "topic", "T"), RESPONSE_SUCCESS);
        /* a send behind the deletion is refused, or made the topic anew and is there */
        ck_assert_int_le(refused, 1);
        ck_assert_int_eq(visible_now(&c), 1 - refused);
        (void)ask(&c, REQUEST_DELETE_TOPIC_IN_BROKER, "topic", "T");
        client_topic(&c, "T", 2);
    }
    stop(&c);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, where_queues_and_groups_stand);
    tcase_add_test(tc, a_topic_with_the_most_queues_takes_several_turns);
    tcase_add_test(tc, what_goes_in_and_out_is_counted);
    tcase_add_test(tc, entries_of_a_queue_are_listed);
    tcase_add_test(tc, offsets_of_a_group_that_is_not_there_are_set);
    tcase_add_test(tc, a_member_written_in_c_plus_plus_is_told_in_its_own_form);
    tcase_add_test(tc, members_are_told_of_new_offsets);
    tcase_add_test(tc, a_group_is_configured_and_deleted_for_good);
    tcase_add_test(tc, what_a_group_has_for_others_is_kept_for_good);
    tcase_add_test(tc, a_topic_is_deleted_with_what_was_in_it);
    tcase_add_test(tc, nothing_enters_a_topic_that_is_being_deleted);
}

int main(void)
{
    return broker_fixture_main("admin_queues", 60, add_tests);
}
