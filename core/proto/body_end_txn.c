#include "core/proto/body_end_txn.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/body_pack.h"
#include "escrow/errors.h"

#define HALF_ELEMENTS   2
#define RESULT_ELEMENTS 3

/* ---- request ---- */

static int read_half(struct scan *s, struct end_txn_half *half)
{
    struct pack_row row;
    int error = pack_row_begin(s, HALF_ELEMENTS, &row);

    if (error == 0) {
        error = scan_str(s, &half->transaction_id);
    }
    if (error == 0) {
        error = pack_read_i64_or_nil(s, END_TXN_OFFSET_NONE, &half->offset);
    }
    if (error == 0) {
        error = pack_row_end(s, &row);
    }
    if (error == 0 && (half->transaction_id.len > TXN_ID_LEN_MAX ||
                       (half->transaction_id.len == 0 && half->offset < 0) ||
                       half->offset < END_TXN_OFFSET_NONE)) {
        error = ESCROW_EPROTO;
    }
    return error;
}

int end_txn_request_decode(struct slice body, struct end_txn_request *req)
{
    struct wire {
        struct end_txn_request req;
        uint32_t decision;
    } in = {0};
    static const struct pack_field fields[] = {
        {"producerGroup", PACK_TEXT, offsetof(struct wire, req.producer_group), 0, true},
        {"decision", PACK_U32, offsetof(struct wire, decision), 0, true},
        {"operator", PACK_BOOL, offsetof(struct wire, req.is_operator), 0, false},
        {"halves", PACK_ROWS, offsetof(struct wire, req.halves),
         offsetof(struct wire, req.half_count), true}};
    struct end_txn_half half;
    struct scan rows;
    int error = pack_read_body(body, fields, PACK_COUNT(fields), &in);

    if (error != 0) {
        return error;
    }
    if ((in.decision != TXN_COMMIT && in.decision != TXN_ROLLBACK) || in.req.half_count == 0 ||
        in.req.producer_group.len > GROUP_LEN_MAX) {
        return ESCROW_EPROTO;
    }
    if (in.req.half_count > END_TXN_HALVES_MAX) {
        return ESCROW_ELIMIT;
    }
    rows = in.req.halves;
    for (uint32_t i = 0; error == 0 && i < in.req.half_count; i++) {
        error = read_half(&rows, &half);
    }
    *req = in.req;
    req->decision = (enum txn_decision)in.decision;
    return error;
}

bool end_txn_next_half(struct end_txn_request *req, struct end_txn_half *half)
{
    int error;

    if (req->half_index == req->half_count) {
        return false;
    }
    error = read_half(&req->halves, half);
    CHECK(error == 0); /* decode has read it */
    req->half_index++;
    return true;
}

void end_txn_request_encode(struct buf *out, const struct end_txn_request *req,
                            const struct end_txn_half *halves, uint32_t count)
{
    msgpack_packer pk = pack_to(out);

    CHECK(count >= 1);
    CHECK(count <= END_TXN_HALVES_MAX);
    CHECK(req->decision == TXN_COMMIT || req->decision == TXN_ROLLBACK);
    pack_map(&pk, 4);
    pack_key(&pk, "producerGroup");
    pack_text(&pk, req->producer_group);
    pack_key(&pk, "decision");
    pack_u64(&pk, (uint64_t)req->decision);
    pack_key(&pk, "operator");
    pack_bool(&pk, req->is_operator);
    pack_key(&pk, "halves");
    pack_array(&pk, count);
    for (uint32_t i = 0; i < count; i++) {
        pack_array(&pk, HALF_ELEMENTS);
        pack_text(&pk, halves[i].transaction_id);
        pack_i64_or_nil(&pk, halves[i].offset, END_TXN_OFFSET_NONE);
    }
}

/* ---- answer ---- */

void end_txn_answer_begin(struct buf *out, uint32_t count)
{
    msgpack_packer pk = pack_to(out);

    pack_map(&pk, 1);
    pack_key(&pk, "results");
    pack_array(&pk, count);
}

void end_txn_answer_put(struct buf *out, const struct end_txn_result *result)
{
    msgpack_packer pk = pack_to(out);

    pack_array(&pk, RESULT_ELEMENTS);
    pack_text(&pk, result->transaction_id);
    pack_i64(&pk, result->error);
    pack_u64(&pk, (uint64_t)result->decided);
}

static int read_result(struct scan *s, struct end_txn_result *result)
{
    struct pack_row row;
    int32_t number = 0;
    uint32_t decided = TXN_NONE;
    int error = pack_row_begin(s, RESULT_ELEMENTS, &row);

    if (error == 0) {
        error = scan_str(s, &result->transaction_id);
    }
    if (error == 0) {
        error = scan_i32(s, &number);
    }
    if (error == 0) {
        error = scan_u32(s, &decided);
    }
    if (error == 0) {
        error = pack_row_end(s, &row);
    }
    if (error == 0 && (number > 0 || decided > TXN_ROLLBACK)) {
        error = ESCROW_EPROTO;
    }
    result->error = number;
    result->decided = (enum txn_decision)decided;
    return error;
}

int end_txn_answer_decode(struct slice body, struct end_txn_answer *answer)
{
    static const struct pack_field fields[] = {{"results", PACK_ROWS,
                                                offsetof(struct end_txn_answer, results),
                                                offsetof(struct end_txn_answer, count), true}};
    struct end_txn_result result;
    struct scan rows;
    int error;

    *answer = (struct end_txn_answer){0};
    error = pack_read_body(body, fields, PACK_COUNT(fields), answer);
    if (error == 0 && answer->count > END_TXN_HALVES_MAX) {
        error = ESCROW_ELIMIT;
    }
    rows = answer->results;
    for (uint32_t i = 0; error == 0 && i < answer->count; i++) {
        error = read_result(&rows, &result);
    }
    return error;
}

bool end_txn_next_result(struct end_txn_answer *answer, struct end_txn_result *result)
{
    int error;

    if (answer->index == answer->count) {
        return false;
    }
    error = read_result(&answer->results, result);
    CHECK(error == 0); /* decode has read it */
    answer->index++;
    return true;
}
