/*
 * escrowd killed and started again under load: what was acknowledged is there, and nobody is stuck.
 */
#include "tests/integration/client/rig.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define SENDERS  4
#define KILLS    3
#define PER_LIFE 200 /* acknowledged messages between two kills */

static struct rig rig;
static struct bag acked;
static struct bag arrived;
static struct escrow_producer *producer;
static atomic_bool is_over;

static void setup(void)
{
    rig_start(&rig, NULL);
    bag_init(&acked);
    bag_init(&arrived);
}

static void teardown(void)
{
    bag_fini(&arrived);
    bag_fini(&acked);
    rig_stop(&rig);
}

static enum escrow_txn_state commits(const struct escrow_message *message,
                                     const char *transaction_id, void *arg)
{
    (void)message;
    (void)transaction_id;
    (void)arg;
    return ESCROW_TXN_COMMIT;
}

static enum escrow_txn_state has_committed(const struct escrow_delivery *message,
                                           const char *transaction_id, void *arg)
{
    (void)message;
    (void)transaction_id;
    (void)arg;
    return ESCROW_TXN_COMMIT;
}

/*
 * Every second one is a transaction. What was decided to be committed counts, whatever the answer
 * was.
 */
static void *sends(void *arg)
{
    const char *name = arg;

    for (int i = 0; !atomic_load(&is_over); i++) {
        char text[32];
        struct escrow_message *m;
        enum escrow_txn_state state = ESCROW_TXN_COMMIT;
        int rc;
        (void)snprintf(text, sizeof text, "%s-%d", name, i);
        m = rig_message("Load", text);
        if (i % 2 == 0) {
            rc = escrow_send(producer, m, NULL);
        } else {
            rc = escrow_txn_send(producer, m, commits, NULL, &state, NULL);
            rc = state == ESCROW_TXN_COMMIT ? 0 : rc;
        }
        if (rc == 0) {
            bag_add(&acked, text, strlen(text));
        } else {
            enum escrow_class class_ = escrow_error_class(rc);
            ck_assert_msg(class_ == ESCROW_CLASS_RETRY || class_ == ESCROW_CLASS_UNKNOWN, "%s",
                          escrow_last_error());
        }
        escrow_message_free(&m);
    }
    return NULL;
}

/* SIGKILL three times under four senders and a consumer: every acknowledged message arrives. */
START_TEST(no_acknowledged_message_is_lost)
{
    static char names[SENDERS][2] = {"a", "b", "c", "d"};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_client *reader = rig_client(&rig);
    struct escrow_consumer *k;
    pthread_t threads[SENDERS];

    OK(escrow_txn_producer_new(c, "bank", NULL, has_committed, NULL, &producer));
    k = rig_consume(reader, "readers", "Load", "*", NULL, bag_handler, &arrived);
    for (int i = 0; i < SENDERS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, sends, names[i]), 0);
    }
    for (int i = 1; i <= KILLS; i++) {
        bag_wait(&acked, bag_count(&acked) + PER_LIFE);
        rig_kill(&rig);
        rig_restart(&rig);
    }
    bag_wait(&acked, bag_count(&acked) + PER_LIFE);
    atomic_store(&is_over, true);
    for (int i = 0; i < SENDERS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    for (size_t i = 0; i < acked.count; i++) {
        bag_wait_for(&arrived, acked.items[i]);
    }
    escrow_consumer_free(&k);
    escrow_producer_free(&producer);
    escrow_client_free(&c);
    escrow_client_free(&reader);
}
END_TEST

/* The broker is gone for good: everything can be freed all the same. */
START_TEST(everything_ends_without_a_broker)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_consumer *k;
    enum escrow_class class_;

    OK(escrow_txn_producer_new(c, "bank", NULL, has_committed, NULL, &producer));
    OK(rig_send(producer, "Load", "x"));
    k = rig_consume(c, "readers", "Load", "*", NULL, bag_handler, &arrived);
    bag_wait_for(&arrived, "x");
    rig_kill(&rig);
    do { /* a send on the connection that is just breaking may have arrived, for all we know */
        class_ = escrow_error_class(rig_send(producer, "Load", "y"));
    } while (class_ == ESCROW_CLASS_UNKNOWN);
    ck_assert_int_eq(class_, ESCROW_CLASS_RETRY);
    escrow_consumer_free(&k);
    escrow_producer_free(&producer);
    escrow_client_free(&c);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, no_acknowledged_message_is_lost);
    tcase_add_test(tc, everything_ends_without_a_broker);
}

int main(void)
{
    return rig_main("client_restart", add);
}
