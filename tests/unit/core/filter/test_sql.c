/* SQL92 expressions: what they say of a message. */
#include "core/filter/sql.h"

#include "escrow/errors.h"
#include "tests/unit/core/filter/filter_test.h"

struct row {
    const char *expression;
    const char *properties; /* name=value;name=value */
    enum sql_truth want;
};

static const char *const truths[] = {"FALSE", "TRUE", "NULL", "ERROR"};

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct slice text = copy_exact(slice_str(rows[i].expression));
        struct slice properties = properties_of(rows[i].properties);
        struct sql_program *program;
        struct err_ctx err = {.code = 0};
        enum sql_truth got;

        ck_assert_msg(sql_compile(text, &program, &err) == 0, "%s: %s", rows[i].expression,
                      err.text);
        free_copy(text); /* the program keeps what it needs */
        got = sql_eval(program, properties);
        ck_assert_msg(got == rows[i].want, "%s with %s: got %s, want %s", rows[i].expression,
                      rows[i].properties, truths[got], truths[rows[i].want]);
        free_copy(properties);
        sql_free(&program);
    }
}

#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof(rows)[0])

START_TEST(comparisons_read_the_property_as_the_literal_beside_it)
{
    /*
     * Shows: 32 bits, 64 bits, double and text decide how a property is read; else it is an error.
     */
    static const struct row rows[] = {
        {"a = 5", "a=5", SQL_TRUE},
        {"a = 5", "a=6", SQL_FALSE},
        {"a <> 5", "a=6", SQL_TRUE},
        {"a > 5", "a=6", SQL_TRUE},
        {"a > 5", "a=5", SQL_FALSE},
        {"a >= 5", "a=5", SQL_TRUE},
        {"a < 5", "a=-7", SQL_TRUE},
        {"a <= 5", "a=+5", SQL_TRUE},
        {"5 < a", "a=6", SQL_TRUE},
        {"a = 5", "a=05", SQL_TRUE},
        {"a > 5", "a=5.5", SQL_ERROR},
        {"a > 5", "a= 6", SQL_ERROR},
        {"a > 5", "a=abc", SQL_ERROR},
        {"a = 5", "a=abc", SQL_ERROR},
        {"a <> 5", "a=abc", SQL_ERROR},
        {"a > 5", "a=3000000000", SQL_ERROR}, /* not an int, so not readable beside one */
        {"a > 2147483648", "a=3000000000", SQL_TRUE},
        {"a > 2147483647", "a=3000000000", SQL_ERROR},
        {"a = 9223372036854775807", "a=9223372036854775807", SQL_TRUE},
        {"a = 9223372036854775807", "a=9223372036854775808", SQL_ERROR},
        {"a > 5L", "a=6", SQL_TRUE},
        {"a > 5.0", "a=5.5", SQL_TRUE},
        {"a > 5.", "a= 6 ", SQL_TRUE},
        {"a > .5", "a=1e0", SQL_TRUE},
        {"a > 5E2", "a=500.1", SQL_TRUE},
        {"a > 5e-1", "a=.6d", SQL_TRUE},
        {"a > 1.5", "a=NaN", SQL_TRUE}, /* above everything */
        {"a > 1.5", "a=Infinity", SQL_TRUE},
        {"a > 1.5", "a=inf", SQL_ERROR},
        {"a > 1.5", "a=0x1p4", SQL_TRUE},
        {"a = 0.0", "a=-0.0", SQL_FALSE},
        {"a = 0.0", "a=0", SQL_TRUE},
        {"a > -5", "a=-4", SQL_TRUE},
        {"a > - - 5", "a=6", SQL_TRUE},
        {"a > --5", "a=6", SQL_TRUE},
        {"a > +5", "a=6", SQL_TRUE},
        {"a > -5.5", "a=-5.25", SQL_TRUE},
        {"a = 'x'", "a=x", SQL_TRUE},
        {"a = 'x'", "a=X", SQL_FALSE},
        {"a <> 'x'", "a=y", SQL_TRUE},
        {"a = '5'", "a=5", SQL_TRUE},
        {"a = '5'", "a=05", SQL_FALSE},
        {"a = 'it''s'", "a=it's", SQL_TRUE},
        {"a = ''''''", "a=''", SQL_TRUE},
        {"a = ''", "a=x", SQL_FALSE},
        {"a = '\xe8\xae\xa2'", "a=\xe8\xae\xa2", SQL_TRUE},
        {"a = TRUE", "a=TrUe", SQL_TRUE},
        {"a = TRUE", "a=yes", SQL_FALSE},
        {"a = false", "a=yes", SQL_TRUE},
        {"true = a", "a=true", SQL_TRUE},
        {"5 = TRUE", "", SQL_FALSE},
        {"5 = 5.0", "", SQL_TRUE},
        {"5 = 'abc'", "", SQL_ERROR},
        {"1 < 2.5", "", SQL_TRUE},
        {"2147483648 > 5", "", SQL_TRUE},
    };

    CHECK_ROWS(rows);
}
END_TEST

