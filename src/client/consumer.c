/*
 * Push consumer: public calls, and messages on their way through handlers. A message is taken from its queue on the loop, waits
 * for its retry time and for a free handler, runs on a worker, and comes back to the loop: done, or sent back to the broker
 * for later. Its offset counts as finished only then.
 */
#include "src/client/consumer_private.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/io/clock.h"
#include "core/proto/codes.h"
#include "core/proto/names.h"

#include <stdio.h>
#include <string.h>

/* ---- messages through handlers (loop, but job_handle) ---- */

static void jobs_start(struct escrow_consumer *k);

bool consumer_has_room(const struct escrow_consumer *k)
{
    return k->prefetched < k->prefetch_max;
}

static void queues_resume(struct escrow_consumer *k)
{
    struct list *pos;
    struct list *tmp;

    if (consumer_has_room(k) && !k->is_stopping) {
        LIST_FOREACH(pos, tmp, &k->queues) {
            queue_resume(LIST_ENTRY(pos, struct consumer_queue, node));
        }
    }
}

static void job_free(struct consume_job *job)
{
    struct consumer_queue *q = job->queue;
    struct escrow_consumer *k = q->consumer;

    loop_timer_stop(&k->client->loop, &job->timer);
    remote_cancel(&job->call);
    list_remove(&job->ready);
    client_memory_give(k->client, job->bytes);
    delivery_free(&job->message);
    mem_free(job);
    k->prefetched--;
    q->in_progress--;
    if (q->state == QUEUE_DROPPED && q->in_progress == 0) {
        queue_commit(q);
        if (!q->commit.is_active) {
            queue_free(q);
        }
    }
    consumer_maybe_stopped(k);
}

static void job_finish(struct consume_job *job)
{
    struct escrow_consumer *k = job->queue->consumer;

    if (!progress_finish(&job->queue->progress, job->offset)) {
        /* The broker moved the queue's offset meanwhile: nothing to count. */
    }
    job_free(job);
    queues_resume(k);
}

static void job_ready(void *arg)
{
    struct consume_job *job = arg;

    list_remove(&job->ready);
    list_push(&job->queue->consumer->ready, &job->ready);
    jobs_start(job->queue->consumer);
}

static void back_fields(struct header_writer *w, void *arg)
{
    const struct consume_job *job = arg;

    header_put_str(w, "group", slice_str(job->queue->consumer->group));
    header_put_i64(w, "offset", job->message->physical_offset);
    header_put_i64(w, "delayLevel", 0);
    header_put_str(w, "originMsgId", slice_str(job->message->message_id));
    header_put_str(w, "originTopic", slice_str(job->message->topic));
    header_put_i64(w, "maxReconsumeTimes", (int64_t)job->queue->consumer->retries_max);
}

static void back_answered(struct remote_call *call, int error, struct header *header,
                          struct slice body)
{
    struct consume_job *job = LIST_ENTRY(call, struct consume_job, call);
    struct escrow_consumer *k = job->queue->consumer;

    (void)header;
    (void)body;
    if (error == 0 || error == ESCROW_ENOTFOUND) {
        job_finish(job); /* the broker has it, or it is gone for good */
    } else if (k->is_stopping || error == ESCROW_ESHUTDOWN) {
        job_free(job); /* not finished: it is delivered again from its queue */
    } else {
        loop_timer_start(&k->client->loop, &job->timer, k->retry_delay_ms, 0, job_ready, job);
    }
}

/* On the loop again. */
static void job_handled(struct task *task)
{
    struct consume_job *job = LIST_ENTRY(task, struct consume_job, task);
    struct escrow_consumer *k = job->queue->consumer;

    k->running--;
    if (job->result == ESCROW_CONSUME_OK) {
        job_finish(job);
    } else {
        struct remote_request req = {.addr = job->queue->addr,
                                     .code = REQUEST_CONSUMER_SEND_MSG_BACK,
                                     .fields = back_fields,
                                     .fields_arg = job,
                                     .timeout_ms = CONSUMER_CALL_TIMEOUT_MS};
        list_push(&k->waiting, &job->ready);
        remote_call(&k->client->remote, &job->call, &req, back_answered);
    }
    jobs_start(k);
}

