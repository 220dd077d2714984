#include "tests/integration/client/fake_broker.h"

#include "core/proto/body_heartbeat.h"
#include "core/proto/body_lists.h"
#include "core/proto/body_route.h"
#include "core/proto/codes.h"
#include "core/proto/record.h"
#include "escrow/errors.h"
#include "tests/integration/client/rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES  65536
#define RECORDS_MAX 32

#define NEED(expr)                                                                                 \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            perror("fake_broker: " #expr);                                                         \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* ---- answers ---- */

struct answer {
    struct fake_connection *conn;
    int32_t opaque;
    int32_t code;
    const char *field; /* one number; NULL = none */
    int64_t number;
};

static void answer_send(const struct answer *a, struct slice body)
{
    struct header_out head = {.code = a->code, .opaque = a->opaque, .flag = HEADER_FLAG_RESPONSE};
    struct header_writer w;
    struct buf out;

    buf_init(&out, 0);
    header_begin(&w, &out, HEADER_JSON, &head);
    if (a->field != NULL) {
        header_put_i64(&w, a->field, a->number);
    }
    header_end(&w);
    buf_append_slice(&out, body);
    NEED(header_frame_end(&w, 0) == 0);
    if (send(a->conn->fd, out.ptr, out.len, MSG_NOSIGNAL) != (ssize_t)out.len) {
        NEED(errno == EPIPE || errno == ECONNRESET); /* it closed meanwhile: poll says so next */
    }
    buf_fini(&out);
}

static void record_append(struct buf *out, int64_t offset)
{
    static const uint8_t ip[4] = {127, 0, 0, 1};
    char text[32];
    int len = snprintf(text, sizeof text, "m%lld", (long long)offset);
    struct record_fields fields = {.queue_offset = offset,
                                   .born_host = record_host_ipv4(ip, 1),
                                   .store_host = record_host_ipv4(ip, 2),
                                   .body = slice_of(text, (size_t)len),
                                   .topic = SLICE_LIT(FAKE_TOPIC)};
    size_t size = record_size(&fields);
    uint8_t *room = buf_reserve(out, size);

    NEED(room != NULL);
    buf_commit(out, record_encode(room, &fields));
}

/* false: there is nothing yet, the pull waits. */
static bool pull_answer(struct fake_broker *f, struct answer *a, int64_t offset)
{
    struct buf records;
    int64_t next = offset;

    a->field = "nextBeginOffset";
    if (f->has_moved_to || offset < f->min || offset > f->max) {
        a->code = RESPONSE_PULL_OFFSET_MOVED;
        a->number = f->has_moved_to ? f->moved_to : offset < f->min ? f->min : f->max;
        answer_send(a, SLICE_EMPTY);
        return true;
    }
    if (offset == f->max) {
        return false;
    }
    buf_init(&records, 0);
    while (next < f->max && next < offset + RECORDS_MAX) {
        record_append(&records, next++);
    }
    a->number = next;
    answer_send(a, buf_slice(&records));
    buf_fini(&records);
    return true;
}

static void on_pull(struct fake_broker *f, struct answer *a)
{
    int64_t offset = 0;

    NEED(header_get_i64(&f->header, "queueOffset", &offset) == 0);
    f->pulls++;
    if (!pull_answer(f, a, offset)) {
        a->conn->held_opaque = a->opaque;
        a->conn->held_offset = offset;
    }
}

static void on_route(struct fake_broker *f, struct answer *a)
{
    struct route_queue queue = {SLICE_LIT("b"), 1, 1, PERM_READ | PERM_WRITE, 0};
    struct route_addr addr = {0, slice_str(f->route)};
    struct route_broker broker = {SLICE_LIT("c"), SLICE_LIT("b"), &addr, 1};
    struct route route = {
        .queues = &queue, .queue_count = 1, .brokers = &broker, .broker_count = 1};
    struct slice topic = header_str(&f->header, "topic");
    struct buf body;

    if (!slice_eq_str(topic, FAKE_TOPIC)) { /* the retry topic is there, and has no queue */
        queue.read_queue_count = 0;
        queue.write_queue_count = 0;
    }
    buf_init(&body, 0);
    route_encode(&body, &route);
    answer_send(a, buf_slice(&body));
    buf_fini(&body);
}

static void on_heartbeat(struct fake_broker *f, struct answer *a, struct slice body)
{
    struct heartbeat hb;

    NEED(heartbeat_decode(body, &hb) == 0);
    (void)slice_to_cstr(hb.client_id, f->client_id, sizeof f->client_id);
    heartbeat_fini(&hb);
    f->pings++;
    answer_send(a, SLICE_EMPTY);
}

static void on_members(struct fake_broker *f, struct answer *a)
{
    struct slice self = slice_str(f->client_id);
    struct buf body;

    buf_init(&body, 0);
    name_list_encode(&body, LIST_CONSUMER_IDS, &self, f->client_id[0] == '\0' ? 0 : 1);
    answer_send(a, buf_slice(&body));
    buf_fini(&body);
}

