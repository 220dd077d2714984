#include "tests/integration/broker/http_stub.h"

#include "tests/lib/broker_fixture.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Value of "key":"value" in a flat JSON text. */
static void text_field(const char *json, const char *key, char *dst, size_t size)
{
    char pattern[64];
    const char *at;
    size_t len;

    (void)snprintf(pattern, sizeof pattern, "\"%s\":\"", key); /* fits */
    at = strstr(json, pattern);
    dst[0] = '\0';
    if (at != NULL) {
        at += strlen(pattern);
        len = strcspn(at, "\"");
        (void)snprintf(dst, size, "%.*s", (int)len, at); /* cut: the answer is then wrong */
    }
}

static int compose(const struct http_stub *s, enum http_stub_mode mode, char *dst, size_t size)
{
    static const char *const states[STUB_MODE_COUNT] = {
        [STUB_COMMIT] = "commit",           [STUB_ROLLBACK] = "rollback",
        [STUB_IN_PROGRESS] = "in_progress", [STUB_UNKNOWN] = "unknown",
        [STUB_NOT_MINE] = "not_mine",       [STUB_WRONG_NONCE] = "commit",
        [STUB_WRONG_ID] = "commit",         [STUB_WRONG_STATE] = "COMMITTED",
        [STUB_STATUS_500] = "commit",       [STUB_CUT] = "commit",
    };
    char id[200];
    char nonce[64];
    char body[512];

    text_field(s->request, "transactionId", id, sizeof id);
    text_field(s->request, "nonce", nonce, sizeof nonce);
    if (mode == STUB_WRONG_NONCE) {
        nonce[0] = nonce[0] == '0' ? '1' : '0';
    }
    if (mode == STUB_WRONG_ID) {
        id[0] = '?';
    }
    if (mode == STUB_GARBAGE) {
        (void)snprintf(body, sizeof body, "commit"); /* fits */
    } else {
        (void)snprintf(body, sizeof body,
                       "{\"transactionId\":\"%s\",\"nonce\":\"%s\",\"state\":\"%s\"}", id, nonce,
                       states[mode]); /* fits */
    }
    return snprintf(dst, size,
                    "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                    "Connection: close\r\n\r\n%s",
                    mode == STUB_STATUS_500 ? "500 Oops" : "200 OK", strlen(body), body);
}

/* Read one request; its body into s->request. */
static bool read_request(struct http_stub *s, int fd)
{
    char text[8192];
    size_t len = 0;

    while (len < sizeof text - 1) {
        ssize_t n = recv(fd, text + len, sizeof text - 1 - len, 0);
        const char *end;
        const char *length;
        if (n <= 0) {
            return false;
        }
        len += (size_t)n;
        text[len] = '\0';
        end = strstr(text, "\r\n\r\n");
        length = strcasestr(text, "Content-Length:");
        if (end != NULL && length != NULL && strlen(end + 4) >= strtoul(length + 15, NULL, 10)) {
            (void)snprintf(s->request, sizeof s->request, "%.4000s", end + 4); /* fits */
            return true;
        }
    }
    return false;
}

static void serve(struct http_stub *s, int fd)
{
    enum http_stub_mode mode;
    char answer[1024];
    int len;

    if (!read_request(s, fd)) {
        return;
    }
    mode = (enum http_stub_mode)s->mode;
    len = compose(s, mode == STUB_SILENT ? STUB_COMMIT : mode, answer, sizeof answer);
    if (mode == STUB_SILENT) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        (void)poll(&p, 1, 5000); /* until the broker gives up */
    } else {
        (void)send(fd, answer, (size_t)(mode == STUB_CUT ? len - 5 : len), MSG_NOSIGNAL);
    }
    s->asked[mode]++;
}

static void *run(void *arg)
{
    struct http_stub *s = arg;

    while (!s->is_stopping) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        int fd;
        if (poll(&p, 1, 20) <= 0) {
            continue;
        }
        fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            serve(s, fd);
            (void)close(fd);
        }
    }
    return NULL;
}

void http_stub_start(struct http_stub *s, enum http_stub_mode mode)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(s->port)};
    socklen_t len = sizeof addr;
    int one = 1;

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->mode = (int)mode;
    s->is_stopping = 0;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(s->fd, 0);
    ck_assert_int_eq(setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
    ck_assert_int_eq(bind(s->fd, (struct sockaddr *)&addr, sizeof addr), 0);
    ck_assert_int_eq(listen(s->fd, 64), 0);
    ck_assert_int_eq(getsockname(s->fd, (struct sockaddr *)&addr, &len), 0);
    s->port = ntohs(addr.sin_port);
    ck_assert_int_eq(pthread_create(&s->thread, NULL, run, s), 0);
}

void http_stub_stop(struct http_stub *s)
{
    s->is_stopping = 1;
    ck_assert_int_eq(pthread_join(s->thread, NULL), 0);
    (void)close(s->fd);
}

void http_stub_expect(struct http_stub *s, enum http_stub_mode mode, int count)
{
    int64_t deadline_ms = test_now_ms() + 2 * BROKER_WAIT_MS;
    int before = s->asked[mode];

    s->mode = (int)mode;
    while (s->asked[mode] < before + count) {
        test_await(-1, deadline_ms, "check-backs in this mode");
    }
}
