/*
 * Happy path: session_accept, then on_frame for every frame: decode, dispatch, and the handler
 * answers now or later. Answers are appended to the connection's output and leave with one system
 * call per loop iteration.
 *
 * Failures: a frame that is not one closes the connection without an answer (as RocketMQ does); one
 * that is above a limit is answered, and then the connection is drained. An
 * answer that does not fit in the peer's output means that it does not read: it is closed. A
 * session whose connection closed stays as an empty shell until the last deferred request lets go
 * of it.
 */
#include "src/broker/session.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/frame.h"
#include "src/broker/broker.h"
#include "src/broker/clients.h"
#include "src/broker/dispatch.h"
#include "src/broker/hold.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* connections_max */
#define SESSION_OVER_TEXT "%" PRIu64 " connections are open on this port, connections.max"

static struct session *session_of(struct tcp_conn *conn)
{
    struct session *s = (struct session *)(void *)conn;

    CHECK(s->magic == SESSION_MAGIC);
    return s;
}

static void session_free(struct session *s)
{
    CHECK(list_is_empty(&s->pulls));
    CHECK(list_is_empty(&s->roles));
    list_remove(&s->node);
    s->magic = 0;
    mem_free(s);
}

void session_hold(struct session *s)
{
    s->holds++;
}

void session_drop(struct session *s)
{
    CHECK(s->magic == SESSION_MAGIC);
    CHECK(s->holds > 0);
    s->holds--;
    if (s->holds == 0 && s->is_closed) {
        session_free(s);
    }
}

static void session_on_close(struct tcp_conn *conn, int reason)
{
    struct session *s = session_of(conn);

    if (reason == ESCROW_ETOOBIG || reason == ESCROW_ELIMIT || reason == ESCROW_EPROTO) {
        char peer[TCP_ADDR_TEXT_MAX];
        log_peer_warn("session.closed", "%s: closed: %s",
                      tcp_addr_format(tcp_conn_peer(conn), peer, sizeof peer),
                      escrow_strerror(reason));
    }
    s->is_closed = true;
    session_hold(s);
    hold_on_close(s->broker, s);
    pops_on_close(s->broker, s);
    clients_on_close(s->broker, s);
    relay_on_close(s);
    broker_on_session_close(s->broker, s);
    session_drop(s);
}

/* Finish one request: its share of the in-flight limit is free again. */
static void session_finish(struct session *s, uint32_t bytes)
{
    CHECK(s->in_flight_count > 0);
    CHECK(s->in_flight_bytes >= bytes);
    s->in_flight_count--;
    s->in_flight_bytes -= bytes;
    if (s->is_throttled && s->in_flight_bytes <= s->broker->config->inflight_max_bytes / 2) {
        s->is_throttled = false;
        if (!s->is_closed) {
            tcp_conn_resume(&s->conn);
        }
    }
    if (s->is_ending && s->in_flight_count == 0) {
        s->is_ending = false;
        if (!s->is_closed) {
            tcp_conn_resume(&s->conn); /* session_on_limit sees the frame again */
        }
    }
}

/*
 * What was asked before is answered first: a send waits for the disk, and its answer would be lost
 * with the connection. Who only waits for messages will ask again elsewhere.
 */
static bool session_has_to_answer(struct session *s)
{
    hold_on_close(s->broker, s);
    pops_on_close(s->broker, s);
    if (s->in_flight_count == 0) {
        return false;
    }
    s->is_ending = true;
    tcp_conn_pause(&s->conn);
    return true;
}

static void session_answer_error(struct session *s, struct answer_to to, int32_t code, int error,
                                 const char *text);

/*
 * Beyond a limit: who is to be answered is in the header of the frame that is not read. Nothing of
 * it has happened.
 */
