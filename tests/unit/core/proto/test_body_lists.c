/* Bodies that are one list, one table, or keyed by message queue. */
#include "core/proto/body_lists.h"

#include "core/proto/body_queues.h"
#include "tests/unit/core/proto/body_test.h"

#define IDS "{\"consumerIdList\":[\"a\",\"b\"]}"
#define KV  "{\"table\":{\"k\":\"v\",\"broker-a\":\"broker-a:4\"}}"
#define LOCK                                                                                       \
    "{\"clientId\":\"c\",\"consumerGroup\":\"g\",\"mqSet\":[{\"brokerName\":\"b\",\"queueId\":3,"  \
    "\"topic\":\"t\"}],\"onlyThisBroker\":false}"
#define TOPIC_STATS                                                                                \
    "{\"offsetTable\":{{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"t\"}:"                      \
    "{\"lastUpdateTimestamp\":1700000000000,\"maxOffset\":9,\"minOffset\":1}},"                    \
    "\"topicPutTps\":0.000}"
#define CONSUME_STATS                                                                              \
    "{\"consumeTps\":1.500,\"offsetTable\":{{\"brokerName\":\"b\",\"queueId\":1,\"topic\":\"t\"}:" \
    "{\"brokerOffset\":9,\"consumerOffset\":7,\"lastTimestamp\":5,\"pullOffset\":8}}}"
#define OFFSETS                                                                                    \
    "{\"offsetTable\":{{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"t\"}:5,"                    \
    "{\"brokerName\":\"b\",\"queueId\":1,\"topic\":\"t\"}:6}}"

#define MEMBER "{\"messageQueueTable\":{{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"t\"}:5}}"

static int decode_ids(struct slice body)
{
    struct name_list list;
    int error = name_list_decode(body, LIST_CONSUMER_IDS, &list);

    name_list_fini(&list);
    return error;
}

static int decode_kv(struct slice body)
{
    struct kv_table table;
    int error = kv_table_decode(body, &table);

    kv_table_fini(&table);
    return error;
}

static int decode_lock(struct slice body)
{
    struct queue_lock lock;
    int error = queue_lock_decode(body, &lock);

    queue_lock_fini(&lock);
    return error;
}

static int decode_set(struct slice body)
{
    struct queue_set set;
    int error = queue_set_decode(body, &set);

    queue_set_fini(&set);
    return error;
}

static int decode_stats(struct slice body)
{
    struct queue_table table;
    int error = queue_table_decode(body, QUEUE_TABLE_CONSUME, &table);

    queue_table_fini(&table);
    return error;
}

static int decode_offsets(struct slice body)
{
    struct queue_table table;
    int error = queue_table_decode(body, QUEUE_TABLE_OFFSETS, &table);

    queue_table_fini(&table);
    return error;
}

START_TEST(a_list_is_there_even_when_empty)
{
    /* Shows: the exact text, and that Java's client always finds the key. */
    struct slice names[] = {SLICE_LIT("a"), SLICE_LIT("b")};
    struct name_list back;
    struct buf out;

    buf_init(&out, 0);
    name_list_encode(&out, LIST_CONSUMER_IDS, names, 2);
    assert_slice(buf_slice(&out), IDS);
    ck_assert_int_eq(name_list_decode(buf_slice(&out), LIST_CONSUMER_IDS, &back), 0);
    ck_assert_uint_eq(back.count, 2);
    assert_slice(back.names[1], "b");
    name_list_fini(&back);
    buf_clear(&out);
    name_list_encode(&out, LIST_TOPICS, NULL, 0);
    assert_slice(buf_slice(&out), "{\"topicList\":[]}");
    ck_assert_int_eq(name_list_decode(buf_slice(&out), LIST_GROUPS, &back), 0);
    ck_assert_uint_eq(back.count, 0);
    name_list_fini(&back);
    ck_assert_int_eq(decode_ids(SLICE_LIT("{\"consumerIdList\":[1]}")), ESCROW_EPROTO);
    buf_fini(&out);
}
END_TEST

