/*
 * Check-back and decisions through the real process: who is asked, what counts, what holds in the
 * end.
 */
#include "tests/integration/broker/http_stub.h"
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/proto/body_inspect.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "escrow/errors.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PARKED "TRANS_CHECK_MAX_TIME_TOPIC"

/* Quick timers: first question after 50 ms, then every 100 to 200 ms. */
#define QUICK                                                                                      \
    "--log.segment.bytes", "1m", "--txn.timeout.ms", "50", "--txn.check.interval.ms", "100",       \
        "--txn.check.interval.max.ms", "200", "--callback.timeout.ms", "300"

static const char *callback_arg(const struct http_stub *s, char *dst, size_t size)
{
    (void)snprintf(dst, size, "default=http://127.0.0.1:%u/check", s->port); /* fits */
    return dst;
}

static int64_t send_half(struct client *c, const char *topic, const char *id)
{
    char properties[128];

    (void)snprintf(properties, sizeof properties, "UNIQ_KEY=%s", id); /* fits */
    return client_send(
        c, &(struct test_message){
               .topic = topic, .properties = properties, .body = slice_str(id), .is_half = true});
}

static void await_max(struct client *c, const char *topic, int64_t max)
{
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;

    while (client_max_offset(c, topic, 0) < max) {
        test_await(-1, deadline_ms, topic);
    }
    ck_assert_int_eq(client_max_offset(c, topic, 0), max);
}

static void await_metric(struct client *c, const char *name, int64_t least)
{
    int64_t deadline_ms = test_now_ms() + 2 * BROKER_WAIT_MS;

    while (client_metric(c, name) < least) {
        test_await(-1, deadline_ms, name);
    }
}

/* Decide one half by 30001: its error; *decided what holds. */
static int decide(struct client *c, const char *id, int64_t offset, enum txn_decision decision,
                  bool is_operator, enum txn_decision *decided)
{
    struct end_txn_request req = {.producer_group = is_operator ? SLICE_EMPTY : SLICE_LIT("pg"),
                                  .decision = decision,
                                  .is_operator = is_operator};
    struct end_txn_half half = {.transaction_id = slice_str(id), .offset = offset};
    struct end_txn_result result;

    ck_assert_int_eq(client_decide(c, &req, &half, 1, &result), RESPONSE_SUCCESS);
    *decided = result.decided;
    return result.error;
}

