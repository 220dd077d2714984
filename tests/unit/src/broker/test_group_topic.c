#include "src/broker/group_topic.h"

#include "core/base/mem.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

START_TEST(what_is_written_is_read_again)
{
    /* Pairs back to back, each with something behind it; empty names too. */
    struct buf out;
    struct slice in;
    struct slice group;
    struct slice topic;

    buf_init(&out, 0);
    group_topic_encode(&out, SLICE_LIT("g"), SLICE_LIT("%RETRY%g"));
    buf_append_u8(&out, 7);
    group_topic_encode(&out, SLICE_EMPTY, SLICE_EMPTY);
    in = buf_slice(&out);
    ck_assert(group_topic_decode(&in, 1, &group, &topic));
    ck_assert(slice_eq_str(group, "g") && slice_eq_str(topic, "%RETRY%g"));
    ck_assert_uint_eq(in.ptr[0], 7);
    in = slice_of(in.ptr + 1, in.len - 1);
    ck_assert(!group_topic_decode(&in, 1, &group, &topic)); /* nothing behind it */
    ck_assert(group_topic_decode(&in, 0, &group, &topic));
    ck_assert_uint_eq(group.len + topic.len + in.len, 0);
    buf_fini(&out);
}
END_TEST

START_TEST(every_cut_is_refused_and_changes_nothing)
{
    /* At every byte of the pair and of the three behind it; also lengths that point far away. */
    struct buf out;
    struct slice group = SLICE_LIT("before");
    struct slice topic = SLICE_LIT("before");

    buf_init(&out, 0);
    group_topic_encode(&out, SLICE_LIT("group"), SLICE_LIT("topic"));
    buf_append(&out, "abc", 3);
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *exact =
            mem_alloc(len == 0 ? 1 : len); /* so that a sanitizer sees one byte too far */
        struct slice in;
        memcpy(exact, out.ptr, len);
        in = slice_of(exact, len);
        ck_assert(!group_topic_decode(&in, 3, &group, &topic));
        ck_assert(in.len == len && slice_eq_str(group, "before") && slice_eq_str(topic, "before"));
        mem_free(exact);
    }
    out.ptr[8] = 0xff; /* of the topic's length */
    struct slice in = buf_slice(&out);
    ck_assert(!group_topic_decode(&in, 3, &group, &topic));
    out.ptr[1] = 0xff;
    ck_assert(!group_topic_decode(&in, 3, &group, &topic));
    buf_fini(&out);
}
END_TEST

START_TEST(a_key_is_of_one_pair)
{
    /* Names that are none have no key; the longest have one. */
    struct group_topic_key a;
    struct group_topic_key b;
    char longest[GROUP_LEN_MAX + RETRY_TOPIC_LEN_MAX];

    memset(longest, 'x', sizeof longest);
    ck_assert(group_topic_key_make(&a, SLICE_LIT("ab"), SLICE_LIT("c")));
    ck_assert(group_topic_key_make(&b, SLICE_LIT("a"), SLICE_LIT("bc")));
    ck_assert(!slice_eq(group_topic_key_slice(&a), group_topic_key_slice(&b)));
    ck_assert(!group_topic_key_make(&a, SLICE_EMPTY, SLICE_LIT("c")));
    ck_assert(!group_topic_key_make(&a, SLICE_LIT("a"), SLICE_EMPTY));
    ck_assert(!group_topic_key_make(&a, SLICE_LIT("a\1b"), SLICE_LIT("c")));
    ck_assert(group_topic_key_make(&a, slice_of(longest, GROUP_LEN_MAX),
                                   slice_of(longest, RETRY_TOPIC_LEN_MAX)));
    ck_assert_uint_eq(a.len, sizeof a.bytes);
    ck_assert(!group_topic_key_make(&a, slice_of(longest, GROUP_LEN_MAX + 1), SLICE_LIT("c")));
    ck_assert(
        !group_topic_key_make(&a, SLICE_LIT("a"), slice_of(longest, RETRY_TOPIC_LEN_MAX + 1)));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/group_topic");
    TCase *tc = tcase_create("group_topic");

    tcase_add_test(tc, what_is_written_is_read_again);
    tcase_add_test(tc, every_cut_is_refused_and_changes_nothing);
    tcase_add_test(tc, a_key_is_of_one_pair);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
