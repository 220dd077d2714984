/* What the relay survives, and what it says. */
#include "escrow/errors.h"
#include "outbox/pg/cleaner.h"
#include "outbox/pg/replay.h"
#include "outbox/pg/status.h"
#include "tests/integration/pg/pg_main.h"
#include "tests/integration/pg/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reconnect(struct rig *r)
{
    PQfinish(r->pg);
    r->pg = pg_test_connect(r->conninfo);
}

START_TEST(a_restart_of_the_database_is_survived)
{
    /* Fast shutdown under the relay; rows from before and after arrive once. */
    struct rig r;

    rig_init(&r, &fixture, "fail_restart", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '2')");
    pg_fixture_shutdown(&fixture);
    rig_until_error(&r, "database");
    rig_run_ms(&r, 100);
    pg_fixture_boot(&fixture);
    reconnect(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '3')");
    rig_until_count(&r, 3);
    ck_assert_str_eq(rig_bodies(&r), "1 2 3");
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(a_lost_connection_is_survived)
{
    /* The session is terminated again and again while messages come. */
    struct rig r;

    rig_init(&r, &fixture, "fail_terminate", 100);
    rig_start(&r);
    for (size_t i = 1; i <= 5; i++) {
        (void)pg_test_sql(r.pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                                "datname = current_database() "
                                "AND application_name = 'escrow-relay'");
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'x')");
        rig_until_count(&r, i);
    }
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(what_a_crash_takes_back_was_not_published)
{
    /*
     * Commits with synchronous_commit = off: the relay makes them durable before it publishes them,
     * and ids that are given out again after a crash do not make rows invisible to it. The server
     * may have flushed what is to be lost by itself: then it is published like any other row.
     */
    struct rig r;
    int losses = 0;

    rig_init(&r, &fixture, "fail_crash", 1000);
    (void)pg_test_sql(r.pg, "ALTER SYSTEM SET wal_writer_delay = '10s'");
    (void)pg_test_sql(r.pg, "SELECT pg_reload_conf()");
    (void)pg_test_sql(r.pg, "CHECKPOINT");
    for (int round = 0; round < 5; round++) {
        size_t before = r.broker.log_count;
        size_t kept;
        (void)pg_test_sql(r.pg, "SET synchronous_commit = off");
        rig_start(&r);
        rig_until_idle(&r);
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'published')");
        rig_until_count(&r, before + 1);
        rig_stop(&r);
        /* Not read, not durable; and an id that is used up by a rollback. */
        (void)pg_test_sql(r.pg, "BEGIN; SELECT escrow.publish('t', 'rolled back'); ROLLBACK");
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'lost')");
        pg_fixture_crash(&fixture);
        reconnect(&r);
        kept = strtoul(pg_test_sql(r.pg, "SELECT count(*) FROM escrow.outbox"), NULL, 10) -
               r.broker.log_count;
        ck_assert_uint_le(kept, 1);
        losses += kept == 0;
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'after')");
        rig_start(&r);
        rig_until_count(&r, before + 2 + kept);
        rig_stop(&r);
        rig_check_books(&r);
    }
    ck_assert_int_gt(losses, 0);
    (void)pg_test_sql(r.pg, "ALTER SYSTEM RESET wal_writer_delay");
    (void)pg_test_sql(r.pg, "SELECT pg_reload_conf()");
    rig_fini(&r);
}
END_TEST

