#include "core/io_uv/tcp_private.h"

#include "core/base/rand.h"
#include "tests/unit/core/io_uv/tcp_test.h"

static bool is_flushed(void *arg)
{
    return ((struct peer *)arg)->conn.out_bytes == 0;
}

START_TEST(everything_of_one_iteration_is_one_system_call)
{
    /* A hundred frames written one by one; nothing goes out inside the calls. */
    struct raw_reader reader;
    struct buf want;
    struct peer *peer;
    uint64_t writes;

    raw_reader_init(&reader, connect_raw(&peer, 0));
    buf_init(&want, 0);
    writes = test_tcp.stats.writes;
    for (uint8_t i = 0; i < 100; i++) {
        size_t before = want.len;

        put_frame(&want, 100, i);
        ck_assert_int_eq(tcp_conn_write(&peer->conn, slice_of(want.ptr + before, 100)), 0);
    }
    ck_assert_uint_eq(tcp_conn_out_bytes(&peer->conn), 10000);
    ck_assert_uint_eq(test_tcp.stats.writes, writes);
    raw_read_to(&reader, want.len);
    ck_assert_uint_eq(test_tcp.stats.writes, writes + 1);
    ck_assert(slice_eq(buf_slice(&reader.got), buf_slice(&want)));
    ck_assert_uint_eq(tcp_conn_out_bytes(&peer->conn), 0);
    buf_fini(&want);
    raw_reader_fini(&reader);
}
END_TEST

START_TEST(output_can_be_written_in_place_and_thrown_away)
{
    /* begin, append, end; what is abandoned never goes out. */
    struct raw_reader reader;
    struct peer *peer;

    raw_reader_init(&reader, connect_raw(&peer, 0));
    buf_append_str(tcp_conn_begin(&peer->conn), "nothing");
    tcp_conn_abandon(&peer->conn);
    ck_assert_ptr_null(peer->conn.out.head);
    buf_append_str(tcp_conn_begin(&peer->conn), "one ");
    ck_assert_int_eq(tcp_conn_end(&peer->conn), 0);
    buf_append_str(tcp_conn_begin(&peer->conn), "nothing");
    tcp_conn_abandon(&peer->conn);
    (void)tcp_conn_begin(&peer->conn);
    ck_assert_int_eq(tcp_conn_end(&peer->conn), 0);
    buf_append_str(tcp_conn_begin(&peer->conn), "two");
    ck_assert_int_eq(tcp_conn_end(&peer->conn), 0);
    raw_read_to(&reader, 7);
    run_for(&test_loop, 5);
    (void)raw_read_some(&reader, 100);
    ck_assert(slice_eq(buf_slice(&reader.got), SLICE_LIT("one two")));
    raw_reader_fini(&reader);
}
END_TEST

START_TEST(a_buffer_is_sent_without_a_copy)
{
    /* Its memory is taken, it is empty afterwards, and order is kept with what is around it. */
    struct raw_reader reader;
    struct peer *peer;
    struct buf big;
    uint8_t *memory;

    raw_reader_init(&reader, connect_raw(&peer, 0));
    buf_init(&big, 0);
    buf_append_fmt(&big, "%0500000d", 7);
    memory = big.ptr;
    ck_assert_int_eq(tcp_conn_write(&peer->conn, SLICE_LIT("<")), 0);
    ck_assert_int_eq(tcp_conn_take(&peer->conn, &big), 0);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, SLICE_LIT(">")), 0);
    ck_assert_ptr_null(big.ptr);
    ck_assert_uint_eq(big.len, 0);
    ck_assert_ptr_eq(peer->conn.out.head->next->buf.ptr, memory);
    raw_read_to(&reader, 500002);
    ck_assert_int_eq(reader.got.ptr[0], '<');
    ck_assert_int_eq(reader.got.ptr[1], '0');
    ck_assert_int_eq(reader.got.ptr[500000], '7');
    ck_assert_int_eq(reader.got.ptr[500001], '>');
    raw_reader_fini(&reader);
}
END_TEST

