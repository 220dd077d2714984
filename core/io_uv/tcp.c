/*
 * Connections: life, input, time-outs.
 *
 * Input, the happy path: uv asks where to read to (on_alloc) and gets the shared buffer; a read
 * brings many frames (on_read), each is handed out from there, and the incomplete last one is
 * copied to the connection's tail. The next read copies the tail to the front of the shared buffer
 * and reads behind it. Only a frame that is larger than half of the shared buffer is collected in
 * the tail itself, which grows with what has arrived, never with what a length field promises.
 *
 * While a connection is blocked (paused by the owner, or its output is high) nothing is handed out;
 * what was read already waits in the tail, and `deliver` hands it out later.
 *
 * Failures: every one ends in tcp_conn_fail, and that in on_close, from uv's close callback.
 */
#include "core/io_uv/tcp.h"

#include "core/io_uv/tcp_private.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/tls/tls.h"
#include "escrow/errors.h"

#include <netinet/tcp.h>
#include <stdio.h>

static const struct sm_state tcp_states[] = {
#define X(name_, next_, final_) {.name = #name_, .next = (next_), .final = (final_)},
    TCP_STATES(X)
#undef X
};

static const struct sm_table tcp_table = {
    .object = "tcp_conn", .states = tcp_states, .count = sizeof tcp_states / sizeof tcp_states[0]};

const struct tcp_options tcp_options_default = {
    .frame_size_max = (size_t)16 * 1024 * 1024,
    .out_high_bytes = (size_t)1024 * 1024,
    .out_low_bytes = (size_t)256 * 1024,
    .out_max_bytes = (size_t)64 * 1024 * 1024,
    .idle_timeout_ms = 0,
    .stall_timeout_ms = 30000,
    .keepalive_s = 60,
    .tls_handshake_ms = 10000,
};

void tcp_conn_move(struct tcp_conn *conn, enum tcp_state to, const char *event)
{
    sm_move(&tcp_table, &conn->state, (int)to, conn->id, event);
}

bool tcp_conn_is_open(const struct tcp_conn *conn)
{
    return conn->state == TCP_CONN_OPEN;
}

/* Nothing may be handed out. */
static bool is_blocked(const struct tcp_conn *conn)
{
    return conn->state != TCP_CONN_OPEN || conn->is_paused || conn->is_high;
}

/* ---- input ---- */

/* Size of the frame that begins the data, 0 when its length field is not complete. */
static uint64_t frame_size(const uint8_t *data, size_t len)
{
    return len < TCP_FRAME_PREFIX ? 0 : TCP_FRAME_PREFIX + (uint64_t)get_be32(data);
}

static size_t frame_size_max(const struct tcp_conn *conn)
{
    size_t max = conn->options->frame_size_max;

    return (conn->is_refused || conn->is_over) && max > TCP_REFUSED_FRAME_MAX
               ? TCP_REFUSED_FRAME_MAX
               : max;
}

/* The owner may tell the peer; `begun` is the frame that it is about, as far as it is there. */
static void limit_reached(struct tcp_conn *conn, int reason, struct slice begun)
{
    if (conn->ops->on_limit != NULL) {
        conn->ops->on_limit(conn, reason, begun);
        if (conn->state == TCP_CONN_OPEN && reason == ESCROW_ETOOBIG &&
            (conn->is_paused || begun.len < TCP_REFUSED_FRAME_MAX)) {
            return; /* it does not want to say it yet, or cannot say whom to answer */
        }
    }
    if (conn->state == TCP_CONN_OPEN) {
        tcp_conn_fail(conn, reason, 0);
    }
}

static size_t hand_out_frames(struct tcp_conn *conn, const uint8_t *data, size_t len)
{
    size_t used = 0;

    while (!is_blocked(conn)) {
        uint64_t size = frame_size(data + used, len - used);

        if (size > frame_size_max(conn)) {
            limit_reached(conn, ESCROW_ETOOBIG, slice_of(data + used, len - used));
            break;
        }
        if (size == 0 || size > len - used) {
            break;
        }
        conn->tcp->stats.frames_in++;
        conn->ops->on_frame(conn, slice_of(data + used, (size_t)size));
        used += (size_t)size;
    }
    return used;
}

