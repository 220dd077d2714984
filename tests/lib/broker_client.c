#include "tests/lib/broker_client.h"

#include "core/proto/body_heartbeat.h"
#include "core/proto/body_inspect.h"
#include "core/proto/properties.h"
#include "core/proto/send_request.h"
#include "escrow/errors.h"
#include "tests/lib/broker_fixture.h"

#include <check.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int client_try_open(struct client *c, uint16_t port, enum header_type type)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;

    *c = (struct client){.type = type, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    ck_assert_int_ge(c->fd, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(c->fd, (struct sockaddr *)&addr, sizeof addr) != 0) {
        (void)close(c->fd);
        c->fd = -1;
        return ESCROW_ECONN;
    }
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* slower without */
    buf_init(&c->in, 0);
    buf_init(&c->out, 0);
    header_init(&c->header);
    return 0;
}

void client_open(struct client *c, uint16_t port, enum header_type type)
{
    ck_assert_int_eq(client_try_open(c, port, type), 0);
}

void client_close(struct client *c)
{
    if (c->fd >= 0) {
        (void)close(c->fd);
        c->fd = -1;
        buf_fini(&c->in);
        buf_fini(&c->out);
        header_fini(&c->header);
    }
}

/* ---- frames ---- */

struct header_writer *client_begin(struct client *c, int32_t code, int32_t flag)
{
    struct header_out head = {.code = code, .opaque = ++c->opaque, .flag = flag};

    header_begin(&c->w, &c->out, c->type, &head);
    return &c->w;
}

/* Write the request anew, with the two fields of access control. */
static void sign(struct client *c, struct slice body)
{
    struct header_out head = c->w.head;
    struct frame frame;
    char signature[SIGN_TEXT_LEN + 1];
    size_t start = c->w.start;
    struct buf plain;

    buf_init(&plain, 0);
    header_put_str(&c->w, SIGN_FIELD_ACCESS_KEY, slice_str(c->access_key));
    header_end(&c->w);
    ck_assert_int_eq(header_frame_end(&c->w, 0), 0);
    buf_append(&plain, c->out.ptr + start, c->out.len - start);
    c->out.len = start;
    ck_assert_int_eq(frame_decode(buf_slice(&plain), &frame), 0);
    ck_assert_int_eq(header_decode(&c->header, frame.type, frame.header), 0);
    ck_assert_int_eq(signer_sign(c->signer, &c->header, body, signature), 0);
    header_begin(&c->w, &c->out, c->type, &head);
    for (uint32_t i = 0; i < c->header.field_count; i++) {
        const struct header_field *f = header_field_at(&c->header, i);
        header_put_slice(&c->w, f->key, f->value);
    }
    header_put_str(&c->w, SIGN_FIELD_SIGNATURE, slice_str(signature));
    buf_fini(&plain);
}

void client_finish(struct client *c, struct slice body)
{
    if (c->signer != NULL) {
        sign(c, body);
    }
    header_end(&c->w);
    buf_append_slice(&c->out, body);
    ck_assert_int_eq(header_frame_end(&c->w, 0), 0);
}

int client_raw(struct client *c, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len > 0) {
        ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return ESCROW_ECLOSED;
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int client_flush(struct client *c)
{
    int rc = client_raw(c, c->out.ptr, c->out.len);

    buf_clear(&c->out);
    return rc;
}

void client_submit(struct client *c, struct slice body)
{
    client_finish(c, body);
    ck_assert_int_eq(client_flush(c), 0);
}

/* More bytes into c->in: 0, ESCROW_ECLOSED, ESCROW_ETIMEOUT. */
static int receive_more(struct client *c, int64_t deadline_ms)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    int64_t left_ms = deadline_ms - test_now_ms();
    uint8_t *room;
    ssize_t n;

    buf_consume(&c->in, c->used);
    c->used = 0;
    if (poll(&p, 1, left_ms < 0 ? 0 : (int)left_ms) <= 0) {
        return ESCROW_ETIMEOUT;
    }
    room = buf_reserve(&c->in, 65536);
    ck_assert_ptr_nonnull(room);
    n = recv(c->fd, room, 65536, 0);
    if (n <= 0) {
        return ESCROW_ECLOSED;
    }
    buf_commit(&c->in, (size_t)n);
    return 0;
}

int client_receive(struct client *c, int64_t timeout_ms)
{
    int64_t deadline_ms = test_now_ms() + timeout_ms;
    struct frame frame;
    int rc;

    while ((rc = frame_decode(slice_of(c->in.ptr + c->used, c->in.len - c->used), &frame)) != 0) {
        ck_assert_int_eq(rc, ESCROW_EAGAIN);
        rc = receive_more(c, deadline_ms);
        if (rc != 0) {
            return rc;
        }
    }
    c->used += frame.size;
    c->body = frame.body;
    ck_assert_int_eq(header_decode(&c->header, frame.type, frame.header), 0);
    return 0;
}

