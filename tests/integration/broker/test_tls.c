/* TLS of escrowd: what it refuses at the start, and how it treats peers that are not as wanted. */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"
#include "tests/lib/test_certs.h"

#include "core/base/log_limit.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define PATH_SIZE 256

static struct broker_fixture f;
static char ca[PATH_SIZE], foreign_ca[PATH_SIZE], cert[PATH_SIZE], key[PATH_SIZE];

static void setup(void)
{
    static struct test_cert authority, stranger, own;
    static char folder[200];

    test_folder(folder, sizeof folder);
    test_authority(&authority, "tests");
    test_authority(&stranger, "strangers");
    test_certificate(&own, &authority, "IP:127.0.0.1", NULL);
    test_cert_save(folder, "ca.pem", authority.certificate, 0644, ca, sizeof ca);
    test_cert_save(folder, "foreign.pem", stranger.certificate, 0644, foreign_ca,
                   sizeof foreign_ca);
    test_cert_save(folder, "own.pem", own.certificate, 0644, cert, sizeof cert);
    test_cert_save(folder, "own.key", own.key, 0600, key, sizeof key);
}

static const char *const enforcing[] = {
    "--tls.mode", "enforcing", "--tls.cert.file", cert, "--tls.key.file", key, "--tls.handshake.ms",
    "200",        NULL};
static const char *const permissive[] = {
    "--tls.mode", "permissive", "--tls.cert.file", cert, "--tls.key.file", key, NULL};

static int32_t ask_status(uint16_t port, enum header_type type, char *remark, size_t size)
{
    struct client c;
    int32_t code;

    client_open(&c, port, type);
    (void)client_begin(&c, REQUEST_ESCROW_STATUS, 0);
    code = client_call(&c, SLICE_EMPTY);
    (void)slice_to_cstr(c.header.remark, remark, size);
    client_close(&c);
    return code;
}

/* Plain requests: answered with a refusal that says why, on every port, whatever their encoding. */
START_TEST(a_plain_client_of_an_enforcing_server_hears_why)
{
    struct client c;
    char remark[600];

    broker_fixture_start(&f, enforcing);
    for (int type = 0; type < HEADER_TYPE_COUNT; type++) {
        ck_assert_int_eq(ask_status(f.port, (enum header_type)type, remark, sizeof remark),
                         RESPONSE_NO_PERMISSION);
        ck_assert_msg(strstr(remark, "TLS connections only") != NULL, "%s", remark);
        ck_assert_int_eq(ask_status(f.name_port, (enum header_type)type, remark, sizeof remark),
                         RESPONSE_NO_PERMISSION);
    }
    broker_fixture_await(&f, "tcp.tls.plain");
    client_open(&c, f.port, HEADER_JSON); /* says nothing at all: closed in time */
    client_expect_closed(&c);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

/*
 * What it sends may be of any size up to its own limit: beyond 64 KiB the header is answered, with
 * the same words, and the rest is not read. One-way: no answer, only the end.
 */
START_TEST(a_plain_client_with_a_large_frame_hears_why)
{
    static uint8_t body[100 * 1024];
    const struct test_message m = {.topic = "T", .body = slice_of(body, sizeof body)};
    struct client c;

    broker_fixture_start(&f, enforcing);
    for (int i = 0; i < 2 * HEADER_TYPE_COUNT; i++) {
        bool is_oneway = i >= HEADER_TYPE_COUNT;
        int rc;

        client_open(&c, f.port, (enum header_type)(i % HEADER_TYPE_COUNT));
        client_put_send(&c, &m, is_oneway ? HEADER_FLAG_ONEWAY : 0);
        rc = client_flush(&c);
        ck_assert(rc == 0 || rc == ESCROW_ECLOSED); /* the server need not take all of it */
        if (!is_oneway) {
            ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
            ck_assert_int_eq(c.header.opaque, c.opaque);
            ck_assert_int_eq(c.header.code, RESPONSE_NO_PERMISSION);
            ck_assert_int_eq(client_error(&c), ESCROW_EAUTH);
            ck_assert_ptr_nonnull(memmem(c.header.remark.ptr, c.header.remark.len,
                                         "TLS connections only", strlen("TLS connections only")));
        }
        client_expect_closed(&c);
        client_close(&c);
    }
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_permissive_server_takes_plain_clients)
{
    char remark[600];

    broker_fixture_start(&f, permissive);
    ck_assert_int_eq(ask_status(f.port, HEADER_JSON, remark, sizeof remark), RESPONSE_SUCCESS);
    broker_fixture_stop(&f);
}
END_TEST

#define ALERT_MAX 64

/* What comes before the end of the connection. */
static size_t read_to_end(struct client *c, uint8_t alert[ALERT_MAX])
{
    size_t len = 0;
    ssize_t n;

    while ((n = recv(c->fd, alert + len, ALERT_MAX - len, 0)) > 0) {
        len += (size_t)n;
        ck_assert_uint_lt(len, ALERT_MAX);
    }
    return len;
}

/* TLS where it is disabled: refused in its own words, so that clients say what is wrong. */
START_TEST(a_disabled_server_answers_with_an_alert)
{
    uint8_t alert[ALERT_MAX];
    struct client c;

    broker_fixture_start(&f, NULL);
    for (int i = 0; i < 2; i++) {
        client_open(&c, i == 0 ? f.port : f.name_port, HEADER_JSON);
        ck_assert_int_eq(client_raw(&c, "\x16\x03\x01\x02\0\1\0\1\xfc\3\3", 11), 0);
        ck_assert_uint_eq(read_to_end(&c, alert), 7);
        ck_assert_mem_eq(alert, "\x15\x03\x03\0\x02\x02\x28", 7);
        client_close(&c);
    }
    broker_fixture_await(&f, "tcp.tls.refused");
    broker_fixture_stop(&f);
}
END_TEST

/* Handshakes that stop, and bytes that only look like one, cost their connection and a line. */
START_TEST(bad_handshakes_end)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *line;
    } rows[] = {{"\x16\x03\x01\x02", 4, "takes too long"},
                {"\x16\x03\x01\x00\x05nonsense", 13, "tcp.tls.failed"},
                {"\x16 is no record at all", 22, "tcp.tls.failed"}};
    uint8_t alert[ALERT_MAX];
    struct client c;

    broker_fixture_start(&f, enforcing);
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(client_raw(&c, rows[_i].bytes, rows[_i].len), 0);
    (void)read_to_end(&c, alert); /* an alert, or nothing */
    broker_fixture_await(&f, rows[_i].line);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

