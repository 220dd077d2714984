/*
 * Several brokers hold halves of one database: the marker of a committed transaction outlives a
 * broker that is down. Real PostgreSQL, two real escrowd, the relay's real cleaner and check
 * endpoint.
 */
#include "tests/integration/client/rig.h"

#include "escrow/pg.h"
#include "outbox/pg/check_http.h"
#include "outbox/pg/cleaner.h"
#include "src/relay/broker_sink.h"
#include "tests/lib/pg_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct pg_fixture pg;
static char conninfo[160];
static PGconn *conn;
static struct rig a; /* the relay's broker */
static struct rig b; /* the service's */
static struct escrow_client *client;
static struct escrow_producer *producer;
static char name_a[96]; /* as markers have it */
static char name_b[96];

/* The relay's parts, on the test's loop. */
static struct loop loop;
static struct loop_timer tick;
static struct checker *checker;
static struct check_http *endpoint;
static char callback[64];
static struct remote remote;
static struct broker_sink *sink;
static struct cleaner *cleaner;

static void on_tick(void *arg)
{
    (void)arg;
}

static void relay_start(const char *namesrv)
{
    struct horizons_config brokers = {
        .broker = a.broker, .brokers = "", .namesrv = namesrv, .timeout_ms = 300};
    struct cleaner_config clean = {
        .conninfo = conninfo, .interval_ms = 20, .keep_ms = 0, .keep_tombstone_ms = 3600000};
    struct remote_options options;

    remote_options_init(&options);
    OK(remote_init(&remote, &loop, (struct hash_key){1, 2}, &options));
    sink = broker_sink_new(&remote, &brokers);
    ck_assert_ptr_nonnull(sink);
    cleaner = cleaner_new(&loop, broker_sink_sink(sink), &clean);
    ck_assert_ptr_nonnull(cleaner);
    loop_timer_start(&loop, &tick, 5, 5, on_tick, NULL);
}

static void relay_stop(void)
{
    loop_timer_stop(&loop, &tick);
    cleaner_stop(cleaner);
    remote_fini(&remote);
    cleaner_free(cleaner);
    broker_sink_free(sink);
}

/* Start both; with_a: B tells A's name server too. */
static void brokers_start(bool with_a)
{
    const char *const args_a[] = {"--broker.name", "escrow-a", NULL};
    const char *args_b[] = {"--txn.timeout.ms",
                            "50",
                            "--txn.check.interval.ms",
                            "100",
                            "--txn.check.interval.max.ms",
                            "200",
                            "--callback.timeout.ms",
                            "500",
                            "--callback",
                            callback,
                            with_a ? "--namesrv.addrs" : NULL,
                            a.name_server,
                            "--role",
                            "broker",
                            "--broker.name",
                            "escrow-b",
                            NULL};

    rig_start(&a, args_a);
    if (with_a) {
        rig_start_broker(&b, args_b);
    } else {
        rig_start(&b, args_b);
    }
    rig_identity(&a, name_a, sizeof name_a);
    rig_identity(&b, name_b, sizeof name_b);
}

static void setup(void)
{
    char name[32];

    (void)snprintf(name, sizeof name, "t%ld", (long)getpid());
    pg_fixture_database(&pg, name, conninfo, sizeof conninfo);
    conn = pg_test_connect(conninfo);
    OK(loop_init(&loop));
    checker = checker_new(&loop, conninfo, 2);
    ck_assert_ptr_nonnull(checker);
    OK(check_http_new(&loop, checker, "127.0.0.1:0", &endpoint, NULL));
    (void)snprintf(callback, sizeof callback, "bank=http://127.0.0.1:%u/check",
                   check_http_port(endpoint));
}

static void teardown(void)
{
    relay_stop();
    checker_free(checker);
    check_http_free(endpoint);
    loop_fini(&loop);
    rig_stop(&b);
    rig_stop(&a);
    PQfinish(conn);
}

/* Run the relay's parts until it has removed `count` markers in all. */
static void clean_until(uint64_t count)
{
    int64_t end_ms;

    loop_time_forget(&loop);
    end_ms = loop_mono_ms(&loop) + RIG_WAIT_MS;
    while (cleaner_removed(cleaner) < count) {
        ck_assert_msg(loop_mono_ms(&loop) < end_ms, "markers are not removed");
        loop_run_once(&loop, true);
    }
    ck_assert_uint_eq(cleaner_removed(cleaner), count);
}

static void mark(const char *txn_id, const char *broker)
{
    (void)pg_test_sql(conn, "SELECT escrow.transaction_mark('%s', nullif('%s', ''))", txn_id,
                      broker);
}

static const char *markers(void)
{
    return pg_test_sql(conn, "SELECT string_agg(coalesce(broker, '-'), ' ' ORDER BY broker) FROM "
                             "escrow.transaction_marker");
}

static void *commit(void *arg)
{
    struct escrow_pg_txn **txn = arg;

    OK(escrow_pg_commit(txn));
    return NULL;
}

/*
 * A half at B, which dies before it hears the decision; the transaction commits: its COMMIT waits
 * for a lock of the test's until B is dead.
 */
