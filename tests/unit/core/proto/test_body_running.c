/* What a consumer tells an administrator. */
#include "core/proto/body_running.h"

#include "tests/unit/core/proto/proto_test.h"

static struct running_queue row = {
    .commit_offset = 5,
    .first_offset = 6,
    .last_offset = 8,
    .count = 3,
    .is_locked = true,
    .locked_ms = 10,
    .pulled_ms = 11,
    .consumed_ms = 12,
};

START_TEST(running_information_has_every_part)
{
    /* Shows: the body of GET_CONSUMER_RUNNING_INFO, byte for byte. */
    struct kv_pair property = {SLICE_LIT(RUNNING_ORDERLY), SLICE_LIT("true")};
    struct running_topic topic = {SLICE_LIT("T"), 1.5, 2, 0.25, 4};
    struct running_info info = {.properties = &property,
                                .property_count = 1,
                                .queues = &row,
                                .queue_count = 1,
                                .topics = &topic,
                                .topic_count = 1};
    struct buf out;

    buf_init(&out, 0);
    running_info_encode(&out, &info);
    assert_slice(
        buf_slice(&out),
        "{\"mqTable\":{{\"brokerName\":\"b\",\"queueId\":1,\"topic\":\"T\"}:{\"cachedMsgCount\":3,"
        "\"cachedMsgMaxOffset\":8,\"cachedMsgMinOffset\":6,\"commitOffset\":5,\"droped\":false,"
        "\"dropped\":false,\"lastConsumeTimestamp\":12,\"lastLockTimestamp\":10,"
        "\"lastPullTimestamp\":11,\"locked\":true}},\"properties\":{\"PROP_CONSUMEORDERLY\":"
        "\"true\"},\"statusTable\":{\"T\":{\"consumeFailedMsgs\":4,\"consumeFailedTPS\":0.250,"
        "\"consumeOKTPS\":2.000,\"consumeRT\":1.500,\"pullRT\":0.000,\"pullTPS\":0.000}},"
        "\"subscriptionSet\":[]}");
    buf_fini(&out);
}
END_TEST

START_TEST(an_empty_consumer_has_empty_parts)
{
    /* Shows: nothing is left out, for mqadmin looks at all of it. */
    struct running_info info = {.queue_count = 0};
    struct buf out;

    buf_init(&out, 0);
    running_info_encode(&out, &info);
    assert_slice(buf_slice(&out), "{\"mqTable\":{},\"properties\":{},\"statusTable\":{},"
                                  "\"subscriptionSet\":[]}");
    buf_fini(&out);
}
END_TEST

START_TEST(offsets_and_results)
{
    /* Shows: the bodies of GET_CONSUMER_STATUS_FROM_CLIENT and CONSUME_MESSAGE_DIRECTLY. */
    struct consume_directly done = {true, "CR_LATER", 7};
    struct buf out;

    buf_init(&out, 0);
    running_offsets_encode(&out, &row, 1);
    assert_slice(buf_slice(&out),
                 "{\"consumerTable\":{},\"messageQueueTable\":{{\"brokerName\":\"b\",\"queueId\":1,"
                 "\"topic\":\"T\"}:5}}");
    buf_clear(&out);
    consume_directly_encode(&out, &done);
    assert_slice(buf_slice(&out), "{\"autoCommit\":true,\"consumeResult\":\"CR_LATER\","
                                  "\"order\":true,\"spentTimeMills\":7}");
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_running");

    row.queue = (struct message_queue){SLICE_LIT("T"), SLICE_LIT("b"), 1};
    tcase_add_test(tc, running_information_has_every_part);
    tcase_add_test(tc, an_empty_consumer_has_empty_parts);
    tcase_add_test(tc, offsets_and_results);
    return run_tests(tc, "core/proto/body_running");
}
