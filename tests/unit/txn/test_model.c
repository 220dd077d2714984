/*
 * Random use of struct txn against a reference that knows nothing but the log: who is decided, how
 * often something may be seen, and what each request must be answered follow from its records
 * alone, by searching them from the beginning.
 *
 * CK_RUN_CASE=model ... prints the seed of a failed run as the loop's number.
 */
#include "tests/unit/txn/world.h"

#include "core/base/check.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

#define GROUPS 3
#define IDS    12
#define NONE   SIZE_MAX

static struct world w;
static struct rand rnd;
static struct rand saves; /* apart, so that the rest of a run is the same with and without them */

/* ---- the reference --------------------------------------------------------------------------- */

/*
 * Does record i name the half in a DECISION of this kind (or, with DECISION_NONE, of commit or
 * rollback)?
 */
static bool decides(size_t i, uint64_t offset, enum decision_kind kind)
{
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;

    if (w.log[i].type != WORLD_DECISION) {
        return false;
    }
    CHECK(decision_decode(buf_slice(&w.log[i].payload), &head, &iter) == 0);
    if (kind == DECISION_NONE ? head.kind == DECISION_EXPIRE : head.kind != kind) {
        return false;
    }
    while (decision_next(&iter, &entry)) {
        if (entry.offset == offset) {
            return true;
        }
    }
    return false;
}

static size_t find_half(uint64_t offset)
{
    for (size_t i = 0; i < w.log_count; i++) {
        if (w.log[i].type == WORLD_HALF && w.log[i].offset == offset) {
            return i;
        }
    }
    return NONE;
}

/* The newest half of a transaction. */
static size_t find_id(const char *group, const char *id)
{
    for (size_t i = w.log_count; i-- > 0;) {
        if (w.log[i].type == WORLD_HALF && strcmp(w.log[i].group, group) == 0 &&
            strcmp(w.log[i].id, id) == 0) {
            return i;
        }
    }
    return NONE;
}

static size_t find_decision(uint64_t offset, enum decision_kind kind)
{
    for (size_t i = 0; i < w.log_count; i++) {
        if (decides(i, offset, kind)) {
            return i;
        }
    }
    return NONE;
}

static uint32_t count_checks(uint64_t offset)
{
    uint32_t checks = 0;

    for (size_t i = 0; i < w.applied; i++) {
        struct check_iter iter;
        struct check_entry entry;
        uint32_t count;
        int64_t at_ms;
        if (w.log[i].type != WORLD_CHECK) {
            continue;
        }
        CHECK(check_decode(buf_slice(&w.log[i].payload), &count, &at_ms, &iter) == 0);
        while (check_next(&iter, &entry)) {
            checks = entry.offset == offset && entry.checks > checks ? entry.checks : checks;
        }
    }
    return checks;
}

/* What a decision must be answered, and whether the answer has to wait. */
static enum txn_end_code want_end(const struct txn_end *end, const struct txn_end_item *item,
                                  bool *wait)
{
    size_t half = find_half(item->offset);
    size_t decision;

    *wait = false;
    if (half == NONE) {
        return TXN_END_NOTFOUND;
    }
    if (!slice_eq_str(end->group, w.log[half].group)) {
        return TXN_END_WRONG_GROUP;
    }
    if (!slice_eq_str(item->txn_id, w.log[half].id)) {
        return TXN_END_WRONG_ID;
    }
    decision = find_decision(item->offset, DECISION_NONE);
    if (decision == NONE) {
        return TXN_END_PERSIST;
    }
    *wait = decision >= w.applied;
    if (!decides(decision, item->offset, end->kind)) {
        return TXN_END_CONFLICT;
    }
    return *wait ? TXN_END_PENDING : TXN_END_SAME;
}

