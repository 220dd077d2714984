/*
 * Happy path: request line and headers make a struct http_request; the body is collected; the
 * question goes to the checker and the connection is suspended; the answer resumes it, and
 * libmicrohttpd calls again to be given the response.
 */
#include "outbox/pg/check_http.h"

#include "core/base/buf.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/slice.h"
#include "escrow/errors.h"
#include "outbox/pg/check_json.h"

#include <microhttpd.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* system/timeline/name, and a NUL */
#define CHECK_IDENTITY_MAX (20 + 1 + 11 + 1 + CHECK_NAME_MAX + 1)

struct http_request {
    struct check_http *http;
    struct MHD_Connection *connection;
    struct check_question q; /* q.arg points back */
    char nonce[CHECK_NONCE_MAX + 1];
    struct buf body;
    unsigned status; /* 0: not decided yet */
    bool is_asked;
    bool is_health;
};

struct check_http {
    struct loop *loop;
    struct checker *checker;
    struct MHD_Daemon *daemon;
    uv_poll_t *poll;
    struct loop_timer timer;
    struct loop_deferred work;
    uint16_t port;
    bool has_explained;
    char explained[CHECK_IDENTITY_MAX]; /* the other database that was last spoken of */
};

static void on_work(void *arg);

/* Let libmicrohttpd do what it has to, and find out when it wants to again. */
static void run(struct check_http *h)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;

    (void)MHD_run(h->daemon); /* MHD_NO: not external polling, which it is */
    if (MHD_get_timeout(h->daemon, &timeout_ms) == MHD_YES) {
        loop_timer_start(h->loop, &h->timer, timeout_ms, 0, on_work, h);
    } else {
        loop_timer_stop(h->loop, &h->timer);
    }
}

static void on_work(void *arg)
{
    run(arg);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    (void)status; /* libmicrohttpd finds out for itself */
    (void)events;
    run(handle->data);
}

static enum MHD_Result respond(struct http_request *req)
{
    struct MHD_Response *response;
    struct buf text;
    enum MHD_Result result;

    buf_init(&text, 0);
    if (req->status != MHD_HTTP_OK) {
        buf_append_fmt(&text, "{\"error\":\"%s\"}", MHD_get_reason_phrase_for(req->status));
    } else if (req->is_health) {
        buf_append_str(&text, "{\"status\":\"up\"}");
    } else {
        check_json_encode(&text, req->q.txn_id, req->nonce, req->q.state);
    }
    if (buf_failed(&text)) {
        buf_fini(&text);
        return MHD_NO; /* closes the connection: no answer */
    }
    response = MHD_create_response_from_buffer(text.len, text.ptr, MHD_RESPMEM_MUST_COPY);
    buf_fini(&text);
    if (response == NULL) {
        return MHD_NO;
    }
    result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    if (result == MHD_YES) {
        result = MHD_queue_response(req->connection, req->status, response);
    }
    MHD_destroy_response(response);
    return result;
}

/*
 * A half that this database can never know stays undecided, and only a person can tell why. Once
 * for each other database in a row; brokers ask about the same half again and again.
 */
static void explain(struct check_http *h, const struct check_question *q)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    char identity[CHECK_IDENTITY_MAX] = "";

    if (q->system_id[0] != '\0') {
        (void)snprintf(identity, sizeof identity, "%s/%s/%s", q->system_id, q->timeline,
                       q->database); /* fits */
    }
    if (h->has_explained && strcmp(identity, h->explained) == 0) {
        return;
    }
    h->has_explained = true;
    memcpy(h->explained, identity, sizeof identity);
    if (identity[0] == '\0') {
        log_peer_warn(
            "relay.check.not_mine",
            "asked about a transaction of no database: only its producers can answer, or a "
            "person (escrow decide)");
    } else if (q->database[strspn(q->database, plain)] != '\0') {
        log_peer_warn(
            "relay.check.not_mine",
            "asked about a transaction of another database, system %s, timeline %s: it "
            "stays undecided until that one is asked, or a person decides (escrow decide)",
            q->system_id, q->timeline);
    } else {
        log_peer_warn(
            "relay.check.not_mine",
            "asked about a transaction of another database, %s: it stays undecided. If this "
            "database is that one, restored, promoted or renamed, run in it: SELECT "
            "escrow.lineage_add('%s', %s, '%s'); if not, the broker's callback for that "
            "producer group has to lead to that one's relay",
            identity, q->system_id, q->timeline, q->database);
    }
}

static void on_answered(struct check_question *q)
{
    struct http_request *req = q->arg;
    struct check_http *h = req->http;

    req->status = q->code == 0 ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    if (q->code == 0 && q->state == CHECK_STATE_NOT_MINE) {
        explain(h, q);
    }
    MHD_resume_connection(req->connection);
    loop_defer(h->loop, &h->work);
}

/* What can be refused from the request line alone. */
static unsigned judge(struct http_request *req, const char *url, const char *method)
{
    if (strcmp(url, "/health") == 0) {
        req->is_health = true;
        return strcmp(method, "GET") == 0 ? MHD_HTTP_OK : MHD_HTTP_METHOD_NOT_ALLOWED;
    }
    if (strcmp(url, "/check") != 0) {
        return MHD_HTTP_NOT_FOUND;
    }
    return strcmp(method, "POST") == 0 ? 0 : MHD_HTTP_METHOD_NOT_ALLOWED;
}

