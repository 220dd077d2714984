/* What a consumer reads: shares by strategy, topics taken up and given up, queues left alone. */
#include "core/base/mem.h"
#include "core/proto/allocate.h"
#include "tests/integration/client/rig.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define QUEUES 4

static struct rig rig;
static struct bag bag;
static struct bag other;

static const struct escrow_option quick[] = {{"commit.ms", "10"}, {NULL, NULL}};
static const struct escrow_option in_order[] = {
    {"order", "queue"}, {"commit.ms", "10"}, {"retry.pause.ms", "1"}, {NULL, NULL}};

static void setup(void)
{
    rig_start(&rig, NULL);
    bag_init(&bag);
    bag_init(&other);
}

static void teardown(void)
{
    bag_fini(&other);
    bag_fini(&bag);
    rig_stop(&rig);
}

static struct escrow_producer *producer(struct escrow_client *c)
{
    struct escrow_producer *p = NULL;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    return p;
}

static void send_many(struct escrow_producer *p, const char *topic, int first, int count)
{
    for (int i = first; i < first + count; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        OK(rig_send(p, topic, text));
    }
}

/* ---- strategies ---- */

/* "BODY QUEUE" */
static enum escrow_consume_result notes_queue(const struct escrow_delivery *message, void *arg)
{
    char line[64];
    size_t len;
    const char *body = escrow_delivery_body(message, &len);

    (void)snprintf(line, sizeof line, "%.*s %d", (int)len, body,
                   (int)escrow_delivery_queue(message));
    bag_add(arg, line, strlen(line));
    return ESCROW_CONSUME_OK;
}

static bool has(struct bag *b, int round, int queue)
{
    char line[64];

    (void)snprintf(line, sizeof line, "%d %d", round, queue);
    return bag_count_of(b, line) > 0;
}

/*
 * Rounds of a message for each queue, until the two members share one as wanted: '0' or '1' each.
 */
static void rounds_until_shared(struct escrow_producer *p, const char *wanted)
{
    char shared[QUEUES + 1] = "";

    for (int round = 0; strcmp(shared, wanted) != 0; round++) { /* the test's time limit ends it */
        size_t known = 0;
        for (int i = 0; i < QUEUES; i++) {
            send_many(p, "Shared", round, 1);
        }
        while (known < QUEUES) {
            known = 0;
            for (int i = 0; i < QUEUES; i++) {
                bool is_first = has(&bag, round, i);
                shared[i] = is_first ? '0' : '1';
                known += is_first || has(&other, round, i) ? 1 : 0;
            }
        }
    }
}

static void check_shares(const char *strategy, const char *wanted)
{
    const struct escrow_option names[2][2] = {{{"client.id", "member-a"}, {NULL, NULL}},
                                              {{"client.id", "member-b"}, {NULL, NULL}}};
    const struct escrow_option options[] = {{"allocate", strategy}, {NULL, NULL}};
    struct escrow_client *c1 = rig_client_with(rig.name_server, names[0]);
    struct escrow_client *c2 = rig_client_with(rig.name_server, names[1]);
    struct escrow_producer *p = producer(c1);
    struct escrow_consumer *k1 =
        rig_consume(c1, "readers", "Shared", "*", options, notes_queue, &bag);
    struct escrow_consumer *k2 =
        rig_consume(c2, "readers", "Shared", "*", options, notes_queue, &other);

    rounds_until_shared(p, wanted);
    escrow_consumer_free(&k2);
    escrow_consumer_free(&k1);
    escrow_producer_free(&p);
    escrow_client_free(&c2);
    escrow_client_free(&c1);
}

START_TEST(neighbouring_queues_are_shared_by_default)
{
    check_shares("average", "0011");
}
END_TEST

START_TEST(in_a_circle_members_take_turns)
{
    check_shares("circle", "0101");
}
END_TEST

