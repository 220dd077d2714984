/*
 * What escrow_pg_commit and escrow_pg_rollback say is what became of the database's transaction,
 * and messages are decided only when that is over. Real PostgreSQL, real escrowd; PQexec can be
 * made to fail as it does when libpq is out of memory.
 */
#include "tests/integration/client/rig.h"

#include "escrow/pg.h"
#include "tests/lib/pg_fixture.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct pg_fixture pg;
static char conninfo[160];
static struct rig rig;
static PGconn *conn;
static PGconn *witness;
static struct escrow_client *client;
static struct escrow_producer *producer;

/* ---- PQexec ---- */

enum fault { FAULT_NONE, FAULT_BEFORE, FAULT_AFTER };

static enum fault fault; /* of statements that contain this: */
static const char *fault_in;

/* In front of libpq's own: the statement is not sent, or its answer is lost. */
PGresult *PQexec(PGconn *c, const char *sql)
{
    PGresult *(*real)(PGconn *, const char *);
    PGresult *res;

    *(void **)&real = dlsym(RTLD_NEXT, "PQexec");
    if (fault == FAULT_NONE || strstr(sql, fault_in) == NULL) {
        return real(c, sql);
    }
    if (fault == FAULT_AFTER) {
        res = real(c, sql);
        PQclear(res);
    }
    return NULL;
}

/* ---- the rig ---- */

static void setup(void)
{
    char name[32];

    (void)snprintf(name, sizeof name, "t%ld", (long)getpid());
    pg_fixture_database(&pg, name, conninfo, sizeof conninfo);
    conn = pg_test_connect(conninfo);
    witness = pg_test_connect(conninfo);
    (void)pg_test_sql(witness, "CREATE TABLE account (id int PRIMARY KEY, cents int)");
    (void)pg_test_sql(witness, "INSERT INTO account VALUES (1, 100)");
    rig_start(&rig, NULL);
    client = rig_client(&rig);
    OK(escrow_producer_new(client, "bank", NULL, &producer));
    OK(rig_send(producer, "Paid", "creates the topic"));
}

static void teardown(void)
{
    fault = FAULT_NONE;
    PQfinish(conn);
    PQfinish(witness);
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    rig_stop(&rig);
}

/* A debit of 10 and a message. */
static struct escrow_pg_txn *debit(void)
{
    struct escrow_pg_txn *txn = NULL;
    struct escrow_message *m = rig_message("Paid", "a debit");

    OK(escrow_pg_begin(producer, conn, &txn));
    (void)pg_test_sql(conn, "UPDATE account SET cents = cents - 10 WHERE id = 1");
    OK(escrow_pg_publish(txn, m));
    escrow_message_free(&m);
    return txn;
}

/*
 * The service goes, and with it all that was under way: what the others see now. Undecided halves
 * are left to check-back.
 */
static void expect(const char *cents, int64_t messages, int64_t undecided)
{
    escrow_producer_free(&producer);
    ck_assert_str_eq(pg_test_sql(witness, "SELECT cents FROM account"), cents);
    ck_assert_int_eq(rig_undecided(&rig), undecided);
    ck_assert_int_eq(rig_stored(&rig, "Paid", 4), 1 + messages);
}

static void read_all(void)
{
    PGresult *res;

    while ((res = PQgetResult(conn)) != NULL) {
        PQclear(res);
    }
}

/* ---- tests ---- */

/* Unread results: nothing ends; when they are read the same transaction commits. */
START_TEST(commit_waits_for_results_to_be_read)
{
    struct escrow_pg_txn *txn = debit();

    ck_assert_int_eq(PQsendQuery(conn, "SELECT 1"), 1);
    ck_assert_int_eq(escrow_pg_commit(&txn), ESCROW_EBUSY);
    ck_assert_ptr_nonnull(txn);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "PQgetResult"));
    read_all();
    ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_INTRANS);
    OK(escrow_pg_commit(&txn));
    ck_assert_ptr_null(txn);
    expect("90", 1, 0);
}
END_TEST

/* In the middle of a COPY the same. */
START_TEST(commit_waits_for_the_end_of_a_copy)
{
    struct escrow_pg_txn *txn = debit();

    PQclear(PQexec(conn, "COPY account FROM STDIN"));
    ck_assert_int_eq(escrow_pg_commit(&txn), ESCROW_EBUSY);
    ck_assert_int_eq(PQputCopyEnd(conn, NULL), 1);
    read_all();
    OK(escrow_pg_commit(&txn));
    expect("90", 1, 0);
}
END_TEST

