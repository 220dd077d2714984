/* Restored, cloned and foreign databases: refused until a person says what they are. */
#include "escrow/errors.h"
#include "outbox/pg/status.h"
#include "outbox/position.h"
#include "tests/integration/pg/pg_main.h"
#include "tests/integration/pg/rig.h"

#include <stdio.h>
#include <string.h>

static void reconnect(struct rig *r)
{
    PQfinish(r->pg);
    r->pg = pg_test_connect(r->conninfo);
}

/* What a person is told to type, from the line that refused. */
static void read_hint(struct rig *r)
{
    const char *hint = strstr(r->why.text, "--adopt=");
    int64_t system;
    char *slash;

    ck_assert_ptr_nonnull(hint);
    hint += strlen("--adopt=");
    slash = strchr(hint, '/');
    ck_assert_ptr_nonnull(slash);
    ck_assert(slice_to_i64(slice_of(hint, (size_t)(slash - hint)), &system));
    r->cfg.relay.foreign_db.system_id = (uint64_t)system;
    r->cfg.relay.foreign_db.timeline = (uint32_t)(slash[1] - '0');
}

static void finish(struct rig *r)
{
    relay_loop_free(r->relay);
    r->relay = NULL;
}

/* Change what the broker has as if another cluster had written it. */
static void make_foreign(struct rig *r, bool other_system)
{
    struct position p;

    position_init(&p);
    ck_assert_int_eq(position_decode(&p, buf_slice(&r->broker.position)), 0);
    if (other_system) {
        p.db.system_id++;
    } else {
        p.db.timeline++;
    }
    buf_clear(&r->broker.position);
    position_encode(&p, &r->broker.position);
    position_fini(&p);
}

