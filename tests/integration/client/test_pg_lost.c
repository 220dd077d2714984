/*
 * The connection to PostgreSQL is lost during COMMIT: nobody knows the outcome, nothing is guessed,
 * and check-back finds it out. Real PostgreSQL, real escrowd, the relay's real check endpoint.
 */
#include "tests/integration/client/rig.h"

#include "escrow/pg.h"
#include "outbox/pg/check_http.h"
#include "tests/integration/client/pg_proxy.h"
#include "tests/lib/pg_fixture.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MESSAGES 3

static const char *const texts[MESSAGES] = {"one", "two", "three"};

static struct pg_fixture pg;
static char conninfo[160];
static struct pg_proxy proxy;
static struct rig rig;
static struct bag bag;
static PGconn *conn; /* through the proxy */
static PGconn *witness;
static struct escrow_client *service;
static struct escrow_client *reader;
static struct escrow_producer *producer;
static struct escrow_consumer *consumer;

/* The check endpoint: it listens from the start, and answers when the test runs its loop. */
static struct loop loop;
static struct checker *checker;
static struct check_http *endpoint;
static char callback[64];

static void setup(void)
{
    const char *const args[] = {"--txn.timeout.ms",
                                "50",
                                "--txn.check.interval.ms",
                                "100",
                                "--txn.check.interval.max.ms",
                                "200",
                                "--callback.timeout.ms",
                                "500",
                                "--callback",
                                callback,
                                NULL};
    char name[32];

    (void)snprintf(name, sizeof name, "t%ld", (long)getpid());
    pg_fixture_database(&pg, name, conninfo, sizeof conninfo);
    pg_proxy_start(&proxy, pg.folder, name);
    conn = pg_test_connect(proxy.conninfo);
    witness = pg_test_connect(conninfo);
    (void)pg_test_sql(witness, "CREATE TABLE account (id int PRIMARY KEY, cents int)");
    (void)pg_test_sql(witness, "INSERT INTO account VALUES (1, 100)");
    OK(loop_init(&loop));
    checker = checker_new(&loop, conninfo, 2);
    ck_assert_ptr_nonnull(checker);
    OK(check_http_new(&loop, checker, "127.0.0.1:0", &endpoint, NULL));
    (void)snprintf(callback, sizeof callback, "bank=http://127.0.0.1:%u/check",
                   check_http_port(endpoint));
    rig_start(&rig, args);
    bag_init(&bag);
    service = rig_client(&rig);
    reader = rig_client(&rig);
    OK(escrow_producer_new(service, "bank", NULL, &producer));
    OK(rig_send(producer, "Paid", "creates the topic"));
    consumer = rig_consume(reader, "readers", "Paid", "*", NULL, bag_handler, &bag);
    bag_wait(&bag, 1);
}

static void service_ends(void)
{
    escrow_producer_free(&producer);
    escrow_client_free(&service);
}

static void teardown(void)
{
    escrow_consumer_free(&consumer);
    escrow_client_free(&reader);
    service_ends();
    checker_free(checker);
    check_http_free(endpoint);
    loop_fini(&loop);
    rig_stop(&rig);
    bag_fini(&bag);
    PQfinish(witness);
    PQfinish(conn);
    pg_proxy_stop(&proxy);
}

static void on_tick(void *arg)
{
    (void)arg;
}

/* Let the endpoint answer until the broker has no undecided half left. */
static void answer_until_decided(void)
{
    struct loop_timer tick = {.is_active = false};
    int64_t end_ms;

    loop_time_forget(&loop);
    end_ms = loop_mono_ms(&loop) + RIG_WAIT_MS;
    loop_timer_start(&loop, &tick, 5, 5, on_tick, NULL);
    while (rig_undecided(&rig) > 0) {
        ck_assert_msg(loop_mono_ms(&loop) < end_ms, "the halves stay undecided");
        loop_run_once(&loop, true);
    }
    loop_timer_stop(&loop, &tick);
}

/* A debit and three messages, with the connection cut in the COMMIT. */
static void commit_is_cut(enum pg_cut cut)
{
    struct escrow_pg_txn *txn = NULL;
    int rc;

    OK(escrow_pg_begin(producer, conn, &txn));
    (void)pg_test_sql(conn, "UPDATE account SET cents = cents - 10 WHERE id = 1");
    for (int i = 0; i < MESSAGES; i++) {
        struct escrow_message *m = rig_message("Paid", texts[i]);
        OK(escrow_pg_publish(txn, m));
        escrow_message_free(&m);
    }
    atomic_store(&proxy.cut_at, cut);
    rc = escrow_pg_commit(&txn);
    ck_assert(atomic_load(&proxy.has_cut));
    ck_assert_ptr_null(txn);
    ck_assert_int_eq(rc, ESCROW_ECLOSED);
    ck_assert_int_eq(escrow_error_class(rc), ESCROW_CLASS_UNKNOWN);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), "during COMMIT"));
    ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
}

/* Nothing was decided; then the database is asked, and decides as it did itself. */
static void expect_outcome(const char *cents, bool is_committed)
{
    int64_t wanted = is_committed ? MESSAGES : 0;

    service_ends(); /* its last words are out: had it decided, it would be seen */
    ck_assert_int_eq(rig_undecided(&rig), MESSAGES);
    ck_assert_uint_eq(bag_count(&bag), 1);
    answer_until_decided();
    ck_assert_str_eq(pg_test_sql(witness, "SELECT cents FROM account"), cents);
    ck_assert_str_eq(pg_test_sql(witness,
                                 "SELECT count(*) FROM escrow.transaction_marker "
                                 "WHERE kind = '%s'",
                                 is_committed ? "C" : "R"),
                     "3");
    ck_assert_str_eq(pg_test_sql(witness, "SELECT count(*) FROM escrow.transaction_marker"), "3");
    ck_assert_int_eq(rig_stored(&rig, "Paid", 4), 1 + wanted);
    bag_wait(&bag, 1 + (size_t)wanted);
    for (int i = 0; i < MESSAGES; i++) {
        ck_assert_uint_eq(bag_count_of(&bag, texts[i]), is_committed ? 1 : 0);
    }
}

/* COMMIT never arrived: unknown to the caller; check-back rolls the messages back. */
START_TEST(lost_before_commit_arrives_is_rolled_back_by_check_back)
{
    commit_is_cut(PG_CUT_BEFORE);
    expect_outcome("100", false);
}
END_TEST

/* Half of it arrived: the same. */
START_TEST(lost_within_commit_is_rolled_back_by_check_back)
{
    commit_is_cut(PG_CUT_WITHIN);
    expect_outcome("100", false);
}
END_TEST

/* It was committed and the answer was lost: unknown to the caller; check-back commits them. */
START_TEST(lost_after_commit_is_committed_by_check_back)
{
    commit_is_cut(PG_CUT_AFTER);
    expect_outcome("90", true);
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
    tcase_add_test(tc, lost_before_commit_arrives_is_rolled_back_by_check_back);
    tcase_add_test(tc, lost_within_commit_is_rolled_back_by_check_back);
    tcase_add_test(tc, lost_after_commit_is_committed_by_check_back);
}

int main(void)
{
    return rig_main("client_pg_lost", add);
}