START_TEST(a_key_value_table_survives_the_round_trip)
{
    /* Shows: the body of GET_KVLIST_BY_NAMESPACE and of the answer to a registration. */
    struct kv_pair pairs[] = {{SLICE_LIT("k"), SLICE_LIT("v")},
                              {SLICE_LIT("broker-a"), SLICE_LIT("broker-a:4")}};
    struct kv_table back;
    struct buf out;

    buf_init(&out, 0);
    kv_table_encode(&out, pairs, 2);
    assert_slice(buf_slice(&out), KV);
    ck_assert_int_eq(kv_table_decode(buf_slice(&out), &back), 0);
    ck_assert_uint_eq(back.count, 2);
    assert_slice(back.pairs[1].key, "broker-a");
    assert_slice(back.pairs[1].value, "broker-a:4");
    kv_table_fini(&back);
    ck_assert_int_eq(decode_kv(SLICE_LIT("{\"table\":{\"k\":1}}")), ESCROW_EPROTO);
    buf_fini(&out);
}
END_TEST

START_TEST(a_lock_request_survives_the_round_trip)
{
    /* Shows: LOCK_BATCH_MQ there and back, and the set that was granted. */
    struct message_queue queue = {SLICE_LIT("t"), SLICE_LIT("b"), 3};
    struct queue_lock lock = {
        .group = SLICE_LIT("g"), .client_id = SLICE_LIT("c"), .queues = &queue, .queue_count = 1};
    struct queue_lock back;
    struct queue_set set;
    struct buf out;

    buf_init(&out, 0);
    queue_lock_encode(&out, &lock);
    assert_slice(buf_slice(&out), LOCK);
    ck_assert_int_eq(queue_lock_decode(buf_slice(&out), &back), 0);
    assert_slice(back.group, "g");
    assert_slice(back.client_id, "c");
    ck_assert_uint_eq(back.queue_count, 1);
    assert_slice(back.queues[0].topic, "t");
    ck_assert_int_eq(back.queues[0].queue_id, 3);
    queue_lock_fini(&back);
    buf_clear(&out);
    queue_set_encode(&out, &queue, 1);
    ck_assert_int_eq(queue_set_decode(buf_slice(&out), &set), 0);
    ck_assert_uint_eq(set.count, 1);
    assert_slice(set.queues[0].broker_name, "b");
    queue_set_fini(&set);
    buf_fini(&out);
}
END_TEST

START_TEST(a_lock_for_nobody_is_refused)
{
    /* Shows: no group, no client, a queue without topic or with a negative number. */
    static const char *const bad[] = {
        "{\"consumerGroup\":\"g\"}", "{\"clientId\":\"c\"}",
        "{\"clientId\":\"c\",\"consumerGroup\":\"g\",\"mqSet\":[{\"queueId\":1}]}",
        "{\"clientId\":\"c\",\"consumerGroup\":\"g\",\"mqSet\":[{\"topic\":\"t\"}]}",
        "{\"clientId\":\"c\",\"consumerGroup\":\"g\",\"mqSet\":[{\"topic\":\"t\",queueId:-1}]}"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(decode_lock(slice_str(bad[i])) == ESCROW_EPROTO, "accepted: %s", bad[i]);
    }
    ck_assert_int_eq(decode_set(SLICE_LIT("{}")), 0);
}
END_TEST

static void ck_table(enum queue_table_kind kind, const struct queue_table *table, const char *text)
{
    struct queue_table back;
    struct buf out;

    buf_init(&out, 0);
    queue_table_encode(&out, kind, table);
    assert_slice(buf_slice(&out), text);
    ck_assert_int_eq(queue_table_decode(buf_slice(&out), kind, &back), 0);
    ck_assert_uint_eq(back.count, table->count);
    ck_assert_double_eq(back.tps, table->tps);
    for (size_t i = 0; i < back.count; i++) {
        const struct queue_stats *a = &back.rows[i];
        const struct queue_stats *b = &table->rows[i];
        ck_assert(slice_eq(a->queue.topic, b->queue.topic));
        ck_assert(slice_eq(a->queue.broker_name, b->queue.broker_name));
        ck_assert_int_eq(a->queue.queue_id, b->queue.queue_id);
        ck_assert_int_eq(a->min_offset, b->min_offset);
        ck_assert_int_eq(a->max_offset, b->max_offset);
        ck_assert_int_eq(a->consumer_offset, b->consumer_offset);
        ck_assert_int_eq(a->pull_offset, b->pull_offset);
        ck_assert_int_eq(a->last_ms, b->last_ms);
    }
    queue_table_fini(&back);
    buf_fini(&out);
}

