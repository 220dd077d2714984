/* 30002 ESCROW_PUBLISH_BATCH and 30003 ESCROW_SOURCE_OPEN. */
#include "core/proto/body_publish.h"

#include "core/base/bytes.h"
#include "core/proto/properties.h"
#include "core/proto/record.h"
#include "tests/unit/core/proto/pack_test.h"

static const struct publish_head head = {.source = {(const uint8_t *)"orders", 6},
                                         .lane = 2,
                                         .timeline = 7,
                                         .epoch = 9,
                                         .system_id = UINT64_C(0xFEDCBA9876543210),
                                         .prev = {(const uint8_t *)"\0\1", 2}};

static const struct publish_row rows[] = {{.topic = {(const uint8_t *)"T", 1},
                                           .tag = {(const uint8_t *)"TagA", 4},
                                           .keys = {(const uint8_t *)"k1 k2", 5},
                                           .ordering_key = {(const uint8_t *)"customer-7", 10},
                                           .uniq_key = {(const uint8_t *)"U1", 2},
                                           .properties = {(const uint8_t *)"a\001b\002", 4},
                                           .body = {(const uint8_t *)"\0\xff", 2},
                                           .born_ms = 1700000000000,
                                           .queue_id = PUBLISH_QUEUE_ANY},
                                          {.topic = {(const uint8_t *)"T", 1}, .queue_id = 3},
                                          {.topic = {(const uint8_t *)"Other", 5}, .born_ms = -1},
                                          {.topic = {(const uint8_t *)"T", 1},
                                           .queue_id = 7,
                                           .is_moved = true,
                                           .flag = -5,
                                           .sys_flag = SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_LZ4,
                                           .reconsume_times = 16,
                                           .born_host = {(const uint8_t *)"\n\0\0\1\x27\x10", 6}},
                                          {.topic = {(const uint8_t *)"T", 1}}};

#define ROWS (sizeof rows / sizeof rows[0])

static void put_batch(struct buf *out)
{
    struct publish_writer pub;

    publish_begin(&pub, out, &head);
    for (size_t i = 0; i < ROWS; i++) {
        size_t before = out->len;
        ck_assert(publish_has_room(&pub));
        publish_put(&pub, &rows[i]);
        ck_assert_uint_le(out->len - before, publish_row_size_max(&rows[i]));
    }
    ck_assert_uint_eq(publish_end(&pub, SLICE_LIT("next")), ROWS);
    ck_assert(!buf_failed(out));
}

static int decode_batch(struct slice body)
{
    struct publish_reader r;
    struct publish_row row;
    size_t bytes;
    int error = publish_reader_begin(&r, body);
    int more = 1;

    if (error == 0) {
        error = publish_check(&r, &bytes);
    }
    while (error == 0 && more == 1) { /* what the check passed must read the same again */
        more = publish_reader_next(&r, &row);
        ck_assert_int_ge(more, 0);
    }
    return error;
}

static int decode_answer(struct slice body)
{
    struct publish_answer answer;

    return publish_answer_decode(body, &answer);
}

static int decode_open(struct slice body)
{
    struct source_open_request req;

    return source_open_request_decode(body, &req);
}

static int decode_open_answer(struct slice body)
{
    struct source_open_answer answer;

    return source_open_answer_decode(body, &answer);
}