START_TEST(two_properties_are_equal_as_text_and_ordered_as_numbers)
{
    /* Shows: "=" never reads numbers here, the other comparisons always do. */
    static const struct row rows[] = {
        {"a = b", "a=x;b=x", SQL_TRUE},
        {"a = b", "a=5;b=5.0", SQL_FALSE},
        {"a < b", "a=5;b=5.5", SQL_TRUE},
        {"a < b", "a=5;b=x", SQL_ERROR},
        {"a >= b", "a=10;b=9", SQL_TRUE},
        {"a < b", "a=5", SQL_NULL},
        {"a between up and low", "a=3.14", SQL_NULL},
        {"a between up and low", "a=3.14;up=up;low=low", SQL_ERROR},
        {"a between up and low", "a=3.14;up=3;low=4", SQL_TRUE},
        {"a <= now", "a=5;now=6", SQL_TRUE},
    };

    CHECK_ROWS(rows);
}
END_TEST

START_TEST(what_a_message_has_not_is_null)
{
    /* Shows: NULL goes through comparisons as it does in RocketMQ; an empty value is absent. */
    static const struct row rows[] = {
        {"a = 5", "", SQL_NULL},
        {"a <> 5", "b=5", SQL_NULL},
        {"a > 5", "b=5", SQL_NULL},
        {"5 = a", "", SQL_FALSE}, /* not NULL: the sides are not alike */
        {"5 <> a", "", SQL_TRUE},
        {"a = b", "", SQL_TRUE},
        {"a = b", "a=x", SQL_FALSE},
        {"a = b", "b=x", SQL_NULL},
        {"a = 'x'", "a=", SQL_NULL},
        {"a IS NULL", "", SQL_TRUE},
        {"a IS NULL", "a=x", SQL_FALSE},
        {"a is not null", "", SQL_FALSE},
        {"a is not null", "a=x", SQL_TRUE},
        {"a IS NULL", "a=;b=1", SQL_TRUE},
        {"a IN ('x')", "", SQL_NULL},
        {"a NOT IN ('x')", "", SQL_NULL},
        {"a BETWEEN 1 AND 5", "", SQL_NULL},
        {"a NOT BETWEEN 1 AND 5", "", SQL_NULL},
        {"NULL", "", SQL_NULL},
        {"-a > 5", "a=-7", SQL_NULL}, /* the sign of a text */
        {"-'7' = 7", "", SQL_NULL},
        {"(a > 5) IS NULL", "", SQL_TRUE},
        {"(a > 5) IS NULL", "a=1", SQL_FALSE},
    };

    CHECK_ROWS(rows);
}
END_TEST

