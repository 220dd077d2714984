/* Subscription group configurations and their table. */
#include "core/proto/body_group.h"

#include "tests/unit/core/proto/body_test.h"

START_TEST(a_group_keeps_defaults_for_what_is_absent)
{
    /* Shows: RocketMQ's defaults, the round trip, and that what nobody knows does no harm. */
    struct group_config group;
    struct group_config back;
    struct body_tree tree;
    struct body_tree tree_back;
    struct buf out;

    buf_init(&out, 0);
    ck_assert_int_eq(
        group_config_decode(SLICE_LIT("{\"groupName\":\"g\",\"x\":{\"y\":[1]}}"), &group, &tree),
        0);
    assert_slice(group.name, "g");
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
    ck_assert_int_eq(group_config_decode(buf_slice(&out), &back, &tree_back), 0);
    ck_assert(!back.is_consume_enabled);
    ck_assert(back.is_orderly);
    ck_assert_int_eq(back.retry_max_times, 3);
    ck_assert_int_eq(back.broker_id, 2);
    body_tree_fini(&tree);
    body_tree_fini(&tree_back);
    buf_fini(&out);
}
END_TEST

START_TEST(a_group_without_a_usable_name_is_refused)
{
    /* Shows: absent, empty, and one byte too long; the longest passes. */
    char body[GROUP_LEN_MAX + 64];
    struct group_config group;
    struct body_tree tree;

    ck_assert_int_eq(group_config_decode(SLICE_LIT("{}"), &group, &tree), ESCROW_EPROTO);
    ck_assert_int_eq(group_config_decode(SLICE_LIT("{\"groupName\":\"\"}"), &group, &tree),
                     ESCROW_EPROTO);
    for (int len = GROUP_LEN_MAX; len <= GROUP_LEN_MAX + 1; len++) {
        int n = snprintf(body, sizeof body, "{\"groupName\":\"%0*d\"}", len, 7);
        ck_assert_int_eq(group_config_decode(slice_of(body, (size_t)n), &group, &tree),
                         len == GROUP_LEN_MAX ? 0 : ESCROW_EPROTO);
        body_tree_fini(&tree);
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

#define TEXTS                                                                                      \
    "{\"groupName\":\"g\",\"attributes\":{\"+a\":\"1\"},\"groupRetryPolicy\":{\"x\":1,\"type\":"   \
    "\"EXPONENTIAL\",\"exponentialRetryPolicy\":{\"initial\":7,\"y\":[]},"                         \
    "\"customizedRetryPolicy\":"                                                                   \
    "{\"next\":[1,2]}},\"subscriptionDataSet\":[{\"topic\":\"T\",\"expressionType\":\"TAG\","      \
    "\"expression\":\"a || b\",\"version\":3,\"z\":null},{}]}"

static int decode_group(struct slice body)
{
    struct group_config group;
    struct body_tree tree;
    int error = group_config_decode(body, &group, &tree);

    body_tree_fini(&tree);
    return error;
}

START_TEST(attributes_policy_and_subscriptions_are_kept)
{
    /* Shows: with the members that RocketMQ's classes have; they are in what is shown again. */
    struct group_config group;
    struct body_tree tree;
    struct buf out;

    ck_assert_int_eq(group_config_decode(SLICE_LIT(TEXTS), &group, &tree), 0);
    assert_slice(group.attributes, "{\"+a\":\"1\"}");
    assert_slice(group.retry_policy,
                 "{\"customizedRetryPolicy\":{\"next\":[1,2]},\"exponentialRetryPolicy\":"
                 "{\"initial\":7,\"max\":7200000,\"multiplier\":2},\"type\":\"EXPONENTIAL\"}");
    assert_slice(group.subscriptions,
                 "[{\"expression\":\"a || b\",\"expressionType\":\"TAG\",\"topic\":\"T\","
                 "\"version\":3},{\"version\":0}]");
    buf_init(&out, 0);
    group_config_encode(&out, &group);
    ck_is_standard(buf_slice(&out));
    ck_assert_ptr_nonnull(memmem(out.ptr, out.len, "\"subscriptionDataSet\":[{\"expr", 28));
    ck_assert_ptr_nonnull(memmem(out.ptr, out.len, "\"groupRetryPolicy\":{\"customized", 31));
    buf_fini(&out);
    body_tree_fini(&tree);
    ck_every_truncation(decode_group, TEXTS);
    ck_every_failing_allocation(decode_group, TEXTS);
}
END_TEST

START_TEST(what_says_nothing_is_not_kept)
{
    /* Shows: null, empty, and the default policy; a group shows what RocketMQ's shows. */
    struct group_config group;
    struct body_tree tree;
    struct buf out;

    ck_assert_int_eq(
        group_config_decode(SLICE_LIT("{\"groupName\":\"g\",\"attributes\":{},\"groupRetryPolicy\":"
                                      "{\"type\":\"CUSTOMIZED\",\"customizedRetryPolicy\":null},"
                                      "\"subscriptionDataSet\":null}"),
                            &group, &tree),
        0);
    ck_assert_uint_eq(group.attributes.len + group.retry_policy.len + group.subscriptions.len, 0);
    buf_init(&out, 0);
    group_config_encode(&out, &group);
    ck_assert_ptr_nonnull(
        memmem(out.ptr, out.len, "\"groupRetryPolicy\":{\"type\":\"CUSTOMIZED\"}", 40));
    ck_assert_ptr_null(memmem(out.ptr, out.len, "subscriptionDataSet", 19));
    buf_fini(&out);
    body_tree_fini(&tree);
}
END_TEST

#define WRONG_NEXT "\"groupRetryPolicy\":{\"customizedRetryPolicy\":{\"next\":[\"a\"]}}"

START_TEST(texts_that_are_none_are_refused)
{
    /* Shows: other kinds than RocketMQ's classes have; and more than may be kept. */
    static const char *const wrong[] = {"\"attributes\":[]",
                                        "\"attributes\":{\"+a\":1}",
                                        "\"attributes\":{{\"b\":1}:\"x\"}",
                                        "\"groupRetryPolicy\":\"EXPONENTIAL\"",
                                        "\"groupRetryPolicy\":{\"type\":\"OTHER\"}",
                                        "\"groupRetryPolicy\":{\"type\":3}",
                                        "\"groupRetryPolicy\":{\"exponentialRetryPolicy\":1}",
                                        "\"groupRetryPolicy\":{\"customizedRetryPolicy\":[]}",
                                        WRONG_NEXT,
                                        "\"subscriptionDataSet\":{}",
                                        "\"subscriptionDataSet\":[1]"};
    char body[GROUP_TEXT_MAX + 128];

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int n = snprintf(body, sizeof body, "{\"groupName\":\"g\",%s}", wrong[i]);
        ck_assert_int_eq(decode_group(slice_of(body, (size_t)n)), ESCROW_EPROTO);
    }
    for (int len = GROUP_TEXT_MAX - 9; len <= GROUP_TEXT_MAX - 8; len++) { /* {"+a":""} */
        int n = snprintf(body, sizeof body,
                         "{\"groupName\":\"g\",\"attributes\":{\"+a\":\"%0*d\"}}", len, 7);
        ck_assert_int_eq(decode_group(slice_of(body, (size_t)n)),
                         len == GROUP_TEXT_MAX - 9 ? 0 : ESCROW_ELIMIT);
    }
}
END_TEST

/* expected: NULL for a refusal. */
static void change(const char *current, const char *changes, const char *expected)
{
    struct err_ctx err = {.code = 0};
    struct buf out;
    int rc;

    buf_init(&out, 0);
    rc = group_attributes_change(slice_str(current), slice_str(changes), &out, &err);
    if (expected == NULL) {
        ck_assert_int_eq(rc, ESCROW_EINVAL);
        ck_assert_uint_gt(strlen(err.text), 0);
    } else {
        ck_assert_int_eq(rc, 0);
        assert_slice(buf_slice(&out), expected);
    }
    buf_fini(&out);
    ck_assert_int_eq(mem_live_count(), 0);
}

START_TEST(attributes_are_added_changed_and_taken_away)
{
    /*
     * Shows: by + and - as with RocketMQ; what is not named stays, and a refusal changes nothing.
     */
    const char *both = "{\"a\":\"1\",\"b\":\"2\"}";

    change("", "", "");
    change("", "{\"+a\":\"1\",\"b\":\"2\"}", both);
    change(both, "", both);
    change(both, "{\"+a\":\"3\"}", "{\"b\":\"2\",\"a\":\"3\"}");
    change(both, "{\"-a\":\"\",\"+c\":\"\\\"\"}", "{\"b\":\"2\",\"c\":\"\\\"\"}");
    change(both, "{\"-a\":\"\",\"-b\":\"\"}", "");
    change(both, "{\"-c\":\"\"}", NULL);
    change(both, "{\"+c\":\"\",\"-c\":\"\"}", NULL);
    change(both, "{\"+\":\"1\"}", NULL);
    change(both, "{\"\":\"1\"}", NULL);
    change(both, "{\"++a\":\"1\"}", NULL);
}
END_TEST

START_TEST(there_are_not_more_attributes_than_the_limit)
{
    /* Shows: in one change, and in several. */
    struct err_ctx err = {.code = 0};
    struct buf many;
    struct buf out;

    buf_init(&many, 0);
    buf_init(&out, 0);
    for (int i = 0; i <= GROUP_ATTRIBUTES_MAX; i++) {
        buf_append_fmt(&many, "%s\"%d\":\"\"", i == 0 ? "{" : ",", i);
        if (i == GROUP_ATTRIBUTES_MAX - 1) {
            buf_append_str(&many, "}");
            ck_assert_int_eq(group_attributes_change(SLICE_EMPTY, buf_slice(&many), &out, &err), 0);
            buf_clear(&out);
            ck_assert_int_eq(
                group_attributes_change(buf_slice(&many), SLICE_LIT("{\"x\":\"\"}"), &out, &err),
                ESCROW_ELIMIT);
            buf_clear(&out);
            many.len--;
        }
    }
    buf_append_str(&many, "}");
    ck_assert_int_eq(group_attributes_change(SLICE_EMPTY, buf_slice(&many), &out, &err),
                     ESCROW_ELIMIT);
    buf_fini(&many);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_group");

    tcase_add_test(tc, a_group_keeps_defaults_for_what_is_absent);
    tcase_add_test(tc, a_group_without_a_usable_name_is_refused);
    tcase_add_test(tc, a_group_table_has_java_s_shape);
    tcase_add_test(tc, a_group_table_is_read_back);
    tcase_add_test(tc, attributes_policy_and_subscriptions_are_kept);
    tcase_add_test(tc, what_says_nothing_is_not_kept);
    tcase_add_test(tc, texts_that_are_none_are_refused);
    tcase_add_test(tc, attributes_are_added_changed_and_taken_away);
    tcase_add_test(tc, there_are_not_more_attributes_than_the_limit);
    return run_tests(tc, "core/proto/body_group");
}
