/*
 * TCP listeners and connections for length-prefixed frames, server and client side.
 *
 * Input: what the kernel has is read into one buffer shared by all connections; a connection keeps
 * only the incomplete rest. Output: written by the owner into the connection at any time, sent once
 * per loop iteration with one system call per connection (LOOP_FLUSH). Steady traffic allocates
 * nothing.
 *
 * Slow readers: when more than out_high_bytes wait to be sent, the connection stops reading (and
 * stops handing out frames it has read already) until at most out_low_bytes wait; so the peer's own
 * requests stop first. Writing beyond out_max_bytes is refused with ESCROW_ELIMIT. A peer that
 * takes nothing for stall_timeout_ms is closed.
 *
 * TLS: part of a connection, not a kind of it. struct tcp_tls_policy says whether: of a connection
 * that was accepted, the first byte tells TLS from frames; one that connects has spoken it before
 * on_open. Owners read and write the same frames either way; limits count plain bytes and what
 * encryption adds.
 *
 * Owns:    struct tcp_conn belongs to the owner (embedded in its session); core/io_uv uses it from
 *          the moment it is handed over (tcp_connect succeeded, or on_accept returned it) until
 *          on_close, which is called exactly once and is the place to free it.
 * Thread:  the loop.
 * Calls:   no callback is called inside tcp_connect, tcp_conn_end, tcp_conn_write, tcp_conn_resume,
 *          tcp_conn_drain or tcp_conn_close. All of them may be called inside callbacks.
 * Holds:   after tcp_conn_close no callback but on_close is called. out_bytes <= out_max_bytes.
 */
#ifndef CORE_IO_UV_TCP_H
#define CORE_IO_UV_TCP_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/slice.h"
#include "core/io_uv/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_ADDR_TEXT_MAX 64
#define TCP_FRAME_PREFIX  4 /* big-endian length of what follows it */

struct tcp;
struct tcp_conn;
struct tcp_listener;
struct tcp_tls;
struct tcp_watch;
struct tls_context;

/* IPv4 or IPv6 address and port, in bytes: no struct sockaddr outside this folder. */
struct tcp_addr {
    uint8_t ip[16]; /* the first 4 for IPv4; IPv4 in IPv6 (::ffff:a.b.c.d) is given as IPv4 */
    uint16_t port;  /* host byte order */
    uint8_t ip_len; /* 4 or 16; 0 = none */
};

/* "127.0.0.1:10911" or "[::1]:10911"; returns dst (TCP_ADDR_TEXT_MAX bytes are enough for any). "?"
 * for none. */
char *tcp_addr_format(const struct tcp_addr *addr, char *dst, size_t size);

/* Numeric host only. ESCROW_EINVAL; *addr is then unchanged. */
ESCROW_MUST_USE int tcp_addr_parse(const char *host, uint16_t port, struct tcp_addr *addr);

/* What the owner hears. Static storage. Unused ones may be NULL, but one of on_frame and on_data is
 * set. */
struct tcp_ops {
    /* Connected (tcp_connect only). */
    void (*on_open)(struct tcp_conn *conn);
    /* One whole frame, length field included. Borrowed until return. */
    void (*on_frame)(struct tcp_conn *conn, struct slice frame);
    /* Instead of on_frame: all bytes there are; returns how many it used. The rest comes again,
     * with more behind it. */
    size_t (*on_data)(struct tcp_conn *conn, struct slice data);
    /*
     * Beyond a limit: a frame above frame_size_max begins (ESCROW_ETOOBIG), or this connection
     * holds more than its share of the memory there is (ESCROW_ELIMIT). `begun` is what is there of
     * the frame, borrowed until return. The owner may answer and then calls tcp_conn_drain, or
     * tcp_conn_close. When it does neither it is called again with more of a large frame, up to 64
     * KiB; then, as without on_limit, the connection is closed with the reason. A frame that is too
     * large also waits for the end of a tcp_conn_pause that is called here.
     */
    void (*on_limit)(struct tcp_conn *conn, int reason, struct slice begun);
    /* Output above out_high_bytes could not be sent (true); it fell to out_low_bytes (false). */
    void (*on_pressure)(struct tcp_conn *conn, bool is_high);
    /*
     * Once, and only while its owner has paused it: the peer will send nothing more, or was reset.
     * What it had sent comes after tcp_conn_resume, and then the end; or the owner closes it.
     */
    void (*on_hangup)(struct tcp_conn *conn);
    /*
     * The end, exactly once. `reason`: what the owner gave to tcp_conn_close; 0 after
     * tcp_conn_drain; or ESCROW_ECLOSED (the peer closed or reset), ESCROW_ECONN (connecting
     * failed), ESCROW_ETIMEOUT (connecting, idle or stalled), ESCROW_ETOOBIG (frame above the
     * limit), ESCROW_ELIMIT (memory limit of struct tcp), ESCROW_ETLS (the handshake failed or did
     * not end in time, or a record was bad; it is logged), ESCROW_ENOMEM. tcp_conn_describe has the
     * details. The struct is the owner's again.
     */
    void (*on_close)(struct tcp_conn *conn, int reason);
};

