#include "core/proto/frame.h"

#include "core/base/limits.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

/* A request for the route of topic T in the ROCKETMQ encoding, as a Java client writes it. */
#define ROUTE_REQUEST                                                                              \
    "00000025 01000021 0069 00 0199 00000007 00000000 00000000 0000000c 0005 746f706963 00000001 " \
    "54"

static int decode_hex(const char *text, struct frame *frame)
{
    struct buf bytes;
    struct slice copy;
    int rc;

    buf_init(&bytes, 0);
    put_hex(&bytes, text);
    copy = copy_exact(buf_slice(&bytes));
    rc = frame_decode(copy, frame);
    free_copy(copy);
    buf_fini(&bytes);
    return rc;
}

START_TEST(a_frame_is_split_into_header_and_body)
{
    /* The published vector: type, header and body are slices of the input. */
    struct buf bytes;
    struct frame frame;

    buf_init(&bytes, 0);
    put_hex(&bytes, ROUTE_REQUEST);
    ck_assert_int_eq(frame_decode(buf_slice(&bytes), &frame), 0);
    ck_assert_uint_eq(frame.size, 41);
    ck_assert_int_eq(frame.type, HEADER_ROCKETMQ);
    ck_assert_ptr_eq(frame.header.ptr, bytes.ptr + 8);
    ck_assert_uint_eq(frame.header.len, 33);
    ck_assert_uint_eq(frame.body.len, 0);
    buf_fini(&bytes);
}
END_TEST

START_TEST(every_truncation_asks_for_more)
{
    /* Whatever part has arrived, the answer is "not yet", and the size is told once it is known. */
    struct buf bytes;
    struct frame frame;
    size_t len;

    buf_init(&bytes, 0);
    put_hex(&bytes, "0000000b 02000003 93c0c0 01020304");
    for (len = 0; len < bytes.len; len++) {
        struct slice part = copy_exact(slice_of(bytes.ptr, len));
        ck_assert_int_eq(frame_decode(part, &frame), ESCROW_EAGAIN);
        ck_assert_uint_eq(frame.size, len < 8 ? 8 : 15);
        free_copy(part);
    }
    ck_assert_int_eq(frame_decode(buf_slice(&bytes), &frame), 0);
    assert_slice(frame.body, "\x01\x02\x03\x04");
    buf_fini(&bytes);
}
END_TEST

START_TEST(frames_back_to_back_are_read_one_by_one)
{
    /* The size of the first frame is where the second begins. */
    struct buf bytes;
    struct frame frame;

    buf_init(&bytes, 0);
    put_hex(&bytes, "00000006 00000001 7b aa 00000004 01000000");
    ck_assert_int_eq(frame_decode(buf_slice(&bytes), &frame), 0);
    ck_assert_uint_eq(frame.size, 10);
    buf_consume(&bytes, frame.size);
    ck_assert_int_eq(frame_decode(buf_slice(&bytes), &frame), 0);
    ck_assert_uint_eq(frame.size, 8);
    ck_assert_uint_eq(frame.header.len, 0);
    ck_assert_uint_eq(frame.body.len, 0);
    buf_fini(&bytes);
}
END_TEST

START_TEST(a_frame_above_the_limit_is_refused_at_its_fourth_byte)
{
    /* 16 MiB in all is the most; one byte more is refused before anything else has arrived. */
    struct frame frame;

    ck_assert_uint_eq(FRAME_SIZE_MAX, 16777216);
    ck_assert_int_eq(decode_hex("00fffffc", &frame), ESCROW_EAGAIN);
    ck_assert_int_eq(decode_hex("00fffffc 00000001", &frame), ESCROW_EAGAIN);
    ck_assert_uint_eq(frame.size, FRAME_SIZE_MAX);
    ck_assert_int_eq(decode_hex("00fffffd", &frame), ESCROW_ETOOBIG);
    ck_assert_int_eq(decode_hex("01000001", &frame), ESCROW_ETOOBIG);
    ck_assert_int_eq(decode_hex("ffffffff", &frame), ESCROW_ETOOBIG);
    ck_assert_int_eq(decode_hex("16030102", &frame), ESCROW_ETOOBIG); /* a TLS hello */
}
END_TEST

