/* What a relay does at the broker: opening a source, publishing batches. */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/proto/body_escrow.h"
#include "core/proto/record.h"
#include "escrow/errors.h"

static struct broker_fixture f;

/* Of the database that client_source_open names. */
static struct publish_head head_of(uint64_t epoch, const char *prev)
{
    return (struct publish_head){.source = SLICE_LIT("db"),
                                 .epoch = epoch,
                                 .system_id = 7,
                                 .timeline = 1,
                                 .prev = slice_str(prev)};
}

static void put_batch(struct buf *body, const struct publish_head *head, const char *next)
{
    struct publish_writer pub;
    struct publish_row row = {
        .topic = SLICE_LIT("Out"), .body = SLICE_LIT("row"), .born_ms = 1, .queue_id = -1};

    publish_begin(&pub, body, head);
    publish_put(&pub, &row);
    (void)publish_end(&pub, slice_str(next));
}

static int32_t publish_as(struct client *c, const struct publish_head *head, const char *next)
{
    struct buf body;
    int32_t code;

    buf_init(&body, 0);
    put_batch(&body, head, next);
    (void)client_begin(c, REQUEST_ESCROW_PUBLISH_BATCH, 0);
    code = client_call(c, buf_slice(&body));
    buf_fini(&body);
    return code;
}

static int32_t publish(struct client *c, uint64_t epoch, const char *prev, const char *next)
{
    struct publish_head head = head_of(epoch, prev);

    return publish_as(c, &head, next);
}

static void peek_source(struct client *c, const struct source_open_request *peek,
                        struct source_open_answer *answer)
{
    struct buf body;

    buf_init(&body, 0);
    source_open_request_encode(&body, peek);
    (void)client_begin(c, REQUEST_ESCROW_SOURCE_OPEN, 0);
    ck_assert_int_eq(client_call(c, buf_slice(&body)), RESPONSE_SUCCESS);
    ck_assert_int_eq(source_open_answer_decode(c->body, answer), 0);
    buf_fini(&body);
}

