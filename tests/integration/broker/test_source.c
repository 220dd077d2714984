/* What a relay does at the broker: opening a source, publishing batches. */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/proto/body_escrow.h"
#include "escrow/errors.h"

static struct broker_fixture f;

static int32_t publish(struct client *c, uint64_t epoch, const char *prev, const char *next)
{
    struct publish_writer pub;
    struct publish_head head = {.source = SLICE_LIT("db"),
                                .epoch = epoch,
                                .system_id = 7,
                                .timeline = 1,
                                .prev = slice_str(prev)};
    struct publish_row row = {
        .topic = SLICE_LIT("Out"), .body = SLICE_LIT("row"), .born_ms = 1, .queue_id = -1};
    struct buf body;
    int32_t code;

    buf_init(&body, 0);
    publish_begin(&pub, &body, &head);
    publish_put(&pub, &row);
    (void)publish_end(&pub, slice_str(next));
    (void)client_begin(c, REQUEST_ESCROW_PUBLISH_BATCH, 0);
    code = client_call(c, buf_slice(&body));
    buf_fini(&body);
    return code;
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

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, an_outbox_batch_is_stored_once_and_by_its_owner);
}

int main(void)
{
    return broker_fixture_main("source", 60, add_tests);
}
