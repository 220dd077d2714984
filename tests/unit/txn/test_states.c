/*
 * Every state with every event. What requests get is read from the table "Requests and answers by
 * state" of STATES.md, so that document and code cannot drift apart.
 */
#include "tests/unit/txn/world.h"

#include "core/base/check.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

enum { NEVER_SEEN = HALF_STATE_COUNT, STATES };

enum { COLUMN_COMMIT, COLUMN_ROLLBACK, COLUMN_HALF, COLUMN_ANSWER, COLUMNS };

static struct world w;
static char cells[STATES][COLUMNS][96];

/* The document's table: one row per state, the last for halves that were never seen. */
static void read_document(void)
{
    FILE *f = fopen(ESCROW_SOURCE_DIR "/txn/STATES.md", "r");
    char line[1024];
    bool is_in_table = false;
    int rows = 0;

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f) != NULL) {
        char *save = NULL;
        char *cell;
        int state = -1;
        if (strncmp(line, "## ", 3) == 0) {
            is_in_table = strstr(line, "Requests and answers") != NULL;
        }
        if (!is_in_table || line[0] != '|') {
            continue;
        }
        cell = strtok_r(line, "|", &save);
        for (int s = 0; s < HALF_STATE_COUNT && cell != NULL; s++) {
            const char *name = sm_name(&half_sm, s);
            if (strncmp(cell + 1, name, strlen(name)) == 0 && cell[1 + strlen(name)] == ' ') {
                state = s;
            }
        }
        if (cell != NULL && strstr(cell, "never seen") != NULL) {
            state = NEVER_SEEN;
        }
        for (int c = 0; state >= 0 && c < COLUMNS; c++) {
            cell = strtok_r(NULL, "|", &save);
            ck_assert_ptr_nonnull(cell);
            (void)snprintf(cells[state][c], sizeof cells[state][c], "%s", cell);
            rows += c == 0;
        }
    }
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(rows, STATES);
}

static void setup(void)
{
    struct txn_config config;

    world_config(&config);
    config.checks_max = 1;
    world_init(&w, &config, 1);
    read_document();
}

static void teardown(void)
{
    txn_check(w.t);
    world_fini(&w);
}

static struct txn_end_result end(enum decision_kind kind, uint64_t offset)
{
    return world_end(&w, kind, DECISION_BY_PRODUCER, "g", offset, "t");
}

/* A world with one half in the given state; its offset. */
static uint64_t reach(int state)
{
    uint64_t offset = 4096;

    if (state == NEVER_SEEN) {
        return offset;
    }
    offset = world_half(&w, "g", "t", "paid", NULL);
    if (state == HALF_APPENDING) {
        return offset;
    }
    world_sync(&w);
    if (state == HALF_CHECKING || state == HALF_EXPIRING || state == HALF_EXPIRED) {
        ck_assert_ptr_nonnull(world_next_ask(&w, 100000));
    }
    if (state == HALF_EXPIRING || state == HALF_EXPIRED) {
        ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_UNKNOWN), 0);
        ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_UNKNOWN), 0);
        world_sync(&w);
        (void)world_tick(&w);
    }
    if (state == HALF_COMMITTING || state == HALF_COMMITTED) {
        (void)end(DECISION_COMMIT, offset);
    }
    if (state == HALF_ROLLING_BACK || state == HALF_ROLLED_BACK) {
        (void)end(DECISION_ROLLBACK, offset);
    }
    if (state == HALF_EXPIRED || state == HALF_COMMITTED || state == HALF_ROLLED_BACK) {
        world_sync(&w);
    }
    ck_assert_int_eq(world_state(&w, offset), state);
    return offset;
}

/* Is `word` one of the words of the cell, up to its parenthesis? */
static bool says(int state, int column, const char *word)
{
    const char *cell = cells[state][column];
    const char *at = strstr(cell, word);

    return at != NULL && (at[strlen(word)] == ' ' || at[strlen(word)] == ',' ||
                          at[strlen(word)] == '(' || at[strlen(word)] == '\0');
}

static const char *code_name(enum txn_end_code code)
{
    switch (code) {
    case TXN_END_PERSIST:
        return "PERSIST";
    case TXN_END_PENDING:
        return "PENDING";
    case TXN_END_SAME:
        return "SAME";
    case TXN_END_CONFLICT:
        return "CONFLICT";
    case TXN_END_NOTFOUND:
        return "NOTFOUND";
    case TXN_END_WRONG_GROUP:
    case TXN_END_WRONG_ID:
    case TXN_END_HELD_BACK:
        break;
    }
    return "something else";
}

