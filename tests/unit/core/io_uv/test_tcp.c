#include "core/io_uv/tcp.h"

#include "core/base/rand.h"
#include "tests/unit/core/io_uv/tcp_test.h"

#define SMALL 100

/* Write all of it, or until the other side closes, with the loop running. */
struct raw_writer {
    int fd;
    struct slice left;
    size_t chunk;
};

static bool raw_write_some(void *arg)
{
    struct raw_writer *w = arg;
    size_t len = w->left.len < w->chunk ? w->left.len : w->chunk;
    ssize_t n = send(w->fd, w->left.ptr, len, MSG_NOSIGNAL);

    if (n > 0) {
        w->left = slice_of(w->left.ptr + n, w->left.len - (size_t)n);
    } else if (errno != EAGAIN) {
        w->left = SLICE_EMPTY; /* closed by the other side, which the test looks at */
    }
    return w->left.len == 0;
}

static void write_all(int fd, struct slice data, size_t chunk)
{
    struct raw_writer w = {.fd = fd, .left = data, .chunk = chunk};

    run_until(&test_loop, raw_write_some, &w);
}

/* ---- frames ---- */

START_TEST(frames_sent_together_arrive_one_by_one)
{
    /* Three in one write, the shortest possible among them. */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);
    struct buf out;

    buf_init(&out, 0);
    put_frame(&out, SMALL, 1);
    put_frame(&out, TCP_FRAME_PREFIX, 0);
    put_frame(&out, SMALL, 3);
    raw_send(fd, out.ptr, out.len);
    run_to_frames(peer, 3);
    ck_assert(slice_eq(buf_slice(&peer->got), buf_slice(&out)));
    ck_assert_uint_eq(test_tcp.buffered_bytes, 0);
    buf_fini(&out);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(single_bytes_make_a_frame)
{
    /* As slow as a sender can be: nothing before the last byte, everything after it. */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);
    struct buf out;

    buf_init(&out, 0);
    put_frame(&out, 20, 1);
    for (size_t i = 0; i < out.len; i++) {
        ck_assert_int_eq(peer->frames, 0);
        raw_send(fd, out.ptr + i, 1);
        while (test_tcp.stats.bytes_in < i + 1) {
            loop_run_once(&test_loop, true);
        }
    }
    run_to_frames(peer, 1);
    ck_assert(slice_eq(buf_slice(&peer->got), buf_slice(&out)));
    buf_fini(&out);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_stream_may_be_cut_anywhere)
{
    /* Two frames in two writes, for every place between them. */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);
    struct buf out;

    buf_init(&out, 0);
    put_frame(&out, 30, 1);
    put_frame(&out, 40, 2);
    for (size_t cut = 1; cut < out.len; cut++) {
        uint64_t before = test_tcp.stats.bytes_in;

        buf_clear(&peer->got);
        peer->frames = 0;
        raw_send(fd, out.ptr, cut);
        while (test_tcp.stats.bytes_in < before + cut) {
            loop_run_once(&test_loop, true);
        }
        raw_send(fd, out.ptr + cut, out.len - cut);
        run_to_frames(peer, 2);
        ck_assert(slice_eq(buf_slice(&peer->got), buf_slice(&out)));
    }
    buf_fini(&out);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

static const size_t large_sizes[] = {128 * 1024 - 1, 128 * 1024,     128 * 1024 + 1,
                                     256 * 1024,     256 * 1024 + 1, 3 * 1024 * 1024};

