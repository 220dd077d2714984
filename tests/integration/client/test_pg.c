/* Messages that commit with a PostgreSQL transaction, on a real PostgreSQL and a real escrowd. */
#include "tests/integration/client/rig.h"

#include "escrow/pg.h"
#include "tests/lib/pg_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct pg_fixture pg;
static char conninfo[160];
static struct rig rig;
static struct bag bag;
static PGconn *conn;
static struct escrow_client *client;
static struct escrow_producer *producer;
static struct escrow_consumer *consumer;

static void setup(void)
{
    const struct escrow_option options[] = {
        {"send.timeout.ms", "10000"}, {"retries", "0"}, {NULL, NULL}};
    char name[32];

    (void)snprintf(name, sizeof name, "t%ld", (long)getpid());
    pg_fixture_database(&pg, name, conninfo, sizeof conninfo);
    conn = pg_test_connect(conninfo);
    (void)pg_test_sql(conn,
                      "CREATE TABLE account (id int PRIMARY KEY, cents int CHECK (cents >= 0))");
    (void)pg_test_sql(conn, "INSERT INTO account VALUES (1, 100)");
    rig_start(&rig, NULL);
    bag_init(&bag);
    client = rig_client(&rig);
    OK(escrow_producer_new(client, "bank", options, &producer));
    OK(rig_send(producer, "Paid", "creates the topic"));
    consumer = rig_consume(client, "readers", "Paid", "*", NULL, bag_handler, &bag);
}

static void teardown(void)
{
    PQfinish(conn);
    escrow_consumer_free(&consumer);
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    bag_fini(&bag);
    rig_stop(&rig);
}

static int publish(struct escrow_pg_txn *txn, const char *text)
{
    struct escrow_message *m = rig_message("Paid", text);
    int rc = escrow_pg_publish(txn, m);

    escrow_message_free(&m);
    return rc;
}

static const char *cents(void)
{
    return pg_test_sql(conn, "SELECT cents FROM account WHERE id = 1");
}

/* The end of a test: what was sent before and not delivered by now never will be. */
static void expect_only(const char *const *texts, size_t count)
{
    OK(rig_send(producer, "Paid", "last 1"));
    OK(rig_send(producer, "Paid", "last 2"));
    OK(rig_send(producer, "Paid", "last 3"));
    OK(rig_send(producer, "Paid", "last 4"));
    bag_wait_for(&bag, "creates the topic");
    for (size_t i = 0; i < count; i++) {
        bag_wait_for(&bag, texts[i]);
    }
    bag_wait(&bag, count + 5);
    ck_assert_uint_eq(bag_count(&bag), count + 5);
}

/* Database and messages commit together, several messages with one transaction. */
START_TEST(a_commit_delivers_all_messages)
{
    static const char *const texts[] = {"one", "two", "three"};
    struct escrow_pg_txn *txn = NULL;

    OK(escrow_pg_begin(producer, conn, &txn));
    (void)pg_test_sql(conn, "UPDATE account SET cents = cents - 10 WHERE id = 1");
    for (int i = 0; i < 3; i++) {
        OK(publish(txn, texts[i]));
    }
    OK(escrow_pg_commit(&txn));
    ck_assert_ptr_null(txn);
    ck_assert_str_eq(cents(), "90");
    ck_assert_str_eq(pg_test_sql(conn, "SELECT count(*) FROM escrow.transaction_marker"), "3");
    expect_only(texts, 3);
}
END_TEST

static void no_notice(void *arg, const PGresult *res)
{
    ck_assert_ptr_eq(arg, &bag);
    ck_assert_ptr_nonnull(res);
}

/* A receiver of the application's own for notices delays nothing, and stays. */
START_TEST(a_receiver_of_notices_makes_no_difference)
{
    static const char *const texts[] = {"one", "two"};
    struct escrow_pg_txn *txn = NULL;

    (void)PQsetNoticeReceiver(conn, no_notice, &bag);
    for (int i = 0; i < 2; i++) {
        OK(escrow_pg_begin(producer, conn, &txn));
        (void)pg_test_sql(conn, "UPDATE account SET cents = cents - 10 WHERE id = 1");
        OK(publish(txn, texts[i]));
        OK(escrow_pg_commit(&txn));
    }
    ck_assert(PQsetNoticeReceiver(conn, NULL, NULL) == no_notice);
    ck_assert_str_eq(cents(), "80");
    expect_only(texts, 2);
}
END_TEST

