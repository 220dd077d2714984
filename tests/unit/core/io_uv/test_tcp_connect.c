#include "core/io_uv/tcp.h"

#include "tests/unit/core/io_uv/tcp_test.h"

#include <dlfcn.h>
#include <netdb.h>

/* ---- a name with two addresses: nobody listens on the first ---- */

typedef int resolve_fn(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **found);

/* Stands in front of the C library's: libuv calls this one. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **found)
{
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    resolve_fn *real;
    int rc;

    memcpy(&real, &symbol, sizeof real);
    if (strcmp(host, "two.test") != 0) {
        return real(host, port, hints, found);
    }
    rc = real("127.0.0.2", port, hints, found);
    return rc == 0 ? real("127.0.0.1", port, hints, &(*found)->ai_next) : rc;
}

static struct peer client;

static const struct tcp_ops *client_ops = &peer_ops;

static int client_connect(const char *host, uint16_t port, uint64_t timeout_ms)
{
    client = (struct peer){.habit = PEER_RECORDS};
    tcp_conn_init(&client.conn, client_ops, &test_options, &client);
    buf_init(&client.got, 0);
    return tcp_connect(&test_tcp, &client.conn, host, port, timeout_ms);
}

static bool is_open(void *arg)
{
    return ((struct peer *)arg)->opens > 0 || ((struct peer *)arg)->closes > 0;
}

static void client_end(void)
{
    tcp_conn_close(&client.conn, 0);
    run_until(&test_loop, is_closed, &client);
    ck_assert_int_eq(client.closes, 1);
    buf_fini(&client.got);
}

/* A port of the loopback interface on which nobody listens: bound, so that nobody else gets it. */
static int closed_port(uint16_t *port)
{
    struct sockaddr_in addr = loopback(0);
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *port = ntohs(addr.sin_port);
    return fd;
}

START_TEST(a_connection_opens_later_and_talks)
{
    /* on_open never comes inside tcp_connect; then frames go both ways. */
    struct buf frame;

    peer_habit = PEER_ECHOES;
    ck_assert_int_eq(client_connect("127.0.0.1", tcp_test_port(), 5000), 0);
    ck_assert_int_eq(client.opens, 0);
    ck_assert_int_eq(tcp_conn_write(&client.conn, SLICE_LIT("early")), ESCROW_ECLOSED);
    run_until(&test_loop, is_open, &client);
    ck_assert_int_eq(client.opens, 1);
    ck_assert_uint_eq(tcp_conn_peer(&client.conn)->port, tcp_test_port());
    buf_init(&frame, 0);
    put_frame(&frame, 1000, 3);
    ck_assert_int_eq(tcp_conn_write(&client.conn, buf_slice(&frame)), 0);
    run_to_frames(&client, 1);
    ck_assert(slice_eq(buf_slice(&client.got), buf_slice(&frame)));
    buf_fini(&frame);
    client_end();
    ck_assert_int_eq(client.opens, 1);
}
END_TEST

START_TEST(a_name_is_resolved)
{
    /* "localhost" may be ::1 first, where nobody listens. */
    ck_assert_int_eq(client_connect("localhost", tcp_test_port(), 5000), 0);
    run_until(&test_loop, is_open, &client);
    ck_assert_msg(client.opens == 1, "%s", client.text);
    ck_assert_uint_eq(tcp_conn_peer(&client.conn)->ip_len, 4);
    client_end();
}
END_TEST

