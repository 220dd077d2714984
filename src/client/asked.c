/*
 * What brokers ask consumers, for an administrator: how it is (307), how far it is (221), to
 * consume one message now (309), and to go on elsewhere (220, which is told and not asked). The
 * one message runs on a worker like any other, one of a consumer at a time; nothing is stored of
 * it, nor sent back when the handler fails.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/body_running.h"
#include "core/proto/codes.h"
#include "src/client/consumer_private.h"

#include <stdio.h>
#include <string.h>

#define ASKED_QUEUES_MAX 8192 /* of one answer */

static struct escrow_consumer *find_consumer(struct escrow_client *c, struct slice group)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &c->consumers) {
        struct escrow_consumer *k = LIST_ENTRY(pos, struct escrow_consumer, node);
        if (slice_eq_str(group, k->group) && !k->is_stopping) {
            return k;
        }
    }
    return NULL;
}

/* Whoever asked gives up by himself when the answer cannot be sent. */
static void answer(struct escrow_client *c, const char *addr, struct answer_to to, struct buf *body)
{
    if (buf_failed(body) ||
        remote_answer(&c->remote, addr, to, RESPONSE_SUCCESS, SLICE_EMPTY, buf_slice(body)) != 0) {
        /* see above */
    }
    buf_fini(body);
}

static void refuse(struct escrow_client *c, const char *addr, struct answer_to to, int32_t code,
                   const char *why)
{
    if (remote_answer(&c->remote, addr, to, code, slice_str(why), SLICE_EMPTY) != 0) {
        /* likewise */
    }
}

/* ---- 220 ---- */

static void reset_queue(struct escrow_consumer *k, const struct queue_stats *row)
{
    const struct queue_seek to = {ESCROW_SEEK_OFFSET, row->consumer_offset};
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &k->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (q->state != QUEUE_DROPPED && q->queue_id == (uint32_t)row->queue.queue_id &&
            slice_eq_str(row->queue.topic, q->topic->topic) &&
            slice_eq_str(row->queue.broker_name, q->broker)) {
            queue_go_to(q, &to);
            commit_offset(q, row->consumer_offset);
        }
    }
}

static void asked_reset(struct escrow_consumer *k, struct slice body)
{
    struct queue_table table;

    if (queue_table_decode(body, QUEUE_TABLE_OFFSETS, &table) != 0) {
        return;
    }
    for (size_t i = 0; i < table.count; i++) {
        if (table.rows[i].consumer_offset >= 0) {
            reset_queue(k, &table.rows[i]);
        }
    }
    queue_table_fini(&table);
}

/* ---- 307, 221 ---- */

/* Times of the monotonic clock as times of day. */
static int64_t wall_of(struct escrow_client *c, int64_t mono_ms)
{
    return mono_ms <= 0 ? 0 : loop_wall_ms(&c->loop) - (loop_mono_ms(&c->loop) - mono_ms);
}

static struct running_queue running_of(struct consumer_queue *q)
{
    struct escrow_client *c = q->consumer->client;
    bool is_idle = progress_is_idle(&q->progress);

    return (struct running_queue){
        .queue = {.topic = slice_str(q->topic->topic),
                  .broker_name = slice_str(q->broker),
                  .queue_id = (int32_t)q->queue_id},
        .commit_offset = q->committed < 0 ? 0 : q->committed,
        .first_offset = is_idle ? 0 : q->progress.first,
        .last_offset = is_idle ? 0 : q->progress.next - 1,
        .count = q->in_progress,
        .is_locked = q->locked_ms >= 0 && lock_is_held(q),
        .is_dropped = q->state == QUEUE_DROPPED,
        .locked_ms = wall_of(c, q->locked_ms),
        .pulled_ms = wall_of(c, q->pulled_ms),
        .consumed_ms = wall_of(c, q->handled_ms),
    };
}

