/* Filters: both languages behind one face. */
#include "core/filter/filter.h"

#include "core/proto/tags.h"
#include "escrow/errors.h"
#include "tests/unit/core/filter/filter_test.h"

static struct filter *compile(const char *type, const char *expression)
{
    struct filter *filter;
    struct err_ctx err = {.code = 0};
    int rc = filter_compile(slice_str(type), slice_str(expression), &filter, &err);

    ck_assert_msg(rc == 0, "%s", err.text);
    return filter;
}

static bool matches(const struct filter *filter, const char *properties)
{
    struct slice bytes = properties_of(properties);
    bool is_match = filter_match(filter, bytes);

    free_copy(bytes);
    return is_match;
}

START_TEST(star_and_nothing_are_every_message)
{
    /* Shows: type TAG or none, "*" or nothing: no message is asked. */
    static const char *const all[][2] = {{"TAG", "*"}, {"", "*"}, {"TAG", ""}, {"", ""}};

    for (size_t i = 0; i < 4; i++) {
        struct filter *filter = compile(all[i][0], all[i][1]);
        ck_assert_int_eq(filter_type_of(filter), FILTER_ALL);
        ck_assert(filter_may_match(filter, 0));
        ck_assert(filter_may_match(filter, 5));
        ck_assert(!filter_needs_properties(filter));
        ck_assert(matches(filter, ""));
        filter_free(&filter);
        ck_assert_ptr_null(filter);
    }
}
END_TEST

START_TEST(tags_are_first_a_hash_then_a_text)
{
    /* Shows: two tags with one hash pass the first stage, and only the named one the second. */
    struct filter *filter = compile("TAG", "Aa || C");

    ck_assert_int_eq(filter_type_of(filter), FILTER_TAG);
    ck_assert_int_eq(java_hash(SLICE_LIT("Aa")), java_hash(SLICE_LIT("BB")));
    ck_assert(filter_may_match(filter, tag_code(SLICE_LIT("BB"))));
    ck_assert(!filter_may_match(filter, tag_code(SLICE_LIT("D"))));
    ck_assert(!filter_may_match(filter, 0));
    ck_assert(matches(filter, "KEYS=k;TAGS=Aa"));
    ck_assert(matches(filter, "TAGS=C"));
    ck_assert(!matches(filter, "TAGS=BB"));
    ck_assert(!matches(filter, "KEYS=Aa"));
    ck_assert(slice_eq_str(filter_text(filter), "Aa || C"));
    filter_free(&filter);
}
END_TEST

START_TEST(sql_asks_the_properties)
{
    /* Shows: the first stage lets everything pass; only TRUE matches, NULL and errors do not. */
    struct filter *filter = compile("SQL92", "a > 5");

    ck_assert_int_eq(filter_type_of(filter), FILTER_SQL);
    ck_assert(filter_may_match(filter, 0));
    ck_assert(filter_may_match(filter, 12345));
    ck_assert(filter_needs_properties(filter));
    ck_assert(matches(filter, "a=6"));
    ck_assert(!matches(filter, "a=5"));
    ck_assert(!matches(filter, ""));
    ck_assert(!matches(filter, "a=x"));
    ck_assert_uint_gt(filter_cost(filter, SLICE_LIT("a\x01"
                                                    "6")),
                      2);
    filter_free(&filter);
}
END_TEST

START_TEST(a_reference_keeps_the_filter)
{
    /* Shows: the last reference frees it; a leak or a use after that would end this test. */
    struct filter *filter = compile("SQL92", "a = 'x'");
    struct filter *second = filter_hold(filter);
    int64_t live = mem_live_count();

    filter_free(&filter);
    ck_assert_int_eq(mem_live_count(), live);
    ck_assert(matches(second, "a=x"));
    filter_free(&second);
    ck_assert_int_lt(mem_live_count(), live);
    filter_free(&second); /* NULL is fine */
}
END_TEST

START_TEST(a_wrong_expression_is_an_error_in_one_line)
{
    /* Shows: unknown types, no tags, too many tags, and SQL92's own errors. */
    static const struct {
        const char *type;
        const char *expression;
        int want;
        const char *text;
    } rows[] = {
        {"SQL", "a = 1", ESCROW_ENOTSUP, "the type of expression is neither TAG nor SQL92"},
        {"tag", "*", ESCROW_ENOTSUP, "the type of expression is neither TAG nor SQL92"},
        {"TAG", " || ", ESCROW_EINVAL, "the expression has no tag"},
        {"SQL92", "*", ESCROW_EINVAL, "column 1: '*' has no meaning here"},
        {"SQL92", "", ESCROW_EINVAL, "column 1: the expression is empty"},
        {"SQL92", "a >", ESCROW_EINVAL,
         "column 4: expected a property, a value or '(', found the end"},
    };
    char many[3 * (TAG_FILTER_MAX + 1)];
    struct filter *filter;
    struct err_ctx err;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_int_eq(
            filter_compile(slice_str(rows[i].type), slice_str(rows[i].expression), &filter, &err),
            rows[i].want);
        ck_assert_str_eq(err.text, rows[i].text);
        ck_assert_ptr_null(filter);
    }
    for (size_t i = 0; i <= TAG_FILTER_MAX; i++) {
        memcpy(many + 3 * i, "t||", 3);
    }
    ck_assert_int_eq(filter_compile(SLICE_EMPTY, slice_of(many, sizeof many), &filter, &err),
                     ESCROW_ELIMIT);
    ck_assert_str_eq(err.text, "the expression has more than 128 tags");
}
END_TEST

START_TEST(without_memory_there_is_no_filter)
{
    /* Shows: each allocation may fail, in both languages, and nothing leaks. */
    static const char *const of[][2] = {{"TAG", "a || b"}, {"SQL92", "a = 'b'"}};
    int64_t live = mem_live_count();

    for (size_t i = 0; i < 2; i++) {
        uint64_t n = 0;
        do {
            struct filter *filter;
            mem_fault_at(++n);
            if (filter_compile(slice_str(of[i][0]), slice_str(of[i][1]), &filter, NULL) != 0) {
                ck_assert_ptr_null(filter);
            }
            filter_free(&filter);
            ck_assert_int_eq(mem_live_count(), live);
        } while (mem_fault_fired());
        ck_assert_uint_gt(n, 1);
    }
    mem_fault_at(0);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("filter");

    tcase_add_test(tc, star_and_nothing_are_every_message);
    tcase_add_test(tc, tags_are_first_a_hash_then_a_text);
    tcase_add_test(tc, sql_asks_the_properties);
    tcase_add_test(tc, a_reference_keeps_the_filter);
    tcase_add_test(tc, a_wrong_expression_is_an_error_in_one_line);
    tcase_add_test(tc, without_memory_there_is_no_filter);
    return run_tests(tc, "core/filter/filter");
}