START_TEST(logic_has_three_values)
{
    /* Shows: the tables of AND, OR and NOT with NULL. */
    static const struct row rows[] = {
        {"TRUE AND TRUE", "", SQL_TRUE},
        {"TRUE AND FALSE", "", SQL_FALSE},
        {"FALSE AND NULL", "", SQL_FALSE},
        {"NULL AND FALSE", "", SQL_FALSE},
        {"TRUE AND NULL", "", SQL_NULL},
        {"NULL AND TRUE", "", SQL_NULL},
        {"NULL AND NULL", "", SQL_NULL},
        {"FALSE OR FALSE", "", SQL_FALSE},
        {"TRUE OR NULL", "", SQL_TRUE},
        {"NULL OR TRUE", "", SQL_TRUE},
        {"FALSE OR NULL", "", SQL_NULL},
        {"NULL OR FALSE", "", SQL_NULL},
        {"NULL OR NULL", "", SQL_NULL},
        {"NOT TRUE", "", SQL_FALSE},
        {"NOT FALSE", "", SQL_TRUE},
        {"NOT NULL", "", SQL_NULL},
        {"TRUE OR FALSE AND FALSE", "", SQL_TRUE},
        {"(TRUE OR FALSE) AND FALSE", "", SQL_FALSE},
        {"FALSE AND TRUE OR TRUE", "", SQL_TRUE},
        {"NOT FALSE OR TRUE AND FALSE", "", SQL_TRUE},
        {"NOT NOT TRUE", "", SQL_TRUE},
        {"NOT (TRUE AND FALSE)", "", SQL_TRUE},
    };

    CHECK_ROWS(rows);
}
END_TEST

START_TEST(a_comparison_that_fails_counts_only_where_it_is_reached)
{
    /* Shows: an exception of RocketMQ's drops the message, unless AND or OR was decided before. */
    static const struct row rows[] = {
        {"a = 5 OR b = 1", "a=x;b=1", SQL_ERROR},    {"b = 1 OR a = 5", "a=x;b=1", SQL_TRUE},
        {"b = 2 AND a = 5", "a=x;b=1", SQL_FALSE},   {"a = 5 AND b = 2", "a=x;b=1", SQL_ERROR},
        {"NOT (a = 5)", "a=x", SQL_ERROR},           {"(a = 5) IS NULL", "a=x", SQL_ERROR},
        {"c = 1 AND a = 5", "a=x", SQL_ERROR},       {"a BETWEEN 5 AND 6.5", "a=1", SQL_FALSE},
        {"a BETWEEN 5 AND 6.5", "a=5.5", SQL_ERROR}, {"a NOT BETWEEN 5 AND b", "a=1;b=x", SQL_TRUE},
    };

    CHECK_ROWS(rows);
}
END_TEST

START_TEST(not_binds_tighter_than_a_comparison)
{
    /* Shows: RocketMQ's grammar: NOT a = 5 is (NOT a) = 5. A lone property is never TRUE. */
    static const struct row rows[] = {
        {"NOT a = 5", "a=6", SQL_FALSE},
        {"NOT (a = 5)", "a=6", SQL_TRUE},
        {"NOT a IS NULL", "a=6", SQL_FALSE},
        {"NOT a IS NULL", "", SQL_TRUE},
        {"a", "a=true", SQL_FALSE},
        {"a", "", SQL_NULL},
        {"NOT a", "a=true", SQL_TRUE},
        {"a AND TRUE", "a=true", SQL_FALSE},
        {"a OR TRUE", "a=true", SQL_TRUE},
        {"(a) = 'true'", "a=true", SQL_TRUE},
        {"a = 5 = TRUE", "a=5", SQL_TRUE},
        {"(a > 1) = (b > 1)", "a=2;b=2", SQL_TRUE},
        {"a = b = c", "a=x;b=x;c=true", SQL_TRUE},
    };

    CHECK_ROWS(rows);
}
END_TEST

