#include "core/base/log_limit.h"

#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

static struct log_limit limit;

static unsigned admitted(const char *event, int64_t interval_ms, unsigned tries, int64_t now_ms)
{
    unsigned count = 0;

    for (unsigned i = 0; i < tries; i++) {
        count += log_limit_admit(&limit, event, interval_ms, now_ms) ? 1 : 0;
    }
    return count;
}

START_TEST(after_a_burst_there_is_one_each_interval)
{
    /*
     * 20 at once, none until the interval is over, then one; after a long rest 20 again, not more.
     */
    int64_t now = 1000;

    ck_assert_uint_eq(admitted("a", 60000, 1000, now), LOG_BURST_MAX);
    ck_assert_uint_eq(admitted("a", 60000, 10, now + 59999), 0);
    for (int i = 1; i <= 5; i++) {
        ck_assert_uint_eq(admitted("a", 60000, 10, now + (int64_t)60000 * i), 1);
    }
    now += INT64_C(1000) * 60000;
    ck_assert_uint_eq(admitted("a", 60000, 1000, now), LOG_BURST_MAX);
}
END_TEST

START_TEST(a_day_of_a_stranger_is_less_than_two_mebibytes)
{
    /* A line every millisecond of it, each as long as lines get. */
    unsigned lines = 0;

    for (int64_t now = 0; now < 86400000; now++) {
        lines += log_limit_admit(&limit, "a", LOG_PEER_INTERVAL_MS, now) ? 1 : 0;
    }
    ck_assert_uint_ge(lines, 1440);
    ck_assert_uint_le(lines * 1024, 2u << 20);
}
END_TEST

START_TEST(events_that_take_turns_are_limited_too)
{
    /* Each has its own burst, and no other event's line gives it a new one. */
    unsigned a = 0;
    unsigned b = 0;

    for (int i = 0; i < 1000; i++) {
        a += admitted("a", 60000, 1, 5);
        b += admitted("b", 60000, 1, 5);
    }
    ck_assert_uint_eq(a, LOG_BURST_MAX);
    ck_assert_uint_eq(b, LOG_BURST_MAX);
}
END_TEST

START_TEST(a_stranger_does_not_silence_our_own_lines)
{
    /* One event id at both rates: each has its own burst, whatever the other does. */
    for (int64_t now = 0; now < 10000; now += 100) {
        ck_assert_uint_eq(admitted("a", 60000, 100, now), now == 0 ? LOG_BURST_MAX : 0);
        ck_assert_uint_eq(admitted("a", 50, 2, now), 2);
    }
}
END_TEST

START_TEST(a_clock_that_goes_back_does_not_silence_an_event)
{
    /* By an hour: a whole burst, and then as ever. */
    int64_t now = 7200000;

    ck_assert_uint_eq(admitted("a", 50, 1000, now), LOG_BURST_MAX);
    ck_assert_uint_eq(admitted("a", 50, 1000, now - 3600000), LOG_BURST_MAX);
    ck_assert_uint_eq(admitted("a", 50, 1000, now - 3600000 + 50), 1);
}
END_TEST

START_TEST(more_events_than_the_table_has_are_printed)
{
    /* The one used longest ago makes room, and what is used often stays limited. */
    static char names[2 * LOG_LIMIT_EVENTS_MAX][16];

    ck_assert_uint_eq(admitted("often", 60000, 1000, 1), LOG_BURST_MAX);
    for (int i = 0; i < 2 * LOG_LIMIT_EVENTS_MAX; i++) {
        (void)snprintf(names[i], sizeof names[i], "e%d", i); /* fits */
        ck_assert_uint_eq(admitted(names[i], 60000, 1, 2 + i), 1);
        ck_assert_uint_eq(admitted("often", 60000, 1, 2 + i), 0);
    }
    ck_assert_uint_eq(admitted(names[0], 60000, 1000, 1000), LOG_BURST_MAX);
}
END_TEST

static void setup(void)
{
    limit = (struct log_limit){.events = {{.name = NULL}}};
}

int main(void)
{
    Suite *suite = suite_create("core/base/log_limit");
    TCase *tc = tcase_create("log_limit");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, after_a_burst_there_is_one_each_interval);
    tcase_add_test(tc, a_day_of_a_stranger_is_less_than_two_mebibytes);
    tcase_add_test(tc, events_that_take_turns_are_limited_too);
    tcase_add_test(tc, a_stranger_does_not_silence_our_own_lines);
    tcase_add_test(tc, a_clock_that_goes_back_does_not_silence_an_event);
    tcase_add_test(tc, more_events_than_the_table_has_are_printed);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