START_TEST(an_outbox_batch_is_stored_once_and_by_its_owner)
{
    /*
     * Repeated: success, nothing new; from elsewhere: conflict; older epoch: fenced; another
     * database: foreign.
     */
    struct client c;
    struct source_open_answer open;
    struct source_open_request foreign = {
        .source = SLICE_LIT("db"), .system_id = 8, .timeline = 1, .owner = SLICE_LIT("x")};
    struct source_open_request peek = {.source = SLICE_LIT("db"),
                                       .system_id = 7,
                                       .timeline = 1,
                                       .owner = SLICE_LIT("y"),
                                       .peek = true};
    struct publish_answer answer;
    struct buf body;
    uint64_t epoch;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(publish(&c, 1, "", "p1"), RESPONSE_ILLEGAL_OPERATION); /* never opened */
    peek_source(&c, &peek, &open);
    ck_assert(!open.has_position);
    ck_assert_uint_eq(open.epoch, 0);
    ck_assert_int_eq(publish(&c, 1, "", "p1"), RESPONSE_ILLEGAL_OPERATION); /* still not */
    ck_assert_int_eq(client_source_open(&c, "db", 0, &open), RESPONSE_SUCCESS);
    ck_assert(!open.has_position);
    epoch = open.epoch;
    ck_assert_int_eq(publish(&c, epoch, "", "p1"), RESPONSE_SUCCESS);
    ck_assert_int_eq(publish(&c, epoch, "", "p1"), RESPONSE_SUCCESS);
    ck_assert_int_eq(publish_answer_decode(c.body, &answer), 0);
    ck_assert_int_eq(answer.offset, PUBLISH_OFFSET_NONE);
    peek_source(&c, &peek, &open); /* fences nobody */
    ck_assert_uint_eq(open.epoch, epoch);
    ck_assert(slice_eq_str(open.position, "p1"));
    ck_assert_int_eq(publish(&c, epoch, "p0", "p2"), RESPONSE_TRANSACTION_FAILED);
    ck_assert_int_eq(client_error(&c), ESCROW_ECONFLICT);
    ck_assert_int_eq(publish(&c, epoch, "p1", ""), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(client_source_open(&c, "db", 0, &open), RESPONSE_SUCCESS);
    ck_assert_uint_gt(open.epoch, epoch);
    ck_assert(slice_eq_str(open.position, "p1"));
    ck_assert_int_eq(publish(&c, epoch, "p1", "p2"), RESPONSE_ILLEGAL_OPERATION);
    ck_assert_int_eq(client_error(&c), ESCROW_EFENCED);
    buf_init(&body, 0);
    for (int i = 0; i < 2; i++) { /* another system, and a newer timeline of the same */
        buf_clear(&body);
        source_open_request_encode(&body, &foreign);
        (void)client_begin(&c, REQUEST_ESCROW_SOURCE_OPEN, 0);
        ck_assert_int_eq(client_call(&c, buf_slice(&body)), RESPONSE_ILLEGAL_OPERATION);
        ck_assert_int_eq(client_error(&c), ESCROW_EFOREIGN);
        foreign.system_id = 7;
        foreign.timeline = 2;
    }
    foreign.adopt = true;
    foreign.peek = true;
    peek_source(&c, &foreign, &open); /* told, and nothing is taken over */
    ck_assert(slice_eq_str(open.position, "p1"));
    ck_assert_uint_eq(open.last_timeline, 1);
    peek_source(&c, &peek, &open);
    ck_assert_uint_eq(open.last_timeline, 1);
    (void)client_begin(&c, REQUEST_ESCROW_PUBLISH_BATCH, 0);
    ck_assert_int_eq(client_call(&c, SLICE_LIT("\x81garbage")), RESPONSE_INVALID_PARAMETER);
    buf_fini(&body);
    ck_assert_int_eq(client_metric(&c, "outbox_batches"), 1);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_batch_of_another_database_than_the_source_was_opened_for_is_refused)
{
    /*
     * The epoch and the position are right, but mean nothing in another system or timeline. Nothing
     * of such a batch is stored.
     */
    struct client c;
    struct source_open_answer open;
    struct publish_head head;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(client_source_open(&c, "db", 0, &open), RESPONSE_SUCCESS);
    ck_assert_int_eq(publish(&c, open.epoch, "", "p1"), RESPONSE_SUCCESS);
    head = head_of(open.epoch, "p1");
    head.system_id = 8;
    ck_assert_int_eq(publish_as(&c, &head, "p2"), RESPONSE_ILLEGAL_OPERATION);
    ck_assert_int_eq(client_error(&c), ESCROW_EFOREIGN);
    head = head_of(open.epoch, "p1");
    head.timeline = 2;
    ck_assert_int_eq(publish_as(&c, &head, "p2"), RESPONSE_ILLEGAL_OPERATION);
    ck_assert_int_eq(client_error(&c), ESCROW_EFOREIGN);
    ck_assert_int_eq(client_metric(&c, "outbox_batches"), 1);
    ck_assert_int_eq(publish(&c, open.epoch, "p1", "p2"), RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

static int32_t publish_row(struct client *c, uint64_t epoch, const struct publish_row *row)
{
    struct publish_head head = head_of(epoch, "");
    struct publish_writer pub;
    struct buf body;
    int32_t code;

    buf_init(&body, 0);
    publish_begin(&pub, &body, &head);
    publish_put(&pub, row);
    (void)publish_end(&pub, SLICE_LIT("p1")); /* one row */
    (void)client_begin(c, REQUEST_ESCROW_PUBLISH_BATCH, 0);
    code = client_call(c, buf_slice(&body));
    buf_fini(&body);
    return code;
}

START_TEST(a_message_that_another_broker_had_keeps_what_that_one_knew)
{
    /*
     * Flag, compression, retries, sender and queue are the message's own; its properties neither
     * delay it nor make a half of it. A queue that the topic does not have is refused, also when it
     * would do for a message that is none of another broker.
     */
    static const uint8_t host[] = {10, 1, 2, 3, 0x27, 0x10};
    struct publish_row row = {.topic = SLICE_LIT("Moved"),
                              .uniq_key = SLICE_LIT("U1"),
                              .properties = SLICE_LIT("TRAN_MSG\001true\002DELAY\0013\002"),
                              .body = SLICE_LIT("packed"),
                              .born_ms = 1234,
                              .queue_id = 3,
                              .is_moved = true,
                              .flag = 77,
                              .sys_flag = SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_ZSTD,
                              .reconsume_times = 5,
                              .born_host = slice_of(host, sizeof host)};
    struct test_pull pull = {.topic = "Moved", .group = "g", .queue = 2, .count = 10};
    struct record_walk walk;
    struct record_view view;
    struct source_open_answer open;
    struct client c;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "Moved", 3);
    ck_assert_int_eq(client_source_open(&c, "db", 0, &open), RESPONSE_SUCCESS);
    ck_assert_int_eq(publish_row(&c, open.epoch, &row), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(client_error(&c), ESCROW_EINVAL);
    row.queue_id = 2;
    ck_assert_int_eq(publish_row(&c, open.epoch, &row), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_SUCCESS);
    walk.rest = c.body;
    ck_assert_int_eq(record_walk_next(&walk, &view), 1);
    ck_assert_int_eq(view.f.queue_id, 2);
    ck_assert_int_eq(view.f.flag, 77);
    ck_assert_int_eq(view.f.sys_flag, SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_ZSTD);
    ck_assert_int_eq(view.f.reconsume_times, 5);
    ck_assert_int_eq(view.f.born_ms, 1234);
    ck_assert_uint_eq(view.f.born_host.ip_len, 4);
    ck_assert_mem_eq(view.f.born_host.ip, host, 4);
    ck_assert_uint_eq(view.f.born_host.port, 10000);
    ck_assert(
        slice_eq_str(view.f.properties, "UNIQ_KEY\001U1\002TRAN_MSG\001true\002DELAY\0013\002"));
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

static void receive(struct client *c)
{
    ck_assert_int_eq(client_receive(c, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(c->header.code, RESPONSE_SUCCESS);
}

/* Send it. It is handled, since what is sent behind it is answered; it is not answered. */
static void submit_in_vain(struct client *c, int32_t code, const struct buf *body)
{
    (void)client_begin(c, code, 0);
    client_submit(c, buf_slice(body));
    (void)client_begin(c, REQUEST_ESCROW_STATUS, 0);
    client_submit(c, SLICE_EMPTY);
    receive(c);
    ck_assert_int_eq(c->header.opaque, c->opaque);
    ck_assert_int_eq(client_receive(c, 300), ESCROW_ETIMEOUT);
}

START_TEST(a_batch_that_is_not_on_disk_is_not_said_to_be_there)
{
    /*
     * The disk takes for ever. Neither the batch, nor its repetition by a relay that has lost its
     * connection, nor the question where the source stands is answered: a relay that believed it
     * would go on behind the batch, and a crash would take the batch away.
     */
    struct client first;
    struct client again;
    struct client asks;
    struct source_open_answer open;
    struct source_open_request peek = {.source = SLICE_LIT("db"),
                                       .system_id = 7,
                                       .timeline = 1,
                                       .owner = SLICE_LIT("y"),
                                       .peek = true};
    struct publish_head head;
    struct publish_answer answer;
    struct buf batch;
    struct buf question;
    pid_t thread;

    broker_fixture_start(&f, (const char *const[]){"--flush", "async", NULL});
    client_open(&first, f.port, HEADER_JSON);
    client_open(&again, f.port, HEADER_JSON);
    client_open(&asks, f.port, HEADER_JSON);
    ck_assert_int_eq(client_source_open(&first, "db", 0, &open), RESPONSE_SUCCESS);
    ck_assert_int_eq(publish(&first, open.epoch, "", "p1"), RESPONSE_SUCCESS);
    buf_init(&batch, 0);
    buf_init(&question, 0);
    head = head_of(open.epoch, "p1");
    put_batch(&batch, &head, "p2");
    source_open_request_encode(&question, &peek);
    thread = broker_fixture_hold_log(&f);
    submit_in_vain(&first, REQUEST_ESCROW_PUBLISH_BATCH, &batch);
    submit_in_vain(&again, REQUEST_ESCROW_PUBLISH_BATCH, &batch);
    submit_in_vain(&asks, REQUEST_ESCROW_SOURCE_OPEN, &question);
    broker_fixture_release_log(thread);
    receive(&first);
    ck_assert_int_eq(publish_answer_decode(first.body, &answer), 0);
    ck_assert_uint_eq(answer.count, 1);
    receive(&again);
    ck_assert_int_eq(publish_answer_decode(again.body, &answer), 0);
    ck_assert_int_eq(answer.offset, PUBLISH_OFFSET_NONE);
    receive(&asks);
    ck_assert_int_eq(source_open_answer_decode(asks.body, &open), 0);
    ck_assert(slice_eq_str(open.position, "p2"));
    ck_assert_int_eq(client_metric(&first, "outbox_batches"), 2);
    buf_fini(&batch);
    buf_fini(&question);
    client_close(&first);
    client_close(&again);
    client_close(&asks);
    broker_fixture_stop(&f);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, an_outbox_batch_is_stored_once_and_by_its_owner);
    tcase_add_test(tc, a_batch_of_another_database_than_the_source_was_opened_for_is_refused);
    tcase_add_test(tc, a_message_that_another_broker_had_keeps_what_that_one_knew);
    tcase_add_test(tc, a_batch_that_is_not_on_disk_is_not_said_to_be_there);
}

int main(void)
{
    return broker_fixture_main("source", 60, add_tests);
}