START_TEST(a_connected_producer_is_asked_and_its_answer_decides)
{
    /*
     * The question carries both offsets, the id and the record; the answer is an END_TRANSACTION.
     */
    struct broker_fixture f;
    struct client c;
    struct client producer;
    struct record_view view;
    struct slice id = SLICE_EMPTY;
    int64_t offset;
    int64_t asked = -1;
    struct header_writer *w;

    broker_fixture_start(&f, (const char *const[]){QUICK, NULL});
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    client_open(&producer, f.port, HEADER_ROCKETMQ);
    ck_assert_int_eq(client_heartbeat(&producer, "p1", "pg", NULL, NULL), RESPONSE_SUCCESS);
    offset = send_half(&c, "T", "live-1");
    ck_assert_int_eq(client_receive(&producer, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(producer.header.code, REQUEST_CHECK_TRANSACTION_STATE);
    ck_assert(header_is_oneway(&producer.header));
    ck_assert_int_eq(producer.header.type, HEADER_ROCKETMQ);
    ck_assert_int_eq(header_get_i64(&producer.header, "commitLogOffset", &asked), 0);
    ck_assert_int_eq(asked, offset);
    ck_assert_int_eq(header_get_i64(&producer.header, "tranStateTableOffset", &asked), 0);
    ck_assert_int_eq(asked, offset);
    ck_assert_int_eq(header_get_str(&producer.header, "transactionId", &id), 0);
    ck_assert(slice_eq_str(id, "live-1"));
    ck_assert_int_eq(record_decode(producer.body, &view), 0);
    ck_assert(slice_eq_str(view.f.topic, "T"));
    ck_assert(slice_eq_str(view.f.body, "live-1"));
    w = client_begin(&producer, REQUEST_END_TRANSACTION, HEADER_FLAG_ONEWAY);
    header_put_str(w, "producerGroup", SLICE_LIT("pg"));
    header_put_i64(w, "commitLogOffset", offset);
    header_put_i64(w, "commitOrRollback", 8);
    header_put_bool(w, "fromTransactionCheck", true);
    header_put_str(w, "transactionId", SLICE_LIT("live-1"));
    client_submit(&producer, SLICE_EMPTY);
    await_max(&c, "T", 1);
    ck_assert_int_eq(client_metric(&c, "txn_decided_by_check"), 1);
    client_close(&producer);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

/* The next question, as RocketMQ's broker shows it: its number among the properties. */
static int64_t question_number(struct client *producer)
{
    struct record_view view;
    struct slice id = SLICE_EMPTY;
    struct slice tag = SLICE_EMPTY;

    ck_assert_int_eq(client_receive(producer, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(producer->header.code, REQUEST_CHECK_TRANSACTION_STATE);
    ck_assert_int_eq(record_decode(producer->body, &view), 0);
    ck_assert_uint_eq(record_body_crc(view.f.body), view.body_crc);
    ck_assert_int_eq(view.f.sys_flag & SYSFLAG_TXN_MASK, 0);
    ck_assert(props_find(view.f.properties, prop_name(PROP_TRANSACTION_ID), &id));
    ck_assert(slice_eq_str(id, "again-1"));
    ck_assert(props_find(view.f.properties, prop_name(PROP_TAGS), &tag));
    ck_assert(slice_eq_str(tag, "a"));
    return props_find_i64(view.f.properties, prop_name(PROP_TRANSACTION_CHECK_TIMES), -1);
}

START_TEST(a_question_says_which_one_it_is)
{
    /*
     * TRANSACTION_CHECK_TIMES counts answers, and is not what the producer wrote; committed, the
     * message is as it was sent.
     */
    struct broker_fixture f;
    struct client c;
    struct client producer;
    struct record_view view;
    int64_t offset;

    broker_fixture_start(&f, (const char *const[]){QUICK, NULL});
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    client_open(&producer, f.port, HEADER_JSON);
    ck_assert_int_eq(client_heartbeat(&producer, "p1", "pg", NULL, NULL), RESPONSE_SUCCESS);
    offset = client_send(
        &c, &(struct test_message){.topic = "T",
                                   .properties = "TRAN_MSG=true;PGROUP=pg;UNIQ_KEY=again-1;TAGS=a;"
                                                 "TRANSACTION_CHECK_TIMES=7;__transactionId__=x",
                                   .body = SLICE_LIT("again-1"),
                                   .is_half = true});
    for (int64_t number = 0; number < 3;) {
        struct header_writer *w;
        int64_t next = question_number(&producer);
        ck_assert(next == number + 1 ||
                  (next == number && number > 0)); /* asked again: we dawdled */
        number = next;
        w = client_begin(&producer, REQUEST_END_TRANSACTION, HEADER_FLAG_ONEWAY);
        header_put_str(w, "producerGroup", SLICE_LIT("pg"));
        header_put_i64(w, "commitLogOffset", offset);
        header_put_i64(w, "commitOrRollback", number < 3 ? 0 : 8);
        header_put_bool(w, "fromTransactionCheck", true);
        header_put_str(w, "transactionId", SLICE_LIT("again-1"));
        client_submit(&producer, SLICE_EMPTY);
    }
    await_max(&c, "T", 1);
    ck_assert_int_eq(client_pull(&c, &(struct test_pull){.group = "g", .topic = "T", .count = 1}),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c.body, &view), 0);
    ck_assert_int_eq(view.f.sys_flag & SYSFLAG_TXN_MASK, SYSFLAG_TXN_COMMIT);
    ck_assert_int_eq(props_find_i64(view.f.properties, prop_name(PROP_TRANSACTION_CHECK_TIMES), -1),
                     7);
    client_close(&producer);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(without_a_producer_the_callback_is_asked)
{
    /* Commit and rollback by HTTP; the question names group, topic and transaction. */
    struct broker_fixture f;
    struct http_stub stub = {.port = 0};
    struct client c;
    char callback[100];

    http_stub_start(&stub, STUB_COMMIT);
    broker_fixture_start(&f, (const char *const[]){QUICK, "--callback",
                                                   callback_arg(&stub, callback, sizeof callback),
                                                   NULL});
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    (void)send_half(&c, "T", "http-1");
    await_max(&c, "T", 1);
    stub.mode = STUB_ROLLBACK;
    (void)send_half(&c, "T", "http-2");
    await_metric(&c, "txn_rolled_back", 1);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 1);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 0);
    client_close(&c);
    broker_fixture_stop(&f);
    http_stub_stop(&stub);
    ck_assert_ptr_nonnull(strstr(stub.request, "\"transactionId\":\"http-2\""));
    ck_assert_ptr_nonnull(strstr(stub.request, "\"producerGroup\":\"pg\""));
    ck_assert_ptr_nonnull(strstr(stub.request, "\"topic\":\"T\""));
}
END_TEST

START_TEST(what_is_no_answer_counts_nothing)
{
    /*
     * One counted round would expire the half (txn.check.max = 1). Wrong nonce, wrong id, unknown
     * words, garbage, status 500, a cut answer, silence and "in progress" count nothing, across a
     * SIGKILL too; then a commit commits.
     */
    static const enum http_stub_mode modes[] = {STUB_WRONG_NONCE, STUB_WRONG_ID,   STUB_WRONG_STATE,
                                                STUB_GARBAGE,     STUB_STATUS_500, STUB_CUT,
                                                STUB_SILENT,      STUB_IN_PROGRESS};
    struct broker_fixture f;
    struct http_stub stub = {.port = 0};
    struct client c;
    char callback[100];

    http_stub_start(&stub, STUB_IN_PROGRESS);
    broker_fixture_start(&f, (const char *const[]){QUICK, "--txn.check.max", "1", "--callback",
                                                   callback_arg(&stub, callback, sizeof callback),
                                                   NULL});
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    (void)send_half(&c, "T", "nobody-knows");
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        http_stub_expect(&stub, modes[i], 2);
        if (i == 3) {
            client_close(&c);
            broker_fixture_kill(&f);
            broker_fixture_launch(&f);
            client_open(&c, f.port, HEADER_MSGPACK);
        }
    }
    ck_assert_int_eq(client_metric(&c, "txn_rounds_counted"), 0);
    ck_assert_int_eq(client_metric(&c, "txn_expired"), 0);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 1);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 0);
    stub.mode = STUB_COMMIT;
    await_max(&c, "T", 1);
    client_close(&c);
    broker_fixture_stop(&f);
    http_stub_stop(&stub);
}
END_TEST

