/*
 * Look-ups: QUERY_MESSAGE 12 by key, VIEW_MESSAGE_BY_ID 33 by physical offset, QUERY_CONSUME_QUEUE
 * 321 the entries of a queue (PROTOCOL.md, "Look-ups" and "Administration"). A half that was not
 * committed is found by none of them.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/body_admin.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"

#define QUERY_RESULTS_MAX     64
#define QUERY_RESULTS_DEFAULT 32

/* ---- by key ---- */

/*
 * Where the messages are; and how many of them have been read: the walk goes on where a read had to
 * wait.
 */
struct query_found {
    uint64_t offsets[QUERY_RESULTS_MAX];
    uint32_t count;
    uint32_t next;
    bool is_known;
};

/* A committed half is stored as one: say what became of it. */
static void show_as_committed(uint8_t *record)
{
    int32_t flags = record_peek_sys_flag(record);

    if ((flags & SYSFLAG_TXN_MASK) == SYSFLAG_TXN_PREPARED) {
        record_patch_sys_flag(record, (flags & ~SYSFLAG_TXN_MASK) | SYSFLAG_TXN_COMMIT);
    }
}

static int query_find(struct read_job *job, struct query_found *found, struct err_ctx *err)
{
    struct store_key_query query = {.topic = slice_str(job->topic),
                                    .key = buf_slice(&job->key),
                                    .begin_ms = job->number,
                                    .end_ms = job->number2,
                                    .max = job->count};
    int rc = found->is_known ? 0
                             : store_query_key(job->broker->store, &query, job->fetch,
                                               found->offsets, &found->count, err);

    found->is_known = rc == 0;
    return rc;
}

