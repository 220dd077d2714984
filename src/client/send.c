/*
 * Life of a send: route, pick a queue, try; a try that failed in a way that may be repeated goes to
 * another broker if there is one, after a pause. A half that may be stored stays with its broker:
 * there the same UNIQ_KEY is recognised, elsewhere it would be a second half that nobody decides.
 *
 * Once a try ended without an answer the message may be stored, whatever later tries say: the
 * result keeps class UNKNOWN unless one of them succeeds.
 */
#include "src/client/client_private.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/batch.h"
#include "core/proto/codes.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "core/proto/record.h"
#include "core/proto/send_request.h"
#include "src/client/pick.h"

#include <stdio.h>
#include <string.h>

#define SEND_PROPERTIES_FIXED 192 /* UNIQ_KEY, TRAN_MSG, a time, and the names of the others */

static void send_try(struct send_op *op);
static void send_route(struct send_op *op);

/* ---- preparing ---- */

static size_t text_len(const char *text)
{
    return text == NULL ? 0 : strlen(text);
}

/* Upper bound of a message's properties without `extra`. */
static size_t properties_bound(const struct escrow_producer *p, const struct escrow_message *m)
{
    return SEND_PROPERTIES_FIXED + strlen(p->group) + text_len(m->tag) + text_len(m->keys) +
           text_len(m->ordering_key) + m->properties.len;
}

size_t send_bytes(const struct escrow_message *m)
{
    return m->body_len + m->properties.len + text_len(m->tag) + text_len(m->keys) +
           text_len(m->ordering_key) + sizeof(struct send_op);
}

int send_prepare(struct send_op *op, const struct escrow_message *m)
{
    struct escrow_client *c = op->producer->client;
    struct props_writer w;
    size_t bound = properties_bound(op->producer, m) + op->extra.len;
    uint8_t *room;
    size_t len;

    op->born_ms = loop_wall_ms(&c->loop);
    len = uniq_key_next(&c->ids, op->born_ms, op->receipt.message_id);
    if (bound > PROPERTIES_LEN_MAX) {
        bound = PROPERTIES_LEN_MAX;
    }
    room = buf_reserve(&op->properties, bound);
    if (room == NULL) {
        return ESCROW_ENOMEM;
    }
    props_writer_init(&w, room, bound);
    props_put(&w, prop_name(PROP_UNIQ_KEY), slice_of(op->receipt.message_id, len));
    if (op->kind == SEND_HALF) {
        props_put(&w, prop_name(PROP_TRAN_MSG), SLICE_LIT("true"));
        props_put(&w, prop_name(PROP_PGROUP), slice_str(op->producer->group));
    }
    if (m->tag != NULL) {
        props_put(&w, prop_name(PROP_TAGS), slice_str(m->tag));
    }
    if (m->keys != NULL) {
        props_put(&w, prop_name(PROP_KEYS), slice_str(m->keys));
    }
    if (m->ordering_key != NULL) {
        props_put(&w, prop_name(PROP_SHARDING_KEY), slice_str(m->ordering_key));
        op->ordering_key = slice_str(m->ordering_key);
    }
    if (m->time_value > 0) {
        props_put_i64(&w, prop_name(m->time_prop), m->time_value);
    }
    props_put_all(&w, buf_slice(&m->properties));
    props_put_all(&w, op->extra);
    buf_commit(&op->properties, w.len);
    return w.error;
}

int send_pack(struct send_op *op, const struct escrow_message *m)
{
    const struct escrow_producer *p = op->producer;
    int rc;

    op->body = slice_of(m->body, m->body_len);
    if (p->compress_over == 0 || m->body_len <= p->compress_over) {
        return 0;
    }
    buf_init(&op->packed, 0);
    rc = compress_as(&op->packed, p->compress_how, op->body, (int)p->compress_level);
    if (rc != 0 || op->packed.len >= m->body_len) {
        buf_fini(&op->packed);
        return rc;
    }
    op->body = buf_slice(&op->packed);
    return 0;
}

