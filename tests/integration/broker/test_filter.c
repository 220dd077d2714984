/*
 * Filters of consumers: SQL92 and tags, by the expression of the pull and by that of the heartbeat;
 * what is refused, what wakes a waiting pull, and how far one pull looks.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/base/mem.h"
#include "core/proto/body_heartbeat.h"
#include "core/proto/json_write.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <string.h>

static struct broker_fixture f;
static struct client c;

static void set_up(enum header_type type)
{
    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, type);
    client_topic(&c, "T", 1);
}

static void tear_down(void)
{
    client_close(&c);
    broker_fixture_stop(&f);
}

static void send(const char *properties)
{
    struct test_message m = {.topic = "T", .properties = properties, .body = SLICE_LIT("x")};

    (void)client_send(&c, &m);
}

/* ---- requests ---- */

struct filter_pull {
    int64_t offset;
    const char *type;       /* NULL: without the field */
    const char *expression; /* NULL: by the heartbeat's subscription */
    int64_t version;
    int64_t suspend_ms;
};

static void put_pull(struct client *to, const struct filter_pull *p)
{
    struct header_writer *w = client_begin(to, REQUEST_PULL_MESSAGE, 0);

    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "queueOffset", p->offset);
    header_put_i64(w, "maxMsgNums", 32);
    header_put_i64(w, "sysFlag", (p->suspend_ms > 0 ? 2 : 0) | (p->expression != NULL ? 4 : 0));
    header_put_i64(w, "suspendTimeoutMillis", p->suspend_ms);
    if (p->expression != NULL) {
        header_put_str(w, "subscription", slice_str(p->expression));
    }
    header_put_i64(w, "subVersion", p->version);
    if (p->type != NULL) {
        header_put_str(w, "expressionType", slice_str(p->type));
    }
}

static int32_t pull(const struct filter_pull *p)
{
    put_pull(&c, p);
    return client_call(&c, SLICE_EMPTY);
}

static int64_t next_offset(struct client *of)
{
    int64_t offset = -1;

    ck_assert_int_eq(header_get_i64(&of->header, "nextBeginOffset", &offset), 0);
    return offset;
}

/* The answer's queue offsets, as "1,3,4". */
static const char *offsets_of(struct client *of)
{
    static char text[512];
    struct record_walk walk = {.rest = of->body};
    struct record_view view;
    size_t len = 0;

    text[0] = '\0';
    while (record_walk_next(&walk, &view) == 1) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%lld", len == 0 ? "" : ",",
                                (long long)view.f.queue_offset);
    }
    return text;
}

static void expect_remark(const char *part)
{
    char remark[512];

    (void)slice_to_cstr(c.header.remark, remark, sizeof remark);
    ck_assert_msg(strstr(remark, part) != NULL, "remark: %s", remark);
}

static int32_t heartbeat(const char *type, const char *expression, int64_t version)
{
    struct subscription sub = {.topic = SLICE_LIT("T"),
                               .expression = slice_str(expression),
                               .expression_type = slice_str(type),
                               .version = version};
    struct heartbeat_consumer consumer = {
        .group = SLICE_LIT("g"), .subscriptions = &sub, .subscription_count = 1};
    struct heartbeat hb = {
        .client_id = SLICE_LIT("c1"), .consumers = &consumer, .consumer_count = 1};
    struct buf body;
    int32_t code;

    buf_init(&body, 0);
    heartbeat_encode(&body, &hb);
    (void)client_begin(&c, REQUEST_HEART_BEAT, 0);
    code = client_call(&c, buf_slice(&body));
    buf_fini(&body);
    return code;
}

