/* Clients that work together: queue locks, requests and replies. */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/proto/body_queues.h"
#include "core/proto/properties.h"
#include "core/proto/send_request.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <string.h>

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

/* How many of queues 0 to 2 of the topic the client is granted; queue 2 does not exist. */
static size_t lock_three(struct client *c, int32_t code, const char *client_id)
{
    static const char body[] =
        "{\"clientId\":\"%s\",\"consumerGroup\":\"g\",\"mqSet\":["
        "{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"T\"},"
        "{\"brokerName\":\"b\",\"queueId\":1,\"topic\":\"T\"},"
        "{\"brokerName\":\"b\",\"queueId\":2,\"topic\":\"T\"}],\"onlyThisBroker\":false}";
    char text[512];
    int len = snprintf(text, sizeof text, body, client_id);
    struct queue_set set;
    size_t count;

    ck_assert_int_gt(len, 0);
    (void)client_begin(c, code, 0);
    ck_assert_int_eq(client_call(c, slice_of(text, (size_t)len)), RESPONSE_SUCCESS);
    if (code == REQUEST_UNLOCK_BATCH_MQ) {
        return 0;
    }
    ck_assert_int_eq(queue_set_decode(c->body, &set), 0);
    count = set.count;
    queue_set_fini(&set);
    return count;
}

/* One-way, as consumers do it; what comes behind it on the connection finds it noted, or not. */
static void say_consumed(struct client *c, int64_t offset)
{
    struct header_writer *w = client_begin(c, REQUEST_UPDATE_CONSUMER_OFFSET, HEADER_FLAG_ONEWAY);

    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "commitOffset", offset);
    client_submit(c, SLICE_EMPTY);
}

static int64_t consumed(struct client *c)
{
    struct header_writer *w = client_begin(c, REQUEST_QUERY_CONSUMER_OFFSET, 0);
    int64_t offset = -1;

    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(header_get_i64(&c->header, "offset", &offset), 0);
    return offset;
}

START_TEST(a_consumer_that_is_ahead_goes_back_to_what_its_group_had_consumed)
{
    /*
     * As after the broker was put back to an older copy. What the consumer says of itself changes
     * nothing; a group without an offset is sent to the end.
     */
    struct client c;
    int64_t next = -1;

    start(&c);
    for (int i = 0; i < 5; i++) {
        (void)client_send(&c, &(struct test_message){.topic = "T", .body = SLICE_LIT("x")});
    }
    say_consumed(&c, 2);
    ck_assert_int_eq(consumed(&c), 2);
    say_consumed(&c, 70);
    ck_assert_int_eq(consumed(&c), 2);
    for (int i = 0; i < 2; i++) {
        struct test_pull pull = {i == 0 ? "g" : "other", "T", 0, 70, 10, 0};
        ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_PULL_OFFSET_MOVED);
        ck_assert_int_eq(header_get_i64(&c.header, "nextBeginOffset", &next), 0);
        ck_assert_int_eq(next, i == 0 ? 2 : 5);
    }
    ck_assert_int_eq(consumed(&c), 2);
    say_consumed(&c, 5);
    ck_assert_int_eq(consumed(&c), 5);
    ck_assert_int_eq(client_metric(&c, "pulls_beyond_end"), 3);
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "group g is ahead of topic T queue 0"));
    stop(&c);
}
END_TEST

START_TEST(a_locked_queue_is_refused_to_others_until_it_is_given_back)
{
    /* What an orderly consumer asks: two queues exist, one holder for each. */
    struct client c;

    start(&c);
    ck_assert_uint_eq(lock_three(&c, REQUEST_LOCK_BATCH_MQ, "one"), 2);
    ck_assert_uint_eq(lock_three(&c, REQUEST_LOCK_BATCH_MQ, "two"), 0);
    ck_assert_uint_eq(lock_three(&c, REQUEST_LOCK_BATCH_MQ, "one"), 2);
    (void)lock_three(&c, REQUEST_UNLOCK_BATCH_MQ, "two");
    ck_assert_uint_eq(lock_three(&c, REQUEST_LOCK_BATCH_MQ, "two"), 0);
    (void)lock_three(&c, REQUEST_UNLOCK_BATCH_MQ, "one");
    ck_assert_uint_eq(lock_three(&c, REQUEST_LOCK_BATCH_MQ, "two"), 2);
    stop(&c);
}
END_TEST

START_TEST(locks_without_a_group_or_a_client_are_refused)
{
    /* Hostile bodies change nothing. */
    static const char *const bodies[] = {
        "",
        "[]",
        "{\"clientId\":\"c\",\"mqSet\":[]}",
        "{\"consumerGroup\":\"g\",\"mqSet\":[]}",
        "{\"clientId\":\"c\",\"consumerGroup\":\"a b\",\"mqSet\":[]}",
    };
    struct client c;

    start(&c);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        (void)client_begin(&c, REQUEST_LOCK_BATCH_MQ, 0);
        ck_assert_int_ne(client_call(&c, slice_str(bodies[i])), RESPONSE_SUCCESS);
    }
    ck_assert_uint_eq(lock_three(&c, REQUEST_LOCK_BATCH_MQ, "one"), 2);
    stop(&c);
}
END_TEST

