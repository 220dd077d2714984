/*
 * SEND_MESSAGE 10, SEND_MESSAGE_V2 310, SEND_BATCH_MESSAGE 320 (PROTOCOL.md, "Send").
 *
 * Happy path: check, append, wait for the log, answer. A message with property TRAN_MSG=true
 * becomes a half: the same path, but txn_prepare comes first and its place in the queue is decided
 * later. One that is to be delivered later becomes a held message; a half can be both. Checks come
 * in RocketMQ's order, so that a request with two faults gets the same code from both.
 *
 * Failures: nothing is appended; the producer gets the code its client retries on (2, 14) or does
 * not (13, 16, 29).
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/batch.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "core/proto/send_request.h"
#include "core/proto/tags.h"
#include "src/broker/broker.h"
#include "src/broker/delays.h"
#include "src/broker/dispatch.h"
#include "src/broker/half_again.h"
#include "src/broker/recall_handle.h"
#include "src/broker/topic_create.h"
#include "src/broker/transactions.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* One send while it is being checked and appended. */
struct send {
    struct request *req;
    struct broker *broker;
    struct send_request in;
    struct topic *topic;
    struct props_known props;
    struct delay delay;
    bool is_dead; /* goes to a dead-letter queue, and so at once */
    /* rewritten string; unused when the client's can be stored as it is */
    uint8_t properties[PROPERTIES_LEN_MAX];
    char made_id[MSGID_TEXT_MAX + 1];
    struct name_buf dlq_name;
};

/* ---- answers ---- */

