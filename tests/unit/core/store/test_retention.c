/* Which segments may go: a table of clocks, disks, ages and needs. */
#include "core/store/retention.h"

#include "tests/unit/core/base/unit_main.h"

#include <string.h>

#define SIZE   UINT64_C(1000)
#define NOW_MS INT64_C(1784167200000) /* 2026-07-16 02:00 UTC */
#define HOUR   INT64_C(3600000)

static struct store_segment rows[RETENTION_STEP_SEGMENTS + 1];
static struct retention_settings settings;
static struct retention_input in;

/* `count` segments of so many hours ago, the oldest first, an hour apart; disk half full. */
static void begin(uint32_t count, int64_t oldest_hours)
{
    settings = (struct retention_settings){.reserved_ms = 72 * HOUR,
                                           .hours = RETENTION_ANY_HOUR,
                                           .disk_clean_percent = 75,
                                           .disk_force_percent = 85,
                                           .disk_refuse_percent = 90};
    in = (struct retention_input){.now_ms = NOW_MS,
                                  .usage = {.used_bytes = 500000, .available_bytes = 500000},
                                  .segment_bytes = SIZE,
                                  .segments = rows,
                                  .count = count,
                                  .needed = UINT64_MAX};
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = (struct store_segment){
            .first = 5000 + i * SIZE, .begin_ms = 1, .used_ms = NOW_MS - (oldest_hours - i) * HOUR};
    }
}

static struct retention_verdict step(void)
{
    return retention_step(&settings, &in);
}

static void use_disk(uint64_t thousandths)
{
    in.usage.used_bytes = thousandths * 1000;
    in.usage.available_bytes = (1000 - thousandths) * 1000;
}

START_TEST(what_is_old_enough_goes_from_the_front_on)
{
    /* To the millisecond; what lies behind a younger segment waits for it. */
    struct retention_verdict v;

    begin(5, 74);
    v = step();
    ck_assert_uint_eq(v.count, 3); /* 74, 73, 72 hours */
    ck_assert_uint_eq(v.first, 8000);
    ck_assert_int_eq(v.why, RETENTION_AGE);
    ck_assert(!v.is_more && !v.is_pinned && !v.is_refusing);
    rows[2].used_ms++;
    ck_assert_uint_eq(step().count, 2);
    rows[0].used_ms = NOW_MS - 71 * HOUR;
    v = step();
    ck_assert_uint_eq(v.count, 0);
    ck_assert_int_eq(v.why, RETENTION_NOTHING);
    ck_assert(!v.is_pinned);
    begin(0, 0);
    ck_assert_uint_eq(step().count, 0);
}
END_TEST

START_TEST(a_segment_without_messages_is_old)
{
    /* Offsets and positions alone are in the checkpoint. */
    begin(2, 1);
    ck_assert_uint_eq(step().count, 0);
    rows[0].used_ms = 0;
    ck_assert_uint_eq(step().count, 1);
}
END_TEST

START_TEST(only_at_its_hour)
{
    /* Local time; several hours may be given; none of them at any other time. */
    begin(1, 100);
    settings.hours = 1u << 4;
    ck_assert_uint_eq(step().count, 0); /* 02:00 UTC */
    in.utc_offset_s = 2 * 3600;
    ck_assert_uint_eq(step().count, 1);
    in.now_ms += HOUR - 1;
    ck_assert_uint_eq(step().count, 1);
    in.now_ms++;
    ck_assert_uint_eq(step().count, 0);
    settings.hours |= 1u << 5;
    ck_assert_uint_eq(step().count, 1);
    in.utc_offset_s = -4 * 3600; /* 23:00 of the day before */
    settings.hours = 1u << 23;
    ck_assert_uint_eq(step().count, 1);
    settings.hours = 0;
    ck_assert_uint_eq(step().count, 0);
}
END_TEST

START_TEST(above_the_clean_limit_the_hour_does_not_matter)
{
    /* Age still does. */
    struct retention_verdict v;

    begin(3, 73);
    settings.hours = 0;
    use_disk(750);
    ck_assert_uint_eq(step().count, 0);
    use_disk(751);
    v = step();
    ck_assert_uint_eq(v.percent, 76);
    ck_assert_uint_eq(v.count, 2);
    ck_assert_int_eq(v.why, RETENTION_CLEAN);
}
END_TEST

START_TEST(above_the_force_limit_age_does_not_matter)
{
    /* As many as bring usage to the limit, and not one more. */
    struct retention_verdict v;

    begin(9, 9);
    settings.hours = 0;
    use_disk(850);
    ck_assert_uint_eq(step().count, 0);
    use_disk(853); /* 3,000 bytes above */
    v = step();
    ck_assert_uint_eq(v.count, 4);
    ck_assert_int_eq(v.why, RETENTION_FORCE);
    ck_assert(!v.is_refusing);
    use_disk(852);
    in.usage.used_bytes -= 1; /* 1,999 bytes above */
    in.usage.available_bytes += 1;
    ck_assert_uint_eq(step().count, 2);
    settings.disk_force_percent = 100;
    use_disk(1000);
    ck_assert_uint_eq(step().count, 0);
}
END_TEST

