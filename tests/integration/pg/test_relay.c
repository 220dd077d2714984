/* What the relay promises, on a real PostgreSQL. */
#include "tests/integration/pg/rig.h"

#include "escrow/errors.h"
#include "tests/integration/pg/pg_main.h"

#include <check.h>
#include <string.h>

START_TEST(committed_rows_arrive_and_rolled_back_ones_do_not)
{
    /* Commit, rollback, savepoint rolled back, several rows in one transaction. */
    struct rig r;

    rig_init(&r, &fixture, "commit_rollback", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('a', 'one')");
    (void)pg_test_sql(r.pg, "BEGIN; SELECT escrow.publish('a', 'never'); ROLLBACK");
    (void)pg_test_sql(r.pg, "BEGIN; SELECT escrow.publish('a', 'two'); SAVEPOINT s; SELECT "
                            "escrow.publish('a', 'gone'); "
                            "ROLLBACK TO s; SELECT escrow.publish('b', 'three'); COMMIT");
    rig_until_count(&r, 3);
    ck_assert_str_eq(rig_bodies(&r), "one two three");
    ck_assert_str_eq(r.broker.log[2].topic, "b");
    ck_assert_uint_eq(r.broker.log[1].batch, r.broker.log[2].batch);
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(an_older_id_that_commits_later_is_not_missed)
{
    /* H34: the transaction with the lower ids commits after the relay has read beyond them. */
    struct rig r;
    PGconn *other;

    rig_init(&r, &fixture, "late_commit", 100);
    other = pg_test_connect(r.conninfo);
    rig_start(&r);
    (void)pg_test_sql(other, "BEGIN; SELECT escrow.publish('a', 'early')");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('a', 'late')");
    rig_until_count(&r, 1);
    ck_assert_str_eq(rig_bodies(&r), "late");
    (void)pg_test_sql(other, "SELECT escrow.publish('a', 'early2'); COMMIT");
    rig_until_count(&r, 3);
    ck_assert_str_eq(rig_bodies(&r), "late early early2");
    rig_check_books(&r);
    PQfinish(other);
    rig_fini(&r);
}
END_TEST

START_TEST(a_long_transaction_stalls_nobody)
{
    /*
     * P2: hundreds of transactions pass one that stays open, and one in another database; then it
     * commits much.
     */
    struct rig r;
    PGconn *other;
    PGconn *foreign;

    rig_init(&r, &fixture, "long_txn", 5000);
    other = pg_test_connect(r.conninfo);
    foreign = pg_test_connect(fixture.conninfo);
    (void)pg_test_sql(foreign, "BEGIN; SELECT pg_current_xact_id()");
    (void)pg_test_sql(other, "BEGIN; SELECT escrow.publish('long', 'x' || i::text::bytea) FROM "
                             "generate_series(1, 2000) i");
    rig_start(&r);
    for (size_t i = 1; i <= 200; i++) {
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('short', 's')");
    }
    rig_until_count(&r, 200);
    (void)pg_test_sql(other, "SELECT escrow.publish('long', 'y' || i::text::bytea) FROM "
                             "generate_series(1, 1000) i; COMMIT");
    rig_until_count(&r, 3200);
    rig_check_books(&r);
    ck_assert_uint_eq(r.broker.log[200].batch, r.broker.log[3199].batch); /* visible at once */
    PQfinish(other);
    PQfinish(foreign);
    rig_fini(&r);
}
END_TEST

START_TEST(late_lower_xid_keeps_key_order)
{
    /*
     * B has the lower transaction id, but waited for A: both in one difference, A's message comes
     * first.
     */
    struct rig r;
    PGconn *b;

    rig_init(&r, &fixture, "key_order", 100);
    b = pg_test_connect(r.conninfo);
    (void)pg_test_sql(r.pg, "CREATE TABLE account (id int PRIMARY KEY, balance int); INSERT INTO "
                            "account VALUES (1, 100)");
    (void)pg_test_sql(b, "BEGIN; SELECT pg_current_xact_id()");
    (void)pg_test_sql(r.pg, "BEGIN; UPDATE account SET balance = 90 WHERE id = 1; "
                            "SELECT escrow.publish('t', '90', ordering_key => '1'); COMMIT");
    (void)pg_test_sql(b, "UPDATE account SET balance = 80 WHERE id = 1; "
                         "SELECT escrow.publish('t', '80', ordering_key => '1'); COMMIT");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT (SELECT xid FROM escrow.outbox WHERE body = '80') < "
                                       "(SELECT xid FROM escrow.outbox WHERE body = '90')"),
                     "t");
    rig_start(&r);
    rig_until_count(&r, 2);
    ck_assert_str_eq(rig_bodies(&r), "90 80");
    PQfinish(b);
    rig_fini(&r);
}
END_TEST

