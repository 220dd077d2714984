/* TLS of connections: the same frames, limits and ends, and peers that are not willing. */
#include "core/io_uv/tcp.h"

#include "core/tls/tls.h"
#include "tests/lib/test_certs.h"
#include "tests/unit/core/io_uv/tcp_test.h"

#define AHEAD_MAX ((size_t)400 * 1024) /* encrypted and not sent: 256 KiB and a segment */

static struct test_cert authority, stranger, server_cert;
static struct tcp_tls_policy server_policy, client_policy;
static struct tcp_options client_options;
static struct peer client;

static struct tls_context *context_of(bool is_server, const struct test_cert *own,
                                      const struct test_cert *trusted)
{
    struct tls_config config = {.is_server = is_server,
                                .check = is_server ? TLS_CHECK_NONE : TLS_CHECK_REQUIRED};
    struct tls_context *context;
    struct err_ctx err = {.code = 0};

    if (own != NULL) {
        config.certificate = slice_str(own->certificate);
        config.key = slice_str(own->key);
    }
    if (trusted != NULL) {
        config.ca = slice_str(trusted->certificate);
    }
    ck_assert_msg(tls_context_new(&config, &context, &err) == 0, "%s", err.text);
    return context;
}

static void setup(void)
{
    tcp_test_setup();
    test_authority(&authority, "tests");
    test_authority(&stranger, "strangers");
    test_certificate(&server_cert, &authority, "DNS:localhost,IP:127.0.0.1", NULL);
    server_policy = (struct tcp_tls_policy){.mode = TCP_TLS_ENFORCING,
                                            .context = context_of(true, &server_cert, NULL)};
    client_policy = (struct tcp_tls_policy){.mode = TCP_TLS_ENFORCING,
                                            .context = context_of(false, NULL, &authority)};
    test_options.tls = &server_policy;
    client_options = tcp_options_default;
    client_options.tls = &client_policy;
}

static void teardown(void)
{
    tls_context_free(&server_policy.context);
    tls_context_free(&client_policy.context);
    tcp_test_teardown();
}

static void client_begin_at(const char *host, uint16_t port)
{
    client = (struct peer){.habit = PEER_RECORDS};
    tcp_conn_init(&client.conn, &peer_ops, &client_options, &client);
    buf_init(&client.got, 0);
    ck_assert_int_eq(tcp_connect(&test_tcp, &client.conn, host, port, 5000), 0);
}

static void client_begin(const char *host)
{
    client_begin_at(host, tcp_test_port());
}

static bool has_begun(void *arg)
{
    return ((struct peer *)arg)->opens > 0 || ((struct peer *)arg)->closes > 0;
}

/* A client that is through with its handshake; returns its session. */
static struct peer *client_open(void)
{
    client_begin("127.0.0.1");
    run_until(&test_loop, has_begun, &client);
    ck_assert_msg(client.closes == 0, "%s", client.text);
    ck_assert_uint_ge(peer_count, 1);
    return &peers[peer_count - 1];
}

static void client_end(void)
{
    tcp_conn_close(&client.conn, 0);
    run_until(&test_loop, is_closed, &client);
    ck_assert_int_eq(client.closes, 1);
    buf_fini(&client.got);
}

/* Frames of every size pass both ways, whole and in order. */
START_TEST(frames_pass_both_ways)
{
    static const size_t sizes[] = {4, 5, 100, 16384, 16385, 200 * 1024, 1024 * 1024, 9};
    struct buf sent;
    struct peer *peer;

    peer_habit = PEER_ECHOES;
    peer = client_open();
    ck_assert(tcp_conn_is_encrypted(&client.conn) && tcp_conn_is_encrypted(&peer->conn));
    ck_assert(!tcp_conn_is_refused(&peer->conn));
    buf_init(&sent, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t before = sent.len;
        put_frame(&sent, sizes[i], (uint8_t)i);
        ck_assert_int_eq(
            tcp_conn_write(&client.conn, slice_of(sent.ptr + before, sent.len - before)), 0);
    }
    run_to_frames(&client, sizeof sizes / sizeof sizes[0]);
    ck_assert_uint_eq(client.got.len, sent.len);
    ck_assert_mem_eq(client.got.ptr, sent.ptr, sent.len);
    ck_assert_uint_eq(tcp_conn_out_bytes(&client.conn) + tcp_conn_out_bytes(&peer->conn), 0);
    ck_assert_ptr_null(client.conn.out.head); /* idle: holds nothing */
    buf_fini(&sent);
    client_end();
}
END_TEST

