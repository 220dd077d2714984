/*
 * Output: segments (runs of bytes) in a chain per connection. The owner appends to the last one;
 * LOOP_FLUSH sends the chain with one writev. When the kernel takes less than everything, the rest
 * goes to uv_write, whose segments are pinned until it is done; meanwhile new output collects
 * behind them.
 *
 * Used segments go to a spare list with their memory, so that steady traffic allocates nothing and
 * an idle connection holds nothing; the sweep frees what the last second did not need.
 *
 * Failures: a write error closes the connection. An append that does not fit changes nothing (the
 * frame is cut off again).
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/io_uv/tcp_private.h"
#include "escrow/errors.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#define TRY_BUFS   16
#define QUEUE_BUFS 4 /* uv_write keeps this many without allocating */
#define SLACK_MAX  4096

/* ---- segments ---- */

static struct tcp_segment *segment_new(struct tcp *tcp)
{
    struct tcp_segment *seg = tcp->spare;

    if (seg == NULL) {
        seg = mem_calloc(1, sizeof *seg);
        if (seg != NULL) {
            buf_init(&seg->buf, 0);
        }
        return seg;
    }
    CHECK(tcp->spare_count > 0);
    tcp->spare = seg->next;
    tcp->spare_count--;
    tcp->spare_bytes -= seg->buf.cap;
    if (tcp->spare_count < tcp->spare_count_low) {
        tcp->spare_count_low = tcp->spare_count;
    }
    seg->next = NULL;
    return seg;
}

static void segment_free(struct tcp *tcp, struct tcp_segment *seg)
{
    CHECK(!seg->is_pinned);
    if (tcp->spare_count < TCP_SPARE_COUNT_MAX &&
        tcp->spare_bytes + seg->buf.cap <= TCP_SPARE_BYTES_MAX &&
        seg->buf.cap <= 2 * TCP_SEGMENT_FULL) {
        buf_clear(&seg->buf);
        seg->next = tcp->spare;
        tcp->spare = seg;
        tcp->spare_count++;
        tcp->spare_bytes += seg->buf.cap;
    } else {
        buf_fini(&seg->buf);
        mem_free(seg);
    }
}

void tcp_output_trim_spare(struct tcp *tcp, size_t keep)
{
    while (tcp->spare_count > keep) {
        struct tcp_segment *seg = tcp->spare;

        tcp->spare = seg->next;
        tcp->spare_count--;
        tcp->spare_bytes -= seg->buf.cap;
        buf_fini(&seg->buf);
        mem_free(seg);
    }
    tcp->spare_count_low = tcp->spare_count;
    CHECK_IMPLIES(tcp->spare_count == 0, tcp->spare_bytes == 0);
}

static void chain_push(struct tcp_chain *chain, struct tcp_segment *seg)
{
    if (chain->tail == NULL) {
        chain->head = seg;
    } else {
        chain->tail->next = seg;
    }
    chain->tail = seg;
}

static void chain_pop(struct tcp *tcp, struct tcp_chain *chain)
{
    struct tcp_segment *seg = chain->head;

    chain->head = seg->next;
    if (chain->head == NULL) {
        chain->tail = NULL;
    }
    chain->offset = 0;
    segment_free(tcp, seg);
}

struct tcp_segment *tcp_chain_room(struct tcp *tcp, struct tcp_chain *chain)
{
    struct tcp_segment *seg = chain->tail;

    if (seg == NULL || seg->is_pinned || seg->buf.len >= TCP_SEGMENT_FULL) {
        seg = segment_new(tcp);
        if (seg != NULL) {
            chain_push(chain, seg);
        }
    }
    return seg;
}

void tcp_chain_took(struct tcp *tcp, struct tcp_chain *chain, size_t n)
{
    CHECK(n <= chain->bytes);
    chain->bytes -= n;
    while (chain->head != NULL) {
        size_t len = chain->head->buf.len - chain->offset;

        if (n < len) {
            chain->offset += n;
            break;
        }
        n -= len;
        chain_pop(tcp, chain);
    }
    CHECK_IMPLIES(chain->bytes == 0, chain->head == NULL);
}

static void chain_clear(struct tcp *tcp, struct tcp_chain *chain)
{
    for (struct tcp_segment *seg = chain->head; seg != NULL; seg = seg->next) {
        seg->is_pinned = false;
    }
    while (chain->head != NULL) {
        chain_pop(tcp, chain);
    }
    chain->bytes = 0;
}

