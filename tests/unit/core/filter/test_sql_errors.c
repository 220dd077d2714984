/* SQL92 expressions that are refused: the one line says where and why. */
#include "core/filter/sql.h"

#include "escrow/errors.h"
#include "tests/unit/core/filter/filter_test.h"

static const struct {
    const char *expression;
    const char *want;
} rows[] = {
    {"", "column 1: the expression is empty"},
    {"  \t", "column 4: the expression is empty"},
    {"a >", "column 4: expected a property, a value or '(', found the end"},
    {"a and between 2 and 10", "column 7: expected a property, a value or '(', found 'between'"},
    {"a LIKE 'x%'", "column 3: LIKE is not supported; use CONTAINS, STARTSWITH or ENDSWITH"},
    {"a NOT like 'x%'", "column 3: expected AND, OR, a comparison or the end, found 'NOT'"},
    {"a = 5 b = 6", "column 7: expected AND, OR, a comparison or the end, found 'b'"},
    {"a = 5)", "column 6: expected AND, OR, a comparison or the end, found ')'"},
    {"(a = 5", "column 7: expected ')' or an operator, found the end"},
    {"a == 5", "column 4: expected a property, a value or '(', found '='"},
    {"a != 5", "column 3: '!' has no meaning here"},
    {"a = \"x\"", "column 5: '\"' has no meaning here"},
    {"a = 'x", "column 5: the string does not end"},
    {"a = 'x''", "column 5: the string does not end"},
    {"a = 1 /* x", "column 7: the comment does not end"},
    {"a = \xc3\xa4", "column 5: byte 0xc3 has no meaning outside a string"},
    {"\xc3\xa4", "column 1: byte 0xc3 has no meaning outside a string"},
    {"a = '\xe8\xae\xa2\xe5\x8d\x95' b", "column 10: expected AND, OR, a comparison or the "
                                         "end, found 'b'"},
    {"a > 'x'", "column 5: a string has no order; only numbers and properties do"},
    {"a > TRUE", "column 5: TRUE or FALSE has no order; only numbers and properties do"},
    {"NULL < a", "column 1: NULL has no order; only numbers and properties do"},
    {"a > 5 > 3", "column 1: a condition has no order; only numbers and properties do"},
    {"a < (b = 1)", "column 5: a condition has no order; only numbers and properties do"},
    {"NOT a > 5", "column 1: a condition has no order; only numbers and properties do"},
    {"a = NULL", "column 5: NULL is compared with IS NULL and IS NOT NULL"},
    {"NULL <> a", "column 1: NULL is compared with IS NULL and IS NOT NULL"},
    {"TRUE = 5", "column 8: TRUE or FALSE is compared with a number or string"},
    {"a BETWEEN 10 AND 0", "column 11: the lower bound is above the upper bound"},
    {"a BETWEEN 'a' AND 'b'", "column 11: a string has no order; only numbers and properties do"},
    {"a BETWEEN 1 OR 2", "column 13: expected AND and the upper bound, found 'OR'"},
    {"a BETWEEN NULL AND 2", "column 11: NULL has no order; only numbers and properties do"},
    {"a IN (1, 2)", "column 7: expected a string, found '1'"},
    {"a IN ()", "column 7: expected a string, found ')'"},
    {"a IN 'x'", "column 6: expected '(' and a list of strings, found a string"},
    {"a IN ('x' 'y')", "column 11: expected ',' or ')', found a string"},
    {"'x' IN ('x')", "column 1: only a property can be IN a list"},
    {"v contains x", "column 12: expected a string, found 'x'"},
    {"v not contains 123", "column 16: expected a string, found '123'"},
    {"'axb' contains ", "column 16: expected a string, found the end"},
    {"a IS 5", "column 6: expected NULL or NOT NULL, found '5'"},
    {"a IS NOT 5", "column 10: expected NULL, found '5'"},
    {"5", "column 1: expected a condition, found a value"},
    {"'x' OR a = 1", "column 1: expected a condition, found a value"},
    {"a = 1 AND -5", "column 11: expected a condition, found a value"},
    {"NOT 'x'", "column 5: expected a condition, found a value"},
    {"-(a > 5) > 3", "column 2: '-' stands before a number, not a condition"},
    {"a > 100000000000000000000000",
     "column 5: the number is too big for 64 bits; with a fraction it would be a double"},
    {"a > -9223372036854775808",
     "column 6: the number is too big for 64 bits; with a fraction it would be a double"},
    {"a > 1e400", "column 5: the number is too big for a double"},
    {"a > 1e-400", "column 5: the number is too small for a double"},
    {"a = 007", "column 6: expected AND, OR, a comparison or the end, found '0'"},
    {"a = 5abc", "column 6: expected AND, OR, a comparison or the end, found 'abc'"},
    {"a\n= = 5", "column 5: expected a property, a value or '(', found '='"},
};

