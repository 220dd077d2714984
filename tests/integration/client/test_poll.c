/* Consumers without a handler: polling, committing, going elsewhere, queues of one's choice. */
#include "tests/integration/client/rig.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define BATCH 7

static struct rig rig;
static struct bag bag;
static struct bag other;

static const struct escrow_option manual[] = {
    {"commit", "manual"}, {"commit.ms", "10"}, {NULL, NULL}};

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

static void send_many(struct escrow_producer *p, int first, int count)
{
    for (int i = first; i < first + count; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        OK(rig_send(p, "Polled", text));
    }
}

static struct escrow_consumer *polls(struct escrow_client *c, const struct escrow_option *options)
{
    return rig_consume(c, "pollers", "Polled", "*", options, NULL, NULL);
}

/* One poll; bodies go into the bag. Returns how many there were. */
static size_t poll_into(struct escrow_consumer *k, int64_t timeout_ms, struct bag *to)
{
    struct escrow_delivery *messages[BATCH] = {NULL};
    size_t count = 0;

    OK(escrow_consumer_poll(k, timeout_ms, messages, BATCH, &count));
    ck_assert_uint_le(count, BATCH);
    for (size_t i = 0; i < count; i++) {
        (void)bag_handler(messages[i], to);
        escrow_delivery_free(&messages[i]);
        ck_assert_ptr_null(messages[i]);
    }
    return count;
}

static void poll_all(struct escrow_consumer *k, size_t count, struct bag *to)
{
    while (bag_count(to) < count) {
        ck_assert_uint_gt(poll_into(k, RIG_WAIT_MS, to), 0);
    }
}

/* Each message once, and none when there is none. */
START_TEST(polls_bring_every_message_once)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 50);
    k = polls(c, NULL);
    poll_all(k, 50, &bag);
    ck_assert_uint_eq(poll_into(k, 0, &bag), 0);
    ck_assert_uint_eq(poll_into(k, 30, &bag), 0);
    send_many(p, 50, 1);
    ck_assert_uint_eq(poll_into(k, -1, &bag), 1);
    ck_assert_uint_eq(bag_distinct(&bag), 51);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* By itself what a poll returned counts as done when the next one begins, and not before. */
START_TEST(polling_again_says_that_it_is_done)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 20);
    k = polls(c, NULL);
    poll_all(k, 20, &bag);
    ck_assert_uint_eq(poll_into(k, 0, &bag), 0);
    send_many(p, 20, 1);
    ck_assert_uint_eq(poll_into(k, RIG_WAIT_MS, &bag), 1);
    escrow_consumer_free(&k); /* nobody said that this one is done */
    k = polls(c, NULL);
    ck_assert_uint_eq(poll_into(k, RIG_WAIT_MS, &other), 1);
    ck_assert_uint_eq(bag_count_of(&other, "20"), 1);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* By hand: only what was committed is not delivered again, and it is stored when commit returns. */
START_TEST(a_commit_is_stored_when_it_returns)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 20);
    k = polls(c, manual);
    poll_all(k, 20, &bag);
    escrow_consumer_free(&k);
    k = polls(c, manual);
    poll_all(k, 20, &other);
    ck_assert_uint_eq(bag_distinct(&other), 20);
    OK(escrow_consumer_commit(k));
    escrow_consumer_free(&k);
    send_many(p, 20, 1);
    k = polls(c, manual);
    ck_assert_uint_eq(poll_into(k, RIG_WAIT_MS, &other), 1);
    ck_assert_uint_eq(bag_count_of(&other, "20"), 1);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* To the beginning, to an offset of one queue, to the end, to a time. */
START_TEST(a_seek_goes_elsewhere)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    struct escrow_delivery *m = NULL;
    size_t count = 0;
    char broker[64];
    int32_t queue;
    int64_t stored_ms;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 40);
    k = polls(c, NULL);
    ck_assert_int_eq(escrow_consumer_seek(k, "Other", NULL, -1, ESCROW_SEEK_FIRST, 0),
                     ESCROW_ENOTFOUND);
    poll_all(k, 40, &bag);
    OK(escrow_consumer_seek(k, "Polled", NULL, -1, ESCROW_SEEK_FIRST, 0));
    poll_all(k, 40, &other);
    ck_assert_uint_eq(bag_distinct(&other), 40);

    OK(escrow_consumer_seek(k, "Polled", NULL, 1, ESCROW_SEEK_OFFSET, 3));
    OK(escrow_consumer_poll(k, RIG_WAIT_MS, &m, 1, &count));
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(escrow_delivery_queue(m), 1);
    ck_assert_int_eq(escrow_delivery_offset(m), 3);
    (void)snprintf(broker, sizeof broker, "%s", escrow_delivery_broker(m));
    queue = escrow_delivery_queue(m);
    stored_ms = escrow_delivery_stored_ms(m);
    escrow_delivery_free(&m);

    OK(escrow_consumer_seek(k, "Polled", broker, queue, ESCROW_SEEK_TIME, stored_ms));
    OK(escrow_consumer_poll(k, RIG_WAIT_MS, &m, 1, &count));
    ck_assert_int_ge(escrow_delivery_stored_ms(m), stored_ms);
    ck_assert_int_le(escrow_delivery_offset(m), 3);
    escrow_delivery_free(&m);

    OK(escrow_consumer_seek(k, "Polled", NULL, -1, ESCROW_SEEK_LAST, 0));
    ck_assert_int_eq(escrow_consumer_seek(k, "Polled", "nobody", 0, ESCROW_SEEK_LAST, 0),
                     ESCROW_ENOTFOUND);
    ck_assert_int_eq(escrow_consumer_seek(k, "Polled", NULL, 0, ESCROW_SEEK_OFFSET, -1),
                     ESCROW_EINVAL);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/*
 * A queue that was chosen is read beside the members of the group, which share all queues as if
 * nobody else were there.
 */
