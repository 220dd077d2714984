/*
 * Where a queue begins: where the group's offset says; else where the consumer was told to begin
 * when there is none; or where the program says (seek).
 */
#include "core/proto/codes.h"
#include "src/client/consumer_private.h"

void begin_at(struct consumer_queue *q, int64_t offset)
{
    progress_fini(&q->progress);
    progress_init(&q->progress, offset);
    q->next_offset = offset;
    q->done = offset;
    q->state = QUEUE_WAITING;
}

static void start_at(struct consumer_queue *q, int64_t offset)
{
    q->has_seek = false;
    begin_at(q, offset);
    q->failures = 0;
    queue_pull(q);
}

static void offset_fields(struct header_writer *w, void *arg)
{
    const struct consumer_queue *q = arg;

    header_put_str(w, "consumerGroup", slice_str(q->consumer->group));
    header_put_str(w, "topic", slice_str(q->topic->topic));
    header_put_i64(w, "queueId", q->queue_id);
    header_put_bool(w, "setZeroIfNotFound", q->consumer->from.to == ESCROW_SEEK_FIRST);
}

static void time_fields(struct header_writer *w, void *arg)
{
    const struct consumer_queue *q = arg;

    offset_fields(w, arg);
    header_put_i64(w, "timestamp", q->seek.value);
}

static void place_answered(struct remote_call *call, int error, struct header *header,
                           struct slice body)
{
    struct consumer_queue *q = LIST_ENTRY(call, struct consumer_queue, call);
    int64_t offset = 0;

    (void)body;
    if (error == 0) {
        error = header_get_i64(header, "offset", &offset);
    }
    if (error == 0) {
        start_at(q, offset < 0 ? 0 : offset);
    } else {
        queue_fail(q);
    }
}

/* A place that the broker knows: the ends of the queue, or its first message of a time. */
static void ask_place(struct consumer_queue *q)
{
    static const int32_t codes[] = {[ESCROW_SEEK_FIRST] = REQUEST_GET_MIN_OFFSET,
                                    [ESCROW_SEEK_LAST] = REQUEST_GET_MAX_OFFSET,
                                    [ESCROW_SEEK_TIME] = REQUEST_SEARCH_OFFSET_BY_TIMESTAMP};
    struct remote_request req = {.addr = q->addr,
                                 .fields = time_fields,
                                 .fields_arg = q,
                                 .timeout_ms = CONSUMER_CALL_TIMEOUT_MS};

    if (q->seek.to == ESCROW_SEEK_OFFSET) {
        start_at(q, q->seek.value); /* one that is not there is corrected by the pull */
        return;
    }
    req.code = codes[q->seek.to];
    remote_call(&q->consumer->client->remote, &q->call, &req, place_answered);
}

/* A group that was never here: its retry topic from the beginning, others as configured. */
static void ask_first(struct consumer_queue *q)
{
    static const struct queue_seek first = {ESCROW_SEEK_FIRST, 0};

    q->seek = q->topic->is_retry ? first : q->consumer->from;
    ask_place(q);
}

static void stored_answered(struct remote_call *call, int error, struct header *header,
                            struct slice body)
{
    struct consumer_queue *q = LIST_ENTRY(call, struct consumer_queue, call);
    int64_t offset = 0;

    (void)body;
    if (error == 0) {
        error = header_get_i64(header, "offset", &offset);
    }
    if (error == 0 && offset >= 0) {
        q->committed = offset;
        start_at(q, offset);
    } else if (header != NULL && header->code == RESPONSE_QUERY_NOT_FOUND) {
        ask_first(q);
    } else {
        queue_fail(q);
    }
}

void begin_ask(struct consumer_queue *q)
{
    struct local_queue name = {q->topic->topic, q->broker, q->queue_id};
    int64_t offset;
    struct remote_request req = {.addr = q->addr,
                                 .code = REQUEST_QUERY_CONSUMER_OFFSET,
                                 .fields = offset_fields,
                                 .fields_arg = q,
                                 .timeout_ms = CONSUMER_CALL_TIMEOUT_MS};

    if (q->in_progress > 0) {
        return;
    }
    if (q->has_seek) {
        ask_place(q);
    } else if (!q->consumer->is_broadcast) {
        remote_call(&q->consumer->client->remote, &q->call, &req, stored_answered);
    } else if (local_offsets_find(&q->consumer->local, &name, &offset)) {
        q->committed = offset;
        start_at(q, offset);
    } else {
        ask_first(q);
    }
}
