/* Installing and upgrading the schema; removing markers. */
#include "escrow/errors.h"
#include "outbox/pg/cleaner.h"
#include "outbox/pg/conn.h"
#include "outbox/pg/migrate.h"
#include "outbox/pg/schema.h"
#include "outbox/pg/status.h"
#include "tests/integration/pg/pg_main.h"
#include "tests/integration/pg/rig.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static PGconn *database_in(const char *name, const char *encoding, char *conninfo, size_t size)
{
    PGconn *pg = pg_test_connect(fixture.conninfo);

    (void)pg_test_sql(pg, "DROP DATABASE IF EXISTS %s", name);
    (void)pg_test_sql(pg,
                      "CREATE DATABASE %s ENCODING '%s' LC_COLLATE 'C' LC_CTYPE 'C' "
                      "TEMPLATE template0",
                      name, encoding);
    PQfinish(pg);
    (void)snprintf(conninfo, size, "host=%s user=escrow dbname=%s", fixture.folder, name);
    return pg_test_connect(conninfo);
}

static PGconn *empty_database(const char *name, char *conninfo, size_t size)
{
    return database_in(name, "UTF8", conninfo, size);
}

static const char *status_text(const char *conninfo)
{
    static char text[16384];
    struct buf out;
    struct err_ctx err;

    buf_init(&out, 0);
    ck_assert_msg(status_run(conninfo, false, &out, &err) == 0, "%s", err.text);
    ck_assert_uint_lt(out.len, sizeof text);
    memcpy(text, out.ptr, out.len);
    text[out.len] = '\0';
    buf_fini(&out);
    return text;
}

START_TEST(every_version_upgrades_to_the_newest)
{
    /*
     * Each prefix of the list is installed and goes on from there; a second run has nothing to do.
     */
    char conninfo[160];
    struct err_ctx err;

    for (int from = 0; from <= SCHEMA_VERSION; from++) {
        PGconn *pg = empty_database("mig_upgrade", conninfo, sizeof conninfo);
        struct migrate_result result;
        ck_assert_int_eq(migrate_run(conninfo, from, &result, &err), 0);
        ck_assert_int_eq(result.version_after, from);
        if (from > 0) { /* a relay was at work, and has not been since */
            (void)pg_test_sql(pg, "SELECT escrow.reader_register('s', 0)");
            (void)pg_test_sql(pg, "SELECT escrow.reader_report('s', 0, pg_current_snapshot(), 1)");
        }
        ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), 0);
        ck_assert_int_eq(result.version_before, from);
        ck_assert_int_eq(result.version_after, SCHEMA_VERSION);
        ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), 0);
        ck_assert_int_eq(result.version_before, SCHEMA_VERSION);
        (void)pg_test_sql(pg, "SELECT escrow.publish('t', '1')");
        (void)pg_test_sql(pg, "SELECT escrow.outbox_rotate(1)");
        (void)pg_test_sql(pg, "SELECT escrow.outbox_rotate(1)");
        ck_assert_ptr_nonnull(strstr(status_text(conninfo), from > 0
                                                                ? "state                 well, as "
                                                                  "of its last report"
                                                                : "none yet: escrow-relay"));
        PQfinish(pg);
    }
}
END_TEST

START_TEST(who_may_mark_may_mark_through_the_view)
{
    /* The upgrade gives the right to the view to whoever had that to the function. */
    char conninfo[160];
    struct migrate_result result;
    struct err_ctx err;
    PGconn *pg = empty_database("mig_rights", conninfo, sizeof conninfo);

    ck_assert_int_eq(migrate_run(conninfo, 4, &result, &err), 0);
    (void)pg_test_sql(pg, "CREATE ROLE \"My Service\"; CREATE ROLE stranger");
    (void)pg_test_sql(pg, "GRANT EXECUTE ON FUNCTION escrow.transaction_mark(text, text, bigint) "
                          "TO \"My Service\"");
    ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), 0);
    ck_assert_str_eq(
        pg_test_sql(pg, "SELECT has_table_privilege('My Service', 'escrow.marking', 'INSERT')"),
        "t");
    ck_assert_str_eq(pg_test_sql(pg, "SELECT has_table_privilege('My Service', 'escrow.marking', "
                                     "'SELECT, UPDATE, DELETE')"),
                     "f");
    ck_assert_str_eq(
        pg_test_sql(pg, "SELECT has_table_privilege('stranger', 'escrow.marking', 'INSERT')"), "f");
    PQfinish(pg);
}
END_TEST