/* Append the records that have the key, newest first, as many as fit in one answer. */
static int query_step(struct read_job *job, struct err_ctx *err)
{
    struct query_found *found = job->ptr;
    struct buf one;
    int rc = query_find(job, found, err);

    buf_init(&one, 0);
    while (rc == 0 && found->next < found->count) {
        struct store_record rec;
        size_t at = job->body.len;
        rc = store_read_record(job->broker->store, found->offsets[found->next], job->fetch, &one,
                               &rec, err);
        if (rc != 0 || at + rec.payload.len > FRAME_SIZE_MAX - HEADER_SIZE_MAX) {
            break;
        }
        found->next++;
        buf_append_slice(&job->body, rec.payload);
        if (buf_failed(&job->body)) {
            rc = ESCROW_ENOMEM;
            break;
        }
        show_as_committed(job->body.ptr + at);
        job->result = rec.store_ms;
        job->offset = rec.offset;
    }
    buf_fini(&one);
    if (rc == 0 && found->count == 0) {
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
    struct slice by_id = SLICE_EMPTY;
    int32_t max = QUERY_RESULTS_DEFAULT;
    struct query_found *found;
    struct read_job *job;

    if (header_get_str(req->header, "topic", &topic) != 0 || name_check_topic(topic) != 0 ||
        header_get_str(req->header, "key", &key) != 0 || key.len == 0 ||
        header_opt_i32(req->header, "maxNum", &max) != 0 ||
        header_opt_str(req->header, "_UNIQUE_KEY_QUERY", &by_id) != 0 ||
        header_opt_i64(req->header, "beginTimestamp", &begin_ms) != 0 ||
        header_opt_i64(req->header, "endTimestamp", &end_ms) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "query: a field is missing or malformed");
        return;
    }
    if (slice_eq_str(by_id, "true")) {
        max = QUERY_RESULTS_DEFAULT; /* as with RocketMQ, whatever was asked for */
    }
    if (max < 1) {
        request_fail(req, RESPONSE_QUERY_NOT_FOUND, ESCROW_ENOTFOUND, "no message is wanted");
        return;
    }
    found = mem_calloc(1, sizeof *found);
    if (found == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    job = read_job_new(req, query_step, query_done);
    if (job == NULL) {
        mem_free(found);
        return;
    }
    job->ptr = found;
    (void)slice_to_cstr(topic, job->topic, sizeof job->topic);
    buf_append_slice(&job->key, key);
    job->number = begin_ms;
    job->number2 = end_ms;
    job->count = max > QUERY_RESULTS_MAX ? QUERY_RESULTS_MAX : (uint32_t)max;
    job->not_found_code = RESPONSE_QUERY_NOT_FOUND;
    read_job_start(job);
}

/* ---- by physical offset ---- */

int read_message_step(struct read_job *job, struct err_ctx *err)
{
    struct store *st = job->broker->store;
    struct store_record rec;
    int rc = store_read_record(st, job->offset, job->fetch, &job->body, &rec, err);

    if (rc == 0 && store_type_is_held(rec.type)) {
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
            show_as_committed(job->body.ptr);
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
    job = read_job_new(req, read_message_step, view_done);
    if (job != NULL) {
        job->offset = (uint64_t)offset;
        job->not_found_code = RESPONSE_SYSTEM_ERROR;
        read_job_start(job);
    }
}

/* ---- entries of a queue ---- */

#define QUEUE_SLOTS_MAX 256 /* of one answer: each is read from the log */

struct queue_slots {
    struct queue_slot slots[QUEUE_SLOTS_MAX];
    size_t count;
    int64_t min_offset;
    int64_t max_offset;
    struct filter *filter; /* of the group that was named; a reference, or NULL */
    int64_t version;
};

static void slots_fini(struct read_job *job)
{
    filter_free(&((struct queue_slots *)job->ptr)->filter);
}

static bool is_wanted(const struct filter *filter, const struct store_record *rec)
{
    return filter == NULL ||
           (filter_may_match(filter, rec->tag_code) &&
            (!filter_needs_properties(filter) || filter_match(filter, rec->properties)));
}

static int slots_step(struct read_job *job, struct err_ctx *err)
{
    struct queue_slots *q = job->ptr;
    int rc = 0;

    while (rc == 0 && q->count < job->count && job->number + (int64_t)q->count < q->max_offset) {
        struct store_entry_ref entry = {.topic = slice_str(job->topic),
                                        .queue_id = job->queue_id,
                                        .offset = job->number + (int64_t)q->count};
        struct store_record rec;
        rc = store_read_entry(job->broker->store, &entry, job->fetch, &job->body, &rec, err);
        if (rc == ESCROW_ENOTFOUND || (damage_is_error(rc) && q->count > 0)) {
            return 0; /* gone meanwhile, or damaged: the answer ends before it */
        }
        if (rc == 0) {
            q->slots[q->count++] = (struct queue_slot){.physical_offset = (int64_t)rec.offset,
                                                       .size_bytes = (int32_t)rec.payload.len,
                                                       .tag_code = rec.tag_code,
                                                       .matches = is_wanted(q->filter, &rec)};
        }
    }
    return rc;
}

static void slots_done(struct read_job *job)
{
    const struct queue_slots *q = job->ptr;
    struct subscription sub = {.topic = slice_str(job->topic), .version = q->version};
    struct queue_view view = {.slots = q->slots,
                              .count = q->count,
                              .min_offset = q->min_offset,
                              .max_offset = q->max_offset,
                              .subscription = q->filter == NULL ? NULL : &sub};
    struct header_writer w;

    if (q->filter != NULL) {
        sub.expression = filter_text(q->filter);
        sub.expression_type =
            filter_type_of(q->filter) == FILTER_SQL ? SLICE_LIT("SQL92") : SLICE_LIT("TAG");
    }
    if (deferred_begin(&job->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        queue_view_encode(w.buf, &view);
        deferred_end(&job->deferred, &w);
    }
}

/* The filter of the group that the request names, if it names one that is connected. */
static void slots_take_filter(struct queue_slots *q, struct request *req, struct slice topic)
{
    struct slice name = SLICE_EMPTY;
    const struct client_group *group = NULL;
    const struct client_subscription *sub = NULL;

    if (header_opt_str(req->header, "consumerGroup", &name) == 0 && name.len > 0) {
        group = clients_find_consumers(req->broker, name);
    }
    if (group != NULL) {
        sub = clients_find_subscription(group, topic);
    }
    if (sub != NULL && sub->filter != NULL) {
        q->filter = filter_hold(sub->filter);
        q->version = sub->filter_version;
    }
}

void handle_queue_view(struct request *req)
{
    struct store_queue_ref ref = {.queue_id = 0};
    struct queue_slots *q;
    struct read_job *job;
    int32_t queue_id = -1;
    int32_t count = 0;
    int64_t index = 0;

    if (header_get_str(req->header, "topic", &ref.topic) != 0 || name_check_topic(ref.topic) != 0 ||
        header_get_i32(req->header, "queueId", &queue_id) != 0 || queue_id < 0 ||
        header_get_i64(req->header, "index", &index) != 0 || index < 0 ||
        header_get_i32(req->header, "count", &count) != 0 || count < 0) {
        request_fail(req, -1, ESCROW_EINVAL,
                     "field topic, queueId, index or count is missing or malformed");
        return;
    }
    q = mem_calloc(1, sizeof *q);
    if (q == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    ref.queue_id = (uint32_t)queue_id;
    if (!store_queue_range(req->broker->store, &ref, &q->min_offset, &q->max_offset)) {
        mem_free(q);
        request_fail(req, RESPONSE_SYSTEM_ERROR, ESCROW_ENOTFOUND,
                     "ConsumeQueue of %d@%.*s is not exist!", (int)queue_id, SLICE_ARGS(ref.topic));
        return;
    }
    job = read_job_new(req, slots_step, slots_done);
    if (job == NULL) {
        mem_free(q);
        return;
    }
    job->ptr = q;
    job->fini = slots_fini;
    slots_take_filter(q, req, ref.topic);
    (void)slice_to_cstr(ref.topic, job->topic, sizeof job->topic);
    job->queue_id = ref.queue_id;
    job->number = index < q->min_offset ? q->min_offset : index;
    job->count = count > QUEUE_SLOTS_MAX ? QUEUE_SLOTS_MAX : (uint32_t)count;
    read_job_start(job);
}
