/*
 * Sending: every form of it, against a broker that answers, one that does not, and two of which one
 * is gone.
 */
#include "tests/integration/client/fake_broker.h"
#include "tests/integration/client/rig.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct rig rig;
static struct bag bag;

static void setup(void)
{
    rig_start(&rig, NULL);
    bag_init(&bag);
}

static void teardown(void)
{
    bag_fini(&bag);
    rig_stop(&rig);
}

/* A receipt says where the message is, and a consumer gets all that was set. */
START_TEST(a_sent_message_arrives_as_it_was_made)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_receipt *r = NULL;
    struct escrow_message *m = rig_message("Orders", "hello");
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    OK(escrow_message_set_tag(m, "Paid"));
    OK(escrow_message_set_keys(m, "order-1 order-2"));
    OK(escrow_message_set_property(m, "region", "eu"));
    OK(escrow_send(p, m, &r));
    ck_assert_uint_eq(strlen(escrow_receipt_message_id(r)), 32);
    ck_assert_uint_eq(strlen(escrow_receipt_offset_id(r)), 32);
    ck_assert_str_eq(escrow_receipt_broker(r), "escrow-a");
    ck_assert_int_eq(escrow_receipt_offset(r), 0);
    ck_assert_int_lt(escrow_receipt_queue(r), 4);
    k = rig_consume(c, "readers", "Orders", "Paid", NULL, bag_handler, &bag);
    bag_wait_for(&bag, "hello");
    escrow_consumer_free(&k);
    ck_assert_ptr_null(k);
    escrow_receipt_free(&r);
    escrow_message_free(&m);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static void count_sent(int error, const struct escrow_receipt *receipt, void *arg)
{
    char text[64];

    ck_assert((receipt == NULL) == (error != 0));
    (void)snprintf(text, sizeof text, "%s",
                   error == 0 ? escrow_receipt_message_id(receipt) : escrow_error_name(error));
    bag_add(arg, text, strlen(text));
}

/*
 * Each callback runs once, each id is another one, and freeing the producer waits for all of them.
 */
START_TEST(asynchronous_sends_end_once_each)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_message *m = rig_message("Async", "x");

    OK(escrow_producer_new(c, "shop", NULL, &p));
    for (int i = 0; i < 1000; i++) {
        OK(escrow_send_async(p, m, count_sent, &bag));
    }
    escrow_message_free(&m);
    escrow_producer_free(&p);
    ck_assert_uint_eq(bag_count(&bag), 1000);
    ck_assert_uint_eq(bag_distinct(&bag), 1000);
    escrow_client_free(&c);
}
END_TEST

/* What does not fit into memory.max.bytes is refused at once, and fits again later. */
START_TEST(asynchronous_sends_beyond_the_memory_are_refused)
{
    const struct escrow_option options[] = {{"memory.max.bytes", "65536"}, {NULL, NULL}};
    struct escrow_client *c = rig_client_with(rig.name_server, options);
    struct escrow_producer *p = NULL;
    struct escrow_message *m = rig_message("Async", "x");
    size_t taken = 0;
    int rc = 0;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    while (taken < 10000 && (rc = escrow_send_async(p, m, count_sent, &bag)) == 0) {
        taken++;
    }
    ck_assert_int_eq(rc, ESCROW_ELIMIT);
    bag_wait(&bag, taken);
    ck_assert_uint_lt(taken, 100); /* a message counts for more than its one byte */
    for (size_t i = 0; i < 3 * taken; i++) {
        OK(escrow_send(p, m, NULL));
    }
    escrow_producer_free(&p);
    escrow_message_free(&m);
    escrow_client_free(&c);
}
END_TEST

