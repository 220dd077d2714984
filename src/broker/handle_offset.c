/*
 * Offsets: QUERY_CONSUMER_OFFSET 14, UPDATE_CONSUMER_OFFSET 15, SEARCH_OFFSET_BY_TIMESTAMP 29,
 * GET_MAX_OFFSET 30, GET_MIN_OFFSET 31, GET_EARLIEST_MSG_STORETIME 32 (PROTOCOL.md, "Offsets").
 *
 * An update that asks for an answer gets it when the offset is durable. One-way updates and those
 * that ride on a pull are written together by offsets_flush, which a timer calls.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/offsets_flush.h"
#include "src/broker/read_job.h"

#include <strings.h>

#define OFFSETS_RECORD_BYTES 65536

int offsets_flush(struct broker *b)
{
    bool has_more = offsets_is_dirty(&b->offsets);
    int rc = 0;

    while (has_more && rc == 0) {
        struct store_receipt receipt;
        buf_clear(&b->scratch);
        has_more = offsets_take_dirty(&b->offsets, &b->scratch, OFFSETS_RECORD_BYTES);
        if (buf_failed(&b->scratch)) {
            return ESCROW_ENOMEM; /* nothing was taken */
        }
        if (b->scratch.len == 0) {
            break;
        }
        rc = store_append_raw(b->store, STORE_OFFSETS, buf_slice(&b->scratch), NULL, &receipt);
        if (rc != 0) {
            offsets_redirty(&b->offsets, buf_slice(&b->scratch));
        }
    }
    return rc;
}

bool offset_is_taken(struct broker *b, struct slice group, const struct store_queue_ref *queue,
                     int64_t offset)
{
    int64_t min_offset = 0;
    int64_t max_offset = 0;

    if (offset <= 0 ||
        (store_queue_range(b->store, queue, &min_offset, &max_offset) && offset <= max_offset)) {
        return true;
    }
    b->metrics.pulls_beyond_end++;
    log_peer_warn(
        "offset.beyond_end",
        "group %.*s says it has consumed up to %lld of topic %.*s queue %u, which ends at "
        "%lld (was the broker put back to an older state?): not taken",
        SLICE_ARGS(group), (long long)offset, SLICE_ARGS(queue->topic), queue->queue_id,
        (long long)max_offset);
    return false;
}

struct queue_field {
    struct slice topic;
    int32_t queue_id;
};

/* topic and queueId of a topic that exists. false when the request was answered with an error. */
static bool queue_decode(struct request *req, struct queue_field *in)
{
    const struct topic *topic;

    if (header_get_str(req->header, "topic", &in->topic) != 0 ||
        header_get_i32(req->header, "queueId", &in->queue_id) != 0 || in->queue_id < 0 ||
        in->queue_id >= QUEUES_PER_TOPIC_MAX) {
        request_fail(req, -1, ESCROW_EINVAL, "field topic or queueId is missing or malformed");
        return false;
    }
    topic = topics_find(&req->broker->topics, in->topic);
    if (topic == NULL) {
        request_fail(req, RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE, "topic[%.*s] not exist",
                     (int)(in->topic.len > 255 ? 255 : in->topic.len), (const char *)in->topic.ptr);
        return false;
    }
    return true;
}

/* Offsets are kept for queues that the topic has: clients cannot make the table grow at will. */
static bool queue_exists(const struct broker *b, const struct queue_field *in)
{
    const struct topic *topic = topics_find(&b->topics, in->topic);

    return topic != NULL && ((uint32_t)in->queue_id < topic->read_queues ||
                             (uint32_t)in->queue_id < topic->write_queues);
}

static void answer_offset(struct request *req, const char *field, int64_t offset)
{
    struct header_writer w;

    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_i64(&w, field, offset);
        header_end(&w);
        request_end(req, &w);
    }
}

static void queue_range(struct request *req, const struct queue_field *in, int64_t *min_offset,
                        int64_t *max_offset)
{
    struct store_queue_ref ref = {.topic = in->topic, .queue_id = (uint32_t)in->queue_id};

    if (!store_queue_range(req->broker->store, &ref, min_offset, max_offset)) {
        *min_offset = *max_offset = 0;
    }
}

void handle_query_offset(struct request *req)
{
    struct queue_field in;
    struct slice group = SLICE_EMPTY;
    bool set_zero = true;
    int64_t offset = 0;
    int64_t min_offset;
    int64_t max_offset;

    if (header_get_str(req->header, "consumerGroup", &group) != 0 ||
        header_opt_bool(req->header, "setZeroIfNotFound", &set_zero) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field consumerGroup is missing");
        return;
    }
    if (!queue_decode(req, &in)) {
        return;
    }
    if (offsets_find(&req->broker->offsets, group, in.topic, (uint32_t)in.queue_id, &offset)) {
        answer_offset(req, "offset", offset);
        return;
    }
    /*
     * A new group on a young queue begins at its first message, whatever its consumers say: nothing
     * is skipped.
     */
    queue_range(req, &in, &min_offset, &max_offset);
    if (set_zero && min_offset == 0 && queue_exists(req->broker, &in)) {
        answer_offset(req, "offset", 0);
        return;
    }
    request_fail(req, RESPONSE_QUERY_NOT_FOUND, ESCROW_ENOTFOUND,
                 "Not found, maybe this group consumer boot first");
}

