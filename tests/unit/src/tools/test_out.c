#include "src/tools/out.h"

#include "core/proto/compress.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

static void expect_text(const char *in, size_t len, const char *want)
{
    struct buf b;

    buf_init(&b, 0);
    out_put_text(&b, slice_of(in, len));
    ck_assert_msg(slice_eq_str(buf_slice(&b), want), "%.*s", (int)b.len, (const char *)b.ptr);
    buf_fini(&b);
}

START_TEST(what_a_terminal_could_obey_is_escaped)
{
    /* Escape, newline, DEL, C1 in UTF-8, NUL; letters of any alphabet stay. */
    expect_text("a\x1b[2Jb", 6, "a\\x1b[2Jb");
    expect_text("a\nb\x7f", 4, "a\\x0ab\\x7f");
    expect_text("\xc2\x9b", 2, "\\xc2\\x9b");
    expect_text("\0", 1, "\\x00");
    expect_text("\xc3\xa4 \xe4\xb8\xad \xf0\x9f\x98\x80", 11,
                "\xc3\xa4 \xe4\xb8\xad \xf0\x9f\x98\x80");
}
END_TEST

START_TEST(malformed_utf8_is_escaped_byte_by_byte)
{
    /* Lone continuation, overlong form, surrogate, cut off, beyond the last character. */
    expect_text("\x80", 1, "\\x80");
    expect_text("\xc0\xaf", 2, "\\xc0\\xaf");
    expect_text("\xed\xa0\x80", 3, "\\xed\\xa0\\x80");
    expect_text("\xe4\xb8", 2, "\\xe4\\xb8");
    expect_text("\xf4\x90\x80\x80", 4, "\\xf4\\x90\\x80\\x80");
    ck_assert(!out_is_plain(slice_str("\x80")));
    ck_assert(out_is_plain(slice_str("line\n\ttab")));
    ck_assert(!out_is_plain(slice_str("bell\a")));
}
END_TEST

START_TEST(ages_have_two_units_at_most)
{
    /* Each range, and the border of the first. */
    char text[32];

    ck_assert_str_eq(out_age(0, text, sizeof text), "0ms");
    ck_assert_str_eq(out_age(9999, text, sizeof text), "9999ms");
    ck_assert_str_eq(out_age(10000, text, sizeof text), "10s");
    ck_assert_str_eq(out_age(247000, text, sizeof text), "4m07s");
    ck_assert_str_eq(out_age(3600000, text, sizeof text), "1h00m");
    ck_assert_str_eq(out_age(93600000, text, sizeof text), "1d02h");
}
END_TEST

START_TEST(times_are_utc_with_milliseconds)
{
    /* A known instant, and none. */
    struct buf b;

    buf_init(&b, 0);
    out_put_time(&b, INT64_C(1700000000123));
    out_put_time(&b, 0);
    ck_assert(slice_eq_str(buf_slice(&b), "2023-11-14T22:13:20.123Z-"));
    buf_fini(&b);
}
END_TEST

static void expect_json_flags(const char *body, size_t len, int32_t flags, const char *want)
{
    uint8_t rec[512];
    static const uint8_t ip[4] = {127, 0, 0, 1};
    struct record_fields f = {.born_host = record_host_ipv4(ip, 1),
                              .store_host = record_host_ipv4(ip, 2),
                              .sys_flag = flags,
                              .body = slice_of(body, len),
                              .topic = SLICE_LIT("T"),
                              .properties = SLICE_LIT("k\x01v\x02")};
    struct record_view view;
    struct json_writer w;
    struct buf b;

    ck_assert_uint_le(record_size(&f), sizeof rec);
    (void)record_encode(rec, &f); /* its size is known */
    ck_assert_int_eq(record_decode(slice_of(rec, record_size(&f)), &view), 0);
    buf_init(&b, 0);
    w = json_writer_to(&b);
    out_message_json(&w, &view);
    buf_append_u8(&b, 0);
    ck_assert(!buf_failed(&b));
    ck_assert_msg(strstr((const char *)b.ptr, want) != NULL, "%s", (const char *)b.ptr);
    ck_assert(strstr((const char *)b.ptr, "\"properties\":{\"k\":\"v\"}") != NULL);
    buf_fini(&b);
}

static void expect_json(const char *body, size_t len, const char *want)
{
    expect_json_flags(body, len, 0, want);
}

START_TEST(a_compressed_body_is_shown_as_it_was_sent)
{
    /* "plain", by zlib; what is not zlib although it says so is shown as it is. */
    static const char packed[] = "\x78\x9c\x2b\xc8\x49\xcc\xcc\x03\x00\x06\x48\x02\x15";
    struct buf b;

    buf_init(&b, 0);
    ck_assert_int_eq(compress_as(&b, COMPRESSION_ZLIB, SLICE_LIT("plain"), 5), 0);
    expect_json_flags((const char *)b.ptr, b.len, SYSFLAG_COMPRESSED, "\"body\":\"plain\"");
    expect_json_flags(packed, sizeof packed - 1, SYSFLAG_COMPRESSED, "\"body\":\"plain\"");
    expect_json_flags("plain", 5, SYSFLAG_COMPRESSED, "\"body\":\"plain\"");
    expect_json_flags("plain", 5, SYSFLAG_COMPRESSED | 0x500, "\"body\":\"plain\"");
    buf_fini(&b);
}
END_TEST

START_TEST(a_body_is_text_in_json_when_it_is_text_and_base64_otherwise)
{
    /* Base64 of one, two and three bytes: RFC 4648, section 10, with bytes that are no text. */
    expect_json("plain", 5, "\"body\":\"plain\"");
    expect_json("\xff", 1, "\"bodyBase64\":\"/w==\"");
    expect_json("\xff\xfe", 2, "\"bodyBase64\":\"//4=\"");
    expect_json("\xff\xfe\xfd", 3, "\"bodyBase64\":\"//79\"");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/tools/out");
    TCase *tc = tcase_create("out");

    tcase_add_test(tc, what_a_terminal_could_obey_is_escaped);
    tcase_add_test(tc, malformed_utf8_is_escaped_byte_by_byte);
    tcase_add_test(tc, ages_have_two_units_at_most);
    tcase_add_test(tc, times_are_utc_with_milliseconds);
    tcase_add_test(tc, a_compressed_body_is_shown_as_it_was_sent);
    tcase_add_test(tc, a_body_is_text_in_json_when_it_is_text_and_base64_otherwise);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