START_TEST(frames_of_any_size_arrive_whole)
{
    /*
     * Around the sizes at which reading changes its way, with small ones before, between, behind.
     */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);
    size_t size = large_sizes[_i];
    struct buf out;

    buf_init(&out, 0);
    put_frame(&out, SMALL, 1);
    put_frame(&out, size, 2);
    put_frame(&out, SMALL, 3);
    put_frame(&out, size, 4);
    write_all(fd, buf_slice(&out), 50000);
    run_to_frames(peer, 4);
    ck_assert(slice_eq(buf_slice(&peer->got), buf_slice(&out)));
    ck_assert_uint_eq(test_tcp.buffered_bytes, 0);
    ck_assert_uint_le(peer->conn.tail.cap, 64 * 1024);
    buf_fini(&out);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_promised_length_costs_no_memory)
{
    /* Only what has arrived is held, however much the length field says. */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);
    uint8_t prefix[TCP_FRAME_PREFIX + 1] = {0};

    put_be32(prefix, (uint32_t)test_options.frame_size_max - TCP_FRAME_PREFIX);
    raw_send(fd, prefix, sizeof prefix);
    while (test_tcp.stats.bytes_in < sizeof prefix) {
        loop_run_once(&test_loop, true);
    }
    ck_assert_uint_le(peer->conn.tail.cap, 1024);
    raw_send(fd, prefix, sizeof prefix);
    while (test_tcp.stats.bytes_in < 2 * sizeof prefix) {
        loop_run_once(&test_loop, true);
    }
    ck_assert_uint_le(peer->conn.tail.cap, 256 * 1024);
    ck_assert_int_eq(peer->closes, 0);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_frame_above_the_limit_closes)
{
    /* By one byte, before its bytes have come; the frame in front of it is handed out. */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);
    struct buf out;

    buf_init(&out, 0);
    put_frame(&out, SMALL, 1);
    buf_append_be32(&out, (uint32_t)test_options.frame_size_max - TCP_FRAME_PREFIX + 1);
    raw_send(fd, out.ptr, out.len);
    run_to_close(peer, ESCROW_ETOOBIG);
    ck_assert_int_eq(peer->frames, 1);
    buf_fini(&out);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_length_that_overflows_closes)
{
    /* 4 + 0xFFFFFFFF is a large frame, not a small one. */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);

    raw_send(fd, "\xff\xff\xff\xff", 4);
    run_to_close(peer, ESCROW_ETOOBIG);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

/* ---- raw data ---- */

static size_t lines_seen;

static size_t take_lines(struct tcp_conn *conn, struct slice data)
{
    const uint8_t *end = memchr(data.ptr, '\n', data.len);

    (void)conn;
    if (end == NULL) {
        return 0;
    }
    lines_seen++;
    return (size_t)(end - data.ptr) + 1;
}

static const struct tcp_ops line_ops = {.on_data = take_lines, .on_close = peer_on_close};

static struct tcp_conn *line_accept(void *arg, const struct tcp_addr *addr)
{
    struct tcp_conn *conn = peer_accept(arg, addr);

    tcp_conn_init(conn, &line_ops, &test_options, &peers[peer_count - 1]);
    return conn;
}

static bool has_lines(void *arg)
{
    return lines_seen >= *(size_t *)arg;
}

