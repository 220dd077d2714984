/*
 * Transactions with callbacks: decided here, and by check-back, in this process and in a later one.
 */
#include "tests/integration/broker/http_stub.h"
#include "tests/integration/client/rig.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct rig rig;
static struct bag bag;
static struct bag asked; /* transaction ids of check-backs */

static const char *const check_soon[] = {"--txn.timeout.ms", "100", "--txn.check.interval.ms",
                                         "100", NULL};
static const char *const check_late[] = {"--txn.timeout.ms", "3600000", NULL};

static void setup(void)
{
    rig_start(&rig, check_soon);
    bag_init(&bag);
    bag_init(&asked);
}

static void teardown(void)
{
    bag_fini(&asked);
    bag_fini(&bag);
    rig_stop(&rig);
}

static enum escrow_txn_state decides(const struct escrow_message *message,
                                     const char *transaction_id, void *arg)
{
    (void)message;
    ck_assert_uint_eq(strlen(transaction_id), 32);
    return *(const enum escrow_txn_state *)arg;
}

/* Says unknown once, and then what the body says. */
static enum escrow_txn_state is_asked(const struct escrow_delivery *message,
                                      const char *transaction_id, void *arg)
{
    size_t len;
    const char *body = escrow_delivery_body(message, &len);
    size_t before = bag_count_of(&asked, transaction_id);

    ck_assert_ptr_eq(arg, &asked);
    ck_assert_str_eq(escrow_delivery_message_id(message), transaction_id);
    bag_add(&asked, transaction_id, strlen(transaction_id));
    if (before == 0) {
        return ESCROW_TXN_UNKNOWN;
    }
    return len >= 6 && memcmp(body, "commit", 6) == 0 ? ESCROW_TXN_COMMIT : ESCROW_TXN_ROLLBACK;
}

static void send_txn(struct escrow_producer *p, const char *text, enum escrow_txn_state outcome)
{
    struct escrow_message *m = rig_message("Transfers", text);
    struct escrow_receipt *r = NULL;
    enum escrow_txn_state state = ESCROW_TXN_IN_PROGRESS;

    OK(escrow_txn_send(p, m, decides, &outcome, &state, &r));
    ck_assert_int_eq(state, outcome);
    ck_assert_ptr_nonnull(r);
    escrow_receipt_free(&r);
    escrow_message_free(&m);
}

/* Committed: delivered. Rolled back: not, and nobody is asked about either. */
START_TEST(a_decision_is_followed)
{
    struct escrow_producer *p = NULL;
    struct escrow_client *c;
    struct escrow_consumer *k;
    struct rig other;

    rig_start(&other, check_late);
    c = rig_client(&other);
    OK(escrow_txn_producer_new(c, "bank", NULL, is_asked, &asked, &p));
    send_txn(p, "rollback 1", ESCROW_TXN_ROLLBACK);
    send_txn(p, "commit 1", ESCROW_TXN_COMMIT);
    k = rig_consume(c, "readers", "Transfers", "*", NULL, bag_handler, &bag);
    bag_wait_for(&bag, "commit 1");
    ck_assert_uint_eq(bag_count(&bag), 1);
    ck_assert_uint_eq(bag_count(&asked), 0);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
    rig_stop(&other);
}
END_TEST

/* What execute could not say is asked until somebody can, and then followed. */
START_TEST(an_unknown_outcome_is_asked_for)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_txn_producer_new(c, "bank", NULL, is_asked, &asked, &p));
    send_txn(p, "rollback 2", ESCROW_TXN_UNKNOWN);
    send_txn(p, "commit 2", ESCROW_TXN_IN_PROGRESS);
    k = rig_consume(c, "readers", "Transfers", "*", NULL, bag_handler, &bag);
    bag_wait_for(&bag, "commit 2");
    bag_wait(&asked, 4);
    ck_assert_uint_eq(bag_count(&bag), 1);
    ck_assert_uint_eq(bag_distinct(&asked), 2);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static enum escrow_txn_state dies(const struct escrow_message *message, const char *transaction_id,
                                  void *arg)
{
    (void)message;
    (void)transaction_id;
    (void)arg;
    (void)kill(getpid(), SIGKILL); /* between the half and its decision */
    return ESCROW_TXN_UNKNOWN;
}

