/*
 * What holds for all three encodings alike; the peculiarities of each are in test_header_<type>.c.
 */
#include "core/proto/header.h"

#include "core/base/bytes.h"
#include "core/proto/codes.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <inttypes.h>
#include <stdio.h>

static struct buf out;
static struct header h;

static void set_up(void)
{
    buf_init(&out, 0);
    header_init(&h);
}

static void tear_down(void)
{
    header_fini(&h);
    buf_fini(&out);
    ck_assert_int_eq(mem_live_count(), 0);
}

static const struct header_out plain_head = {.code = 105, .opaque = 7};

static void begin_plain(struct header_writer *w, int type)
{
    header_begin(w, &out, (enum header_type)type, &plain_head);
}

/* Close the frame in `out`, read it back into h; returns the frame. */
static struct frame end_and_decode(struct header_writer *w)
{
    struct frame frame;

    header_end(w);
    ck_assert_int_eq(header_frame_end(w, 0), 0);
    ck_assert_int_eq(frame_decode(buf_slice(&out), &frame), 0);
    ck_assert_int_eq(header_decode(&h, frame.type, frame.header), 0);
    return frame;
}

START_TEST(every_part_of_a_header_survives_the_round_trip)
{
    /*
     * Code, opaque, flag, remark, all kinds of fields and the body; language and version are ours.
     */
    struct header_writer w;
    struct frame frame;
    int64_t number = 0;
    bool truth = false;

    header_begin(&w, &out, (enum header_type)_i,
                 &(struct header_out){.code = 17,
                                      .opaque = -2147483647 - 1,
                                      .flag = HEADER_FLAG_RESPONSE | HEADER_FLAG_ONEWAY,
                                      .remark = SLICE_LIT("topic[\"\xe8\xae\xa2\"]\n not exist")});
    header_put_str(&w, "topic", SLICE_LIT("orders"));
    header_put_i64(&w, "min", INT64_MIN);
    header_put_i64(&w, "max", INT64_MAX);
    header_put_bool(&w, "yes", true);
    header_put_bool(&w, "no", false);
    header_put_str(&w, "properties", SLICE_LIT("KEYS\x01k\"1\x02TAGS\x01\\T\x02"));
    header_put_str(&w, "", SLICE_LIT("empty key"));
    header_end(&w);
    buf_append_str(&out, "body");
    ck_assert_int_eq(header_frame_end(&w, 0), 0);

    ck_assert_int_eq(frame_decode(buf_slice(&out), &frame), 0);
    ck_assert_uint_eq(frame.size, out.len);
    assert_slice(frame.body, "body");
    ck_assert_int_eq(frame.type, _i);
    ck_assert_int_eq(header_decode(&h, frame.type, frame.header), 0);
    ck_assert_int_eq(h.type, _i);
    ck_assert_int_eq(h.code, 17);
    ck_assert_int_eq(h.opaque, INT32_MIN);
    ck_assert_int_eq(h.flag, 3);
    ck_assert(header_is_response(&h) && header_is_oneway(&h));
    ck_assert_int_eq(h.version, 409);
    ck_assert_int_eq(h.language, LANGUAGE_JAVA);
    assert_slice(h.remark, "topic[\"\xe8\xae\xa2\"]\n not exist");
    ck_assert_uint_eq(h.field_count, 7);
    assert_slice(header_str(&h, "topic"), "orders");
    ck_assert_int_eq(header_get_i64(&h, "min", &number), 0);
    ck_assert_int_eq(number, INT64_MIN);
    ck_assert_int_eq(header_get_i64(&h, "max", &number), 0);
    ck_assert_int_eq(number, INT64_MAX);
    ck_assert_int_eq(header_get_bool(&h, "yes", &truth), 0);
    ck_assert(truth);
    ck_assert_int_eq(header_get_bool(&h, "no", &truth), 0);
    ck_assert(!truth);
    assert_slice(header_str(&h, "properties"), "KEYS\x01k\"1\x02TAGS\x01\\T\x02");
    assert_slice(header_str(&h, ""), "empty key");
}
END_TEST

