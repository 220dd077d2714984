/* PROTOCOL.md against the handlers, section by section, in all three header types. */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/batch.h"
#include "core/proto/body_inspect.h"
#include "core/proto/body_lists.h"
#include "core/proto/body_route.h"
#include "core/proto/msgid.h"
#include "core/proto/properties.h"
#include "core/proto/send_request.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <string.h>

static struct broker_fixture f;

static void start(struct client *c, enum header_type type)
{
    static const char *const args[] = {"--delay.levels", "10ms", NULL}; /* of retries */

    broker_fixture_start(&f, args);
    client_open(c, f.port, type);
    client_topic(c, "T", 2);
}

static void stop(struct client *c)
{
    client_close(c);
    broker_fixture_stop(&f);
}

static int64_t field(struct client *c, const char *name)
{
    int64_t value = INT64_MIN;

    ck_assert_int_eq(header_opt_i64(&c->header, name, &value), 0);
    return value;
}

static struct header_writer *queue_request(struct client *c, int32_t code, const char *topic,
                                           int32_t queue)
{
    struct header_writer *w = client_begin(c, code, 0);

    header_put_str(w, "topic", slice_str(topic));
    header_put_i64(w, "queueId", queue);
    return w;
}

static int64_t send_text(struct client *c, const char *topic, const char *text)
{
    return client_send(c, &(struct test_message){.topic = topic, .body = slice_str(text)});
}

START_TEST(a_send_in_each_spelling_and_encoding)
{
    /*
     * Long names with 10, letters with 310, in each header type: all are stored, ids and fields
     * answered.
     */
    struct client c;

    start(&c, HEADER_JSON);
    for (int type = 0; type < 3; type++) {
        for (int use_letters = 0; use_letters < 2; use_letters++) {
            struct client other;
            struct send_request req;
            struct send_answer answer;
            struct header_writer *w;
            client_open(&other, f.port, (enum header_type)type);
            w = client_begin(&other, use_letters ? REQUEST_SEND_MESSAGE_V2 : REQUEST_SEND_MESSAGE,
                             0);
            send_request_init(&req);
            req.producer_group = SLICE_LIT("pg");
            req.topic = SLICE_LIT("T");
            req.properties = SLICE_LIT("UNIQ_KEY\1K1\2");
            req.queue_id = 1;
            req.born_ms = 1;
            send_request_encode(w, &req, use_letters != 0);
            ck_assert_int_eq(client_call(&other, SLICE_LIT("body")), RESPONSE_SUCCESS);
            ck_assert_int_eq(send_answer_decode(&other.header, &answer), 0);
            ck_assert_int_eq(answer.queue_id, 1);
            ck_assert_int_eq(answer.queue_offset, type * 2 + use_letters);
            ck_assert(slice_eq_str(answer.transaction_id, "K1"));
            ck_assert_uint_eq(answer.msg_id.len, 32);
            ck_assert_int_gt((int)header_str(&other.header, "MSG_REGION").len, 0);
            ck_assert(header_find(&other.header, SLICE_LIT("TRACE_ON")) != NULL);
            client_close(&other);
        }
    }
    stop(&c);
}
END_TEST

START_TEST(sends_that_are_refused)
{
    /* The code for each reason of section 5; nothing is stored. */
    static const struct {
        const char *topic;
        int32_t queue;
        int32_t code;
    } cases[] = {
        {"T", 2, RESPONSE_INVALID_PARAMETER},
        {"no such name!", 0, RESPONSE_INVALID_PARAMETER},
        {"../../etc", 0, RESPONSE_INVALID_PARAMETER},
        {"SCHEDULE_TOPIC_XXXX", 0, RESPONSE_NO_PERMISSION},
        {"", 0, RESPONSE_INVALID_PARAMETER},
    };
    struct client c;
    struct header_writer *w;

    start(&c, HEADER_ROCKETMQ);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t code = client_try_send(&c, &(struct test_message){.topic = cases[i].topic,
                                                                  .queue = cases[i].queue,
                                                                  .body = SLICE_LIT("x")});
        ck_assert_msg(code == cases[i].code, "%s: %d", cases[i].topic, code);
    }
    ck_assert_int_eq(client_try_send(&c, &(struct test_message){.topic = "T",
                                                                .properties = "TRAN_MSG=true",
                                                                .body = SLICE_LIT("x")}),
                     RESPONSE_MESSAGE_ILLEGAL); /* nobody could be asked */
    w = client_begin(&c, REQUEST_SEND_MESSAGE_V2, 0);
    header_put_str(w, "a", SLICE_LIT("pg"));
    header_put_str(w, "b", SLICE_LIT("T"));
    header_put_str(w, "e", SLICE_LIT("zero"));
    ck_assert_int_eq(client_call(&c, SLICE_LIT("x")), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 0);
    ck_assert_int_eq(client_metric(&c, "messages_in"), 0);
    stop(&c);
}
END_TEST

static int32_t send_batch(struct client *c, const char *const *properties, int32_t sys_flag)
{
    struct send_request req;
    struct header_writer *w;
    struct buf body;
    int32_t code;

    buf_init(&body, 0);
    for (; *properties != NULL; properties++) {
        struct batch_item item = {.body = SLICE_LIT("item"), .properties = slice_str(*properties)};
        ck_assert_int_eq(batch_append(&body, &item), 0);
    }
    w = client_begin(c, REQUEST_SEND_BATCH_MESSAGE, 0);
    send_request_init(&req);
    req.producer_group = SLICE_LIT("pg");
    req.topic = SLICE_LIT("T");
    req.queue_id = 0;
    req.born_ms = 1;
    req.sys_flag = sys_flag;
    req.is_batch = true;
    send_request_encode(w, &req, true);
    code = client_call(c, buf_slice(&body));
    buf_fini(&body);
    return code;
}