START_TEST(a_group_that_is_down_for_a_while_loses_nothing)
{
    /*
     * Nobody to ask: the group pauses and nothing is counted; a producer that connects is asked at
     * once.
     */
    struct broker_fixture f;
    struct http_stub stub = {.port = 0};
    struct client c;
    struct client producer;
    char callback[100];
    int64_t start_ms;

    http_stub_start(&stub, STUB_COMMIT);
    http_stub_stop(&stub); /* its port refuses connections now */
    broker_fixture_start(&f, (const char *const[]){QUICK, "--txn.check.max", "1", "--callback",
                                                   callback_arg(&stub, callback, sizeof callback),
                                                   NULL});
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    for (int i = 0; i < 20; i++) {
        char id[32];
        (void)snprintf(id, sizeof id, "down-%d", i); /* fits */
        (void)send_half(&c, "T", id);
    }
    await_metric(&c, "txn_group_pauses", 3);
    ck_assert_int_eq(client_metric(&c, "txn_rounds_counted"), 0);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 20);
    client_open(&producer, f.port, HEADER_JSON);
    ck_assert_int_eq(client_heartbeat(&producer, "p1", "pg", NULL, NULL), RESPONSE_SUCCESS);
    start_ms = test_now_ms();
    for (int i = 0; i < 20; i++) {
        int64_t offset = -1;
        ck_assert_int_eq(client_receive(&producer, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(producer.header.code, REQUEST_CHECK_TRANSACTION_STATE);
        ck_assert_int_eq(header_get_i64(&producer.header, "commitLogOffset", &offset), 0);
    }
    ck_assert_int_lt(test_now_ms() - start_ms, 3900); /* a pause would have been 4 s and more */
    client_close(&producer);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(an_endpoint_that_can_never_know_is_as_good_as_nobody)
{
    /*
     * One counted round would expire the half (txn.check.max = 1). "Not mine", again and again,
     * counts nothing; the producer that connects is asked, and decides.
     */
    struct broker_fixture f;
    struct http_stub stub = {.port = 0};
    struct client c;
    struct client producer;
    char callback[100];
    int64_t offset;
    int64_t asked = -1;
    struct header_writer *w;

    http_stub_start(&stub, STUB_NOT_MINE);
    broker_fixture_start(&f, (const char *const[]){QUICK, "--txn.check.max", "1", "--callback",
                                                   callback_arg(&stub, callback, sizeof callback),
                                                   NULL});
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    offset = send_half(&c, "T", "away-1");
    await_metric(&c, "txn_answers_not_mine", 3);
    ck_assert_int_eq(client_metric(&c, "txn_rounds_counted"), 0);
    ck_assert_int_eq(client_metric(&c, "txn_expired"), 0);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 1);
    client_open(&producer, f.port, HEADER_JSON);
    ck_assert_int_eq(client_heartbeat(&producer, "p1", "pg", NULL, NULL), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_receive(&producer, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(producer.header.code, REQUEST_CHECK_TRANSACTION_STATE);
    ck_assert_int_eq(header_get_i64(&producer.header, "commitLogOffset", &asked), 0);
    ck_assert_int_eq(asked, offset);
    w = client_begin(&producer, REQUEST_END_TRANSACTION, HEADER_FLAG_ONEWAY);
    header_put_str(w, "producerGroup", SLICE_LIT("pg"));
    header_put_i64(w, "commitLogOffset", offset);
    header_put_i64(w, "commitOrRollback", 8);
    header_put_bool(w, "fromTransactionCheck", true);
    header_put_str(w, "transactionId", SLICE_LIT("away-1"));
    client_submit(&producer, SLICE_EMPTY);
    await_max(&c, "T", 1);
    ck_assert_int_eq(client_metric(&c, "txn_rounds_counted"), 0);
    client_close(&producer);
    client_close(&c);
    broker_fixture_stop(&f);
    http_stub_stop(&stub);
}
END_TEST

/* A port that takes connections and never reads from them. */
static int silent_listen(uint16_t *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
    ck_assert_int_eq(listen(fd, 1024), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *port = ntohs(addr.sin_port);
    return fd;
}

static void send_halves(struct client *c, const char *group, int count)
{
    for (int i = 0; i < count; i++) {
        char properties[128];
        (void)snprintf(properties, sizeof properties, "UNIQ_KEY=%s-%d;PGROUP=%s", group, i,
                       group); /* fits */
        (void)client_send(c, &(struct test_message){.topic = "T",
                                                    .properties = properties,
                                                    .body = slice_str(group),
                                                    .is_half = true});
    }
}

START_TEST(a_silent_endpoint_delays_no_other_group)
{
    /*
     * 400 halves of a group whose endpoint never answers, as many questions out as it may have;
     * another group's 100 halves are decided long before the first of them times out.
     */
    struct broker_fixture f;
    struct http_stub stub = {.port = 0};
    struct client c;
    char callback[100];
    char silent[100];
    uint16_t port;
    int fd = silent_listen(&port);
    int64_t start_ms;

    http_stub_start(&stub, STUB_COMMIT);
    (void)snprintf(silent, sizeof silent, "silent=http://127.0.0.1:%u/", port); /* fits */
    broker_fixture_start(&f, (const char *const[]){"--txn.timeout.ms", "50",
                                                   "--callback.timeout.ms", "20000", "--callback",
                                                   callback_arg(&stub, callback, sizeof callback),
                                                   "--callback", silent, NULL});
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    send_halves(&c, "silent", 400);
    await_metric(&c, "txn_asks_http", 256); /* the window of one group */
    start_ms = test_now_ms();
    send_halves(&c, "fine", 100);
    await_max(&c, "T", 100);
    ck_assert_int_lt(test_now_ms() - start_ms, 15000);
    ck_assert_int_eq(client_metric(&c, "txn_group_pauses"), 0);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 400);
    client_close(&c);
    broker_fixture_stop(&f);
    http_stub_stop(&stub);
    (void)close(fd);
}
END_TEST

START_TEST(a_half_that_cannot_be_read_does_not_stop_its_group)
{
    /* A byte of the first half flips on the disk: it stays, the second one is decided. */
    struct broker_fixture f;
    struct http_stub stub = {.port = 0};
    struct client c;
    char callback[100];
    char folder[300];
    char path[600];
    int64_t offset;
    int fd;

    http_stub_start(&stub, STUB_COMMIT);
    broker_fixture_start(&f, (const char *const[]){"--txn.timeout.ms", "1500", "--callback",
                                                   callback_arg(&stub, callback, sizeof callback),
                                                   NULL});
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    offset = send_half(&c, "T", "damaged");
    (void)snprintf(folder, sizeof folder, "%s/log", f.folder); /* fits */
    folder_first(folder, path, sizeof path);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, "?", 1, offset + 60), 1);
    ck_assert_int_eq(close(fd), 0);
    (void)send_half(&c, "T", "sound");
    await_max(&c, "T", 1);
    broker_fixture_await(&f, "store.damaged");
    ck_assert_int_eq(client_metric(&c, "log_damaged"), 1);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 1);
    ck_assert_int_eq(client_metric(&c, "txn_group_pauses"), 0);
    client_close(&c);
    broker_fixture_stop(&f);
    http_stub_stop(&stub);
}
END_TEST