/* A batch is one unit: its messages lie one behind the other in one queue. */
START_TEST(a_batch_and_one_way_messages_arrive)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_receipt *r = NULL;
    struct escrow_message *m[3];
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    for (int i = 0; i < 3; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "b%d", i);
        m[i] = rig_message("Batch", text);
    }
    OK(escrow_send_batch(p, (const struct escrow_message *const *)m, 3, &r));
    ck_assert_uint_eq(strlen(escrow_receipt_message_id(r)), 32);
    ck_assert_uint_eq(strlen(escrow_receipt_offset_id(r)), 32);
    OK(escrow_send_oneway(p, m[0]));
    k = rig_consume(c, "readers", "Batch", "*", NULL, bag_handler, &bag);
    bag_wait(&bag, 4);
    ck_assert_uint_eq(bag_distinct(&bag), 3);
    escrow_consumer_free(&k);
    escrow_receipt_free(&r);
    for (int i = 0; i < 3; i++) {
        escrow_message_free(&m[i]);
    }
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* One ordering key, one queue, in order; the keys together use more than one. */
START_TEST(an_ordering_key_keeps_to_its_queue)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    int32_t queue_of[8];
    bool differs = false;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    OK(rig_send(p, "Ordered", "creates the topic"));
    for (int i = 0; i < 32; i++) {
        struct escrow_message *m = rig_message("Ordered", "x");
        struct escrow_receipt *r = NULL;
        char key[16];
        (void)snprintf(key, sizeof key, "customer-%d", i % 8);
        OK(escrow_message_set_ordering_key(m, key));
        OK(escrow_send(p, m, &r));
        if (i < 8) {
            queue_of[i] = escrow_receipt_queue(r);
        }
        ck_assert_int_eq(escrow_receipt_queue(r), queue_of[i % 8]);
        differs = differs || queue_of[i % 8] != queue_of[0];
        escrow_receipt_free(&r);
        escrow_message_free(&m);
    }
    ck_assert(differs);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

struct nested {
    struct escrow_client *c;
    struct escrow_producer *p;
    struct bag *bag;
};

static void sends_again(int error, const struct escrow_receipt *receipt, void *arg)
{
    struct nested *n = arg;
    struct escrow_message *m = rig_message("Nested", "y");
    struct escrow_producer *other = NULL;

    (void)receipt;
    ck_assert_int_eq(error, 0);
    ck_assert_int_eq(escrow_send(n->p, m, NULL), ESCROW_EINVAL);
    OK(escrow_send_async(n->p, m, count_sent, n->bag));
    OK(escrow_producer_new(n->c, "other", NULL, &other));
    bag_add(n->bag, "producer", 8);
    escrow_message_free(&m);
    /* Freeing would block: what is made here is freed by the test. */
    n->p = other;
}

/*
 * In a completion callback everything may be called but what blocks, which is refused instead of
 * waiting for itself.
 */
START_TEST(a_callback_may_send_but_not_wait)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct nested n = {.c = c, .bag = &bag};
    struct escrow_message *m = rig_message("Nested", "x");

    OK(escrow_producer_new(c, "shop", NULL, &p));
    n.p = p;
    OK(escrow_send_async(p, m, sends_again, &n));
    bag_wait(&bag, 2);
    escrow_message_free(&m);
    escrow_producer_free(&p);
    escrow_producer_free(&n.p);
    escrow_client_free(&c);
}
END_TEST

/*
 * What is wrong with a message, an option or a name is said at once, with the word that is wrong.
 */
