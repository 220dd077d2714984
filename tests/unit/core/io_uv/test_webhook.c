#include "core/io_uv/webhook.h"

#include "core/base/mem.h"
#include "core/io_uv/tcp.h"
#include "escrow/errors.h"
#include "tests/unit/core/io_uv/uv_test.h"

#include <stdio.h>
#include <stdlib.h>

#define CALLS_MAX 40

/* What the server of the test does with a request. */
enum server_habit {
    SERVER_ANSWERS,     /* server_text, in one piece */
    SERVER_IS_SILENT,   /* reads and never answers */
    SERVER_HANGS_UP,    /* reads, then closes */
    SERVER_ANSWERS_BIT, /* server_text one byte per iteration */
};

struct server_session {
    struct tcp_conn conn;
    size_t sent;
};

struct call {
    struct webhook_request req;
    int count;
    int result;
    int status;
    char body[256];
    size_t body_len;
    char error[WEBHOOK_ERROR_MAX];
};

static struct loop loop;
static struct tcp tcp;
static struct tcp_listener *listener;
static struct webhook *webhook;
static enum server_habit server_habit;
static struct buf server_text;
static struct buf request_text; /* the last request, as it came */
static int server_requests;
static int server_sessions;
static struct loop_timer server_timer;
static struct call calls[CALLS_MAX];
static int calls_done;
static char url[128];

/* ---- a small server ---- */

static size_t on_data(struct tcp_conn *conn, struct slice data)
{
    static const char length_name[] = "Content-Length: ";
    char text[4096];
    const char *end;
    const char *length;
    size_t total;

    ck_assert_uint_lt(data.len, sizeof text);
    (void)slice_to_cstr(data, text, sizeof text);
    end = strstr(text, "\r\n\r\n");
    length = strstr(text, length_name);
    if (end == NULL) {
        return 0;
    }
    ck_assert_ptr_nonnull(length);
    total = (size_t)(end + 4 - text) + strtoul(length + sizeof length_name - 1, NULL, 10);
    if (data.len < total) {
        return 0;
    }
    server_requests++;
    buf_clear(&request_text);
    buf_append(&request_text, data.ptr, total);
    if (server_habit == SERVER_ANSWERS) {
        ck_assert_int_eq(tcp_conn_write(conn, buf_slice(&server_text)), 0);
    } else if (server_habit == SERVER_HANGS_UP) {
        tcp_conn_close(conn, 0);
    }
    return total;
}

static void on_session_close(struct tcp_conn *conn, int reason)
{
    (void)reason;
    mem_free(conn->arg);
}

static const struct tcp_ops server_ops = {.on_data = on_data, .on_close = on_session_close};

static struct tcp_conn *on_accept(void *arg, const struct tcp_addr *addr)
{
    struct server_session *session = mem_calloc(1, sizeof *session);

    (void)arg;
    (void)addr;
    ck_assert_ptr_nonnull(session);
    server_sessions++;
    tcp_conn_init(&session->conn, &server_ops, &tcp_options_default, session);
    return &session->conn;
}

/* One more byte to everybody. */
static void send_bits(void *arg)
{
    struct list *pos;
    struct list *tmp;

    (void)arg;
    LIST_FOREACH(pos, tmp, &tcp.conns) {
        struct tcp_conn *conn = LIST_ENTRY(pos, struct tcp_conn, node);
        struct server_session *session = conn->arg;

        if (server_requests > 0 && session->sent < server_text.len) {
            ck_assert_int_eq(tcp_conn_write(conn, slice_of(server_text.ptr + session->sent, 1)), 0);
            session->sent++;
        }
    }
}

static void answer_with(const char *status, size_t body_len, const char *body)
{
    buf_clear(&server_text);
    buf_append_fmt(&server_text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", status, body_len,
                   body);
}

/* ---- fixture ---- */

static void setup(void)
{
    struct tcp_listen_config config = {
        .host = "127.0.0.1", .conn_count_max = 100, .on_accept = on_accept};

    ck_assert_int_eq(loop_init(&loop), 0);
    ck_assert_int_eq(tcp_init(&tcp, &loop, 0), 0);
    ck_assert_int_eq(tcp_listen(&tcp, &config, &listener, NULL), 0);
    ck_assert_int_eq(webhook_new(&loop, CALLS_MAX / 2, &webhook), 0);
    buf_init(&server_text, 0);
    buf_init(&request_text, 0);
    answer_with("200 OK", 18, "{\"state\":\"commit\"}");
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/check?x=1",
                   (unsigned)tcp_listener_addr(listener)->port);
}

