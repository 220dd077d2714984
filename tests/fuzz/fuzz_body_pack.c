/*
 * MessagePack bodies of our own requests and answers: the first byte picks the decoder. What decode
 * has accepted, the row functions must read; what is written again must be accepted again.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/body_escrow.h"
#include "escrow/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int try_end_txn(struct slice in, struct buf *out)
{
    struct end_txn_request req;
    struct end_txn_half *halves;
    uint32_t count = 0;
    int error = end_txn_request_decode(in, &req);

    if (error != 0) {
        return error;
    }
    CHECK(req.half_count <= END_TXN_HALVES_MAX);
    halves = mem_calloc(req.half_count, sizeof *halves);
    while (halves != NULL && end_txn_next_half(&req, &halves[count])) {
        count++;
    }
    CHECK(count == req.half_count);
    end_txn_request_encode(out, &req, halves, count);
    mem_free(halves);
    return 0;
}

static int try_end_txn_answer(struct slice in, struct buf *out)
{
    struct end_txn_answer answer;
    struct end_txn_result result;
    int error = end_txn_answer_decode(in, &answer);

    if (error == 0) {
        end_txn_answer_begin(out, answer.count);
        while (end_txn_next_result(&answer, &result)) {
            end_txn_answer_put(out, &result);
        }
    }
    return error;
}

static int try_publish(struct slice in, struct buf *out)
{
    struct publish_reader r;
    struct publish_writer w;
    struct publish_row row;
    size_t bytes;
    int more;
    int error = publish_reader_begin(&r, in);

    if (error == 0) {
        error = publish_check(&r, &bytes);
    }
    if (error != 0) {
        return error;
    }
    publish_begin(&w, out, &r.head);
    while ((more = publish_reader_next(&r, &row)) == 1) {
        size_t before = out->len;
        publish_put(&w, &row);
        CHECK(out->len - before <= publish_row_size_max(&row));
    }
    CHECK(more == 0);
    CHECK(publish_end(&w, r.next) == r.row_count);
    return 0;
}

static int try_publish_answer(struct slice in, struct buf *out)
{
    struct publish_answer answer;
    int error = publish_answer_decode(in, &answer);

    if (error == 0) {
        publish_answer_encode(out, &answer);
    }
    return error;
}

static int try_open(struct slice in, struct buf *out)
{
    struct source_open_request req;
    int error = source_open_request_decode(in, &req);

    if (error == 0) {
        source_open_request_encode(out, &req);
    }
    return error;
}

static int try_open_answer(struct slice in, struct buf *out)
{
    struct source_open_answer answer;
    int error = source_open_answer_decode(in, &answer);

    if (error == 0) {
        source_open_answer_encode(out, &answer);
    }
    return error;
}

static int try_list_txn(struct slice in, struct buf *out)
{
    struct list_reader r;
    struct list_writer w;
    struct list_txn_row row;
    int error = list_txn_decode(in, &r);

    if (error == 0) {
        list_txn_begin(&w, out);
        while (list_txn_next(&r, &row)) {
            list_txn_put(&w, &row);
        }
        list_txn_end(&w, r.has_more, r.cursor);
    }
    return error;
}

static int try_list_txn_request(struct slice in, struct buf *out)
{
    struct list_txn_request req;
    int error = list_txn_request_decode(in, &req);

    if (error == 0) {
        list_txn_request_encode(out, &req);
    }
    return error;
}

static int try_status(struct slice in, struct buf *out)
{
    struct list_reader r;
    struct list_writer w;
    struct metric_row row;
    int error = status_decode(in, &r);

    if (error == 0) {
        status_begin(&w, out);
        while (status_next(&r, &row)) {
            status_put(&w, &row);
        }
        status_end(&w);
    }
    return error;
}

static int try_groups(struct slice in, struct buf *out)
{
    struct list_reader r;
    struct list_writer w;
    struct group_row row;
    int error = list_groups_decode(in, &r);

    if (error == 0) {
        list_groups_begin(&w, out);
        while (list_groups_next(&r, &row)) {
            list_groups_put(&w, &row);
        }
        list_groups_end(&w);
    }
    return error;
}

static int try_groups_request(struct slice in, struct buf *out)
{
    struct slice group;
    int error = list_groups_request_decode(in, &group);

    if (error == 0) {
        list_groups_request_encode(out, group);
    }
    return error;
}

static int try_horizon(struct slice in, struct buf *out)
{
    struct txn_horizon horizon;
    int error = txn_horizon_decode(in, &horizon);

    if (error == 0) {
        txn_horizon_encode(out, &horizon);
    }
    return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const tries[])(struct slice in, struct buf * out) = {
        try_end_txn, try_end_txn_answer, try_publish,        try_publish_answer,
        try_open,    try_open_answer,    try_list_txn,       try_list_txn_request,
        try_status,  try_groups,         try_groups_request, try_horizon};
    struct buf once, twice;
    int error;

    if (size == 0 || data[0] >= sizeof tries / sizeof tries[0]) {
        return 0;
    }
    buf_init(&once, 0);
    buf_init(&twice, 0);
    error = tries[data[0]](slice_of(data + 1, size - 1), &once);
    CHECK(error == 0 || error == ESCROW_EPROTO || error == ESCROW_ELIMIT ||
          error == ESCROW_ETOOBIG);
    if (error == 0) {
        CHECK(tries[data[0]](buf_slice(&once), &twice) == 0);
        CHECK(slice_eq(buf_slice(&once), buf_slice(&twice)));
    }
    buf_fini(&twice);
    buf_fini(&once);
    return 0;
}
