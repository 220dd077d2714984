/*
 * The check-back rule on a real PostgreSQL: who decides, what is never believed, and that nothing
 * waits.
 */
#include "core/io_uv/webhook.h"
#include "escrow/errors.h"
#include "outbox/pg/check_http.h"
#include "outbox/pg/check_json.h"
#include "tests/integration/pg/pg_main.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GUARD_MS 20000
#define PROMPT_MS                                                                                  \
    1500 /* "at once", on a busy machine; a wait for the transaction would never end */

struct bench {
    struct loop loop;
    struct checker *checker;
    char conninfo[160];
    PGconn *pg; /* the service */
    char system_id[21];
    char timeline[12];
    char name[64];
    struct check_question q;
    bool is_answered;
    int64_t took_ms;
};

static void bench_init(struct bench *b, const char *name)
{
    *b = (struct bench){.is_answered = false};
    ck_assert_int_eq(loop_init(&b->loop), 0);
    pg_fixture_database(&fixture, name, b->conninfo, sizeof b->conninfo);
    b->pg = pg_test_connect(b->conninfo);
    (void)snprintf(b->system_id, sizeof b->system_id, "%s",
                   pg_test_sql(b->pg, "SELECT system_identifier FROM escrow.database_identity()"));
    (void)snprintf(b->timeline, sizeof b->timeline, "%s",
                   pg_test_sql(b->pg, "SELECT timeline FROM escrow.database_identity()"));
    (void)snprintf(b->name, sizeof b->name, "%s", name);
    b->checker = checker_new(&b->loop, b->conninfo, 2);
    ck_assert_ptr_nonnull(b->checker);
}

static void bench_fini(struct bench *b)
{
    checker_free(b->checker);
    PQfinish(b->pg);
    loop_fini(&b->loop);
}

static void on_answered(struct check_question *q)
{
    ((struct bench *)q->arg)->is_answered = true;
}

static void on_tick(void *arg)
{
    (void)arg;
}

static void run_until(struct loop *l, const bool *flag)
{
    struct loop_timer tick = {0};
    int64_t end_ms;

    loop_time_forget(l);
    end_ms = loop_mono_ms(l) + GUARD_MS;
    loop_timer_start(l, &tick, 1, 1, on_tick, NULL);
    while (!*flag) {
        ck_assert_int_lt(loop_mono_ms(l), end_ms);
        loop_run_once(l, true);
    }
    loop_timer_stop(l, &tick);
}

/* The question as a half message with the database's identity asks it; xid may be NULL. */
static struct check_question question(struct bench *b, const char *txn_id, const char *xid)
{
    struct check_question q = {.cb = on_answered, .arg = b};

    (void)snprintf(q.txn_id, sizeof q.txn_id, "%s", txn_id);
    (void)snprintf(q.xid, sizeof q.xid, "%s", xid == NULL ? "" : xid);
    (void)snprintf(q.system_id, sizeof q.system_id, "%s", b->system_id);
    (void)snprintf(q.timeline, sizeof q.timeline, "%s", b->timeline);
    (void)snprintf(q.database, sizeof q.database, "%s", b->name);
    return q;
}

static const char *answer_to(struct bench *b, struct check_question q)
{
    int64_t start_ms;

    loop_time_forget(&b->loop);
    start_ms = loop_mono_ms(&b->loop);
    b->q = q;
    b->is_answered = false;
    check_ask(b->checker, &b->q);
    run_until(&b->loop, &b->is_answered);
    b->took_ms = loop_mono_ms(&b->loop) - start_ms;
    return b->q.code == 0 ? check_state_name(b->q.state) : escrow_error_name(b->q.code);
}

static const char *check(struct bench *b, const char *txn_id, const char *xid)
{
    return answer_to(b, question(b, txn_id, xid));
}

