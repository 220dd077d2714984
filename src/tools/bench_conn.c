/*
 * A slot begins with a request in its connection's output and ends with the answer, found by opaque
 * (RocketMQ) or by order (the others). Everything that one loop iteration produces leaves with one
 * write per connection.
 *
 * Failures: an error answer ends its slot and is counted; a connection that closes takes its slots
 * with it (they are counted as missing), and the run ends when none is left.
 */
#include "src/tools/bench.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/io/clock.h"
#include "core/proto/answer.h"
#include "core/proto/codes.h"
#include "src/tools/bench_lines.h"

#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

static struct bench_conn *conn_of(struct tcp_conn *conn)
{
    return (struct bench_conn *)(void *)conn;
}

/* ---- counting ---- */

void bench_note_error(struct bench *b, int32_t code, struct slice text)
{
    struct bench_error *e = NULL;

    for (size_t i = 0; i < b->error_count && e == NULL; i++) {
        e = b->errors[i].code == code ? &b->errors[i] : NULL;
    }
    if (e == NULL && b->error_count < BENCH_ERRORS_MAX) {
        e = &b->errors[b->error_count++];
        e->code = code;
        (void)slice_to_cstr(text, e->text, sizeof e->text);
    }
    if (e == NULL) {
        e = &b->errors[BENCH_ERRORS_MAX - 1]; /* more kinds than there is room for: with the last */
    }
    e->count++;
}

static void count_one(struct bench *b, int64_t took, size_t bytes)
{
    uint64_t ns = took < 0 ? 0 : (uint64_t)took;

    histogram_put(&b->second, ns);
    if (b->is_measuring) {
        histogram_put(&b->latency, ns);
        b->measured++;
        b->measured_bytes += bytes;
    }
}

/* ---- slots ---- */

static bool may_issue(const struct bench *b)
{
    return b->is_running && (b->options.count == 0 || b->issued < b->options.count);
}

static void all_done(struct bench *b)
{
    if (b->in_flight == 0 && !may_issue(b)) {
        loop_stop(b->loop);
    }
}

static void issue(struct bench_conn *c, uint32_t index, int64_t start_ns)
{
    struct bench *b = c->bench;
    struct bench_slot *slot = &c->slots[index];
    struct buf *out = tcp_conn_begin(&c->conn);
    int rc;

    slot->seq = b->issued++;
    slot->start_ns = start_ns;
    slot->is_busy = true;
    switch (b->options.driver) {
    case BENCH_ROCKETMQ:
        if (b->options.mode == BENCH_CONSUMER) {
            bench_put_pull(b, out, slot, index);
        } else {
            bench_frame_put(b, out, c->queue, index, slot->seq);
            c->queue = c->queue + 1 == b->queues ? 0 : c->queue + 1;
        }
        break;
    case BENCH_REDIS:
        bench_put_redis(b, out, slot->seq);
        break;
    case BENCH_BEANSTALKD:
        bench_put_beanstalkd(b, out, slot->seq);
        break;
    }
    rc = tcp_conn_end(&c->conn);
    if (rc != 0) {
        tcp_conn_close(&c->conn, rc); /* the slot goes with it */
    }
    c->in_flight++;
    b->in_flight++;
}

static void slot_free(struct bench_conn *c, uint32_t index)
{
    struct bench_slot *slot = &c->slots[index];

    CHECK(slot->is_busy);
    slot->is_busy = false;
    c->in_flight--;
    c->bench->in_flight--;
    slot->next = c->free_head;
    c->free_head = index;
}

static bool has_free(const struct bench_conn *c)
{
    return c->is_open && c->in_flight < c->slot_count;
}

static void issue_free(struct bench_conn *c, int64_t start_ns)
{
    uint32_t index = c->free_head;

    CHECK(c->in_flight < c->slot_count);
    if (c->bench->options.driver != BENCH_ROCKETMQ) {
        issue(c, (c->fifo + c->in_flight) % c->slot_count, start_ns);
        return;
    }
    CHECK(index != BENCH_SLOT_NONE);
    c->free_head = c->slots[index].next;
    issue(c, index, start_ns);
}

