/*
 * What the broker refuses: what is parked with it, what is not, and how it all goes back in order.
 */
#include "escrow/errors.h"
#include "outbox/pg/status.h"
#include "tests/integration/pg/pg_main.h"
#include "tests/integration/pg/rig.h"

#include <stdio.h>
#include <string.h>

static void publish(struct rig *r, const char *topic, const char *key, const char *body)
{
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('%s', '%s', ordering_key => nullif('%s', ''))",
                      topic, body, key);
}

static const char *parked(struct rig *r)
{
    return pg_test_sql(r->pg, "SELECT coalesce(string_agg(convert_from(body, 'UTF8'), ' ' "
                              "ORDER BY id), '') FROM escrow.outbox_parked");
}

static void replay(struct rig *r, const char *condition)
{
    (void)pg_test_sql(r->pg,
                      "SELECT escrow.parked_replay(array(SELECT id FROM escrow.outbox_parked "
                      "WHERE %s))",
                      condition);
}

struct parked_arg {
    struct rig *rig;
    const char *bodies;
};

static bool is_parked(void *arg)
{
    struct parked_arg *a = arg;

    return strcmp(parked(a->rig), a->bodies) == 0;
}

static void until_parked(struct rig *r, const char *bodies)
{
    struct parked_arg arg = {r, bodies};

    rig_until(r, is_parked, &arg, bodies);
    rig_until_idle(r);
}

static bool is_held_by(void *arg)
{
    struct parked_arg *a = arg;

    return strcmp(pg_test_sql(a->rig->pg,
                              "SELECT coalesce(string_agg(topic || '/' || ordering_key, "
                              "' ' ORDER BY topic, ordering_key), '') "
                              "FROM escrow.outbox_hold"),
                  a->bodies) == 0;
}

/* Topic, slash, key; nothing: all of the topic. */
static void until_held(struct rig *r, const char *names)
{
    struct parked_arg arg = {r, names};

    rig_until(r, is_held_by, &arg, names);
}

/* Rows of one topic and key went out in the order in which they were published. */
static void check_order(struct rig *r)
{
    const struct fake_message *log = r->broker.log;

    for (size_t i = 0; i < r->broker.log_count; i++) {
        for (size_t k = 0; k < i; k++) {
            bool is_same = log[i].ordering_key[0] != '\0' &&
                           strcmp(log[i].ordering_key, log[k].ordering_key) == 0 &&
                           strcmp(log[i].topic, log[k].topic) == 0;
            ck_assert_msg(!is_same || log[k].row_id < log[i].row_id, "%s after %s: %s", log[i].body,
                          log[k].body, rig_bodies(r));
        }
    }
}