START_TEST(what_was_parked_before_can_be_replayed)
{
    /* By a version that knew no order: by id; only what is left in the outbox may be unpassed. */
    char conninfo[160];
    struct err_ctx err;
    struct migrate_result result;
    PGconn *pg = empty_database("mig_parked", conninfo, sizeof conninfo);

    ck_assert_int_eq(migrate_run(conninfo, 4, &result, &err), 0);
    (void)pg_test_sql(pg, "SELECT escrow.publish('t', '1')");
    (void)pg_test_sql(pg, "INSERT INTO escrow.outbox_parked (source, lane, id, created_at, topic, "
                          "body, error) SELECT 's', 0, i, now(), 't', '', 'e' "
                          "FROM unnest('{7,1,3}'::bigint[]) AS i");
    ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), 0);
    ck_assert_str_eq(pg_test_sql(pg, "SELECT string_agg(id || CASE WHEN xid IS NULL THEN '' ELSE "
                                     "'?' END, ' ' ORDER BY number) FROM escrow.outbox_parked"),
                     "1? 3 7");
    ck_assert_str_eq(pg_test_sql(pg, "SELECT escrow.parked_replay('{3,7}')"), "2");
    PQfinish(pg);
}
END_TEST

START_TEST(many_at_once_install_it_once)
{
    /* Eight processes; all succeed. */
    char conninfo[160];
    PGconn *pg = empty_database("mig_race", conninfo, sizeof conninfo);
    pid_t pids[8];

    for (int i = 0; i < 8; i++) {
        pids[i] = fork();
        ck_assert_int_ge(pids[i], 0);
        if (pids[i] == 0) {
            struct migrate_result result;
            struct err_ctx err;
            _exit(migrate_run(conninfo, SCHEMA_VERSION, &result, &err) == 0 ? 0 : 1);
        }
    }
    for (int i = 0; i < 8; i++) {
        int status = 0;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(WEXITSTATUS(status), 0);
    }
    ck_assert_str_eq(pg_test_sql(pg, "SELECT count(*) FROM escrow.migration"), "9");
    PQfinish(pg);
}
END_TEST

START_TEST(what_is_wrong_is_said_and_changes_nothing)
{
    /* A changed file, a newer database, an object in the way, no rows, no server. */
    char conninfo[160];
    struct err_ctx err;
    struct migrate_result result;
    PGconn *pg = empty_database("mig_wrong", conninfo, sizeof conninfo);

    (void)pg_test_sql(pg, "CREATE SCHEMA escrow; CREATE TABLE escrow.transaction_marker (x int)");
    ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), ESCROW_EDB);
    ck_assert_ptr_nonnull(strstr(err.text, "002_transaction"));
    ck_assert_ptr_nonnull(strstr(err.text, "if the file was run by hand"));
    ck_assert_int_eq(result.version_after, 1);
    (void)pg_test_sql(pg, "DROP TABLE escrow.transaction_marker");
    ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), 0);
    (void)pg_test_sql(pg, "UPDATE escrow.migration SET checksum = 'another' WHERE version = 2");
    ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), ESCROW_ECONFLICT);
    ck_assert_ptr_nonnull(strstr(err.text, "002_transaction was changed"));
    (void)pg_test_sql(pg, "DELETE FROM escrow.migration");
    ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), ESCROW_ECONFLICT);
    ck_assert_ptr_nonnull(strstr(err.text, "escrow.migration has no row: the files of sql/"));
    (void)pg_test_sql(pg, "DROP SCHEMA escrow CASCADE");
    ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), 0);
    (void)pg_test_sql(pg, "INSERT INTO escrow.migration VALUES (10, '010_future', '')");
    ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), ESCROW_EVERSION);
    ck_assert_int_eq(migrate_run("host=/nowhere", SCHEMA_VERSION, &result, &err), ESCROW_ECONN);
    PQfinish(pg);
}
END_TEST