START_TEST(a_batch_is_stored_whole_or_not_at_all)
{
    /*
     * Three items; then one with a half among them, a transaction flag, no item: MESSAGE_ILLEGAL.
     */
    struct client c;

    start(&c, HEADER_JSON);
    ck_assert_int_eq(send_batch(&c, (const char *const[]){"TAGS\1a\2", "", "KEYS\1k\2", NULL}, 0),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(field(&c, "queueOffset"), 0);
    ck_assert(header_find(&c.header, SLICE_LIT("transactionId")) == NULL);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 3);
    ck_assert_int_eq(
        send_batch(&c, (const char *const[]){"", "TRAN_MSG\1true\2PGROUP\1pg\2", NULL}, 0),
        RESPONSE_MESSAGE_ILLEGAL);
    ck_assert_int_eq(send_batch(&c, (const char *const[]){"", NULL}, SYSFLAG_TXN_PREPARED),
                     RESPONSE_MESSAGE_ILLEGAL);
    ck_assert_int_eq(send_batch(&c, (const char *const[]){NULL}, 0), RESPONSE_MESSAGE_ILLEGAL);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 3);
    ck_assert_int_eq(send_text(&c, "T", "next"), 3);
    stop(&c);
}
END_TEST

START_TEST(a_batch_is_answered_with_an_id_for_each_message)
{
    /* The ids in the order of the batch, each of the record it names; also of the largest batch. */
    static const char *properties[BATCH_ITEMS_MAX + 2];
    struct client c;
    struct slice ids;
    struct record_walk walk;
    struct record_view view;
    char expect[MSGID_TEXT_MAX + 1];
    size_t len;

    for (int type = HEADER_JSON; type <= HEADER_MSGPACK; type++) {
        start(&c, (enum header_type)type);
        ck_assert_int_eq(send_batch(&c, (const char *const[]){"", "", "", NULL}, 0),
                         RESPONSE_SUCCESS);
        ck_assert_int_eq(field(&c, "queueOffset"), 0);
        ids = header_str(&c.header, "msgId");
        ck_assert_uint_eq(ids.len, 3 * 32 + 2);
        char copy[3 * 32 + 3];
        (void)slice_to_cstr(ids, copy, sizeof copy);
        ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, 0, 3, 0}),
                         RESPONSE_SUCCESS);
        walk.rest = c.body;
        for (size_t i = 0; i < 3; i++) {
            ck_assert_int_eq(record_walk_next(&walk, &view), 1);
            len = msgid_encode(&view.f.store_host, view.f.physical_offset, expect);
            ck_assert_mem_eq(copy + i * 33, expect, len);
            ck_assert_int_eq(copy[i * 33 + 32], i < 2 ? ',' : '\0');
        }
        for (size_t i = 0; i <= BATCH_ITEMS_MAX; i++) {
            properties[i] = i < BATCH_ITEMS_MAX ? "" : NULL;
        }
        ck_assert_int_eq(send_batch(&c, properties, 0), RESPONSE_SUCCESS);
        ck_assert_uint_eq(header_str(&c.header, "msgId").len, BATCH_ITEMS_MAX * 33 - 1);
        properties[BATCH_ITEMS_MAX] = "";
        ck_assert_int_eq(send_batch(&c, properties, 0), RESPONSE_MESSAGE_ILLEGAL);
        ck_assert_int_eq(client_max_offset(&c, "T", 0), 3 + BATCH_ITEMS_MAX);
        stop(&c);
    }
}
END_TEST

START_TEST(topics_come_from_their_template_only)
{
    /*
     * TBW102 creates with at most its 8 queues; another template, or topic.auto.create = false,
     * does not. Of system topics only that of traces of Alibaba Cloud's clients.
     */
    static const struct {
        const char *topic;
        const char *template;
        bool is_created;
    } rows[] = {{"New", "TBW102", true},
                {"Never", "T", false},
                {"rmq_sys_TRACE_DATA_DefaultRegion", "TBW102", true},
                {"rmq_sys_x", "TBW102", false}};
    struct client c;
    struct send_request req;
    struct header_writer *w;

    start(&c, HEADER_MSGPACK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        w = client_begin(&c, REQUEST_SEND_MESSAGE_V2, 0);
        send_request_init(&req);
        req.producer_group = SLICE_LIT("pg");
        req.topic = slice_str(rows[i].topic);
        req.default_topic = slice_str(rows[i].template);
        req.default_queue_count = 100;
        req.born_ms = 1;
        send_request_encode(w, &req, true);
        ck_assert_int_eq(client_call(&c, SLICE_LIT("x")),
                         rows[i].is_created ? RESPONSE_SUCCESS : RESPONSE_TOPIC_NOT_EXIST);
    }
    w = client_begin(&c, REQUEST_GET_TOPIC_CONFIG, 0);
    header_put_str(w, "topic", SLICE_LIT("New"));
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_ptr_nonnull(memmem(c.body.ptr, c.body.len, "\"writeQueueNums\":8", 18));
    w = client_begin(&c, REQUEST_GET_TOPIC_CONFIG, 0);
    header_put_str(w, "topic", SLICE_LIT("Never"));
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_TOPIC_NOT_EXIST);
    (void)client_begin(&c, REQUEST_GET_ALL_TOPIC_CONFIG, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_ptr_nonnull(memmem(c.body.ptr, c.body.len, "\"New\"", 5));
    stop(&c);
    broker_fixture_start(&f, (const char *const[]){"--topic.auto.create", "false", NULL});
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(
        client_try_send(&c, &(struct test_message){.topic = "X", .body = SLICE_LIT("x")}),
        RESPONSE_TOPIC_NOT_EXIST);
    stop(&c);
}
END_TEST

