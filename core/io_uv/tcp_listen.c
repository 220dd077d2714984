/*
 * Listeners. accept4 is called here rather than by uv_listen, so that a connection can be refused
 * with a close(2) instead of a handle's life, and so that at most TCP_ACCEPTS_PER_WAKEUP are taken
 * before the connections that exist get their turn.
 *
 * Out of descriptors: one is kept spare; it is closed, the waiting connection accepted and closed
 * at once, and the spare opened again, so that clients hear "no" instead of waiting and the loop
 * does not spin. When even that fails, or for any other error that is not the connection's own,
 * accepting pauses for RETRY_MS.
 */
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/io_uv/tcp_private.h"
#include "escrow/errors.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define RETRY_MS 100
#define BACKLOG  1024

static void on_acceptable(uv_poll_t *poll, int status, int events);

static void spare_open(struct tcp_listener *listener)
{
    listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_retry(void *arg)
{
    struct tcp_listener *listener = arg;

    if (listener->spare_fd < 0) {
        spare_open(listener);
    }
    CHECK(uv_poll_start(&listener->uv, UV_READABLE, on_acceptable) == 0);
}

static void pause_accepting(struct tcp_listener *listener)
{
    CHECK(uv_poll_stop(&listener->uv) == 0);
    loop_timer_start(listener->tcp->loop, &listener->retry, RETRY_MS, 0, on_retry, listener);
}

static void refuse(struct tcp_listener *listener, int fd)
{
    (void)close(fd); /* nothing was written */
    listener->tcp->stats.refused++;
}

/* Accept one connection with the spare descriptor, and close it. The result is errno, or 0. */
static int refuse_with_spare(struct tcp_listener *listener)
{
    int errnum;
    int fd;

    (void)close(listener->spare_fd); /* /dev/null */
    fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    errnum = fd < 0 ? errno : 0;
    if (fd >= 0) {
        refuse(listener, fd);
        log_peer_warn("tcp.accept.descriptors", "out of file descriptors: a connection is refused");
    }
    spare_open(listener);
    return errnum;
}

/* False: no more for now. */
static bool accept_failed(struct tcp_listener *listener, int errnum)
{
    if ((errnum == EMFILE || errnum == ENFILE) && listener->spare_fd >= 0) {
        errnum = refuse_with_spare(listener); /* EAGAIN: there was no connection at all */
    }
    if (errnum == EAGAIN) {
        return false;
    }
    if (errnum == 0 || errnum == EINTR || errnum == ECONNABORTED || errnum == EPROTO) {
        return true; /* that connection is gone; the next may be fine */
    }
    log_peer_warn("tcp.accept.failed", "accept: %s; trying again in %d ms", strerrorname_np(errnum),
                  RETRY_MS);
    pause_accepting(listener);
    return false;
}

static void accepted(struct tcp_listener *listener, int fd, const struct sockaddr_storage *ss)
{
    struct tcp *tcp = listener->tcp;
    bool is_over = listener->conn_count >= listener->conn_count_max;
    struct tcp_conn *conn = NULL;
    struct tcp_addr peer;
    int rc;

    tcp_addr_from_sockaddr(ss, &peer);
    if (listener->conn_count < listener->conn_count_max + listener->over_count_max) {
        conn = listener->on_accept(listener->arg, &peer);
    }
    if (conn == NULL) {
        refuse(listener, fd);
        return;
    }
    tcp->stats.accepted += !is_over;
    tcp->stats.refused += is_over;
    tcp_conn_adopt(tcp, conn);
    conn->peer = peer;
    if (!listener->is_closed) {
        conn->listener = listener;
        listener->conn_count++;
    }
    rc = uv_tcp_open(&conn->uv, fd);
    conn->is_undecided = conn->options->tls != NULL;
    conn->is_over = is_over;
    tcp_conn_opened(conn, TCP_CONN_OPEN);
    if (rc != 0) {
        (void)close(fd); /* not uv's: it refused it */
        tcp_conn_fail(conn, ESCROW_ECLOSED, rc);
    }
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    struct tcp_listener *listener = poll->data;

    (void)status;
    (void)events; /* whatever it is, accept4 will say */
    for (int i = 0; i < TCP_ACCEPTS_PER_WAKEUP && !listener->is_closed; i++) {
        struct sockaddr_storage ss = {0};
        socklen_t len = sizeof ss;
        int fd = accept4(listener->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            accepted(listener, fd, &ss);
        } else if (!accept_failed(listener, errno)) {
            break;
        }
    }
}

/* A listening socket, or ESCROW_E... */
static int socket_listen(const struct tcp_addr *addr, struct err_ctx *err)
{
    char text[TCP_ADDR_TEXT_MAX];
    struct sockaddr_storage ss;
    socklen_t len = tcp_addr_to_sockaddr(addr, &ss);
    int yes = 1;
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int errnum;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(fd, (struct sockaddr *)&ss, len) != 0 || listen(fd, BACKLOG) != 0) {
        int rc;

        errnum = errno;
        rc = err_set_errno(err, errnum, "listen on %s", tcp_addr_format(addr, text, sizeof text));
        if (fd >= 0) {
            (void)close(fd); /* nothing was written */
        }
        if (errnum == EADDRINUSE) {
            rc = ESCROW_EBUSY;
        } else if (errnum == EADDRNOTAVAIL) {
            rc = ESCROW_EINVAL;
        }
        if (err != NULL) {
            err->code = rc;
        }
        return rc;
    }
    return fd;
}