static bool is_empty(void *arg)
{
    (void)arg;
    return tcp.conn_count == 0;
}

static void teardown(void)
{
    webhook_free(webhook);
    webhook_free(NULL);
    loop_timer_stop(&loop, &server_timer);
    tcp_listener_close(&listener);
    tcp_close_all(&tcp, ESCROW_ESHUTDOWN);
    run_until(&loop, is_empty, NULL);
    tcp_fini(&tcp);
    loop_fini(&loop);
    buf_fini(&server_text);
    buf_fini(&request_text);
    ck_assert_int_eq(mem_live_count(), 0);
}

static void on_done(struct webhook_request *req, const struct webhook_result *result)
{
    struct call *call = req->arg;

    ck_assert_uint_lt(result->body.len, sizeof call->body + WEBHOOK_ANSWER_MAX);
    call->count++;
    call->result = result->result;
    call->status = result->status;
    call->body_len = result->body.len;
    (void)slice_to_cstr(result->body, call->body, sizeof call->body);
    (void)snprintf(call->error, sizeof call->error, "%s", result->error);
    calls_done++;
}

static int post(int i, const char *to, const char *body, uint64_t timeout_ms)
{
    calls[i] = (struct call){.req.arg = &calls[i]};
    return webhook_post(webhook, &calls[i].req, to, slice_str(body), timeout_ms, on_done);
}

static bool are_done(void *arg)
{
    return calls_done >= *(int *)arg;
}

static void run_to_done(int count)
{
    run_until(&loop, are_done, &count);
}

/* ---- tests ---- */

START_TEST(a_request_is_posted_and_answered)
{
    /* Method, path, type and body as asked; status and body come back, not inside the call. */
    const char *text;

    ck_assert_int_eq(post(0, url, "{\"transactionId\":\"t1\"}", 5000), 0);
    ck_assert_int_eq(calls_done, 0);
    ck_assert_uint_eq(webhook_in_flight(webhook), 1);
    run_to_done(1);
    ck_assert_int_eq(calls[0].result, 0);
    ck_assert_int_eq(calls[0].status, 200);
    ck_assert_str_eq(calls[0].body, "{\"state\":\"commit\"}");
    ck_assert_str_eq(calls[0].error, "");
    ck_assert_uint_eq(webhook_in_flight(webhook), 0);
    buf_append_u8(&request_text, 0);
    text = (const char *)request_text.ptr;
    ck_assert(strncmp(text, "POST /check?x=1 HTTP/1.1\r\n", 26) == 0);
    ck_assert_ptr_nonnull(strstr(text, "Content-Type: application/json\r\n"));
    ck_assert_ptr_null(strstr(text, "Expect:"));
    ck_assert_ptr_nonnull(strstr(text, "\r\n\r\n{\"transactionId\":\"t1\"}"));
}
END_TEST

START_TEST(an_answer_may_come_byte_by_byte)
{
    /* And is handed over once, whole. */
    server_habit = SERVER_ANSWERS_BIT;
    loop_timer_start(&loop, &server_timer, 1, 1, send_bits, NULL);
    ck_assert_int_eq(post(0, url, "{}", 5000), 0);
    run_to_done(1);
    ck_assert_int_eq(calls[0].result, 0);
    ck_assert_int_eq(calls[0].status, 200);
    ck_assert_str_eq(calls[0].body, "{\"state\":\"commit\"}");
}
END_TEST

START_TEST(any_status_is_an_answer)
{
    /* A redirect is not followed: what it points to is never asked. */
    answer_with("302 Found\r\nLocation: /elsewhere", 0, "");
    ck_assert_int_eq(post(0, url, "{}", 5000), 0);
    run_to_done(1);
    ck_assert_int_eq(calls[0].result, 0);
    ck_assert_int_eq(calls[0].status, 302);
    answer_with("500 Oops", 4, "oops");
    ck_assert_int_eq(post(1, url, "{}", 5000), 0);
    run_to_done(2);
    ck_assert_int_eq(calls[1].status, 500);
    ck_assert_str_eq(calls[1].body, "oops");
    ck_assert_int_eq(server_requests, 2);
    ck_assert_int_eq(server_sessions, 1); /* the connection was kept */
}
END_TEST