enum tcp_tls_mode {
    TCP_TLS_DISABLED,   /* plain; a peer that begins with TLS is refused with an alert */
    TCP_TLS_PERMISSIVE, /* accepted: either; connecting: TLS */
    TCP_TLS_ENFORCING   /* TLS; a plain peer is marked as refused: tcp_conn_is_refused */
};

/*
 * The owner's; read when a connection begins, so that it may change in between: a new context
 * counts from the next connection on, and the old one may be freed at once.
 */
struct tcp_tls_policy {
    enum tcp_tls_mode mode;
    struct tls_context *context; /* of servers or of clients; NULL only when disabled */
    const char *name; /* connecting: the name wanted in certificates; NULL: the host's own */
};

/* Shared by many connections; the caller keeps it alive. */
struct tcp_options {
    size_t frame_size_max; /* on_frame: whole frame; on_data: most bytes that may wait unused */
    size_t out_high_bytes; /* > out_low_bytes */
    size_t out_low_bytes;
    size_t out_max_bytes;      /* >= out_high_bytes */
    uint64_t idle_timeout_ms;  /* nothing received and nothing sent; 0 = none */
    uint64_t stall_timeout_ms; /* a frame begun and not finished, or output waiting and nothing
                                  taken; 0 = none */
    unsigned keepalive_s;      /* kernel keepalive after this many idle seconds; 0 = off */
    const struct tcp_tls_policy *tls; /* NULL: nobody looks for TLS */
    uint64_t tls_handshake_ms; /* most for a handshake, and for its first byte when enforcing */
};

/* 16 MiB frames, 1 MiB high, 256 KiB low, 64 MiB max, no idle time-out, 30 s stall, keepalive 60 s,
 * no TLS, 10 s for its handshake. */
extern const struct tcp_options tcp_options_default;

struct tcp_stats {
    uint64_t accepted;
    uint64_t refused; /* over conn_count_max, told so or not, or the owner said no */
    uint64_t closed;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t frames_in;
    uint64_t reads; /* system calls */
    uint64_t writes;
};

/* A run of segments, oldest first. */
struct tcp_chain {
    struct tcp_segment *head;
    struct tcp_segment *tail;
    size_t offset; /* bytes of the head that are done with */
    size_t bytes;  /* still to be done */
};

/* All connections of one loop: the shared buffers and the limit over all of them. */
struct tcp {
    struct loop *loop;
    uint8_t *scratch;  /* shared receive buffer */
    uint8_t *cipher;   /* the same for encrypted bytes; NULL before the first TLS connection */
    struct buf sink;   /* where output of a connection that is not open goes: always failed */
    struct list conns; /* every connection handed over and not yet closed */
    struct list dirty; /* those with output to flush */
    struct tcp_segment *spare; /* unused output segments */
    size_t spare_count;
    size_t spare_count_low; /* lowest since the last sweep: what was not needed is freed */
    size_t spare_bytes;
    size_t conn_count;
    size_t listener_count;
    uint64_t next_id;
    uint64_t buffered_bytes;     /* input tails and output of all connections */
    uint64_t buffered_bytes_max; /* 0 = no limit */
    struct loop_hook flush;
    struct loop_timer sweep; /* time-outs */
    uint64_t sweep_ms;
    unsigned handshakes; /* steps of TLS handshakes made in this iteration */
    struct tcp_stats stats;
};