START_TEST(a_row_that_the_broker_refuses_holds_up_its_key_alone)
{
    /*
     * Among many, first and last of transactions, with a key and without: each is set aside with
     * the reason, and behind it what comes for its key, now and later. Everything else arrives
     * exactly once, in order; transactions without such a row stay whole.
     */
    struct rig r;

    rig_init(&r, &fixture, "parked_row", 200);
    r.broker.bad_body = "bad";
    (void)pg_test_sql(r.pg,
                      "SELECT escrow.publish('t', i::text::bytea) FROM generate_series(1, 9) i");
    (void)pg_test_sql(r.pg, "SELECT escrow.publish('t', 'bad1', ordering_key => 'k'), "
                            "escrow.publish('t', '10'), "
                            "escrow.publish('t', 'k1', ordering_key => 'k'), "
                            "escrow.publish('other', 'k2', ordering_key => 'k'), "
                            "escrow.publish('t', 'bad2')");
    (void)pg_test_sql(r.pg,
                      "SELECT escrow.publish('t', i::text::bytea) FROM generate_series(12, 20) i");
    rig_start(&r);
    until_parked(&r, "bad1 k1 bad2");
    ck_assert_str_eq(rig_bodies(&r), "1 2 3 4 5 6 7 8 9 10 k2 12 13 14 15 16 17 18 19 20");
    ck_assert_uint_eq(r.broker.log[0].batch, r.broker.log[8].batch);
    ck_assert_uint_eq(r.broker.log[11].batch, r.broker.log[19].batch);
    until_held(&r, "t/k");
    publish(&r, "t", "k", "k3");
    publish(&r, "t", "l", "l1");
    until_parked(&r, "bad1 k1 bad2 k3");
    rig_until_count(&r, 21);
    ck_assert_int_eq(relay_error(relay_loop_relay(r.relay))->code, 0);
    /* Still bad: it goes back, with what was to follow it. */
    replay(&r, "ordering_key = 'k'");
    rig_until_error(&r, "invalid argument; parked");
    rig_until_idle(&r);
    ck_assert_str_eq(parked(&r), "bad1 k1 bad2 k3");
    ck_assert_uint_eq(r.broker.log_count, 21);
    /* Good now: in its old order, with what comes meanwhile behind it; nothing is held any more. */
    r.broker.bad_body = NULL;
    publish(&r, "t", "k", "k4");
    replay(&r, "ordering_key = 'k'");
    until_parked(&r, "bad2");
    until_held(&r, "");
    publish(&r, "t", "k", "k5");
    rig_until_count(&r, 26);
    check_order(&r);
    replay(&r, "true");
    until_parked(&r, "");
    rig_until_count(&r, 27);
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(a_topic_that_takes_nothing_is_parked_in_order_and_stops_no_other)
{
    /*
     * Many rows, with keys and without, some in transactions with rows of other topics. The topic
     * is back: one row tells, without a word from anybody, and all the others follow in order.
     */
    struct rig r;

    rig_init(&r, &fixture, "parked_topic", 5000);
    r.broker.missing_topic = "missing";
    r.cfg.relay.topic_wait_ms = 5000; /* longer than two tries take */
    (void)pg_test_sql(r.pg, "DO $$ BEGIN FOR i IN 1..300 LOOP "
                            "PERFORM escrow.publish('missing', ('m' || i)::bytea, "
                            "ordering_key => (i %% 3)::text), "
                            "escrow.publish('t', ('t' || i)::bytea, ordering_key => 'k'), "
                            "escrow.publish('missing', 'loose'); "
                            "IF i %% 7 = 0 THEN COMMIT; END IF; END LOOP; END $$");
    rig_start(&r);
    rig_until_count(&r, 300);
    ck_assert_uint_gt(relay_stats(relay_loop_relay(r.relay))->topic_waits, 0);
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT count(*) FROM escrow.outbox_parked"), "600");
    ck_assert_uint_eq(relay_stats(relay_loop_relay(r.relay))->rows_parked, 1);
    until_held(&r, "missing/");
    r.broker.missing_topic = NULL;
    publish(&r, "missing", "1", "late");
    (void)pg_test_sql(r.pg, "UPDATE escrow.outbox_hold SET try_at = now()");
    until_parked(&r, "");
    until_held(&r, "");
    rig_until_count(&r, 901);
    ck_assert_uint_ge(relay_stats(relay_loop_relay(r.relay))->rows_replayed,
                      600); /* the late one may be in time */
    check_order(&r);
    rig_check_books(&r);
    rig_fini(&r);
}
END_TEST

START_TEST(with_no_time_to_wait_other_topics_do_not_wait)
{
    /*
     * topic.wait.ms = 0: what is refused for its topic is parked at once; order is kept in the same
     * way, and the topic gets everything when it is there.
     */
    struct rig r;

    rig_init(&r, &fixture, "parked_no_wait", 100);
    r.broker.missing_topic = "missing";
    r.cfg.relay.topic_wait_ms = 0;
    rig_start(&r);
    rig_until_idle(&r);
    publish(&r, "missing", "k", "1");
    publish(&r, "t", "k", "2");
    publish(&r, "missing", "k", "3");
    until_parked(&r, "1 3");
    rig_until_count(&r, 1);
    ck_assert_str_eq(rig_bodies(&r), "2");
    ck_assert_uint_eq(relay_stats(relay_loop_relay(r.relay))->topic_waits, 0);
    r.broker.missing_topic = NULL;
    (void)pg_test_sql(r.pg, "UPDATE escrow.outbox_hold SET try_at = now()");
    until_parked(&r, "");
    rig_until_count(&r, 3);
    ck_assert_str_eq(rig_bodies(&r), "2 1 3");
    rig_fini(&r);
}
END_TEST

START_TEST(a_topic_that_is_tried_in_vain_is_tried_again_later)
{
    /* Only the one row; a row that is bad in itself does not keep its topic closed. */
    struct rig r;

    rig_init(&r, &fixture, "parked_tried", 100);
    r.broker.missing_topic = "missing";
    publish(&r, "missing", "", "bad");
    publish(&r, "missing", "", "good");
    rig_start(&r);
    until_parked(&r, "bad good");
    (void)pg_test_sql(r.pg, "UPDATE escrow.outbox_hold SET try_at = now()");
    rig_until_error(&r, "parked with all that comes for the topic");
    rig_until_idle(&r);
    ck_assert_str_eq(parked(&r), "bad good");
    ck_assert_str_eq(pg_test_sql(r.pg, "SELECT tries || ' ' || (try_at > now() + interval '5 s') "
                                       "FROM escrow.outbox_hold"),
                     "1 true");
    r.broker.missing_topic = NULL;
    r.broker.bad_body = "bad";
    (void)pg_test_sql(r.pg, "UPDATE escrow.outbox_hold SET try_at = now()");
    until_parked(&r, "bad");
    ck_assert_str_eq(rig_bodies(&r), "good");
    rig_fini(&r);
}
END_TEST

START_TEST(a_part_of_a_key_takes_what_is_before_it_along)
{
    /* Chosen by condition: the rows of the key before it go too, those behind it stay. */
    struct rig r;

    rig_init(&r, &fixture, "parked_part", 100);
    r.broker.bad_body = "1";
    for (int i = 1; i <= 4; i++) {
        char body[2] = {(char)('0' + i), '\0'};
        publish(&r, "t", "k", body);
    }
    rig_start(&r);
    until_parked(&r, "1 2 3 4");
    r.broker.bad_body = NULL;
    replay(&r, "body = '3'");
    until_parked(&r, "4");
    publish(&r, "t", "k", "5");
    until_parked(&r, "4 5");
    ck_assert_str_eq(rig_bodies(&r), "1 2 3");
    until_held(&r, "t/k");
    /* What will never be published is dropped; the rest of the key goes on. */
    (void)pg_test_sql(r.pg, "SELECT escrow.parked_drop(array(SELECT id FROM escrow.outbox_parked "
                            "WHERE body = '4'))");
    replay(&r, "true");
    until_parked(&r, "");
    publish(&r, "t", "k", "6");
    rig_until_count(&r, 5);
    ck_assert_str_eq(rig_bodies(&r), "1 2 3 5 6");
    rig_fini(&r);
}
END_TEST

static bool is_over_or_crashed(void *arg)
{
    struct rig *r = arg;

    return r->broker.crash_count > 0 ||
           (relay_state(relay_loop_relay(r->relay)) == RELAY_IDLE && r->broker.queue_count == 0);
}

/* A relay that is killed at the n-th step of the broker, the answer of which is lost. */
static bool run_until_killed(struct rig *r, uint64_t n)
{
    bool is_killed;

    r->broker.step_count = 0;
    r->broker.crash_at = n;
    r->broker.crash_count = 0;
    rig_start(r);
    rig_until(r, is_over_or_crashed, r, "the crash, or the end");
    is_killed = r->broker.crash_count > 0;
    r->broker.crash_at = 0;
    r->broker.is_down = true; /* nothing that it sends arrives any more */
    r->broker.down_code = ESCROW_ECONN;
    rig_stop(r);
    r->broker.is_down = false;
    return is_killed;
}

/* Each row is in the topic or among the parked ones: in one of the two, once. */
static void check_one_place(struct rig *r, uint64_t n)
{
    PGresult *res = PQexec(r->pg, "SELECT o.id, p.id IS NOT NULL FROM escrow.outbox AS o "
                                  "LEFT JOIN escrow.outbox_parked AS p ON p.id = o.id");

    for (int row = 0; row < PQntuples(res); row++) {
        size_t places = strcmp(PQgetvalue(res, row, 1), "t") == 0;
        int64_t id = 0;
        ck_assert(slice_to_i64(slice_str(PQgetvalue(res, row, 0)), &id));
        for (size_t i = 0; i < r->broker.log_count; i++) {
            places += r->broker.log[i].row_id == (uint64_t)id;
        }
        ck_assert_msg(places == 1, "step %d: row %s is in %zu places", (int)n,
                      PQgetvalue(res, row, 0), places);
    }
    PQclear(res);
}

static void fill(struct rig *r)
{
    (void)pg_test_sql(r->pg, "TRUNCATE escrow.outbox, escrow.outbox_parked, escrow.outbox_hold");
    (void)pg_test_sql(r->pg, "SELECT escrow.publish('t', '1', ordering_key => 'k'), "
                             "escrow.publish('missing', '2', ordering_key => 'k'), "
                             "escrow.publish('t', '3', ordering_key => 'l')");
    publish(r, "missing", "k", "4");
    publish(r, "t", "k", "bad5");
    publish(r, "t", "k", "6");
    publish(r, "missing", "", "7");
    publish(r, "t", "l", "8");
    r->broker.log_count = 0;
    r->broker.missing_topic = "missing";
    r->broker.bad_body = "bad";
}

START_TEST(a_row_is_parked_or_published_wherever_the_relay_is_killed)
{
    /*
     * At the n-th step of the broker, for every n until none is left; while no relay is there the
     * broker is mended. The next relay publishes what was not parked and is not held.
     */
    struct rig r;
    unsigned both = 0; /* runs in which the first relay had parked, and the second had to pass it */
    bool is_killed = true;
    uint64_t n;

    rig_init(&r, &fixture, "parked_kill", 5000);
    r.cfg.relay.topic_wait_ms = 0;
    for (n = 1; is_killed; n++) {
        fill(&r);
        is_killed = run_until_killed(&r, n);
        r.broker.missing_topic = NULL;
        r.broker.bad_body = NULL;
        both += is_killed && strcmp(parked(&r), "") != 0;
        rig_start(&r);
        rig_until_idle(&r);
        rig_stop(&r);
        check_one_place(&r, n);
        check_order(&r);
        replay(&r, "true");
        rig_start(&r);
        until_parked(&r, "");
        rig_stop(&r);
        check_order(&r);
        rig_check_books(&r);
    }
    ck_assert_uint_gt(n, 20);
    ck_assert_uint_gt(both, 4);
    rig_fini(&r);
}
END_TEST

START_TEST(what_is_replayed_is_published_once_wherever_the_relay_is_killed)
{
    /*
     * Everything that is parked is wanted again; in odd runs the row that was refused is still
     * bad. The relay is killed at the n-th step, and the next one in the middle of its work too.
     */
    struct rig r;
    bool is_killed = true;
    uint64_t n;

    rig_init(&r, &fixture, "parked_replay", 5000);
    r.cfg.relay.topic_wait_ms = 0;
    r.cfg.relay.batch_rows_max = 2;
    for (n = 1; is_killed; n++) {
        fill(&r);
        rig_start(&r);
        until_parked(&r, "2 4 bad5 6 7");
        rig_stop(&r);
        r.broker.missing_topic = NULL;
        r.broker.bad_body = n % 2 == 0 ? NULL : "bad";
        publish(&r, "missing", "k", "9");
        publish(&r, "t", "k", "10");
        replay(&r, "true");
        is_killed = run_until_killed(&r, n);
        publish(&r, "missing", "k", "11");
        (void)run_until_killed(&r, n * 7 % 11 + 1);
        check_order(&r);
        r.broker.bad_body = NULL;
        replay(&r, "true");
        rig_start(&r);
        until_parked(&r, "");
        rig_until_count(&r, 11);
        rig_stop(&r);
        check_order(&r);
        rig_check_books(&r);
    }
    ck_assert_uint_gt(n, 10);
    rig_fini(&r);
}
END_TEST

START_TEST(a_relay_that_was_overtaken_parks_nothing)
{
    /* The database knows the epoch of the last one that came: the one before ends as fenced. */
    struct rig r;

    rig_init(&r, &fixture, "parked_overtaken", 100);
    r.broker.bad_body = "bad";
    publish(&r, "t", "k", "bad");
    rig_start(&r);
    until_parked(&r, "bad");
    (void)pg_test_sql(r.pg, "UPDATE escrow.reader SET epoch = epoch + 1");
    publish(&r, "t", "k", "2");
    rig_until_ended(&r, RELAY_FENCED);
    rig_stop(&r);
    ck_assert_str_eq(parked(&r), "bad");
    /* A broker that was put back counts from there: it comes as far in some attempts. */
    (void)pg_test_sql(r.pg, "UPDATE escrow.reader SET epoch = epoch + 5");
    rig_start(&r);
    until_parked(&r, "bad 2");
    rig_fini(&r);
}
END_TEST

START_TEST(parking_and_replaying_need_no_more_than_the_role)
{
    /* roles.sql: the relay parks, sets aside and replays; its user may ask for a replay too. */
    struct rig r;
    PGconn *mover;
    char conninfo[256];

    rig_init(&r, &fixture, "parked_role", 100);
    pg_fixture_roles(r.conninfo);
    (void)pg_test_sql(r.pg, "CREATE ROLE parker LOGIN IN ROLE escrow_relay");
    (void)snprintf(conninfo, sizeof conninfo, "host=%s user=parker dbname=parked_role",
                   fixture.folder);
    mover = pg_test_connect(conninfo);
    r.cfg.conninfo = conninfo;
    r.broker.bad_body = "bad";
    publish(&r, "t", "k", "bad");
    rig_start(&r);
    until_parked(&r, "bad");
    publish(&r, "t", "k", "2");
    until_parked(&r, "bad 2");
    (void)pg_test_fails(mover, "42501", "SELECT escrow.parked_drop('{1}')");
    r.broker.bad_body = NULL;
    (void)pg_test_sql(mover, "SELECT escrow.parked_replay(array(SELECT id FROM "
                             "escrow.outbox_parked))");
    until_parked(&r, "");
    ck_assert_str_eq(rig_bodies(&r), "bad 2");
    PQfinish(mover);
    rig_fini(&r);
}
END_TEST

static bool is_over(void *arg)
{
    struct rig *r = arg;

    return strcmp(pg_test_sql(r->pg, "SELECT error IS NULL FROM escrow.reader"), "t") == 0;
}

START_TEST(the_status_shows_what_is_held)
{
    /* Which topic or key, why, how many rows wait for it. */
    struct rig r;
    struct buf out;
    struct err_ctx err;
    char text[16384];

    rig_init(&r, &fixture, "parked_status", 100);
    r.broker.missing_topic = "missing";
    publish(&r, "missing", "k", "1");
    publish(&r, "missing", "k", "2");
    rig_start(&r);
    until_parked(&r, "1 2");
    rig_until(&r, is_over, &r, "the end of the failure: all else goes on");
    buf_init(&out, 0);
    ck_assert_msg(status_run(r.conninfo, false, &out, &err) == 0, "%s", err.text);
    (void)slice_to_cstr(buf_slice(&out), text, sizeof text);
    buf_fini(&out);
    ck_assert_ptr_nonnull(strstr(text, "HOLDING: 1 topics or keys; what comes for them is parked"));
    ck_assert_ptr_nonnull(strstr(text, "create the topic, or make it writable for escrow-relay"));
    ck_assert_ptr_nonnull(strstr(text, "all of the topic"));
    ck_assert_ptr_nonnull(strstr(text, "parked_rows   2"));
    ck_assert_ptr_nonnull(strstr(text, "tried again in "));
    ck_assert_ptr_nonnull(strstr(text, "no route to the topic"));
    rig_fini(&r);
}
END_TEST

static void add_tests(Suite *suite)
{
    ADD(suite, a_row_that_the_broker_refuses_holds_up_its_key_alone);
    ADD(suite, a_topic_that_takes_nothing_is_parked_in_order_and_stops_no_other);
    ADD(suite, with_no_time_to_wait_other_topics_do_not_wait);
    ADD(suite, a_topic_that_is_tried_in_vain_is_tried_again_later);
    ADD(suite, a_part_of_a_key_takes_what_is_before_it_along);
    ADD(suite, a_row_is_parked_or_published_wherever_the_relay_is_killed);
    ADD(suite, what_is_replayed_is_published_once_wherever_the_relay_is_killed);
    ADD(suite, a_relay_that_was_overtaken_parks_nothing);
    ADD(suite, parking_and_replaying_need_no_more_than_the_role);
    ADD(suite, the_status_shows_what_is_held);
}
