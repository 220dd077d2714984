#include "core/base/slice.h"

#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

START_TEST(equality_is_of_bytes_and_length)
{
    /* Bytes after a NUL count; two empty slices are equal wherever they point. */
    ck_assert(slice_eq(SLICE_LIT("a\0b"), slice_of("a\0b", 3)));
    ck_assert(!slice_eq(SLICE_LIT("a\0b"), SLICE_LIT("a\0c")));
    ck_assert(!slice_eq(SLICE_LIT("ab"), SLICE_LIT("abc")));
    ck_assert(slice_eq(SLICE_EMPTY, slice_of("x", 0)));
    ck_assert(slice_eq_str(SLICE_LIT("tag"), "tag"));
    ck_assert(!slice_eq_str(SLICE_LIT("tag"), "tags"));
}
END_TEST

START_TEST(prefixes_are_found)
{
    /* The empty prefix fits everything, a longer one nothing. */
    ck_assert(slice_has_prefix(SLICE_LIT("%RETRY%g"), SLICE_LIT("%RETRY%")));
    ck_assert(slice_has_prefix(SLICE_EMPTY, SLICE_EMPTY));
    ck_assert(slice_has_prefix(SLICE_LIT("a"), SLICE_EMPTY));
    ck_assert(!slice_has_prefix(SLICE_LIT("%RET"), SLICE_LIT("%RETRY%")));
    ck_assert(!slice_has_prefix(SLICE_LIT("%DLQ%gg"), SLICE_LIT("%RETRY%")));
}
END_TEST

static const struct {
    const char *text;
    bool ok;
    int64_t value;
} numbers[] = {
    {"0", true, 0},
    {"-0", true, 0},
    {"007", true, 7},
    {"-1", true, -1},
    {"9223372036854775807", true, INT64_MAX},
    {"-9223372036854775808", true, INT64_MIN},
    {"9223372036854775808", false, 0},
    {"-9223372036854775809", false, 0},
    {"99999999999999999999", false, 0},
    {"", false, 0},
    {"-", false, 0},
    {"+1", false, 0},
    {" 1", false, 0},
    {"1 ", false, 0},
    {"1a", false, 0},
    {"0x10", false, 0},
    {"--1", false, 0},
    {"1.0", false, 0},
};

START_TEST(numbers_are_decimal_and_nothing_else)
{
    /* Every edge of the range and every malformed form; on failure the result is untouched. */
    int64_t got = 42;

    ck_assert_int_eq(slice_to_i64(slice_str(numbers[_i].text), &got), numbers[_i].ok);
    ck_assert_int_eq(got, numbers[_i].ok ? numbers[_i].value : 42);
}
END_TEST

START_TEST(small_numbers_have_their_own_range)
{
    /* 32 bits, both ends, and one beyond each. */
    int32_t got = 42;

    ck_assert(slice_to_i32(SLICE_LIT("2147483647"), &got));
    ck_assert_int_eq(got, INT32_MAX);
    ck_assert(slice_to_i32(SLICE_LIT("-2147483648"), &got));
    ck_assert_int_eq(got, INT32_MIN);
    ck_assert(!slice_to_i32(SLICE_LIT("2147483648"), &got));
    ck_assert(!slice_to_i32(SLICE_LIT("-2147483649"), &got));
    ck_assert(!slice_to_i32(SLICE_LIT("x"), &got));
    ck_assert_int_eq(got, INT32_MIN);
}
END_TEST

START_TEST(a_copy_is_cut_and_terminated)
{
    /* Fits, just fits, does not fit, is empty. */
    char dst[4];

    ck_assert_str_eq(slice_to_cstr(SLICE_LIT("ab"), dst, sizeof dst), "ab");
    ck_assert_str_eq(slice_to_cstr(SLICE_LIT("abc"), dst, sizeof dst), "abc");
    ck_assert_str_eq(slice_to_cstr(SLICE_LIT("abcdef"), dst, sizeof dst), "abc");
    ck_assert_str_eq(slice_to_cstr(SLICE_EMPTY, dst, sizeof dst), "");
    ck_assert_str_eq(slice_to_cstr(SLICE_LIT("abc"), dst, 1), "");
}
END_TEST

START_TEST(slices_print)
{
    /* SLICE_ARGS never hands a NULL pointer to printf. */
    char text[32];

    (void)snprintf(text, sizeof text, "[%.*s][%.*s]", SLICE_ARGS(SLICE_LIT("abc")),
                   SLICE_ARGS(SLICE_EMPTY));
    ck_assert_str_eq(text, "[abc][]");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/slice");
    TCase *tc = tcase_create("slice");

    tcase_add_test(tc, equality_is_of_bytes_and_length);
    tcase_add_test(tc, prefixes_are_found);
    tcase_add_loop_test(tc, numbers_are_decimal_and_nothing_else, 0,
                        (int)(sizeof numbers / sizeof numbers[0]));
    tcase_add_test(tc, small_numbers_have_their_own_range);
    tcase_add_test(tc, a_copy_is_cut_and_terminated);
    tcase_add_test(tc, slices_print);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