START_TEST(a_crash_while_reading_is_survived)
{
    /* Immediate shutdown in the middle of a backlog, batches in flight. */
    struct rig r;

    rig_init(&r, &fixture, "fail_reading", 5000);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'x') FROM generate_series(1, 300)");
    (void)pg_test_sql(
        r.pg,
        "DO $$ BEGIN FOR i IN 1..300 LOOP PERFORM escrow.publish('t', 'y'); END LOOP; END $$");
    r.cfg.relay.batch_rows_max = 7;
    r.cfg.relay.window_bytes = 50;
    rig_start(&r);
    rig_until_some(&r, 50);
    pg_fixture_crash(&fixture);
    reconnect(&r);
    rig_until_count(&r, 600);
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(what_was_prepared_is_published_when_it_commits)
{
    /* PREPARE is refused after the NOTIFY to a relay that sleeps; the lock is that of one awake. */
    struct rig r;
    PGconn *awake;

    rig_init(&r, &fixture, "fail_prepared", 100);
    (void)pg_test_sql(r.pg, "ALTER SYSTEM SET max_prepared_transactions = 4");
    pg_fixture_restart(&fixture);
    reconnect(&r);
    (void)pg_test_sql(r.pg, "BEGIN; SELECT escrow.publish('t', 'refused')");
    (void)pg_test_fails(r.pg, "0A000", "PREPARE TRANSACTION 'refused'");
    awake = pg_test_connect(r.conninfo);
    (void)pg_test_sql(awake, "SELECT pg_advisory_lock(1702060914, 1)");
    (void)pg_test_sql(r.pg, "BEGIN; SELECT escrow.publish('t', 'committed')");
    (void)pg_test_sql(r.pg, "PREPARE TRANSACTION 'committed'");
    (void)pg_test_sql(r.pg, "BEGIN; SELECT escrow.publish('t', 'rolled back')");
    (void)pg_test_sql(r.pg, "PREPARE TRANSACTION 'rolled back'");
    PQfinish(awake);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'other')");
    rig_until_count(&r, 1);
    (void)pg_test_sql(r.pg, "ROLLBACK PREPARED 'rolled back'");
    (void)pg_test_sql(r.pg, "COMMIT PREPARED 'committed'");
    rig_until_count(&r, 2);
    ck_assert_str_eq(rig_bodies(&r), "other committed");
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(a_missing_schema_is_said_and_then_found)
{
    /* One clear line, no tight loop; installing it is enough. */
    struct rig r;

    rig_init(&r, &fixture, "fail_schema", 100);
    (void)pg_test_sql(r.pg, "DROP SCHEMA escrow CASCADE");
    r.cfg.relay.backoff_max_ms = 500;
    rig_start(&r);
    rig_until_error(&r, "run escrow-relay migrate");
    rig_run_ms(&r, 300);
    ck_assert_uint_le(relay_stats(relay_loop_relay(r.relay))->failures, 4);
    pg_fixture_migrate(r.conninfo);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'x')");
    rig_until_count(&r, 1);
    rig_fini(&r);
}
END_TEST

START_TEST(an_old_schema_is_said)
{
    /* The version is compared when the relay connects. */
    struct rig r;

    rig_init(&r, &fixture, "fail_version", 100);
    (void)pg_test_sql(r.pg, "DELETE FROM escrow.migration WHERE version = 9");
    rig_start(&r);
    rig_until_error(&r, "has version 8");
    rig_fini(&r);
}
END_TEST

START_TEST(a_schema_that_nobody_wrote_down_is_said)
{
    /* The files were run by hand, without the rows: what to do, and no tight loop. */
    struct rig r;

    rig_init(&r, &fixture, "fail_unrecorded", 100);
    (void)pg_test_sql(r.pg, "CREATE TABLE kept AS SELECT * FROM escrow.migration; "
                            "DELETE FROM escrow.migration");
    r.cfg.relay.backoff_max_ms = 500;
    rig_start(&r);
    rig_until_error(&r, "escrow.migration has no row: the files of sql/ were run by hand");
    rig_run_ms(&r, 300);
    ck_assert_uint_le(relay_stats(relay_loop_relay(r.relay))->failures, 4);
    (void)pg_test_sql(r.pg, "INSERT INTO escrow.migration SELECT * FROM kept");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'x')");
    rig_until_count(&r, 1);
    rig_fini(&r);
}
END_TEST

START_TEST(a_newer_schema_is_said)
{
    /* As migrate says it: nothing is published on the terms of a schema that is not known here. */
    struct rig r;

    rig_init(&r, &fixture, "fail_newer", 100);
    (void)pg_test_sql(r.pg, "INSERT INTO escrow.migration VALUES (99, 'future', 'x')");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'x')");
    rig_start(&r);
    rig_until_error(&r, "the schema has version 99, this program knows only");
    ck_assert_uint_eq(r.broker.log_count, 0);
    (void)pg_test_sql(r.pg, "DELETE FROM escrow.migration WHERE version = 99");
    rig_until_count(&r, 1);
    rig_fini(&r);
}
END_TEST