/* Where the owner's bytes go. */
static struct tcp_chain *owner_chain(struct tcp_conn *conn)
{
    return conn->tls == NULL ? &conn->out : &conn->tls->plain;
}

void tcp_output_clear(struct tcp_conn *conn)
{
    chain_clear(conn->tcp, &conn->out);
    if (conn->tls != NULL) {
        chain_clear(conn->tcp, &conn->tls->plain);
    }
    CHECK(conn->tcp->buffered_bytes >= conn->out_bytes);
    conn->tcp->buffered_bytes -= conn->out_bytes;
    conn->out_bytes = 0;
}

/* ---- the owner's side ---- */

void tcp_output_added(struct tcp_conn *conn, struct tcp_chain *chain, size_t added)
{
    struct tcp *tcp = conn->tcp;

    if (added == 0) {
        return;
    }
    if (conn->out_bytes == 0) {
        conn->write_ms = loop_mono_ms(tcp->loop);
    }
    chain->bytes += added;
    conn->out_bytes += added;
    tcp->buffered_bytes += added;
    if (conn->out_bytes > conn->options->out_high_bytes) {
        conn->is_high = true;
    }
    if (list_is_empty(&conn->dirty_node)) {
        list_push(&tcp->dirty, &conn->dirty_node);
    }
}

static int output_admit(const struct tcp_conn *conn, size_t added)
{
    const struct tcp *tcp = conn->tcp;

    if (conn->state != TCP_CONN_OPEN) {
        return ESCROW_ECLOSED;
    }
    if (conn->out_bytes > conn->options->out_max_bytes || /* what TLS adds is not asked for */
        added > conn->options->out_max_bytes - conn->out_bytes) {
        return ESCROW_ELIMIT;
    }
    if (tcp->buffered_bytes_max != 0 && conn->out_bytes + added > TCP_MEMORY_FAIR_BYTES &&
        tcp->buffered_bytes + added > tcp->buffered_bytes_max) {
        return ESCROW_ELIMIT;
    }
    return 0;
}

struct buf *tcp_conn_begin(struct tcp_conn *conn)
{
    struct tcp *tcp = conn->tcp;
    struct tcp_segment *seg = NULL;

    CHECK(tcp != NULL); /* handed over */
    DCHECK_THREAD(tcp->loop);
    CHECK(!conn->is_begun);
    conn->is_begun = true;
    if (conn->state == TCP_CONN_OPEN) {
        seg = tcp_chain_room(tcp, owner_chain(conn));
    }
    if (seg == NULL) {
        conn->out_mark = SIZE_MAX;
        tcp->sink.failed = true;
        return &tcp->sink;
    }
    conn->out_mark = seg->buf.len;
    return &seg->buf;
}

void tcp_conn_abandon(struct tcp_conn *conn)
{
    struct tcp_chain *chain = owner_chain(conn);

    CHECK(conn->is_begun);
    conn->is_begun = false;
    if (conn->out_mark != SIZE_MAX) {
        chain->tail->buf.len = conn->out_mark;
        chain->tail->buf.failed = false;
    }
    while (chain->bytes == 0 && chain->head != NULL) {
        chain_pop(conn->tcp, chain); /* an idle connection holds nothing */
    }
}

int tcp_conn_end(struct tcp_conn *conn)
{
    struct tcp_chain *chain = owner_chain(conn);
    size_t added;
    int rc;

    DCHECK_THREAD(conn->tcp->loop);
    CHECK(conn->is_begun);
    if (conn->out_mark == SIZE_MAX) {
        conn->is_begun = false;
        return conn->state == TCP_CONN_OPEN ? ESCROW_ENOMEM : ESCROW_ECLOSED;
    }
    CHECK(chain->tail->buf.len >= conn->out_mark);
    added = chain->tail->buf.len - conn->out_mark;
    rc = chain->tail->buf.failed ? ESCROW_ENOMEM : output_admit(conn, added);
    if (rc != 0) {
        tcp_conn_abandon(conn);
        return rc;
    }
    conn->is_begun = false;
    tcp_output_added(conn, chain, added);
    return 0;
}