/* At most ASKED_QUEUES_MAX; those of one topic, or all. NULL: out of memory. */
static struct running_queue *running_queues(struct escrow_consumer *k, struct slice topic,
                                            size_t *count)
{
    struct running_queue *rows = mem_calloc(ASKED_QUEUES_MAX, sizeof *rows);
    struct list *pos;
    struct list *tmp;

    *count = 0;
    LIST_FOREACH(pos, tmp, &k->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (rows != NULL && *count < ASKED_QUEUES_MAX &&
            (topic.len == 0 || slice_eq_str(topic, q->topic->topic))) {
            rows[(*count)++] = running_of(q);
        }
    }
    return rows;
}

static size_t running_topics(struct escrow_consumer *k, struct running_topic *rows)
{
    double seconds = (double)(loop_mono_ms(&k->client->loop) - k->started_ms) / 1000;

    seconds = seconds < 0.001 ? 0.001 : seconds;
    for (size_t i = 0; i < k->topic_count; i++) {
        const struct consumer_topic *t = k->topics[i];
        rows[i] = (struct running_topic){
            .topic = slice_str(t->topic),
            .handler_ms = t->handled == 0 ? 0 : (double)t->handler_ms / (double)t->handled,
            .ok_per_s = (double)(t->handled - t->failed) / seconds,
            .failed_per_s = (double)t->failed / seconds,
            .failed = (int64_t)t->failed};
    }
    return k->topic_count;
}

static void asked_info(struct escrow_consumer *k, const char *addr, struct answer_to to)
{
    struct escrow_client *c = k->client;
    struct running_topic topics[CONSUMER_TOPICS_MAX];
    struct heartbeat_consumer self;
    char threads[24];
    char started[24];
    struct running_info info = {.topics = topics};
    struct running_queue *queues = running_queues(k, SLICE_EMPTY, &info.queue_count);
    struct buf body;

    if (queues == NULL) {
        refuse(c, addr, to, RESPONSE_SYSTEM_ERROR, "out of memory");
        return;
    }
    consumer_describe(k, &self);
    (void)snprintf(threads, sizeof threads, "%llu", (unsigned long long)k->concurrency);
    (void)snprintf(started, sizeof started, "%lld", (long long)wall_of(c, k->started_ms));
    const struct kv_pair properties[] = {
        {SLICE_LIT(RUNNING_NAME_SERVERS), slice_str(c->servers)},
        {SLICE_LIT(RUNNING_THREADS), slice_str(threads)},
        {SLICE_LIT(RUNNING_ORDERLY), slice_str(k->is_orderly ? "true" : "false")},
        {SLICE_LIT(RUNNING_TYPE), slice_str(consume_type_name(self.type))},
        {SLICE_LIT(RUNNING_VERSION), SLICE_LIT("escrow " ESCROW_VERSION)},
        {SLICE_LIT(RUNNING_STARTED), slice_str(started)},
    };
    info.properties = properties;
    info.property_count = sizeof properties / sizeof properties[0];
    info.subscriptions = self.subscriptions;
    info.subscription_count = self.subscription_count;
    info.queues = queues;
    info.topic_count = running_topics(k, topics);
    buf_init(&body, 0);
    running_info_encode(&body, &info);
    mem_free(queues);
    answer(c, addr, to, &body);
}

static void asked_offsets(struct escrow_consumer *k, const char *addr, struct answer_to to,
                          struct slice topic)
{
    size_t count;
    struct running_queue *queues = running_queues(k, topic, &count);
    struct buf body;

    if (queues == NULL) {
        refuse(k->client, addr, to, RESPONSE_SYSTEM_ERROR, "out of memory");
        return;
    }
    buf_init(&body, 0);
    running_offsets_encode(&body, queues, count);
    mem_free(queues);
    answer(k->client, addr, to, &body);
}

/* ---- 309 ---- */

struct direct_job {
    struct task task;
    struct escrow_consumer *consumer;
    struct escrow_delivery *message;
    enum escrow_consume_result result;
    int64_t began_ms;
    struct answer_to to;
    char addr[REMOTE_ADDR_MAX];
};

