/*
 * Happy path: remote_call finds the peer of the address, writes the frame into its connection's
 * output, and puts the call into the peer's list; the answer finds it by opaque. A call for a peer
 * that is not open yet keeps its frame and is sent when the connection is up.
 *
 * Failures end all calls of a peer: those that were sent with ESCROW_ECLOSED, those that waited
 * with ESCROW_ECONN, or ESCROW_ETLS when that is what failed.
 */
#include "src/client/remote.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/answer.h"
#include "core/proto/body_inspect.h"
#include "core/proto/frame.h"

#include <string.h>

enum peer_state { PEER_CLOSED, PEER_CONNECTING, PEER_PROBING, PEER_OPEN };

#define PEER_CALLS_BUCKETS 256 /* by opaque; power of two */

struct remote_peer {
    struct tcp_conn conn; /* first */
    struct remote *remote;
    enum peer_state state;
    enum header_type type;
    int32_t probe_opaque; /* of what only an escrowd knows */
    int32_t other_opaque; /* of what is asked behind it */
    bool is_escrowd;
    bool is_in_use;    /* the connection struct is between connect and on_close */
    size_t sent_count; /* calls in `sent` */
    int64_t alive_ms;  /* last frame, or first request after all were answered; monotonic */
    struct loop_timer probe_timer;
    struct list waiting;                  /* calls not sent yet */
    struct list sent[PEER_CALLS_BUCKETS]; /* calls that wait for an answer */
    char addr[REMOTE_ADDR_MAX];
    char identity[BROKER_IDENTITY_MAX + 1]; /* remote_identity */
};

void remote_options_init(struct remote_options *options)
{
    *options = (struct remote_options){
        .encoding = REMOTE_AUTO, .connect_timeout_ms = 3000, .silence_ms = 10000};
    options->tcp = tcp_options_default;
}

/* ---- the end of a call ---- */

static void call_detach(struct remote_call *call)
{
    if (call->is_sent && call->peer != NULL) {
        CHECK(call->peer->sent_count > 0);
        call->peer->sent_count--;
    }
    list_remove(&call->node);
    loop_timer_stop(call->remote->loop, &call->timer);
    buf_fini(&call->waiting);
    call->peer = NULL;
}

static void call_end(struct remote_call *call, int error, struct header *header, struct slice body)
{
    call_detach(call);
    call->is_active = false;
    call->done(call, error, header, body);
}

/* End it from a later callback. */
static void call_fail_later(struct remote_call *call, int error)
{
    struct remote *r = call->remote;

    call_detach(call);
    call->error = error;
    list_push(&r->failed, &call->node);
    loop_defer(r->loop, &r->fail);
}

static void fail_run(void *arg)
{
    struct remote *r = arg;

    while (!list_is_empty(&r->failed)) {
        struct remote_call *call = LIST_ENTRY(r->failed.next, struct remote_call, node);
        call_end(call, call->error, NULL, SLICE_EMPTY);
    }
}

static void call_time_up(void *arg)
{
    struct remote_call *call = arg;
    struct remote_peer *peer = call->peer;
    struct remote *r = call->remote;

    if (call->is_sent && peer->is_in_use &&
        loop_mono_ms(r->loop) - peer->alive_ms >= (int64_t)r->options.silence_ms) {
        tcp_conn_close(&peer->conn, ESCROW_ETIMEOUT); /* nobody is there: connect anew */
    }
    call_end(call, call->is_sent ? ESCROW_ETIMEOUT : ESCROW_ECONN, NULL, SLICE_EMPTY);
}

void remote_cancel(struct remote_call *call)
{
    if (call->is_active) {
        call_detach(call);
        call->is_active = false;
    }
}

/* ---- peers ---- */

static struct remote_peer *peer_of(struct tcp_conn *conn)
{
    return (struct remote_peer *)(void *)conn;
}

static struct list *bucket_of(struct remote_peer *peer, int32_t opaque)
{
    return &peer->sent[(uint32_t)opaque & (PEER_CALLS_BUCKETS - 1)];
}

static void fail_list(struct list *calls, int error)
{
    while (!list_is_empty(calls)) {
        call_fail_later(LIST_ENTRY(calls->next, struct remote_call, node), error);
    }
}

