#include "tests/unit/txn/world.h"

#include "core/base/check.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"
#include "txn/check_back.h"

#include <stdio.h>

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

static struct world w;

static void setup(void)
{
    struct txn_config config;

    world_config(&config);
    world_init(&w, &config, 1);
}

static void teardown(void)
{
    txn_check(w.t);
    world_fini(&w);
}

static uint64_t durable_half(const char *group, const char *id)
{
    uint64_t offset = world_half(&w, group, id, "paid", NULL);

    world_sync(&w);
    return offset;
}

/* The next question, within a day; there must be one. */
static struct txn_ask next_ask(void)
{
    const struct txn_ask *ask = world_next_ask(&w, DAY);

    ck_assert_ptr_nonnull(ask);
    return *ask;
}

/* Nobody is there, on any way, for whoever is asked during `ms`. */
static size_t nobody_for(int64_t ms, int64_t step_ms)
{
    size_t asked = 0;

    for (int64_t passed = 0; passed < ms; passed += step_ms) {
        size_t from = w.ask_count;
        (void)world_tick(&w);
        for (; from < w.ask_count; from++) { /* a failed question may bring the next way's */
            struct txn_ask ask = w.asks[from];
            asked++;
            (void)world_fail(&w, &ask, TXN_ASK_UNDELIVERABLE);
        }
        world_sync(&w);
        world_pass(&w, step_ms);
    }
    return asked;
}

static uint32_t checks_of(uint64_t offset)
{
    struct txn_row row = {0};
    struct decided_fact fact;

    ck_assert(txn_find(w.t, offset, &row, &fact));
    return row.checks;
}

/* ---- when ------------------------------------------------------------------------------------ */

START_TEST(the_first_question_comes_after_the_immunity_and_not_before)
{
    /* Six seconds of the broker's time, not a tick earlier. */
    uint64_t offset = durable_half("g", "t");

    world_pass(&w, 5999);
    ck_assert_uint_eq(world_tick(&w), 0);
    ck_assert_int_le(txn_next_ms(w.t), w.now.mono_ms + 1 + CHECK_BACK_TICK_MS);
    world_pass(&w, 1 + CHECK_BACK_TICK_MS);
    ck_assert_uint_eq(world_tick(&w), 1);
    ck_assert_uint_eq(world_last_ask(&w)->offset, offset);
    ck_assert_int_eq(world_state(&w, offset), HALF_CHECKING);
}
END_TEST

START_TEST(a_message_may_ask_for_an_immunity_of_its_own)
{
    /*
     * CHECK_IMMUNITY_TIME_IN_SECONDS, also 0, and at most what the configuration allows; waiting
     * counts nothing (H30).
     */
    static const int64_t wants[] = {0, 600 * SECOND, INT64_MAX};
    int64_t limits[] = {0, 600 * SECOND, w.config.immunity_max_ms};

    for (size_t i = 0; i < 3; i++) {
        struct txn_half_info info = {.group = SLICE_LIT("g"),
                                     .txn_id = SLICE_LIT("t"),
                                     .topic = SLICE_LIT("x"),
                                     .store_ms = w.now.wall_ms,
                                     .immunity_ms = wants[i]};
        int64_t before;
        teardown();
        setup();
        info.store_ms = w.now.wall_ms;
        ck_assert_int_eq(txn_apply_half(w.t, &info, 4096, w.now, NULL), 0);
        before = w.now.mono_ms;
        for (int64_t next = 0; world_tick(&w) == 0;
             w.now.wall_ms += next - w.now.mono_ms, w.now.mono_ms = next) {
            next = txn_next_ms(w.t);
            ck_assert_int_gt(next, w.now.mono_ms);
        }
        ck_assert_int_ge(w.now.mono_ms - before, limits[i]);
        ck_assert_int_le(w.now.mono_ms - before, limits[i] + 2 * CHECK_BACK_TICK_MS);
        ck_assert_uint_eq(checks_of(4096), 0);
    }
}
END_TEST

START_TEST(time_while_the_broker_was_down_counts_as_age)
{
    /* By the broker's own store time: after an hour of outage the half is due at once. */
    uint64_t offset = durable_half("g", "t");

    world_crash(&w, 0, HOUR);
    ck_assert_uint_eq(world_tick(&w), 1);
    ck_assert_uint_eq(world_last_ask(&w)->offset, offset);
}
END_TEST