static size_t hand_out_data(struct tcp_conn *conn, const uint8_t *data, size_t len)
{
    size_t used = 0;

    while (!is_blocked(conn) && used < len) {
        size_t n = conn->ops->on_data(conn, slice_of(data + used, len - used));

        CHECK(n <= len - used);
        if (n == 0) {
            break;
        }
        used += n;
    }
    if (len - used >= conn->options->frame_size_max && !is_blocked(conn)) {
        tcp_conn_fail(conn, ESCROW_ETOOBIG, 0);
    }
    return used;
}

static size_t hand_out(struct tcp_conn *conn, const uint8_t *data, size_t len)
{
    return conn->ops->on_frame != NULL ? hand_out_frames(conn, data, len)
                                       : hand_out_data(conn, data, len);
}

/* The tail is now `len` bytes long, was `before`; `used` bytes went out in between. */
static void tail_changed(struct tcp_conn *conn, size_t before, size_t used)
{
    struct tcp *tcp = conn->tcp;
    size_t len;

    if (conn->state == TCP_CONN_DRAINING) {
        buf_fini(&conn->tail); /* nobody will look at it */
    }
    len = conn->tail.len;
    CHECK(tcp->buffered_bytes >= before);
    tcp->buffered_bytes = tcp->buffered_bytes - before + len;
    if (len == 0 || is_blocked(conn)) {
        conn->frame_ms = 0;
    } else if (conn->frame_ms == 0 || used > 0 || len - conn->frame_seen >= TCP_PROGRESS_BYTES) {
        conn->frame_ms = loop_mono_ms(tcp->loop);
        conn->frame_seen = len;
    }
    if (len == 0 && conn->tail.cap > TCP_PROGRESS_BYTES) {
        buf_fini(&conn->tail);
    }
    if (tcp->buffered_bytes_max != 0 && tcp->buffered_bytes > tcp->buffered_bytes_max &&
        len > TCP_MEMORY_FAIR_BYTES) {
        limit_reached(conn, ESCROW_ELIMIT, slice_of(conn->tail.ptr, len));
        if (conn->state == TCP_CONN_DRAINING) {
            tcp->buffered_bytes -= len;
            buf_fini(&conn->tail);
        }
    }
}

/* What was read already, after a pause. */
static void on_deliver(void *arg)
{
    struct tcp_conn *conn = arg;

    if (conn->state != TCP_CONN_OPEN) {
        return;
    }
    if (conn->tail.len > 0 && !is_blocked(conn)) {
        size_t before = conn->tail.len;
        size_t used = hand_out(conn, conn->tail.ptr, before);

        buf_consume(&conn->tail, used);
        tail_changed(conn, before, used);
    }
    tcp_conn_update_reading(conn);
}

/* Room in the tail for more of a large frame, growing with what has arrived. */
static void alloc_in_tail(struct tcp_conn *conn, uint64_t size, uv_buf_t *dst)
{
    struct buf *tail = &conn->tail;
    size_t more = tail->len < TCP_PROGRESS_BYTES ? TCP_PROGRESS_BYTES : tail->len;
    uint8_t *room;

    if (size > tail->len && size - tail->len < more) {
        more = (size_t)(size - tail->len); /* ends with the frame: what follows needs no copy */
    }
    if (tail->limit - tail->len < more) {
        more = tail->limit - tail->len;
    }
    room = buf_reserve(tail, more);
    *dst = room == NULL ? uv_buf_init(NULL, 0) : uv_buf_init((char *)room, (unsigned)more);
}

void tcp_input_room(struct tcp_conn *conn, uv_buf_t *dst)
{
    uint8_t *scratch = conn->tcp->scratch;
    size_t len = conn->tail.len;
    uint64_t size = conn->ops->on_frame != NULL ? frame_size(conn->tail.ptr, len) : 2 * len;

    conn->is_in_scratch = true;
    if (len == 0 || conn->state != TCP_CONN_OPEN) {
        *dst = uv_buf_init((char *)scratch, (unsigned)TCP_SCRATCH_BYTES);
    } else if (size <= TCP_SCRATCH_BYTES / 2 && len <= TCP_SCRATCH_BYTES / 2) {
        memcpy(scratch, conn->tail.ptr, len);
        *dst = uv_buf_init((char *)scratch + len, (unsigned)(TCP_SCRATCH_BYTES - len));
    } else {
        conn->is_in_scratch = false;
        alloc_in_tail(conn, size, dst);
    }
}

