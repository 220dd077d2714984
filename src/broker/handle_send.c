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
#include "src/broker/dispatch.h"
#include "src/broker/send.h"
#include "src/broker/topic_create.h"

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