START_TEST(a_clock_that_jumped_back_delays_a_check_by_the_immunity_at_most)
{
    /* The half seems to come from the future: it waits its immunity, not a day (H15). */
    (void)durable_half("g", "t");
    world_crash(&w, 0, -DAY);
    ck_assert_uint_eq(world_tick(&w), 0);
    world_pass(&w, w.config.immunity_ms + CHECK_BACK_TICK_MS);
    ck_assert_uint_eq(world_tick(&w), 1);
}
END_TEST

START_TEST(rounds_come_later_each_time_up_to_the_longest_interval)
{
    /* 30 s doubled each time, ten minutes at most, never more than a quarter on top. */
    int64_t want = 30 * SECOND;

    (void)durable_half("g", "t");
    for (int round = 0; round < 10; round++) {
        struct txn_ask ask = next_ask();
        int64_t before = w.now.mono_ms;

        ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_IN_PROGRESS), 0);
        (void)next_ask();
        ck_assert_int_ge(w.now.mono_ms - before, want);
        ck_assert_int_le(w.now.mono_ms - before, want + want / 4 + 2 * CHECK_BACK_TICK_MS);
        want = want * 2 > 600 * SECOND ? 600 * SECOND : want * 2;
        ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_IN_PROGRESS), 0);
        if (want < 600 * SECOND) {
            want = want * 2 > 600 * SECOND ? 600 * SECOND : want * 2;
        }
    }
}
END_TEST

START_TEST(jitter_spreads_rounds_that_began_together)
{
    /* A hundred halves in progress at once are not asked about at one moment the next time. */
    int64_t first = 0;
    int64_t last = 0;

    for (int i = 0; i < 100; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%d", i);
        (void)durable_half("g", id);
    }
    for (size_t i = 0; i < 100; i++) {
        while (w.ask_count <= i) {
            world_pass(&w, 100);
            (void)world_tick(&w);
        }
        ck_assert_int_eq(world_answer(&w, &w.asks[i], TXN_ANSWER_IN_PROGRESS), 0);
    }
    while (w.ask_count < 200) {
        world_pass(&w, 100);
        if (world_tick(&w) > 0) {
            first = first == 0 ? w.now.mono_ms : first;
            last = w.now.mono_ms;
        }
    }
    ck_assert_int_gt(last - first, 5 * SECOND);
}
END_TEST

/* ---- ways ------------------------------------------------------------------------------------ */

START_TEST(ways_are_tried_in_order_until_one_answers)
{
    /* Nobody connected: HTTP in the same moment; its answer decides. */
    uint64_t offset = durable_half("g", "t");
    struct txn_ask live = next_ask();
    struct txn_ask http;

    ck_assert_int_eq(live.way, TXN_WAY_LIVE);
    ck_assert_int_eq(world_fail(&w, &live, TXN_ASK_UNDELIVERABLE), 0);
    http = *world_last_ask(&w);
    ck_assert_int_eq(http.way, TXN_WAY_HTTP);
    ck_assert_uint_eq(http.offset, offset);
    ck_assert_uint_ne(http.nonce, live.nonce);
    ck_assert_int_eq(world_answer(&w, &http, TXN_ANSWER_COMMIT), 0);
    ck_assert_int_eq(world_state(&w, offset), HALF_COMMITTING);
    world_sync(&w);
    ck_assert_uint_eq(w.release_count, 1);
    ck_assert_uint_eq(txn_counters(w.t)->decided_by_check, 1);
}
END_TEST

START_TEST(only_configured_ways_are_used)
{
    /* HTTP alone: the live connection is never tried. */
    struct txn_config config = w.config;
    struct txn_ask ask;

    world_fini(&w);
    config.ways = 1u << TXN_WAY_HTTP;
    world_init(&w, &config, 1);
    (void)durable_half("g", "t");
    ask = next_ask();
    ck_assert_int_eq(ask.way, TXN_WAY_HTTP);
    ck_assert_int_eq(world_fail(&w, &ask, TXN_ASK_UNANSWERED), 0);
    ck_assert_uint_eq(w.ask_count, 1);
}
END_TEST

START_TEST(a_live_producer_that_does_not_know_is_no_reason_not_to_ask_http)
{
    /* "Unknown" on one way, "commit" on the next: committed, and no round was counted. */
    uint64_t offset = durable_half("g", "t");
    struct txn_ask ask = next_ask();

    ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_UNKNOWN), 0);
    ck_assert_int_eq(world_last_ask(&w)->way, TXN_WAY_HTTP);
    ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_COMMIT), 0);
    world_sync(&w);
    ck_assert_int_eq(world_state(&w, offset), HALF_COMMITTED);
    ck_assert_uint_eq(txn_counters(w.t)->rounds_counted, 0);
}
END_TEST

