/*
 * What is old goes, what is needed stays, and clients are told. The rules themselves are tested in
 * tests/unit/core/store/test_retention.c, full disks in test_disk.c.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/base/mem.h"
#include "core/proto/record.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <string.h>

#define BODY_BYTES 16384
#define MIB        1048576

/* Everything is old at once; nothing is. */
static const char *const hasty[] = {"--log.segment.bytes",
                                    "1m",
                                    "--file.reserved.ms",
                                    "1",
                                    "--delete.when",
                                    "any",
                                    "--retention.interval.ms",
                                    "20",
                                    NULL};
static const char *const calm[] = {
    "--log.segment.bytes", "1m", "--delete.when", "any", "--retention.interval.ms", "20", NULL};

/* Start again, with other options. */
static void relaunch(struct broker_fixture *f, const char *const *args, struct client *c)
{
    memset(f->args, 0, sizeof f->args);
    for (size_t i = 0; args[i] != NULL; i++) {
        f->args[i] = args[i];
    }
    broker_fixture_launch(f);
    client_open(c, f->port, HEADER_MSGPACK);
}

static int64_t field(struct client *c, const char *name)
{
    int64_t value = -1;

    ck_assert_int_eq(header_get_i64(&c->header, name, &value), 0);
    return value;
}

static struct header_writer *queue_request(struct client *c, int32_t code, const char *topic)
{
    struct header_writer *w = client_begin(c, code, 0);

    header_put_str(w, "topic", slice_str(topic));
    header_put_i64(w, "queueId", 0);
    return w;
}

static int64_t min_offset(struct client *c, const char *topic)
{
    (void)queue_request(c, REQUEST_GET_MIN_OFFSET, topic);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
    return field(c, "offset");
}

/* Some 64 messages fill a log file. Busy is an answer of a slow disk. */
static void fill(struct client *c, const uint8_t *body, int count)
{
    struct test_message m = {.topic = "T", .body = slice_of(body, BODY_BYTES)};
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;

    while (count > 0) {
        int32_t code = client_try_send(c, &m);
        count -= code == RESPONSE_SUCCESS ? 1 : 0;
        ck_assert(code == RESPONSE_SUCCESS || code == RESPONSE_SYSTEM_BUSY);
        ck_assert_int_lt(test_now_ms(), deadline_ms);
    }
}

static void await_metric(struct client *c, const char *name, int64_t least)
{
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;

    while (client_metric(c, name) < least) {
        test_await(-1, deadline_ms, name);
    }
}

/*
 * A consumer that is too slow is told where the queue begins now, and goes on there. Retention may
 * go on meanwhile, and a slow disk says that it is busy: then again.
 */
static void slow_consumer_goes_on(struct client *c)
{
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    int64_t min = min_offset(c, "T");
    struct header_writer *w;
    int32_t code;

    ck_assert_int_gt(min, 0);
    ck_assert_int_eq(client_pull(c, &(struct test_pull){"g", "T", 0, 0, 32, 0}),
                     RESPONSE_PULL_OFFSET_MOVED);
    ck_assert_int_ge(field(c, "nextBeginOffset"), min);
    ck_assert_int_eq(field(c, "minOffset"), field(c, "nextBeginOffset"));
    do {
        min = min_offset(c, "T");
        code = client_pull(c, &(struct test_pull){"g", "T", 0, min, 32, 0});
        ck_assert_int_lt(test_now_ms(), deadline_ms);
    } while (code == RESPONSE_PULL_OFFSET_MOVED || code == RESPONSE_SYSTEM_BUSY);
    ck_assert_int_eq(code, RESPONSE_SUCCESS);
    ck_assert_int_gt(field(c, "nextBeginOffset"), min);
    w = queue_request(c, REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, "T");
    header_put_i64(w, "timestamp", 1);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_ge(field(c, "offset"), min);
    (void)queue_request(c, REQUEST_GET_EARLIEST_MSG_STORETIME, "T");
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_ge(field(c, "timestamp"), client_metric(c, "oldest_message_ms"));
    w = client_begin(c, REQUEST_VIEW_MESSAGE_BY_ID, 0);
    header_put_i64(w, "offset", 0);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(client_error(c), ESCROW_ENOTFOUND);
}

