#include "src/broker/register.h"

#include "core/acl/sign.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/io_uv/small_file.h"
#include "core/proto/body_register.h"
#include "src/broker/broker.h"

#include <stdio.h>
#include <string.h>

#define REGISTER_CONNECT_MS 3000
#define SECRET_MAX          256

static struct register_peer *peer_of(struct tcp_conn *conn)
{
    return (struct register_peer *)(void *)conn;
}

/* ---- what we say ---- */

/* Every topic of the broker; the array is the caller's to free. NULL when out of memory. */
static struct topic_config *topic_list(const struct broker *b, size_t *count)
{
    struct topic_config *list = mem_calloc(b->topics.by_name.count + 1, sizeof *list);
    const struct topic *topic;
    size_t cursor = 0;

    *count = 0;
    while (list != NULL && (topic = topics_next(&b->topics, &cursor)) != NULL) {
        if (!topic->is_creating) {
            list[(*count)++] =
                (struct topic_config){.name = slice_str(topic->name),
                                      .read_queue_count = (int32_t)topic->read_queues,
                                      .write_queue_count = (int32_t)topic->write_queues,
                                      .perm = (int32_t)topic->perm,
                                      .sys_flag = (int32_t)topic->sys_flag,
                                      .is_ordered = topic->is_ordered};
        }
    }
    return list;
}

static struct data_version version_of(const struct broker *b)
{
    return (struct data_version){.timestamp_ms = b->registrar.version_ms,
                                 .counter = (int64_t)b->topics.version};
}

static void put_identity(struct header_writer *w, void *arg)
{
    const struct broker *b = arg;

    header_put_str(w, "brokerName", slice_str(b->config->broker_name));
    header_put_str(w, "brokerAddr", slice_str(b->registrar.addr));
    header_put_str(w, "clusterName", slice_str(b->config->cluster_name));
    header_put_i64(w, "brokerId", 0);
}

struct register_fields {
    struct broker *broker;
    int64_t body_crc;
};

static void put_register(struct header_writer *w, void *arg)
{
    const struct register_fields *f = arg;

    put_identity(w, f->broker);
    header_put_str(w, "haServerAddr", SLICE_EMPTY);
    header_put_bool(w, "compressed", false);
    header_put_i64(w, "bodyCrc32", f->body_crc);
}

static struct sign_request signed_by(const struct broker *b)
{
    return (struct sign_request){.access_key = slice_str(b->config->access_key),
                                 .signer = b->registrar.signer};
}

static int write_register(struct register_peer *peer, struct buf *out)
{
    struct broker *b = peer->broker;
    struct register_body body = {.version = version_of(b)};
    struct header_out head = {.code = REQUEST_REGISTER_BROKER, .opaque = 1};
    struct sign_request req = signed_by(b);
    struct register_fields fields = {.broker = b};
    struct buf text;
    int rc;

    body.topics = topic_list(b, &body.topic_count);
    if (body.topics == NULL) {
        return ESCROW_ENOMEM;
    }
    buf_init(&text, 0);
    register_body_encode(&text, &body);
    mem_free(body.topics);
    fields.body_crc = register_body_crc(buf_slice(&text));
    req.fields = put_register;
    req.fields_arg = &fields;
    req.body = buf_slice(&text);
    rc = buf_failed(&text) ? ESCROW_ENOMEM : sign_frame(out, HEADER_JSON, &head, &req);
    buf_fini(&text);
    return rc;
}

static int write_unregister(struct register_peer *peer, struct buf *out)
{
    struct header_out head = {.code = REQUEST_UNREGISTER_BROKER, .opaque = 2};
    struct sign_request req = signed_by(peer->broker);

    req.fields = put_identity;
    req.fields_arg = peer->broker;
    return sign_frame(out, HEADER_JSON, &head, &req);
}

static void peer_send(struct register_peer *peer,
                      int (*write)(struct register_peer *, struct buf *))
{
    int rc = write(peer, tcp_conn_begin(&peer->conn));

    if (rc == 0) {
        rc = tcp_conn_end(&peer->conn);
    } else {
        tcp_conn_abandon(&peer->conn);
    }
    if (rc != 0) {
        tcp_conn_close(&peer->conn, rc);
    }
}

/* ---- connections to name servers ---- */

static void peer_connect(void *arg);

static void peer_retry(struct register_peer *peer)
{
    if (!peer->broker->registrar.is_stopping) {
        loop_timer_start(peer->broker->loop, &peer->retry, REGISTER_RETRY_MS, 0, peer_connect,
                         peer);
    }
}