START_TEST(queues_as_keys_are_raw_objects)
{
    /*
     * Shows: the four tables in fastjson's form, which is what Java, Go and C++ take apart, and
     * the way back.
     */
    struct queue_stats topic = {.queue = {SLICE_LIT("t"), SLICE_LIT("b"), 0},
                                .min_offset = 1,
                                .max_offset = 9,
                                .last_ms = 1700000000000};
    struct queue_stats consume = {.queue = {SLICE_LIT("t"), SLICE_LIT("b"), 1},
                                  .max_offset = 9,
                                  .consumer_offset = 7,
                                  .pull_offset = 8,
                                  .last_ms = 5};
    struct queue_stats offsets[] = {
        {.queue = {SLICE_LIT("t"), SLICE_LIT("b"), 0}, .consumer_offset = 5},
        {.queue = {SLICE_LIT("t"), SLICE_LIT("b"), 1}, .consumer_offset = 6}};

    ck_table(QUEUE_TABLE_TOPIC, &(struct queue_table){.rows = &topic, .count = 1}, TOPIC_STATS);
    ck_table(QUEUE_TABLE_CONSUME, &(struct queue_table){.rows = &consume, .count = 1, .tps = 1.5},
             CONSUME_STATS);
    ck_table(QUEUE_TABLE_OFFSETS, &(struct queue_table){.rows = offsets, .count = 2}, OFFSETS);
    ck_table(QUEUE_TABLE_MEMBER, &(struct queue_table){.rows = offsets, .count = 1}, MEMBER);
}
END_TEST

START_TEST(a_table_with_impossible_rows_is_refused)
{
    /* Shows: keys that are no queue, values that are no row. */
    static const char *const bad[] = {"{\"offsetTable\":{\"x\":5}}", "{\"offsetTable\":{{}:5}}",
                                      "{\"offsetTable\":{{a:{}}:5}}",
                                      "{\"offsetTable\":{{\"topic\":\"t\",\"queueId\":0}:[]}}"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int error = decode_offsets(slice_str(bad[i]));
        ck_assert_msg(error == ESCROW_EPROTO || error == ESCROW_ELIMIT, "accepted: %s", bad[i]);
    }
    ck_assert_int_eq(decode_stats(SLICE_LIT("{\"offsetTable\":{{\"topic\":\"t\",queueId:0}:5}}")),
                     ESCROW_EPROTO);
}
END_TEST

START_TEST(truncations_and_failing_allocations_are_harmless)
{
    /* Shows: every prefix is refused; out of memory at any point leaves nothing behind. */
    static const struct {
        decode_once_fn *decode;
        const char *text;
    } cases[] = {{decode_ids, IDS},
                 {decode_kv, KV},
                 {decode_lock, LOCK},
                 {decode_set, "{\"lockOKMQSet\":[{\"topic\":\"t\",\"queueId\":0}]}"},
                 {decode_stats, CONSUME_STATS},
                 {decode_offsets, OFFSETS}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_every_truncation(cases[i].decode, cases[i].text);
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_every_failing_allocation(cases[i].decode, cases[i].text);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_lists");

    tcase_add_test(tc, a_list_is_there_even_when_empty);
    tcase_add_test(tc, a_key_value_table_survives_the_round_trip);
    tcase_add_test(tc, a_lock_request_survives_the_round_trip);
    tcase_add_test(tc, a_lock_for_nobody_is_refused);
    tcase_add_test(tc, queues_as_keys_are_raw_objects);
    tcase_add_test(tc, a_table_with_impossible_rows_is_refused);
    tcase_add_test(tc, truncations_and_failing_allocations_are_harmless);
    return run_tests(tc, "core/proto/body_lists");
}