void send_fini(struct send_op *op)
{
    router_cancel(&op->lookup);
    remote_cancel(&op->call);
    loop_timer_stop(&op->producer->client->loop, &op->timer);
    buf_fini(&op->properties);
    buf_fini(&op->packed);
}

/* ---- the end, and trying again ---- */

static void send_end(struct send_op *op, int error)
{
    if (error != 0 && op->may_be_stored && escrow_error_class(error) != ESCROW_CLASS_UNKNOWN) {
        error = ESCROW_ETIMEOUT;
    }
    op->error = error;
    op->done(op);
}

static void send_again(void *arg)
{
    send_route(arg);
}

static bool may_repeat(const struct send_op *op, int error)
{
    enum escrow_class class_ = escrow_error_class(error);

    return !op->producer->client->remote.is_stopping &&
           (class_ == ESCROW_CLASS_RETRY || class_ == ESCROW_CLASS_UNKNOWN);
}

static void send_failed(struct send_op *op, int error)
{
    struct escrow_client *c = op->producer->client;

    if (error == ESCROW_ETIMEOUT || error == ESCROW_ECLOSED) {
        op->may_be_stored = true;
    }
    if (error == ESCROW_ECONN || error == ESCROW_ECLOSED || error == ESCROW_ENOROUTE ||
        error == ESCROW_ESHUTDOWN) {
        router_forget(&c->router, op->topic);
    }
    if (!may_repeat(op, error) || op->tries > op->producer->retries) {
        send_end(op, error);
        return;
    }
    loop_timer_start(&c->loop, &op->timer, client_backoff_ms(c, op->tries), 0, send_again, op);
}

/* ---- one try ---- */

static void send_fields(struct header_writer *w, void *arg)
{
    const struct send_op *op = arg;
    struct send_request req;

    send_request_init(&req);
    req.producer_group = slice_str(op->producer->group);
    req.topic = slice_str(op->topic);
    req.default_topic = SLICE_LIT(TOPIC_TEMPLATE);
    req.default_queue_count = (int32_t)op->producer->queues;
    req.queue_id = op->queue_id;
    req.sys_flag = op->kind == SEND_HALF ? SYSFLAG_TXN_PREPARED : 0;
    if (op->packed.len > 0) { /* without a kind: zlib, also for clients older than the choice */
        req.sys_flag |= compression_flags(op->producer->compress_how);
    }
    req.born_ms = op->born_ms;
    req.properties = buf_slice(&op->properties);
    req.is_batch = op->kind == SEND_BATCH;
    send_request_encode(w, &req, true);
}

static void note_why(struct send_op *op, int error, const struct header *header)
{
    if (op->why != NULL && header != NULL && header->remark.len > 0) {
        (void)err_set(op->why, error, "%.*s", SLICE_ARGS(header->remark));
    }
}

static void send_answered(struct remote_call *call, int error, struct header *header,
                          struct slice body)
{
    struct send_op *op = LIST_ENTRY(call, struct send_op, call);
    struct escrow_receipt *r = &op->receipt;
    struct send_answer answer;

    (void)body;
    if (header != NULL && header->code >= RESPONSE_FLUSH_DISK_TIMEOUT &&
        header->code <= RESPONSE_FLUSH_SLAVE_TIMEOUT && op->kind != SEND_HALF) {
        /*
         * RocketMQ: stored, but less safely than configured; says so with the fields of a success
         */
        error = 0;
    }
    if (error == 0) {
        error = send_answer_decode(header, &answer);
        op->may_be_stored = op->may_be_stored || error != 0;
    }
    if (error != 0) {
        note_why(op, error, header);
        send_failed(op, error);
        return;
    }
    (void)slice_to_cstr(answer.msg_id, r->offset_id, sizeof r->offset_id);
    r->offset_id[strcspn(r->offset_id, ",")] = '\0'; /* of a batch: the first one's */
    (void)snprintf(r->broker, sizeof r->broker, "%s", op->target.broker); /* same size */
    (void)snprintf(r->addr, sizeof r->addr, "%s", op->target.addr);
    r->queue = answer.queue_id;
    r->offset = answer.queue_offset;
    send_end(op, 0);
}

