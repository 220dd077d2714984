/* The header of a send, by letters and by long names, in every header encoding. */
#include "core/proto/send_request.h"

#include "core/base/limits.h"
#include "core/proto/codes.h"
#include "core/proto/frame.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

static const struct send_request sample = {.producer_group = {(const uint8_t *)"p", 1},
                                           .topic = {(const uint8_t *)"T", 1},
                                           .default_topic = {(const uint8_t *)"TBW102", 6},
                                           .properties = {(const uint8_t *)"KEYS\001k\002", 7},
                                           .broker_name = {(const uint8_t *)"broker-a", 8},
                                           .born_ms = 1700000000000,
                                           .default_queue_count = 8,
                                           .queue_id = 3,
                                           .sys_flag = 4,
                                           .flag = -7,
                                           .reconsume_times = 2,
                                           .max_reconsume_times = 16,
                                           .unit_mode = true,
                                           .is_batch = true};

static void ck_same(const struct send_request *a, const struct send_request *b)
{
    assert_same(a->producer_group, b->producer_group);
    assert_same(a->topic, b->topic);
    assert_same(a->default_topic, b->default_topic);
    assert_same(a->properties, b->properties);
    assert_same(a->broker_name, b->broker_name);
    ck_assert_int_eq(a->born_ms, b->born_ms);
    ck_assert_int_eq(a->default_queue_count, b->default_queue_count);
    ck_assert_int_eq(a->queue_id, b->queue_id);
    ck_assert_int_eq(a->sys_flag, b->sys_flag);
    ck_assert_int_eq(a->flag, b->flag);
    ck_assert_int_eq(a->reconsume_times, b->reconsume_times);
    ck_assert_int_eq(a->max_reconsume_times, b->max_reconsume_times);
    ck_assert_int_eq(a->unit_mode, b->unit_mode);
    ck_assert_int_eq(a->is_batch, b->is_batch);
}

/* Decode the only frame in `out`. */
static void decode_frame(struct buf *out, struct header *h)
{
    struct frame frame;

    ck_assert_int_eq(frame_decode(buf_slice(out), &frame), 0);
    ck_assert_int_eq(header_decode(h, frame.type, frame.header), 0);
}

/* A header with these fields, as a client would send them. NULL ends the list. */
static void decode_fields(struct buf *out, struct header *h, const char *const *fields)
{
    struct header_writer w;

    buf_clear(out);
    header_begin(&w, out, HEADER_JSON, &(struct header_out){.code = 10, .opaque = 1});
    for (size_t i = 0; fields[i] != NULL; i += 2) {
        header_put_str(&w, fields[i], slice_str(fields[i + 1]));
    }
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    decode_frame(out, h);
}

START_TEST(a_send_survives_the_round_trip)
{
    /* Shows: both spellings in each of the three encodings. */
    for (int type = 0; type < HEADER_TYPE_COUNT; type++) {
        for (int use_letters = 0; use_letters < 2; use_letters++) {
            struct header_writer w;
            struct send_request back;
            const char *field = NULL;
            struct header h;
            struct buf out;
            buf_init(&out, 0);
            header_init(&h);
            header_begin(&w, &out, (enum header_type)type,
                         &(struct header_out){.code = REQUEST_SEND_MESSAGE_V2, .opaque = 1});
            send_request_encode(&w, &sample, use_letters != 0);
            header_end(&w);
            ck_assert_int_eq(header_frame_end(&w, 0), 0);
            decode_frame(&out, &h);
            ck_assert_int_eq(send_request_decode(&h, &back, &field), 0);
            ck_same(&back, &sample);
            header_fini(&h);
            buf_fini(&out);
        }
    }
}
END_TEST

START_TEST(optional_fields_have_defaults)
{
    /* Shows: what old clients leave out: template, queues, properties, retries, flags. */
    static const char *const fields[] = {"a", "p", "b", "T", "e", "-1", "f",
                                         "0", "g", "5", "h", "0", NULL};
    struct send_request want;
    struct send_request back;
    const char *field = NULL;
    struct header h;
    struct buf out;

    send_request_init(&want);
    want.producer_group = SLICE_LIT("p");
    want.topic = SLICE_LIT("T");
    want.born_ms = 5;
    buf_init(&out, 0);
    header_init(&h);
    decode_fields(&out, &h, fields);
    ck_assert_int_eq(send_request_decode(&h, &back, &field), 0);
    ck_same(&back, &want);
    ck_assert_int_eq(back.max_reconsume_times, SEND_MAX_RECONSUME_NONE);
    assert_slice(back.default_topic, "TBW102");
    header_fini(&h);
    buf_fini(&out);
}
END_TEST

