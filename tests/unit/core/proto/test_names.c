#include "core/proto/names.h"

#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

/* A name of `len` characters that begins with `prefix`. */
static struct slice long_name(char *dst, const char *prefix, size_t len)
{
    size_t prefix_len = strlen(prefix);

    memset(dst, 'x', len);
    memcpy(dst, prefix, prefix_len);
    return slice_of(dst, len);
}

START_TEST(every_byte_is_allowed_or_refused_as_in_the_regex)
{
    /* ^[%|a-zA-Z0-9_-]+$ over all 256 bytes, for topics and for groups. */
    int c;

    for (c = 0; c < 256; c++) {
        uint8_t byte = (uint8_t)c;
        bool is_allowed = c != 0 && strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                           "0123456789_-%|",
                                           c) != NULL;
        ck_assert_int_eq(name_check_topic(slice_of(&byte, 1)), is_allowed ? 0 : ESCROW_EINVAL);
        ck_assert_int_eq(name_check_group(slice_of(&byte, 1)), is_allowed ? 0 : ESCROW_EINVAL);
    }
}
END_TEST

START_TEST(path_like_names_are_refused)
{
    /* What a file system would take for something else than one name. */
    static const char *const names[] = {"",    ".",    "..",  "../x",    "a/b",
                                        "a b", "a\nb", "a.b", "\xc3\xa9"};
    size_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        ck_assert_int_eq(name_check_topic(slice_str(names[i])), ESCROW_EINVAL);
        ck_assert_int_eq(name_check_group(slice_str(names[i])), ESCROW_EINVAL);
    }
    ck_assert_int_eq(name_check_topic(slice_of("a\0b", 3)), ESCROW_EINVAL);
}
END_TEST

START_TEST(lengths_end_where_the_document_says)
{
    /* 127 for topics, 255 with a retry or DLQ prefix, 248 for groups. */
    char text[400];

    ck_assert_int_eq(name_check_topic(long_name(text, "", 127)), 0);
    ck_assert_int_eq(name_check_topic(long_name(text, "", 128)), ESCROW_EINVAL);
    ck_assert_int_eq(name_check_topic(long_name(text, "%RETRY%", 255)), 0);
    ck_assert_int_eq(name_check_topic(long_name(text, "%RETRY%", 256)), ESCROW_EINVAL);
    ck_assert_int_eq(name_check_topic(SLICE_LIT("%RETRY%")), ESCROW_EINVAL); /* of no group */
    ck_assert_int_eq(name_check_topic(SLICE_LIT("%DLQ%")), ESCROW_EINVAL);
    ck_assert_int_eq(name_check_topic(SLICE_LIT("%RETRY%g")), 0);
    ck_assert_int_eq(name_check_topic(long_name(text, "%DLQ%", 255)), 0);
    ck_assert_int_eq(name_check_topic(long_name(text, "%DLQ%", 256)), ESCROW_EINVAL);
    ck_assert_int_eq(name_check_topic(long_name(text, "%DLX%", 128)), ESCROW_EINVAL);
    ck_assert_int_eq(name_check_group(long_name(text, "", 248)), 0);
    ck_assert_int_eq(name_check_group(long_name(text, "", 249)), ESCROW_EINVAL);
}
END_TEST

START_TEST(topics_are_classified_by_name)
{
    /* Retry, DLQ, system and ordinary topics; namespaces are ordinary. */
    ck_assert_int_eq(name_topic_class(SLICE_LIT("orders")), TOPIC_NORMAL);
    ck_assert_int_eq(name_topic_class(SLICE_LIT("inst%orders")), TOPIC_NORMAL);
    ck_assert_int_eq(name_topic_class(SLICE_LIT("%RETRY%g")), TOPIC_RETRY);
    ck_assert_int_eq(name_topic_class(SLICE_LIT("%DLQ%g")), TOPIC_DLQ);
    ck_assert_int_eq(name_topic_class(SLICE_LIT("%DLQ")), TOPIC_NORMAL);
    ck_assert_int_eq(name_topic_class(SLICE_LIT("TBW102")), TOPIC_SYSTEM);
    ck_assert_int_eq(name_topic_class(SLICE_LIT("TBW1020")), TOPIC_NORMAL);
    ck_assert_int_eq(name_topic_class(SLICE_LIT("rmq_sys_anything")), TOPIC_SYSTEM);
    ck_assert_int_eq(name_topic_class(SLICE_LIT("RMQ_SYS_TRACE_TOPIC")), TOPIC_SYSTEM);
    ck_assert_int_eq(name_topic_class(SLICE_EMPTY), TOPIC_NORMAL);
}
END_TEST

