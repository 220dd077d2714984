/* Topic configurations and their tables. */
#include "core/proto/body_topic.h"

#include "tests/unit/core/proto/body_test.h"

#define TABLE                                                                                      \
    "{\"dataVersion\":{\"counter\":1,\"stateVersion\":0,\"timestamp\":1700000000000},"             \
    "\"topicConfigTable\":{\"T\":{\"attributes\":{},\"order\":false,\"perm\":6,"                   \
    "\"readQueueNums\":4,\"topicFilterType\":\"SINGLE_TAG\",\"topicName\":\"T\","                  \
    "\"topicSysFlag\":0,\"writeQueueNums\":4}}}"

static int decode_table(struct slice body)
{
    struct topic_table table;
    int error = topic_table_decode(body, &table);

    topic_table_fini(&table);
    return error;
}

START_TEST(a_topic_has_java_s_text)
{
    /* Shows: the body of GET_TOPIC_CONFIG, byte for byte, and the table around it. */
    struct topic_config topic = {
        .name = SLICE_LIT("T"), .read_queue_count = 4, .write_queue_count = 4, .perm = 6};
    struct topic_table table = {
        .topics = &topic, .topic_count = 1, .version = {1700000000000, 1, 0}};
    struct buf out;

    buf_init(&out, 0);
    topic_config_encode(&out, &topic);
    assert_slice(buf_slice(&out),
                 "{\"attributes\":{},\"order\":false,\"perm\":6,\"readQueueNums\":4,"
                 "\"topicFilterType\":\"SINGLE_TAG\",\"topicName\":\"T\",\"topicSysFlag\":0,"
                 "\"writeQueueNums\":4}");
    buf_clear(&out);
    topic_table_encode(&out, &table);
    assert_slice(buf_slice(&out), TABLE);
    buf_fini(&out);
}
END_TEST

START_TEST(a_topic_table_is_read_back)
{
    /* Shows: the round trip; a topic may have more fields than we know. */
    struct topic_table table;

    ck_assert_int_eq(topic_table_decode(SLICE_LIT(TABLE), &table), 0);
    ck_assert_uint_eq(table.topic_count, 1);
    ck_assert_int_eq(table.version.timestamp_ms, 1700000000000);
    ck_assert_int_eq(table.version.counter, 1);
    assert_slice(table.topics[0].name, "T");
    ck_assert_int_eq(table.topics[0].read_queue_count, 4);
    topic_table_fini(&table);
    ck_assert_int_eq(topic_table_decode(SLICE_LIT("{\"topicConfigTable\":{\"T\":{\"topicName\":"
                                                  "\"T\",\"order\":true,\"perm\":2,\"x\":{1:2},"
                                                  "\"topicFilterType\":\"MULTI_TAG\"}}}"),
                                        &table),
                     0);
    ck_assert(table.topics[0].is_ordered);
    ck_assert(table.topics[0].is_multi_tag);
    ck_assert_int_eq(table.topics[0].perm, 2);
    topic_table_fini(&table);
}
END_TEST

START_TEST(impossible_topics_are_refused)
{
    /* Shows: no name, and queue counts below 0 or above QUEUES_PER_TOPIC_MAX. */
    static const char *const bad[] = {"{\"topicConfigTable\":{\"T\":{}}}",
                                      "{\"topicConfigTable\":{\"T\":7}}",
                                      "{\"topicConfigTable\":{\"T\":{\"topicName\":\"T\","
                                      "\"readQueueNums\":-1}}}",
                                      "{\"topicConfigTable\":{\"T\":{\"topicName\":\"T\","
                                      "\"writeQueueNums\":1025}}}"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(decode_table(slice_str(bad[i])) == ESCROW_EPROTO, "accepted: %s", bad[i]);
    }
}
END_TEST

START_TEST(truncations_and_failing_allocations_are_harmless)
{
    /* Shows: every prefix is refused; out of memory at any point leaves nothing behind. */
    ck_every_truncation(decode_table, TABLE);
    ck_every_failing_allocation(decode_table, TABLE);
}
END_TEST

START_TEST(a_data_version_survives_the_round_trip)
{
    /* Shows: the body of QUERY_DATA_VERSION. */
    struct data_version version = {1, 2, 3};
    struct data_version back;
    struct buf out;

    buf_init(&out, 0);
    data_version_encode(&out, &version);
    assert_slice(buf_slice(&out), "{\"counter\":2,\"stateVersion\":3,\"timestamp\":1}");
    ck_assert_int_eq(data_version_decode(buf_slice(&out), &back), 0);
    ck_assert_mem_eq(&back, &version, sizeof back);
    ck_assert_int_eq(data_version_decode(SLICE_LIT("[]"), &back), ESCROW_EPROTO);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_topic");

    tcase_add_test(tc, a_topic_has_java_s_text);
    tcase_add_test(tc, a_topic_table_is_read_back);
    tcase_add_test(tc, impossible_topics_are_refused);
    tcase_add_test(tc, truncations_and_failing_allocations_are_harmless);
    tcase_add_test(tc, a_data_version_survives_the_round_trip);
    return run_tests(tc, "core/proto/body_topic");
}
