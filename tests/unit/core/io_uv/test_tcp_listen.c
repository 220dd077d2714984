#include "core/io_uv/tcp_private.h"

#include "tests/unit/core/io_uv/tcp_test.h"

#include <sys/resource.h>
#include <sys/wait.h>

START_TEST(the_kernel_chooses_a_port)
{
    /* And the listener says which. */
    const struct tcp_addr *addr = tcp_listener_addr(test_listener);

    ck_assert_uint_gt(addr->port, 0);
    ck_assert_int_eq(addr->ip_len, 4);
    ck_assert_uint_eq(tcp_listener_conn_count(test_listener), 0);
}
END_TEST

static int listen_at(const char *host, uint16_t port, struct err_ctx *err)
{
    struct tcp_listen_config config = {
        .host = host, .port = port, .conn_count_max = 1, .on_accept = peer_accept};
    struct tcp_listener *listener;
    int rc = tcp_listen(&test_tcp, &config, &listener, err);

    ck_assert_ptr_null(listener);
    ck_assert_int_eq(err->code, rc);
    return rc;
}

START_TEST(an_address_that_cannot_be_used_is_refused)
{
    /* In use, not numeric, not ours: each with its own code and a line that names the address. */
    struct err_ctx err = {0};

    ck_assert_int_eq(listen_at("127.0.0.1", tcp_test_port(), &err), ESCROW_EBUSY);
    ck_assert_ptr_nonnull(strstr(err.text, "listen on 127.0.0.1:"));
    ck_assert_ptr_nonnull(strstr(err.text, "Address already in use"));
    ck_assert_int_eq(listen_at("localhost", 0, &err), ESCROW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "localhost"));
    ck_assert_int_eq(listen_at("192.0.2.1", 0, &err), ESCROW_EINVAL); /* TEST-NET-1, RFC 5737 */
    ck_assert_ptr_nonnull(strstr(err.text, "192.0.2.1"));
    mem_fault_at(1);
    ck_assert_int_eq(listen_at("127.0.0.1", 0, &err), ESCROW_ENOMEM);
}
END_TEST

static bool is_refused(void *arg)
{
    return test_tcp.stats.refused >= *(uint64_t *)arg;
}

START_TEST(connections_above_the_maximum_are_refused)
{
    /* The client is told at once, by a close; when one leaves, the next may come. */
    struct tcp_listen_config config = {
        .host = "127.0.0.1", .conn_count_max = 2, .on_accept = peer_accept};
    struct tcp_listener *listener;
    struct raw_reader refused;
    uint64_t one = 1;
    uint16_t port;
    int fds[3];

    ck_assert_int_eq(tcp_listen(&test_tcp, &config, &listener, NULL), 0);
    port = tcp_listener_addr(listener)->port;
    fds[0] = raw_connect(port, 0);
    fds[1] = raw_connect(port, 0);
    run_to_peers(2);
    ck_assert_uint_eq(tcp_listener_conn_count(listener), 2);
    raw_reader_init(&refused, raw_connect(port, 0));
    run_until(&test_loop, is_refused, &one);
    raw_read_to_end(&refused);
    ck_assert_uint_eq(peer_count, 2);
    ck_assert_int_eq(close(fds[0]), 0);
    run_to_close(&peers[0], ESCROW_ECLOSED);
    ck_assert_uint_eq(tcp_listener_conn_count(listener), 1);
    fds[2] = raw_connect(port, 0);
    run_to_peers(3);
    tcp_listener_close(&listener);
    raw_reader_fini(&refused);
    ck_assert_int_eq(close(fds[1]), 0);
    ck_assert_int_eq(close(fds[2]), 0);
}
END_TEST