static void send_try(struct send_op *op)
{
    struct escrow_client *c = op->producer->client;
    struct remote_request req = {
        .addr = op->target.addr,
        .code = op->kind == SEND_BATCH ? REQUEST_SEND_BATCH_MESSAGE : REQUEST_SEND_MESSAGE_V2,
        .fields = send_fields,
        .fields_arg = op,
        .body = op->body,
        .timeout_ms = op->producer->timeout_ms,
    };

    op->tries++;
    if (op->is_oneway) {
        int rc = remote_oneway(&c->remote, &req);
        if (rc == ESCROW_ECONN && op->tries <= op->producer->retries) {
            send_failed(op, rc);
        } else {
            send_end(op, rc);
        }
        return;
    }
    remote_call(&c->remote, &op->call, &req, send_answered);
}

/* The queue of this try. */
static bool choose_queue(struct send_op *op, const struct topic_route *route)
{
    char failed[ROUTER_NAME_MAX];
    struct pick pick = {.route = route,
                        .create_queues = (uint32_t)op->producer->queues,
                        .key = op->ordering_key,
                        .avoid = op->tries > 0 ? failed : NULL,
                        .turn = &op->producer->next_queue};

    (void)snprintf(failed, sizeof failed, "%s", op->target.broker); /* same size */
    return pick_queue(&pick, &op->target, &op->queue_id);
}

/* A half that may be stored is stored where it was sent. */
static bool is_pinned(const struct send_op *op)
{
    return op->kind == SEND_HALF && op->may_be_stored;
}

static void send_routed(struct route_lookup *lookup, int error, const struct topic_route *route)
{
    struct send_op *op = LIST_ENTRY(lookup, struct send_op, lookup);

    if (is_pinned(op)) {
        const char *addr = router_broker_addr(&op->producer->client->router, op->target.broker);
        if (addr != NULL) { /* it may have moved */
            (void)snprintf(op->target.addr, sizeof op->target.addr, "%s", addr); /* same size */
        }
        send_try(op);
        return;
    }
    if (error == 0 && !choose_queue(op, route)) {
        error = ESCROW_ENOROUTE;
    }
    if (error != 0) {
        op->tries++;
        send_failed(op, error);
        return;
    }
    send_try(op);
}

static void send_route(struct send_op *op)
{
    router_lookup(&op->producer->client->router, &op->lookup, op->topic, true, send_routed);
}

void send_start(struct send_op *op)
{
    send_route(op);
}

/* ---- batches ---- */

/*
 * Body and id of a batch: every message with an id of its own; the receipt has the first one's.
 * Loop (ids).
 */
static int batch_prepare(struct send_op *op, const struct escrow_message *const *messages,
                         size_t count, struct buf *body)
{
    char first[MSGID_TEXT_MAX + 1] = "";
    struct slice key = SLICE_EMPTY;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct batch_item item = {.body = slice_of(messages[i]->body, messages[i]->body_len)};
        buf_clear(&op->properties);
        /* A batch is stored in its queue at once, as a whole. */
        rc = messages[i]->time_value > 0 ? ESCROW_EINVAL : send_prepare(op, messages[i]);
        if (i == 0) {
            (void)snprintf(first, sizeof first, "%s", op->receipt.message_id); /* same size */
            key = op->ordering_key;
        }
        item.properties = buf_slice(&op->properties);
        if (rc == 0) {
            rc = batch_append(body, &item);
        }
    }
    buf_clear(&op->properties); /* the request has none in common */
    op->ordering_key = key;     /* of the first: all go to one queue */
    (void)snprintf(op->receipt.message_id, sizeof op->receipt.message_id, "%s", first);
    if (rc == 0 && body->len > op->producer->body_max) {
        rc = ESCROW_ETOOBIG;
    }
    op->body = buf_slice(body);
    return rc;
}

/* ---- synchronous ---- */