START_TEST(used_up_checks_park_the_half_until_a_person_decides)
{
    /*
     * Answered "unknown" twice: in the parking topic, not in its own; so after SIGKILL. By hand one
     * is committed, one rolled back; the first decision holds, and who asks later is told which.
     */
    struct broker_fixture f;
    struct http_stub stub = {.port = 0};
    struct client c;
    enum txn_decision decided;
    char callback[100];
    int64_t first;
    int64_t second;

    http_stub_start(&stub, STUB_UNKNOWN);
    broker_fixture_start(&f, (const char *const[]){QUICK, "--txn.check.max", "2", "--callback",
                                                   callback_arg(&stub, callback, sizeof callback),
                                                   NULL});
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    first = send_half(&c, "T", "lost-1");
    second = send_half(&c, "T", "lost-2");
    await_max(&c, PARKED, 2);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 0);
    client_close(&c);
    broker_fixture_kill(&f);
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_MSGPACK);
    ck_assert_int_eq(client_max_offset(&c, PARKED, 0), 2);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 0);
    ck_assert_int_eq(client_metric(&c, "txn_expired_now"), 2);
    ck_assert_int_eq(decide(&c, "lost-1", first, TXN_COMMIT, true, &decided), 0);
    ck_assert_int_eq(decide(&c, "lost-2", END_TXN_OFFSET_NONE, TXN_ROLLBACK, true, &decided),
                     ESCROW_ENOTFOUND); /* without group or offset there is no way to find it */
    ck_assert_int_eq(decide(&c, "lost-2", second, TXN_ROLLBACK, true, &decided), 0);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 1);
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(decide(&c, "lost-1", first, TXN_COMMIT, false, &decided), 0);
        ck_assert_int_eq(decided, TXN_COMMIT);
        ck_assert_int_eq(decide(&c, "lost-1", first, TXN_ROLLBACK, true, &decided),
                         ESCROW_ECONFLICT);
        ck_assert_int_eq(decided, TXN_COMMIT);
        ck_assert_int_eq(decide(&c, "lost-2", second, TXN_COMMIT, true, &decided),
                         ESCROW_EROLLEDBACK);
        ck_assert_int_eq(decided, TXN_ROLLBACK);
        ck_assert_int_eq(client_end(&c, "pg", second, "lost-2", 8), RESPONSE_TRANSACTION_FAILED);
        ck_assert(slice_eq_str(c.header.remark, "the transaction was rolled back before"));
        ck_assert_int_eq(client_end(&c, "pg", first, "lost-1", 12), RESPONSE_TRANSACTION_FAILED);
        ck_assert(slice_eq_str(c.header.remark, "the transaction was committed before"));
        ck_assert_int_eq(client_end(&c, "pg", first, "lost-1", 8), RESPONSE_SUCCESS);
        client_close(&c);
        broker_fixture_kill(&f);
        broker_fixture_launch(&f);
        client_open(&c, f.port, HEADER_MSGPACK);
    }
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 1);
    client_close(&c);
    broker_fixture_stop(&f);
    http_stub_stop(&stub);
}
END_TEST

