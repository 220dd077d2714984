/* REGISTER_BROKER in both its forms. */
#include "core/proto/body_register.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "tests/unit/core/proto/body_test.h"

#include <libdeflate.h>

#define PLAIN                                                                                      \
    "{\"filterServerList\":[],\"topicConfigSerializeWrapper\":{\"dataVersion\":{\"counter\":2,"    \
    "\"stateVersion\":0,\"timestamp\":1700000000000},\"topicConfigTable\":{\"T\":{"                \
    "\"attributes\":{},\"order\":false,\"perm\":6,\"readQueueNums\":4,"                            \
    "\"topicFilterType\":\"SINGLE_TAG\",\"topicName\":\"T\",\"topicSysFlag\":0,"                   \
    "\"writeQueueNums\":8}}}}"

static struct topic_config topics[] = {
    {.name = {(const uint8_t *)"T", 1}, .read_queue_count = 4, .write_queue_count = 8, .perm = 6}};

static const struct register_body sample = {
    .version = {1700000000000, 2, 0}, .topics = topics, .topic_count = 1};

static int decode_plain(struct slice in)
{
    struct register_body body;
    int error = register_body_decode(in, false, &body);

    register_body_fini(&body);
    return error;
}

static int decode_compressed(struct slice in)
{
    struct register_body body;
    int error = register_body_decode(in, true, &body);

    register_body_fini(&body);
    return error;
}

static void ck_sample(const struct register_body *body)
{
    ck_assert_int_eq(body->version.counter, 2);
    ck_assert_int_eq(body->version.timestamp_ms, 1700000000000);
    ck_assert_uint_eq(body->topic_count, 1);
    assert_slice(body->topics[0].name, "T");
    ck_assert_int_eq(body->topics[0].read_queue_count, 4);
    ck_assert_int_eq(body->topics[0].write_queue_count, 8);
    ck_assert_int_eq(body->topics[0].perm, 6);
}

/* The zlib form of any bytes. */
static void compress(struct buf *out, struct slice in)
{
    struct libdeflate_compressor *z = libdeflate_alloc_compressor(1);
    size_t bound = libdeflate_zlib_compress_bound(z, in.len);
    uint8_t *dst = buf_reserve(out, bound);

    buf_commit(out, libdeflate_zlib_compress(z, in.ptr, in.len, dst, bound));
    libdeflate_free_compressor(z);
}

static int decode_lists(struct slice lists)
{
    struct buf z;
    int error;

    buf_init(&z, 0);
    compress(&z, lists);
    error = decode_compressed(buf_slice(&z));
    buf_fini(&z);
    return error;
}

/* The lists inside the compressed form, by hand: version, one topic as given, no filter servers. */
static void put_lists(struct buf *out, const char *topic)
{
    static const char version[] = "{\"counter\":2,\"timestamp\":1700000000000}";

    buf_append_be32(out, sizeof version - 1);
    buf_append_str(out, version);
    buf_append_be32(out, 1);
    buf_append_be32(out, (uint32_t)strlen(topic));
    buf_append_str(out, topic);
    buf_append_be32(out, 2);
    buf_append_str(out, "[]");
}

START_TEST(the_plain_form_has_java_s_text)
{
    /* Shows: the exact body, and the way back. */
    struct register_body back;
    struct buf out;

    buf_init(&out, 0);
    register_body_encode(&out, &sample);
    assert_slice(buf_slice(&out), PLAIN);
    ck_assert_int_eq(register_body_decode(buf_slice(&out), false, &back), 0);
    ck_sample(&back);
    register_body_fini(&back);
    buf_fini(&out);
}
END_TEST

START_TEST(a_body_of_a_newer_broker_is_read)
{
    /* Shows: mapping tables and attributes of 5.x are passed over. */
    struct register_body back;

    ck_assert_int_eq(
        register_body_decode(
            SLICE_LIT("{\"filterServerList\":[],\"topicConfigSerializeWrapper\":{\"dataVersion\":{"
                      "\"counter\":2,\"timestamp\":1700000000000},\"mappingDataVersion\":{},"
                      "\"topicConfigTable\":{\"T\":{\"attributes\":{\"+queue.type\":\"CQ\"},"
                      "\"perm\":6,\"readQueueNums\":4,\"topicName\":\"T\",\"writeQueueNums\":8}},"
                      "\"topicQueueMappingDetailMap\":{},\"topicQueueMappingInfoMap\":{0:{}}}}"),
            false, &back),
        0);
    ck_sample(&back);
    register_body_fini(&back);
}
END_TEST

START_TEST(the_compressed_form_survives_the_round_trip)
{
    /*
     * Shows: our own compressed body, and one whose lists were laid out by hand, mappings behind
     * it.
     */
    struct register_body back;
    struct buf out, lists;

    buf_init(&out, 0);
    buf_init(&lists, 0);
    ck_assert_int_eq(register_body_encode_compressed(&out, &sample), 0);
    ck_assert_int_eq(register_body_decode(buf_slice(&out), true, &back), 0);
    ck_sample(&back);
    register_body_fini(&back);

    put_lists(&lists, "T 4 8 6 SINGLE_TAG {\"+queue.type\":\"CQ\"}");
    buf_append_be32(&lists, 0);
    buf_clear(&out);
    compress(&out, buf_slice(&lists));
    ck_assert_int_eq(register_body_decode(buf_slice(&out), true, &back), 0);
    ck_sample(&back);
    register_body_fini(&back);
    buf_fini(&lists);
    buf_fini(&out);
}
END_TEST