static int32_t check_config(const char *type, const char *expression)
{
    struct subscription sub = {.topic = SLICE_LIT("T"),
                               .expression = slice_str(expression),
                               .expression_type = slice_str(type)};
    struct json_writer w;
    struct buf body;
    int32_t code;

    buf_init(&body, 0);
    w = json_writer_to(&body);
    json_write_object_begin(&w);
    json_put_string(&w, "clientId", SLICE_LIT("c1"));
    json_put_string(&w, "group", SLICE_LIT("g"));
    json_write_key(&w, "subscriptionData");
    subscription_encode(&w, &sub);
    json_write_object_end(&w);
    (void)client_begin(&c, REQUEST_CHECK_CLIENT_CONFIG, 0);
    code = client_call(&c, buf_slice(&body));
    buf_fini(&body);
    return code;
}

static void await_held(int64_t count)
{
    struct client watch;
    int64_t deadline_ms = test_now_ms() + CLIENT_WAIT_MS;

    client_open(&watch, f.port, HEADER_MSGPACK);
    while (client_metric(&watch, "pulls_held") != count) {
        test_await(-1, deadline_ms, "pulls are held");
    }
    client_close(&watch);
}

/* The answer to the pull that waits in `of`. */
static int32_t await_answer(struct client *of)
{
    ck_assert_int_eq(client_receive(of, CLIENT_WAIT_MS), 0);
    ck_assert(header_is_response(&of->header));
    return of->header.code;
}

/* ---- tests ---- */

START_TEST(a_consumer_asks_before_it_starts)
{
    /* CHECK_CLIENT_CONFIG: tags and what compiles are fine; the rest is 23, with the column. */
    set_up(HEADER_JSON);
    ck_assert_int_eq(check_config("TAG", "a || b"), RESPONSE_SUCCESS);
    ck_assert_int_eq(check_config("SQL92", "a > 5 AND b IN ('x', 'y')"), RESPONSE_SUCCESS);
    ck_assert_int_eq(check_config("SQL92", "a > 5 AND b IN (1)"),
                     RESPONSE_SUBSCRIPTION_PARSE_FAILED);
    expect_remark("column 17: expected a string, found '1'");
    ck_assert_int_eq(check_config("SQL92", "a LIKE 'x%'"), RESPONSE_SUBSCRIPTION_PARSE_FAILED);
    expect_remark("LIKE is not supported");
    ck_assert_int_eq(check_config("GROOVY", "a"), RESPONSE_SUBSCRIPTION_PARSE_FAILED);
    (void)client_begin(&c, REQUEST_CHECK_CLIENT_CONFIG, 0);
    ck_assert_int_ne(client_call(&c, SLICE_LIT("{")), RESPONSE_SUCCESS);
    tear_down();
}
END_TEST

START_TEST(a_pull_brings_its_expression)
{
    /* Bit 4: matching messages only, nextBeginOffset behind all that were looked at. */
    set_up(HEADER_ROCKETMQ);
    for (int i = 0; i < 20; i++) {
        char properties[64];
        (void)snprintf(properties, sizeof properties, "n=%d;TAGS=%s", i, i % 2 == 0 ? "Aa" : "b");
        send(properties);
    }
    ck_assert_int_eq(pull(&(struct filter_pull){0, "SQL92", "n BETWEEN 3 AND 5", 0, 0}),
                     RESPONSE_SUCCESS);
    ck_assert_str_eq(offsets_of(&c), "3,4,5");
    ck_assert_int_eq(next_offset(&c), 20);
    ck_assert_int_eq(pull(&(struct filter_pull){4, "SQL92", "TAGS = 'Aa' AND n < 9", 0, 0}),
                     RESPONSE_SUCCESS);
    ck_assert_str_eq(offsets_of(&c), "4,6,8");
    ck_assert_int_eq(pull(&(struct filter_pull){1, "SQL92", "n > 19", 0, 0}),
                     RESPONSE_PULL_RETRY_IMMEDIATELY);
    ck_assert_int_eq(next_offset(&c), 20);
    ck_assert_uint_eq(c.body.len, 0);
    ck_assert_int_eq(pull(&(struct filter_pull){16, "TAG", "b", 0, 0}), RESPONSE_SUCCESS);
    ck_assert_str_eq(offsets_of(&c), "17,19");
    ck_assert_int_eq(pull(&(struct filter_pull){18, NULL, "*", 0, 0}), RESPONSE_SUCCESS);
    ck_assert_str_eq(offsets_of(&c), "18,19");
    ck_assert_int_eq(pull(&(struct filter_pull){0, "SQL92", "n >", 0, 0}),
                     RESPONSE_SUBSCRIPTION_PARSE_FAILED);
    expect_remark("column 4:");
    ck_assert_int_eq(client_error(&c), ESCROW_EINVAL);
    ck_assert_int_eq(pull(&(struct filter_pull){0, "SQL92", "", 0, 0}),
                     RESPONSE_SUBSCRIPTION_PARSE_FAILED);
    ck_assert_int_eq(pull(&(struct filter_pull){0, "GROOVY", "n", 0, 0}),
                     RESPONSE_SUBSCRIPTION_PARSE_FAILED);
    ck_assert_int_eq(pull(&(struct filter_pull){0, "TAG", "||", 0, 0}),
                     RESPONSE_SUBSCRIPTION_PARSE_FAILED);
    tear_down();
}
END_TEST