START_TEST(in_progress_ends_the_round_and_asks_nobody_else)
{
    /* Somebody knows, and says: later. */
    struct txn_ask ask;

    (void)durable_half("g", "t");
    ask = next_ask();
    ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_IN_PROGRESS), 0);
    ck_assert_uint_eq(w.ask_count, 1);
    ck_assert_int_eq(world_state(&w, ask.offset), HALF_PREPARED);
}
END_TEST

/* ---- counting -------------------------------------------------------------------------------- */

START_TEST(a_group_that_is_down_for_a_day_loses_nothing_and_costs_next_to_nothing)
{
    /*
     * A thousand halves, nobody there for 24 hours: nothing counted, nothing parked, one attempt
     * per pause (P14, H28, H31).
     */
    size_t asked;
    size_t records;
    int64_t begin;

    for (int i = 0; i < 1000; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%d", i);
        (void)world_half(&w, "g", id, "paid", NULL);
    }
    world_sync(&w);
    records = w.log_count;
    asked = nobody_for(DAY, SECOND);
    /*
     * Two ways, once per pause of at least 30 s; and the window that was out when the pause began.
     */
    ck_assert_uint_le(asked, 2 * ((size_t)(DAY / (30 * SECOND)) + 10 + w.config.group_window));
    ck_assert_uint_gt(asked, 1000);
    ck_assert_uint_eq(w.log_count, records);
    ck_assert_uint_eq(w.release_count, 0);
    ck_assert_uint_eq(txn_counters(w.t)->rounds_counted, 0);

    begin = w.now.mono_ms;
    txn_group_reachable(w.t, SLICE_LIT("g"), w.now);
    for (size_t i = w.ask_count; txn_counters(w.t)->committed < 1000; i++) {
        while (w.ask_count <= i) {
            world_pass(&w, 100);
            (void)world_tick(&w);
            ck_assert_int_lt(w.now.mono_ms - begin, 5 * SECOND); /* 500 a second */
        }
        ck_assert_int_eq(world_answer(&w, &w.asks[i], TXN_ANSWER_COMMIT), 0);
        world_sync(&w);
    }
    ck_assert_uint_eq(w.release_count, 1000);
}
END_TEST

START_TEST(questions_without_an_answer_never_count)
{
    /* A checker that accepts and says nothing for three days: backed off, still open (P14). */
    uint64_t offset = durable_half("g", "t");

    for (int64_t end = w.now.mono_ms + 3 * DAY; w.now.mono_ms < end;) {
        (void)world_next_ask(&w, DAY);
        world_sync(&w);
    }
    ck_assert_uint_gt(w.ask_count, 100);
    ck_assert_uint_lt(w.ask_count, 1000);
    ck_assert_uint_eq(checks_of(offset), 0);
    ck_assert_uint_eq(w.release_count, 0);
    ck_assert_uint_ge(txn_counters(w.t)->asks_unanswered + 1, w.ask_count);
}
END_TEST

START_TEST(answers_that_are_none_neither_decide_nor_count)
{
    /* Status 500, text, a wrong id: whatever it was, it is neither a commit nor an answer (P12). */
    uint64_t offset = durable_half("g", "t");

    for (int i = 0; i < 60; i++) {
        struct txn_ask ask = next_ask();
        ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_INVALID), 0);
        world_sync(&w);
    }
    ck_assert_int_ne(world_state(&w, offset), HALF_EXPIRED);
    ck_assert_uint_eq(checks_of(offset), 0);
    ck_assert_uint_eq(w.release_count, 0);
    ck_assert_uint_eq(txn_counters(w.t)->answers_invalid, 60);
}
END_TEST

START_TEST(in_progress_never_counts)
{
    /* A local transaction that takes its time is not a reason to give up. */
    uint64_t offset = durable_half("g", "t");

    for (int i = 0; i < 50; i++) {
        struct txn_ask ask = next_ask();
        ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_IN_PROGRESS), 0);
        world_sync(&w);
    }
    ck_assert_uint_eq(checks_of(offset), 0);
    ck_assert_uint_eq(w.release_count, 0);
}
END_TEST

/* One round in which both ways say that they do not know. */
static void unknown_round(void)
{
    struct txn_ask ask = next_ask();

    ck_assert_int_eq(ask.way, TXN_WAY_LIVE);
    ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_UNKNOWN), 0);
    ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_UNKNOWN), 0);
}