static void call_is_sent(struct remote_call *call)
{
    struct remote_peer *peer = call->peer;

    if (peer->sent_count++ == 0) {
        peer->alive_ms = loop_mono_ms(peer->remote->loop);
    }
    list_push(bucket_of(peer, call->opaque), &call->node);
    call->is_sent = true;
}

static void peer_send_waiting(struct remote_peer *peer)
{
    while (!list_is_empty(&peer->waiting)) {
        struct remote_call *call = LIST_ENTRY(peer->waiting.next, struct remote_call, node);
        int rc = tcp_conn_write(&peer->conn, buf_slice(&call->waiting));
        if (rc != 0) {
            call_fail_later(call, rc == ESCROW_ECLOSED ? ESCROW_ECONN : rc);
            continue;
        }
        list_remove(&call->node);
        call_is_sent(call);
        buf_fini(&call->waiting);
    }
}

static void peer_open(struct remote_peer *peer)
{
    struct remote *r = peer->remote;

    loop_timer_stop(r->loop, &peer->probe_timer);
    peer->state = PEER_OPEN;
    if (r->options.on_state != NULL) {
        r->options.on_state(r->options.arg, peer->addr, true);
    }
    peer_send_waiting(peer);
}

static int write_frame(const struct remote *r, struct buf *out, enum header_type type,
                       const struct header_out *head, const struct remote_request *req)
{
    struct sign_request sign = {.access_key = slice_str(r->access_key),
                                .signer = r->signer,
                                .fields = req->fields,
                                .fields_arg = req->fields_arg,
                                .body = req->body};

    return sign_frame(out, type, head, &sign);
}

static int32_t next_opaque(struct remote *r)
{
    r->opaque = r->opaque == INT32_MAX ? 1 : r->opaque + 1;
    return r->opaque;
}

static void probe_time_up(void *arg)
{
    struct remote_peer *peer = arg;

    tcp_conn_close(&peer->conn, ESCROW_ETIMEOUT);
}

static void other_fields(struct header_writer *w, void *arg)
{
    (void)arg;
    header_put_str(w, "namespace", SLICE_LIT("escrow"));
    header_put_str(w, "key", SLICE_LIT("probe"));
}

/* Sent, or the connection is being closed. */
static bool peer_ask(struct remote_peer *peer, const struct remote_request *req, int32_t *opaque)
{
    struct header_out head = {.code = req->code};
    int rc;

    *opaque = head.opaque = next_opaque(peer->remote);
    rc = write_frame(peer->remote, tcp_conn_begin(&peer->conn), HEADER_JSON, &head, req);
    if (rc == 0) {
        rc = tcp_conn_end(&peer->conn);
    } else {
        tcp_conn_abandon(&peer->conn);
    }
    if (rc != 0) {
        tcp_conn_close(&peer->conn, rc);
    }
    return rc == 0;
}

/*
 * Ask for something that only an escrowd knows; whatever comes back tells what it is. RocketMQ's
 * name servers of 4.x do not answer what they do not know, so something is asked behind it that
 * every server answers: an escrowd answers the first before the second.
 */
static void peer_probe(struct remote_peer *peer)
{
    const struct remote_request probe = {.code = REQUEST_ESCROW_TXN_HORIZON};
    const struct remote_request other = {.code = REQUEST_GET_KV_CONFIG, .fields = other_fields};

    if (peer_ask(peer, &probe, &peer->probe_opaque) &&
        peer_ask(peer, &other, &peer->other_opaque)) {
        loop_timer_start(peer->remote->loop, &peer->probe_timer,
                         peer->remote->options.connect_timeout_ms, 0, probe_time_up, peer);
    }
}

/* The second was answered, and the first was not. */
static void peer_is_other(struct remote_peer *peer)
{
    peer->is_escrowd = false;
    peer->type = HEADER_JSON;
    peer_open(peer);
}

static void peer_probed(struct remote_peer *peer, struct slice body)
{
    struct txn_horizon horizon;

    peer->is_escrowd = peer->remote->header.code == RESPONSE_SUCCESS;
    peer->type = peer->is_escrowd ? HEADER_MSGPACK : HEADER_JSON;
    if (peer->is_escrowd && txn_horizon_decode(body, &horizon) == 0) {
        (void)slice_to_cstr(horizon.broker, peer->identity, sizeof peer->identity);
    }
    peer_open(peer);
}

