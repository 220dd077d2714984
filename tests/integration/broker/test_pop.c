/*
 * Popping: who gets which message, until when, and what holds after a crash.
 */
#include "tests/integration/broker/pop_client.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "core/proto/body_pop.h"
#include "core/proto/pop_info.h"
#include "core/proto/properties.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tests ---- */

START_TEST(a_popped_message_is_invisible_and_acknowledged_for_good)
{
    /* Nobody else of the group gets it, another group does; the group's offset follows. */
    struct popped first[2];
    struct test_pop other = {.group = "g2", .queue = 0, .count = POP_MAX, .invisible_ms = LONG_MS};

    set_up(1);
    send_many(0, 3);
    ck_assert_int_eq(pop_queue(0, 2, LONG_MS), 2);
    memcpy(first, got, sizeof first);
    ck_assert_str_eq(first[0].body, "m0");
    ck_assert_str_eq(first[1].body, "m1");
    ck_assert_int_eq(first[0].retries, 0);
    ck_assert_int_eq(committed(0), 0);
    ck_assert_int_eq(pop_queue(0, 2, LONG_MS), 1);
    ck_assert_str_eq(got[0].body, "m2");
    ck_assert_int_eq(pop_queue(0, 2, LONG_MS), 0);
    ck_assert_int_eq(pop(&other), 3);
    ck_assert_int_eq(pop_queue(0, 2, LONG_MS), 0);
    ck_assert_int_eq(ack(&first[1]), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(0), 0);
    ck_assert_int_eq(ack(&first[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(0), 2);
    ck_assert_int_eq(ack(&first[0]), RESPONSE_SUCCESS); /* again, because the answer got lost */
    ck_assert_int_eq(client_metric(&c, "popped_now"), 4);
    tear_down();
}
END_TEST

START_TEST(a_pop_takes_from_every_queue)
{
    /* With queue -1, up to the number asked for, each queue in its order. */
    int64_t next[3] = {0};
    int count = 0;

    set_up(3);
    for (int32_t q = 0; q < 3; q++) {
        send_many(q, 4);
    }
    while (count < 12) {
        int n = pop_queue(ALL, 5, LONG_MS);
        ck_assert_int_gt(n, 0);
        for (int i = 0; i < n; i++) {
            ck_assert_int_eq(got[i].offset, next[got[i].queue]++);
        }
        count += n;
    }
    ck_assert_int_eq(count, 12);
    ck_assert_int_eq(pop_queue(ALL, 5, LONG_MS), 0);
    tear_down();
}
END_TEST

START_TEST(a_message_that_is_not_acknowledged_comes_again)
{
    /* When its time is over, with its retries counted; the late receipt counts no more. */
    struct popped first;

    set_up(1);
    send_many(0, 2);
    ck_assert_int_eq(pop_queue(0, 1, SHORT_MS), 1);
    first = got[0];
    ck_assert_int_eq(pop_queue(0, 1, LONG_MS), 1);
    ck_assert_str_eq(got[0].body, "m1");
    ck_assert_int_eq(pop_await(0, SHORT_MS), 1);
    ck_assert_str_eq(got[0].body, "m0");
    ck_assert_int_eq(got[0].retries, 1);
    ck_assert_int_eq(pop_await(0, LONG_MS), 1);
    ck_assert_int_eq(got[0].retries, 2);
    ck_assert_int_eq(ack(&first), RESPONSE_NO_MESSAGE);
    ck_assert_int_eq(committed(0), 0);
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(0), 1);
    tear_down();
}
END_TEST

START_TEST(a_consumer_chooses_when_a_message_comes_again)
{
    /* Later or sooner; each change makes a new receipt. */
    struct popped old;

    set_up(1);
    send_many(0, 1);
    ck_assert_int_eq(pop_queue(0, 1, LONG_MS), 1);
    old = got[0];
    ck_assert_int_eq(change(&got[0], LONG_MS), RESPONSE_SUCCESS);
    ck_assert_int_eq(change(&got[0], SHORT_MS), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_await(0, LONG_MS), 1);
    ck_assert_int_eq(got[0].retries, 1);
    ck_assert_int_eq(change(&got[0], 0), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_await(0, LONG_MS), 1);
    ck_assert_int_eq(got[0].retries, 2);
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(change(&got[0], LONG_MS), RESPONSE_NO_MESSAGE);
    ck_assert_int_eq(change(&old, LONG_MS), RESPONSE_NO_MESSAGE);
    ck_assert_int_eq(client_metric(&c, "popped_now"), 0);
    tear_down();
}
END_TEST

START_TEST(a_batch_acknowledges_many)
{
    /* Of two queues at once; what is over is named, and the rest is done. */
    struct batch_ack acks[2] = {
        {.group = SLICE_LIT("g"), .topic = SLICE_LIT("T"), .kind = SLICE_LIT("0")},
        {.group = SLICE_LIT("g"), .topic = SLICE_LIT("T"), .kind = SLICE_LIT("0"), .queue_id = 1}};
    struct batch_acks batch = {.broker_name = SLICE_LIT("escrow-a"), .acks = acks, .count = 2};
    static const uint8_t bits[2][1] = {{0x0D}, {0x03}};
    struct pop_handle handle;
    struct buf body;

    set_up(2);
    send_many(0, 4);
    send_many(1, 2);
    for (int q = 0; q < 2; q++) {
        ck_assert_int_eq(pop_queue(q, POP_MAX, LONG_MS), q == 0 ? 4 : 2);
        ck_assert_int_eq(pop_handle_decode(slice_str(got[0].handle), &handle), 0);
        acks[q].pop_ms = handle.pop_ms;
        acks[q].bits = slice_of(bits[q], 1);
    }
    buf_init(&body, 0);
    batch_acks_encode(&body, &batch);
    (void)client_begin(&c, REQUEST_BATCH_ACK_MESSAGE, 0);
    ck_assert_int_eq(client_call(&c, buf_slice(&body)), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(0), 1); /* 1 is left */
    ck_assert_int_eq(committed(1), 2);
    acks[0].pop_ms++;
    acks[0].bits = slice_of("\x02", 1);
    buf_clear(&body);
    batch_acks_encode(&body, &batch);
    (void)client_begin(&c, REQUEST_BATCH_ACK_MESSAGE, 0);
    ck_assert_int_eq(client_call(&c, buf_slice(&body)), RESPONSE_NO_MESSAGE);
    ck_assert_int_eq(committed(0), 1);
    buf_fini(&body);
    tear_down();
}
END_TEST

START_TEST(a_message_wakes_one_that_waits)
{
    /* Of each group one, in turn; who waits for another queue or tag is not woken. */
    struct client one;
    struct client two;
    struct client other;
    struct test_pop any = {.queue = ALL, .count = 1, .invisible_ms = LONG_MS, .poll_ms = POLL_MS};
    struct test_pop of_g2 = any;
    struct test_pop wrong_tag = any;

    of_g2.group = "g2";
    wrong_tag.expression = "B";
    set_up(2);
    client_open(&one, f.port, HEADER_JSON);
    client_open(&two, f.port, HEADER_JSON);
    client_open(&other, f.port, HEADER_JSON);
    put_pop(&other, &wrong_tag);
    client_submit(&other, SLICE_EMPTY);
    await_metric("pops_held", 1);
    put_pop(&one, &any);
    client_submit(&one, SLICE_EMPTY);
    await_metric("pops_held", 2);
    put_pop(&two, &of_g2);
    client_submit(&two, SLICE_EMPTY);
    await_metric("pops_held", 3);
    send_one(1, "hello");
    ck_assert_int_eq(client_receive(&one, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(one.header.code, RESPONSE_SUCCESS);
    ck_assert_int_eq(read_popped(&one), 1);
    ck_assert_str_eq(got[0].body, "hello");
    ck_assert_int_eq(client_receive(&two, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(read_popped(&two), 1);
    ck_assert_int_eq(client_metric(&c, "pops_held"), 1);
    client_close(&other);
    await_fewer("pops_held", 0);
    client_close(&one);
    client_close(&two);
    tear_down();
}
END_TEST

START_TEST(who_finds_more_wakes_the_next)
{
    /* Two wait, a batch of messages comes: both have one, although one wake-up was for both. */
    struct client waiting[3];
    struct test_pop any = {.queue = ALL, .count = 1, .invisible_ms = LONG_MS, .poll_ms = POLL_MS};

    set_up(1);
    for (int i = 0; i < 3; i++) {
        client_open(&waiting[i], f.port, HEADER_JSON);
        put_pop(&waiting[i], &any);
        client_submit(&waiting[i], SLICE_EMPTY);
    }
    await_metric("pops_held", 3);
    for (int i = 0; i < 3; i++) { /* in one write: they become visible together */
        struct test_message m = {.topic = "T", .properties = "TAGS=A", .body = SLICE_LIT("x")};
        client_put_send(&c, &m, HEADER_FLAG_ONEWAY);
    }
    ck_assert_int_eq(client_flush(&c), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(client_receive(&waiting[i], CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(read_popped(&waiting[i]), 1);
        client_close(&waiting[i]);
    }
    tear_down();
}
END_TEST

START_TEST(who_hangs_up_while_the_broker_does_not_read_is_gone)
{
    /*
     * So many pops that the broker reads no more of them: those that wait are gone, those that were
     * not read never begin, and the message is another's.
     */
    struct client one;
    struct client two;
    struct test_pop any = {.queue = ALL, .count = 1, .invisible_ms = LONG_MS, .poll_ms = 60000};
    int64_t deadline_ms;

    broker_fixture_start(&f, (const char *const[]){"--inflight.max.bytes", "65536", NULL});
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    client_open(&one, f.port, HEADER_JSON);
    for (int i = 0; i < 400; i++) {
        put_pop(&one, &any);
        client_finish(&one, SLICE_EMPTY);
    }
    ck_assert_int_eq(client_flush(&one), 0);
    await_metric("pops_held", 40);
    ck_assert_int_lt(client_metric(&c, "pops_held"), 65);
    client_close(&one);
    deadline_ms = test_now_ms() + 30000; /* long before their time is over */
    while (client_metric(&c, "connections") > 1) {
        test_await(-1, deadline_ms, "the end of the connection");
    }
    ck_assert_int_eq(client_metric(&c, "pops_held"), 0);
    client_open(&two, f.port, HEADER_JSON);
    put_pop(&two, &any);
    client_submit(&two, SLICE_EMPTY);
    await_metric("pops_held", 1);
    send_one(0, "hello");
    ck_assert_int_eq(client_receive(&two, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(read_popped(&two), 1);
    ck_assert_str_eq(got[0].body, "hello");
    ck_assert_int_eq(client_metric(&c, "popped_now"), 1);
    client_close(&two);
    tear_down();
}
END_TEST

#define CROWD 400 /* more than run in three turns of the loop */

static void crowd_waits(struct client *waiting, struct test_pop *p)
{
    char group[16];

    p->group = group;
    for (int i = 0; i < CROWD; i++) {
        (void)snprintf(group, sizeof group, "g%d", i);
        put_pop(waiting, p);
        client_finish(waiting, SLICE_EMPTY);
    }
    ck_assert_int_eq(client_flush(waiting), 0);
}

START_TEST(of_many_groups_each_hears_of_a_message)
{
    /* More than may run in one turn; and when nothing comes, each hears that its time is over. */
    struct client waiting;
    struct test_pop any = {.queue = ALL, .count = 1, .invisible_ms = LONG_MS, .poll_ms = POLL_MS};

    set_up(1);
    client_open(&waiting, f.port, HEADER_JSON);
    crowd_waits(&waiting, &any);
    await_metric("pops_held", CROWD);
    send_one(0, "hello");
    for (int i = 0; i < CROWD; i++) {
        ck_assert_int_eq(client_receive(&waiting, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(waiting.header.code, RESPONSE_SUCCESS);
    }
    ck_assert_int_eq(client_metric(&c, "popped_now"), CROWD);
    any.poll_ms = 500;
    crowd_waits(&waiting, &any);
    for (int i = 0; i < CROWD; i++) {
        ck_assert_int_eq(client_receive(&waiting, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(waiting.header.code, RESPONSE_POLLING_TIMEOUT);
    }
    ck_assert_int_eq(client_metric(&c, "pops_held"), 0);
    client_close(&waiting);
    tear_down();
}
END_TEST

START_TEST(what_a_filter_does_not_want_is_passed)
{
    /* It is done for the group, and never comes. */
    struct test_pop of_b = {
        .expression = "B", .queue = 0, .count = POP_MAX, .invisible_ms = LONG_MS};
    struct test_message m = {.topic = "T", .properties = "TAGS=B", .body = SLICE_LIT("b")};

    set_up(1);
    send_many(0, 3);
    (void)client_send(&c, &m);
    ck_assert_int_eq(pop(&of_b), 1);
    ck_assert_str_eq(got[0].body, "b");
    ck_assert_int_eq(committed(0), 3);
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(0), 4);
    ck_assert_int_eq(pop_queue(0, POP_MAX, LONG_MS), 0);
    tear_down();
}
END_TEST

START_TEST(after_a_crash_nothing_that_is_not_acknowledged_is_lost)
{
    /*
     * SIGKILL with messages acknowledged, in hand, due and new: everything from the first that is
     * not acknowledged comes again, and what lies before it does not when its offset was written.
     */
    struct popped in_hand[4];
    bool seen[8] = {false};
    int count;

    set_up(1);
    send_many(0, 8);
    ck_assert_int_eq(pop_queue(0, 4, LONG_MS), 4);
    memcpy(in_hand, got, sizeof in_hand);
    ck_assert_int_eq(ack(&in_hand[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(ack(&in_hand[2]), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(0), 1);
    die_and_start();
    ck_assert_int_le(committed(0), 1);
    ck_assert_int_eq(ack(&in_hand[1]), RESPONSE_NO_MESSAGE); /* of a delivery that is forgotten */
    while ((count = pop_queue(0, POP_MAX, LONG_MS)) > 0) {
        for (int i = 0; i < count; i++) {
            ck_assert(!seen[got[i].offset]);
            seen[got[i].offset] = true;
            ck_assert_int_eq(ack(&got[i]), RESPONSE_SUCCESS);
        }
    }
    for (int i = 0; i < 8; i++) {
        ck_assert_msg(seen[i] || i == 0, "message %d is lost", i);
    }
    ck_assert_int_eq(committed(0), 8);
    tear_down();
}
END_TEST

/* ---- kills ---- */

/* What the group says it has consumed, it has. */
static void check_committed(void)
{
    int64_t offset = committed(0);

    for (int64_t i = 0; i < offset; i++) {
        ck_assert_msg(is_done[i], "message %d is lost", (int)i);
    }
}

/* Pop some, acknowledge some of them, put others off; the last requests are not waited for. */
static void consume_at_random(struct rand *rnd)
{
    int steps = 4 + (int)rand_below(rnd, 12);

    for (int i = 0; i < steps; i++) {
        int n = pop_queue(0, 1 + (int32_t)rand_below(rnd, 8),
                          rand_below(rnd, 3) == 0 ? SHORT_MS : LONG_MS);
        for (int j = 0; j < n; j++) {
            switch (rand_below(rnd, 4)) {
            case 0:
                (void)change(&got[j], (int64_t)rand_below(rnd, 50));
                break;
            case 1:
                break;
            default:
                is_done[got[j].offset] = true; /* even if the answer does not come */
                (void)put_receipt(REQUEST_ACK_MESSAGE, &got[j]);
                client_finish(&c, SLICE_EMPTY);
                break;
            }
        }
        ck_assert_int_eq(client_flush(&c), 0);
    }
}

static int pop_what_is_left(void)
{
    return pop_queue(0, POP_MAX, LONG_MS);
}

START_TEST(no_kill_moves_the_offset_over_a_message_that_is_not_done)
{
    /*
     * Eight SIGKILLs in the middle of pops, acknowledgements and changes, with offsets written
     * every few milliseconds: what is committed was acknowledged, and in the end everything is.
     */
    consume_over_kills(1, &(struct kill_run){.consume = consume_at_random,
                                             .check = check_committed,
                                             .pop = pop_what_is_left});
}
END_TEST

START_TEST(a_clean_stop_keeps_the_offset)
{
    /* What was acknowledged without a gap does not come again. */
    set_up(1);
    send_many(0, 6);
    ck_assert_int_eq(pop_queue(0, 3, LONG_MS), 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(ack(&got[i]), RESPONSE_SUCCESS);
    }
    client_close(&c);
    broker_fixture_stop(&f);
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(committed(0), 3);
    ck_assert_int_eq(pop_queue(0, POP_MAX, LONG_MS), 3);
    ck_assert_str_eq(got[0].body, "m3");
    tear_down();
}
END_TEST

START_TEST(a_group_goes_from_pulling_to_popping_and_back)
{
    /* One offset for both: a pull consumer's commit moves where pops begin. */
    struct test_pull pull = {.group = "g", .topic = "T", .queue = 0, .count = 1};
    struct header_writer *w;

    set_up(1);
    send_many(0, 6);
    ck_assert_int_eq(pop_queue(0, 4, LONG_MS), 4);
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    pull.offset = committed(0);
    ck_assert_int_eq(pull.offset, 1);
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_SUCCESS);
    w = client_begin(&c, REQUEST_UPDATE_CONSUMER_OFFSET, 0);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "commitOffset", 3);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_queue(0, POP_MAX, LONG_MS), 3);
    ck_assert_str_eq(got[0].body, "m3");
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(0), 4);
    tear_down();
}
END_TEST

START_TEST(too_many_retries_end_in_the_dead_letter_topic)
{
    /* After 16 retries the message lies there, with where it came from, and is done here. */
    struct test_pull pull = {
        .group = "g", .topic = "%DLQ%g", .queue = 0, .count = 8, .suspend_ms = POLL_MS};
    struct record_view view;
    struct slice origin;

    set_up(1);
    send_many(0, 1);
    ck_assert_int_eq(pop_queue(0, 1, LONG_MS), 1);
    for (int i = 1; i <= 16; i++) {
        ck_assert_int_eq(change(&got[0], 0), RESPONSE_SUCCESS);
        ck_assert_int_eq(pop_await(0, LONG_MS), 1);
        ck_assert_int_eq(got[0].retries, i);
    }
    ck_assert_int_eq(change(&got[0], 0), RESPONSE_SUCCESS);
    while (client_metric(&c, "popped_now") > 0) {
        ck_assert_int_eq(pop_queue(0, 1, LONG_MS), 0);
    }
    ck_assert_int_eq(committed(0), 1);
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c.body, &view), 0);
    ck_assert(slice_eq_str(view.f.body, "m0"));
    ck_assert(props_find(view.f.properties, SLICE_LIT("DLQ_ORIGIN_TOPIC"), &origin));
    ck_assert(slice_eq_str(origin, "T"));
    ck_assert_uint_eq(view.record.len, c.body.len);
    tear_down();
}
END_TEST

/* ---- deleted messages ---- */

/* Everything that is not in the last log file is deleted at once. */
static const char *const hasty[] = {"--log.segment.bytes",
                                    "1m",
                                    "--file.reserved.ms",
                                    "1",
                                    "--delete.when",
                                    "any",
                                    "--retention.interval.ms",
                                    "20",
                                    NULL};

static int64_t min_offset(void)
{
    struct header_writer *w = client_begin(&c, REQUEST_GET_MIN_OFFSET, 0);
    int64_t offset = -1;

    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(header_get_i64(&c.header, "offset", &offset), 0);
    return offset;
}

/* Send until the first messages are gone. */
static void send_until_deleted(void)
{
    static uint8_t body[16384];
    struct test_message m = {
        .topic = "T", .properties = "TAGS=A", .body = slice_of(body, sizeof body)};
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;

    while (min_offset() < 4) {
        int32_t code = client_try_send(&c, &m);
        ck_assert(code == RESPONSE_SUCCESS || code == RESPONSE_SYSTEM_BUSY);
        ck_assert_int_lt(test_now_ms(), deadline_ms);
    }
}

START_TEST(what_was_deleted_is_passed)
{
    /* Also what is due: pops go on with the first message that is left. */
    broker_fixture_start(&f, hasty);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    send_many(0, 4);
    ck_assert_int_eq(pop_queue(0, 2, SHORT_MS), 2);
    send_until_deleted();
    await_metric("popped_due", 2);
    ck_assert_int_gt(pop_queue(0, 1, LONG_MS), 0);
    ck_assert_int_ge(got[0].offset, 4);
    ck_assert_int_eq(committed(0), got[0].offset);
    ck_assert_int_eq(client_metric(&c, "popped_now"), 1);
    tear_down();
}
END_TEST

START_TEST(where_a_group_begins_is_kept)
{
    /* Behind what is there, if it asks for that: what comes next is its own, over a crash. */
    struct test_pop at_end = {
        .group = "g2", .queue = 0, .count = POP_MAX, .init_mode = 1, .invisible_ms = LONG_MS};
    int64_t offset;

    broker_fixture_start(&f, hasty);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    send_until_deleted();
    ck_assert_int_eq(pop(&at_end), 0);
    send_one(0, "next");
    ck_assert_int_eq(pop(&at_end), 1);
    ck_assert_str_eq(got[0].body, "next");
    offset = got[0].offset;
    die_and_start();
    send_one(0, "later");
    ck_assert_int_eq(pop(&at_end), 2);
    ck_assert_int_eq(got[0].offset, offset);
    tear_down();
}
END_TEST

/* ---- limits and hostile input ---- */

START_TEST(a_queue_stops_handing_out_at_its_limit)
{
    /* 10,000 messages in hand: nothing more, until one is acknowledged, which wakes who waits. */
    struct test_pop waits = {
        .queue = 0, .count = POP_MAX, .invisible_ms = LONG_MS, .poll_ms = POLL_MS};
    struct client waiting;
    struct popped first;
    int count = 0;

    set_up(1);
    for (int i = 0; i < 10100; i++) {
        struct test_message m = {.topic = "T", .properties = "TAGS=A", .body = SLICE_LIT("x")};
        client_put_send(&c, &m, HEADER_FLAG_ONEWAY);
    }
    ck_assert_int_eq(client_flush(&c), 0);
    while (client_max_offset(&c, "T", 0) < 10100) {
    }
    ck_assert_int_eq(pop_queue(0, 1, LONG_MS), 1);
    first = got[0];
    for (count = 1; count < 10000;) {
        int n = pop_queue(0, POP_MAX, LONG_MS);
        ck_assert_int_gt(n, 0);
        count += n;
    }
    ck_assert_int_eq(count, 10000);
    ck_assert_int_eq(pop_queue(0, POP_MAX, LONG_MS), 0);
    client_open(&waiting, f.port, HEADER_JSON);
    put_pop(&waiting, &waits);
    client_submit(&waiting, SLICE_EMPTY);
    await_metric("pops_held", 1);
    ck_assert_int_eq(ack(&first), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_receive(&waiting, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(read_popped(&waiting), 1);
    client_close(&waiting);
    tear_down();
}
END_TEST

static int32_t pop_with(const char *field, const char *value)
{
    static const char *const fields[][2] = {
        {"consumerGroup", "g"},    {"topic", "T"},    {"queueId", "0"},   {"maxMsgNums", "1"},
        {"invisibleTime", "1000"}, {"pollTime", "0"}, {"order", "false"}, {"exp", "*"}};
    struct header_writer *w = client_begin(&c, REQUEST_POP_MESSAGE, 0);

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const char *text = strcmp(fields[i][0], field) == 0 ? value : fields[i][1];
        if (text != NULL) {
            header_put_str(w, fields[i][0], slice_str(text));
        }
    }
    return client_call(&c, SLICE_EMPTY);
}

START_TEST(a_pop_that_makes_no_sense_is_refused)
{
    /* Field by field; the connection and the queue are as before. */
    set_up(1);
    send_many(0, 1);
    ck_assert_int_eq(pop_with("consumerGroup", NULL), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(pop_with("consumerGroup", "a b"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(pop_with("topic", "unknown"), RESPONSE_TOPIC_NOT_EXIST);
    ck_assert_int_eq(pop_with("queueId", "1"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(pop_with("queueId", NULL), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(pop_with("maxMsgNums", "0"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(pop_with("maxMsgNums", "33"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(pop_with("invisibleTime", "0"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(pop_with("invisibleTime", "x"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(pop_with("pollTime", "x"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(pop_with("order", "x"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(pop_with("exp", "||"), RESPONSE_SUBSCRIPTION_PARSE_FAILED);
    ck_assert_int_eq(client_metric(&c, "popped_now"), 0);
    ck_assert_int_eq(pop_with("invisibleTime", "9223372036854775807"), RESPONSE_SUCCESS);
    ck_assert_int_eq(read_popped(&c), 1);
    tear_down();
}
END_TEST

START_TEST(a_receipt_that_is_none_is_refused)
{
    /* Malformed handles, handles of another message, of another time, of nothing. */
    static const char *const bad[] = {"",
                                      "x",
                                      "0 1 2 0 0 b 0",
                                      "0 1 2 0 0 b 0 1",
                                      "0 1 2 0 0 b 1 0",
                                      "0 1 2 0 1 b 0 0",
                                      "0 -1 2 0 0 b 0 0",
                                      "0 99999999999999999999 2 0 0 b 0 0"};
    struct popped p;

    set_up(1);
    send_many(0, 2);
    ck_assert_int_eq(pop_queue(0, 1, LONG_MS), 1);
    p = got[0];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(p.handle, sizeof p.handle, "%s", bad[i]);
        ck_assert_int_eq(ack(&p), RESPONSE_INVALID_PARAMETER);
        ck_assert_int_eq(change(&p, 0), RESPONSE_INVALID_PARAMETER);
    }
    (void)snprintf(p.handle, sizeof p.handle, "0 1 2 0 0 b 0 0");
    ck_assert_int_eq(ack(&p), RESPONSE_NO_MESSAGE);
    (void)snprintf(p.handle, sizeof p.handle, "0 1 2 0 0 b 0 1");
    p.offset = 1;
    ck_assert_int_eq(ack(&p), RESPONSE_NO_MESSAGE);
    (void)snprintf(p.handle, sizeof p.handle, "0 1 2 0 0 b 5 1");
    p.queue = 5;
    ck_assert_int_eq(ack(&p), RESPONSE_MESSAGE_ILLEGAL);
    p = got[0]; /* its handle, of a queue and of an offset that there are not */
    p.queue = 5;
    ck_assert_int_eq(ack(&p), RESPONSE_MESSAGE_ILLEGAL);
    ck_assert_int_eq(change(&p, 0), RESPONSE_MESSAGE_ILLEGAL);
    p.queue = -1;
    ck_assert_int_eq(ack(&p), RESPONSE_MESSAGE_ILLEGAL);
    p.queue = got[0].queue;
    p.offset = 3;
    ck_assert_int_eq(ack(&p), RESPONSE_NO_MESSAGE);
    ck_assert_int_eq(change(&p, 0), RESPONSE_NO_MESSAGE);
    p.offset = -1;
    ck_assert_int_eq(ack(&p), RESPONSE_NO_MESSAGE);
    ck_assert_int_eq(change(&got[0], -1), RESPONSE_INVALID_PARAMETER);
    (void)client_begin(&c, REQUEST_BATCH_ACK_MESSAGE, 0);
    ck_assert_int_eq(client_call(&c, SLICE_LIT("{\"acks\":[{}]}")), RESPONSE_INVALID_PARAMETER);
    (void)client_begin(&c, REQUEST_BATCH_ACK_MESSAGE, 0);
    ck_assert_int_eq(client_call(&c, SLICE_LIT("{}")), RESPONSE_NO_MESSAGE);
    ck_assert_int_eq(committed(0), 0);
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    tear_down();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, a_popped_message_is_invisible_and_acknowledged_for_good);
    tcase_add_test(tc, a_pop_takes_from_every_queue);
    tcase_add_test(tc, a_message_that_is_not_acknowledged_comes_again);
    tcase_add_test(tc, a_consumer_chooses_when_a_message_comes_again);
    tcase_add_test(tc, a_batch_acknowledges_many);
    tcase_add_test(tc, a_message_wakes_one_that_waits);
    tcase_add_test(tc, who_finds_more_wakes_the_next);
    tcase_add_test(tc, who_hangs_up_while_the_broker_does_not_read_is_gone);
    tcase_add_test(tc, of_many_groups_each_hears_of_a_message);
    tcase_add_test(tc, what_a_filter_does_not_want_is_passed);
    tcase_add_test(tc, after_a_crash_nothing_that_is_not_acknowledged_is_lost);
    tcase_add_test(tc, no_kill_moves_the_offset_over_a_message_that_is_not_done);
    tcase_add_test(tc, a_clean_stop_keeps_the_offset);
    tcase_add_test(tc, a_group_goes_from_pulling_to_popping_and_back);
    tcase_add_test(tc, too_many_retries_end_in_the_dead_letter_topic);
    tcase_add_test(tc, what_was_deleted_is_passed);
    tcase_add_test(tc, where_a_group_begins_is_kept);
    tcase_add_test(tc, a_queue_stops_handing_out_at_its_limit);
    tcase_add_test(tc, a_pop_that_makes_no_sense_is_refused);
    tcase_add_test(tc, a_receipt_that_is_none_is_refused);
}

int main(void)
{
    return broker_fixture_main("pop", 120, add_tests);
}