START_TEST(a_round_that_was_answered_unknown_counts_once_when_it_is_durable)
{
    /* Two ways, one count; not before the CHECK record is applied. */
    uint64_t offset = durable_half("g", "t");

    unknown_round();
    ck_assert_uint_eq(checks_of(offset), 0);
    world_sync(&w);
    ck_assert_uint_eq(checks_of(offset), 1);
    ck_assert_uint_eq(txn_counters(w.t)->answers_unknown, 2);
    ck_assert_uint_eq(txn_counters(w.t)->rounds_counted, 1);
}
END_TEST

START_TEST(unknown_on_one_way_counts_when_the_other_reaches_nobody)
{
    /*
     * Somebody was asked and answered: undeliverable, unanswered and invalid on the other way
     * change nothing.
     */
    for (int second = 0; second < 3; second++) {
        char id[16];
        uint64_t offset;
        struct txn_ask ask;

        (void)snprintf(id, sizeof id, "t%d", second);
        offset = durable_half("g", id);
        ask = next_ask();
        ck_assert_uint_eq(ask.offset, offset);
        ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_UNKNOWN), 0);
        ask = *world_last_ask(&w);
        if (second == 0) {
            ck_assert_int_eq(world_fail(&w, &ask, TXN_ASK_UNDELIVERABLE), 0);
        } else if (second == 1) {
            ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_INVALID), 0);
        } else {
            world_pass(&w, w.config.answer_ms[TXN_WAY_HTTP] + CHECK_BACK_TICK_MS);
            (void)world_tick(&w); /* the deadline */
        }
        world_sync(&w);
        ck_assert_uint_eq(checks_of(offset), 1);
        (void)world_end(&w, DECISION_COMMIT, DECISION_BY_OPERATOR, NULL, offset, NULL);
        world_sync(&w);
    }
}
END_TEST

START_TEST(unknown_then_in_progress_does_not_count)
{
    /* The second way knows better: the transaction is alive. */
    uint64_t offset = durable_half("g", "t");
    struct txn_ask ask = next_ask();

    ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_UNKNOWN), 0);
    ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_IN_PROGRESS), 0);
    world_sync(&w);
    ck_assert_uint_eq(checks_of(offset), 0);
}
END_TEST

START_TEST(the_count_survives_a_restart)
{
    /* From the log, and from a checkpoint. */
    uint64_t offset = durable_half("g", "t");

    unknown_round();
    world_sync(&w);
    world_crash(&w, 0, SECOND);
    ck_assert_uint_eq(checks_of(offset), 1);
    unknown_round();
    world_sync(&w);
    world_checkpoint(&w);
    world_crash(&w, 0, SECOND);
    ck_assert_uint_eq(checks_of(offset), 2);
}
END_TEST

START_TEST(counts_are_absolute_and_never_go_down)
{
    /* An older CHECK record, read again, changes nothing. */
    uint64_t offset = durable_half("g", "t");
    struct buf older;
    uint64_t counted;

    unknown_round();
    world_sync(&w);
    unknown_round();
    world_sync(&w);
    ck_assert_uint_eq(checks_of(offset), 2);
    counted = txn_counters(w.t)->rounds_counted;
    buf_init(&older, 0);
    check_encode_head(&older, 1, 5);
    check_encode_entry(&older, &(struct check_entry){.offset = offset, .checks = 1});
    ck_assert_int_eq(txn_apply_check(w.t, buf_slice(&older), w.now, NULL), 0);
    ck_assert_uint_eq(checks_of(offset), 2);
    ck_assert_uint_eq(txn_counters(w.t)->rounds_counted, counted);
    buf_fini(&older);
}
END_TEST

START_TEST(the_back_off_survives_a_checkpoint)
{
    /* After a restart the next round comes as late as it would have, not 30 s later again. */
    struct txn_ask ask;
    int64_t before;

    (void)durable_half("g", "t");
    for (int i = 0; i < 4; i++) { /* 30, 60, 120, 240 s */
        ask = next_ask();
        ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_IN_PROGRESS), 0);
    }
    world_checkpoint(&w);
    world_crash(&w, 0, 0);
    ask = next_ask();
    before = w.now.mono_ms;
    ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_IN_PROGRESS), 0);
    (void)next_ask();
    ck_assert_int_ge(w.now.mono_ms - before, 480 * SECOND);
}
END_TEST

