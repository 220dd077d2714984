/*
 * What a pop would find, without popping: PEEK_MESSAGE, NOTIFICATION, POLLING_INFO.
 */
#include "tests/integration/broker/pop_client.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- requests ---- */

static struct header_writer *put_look(struct client *to, int32_t code, int32_t queue)
{
    struct header_writer *w = client_begin(to, code, 0);

    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", queue);
    return w;
}

/* What a peek shows, "m0 m1/1 rest 3": bodies, with retries if there are any; or the code. */
static const char *peek(int32_t queue, int32_t count)
{
    static char text[512];
    struct header_writer *w = put_look(&c, REQUEST_PEEK_MESSAGE, queue);
    struct record_walk walk;
    struct record_view view;
    int64_t number = -1;
    int32_t code;
    size_t len = 0;

    header_put_i64(w, "maxMsgNums", count);
    code = client_call(&c, SLICE_EMPTY);
    if (code != RESPONSE_SUCCESS && code != RESPONSE_PULL_NOT_FOUND) {
        (void)snprintf(text, sizeof text, "code %d", code);
        return text;
    }
    walk = (struct record_walk){.rest = c.body};
    ck_assert_int_eq(code == RESPONSE_SUCCESS, c.body.len > 0);
    while (record_walk_next(&walk, &view) == 1) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%.*s",
                                view.f.body.len < 8 ? (int)view.f.body.len : 8,
                                (const char *)view.f.body.ptr);
        if (view.f.reconsume_times > 0) {
            len += (size_t)snprintf(text + len, sizeof text - len, "/%d", view.f.reconsume_times);
        }
        text[len++] = ' ';
    }
    ck_assert_int_eq(header_get_i64(&c.header, "popTime", &number), 0);
    ck_assert_int_eq(number, 0);
    ck_assert_int_eq(header_get_i64(&c.header, "invisibleTime", &number), 0);
    ck_assert_int_eq(header_get_i64(&c.header, "reviveQid", &number), 0);
    ck_assert_int_eq(header_get_i64(&c.header, "restNum", &number), 0);
    (void)snprintf(text + len, sizeof text - len, "rest %lld", (long long)number);
    return text;
}

struct test_notify {
    const char *expression; /* NULL: none */
    int32_t queue;
    int64_t poll_ms;
    bool is_ordered;
};

static void put_notify(struct client *to, const struct test_notify *n)
{
    struct header_writer *w = put_look(to, REQUEST_NOTIFICATION, n->queue);

    header_put_i64(w, "pollTime", n->poll_ms);
    header_put_i64(w, "bornTime", 1);
    if (n->is_ordered) {
        header_put_bool(w, "order", true);
    }
    if (n->expression != NULL) {
        header_put_str(w, "exp", slice_str(n->expression));
        header_put_str(w, "expType", SLICE_LIT("TAG"));
    }
}

/* hasMsg of an answer. */
static bool has_message(struct client *from, bool is_full)
{
    bool has = false;
    bool full = !is_full;

    ck_assert_int_eq(from->header.code, RESPONSE_SUCCESS);
    ck_assert_int_eq(header_get_bool(&from->header, "hasMsg", &has), 0);
    ck_assert_int_eq(header_get_bool(&from->header, "pollingFull", &full), 0);
    ck_assert_int_eq(full, is_full);
    return has;
}

/* Is there something now? */
static bool notify(int32_t queue, bool is_ordered)
{
    put_notify(&c, &(struct test_notify){.queue = queue, .is_ordered = is_ordered});
    (void)client_call(&c, SLICE_EMPTY);
    return has_message(&c, false);
}

static int64_t polling(int32_t queue)
{
    int64_t count = -1;

    (void)put_look(&c, REQUEST_POLLING_INFO, queue);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(header_get_i64(&c.header, "pollingNum", &count), 0);
    return count;
}

static void await_held(int64_t count)
{
    while (client_metric(&c, "pops_held") != count) {
    }
}

/* ---- tests ---- */