START_TEST(the_owner_may_refuse)
{
    /* By returning nothing from on_accept. */
    struct raw_reader reader;
    uint64_t one = 1;

    peer_max = 0;
    raw_reader_init(&reader, raw_connect(tcp_test_port(), 0));
    run_until(&test_loop, is_refused, &one);
    raw_read_to_end(&reader);
    ck_assert_uint_eq(test_tcp.conn_count, 0);
    raw_reader_fini(&reader);
}
END_TEST

START_TEST(closing_a_listener_leaves_its_connections)
{
    /* They go on talking; nobody new comes in, and closing nothing is fine. */
    struct sockaddr_in addr = loopback(tcp_test_port());
    struct raw_reader reader;
    struct peer *peer;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    peer_habit = PEER_ECHOES;
    raw_reader_init(&reader, connect_raw(&peer, 0));
    tcp_listener_close(&test_listener);
    ck_assert_ptr_null(test_listener);
    tcp_listener_close(&test_listener);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof addr), -1);
    ck_assert_int_eq(errno, ECONNREFUSED);
    raw_send(reader.fd, "\0\0\0\0", 4);
    raw_read_to(&reader, 4);
    raw_reader_fini(&reader);
    run_to_close(peer, ESCROW_ECLOSED);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

static struct tcp_conn *accept_the_last(void *arg, const struct tcp_addr *addr)
{
    tcp_listener_close(&test_listener);
    return peer_accept(arg, addr);
}

START_TEST(a_listener_may_be_closed_in_on_accept)
{
    /* The connection it was about is accepted all the same. */
    struct tcp_listen_config config = {
        .host = "127.0.0.1", .conn_count_max = 10, .on_accept = accept_the_last};
    int fds[2];

    tcp_listener_close(&test_listener);
    ck_assert_int_eq(tcp_listen(&test_tcp, &config, &test_listener, NULL), 0);
    fds[0] = raw_connect(tcp_test_port(), 0);
    fds[1] = raw_connect(tcp_test_port(), 0);
    run_to_peers(1);
    run_for(&test_loop, 5);
    ck_assert_uint_eq(peer_count, 1);
    ck_assert(tcp_conn_is_open(&peers[0].conn));
    ck_assert_int_eq(close(fds[0]), 0);
    ck_assert_int_eq(close(fds[1]), 0);
}
END_TEST

/* In a child: connect `count` times, then count how many are still open. */
static void clients_main(uint16_t port, int count)
{
    int fds[32];
    int alive = 0;

    for (int i = 0; i < count; i++) {
        fds[i] = raw_connect(port, 0);
    }
    for (int i = 0; i < count; i++) {
        char byte;

        ck_assert_int_eq(fcntl(fds[i], F_SETFL, 0), 0); /* block: an echo or the end */
        if (send(fds[i], "\0\0\0\0", 4, MSG_NOSIGNAL) == 4 && recv(fds[i], &byte, 1, 0) == 1) {
            alive++;
        }
    }
    _exit(alive);
}

static int child_status;

static bool is_child_done(void *arg)
{
    return waitpid(*(pid_t *)arg, &child_status, WNOHANG) == *(pid_t *)arg;
}

START_TEST(without_descriptors_clients_are_refused_and_not_left_waiting)
{
    /* As many are served as descriptors are left; the loop does not spin; later it works again. */
    struct rlimit limit;
    rlim_t before;
    pid_t pid;
    int next = dup(0);

    ck_assert_int_eq(close(next), 0);
    peer_habit = PEER_ECHOES;
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        clients_main(tcp_test_port(), 20);
    }
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    before = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)next + 5;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    run_until(&test_loop, is_child_done, &pid);
    ck_assert(WIFEXITED(child_status));
    ck_assert_int_ge(WEXITSTATUS(child_status), 1);
    ck_assert_int_le(WEXITSTATUS(child_status), 5);
    ck_assert_uint_eq(test_tcp.stats.refused, 20 - (uint64_t)WEXITSTATUS(child_status));
    ck_assert_uint_lt(test_loop.stats.iterations, 10000);
    limit.rlim_cur = before;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        clients_main(tcp_test_port(), 20);
    }
    run_until(&test_loop, is_child_done, &pid);
    ck_assert_int_eq(WEXITSTATUS(child_status), 20);
}
END_TEST