START_TEST(a_backlog_is_taken_in_steps_and_transactions_stay_whole)
{
    /*
     * Twenty thousand rows in transactions of one to nine: several milestones, small batches, no
     * transaction torn.
     */
    struct rig r;
    size_t torn = 0;

    rig_init(&r, &fixture, "backlog", 25000);
    (void)pg_test_sql(
        r.pg,
        "CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..4000 LOOP "
        "PERFORM escrow.publish('t', i::text::bytea) FROM generate_series(0, i %% 9); COMMIT; "
        "END LOOP; END $$");
    (void)pg_test_sql(r.pg, "SET synchronous_commit = off");
    (void)pg_test_sql(r.pg, "CALL fill()");
    r.cfg.relay.batch_rows_max = 100;
    r.cfg.relay.window_bytes = 2000;
    rig_start(&r);
    rig_until_count(&r, 19994);
    ck_assert_uint_ge(relay_stats(relay_loop_relay(r.relay))->differences, 4);
    for (size_t i = 1; i < r.broker.log_count; i++) {
        torn += strcmp(r.broker.log[i].body, r.broker.log[i - 1].body) == 0 &&
                r.broker.log[i].batch != r.broker.log[i - 1].batch;
        ck_assert_uint_gt(r.broker.log[i].row_id, r.broker.log[i - 1].row_id);
    }
    ck_assert_uint_eq(torn, 0);
    rig_fini(&r);
}
END_TEST

/* Rows in transactions of different sizes, one of them bigger than a batch; nobody reads yet. */
static void fill_some(struct rig *r)
{
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('t', '1')");
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('t', '2') FROM generate_series(1, 8)");
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('t', '3') FROM generate_series(1, 2)");
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('t', '4')");
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('t', '5') FROM generate_series(1, 3)");
}

START_TEST(exactly_once_wherever_the_broker_crashes)
{
    /*
     * The broker crashes before and after storing, at the n-th step, for every n until none is
     * left.
     */
    struct rig r;
    uint64_t n = 1;

    rig_init(&r, &fixture, "broker_crash", 1000);
    r.cfg.relay.batch_rows_max = 3;
    for (bool fired = true; fired; n++) {
        (void)pg_test_sql(r.pg, "TRUNCATE escrow.outbox");
        fill_some(&r);
        r.broker.log_count = 0;
        r.broker.step_count = 0;
        r.broker.crash_at = n;
        r.broker.crash_count = 0;
        rig_start(&r);
        rig_until_count(&r, 15);
        rig_check_books(&r);
        fired = r.broker.crash_count > 0;
        rig_stop(&r);
    }
    ck_assert_uint_gt(n, 12);
    rig_fini(&r);
}
END_TEST

struct batch_count_arg {
    struct rig *rig;
    size_t count;
};

static bool has_batches(void *arg)
{
    struct batch_count_arg *a = arg;

    return a->rig->broker.batch_count >= a->count;
}

START_TEST(exactly_once_wherever_the_relay_is_killed)
{
    /*
     * A relay that was let go after n batches, in the middle of a difference; another one goes on.
     */
    struct rig r;

    rig_init(&r, &fixture, "relay_kill", 1000);
    r.cfg.relay.batch_rows_max = 2;
    r.cfg.relay.window_bytes = 6; /* so that not everything is sent at once */
    for (size_t n = 1; n <= 8; n++) {
        struct batch_count_arg arg = {&r, n};
        (void)pg_test_sql(r.pg, "TRUNCATE escrow.outbox");
        fill_some(&r);
        r.broker.log_count = 0;
        r.broker.batch_count = 0;
        rig_start(&r);
        rig_until(&r, has_batches, &arg, "batches");
        rig_stop(&r);
        rig_start(&r);
        rig_until_count(&r, 15);
        rig_check_books(&r);
        rig_stop(&r);
    }
    rig_fini(&r);
}
END_TEST

static bool has_epoch_2(void *arg)
{
    struct rig *r = arg;

    return r->broker.epoch == 2 && relay_state(relay_loop_relay(r->relay)) == RELAY_IDLE;
}

