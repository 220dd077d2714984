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

/* ---- answers that are late, wrong or repeated ------------------------------------------------ */

START_TEST(an_answer_to_no_question_changes_nothing)
{
    /*
     * Unknown offset, wrong nonce, no nonce on HTTP, an earlier round's, after the decision, after
     * a restart (H31, H32).
     */
    uint64_t offset = durable_half("g", "t");
    struct txn_ask live = next_ask();
    struct txn_ask http;
    struct txn_ask bad = live;

    bad.offset = 4711;
    ck_assert_int_eq(world_answer(&w, &bad, TXN_ANSWER_ROLLBACK), ESCROW_ENOTFOUND);
    bad = live;
    bad.nonce ^= 1;
    ck_assert_int_eq(world_answer(&w, &bad, TXN_ANSWER_ROLLBACK), ESCROW_ENOTFOUND);
    ck_assert_int_eq(world_fail(&w, &live, TXN_ASK_UNDELIVERABLE), 0);
    http = *world_last_ask(&w);
    ck_assert_int_eq(world_answer(&w, &live, TXN_ANSWER_ROLLBACK), ESCROW_ENOTFOUND);
    bad = http;
    bad.nonce = TXN_NONCE_NONE;
    ck_assert_int_eq(world_answer(&w, &bad, TXN_ANSWER_ROLLBACK), ESCROW_ENOTFOUND);
    ck_assert_int_eq(world_answer(&w, &http, TXN_ANSWER_IN_PROGRESS), 0);
    ck_assert_int_eq(world_answer(&w, &http, TXN_ANSWER_ROLLBACK), ESCROW_ENOTFOUND);
    live = next_ask();
    world_crash(&w, 0, SECOND);
    ck_assert_int_eq(world_answer(&w, &live, TXN_ANSWER_ROLLBACK), ESCROW_ENOTFOUND);
    live = next_ask();
    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "g", offset, "t");
    ck_assert_int_eq(world_answer(&w, &live, TXN_ANSWER_ROLLBACK), ESCROW_ENOTFOUND);
    world_sync(&w);
    ck_assert_int_eq(world_answer(&w, &live, TXN_ANSWER_ROLLBACK), ESCROW_ENOTFOUND);
    ck_assert_int_eq(world_state(&w, offset), HALF_COMMITTED);
    ck_assert_uint_eq(txn_counters(w.t)->answers_stale, 3);
}
END_TEST

START_TEST(an_answer_after_the_deadline_is_stale)
{
    /* The question has gone to the next way meanwhile. */
    struct txn_ask live;

    (void)durable_half("g", "t");
    live = next_ask();
    ck_assert_int_eq(live.deadline_ms, w.now.mono_ms + w.config.answer_ms[TXN_WAY_LIVE]);
    world_pass(&w, w.config.answer_ms[TXN_WAY_LIVE] + CHECK_BACK_TICK_MS);
    ck_assert_uint_eq(world_tick(&w), 1);
    ck_assert_int_eq(world_last_ask(&w)->way, TXN_WAY_HTTP);
    ck_assert_int_eq(world_answer(&w, &live, TXN_ANSWER_COMMIT), ESCROW_ENOTFOUND);
}
END_TEST

START_TEST(rocketmq_clients_answer_unknown_without_a_nonce)
{
    /* END_TRANSACTION(0, from check) settles the live question of its own half, and no other. */
    uint64_t offset = durable_half("g", "t");
    struct txn_end_item item = {.offset = offset, .txn_id = SLICE_LIT("t")};
    struct txn_end_item wrong = {.offset = offset, .txn_id = SLICE_LIT("u")};

    ck_assert_int_eq(txn_check_unknown(w.t, SLICE_LIT("g"), &item, w.now, &w.u), ESCROW_ENOTFOUND);
    (void)next_ask();
    ck_assert_int_eq(txn_check_unknown(w.t, SLICE_LIT("h"), &item, w.now, &w.u), ESCROW_ENOTFOUND);
    ck_assert_int_eq(txn_check_unknown(w.t, SLICE_EMPTY, &item, w.now, &w.u), ESCROW_ENOTFOUND);
    ck_assert_int_eq(txn_check_unknown(w.t, SLICE_LIT("g"), &wrong, w.now, &w.u), ESCROW_ENOTFOUND);
    ck_assert_int_eq(txn_check_unknown(w.t, SLICE_LIT("g"), &item, w.now, &w.u), 0);
    world_obey(&w);
    ck_assert_int_eq(world_last_ask(&w)->way, TXN_WAY_HTTP);
    ck_assert_int_eq(txn_check_unknown(w.t, SLICE_LIT("g"), &item, w.now, &w.u), ESCROW_ENOTFOUND);
    ck_assert_int_eq(world_fail(&w, world_last_ask(&w), TXN_ASK_UNDELIVERABLE), 0);
    world_sync(&w);
    ck_assert_uint_eq(checks_of(offset), 1);
}
END_TEST

