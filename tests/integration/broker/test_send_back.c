/*
 * Which message a consumer means: CONSUMER_SEND_MSG_BACK names an offset, and says what it believes
 * to be there.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/proto/msgid.h"
#include "core/proto/properties.h"
#include "escrow/errors.h"

#include <string.h>

static const char *const args[] = {"--delay.levels", "1ms 1ms 1ms", NULL};

static struct broker_fixture f;
static struct client c;

static void setup(void)
{
    broker_fixture_start(&f, args);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    client_topic(&c, "ns%T", 1);
}

static void teardown(void)
{
    client_close(&c);
    broker_fixture_stop(&f);
}

/* The last message of a topic, when there are `count`. */
static struct record_view await(const char *topic, int64_t count)
{
    struct test_pull pull = {.group = "g",
                             .topic = topic,
                             .offset = count - 1,
                             .count = 1,
                             .suspend_ms = BROKER_WAIT_MS - 5000};
    struct record_view view;

    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c.body, &view), 0);
    return view;
}

static struct record_view sent(const char *topic, const char *properties)
{
    int64_t at = client_send(&c, &(struct test_message){.topic = topic,
                                                        .properties = properties,
                                                        .body = SLICE_LIT("stubborn")});

    return await(topic, at + 1);
}

/* id, topic: NULL leaves the field out. */
static int32_t send_back(int64_t offset, const char *id, const char *topic)
{
    struct header_writer *w = client_begin(&c, REQUEST_CONSUMER_SEND_MSG_BACK, 0);

    header_put_str(w, "group", SLICE_LIT("g"));
    header_put_i64(w, "offset", offset);
    header_put_i64(w, "delayLevel", 1);
    if (id != NULL) {
        header_put_str(w, "originMsgId", slice_str(id));
    }
    if (topic != NULL) {
        header_put_str(w, "originTopic", slice_str(topic));
    }
    return client_call(&c, SLICE_EMPTY);
}

/* Refused, and there are as many copies as before. */
static void refuse(int64_t offset, const char *id, const char *topic, int64_t copies)
{
    ck_assert_int_eq(send_back(offset, id, topic), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(client_error(&c), ESCROW_ENOTFOUND);
    ck_assert_ptr_nonnull(
        memmem(c.header.remark.ptr, c.header.remark.len, "neither the originMsgId nor", 27));
    ck_assert_int_eq(client_metric(&c, "held_now"), 0);
    if (copies > 0) {
        ck_assert_int_eq(client_max_offset(&c, "%RETRY%g", 0), copies);
    }
}

START_TEST(another_message_at_the_offset_is_not_copied)
{
    /* Neither id nor topic is the record's: nothing is stored, first copy or second. */
    struct record_view view = sent("T", "UNIQ_KEY=K");
    int64_t offset = view.f.physical_offset;

    refuse(offset, "L", "U", 0);
    refuse(offset, "L", NULL, 0);
    refuse(offset, "L", "", 0);
    refuse(offset, "KK", "ns%U", 0);
    refuse(offset, "7F00000100002A9F0000000000000000", "U", 0);
    ck_assert_int_eq(send_back(offset, "K", "T"), RESPONSE_SUCCESS);
    view = await("%RETRY%g", 1);
    refuse(view.f.physical_offset, "L", "U", 1);
    refuse(view.f.physical_offset, "L", "%RETRY%h", 1);
}
END_TEST

START_TEST(one_of_id_and_topic_is_enough)
{
    /* Clients differ in what they send of a first and of a second retry. */
    struct record_view view = sent("T", "UNIQ_KEY=K");
    int64_t offset = view.f.physical_offset;
    struct record_host host = view.f.store_host;
    char first[MSGID_TEXT_MAX + 1];
    char second[MSGID_TEXT_MAX + 1];
    int64_t copies = 0;
    const struct {
        const char *id;
        const char *topic;
    } known[] = {{NULL, NULL}, {"", NULL},  {"", "U"},  {NULL, "U"},   {"K", "T"},
                 {"K", "U"},   {"K", NULL}, {"L", "T"}, {"L", "ns%T"}, {first, "U"}},
      of_retry[] = {{"K", "T"},    {"L", "T"}, {"L", "%RETRY%g"}, {first, "U"},
                    {second, "U"}, {"K", "U"}, {"L", "ns%T"}};

    (void)msgid_encode(&host, offset, first);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        ck_assert_int_eq(send_back(offset, known[i].id, known[i].topic), RESPONSE_SUCCESS);
        view = await("%RETRY%g", ++copies);
    }
    offset = view.f.physical_offset;
    (void)msgid_encode(&host, offset, second);
    for (size_t i = 0; i < sizeof of_retry / sizeof of_retry[0]; i++) {
        ck_assert_int_eq(send_back(offset, of_retry[i].id, of_retry[i].topic), RESPONSE_SUCCESS);
        view = await("%RETRY%g", ++copies);
        ck_assert_int_eq(view.f.reconsume_times, 2);
    }
}
END_TEST

