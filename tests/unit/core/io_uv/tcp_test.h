/*
 * A server on the loopback interface whose sessions record what happens to them, for the tests of
 * tcp_*.c. The invariants of all connections are checked in every iteration.
 */
#ifndef TESTS_UNIT_CORE_IO_UV_TCP_TEST_H
#define TESTS_UNIT_CORE_IO_UV_TCP_TEST_H

#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/io_uv/tcp.h"
#include "escrow/errors.h"
#include "tests/unit/core/io_uv/uv_test.h"

#include <errno.h>

#define PEERS_MAX 1100

enum peer_habit {
    PEER_RECORDS, /* keeps the bytes of the frames in `got` */
    PEER_ECHOES,
    PEER_CLOSES,  /* in its first frame */
    PEER_PAUSES,  /* after each frame */
    PEER_PRODUCES /* answers each frame with answer_size bytes */
};

struct peer {
    struct tcp_conn conn;
    enum peer_habit habit;
    size_t answer_size;
    struct buf got;
    int frames;
    int opens;
    int hangups;
    int closes;
    int reason;
    int highs;
    int lows;
    int refusals; /* writes that gave ESCROW_ELIMIT */
    char text[128];
};

static struct loop test_loop;
static struct tcp test_tcp;
static struct tcp_listener *test_listener;
static struct loop_hook test_hook;
static struct tcp_options test_options;
static struct peer peers[PEERS_MAX]; /* of the server, in the order of their arrival */
static size_t peer_count;
static enum peer_habit peer_habit;
static size_t peer_answer_size;
static int peer_max = PEERS_MAX; /* on_accept says no above this */
static uint8_t peer_answer[4 * 1024 * 1024];

static inline void peer_on_open(struct tcp_conn *conn)
{
    struct peer *peer = conn->arg;

    ck_assert(tcp_conn_is_open(conn));
    peer->opens++;
}

static inline void peer_on_frame(struct tcp_conn *conn, struct slice frame)
{
    struct peer *peer = conn->arg;

    ck_assert_int_eq(peer->closes, 0);
    ck_assert_uint_eq(get_be32(frame.ptr) + TCP_FRAME_PREFIX, frame.len);
    peer->frames++;
    switch (peer->habit) {
    case PEER_RECORDS:
        buf_append_slice(&peer->got, frame);
        break;
    case PEER_ECHOES:
        peer->refusals += tcp_conn_write(conn, frame) == 0 ? 0 : 1;
        break;
    case PEER_CLOSES:
        tcp_conn_close(conn, ESCROW_EPROTO);
        tcp_conn_close(conn, ESCROW_EBUSY);
        break;
    case PEER_PAUSES:
        tcp_conn_pause(conn);
        break;
    case PEER_PRODUCES:
        peer->refusals +=
            tcp_conn_write(conn, slice_of(peer_answer, peer->answer_size)) == 0 ? 0 : 1;
        break;
    }
}

static inline void peer_on_pressure(struct tcp_conn *conn, bool is_high)
{
    struct peer *peer = conn->arg;

    ck_assert_int_eq(peer->highs - peer->lows, is_high ? 0 : 1);
    peer->highs += is_high ? 1 : 0;
    peer->lows += is_high ? 0 : 1;
}

static inline void peer_on_hangup(struct tcp_conn *conn)
{
    struct peer *peer = conn->arg;

    ck_assert(tcp_conn_is_open(conn));
    peer->hangups++;
}

static inline void peer_on_close(struct tcp_conn *conn, int reason)
{
    struct peer *peer = conn->arg;

    peer->closes++;
    peer->reason = reason;
    (void)tcp_conn_describe(conn, peer->text, sizeof peer->text);
}

static const struct tcp_ops peer_ops = {.on_open = peer_on_open,
                                        .on_frame = peer_on_frame,
                                        .on_pressure = peer_on_pressure,
                                        .on_hangup = peer_on_hangup,
                                        .on_close = peer_on_close};

static inline struct tcp_conn *peer_accept(void *arg, const struct tcp_addr *addr)
{
    struct peer *peer = &peers[peer_count];

    (void)arg;
    ck_assert_int_eq(addr->ip_len, 4);
    if (peer_count == (size_t)peer_max) {
        return NULL;
    }
    peer_count++;
    peer->habit = peer_habit;
    peer->answer_size = peer_answer_size;
    buf_init(&peer->got, 0);
    tcp_conn_init(&peer->conn, &peer_ops, &test_options, peer);
    return &peer->conn;
}

static inline void tcp_test_check(void *arg)
{
    tcp_check(arg);
}

static inline uint16_t tcp_test_port(void)
{
    return tcp_listener_addr(test_listener)->port;
}