void bench_slot_done(struct bench_conn *c, uint32_t index, int32_t code, struct slice text)
{
    struct bench *b = c->bench;
    int64_t now = clock_mono_ns(b->clock);

    if (code == 0) {
        count_one(b, now - c->slots[index].start_ns, (size_t)b->options.size_bytes);
    } else {
        bench_note_error(b, code, text);
    }
    b->done++;
    slot_free(c, index);
    if (b->options.rate == 0 && c->is_open && may_issue(b)) {
        issue_free(c, now);
    } else {
        all_done(b);
    }
}

/* ---- answers: RocketMQ ---- */

static void on_records(struct bench_conn *c, struct slice body)
{
    struct bench *b = c->bench;
    struct record_walk walk = {body};
    struct record_view view;
    int64_t now_ms = loop_wall_ms(b->loop);
    int rc;

    while ((rc = record_walk_next(&walk, &view)) == 1) {
        int64_t age_ms = now_ms - view.f.born_ms;
        b->done++;
        histogram_put(&b->second, age_ms < 0 ? 0 : (uint64_t)age_ms * 1000000);
        if (b->is_measuring) {
            b->measured++;
            b->measured_bytes += view.f.body.len;
            histogram_put(&b->latency, age_ms < 0 ? 0 : (uint64_t)age_ms * 1000000);
        }
    }
    if (rc != 0) {
        bench_note_error(b, rc, SLICE_LIT("malformed record"));
    }
}

/* A pull ends, and the next one begins where it said. */
static void on_pulled(struct bench_conn *c, uint32_t index, struct slice body)
{
    struct bench *b = c->bench;
    struct bench_slot *slot = &c->slots[index];
    int64_t next = slot->offset;
    bool is_over;

    if (b->header.code == RESPONSE_SUCCESS) {
        on_records(c, body);
    }
    switch (b->header.code) {
    case RESPONSE_SUCCESS:
    case RESPONSE_PULL_NOT_FOUND:
    case RESPONSE_PULL_RETRY_IMMEDIATELY:
    case RESPONSE_PULL_OFFSET_MOVED:
        if (header_get_i64(&b->header, "nextBeginOffset", &next) != 0) {
            bench_note_error(b, ESCROW_EPROTO, SLICE_LIT("no nextBeginOffset"));
        }
        break;
    default:
        bench_note_error(b, b->header.code, b->header.remark);
        b->is_failed = true;
        break;
    }
    is_over =
        !b->is_running || b->is_failed || (b->options.count != 0 && b->done >= b->options.count);
    slot->offset = next;
    slot_free(c, index);
    if (is_over) {
        b->is_running = false;
        loop_stop(b->loop);
    } else {
        issue_free(c, clock_mono_ns(b->clock));
    }
}

static void on_answer(struct bench_conn *c, struct slice body)
{
    struct bench *b = c->bench;
    int64_t index = (int64_t)b->header.opaque - BENCH_OPAQUE;
    int64_t first = (int64_t)b->header.opaque - BENCH_OPAQUE_END;

    if (first >= 0 && first < c->slot_count && c->slots[first].is_busy) {
        bench_txn_end(c, (uint32_t)first, &b->header, body);
    } else if (index < 0 || index >= c->slot_count || !c->slots[index].is_busy) {
        bench_note_error(b, ESCROW_EPROTO, SLICE_LIT("answer to nothing that was asked"));
    } else if (b->options.mode == BENCH_CONSUMER) {
        on_pulled(c, (uint32_t)index, body);
    } else if (b->options.mode == BENCH_TXN && b->header.code == 0) {
        bench_txn_half(c, (uint32_t)index, &b->header);
    } else {
        bench_slot_done(c, (uint32_t)index, b->header.code, b->header.remark);
    }
}