static void answer_write(struct deferred *d, const struct send_answer *answer)
{
    struct header_writer w;

    if (deferred_begin(d, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        send_answer_encode(&w, answer);
        header_end(&w);
        deferred_end(d, &w);
    }
}

static void send_answer(struct broker *b, struct deferred *d, const struct pending_send *s,
                        struct slice recall_handle)
{
    char id[MSGID_TEXT_MAX + 1];
    struct send_answer answer = {
        .msg_id = slice_of(id, msgid_encode(&b->store_host, (int64_t)s->offset, id)),
        .transaction_id = slice_of(s->id, s->id_len),
        .queue_id = s->queue_id,
        .queue_offset = s->queue_offset,
        .recall_handle = recall_handle};

    answer_write(d, &answer);
}

static void send_answered(struct broker *b, struct pending *p, int error)
{
    if (error == 0) {
        send_answer(b, &p->deferred, &p->arg.send, SLICE_EMPTY);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
}

/* A half that is there already is answered with where it is. */
static void send_is_same(struct broker *b, struct deferred *d, const struct pending_send *first)
{
    send_answer(b, d, first, SLICE_EMPTY);
}

static void send_note(const struct send *s, struct pending_send *a, uint64_t offset,
                      int64_t queue_offset)
{
    a->offset = offset;
    a->queue_offset = queue_offset;
    a->queue_id = s->in.queue_id;
    a->id_len = 0;
    if (s->props.uniq_key.len > 0 && s->props.uniq_key.len <= sizeof a->id) {
        a->id_len = (uint8_t)s->props.uniq_key.len;
        memcpy(a->id, s->props.uniq_key.ptr, s->props.uniq_key.len);
    }
}

static void send_wait(struct send *s, uint64_t wait_for, bool is_early, uint64_t offset,
                      int64_t queue_offset)
{
    struct pending *p =
        pump_wait(&s->broker->pump, wait_for, is_early, send_answered, request_defer(s->req));

    send_note(s, &p->arg.send, offset, queue_offset);
}

static void send_refused_full(struct send *s)
{
    struct broker *b = s->broker;
    double used = b->retention.verdict.percent / 100.0;
    char todo[128] = "make room on its disk";

    if (b->retention.verdict.is_refusing) {
        (void)snprintf(todo, sizeof todo,
                       "%u%% of its disk are in use, disk.warning.ratio is %u%%: make room or "
                       "raise it",
                       b->retention.verdict.percent, (unsigned)b->config->disk_warning);
    }
    b->metrics.sends_refused_full++;
    /* RocketMQ's own words first: people and programs look for them. */
    request_fail(s->req, RESPONSE_SERVICE_NOT_AVAILABLE, ESCROW_ENOSPC,
                 "service not available now. It may be caused by one of the following reasons: "
                 "the broker's disk is full [CL: %5.2f CQ: %5.2f INDEX: %5.2f], messages are "
                 "put to the slave, message store has been shut down, etc. Here: %s",
                 used, used, used, todo);
}

/* An append that was refused. */
static void send_refused(struct send *s, int error)
{
    struct broker *b = s->broker;

    if (error == ESCROW_ENOSPC) {
        send_refused_full(s);
    } else if (error == ESCROW_ELIMIT) {
        b->metrics.sends_refused_busy++;
        request_fail(s->req, RESPONSE_SYSTEM_BUSY, error,
                     "[OVERLOAD]system busy, start flow control for a while");
    } else {
        request_fail(s->req, -1, error, NULL);
    }
}

/* ---- checks ---- */

/*
 * A consumer whose send-back failed sends the copy itself. When the retries of its group are used
 * up (the copy counts the one it is for, so: more than the maximum) the copy goes to the
 * dead-letter queue instead, as it would have with a send-back.
 */
static bool send_redirect(struct send *s)
{
    const size_t prefix = sizeof NAME_RETRY_PREFIX - 1;
    int32_t max = s->in.max_reconsume_times;

    if (name_topic_class(s->in.topic) != TOPIC_RETRY) {
        return true;
    }
    if (max < 0) {
        max = groups_config(&s->broker->groups, name_group_of_topic(s->in.topic)).retry_max_times;
    }
    if (s->in.reconsume_times <= max) {
        return true;
    }
    if (name_dlq_topic(slice_of(s->in.topic.ptr + prefix, s->in.topic.len - prefix),
                       &s->dlq_name) != 0) {
        request_fail(s->req, -1, ESCROW_EINVAL, "the retry topic does not name a group");
        return false;
    }
    s->in.topic = slice_str(s->dlq_name.text);
    s->is_dead = true;
    s->in.queue_id = 0;
    return true;
}

static bool send_check_topic(struct send *s)
{
    struct err_ctx err = {.code = 0};
    uint32_t wanted = s->in.default_queue_count > 0 ? (uint32_t)s->in.default_queue_count : 0;
    uint32_t queues;
    int rc;

    if (!send_redirect(s)) {
        return false;
    }
    if (!name_is_sendable(s->in.topic)) {
        request_fail(s->req, RESPONSE_NO_PERMISSION, ESCROW_EPERM,
                     "sending message to the topic[%.*s] is forbidden.", SLICE_ARGS(s->in.topic));
        return false;
    }
    rc = topic_find_or_create(s->broker, s->in.topic, s->in.default_topic, wanted, &s->topic, &err);
    if (rc != 0) {
        request_fail(s->req, -1, rc, "%s", err.text);
        return false;
    }
    if ((s->topic->perm & PERM_WRITE) == 0) {
        request_fail(s->req, RESPONSE_NO_PERMISSION, ESCROW_EPERM, "the topic[%s] is not writable",
                     s->topic->name);
        return false;
    }
    queues = s->topic->write_queues > s->topic->read_queues ? s->topic->write_queues
                                                            : s->topic->read_queues;
    if (s->in.queue_id >= (int32_t)queues) {
        request_fail(s->req, RESPONSE_INVALID_PARAMETER, ESCROW_EINVAL,
                     "request queueId[%d] is illegal, topic[%s] has %u queues", s->in.queue_id,
                     s->topic->name, queues);
        return false;
    }
    if (s->in.queue_id < 0) {
        s->in.queue_id = (int32_t)(s->topic->next_queue++ % s->topic->write_queues);
    }
    return true;
}

static bool send_check_body(struct send *s)
{
    if (s->req->body.len == 0) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, ESCROW_EINVAL, "the message has no body");
        return false;
    }
    if (s->req->body.len > s->broker->config->message_max_bytes) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, ESCROW_ETOOBIG,
                     "the body has %zu bytes, more than message.max.bytes = %zu", s->req->body.len,
                     s->broker->config->message_max_bytes);
        return false;
    }
    return true;
}