static void peer_on_open(struct tcp_conn *conn)
{
    struct register_peer *peer = peer_of(conn);

    peer->is_connecting = false;
    peer->is_connected = true;
    if (peer->is_warned) {
        log_info("register.back", "name server %s:%u answers again", peer->host, peer->port);
        peer->is_warned = false;
    }
    peer_send(peer, write_register);
}

static void peer_again(void *arg)
{
    struct register_peer *peer = arg;

    if (peer->is_connected) {
        peer_send(peer, write_register);
    }
}

/* Clients do not find this broker by that name server: said once, and each minute again. */
static void peer_on_refusal(struct register_peer *peer, struct slice remark)
{
    struct broker *b = peer->broker;
    int64_t now_ms = loop_mono_ms(b->loop);
    char text[REGISTER_REMARK_MAX + 1];

    (void)slice_to_cstr(remark, text, sizeof text); /* what does not fit is cut */
    if (!peer->is_refused || strcmp(text, peer->refusal) != 0 ||
        now_ms - peer->refusal_ms >= REGISTER_REPEAT_MS) {
        memcpy(peer->refusal, text, sizeof text);
        peer->refusal_ms = now_ms;
        log_error("register.refused", "name server %s:%u: %s", peer->host, peer->port,
                  peer->refusal);
    }
    peer->is_refused = true;
    if (!b->registrar.is_stopping) {
        loop_timer_start(b->loop, &peer->retry, REGISTER_REFUSED_MS, 0, peer_again, peer);
    }
}

/* The answer: only a refusal, and the end of refusals, are interesting. */
static void peer_on_frame(struct tcp_conn *conn, struct slice bytes)
{
    struct register_peer *peer = peer_of(conn);
    struct broker *b = peer->broker;
    struct frame frame;

    if (frame_decode(bytes, &frame) != 0 ||
        header_decode(&b->header, frame.type, frame.header) != 0) {
        tcp_conn_close(conn, ESCROW_EPROTO);
    } else if (header_is_response(&b->header) && b->header.code != RESPONSE_SUCCESS) {
        peer_on_refusal(peer, b->header.remark);
    } else if (header_is_response(&b->header) && peer->is_refused && !b->registrar.is_stopping) {
        log_info("register.accepted", "name server %s:%u takes this broker now", peer->host,
                 peer->port);
        peer->is_refused = false;
    }
}

static void peer_on_close(struct tcp_conn *conn, int reason)
{
    struct register_peer *peer = peer_of(conn);
    char text[256];

    peer->is_connected = false;
    peer->is_connecting = false;
    if (!peer->broker->registrar.is_stopping && !peer->is_warned) {
        log_warn("register.lost", "name server: %s (%s); trying again every %d s",
                 tcp_conn_describe(conn, text, sizeof text), escrow_strerror(reason),
                 REGISTER_RETRY_MS / 1000);
        peer->is_warned = true;
    }
    peer_retry(peer);
}

static const struct tcp_ops peer_ops = {
    .on_open = peer_on_open, .on_frame = peer_on_frame, .on_close = peer_on_close};

static void peer_connect(void *arg)
{
    struct register_peer *peer = arg;
    struct broker *b = peer->broker;

    tcp_conn_init(&peer->conn, &peer_ops, &b->registrar.tcp_options, peer);
    peer->is_connecting = true;
    if (tcp_connect(&b->tcp, &peer->conn, peer->host, peer->port, REGISTER_CONNECT_MS) != 0) {
        peer->is_connecting = false;
        peer_retry(peer);
    }
}

/* ---- the registrar ---- */

static void register_everywhere(struct broker *b)
{
    struct registrar *r = &b->registrar;

    if (b->config->is_namesrv) {
        struct registration reg = {.cluster = slice_str(b->config->cluster_name),
                                   .broker_name = slice_str(b->config->broker_name),
                                   .addr = slice_str(r->addr),
                                   .timeout_ms =
                                       INT64_MAX / 4, /* the same process: it cannot be silent */
                                   .version = version_of(b)};
        struct topic_config *topics = topic_list(b, &reg.topic_count);
        int rc = topics == NULL ? ESCROW_ENOMEM : 0;
        reg.topics = topics;
        if (rc == 0) {
            rc = registry_register(&b->namesrv.registry, loop_mono_ms(b->loop), &reg);
        }
        if (rc == ESCROW_EEXIST) {
            char text[REGISTRY_REFUSAL_MAX + 1];
            registry_refusal(&b->namesrv.registry, loop_mono_ms(b->loop), &reg, text, sizeof text);
            log_error("register.refused", "the name server of this process: %s", text);
        } else if (rc != 0) {
            log_warn("register.self", "routes are out of date: %s", escrow_strerror(rc));
        }
        mem_free(topics);
    }
    for (size_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].is_connected) {
            peer_send(&r->peers[i], write_register);
        }
    }
}