START_TEST(a_client_in_a_namespace_names_its_topic_without_it)
{
    /* The record says ns%T, the client T; so does its retry. */
    struct record_view view = sent("ns%T", "UNIQ_KEY=K");

    refuse(view.f.physical_offset, "L", "other%T", 0);
    for (int64_t i = 1; i <= 2; i++) {
        ck_assert_int_eq(send_back(view.f.physical_offset, "L", "T"), RESPONSE_SUCCESS);
        view = await("%RETRY%g", i);
    }
}
END_TEST

static void group(const char *config)
{
    (void)client_begin(&c, REQUEST_UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, 0);
    ck_assert_int_eq(client_call(&c, slice_str(config)), RESPONSE_SUCCESS);
}

START_TEST(retries_are_spread_over_the_queues_that_the_group_wants)
{
    /* Each of the four gets some of 100: that one gets none happens once in 10^12 runs. */
    struct record_view view = sent("T", "UNIQ_KEY=K");
    int64_t sum = 0;

    group("{\"groupName\":\"g\",\"retryQueueNums\":4}");
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(send_back(view.f.physical_offset, "K", "T"), RESPONSE_SUCCESS);
    }
    while (client_metric(&c, "held_now") > 0) {
    }
    for (int32_t queue = 0; queue < 4; queue++) {
        int64_t count = client_max_offset(&c, "%RETRY%g", queue);
        ck_assert_int_gt(count, 0);
        sum += count;
    }
    ck_assert_int_eq(sum, 100);
}
END_TEST

START_TEST(a_group_without_retry_queues_has_no_retries)
{
    /* As with RocketMQ: what its members send back is gone, and they hear that all is well. */
    struct record_view view = sent("T", "UNIQ_KEY=K");

    for (int i = 0; i >= -1; i--) {
        group(i == 0 ? "{\"groupName\":\"g\",\"retryQueueNums\":0}"
                     : "{\"groupName\":\"g\",\"retryQueueNums\":-1}");
        ck_assert_int_eq(send_back(view.f.physical_offset, "K", "T"), RESPONSE_SUCCESS);
        ck_assert_int_eq(client_metric(&c, "held_now"), 0);
    }
    ck_assert_int_eq(client_heartbeat(&c, "me", NULL, "g", "T"), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_max_offset(&c, "%RETRY%g", 0), 0); /* one queue, and it is empty */
    group("{\"groupName\":\"g\"}");
    ck_assert_int_eq(send_back(view.f.physical_offset, "K", "T"), RESPONSE_SUCCESS);
    (void)await("%RETRY%g", 1);
}
END_TEST

START_TEST(less_than_no_retries_are_none)
{
    /* retryMaxTimes -1, of a client that does not say: a dead letter, as with RocketMQ. */
    struct record_view view = sent("T", "UNIQ_KEY=K");

    group("{\"groupName\":\"g\",\"retryMaxTimes\":-1}");
    ck_assert_int_eq(send_back(view.f.physical_offset, "K", "T"), RESPONSE_SUCCESS);
    view = await("%DLQ%g", 1);
    ck_assert_int_eq(view.f.reconsume_times, 1);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, another_message_at_the_offset_is_not_copied);
    tcase_add_test(tc, one_of_id_and_topic_is_enough);
    tcase_add_test(tc, a_client_in_a_namespace_names_its_topic_without_it);
    tcase_add_test(tc, retries_are_spread_over_the_queues_that_the_group_wants);
    tcase_add_test(tc, a_group_without_retry_queues_has_no_retries);
    tcase_add_test(tc, less_than_no_retries_are_none);
}

int main(void)
{
    return broker_fixture_main("send_back", 60, add_tests);
}