/* Each queue goes to the member that the ring names. */
START_TEST(by_hash_the_ring_decides)
{
    const struct slice members[] = {SLICE_LIT("member-a"), SLICE_LIT("member-b")};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = producer(c);
    struct escrow_message *m = rig_message("Shared", "which broker");
    struct escrow_receipt *receipt = NULL;
    struct allocate_ring ring;
    char wanted[QUEUES + 1] = "";

    OK(escrow_send(p, m, &receipt));
    ck_assert_int_eq(allocate_ring_init(&ring, members, 2), 0);
    for (uint32_t i = 0; i < QUEUES; i++) {
        size_t owner = 2;
        ck_assert_int_eq(allocate_ring_owner(&ring, SLICE_LIT("Shared"),
                                             slice_str(escrow_receipt_broker(receipt)), i, &owner),
                         0);
        wanted[i] = (char)('0' + owner);
    }
    allocate_ring_fini(&ring);
    escrow_receipt_free(&receipt);
    escrow_message_free(&m);
    escrow_producer_free(&p);
    escrow_client_free(&c);
    check_shares("hash", wanted);
}
END_TEST

START_TEST(there_is_no_other_strategy)
{
    const struct escrow_option options[] = {{"allocate", "room"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_consumer *k = NULL;

    ck_assert_int_eq(escrow_consumer_new(c, "readers", options, &k), ESCROW_ECONFIG);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "average, circle or hash"));
    escrow_client_free(&c);
}
END_TEST

/* ---- pausing ---- */

/*
 * A topic that is paused stands still while another goes on; then it goes on behind what is done.
 */
START_TEST(a_paused_topic_goes_on_where_it_was)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = producer(c);
    struct escrow_consumer *k = NULL;

    send_many(p, "Paused", 0, 20);
    OK(escrow_consumer_new(c, "readers", quick, &k));
    OK(escrow_consumer_subscribe(k, "Paused", "*"));
    OK(escrow_consumer_subscribe(k, "Marker", "*"));
    ck_assert_int_eq(escrow_consumer_pause(k, "Neither", NULL, -1), ESCROW_ENOTFOUND);
    ck_assert_int_eq(escrow_consumer_pause(k, NULL, NULL, 1), ESCROW_EINVAL);
    ck_assert_int_eq(escrow_consumer_pause(k, NULL, "broker", -1), ESCROW_EINVAL);
    OK(escrow_consumer_start(k, bag_handler, &bag));
    bag_wait(&bag, 20);
    OK(escrow_consumer_pause(k, "Paused", NULL, -1));
    send_many(p, "Paused", 20, 20);
    OK(rig_send(p, "Marker", "marker"));
    bag_wait_for(&bag, "marker");
    ck_assert_uint_eq(bag_count(&bag), 21);
    OK(escrow_consumer_resume(k, "Paused", NULL, -1));
    bag_wait_distinct(&bag, 41);
    ck_assert_uint_eq(bag_count(&bag), 41);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* Before the start, all but one queue; what was said last counts. Then everything. */
START_TEST(what_was_said_last_about_a_queue_counts)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = producer(c);
    struct escrow_consumer *k = NULL;

    send_many(p, "Paused", 0, 20);
    OK(escrow_consumer_new(c, "readers", quick, &k));
    OK(escrow_consumer_subscribe(k, "Paused", "*"));
    OK(escrow_consumer_pause(k, NULL, NULL, -1));
    OK(escrow_consumer_resume(k, "Paused", NULL, 2));
    OK(escrow_consumer_start(k, notes_queue, &bag));
    bag_wait(&bag, 20 / QUEUES);
    OK(escrow_consumer_resume(k, "Paused", NULL, 3));
    OK(escrow_consumer_pause(k, "Paused", "another", 3)); /* not ours */
    bag_wait(&bag, 2 * 20 / QUEUES);
    for (int i = 0; i < 20; i++) {
        ck_assert(!has(&bag, i, 0) && !has(&bag, i, 1));
    }
    OK(escrow_consumer_resume(k, NULL, NULL, -1));
    bag_wait_distinct(&bag, 20);
    ck_assert_uint_eq(bag_count(&bag), 20);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int inside;
    bool is_open;
};

static struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false};

static enum escrow_consume_result waits_at_gate(const struct escrow_delivery *message, void *arg)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.inside++;
    (void)pthread_cond_broadcast(&gate.changed);
    while (!gate.is_open) {
        (void)pthread_cond_wait(&gate.changed, &gate.lock);
    }
    (void)pthread_mutex_unlock(&gate.lock);
    return bag_handler(message, arg);
}