/* Everything that can be read from the outside, against the log. */
static void check_all(void)
{
    size_t seen = 0;

    for (size_t i = 0; i < w.log_count; i++) {
        uint64_t offset = w.log[i].offset;
        size_t commit;
        size_t rollback;
        size_t expire;
        if (w.log[i].type != WORLD_HALF) {
            continue;
        }
        commit = find_decision(offset, DECISION_COMMIT);
        rollback = find_decision(offset, DECISION_ROLLBACK);
        expire = find_decision(offset, DECISION_EXPIRE);
        CHECK(commit == NONE || rollback == NONE);
        CHECK(world_released(&w, offset, DECISION_COMMIT) == (commit < w.applied ? 1 : 0));
        CHECK(world_released(&w, offset, DECISION_EXPIRE) == (expire < w.applied ? 1 : 0));
        seen += (size_t)(commit < w.applied) + (size_t)(expire < w.applied);
        if (commit < w.applied) {
            CHECK(world_state(&w, offset) == HALF_COMMITTED);
        } else if (rollback < w.applied) {
            CHECK(world_state(&w, offset) == HALF_ROLLED_BACK);
        } else {
            struct txn_row row = {0};
            struct decided_fact fact;
            CHECK(txn_find(w.t, offset, &row, &fact));
            CHECK((row.state == HALF_COMMITTING) == (commit != NONE));
            CHECK((row.state == HALF_ROLLING_BACK) == (rollback != NONE));
            CHECK_IMPLIES(row.state == HALF_APPENDING, i >= w.applied);
            CHECK_IMPLIES(row.state == HALF_EXPIRED, expire < w.applied);
            CHECK(row.checks == count_checks(offset));
            CHECK_IMPLIES(expire != NONE, row.checks >= w.config.checks_max);
        }
    }
    CHECK(seen == w.release_count);
    txn_check(w.t);
}

/* ---- random requests ------------------------------------------------------------------------- */

static void random_names(char *group, char *id)
{
    (void)snprintf(group, WORLD_NAME_MAX, "g%u", (unsigned)rand_below(&rnd, GROUPS));
    (void)snprintf(id, WORLD_NAME_MAX, "t%u", (unsigned)rand_below(&rnd, IDS));
}

static void do_half(void)
{
    char group[WORLD_NAME_MAX];
    char id[WORLD_NAME_MAX];
    const char *topic;
    struct txn_prepare_result result;
    size_t first;
    uint64_t offset;

    random_names(group, id);
    first = find_id(group, id);
    w.refuses_halves = rand_below(&rnd, 10) == 0;
    topic = rand_below(&rnd, 2) == 0 ? "a" : "b";
    offset = world_half(&w, group, id, topic, &result);
    w.refuses_halves = false;
    if (first == NONE) {
        CHECK(result.verdict == TXN_NEW);
        return;
    }
    CHECK(offset == w.log[first].offset);
    if (find_decision(offset, DECISION_NONE) < w.applied) {
        CHECK(result.verdict == TXN_DECIDED);
    } else if (strcmp(topic, w.log[first].topic) == 0) {
        CHECK(result.verdict == TXN_DUPLICATE);
        CHECK(result.wait == (first >= w.applied));
    } else {
        CHECK(result.verdict == TXN_OTHER);
    }
}

/* A half of the log, mostly; sometimes an offset that is none. */
static uint64_t random_offset(void)
{
    if (w.log_count == 0 || rand_below(&rnd, 12) == 0) {
        return rand_below(&rnd, 1 << 20);
    }
    return w.log[rand_below(&rnd, w.log_count)].offset;
}

