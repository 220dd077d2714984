#include "core/proto/header_rocketmq.h"

#include "core/proto/codes.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

static struct buf bytes;
static struct header h;

static void set_up(void)
{
    buf_init(&bytes, 0);
    header_init(&h);
}

static void tear_down(void)
{
    header_fini(&h);
    buf_fini(&bytes);
}

static int decode_hex(const char *text)
{
    buf_clear(&bytes);
    put_hex(&bytes, text);
    return header_decode(&h, HEADER_ROCKETMQ, buf_slice(&bytes));
}

START_TEST(the_published_vector_is_read)
{
    /* GET_ROUTEINFO_BY_TOPIC from a Java client. */
    ck_assert_int_eq(decode_hex("0069 00 0199 00000007 00000000 00000000 0000000c 0005 746f706963 "
                                "00000001 54"),
                     0);
    ck_assert_int_eq(h.code, REQUEST_GET_ROUTEINFO_BY_TOPIC);
    ck_assert_int_eq(h.language, LANGUAGE_JAVA);
    ck_assert_int_eq(h.version, 409);
    ck_assert_int_eq(h.opaque, 7);
    ck_assert_int_eq(h.flag, 0);
    ck_assert_ptr_null(h.remark.ptr);
    ck_assert_uint_eq(h.field_count, 1);
    assert_slice(header_str(&h, "topic"), "T");
}
END_TEST

START_TEST(the_published_vector_is_written)
{
    /* Byte for byte, the frame around it included. */
    struct header_writer w;
    struct buf want;

    header_begin(&w, &bytes, HEADER_ROCKETMQ, &(struct header_out){.code = 105, .opaque = 7});
    header_put_str(&w, "topic", SLICE_LIT("T"));
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    buf_init(&want, 0);
    put_hex(&want, "00000025 01000021 0069 00 0199 00000007 00000000 00000000 0000000c 0005 "
                   "746f706963 00000001 54");
    assert_same(buf_slice(&bytes), buf_slice(&want));
    buf_fini(&want);
}
END_TEST

START_TEST(integers_are_signed)
{
    /* A code that a client cut off stays what it is; opaque and flag use all 32 bits. */
    ck_assert_int_eq(decode_hex("8000 09 ffff ffffffff 80000001 00000000 00000000"), 0);
    ck_assert_int_eq(h.code, -32768);
    ck_assert_int_eq(h.language, LANGUAGE_GO);
    ck_assert_int_eq(h.version, -1);
    ck_assert_int_eq(h.opaque, -1);
    ck_assert(header_is_response(&h));
    ck_assert_int_eq(decode_hex("0001 63 0199 00000001 00000000 00000000 00000000"), 0);
    ck_assert_int_eq(h.language, LANGUAGE_OTHER); /* 99 is nobody's */
}
END_TEST

START_TEST(lengths_that_do_not_add_up_are_refused)
{
    /* Remark, fields, key, value: each too long, negative, or followed by bytes of nobody. */
    static const char *const headers[] = {
        "0069 00 0199 00000007 00000000 00000001 00000000",         /* remark eats the rest */
        "0069 00 0199 00000007 00000000 ffffffff 00000000",         /* negative remark */
        "0069 00 0199 00000007 00000000 00000000 00000001",         /* no such fields */
        "0069 00 0199 00000007 00000000 00000000 ffffffff",         /* negative */
        "0069 00 0199 00000007 00000000 00000000 00000000 00",      /* a byte behind */
        "0069 00 0199 00000007 00000000 00000000 00000001 00",      /* half a key length */
        "0069 00 0199 00000007 00000000 00000000 00000002 0001",    /* no key */
        "0069 00 0199 00000007 00000000 00000000 00000002 ffff",    /* negative key length */
        "0069 00 0199 00000007 00000000 00000000 00000003 0001 61", /* no value length */
        "0069 00 0199 00000007 00000000 00000000 00000007 0001 61 00000001",
        "0069 00 0199 00000007 00000000 00000000 00000007 0001 61 ffffffff",
        "0069 00 0199 00000007 00000000 00000000 00000008 0001 61 00000000 00",
    };
    size_t i;

    for (i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        ck_assert_msg(decode_hex(headers[i]) == ESCROW_EPROTO, "header %zu was accepted", i);
    }
}
END_TEST

