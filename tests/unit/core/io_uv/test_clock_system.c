#include "core/io_uv/clock_system.h"

#include "tests/unit/core/base/unit_main.h"

#include <stdlib.h>
#include <time.h>

START_TEST(wall_time_is_the_systems)
{
    /* Milliseconds since 1970. */
    int64_t before = (int64_t)time(NULL);
    int64_t wall_ms = clock_wall_ms(clock_system());

    ck_assert_int_ge(wall_ms, before * 1000 - 1);
    ck_assert_int_le(wall_ms, before * 1000 + 60000);
}
END_TEST

START_TEST(monotonic_time_never_goes_back)
{
    /* Nanoseconds and milliseconds are the same clock. */
    struct clock *c = clock_system();
    int64_t last_ns = clock_mono_ns(c);

    for (int i = 0; i < 10000; i++) {
        int64_t now_ns = clock_mono_ns(c);

        ck_assert_int_ge(now_ns, last_ns);
        last_ns = now_ns;
    }
    ck_assert_int_ge(clock_mono_ms(c), last_ns / 1000000);
}
END_TEST

START_TEST(local_time_is_the_systems)
{
    /* Zones with and without summer time; the offset belongs to the time that is asked about. */
    struct clock *c = clock_system();
    int64_t winter_ms = INT64_C(1768478400000); /* 2026-01-15 12:00 UTC */
    int64_t summer_ms = INT64_C(1784116800000); /* 2026-07-15 12:00 UTC */

    ck_assert_int_eq(setenv("TZ", "UTC0", 1), 0);
    tzset();
    ck_assert_int_eq(clock_utc_offset_s(c, winter_ms), 0);
    ck_assert_int_eq(setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1), 0);
    tzset();
    ck_assert_int_eq(clock_utc_offset_s(c, winter_ms), 3600);
    ck_assert_int_eq(clock_utc_offset_s(c, summer_ms), 7200);
    ck_assert_int_eq(setenv("TZ", "EST5", 1), 0);
    tzset();
    ck_assert_int_eq(clock_utc_offset_s(c, summer_ms), -18000);
}
END_TEST

START_TEST(seeds_differ)
{
    /* Four equal ones in a row would be a miracle. */
    struct clock *c = clock_system();
    uint64_t first = clock_random_seed(c);

    ck_assert(first != clock_random_seed(c) || first != clock_random_seed(c) ||
              first != clock_random_seed(c));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/clock_system");
    TCase *tc = tcase_create("clock_system");

    tcase_add_test(tc, wall_time_is_the_systems);
    tcase_add_test(tc, monotonic_time_never_goes_back);
    tcase_add_test(tc, local_time_is_the_systems);
    tcase_add_test(tc, seeds_differ);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
