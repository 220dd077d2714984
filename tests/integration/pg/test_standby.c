/*
 * A synchronous standby that is not there, and somebody who cancels the waits for it: PostgreSQL
 * goes on as if it had everything. Neither the relay nor a check-back may: a fail-over would lose
 * the transaction behind the back of a message that was delivered.
 */
#include "escrow/errors.h"
#include "outbox/pg/check.h"
#include "tests/integration/pg/rig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pg_fixture fixture;

static void start_pg(void)
{
    pg_fixture_start(&fixture, NULL);
}

static void stop_pg(void)
{
    pg_fixture_stop(&fixture);
}

/* Cancel whoever waits for the standby; how many have been. */
static int cancel_waits(struct rig *r)
{
    int64_t count = 0;

    ck_assert(slice_to_i64(
        slice_str(pg_test_sql(r->pg, "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity "
                                     "WHERE wait_event = 'SyncRep'")),
        &count));
    return (int)count;
}

/* A commit that has to wait for the standby, until somebody has cancelled that: did it? */
static bool does_wait(struct rig *r, PGconn *probe)
{
    bool did_wait = false;
    PGresult *res;

    ck_assert_int_eq(PQsendQuery(probe, "SELECT pg_logical_emit_message(true, 'probe', '')"), 1);
    while (PQconsumeInput(probe) == 1 && PQisBusy(probe) == 1) {
        did_wait = cancel_waits(r) > 0 || did_wait;
    }
    while ((res = PQgetResult(probe)) != NULL) {
        ck_assert_int_eq(PQresultStatus(res), PGRES_TUPLES_OK);
        PQclear(res);
    }
    return did_wait;
}

/*
 * What the service commits does not wait here; what the relay and check-backs do, waits. The server
 * tells its processes of a new setting when it comes to it, and commits wait once the last of them,
 * behind every session, has heard it.
 */
static void set_standby(struct rig *r, const char *names, bool is_waited_for)
{
    PGconn *probe = pg_test_connect(r->conninfo);

    (void)pg_test_sql(probe, "SET client_min_messages = 'error'");
    (void)pg_test_sql(r->pg, "SET synchronous_commit = local");
    (void)pg_test_sql(r->pg, "ALTER SYSTEM SET synchronous_standby_names = '%s'", names);
    (void)pg_test_sql(r->pg, "SELECT pg_reload_conf()");
    while (does_wait(r, probe) != is_waited_for) {
    }
    PQfinish(probe);
}

static void wait_for_nobody(struct rig *r)
{
    set_standby(r, "nobody", true);
}

static void wait_no_more(struct rig *r)
{
    set_standby(r, "", false);
}

struct question {
    struct rig *rig;
    struct check_question q;
    bool is_answered;
    int cancelled;
};

static void on_answered(struct check_question *q)
{
    ((struct question *)q->arg)->is_answered = true;
}

static bool is_answered(void *arg)
{
    struct question *a = arg;

    a->cancelled += a->is_answered ? 0 : cancel_waits(a->rig);
    return a->is_answered;
}

static void ask(struct question *a, struct checker *checker, const char *txn_id)
{
    PGconn *pg = a->rig->pg;

    a->is_answered = false;
    a->q = (struct check_question){.cb = on_answered, .arg = a};
    (void)snprintf(a->q.txn_id, sizeof a->q.txn_id, "%s", txn_id);
    (void)snprintf(a->q.system_id, sizeof a->q.system_id, "%s",
                   pg_test_sql(pg, "SELECT system_identifier FROM escrow.database_identity()"));
    (void)snprintf(a->q.timeline, sizeof a->q.timeline, "%s",
                   pg_test_sql(pg, "SELECT timeline FROM escrow.database_identity()"));
    (void)snprintf(a->q.database, sizeof a->q.database, "%s",
                   pg_test_sql(pg, "SELECT database_name FROM escrow.database_identity()"));
    check_ask(checker, &a->q);
    rig_until(a->rig, is_answered, a, "an answer");
}

START_TEST(a_check_back_whose_wait_is_cancelled_has_no_answer)
{
    /*
     * Neither commit nor rollback; the next question waits again, and is answered when it may be.
     */
    static const char *const ids[] = {"marked", "unknown"};
    struct rig r;
    struct question a = {.rig = &r};
    struct checker *checker;

    rig_init(&r, &fixture, "standby_check", 10);
    checker = checker_new(&r.loop, r.conninfo, 1);
    ck_assert_ptr_nonnull(checker);
    wait_for_nobody(&r);
    (void)pg_test_sql(r.pg, "INSERT INTO escrow.transaction_marker (txn_id, kind) VALUES "
                            "('marked', 'C')");
    for (int i = 0; i < 4; i++) {
        a.cancelled = 0;
        ask(&a, checker, ids[i % 2]);
        ck_assert_int_gt(a.cancelled, 0);
        ck_assert_int_eq(a.q.code, ESCROW_EDB);
    }
    wait_no_more(&r);
    ask(&a, checker, ids[0]);
    ck_assert_int_eq(a.q.code, 0);
    ck_assert_int_eq(a.q.state, CHECK_STATE_COMMIT);
    ask(&a, checker, ids[1]);
    ck_assert_int_eq(a.q.state, CHECK_STATE_ROLLBACK);
    checker_free(checker);
    rig_fini(&r);
}
END_TEST

static bool is_cancelled_often(void *arg)
{
    struct question *a = arg;

    a->cancelled += cancel_waits(a->rig);
    return a->cancelled >= 5;
}

START_TEST(what_the_standby_may_not_have_is_not_published)
{
    /* The relay asks for it to be durable before it publishes; that wait is cancelled. */
    struct rig r;
    struct question a = {.rig = &r};

    rig_init(&r, &fixture, "standby_relay", 10);
    rig_start(&r);
    rig_until_idle(&r);
    wait_for_nobody(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until(&r, is_cancelled_often, &a, "waits");
    ck_assert_uint_eq(r.broker.log_count, 0);
    ck_assert_ptr_nonnull(strstr(relay_error(relay_loop_relay(r.relay))->text, "standby"));
    wait_no_more(&r);
    rig_until_count(&r, 1);
    rig_fini(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("integration/pg");
    TCase *tc = tcase_create("standby");
    SRunner *runner = srunner_create(suite);
    int failed;

    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 100);
    tcase_add_unchecked_fixture(tc, start_pg, stop_pg);
    tcase_add_test(tc, a_check_back_whose_wait_is_cancelled_has_no_answer);
    tcase_add_test(tc, what_the_standby_may_not_have_is_not_published);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