static void peer_on_open(struct tcp_conn *conn)
{
    struct remote_peer *peer = peer_of(conn);

    switch (peer->remote->options.encoding) {
    case REMOTE_AUTO:
        peer->state = PEER_PROBING;
        peer_probe(peer);
        return;
    case REMOTE_JSON:
        peer->type = HEADER_JSON;
        break;
    case REMOTE_ROCKETMQ:
        peer->type = HEADER_ROCKETMQ;
        break;
    case REMOTE_MSGPACK:
        peer->type = HEADER_MSGPACK;
        break;
    }
    peer_open(peer);
}

static struct remote_call *call_find(struct remote_peer *peer, int32_t opaque)
{
    struct list *bucket = bucket_of(peer, opaque);
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, bucket) {
        struct remote_call *call = LIST_ENTRY(pos, struct remote_call, node);
        if (call->opaque == opaque) {
            return call;
        }
    }
    return NULL;
}

static void peer_on_frame(struct tcp_conn *conn, struct slice bytes)
{
    struct remote_peer *peer = peer_of(conn);
    struct remote *r = peer->remote;
    struct remote_call *call;
    struct frame frame;
    int rc = frame_decode(bytes, &frame);

    if (rc == 0) {
        rc = header_decode(&r->header, frame.type, frame.header);
    }
    if (rc != 0) {
        tcp_conn_close(conn, ESCROW_EPROTO);
        return;
    }
    peer->alive_ms = loop_mono_ms(r->loop);
    if (!header_is_response(&r->header)) {
        if (r->options.on_push != NULL) {
            r->options.on_push(r->options.arg, peer->addr, &r->header, frame.body);
        }
        return;
    }
    if (peer->state == PEER_PROBING && r->header.opaque == peer->probe_opaque) {
        peer_probed(peer, frame.body);
        return;
    }
    if (peer->state == PEER_PROBING && r->header.opaque == peer->other_opaque) {
        peer_is_other(peer);
        return;
    }
    call = call_find(peer, r->header.opaque);
    if (call != NULL) { /* otherwise it was given up, or timed out */
        call_end(call, answer_result(&r->header), &r->header, frame.body);
    }
}

static void peer_on_close(struct tcp_conn *conn, int reason)
{
    struct remote_peer *peer = peer_of(conn);
    struct remote *r = peer->remote;
    bool was_open = peer->state == PEER_OPEN;
    int unsent = ESCROW_ECONN;

    if (r->is_stopping) {
        unsent = ESCROW_ESHUTDOWN;
    } else if (reason == ESCROW_ETLS) {
        unsent = ESCROW_ETLS;
    }
    loop_timer_stop(r->loop, &peer->probe_timer);
    peer->state = PEER_CLOSED;
    peer->is_in_use = false;
    peer->is_escrowd = false;
    peer->identity[0] = '\0';
    fail_list(&peer->waiting, unsent);
    for (size_t i = 0; i < PEER_CALLS_BUCKETS; i++) {
        fail_list(&peer->sent[i], r->is_stopping ? ESCROW_ESHUTDOWN : ESCROW_ECLOSED);
    }
    if (was_open && r->options.on_state != NULL) {
        r->options.on_state(r->options.arg, peer->addr, false);
    }
}

static const struct tcp_ops peer_ops = {
    .on_open = peer_on_open, .on_frame = peer_on_frame, .on_close = peer_on_close};

static struct remote_peer *peer_get(struct remote *r, const char *addr)
{
    struct remote_peer *peer = strmap_find(&r->peers, slice_str(addr));

    if (peer != NULL) {
        return peer;
    }
    if (strlen(addr) >= sizeof peer->addr) {
        return NULL;
    }
    peer = mem_calloc(1, sizeof *peer);
    if (peer == NULL) {
        return NULL;
    }
    peer->remote = r;
    peer->type = HEADER_JSON;
    list_init(&peer->waiting);
    for (size_t i = 0; i < PEER_CALLS_BUCKETS; i++) {
        list_init(&peer->sent[i]);
    }
    (void)slice_to_cstr(slice_str(addr), peer->addr, sizeof peer->addr);
    if (strmap_put(&r->peers, slice_str(addr), peer) != 0) {
        mem_free(peer);
        return NULL;
    }
    return peer;
}

