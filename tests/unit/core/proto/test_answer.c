#include "core/proto/answer.h"

#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

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
}

static void decode_answer(void)
{
    struct frame frame;

    ck_assert_int_eq(frame_decode(buf_slice(&out), &frame), 0);
    ck_assert_int_eq(header_decode(&h, frame.type, frame.header), 0);
    ck_assert_uint_eq(frame.size, out.len);
}

static const struct {
    const char *name;
    int number;
} errors[] = {
#define X(name, number, class_, text) {#name, number},
    ESCROW_ERRORS(X)
#undef X
};
#define ERROR_COUNT ((int)(sizeof errors / sizeof errors[0]))

START_TEST(every_error_crosses_the_wire_unchanged)
{
    /*
     * All of the table in all encodings: the same number at the other end, in the encoding and with
     * the opaque of the request.
     */
    int i;

    for (i = 0; i < ERROR_COUNT; i++) {
        struct answer_to to = {.type = (enum header_type)_i, .opaque = 1000 + i};

        buf_clear(&out);
        ck_assert_int_eq(answer_error(&out, to, -1, errors[i].number, NULL), 0);
        decode_answer();
        ck_assert_int_eq(h.type, _i);
        ck_assert_int_eq(h.opaque, 1000 + i);
        ck_assert_int_eq(h.flag, HEADER_FLAG_RESPONSE);
        ck_assert_int_eq(h.code, answer_code(errors[i].number));
        assert_slice(h.remark, escrow_strerror(errors[i].number));
        ck_assert_msg(answer_result(&h) == errors[i].number, "%s became %d", errors[i].name,
                      answer_result(&h));
    }
}
END_TEST

START_TEST(every_error_has_a_response_code)
{
    /* The mapping names every error once; only success is 0. */
    static const int mapped[] = {
#define X(name, response) ESCROW_##name,
        ANSWER_ERRORS(X)
#undef X
    };
    int i;

    ck_assert_uint_eq(sizeof mapped / sizeof mapped[0], (size_t)ERROR_COUNT);
    for (i = 0; i < ERROR_COUNT; i++) {
        ck_assert_int_eq(mapped[i], errors[i].number);
        ck_assert_int_eq(answer_code(errors[i].number) == RESPONSE_SUCCESS, errors[i].number == 0);
    }
    ck_assert_int_eq(answer_code(-9999), RESPONSE_SYSTEM_ERROR);
}
END_TEST

START_TEST(an_error_keeps_its_own_code_and_text)
{
    /*
     * A handler that must answer with RocketMQ's code says both: the code for others, the error for
     * us.
     */
    struct answer_to to = {.type = HEADER_JSON, .opaque = 5};

    ck_assert_int_eq(answer_error(&out, to, RESPONSE_SUBSCRIPTION_GROUP_NOT_EXIST, ESCROW_ENOTFOUND,
                                  "subscription group [g] does not exist"),
                     0);
    decode_answer();
    ck_assert_int_eq(h.code, 26);
    assert_slice(h.remark, "subscription group [g] does not exist");
    assert_slice(header_str(&h, "escrowError"), "-15");
    assert_slice(header_str(&h, "escrowClass"), "ABORT");
    ck_assert_int_eq(answer_result(&h), ESCROW_ENOTFOUND);
}
END_TEST

START_TEST(one_way_requests_are_never_answered)
{
    /* Neither with success nor with an error. */
    struct answer_to to = {.type = HEADER_JSON, .opaque = 5, .is_oneway = true};

    ck_assert_int_eq(answer_error(&out, to, -1, ESCROW_EBUSY, NULL), 0);
    ck_assert_int_eq(answer_empty(&out, to, RESPONSE_SUCCESS, SLICE_EMPTY), 0);
    ck_assert_uint_eq(out.len, 0);
}
END_TEST

START_TEST(an_answer_to_a_oneway_request_is_a_bug)
{
    /* answer_begin cannot know what to leave out, so it stops the program. */
    struct header_writer w;
    struct answer_to to = {.type = HEADER_JSON, .opaque = 5, .is_oneway = true};

    answer_begin(&w, &out, to, RESPONSE_SUCCESS, SLICE_EMPTY);
}
END_TEST

START_TEST(what_to_answer_is_taken_from_the_request)
{
    /* Type, opaque and the one-way bit. */
    struct answer_to to;

    ck_assert_int_eq(header_encode(&out, HEADER_MSGPACK,
                                   &(struct header_out){.code = 34, .opaque = 77, .flag = 2},
                                   SLICE_EMPTY),
                     0);
    decode_answer();
    to = answer_to(&h);
    ck_assert_int_eq(to.type, HEADER_MSGPACK);
    ck_assert_int_eq(to.opaque, 77);
    ck_assert(to.is_oneway);
}
END_TEST