START_TEST(a_count_that_cannot_be_written_is_not_counted)
{
    /* A full disk: no CHECK records, so no half expires, however often it is asked about. */
    uint64_t offset = durable_half("g", "t");

    w.refuses_checks = true;
    for (int i = 0; i < 20; i++) {
        unknown_round();
        world_sync(&w);
    }
    ck_assert_uint_eq(checks_of(offset), 0);
    ck_assert_uint_eq(w.release_count, 0);
}
END_TEST

/* ---- the end of asking ----------------------------------------------------------------------- */

static uint64_t expired_half(const char *id)
{
    uint64_t offset = durable_half("g", id);

    while (world_state(&w, offset) != HALF_EXPIRED) {
        struct txn_ask ask = next_ask();
        ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_UNKNOWN), 0);
        ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_UNKNOWN), 0);
        world_sync(&w);
        (void)world_tick(&w); /* proposes the expiry when the count is full */
        world_sync(&w);
    }
    return offset;
}

START_TEST(a_half_that_nobody_knows_is_parked_and_never_dropped)
{
    /*
     * After as many counted rounds as configured: visible in the parking topic, listed, asked about
     * no more (P13).
     */
    uint64_t offset = expired_half("t");
    size_t asked = w.ask_count;

    ck_assert_uint_eq(txn_counters(w.t)->rounds_counted, w.config.checks_max);
    ck_assert_uint_eq(world_released(&w, offset, DECISION_EXPIRE), 1);
    ck_assert_uint_eq(world_released(&w, offset, DECISION_COMMIT), 0);
    ck_assert_str_eq(w.releases[0].topic, TXN_PARKING_TOPIC);
    ck_assert_ptr_null(world_next_ask(&w, 3 * DAY));
    ck_assert_uint_eq(w.ask_count, asked);
    ck_assert_int_eq(txn_next_ms(w.t), INT64_MAX);
    world_crash(&w, 0, HOUR);
    ck_assert_int_eq(world_state(&w, offset), HALF_EXPIRED);
    ck_assert_ptr_null(world_next_ask(&w, DAY));
    ck_assert_uint_eq(world_released(&w, offset, DECISION_EXPIRE), 1);
}
END_TEST

START_TEST(a_parked_half_can_still_be_committed_or_rolled_back_once)
{
    /* Late answers are taken; the first one wins here too (H26). */
    uint64_t a = expired_half("a");
    uint64_t b = expired_half("b");

    world_checkpoint(&w);
    world_crash(&w, 0, HOUR);
    ck_assert_int_eq(world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "g", a, "a").code,
                     TXN_END_PERSIST);
    ck_assert_int_eq(world_end(&w, DECISION_ROLLBACK, DECISION_BY_OPERATOR, NULL, b, NULL).code,
                     TXN_END_PERSIST);
    world_sync(&w);
    ck_assert_uint_eq(world_released(&w, a, DECISION_COMMIT), 1);
    ck_assert_uint_eq(world_released(&w, b, DECISION_COMMIT), 0);
    ck_assert_int_eq(world_end(&w, DECISION_COMMIT, DECISION_BY_OPERATOR, NULL, b, NULL).code,
                     TXN_END_CONFLICT);
    ck_assert_uint_eq(txn_counters(w.t)->decided_after_expiry, 2);
    ck_assert_uint_eq(txn_reserve_bytes(w.t), 0);
}
END_TEST

START_TEST(an_expiry_that_was_not_written_is_proposed_again)
{
    /* The log refuses: the half stays PREPARED, and a second later it is proposed again. */
    uint64_t offset = durable_half("g", "t");

    w.refuses_decisions = true;
    for (uint32_t i = 0; i < w.config.checks_max; i++) {
        unknown_round();
        world_sync(&w);
    }
    (void)world_tick(&w);
    ck_assert_uint_gt(w.u.decision.len, 0);
    ck_assert_int_eq(world_state(&w, offset), HALF_PREPARED);
    (void)world_tick(&w);
    ck_assert_uint_eq(w.u.decision.len, 0); /* not at once */
    w.refuses_decisions = false;
    world_pass(&w, CHECK_BACK_EXPIRE_RETRY_MS + CHECK_BACK_TICK_MS);
    (void)world_tick(&w);
    ck_assert_int_eq(world_state(&w, offset), HALF_EXPIRING);
    world_sync(&w);
    ck_assert_int_eq(world_state(&w, offset), HALF_EXPIRED);
}
END_TEST