START_TEST(the_status_names_what_holds_back)
{
    /* Lag, an open transaction, a lock; the same as JSON. Nothing in it can command a terminal. */
    struct rig r;
    struct buf text;
    struct err_ctx err;
    struct pg_error said;
    PGconn *other;
    PGresult *res;

    rig_init(&r, &fixture, "mig_status", 10);
    other = pg_test_connect(r.conninfo);
    (void)pg_test_sql(r.pg, "SELECT escrow.reader_register('test', 0)");
    (void)pg_test_sql(r.pg, "SELECT escrow.reader_register(E'evil\\x1b[2J\\u009bä', 0)");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '12345')");
    (void)pg_test_sql(other,
                      "SET application_name = 'the culprit'; BEGIN; SELECT pg_current_xact_id(); "
                      "LOCK TABLE escrow.outbox_2 IN ACCESS SHARE MODE");
    buf_init(&text, 0);
    ck_assert_msg(status_run(r.conninfo, false, &text, &err) == 0, "%s", err.text);
    buf_append_u8(&text, 0);
    ck_assert_ptr_nonnull(strstr((char *)text.ptr, "the culprit"));
    ck_assert_ptr_nonnull(
        strstr((char *)text.ptr, "source                evil\\x1b[2J\\xc2\\x9bä"));
    ck_assert_ptr_null(strchr((char *)text.ptr, 0x1b));
    ck_assert_ptr_nonnull(strstr((char *)text.ptr, "outbox_2"));
    ck_assert_ptr_nonnull(strstr((char *)text.ptr, "lag_bytes             5"));
    buf_clear(&text);
    ck_assert_int_eq(status_run(r.conninfo, true, &text, &err), 0);
    buf_append_u8(&text, 0);
    (void)pg_test_sql(r.pg, "CREATE TABLE said (doc jsonb)");
    {
        const char *values[] = {(char *)text.ptr};
        res = PQexecParams(r.pg, "INSERT INTO said VALUES ($1)", 1, NULL, values, NULL, NULL, 0);
        ck_assert_msg(PQresultStatus(res) == PGRES_COMMAND_OK, "%s", PQerrorMessage(r.pg));
        PQclear(res);
    }
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT doc->'readers'->1->>'lag_rows' FROM said"), "1");
    res = PQexec(r.pg, "DO $$BEGIN RAISE E'a\\x1b[2J'; END$$");
    pg_error_set(&said, r.pg, res);
    PQclear(res);
    ck_assert_str_eq(said.text, "a?[2J");
    buf_fini(&text);
    PQfinish(other);
    rig_fini(&r);
}
END_TEST

static bool is_clean(void *arg)
{
    return cleaner_removed(arg) >= 5;
}

START_TEST(only_markers_that_nobody_can_ask_about_are_removed)
{
    /*
     * Before the oldest undecided half in the log of their broker, whatever the clocks say; older
     * than that half when they do not say where they are, or than that of every broker when they
     * name none; for tombstones, older than their time. What is young, or names a broker that did
     * not answer, stays.
     */
    struct rig r;
    struct cleaner *cleaner;
    struct cleaner_config cfg = {.interval_ms = 10, .keep_ms = 60000, .keep_tombstone_ms = 3600000};
    const char *said;

    rig_init(&r, &fixture, "mig_clean", 10);
    (void)pg_test_sql(
        r.pg, "INSERT INTO escrow.transaction_marker (txn_id, kind, broker, created_at) VALUES "
              "('c-old1', 'C', 'a@h:1', now() - interval '10 minutes'), "
              "('c-old2', 'C', NULL, now() - interval '9 minutes'), "
              "('c-new', 'C', 'b@h:2', now() - interval '30 seconds'), "
              "('c-undecided', 'C', 'a@h:1', now() - interval '5 minutes'), "
              "('c-unnamed', 'C', NULL, now() - interval '5 minutes'), "
              "('c-other', 'C', 'b@h:2', now() - interval '5 minutes'), "
              "('c-gone', 'C', 'c@h:3', now() - interval '1 day'), "
              "('r-old', 'R', NULL, now() - interval '2 hours'), "
              "('r-young', 'R', NULL, now() - interval '50 minutes')");
    (void)pg_test_sql(r.pg, "INSERT INTO escrow.transaction_marker (txn_id, kind, broker, "
                            "half_offset, created_at) VALUES "
                            "('o-decided', 'C', 'b@h:2', 699, now() - interval '2 minutes'), "
                            "('o-undecided', 'C', 'b@h:2', 700, now() - interval '1 day'), "
                            "('o-young', 'C', 'b@h:2', 1, now())");
    cfg.conninfo = r.conninfo;
    r.broker.brokers[0] = (struct sink_broker){.name = "a@h:1", .oldest_age_ms = 6 * 60000};
    r.broker.brokers[1] = (struct sink_broker){.name = "b@h:2", .oldest_offset = 700};
    r.broker.broker_count = 2;
    r.broker.is_complete = true;
    cleaner = cleaner_new(&r.loop, &r.broker.sink, &cfg);
    ck_assert_ptr_nonnull(cleaner);
    rig_until(&r, is_clean, cleaner, "clean markers");
    rig_run_ms(&r, 100);
    ck_assert_str_eq(
        pg_test_sql(
            r.pg, "SELECT string_agg(txn_id, ' ' ORDER BY txn_id) FROM escrow.transaction_marker"),
        "c-gone c-new c-undecided c-unnamed o-undecided o-young r-young");
    said = status_text(r.conninfo);
    ck_assert_ptr_nonnull(strstr(said, "HELD: escrow-relay has never reached this broker"));
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT escrow.broker_drop('c@h:3')"), "1");
    said = status_text(r.conninfo);
    ck_assert_ptr_null(strstr(said, "HELD"));
    cleaner_free(cleaner);
    rig_fini(&r);
}
END_TEST