static int64_t send_half(struct client *c, const char *properties, struct slice body)
{
    return client_send(c,
                       &(struct test_message){
                           .topic = "H", .properties = properties, .body = body, .is_half = true});
}

/* The whole log but its last file goes, whatever was held in it. */
static void await_given_up(struct client *c)
{
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;

    while (client_metric(c, "log_files") > 2 || client_metric(c, "log_pinned_bytes") > 0) {
        test_await(-1, deadline_ms, "the log does not become shorter");
    }
}

/* The one message at `offset` of H. */
static void expect_message(struct client *c, int64_t offset, const char *body)
{
    struct record_view view;
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    int32_t code;

    do {
        code = client_pull(c, &(struct test_pull){"g", "H", 0, offset, 1, 1000});
        ck_assert_int_lt(test_now_ms(), deadline_ms);
    } while (code != RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c->body, &view), 0);
    ck_assert(slice_eq_str(view.f.body, body));
    ck_assert_int_eq(view.f.queue_offset, offset);
    /* what a consumer shows as the message's id is where it stands now */
    ck_assert_int_ge(view.f.physical_offset, client_metric(c, "log_first"));
    header_put_i64(client_begin(c, REQUEST_VIEW_MESSAGE_BY_ID, 0), "offset",
                   view.f.physical_offset);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
}

START_TEST(what_is_held_outlives_what_was_stored_with_it)
{
    /*
     * A half, a half with a delay and a delayed message among plain ones: all old log files go, and
     * copies of the three stay, more than once. They keep the offsets that their producers know:
     * the halves are asked about, the same half sent again is the same, commits find them by these
     * offsets and deliver them. With a stop, or a kill, in between.
     */
    const struct slice held = SLICE_LIT("held");
    struct broker_fixture f;
    struct client c;
    struct client producer;
    uint8_t *body = mem_calloc(1, BODY_BYTES);
    int64_t half;
    int64_t timed;
    int64_t asked = -1;

    broker_fixture_start(&f, hasty);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    client_topic(&c, "H", 1);
    fill(&c, body, 90);
    half = send_half(&c, "UNIQ_KEY=h;CHECK_IMMUNITY_TIME_IN_SECONDS=1", held);
    timed = send_half(&c, "UNIQ_KEY=t;TIMER_DELAY_SEC=1", SLICE_LIT("timed"));
    (void)client_send(&c, &(struct test_message){.topic = "H",
                                                 .properties = "UNIQ_KEY=d;TIMER_DELAY_SEC=3600",
                                                 .body = SLICE_LIT("delayed")});
    for (int round = 1; round <= 3; round++) {
        fill(&c, body, 250);
        await_given_up(&c);
        ck_assert_int_ge(client_metric(&c, "held_carried"), 3);
        ck_assert_int_gt(client_metric(&c, "log_first"), half);
        ck_assert_int_eq(client_metric(&c, "txn_undecided"), 2);
        ck_assert_int_eq(client_metric(&c, "held_now"), 2);
        slow_consumer_goes_on(&c);
        ck_assert_int_eq(send_half(&c, "UNIQ_KEY=h;CHECK_IMMUNITY_TIME_IN_SECONDS=1", held), half);
        client_close(&c);
        if (round % 2 == 0) {
            broker_fixture_kill(&f);
        } else {
            broker_fixture_stop(&f);
        }
        relaunch(&f, round < 3 ? hasty : calm, &c);
    }
    client_open(&producer, f.port, HEADER_ROCKETMQ);
    ck_assert_int_eq(client_heartbeat(&producer, "p1", "pg", NULL, NULL), RESPONSE_SUCCESS);
    while (asked != half) { /* by now the other one may be due, too */
        ck_assert(asked == -1 || asked == timed);
        ck_assert_int_eq(client_receive(&producer, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(producer.header.code, REQUEST_CHECK_TRANSACTION_STATE);
        ck_assert_int_eq(header_get_i64(&producer.header, "commitLogOffset", &asked), 0);
    }
    client_close(&producer);
    ck_assert_int_eq(client_end(&c, "pg", half, "h", 8), RESPONSE_SUCCESS);
    expect_message(&c, 0, "held");
    ck_assert_int_eq(client_end(&c, "pg", timed, "t", 8), RESPONSE_SUCCESS);
    expect_message(&c, 1, "timed");
    client_close(&c);
    broker_fixture_kill(&f);
    relaunch(&f, calm, &c);
    expect_message(&c, 0, "held");
    expect_message(&c, 1, "timed");
    client_close(&c);
    broker_fixture_stop(&f);
    mem_free(body);
}
END_TEST

START_TEST(where_most_is_held_it_stays_and_keeps_what_follows_it)
{
    /* Copying would gain little: the log and STATUS say what keeps the files. */
    struct broker_fixture f;
    struct client c;
    uint8_t *body = mem_calloc(1, BODY_BYTES);
    int64_t half = -1;

    broker_fixture_start(&f, hasty);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    client_topic(&c, "H", 1);
    for (int i = 0; i < 200; i++) {
        char properties[32];
        int64_t offset;
        (void)snprintf(properties, sizeof properties, "UNIQ_KEY=h%d", i); /* fits */
        offset = send_half(&c, properties, slice_of(body, BODY_BYTES));
        half = half < 0 ? offset : half;
    }
    fill(&c, body, 60);
    await_metric(&c, "log_pinned_bytes", 3 * MIB);
    ck_assert_int_eq(client_metric(&c, "log_files_deleted"), 0);
    ck_assert_int_eq(client_metric(&c, "held_carried"), 0);
    ck_assert_int_eq(client_metric(&c, "log_pinned_from"), half);
    broker_fixture_await(&f, "retention.pinned");
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "undecided half of group pg, topic H"));
    ck_assert_int_eq(client_end(&c, "pg", half, "h0", 12), RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_stop(&f);
    mem_free(body);
}
END_TEST

START_TEST(kills_while_log_files_are_deleted_lose_nothing_else)
{
    /*
     * Six times some log files are filled and the process is killed as soon as one more is gone:
     * what is left begins where the broker says, ends with the last message that was stored, and
     * can be read.
     */
    struct broker_fixture f;
    struct client c;
    uint8_t *body = mem_calloc(1, BODY_BYTES);

    broker_fixture_start(&f, hasty);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    for (int i = 1; i <= 6; i++) {
        fill(&c, body, 200);
        await_metric(&c, "log_files_deleted", 1 + i % 3);
        client_close(&c);
        broker_fixture_kill(&f);
        relaunch(&f, calm, &c);
        ck_assert_int_eq(client_max_offset(&c, "T", 0), i * 200);
        slow_consumer_goes_on(&c);
        ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, i * 200 - 1, 1, 0}),
                         RESPONSE_SUCCESS);
        client_close(&c);
        broker_fixture_kill(&f);
        relaunch(&f, hasty, &c);
    }
    client_close(&c);
    broker_fixture_stop(&f);
    mem_free(body);
}
END_TEST