/* It is in a handshake, or about to begin one, and others had their turn: the next iteration. */
static bool has_to_wait(const struct tcp_conn *conn)
{
    return conn->tcp->handshakes >= TCP_HANDSHAKES_MAX &&
           (conn->is_undecided || (conn->tls != NULL && !conn->tls->is_established));
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *dst)
{
    struct tcp_conn *conn = handle->data;

    (void)suggested; /* uv's guess is a constant */
    if (has_to_wait(conn)) {
        *dst = uv_buf_init(NULL, 0);
    } else if (conn->tls != NULL) {
        *dst = uv_buf_init((char *)conn->tcp->cipher, (unsigned)TCP_CIPHER_BYTES);
    } else if (conn->is_undecided) {
        conn->is_in_scratch = true; /* no more than fits the other buffer, should it be TLS */
        *dst = uv_buf_init((char *)conn->tcp->scratch, (unsigned)TCP_CIPHER_BYTES);
    } else {
        tcp_input_room(conn, dst);
    }
}

/* `got` new bytes stand behind the tail's, in the shared buffer. */
static void input_in_scratch(struct tcp_conn *conn, size_t got)
{
    const uint8_t *data = conn->tcp->scratch;
    size_t before = conn->tail.len;
    size_t len = before + got;
    size_t used = hand_out(conn, data, len);

    buf_clear(&conn->tail);
    buf_append(&conn->tail, data + used, len - used);
    if (buf_failed(&conn->tail)) {
        tcp_conn_fail(conn, ESCROW_ENOMEM, 0);
    }
    tail_changed(conn, before, used);
}

static void input_in_tail(struct tcp_conn *conn, size_t got)
{
    size_t before = conn->tail.len;
    size_t used;

    buf_commit(&conn->tail, got);
    used = hand_out(conn, conn->tail.ptr, conn->tail.len);
    buf_consume(&conn->tail, used);
    tail_changed(conn, before, used);
}

void tcp_input_arrived(struct tcp_conn *conn, size_t got)
{
    if (conn->is_in_scratch) {
        input_in_scratch(conn, got);
    } else {
        input_in_tail(conn, got);
    }
}

/* Nothing more comes: the end, or libuv's error. */
static void read_ended(struct tcp_conn *conn, int error)
{
    if (conn->state == TCP_CONN_DRAINING && (error == UV_EOF || conn->is_shut)) {
        tcp_conn_close(conn, conn->out_bytes == 0 ? 0 : ESCROW_ECLOSED);
    } else if (error == UV_ENOBUFS) {
        tcp_conn_fail(conn, ESCROW_ENOMEM, 0);
    } else if (conn->tls != NULL && !conn->tls->is_established) {
        conn->tls->error = "closed by the peer before the handshake was complete";
        tcp_conn_fail(conn, ESCROW_ETLS, 0);
    } else {
        tcp_conn_fail(conn, ESCROW_ECLOSED, error == UV_EOF ? 0 : error);
    }
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *src)
{
    struct tcp_conn *conn = stream->data;
    struct tcp *tcp = conn->tcp;

    tcp->stats.reads++;
    if (got == 0 || (got == UV_ENOBUFS && has_to_wait(conn))) {
        return; /* nothing there after all; or it is left in the kernel, which says so again */
    }
    if (got < 0) {
        read_ended(conn, (int)got);
        return;
    }
    tcp->stats.bytes_in += (uint64_t)got;
    conn->read_ms = loop_mono_ms(tcp->loop);
    if (conn->state == TCP_CONN_DRAINING) {
        return; /* not of interest any more */
    }
    if (conn->tls != NULL) {
        tcp_tls_input(conn, (size_t)got);
    } else if (!conn->is_undecided || tcp_tls_decide(conn, slice_of(src->base, (size_t)got))) {
        tcp_input_arrived(conn, (size_t)got);
    }
    tcp_conn_update_reading(conn);
}

