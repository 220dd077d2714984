#include "src/broker/traffic.h"

#include "core/base/mem.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

#define HOUR_MS 3600000
#define DAY_MS  86400000

START_TEST(a_rate_sums_up_what_its_window_covers)
{
    /* Slots that are over leave the window, and the rate is by the time really covered. */
    struct rate r = {.total = 0};
    struct rate_sum sum;

    rate_add(&r, 100, 1000000);
    rate_add(&r, 20, 1015000);
    sum = rate_sum(&r, RATE_MINUTE, 0, 0, 1015000);
    ck_assert_uint_eq(sum.sum, 120);
    ck_assert_double_eq_tol(sum.per_second, 120 / 55.0, 1e-9); /* five slots and five seconds */
    sum = rate_sum(&r, RATE_MINUTE, 1, 0, 1015000);
    ck_assert_uint_eq(sum.sum, 20);
    ck_assert_double_eq_tol(sum.per_second, 4.0, 1e-9);
    /* counting began five seconds ago, or just now: never over less than a second */
    ck_assert_double_eq_tol(rate_sum(&r, RATE_DAY, 0, 1010000, 1015000).per_second, 24.0, 1e-9);
    ck_assert_double_eq_tol(rate_sum(&r, RATE_DAY, 0, 1015000, 1015000).per_second, 120.0, 1e-9);

    ck_assert_uint_eq(rate_sum(&r, RATE_MINUTE, 0, 0, 1060000).sum, 20);
    ck_assert_uint_eq(rate_sum(&r, RATE_MINUTE, 0, 0, 1070000).sum, 0);
    ck_assert_uint_eq(rate_sum(&r, RATE_HOUR, 0, 0, 1070000).sum, 120);
    ck_assert_uint_eq(rate_sum(&r, RATE_HOUR, 0, 0, 1000000 + HOUR_MS).sum, 0);
    ck_assert_uint_eq(rate_sum(&r, RATE_DAY, 0, 0, 1000000 + HOUR_MS).sum, 120);
    ck_assert_uint_eq(rate_sum(&r, RATE_DAY, 0, 0, 1000000 + DAY_MS).sum, 0);
    rate_add(&r, 1, 1000000 + DAY_MS);
    ck_assert_uint_eq(rate_sum(&r, RATE_DAY, 0, 0, 1000000 + DAY_MS).sum, 1);
    ck_assert_uint_eq(r.total, 121);
}
END_TEST

START_TEST(a_rate_is_the_sum_of_its_last_additions)
{
    /* Against a plain list of additions, at random times. */
    struct {
        int64_t at_ms;
        uint64_t count;
    } added[500];
    struct rate r = {.total = 0};
    uint32_t seed = 7;
    int64_t now_ms = 50;

    for (size_t i = 0; i < 500; i++) {
        uint64_t want = 0;
        seed = seed * 1103515245u + 12345u;
        now_ms += (seed >> 16) % 25000;
        added[i].at_ms = now_ms;
        added[i].count = (seed >> 8) % 9;
        rate_add(&r, added[i].count, now_ms);
        for (size_t j = 0; j <= i; j++) {
            want += added[j].at_ms / 10000 > now_ms / 10000 - 6 ? added[j].count : 0;
        }
        ck_assert_uint_eq(rate_sum(&r, RATE_MINUTE, 0, 0, now_ms).sum, want);
    }
}
END_TEST

START_TEST(mornings_are_remembered)
{
    /* Nothing yesterday, then two days in a row, then a day without anything. */
    struct day_marks d = {.day = 10};

    day_marks_roll(&d, 5, INT64_C(10) * DAY_MS + 7);
    ck_assert_uint_eq(d.today_morning, 0);
    day_marks_roll(&d, 5, INT64_C(11) * DAY_MS);
    ck_assert_uint_eq(d.today_morning, 5);
    ck_assert_uint_eq(d.yesterday_morning, 0);
    day_marks_roll(&d, 9, INT64_C(12) * DAY_MS);
    ck_assert_uint_eq(d.today_morning, 9);
    ck_assert_uint_eq(d.yesterday_morning, 5);
    day_marks_roll(&d, 11, INT64_C(14) * DAY_MS);
    ck_assert_uint_eq(d.today_morning, 11);
    ck_assert_uint_eq(d.yesterday_morning, 11);
    day_marks_roll(&d, 12, INT64_C(13) * DAY_MS);
    ck_assert_uint_eq(d.today_morning, 11);
}
END_TEST

START_TEST(topics_and_groups_are_counted_apart_and_bounded)
{
    /* Not before recovery is over; beyond the memory limit nothing new is counted. */
    struct hash_key key = {1, 2};
    struct traffic_now now = {.mono_ms = 1000, .wall_ms = 5};
    struct traffic t;
    char name[64];

    traffic_init(&t, key);
    traffic_put(&t, SLICE_LIT("T"), now);
    ck_assert_ptr_null(traffic_find(&t, SLICE_LIT("T"), SLICE_EMPTY));
    traffic_start(&t, now);
    traffic_put(&t, SLICE_LIT("T"), now);
    traffic_get(&t, SLICE_LIT("T"), SLICE_LIT("g"), 3, now);
    traffic_get(&t, SLICE_LIT("T"), SLICE_EMPTY, 4, now);
    ck_assert_uint_eq(traffic_find(&t, SLICE_LIT("T"), SLICE_EMPTY)->total, 1);
    ck_assert_uint_eq(traffic_find(&t, SLICE_LIT("T"), SLICE_LIT("g"))->total, 3);
    ck_assert_uint_eq(t.get.total, 7);
    for (int i = 0; !traffic_is_full(&t); i++) {
        (void)snprintf(name, sizeof name, "topic-%d", i);
        traffic_put(&t, slice_str(name), now);
    }
    ck_assert_uint_lt(t.topics.count, TRAFFIC_BYTES_MAX / sizeof(struct rate));
    traffic_put(&t, SLICE_LIT("U"), now);
    ck_assert_ptr_null(traffic_find(&t, SLICE_LIT("U"), SLICE_EMPTY));
    traffic_put(&t, SLICE_LIT("T"), now);
    ck_assert_uint_eq(traffic_find(&t, SLICE_LIT("T"), SLICE_EMPTY)->total, 2);
    traffic_fini(&t);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/traffic");
    TCase *tc = tcase_create("traffic");

    tcase_add_test(tc, a_rate_sums_up_what_its_window_covers);
    tcase_add_test(tc, a_rate_is_the_sum_of_its_last_additions);
    tcase_add_test(tc, mornings_are_remembered);
    tcase_add_test(tc, topics_and_groups_are_counted_apart_and_bounded);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
