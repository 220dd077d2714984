/*
 * Webhooks: curl's multi interface in its event-driven form. curl tells which sockets to watch
 * (on_socket) and when to call again (on_timer); the loop tells curl what happened (uv_poll,
 * loop_timer), and after each call finished transfers are taken out. A request's easy handle lives
 * from post to done; connections are kept by curl for the next request.
 *
 * curl must not be called from inside its own callbacks, and done may call webhook_post: so
 * finished transfers are taken out after curl_multi_socket_action has returned.
 */
#include "core/io_uv/webhook.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_TIMEOUT_SHARE 2 /* connecting may take this part of the whole time-out: 1/2 */
#define IDLE_CONNECTIONS_MAX  16

_Static_assert(WEBHOOK_ERROR_MAX >= CURL_ERROR_SIZE, "curl writes that much");

struct webhook {
    struct loop *loop;
    CURLM *multi;
    struct curl_slist *headers;
    struct loop_timer timer;
    struct list requests;
    struct list sockets;
    size_t in_flight;
    size_t concurrent_max;
    bool is_delivering; /* inside done */
};

/* One socket of curl's; freed when uv has closed its handle. */
struct webhook_socket {
    uv_poll_t uv;
    struct webhook *webhook;
    struct list node;
    curl_socket_t fd;
};

size_t webhook_in_flight(const struct webhook *w)
{
    return w->in_flight;
}

bool webhook_url_is_valid(const char *url)
{
    CURLU *parsed = curl_url();
    char *scheme = NULL;
    char *host = NULL;
    bool is_valid = false;

    if (parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        is_valid = (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) && host[0] != '\0';
    }
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(parsed);
    return is_valid;
}

/* ---- the end of a request ---- */

static int result_of(const struct webhook_request *req, CURLcode code)
{
    long sent = 0;

    if (code == CURLE_OK) {
        return 0;
    }
    if (req->is_too_big) {
        return ESCROW_ETOOBIG;
    }
    if (code == CURLE_OPERATION_TIMEDOUT) {
        return ESCROW_ETIMEOUT;
    }
    if (code == CURLE_OUT_OF_MEMORY || buf_failed(&req->answer)) {
        return ESCROW_ENOMEM;
    }
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST) {
        return ESCROW_ECONN;
    }
    CHECK(curl_easy_getinfo(req->easy, CURLINFO_REQUEST_SIZE, &sent) == CURLE_OK);
    if (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING ||
        code == CURLE_PARTIAL_FILE) {
        return sent > 0 ? ESCROW_ECLOSED : ESCROW_ECONN;
    }
    return ESCROW_EPROTO;
}

/* Take the request out of curl and tell its owner. */
static void request_finish(struct webhook_request *req, int result, const char *error)
{
    struct webhook *w = req->webhook;
    struct webhook_result out = {.result = result, .error = error};
    struct buf answer = req->answer;
    long status = 0;

    if (result == 0) {
        CHECK(curl_easy_getinfo(req->easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK);
        out.status = (int)status;
        out.body = buf_slice(&answer);
    }
    CHECK(curl_multi_remove_handle(w->multi, req->easy) == CURLM_OK);
    curl_easy_cleanup(req->easy);
    req->easy = NULL;
    list_remove(&req->node);
    CHECK(w->in_flight > 0);
    w->in_flight--;
    w->is_delivering = true;
    req->done(req, &out); /* may free req and post others */
    w->is_delivering = false;
    buf_fini(&answer);
}

static void take_finished(struct webhook *w)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(w->multi, &left)) != NULL) {
        struct webhook_request *req = NULL;
        char error[WEBHOOK_ERROR_MAX] = "";
        CURLcode code = msg->data.result;
        int result;

        CHECK(msg->msg == CURLMSG_DONE);
        CHECK(curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &req) == CURLE_OK);
        result = result_of(req, code);
        if (result != 0) {
            (void)snprintf(error, sizeof error, "%s",
                           req->error[0] != '\0' ? req->error
                                                 : curl_easy_strerror(code)); /* fits */
        }
        request_finish(req, result, error);
    }
}