int tcp_conn_write(struct tcp_conn *conn, struct slice data)
{
    int rc = output_admit(conn, data.len);

    if (rc == 0) {
        buf_append_slice(tcp_conn_begin(conn), data);
        rc = tcp_conn_end(conn);
    }
    return rc;
}

int tcp_conn_take(struct tcp_conn *conn, struct buf *b)
{
    struct tcp_segment *seg;
    int rc = output_admit(conn, b->len);

    DCHECK_THREAD(conn->tcp->loop);
    CHECK(!conn->is_begun);
    if (rc != 0) {
        return rc;
    }
    if (buf_failed(b)) {
        return ESCROW_ENOMEM;
    }
    seg = mem_calloc(1, sizeof *seg);
    if (seg == NULL) {
        return ESCROW_ENOMEM;
    }
    seg->buf = *b;
    seg->buf.limit = 0;
    buf_init(b, b->limit);
    chain_push(owner_chain(conn), seg);
    tcp_output_added(conn, owner_chain(conn), seg->buf.len);
    return 0;
}

/* ---- the kernel's side ---- */

/* The first bytes to be sent, in at most `max` pieces; *total is their sum. */
static unsigned gather(const struct tcp_conn *conn, uv_buf_t *bufs, unsigned max, size_t *total)
{
    size_t offset = conn->out.offset;
    unsigned count = 0;

    *total = 0;
    for (struct tcp_segment *seg = conn->out.head; seg != NULL && count < max; seg = seg->next) {
        size_t len = seg->buf.len - offset;

        if (len > 0) {
            bufs[count++] = uv_buf_init((char *)seg->buf.ptr + offset, (unsigned)len);
            *total += len;
        }
        offset = 0;
    }
    return count;
}

/* The kernel took `n` bytes. */
static void output_sent(struct tcp_conn *conn, size_t n)
{
    struct tcp *tcp = conn->tcp;

    CHECK(n <= conn->out_bytes);
    CHECK(n <= tcp->buffered_bytes);
    conn->out_bytes -= n;
    tcp->buffered_bytes -= n;
    tcp->stats.bytes_out += n;
    if (n > 0) {
        conn->write_ms = loop_mono_ms(tcp->loop);
    }
    tcp_chain_took(tcp, &conn->out, n);
}

static void on_written(uv_write_t *req, int status)
{
    struct tcp_conn *conn = req->data;

    conn->is_writing = false;
    if (conn->state == TCP_CONN_CLOSING) {
        return;
    }
    for (struct tcp_segment *seg = conn->out.head; seg != NULL; seg = seg->next) {
        seg->is_pinned = false;
    }
    if (status != 0) {
        tcp_conn_fail(conn, ESCROW_ECLOSED, status);
        return;
    }
    output_sent(conn, conn->queue_bytes);
    conn->queue_bytes = 0;
    if (list_is_empty(&conn->dirty_node)) {
        list_push(&conn->tcp->dirty, &conn->dirty_node); /* the rest, and the watermarks */
    }
}

/* A slow reader holds what it must: give back the room behind the segment's bytes. */
static void segment_fit(struct tcp_segment *seg)
{
    uint8_t *fitted;

    if (seg->is_pinned || seg->buf.len == 0 || seg->buf.cap - seg->buf.len <= SLACK_MAX) {
        return;
    }
    fitted = mem_realloc(seg->buf.ptr, seg->buf.len);
    if (fitted != NULL) {
        seg->buf.ptr = fitted;
        seg->buf.cap = seg->buf.len;
    }
}

bool tcp_output_sweep(struct tcp_conn *conn)
{
    size_t left = uv_stream_get_write_queue_size((uv_stream_t *)&conn->uv);
    bool has_moved;
    int in_kernel = 0;
    uv_os_fd_t fd;

    if (conn->out_bytes == 0) {
        return false;
    }
    if (conn->out.tail != NULL) {
        segment_fit(conn->out.tail);
    }
    if (conn->tls != NULL && conn->tls->plain.tail != NULL) {
        segment_fit(conn->tls->plain.tail);
    }
    /* The kernel asks for more only when a third of its buffer is empty: look into that, too. */
    if (uv_fileno((uv_handle_t *)&conn->uv, &fd) == 0 && ioctl(fd, SIOCOUTQ, &in_kernel) == 0) {
        left += (size_t)in_kernel;
    }
    has_moved = left != conn->queue_seen;
    conn->queue_seen = left;
    return has_moved;
}