static inline void tcp_test_setup(void)
{
    struct tcp_listen_config config = {
        .host = "127.0.0.1", .conn_count_max = PEERS_MAX, .on_accept = peer_accept};
    struct err_ctx err = {0};

    test_options = tcp_options_default;
    ck_assert_int_eq(loop_init(&test_loop), 0);
    ck_assert_int_eq(tcp_init(&test_tcp, &test_loop, 0), 0);
    loop_hook_start(&test_loop, LOOP_BEFORE_SLEEP, &test_hook, tcp_test_check, &test_tcp);
    ck_assert_msg(tcp_listen(&test_tcp, &config, &test_listener, &err) == 0, "%s", err.text);
}

static inline bool tcp_test_is_empty(void *arg)
{
    (void)arg;
    return test_tcp.conn_count == 0;
}

static inline void tcp_test_teardown(void)
{
    tcp_listener_close(&test_listener);
    tcp_close_all(&test_tcp, ESCROW_ESHUTDOWN);
    run_until(&test_loop, tcp_test_is_empty, NULL);
    for (size_t i = 0; i < peer_count; i++) {
        ck_assert_int_eq(peers[i].closes, 1);
        buf_fini(&peers[i].got);
    }
    loop_hook_stop(&test_loop, &test_hook);
    tcp_fini(&test_tcp);
    tcp_fini(&test_tcp);
    loop_fini(&test_loop);
    ck_assert_int_eq(mem_live_count(), 0);
}

/* ---- conditions for run_until ---- */

static inline bool has_peers(void *arg)
{
    return peer_count >= *(size_t *)arg;
}

static inline void run_to_peers(size_t count)
{
    run_until(&test_loop, has_peers, &count);
}

static size_t want_frames;

static inline bool has_frames(void *arg)
{
    return (size_t)((struct peer *)arg)->frames >= want_frames;
}

static inline void run_to_frames(struct peer *peer, size_t count)
{
    want_frames = count;
    run_until(&test_loop, has_frames, peer);
}

static inline bool is_closed(void *arg)
{
    return ((struct peer *)arg)->closes > 0;
}

static inline bool has_hung_up(void *arg)
{
    return ((struct peer *)arg)->hangups > 0;
}

/* Ends when the peer had its on_close, for this reason. */
static inline void run_to_close(struct peer *peer, int reason)
{
    run_until(&test_loop, is_closed, peer);
    ck_assert_int_eq(peer->closes, 1);
    ck_assert_msg(peer->reason == reason, "closed with %s, not %s", escrow_error_name(peer->reason),
                  escrow_error_name(reason));
}

/* A raw client and the server's session for it. */
static inline int connect_raw(struct peer **peer, int buf_bytes)
{
    int fd = raw_connect(tcp_test_port(), buf_bytes);

    run_to_peers(peer_count + 1);
    *peer = &peers[peer_count - 1];
    return fd;
}

/* ---- raw clients ---- */

struct raw_reader {
    int fd;
    struct buf got;
    bool has_end; /* the other side closed or reset */
};

static inline bool raw_read_some(struct raw_reader *r, size_t max)
{
    uint8_t *dst = buf_reserve(&r->got, max);
    ssize_t n;

    ck_assert_ptr_nonnull(dst);
    n = recv(r->fd, dst, max, 0);
    if (n > 0) {
        buf_commit(&r->got, (size_t)n);
    } else if (n == 0 || errno != EAGAIN) {
        r->has_end = true;
    }
    return n > 0;
}

static size_t want_bytes;

static inline bool raw_has_bytes(void *arg)
{
    struct raw_reader *r = arg;

    while (r->got.len < want_bytes && raw_read_some(r, 65536)) {
    }
    return r->got.len >= want_bytes;
}

/* Read with the loop running until `len` bytes are there. */
static inline void raw_read_to(struct raw_reader *r, size_t len)
{
    want_bytes = len;
    run_until(&test_loop, raw_has_bytes, r);
}

static inline bool raw_has_end(void *arg)
{
    struct raw_reader *r = arg;

    while (raw_read_some(r, 65536)) {
    }
    return r->has_end;
}

static inline void raw_read_to_end(struct raw_reader *r)
{
    run_until(&test_loop, raw_has_end, r);
}

static inline void raw_reader_init(struct raw_reader *r, int fd)
{
    *r = (struct raw_reader){.fd = fd};
    buf_init(&r->got, 0);
}

static inline void raw_reader_fini(struct raw_reader *r)
{
    buf_fini(&r->got);
    ck_assert_int_eq(close(r->fd), 0);
}

/* A frame of `size` bytes in all; its payload depends on `seed`. */
static inline void put_frame(struct buf *b, size_t size, uint8_t seed)
{
    buf_append_be32(b, (uint32_t)(size - TCP_FRAME_PREFIX));
    for (size_t i = TCP_FRAME_PREFIX; i < size; i++) {
        buf_append_u8(b, (uint8_t)(seed + i * 7 + (i >> 8)));
    }
    ck_assert(!buf_failed(b));
}

#endif
