/* What RocketMQ's administration tools ask: connections, topics of groups, permissions. */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

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

/* A request with one field. Returns the response code. */
static int32_t ask(struct client *c, int32_t code, const char *field, const char *value)
{
    struct header_writer *w = client_begin(c, code, 0);

    header_put_str(w, field, slice_str(value));
    return client_call(c, SLICE_EMPTY);
}

static bool body_has(const struct client *c, const char *text)
{
    return c->body.len > 0 && memmem(c->body.ptr, c->body.len, text, strlen(text)) != NULL;
}

static void expect_body(const struct client *c, const char *text)
{
    ck_assert_msg(body_has(c, text), "no '%s' in '%.*s'", text, SLICE_ARGS(c->body));
}

static void commit(struct client *c, const char *group, const char *topic, int64_t offset)
{
    struct header_writer *w = client_begin(c, REQUEST_UPDATE_CONSUMER_OFFSET, 0);

    header_put_str(w, "consumerGroup", slice_str(group));
    header_put_str(w, "topic", slice_str(topic));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "commitOffset", offset);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
}

START_TEST(the_members_of_a_group_are_listed_with_what_they_subscribe_to)
{
    /* A consumer and a producer on one connection; groups without members have their own codes. */
    struct client c;

    start(&c);
    (void)client_begin(&c, REQUEST_HEART_BEAT, 0);
    ck_assert_int_eq(
        client_call(&c,
                    SLICE_LIT("{\"clientID\":\"me@1\",\"producerDataSet\":[{\"groupName\":\"pg\"}],"
                              "\"consumerDataSet\":[{\"groupName\":\"cg\",\"consumeType\":"
                              "\"CONSUME_PASSIVELY\",\"messageModel\":\"CLUSTERING\","
                              "\"consumeFromWhere\":\"CONSUME_FROM_FIRST_OFFSET\","
                              "\"subscriptionDataSet\":[{\"topic\":\"T\",\"subString\":\"a || b\","
                              "\"subVersion\":7},{\"topic\":\"U\",\"subString\":\"n > 3\","
                              "\"expressionType\":\"SQL92\",\"subVersion\":8}]}]}")),
        RESPONSE_SUCCESS);

    ck_assert_int_eq(ask(&c, REQUEST_GET_CONSUMER_CONNECTION_LIST, "consumerGroup", "cg"),
                     RESPONSE_SUCCESS);
    expect_body(&c, "\"clientAddr\":\"127.0.0.1:");
    expect_body(&c, "\"clientId\":\"me@1\"");
    expect_body(&c, "\"consumeFromWhere\":\"CONSUME_FROM_FIRST_OFFSET\"");
    expect_body(&c, "\"codeSet\":[97,98]");
    expect_body(&c, "\"tagsSet\":[\"a\",\"b\"]");
    expect_body(&c, "\"subString\":\"a || b\"");
    expect_body(&c, "\"subString\":\"n > 3\"");
    expect_body(&c, "\"expressionType\":\"SQL92\"");

    ck_assert_int_eq(ask(&c, REQUEST_GET_PRODUCER_CONNECTION_LIST, "producerGroup", "pg"),
                     RESPONSE_SUCCESS);
    expect_body(&c, "\"clientId\":\"me@1\"");
    ck_assert(!body_has(&c, "subscriptionTable"));

    ck_assert_int_eq(ask(&c, REQUEST_GET_CONSUMER_CONNECTION_LIST, "consumerGroup", "pg"),
                     RESPONSE_CONSUMER_NOT_ONLINE);
    ck_assert_int_eq(ask(&c, REQUEST_GET_PRODUCER_CONNECTION_LIST, "producerGroup", "cg"),
                     RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(ask(&c, REQUEST_GET_CONSUMER_CONNECTION_LIST, "x", "cg"),
                     RESPONSE_INVALID_PARAMETER);
    stop(&c);
}
END_TEST

START_TEST(groups_of_a_topic_and_topics_of_a_group)
{
    /* By stored offset and by subscription, each named once. */
    struct client c;

    start(&c);
    client_topic(&c, "U", 1);
    commit(&c, "stored", "T", 0);
    commit(&c, "both", "T", 0);
    ck_assert_int_eq(client_heartbeat(&c, "me", NULL, "both", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(ask(&c, REQUEST_QUERY_TOPIC_CONSUME_BY_WHO, "topic", "T"), RESPONSE_SUCCESS);
    ck_assert(body_has(&c, "{\"groupList\":[\"stored\",\"both\"]}") ||
              body_has(&c, "{\"groupList\":[\"both\",\"stored\"]}"));
    ck_assert_int_eq(ask(&c, REQUEST_QUERY_TOPIC_CONSUME_BY_WHO, "topic", "U"), RESPONSE_SUCCESS);
    expect_body(&c, "{\"groupList\":[]}");
    commit(&c, "both", "U", 0);
    ck_assert_int_eq(ask(&c, REQUEST_QUERY_TOPICS_BY_CONSUMER, "group", "both"), RESPONSE_SUCCESS);
    ck_assert(body_has(&c, "{\"topicList\":[\"T\",\"U\"]}") ||
              body_has(&c, "{\"topicList\":[\"U\",\"T\"]}"));
    stop(&c);
}
END_TEST

START_TEST(a_name_server_takes_and_gives_back_write_permission)
{
    /* The route says so at once; the answer says how many topics it concerns. */
    struct client c;
    int64_t count = 0;

    start(&c);
    ck_assert_int_eq(ask(&c, REQUEST_WIPE_WRITE_PERM_OF_BROKER, "brokerName", "escrow-a"),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(header_opt_i64(&c.header, "wipeTopicCount", &count), 0);
    ck_assert_int_gt(count, 1);
    ck_assert_int_eq(ask(&c, REQUEST_GET_ROUTEINFO_BY_TOPIC, "topic", "T"), RESPONSE_SUCCESS);
    expect_body(&c, "\"perm\":4");
    ck_assert_int_eq(ask(&c, REQUEST_ADD_WRITE_PERM_OF_BROKER, "brokerName", "escrow-a"),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(ask(&c, REQUEST_GET_ROUTEINFO_BY_TOPIC, "topic", "T"), RESPONSE_SUCCESS);
    expect_body(&c, "\"perm\":6");
    ck_assert_int_eq(ask(&c, REQUEST_GET_SYSTEM_TOPIC_LIST_FROM_NS, "x", "x"), RESPONSE_SUCCESS);
    expect_body(&c, "{\"topicList\":[\"DefaultCluster\",\"escrow-a\"]}");
    stop(&c);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, the_members_of_a_group_are_listed_with_what_they_subscribe_to);
    tcase_add_test(tc, groups_of_a_topic_and_topics_of_a_group);
    tcase_add_test(tc, a_name_server_takes_and_gives_back_write_permission);
}

int main(void)
{
    return broker_fixture_main("admin", 60, add_tests);
}