/* ---- curl asks ---- */

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct webhook_request *req = arg;
    size_t len = size * count; /* size is 1, says curl */

    if (len > WEBHOOK_ANSWER_MAX - req->answer.len) {
        req->is_too_big = true;
        return 0; /* ends the transfer */
    }
    buf_append(&req->answer, data, len);
    return buf_failed(&req->answer) ? 0 : len;
}

static void act(struct webhook *w, curl_socket_t fd, int events)
{
    int running;

    CHECK(curl_multi_socket_action(w->multi, fd, events, &running) == CURLM_OK);
    take_finished(w);
}

static void on_due(void *arg)
{
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct webhook *w = arg;

    (void)multi;
    if (timeout_ms < 0) {
        loop_timer_stop(w->loop, &w->timer);
    } else {
        loop_timer_start(w->loop, &w->timer, (uint64_t)timeout_ms, 0, on_due, w);
    }
    return 0;
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct webhook_socket *s = poll->data;
    int flags = 0;

    flags |= (events & UV_READABLE) != 0 ? CURL_CSELECT_IN : 0;
    flags |= (events & UV_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
    flags |= status < 0 ? CURL_CSELECT_ERR : 0;
    act(s->webhook, s->fd, flags);
}

static void on_socket_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void socket_forget(struct webhook_socket *s)
{
    list_remove(&s->node);
    CHECK(uv_poll_stop(&s->uv) == 0); /* before curl closes the descriptor */
    uv_close((uv_handle_t *)&s->uv, on_socket_closed);
}

static struct webhook_socket *socket_new(struct webhook *w, curl_socket_t fd)
{
    struct webhook_socket *s = mem_calloc(1, sizeof *s);

    if (s == NULL) {
        return NULL;
    }
    if (uv_poll_init_socket(&w->loop->uv, &s->uv, fd) != 0) {
        mem_free(s);
        return NULL;
    }
    s->webhook = w;
    s->fd = fd;
    s->uv.data = s;
    list_push(&w->sockets, &s->node);
    return s;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct webhook *w = arg;
    struct webhook_socket *s = socket_arg;
    int events = 0;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s != NULL) {
            CHECK(curl_multi_assign(w->multi, fd, NULL) == CURLM_OK);
            socket_forget(s);
        }
        return 0;
    }
    if (s == NULL) {
        s = socket_new(w, fd);
        if (s == NULL) {
            return 0; /* unwatched: the request ends by its time-out */
        }
        CHECK(curl_multi_assign(w->multi, fd, s) == CURLM_OK);
    }
    events |= what != CURL_POLL_OUT ? UV_READABLE : 0;
    events |= what != CURL_POLL_IN ? UV_WRITABLE : 0;
    CHECK(uv_poll_start(&s->uv, events, on_ready) == 0);
    return 0;
}

/* ---- posting ---- */

/* curl_easy_setopt, remembering the first failure (out of memory: the options are constants). */
#define SET(rc, easy, option, value)                                                               \
    do {                                                                                           \
        if ((rc) == CURLE_OK) {                                                                    \
            (rc) = curl_easy_setopt((easy), (option), (value));                                    \
        }                                                                                          \
    } while (0)

