/* 30001 ESCROW_END_TRANSACTION. */
#include "core/proto/body_end_txn.h"

#include "core/base/limits.h"
#include "tests/unit/core/proto/pack_test.h"

static const struct end_txn_half halves[] = {{{(const uint8_t *)"A1", 2}, 4096},
                                             {{(const uint8_t *)"B2", 2}, END_TXN_OFFSET_NONE},
                                             {{(const uint8_t *)"", 0}, 0}};

static const struct end_txn_result results[] = {
    {{(const uint8_t *)"A1", 2}, 0, TXN_COMMIT},
    {{(const uint8_t *)"B2", 2}, ESCROW_ECONFLICT, TXN_ROLLBACK},
    {{(const uint8_t *)"", 0}, ESCROW_ENOTFOUND, TXN_NONE}};

static int decode_request(struct slice body)
{
    struct end_txn_request req;
    struct end_txn_half half;
    int error = end_txn_request_decode(body, &req);

    while (error == 0 && end_txn_next_half(&req, &half)) {
        ck_assert(half.transaction_id.len > 0 || half.offset >= 0);
    }
    return error;
}

static int decode_answer(struct slice body)
{
    struct end_txn_answer answer;
    struct end_txn_result result;
    int error = end_txn_answer_decode(body, &answer);

    while (error == 0 && end_txn_next_result(&answer, &result)) {
        ck_assert_int_le(result.error, 0);
    }
    return error;
}

static void put_request(struct buf *out)
{
    struct end_txn_request req = {.producer_group = SLICE_LIT("pg"), .decision = TXN_COMMIT};

    end_txn_request_encode(out, &req, halves, 3);
}

static void put_answer(struct buf *out)
{
    end_txn_answer_begin(out, 3);
    for (int i = 0; i < 3; i++) {
        end_txn_answer_put(out, &results[i]);
    }
}

START_TEST(a_request_survives_the_round_trip)
{
    /* Shows: all fields, with and without an offset, in order. */
    struct end_txn_request req;
    struct end_txn_half half;
    struct buf out;

    buf_init(&out, 0);
    put_request(&out);
    ck_assert_int_eq(end_txn_request_decode(buf_slice(&out), &req), 0);
    assert_slice(req.producer_group, "pg");
    ck_assert_int_eq(req.decision, TXN_COMMIT);
    ck_assert(!req.is_operator);
    ck_assert_uint_eq(req.half_count, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert(end_txn_next_half(&req, &half));
        assert_same(half.transaction_id, halves[i].transaction_id);
        ck_assert_int_eq(half.offset, halves[i].offset);
    }
    ck_assert(!end_txn_next_half(&req, &half));
    buf_fini(&out);
}
END_TEST

START_TEST(the_request_has_the_documented_bytes)
{
    /*
     * Shows: the layout of the header comment, byte for byte; keys may come in any order, unknown
     * ones are skipped.
     */
    struct end_txn_request req = {
        .producer_group = SLICE_LIT("g"), .decision = TXN_ROLLBACK, .is_operator = true};
    struct buf out, want;

    buf_init(&out, 0);
    buf_init(&want, 0);
    end_txn_request_encode(&out, &req, halves, 1);
    put_hex(&want, "84 ad70726f647563657247726f7570 a167"
                   "   a86465636973696f6e 02"
                   "   a86f70657261746f72 c3"
                   "   a668616c766573 91 92 a24131 cd1000");
    assert_same(buf_slice(&out), buf_slice(&want));
    buf_clear(&want);
    put_hex(&want, "85 a668616c766573 91 94 a24131 c0 01 93010203" /* a row that has grown */
                   "   a3666f6f 81 a178 92 01 02"
                   "   a86f70657261746f72 c0"
                   "   a86465636973696f6e 01"
                   "   ad70726f647563657247726f7570 a0");
    ck_assert_int_eq(end_txn_request_decode(buf_slice(&want), &req), 0);
    ck_assert_uint_eq(req.half_count, 1);
    ck_assert(!req.is_operator);
    ck_assert_int_eq(req.decision, TXN_COMMIT);
    buf_fini(&want);
    buf_fini(&out);
}
END_TEST

