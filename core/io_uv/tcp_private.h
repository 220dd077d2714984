/*
 * What the tcp_*.c files share. tcp.c: life and input; tcp_output.c; tcp_connect.c; tcp_listen.c;
 * tcp_tls.c; tcp_hangup.c.
 */
#ifndef CORE_IO_UV_TCP_PRIVATE_H
#define CORE_IO_UV_TCP_PRIVATE_H

#include "core/base/sm.h"
#include "core/io_uv/tcp.h"

#include <netinet/in.h>
#include <sys/socket.h>

/*
 *                           +--- HANDSHAKE --+  (TLS; accepted ones shake hands in OPEN)
 *                           |        |       v
 *  NEW --tcp_connect--> CONNECTING --|---> OPEN --drain--> DRAINING
 *   |                       |        |      ^|                |
 *   +------- accepted ------|--------|------+|                |
 *                           v        v       v                v
 *                           +------> CLOSING <----------------+
 *                                         |  uv has closed the handle
 *                                         v
 *                                      CLOSED   (on_close)
 */
#define TCP_STATES(X)                                                                              \
    X(NEW, SM_BIT(TCP_CONN_CONNECTING) | SM_BIT(TCP_CONN_OPEN), false)                             \
    X(CONNECTING, SM_BIT(TCP_CONN_HANDSHAKE) | SM_BIT(TCP_CONN_OPEN) | SM_BIT(TCP_CONN_CLOSING),   \
      false)                                                                                       \
    X(HANDSHAKE, SM_BIT(TCP_CONN_OPEN) | SM_BIT(TCP_CONN_CLOSING), false)                          \
    X(OPEN, SM_BIT(TCP_CONN_DRAINING) | SM_BIT(TCP_CONN_CLOSING), false)                           \
    X(DRAINING, SM_BIT(TCP_CONN_CLOSING), false)                                                   \
    X(CLOSING, SM_BIT(TCP_CONN_CLOSED), false)                                                     \
    X(CLOSED, 0, true)

enum tcp_state {
#define X(name, next, final) TCP_CONN_##name,
    TCP_STATES(X)
#undef X
};

#define TCP_SCRATCH_BYTES      ((size_t)256 * 1024) /* one read */
#define TCP_SEGMENT_FULL       ((size_t)128 * 1024) /* output beyond this begins a new segment */
#define TCP_SPARE_COUNT_MAX    256
#define TCP_SPARE_BYTES_MAX    ((size_t)4 * 1024 * 1024)
#define TCP_SWEEP_MS_MAX       1000
#define TCP_SWEEP_MS_MIN       5
#define TCP_LINGER_MS          1000 /* draining: how long to wait for the peer to close its end */
#define TCP_PROGRESS_BYTES     ((size_t)64 * 1024) /* a frame that grew by this is not stalled */
#define TCP_ACCEPTS_PER_WAKEUP 64
#define TCP_HOST_MAX           256
#define TCP_MEMORY_FAIR_BYTES  ((size_t)64 * 1024)  /* the limit over all closes none below this */
#define TCP_CIPHER_BYTES       ((size_t)128 * 1024) /* one read of encrypted bytes */
#define TCP_CIPHER_AHEAD       ((size_t)256 * 1024) /* encrypted before the kernel takes it */
#define TCP_TLS_OUT_SLACK      ((size_t)512 * 1024) /* of TLS itself, above out_max_bytes */
#define TCP_HANDSHAKES_MAX     16 /* steps in one iteration: each costs up to a millisecond */
#define TCP_REFUSED_FRAME_MAX  ((size_t)64 * 1024) /* what on_limit looks at, too */
#define TCP_OVER_MS            2000 /* a connection too many may be silent for so long */

/* A run of output bytes. */
struct tcp_segment {
    struct tcp_segment *next;
    struct buf buf;
    bool is_pinned; /* given to uv_write: may neither move nor grow */
};

/* What a connection has when it is encrypted. */
struct tcp_tls {
    struct tls_session *session;
    struct tcp_chain plain; /* written by the owner, to be encrypted; conn->out has the rest */
    int64_t since_ms;       /* of the handshake */
    const char *error;      /* what ended it when that was not the session; NULL: ask the session */
    bool is_client;
    bool is_established;
    bool has_ended; /* the end is announced: nothing more is encrypted */
};

