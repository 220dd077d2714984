/* The push consumer: groups, filters, retries, slow handlers, the end. */
#include "tests/integration/client/rig.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static struct rig rig;
static struct bag bag;
static struct bag other;

static const struct escrow_option quick_retry[] = {
    {"retry.level", "1"}, {"retries.max", "2"}, {"commit.ms", "20"}, {NULL, NULL}};

/* The broker waits before a retry. */
static const char *const levels[] = {"--delay.levels", "20ms 1h", NULL};

static void setup(void)
{
    rig_start(&rig, levels);
    bag_init(&bag);
    bag_init(&other);
}

static void teardown(void)
{
    bag_fini(&other);
    bag_fini(&bag);
    rig_stop(&rig);
}

static void send_many(struct escrow_producer *p, const char *topic, int first, int count)
{
    for (int i = first; i < first + count; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        OK(rig_send(p, topic, text));
    }
}

/*
 * Two members share the queues; when one leaves the other gets all. Nothing is lost, and both had
 * work.
 */
START_TEST(members_share_and_take_over)
{
    struct escrow_client *c1 = rig_client(&rig);
    struct escrow_client *c2 = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k1;
    struct escrow_consumer *k2;
    int sent = 0;

    OK(escrow_producer_new(c1, "shop", NULL, &p));
    send_many(p, "Shared", 0, 8);
    k1 = rig_consume(c1, "readers", "Shared", "*", NULL, bag_handler, &bag);
    bag_wait_distinct(&bag, 8);
    k2 = rig_consume(c2, "readers", "Shared", "*", NULL, bag_handler, &other);
    for (sent = 8; bag_count(&other) == 0 && sent < 15000; sent++) {
        send_many(p, "Shared", sent, 1);
    }
    ck_assert_uint_gt(bag_count(&other), 0);
    escrow_consumer_free(&k1);
    send_many(p, "Shared", sent, 16);
    sent += 16;
    for (int i = 0; i < sent; i++) { /* each one arrived somewhere */
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        if (bag_count_of(&bag, text) == 0) {
            bag_wait_for(&other, text);
        }
    }
    escrow_consumer_free(&k2);
    escrow_producer_free(&p);
    escrow_client_free(&c1);
    escrow_client_free(&c2);
}
END_TEST

/*
 * A member that comes back goes on where the group was: nothing is delivered twice after a clean
 * end.
 */
START_TEST(a_clean_end_stores_the_offsets)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, "Once", 0, 100);
    k = rig_consume(c, "readers", "Once", "*", NULL, bag_handler, &bag);
    bag_wait_distinct(&bag, 100);
    escrow_consumer_free(&k);
    send_many(p, "Once", 100, 1);
    k = rig_consume(c, "readers", "Once", "*", NULL, bag_handler, &bag);
    bag_wait_for(&bag, "100");
    escrow_consumer_free(&k);
    ck_assert_uint_eq(bag_count(&bag), 101);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* SQL92 subscriptions: the broker sends what matches; a mistake is told when subscribing. */
START_TEST(a_sql_subscription_gets_what_matches)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k = NULL;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    for (int i = 0; i < 40; i++) {
        char text[16];
        struct escrow_message *m;
        (void)snprintf(text, sizeof text, "%d", i);
        m = rig_message("Sql", text);
        OK(escrow_message_set_property(m, "n", text));
        OK(escrow_message_set_tag(m, i % 2 == 0 ? "even" : "odd"));
        OK(escrow_send(p, m, NULL));
        escrow_message_free(&m);
    }
    OK(escrow_consumer_new(c, "readers", NULL, &k));
    ck_assert_int_eq(escrow_consumer_subscribe_sql(k, "Sql", "n >"), ESCROW_EINVAL);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "column 4: expected a property"));
    ck_assert_int_eq(escrow_consumer_subscribe_sql(k, "no good!", "n > 1"), ESCROW_EINVAL);
    OK(escrow_consumer_subscribe_sql(k, "Sql", "n >= 10 AND n < 20 AND TAGS = 'even'"));
    ck_assert_int_eq(escrow_consumer_subscribe(k, "Sql", "*"), ESCROW_EEXIST);
    OK(escrow_consumer_start(k, bag_handler, &bag));
    bag_wait_distinct(&bag, 5);
    for (int i = 10; i < 20; i += 2) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        ck_assert_uint_eq(bag_count_of(&bag, text), 1);
    }
    escrow_consumer_free(&k);
    ck_assert_uint_eq(bag_count(&bag), 5);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static enum escrow_consume_result fails_always(const struct escrow_delivery *message, void *arg)
{
    char text[64];
    size_t len;
    const char *body = escrow_delivery_body(message, &len);

    (void)snprintf(text, sizeof text, "%s %.*s %d", escrow_delivery_topic(message), (int)len, body,
                   (int)escrow_delivery_attempt(message));
    bag_add(arg, text, strlen(text));
    return ESCROW_CONSUME_RETRY;
}