/* "host:port", "[::1]:port" */
static bool addr_split(const char *addr, char *host, size_t size, uint16_t *port)
{
    const char *colon = strrchr(addr, ':');
    struct slice name;
    int32_t number;

    if (colon == NULL || !slice_to_i32(slice_str(colon + 1), &number) || number < 1 ||
        number > 65535) {
        return false;
    }
    name = slice_of(addr, (size_t)(colon - addr));
    if (name.len >= 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']') {
        name = slice_of(name.ptr + 1, name.len - 2);
    }
    if (name.len == 0 || name.len >= size) {
        return false;
    }
    (void)slice_to_cstr(name, host, size);
    *port = (uint16_t)number;
    return true;
}

bool remote_addr_is_valid(const char *addr)
{
    char host[REMOTE_ADDR_MAX];
    uint16_t port;

    return strlen(addr) < REMOTE_ADDR_MAX && addr_split(addr, host, sizeof host, &port);
}

static int peer_connect(struct remote_peer *peer)
{
    struct remote *r = peer->remote;
    char host[REMOTE_ADDR_MAX];
    uint16_t port;
    int rc;

    if (peer->state != PEER_CLOSED) {
        return 0;
    }
    if (r->is_stopping) {
        return ESCROW_ESHUTDOWN;
    }
    if (peer->is_in_use) {
        return ESCROW_ECONN; /* still closing */
    }
    if (!addr_split(peer->addr, host, sizeof host, &port)) {
        return ESCROW_EINVAL;
    }
    tcp_conn_init(&peer->conn, &peer_ops, &r->options.tcp, peer);
    rc = tcp_connect(&r->tcp, &peer->conn, host, port, r->options.connect_timeout_ms);
    if (rc == 0) {
        peer->state = PEER_CONNECTING;
        peer->is_in_use = true;
    }
    return rc;
}

/* ---- sending ---- */

/* Is it up, and not being closed? Then a frame that cannot be written has a reason of its own. */
static bool peer_takes_frames(const struct remote_peer *peer)
{
    return peer->state == PEER_OPEN && tcp_conn_is_open(&peer->conn);
}

static int peer_write(struct remote_peer *peer, int32_t opaque, int32_t flag,
                      const struct remote_request *req)
{
    struct header_out head = {.code = req->code, .opaque = opaque, .flag = flag};
    int rc;

    if (!peer_takes_frames(peer)) {
        return ESCROW_ECONN; /* nothing was sent */
    }
    rc = write_frame(peer->remote, tcp_conn_begin(&peer->conn), peer->type, &head, req);
    if (rc != 0) {
        tcp_conn_abandon(&peer->conn);
        return rc;
    }
    return tcp_conn_end(&peer->conn);
}

void remote_call(struct remote *r, struct remote_call *call, const struct remote_request *req,
                 remote_done_fn *done)
{
    struct remote_peer *peer = r->is_stopping ? NULL : peer_get(r, req->addr);
    int rc = r->is_stopping ? ESCROW_ESHUTDOWN : peer == NULL ? ESCROW_ENOMEM : 0;

    CHECK(!call->is_active);
    list_init(&call->node);
    buf_init(&call->waiting, 0);
    call->remote = r;
    call->peer = peer;
    call->done = done;
    call->is_sent = false;
    call->is_active = true;
    call->opaque = next_opaque(r);
    call->timer = (struct loop_timer){.is_active = false};
    if (rc == 0) {
        rc = peer_connect(peer);
    }
    if (rc == 0 && peer->state == PEER_OPEN) {
        rc = peer_write(peer, call->opaque, 0, req);
        if (rc == 0) {
            call_is_sent(call);
        }
    } else if (rc == 0) {
        struct header_out head = {.code = req->code, .opaque = call->opaque};
        rc = write_frame(r, &call->waiting, HEADER_JSON, &head, req);
        if (rc == 0) {
            list_push(&peer->waiting, &call->node);
        }
    }
    if (rc != 0) {
        call_fail_later(call, rc);
        return;
    }
    loop_timer_start(r->loop, &call->timer, req->timeout_ms, 0, call_time_up, call);
}

int remote_oneway(struct remote *r, const struct remote_request *req)
{
    struct remote_peer *peer = r->is_stopping ? NULL : peer_get(r, req->addr);
    int rc;

    if (peer == NULL) {
        return r->is_stopping ? ESCROW_ESHUTDOWN : ESCROW_ENOMEM;
    }
    if (peer->state != PEER_OPEN) {
        rc = peer_connect(peer);
        return rc == 0 ? ESCROW_ECONN : rc;
    }
    return peer_write(peer, next_opaque(r), HEADER_FLAG_ONEWAY, req);
}