/* Rolled back: neither the row nor the message. */
START_TEST(a_rollback_delivers_nothing)
{
    struct escrow_pg_txn *txn = NULL;

    OK(escrow_pg_begin(producer, conn, &txn));
    (void)pg_test_sql(conn, "UPDATE account SET cents = cents - 10 WHERE id = 1");
    OK(publish(txn, "never"));
    OK(escrow_pg_rollback(&txn));
    ck_assert_str_eq(cents(), "100");
    expect_only(NULL, 0);
}
END_TEST

/* A statement that failed makes commit a rollback, and it says so. */
START_TEST(a_failed_statement_rolls_back_the_messages)
{
    struct escrow_pg_txn *txn = NULL;

    OK(escrow_pg_begin(producer, conn, &txn));
    OK(publish(txn, "never"));
    (void)pg_test_fails(conn, "23514", "UPDATE account SET cents = -1 WHERE id = 1");
    ck_assert_int_eq(escrow_pg_commit(&txn), ESCROW_EROLLEDBACK);
    ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
    expect_only(NULL, 0);
}
END_TEST

/* A constraint that is checked at COMMIT itself: rolled back as well. */
START_TEST(a_commit_that_fails_rolls_back_the_messages)
{
    struct escrow_pg_txn *txn = NULL;

    (void)pg_test_sql(
        conn, "CREATE TABLE entry (account int REFERENCES account DEFERRABLE INITIALLY DEFERRED)");
    OK(escrow_pg_begin(producer, conn, &txn));
    (void)pg_test_sql(conn, "INSERT INTO entry VALUES (7)");
    OK(publish(txn, "never"));
    ck_assert_int_eq(escrow_pg_commit(&txn), ESCROW_EROLLEDBACK);
    ck_assert_str_eq(pg_test_sql(conn, "SELECT count(*) FROM entry"), "0");
    ck_assert_str_eq(pg_test_sql(conn, "SELECT count(*) FROM escrow.transaction_marker"), "0");
    expect_only(NULL, 0);
}
END_TEST

/* The message cannot be stored: the database is rolled back, whatever the broker did. */
START_TEST(a_broker_that_is_gone_rolls_back_the_database)
{
    struct escrow_pg_txn *txn = NULL;
    int rc;

    rig_kill(&rig);
    OK(escrow_pg_begin(producer, conn, &txn));
    (void)pg_test_sql(conn, "UPDATE account SET cents = cents - 10 WHERE id = 1");
    OK(publish(txn, "never"));
    rc = escrow_pg_commit(&txn);
    ck_assert_msg(rc != 0 && rc != ESCROW_ECLOSED && rc != ESCROW_EROLLEDBACK, "%d", rc);
    ck_assert_str_eq(cents(), "100");
    rig_restart(&rig);
    while (rig_send(producer, "Paid", "is back") != 0) {
        ck_assert_int_ne(rig.pid, -1);
    }
    bag_wait_for(&bag, "is back");
    ck_assert_uint_eq(bag_count_of(&bag, "never"), 0);
}
END_TEST

/* The session is ended under an open transaction: nothing was committed, and that is known. */
START_TEST(a_session_that_is_lost_before_commit_is_a_rollback)
{
    PGconn *killer = pg_test_connect(conninfo);
    struct escrow_pg_txn *txn = NULL;
    int rc;

    OK(escrow_pg_begin(producer, conn, &txn));
    (void)pg_test_sql(conn, "UPDATE account SET cents = cents - 10 WHERE id = 1");
    OK(publish(txn, "never"));
    (void)pg_test_sql(killer, "SELECT pg_terminate_backend(%d, 5000)", PQbackendPID(conn));
    rc = escrow_pg_commit(&txn);
    ck_assert_msg(rc == ESCROW_ECLOSED || rc == ESCROW_EROLLEDBACK, "%d", rc);
    ck_assert_str_eq(pg_test_sql(killer, "SELECT cents FROM account"), "100");
    PQfinish(killer);
    expect_only(NULL, 0);
}
END_TEST