int32_t client_call(struct client *c, struct slice body)
{
    int64_t deadline_ms = test_now_ms() + CLIENT_WAIT_MS;
    int32_t opaque = c->opaque;

    client_finish(c, body);
    if (client_flush(c) != 0) {
        return -1;
    }
    do {
        int rc = client_receive(c, deadline_ms - test_now_ms());
        ck_assert_msg(rc != ESCROW_ETIMEOUT, "no answer");
        if (rc != 0) {
            return -1;
        }
    } while (!header_is_response(&c->header) || c->header.opaque != opaque);
    return c->header.code;
}

int32_t client_error(struct client *c)
{
    int32_t error = 0;

    ck_assert_int_eq(header_opt_i32(&c->header, "escrowError", &error), 0);
    return error;
}

void client_expect_closed(struct client *c)
{
    ck_assert_int_eq(client_receive(c, CLIENT_WAIT_MS), ESCROW_ECLOSED);
}

/* ---- requests ---- */

void client_topic(struct client *c, const char *topic, int32_t queues)
{
    struct header_writer *w = client_begin(c, REQUEST_UPDATE_AND_CREATE_TOPIC, 0);

    header_put_str(w, "topic", slice_str(topic));
    header_put_i64(w, "readQueueNums", queues);
    header_put_i64(w, "writeQueueNums", queues);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
}

/* "K=V;K=V" as a property string. */
static struct slice properties_of(const struct test_message *m, uint8_t *dst, size_t size)
{
    struct props_writer w;
    const char *p = m->properties == NULL ? "" : m->properties;

    props_writer_init(&w, dst, size);
    while (*p != '\0') {
        size_t len = strcspn(p, ";");
        const char *equals = memchr(p, '=', len);
        ck_assert_ptr_nonnull(equals);
        props_put(&w, slice_of(p, (size_t)(equals - p)),
                  slice_of(equals + 1, len - (size_t)(equals - p) - 1));
        p += len + (p[len] == ';' ? 1 : 0);
    }
    if (m->is_half) {
        props_put(&w, SLICE_LIT("TRAN_MSG"), SLICE_LIT("true"));
        if (m->properties == NULL || strstr(m->properties, "PGROUP=") == NULL) {
            props_put(&w, SLICE_LIT("PGROUP"), SLICE_LIT("pg"));
        }
    }
    ck_assert_int_eq(w.error, 0);
    return slice_of(w.ptr, w.len);
}

void client_put_send(struct client *c, const struct test_message *m, int32_t flag)
{
    uint8_t properties[2048];
    struct send_request req;
    struct header_writer *w = client_begin(c, REQUEST_SEND_MESSAGE_V2, flag);

    send_request_init(&req);
    req.producer_group = SLICE_LIT("pg");
    req.topic = slice_str(m->topic);
    req.queue_id = m->queue;
    req.born_ms = 1;
    req.reconsume_times = m->reconsume_times;
    req.properties = properties_of(m, properties, sizeof properties);
    send_request_encode(w, &req, true);
    client_finish(c, m->body);
}

int32_t client_try_send(struct client *c, const struct test_message *m)
{
    int64_t deadline_ms = test_now_ms() + CLIENT_WAIT_MS;
    int32_t opaque;

    client_put_send(c, m, 0);
    opaque = c->opaque;
    if (client_flush(c) != 0) {
        return -1;
    }
    do {
        if (client_receive(c, deadline_ms - test_now_ms()) != 0) {
            return -1;
        }
    } while (!header_is_response(&c->header) || c->header.opaque != opaque);
    return c->header.code;
}

int64_t client_send(struct client *c, const struct test_message *m)
{
    struct send_answer answer;
    int64_t deadline_ms = test_now_ms() + CLIENT_WAIT_MS;
    int32_t code;

    /* A disk that is slow with the next segment makes small ones refuse for a moment. */
    while ((code = client_try_send(c, m)) == RESPONSE_SYSTEM_BUSY && test_now_ms() < deadline_ms) {
    }
    ck_assert_msg(code == RESPONSE_SUCCESS, "send: %d %.*s", code, SLICE_ARGS(c->header.remark));
    ck_assert_int_eq(send_answer_decode(&c->header, &answer), 0);
    return answer.queue_offset;
}

void client_put_pull(struct client *c, const struct test_pull *p)
{
    struct header_writer *w = client_begin(c, REQUEST_PULL_MESSAGE, 0);

    header_put_str(w, "consumerGroup", slice_str(p->group));
    header_put_str(w, "topic", slice_str(p->topic));
    header_put_i64(w, "queueId", p->queue);
    header_put_i64(w, "queueOffset", p->offset);
    header_put_i64(w, "maxMsgNums", p->count);
    header_put_i64(w, "sysFlag", p->suspend_ms > 0 ? 6 : 4);
    header_put_i64(w, "suspendTimeoutMillis", p->suspend_ms);
    header_put_str(w, "subscription", SLICE_LIT("*"));
    client_finish(c, SLICE_EMPTY);
}

