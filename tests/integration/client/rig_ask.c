/* One question to the broker on a connection of its own. */
#include "core/proto/body_inspect.h"
#include "core/proto/codes.h"
#include "core/proto/header.h"
#include "tests/integration/client/rig.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int rig_connect(const char *host_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    const char *colon = strrchr(host_port, ':');
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_ptr_nonnull(colon);
    ck_assert_int_ge(fd, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    addr.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    ck_assert_int_eq(connect(fd, (struct sockaddr *)(void *)&addr, sizeof addr), 0);
    return fd;
}

void rig_ask(const struct rig *r, struct rig_question *q)
{
    int fd = rig_connect(r->broker);
    struct frame frame;
    int rc = ESCROW_EAGAIN;

    ck_assert_int_eq(send(fd, q->frame.ptr, q->frame.len, MSG_NOSIGNAL), (ssize_t)q->frame.len);
    buf_clear(&q->frame);
    while (rc == ESCROW_EAGAIN) {
        uint8_t *room = buf_reserve(&q->frame, 4096);
        ssize_t n;
        ck_assert_ptr_nonnull(room);
        n = recv(fd, room, 4096, 0);
        ck_assert_int_gt(n, 0);
        buf_commit(&q->frame, (size_t)n);
        rc = frame_decode(buf_slice(&q->frame), &frame);
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(header_decode(&q->header, frame.type, frame.header), 0);
    ck_assert_int_eq(q->header.code, RESPONSE_SUCCESS);
    q->body = frame.body;
    (void)close(fd);
}

void rig_question_init(struct rig_question *q)
{
    buf_init(&q->frame, 0);
    header_init(&q->header);
}

void rig_question_fini(struct rig_question *q)
{
    header_fini(&q->header);
    buf_fini(&q->frame);
}

void rig_decide(const struct rig *r, const char *group, const char *id, enum txn_decision decision)
{
    struct header_out head = {.code = REQUEST_ESCROW_END_TRANSACTION, .opaque = 1};
    struct end_txn_request req = {
        .producer_group = slice_str(group), .decision = decision, .is_operator = true};
    struct end_txn_half half = {.transaction_id = slice_str(id), .offset = END_TXN_OFFSET_NONE};
    struct end_txn_answer answer;
    struct end_txn_result result;
    struct rig_question q;
    struct buf body;

    buf_init(&body, 0);
    end_txn_request_encode(&body, &req, &half, 1);
    rig_question_init(&q);
    ck_assert_int_eq(header_encode(&q.frame, HEADER_JSON, &head, buf_slice(&body)), 0);
    rig_ask(r, &q);
    ck_assert_int_eq(end_txn_answer_decode(q.body, &answer), 0);
    ck_assert(end_txn_next_result(&answer, &result));
    ck_assert_int_eq(result.error, 0);
    rig_question_fini(&q);
    buf_fini(&body);
}

/* The answer's text is borrowed from the question. */
static void ask_horizon(const struct rig *r, struct rig_question *q, struct txn_horizon *horizon)
{
    struct header_out head = {.code = REQUEST_ESCROW_TXN_HORIZON, .opaque = 1};

    rig_question_init(q);
    ck_assert_int_eq(header_encode(&q->frame, HEADER_JSON, &head, SLICE_EMPTY), 0);
    rig_ask(r, q);
    ck_assert_int_eq(txn_horizon_decode(q->body, horizon), 0);
}

int64_t rig_undecided(const struct rig *r)
{
    struct txn_horizon horizon;
    struct rig_question q;

    ask_horizon(r, &q, &horizon);
    rig_question_fini(&q);
    return (int64_t)horizon.undecided;
}

void rig_identity(const struct rig *r, char *dst, size_t size)
{
    struct txn_horizon horizon;
    struct rig_question q;

    ask_horizon(r, &q, &horizon);
    ck_assert_uint_lt(horizon.broker.len, size);
    (void)slice_to_cstr(horizon.broker, dst, size);
    rig_question_fini(&q);
}

int64_t rig_counter(const struct rig *r, const char *name)
{
    struct header_out head = {.code = REQUEST_ESCROW_STATUS, .opaque = 1};
    struct list_reader reader;
    struct metric_row row;
    struct rig_question q;
    int64_t value = -1;

    rig_question_init(&q);
    ck_assert_int_eq(header_encode(&q.frame, HEADER_JSON, &head, SLICE_EMPTY), 0);
    rig_ask(r, &q);
    ck_assert_int_eq(status_decode(q.body, &reader), 0);
    while (status_next(&reader, &row)) {
        if (slice_eq_str(row.name, name)) {
            value = (int64_t)row.value;
        }
    }
    rig_question_fini(&q);
    ck_assert_msg(value >= 0, "no counter %s", name);
    return value;
}

static int64_t queue_end(const struct rig *r, const char *topic, int32_t queue)
{
    struct header_out head = {.code = REQUEST_GET_MAX_OFFSET, .opaque = 1};
    struct header_writer w;
    struct rig_question q;
    int64_t offset = -1;

    rig_question_init(&q);
    header_begin(&w, &q.frame, HEADER_JSON, &head);
    header_put_str(&w, "topic", slice_str(topic));
    header_put_i64(&w, "queueId", queue);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    rig_ask(r, &q);
    ck_assert_int_eq(header_get_i64(&q.header, "offset", &offset), 0);
    rig_question_fini(&q);
    return offset;
}

int64_t rig_stored(const struct rig *r, const char *topic, int32_t queues)
{
    int64_t count = 0;

    for (int32_t i = 0; i < queues; i++) {
        count += queue_end(r, topic, i);
    }
    return count;
}