static void on_frame(struct tcp_conn *conn, struct slice bytes)
{
    struct bench_conn *c = conn_of(conn);
    struct bench *b = c->bench;
    struct frame frame;
    int rc = frame_decode(bytes, &frame);

    if (rc == 0) {
        rc = header_decode(&b->header, frame.type, frame.header);
    }
    if (rc != 0) {
        tcp_conn_close(conn, ESCROW_EPROTO);
    } else if (header_is_response(&b->header)) {
        on_answer(c, frame.body); /* what the broker asks by itself is not answered */
    }
}

/* ---- answers: lines, in the order of the requests ---- */

static void fifo_done(void *arg, bool is_ok, struct slice line)
{
    struct bench_conn *c = arg;
    uint32_t index = c->fifo;

    if (c->in_flight == 0) {
        bench_note_error(c->bench, ESCROW_EPROTO, line);
        return;
    }
    c->fifo = index + 1 == c->slot_count ? 0 : index + 1;
    bench_slot_done(c, index, is_ok ? 0 : ESCROW_EREJECTED, line);
}

static size_t on_data(struct tcp_conn *conn, struct slice data)
{
    struct bench_conn *c = conn_of(conn);

    return bench_lines_read(data, c->bench->options.driver == BENCH_REDIS, fifo_done, c);
}

/* ---- connections ---- */

static void on_open(struct tcp_conn *conn)
{
    struct bench_conn *c = conn_of(conn);

    c->is_open = true;
    if (++c->bench->open_count == c->bench->conn_count) {
        loop_stop(c->bench->loop);
    }
}

static void on_close(struct tcp_conn *conn, int reason)
{
    struct bench_conn *c = conn_of(conn);
    struct bench *b = c->bench;
    char text[160];

    b->open_count -= c->is_open ? 1 : 0;
    c->is_open = false;
    if (b->options.mode == BENCH_TXN && c->has_ends) {
        list_remove(&c->ending);
        c->has_ends = false;
    }
    b->missing += b->options.mode == BENCH_CONSUMER ? 0 : c->in_flight; /* held pulls are no loss */
    b->in_flight -= c->in_flight;
    c->in_flight = 0;
    if (reason != ESCROW_ESHUTDOWN) {
        bench_note_error(b, reason, slice_str(tcp_conn_describe(conn, text, sizeof text)));
        b->is_failed = true;
        b->is_running = false;
    }
    if (b->is_failed || b->open_count == 0) {
        loop_stop(b->loop);
    }
}

static const struct tcp_ops rocketmq_ops = {
    .on_open = on_open, .on_frame = on_frame, .on_close = on_close};
static const struct tcp_ops line_ops = {
    .on_open = on_open, .on_data = on_data, .on_close = on_close};

static int conn_init(struct bench *b, struct bench_conn *c, uint32_t number)
{
    bool is_consumer = b->options.mode == BENCH_CONSUMER;
    uint32_t queues = (uint32_t)b->queues;

    c->bench = b;
    c->slot_count = is_consumer ? (queues - number + b->conn_count - 1) / b->conn_count
                                : (uint32_t)b->options.window;
    c->slots = mem_calloc(c->slot_count, sizeof *c->slots);
    if (c->slots == NULL) {
        return ESCROW_ENOMEM;
    }
    for (uint32_t i = 0; i < c->slot_count; i++) {
        c->slots[i].next = i + 1 == c->slot_count ? BENCH_SLOT_NONE : i + 1;
        c->slots[i].queue = (int32_t)(number + i * b->conn_count);
    }
    c->end_head[0] = c->end_head[1] = BENCH_SLOT_NONE;
    c->queue = b->queues > 0 ? (int32_t)(number % queues) : 0;
    list_init(&c->ending);
    tcp_conn_init(&c->conn, b->options.driver == BENCH_ROCKETMQ ? &rocketmq_ops : &line_ops,
                  &b->tcp_options, c);
    return 0;
}

