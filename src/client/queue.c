/*
 * One queue: pull, and hand messages over. A failure waits a little and tries again; a queue is
 * never given up as long as it is assigned.
 */
#include "src/client/consumer_private.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/codes.h"

#include <stdio.h>

#define PULL_SYS_SUSPEND      2
#define PULL_SYS_SUBSCRIPTION 4
#define QUEUE_EMPTY_MS        100

int queue_new(struct consumer_topic *t, const char *broker, const char *addr, uint32_t queue_id,
              struct consumer_queue **out)
{
    struct consumer_queue *q = mem_calloc(1, sizeof *q);

    if (q == NULL) {
        return ESCROW_ENOMEM;
    }
    q->consumer = t->consumer;
    q->topic = t;
    q->queue_id = queue_id;
    q->committed = -1;
    q->commit_max = INT64_MAX;
    q->locked_ms = -1;
    q->state = consumer_locks(t->consumer) ? QUEUE_LOCKING : QUEUE_OFFSET;
    q->is_paused = consumer_is_paused(t, broker, queue_id);
    t->queue_count++;
    list_init(&q->backlog);
    (void)snprintf(q->broker, sizeof q->broker, "%s", broker); /* same sizes */
    (void)snprintf(q->addr, sizeof q->addr, "%s", addr);
    progress_init(&q->progress, 0);
    list_push(&t->consumer->queues, &q->node);
    *out = q;
    return 0;
}

static void queue_free(struct consumer_queue *q)
{
    CHECK(q->in_progress == 0);
    lock_give(q);
    remote_cancel(&q->call);
    remote_cancel(&q->commit);
    loop_timer_stop(&q->consumer->client->loop, &q->timer);
    progress_fini(&q->progress);
    list_remove(&q->node);
    topic_release(q->topic);
    mem_free(q);
}

static void queue_retry(void *arg)
{
    struct consumer_queue *q = arg;

    if (q->state == QUEUE_LOCKING) {
        lock_ask(q);
    } else if (q->state == QUEUE_OFFSET) {
        begin_ask(q);
    } else if (q->state == QUEUE_WAITING) {
        queue_pull(q);
    }
}

void queue_begin(struct consumer_queue *q)
{
    queue_retry(q);
}

static void queue_pause(struct consumer_queue *q)
{
    struct escrow_client *c = q->consumer->client;

    q->failures++;
    loop_timer_start(&c->loop, &q->timer, client_backoff_ms(c, q->failures), 0, queue_retry, q);
}

void queue_fail(struct consumer_queue *q)
{
    router_forget(&q->consumer->client->router, q->topic->topic);
    rebalance_retry(q->consumer);
    queue_pause(q);
}

/* ---- pulling ---- */

static void pull_fields(struct header_writer *w, void *arg)
{
    const struct consumer_queue *q = arg;

    header_put_str(w, "consumerGroup", slice_str(q->consumer->group));
    header_put_str(w, "topic", slice_str(q->topic->topic));
    header_put_i64(w, "queueId", q->queue_id);
    header_put_i64(w, "queueOffset", q->next_offset);
    header_put_i64(w, "maxMsgNums", (int64_t)q->consumer->pull_batch);
    header_put_i64(w, "sysFlag", PULL_SYS_SUSPEND | PULL_SYS_SUBSCRIPTION);
    header_put_i64(w, "commitOffset", 0);
    header_put_i64(w, "suspendTimeoutMillis", CONSUMER_SUSPEND_MS);
    header_put_str(w, "subscription", slice_str(q->topic->expression));
    header_put_i64(w, "subVersion", q->topic->version);
    header_put_str(w, "expressionType", slice_str(consumer_type_of(q->topic)));
}

/* Does the text of the tag match too? The broker compares hashes only; of SQL92 it decides. */
static bool tag_matches(const struct consumer_queue *q, const struct escrow_delivery *d)
{
    const char *tag = escrow_delivery_tag(d);

    return q->topic->is_sql || tag_expression_match(slice_str(q->topic->expression),
                                                    tag == NULL ? SLICE_EMPTY : slice_str(tag));
}

/*
 * Hand over every record of an answer. ESCROW_EPROTO: not records; ESCROW_ENOMEM, ESCROW_ELIMIT:
 * pull again from where it stopped.
 */
