#include "core/proto/body_pop.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/body_test.h"

#include <string.h>

#define ONE_ACK                                                                                    \
    "{\"acks\":[{\"b\":\"BQE=\",\"c\":\"g\",\"pt\":123,\"q\":1,\"r\":\"0\",\"so\":40,\"t\":\"T\"}" \
    "],"                                                                                           \
    "\"brokerName\":\"b\"}"

static int acks_once(struct slice body)
{
    struct batch_acks acks;
    int rc = batch_acks_decode(body, &acks);

    batch_acks_fini(&acks);
    return rc;
}

START_TEST(a_batch_says_which_messages)
{
    /* Shows: the bits as fastjson 1 writes them, and the round trip. */
    struct batch_acks acks;
    struct buf out;

    buf_init(&out, 0);
    ck_assert_int_eq(batch_acks_decode(SLICE_LIT(ONE_ACK), &acks), 0);
    assert_slice(acks.broker_name, "b");
    ck_assert_uint_eq(acks.count, 1);
    ck_assert_uint_eq(acks.message_count, 3);
    assert_slice(acks.acks[0].group, "g");
    assert_slice(acks.acks[0].topic, "T");
    assert_slice(acks.acks[0].kind, "0");
    ck_assert_int_eq(acks.acks[0].queue_id, 1);
    ck_assert_int_eq(acks.acks[0].pop_ms, 123);
    ck_assert_int_eq(acks.acks[0].start_offset, 40);
    for (size_t bit = 0; bit < 20; bit++) {
        ck_assert_int_eq(batch_ack_has(&acks.acks[0], bit), bit == 0 || bit == 2 || bit == 8);
    }
    batch_acks_encode(&out, &acks);
    assert_slice(buf_slice(&out), ONE_ACK);
    batch_acks_fini(&acks);
    buf_fini(&out);
}
END_TEST

START_TEST(bits_may_be_numbers)
{
    /* Shows: bytes as fastjson 2 writes them, signed or not. */
    struct batch_acks acks;

    ck_assert_int_eq(
        batch_acks_decode(
            SLICE_LIT("{\"acks\":[{\"b\":[-128,1,255],\"c\":\"g\",\"pt\":1,\"q\":0,\"so\":0,"
                      "\"t\":\"T\"},{\"c\":\"g\",\"pt\":1,\"q\":0,\"so\":0,\"t\":\"T\"}]}"),
            &acks),
        0);
    ck_assert_uint_eq(acks.count, 2);
    ck_assert_uint_eq(acks.message_count, 10);
    ck_assert(batch_ack_has(&acks.acks[0], 7) && batch_ack_has(&acks.acks[0], 8));
    ck_assert(!batch_ack_has(&acks.acks[0], 0) && !batch_ack_has(&acks.acks[1], 0));
    batch_acks_fini(&acks);
}
END_TEST

START_TEST(a_batch_that_makes_no_sense_is_refused)
{
    /* Shows: missing and negative members, bits that are none, too many of them. */
    static const char *const bad[] = {
        "{\"acks\":[1]}",
        "{\"acks\":[{\"b\":\"AQ==\",\"pt\":1,\"q\":0,\"so\":0,\"t\":\"T\"}]}",
        "{\"acks\":[{\"b\":\"AQ==\",\"c\":\"g\",\"q\":0,\"so\":0,\"t\":\"T\"}]}",
        "{\"acks\":[{\"b\":\"AQ==\",\"c\":\"g\",\"pt\":1,\"q\":-1,\"so\":0,\"t\":\"T\"}]}",
        "{\"acks\":[{\"b\":\"AQ==\",\"c\":\"g\",\"pt\":1,\"q\":0,\"so\":-1,\"t\":\"T\"}]}",
        ("{\"acks\":[{\"b\":\"AQ==\",\"c\":\"g\",\"pt\":1,\"q\":0,\"so\":9223372036854775807,"
         "\"t\":\"T\"}]}"),
        "{\"acks\":[{\"b\":\"A\",\"c\":\"g\",\"pt\":1,\"q\":0,\"so\":0,\"t\":\"T\"}]}",
        "{\"acks\":[{\"b\":\"A?==\",\"c\":\"g\",\"pt\":1,\"q\":0,\"so\":0,\"t\":\"T\"}]}",
        "{\"acks\":[{\"b\":[256],\"c\":\"g\",\"pt\":1,\"q\":0,\"so\":0,\"t\":\"T\"}]}",
        "{\"acks\":[{\"b\":[{}],\"c\":\"g\",\"pt\":1,\"q\":0,\"so\":0,\"t\":\"T\"}]}",
    };
    struct batch_ack ack = {.group = SLICE_LIT("g"), .topic = SLICE_LIT("T")};
    struct batch_acks many = {.acks = &ack, .count = 1};
    static uint8_t bits[BATCH_ACK_MESSAGES_MAX / 8 + 4];
    struct buf out;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(acks_once(slice_str(bad[i])) == ESCROW_EPROTO, "%s", bad[i]);
    }
    memset(bits, 0xFF, sizeof bits);
    buf_init(&out, 0);
    ack.bits = slice_of(bits, BATCH_ACK_MESSAGES_MAX / 8);
    batch_acks_encode(&out, &many);
    ck_assert_int_eq(acks_once(buf_slice(&out)), 0);
    buf_clear(&out);
    ack.bits = slice_of(bits, BATCH_ACK_MESSAGES_MAX / 8 + 1);
    batch_acks_encode(&out, &many);
    ck_assert_int_eq(acks_once(buf_slice(&out)), ESCROW_ELIMIT);
    buf_clear(&out);
    ack.bits = slice_of(bits, sizeof bits);
    batch_acks_encode(&out, &many);
    ck_assert_int_eq(acks_once(buf_slice(&out)), ESCROW_ELIMIT);
    buf_fini(&out);
    ck_every_truncation(acks_once, ONE_ACK);
    ck_every_failing_allocation(acks_once, ONE_ACK);
}
END_TEST