/* As many bad handshakes as a stranger likes: a burst of lines, and the server goes on. */
START_TEST(bad_handshakes_do_not_fill_the_disk_with_lines)
{
    const char *line;
    char remark[600];
    uint8_t alert[ALERT_MAX];
    int64_t began_ms = test_now_ms();
    unsigned lines = 0;
    unsigned minutes;
    struct client c;

    broker_fixture_start(&f, enforcing);
    for (int i = 0; i < 10 * LOG_BURST_MAX; i++) {
        client_open(&c, f.port, HEADER_JSON);
        ck_assert_int_eq(client_raw(&c, "\x16 is no record at all", 22), 0);
        (void)read_to_end(&c, alert);
        client_close(&c);
        /* another line of a stranger's in between gives the first none back */
        (void)ask_status(f.port, HEADER_JSON, remark, sizeof remark);
    }
    for (line = broker_fixture_log(&f); (line = strstr(line, "tcp.tls.failed")) != NULL; line++) {
        lines++;
    }
    ck_assert_uint_ge(lines, LOG_BURST_MAX);
    minutes = (unsigned)((test_now_ms() - began_ms) / LOG_PEER_INTERVAL_MS);
    ck_assert_uint_le(lines, LOG_BURST_MAX + minutes + 1);
    broker_fixture_stop(&f);
}
END_TEST

/* Configurations that would encrypt less than they seem to, and files that cannot be used. */
START_TEST(what_cannot_be_meant_stops_the_start)
{
    static const char *const any[] = {"--listen.host", "0.0.0.0", "--broker.ip", "127.0.0.1"};
    const struct {
        const char *args[12];
        bool is_any; /* on every address */
        mode_t mode; /* of the key */
        const char *text;
    } rows[] = {
        {{"--tls.mode", "enforcing"}, false, 0600, "needs tls.cert.file"},
        {{"--tls.cert.file", cert}, false, 0600, "belong together"},
        {{"--tls.cert.file", cert, "--tls.key.file", key}, false, 0600, "tls.mode is disabled"},
        {{"--tls.mode", "permissive", "--tls.cert.file", cert, "--tls.key.file", key,
          "--tls.client.cert", "required"},
         false,
         0600,
         "needs tls.mode and tls.ca.file"},
        {{"--tls.mode", "permissive", "--tls.cert.file", cert, "--tls.key.file", key},
         false,
         0604,
         "others can get at the private key"},
        {{"--tls.mode", "permissive", "--tls.cert.file", ca, "--tls.key.file", key},
         false,
         0600,
         "does not belong to the certificate"},
        {{"--tls.mode", "permissive", "--tls.cert.file", "/nowhere", "--tls.key.file", key},
         false,
         0600,
         "/nowhere: No such"},
        {{"--namesrv.tls", "on", "--tls.ca.file", cert, "--namesrv.tls", "perhaps"},
         false,
         0600,
         "off|on|insecure"},
        /* Encryption without looking who is there is no access control. */
        {{"--tls.mode", "enforcing", "--tls.cert.file", cert, "--tls.key.file", key},
         true,
         0600,
         "tls.client.cert = required"},
        {{"--tls.mode", "permissive", "--tls.cert.file", cert, "--tls.key.file", key,
          "--tls.ca.file", ca, "--tls.client.cert", "required"},
         true,
         0600,
         "set acl.file"},
    };
    const char *args[20] = {NULL};
    size_t n = 0;

    for (size_t i = 0; rows[_i].is_any && i < 4; i++) {
        args[n++] = any[i];
    }
    for (size_t i = 0; i < 12 && rows[_i].args[i] != NULL; i++) {
        args[n++] = rows[_i].args[i];
    }
    ck_assert_int_eq(chmod(key, rows[_i].mode), 0);
    broker_fixture_init(&f, args);
    ck_assert_int_eq(broker_fixture_run(&f), 2);
    ck_assert_msg(strstr(broker_fixture_log(&f), rows[_i].text) != NULL, "%s",
                  broker_fixture_log(&f));
}
END_TEST