static int queue_take(struct consumer_queue *q, struct slice body)
{
    struct record_walk walk = {.rest = body};
    struct record_view view;
    int rc;

    while ((rc = record_walk_next(&walk, &view)) == 1) {
        struct escrow_delivery *d = NULL;
        int64_t offset = view.f.queue_offset;
        if (offset < q->next_offset) {
            continue; /* seen already */
        }
        if (offset == INT64_MAX) {
            return ESCROW_EPROTO; /* there is none behind it */
        }
        rc = delivery_new(view.record, q->broker, &d);
        if (rc == 0 && !tag_matches(q, d)) {
            delivery_free(&d);
            rc = progress_skip_to(&q->progress, offset + 1);
        } else if (rc == 0) {
            rc = jobs_take(q, &d);
        }
        if (rc != 0) {
            delivery_free(&d);
            return rc;
        }
        q->next_offset = offset + 1;
    }
    return rc;
}

static void pull_found(struct consumer_queue *q, struct header *header, struct slice body)
{
    struct loop *l = &q->consumer->client->loop;
    int64_t before = q->next_offset;
    int64_t next = before;
    int rc = header_get_i64(header, "nextBeginOffset", &next);

    if (rc == 0 && header->code == RESPONSE_SUCCESS) {
        rc = queue_take(q, body);
    }
    if (rc == 0 && next > q->next_offset) {
        q->next_offset = next;
        rc = progress_skip_to(&q->progress, next);
    }
    if (rc != 0 && rc != ESCROW_ELIMIT) {
        queue_fail(q);
        return;
    }
    q->failures = 0;
    if (q->next_offset == before && loop_mono_ms(l) - q->pulled_ms < QUEUE_EMPTY_MS) {
        /* A broker that does not keep pulls waiting: do not ask it all the time. */
        loop_timer_start(l, &q->timer, QUEUE_EMPTY_MS, 0, queue_retry, q);
        return;
    }
    queue_pull(q);
}

/*
 * What was there is gone, or never was: go on where the broker says. At once, but not when it says
 * so time after time.
 */
static void pull_moved(struct consumer_queue *q, int64_t offset)
{
    begin_at(q, offset);
    if (q->failures == 0) {
        q->failures = 1;
        queue_pull(q);
    } else {
        queue_pause(q);
    }
}

static void pull_answered(struct remote_call *call, int error, struct header *header,
                          struct slice body)
{
    struct consumer_queue *q = LIST_ENTRY(call, struct consumer_queue, call);
    int64_t next = 0;

    q->state = QUEUE_WAITING;
    if (header == NULL || error == ESCROW_ESHUTDOWN) {
        queue_fail(q);
        return;
    }
    switch (header->code) {
    case RESPONSE_SUCCESS:
    case RESPONSE_PULL_NOT_FOUND:
    case RESPONSE_PULL_RETRY_IMMEDIATELY:
        pull_found(q, header, body);
        return;
    case RESPONSE_PULL_OFFSET_MOVED:
        if (header_get_i64(header, "nextBeginOffset", &next) == 0 && next >= 0 &&
            q->in_progress == 0) {
            pull_moved(q, next);
            return;
        }
        break;
    default:
        break;
    }
    queue_fail(q);
}

void queue_pull(struct consumer_queue *q)
{
    struct escrow_client *c = q->consumer->client;
    struct remote_request req = {.addr = q->addr,
                                 .code = REQUEST_PULL_MESSAGE,
                                 .fields = pull_fields,
                                 .fields_arg = q,
                                 .timeout_ms = CONSUMER_SUSPEND_MS + CONSUMER_CALL_TIMEOUT_MS};

    if (q->state == QUEUE_WAITING && q->is_paused) {
        q->state = QUEUE_PAUSED;
    }
    if (q->state != QUEUE_WAITING || q->call.is_active || q->consumer->is_stopping ||
        !jobs_have_room(q)) {
        return; /* queue_resume comes when there is room */
    }
    loop_timer_stop(&c->loop, &q->timer);
    q->state = QUEUE_PULLING;
    q->pulled_ms = loop_mono_ms(&c->loop);
    remote_call(&c->remote, &q->call, &req, pull_answered);
}

