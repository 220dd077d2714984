/*
 * Messages that are held for a time: delays, times of day, retries, recall; through the real
 * process, over restarts. Nothing sleeps: pulls wait in the broker until something is there.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/proto/batch.h"
#include "core/proto/properties.h"
#include "escrow/errors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Levels: 1 soon, 2 not in this test, 3 and more: soon. */
static const char *const args[] = {"--delay.levels",
                                   "2s 1h 100ms 120ms",
                                   "--delay.max.ms",
                                   "86400000",
                                   "--delay.held.max",
                                   "60",
                                   NULL};

static struct broker_fixture f;
static struct client c;

static void setup(void)
{
    broker_fixture_start(&f, args);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
}

static void teardown(void)
{
    client_close(&c);
    broker_fixture_stop(&f);
}

static int64_t wall_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail */
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t send(const char *body, const char *properties)
{
    struct test_message m = {.topic = "T", .body = slice_str(body), .properties = properties};

    return client_send(&c, &m);
}

static int32_t try_send(const char *properties)
{
    struct test_message m = {.topic = "T", .body = SLICE_LIT("x"), .properties = properties};

    return client_try_send(&c, &m);
}

/* The message at an offset of queue 0; waits for it. */
static struct record_view await(const char *topic, int64_t offset)
{
    struct test_pull pull = {.group = "g",
                             .topic = topic,
                             .offset = offset,
                             .count = 1,
                             .suspend_ms = BROKER_WAIT_MS - 5000};
    struct record_view view;

    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c.body, &view), 0);
    ck_assert_int_eq(view.f.queue_offset, offset);
    return view;
}

static bool has(const struct record_view *view, const char *name)
{
    struct slice value;

    return props_find(view->f.properties, slice_str(name), &value);
}

static const char *value_of(const struct record_view *view, const char *name)
{
    static char text[256];
    struct slice value;

    ck_assert_msg(props_find(view->f.properties, slice_str(name), &value), "no %s", name);
    return slice_to_cstr(value, text, sizeof text);
}

START_TEST(a_message_comes_when_it_is_due)
{
    /* By level, by delay, at a time; never before, with the fields a consumer expects. */
    char at[64];
    const char *cases[] = {"DELAY=1", "TIMER_DELAY_MS=2100", at};
    const int64_t delays_ms[] = {2000, 2100, 2200}; /* longer than a look takes */

    for (int64_t i = 0; i < 3; i++) {
        int64_t before_ms = test_now_ms();
        struct record_view view;
        int64_t place;

        (void)snprintf(at, sizeof at, "TIMER_DELIVER_MS=%" PRId64, wall_ms() + 2200);
        place = send("later", cases[i]);
        ck_assert_int_eq(client_max_offset(&c, "T", 0), i);
        view = await("T", i);
        ck_assert_int_ge(test_now_ms() - before_ms, delays_ms[i] - 1);
        ck_assert(slice_eq_str(view.f.body, "later"));
        ck_assert_int_eq(view.f.physical_offset, place);
        ck_assert_int_eq(has(&view, "DELAY"),
                         i == 0); /* what RocketMQ's broker leaves in it, too */
        ck_assert_str_eq(i == 0 ? value_of(&view, "DELAY") : "1", "1");
        ck_assert_str_eq(value_of(&view, "REAL_TOPIC"), "T");
        ck_assert_str_eq(value_of(&view, "REAL_QID"), "0");
        ck_assert_int_eq(props_find_i64(view.f.properties, SLICE_LIT("TIMER_OUT_MS"), 0),
                         view.f.store_ms);
        ck_assert_int_eq(view.f.sys_flag & SYSFLAG_TXN_MASK, SYSFLAG_TXN_NONE);
    }
    ck_assert_int_eq(client_metric(&c, "held_released"), 3);
    ck_assert_int_eq(client_metric(&c, "held_now"), 0);
}
END_TEST

START_TEST(a_time_that_has_passed_and_a_copy_of_a_delivered_message_come_at_once)
{
    /* As in RocketMQ: TIMER_OUT_MS says that it has had its time. */
    ck_assert_int_eq(send("a", "TIMER_DELIVER_MS=1000"), 0);
    ck_assert_int_eq(send("b", "TIMER_DELAY_SEC=3600;TIMER_OUT_MS=5"), 1);
    ck_assert_int_eq(send("c", "DELAY=0"), 2);
    ck_assert_int_eq(client_metric(&c, "held_now"), 0);
}
END_TEST

START_TEST(messages_of_one_delay_keep_their_order)
{
    /* Whatever goes out with them in one record. */
    char body[16];

    for (int i = 0; i < 40; i++) {
        (void)snprintf(body, sizeof body, "%d", i);
        (void)send(body, "DELAY=1"); /* its place in the log */
    }
    for (int i = 0; i < 40; i++) {
        struct record_view view = await("T", i);
        (void)snprintf(body, sizeof body, "%d", i);
        ck_assert(slice_eq_str(view.f.body, body));
    }
}
END_TEST