static void gate_await_many(int handlers)
{
    (void)pthread_mutex_lock(&gate.lock);
    while (gate.inside < handlers) {
        (void)pthread_cond_wait(&gate.changed, &gate.lock);
    }
    (void)pthread_mutex_unlock(&gate.lock);
}

static void gate_await(void)
{
    gate_await_many(1);
}

static void gate_open(void)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.is_open = true;
    (void)pthread_cond_broadcast(&gate.changed);
    (void)pthread_mutex_unlock(&gate.lock);
}

/*
 * What a handler has when its queue is paused is done once: also when the queue is resumed before
 * the handler comes back. In order, too. A retry topic is paused with everything.
 */
static void pause_at_work(const struct escrow_option *options)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = producer(c);
    struct escrow_consumer *k;

    send_many(p, "Paused", 0, 40);
    k = rig_consume(c, "readers", "Paused", "*", options, waits_at_gate, &bag);
    gate_await();
    OK(escrow_consumer_pause(k, "Paused", NULL, -1));
    OK(escrow_consumer_pause(k, NULL, NULL, -1));
    OK(escrow_consumer_resume(k, NULL, NULL, -1));
    gate_open();
    bag_wait_distinct(&bag, 40);
    ck_assert_uint_eq(bag_count(&bag), 40);
    escrow_consumer_free(&k);
    send_many(p, "Paused", 40, 1); /* and all of it was stored as done */
    k = rig_consume(c, "readers", "Paused", "*", options, bag_handler, &bag);
    bag_wait_for(&bag, "40");
    ck_assert_uint_eq(bag_count(&bag), 41);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}

START_TEST(what_a_handler_has_is_done_once)
{
    pause_at_work(quick);
}
END_TEST

START_TEST(in_order_too_what_a_handler_has_is_done_once)
{
    pause_at_work(in_order);
}
END_TEST

/* One that fails while its queue is paused comes again when that is resumed. */
static enum escrow_consume_result pauses_and_fails(const struct escrow_delivery *message, void *arg)
{
    struct escrow_consumer *k = *(struct escrow_consumer **)arg;
    enum escrow_consume_result result = ESCROW_CONSUME_OK;

    if (bag_count(&bag) == 3) {
        OK(escrow_consumer_pause(k, "Paused", NULL, -1));
        result = ESCROW_CONSUME_RETRY;
    }
    (void)bag_handler(message, &bag);
    return result;
}