#define COMMITTERS 4
#define COMMITS    50

static void *committer(void *arg)
{
    PGconn *mine = pg_test_connect(conninfo);
    char text[32];

    for (int i = 0; i < COMMITS; i++) {
        struct escrow_pg_txn *txn = NULL;
        OK(escrow_pg_begin(producer, mine, &txn));
        (void)snprintf(text, sizeof text, "%d of %d", i, *(int *)arg);
        OK(publish(txn, text));
        if (i % 5 == 4) {
            OK(escrow_pg_rollback(&txn));
        } else {
            OK(escrow_pg_commit(&txn));
        }
    }
    PQfinish(mine);
    return NULL;
}

/* Decisions of several threads go to the broker together: each message as its own transaction. */
START_TEST(decisions_that_are_gathered_are_those_of_their_transactions)
{
    pthread_t threads[COMMITTERS];
    int ids[COMMITTERS];

    for (int i = 0; i < COMMITTERS; i++) {
        ids[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, committer, &ids[i]), 0);
    }
    for (int i = 0; i < COMMITTERS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    OK(rig_send(producer, "Paid", "last"));
    bag_wait_for(&bag, "last");
    bag_wait(&bag, 2 + COMMITTERS * COMMITS * 4 / 5);
    ck_assert_uint_eq(bag_distinct(&bag), bag_count(&bag));
    ck_assert_uint_eq(bag_count_of(&bag, "48 of 3"), 1);
    ck_assert_uint_eq(bag_count_of(&bag, "49 of 3"), 0);
}
END_TEST

/* A transaction with one message that commits. */
static void commit_one(const char *text)
{
    struct escrow_pg_txn *txn = NULL;

    OK(escrow_pg_begin(producer, conn, &txn));
    OK(publish(txn, text));
    OK(escrow_pg_commit(&txn));
}

/* How many statements of libescrow the session has. */
static const char *prepared(void)
{
    return pg_test_sql(conn, "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE "
                             "'escrow#_%%' ESCAPE '#'");
}

/*
 * From the third transaction on the statements are there, and the markers are the same. When they
 * go (a pooler gave us another session, or emptied this one) the transaction begins all the same.
 */
START_TEST(statements_are_prepared_and_nothing_hangs_on_them)
{
    static const char *const texts[] = {"0", "1", "2", "3", "4", "5", "6"};

    commit_one(texts[0]);
    commit_one(texts[1]);
    ck_assert_str_eq(prepared(), "0");
    commit_one(texts[2]);
    ck_assert_str_eq(prepared(), "2");
    commit_one(texts[3]);
    (void)pg_test_sql(conn, "RESET escrow.identity");
    commit_one(texts[4]);
    (void)pg_test_sql(conn, "DISCARD ALL");
    commit_one(texts[5]);
    ck_assert_str_eq(prepared(), "0"); /* once burnt */
    commit_one(texts[6]);
    ck_assert_str_eq(pg_test_sql(conn, "SELECT count(*) FROM escrow.transaction_marker WHERE kind "
                                       "= 'C' AND broker IS NOT NULL AND half_offset >= 0"),
                     "7");
    expect_only(texts, 7);
}
END_TEST

/* Where sessions keep them for long they are prepared again as soon as one has lost them. */
START_TEST(statements_that_served_are_prepared_again)
{
    struct escrow_pg_txn *txn = NULL;

    for (int i = 0; i < 110; i++) {
        OK(escrow_pg_begin(producer, conn, &txn));
        OK(escrow_pg_commit(&txn));
    }
    (void)pg_test_sql(conn, "DEALLOCATE ALL");
    ck_assert_str_eq(prepared(), "0");
    OK(escrow_pg_begin(producer, conn, &txn));
    ck_assert_str_eq(prepared(), "2");
    OK(escrow_pg_rollback(&txn));
    ck_assert_str_eq(prepared(), "2");
    PQreset(conn); /* another session: nothing is taken for granted */
    commit_one("after a reset");
    ck_assert_str_eq(prepared(), "0");
}
END_TEST

