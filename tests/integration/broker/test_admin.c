/* What administration tools ask of the broker itself, its clients, and the name server. */
#include "tests/integration/broker/admin_client.h"

#include "core/proto/msgid.h"

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

/* Offset of group g in a queue, with setZeroIfNotFound: the response code. */
static int32_t query_offset(struct client *c, int32_t queue)
{
    struct header_writer *w = client_begin(c, REQUEST_QUERY_CONSUMER_OFFSET, 0);

    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", queue);
    return client_call(c, SLICE_EMPTY);
}

START_TEST(a_queue_that_there_is_not_has_no_offset)
{
    /* T has two; a young one begins at 0. */
    struct client c;

    start(&c);
    ck_assert_int_eq(query_offset(&c, 1), RESPONSE_SUCCESS);
    ck_assert_int_eq(query_offset(&c, 2), RESPONSE_QUERY_NOT_FOUND);
    stop(&c);
}
END_TEST

static int32_t query_message(struct client *c, int32_t max, const char *by_id)
{
    struct header_writer *w = client_begin(c, REQUEST_QUERY_MESSAGE, 0);

    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_str(w, "key", SLICE_LIT("k"));
    header_put_i64(w, "maxNum", max);
    header_put_str(w, "_UNIQUE_KEY_QUERY", slice_str(by_id));
    return client_call(c, SLICE_EMPTY);
}

START_TEST(who_wants_no_message_finds_none)
{
    /* Unless the key is an id: then RocketMQ's broker does not look at the number. */
    struct client c;

    start(&c);
    (void)client_send(&c, &(struct test_message){
                              .topic = "T", .properties = "UNIQ_KEY=k", .body = SLICE_LIT("x")});
    ck_assert_int_eq(query_message(&c, 1, "false"), RESPONSE_SUCCESS);
    ck_assert_int_eq(query_message(&c, 0, "false"), RESPONSE_QUERY_NOT_FOUND);
    ck_assert_int_eq(query_message(&c, -1, "no"), RESPONSE_QUERY_NOT_FOUND);
    ck_assert_int_eq(query_message(&c, 0, "true"), RESPONSE_SUCCESS);
    stop(&c);
}
END_TEST

static int32_t create_topic(struct client *c, const char *name)
{
    struct header_writer *w = client_begin(c, REQUEST_UPDATE_AND_CREATE_TOPIC, 0);

    header_put_str(w, "topic", slice_str(name));
    header_put_i64(w, "readQueueNums", 3);
    header_put_i64(w, "writeQueueNums", 3);
    return client_call(c, SLICE_EMPTY);
}