struct tcp_listener {
    uv_poll_t uv;
    struct tcp *tcp;
    int fd;
    int spare_fd; /* closed to accept and refuse one when descriptors run out */
    struct tcp_addr addr;
    size_t conn_count;
    size_t conn_count_max;
    size_t over_count_max;
    struct tcp_conn *(*on_accept)(void *arg, const struct tcp_addr *peer);
    void *arg;
    struct loop_timer retry; /* after an error that is not a connection's */
    bool is_closed;
};

/* ---- tcp.c ---- */

void tcp_conn_move(struct tcp_conn *conn, enum tcp_state to, const char *event);

/* Put a NEW connection into the books; its uv handle is initialised, without a socket. */
void tcp_conn_adopt(struct tcp *tcp, struct tcp_conn *conn);

/* Connected: socket options, time stamps, reading; `state` is OPEN or HANDSHAKE. */
void tcp_conn_opened(struct tcp_conn *conn, enum tcp_state state);

/*
 * Where the next plain bytes go, and that `got` of them are there now: whole frames are handed out.
 */
void tcp_input_room(struct tcp_conn *conn, uv_buf_t *dst);
void tcp_input_arrived(struct tcp_conn *conn, size_t got);

/* As tcp_conn_close, with libuv's error. */
void tcp_conn_fail(struct tcp_conn *conn, int reason, int sys_error);

/* Everything is closed: give the struct back. Called by uv's close callback. */
void tcp_conn_closed(uv_handle_t *handle);

/* Start or stop reading, as pauses and state say. */
void tcp_conn_update_reading(struct tcp_conn *conn);

/* ---- tcp_output.c ---- */

void tcp_output_flush_all(void *tcp); /* the LOOP_FLUSH hook */
void tcp_output_clear(struct tcp_conn *conn);

/* The last segment of a chain, with room behind it; NULL when out of memory. */
struct tcp_segment *tcp_chain_room(struct tcp *tcp, struct tcp_chain *chain);

/* The first n bytes of a chain are done with. */
void tcp_chain_took(struct tcp *tcp, struct tcp_chain *chain, size_t n);

/* `added` bytes were put behind a chain: count them and see to it that they are sent. */
void tcp_output_added(struct tcp_conn *conn, struct tcp_chain *chain, size_t added);

/* Send what the kernel takes, at once. */
void tcp_output_send(struct tcp_conn *conn);

/* Once per sweep: has the peer taken anything since the last? Gives back what is not needed. */
bool tcp_output_sweep(struct tcp_conn *conn);
void tcp_output_trim_spare(struct tcp *tcp, size_t keep);

/* ---- tcp_connect.c ---- */

/*
 * Give up connecting: CONNECTING -> CLOSING happened. Returns true when the uv handle is being
 * closed already.
 */
bool tcp_attempt_cancel(struct tcp_conn *conn);
void tcp_attempt_free(struct tcp_conn *conn);

/* ---- tcp_tls.c ---- */

/*
 * Make a connection encrypted: a client of the server `host`, before it is connected, or (host
 * NULL) a server, when the first byte said so. ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int tcp_tls_new(struct tcp *tcp, struct tcp_conn *conn, const char *host);
void tcp_tls_free(struct tcp_tls **tls);

/* A client that is connected now: says hello. */
void tcp_tls_start(struct tcp_conn *conn);

/* The first bytes of a connection that was accepted. true: it is plain, go on with them. */
bool tcp_tls_decide(struct tcp_conn *conn, struct slice bytes);

/* `got` encrypted bytes are in tcp->cipher. */
void tcp_tls_input(struct tcp_conn *conn, size_t got);

/* Encrypt what the owner wrote, as far as the kernel's turn allows. */
void tcp_tls_output(struct tcp_conn *conn);

/* Announce the end, once. true: there is something more to send before closing. */
bool tcp_tls_end(struct tcp_conn *conn);

/* Has the handshake, or the wait for it, taken too long? Then the connection is closed. */
bool tcp_tls_is_late(struct tcp_conn *conn, int64_t now_ms);

/* ---- tcp_hangup.c ---- */

/* Watch for the peer's end, or stop that, as pause and state say. */
void tcp_watch_update(struct tcp_conn *conn);

/* ---- tcp_addr.c ---- */

void tcp_addr_from_sockaddr(const struct sockaddr_storage *ss, struct tcp_addr *addr);
socklen_t tcp_addr_to_sockaddr(const struct tcp_addr *addr, struct sockaddr_storage *ss);

#endif
