/*
 * Heartbeats of Java, Go and our own clients; connection lists, which show the same subscriptions.
 */
#include "core/proto/body_heartbeat.h"

#include "core/base/limits.h"
#include "core/proto/body_connections.h"
#include "tests/unit/core/proto/body_test.h"

#define JAVA                                                                                       \
    "{\"clientID\":\"10.0.0.9@4711\",\"consumerDataSet\":[{\"consumeFromWhere\":"                  \
    "\"CONSUME_FROM_FIRST_OFFSET\",\"consumeType\":\"CONSUME_PASSIVELY\",\"groupName\":\"g1\","    \
    "\"messageModel\":\"BROADCASTING\",\"subscriptionDataSet\":[{\"classFilterMode\":false,"       \
    "\"codeSet\":[2598919,-78689332],\"expressionType\":\"TAG\",\"subString\":\"TagA || x\","      \
    "\"subVersion\":1700000000000,\"tagsSet\":[\"TagA\",\"x\"],\"topic\":\"T\"}],"                 \
    "\"unitMode\":false}],\"heartbeatFingerprint\":0,\"producerDataSet\":[{\"groupName\":\"p1\"}," \
    "{\"groupName\":\"p2\"}],\"withoutSub\":false}"

static int decode(struct slice body)
{
    struct heartbeat hb;
    int error = heartbeat_decode(body, &hb);

    heartbeat_fini(&hb);
    return error;
}

static int decode_config(struct slice body)
{
    struct client_config config;
    int error = client_config_decode(body, &config);

    client_config_fini(&config);
    return error;
}

START_TEST(a_java_heartbeat_is_read)
{
    /* Shows: every field of the body a Java client sends; unknown ones are passed over. */
    struct heartbeat hb;
    const struct heartbeat_consumer *consumer;
    const struct subscription *sub;

    ck_assert_int_eq(heartbeat_decode(SLICE_LIT(JAVA), &hb), 0);
    assert_slice(hb.client_id, "10.0.0.9@4711");
    ck_assert_uint_eq(hb.producer_count, 2);
    assert_slice(hb.producer_groups[1], "p2");
    ck_assert_uint_eq(hb.consumer_count, 1);
    consumer = &hb.consumers[0];
    assert_slice(consumer->group, "g1");
    ck_assert_int_eq(consumer->type, CONSUME_PASSIVELY);
    ck_assert_int_eq(consumer->model, MODEL_BROADCASTING);
    ck_assert_int_eq(consumer->from, CONSUME_FROM_FIRST_OFFSET);
    ck_assert_uint_eq(consumer->subscription_count, 1);
    sub = &consumer->subscriptions[0];
    assert_slice(sub->topic, "T");
    assert_slice(sub->expression, "TagA || x");
    assert_slice(sub->expression_type, "TAG");
    ck_assert_int_eq(sub->version, 1700000000000);
    ck_assert_uint_eq(sub->tag_count, 2);
    assert_slice(sub->tags[0], "TagA");
    ck_assert_uint_eq(sub->code_count, 2);
    ck_assert_int_eq(sub->codes[1], -78689332);
    heartbeat_fini(&hb);
    heartbeat_fini(&hb); /* twice is fine */
}
END_TEST

START_TEST(a_go_heartbeat_is_read)
{
    /* Shows: codes as strings, expressionType and sets absent; absent names have their defaults. */
    struct heartbeat hb;
    const struct subscription *sub;

    ck_assert_int_eq(
        heartbeat_decode(
            SLICE_LIT("{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"g\","
                      "\"consumeType\":\"CONSUME_NOVEL\",\"subscriptionDataSet\":[{\"topic\":\"T\","
                      "codeSet:[\"2598919\"]}]}]}"),
            &hb),
        0);
    ck_assert_uint_eq(hb.producer_count, 0);
    ck_assert_int_eq(hb.consumers[0].type, CONSUME_PASSIVELY);
    ck_assert_int_eq(hb.consumers[0].model, MODEL_CLUSTERING);
    ck_assert_int_eq(hb.consumers[0].from, CONSUME_FROM_LAST_OFFSET);
    sub = &hb.consumers[0].subscriptions[0];
    assert_slice(sub->expression, "*");
    assert_slice(sub->expression_type, "TAG");
    ck_assert_int_eq(sub->codes[0], 2598919);
    ck_assert_uint_eq(sub->tag_count, 0);
    heartbeat_fini(&hb);
}
END_TEST