START_TEST(a_refused_connection_closes)
{
    /* on_close alone, with address and reason in words. */
    uint16_t port;
    int fd = closed_port(&port);

    ck_assert_int_eq(client_connect("127.0.0.1", port, 5000), 0);
    run_to_close(&client, ESCROW_ECONN);
    ck_assert_int_eq(client.opens, 0);
    ck_assert_ptr_nonnull(strstr(client.text, "127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(client.text, "connection refused"));
    client_end();
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(the_next_address_is_tried)
{
    /* The first refuses, the second answers; the owner hears of neither, only that it is open. */
    ck_assert_int_eq(client_connect("two.test", tcp_test_port(), 5000), 0);
    run_until(&test_loop, is_open, &client);
    ck_assert_msg(client.opens == 1, "%s", client.text);
    ck_assert_mem_eq(tcp_conn_peer(&client.conn)->ip, "\x7f\0\0\1", 4);
    client_end();
}
END_TEST

static void close_between_addresses(void *arg)
{
    struct peer *peer = arg;

    if (peer->closes == 0 && uv_is_closing((uv_handle_t *)&peer->conn.uv) != 0) {
        tcp_conn_close(&peer->conn, ESCROW_ESHUTDOWN);
    }
}

START_TEST(connecting_can_be_given_up_between_two_addresses)
{
    /* While the socket of the first is being closed: on_close once, for the owner's reason. */
    struct loop_hook hook = {0};

    ck_assert_int_eq(client_connect("two.test", tcp_test_port(), 5000), 0);
    loop_hook_start(&test_loop, LOOP_AFTER_POLL, &hook, close_between_addresses, &client);
    run_to_close(&client, ESCROW_ESHUTDOWN);
    loop_hook_stop(&test_loop, &hook);
    ck_assert_int_eq(client.opens, 0);
    client_end();
}
END_TEST

START_TEST(every_address_of_a_name_may_refuse)
{
    /* Then the connection closes, once. */
    uint16_t port;
    int fd = closed_port(&port);

    ck_assert_int_eq(client_connect("two.test", port, 5000), 0);
    run_to_close(&client, ESCROW_ECONN);
    ck_assert_ptr_nonnull(strstr(client.text, "connection refused"));
    client_end();
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_name_that_does_not_exist_closes)
{
    /*
     * ".invalid" is reserved for that (RFC 2606); without any name server the answer is the same.
     */
    ck_assert_int_eq(client_connect("no-such-host.invalid", 1, 15000), 0);
    run_to_close(&client, ESCROW_ECONN);
    ck_assert_int_eq(client.opens, 0);
    client_end();
}
END_TEST

/* A listener whose queue is full: the kernel does not answer the next one. */
static int full_listener(uint16_t *port, int *fillers, int count)
{
    struct sockaddr_in addr = loopback(0);
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
    ck_assert_int_eq(listen(fd, 0), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    for (int i = 0; i < count; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        ck_assert_int_ge(fillers[i], 0);
        (void)connect(fillers[i], (struct sockaddr *)&addr, len); /* in progress */
    }
    *port = ntohs(addr.sin_port);
    return fd;
}

static void close_all_fds(int fd, const int *fillers, int count)
{
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(close(fillers[i]), 0);
    }
    ck_assert_int_eq(close(fd), 0);
}

START_TEST(connecting_ends_in_time)
{
    /* With nobody answering; not before the time is up. */
    int64_t start_ms = clock_mono_ms(clock_system());
    int fillers[8];
    uint16_t port;
    int fd = full_listener(&port, fillers, 8);

    ck_assert_int_eq(client_connect("127.0.0.1", port, 100), 0);
    run_to_close(&client, ESCROW_ETIMEOUT);
    ck_assert_int_ge(clock_mono_ms(clock_system()) - start_ms, 100);
    ck_assert_int_eq(client.opens, 0);
    client_end();
    close_all_fds(fd, fillers, 8);
}
END_TEST

START_TEST(connecting_can_be_given_up)
{
    /* While the kernel works on it. */
    int fillers[8];
    uint16_t port;
    int fd = full_listener(&port, fillers, 8);

    ck_assert_int_eq(client_connect("127.0.0.1", port, 5000), 0);
    run_for(&test_loop, 5);
    tcp_conn_close(&client.conn, ESCROW_ESHUTDOWN);
    run_to_close(&client, ESCROW_ESHUTDOWN);
    client_end();
    close_all_fds(fd, fillers, 8);
}
END_TEST

START_TEST(connecting_can_be_given_up_at_once)
{
    /* In the same iteration, by close and by drain. */
    ck_assert_int_eq(client_connect("127.0.0.1", tcp_test_port(), 5000), 0);
    tcp_conn_close(&client.conn, ESCROW_EBUSY);
    run_to_close(&client, ESCROW_EBUSY);
    ck_assert_int_eq(client.opens, 0);
    client_end();
    ck_assert_int_eq(client_connect("127.0.0.1", tcp_test_port(), 5000), 0);
    tcp_conn_drain(&client.conn);
    run_to_close(&client, 0);
    client_end();
}
END_TEST

START_TEST(resolving_can_be_given_up)
{
    /* on_close does not wait for the resolver, which finds nobody when it comes back. */
    ck_assert_int_eq(client_connect("localhost", tcp_test_port(), 5000), 0);
    tcp_conn_close(&client.conn, ESCROW_ESHUTDOWN);
    run_to_close(&client, ESCROW_ESHUTDOWN);
    client_end();
}
END_TEST

static void close_on_open(struct tcp_conn *conn)
{
    peer_on_open(conn);
    tcp_conn_close(conn, ESCROW_EBUSY);
}

START_TEST(closing_in_on_open_is_fine)
{
    /* No frame comes afterwards. */
    struct tcp_ops ops = peer_ops;

    ops.on_open = close_on_open;
    client_ops = &ops;
    ck_assert_int_eq(client_connect("127.0.0.1", tcp_test_port(), 5000), 0);
    run_to_close(&client, ESCROW_EBUSY);
    ck_assert_int_eq(client.opens, 1);
    client_end();
}
END_TEST

START_TEST(a_host_that_cannot_be_one_is_refused_at_once)
{
    /* No callback follows; the struct can be used again. */
    char host[1000];

    memset(host, 'a', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    ck_assert_int_eq(client_connect("", 1, 100), ESCROW_EINVAL);
    ck_assert_int_eq(client_connect(host, 1, 100), ESCROW_EINVAL);
    mem_fault_at(1);
    ck_assert_int_eq(client_connect("127.0.0.1", 1, 100), ESCROW_ENOMEM);
    ck_assert_uint_eq(test_tcp.conn_count, 0);
    ck_assert_int_eq(tcp_connect(&test_tcp, &client.conn, "127.0.0.1", tcp_test_port(), 5000), 0);
    run_until(&test_loop, is_open, &client);
    ck_assert_int_eq(client.opens, 1);
    client_end();
}
END_TEST

START_TEST(the_same_struct_connects_again_after_its_end)
{
    /* As a client that reconnects does, from on_close's caller. */
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(client_connect("127.0.0.1", tcp_test_port(), 5000), 0);
        run_until(&test_loop, is_open, &client);
        client_end();
    }
    run_to_peers(3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/tcp_connect");
    TCase *tc = tcase_create("tcp_connect");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, tcp_test_setup, tcp_test_teardown);
    tcase_add_test(tc, a_connection_opens_later_and_talks);
    tcase_add_test(tc, a_name_is_resolved);
    tcase_add_test(tc, a_refused_connection_closes);
    tcase_add_test(tc, the_next_address_is_tried);
    tcase_add_test(tc, connecting_can_be_given_up_between_two_addresses);
    tcase_add_test(tc, every_address_of_a_name_may_refuse);
    tcase_add_test(tc, a_name_that_does_not_exist_closes);
    tcase_add_test(tc, connecting_ends_in_time);
    tcase_add_test(tc, connecting_can_be_given_up);
    tcase_add_test(tc, connecting_can_be_given_up_at_once);
    tcase_add_test(tc, resolving_can_be_given_up);
    tcase_add_test(tc, closing_in_on_open_is_fine);
    tcase_add_test(tc, a_host_that_cannot_be_one_is_refused_at_once);
    tcase_add_test(tc, the_same_struct_connects_again_after_its_end);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