START_TEST(of_two_relays_the_first_is_fenced)
{
    /* The second takes the epoch; the first learns it at its next batch and ends. Nothing twice. */
    struct rig r;
    struct relay_loop *first;

    rig_init(&r, &fixture, "fenced", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    first = r.relay;
    r.relay = relay_loop_new(&r.loop, &r.broker.sink, &r.cfg);
    ck_assert_ptr_nonnull(r.relay);
    relay_loop_start(r.relay);
    rig_until(&r, has_epoch_2, &r, "the second relay");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '2')");
    rig_until_ended(&r, RELAY_FENCED);
    ck_assert_int_eq(r.why.code, ESCROW_EFENCED);
    relay_loop_free(first);
    r.has_ended = false;
    rig_until_count(&r, 2);
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(a_sleeping_relay_is_woken)
{
    /* With polls a minute apart, a message arrives at once all the same. */
    struct rig r;

    rig_init(&r, &fixture, "wake", 100);
    r.cfg.relay.poll_min_ms = 60000;
    r.cfg.relay.poll_max_ms = 60000;
    r.cfg.relay.maintain_ms = 600000;
    rig_start(&r);
    rig_until_idle(&r);
    for (size_t i = 1; i <= 3; i++) {
        struct batch_count_arg arg = {&r, i};
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'x')");
        rig_until(&r, has_batches, &arg, "wake-up");
        rig_until_idle(&r);
        /* While rows come it holds the lock and wants no wake-ups; sleep again. */
        rig_stop(&r);
        rig_start(&r);
        rig_until_idle(&r);
    }
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(no_notify_while_the_relay_is_awake)
{
    /* A publisher that cannot take the wake lock sends no notification. */
    struct rig r;
    PGconn *listener;

    rig_init(&r, &fixture, "quiet", 100);
    listener = pg_test_connect(r.conninfo);
    (void)pg_test_sql(listener, "LISTEN escrow_outbox");
    (void)pg_test_sql(
        r.pg,
        "BEGIN; SELECT pg_advisory_lock(1702060914, 1); COMMIT"); /* as a relay that is awake */
    (void)pg_test_sql(listener, "SELECT escrow.publish('t', 'x')");
    (void)pg_test_sql(listener, "SELECT 1");
    ck_assert_ptr_null(PQnotifies(listener));
    (void)pg_test_sql(r.pg, "SELECT pg_advisory_unlock_all()");
    (void)pg_test_sql(listener, "SELECT escrow.publish('t', 'x')");
    (void)pg_test_sql(listener, "SELECT 1");
    PQfreemem(PQnotifies(listener));
    PQfinish(listener);
    rig_fini(&r);
}
END_TEST

static bool has_queue(void *arg)
{
    struct rig *r = arg;

    return r->broker.queue_count > 0;
}

START_TEST(a_slow_broker_slows_the_read_down)
{
    /*
     * One transaction too big to be sorted here: what is read ahead stays inside the window; the
     * rest waits in the database.
     */
    struct rig r;
    const struct relay_stats *stats;

    rig_init(&r, &fixture, "slow_broker", 10000);
    r.cfg.relay.window_bytes = 20000;
    r.cfg.relay.batch_bytes_max = 4000;
    r.cfg.relay.sort_bytes_max = 50000;
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', convert_to(repeat('x', 100), 'UTF8')) "
                            "FROM generate_series(1, 10000)");
    r.broker.holds_batches = true;
    rig_start(&r);
    rig_until(&r, has_queue, &r, "batches");
    rig_run_ms(&r, 300);
    stats = relay_stats(relay_loop_relay(r.relay));
    ck_assert_uint_gt(stats->rows_read, 100);
    ck_assert_uint_le(stats->rows_read * 101, 50000 + 20000 + 4000 + 101);
    fake_broker_release(&r.broker);
    rig_until_count(&r, 10000);
    rig_fini(&r);
}
END_TEST

static void add_tests(Suite *suite)
{
    ADD(suite, committed_rows_arrive_and_rolled_back_ones_do_not);
    ADD(suite, an_older_id_that_commits_later_is_not_missed);
    ADD(suite, a_long_transaction_stalls_nobody);
    ADD(suite, late_lower_xid_keeps_key_order);
    ADD(suite, a_backlog_is_taken_in_steps_and_transactions_stay_whole);
    ADD(suite, exactly_once_wherever_the_broker_crashes);
    ADD(suite, exactly_once_wherever_the_relay_is_killed);
    ADD(suite, of_two_relays_the_first_is_fenced);
    ADD(suite, a_sleeping_relay_is_woken);
    ADD(suite, no_notify_while_the_relay_is_awake);
    ADD(suite, a_slow_broker_slows_the_read_down);
}