START_TEST(who_may_not_decide_is_refused)
{
    /* Another group, another id, an unknown offset, a record that is no half; nothing changes. */
    struct broker_fixture f;
    struct client c;
    enum txn_decision decided;
    int64_t offset;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    (void)client_send(&c, &(struct test_message){.topic = "T", .body = SLICE_LIT("plain")});
    offset = send_half(&c, "T", "mine");
    ck_assert_int_eq(client_end(&c, "other", offset, "mine", 8),
                     RESPONSE_TRANSACTION_STATE_GROUP_WRONG);
    ck_assert_int_eq(client_error(&c), ESCROW_EPERM);
    ck_assert_int_eq(client_end(&c, "pg", offset, "not-mine", 8), RESPONSE_QUERY_NOT_FOUND);
    ck_assert_int_eq(client_end(&c, "pg", offset + 8, "mine", 8), RESPONSE_QUERY_NOT_FOUND);
    ck_assert_int_eq(client_end(&c, "pg", 0, "mine", 8), RESPONSE_QUERY_NOT_FOUND);
    ck_assert_int_eq(client_end(&c, "pg", -1, "mine", 8), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(client_end(&c, "pg", offset, "mine", 0), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 1);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 1);
    ck_assert_int_eq(decide(&c, "mine", END_TXN_OFFSET_NONE, TXN_COMMIT, false, &decided), 0);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 2);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(an_undecided_half_can_be_reached_by_no_request)
{
    /*
     * Pull, look-up by offset and by key, and send-back: none shows or copies it, before or after a
     * rollback.
     */
    struct broker_fixture f;
    struct client c;
    struct header_writer *w;
    int64_t offset;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    offset = send_half(&c, "T", "hidden");
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, 0, 10, 0}),
                         RESPONSE_PULL_NOT_FOUND);
        w = client_begin(&c, REQUEST_VIEW_MESSAGE_BY_ID, 0);
        header_put_i64(w, "offset", offset);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SYSTEM_ERROR);
        w = client_begin(&c, REQUEST_QUERY_MESSAGE, 0);
        header_put_str(w, "topic", SLICE_LIT("T"));
        header_put_str(w, "key", SLICE_LIT("hidden"));
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_QUERY_NOT_FOUND);
        w = client_begin(&c, REQUEST_CONSUMER_SEND_MSG_BACK, 0);
        header_put_i64(w, "offset", offset);
        header_put_str(w, "group", SLICE_LIT("g"));
        header_put_i64(w, "delayLevel", 0);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SYSTEM_ERROR);
        ck_assert_int_eq(client_end(&c, "pg", offset, "hidden", 12), RESPONSE_SUCCESS);
    }
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_marked_message_is_a_half_unless_it_is_a_delayed_retry)
{
    /*
     * The mark in any case, with reconsumeTimes, with a delay level, with a level that is none: an
     * undecided half, not seen by consumers. With both reconsumeTimes and a level: a delayed one.
     */
    static const struct {
        const char *properties;
        int32_t reconsume_times;
    } halves[] = {{"UNIQ_KEY=m0;TRAN_MSG=TRUE;PGROUP=pg", 0},
                  {"UNIQ_KEY=m1;TRAN_MSG=tRue;PGROUP=pg", 0},
                  {"UNIQ_KEY=m2;TRAN_MSG=true;PGROUP=pg", 2},
                  {"UNIQ_KEY=m3;TRAN_MSG=true;PGROUP=pg", -1},
                  {"UNIQ_KEY=m4;TRAN_MSG=true;PGROUP=pg;DELAY=0", 2},
                  {"UNIQ_KEY=m5;TRAN_MSG=true;PGROUP=pg;DELAY=-3", 2},
                  {"UNIQ_KEY=m6;TRAN_MSG=true;PGROUP=pg;DELAY=1", 0}};
    const int count = sizeof halves / sizeof halves[0];
    struct broker_fixture f;
    struct client c;
    struct test_message m = {.topic = "T", .body = SLICE_LIT("marked")};

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    for (int i = 0; i < count; i++) {
        m.properties = halves[i].properties;
        m.reconsume_times = halves[i].reconsume_times;
        (void)client_send(&c, &m);
        ck_assert_int_eq(client_metric(&c, "txn_undecided"), i + 1);
        ck_assert_int_eq(client_max_offset(&c, "T", 0), 0);
    }
    m.properties = "UNIQ_KEY=m7;TRAN_MSG=true;PGROUP=pg;DELAY=1";
    m.reconsume_times = 2;
    (void)client_send(&c, &m);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), count);
    m.properties = "UNIQ_KEY=m8;TRAN_MSG=truely;PGROUP=pg";
    (void)client_send(&c, &m);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), count);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_half_of_what_is_no_group_is_refused)
{
    /* Nobody could be asked: no heartbeat is taken for such a group. The longest name is one. */
    char longest[32 + NAME_GROUP_LEN_MAX + 2];
    const char *const names[] = {"UNIQ_KEY=a;PGROUP=a b", "UNIQ_KEY=b;PGROUP=a/b",
                                 "UNIQ_KEY=c;PGROUP=a.b", longest};
    struct broker_fixture f;
    struct client c;
    struct test_message m = {.topic = "T", .body = SLICE_LIT("half"), .is_half = true};
    int len = snprintf(longest, sizeof longest, "UNIQ_KEY=d;PGROUP=");

    memset(longest + len, 'g', NAME_GROUP_LEN_MAX + 1);
    longest[len + NAME_GROUP_LEN_MAX + 1] = '\0';
    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        m.properties = names[i];
        ck_assert_int_eq(client_try_send(&c, &m), RESPONSE_INVALID_PARAMETER);
    }
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 0);
    longest[len + NAME_GROUP_LEN_MAX] = '\0';
    (void)client_send(&c, &m);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 1);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(an_outcome_that_is_none_is_refused)
{
    /* Neither committed nor rolled back, and the client is told; 0 is "unknown", as asked. */
    static const int32_t outcomes[] = {3, -1, 4, 9, 16, INT32_MAX};
    struct broker_fixture f;
    struct client c;
    int64_t half;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    half = send_half(&c, "T", "x");
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
        ck_assert_int_eq(client_end(&c, "pg", half, "x", outcomes[i]), RESPONSE_INVALID_PARAMETER);
    }
    ck_assert_int_eq(client_end(&c, "pg", half, "x", 0), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 1);
    ck_assert_int_eq(client_end(&c, "pg", half, "x", 8), RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

#define SPLIT_ROUNDS 12

START_TEST(one_decision_over_three_topics_is_whole_after_sigkill)
{
    /*
     * Three halves in three topics, one commit, SIGKILL without waiting for the answer: after each
     * restart all three are visible or none, and what was answered holds.
     */
    static const char *const topics[] = {"A", "B", "C"};
    struct broker_fixture f;
    struct client c;

    broker_fixture_start(&f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    client_open(&c, f.port, HEADER_MSGPACK);
    for (int t = 0; t < 3; t++) {
        client_topic(&c, topics[t], 1);
    }
    for (int round = 0; round < SPLIT_ROUNDS; round++) {
        struct end_txn_request req = {.producer_group = SLICE_LIT("pg"), .decision = TXN_COMMIT};
        struct end_txn_half halves[3];
        struct end_txn_result results[3];
        char ids[3][32];
        struct buf body;
        int64_t max[3];
        for (int t = 0; t < 3; t++) {
            (void)snprintf(ids[t], sizeof ids[t], "r%d-%s", round, topics[t]); /* fits */
            halves[t] = (struct end_txn_half){.transaction_id = slice_str(ids[t]),
                                              .offset = send_half(&c, topics[t], ids[t])};
        }
        buf_init(&body, 0);
        end_txn_request_encode(&body, &req, halves, 3);
        (void)client_begin(&c, REQUEST_ESCROW_END_TRANSACTION, 0);
        client_submit(&c, buf_slice(&body));
        if (round % 3 == 1) {
            ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
        }
        buf_fini(&body);
        client_close(&c);
        broker_fixture_kill(&f);
        broker_fixture_launch(&f);
        client_open(&c, f.port, HEADER_MSGPACK);
        for (int t = 0; t < 3; t++) {
            max[t] = client_max_offset(&c, topics[t], 0);
        }
        ck_assert_int_eq(max[0], max[1]);
        ck_assert_int_eq(max[0], max[2]);
        if (round % 3 == 1) {
            ck_assert_int_eq(max[0], round + 1);
        }
        ck_assert_int_eq(client_decide(&c, &req, halves, 3, results), RESPONSE_SUCCESS);
        for (int t = 0; t < 3; t++) {
            ck_assert_int_eq(results[t].error, 0);
            ck_assert_int_eq(client_max_offset(&c, topics[t], 0), round + 1);
        }
    }
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_half_sent_again_is_the_same_half)
{
    /*
     * Same group and id: the first offset, one copy; another message under that id: refused; after
     * a decision: refused with what holds.
     */
    struct broker_fixture f;
    struct client c;
    struct client other;
    int64_t offset;
    struct test_message m = {
        .topic = "T", .properties = "UNIQ_KEY=again", .body = SLICE_LIT("again"), .is_half = true};

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 2);
    client_topic(&c, "U", 1);
    for (int i = 0; i < 5; i++) {
        client_put_send(&c, &m, 0); /* all at once: the later ones meet the first in flight */
    }
    ck_assert_int_eq(client_flush(&c), 0);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(c.header.code, RESPONSE_SUCCESS);
    }
    m.queue = 1; /* producers try again on another queue */
    offset = client_send(&c, &m);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 1);
    ck_assert_int_eq(client_try_send(&c, &(struct test_message){.topic = "U",
                                                                .properties = m.properties,
                                                                .body = m.body,
                                                                .is_half = true}),
                     RESPONSE_MESSAGE_ILLEGAL);
    ck_assert_int_eq(client_error(&c), ESCROW_ECONFLICT);
    /* In another encoding the broker adds other properties: the same half all the same. */
    client_open(&other, f.port, HEADER_MSGPACK);
    ck_assert_int_eq(client_send(&other, &m), offset);
    client_close(&other);
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 1);
    ck_assert_int_eq(client_end(&c, "pg", offset, "again", 8), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 1);
    ck_assert_int_eq(client_try_send(&c, &m), RESPONSE_TRANSACTION_FAILED);
    ck_assert_int_eq(client_error(&c), ESCROW_ECONFLICT);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_wrong_table_offset_decides_nothing)
{
    /* As in RocketMQ: SYSTEM_ERROR, and the half stays undecided. Left out, it is not missed. */
    struct broker_fixture f;
    struct client c;
    struct test_message m = {
        .topic = "T", .properties = "UNIQ_KEY=t", .body = SLICE_LIT("x"), .is_half = true};
    int64_t offset;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    offset = client_send(&c, &m);
    for (int i = 0; i < 3; i++) {
        struct header_writer *w = client_begin(&c, REQUEST_END_TRANSACTION, 0);
        header_put_str(w, "producerGroup", SLICE_LIT("pg"));
        header_put_i64(w, "commitLogOffset", offset);
        if (i < 2) {
            header_put_i64(w, "tranStateTableOffset", offset + 1 - 2 * i);
        }
        header_put_i64(w, "commitOrRollback", i == 1 ? 12 : 8);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY),
                         i < 2 ? RESPONSE_SYSTEM_ERROR : RESPONSE_SUCCESS);
        ck_assert_int_eq(client_metric(&c, "txn_undecided"), i < 2 ? 1 : 0);
    }
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_half_with_another_body_is_another_message)
{
    /* It would never be delivered: no success, whether the first is durable or in flight. */
    static const char *const bodies[] = {"one", "one", "two", "on", "one "};
    struct broker_fixture f;
    struct client c;
    struct test_message m = {.topic = "T", .properties = "UNIQ_KEY=body", .is_half = true};

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_ROCKETMQ);
    client_topic(&c, "T", 1);
    for (size_t round = 0; round < 2; round++) {
        int32_t first = c.opaque + 1;
        for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
            m.body = slice_str(bodies[i]);
            client_put_send(&c, &m, 0);
        }
        ck_assert_int_eq(client_flush(&c), 0);
        for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
            bool is_same;
            ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
            is_same = c.header.opaque < first + 2; /* answers may overtake each other */
            ck_assert_int_eq(c.header.code, is_same ? RESPONSE_SUCCESS : RESPONSE_MESSAGE_ILLEGAL);
            ck_assert_int_eq(client_error(&c), is_same ? 0 : ESCROW_ECONFLICT);
        }
    }
    ck_assert_int_eq(client_metric(&c, "txn_undecided"), 1);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, a_connected_producer_is_asked_and_its_answer_decides);
    tcase_add_test(tc, a_question_says_which_one_it_is);
    tcase_add_test(tc, without_a_producer_the_callback_is_asked);
    tcase_add_test(tc, what_is_no_answer_counts_nothing);
    tcase_add_test(tc, a_group_that_is_down_for_a_while_loses_nothing);
    tcase_add_test(tc, an_endpoint_that_can_never_know_is_as_good_as_nobody);
    tcase_add_test(tc, a_silent_endpoint_delays_no_other_group);
    tcase_add_test(tc, a_half_that_cannot_be_read_does_not_stop_its_group);
    tcase_add_test(tc, used_up_checks_park_the_half_until_a_person_decides);
    tcase_add_test(tc, who_may_not_decide_is_refused);
    tcase_add_test(tc, an_undecided_half_can_be_reached_by_no_request);
    tcase_add_test(tc, a_marked_message_is_a_half_unless_it_is_a_delayed_retry);
    tcase_add_test(tc, a_half_of_what_is_no_group_is_refused);
    tcase_add_test(tc, an_outcome_that_is_none_is_refused);
    tcase_add_test(tc, one_decision_over_three_topics_is_whole_after_sigkill);
    tcase_add_test(tc, a_half_sent_again_is_the_same_half);
    tcase_add_test(tc, a_half_with_another_body_is_another_message);
    tcase_add_test(tc, a_wrong_table_offset_decides_nothing);
}

int main(void)
{
    return broker_fixture_main("check_back", 120, add);
}