/* On a worker. */
static void job_handle(struct task *task)
{
    struct consume_job *job = LIST_ENTRY(task, struct consume_job, task);
    struct escrow_consumer *k = job->queue->consumer;

    job->result = k->handler(job->message, k->handler_arg);
    job->task.run = job_handled;
    if (client_post(k->client, &job->task) != 0) {
        UNREACHABLE("the loop takes tasks until every consumer is freed");
    }
}

static void jobs_start(struct escrow_consumer *k)
{
    while (!list_is_empty(&k->ready) && k->running < k->concurrency && !k->is_stopping) {
        struct consume_job *job = LIST_ENTRY(k->ready.next, struct consume_job, ready);
        list_remove(&job->ready);
        job->task.run = job_handle;
        if (client_work(k->client, &job->task) != 0) {
            list_push(&k->ready, &job->ready);
            return;
        }
        k->running++;
    }
}

/* How long a redelivered message still has to wait, by the broker's store time. */
static uint64_t retry_wait_ms(const struct escrow_consumer *k, const struct consumer_queue *q,
                              const struct escrow_delivery *d)
{
    uint64_t delay_ms = k->retry_delay_ms;
    int64_t passed_ms = loop_wall_ms(&k->client->loop) - d->store_ms;

    if (!q->topic->is_retry || d->attempt <= 0) {
        return 0;
    }
    for (int32_t i = 1; i < d->attempt && delay_ms < CONSUMER_DELAY_MAX_MS; i++) {
        delay_ms *= 2;
    }
    if (delay_ms > CONSUMER_DELAY_MAX_MS) {
        delay_ms = CONSUMER_DELAY_MAX_MS;
    }
    if (passed_ms < 0) {
        passed_ms = 0; /* the broker's clock is ahead of ours */
    }
    return (uint64_t)passed_ms >= delay_ms ? 0 : delay_ms - (uint64_t)passed_ms;
}

int consumer_take(struct consumer_queue *q, struct escrow_delivery **message)
{
    struct escrow_consumer *k = q->consumer;
    struct consume_job *job;
    size_t bytes = (*message)->record.len * 2 + sizeof *job;
    uint64_t wait_ms = retry_wait_ms(k, q, *message);

    if (!client_memory_take(k->client, bytes)) {
        return ESCROW_ELIMIT;
    }
    job = mem_calloc(1, sizeof *job);
    if (job == NULL) {
        client_memory_give(k->client, bytes);
        return ESCROW_ENOMEM;
    }
    list_init(&job->ready);
    job->queue = q;
    job->bytes = bytes;
    job->offset = (*message)->offset;
    job->message = *message;
    *message = NULL;
    q->in_progress++;
    k->prefetched++;
    if (wait_ms > 0) {
        list_push(&k->waiting, &job->ready);
        loop_timer_start(&k->client->loop, &job->timer, wait_ms, 0, job_ready, job);
    } else {
        job_ready(job);
    }
    return 0;
}

/* ---- what brokers hear ---- */

void consumer_on_ids_changed(struct escrow_client *c, struct slice group)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &c->consumers) {
        struct escrow_consumer *k = LIST_ENTRY(pos, struct escrow_consumer, node);
        if (slice_eq_str(group, k->group) && !k->is_stopping) {
            loop_defer(&c->loop, &k->rebalance_soon);
        }
    }
}

/* The rows borrow from each consumer's own block until the next call. */
void consumer_fill_heartbeat(struct escrow_client *c, struct heartbeat_consumer *rows, size_t max,
                             size_t *count)
{
    struct list *pos;
    struct list *tmp;

    *count = 0;
    LIST_FOREACH(pos, tmp, &c->consumers) {
        struct escrow_consumer *k = LIST_ENTRY(pos, struct escrow_consumer, node);
        if (*count == max || k->is_stopping) {
            continue;
        }
        for (size_t i = 0; i < k->topic_count; i++) {
            k->subscriptions[i] =
                (struct subscription){.topic = slice_str(k->topics[i]->topic),
                                      .expression = slice_str(k->topics[i]->expression),
                                      .expression_type = SLICE_LIT("TAG"),
                                      .version = k->topics[i]->version};
        }
        rows[(*count)++] = (struct heartbeat_consumer){
            .group = slice_str(k->group),
            .type = CONSUME_PASSIVELY,
            .model = MODEL_CLUSTERING,
            .from = k->from_last ? CONSUME_FROM_LAST_OFFSET : CONSUME_FROM_FIRST_OFFSET,
            .subscriptions = k->subscriptions,
            .subscription_count = k->topic_count};
    }
}