static CURLcode request_set(struct webhook_request *req, const char *url, struct slice body,
                            uint64_t timeout_ms)
{
    CURL *easy = req->easy;
    CURLcode rc = CURLE_OK;

    SET(rc, easy, CURLOPT_URL, url);
    SET(rc, easy, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(rc, easy, CURLOPT_FOLLOWLOCATION, 0L);
    SET(rc, easy, CURLOPT_PROXY, ""); /* not what http_proxy says */
    SET(rc, easy, CURLOPT_NOSIGNAL, 1L);
    SET(rc, easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    SET(rc, easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(timeout_ms / CONNECT_TIMEOUT_SHARE + 1));
    SET(rc, easy, CURLOPT_HTTPHEADER, req->webhook->headers);
    SET(rc, easy, CURLOPT_USERAGENT, "escrow");
    SET(rc, easy, CURLOPT_POST, 1L);
    SET(rc, easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
    SET(rc, easy, CURLOPT_COPYPOSTFIELDS,
        (const char *)(body.len > 0 ? body.ptr : (const uint8_t *)""));
    SET(rc, easy, CURLOPT_WRITEFUNCTION, on_body);
    SET(rc, easy, CURLOPT_WRITEDATA, req);
    SET(rc, easy, CURLOPT_ERRORBUFFER, req->error);
    SET(rc, easy, CURLOPT_PRIVATE, req);
    return rc;
}

int webhook_post(struct webhook *w, struct webhook_request *req, const char *url, struct slice body,
                 uint64_t timeout_ms, webhook_done_fn *done)
{
    void *arg = req->arg;

    DCHECK_THREAD(w->loop);
    CHECK(timeout_ms > 0 && timeout_ms <= INT32_MAX);
    if (!webhook_url_is_valid(url)) {
        return ESCROW_EINVAL;
    }
    if (w->in_flight == w->concurrent_max) {
        return ESCROW_ELIMIT;
    }
    *req = (struct webhook_request){.webhook = w, .done = done, .arg = arg};
    list_init(&req->node);
    buf_init(&req->answer, WEBHOOK_ANSWER_MAX);
    req->easy = curl_easy_init();
    if (req->easy == NULL) {
        return ESCROW_ENOMEM;
    }
    if (request_set(req, url, body, timeout_ms) != CURLE_OK ||
        curl_multi_add_handle(w->multi, req->easy) != CURLM_OK) {
        curl_easy_cleanup(req->easy);
        req->easy = NULL;
        return ESCROW_ENOMEM;
    }
    list_push(&w->requests, &req->node);
    w->in_flight++;
    return 0;
}

/* ---- life ---- */

int webhook_new(struct loop *l, size_t concurrent_max, struct webhook **out)
{
    struct webhook *w;

    DCHECK_THREAD(l);
    CHECK(concurrent_max > 0);
    *out = NULL;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) { /* counted: once per webhook_free */
        return ESCROW_ENOMEM;
    }
    w = mem_calloc(1, sizeof *w);
    if (w == NULL) {
        curl_global_cleanup();
        return ESCROW_ENOMEM;
    }
    w->loop = l;
    w->concurrent_max = concurrent_max;
    list_init(&w->requests);
    list_init(&w->sockets);
    w->multi = curl_multi_init();
    w->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (w->headers != NULL) {
        /* No "Expect: 100-continue": our bodies are small, and the wait would be for nothing. */
        struct curl_slist *more = curl_slist_append(w->headers, "Expect:");

        if (more == NULL) {
            curl_slist_free_all(w->headers);
        }
        w->headers = more;
    }
    if (w->multi == NULL || w->headers == NULL) {
        webhook_free(w);
        return ESCROW_ENOMEM;
    }
    CHECK(curl_multi_setopt(w->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK);
    CHECK(curl_multi_setopt(w->multi, CURLMOPT_SOCKETDATA, w) == CURLM_OK);
    CHECK(curl_multi_setopt(w->multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK);
    CHECK(curl_multi_setopt(w->multi, CURLMOPT_TIMERDATA, w) == CURLM_OK);
    CHECK(curl_multi_setopt(w->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS_MAX) ==
          CURLM_OK);
    *out = w;
    return 0;
}

void webhook_free(struct webhook *w)
{
    if (w == NULL) {
        return;
    }
    DCHECK_THREAD(w->loop);
    CHECK(!w->is_delivering);
    w->concurrent_max = 0; /* done may not post from here */
    while (!list_is_empty(&w->requests)) {
        request_finish(LIST_ENTRY(w->requests.next, struct webhook_request, node), ESCROW_ESHUTDOWN,
                       escrow_strerror(ESCROW_ESHUTDOWN));
    }
    if (w->multi != NULL) {
        CHECK(curl_multi_cleanup(w->multi) ==
              CURLM_OK); /* closes idle connections: on_socket is called */
    }
    while (!list_is_empty(&w->sockets)) {
        socket_forget(LIST_ENTRY(w->sockets.next, struct webhook_socket, node));
    }
    loop_timer_stop(w->loop, &w->timer);
    curl_slist_free_all(w->headers);
    mem_free(w);
    curl_global_cleanup();
}