static void update_answered(struct broker *b, struct pending *p, int error)
{
    (void)b;
    if (error == 0) {
        deferred_ok(&p->deferred);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
}

void handle_update_offset(struct request *req)
{
    struct broker *b = req->broker;
    struct queue_field in;
    struct slice group = SLICE_EMPTY;
    int64_t offset = -1;
    int rc;

    if (header_get_str(req->header, "consumerGroup", &group) != 0 || name_check_group(group) != 0 ||
        header_get_i64(req->header, "commitOffset", &offset) != 0) {
        request_fail(req, -1, ESCROW_EINVAL,
                     "field consumerGroup or commitOffset is missing or malformed");
        return;
    }
    if (!queue_decode(req, &in)) {
        return;
    }
    rc = queue_exists(b, &in) ? pump_reserve(&b->pump) : ESCROW_EINVAL;
    if (rc == 0 && (!req->to.is_oneway ||
                    offset_is_taken(b, group,
                                    &(struct store_queue_ref){.topic = in.topic,
                                                              .queue_id = (uint32_t)in.queue_id},
                                    offset))) {
        rc = offsets_note(&b->offsets, group, in.topic, (uint32_t)in.queue_id, offset);
    }
    if (rc == 0 && !req->to.is_oneway) {
        rc = offsets_flush(b);
    }
    if (rc != 0) {
        request_fail(req, -1, rc, "offset not stored: %s", escrow_strerror(rc));
    } else if (req->to.is_oneway) {
        request_ok(req);
    } else {
        (void)pump_wait(&b->pump, pump_tail(&b->pump), false, update_answered, request_defer(req));
    }
}

void handle_max_offset(struct request *req)
{
    struct queue_field in;
    int64_t min_offset;
    int64_t max_offset;

    if (queue_decode(req, &in)) {
        queue_range(req, &in, &min_offset, &max_offset);
        answer_offset(req, "offset", max_offset);
    }
}

void handle_min_offset(struct request *req)
{
    struct queue_field in;
    int64_t min_offset;
    int64_t max_offset;

    if (queue_decode(req, &in)) {
        queue_range(req, &in, &min_offset, &max_offset);
        answer_offset(req, "offset", min_offset);
    }
}

/* ---- by time: may have to read records ---- */

/* number = time; number2 = 0 the first message of it or after it, 1 the last of it or before it */
static int search_step(struct read_job *job, struct err_ctx *err)
{
    struct store_queue_ref ref = {.topic = slice_str(job->topic), .queue_id = job->queue_id};
    int64_t time_ms = job->number < INT64_MAX ? job->number + job->number2 : job->number;
    int64_t min_offset;
    int64_t max_offset;
    int rc = store_offset_by_time(job->broker->store, &ref, time_ms, job->fetch, &job->result, err);

    if (rc == ESCROW_ENOTFOUND) {
        job->result = 0;
        return 0;
    }
    if (rc == 0 && job->number2 == 1) {
        (void)store_queue_range(job->broker->store, &ref, &min_offset, &max_offset);
        job->result = job->result > min_offset ? job->result - 1 : min_offset;
    }
    return rc;
}

static void search_done(struct read_job *job)
{
    struct header_writer w;

    if (deferred_begin(&job->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_i64(&w, "offset", job->result);
        header_end(&w);
        deferred_end(&job->deferred, &w);
    }
}

void handle_search_offset(struct request *req)
{
    struct queue_field in;
    struct read_job *job;
    struct slice boundary = SLICE_EMPTY;
    int64_t timestamp = 0;

    if (!queue_decode(req, &in)) {
        return;
    }
    if (header_get_i64(req->header, "timestamp", &timestamp) != 0 ||
        header_opt_str(req->header, "boundaryType", &boundary) != 0) {
        request_fail(req, -1, ESCROW_EINVAL,
                     "field timestamp or boundaryType is missing or malformed");
        return;
    }
    job = read_job_new(req, search_step, search_done);
    if (job != NULL) {
        (void)slice_to_cstr(in.topic, job->topic, sizeof job->topic);
        job->queue_id = (uint32_t)in.queue_id;
        job->number = timestamp;
        job->number2 =
            boundary.len == 5 && strncasecmp((const char *)boundary.ptr, "upper", 5) == 0;
        read_job_start(job);
    }
}

static int earliest_step(struct read_job *job, struct err_ctx *err)
{
    struct store_queue_ref ref = {.topic = slice_str(job->topic), .queue_id = job->queue_id};
    struct store_entry_ref first;
    struct store_record rec;
    int64_t min_offset;
    int64_t max_offset;
    int rc;

    job->result = -1;
    if (!store_queue_range(job->broker->store, &ref, &min_offset, &max_offset) ||
        min_offset == max_offset) {
        return 0;
    }
    first = (struct store_entry_ref){ref.topic, ref.queue_id, min_offset};
    rc = store_read_entry(job->broker->store, &first, job->fetch, &job->body, &rec, err);
    if (rc == 0) {
        job->result = rec.store_ms;
    }
    return rc;
}

static void earliest_done(struct read_job *job)
{
    struct header_writer w;

    if (deferred_begin(&job->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_i64(&w, "timestamp", job->result);
        header_end(&w);
        deferred_end(&job->deferred, &w);
    }
}

void handle_earliest_time(struct request *req)
{
    struct queue_field in;
    struct read_job *job;

    if (!queue_decode(req, &in)) {
        return;
    }
    job = read_job_new(req, earliest_step, earliest_done);
    if (job != NULL) {
        (void)slice_to_cstr(in.topic, job->topic, sizeof job->topic);
        job->queue_id = (uint32_t)in.queue_id;
        read_job_start(job);
    }
}