START_TEST(output_beyond_the_limit_is_refused_whole)
{
    /* Up to the last byte it fits; what does not fit leaves no trace; the connection lives. */
    struct raw_reader reader;
    struct peer *peer;
    struct buf big;
    struct buf *out;

    test_options.out_low_bytes = 10;
    test_options.out_high_bytes = 50;
    test_options.out_max_bytes = 100;
    raw_reader_init(&reader, connect_raw(&peer, 0));
    ck_assert_int_eq(tcp_conn_write(&peer->conn, slice_of(peer_answer, 60)), 0);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, slice_of(peer_answer, 41)), ESCROW_ELIMIT);
    out = tcp_conn_begin(&peer->conn);
    buf_append(out, peer_answer, 41);
    ck_assert_int_eq(tcp_conn_end(&peer->conn), ESCROW_ELIMIT);
    buf_init(&big, 0);
    buf_append(&big, peer_answer, 41);
    ck_assert_int_eq(tcp_conn_take(&peer->conn, &big), ESCROW_ELIMIT);
    ck_assert_uint_eq(big.len, 41);
    buf_fini(&big);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, slice_of(peer_answer, 40)), 0);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, slice_of(peer_answer, 1)), ESCROW_ELIMIT);
    raw_read_to(&reader, 100);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, slice_of(peer_answer, 100)), 0);
    raw_read_to(&reader, 200);
    run_for(&test_loop, 5);
    (void)raw_read_some(&reader, 100);
    ck_assert_uint_eq(reader.got.len, 200);
    raw_reader_fini(&reader);
}
END_TEST

START_TEST(the_limit_over_all_connections_refuses_large_output)
{
    /* A small answer still goes out, so that everybody can be told. */
    struct peer *first;
    struct peer *second;
    int fds[2];

    test_tcp.buffered_bytes_max = 300 * 1024;
    fds[0] = connect_raw(&first, 0);
    fds[1] = connect_raw(&second, 0);
    ck_assert_int_eq(tcp_conn_write(&first->conn, slice_of(peer_answer, 250 * 1024)), 0);
    ck_assert_int_eq(tcp_conn_write(&second->conn, slice_of(peer_answer, 100 * 1024)),
                     ESCROW_ELIMIT);
    ck_assert_int_eq(tcp_conn_write(&second->conn, slice_of(peer_answer, 60 * 1024)), 0);
    ck_assert_int_eq(close(fds[0]), 0);
    ck_assert_int_eq(close(fds[1]), 0);
}
END_TEST

static bool has_no_spare(void *arg)
{
    (void)arg;
    return test_tcp.spare_count == 0;
}

START_TEST(a_failed_allocation_leaves_the_output_as_it_was)
{
    /* In every way of writing, for every allocation; what was there before and after goes out. */
    struct raw_reader reader;
    struct peer *peer;
    struct buf big;

    raw_reader_init(&reader, connect_raw(&peer, 0));
    ck_assert_int_eq(tcp_conn_write(&peer->conn, SLICE_LIT("a")), 0);
    mem_fault_at(1);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, slice_of(peer_answer, 100000)), ESCROW_ENOMEM);
    buf_init(&big, 0);
    buf_append_str(&big, "b");
    mem_fault_at(1);
    ck_assert_int_eq(tcp_conn_take(&peer->conn, &big), ESCROW_ENOMEM);
    ck_assert_int_eq(tcp_conn_take(&peer->conn, &big), 0);
    raw_read_to(&reader, 2);
    tcp_check(&test_tcp);
    run_until(&test_loop, is_flushed, peer);
    run_until(&test_loop, has_no_spare, NULL);
    mem_fault_at(1);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, SLICE_LIT("x")), ESCROW_ENOMEM);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, SLICE_LIT("c")), 0);
    raw_read_to(&reader, 3);
    ck_assert(slice_eq(buf_slice(&reader.got), SLICE_LIT("abc")));
    raw_reader_fini(&reader);
}
END_TEST

/* ---- slow readers ---- */

static bool is_high(void *arg)
{
    return ((struct peer *)arg)->highs > 0;
}

START_TEST(a_slow_reader_is_not_read_from_either)
{
    /*
     * It asks for 64 KiB again and again and takes nothing: answers stop at the high watermark, so
     * do its requests; once it reads, all of them are answered, and the owner hears of both.
     */
    struct raw_reader reader;
    struct peer *peer;
    struct buf asks;
    size_t count = 200;

    test_options.out_high_bytes = 200 * 1024;
    test_options.out_low_bytes = 100 * 1024;
    peer_habit = PEER_PRODUCES;
    peer_answer_size = 64 * 1024;
    memset(peer_answer, 'a', peer_answer_size);
    raw_reader_init(&reader, connect_raw(&peer, 4096));
    buf_init(&asks, 0);
    for (size_t i = 0; i < count; i++) {
        put_frame(&asks, 10, (uint8_t)i);
    }
    raw_send(reader.fd, asks.ptr, asks.len);
    run_until(&test_loop, is_high, peer);
    run_for(&test_loop, 20);
    ck_assert_int_lt(peer->frames, (int)count);
    ck_assert_int_eq(peer->highs, 1);
    ck_assert_int_eq(peer->lows, 0);
    ck_assert_uint_le(tcp_conn_out_bytes(&peer->conn), 300 * 1024);
    ck_assert_uint_le(test_tcp.buffered_bytes, 310 * 1024);
    raw_read_to(&reader, count * peer_answer_size);
    run_until(&test_loop, is_flushed, peer);
    ck_assert_int_eq(peer->frames, (int)count);
    ck_assert_int_eq(peer->refusals, 0);
    ck_assert_int_ge(peer->lows, 1);
    ck_assert_int_eq(peer->highs, peer->lows);
    ck_assert_uint_eq(test_tcp.buffered_bytes, 0);
    buf_fini(&asks);
    raw_reader_fini(&reader);
}
END_TEST