START_TEST(the_inbox_accepts_once)
{
    /* By position: rising only. By id: each once, also when two transactions try at once. */
    struct rig r;
    PGconn *other;
    PGresult *res;

    rig_init(&r, &fixture, "mig_inbox", 10);
    other = pg_test_connect(r.conninfo);
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT escrow.inbox_accept('c', 't/0', 5)"), "t");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT escrow.inbox_accept('c', 't/0', 5)"), "f");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT escrow.inbox_accept('c', 't/0', 4)"), "f");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT escrow.inbox_accept('c', 't/1', 4)"), "t");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT escrow.inbox_accept('d', 't/0', 5)"), "t");
    (void)pg_test_sql(r.pg, "BEGIN; SELECT escrow.inbox_accept('c', 't/0', 9); ROLLBACK");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT escrow.inbox_accept('c', 't/0', 9)"), "t");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT count(*) FROM escrow.inbox_position"), "3");
    ck_assert_str_eq(pg_test_sql(r.pg, "BEGIN; SELECT escrow.inbox_accept('c', 't', 'id1')"), "t");
    ck_assert_int_eq(PQsendQuery(other, "SELECT escrow.inbox_accept('c', 't', 'id1')"), 1);
    (void)pg_test_sql(r.pg, "ROLLBACK");
    res = PQgetResult(other);
    ck_assert_str_eq(PQgetvalue(res, 0, 0), "t");
    PQclear(res);
    ck_assert_ptr_null(PQgetResult(other));
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT escrow.inbox_accept('c', 't', 'id1')"), "f");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT escrow.inbox_clean(now() - interval '1 hour')"),
                     "0");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT escrow.inbox_clean(now() + interval '1 hour')"),
                     "1");
    (void)pg_test_fails(r.pg, "22004", "SELECT escrow.inbox_accept('c', NULL, 'id1')");
    PQfinish(other);
    rig_fini(&r);
}
END_TEST

START_TEST(publish_refuses_what_the_broker_would_refuse)
{
    /* One clear line for each; the limits themselves are fine. */
    static const char *const bad[][2] = {
        {"NULL, ''", "topic is NULL"},
        {"'', ''", "topic is empty"},
        {"'a b', ''", "only letters"},
        {"'ä', ''", "only letters"},
        {"repeat('a', 128), ''", "longer than 127"},
        {"'%RETRY%g', ''", "reserved"},
        {"'TBW102', ''", "reserved"},
        {"'rmq_sys_x', ''", "reserved"},
        {"'RMQ_SYS_TRANS_HALF_TOPIC', ''", "reserved"},
        {"'t', NULL", "body is NULL"},
        {"'t', decode(repeat('00', 4194305), 'hex')", "4194305 bytes"},
        {"'t', '', 'a||b'", "tag"},
        {"'t', '', E'a\\x01'", "tag"},
        {"'t', '', 'a', E'k\\x02'", "keys"},
        {"'t', '', 'a', 'k', E'o\\n'", "ordering key"},
        {"'t', '', 'a', repeat('k', 30000)", "30000 bytes"},
        {"'t', '', properties => '[]'", "JSON object"},
        {"'t', '', properties => '{\"a\": {}}'", "property \"a\""},
        {"'t', '', properties => '{\"a\": null}'", "property \"a\""},
        {"'t', '', properties => '{\"a\": \"\"}'", "property \"a\""},
        {"'t', '', properties => '{\"a\": \"\\u0001\"}'", "property \"a\""},
        {"'t', '', properties => '{\"TAGS\": \"x\"}'", "reserved"},
        {"'t', '', properties => '{\"ESCROW_XID\": 1}'", "reserved"},
    };
    struct rig r;

    rig_init(&r, &fixture, "mig_publish", 100);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *said = pg_test_fails(r.pg, "22023", "SELECT escrow.publish(%s)", bad[i][0]);
        ck_assert_msg(strstr(said, bad[i][1]) != NULL, "publish(%s): %s", bad[i][0], said);
    }
    (void)pg_test_sql(
        r.pg, "SELECT escrow.publish(repeat('a', 127), decode(repeat('00', 4194304), 'hex'))");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('a%%|_-9', '', '', '', '', '{}')");
    ck_assert_str_eq(
        pg_test_sql(r.pg,
                    "SELECT count(*) FROM escrow.outbox WHERE tag IS NULL AND keys IS NULL AND "
                    "ordering_key IS NULL AND properties IS NULL"),
        "2");
    ck_assert_str_eq(
        pg_test_sql(r.pg, "SELECT escrow.property_pairs('{\"a\": 1, \"b\": \"x\", \"c\": true}')"),
        "{a,1,b,x,c,true}");
    rig_fini(&r);
}
END_TEST