START_TEST(a_commit_overtakes_an_expiry_in_flight)
{
    /*
     * Both records are in the log: parked by the first, committed by the second, whatever survives.
     */
    for (size_t kept = 0; kept <= 2; kept++) {
        static const int want[] = {HALF_PREPARED, HALF_EXPIRED, HALF_COMMITTED};
        uint64_t offset;

        teardown();
        setup();
        offset = durable_half("g", "t");
        for (uint32_t i = 0; i < w.config.checks_max; i++) {
            unknown_round();
            world_sync(&w);
        }
        (void)world_tick(&w);
        ck_assert_int_eq(world_state(&w, offset), HALF_EXPIRING);
        ck_assert_int_eq(
            world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "g", offset, "t").code,
            TXN_END_PERSIST);
        ck_assert_int_eq(world_state(&w, offset), HALF_COMMITTING);
        if (kept == 2) {
            world_sync(&w); /* live */
        } else {
            world_crash(&w, kept, SECOND);
        }
        ck_assert_int_eq(world_state(&w, offset), want[kept]);
        ck_assert_uint_eq(world_released(&w, offset, DECISION_COMMIT), kept == 2);
        ck_assert_uint_eq(world_released(&w, offset, DECISION_EXPIRE), kept >= 1);
    }
}
END_TEST

START_TEST(a_decided_half_is_never_asked_about_again)
{
    /* Not while the decision is in flight, not after, not after a restart (H27). */
    uint64_t offset = durable_half("g", "t");

    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "g", offset, "t");
    ck_assert_ptr_null(world_next_ask(&w, HOUR));
    world_sync(&w);
    ck_assert_ptr_null(world_next_ask(&w, HOUR));
    world_crash(&w, 0, HOUR);
    ck_assert_ptr_null(world_next_ask(&w, HOUR));
    ck_assert_int_eq(txn_next_ms(w.t), INT64_MAX);
}
END_TEST

static void add_when(Suite *suite)
{
    TCase *tc = tcase_create("when and how");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, the_first_question_comes_after_the_immunity_and_not_before);
    tcase_add_test(tc, a_message_may_ask_for_an_immunity_of_its_own);
    tcase_add_test(tc, time_while_the_broker_was_down_counts_as_age);
    tcase_add_test(tc, a_clock_that_jumped_back_delays_a_check_by_the_immunity_at_most);
    tcase_add_test(tc, rounds_come_later_each_time_up_to_the_longest_interval);
    tcase_add_test(tc, jitter_spreads_rounds_that_began_together);
    tcase_add_test(tc, ways_are_tried_in_order_until_one_answers);
    tcase_add_test(tc, only_configured_ways_are_used);
    tcase_add_test(tc, a_live_producer_that_does_not_know_is_no_reason_not_to_ask_http);
    tcase_add_test(tc, in_progress_ends_the_round_and_asks_nobody_else);
    suite_add_tcase(suite, tc);
}

static void add_counting(Suite *suite)
{
    TCase *tc = tcase_create("counting and the end");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_group_that_is_down_for_a_day_loses_nothing_and_costs_next_to_nothing);
    tcase_add_test(tc, questions_without_an_answer_never_count);
    tcase_add_test(tc, answers_that_are_none_neither_decide_nor_count);
    tcase_add_test(tc, in_progress_never_counts);
    tcase_add_test(tc, a_round_that_was_answered_unknown_counts_once_when_it_is_durable);
    tcase_add_test(tc, unknown_on_one_way_counts_when_the_other_reaches_nobody);
    tcase_add_test(tc, unknown_then_in_progress_does_not_count);
    tcase_add_test(tc, the_count_survives_a_restart);
    tcase_add_test(tc, counts_are_absolute_and_never_go_down);
    tcase_add_test(tc, the_back_off_survives_a_checkpoint);
    tcase_add_test(tc, a_count_that_cannot_be_written_is_not_counted);
    tcase_add_test(tc, a_half_that_nobody_knows_is_parked_and_never_dropped);
    tcase_add_test(tc, a_parked_half_can_still_be_committed_or_rolled_back_once);
    tcase_add_test(tc, an_expiry_that_was_not_written_is_proposed_again);
    tcase_add_test(tc, a_commit_overtakes_an_expiry_in_flight);
    tcase_add_test(tc, a_decided_half_is_never_asked_about_again);
    suite_add_tcase(suite, tc);
}

int main(void)
{
    Suite *suite = suite_create("txn/check_back");

    add_when(suite);
    add_counting(suite);
    return unit_run(suite);
}