START_TEST(ten_thousand_topics_pass)
{
    /* Shows: both forms carry a large broker. */
    enum { COUNT = 10000 };
    struct topic_config *many = mem_calloc(COUNT, sizeof *many);
    char *names = mem_alloc((size_t)COUNT * 16);
    struct register_body body = {.topics = many, .topic_count = COUNT};

    ck_assert_ptr_nonnull(many);
    ck_assert_ptr_nonnull(names);
    for (int i = 0; i < COUNT; i++) {
        int n = snprintf(names + 16 * i, 16, "topic_%d", i);
        many[i] = (struct topic_config){.name = slice_of(names + 16 * i, (size_t)n), .perm = 6};
    }
    for (int is_compressed = 0; is_compressed < 2; is_compressed++) {
        struct register_body back;
        struct buf out;
        buf_init(&out, 0);
        if (is_compressed) {
            ck_assert_int_eq(register_body_encode_compressed(&out, &body), 0);
        } else {
            register_body_encode(&out, &body);
        }
        ck_assert(!buf_failed(&out));
        ck_assert_int_eq(register_body_decode(buf_slice(&out), is_compressed != 0, &back), 0);
        ck_assert_uint_eq(back.topic_count, COUNT);
        for (int i = 0; i < COUNT; i++) {
            ck_assert(slice_eq(back.topics[i].name, many[i].name));
        }
        register_body_fini(&back);
        buf_fini(&out);
    }
    mem_free(names);
    mem_free(many);
}
END_TEST

START_TEST(a_bomb_is_stopped_at_its_limit)
{
    /*
     * Shows: a few KiB that inflate beyond REGISTER_INFLATED_MAX are refused; exactly that much is
     * not too big.
     */
    uint8_t *zeros = mem_calloc(1, REGISTER_INFLATED_MAX + 1);

    ck_assert_ptr_nonnull(zeros);
    ck_assert_int_eq(decode_lists(slice_of(zeros, REGISTER_INFLATED_MAX + 1)), ESCROW_ETOOBIG);
    ck_assert_int_eq(decode_lists(slice_of(zeros, REGISTER_INFLATED_MAX)), ESCROW_EPROTO);
    mem_free(zeros);
}
END_TEST

START_TEST(broken_lists_are_refused)
{
    /*
     * Shows: every truncation of the inflated lists, a count beyond the bytes, and topics that are
     * none.
     */
    static const char *const bad[] = {"",
                                      "T",
                                      "T 4 8",
                                      "T 4 8 x",
                                      "T -1 8 6 SINGLE_TAG",
                                      "T 4 1025 6 SINGLE_TAG",
                                      " 4 8 6 SINGLE_TAG",
                                      "T 99999999999 8 6 SINGLE_TAG"};
    struct buf lists;

    buf_init(&lists, 0);
    put_lists(&lists, "T 4 8 6 SINGLE_TAG");
    for (size_t n = 0; n < lists.len; n++) {
        ck_assert_int_eq(decode_lists(slice_of(lists.ptr, n)), ESCROW_EPROTO);
    }
    ck_assert_int_eq(decode_lists(buf_slice(&lists)), 0);
    put_be32(lists.ptr + 4 + get_be32(lists.ptr), UINT32_MAX);
    ck_assert_int_eq(decode_lists(buf_slice(&lists)), ESCROW_EPROTO);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buf_clear(&lists);
        put_lists(&lists, bad[i]);
        ck_assert_msg(decode_lists(buf_slice(&lists)) == ESCROW_EPROTO, "accepted: %s", bad[i]);
    }
    buf_fini(&lists);
}
END_TEST

START_TEST(broken_streams_are_refused)
{
    /* Shows: every truncation of the compressed bytes, and bytes that are no zlib stream. */
    struct buf out;

    buf_init(&out, 0);
    ck_assert_int_eq(register_body_encode_compressed(&out, &sample), 0);
    for (size_t n = 0; n < out.len; n++) {
        struct slice part = copy_exact(slice_of(out.ptr, n));
        ck_assert_int_eq(decode_compressed(part), ESCROW_EPROTO);
        free_copy(part);
    }
    ck_assert_int_eq(decode_compressed(SLICE_LIT(PLAIN)), ESCROW_EPROTO);
    ck_assert_int_eq(decode_plain(SLICE_LIT("{}")), ESCROW_EPROTO);
    ck_assert_int_eq(decode_plain(buf_slice(&out)), ESCROW_EPROTO);
    buf_fini(&out);
}
END_TEST

START_TEST(truncations_and_failing_allocations_are_harmless)
{
    /*
     * Shows: every prefix of the plain form is refused; out of memory at any point leaves nothing
     * behind.
     */
    ck_every_truncation(decode_plain, PLAIN);
    ck_every_failing_allocation(decode_plain, PLAIN);
}
END_TEST

START_TEST(the_crc_has_no_sign_bit)
{
    /* Shows: the value of the header field bodyCrc32. */
    ck_assert_uint_eq(register_body_crc(SLICE_LIT("a")), 0x68B7BE43);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_register");

    tcase_add_test(tc, the_plain_form_has_java_s_text);
    tcase_add_test(tc, a_body_of_a_newer_broker_is_read);
    tcase_add_test(tc, the_compressed_form_survives_the_round_trip);
    tcase_add_test(tc, ten_thousand_topics_pass);
    tcase_add_test(tc, a_bomb_is_stopped_at_its_limit);
    tcase_add_test(tc, broken_lists_are_refused);
    tcase_add_test(tc, broken_streams_are_refused);
    tcase_add_test(tc, truncations_and_failing_allocations_are_harmless);
    tcase_add_test(tc, the_crc_has_no_sign_bit);
    return run_tests(tc, "core/proto/body_register");
}
