/*
 * Messages on their way through handlers. One is taken from its queue on the loop, waits for a free
 * handler (in order: for its turn first), runs on a worker, and comes back to the loop: done, or
 * sent back to the broker, which holds it until it is time for a retry. Its offset counts as
 * finished only then.
 *
 * In order, and in broadcast, a message that failed is tried again here after a pause, and when it
 * failed too often goes to the dead-letter queue, or is dropped (broadcast). What cannot be sent
 * back is handled again here, too. What belongs to a queue that was given away is forgotten: its
 * new owner delivers it.
 */
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/codes.h"
#include "src/client/consumer_private.h"

#define DEAD_LETTER_LEVEL (-1) /* a delay level that means: no retry */

static void jobs_start(struct escrow_consumer *k);
static void job_next_turn(struct consumer_queue *q);

/* ---- room ---- */

static struct prefetch *prefetch_of(const struct consumer_queue *q)
{
    return &q->consumer->prefetch[q->topic->is_retry ? 1 : 0];
}

bool jobs_have_room(struct consumer_queue *q)
{
    struct prefetch *p = prefetch_of(q);

    /* In order a queue may stand still for long: it must not use up the room of the others. */
    if (q->consumer->is_orderly && q->in_progress == 0) {
        return true;
    }
    if (q->consumer->is_orderly && q->in_progress >= 2 * q->consumer->pull_batch) {
        return false;
    }
    if (p->is_full || p->count >= q->consumer->prefetch_max) {
        p->is_starved = true;
        return false;
    }
    return true;
}

/*
 * One message (in order: of every queue) is always taken, however large; a quarter of the memory is
 * for retries.
 */
static bool memory_take(struct consumer_queue *q, size_t bytes)
{
    struct escrow_client *c = q->consumer->client;
    struct prefetch *p = prefetch_of(q);

    if (p->count == 0 || (q->consumer->is_orderly && q->in_progress == 0)) {
        client_received_force(c, bytes);
    } else if ((q->topic->is_retry && p->bytes + bytes > c->memory_max / 4) ||
               !client_received_take(c, bytes)) {
        p->is_full = true; /* until one of them is done */
        return false;
    }
    p->bytes += bytes;
    return true;
}

static void memory_give(struct consumer_queue *q, size_t bytes)
{
    struct prefetch *p = prefetch_of(q);

    CHECK(p->bytes >= bytes);
    p->bytes -= bytes;
    p->is_full = false;
    client_received_give(q->consumer->client, bytes);
}

static void queues_resume(struct escrow_consumer *k)
{
    struct list *pos;
    struct list *tmp;

    for (int i = 0; i < 2; i++) {
        struct prefetch *p = &k->prefetch[i];
        if (!p->is_starved || p->is_full || p->count >= k->prefetch_max || k->is_stopping) {
            continue;
        }
        p->is_starved = false;
        LIST_FOREACH(pos, tmp, &k->queues) {
            struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
            if (prefetch_of(q) == p) {
                queue_resume(q);
            }
        }
    }
}

/* ---- the end of a job ---- */

/* Its queue may be freed here. */
static void job_free(struct consume_job *job)
{
    struct consumer_queue *q = job->queue;
    struct escrow_consumer *k = q->consumer;

    loop_timer_stop(&k->client->loop, &job->timer);
    remote_cancel(&job->call);
    list_remove(&job->ready);
    memory_give(q, job->bytes);
    delivery_free(&job->message);
    CHECK(q->in_progress > 0);
    CHECK(prefetch_of(q)->count > 0);
    prefetch_of(q)->count--;
    q->in_progress--;
    if (q->turn == job) {
        q->turn = NULL;
    }
    mem_free(job);
    if (q->state == QUEUE_OFFSET && q->in_progress == 0) {
        begin_ask(q);
    } else if (q->state == QUEUE_PAUSED) {
        queue_maybe_go_on(q);
    } else if (k->is_orderly && q->state != QUEUE_DROPPED && q->state != QUEUE_OFFSET) {
        job_next_turn(q);
        queue_resume(q);
    }
    queue_maybe_end(q);
    queues_resume(k);
}

static void job_finish(struct consume_job *job)
{
    if (!progress_finish(&job->queue->progress, job->offset)) {
        UNREACHABLE("an offset is begun with its job, and a queue begins anew only without jobs");
    }
    job_free(job);
}

