/*
 * What an administrator asks of a consumer through the broker: another offset, how it is, one
 * message.
 */
#include "core/proto/codes.h"
#include "tests/integration/client/rig.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static struct rig rig;
static struct bag bag;
static struct bag other;

static const struct escrow_option named[] = {{"client.id", "the-client"}, {NULL, NULL}};

static const struct escrow_option in_order[] = {
    {"order", "queue"}, {"retry.pause.ms", "5"}, {NULL, NULL}};

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
        OK(rig_send(p, "Told", text));
    }
}

struct field {
    const char *name;
    const char *value;
};

/* Ask the broker; the answer, a success, has to contain the text. */
static void admin_asks(int32_t code, const struct field *fields, const char *text)
{
    struct header_out head = {.code = code, .opaque = 1};
    struct rig_question q;
    struct header_writer w;

    rig_question_init(&q);
    header_begin(&w, &q.frame, HEADER_JSON, &head);
    for (; fields->name != NULL; fields++) {
        header_put_str(&w, fields->name, slice_str(fields->value));
    }
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    rig_ask(&rig, &q);
    ck_assert_msg(memmem(q.body.ptr, q.body.len, text, strlen(text)) != NULL, "%.*s has no %s",
                  SLICE_ARGS(q.body), text);
    rig_question_fini(&q);
}

/* To the beginning (ms 0), or to the end (-1). */
static void reset_to(const char *ms)
{
    const struct field fields[] = {{"topic", "Told"},
                                   {"group", "readers"},
                                   {"timestamp", ms},
                                   {"isForce", "true"},
                                   {NULL, NULL}};

    admin_asks(REQUEST_INVOKE_BROKER_TO_RESET_OFFSET, fields, "offsetTable");
}

/* A running consumer is told to begin anew: everything comes again, once, and its end is stored. */
static void check_reset(const struct escrow_option *options)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 30);
    k = rig_consume(c, "readers", "Told", "*", options, bag_handler, &bag);
    bag_wait(&bag, 30);
    reset_to("0");
    bag_wait(&bag, 60);
    for (int i = 0; i < 30; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        ck_assert_uint_eq(bag_count_of(&bag, text), 2);
    }
    escrow_consumer_free(&k);
    send_many(p, 30, 1);
    k = rig_consume(c, "readers", "Told", "*", options, bag_handler, &other);
    bag_wait_for(&other, "30");
    escrow_consumer_free(&k);
    ck_assert_uint_eq(bag_count(&other), 1);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}

/* Side by side. */
START_TEST(a_consumer_begins_anew_when_told)
{
    check_reset(NULL);
}
END_TEST

/* In order. */
START_TEST(a_consumer_in_order_begins_anew_when_told)
{
    check_reset(in_order);
}
END_TEST

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int inside;
    bool is_open;
};

static struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false};

static void gate_wait(int inside)
{
    (void)pthread_mutex_lock(&gate.lock);
    while (gate.inside < inside) {
        (void)pthread_cond_wait(&gate.changed, &gate.lock);
    }
    (void)pthread_mutex_unlock(&gate.lock);
}

static void gate_open(void)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.is_open = true;
    (void)pthread_cond_broadcast(&gate.changed);
    (void)pthread_mutex_unlock(&gate.lock);
}

static enum escrow_consume_result waits_at_gate(const struct escrow_delivery *message, void *arg)
{
    bool was_open;

    (void)pthread_mutex_lock(&gate.lock);
    was_open = gate.is_open;
    gate.inside++;
    (void)pthread_cond_broadcast(&gate.changed);
    while (!gate.is_open) {
        (void)pthread_cond_wait(&gate.changed, &gate.lock);
    }
    (void)pthread_mutex_unlock(&gate.lock);
    (void)bag_handler(message, arg);
    return was_open ? ESCROW_CONSUME_OK : ESCROW_CONSUME_RETRY; /* the first ones fail */
}

