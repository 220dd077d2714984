/* The commit-log record: bytes as RocketMQ has them, round trips, hostile input. */
#include "core/proto/record.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/properties.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <signal.h>

static const uint8_t loopback[4] = {127, 0, 0, 1};

static struct record_fields sample(void)
{
    return (struct record_fields){.queue_id = 3,
                                  .flag = 7,
                                  .queue_offset = 42,
                                  .physical_offset = 6110,
                                  .sys_flag = SYSFLAG_TXN_PREPARED,
                                  .reconsume_times = 2,
                                  .born_ms = 1700000000123,
                                  .store_ms = 1700000000456,
                                  .prepared_offset = 99,
                                  .born_host = record_host_ipv4(loopback, 40000),
                                  .store_host = record_host_ipv4(loopback, 10911),
                                  .body = SLICE_LIT("Hello RocketMQ"),
                                  .topic = SLICE_LIT("TopicTest"),
                                  .properties = SLICE_LIT("KEYS\001k1\002TAGS\001TagA\002")};
}

static void ck_same_fields(const struct record_fields *a, const struct record_fields *b)
{
    ck_assert_int_eq(a->queue_id, b->queue_id);
    ck_assert_int_eq(a->flag, b->flag);
    ck_assert_int_eq(a->queue_offset, b->queue_offset);
    ck_assert_int_eq(a->physical_offset, b->physical_offset);
    ck_assert_int_eq(a->reconsume_times, b->reconsume_times);
    ck_assert_int_eq(a->born_ms, b->born_ms);
    ck_assert_int_eq(a->store_ms, b->store_ms);
    ck_assert_int_eq(a->prepared_offset, b->prepared_offset);
    ck_assert_mem_eq(&a->born_host, &b->born_host, sizeof a->born_host);
    ck_assert_mem_eq(&a->store_host, &b->store_host, sizeof a->store_host);
    ck_assert(slice_eq(a->body, b->body));
    ck_assert(slice_eq(a->topic, b->topic));
    ck_assert(slice_eq(a->properties, b->properties));
}

static uint8_t *encode(const struct record_fields *f, size_t *size)
{
    uint8_t *rec = mem_alloc(record_size(f));

    ck_assert_ptr_nonnull(rec);
    ck_assert_int_eq(record_check(f), 0);
    *size = record_encode(rec, f);
    ck_assert_uint_eq(*size, record_size(f));
    return rec;
}

START_TEST(fields_lie_where_rocketmq_reads_them)
{
    /* Shows: every fixed offset of the table in record.h, for two IPv4 hosts. */
    struct record_fields f = sample();
    size_t size;
    uint8_t *rec = encode(&f, &size);

    ck_assert_uint_eq(size, 88 + 14 + 1 + 9 + 2 + 18);
    ck_assert_uint_eq(get_be32(rec), size);
    ck_assert_int_eq((int32_t)get_be32(rec + 4), -626843481);
    ck_assert_uint_eq(get_be32(rec + 8), 1774740973);
    ck_assert_uint_eq(get_be32(rec + 12), 3);
    ck_assert_uint_eq(get_be32(rec + 16), 7);
    ck_assert_uint_eq(get_be64(rec + 20), 42);
    ck_assert_uint_eq(get_be64(rec + 28), 6110);
    ck_assert_uint_eq(get_be32(rec + 36), 4);
    ck_assert_uint_eq(get_be64(rec + 40), 1700000000123);
    ck_assert_mem_eq(rec + 48, loopback, 4);
    ck_assert_uint_eq(get_be32(rec + 52), 40000);
    ck_assert_uint_eq(get_be64(rec + 56), 1700000000456);
    ck_assert_mem_eq(rec + 64, loopback, 4);
    ck_assert_uint_eq(get_be32(rec + 68), 10911);
    ck_assert_uint_eq(get_be32(rec + 72), 2);
    ck_assert_uint_eq(get_be64(rec + 76), 99);
    ck_assert_uint_eq(get_be32(rec + 84), 14);
    ck_assert_mem_eq(rec + 88, "Hello RocketMQ", 14);
    ck_assert_uint_eq(rec[102], 9);
    ck_assert_mem_eq(rec + 103, "TopicTest", 9);
    ck_assert_uint_eq(get_be16(rec + 112), 18);
    mem_free(rec);
}
END_TEST