static void on_query_offset(struct fake_broker *f, struct answer *a)
{
    if (f->stored < 0) {
        a->code = RESPONSE_QUERY_NOT_FOUND;
    } else {
        a->field = "offset";
        a->number = f->stored;
    }
    answer_send(a, SLICE_EMPTY);
}

static void on_store_offset(struct fake_broker *f, struct answer *a)
{
    NEED(header_get_i64(&f->header, "commitOffset", &f->stored) == 0);
    answer_send(a, SLICE_EMPTY);
}

/* A send is refused for good, unless its connection is to be cut. */
static void on_send(struct fake_broker *f, struct answer *a)
{
    f->sends++;
    if (f->cuts > 0) {
        f->cuts--;
        (void)shutdown(a->conn->fd, SHUT_RDWR); /* poll says so next */
        return;
    }
    a->code = RESPONSE_NO_PERMISSION;
    answer_send(a, SLICE_EMPTY);
}

static void on_request(struct fake_broker *f, struct fake_connection *conn, struct slice body)
{
    struct answer a = {conn, f->header.opaque, RESPONSE_SUCCESS, NULL, 0};

    if (header_is_oneway(&f->header)) {
        return;
    }
    switch (f->header.code) {
    case REQUEST_GET_ROUTEINFO_BY_TOPIC:
        on_route(f, &a);
        return;
    case REQUEST_HEART_BEAT:
        on_heartbeat(f, &a, body);
        return;
    case REQUEST_GET_CONSUMER_LIST_BY_GROUP:
        on_members(f, &a);
        return;
    case REQUEST_QUERY_CONSUMER_OFFSET:
        on_query_offset(f, &a);
        return;
    case REQUEST_UPDATE_CONSUMER_OFFSET:
        on_store_offset(f, &a);
        return;
    case REQUEST_GET_MIN_OFFSET:
        a.field = "offset";
        a.number = f->min;
        answer_send(&a, SLICE_EMPTY);
        return;
    case REQUEST_PULL_MESSAGE:
        on_pull(f, &a);
        return;
    case REQUEST_SEND_MESSAGE_V2:
        on_send(f, &a);
        return;
    default:
        a.code = RESPONSE_REQUEST_CODE_NOT_SUPPORTED;
        answer_send(&a, SLICE_EMPTY);
        return;
    }
}

/* ---- connections ---- */

static void connection_close(struct fake_connection *conn)
{
    (void)close(conn->fd);
    buf_fini(&conn->in);
    *conn = (struct fake_connection){.fd = -1};
}

static void connection_accept(struct fake_broker *f)
{
    int fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    size_t i = 0;

    NEED(fd >= 0);
    while (f->connections[i].fd >= 0) {
        i++;
        NEED(i < FAKE_CONNECTIONS_MAX);
    }
    f->connections[i] = (struct fake_connection){.fd = fd};
    buf_init(&f->connections[i].in, 0);
    f->accepted++;
}

static void connection_read(struct fake_broker *f, struct fake_connection *conn)
{
    uint8_t *room = buf_reserve(&conn->in, READ_BYTES);
    struct frame frame;
    ssize_t n;

    NEED(room != NULL);
    n = recv(conn->fd, room, READ_BYTES, 0);
    if (n <= 0) {
        f->closed++;
        connection_close(conn);
        return;
    }
    buf_commit(&conn->in, (size_t)n);
    if (conn->is_silent) {
        buf_clear(&conn->in);
        return;
    }
    while (frame_decode(buf_slice(&conn->in), &frame) == 0) {
        NEED(header_decode(&f->header, frame.type, frame.header) == 0);
        on_request(f, conn, frame.body);
        buf_consume(&conn->in, frame.size);
    }
}

static void held_pulls(struct fake_broker *f)
{
    for (size_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        struct fake_connection *conn = &f->connections[i];
        struct answer a = {conn, conn->held_opaque, RESPONSE_SUCCESS, NULL, 0};
        if (conn->fd >= 0 && !conn->is_silent && conn->held_opaque != 0 &&
            pull_answer(f, &a, conn->held_offset)) {
            conn->held_opaque = 0;
        }
    }
}

/* One round; with the lock, but while it waits. */
static void round_of_events(struct fake_broker *f)
{
    struct pollfd fds[FAKE_CONNECTIONS_MAX + 2] = {{.fd = f->wake_fd, .events = POLLIN},
                                                   {.fd = f->listen_fd, .events = POLLIN}};
    uint64_t count;

    for (size_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        fds[i + 2] = (struct pollfd){.fd = f->connections[i].fd, .events = POLLIN};
    }
    (void)pthread_mutex_unlock(&f->lock);
    NEED(poll(fds, FAKE_CONNECTIONS_MAX + 2, -1) > 0 || errno == EINTR);
    (void)pthread_mutex_lock(&f->lock);
    if (fds[0].revents != 0) {
        NEED(read(f->wake_fd, &count, sizeof count) == sizeof count);
        held_pulls(f);
        return; /* connections may be other ones now */
    }
    if (fds[1].revents != 0) {
        connection_accept(f);
    }
    for (size_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        if (fds[i + 2].revents != 0 && fds[i + 2].fd == f->connections[i].fd) {
            connection_read(f, &f->connections[i]);
        }
    }
    (void)pthread_cond_broadcast(&f->changed);
}