/* Does the client's string pass as it is? */
static bool properties_pass(const struct send *s)
{
    const struct props_known *p = &s->props;

    return s->req->to.type == HEADER_MSGPACK && p->reply_to_client.len == 0 &&
           p->uniq_key.len > 0 && p->wait.len == 0 && p->pop_ck.len == 0 && p->delay.len == 0 &&
           p->timer_out_ms.len == 0 && !s->delay.is_held;
}

/*
 * What RocketMQ's broker adds. Its clients need it: a 5.x consumer sends no trace of a message
 * without a region, and whoever replies to a request takes the topic of replies from CLUSTER. Ours
 * do not, and their messages are spared it, unless somebody is to reply.
 */
static void put_broker_properties(struct send *s, struct props_writer *w)
{
    bool is_ours = s->req->to.type == HEADER_MSGPACK;

    if (!is_ours) {
        props_put(w, SLICE_LIT("MSG_REGION"), SLICE_LIT(REGION_DEFAULT));
        props_put(w, SLICE_LIT("TRACE_ON"), SLICE_LIT("true"));
    }
    if (!is_ours || s->props.reply_to_client.len > 0) {
        props_put(w, SLICE_LIT("CLUSTER"), slice_str(s->broker->config->cluster_name));
    }
}

/*
 * Properties as they are stored: the client's string, less WAIT (it spoke of this send only), DELAY
 * (it has been read) and what only the broker may write, plus that, plus a UNIQ_KEY if it gave
 * none, and TIMER_OUT_MS if it is held. A level drops the other times, as in RocketMQ. Most strings
 * of our own clients pass as they are.
 */
static int send_properties(struct send *s, struct slice in, struct slice *out)
{
    const struct slice drop[] = {prop_name(PROP_WAIT),           prop_name(PROP_DELAY),
                                 prop_name(PROP_POP_CK),         prop_name(PROP_TIMER_OUT_MS),
                                 prop_name(PROP_MSG_REGION),     prop_name(PROP_TRACE_ON),
                                 prop_name(PROP_CLUSTER),        prop_name(PROP_TIMER_DELAY_SEC),
                                 prop_name(PROP_TIMER_DELAY_MS), prop_name(PROP_TIMER_DELIVER_MS)};
    struct props_writer w;
    int rc = 0;

    (void)props_scan(in, &s->props); /* the count does not matter here */
    s->delay = (struct delay){.is_held = false};
    if (!s->is_dead) {
        rc = delay_of(&s->broker->config->delay, &s->props, loop_wall_ms(s->broker->loop),
                      &s->delay);
    }
    if (rc != 0) {
        return rc;
    }
    if (properties_pass(s)) {
        *out = in;
        return 0;
    }
    props_writer_init(&w, s->properties, sizeof s->properties);
    props_put_except(&w, in, drop, s->delay.is_level || s->is_dead ? 10 : 7);
    if (s->delay.is_held) {
        props_put_i64(&w, prop_name(PROP_TIMER_OUT_MS), s->delay.due_ms);
    }
    put_broker_properties(s, &w);
    if (s->props.uniq_key.len == 0) {
        size_t len = uniq_key_next(&s->broker->ids, loop_wall_ms(s->broker->loop), s->made_id);
        s->props.uniq_key = slice_of(s->made_id, len);
        props_put(&w, SLICE_LIT("UNIQ_KEY"), s->props.uniq_key);
    }
    *out = slice_of(w.ptr, w.len);
    return w.error;
}

static struct record_fields send_fields(const struct send *s, struct slice body,
                                        struct slice properties)
{
    return (struct record_fields){
        .queue_id = s->in.queue_id,
        .flag = s->in.flag,
        .sys_flag = s->in.sys_flag & ~SYSFLAG_TXN_MASK,
        .reconsume_times = s->in.reconsume_times,
        .born_ms = s->in.born_ms,
        .store_ms = loop_wall_ms(s->broker->loop),
        .born_host = s->req->session->born_host,
        .store_host = s->broker->store_host,
        .body = body,
        .topic = slice_str(s->topic->name),
        .properties = properties,
    };
}