/* Fields are core/io_uv's but for `arg` and `id`; use the functions below. */
struct tcp_conn {
    uv_tcp_t uv;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct tcp *tcp;
    const struct tcp_ops *ops;
    const struct tcp_options *options;
    void *arg;   /* the owner's */
    uint64_t id; /* unique among the connections of this struct tcp; for log lines */
    struct tcp_listener *listener; /* NULL for outgoing, and after the listener closed */
    struct tcp_attempt *attempt;   /* while connecting */
    struct list node;              /* tcp->conns */
    struct list dirty_node;        /* tcp->dirty */
    struct loop_deferred deliver;
    struct buf tail;         /* received, not yet used */
    struct tcp_chain out;    /* to be sent, as it goes to the kernel */
    struct tcp_tls *tls;     /* NULL: plain, or not decided yet */
    struct tcp_watch *watch; /* for the peer's end; only while it is paused */
    size_t out_bytes;        /* waiting, including what the kernel has been asked to take */
    size_t out_mark;         /* length of the open segment at tcp_conn_begin */
    size_t queue_bytes;      /* given to uv_write */
    size_t queue_seen;       /* what uv and the kernel had left at the last sweep */
    size_t frame_seen;       /* length of the tail when frame_ms was set */
    int64_t frame_ms;        /* since when the tail waits for more bytes; 0 = it does not */
    int64_t read_ms;         /* last byte received */
    int64_t write_ms;        /* last byte sent, or first byte that waits */
    struct tcp_addr peer;
    int reason;
    int sys_error;  /* libuv's number behind `reason`, 0 = none */
    uint8_t state;  /* enum tcp_state */
    bool is_paused; /* by the owner */
    bool is_high;   /* output above out_high_bytes, and not yet down to out_low_bytes */
    bool is_high_told;
    bool is_reading;
    bool is_in_scratch; /* the tail was copied to the front of the shared buffer */
    bool is_writing;    /* uv_write in progress: wait for the kernel */
    bool is_begun;      /* between begin and end */
    bool is_shut;       /* draining: our end is closed for writing */
    bool is_undecided;  /* accepted, and the first byte is still to come */
    bool is_refused;    /* it was not TLS, and had to be */
    bool is_over;       /* accepted beyond conn_count_max */
    bool has_hung_up;   /* the peer, and its owner was told */
};

/* ---- context ---- */

/* buffered_bytes_max: over all connections; 0 = no limit. ESCROW_ENOMEM. */
ESCROW_MUST_USE int tcp_init(struct tcp *tcp, struct loop *l, uint64_t buffered_bytes_max);

/* Close every connection with `reason`; on_close follows for each. Listeners are closed by who
 * opened them. */
void tcp_close_all(struct tcp *tcp, int reason);

/* Every connection has had its on_close and every listener is closed (CHECK). NULL-initialised or
 * finished twice is fine. */
void tcp_fini(struct tcp *tcp);

/* ---- listeners ---- */

struct tcp_listen_config {
    const char *host; /* numeric; borrowed for the call */
    uint16_t port;    /* 0: the kernel chooses, see tcp_listener_addr */
    size_t conn_count_max;
    size_t over_count_max; /* so many more are taken to be told that they are: tcp_conn_is_over */
    /*
     * A new connection: return a tcp_conn prepared with tcp_conn_init (embedded in a new session),
     * or NULL to refuse it. The connection is open when this returns.
     */
    struct tcp_conn *(*on_accept)(void *arg, const struct tcp_addr *peer);
    void *arg;
};

/* ESCROW_EINVAL (not a numeric address), ESCROW_EBUSY (address in use), ESCROW_EPERM, ESCROW_EIO,
 * ESCROW_ENOMEM. */
ESCROW_MUST_USE int tcp_listen(struct tcp *tcp, const struct tcp_listen_config *config,
                               struct tcp_listener **out, struct err_ctx *err);

/* Stop accepting at once; *listener = NULL. Connections stay. NULL inside is fine. */
void tcp_listener_close(struct tcp_listener **listener);

/* Where it listens, with the port the kernel chose. */
const struct tcp_addr *tcp_listener_addr(const struct tcp_listener *listener);
size_t tcp_listener_conn_count(const struct tcp_listener *listener);