START_TEST(a_step_is_bounded)
{
    /* Ten segments, and word that there are more. */
    struct retention_verdict v;

    begin(RETENTION_STEP_SEGMENTS + 1, 200);
    v = step();
    ck_assert_uint_eq(v.count, RETENTION_STEP_SEGMENTS);
    ck_assert(v.is_more);
    in.count = RETENTION_STEP_SEGMENTS;
    v = step();
    ck_assert_uint_eq(v.count, RETENTION_STEP_SEGMENTS);
    ck_assert(!v.is_more);
}
END_TEST

START_TEST(what_is_needed_stays_whatever_the_disk_says)
{
    /* The segment of the oldest half, and all behind it; said only when it would have gone. */
    struct retention_verdict v;

    begin(5, 200);
    use_disk(990);
    in.needed = 7999; /* the last byte of the third */
    v = step();
    ck_assert_uint_eq(v.count, 2);
    ck_assert_uint_eq(v.first, 7000);
    ck_assert(v.is_pinned);
    in.needed = 8000;
    v = step();
    ck_assert_uint_eq(v.count, 3);
    ck_assert(v.is_pinned);
    in.needed = 5000;
    v = step();
    ck_assert_uint_eq(v.count, 0);
    ck_assert(v.is_pinned);
    begin(5, 10);
    in.needed = 5000;
    ck_assert(!step().is_pinned);
}
END_TEST

START_TEST(above_the_refuse_limit_messages_are_refused)
{
    /* Rounded up, as df does: 90.0 percent is not above 90, 90.1 is. */
    begin(0, 0);
    use_disk(900);
    ck_assert(!step().is_refusing);
    use_disk(901);
    ck_assert(step().is_refusing);
    ck_assert_uint_eq(step().percent, 91);
    settings.disk_refuse_percent = 100;
    use_disk(1000);
    ck_assert(!step().is_refusing);
}
END_TEST

START_TEST(sizes_of_any_disk_are_computed)
{
    /* Nothing, one byte, and the largest there could be. */
    ck_assert_uint_eq(retention_percent(&(struct disk_usage){0, 0}), 0);
    ck_assert_uint_eq(retention_percent(&(struct disk_usage){1, 0}), 100);
    ck_assert_uint_eq(retention_percent(&(struct disk_usage){0, 1}), 0);
    ck_assert_uint_eq(retention_percent(&(struct disk_usage){1, UINT64_C(1) << 40}), 1);
    ck_assert_uint_eq(retention_percent(&(struct disk_usage){UINT64_MAX, UINT64_MAX}), 50);
    ck_assert_uint_eq(retention_percent(&(struct disk_usage){UINT64_MAX, 0}), 100);
}
END_TEST

START_TEST(every_reason_has_a_text)
{
    /* Each its own. */
    for (int a = RETENTION_NOTHING; a <= RETENTION_FORCE; a++) {
        for (int b = RETENTION_NOTHING; b < a; b++) {
            ck_assert_str_ne(retention_why_text((enum retention_why)a),
                             retention_why_text((enum retention_why)b));
        }
    }
}
END_TEST

START_TEST(a_clock_that_is_set_forward_makes_nothing_old)
{
    /* Four days in ten seconds are ten seconds; a clock that is set back is believed. */
    const int64_t begin_ms = INT64_C(1700000000000);

    ck_assert_int_eq(retention_now_ms(begin_ms, 10000, begin_ms + 10000), begin_ms + 10000);
    ck_assert_int_eq(retention_now_ms(begin_ms, 10000, begin_ms + 4 * 86400000), begin_ms + 10000);
    ck_assert_int_eq(retention_now_ms(begin_ms, 10000, begin_ms - 3600000), begin_ms - 3600000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/retention");
    TCase *tc = tcase_create("retention");

    tcase_add_test(tc, what_is_old_enough_goes_from_the_front_on);
    tcase_add_test(tc, a_segment_without_messages_is_old);
    tcase_add_test(tc, only_at_its_hour);
    tcase_add_test(tc, above_the_clean_limit_the_hour_does_not_matter);
    tcase_add_test(tc, above_the_force_limit_age_does_not_matter);
    tcase_add_test(tc, a_step_is_bounded);
    tcase_add_test(tc, what_is_needed_stays_whatever_the_disk_says);
    tcase_add_test(tc, above_the_refuse_limit_messages_are_refused);
    tcase_add_test(tc, sizes_of_any_disk_are_computed);
    tcase_add_test(tc, every_reason_has_a_text);
    tcase_add_test(tc, a_clock_that_is_set_forward_makes_nothing_old);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
