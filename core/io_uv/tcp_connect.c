/*
 * Outgoing connections. The happy path: resolve the name in the pool unless it is a number, connect
 * to the first address, open. When an address fails, the uv handle is closed (it has a socket of
 * that address's family), made new, and the next address is tried; when none is left, or time is
 * up, the connection closes.
 *
 * The attempt lives on the heap because a resolver that is running cannot be stopped: when the
 * connection closes first, the attempt loses its `conn` and frees itself in the resolver's
 * callback.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/io_uv/tcp_private.h"
#include "escrow/errors.h"

#include <stdio.h>

struct tcp_attempt {
    struct tcp_conn *conn; /* NULL: given up, only the resolver is still to come */
    uv_getaddrinfo_t resolver;
    uv_connect_t request;
    struct loop_timer timer;
    struct addrinfo *found; /* what the resolver gave; freed with the attempt */
    const struct addrinfo *next;
    struct tcp_addr numeric; /* ip_len 0 once tried, and for names */
    uint16_t port;
    int sys_error; /* of the last address tried */
    bool is_resolving;
    bool is_reopening; /* the uv handle is being closed to try the next address */
};

static void try_next(struct tcp_attempt *a);

static void attempt_delete(struct tcp_attempt *a)
{
    if (a->found != NULL) {
        uv_freeaddrinfo(a->found);
    }
    mem_free(a);
}

bool tcp_attempt_cancel(struct tcp_conn *conn)
{
    struct tcp_attempt *a = conn->attempt;

    loop_timer_stop(conn->tcp->loop, &a->timer);
    if (a->is_resolving) {
        a->conn = NULL; /* frees itself in on_resolved */
        conn->attempt = NULL;
        (void)uv_cancel(
            (uv_req_t *)&a
                ->resolver); /* fails when it is running already: then it ends by itself */
        return false;
    }
    return a->is_reopening;
}

void tcp_attempt_free(struct tcp_conn *conn)
{
    if (conn->attempt != NULL) {
        attempt_delete(conn->attempt);
        conn->attempt = NULL;
    }
}

static void on_reopen(uv_handle_t *handle)
{
    struct tcp_conn *conn = handle->data;

    conn->attempt->is_reopening = false;
    if (conn->state == TCP_CONN_CLOSING) {
        tcp_conn_closed(handle);
        return;
    }
    CHECK(uv_tcp_init(&conn->tcp->loop->uv, &conn->uv) == 0); /* makes no socket: cannot fail */
    conn->uv.data = conn;
    try_next(conn->attempt);
}

static bool has_next(const struct tcp_attempt *a)
{
    return a->numeric.ip_len != 0 || a->next != NULL;
}

/* This address failed. */
static void address_failed(struct tcp_attempt *a, int sys_error)
{
    struct tcp_conn *conn = a->conn;

    a->sys_error = sys_error;
    if (has_next(a)) {
        a->is_reopening = true;
        uv_close((uv_handle_t *)&conn->uv, on_reopen);
    } else {
        tcp_conn_fail(conn, ESCROW_ECONN, sys_error);
    }
}

static void on_connect(uv_connect_t *req, int status)
{
    struct tcp_attempt *a = req->data;
    struct tcp_conn *conn = a->conn;

    if (conn->state != TCP_CONN_CONNECTING || a->is_reopening) {
        return; /* closed meanwhile; the close callback goes on */
    }
    if (status != 0) {
        address_failed(a, status);
        return;
    }
    loop_timer_stop(conn->tcp->loop, &a->timer);
    tcp_attempt_free(conn); /* frees req */
    if (conn->tls != NULL) {
        tcp_conn_opened(conn, TCP_CONN_HANDSHAKE);
        tcp_tls_start(conn); /* on_open follows its end */
        return;
    }
    tcp_conn_opened(conn, TCP_CONN_OPEN);
    if (conn->state == TCP_CONN_OPEN && conn->ops->on_open != NULL) {
        conn->ops->on_open(conn);
    }
}

/* Connect to the next address. */
static void try_next(struct tcp_attempt *a)
{
    struct tcp_conn *conn = a->conn;
    struct sockaddr_storage ss = {0};
    int rc;

    CHECK(has_next(a));
    if (a->numeric.ip_len != 0) {
        (void)tcp_addr_to_sockaddr(&a->numeric, &ss); /* uv takes the length from the family */
        a->numeric.ip_len = 0;
    } else {
        memcpy(&ss, a->next->ai_addr, a->next->ai_addrlen);
        a->next = a->next->ai_next;
    }
    tcp_addr_from_sockaddr(&ss, &conn->peer);
    a->request.data = a;
    rc = uv_tcp_connect(&a->request, &conn->uv, (const struct sockaddr *)&ss, on_connect);
    if (rc != 0) {
        address_failed(a, rc);
    }
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct tcp_attempt *a = req->data;

    a->is_resolving = false;
    a->found = found;
    a->next = found;
    if (a->conn == NULL) {
        attempt_delete(a);
    } else if (status != 0 || found == NULL) {
        tcp_conn_fail(a->conn, ESCROW_ECONN, status);
    } else {
        try_next(a);
    }
}

static int resolve(struct tcp_attempt *a, const char *host)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
    char port[8];
    int rc;

    (void)snprintf(port, sizeof port, "%u", (unsigned)a->port); /* fits */
    a->resolver.data = a;
    rc = uv_getaddrinfo(&a->conn->tcp->loop->uv, &a->resolver, on_resolved, host, port, &hints);
    a->is_resolving = rc == 0;
    return rc;
}

static void on_timeout(void *arg)
{
    struct tcp_attempt *a = arg;

    tcp_conn_fail(a->conn, ESCROW_ETIMEOUT, a->sys_error);
}

int tcp_connect(struct tcp *tcp, struct tcp_conn *conn, const char *host, uint16_t port,
                uint64_t timeout_ms)
{
    size_t host_len = strlen(host);
    struct tcp_attempt *a;
    int rc;

    DCHECK_THREAD(tcp->loop);
    if (host_len == 0 || host_len >= TCP_HOST_MAX) {
        return ESCROW_EINVAL;
    }
    a = mem_calloc(1, sizeof *a);
    if (a == NULL) {
        return ESCROW_ENOMEM;
    }
    if (conn->options->tls != NULL && conn->options->tls->mode != TCP_TLS_DISABLED) {
        rc = tcp_tls_new(tcp, conn, host);
        if (rc != 0) {
            mem_free(a);
            return rc;
        }
    }
    tcp_conn_adopt(tcp, conn);
    a->conn = conn;
    a->port = port;
    conn->attempt = a;
    tcp_conn_move(conn, TCP_CONN_CONNECTING, "connect");
    loop_timer_start(tcp->loop, &a->timer, timeout_ms, 0, on_timeout, a);
    if (tcp_addr_parse(host, port, &a->numeric) == 0) {
        try_next(a);
        return 0;
    }
    rc = resolve(a, host);
    if (rc != 0) {
        tcp_conn_fail(conn, ESCROW_ECONN, rc);
    }
    return 0;
}
