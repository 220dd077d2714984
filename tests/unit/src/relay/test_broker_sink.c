#include "src/relay/broker_sink.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct sink_source source_of(const char *name, uint64_t system_id)
{
    return (struct sink_source){.name = slice_str(name), .system_id = system_id};
}

START_TEST(a_row_has_one_key_and_no_other_row_has_it)
{
    /* Source, system and id make the key; the same every time. */
    struct sink_source a = source_of("a", 1);
    struct sink_source b = source_of("b", 1);
    struct sink_source c = source_of("a", 2);
    char first[ROW_KEY_LEN + 1];
    char key[ROW_KEY_LEN + 1];

    broker_sink_row_key(&a, 5, 1700000000123, first);
    ck_assert_uint_eq(strlen(first), ROW_KEY_LEN);
    ck_assert_uint_eq(strspn(first, "0123456789ABCDEF"), ROW_KEY_LEN);
    broker_sink_row_key(&a, 5, 1700000000123, key);
    ck_assert_str_eq(key, first);
    broker_sink_row_key(&b, 5, 1700000000123, key);
    ck_assert_str_ne(key, first);
    broker_sink_row_key(&c, 5, 1700000000123, key);
    ck_assert_str_ne(key, first);
    for (int bit = 0; bit < 63; bit++) {
        broker_sink_row_key(&a, 5 ^ (UINT64_C(1) << bit), 1700000000123, key);
        ck_assert_str_ne(key, first);
    }
}
END_TEST

START_TEST(tools_can_read_the_time_from_a_key)
{
    /*
     * Milliseconds since the first of the month, where RocketMQ's tools look for them: 2023-11-14
     * 22:13:20.123 UTC.
     */
    struct sink_source a = source_of("a", 1);
    char key[ROW_KEY_LEN + 1];
    char time[9] = "";

    broker_sink_row_key(&a, 5, 1700000000123, key);
    memcpy(time, key + 20, 8);
    ck_assert_uint_eq(strtoul(time, NULL, 16), ((13ul * 24 + 22) * 60 + 13) * 60000 + 20123);
    broker_sink_row_key(&a, 5, -1, key);
    ck_assert_uint_eq(strlen(key), ROW_KEY_LEN);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/relay/broker_sink");
    TCase *tc = tcase_create("broker_sink");
    SRunner *runner;
    int failed;

    tcase_add_test(tc, a_row_has_one_key_and_no_other_row_has_it);
    tcase_add_test(tc, tools_can_read_the_time_from_a_key);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
