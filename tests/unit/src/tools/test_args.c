#include "src/tools/args.h"

#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

struct values {
    bool flag;
    const char *text;
    struct arg_texts texts;
    uint64_t count;
    uint64_t size;
    uint64_t time_ms;
};

/* Parse a command line of up to 15 words; *argc and argv are left as args_parse leaves them. */
static enum args_result parse(struct values *v, int *argc, char **argv)
{
    const struct arg args[] = {
        {"options", NULL, NULL, NULL, ARG_HEADING},
        {"flag", NULL, "a flag", &v->flag, ARG_FLAG},
        {"text", "TEXT", "a text", &v->text, ARG_TEXT},
        {"texts", "TEXT", "texts", &v->texts, ARG_TEXTS},
        {"count", "N", "a number", &v->count, ARG_COUNT},
        {"size", "BYTES", "a size", &v->size, ARG_SIZE},
        {"time", "TIME", "a time", &v->time_ms, ARG_DURATION},
    };
    const struct arg_list list = {"try [OPTION]...", "About.\n", args, ARG_LIST_COUNT(args)};

    return args_parse(&list, argc, argv);
}

#define PARSE(v, ...)                                                                              \
    char *argv[] = {__VA_ARGS__, NULL};                                                            \
    int argc = (int)(sizeof argv / sizeof argv[0]) - 1;                                            \
    enum args_result result = parse(v, &argc, argv)

static char flag[] = "--flag", text[] = "--text", equals[] = "--text=a=b", texts[] = "--texts=x";
static char size[] = "--size=4k", count[] = "--count=4k", ms[] = "--time=250ms";
static char one[] = "one", dashes[] = "--", unknown[] = "--nothing", help[] = "--help";

START_TEST(options_may_stand_anywhere_and_operands_keep_their_order)
{
    /* "--name value", "--name=value", a value with '=' in it, repeated options, units. */
    struct values v = {.count = 1};
    PARSE(&v, one, flag, equals, texts, texts, size, text + 2, count, ms);

    ck_assert_int_eq(result, ARGS_GO);
    ck_assert_int_eq(argc, 2);
    ck_assert_str_eq(argv[0], "one");
    ck_assert_str_eq(argv[1], "text");
    ck_assert(v.flag);
    ck_assert_str_eq(v.text, "a=b");
    ck_assert_uint_eq(v.texts.count, 2);
    ck_assert_uint_eq(v.size, 4096);
    ck_assert_uint_eq(v.count, 4000);
    ck_assert_uint_eq(v.time_ms, 250);
}
END_TEST

START_TEST(behind_two_dashes_nothing_is_an_option)
{
    /* A message body may begin with dashes, and may be --help. */
    struct values v = {.flag = false};
    PARSE(&v, one, dashes, flag, help);

    ck_assert_int_eq(result, ARGS_GO);
    ck_assert_int_eq(argc, 3);
    ck_assert_str_eq(argv[1], "--flag");
    ck_assert(!v.flag);
}
END_TEST

START_TEST(an_unknown_option_is_refused)
{
    /* A misspelt option never does something else. */
    struct values v = {.flag = false};
    PARSE(&v, one, unknown);

    ck_assert_int_eq(result, ARGS_BAD);
}
END_TEST

START_TEST(a_missing_value_is_refused)
{
    /* The last word wants a value and there is none. */
    struct values v = {.flag = false};
    PARSE(&v, one, text);

    ck_assert_int_eq(result, ARGS_BAD);
}
END_TEST

START_TEST(help_is_printed_instead_of_anything_else)
{
    /* Even beside an option that is wrong. */
    struct values v = {.flag = false};
    PARSE(&v, unknown, help);

    ck_assert_int_eq(result, ARGS_HELP);
}
END_TEST

START_TEST(numbers_that_are_none_are_refused)
{
    /* Signs, blanks, unknown units, overflow by digits and by unit. */
    static const char *const bad[] = {"",
                                      "-1",
                                      " 1",
                                      "1 ",
                                      "1t",
                                      "1kk",
                                      "k",
                                      "0x10",
                                      "18446744073709551616",
                                      "18446744073709551615k"};
    uint64_t n = 42;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!args_to_count(bad[i], 1000, &n), "%s", bad[i]);
        ck_assert_msg(!args_to_duration(bad[i], &n), "%s", bad[i]);
    }
    ck_assert_uint_eq(n, 42);
    ck_assert(args_to_count("18446744073709551615", 1000, &n) && n == UINT64_MAX);
    ck_assert(args_to_count("2G", 1024, &n) && n == UINT64_C(2) << 30);
    ck_assert(args_to_duration("2", &n) && n == 2000);
    ck_assert(args_to_duration("3h", &n) && n == 3 * 3600000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/tools/args");
    TCase *tc = tcase_create("args");

    tcase_add_test(tc, options_may_stand_anywhere_and_operands_keep_their_order);
    tcase_add_test(tc, behind_two_dashes_nothing_is_an_option);
    tcase_add_test(tc, an_unknown_option_is_refused);
    tcase_add_test(tc, a_missing_value_is_refused);
    tcase_add_test(tc, help_is_printed_instead_of_anything_else);
    tcase_add_test(tc, numbers_that_are_none_are_refused);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