START_TEST(an_error_says_where_and_why)
{
    /* Shows: each kind of mistake, with its column in characters. */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice text = copy_exact(slice_str(rows[i].expression));
        struct sql_program *program = (struct sql_program *)1;
        struct err_ctx err = {.code = 0};
        int rc = sql_compile(text, &program, &err);

        ck_assert_msg(rc == ESCROW_EINVAL, "%s: %d", rows[i].expression, rc);
        ck_assert_int_eq(err.code, rc);
        ck_assert_msg(strcmp(err.text, rows[i].want) == 0, "%s: got \"%s\"", rows[i].expression,
                      err.text);
        ck_assert_ptr_null(program);
        ck_assert_int_eq(sql_compile(text, &program, NULL), ESCROW_EINVAL);
        free_copy(text);
    }
}
END_TEST

/* `piece` n times between `head` and `tail`. */
static int compile_repeated(const char *head, const char *piece, size_t n, const char *tail,
                            struct err_ctx *err)
{
    struct sql_program *program;
    struct buf text;
    int rc;

    buf_init(&text, 0);
    buf_append_str(&text, head);
    for (size_t i = 0; i < n; i++) {
        buf_append_str(&text, piece);
    }
    buf_append_str(&text, tail);
    rc = sql_compile(buf_slice(&text), &program, err);
    sql_free(&program);
    buf_fini(&text);
    return rc;
}

START_TEST(the_depth_is_bounded)
{
    /* Shows: SQL_DEPTH_MAX parentheses, signs or NOTs pass, one more does not. */
    static const char *const openers[] = {"(", "NOT ", "NOT (", "- "};
    struct err_ctx err;

    ck_assert_int_eq(compile_repeated("", "(", SQL_DEPTH_MAX, "a=1", &err), ESCROW_EINVAL);
    ck_assert_int_eq(compile_repeated("", "NOT ", SQL_DEPTH_MAX, "a", &err), 0);
    ck_assert_int_eq(compile_repeated("a = ", "- ", SQL_DEPTH_MAX, "1", &err), 0);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(compile_repeated("a = ", openers[i], SQL_DEPTH_MAX + 1, "1", &err),
                         ESCROW_ELIMIT);
        ck_assert_ptr_nonnull(strstr(err.text, "nested more than 64 deep"));
    }
    ck_assert_int_eq(compile_repeated("", "(", 8000, "", &err), ESCROW_ELIMIT);
}
END_TEST

START_TEST(the_deepest_expression_runs)
{
    /* Shows: every level leaves as much on the stack as it can, and the stack is large enough. */
    struct sql_program *program;
    struct err_ctx err = {.code = 0};
    struct buf text;

    buf_init(&text, 0);
    for (size_t i = 0; i < SQL_DEPTH_MAX; i++) {
        buf_append_str(&text, "FALSE OR TRUE AND b = 1 = (");
    }
    buf_append_str(&text, "FALSE OR TRUE AND b = 1 = b BETWEEN 0 AND 2");
    for (size_t i = 0; i < SQL_DEPTH_MAX; i++) {
        buf_append_str(&text, ")");
    }
    ck_assert_msg(sql_compile(buf_slice(&text), &program, &err) == 0, "%s", err.text);
    ck_assert_int_eq(sql_eval(program, SLICE_LIT("b\x01"
                                                 "1")),
                     SQL_TRUE);
    sql_free(&program);
    buf_fini(&text);
}
END_TEST