static void do_end(void)
{
    struct txn_end_item items[4];
    char ids[4][WORLD_NAME_MAX];
    char group[WORLD_NAME_MAX];
    struct txn_end_result results[4];
    struct txn_end end = {.kind = rand_below(&rnd, 2) == 0 ? DECISION_COMMIT : DECISION_ROLLBACK,
                          .by = DECISION_BY_PRODUCER,
                          .items = items,
                          .count = 1 + rand_below(&rnd, 4) * rand_below(&rnd, 2)};
    enum txn_end_code want[4];
    bool is_held_back = false;
    bool wait = false;
    size_t before = w.log_count;

    if (end.count > 4) {
        end.count = 4;
    }
    random_names(group, ids[0]);
    for (size_t i = 0; i < end.count; i++) {
        size_t half;
        items[i].offset = random_offset();
        half = find_half(items[i].offset);
        (void)snprintf(ids[i], WORLD_NAME_MAX, "%s", half == NONE ? "?" : w.log[half].id);
        if (half != NONE && rand_below(&rnd, 8) != 0) {
            (void)snprintf(group, sizeof group, "%s", w.log[half].group);
        }
        if (rand_below(&rnd, 16) == 0) {
            (void)snprintf(ids[i], WORLD_NAME_MAX, "wrong");
        }
        items[i].txn_id = slice_str(ids[i]);
    }
    end.group = slice_str(group);
    for (size_t i = 0; i < end.count; i++) {
        bool one_waits;
        want[i] = want_end(&end, &items[i], &one_waits);
        wait |= one_waits;
        is_held_back |=
            want[i] != TXN_END_PERSIST && want[i] != TXN_END_SAME && want[i] != TXN_END_PENDING;
    }
    w.refuses_decisions = rand_below(&rnd, 10) == 0;
    world_end_many(&w, &end, results);
    for (size_t i = 0; i < end.count; i++) {
        CHECK(results[i].code ==
              (want[i] == TXN_END_PERSIST && is_held_back ? TXN_END_HELD_BACK : want[i]));
        CHECK_IMPLIES(is_held_back || w.refuses_decisions, w.log_count == before);
    }
    CHECK(w.u.wait == wait);
    w.refuses_decisions = false;
}

static void do_tick(void)
{
    size_t asked;

    world_pass(&w, (int64_t)(rand_u64(&rnd) >> (44 + rand_below(&rnd, 15))));
    w.refuses_decisions = rand_below(&rnd, 10) == 0;
    asked = w.ask_count;
    (void)world_tick(&w);
    w.refuses_decisions = false;
    for (; asked < w.ask_count; asked++) {
        uint64_t offset = w.asks[asked].offset;
        CHECK(find_half(offset) < w.applied);
        CHECK(find_decision(offset, DECISION_NONE) == NONE);
        CHECK(find_decision(offset, DECISION_EXPIRE) == NONE);
        CHECK(w.asks[asked].nonce != TXN_NONCE_NONE);
    }
}

/* Answer or fail any question there ever was; the stale ones must change nothing. */
static void do_answer(void)
{
    struct txn_ask ask;
    size_t before = w.log_count;
    bool was_decided;
    int rc;

    if (w.ask_count == 0) {
        return;
    }
    ask = w.asks[rand_below(&rnd, 3) == 0 ? rand_below(&rnd, w.ask_count) : w.ask_count - 1];
    was_decided = find_decision(ask.offset, DECISION_NONE) != NONE;
    w.refuses_checks = rand_below(&rnd, 6) == 0;
    if (rand_below(&rnd, 4) == 0) {
        rc = world_fail(&w, &ask,
                        rand_below(&rnd, 2) == 0 ? TXN_ASK_UNDELIVERABLE : TXN_ASK_UNANSWERED);
    } else {
        /*
         * Mostly "unknown": decisions come from do_end too, and halves have to live long enough to
         * expire.
         */
        static const enum txn_answer answers[] = {
            TXN_ANSWER_COMMIT,   TXN_ANSWER_ROLLBACK, TXN_ANSWER_IN_PROGRESS, TXN_ANSWER_UNKNOWN,
            TXN_ANSWER_UNKNOWN,  TXN_ANSWER_UNKNOWN,  TXN_ANSWER_UNKNOWN,     TXN_ANSWER_INVALID,
            TXN_ANSWER_NOT_MINE, TXN_ANSWER_NOT_MINE};
        rc = world_answer(&w, &ask, answers[rand_below(&rnd, 10)]);
    }
    w.refuses_checks = false;
    CHECK_IMPLIES(was_decided, rc == ESCROW_ENOTFOUND);
    CHECK_IMPLIES(rc != 0, w.log_count == before);
}