START_TEST(our_heartbeat_survives_the_round_trip)
{
    /* Shows: what libescrow writes is standard JSON and decodes to the same. */
    struct slice tags[] = {SLICE_LIT("TagA")};
    int32_t codes[] = {2598919};
    struct subscription subs[] = {{.topic = SLICE_LIT("T"),
                                   .expression = SLICE_LIT("TagA"),
                                   .version = 5,
                                   .tags = tags,
                                   .tag_count = 1,
                                   .codes = codes,
                                   .code_count = 1},
                                  {.topic = SLICE_LIT("%RETRY%g")}};
    struct heartbeat_consumer consumer = {.group = SLICE_LIT("g"),
                                          .type = CONSUME_ACTIVELY,
                                          .model = MODEL_CLUSTERING,
                                          .from = CONSUME_FROM_TIMESTAMP,
                                          .unit_mode = true,
                                          .subscriptions = subs,
                                          .subscription_count = 2};
    struct slice groups[] = {SLICE_LIT("p")};
    struct heartbeat hb = {.client_id = SLICE_LIT("id \"quoted\""),
                           .producer_groups = groups,
                           .producer_count = 1,
                           .consumers = &consumer,
                           .consumer_count = 1};
    struct heartbeat back;
    struct buf out;

    buf_init(&out, 0);
    heartbeat_encode(&out, &hb);
    ck_is_standard(buf_slice(&out));
    ck_assert_int_eq(heartbeat_decode(buf_slice(&out), &back), 0);
    assert_slice(back.client_id, "id \"quoted\"");
    assert_slice(back.producer_groups[0], "p");
    ck_assert_int_eq(back.consumers[0].type, CONSUME_ACTIVELY);
    ck_assert_int_eq(back.consumers[0].from, CONSUME_FROM_TIMESTAMP);
    ck_assert(back.consumers[0].unit_mode);
    ck_assert_uint_eq(back.consumers[0].subscription_count, 2);
    ck_assert_int_eq(back.consumers[0].subscriptions[0].codes[0], 2598919);
    assert_slice(back.consumers[0].subscriptions[1].topic, "%RETRY%g");
    assert_slice(back.consumers[0].subscriptions[1].expression, "*");
    heartbeat_fini(&back);
    buf_fini(&out);
}
END_TEST

START_TEST(names_on_the_wire_are_java_s)
{
    /* Shows: enum names, which Java parses and cannot do without. */
    ck_assert_str_eq(consume_type_name(CONSUME_POP), "CONSUME_POP");
    ck_assert_str_eq(consume_type_name(CONSUME_ACTIVELY), "CONSUME_ACTIVELY");
    ck_assert_str_eq(message_model_name(MODEL_CLUSTERING), "CLUSTERING");
    ck_assert_str_eq(consume_from_name(CONSUME_FROM_LAST_OFFSET), "CONSUME_FROM_LAST_OFFSET");
}
END_TEST

START_TEST(a_heartbeat_without_identity_is_refused)
{
    /*
     * Shows: no client id, a group without a name, a code that is none, a subscription without
     * topic.
     */
    static const char *const bad[] = {
        "{}",
        "{\"clientID\":\"\"}",
        "{\"clientID\":7}",
        "{\"clientID\":\"c\",\"producerDataSet\":[{}]}",
        "{\"clientID\":\"c\",\"producerDataSet\":[null]}",
        "{\"clientID\":\"c\",\"consumerDataSet\":[{\"subscriptionDataSet\":[]}]}",
        "{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"g\",\"subscriptionDataSet\":"
        "[{\"topic\":\"T\",\"codeSet\":[4294967296]}]}]}",
        "{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"g\",\"subscriptionDataSet\":"
        "[{\"topic\":\"T\",\"codeSet\":[\"x\"]}]}]}",
        "{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"g\",\"subscriptionDataSet\":"
        "[{\"topic\":\"T\",\"tagsSet\":[1]}]}]}",
        "{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"g\",\"subscriptionDataSet\":"
        "[{}]}]}"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(decode(slice_str(bad[i])) == ESCROW_EPROTO, "accepted: %s", bad[i]);
    }
}
END_TEST

START_TEST(a_heartbeat_of_too_many_elements_is_refused)
{
    /* Shows: the budget holds before a tree is built. */
    struct buf body;

    buf_init(&body, 0);
    buf_append_str(&body, "{\"clientID\":\"c\",\"x\":[");
    for (unsigned i = 0; i < BODY_ELEMENTS_MAX; i++) {
        buf_append_str(&body, "1,");
    }
    buf_append_str(&body, "1]}");
    ck_assert_int_eq(decode(buf_slice(&body)), ESCROW_ELIMIT);
    buf_fini(&body);
}
END_TEST

