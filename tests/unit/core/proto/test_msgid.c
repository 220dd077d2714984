/* Offset message ids and UNIQ_KEYs. */
#include "core/proto/msgid.h"

#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

static const uint8_t loopback[4] = {127, 0, 0, 1};

/* 2026-03-15 12:00:00 UTC and the first of that month. */
#define MARCH_15 INT64_C(1773576000000)
#define MARCH_1  INT64_C(1772323200000)

/* Member by member: the byte between them may hold anything. */
static void assert_same_host(const struct record_host *a, const struct record_host *b)
{
    ck_assert_mem_eq(a->ip, b->ip, sizeof a->ip);
    ck_assert_uint_eq(a->ip_len, b->ip_len);
    ck_assert_uint_eq(a->port, b->port);
}

START_TEST(an_offset_id_has_the_known_text)
{
    /* Shows: 127.0.0.1:10911 at 6110, the id that Java prints, and back. */
    struct record_host host = record_host_ipv4(loopback, 10911);
    struct record_host back;
    char text[MSGID_TEXT_MAX + 1];
    int64_t offset;

    ck_assert_uint_eq(msgid_encode(&host, 6110, text), 32);
    ck_assert_str_eq(text, "7F00000100002A9F00000000000017DE");
    ck_assert_int_eq(msgid_decode(slice_str(text), &back, &offset), 0);
    ck_assert_int_eq(offset, 6110);
    assert_same_host(&back, &host);
    ck_assert_int_eq(msgid_decode(SLICE_LIT("7f00000100002a9f00000000000017de"), &back, &offset),
                     0);
}
END_TEST

START_TEST(an_ipv6_id_has_56_characters)
{
    /* Shows: the long form, there and back. */
    struct record_host host = {.ip = {0x20, 1, 0xd, 0xb8, [15] = 1}, .ip_len = 16, .port = 65535};
    struct record_host back;
    char text[MSGID_TEXT_MAX + 1];
    int64_t offset;

    ck_assert_uint_eq(msgid_encode(&host, INT64_MAX, text), 56);
    ck_assert_str_eq(text, "20010DB80000000000000000000000010000FFFF7FFFFFFFFFFFFFFF");
    ck_assert_int_eq(msgid_decode(slice_str(text), &back, &offset), 0);
    ck_assert_int_eq(offset, INT64_MAX);
    assert_same_host(&back, &host);
}
END_TEST

START_TEST(what_is_no_offset_id_is_refused)
{
    /* Shows: other lengths, other digits, a port above 16 bits, a negative offset. */
    static const char *const bad[] = {"",
                                      "7F00000100002A9F00000000000017D",
                                      "7F00000100002A9F00000000000017DEE",
                                      "7F00000100002A9F00000000000017DG",
                                      " F00000100002A9F00000000000017DE",
                                      "7F00000100012A9F00000000000017DE",
                                      "7F00000100002A9F80000000000017DE"};
    struct record_host host;
    int64_t offset;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(msgid_decode(slice_str(bad[i]), &host, &offset), ESCROW_EINVAL);
    }
}
END_TEST

START_TEST(a_key_has_address_pid_salt_time_and_counter)
{
    /*
     * Shows: the layout of the 16 bytes, and that the counter distinguishes keys of one
     * millisecond.
     */
    struct uniq_key_gen gen;
    char text[MSGID_TEXT_MAX + 1];
    uint32_t ms;

    uniq_key_init(&gen, loopback, 4, 0x1234, 0xDEADBEEF);
    ck_assert_uint_eq(uniq_key_next(&gen, MARCH_15, text), 32);
    ck_assert_str_eq(text, "7F0000011234DEADBEEF4AAC36000000");
    ck_assert_int_eq(uniq_key_time(slice_str(text), &ms), 0);
    ck_assert_uint_eq(ms, MARCH_15 - MARCH_1);
    (void)uniq_key_next(&gen, MARCH_15, text); /* its length is known by now */
    ck_assert_str_eq(text, "7F0000011234DEADBEEF4AAC36000001");
    (void)uniq_key_next(&gen, MARCH_15 + 1, text);
    ck_assert_str_eq(text, "7F0000011234DEADBEEF4AAC36010000");
    ck_assert_int_eq(uniq_key_time(SLICE_LIT("x"), &ms), ESCROW_EINVAL);
}
END_TEST

