/*
 * A COMMIT waits for a synchronous standby that is not there, and the wait is cancelled: PostgreSQL
 * has committed and says so, but a fail-over would lose it. Nothing is decided on its word. Only
 * transactions with a message wait here: all others commit locally.
 */
#include "tests/integration/client/rig.h"

#include "escrow/pg.h"
#include "tests/lib/pg_fixture.h"

#include <pthread.h>
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
static char notices[4096];

static void keep_notice(void *arg, const char *text)
{
    size_t len = strlen(notices);

    (void)arg;
    (void)snprintf(notices + len, sizeof notices - len, "%s", text); /* cut when too long */
}

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
    notices[0] = '\0';
    (void)PQsetNoticeProcessor(conn, keep_notice, NULL);
}

static void teardown(void)
{
    PQfinish(conn);
    PQfinish(witness);
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    rig_stop(&rig);
}

/* Cancel the commit as soon as it waits; the test's time limit ends this if it never does. */
static void *cancel(void *arg)
{
    PGconn *c = pg_test_connect(conninfo);
    int pid = *(int *)arg;

    while (strcmp(pg_test_sql(c,
                              "SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND "
                              "wait_event = 'SyncRep'",
                              pid),
                  "1") != 0) {
        ck_assert_int_ne(pid, 0);
    }
    (void)pg_test_sql(c, "SELECT pg_cancel_backend(%d)", pid);
    PQfinish(c);
    return NULL;
}

/* A debit of 10 and a message; what commit says when its wait is cancelled. */
static int commit_is_cancelled(void)
{
    struct escrow_message *m = rig_message("Paid", "a debit");
    struct escrow_pg_txn *txn = NULL;
    int pid = PQbackendPID(conn);
    pthread_t thread;
    int rc;

    OK(escrow_pg_begin(producer, conn, &txn));
    (void)pg_test_sql(conn, "UPDATE account SET cents = cents - 10 WHERE id = 1");
    OK(escrow_pg_publish(txn, m));
    ck_assert_int_eq(pthread_create(&thread, NULL, cancel, &pid), 0);
    rc = escrow_pg_commit(&txn);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    escrow_message_free(&m);
    return rc;
}

static void expect(const char *cents, int64_t messages, int64_t undecided)
{
    escrow_producer_free(&producer); /* what it had to say is said */
    ck_assert_str_eq(pg_test_sql(witness, "SELECT cents FROM account"), cents);
    ck_assert_int_eq(rig_undecided(&rig), undecided);
    ck_assert_int_eq(rig_stored(&rig, "Paid", 4), 1 + messages);
}

/* It is left to check-back; the application hears the warning as ever, and the session goes on. */
START_TEST(a_commit_that_the_standby_may_not_have_is_left_to_check_back)
{
    int rc = commit_is_cancelled();

    ck_assert_int_eq(rc, ESCROW_EDB);
    ck_assert_int_eq(escrow_error_class(rc), ESCROW_CLASS_UNKNOWN);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "standby"));
    ck_assert_ptr_nonnull(strstr(notices, "standby"));
    notices[0] = '\0';
    (void)pg_test_sql(conn, "DO $$ BEGIN RAISE NOTICE 'still heard'; END $$");
    ck_assert_ptr_nonnull(strstr(notices, "still heard"));
    expect("90", 0, 1);
}
END_TEST

static void keep_result(void *arg, const PGresult *res)
{
    ck_assert_ptr_eq(arg, notices);
    keep_notice(arg, PQresultErrorMessage(res));
}

/* A receiver of the application's own changes nothing, and stays, with its argument. */
START_TEST(a_receiver_of_the_application_stays_and_hides_nothing)
{
    int rc;

    (void)PQsetNoticeReceiver(conn, keep_result, notices);
    rc = commit_is_cancelled();
    ck_assert_int_eq(rc, ESCROW_EDB);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "standby"));
    ck_assert_ptr_nonnull(strstr(notices, "standby"));
    ck_assert(PQsetNoticeReceiver(conn, NULL, NULL) == keep_result);
    notices[0] = '\0';
    (void)pg_test_sql(conn, "DO $$ BEGIN RAISE NOTICE 'still heard'; END $$");
    ck_assert_ptr_nonnull(strstr(notices, "still heard"));
    expect("90", 0, 1);
}
END_TEST

static void start_pg(void)
{
    static const char *const settings[] = {"synchronous_standby_names=nobody",
                                           "synchronous_commit=local", NULL};

    pg_fixture_start(&pg, settings);
}

static void stop_pg(void)
{
    pg_fixture_stop(&pg);
}

static void add(TCase *tc)
{
    tcase_add_unchecked_fixture(tc, start_pg, stop_pg);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_commit_that_the_standby_may_not_have_is_left_to_check_back);
    tcase_add_test(tc, a_receiver_of_the_application_stays_and_hides_nothing);
}

int main(void)
{
    return rig_main("client_pg_standby", add);
}