START_TEST(answers_of_other_servers_become_the_nearest_error)
{
    /*
     * Without our field the code decides; a success is a success; a positive escrowError is
     * nobody's.
     */
    static const struct {
        int32_t code;
        int error;
    } rows[] = {
        {RESPONSE_SUCCESS, 0},
        {RESPONSE_SYSTEM_ERROR, ESCROW_EBUSY},
        {RESPONSE_SYSTEM_BUSY, ESCROW_EBUSY},
        {RESPONSE_FLUSH_DISK_TIMEOUT, ESCROW_ETIMEOUT},
        {RESPONSE_MESSAGE_ILLEGAL, ESCROW_EINVAL},
        {RESPONSE_SERVICE_NOT_AVAILABLE, ESCROW_ESHUTDOWN},
        {RESPONSE_NO_PERMISSION, ESCROW_EPERM},
        {RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE},
        {RESPONSE_PULL_NOT_FOUND, ESCROW_EAGAIN},
        {RESPONSE_QUERY_NOT_FOUND, ESCROW_ENOTFOUND},
        {RESPONSE_REQUEST_CODE_NOT_SUPPORTED, ESCROW_ENOTSUP},
        {RESPONSE_ILLEGAL_OPERATION, ESCROW_EREJECTED},
        {31999, ESCROW_EREJECTED},
    };
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct answer_to to = {.type = HEADER_ROCKETMQ, .opaque = 1};
        buf_clear(&out);
        ck_assert_int_eq(answer_empty(&out, to, rows[i].code, SLICE_EMPTY), 0);
        decode_answer();
        ck_assert_int_eq(answer_result(&h), rows[i].error);
    }
    buf_clear(&out);
    put_hex(&out, "00000025 02000021 97 01 01 07 cd0199 00 c0 de0001 ab657363726f774572726f72 05");
    out.ptr[3] = (uint8_t)(out.len - 4);
    out.ptr[7] = (uint8_t)(out.len - 8);
    decode_answer();
    ck_assert_int_eq(answer_result(&h), ESCROW_EBUSY);
}
END_TEST

START_TEST(codes_and_languages_have_names)
{
    /* For logs and tools; what is not in the tables is "?". */
    ck_assert_str_eq(request_code_name(310), "SEND_MESSAGE_V2");
    ck_assert_str_eq(request_code_name(30001), "ESCROW_END_TRANSACTION");
    ck_assert_str_eq(request_code_name(-1), "?");
    ck_assert_str_eq(response_code_name(17), "TOPIC_NOT_EXIST");
    ck_assert_str_eq(response_code_name(9), "?");
    ck_assert_str_eq(language_name(LANGUAGE_NODE_JS), "NODE_JS");
    ck_assert_str_eq(language_name(200), "?");
    ck_assert_int_eq(language_by_name(SLICE_LIT("PYTHON")), LANGUAGE_PYTHON);
    ck_assert_int_eq(language_by_name(SLICE_LIT("python")), LANGUAGE_OTHER);
    ck_assert_int_eq(language_by_number(13), LANGUAGE_NODE_JS);
    ck_assert_int_eq(language_by_number(14), LANGUAGE_OTHER);
    ck_assert_int_eq(language_by_number(-1), LANGUAGE_OTHER);
    ck_assert_int_eq(language_by_number(256), LANGUAGE_OTHER);
}
END_TEST

START_TEST(own_codes_fit_in_every_encoding)
{
    /* ROCKETMQ headers have 16 bits, signed; popping's codes, RocketMQ's own, do not fit. */
    static const int codes[] = {
#define X(name, number) number,
        REQUEST_CODES(X) RESPONSE_CODES(X)
#undef X
    };
    size_t i;

    for (i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        ck_assert_int_ge(codes[i], 0);
        ck_assert(codes[i] <= 32767 || codes[i] >= REQUEST_POP_MESSAGE);
    }
}
END_TEST

START_TEST(a_remark_is_valid_utf8_whatever_a_client_sent)
{
    /* Names that are no text are quoted in remarks; readers of JSON refuse what is malformed. */
    struct answer_to to = {.type = HEADER_JSON, .opaque = 5};

    ck_assert_int_eq(answer_error(&out, to, -1, ESCROW_EINVAL, "topic \xC3\xA9\xFF\xE2\x82"), 0);
    decode_answer();
    assert_slice(h.remark, "topic \xC3\xA9???");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("answer");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, every_error_crosses_the_wire_unchanged, 0, HEADER_TYPE_COUNT);
    tcase_add_test(tests, every_error_has_a_response_code);
    tcase_add_test(tests, an_error_keeps_its_own_code_and_text);
    tcase_add_test(tests, a_remark_is_valid_utf8_whatever_a_client_sent);
    tcase_add_test(tests, one_way_requests_are_never_answered);
    tcase_add_test_raise_signal(tests, an_answer_to_a_oneway_request_is_a_bug, SIGABRT);
    tcase_add_test(tests, what_to_answer_is_taken_from_the_request);
    tcase_add_test(tests, answers_of_other_servers_become_the_nearest_error);
    tcase_add_test(tests, codes_and_languages_have_names);
    tcase_add_test(tests, own_codes_fit_in_every_encoding);
    return run_tests(tests, "core/proto/answer");
}
