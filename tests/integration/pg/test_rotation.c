/* Partitions: emptied when everybody has passed them, never waited for, nothing lost under load. */
#include "tests/integration/pg/pg_main.h"
#include "tests/integration/pg/rig.h"

#include <stdio.h>
#include <string.h>

#define LOAD      12000 /* rows */
#define LOADS_MAX 10

static int64_t number(const char *text)
{
    int64_t value = 0;

    ck_assert(slice_to_i64(slice_str(text), &value));
    return value;
}

/* Rows published by a session that commits one after the other, without waiting for its end. */
static PGconn *start_load(struct rig *r)
{
    PGconn *pg = pg_test_connect(r->conninfo);
    char sql[64];

    (void)pg_test_sql(
        pg,
        "CREATE OR REPLACE PROCEDURE load(n int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP "
        "PERFORM escrow.publish('t', convert_to(i || repeat(' ', 300), 'UTF8')); COMMIT; END "
        "LOOP; END $$");
    (void)pg_test_sql(pg, "SET synchronous_commit = off");
    (void)snprintf(sql, sizeof sql, "CALL load(%d)", LOAD);
    ck_assert_int_eq(PQsendQuery(pg, sql), 1);
    return pg;
}

static void finish_load(PGconn *pg)
{
    PGresult *res = PQgetResult(pg);

    ck_assert_msg(PQresultStatus(res) == PGRES_COMMAND_OK, "%s", PQerrorMessage(pg));
    while (res != NULL) {
        PQclear(res);
        res = PQgetResult(pg);
    }
    PQfinish(pg);
}

static void check_bodies(struct rig *r, size_t count)
{
    ck_assert_uint_eq(r->broker.log_count, count);
    for (size_t i = 0; i < count; i++) {
        char want[16];
        (void)snprintf(want, sizeof want, "%zu ", i % LOAD + 1);
        ck_assert_msg(strncmp(r->broker.log[i].body, want, strlen(want)) == 0,
                      "message %zu is '%s'", i, r->broker.log[i].body);
    }
}

static bool is_small(void *arg)
{
    struct rig *r = arg;

    return number(pg_test_sql(
               r->pg, "SELECT sum(pg_relation_size(format('escrow.outbox_%%s', n)::regclass)) "
                      "FROM generate_series(0, 3) n")) <= 1500000;
}

/* Fewer rows than the two thousand that were published. */
static bool is_emptied(void *arg)
{
    struct rig *r = arg;

    return number(pg_test_sql(r->pg, "SELECT count(*) FROM escrow.outbox")) < 2000;
}

START_TEST(partitions_rotate_under_load_and_nothing_is_lost)
{
    /* Small partitions, a relay that reports often, a writer that does not stop. */
    struct rig r;
    PGconn *load;
    size_t total = 0;

    rig_init(&r, &fixture, "rot_load", (size_t)LOAD * LOADS_MAX);
    r.cfg.switch_bytes = 400000;
    r.cfg.relay.maintain_ms = 10;
    rig_start(&r);
    rig_until_idle(&r);
    do { /* once; more often where the relay seldom comes to it */
        load = start_load(&r);
        total += LOAD;
        rig_until_some(&r, total);
        finish_load(load);
        rig_until_idle(&r);
        check_bodies(&r, total);
    } while (number(pg_test_sql(r.pg, "SELECT rotations FROM escrow.outbox_state")) < 4);
    rig_until(&r, is_small, &r, "partitions that were emptied");
    rig_fini(&r);
}
END_TEST

START_TEST(a_locked_partition_is_left_for_later)
{
    /*
     * pg_dump, say, holds a lock on everything: nobody waits, publishers go on; afterwards it is
     * emptied.
     */
    struct rig r;
    PGconn *dump;

    rig_init(&r, &fixture, "rot_lock", 3000);
    r.cfg.switch_bytes = 100000;
    r.cfg.relay.maintain_ms = 10;
    dump = pg_test_connect(r.conninfo);
    (void)pg_test_sql(r.pg, "SET lock_timeout = '3s'");
    (void)pg_test_sql(dump, "BEGIN; LOCK TABLE escrow.outbox IN ACCESS SHARE MODE");
    rig_start(&r);
    for (size_t i = 1; i <= 10; i++) {
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', convert_to(repeat('x', 300), 'UTF8')) "
                                "FROM generate_series(1, 200)");
        rig_until_count(&r, i * 200);
        rig_run_ms(&r, 30);
    }
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT count(*) FROM escrow.outbox"), "2000");
    (void)pg_test_sql(dump, "COMMIT");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '')");
    rig_until(&r, is_emptied, &r, "a partition that was emptied");
    PQfinish(dump);
    rig_fini(&r);
}
END_TEST