/* How often a member was told of a change, until the answer to a request that it sends now. */
static int told_so_far(struct client *member)
{
    struct header_writer *w = client_begin(member, REQUEST_GET_CONSUMER_LIST_BY_GROUP, 0);
    int count = 0;

    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    client_finish(member, SLICE_EMPTY);
    ck_assert_int_eq(client_flush(member), 0);
    for (;;) {
        ck_assert_int_eq(client_receive(member, CLIENT_WAIT_MS), 0);
        if (header_is_response(&member->header)) {
            return count;
        }
        ck_assert_int_eq(member->header.code, REQUEST_NOTIFY_CONSUMER_IDS_CHANGED);
        count++;
    }
}

START_TEST(a_newer_version_of_a_subscription_is_not_told_to_the_group)
{
    /* A client has one after each rebalance; another topic is told. */
    struct client member;

    set_up(HEADER_JSON);
    ck_assert_int_eq(heartbeat("TAG", "*", 1), RESPONSE_SUCCESS);
    client_open(&member, f.port, HEADER_JSON);
    ck_assert_int_eq(client_heartbeat(&member, "m", NULL, "g", "T"), RESPONSE_SUCCESS);
    (void)told_so_far(&member); /* of its own coming */
    ck_assert_int_eq(heartbeat("TAG", "*", 2), RESPONSE_SUCCESS);
    ck_assert_int_eq(heartbeat("TAG", "a", 3), RESPONSE_SUCCESS);
    ck_assert_int_eq(told_so_far(&member), 0);
    ck_assert_int_eq(client_heartbeat(&c, "c1", NULL, "g", "U"), RESPONSE_SUCCESS);
    ck_assert_int_eq(told_so_far(&member), 1);
    client_close(&member);
    tear_down();
}
END_TEST

static size_t count_warnings(const char *topic)
{
    char text[128];
    size_t count = 0;

    (void)snprintf(text, sizeof text, "group g: its members subscribe differently to topic %s",
                   topic);
    for (const char *at = broker_fixture_log(&f); (at = strstr(at, text)) != NULL; at++) {
        count++;
    }
    return count;
}