START_TEST(body_crc_loses_its_sign_bit)
{
    /* Shows: the CRC values that a JVM computes, the mask among them. */
    ck_assert_uint_eq(record_body_crc(SLICE_LIT("abc")), 891568578);
    ck_assert_uint_eq(record_body_crc(SLICE_LIT("a")), 0x68B7BE43);
    ck_assert_uint_eq(record_body_crc(SLICE_LIT("Hello RocketMQ")), 1774740973);
    ck_assert_uint_eq(record_body_crc(SLICE_EMPTY), 0);
}
END_TEST

START_TEST(what_is_encoded_is_decoded)
{
    /*
     * Shows: the round trip for each combination of host families; the IPv6 bits come from the
     * hosts.
     */
    for (int hosts = 0; hosts < 4; hosts++) {
        struct record_fields f = sample();
        struct record_view view;
        size_t size;
        uint8_t *rec;

        f.sys_flag |= SYSFLAG_BORN_IPV6 | SYSFLAG_STORE_IPV6;
        f.born_host.ip_len = (hosts & 1) != 0 ? 16 : 4;
        f.store_host.ip_len = (hosts & 2) != 0 ? 16 : 4;
        rec = encode(&f, &size);
        ck_assert_int_eq(record_decode(slice_of(rec, size), &view), 0);
        ck_same_fields(&view.f, &f);
        ck_assert_int_eq(view.f.sys_flag, SYSFLAG_TXN_PREPARED |
                                              ((hosts & 1) != 0 ? SYSFLAG_BORN_IPV6 : 0) |
                                              ((hosts & 2) != 0 ? SYSFLAG_STORE_IPV6 : 0));
        ck_assert_uint_eq(view.magic, RECORD_MAGIC_V1);
        ck_assert_uint_eq(view.body_crc, record_body_crc(f.body));
        ck_assert_uint_eq(view.record.len, size);
        mem_free(rec);
    }
}
END_TEST

START_TEST(a_long_topic_takes_the_second_version)
{
    /* Shows: 127 bytes are V1, 128 are V2 with two length bytes, 255 is the most. */
    char topic[RETRY_TOPIC_LEN_MAX + 1];
    static const size_t lens[] = {1, 127, 128, RETRY_TOPIC_LEN_MAX};

    memset(topic, 'T', sizeof topic);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct record_fields f = sample();
        struct record_view view;
        size_t size;
        uint8_t *rec;

        f.topic = slice_of(topic, lens[i]);
        rec = encode(&f, &size);
        ck_assert_int_eq(record_decode(slice_of(rec, size), &view), 0);
        ck_assert_uint_eq(view.magic, lens[i] > 127 ? RECORD_MAGIC_V2 : RECORD_MAGIC_V1);
        ck_same_fields(&view.f, &f);
        mem_free(rec);
    }
}
END_TEST

START_TEST(limits_are_checked_before_encoding)
{
    /* Shows: record_check names what cannot become a record. */
    struct record_fields f = sample();

    ck_assert_int_eq(record_check(&f), 0);
    f.topic = SLICE_EMPTY;
    ck_assert_int_eq(record_check(&f), ESCROW_EINVAL);
    f = sample();
    f.born_host.ip_len = 5;
    ck_assert_int_eq(record_check(&f), ESCROW_EINVAL);
    f = sample();
    f.store_host.ip_len = 0;
    ck_assert_int_eq(record_check(&f), ESCROW_EINVAL);
    f = sample();
    f.body.len = MESSAGE_BODY_MAX + 1;
    ck_assert_int_eq(record_check(&f), ESCROW_ETOOBIG);
    f = sample();
    f.topic.len = RETRY_TOPIC_LEN_MAX + 1;
    ck_assert_int_eq(record_check(&f), ESCROW_ETOOBIG);
    f = sample();
    f.properties.len = PROPERTIES_LEN_MAX + 1;
    ck_assert_int_eq(record_check(&f), ESCROW_ETOOBIG);
}
END_TEST

START_TEST(the_largest_record_fits_its_bound)
{
    /*
     * Shows: body, topic and properties at their limits together, with IPv6 hosts, stay within
     * RECORD_SIZE_MAX.
     */
    uint8_t *body = mem_calloc(1, MESSAGE_BODY_MAX);
    uint8_t *text = mem_calloc(1, PROPERTIES_LEN_MAX);
    struct record_fields f = sample();
    struct record_view view;
    size_t size;
    uint8_t *rec;

    ck_assert_ptr_nonnull(body);
    ck_assert_ptr_nonnull(text);
    f.body = slice_of(body, MESSAGE_BODY_MAX);
    f.topic = slice_of(text, RETRY_TOPIC_LEN_MAX);
    f.properties = slice_of(text, PROPERTIES_LEN_MAX);
    f.born_host.ip_len = 16;
    f.store_host.ip_len = 16;
    rec = encode(&f, &size);
    ck_assert_uint_le(size, RECORD_SIZE_MAX);
    ck_assert_int_eq(record_decode(slice_of(rec, size), &view), 0);
    mem_free(rec);
    mem_free(text);
    mem_free(body);
}
END_TEST

