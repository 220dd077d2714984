/*
 * How far a queue has been consumed: told to its broker, or kept in a file of this host
 * (broadcast). Every commit.ms, and once more when the queue is given away.
 */
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/proto/codes.h"
#include "src/client/consumer_private.h"

static void commit_fields(struct header_writer *w, void *arg)
{
    const struct consumer_queue *q = arg;

    header_put_str(w, "consumerGroup", slice_str(q->consumer->group));
    header_put_str(w, "topic", slice_str(q->topic->topic));
    header_put_i64(w, "queueId", q->queue_id);
    header_put_i64(w, "commitOffset", q->committing);
}

static void commit_answered(struct remote_call *call, int error, struct header *header,
                            struct slice body)
{
    struct consumer_queue *q = LIST_ENTRY(call, struct consumer_queue, commit);

    (void)header;
    (void)body;
    q->commit_error = error;
    if (error == 0) {
        q->committed = q->committing;
        if (q->state == QUEUE_DROPPED) {
            queue_commit(q); /* a commit that was under way had the older offset */
        }
    } else if (q->state == QUEUE_DROPPED) {
        q->has_given_up = true; /* who has the queue next begins earlier than necessary */
    }
    commit_watch(q->consumer);
    queue_maybe_end(q);
}

static void commit_here(struct consumer_queue *q, int64_t offset)
{
    struct local_queue name = {q->topic->topic, q->broker, q->queue_id};
    int rc = local_offsets_set(&q->consumer->local, &name, offset);

    q->commit_error = rc;
    if (rc == 0) {
        q->committed = offset;
    } else {
        log_warn("consumer.offsets", "group %s, topic %s, queue %u of %s: %s", q->consumer->group,
                 q->topic->topic, q->queue_id, q->broker, escrow_strerror(rc));
    }
}

void queue_commit(struct consumer_queue *q)
{
    int64_t first = consumer_is_polled(q->consumer) ? q->done : q->progress.first;
    int64_t offset = first < q->commit_max ? first : q->commit_max;
    struct remote_request req = {.addr = q->addr,
                                 .code = REQUEST_UPDATE_CONSUMER_OFFSET,
                                 .fields = commit_fields,
                                 .fields_arg = q,
                                 .timeout_ms = CONSUMER_CALL_TIMEOUT_MS};

    if (q->state == QUEUE_OFFSET || q->state == QUEUE_LOCKING || q->commit.is_active ||
        q->has_given_up || offset == q->committed) {
        return;
    }
    if (q->consumer->is_broadcast) {
        commit_here(q, offset);
        return;
    }
    q->committing = offset;
    remote_call(&q->consumer->client->remote, &q->commit, &req, commit_answered);
}

void commit_offset(struct consumer_queue *q, int64_t offset)
{
    struct remote_request req = {.addr = q->addr,
                                 .code = REQUEST_UPDATE_CONSUMER_OFFSET,
                                 .fields = commit_fields,
                                 .fields_arg = q,
                                 .timeout_ms = CONSUMER_CALL_TIMEOUT_MS};

    remote_cancel(&q->commit); /* it had another one; the broker has it first */
    if (q->consumer->is_broadcast) {
        commit_here(q, offset);
        return;
    }
    q->committing = offset;
    remote_call(&q->consumer->client->remote, &q->commit, &req, commit_answered);
}

static void written(void *arg)
{
    commit_watch(arg);
    consumer_maybe_stopped(arg);
}

static void commit_end(struct escrow_consumer *k, int error)
{
    struct commit_wait *w = k->commit_wait;

    k->commit_wait = NULL;
    w->error = error;
    waiter_signal(&w->waiter); /* w is gone */
}

/* Queues that have something to store begin to; are some still at it? */
static bool is_storing(struct escrow_consumer *k, int *error)
{
    struct list *pos;
    struct list *tmp;
    bool is_active = false;

    *error = 0;
    LIST_FOREACH(pos, tmp, &k->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (q->state == QUEUE_DROPPED) {
            continue;
        }
        if (q->commit_error == 0) {
            queue_commit(q);
        }
        is_active = is_active || q->commit.is_active;
        *error = q->commit_error != 0 ? q->commit_error : *error;
    }
    return is_active;
}

void commit_watch(struct escrow_consumer *k)
{
    int error;

    if (k->commit_wait == NULL || is_storing(k, &error)) {
        return;
    }
    if (error == 0 && k->is_broadcast) {
        if (!k->local.is_writing && !k->commit_wait->has_written) {
            k->commit_wait->has_written = true;
            local_offsets_write(&k->local, &k->client->loop, written, k);
        }
        if (k->local.is_writing) {
            return;
        }
        error = k->local.is_dirty ? ESCROW_EIO : 0;
    }
    commit_end(k, error);
}

void commit_all(struct escrow_consumer *k)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &k->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (q->state != QUEUE_DROPPED) {
            queue_commit(q);
        }
    }
    if (k->is_broadcast) {
        local_offsets_write(&k->local, &k->client->loop, written, k);
    }
}

bool commit_is_ending(struct escrow_consumer *k)
{
    CHECK(list_is_empty(&k->queues));
    if (!k->is_broadcast) {
        return false;
    }
    if (!k->local.is_writing && !k->has_stored_last) {
        k->has_stored_last = true; /* it is not tried for ever */
        local_offsets_write(&k->local, &k->client->loop, written, k);
    }
    return k->local.is_writing;
}