/* Java's parseBoolean, which ignores case, is what reads the mark in RocketMQ. */
static bool send_is_marked(const struct send *s)
{
    const struct slice mark = s->props.tran_msg;

    return mark.len == 4 && strncasecmp((const char *)mark.ptr, "true", 4) == 0;
}

/*
 * Only what is both a retry and delayed is no half, as in RocketMQ: a consumer that sends back a
 * message of a transaction leaves the mark on it.
 */
static bool send_is_half(const struct send *s)
{
    int64_t level = 0;

    return send_is_marked(s) &&
           (s->in.reconsume_times <= 0 || !slice_to_i64(s->props.delay, &level) || level <= 0);
}

/* ---- the three kinds ---- */

static void send_plain(struct send *s, struct slice properties)
{
    struct record_fields fields = send_fields(s, s->req->body, properties);
    struct store_receipt receipt;
    int rc = store_append_message(s->broker->store, STORE_MESSAGE, &fields, NULL, &receipt);

    if (rc != 0) {
        send_refused(s, rc);
        return;
    }
    s->broker->metrics.messages_in++;
    send_wait(s, receipt.wait_for, true, receipt.offset, receipt.queue_offset);
}

/* What the answer to a timed message says besides the usual. */
struct held_answer {
    struct pending_send send;
    size_t handle_len;
    char handle[RECALL_HANDLE_MAX];
};

static void held_answered(struct broker *b, struct pending *p, int error)
{
    struct held_answer *h = p->arg.ptr;

    if (error == 0) {
        send_answer(b, &p->deferred, &h->send, slice_of(h->handle, h->handle_len));
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
    mem_free(h);
}

/* Written once, answered when durable, delivered when it is due: see delays.c. */
static void send_held(struct send *s, struct slice properties)
{
    struct broker *b = s->broker;
    struct record_fields fields = send_fields(s, s->req->body, properties);
    struct timer_info info = delays_info(&fields, s->props.tags, &s->delay);
    struct recall_handle handle = {.topic = fields.topic,
                                   .broker = slice_str(b->config->broker_name),
                                   .message_id = s->props.uniq_key,
                                   .due_ms = info.due_ms};
    struct held_answer *answer = mem_alloc(sizeof *answer);
    struct store_receipt receipt;
    int rc = answer == NULL ? ESCROW_ENOMEM : delays_append(b, &fields, &info, &receipt);

    if (rc != 0) {
        mem_free(answer);
        send_refused(s, rc);
        return;
    }
    b->metrics.messages_in++;
    handle.offset = receipt.offset;
    /* Levels have no handle in RocketMQ either: its clients would not look for one. */
    answer->handle_len = s->delay.is_level ? 0 : recall_handle_encode(&handle, answer->handle);
    send_note(s, &answer->send, receipt.offset, (int64_t)receipt.offset);
    pump_wait(&b->pump, receipt.wait_for, true, held_answered, request_defer(s->req))->arg.ptr =
        answer;
}

/* There is a half under this transaction id, or was. */
static void send_half_again(struct send *s, const struct txn_prepare_result *prep)
{
    struct pending_send first;

    send_note(s, &first, prep->offset, (int64_t)prep->offset);
    if (prep->verdict == TXN_DECIDED) {
        request_fail(s->req, -1, ESCROW_ECONFLICT, "transaction %.*s was decided before: %s by %s",
                     SLICE_ARGS(s->props.uniq_key), decision_kind_name(prep->fact.kind),
                     decision_by_name(prep->fact.by));
    } else if (prep->verdict == TXN_OTHER) {
        struct deferred d = request_defer(s->req);
        half_refuse_other(&d, &first);
    } else {
        half_again(s->req, &first, send_is_same);
    }
}

static void send_half(struct send *s, struct slice properties)
{
    struct broker *b = s->broker;
    struct record_fields fields = send_fields(s, s->req->body, properties);
    struct txn_half_info info = {.group = s->props.pgroup.len > 0 ? s->props.pgroup
                                                                  : s->in.producer_group,
                                 .txn_id = s->props.uniq_key,
                                 .topic = slice_str(s->topic->name),
                                 .queue = (uint32_t)s->in.queue_id,
                                 .tag_hash = (int32_t)tag_code(s->props.tags),
                                 .store_ms = fields.store_ms,
                                 .immunity_ms = -1};
    struct txn_prepare_result prep;
    struct store_receipt receipt;
    struct timer_info timer;
    int64_t immunity_s =
        props_find_i64(properties, prop_name(PROP_CHECK_IMMUNITY_TIME_IN_SECONDS), -1);
    int rc;

    if (s->props.pgroup.len == 0) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, ESCROW_EINVAL,
                     "a half message needs the property PGROUP: nobody could be asked about it");
        return;
    }
    fields.sys_flag |= SYSFLAG_TXN_PREPARED;
    info.size_bytes = (uint32_t)record_size(&fields);
    info.immunity_ms = immunity_s < 0 || immunity_s > INT32_MAX ? -1 : immunity_s * 1000;
    info.is_held = s->delay.is_held;
    rc = txn_prepare(b->txn, &info, &prep);
    if (rc == 0 && prep.verdict != TXN_NEW) {
        send_half_again(s, &prep);
        return;
    }
    if (rc == 0 && info.is_held) {
        timer = delays_info(&fields, s->props.tags, &s->delay);
        timer.is_half = true;
        rc = timers_accept(b->timers, &timer);
    }
    if (rc == 0) {
        rc = store_append_message(b->store, STORE_HALF, &fields, NULL, &receipt);
    }
    if (rc != 0) {
        send_refused(s, rc);
        return;
    }
    txn_half_appended(b->txn, &info, receipt.offset);
    if (info.is_held) {
        timers_appended(b->timers, &timer, receipt.offset, broker_txn_now(b));
    }
    transactions_sync_reserve(b);
    b->metrics.halves_in++;
    send_wait(s, receipt.wait_for, false, receipt.offset, (int64_t)receipt.offset);
}