START_TEST(an_answer_whose_record_was_refused_leaves_the_question_open)
{
    /*
     * The log says no: the same answer may come again, or the deadline passes and the half is asked
     * about again.
     */
    uint64_t offset = durable_half("g", "t");
    struct txn_ask ask = next_ask();

    w.refuses_decisions = true;
    ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_COMMIT), 0);
    ck_assert_int_eq(world_state(&w, offset), HALF_CHECKING);
    w.refuses_decisions = false;
    ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_COMMIT), 0);
    world_sync(&w);
    ck_assert_int_eq(world_state(&w, offset), HALF_COMMITTED);
}
END_TEST

/* ---- limits ---------------------------------------------------------------------------------- */

START_TEST(a_group_is_asked_no_faster_than_its_rate)
{
    /*
     * 5,000 halves due at once, every question answered at once: 500 a second and one small burst.
     */
    size_t asked = 0;
    size_t burst = w.config.group_rate / 10 + 1;

    for (int i = 0; i < 5000; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%d", i);
        (void)world_half(&w, "g", id, "paid", NULL);
    }
    world_sync(&w);
    world_pass(&w, 10 * SECOND);
    for (int64_t passed = 0; passed <= 5 * SECOND; passed += 50) {
        (void)world_tick(&w);
        for (; asked < w.ask_count; asked++) {
            ck_assert_int_eq(world_answer(&w, &w.asks[asked], TXN_ANSWER_IN_PROGRESS), 0);
        }
        ck_assert_uint_le(asked, w.config.group_rate * (size_t)passed / 1000 + burst);
        world_pass(&w, 50);
    }
    ck_assert_uint_ge(asked, 4 * w.config.group_rate);
}
END_TEST

START_TEST(a_slow_group_has_no_more_questions_out_than_its_window)
{
    /* It never answers: 256 questions, and no more until their deadlines pass. */
    struct txn_gauges gauges;

    for (int i = 0; i < 2000; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%d", i);
        (void)world_half(&w, "g", id, "paid", NULL);
    }
    world_sync(&w);
    for (int64_t passed = 0; passed < MINUTE; passed += 100) {
        world_pass(&w, 100);
        (void)world_tick(&w);
        txn_gauges(w.t, &gauges);
        ck_assert_uint_le(gauges.asking, w.config.group_window);
    }
    ck_assert_uint_ge(w.ask_count, 2 * w.config.group_window);
}
END_TEST

START_TEST(one_group_that_is_down_does_not_delay_another)
{
    /* A thousand halves of a dead group are due before the one of a live group. */
    uint64_t live;
    bool is_asked = false;

    for (int i = 0; i < 1000; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%d", i);
        (void)world_half(&w, "dead", id, "paid", NULL);
    }
    world_sync(&w);
    (void)nobody_for(20 * SECOND, 100);
    live = durable_half("alive", "t");
    for (int64_t passed = 0; passed < w.config.immunity_ms + 200 && !is_asked; passed += 100) {
        size_t from = w.ask_count;
        world_pass(&w, 100);
        (void)world_tick(&w);
        for (; from < w.ask_count; from++) {
            struct txn_ask ask = w.asks[from];
            is_asked |= ask.offset == live;
            if (ask.offset != live) {
                (void)world_fail(&w, &ask, TXN_ASK_UNDELIVERABLE);
            }
        }
    }
    ck_assert(is_asked);
}
END_TEST