START_TEST(numbers_and_booleans_can_be_read_as_text)
{
    /*
     * A generic reader (a signature, a dump) sees the same text whatever the encoding; asking twice
     * is fine.
     */
    struct header_writer w;
    uint32_t i;

    begin_plain(&w, _i);
    header_put_i64(&w, "number", -42);
    header_put_bool(&w, "truth", true);
    header_put_i64(&w, "min", INT64_MIN);
    (void)end_and_decode(&w);
    for (i = 0; i < 2; i++) {
        assert_slice(header_field_at(&h, 0)->value, "-42");
        assert_slice(header_field_at(&h, 1)->value, "true");
        assert_slice(header_str(&h, "min"), "-9223372036854775808");
        assert_slice(header_str(&h, "number"), "-42");
    }
}
END_TEST

START_TEST(absent_fields_are_told_from_malformed_ones)
{
    /*
     * Absent: not found, or fine for the opt_ readers; malformed: an error for both; *out
     * unchanged.
     */
    struct header_writer w;
    struct slice text = SLICE_LIT("default");
    int64_t i64 = 5;
    int32_t i32 = 6;
    bool truth = true;

    begin_plain(&w, _i);
    header_put_str(&w, "word", SLICE_LIT("12x"));
    header_put_i64(&w, "large", INT64_C(2147483648));
    header_put_str(&w, "blank", SLICE_EMPTY);
    (void)end_and_decode(&w);

    ck_assert_int_eq(header_get_str(&h, "none", &text), ESCROW_ENOTFOUND);
    ck_assert_int_eq(header_get_i64(&h, "none", &i64), ESCROW_ENOTFOUND);
    ck_assert_int_eq(header_get_i32(&h, "none", &i32), ESCROW_ENOTFOUND);
    ck_assert_int_eq(header_get_bool(&h, "none", &truth), ESCROW_ENOTFOUND);
    ck_assert_int_eq(header_get_i64(&h, "blank", &i64), ESCROW_ENOTFOUND);
    ck_assert_int_eq(header_get_bool(&h, "blank", &truth), ESCROW_ENOTFOUND);
    ck_assert_int_eq(header_opt_str(&h, "none", &text), 0);
    ck_assert_int_eq(header_opt_i64(&h, "none", &i64), 0);
    ck_assert_int_eq(header_opt_i32(&h, "blank", &i32), 0);
    ck_assert_int_eq(header_opt_bool(&h, "none", &truth), 0);
    ck_assert_int_eq(header_opt_i64(&h, "word", &i64), ESCROW_EINVAL);
    ck_assert_int_eq(header_opt_i32(&h, "large", &i32), ESCROW_EINVAL);
    ck_assert_int_eq(header_opt_bool(&h, "word", &truth), ESCROW_EINVAL);
    ck_assert_int_eq(header_get_i64(&h, "word", &i64), ESCROW_EINVAL);
    assert_slice(text, "default");
    ck_assert_int_eq(i64, 5);
    ck_assert_int_eq(i32, 6);
    ck_assert(truth);
    ck_assert_int_eq(header_get_str(&h, "blank", &text), 0);
    ck_assert_uint_eq(text.len, 0);
}
END_TEST

START_TEST(booleans_are_read_as_clients_write_them)
{
    /* true, True, 1 and their opposites; a number other than 0 and 1 is no boolean. */
    static const char *const yes[] = {"true", "TRUE", "True", "1"};
    static const char *const no[] = {"false", "FALSE", "0"};
    struct header_writer w;
    bool truth;
    int i;

    for (i = 0; i < 4; i++) {
        buf_clear(&out);
        begin_plain(&w, _i);
        header_put_str(&w, "b", slice_str(yes[i]));
        header_put_str(&w, "other", slice_str(no[i % 3]));
        header_put_i64(&w, "two", 2);
        header_put_i64(&w, "one", 1);
        (void)end_and_decode(&w);
        truth = false;
        ck_assert_int_eq(header_get_bool(&h, "b", &truth), 0);
        ck_assert(truth);
        ck_assert_int_eq(header_get_bool(&h, "other", &truth), 0);
        ck_assert(!truth);
        ck_assert_int_eq(header_get_bool(&h, "one", &truth), 0);
        ck_assert(truth);
        ck_assert_int_eq(header_get_bool(&h, "two", &truth), ESCROW_EINVAL);
    }
}
END_TEST

