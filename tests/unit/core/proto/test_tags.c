/* Tag hash and tag expressions. */
#include "core/proto/tags.h"

#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

START_TEST(the_hash_is_java_s)
{
    /* Shows: values computed by a JVM: ASCII, two bytes per character, and a pair of surrogates. */
    ck_assert_int_eq(java_hash(SLICE_LIT("TagA")), 2598919);
    ck_assert_int_eq(java_hash(SLICE_LIT("TagB")), 2598920);
    ck_assert_int_eq(java_hash(SLICE_LIT("TagC")), 2598921);
    ck_assert_int_eq(java_hash(SLICE_LIT("\xe8\xae\xa2\xe5\x8d\x95")), 1129459);
    ck_assert_int_eq(java_hash(SLICE_LIT("\xf0\x9f\x98\x80")), 1772899);
    ck_assert_int_eq(java_hash(SLICE_LIT("TestTopic#k1")), -78689332);
    ck_assert_int_eq(java_hash(SLICE_EMPTY), 0);
    ck_assert_int_eq(tag_code(SLICE_EMPTY), 0);
    ck_assert_int_eq(tag_code(SLICE_LIT("TestTopic#k1")), INT64_C(-78689332));
}
END_TEST

START_TEST(malformed_text_hashes_as_replacement_characters)
{
    /* Shows: each maximal broken sequence counts as one U+FFFD (65533), as when Java decodes it. */
    ck_assert_int_eq(java_hash(SLICE_LIT("\xff")), 65533);
    ck_assert_int_eq(java_hash(SLICE_LIT("\x80")), 65533);
    ck_assert_int_eq(java_hash(SLICE_LIT("\xe8\xae")), 65533);              /* cut off */
    ck_assert_int_eq(java_hash(SLICE_LIT("\xc0\x80")), 65533 * 31 + 65533); /* overlong */
    ck_assert_int_eq(java_hash(SLICE_LIT("\xed\xa0\x80")),                  /* surrogate */
                     (65533 * 31 + 65533) * 31 + 65533);
    ck_assert_int_eq(java_hash(SLICE_LIT("\xf4\x90")), 65533 * 31 + 65533); /* > U+10FFFF */
    ck_assert_int_eq(java_hash(SLICE_LIT("\xe8"
                                         "a")),
                     65533 * 31 + 'a');
    ck_assert_int_eq(java_hash(SLICE_LIT("\xf4\x8f\xbf\xbf")), 0xDBFF * 31 + 0xDFFF);
}
END_TEST

START_TEST(star_and_nothing_match_everything)
{
    /* Shows: the two forms of "every message", which also match a message without tag. */
    struct tag_filter filter;

    ck_assert_int_eq(tag_filter_parse(SLICE_LIT("*"), &filter), 0);
    ck_assert(filter.is_all);
    ck_assert(tag_filter_match(&filter, 0));
    ck_assert(tag_filter_match(&filter, 2598919));
    ck_assert_int_eq(tag_filter_parse(SLICE_EMPTY, &filter), 0);
    ck_assert(filter.is_all);
    ck_assert(tag_expression_match(SLICE_LIT("*"), SLICE_EMPTY));
}
END_TEST

START_TEST(tags_are_separated_by_two_bars)
{
    /*
     * Shows: blanks around tags do not count, a single bar belongs to the tag, empty parts are
     * nothing.
     */
    struct tag_filter filter;

    ck_assert_int_eq(tag_filter_parse(SLICE_LIT("TagA||  TagB \t|| || a|b"), &filter), 0);
    ck_assert(!filter.is_all);
    ck_assert_uint_eq(filter.count, 3);
    ck_assert(tag_filter_match(&filter, 2598919));
    ck_assert(tag_filter_match(&filter, 2598920));
    ck_assert(tag_filter_match(&filter, java_hash(SLICE_LIT("a|b"))));
    ck_assert(!tag_filter_match(&filter, 2598921));
    ck_assert(!tag_filter_match(&filter, 0));
    ck_assert(!tag_filter_match(&filter, 2598919 + (INT64_C(1) << 32)));
    ck_assert(tag_expression_match(SLICE_LIT("TagA||  TagB "), SLICE_LIT("TagB")));
    ck_assert(!tag_expression_match(SLICE_LIT("TagA||  TagB "), SLICE_LIT("Tag")));
    ck_assert(!tag_expression_match(SLICE_LIT("TagA"), SLICE_EMPTY));
}
END_TEST

START_TEST(a_negative_hash_matches_its_sign_extension)
{
    /* Shows: the code as the consume queue stores it, 8 bytes with sign. */
    struct tag_filter filter;

    ck_assert_int_eq(tag_filter_parse(SLICE_LIT("TestTopic#k1"), &filter), 0);
    ck_assert(tag_filter_match(&filter, INT64_C(-78689332)));
    ck_assert(!tag_filter_match(&filter, INT64_C(4216277964)));
}
END_TEST

START_TEST(an_expression_without_tags_is_refused)
{
    /* Shows: bars and blanks alone are an error, and the filter then lets nothing pass. */
    static const char *const bad[] = {"||", " ", "|| ||", " || \t"};
    struct tag_filter filter;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(tag_filter_parse(slice_str(bad[i]), &filter), ESCROW_EINVAL);
        ck_assert(!tag_filter_match(&filter, 0));
    }
}
END_TEST

START_TEST(the_number_of_tags_is_bounded)
{
    /* Shows: TAG_FILTER_MAX tags pass, one more is refused and matches nothing. */
    char text[TAG_FILTER_MAX * 3 + 2];
    struct tag_filter filter;

    for (size_t i = 0; i <= TAG_FILTER_MAX; i++) {
        memcpy(text + 3 * i, "a||", i == TAG_FILTER_MAX ? 1 : 3);
    }
    ck_assert_int_eq(tag_filter_parse(slice_of(text, 3 * TAG_FILTER_MAX), &filter), 0);
    ck_assert_uint_eq(filter.count, TAG_FILTER_MAX);
    ck_assert_int_eq(tag_filter_parse(slice_of(text, 3 * TAG_FILTER_MAX + 1), &filter),
                     ESCROW_ELIMIT);
    ck_assert(!tag_filter_match(&filter, 'a'));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("tags");

    tcase_add_test(tc, the_hash_is_java_s);
    tcase_add_test(tc, malformed_text_hashes_as_replacement_characters);
    tcase_add_test(tc, star_and_nothing_match_everything);
    tcase_add_test(tc, tags_are_separated_by_two_bars);
    tcase_add_test(tc, a_negative_hash_matches_its_sign_extension);
    tcase_add_test(tc, an_expression_without_tags_is_refused);
    tcase_add_test(tc, the_number_of_tags_is_bounded);
    return run_tests(tc, "core/proto/tags");
}