START_TEST(an_answer_has_a_limit)
{
    /* Exactly WEBHOOK_ANSWER_MAX bytes are fine, one more is not, promised or not. */
    char *big = mem_alloc(WEBHOOK_ANSWER_MAX + 2);

    memset(big, 'a', WEBHOOK_ANSWER_MAX);
    big[WEBHOOK_ANSWER_MAX] = '\0';
    answer_with("200 OK", WEBHOOK_ANSWER_MAX, big);
    ck_assert_int_eq(post(0, url, "{}", 5000), 0);
    run_to_done(1);
    ck_assert_int_eq(calls[0].result, 0);
    ck_assert_uint_eq(calls[0].body_len, WEBHOOK_ANSWER_MAX);
    big[WEBHOOK_ANSWER_MAX] = 'a';
    big[WEBHOOK_ANSWER_MAX + 1] = '\0';
    answer_with("200 OK", WEBHOOK_ANSWER_MAX + 1, big);
    ck_assert_int_eq(post(1, url, "{}", 5000), 0);
    run_to_done(2);
    ck_assert_int_eq(calls[1].result, ESCROW_ETOOBIG);
    ck_assert_int_eq(calls[1].status, 0);
    ck_assert_uint_eq(calls[1].body_len, 0);
    mem_free(big);
}
END_TEST

START_TEST(a_server_that_says_nothing_is_given_up)
{
    /* In time; the outcome is unknown. */
    server_habit = SERVER_IS_SILENT;
    ck_assert_int_eq(post(0, url, "{}", 100), 0);
    run_to_done(1);
    ck_assert_int_eq(calls[0].result, ESCROW_ETIMEOUT);
    ck_assert_str_ne(calls[0].error, "");
}
END_TEST

START_TEST(a_server_that_hangs_up_leaves_the_outcome_open)
{
    /* It had the request. */
    server_habit = SERVER_HANGS_UP;
    ck_assert_int_eq(post(0, url, "{}", 5000), 0);
    run_to_done(1);
    ck_assert_int_eq(calls[0].result, ESCROW_ECLOSED);
}
END_TEST

START_TEST(nobody_listening_is_no_connection)
{
    /* Nothing was sent; the same for a name that does not exist (RFC 2606). */
    tcp_listener_close(&listener);
    ck_assert_int_eq(post(0, url, "{}", 5000), 0);
    ck_assert_int_eq(post(1, "http://no-such-host.invalid/", "{}", 15000), 0);
    run_to_done(2);
    ck_assert_int_eq(calls[0].result, ESCROW_ECONN);
    ck_assert_int_eq(calls[1].result, ESCROW_ECONN);
}
END_TEST

START_TEST(what_is_not_http_is_a_protocol_error)
{
    /* Plain text, and a TLS handshake answered in clear. */
    char secure[sizeof url + 1];

    buf_clear(&server_text);
    buf_append_str(&server_text, "hello, this is no web server at all\r\n\r\n");
    ck_assert_int_eq(post(0, url, "{}", 5000), 0);
    run_to_done(1);
    ck_assert_int_eq(calls[0].result, ESCROW_EPROTO);
    (void)snprintf(secure, sizeof secure, "https://%s", url + strlen("http://"));
    server_habit = SERVER_IS_SILENT;
    ck_assert_int_eq(post(1, secure, "{}", 200), 0);
    run_to_done(2);
    ck_assert_int_eq(calls[1].result, ESCROW_ETIMEOUT);
}
END_TEST

START_TEST(only_web_addresses_are_taken)
{
    /* Others are refused at once, and no callback follows. */
    static const char *const bad[] = {
        "",        "127.0.0.1/x", "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/",
        "http://", "http://a b/", "//127.0.0.1/"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!webhook_url_is_valid(bad[i]), "%s", bad[i]);
        ck_assert_int_eq(post(0, bad[i], "{}", 5000), ESCROW_EINVAL);
    }
    ck_assert(webhook_url_is_valid("http://localhost:8080/check"));
    ck_assert(webhook_url_is_valid("https://example.org"));
    ck_assert_uint_eq(webhook_in_flight(webhook), 0);
}
END_TEST