START_TEST(a_batch_survives_the_round_trip)
{
    /* Shows: head, rows and the position behind them; a repeated topic is marked. */
    struct publish_reader r;
    struct publish_row row;
    size_t bytes;
    struct buf out;

    buf_init(&out, 0);
    put_batch(&out);
    ck_assert_int_eq(publish_reader_begin(&r, buf_slice(&out)), 0);
    assert_slice(r.head.source, "orders");
    ck_assert_uint_eq(r.head.lane, 2);
    ck_assert_uint_eq(r.head.timeline, 7);
    ck_assert_uint_eq(r.head.epoch, 9);
    ck_assert_uint_eq(r.head.system_id, UINT64_C(0xFEDCBA9876543210));
    assert_same(r.head.prev, head.prev);
    ck_assert_uint_eq(r.row_count, ROWS);
    ck_assert_int_eq(publish_check(&r, &bytes), 0);
    ck_assert_uint_eq(r.row_index, 0);
    assert_slice(r.next, "next");
    for (size_t i = 0; i < ROWS; i++) {
        ck_assert_int_eq(publish_reader_next(&r, &row), 1);
        assert_same(row.topic, rows[i].topic);
        assert_same(row.tag, rows[i].tag);
        assert_same(row.keys, rows[i].keys);
        assert_same(row.ordering_key, rows[i].ordering_key);
        assert_same(row.uniq_key, rows[i].uniq_key);
        assert_same(row.properties, rows[i].properties);
        assert_same(row.body, rows[i].body);
        ck_assert_int_eq(row.born_ms, rows[i].born_ms);
        ck_assert_int_eq(row.queue_id, rows[i].queue_id);
        ck_assert_int_eq(row.is_same_topic, i == 1 || i == 4);
        ck_assert_int_eq(row.is_moved, i == 3);
        ck_assert_int_eq(row.flag, rows[i].flag);
        ck_assert_int_eq(row.sys_flag, rows[i].sys_flag);
        ck_assert_int_eq(row.reconsume_times, rows[i].reconsume_times);
        assert_same(row.born_host, rows[i].born_host);
    }
    ck_assert_int_eq(publish_reader_next(&r, &row), 0);
    ck_assert_int_eq(publish_reader_next(&r, &row), 0);
    buf_fini(&out);
}
END_TEST

START_TEST(the_check_counts_what_will_be_stored)
{
    /* Shows: the sum covers bodies and the whole property strings, the broker's pairs included. */
    struct publish_reader r;
    uint8_t raw[256];
    struct props_writer w;
    size_t bytes;
    struct buf out;

    buf_init(&out, 0);
    put_batch(&out);
    ck_assert_int_eq(publish_reader_begin(&r, buf_slice(&out)), 0);
    ck_assert_int_eq(publish_check(&r, &bytes), 0);
    props_writer_init(&w, raw, sizeof raw);
    props_put_all(&w, rows[0].properties);
    props_put(&w, prop_name(PROP_TAGS), rows[0].tag);
    props_put(&w, prop_name(PROP_KEYS), rows[0].keys);
    props_put(&w, prop_name(PROP_SHARDING_KEY), rows[0].ordering_key);
    props_put(&w, prop_name(PROP_UNIQ_KEY), rows[0].uniq_key);
    ck_assert_int_eq(w.error, 0);
    ck_assert_uint_ge(bytes, w.len + 2);
    ck_assert_uint_le(bytes, w.len + 2 + ROWS); /* and a separator for each */
    buf_fini(&out);
}
END_TEST

START_TEST(the_batch_has_the_documented_bytes)
{
    /* Shows: the layout of the header comment for one row, byte for byte. */
    struct publish_writer pub;
    struct publish_head small = {.source = SLICE_LIT("s"), .epoch = 1};
    struct publish_row row = {.topic = SLICE_LIT("T"), .queue_id = -1, .body = SLICE_LIT("hi")};
    struct buf out, want;

    buf_init(&out, 0);
    buf_init(&want, 0);
    publish_begin(&pub, &out, &small);
    publish_put(&pub, &row);
    (void)publish_end(&pub, SLICE_LIT("p")); /* one row */
    put_hex(&want, "86 a6736f75726365 a173 a46c616e65 00 a565706f6368 01 a873797374656d4964 00"
                   "   a874696d656c696e65 00 a470726576 c400"
                   "dd00000001 99 a154 ff c0 c0 c0 a0 00 c4026869 c0"
                   "c40170");
    assert_same(buf_slice(&out), buf_slice(&want));
    buf_fini(&want);
    buf_fini(&out);
}
END_TEST