START_TEST(members_that_subscribe_differently_are_a_warning)
{
    /* One member may change its mind; of two, whoever differs is told of, and not each time. */
    struct client member;

    set_up(HEADER_JSON);
    ck_assert_int_eq(heartbeat("TAG", "a", 1), RESPONSE_SUCCESS);
    ck_assert_int_eq(heartbeat("TAG", "*", 2), RESPONSE_SUCCESS);
    client_open(&member, f.port, HEADER_JSON);
    ck_assert_int_eq(client_heartbeat(&member, "m", NULL, "g", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(heartbeat("", "*", 3), RESPONSE_SUCCESS);
    ck_assert_uint_eq(count_warnings("T"), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(heartbeat("TAG", "a", 4 + i), RESPONSE_SUCCESS);
        ck_assert_int_eq(client_heartbeat(&member, "m", NULL, "g", "T"), RESPONSE_SUCCESS);
    }
    ck_assert_uint_eq(count_warnings("T"), 1);
    client_close(&member);
    tear_down();
}
END_TEST

START_TEST(members_that_subscribe_to_other_topics_are_a_warning)
{
    struct client member;

    set_up(HEADER_JSON);
    ck_assert_int_eq(heartbeat("TAG", "*", 1), RESPONSE_SUCCESS);
    client_open(&member, f.port, HEADER_JSON);
    ck_assert_int_eq(client_heartbeat(&member, "m", NULL, "g", "U"), RESPONSE_SUCCESS);
    ck_assert_uint_eq(count_warnings("U"), 1);
    client_close(&member);
    tear_down();
}
END_TEST

START_TEST(a_group_subscribes_by_heartbeat)
{
    /* Without bit 4: 24, 25, 27 and 28, and between them the messages that match. */
    struct filter_pull p = {.type = "SQL92", .version = 5};

    set_up(HEADER_JSON);
    send("a=1");
    send("a=7");
    ck_assert_int_eq(pull(&p), RESPONSE_SUBSCRIPTION_NOT_EXIST);
    ck_assert_int_eq(heartbeat("SQL92", "a > 5", 4), RESPONSE_SUCCESS);
    ck_assert_int_eq(pull(&p), RESPONSE_SUBSCRIPTION_NOT_LATEST);
    ck_assert_int_eq(heartbeat("SQL92", "a >", 5), RESPONSE_SUCCESS);
    ck_assert_int_eq(pull(&p), RESPONSE_FILTER_DATA_NOT_LATEST);
    expect_remark("column 4:");
    p.version = 4; /* an older member: its program is still there */
    ck_assert_int_eq(pull(&p), RESPONSE_SUCCESS);
    ck_assert_str_eq(offsets_of(&c), "1");
    ck_assert_int_eq(heartbeat("TAG", "*", 6), RESPONSE_SUCCESS);
    ck_assert_int_eq(pull(&p), RESPONSE_SUCCESS);
    ck_assert_str_eq(offsets_of(&c), "0,1");
    ck_assert_int_eq(heartbeat("SQL92", "a LIKE 'x'", 7), RESPONSE_SUCCESS);
    ck_assert_int_eq(pull(&p), RESPONSE_FILTER_DATA_NOT_EXIST);
    expect_remark("LIKE is not supported");
    ck_assert_int_eq(heartbeat("SQL92", "a = 1", 8), RESPONSE_SUCCESS);
    p.version = 8;
    ck_assert_int_eq(pull(&p), RESPONSE_SUCCESS);
    ck_assert_str_eq(offsets_of(&c), "0");
    ck_assert_int_eq(next_offset(&c), 2);
    tear_down();
}
END_TEST

/* A pull that waits sees `no` five times, then `yes`: it is answered once, with `yes`. */
static void expect_one_answer(const char *type, const char *expression, const char *no,
                              const char *yes)
{
    struct client waiting;

    set_up(HEADER_MSGPACK);
    client_open(&waiting, f.port, HEADER_JSON);
    put_pull(&waiting, &(struct filter_pull){0, type, expression, 0, 20000});
    client_submit(&waiting, SLICE_EMPTY);
    await_held(1);
    for (int i = 0; i < 5; i++) {
        send(no);
        await_held(1);
    }
    send(yes);
    ck_assert_int_eq(await_answer(&waiting), RESPONSE_SUCCESS);
    ck_assert_str_eq(offsets_of(&waiting), "5");
    ck_assert_int_eq(next_offset(&waiting), 6);
    client_close(&waiting);
    tear_down();
}

START_TEST(a_waiting_pull_wakes_for_what_its_sql_wants)
{
    /* Had it been woken for nothing, its answer would be PULL_RETRY_IMMEDIATELY. */
    expect_one_answer("SQL92", "color = 'blue'", "color=red", "color=blue");
}
END_TEST

START_TEST(a_waiting_pull_wakes_for_its_tags)
{
    /* The same with tags. */
    expect_one_answer("TAG", "a || b", "TAGS=c", "TAGS=b");
}
END_TEST

START_TEST(time_goes_by_and_the_offset_moves_on)
{
    /* Nothing matched while it waited: not found, and the next pull need not look at it again. */
    struct client waiting;

    set_up(HEADER_MSGPACK);
    client_open(&waiting, f.port, HEADER_ROCKETMQ);
    put_pull(&waiting, &(struct filter_pull){0, "SQL92", "a = 1", 0, 3000});
    client_submit(&waiting, SLICE_EMPTY);
    await_held(1);
    for (int i = 0; i < 3; i++) {
        send("b=1");
    }
    ck_assert_int_eq(await_answer(&waiting), RESPONSE_PULL_NOT_FOUND);
    ck_assert_int_eq(next_offset(&waiting), 3);
    client_close(&waiting);
    tear_down();
}
END_TEST

#define CROWD 400 /* more than run in three turns of the loop */

/* Every second one wants tag a. */
static void crowd_waits(struct client *waiting, int64_t offset, int64_t wait_ms)
{
    for (int i = 0; i < CROWD; i++) {
        put_pull(waiting, &(struct filter_pull){offset, "TAG", i % 2 == 0 ? "a" : "b", 0, wait_ms});
        client_finish(waiting, SLICE_EMPTY);
    }
    ck_assert_int_eq(client_flush(waiting), 0);
}

static void expect_nothing_for_all(struct client *waiting, int64_t next)
{
    for (int i = 0; i < CROWD; i++) {
        ck_assert_int_eq(await_answer(waiting), RESPONSE_PULL_NOT_FOUND);
        ck_assert_int_eq(next_offset(waiting), next);
    }
}

START_TEST(of_many_pulls_all_hear_of_what_they_want)
{
    /* More than may run in one turn; the others go on waiting. */
    struct client waiting;

    set_up(HEADER_MSGPACK);
    client_open(&waiting, f.port, HEADER_JSON);
    crowd_waits(&waiting, 0, 20000);
    await_held(CROWD);
    send("TAGS=c");
    send("TAGS=a");
    for (int i = 0; i < CROWD / 2; i++) {
        ck_assert_int_eq(await_answer(&waiting), RESPONSE_SUCCESS);
        ck_assert_str_eq(offsets_of(&waiting), "1");
    }
    await_held(CROWD / 2);
    client_close(&waiting);
    await_held(0);
    tear_down();
}
END_TEST

START_TEST(many_pulls_whose_time_is_over_are_all_answered)
{
    /* And when the broker stops, from behind what none of them wanted. */
    struct client waiting;

    set_up(HEADER_MSGPACK);
    client_open(&waiting, f.port, HEADER_JSON);
    crowd_waits(&waiting, 0, 300);
    expect_nothing_for_all(&waiting, 0);
    crowd_waits(&waiting, 0, 20000);
    await_held(CROWD);
    send("TAGS=c");
    broker_fixture_terminate(&f);
    expect_nothing_for_all(&waiting, 1);
    client_close(&waiting);
    client_close(&c);
    ck_assert_int_eq(broker_fixture_wait(&f), 0);
}
END_TEST

START_TEST(pulls_of_a_peer_that_hangs_up_unread_are_gone)
{
    /* So many that the broker reads no more of them: those that were not read never wait. */
    struct client one;
    int64_t deadline_ms;

    broker_fixture_start(&f, (const char *const[]){"--inflight.max.bytes", "65536", NULL});
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    client_open(&one, f.port, HEADER_JSON);
    crowd_waits(&one, 0, 60000);
    while (client_metric(&c, "pulls_held") < 40) {
    }
    ck_assert_int_lt(client_metric(&c, "pulls_held"), 65);
    client_close(&one);
    deadline_ms = test_now_ms() + 30000; /* long before their time is over */
    while (client_metric(&c, "connections") > 1) {
        test_await(-1, deadline_ms, "the end of the connection");
    }
    ck_assert_int_eq(client_metric(&c, "pulls_held"), 0);
    tear_down();
}
END_TEST

START_TEST(a_committed_half_is_filtered_too)
{
    /*
     * Its properties are not at hand when it is released: the pull wakes, looks, and is answered.
     */
    struct test_message half = {.topic = "T", .body = SLICE_LIT("h"), .is_half = true};
    struct client waiting;
    int64_t offset;

    set_up(HEADER_MSGPACK);
    client_open(&waiting, f.port, HEADER_JSON);
    for (int i = 0; i < 2; i++) {
        char id[16];
        char properties[64];
        (void)snprintf(id, sizeof id, "half%d", i);
        (void)snprintf(properties, sizeof properties, "UNIQ_KEY=%s;a=%d", id, i);
        half.properties = properties;
        put_pull(&waiting, &(struct filter_pull){i, "SQL92", "a = 1", 0, 20000});
        client_submit(&waiting, SLICE_EMPTY);
        await_held(1);
        offset = client_send(&c, &half);
        ck_assert_int_eq(client_end(&c, "pg", offset, id, 8), RESPONSE_SUCCESS);
        ck_assert_int_eq(await_answer(&waiting),
                         i == 0 ? RESPONSE_PULL_RETRY_IMMEDIATELY : RESPONSE_SUCCESS);
        ck_assert_int_eq(next_offset(&waiting), i + 1);
    }
    ck_assert_str_eq(offsets_of(&waiting), "1");
    client_close(&waiting);
    tear_down();
}
END_TEST

START_TEST(one_pull_looks_only_so_far)
{
    /* 6 MB that do not match, then one that does: found by several pulls, each a bit further. */
    struct test_message m = {.topic = "T", .properties = "a=0"};
    uint8_t *body = mem_calloc(1, 60000);
    int64_t offset = 0;
    int pulls = 0;

    ck_assert_ptr_nonnull(body);
    set_up(HEADER_MSGPACK);
    m.body = slice_of(body, 60000);
    for (int i = 0; i < 100; i++) {
        (void)client_send(&c, &m);
    }
    send("a=1");
    while (pull(&(struct filter_pull){offset, "SQL92", "a = 1", 0, 0}) ==
           RESPONSE_PULL_RETRY_IMMEDIATELY) {
        ck_assert_int_gt(next_offset(&c), offset);
        ck_assert_int_lt(next_offset(&c) - offset, 50);
        offset = next_offset(&c);
        pulls++;
    }
    ck_assert_int_eq(c.header.code, RESPONSE_SUCCESS);
    ck_assert_str_eq(offsets_of(&c), "100");
    ck_assert_int_ge(pulls, 2);
    mem_free(body);
    tear_down();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, a_consumer_asks_before_it_starts);
    tcase_add_test(tc, a_pull_brings_its_expression);
    tcase_add_test(tc, a_newer_version_of_a_subscription_is_not_told_to_the_group);
    tcase_add_test(tc, members_that_subscribe_differently_are_a_warning);
    tcase_add_test(tc, members_that_subscribe_to_other_topics_are_a_warning);
    tcase_add_test(tc, a_group_subscribes_by_heartbeat);
    tcase_add_test(tc, a_waiting_pull_wakes_for_what_its_sql_wants);
    tcase_add_test(tc, a_waiting_pull_wakes_for_its_tags);
    tcase_add_test(tc, time_goes_by_and_the_offset_moves_on);
    tcase_add_test(tc, of_many_pulls_all_hear_of_what_they_want);
    tcase_add_test(tc, many_pulls_whose_time_is_over_are_all_answered);
    tcase_add_test(tc, pulls_of_a_peer_that_hangs_up_unread_are_gone);
    tcase_add_test(tc, a_committed_half_is_filtered_too);
    tcase_add_test(tc, one_pull_looks_only_so_far);
}

int main(void)
{
    return broker_fixture_main("filter", 60, add_tests);
}
