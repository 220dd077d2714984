#include "outbox/row.h"

#include "escrow/errors.h"
#include "tests/unit/outbox/copy_bytes.h"
#include "tests/unit/outbox/outbox_main.h"

START_TEST(a_stream_is_decoded_row_by_row)
{
    /* Header together with the first row, as the server sends it; then rows; then the trailer. */
    struct row_decoder d = {0};
    struct outbox_row row;
    struct buf b;

    buf_init(&b, 0);
    copy_header(&b);
    copy_row(&b, 7, 5, "orders", "body");
    ck_assert_int_eq(row_decode(&d, buf_slice(&b), &row), 1);
    ck_assert_uint_eq(row.order_id, 7);
    ck_assert_uint_eq(row.id, 5);
    ck_assert_int_eq(row.created_ms, INT64_C(946684801000));
    ck_assert(slice_eq_str(row.topic, "orders"));
    ck_assert(slice_eq_str(row.tag, "tag"));
    ck_assert_uint_eq(row.keys.len, 0);
    ck_assert(slice_eq_str(row.ordering_key, "order"));
    ck_assert_uint_eq(row.properties.len, 0);
    ck_assert(slice_eq_str(row.body, "body"));
    ck_assert_uint_eq(row_size_bytes(&row), 6 + 3 + 5 + 4);
    buf_clear(&b);
    copy_row(&b, 8, 8, "t", "");
    ck_assert_int_eq(row_decode(&d, buf_slice(&b), &row), 1);
    ck_assert_uint_eq(row.body.len, 0);
    buf_clear(&b);
    buf_append_be16(&b, 0xffff);
    ck_assert_int_eq(row_decode(&d, buf_slice(&b), &row), 0);
    ck_assert(d.is_done);
    ck_assert_int_eq(row_decode(&d, buf_slice(&b), &row), ESCROW_EPROTO);
    buf_fini(&b);
}
END_TEST

START_TEST(an_empty_stream_has_no_row)
{
    /* Header and trailer in one message. */
    struct row_decoder d = {0};
    struct outbox_row row;
    struct buf b;

    buf_init(&b, 0);
    copy_header(&b);
    ck_assert_int_eq(row_decode(&d, buf_slice(&b), &row), 0);
    ck_assert(d.has_header);
    buf_clear(&b);
    buf_append_be16(&b, 0xffff);
    ck_assert_int_eq(row_decode(&d, buf_slice(&b), &row), 0);
    buf_fini(&b);
}
END_TEST

START_TEST(cut_and_changed_bytes_never_crash)
{
    /* Every prefix is refused; every flipped bit gives an error or a row inside the bytes. */
    struct buf b;

    buf_init(&b, 0);
    copy_header(&b);
    copy_row(&b, 7, 5, "orders", "body");
    for (size_t len = 0; len < b.len; len++) {
        struct row_decoder d = {0};
        struct outbox_row row;
        ck_assert_int_eq(row_decode(&d, slice_of(b.ptr, len), &row), len == 19 ? 0 : ESCROW_EPROTO);
    }
    for (size_t i = 0; i < b.len * 8; i++) {
        struct row_decoder d = {0};
        struct outbox_row row;
        b.ptr[i / 8] ^= (uint8_t)(1u << (i % 8));
        if (row_decode(&d, buf_slice(&b), &row) == 1) {
            ck_assert_uint_le(row_size_bytes(&row), b.len);
            ck_assert_uint_gt(row.id, 0);
        }
        b.ptr[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    buf_fini(&b);
}
END_TEST

START_TEST(nulls_where_none_may_be_are_refused)
{
    /* And numbers that are none. */
    struct buf b;

    buf_init(&b, 0);
    for (int wrong = 0; wrong < 4; wrong++) { /* the order id, the id, topic, body */
        struct row_decoder d = {.has_header = true};
        struct outbox_row row;
        buf_clear(&b);
        copy_row(&b, wrong == 0 ? 0 : 7, wrong == 1 ? -5 : 5, wrong == 2 ? NULL : "t",
                 wrong == 3 ? NULL : "b");
        ck_assert_int_eq(row_decode(&d, buf_slice(&b), &row), ESCROW_EPROTO);
    }
    buf_fini(&b);
}
END_TEST

START_TEST(properties_become_pairs)
{
    /* name 0x01 value 0x02; the empty array and no array give nothing. */
    static const char *const items[] = {"a", "1", "name", "value"};
    struct buf field;
    struct buf out;

    buf_init(&field, 0);
    buf_init(&out, 0);
    copy_array(&field, items, 4);
    ck_assert_int_eq(row_properties(slice_of(field.ptr + 4, field.len - 4), &out), 0);
    ck_assert(slice_eq_str(buf_slice(&out), "a\0011\002name\001value\002"));
    buf_clear(&out);
    ck_assert_int_eq(row_properties(SLICE_EMPTY, &out), 0);
    ck_assert_int_eq(row_properties(slice_of("\0\0\0\0\0\0\0\0\0\0\0\031", 12), &out), 0);
    ck_assert_uint_eq(out.len, 0);
    buf_fini(&field);
    buf_fini(&out);
}
END_TEST

START_TEST(malformed_properties_are_refused)
{
    /* Odd number, NULL inside, every prefix, a count that lies. */
    static const char *const odd[] = {"a", "1", "b"};
    static const char *const null[] = {"a", NULL};
    static const char *const good[] = {"a", "1"};
    struct buf field;
    struct buf out;

    buf_init(&field, 0);
    buf_init(&out, 0);
    copy_array(&field, odd, 3);
    ck_assert_int_eq(row_properties(slice_of(field.ptr + 4, field.len - 4), &out), ESCROW_EPROTO);
    buf_clear(&field);
    copy_array(&field, null, 2);
    ck_assert_int_eq(row_properties(slice_of(field.ptr + 4, field.len - 4), &out), ESCROW_EPROTO);
    buf_clear(&field);
    copy_array(&field, good, 2);
    for (size_t len = 1; len < field.len - 4; len++) {
        ck_assert_int_eq(row_properties(slice_of(field.ptr + 4, len), &out), ESCROW_EPROTO);
    }
    field.ptr[4 + 12] = 0x7f;
    ck_assert_int_eq(row_properties(slice_of(field.ptr + 4, field.len - 4), &out), ESCROW_EPROTO);
    buf_fini(&field);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox/row");
    TCase *tc = tcase_create("row");

    tcase_add_test(tc, a_stream_is_decoded_row_by_row);
    tcase_add_test(tc, an_empty_stream_has_no_row);
    tcase_add_test(tc, cut_and_changed_bytes_never_crash);
    tcase_add_test(tc, nulls_where_none_may_be_are_refused);
    tcase_add_test(tc, properties_become_pairs);
    tcase_add_test(tc, malformed_properties_are_refused);
    suite_add_tcase(suite, tc);
    return outbox_run(suite);
}