static enum MHD_Result begin(struct check_http *h, struct MHD_Connection *connection,
                             const char *url, const char *method, void **state)
{
    struct http_request *req = mem_calloc(1, sizeof *req);

    if (req == NULL) {
        return MHD_NO;
    }
    req->http = h;
    req->connection = connection;
    req->q.cb = on_answered;
    req->q.arg = req;
    buf_init(&req->body, CHECK_JSON_MAX);
    req->status = judge(req, url, method);
    *state = req;
    return MHD_YES;
}

/* NOLINTNEXTLINE(readability-function-size): the parameters are libmicrohttpd's. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **state)
{
    struct check_http *h = arg;
    struct http_request *req = *state;

    (void)version;
    if (req == NULL) {
        return begin(h, connection, url, method, state);
    }
    if (*data_len > 0) {
        if (req->status == 0) {
            buf_append(&req->body, data, *data_len);
            if (buf_failed(&req->body)) {
                req->status = MHD_HTTP_CONTENT_TOO_LARGE;
            }
        }
        *data_len = 0;
        return MHD_YES;
    }
    if (req->status == 0 && !req->is_asked) {
        if (check_json_decode(buf_slice(&req->body), &req->q, req->nonce) != 0) {
            req->status = MHD_HTTP_BAD_REQUEST;
        } else {
            req->is_asked = true;
            MHD_suspend_connection(connection);
            check_ask(h->checker, &req->q);
            return MHD_YES;
        }
    }
    return req->status == 0 ? MHD_YES : respond(req);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    struct http_request *req = *state;

    (void)arg;
    (void)connection;
    (void)code;
    if (req != NULL) {
        CHECK(!req->is_asked || req->status != 0); /* a suspended connection does not end */
        buf_fini(&req->body);
        mem_free(req);
        *state = NULL;
    }
}

/* "host:port"; host numeric. */
static bool parse_address(const char *text, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)out;
    const char *colon = strrchr(text, ':');
    char host[64];
    int32_t port;
    size_t len;

    if (colon == NULL || !slice_to_i32(slice_str(colon + 1), &port) || port < 0 ||
        port > UINT16_MAX) {
        return false;
    }
    len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    (void)slice_to_cstr(slice_of(text, len), host, sizeof host);
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        return true;
    }
    return false;
}

static int start_daemon(struct check_http *h, const char *address, struct err_ctx *err)
{
    struct sockaddr_storage addr;
    const union MHD_DaemonInfo *info;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME;

    if (!parse_address(address, &addr)) {
        return err_set(err, ESCROW_ECONFIG, "'%s' is not ADDRESS:PORT with a numeric address",
                       address);
    }
    if (addr.ss_family == AF_INET6) {
        flags |= MHD_USE_IPv6;
    }
    h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_SOCK_ADDR, &addr,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)CHECK_HTTP_CONNECTIONS_MAX,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CHECK_HTTP_IDLE_S,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
                                 MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    if (h->daemon == NULL) {
        return err_set_errno(err, errno, "listen on %s", address);
    }
    info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    h->port = info == NULL ? 0 : info->port;
    info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL || uv_poll_init(&h->loop->uv, h->poll, info->epoll_fd) != 0) {
        return err_set(err, ESCROW_EIO, "listen on %s: no descriptor to wait for", address);
    }
    h->poll->data = h;
    return 0;
}

static void poll_closed(uv_handle_t *handle)
{
    mem_free(handle);
}

int check_http_new(struct loop *l, struct checker *checker, const char *address,
                   struct check_http **out, struct err_ctx *err)
{
    struct check_http *h = mem_calloc(1, sizeof *h);
    int rc;

    *out = NULL;
    if (h == NULL) {
        return err_set(err, ESCROW_ENOMEM, "out of memory");
    }
    h->loop = l;
    h->checker = checker;
    loop_deferred_init(&h->work, on_work, h);
    h->poll = mem_calloc(1, sizeof *h->poll); /* outlives h until libuv has closed it */
    if (h->poll == NULL) {
        mem_free(h);
        return err_set(err, ESCROW_ENOMEM, "out of memory");
    }
    rc = start_daemon(h, address, err);
    if (rc != 0) {
        if (h->daemon != NULL) {
            MHD_stop_daemon(h->daemon);
        }
        mem_free(h->poll);
        mem_free(h);
        return rc;
    }
    CHECK(uv_poll_start(h->poll, UV_READABLE, on_poll) == 0);
    *out = h;
    return 0;
}

uint16_t check_http_port(const struct check_http *h)
{
    return h->port;
}

void check_http_free(struct check_http *h)
{
    if (h == NULL) {
        return;
    }
    (void)MHD_run(h->daemon); /* sends what was answered last */
    CHECK(uv_poll_stop(h->poll) == 0);
    uv_close((uv_handle_t *)h->poll, poll_closed);
    loop_timer_stop(h->loop, &h->timer);
    loop_deferred_cancel(&h->work);
    MHD_stop_daemon(h->daemon);
    mem_free(h);
}