START_TEST(a_mode_survives_the_round_trip)
{
    /* Shows: the body of SET_MESSAGE_REQUEST_MODE, and that there are two modes. */
    struct mode_request mode;
    struct mode_request back;
    struct buf out;

    buf_init(&out, 0);
    ck_assert_int_eq(mode_request_decode(SLICE_LIT("{\"consumerGroup\":\"g\",\"mode\":\"POP\","
                                                   "\"popShareQueueNum\":2,\"topic\":\"T\"}"),
                                         &mode),
                     0);
    ck_assert_int_eq(mode.mode, REQUEST_MODE_POP);
    ck_assert_int_eq(mode.share_queues, 2);
    mode.mode = REQUEST_MODE_PULL;
    mode_request_encode(&out, &mode);
    ck_is_standard(buf_slice(&out));
    ck_assert_int_eq(mode_request_decode(buf_slice(&out), &back), 0);
    ck_assert_int_eq(back.mode, REQUEST_MODE_PULL);
    assert_slice(back.group, "g");
    assert_slice(back.topic, "T");
    mode_request_fini(&mode);
    mode_request_fini(&back);
    ck_assert_int_eq(mode_request_decode(SLICE_LIT("{\"consumerGroup\":\"g\",\"topic\":\"T\","
                                                   "\"mode\":\"PUSH\"}"),
                                         &mode),
                     ESCROW_EPROTO);
    ck_assert_int_eq(
        mode_request_decode(SLICE_LIT("{\"consumerGroup\":\"g\",\"mode\":\"POP\"}"), &mode),
        ESCROW_EPROTO);
    ck_assert_int_eq(mode_request_decode(SLICE_LIT("{"), &mode), ESCROW_EPROTO);
    buf_fini(&out);
}
END_TEST

START_TEST(an_assignment_names_queues_and_how_to_ask)
{
    /* Shows: the request of Java's client, the answer, and the one that says nothing. */
    struct assignment_request req;
    const struct message_queue queue = {SLICE_LIT("T"), SLICE_LIT("b"), -1};
    struct buf out;

    buf_init(&out, 0);
    ck_assert_int_eq(
        assignment_request_decode(
            SLICE_LIT("{\"clientId\":\"c\",\"consumerGroup\":\"g\",\"messageModel\":\"CLUSTERING\","
                      "\"strategyName\":\"AVG\",\"topic\":\"T\"}"),
            &req),
        0);
    assert_slice(req.client_id, "c");
    assert_slice(req.group, "g");
    assert_slice(req.strategy, "AVG");
    assert_slice(req.topic, "T");
    ck_assert(!req.is_broadcast);
    assignment_request_fini(&req);
    ck_assert_int_eq(assignment_request_decode(SLICE_LIT("{\"topic\":\"T\"}"), &req),
                     ESCROW_EPROTO);
    assignments_encode(&out, &queue, 1, REQUEST_MODE_POP);
    assert_slice(
        buf_slice(&out),
        "{\"messageQueueAssignments\":[{\"messageQueue\":{\"brokerName\":\"b\",\"queueId\":"
        "-1,\"topic\":\"T\"},\"mode\":\"POP\"}]}");
    buf_clear(&out);
    assignments_encode(&out, &queue, 0, REQUEST_MODE_PULL);
    assert_slice(buf_slice(&out), "{\"messageQueueAssignments\":[]}");
    buf_clear(&out);
    assignments_encode(&out, NULL, 0, REQUEST_MODE_PULL);
    assert_slice(buf_slice(&out), "{}");
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_pop");

    tcase_add_test(tc, a_batch_says_which_messages);
    tcase_add_test(tc, bits_may_be_numbers);
    tcase_add_test(tc, a_batch_that_makes_no_sense_is_refused);
    tcase_add_test(tc, a_mode_survives_the_round_trip);
    tcase_add_test(tc, an_assignment_names_queues_and_how_to_ask);
    return run_tests(tc, "core/proto/body_pop");
}