START_TEST(a_marker_that_committed_means_commit)
{
    /* With and without the transaction's id; asked again: the same. */
    struct bench b;
    char xid[24];

    bench_init(&b, "check_commit");
    (void)snprintf(xid, sizeof xid, "%s",
                   pg_test_sql(b.pg, "SELECT escrow.transaction_mark('t1')"));
    ck_assert_str_eq(check(&b, "t1", xid), "commit");
    ck_assert_str_eq(check(&b, "t1", NULL), "commit");
    ck_assert_str_eq(check(&b, "t1", NULL), "commit");
    bench_fini(&b);
}
END_TEST

START_TEST(a_transaction_that_rolled_back_means_rollback)
{
    /* Its marker went with it; the tombstone then refuses the id for ever. */
    struct bench b;
    char xid[24];

    bench_init(&b, "check_rollback");
    (void)pg_test_sql(b.pg, "BEGIN");
    (void)snprintf(xid, sizeof xid, "%s",
                   pg_test_sql(b.pg, "SELECT escrow.transaction_mark('t1')"));
    (void)pg_test_sql(b.pg, "ROLLBACK");
    ck_assert_str_eq(check(&b, "t1", xid), "rollback");
    ck_assert_str_eq(check(&b, "t1", xid), "rollback");
    ck_assert_ptr_nonnull(
        strstr(pg_test_fails(b.pg, "23505", "SELECT escrow.transaction_mark('t1')"), "too late"));
    bench_fini(&b);
}
END_TEST

START_TEST(a_running_transaction_is_in_progress_and_nothing_waits)
{
    /*
     * Known by its id before it marked; by its lock after it marked; the answer comes while it
     * stays open.
     */
    struct bench b;
    char xid[24];

    bench_init(&b, "check_running");
    ck_assert_str_eq(check(&b, "warm-up", NULL), "rollback"); /* the connection is there */
    (void)pg_test_sql(b.pg, "BEGIN");
    (void)snprintf(xid, sizeof xid, "%s", pg_test_sql(b.pg, "SELECT pg_current_xact_id()"));
    ck_assert_str_eq(check(&b, "t1", xid), "in_progress");
    ck_assert_int_lt(b.took_ms, PROMPT_MS);
    (void)pg_test_sql(b.pg, "SELECT escrow.transaction_mark('t1')");
    ck_assert_str_eq(check(&b, "t1", xid), "in_progress");
    ck_assert_str_eq(check(&b, "t1", NULL), "in_progress");
    ck_assert_int_lt(b.took_ms, PROMPT_MS);
    (void)pg_test_sql(b.pg, "COMMIT");
    ck_assert_str_eq(check(&b, "t1", NULL), "commit");
    bench_fini(&b);
}
END_TEST

START_TEST(a_marked_transaction_is_known_by_its_lock)
{
    /*
     * The half of a client that marks by the function need not carry a transaction id: rule 3 of
     * sql/README.md. A check that went on to insert would wait for the transaction; here for ever.
     */
    struct bench b;

    bench_init(&b, "check_lock");
    (void)pg_test_sql(b.pg, "ALTER FUNCTION escrow.transaction_check SET lock_timeout = 0");
    (void)pg_test_sql(b.pg, "BEGIN; SELECT escrow.transaction_mark('t1')");
    ck_assert_str_eq(check(&b, "t1", NULL), "in_progress");
    (void)pg_test_sql(b.pg, "COMMIT");
    ck_assert_str_eq(check(&b, "t1", NULL), "commit");
    bench_fini(&b);
}
END_TEST

START_TEST(a_marker_goes_when_its_broker_has_passed_its_half)
{
    /*
     * Its oldest undecided half is at 200: that one it may still ask for, however old the marker.
     * When it has decided it, the marker goes.
     */
    struct bench b;
    static const char clean[] = "SELECT escrow.transaction_clean('{a#1}', '{0}', '{%d}', false, "
                                "'-1 hour', '-infinity')";
    static const char left[] = "SELECT string_agg(txn_id, ' ' ORDER BY txn_id) "
                               "FROM escrow.transaction_marker";

    bench_init(&b, "check_clean");
    (void)pg_test_sql(b.pg, "SELECT escrow.transaction_mark('t' || n, 'a#1', n) "
                            "FROM unnest('{199,200,201}'::bigint[]) AS n");
    ck_assert_str_eq(pg_test_sql(b.pg, clean, 200), "1");
    ck_assert_str_eq(pg_test_sql(b.pg, left), "t200 t201");
    ck_assert_str_eq(check(&b, "t200", NULL), "commit");
    ck_assert_str_eq(pg_test_sql(b.pg, clean, 201), "1");
    ck_assert_str_eq(pg_test_sql(b.pg, left), "t201");
    bench_fini(&b);
}
END_TEST