START_TEST(raw_data_is_handed_out_until_it_is_used)
{
    /* What is not used comes again with more behind it; too much of it closes. */
    struct tcp_listen_config config = {
        .host = "127.0.0.1", .conn_count_max = 1, .on_accept = line_accept};
    struct tcp_listener *listener;
    struct buf out;
    size_t two = 2;
    size_t four = 4;
    int fd;

    test_options.frame_size_max = (size_t)400 * 1024;
    ck_assert_int_eq(tcp_listen(&test_tcp, &config, &listener, NULL), 0);
    fd = raw_connect(tcp_listener_addr(listener)->port, 0);
    raw_send(fd, "one\ntwo\nthr", 11);
    run_until(&test_loop, has_lines, &two);
    ck_assert_uint_eq(lines_seen, 2);
    buf_init(&out, 0);
    buf_append_fmt(&out, "%0300000d\n\n", 3);
    write_all(fd, buf_slice(&out), 10000);
    run_until(&test_loop, has_lines, &four);
    buf_clear(&out);
    buf_append_fmt(&out, "%0420000d", 3);
    write_all(fd, buf_slice(&out), 50000);
    run_to_close(&peers[0], ESCROW_ETOOBIG);
    ck_assert_uint_eq(lines_seen, 4);
    tcp_listener_close(&listener);
    buf_fini(&out);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

/* ---- pausing ---- */

START_TEST(a_paused_connection_hands_out_nothing)
{
    /* Not even frames that were read already; each resume brings one, since each frame pauses. */
    struct peer *peer;
    struct buf out;
    int fd;

    peer_habit = PEER_PAUSES;
    fd = connect_raw(&peer, 0);
    buf_init(&out, 0);
    for (int i = 0; i < 5; i++) {
        put_frame(&out, SMALL, 1);
    }
    raw_send(fd, out.ptr, out.len);
    for (int i = 1; i <= 5; i++) {
        run_to_frames(peer, (size_t)i);
        run_for(&test_loop, 5);
        ck_assert_int_eq(peer->frames, i);
        tcp_conn_resume(&peer->conn);
        ck_assert_int_eq(peer->frames, i);
    }
    buf_fini(&out);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_paused_connection_holds_a_bounded_amount)
{
    /* The sender's bytes stay in the kernel, and then with the sender. */
    static uint8_t zeros[1024 * 1024];
    struct peer *peer;
    ssize_t n;
    int fd;

    fd = connect_raw(&peer, 0);
    tcp_conn_pause(&peer->conn);
    do {
        n = send(fd, zeros, sizeof zeros, MSG_NOSIGNAL);
        run_for(&test_loop, 2);
    } while (n > 0);
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_uint_eq(test_tcp.buffered_bytes, 0);
    tcp_conn_resume(&peer->conn);
    run_to_frames(peer, 1000); /* zeros are empty frames */
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_peer_that_hangs_up_is_noticed_while_nothing_is_read)
{
    /* Once, whatever lies unread before its end; that comes with the resume, and then the end. */
    struct peer *peer;
    struct buf out;
    int fd = connect_raw(&peer, 0);

    buf_init(&out, 0);
    put_frame(&out, SMALL, 1);
    tcp_conn_pause(&peer->conn);
    raw_send(fd, out.ptr, out.len);
    run_for(&test_loop, 5);
    ck_assert_int_eq(peer->hangups, 0);
    ck_assert_int_eq(close(fd), 0);
    run_until(&test_loop, has_hung_up, peer);
    tcp_conn_pause(&peer->conn);
    run_for(&test_loop, 5);
    ck_assert_int_eq(peer->hangups, 1);
    ck_assert_int_eq(peer->frames, 0);
    ck_assert_int_eq(peer->closes, 0);
    tcp_conn_resume(&peer->conn);
    run_to_close(peer, ESCROW_ECLOSED);
    ck_assert_int_eq(peer->frames, 1);
    buf_fini(&out);
}
END_TEST

START_TEST(a_reset_is_noticed_while_nothing_is_read)
{
    /* As a farewell is. */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);

    tcp_conn_pause(&peer->conn);
    raw_reset(fd);
    run_until(&test_loop, has_hung_up, peer);
    ck_assert_int_eq(peer->closes, 0);
    tcp_conn_resume(&peer->conn);
    run_to_close(peer, ESCROW_ECLOSED);
    ck_assert_int_eq(peer->hangups, 1);
}
END_TEST

static int open_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    }
    return count;
}

START_TEST(pauses_leave_nothing_behind)
{
    /* Neither a resume nor a drain nor a close. */
    struct peer *drained;
    struct peer *closed;
    int fd = connect_raw(&drained, 0);
    int other = connect_raw(&closed, 0);
    int before = open_descriptors();

    for (int i = 0; i < 100; i++) {
        tcp_conn_pause(&drained->conn);
        run_for(&test_loop, i % 2);
        tcp_conn_resume(&drained->conn);
        run_for(&test_loop, i % 3 == 0 ? 1 : 0);
    }
    run_for(&test_loop, 1);
    ck_assert_int_eq(open_descriptors(), before);
    tcp_conn_pause(&drained->conn);
    tcp_conn_pause(&closed->conn);
    run_for(&test_loop, 1);
    ck_assert_int_eq(open_descriptors(), before + 2);
    tcp_conn_drain(&drained->conn);
    tcp_conn_close(&closed->conn, ESCROW_EBUSY);
    ck_assert_int_eq(open_descriptors(), before - 1); /* the socket */
    ck_assert_int_eq(close(fd), 0);
    run_to_close(drained, 0);
    run_to_close(closed, ESCROW_EBUSY);
    ck_assert_int_eq(drained->hangups + closed->hangups, 0);
    ck_assert_int_eq(close(other), 0);
}
END_TEST