static enum escrow_consume_result shows_topic(const struct escrow_delivery *message, void *arg)
{
    bag_add(arg, escrow_delivery_topic(message), strlen(escrow_delivery_topic(message)));
    return ESCROW_CONSUME_OK;
}

/*
 * Two retries under the topic it was sent to, with their number; then the dead-letter queue, and no
 * more.
 */
START_TEST(a_message_that_fails_ends_in_the_dead_letter_queue)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    struct escrow_consumer *dead;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    OK(rig_send(p, "Poison", "x"));
    k = rig_consume(c, "readers", "Poison", "*", quick_retry, fails_always, &bag);
    dead = rig_consume(c, "undertaker", "%DLQ%readers", "*", NULL, shows_topic, &other);
    bag_wait_for(&bag, "Poison x 0");
    bag_wait_for(&bag, "Poison x 1");
    bag_wait_for(&bag, "Poison x 2");
    bag_wait_for(&other, "%DLQ%readers");
    ck_assert_uint_eq(bag_count(&bag), 3);
    escrow_consumer_free(&dead);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static enum escrow_consume_result fails_on_poison(const struct escrow_delivery *message, void *arg)
{
    size_t len;
    const void *body = escrow_delivery_body(message, &len);

    bag_add(arg, body, len);
    return len == 1 ? ESCROW_CONSUME_RETRY : ESCROW_CONSUME_OK;
}

/* Messages that the broker holds for their retry do not use up the consumer's room. */
START_TEST(failing_messages_do_not_keep_others_out)
{
    const struct escrow_option options[] = {
        {"retry.level", "2"}, {"prefetch.max", "4"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, "Mixed", 0, 10); /* one character each */
    k = rig_consume(c, "readers", "Mixed", "*", options, fails_on_poison, &bag);
    bag_wait_distinct(&bag, 10);
    send_many(p, "Mixed", 10, 50);
    bag_wait_distinct(&bag, 60);
    escrow_consumer_free(&k); /* does not wait for the hour either */
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static int64_t wall_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail */
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static enum escrow_consume_result notes_time(const struct escrow_delivery *message, void *arg)
{
    char text[64];
    size_t len;
    const char *body = escrow_delivery_body(message, &len);
    int64_t held_ms = escrow_delivery_stored_ms(message) - escrow_delivery_born_ms(message);

    (void)snprintf(text, sizeof text, "%.*s %s", (int)len, body, held_ms >= 20 ? "late" : "early");
    bag_add(arg, text, strlen(text));
    return ESCROW_CONSUME_OK;
}

/* By level, by delay, at a time: each comes once, later; a batch of such is refused. */
START_TEST(delayed_messages_come_later)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    struct escrow_message *m[3];

    OK(escrow_producer_new(c, "shop", NULL, &p));
    k = rig_consume(c, "readers", "Later", "*", NULL, notes_time, &bag);
    m[0] = rig_message("Later", "level");
    m[1] = rig_message("Later", "delay");
    m[2] = rig_message("Later", "time");
    ck_assert_int_eq(escrow_message_set_delay_level(m[0], -1), ESCROW_EINVAL);
    OK(escrow_message_set_delay_level(m[0], 1));
    OK(escrow_message_set_delay(m[1], 40));
    OK(escrow_message_set_deliver_at(m[2], wall_ms() + 3000)); /* longer than the sends take */
    for (int i = 0; i < 3; i++) {
        OK(escrow_send(p, m[i], NULL));
    }
    ck_assert_int_eq(escrow_send_batch(p, (const struct escrow_message *const *)m, 3, NULL),
                     ESCROW_EINVAL);
    bag_wait_for(&bag, "level late");
    bag_wait_for(&bag, "delay late");
    bag_wait_for(&bag, "time late");
    ck_assert_uint_eq(bag_count(&bag), 3);
    for (int i = 0; i < 3; i++) {
        escrow_message_free(&m[i]);
    }
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* Only the wanted tags come, and what was left out does not come again. */
START_TEST(tags_filter)
{
    static const char *const tags[] = {"Red", "Green", "Blue"};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    for (int i = 0; i < 30; i++) {
        struct escrow_message *m = rig_message("Coloured", tags[i % 3]);
        OK(escrow_message_set_tag(m, tags[i % 3]));
        OK(escrow_send(p, m, NULL));
        escrow_message_free(&m);
    }
    k = rig_consume(c, "readers", "Coloured", "Red || Blue", NULL, bag_handler, &bag);
    bag_wait(&bag, 20);
    ck_assert_uint_eq(bag_count_of(&bag, "Red"), 10);
    ck_assert_uint_eq(bag_count_of(&bag, "Blue"), 10);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int inside;
    int inside_max;
    bool is_open;
};

static struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, false};

static enum escrow_consume_result waits_at_gate(const struct escrow_delivery *message, void *arg)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.inside++;
    gate.inside_max = gate.inside > gate.inside_max ? gate.inside : gate.inside_max;
    (void)pthread_cond_broadcast(&gate.changed);
    while (!gate.is_open) {
        (void)pthread_cond_wait(&gate.changed, &gate.lock);
    }
    gate.inside--;
    (void)pthread_mutex_unlock(&gate.lock);
    return bag_handler(message, arg);
}