START_TEST(a_transaction_that_had_not_begun_fails_when_it_comes)
{
    /*
     * P9: nothing is known, so a tombstone is written; the local transaction that comes later
     * cannot commit.
     */
    struct bench b;

    bench_init(&b, "check_tombstone");
    (void)pg_test_sql(b.pg, "CREATE TABLE business (id int)");
    ck_assert_str_eq(check(&b, "t1", NULL), "rollback");
    (void)pg_test_sql(b.pg, "BEGIN; INSERT INTO business VALUES (1)");
    (void)pg_test_fails(b.pg, "23505", "SELECT escrow.transaction_mark('t1')");
    (void)pg_test_sql(b.pg, "COMMIT"); /* rolls back: the transaction has failed */
    ck_assert_str_eq(pg_test_sql(b.pg, "SELECT count(*) FROM business"), "0");
    bench_fini(&b);
}
END_TEST

START_TEST(an_id_cannot_be_used_by_two_transactions)
{
    /* Twice in one transaction is the same mark; in another one it is an error. */
    struct bench b;

    bench_init(&b, "check_twice");
    (void)pg_test_sql(b.pg, "BEGIN; SELECT escrow.transaction_mark('t1'); SELECT "
                            "escrow.transaction_mark('t1'); COMMIT");
    ck_assert_ptr_nonnull(strstr(
        pg_test_fails(b.pg, "23505", "SELECT escrow.transaction_mark('t1')"), "used before"));
    (void)pg_test_fails(b.pg, "22023", "SELECT escrow.transaction_mark('')");
    bench_fini(&b);
}
END_TEST

START_TEST(a_marked_transaction_commits_durably_whatever_the_session_says)
{
    /*
     * Its message may be delivered right after the commit; a crash must not take the commit back.
     */
    static const char *const settings[][2] = {
        {"off", "on"}, {"local", "on"}, {"remote_write", "on"}, {"remote_apply", "remote_apply"}};
    struct bench b;
    char sql[160];

    bench_init(&b, "check_durable");
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        (void)snprintf(sql, sizeof sql, "SET synchronous_commit = %s; BEGIN", settings[i][0]);
        (void)pg_test_sql(b.pg, "%s", sql);
        (void)snprintf(sql, sizeof sql, "SELECT escrow.transaction_mark('t%zu')", i);
        (void)pg_test_sql(b.pg, "%s", sql);
        ck_assert_str_eq(pg_test_sql(b.pg, "SHOW synchronous_commit"), settings[i][1]);
        (void)pg_test_sql(b.pg, "COMMIT");
        ck_assert_str_eq(pg_test_sql(b.pg, "SHOW synchronous_commit"), settings[i][0]);
        (void)pg_test_sql(b.pg, "BEGIN; INSERT INTO escrow.marking VALUES ('v%zu')", i);
        ck_assert_str_eq(pg_test_sql(b.pg, "SHOW synchronous_commit"), settings[i][1]);
        (void)pg_test_sql(b.pg, "COMMIT");
        ck_assert_str_eq(pg_test_sql(b.pg, "SHOW synchronous_commit"), settings[i][0]);
        (void)snprintf(sql, sizeof sql, "v%zu", i);
        ck_assert_str_eq(check(&b, sql, NULL), "commit");
    }
    bench_fini(&b);
}
END_TEST