/* ---- ends ---- */

START_TEST(a_farewell_within_a_frame_closes)
{
    /* As lost as a reset; the incomplete frame is never handed out. */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);

    raw_send(fd, "\0\0\0\x10half", 8);
    ck_assert_int_eq(close(fd), 0);
    run_to_close(peer, ESCROW_ECLOSED);
    ck_assert_int_eq(peer->frames, 0);
    ck_assert_ptr_nonnull(strstr(peer->text, "127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(peer->text, "closed by the peer"));
}
END_TEST

START_TEST(a_reset_within_a_frame_closes)
{
    /* With the kernel's reason in the description. */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);

    raw_send(fd, "\0\0\0\x10half", 8);
    while (test_tcp.stats.bytes_in < 8) {
        loop_run_once(&test_loop, true);
    }
    raw_reset(fd);
    run_to_close(peer, ESCROW_ECLOSED);
    ck_assert_int_eq(peer->frames, 0);
    ck_assert_ptr_nonnull(strstr(peer->text, "connection reset"));
}
END_TEST

START_TEST(closing_within_a_frame_ends_everything)
{
    /* No further frame, though it was read; on_close once, with the first reason. */
    struct peer *peer;
    struct raw_reader reader;
    struct buf out;

    peer_habit = PEER_CLOSES;
    raw_reader_init(&reader, connect_raw(&peer, 0));
    buf_init(&out, 0);
    for (int i = 0; i < 10; i++) {
        put_frame(&out, SMALL, 1);
    }
    raw_send(reader.fd, out.ptr, out.len);
    run_to_close(peer, ESCROW_EPROTO);
    ck_assert_int_eq(peer->frames, 1);
    raw_read_to_end(&reader);
    buf_fini(&out);
    raw_reader_fini(&reader);
}
END_TEST

START_TEST(closing_is_not_immediate)
{
    /* on_close never comes inside tcp_conn_close; in between everything is refused or ignored. */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);

    tcp_conn_close(&peer->conn, ESCROW_EBUSY);
    ck_assert_int_eq(peer->closes, 0);
    ck_assert(!tcp_conn_is_open(&peer->conn));
    ck_assert_int_eq(tcp_conn_write(&peer->conn, SLICE_LIT("late")), ESCROW_ECLOSED);
    tcp_conn_pause(&peer->conn);
    tcp_conn_resume(&peer->conn);
    tcp_conn_drain(&peer->conn);
    tcp_conn_close(&peer->conn, ESCROW_EIO);
    run_to_close(peer, ESCROW_EBUSY);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(draining_sends_what_waits_and_says_farewell)
{
    /* Several megabytes to a reader that starts late; requests that come now are not looked at. */
    struct peer *peer;
    struct raw_reader reader;
    size_t len = sizeof peer_answer;

    memset(peer_answer, 'a', len);
    raw_reader_init(&reader, connect_raw(&peer, 4096));
    ck_assert_int_eq(tcp_conn_write(&peer->conn, slice_of(peer_answer, len)), 0);
    tcp_conn_drain(&peer->conn);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, SLICE_LIT("late")), ESCROW_ECLOSED);
    raw_send(reader.fd, "\0\0\0\0", 4);
    run_for(&test_loop, 10);
    ck_assert_int_eq(peer->closes, 0);
    raw_read_to_end(&reader);
    ck_assert_uint_eq(reader.got.len, len);
    ck_assert_int_eq(peer->frames, 0);
    ck_assert_int_eq(peer->closes, 0); /* we have not hung up yet */
    raw_reader_fini(&reader);
    run_to_close(peer, 0);
}
END_TEST