START_TEST(between_includes_its_bounds)
{
    /* Shows: both bounds belong to it, and to NOT BETWEEN neither does. */
    static const struct row rows[] = {
        {"a BETWEEN 2 AND 10", "a=2", SQL_TRUE},
        {"a BETWEEN 2 AND 10", "a=10", SQL_TRUE},
        {"a BETWEEN 2 AND 10", "a=11", SQL_FALSE},
        {"a BETWEEN 2 AND 10", "a=1", SQL_FALSE},
        {"a NOT BETWEEN 2 AND 10", "a=2", SQL_FALSE},
        {"a NOT BETWEEN 2 AND 10", "a=10", SQL_FALSE},
        {"a NOT BETWEEN 2 AND 10", "a=11", SQL_TRUE},
        {"a NOT BETWEEN 10 AND 2", "a=5", SQL_TRUE},
        {"a BETWEEN -5 AND 5", "a=0", SQL_TRUE},
        {"a BETWEEN 5 AND 5", "a=5", SQL_TRUE},
        {"a BETWEEN 5 AND -5", "a=0", SQL_FALSE}, /* a sign is no literal: not refused */
        {"3 BETWEEN a AND b", "a=1;b=5", SQL_TRUE},
        {"a BETWEEN 1 AND 5 AND b = 'x'", "a=1;b=x", SQL_TRUE},
        {"(a BETWEEN 2 AND 10) AND (b not between 6 and 9)", "a=3;b=10", SQL_TRUE},
        {"a BETWEEN (1) AND ((5))", "a=1", SQL_TRUE},
    };

    CHECK_ROWS(rows);
}
END_TEST

START_TEST(a_list_holds_strings)
{
    /* Shows: IN and NOT IN compare text exactly, in short and long lists. */
    static const struct row rows[] = {
        {"a in ('3', '4', '5')", "a=4", SQL_TRUE},
        {"a in ('3', '4', '5')", "a=04", SQL_FALSE},
        {"a not in ('3', '4', '5')", "a=6", SQL_TRUE},
        {"a not in ('3', '4', '5')", "a=5", SQL_FALSE},
        {"a IN ('x')", "a=x", SQL_TRUE},
        {"a IN ('a','b','c','d','e','f''','g')", "a=f'", SQL_TRUE},
        {"(a not in ('6', '4', '5')) or (b in ('3', '4', '5'))", "a=3", SQL_TRUE},
        {"a not in ('4', '4', '5') and b between 3 and 10 and c not contains 'axbc'",
         "a=3;b=3;c=axbdc", SQL_TRUE},
    };

    CHECK_ROWS(rows);
}
END_TEST

START_TEST(parts_of_a_text_are_found)
{
    /* Shows: CONTAINS, STARTSWITH, ENDSWITH and their NOT; no text at all is FALSE either way. */
    static const struct row rows[] = {
        {"v contains 'x'", "v=axb", SQL_TRUE},
        {"v STARTSWITH 'ax'", "v=axb", SQL_TRUE},
        {"v EndsWith 'xb'", "v=axb", SQL_TRUE},
        {"v contains 'axb'", "v=axb", SQL_TRUE},
        {"v contains 'axbc'", "v=axb", SQL_FALSE},
        {"v startswith 'x'", "v=axb", SQL_FALSE},
        {"v endswith 'x'", "v=axb", SQL_FALSE},
        {"v contains '.'", "v=axb", SQL_FALSE},
        {"v not contains 'x'", "v=axb", SQL_FALSE},
        {"v not startswith 'x'", "v=axb", SQL_TRUE},
        {"v not endswith 'x'", "v=axb", SQL_TRUE},
        {"v contains ''", "v=axb", SQL_FALSE},
        {"v not contains ''", "v=axb", SQL_FALSE},
        {"v startswith ''", "v=axb", SQL_FALSE},
        {"v not endswith ''", "v=axb", SQL_FALSE},
        {"v contains 'x'", "", SQL_FALSE},
        {"v not contains 'x'", "", SQL_FALSE},
        {"v not startswith 'x'", "", SQL_FALSE},
        {"v not endswith 'x'", "", SQL_FALSE},
        {"not (v contains 'x')", "", SQL_TRUE},
        {"'axb' contains 'x'", "", SQL_TRUE},
        {"' ' contains ' '", "", SQL_TRUE},
        {"'s' contains '\\'", "", SQL_FALSE},
        {"5 contains '5'", "", SQL_FALSE},
        {"v contains 'x' and w = 1", "v=x;w=1", SQL_TRUE},
    };

    CHECK_ROWS(rows);
}
END_TEST

