#include "tests/integration/client/end_proxy.h"

#include "core/proto/body_end_txn.h"
#include "core/proto/codes.h"
#include "core/proto/frame.h"
#include "tests/integration/client/forward.h"
#include "tests/integration/client/rig.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 65536

/* Answer the request that p->header and `req` are of. */
static void say(struct end_proxy *p, int client, struct end_txn_request *req)
{
    struct header_out head = {
        .code = RESPONSE_SUCCESS, .opaque = p->header.opaque, .flag = HEADER_FLAG_RESPONSE};
    bool is_short = p->mischief == END_SAY_TOO_LITTLE;
    uint32_t count = is_short ? req->half_count - 1 : req->half_count;
    struct end_txn_half half;
    struct buf body;
    struct buf out;

    buf_init(&body, 0);
    buf_init(&out, 0);
    end_txn_answer_begin(&body, count);
    for (uint32_t i = 0; i < count; i++) {
        struct end_txn_result result = {.error = is_short ? 0 : ESCROW_ECONFLICT,
                                        .decided = is_short ? TXN_COMMIT : TXN_NONE};
        NEED(end_txn_next_half(req, &half));
        result.transaction_id = half.transaction_id;
        end_txn_answer_put(&body, &result);
    }
    NEED(header_encode(&out, HEADER_JSON, &head, buf_slice(&body)) == 0);
    (void)forward(client, out.ptr, out.len); /* whether it is still there says its next read */
    buf_fini(&out);
    buf_fini(&body);
}

enum verdict { PASS, SWALLOW, CUT };

static enum verdict on_request(struct end_proxy *p, int client, struct slice body)
{
    struct end_txn_request req;

    if (p->header.code != REQUEST_ESCROW_END_TRANSACTION) {
        return PASS;
    }
    NEED(end_txn_request_decode(body, &req) == 0);
    NEED(p->count < END_PROXY_REQUESTS_MAX);
    p->halves[p->count++] = req.half_count;
    if (p->count != p->at || p->mischief == END_NONE) {
        return PASS;
    }
    if (p->mischief == END_CUT_ANSWER) {
        p->cut_opaque = p->header.opaque;
        return PASS;
    }
    p->is_done = true;
    if (p->mischief == END_CUT_REQUEST) {
        return CUT;
    }
    say(p, client, &req);
    return SWALLOW;
}

static enum verdict on_answer(struct end_proxy *p)
{
    if (p->cut_opaque == 0 || p->header.opaque != p->cut_opaque ||
        !header_is_response(&p->header)) {
        return PASS;
    }
    p->cut_opaque = 0;
    p->is_done = true;
    return CUT;
}

/* Pass on whole frames; false when the connection is to end. */
static bool pass(struct end_proxy *p, int from, int to, bool is_client)
{
    struct buf *in = is_client ? &p->from_client : &p->from_broker;
    uint8_t *room = buf_reserve(in, READ_BYTES);
    struct frame frame;
    ssize_t n;

    NEED(room != NULL);
    n = recv(from, room, READ_BYTES, 0);
    if (n <= 0) {
        return n < 0 && errno == EINTR;
    }
    buf_commit(in, (size_t)n);
    while (frame_decode(buf_slice(in), &frame) == 0) {
        enum verdict verdict;
        NEED(header_decode(&p->header, frame.type, frame.header) == 0);
        verdict = is_client ? on_request(p, from, frame.body) : on_answer(p);
        if (verdict == CUT || (verdict == PASS && !forward(to, in->ptr, frame.size))) {
            return false;
        }
        buf_consume(in, frame.size);
    }
    return true;
}

/* false: the test is over. */
static bool serve(struct end_proxy *p, int client)
{
    int broker = rig_connect(p->broker);
    struct pollfd fds[3] = {{.fd = p->stop_fd, .events = POLLIN},
                            {.fd = client, .events = POLLIN},
                            {.fd = broker, .events = POLLIN}};
    bool is_open = true;

    buf_clear(&p->from_client);
    buf_clear(&p->from_broker);
    while (is_open && fds[0].revents == 0) {
        NEED(poll(fds, 3, -1) > 0 || errno == EINTR);
        if (fds[1].revents != 0) {
            is_open = pass(p, client, broker, true);
        }
        if (is_open && fds[2].revents != 0) {
            is_open = pass(p, broker, client, false);
        }
    }
    (void)close(broker);
    (void)close(client);
    return fds[0].revents == 0;
}

static void *run(void *arg)
{
    struct end_proxy *p = arg;
    struct pollfd fds[2] = {{.fd = p->stop_fd, .events = POLLIN},
                            {.fd = p->listen_fd, .events = POLLIN}};
    bool is_open = true;

    while (is_open) {
        NEED(poll(fds, 2, -1) > 0 || errno == EINTR);
        is_open = fds[0].revents == 0;
        if (is_open && fds[1].revents != 0) {
            int client = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);
            NEED(client >= 0);
            is_open = serve(p, client);
        }
    }
    return NULL;
}

void end_proxy_start(struct end_proxy *p, const char *broker, enum end_mischief mischief, size_t at)
{
    struct black_hole hole;

    black_hole_open(&hole); /* a socket that listens is how this begins too */
    *p = (struct end_proxy){.listen_fd = hole.fd, .mischief = mischief, .at = at};
    (void)snprintf(p->addr, sizeof p->addr, "%s", hole.addr);
    (void)snprintf(p->broker, sizeof p->broker, "%s", broker);
    header_init(&p->header);
    buf_init(&p->from_client, 0);
    buf_init(&p->from_broker, 0);
    p->stop_fd = eventfd(0, EFD_CLOEXEC);
    ck_assert_int_ge(p->stop_fd, 0);
    ck_assert_int_eq(pthread_create(&p->thread, NULL, run, p), 0);
}

void end_proxy_stop(struct end_proxy *p)
{
    uint64_t one = 1;

    ck_assert_int_eq(write(p->stop_fd, &one, sizeof one), sizeof one);
    ck_assert_int_eq(pthread_join(p->thread, NULL), 0);
    (void)close(p->listen_fd);
    (void)close(p->stop_fd);
    buf_fini(&p->from_client);
    buf_fini(&p->from_broker);
    header_fini(&p->header);
}