struct send_call {
    struct send_op op;
    struct waiter waiter;
    const struct escrow_message *message; /* of a batch: NULL */
    const struct escrow_message *const *batch;
    size_t batch_count;
    struct buf batch_body;
    struct err_ctx why;
};

static void call_done(struct send_op *op)
{
    struct send_call *call = LIST_ENTRY(op, struct send_call, op);

    send_fini(op);
    waiter_signal(&call->waiter);
}

static void call_start(struct task *task)
{
    struct send_call *call = LIST_ENTRY(task, struct send_call, op.task);
    int rc = call->batch != NULL
                 ? batch_prepare(&call->op, call->batch, call->batch_count, &call->batch_body)
                 : send_prepare(&call->op, call->message);

    if (rc != 0) {
        call->op.error = rc;
        call_done(&call->op);
        return;
    }
    send_start(&call->op);
}

/* Post it and wait for its end; `bytes` of memory are taken meanwhile. */
static int call_wait(struct send_call *call, const char *topic, size_t bytes)
{
    struct escrow_producer *p = call->op.producer;
    struct escrow_client *c = p->client;
    int rc = client_may_block(c);

    if (rc != 0) {
        return rc;
    }
    if (!client_memory_take(c, bytes)) {
        return last_error_set(ESCROW_ELIMIT,
                              "send: memory.max.bytes is used up; wait for other sends");
    }
    call->op.topic = topic;
    call->op.why = &call->why;
    call->op.done = call_done;
    call->op.task.run = call_start;
    buf_init(&call->op.properties, 0);
    producer_ref(p);
    rc = waiter_init(&call->waiter);
    if (rc == 0) {
        rc = client_post(c, &call->op.task);
        if (rc == 0) {
            rc = waiter_wait(&call->waiter, -1);
        }
        waiter_fini(&call->waiter);
    }
    client_memory_give(c, bytes);
    producer_unref(p); /* it may be gone now */
    if (rc == 0) {
        rc = call->op.error;
    }
    if (rc != 0) {
        return last_error_set(rc, "send to topic %s: %s (%u tries, last broker %s)", topic,
                              call->why.code == rc ? call->why.text : escrow_strerror(rc),
                              call->op.tries,
                              call->op.target.addr[0] == '\0' ? "none" : call->op.target.addr);
    }
    return 0;
}

int send_wait(struct escrow_producer *p, const struct escrow_message *m, enum send_kind kind,
              struct escrow_receipt *receipt)
{
    struct send_call call = {.message = m};
    int rc = message_check(p, m);

    if (rc != 0) {
        return rc;
    }
    call.op.producer = p;
    call.op.kind = kind;
    rc = send_pack(&call.op, m);
    if (rc != 0) {
        return last_error_set(rc, "send: no memory to compress the body");
    }
    rc = call_wait(&call, m->topic, send_bytes(m));
    buf_fini(&call.op.packed); /* what did not even start */
    if (rc == 0) {
        *receipt = call.op.receipt;
    }
    return rc;
}

int send_batch_wait(struct escrow_producer *p, const struct escrow_message *const *messages,
                    size_t count, struct escrow_receipt *receipt)
{
    struct send_call call = {.batch = messages, .batch_count = count};
    size_t bytes = 0;
    int rc = count == 0 ? last_error_set(ESCROW_EINVAL, "batch: no messages") : 0;

    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = message_check(p, messages[i]);
        if (rc == 0 && strcmp(messages[i]->topic, messages[0]->topic) != 0) {
            rc = last_error_set(ESCROW_EINVAL, "batch: messages of topics %s and %s",
                                messages[0]->topic, messages[i]->topic);
        }
        bytes += send_bytes(messages[i]);
    }
    if (rc != 0) {
        return rc;
    }
    call.op.producer = p;
    call.op.kind = SEND_BATCH;
    buf_init(&call.batch_body, FRAME_SIZE_MAX);
    rc = call_wait(&call, messages[0]->topic, bytes);
    buf_fini(&call.batch_body);
    if (rc == 0) {
        *receipt = call.op.receipt;
    }
    return rc;
}
