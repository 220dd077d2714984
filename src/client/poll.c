/*
 * Consumers without a handler: the program asks for messages when it wants them. A poll is a task
 * on the loop that takes what is ready, or waits there until something is.
 *
 * A message that a poll took is done as far as its queue's progress is concerned; what may be
 * stored of that is another number, consumer_queue.done: how far the queue was when the program
 * said that it is done with what it has (a commit), or said so by polling again.
 */
#include "core/base/check.h"
#include "src/client/consumer_private.h"

#include <string.h>

/* ---- polling ---- */

struct consumer_poll {
    struct task task;
    struct waiter waiter;
    struct escrow_consumer *consumer;
    struct loop_timer timer;
    struct escrow_delivery **messages;
    size_t max;
    size_t count;
    int64_t timeout_ms;
    int error;
};

static void poll_end(struct consumer_poll *p)
{
    struct escrow_consumer *k = p->consumer;

    loop_timer_stop(&k->client->loop, &p->timer);
    if (k->poll == p) {
        k->poll = NULL;
    }
    waiter_signal(&p->waiter); /* p is gone */
}

static void poll_time_up(void *arg)
{
    poll_end(arg);
}

static void poll_take(struct consumer_poll *p)
{
    while (p->count < p->max) {
        struct escrow_delivery *message = jobs_hand_out(p->consumer);
        if (message == NULL) {
            return;
        }
        p->messages[p->count++] = message;
    }
}

static void mark_done(struct escrow_consumer *k)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &k->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (q->state != QUEUE_OFFSET && q->state != QUEUE_LOCKING) {
            q->done = q->progress.first;
        }
        q->commit_error = 0;
    }
}

static void poll_begin(struct task *task)
{
    struct consumer_poll *p = LIST_ENTRY(task, struct consumer_poll, task);
    struct escrow_consumer *k = p->consumer;

    if (k->poll != NULL) {
        p->error = ESCROW_EBUSY;
        poll_end(p);
        return;
    }
    if (k->commits_by_itself) {
        mark_done(k);
    }
    poll_take(p);
    if (p->count > 0 || p->timeout_ms == 0) {
        poll_end(p);
        return;
    }
    k->poll = p;
    if (p->timeout_ms > 0) {
        loop_timer_start(&k->client->loop, &p->timer, (uint64_t)p->timeout_ms, 0, poll_time_up, p);
    }
}

/* What an answer brought is ready, all of it. */
void poll_feed(void *arg)
{
    struct escrow_consumer *k = arg;

    if (k->poll != NULL) {
        poll_take(k->poll);
        if (k->poll->count > 0) {
            poll_end(k->poll);
        }
    }
}

/* Post a task and wait until it signals. */
static int post_and_wait(struct escrow_client *c, struct task *task, struct waiter *waiter)
{
    int rc = waiter_init(waiter);

    if (rc != 0) {
        return rc;
    }
    rc = client_post(c, task);
    if (rc == 0) {
        rc = waiter_wait(waiter, -1);
    }
    waiter_fini(waiter);
    return rc;
}

static int polling_check(const struct escrow_consumer *k, const char *what)
{
    int rc = client_may_block(k->client);

    if (rc == 0 && (!k->is_started || !consumer_is_polled(k))) {
        rc = last_error_set(ESCROW_EINVAL, "%s: the consumer is not started without a handler",
                            what);
    }
    return rc;
}

int escrow_consumer_poll(struct escrow_consumer *consumer, int64_t timeout_ms,
                         struct escrow_delivery **messages, size_t max, size_t *count)
{
    struct consumer_poll p = {.task.run = poll_begin,
                              .consumer = consumer,
                              .messages = messages,
                              .max = max,
                              .timeout_ms = timeout_ms};
    int rc = polling_check(consumer, "poll");

    *count = 0;
    if (rc == 0 && max == 0) {
        rc = last_error_set(ESCROW_EINVAL, "poll: no room for a message");
    }
    if (rc != 0) {
        return rc;
    }
    rc = post_and_wait(consumer->client, &p.task, &p.waiter);
    if (rc == 0) {
        rc = p.error;
    }
    if (rc != 0) {
        return last_error_set(rc, "poll: %s",
                              rc == ESCROW_EBUSY ? "another thread is polling this consumer"
                                                 : escrow_strerror(rc));
    }
    for (size_t i = 0; i < p.count; i++) {
        if (delivery_open(messages[i]) != 0) {
            /* out of memory: it stays compressed, and says so */
        }
    }
    *count = p.count;
    return 0;
}

void escrow_delivery_free(struct escrow_delivery **delivery)
{
    delivery_free(delivery);
}

/* ---- storing ---- */

static void commit_begin(struct task *task)
{
    struct commit_wait *w = LIST_ENTRY(task, struct commit_wait, task);
    struct escrow_consumer *k = w->consumer;

    if (k->commit_wait != NULL) {
        w->error = ESCROW_EBUSY;
        waiter_signal(&w->waiter);
        return;
    }
    mark_done(k);
    k->commit_wait = w;
    commit_watch(k);
}

int escrow_consumer_commit(struct escrow_consumer *consumer)
{
    struct commit_wait w = {.task.run = commit_begin, .consumer = consumer};
    int rc = polling_check(consumer, "commit");

    if (rc != 0) {
        return rc;
    }
    rc = post_and_wait(consumer->client, &w.task, &w.waiter);
    if (rc == 0) {
        rc = w.error;
    }
    return rc == 0 ? 0 : last_error_set(rc, "commit: %s", escrow_strerror(rc));
}

/* ---- going elsewhere ---- */

struct seek_call {
    struct escrow_consumer *consumer;
    const char *topic;
    const char *broker;
    int32_t queue;
    struct queue_seek to;
    size_t found;
};

static void seek_run(void *arg)
{
    struct seek_call *s = arg;
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &s->consumer->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (q->state != QUEUE_DROPPED && strcmp(q->topic->topic, s->topic) == 0 &&
            (s->broker == NULL || strcmp(q->broker, s->broker) == 0) &&
            (s->queue < 0 || q->queue_id == (uint32_t)s->queue)) {
            s->found++;
            queue_go_to(q, &s->to);
        }
    }
}

int escrow_consumer_seek(struct escrow_consumer *consumer, const char *topic, const char *broker,
                         int32_t queue, enum escrow_seek to, int64_t value)
{
    struct seek_call s = {consumer, topic, broker, queue, {to, value}, 0};
    int rc = polling_check(consumer, "seek");

    if (rc != 0) {
        return rc;
    }
    if (to > ESCROW_SEEK_TIME || value < 0) {
        return last_error_set(ESCROW_EINVAL, "seek: no such place");
    }
    rc = client_call(consumer->client, seek_run, &s);
    if (rc == 0 && s.found == 0) {
        rc = ESCROW_ENOTFOUND;
    }
    return rc == 0 ? 0
                   : last_error_set(rc, "seek: topic %.80s: %s", topic,
                                    rc == ESCROW_ENOTFOUND
                                        ? "this consumer has no such queue, or not yet: poll first"
                                        : escrow_strerror(rc));
}