/* The answer to a batch: the id of each message, joined by commas, and the first one's place. */
struct batch_answer {
    int32_t queue_id;
    int64_t queue_offset;
    size_t ids_len;
    char ids[];
};

_Static_assert((size_t)BATCH_ITEMS_MAX *(MSGID_TEXT_MAX + 1) + 1024 <= HEADER_SIZE_MAX,
               "the ids of the largest batch fit into the header of its answer");

static struct batch_answer *batch_answer_new(const struct send *s, uint32_t count)
{
    struct batch_answer *a = mem_alloc(sizeof *a + (size_t)count * (MSGID_TEXT_MAX + 1));

    if (a != NULL) {
        *a = (struct batch_answer){.queue_id = s->in.queue_id};
    }
    return a;
}

static void batch_answer_add(struct batch_answer *a, const struct send *s,
                             const struct store_receipt *receipt)
{
    if (a->ids_len == 0) {
        a->queue_offset = receipt->queue_offset;
    } else {
        a->ids[a->ids_len++] = ',';
    }
    a->ids_len +=
        msgid_encode(&s->broker->store_host, (int64_t)receipt->offset, a->ids + a->ids_len);
}

static void batch_answered(struct broker *b, struct pending *p, int error)
{
    struct batch_answer *a = p->arg.ptr;
    struct send_answer answer = {.msg_id = slice_of(a->ids, a->ids_len),
                                 .queue_id = a->queue_id,
                                 .queue_offset = a->queue_offset};

    (void)b;
    if (error == 0) {
        answer_write(&p->deferred, &answer);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
    mem_free(a);
}

/* All messages of a batch, or none; receipt is the last one's. */
static int send_all(struct send *s, struct batch_answer *answer, struct store_receipt *receipt)
{
    struct batch_iter iter = batch_begin(s->req->body);
    struct batch_item item;
    int rc;

    while ((rc = batch_next(&iter, &item)) == 1) {
        struct slice properties;
        struct record_fields fields;
        rc = send_properties(s, item.properties, &properties);
        if (rc != 0) {
            return rc;
        }
        if (send_is_marked(s) || s->delay.is_held) {
            return ESCROW_EREJECTED;
        }
        fields = send_fields(s, item.body, properties);
        fields.flag = item.flag;
        rc = store_append_message(s->broker->store, STORE_MESSAGE, &fields, NULL, receipt);
        if (rc != 0) {
            return rc;
        }
        batch_answer_add(answer, s, receipt);
    }
    return rc;
}

static void batch_refused(struct send *s, int error)
{
    if (error == ESCROW_EREJECTED) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, error,
                     "half and delayed messages cannot be sent in a batch");
    } else if (error == ESCROW_EINVAL) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, error, "properties: a delay is no number");
    } else {
        send_refused(s, error);
    }
}