int tcp_listen(struct tcp *tcp, const struct tcp_listen_config *config, struct tcp_listener **out,
               struct err_ctx *err)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    struct tcp_listener *listener;
    struct tcp_addr addr;
    int fd;

    DCHECK_THREAD(tcp->loop);
    CHECK(config->on_accept != NULL);
    *out = NULL;
    if (tcp_addr_parse(config->host, config->port, &addr) != 0) {
        return err_set(err, ESCROW_EINVAL, "listen on %s: not a numeric address", config->host);
    }
    listener = mem_calloc(1, sizeof *listener);
    if (listener == NULL) {
        return err_set(err, ESCROW_ENOMEM, "listen on %s: out of memory", config->host);
    }
    fd = socket_listen(&addr, err);
    if (fd < 0) {
        mem_free(listener);
        return fd;
    }
    CHECK(getsockname(fd, (struct sockaddr *)&ss, &len) == 0);
    listener->tcp = tcp;
    listener->fd = fd;
    listener->conn_count_max = config->conn_count_max;
    listener->over_count_max = config->over_count_max;
    listener->on_accept = config->on_accept;
    listener->arg = config->arg;
    tcp_addr_from_sockaddr(&ss, &listener->addr);
    spare_open(listener);
    CHECK(uv_poll_init(&tcp->loop->uv, &listener->uv, fd) ==
          0); /* a fresh socket: epoll takes it */
    listener->uv.data = listener;
    CHECK(uv_poll_start(&listener->uv, UV_READABLE, on_acceptable) == 0);
    tcp->listener_count++;
    *out = listener;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

void tcp_listener_close(struct tcp_listener **listener_ptr)
{
    struct tcp_listener *listener = *listener_ptr;
    struct list *pos;
    struct list *tmp;

    *listener_ptr = NULL;
    if (listener == NULL) {
        return;
    }
    DCHECK_THREAD(listener->tcp->loop);
    CHECK(!listener->is_closed);
    listener->is_closed = true;
    LIST_FOREACH(pos, tmp, &listener->tcp->conns) {
        struct tcp_conn *conn = LIST_ENTRY(pos, struct tcp_conn, node);

        if (conn->listener == listener) {
            conn->listener = NULL;
        }
    }
    loop_timer_stop(listener->tcp->loop, &listener->retry);
    listener->tcp->listener_count--;
    CHECK(uv_poll_stop(&listener->uv) == 0);
    (void)close(listener->fd); /* nothing was written */
    if (listener->spare_fd >= 0) {
        (void)close(listener->spare_fd); /* /dev/null */
    }
    uv_close((uv_handle_t *)&listener->uv, on_closed);
}

const struct tcp_addr *tcp_listener_addr(const struct tcp_listener *listener)
{
    return &listener->addr;
}

size_t tcp_listener_conn_count(const struct tcp_listener *listener)
{
    return listener->conn_count;
}