/* ---- public ---- */

int escrow_consumer_new(struct escrow_client *client, const char *group,
                        const struct escrow_option *options, struct escrow_consumer **out)
{
    struct escrow_consumer *k = mem_calloc(1, sizeof *k);
    char from[8] = "first";
    int rc;

    *out = NULL;
    if (k == NULL) {
        return last_error_set(ESCROW_ENOMEM, "consumer: out of memory");
    }
    k->client = client;
    k->concurrency = 4;
    k->retries_max = 16;
    k->retry_delay_ms = 1000;
    k->pull_batch = 32;
    k->prefetch_max = 1000;
    k->commit_ms = 1000;
    list_init(&k->queues);
    list_init(&k->ready);
    list_init(&k->waiting);
    list_init(&k->node);
    const struct option_spec specs[] = {
        {.key = "concurrency", .number = &k->concurrency, .min = 1, .max = CLIENT_WORKERS_MAX},
        {.key = "from", .text = from, .text_size = sizeof from},
        {.key = "retries.max", .number = &k->retries_max, .min = 0, .max = 1000000},
        {.key = "retry.delay.ms", .number = &k->retry_delay_ms, .min = 1, .max = 3600000},
        {.key = "pull.batch", .number = &k->pull_batch, .min = 1, .max = 1024},
        {.key = "prefetch.max", .number = &k->prefetch_max, .min = 1, .max = 1000000},
        {.key = "commit.ms", .number = &k->commit_ms, .min = 1, .max = 600000},
    };
    rc = options_read(options, specs, sizeof specs / sizeof specs[0]);
    if (rc == 0 && strcmp(from, "first") != 0 && strcmp(from, "last") != 0) {
        rc = last_error_set(ESCROW_ECONFIG, "option from = '%s': expected first or last", from);
    }
    if (rc == 0 && name_check_group(slice_str(group)) != 0) {
        rc = last_error_set(ESCROW_EINVAL, "consumer: group '%.60s' is not a valid name", group);
    }
    if (rc != 0) {
        mem_free(k);
        return rc;
    }
    k->from_last = strcmp(from, "last") == 0;
    (void)snprintf(k->group, sizeof k->group, "%s", group); /* name_check_group bounds it */
    *out = k;
    return 0;
}

static int topic_add(struct escrow_consumer *k, const char *topic, const char *expression,
                     bool is_retry)
{
    struct consumer_topic *t;

    if (k->topic_count == CONSUMER_TOPICS_MAX) {
        return last_error_set(ESCROW_ELIMIT, "consumer: more than %d topics", CONSUMER_TOPICS_MAX);
    }
    t = mem_calloc(1, sizeof *t);
    if (t == NULL) {
        return last_error_set(ESCROW_ENOMEM, "consumer: out of memory");
    }
    t->consumer = k;
    t->is_retry = is_retry;
    t->version = clock_wall_ms(k->client->clock);
    (void)snprintf(t->topic, sizeof t->topic, "%s", topic); /* names are bounded by their check */
    (void)snprintf(t->expression, sizeof t->expression, "%s",
                   expression); /* length checked by the caller */
    k->topics[k->topic_count++] = t;
    return 0;
}

int escrow_consumer_subscribe(struct escrow_consumer *consumer, const char *topic,
                              const char *expression)
{
    struct tag_filter filter;

    if (consumer->is_started) {
        return last_error_set(ESCROW_EINVAL, "subscribe: the consumer is started already");
    }
    if (name_check_topic(slice_str(topic)) != 0) {
        return last_error_set(ESCROW_EINVAL, "subscribe: topic '%.80s' is not a valid name", topic);
    }
    if (strlen(expression) >= sizeof consumer->topics[0]->expression ||
        tag_filter_parse(slice_str(expression), &filter) != 0) {
        return last_error_set(
            ESCROW_EINVAL, "subscribe: expression '%.80s': expected * or TagA || TagB", expression);
    }
    return topic_add(consumer, topic, expression, false);
}

static void commit_time(void *arg)
{
    struct escrow_consumer *k = arg;
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &k->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (q->state != QUEUE_DROPPED) {
            queue_commit(q);
        }
    }
}