START_TEST(a_missing_field_is_named)
{
    /*
     * Shows: each field that must be there, in both spellings, comes back by the name the client
     * used.
     */
    static const char *const letters[] = {"a", "p", "b", "T", "e", "1", "f",
                                          "0", "g", "5", "h", "0", NULL};
    static const char *const names[] = {
        "producerGroup", "p", "topic", "T", "queueId", "1", "sysFlag", "0",
        "bornTimestamp", "5", "flag",  "0", NULL};
    struct header h;
    struct buf out;

    buf_init(&out, 0);
    header_init(&h);
    for (size_t set = 0; set < 2; set++) {
        for (size_t gone = 0; gone < 6; gone++) {
            const char *const *all = set == 0 ? letters : names;
            const char *some[13] = {NULL};
            const char *field = NULL;
            struct send_request back;
            for (size_t i = 0, k = 0; i < 12; i += 2) {
                if (i != 2 * gone) {
                    some[k++] = all[i];
                    some[k++] = all[i + 1];
                }
            }
            decode_fields(&out, &h, some);
            ck_assert_int_eq(send_request_decode(&h, &back, &field), ESCROW_EINVAL);
            /* without "a" nothing says that the rest are letters */
            ck_assert_str_eq(field, set == 0 && gone == 0 ? "producerGroup" : all[2 * gone]);
        }
    }
    header_fini(&h);
    buf_fini(&out);
}
END_TEST

START_TEST(a_number_that_is_none_is_named)
{
    /* Shows: text, an empty value, and numbers out of range. */
    static const char *const bad[][2] = {{"e", "x"},          {"e", ""},
                                         {"e", "2147483648"}, {"g", "9223372036854775808"},
                                         {"d", "1.5"},        {"k", "maybe"}};
    struct header h;
    struct buf out;

    buf_init(&out, 0);
    header_init(&h);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *fields[] = {"a", "p",  "b",  "T",  "f",  "0", "h",
                                "0", NULL, NULL, NULL, NULL, NULL};
        const char *field = NULL;
        struct send_request back;
        bool is_queue = bad[i][0][0] == 'e';
        fields[8] = bad[i][0];
        fields[9] = bad[i][1];
        fields[10] = is_queue ? "g" : "e";
        fields[11] = "1";
        if (bad[i][0][0] == 'd' || bad[i][0][0] == 'k') {
            fields[6] = "g"; /* h is then missing too, but what is wrong comes first */
        }
        decode_fields(&out, &h, fields);
        ck_assert_int_eq(send_request_decode(&h, &back, &field), ESCROW_EINVAL);
        ck_assert_str_eq(field, bad[i][0][0] == 'k' ? "h" : bad[i][0]);
    }
    header_fini(&h);
    buf_fini(&out);
}
END_TEST

START_TEST(properties_beyond_the_record_are_refused)
{
    /* Shows: PROPERTIES_LEN_MAX bytes pass, one more is ESCROW_ETOOBIG. */
    uint8_t *text = mem_calloc(1, PROPERTIES_LEN_MAX + 1);
    struct send_request req = sample;

    ck_assert_ptr_nonnull(text);
    memset(text, 'x', PROPERTIES_LEN_MAX + 1);
    for (size_t more = 0; more < 2; more++) {
        struct header_writer w;
        struct send_request back;
        const char *field = NULL;
        struct header h;
        struct buf out;
        req.properties = slice_of(text, PROPERTIES_LEN_MAX + more);
        buf_init(&out, 0);
        header_init(&h);
        header_begin(&w, &out, HEADER_ROCKETMQ, &(struct header_out){.code = 310, .opaque = 1});
        send_request_encode(&w, &req, true);
        header_end(&w);
        ck_assert_int_eq(header_frame_end(&w, 0), 0);
        decode_frame(&out, &h);
        ck_assert_int_eq(send_request_decode(&h, &back, &field), more == 0 ? 0 : ESCROW_ETOOBIG);
        header_fini(&h);
        buf_fini(&out);
    }
    mem_free(text);
}
END_TEST

START_TEST(an_answer_has_what_java_reads)
{
    /*
     * Shows: MSG_REGION and TRACE_ON are always there, and the way back; an answer without an
     * offset is none.
     */
    static const char *const incomplete[] = {"msgId", "X", "queueId", "1", NULL};
    struct send_answer answer = {.msg_id = SLICE_LIT("7F00"),
                                 .transaction_id = SLICE_LIT("UNIQ"),
                                 .queue_id = 2,
                                 .queue_offset = 77};
    struct header_writer w;
    struct send_answer back;
    struct header h;
    struct buf out;

    buf_init(&out, 0);
    header_init(&h);
    header_begin(&w, &out, HEADER_JSON,
                 &(struct header_out){.opaque = 9, .flag = HEADER_FLAG_RESPONSE});
    send_answer_encode(&w, &answer);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    decode_frame(&out, &h);
    assert_slice(header_str(&h, "MSG_REGION"), "DefaultRegion");
    assert_slice(header_str(&h, "TRACE_ON"), "true");
    ck_assert_int_eq(send_answer_decode(&h, &back), 0);
    assert_slice(back.msg_id, "7F00");
    assert_slice(back.transaction_id, "UNIQ");
    ck_assert_int_eq(back.queue_id, 2);
    ck_assert_int_eq(back.queue_offset, 77);
    decode_fields(&out, &h, incomplete);
    ck_assert_int_eq(send_answer_decode(&h, &back), ESCROW_EPROTO);
    header_fini(&h);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("send_request");

    tcase_add_test(tc, a_send_survives_the_round_trip);
    tcase_add_test(tc, optional_fields_have_defaults);
    tcase_add_test(tc, a_missing_field_is_named);
    tcase_add_test(tc, a_number_that_is_none_is_named);
    tcase_add_test(tc, properties_beyond_the_record_are_refused);
    tcase_add_test(tc, an_answer_has_what_java_reads);
    return run_tests(tc, "core/proto/send_request");
}