START_TEST(a_sender_that_never_reads_costs_a_bounded_amount)
{
    /* An echo that nobody takes: in the end the sender's own socket is full. */
    struct peer *peer;
    struct buf frame;
    ssize_t n;
    int fd;

    test_options.out_high_bytes = 200 * 1024;
    test_options.out_low_bytes = 100 * 1024;
    peer_habit = PEER_ECHOES;
    fd = connect_raw(&peer, 4096);
    buf_init(&frame, 0);
    put_frame(&frame, 50000, 1);
    do {
        size_t sent = 0;

        do {
            n = send(fd, frame.ptr + sent, frame.len - sent, MSG_NOSIGNAL);
            sent += n > 0 ? (size_t)n : 0;
            run_for(&test_loop, 1);
        } while (n > 0 && sent < frame.len);
        ck_assert_uint_le(test_tcp.buffered_bytes, (200 + 50 + 256 + 50) * 1024);
    } while (n > 0);
    ck_assert_int_eq(peer->closes, 0);
    ck_assert_int_eq(peer->refusals, 0);
    buf_fini(&frame);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_reader_that_takes_nothing_is_closed)
{
    /* One that takes a little now and then is not. */
    struct raw_reader slow;
    struct peer *slow_peer;
    struct peer *deaf_peer;
    int deaf;

    test_options.stall_timeout_ms = 2500;
    deaf = connect_raw(&deaf_peer, 4096);
    raw_reader_init(&slow, connect_raw(&slow_peer, 4096));
    ck_assert_int_eq(tcp_conn_write(&slow_peer->conn, slice_of(peer_answer, sizeof peer_answer)),
                     0);
    ck_assert_int_eq(tcp_conn_write(&deaf_peer->conn, slice_of(peer_answer, sizeof peer_answer)),
                     0);
    while (deaf_peer->closes == 0) {
        (void)raw_read_some(&slow, 10000);
        run_for(&test_loop, 10);
    }
    ck_assert_int_eq(deaf_peer->reason, ESCROW_ETIMEOUT);
    ck_assert_int_eq(slow_peer->closes, 0);
    ck_assert_uint_gt(tcp_conn_out_bytes(&slow_peer->conn), 0);
    raw_reader_fini(&slow);
    ck_assert_int_eq(close(deaf), 0);
}
END_TEST

START_TEST(bytes_stay_in_order_through_a_narrow_pipe)
{
    /* Written in all three ways, in random sizes, against a small window read in random pieces. */
    struct raw_reader reader;
    struct peer *peer;
    struct buf want;
    struct rand r;

    rand_init(&r, 5);
    raw_reader_init(&reader, connect_raw(&peer, 4096));
    buf_init(&want, 0);
    for (int step = 0; step < 600; step++) {
        size_t before = want.len;
        size_t len = rand_below(&r, rand_below(&r, 10) == 0 ? 200000 : 3000);
        struct slice piece;

        for (size_t i = 0; i < len; i++) {
            buf_append_u8(&want, (uint8_t)rand_u64(&r));
        }
        piece = slice_of(want.ptr + before, len);
        if (step % 3 == 0) {
            struct buf copy;

            buf_init(&copy, 0);
            buf_append_slice(&copy, piece);
            ck_assert_int_eq(tcp_conn_take(&peer->conn, &copy), 0);
            buf_fini(&copy);
        } else if (step % 3 == 1) {
            ck_assert_int_eq(tcp_conn_write(&peer->conn, piece), 0);
        } else {
            buf_append_slice(tcp_conn_begin(&peer->conn), piece);
            ck_assert_int_eq(tcp_conn_end(&peer->conn), 0);
        }
        if (rand_below(&r, 4) == 0) {
            loop_run_once(&test_loop, false);
            (void)raw_read_some(&reader, 1 + rand_below(&r, 30000));
        }
    }
    raw_read_to(&reader, want.len);
    ck_assert(slice_eq(buf_slice(&reader.got), buf_slice(&want)));
    buf_fini(&want);
    raw_reader_fini(&reader);
}
END_TEST