/* Another client of the pooler has prepared them: they are used, not prepared twice. */
START_TEST(statements_of_another_client_are_found)
{
    struct escrow_pg_txn *txn = NULL;

    (void)pg_test_sql(conn, "PREPARE escrow_begin_1 AS SELECT pg_current_xact_id(), "
                            "current_setting('escrow.identity', true)");
    (void)pg_test_sql(conn, "PREPARE escrow_mark_1 (text, text, int8) AS "
                            "INSERT INTO escrow.marking VALUES ($1, $2 || '!', $3)");
    for (int i = 0; i < 4; i++) {
        commit_one("found");
    }
    ck_assert_str_eq(
        pg_test_sql(conn, "SELECT count(*) FROM escrow.transaction_marker WHERE broker LIKE '%%!'"),
        "2");
    /* One alone is nothing to build on. */
    PQreset(conn);
    (void)pg_test_sql(conn, "PREPARE escrow_mark_1 AS SELECT 1");
    for (int i = 0; i < 4; i++) {
        OK(escrow_pg_begin(producer, conn, &txn));
        OK(escrow_pg_commit(&txn));
    }
    commit_one("alone");
    ck_assert_str_eq(prepared(), "1");
    bag_wait_for(&bag, "alone");
}
END_TEST

/* Deallocated inside the transaction: it cannot mark, so it rolls back; the next one can. */
START_TEST(a_statement_that_goes_in_the_transaction_rolls_it_back)
{
    struct escrow_pg_txn *txn = NULL;

    for (int i = 0; i < 4; i++) {
        commit_one("before");
    }
    OK(escrow_pg_begin(producer, conn, &txn));
    (void)pg_test_sql(conn, "UPDATE account SET cents = cents - 10 WHERE id = 1");
    OK(publish(txn, "never"));
    (void)pg_test_sql(conn, "DEALLOCATE ALL");
    ck_assert_int_eq(escrow_pg_commit(&txn), ESCROW_EROLLEDBACK);
    ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
    ck_assert_str_eq(cents(), "100");
    commit_one("after");
    bag_wait_for(&bag, "after");
    ck_assert_uint_eq(bag_count_of(&bag, "never"), 0);
}
END_TEST

/* An older grant, or an older schema: the functions do. */
START_TEST(without_a_right_to_the_view_the_function_marks)
{
    pg_fixture_roles(conninfo);
    (void)pg_test_sql(conn, "REVOKE INSERT ON escrow.marking FROM escrow_publisher");
    (void)pg_test_sql(conn, "SET ROLE escrow_publisher");
    for (int i = 0; i < 4; i++) {
        commit_one("as a publisher");
    }
    (void)pg_test_sql(conn, "RESET ROLE; DROP VIEW escrow.marking");
    PQreset(conn);
    for (int i = 0; i < 4; i++) {
        commit_one("before the upgrade");
    }
    ck_assert_str_eq(prepared(), "0");
    ck_assert_str_eq(pg_test_sql(conn, "SELECT count(*) FROM escrow.transaction_marker"), "8");
}
END_TEST

/* A check-back came first and wrote a tombstone: rolled back, and it says why. */
START_TEST(a_mark_that_comes_too_late_says_so)
{
    struct escrow_pg_txn *txn = NULL;

    for (int i = 0; i < 4; i++) {
        commit_one("in time");
    }
    (void)pg_test_sql(conn, "CREATE FUNCTION first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                            "INSERT INTO escrow.transaction_marker (txn_id, kind) "
                            "VALUES (NEW.txn_id, 'R'); RETURN NEW; END $$");
    (void)pg_test_sql(conn, "CREATE TRIGGER first BEFORE INSERT ON escrow.transaction_marker "
                            "FOR EACH ROW WHEN (NEW.kind = 'C') EXECUTE FUNCTION first()");
    OK(escrow_pg_begin(producer, conn, &txn));
    OK(publish(txn, "never"));
    ck_assert_int_eq(escrow_pg_commit(&txn), ESCROW_EROLLEDBACK);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "too late"));
    ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
}
END_TEST