START_TEST(an_unreachable_group_gets_one_question_until_somebody_is_there)
{
    /* After the first failure a single half probes; its answer opens the window again. */
    struct txn_gauges gauges;
    size_t before;

    for (int i = 0; i < 100; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%d", i);
        (void)world_half(&w, "g", id, "paid", NULL);
    }
    world_sync(&w);
    (void)nobody_for(30 * SECOND, 100);
    before = w.ask_count;
    while (w.ask_count == before) {
        world_pass(&w, 100);
        (void)world_tick(&w);
    }
    txn_gauges(w.t, &gauges);
    ck_assert_uint_eq(gauges.asking, 1);
    ck_assert_int_eq(
        world_answer(&w, world_last_ask(&w), _i == 0 ? TXN_ANSWER_COMMIT : TXN_ANSWER_IN_PROGRESS),
        0);
    world_sync(&w);
    world_pass(&w, 200);
    (void)world_tick(&w);
    txn_gauges(w.t, &gauges);
    ck_assert_uint_gt(gauges.asking, 10);
}
END_TEST

START_TEST(a_group_whose_last_half_leaves_is_forgotten)
{
    /* Names, rate and pause go with it; nothing is left scheduled. */
    uint64_t offset = durable_half("g", "t");
    struct txn_gauges gauges;

    (void)nobody_for(10 * SECOND, 100);
    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "g", offset, "t");
    world_sync(&w);
    txn_gauges(w.t, &gauges);
    ck_assert_uint_eq(gauges.groups, 0);
    ck_assert_uint_eq(gauges.halves, 0);
    ck_assert_int_eq(txn_next_ms(w.t), INT64_MAX);
    txn_group_reachable(w.t, SLICE_LIT("g"), w.now); /* of a group without halves: nothing */
}
END_TEST

/* ---- cost ------------------------------------------------------------------------------------ */

static void insert_many(uint32_t count, int64_t immunity_ms)
{
    struct txn_half_info info = {.group = SLICE_LIT("g"),
                                 .topic = SLICE_LIT("x"),
                                 .immunity_ms = immunity_ms,
                                 .store_ms = w.now.wall_ms};

    for (uint32_t i = 0; i < count; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%u", i);
        info.txn_id = slice_str(id);
        CHECK(txn_apply_half(w.t, &info, 4096 + UINT64_C(1024) * i, w.now, NULL) == 0);
    }
}

static uint64_t work(void)
{
    struct txn_gauges gauges;

    txn_gauges(w.t, &gauges);
    return gauges.scan_work;
}

START_TEST(a_million_waiting_halves_cost_a_tick_nothing)
{
    /* Work is counted in touched timers: none while nothing is due, a few for each that is. */
    uint64_t before;

    insert_many(1000000, HOUR);
    before = work();
    for (int i = 0; i < 30000; i++) { /* 50 minutes */
        world_pass(&w, 100);
        ck_assert_uint_eq(world_tick(&w), 0);
    }
    /*
     * Nodes move down a level at the wheel's own boundaries: at most five times each in their whole
     * life.
     */
    ck_assert_uint_le(work() - before, 5 * 1000000);
    before = work();
    for (int i = 0; i < 1000; i++) {
        ck_assert_uint_eq(world_tick(&w), 0);
    }
    ck_assert_uint_eq(work() - before, 0);
    ck_assert_uint_eq(w.ask_count, 0);
}
END_TEST

START_TEST(one_call_is_bounded_however_much_is_due)
{
    /*
     * 200,000 overdue after a restart: each call touches at most its budget, and all are reached in
     * the end.
     */
    size_t calls = 0;
    uint64_t before = work();

    insert_many(200000, 0);
    do {
        uint64_t at = work();
        ck_assert_int_eq(txn_tick(w.t, w.now, &w.u), 0);
        world_obey(&w);
        ck_assert_uint_le(work() - at, CHECK_BACK_WORK_MAX);
        calls++;
    } while (w.u.more);
    ck_assert_uint_le(work() - before, 200000 + 100 * calls);
    ck_assert_uint_ge(calls, 200000 / CHECK_BACK_WORK_MAX);
    ck_assert_uint_le(w.ask_count, w.config.group_window);
}
END_TEST

/* ---- not mine -------------------------------------------------------------------------------- */

/* Questions from the `from`th on: nobody is connected; the endpoint answers `answer`. */
static size_t endpoint_says(size_t from, enum txn_answer answer)
{
    for (; from < w.ask_count; from++) {
        struct txn_ask ask = w.asks[from];
        ck_assert_int_eq(ask.way == TXN_WAY_LIVE ? world_fail(&w, &ask, TXN_ASK_UNDELIVERABLE)
                                                 : world_answer(&w, &ask, answer),
                         0);
    }
    world_sync(&w);
    return from;
}