static void abandon_list(struct list *jobs, const struct consumer_queue *q)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, jobs) {
        struct consume_job *job = LIST_ENTRY(pos, struct consume_job, ready);
        if (job->queue == q && !job->call.is_active) {
            job_free(job);
        }
    }
}

void jobs_abandon(struct consumer_queue *q)
{
    abandon_list(&q->consumer->ready, q);
    abandon_list(&q->consumer->waiting, q);
    abandon_list(&q->backlog, q);
}

/* ---- waiting for a handler ---- */

static void job_ready(void *arg)
{
    struct consume_job *job = arg;

    list_remove(&job->ready);
    list_push(&job->queue->consumer->ready, &job->ready);
    jobs_start(job->queue->consumer);
}

/* In order: the next message of the queue, when none is on its way. */
static void job_next_turn(struct consumer_queue *q)
{
    if (q->turn == NULL && !list_is_empty(&q->backlog)) {
        q->turn = LIST_ENTRY(q->backlog.next, struct consume_job, ready);
        job_ready(q->turn);
    }
}

/* ---- sending back ---- */

static void back_fields(struct header_writer *w, void *arg)
{
    const struct consume_job *job = arg;

    header_put_str(w, "group", slice_str(job->queue->consumer->group));
    header_put_i64(w, "offset", job->message->physical_offset);
    header_put_i64(w, "delayLevel",
                   consumer_retries_here(job->queue->consumer)
                       ? DEAD_LETTER_LEVEL
                       : (int64_t)job->queue->consumer->retry_level);
    header_put_str(w, "originMsgId", slice_str(job->message->message_id));
    header_put_str(w, "originTopic", slice_str(job->message->topic));
    header_put_i64(w, "maxReconsumeTimes", (int64_t)job->queue->consumer->retries_max);
}

static void back_answered(struct remote_call *call, int error, struct header *header,
                          struct slice body)
{
    struct consume_job *job = LIST_ENTRY(call, struct consume_job, call);
    struct consumer_queue *q = job->queue;
    struct escrow_consumer *k = q->consumer;
    /*
     * An escrowd that no longer has the message; nobody will ever get it again. Others say so only
     * of the group.
     */
    bool is_gone =
        error == ESCROW_ENOTFOUND && header != NULL && header->code == RESPONSE_SYSTEM_ERROR;

    (void)body;
    if (error == 0 || is_gone) {
        job_finish(job);
    } else if (q->state == QUEUE_DROPPED || q->state == QUEUE_OFFSET || q->state == QUEUE_PAUSED) {
        job_free(job); /* not finished: it is delivered again from its queue, or not wanted */
    } else {
        loop_timer_start(&k->client->loop, &job->timer, CONSUMER_RETRY_MS, 0, job_ready, job);
    }
}

static void job_send_back(struct consume_job *job)
{
    struct escrow_consumer *k = job->queue->consumer;
    struct remote_request req = {.addr = job->queue->addr,
                                 .code = REQUEST_CONSUMER_SEND_MSG_BACK,
                                 .fields = back_fields,
                                 .fields_arg = job,
                                 .timeout_ms = CONSUMER_CALL_TIMEOUT_MS};

    list_push(&k->waiting, &job->ready);
    remote_call(&k->client->remote, &job->call, &req, back_answered);
}

/* ---- trying again here ---- */

static void job_give_up(struct consume_job *job)
{
    const struct consumer_queue *q = job->queue;

    if (!q->consumer->is_broadcast) {
        job_send_back(job); /* to the dead-letter queue */
        return;
    }
    log_warn("consumer.drop", "group %s, topic %s, queue %u of %s, offset %lld: failed %d times",
             q->consumer->group, q->topic->topic, q->queue_id, q->broker, (long long)job->offset,
             job->message->attempt + 1);
    job_finish(job);
}