void queue_resume(struct consumer_queue *q)
{
    if (!loop_timer_is_active(&q->timer)) {
        queue_pull(q);
    }
}

/* ---- pausing ---- */

void queue_set_paused(struct consumer_queue *q, bool is_paused)
{
    q->is_paused = is_paused;
    if (!is_paused) {
        queue_maybe_go_on(q);
    } else if (q->state == QUEUE_PULLING || q->state == QUEUE_WAITING) {
        remote_cancel(&q->call);
        loop_timer_stop(&q->consumer->client->loop, &q->timer);
        q->state = QUEUE_PAUSED;
        q->in_progress++; /* stays until everything is forgotten */
        jobs_abandon(q);
        q->in_progress--;
    } /* else it is when it would pull */
}

void queue_maybe_go_on(struct consumer_queue *q)
{
    int64_t first = q->progress.first;

    if (q->state != QUEUE_PAUSED || q->is_paused || q->in_progress > 0) {
        return;
    }
    progress_fini(&q->progress); /* it has begun what was forgotten */
    progress_init(&q->progress, first);
    q->next_offset = first;
    q->failures = 0;
    q->state = QUEUE_WAITING;
    queue_pull(q);
}

/* ---- the end ---- */

void queue_moved(struct consumer_queue *q, const char *addr)
{
    bool was_pulling = q->state == QUEUE_PULLING;

    (void)snprintf(q->addr, sizeof q->addr, "%s", addr); /* same sizes */
    remote_cancel(&q->call);
    loop_timer_stop(&q->consumer->client->loop, &q->timer);
    if (was_pulling) {
        q->state = QUEUE_WAITING;
    }
    lock_moved(q);
    queue_retry(q);
}

void queue_go_to(struct consumer_queue *q, const struct queue_seek *to)
{
    struct escrow_client *c = q->consumer->client;

    if (q->state == QUEUE_LOCKING || q->state == QUEUE_DROPPED) {
        return; /* callers look for queues that are there */
    }
    remote_cancel(&q->call);
    loop_timer_stop(&c->loop, &q->timer);
    q->state = QUEUE_OFFSET;
    q->seek = *to;
    q->has_seek = true;
    q->in_progress++; /* stays until everything is forgotten */
    jobs_abandon(q);
    q->in_progress--;
    begin_ask(q);
}

bool queue_is_in_the_way(const struct consumer_queue *q)
{
    return q->state == QUEUE_DROPPED && q->consumer->is_orderly;
}

void queue_maybe_end(struct consumer_queue *q)
{
    struct escrow_consumer *k = q->consumer;

    if (q->state != QUEUE_DROPPED || q->in_progress > 0) {
        return;
    }
    queue_commit(q);
    if (!q->commit.is_active) {
        if (queue_is_in_the_way(q) && !k->is_stopping) {
            loop_defer(&k->client->loop, &k->rebalance_soon); /* it may be ours again by now */
        }
        queue_free(q);
        consumer_maybe_stopped(k);
    }
}

/*
 * What handlers finish after this is stored only when nobody else can have begun: when the consumer
 * stops, for the group is left later, and in order, for the lock is given back later.
 */
void queue_drop(struct consumer_queue *q)
{
    struct escrow_consumer *k = q->consumer;

    if (q->state == QUEUE_DROPPED) {
        return;
    }
    remote_cancel(&q->call);
    loop_timer_stop(&k->client->loop, &q->timer);
    if ((q->state == QUEUE_OFFSET || q->state == QUEUE_LOCKING) && q->in_progress == 0) {
        queue_free(q);
        return;
    }
    q->has_given_up = q->state == QUEUE_OFFSET; /* it was to go on elsewhere, which is stored */
    q->state = QUEUE_DROPPED;
    if (!k->is_stopping && !k->is_orderly && !queue_is_lost(q)) {
        q->commit_max = q->progress.first;
        queue_commit(q);
    }
    q->in_progress++; /* stays until everything is forgotten */
    jobs_abandon(q);
    q->in_progress--;
    queue_maybe_end(q);
}

void queue_lose(struct consumer_queue *q)
{
    q->commit_max = q->committed;
    q->locked_ms = -1;
    if (q->state != QUEUE_DROPPED) {
        rebalance_retry(q->consumer);
        queue_drop(q);
    }
}