START_TEST(a_peek_shows_what_a_pop_would_get)
{
    /* And changes nothing: no offset, nothing in hand, no message counted as sent. */
    set_up(1);
    ck_assert_str_eq(peek(0, 8), "rest 0");
    send_many(0, 3);
    ck_assert_str_eq(peek(0, 2), "m0 m1 rest 3");
    ck_assert_str_eq(peek(ALL, 8), "m0 m1 m2 rest 3");
    ck_assert_int_eq(client_metric(&c, "popped_now"), 0);
    ck_assert_int_eq(client_metric(&c, "messages_out"), 0);
    ck_assert_int_eq(committed(0), -1);
    ck_assert_int_eq(pop_queue(0, 1, LONG_MS), 1);
    ck_assert_str_eq(peek(0, 8), "m1 m2 rest 2");
    ck_assert_int_eq(change(&got[0], 0), RESPONSE_SUCCESS);
    await_metric("popped_due", 1);
    ck_assert_str_eq(peek(0, 8), "m0/1 m1 m2 rest 3");
    ck_assert_str_eq(peek(0, 1), "m0/1 rest 3");
    ck_assert_int_eq(client_metric(&c, "popped_due"), 1);
    ck_assert_int_eq(pop_queue(0, 8, LONG_MS), 1);
    ck_assert_str_eq(got[0].body, "m0");
    ck_assert_int_eq(got[0].retries, 1);
    tear_down();
}
END_TEST

START_TEST(a_peek_looks_into_every_queue)
{
    /* From each in its order, not more than was asked for, all of it counted. */
    int queues_seen = 0;

    set_up(3);
    for (int32_t q = 0; q < 3; q++) {
        send_many(q, 2);
    }
    ck_assert_str_eq(peek(1, 8), "m0 m1 rest 2");
    ck_assert_str_eq(peek(ALL, 8), "m0 m1 m0 m1 m0 m1 rest 6");
    for (int i = 0; i < 3; i++) { /* each begins at another queue */
        struct record_view view;
        ck_assert_str_eq(peek(ALL, 1), "m0 rest 6");
        ck_assert_int_eq(record_decode(c.body, &view), 0);
        queues_seen |= 1 << view.f.queue_id;
    }
    ck_assert_int_eq(queues_seen, 7);
    tear_down();
}
END_TEST

/* Out of memory with what the first log file holds, if the file system does that. */
static void forget_the_first_file(void)
{
    char path[300];
    int fd;

    (void)snprintf(path, sizeof path, "%s/log/00000000000000000000", f.folder);
    fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    ck_assert_int_eq(close(fd), 0);
}

/* 40 messages of 64 KiB, of which the first files are not being written any more. */
static void set_up_old_messages(void)
{
    static uint8_t body[65536];
    struct test_message m = {.topic = "T", .body = slice_of(body, sizeof body)};

    broker_fixture_start(&f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    for (int i = 0; i < 40; i++) {
        (void)client_send(&c, &m);
    }
    client_close(&c);
    broker_fixture_stop(&f);
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
}

START_TEST(what_is_on_the_disk_is_found_too)
{
    /* By a peek, and by an ordered pop, of new messages and of those that come again. */
    struct test_pop in_order = {.count = 3, .invisible_ms = LONG_MS, .is_ordered = true};
    struct popped first[3];

    set_up_old_messages();
    forget_the_first_file();
    ck_assert(strstr(peek(0, 3), "rest 40") != NULL);
    forget_the_first_file();
    ck_assert_int_eq(pop(&in_order), 3);
    memcpy(first, got, sizeof first);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(first[i].offset, i);
        ck_assert_int_eq(change(&first[i], 0), RESPONSE_SUCCESS);
    }
    await_metric("popped_due", 3);
    forget_the_first_file();
    ck_assert(strstr(peek(0, 3), "rest 40") != NULL);
    ck_assert_int_eq(client_metric(&c, "popped_due"), 3);
    forget_the_first_file();
    in_order.poll_ms = POLL_MS;
    for (int offset = 0; offset < 3;) {
        int count = pop(&in_order); /* what is read ahead comes, in its order */
        ck_assert_int_gt(count, 0);
        for (int i = 0; i < count; i++) {
            ck_assert_int_eq(got[i].offset, offset++);
            ck_assert_int_eq(got[i].retries, 1);
            ck_assert_int_eq(ack(&got[i]), RESPONSE_SUCCESS);
        }
    }
    tear_down();
}
END_TEST

/* Everything is done but the first message, which is in `first`. */
static void pop_all_but_the_first(struct popped *first)
{
    int count;

    while ((count = pop_queue(0, POP_MAX, LONG_MS)) > 0) {
        for (int i = 0; i < count; i++) {
            if (got[i].offset == 0) {
                *first = got[i];
            } else {
                ck_assert_int_eq(ack(&got[i]), RESPONSE_SUCCESS);
            }
        }
    }
}