START_TEST(nothing_goes_before_its_time)
{
    /* The default keeps what came today, whatever the hour; a clean stop and start too. */
    struct broker_fixture f;
    struct client c;
    uint8_t *body = mem_calloc(1, BODY_BYTES);

    broker_fixture_start(&f, calm);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    fill(&c, body, 300);
    for (int i = 0; i < 2; i++) {
        int64_t looked = client_metric(&c, "retention_steps");
        await_metric(&c, "retention_steps", looked + 3);
        ck_assert_int_eq(client_metric(&c, "log_files_deleted"), 0);
        ck_assert_int_eq(client_metric(&c, "log_first"), 0);
        ck_assert_int_eq(min_offset(&c, "T"), 0);
        ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, 0, 32, 0}),
                         RESPONSE_SUCCESS);
        client_close(&c);
        broker_fixture_stop(&f);
        broker_fixture_launch(&f);
        client_open(&c, f.port, HEADER_MSGPACK);
    }
    client_close(&c);
    broker_fixture_stop(&f);
    mem_free(body);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, what_is_held_outlives_what_was_stored_with_it);
    tcase_add_test(tc, where_most_is_held_it_stays_and_keeps_what_follows_it);
    tcase_add_test(tc, kills_while_log_files_are_deleted_lose_nothing_else);
    tcase_add_test(tc, nothing_goes_before_its_time);
}

int main(void)
{
    return broker_fixture_main("retention", 120, add);
}