int bench_connect(struct bench *b)
{
    b->conns = mem_calloc(b->conn_count, sizeof *b->conns);
    if (b->conns == NULL) {
        return ESCROW_ENOMEM;
    }
    for (uint32_t i = 0; i < b->conn_count; i++) {
        int rc = conn_init(b, &b->conns[i], i);
        if (rc == 0) {
            rc = tcp_connect(&b->tcp, &b->conns[i].conn, b->host, b->port, 5000);
        }
        if (rc != 0) {
            return rc;
        }
    }
    loop_run(b->loop);
    return b->open_count == b->conn_count ? 0 : ESCROW_ECONN;
}

void bench_disconnect(struct bench *b)
{
    tcp_close_all(&b->tcp, ESCROW_ESHUTDOWN);
    while (b->tcp.conn_count > 0) {
        loop_run_once(b->loop, true);
    }
    for (uint32_t i = 0; b->conns != NULL && i < b->conn_count; i++) {
        mem_free(b->conns[i].slots);
    }
    mem_free(b->conns);
    b->conns = NULL;
}

/* ---- open loop ---- */

/* A connection with a free slot, in turn; NULL when all are full. */
static struct bench_conn *pick(struct bench *b)
{
    for (uint32_t i = 0; i < b->conn_count; i++) {
        struct bench_conn *c = &b->conns[b->next_conn];
        b->next_conn = b->next_conn + 1 == b->conn_count ? 0 : b->next_conn + 1;
        if (has_free(c)) {
            return c;
        }
    }
    return NULL;
}

static void on_tick(uv_poll_t *handle, int status, int events)
{
    struct bench *b = handle->data;
    double step = 1e9 / (double)b->options.rate;
    int64_t now = clock_mono_ns(b->clock);
    uint64_t ticks;

    (void)status;
    (void)events;
    if (read(b->tick_fd, &ticks, sizeof ticks) != (ssize_t)sizeof ticks) {
        return; /* nothing yet */
    }
    while (b->due_ns <= now && may_issue(b)) {
        struct bench_conn *c = pick(b);
        /*
         * Due within a tick counts from the tick's end: that is when it can be sent at the
         * earliest.
         */
        int64_t grid = (b->due_ns + BENCH_TICK_NS - 1) / BENCH_TICK_NS * BENCH_TICK_NS;
        if (c == NULL) {
            b->late++; /* stays due: its latency counts from when it was */
            break;
        }
        issue_free(c, grid < now ? grid : now);
        b->due_fraction += step;
        b->due_ns += (int64_t)b->due_fraction;
        b->due_fraction -= (double)(int64_t)b->due_fraction;
    }
    all_done(b);
}

static int tick_start(struct bench *b)
{
    struct itimerspec every = {{0, BENCH_TICK_NS}, {0, BENCH_TICK_NS}};
    int64_t now = clock_mono_ns(b->clock);

    b->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (b->tick_fd < 0 || timerfd_settime(b->tick_fd, 0, &every, NULL) != 0 ||
        uv_poll_init(&b->loop->uv, &b->tick, b->tick_fd) != 0) {
        return ESCROW_EIO;
    }
    b->tick.data = b;
    b->due_ns = now;
    return uv_poll_start(&b->tick, UV_READABLE, on_tick) == 0 ? 0 : ESCROW_EIO;
}

static void tick_closed(uv_handle_t *handle)
{
    struct bench *b = handle->data;

    b->tick.data = NULL;
}

void bench_tick_stop(struct bench *b)
{
    if (b->tick.data != NULL) {
        uv_close((uv_handle_t *)&b->tick, tick_closed);
        while (b->tick.data != NULL) {
            loop_run_once(b->loop, true);
        }
    }
    if (b->tick_fd >= 0) {
        (void)close(b->tick_fd); /* nothing was written to it */
        b->tick_fd = -1;
    }
}

int bench_begin(struct bench *b)
{
    int64_t now = clock_mono_ns(b->clock);

    b->is_running = true;
    if (b->options.rate != 0) {
        return tick_start(b);
    }
    for (uint32_t i = 0; i < b->conn_count; i++) {
        struct bench_conn *c = &b->conns[i];
        while (has_free(c) && may_issue(b)) {
            issue_free(c, now);
        }
    }
    return 0;
}