START_TEST(who_goes_while_it_reads_the_disk_leaves_the_message_to_another)
{
    /* Two wait, the one that was woken has to read, and its connection goes before it has. */
    struct test_pop any = {.count = 1, .invisible_ms = LONG_MS, .poll_ms = POLL_MS};
    struct client waiting[2];
    struct popped first = {.offset = -1};
    pid_t threads[BROKER_POOL_MAX];
    int64_t connections;
    size_t count;
    bool is_read;

    set_up_old_messages();
    pop_all_but_the_first(&first);
    forget_the_first_file();
    (void)client_pull(&c, &(struct test_pull){"g2", "T", 0, 0, 1, 0}); /* the pool has threads */
    connections = client_metric(&c, "connections");
    for (int i = 0; i < 2; i++) {
        client_open(&waiting[i], f.port, HEADER_JSON);
        put_pop(&waiting[i], &any);
        client_submit(&waiting[i], SLICE_EMPTY);
        await_metric("pops_held", i + 1);
    }
    forget_the_first_file();
    count = broker_fixture_hold_pool(&f, threads);
    ck_assert_int_eq(change(&first, 0), RESPONSE_SUCCESS);
    await_fewer("pops_held", 1);
    client_close(&waiting[0]);
    await_fewer("connections", connections + 1);
    is_read = client_metric(&c, "popped_due") == 1;
    broker_fixture_release_pool(threads, count);
    if (is_read) { /* else the file system had not forgotten it, and it was answered at once */
        ck_assert_int_eq(client_receive(&waiting[1], CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(waiting[1].header.code, RESPONSE_SUCCESS);
        ck_assert_int_eq(read_popped(&waiting[1]), 1);
        ck_assert_int_eq(got[0].offset, 0);
    }
    client_close(&waiting[1]);
    tear_down();
}
END_TEST

static bool notify_of(int32_t queue, const char *expression)
{
    put_notify(&c, &(struct test_notify){.queue = queue, .expression = expression});
    (void)client_call(&c, SLICE_EMPTY);
    return has_message(&c, false);
}

START_TEST(a_notification_is_of_what_its_filter_wants)
{
    /* Also of what was there before; with others in front of it. */
    struct test_message m = {
        .topic = "T", .properties = "TAGS=B", .body = SLICE_LIT("b"), .queue = 1};
    struct client waiting;

    set_up(2);
    send_many(0, 3);
    send_many(1, 3);
    ck_assert(!notify_of(ALL, "B"));
    ck_assert(!notify_of(0, "B"));
    ck_assert(notify_of(0, "A"));
    client_open(&waiting, f.port, HEADER_JSON);
    put_notify(&waiting, &(struct test_notify){.queue = 1, .expression = "B", .poll_ms = POLL_MS});
    client_submit(&waiting, SLICE_EMPTY);
    await_held(1);
    send_one(1, "a");
    await_held(1);
    (void)client_send(&c, &m);
    ck_assert_int_eq(client_receive(&waiting, CLIENT_WAIT_MS), 0);
    ck_assert(has_message(&waiting, false));
    ck_assert(notify_of(ALL, "B"));
    ck_assert(notify_of(1, "B"));
    ck_assert(notify_of(1, "C || B"));
    ck_assert(!notify_of(0, "B"));
    ck_assert(!notify_of(ALL, "C"));
    client_close(&waiting);
    tear_down();
}
END_TEST

START_TEST(a_notification_says_what_is_there)
{
    /* Not what is in hand, unless it is due; at once when nobody wants to wait. */
    set_up(2);
    ck_assert(!notify(ALL, false));
    send_many(1, 1);
    ck_assert(notify(ALL, false));
    ck_assert(notify(1, false));
    ck_assert(!notify(0, false));
    ck_assert_int_eq(pop_queue(1, 1, LONG_MS), 1);
    ck_assert(!notify(ALL, false));
    ck_assert_int_eq(change(&got[0], 0), RESPONSE_SUCCESS);
    await_metric("popped_due", 1);
    ck_assert(notify(ALL, false));
    tear_down();
}
END_TEST

START_TEST(a_notification_in_order_waits_for_the_queue)
{
    /* Something is there, but the queue is in hand: only the acknowledgement tells of it. */
    struct client waiting;

    set_up(1);
    send_many(0, 2);
    ck_assert_int_eq(pop_queue(0, 1, LONG_MS), 1);
    ck_assert(notify(0, false));
    ck_assert(!notify(0, true));
    client_open(&waiting, f.port, HEADER_JSON);
    put_notify(&waiting, &(struct test_notify){.poll_ms = POLL_MS, .is_ordered = true});
    client_submit(&waiting, SLICE_EMPTY);
    await_held(1);
    send_one(0, "more");
    ck_assert_int_eq(client_metric(&c, "pops_held"), 1);
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_receive(&waiting, CLIENT_WAIT_MS), 0);
    ck_assert(has_message(&waiting, false));
    client_close(&waiting);
    tear_down();
}
END_TEST

START_TEST(a_message_is_told_to_one_that_waits)
{
    /* That may want it; the message stays. Two who wait hear of two messages. */
    struct client waiting[2];
    struct client wrong_tag;
    struct test_notify any = {.queue = ALL, .poll_ms = POLL_MS};

    set_up(2);
    client_open(&wrong_tag, f.port, HEADER_JSON);
    put_notify(&wrong_tag,
               &(struct test_notify){.expression = "B", .queue = ALL, .poll_ms = POLL_MS});
    client_submit(&wrong_tag, SLICE_EMPTY);
    await_held(1);
    for (int i = 0; i < 2; i++) {
        client_open(&waiting[i], f.port, HEADER_JSON);
        put_notify(&waiting[i], &any);
        client_submit(&waiting[i], SLICE_EMPTY);
        await_held(2 + i);
    }
    send_one(1, "hello");
    ck_assert_int_eq(client_receive(&waiting[0], CLIENT_WAIT_MS), 0); /* it waited longer */
    ck_assert(has_message(&waiting[0], false));
    ck_assert_int_eq(client_metric(&c, "pops_held"), 2);
    send_one(0, "hello");
    ck_assert_int_eq(client_receive(&waiting[1], CLIENT_WAIT_MS), 0);
    ck_assert(has_message(&waiting[1], false));
    await_held(1);
    ck_assert_int_eq(pop_queue(ALL, 8, LONG_MS), 2);
    client_close(&wrong_tag);
    await_held(0);
    client_close(&waiting[0]);
    client_close(&waiting[1]);
    tear_down();
}
END_TEST

START_TEST(a_notification_does_not_take_the_place_of_a_pop)
{
    /* Both wait: the pop has the message; who waited to be told has nothing to be told of. */
    struct client told;
    struct client popping;
    struct test_pop any = {.queue = ALL, .count = 1, .invisible_ms = LONG_MS, .poll_ms = POLL_MS};

    set_up(1);
    client_open(&told, f.port, HEADER_JSON);
    client_open(&popping, f.port, HEADER_JSON);
    put_notify(&told, &(struct test_notify){.queue = ALL, .poll_ms = POLL_MS});
    client_submit(&told, SLICE_EMPTY);
    await_held(1);
    put_pop(&popping, &any);
    client_submit(&popping, SLICE_EMPTY);
    await_held(2);
    send_one(0, "hello");
    ck_assert_int_eq(client_receive(&popping, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(read_popped(&popping), 1);
    await_held(1);
    client_close(&told);
    client_close(&popping);
    await_held(0);
    tear_down();
}
END_TEST

START_TEST(a_notification_ends_when_its_time_is_over)
{
    /* Without a message; also when the broker stops, and when too many wait. */
    struct client waiting;

    broker_fixture_start(&f, (const char *const[]){"--pulls.held.max", "1", NULL});
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    put_notify(&c, &(struct test_notify){.poll_ms = 20});
    (void)client_call(&c, SLICE_EMPTY);
    ck_assert(!has_message(&c, false));
    client_open(&waiting, f.port, HEADER_JSON);
    put_notify(&waiting, &(struct test_notify){.poll_ms = POLL_MS});
    client_submit(&waiting, SLICE_EMPTY);
    await_held(1);
    put_notify(&c, &(struct test_notify){.poll_ms = POLL_MS});
    (void)client_call(&c, SLICE_EMPTY);
    ck_assert(!has_message(&c, true));
    broker_fixture_terminate(&f);
    ck_assert_int_eq(client_receive(&waiting, CLIENT_WAIT_MS), 0);
    ck_assert(!has_message(&waiting, false));
    client_close(&waiting);
    client_close(&c);
    ck_assert_int_eq(broker_fixture_wait(&f), 0);
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
    tear_down();
}
END_TEST

START_TEST(who_waits_is_counted)
{
    /* Pops, by the queue they ask for; not those who only want to be told. */
    struct client waiting[4];
    struct test_pop waits = {.count = 1, .invisible_ms = LONG_MS, .poll_ms = POLL_MS};

    set_up(2);
    ck_assert_int_eq(polling(ALL), 0);
    for (int i = 0; i < 4; i++) {
        client_open(&waiting[i], f.port, HEADER_JSON);
        waits.queue = i < 2 ? ALL : 1;
        if (i < 3) {
            put_pop(&waiting[i], &waits);
        } else {
            put_notify(&waiting[i], &(struct test_notify){.queue = 1, .poll_ms = POLL_MS});
        }
        client_submit(&waiting[i], SLICE_EMPTY);
        await_held(i + 1);
    }
    ck_assert_int_eq(polling(ALL), 2);
    ck_assert_int_eq(polling(1), 1);
    ck_assert_int_eq(polling(0), 0);
    for (int i = 0; i < 4; i++) {
        client_close(&waiting[i]);
    }
    await_held(0);
    ck_assert_int_eq(polling(ALL), 0);
    tear_down();
}
END_TEST

/* A request with one field another, or without it (value NULL). */
static int32_t look_with(int32_t code, const char *field, const char *value)
{
    static const char *const fields[][2] = {
        {"consumerGroup", "g"}, {"topic", "T"},    {"queueId", "0"},   {"maxMsgNums", "1"},
        {"pollTime", "0"},      {"bornTime", "0"}, {"order", "false"}, {"exp", "*"}};
    struct header_writer *w = client_begin(&c, code, 0);

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const char *text = strcmp(fields[i][0], field) == 0 ? value : fields[i][1];
        if (text != NULL) {
            header_put_str(w, fields[i][0], slice_str(text));
        }
    }
    return client_call(&c, SLICE_EMPTY);
}

START_TEST(a_look_that_makes_no_sense_is_refused)
{
    /* Field by field, of each of the three. */
    static const int32_t codes[] = {REQUEST_PEEK_MESSAGE, REQUEST_NOTIFICATION,
                                    REQUEST_POLLING_INFO};

    set_up(1);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(look_with(codes[i], "", NULL),
                         i == 0 ? RESPONSE_PULL_NOT_FOUND : RESPONSE_SUCCESS);
        ck_assert_int_eq(look_with(codes[i], "consumerGroup", NULL), RESPONSE_INVALID_PARAMETER);
        ck_assert_int_eq(look_with(codes[i], "consumerGroup", "a b"), RESPONSE_INVALID_PARAMETER);
        ck_assert_int_eq(look_with(codes[i], "topic", NULL), RESPONSE_INVALID_PARAMETER);
        ck_assert_int_eq(look_with(codes[i], "topic", "unknown"), RESPONSE_TOPIC_NOT_EXIST);
        ck_assert_int_eq(look_with(codes[i], "queueId", "1"), RESPONSE_INVALID_PARAMETER);
        ck_assert_int_eq(look_with(codes[i], "queueId", "x"), RESPONSE_INVALID_PARAMETER);
        ck_assert_int_eq(look_with(codes[i], "queueId", NULL), RESPONSE_INVALID_PARAMETER);
    }
    ck_assert_int_eq(look_with(REQUEST_PEEK_MESSAGE, "maxMsgNums", NULL),
                     RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(look_with(REQUEST_PEEK_MESSAGE, "maxMsgNums", "0"),
                     RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(look_with(REQUEST_PEEK_MESSAGE, "maxMsgNums", "33"),
                     RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(look_with(REQUEST_NOTIFICATION, "pollTime", NULL), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(look_with(REQUEST_NOTIFICATION, "order", "x"), RESPONSE_INVALID_PARAMETER);
    ck_assert_int_eq(look_with(REQUEST_NOTIFICATION, "exp", "||"),
                     RESPONSE_SUBSCRIPTION_PARSE_FAILED);
    ck_assert_int_eq(look_with(REQUEST_NOTIFICATION, "pollTime", "-9223372036854775808"),
                     RESPONSE_SUCCESS);
    ck_assert(!has_message(&c, false));
    tear_down();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, a_peek_shows_what_a_pop_would_get);
    tcase_add_test(tc, a_peek_looks_into_every_queue);
    tcase_add_test(tc, what_is_on_the_disk_is_found_too);
    tcase_add_test(tc, who_goes_while_it_reads_the_disk_leaves_the_message_to_another);
    tcase_add_test(tc, a_notification_is_of_what_its_filter_wants);
    tcase_add_test(tc, a_notification_says_what_is_there);
    tcase_add_test(tc, a_notification_in_order_waits_for_the_queue);
    tcase_add_test(tc, a_message_is_told_to_one_that_waits);
    tcase_add_test(tc, a_notification_does_not_take_the_place_of_a_pop);
    tcase_add_test(tc, a_notification_ends_when_its_time_is_over);
    tcase_add_test(tc, who_waits_is_counted);
    tcase_add_test(tc, a_look_that_makes_no_sense_is_refused);
}

int main(void)
{
    return broker_fixture_main("pop_look", 120, add_tests);
}
