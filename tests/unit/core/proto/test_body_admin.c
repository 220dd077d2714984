/* Bodies for administration tools. */
#include "core/proto/body_admin.h"

#include "tests/unit/core/proto/proto_test.h"

START_TEST(times_of_queues)
{
    /* Shows: the body of QUERY_CONSUME_TIME_SPAN, byte for byte. */
    struct time_span span = {{SLICE_LIT("T"), SLICE_LIT("b"), 3}, 1, 2, -1, 4};
    struct buf out;

    buf_init(&out, 0);
    time_spans_encode(&out, &span, 1);
    assert_slice(buf_slice(&out),
                 "{\"consumeTimeSpanSet\":[{\"consumeTimeStamp\":-1,\"delayTime\":4,"
                 "\"maxTimeStamp\":2,\"messageQueue\":{\"brokerName\":\"b\",\"queueId\":3,"
                 "\"topic\":\"T\"},\"minTimeStamp\":1}]}");
    buf_fini(&out);
}
END_TEST

START_TEST(traffic_has_three_spans)
{
    /* Shows: the body of VIEW_BROKER_STATS_DATA, byte for byte. */
    struct traffic_span minute = {1, 0.5};
    struct traffic_span hour = {2, 0.25};
    struct traffic_span day = {UINT64_MAX, 0};
    struct buf out;

    buf_init(&out, 0);
    traffic_encode(&out, &minute, &hour, &day);
    assert_slice(buf_slice(&out), "{\"statsDay\":{\"sum\":9223372036854775807,\"tps\":0.000},"
                                  "\"statsHour\":{\"sum\":2,\"tps\":0.250},"
                                  "\"statsMinute\":{\"sum\":1,\"tps\":0.500}}");
    buf_fini(&out);
}
END_TEST

START_TEST(statistics_of_groups_add_up)
{
    /* Shows: one element per group and topic, and what all of them lag behind. */
    struct queue_stats rows[] = {
        {.queue = {SLICE_LIT("T"), SLICE_LIT("b"), 0},
         .max_offset = 9,
         .consumer_offset = 4,
         .pull_offset = 6,
         .last_ms = 7},
        {.queue = {SLICE_LIT("U"), SLICE_LIT("b"), 1},
         .max_offset = 3,
         .consumer_offset = 3,
         .pull_offset = 3},
    };
    struct group_stats groups[] = {
        {SLICE_LIT("g"), {.rows = &rows[0], .count = 1, .tps = 1.5}},
        {SLICE_LIT("h"), {.rows = &rows[1], .count = 1}},
    };
    struct buf out;

    buf_init(&out, 0);
    group_stats_encode(&out, SLICE_LIT("1.2.3.4:5"), groups, 2);
    assert_slice(
        buf_slice(&out),
        "{\"brokerAddr\":\"1.2.3.4:5\",\"consumeStatsList\":[{\"g\":[{\"consumeTps\":1.500,"
        "\"offsetTable\":{{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"T\"}:{\"brokerOffset\":9,"
        "\"consumerOffset\":4,\"lastTimestamp\":7,\"pullOffset\":6}}}]},{\"h\":[{\"consumeTps\":"
        "0.000,\"offsetTable\":{{\"brokerName\":\"b\",\"queueId\":1,\"topic\":\"U\"}:{"
        "\"brokerOffset\":3,\"consumerOffset\":3,\"lastTimestamp\":0,\"pullOffset\":3}}}]}],"
        "\"totalDiff\":5,\"totalInflightDiff\":2}");
    buf_fini(&out);
}
END_TEST

START_TEST(entries_of_a_queue)
{
    /* Shows: the body of QUERY_CONSUME_QUEUE, with and without a subscription. */
    struct queue_slot slot = {100, 20, -5, true};
    struct queue_view view = {.slots = &slot, .count = 1, .min_offset = 1, .max_offset = 2};
    struct subscription sub = {
        .topic = SLICE_LIT("T"), .expression = SLICE_LIT("*"), .expression_type = SLICE_LIT("TAG")};
    struct buf out;

    buf_init(&out, 0);
    queue_view_encode(&out, &view);
    assert_slice(buf_slice(&out),
                 "{\"maxQueueIndex\":2,\"minQueueIndex\":1,\"queueData\":[{\"eval\":true,"
                 "\"physicOffset\":100,\"physicSize\":20,\"tagsCode\":-5}]}");
    buf_clear(&out);
    view.count = 0;
    view.subscription = &sub;
    queue_view_encode(&out, &view);
    ck_assert_ptr_nonnull(memmem(out.ptr, out.len, "\"subscriptionData\":{", 20));
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_admin");

    tcase_add_test(tc, times_of_queues);
    tcase_add_test(tc, traffic_has_three_spans);
    tcase_add_test(tc, statistics_of_groups_add_up);
    tcase_add_test(tc, entries_of_a_queue);
    return run_tests(tc, "core/proto/body_admin");
}
