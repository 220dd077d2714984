/* What free waits for, and what it refuses: nothing is freed under something that uses it. */
#include "tests/integration/client/rig.h"

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct escrow_client *client;
static struct escrow_producer *producer;
static struct escrow_consumer *consumer;

static void expect_refused(const void *object, const char *why)
{
    ck_assert_ptr_nonnull(object);
    ck_assert_msg(strstr(escrow_last_error(), why) != NULL, "%s", escrow_last_error());
}

static void *send_one(void *arg)
{
    *(int *)arg = rig_send(producer, "Any", "no answer");
    return NULL;
}

/* Another thread is in escrow_send: the producer stays until it is done. */
START_TEST(freeing_a_producer_waits_for_sends_of_other_threads)
{
    const struct escrow_option options[] = {
        {"send.timeout.ms", "100"}, {"retries", "0"}, {NULL, NULL}};
    struct escrow_producer *freed;
    struct black_hole hole;
    pthread_t thread;
    int sent = 0;
    int fd;

    black_hole_open(&hole);
    client = rig_client_with(hole.addr, NULL);
    OK(escrow_producer_new(client, "p", options, &producer));
    ck_assert_int_eq(pthread_create(&thread, NULL, send_one, &sent), 0);
    fd = accept(hole.fd, NULL, NULL); /* the send is under way */
    ck_assert_int_ge(fd, 0);
    freed = producer;
    escrow_producer_free(&freed);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_lt(sent, 0);
    escrow_client_free(&client);
    (void)close(fd);
    black_hole_close(&hole);
}
END_TEST

/* A client that has a producer, or a consumer that was never started, stays. */
START_TEST(a_client_is_not_freed_before_its_producers_and_consumers)
{
    client = rig_client_with("127.0.0.1:1", NULL);
    OK(escrow_producer_new(client, "p", NULL, &producer));
    OK(escrow_consumer_new(client, "g", NULL, &consumer));
    escrow_client_free(&client);
    expect_refused(client, "producers or consumers");
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    expect_refused(client, "producers or consumers");
    escrow_consumer_free(&consumer);
    escrow_client_free(&client);
    ck_assert_ptr_null(client);
}
END_TEST

static enum escrow_consume_result free_all(const struct escrow_delivery *message, void *arg)
{
    escrow_consumer_free(&consumer);
    expect_refused(consumer, "callback");
    escrow_client_free(&client);
    expect_refused(client, "callback");
    return bag_handler(message, arg);
}

/* In its handler a consumer would wait for the handler: it stays, and goes on. */
START_TEST(a_consumer_is_not_freed_in_its_handler)
{
    struct rig rig;
    struct bag bag;

    rig_start(&rig, NULL);
    bag_init(&bag);
    client = rig_client(&rig);
    OK(escrow_producer_new(client, "p", NULL, &producer));
    OK(rig_send(producer, "Any", "one"));
    OK(rig_send(producer, "Any", "two"));
    consumer = NULL;
    OK(escrow_consumer_new(client, "g", NULL, &consumer));
    OK(escrow_consumer_subscribe(consumer, "Any", "*"));
    OK(escrow_consumer_start(consumer, free_all, &bag));
    bag_wait_for(&bag, "one");
    bag_wait_for(&bag, "two");
    escrow_consumer_free(&consumer);
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    bag_fini(&bag);
    rig_stop(&rig);
}
END_TEST

static enum escrow_txn_state free_mine(const struct escrow_message *message, const char *id,
                                       void *arg)
{
    (void)message;
    (void)id;
    (void)arg;
    escrow_producer_free(&producer);
    expect_refused(producer, "execute");
    return ESCROW_TXN_COMMIT;
}

static void free_there(int error, const struct escrow_receipt *receipt, void *arg)
{
    (void)receipt;
    ck_assert_int_eq(error, 0);
    escrow_producer_free(&producer);
    expect_refused(producer, "completion callback");
    escrow_client_free(&client);
    expect_refused(client, "callback");
    bag_add(arg, "called", 6);
}

/* In execute, and in a completion callback, a producer would wait for itself. */
START_TEST(a_producer_is_not_freed_where_it_would_wait_for_itself)
{
    struct escrow_message *m = rig_message("Any", "text");
    struct rig rig;
    struct bag bag;

    rig_start(&rig, NULL);
    bag_init(&bag);
    client = rig_client(&rig);
    OK(escrow_producer_new(client, "p", NULL, &producer));
    OK(escrow_txn_send(producer, m, free_mine, NULL, NULL, NULL));
    OK(escrow_send_async(producer, m, free_there, &bag));
    bag_wait(&bag, 1);
    escrow_producer_free(&producer);
    ck_assert_ptr_null(producer);
    escrow_client_free(&client);
    escrow_message_free(&m);
    bag_fini(&bag);
    rig_stop(&rig);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, freeing_a_producer_waits_for_sends_of_other_threads);
    tcase_add_test(tc, a_client_is_not_freed_before_its_producers_and_consumers);
    tcase_add_test(tc, a_consumer_is_not_freed_in_its_handler);
    tcase_add_test(tc, a_producer_is_not_freed_where_it_would_wait_for_itself);
}

int main(void)
{
    return rig_main("client_free", add);
}