START_TEST(a_row_of_the_view_is_a_mark)
{
    /* It counts as one, in the limits of one; while it is open the transaction's id says so. */
    struct bench b;
    char xid[24];

    bench_init(&b, "check_view");
    (void)snprintf(xid, sizeof xid, "%s", pg_test_sql(b.pg, "BEGIN; SELECT pg_current_xact_id()"));
    ck_assert_str_eq(check(&b, "t1", xid), "in_progress");
    (void)pg_test_sql(b.pg, "INSERT INTO escrow.marking VALUES ('t1', 'a#1', 4096)");
    ck_assert_str_eq(check(&b, "t1", xid), "in_progress");
    ck_assert_int_lt(b.took_ms, 2000);
    (void)pg_test_sql(b.pg, "COMMIT");
    ck_assert_str_eq(check(&b, "t1", xid), "commit");
    ck_assert_str_eq(pg_test_sql(b.pg, "SELECT kind::text || xid || broker || half_offset "
                                       "FROM escrow.transaction_marker"),
                     pg_test_sql(b.pg, "SELECT 'C%s' || 'a#1' || 4096", xid));
    ck_assert_str_eq(check(&b, "t2", NULL), "rollback");
    (void)pg_test_fails(b.pg, "23505", "INSERT INTO escrow.marking VALUES ('t2')");
    (void)pg_test_fails(b.pg, "44000", "INSERT INTO escrow.marking VALUES ('')");
    (void)pg_test_fails(b.pg, "23502", "INSERT INTO escrow.marking VALUES (NULL)");
    (void)pg_test_fails(b.pg, "44000", "INSERT INTO escrow.marking VALUES (repeat('x', 129))");
    (void)pg_test_fails(b.pg, "44000",
                        "INSERT INTO escrow.marking VALUES ('t3', repeat('x', 256))");
    (void)pg_test_fails(b.pg, "42703", "INSERT INTO escrow.marking (kind) VALUES ('R')");
    bench_fini(&b);
}
END_TEST

START_TEST(a_rolled_back_savepoint_takes_its_mark_with_it)
{
    /* The lock goes with the row, so the check does not see a running transaction that is none. */
    struct bench b;

    bench_init(&b, "check_savepoint");
    (void)pg_test_sql(
        b.pg, "BEGIN; SAVEPOINT s; SELECT escrow.transaction_mark('t1'); ROLLBACK TO s; COMMIT");
    ck_assert_str_eq(check(&b, "t1", NULL), "rollback");
    bench_fini(&b);
}
END_TEST

START_TEST(another_database_is_not_ours_and_gets_no_tombstone)
{
    /*
     * System, timeline or name differ: the transaction may be alive there. Without any, only a
     * marker is believed.
     */
    struct bench b;
    struct check_question q;

    bench_init(&b, "check_foreign");
    (void)pg_test_sql(b.pg, "SELECT escrow.transaction_mark('marked')");
    for (int wrong = 0; wrong < 3; wrong++) {
        q = question(&b, "t1", "3");
        if (wrong == 0) {
            q.system_id[5] = q.system_id[5] == '1' ? '2' : '1';
        } else {
            (void)snprintf(wrong == 1 ? q.timeline : q.database, sizeof q.timeline, "77");
        }
        ck_assert_str_eq(answer_to(&b, q), "not_mine");
        (void)snprintf(q.txn_id, sizeof q.txn_id, "marked"); /* a copy has copies of markers */
        ck_assert_str_eq(answer_to(&b, q), "not_mine");
    }
    q = question(&b, "t1", NULL);
    q.system_id[0] = '\0';
    ck_assert_str_eq(answer_to(&b, q), "not_mine");
    (void)snprintf(q.txn_id, sizeof q.txn_id, "marked");
    ck_assert_str_eq(answer_to(&b, q), "commit");
    ck_assert_str_eq(pg_test_sql(b.pg, "SELECT count(*) FROM escrow.transaction_marker"), "1");
    bench_fini(&b);
}
END_TEST

