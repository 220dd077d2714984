/*
 * TLS of connections: the one place where core/tls meets bytes of the network.
 *
 * Input: a connection that was accepted shows with its first byte what it is. Encrypted bytes are
 * read into a buffer shared by all, decrypted to where plain bytes would have been read, and go on
 * as those do; so everything that was read is decrypted at once, and a connection that is blocked
 * keeps plain bytes as any other.
 *
 * Output: the owner writes into a chain of its own; the flush encrypts it in records of 16 KiB
 * behind what goes to the kernel, at most TCP_CIPHER_AHEAD bytes ahead of it, so that a peer that
 * takes nothing costs the memory of what was written, once.
 *
 * Failures: ESCROW_ETLS through tcp_conn_fail, which logs it; the alert that says why to the peer
 * is given to the kernel before.
 */
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/io_uv/tcp_private.h"
#include "core/tls/tls.h"
#include "escrow/errors.h"

bool tcp_conn_is_encrypted(const struct tcp_conn *conn)
{
    return conn->tls != NULL;
}

static bool is_listened_to(const struct tcp_conn *conn)
{
    return conn->state == TCP_CONN_OPEN || conn->state == TCP_CONN_HANDSHAKE;
}

/* ---- life ---- */

int tcp_tls_new(struct tcp *tcp, struct tcp_conn *conn, const char *host)
{
    const struct tcp_tls_policy *policy = conn->options->tls;
    struct tcp_tls *tls = mem_calloc(1, sizeof *tls);
    int rc;

    CHECK(conn->tls == NULL);
    if (tls == NULL) {
        return ESCROW_ENOMEM;
    }
    if (tcp->cipher == NULL) {
        tcp->cipher = mem_alloc(TCP_CIPHER_BYTES);
        if (tcp->cipher == NULL) {
            mem_free(tls);
            return ESCROW_ENOMEM;
        }
    }
    if (host != NULL && policy->name != NULL && policy->name[0] != '\0') {
        host = policy->name;
    }
    rc = tls_session_new(policy->context, host, loop_wall_ms(tcp->loop) / 1000, &tls->session);
    if (rc != 0) {
        mem_free(tls);
        return rc;
    }
    tls->since_ms = loop_mono_ms(tcp->loop);
    tls->is_client = host != NULL;
    conn->tls = tls;
    return 0;
}

void tcp_tls_free(struct tcp_tls **tls)
{
    if (*tls != NULL) {
        CHECK((*tls)->plain.head == NULL);
        tls_session_free(&(*tls)->session);
        mem_free(*tls);
        *tls = NULL;
    }
}

/* `rc` is what core/tls said. */
static void tls_failed(struct tcp_conn *conn, int rc)
{
    if (rc == ESCROW_ETLS && !conn->is_writing) {
        tcp_output_send(conn); /* the alert; when there is no room the peer sees the end only */
    }
    tcp_conn_fail(conn, rc, 0);
}

/* Where core/tls writes; NULL: out of memory, and the connection is closed. */
static struct buf *wire_room(struct tcp_conn *conn)
{
    struct tcp_segment *seg = tcp_chain_room(conn->tcp, &conn->out);

    if (seg == NULL) {
        tcp_conn_fail(conn, ESCROW_ENOMEM, 0);
        return NULL;
    }
    return &seg->buf;
}

void tcp_tls_start(struct tcp_conn *conn)
{
    struct tcp_tls *tls = conn->tls;
    struct buf *out;
    int rc;

    if (conn->state != TCP_CONN_HANDSHAKE) {
        return; /* reading could not be started */
    }
    tls->since_ms = loop_mono_ms(conn->tcp->loop);
    out = wire_room(conn);
    if (out != NULL) {
        size_t before = out->len;
        rc = tls_start(tls->session, out);
        tcp_output_added(conn, &conn->out, out->len - before);
        if (rc != 0) {
            tls_failed(conn, rc);
        }
    }
}

/* ---- input ---- */

/* Somebody speaks TLS where nobody answers it: an alert, and the end. */
static bool refuse_tls(struct tcp_conn *conn)
{
    static const uint8_t alert[] = {0x15, 3, 3, 0, 2, 2, 40}; /* fatal: handshake_failure */
    char peer[TCP_ADDR_TEXT_MAX];

    log_peer_warn("tcp.tls.refused", "%s: the client speaks TLS, and it is disabled here",
                  tcp_addr_format(&conn->peer, peer, sizeof peer));
    if (tcp_conn_write(conn, slice_of(alert, sizeof alert)) == 0) {
        tcp_conn_drain(conn);
    } else {
        tcp_conn_close(conn, ESCROW_EPROTO);
    }
    return false;
}

bool tcp_tls_decide(struct tcp_conn *conn, struct slice bytes)
{
    const struct tcp_tls_policy *policy = conn->options->tls;
    int rc;

    CHECK(bytes.len > 0 && bytes.len <= TCP_CIPHER_BYTES);
    conn->is_undecided = false;
    if (conn->state != TCP_CONN_OPEN) {
        return true;
    }
    if (bytes.ptr[0] != TLS_FIRST_BYTE) {
        conn->is_refused = policy->mode == TCP_TLS_ENFORCING;
        if (conn->is_refused) {
            char peer[TCP_ADDR_TEXT_MAX];
            log_peer_warn("tcp.tls.plain",
                          "%s: the client does not speak TLS, which is enforced here",
                          tcp_addr_format(&conn->peer, peer, sizeof peer));
        }
        return true;
    }
    if (policy->mode == TCP_TLS_DISABLED) {
        return refuse_tls(conn);
    }
    if (conn->out_bytes > 0) { /* the owner spoke first, and plainly */
        tcp_conn_close(conn, ESCROW_EPROTO);
        return false;
    }
    rc = tcp_tls_new(conn->tcp, conn, NULL);
    if (rc != 0) {
        tcp_conn_close(conn, rc);
        return false;
    }
    memcpy(conn->tcp->cipher, bytes.ptr, bytes.len);
    tcp_tls_input(conn, bytes.len);
    return false;
}