static void restart(bool kill)
{
    client_close(&c);
    if (kill) {
        broker_fixture_kill(&f);
    } else {
        broker_fixture_terminate(&f);
        ck_assert_int_eq(broker_fixture_wait(&f), 0);
    }
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
}

START_TEST(held_messages_survive_a_restart)
{
    /* Killed, or stopped with a checkpoint: the overdue one goes out once, the other waits on. */
    struct record_view view;

    (void)send("far", "DELAY=2");
    (void)send("near", "TIMER_DELAY_MS=300");
    restart(_i == 0);
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "messages are held for a time"));
    view = await("T", 0);
    ck_assert(slice_eq_str(view.f.body, "near"));
    ck_assert_int_eq(client_metric(&c, "held_now"), 1);
    restart(_i == 0);
    ck_assert_int_eq(client_metric(&c, "held_now"), 1);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 1);
    ck_assert_int_eq(send("now", NULL), 1);
}
END_TEST

START_TEST(the_delay_of_a_half_begins_with_its_commit)
{
    /* Committed: due after its delay, as a committed message. Rolled back: forgotten. */
    struct test_message m = {.topic = "T",
                             .body = SLICE_LIT("half"),
                             .is_half = true,
                             .properties = "DELAY=1;UNIQ_KEY=A"};
    int64_t first = client_send(&c, &m);
    int64_t second;
    int64_t before_ms;
    struct record_view view;

    m.properties = "TIMER_DELAY_MS=2000;UNIQ_KEY=B";
    second = client_send(&c, &m);
    ck_assert_int_eq(client_metric(&c, "held_now"), 2);
    before_ms = test_now_ms();
    ck_assert_int_eq(client_end(&c, "pg", first, "A", 8), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_end(&c, "pg", second, "B", 12), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 0);
    view = await("T", 0);
    ck_assert_int_ge(test_now_ms() - before_ms, 1999);
    ck_assert_int_eq(view.f.physical_offset, first);
    ck_assert_int_eq(view.f.sys_flag & SYSFLAG_TXN_MASK, SYSFLAG_TXN_COMMIT);
    ck_assert_int_eq(client_metric(&c, "held_now"), 0);
    ck_assert_int_eq(client_end(&c, "pg", first, "A", 8), RESPONSE_SUCCESS); /* again: no change */
    restart(true);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 1);
}
END_TEST

static int32_t send_back(int64_t offset, int32_t level)
{
    struct header_writer *w = client_begin(&c, REQUEST_CONSUMER_SEND_MSG_BACK, 0);

    header_put_str(w, "group", SLICE_LIT("g"));
    header_put_i64(w, "offset", offset);
    header_put_i64(w, "delayLevel", level);
    header_put_i64(w, "maxReconsumeTimes", 2);
    return client_call(&c, SLICE_EMPTY);
}

START_TEST(a_retry_is_held_and_the_last_one_is_dead)
{
    /* Level 3, then 4; then the dead-letter queue, at once; it remembers where it came from. */
    struct record_view view;
    int64_t before_ms;

    (void)send("x", "UNIQ_KEY=K;TIMER_DELAY_MS=1");
    view = await("T", 0);
    for (int64_t i = 0; i < 2; i++) {
        before_ms = test_now_ms();
        ck_assert_int_eq(send_back(view.f.physical_offset, 0), RESPONSE_SUCCESS);
        ck_assert_int_eq(client_metric(&c, "held_now"), 1);
        view = await("%RETRY%g", i);
        ck_assert_int_ge(test_now_ms() - before_ms, i == 0 ? 99 : 119);
        ck_assert_int_eq(view.f.reconsume_times, i + 1);
        ck_assert_str_eq(value_of(&view, "RETRY_TOPIC"), "T");
        ck_assert_str_eq(value_of(&view, "UNIQ_KEY"), "K");
        ck_assert(!has(&view, "TIMER_DELAY_MS"));
        ck_assert_str_eq(value_of(&view, "DELAY"), i == 0 ? "3" : "4");
    }
    ck_assert_int_eq(send_back(view.f.physical_offset, 0), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_max_offset(&c, "%DLQ%g", 0), 1);
    view = await("%DLQ%g", 0);
    ck_assert_str_eq(value_of(&view, "DLQ_ORIGIN_TOPIC"), "T");
    ck_assert_str_eq(value_of(&view, "DELAY"), "0");
    ck_assert(has(&view, "ORIGIN_MESSAGE_ID") && !has(&view, "TIMER_OUT_MS"));
    ck_assert_int_eq(send_back(view.f.physical_offset, -1), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_max_offset(&c, "%DLQ%g", 0), 2);
}
END_TEST

