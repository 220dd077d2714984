#include "core/proto/header_msgpack.h"

#include "core/proto/codes.h"
#include "core/proto/scan.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <msgpack.h>
#include <stdio.h>

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
    struct slice copy;
    int rc;

    buf_clear(&bytes);
    put_hex(&bytes, text);
    copy = copy_exact(buf_slice(&bytes));
    rc = header_decode(&h, HEADER_MSGPACK, copy);
    free_copy(copy); /* only results and numbers are looked at */
    return rc;
}

START_TEST(the_layout_is_the_documented_one)
{
    /* Byte for byte, so that it cannot change by accident. */
    struct header_writer w;
    struct buf want;

    header_begin(&w, &bytes, HEADER_MSGPACK,
                 &(struct header_out){.code = 310, .opaque = 7, .flag = 2});
    header_put_str(&w, "b", SLICE_LIT("T"));
    header_put_i64(&w, "e", -1);
    header_put_bool(&w, "m", true);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    buf_init(&want, 0);
    put_hex(&want,
            "0000001c 02000018 97 cd0136 02 07 cd0199 00 c0 de0003 a162 a154 a165 ff a16d c3");
    assert_same(buf_slice(&bytes), buf_slice(&want));
    buf_fini(&want);
}
END_TEST

START_TEST(a_header_of_a_later_version_is_read)
{
    /* More than seven elements: what follows is skipped, if it is well formed. */
    ck_assert_int_eq(decode_hex("99 69 00 07 cd0199 09 a2 6f6b 81 a165 05 93010203 81a161c0"), 0);
    ck_assert_int_eq(h.code, 105);
    ck_assert_int_eq(h.language, LANGUAGE_GO);
    ck_assert_uint_eq(h.field_count, 1);
    ck_assert_int_eq(decode_hex("98 69 00 07 cd0199 09 c0 80 c1"), ESCROW_EPROTO);
    ck_assert_int_eq(decode_hex("98 69 00 07 cd0199 09 c0 80 91919191919191 c0"), 0);
    ck_assert_int_eq(decode_hex("98 69 00 07 cd0199 09 c0 80 9191919191919191 c0"), ESCROW_EPROTO);
}
END_TEST

START_TEST(nil_is_absent)
{
    /* As remark and as the value of a field. */
    int32_t number = 3;

    ck_assert_int_eq(decode_hex("97 69 00 07 00 00 c0 82 a165 c0 a166 01"), 0);
    ck_assert_ptr_null(h.remark.ptr);
    ck_assert_uint_eq(h.field_count, 1);
    ck_assert_int_eq(header_get_i32(&h, "e", &number), ESCROW_ENOTFOUND);
    ck_assert_int_eq(header_get_i32(&h, "f", &number), 0);
    ck_assert_int_eq(number, 1);
}
END_TEST

START_TEST(hostile_shapes_are_refused)
{
    /* Wrong kinds, wrong counts, numbers that do not fit, bytes behind the end. */
    static const char *const headers[] = {
        "",
        "c0",
        "dd 04000000",                                      /* 67 million elements, none there */
        "96 69 00 07 00 00 c0",                             /* one too few */
        "97 a1 31 00 07 00 00 c0 80",                       /* code is text */
        "97 cf 0000000100000000 00 07 00 00 c0 80",         /* code above 32 bits */
        "97 69 00 d3 ffffffff7fffffff 00 00 c0 80",         /* opaque below them */
        "97 69 00 07 00 c0 c0 80",                          /* no language */
        "97 69 00 07 00 00 05 80",                          /* remark is a number */
        "97 69 00 07 00 00 c0 90",                          /* fields are no map */
        "97 69 00 07 00 00 c0 df ffffffff a161 01",         /* more pairs than bytes */
        "97 69 00 07 00 00 c0 81 01 01",                    /* key is a number */
        "97 69 00 07 00 00 c0 81 a161 ca 3f800000",         /* a float */
        "97 69 00 07 00 00 c0 81 a161 c4 01 61",            /* bytes */
        "97 69 00 07 00 00 c0 81 a161 90",                  /* nested */
        "97 69 00 07 00 00 c0 81 a161 80",                  /* nested */
        "97 69 00 07 00 00 c0 81 a161 cf ffffffffffffffff", /* above int64 */
        "97 69 00 07 00 00 c0 81 a161 c1",                  /* the byte that means nothing */
        "97 69 00 07 00 00 c0 80 00",                       /* a byte behind */
        "dc 0041 69 00 07 00 00 c0 80",                     /* 65 elements */
    };
    size_t i;

    for (i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        ck_assert_msg(decode_hex(headers[i]) == ESCROW_EPROTO, "header %zu was accepted", i);
        ck_assert_uint_eq(h.field_count, 0);
    }
}
END_TEST

START_TEST(more_fields_than_the_table_holds_are_refused)
{
    /* 257 pairs, refused by their count. */
    int i;

    put_hex(&bytes, "97 69 00 07 00 00 c0 de 0101");
    for (i = 0; i < 257; i++) {
        buf_append_u8(&bytes, 0xa2);
        buf_append_be16(&bytes, (uint16_t)i);
        buf_append_u8(&bytes, 0xc0);
    }
    ck_assert_int_eq(header_decode(&h, HEADER_MSGPACK, buf_slice(&bytes)), ESCROW_ETOOBIG);
}
END_TEST

