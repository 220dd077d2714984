/*
 * The lock of a queue that is consumed in order. Its broker gives it to one member of the group,
 * and takes it away when it was not renewed for a minute; so the queue of a member that died is
 * taken over then, and that of one that leaves at once.
 *
 * A lock is held from when it was asked for, not from the answer, and half as long as a broker
 * keeps it. When it may have run out no handler begins.
 */
#include "core/proto/body_queues.h"
#include "core/proto/codes.h"
#include "src/client/consumer_private.h"

static void lock_body(const struct consumer_queue *q, struct buf *out)
{
    struct message_queue queue = {.topic = slice_str(q->topic->topic),
                                  .broker_name = slice_str(q->broker),
                                  .queue_id = (int32_t)q->queue_id};
    struct queue_lock lock = {.group = slice_str(q->consumer->group),
                              .client_id = slice_str(q->consumer->client->id),
                              .queues = &queue,
                              .queue_count = 1};

    buf_init(out, 0);
    queue_lock_encode(out, &lock);
}

static bool is_granted(const struct consumer_queue *q, struct slice body)
{
    struct queue_set set;
    bool found = false;

    if (queue_set_decode(body, &set) != 0) {
        return false;
    }
    for (size_t i = 0; i < set.count && !found; i++) {
        found = slice_eq_str(set.queues[i].topic, q->topic->topic) &&
                slice_eq_str(set.queues[i].broker_name, q->broker) &&
                set.queues[i].queue_id == (int32_t)q->queue_id;
    }
    queue_set_fini(&set);
    return found;
}

static void lock_renew(void *arg)
{
    lock_ask(arg);
}

/* Another member has it: it will be told to give it away, or has died. */
static void lock_refused(struct consumer_queue *q)
{
    struct escrow_client *c = q->consumer->client;

    if (q->state == QUEUE_LOCKING) {
        loop_timer_start(&c->loop, &q->renew, CONSUMER_RETRY_MS, 0, lock_renew, q);
    } else {
        queue_lose(q);
    }
}

static void lock_answered(struct remote_call *call, int error, struct header *header,
                          struct slice body)
{
    struct consumer_queue *q = LIST_ENTRY(call, struct consumer_queue, lock);
    struct escrow_client *c = q->consumer->client;

    (void)header;
    if (error == 0 && !is_granted(q, body)) {
        lock_refused(q);
        return;
    }
    if (error != 0 && q->state == QUEUE_LOCKING) {
        queue_fail(q);
        return;
    }
    loop_timer_start(&c->loop, &q->renew, error == 0 ? q->consumer->lock_ms : CONSUMER_RETRY_MS, 0,
                     lock_renew, q);
    if (error == 0) {
        q->locked_ms = q->lock_asked_ms;
        if (q->state == QUEUE_LOCKING) {
            q->state = QUEUE_OFFSET;
            q->failures = 0;
            begin_ask(q);
        }
    }
}

void lock_ask(struct consumer_queue *q)
{
    struct escrow_client *c = q->consumer->client;
    struct remote_request req = {
        .addr = q->addr, .code = REQUEST_LOCK_BATCH_MQ, .timeout_ms = CONSUMER_CALL_TIMEOUT_MS};
    struct buf body;

    if (q->lock.is_active) {
        return;
    }
    lock_body(q, &body);
    if (buf_failed(&body)) {
        loop_timer_start(&c->loop, &q->renew, CONSUMER_RETRY_MS, 0, lock_renew, q);
    } else {
        req.body = buf_slice(&body);
        q->lock_asked_ms = loop_mono_ms(&c->loop);
        remote_call(&c->remote, &q->lock, &req, lock_answered);
    }
    buf_fini(&body);
}

bool lock_is_held(const struct consumer_queue *q)
{
    return !consumer_locks(q->consumer) ||
           (q->locked_ms >= 0 &&
            loop_mono_ms(&q->consumer->client->loop) - q->locked_ms < CONSUMER_LOCK_VALID_MS);
}

/* Locks are not durable: whoever is at the new address has to hear of it. */
void lock_moved(struct consumer_queue *q)
{
    if (consumer_locks(q->consumer)) {
        remote_cancel(&q->lock);
        loop_timer_stop(&q->consumer->client->loop, &q->renew);
        if (q->state != QUEUE_LOCKING) {
            lock_ask(q);
        }
    }
}

void lock_give(struct consumer_queue *q)
{
    struct escrow_client *c = q->consumer->client;
    struct remote_request req = {.addr = q->addr, .code = REQUEST_UNLOCK_BATCH_MQ};
    bool may_be_ours = q->locked_ms >= 0 || q->lock.is_active;
    struct buf body;

    remote_cancel(&q->lock);
    loop_timer_stop(&c->loop, &q->renew);
    if (!may_be_ours) {
        return;
    }
    lock_body(q, &body);
    req.body = buf_slice(&body);
    if (!buf_failed(&body) && remote_oneway(&c->remote, &req) != 0) {
        /* it runs out by itself */
    }
    buf_fini(&body);
}