START_TEST(lengths_that_contradict_each_other_are_refused)
{
    /* A frame too short for its header length, a header longer than the frame, an unknown type. */
    struct frame frame;

    ck_assert_int_eq(decode_hex("00000000", &frame), ESCROW_EPROTO);
    ck_assert_int_eq(decode_hex("00000003", &frame), ESCROW_EPROTO);
    ck_assert_int_eq(decode_hex("00000004 00000001", &frame), ESCROW_EPROTO);
    ck_assert_int_eq(decode_hex("00000008 00000005", &frame), ESCROW_EPROTO);
    ck_assert_int_eq(decode_hex("00000008 00000004", &frame), ESCROW_EAGAIN);
    ck_assert_int_eq(decode_hex("00000008 03000004", &frame), ESCROW_EPROTO);
    ck_assert_int_eq(decode_hex("00000008 ff000004", &frame), ESCROW_EPROTO);
}
END_TEST

START_TEST(the_header_of_a_frame_that_is_too_big_can_be_read)
{
    /* As soon as it is there, whatever the frame's length; with the rules of a frame's header. */
    uint8_t bytes[32] = {0x7f, 0xff, 0xff, 0xff, 2, 0, 0, 12};
    struct frame frame;

    for (size_t len = 0; len < 20; len++) {
        ck_assert_int_eq(frame_decode_header(slice_of(bytes, len), &frame), ESCROW_EAGAIN);
    }
    ck_assert_int_eq(frame_decode(slice_of(bytes, 20), &frame), ESCROW_ETOOBIG);
    ck_assert_int_eq(frame_decode_header(slice_of(bytes, 20), &frame), 0);
    ck_assert_int_eq(frame.type, HEADER_MSGPACK);
    ck_assert_uint_eq(frame.header.len, 12);
    ck_assert_ptr_eq(frame.header.ptr, bytes + 8);
    ck_assert_uint_eq(frame.body.len, 0);
    bytes[4] = 3;
    ck_assert_int_eq(frame_decode_header(slice_of(bytes, 20), &frame), ESCROW_EPROTO);
    bytes[4] = 2;
    bytes[5] = 0xff;
    ck_assert_int_eq(frame_decode_header(slice_of(bytes, 20), &frame), ESCROW_ETOOBIG);
    memcpy(bytes, (const uint8_t[]){0, 0, 0, 15, 2, 0, 0, 12}, 8); /* longer than its frame */
    ck_assert_int_eq(frame_decode_header(slice_of(bytes, 20), &frame), ESCROW_EPROTO);
}
END_TEST

START_TEST(a_header_above_the_limit_is_refused_before_it_arrives)
{
    /* 256 KiB is allowed, one byte more is not, although the frame has room for it. */
    struct frame frame;

    ck_assert_uint_eq(HEADER_SIZE_MAX, 0x40000);
    ck_assert_int_eq(decode_hex("00800000 00040000", &frame), ESCROW_EAGAIN);
    ck_assert_int_eq(decode_hex("00800000 00040001", &frame), ESCROW_ETOOBIG);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("frame");

    tcase_add_test(tests, a_frame_is_split_into_header_and_body);
    tcase_add_test(tests, every_truncation_asks_for_more);
    tcase_add_test(tests, frames_back_to_back_are_read_one_by_one);
    tcase_add_test(tests, a_frame_above_the_limit_is_refused_at_its_fourth_byte);
    tcase_add_test(tests, lengths_that_contradict_each_other_are_refused);
    tcase_add_test(tests, the_header_of_a_frame_that_is_too_big_can_be_read);
    tcase_add_test(tests, a_header_above_the_limit_is_refused_before_it_arrives);
    return run_tests(tests, "core/proto/frame");
}