static void send_batch(struct send *s)
{
    struct batch_answer *answer;
    struct store_receipt last = {.offset = 0};
    uint32_t count = 0;
    int rc = batch_check(s->req->body, &count);

    if ((s->in.sys_flag & SYSFLAG_TXN_MASK) != 0) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, ESCROW_EREJECTED,
                     "half messages cannot be sent in a batch");
        return;
    }
    if (rc != 0 || name_topic_class(s->in.topic) == TOPIC_RETRY) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, rc != 0 ? rc : ESCROW_EINVAL,
                     "malformed batch: %s", rc != 0 ? escrow_strerror(rc) : "a retry topic");
        return;
    }
    answer = batch_answer_new(s, count);
    if (answer == NULL) {
        send_refused(s, ESCROW_ENOMEM);
        return;
    }
    store_group_begin(s->broker->store);
    rc = send_all(s, answer, &last);
    if (rc != 0) {
        store_group_abort(s->broker->store);
        mem_free(answer);
        batch_refused(s, rc);
        return;
    }
    store_group_end(s->broker->store);
    s->broker->metrics.messages_in += count;
    pump_wait(&s->broker->pump, last.wait_for, true, batch_answered, request_defer(s->req))
        ->arg.ptr = answer;
}

/* Properties that cannot be stored, or that ask for a time that cannot be. */
static void send_illegal(struct send *s, int error)
{
    if (error == ESCROW_ETOOBIG && s->props.delay.len == 0 &&
        s->props.timer_deliver_ms.len + s->props.timer_delay_s.len + s->props.timer_delay_ms.len >
            0) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, error,
                     "timer message illegal, the delay time should not be bigger than the max "
                     "delay %llums",
                     (unsigned long long)s->broker->config->delay_max_ms);
    } else {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, error, "properties: %s",
                     escrow_strerror(error));
    }
}

void handle_send(struct request *req)
{
    ESCROW_UNINITIALIZED struct send s; /* properties is large and written before it is read */
    struct slice properties;
    const char *field = NULL;
    int rc;

    s.req = req;
    s.broker = req->broker;
    s.is_dead = false;
    rc = send_request_decode(req->header, &s.in, &field);
    if (rc != 0) {
        request_fail(req, rc == ESCROW_ETOOBIG ? RESPONSE_MESSAGE_ILLEGAL : -1, rc,
                     "send: field %s: %s", field == NULL ? "properties" : field,
                     escrow_strerror(rc));
        return;
    }
    if (!send_check_topic(&s) || !send_check_body(&s)) {
        return;
    }
    rc = pump_reserve(&s.broker->pump);
    if (rc != 0) {
        send_refused(&s, rc);
        return;
    }
    if (s.in.is_batch || req->header->code == REQUEST_SEND_BATCH_MESSAGE) {
        send_batch(&s);
        return;
    }
    rc = send_properties(&s, s.in.properties, &properties);
    if (rc != 0) {
        send_illegal(&s, rc);
    } else if (send_is_half(&s)) {
        send_half(&s, properties);
    } else if (s.delay.is_held) {
        send_held(&s, properties);
    } else {
        send_plain(&s, properties);
    }
}