START_TEST(topics_of_the_broker_are_closed_to_producers)
{
    /* The not-allowed-to-send set; the template and the trace topic are open. */
    ck_assert(!name_is_sendable(SLICE_LIT("SCHEDULE_TOPIC_XXXX")));
    ck_assert(!name_is_sendable(SLICE_LIT("RMQ_SYS_TRANS_HALF_TOPIC")));
    ck_assert(!name_is_sendable(SLICE_LIT("RMQ_SYS_TRANS_OP_HALF_TOPIC")));
    ck_assert(!name_is_sendable(SLICE_LIT("TRANS_CHECK_MAX_TIME_TOPIC")));
    ck_assert(!name_is_sendable(SLICE_LIT("SELF_TEST_TOPIC")));
    ck_assert(!name_is_sendable(SLICE_LIT("OFFSET_MOVED_EVENT")));
    ck_assert(name_is_sendable(SLICE_LIT("RMQ_SYS_TRACE_TOPIC")));
    ck_assert(name_is_sendable(SLICE_LIT("BenchmarkTest")));
    ck_assert(name_is_sendable(SLICE_LIT("orders")));
}
END_TEST

START_TEST(retry_and_dlq_names_lead_to_the_group_and_back)
{
    /* The longest group gives names that pass the topic check; a bad group gives none. */
    char text[400];
    struct slice group = long_name(text, "g-", NAME_GROUP_LEN_MAX);
    struct name_buf name;

    ck_assert_int_eq(name_retry_topic(group, &name), 0);
    ck_assert_int_eq(name_check_topic(slice_str(name.text)), 0);
    ck_assert_int_eq(name_topic_class(slice_str(name.text)), TOPIC_RETRY);
    assert_same(name_group_of_topic(slice_str(name.text)), group);
    ck_assert_int_eq(name_dlq_topic(group, &name), 0);
    ck_assert_int_eq(name_check_topic(slice_str(name.text)), 0);
    ck_assert_int_eq(name_topic_class(slice_str(name.text)), TOPIC_DLQ);
    assert_same(name_group_of_topic(slice_str(name.text)), group);
    ck_assert_uint_eq(name_group_of_topic(SLICE_LIT("orders")).len, 0);
    ck_assert_int_eq(name_retry_topic(SLICE_LIT("a/b"), &name), ESCROW_EINVAL);
    ck_assert_int_eq(name_dlq_topic(SLICE_EMPTY, &name), ESCROW_EINVAL);
}
END_TEST

START_TEST(a_namespace_that_only_one_name_has_does_not_count)
{
    /* With and without, on either side, behind a prefix too; never across classes or namespaces. */
    static const struct {
        const char *a;
        const char *b;
        bool is_same;
    } pairs[] = {{"orders", "orders", true},
                 {"ns%orders", "orders", true},
                 {"ns%orders", "ns%orders", true},
                 {"ns%orders", "other%orders", false},
                 {"ns%orders", "ns", false},
                 {"orders", "order", false},
                 {"%RETRY%ns%g", "%RETRY%g", true},
                 {"%RETRY%g", "%DLQ%g", false},
                 {"%RETRY%g", "g", false},
                 {"%RETRY%g", "RETRY%g", false},
                 {"ns%TBW102", "TBW102", false},
                 {"ns%", "", false},
                 {"", "orders", false},
                 {"", "", true}};
    size_t i;

    for (i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct slice a = slice_str(pairs[i].a);
        struct slice b = slice_str(pairs[i].b);
        ck_assert_msg(name_is_same_topic(a, b) == pairs[i].is_same, "%s %s", pairs[i].a,
                      pairs[i].b);
        ck_assert_msg(name_is_same_topic(b, a) == pairs[i].is_same, "%s %s", pairs[i].b,
                      pairs[i].a);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("names");

    tcase_add_test(tests, every_byte_is_allowed_or_refused_as_in_the_regex);
    tcase_add_test(tests, path_like_names_are_refused);
    tcase_add_test(tests, lengths_end_where_the_document_says);
    tcase_add_test(tests, topics_are_classified_by_name);
    tcase_add_test(tests, topics_of_the_broker_are_closed_to_producers);
    tcase_add_test(tests, retry_and_dlq_names_lead_to_the_group_and_back);
    tcase_add_test(tests, a_namespace_that_only_one_name_has_does_not_count);
    return run_tests(tests, "core/proto/names");
}