static int32_t reply(struct client *c, const char *properties)
{
    struct send_request req;
    struct header_writer *w = client_begin(c, REQUEST_SEND_REPLY_MESSAGE_V2, 0);

    send_request_init(&req);
    req.producer_group = SLICE_LIT("pg");
    req.topic = SLICE_LIT("DefaultCluster_REPLY_TOPIC");
    req.properties = slice_str(properties);
    req.queue_id = 0;
    req.born_ms = 7;
    send_request_encode(w, &req, true);
    return client_call(c, SLICE_LIT("answer"));
}

START_TEST(a_reply_goes_to_the_client_that_asked)
{
    /*
     * Down its connection, with the fields of a send by their long names; nobody there: an error.
     */
    struct client c;
    struct client asker;
    struct send_request got;
    struct slice id = SLICE_EMPTY;
    const char *field;

    start(&c);
    client_open(&asker, f.port, HEADER_JSON);
    (void)client_begin(&asker, REQUEST_HEART_BEAT, 0);
    ck_assert_int_eq(
        client_call(
            &asker,
            SLICE_LIT("{\"clientID\":\"me@1\",\"producerDataSet\":[{\"groupName\":\"ask\"}],"
                      "\"consumerDataSet\":[]}")),
        RESPONSE_SUCCESS);
    ck_assert_int_eq(reply(&c, "REPLY_TO_CLIENT\1nobody\2CORRELATION_ID\1c1\2"),
                     RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(reply(&c, "CORRELATION_ID\1c1\2"), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(reply(&c, "REPLY_TO_CLIENT\1me@1\2CORRELATION_ID\1c1\2"
                               "PUSH_REPLY_TIME\0015\2MSG_REGION\1mine\2"),
                     RESPONSE_SUCCESS);
    ck_assert(slice_eq_str(header_str(&c.header, "msgId"), "0"));

    ck_assert_int_eq(client_receive(&asker, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(asker.header.code, REQUEST_PUSH_REPLY_MESSAGE_TO_CLIENT);
    ck_assert(header_is_oneway(&asker.header));
    ck_assert(slice_eq_str(asker.body, "answer"));
    ck_assert_int_eq(send_request_decode(&asker.header, &got, &field), 0);
    ck_assert_int_eq(got.born_ms, 7);
    ck_assert(props_find(got.properties, prop_name(PROP_CORRELATION_ID), &id));
    ck_assert(slice_eq_str(id, "c1"));
    ck_assert_int_gt(props_find_i64(got.properties, prop_name(PROP_PUSH_REPLY_TIME), 0),
                     1600000000000);
    ck_assert(props_find(got.properties, prop_name(PROP_MSG_REGION), &id));
    ck_assert(slice_eq_str(id, "DefaultRegion"));
    ck_assert(props_find(got.properties, prop_name(PROP_TRACE_ON), &id));
    ck_assert(slice_eq_str(id, "true"));
    ck_assert_uint_eq(props_count(got.properties), 5); /* and the two that were sent: once each */
    ck_assert(header_find(&asker.header, SLICE_LIT("bornHost")) != NULL);
    ck_assert(header_find(&asker.header, SLICE_LIT("storeTimestamp")) != NULL);
    client_close(&asker);
    stop(&c);
}
END_TEST

/* The properties of the only message of queue 0, sent with this header type. */
static void stored_properties(struct client *c, enum header_type type, const char *topic,
                              const char *properties, struct props_known *known)
{
    struct client sender;
    struct record_view view;

    client_open(&sender, f.port, type);
    (void)client_send(
        &sender,
        &(struct test_message){.topic = topic, .properties = properties, .body = SLICE_LIT("x")});
    client_close(&sender);
    ck_assert_int_eq(client_pull(c, &(struct test_pull){.group = "g", .topic = topic, .count = 1}),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c->body, &view), 0);
    (void)props_scan(view.f.properties, known);
}

START_TEST(messages_carry_what_the_broker_of_rocketmq_adds)
{
    /* Region, trace and cluster for its clients, whatever they sent; ours only when they ask. */
    struct client c;
    struct props_known known;

    start(&c);
    stored_properties(&c, HEADER_JSON, "T1", "UNIQ_KEY=K1;CLUSTER=other;KEYS=k", &known);
    ck_assert(slice_eq_str(known.msg_region, "DefaultRegion"));
    ck_assert(slice_eq_str(known.trace_on, "true"));
    ck_assert(slice_eq_str(known.cluster, "DefaultCluster"));
    ck_assert(slice_eq_str(known.keys, "k"));
    stored_properties(&c, HEADER_MSGPACK, "T2", "UNIQ_KEY=K2", &known);
    ck_assert_uint_eq(known.msg_region.len + known.trace_on.len + known.cluster.len, 0);
    stored_properties(&c, HEADER_MSGPACK, "T3", "UNIQ_KEY=K3;REPLY_TO_CLIENT=me", &known);
    ck_assert(slice_eq_str(known.cluster, "DefaultCluster"));
    ck_assert(slice_eq_str(known.reply_to_client, "me"));
    stop(&c);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, a_locked_queue_is_refused_to_others_until_it_is_given_back);
    tcase_add_test(tc, locks_without_a_group_or_a_client_are_refused);
    tcase_add_test(tc, a_reply_goes_to_the_client_that_asked);
    tcase_add_test(tc, a_consumer_that_is_ahead_goes_back_to_what_its_group_had_consumed);
    tcase_add_test(tc, messages_carry_what_the_broker_of_rocketmq_adds);
}

int main(void)
{
    return broker_fixture_main("groups", 60, add);
}
