/*
 * SEND_REPLY_MESSAGE 324, SEND_REPLY_MESSAGE_V2 325 (PROTOCOL.md, "Sending"), and the push to the
 * requester, PUSH_REPLY_MESSAGE_TO_CLIENT 326.
 *
 * Happy path: the reply names the client that asked; it goes down that client's connection, and the
 * replier is told that it went. It is not stored: whoever asked waits for it now, or has given up.
 *
 * Failures: nothing is pushed, the replier gets SYSTEM_ERROR, as from RocketMQ.
 */
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "core/proto/send_request.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"

#include <string.h>

#define HOST_TEXT_MAX 64

struct reply {
    struct broker *broker;
    struct send_request in;
    struct slice body;
    const struct record_host *born_host;
};

static struct slice host_text(const struct record_host *host, char *dst, size_t size)
{
    struct tcp_addr addr = {.ip_len = host->ip_len, .port = host->port};

    memcpy(addr.ip, host->ip, host->ip_len);
    return slice_str(tcp_addr_format(&addr, dst, size));
}

/*
 * As RocketMQ's broker passes them on: with the time, and, unless the replier is one of ours, with
 * what its consumers look for to trace a message. What has no room for them stays as it is.
 */
static void stamp_properties(struct reply *r, enum header_type type)
{
    static uint8_t properties[PROPERTIES_LEN_MAX]; /* loop thread only */
    const struct slice drop[] = {prop_name(PROP_PUSH_REPLY_TIME), prop_name(PROP_MSG_REGION),
                                 prop_name(PROP_TRACE_ON)};
    bool is_ours = type == HEADER_MSGPACK;
    struct props_writer w;

    props_writer_init(&w, properties, sizeof properties);
    props_put_except(&w, r->in.properties, drop, is_ours ? 1 : 3);
    props_put_i64(&w, prop_name(PROP_PUSH_REPLY_TIME), loop_wall_ms(r->broker->loop));
    if (!is_ours) {
        props_put(&w, prop_name(PROP_MSG_REGION), SLICE_LIT(REGION_DEFAULT));
        props_put(&w, prop_name(PROP_TRACE_ON), SLICE_LIT("true"));
    }
    if (w.error == 0) {
        r->in.properties = slice_of(w.ptr, w.len);
    }
}

static int write_reply(struct session *s, struct buf *out, void *arg)
{
    const struct reply *r = arg;
    struct header_writer w;
    struct header_out head = {.code = REQUEST_PUSH_REPLY_MESSAGE_TO_CLIENT,
                              .opaque = session_next_opaque(s),
                              .flag = HEADER_FLAG_ONEWAY};
    char born[HOST_TEXT_MAX];
    char store[HOST_TEXT_MAX];

    header_begin(&w, out, (enum header_type)s->push_type, &head);
    send_request_encode(&w, &r->in, false);
    header_put_str(&w, "bornHost", host_text(r->born_host, born, sizeof born));
    header_put_str(&w, "storeHost", host_text(&r->broker->store_host, store, sizeof store));
    header_put_i64(&w, "storeTimestamp", loop_wall_ms(r->broker->loop));
    header_end(&w);
    buf_append_slice(w.buf, r->body);
    return header_frame_end(&w, 0);
}

/* As RocketMQ answers when it does not store replies: a message id of "0". */
static void reply_answer(struct request *req)
{
    struct send_answer answer = {.msg_id = SLICE_LIT("0")};
    struct header_writer w;

    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        send_answer_encode(&w, &answer);
        header_end(&w);
        request_end(req, &w);
    }
}

void handle_send_reply(struct request *req)
{
    struct reply reply = {
        .broker = req->broker, .body = req->body, .born_host = &req->session->born_host};
    struct props_known props;
    struct session *to;
    const char *field = NULL;
    int rc = send_request_decode(req->header, &reply.in, &field);

    if (rc == 0 && name_check_topic(reply.in.topic) != 0) {
        field = "topic";
        rc = ESCROW_EINVAL;
    }
    if (rc != 0) {
        request_fail(req, -1, rc, "reply: field %s: %s", field == NULL ? "properties" : field,
                     escrow_strerror(rc));
        return;
    }
    (void)props_scan(reply.in.properties, &props); /* the count does not matter here */
    if (props.reply_to_client.len == 0) {
        request_fail(req, RESPONSE_SYSTEM_ERROR, ESCROW_EINVAL,
                     "push reply message fail, REPLY_TO_CLIENT property is null");
        return;
    }
    to = clients_find_session(req->broker, props.reply_to_client);
    stamp_properties(&reply, req->to.type);
    if (to == NULL || session_push(to, write_reply, &reply) != 0) {
        request_fail(req, RESPONSE_SYSTEM_ERROR, ESCROW_ENOTFOUND,
                     "push reply message fail, channel of <%.*s> not found.",
                     (int)(props.reply_to_client.len > 255 ? 255 : props.reply_to_client.len),
                     (const char *)props.reply_to_client.ptr);
        return;
    }
    reply_answer(req);
}