/* ---- addresses ---- */

static const struct {
    const char *host;
    const char *text;
    bool is_v6;
} addresses[] = {
    {"127.0.0.1", "127.0.0.1:80", false},
    {"255.255.255.255", "255.255.255.255:80", false},
    {"::1", "[::1]:80", true},
    {"2001:db8::ff00:42:8329", "[2001:db8::ff00:42:8329]:80", true},
};

START_TEST(addresses_are_read_and_written)
{
    /* And survive the way through the kernel's form. */
    char text[TCP_ADDR_TEXT_MAX];
    struct sockaddr_storage ss;
    struct tcp_addr addr;
    struct tcp_addr back;

    ck_assert_int_eq(tcp_addr_parse(addresses[_i].host, 80, &addr), 0);
    ck_assert_int_eq(addr.ip_len, addresses[_i].is_v6 ? 16 : 4);
    ck_assert_str_eq(tcp_addr_format(&addr, text, sizeof text), addresses[_i].text);
    (void)tcp_addr_to_sockaddr(&addr, &ss);
    tcp_addr_from_sockaddr(&ss, &back);
    ck_assert_mem_eq(&addr, &back, sizeof addr);
}
END_TEST

START_TEST(other_texts_are_not_addresses)
{
    /* Names, ports, too few or too many parts; the result is untouched. */
    static const char *const texts[] = {"",          "localhost", "127.0.0.1:80", "1.2.3",
                                        "1.2.3.4.5", "256.0.0.1", "[::1]",        ":::"};
    struct tcp_addr addr = {.port = 7};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ck_assert_int_eq(tcp_addr_parse(texts[i], 80, &addr), ESCROW_EINVAL);
    }
    ck_assert_uint_eq(addr.port, 7);
    ck_assert_int_eq(addr.ip_len, 0);
}
END_TEST

START_TEST(an_ipv4_address_in_ipv6_is_ipv4)
{
    /* As a listener on :: sees its IPv4 clients. */
    char text[TCP_ADDR_TEXT_MAX];
    struct sockaddr_storage ss;
    struct tcp_addr addr;

    ck_assert_int_eq(tcp_addr_parse("::ffff:10.1.2.3", 80, &addr), 0);
    (void)tcp_addr_to_sockaddr(&addr, &ss);
    tcp_addr_from_sockaddr(&ss, &addr);
    ck_assert_str_eq(tcp_addr_format(&addr, text, sizeof text), "10.1.2.3:80");
    addr = (struct tcp_addr){0};
    ck_assert_str_eq(tcp_addr_format(&addr, text, sizeof text), "?");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/tcp_listen");
    TCase *tc = tcase_create("tcp_listen");
    TCase *addr = tcase_create("tcp_addr");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, tcp_test_setup, tcp_test_teardown);
    tcase_add_test(tc, the_kernel_chooses_a_port);
    tcase_add_test(tc, an_address_that_cannot_be_used_is_refused);
    tcase_add_test(tc, connections_above_the_maximum_are_refused);
    tcase_add_test(tc, the_owner_may_refuse);
    tcase_add_test(tc, closing_a_listener_leaves_its_connections);
    tcase_add_test(tc, a_listener_may_be_closed_in_on_accept);
    tcase_add_test(tc, without_descriptors_clients_are_refused_and_not_left_waiting);
    tcase_add_loop_test(addr, addresses_are_read_and_written, 0,
                        (int)(sizeof addresses / sizeof addresses[0]));
    tcase_add_test(addr, other_texts_are_not_addresses);
    tcase_add_test(addr, an_ipv4_address_in_ipv6_is_ipv4);
    suite_add_tcase(suite, tc);
    suite_add_tcase(suite, addr);
    return unit_run(suite);
}