static void session_on_limit(struct tcp_conn *conn, int reason, struct slice begun)
{
    struct session *s = session_of(conn);
    struct broker *b = s->broker;
    char text[ERR_TEXT_MAX];
    char peer[TCP_ADDR_TEXT_MAX];
    struct frame frame;
    int rc;

    if (reason == ESCROW_ETOOBIG && session_has_to_answer(s)) {
        return;
    }
    rc = frame_decode_header(begun, &frame);
    if (rc == ESCROW_EAGAIN) {
        return;
    }
    if (rc == 0) {
        rc = header_decode(&b->header, frame.type, frame.header);
    }
    if (rc != 0 || header_is_response(&b->header) || header_is_oneway(&b->header)) {
        log_peer_warn("session.closed", "%s: closed: %s",
                      tcp_addr_format(tcp_conn_peer(conn), peer, sizeof peer),
                      escrow_strerror(reason));
        tcp_conn_drain(conn); /* answers of what came before go out */
        return;
    }
    if (tcp_conn_is_over(conn)) {
        reason = ESCROW_ELIMIT;
        (void)snprintf(text, sizeof text, SESSION_OVER_TEXT, b->config->connections_max);
    } else if (tcp_conn_is_refused(conn)) {
        reason = ESCROW_EAUTH;
        b->metrics.access_refused++;
        (void)snprintf(text, sizeof text, ACCESS_PLAIN_TEXT); /* fits */
    } else if (reason == ESCROW_ETOOBIG) {
        (void)snprintf(text, sizeof text,
                       "a frame of %" PRIu64 " bytes is above frame.max.bytes, %" PRIu64,
                       (uint64_t)get_be32(begun.ptr) + 4, b->config->frame_max_bytes);
    } else {
        (void)snprintf(text, sizeof text,
                       "all connections together hold more than memory.max.bytes, %" PRIu64,
                       b->config->memory_max_bytes);
    }
    b->metrics.requests_failed++;
    log_peer_warn("session.refused", "%s: %s",
                  tcp_addr_format(tcp_conn_peer(conn), peer, sizeof peer), text);
    session_answer_error(s, answer_to(&b->header), -1, reason, text);
    tcp_conn_drain(conn);
}

static void session_on_frame(struct tcp_conn *conn, struct slice bytes)
{
    struct session *s = session_of(conn);
    struct broker *b = s->broker;
    struct request req = {.broker = b, .session = s, .header = &b->header};
    struct frame frame;
    int rc = frame_decode(bytes, &frame);

    if (rc == 0) {
        rc = header_decode(&b->header, frame.type, frame.header);
    }
    if (rc != 0) {
        tcp_conn_close(conn, rc == ESCROW_ENOMEM ? rc : ESCROW_EPROTO);
        return;
    }
    if (header_is_response(&b->header)) {
        if (tcp_conn_is_over(conn)) {
            /* It was asked nothing, and would keep its place with these. */
            tcp_conn_close(conn, ESCROW_ELIMIT);
            return;
        }
        relay_on_answer(s, &b->header, frame.body); /* other pushes of ours want none */
        return;
    }
    s->language = b->header.language;
    s->version = b->header.version;
    s->push_type = (uint8_t)frame.type;
    req.body = frame.body;
    req.to = answer_to(&b->header);
    req.bytes = (uint32_t)frame.size + SESSION_REQUEST_BYTES;
    s->in_flight_count++;
    s->in_flight_bytes += req.bytes;
    if (s->in_flight_bytes > b->config->inflight_max_bytes && !s->is_throttled) {
        s->is_throttled = true;
        tcp_conn_pause(conn);
    }
    b->metrics.requests++;
    if (tcp_conn_is_over(conn)) {
        request_fail(&req, -1, ESCROW_ELIMIT, SESSION_OVER_TEXT, b->config->connections_max);
        tcp_conn_drain(conn);
        return;
    }
    dispatch_request(&req);
    CHECK(req.is_finished);
}

/* What waits for it would wait, or take messages, until there is room to read its end. */
static void session_on_hangup(struct tcp_conn *conn)
{
    struct session *s = session_of(conn);

    s->has_hung_up = true;
    hold_on_close(s->broker, s);
    pops_on_close(s->broker, s);
}

static const struct tcp_ops session_ops = {
    .on_frame = session_on_frame,
    .on_limit = session_on_limit,
    .on_hangup = session_on_hangup,
    .on_close = session_on_close,
};

struct tcp_conn *session_accept(void *arg, const struct tcp_addr *peer)
{
    struct broker *b = arg;
    struct session *s;

    if (b->is_draining) {
        return NULL;
    }
    s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->magic = SESSION_MAGIC;
    s->broker = b;
    s->id = ++b->session_id_last;
    s->next_opaque = 1;
    list_init(&s->pulls);
    list_init(&s->pops);
    fair_lane_init(&s->reads, FAIR_NO_LIMIT);
    list_init(&s->roles);
    list_push(&b->sessions, &s->node);
    s->born_host.ip_len = peer->ip_len;
    s->born_host.port = peer->port;
    memcpy(s->born_host.ip, peer->ip, peer->ip_len);
    tcp_conn_init(&s->conn, &session_ops, &b->tcp_options, s);
    return &s->conn;
}

/* ---- answers ---- */

/*
 * The peer does not take what it asked for: what was begun is thrown away and the connection with
 * it.
 */
static void session_overrun(struct session *s, int error)
{
    if (error != ESCROW_ECLOSED) {
        tcp_conn_close(&s->conn, error);
    }
}

bool session_is_gone(const struct session *s)
{
    return s->is_closed || s->has_hung_up || !tcp_conn_is_open(&s->conn);
}

