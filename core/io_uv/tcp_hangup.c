/*
 * Noticing that the peer hangs up while nothing is read from it.
 *
 * Happy path: nothing happens. A connection that its owner has paused is watched by a second
 * descriptor of its socket, because uv lets a stream ask for bytes only; the kernel tells of the
 * end of input, and of a reset, whatever has not been read yet. The watch ends with the pause.
 *
 * Failures: without memory or a descriptor the connection is not watched, and its end is met when
 * it is read again.
 */
#include "core/io_uv/tcp_private.h"

#include "core/base/check.h"
#include "core/base/mem.h"

#include <fcntl.h>
#include <unistd.h>

struct tcp_watch {
    uv_poll_t uv;
    struct tcp_conn *conn;
    int fd;
};

static void on_watch_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void watch_stop(struct tcp_conn *conn)
{
    struct tcp_watch *watch = conn->watch;

    if (watch != NULL) {
        conn->watch = NULL;
        CHECK(uv_poll_stop(&watch->uv) == 0);
        (void)close(watch->fd);
        uv_close((uv_handle_t *)&watch->uv, on_watch_closed);
    }
}

static void on_hangup(uv_poll_t *handle, int status, int events)
{
    struct tcp_watch *watch = handle->data;
    struct tcp_conn *conn = watch->conn;

    (void)status; /* a reset is told as an error */
    (void)events;
    watch_stop(conn);
    conn->has_hung_up = true;
    if (conn->state == TCP_CONN_OPEN) {
        conn->ops->on_hangup(conn);
    }
}

static void watch_start(struct tcp_conn *conn)
{
    struct tcp_watch *watch = mem_calloc(1, sizeof *watch);
    uv_os_fd_t fd;

    if (watch == NULL) {
        return;
    }
    watch->fd = uv_fileno((uv_handle_t *)&conn->uv, &fd) == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (watch->fd < 0) {
        mem_free(watch);
        return;
    }
    if (uv_poll_init(&conn->tcp->loop->uv, &watch->uv, watch->fd) != 0) {
        (void)close(watch->fd);
        mem_free(watch);
        return;
    }
    watch->conn = conn;
    watch->uv.data = watch;
    conn->watch = watch;
    CHECK(uv_poll_start(&watch->uv, UV_DISCONNECT, on_hangup) == 0);
}

void tcp_watch_update(struct tcp_conn *conn)
{
    bool want = conn->state == TCP_CONN_OPEN && conn->is_paused && !conn->has_hung_up &&
                conn->ops->on_hangup != NULL;

    if (!want) {
        watch_stop(conn);
    } else if (conn->watch == NULL) {
        watch_start(conn);
    }
}
