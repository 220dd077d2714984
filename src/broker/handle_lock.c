/*
 * LOCK_BATCH_MQ 41, UNLOCK_BATCH_MQ 42 (PROTOCOL.md, "Clients").
 */
#include "core/proto/body_queues.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"

/* false when the request was answered with an error; then there is nothing to free. */
static bool lock_decode(struct request *req, struct queue_lock *lock)
{
    int rc = queue_lock_decode(req->body, lock);

    if (rc == 0 && (name_check_group(lock->group) != 0 || lock->client_id.len == 0 ||
                    lock->client_id.len > CLIENT_ID_MAX)) {
        queue_lock_fini(lock);
        rc = ESCROW_EINVAL;
    }
    if (rc != 0) {
        request_fail(req, -1, rc, "locks: consumerGroup, clientId or mqSet: %s",
                     escrow_strerror(rc));
    }
    return rc == 0;
}

static struct queue_lock_key key_of(const struct queue_lock *lock, const struct message_queue *q)
{
    return (struct queue_lock_key){.group = lock->group,
                                   .topic = q->topic,
                                   .queue_id = q->queue_id,
                                   .client_id = lock->client_id};
}

/* Only queues that are there can be locked: so strangers cannot fill the table. */
static bool is_queue(struct broker *b, const struct message_queue *q)
{
    const struct topic *topic = topics_find(&b->topics, q->topic);

    return topic != NULL && q->queue_id >= 0 && (uint32_t)q->queue_id < topic->read_queues;
}

void handle_lock_queues(struct request *req)
{
    struct broker *b = req->broker;
    struct queue_lock lock;
    struct header_writer w;
    size_t granted = 0;

    if (!lock_decode(req, &lock)) {
        return;
    }
    for (size_t i = 0; i < lock.queue_count; i++) {
        struct queue_lock_key key = key_of(&lock, &lock.queues[i]);
        if (is_queue(b, &lock.queues[i]) &&
            queue_locks_take(&b->queue_locks, &key, loop_mono_ms(b->loop)) == 0) {
            lock.queues[granted++] = lock.queues[i];
        }
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        queue_set_encode(w.buf, lock.queues, granted);
        request_end(req, &w);
    }
    queue_lock_fini(&lock);
}

void handle_unlock_queues(struct request *req)
{
    struct queue_lock lock;

    if (!lock_decode(req, &lock)) {
        return;
    }
    for (size_t i = 0; i < lock.queue_count; i++) {
        struct queue_lock_key key = key_of(&lock, &lock.queues[i]);
        queue_locks_give(&req->broker->queue_locks, &key);
    }
    queue_lock_fini(&lock);
    request_ok(req);
}