START_TEST(a_wrong_password_is_said_and_not_hammered)
{
    /* pg_hba.conf asks for one; after it is mended the relay goes on. */
    struct rig r;
    char conninfo[256];

    rig_init(&r, &fixture, "fail_password", 100);
    (void)pg_test_sql(r.pg, "CREATE ROLE guest LOGIN SUPERUSER PASSWORD 'right'");
    pg_fixture_hba(&fixture, "local all guest scram-sha-256");
    (void)pg_test_sql(r.pg, "SELECT pg_reload_conf()");
    (void)snprintf(conninfo, sizeof conninfo,
                   "host=%s user=guest password=wrong dbname=fail_password", fixture.folder);
    r.cfg.conninfo = conninfo;
    r.cfg.relay.backoff_max_ms = 1000;
    rig_start(&r);
    rig_until_error(&r, "password authentication failed");
    rig_run_ms(&r, 600);
    ck_assert_uint_le(relay_stats(relay_loop_relay(r.relay))->failures, 4);
    (void)pg_test_sql(r.pg, "ALTER ROLE guest PASSWORD 'wrong'");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'x')");
    rig_until_count(&r, 1);
    rig_stop(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(the_relay_needs_no_more_than_its_role)
{
    /* roles.sql: publisher, relay and checker each do their work and nothing else. */
    struct rig r;
    PGconn *publisher;
    char conninfo[256];

    rig_init(&r, &fixture, "fail_roles", 100);
    pg_fixture_roles(r.conninfo);
    (void)pg_test_sql(r.pg, "CREATE ROLE service LOGIN IN ROLE escrow_publisher");
    (void)pg_test_sql(r.pg, "CREATE ROLE mover LOGIN IN ROLE escrow_relay");
    (void)snprintf(conninfo, sizeof conninfo, "host=%s user=service dbname=fail_roles",
                   fixture.folder);
    publisher = pg_test_connect(conninfo);
    (void)pg_test_sql(publisher, "SELECT escrow.publish('t', '1', properties => '{\"a\": 1}')");
    (void)pg_test_sql(publisher,
                      "SELECT escrow.publish_text('t', '2'), escrow.publish_json('t', '{}')");
    (void)pg_test_sql(publisher, "SELECT escrow.transaction_mark('t1')");
    (void)pg_test_sql(publisher, "INSERT INTO escrow.marking VALUES ('t2', 'a#1', 1)");
    (void)pg_test_fails(publisher, "42501", "SELECT * FROM escrow.marking");
    (void)pg_test_fails(publisher, "42501", "DELETE FROM escrow.marking");
    (void)pg_test_fails(publisher, "42501",
                        "INSERT INTO escrow.transaction_marker (txn_id) VALUES ('t3')");
    (void)pg_test_fails(publisher, "42501", "SELECT * FROM escrow.outbox");
    (void)pg_test_fails(publisher, "42501", "SELECT escrow.outbox_rotate()");
    (void)pg_test_fails(publisher, "42501",
                        "SELECT escrow.transaction_check('t1', NULL, NULL, NULL, NULL)");
    (void)snprintf(conninfo, sizeof conninfo, "host=%s user=mover dbname=fail_roles",
                   fixture.folder);
    r.cfg.conninfo = conninfo;
    rig_start(&r);
    rig_until_count(&r, 3);
    rig_run_ms(&r, 100); /* a report and a rotation, with these rights */
    ck_assert_uint_eq(relay_stats(relay_loop_relay(r.relay))->failures, 0);
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT sum(rows_acked) FROM escrow.reader"), "3");
    PQfinish(publisher);
    rig_stop(&r);
    rig_fini(&r);
}
END_TEST

static bool has_cleaned(void *arg)
{
    return cleaner_removed(arg) > 0;
}

START_TEST(a_role_that_only_reads_by_default_is_enough)
{
    /* Settings of the role count from the first message on: of relay, cleaner and replay. */
    struct rig r;
    struct cleaner *cleaner;
    struct cleaner_config cfg = {.interval_ms = 10, .keep_ms = 1, .keep_tombstone_ms = 1};
    struct err_ctx err;
    uint64_t rows;
    char conninfo[256];

    rig_init(&r, &fixture, "fail_reads", 100);
    pg_fixture_roles(r.conninfo);
    (void)pg_test_sql(r.pg, "CREATE ROLE wary LOGIN IN ROLE escrow_relay; "
                            "ALTER ROLE wary SET default_transaction_read_only = on; "
                            "ALTER ROLE wary SET default_transaction_isolation = 'serializable'");
    (void)pg_test_sql(r.pg, "INSERT INTO escrow.transaction_marker (txn_id, kind, created_at) "
                            "VALUES ('r', 'R', now() - interval '1 day')");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    (void)snprintf(conninfo, sizeof conninfo, "host=%s user=wary dbname=fail_reads",
                   fixture.folder);
    r.cfg.conninfo = conninfo;
    rig_start(&r);
    rig_until_count(&r, 1);
    ck_assert_uint_eq(relay_stats(relay_loop_relay(r.relay))->failures, 0);
    cfg.conninfo = conninfo;
    r.broker.brokers[0] = (struct sink_broker){.name = "a#1"};
    r.broker.broker_count = 1;
    cleaner = cleaner_new(&r.loop, &r.broker.sink, &cfg);
    ck_assert_ptr_nonnull(cleaner);
    rig_until(&r, has_cleaned, cleaner, "a removed tombstone");
    cleaner_free(cleaner);
    ck_assert_msg(replay_run(conninfo, "true", &rows, &err) == 0, "%s", err.text);
    rig_stop(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(a_broker_that_is_down_is_survived)
{
    /* Messages wait in the table. */
    struct rig r;

    rig_init(&r, &fixture, "fail_broker", 100);
    r.broker.is_down = true;
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_error(&r, "the broker is not there");
    r.broker.is_down = false;
    rig_until_count(&r, 1);
    r.broker.is_down = true;
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '2')");
    rig_until_error(&r, "nothing was sent");
    r.broker.is_down = false;
    rig_until_count(&r, 2);
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(a_batch_that_is_refused_is_sent_again)
{
    /* A full disk at the broker, say: the same rows again, later, in order. */
    struct rig r;

    rig_init(&r, &fixture, "fail_refused", 100);
    r.cfg.relay.batch_rows_max = 1;
    (void)pg_test_sql(r.pg,
                      "SELECT escrow.publish('t', i::text::bytea) FROM generate_series(1, 9) i");
    r.broker.fail_code = ESCROW_ENOSPC;
    rig_start(&r);
    rig_until_error(&r, "no space left");
    rig_until_count(&r, 9);
    ck_assert_str_eq(rig_bodies(&r), "1 2 3 4 5 6 7 8 9");
    rig_fini(&r);
}
END_TEST

static const char *status_text(struct rig *r)
{
    static char text[16384];
    struct buf out;
    struct err_ctx err;

    buf_init(&out, 0);
    ck_assert_msg(status_run(r->conninfo, false, &out, &err) == 0, "%s", err.text);
    (void)slice_to_cstr(buf_slice(&out), text, sizeof text);
    buf_fini(&out);
    return text;
}

static bool has_taken_it_back(void *arg)
{
    struct rig *r = arg;

    return strcmp(pg_test_sql(r->pg, "SELECT error IS NULL AND error_count = 0 FROM escrow.reader"),
                  "t") == 0;
}

static bool has_failed_to_open(void *arg)
{
    struct rig *r = arg;

    return relay_stats(relay_loop_relay(r->relay))->auth_failures >= 5;
}

START_TEST(a_refusal_for_a_moment_parks_nothing)
{
    /*
     * Not permitted, once: to a row alone, which a broker says that does not tell keys from rights.
     * Not authenticated, for long, at batches and opens. Everything arrives.
     */
    struct rig r;

    rig_init(&r, &fixture, "fail_moment", 100);
    r.broker.fail_code = ESCROW_EPERM;
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_start(&r);
    rig_until_error(&r, "not permitted; tried once more");
    rig_until_count(&r, 1);
    r.broker.is_down = true;
    r.broker.down_code = ESCROW_EAUTH;
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '2')");
    rig_until_error(&r, "not authenticated");
    rig_until(&r, has_failed_to_open, &r, "refusals of keys");
    ck_assert_ptr_nonnull(strstr(status_text(&r), "not authenticated: "));
    ck_assert_ptr_nonnull(
        strstr(status_text(&r), "FAILING: nothing is published until it is over"));
    ck_assert_ptr_nonnull(
        strstr(status_text(&r), "mend what the error says; escrow-relay need not"));
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT error_count >= 3 AND error_since < now() "
                                       "FROM escrow.reader"),
                     "t");
    r.broker.is_down = false;
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '3')");
    rig_until_count(&r, 3);
    ck_assert_str_eq(rig_bodies(&r), "1 2 3");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT count(*) FROM escrow.outbox_parked"), "0");
    ck_assert_int_eq(relay_error(relay_loop_relay(r.relay))->code, 0);
    rig_until(&r, has_taken_it_back, &r, "the end of the error in the database");
    ck_assert_ptr_null(strstr(status_text(&r), "not authenticated"));
    ck_assert_ptr_nonnull(strstr(status_text(&r), "well, as of its last report"));
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(names_of_hosts_are_looked_up)
{
    /*
     * A name without an address is said; a list goes on with the rest; localhost and addresses work
     * as far as a refusal.
     */
    static const char *const cases[][2] = {
        {"host=no-such-host.invalid", "host name \"no-such-host.invalid\""},
        {"host=no-such-host.invalid,127.0.0.1 port=1,2 dbname=x", "port 2 failed"},
        {"host=localhost port=1 dbname=x", "port 1 failed"},
        {"postgresql://[::1]:1/x", "port 1 failed"},
        {"host=127.0.0.1,localhost port=1 dbname=x", "port 1 failed"},
    };
    struct rig r;

    rig_init(&r, &fixture, "fail_names", 10);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r.cfg.conninfo = cases[i][0];
        rig_start(&r);
        rig_until_error(&r, cases[i][1]);
        rig_stop(&r);
    }
    rig_fini(&r);
}
END_TEST