START_TEST(look_ups_work_in_any_order)
{
    /* The remembered place is a hint only: forwards, backwards, repeated, absent in between. */
    struct header_writer w;
    char key[16];
    int i;

    begin_plain(&w, _i);
    for (i = 0; i < 40; i++) {
        (void)snprintf(key, sizeof key, i < 26 ? "%c" : "key%d", i < 26 ? 'a' + i : i);
        header_put_i64(&w, key, i);
    }
    (void)end_and_decode(&w);
    for (i = 0; i < 400; i++) {
        int which = i < 40 ? i : i < 80 ? 79 - i : i * 17 % 40;
        int32_t got = -1;
        (void)snprintf(key, sizeof key, which < 26 ? "%c" : "key%d",
                       which < 26 ? 'a' + which : which);
        ck_assert_int_eq(header_get_i32(&h, key, &got), 0);
        ck_assert_int_eq(got, which);
        ck_assert_ptr_null(header_find(&h, SLICE_LIT("key")));
        ck_assert_ptr_null(header_find(&h, SLICE_LIT("Z")));
    }
}
END_TEST

START_TEST(a_full_table_is_read_and_one_field_more_is_refused)
{
    /* 256 fields pass both ways; the writer and the reader both stop at the 257th. */
    struct header_writer w;
    char key[16];
    int32_t got = 0;
    int i;

    begin_plain(&w, _i);
    for (i = 0; i < HEADER_FIELDS_MAX; i++) {
        (void)snprintf(key, sizeof key, "f%d", i);
        header_put_i64(&w, key, i);
    }
    (void)end_and_decode(&w);
    ck_assert_uint_eq(h.field_count, HEADER_FIELDS_MAX);
    for (i = 0; i < HEADER_FIELDS_MAX; i++) {
        (void)snprintf(key, sizeof key, "f%d", i);
        ck_assert_int_eq(header_get_i32(&h, key, &got), 0);
        ck_assert_int_eq(got, i);
    }
    for (i = 0; i < HEADER_FIELDS_MAX; i++) { /* the text of all numbers fits too */
        ck_assert_ptr_nonnull(header_field_at(&h, (uint32_t)i));
    }

    buf_clear(&out);
    begin_plain(&w, _i);
    for (i = 0; i <= HEADER_FIELDS_MAX; i++) {
        (void)snprintf(key, sizeof key, "f%d", i);
        header_put_i64(&w, key, i);
    }
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), ESCROW_ETOOBIG);
    ck_assert_uint_eq(out.len, 0);
}
END_TEST

START_TEST(a_header_read_after_a_failed_one_shows_nothing_of_it)
{
    /* The struct is reused for every frame of a connection; an error leaves it empty. */
    struct header_writer w;
    struct frame frame;

    begin_plain(&w, _i);
    header_put_str(&w, "topic", SLICE_LIT("orders"));
    header_put_str(&w, "a", SLICE_LIT("x"));
    frame = end_and_decode(&w);
    ck_assert_int_eq(
        header_decode(&h, frame.type, slice_of(frame.header.ptr, frame.header.len - 1)),
        ESCROW_EPROTO);
    ck_assert_int_eq(h.code, 0);
    ck_assert_int_eq(h.opaque, 0);
    ck_assert_uint_eq(h.field_count, 0);
    ck_assert_ptr_null(header_find(&h, SLICE_LIT("topic")));
    ck_assert_ptr_null(header_find(&h, SLICE_LIT("a")));
    ck_assert_ptr_null(h.remark.ptr);
}
END_TEST

