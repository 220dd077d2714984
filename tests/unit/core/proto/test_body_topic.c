/* Topic and group configurations and their tables. */
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

START_TEST(a_group_keeps_defaults_for_what_is_absent)
{
    /*
     * Shows: RocketMQ's defaults, the round trip, and that the name does not point into the body.
     */
    struct group_config group;
    struct group_config back;
    struct group_config_name name;
    struct buf out;

    buf_init(&out, 0);
    ck_assert_int_eq(group_config_decode(SLICE_LIT("{\"groupName\":\"g\"}"), &group, &name), 0);
    assert_slice(group.name, "g");
    ck_assert_ptr_eq(group.name.ptr, name.text);
    ck_assert(group.is_consume_enabled);
    ck_assert(!group.is_orderly);
    ck_assert_int_eq(group.retry_max_times, 16);
    ck_assert_int_eq(group.retry_queue_count, 1);
    group.is_consume_enabled = false;
    group.is_orderly = true;
    group.retry_max_times = 3;
    group.broker_id = 2;
    group_config_encode(&out, &group);
    ck_is_standard(buf_slice(&out));
    ck_assert_int_eq(group_config_decode(buf_slice(&out), &back, &name), 0);
    ck_assert(!back.is_consume_enabled);
    ck_assert(back.is_orderly);
    ck_assert_int_eq(back.retry_max_times, 3);
    ck_assert_int_eq(back.broker_id, 2);
    buf_fini(&out);
}
END_TEST

START_TEST(a_group_without_a_usable_name_is_refused)
{
    /* Shows: absent, empty, and one byte too long; the longest passes. */
    char body[GROUP_LEN_MAX + 64];
    struct group_config group;
    struct group_config_name name;

    ck_assert_int_eq(group_config_decode(SLICE_LIT("{}"), &group, &name), ESCROW_EPROTO);
    ck_assert_int_eq(group_config_decode(SLICE_LIT("{\"groupName\":\"\"}"), &group, &name),
                     ESCROW_EPROTO);
    for (int len = GROUP_LEN_MAX; len <= GROUP_LEN_MAX + 1; len++) {
        int n = snprintf(body, sizeof body, "{\"groupName\":\"%0*d\"}", len, 7);
        ck_assert_int_eq(group_config_decode(slice_of(body, (size_t)n), &group, &name),
                         len == GROUP_LEN_MAX ? 0 : ESCROW_EPROTO);
    }
}
END_TEST

START_TEST(a_group_table_has_java_s_shape)
{
    /* Shows: the body of GET_ALL_SUBSCRIPTIONGROUP_CONFIG. */
    struct group_config group;
    struct group_table table = {.groups = &group, .group_count = 1};
    struct buf out;

    group_config_init(&group, SLICE_LIT("g"));
    buf_init(&out, 0);
    group_table_encode(&out, &table);
    ck_is_standard(buf_slice(&out));
    assert_slice(slice_of(out.ptr, 91),
                 "{\"dataVersion\":{\"counter\":0,\"stateVersion\":0,\"timestamp\":0},"
                 "\"subscriptionGroupTable\":{\"g\":{");
    buf_fini(&out);
}
END_TEST

static int decode_groups(struct slice body)
{
    struct group_table table;
    int error = group_table_decode(body, &table);

    group_table_fini(&table);
    return error;
}

#define GROUPS                                                                                     \
    "{\"dataVersion\":{\"counter\":2},\"forbiddenTable\":{},\"subscriptionGroupTable\":{"          \
    "\"a\":{\"attributes\":{},\"consumeEnable\":false,\"groupName\":\"a\",\"retryMaxTimes\":3},"   \
    "\"b\":{\"groupName\":\"b\",\"groupRetryPolicy\":{\"type\":\"CUSTOMIZED\"}}}}"

START_TEST(a_group_table_is_read_back)
{
    /* Shows: RocketMQ's table, what we do not know in it too; absent fields have their defaults. */
    struct group_table table;

    ck_assert_int_eq(group_table_decode(SLICE_LIT(GROUPS), &table), 0);
    ck_assert_uint_eq(table.group_count, 2);
    ck_assert_int_eq(table.version.counter, 2);
    assert_slice(table.groups[0].name, "a");
    ck_assert(!table.groups[0].is_consume_enabled);
    ck_assert_int_eq(table.groups[0].retry_max_times, 3);
    assert_slice(table.groups[1].name, "b");
    ck_assert(table.groups[1].is_consume_enabled);
    ck_assert_int_eq(table.groups[1].retry_max_times, 16);
    group_table_fini(&table);
    ck_assert_int_eq(decode_groups(SLICE_LIT("{}")), 0);
    ck_assert_int_eq(decode_groups(SLICE_LIT("{\"subscriptionGroupTable\":{\"a\":{}}}")),
                     ESCROW_EPROTO);
    ck_every_truncation(decode_groups, GROUPS);
    ck_every_failing_allocation(decode_groups, GROUPS);
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
    tcase_add_test(tc, a_group_keeps_defaults_for_what_is_absent);
    tcase_add_test(tc, a_group_without_a_usable_name_is_refused);
    tcase_add_test(tc, a_group_table_has_java_s_shape);
    tcase_add_test(tc, a_group_table_is_read_back);
    return run_tests(tc, "core/proto/body_topic");
}
