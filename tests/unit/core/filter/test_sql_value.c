/* Values: numbers from text as Java reads them, and their order. */
#include "core/filter/sql_value.h"

#include "tests/unit/core/filter/filter_test.h"

#include <math.h>
#include <stdio.h>

START_TEST(whole_numbers_have_a_sign_and_digits_only)
{
    /* Shows: what Integer.valueOf and Long.valueOf take, to the last value of each. */
    static const char *const bad[] = {
        "",    "+",   "-",   " 1",  "1 ", "1.0",        "1L",          "0x1",
        "--1", "+-1", "1e1", "1_0", "a",  "2147483648", "-2147483649", "99999999999999999999"};
    int64_t got = 77;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct slice text = copy_exact(slice_str(bad[i]));
        ck_assert_msg(!sql_read_int(text, &got), "%s", bad[i]);
        free_copy(text);
    }
    ck_assert_int_eq(got, 77);
    ck_assert(sql_read_int(SLICE_LIT("+007"), &got));
    ck_assert_int_eq(got, 7);
    ck_assert(sql_read_int(SLICE_LIT("2147483647"), &got));
    ck_assert_int_eq(got, INT32_MAX);
    ck_assert(sql_read_int(SLICE_LIT("-2147483648"), &got));
    ck_assert_int_eq(got, INT32_MIN);
    ck_assert(sql_read_long(SLICE_LIT("9223372036854775807"), &got));
    ck_assert_int_eq(got, INT64_MAX);
    ck_assert(sql_read_long(SLICE_LIT("-9223372036854775808"), &got));
    ck_assert_int_eq(got, INT64_MIN);
    ck_assert(!sql_read_long(SLICE_LIT("9223372036854775808"), &got));
    ck_assert(!sql_read_long(SLICE_LIT("-9223372036854775809"), &got));
}
END_TEST

START_TEST(doubles_are_read_as_java_reads_them)
{
    /* Shows: what Double.valueOf takes, and what only C's strtod would. */
    static const struct {
        const char *text;
        double want;
    } good[] = {
        {"1", 1},
        {"-1.5", -1.5},
        {"+.5", .5},
        {"5.", 5},
        {"1e3", 1000},
        {"1E-2", .01},
        {" \t7\n", 7},
        {"1d", 1},
        {"1.5F", 1.5},
        {"1e2D", 100},
        {"0x10p0", 16},
        {"0x.8p1", 1},
        {"0X1.8P+1f", 3},
        {"1e400", HUGE_VAL},
        {"-1e400", -HUGE_VAL},
        {"1e-400", 0},
        {"Infinity", HUGE_VAL},
        {"-Infinity", -HUGE_VAL},
        {"+Infinity", HUGE_VAL},
    };
    static const char *const bad[] = {"",    " ",   ".",      "e5",       "1e",   "1e+",  "inf",
                                      "nan", "1 2", "0x10",   "infinity", "0xp1", "1dd",  "1x",
                                      "1,5", "--1", "NaN(1)", "d",        "0x1p", "1.5.5"};
    double got = 77;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct slice text = copy_exact(slice_str(good[i].text));
        ck_assert_msg(sql_read_double(text, &got), "%s", good[i].text);
        ck_assert_msg(sql_compare_double(got, good[i].want) == 0, "%s: %g", good[i].text, got);
        free_copy(text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct slice text = copy_exact(slice_str(bad[i]));
        ck_assert_msg(!sql_read_double(text, &got), "%s", bad[i]);
        free_copy(text);
    }
    ck_assert(sql_read_double(SLICE_LIT("-NaN"), &got));
    ck_assert(isnan(got));
}
END_TEST

