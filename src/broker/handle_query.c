/*
 * Look-ups: QUERY_MESSAGE 12 by key, VIEW_MESSAGE_BY_ID 33 by physical offset (PROTOCOL.md, "Look-ups"). A half that was not
 * committed is found by neither.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"

#define QUERY_RESULTS_MAX 64

/* ---- by key ---- */

/* Append the records that have the key; from the beginning, at each call. */
static int query_step(struct read_job *job, struct err_ctx *err)
{
    uint64_t offsets[QUERY_RESULTS_MAX];
    struct store *st = job->broker->store;
    struct store_key_query query = {.topic = slice_str(job->topic),
                                    .key = buf_slice(&job->key),
                                    .begin_ms = job->number,
                                    .end_ms = job->number2,
                                    .max = job->count};
    uint32_t count = 0;
    struct buf one;
    int rc = store_query_key(st, &query, job->fetch, offsets, &count, err);

    buf_clear(&job->body);
    buf_init(&one, 0);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        struct store_record rec;
        rc = store_read_record(st, offsets[i], job->fetch, &one, &rec, err);
        if (rc == 0) {
            buf_append_slice(&job->body, rec.payload);
            job->result = rec.store_ms;
            job->offset = rec.offset;
        }
    }
    buf_fini(&one);
    if (rc == 0 && buf_failed(&job->body)) {
        rc = err_set(err, ESCROW_ETOOBIG, "more messages than fit in one answer");
    }
    if (rc == 0 && count == 0) {
        rc = err_set(err, ESCROW_ENOTFOUND, "can not find message, maybe time range not correct");
    }
    return rc;
}

static void query_done(struct read_job *job)
{
    struct header_writer w;

    if (deferred_begin(&job->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_i64(&w, "indexLastUpdateTimestamp", job->result);
        header_put_i64(&w, "indexLastUpdatePhyoffset", (int64_t)job->offset);
        header_end(&w);
        buf_append_slice(w.buf, buf_slice(&job->body));
        deferred_end(&job->deferred, &w);
    }
}

void handle_query_key(struct request *req)
{
    struct slice topic = SLICE_EMPTY;
    struct slice key = SLICE_EMPTY;
    int64_t begin_ms = 0;
    int64_t end_ms = INT64_MAX;
    int32_t max = 32;
    struct read_job *job;

    if (header_get_str(req->header, "topic", &topic) != 0 || name_check_topic(topic) != 0 ||
        header_get_str(req->header, "key", &key) != 0 || key.len == 0 ||
        header_opt_i32(req->header, "maxNum", &max) != 0 ||
        header_opt_i64(req->header, "beginTimestamp", &begin_ms) != 0 ||
        header_opt_i64(req->header, "endTimestamp", &end_ms) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "query: a field is missing or malformed");
        return;
    }
    job = read_job_new(req, query_step, query_done);
    if (job == NULL) {
        return;
    }
    (void)slice_to_cstr(topic, job->topic, sizeof job->topic);
    buf_append_slice(&job->key, key);
    job->number = begin_ms;
    job->number2 = end_ms;
    job->count = max < 1 ? 1 : max > QUERY_RESULTS_MAX ? QUERY_RESULTS_MAX : (uint32_t)max;
    job->not_found_code = RESPONSE_QUERY_NOT_FOUND;
    read_job_start(job);
}

/* ---- by physical offset ---- */

static int view_step(struct read_job *job, struct err_ctx *err)
{
    struct store *st = job->broker->store;
    struct store_record rec;
    int rc = store_read_record(st, job->offset, job->fetch, &job->body, &rec, err);

    if (rc == 0 && rec.type == STORE_HALF) {
        int released = store_half_is_released(st, job->offset, job->fetch, err);
        rc = released == 1 ? 0 : released == 0 ? ESCROW_ENOTFOUND : released;
    } else if (rc == 0 && rec.type != STORE_MESSAGE) {
        rc = ESCROW_ENOTFOUND;
    }
    if (rc == ESCROW_ENOTFOUND) {
        return err_set(err, rc, "can not find message by the offset, %llu",
                       (unsigned long long)job->offset);
    }
    if (rc == 0) {
        size_t skip = (size_t)(rec.payload.ptr - job->body.ptr);
        size_t len = rec.payload.len;
        buf_consume(&job->body, skip);
        job->body.len = len;
        if (rec.type == STORE_HALF) {
            record_patch_sys_flag(job->body.ptr,
                                  (record_peek_sys_flag(job->body.ptr) & ~SYSFLAG_TXN_MASK) |
                                      SYSFLAG_TXN_COMMIT);
        }
    }
    return rc;
}

static void view_done(struct read_job *job)
{
    struct header_writer w;

    if (deferred_begin(&job->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        buf_append_slice(w.buf, buf_slice(&job->body));
        deferred_end(&job->deferred, &w);
    }
}

void handle_view_message(struct request *req)
{
    int64_t offset = -1;
    struct read_job *job;

    if (header_get_i64(req->header, "offset", &offset) != 0 || offset < 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field offset is missing or malformed");
        return;
    }
    job = read_job_new(req, view_step, view_done);
    if (job != NULL) {
        job->offset = (uint64_t)offset;
        job->not_found_code = RESPONSE_SYSTEM_ERROR;
        read_job_start(job);
    }
}
