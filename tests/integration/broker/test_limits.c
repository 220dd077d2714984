/*
 * Hostile clients: each limit of PROTOCOL.md is met, answered or closed as it says, and the server
 * goes on.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIB ((size_t)1024 * 1024)

/* Under a sanitizer freed memory stays resident for a while. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RSS_SLACK (400 * MIB)
#else
#define RSS_SLACK (24 * MIB)
#endif

/* The server answers somebody else. */
static void expect_alive(const struct broker_fixture *f)
{
    struct client c;

    client_open(&c, f->port, HEADER_MSGPACK);
    ck_assert_int_gt(client_metric(&c, "requests"), 0);
    client_close(&c);
}

static uint8_t *zeros(size_t len)
{
    uint8_t *bytes = mem_calloc(1, len);

    ck_assert_ptr_nonnull(bytes);
    return bytes;
}

START_TEST(malformed_frames_and_headers_close_the_connection)
{
    /* No answer, for each header type; nobody else notices. */
    static const struct {
        const char *name;
        const char *bytes;
        size_t len;
    } cases[] = {
        {"length below 4", "\0\0\0\3\0\0\0\0", 8},
        {"negative length", "\xff\xff\xff\xff\0\0\0\0", 8},
        {"frame over the limit", "\1\0\0\1\0\0\0\2{}", 10},
        {"header longer than the frame", "\0\0\0\6\0\0\0\7{}", 10},
        {"unknown header type", "\0\0\0\6\7\0\0\2{}", 10},
        {"an HTTP request", "GET / HTTP/1.1\r\n\r\n", 18},
        {"JSON: no object", "\0\0\0\6\0\0\0\2[]", 10},
        {"JSON: cut short", "\0\0\0\xb\0\0\0\7{\"code\"", 15},
        {"JSON: no code", "\0\0\0\6\0\0\0\2{}", 10},
        {"JSON: code is text", "\0\0\0\x10\0\0\0\xc{\"code\":\"x\"}", 20},
        {"ROCKETMQ: cut short", "\0\0\0\x8\1\0\0\4\0\xa\0\0", 12},
        {"ROCKETMQ: remark longer than the header",
         "\0\0\0\x19\1\0\0\x15\0\xa\0\1\x99\0\0\0\1\0\0\0\0\0\0\x7f\0\0\0\0\0", 29},
        {"MSGPACK: no array", "\0\0\0\5\2\0\0\1\x80", 9},
        {"MSGPACK: a map of 4 billion", "\0\0\0\xe\2\0\0\xa\x97\xa\0\1\0\0\xc0\xdf\xff\xff", 18},
        {"MSGPACK: an array of 67 million", "\0\0\0\x9\2\0\0\5\xdd\4\0\0\0", 13},
        {"MSGPACK: deep nesting",
         "\0\0\0\x10\2\0\0\xc\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91", 20},
    };
    struct broker_fixture f;

    broker_fixture_start(&f, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct client c;
        client_open(&c, i % 2 == 0 ? f.port : f.name_port, HEADER_JSON);
        ck_assert_int_eq(client_raw(&c, cases[i].bytes, cases[i].len), 0);
        ck_assert_msg(client_receive(&c, CLIENT_WAIT_MS) == ESCROW_ECLOSED, "%s", cases[i].name);
        client_close(&c);
    }
    expect_alive(&f);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(unknown_codes_are_answered_and_the_connection_stays)
{
    /* Code 3 in the encoding of the request, on both ports; one-way ones get nothing. */
    struct broker_fixture f;

    broker_fixture_start(&f, NULL);
    for (int type = 0; type < 3; type++) {
        static const int32_t codes[] = {0, 1, 7, 8, 600, 999, 29999, 30099, 32767, -1};
        struct client c;
        client_open(&c, type == 1 ? f.name_port : f.port, (enum header_type)type);
        for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
            (void)client_begin(&c, codes[i], HEADER_FLAG_ONEWAY);
            client_submit(&c, SLICE_EMPTY);
            (void)client_begin(&c, codes[i], 0);
            ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_REQUEST_CODE_NOT_SUPPORTED);
            ck_assert_int_eq(client_error(&c), ESCROW_ENOTSUP);
            ck_assert_int_eq(c.header.type, type);
            ck_assert_int_eq(c.header.version, 409);
            ck_assert_int_eq(c.header.language, 0);
        }
        client_close(&c);
    }
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_body_over_the_limit_is_refused_and_the_connection_stays)
{
    /* 4 MiB and one byte: MESSAGE_ILLEGAL; 4 MiB: stored; no body: refused. */
    struct broker_fixture f;
    struct client c;
    size_t len = 4 * MIB;
    uint8_t *body = zeros(len + 1);
    struct test_message m = {.topic = "T", .body = slice_of(body, len + 1)};

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_ROCKETMQ);
    client_topic(&c, "T", 1);
    ck_assert_int_eq(client_try_send(&c, &m), RESPONSE_MESSAGE_ILLEGAL);
    ck_assert_int_eq(client_error(&c), ESCROW_ETOOBIG);
    m.body.len = 0;
    ck_assert_int_eq(client_try_send(&c, &m), RESPONSE_MESSAGE_ILLEGAL);
    m.body.len = len;
    ck_assert_int_eq(client_send(&c, &m), 0);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 1);
    client_close(&c);
    mem_free(body);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(one_byte_at_a_time_is_a_request_too)
{
    /* A frame in pieces of one byte is put together. */
    struct broker_fixture f;
    struct client c;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    (void)client_begin(&c, REQUEST_ESCROW_STATUS, 0);
    client_finish(&c, SLICE_EMPTY);
    for (size_t i = 0; i < c.out.len; i++) {
        ck_assert_int_eq(client_raw(&c, c.out.ptr + i, 1), 0);
    }
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(c.header.code, RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(half_open_frames_cost_what_has_arrived)
{
    /* 200 connections promise 16 MiB each and send 12 bytes: nothing is kept ready for the rest. */
    struct broker_fixture f;
    struct client c[200];
    size_t before;

    broker_fixture_start(&f, NULL);
    expect_alive(&f);
    before = broker_fixture_rss(&f);
    for (int i = 0; i < 200; i++) {
        client_open(&c[i], f.port, HEADER_JSON);
        ck_assert_int_eq(client_raw(&c[i], "\0\xff\xff\xf0\0\0\0\x10{\"co", 12), 0);
    }
    expect_alive(&f);
    ck_assert_uint_lt(broker_fixture_rss(&f), before + RSS_SLACK);
    for (int i = 0; i < 200; i++) {
        client_close(&c[i]);
    }
    expect_alive(&f);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(connections_over_the_limit_are_told_so_and_closed)
{
    /*
     * The limit is per port; when one goes, the next comes in. Of those that are too many eight may
     * ask something, and are answered SYSTEM_BUSY.
     */
    struct broker_fixture f;
    struct client c[5];
    struct client over[9];
    int64_t deadline_ms;

    broker_fixture_start(&f, (const char *const[]){"--connections.max", "3", NULL});
    for (int i = 0; i < 3; i++) {
        client_open(&c[i], f.port, HEADER_JSON);
        ck_assert_int_ge(client_metric(&c[i], "connections"), i + 1);
    }
    for (int i = 0; i < 8; i++) {
        client_open(&over[i], f.port, (enum header_type)(i % HEADER_TYPE_COUNT));
    }
    client_open(&c[4], f.name_port, HEADER_JSON);
    ck_assert_int_eq(client_metric(&c[4], "connections_refused"), 8);
    client_open(&over[8], f.port, HEADER_JSON);
    client_expect_closed(&over[8]);
    for (int i = 0; i < 8; i++) {
        (void)client_begin(&over[i], REQUEST_GET_BROKER_CLUSTER_INFO, 0);
        ck_assert_int_eq(client_call(&over[i], SLICE_EMPTY), RESPONSE_SYSTEM_BUSY);
        ck_assert_int_eq(client_error(&over[i]), ESCROW_ELIMIT);
        ck_assert_ptr_nonnull(memmem(over[i].header.remark.ptr, over[i].header.remark.len,
                                     "connections.max", strlen("connections.max")));
        client_expect_closed(&over[i]);
        client_close(&over[i]);
    }
    client_close(&over[8]);
    ck_assert_int_eq(client_metric(&c[4], "connections_refused"), 9);
    client_close(&c[0]);
    deadline_ms = test_now_ms() + CLIENT_WAIT_MS;
    while (client_metric(&c[4], "connections") > 3) {
        test_await(-1, deadline_ms, "the closed connection is noticed");
    }
    client_open(&c[0], f.port, HEADER_JSON);
    ck_assert_int_eq(client_metric(&c[0], "connections"), 4);
    for (int i = 0; i < 5; i++) {
        if (i != 3) {
            client_close(&c[i]);
        }
    }
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_silent_connection_too_many_is_closed)
{
    /* It holds a place among those that would be told, so it has two seconds. */
    struct broker_fixture f;
    struct client c[2];

    broker_fixture_start(&f, (const char *const[]){"--connections.max", "1", NULL});
    client_open(&c[0], f.port, HEADER_JSON);
    ck_assert_int_eq(client_metric(&c[0], "connections"), 1);
    client_open(&c[1], f.port, HEADER_JSON);
    client_expect_closed(&c[1]);
    client_close(&c[1]);
    client_close(&c[0]);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_connection_too_many_cannot_stay_by_answering)
{
    /*
     * A response asks for nothing that could be refused, and one now and then would keep the place
     * for ever: the connection ends there. The request behind it is not answered any more.
     */
    struct broker_fixture f;
    struct client c[2];

    broker_fixture_start(&f, (const char *const[]){"--connections.max", "1", NULL});
    client_open(&c[0], f.port, HEADER_JSON);
    ck_assert_int_eq(client_metric(&c[0], "connections"), 1);
    for (int type = 0; type < HEADER_TYPE_COUNT; type++) {
        client_open(&c[1], f.port, (enum header_type)type);
        (void)client_begin(&c[1], RESPONSE_SUCCESS, HEADER_FLAG_RESPONSE);
        client_finish(&c[1], SLICE_EMPTY);
        (void)client_begin(&c[1], REQUEST_GET_BROKER_CLUSTER_INFO, 0);
        client_submit(&c[1], SLICE_EMPTY); /* both at once */
        client_expect_closed(&c[1]);
        client_close(&c[1]);
    }
    client_close(&c[0]);
    broker_fixture_stop(&f);
}
END_TEST

/* What the server may refuse while it is being sent. */
static void send_as_far_as_it_goes(struct client *c, size_t from, size_t to)
{
    int rc = client_raw(c, c->out.ptr + from, to - from);

    if (rc != 0) {
        ck_assert_int_eq(rc, ESCROW_ECLOSED);
    }
}

START_TEST(a_frame_over_the_limit_is_answered_and_not_read)
{
    /*
     * frame.max.bytes = 64 KiB, frames of 100 KiB and of 3 MiB: MESSAGE_ILLEGAL with both numbers,
     * also when the header comes in pieces, then the end; nothing is stored. A one-way request has
     * no answer, only the end.
     */
    struct broker_fixture f;
    uint8_t *body = zeros(3 * MIB);

    broker_fixture_start(&f, (const char *const[]){"--frame.max.bytes", "64k", NULL});
    for (int i = 0; i < 9; i++) {
        struct test_message m = {.topic = "T",
                                 .body = slice_of(body, i < 3 ? (size_t)100 * 1024 : 3 * MIB)};
        struct client c;
        size_t first = i < 6 ? 0 : 20;

        client_open(&c, f.port, (enum header_type)(i % HEADER_TYPE_COUNT));
        client_put_send(&c, &m, 0);
        ck_assert_int_eq(client_raw(&c, c.out.ptr, first), 0);
        if (first > 0) {
            ck_assert_int_eq(client_receive(&c, 50), ESCROW_ETIMEOUT);
        }
        send_as_far_as_it_goes(&c, first, c.out.len);
        buf_clear(&c.out);
        ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(c.header.code, RESPONSE_MESSAGE_ILLEGAL);
        ck_assert_int_eq(c.header.opaque, c.opaque);
        ck_assert_int_eq(client_error(&c), ESCROW_ETOOBIG);
        ck_assert_ptr_nonnull(
            memmem(c.header.remark.ptr, c.header.remark.len, "65536", strlen("65536")));
        client_expect_closed(&c);
        client_close(&c);
    }
    for (int i = 0; i < 2; i++) { /* nobody to answer: one-way, and no header at all */
        struct test_message m = {.topic = "T", .body = slice_of(body, (size_t)100 * 1024)};
        struct client c;

        client_open(&c, f.port, HEADER_JSON);
        client_put_send(&c, &m, HEADER_FLAG_ONEWAY);
        if (i == 1) {
            memset(c.out.ptr + 8, 'x', 40);
        }
        send_as_far_as_it_goes(&c, 0, c.out.len);
        buf_clear(&c.out);
        client_expect_closed(&c);
        client_close(&c);
    }
    expect_alive(&f);
    mem_free(body);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(what_was_sent_before_a_frame_over_the_limit_is_answered)
{
    /*
     * A pull that is held, five sends and a frame that is too large, in one piece: each send has
     * its answer, though all wait for the disk; then the frame has its own, if it wants one, then
     * the end.
     */
    struct broker_fixture f;
    uint8_t *body = zeros((size_t)100 * 1024);
    struct test_message small = {.topic = "T", .body = slice_of(body, 10)};
    struct test_message large = {.topic = "T", .body = slice_of(body, (size_t)100 * 1024)};

    broker_fixture_start(&f, (const char *const[]){"--frame.max.bytes", "64k", NULL});
    for (int round = 0; round < 2; round++) {
        bool is_oneway = round == 1;
        struct client c;
        int32_t first;
        client_open(&c, f.port, HEADER_JSON);
        client_topic(&c, "T", 1);
        client_topic(&c, "U", 1);
        client_put_pull(&c, &(struct test_pull){"g", "U", 0, 0, 1, 60000});
        first = c.opaque + 1;
        for (int i = 0; i < 5; i++) {
            client_put_send(&c, &small, 0);
        }
        client_put_send(&c, &large, is_oneway ? HEADER_FLAG_ONEWAY : 0);
        send_as_far_as_it_goes(&c, 0, c.out.len);
        buf_clear(&c.out);
        for (int i = 0; i < (is_oneway ? 5 : 6); i++) {
            ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
            ck_assert_int_eq(c.header.opaque, first + i);
            ck_assert_int_eq(c.header.code, i < 5 ? RESPONSE_SUCCESS : RESPONSE_MESSAGE_ILLEGAL);
        }
        client_expect_closed(&c);
        client_close(&c);
    }
    expect_alive(&f);
    mem_free(body);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(connections_leave_the_store_its_descriptors)
{
    /* 300 files may be open: some 14 connections per port, and segments are still made. */
    const struct rlimit few = {.rlim_cur = 300, .rlim_max = 300};
    struct broker_fixture f;
    struct client c[60];
    struct client sender;
    char body[1024];

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    broker_fixture_start(&f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    ck_assert_ptr_nonnull(strstr(f.log, "limits.descriptors"));
    client_open(&sender, f.port, HEADER_MSGPACK);
    ck_assert_int_gt(client_metric(&sender, "requests"), 0);
    for (int i = 0; i < 60; i++) {
        client_open(&c[i], i % 2 == 0 ? f.port : f.name_port, HEADER_JSON);
    }
    memset(body, 'x', sizeof body);
    for (int i = 0; i < 3000; i++) { /* three segments */
        const struct test_message m = {.topic = "T", .body = slice_of(body, sizeof body)};
        ck_assert_int_ge(client_send(&sender, &m), 0);
    }
    ck_assert_int_gt(client_metric(&sender, "connections_refused"), 0);
    for (int i = 0; i < 60; i++) {
        client_close(&c[i]);
    }
    client_close(&sender);
    broker_fixture_stop(&f);
}
END_TEST

/*
 * Send what is in c->out without reading, until it is sent or the server takes no more for a while.
 */
static bool push_blindly(struct client *c)
{
    size_t at = 0;

    while (at < c->out.len) {
        struct pollfd p = {.fd = c->fd, .events = POLLOUT};
        ssize_t n;
        if (poll(&p, 1, 500) == 0) {
            break;
        }
        n = send(c->fd, c->out.ptr + at, c->out.len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            break;
        }
        at += (size_t)n;
    }
    bool is_all = at == c->out.len;
    buf_consume(&c->out, at);
    return is_all;
}

START_TEST(ten_thousand_pulls_without_reading_do_not_grow_the_server)
{
    /*
     * Each answer would have 1 MiB. The server stops reading from the client that does not read,
     * keeps about one answer for it, serves others meanwhile, and gives everything once it reads.
     */
    struct broker_fixture f;
    struct client c;
    uint8_t *body = zeros(MIB);
    size_t before;
    int answers = 0;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    (void)client_send(&c, &(struct test_message){.topic = "T", .body = slice_of(body, MIB)});
    ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, 0, 1, 0}), RESPONSE_SUCCESS);
    before = broker_fixture_rss(&f);
    for (int i = 0; i < 10000; i++) {
        client_put_pull(&c, &(struct test_pull){"g", "T", 0, 0, 1, 0});
    }
    (void)push_blindly(&c);
    expect_alive(&f);
    ck_assert_uint_lt(broker_fixture_rss(&f), before + RSS_SLACK);
    while (answers < 300) {
        ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(c.header.code, RESPONSE_SUCCESS);
        ck_assert_uint_gt(c.body.len, MIB);
        answers++;
    }
    ck_assert_uint_lt(broker_fixture_rss(&f), before + RSS_SLACK);
    client_close(&c);
    mem_free(body);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(pulls_that_all_wake_at_once_meet_the_output_limit)
{
    /*
     * 100 held pulls of one connection, one message of 1 MiB, output limit 4 MiB: closed, nothing
     * grows.
     */
    struct broker_fixture f;
    struct client slow;
    struct client c;
    uint8_t *body = zeros(MIB);
    int64_t deadline_ms = test_now_ms() + CLIENT_WAIT_MS;
    int rc;

    broker_fixture_start(&f, (const char *const[]){"--output.max.bytes", "4m", NULL});
    client_open(&slow, f.port, HEADER_MSGPACK);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    for (int i = 0; i < 100; i++) {
        client_put_pull(&slow, &(struct test_pull){"g", "T", 0, 0, 1, 30000});
    }
    ck_assert_int_eq(client_flush(&slow), 0);
    while (client_metric(&c, "pulls_held") < 100) {
        test_await(-1, deadline_ms, "the pulls are held");
    }
    (void)client_send(&c, &(struct test_message){.topic = "T", .body = slice_of(body, MIB)});
    while ((rc = client_receive(&slow, CLIENT_WAIT_MS)) == 0) {
    }
    ck_assert_int_eq(rc, ESCROW_ECLOSED);
    ck_assert_int_eq(client_metric(&c, "pulls_held"), 0);
    client_close(&slow);
    client_close(&c);
    mem_free(body);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(pulls_over_the_limit_are_told_to_come_later)
{
    /*
     * pulls.held.max = 2: the third long poll is answered without waiting, and not to be repeated.
     */
    struct broker_fixture f;
    struct client c;
    struct test_pull p = {"g", "T", 0, 0, 1, 15000};
    int64_t start_ms;

    broker_fixture_start(&f, (const char *const[]){"--pulls.held.max", "2", NULL});
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    client_put_pull(&c, &p);
    client_put_pull(&c, &p);
    start_ms = test_now_ms();
    ck_assert_int_eq(client_pull(&c, &p), RESPONSE_SYSTEM_BUSY);
    ck_assert_int_eq(client_error(&c), ESCROW_ELIMIT);
    ck_assert_int_lt(test_now_ms() - start_ms, 10000);
    ck_assert_int_eq(client_metric(&c, "pulls_held"), 2);
    client_close(&c); /* held pulls go with their connection */
    client_open(&c, f.port, HEADER_JSON);
    while (client_metric(&c, "pulls_held") != 0) {
        test_await(-1, start_ms + CLIENT_WAIT_MS, "held pulls go with their connection");
    }
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(requests_in_flight_are_limited_per_connection)
{
    /*
     * inflight.max.bytes = 64 KiB: of 1,000 long polls the server reads about 60 and leaves the
     * rest in the socket; another connection is served; a message wakes those that wait, and then
     * the rest comes.
     */
    struct broker_fixture f;
    struct client many;
    struct client c;
    int answers = 0;

    broker_fixture_start(&f, (const char *const[]){"--inflight.max.bytes", "64k", NULL});
    client_open(&many, f.port, HEADER_MSGPACK);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    for (int i = 0; i < 1000; i++) {
        client_put_pull(&many, &(struct test_pull){"g", "T", 0, 0, 1, 30000});
    }
    ck_assert(push_blindly(&many));
    for (int i = 0; i < 50; i++) {
        ck_assert_int_le(client_metric(&c, "pulls_held"), 64);
    }
    ck_assert_int_ge(client_metric(&c, "pulls_held"), 32);
    (void)client_send(&c, &(struct test_message){.topic = "T", .body = SLICE_LIT("x")});
    while (answers < 1000) {
        ck_assert_int_eq(client_receive(&many, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(many.header.code, RESPONSE_SUCCESS);
        answers++;
    }
    client_close(&many);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_flood_of_oneway_sends_is_taken_in_order_and_bounded)
{
    /*
     * 20,000 one-way sends of 4 KiB (80 MiB): none is answered, memory stays, and what is stored is
     * in order.
     */
    struct broker_fixture f;
    struct client c;
    uint8_t *body = zeros(4096);
    size_t before;
    int64_t last = -1;
    int64_t offset = 0;
    int64_t max;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    (void)client_send(&c, &(struct test_message){.topic = "T", .body = slice_of(body, 4096)});
    before = broker_fixture_rss(&f);
    for (uint32_t i = 0; i < 20000; i++) {
        put_be32(body, i);
        client_put_send(&c, &(struct test_message){.topic = "T", .body = slice_of(body, 4096)},
                        HEADER_FLAG_ONEWAY);
        if (c.out.len > MIB) {
            ck_assert_int_eq(client_flush(&c), 0);
        }
    }
    max = client_max_offset(&c, "T", 0); /* the first answer is this one's: the sends got none */
    ck_assert_int_gt(max, 1);
    ck_assert_uint_lt(broker_fixture_rss(&f), before + RSS_SLACK + 64 * MIB);
    offset = 1;
    while (offset < max) {
        struct record_walk walk;
        struct record_view view;
        ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, offset, 1000, 0}),
                         RESPONSE_SUCCESS);
        walk.rest = c.body;
        while (record_walk_next(&walk, &view) == 1) {
            ck_assert_int_eq(view.f.queue_offset, offset++);
            ck_assert_int_gt((int64_t)get_be32(view.f.body.ptr), last);
            last = get_be32(view.f.body.ptr);
        }
    }
    client_close(&c);
    mem_free(body);
    broker_fixture_stop(&f);
}
END_TEST

/* 20 sends at once, each answered. */
static void send_burst(struct client *c)
{
    for (int i = 0; i < 20; i++) {
        client_put_send(c, &(struct test_message){.topic = "T", .body = SLICE_LIT("x")}, 0);
    }
    ck_assert_int_eq(client_flush(c), 0);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(client_receive(c, 10000), 0);
        ck_assert_int_eq(c->header.code, RESPONSE_SUCCESS);
    }
}

START_TEST(the_loop_syncs_for_those_who_wait_and_for_nobody_else)
{
    /*
     * A burst that ends leaves nothing to do but its sync: no other thread is woken for it, and it
     * shares few syncs. With asynchronous flush nobody waits, and the loop must not either.
     */
    static const char *const async[] = {"--flush", "async", NULL};
    struct broker_fixture f;
    struct client c;
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    int64_t batches;
    int bursts = 0;
    bool is_slow; /* more than the loop may stand still: then another thread syncs */

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    batches = client_metric(&c, "log_batches");
    do { /* on a busy machine one is handed over now and then */
        send_burst(&c);
        bursts++;
        is_slow = client_metric(&c, "log_sync_us") >= 1000;
        ck_assert_int_lt(test_now_ms(), deadline_ms);
    } while (client_metric(&c, "log_batches_inline") == 0 && !is_slow);
    ck_assert_int_lt(client_metric(&c, "log_batches"), batches + 20 * bursts);
    client_close(&c);
    broker_fixture_stop(&f);

    broker_fixture_start(&f, async);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    batches = client_metric(&c, "log_batches_inline"); /* somebody waited for the topic */
    send_burst(&c);
    ck_assert_int_eq(client_metric(&c, "log_batches_inline"), batches);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(what_nobody_waits_for_is_not_synced_on_the_loop)
{
    /* A one-way update of a consumer offset, written by a timer: another thread syncs it. */
    struct broker_fixture f;
    struct client c;
    struct header_writer *w;
    int64_t batches;
    int64_t on_loop;
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    batches = client_metric(&c, "log_batches");
    on_loop = client_metric(&c, "log_batches_inline");
    w = client_begin(&c, REQUEST_UPDATE_CONSUMER_OFFSET, HEADER_FLAG_ONEWAY);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "commitOffset", 3);
    client_submit(&c, SLICE_EMPTY);
    while (client_metric(&c, "log_batches") == batches) {
        test_await(-1, deadline_ms, "offsets in the log");
    }
    ck_assert_int_eq(client_metric(&c, "log_batches_inline"), on_loop);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(memory_of_all_connections_is_limited)
{
    /*
     * memory.max.bytes = 16 MiB: 64 connections that each send 4 MiB of a frame and stop. Those
     * that go beyond are closed; the server's memory and the rest of its service are untouched.
     */
    struct broker_fixture f;
    struct client c[64];
    uint8_t *bytes = zeros(4 * MIB);
    size_t before;
    int closed = 0;

    broker_fixture_start(&f, (const char *const[]){"--memory.max.bytes", "16m", NULL});
    expect_alive(&f);
    before = broker_fixture_rss(&f);
    memcpy(bytes, "\0\xff\xff\xf0\0\0\0\x10", 8);
    for (int i = 0; i < 64; i++) {
        client_open(&c[i], f.port, HEADER_JSON);
        closed += client_raw(&c[i], bytes, 4 * MIB) != 0;
    }
    for (int i = 0; i < 64; i++) {
        closed += client_receive(&c[i], 0) == ESCROW_ECLOSED;
    }
    ck_assert_int_ge(closed, 50);
    expect_alive(&f);
    ck_assert_uint_lt(broker_fixture_rss(&f), before + RSS_SLACK + 32 * MIB);
    for (int i = 0; i < 64; i++) {
        client_close(&c[i]);
    }
    mem_free(bytes);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(whoever_meets_the_memory_limit_is_told_so)
{
    /*
     * memory.max.bytes = 16 MiB: 16 connections that each send 3 MiB of a message of 3 MiB and a
     * byte. Those beyond are answered SYSTEM_BUSY, which means that nothing happened.
     */
    struct broker_fixture f;
    struct client c[16];
    uint8_t *body = zeros(3 * MIB + 1);
    int told = 0;

    broker_fixture_start(&f, (const char *const[]){"--memory.max.bytes", "16m", NULL});
    for (int i = 0; i < 16; i++) {
        struct test_message m = {.topic = "T", .body = slice_of(body, 3 * MIB + 1)};
        client_open(&c[i], f.port, HEADER_MSGPACK);
        client_put_send(&c[i], &m, 0);
        send_as_far_as_it_goes(&c[i], 0, c[i].out.len - 1);
        buf_clear(&c[i].out);
    }
    for (int i = 0; i < 16; i++) {
        if (client_receive(&c[i], 200) == 0) {
            ck_assert_int_eq(c[i].header.code, RESPONSE_SYSTEM_BUSY);
            ck_assert_int_eq(client_error(&c[i]), ESCROW_ELIMIT);
            told++;
        }
    }
    ck_assert_int_ge(told, 8);
    for (int i = 0; i < 16; i++) {
        client_close(&c[i]);
    }
    expect_alive(&f);
    mem_free(body);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_connection_is_in_at_most_1024_groups)
{
    /* A heartbeat that wants more is refused and looks through a bounded list. */
    struct broker_fixture f;
    struct client c;
    struct buf body;
    int64_t start_ms = test_now_ms();

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    buf_init(&body, 0);
    buf_append_str(&body, "{\"clientID\":\"c\",\"producerDataSet\":[");
    for (int i = 0; i < 20000; i++) {
        buf_append_fmt(&body, "%s{\"groupName\":\"g%d\"}", i == 0 ? "" : ",", i);
    }
    buf_append_str(&body, "]}");
    (void)client_begin(&c, REQUEST_HEART_BEAT, 0);
    ck_assert_int_eq(client_call(&c, buf_slice(&body)), RESPONSE_SYSTEM_BUSY);
    ck_assert_int_eq(client_error(&c), ESCROW_ELIMIT);
    ck_assert_int_lt(test_now_ms() - start_ms, 10000);
    buf_fini(&body);
    client_close(&c);
    expect_alive(&f);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(an_idle_connection_is_closed)
{
    /* connection.idle.ms = 1 s; one that talks stays. */
    struct broker_fixture f;
    struct client idle;
    struct client busy;
    int rc;

    broker_fixture_start(&f, (const char *const[]){"--connection.idle.ms", "1000", NULL});
    client_open(&idle, f.port, HEADER_JSON);
    client_open(&busy, f.port, HEADER_JSON);
    do {
        ck_assert_int_gt(client_metric(&busy, "requests"), 0);
        rc = client_receive(&idle, 100);
    } while (rc == ESCROW_ETIMEOUT);
    ck_assert_int_eq(rc, ESCROW_ECLOSED);
    client_close(&idle);
    client_close(&busy);
    broker_fixture_stop(&f);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, malformed_frames_and_headers_close_the_connection);
    tcase_add_test(tc, unknown_codes_are_answered_and_the_connection_stays);
    tcase_add_test(tc, a_body_over_the_limit_is_refused_and_the_connection_stays);
    tcase_add_test(tc, one_byte_at_a_time_is_a_request_too);
    tcase_add_test(tc, half_open_frames_cost_what_has_arrived);
    tcase_add_test(tc, connections_over_the_limit_are_told_so_and_closed);
    tcase_add_test(tc, a_silent_connection_too_many_is_closed);
    tcase_add_test(tc, a_connection_too_many_cannot_stay_by_answering);
    tcase_add_test(tc, a_frame_over_the_limit_is_answered_and_not_read);
    tcase_add_test(tc, what_was_sent_before_a_frame_over_the_limit_is_answered);
    tcase_add_test(tc, whoever_meets_the_memory_limit_is_told_so);
    tcase_add_test(tc, connections_leave_the_store_its_descriptors);
    tcase_add_test(tc, ten_thousand_pulls_without_reading_do_not_grow_the_server);
    tcase_add_test(tc, pulls_that_all_wake_at_once_meet_the_output_limit);
    tcase_add_test(tc, pulls_over_the_limit_are_told_to_come_later);
    tcase_add_test(tc, requests_in_flight_are_limited_per_connection);
    tcase_add_test(tc, a_flood_of_oneway_sends_is_taken_in_order_and_bounded);
    tcase_add_test(tc, the_loop_syncs_for_those_who_wait_and_for_nobody_else);
    tcase_add_test(tc, what_nobody_waits_for_is_not_synced_on_the_loop);
    tcase_add_test(tc, memory_of_all_connections_is_limited);
    tcase_add_test(tc, a_connection_is_in_at_most_1024_groups);
    tcase_add_test(tc, an_idle_connection_is_closed);
}

int main(void)
{
    return broker_fixture_main("limits", 60, add);
}
