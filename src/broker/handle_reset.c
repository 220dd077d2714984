/*
 * INVOKE_BROKER_TO_RESET_OFFSET 222, and the push to the members of the group,
 * RESET_CONSUMER_CLIENT_OFFSET 220 (PROTOCOL.md, "Administration").
 *
 * Happy path: a job looks up each queue's offset for the time; the offsets are noted and written to
 * the log; when they are durable, members that are connected are told, and the answer lists them. A
 * member drops what it has in hand, takes the new offset and goes on there; until then it goes on
 * telling its old one, which is why being told comes last and the member has the last word.
 *
 * A broadcast group keeps its offsets itself: nothing is noted, its members are told.
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/body_queues.h"
#include "core/proto/json_write.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/offsets_flush.h"
#include "src/broker/read_job.h"

#define RESET_QUEUES_TURN 16 /* searched before others have their turn */
#define RESET_TO_END      (-1)

struct reset {
    char group[GROUP_LEN_MAX + 1];
    char topic[RETRY_TOPIC_LEN_MAX + 1];
    int64_t time_ms; /* RESET_TO_END, or of the first message wanted */
    int64_t offset;  /* wanted; -1: by time */
    bool is_forced;  /* false: never forward */
    size_t next;
    size_t count;
    struct queue_stats rows[]; /* consumer_offset is the result */
};

/* ---- telling the members ---- */

/* The C++ client reads a list of queues with their offsets in them. */
static void list_encode(struct buf *out, const struct reset *r)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "offsetTable");
    json_write_array_begin(&w);
    for (size_t i = 0; i < r->count; i++) {
        json_write_object_begin(&w);
        json_put_string(&w, "brokerName", r->rows[i].queue.broker_name);
        json_put_i64(&w, "offset", r->rows[i].consumer_offset);
        json_put_i64(&w, "queueId", r->rows[i].queue.queue_id);
        json_put_string(&w, "topic", r->rows[i].queue.topic);
        json_write_object_end(&w);
    }
    json_write_array_end(&w);
    json_write_object_end(&w);
}

static void table_encode(struct buf *out, struct reset *r)
{
    struct queue_table table = {.rows = r->rows, .count = r->count};

    queue_table_encode(out, QUEUE_TABLE_OFFSETS, &table);
}

static int write_reset(struct session *s, struct buf *out, void *arg)
{
    struct reset *r = arg;
    struct header_writer w;
    struct header_out head = {.code = REQUEST_RESET_CONSUMER_CLIENT_OFFSET,
                              .opaque = session_next_opaque(s),
                              .flag = HEADER_FLAG_ONEWAY};

    header_begin(&w, out, (enum header_type)s->push_type, &head);
    header_put_str(&w, "topic", slice_str(r->topic));
    header_put_str(&w, "group", slice_str(r->group));
    header_put_i64(&w, "timestamp", r->time_ms);
    header_put_bool(&w, "isForce", r->is_forced);
    header_end(&w);
    if (s->language == LANGUAGE_CPP) {
        list_encode(w.buf, r);
    } else {
        table_encode(w.buf, r);
    }
    return header_frame_end(&w, 0);
}

static void tell_members(struct broker *b, struct reset *r)
{
    const struct client_group *group = clients_find_consumers(b, slice_str(r->group));
    struct list *pos;
    struct list *tmp;

    if (group == NULL) {
        return;
    }
    LIST_FOREACH(pos, tmp, &group->roles) {
        const struct client_role *role = LIST_ENTRY(pos, struct client_role, by_group);
        if (session_push(role->session, write_reset, r) != 0) {
            log_warn("reset.push", "group %s: member %s could not be told", r->group,
                     role->client_id);
        }
    }
}

/* ---- the offsets ---- */

static void reset_answered(struct broker *b, struct pending *p, int error)
{
    struct reset *r = p->arg.ptr;
    struct header_writer w;

    if (error != 0) {
        deferred_fail(&p->deferred, -1, error, NULL);
    } else {
        tell_members(b, r);
        log_info("reset", "group %s, topic %s: %zu queues", r->group, r->topic, r->count);
        if (deferred_begin(&p->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
            header_end(&w);
            table_encode(w.buf, r);
            deferred_end(&p->deferred, &w);
        }
    }
    mem_free(r);
}

static int note_offsets(struct broker *b, const struct reset *r)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < r->count; i++) {
        rc = offsets_note(&b->offsets, slice_str(r->group), slice_str(r->topic),
                          (uint32_t)r->rows[i].queue.queue_id, r->rows[i].consumer_offset);
    }
    return rc == 0 ? offsets_flush(b) : rc;
}

static void reset_found(struct read_job *job)
{
    struct reset *r = job->ptr;
    struct broker *b = job->broker;
    const struct client_group *group = clients_find_consumers(b, slice_str(r->group));
    bool is_broadcast = group != NULL && group->model == MODEL_BROADCASTING;
    int rc = pump_reserve(&b->pump);

    if (rc == 0 && !is_broadcast) {
        rc = note_offsets(b, r);
    }
    if (rc != 0) {
        deferred_fail(&job->deferred, -1, rc,
                      "the offsets could not be stored, or not all of them");
        return;
    }
    job->ptr = NULL; /* goes with the answer */
    pump_wait(&b->pump, pump_tail(&b->pump), false, reset_answered, job->deferred)->arg.ptr = r;
}