START_TEST(system_topics_are_not_changed_by_request)
{
    /* Least of all the template: with other bits nothing would be created from it any more. */
    static const char *const names[] = {"TBW102", "RMQ_SYS_TRACE_TOPIC", "RMQ_SYS_TRANS_HALF_TOPIC",
                                        "BenchmarkTest", "rmq_sys_x"};
    struct client c;

    start(&c, HEADER_JSON);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct header_writer *w = client_begin(&c, REQUEST_UPDATE_AND_CREATE_TOPIC, 0);
        header_put_str(w, "topic", slice_str(names[i]));
        header_put_i64(w, "readQueueNums", 2);
        header_put_i64(w, "writeQueueNums", 2);
        header_put_i64(w, "perm", 6);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_INVALID_PARAMETER);
    }
    ck_assert_int_eq(
        client_try_send(&c, &(struct test_message){.topic = "New", .body = SLICE_LIT("x")}),
        RESPONSE_SUCCESS);
    stop(&c);
}
END_TEST

START_TEST(a_closed_topic_refuses_what_its_bits_refuse)
{
    /* perm 4: readable only; perm 2: writable only. Changed by 17, without a restart. */
    struct client c;

    start(&c, HEADER_JSON);
    for (int perm = 2; perm <= 4; perm += 2) {
        struct header_writer *w = client_begin(&c, REQUEST_UPDATE_AND_CREATE_TOPIC, 0);
        header_put_str(w, "topic", SLICE_LIT("T"));
        header_put_i64(w, "readQueueNums", 2);
        header_put_i64(w, "writeQueueNums", 2);
        header_put_i64(w, "perm", perm);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
        ck_assert_int_eq(
            client_try_send(&c, &(struct test_message){.topic = "T", .body = SLICE_LIT("x")}),
            perm == 2 ? RESPONSE_SUCCESS : RESPONSE_NO_PERMISSION);
        ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, 0, 1, 0}),
                         perm == 2 ? RESPONSE_NO_PERMISSION : RESPONSE_SUCCESS);
    }
    stop(&c);
}
END_TEST

START_TEST(every_line_of_the_pull_table)
{
    /* Codes and nextBeginOffset as section 7 has them; a long poll is woken by a message. */
    static const struct {
        int64_t offset;
        int32_t code;
        int64_t next;
    } cases[] = {
        {0, RESPONSE_SUCCESS, 3},
        {2, RESPONSE_SUCCESS, 3},
        {3, RESPONSE_PULL_NOT_FOUND, 3},
        {9, RESPONSE_PULL_OFFSET_MOVED, 3},
        {-5, RESPONSE_PULL_OFFSET_MOVED, 0},
    };
    struct client c;
    struct client other;
    struct header_writer *w;
    int64_t start_ms;

    start(&c, HEADER_ROCKETMQ);
    for (int i = 0; i < 3; i++) {
        (void)client_send(&c, &(struct test_message){
                                  .topic = "T", .properties = "TAGS=red", .body = SLICE_LIT("x")});
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, cases[i].offset, 10, 0}),
                         cases[i].code);
        ck_assert_int_eq(field(&c, "nextBeginOffset"), cases[i].next);
        ck_assert_int_eq(field(&c, "minOffset"), 0);
        ck_assert_int_eq(field(&c, "maxOffset"), 3);
        ck_assert_int_eq(field(&c, "suggestWhichBrokerId"), 0);
    }
    w = queue_request(&c, REQUEST_LITE_PULL_MESSAGE, "T", 0);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_i64(w, "queueOffset", 0);
    header_put_i64(w, "maxMsgNums", 10);
    header_put_i64(w, "sysFlag", 4);
    header_put_str(w, "subscription", SLICE_LIT("green || blue"));
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_PULL_RETRY_IMMEDIATELY);
    ck_assert_int_eq(field(&c, "nextBeginOffset"), 3);
    ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "None", 0, 0, 1, 0}),
                     RESPONSE_TOPIC_NOT_EXIST);
    ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 2, 0, 1, 0}),
                     RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, 0, 0, 0}),
                     RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(client_pull(&c, &(struct test_pull){"no good!", "T", 0, 0, 1, 0}),
                     RESPONSE_INVALID_PARAMETER);
    client_open(&other, f.port, HEADER_JSON);
    start_ms = test_now_ms();
    client_put_pull(&other, &(struct test_pull){"g", "T", 1, 0, 10, 20000});
    ck_assert_int_eq(client_flush(&other), 0);
    while (client_metric(&c, "pulls_held") == 0) {
        test_await(-1, start_ms + CLIENT_WAIT_MS, "the pull is held");
    }
    (void)client_send(&c,
                      &(struct test_message){.topic = "T", .queue = 1, .body = SLICE_LIT("wake")});
    ck_assert_int_eq(client_receive(&other, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(other.header.code, RESPONSE_SUCCESS);
    ck_assert_int_lt(test_now_ms() - start_ms, 15000);
    ck_assert_int_eq(client_pull(&other, &(struct test_pull){"g", "T", 1, 1, 10, 200}),
                     RESPONSE_PULL_NOT_FOUND); /* its time is up */
    client_close(&other);
    stop(&c);
}
END_TEST

START_TEST(pulls_by_the_subscription_of_the_heartbeat)
{
    /* Without bit 4 the broker knows the subscription from the heartbeat, or says so. */
    struct client c;

    start(&c, HEADER_JSON);
    (void)send_text(&c, "T", "x");
    for (int round = 0; round < 3; round++) {
        static const int32_t codes[] = {RESPONSE_SUBSCRIPTION_NOT_EXIST, RESPONSE_SUCCESS,
                                        RESPONSE_SUBSCRIPTION_NOT_LATEST};
        struct header_writer *w = queue_request(&c, REQUEST_PULL_MESSAGE, "T", 0);
        header_put_str(w, "consumerGroup", SLICE_LIT("g"));
        header_put_i64(w, "queueOffset", 0);
        header_put_i64(w, "maxMsgNums", 10);
        header_put_i64(w, "sysFlag", 0);
        header_put_i64(w, "subVersion", round == 2 ? 99 : 1);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), codes[round]);
        ck_assert_int_eq(client_heartbeat(&c, "c1", NULL, "g", "T"), RESPONSE_SUCCESS);
    }
    stop(&c);
}
END_TEST