/* A name is resolved and then expected in the certificate. */
START_TEST(the_host_is_what_is_expected)
{
    client_begin("localhost");
    run_until(&test_loop, has_begun, &client);
    ck_assert_int_eq(client.opens, 1);
    client_end();
    client_policy.name = "elsewhere.example";
    client_begin("127.0.0.1");
    run_to_close(&client, ESCROW_ETLS);
    ck_assert_msg(strstr(client.text, "ostname mismatch") != NULL, "%s", client.text);
    buf_fini(&client.got);
}
END_TEST

/* Both sides of a refused certificate end with a line that says so; on_open is not called. */
START_TEST(an_unknown_authority_is_refused)
{
    struct tls_context *old = client_policy.context;

    client_policy.context = context_of(false, NULL, &stranger);
    client_begin("127.0.0.1");
    run_to_close(&client, ESCROW_ETLS);
    ck_assert_int_eq(client.opens, 0);
    ck_assert_msg(strstr(client.text, "127.0.0.1:") == client.text &&
                      strstr(client.text, "TLS: certificate verify failed") != NULL,
                  "%s", client.text);
    run_to_close(&peers[0], ESCROW_ETLS);
    ck_assert_msg(strstr(peers[0].text, "unknown ca") != NULL, "%s", peers[0].text);
    buf_fini(&client.got);
    tls_context_free(&old);
}
END_TEST

/* Plain frames: taken when permissive, marked when enforcing; TLS works with both. */
START_TEST(the_first_byte_decides)
{
    struct buf frame;
    struct peer *peer;
    int fd;

    buf_init(&frame, 0);
    put_frame(&frame, 1000, 1);
    for (int mode = TCP_TLS_PERMISSIVE; mode <= TCP_TLS_ENFORCING; mode++) {
        server_policy.mode = (enum tcp_tls_mode)mode;
        fd = connect_raw(&peer, 0);
        ck_assert_int_eq(send(fd, frame.ptr, 1, 0), 1); /* one byte is enough to know */
        ck_assert_int_eq(send(fd, frame.ptr + 1, frame.len - 1, 0), (ssize_t)frame.len - 1);
        run_to_frames(peer, 1);
        ck_assert_mem_eq(peer->got.ptr, frame.ptr, frame.len);
        ck_assert(!tcp_conn_is_encrypted(&peer->conn));
        ck_assert(tcp_conn_is_refused(&peer->conn) == (mode == TCP_TLS_ENFORCING));
        ck_assert_int_eq(close(fd), 0);
        run_to_close(peer, ESCROW_ECLOSED);
        (void)client_open();
        client_end();
    }
    buf_fini(&frame);
}
END_TEST