START_TEST(of_two_equal_keys_the_last_wins)
{
    /* Also when the kind changes. */
    int64_t number = 0;

    put_hex(&bytes, "97 69 00 07 00 00 c0 83 a3616263 05 a3616263 a16e a3616263 06");
    ck_assert_int_eq(header_decode(&h, HEADER_MSGPACK, buf_slice(&bytes)), 0);
    ck_assert_uint_eq(h.field_count, 1);
    ck_assert_int_eq(header_get_i64(&h, "abc", &number), 0);
    ck_assert_int_eq(number, 6);
    assert_slice(header_str(&h, "abc"), "6");
}
END_TEST

/* Does msgpack-c see in this object what our reader saw? */
static void assert_field(const msgpack_object_kv *pair, struct header_field *field)
{
    ck_assert_int_eq(pair->key.type, MSGPACK_OBJECT_STR);
    assert_same(field->key, slice_of(pair->key.via.str.ptr, pair->key.via.str.size));
    switch (field->kind) {
    case HEADER_TEXT:
        ck_assert_int_eq(pair->val.type, MSGPACK_OBJECT_STR);
        assert_same(field->value, slice_of(pair->val.via.str.ptr, pair->val.via.str.size));
        break;
    case HEADER_I64:
        ck_assert(pair->val.type == MSGPACK_OBJECT_POSITIVE_INTEGER ||
                  pair->val.type == MSGPACK_OBJECT_NEGATIVE_INTEGER);
        ck_assert_int_eq(field->number, pair->val.via.i64);
        break;
    case HEADER_BOOL:
        ck_assert_int_eq(pair->val.type, MSGPACK_OBJECT_BOOLEAN);
        ck_assert_int_eq(field->number, pair->val.via.boolean);
        break;
    }
}

START_TEST(our_reader_and_msgpack_agree_on_random_headers)
{
    /* What the writer makes of random fields, read by both. */
    static uint8_t filler[70000];
    struct rand r;
    int round;

    rand_init(&r, 5);
    for (round = 0; round < 500; round++) {
        uint32_t count = (uint32_t)rand_below(&r, 60);
        struct header_writer w;
        msgpack_unpacked result;
        const msgpack_object *array;
        size_t at = 0;
        uint32_t i;

        buf_clear(&bytes);
        header_begin(&w, &bytes, HEADER_MSGPACK,
                     &(struct header_out){.code = (int32_t)rand_u64(&r),
                                          .opaque = (int32_t)rand_u64(&r),
                                          .flag = (int32_t)rand_u64(&r),
                                          .remark = slice_of(filler, rand_below(&r, 300))});
        for (i = 0; i < count; i++) {
            char key[48];
            (void)snprintf(key, sizeof key, "%.*s%u", (int)rand_below(&r, 35),
                           "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", i);
            switch (rand_below(&r, 3)) {
            case 0:
                header_put_str(&w, key, slice_of(filler, rand_below(&r, i == 0 ? 70000 : 300)));
                break;
            case 1:
                header_put_i64(&w, key, (int64_t)rand_u64(&r) >> rand_below(&r, 64));
                break;
            default:
                header_put_bool(&w, key, rand_below(&r, 2) == 0);
                break;
            }
        }
        header_end(&w);
        ck_assert_int_eq(header_frame_end(&w, 0), 0);
        ck_assert_int_eq(scan_check(slice_of(bytes.ptr + 8, bytes.len - 8), SCAN_LIMITS_BODY), 0);
        ck_assert_int_eq(header_decode(&h, HEADER_MSGPACK, slice_of(bytes.ptr + 8, bytes.len - 8)),
                         0);
        msgpack_unpacked_init(&result);
        ck_assert_int_eq(
            msgpack_unpack_next(&result, (const char *)bytes.ptr + 8, bytes.len - 8, &at),
            MSGPACK_UNPACK_SUCCESS);
        ck_assert_uint_eq(at, bytes.len - 8);
        ck_assert_uint_eq(result.data.via.array.size, 7);
        array = result.data.via.array.ptr;
        ck_assert_int_eq(h.code, array[0].via.i64);
        ck_assert_int_eq(h.flag, array[1].via.i64);
        ck_assert_int_eq(h.opaque, array[2].via.i64);
        ck_assert_int_eq(h.version, array[3].via.i64);
        ck_assert_uint_eq(h.remark.len, array[5].via.str.size);
        ck_assert_uint_eq(array[6].via.map.size, count);
        ck_assert_uint_eq(h.field_count, count);
        for (i = 0; i < count; i++) {
            assert_field(&array[6].via.map.ptr[i], &h.fields[i]);
        }
        msgpack_unpacked_destroy(&result);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("header_msgpack");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, the_layout_is_the_documented_one);
    tcase_add_test(tests, a_header_of_a_later_version_is_read);
    tcase_add_test(tests, nil_is_absent);
    tcase_add_test(tests, hostile_shapes_are_refused);
    tcase_add_test(tests, more_fields_than_the_table_holds_are_refused);
    tcase_add_test(tests, of_two_equal_keys_the_last_wins);
    tcase_add_test(tests, our_reader_and_msgpack_agree_on_random_headers);
    return run_tests(tests, "core/proto/header_msgpack");
}