START_TEST(a_chosen_queue_is_nobody_elses_business)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_client *c2 = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k = NULL;
    struct escrow_consumer *member;
    struct escrow_delivery *m = NULL;
    size_t count = 0;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 40);
    OK(escrow_consumer_new(c2, "pollers", manual, &k));
    ck_assert_int_eq(escrow_consumer_assign(k, "Polled", NULL, 2), ESCROW_EINVAL);
    OK(escrow_consumer_subscribe(k, "Polled", "*"));
    OK(escrow_consumer_subscribe(k, "Other", "*"));
    OK(escrow_consumer_assign(k, "Polled", NULL, 2));
    ck_assert_int_eq(escrow_consumer_start(k, NULL, NULL), ESCROW_EINVAL); /* nothing of Other */
    OK(escrow_consumer_assign(k, "Other", NULL, -1));
    OK(escrow_consumer_start(k, NULL, NULL));
    member = rig_consume(c, "pollers", "Polled", "*", NULL, bag_handler, &bag);
    for (int64_t next = 0; next < 10; next++) {
        OK(escrow_consumer_poll(k, RIG_WAIT_MS, &m, 1, &count));
        ck_assert_uint_eq(count, 1);
        ck_assert_int_eq(escrow_delivery_queue(m), 2);
        ck_assert_int_eq(escrow_delivery_offset(m), next);
        escrow_delivery_free(&m);
    }
    bag_wait_distinct(&bag, 40);
    escrow_consumer_free(&member);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c2);
    escrow_client_free(&c);
}
END_TEST

static void *polls_for_ever(void *arg)
{
    struct escrow_delivery *m = NULL;
    size_t count = 0;

    OK(escrow_consumer_poll(arg, -1, &m, 1, &count));
    ck_assert_uint_eq(count, 1);
    escrow_delivery_free(&m);
    return NULL;
}

/* Misuse is told: two threads at a time, a poll of a consumer with a handler, an order. */
START_TEST(misuse_is_refused)
{
    const struct escrow_option in_order[] = {{"order", "queue"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k = polls(c, NULL);
    struct escrow_consumer *push = rig_consume(c, "push", "Polled", "*", NULL, bag_handler, &bag);
    struct escrow_consumer *ordered = NULL;
    struct escrow_delivery *m = NULL;
    size_t count = 1;
    pthread_t thread;
    int rc;

    ck_assert_int_eq(escrow_consumer_poll(push, 0, &m, 1, &count), ESCROW_EINVAL);
    ck_assert_uint_eq(count, 0);
    ck_assert_int_eq(escrow_consumer_poll(k, 0, &m, 0, &count), ESCROW_EINVAL);
    ck_assert_int_eq(escrow_consumer_commit(push), ESCROW_EINVAL);
    OK(escrow_consumer_new(c, "ordered", in_order, &ordered));
    OK(escrow_consumer_subscribe(ordered, "Polled", "*"));
    ck_assert_int_eq(escrow_consumer_start(ordered, NULL, NULL), ESCROW_EINVAL);
    ck_assert_int_eq(pthread_create(&thread, NULL, polls_for_ever, k), 0);
    do { /* until the other thread is there */
        rc = escrow_consumer_poll(k, 0, &m, 1, &count);
    } while (rc == 0);
    ck_assert_int_eq(rc, ESCROW_EBUSY);
    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    escrow_consumer_free(&ordered);
    escrow_consumer_free(&push);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* A new group may begin at a time: with the first message that was stored then. */
START_TEST(a_group_may_begin_at_a_time)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k = polls(c, NULL);
    struct escrow_option from_then[] = {{"from", NULL}, {NULL, NULL}};
    const struct escrow_option never[] = {{"from", "never"}, {NULL, NULL}};
    struct escrow_delivery *m = NULL;
    size_t count = 0;
    char then[32];
    int64_t stored_ms[10];
    int64_t first = 9;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    for (int i = 0; i < 10; i++) {
        struct escrow_message *message = rig_message("Polled", "x");
        OK(escrow_message_set_ordering_key(message, "one queue"));
        OK(escrow_send(p, message, NULL));
        escrow_message_free(&message);
        OK(escrow_consumer_poll(k, RIG_WAIT_MS, &m, 1, &count));
        ck_assert_int_eq(escrow_delivery_offset(m), i);
        stored_ms[i] = escrow_delivery_stored_ms(m);
        escrow_delivery_free(&m);
    }
    escrow_consumer_free(&k);
    while (first > 0 && stored_ms[first - 1] == stored_ms[9]) {
        first--;
    }
    (void)snprintf(then, sizeof then, "%lld", (long long)stored_ms[9]);
    from_then[0].value = then;
    k = rig_consume(c, "latecomers", "Polled", "*", from_then, NULL, NULL);
    OK(escrow_consumer_poll(k, RIG_WAIT_MS, &m, 1, &count));
    ck_assert_int_eq(escrow_delivery_offset(m), first);
    escrow_delivery_free(&m);
    escrow_consumer_free(&k);
    ck_assert_int_eq(escrow_consumer_new(c, "g", never, &k), ESCROW_ECONFIG);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, polls_bring_every_message_once);
    tcase_add_test(tc, polling_again_says_that_it_is_done);
    tcase_add_test(tc, a_commit_is_stored_when_it_returns);
    tcase_add_test(tc, a_seek_goes_elsewhere);
    tcase_add_test(tc, a_chosen_queue_is_nobody_elses_business);
    tcase_add_test(tc, misuse_is_refused);
    tcase_add_test(tc, a_group_may_begin_at_a_time);
}

int main(void)
{
    return rig_main("client_poll", add);
}