START_TEST(a_batch_without_rows_moves_the_position)
{
    /* Shows: no rows is a batch too. */
    struct publish_writer pub;
    struct publish_reader r;
    struct publish_row row;
    struct buf out;

    buf_init(&out, 0);
    publish_begin(&pub, &out, &head);
    ck_assert_uint_eq(publish_end(&pub, SLICE_LIT("n")), 0);
    ck_assert_int_eq(publish_reader_begin(&r, buf_slice(&out)), 0);
    ck_assert_int_eq(publish_reader_next(&r, &row), 0);
    assert_slice(r.next, "n");
    buf_fini(&out);
}
END_TEST

/* A batch of one row, as given, through the reader. */
static int check_row(const struct publish_row *row)
{
    struct publish_writer pub;
    struct buf out;
    int error;

    buf_init(&out, 0);
    publish_begin(&pub, &out, &head);
    publish_put(&pub, row);
    (void)publish_end(&pub, SLICE_EMPTY); /* one row */
    error = decode_batch(buf_slice(&out));
    buf_fini(&out);
    return error;
}

START_TEST(rows_that_cannot_be_messages_are_refused)
{
    /*
     * Shows: separators in values, a negative queue, and each size beyond its limit, before
     * anything is appended.
     */
    uint8_t *big = mem_calloc(1, MESSAGE_BODY_MAX + 1);
    struct publish_row row = rows[0];

    ck_assert_ptr_nonnull(big);
    memset(big, 'x', MESSAGE_BODY_MAX + 1);
    ck_assert_int_eq(check_row(&row), 0);
    row.tag = SLICE_LIT("a\002UNIQ_KEY\001forged");
    ck_assert_int_eq(check_row(&row), ESCROW_EPROTO);
    row = rows[0];
    row.uniq_key = SLICE_LIT("\001");
    ck_assert_int_eq(check_row(&row), ESCROW_EPROTO);
    row = rows[0];
    row.queue_id = -2;
    ck_assert_int_eq(check_row(&row), ESCROW_EPROTO);
    row = rows[0];
    row.topic = slice_of(big, RETRY_TOPIC_LEN_MAX + 1);
    ck_assert_int_eq(check_row(&row), ESCROW_ETOOBIG);
    row = rows[1];
    row.body = slice_of(big, MESSAGE_BODY_MAX);
    ck_assert_int_eq(check_row(&row), 0);
    row.body = slice_of(big, MESSAGE_BODY_MAX + 1);
    ck_assert_int_eq(check_row(&row), ESCROW_ETOOBIG);
    row = rows[1];
    row.properties = slice_of(big, PROPERTIES_LEN_MAX - 1);
    ck_assert_int_eq(check_row(&row), 0);
    row.tag = SLICE_LIT("t");
    ck_assert_int_eq(check_row(&row), ESCROW_ETOOBIG);
    mem_free(big);
}
END_TEST

START_TEST(moved_rows_that_cannot_be_messages_are_refused)
{
    /* Shows: each member of a moved message beyond what it may be. */
    static const uint8_t host[PUBLISH_HOST_IPV6 + 1];
    const struct publish_row good = rows[3];
    struct publish_row row = good;

    ck_assert_int_eq(check_row(&row), 0);
    row.born_host = slice_of(host, PUBLISH_HOST_IPV6);
    ck_assert_int_eq(check_row(&row), 0);
    row.born_host = SLICE_EMPTY;
    ck_assert_int_eq(check_row(&row), 0);
    for (size_t len = 1; len <= sizeof host; len++) {
        row.born_host = slice_of(host, len);
        ck_assert_int_eq(check_row(&row),
                         len == PUBLISH_HOST_IPV4 || len == PUBLISH_HOST_IPV6 ? 0 : ESCROW_EPROTO);
    }
    row = good;
    row.queue_id = PUBLISH_QUEUE_ANY;
    ck_assert_int_eq(check_row(&row), ESCROW_EPROTO);
    row = good;
    row.reconsume_times = -1;
    ck_assert_int_eq(check_row(&row), ESCROW_EPROTO);
    for (int bit = 0; bit < 32; bit++) {
        row = good;
        row.sys_flag = (int32_t)(UINT32_C(1) << bit);
        ck_assert_int_eq(check_row(&row), bit < 2 || (bit >= 8 && bit <= 10) ? 0 : ESCROW_EPROTO);
    }
}
END_TEST

