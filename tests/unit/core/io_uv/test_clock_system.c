#include "core/io_uv/clock_system.h"

#include "tests/unit/core/base/unit_main.h"

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
    tcase_add_test(tc, seeds_differ);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