START_TEST(in_order_what_failed_comes_first_again)
{
    const struct escrow_option one_queue[] = {{"queues", "1"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k = NULL;

    OK(escrow_producer_new(c, "shop", one_queue, &p));
    send_many(p, "Paused", 0, 10);
    OK(escrow_consumer_new(c, "readers", in_order, &k));
    OK(escrow_consumer_subscribe(k, "Paused", "*"));
    OK(escrow_consumer_subscribe(k, "Marker", "*"));
    OK(escrow_consumer_start(k, pauses_and_fails, &k));
    bag_wait(&bag, 4);
    OK(rig_send(p, "Marker", "marker"));
    bag_wait_for(&bag, "marker");
    ck_assert_uint_eq(bag_count(&bag), 5);
    OK(escrow_consumer_resume(k, "Paused", NULL, -1));
    bag_wait(&bag, 12);
    for (int i = 0; i < 12; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i < 4 ? i : i - 2);
        ck_assert_str_eq(bag.items[i], i == 4 ? "marker" : text);
    }
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static void poll_all(struct escrow_consumer *k, size_t count)
{
    while (bag_count(&bag) < count) {
        struct escrow_delivery *messages[3] = {NULL};
        size_t n = 0;
        OK(escrow_consumer_poll(k, RIG_WAIT_MS, messages, 3, &n));
        ck_assert_uint_gt(n, 0);
        for (size_t i = 0; i < n; i++) {
            (void)bag_handler(messages[i], &bag);
            escrow_delivery_free(&messages[i]);
        }
    }
}

/* A poll returns nothing of a paused queue; what polls returned before is stored by a commit. */
START_TEST(polls_pass_paused_queues_over)
{
    const struct escrow_option manual[] = {{"commit", "manual"}, {"commit.ms", "10"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = producer(c);
    struct escrow_delivery *m = NULL;
    struct escrow_consumer *k;
    size_t n = 0;

    send_many(p, "Paused", 0, 20);
    k = rig_consume(c, "readers", "Paused", "*", manual, NULL, NULL);
    poll_all(k, 6);
    OK(escrow_consumer_pause(k, "Paused", NULL, -1));
    OK(escrow_consumer_poll(k, 30, &m, 1, &n));
    ck_assert_uint_eq(n, 0);
    OK(escrow_consumer_commit(k));
    escrow_consumer_free(&k);
    k = rig_consume(c, "readers", "Paused", "*", manual, NULL, NULL);
    poll_all(k, 9);
    OK(escrow_consumer_pause(k, NULL, NULL, -1));
    OK(escrow_consumer_resume(k, NULL, NULL, -1)); /* which says of nothing that it is done */
    poll_all(k, 20);
    ck_assert_uint_eq(bag_distinct(&bag), 20);
    escrow_consumer_free(&k);
    k = rig_consume(c, "readers", "Paused", "*", manual, NULL, NULL);
    poll_all(k, 34);
    ck_assert_uint_eq(bag_distinct(&bag), 20);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* ---- topics at run time ---- */

/* A topic that is given up is the other members'; one that is taken up goes on where it was. */
START_TEST(topics_are_given_up_and_taken_up_while_it_runs)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = producer(c);
    struct escrow_consumer *k;

    send_many(p, "One", 0, 20);
    k = rig_consume(c, "readers", "One", "*", quick, bag_handler, &bag);
    bag_wait(&bag, 20);
    ck_assert_int_eq(escrow_consumer_subscribe(k, "One", "*"), ESCROW_EEXIST);
    OK(rig_send(p, "Two", "of two"));
    OK(escrow_consumer_subscribe(k, "Two", "*"));
    bag_wait_for(&bag, "of two");
    ck_assert_int_eq(escrow_consumer_unsubscribe(k, "Three"), ESCROW_ENOTFOUND);
    ck_assert_int_eq(escrow_consumer_unsubscribe(k, "%RETRY%readers"), ESCROW_ENOTFOUND);
    OK(escrow_consumer_unsubscribe(k, "One"));
    ck_assert_int_eq(escrow_consumer_unsubscribe(k, "One"), ESCROW_ENOTFOUND);
    send_many(p, "One", 20, 20);
    OK(rig_send(p, "Two", "another of two"));
    bag_wait_for(&bag, "another of two");
    ck_assert_uint_eq(bag_count(&bag), 22);
    OK(escrow_consumer_subscribe(k, "One", "*"));
    bag_wait(&bag, 42);
    ck_assert_uint_eq(bag_distinct(&bag), 42);
    OK(escrow_consumer_unsubscribe(k, "One"));
    OK(escrow_consumer_unsubscribe(k, "Two"));
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* A handler at work outlives its topic, and the consumer's end waits for it. */
START_TEST(a_handler_outlives_its_topic)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = producer(c);
    struct escrow_consumer *k = NULL;

    send_many(p, "One", 0, 8);
    OK(escrow_consumer_new(c, "readers", quick, &k));
    OK(escrow_consumer_subscribe(k, "Never", "*"));
    OK(escrow_consumer_unsubscribe(k, "Never"));
    OK(escrow_consumer_subscribe(k, "One", "*"));
    OK(escrow_consumer_start(k, waits_at_gate, &bag));
    gate_await();
    OK(escrow_consumer_pause(k, "One", NULL, 1));
    OK(escrow_consumer_unsubscribe(k, "One"));
    OK(escrow_consumer_subscribe(k, "One", "*")); /* nothing of it is paused now */
    gate_open();
    bag_wait_distinct(&bag, 8);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/*
 * In order, a topic that is taken up again while a handler is at work waits for that one's queue:
 * the message is not handled beside itself, and what is stored does not go back.
 */
START_TEST(in_order_a_topic_taken_up_again_waits_for_its_handler)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = producer(c);
    struct escrow_consumer *k = NULL;

    send_many(p, "One", 0, 1);
    OK(escrow_consumer_new(c, "readers", in_order, &k));
    OK(escrow_consumer_subscribe(k, "One", "*"));
    OK(escrow_consumer_start(k, waits_at_gate, &bag));
    gate_await();
    OK(escrow_consumer_unsubscribe(k, "One"));
    OK(escrow_consumer_subscribe(k, "One", "*"));
    send_many(p, "One", 1, 3);
    gate_await_many(2); /* other queues are taken up again */
    gate_open();
    bag_wait_distinct(&bag, 4);
    send_many(p, "One", 4, 4);
    bag_wait_distinct(&bag, 8);
    escrow_consumer_free(&k);
    ck_assert_uint_eq(bag_count(&bag), 8);
    k = rig_consume(c, "readers", "One", "*", in_order, bag_handler, &bag);
    send_many(p, "One", 8, 4);
    bag_wait_distinct(&bag, 12);
    escrow_consumer_free(&k);
    ck_assert_uint_eq(bag_count(&bag), 12);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* Who chose queues takes up no topic of which it would have none, and never begins to share. */
START_TEST(who_chose_queues_takes_up_no_topic)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = producer(c);
    struct escrow_consumer *k = NULL;
    struct escrow_delivery *m = NULL;
    size_t n = 0;

    send_many(p, "One", 0, 8);
    OK(escrow_consumer_new(c, "readers", quick, &k));
    OK(escrow_consumer_subscribe(k, "One", "*"));
    OK(escrow_consumer_assign(k, "One", NULL, 0));
    OK(escrow_consumer_start(k, NULL, NULL));
    ck_assert_int_eq(escrow_consumer_subscribe(k, "Two", "*"), ESCROW_EINVAL);
    poll_all(k, 2);
    OK(escrow_consumer_unsubscribe(k, "One"));
    OK(escrow_consumer_poll(k, 30, &m, 1, &n));
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(escrow_consumer_subscribe(k, "One", "*"), ESCROW_EINVAL);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* What was said of a topic is forgotten with it. */
START_TEST(topics_may_come_and_go_for_ever)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_consumer *k = NULL;

    OK(escrow_consumer_new(c, "readers", quick, &k));
    for (int i = 0; i < 1100; i++) {
        OK(escrow_consumer_subscribe(k, "One", "*"));
        OK(escrow_consumer_pause(k, "One", NULL, 1));
        OK(escrow_consumer_unsubscribe(k, "One"));
    }
    OK(escrow_consumer_subscribe(k, "One", "*"));
    for (int i = 0; i < 1024; i++) {
        OK(escrow_consumer_pause(k, "One", NULL, i));
    }
    ck_assert_int_eq(escrow_consumer_pause(k, "One", NULL, 1024), ESCROW_ELIMIT);
    OK(escrow_consumer_resume(k, "One", NULL, -1)); /* which covers all of them */
    OK(escrow_consumer_pause(k, "One", NULL, 1024));
    escrow_consumer_free(&k);
    escrow_client_free(&c);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, neighbouring_queues_are_shared_by_default);
    tcase_add_test(tc, in_a_circle_members_take_turns);
    tcase_add_test(tc, by_hash_the_ring_decides);
    tcase_add_test(tc, there_is_no_other_strategy);
    tcase_add_test(tc, a_paused_topic_goes_on_where_it_was);
    tcase_add_test(tc, what_was_said_last_about_a_queue_counts);
    tcase_add_test(tc, what_a_handler_has_is_done_once);
    tcase_add_test(tc, in_order_too_what_a_handler_has_is_done_once);
    tcase_add_test(tc, in_order_what_failed_comes_first_again);
    tcase_add_test(tc, polls_pass_paused_queues_over);
    tcase_add_test(tc, topics_are_given_up_and_taken_up_while_it_runs);
    tcase_add_test(tc, a_handler_outlives_its_topic);
    tcase_add_test(tc, in_order_a_topic_taken_up_again_waits_for_its_handler);
    tcase_add_test(tc, who_chose_queues_takes_up_no_topic);
    tcase_add_test(tc, topics_may_come_and_go_for_ever);
}

int main(void)
{
    return rig_main("client_subscribe", add);
}
