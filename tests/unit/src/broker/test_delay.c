#include "src/broker/delay.h"

#include "escrow/errors.h"
#include "src/broker/recall_handle.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

#define NOW_MS INT64_C(1700000000000)

static struct delay_rules rules(void)
{
    struct delay_rules r = {.max_ms = 86400000};

    ck_assert_int_eq(
        delay_levels_parse(SLICE_LIT("1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"),
                           &r.levels),
        0);
    return r;
}

START_TEST(the_default_table_is_rocketmqs)
{
    /* 18 levels, 1 s to 2 h; a higher one counts as the last. */
    struct delay_rules r = rules();

    ck_assert_uint_eq(r.levels.count, 18);
    ck_assert_int_eq(delay_level_ms(&r.levels, 1), 1000);
    ck_assert_int_eq(delay_level_ms(&r.levels, 3), 10000);
    ck_assert_int_eq(delay_level_ms(&r.levels, 5), 60000);
    ck_assert_int_eq(delay_level_ms(&r.levels, 18), 7200000);
    ck_assert_int_eq(delay_level_ms(&r.levels, 1000), 7200000);
}
END_TEST

START_TEST(tables_that_make_no_sense_are_refused)
{
    /* Empty, without a unit or a number, another unit, more than a year, more than 64. */
    static const char *const bad[] = {
        "", " ", "1", "s", "1x", "1s 2", "-1s", "366d", "9999999999999d"};
    char many[65 * 3 + 1] = "";
    struct delay_levels levels;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(delay_levels_parse(slice_str(bad[i]), &levels), ESCROW_EINVAL);
    }
    for (int i = 0; i < 65; i++) {
        memcpy(many + (size_t)i * 3, "1s ", 4);
    }
    ck_assert_int_eq(delay_levels_parse(slice_str(many), &levels), ESCROW_EINVAL);
    ck_assert_int_eq(delay_levels_parse(slice_of(many, 64 * 3), &levels), 0);
    ck_assert_int_eq(delay_levels_parse(SLICE_LIT("5ms 1d"), &levels), 0);
    ck_assert(levels.ms[0] == 5 && levels.ms[1] == 86400000);
}
END_TEST

START_TEST(properties_say_when)
{
    /* Which of them counts, what is none, what is refused. */
    static const struct {
        const char *delay;
        const char *sec;
        const char *ms;
        const char *at;
        const char *out;
        int rc;
        int64_t distance_ms; /* 0 = at once */
        bool is_relative;
    } cases[] = {
        {"", "", "", "", "", 0, 0, false},
        {"2", "", "", "", "", 0, 5000, true},
        {"2", "60", "7", "9", "1", 0, 5000, true},
        {"0", "60", "7", "9", "", 0, 60000, true},
        {"-1", "", "7", "9", "", 0, 7, true},
        {"", "", "", "1700000000250", "", 0, 250, false},
        {"", "", "", "1700000000000", "", 0, 0, false},
        {"", "60", "", "", "1700000000000", 0, 0, false},
        {"", "-5", "", "", "", 0, 0, false},
        {"99999999999", "", "", "", "", 0, 7200000, true},
        {"", "86400", "", "", "", 0, 86400000, true},
        {"", "86401", "", "", "", ESCROW_ETOOBIG, 0, false},
        {"", "9223372036854775807", "", "", "", ESCROW_ETOOBIG, 0, false},
        {"", "", "", "9223372036854775807", "", ESCROW_ETOOBIG, 0, false},
        {"x", "", "", "", "", ESCROW_EINVAL, 0, false},
        {"", "1.5", "", "", "", ESCROW_EINVAL, 0, false},
    };
    struct delay_rules r = rules();

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct props_known props = {.delay = slice_str(cases[i].delay),
                                    .timer_delay_s = slice_str(cases[i].sec),
                                    .timer_delay_ms = slice_str(cases[i].ms),
                                    .timer_deliver_ms = slice_str(cases[i].at),
                                    .timer_out_ms = slice_str(cases[i].out)};
        struct delay d;

        ck_assert_int_eq(delay_of(&r, &props, NOW_MS, &d), cases[i].rc);
        ck_assert_int_eq(d.is_held, cases[i].distance_ms > 0);
        if (d.is_held) {
            ck_assert_int_eq(d.due_ms, NOW_MS + cases[i].distance_ms);
            ck_assert_int_eq(d.is_relative, cases[i].is_relative);
            ck_assert_int_eq(d.level, cases[i].distance_ms == 5000      ? 2
                                      : cases[i].distance_ms == 7200000 ? (int32_t)r.levels.count
                                                                        : 0);
        }
    }
}
END_TEST

START_TEST(a_handle_is_what_rocketmqs_clients_open)
{
    /* Five words as theirs, base64url with padding; ours reads its own back, also unpadded. */
    struct recall_handle h = {.topic = SLICE_LIT("T"),
                              .broker = SLICE_LIT("b-a"),
                              .message_id = SLICE_LIT("7F0000010001"),
                              .due_ms = NOW_MS,
                              .offset = 4711};
    char text[RECALL_HANDLE_MAX];
    uint8_t scratch[RECALL_TEXT_MAX];
    struct recall_handle got;
    size_t len = recall_handle_encode(&h, text);

    ck_assert(slice_eq_str(slice_of(text, len),
                           "djEgVCBiLWEgMTcwMDAwMDAwMDAwMCA3RjAwMDAwMTAwMDEgNDcxMQ=="));
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(recall_handle_decode(slice_of(text, len), scratch, &got), 0);
        ck_assert(slice_eq(got.topic, h.topic) && slice_eq(got.broker, h.broker));
        ck_assert(slice_eq(got.message_id, h.message_id));
        ck_assert(got.due_ms == NOW_MS && got.offset == 4711);
        len -= 2;
    }
    h.message_id = SLICE_LIT("with blank");
    ck_assert_uint_eq(recall_handle_encode(&h, text), 0);
    h.message_id = slice_of("zero\0byte", 9);
    ck_assert_uint_eq(recall_handle_encode(&h, text), 0);
}
END_TEST

START_TEST(other_texts_are_no_handles)
{
    /* Not base64, another version, too few or too many words, no numbers, zero bytes, too long. */
    static const char *const bad[] = {
        "", "!!!!", "djI=", "djEgVCBiIDEgSQ==", "djEgVCBiIHggSSAx", "djEgVCBiIDEgSSB4",
        "djEgVCBiIDEgSSAxIDI=", "djEgVCBiIDEgSSAtMQ==",
        /* a zero byte in the id, in the topic, behind it all */
        "djEgVCBiIDEgSQBKIDE=", "djEgVAAgYiAxIEkgMQ==", "djEgVCBiIDEgSSAxAA=="};
    uint8_t scratch[RECALL_TEXT_MAX];
    char big[2000];
    struct recall_handle got;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(recall_handle_decode(slice_str(bad[i]), scratch, &got), ESCROW_EINVAL);
    }
    memset(big, 'A', sizeof big);
    ck_assert_int_eq(recall_handle_decode(slice_of(big, sizeof big), scratch, &got), ESCROW_EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/delay");
    TCase *tc = tcase_create("delay");

    tcase_add_test(tc, the_default_table_is_rocketmqs);
    tcase_add_test(tc, tables_that_make_no_sense_are_refused);
    tcase_add_test(tc, properties_say_when);
    tcase_add_test(tc, a_handle_is_what_rocketmqs_clients_open);
    tcase_add_test(tc, other_texts_are_no_handles);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