START_TEST(offsets_and_times)
{
    /* Section 8: stored, found, not found, refused; by time; earliest. */
    struct client c;
    struct header_writer *w;
    int64_t stored_ms;

    start(&c, HEADER_MSGPACK);
    for (int i = 0; i < 4; i++) {
        (void)send_text(&c, "T", "x");
    }
    for (int round = 0; round < 2; round++) {
        w = queue_request(&c, REQUEST_QUERY_CONSUMER_OFFSET, "T", 0);
        header_put_str(w, "consumerGroup", SLICE_LIT("g"));
        header_put_bool(w, "setZeroIfNotFound", false);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY),
                         round == 0 ? RESPONSE_QUERY_NOT_FOUND : RESPONSE_SUCCESS);
        w = queue_request(&c, REQUEST_UPDATE_CONSUMER_OFFSET, "T", 0);
        header_put_str(w, "consumerGroup", SLICE_LIT("g"));
        header_put_i64(w, "commitOffset", 2);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    }
    w = queue_request(&c, REQUEST_QUERY_CONSUMER_OFFSET, "T", 1);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(field(&c, "offset"), 0); /* young queue: nothing is skipped */
    w = queue_request(&c, REQUEST_UPDATE_CONSUMER_OFFSET, "T", 7);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_i64(w, "commitOffset", 2);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_INVALID_PARAMETER);
    w = queue_request(&c, REQUEST_UPDATE_CONSUMER_OFFSET, "T", 0);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_i64(w, "commitOffset", -1);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_INVALID_PARAMETER);
    (void)queue_request(&c, REQUEST_GET_MIN_OFFSET, "T", 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(field(&c, "offset"), 0);
    (void)queue_request(&c, REQUEST_GET_EARLIEST_MSG_STORETIME, "T", 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    stored_ms = field(&c, "timestamp");
    ck_assert_int_gt(stored_ms, 0);
    (void)queue_request(&c, REQUEST_GET_EARLIEST_MSG_STORETIME, "T", 1);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(field(&c, "timestamp"), -1);
    for (int i = 0; i < 2; i++) {
        w = queue_request(&c, REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, "T", 0);
        header_put_i64(w, "timestamp", i == 0 ? stored_ms : stored_ms + 3600000);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
        ck_assert_int_eq(field(&c, "offset"), i == 0 ? 0 : 4);
    }
    (void)queue_request(&c, REQUEST_GET_MAX_OFFSET, "None", 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_TOPIC_NOT_EXIST);
    stop(&c);
}
END_TEST

static int64_t store_time(struct client *c, int64_t offset)
{
    struct test_pull pull = {.group = "g", .topic = "T", .offset = offset, .count = 1};
    struct record_view view;

    ck_assert_int_eq(client_pull(c, &pull), RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c->body, &view), 0);
    return view.f.store_ms;
}

static int64_t bound(struct client *c, int32_t queue, int64_t time_ms, const char *type)
{
    struct header_writer *w = queue_request(c, REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, "T", queue);

    header_put_i64(w, "timestamp", time_ms);
    header_put_str(w, "boundaryType", slice_str(type));
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
    return field(c, "offset");
}

START_TEST(an_upper_bound_is_the_last_message_of_a_time)
{
    /* Of the time or before it; the first one when there is none, as with RocketMQ. */
    struct client c;
    int64_t stored_ms = 0;

    start(&c, HEADER_JSON);
    for (int i = 0; i < 4; i++) {
        (void)send_text(&c, "T", "x");
    }
    for (int64_t last = 0; last < 4; last++) { /* some may have been stored in one millisecond */
        stored_ms = store_time(&c, last);
        if (last == 3 || store_time(&c, last + 1) > stored_ms) {
            ck_assert_int_eq(bound(&c, 0, stored_ms, "UPPER"), last);
        }
    }
    ck_assert_int_eq(bound(&c, 0, stored_ms + 3600000, "upper"), 3);
    ck_assert_int_eq(bound(&c, 0, INT64_MAX, "Upper"), 3);
    ck_assert_int_eq(bound(&c, 0, 1, "UPPER"), 0);
    ck_assert_int_eq(bound(&c, 1, stored_ms, "UPPER"), 0); /* nothing in it */
    ck_assert_int_eq(bound(&c, 0, stored_ms + 3600000, "LOWER"), 4);
    stop(&c);
}
END_TEST