static void do_crash(void)
{
    if (rand_below(&rnd, 2) == 0) {
        world_checkpoint(&w);
    }
    if (rand_below(&rnd, 2) == 0) {
        size_t pending = w.log_count - w.durable;
        int64_t down_ms = (int64_t)rand_below(&rnd, 1 << 22) - (1 << 20);
        world_crash(&w, pending == 0 ? 0 : rand_below(&rnd, pending + 1), down_ms);
        w.ask_count = 0; /* nonces of a former life would be stale, which is tested elsewhere */
    }
}

/* A checkpoint that takes its time: world_save_some compares it with one that does not. */
static void do_save(void)
{
    if (w.save.len > 0 || rand_below(&saves, 8) == 0) {
        (void)world_save_some(&w, (uint32_t)rand_below(&saves, 4));
    }
}

START_TEST(random_use_agrees_with_the_log)
{
    /*
     * Requests, time, answers, durable ends and crashes in random order; the loop's number is the
     * seed.
     */
    struct txn_config config;

    world_config(&config);
    config.checks_max = 2;
    config.interval_ms = 5000;
    config.interval_max_ms = 20000;
    rand_init(&rnd, (uint64_t)_i);
    rand_init(&saves, ~(uint64_t)_i);
    world_init(&w, &config, (uint64_t)_i);
    for (int step = 0; step < 600; step++) {
        switch (rand_below(&rnd, 8)) {
        case 0:
            do_half();
            break;
        case 1:
            if (rand_below(&rnd, 3) == 0) {
                do_end();
            }
            break;
        case 2:
            world_sync_some(&w, rand_below(&rnd, 4));
            break;
        case 3:
            if (rand_below(&rnd, 10) == 0) {
                do_crash();
            }
            break;
        case 4:
        case 5:
            do_tick();
            break;
        default:
            do_answer();
            break;
        }
        do_save();
        if (step % 10 == 0) {
            check_all();
        }
    }
    world_sync(&w);
    check_all();
    world_fini(&w);
}
END_TEST

START_TEST(the_random_runs_reach_everything)
{
    /*
     * All seeds together have seen each kind of event; a generator that went blind would test
     * nothing.
     */
    struct txn_config config;
    uint64_t expired = 0;
    uint64_t after_expiry = 0;
    uint64_t by_check = 0;
    uint64_t duplicates = 0;
    uint64_t refused = 0;
    uint64_t stale = 0;
    uint64_t kept = 0;
    uint64_t whole = 0;

    world_config(&config);
    config.checks_max = 2;
    config.interval_ms = 5000;
    config.interval_max_ms = 20000;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        rand_init(&rnd, seed);
        world_init(&w, &config, seed);
        for (int step = 0; step < 400; step++) {
            if (step % 4 == 0) {
                do_half();
            }
            if (step % 16 == 0) {
                do_end();
            }
            world_sync_some(&w, rand_below(&rnd, 3));
            do_tick();
            do_answer();
            do_answer();
            if (step > 50) { /* with enough halves that some change before they are written */
                struct txn_gauges gauges;
                whole += world_save_some(&w, 1);
                txn_gauges(w.t, &gauges);
                kept += gauges.bytes_save > 0;
            }
        }
        expired += txn_counters(w.t)->expired;
        after_expiry += txn_counters(w.t)->decided_after_expiry;
        by_check += txn_counters(w.t)->decided_by_check;
        duplicates += txn_counters(w.t)->halves_duplicate;
        refused += txn_counters(w.t)->decisions_refused;
        stale += txn_counters(w.t)->answers_stale;
        world_fini(&w);
    }
    ck_assert_uint_gt(expired, 5);
    ck_assert_uint_gt(after_expiry, 0);
    ck_assert_uint_gt(by_check, 20);
    ck_assert_uint_gt(duplicates, 100);
    ck_assert_uint_gt(refused, 20);
    ck_assert_uint_gt(stale, 100);
    ck_assert_uint_gt(kept, 100);
    ck_assert_uint_gt(whole, 100);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/model");
    TCase *tc = tcase_create("model");

    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, random_use_agrees_with_the_log, 1, 31);
    tcase_add_test(tc, the_random_runs_reach_everything);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