int remote_answer(struct remote *r, const char *addr, struct answer_to to, int32_t code,
                  struct slice remark, struct slice body)
{
    struct remote_peer *peer = strmap_find(&r->peers, slice_str(addr));
    struct header_writer w;
    int rc;

    if (peer == NULL || !peer_takes_frames(peer) || to.is_oneway) {
        return ESCROW_ECONN;
    }
    answer_begin(&w, tcp_conn_begin(&peer->conn), to, code, remark);
    header_end(&w);
    buf_append_slice(w.buf, body);
    rc = header_frame_end(&w, 0);
    if (rc != 0) {
        tcp_conn_abandon(&peer->conn);
        return rc;
    }
    return tcp_conn_end(&peer->conn);
}

void remote_disconnect(struct remote *r, const char *addr)
{
    struct remote_peer *peer = strmap_find(&r->peers, slice_str(addr));

    if (peer != NULL && peer->is_in_use) {
        tcp_conn_close(&peer->conn, ESCROW_ECLOSED);
    }
}

bool remote_is_open(const struct remote *r, const char *addr)
{
    const struct remote_peer *peer = strmap_find(&r->peers, slice_str(addr));

    return peer != NULL && peer->state == PEER_OPEN;
}

bool remote_is_escrowd(const struct remote *r, const char *addr)
{
    const struct remote_peer *peer = strmap_find(&r->peers, slice_str(addr));

    return peer != NULL && peer->state == PEER_OPEN && peer->is_escrowd;
}

const char *remote_identity(const struct remote *r, const char *addr)
{
    const struct remote_peer *peer = strmap_find(&r->peers, slice_str(addr));

    return peer != NULL && peer->state == PEER_OPEN ? peer->identity : "";
}

/* ---- start and end ---- */

/* Options that are only borrowed during remote_init. */
static int signer_init(struct remote *r, const struct remote_options *options)
{
    bool has_key = options->access_key != NULL && options->access_key[0] != '\0';
    bool has_secret = options->secret_key != NULL && options->secret_key[0] != '\0';
    int rc;

    r->options.access_key = NULL;
    r->options.secret_key = NULL;
    if (has_key != has_secret) {
        return ESCROW_EINVAL;
    }
    if (!has_key) {
        return 0;
    }
    r->access_key = mem_strdup(options->access_key);
    if (r->access_key == NULL) {
        return ESCROW_ENOMEM;
    }
    rc = signer_new(slice_str(options->secret_key), &r->signer);
    if (rc != 0) {
        mem_free(r->access_key);
    }
    return rc;
}

int remote_init(struct remote *r, struct loop *l, struct hash_key key,
                const struct remote_options *options)
{
    int rc;

    *r = (struct remote){.loop = l, .options = *options};
    r->options.tcp.tls_handshake_ms = options->connect_timeout_ms;
    rc = signer_init(r, options);
    if (rc != 0) {
        return rc;
    }
    rc = tcp_init(&r->tcp, l, 0);
    if (rc != 0) {
        signer_free(&r->signer);
        mem_free(r->access_key);
        return rc;
    }
    strmap_init(&r->peers, key);
    header_init(&r->header);
    list_init(&r->failed);
    loop_deferred_init(&r->fail, fail_run, r);
    return 0;
}

void remote_fini(struct remote *r)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    r->is_stopping = true;
    tcp_close_all(&r->tcp, ESCROW_ESHUTDOWN);
    while ((slot = strmap_next(&r->peers, &cursor)) != NULL) {
        struct remote_peer *peer = slot->value;
        if (peer->is_in_use) {
            tcp_conn_close(&peer->conn, ESCROW_ESHUTDOWN); /* one that is still connecting */
        }
    }
    while (r->tcp.conn_count > 0 || !list_is_empty(&r->failed)) {
        loop_run_once(r->loop, list_is_empty(&r->failed));
    }
    cursor = 0;
    while ((slot = strmap_next(&r->peers, &cursor)) != NULL) {
        struct remote_peer *peer = slot->value;
        while (peer->is_in_use) {
            loop_run_once(r->loop, true);
        }
        mem_free(peer);
    }
    loop_deferred_cancel(&r->fail);
    strmap_fini(&r->peers);
    header_fini(&r->header);
    signer_free(&r->signer);
    mem_free(r->access_key);
    tcp_fini(&r->tcp);
}