START_TEST(what_is_malformed_is_refused_by_name)
{
    const struct escrow_option unknown[] = {{"retrys", "1"}, {NULL, NULL}};
    const struct escrow_option range[] = {{"retries", "-1"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_client *none = NULL;
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k = NULL;

    ck_assert_int_eq(escrow_client_new("nowhere", NULL, &none), ESCROW_ECONFIG);
    ck_assert_ptr_null(none);
    ck_assert_int_eq(escrow_client_new(rig.name_server, unknown, &none), ESCROW_ECONFIG);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "retrys"));
    ck_assert_int_eq(escrow_producer_new(c, "shop", range, &p), ESCROW_ECONFIG);
    ck_assert_int_eq(escrow_producer_new(c, "no/slash", NULL, &p), ESCROW_EINVAL);
    OK(escrow_producer_new(c, "shop", NULL, &p));
    ck_assert_int_eq(rig_send(p, "not a topic", "x"), ESCROW_EINVAL);
    ck_assert_int_eq(rig_send(p, "Orders", ""), ESCROW_EINVAL);
    OK(escrow_consumer_new(c, "readers", NULL, &k));
    ck_assert_int_eq(escrow_consumer_start(k, bag_handler, &bag), ESCROW_EINVAL);
    OK(escrow_consumer_subscribe(k, "Orders", "*"));
    ck_assert_int_eq(escrow_consumer_subscribe(k, "Orders", "A"), ESCROW_EEXIST);
    ck_assert_int_eq(escrow_consumer_subscribe(k, "%RETRY%readers", "*"), ESCROW_EINVAL);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* Two consumers of one group in one client would be one member with two voices. */
START_TEST(a_group_has_one_consumer_in_a_client)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_consumer *k = rig_consume(c, "readers", "Orders", "*", NULL, bag_handler, &bag);
    struct escrow_consumer *twin = NULL;

    OK(escrow_consumer_new(c, "readers", NULL, &twin));
    OK(escrow_consumer_subscribe(twin, "Orders", "*"));
    ck_assert_int_eq(escrow_consumer_start(twin, bag_handler, &bag), ESCROW_EEXIST);
    escrow_consumer_free(&twin);
    escrow_consumer_free(&k);
    escrow_client_free(&c);
}
END_TEST

/*
 * Nothing was sent to a server that does not even say what it is: class RETRY, within the
 * time-outs.
 */
START_TEST(a_name_server_that_never_answers_is_an_error_in_time)
{
    const struct escrow_option options[] = {{"connect.timeout.ms", "200"}, {NULL, NULL}};
    const struct escrow_option fast[] = {
        {"send.timeout.ms", "200"}, {"retries", "1"}, {NULL, NULL}};
    struct black_hole hole;
    struct escrow_client *c;
    struct escrow_producer *p = NULL;
    int rc;

    black_hole_open(&hole);
    c = rig_client_with(hole.addr, options);
    OK(escrow_producer_new(c, "shop", fast, &p));
    rc = rig_send(p, "Orders", "x");
    ck_assert_int_eq(escrow_error_class(rc), ESCROW_CLASS_RETRY);
    escrow_producer_free(&p);
    escrow_client_free(&c);
    black_hole_close(&hole);
}
END_TEST