START_TEST(an_open_writer_keeps_its_partition)
{
    /* It has rows that nobody can see yet; they are read when it commits. */
    struct rig r;
    PGconn *writer;

    rig_init(&r, &fixture, "rot_writer", 3000);
    r.cfg.switch_bytes = 100000;
    r.cfg.relay.maintain_ms = 10;
    writer = pg_test_connect(r.conninfo);
    (void)pg_test_sql(writer, "BEGIN; SELECT escrow.publish('t', 'late')");
    rig_start(&r);
    for (size_t i = 1; i <= 10; i++) {
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', convert_to(repeat('x', 300), 'UTF8')) "
                                "FROM generate_series(1, 200)");
        rig_until_count(&r, i * 200);
        rig_run_ms(&r, 30);
    }
    (void)pg_test_sql(writer, "COMMIT");
    rig_until_count(&r, 2001);
    ck_assert_str_eq(r.broker.log[2000].body, "late");
    PQfinish(writer);
    rig_fini(&r);
}
END_TEST

START_TEST(a_slower_reader_keeps_what_it_needs)
{
    /* Two sources read one outbox; the one that stopped finds everything when it comes back. */
    struct rig r;
    struct rig slow;

    rig_init(&r, &fixture, "rot_slow", 3000);
    (void)pg_test_sql(r.pg, "SELECT escrow.reader_register('slow', 0)");
    r.cfg.switch_bytes = 100000;
    r.cfg.relay.maintain_ms = 10;
    rig_start(&r);
    for (size_t i = 1; i <= 10; i++) {
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', convert_to(repeat('x', 300), 'UTF8')) "
                                "FROM generate_series(1, 200)");
        rig_until_count(&r, i * 200);
        rig_run_ms(&r, 30);
    }
    rig_stop(&r);
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT count(*) FROM escrow.outbox"), "2000");
    rig_attach(&slow, r.conninfo, 3000);
    slow.cfg.relay.source = "slow";
    slow.cfg.switch_bytes = 100000;
    slow.cfg.relay.maintain_ms = 10;
    rig_start(&slow);
    rig_until_count(&slow, 2000);
    rig_until(&slow, is_emptied, &r, "a partition that was emptied");
    rig_fini(&slow);
    rig_fini(&r);
}
END_TEST

START_TEST(without_a_reader_nothing_is_emptied)
{
    /* Messages from before the first relay are for it. */
    struct rig r;

    rig_init(&r, &fixture, "rot_none", 100);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'early')");
    for (int i = 0; i < 6; i++) {
        (void)pg_test_sql(r.pg, "SELECT * FROM escrow.outbox_rotate(1, '0 seconds')");
    }
    (void)pg_test_fails(r.pg, "P0001",
                        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT escrow.outbox_rotate()");
    (void)pg_test_sql(r.pg, "ROLLBACK");
    rig_start(&r);
    rig_until_count(&r, 1);
    rig_fini(&r);
}
END_TEST

/*
 * One row in partition 0 that reader `r` has passed; partition 1 is being filled. The session that
 * is returned has another one in partition 0, in a transaction that is open.
 */
static PGconn *start_two_rows(struct rig *r)
{
    PGconn *writer = pg_test_connect(r->conninfo);

    (void)pg_test_sql(r->pg, "SET statement_timeout = '20s'"); /* waiting is a failure */
    (void)pg_test_sql(r->pg, "SELECT escrow.reader_register('r', 0)");
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('t', 'early')");
    (void)pg_test_sql(writer, "BEGIN; SELECT escrow.publish('t', 'late')");
    ck_assert_str_eq(
        pg_test_sql(r->pg, "SELECT is_switched FROM escrow.outbox_rotate(1, '0 seconds')"), "t");
    (void)pg_test_sql(r->pg, "SELECT escrow.reader_report('r', 0, pg_current_snapshot(), 1)");
    return writer;
}