/* The handshake is complete. */
static void established(struct tcp_conn *conn)
{
    conn->tls->is_established = true;
    if (list_is_empty(&conn->dirty_node)) {
        list_push(&conn->tcp->dirty, &conn->dirty_node); /* what was written meanwhile */
    }
    if (conn->state == TCP_CONN_HANDSHAKE) {
        tcp_conn_move(conn, TCP_CONN_OPEN, "handshake");
        if (conn->ops->on_open != NULL) {
            conn->ops->on_open(conn);
        }
    }
}

/* Decrypt as much as `dst` holds. Returns what the last call did; *filled is how much it is. */
static ssize_t decrypt(struct tcp_conn *conn, const uv_buf_t *dst, size_t *filled)
{
    struct buf *out = wire_room(conn);
    size_t before;
    ssize_t n;

    *filled = 0;
    if (out == NULL) {
        return ESCROW_ENOMEM;
    }
    before = out->len;
    do {
        n = tls_read(conn->tls->session, (uint8_t *)dst->base + *filled, dst->len - *filled, out);
        *filled += n > 0 ? (size_t)n : 0;
    } while (n > 0 && *filled < dst->len);
    tcp_output_added(conn, &conn->out, out->len - before);
    if (conn->out.bytes == 0) {
        tcp_chain_took(conn->tcp, &conn->out, 0); /* an idle connection holds nothing */
    }
    return n;
}

void tcp_tls_input(struct tcp_conn *conn, size_t got)
{
    struct tcp_tls *tls = conn->tls;
    ssize_t rc;

    tls_feed(tls->session, slice_of(conn->tcp->cipher, got));
    conn->tcp->handshakes += tls->is_established ? 0 : 1;
    do {
        size_t filled;
        uv_buf_t room;

        tcp_input_room(conn, &room);
        if (room.len == 0) {
            tcp_conn_fail(conn, ESCROW_ENOMEM, 0);
            return;
        }
        rc = decrypt(conn, &room, &filled);
        if (!tls->is_established && tls_is_established(tls->session)) {
            established(conn);
        }
        if (filled > 0 && is_listened_to(conn)) {
            tcp_input_arrived(conn, filled);
        }
    } while (rc > 0 && is_listened_to(conn));
    if (rc < 0 && is_listened_to(conn)) {
        tls_failed(conn, (int)rc);
    }
}

/* ---- output ---- */

/* Encrypt at most one record. */
static int encrypt_record(struct tcp_conn *conn)
{
    struct tcp_chain *plain = &conn->tls->plain;
    const struct buf *src = &plain->head->buf;
    size_t n = src->len - plain->offset;
    struct buf *dst = wire_room(conn);
    size_t added;
    int rc;

    if (dst == NULL) {
        return ESCROW_ENOMEM;
    }
    n = n < TLS_RECORD_MAX ? n : TLS_RECORD_MAX;
    added = dst->len;
    rc = tls_write(conn->tls->session, slice_of(src->ptr + plain->offset, n), dst);
    added = dst->len - added;
    tcp_chain_took(conn->tcp, plain, n);
    conn->out.bytes += added;
    conn->out_bytes = conn->out_bytes - n + added;
    conn->tcp->buffered_bytes = conn->tcp->buffered_bytes - n + added;
    if (conn->out_bytes > conn->options->out_high_bytes) {
        conn->is_high = true;
    }
    return rc;
}

void tcp_tls_output(struct tcp_conn *conn)
{
    struct tcp_tls *tls = conn->tls;
    int rc = 0;

    if (!tls->is_established || tls->has_ended) {
        return;
    }
    while (rc == 0 && tls->plain.bytes > 0 && conn->out.bytes < TCP_CIPHER_AHEAD) {
        rc = encrypt_record(conn);
    }
    if (rc != 0) {
        tls_failed(conn, rc);
    }
}

bool tcp_tls_end(struct tcp_conn *conn)
{
    struct tcp_tls *tls = conn->tls;
    struct buf *out;
    size_t before;
    int rc;

    if (tls == NULL || !tls->is_established || tls->has_ended) {
        return false;
    }
    tls->has_ended = true;
    out = wire_room(conn);
    if (out == NULL) {
        return false;
    }
    before = out->len;
    rc = tls_close(tls->session, out);
    tcp_output_added(conn, &conn->out, out->len - before);
    if (rc != 0) {
        tls_failed(conn, rc);
    }
    return rc == 0;
}

/* ---- time ---- */

bool tcp_tls_is_late(struct tcp_conn *conn, int64_t now_ms)
{
    int64_t limit_ms = (int64_t)conn->options->tls_handshake_ms;
    struct tcp_tls *tls = conn->tls;

    if (!is_listened_to(conn) || limit_ms == 0) {
        return false;
    }
    if (tls != NULL && !tls->is_established && now_ms - tls->since_ms >= limit_ms) {
        tls->error = "the handshake takes too long";
        tcp_conn_fail(conn, ESCROW_ETLS, 0);
        return true;
    }
    if (conn->is_undecided && conn->options->tls->mode == TCP_TLS_ENFORCING &&
        now_ms - conn->read_ms >= limit_ms) {
        tcp_conn_close(conn, ESCROW_ETIMEOUT); /* connected, and said nothing */
        return true;
    }
    return false;
}