static void register_now(void *arg)
{
    register_everywhere(arg);
}

void register_soon(struct broker *b)
{
    if (b->registrar.addr[0] != '\0' && !b->registrar.is_stopping) {
        loop_defer(b->loop, &b->registrar.soon);
    }
}

static int signer_configure(struct broker *b, struct err_ctx *err)
{
    char secret[SECRET_MAX + 1];
    int rc;

    if (b->config->access_key[0] == '\0') {
        return 0;
    }
    rc = secret_file_read(b->config->secret_key_file, secret, sizeof secret, err);
    if (rc != 0) {
        (void)err_prefix(err, "secret.key.file");
        return rc == ESCROW_ENOMEM ? rc : ESCROW_ECONFIG;
    }
    rc = signer_new(slice_str(secret), &b->registrar.signer);
    sign_wipe(secret, sizeof secret);
    return rc == 0 ? 0 : err_set(err, rc, "secret.key.file: %s", escrow_strerror(rc));
}

void register_fini(struct broker *b)
{
    signer_free(&b->registrar.signer);
}

/* "host:port;host:port" */
int register_configure(struct broker *b, struct err_ctx *err)
{
    struct registrar *r = &b->registrar;
    const char *p = b->config->namesrv_addrs;

    while (*p != '\0') {
        size_t len = strcspn(p, ";,");
        const char *colon = memrchr(p, ':', len);
        struct register_peer *peer = &r->peers[r->peer_count];
        int32_t port = 0;
        if (len > 0) {
            if (r->peer_count == REGISTER_SERVERS_MAX || colon == NULL || colon == p ||
                (size_t)(colon - p) >= sizeof peer->host ||
                !slice_to_i32(slice_of(colon + 1, len - (size_t)(colon + 1 - p)), &port) ||
                port < 1 || port > 65535) {
                return err_set(err, ESCROW_ECONFIG,
                               "namesrv.addrs: '%.*s': expected host:port;host:port, at most %d",
                               (int)len, p, REGISTER_SERVERS_MAX);
            }
            *peer = (struct register_peer){.broker = b, .port = (uint16_t)port};
            (void)slice_to_cstr(slice_of(p, (size_t)(colon - p)), peer->host, sizeof peer->host);
            r->peer_count++;
        }
        p += len + (p[len] != '\0' ? 1 : 0);
    }
    return signer_configure(b, err);
}

void register_start(struct broker *b, const char *addr)
{
    struct registrar *r = &b->registrar;

    (void)snprintf(r->addr, sizeof r->addr, "%s", addr); /* TCP_ADDR_TEXT_MAX holds any address */
    r->version_ms = loop_wall_ms(b->loop);
    r->tcp_options = b->tcp_options;
    r->tcp_options.tls = &b->tls.namesrv;
    r->tcp_options.tls_handshake_ms = REGISTER_CONNECT_MS;
    loop_deferred_init(&r->soon, register_now, b);
    loop_timer_start(b->loop, &r->timer, REGISTER_PERIOD_MS, REGISTER_PERIOD_MS, register_now, b);
    for (size_t i = 0; i < r->peer_count; i++) {
        peer_connect(&r->peers[i]);
    }
    register_everywhere(b);
}

void register_stop(struct broker *b)
{
    struct registrar *r = &b->registrar;

    r->is_stopping = true;
    loop_timer_stop(b->loop, &r->timer);
    if (r->addr[0] != '\0') {
        loop_deferred_cancel(&r->soon);
    }
    for (size_t i = 0; i < r->peer_count; i++) {
        struct register_peer *peer = &r->peers[i];
        loop_timer_stop(b->loop, &peer->retry);
        if (peer->is_connected) {
            peer_send(peer, write_unregister);
            tcp_conn_drain(&peer->conn);
        } else if (peer->is_connecting) {
            tcp_conn_close(&peer->conn, ESCROW_ESHUTDOWN);
        }
    }
}