/*
 * In order, while handlers are at work, to the end: they are waited for, what they fail at is not
 * repeated, and what nobody had does not come any more.
 */
START_TEST(a_reset_waits_for_handlers)
{
    const struct field who[] = {
        {"consumerGroup", "readers"}, {"clientId", "the-client"}, {NULL, NULL}};
    struct escrow_client *c = rig_client_with(rig.name_server, named);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 40);
    k = rig_consume(c, "readers", "Told", "*", in_order, waits_at_gate, &bag);
    gate_wait(4); /* one of each queue */
    reset_to("-1");
    /* this goes down the connection behind the reset: when it is answered, that was heard */
    admin_asks(REQUEST_GET_CONSUMER_RUNNING_INFO, who, "mqTable");
    gate_open();
    send_many(p, 40, 4);
    for (int i = 40; i < 44; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        bag_wait_for(&bag, text);
    }
    escrow_consumer_free(&k);
    ck_assert_uint_eq(bag_count(&bag), 8);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* How it is, as mqadmin asks: its queues, its subscription, what it did. */
START_TEST(a_consumer_tells_how_it_is)
{
    const struct field fields[] = {
        {"consumerGroup", "readers"}, {"clientId", "the-client"}, {NULL, NULL}};
    struct escrow_client *c = rig_client_with(rig.name_server, named);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 10);
    k = rig_consume(c, "readers", "Told", "*", NULL, bag_handler, &bag);
    bag_wait(&bag, 10);
    admin_asks(REQUEST_GET_CONSUMER_RUNNING_INFO, fields, "\"queueId\":3,\"topic\":\"Told\"}:{");
    admin_asks(REQUEST_GET_CONSUMER_RUNNING_INFO, fields, "\"PROP_CONSUME_TYPE\":\"CONSUME_PASS");
    admin_asks(REQUEST_GET_CONSUMER_RUNNING_INFO, fields, "\"subString\":\"*\"");
    admin_asks(REQUEST_GET_CONSUMER_RUNNING_INFO, fields, "\"PROP_CONSUMEORDERLY\":\"false\"");
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static enum escrow_consume_result fails_on_7(const struct escrow_delivery *message, void *arg)
{
    size_t len;
    const char *body = escrow_delivery_body(message, &len);

    (void)bag_handler(message, arg);
    return body[0] == '7' ? ESCROW_CONSUME_RETRY : ESCROW_CONSUME_OK;
}

/* One message now: it goes through the handler, and what that says is the answer. */
START_TEST(one_message_is_consumed_when_asked)
{
    struct escrow_client *c = rig_client_with(rig.name_server, named);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    const char *const bodies[] = {"1", "7"};
    const char *const results[] = {"CR_SUCCESS", "CR_LATER"};

    OK(escrow_producer_new(c, "shop", NULL, &p));
    k = rig_consume(c, "readers", "Told", "*", NULL, fails_on_7, &bag);
    for (int i = 0; i < 2; i++) {
        struct escrow_message *m = rig_message("Elsewhere", bodies[i]);
        struct escrow_receipt *receipt = NULL;
        OK(escrow_send(p, m, &receipt));
        admin_asks(REQUEST_CONSUME_MESSAGE_DIRECTLY,
                   (const struct field[]){{"consumerGroup", "readers"},
                                          {"clientId", "the-client"},
                                          {"msgId", escrow_receipt_offset_id(receipt)},
                                          {NULL, NULL}},
                   results[i]);
        ck_assert_uint_eq(bag_count_of(&bag, bodies[i]), 1);
        escrow_receipt_free(&receipt);
        escrow_message_free(&m);
    }
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_consumer_begins_anew_when_told);
    tcase_add_test(tc, a_consumer_in_order_begins_anew_when_told);
    tcase_add_test(tc, a_reset_waits_for_handlers);
    tcase_add_test(tc, a_consumer_tells_how_it_is);
    tcase_add_test(tc, one_message_is_consumed_when_asked);
}

int main(void)
{
    return rig_main("client_asked", add);
}
