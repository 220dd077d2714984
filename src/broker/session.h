/*
 * Session: one connection of a client to the broker or the name server, and the requests it has
 * under way.
 *
 * A peer that hangs up while reading pauses is gone at once for what waits: its pops and pulls.
 * What it had sent is read afterwards, and then the connection ends.
 *
 * Limits: a frame (config frame.max.bytes), requests that wait for their answer (inflight.max.bytes
 * per session: reading pauses until some are answered), output that the peer does not take
 * (core/io_uv/tcp.h: reading pauses, then the connection is closed). So a slow reader never grows
 * the server's memory.
 *
 * Owns:    its tcp_conn. A session lives until its connection is closed and nobody holds it
 *          (session_hold).
 * Thread:  loop.
 * Holds:   in_flight_bytes is the sum over requests not yet finished; each request is finished
 *          exactly once.
 */
#ifndef SRC_BROKER_SESSION_H
#define SRC_BROKER_SESSION_H

#include "core/base/list.h"
#include "core/io_uv/tcp.h"
#include "core/proto/answer.h"
#include "core/proto/header.h"
#include "core/proto/record.h"
#include "src/broker/fair.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;

#define SESSION_MAGIC UINT32_C(0x53455353)

/*
 * What a request that waits costs besides its frame (struct pull is the largest): counts as in
 * flight too.
 */
#define SESSION_REQUEST_BYTES 1024u

/* Connections beyond connections.max, of one port, that hear so before they are closed. */
#define SESSIONS_OVER_MAX 8

struct session {
    struct tcp_conn conn; /* first: the connection's callbacks get back to the session */
    uint32_t magic;
    uint32_t holds; /* references beyond the connection itself */
    struct broker *broker;
    struct list node;       /* broker->sessions */
    struct list pulls;      /* held pulls (hold.h) */
    struct list pops;       /* pops that wait (pops.h) */
    struct fair_lane reads; /* what it reads from disk (pump.h) */
    struct list roles;      /* producer and consumer groups it registered (clients.h) */
    uint64_t id;            /* never 0, never reused; identity towards the name server registry */
    size_t in_flight_bytes;
    uint32_t in_flight_count;
    int32_t version;     /* of the last request; what the peer is */
    int32_t next_opaque; /* of requests that the broker sends to it; never 0 */
    uint8_t language;
    uint8_t push_type; /* enum header_type of its last request: how to write to it unasked */
    bool is_closed;
    bool has_hung_up;  /* nobody reads what is written to it; what it sent is still worked off */
    bool is_throttled; /* reading paused by in-flight bytes */
    bool is_ending;    /* reading paused before a frame that ends it: others are answered first */
    struct record_host born_host;
};

/*
 * A request while its handler runs. Slices in header and body are borrowed until the handler
 * returns. A handler finishes its request in exactly one of these ways: request_ok, request_fail,
 * request_begin + request_end, or request_defer (and later answer_later_... of whoever took it
 * over).
 */
struct request {
    struct broker *broker;
    struct session *session;
    struct header *header;
    struct slice body;
    struct answer_to to;
    uint32_t bytes; /* what it counts as in flight */
    bool is_finished;
};

/* A request that is answered later: copied out of struct request by request_defer. */
struct deferred {
    struct session *session; /* held */
    struct answer_to to;
    uint32_t bytes;
};

/* Accept callback of the listeners (tcp_listen_config.on_accept); arg is the struct broker. */
struct tcp_conn *session_accept(void *arg, const struct tcp_addr *peer);

void session_hold(struct session *s);
void session_drop(struct session *s); /* may free it */

/* Nothing that is written reaches the peer any more. */
bool session_is_gone(const struct session *s);

/* Empty success. */
void request_ok(struct request *req);

/*
 * Error answer: response code (-1 = answer_code(error)), error, one line (NULL = text of the
 * error).
 */
void request_fail(struct request *req, int32_t code, int error, const char *fmt, ...)
    ESCROW_PRINTF(4, 5);

/*
 * An answer with fields or body: begin, header_put_..., header_end, body into w->buf, end. For a
 * one-way request begin returns false, the request is finished and nothing may be written.
 */
bool request_begin(struct request *req, struct header_writer *w, int32_t code, struct slice remark);
void request_end(struct request *req, struct header_writer *w);

/*
 * Finish later: the request's place in the in-flight count stays taken until deferred_... is
 * called.
 */
struct deferred request_defer(struct request *req);

/* The same three for a deferred request; each finishes it and lets go of the session. */
void deferred_ok(struct deferred *d);
void deferred_fail(struct deferred *d, int32_t code, int error, const char *text);
bool deferred_begin(struct deferred *d, struct header_writer *w, int32_t code, struct slice remark);
void deferred_end(struct deferred *d, struct header_writer *w);

/* Finish without an answer (the peer is gone, or nobody asked for one). */
void deferred_cancel(struct deferred *d);

/*
 * Send a frame the peer did not ask for (pushes, check-backs): `write` gets the buffer to append
 * one whole frame to. Returns ESCROW_ECLOSED, ESCROW_ELIMIT (its output is full), or what `write`
 * returned.
 */
typedef int session_write_fn(struct session *s, struct buf *out, void *arg);
ESCROW_MUST_USE int session_push(struct session *s, session_write_fn *write, void *arg);

/* Opaque for a request that we send to this peer. */
int32_t session_next_opaque(struct session *s);

#endif