static void *run(void *arg)
{
    struct fake_broker *f = arg;

    (void)pthread_mutex_lock(&f->lock);
    while (!f->is_stopping) {
        round_of_events(f);
    }
    (void)pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* ---- for the test ---- */

static void wake(struct fake_broker *f)
{
    uint64_t one = 1;

    NEED(write(f->wake_fd, &one, sizeof one) == sizeof one);
}

void fake_start(struct fake_broker *f, int64_t min, int64_t max, int64_t stored)
{
    struct black_hole hole;
    pthread_condattr_t attr;

    black_hole_open(&hole); /* a socket that listens is how this begins too */
    *f = (struct fake_broker){.listen_fd = hole.fd, .min = min, .max = max, .stored = stored};
    (void)snprintf(f->addr, sizeof f->addr, "%s", hole.addr);
    (void)snprintf(f->route, sizeof f->route, "%s", hole.addr);
    for (size_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        f->connections[i].fd = -1;
    }
    header_init(&f->header);
    f->wake_fd = eventfd(0, EFD_CLOEXEC);
    ck_assert_int_ge(f->wake_fd, 0);
    ck_assert_int_eq(pthread_mutex_init(&f->lock, NULL), 0);
    ck_assert_int_eq(pthread_condattr_init(&attr), 0);
    ck_assert_int_eq(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC), 0);
    ck_assert_int_eq(pthread_cond_init(&f->changed, &attr), 0);
    (void)pthread_condattr_destroy(&attr);
    ck_assert_int_eq(pthread_create(&f->thread, NULL, run, f), 0);
}

void fake_stop(struct fake_broker *f)
{
    (void)pthread_mutex_lock(&f->lock);
    f->is_stopping = true;
    wake(f);
    (void)pthread_mutex_unlock(&f->lock);
    ck_assert_int_eq(pthread_join(f->thread, NULL), 0);
    (void)close(f->listen_fd);
    for (size_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        if (f->connections[i].fd >= 0) {
            connection_close(&f->connections[i]);
        }
    }
    (void)close(f->wake_fd);
    header_fini(&f->header);
    (void)pthread_cond_destroy(&f->changed);
    (void)pthread_mutex_destroy(&f->lock);
}

void fake_set_range(struct fake_broker *f, int64_t min, int64_t max)
{
    (void)pthread_mutex_lock(&f->lock);
    f->min = min;
    f->max = max;
    wake(f);
    (void)pthread_mutex_unlock(&f->lock);
}

void fake_set_route(struct fake_broker *f, const char *addr)
{
    (void)pthread_mutex_lock(&f->lock);
    (void)snprintf(f->route, sizeof f->route, "%s", addr);
    (void)pthread_mutex_unlock(&f->lock);
}

void fake_fall_silent(struct fake_broker *f)
{
    (void)pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < FAKE_CONNECTIONS_MAX; i++) {
        f->connections[i].is_silent = true;
    }
    (void)pthread_mutex_unlock(&f->lock);
}

void fake_cut_sends(struct fake_broker *f, uint64_t count)
{
    (void)pthread_mutex_lock(&f->lock);
    f->cuts = count;
    (void)pthread_mutex_unlock(&f->lock);
}

void fake_move_to(struct fake_broker *f, int64_t offset)
{
    (void)pthread_mutex_lock(&f->lock);
    f->has_moved_to = true;
    f->moved_to = offset;
    (void)pthread_mutex_unlock(&f->lock);
}

static bool counter_is(const struct fake_broker *f, const uint64_t *counter, int64_t value)
{
    return counter != NULL ? *counter >= (uint64_t)value : f->stored == value;
}

static void wait_for(struct fake_broker *f, const uint64_t *counter, int64_t value)
{
    struct timespec limit;
    bool is_there;
    int rc = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += RIG_WAIT_MS / 1000;
    (void)pthread_mutex_lock(&f->lock);
    while (!(is_there = counter_is(f, counter, value)) && rc == 0) {
        rc = pthread_cond_timedwait(&f->changed, &f->lock, &limit);
    }
    (void)pthread_mutex_unlock(&f->lock);
    ck_assert_msg(is_there, "waited in vain for %lld, stored is %lld", (long long)value,
                  (long long)f->stored);
}

void fake_wait(struct fake_broker *f, const uint64_t *counter, uint64_t least)
{
    wait_for(f, counter, (int64_t)least);
}

void fake_wait_stored(struct fake_broker *f, int64_t offset)
{
    wait_for(f, NULL, offset);
}

uint64_t fake_read(struct fake_broker *f, const uint64_t *counter)
{
    uint64_t value;

    (void)pthread_mutex_lock(&f->lock);
    value = *counter;
    (void)pthread_mutex_unlock(&f->lock);
    return value;
}