START_TEST(exponents_of_any_length_are_read)
{
    /* Shows: an exponent beyond all bounds is infinite or 0; digits and exponent work together. */
    char text[SQL_NUMBER_LEN_MAX + 1];
    double got = 0;

    ck_assert(sql_read_double(SLICE_LIT("1e99999999999999999999"), &got));
    ck_assert(isinf(got));
    ck_assert(sql_read_double(SLICE_LIT("-1e+2147483647"), &got));
    ck_assert(isinf(got) && got < 0);
    ck_assert(sql_read_double(SLICE_LIT("1e-99999999999999999999"), &got));
    ck_assert(got == 0);
    ck_assert(sql_read_double(SLICE_LIT("123.456e-2"), &got));
    ck_assert(got == 1.23456);
    ck_assert(sql_read_double(SLICE_LIT("0.1"), &got));
    ck_assert(got == 0.1);
    ck_assert(sql_read_double(SLICE_LIT("-0xA.8p1"), &got));
    ck_assert(got == -21);
    (void)snprintf(text, sizeof text, "0.%0400d1e401", 0);
    ck_assert(sql_read_double(slice_str(text), &got));
    ck_assert(got == 1);
}
END_TEST

START_TEST(a_number_has_a_greatest_length)
{
    /* Shows: SQL_NUMBER_LEN_MAX characters are read, one more is no number; blanks do not count. */
    char text[SQL_NUMBER_LEN_MAX + 11];
    double got;

    memset(text, '0', sizeof text);
    ck_assert(sql_read_double(slice_of(text, SQL_NUMBER_LEN_MAX), &got));
    ck_assert(!sql_read_double(slice_of(text, SQL_NUMBER_LEN_MAX + 1), &got));
    memset(text + SQL_NUMBER_LEN_MAX, ' ', 11);
    ck_assert(sql_read_double(slice_of(text, sizeof text), &got));
}
END_TEST

START_TEST(doubles_have_a_total_order)
{
    /* Shows: Double.compareTo: NaN is the greatest and equal to itself, -0.0 is below 0.0. */
    static const double rising[] = {-HUGE_VAL, -1, -0.0, 0.0, 1e-300, 1, HUGE_VAL, NAN};

    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 8; j++) {
            int got = sql_compare_double(rising[i], rising[j]);
            ck_assert_int_eq((got > 0) - (got < 0), (i > j) - (i < j));
        }
    }
}
END_TEST

START_TEST(values_of_two_types_are_brought_together)
{
    /*
     * Shows: wider numbers win; text becomes the other's type or fails; a truth equals no number.
     */
    struct sql_value one = {.type = SQL_TYPE_INT, .whole = 1};
    struct sql_value big = {.type = SQL_TYPE_LONG, .whole = INT64_MAX};
    struct sql_value half = {.type = SQL_TYPE_DOUBLE, .real = 1.5};
    struct sql_value yes = {.type = SQL_TYPE_BOOL, .truth = true};
    struct sql_value text = {.type = SQL_TYPE_TEXT, .text = SLICE_LIT("1")};
    struct sql_value word = {.type = SQL_TYPE_TEXT, .text = SLICE_LIT("true")};
    int order = 0;

    ck_assert(sql_compare(&one, &big, &order));
    ck_assert_int_lt(order, 0);
    ck_assert(sql_compare(&half, &one, &order));
    ck_assert_int_gt(order, 0);
    ck_assert(sql_compare(&text, &one, &order));
    ck_assert_int_eq(order, 0);
    ck_assert(sql_compare(&half, &text, &order));
    ck_assert_int_gt(order, 0);
    ck_assert(!sql_compare(&word, &one, &order));
    ck_assert(!sql_compare(&half, &word, &order));
    ck_assert(sql_compare(&word, &yes, &order));
    ck_assert_int_eq(order, 0);
    ck_assert(sql_compare(&one, &yes, &order));
    ck_assert_int_lt(order, 0);
    ck_assert(sql_compare(&text, &word, &order));
    ck_assert_int_lt(order, 0);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("sql_value");

    tcase_add_test(tc, whole_numbers_have_a_sign_and_digits_only);
    tcase_add_test(tc, doubles_are_read_as_java_reads_them);
    tcase_add_test(tc, exponents_of_any_length_are_read);
    tcase_add_test(tc, a_number_has_a_greatest_length);
    tcase_add_test(tc, doubles_have_a_total_order);
    tcase_add_test(tc, values_of_two_types_are_brought_together);
    return run_tests(tc, "core/filter/sql_value");
}