static void check_end(int state, int column, enum decision_kind kind)
{
    uint64_t offset = reach(state);
    struct txn_end_result r = end(kind, offset);
    const char *want_fact = strstr(cells[state][column], "CONFLICT(");

    if (!says(state, column, code_name(r.code)) || says(state, column, "wait") != w.u.wait) {
        ck_abort_msg("state %d, %s: got %s wait %d, document says%s", state,
                     decision_kind_name(kind), code_name(r.code), w.u.wait, cells[state][column]);
    }
    if (want_fact != NULL) {
        const char *name = decision_kind_name(r.fact.kind);
        ck_assert_int_eq(strncmp(want_fact + 9, name, strlen(name)), 0);
    }
    ck_assert_int_eq(w.u.decision.len > 0, r.code == TXN_END_PERSIST);
    world_sync(&w);
    if (r.code == TXN_END_PERSIST) {
        ck_assert_int_eq(world_state(&w, offset),
                         kind == DECISION_COMMIT ? HALF_COMMITTED : HALF_ROLLED_BACK);
    }
}

START_TEST(a_commit_gets_what_the_document_says)
{
    /* In each state. */
    check_end(_i, COLUMN_COMMIT, DECISION_COMMIT);
}
END_TEST

START_TEST(a_rollback_gets_what_the_document_says)
{
    /* In each state. */
    check_end(_i, COLUMN_ROLLBACK, DECISION_ROLLBACK);
}
END_TEST

START_TEST(the_same_half_again_gets_what_the_document_says)
{
    /* In each state; never a second record. */
    static const char *const names[] = {"NEW", "DUPLICATE", "DECIDED"};
    uint64_t offset = reach(_i);
    size_t records = w.log_count;
    struct txn_prepare_result result;

    ck_assert_uint_eq(world_half(&w, "g", "t", "paid", &result), offset);
    if (!says(_i, COLUMN_HALF, names[result.verdict]) ||
        says(_i, COLUMN_HALF, "wait") != result.wait) {
        ck_abort_msg("state %d: got %s wait %d, document says%s", _i, names[result.verdict],
                     result.wait, cells[_i][COLUMN_HALF]);
    }
    ck_assert_uint_eq(w.log_count, records + (result.verdict == TXN_NEW));
}
END_TEST

START_TEST(a_check_answer_gets_what_the_document_says)
{
    /* In each state, each answer; with the nonce of the last question there was. */
    int state = _i / 5;
    enum txn_answer answer = (enum txn_answer)(_i % 5);
    uint64_t offset = reach(state);
    struct txn_ask ask = {.offset = offset, .nonce = 12345};
    int rc;

    if (w.ask_count > 0) {
        ask = *world_last_ask(&w);
    }
    rc = world_answer(&w, &ask, answer);
    ck_assert_int_eq(rc, says(state, COLUMN_ANSWER, "stale") ? ESCROW_ENOTFOUND : 0);
    if (rc == 0) {
        static const int want[] = {HALF_COMMITTING, HALF_ROLLING_BACK, HALF_PREPARED, HALF_CHECKING,
                                   HALF_CHECKING}; /* the last two: asked on the next way */
        ck_assert_int_eq(world_state(&w, offset), want[answer]);
    } else {
        ck_assert_int_eq(world_state(&w, offset), state == NEVER_SEEN ? -1 : state);
    }
}
END_TEST

START_TEST(a_question_that_failed_is_stale_except_while_it_is_out)
{
    /* In each state, undeliverable and unanswered. */
    int state = _i / 2;
    uint64_t offset = reach(state);
    struct txn_ask ask = {.offset = offset, .nonce = 12345};
    enum txn_ask_failure why = _i % 2 == 0 ? TXN_ASK_UNDELIVERABLE : TXN_ASK_UNANSWERED;

    if (w.ask_count > 0) {
        ask = *world_last_ask(&w);
    }
    ck_assert_int_eq(world_fail(&w, &ask, why), state == HALF_CHECKING ? 0 : ESCROW_ENOTFOUND);
    ck_assert_int_eq(world_state(&w, offset), state == NEVER_SEEN ? -1 : state);
}
END_TEST