START_TEST(draining_does_not_wait_for_ever)
{
    /* Neither for a peer that does not hang up, nor for one that does not read. */
    struct peer *polite;
    struct peer *deaf;
    int fds[2];

    test_options.stall_timeout_ms = 50;
    fds[0] = connect_raw(&polite, 0);
    fds[1] = connect_raw(&deaf, 4096);
    ck_assert_int_eq(tcp_conn_write(&deaf->conn, slice_of(peer_answer, sizeof peer_answer)), 0);
    tcp_conn_drain(&polite->conn);
    tcp_conn_drain(&deaf->conn);
    run_to_close(deaf, ESCROW_ETIMEOUT);
    run_to_close(polite, 0);
    ck_assert_int_eq(close(fds[0]), 0);
    ck_assert_int_eq(close(fds[1]), 0);
}
END_TEST

/* ---- time-outs ---- */

START_TEST(an_idle_connection_is_closed)
{
    /* One that talks is not. */
    struct peer *idle;
    struct peer *busy;
    int fds[2];

    test_options.idle_timeout_ms = 3000;
    fds[0] = connect_raw(&idle, 0);
    fds[1] = connect_raw(&busy, 0);
    while (idle->closes == 0) {
        raw_send(fds[1], "\0\0\0\0", 4);
        run_for(&test_loop, 5);
    }
    ck_assert_int_eq(idle->reason, ESCROW_ETIMEOUT);
    ck_assert_int_eq(busy->closes, 0);
    ck_assert_int_eq(close(fds[0]), 0);
    ck_assert_int_eq(close(fds[1]), 0);
}
END_TEST

START_TEST(a_frame_that_is_never_finished_is_closed)
{
    /* Even when a byte comes now and then; a silent connection between frames is left alone. */
    struct peer *slow;
    struct peer *silent;
    int fds[2];

    test_options.stall_timeout_ms = 100;
    fds[0] = connect_raw(&slow, 0);
    fds[1] = connect_raw(&silent, 0);
    raw_send(fds[0], "\0\0\x10\0", 4);
    raw_send(fds[1], "\0\0\0\0", 4);
    while (slow->closes == 0) {
        (void)send(fds[0], "x", 1, MSG_NOSIGNAL);
        run_for(&test_loop, 10);
    }
    ck_assert_int_eq(slow->reason, ESCROW_ETIMEOUT);
    run_for(&test_loop, 150);
    ck_assert_int_eq(silent->closes, 0);
    ck_assert_int_eq(close(fds[0]), 0);
    ck_assert_int_eq(close(fds[1]), 0);
}
END_TEST