static void direct_done(struct task *task)
{
    struct direct_job *job = LIST_ENTRY(task, struct direct_job, task);
    struct escrow_consumer *k = job->consumer;
    struct consume_directly done = {.is_orderly = k->is_orderly,
                                    .result = job->result == ESCROW_CONSUME_OK ? "CR_SUCCESS"
                                                                               : "CR_LATER",
                                    .spent_ms = loop_mono_ms(&k->client->loop) - job->began_ms};
    struct buf body;

    buf_init(&body, 0);
    consume_directly_encode(&body, &done);
    answer(k->client, job->addr, job->to, &body);
    delivery_free(&job->message);
    mem_free(job);
    k->direct = NULL;
    consumer_maybe_stopped(k);
}

/* On a worker. */
static void direct_run(struct task *task)
{
    struct direct_job *job = LIST_ENTRY(task, struct direct_job, task);
    struct escrow_consumer *k = job->consumer;

    job->result = ESCROW_CONSUME_RETRY;
    if (delivery_open(job->message) == 0) {
        job->result = k->handler(job->message, k->handler_arg);
    }
    job->task.run = direct_done;
    if (client_post(k->client, &job->task) != 0) {
        UNREACHABLE("the loop takes tasks until every consumer is freed");
    }
}

static void asked_consume(struct escrow_consumer *k, const char *addr, struct header *header,
                          struct slice body)
{
    struct escrow_client *c = k->client;
    struct answer_to to = answer_to(header);
    struct slice broker = header_str(header, "brokerName");
    struct direct_job *job;
    char name[ROUTER_NAME_MAX];
    int rc;

    if (consumer_is_polled(k) || k->direct != NULL) {
        refuse(c, addr, to, RESPONSE_SYSTEM_BUSY,
               consumer_is_polled(k) ? "this consumer has no handler"
                                     : "another message is being consumed so");
        return;
    }
    job = mem_calloc(1, sizeof *job);
    (void)slice_to_cstr(broker, name, sizeof name); /* cut when too long: it is only shown */
    rc = job == NULL ? ESCROW_ENOMEM : delivery_new(body, name, &job->message);
    if (rc != 0) {
        mem_free(job);
        refuse(c, addr, to, RESPONSE_SYSTEM_ERROR, escrow_strerror(rc));
        return;
    }
    job->consumer = k;
    job->to = to;
    job->began_ms = loop_mono_ms(&c->loop);
    (void)snprintf(job->addr, sizeof job->addr, "%s", addr); /* same size */
    job->task.run = direct_run;
    k->direct = job;
    if (client_work(c, &job->task) != 0) {
        UNREACHABLE("workers take tasks until every consumer is freed");
    }
}

/* ---- the request ---- */

void asked_on_push(struct escrow_client *c, const char *addr, struct header *header,
                   struct slice body)
{
    bool by_group = header->code == REQUEST_RESET_CONSUMER_CLIENT_OFFSET ||
                    header->code == REQUEST_GET_CONSUMER_STATUS_FROM_CLIENT;
    struct slice group = header_str(header, by_group ? "group" : "consumerGroup");
    struct escrow_consumer *k = find_consumer(c, group);

    if (k == NULL) {
        if (!header_is_oneway(header)) {
            refuse(c, addr, answer_to(header), RESPONSE_SYSTEM_ERROR,
                   "no consumer of the group is here");
        }
        return;
    }
    switch (header->code) {
    case REQUEST_RESET_CONSUMER_CLIENT_OFFSET:
        asked_reset(k, body);
        break;
    case REQUEST_GET_CONSUMER_STATUS_FROM_CLIENT:
        asked_offsets(k, addr, answer_to(header), header_str(header, "topic"));
        break;
    case REQUEST_GET_CONSUMER_RUNNING_INFO:
        asked_info(k, addr, answer_to(header));
        break;
    case REQUEST_CONSUME_MESSAGE_DIRECTLY:
        asked_consume(k, addr, header, body);
        break;
    default:
        UNREACHABLE("the caller looks at the code");
    }
}