static void commit_while_b_dies(void)
{
    struct escrow_message *m = rig_message("Paid", "debit");
    struct escrow_pg_txn *txn = NULL;
    PGconn *other = pg_test_connect(conninfo);
    pthread_t thread;

    (void)pg_test_sql(other,
                      "CREATE TABLE account (id int); CREATE FUNCTION hold() RETURNS trigger "
                      "LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN "
                      "NULL; END'; CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON account "
                      "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold()");
    (void)pg_test_sql(other, "SELECT pg_advisory_lock(1)");

    client = rig_client(&b);
    OK(escrow_producer_new(client, "bank", NULL, &producer));
    OK(rig_send(producer, "Paid", "creates the topic"));
    OK(escrow_pg_begin(producer, conn, &txn));
    (void)pg_test_sql(conn, "INSERT INTO account VALUES (1)");
    OK(escrow_pg_publish(txn, m));
    ck_assert_int_eq(pthread_create(&thread, NULL, commit, &txn), 0);
    while (strcmp(pg_test_sql(other, "SELECT count(*) FROM pg_locks WHERE NOT granted"), "1") !=
           0) {
    }
    rig_kill(&b);
    (void)pg_test_sql(other, "SELECT pg_advisory_unlock(1)");
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    PQfinish(other);
    escrow_message_free(&m);
    escrow_producer_free(&producer);
    escrow_client_free(&client);
}

/*
 * Shows: the relay's broker has nothing undecided, and rounds of cleaning pass; the other one comes
 * back, asks, and hears that it was committed.
 */
START_TEST(a_marker_outlives_the_broker_that_is_down)
{
    brokers_start(false);
    commit_while_b_dies();
    ck_assert_str_eq(markers(), name_b);
    relay_start(a.name_server);
    mark("done", name_a);
    clean_until(1);
    mark("done too", "");
    clean_until(2); /* a person said that A's name server knows all: B is none of them */
    ck_assert_str_eq(markers(), name_b);
    rig_restart(&b);
    loop_time_forget(&loop);
    while (rig_undecided(&b) > 0) {
        loop_run_once(&loop, true);
    }
    ck_assert_int_eq(rig_stored(&b, "Paid", 4), 2);
    ck_assert_str_eq(pg_test_sql(conn, "SELECT escrow.broker_drop('%s')", name_b), "1");
}
END_TEST

/*
 * Shows: another broker with the same name and address, and nothing undecided, does not speak for
 * the one that is down.
 */
START_TEST(a_marker_outlives_a_broker_that_has_a_double)
{
    struct rig twin;
    char name_twin[sizeof name_b];

    brokers_start(false);
    commit_while_b_dies();
    rig_start_twin(&twin, &b);
    rig_identity(&twin, name_twin, sizeof name_twin);
    ck_assert_uint_eq(strcspn(name_twin, "#"), strcspn(name_b, "#"));
    ck_assert_int_eq(strncmp(name_twin, name_b, strcspn(name_b, "#") + 1), 0);
    ck_assert_str_ne(name_twin, name_b);
    relay_start(b.name_server); /* the double's too */
    mark("done", name_twin);
    clean_until(1);
    ck_assert_str_eq(markers(), name_b);
    rig_stop(&twin);
    rig_restart(&b);
    loop_time_forget(&loop);
    while (rig_undecided(&b) > 0) {
        loop_run_once(&loop, true);
    }
    ck_assert_int_eq(rig_stored(&b, "Paid", 4), 2);
}
END_TEST

/*
 * Shows: markers that name no broker wait for every broker of the name server; each broker's own go
 * when it has passed them.
 */
START_TEST(unnamed_markers_wait_for_every_broker)
{
    char both[256];

    brokers_start(true);
    relay_start(a.name_server);
    mark("1", name_a);
    mark("2", name_b);
    mark("3", "");
    clean_until(3);
    rig_kill(&b);
    mark("4", "");
    mark("5", name_b);
    mark("6", name_a);
    clean_until(4);
    mark("7", name_a);
    clean_until(5);
    (void)snprintf(both, sizeof both, "%s -", name_b);
    ck_assert_str_eq(markers(), both);
    rig_restart(&b);
    clean_until(7);
}
END_TEST

/* Shows: a relay that was told of no other broker removes only what names its own. */
START_TEST(a_relay_that_knows_one_broker_leaves_what_it_cannot_judge)
{
    brokers_start(false);
    relay_start("");
    mark("1", "");
    mark("2", name_b);
    mark("3", name_a);
    clean_until(1);
    mark("4", name_a);
    clean_until(2);
    ck_assert_str_eq(pg_test_sql(conn, "SELECT string_agg(txn_id, ' ' ORDER BY txn_id) FROM "
                                       "escrow.transaction_marker"),
                     "1 2");
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
    tcase_add_test(tc, a_marker_outlives_the_broker_that_is_down);
    tcase_add_test(tc, a_marker_outlives_a_broker_that_has_a_double);
    tcase_add_test(tc, unnamed_markers_wait_for_every_broker);
    tcase_add_test(tc, a_relay_that_knows_one_broker_leaves_what_it_cannot_judge);
}

int main(void)
{
    return rig_main("client_pg_brokers", add);
}