/* A frame with a bit of everything, in the encoding given. */
static void write_rich_frame(int type)
{
    struct header_writer w;

    header_begin(&w, &out, (enum header_type)type,
                 &(struct header_out){.code = 310, .opaque = 9, .remark = SLICE_LIT("re\x01mark")});
    header_put_str(&w, "a", SLICE_LIT("group"));
    header_put_i64(&w, "g", INT64_C(1700000000000));
    header_put_str(&w, "i", SLICE_LIT("KEYS\x01k1\x02TAGS\x01TagA\x02"));
    header_put_bool(&w, "k", false);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
}

START_TEST(every_truncation_of_a_header_is_refused)
{
    /* All prefixes, in memory that ends with them: an error, no read behind the end. */
    size_t len;

    write_rich_frame(_i);
    for (len = 0; len < out.len - 8; len++) {
        struct slice part = copy_exact(slice_of(out.ptr + 8, len));
        ck_assert_int_eq(header_decode(&h, (enum header_type)_i, part), ESCROW_EPROTO);
        free_copy(part);
    }
}
END_TEST

START_TEST(damaged_headers_are_survived)
{
    /*
     * Random bytes overwritten, inserted or dropped: any result, but no wild read and a sane table.
     */
    struct rand r;
    int round;

    rand_init(&r, 3);
    write_rich_frame(_i);
    for (round = 0; round < 20000; round++) {
        uint8_t copy[512];
        size_t len = out.len - 8;
        uint64_t changes = 1 + rand_below(&r, 4);
        struct slice exact;
        uint32_t i;

        memcpy(copy, out.ptr + 8, len);
        while (changes-- > 0) {
            copy[rand_below(&r, len)] = (uint8_t)rand_u64(&r);
        }
        exact = copy_exact(slice_of(copy, rand_below(&r, 4) == 0 ? rand_below(&r, len + 1) : len));
        if (header_decode(&h, (enum header_type)_i, exact) == 0) {
            ck_assert_uint_le(h.field_count, HEADER_FIELDS_MAX);
            for (i = 0; i < h.field_count; i++) {
                const struct header_field *field = header_field_at(&h, i);
                ck_assert_ptr_eq(header_find(&h, field->key), field);
            }
        }
        free_copy(exact);
    }
}
END_TEST

/* Random bytes; one-letter keys and duplicates occur. */
static struct slice random_text(struct rand *r, uint8_t *dst, size_t max)
{
    size_t len = rand_below(r, max + 1);
    size_t i;

    for (i = 0; i < len; i++) {
        dst[i] = rand_below(r, 3) == 0 ? (uint8_t)rand_u64(r) : (uint8_t)('a' + rand_below(r, 4));
    }
    return slice_of(dst, len);
}

START_TEST(random_headers_survive_the_round_trip)
{
    /* Any bytes as keys and values; of equal keys the last value counts, as a model says too. */
    static uint8_t text[HEADER_FIELDS_MAX][2][128];
    struct slice keys[HEADER_FIELDS_MAX];
    struct slice values[HEADER_FIELDS_MAX];
    struct rand r;
    int round;

    rand_init(&r, 4);
    for (round = 0; round < 300; round++) {
        uint64_t count = rand_below(&r, 10) == 0 ? rand_below(&r, 257) : rand_below(&r, 20);
        uint64_t distinct = 0;
        struct header_writer w;
        uint64_t i;
        uint64_t k;

        buf_clear(&out);
        begin_plain(&w, _i);
        for (i = 0; i < count; i++) {
            keys[i] = random_text(&r, text[i][0], 4);
            values[i] = random_text(&r, text[i][1], rand_below(&r, 4) == 0 ? 100 : 8);
            header_put_slice(&w, keys[i], values[i]);
        }
        (void)end_and_decode(&w);
        for (i = 0; i < count; i++) {
            struct header_field *field = header_find(&h, keys[i]);
            size_t last = i;
            bool is_first = true;
            ck_assert_ptr_nonnull(field);
            for (k = 0; k < count; k++) {
                if (slice_eq(keys[k], keys[i])) {
                    last = k > last ? k : last;
                    is_first = is_first && k >= i;
                }
            }
            distinct += is_first;
            assert_same(field->value, values[last]);
        }
        ck_assert_uint_eq(h.field_count, distinct);
    }
}
END_TEST