/* A plain peer of an enforcing server may not make it collect much. */
START_TEST(a_refused_peer_has_small_frames)
{
    static const uint8_t head[] = {0, 1, 0, 0}; /* 64 KiB to come: 4 too many */
    struct peer *peer;
    int fd = connect_raw(&peer, 0);

    ck_assert_int_eq(send(fd, head, sizeof head, 0), sizeof head);
    run_to_close(peer, ESCROW_ETOOBIG);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

/* Where TLS is disabled its client hears so, in TLS. */
START_TEST(a_disabled_server_answers_with_an_alert)
{
    server_policy.mode = TCP_TLS_DISABLED;
    client_begin("127.0.0.1");
    run_to_close(&client, ESCROW_ETLS);
    ck_assert_msg(strstr(client.text, "handshake failure") != NULL, "%s", client.text);
    run_to_close(&peers[0], 0);
    ck_assert_int_eq(peers[0].frames, 0);
    buf_fini(&client.got);
}
END_TEST

/* A server that knows nothing of TLS hangs up; the client says when. */
START_TEST(a_server_without_tls_is_noticed)
{
    test_options.tls = NULL;
    client_begin("127.0.0.1");
    run_to_close(&client, ESCROW_ETLS);
    ck_assert_msg(strstr(client.text, "before the handshake was complete") != NULL, "%s",
                  client.text);
    run_to_close(&peers[0], ESCROW_ETOOBIG);
    buf_fini(&client.got);
}
END_TEST

/* Who begins a handshake and does not go on, or says nothing at all, is closed in time. */
START_TEST(a_handshake_has_its_time)
{
    struct peer *slow, *silent;
    int slow_fd, silent_fd;

    test_options.tls_handshake_ms = 60;
    slow_fd = connect_raw(&slow, 0);
    silent_fd = connect_raw(&silent, 0);
    ck_assert_int_eq(send(slow_fd, "\x16\x03\x01", 3, 0), 3);
    run_to_close(slow, ESCROW_ETLS);
    ck_assert_msg(strstr(slow->text, "takes too long") != NULL, "%s", slow->text);
    run_to_close(silent, ESCROW_ETIMEOUT);
    ck_assert_int_eq(close(slow_fd), 0);
    ck_assert_int_eq(close(silent_fd), 0);
    server_policy.mode = TCP_TLS_PERMISSIVE; /* a plain client may be silent */
    silent_fd = connect_raw(&silent, 0);
    run_for(&test_loop, 150);
    ck_assert_int_eq(silent->closes, 0);
    ck_assert_int_eq(close(silent_fd), 0);
}
END_TEST

/* The same for a server that never answers a client. */
START_TEST(a_client_does_not_wait_for_ever)
{
    struct sockaddr_in addr = loopback(0);
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* accepted by the kernel alone */

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    client_options.tls_handshake_ms = 60;
    client_begin_at("127.0.0.1", ntohs(addr.sin_port));
    run_to_close(&client, ESCROW_ETLS);
    ck_assert_msg(strstr(client.text, "takes too long") != NULL, "%s", client.text);
    buf_fini(&client.got);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

/* Bytes that are no record, after a good handshake. */
START_TEST(a_bad_record_ends_the_connection)
{
    struct peer *peer = client_open();
    uv_os_fd_t fd;

    ck_assert_int_eq(uv_fileno((uv_handle_t *)&client.conn.uv, &fd), 0);
    ck_assert_int_eq(send(fd, "\x17\x03\x03\x00\x20 thirty-two bytes that are nothing", 37, 0), 37);
    run_to_close(peer, ESCROW_ETLS);
    ck_assert_msg(strstr(peer->text, "bad record mac") != NULL ||
                      strstr(peer->text, "decryption failed") != NULL,
                  "%s", peer->text);
    ck_assert_int_eq(peer->frames, 0);
    run_to_close(&client, ESCROW_ETLS); /* it was told */
    buf_fini(&client.got);
}
END_TEST

static bool is_high(void *arg)
{
    return ((struct peer *)arg)->highs > 0;
}

/* What a slow reader has not taken waits plainly, once, within the limits; nothing is lost. */
START_TEST(a_slow_reader_costs_what_was_written)
{
    struct peer *peer;
    struct buf frame;
    size_t written = 0;

    test_options.out_max_bytes = (size_t)3 * 1024 * 1024;
    peer = client_open();
    tcp_conn_pause(&client.conn);
    buf_init(&frame, 0);
    put_frame(&frame, 100 * 1024, 3);
    while (tcp_conn_write(&peer->conn, buf_slice(&frame)) == 0) {
        written++;
        loop_run_once(&test_loop, false);
        ck_assert_uint_le(peer->conn.out.bytes, AHEAD_MAX);
    }
    ck_assert_int_eq(tcp_conn_write(&peer->conn, buf_slice(&frame)), ESCROW_ELIMIT);
    run_until(&test_loop, is_high, peer);
    ck_assert_uint_le(tcp_conn_out_bytes(&peer->conn), test_options.out_max_bytes + 64 * 1024);
    tcp_conn_resume(&client.conn);
    run_to_frames(&client, written);
    ck_assert_uint_eq(client.got.len, written * frame.len);
    for (size_t i = 0; i < written; i++) {
        ck_assert_mem_eq(client.got.ptr + i * frame.len, frame.ptr, frame.len);
    }
    ck_assert_int_eq(peer->lows, 1);
    ck_assert_uint_eq(tcp_conn_out_bytes(&peer->conn), 0);
    buf_fini(&frame);
    client_end();
}
END_TEST

/* A session that is paused keeps what was read, hands nothing out, and goes on where it was. */
START_TEST(a_pause_holds_frames_back)
{
    struct buf frames;
    struct peer *peer;

    peer_habit = PEER_PAUSES;
    peer = client_open();
    buf_init(&frames, 0);
    for (int i = 0; i < 10; i++) {
        put_frame(&frames, 50000, (uint8_t)i);
    }
    ck_assert_int_eq(tcp_conn_write(&client.conn, buf_slice(&frames)), 0);
    for (int i = 1; i <= 10; i++) {
        run_to_frames(peer, (size_t)i);
        run_for(&test_loop, 3);
        ck_assert_int_eq(peer->frames, i);
        tcp_conn_resume(&peer->conn);
    }
    buf_fini(&frames);
    client_end();
}
END_TEST

/* Draining sends all that waits, says that it ends, and closes without a complaint. */
START_TEST(a_drain_delivers_everything)
{
    struct peer *peer = client_open();
    struct buf frame;

    buf_init(&frame, 0);
    put_frame(&frame, 100, 4);
    ck_assert_int_eq(tcp_conn_write(&client.conn, buf_slice(&frame)), 0);
    run_to_frames(peer, 1);
    buf_clear(&frame);
    put_frame(&frame, 4 * 1024 * 1024, 5);
    ck_assert_int_eq(tcp_conn_write(&peer->conn, buf_slice(&frame)), 0);
    tcp_conn_drain(&peer->conn);
    run_to_close(&client, ESCROW_ECLOSED);
    ck_assert_int_eq(client.frames, 1);
    ck_assert_uint_eq(client.got.len, frame.len);
    ck_assert_mem_eq(client.got.ptr, frame.ptr, frame.len);
    run_to_close(peer, 0);
    buf_fini(&frame);
    buf_fini(&client.got);
}
END_TEST

/* A connection may be closed, or drained, while it shakes hands. */
START_TEST(a_handshake_can_be_given_up)
{
    for (int way = 0; way < 2; way++) {
        client_begin("127.0.0.1");
        run_to_peers(peer_count + 1);
        ck_assert_int_eq(client.opens, 0);
        if (way == 0) {
            tcp_conn_close(&client.conn, ESCROW_EBUSY);
            run_to_close(&client, ESCROW_EBUSY);
        } else {
            tcp_conn_drain(&client.conn);
            run_to_close(&client, 0);
        }
        buf_fini(&client.got);
    }
}
END_TEST

#define CROWD 100

static bool is_crowd_open(void *arg)
{
    int opens = 0;

    for (size_t i = 0; i < CROWD; i++) {
        opens += ((struct peer *)arg)[i].opens;
    }
    return opens == CROWD;
}

/* Many handshakes at once: all are made, a few in each iteration (tcp_check counts them). */
START_TEST(a_crowd_takes_turns)
{
    static struct peer crowd[CROWD];

    for (size_t i = 0; i < CROWD; i++) {
        tcp_conn_init(&crowd[i].conn, &peer_ops, &client_options, &crowd[i]);
        ck_assert_int_eq(
            tcp_connect(&test_tcp, &crowd[i].conn, "127.0.0.1", tcp_test_port(), 20000), 0);
    }
    run_until(&test_loop, is_crowd_open, crowd);
    tcp_close_all(&test_tcp, 0);
}
END_TEST

/* A new certificate counts from the next connection on; the one that is open goes on. */
START_TEST(a_context_can_be_replaced)
{
    struct test_cert other;
    struct peer *peer = client_open();
    struct peer second = {.habit = PEER_RECORDS};
    struct tls_context *old = server_policy.context;
    struct buf frame;

    test_certificate(&other, &stranger, "IP:127.0.0.1", NULL);
    server_policy.context = context_of(true, &other, NULL);
    tls_context_free(&old);
    tcp_conn_init(&second.conn, &peer_ops, &client_options, &second);
    buf_init(&second.got, 0);
    ck_assert_int_eq(tcp_connect(&test_tcp, &second.conn, "127.0.0.1", tcp_test_port(), 5000), 0);
    run_to_close(&second, ESCROW_ETLS);
    buf_fini(&second.got);
    buf_init(&frame, 0);
    put_frame(&frame, 500, 5);
    ck_assert_int_eq(tcp_conn_write(&client.conn, buf_slice(&frame)), 0);
    run_to_frames(peer, 1);
    buf_fini(&frame);
    client_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/tcp_tls");
    TCase *tc = tcase_create("tcp_tls");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, frames_pass_both_ways);
    tcase_add_test(tc, the_host_is_what_is_expected);
    tcase_add_test(tc, an_unknown_authority_is_refused);
    tcase_add_test(tc, the_first_byte_decides);
    tcase_add_test(tc, a_refused_peer_has_small_frames);
    tcase_add_test(tc, a_disabled_server_answers_with_an_alert);
    tcase_add_test(tc, a_server_without_tls_is_noticed);
    tcase_add_test(tc, a_handshake_has_its_time);
    tcase_add_test(tc, a_client_does_not_wait_for_ever);
    tcase_add_test(tc, a_bad_record_ends_the_connection);
    tcase_add_test(tc, a_slow_reader_costs_what_was_written);
    tcase_add_test(tc, a_pause_holds_frames_back);
    tcase_add_test(tc, a_drain_delivers_everything);
    tcase_add_test(tc, a_handshake_can_be_given_up);
    tcase_add_test(tc, a_crowd_takes_turns);
    tcase_add_test(tc, a_context_can_be_replaced);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