START_TEST(what_cannot_go_out_in_utf8_is_refused_in_any_encoding)
{
    /* Lengths are counted as the broker will; bytes that are no text are refused. */
    static const char *const encodings[] = {"LATIN1", "SQL_ASCII"};
    char conninfo[160];
    struct migrate_result result;
    struct err_ctx err;

    for (int i = 0; i < 2; i++) {
        PGconn *pg = database_in("mig_encoding", encodings[i], conninfo, sizeof conninfo);
        const char *said;
        ck_assert_int_eq(migrate_run(conninfo, SCHEMA_VERSION, &result, &err), 0);
        if (i == 0) {
            said = pg_test_fails(pg, "22023",
                                 "SELECT escrow.publish('t', '', properties => "
                                 "jsonb_build_object('p', repeat(chr(233), 20000)))");
            ck_assert_ptr_nonnull(strstr(said, "30000 bytes"));
            (void)pg_test_sql(pg, "SELECT escrow.publish('t', '', repeat(chr(233), 14999))");
        } else {
            said = pg_test_fails(pg, "22023", "SELECT escrow.publish('t', '', E'\\xff')");
            ck_assert_ptr_nonnull(strstr(said, "cannot be written in UTF-8"));
            (void)pg_test_sql(pg, "SELECT escrow.publish('t', '', E'\\xc3\\xa9')");
        }
        ck_assert_str_eq(pg_test_sql(pg, "SELECT count(*) FROM escrow.outbox"), "1");
        PQfinish(pg);
    }
}
END_TEST

START_TEST(old_strings_change_nothing)
{
    /* standard_conforming_strings = off in the caller's session: the functions mean the same. */
    struct rig r;

    rig_init(&r, &fixture, "mig_strings", 10);
    (void)pg_test_sql(r.pg,
                      "SET standard_conforming_strings = off; SET escape_string_warning = off");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('T1', '1', 'tag', properties => '{\"a\": 1}')");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('rmqXsys_a', '1')");
    (void)pg_test_fails(r.pg, "22023", "SELECT escrow.publish('%%RETRY%%g', '')");
    (void)pg_test_fails(r.pg, "22023", "SELECT escrow.publish('t', '', E'a\\x01')");
    (void)pg_test_sql(r.pg, "SELECT escrow.transaction_mark('t1')");
    (void)pg_test_sql(r.pg, "SELECT escrow.outbox_rotate(), escrow.inbox_accept('c', 's', 1)");
    rig_fini(&r);
}
END_TEST

static void add_tests(Suite *suite)
{
    ADD(suite, every_version_upgrades_to_the_newest);
    ADD(suite, who_may_mark_may_mark_through_the_view);
    ADD(suite, what_was_parked_before_can_be_replayed);
    ADD(suite, many_at_once_install_it_once);
    ADD(suite, what_is_wrong_is_said_and_changes_nothing);
    ADD(suite, the_status_names_what_holds_back);
    ADD(suite, only_markers_that_nobody_can_ask_about_are_removed);
    ADD(suite, the_inbox_accepts_once);
    ADD(suite, publish_refuses_what_the_broker_would_refuse);
    ADD(suite, what_cannot_go_out_in_utf8_is_refused_in_any_encoding);
    ADD(suite, old_strings_change_nothing);
}