/* A heartbeat does not wait for the topic that it creates: its route comes when it is durable. */
static void await_route(struct client *c, const char *topic)
{
    int64_t deadline_ms = test_now_ms() + CLIENT_WAIT_MS;

    for (;;) {
        struct header_writer *w = client_begin(c, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0);
        header_put_str(w, "topic", slice_str(topic));
        if (client_call(c, SLICE_EMPTY) == RESPONSE_SUCCESS) {
            return;
        }
        test_await(-1, deadline_ms, "the topic has a route");
    }
}

START_TEST(members_of_a_group_are_listed_and_told)
{
    /* Two members; each hears when the other comes, leaves, and when its connection closes. */
    struct client a;
    struct client b;
    struct header_writer *w;
    struct name_list list;

    start(&a, HEADER_JSON);
    w = client_begin(&a, REQUEST_GET_CONSUMER_LIST_BY_GROUP, 0);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    ck_assert_int_eq(client_call(&a, SLICE_EMPTY), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(client_heartbeat(&a, "a", NULL, "g", "T"), RESPONSE_SUCCESS);
    for (int round = 0; round < 2; round++) {
        client_open(&b, f.port, HEADER_ROCKETMQ);
        ck_assert_int_eq(client_heartbeat(&b, "b", NULL, "g", "T"), RESPONSE_SUCCESS);
        w = client_begin(&a, REQUEST_GET_CONSUMER_LIST_BY_GROUP, 0);
        header_put_str(w, "consumerGroup", SLICE_LIT("g"));
        ck_assert_int_eq(client_call(&a, SLICE_EMPTY), RESPONSE_SUCCESS);
        ck_assert_int_eq(name_list_decode(a.body, LIST_CONSUMER_IDS, &list), 0);
        ck_assert_uint_eq(list.count, 2);
        name_list_fini(&list);
        if (round == 0) {
            w = client_begin(&b, REQUEST_UNREGISTER_CLIENT, 0);
            header_put_str(w, "clientID", SLICE_LIT("b"));
            header_put_str(w, "consumerGroup", SLICE_LIT("g"));
            ck_assert_int_eq(client_call(&b, SLICE_EMPTY), RESPONSE_SUCCESS);
        }
        client_close(&b);
        ck_assert_int_eq(client_receive(&a, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(a.header.code, REQUEST_NOTIFY_CONSUMER_IDS_CHANGED);
        ck_assert(slice_eq_str(header_str(&a.header, "consumerGroup"), "g"));
        ck_assert(header_is_oneway(&a.header));
        ck_assert_int_ne(a.header.opaque, 0);
    }
    await_route(&a, "%RETRY%g");
    stop(&a);
}
END_TEST

static void send_back(struct client *c, int64_t offset, int32_t level, int32_t max)
{
    struct header_writer *w = client_begin(c, REQUEST_CONSUMER_SEND_MSG_BACK, 0);

    header_put_i64(w, "offset", offset);
    header_put_str(w, "group", SLICE_LIT("g"));
    header_put_i64(w, "delayLevel", level);
    header_put_i64(w, "maxReconsumeTimes", max);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
}

/* Physical offset and number of retries of the last message of a queue. */
static int64_t last_of(struct client *c, const char *topic, int32_t *times)
{
    struct record_walk walk;
    struct record_view view;
    int64_t max = client_max_offset(c, topic, 0);

    ck_assert_int_gt(max, 0);
    ck_assert_int_eq(client_pull(c, &(struct test_pull){"g", topic, 0, max - 1, 1, 0}),
                     RESPONSE_SUCCESS);
    walk.rest = c->body;
    ck_assert_int_eq(record_walk_next(&walk, &view), 1);
    *times = view.f.reconsume_times;
    return view.f.physical_offset;
}

START_TEST(retries_end_in_the_dead_letter_queue)
{
    /*
     * Sent back twice with a maximum of 2, then dead; level -1 is dead at once; a copy sent by hand
     * likewise.
     */
    struct client c;
    struct send_request req;
    struct header_writer *w;
    int32_t times;
    int64_t offset;

    start(&c, HEADER_JSON);
    (void)send_text(&c, "T", "stubborn");
    offset = last_of(&c, "T", &times);
    for (int i = 1; i <= 2; i++) {
        send_back(&c, offset, 0, 2);
        ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "%RETRY%g", 0, i - 1, 1, 15000}),
                         RESPONSE_SUCCESS); /* when its delay is over */
        offset = last_of(&c, "%RETRY%g", &times);
        ck_assert_int_eq(times, i);
    }
    send_back(&c, offset, 0, 2);
    (void)last_of(&c, "%DLQ%g", &times);
    ck_assert_int_eq(times, 3);
    send_back(&c, offset, -1, 16);
    ck_assert_int_eq(client_max_offset(&c, "%DLQ%g", 0), 2);
    ck_assert_int_eq(client_max_offset(&c, "%RETRY%g", 0), 2);
    for (int i = 0; i < 2; i++) {
        w = client_begin(&c, REQUEST_SEND_MESSAGE_V2, 0);
        send_request_init(&req);
        req.producer_group = SLICE_LIT("CLIENT_INNER_PRODUCER");
        req.topic = SLICE_LIT("%RETRY%g");
        req.queue_id = 0;
        req.born_ms = 1;
        req.reconsume_times = 3 + i;
        req.max_reconsume_times = 3; /* RocketMQ: the maximum itself is still a retry */
        send_request_encode(w, &req, true);
        ck_assert_int_eq(client_call(&c, SLICE_LIT("by hand")), RESPONSE_SUCCESS);
        ck_assert_int_eq(client_max_offset(&c, "%RETRY%g", 0), 3);
        ck_assert_int_eq(client_max_offset(&c, "%DLQ%g", 0), 2 + i);
    }
    w = client_begin(&c, REQUEST_CONSUMER_SEND_MSG_BACK, 0);
    header_put_i64(w, "offset", 1 << 20);
    header_put_str(w, "group", SLICE_LIT("g"));
    header_put_i64(w, "delayLevel", 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SYSTEM_ERROR);
    stop(&c);
}
END_TEST