START_TEST(another_system_or_timeline_is_refused)
{
    /* Nothing is published, and the line says what to do; naming another identity does not help. */
    struct rig r;

    rig_init(&r, &fixture, "id_system", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    rig_stop(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '2')");
    for (int i = 0; i < 2; i++) {
        make_foreign(&r, i == 0);
        rig_start(&r);
        rig_until_ended(&r, RELAY_REFUSED);
        ck_assert_int_eq(r.why.code, ESCROW_EFOREIGN);
        read_hint(&r);
        finish(&r);
    }
    r.cfg.relay.foreign = RELAY_FOREIGN_ADOPT;
    r.cfg.relay.foreign_db.system_id += 5;
    rig_start(&r);
    rig_until_ended(&r, RELAY_REFUSED);
    finish(&r);
    ck_assert_uint_eq(r.broker.log_count, 1);
    rig_fini(&r);
}
END_TEST

START_TEST(a_copy_inside_the_cluster_is_refused)
{
    /* CREATE DATABASE ... TEMPLATE: same system, same timeline, another database. */
    struct rig r;
    PGconn *admin;

    rig_init(&r, &fixture, "id_original", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    rig_stop(&r);
    PQfinish(r.pg);
    admin = pg_test_connect(fixture.conninfo);
    (void)pg_test_sql(admin, "CREATE DATABASE id_copy TEMPLATE id_original");
    PQfinish(admin);
    (void)snprintf(r.conninfo, sizeof r.conninfo, "host=%s user=escrow dbname=id_copy",
                   fixture.folder);
    r.pg = pg_test_connect(r.conninfo);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'copy')");
    rig_start(&r);
    rig_until_ended(&r, RELAY_REFUSED);
    ck_assert_uint_eq(r.broker.log_count, 1);
    finish(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(adopting_loses_nothing)
{
    /*
     * What the database does not know to be published is published; then the new identity is the
     * known one.
     */
    struct rig r;

    rig_init(&r, &fixture, "id_adopt", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    rig_run_ms(&r, 100); /* reported */
    rig_stop(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '2')");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '3')");
    make_foreign(&r, true);
    /* As in a database that was restored into another cluster. */
    (void)pg_test_sql(r.pg, "UPDATE escrow.reader SET system_identifier = '42'");
    (void)pg_test_sql(r.pg,
                      "UPDATE escrow.outbox SET xid = '99999999999' WHERE body IN ('2', '3')");
    rig_start(&r);
    rig_until_ended(&r, RELAY_REFUSED);
    read_hint(&r);
    finish(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_ADOPT;
    rig_start(&r);
    rig_until_count(&r, 3);
    ck_assert_str_eq(rig_bodies(&r), "1 2 3");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '4')");
    rig_until_count(&r, 4);
    rig_stop(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_REFUSE;
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '5')");
    rig_until_count(&r, 5);
    ck_assert_str_eq(rig_bodies(&r), "1 2 3 4 5");
    rig_fini(&r);
}
END_TEST

START_TEST(discarding_publishes_only_what_comes_from_now_on)
{
    /* A staging copy of production: what it holds must not go out. */
    struct rig r;

    rig_init(&r, &fixture, "id_discard", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    rig_stop(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'old')");
    make_foreign(&r, true);
    rig_start(&r);
    rig_until_ended(&r, RELAY_REFUSED);
    read_hint(&r);
    finish(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_DISCARD;
    rig_start(&r);
    rig_until_idle(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'new')");
    rig_until_count(&r, 2);
    ck_assert_str_eq(rig_bodies(&r), "1 new");
    rig_fini(&r);
}
END_TEST

START_TEST(a_restored_backup_is_refused_and_can_be_adopted)
{
    /*
     * Same system, same timeline, but behind the position: transaction ids would be used again, and
     * rows be missed.
     */
    struct rig r;

    rig_init(&r, &fixture, "id_backup", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    rig_run_ms(&r, 100); /* reported */
    rig_stop(&r);
    pg_fixture_backup(&fixture);
    reconnect(&r);
    rig_start(&r);
    for (int i = 0; i < 3; i++) {
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'gone')");
    }
    rig_until_count(&r, 4);
    rig_stop(&r);
    PQfinish(r.pg);
    pg_fixture_restore(&fixture);
    r.pg = pg_test_connect(r.conninfo);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'again')");
    rig_start(&r);
    rig_until_ended(&r, RELAY_REFUSED);
    ck_assert_ptr_nonnull(strstr(r.why.text, "ahead of this database"));
    read_hint(&r);
    finish(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_ADOPT;
    rig_start(&r);
    rig_until_count(&r, 5);
    ck_assert_str_eq(rig_bodies(&r), "1 gone gone gone again");
    rig_stop(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(a_restored_backup_that_went_on_is_refused_too)
{
    /*
     * It has used more transaction ids than the position knows; but it does not know of the reports
     * that were made.
     */
    struct rig r;

    rig_init(&r, &fixture, "id_went_on", 200);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    rig_run_ms(&r, 100); /* reported */
    rig_stop(&r);
    pg_fixture_backup(&fixture);
    reconnect(&r);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'gone')");
    rig_until_count(&r, 2);
    rig_run_ms(&r, 100); /* reported */
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'gone')");
    rig_until_count(&r, 3);
    rig_stop(&r);
    PQfinish(r.pg);
    pg_fixture_restore(&fixture);
    r.pg = pg_test_connect(r.conninfo);
    for (int i = 0; i < 100; i++) {
        (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'again')");
    }
    rig_start(&r);
    rig_until_ended(&r, RELAY_REFUSED);
    ck_assert_ptr_nonnull(strstr(r.why.text, "ahead of this database"));
    read_hint(&r);
    finish(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_ADOPT;
    rig_start(&r);
    rig_until_count(&r, 103);
    rig_stop(&r);
    rig_fini(&r);
}
END_TEST

static bool has_reported_nothing(void *arg)
{
    const struct rig *r = arg;

    return strcmp(pg_test_sql(r->pg, "SELECT reports > 0 AND rows_acked = 0 FROM escrow.reader"),
                  "t") == 0;
}

static bool has_reported_a_row(void *arg)
{
    const struct rig *r = arg;

    return strcmp(pg_test_sql(r->pg, "SELECT rows_acked = 1 FROM escrow.reader"), "t") == 0;
}

/* What escrow-relay status says of the reader, as JSON and in words. */
static void expect_status(struct rig *r, const char *state, bool is_refused)
{
    struct buf out;
    struct err_ctx err;
    const char *words;

    buf_init(&out, 0);
    ck_assert_msg(status_run(r->conninfo, true, &out, &err) == 0, "%s", err.text);
    buf_append_u8(&out, 0);
    {
        const char *values[] = {(char *)out.ptr, state, is_refused ? "t" : "f"};
        PGresult *res = PQexecParams(
            r->pg,
            "SELECT d->>'state' LIKE $2 || '%' AND CASE WHEN $3::boolean THEN "
            "(d->>'since')::timestamptz BETWEEN now() - interval '1 minute' AND now() + interval "
            "'1 s' AND d->>'to_do' = 'start escrow-relay as the error says' AND d->>'error' LIKE "
            "'%--adopt=%' ELSE d->>'since' IS NULL AND d->>'to_do' IS NULL AND d->>'error' IS NULL "
            "END FROM (SELECT $1::jsonb->'readers'->0) AS s(d)",
            3, NULL, values, NULL, NULL, 0);
        ck_assert_msg(PQresultStatus(res) == PGRES_TUPLES_OK, "%s", PQerrorMessage(r->pg));
        ck_assert_msg(strcmp(PQgetvalue(res, 0, 0), "t") == 0, "%s", (char *)out.ptr);
        PQclear(res);
    }
    buf_clear(&out);
    ck_assert_msg(status_run(r->conninfo, false, &out, &err) == 0, "%s", err.text);
    buf_append_u8(&out, 0);
    words = strstr((char *)out.ptr, "\n  state  ");
    ck_assert_ptr_nonnull(words);
    ck_assert_ptr_nonnull(strstr(words, state));
    buf_fini(&out);
}

static bool is_well(void *arg)
{
    struct rig *r = arg;

    return strcmp(pg_test_sql(r->pg, "SELECT error IS NULL AND NOT is_refused FROM escrow.reader"),
                  "t") == 0;
}

/* As read_hint; the broker has lost everything. */
static void refuse_wiped_broker(struct rig *r)
{
    buf_clear(&r->broker.position);
    rig_start(r);
    rig_until_ended(r, RELAY_REFUSED);
    ck_assert_int_eq(r->why.code, ESCROW_EFOREIGN);
    ck_assert_ptr_nonnull(strstr(r->why.text, "no position of source"));
    ck_assert_ptr_nonnull(strstr(r->why.text, "says that 1 rows were published"));
    read_hint(r);
    finish(r);
    expect_status(r, "REFUSED: nothing is published", true);
}

START_TEST(a_broker_that_lost_the_position_is_refused)
{
    /* Nothing goes out twice; adopted, it gets what was not published before, and is the known one.
     */
    struct rig r;

    rig_init(&r, &fixture, "id_wiped", 100);
    rig_start(&r);
    rig_until(&r, has_reported_nothing, &r, "a report without rows");
    rig_stop(&r);
    ck_assert_uint_eq(r.broker.position.len, 0); /* so the next is a first start again */
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    rig_until(&r, has_reported_a_row, &r, "the report");
    rig_stop(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '2')");
    refuse_wiped_broker(&r);
    (void)pg_test_sql(r.pg, "UPDATE escrow.reader SET error_since = '2001-02-03Z'");
    rig_start(&r); /* started again in vain: it is refused since then, not since now */
    rig_until_ended(&r, RELAY_REFUSED);
    finish(&r);
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT error_since = '2001-02-03Z' AND error_count = 2 "
                                       "FROM escrow.reader"),
                     "t");
    r.cfg.relay.foreign = RELAY_FOREIGN_ADOPT;
    rig_start(&r);
    rig_until_count(&r, 2);
    ck_assert_str_eq(rig_bodies(&r), "1 2");
    rig_until(&r, is_well, &r, "the end of the refusal");
    expect_status(&r, "well, as of its last report", false);
    rig_stop(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_REFUSE;
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '3')");
    rig_until_count(&r, 3);
    ck_assert_str_eq(rig_bodies(&r), "1 2 3");
    rig_fini(&r);
}
END_TEST

START_TEST(a_new_broker_that_counts_its_epochs_from_one_is_taken)
{
    /* Not for one that another relay has overtaken; and what is parked goes out there, once. */
    struct rig r;

    rig_init(&r, &fixture, "id_new_broker", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    rig_until(&r, has_reported_a_row, &r, "the report");
    rig_stop(&r);
    (void)pg_test_sql(r.pg, "UPDATE escrow.reader SET epoch = 1000000");
    (void)pg_test_sql(r.pg, "INSERT INTO escrow.outbox_parked (source, lane, id, xid, created_at, "
                            "topic, body, error, wanted, replay_no) VALUES ('test', 0, 500, "
                            "'1000000', now(), 't', 'parked', 'e', true, 7)");
    r.broker.epoch = 0;
    refuse_wiped_broker(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_ADOPT;
    rig_start(&r);
    rig_until_count(&r, 2);
    ck_assert_str_eq(rig_bodies(&r), "1 parked");
    ck_assert_uint_eq(relay_stats(relay_loop_relay(r.relay))->failures, 0);
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT replay_no FROM escrow.outbox_parked"), "1");
    rig_fini(&r);
}
END_TEST

START_TEST(a_broker_that_lost_the_position_is_given_the_present)
{
    /* What the outbox holds is left out. */
    struct rig r;

    rig_init(&r, &fixture, "id_wiped_discard", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    rig_until(&r, has_reported_a_row, &r, "the report");
    rig_stop(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'old')");
    refuse_wiped_broker(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_DISCARD;
    rig_start(&r);
    rig_until_idle(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'new')");
    rig_until_count(&r, 2);
    ck_assert_str_eq(rig_bodies(&r), "1 new");
    rig_fini(&r);
}
END_TEST

/* A copy of what the broker has, and the broker put back to it. */
struct broker_copy {
    struct buf position;
    size_t log_count;
    uint64_t epoch;
};

static void copy_broker(const struct rig *r, struct broker_copy *copy)
{
    buf_init(&copy->position, 0);
    buf_append_slice(&copy->position, buf_slice(&r->broker.position));
    copy->log_count = r->broker.log_count;
    copy->epoch = r->broker.epoch;
}

static void put_broker_back(struct rig *r, const struct broker_copy *copy)
{
    buf_clear(&r->broker.position);
    buf_append_slice(&r->broker.position, buf_slice(&copy->position));
    r->broker.log_count = copy->log_count;
    r->broker.epoch = copy->epoch;
}

static bool has_reported_all(void *arg)
{
    const struct rig *r = arg;

    return strcmp(pg_test_sql(r->pg, "SELECT rows_acked = last_value FROM escrow.reader, "
                                     "escrow.outbox_id"),
                  "t") == 0;
}

static bool is_truncated(void *arg)
{
    const struct rig *r = arg;

    return strcmp(pg_test_sql(r->pg, "SELECT given_up IS NOT NULL FROM escrow.reader"), "t") == 0;
}

/* Publishes 1, copies the broker, publishes 2 and 3, and has them reported. */
static void publish_around_copy(struct rig *r, struct broker_copy *copy)
{
    rig_start(r);
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(r, 1);
    copy_broker(r, copy);
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('t', '2')");
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('t', '3')");
    rig_until_count(r, 3);
    rig_until(r, has_reported_all, r, "the report");
}

START_TEST(a_broker_put_back_gets_again_what_the_outbox_still_has)
{
    /* Also what is published when the relay has not noticed yet; and nothing of it is truncated. */
    struct rig r;
    struct broker_copy copy;

    rig_init(&r, &fixture, "id_put_back", 100);
    publish_around_copy(&r, &copy);
    put_broker_back(&r, &copy);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '4')");
    rig_until_count(&r, 4);
    ck_assert_str_eq(rig_bodies(&r), "1 2 3 4");
    rig_stop(&r);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '5')");
    rig_until_count(&r, 5);
    ck_assert_str_eq(rig_bodies(&r), "1 2 3 4 5");
    buf_fini(&copy.position);
    rig_fini(&r);
}
END_TEST

START_TEST(a_broker_put_back_behind_truncated_rows_is_refused)
{
    /* Adopted, it gets what is left, and is the known one. */
    struct rig r;
    struct broker_copy copy;

    rig_init(&r, &fixture, "id_put_back_far", 100);
    r.cfg.switch_bytes = 1; /* every report goes on to the next partition */
    publish_around_copy(&r, &copy);
    rig_until(&r, is_truncated, &r, "the truncation");
    rig_stop(&r);
    put_broker_back(&r, &copy);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'left')");
    for (int i = 0; i < 2; i++) {
        rig_start(&r);
        rig_until_ended(&r, RELAY_REFUSED);
        ck_assert_int_eq(r.why.code, ESCROW_EFOREIGN);
        ck_assert_ptr_nonnull(strstr(r.why.text, "put back to an older state"));
        read_hint(&r);
        finish(&r);
    }
    ck_assert_str_eq(rig_bodies(&r), "1");
    r.cfg.relay.foreign = RELAY_FOREIGN_ADOPT;
    rig_start(&r);
    rig_until_some(&r, 2);
    rig_until_idle(&r);
    ck_assert_ptr_nonnull(strstr(rig_bodies(&r), "left"));
    rig_stop(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_REFUSE;
    rig_start(&r);
    rig_until_idle(&r);
    rig_stop(&r);
    buf_fini(&copy.position);
    rig_fini(&r);
}
END_TEST

START_TEST(a_database_taken_over_knows_nothing_of_the_broker_before)
{
    /* Its transaction ids may be lower than those that the old one had reported. */
    struct rig r;

    rig_init(&r, &fixture, "id_anew", 100);
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '1')");
    rig_until_count(&r, 1);
    rig_until(&r, has_reported_all, &r, "the report");
    rig_stop(&r);
    make_foreign(&r, true);
    (void)pg_test_sql(r.pg, "UPDATE escrow.reader SET system_identifier = '42', "
                            "stored = '99999999999:99999999999:', "
                            "given_up = '99999999999:99999999999:', cleared = 7");
    rig_start(&r);
    rig_until_ended(&r, RELAY_REFUSED);
    read_hint(&r);
    finish(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_ADOPT;
    rig_start(&r);
    rig_until_idle(&r);
    rig_stop(&r);
    r.cfg.relay.foreign = RELAY_FOREIGN_REFUSE;
    rig_start(&r);
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', '2')");
    rig_until_some(&r, 2);
    rig_stop(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(a_position_that_cannot_be_read_is_refused)
{
    /* A newer relay has written it, or it is damaged: nothing is guessed. */
    struct rig r;

    rig_init(&r, &fixture, "id_garbage", 100);
    buf_append_str(&r.broker.position, "garbage, and long enough to look like one");
    rig_start(&r);
    rig_until_ended(&r, RELAY_REFUSED);
    finish(&r);
    rig_fini(&r);
}
END_TEST

static void add_tests(Suite *suite)
{
    ADD(suite, another_system_or_timeline_is_refused);
    ADD(suite, a_copy_inside_the_cluster_is_refused);
    ADD(suite, adopting_loses_nothing);
    ADD(suite, discarding_publishes_only_what_comes_from_now_on);
    ADD(suite, a_restored_backup_is_refused_and_can_be_adopted);
    ADD(suite, a_restored_backup_that_went_on_is_refused_too);
    ADD(suite, a_broker_that_lost_the_position_is_refused);
    ADD(suite, a_new_broker_that_counts_its_epochs_from_one_is_taken);
    ADD(suite, a_broker_that_lost_the_position_is_given_the_present);
    ADD(suite, a_broker_put_back_gets_again_what_the_outbox_still_has);
    ADD(suite, a_broker_put_back_behind_truncated_rows_is_refused);
    ADD(suite, a_database_taken_over_knows_nothing_of_the_broker_before);
    ADD(suite, a_position_that_cannot_be_read_is_refused);
}