void tcp_conn_update_reading(struct tcp_conn *conn)
{
    bool want =
        conn->state == TCP_CONN_DRAINING || conn->state == TCP_CONN_HANDSHAKE || !is_blocked(conn);
    int rc = 0;

    tcp_watch_update(conn);
    if (want == conn->is_reading || conn->state == TCP_CONN_CLOSING ||
        conn->state == TCP_CONN_CLOSED) {
        return;
    }
    if (want) {
        rc = uv_read_start((uv_stream_t *)&conn->uv, on_alloc, on_read);
    } else {
        rc = uv_read_stop((uv_stream_t *)&conn->uv);
    }
    conn->is_reading = want;
    if (rc != 0) {
        tcp_conn_fail(conn, ESCROW_ECLOSED, rc);
    }
}

void tcp_conn_pause(struct tcp_conn *conn)
{
    DCHECK_THREAD(conn->tcp->loop);
    conn->is_paused = true;
    conn->frame_ms = 0;
    if (conn->state == TCP_CONN_OPEN) {
        tcp_conn_update_reading(conn);
    }
}

void tcp_conn_resume(struct tcp_conn *conn)
{
    DCHECK_THREAD(conn->tcp->loop);
    conn->is_paused = false;
    if (conn->state == TCP_CONN_OPEN) {
        loop_defer(conn->tcp->loop, &conn->deliver);
    }
}

/* ---- time-outs ---- */

static bool has_passed(int64_t now_ms, int64_t since_ms, uint64_t timeout_ms)
{
    return timeout_ms != 0 && now_ms - since_ms >= (int64_t)timeout_ms;
}

static void sweep_draining(struct tcp_conn *conn, int64_t now_ms)
{
    if (conn->is_shut) {
        if (has_passed(now_ms, conn->write_ms, TCP_LINGER_MS)) {
            tcp_conn_close(conn, 0); /* everything was sent; the peer just does not hang up */
        }
    } else if (has_passed(now_ms, conn->write_ms, conn->options->stall_timeout_ms)) {
        tcp_conn_close(conn, ESCROW_ETIMEOUT);
    }
}

static void sweep_open(struct tcp_conn *conn, int64_t now_ms)
{
    const struct tcp_options *options = conn->options;
    int64_t last_ms = conn->read_ms > conn->write_ms ? conn->read_ms : conn->write_ms;

    if (conn->out_bytes > 0 && has_passed(now_ms, conn->write_ms, options->stall_timeout_ms)) {
        tcp_conn_close(conn, ESCROW_ETIMEOUT);
    } else if (conn->frame_ms != 0 &&
               has_passed(now_ms, conn->frame_ms, options->stall_timeout_ms)) {
        tcp_conn_close(conn, ESCROW_ETIMEOUT);
    } else if (!is_blocked(conn) &&
               has_passed(now_ms, last_ms,
                          conn->is_over ? TCP_OVER_MS : options->idle_timeout_ms)) {
        tcp_conn_close(conn, ESCROW_ETIMEOUT);
    } else if (conn->tail.len == 0 && has_passed(now_ms, last_ms, TCP_SWEEP_MS_MAX)) {
        buf_fini(&conn->tail); /* idle: keep nothing */
    }
}

static void on_sweep(void *arg)
{
    struct tcp *tcp = arg;
    int64_t now_ms = loop_mono_ms(tcp->loop);
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &tcp->conns) {
        struct tcp_conn *conn = LIST_ENTRY(pos, struct tcp_conn, node);

        if (conn->is_writing && tcp_output_sweep(conn)) {
            conn->write_ms = now_ms;
        }
        if (tcp_tls_is_late(conn, now_ms)) {
            continue;
        }
        if (conn->state == TCP_CONN_OPEN) {
            sweep_open(conn, now_ms);
        } else if (conn->state == TCP_CONN_DRAINING) {
            sweep_draining(conn, now_ms);
        }
    }
    tcp_output_trim_spare(tcp, tcp->spare_count - tcp->spare_count_low);
    if (tcp->conn_count == 0 && tcp->spare_count == 0) {
        loop_timer_stop(tcp->loop, &tcp->sweep); /* an idle server sleeps */
        tcp->sweep_ms = TCP_SWEEP_MS_MAX;
    }
}