/* The kernel is full: let uv wait for it. */
static void output_queue(struct tcp_conn *conn)
{
    struct tcp_segment *last = conn->out.tail;
    uv_buf_t bufs[QUEUE_BUFS];
    unsigned count;
    int rc;

    segment_fit(last);
    count = gather(conn, bufs, QUEUE_BUFS, &conn->queue_bytes);
    for (struct tcp_segment *seg = conn->out.head; seg != NULL; seg = seg->next) {
        seg->is_pinned = true;
    }
    conn->write.data = conn;
    conn->is_writing = true;
    rc = uv_write(&conn->write, (uv_stream_t *)&conn->uv, bufs, count, on_written);
    if (rc != 0) {
        conn->is_writing = false;
        tcp_conn_fail(conn, ESCROW_ECLOSED, rc);
    }
}

void tcp_output_send(struct tcp_conn *conn)
{
    while (conn->out.bytes > 0 && !conn->is_writing) {
        uv_buf_t bufs[TRY_BUFS];
        size_t total;
        unsigned count = gather(conn, bufs, TRY_BUFS, &total);
        int n = uv_try_write((uv_stream_t *)&conn->uv, bufs, count);

        conn->tcp->stats.writes++;
        if (n < 0 && n != UV_EAGAIN) {
            tcp_conn_fail(conn, ESCROW_ECLOSED, n);
            return;
        }
        output_sent(conn, n < 0 ? 0 : (size_t)n);
        if (n < 0 || (size_t)n < total) {
            output_queue(conn);
            return;
        }
    }
}

static void on_shut(uv_shutdown_t *req, int status)
{
    (void)req;
    (void)status; /* failed: then reading fails as well, and that closes the connection */
}

/* Tell the owner about the watermarks and let reading follow them. */
static void watermarks(struct tcp_conn *conn)
{
    const struct tcp_options *options = conn->options;

    if (conn->is_high && conn->out_bytes <= options->out_low_bytes) {
        conn->is_high = false;
        loop_defer(conn->tcp->loop, &conn->deliver); /* what was read already */
        if (conn->is_high_told) {
            conn->is_high_told = false;
            if (conn->ops->on_pressure != NULL) {
                conn->ops->on_pressure(conn, false);
            }
        }
    } else if (conn->is_high && !conn->is_high_told) {
        conn->is_high_told = true;
        if (conn->ops->on_pressure != NULL) {
            conn->ops->on_pressure(conn, true);
        }
    }
    tcp_conn_update_reading(conn);
}

static bool is_live(const struct tcp_conn *conn)
{
    return conn->state != TCP_CONN_CLOSING && conn->state != TCP_CONN_CLOSED;
}

/* Send all that the kernel takes; with TLS that is encrypted bit by bit as it goes. */
static void send_all(struct tcp_conn *conn)
{
    size_t before;

    do {
        before = conn->out_bytes;
        if (conn->tls != NULL) {
            tcp_tls_output(conn);
        }
        if (is_live(conn)) {
            tcp_output_send(conn);
        }
    } while (is_live(conn) && !conn->is_writing && conn->out_bytes > 0 && conn->out_bytes < before);
}

static void conn_flush(struct tcp_conn *conn)
{
    send_all(conn);
    if (conn->state == TCP_CONN_DRAINING && conn->out_bytes == 0 && tcp_tls_end(conn)) {
        send_all(conn);
    }
    if (conn->state == TCP_CONN_OPEN) {
        watermarks(conn);
    } else if (conn->state == TCP_CONN_DRAINING && conn->out_bytes == 0 && !conn->is_shut) {
        conn->is_shut = true;
        conn->write_ms = loop_mono_ms(conn->tcp->loop); /* TCP_LINGER_MS from here */
        if (uv_shutdown(&conn->shutdown, (uv_stream_t *)&conn->uv, on_shut) != 0) {
            tcp_conn_close(conn, 0);
        }
        tcp_conn_update_reading(conn);
    }
}

void tcp_output_flush_all(void *arg)
{
    struct tcp *tcp = arg;

    tcp->handshakes = 0; /* the iteration ends */
    while (!list_is_empty(&tcp->dirty)) {
        struct tcp_conn *conn = LIST_ENTRY(tcp->dirty.next, struct tcp_conn, dirty_node);

        list_remove(&conn->dirty_node);
        conn_flush(conn);
    }
}