START_TEST(a_reset_while_output_waits_closes_once)
{
    /* Whether uv was waiting for the kernel or not. */
    struct peer *waiting;
    struct peer *idle;
    int fds[2];

    fds[0] = connect_raw(&waiting, 4096);
    fds[1] = connect_raw(&idle, 0);
    ck_assert_int_eq(tcp_conn_write(&waiting->conn, slice_of(peer_answer, sizeof peer_answer)), 0);
    run_for(&test_loop, 5);
    ck_assert_uint_gt(tcp_conn_out_bytes(&waiting->conn), 0);
    raw_reset(fds[0]);
    raw_reset(fds[1]);
    ck_assert_int_eq(tcp_conn_write(&idle->conn, SLICE_LIT("hello")), 0);
    run_to_close(waiting, ESCROW_ECLOSED);
    run_to_close(idle, ESCROW_ECLOSED);
}
END_TEST

START_TEST(a_peer_that_is_not_read_from_is_still_seen_to_reset)
{
    /* Blocked by its own output, so nothing is read: the write finds out. */
    struct peer *peer;
    int fd;

    test_options.out_high_bytes = 100;
    test_options.out_low_bytes = 10;
    fd = connect_raw(&peer, 4096);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, slice_of(peer_answer, sizeof peer_answer)), 0);
    run_until(&test_loop, is_high, peer);
    raw_reset(fd);
    run_to_close(peer, ESCROW_ECLOSED);
}
END_TEST

/* ---- memory ---- */

START_TEST(steady_traffic_allocates_nothing)
{
    /* After the first exchanges, two hundred more leave the count of allocations where it is. */
    struct raw_reader reader;
    struct peer *peer;
    struct buf ask;

    peer_habit = PEER_ECHOES;
    raw_reader_init(&reader, connect_raw(&peer, 0));
    buf_init(&ask, 0);
    put_frame(&ask, 1000, 1);
    (void)buf_reserve(&reader.got, 65536);
    raw_send(reader.fd, ask.ptr, ask.len);
    raw_read_to(&reader, ask.len);
    mem_fault_at(1); /* fires at the next allocation, whoever asks for it */
    for (int i = 0; i < 200; i++) {
        raw_send(reader.fd, ask.ptr, ask.len);
        buf_clear(&reader.got);
        raw_read_to(&reader, ask.len);
    }
    ck_assert_int_eq(mem_fault_fired(), 0);
    mem_fault_at(0);
    buf_fini(&ask);
    raw_reader_fini(&reader);
}
END_TEST

START_TEST(a_blocked_segment_holds_no_more_than_it_must)
{
    /* A small answer behind a full socket does not keep a large buffer alive. */
    struct raw_reader reader;
    struct peer *peer;
    struct buf *out;

    test_options.stall_timeout_ms = 400; /* sweeps more often */
    raw_reader_init(&reader, connect_raw(&peer, 4096));
    ck_assert_int_eq(tcp_conn_write(&peer->conn, slice_of(peer_answer, sizeof peer_answer)), 0);
    run_for(&test_loop, 5);
    out = tcp_conn_begin(&peer->conn);
    ck_assert_ptr_nonnull(buf_reserve(out, 100 * 1024));
    buf_append_str(out, "small");
    ck_assert_int_eq(tcp_conn_end(&peer->conn), 0);
    while (peer->conn.out.tail->buf.cap != 5) {
        run_for(&test_loop, 5);
    }
    raw_read_to(&reader, sizeof peer_answer + 5);
    raw_reader_fini(&reader);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/tcp_output");
    TCase *tc = tcase_create("tcp_output");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, tcp_test_setup, tcp_test_teardown);
    tcase_add_test(tc, everything_of_one_iteration_is_one_system_call);
    tcase_add_test(tc, output_can_be_written_in_place_and_thrown_away);
    tcase_add_test(tc, a_buffer_is_sent_without_a_copy);
    tcase_add_test(tc, output_beyond_the_limit_is_refused_whole);
    tcase_add_test(tc, the_limit_over_all_connections_refuses_large_output);
    tcase_add_test(tc, a_failed_allocation_leaves_the_output_as_it_was);
    tcase_add_test(tc, a_slow_reader_is_not_read_from_either);
    tcase_add_test(tc, a_sender_that_never_reads_costs_a_bounded_amount);
    tcase_add_test(tc, a_reader_that_takes_nothing_is_closed);
    tcase_add_test(tc, bytes_stay_in_order_through_a_narrow_pipe);
    tcase_add_test(tc, a_reset_while_output_waits_closes_once);
    tcase_add_test(tc, a_peer_that_is_not_read_from_is_still_seen_to_reset);
    tcase_add_test(tc, steady_traffic_allocates_nothing);
    tcase_add_test(tc, a_blocked_segment_holds_no_more_than_it_must);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