/* A quarter of the shortest time-out that is in use. */
static void sweep_include(struct tcp *tcp, const struct tcp_options *options)
{
    const uint64_t timeouts[] = {options->idle_timeout_ms, options->stall_timeout_ms,
                                 options->tls == NULL ? 0 : options->tls_handshake_ms};
    uint64_t sweep_ms = tcp->sweep_ms;

    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        if (timeouts[i] != 0 && timeouts[i] / 4 < sweep_ms) {
            sweep_ms = timeouts[i] / 4;
        }
    }
    if (sweep_ms < TCP_SWEEP_MS_MIN) {
        sweep_ms = TCP_SWEEP_MS_MIN;
    }
    if (sweep_ms != tcp->sweep_ms || !loop_timer_is_active(&tcp->sweep)) {
        tcp->sweep_ms = sweep_ms;
        loop_timer_start(tcp->loop, &tcp->sweep, sweep_ms, sweep_ms, on_sweep, tcp);
    }
}

/* ---- life ---- */

void tcp_conn_init(struct tcp_conn *conn, const struct tcp_ops *ops,
                   const struct tcp_options *options, void *arg)
{
    CHECK((ops->on_frame != NULL) != (ops->on_data != NULL));
    CHECK(options->out_low_bytes < options->out_high_bytes);
    CHECK(options->out_high_bytes <= options->out_max_bytes);
    CHECK(options->frame_size_max >= TCP_FRAME_PREFIX);
    *conn = (struct tcp_conn){.ops = ops, .options = options, .arg = arg, .state = TCP_CONN_NEW};
    list_init(&conn->node);
    list_init(&conn->dirty_node);
    loop_deferred_init(&conn->deliver, on_deliver, conn);
    /* A paused connection holds up to one read more than its largest frame. */
    buf_init(&conn->tail, options->frame_size_max + TCP_SCRATCH_BYTES);
}

void tcp_conn_adopt(struct tcp *tcp, struct tcp_conn *conn)
{
    CHECK(conn->state == TCP_CONN_NEW);
    CHECK(conn->tcp == NULL);
    conn->tcp = tcp;
    conn->id = ++tcp->next_id;
    CHECK(uv_tcp_init(&tcp->loop->uv, &conn->uv) == 0); /* makes no socket: cannot fail */
    conn->uv.data = conn;
    conn->read_ms = loop_mono_ms(tcp->loop);
    conn->write_ms = conn->read_ms;
    list_push(&tcp->conns, &conn->node);
    tcp->conn_count++;
    sweep_include(tcp, conn->options);
}

static void set_option(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof value); /* slower or less watchful without */
}

void tcp_conn_opened(struct tcp_conn *conn, enum tcp_state state)
{
    unsigned keepalive_s = conn->options->keepalive_s;
    uv_os_fd_t fd;

    if (uv_fileno((uv_handle_t *)&conn->uv, &fd) == 0) {
        set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        if (keepalive_s > 0) {
            set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
            set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)keepalive_s);
            set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
            set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
        }
    }
    conn->read_ms = loop_mono_ms(conn->tcp->loop);
    conn->write_ms = conn->read_ms;
    tcp_conn_move(conn, state, "connected");
    tcp_conn_update_reading(conn);
}