START_TEST(properties_can_be_composed_in_place)
{
    /* Shows: record_begin, a writer, record_end give the same bytes as record_encode. */
    struct record_fields f = sample();
    size_t size;
    uint8_t *rec = encode(&f, &size);
    uint8_t *other = mem_alloc(size);
    struct props_writer w;

    ck_assert_ptr_nonnull(other);
    props_writer_init(&w, record_begin(other, &f), f.properties.len);
    props_put_all(&w, f.properties);
    ck_assert_int_eq(w.error, 0);
    ck_assert_uint_eq(record_end(other, w.ptr, w.len), size);
    ck_assert_mem_eq(rec, other, size);
    mem_free(other);
    mem_free(rec);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    /*
     * Shows: a prefix of a record is never a record, and reading it never leaves its bytes (each is
     * its own block).
     */
    struct record_fields f = sample();
    size_t size;
    uint8_t *rec = encode(&f, &size);

    for (size_t n = 0; n < size; n++) {
        uint8_t *part = mem_alloc(n);
        struct record_view view;
        ck_assert_ptr_nonnull(part);
        memcpy(part, rec, n);
        ck_assert_int_eq(record_decode(slice_of(part, n), &view), ESCROW_EPROTO);
        mem_free(part);
    }
    mem_free(rec);
}
END_TEST

START_TEST(no_changed_byte_makes_the_decoder_read_outside)
{
    /*
     * Shows: with any one byte set to any of a few values the record is refused or decoded within
     * its bytes.
     */
    static const uint8_t values[] = {0, 1, 0x7F, 0x80, 0xFF};
    struct record_fields f = sample();
    size_t size;
    uint8_t *rec = encode(&f, &size);

    for (size_t i = 0; i < size; i++) {
        uint8_t old = rec[i];
        for (size_t v = 0; v < sizeof values; v++) {
            struct record_view view;
            rec[i] = values[v];
            if (record_decode(slice_of(rec, size), &view) == 0) {
                ck_assert_uint_le(view.record.len, size);
                ck_assert(view.f.body.ptr >= rec);
                ck_assert_ptr_eq(view.f.properties.ptr + view.f.properties.len,
                                 rec + view.record.len);
            }
        }
        rec[i] = old;
    }
    mem_free(rec);
}
END_TEST

START_TEST(parts_must_fill_the_record)
{
    /* Shows: lengths that leave a gap, run over, or are negative are refused, each on its own. */
    struct record_fields f = sample();
    struct record_view view;
    size_t size;
    uint8_t *rec = encode(&f, &size);
    uint8_t roomy[256] = {0};

    memcpy(roomy, rec, size);
    put_be32(roomy, (uint32_t)size + 1); /* a gap of one byte behind the properties */
    ck_assert_int_eq(record_decode(slice_of(roomy, sizeof roomy), &view), ESCROW_EPROTO);
    memcpy(roomy, rec, size);
    put_be32(roomy + 84, UINT32_MAX); /* body length -1 */
    ck_assert_int_eq(record_decode(slice_of(roomy, sizeof roomy), &view), ESCROW_EPROTO);
    memcpy(roomy, rec, size);
    put_be16(roomy + 112, 0xFFFF); /* properties length -1 */
    ck_assert_int_eq(record_decode(slice_of(roomy, sizeof roomy), &view), ESCROW_EPROTO);
    memcpy(roomy, rec, size);
    roomy[102] = 128; /* topic length -128 for Java */
    put_be32(roomy, 250);
    put_be16(roomy + 103 + 128, 250 - 103 - 128 - 2);
    ck_assert_int_eq(record_decode(slice_of(roomy, sizeof roomy), &view), ESCROW_EPROTO);
    memcpy(roomy, rec, size);
    put_be32(roomy + 4, 0xCBD43194); /* the filler's magic */
    ck_assert_int_eq(record_decode(slice_of(roomy, sizeof roomy), &view), ESCROW_EPROTO);
    mem_free(rec);
}
END_TEST