START_TEST(a_consumer_may_send_the_copy_itself)
{
    /*
     * What Java's client does when a send back failed: a message to the retry topic with a level.
     */
    struct test_message m = {.topic = "%RETRY%g", .body = SLICE_LIT("x"), .properties = "DELAY=3"};
    struct record_view view;

    (void)client_send(&c, &m); /* its place in the log */
    ck_assert_int_eq(client_metric(&c, "held_now"), 1);
    view = await("%RETRY%g", 0);
    ck_assert(slice_eq_str(view.f.body, "x"));
}
END_TEST

START_TEST(times_that_cannot_be_are_refused)
{
    /* No number, too far away, in a batch, too many: nothing is stored. */
    static const char *const bad[] = {"DELAY=soon", "TIMER_DELAY_SEC=", "TIMER_DELAY_MS=1x",
                                      "TIMER_DELAY_SEC=86401", "TIMER_DELIVER_MS=9999999999999"};
    struct batch_item item = {.body = SLICE_LIT("b"),
                              .properties = SLICE_LIT("DELAY\1"
                                                      "1\2")};
    struct header_writer *w;
    struct buf body;

    for (size_t i = 0; i < 5; i++) {
        if (i != 1) { /* an empty value does not exist */
            ck_assert_int_eq(try_send(bad[i]), RESPONSE_MESSAGE_ILLEGAL);
        }
    }
    buf_init(&body, 0);
    ck_assert_int_eq(batch_append(&body, &item), 0);
    w = client_begin(&c, REQUEST_SEND_BATCH_MESSAGE, 0);
    header_put_str(w, "b", SLICE_LIT("T"));
    header_put_str(w, "a", SLICE_LIT("pg"));
    header_put_str(w, "c", SLICE_LIT("TBW102"));
    header_put_i64(w, "d", 4);
    header_put_i64(w, "e", 0);
    header_put_i64(w, "f", 0);
    header_put_i64(w, "g", 1);
    header_put_i64(w, "h", 0);
    header_put_str(w, "m", SLICE_LIT("true"));
    ck_assert_int_eq(client_call(&c, buf_slice(&body)), RESPONSE_MESSAGE_ILLEGAL);
    buf_fini(&body);
    for (int i = 0; i < 60; i++) {
        ck_assert_int_eq(try_send("DELAY=2"), RESPONSE_SUCCESS);
    }
    ck_assert_int_eq(try_send("DELAY=2"), RESPONSE_SYSTEM_BUSY);
    ck_assert_int_eq(client_metric(&c, "held_refused"), 1);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 0);
}
END_TEST

static int32_t recall(const char *handle)
{
    struct header_writer *w = client_begin(&c, REQUEST_RECALL_MESSAGE, 0);

    header_put_str(w, "producerGroup", SLICE_LIT("pg"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_str(w, "recallHandle", slice_str(handle));
    return client_call(&c, SLICE_EMPTY);
}

START_TEST(a_timed_message_can_be_taken_back)
{
    /* Once, by the handle of the answer; also when the broker was killed after that. */
    struct test_message m = {
        .topic = "T", .body = SLICE_LIT("x"), .properties = "TIMER_DELAY_SEC=3600;UNIQ_KEY=KEY1"};
    char handle[1024];

    ck_assert_int_eq(client_try_send(&c, &m), RESPONSE_SUCCESS);
    (void)slice_to_cstr(header_str(&c.header, "recallHandle"), handle, sizeof handle);
    ck_assert_uint_gt(strlen(handle), 0);
    ck_assert_int_eq(recall("bm9uc2Vuc2U="), RESPONSE_ILLEGAL_OPERATION);
    ck_assert_int_eq(recall(handle), RESPONSE_SUCCESS);
    ck_assert(slice_eq_str(header_str(&c.header, "msgId"), "KEY1"));
    ck_assert_int_eq(client_metric(&c, "held_now"), 0);
    restart(true);
    ck_assert_int_eq(client_metric(&c, "held_now"), 0);
    ck_assert_int_eq(recall(handle), RESPONSE_ILLEGAL_OPERATION);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_message_comes_when_it_is_due);
    tcase_add_test(tc, a_time_that_has_passed_and_a_copy_of_a_delivered_message_come_at_once);
    tcase_add_test(tc, messages_of_one_delay_keep_their_order);
    tcase_add_loop_test(tc, held_messages_survive_a_restart, 0, 2);
    tcase_add_test(tc, the_delay_of_a_half_begins_with_its_commit);
    tcase_add_test(tc, a_retry_is_held_and_the_last_one_is_dead);
    tcase_add_test(tc, a_consumer_may_send_the_copy_itself);
    tcase_add_test(tc, times_that_cannot_be_are_refused);
    tcase_add_test(tc, a_timed_message_can_be_taken_back);
}

int main(void)
{
    return broker_fixture_main("delay", 60, add_tests);
}