/* The offset wanted for one queue. */
static int reset_find(struct read_job *job, const struct reset *r, struct queue_stats *row,
                      struct err_ctx *err)
{
    struct store_queue_ref ref = {.topic = slice_str(r->topic),
                                  .queue_id = (uint32_t)row->queue.queue_id};
    int64_t committed = 0;
    int64_t offset = 0;
    int rc = 0;

    if (!store_queue_range(job->broker->store, &ref, &row->min_offset, &row->max_offset)) {
        row->min_offset = row->max_offset = 0;
    }
    if (r->offset >= 0) {
        offset = r->offset;
        if (offset < row->min_offset || offset > row->max_offset) {
            return err_set(err, ESCROW_EINVAL, "offset %lld: queue %d has %lld to %lld",
                           (long long)offset, (int)row->queue.queue_id, (long long)row->min_offset,
                           (long long)row->max_offset);
        }
    } else if (r->time_ms == RESET_TO_END) {
        offset = row->max_offset;
    } else if (row->max_offset > 0) {
        rc = store_offset_by_time(job->broker->store, &ref, r->time_ms, job->fetch, &offset, err);
    }
    if (!r->is_forced &&
        offsets_find(&job->broker->offsets, slice_str(r->group), ref.topic, ref.queue_id,
                     &committed) &&
        committed < offset) {
        offset = committed;
    }
    row->consumer_offset = offset;
    return rc;
}

static int reset_step(struct read_job *job, struct err_ctx *err)
{
    struct reset *r = job->ptr;
    size_t turn = 0;

    while (r->next < r->count) {
        int rc =
            turn++ == RESET_QUEUES_TURN ? ESCROW_EBUSY : reset_find(job, r, &r->rows[r->next], err);
        if (rc != 0) {
            return rc;
        }
        r->next++;
    }
    return 0;
}

/* ---- the request ---- */

struct reset_request {
    struct slice group;
    struct slice topic;
    int64_t time_ms;
    int64_t offset;
    int32_t queue_id; /* -1: all */
    bool is_forced;
};

static int reset_decode(struct header *h, struct reset_request *in)
{
    *in = (struct reset_request){.offset = -1, .queue_id = -1};
    if (header_get_str(h, "topic", &in->topic) != 0 ||
        header_get_str(h, "group", &in->group) != 0 || name_check_group(in->group) != 0 ||
        header_get_i64(h, "timestamp", &in->time_ms) != 0 ||
        header_opt_bool(h, "isForce", &in->is_forced) != 0 ||
        header_opt_i32(h, "queueId", &in->queue_id) != 0 ||
        header_opt_i64(h, "offset", &in->offset) != 0 || in->time_ms < RESET_TO_END) {
        return ESCROW_EINVAL;
    }
    return in->offset >= 0 && in->queue_id < 0 ? ESCROW_EINVAL : 0;
}

static struct reset *reset_new(struct broker *b, const struct reset_request *in,
                               const struct topic *topic)
{
    size_t count = in->queue_id >= 0 ? 1 : topic->read_queues;
    struct reset *r = mem_calloc(1, sizeof *r + count * sizeof r->rows[0]);

    if (r == NULL) {
        return NULL;
    }
    (void)slice_to_cstr(in->group, r->group, sizeof r->group);
    (void)slice_to_cstr(in->topic, r->topic, sizeof r->topic);
    r->time_ms = in->time_ms;
    r->offset = in->offset;
    r->is_forced = in->is_forced;
    r->count = count;
    for (size_t i = 0; i < count; i++) {
        r->rows[i].queue =
            (struct message_queue){.topic = slice_str(r->topic),
                                   .broker_name = slice_str(b->config->broker_name),
                                   .queue_id = in->queue_id >= 0 ? in->queue_id : (int32_t)i};
    }
    return r;
}

void handle_reset_offset(struct request *req)
{
    struct reset_request in;
    const struct topic *topic;
    struct reset *r;
    struct read_job *job;

    if (reset_decode(req->header, &in) != 0) {
        request_fail(req, -1, ESCROW_EINVAL,
                     "field topic, group, timestamp, isForce, queueId or offset is missing or "
                     "malformed, or an offset without a queue");
        return;
    }
    topic = topics_find(&req->broker->topics, in.topic);
    if (topic == NULL) {
        request_fail(req, RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE, "topic[%.*s] not exist",
                     (int)(in.topic.len > 255 ? 255 : in.topic.len), (const char *)in.topic.ptr);
        return;
    }
    if (in.queue_id >= 0 && (uint32_t)in.queue_id >= topic->read_queues) {
        request_fail(req, -1, ESCROW_EINVAL, "the topic has queues 0 to %u",
                     topic->read_queues - 1);
        return;
    }
    r = reset_new(req->broker, &in, topic);
    if (r == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    job = read_job_new(req, reset_step, reset_found);
    if (job == NULL) {
        mem_free(r);
        return;
    }
    job->ptr = r;
    read_job_start(job);
}