START_TEST(a_failed_frame_leaves_the_frames_before_it)
{
    /*
     * A buf that is full, and memory that is out, at every point: the earlier frame stays, a later
     * one fits.
     */
    struct buf small;
    struct header_writer w;
    size_t first_len;
    size_t limit;

    for (limit = 300; limit < 700; limit++) {
        int rc;

        buf_init(&small, limit);
        ck_assert_int_eq(
            header_encode(&small, (enum header_type)_i, &plain_head, SLICE_LIT("first")), 0);
        first_len = small.len;
        header_begin(&w, &small, (enum header_type)_i, &plain_head);
        header_put_str(&w, "properties",
                       SLICE_LIT("0123456789\x01"
                                 "0123456789012345678901234567890123456789"));
        header_put_i64(&w, "number", 12345678);
        header_end(&w);
        buf_append(&small, out.ptr, 0);
        buf_append_str(&small,
                       "0123456789012345678901234567890123456789012345678901234567890123456789"
                       "0123456789012345678901234567890123456789012345678901234567890123456789"
                       "0123456789012345678901234567890123456789012345678901234567890123456789");
        rc = header_frame_end(&w, 0);
        ck_assert(rc == 0 || rc == ESCROW_ENOMEM);
        ck_assert_uint_eq(small.len > first_len, rc == 0);
        ck_assert(!buf_failed(&small));
        if (rc != 0) {
            buf_append_str(&small, "x");
            ck_assert_uint_eq(small.len, first_len + 1);
        }
        buf_fini(&small);
    }
}
END_TEST

START_TEST(a_buf_that_had_failed_before_stays_failed)
{
    /* Somebody else's failure is reported, and not wiped out. */
    struct header_writer w;

    out.limit = 10;
    buf_append_str(&out, "0123456789ab");
    ck_assert(buf_failed(&out));
    begin_plain(&w, _i);
    header_put_str(&w, "topic", SLICE_LIT("orders"));
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), ESCROW_ENOMEM);
    ck_assert(buf_failed(&out));
    ck_assert_uint_eq(out.len, 0);
}
END_TEST

START_TEST(a_body_sent_separately_is_counted)
{
    /* The length covers bytes that are not in the buf; the frame limit does too. */
    struct header_writer w;
    struct frame frame;
    size_t header_len;

    begin_plain(&w, _i);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 1000), 0);
    header_len = out.len;
    ck_assert_int_eq(frame_decode(buf_slice(&out), &frame), ESCROW_EAGAIN);
    ck_assert_uint_eq(frame.size, header_len + 1000);

    buf_clear(&out);
    begin_plain(&w, _i);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, FRAME_SIZE_MAX - header_len), 0);
    buf_clear(&out);
    begin_plain(&w, _i);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, FRAME_SIZE_MAX - header_len + 1), ESCROW_ETOOBIG);
    begin_plain(&w, _i);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, SIZE_MAX), ESCROW_ETOOBIG);
    ck_assert_uint_eq(out.len, 0);
}
END_TEST

START_TEST(a_header_above_its_limit_is_not_written)
{
    /* 256 KiB, be it by a value, by many values or by the remark. */
    static uint8_t big[HEADER_SIZE_MAX + 1];
    struct header_writer w;
    int i;

    memset(big, 'x', sizeof big);
    begin_plain(&w, _i);
    header_put_str(&w, "value", slice_of(big, HEADER_SIZE_MAX + 1));
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), ESCROW_ETOOBIG);
    begin_plain(&w, _i);
    for (i = 0; i < 5; i++) {
        char key[2] = {(char)('a' + i), '\0'};
        header_put_str(&w, key, slice_of(big, HEADER_SIZE_MAX / 5));
    }
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), ESCROW_ETOOBIG);
    header_begin(&w, &out, (enum header_type)_i,
                 &(struct header_out){.code = 1, .remark = slice_of(big, sizeof big)});
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), ESCROW_ETOOBIG);
    ck_assert_uint_eq(out.len, 0);
    ck_assert_int_eq(header_decode(&h, (enum header_type)_i, slice_of(big, sizeof big)),
                     ESCROW_ETOOBIG);
}
END_TEST