START_TEST(more_than_the_limit_are_refused)
{
    /* Up to concurrent_max at once; all are answered, and then there is room again. */
    for (int i = 0; i < CALLS_MAX / 2; i++) {
        ck_assert_int_eq(post(i, url, "{}", 5000), 0);
    }
    ck_assert_int_eq(post(CALLS_MAX - 1, url, "{}", 5000), ESCROW_ELIMIT);
    run_to_done(CALLS_MAX / 2);
    for (int i = 0; i < CALLS_MAX / 2; i++) {
        ck_assert_int_eq(calls[i].count, 1);
        ck_assert_int_eq(calls[i].result, 0);
    }
    ck_assert_int_eq(post(CALLS_MAX - 1, url, "{}", 5000), 0);
    run_to_done(CALLS_MAX / 2 + 1);
}
END_TEST

static void on_done_post(struct webhook_request *req, const struct webhook_result *result)
{
    int next = calls_done + 1;

    on_done(req, result);
    if (next < 5) {
        ck_assert_int_eq(post(next, url, "{}", 5000), 0);
        calls[next].req.done = on_done_post;
    }
}

START_TEST(done_may_post_the_next_one)
{
    /* From inside the callback. */
    ck_assert_int_eq(post(0, url, "{}", 5000), 0);
    calls[0].req.done = on_done_post;
    run_to_done(5);
    ck_assert_int_eq(server_requests, 5);
}
END_TEST

START_TEST(freeing_gives_up_what_is_in_flight)
{
    /* done is called for each, once, before it returns; none of them can post again. */
    server_habit = SERVER_IS_SILENT;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(post(i, url, "{}", 5000), 0);
    }
    run_for(&loop, 20);
    webhook_free(webhook);
    webhook = NULL;
    ck_assert_int_eq(calls_done, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(calls[i].count, 1);
        ck_assert_int_eq(calls[i].result, ESCROW_ESHUTDOWN);
    }
}
END_TEST

START_TEST(a_proxy_of_the_environment_is_not_asked)
{
    /* http_proxy points to nobody; the request goes straight to its server. */
    ck_assert_int_eq(setenv("http_proxy", "http://127.0.0.1:1/", 1), 0);
    ck_assert_int_eq(post(0, url, "{}", 5000), 0);
    run_to_done(1);
    ck_assert_int_eq(calls[0].result, 0);
}
END_TEST

START_TEST(a_failed_allocation_ends_the_request)
{
    /* The n-th of ours fails, for every n: the request is refused, or fails, or times out. */
    bool fired = true;

    for (uint64_t n = 1; fired; n++) {
        int before = calls_done;
        int rc;

        mem_fault_at(n);
        rc = post(0, url, "{}", 300);
        while (rc == 0 && calls_done == before) {
            loop_run_once(&loop, true);
        }
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_uint_lt(n, 50);
        if (!fired) {
            ck_assert_int_eq(rc, 0);
            ck_assert_int_eq(calls[0].result, 0);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/webhook");
    TCase *tc = tcase_create("webhook");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_request_is_posted_and_answered);
    tcase_add_test(tc, an_answer_may_come_byte_by_byte);
    tcase_add_test(tc, any_status_is_an_answer);
    tcase_add_test(tc, an_answer_has_a_limit);
    tcase_add_test(tc, a_server_that_says_nothing_is_given_up);
    tcase_add_test(tc, a_server_that_hangs_up_leaves_the_outcome_open);
    tcase_add_test(tc, nobody_listening_is_no_connection);
    tcase_add_test(tc, what_is_not_http_is_a_protocol_error);
    tcase_add_test(tc, only_web_addresses_are_taken);
    tcase_add_test(tc, more_than_the_limit_are_refused);
    tcase_add_test(tc, done_may_post_the_next_one);
    tcase_add_test(tc, freeing_gives_up_what_is_in_flight);
    tcase_add_test(tc, a_proxy_of_the_environment_is_not_asked);
    tcase_add_test(tc, a_failed_allocation_ends_the_request);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
