/* Connections to an address: what calls are told. */
#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/proto/frame.h"
#include "core/proto/header.h"
#include "escrow/errors.h"
#include "src/client/remote.h"
#include "tests/unit/src/client/client_main.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct rig {
    struct loop loop;
    struct remote remote;
    char addr[REMOTE_ADDR_MAX];
    int listen_fd; /* the kernel connects whoever comes; who answers is the test's business */
    bool is_up;
    int ended;
    int error;
};

static void on_state(void *arg, const char *addr, bool is_open)
{
    (void)addr;
    ((struct rig *)arg)->is_up = is_open;
}

static void on_done(struct remote_call *call, int error, struct header *header, struct slice body)
{
    struct rig *r = call->arg;

    (void)header;
    (void)body;
    r->ended++;
    r->error = error;
}

static void rig_start(struct rig *r, enum remote_encoding encoding)
{
    struct remote_options options;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;

    *r = (struct rig){.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    ck_assert_int_ge(r->listen_fd, 0);
    ck_assert_int_eq(fcntl(r->listen_fd, F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(bind(r->listen_fd, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(listen(r->listen_fd, 8), 0);
    ck_assert_int_eq(getsockname(r->listen_fd, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(r->addr, sizeof r->addr, "127.0.0.1:%u", (unsigned)ntohs(at.sin_port));
    ck_assert_int_eq(loop_init(&r->loop), 0);
    remote_options_init(&options);
    options.encoding = encoding;
    options.on_state = on_state;
    options.arg = r;
    ck_assert_int_eq(remote_init(&r->remote, &r->loop, (struct hash_key){.k0 = 1}, &options), 0);
}

static void rig_stop(struct rig *r)
{
    remote_fini(&r->remote);
    loop_fini(&r->loop);
    ck_assert_int_eq(close(r->listen_fd), 0);
    ck_assert_int_eq(mem_live_count(), 0);
}

START_TEST(a_connection_that_is_being_closed_is_no_lack_of_memory)
{
    /* Between the close and its callback nothing can be written: there is no connection. */
    struct rig r;
    struct remote_call call = {.arg = &r};
    struct remote_request req = {.code = 34, .timeout_ms = 60000};
    struct answer_to to = {.opaque = 1};

    rig_start(&r, REMOTE_JSON); /* no question first */
    req.addr = r.addr;
    ck_assert_int_eq(remote_oneway(&r.remote, &req), ESCROW_ECONN); /* connects */
    while (!r.is_up) {
        loop_run_once(&r.loop, true);
    }
    ck_assert_int_eq(remote_oneway(&r.remote, &req), 0);
    remote_disconnect(&r.remote, r.addr);
    remote_call(&r.remote, &call, &req, on_done);
    ck_assert_int_eq(remote_oneway(&r.remote, &req), ESCROW_ECONN);
    ck_assert_int_eq(remote_answer(&r.remote, r.addr, to, 0, SLICE_EMPTY, SLICE_EMPTY),
                     ESCROW_ECONN);
    ck_assert(r.is_up); /* nobody was told yet */
    while (r.ended == 0 || r.is_up) {
        loop_run_once(&r.loop, true);
    }
    ck_assert_int_eq(r.error, ESCROW_ECONN);
    ck_assert_int_eq(r.ended, 1);
    rig_stop(&r);
}
END_TEST

/* The next frame that came, if one has; its length, 0: none yet. */
static size_t peek_frame(int fd, uint8_t *frame, size_t size)
{
    ssize_t got = recv(fd, frame, size, MSG_PEEK | MSG_DONTWAIT);
    size_t len;

    if (got < 4) {
        return 0;
    }
    len = 4 + (size_t)get_be32(frame);
    ck_assert_uint_le(len, size);
    return (size_t)got < len ? 0 : len;
}

/* The request's code and opaque, as they stand in its JSON header. */
static void read_request(const uint8_t *frame, size_t len, int *code, int *opaque)
{
    struct frame parts;
    struct header header;

    ck_assert_int_eq(frame_decode(slice_of(frame, len), &parts), 0);
    header_init(&header);
    ck_assert_int_eq(header_decode(&header, parts.type, parts.header), 0);
    *code = header.code;
    *opaque = header.opaque;
    header_fini(&header);
}

static void answer(int fd, int32_t code, int32_t opaque)
{
    struct header_out head = {.code = code, .opaque = opaque, .flag = HEADER_FLAG_RESPONSE};
    struct header_writer w;
    struct buf out;

    buf_init(&out, 0);
    header_begin(&w, &out, HEADER_JSON, &head);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    ck_assert_int_eq(send(fd, out.ptr, out.len, MSG_NOSIGNAL), (ssize_t)out.len);
    buf_fini(&out);
}

START_TEST(a_server_that_is_silent_about_what_it_does_not_know_is_spoken_to)
{
    /*
     * RocketMQ's name servers of 4.x drop requests that they do not know. The question what they
     * are goes unanswered, the one behind it is answered, and calls go on in JSON.
     */
    struct rig r;
    struct remote_call call = {.arg = &r};
    struct remote_request req = {.code = 106, .timeout_ms = 60000};
    uint8_t frame[4096];
    int unknown = 0;
    int fd;

    rig_start(&r, REMOTE_AUTO);
    req.addr = r.addr;
    remote_call(&r.remote, &call, &req, on_done);
    while ((fd = accept4(r.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) < 0) {
        loop_run_once(&r.loop, false);
    }
    while (r.ended == 0) {
        size_t len = peek_frame(fd, frame, sizeof frame);
        int code;
        int opaque;
        loop_run_once(&r.loop, false);
        if (len == 0) {
            continue;
        }
        ck_assert_int_eq(recv(fd, frame, len, 0), (ssize_t)len);
        read_request(frame, len, &code, &opaque);
        if (code > 30000) {
            unknown++;
        } else {
            answer(fd, code == 101 ? 22 : 0, opaque);
        }
    }
    ck_assert_int_eq(r.error, 0);
    ck_assert_int_eq(unknown, 1);
    ck_assert(r.is_up);
    ck_assert(!remote_is_escrowd(&r.remote, r.addr));
    ck_assert_int_eq(close(fd), 0);
    rig_stop(&r);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_connection_that_is_being_closed_is_no_lack_of_memory,
        a_server_that_is_silent_about_what_it_does_not_know_is_spoken_to,
    };

    return client_main("client_remote", tests, sizeof tests / sizeof tests[0]);
}