START_TEST(truncations_and_failing_allocations_are_harmless)
{
    /* Shows: every prefix is refused; out of memory at any point leaves nothing behind. */
    ck_every_truncation(decode, JAVA);
    ck_every_failing_allocation(decode, JAVA);
}
END_TEST

START_TEST(a_client_config_check_is_read)
{
    /* Shows: the body of CHECK_CLIENT_CONFIG, with and without a subscription. */
    static const char text[] =
        "{\"clientId\":\"c\",\"group\":\"g\",\"subscriptionData\":{\"topic\":\"T\","
        "\"expressionType\":\"SQL92\",\"subString\":\"a > 1\"}}";
    struct client_config config;

    ck_assert_int_eq(client_config_decode(slice_str(text), &config), 0);
    assert_slice(config.subscription.expression_type, "SQL92");
    assert_slice(config.group, "g");
    client_config_fini(&config);
    ck_assert_int_eq(decode_config(SLICE_LIT("{\"group\":\"g\"}")), 0);
    ck_assert_int_eq(decode_config(SLICE_LIT("{\"clientId\":\"c\"}")), ESCROW_EPROTO);
    ck_every_truncation(decode_config, text);
    ck_every_failing_allocation(decode_config, text);
}
END_TEST

static int count_connections(struct slice body)
{
    size_t count;

    return connections_count(body, &count);
}

START_TEST(connection_lists_have_the_shape_tools_read)
{
    /* Shows: the bodies of 203 and 204, byte for byte, and that they are counted. */
    struct connection_row row = {SLICE_LIT("id"), SLICE_LIT("1.2.3.4:5"), "JAVA", 409};
    struct subscription sub = {.topic = SLICE_LIT("T"), .version = 3};
    struct consumer_connections body = {
        .rows = &row, .row_count = 1, .subscriptions = &sub, .subscription_count = 1};
    struct buf out;
    size_t count;

    buf_init(&out, 0);
    consumer_connections_encode(&out, &body);
    assert_slice(buf_slice(&out),
                 "{\"connectionSet\":[{\"clientAddr\":\"1.2.3.4:5\",\"clientId\":\"id\","
                 "\"language\":\"JAVA\",\"version\":409}],"
                 "\"consumeFromWhere\":\"CONSUME_FROM_LAST_OFFSET\","
                 "\"consumeType\":\"CONSUME_PASSIVELY\",\"messageModel\":\"CLUSTERING\","
                 "\"subscriptionTable\":{\"T\":{\"classFilterMode\":false,\"codeSet\":[],"
                 "\"expressionType\":\"TAG\",\"subString\":\"*\",\"subVersion\":3,\"tagsSet\":[],"
                 "\"topic\":\"T\"}}}");
    ck_is_standard(buf_slice(&out));
    ck_assert_int_eq(connections_count(buf_slice(&out), &count), 0);
    ck_assert_uint_eq(count, 1);
    ck_every_truncation(count_connections, "{\"connectionSet\":[{\"clientId\":\"id\"}]}");
    ck_every_failing_allocation(count_connections, "{\"connectionSet\":[{\"clientId\":\"id\"}]}");
    buf_clear(&out);
    producer_connections_encode(&out, NULL, 0);
    assert_slice(buf_slice(&out), "{\"connectionSet\":[]}");
    ck_assert_int_eq(connections_count(buf_slice(&out), &count), 0);
    ck_assert_uint_eq(count, 0);
    ck_assert_int_eq(count_connections(SLICE_LIT("{}")), ESCROW_EPROTO);
    ck_assert_int_eq(count_connections(SLICE_LIT("{\"connectionSet\":{}}")), ESCROW_EPROTO);
    ck_assert_int_eq(count_connections(SLICE_LIT("[]")), ESCROW_EPROTO);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_heartbeat");

    tcase_add_test(tc, a_java_heartbeat_is_read);
    tcase_add_test(tc, a_go_heartbeat_is_read);
    tcase_add_test(tc, our_heartbeat_survives_the_round_trip);
    tcase_add_test(tc, names_on_the_wire_are_java_s);
    tcase_add_test(tc, a_heartbeat_without_identity_is_refused);
    tcase_add_test(tc, a_heartbeat_of_too_many_elements_is_refused);
    tcase_add_test(tc, truncations_and_failing_allocations_are_harmless);
    tcase_add_test(tc, a_client_config_check_is_read);
    tcase_add_test(tc, connection_lists_have_the_shape_tools_read);
    return run_tests(tc, "core/proto/body_heartbeat");
}