START_TEST(time_moves_only_halves_that_wait_for_it)
{
    /*
     * A day passes in each state: PREPARED halves are asked about, CHECKING ones go on, nothing
     * else stirs.
     */
    uint64_t offset = reach(_i);
    size_t asked = w.ask_count;
    size_t records = w.log_count;
    bool waits = _i == HALF_PREPARED || _i == HALF_CHECKING;

    ck_assert_int_eq(txn_next_ms(w.t) != INT64_MAX, waits);
    world_pass(&w, 86400000);
    (void)world_tick(&w);
    ck_assert_int_eq(w.ask_count > asked, waits);
    ck_assert_uint_eq(w.log_count, records);
    if (!waits) {
        ck_assert_int_eq(world_state(&w, offset), _i == NEVER_SEEN ? -1 : _i);
    }
}
END_TEST

START_TEST(a_crash_leaves_what_the_log_says)
{
    /*
     * In each state, with nothing of the buffer kept and with all of it; from the log and from a
     * checkpoint.
     */
    static const int nothing_kept[STATES] = {[HALF_APPENDING] = -1,
                                             [HALF_PREPARED] = HALF_PREPARED,
                                             [HALF_CHECKING] = HALF_PREPARED,
                                             [HALF_EXPIRING] = HALF_PREPARED,
                                             [HALF_EXPIRED] = HALF_EXPIRED,
                                             [HALF_COMMITTING] = HALF_PREPARED,
                                             [HALF_ROLLING_BACK] = HALF_PREPARED,
                                             [HALF_COMMITTED] = HALF_COMMITTED,
                                             [HALF_ROLLED_BACK] = HALF_ROLLED_BACK,
                                             [NEVER_SEEN] = -1};
    static const int all_kept[STATES] = {
        [HALF_APPENDING] = HALF_PREPARED,       [HALF_PREPARED] = HALF_PREPARED,
        [HALF_CHECKING] = HALF_PREPARED,        [HALF_EXPIRING] = HALF_EXPIRED,
        [HALF_EXPIRED] = HALF_EXPIRED,          [HALF_COMMITTING] = HALF_COMMITTED,
        [HALF_ROLLING_BACK] = HALF_ROLLED_BACK, [HALF_COMMITTED] = HALF_COMMITTED,
        [HALF_ROLLED_BACK] = HALF_ROLLED_BACK,  [NEVER_SEEN] = -1};
    int state = _i / 4;
    bool is_kept = _i % 2 == 1;
    uint64_t offset = reach(state);

    if (_i % 4 >= 2) {
        world_checkpoint(&w);
    }
    world_crash(&w, is_kept ? SIZE_MAX / 2 : 0, 1000);
    ck_assert_int_eq(world_state(&w, offset), is_kept ? all_kept[state] : nothing_kept[state]);
    world_checkpoint(&w);
    world_crash(&w, 0, 1000); /* and again: the same */
    ck_assert_int_eq(world_state(&w, offset), is_kept ? all_kept[state] : nothing_kept[state]);
}
END_TEST

START_TEST(a_count_or_a_reachable_group_changes_no_state)
{
    /* CHECK records and connections only move timers. */
    uint64_t offset = reach(_i);
    struct buf b;

    buf_init(&b, 0);
    check_encode_head(&b, 1, 5);
    check_encode_entry(&b, &(struct check_entry){.offset = offset, .checks = 200});
    ck_assert_int_eq(txn_apply_check(w.t, buf_slice(&b), w.now, NULL), 0);
    ck_assert_int_eq(txn_apply_check(w.t, buf_slice(&b), w.now, NULL), 0);
    txn_group_reachable(w.t, SLICE_LIT("g"), w.now);
    ck_assert_int_eq(world_state(&w, offset), _i == NEVER_SEEN ? -1 : _i);
    buf_fini(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/states");
    TCase *tc = tcase_create("states");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, a_commit_gets_what_the_document_says, 0, STATES);
    tcase_add_loop_test(tc, a_rollback_gets_what_the_document_says, 0, STATES);
    tcase_add_loop_test(tc, the_same_half_again_gets_what_the_document_says, 0, STATES);
    tcase_add_loop_test(tc, a_check_answer_gets_what_the_document_says, 0, STATES * 5);
    tcase_add_loop_test(tc, a_question_that_failed_is_stale_except_while_it_is_out, 0, STATES * 2);
    tcase_add_loop_test(tc, time_moves_only_halves_that_wait_for_it, 0, STATES);
    tcase_add_loop_test(tc, a_crash_leaves_what_the_log_says, 0, STATES * 4);
    tcase_add_loop_test(tc, a_count_or_a_reachable_group_changes_no_state, 0, STATES);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