START_TEST(look_ups_by_key_and_offset)
{
    /* By a word of KEYS and by UNIQ_KEY, newest first; a committed half is shown as committed. */
    struct client c;
    struct header_writer *w;
    struct record_walk walk;
    struct record_view view;
    int64_t half;

    start(&c, HEADER_ROCKETMQ);
    for (int i = 0; i < 70; i++) {
        (void)client_send(&c, &(struct test_message){.topic = "T",
                                                     .properties = "KEYS=one two",
                                                     .body = SLICE_LIT("x")});
    }
    half = client_send(&c, &(struct test_message){.topic = "T",
                                                  .properties = "UNIQ_KEY=u1;KEYS=two",
                                                  .body = SLICE_LIT("half"),
                                                  .is_half = true});
    ck_assert_int_eq(client_end(&c, "pg", half, "u1", 8), RESPONSE_SUCCESS);
    for (int i = 0; i < 3; i++) {
        static const char *const keys[] = {"two", "u1", "three"};
        static const int expect[] = {64, 1, 0};
        int count = 0;
        int64_t last = INT64_MAX;
        w = client_begin(&c, REQUEST_QUERY_MESSAGE, 0);
        header_put_str(w, "topic", SLICE_LIT("T"));
        header_put_str(w, "key", slice_str(keys[i]));
        header_put_i64(w, "maxNum", 1000);
        header_put_i64(w, "beginTimestamp", 0);
        header_put_i64(w, "endTimestamp", INT64_MAX);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY),
                         expect[i] > 0 ? RESPONSE_SUCCESS : RESPONSE_QUERY_NOT_FOUND);
        walk.rest = c.body;
        while (record_walk_next(&walk, &view) == 1) {
            ck_assert_int_lt(view.f.physical_offset, last);
            last = view.f.physical_offset;
            ck_assert_int_ne(view.f.sys_flag & SYSFLAG_TXN_MASK, SYSFLAG_TXN_PREPARED);
            count++;
        }
        ck_assert_int_eq(count, expect[i]);
    }
    w = client_begin(&c, REQUEST_VIEW_MESSAGE_BY_ID, 0);
    header_put_i64(w, "offset", half);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c.body, &view), 0);
    ck_assert_int_eq(view.f.sys_flag & SYSFLAG_TXN_MASK, SYSFLAG_TXN_COMMIT);
    w = client_begin(&c, REQUEST_VIEW_MESSAGE_BY_ID, 0);
    header_put_i64(w, "offset", half + 8);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SYSTEM_ERROR);
    stop(&c);
}
END_TEST