START_TEST(a_former_identity_counts_when_a_person_says_so)
{
    /* After escrow.lineage_add; transaction ids of the former life are not looked at. */
    struct bench b;
    struct check_question q;
    char running[24];

    bench_init(&b, "check_lineage");
    (void)pg_test_sql(b.pg, "SELECT escrow.lineage_add('42', 3, 'before')");
    (void)pg_test_sql(b.pg, "BEGIN");
    (void)snprintf(running, sizeof running, "%s", pg_test_sql(b.pg, "SELECT pg_current_xact_id()"));
    q = question(&b, "t1", running);
    (void)snprintf(q.system_id, sizeof q.system_id, "42");
    (void)snprintf(q.timeline, sizeof q.timeline, "3");
    (void)snprintf(q.database, sizeof q.database, "before");
    ck_assert_str_eq(answer_to(&b, q), "rollback");
    (void)pg_test_sql(b.pg, "COMMIT");
    bench_fini(&b);
}
END_TEST

START_TEST(an_id_that_was_given_out_again_after_a_crash_decides_nothing)
{
    /*
     * P11: the marked transaction is lost in a crash, another one gets its id and commits.
     * Rollback, not commit.
     */
    struct bench b;
    char xid[24];
    char again[24] = "";

    bench_init(&b, "check_crash");
    (void)pg_test_sql(b.pg, "CHECKPOINT");
    (void)pg_test_sql(b.pg, "BEGIN");
    (void)snprintf(xid, sizeof xid, "%s",
                   pg_test_sql(b.pg, "SELECT escrow.transaction_mark('t1')"));
    pg_fixture_crash(&fixture);
    PQfinish(b.pg);
    b.pg = pg_test_connect(b.conninfo);
    for (int i = 0; i < 50 && strcmp(again, xid) != 0; i++) {
        (void)snprintf(again, sizeof again, "%s", pg_test_sql(b.pg, "SELECT pg_current_xact_id()"));
    }
    ck_assert_str_eq(again, xid);
    ck_assert_str_eq(pg_test_sql(b.pg, "SELECT pg_xact_status('%s')", xid), "committed");
    ck_assert_str_eq(check(&b, "t1", xid), "rollback");
    bench_fini(&b);
}
END_TEST

START_TEST(an_id_from_the_future_is_no_error)
{
    /*
     * Lost in a crash and not given out again yet: pg_xact_status raises an error, the rule does
     * not.
     */
    struct bench b;

    bench_init(&b, "check_future");
    ck_assert_str_eq(check(&b, "t1", "999999999999"), "rollback");
    bench_fini(&b);
}
END_TEST

START_TEST(an_answer_outlives_a_crash_right_after_it)
{
    /*
     * Somebody switches synchronous_commit off after the mark: the marker is visible but not on
     * disk when it is asked for. Tombstones the same.
     */
    struct bench b;
    char id[16];
    int marks = 0;
    bool is_flushed;

    bench_init(&b, "check_outlives");
    (void)pg_test_sql(b.pg, "ALTER SYSTEM SET wal_writer_delay = '10s'");
    (void)pg_test_sql(b.pg, "SELECT pg_reload_conf()");
    (void)pg_test_sql(b.pg, "ALTER DATABASE check_outlives SET synchronous_commit = off");
    PQfinish(b.pg);
    b.pg = pg_test_connect(b.conninfo);
    ck_assert_str_eq(check(&b, "warm-up", NULL), "rollback");
    /* The server may flush by itself between two statements: then another one, until it did not. */
    do {
        marks++;
        (void)snprintf(id, sizeof id, "mark%d", marks);
        (void)pg_test_sql(b.pg,
                          "BEGIN; SELECT escrow.transaction_mark('%s'); "
                          "SET LOCAL synchronous_commit = off; COMMIT",
                          id);
        is_flushed = strcmp(pg_test_sql(b.pg, "SELECT pg_current_wal_flush_lsn() >= "
                                              "pg_current_wal_insert_lsn()"),
                            "t") == 0;
    } while (is_flushed);
    ck_assert_str_eq(check(&b, id, NULL), "commit");
    (void)pg_test_sql(b.pg, "BEGIN; SELECT escrow.transaction_mark('lost'); "
                            "SET LOCAL synchronous_commit = off; COMMIT");
    ck_assert_str_eq(check(&b, "t2", NULL), "rollback");
    pg_fixture_crash(&fixture);
    PQfinish(b.pg);
    b.pg = pg_test_connect(b.conninfo);
    ck_assert_str_eq(pg_test_sql(b.pg,
                                 "SELECT string_agg(kind::text, ' ' ORDER BY kind) "
                                 "FROM escrow.transaction_marker WHERE txn_id IN ('%s', 't2')",
                                 id),
                     "C R");
    (void)pg_test_sql(b.pg, "ALTER SYSTEM RESET wal_writer_delay");
    (void)pg_test_sql(b.pg, "SELECT pg_reload_conf()");
    bench_fini(&b);
}
END_TEST