static size_t endpoint_says_for(int64_t ms, size_t from, enum txn_answer answer)
{
    for (int64_t passed = 0; passed < ms; passed += 500) {
        (void)world_tick(&w);
        from = endpoint_says(from, answer);
        world_pass(&w, 500);
    }
    return from;
}

static void durable_halves(const char *group, const char *prefix, int count)
{
    for (int i = 0; i < count; i++) {
        char id[32];
        (void)snprintf(id, sizeof id, "%s%d", prefix, i); /* fits */
        (void)durable_half(group, id);
    }
}

START_TEST(halves_that_the_endpoint_can_never_know_wait_for_their_producer)
{
    /*
     * The producers are away for a day, the endpoint is another database's: nothing counts, one
     * attempt per pause; the producer that connects is asked about all of them at once.
     */
    uint64_t first = durable_half("g", "first");
    size_t records;
    size_t asked;
    int64_t begin;

    durable_halves("g", "t", 999);
    records = w.log_count;
    asked = endpoint_says_for(DAY, 0, TXN_ANSWER_NOT_MINE);
    ck_assert_uint_le(asked, 2 * ((size_t)(DAY / (30 * SECOND)) + 10 + 1000));
    ck_assert_uint_gt(asked, 2 * (size_t)(DAY / (40 * SECOND)));
    ck_assert_uint_eq(w.log_count, records);
    ck_assert_uint_eq(txn_counters(w.t)->rounds_counted, 0);
    ck_assert_uint_eq(checks_of(first), 0);
    txn_check(w.t);

    begin = w.now.mono_ms;
    txn_group_reachable(w.t, SLICE_LIT("g"), w.now);
    for (; txn_counters(w.t)->committed < 1000; asked++) {
        while (w.ask_count <= asked) {
            world_pass(&w, 100);
            (void)world_tick(&w);
            ck_assert_int_lt(w.now.mono_ms - begin, 5 * SECOND); /* 500 a second */
        }
        ck_assert_int_eq(world_answer(&w, &w.asks[asked], TXN_ANSWER_COMMIT), 0);
        world_sync(&w);
    }
    ck_assert_uint_eq(w.release_count, 1000);
}
END_TEST

START_TEST(a_half_that_nobody_there_can_know_delays_no_other_of_its_group)
{
    /* A hundred such halves; each other one of the group is decided in the second it is due. */
    size_t asked;

    durable_halves("g", "foreign", 100);
    asked = endpoint_says_for(HOUR, 0, TXN_ANSWER_NOT_MINE);
    for (uint64_t i = 1; i <= 20; i++) {
        uint64_t offset;
        char id[32];
        (void)snprintf(id, sizeof id, "ours%d", (int)i); /* fits */
        offset = durable_half("g", id);
        for (int64_t end = w.now.mono_ms + w.config.immunity_ms + SECOND; w.now.mono_ms < end;) {
            (void)world_tick(&w);
            for (; asked < w.ask_count; asked++) {
                enum txn_answer answer =
                    w.asks[asked].offset == offset ? TXN_ANSWER_COMMIT : TXN_ANSWER_NOT_MINE;
                struct txn_ask ask = w.asks[asked];
                (void)(ask.way == TXN_WAY_LIVE ? world_fail(&w, &ask, TXN_ASK_UNDELIVERABLE)
                                               : world_answer(&w, &ask, answer));
            }
            world_sync(&w);
            world_pass(&w, 100);
        }
        ck_assert_uint_eq(txn_counters(w.t)->committed, i);
    }
    ck_assert_uint_eq(txn_counters(w.t)->rounds_counted, 0);
    ck_assert_uint_eq(txn_counters(w.t)->group_pauses, 0);
}
END_TEST

START_TEST(when_the_endpoint_knows_one_of_them_it_is_asked_about_all)
{
    /* A person entered a former identity of the database: no pause for each of a thousand. */
    size_t asked;

    durable_halves("g", "t", 1000);
    asked = endpoint_says_for(HOUR, 0, TXN_ANSWER_NOT_MINE);
    for (int64_t end = w.now.mono_ms + 3 * MINUTE; w.now.mono_ms < end;) {
        (void)world_tick(&w);
        asked = endpoint_says(asked, TXN_ANSWER_COMMIT);
        world_pass(&w, 100);
    }
    ck_assert_uint_eq(txn_counters(w.t)->committed, 1000);
}
END_TEST