START_TEST(a_large_frame_that_makes_progress_may_take_its_time)
{
    /* 640 KiB in pieces of 64 KiB, each within the time-out, all together beyond it. */
    static uint8_t piece[64 * 1024];
    struct peer *peer;
    int fd;

    test_options.stall_timeout_ms = 4000;
    fd = connect_raw(&peer, 0);
    put_be32(piece, 10 * sizeof piece - TCP_FRAME_PREFIX);
    for (int i = 0; i < 10; i++) {
        raw_send(fd, piece, sizeof piece);
        run_for(&test_loop, 450);
    }
    run_to_frames(peer, 1);
    ck_assert_int_eq(peer->closes, 0);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

/* ---- memory ---- */

static bool holds_nothing(void *arg)
{
    const struct tcp_conn *conn = &((struct peer *)arg)->conn;

    return conn->tail.ptr == NULL && conn->out.head == NULL && test_tcp.spare_count == 0;
}

START_TEST(an_idle_connection_costs_less_than_a_kibibyte)
{
    /* The struct, and nothing beside it a moment after the last frame. */
    struct peer *peer;
    struct raw_reader reader;

    test_options.stall_timeout_ms = 100; /* sweeps more often */
    peer_habit = PEER_ECHOES;
    raw_reader_init(&reader, connect_raw(&peer, 0));
    raw_send(reader.fd, "\0\0", 2);
    run_for(&test_loop, 5);
    raw_send(reader.fd, "\0\5hello", 7);
    raw_read_to(&reader, 9);
    run_until(&test_loop, holds_nothing, peer);
    ck_assert_uint_lt(sizeof(struct tcp_conn), 1024);
    ck_assert_int_eq(peer->closes, 0);
    raw_reader_fini(&reader);
}
END_TEST

START_TEST(the_limit_over_all_connections_closes_the_largest)
{
    /* Whoever makes it overflow with a large unfinished frame; a small one is spared. */
    static uint8_t piece[200 * 1024];
    struct peer *small;
    struct peer *first;
    struct peer *second;
    int fds[3];

    test_tcp.buffered_bytes_max = 300 * 1024;
    fds[0] = connect_raw(&small, 0);
    fds[1] = connect_raw(&first, 0);
    fds[2] = connect_raw(&second, 0);
    put_be32(piece, 10 * sizeof piece);
    raw_send(fds[1], piece, sizeof piece);
    while (test_tcp.buffered_bytes < sizeof piece) {
        loop_run_once(&test_loop, true);
    }
    write_all(fds[2], slice_of(piece, sizeof piece), 10000);
    raw_send(fds[0], "\0\0\0\5abc", 7);
    run_to_close(second, ESCROW_ELIMIT);
    raw_send(fds[0], "de", 2);
    run_to_frames(small, 1);
    ck_assert_int_eq(first->closes, 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(close(fds[i]), 0);
    }
}
END_TEST

START_TEST(every_failed_allocation_closes_or_refuses_and_no_more)
{
    /* The n-th allocation of an exchange fails; the next exchange works. */
    struct buf out;
    bool fired = true;

    peer_habit = PEER_ECHOES;
    buf_init(&out, 0);
    put_frame(&out, 300000, 1);
    for (size_t n = 1; fired; n++) {
        struct peer *peer;
        int fd = connect_raw(&peer, 0);
        struct raw_reader reader;

        raw_reader_init(&reader, fd);
        test_tcp.stats.bytes_in = 0;
        mem_fault_at(n);
        for (size_t sent = 0; sent < out.len && peer->closes == 0;) {
            size_t len = out.len - sent < 50000 ? out.len - sent : 50000;
            ssize_t took = send(fd, out.ptr + sent, len, MSG_NOSIGNAL);

            sent += took > 0 ? (size_t)took : 0;
            while (peer->closes == 0 && test_tcp.stats.bytes_in < sent) {
                loop_run_once(&test_loop, true);
            }
        }
        run_for(&test_loop, 2);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        if (!fired) {
            raw_read_to(&reader, out.len);
            ck_assert(slice_eq(buf_slice(&reader.got), buf_slice(&out)));
        } else if (peer->closes > 0) {
            ck_assert_int_eq(peer->reason, ESCROW_ENOMEM);
        }
        ck_assert_uint_lt(n, 50);
        tcp_conn_close(&peer->conn, 0);
        run_until(&test_loop, is_closed, peer);
        raw_reader_fini(&reader);
    }
    buf_fini(&out);
}
END_TEST

/* ---- many ---- */

START_TEST(a_thousand_connections_talk_at_once)
{
    /* Each gets its own answer; all memory is given back. */
    static int fds[1000];
    struct raw_reader reader;
    struct buf out;

    peer_habit = PEER_ECHOES;
    buf_init(&out, 0);
    for (int i = 0; i < 1000; i++) {
        fds[i] = raw_connect(tcp_test_port(), 0);
        loop_run_once(&test_loop, false);
    }
    run_to_peers(1000);
    for (int i = 0; i < 1000; i++) {
        buf_clear(&out);
        put_frame(&out, SMALL + (size_t)i, (uint8_t)i);
        raw_send(fds[i], out.ptr, out.len);
    }
    for (int i = 0; i < 1000; i++) {
        buf_clear(&out);
        put_frame(&out, SMALL + (size_t)i, (uint8_t)i);
        raw_reader_init(&reader, fds[i]);
        raw_read_to(&reader, out.len);
        ck_assert(slice_eq(buf_slice(&reader.got), buf_slice(&out)));
        raw_reader_fini(&reader);
    }
    buf_fini(&out);
    run_until(&test_loop, tcp_test_is_empty, NULL);
    ck_assert_uint_eq(test_tcp.buffered_bytes, 0);
}
END_TEST

/* ---- anything at any time ---- */

#define TALKERS 20

/* A client whose frames carry its own count, so that their echoes can be checked. */
struct talker {
    struct tcp_conn conn;
    uint32_t sent;
    uint32_t received;
    bool is_used;
};

static struct talker talkers[TALKERS];
static uint64_t talker_frames;

static void talker_on_frame(struct tcp_conn *conn, struct slice frame)
{
    struct talker *t = conn->arg;

    ck_assert_uint_ge(frame.len, 8);
    ck_assert_uint_eq(get_be32(frame.ptr + 4), t->received);
    ck_assert_uint_lt(t->received, t->sent);
    ck_assert_uint_eq(frame.ptr[frame.len - 1], (uint8_t)t->received);
    t->received++;
    talker_frames++;
}

static void talker_on_close(struct tcp_conn *conn, int reason)
{
    (void)reason;
    ((struct talker *)conn->arg)->is_used = false;
}

static const struct tcp_ops talker_ops = {.on_frame = talker_on_frame, .on_close = talker_on_close};

static void talker_send(struct talker *t, size_t size)
{
    static uint8_t frame[300000];

    put_be32(frame, (uint32_t)(size - TCP_FRAME_PREFIX));
    put_be32(frame + 4, t->sent);
    frame[size - 1] = (uint8_t)t->sent;
    if (tcp_conn_write(&t->conn, slice_of(frame, size)) == 0) {
        t->sent++;
    }
}

static void talker_act(struct talker *t, struct rand *r)
{
    uint64_t what = rand_below(r, 100);

    if (!t->is_used) {
        *t = (struct talker){.is_used = true};
        tcp_conn_init(&t->conn, &talker_ops, &test_options, t);
        ck_assert_int_eq(tcp_connect(&test_tcp, &t->conn, "127.0.0.1", tcp_test_port(), 10000), 0);
    } else if (what < 70) {
        talker_send(t, 9 + rand_below(r, what < 5 ? 290000 : 2000));
    } else if (what < 80) {
        tcp_conn_pause(&t->conn);
    } else if (what < 97) {
        tcp_conn_resume(&t->conn);
    } else if (what < 99) {
        tcp_conn_close(&t->conn, 0);
    } else {
        tcp_conn_drain(&t->conn);
    }
}

static void server_act(struct rand *r)
{
    struct peer *peer = &peers[rand_below(r, peer_count)];
    uint64_t what = rand_below(r, 100);

    if (peer->closes > 0) {
        return;
    }
    if (what < 40) {
        tcp_conn_pause(&peer->conn);
    } else if (what < 98) {
        tcp_conn_resume(&peer->conn);
    } else if (what < 99) {
        tcp_conn_close(&peer->conn, 0);
    } else {
        tcp_conn_drain(&peer->conn);
    }
}

START_TEST(anything_may_happen_at_any_time)
{
    /*
     * Random writes, pauses and ends on both sides: echoes stay whole and in order; see tcp_check.
     */
    struct rand r;

    rand_init(&r, (uint64_t)_i);
    test_options.out_high_bytes = 100000;
    test_options.out_low_bytes = 30000;
    test_options.out_max_bytes = 600000;
    peer_habit = PEER_ECHOES;
    for (int step = 0; step < 6000 && peer_count < PEERS_MAX - TALKERS; step++) {
        talker_act(&talkers[rand_below(&r, TALKERS)], &r);
        if (peer_count > 0) {
            server_act(&r);
        }
        if (rand_below(&r, 3) == 0) {
            loop_run_once(&test_loop, false);
        }
    }
    ck_assert_uint_gt(talker_frames, 500);
    ck_assert_uint_gt(peer_count, TALKERS);
    tcp_close_all(&test_tcp, 0);
    run_until(&test_loop, tcp_test_is_empty, NULL);
    ck_assert_uint_eq(test_tcp.buffered_bytes, 0);
    for (size_t i = 0; i < peer_count; i++) {
        ck_assert_int_eq(peers[i].refusals, 0);
    }
}
END_TEST

START_TEST(both_ends_have_addresses)
{
    /* The peer's is known from the start, ours while the connection is open. */
    char text[TCP_ADDR_TEXT_MAX];
    struct sockaddr_in mine = {0};
    socklen_t len = sizeof mine;
    struct tcp_addr addr;
    struct peer *peer;
    int fd = connect_raw(&peer, 0);

    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&mine, &len), 0);
    ck_assert_uint_eq(tcp_conn_peer(&peer->conn)->port, ntohs(mine.sin_port));
    ck_assert_int_eq(tcp_conn_local(&peer->conn, &addr), 0);
    ck_assert_uint_eq(addr.port, tcp_test_port());
    ck_assert_mem_eq(addr.ip, "\x7f\0\0\1", 4);
    tcp_conn_close(&peer->conn, 0);
    ck_assert_int_eq(tcp_conn_local(&peer->conn, &addr), ESCROW_ECLOSED);
    ck_assert_ptr_nonnull(strstr(tcp_addr_format(&addr, text, sizeof text), "127.0.0.1:"));
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/tcp");
    TCase *tc = tcase_create("tcp");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, tcp_test_setup, tcp_test_teardown);
    tcase_add_test(tc, frames_sent_together_arrive_one_by_one);
    tcase_add_test(tc, single_bytes_make_a_frame);
    tcase_add_test(tc, a_stream_may_be_cut_anywhere);
    tcase_add_loop_test(tc, frames_of_any_size_arrive_whole, 0,
                        (int)(sizeof large_sizes / sizeof large_sizes[0]));
    tcase_add_test(tc, a_promised_length_costs_no_memory);
    tcase_add_test(tc, a_frame_above_the_limit_closes);
    tcase_add_test(tc, a_length_that_overflows_closes);
    tcase_add_test(tc, raw_data_is_handed_out_until_it_is_used);
    tcase_add_test(tc, a_paused_connection_hands_out_nothing);
    tcase_add_test(tc, a_paused_connection_holds_a_bounded_amount);
    tcase_add_test(tc, a_peer_that_hangs_up_is_noticed_while_nothing_is_read);
    tcase_add_test(tc, a_reset_is_noticed_while_nothing_is_read);
    tcase_add_test(tc, pauses_leave_nothing_behind);
    tcase_add_test(tc, a_farewell_within_a_frame_closes);
    tcase_add_test(tc, a_reset_within_a_frame_closes);
    tcase_add_test(tc, closing_within_a_frame_ends_everything);
    tcase_add_test(tc, closing_is_not_immediate);
    tcase_add_test(tc, draining_sends_what_waits_and_says_farewell);
    tcase_add_test(tc, draining_does_not_wait_for_ever);
    tcase_add_test(tc, an_idle_connection_is_closed);
    tcase_add_test(tc, a_frame_that_is_never_finished_is_closed);
    tcase_add_test(tc, a_large_frame_that_makes_progress_may_take_its_time);
    tcase_add_test(tc, an_idle_connection_costs_less_than_a_kibibyte);
    tcase_add_test(tc, the_limit_over_all_connections_closes_the_largest);
    tcase_add_test(tc, every_failed_allocation_closes_or_refuses_and_no_more);
    tcase_add_test(tc, a_thousand_connections_talk_at_once);
    tcase_add_loop_test(tc, anything_may_happen_at_any_time, 0, 5);
    tcase_add_test(tc, both_ends_have_addresses);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