/*
 * The process dies in its local transaction: another one of the group, which sends nothing itself,
 * is asked and decides.
 */
START_TEST(another_process_of_the_group_answers)
{
    struct escrow_client *c;
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    int status = 0;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct escrow_message *m = rig_message("Transfers", "commit 3");
        c = rig_client(&rig);
        OK(escrow_txn_producer_new(c, "bank", NULL, is_asked, &asked, &p));
        OK(escrow_txn_send(p, m, dies, NULL, NULL, NULL));
        _exit(1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status));
    c = rig_client(&rig);
    OK(escrow_txn_producer_new(c, "bank", NULL, is_asked, &asked, &p));
    k = rig_consume(c, "readers", "Transfers", "*", NULL, bag_handler, &bag);
    bag_wait_for(&bag, "commit 3");
    ck_assert_uint_ge(bag_count(&asked), 2);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* A producer that starts before its broker finds it as soon as it is there. */
START_TEST(a_producer_meets_a_broker_that_starts_later)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_client *late;
    struct escrow_producer *p = NULL;
    struct escrow_producer *waiting = NULL;
    struct escrow_consumer *k;

    OK(escrow_txn_producer_new(c, "bank", NULL, NULL, NULL, &p));
    send_txn(p, "commit 4", ESCROW_TXN_UNKNOWN);
    escrow_producer_free(&p);
    escrow_client_free(&c);
    rig_kill(&rig);
    late = rig_client(&rig);
    OK(escrow_txn_producer_new(late, "bank", NULL, is_asked, &asked, &waiting));
    rig_restart(&rig);
    k = rig_consume(late, "readers", "Transfers", "*", NULL, bag_handler, &bag);
    bag_wait_for(&bag, "commit 4");
    escrow_consumer_free(&k);
    escrow_producer_free(&waiting);
    escrow_client_free(&late);
}
END_TEST

/*
 * A producer that has no check callback is no member whom the broker would ask and wait for, also
 * next to one of the same group that had one: the callback URL is asked, and nobody before it.
 */
START_TEST(without_a_check_callback_the_url_is_asked_at_once)
{
    char url[64];
    const char *const args[] = {
        "--txn.timeout.ms", "100", "--txn.check.interval.ms", "100", "--callback", url, NULL};
    const struct escrow_option often[] = {{"heartbeat.ms", "20"}, {NULL, NULL}};
    struct escrow_producer *had = NULL;
    struct escrow_producer *p = NULL;
    struct escrow_client *c;
    struct escrow_consumer *k;
    struct http_stub stub;
    struct rig other;

    http_stub_start(&stub, STUB_UNKNOWN);
    (void)snprintf(url, sizeof url, "default=http://127.0.0.1:%u/check", stub.port); /* fits */
    rig_start(&other, args);
    c = rig_client_with(other.name_server, often);
    OK(escrow_txn_producer_new(c, "bank", NULL, is_asked, &asked, &had));
    OK(escrow_txn_producer_new(c, "bank", NULL, NULL, NULL, &p));
    send_txn(had, "rollback 5", ESCROW_TXN_ROLLBACK); /* the broker knows the group now */
    escrow_producer_free(&had);
    send_txn(p, "commit 5", ESCROW_TXN_UNKNOWN);
    http_stub_expect(&stub, STUB_UNKNOWN, 2); /* and again, after some heartbeats */
    http_stub_expect(&stub, STUB_COMMIT, 1);
    k = rig_consume(c, "readers", "Transfers", "*", NULL, bag_handler, &bag);
    bag_wait_for(&bag, "commit 5");
    ck_assert_int_eq(rig_counter(&other, "txn_asks_unanswered"), 0);
    ck_assert_int_eq(rig_counter(&other, "txn_asks_undeliverable"),
                     rig_counter(&other, "txn_asks_live"));
    ck_assert_int_ge(rig_counter(&other, "txn_asks_http"), 3);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
    http_stub_stop(&stub);
    rig_stop(&other);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_decision_is_followed);
    tcase_add_test(tc, an_unknown_outcome_is_asked_for);
    tcase_add_test(tc, another_process_of_the_group_answers);
    tcase_add_test(tc, a_producer_meets_a_broker_that_starts_later);
    tcase_add_test(tc, without_a_check_callback_the_url_is_asked_at_once);
}

int main(void)
{
    return rig_main("client_txn", add);
}