START_TEST(the_first_row_needs_a_topic)
{
    /* Shows: "that of the row before" means nothing in the first row. */
    struct buf body;

    buf_init(&body, 0);
    put_hex(&body, "86 a6736f75726365 a173 a46c616e65 00 a565706f6368 01 a873797374656d4964 00"
                   "   a874696d656c696e65 00 a470726576 c400"
                   "91 99 c0 ff c0 c0 c0 a0 00 c400 c0 c400");
    ck_assert_int_eq(decode_batch(buf_slice(&body)), ESCROW_EPROTO);
    buf_fini(&body);
}
END_TEST

/* A batch with parts of these sizes and rows of the smallest kind. */
static int check_sizes(size_t source_len, size_t prev_len, size_t next_len, size_t row_count)
{
    static const char *const zero_keys[] = {"lane", "epoch", "systemId", "timeline"};
    static const uint8_t row[] = {0x99, 0xa1, 'T', 0, 0xc0, 0xc0, 0xc0, 0xa0, 0, 0xc4, 0, 0xc0};
    uint8_t *zeros = mem_calloc(1, POSITION_LEN_MAX + 1);
    struct buf body;
    msgpack_packer pk = pack_to(&body);
    int error;

    ck_assert_ptr_nonnull(zeros);
    buf_init(&body, 0);
    pack_map(&pk, 6);
    pack_key(&pk, "source");
    pack_text(&pk, slice_of(zeros, source_len));
    for (size_t k = 0; k < 4; k++) {
        pack_key(&pk, zero_keys[k]);
        pack_u64(&pk, 0);
    }
    pack_key(&pk, "prev");
    pack_bytes(&pk, slice_of(zeros, prev_len));
    pack_array(&pk, row_count);
    for (size_t i = 0; i < row_count; i++) {
        buf_append(&body, row, sizeof row);
    }
    pack_bytes(&pk, slice_of(zeros, next_len));
    error = decode_batch(buf_slice(&body));
    buf_fini(&body);
    mem_free(zeros);
    return error;
}

START_TEST(head_and_row_count_are_bounded)
{
    /* Shows: source, both positions, and the number of rows at their limits and one beyond. */
    ck_assert_int_eq(
        check_sizes(PUBLISH_SOURCE_LEN_MAX, POSITION_LEN_MAX, POSITION_LEN_MAX, PUBLISH_ROWS_MAX),
        0);
    ck_assert_int_eq(check_sizes(0, 0, 0, 0), ESCROW_EPROTO);
    ck_assert_int_eq(check_sizes(PUBLISH_SOURCE_LEN_MAX + 1, 0, 0, 0), ESCROW_ETOOBIG);
    ck_assert_int_eq(check_sizes(1, POSITION_LEN_MAX + 1, 0, 0), ESCROW_ETOOBIG);
    ck_assert_int_eq(check_sizes(1, 0, POSITION_LEN_MAX + 1, 0), ESCROW_ETOOBIG);
    ck_assert_int_eq(check_sizes(1, 0, 0, PUBLISH_ROWS_MAX + 1), ESCROW_ELIMIT);
}
END_TEST

START_TEST(a_full_buffer_fails_quietly)
{
    /*
     * Shows: the writer goes on without harm when the buf cannot grow; the caller sees buf_failed.
     */
    struct buf whole;

    buf_init(&whole, 0);
    put_batch(&whole);
    for (size_t limit = 1; limit < whole.len; limit++) {
        struct publish_writer pub;
        struct buf out;
        buf_init(&out, limit);
        publish_begin(&pub, &out, &head);
        for (size_t i = 0; i < ROWS; i++) {
            publish_put(&pub, &rows[i]);
        }
        (void)publish_end(&pub, SLICE_LIT("next")); /* the count is of no use here */
        ck_assert(buf_failed(&out));
        buf_fini(&out);
    }
    buf_fini(&whole);
}
END_TEST