static bool session_can_answer(const struct session *s, struct answer_to to)
{
    return !to.is_oneway && !session_is_gone(s);
}

static void session_answer_error(struct session *s, struct answer_to to, int32_t code, int error,
                                 const char *text)
{
    int rc;

    if (!session_can_answer(s, to)) {
        return;
    }
    rc = answer_error(tcp_conn_begin(&s->conn), to, code, error, text);
    if (rc == 0) {
        rc = tcp_conn_end(&s->conn);
    } else {
        tcp_conn_abandon(&s->conn);
    }
    if (rc != 0) {
        session_overrun(s, rc);
    }
}

static void session_answer_ok(struct session *s, struct answer_to to)
{
    int rc;

    if (!session_can_answer(s, to)) {
        return;
    }
    rc = answer_empty(tcp_conn_begin(&s->conn), to, RESPONSE_SUCCESS, SLICE_EMPTY);
    if (rc == 0) {
        rc = tcp_conn_end(&s->conn);
    } else {
        tcp_conn_abandon(&s->conn);
    }
    if (rc != 0) {
        session_overrun(s, rc);
    }
}

static bool session_answer_begin(struct session *s, struct answer_to to, struct header_writer *w,
                                 int32_t code, struct slice remark)
{
    if (!session_can_answer(s, to)) {
        return false;
    }
    answer_begin(w, tcp_conn_begin(&s->conn), to, code, remark);
    return true;
}

static void session_answer_end(struct session *s, struct answer_to to, struct header_writer *w)
{
    int rc = header_frame_end(w, 0);

    if (rc == 0) {
        rc = tcp_conn_end(&s->conn);
        if (rc != 0) {
            session_overrun(s, rc);
        }
        return;
    }
    tcp_conn_abandon(&s->conn);
    session_answer_error(s, to, -1, rc, "the answer does not fit in a frame");
}

static void request_finish(struct request *req)
{
    CHECK(!req->is_finished);
    req->is_finished = true;
    session_finish(req->session, req->bytes);
}

void request_ok(struct request *req)
{
    session_answer_ok(req->session, req->to);
    request_finish(req);
}

void request_fail(struct request *req, int32_t code, int error, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list args;

    text[0] = '\0';
    if (fmt != NULL) {
        va_start(args, fmt);
        (void)vsnprintf(text, sizeof text, fmt, args); /* cut when too long */
        va_end(args);
    }
    req->broker->metrics.requests_failed++;
    session_answer_error(req->session, req->to, code, error, fmt == NULL ? NULL : text);
    request_finish(req);
}

bool request_begin(struct request *req, struct header_writer *w, int32_t code, struct slice remark)
{
    if (session_answer_begin(req->session, req->to, w, code, remark)) {
        return true;
    }
    request_finish(req);
    return false;
}

void request_end(struct request *req, struct header_writer *w)
{
    session_answer_end(req->session, req->to, w);
    request_finish(req);
}

struct deferred request_defer(struct request *req)
{
    CHECK(!req->is_finished);
    req->is_finished = true;
    session_hold(req->session);
    return (struct deferred){.session = req->session, .to = req->to, .bytes = req->bytes};
}

static void deferred_finish(struct deferred *d)
{
    struct session *s = d->session;

    CHECK(s != NULL);
    d->session = NULL;
    session_finish(s, d->bytes);
    session_drop(s);
}

void deferred_ok(struct deferred *d)
{
    session_answer_ok(d->session, d->to);
    deferred_finish(d);
}

void deferred_fail(struct deferred *d, int32_t code, int error, const char *text)
{
    d->session->broker->metrics.requests_failed++;
    session_answer_error(d->session, d->to, code, error, text);
    deferred_finish(d);
}

bool deferred_begin(struct deferred *d, struct header_writer *w, int32_t code, struct slice remark)
{
    if (session_answer_begin(d->session, d->to, w, code, remark)) {
        return true;
    }
    deferred_finish(d);
    return false;
}

void deferred_end(struct deferred *d, struct header_writer *w)
{
    session_answer_end(d->session, d->to, w);
    deferred_finish(d);
}

void deferred_cancel(struct deferred *d)
{
    deferred_finish(d);
}

int session_push(struct session *s, session_write_fn *write, void *arg)
{
    int rc;

    if (session_is_gone(s)) {
        return ESCROW_ECLOSED;
    }
    rc = write(s, tcp_conn_begin(&s->conn), arg);
    if (rc != 0) {
        tcp_conn_abandon(&s->conn);
        return rc;
    }
    return tcp_conn_end(&s->conn);
}

int32_t session_next_opaque(struct session *s)
{
    int32_t opaque = s->next_opaque;

    s->next_opaque = opaque == INT32_MAX ? 1 : opaque + 1;
    return opaque;
}