/* The session remembers which database it is in; what somebody else put there is refused. */
START_TEST(begin_refuses_an_identity_that_was_changed)
{
    struct escrow_pg_txn *txn = NULL;

    (void)pg_test_sql(conn, "SET escrow.identity = 'mine'");
    ck_assert_int_eq(escrow_pg_begin(producer, conn, &txn), ESCROW_EDB);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "escrow.identity"));
    (void)pg_test_sql(conn, "SET escrow.identity = 'a/1/b\x01'");
    ck_assert_int_eq(escrow_pg_begin(producer, conn, &txn), ESCROW_EINVAL);
    (void)pg_test_sql(conn, "RESET escrow.identity");
    OK(escrow_pg_begin(producer, conn, &txn));
    OK(escrow_pg_commit(&txn));
    ck_assert_ptr_nonnull(strstr(pg_test_sql(conn, "SHOW escrow.identity"), "/1/"));
}
END_TEST

/* Whatever is wrong at the start leaves the connection as it was. */
START_TEST(begin_refuses_what_it_cannot_use)
{
    struct escrow_pg_txn *txn = NULL;

    (void)pg_test_sql(conn, "BEGIN");
    ck_assert_int_eq(escrow_pg_begin(producer, conn, &txn), ESCROW_EINVAL);
    ck_assert_ptr_null(txn);
    (void)pg_test_sql(conn, "ROLLBACK");
    (void)pg_test_sql(conn, "DROP SCHEMA escrow CASCADE");
    ck_assert_int_eq(escrow_pg_begin(producer, conn, &txn), ESCROW_ENOTFOUND);
    ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
    ck_assert_int_eq(escrow_pg_commit(&txn), ESCROW_EINVAL);
}
END_TEST

/* Somebody ended the transaction behind our back: the messages are not sent on a guess. */
START_TEST(a_transaction_ended_by_other_means_is_refused)
{
    struct escrow_pg_txn *txn = NULL;

    OK(escrow_pg_begin(producer, conn, &txn));
    OK(publish(txn, "never"));
    (void)pg_test_sql(conn, "COMMIT");
    ck_assert_int_eq(escrow_pg_commit(&txn), ESCROW_EINVAL);
    expect_only(NULL, 0);
}
END_TEST

static void start_pg(void)
{
    pg_fixture_start(&pg, NULL);
}

static void stop_pg(void)
{
    pg_fixture_stop(&pg);
}

static void add(TCase *tc)
{
    tcase_add_unchecked_fixture(tc, start_pg, stop_pg);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_commit_delivers_all_messages);
    tcase_add_test(tc, a_receiver_of_notices_makes_no_difference);
    tcase_add_test(tc, a_rollback_delivers_nothing);
    tcase_add_test(tc, a_failed_statement_rolls_back_the_messages);
    tcase_add_test(tc, a_commit_that_fails_rolls_back_the_messages);
    tcase_add_test(tc, a_broker_that_is_gone_rolls_back_the_database);
    tcase_add_test(tc, a_session_that_is_lost_before_commit_is_a_rollback);
    tcase_add_test(tc, decisions_that_are_gathered_are_those_of_their_transactions);
    tcase_add_test(tc, statements_are_prepared_and_nothing_hangs_on_them);
    tcase_add_test(tc, statements_that_served_are_prepared_again);
    tcase_add_test(tc, statements_of_another_client_are_found);
    tcase_add_test(tc, a_statement_that_goes_in_the_transaction_rolls_it_back);
    tcase_add_test(tc, without_a_right_to_the_view_the_function_marks);
    tcase_add_test(tc, a_mark_that_comes_too_late_says_so);
    tcase_add_test(tc, begin_refuses_an_identity_that_was_changed);
    tcase_add_test(tc, begin_refuses_what_it_cannot_use);
    tcase_add_test(tc, a_transaction_ended_by_other_means_is_refused);
}

int main(void)
{
    return rig_main("client_pg", add);
}
