/*
 * What administration tools ask of the broker about groups: where they are, and where to put them.
 */
#include "tests/integration/broker/admin_client.h"

#include <stdlib.h>
#include <time.h>

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

/* A request with two fields. Returns the response code. */
static int32_t ask_two(struct client *c, int32_t code, const char *const fields[4])
{
    struct header_writer *w = client_begin(c, code, 0);

    for (size_t i = 0; i < 4; i += 2) {
        if (fields[i] != NULL) {
            header_put_str(w, fields[i], slice_str(fields[i + 1]));
        }
    }
    return client_call(c, SLICE_EMPTY);
}

#define ASK_TWO(c, code, a, b, d, e) ask_two(c, code, (const char *const[]){a, b, d, e})

START_TEST(what_a_group_subscribes_to_in_a_topic)
{
    /* As its heartbeat said; nothing of another topic, or of a group that is not there. */
    struct client c;

    start(&c);
    ck_assert_int_eq(client_heartbeat(&c, "me", NULL, "g", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(
        ASK_TWO(&c, REQUEST_QUERY_SUBSCRIPTION_BY_CONSUMER, "group", "g", "topic", "T"),
        RESPONSE_SUCCESS);
    expect_body(&c, "{\"group\":\"g\",\"subscriptionData\":{");
    expect_body(&c, "\"topic\":\"T\"");
    ck_assert_int_eq(
        ASK_TWO(&c, REQUEST_QUERY_SUBSCRIPTION_BY_CONSUMER, "group", "g", "topic", "U"),
        RESPONSE_SUCCESS);
    ck_assert(slice_eq_str(c.body, "{\"group\":\"g\",\"topic\":\"U\"}"));
    ck_assert_int_eq(
        ASK_TWO(&c, REQUEST_QUERY_SUBSCRIPTION_BY_CONSUMER, "group", "h", "topic", "T"),
        RESPONSE_SUCCESS);
    ck_assert(slice_eq_str(c.body, "{\"group\":\"h\",\"topic\":\"T\"}"));
    ck_assert_int_eq(ask(&c, REQUEST_QUERY_SUBSCRIPTION_BY_CONSUMER, "group", "g"),
                     RESPONSE_INVALID_PARAMETER);
    stop(&c);
}
END_TEST

START_TEST(every_offset_is_listed)
{
    /* By topic and group, each queue with its own. */
    struct client c;

    start(&c);
    (void)client_begin(&c, REQUEST_GET_ALL_CONSUMER_OFFSET, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert(slice_eq_str(c.body, "{\"offsetTable\":{}}"));
    for (int i = 0; i < 3; i++) {
        send_tagged(&c, "T", "a");
    }
    commit(&c, "g", "T", 2);
    commit(&c, "h", "T", 3);
    (void)client_begin(&c, REQUEST_GET_ALL_CONSUMER_OFFSET, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    expect_body(&c, "{\"offsetTable\":{\"T@");
    expect_body(&c, "\"T@g\":{\"0\":2}");
    expect_body(&c, "\"T@h\":{\"0\":3}");
    ck_assert_uint_eq(c.body.ptr[c.body.len - 1], '}');
    stop(&c);
}
END_TEST

static int32_t clone(struct client *c, const char *from, const char *to, const char *topic,
                     bool is_offline)
{
    struct header_writer *w = client_begin(c, REQUEST_CLONE_GROUP_OFFSET, 0);

    header_put_str(w, "srcGroup", slice_str(from));
    header_put_str(w, "destGroup", slice_str(to));
    if (topic != NULL) {
        header_put_str(w, "topic", slice_str(topic));
    }
    header_put_bool(w, "offline", is_offline);
    return client_call(c, SLICE_EMPTY);
}

START_TEST(a_group_gets_the_offsets_of_another)
{
    /* Of one topic or of all, durable when it is answered; what it had before is over. */
    struct client c;
    struct client member;

    start(&c);
    client_topic(&c, "U", 1);
    for (int i = 0; i < 3; i++) {
        send_tagged(&c, "T", "a");
        send_tagged(&c, "U", "a");
    }
    commit(&c, "src", "T", 2);
    commit(&c, "src", "U", 3);
    commit(&c, "dest", "T", 1);
    ck_assert_int_eq(clone(&c, "src", "dest", "T", true), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(&c, "dest", 0), 2);
    (void)client_begin(&c, REQUEST_GET_ALL_CONSUMER_OFFSET, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert(!body_has(&c, "U@dest"));

    client_open(&member, f.port, HEADER_JSON);
    ck_assert_int_eq(client_heartbeat(&member, "me", NULL, "src", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(clone(&c, "src", "online", NULL, false), RESPONSE_SUCCESS);
    ck_assert_int_eq(clone(&c, "src", "all", NULL, true), RESPONSE_SUCCESS);
    client_close(&member);
    client_close(&c);
    broker_fixture_kill(&f);
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
    (void)client_begin(&c, REQUEST_GET_ALL_CONSUMER_OFFSET, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    expect_body(&c, "\"T@all\":{\"0\":2}");
    expect_body(&c, "\"U@all\":{\"0\":3}");
    expect_body(&c, "\"T@online\":{\"0\":2}");
    ck_assert(!body_has(&c, "U@online")); /* its members do not read it */
    ck_assert(!body_has(&c, "RETRY"));

    ck_assert_int_eq(clone(&c, "nobody", "dest", NULL, true), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(&c, "dest", 0), 2);
    ck_assert_int_eq(clone(&c, "src", "a b", NULL, true), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(ask(&c, REQUEST_CLONE_GROUP_OFFSET, "srcGroup", "src"),
                     RESPONSE_INVALID_PARAMETER);
    stop(&c);
}
END_TEST

/* The number behind a name in the body, the n-th time it is there. */
static int64_t number(const struct client *c, const char *name, int n)
{
    char text[4096];
    char key[64];
    const char *at = text;

    (void)slice_to_cstr(c->body, text, sizeof text);
    (void)snprintf(key, sizeof key, "\"%s\":", name);
    for (int i = 0; i <= n; i++) {
        at = strstr(at, key);
        ck_assert_msg(at != NULL, "no '%s' in '%s'", key, text);
        at += strlen(key);
    }
    return strtoll(at, NULL, 10);
}

START_TEST(from_when_to_when_the_messages_of_a_group_are)
{
    /* Of each queue; a queue without messages has no times, a group at its end no delay. */
    struct client c;
    int64_t first;

    start(&c);
    for (int i = 0; i < 3; i++) {
        send_tagged(&c, "T", "a");
    }
    ck_assert_int_eq(ASK_TWO(&c, REQUEST_QUERY_CONSUME_TIME_SPAN, "topic", "T", "group", "g"),
                     RESPONSE_SUCCESS);
    expect_body(&c, "{\"consumeTimeSpanSet\":[{\"consumeTimeStamp\":");
    first = number(&c, "minTimeStamp", 0);
    ck_assert_int_gt(first, 0);
    ck_assert_int_ge(number(&c, "maxTimeStamp", 0), first);
    ck_assert_int_eq(number(&c, "consumeTimeStamp", 0), first); /* it has consumed nothing */
    ck_assert_int_ge(number(&c, "delayTime", 0), 0);
    ck_assert_int_eq(number(&c, "queueId", 1), 1);
    ck_assert_int_eq(number(&c, "minTimeStamp", 1), -1);
    ck_assert_int_eq(number(&c, "maxTimeStamp", 1), -1);
    ck_assert_int_eq(number(&c, "consumeTimeStamp", 1), -1);
    ck_assert_int_eq(number(&c, "delayTime", 1), 0);

    commit(&c, "g", "T", 3);
    ck_assert_int_eq(ASK_TWO(&c, REQUEST_QUERY_CONSUME_TIME_SPAN, "topic", "T", "group", "g"),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(number(&c, "consumeTimeStamp", 0), number(&c, "maxTimeStamp", 0));
    ck_assert_int_eq(number(&c, "delayTime", 0), 0);
    ck_assert_int_eq(ASK_TWO(&c, REQUEST_QUERY_CONSUME_TIME_SPAN, "topic", "X", "group", "g"),
                     RESPONSE_TOPIC_NOT_EXIST);
    ck_assert_int_eq(ask(&c, REQUEST_QUERY_CONSUME_TIME_SPAN, "topic", "T"),
                     RESPONSE_INVALID_PARAMETER);
    stop(&c);
}
END_TEST

/* ---- members ---- */

static void await_question(struct client *member)
{
    do {
        ck_assert_int_eq(client_receive(member, CLIENT_WAIT_MS), 0);
    } while (member->header.code != REQUEST_GET_CONSUMER_STATUS_FROM_CLIENT);
    ck_assert(slice_eq_str(header_str(&member->header, "topic"), "T"));
    ck_assert(slice_eq_str(header_str(&member->header, "group"), "g"));
}

START_TEST(members_are_asked_how_far_they_are)
{
    /* All of them, or one; who does not answer well, or goes, is left out of the answer. */
    static const char *const names[] = {"one", "two", "bad", "gone"};
    struct client members[4];
    struct client c;

    start(&c);
    ck_assert_int_eq(
        ASK_TWO(&c, REQUEST_INVOKE_BROKER_TO_GET_CONSUMER_STATUS, "topic", "T", "group", "g"),
        RESPONSE_SYSTEM_ERROR);
    for (int i = 0; i < 4; i++) {
        client_open(&members[i], f.port, HEADER_JSON);
        ck_assert_int_eq(client_heartbeat(&members[i], names[i], NULL, "g", "T"), RESPONSE_SUCCESS);
    }
    (void)client_begin(&c, REQUEST_INVOKE_BROKER_TO_GET_CONSUMER_STATUS, 0);
    header_put_str(&c.w, "topic", SLICE_LIT("T"));
    header_put_str(&c.w, "group", SLICE_LIT("g"));
    client_submit(&c, SLICE_EMPTY);
    for (int i = 0; i < 4; i++) {
        await_question(&members[i]);
    }
    client_answer(&members[0], RESPONSE_SUCCESS,
                  SLICE_LIT("{\"consumerTable\":{},\"messageQueueTable\":{{\"brokerName\":\"b\","
                            "\"queueId\":1,\"topic\":\"T\"}:7}}"));
    client_answer(&members[2], RESPONSE_SUCCESS, SLICE_LIT("nonsense"));
    client_close(&members[3]);
    client_answer(&members[1], RESPONSE_SUCCESS,
                  SLICE_LIT("{\"messageQueueTable\":{{\"brokerName\":\"b\",\"queueId\":0,"
                            "\"topic\":\"T\"}:5}}"));
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(c.header.code, RESPONSE_SUCCESS);
    expect_body(&c, "{\"consumerTable\":{\"");
    expect_body(&c, "\"one\":{{\"brokerName\":\"b\",\"queueId\":1,\"topic\":\"T\"}:7}");
    expect_body(&c, "\"two\":{{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"T\"}:5}");
    expect_body(&c, "},\"messageQueueTable\":{}}");
    ck_assert(!body_has(&c, "bad") && !body_has(&c, "gone"));

    (void)client_begin(&c, REQUEST_INVOKE_BROKER_TO_GET_CONSUMER_STATUS, 0);
    header_put_str(&c.w, "topic", SLICE_LIT("T"));
    header_put_str(&c.w, "group", SLICE_LIT("g"));
    header_put_str(&c.w, "clientAddr", SLICE_LIT("two"));
    client_submit(&c, SLICE_EMPTY);
    await_question(&members[1]);
    client_answer(&members[1], RESPONSE_SYSTEM_ERROR, SLICE_EMPTY);
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert(slice_eq_str(c.body, "{\"consumerTable\":{},\"messageQueueTable\":{}}"));
    for (int i = 0; i < 3; i++) {
        client_close(&members[i]);
    }
    stop(&c);
}
END_TEST

START_TEST(too_many_members_are_not_asked_at_once)
{
    /* 64 may be asked at a time; one of them may always be. */
    struct client member;
    struct client c;
    char id[16];

    start(&c);
    client_open(&member, f.port, HEADER_JSON);
    for (int i = 0; i < 65; i++) {
        (void)snprintf(id, sizeof id, "m%d", i);
        ck_assert_int_eq(client_heartbeat(&member, id, NULL, "g", "T"), RESPONSE_SUCCESS);
    }
    ck_assert_int_eq(
        ASK_TWO(&c, REQUEST_INVOKE_BROKER_TO_GET_CONSUMER_STATUS, "topic", "T", "group", "g"),
        RESPONSE_SYSTEM_BUSY);
    (void)client_begin(&c, REQUEST_INVOKE_BROKER_TO_GET_CONSUMER_STATUS, 0);
    header_put_str(&c.w, "topic", SLICE_LIT("T"));
    header_put_str(&c.w, "group", SLICE_LIT("g"));
    header_put_str(&c.w, "clientAddr", SLICE_LIT("m64"));
    client_submit(&c, SLICE_EMPTY);
    await_question(&member);
    ck_assert(slice_eq_str(header_str(&member.header, "clientId"), "m64"));
    client_answer(&member, RESPONSE_SUCCESS, SLICE_LIT("{\"messageQueueTable\":{}}"));
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert(slice_eq_str(c.body, "{\"consumerTable\":{\"m64\":{}},\"messageQueueTable\":{}}"));
    client_close(&member);
    stop(&c);
}
END_TEST

/* ---- what is old ---- */

START_TEST(what_is_old_is_deleted_when_it_is_asked_for)
{
    /* At any hour: that of delete.when is twelve away. Then no more until it is asked again. */
    static uint8_t body[65536];
    struct test_message m = {.topic = "T", .body = slice_of(body, sizeof body)};
    char hour[4];
    const char *const args[] = {"--log.segment.bytes",
                                "1m",
                                "--file.reserved.ms",
                                "1",
                                "--delete.when",
                                hour,
                                "--retention.interval.ms",
                                "20",
                                NULL};
    struct client c;
    int64_t steps;

    ck_assert_int_eq(setenv("TZ", "UTC", 1), 0);
    (void)snprintf(hour, sizeof hour, "%02d", (int)((time(NULL) / 3600 + 12) % 24));
    broker_fixture_start(&f, args);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    for (int i = 0; i < 40; i++) {
        (void)client_send(&c, &m);
    }
    steps = client_metric(&c, "retention_steps");
    while (client_metric(&c, "retention_steps") < steps + 2) {
    }
    ck_assert_int_eq(client_metric(&c, "log_first"), 0);
    (void)client_begin(&c, REQUEST_CLEAN_EXPIRED_CONSUMEQUEUE, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_metric(&c, "log_first"), 0);
    (void)client_begin(&c, REQUEST_DELETE_EXPIRED_COMMITLOG, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    while (client_metric(&c, "log_first") == 0) {
    }
    stop(&c);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, what_a_group_subscribes_to_in_a_topic);
    tcase_add_test(tc, every_offset_is_listed);
    tcase_add_test(tc, a_group_gets_the_offsets_of_another);
    tcase_add_test(tc, from_when_to_when_the_messages_of_a_group_are);
    tcase_add_test(tc, members_are_asked_how_far_they_are);
    tcase_add_test(tc, too_many_members_are_not_asked_at_once);
    tcase_add_test(tc, what_is_old_is_deleted_when_it_is_asked_for);
}

int main(void)
{
    return broker_fixture_main("admin_groups", 60, add_tests);
}