START_TEST(names_blanks_and_comments_are_read_as_rocketmq_reads_them)
{
    /*
     * Shows: names have cases, keywords none; comments are blanks; of equal names the last counts.
     */
    static const struct row rows[] = {
        {"Color='blue'", "color=blue", SQL_NULL},
        {"_a$1='x'", "_a$1=x", SQL_TRUE},
        {"notable = 1", "notable=1", SQL_TRUE},
        {"a=1\n\tAND\r\fb=2", "a=1;b=2", SQL_TRUE},
        {"a=1 -- a comment\nAND b=2", "a=1;b=2", SQL_TRUE},
        {"a=1 /* x */ AND /***/ b=2", "a=1;b=2", SQL_TRUE},
        {"a=1", "a=2;a=1", SQL_TRUE},
        {"a=1", "a=1;a=2", SQL_FALSE},
        {"TAGS = 'TagA'", "KEYS=k;TAGS=TagA", SQL_TRUE},
        {"TAGS is not null and TAGS='''''tag'''''", "TAGS=''tag''", SQL_TRUE},
        {"a=3 and b<>4 And c>5 AND d<=4", "a=3;b=5;c=6;d=4", SQL_TRUE},
        {"a=3 or b<>4 Or c>5 OR d<=4", "a=4;b=4;c=5;d=4", SQL_TRUE},
        {"a=TRUE OR b=FALSE", "a=TRUE;b=x", SQL_TRUE},
        {"a is null OR a='hello'", "", SQL_TRUE},
        {"a=1",
         "a\x01"
         "1\x02"
         "junk\x02\x01x",
         SQL_TRUE},
    };

    CHECK_ROWS(rows);
}
END_TEST

START_TEST(many_names_are_told_apart)
{
    /* Shows: SQL_NAMES_MAX properties in one expression, each found in a message with many more. */
    struct buf text;
    struct buf properties;
    struct sql_program *program;

    buf_init(&text, 0);
    buf_init(&properties, 0);
    for (unsigned i = 0; i < SQL_NAMES_MAX; i++) {
        buf_append_fmt(&text, "%sn%u = 'v%u'", i == 0 ? "" : " AND ", i, i);
    }
    for (unsigned i = 200; i-- > 0;) {
        buf_append_fmt(&properties, "n%u%cv%u%cm%u%cx%c", i, 1, i, 2, i, 1, 2);
    }
    ck_assert_int_eq(sql_compile(buf_slice(&text), &program, NULL), 0);
    ck_assert_int_eq(sql_eval(program, buf_slice(&properties)), SQL_TRUE);
    ck_assert_int_eq(sql_eval(program, slice_of(properties.ptr, properties.len - 8)), SQL_NULL);
    ck_assert_uint_gt(sql_cost(program, properties.len), sql_cost(program, 0));
    sql_free(&program);
    buf_fini(&text);
    buf_fini(&properties);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("sql");

    tcase_add_test(tc, comparisons_read_the_property_as_the_literal_beside_it);
    tcase_add_test(tc, two_properties_are_equal_as_text_and_ordered_as_numbers);
    tcase_add_test(tc, what_a_message_has_not_is_null);
    tcase_add_test(tc, logic_has_three_values);
    tcase_add_test(tc, a_comparison_that_fails_counts_only_where_it_is_reached);
    tcase_add_test(tc, not_binds_tighter_than_a_comparison);
    tcase_add_test(tc, between_includes_its_bounds);
    tcase_add_test(tc, a_list_holds_strings);
    tcase_add_test(tc, parts_of_a_text_are_found);
    tcase_add_test(tc, names_blanks_and_comments_are_read_as_rocketmq_reads_them);
    tcase_add_test(tc, many_names_are_told_apart);
    return run_tests(tc, "core/filter/sql");
}