void tcp_conn_closed(uv_handle_t *handle)
{
    struct tcp_conn *conn = handle->data;
    struct tcp *tcp = conn->tcp;
    struct tcp_tls *tls = conn->tls;

    CHECK(tcp->conn_count > 0);
    tcp_attempt_free(conn);
    tcp_output_clear(conn);
    tcp->buffered_bytes -= conn->tail.len;
    buf_fini(&conn->tail);
    list_remove(&conn->node);
    tcp->conn_count--;
    tcp->stats.closed++;
    if (conn->listener != NULL) {
        CHECK(conn->listener->conn_count > 0);
        conn->listener->conn_count--;
        conn->listener = NULL;
    }
    tcp_conn_move(conn, TCP_CONN_CLOSED, "closed");
    CHECK_IMPLIES(tcp->conn_count == 0, tcp->buffered_bytes == 0);
    if (conn->ops->on_close != NULL) {
        conn->ops->on_close(conn, conn->reason); /* may free conn; may ask what TLS had to say */
    }
    tcp_tls_free(&tls);
}

void tcp_conn_fail(struct tcp_conn *conn, int reason, int sys_error)
{
    bool is_closing = false;

    CHECK(conn->state != TCP_CONN_NEW);
    DCHECK_THREAD(conn->tcp->loop);
    if (conn->state == TCP_CONN_CLOSING || conn->state == TCP_CONN_CLOSED) {
        return; /* the first reason wins */
    }
    conn->reason = reason;
    conn->sys_error = sys_error;
    if (reason == ESCROW_ETLS && conn->tls != NULL) {
        char text[256];
        (void)tcp_conn_describe(conn, text, sizeof text);
        if (conn->tls->is_client) {
            log_error("tcp.tls.failed", "%s", text);
        } else { /* a server has strangers */
            log_peer_warn("tcp.tls.failed", "%s", text);
        }
    }
    if (conn->state == TCP_CONN_CONNECTING) {
        is_closing = tcp_attempt_cancel(conn);
    }
    tcp_conn_move(conn, TCP_CONN_CLOSING, "close");
    tcp_watch_update(conn);
    loop_deferred_cancel(&conn->deliver);
    list_remove(&conn->dirty_node);
    if (!is_closing) {
        uv_close((uv_handle_t *)&conn->uv, tcp_conn_closed);
    }
}

void tcp_conn_close(struct tcp_conn *conn, int reason)
{
    tcp_conn_fail(conn, reason, 0);
}

void tcp_conn_drain(struct tcp_conn *conn)
{
    if (conn->state == TCP_CONN_CONNECTING || conn->state == TCP_CONN_HANDSHAKE ||
        (conn->state == TCP_CONN_OPEN && conn->tls != NULL && !conn->tls->is_established)) {
        tcp_conn_close(conn, 0); /* the owner has heard and said nothing */
    } else if (conn->state == TCP_CONN_OPEN) {
        tcp_conn_move(conn, TCP_CONN_DRAINING, "drain");
        tcp_watch_update(conn);
        conn->write_ms = loop_mono_ms(conn->tcp->loop);
        if (list_is_empty(&conn->dirty_node)) {
            list_push(&conn->tcp->dirty, &conn->dirty_node);
        }
    }
}

int tcp_conn_local(const struct tcp_conn *conn, struct tcp_addr *addr)
{
    struct sockaddr_storage ss = {0};
    int len = sizeof ss;

    if (conn->state != TCP_CONN_OPEN ||
        uv_tcp_getsockname(&conn->uv, (struct sockaddr *)&ss, &len) != 0) {
        return ESCROW_ECLOSED;
    }
    tcp_addr_from_sockaddr(&ss, addr);
    return 0;
}

char *tcp_conn_describe(const struct tcp_conn *conn, char *dst, size_t size)
{
    char peer[TCP_ADDR_TEXT_MAX];
    char text[128];

    (void)tcp_addr_format(&conn->peer, peer, sizeof peer);
    if (conn->tls != NULL && conn->reason == ESCROW_ETLS) {
        (void)snprintf(dst, size, "%s: TLS: %s", peer,
                       conn->tls->error != NULL ? conn->tls->error
                                                : tls_error(conn->tls->session)); /* cut is fine */
    } else if (conn->sys_error != 0) {
        (void)snprintf(dst, size, "%s: %s", peer,
                       uv_strerror_r(conn->sys_error, text, sizeof text)); /* cut is fine */
    } else {
        (void)snprintf(dst, size, "%s: %s", peer,
                       conn->reason == ESCROW_ECLOSED
                           ? "closed by the peer"
                           : escrow_strerror(conn->reason)); /* cut is fine */
    }
    return dst;
}