static void job_again(struct consume_job *job)
{
    struct escrow_consumer *k = job->queue->consumer;

    if (job->queue->state == QUEUE_OFFSET) {
        job_free(job); /* the queue goes on elsewhere */
    } else if (job->message->attempt >= 0 && (uint64_t)job->message->attempt >= k->retries_max) {
        job_give_up(job);
    } else if (job->queue->state == QUEUE_DROPPED || job->queue->state == QUEUE_PAUSED) {
        job_free(job); /* not finished: it is delivered again from its queue */
    } else {
        job->message->attempt++;
        list_push(&k->waiting, &job->ready);
        loop_timer_start(&k->client->loop, &job->timer, k->retry_pause_ms, 0, job_ready, job);
    }
}

/* ---- handlers ---- */

/* On the loop again. */
static void job_handled(struct task *task)
{
    struct consume_job *job = LIST_ENTRY(task, struct consume_job, task);
    struct escrow_consumer *k = job->queue->consumer;

    CHECK(k->running > 0);
    k->running--;
    job->queue->handled_ms = loop_mono_ms(&k->client->loop);
    job->queue->topic->handled++;
    job->queue->topic->failed += job->result == ESCROW_CONSUME_OK ? 0 : 1;
    job->queue->topic->handler_ms += job->queue->handled_ms - job->began_ms;
    if (job->result == ESCROW_CONSUME_OK) {
        job_finish(job);
    } else if (queue_is_lost(job->queue)) {
        job_free(job); /* its new owner delivers it anyhow */
    } else if (consumer_retries_here(k)) {
        job_again(job);
    } else {
        job_send_back(job);
    }
    jobs_start(k);
}

/* On a worker. */
static void job_handle(struct task *task)
{
    struct consume_job *job = LIST_ENTRY(task, struct consume_job, task);
    struct escrow_consumer *k = job->queue->consumer;

    job->result = ESCROW_CONSUME_RETRY;
    if (delivery_open(job->message) == 0) {
        size_t bytes = job->message->opened.cap;
        client_received_force(k->client, bytes);
        job->result = k->handler(job->message, k->handler_arg);
        delivery_close(job->message);
        client_received_give(k->client, bytes);
    }
    job->task.run = job_handled;
    if (client_post(k->client, &job->task) != 0) {
        UNREACHABLE("the loop takes tasks until every consumer is freed");
    }
}

static void jobs_start(struct escrow_consumer *k)
{
    if (consumer_is_polled(k)) {
        loop_defer(&k->client->loop, &k->poll_soon);
        return;
    }
    while (!list_is_empty(&k->ready) && k->running < k->concurrency && !k->is_stopping) {
        struct consume_job *job = LIST_ENTRY(k->ready.next, struct consume_job, ready);
        if (!lock_is_held(job->queue)) {
            CHECK(job->queue->state != QUEUE_DROPPED); /* its jobs would have gone with it */
            queue_lose(job->queue);
            continue;
        }
        list_remove(&job->ready);
        job->began_ms = loop_mono_ms(&k->client->loop);
        job->task.run = job_handle;
        if (client_work(k->client, &job->task) != 0) {
            UNREACHABLE("workers take tasks until every consumer is freed");
        }
        k->running++;
    }
}

struct escrow_delivery *jobs_hand_out(struct escrow_consumer *k)
{
    struct escrow_delivery *message = NULL;

    if (!list_is_empty(&k->ready) && !k->is_stopping) {
        struct consume_job *job = LIST_ENTRY(k->ready.next, struct consume_job, ready);
        message = job->message;
        job->message = NULL;
        job_finish(job);
    }
    return message;
}

/* ---- taking a message ---- */

int jobs_take(struct consumer_queue *q, struct escrow_delivery **message)
{
    struct consume_job *job;
    size_t bytes = (*message)->record.len * 2 + sizeof *job;
    int rc;

    if (!memory_take(q, bytes)) {
        return ESCROW_ELIMIT;
    }
    job = mem_calloc(1, sizeof *job);
    rc = job == NULL ? ESCROW_ENOMEM : progress_begin(&q->progress, (*message)->offset);
    if (rc != 0) {
        memory_give(q, bytes);
        mem_free(job);
        return rc;
    }
    list_init(&job->ready);
    job->queue = q;
    job->bytes = bytes;
    job->offset = (*message)->offset;
    job->message = *message;
    *message = NULL;
    q->in_progress++;
    prefetch_of(q)->count++;
    if (q->consumer->is_orderly) {
        list_push(&q->backlog, &job->ready);
        job_next_turn(q);
    } else {
        job_ready(job);
    }
    return 0;
}