START_TEST(a_locked_table_is_not_waited_for)
{
    /* VACUUM FULL, say: in progress, ask later. */
    struct bench b;

    bench_init(&b, "check_locked");
    ck_assert_str_eq(check(&b, "warm-up", NULL), "rollback");
    (void)pg_test_sql(b.pg, "BEGIN; LOCK TABLE escrow.transaction_marker IN ACCESS EXCLUSIVE MODE");
    ck_assert_str_eq(check(&b, "t1", NULL), "in_progress");
    ck_assert_int_lt(b.took_ms, PROMPT_MS);
    (void)pg_test_sql(b.pg, "COMMIT");
    ck_assert_str_eq(check(&b, "t1", NULL), "rollback");
    bench_fini(&b);
}
END_TEST

START_TEST(while_the_database_is_down_nobody_was_asked)
{
    /* No answer is not an answer; and it works again afterwards. */
    struct bench b;

    bench_init(&b, "check_down");
    (void)pg_test_sql(b.pg, "SELECT escrow.transaction_mark('t1')");
    ck_assert_str_eq(check(&b, "t1", NULL), "commit");
    pg_fixture_shutdown(&fixture);
    ck_assert_int_lt(strncmp(check(&b, "t1", NULL), "ESCROW_E", 8), 1);
    ck_assert_str_eq(check(&b, "t1", NULL), "ESCROW_ECONN");
    pg_fixture_boot(&fixture);
    for (int i = 0; i < 200 && strcmp(check(&b, "t1", NULL), "commit") != 0; i++) {
        bool never = false;
        struct loop_timer pause = {0};
        loop_timer_start(&b.loop, &pause, 20, 0, on_tick, &never);
        while (loop_timer_is_active(&pause)) {
            loop_run_once(&b.loop, true);
        }
    }
    ck_assert_str_eq(check(&b, "t1", NULL), "commit");
    PQfinish(b.pg);
    b.pg = pg_test_connect(b.conninfo);
    bench_fini(&b);
}
END_TEST

/* The question is on its way when the statement is sent. */
static const char *ask_then(struct bench *b, const char *txn_id, const char *sql)
{
    b->q = question(b, txn_id, NULL);
    b->is_answered = false;
    check_ask(b->checker, &b->q);
    loop_run_once(&b->loop, false);
    ck_assert_int_eq(PQsendQuery(b->pg, sql), 1);
    run_until(&b->loop, &b->is_answered);
    ck_assert_int_eq(b->q.code, 0);
    return check_state_name(b->q.state);
}