/* ---- context ---- */

int tcp_init(struct tcp *tcp, struct loop *l, uint64_t buffered_bytes_max)
{
    DCHECK_THREAD(l);
    *tcp = (struct tcp){.buffered_bytes_max = buffered_bytes_max, .sweep_ms = TCP_SWEEP_MS_MAX};
    tcp->scratch = mem_alloc(TCP_SCRATCH_BYTES);
    if (tcp->scratch == NULL) {
        return ESCROW_ENOMEM;
    }
    tcp->loop = l;
    list_init(&tcp->conns);
    list_init(&tcp->dirty);
    loop_hook_start(l, LOOP_FLUSH, &tcp->flush, tcp_output_flush_all, tcp);
    return 0;
}

void tcp_close_all(struct tcp *tcp, int reason)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &tcp->conns) {
        tcp_conn_close(LIST_ENTRY(pos, struct tcp_conn, node), reason);
    }
}

void tcp_fini(struct tcp *tcp)
{
    if (tcp->loop == NULL) {
        return;
    }
    DCHECK_THREAD(tcp->loop);
    CHECK(tcp->conn_count == 0);
    CHECK(tcp->listener_count == 0);
    CHECK(tcp->buffered_bytes == 0);
    loop_hook_stop(tcp->loop, &tcp->flush);
    loop_timer_stop(tcp->loop, &tcp->sweep);
    tcp_output_trim_spare(tcp, 0);
    buf_fini(&tcp->sink);
    mem_free(tcp->scratch);
    mem_free(tcp->cipher);
    tcp->scratch = NULL;
    tcp->cipher = NULL;
    tcp->loop = NULL;
}

static void chain_check(const struct tcp_conn *conn, const struct tcp_chain *chain)
{
    size_t bytes = 0;

    for (const struct tcp_segment *seg = chain->head; seg != NULL; seg = seg->next) {
        bytes += seg->buf.len;
        CHECK_IMPLIES(seg->is_pinned, conn->is_writing || conn->state == TCP_CONN_CLOSING);
        CHECK_IMPLIES(seg->next == NULL, seg == chain->tail);
    }
    CHECK(bytes - chain->offset == chain->bytes);
}

static void conn_check(const struct tcp_conn *conn)
{
    size_t plain_bytes = conn->tls == NULL ? 0 : conn->tls->plain.bytes;
    size_t slack = conn->tls == NULL ? 0 : TCP_TLS_OUT_SLACK;

    chain_check(conn, &conn->out);
    if (conn->tls != NULL) {
        chain_check(conn, &conn->tls->plain);
    }
    CHECK(conn->out.bytes + plain_bytes == conn->out_bytes);
    CHECK(conn->out_bytes <= conn->options->out_max_bytes + slack);
    CHECK_IMPLIES(conn->out_bytes > conn->options->out_high_bytes, conn->is_high);
    CHECK_IMPLIES(conn->is_reading,
                  conn->state == TCP_CONN_OPEN || conn->state == TCP_CONN_HANDSHAKE ||
                      conn->state == TCP_CONN_DRAINING || conn->state == TCP_CONN_CLOSING);
    CHECK_IMPLIES(conn->watch != NULL, conn->state == TCP_CONN_OPEN);
    CHECK_IMPLIES(conn->attempt != NULL,
                  conn->state == TCP_CONN_CONNECTING || conn->state == TCP_CONN_CLOSING);
}

void tcp_check(const struct tcp *tcp)
{
    uint64_t buffered = 0;
    size_t count = 0;

    for (const struct list *pos = tcp->conns.next; pos != &tcp->conns; pos = pos->next) {
        const struct tcp_conn *conn =
            (const struct tcp_conn *)(const void *)((const char *)pos -
                                                    offsetof(struct tcp_conn, node));

        conn_check(conn);
        buffered += conn->out_bytes + conn->tail.len;
        count++;
    }
    CHECK(tcp->handshakes <= TCP_HANDSHAKES_MAX);
    CHECK(count == tcp->conn_count);
    CHECK(buffered == tcp->buffered_bytes);
}