START_TEST(requests_that_decide_nothing_are_refused)
{
    /*
     * Shows: no halves, no decision, an unknown decision, a half without id and offset, a negative
     * offset.
     */
    static const char *const bad[] = {
        "83 ad70726f647563657247726f7570 a167 a86465636973696f6e 01 a668616c766573 90",
        "82 ad70726f647563657247726f7570 a167 a668616c766573 91 92 a24131 c0",
        "83 ad70726f647563657247726f7570 a167 a86465636973696f6e 00 a668616c766573 91 92 a24131 c0",
        "83 ad70726f647563657247726f7570 a167 a86465636973696f6e 03 a668616c766573 91 92 a24131 c0",
        "83 ad70726f647563657247726f7570 a167 a86465636973696f6e c3 a668616c766573 91 92 a24131 c0",
        "83 ad70726f647563657247726f7570 a167 a86465636973696f6e 01 a668616c766573 91 92 a0 c0",
        "83 ad70726f647563657247726f7570 a167 a86465636973696f6e 01 a668616c766573 91 92 a24131 fe",
        "83 ad70726f647563657247726f7570 a167 a86465636973696f6e 01 a668616c766573 91 91 a24131",
        "83 ad70726f647563657247726f7570 a167 a86465636973696f6e 01 a668616c766573 80",
        "93 01 02 03",
        "c0",
        ""};
    struct end_txn_request req;
    struct buf body;

    buf_init(&body, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buf_clear(&body);
        put_hex(&body, bad[i]);
        ck_assert_msg(end_txn_request_decode(buf_slice(&body), &req) == ESCROW_EPROTO,
                      "accepted: %s", bad[i]);
    }
    buf_fini(&body);
}
END_TEST

START_TEST(the_number_of_halves_is_bounded)
{
    /* Shows: END_TXN_HALVES_MAX pass, one more is ESCROW_ELIMIT. */
    struct buf body;

    buf_init(&body, 0);
    for (unsigned more = 0; more < 2; more++) {
        buf_clear(&body);
        put_hex(&body,
                "83 ad70726f647563657247726f7570 a167 a86465636973696f6e 01 a668616c766573 dc");
        buf_append_be16(&body, (uint16_t)(END_TXN_HALVES_MAX + more));
        for (unsigned i = 0; i < END_TXN_HALVES_MAX + more; i++) {
            put_hex(&body, "92 a178 01");
        }
        ck_assert_int_eq(decode_request(buf_slice(&body)), more == 0 ? 0 : ESCROW_ELIMIT);
    }
    buf_fini(&body);
}
END_TEST

START_TEST(an_answer_survives_the_round_trip)
{
    /* Shows: errors and decisions of each half, in the order of the request. */
    struct end_txn_answer answer;
    struct end_txn_result result;
    struct buf out;

    buf_init(&out, 0);
    put_answer(&out);
    ck_assert_int_eq(end_txn_answer_decode(buf_slice(&out), &answer), 0);
    ck_assert_uint_eq(answer.count, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert(end_txn_next_result(&answer, &result));
        assert_same(result.transaction_id, results[i].transaction_id);
        ck_assert_int_eq(result.error, results[i].error);
        ck_assert_int_eq(result.decided, results[i].decided);
    }
    ck_assert(!end_txn_next_result(&answer, &result));
    buf_fini(&out);
}
END_TEST

START_TEST(hostile_bytes_are_harmless)
{
    /* Shows: every truncation, changed bytes, something behind the end. */
    struct buf out;

    buf_init(&out, 0);
    put_request(&out);
    ck_hostile(decode_request, &out);
    buf_clear(&out);
    put_answer(&out);
    ck_hostile(decode_answer, &out);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_end_txn");

    tcase_add_test(tc, a_request_survives_the_round_trip);
    tcase_add_test(tc, the_request_has_the_documented_bytes);
    tcase_add_test(tc, requests_that_decide_nothing_are_refused);
    tcase_add_test(tc, the_number_of_halves_is_bounded);
    tcase_add_test(tc, an_answer_survives_the_round_trip);
    tcase_add_test(tc, hostile_bytes_are_harmless);
    return run_tests(tc, "core/proto/body_end_txn");
}