static void *opens_gate(void *arg)
{
    (void)arg;
    (void)pthread_mutex_lock(&gate.lock);
    gate.is_open = true;
    (void)pthread_cond_broadcast(&gate.changed);
    (void)pthread_mutex_unlock(&gate.lock);
    return NULL;
}

/*
 * Slow handlers run side by side, as many as wanted; the end waits for them and stores what they
 * did.
 */
START_TEST(the_end_waits_for_running_handlers)
{
    const struct escrow_option options[] = {{"concurrency", "4"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    pthread_t opener;
    size_t handled;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, "Slow", 0, 20);
    k = rig_consume(c, "readers", "Slow", "*", options, waits_at_gate, &bag);
    (void)pthread_mutex_lock(&gate.lock);
    while (gate.inside < 4) {
        (void)pthread_cond_wait(&gate.changed, &gate.lock);
    }
    (void)pthread_mutex_unlock(&gate.lock);
    ck_assert_int_eq(pthread_create(&opener, NULL, opens_gate, NULL), 0);
    escrow_consumer_free(&k);
    ck_assert_int_eq(pthread_join(opener, NULL), 0);
    ck_assert_int_eq(gate.inside_max, 4);
    handled = bag_count(&bag);
    ck_assert_uint_ge(handled, 4);
    k = rig_consume(c, "readers", "Slow", "*", options, bag_handler, &bag);
    bag_wait_distinct(&bag, 20);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/*
 * More than fits into memory.max.bytes is consumed all the same, one message after another if need
 * be.
 */
START_TEST(little_memory_slows_down_and_does_not_stop)
{
    const struct escrow_option options[] = {{"memory.max.bytes", "65536"}, {NULL, NULL}};
    const struct escrow_option uncompressed[] = {{"compress.over.bytes", "0"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_client *small = rig_client_with(rig.name_server, options);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    static char big[100000];

    OK(escrow_producer_new(c, "shop", uncompressed, &p));
    for (int i = 0; i < 8; i++) {
        memset(big, 'a' + i, sizeof big - 1);
        OK(rig_send(p, "Big", big));
    }
    send_many(p, "Big", 0, 100);
    k = rig_consume(small, "readers", "Big", "*", NULL, bag_handler, &bag);
    bag_wait_distinct(&bag, 108);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&small);
    escrow_client_free(&c);
}
END_TEST

/* A consumer of a topic that does not exist yet gets its first message. */
START_TEST(a_topic_may_come_later)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k = rig_consume(c, "readers", "Later", "*", NULL, bag_handler, &bag);

    OK(escrow_producer_new(c, "shop", NULL, &p));
    OK(rig_send(p, "Later", "x"));
    bag_wait_for(&bag, "x");
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static struct escrow_producer *onward;

/* Sends much on while the rest of the backlog fills the memory. */
static enum escrow_consume_result send_much(const struct escrow_delivery *message, void *arg)
{
    char text[16384];

    (void)message;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < 200; i++) {
        OK(rig_send(onward, "Onward", text));
    }
    bag_add(arg, "sent", 4);
    return ESCROW_CONSUME_OK;
}

/* A backlog larger than the memory does not keep its own handlers from sending. */
START_TEST(handlers_can_send_whatever_waits_for_them)
{
    const struct escrow_option little[] = {{"memory.max.bytes", "262144"}, {NULL, NULL}};
    const struct escrow_option one[] = {{"concurrency", "1"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_client *small = rig_client_with(rig.name_server, little);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    char text[1024];

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    OK(escrow_producer_new(c, "shop", NULL, &p));
    for (int i = 0; i < 300; i++) {
        OK(rig_send(p, "Backlog", text));
    }
    OK(escrow_producer_new(small, "onward", NULL, &onward));
    k = rig_consume(small, "senders", "Backlog", "*", one, send_much, &bag);
    bag_wait(&bag, 2);
    escrow_consumer_free(&k);
    escrow_producer_free(&onward);
    escrow_producer_free(&p);
    escrow_client_free(&small);
    escrow_client_free(&c);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, members_share_and_take_over);
    tcase_add_test(tc, a_clean_end_stores_the_offsets);
    tcase_add_test(tc, a_sql_subscription_gets_what_matches);
    tcase_add_test(tc, a_message_that_fails_ends_in_the_dead_letter_queue);
    tcase_add_test(tc, failing_messages_do_not_keep_others_out);
    tcase_add_test(tc, delayed_messages_come_later);
    tcase_add_test(tc, tags_filter);
    tcase_add_test(tc, the_end_waits_for_running_handlers);
    tcase_add_test(tc, little_memory_slows_down_and_does_not_stop);
    tcase_add_test(tc, a_topic_may_come_later);
    tcase_add_test(tc, handlers_can_send_whatever_waits_for_them);
}

int main(void)
{
    return rig_main("client_consume", add);
}