START_TEST(the_name_server_answers)
{
    /*
     * Section 12 on its port: route, cluster, lists, key-value configuration; unknown topics have
     * no route.
     */
    struct client c;
    struct client n;
    struct header_writer *w;
    struct route route;

    start(&c, HEADER_JSON);
    client_open(&n, f.name_port, HEADER_JSON);
    w = client_begin(&n, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0);
    header_put_str(w, "topic", SLICE_LIT("T"));
    ck_assert_int_eq(client_call(&n, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(route_decode(n.body, &route), 0);
    ck_assert_uint_eq(route.queue_count, 1);
    ck_assert_int_eq(route.queues[0].write_queue_count, 2);
    ck_assert_uint_eq(route.broker_count, 1);
    ck_assert(slice_eq_str(route.brokers[0].broker_name, "escrow-a"));
    route_fini(&route);
    w = client_begin(&n, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0);
    header_put_str(w, "topic", SLICE_LIT("Unknown"));
    ck_assert_int_eq(client_call(&n, SLICE_EMPTY), RESPONSE_TOPIC_NOT_EXIST);
    w = client_begin(&n, REQUEST_GET_TOPICS_BY_CLUSTER, 0);
    header_put_str(w, "cluster", SLICE_LIT("DefaultCluster"));
    ck_assert_int_eq(client_call(&n, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_ptr_nonnull(memmem(n.body.ptr, n.body.len, "\"T\"", 3));
    for (int i = 0; i < 3; i++) {
        static const int32_t codes[] = {REQUEST_PUT_KV_CONFIG, REQUEST_GET_KV_CONFIG,
                                        REQUEST_DELETE_KV_CONFIG};
        w = client_begin(&n, codes[i], 0);
        header_put_str(w, "namespace", SLICE_LIT("ns"));
        header_put_str(w, "key", SLICE_LIT("k"));
        if (i == 0) {
            header_put_str(w, "value", SLICE_LIT("v"));
        }
        ck_assert_int_eq(client_call(&n, SLICE_EMPTY), RESPONSE_SUCCESS);
        if (i == 1) {
            ck_assert(slice_eq_str(header_str(&n.header, "value"), "v"));
        }
    }
    w = client_begin(&n, REQUEST_GET_KVLIST_BY_NAMESPACE, 0);
    header_put_str(w, "namespace", SLICE_LIT("ns"));
    ck_assert_int_eq(client_call(&n, SLICE_EMPTY), RESPONSE_QUERY_NOT_FOUND);
    client_close(&n);
    stop(&c);
}
END_TEST

START_TEST(a_broker_registers_with_a_name_server_of_its_own)
{
    /*
     * Two processes: the route is there soon after a topic is made, and gone when the broker stops
     * or dies.
     */
    static struct broker_fixture broker;
    struct client n;
    struct client c;
    char addrs[64];
    int64_t deadline_ms = test_now_ms() + CLIENT_WAIT_MS;

    broker_fixture_start(&f, (const char *const[]){"--role", "namesrv", NULL});
    (void)snprintf(addrs, sizeof addrs, "127.0.0.1:%u", f.name_port); /* fits */
    client_open(&n, f.name_port, HEADER_JSON);
    (void)client_begin(&n, REQUEST_GET_ALL_TOPIC_CONFIG, 0);
    ck_assert_int_eq(client_call(&n, SLICE_EMPTY), RESPONSE_REQUEST_CODE_NOT_SUPPORTED);
    broker_fixture_start(&broker,
                         (const char *const[]){"--role", "broker", "--namesrv.addrs", addrs, NULL});
    for (int round = 0; round < 3; round++) {
        int32_t code;
        client_open(&c, broker.port, HEADER_JSON);
        client_topic(&c, "T", 1);
        client_close(&c);
        if (round == 1) {
            broker_fixture_stop(&broker);
        } else if (round == 2) {
            broker_fixture_kill(&broker);
        }
        do {
            struct header_writer *w = client_begin(&n, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0);
            header_put_str(w, "topic", SLICE_LIT("T"));
            code = client_call(&n, SLICE_EMPTY);
            test_await(-1, deadline_ms, "the route follows");
        } while (code != (round == 0 ? RESPONSE_SUCCESS : RESPONSE_TOPIC_NOT_EXIST));
        if (round == 1) {
            broker_fixture_launch(&broker);
        }
    }
    stop(&n);
}
END_TEST

START_TEST(what_is_going_on_can_be_looked_at)
{
    /* 30004 in pages, by state; 30007 the oldest undecided half, and whose. */
    struct client c;
    struct list_txn_request req = {.limit = 10, .older_than_ms = INSPECT_NONE};
    struct list_reader list;
    struct list_txn_row row;
    struct txn_horizon horizon;
    struct buf body;
    const char *digits = "0123456789abcdef";
    int64_t first = -1;
    int64_t last = -1;
    uint64_t end;
    int rows = 0;

    start(&c, HEADER_MSGPACK);
    (void)client_begin(&c, REQUEST_ESCROW_TXN_HORIZON, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(txn_horizon_decode(c.body, &horizon), 0);
    ck_assert_int_eq(horizon.born_ms, INSPECT_NONE);
    end = horizon.offset; /* nothing undecided: the end of the log */
    for (int i = 0; i < 25; i++) {
        char properties[64];
        (void)snprintf(properties, sizeof properties, "UNIQ_KEY=h%d", i); /* fits */
        (void)client_send(&c, &(struct test_message){.topic = "T",
                                                     .properties = properties,
                                                     .body = SLICE_LIT("x"),
                                                     .is_half = true});
    }
    buf_init(&body, 0);
    do {
        buf_clear(&body);
        list_txn_request_encode(&body, &req);
        (void)client_begin(&c, REQUEST_ESCROW_LIST_TRANSACTIONS, 0);
        ck_assert_int_eq(client_call(&c, buf_slice(&body)), RESPONSE_SUCCESS);
        ck_assert_int_eq(list_txn_decode(c.body, &list), 0);
        ck_assert_uint_le(list.count, 10);
        req.cursor = list.cursor;
        while (list_txn_next(&list, &row)) {
            ck_assert_int_gt(row.offset, last);
            first = last < 0 ? row.offset : first;
            last = row.offset;
            ck_assert(slice_eq_str(row.state, "PREPARED"));
            ck_assert(slice_eq_str(row.group, "pg"));
            rows++;
        }
    } while (list.has_more);
    ck_assert_int_eq(rows, 25);
    req = (struct list_txn_request){
        .limit = 10, .older_than_ms = INSPECT_NONE, .state = SLICE_LIT("NONSENSE")};
    buf_clear(&body);
    list_txn_request_encode(&body, &req);
    (void)client_begin(&c, REQUEST_ESCROW_LIST_TRANSACTIONS, 0);
    ck_assert_int_eq(client_call(&c, buf_slice(&body)), RESPONSE_INVALID_PARAMETER);
    (void)client_begin(&c, REQUEST_ESCROW_TXN_HORIZON, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(txn_horizon_decode(c.body, &horizon), 0);
    ck_assert_uint_eq(horizon.undecided, 25);
    ck_assert_int_gt(horizon.born_ms, 0);
    ck_assert_int_le(horizon.born_ms, horizon.now_ms);
    ck_assert_int_eq((int64_t)horizon.offset, first);
    ck_assert_uint_ge(horizon.offset, end);
    ck_assert(slice_has_prefix(horizon.broker, SLICE_LIT("escrow-a#")));
    ck_assert_uint_eq(horizon.broker.len, strlen("escrow-a#") + 8);
    for (size_t i = strlen("escrow-a#"); i < horizon.broker.len; i++) {
        ck_assert_ptr_nonnull(strchr(digits, horizon.broker.ptr[i]));
    }
    buf_fini(&body);
    stop(&c);
}
END_TEST

START_TEST(a_group_has_its_lag_and_its_members)
{
    /* 30006: what is committed, what there is, who is connected. */
    struct client c;
    struct list_reader list;
    struct group_row group;
    struct header_writer *w;
    struct buf body;

    start(&c, HEADER_ROCKETMQ);
    buf_init(&body, 0);
    (void)send_text(&c, "T", "x");
    w = queue_request(&c, REQUEST_UPDATE_CONSUMER_OFFSET, "T", 0);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_i64(w, "commitOffset", 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_heartbeat(&c, "c1", NULL, "g", "T"), RESPONSE_SUCCESS);
    buf_clear(&body);
    list_groups_request_encode(&body, SLICE_LIT("g"));
    (void)client_begin(&c, REQUEST_ESCROW_LIST_GROUPS, 0);
    ck_assert_int_eq(client_call(&c, buf_slice(&body)), RESPONSE_SUCCESS);
    ck_assert_int_eq(list_groups_decode(c.body, &list), 0);
    ck_assert(list_groups_next(&list, &group));
    ck_assert_int_eq(group.lag, 1);
    ck_assert_uint_eq(group.members, 1);
    buf_fini(&body);
    stop(&c);
}
END_TEST

START_TEST(a_group_that_has_stored_nothing_is_listed_with_its_members)
{
    /*
     * 30006: every queue that it reads, with all that is in it as its lag; then those that are
     * left.
     */
    struct client c;
    struct list_reader list;
    struct group_row group;
    struct header_writer *w;
    struct buf body;
    size_t rows = 0;
    int64_t lag = 0;

    start(&c, HEADER_ROCKETMQ);
    buf_init(&body, 0);
    (void)send_text(&c, "T", "x");
    (void)send_text(&c, "T", "y");
    ck_assert_int_eq(client_heartbeat(&c, "c1", NULL, "new", "T"), RESPONSE_SUCCESS);
    list_groups_request_encode(&body, SLICE_LIT("new"));
    for (int round = 0; round < 2; round++) {
        size_t stored = 0;
        rows = 0;
        lag = 0;
        (void)client_begin(&c, REQUEST_ESCROW_LIST_GROUPS, 0);
        ck_assert_int_eq(client_call(&c, buf_slice(&body)), RESPONSE_SUCCESS);
        ck_assert_int_eq(list_groups_decode(c.body, &list), 0);
        while (list_groups_next(&list, &group)) {
            ck_assert(slice_eq_str(group.topic, "T"));
            ck_assert_uint_eq(group.members, 1);
            stored += group.committed >= 0 ? 1 : 0;
            lag += group.lag;
            rows++;
        }
        ck_assert_uint_ge(rows, 1);
        ck_assert_uint_eq(stored, (size_t)round);
        ck_assert_int_eq(lag, 2 - round);
        w = queue_request(&c, REQUEST_UPDATE_CONSUMER_OFFSET, "T", 0);
        header_put_str(w, "consumerGroup", SLICE_LIT("new"));
        header_put_i64(w, "commitOffset", 1);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    }
    buf_fini(&body);
    stop(&c);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, a_send_in_each_spelling_and_encoding);
    tcase_add_test(tc, sends_that_are_refused);
    tcase_add_test(tc, a_batch_is_stored_whole_or_not_at_all);
    tcase_add_test(tc, a_batch_is_answered_with_an_id_for_each_message);
    tcase_add_test(tc, topics_come_from_their_template_only);
    tcase_add_test(tc, system_topics_are_not_changed_by_request);
    tcase_add_test(tc, a_closed_topic_refuses_what_its_bits_refuse);
    tcase_add_test(tc, every_line_of_the_pull_table);
    tcase_add_test(tc, pulls_by_the_subscription_of_the_heartbeat);
    tcase_add_test(tc, offsets_and_times);
    tcase_add_test(tc, an_upper_bound_is_the_last_message_of_a_time);
    tcase_add_test(tc, members_of_a_group_are_listed_and_told);
    tcase_add_test(tc, retries_end_in_the_dead_letter_queue);
    tcase_add_test(tc, look_ups_by_key_and_offset);
    tcase_add_test(tc, the_name_server_answers);
    tcase_add_test(tc, a_broker_registers_with_a_name_server_of_its_own);
    tcase_add_test(tc, what_is_going_on_can_be_looked_at);
    tcase_add_test(tc, a_group_has_its_lag_and_its_members);
    tcase_add_test(tc, a_group_that_has_stored_nothing_is_listed_with_its_members);
}

int main(void)
{
    return broker_fixture_main("protocol", 60, add);
}