START_TEST(the_size_is_bounded)
{
    /* Shows: bytes, constants, properties and digits each have their limit and their error. */
    struct err_ctx err;
    struct buf text;
    struct sql_program *program;

    ck_assert_int_eq(compile_repeated("a = 1", " ", SQL_TEXT_MAX - 5, "", &err), 0);
    ck_assert_int_eq(compile_repeated("a = 1", " ", SQL_TEXT_MAX - 4, "", &err), ESCROW_ELIMIT);
    ck_assert_str_eq(err.text, "column 8193: the expression is longer than 8192 bytes");
    ck_assert_int_eq(compile_repeated("a IN (''", ",''", SQL_TERMS_MAX - 1, ")", &err), 0);
    ck_assert_int_eq(compile_repeated("a IN (''", ",''", SQL_TERMS_MAX, ")", &err), ESCROW_ELIMIT);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 1024 constants"));
    ck_assert_int_eq(compile_repeated("a", "=a", SQL_TEXT_MAX / 2 - 1, "", &err), 0);
    ck_assert_int_eq(compile_repeated("a", " OR a", SQL_TEXT_MAX / 5 - 1, "", &err), 0);
    ck_assert_int_eq(compile_repeated("a > 1", "1", 500, ".0", &err), ESCROW_EINVAL);
    ck_assert_int_eq(compile_repeated("a > 0.", "1", 511, "", &err), ESCROW_ELIMIT);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 512 characters"));
    buf_init(&text, 0);
    for (unsigned i = 0; i <= SQL_NAMES_MAX; i++) {
        buf_append_fmt(&text, "%sn%u", i == 0 ? "" : " OR ", i);
    }
    ck_assert_int_eq(sql_compile(buf_slice(&text), &program, &err), ESCROW_ELIMIT);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 64 different properties"));
    buf_fini(&text);
}
END_TEST

START_TEST(every_beginning_is_refused_or_runs)
{
    /* Shows: an expression cut anywhere never does more than give an error. */
    static const char text[] = "a=3 and b<>-4.5e1 or (c not in ('x','y''z') and d is not null) or "
                               "e between 1 and 2 and not (f contains 'q') /* c */ = true";
    struct sql_program *program;

    for (size_t len = 0; len < sizeof text; len++) {
        struct slice part = copy_exact(slice_of(text, len));
        int rc = sql_compile(part, &program, NULL);
        ck_assert(rc == 0 || rc == ESCROW_EINVAL);
        if (rc == 0) {
            (void)sql_eval(program, SLICE_LIT("a\x01"
                                              "3")); /* any answer will do */
        }
        sql_free(&program);
        free_copy(part);
    }
    ck_assert_int_eq(sql_compile(slice_str(text), &program, NULL), 0);
    sql_free(&program);
}
END_TEST

START_TEST(without_memory_nothing_is_left_behind)
{
    /* Shows: each allocation may fail; the error says so and nothing leaks. */
    struct sql_program *program;
    int64_t live = mem_live_count();
    uint64_t n = 0;

    do {
        struct err_ctx err = {.code = 0};
        mem_fault_at(++n);
        if (sql_compile(SLICE_LIT("a = 'x' AND b > 5"), &program, &err) != 0) {
            ck_assert_int_eq(err.code, ESCROW_ENOMEM);
            ck_assert_ptr_null(program);
        }
        sql_free(&program);
        ck_assert_int_eq(mem_live_count(), live);
    } while (mem_fault_fired());
    mem_fault_at(0);
    ck_assert_uint_gt(n, 2);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("sql_errors");

    tcase_add_test(tc, an_error_says_where_and_why);
    tcase_add_test(tc, the_depth_is_bounded);
    tcase_add_test(tc, the_deepest_expression_runs);
    tcase_add_test(tc, the_size_is_bounded);
    tcase_add_test(tc, every_beginning_is_refused_or_runs);
    tcase_add_test(tc, without_memory_nothing_is_left_behind);
    return run_tests(tc, "core/filter/sql_errors");
}