static const char *bodies(struct rig *r)
{
    return pg_test_sql(r->pg, "SELECT string_agg(convert_from(body, 'UTF8'), ' ' ORDER BY id) "
                              "FROM escrow.outbox");
}

START_TEST(a_writer_that_commits_between_the_two_looks_keeps_its_partition)
{
    /*
     * Rotation stands still after its first look, which found nothing that is needed; the writer
     * commits, so that the lock is free. What it wrote is there for the reader, until it has it.
     */
    struct rig r;
    PGconn *writer;
    PGconn *rotation;
    PGresult *res;

    rig_init(&r, &fixture, "rot_looks", 100);
    writer = start_two_rows(&r);
    (void)pg_test_sql(r.pg, "ALTER FUNCTION escrow.outbox_is_needed RENAME TO look");
    (void)pg_test_sql(r.pg, "CREATE FUNCTION escrow.outbox_is_needed(slot smallint) RETURNS "
                            "boolean LANGUAGE plpgsql AS $$ DECLARE answer boolean := "
                            "escrow.look(slot); BEGIN PERFORM pg_advisory_xact_lock(77); RETURN "
                            "answer; END $$");
    (void)pg_test_sql(r.pg, "SELECT pg_advisory_lock(77)");
    rotation = pg_test_connect(r.conninfo);
    ck_assert_int_eq(PQsendQuery(rotation, "SELECT emptied, blocked FROM escrow.outbox_rotate()"),
                     1);
    while (number(pg_test_sql(
               r.pg,
               "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'")) == 0) {
        rig_run_ms(&r, 5);
    }
    (void)pg_test_sql(writer, "COMMIT");
    (void)pg_test_sql(r.pg, "SELECT pg_advisory_unlock(77)");
    res = PQgetResult(rotation);
    ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s", PQerrorMessage(rotation));
    ck_assert_str_eq(PQgetvalue(res, 0, 0), "0");
    ck_assert_str_eq(PQgetvalue(res, 0, 1), "0"); /* it had the lock, and looked again */
    PQclear(res);
    PQfinish(rotation);
    ck_assert_str_eq(bodies(&r), "early late");
    (void)pg_test_sql(r.pg, "SELECT escrow.reader_report('r', 0, pg_current_snapshot(), 2)");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT emptied FROM escrow.outbox_rotate()"), "1");
    ck_assert_str_eq(bodies(&r), "");
    PQfinish(writer);
    rig_fini(&r);
}
END_TEST

START_TEST(a_writer_that_has_not_ended_blocks_its_partition_and_nobody_waits)
{
    /* Rotation comes back at once, with the lock not got; the writer's row is kept. */
    struct rig r;
    PGconn *writer;

    rig_init(&r, &fixture, "rot_open", 100);
    writer = start_two_rows(&r);
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT emptied || ' ' || blocked FROM "
                                       "escrow.outbox_rotate()"),
                     "0 1");
    (void)pg_test_sql(writer, "COMMIT");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT emptied || ' ' || blocked FROM "
                                       "escrow.outbox_rotate()"),
                     "0 0");
    ck_assert_str_eq(bodies(&r), "early late");
    PQfinish(writer);
    rig_fini(&r);
}
END_TEST

static void add_tests(Suite *suite)
{
    ADD(suite, partitions_rotate_under_load_and_nothing_is_lost);
    ADD(suite, a_locked_partition_is_left_for_later);
    ADD(suite, an_open_writer_keeps_its_partition);
    ADD(suite, a_slower_reader_keeps_what_it_needs);
    ADD(suite, without_a_reader_nothing_is_emptied);
    ADD(suite, a_writer_that_commits_between_the_two_looks_keeps_its_partition);
    ADD(suite, a_writer_that_has_not_ended_blocks_its_partition_and_nobody_waits);
}