/* Rollback discards them: the transaction is over when it says so. */
START_TEST(rollback_discards_unread_results)
{
    struct escrow_pg_txn *txn = debit();

    ck_assert_int_eq(PQsendQuery(conn, "SELECT 1"), 1);
    OK(escrow_pg_rollback(&txn));
    ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
    (void)pg_test_sql(conn, "COMMIT");
    expect("100", 0, 0);
}
END_TEST

/* Pipeline mode: refused by all three, and nothing ends before the caller has left it. */
START_TEST(pipeline_mode_ends_nothing)
{
    struct escrow_pg_txn *txn = NULL;

    ck_assert_int_eq(PQenterPipelineMode(conn), 1);
    ck_assert_int_eq(escrow_pg_begin(producer, conn, &txn), ESCROW_EINVAL);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "pipeline"));
    ck_assert_int_eq(PQexitPipelineMode(conn), 1);
    txn = debit();
    ck_assert_int_eq(PQenterPipelineMode(conn), 1);
    ck_assert_int_eq(escrow_pg_commit(&txn), ESCROW_EBUSY);
    ck_assert_int_eq(escrow_pg_rollback(&txn), ESCROW_EBUSY);
    ck_assert_ptr_nonnull(txn);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "pipeline"));
    ck_assert_int_eq(PQexitPipelineMode(conn), 1);
    OK(escrow_pg_commit(&txn));
    expect("90", 1, 0);
}
END_TEST

/* ROLLBACK cannot be sent: that is said, and the message is not decided beside an open debit. */
START_TEST(a_rollback_that_is_not_known_decides_nothing)
{
    struct escrow_pg_txn *txn = debit();

    fault = FAULT_BEFORE;
    fault_in = "ROLLBACK";
    ck_assert_int_eq(escrow_pg_rollback(&txn), ESCROW_EDB);
    ck_assert_ptr_null(txn);
    ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_INTRANS);
    expect("100", 0, 1);
}
END_TEST

/* The answer to COMMIT is lost in libpq: it committed, and nobody may say that it did not. */
START_TEST(an_answer_to_commit_that_is_lost_is_not_known)
{
    struct escrow_pg_txn *txn = debit();
    int rc;

    fault = FAULT_AFTER;
    fault_in = "COMMIT";
    rc = escrow_pg_commit(&txn);
    ck_assert_int_eq(rc, ESCROW_EDB);
    ck_assert_int_eq(escrow_error_class(rc), ESCROW_CLASS_UNKNOWN);
    ck_assert_int_eq(PQstatus(conn), CONNECTION_OK);
    expect("90", 0, 1);
}
END_TEST

/* COMMIT was never sent: that is known, and it is a rollback. */
START_TEST(a_commit_that_is_not_sent_is_rolled_back)
{
    struct escrow_pg_txn *txn = debit();

    fault = FAULT_BEFORE;
    fault_in = "COMMIT";
    ck_assert_int_eq(escrow_pg_commit(&txn), ESCROW_EROLLEDBACK);
    ck_assert_int_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
    expect("100", 0, 0);
}
END_TEST

/* An open transaction needs its producer: that is not freed, and the transaction can commit. */
START_TEST(a_producer_with_an_open_transaction_stays)
{
    struct escrow_pg_txn *txn = debit();

    escrow_producer_free(&producer);
    ck_assert_ptr_nonnull(producer);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "open"));
    escrow_client_free(&client);
    ck_assert_ptr_nonnull(client);
    OK(escrow_pg_commit(&txn));
    expect("90", 1, 0);
    ck_assert_ptr_null(producer);
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
    tcase_add_test(tc, commit_waits_for_results_to_be_read);
    tcase_add_test(tc, commit_waits_for_the_end_of_a_copy);
    tcase_add_test(tc, rollback_discards_unread_results);
    tcase_add_test(tc, pipeline_mode_ends_nothing);
    tcase_add_test(tc, a_rollback_that_is_not_known_decides_nothing);
    tcase_add_test(tc, an_answer_to_commit_that_is_lost_is_not_known);
    tcase_add_test(tc, a_commit_that_is_not_sent_is_rolled_back);
    tcase_add_test(tc, a_producer_with_an_open_transaction_stays);
}

int main(void)
{
    return rig_main("client_pg_end", add);
}