static bool is_not_mine(uint64_t offset)
{
    struct txn_row row;
    struct decided_fact fact;

    ck_assert(txn_find(w.t, offset, &row, &fact));
    return row.is_not_mine;
}

START_TEST(a_half_that_nobody_can_know_is_marked_until_somebody_does)
{
    /* By the round that ended so, not by one in which nobody was there; another answer takes it. */
    uint64_t offset = durable_half("g", "t");
    struct txn_ask ask = next_ask();

    ck_assert(!is_not_mine(offset));
    ck_assert_int_eq(world_fail(&w, &ask, TXN_ASK_UNDELIVERABLE), 0);
    ask = *world_last_ask(&w);
    ck_assert_int_eq(world_fail(&w, &ask, TXN_ASK_UNDELIVERABLE), 0);
    ck_assert(!is_not_mine(offset));
    ask = next_ask();
    ck_assert_int_eq(world_fail(&w, &ask, TXN_ASK_UNDELIVERABLE), 0);
    ask = *world_last_ask(&w);
    ck_assert_int_eq(ask.way, TXN_WAY_HTTP);
    ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_NOT_MINE), 0);
    ck_assert(is_not_mine(offset));
    ask = next_ask();
    ck_assert(is_not_mine(offset)); /* while it is asked about again, too */
    ck_assert_int_eq(ask.way, TXN_WAY_LIVE);
    ck_assert_int_eq(world_answer(&w, &ask, TXN_ANSWER_IN_PROGRESS), 0);
    ck_assert(!is_not_mine(offset));
    txn_check(w.t);
}
END_TEST

START_TEST(a_producer_that_does_not_know_counts_though_the_endpoint_cannot)
{
    /* "Unknown" from the one who should know, then "not mine": three such rounds park the half. */
    uint64_t offset = durable_half("g", "t");

    for (int round = 1; round <= 3; round++) {
        struct txn_ask live = next_ask();
        struct txn_ask http;
        ck_assert_int_eq(live.way, TXN_WAY_LIVE);
        ck_assert_int_eq(world_answer(&w, &live, TXN_ANSWER_UNKNOWN), 0);
        http = *world_last_ask(&w);
        ck_assert_int_eq(http.way, TXN_WAY_HTTP);
        ck_assert_int_eq(world_answer(&w, &http, TXN_ANSWER_NOT_MINE), 0);
        world_sync(&w);
        ck_assert_uint_eq(checks_of(offset), (uint32_t)round);
    }
    ck_assert_ptr_null(world_next_ask(&w, DAY));
    world_sync(&w);
    ck_assert_int_eq(world_state(&w, offset), HALF_EXPIRED);
}
END_TEST

static void add_rest(Suite *suite)
{
    TCase *tc = tcase_create("stale answers, limits, cost");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, an_answer_to_no_question_changes_nothing);
    tcase_add_test(tc, an_answer_after_the_deadline_is_stale);
    tcase_add_test(tc, rocketmq_clients_answer_unknown_without_a_nonce);
    tcase_add_test(tc, an_answer_whose_record_was_refused_leaves_the_question_open);
    tcase_add_test(tc, a_group_is_asked_no_faster_than_its_rate);
    tcase_add_test(tc, a_slow_group_has_no_more_questions_out_than_its_window);
    tcase_add_test(tc, one_group_that_is_down_does_not_delay_another);
    tcase_add_loop_test(tc, an_unreachable_group_gets_one_question_until_somebody_is_there, 0, 2);
    tcase_add_test(tc, a_group_whose_last_half_leaves_is_forgotten);
    tcase_add_test(tc, a_million_waiting_halves_cost_a_tick_nothing);
    tcase_add_test(tc, one_call_is_bounded_however_much_is_due);
    tcase_add_test(tc, halves_that_the_endpoint_can_never_know_wait_for_their_producer);
    tcase_add_test(tc, a_half_that_nobody_there_can_know_delays_no_other_of_its_group);
    tcase_add_test(tc, when_the_endpoint_knows_one_of_them_it_is_asked_about_all);
    tcase_add_test(tc, a_half_that_nobody_can_know_is_marked_until_somebody_does);
    tcase_add_test(tc, a_producer_that_does_not_know_counts_though_the_endpoint_cannot);
    suite_add_tcase(suite, tc);
}

int main(void)
{
    Suite *suite = suite_create("txn/check_limits");

    add_rest(suite);
    return unit_run(suite);
}