START_TEST(a_key_length_is_signed)
{
    /* 32767 bytes are a key; 32768 are a negative length, although the bytes are there. */
    size_t len;

    for (len = INT16_MAX; len <= INT16_MAX + 1; len++) {
        buf_clear(&bytes);
        put_hex(&bytes, "0069 00 0199 00000007 00000000 00000000");
        buf_append_be32(&bytes, (uint32_t)(len + 6));
        buf_append_be16(&bytes, (uint16_t)len);
        memset(buf_reserve(&bytes, len), 'k', len);
        buf_commit(&bytes, len);
        buf_append_be32(&bytes, 0);
        ck_assert_int_eq(header_decode(&h, HEADER_ROCKETMQ, buf_slice(&bytes)),
                         len == INT16_MAX ? 0 : ESCROW_EPROTO);
    }
}
END_TEST

START_TEST(of_two_equal_keys_the_last_wins)
{
    /* As in a Java map; for letters and for words. */
    ck_assert_int_eq(decode_hex("0069 00 0199 00000007 00000000 00000000 00000020 "
                                "0001 61 00000001 31 0001 61 00000001 32 "
                                "0001 41 00000001 33 0001 41 00000001 34"),
                     0);
    ck_assert_uint_eq(h.field_count, 2);
    assert_slice(header_str(&h, "a"), "2");
    assert_slice(header_str(&h, "A"), "4");
}
END_TEST

START_TEST(more_fields_than_the_table_holds_are_refused)
{
    /* 257 different keys. */
    int i;

    put_hex(&bytes, "0069 00 0199 00000007 00000000 00000000");
    buf_append_be32(&bytes, 257 * 8);
    for (i = 0; i < 257; i++) {
        buf_append_be16(&bytes, 2);
        buf_append_be16(&bytes, (uint16_t)(i * 97));
        buf_append_be32(&bytes, 0);
    }
    ck_assert_int_eq(header_decode(&h, HEADER_ROCKETMQ, buf_slice(&bytes)), ESCROW_ETOOBIG);
    ck_assert_uint_eq(h.field_count, 0);
}
END_TEST

START_TEST(a_code_that_does_not_fit_is_not_written)
{
    /* 200050 would arrive as 3442, another request. */
    static const int32_t codes[] = {200050, 32768, -32769};
    size_t i;

    for (i = 0; i < 3; i++) {
        struct header_writer w;
        header_begin(&w, &bytes, HEADER_ROCKETMQ, &(struct header_out){.code = codes[i]});
        header_put_str(&w, "topic", SLICE_LIT("T"));
        header_end(&w);
        ck_assert_int_eq(header_frame_end(&w, 0), ESCROW_ENOTSUP);
        ck_assert_uint_eq(bytes.len, 0);
    }
}
END_TEST

START_TEST(a_key_that_does_not_fit_is_not_written)
{
    /* A key's length has 15 bits. */
    static uint8_t key[INT16_MAX + 1];
    struct header_writer w;

    memset(key, 'k', sizeof key);
    header_begin(&w, &bytes, HEADER_ROCKETMQ, &(struct header_out){.code = 1});
    header_put_slice(&w, slice_of(key, sizeof key), SLICE_EMPTY);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), ESCROW_ETOOBIG);
    header_begin(&w, &bytes, HEADER_ROCKETMQ, &(struct header_out){.code = 1});
    header_put_slice(&w, slice_of(key, sizeof key - 1), SLICE_EMPTY);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("header_rocketmq");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, the_published_vector_is_read);
    tcase_add_test(tests, the_published_vector_is_written);
    tcase_add_test(tests, integers_are_signed);
    tcase_add_test(tests, lengths_that_do_not_add_up_are_refused);
    tcase_add_test(tests, a_key_length_is_signed);
    tcase_add_test(tests, of_two_equal_keys_the_last_wins);
    tcase_add_test(tests, more_fields_than_the_table_holds_are_refused);
    tcase_add_test(tests, a_code_that_does_not_fit_is_not_written);
    tcase_add_test(tests, a_key_that_does_not_fit_is_not_written);
    return run_tests(tests, "core/proto/header_rocketmq");
}