START_TEST(a_clock_that_goes_back_repeats_no_key)
{
    /*
     * Shows: time stands still until the clock has caught up; 65536 keys in one millisecond borrow
     * the next.
     */
    struct uniq_key_gen gen;
    char first[MSGID_TEXT_MAX + 1];
    char text[MSGID_TEXT_MAX + 1];
    char last[MSGID_TEXT_MAX + 1] = "";

    uniq_key_init(&gen, loopback, 4, 1, 2);
    (void)uniq_key_next(&gen, MARCH_15, first); /* only the text matters here and below */
    for (int i = 0; i < 70000; i++) {
        (void)uniq_key_next(&gen, MARCH_15 - 1000, text);
        ck_assert_int_gt(strcmp(text, i == 0 ? first : last), 0);
        memcpy(last, text, sizeof last);
    }
    ck_assert_int_eq(gen.last_ms, MARCH_15 + 1);
}
END_TEST

START_TEST(months_are_those_of_the_calendar)
{
    /*
     * Shows: the first moment of a month is 0, the last one is its length; leap years, century, and
     * zones.
     */
    static const struct {
        int64_t now_ms;
        int32_t zone_s;
        uint32_t want_ms;
    } cases[] = {
        {MARCH_1, 0, 0},
        {MARCH_1 - 1, 0, 28u * 86400000 - 1},                /* February 2026 */
        {INT64_C(1709251200000) - 1, 0, 29u * 86400000 - 1}, /* February 2024 */
        {INT64_C(951868800000) - 1, 0, 29u * 86400000 - 1},  /* February 2000 */
        {0, 0, 0},                                           /* 1970-01-01 */
        {INT64_C(1767225600000), 0, 0},                      /* 2026-01-01 */
        {INT64_C(1767225600000) - 1, 0, 31u * 86400000 - 1}, /* December */
        {MARCH_1, 8 * 3600, 8u * 3600000},                   /* Shanghai: March began 8 hours ago */
        {MARCH_1, -5 * 3600, 28u * 86400000 - 5u * 3600000}, /* New York: still February */
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct uniq_key_gen gen;
        char text[MSGID_TEXT_MAX + 1];
        uint32_t ms;
        uniq_key_init(&gen, loopback, 4, 1, 2);
        gen.utc_offset_s = cases[i].zone_s;
        (void)uniq_key_next(&gen, cases[i].now_ms, text); /* its length is known */
        ck_assert_int_eq(uniq_key_time(slice_str(text), &ms), 0);
        ck_assert_uint_eq(ms, cases[i].want_ms);
    }
}
END_TEST

START_TEST(the_month_changes_while_running)
{
    /* Shows: a generator that runs over the end of a month starts counting again. */
    struct uniq_key_gen gen;
    char text[MSGID_TEXT_MAX + 1];
    uint8_t ip6[16] = {[15] = 1};
    uint32_t ms;

    uniq_key_init(&gen, ip6, 16, 1, 2);
    ck_assert_uint_eq(uniq_key_next(&gen, MARCH_1 - 1, text), 56);
    ck_assert_uint_eq(uniq_key_next(&gen, MARCH_1 + 5, text), 56);
    ck_assert_int_eq(uniq_key_time(slice_str(text), &ms), 0);
    ck_assert_uint_eq(ms, 5);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("msgid");

    tcase_add_test(tc, an_offset_id_has_the_known_text);
    tcase_add_test(tc, an_ipv6_id_has_56_characters);
    tcase_add_test(tc, what_is_no_offset_id_is_refused);
    tcase_add_test(tc, a_key_has_address_pid_salt_time_and_counter);
    tcase_add_test(tc, a_clock_that_goes_back_repeats_no_key);
    tcase_add_test(tc, months_are_those_of_the_calendar);
    tcase_add_test(tc, the_month_changes_while_running);
    return run_tests(tc, "core/proto/msgid");
}