START_TEST(local_transaction_and_check_back_never_both_win)
{
    /*
     * Three hundred times both at once, with the function and with the view: commit goes with a
     * marker, rollback with a transaction that failed.
     */
    struct bench b;
    unsigned committed = 0;
    unsigned rolled_back = 0;

    bench_init(&b, "check_race");
    ck_assert_str_eq(check(&b, "warm-up", NULL), "rollback");
    for (int i = 0; i < 300; i++) {
        char sql[128];
        char txn_id[32];
        const char *state;
        PGresult *res;
        bool is_marked;
        (void)snprintf(txn_id, sizeof txn_id, "race%d", i);
        (void)snprintf(sql, sizeof sql,
                       i % 4 < 2 ? "SELECT escrow.transaction_mark('%s')"
                                 : "INSERT INTO escrow.marking VALUES ('%s')",
                       txn_id);
        if (i % 2 == 0) {
            ck_assert_int_eq(PQsendQuery(b.pg, sql), 1);
            state = check(&b, txn_id, NULL);
        } else {
            state = ask_then(&b, txn_id, sql);
        }
        while (strcmp(state, "in_progress") == 0) {
            state = check(&b, txn_id, NULL);
        }
        res = PQgetResult(b.pg);
        is_marked =
            PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK;
        while (res != NULL) {
            PQclear(res);
            res = PQgetResult(b.pg);
        }
        ck_assert_str_eq(state, is_marked ? "commit" : "rollback");
        committed += is_marked;
        rolled_back += !is_marked;
    }
    ck_assert_uint_gt(committed, 0);
    ck_assert_uint_gt(rolled_back, 0);
    bench_fini(&b);
}
END_TEST

/* ---- HTTP ---- */

struct http_call {
    struct webhook_request req;
    int status;
    int result;
    char body[512];
    bool is_done;
};

static void on_http_done(struct webhook_request *req, const struct webhook_result *result)
{
    struct http_call *call = req->arg;

    call->status = result->status;
    call->result = result->result;
    (void)slice_to_cstr(result->body, call->body, sizeof call->body);
    call->is_done = true;
}

static int post(struct bench *b, struct webhook *webhook, uint16_t port, const char *path,
                const char *body, struct http_call *call)
{
    char url[128];

    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u%s", port, path);
    *call = (struct http_call){.is_done = false};
    call->req.arg = call;
    ck_assert_int_eq(webhook_post(webhook, &call->req, url, slice_str(body), 5000, on_http_done),
                     0);
    run_until(&b->loop, &call->is_done);
    ck_assert_int_eq(call->result, 0);
    return call->status;
}

START_TEST(the_endpoint_echoes_and_refuses)
{
    /* A right question, and every wrong one. */
    struct bench b;
    struct check_http *http;
    struct webhook *webhook;
    struct http_call call;
    char body[512];
    static char big[CHECK_JSON_MAX + 2];
    uint16_t port;

    bench_init(&b, "check_http");
    ck_assert_int_eq(webhook_new(&b.loop, 4, &webhook), 0);
    ck_assert_int_eq(check_http_new(&b.loop, b.checker, "127.0.0.1:0", &http, NULL), 0);
    port = check_http_port(http);
    (void)pg_test_sql(b.pg, "SELECT escrow.transaction_mark('t1')");
    (void)snprintf(body, sizeof body,
                   "{\"transactionId\":\"t1\",\"nonce\":\"00ff\",\"producerGroup\":\"g\",\"topic\":"
                   "\"t\",\"checks\":1,"
                   "\"database\":{\"systemIdentifier\":\"%s\",\"timeline\":%s,\"name\":\"%s\"}}",
                   b.system_id, b.timeline, b.name);
    ck_assert_int_eq(post(&b, webhook, port, "/check", body, &call), 200);
    ck_assert_str_eq(call.body,
                     "{\"transactionId\":\"t1\",\"nonce\":\"00ff\",\"state\":\"commit\"}");
    ck_assert_int_eq(
        post(&b, webhook, port, "/check", "{\"transactionId\":\"t9\",\"nonce\":\"1\"}", &call),
        200);
    ck_assert_str_eq(call.body,
                     "{\"transactionId\":\"t9\",\"nonce\":\"1\",\"state\":\"not_mine\"}");
    ck_assert_int_eq(post(&b, webhook, port, "/check", "{", &call), 400);
    ck_assert_int_eq(post(&b, webhook, port, "/check", "", &call), 400);
    ck_assert_int_eq(post(&b, webhook, port, "/other", body, &call), 404);
    ck_assert_int_eq(post(&b, webhook, port, "/health", "x", &call), 405);
    memset(big, 'x', sizeof big - 1);
    ck_assert_int_eq(post(&b, webhook, port, "/check", big, &call), 413);
    webhook_free(webhook);
    checker_free(b.checker);
    b.checker = NULL;
    check_http_free(http);
    bench_fini(&b);
}
END_TEST