START_TEST(no_topic_is_created_by_the_name_of_cluster_or_broker)
{
    /* One that a send made is there, and may be changed. */
    struct client c;

    start(&c);
    ck_assert_int_eq(create_topic(&c, "DefaultCluster"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(create_topic(&c, "escrow-a"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(create_topic(&c, "escrow-b"), RESPONSE_SUCCESS);
    (void)client_send(&c, &(struct test_message){.topic = "escrow-a", .body = SLICE_LIT("x")});
    ck_assert_int_eq(create_topic(&c, "escrow-a"), RESPONSE_SUCCESS);
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

static int32_t change_settings(struct client *c, const char *lines)
{
    (void)client_begin(c, REQUEST_UPDATE_BROKER_CONFIG, 0);
    return client_call(c, slice_str(lines));
}

START_TEST(harmless_settings_can_be_changed_and_no_others)
{
    /* All lines or none; the change has effect at once; paths and the like are refused by name. */
    static const char *const refused[] = {
        "data.dir=/tmp/x",
        "acl.file=",
        "rocketmqHome=/tmp",
        "filterServerNums=1",
        "topic.auto.create=false\nlisten.host=0.0.0.0",
        "callback.default=http://x/",
    };
    static const char *const wrong[] = {"",
                                        "# nothing",
                                        "x",
                                        "topic.auto.create=perhaps",
                                        "message.max.bytes=99999999999",
                                        "topic.auto.create=false\nlog.level=loud"};
    struct client c;

    start(&c);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        ck_assert_int_eq(change_settings(&c, refused[i]), RESPONSE_NO_PERMISSION);
        ck_assert_uint_gt(c.header.remark.len, 0);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_int_eq(change_settings(&c, wrong[i]), RESPONSE_INVALID_PARAMETER);
    }
    ck_assert_int_eq(ask(&c, REQUEST_GET_BROKER_CONFIG, "x", "x"), RESPONSE_SUCCESS);
    expect_body(&c, "\ntopic.auto.create=true\n");
    expect_body(&c, "\nbrokerName=escrow-a\n");
    expect_body(&c, "\nbroker.name=escrow-a\n");
    ck_assert_int_eq(change_settings(&c, "autoCreateTopicEnable = false\r\nmessage.max.bytes=2k\n"),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(ask(&c, REQUEST_GET_BROKER_CONFIG, "x", "x"), RESPONSE_SUCCESS);
    expect_body(&c, "\ntopic.auto.create=false\n");
    expect_body(&c, "\nmaxMessageSize=2048\n");
    ck_assert_int_eq(
        client_try_send(&c, &(struct test_message){.topic = "Fresh", .body = SLICE_LIT("x")}),
        RESPONSE_TOPIC_NOT_EXIST);
    ck_assert_int_eq(change_settings(&c, "topic.auto.create=true"), RESPONSE_SUCCESS);
    ck_assert_int_eq(
        client_try_send(&c, &(struct test_message){.topic = "Fresh", .body = SLICE_LIT("x")}),
        RESPONSE_SUCCESS);
    ck_assert_int_eq(ask(&c, REQUEST_GET_NAMESRV_CONFIG, "x", "x"), RESPONSE_SUCCESS);
    expect_body(&c, "\norderMessageEnable=true\n");
    (void)client_begin(&c, REQUEST_UPDATE_NAMESRV_CONFIG, 0);
    ck_assert_int_eq(client_call(&c, SLICE_LIT("log.level=debug")), RESPONSE_NO_PERMISSION);
    stop(&c);
}
END_TEST

START_TEST(what_the_broker_is_and_does)
{
    /* Before and after the first message. */
    struct client c;

    start(&c);
    ck_assert_int_eq(ask(&c, REQUEST_GET_BROKER_RUNTIME_INFO, "x", "x"), RESPONSE_SUCCESS);
    expect_body(&c, "\"putTps\":\"0.000 0.000 0.000\"");
    ck_assert(!body_has(&c, "earliestMessageTimeStamp"));
    send_tagged(&c, "T", "a");
    ck_assert_int_eq(
        client_pull(&c, &(struct test_pull){.group = "g", .topic = "T", .offset = 0, .count = 10}),
        RESPONSE_SUCCESS);
    ck_assert_int_eq(ask(&c, REQUEST_GET_BROKER_RUNTIME_INFO, "x", "x"), RESPONSE_SUCCESS);
    expect_body(&c, "\"msgPutTotalTodayNow\":\"1\"");
    expect_body(&c, "\"msgGetTotalTodayNow\":\"1\"");
    expect_body(&c, "\"putMessageTimesTotal\":\"1\"");
    expect_body(&c, "\"dispatchBehindBytes\":\"0\"");
    expect_body(&c, "\"earliestMessageTimeStamp\":\"1");
    expect_body(&c, "\"brokerVersionDesc\":\"Escrow ");
    ck_assert_int_eq(ask(&c, REQUEST_GET_SYSTEM_TOPIC_LIST_FROM_BROKER, "x", "x"),
                     RESPONSE_SUCCESS);
    expect_body(&c, "\"TBW102\"");
    ck_assert(!body_has(&c, "\"T\""));
    stop(&c);
}
END_TEST

/* Ask about the member "me" of group g, without waiting for the answer. */
static int32_t ask_member(struct client *c, int32_t code, const char *client, const char *msg_id)
{
    struct header_writer *w = client_begin(c, code, 0);

    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "clientId", slice_str(client));
    header_put_str(w, "msgId", slice_str(msg_id));
    client_submit(c, SLICE_EMPTY);
    return c->opaque;
}

/* The question as the member gets it; pushes of other kinds are passed over. */
static void await_question(struct client *member, int32_t code)
{
    do {
        ck_assert_int_eq(client_receive(member, CLIENT_WAIT_MS), 0);
    } while (member->header.code != code);
    ck_assert(!header_is_oneway(&member->header));
}

START_TEST(a_member_is_asked_for_somebody_else)
{
    /* What it answers is the answer; one that is not there, or goes, is an error at once. */
    struct client c;
    struct client member;
    char id[MSGID_TEXT_MAX + 1];

    start(&c);
    send_tagged(&c, "T", "a");
    (void)slice_to_cstr(header_str(&c.header, "msgId"), id, sizeof id);
    client_open(&member, f.port, HEADER_JSON);
    ck_assert_int_eq(client_heartbeat(&member, "me", NULL, "g", "T"), RESPONSE_SUCCESS);

    (void)ask_member(&c, REQUEST_GET_CONSUMER_RUNNING_INFO, "me", "");
    await_question(&member, REQUEST_GET_CONSUMER_RUNNING_INFO);
    client_answer(&member, RESPONSE_SUCCESS, SLICE_LIT("{\"properties\":{}}"));
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(c.header.code, RESPONSE_SUCCESS);
    ck_assert_int_eq(c.header.opaque, c.opaque);
    expect_body(&c, "{\"properties\":{}}");

    (void)ask_member(&c, REQUEST_CONSUME_MESSAGE_DIRECTLY, "me", id);
    await_question(&member, REQUEST_CONSUME_MESSAGE_DIRECTLY);
    expect_body(&member, "TAGS\1a");
    client_answer(&member, RESPONSE_SYSTEM_ERROR, SLICE_EMPTY);
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(c.header.code, RESPONSE_SYSTEM_ERROR);

    (void)ask_member(&c, REQUEST_GET_CONSUMER_RUNNING_INFO, "other", "");
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(c.header.code, RESPONSE_SYSTEM_ERROR);
    (void)ask_member(&c, REQUEST_CONSUME_MESSAGE_DIRECTLY, "me", "nonsense");
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(c.header.code, RESPONSE_INVALID_PARAMETER);

    client_answer(&member, RESPONSE_SUCCESS, SLICE_EMPTY); /* nobody waits for it */
    (void)ask_member(&c, REQUEST_GET_CONSUMER_RUNNING_INFO, "me", "");
    await_question(&member, REQUEST_GET_CONSUMER_RUNNING_INFO);
    client_close(&member);
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(c.header.code, RESPONSE_SYSTEM_ERROR);
    stop(&c);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, the_members_of_a_group_are_listed_with_what_they_subscribe_to);
    tcase_add_test(tc, groups_of_a_topic_and_topics_of_a_group);
    tcase_add_test(tc, a_queue_that_there_is_not_has_no_offset);
    tcase_add_test(tc, who_wants_no_message_finds_none);
    tcase_add_test(tc, no_topic_is_created_by_the_name_of_cluster_or_broker);
    tcase_add_test(tc, a_name_server_takes_and_gives_back_write_permission);
    tcase_add_test(tc, harmless_settings_can_be_changed_and_no_others);
    tcase_add_test(tc, what_the_broker_is_and_does);
    tcase_add_test(tc, a_member_is_asked_for_somebody_else);
}

int main(void)
{
    return broker_fixture_main("admin", 60, add_tests);
}