/* ---- connections ---- */

/* Fill a struct before handing it over. ops and options are borrowed until on_close. */
void tcp_conn_init(struct tcp_conn *conn, const struct tcp_ops *ops,
                   const struct tcp_options *options, void *arg);

/*
 * Connect to host (numeric, or a name: resolved in the pool, its addresses tried in turn) within
 * timeout_ms. On success of the call on_open or on_close follows; on_close alone when connecting
 * fails. ESCROW_ENOMEM, ESCROW_EINVAL (host too long or empty): the struct is still the caller's
 * and no callback follows.
 */
ESCROW_MUST_USE int tcp_connect(struct tcp *tcp, struct tcp_conn *conn, const char *host,
                                uint16_t port, uint64_t timeout_ms);

/*
 * Output without a copy: append what is to be sent to the buffer that begin returns, then end. One
 * pair at a time, no other call for this connection in between. Never returns NULL: on a connection
 * that is not open the bytes go nowhere and end says so.
 */
struct buf *tcp_conn_begin(struct tcp_conn *conn);

/*
 * Everything appended since begin is sent with the next flush, or nothing of it: ESCROW_ELIMIT
 * (out_max_bytes or the limit over all), ESCROW_ENOMEM (an append failed), ESCROW_ECLOSED (not
 * open). The connection stays as it was before begin.
 */
ESCROW_MUST_USE int tcp_conn_end(struct tcp_conn *conn);

/* Throw away what was appended since begin. */
void tcp_conn_abandon(struct tcp_conn *conn);

/* Copy `data` to the output. Errors as tcp_conn_end. */
ESCROW_MUST_USE int tcp_conn_write(struct tcp_conn *conn, struct slice data);

/* Send the bytes of *b without a copy: takes its memory and leaves it empty. Errors as
 * tcp_conn_end, *b is unchanged then. */
ESCROW_MUST_USE int tcp_conn_take(struct tcp_conn *conn, struct buf *b);

/* No more frames from now on (also none that were read already) until resume. Not counted: one
 * resume is enough. */
void tcp_conn_pause(struct tcp_conn *conn);
void tcp_conn_resume(struct tcp_conn *conn);

/* Read no more, send what waits, tell the peer, close: on_close with 0. Bounded by
 * stall_timeout_ms. */
void tcp_conn_drain(struct tcp_conn *conn);

/* Close now; what waits is dropped. The first reason wins; closing twice is fine. Allowed from
 * tcp_connect on. */
void tcp_conn_close(struct tcp_conn *conn, int reason);

/* Open: frames may come and output is accepted. */
bool tcp_conn_is_open(const struct tcp_conn *conn);
static inline size_t tcp_conn_out_bytes(const struct tcp_conn *conn)
{
    return conn->out_bytes;
}
static inline const struct tcp_addr *tcp_conn_peer(const struct tcp_conn *conn)
{
    return &conn->peer;
}

/* What it receives and sends is encrypted; a connection that was accepted: once bytes came. */
bool tcp_conn_is_encrypted(const struct tcp_conn *conn);

/*
 * A plain peer where only TLS is wanted: the owner answers its frames with a refusal, and does
 * nothing else they say. One above 64 KiB is beyond a limit: on_limit.
 */
static inline bool tcp_conn_is_refused(const struct tcp_conn *conn)
{
    return conn->is_refused;
}

/*
 * One more than conn_count_max: the owner answers its first frame with that, and drains it. A frame
 * above 64 KiB is beyond a limit (on_limit); two seconds without one close it.
 */
static inline bool tcp_conn_is_over(const struct tcp_conn *conn)
{
    return conn->is_over;
}

/* Our own end of an open connection. ESCROW_ECLOSED. */
ESCROW_MUST_USE int tcp_conn_local(const struct tcp_conn *conn, struct tcp_addr *addr);

/* "127.0.0.1:9876: connection refused", for log lines in on_close; returns dst. */
char *tcp_conn_describe(const struct tcp_conn *conn, char *dst, size_t size);

/* Asserts the invariants of one connection and of the sums; for tests and debug builds. */
void tcp_check(const struct tcp *tcp);

#endif