static void consumer_enter(void *arg)
{
    struct escrow_consumer *k = arg;

    list_push(&k->client->consumers, &k->node);
    loop_timer_start(&k->client->loop, &k->commit, k->commit_ms, k->commit_ms, commit_time, k);
    rebalance_start(k);
}

int escrow_consumer_start(struct escrow_consumer *consumer, escrow_handler_fn *handler, void *arg)
{
    struct name_buf retry;
    int rc;

    if (consumer->is_started || consumer->topic_count == 0) {
        return last_error_set(ESCROW_EINVAL, consumer->is_started
                                                 ? "start: the consumer is started already"
                                                 : "start: nothing is subscribed");
    }
    rc = name_retry_topic(slice_str(consumer->group), &retry);
    if (rc == 0) {
        rc = topic_add(consumer, retry.text, "*", true);
    }
    if (rc != 0) {
        return rc;
    }
    consumer->handler = handler;
    consumer->handler_arg = arg;
    consumer->is_started = true;
    return client_call(consumer->client, consumer_enter, consumer);
}

/* ---- the end ---- */

static void goodbye_fields(struct header_writer *w, void *arg)
{
    const struct escrow_consumer *k = arg;

    header_put_str(w, "clientID", slice_str(k->client->id));
    header_put_str(w, "consumerGroup", slice_str(k->group));
}

static void goodbye(struct escrow_consumer *k, const char *addr)
{
    struct remote_request req = {
        .addr = addr, .code = REQUEST_UNREGISTER_CLIENT, .fields = goodbye_fields, .fields_arg = k};

    if (remote_oneway(&k->client->remote, &req) != 0) {
        /* The broker sees the connection close instead. */
    }
}

/* Say goodbye to every broker that serves one of our topics. */
static void goodbye_all(struct escrow_consumer *k)
{
    for (size_t i = 0; i < k->topic_count; i++) {
        const struct topic_route *route = router_known(&k->client->router, k->topics[i]->topic);
        for (size_t n = 0; route != NULL && n < route->target_count; n++) {
            if (route->targets[n].addr[0] != '\0') {
                goodbye(k, route->targets[n].addr);
            }
        }
    }
}

void consumer_maybe_stopped(struct escrow_consumer *k)
{
    if (k->is_stopping && list_is_empty(&k->queues) && k->stopped != NULL) {
        struct waiter *stopped = k->stopped;
        k->stopped = NULL;
        goodbye_all(k);
        loop_timer_stop(&k->client->loop, &k->commit);
        rebalance_stop(k);
        list_remove(&k->node);
        waiter_signal(stopped);
    }
}

/* Jobs without a running handler: what they hold is delivered again, to whoever has the queue then. */
static void jobs_abandon(struct list *jobs)
{
    while (!list_is_empty(jobs)) {
        job_free(LIST_ENTRY(jobs->next, struct consume_job, ready));
    }
}

struct stop_call {
    struct task task;
    struct waiter waiter;
    struct escrow_consumer *consumer;
};

static void consumer_stop(struct task *task)
{
    struct stop_call *call = LIST_ENTRY(task, struct stop_call, task);
    struct escrow_consumer *k = call->consumer;
    struct list *pos;
    struct list *tmp;

    k->is_stopping = true;
    rebalance_stop(k);
    jobs_abandon(&k->ready);
    jobs_abandon(&k->waiting);
    LIST_FOREACH(pos, tmp, &k->queues) {
        queue_drop(LIST_ENTRY(pos, struct consumer_queue, node));
    }
    k->stopped = &call->waiter;
    consumer_maybe_stopped(k);
}

void escrow_consumer_free(struct escrow_consumer **consumer)
{
    struct escrow_consumer *k = *consumer;
    struct stop_call call = {.task.run = consumer_stop, .consumer = k};

    if (k == NULL) {
        return;
    }
    *consumer = NULL;
    if (k->is_started) {
        if (waiter_init(&call.waiter) != 0 || client_post(k->client, &call.task) != 0 ||
            waiter_wait(&call.waiter, -1) != 0) {
            UNREACHABLE("a consumer is freed before its client");
        }
        waiter_fini(&call.waiter);
    }
    for (size_t i = 0; i < k->topic_count; i++) {
        mem_free(k->topics[i]);
    }
    mem_free(k);
}