/* A broker that was asked and does not answer may have stored the message: the class says so. */
START_TEST(a_broker_that_stops_answering_leaves_the_outcome_unknown)
{
    const struct escrow_option fast[] = {
        {"send.timeout.ms", "200"}, {"retries", "1"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    int rc;

    OK(escrow_producer_new(c, "shop", fast, &p));
    OK(rig_send(p, "Orders", "opens the connection"));
    ck_assert_int_eq(kill(rig.pid, SIGSTOP), 0);
    rc = rig_send(p, "Orders", "x");
    ck_assert_int_eq(kill(rig.pid, SIGCONT), 0);
    ck_assert_int_eq(rc, ESCROW_ETIMEOUT);
    OK(rig_send(p, "Orders", "goes on"));
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/*
 * A try that lost its connection may have stored the message; that the next one is refused for good
 * does not take that back. Without the first, the refusal is the result.
 */
START_TEST(a_refusal_behind_a_lost_connection_leaves_the_outcome_unknown)
{
    const struct escrow_option one_more[] = {{"retries", "1"}, {NULL, NULL}};
    struct fake_broker fake;
    struct escrow_client *c;
    struct escrow_producer *p = NULL;

    fake_start(&fake, 0, 0, 0);
    c = rig_client_with(fake.addr, NULL);
    OK(escrow_producer_new(c, "shop", one_more, &p));
    ck_assert_int_eq(rig_send(p, FAKE_TOPIC, "refused"), ESCROW_EPERM);
    fake_cut_sends(&fake, 1);
    ck_assert_int_eq(rig_send(p, FAKE_TOPIC, "may be stored"), ESCROW_ETIMEOUT);
    ck_assert_uint_eq(fake_read(&fake, &fake.sends), 3);
    ck_assert_int_eq(rig_send(p, FAKE_TOPIC, "refused"), ESCROW_EPERM); /* of one send only */
    escrow_producer_free(&p);
    escrow_client_free(&c);
    fake_stop(&fake);
}
END_TEST

/*
 * With two brokers in the route, the one that died is left out at the next try; a half too, as
 * nothing of it was stored.
 */
START_TEST(a_retry_goes_to_the_other_broker)
{
    const struct escrow_option options[] = {{"route.refresh.ms", "600000"}, {NULL, NULL}};
    const char *args[] = {"--role",   "broker", "--namesrv.addrs", rig.name_server, "--broker.name",
                          "escrow-b", NULL};
    struct rig second;
    struct escrow_client *c;
    struct escrow_producer *p = NULL;
    char topic[32] = "";
    bool has_both = false;

    rig_start_broker(&second, args);
    c = rig_client_with(rig.name_server, options);
    OK(escrow_producer_new(c, "shop", NULL, &p));
    for (int i = 0; i < 1000 && !has_both;
         i++) { /* until the second one is known: a new topic gets queues on both */
        bool has_first = false;
        bool has_second = false;
        (void)snprintf(topic, sizeof topic, "Both-%d", i);
        for (int n = 0; n < 8; n++) {
            struct escrow_message *m = rig_message(topic, "x");
            struct escrow_receipt *r = NULL;
            OK(escrow_send(p, m, &r));
            has_second = has_second || strcmp(escrow_receipt_broker(r), "escrow-b") == 0;
            has_first = has_first || strcmp(escrow_receipt_broker(r), "escrow-a") == 0;
            escrow_receipt_free(&r);
            escrow_message_free(&m);
        }
        has_both = has_first && has_second;
    }
    ck_assert(has_both);
    rig_kill(&second);
    for (int i = 0; i < 16; i++) {
        OK(rig_send(p, topic, "y"));
    }
    escrow_producer_free(&p);
    escrow_client_free(&c);
    rig_stop(&second);
}
END_TEST

/* A list of name servers that cannot be is refused, and the text says which one and why. */
START_TEST(name_servers_that_cannot_be_are_named)
{
    static const char *const bad[][2] = {
        {"nonsense", "'nonsense': expected host:port"},
        {"127.0.0.1:99999", "'127.0.0.1:99999': expected host:port"},
        {"127.0.0.1:9876;x:0", "'x:0': expected host:port"},
        {":9876", "':9876': expected"},
        {"a:1;a:1;a:1;a:1;a:1;a:1;a:1;a:1;a:1;a:1;a:1;a:1;a:1;a:1;a:1;a:1;a:1", "more than"},
        {";;", "none given"}};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct escrow_client *c = NULL;
        ck_assert_int_eq(escrow_client_new(bad[i][0], NULL, &c), ESCROW_ECONFIG);
        ck_assert_msg(strstr(escrow_last_error(), bad[i][1]) != NULL, "%s", escrow_last_error());
    }
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, name_servers_that_cannot_be_are_named);
    tcase_add_test(tc, a_sent_message_arrives_as_it_was_made);
    tcase_add_test(tc, asynchronous_sends_end_once_each);
    tcase_add_test(tc, asynchronous_sends_beyond_the_memory_are_refused);
    tcase_add_test(tc, a_batch_and_one_way_messages_arrive);
    tcase_add_test(tc, an_ordering_key_keeps_to_its_queue);
    tcase_add_test(tc, a_callback_may_send_but_not_wait);
    tcase_add_test(tc, what_is_malformed_is_refused_by_name);
    tcase_add_test(tc, a_group_has_one_consumer_in_a_client);
    tcase_add_test(tc, a_name_server_that_never_answers_is_an_error_in_time);
    tcase_add_test(tc, a_broker_that_stops_answering_leaves_the_outcome_unknown);
    tcase_add_test(tc, a_refusal_behind_a_lost_connection_leaves_the_outcome_unknown);
    tcase_add_test(tc, a_retry_goes_to_the_other_broker);
}

int main(void)
{
    return rig_main("client_send", add);
}