START_TEST(an_ordinary_request_is_read_without_memory)
{
    /* The send of a Java client, with its escaped properties: not one allocation. */
    write_rich_frame(_i);
    mem_fault_at(1);
    ck_assert_int_eq(header_decode(&h, (enum header_type)_i, slice_of(out.ptr + 8, out.len - 8)),
                     0);
    assert_slice(header_str(&h, "i"), "KEYS\x01k1\x02TAGS\x01TagA\x02");
    assert_slice(header_str(&h, "g"), "1700000000000");
    ck_assert(!mem_fault_fired());
    mem_fault_at(0);
}
END_TEST

START_TEST(being_out_of_memory_is_an_error_and_nothing_else)
{
    /*
     * More fields than inline, more escaped text than inline: fail each allocation in turn, then
     * succeed.
     */
    static const char long_text[] =
        "\x01 "
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234";
    struct header_writer w;
    char key[16];
    uint64_t n;
    int i;

    begin_plain(&w, _i);
    for (i = 0; i < 60; i++) {
        (void)snprintf(key, sizeof key, "f%d", i);
        header_put_str(&w, key, slice_str(long_text));
    }
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    for (n = 1;; n++) {
        int rc;

        header_fini(&h);
        header_init(&h);
        mem_fault_at(n);
        rc = header_decode(&h, (enum header_type)_i, slice_of(out.ptr + 8, out.len - 8));
        if (!mem_fault_fired()) {
            ck_assert_int_eq(rc, 0);
            break;
        }
        ck_assert_int_eq(rc, ESCROW_ENOMEM);
        ck_assert_uint_eq(h.field_count, 0);
        mem_fault_at(0);
        ck_assert_int_eq(
            header_decode(&h, (enum header_type)_i, slice_of(out.ptr + 8, out.len - 8)), 0);
    }
    mem_fault_at(0);
    ck_assert_uint_ge(n, 2);
    assert_slice(header_str(&h, "f59"), long_text);
}
END_TEST

START_TEST(a_large_block_is_given_back)
{
    /*
     * One header of 200 KiB with escapes does not pin that memory for the life of the connection.
     */
    static uint8_t big[100000];
    struct header_writer w;

    memset(big, '\n', sizeof big);
    begin_plain(&w, _i);
    header_put_str(&w, "i", slice_of(big, sizeof big));
    (void)end_and_decode(&w);
    assert_same(header_str(&h, "i"), slice_of(big, sizeof big));
    buf_clear(&out);
    begin_plain(&w, _i);
    (void)end_and_decode(&w);
    ck_assert_uint_eq(h.block_cap, 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("header");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
#define ADD(test) tcase_add_loop_test(tests, test, 0, HEADER_TYPE_COUNT)
    ADD(every_part_of_a_header_survives_the_round_trip);
    ADD(numbers_and_booleans_can_be_read_as_text);
    ADD(absent_fields_are_told_from_malformed_ones);
    ADD(booleans_are_read_as_clients_write_them);
    ADD(look_ups_work_in_any_order);
    ADD(a_full_table_is_read_and_one_field_more_is_refused);
    ADD(a_header_read_after_a_failed_one_shows_nothing_of_it);
    ADD(every_truncation_of_a_header_is_refused);
    ADD(damaged_headers_are_survived);
    ADD(random_headers_survive_the_round_trip);
    ADD(a_failed_frame_leaves_the_frames_before_it);
    ADD(a_buf_that_had_failed_before_stays_failed);
    ADD(a_body_sent_separately_is_counted);
    ADD(a_header_above_its_limit_is_not_written);
    ADD(an_ordinary_request_is_read_without_memory);
    ADD(being_out_of_memory_is_an_error_and_nothing_else);
    ADD(a_large_block_is_given_back);
    return run_tests(tests, "core/proto/header");
}
