/*
 * QUERY_CONSUME_TIME_SPAN 303: from when to when the messages of a topic's queues are, and how far
 * a group has come in them (PROTOCOL.md, "Administration").
 *
 * Happy path: where each queue begins and ends and where the group is comes from the tables; then
 * the job reads up to four records of each queue, for their store times.
 */
#include "core/base/mem.h"
#include "core/proto/body_admin.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"

#define SPAN_PARTS      4   /* records of one queue */
#define SPAN_READS_TURN 256 /* looked at before others have their turn */
#define SPAN_NONE       (-1)

struct span_row {
    int64_t min_offset;
    int64_t max_offset;
    int64_t next; /* for the group */
    int64_t next_ms;
};

struct spans {
    size_t count;
    size_t next; /* record to read: SPAN_PARTS of each queue */
    struct span_row rows[QUEUES_PER_TOPIC_MAX];
    struct time_span spans[QUEUES_PER_TOPIC_MAX];
};

/* Store time of a message; SPAN_NONE when it is not there, or damaged. */
static int read_time(struct read_job *job, const struct span_row *row, uint32_t queue,
                     int64_t offset, int64_t *time_ms, struct err_ctx *err)
{
    struct store_entry_ref entry = {
        .topic = slice_str(job->topic), .queue_id = queue, .offset = offset};
    struct store_record rec;
    int rc;

    *time_ms = SPAN_NONE;
    if (offset < row->min_offset || offset >= row->max_offset) {
        return 0;
    }
    rc = store_read_entry(job->broker->store, &entry, job->fetch, &job->body, &rec, err);
    if (rc == 0) {
        *time_ms = rec.store_ms;
    }
    return rc == ESCROW_ENOTFOUND || damage_is_error(rc) ? 0 : rc;
}

/* One record at a time: a fetch keeps only what it read last. */
static int read_part(struct read_job *job, struct spans *s, struct err_ctx *err)
{
    struct span_row *row = &s->rows[s->next / SPAN_PARTS];
    struct time_span *span = &s->spans[s->next / SPAN_PARTS];
    uint32_t queue = (uint32_t)span->queue.queue_id;

    switch (s->next % SPAN_PARTS) {
    case 0:
        return read_time(job, row, queue, row->min_offset, &span->min_ms, err);
    case 1:
        return read_time(job, row, queue, row->max_offset - 1, &span->max_ms, err);
    case 2:
        return read_time(job, row, queue, row->next > 0 ? row->next - 1 : row->min_offset,
                         &span->consumed_ms, err);
    default:
        return read_time(job, row, queue, row->next, &row->next_ms, err);
    }
}

static int spans_step(struct read_job *job, struct err_ctx *err)
{
    struct spans *s = job->ptr;
    size_t turn = 0;

    while (s->next < s->count * SPAN_PARTS) {
        int rc = turn++ == SPAN_READS_TURN ? ESCROW_EBUSY : read_part(job, s, err);
        if (rc != 0) {
            return rc;
        }
        s->next++;
    }
    return 0;
}

static void spans_done(struct read_job *job)
{
    struct spans *s = job->ptr;
    int64_t now_ms = loop_wall_ms(job->broker->loop);
    struct header_writer w;

    for (size_t i = 0; i < s->count; i++) {
        int64_t next_ms = s->rows[i].next_ms;
        s->spans[i].delay_ms = next_ms == SPAN_NONE || next_ms > now_ms ? 0 : now_ms - next_ms;
    }
    if (deferred_begin(&job->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        time_spans_encode(w.buf, s->spans, s->count);
        deferred_end(&job->deferred, &w);
    }
}

/* Where the queues and the group are now. The names are the job's, which outlives the answer. */
static void spans_fill(struct spans *s, const struct read_job *job, struct slice group,
                       uint32_t queues)
{
    const struct broker *b = job->broker;

    for (uint32_t q = 0; q < queues; q++) {
        struct store_queue_ref ref = {.topic = slice_str(job->topic), .queue_id = q};
        struct span_row *row = &s->rows[q];
        if (!store_queue_range(b->store, &ref, &row->min_offset, &row->max_offset)) {
            row->min_offset = row->max_offset = 0;
        }
        if (!offsets_find(&b->offsets, group, ref.topic, q, &row->next)) {
            row->next = row->min_offset;
        }
        s->spans[q].queue = (struct message_queue){.topic = ref.topic,
                                                   .broker_name = slice_str(b->config->broker_name),
                                                   .queue_id = (int32_t)q};
    }
    s->count = queues;
}

void handle_time_span(struct request *req)
{
    struct slice name = SLICE_EMPTY;
    struct slice group = SLICE_EMPTY;
    const struct topic *topic;
    struct spans *s;
    struct read_job *job;

    if (header_get_str(req->header, "topic", &name) != 0 ||
        header_get_str(req->header, "group", &group) != 0 || name_check_group(group) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field topic or group is missing or malformed");
        return;
    }
    topic = topics_find(&req->broker->topics, name);
    if (topic == NULL) {
        request_fail(req, RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE, "topic[%.*s] not exist",
                     (int)(name.len > 255 ? 255 : name.len), (const char *)name.ptr);
        return;
    }
    s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    job = read_job_new(req, spans_step, spans_done);
    if (job == NULL) {
        mem_free(s);
        return;
    }
    job->ptr = s;
    (void)slice_to_cstr(name, job->topic, sizeof job->topic);
    spans_fill(s, job, group, topic->read_queues);
    read_job_start(job);
}