/* Certificates of clients that nobody can do without are access control enough. */
START_TEST(required_certificates_open_other_addresses)
{
    static const char *const args[] = {"--listen.host",
                                       "0.0.0.0",
                                       "--broker.ip",
                                       "127.0.0.1",
                                       "--tls.mode",
                                       "enforcing",
                                       "--tls.cert.file",
                                       cert,
                                       "--tls.key.file",
                                       key,
                                       "--tls.ca.file",
                                       ca,
                                       "--tls.client.cert",
                                       "required",
                                       NULL};

    broker_fixture_start(&f, args);
    broker_fixture_await(&f, "certificates of clients: required");
    broker_fixture_stop(&f);
}
END_TEST

/* A broker registers at a name server that wants its certificate, and refuses a false one. */
START_TEST(a_broker_registers_over_tls)
{
    static char addr[64];
    static const char *const names[] = {"--role",
                                        "namesrv",
                                        "--tls.mode",
                                        "permissive",
                                        "--tls.cert.file",
                                        cert,
                                        "--tls.key.file",
                                        key,
                                        "--tls.ca.file",
                                        ca,
                                        "--tls.client.cert",
                                        "required",
                                        NULL};
    static const char *const good[] = {"--role",
                                       "broker",
                                       "--namesrv.addrs",
                                       addr,
                                       "--namesrv.tls",
                                       "on",
                                       "--tls.cert.file",
                                       cert,
                                       "--tls.key.file",
                                       key,
                                       "--tls.ca.file",
                                       ca,
                                       NULL};
    static const char *const wrong[] = {
        "--role", "broker",        "--namesrv.addrs", addr, "--namesrv.tls",
        "on",     "--tls.ca.file", foreign_ca,        NULL};
    struct broker_fixture b;
    struct client c;
    int64_t deadline_ms;

    broker_fixture_start(&f, names);
    (void)snprintf(addr, sizeof addr, "127.0.0.1:%u", f.name_port); /* fits */
    broker_fixture_start(&b, wrong);
    broker_fixture_await(&b, "certificate verify failed");
    broker_fixture_stop(&b);
    broker_fixture_start(&b, good);
    client_open(&c, b.port, HEADER_JSON);
    client_topic(&c, "orders", 1);
    client_close(&c);
    deadline_ms = test_now_ms() + CLIENT_WAIT_MS;
    client_open(&c, f.name_port, HEADER_JSON);
    for (;;) {
        header_put_str(client_begin(&c, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0), "topic",
                       SLICE_LIT("orders"));
        if (client_call(&c, SLICE_EMPTY) == RESPONSE_SUCCESS) {
            break;
        }
        ck_assert_int_eq(c.header.code, RESPONSE_TOPIC_NOT_EXIST);
        test_await(-1, deadline_ms, "the route");
    }
    client_close(&c);
    broker_fixture_stop(&b);
    broker_fixture_stop(&f);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, a_plain_client_of_an_enforcing_server_hears_why);
    tcase_add_test(tc, a_plain_client_with_a_large_frame_hears_why);
    tcase_add_test(tc, a_permissive_server_takes_plain_clients);
    tcase_add_test(tc, a_disabled_server_answers_with_an_alert);
    tcase_add_loop_test(tc, bad_handshakes_end, 0, 3);
    tcase_add_test(tc, bad_handshakes_do_not_fill_the_disk_with_lines);
    tcase_add_loop_test(tc, what_cannot_be_meant_stops_the_start, 0, 10);
    tcase_add_test(tc, required_certificates_open_other_addresses);
    tcase_add_test(tc, a_broker_registers_over_tls);
}

int main(void)
{
    return broker_fixture_main("tls", 60, add_tests);
}