START_TEST(the_other_bodies_survive_the_round_trip)
{
    /*
     * Shows: publish answer with and without an offset, open request, open answer with and without
     * a position.
     */
    struct publish_answer answer = {4096, 3, SLICE_LIT("pos")};
    struct publish_answer answer_back;
    struct source_open_request open = {.source = SLICE_LIT("s"),
                                       .owner = SLICE_LIT("host:4711"),
                                       .lane = 3,
                                       .timeline = UINT32_MAX,
                                       .system_id = UINT64_MAX,
                                       .adopt = true,
                                       .peek = true};
    struct source_open_request open_back;
    struct source_open_answer opened = {7, true, SLICE_EMPTY, 11, 2};
    struct source_open_answer opened_back;
    struct buf out;

    buf_init(&out, 0);
    for (int i = 0; i < 2; i++) {
        buf_clear(&out);
        answer.offset = i == 0 ? 4096 : PUBLISH_OFFSET_NONE;
        publish_answer_encode(&out, &answer);
        ck_assert_int_eq(publish_answer_decode(buf_slice(&out), &answer_back), 0);
        ck_assert_int_eq(answer_back.offset, answer.offset);
        ck_assert_uint_eq(answer_back.count, 3);
        assert_slice(answer_back.position, "pos");
        buf_clear(&out);
        opened.has_position = i == 0;
        source_open_answer_encode(&out, &opened);
        ck_assert_int_eq(source_open_answer_decode(buf_slice(&out), &opened_back), 0);
        ck_assert_uint_eq(opened_back.epoch, 7);
        ck_assert_int_eq(opened_back.has_position, i == 0);
        ck_assert_uint_eq(opened_back.last_system_id, 11);
        ck_assert_uint_eq(opened_back.last_timeline, 2);
    }
    buf_clear(&out);
    source_open_request_encode(&out, &open);
    ck_assert_int_eq(source_open_request_decode(buf_slice(&out), &open_back), 0);
    assert_slice(open_back.source, "s");
    assert_slice(open_back.owner, "host:4711");
    ck_assert_uint_eq(open_back.lane, 3);
    ck_assert_uint_eq(open_back.timeline, UINT32_MAX);
    ck_assert_uint_eq(open_back.system_id, UINT64_MAX);
    ck_assert(open_back.adopt);
    ck_assert(open_back.peek);
    buf_fini(&out);
}
END_TEST

START_TEST(hostile_bytes_are_harmless)
{
    /*
     * Shows: every truncation, changed bytes, something behind the end, of all four
     * bodies.
     */
    struct source_open_request open = {.source = SLICE_LIT("s"), .owner = SLICE_LIT("o")};
    struct source_open_answer opened = {1, true, SLICE_LIT("p"), 2, 3};
    struct publish_answer answer = {1, 2, SLICE_LIT("p")};
    struct buf out;

    buf_init(&out, 0);
    put_batch(&out);
    ck_hostile(decode_batch, &out);
    buf_clear(&out);
    publish_answer_encode(&out, &answer);
    ck_hostile(decode_answer, &out);
    buf_clear(&out);
    source_open_request_encode(&out, &open);
    ck_hostile(decode_open, &out);
    buf_clear(&out);
    source_open_answer_encode(&out, &opened);
    ck_hostile(decode_open_answer, &out);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_publish");

    tcase_add_test(tc, a_batch_survives_the_round_trip);
    tcase_add_test(tc, the_check_counts_what_will_be_stored);
    tcase_add_test(tc, the_batch_has_the_documented_bytes);
    tcase_add_test(tc, a_batch_without_rows_moves_the_position);
    tcase_add_test(tc, rows_that_cannot_be_messages_are_refused);
    tcase_add_test(tc, moved_rows_that_cannot_be_messages_are_refused);
    tcase_add_test(tc, the_first_row_needs_a_topic);
    tcase_add_test(tc, head_and_row_count_are_bounded);
    tcase_add_test(tc, a_full_buffer_fails_quietly);
    tcase_add_test(tc, the_other_bodies_survive_the_round_trip);
    tcase_add_test(tc, hostile_bytes_are_harmless);
    return run_tests(tc, "core/proto/body_publish");
}