START_TEST(a_lookup_under_way_does_not_keep_the_relay)
{
    /* Stopped while the name server is being asked. */
    struct rig r;

    rig_init(&r, &fixture, "fail_lookup", 10);
    for (int i = 0; i < 5; i++) {
        r.cfg.conninfo = "host=no-such-host.invalid";
        rig_start(&r);
        rig_stop(&r);
    }
    rig_fini(&r);
}
END_TEST

static void add_tests(Suite *suite)
{
    ADD(suite, a_restart_of_the_database_is_survived);
    ADD(suite, a_lost_connection_is_survived);
    ADD(suite, what_a_crash_takes_back_was_not_published);
    ADD(suite, a_crash_while_reading_is_survived);
    ADD(suite, what_was_prepared_is_published_when_it_commits);
    ADD(suite, a_missing_schema_is_said_and_then_found);
    ADD(suite, an_old_schema_is_said);
    ADD(suite, a_schema_that_nobody_wrote_down_is_said);
    ADD(suite, a_newer_schema_is_said);
    ADD(suite, a_wrong_password_is_said_and_not_hammered);
    ADD(suite, the_relay_needs_no_more_than_its_role);
    ADD(suite, a_role_that_only_reads_by_default_is_enough);
    ADD(suite, a_broker_that_is_down_is_survived);
    ADD(suite, a_batch_that_is_refused_is_sent_again);
    ADD(suite, a_refusal_for_a_moment_parks_nothing);
    ADD(suite, names_of_hosts_are_looked_up);
    ADD(suite, a_lookup_under_way_does_not_keep_the_relay);
}