/* Takes connections and says nothing. */
static int silent_server(char *conninfo, size_t size)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
    ck_assert_int_eq(listen(fd, 5), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    (void)snprintf(conninfo, size, "host=127.0.0.1 port=%u user=x dbname=x", ntohs(addr.sin_port));
    return fd;
}

START_TEST(a_question_that_waits_is_answered_at_shutdown)
{
    /* The database does not answer; the endpoint is shut down: the caller gets 503, not silence. */
    struct bench b;
    struct check_http *http;
    struct webhook *webhook;
    struct http_call call = {.is_done = false};
    struct loop_timer pause = {0};
    char conninfo[64];
    char url[64];
    int silent;

    bench_init(&b, "check_shutdown");
    checker_free(b.checker);
    silent = silent_server(conninfo, sizeof conninfo);
    b.checker = checker_new(&b.loop, conninfo, 1);
    ck_assert_int_eq(webhook_new(&b.loop, 4, &webhook), 0);
    ck_assert_int_eq(check_http_new(&b.loop, b.checker, "127.0.0.1:0", &http, NULL), 0);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/check", check_http_port(http));
    call.req.arg = &call;
    ck_assert_int_eq(webhook_post(webhook, &call.req, url,
                                  SLICE_LIT("{\"transactionId\":\"t9\",\"nonce\":\"1\"}"), 5000,
                                  on_http_done),
                     0);
    loop_timer_start(&b.loop, &pause, 200, 0, on_tick,
                     NULL); /* enough for the question to be asked */
    while (loop_timer_is_active(&pause)) {
        loop_run_once(&b.loop, true);
    }
    ck_assert(!call.is_done);
    checker_free(b.checker);
    b.checker = NULL;
    check_http_free(http);
    run_until(&b.loop, &call.is_done);
    ck_assert(call.status == 503 || call.result != 0);
    ck_assert_int_eq(close(silent), 0);
    webhook_free(webhook);
    bench_fini(&b);
}
END_TEST

static void add_tests(Suite *suite)
{
    ADD(suite, a_marker_that_committed_means_commit);
    ADD(suite, a_transaction_that_rolled_back_means_rollback);
    ADD(suite, a_running_transaction_is_in_progress_and_nothing_waits);
    ADD(suite, a_marked_transaction_is_known_by_its_lock);
    ADD(suite, a_marker_goes_when_its_broker_has_passed_its_half);
    ADD(suite, a_transaction_that_had_not_begun_fails_when_it_comes);
    ADD(suite, an_id_cannot_be_used_by_two_transactions);
    ADD(suite, a_marked_transaction_commits_durably_whatever_the_session_says);
    ADD(suite, a_row_of_the_view_is_a_mark);
    ADD(suite, a_rolled_back_savepoint_takes_its_mark_with_it);
    ADD(suite, another_database_is_not_ours_and_gets_no_tombstone);
    ADD(suite, a_former_identity_counts_when_a_person_says_so);
    ADD(suite, an_id_that_was_given_out_again_after_a_crash_decides_nothing);
    ADD(suite, an_id_from_the_future_is_no_error);
    ADD(suite, an_answer_outlives_a_crash_right_after_it);
    ADD(suite, a_locked_table_is_not_waited_for);
    ADD(suite, while_the_database_is_down_nobody_was_asked);
    ADD(suite, local_transaction_and_check_back_never_both_win);
    ADD(suite, the_endpoint_echoes_and_refuses);
    ADD(suite, a_question_that_waits_is_answered_at_shutdown);
}