START_TEST(a_pull_body_is_walked_record_by_record)
{
    /*
     * Shows: three records back to back come out in order, then the end; garbage behind them is
     * reported, not skipped.
     */
    uint8_t body[1024];
    size_t len = 0;
    struct record_walk walk;
    struct record_view view;

    for (int i = 0; i < 3; i++) {
        struct record_fields f = sample();
        f.queue_offset = i;
        len += record_encode(body + len, &f);
    }
    walk = (struct record_walk){slice_of(body, len)};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(record_walk_next(&walk, &view), 1);
        ck_assert_int_eq(view.f.queue_offset, i);
    }
    ck_assert_int_eq(record_walk_next(&walk, &view), 0);
    ck_assert_int_eq(record_walk_next(&walk, &view), 0);

    memset(body + len, 0x5A, 100);
    walk = (struct record_walk){slice_of(body + len, 100)};
    ck_assert_int_eq(record_walk_next(&walk, &view), ESCROW_EPROTO);
    ck_assert_uint_eq(walk.rest.len, 100);
}
END_TEST

static void ck_peeks(const uint8_t *rec, const struct record_fields *f)
{
    ck_assert_int_eq(record_peek_queue_id(rec), f->queue_id);
    ck_assert_int_eq(record_peek_flag(rec), f->flag);
    ck_assert_int_eq(record_peek_queue_offset(rec), f->queue_offset);
    ck_assert_int_eq(record_peek_physical_offset(rec), f->physical_offset);
    ck_assert_int_eq(record_peek_born_ms(rec), f->born_ms);
    ck_assert_int_eq(record_peek_store_ms(rec), f->store_ms);
    ck_assert_int_eq(record_peek_reconsume_times(rec), f->reconsume_times);
    ck_assert_int_eq(record_peek_prepared_offset(rec), f->prepared_offset);
}

START_TEST(delivery_patches_a_released_half)
{
    /* Shows: each setter changes its own field and nothing else, with short and with long hosts. */
    for (int hosts = 0; hosts < 4; hosts++) {
        struct record_fields f = sample();
        struct record_view view;
        size_t size;
        uint8_t *rec;

        f.born_host.ip_len = (hosts & 1) != 0 ? 16 : 4;
        f.store_host.ip_len = (hosts & 2) != 0 ? 16 : 4;
        rec = encode(&f, &size);
        ck_assert_uint_eq(record_peek_size(rec), size);
        ck_peeks(rec, &f);
        record_patch_queue_id(rec, f.queue_id = -1);
        record_patch_queue_offset(rec, f.queue_offset = INT64_MAX);
        record_patch_physical_offset(rec, f.physical_offset = 123456789012);
        record_patch_store_ms(rec, f.store_ms = -5);
        record_patch_reconsume_times(rec, f.reconsume_times = 16);
        record_patch_prepared_offset(rec, f.prepared_offset = 6110);
        record_patch_sys_flag(rec, SYSFLAG_TXN_COMMIT);
        ck_peeks(rec, &f);
        ck_assert_int_eq(record_decode(slice_of(rec, size), &view), 0);
        ck_same_fields(&view.f, &f);
        ck_assert_int_eq(view.f.sys_flag & SYSFLAG_TXN_MASK, SYSFLAG_TXN_COMMIT);
        ck_assert_int_eq(record_peek_sys_flag(rec), view.f.sys_flag);
        mem_free(rec);
    }
}
END_TEST

START_TEST(patching_what_is_no_record_stops_the_program)
{
    /* Shows: the setters trust nobody with bytes that carry no magic (the CHECK fires). */
    uint8_t junk[RECORD_SIZE_MIN] = {0};

    record_patch_queue_offset(junk, 1);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("record");

    tcase_add_test(tc, fields_lie_where_rocketmq_reads_them);
    tcase_add_test(tc, body_crc_loses_its_sign_bit);
    tcase_add_test(tc, what_is_encoded_is_decoded);
    tcase_add_test(tc, a_long_topic_takes_the_second_version);
    tcase_add_test(tc, limits_are_checked_before_encoding);
    tcase_add_test(tc, the_largest_record_fits_its_bound);
    tcase_add_test(tc, properties_can_be_composed_in_place);
    tcase_add_test(tc, every_truncation_is_refused);
    tcase_add_test(tc, no_changed_byte_makes_the_decoder_read_outside);
    tcase_add_test(tc, parts_must_fill_the_record);
    tcase_add_test(tc, a_pull_body_is_walked_record_by_record);
    tcase_add_test(tc, delivery_patches_a_released_half);
    tcase_add_test_raise_signal(tc, patching_what_is_no_record_stops_the_program, SIGABRT);
    return run_tests(tc, "core/proto/record");
}