int32_t client_pull(struct client *c, const struct test_pull *p)
{
    int64_t deadline_ms = test_now_ms() + CLIENT_WAIT_MS + p->suspend_ms;
    int32_t opaque;

    client_put_pull(c, p);
    opaque = c->opaque;
    if (client_flush(c) != 0) {
        return -1;
    }
    do {
        int rc = client_receive(c, deadline_ms - test_now_ms());
        ck_assert_msg(rc != ESCROW_ETIMEOUT, "no answer to a pull");
        if (rc != 0) {
            return -1;
        }
    } while (!header_is_response(&c->header) || c->header.opaque != opaque);
    return c->header.code;
}

int64_t client_max_offset(struct client *c, const char *topic, int32_t queue)
{
    struct header_writer *w = client_begin(c, REQUEST_GET_MAX_OFFSET, 0);
    int64_t offset = -1;

    header_put_str(w, "topic", slice_str(topic));
    header_put_i64(w, "queueId", queue);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(header_get_i64(&c->header, "offset", &offset), 0);
    return offset;
}

int32_t client_end(struct client *c, const char *group, int64_t offset, const char *id,
                   int32_t outcome)
{
    struct header_writer *w = client_begin(c, REQUEST_END_TRANSACTION, 0);

    header_put_str(w, "producerGroup", slice_str(group));
    header_put_i64(w, "commitLogOffset", offset);
    header_put_i64(w, "tranStateTableOffset", offset);
    header_put_i64(w, "commitOrRollback", outcome);
    header_put_str(w, "transactionId", slice_str(id));
    return client_call(c, SLICE_EMPTY);
}

int32_t client_decide(struct client *c, const struct end_txn_request *req,
                      const struct end_txn_half *halves, uint32_t count,
                      struct end_txn_result *results)
{
    struct end_txn_answer answer;
    struct buf body;
    int32_t code;

    buf_init(&body, 0);
    end_txn_request_encode(&body, req, halves, count);
    (void)client_begin(c, REQUEST_ESCROW_END_TRANSACTION, 0);
    code = client_call(c, buf_slice(&body));
    buf_fini(&body);
    if (code == RESPONSE_SUCCESS) {
        ck_assert_int_eq(end_txn_answer_decode(c->body, &answer), 0);
        ck_assert_uint_eq(answer.count, count);
        for (uint32_t i = 0; i < count; i++) {
            ck_assert(end_txn_next_result(&answer, &results[i]));
        }
    }
    return code;
}

int64_t client_metric(struct client *c, const char *name)
{
    struct list_reader list;
    struct metric_row row;

    (void)client_begin(c, REQUEST_ESCROW_STATUS, 0);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(status_decode(c->body, &list), 0);
    while (status_next(&list, &row)) {
        if (slice_eq_str(row.name, name)) {
            return row.value;
        }
    }
    ck_abort_msg("no metric %s", name);
}

int32_t client_heartbeat(struct client *c, const char *id, const char *producer_group,
                         const char *consumer_group, const char *topic)
{
    struct slice group = producer_group == NULL ? SLICE_EMPTY : slice_str(producer_group);
    struct subscription sub = {.topic = topic == NULL ? SLICE_EMPTY : slice_str(topic),
                               .expression = SLICE_LIT("*"),
                               .expression_type = SLICE_LIT("TAG"),
                               .version = 1};
    struct heartbeat_consumer consumer = {.subscriptions = &sub, .subscription_count = 1};
    struct heartbeat hb = {.client_id = slice_str(id)};
    struct buf body;
    int32_t code;

    if (producer_group != NULL) {
        hb.producer_groups = &group;
        hb.producer_count = 1;
    }
    if (consumer_group != NULL) {
        consumer.group = slice_str(consumer_group);
        hb.consumers = &consumer;
        hb.consumer_count = 1;
    }
    buf_init(&body, 0);
    heartbeat_encode(&body, &hb);
    (void)client_begin(c, REQUEST_HEART_BEAT, 0);
    code = client_call(c, buf_slice(&body));
    buf_fini(&body);
    return code;
}

int32_t client_source_open(struct client *c, const char *source, uint32_t lane,
                           struct source_open_answer *answer)
{
    struct source_open_request req = {.source = slice_str(source),
                                      .lane = lane,
                                      .system_id = 7,
                                      .timeline = 1,
                                      .owner = SLICE_LIT("test")};
    struct buf body;
    int32_t code;

    buf_init(&body, 0);
    source_open_request_encode(&body, &req);
    (void)client_begin(c, REQUEST_ESCROW_SOURCE_OPEN, 0);
    code = client_call(c, buf_slice(&body));
    buf_fini(&body);
    if (code == RESPONSE_SUCCESS) {
        ck_assert_int_eq(source_open_answer_decode(c->body, answer), 0);
    }
    return code;
}
