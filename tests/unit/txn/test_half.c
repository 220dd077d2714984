#include "txn/half.h"

#include "core/base/mem.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static int state_from_name(const char *name, size_t len)
{
    for (int s = 0; s < HALF_STATE_COUNT; s++) {
        const char *other = sm_name(&half_sm, s);
        if (strlen(other) == len && memcmp(other, name, len) == 0) {
            return s;
        }
    }
    return -1;
}

/* Set of the states named in a cell, "A, B"; 0 when the cell names none. */
static uint64_t cell_states(const char *cell, size_t len)
{
    uint64_t set = 0;
    size_t begin = 0;

    for (size_t i = 0; i <= len; i++) {
        bool is_name = i < len && (cell[i] == '_' || (cell[i] >= 'A' && cell[i] <= 'Z'));
        if (!is_name) {
            int s = state_from_name(cell + begin, i - begin);
            if (s >= 0) {
                set |= SM_BIT(s);
            }
            begin = i + 1;
        }
    }
    return set;
}

/* The moves of the table under "## Moves" in STATES.md. */
static void read_moves(uint64_t moves[HALF_STATE_COUNT])
{
    FILE *f = fopen(ESCROW_SOURCE_DIR "/txn/STATES.md", "r");
    char line[1024];
    bool is_in_table = false;

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f) != NULL) {
        const char *from_end;
        const char *to_end;
        if (strncmp(line, "## ", 3) == 0) {
            is_in_table = strncmp(line, "## Moves", 8) == 0;
        }
        if (!is_in_table || line[0] != '|') {
            continue;
        }
        from_end = strchr(line + 1, '|');
        to_end = from_end == NULL ? NULL : strchr(from_end + 1, '|');
        if (to_end != NULL) {
            uint64_t from = cell_states(line + 1, (size_t)(from_end - line - 1));
            uint64_t to = cell_states(from_end + 1, (size_t)(to_end - from_end - 1));
            for (int s = 0; s < HALF_STATE_COUNT; s++) {
                moves[s] |= (from & SM_BIT(s)) != 0 ? to : 0;
            }
        }
    }
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(the_document_has_exactly_the_moves_of_the_table)
{
    /*
     * STATES.md, "Moves", against the table in half.h: neither knows one that the other does not.
     */
    uint64_t moves[HALF_STATE_COUNT] = {0};

    read_moves(moves);
    for (int s = 0; s < HALF_STATE_COUNT; s++) {
        if (moves[s] != half_sm.states[s].next) {
            ck_abort_msg("%s: document %llx, table %llx", sm_name(&half_sm, s),
                         (unsigned long long)moves[s], (unsigned long long)half_sm.states[s].next);
        }
        ck_assert_int_eq(sm_is_final(&half_sm, s), moves[s] == 0);
    }
}
END_TEST

START_TEST(every_move_of_the_table_is_made)
{
    /* And leaves the half in the state it names. */
    for (int from = 0; from < HALF_STATE_COUNT; from++) {
        for (int to = 0; to < HALF_STATE_COUNT; to++) {
            struct half half = {.offset = 7, .state = (uint8_t)from};
            if (half_can(&half, (enum half_state)to)) {
                half_move(&half, (enum half_state)to, "test");
                ck_assert_int_eq(half.state, to);
            }
        }
    }
}
END_TEST

START_TEST(every_other_move_aborts)
{
    /*
     * One case per pair of states: the process stops rather than remember something that cannot be.
     */
    struct half half = {.offset = 7, .state = (uint8_t)(_i / HALF_STATE_COUNT)};
    enum half_state to = (enum half_state)(_i % HALF_STATE_COUNT);

    if (half_can(&half, to)) {
        raise(SIGABRT); /* allowed, tested above */
    }
    half_move(&half, to, "test");
}
END_TEST

START_TEST(a_decision_cannot_be_turned_around)
{
    /* No path leads from one decision to the other: the first wins. */
    uint64_t commit = SM_BIT(HALF_COMMITTING) | SM_BIT(HALF_COMMITTED);
    uint64_t rollback = SM_BIT(HALF_ROLLING_BACK) | SM_BIT(HALF_ROLLED_BACK);

    for (int s = 0; s < HALF_STATE_COUNT; s++) {
        ck_assert(!((commit & SM_BIT(s)) != 0 && (half_sm.states[s].next & ~commit) != 0));
        ck_assert(!((rollback & SM_BIT(s)) != 0 && (half_sm.states[s].next & ~rollback) != 0));
    }
}
END_TEST

START_TEST(packed_fields_come_back_and_saturate)
{
    /* Store time and queue, back-off step and way; what is too large becomes the largest. */
    struct half half = {.store_queue = half_pack_store(1700000000123, 1023)};

    ck_assert_int_eq(half_store_ms(&half), 1700000000123);
    ck_assert_uint_eq(half_queue(&half), 1023);
    half.store_queue = half_pack_store(-5, 0);
    ck_assert_int_eq(half_store_ms(&half), 0);
    half.store_queue = half_pack_store(INT64_MAX, 3);
    ck_assert_int_eq(half_store_ms(&half), (INT64_C(1) << 48) - 1);
    ck_assert_uint_eq(half_queue(&half), 3);
    half_set_step(&half, 9);
    half_set_way(&half, 1);
    ck_assert_uint_eq(half_step(&half), 9);
    ck_assert_uint_eq(half_way(&half), 1);
    half_set_step(&half, 99);
    ck_assert_uint_eq(half_step(&half), 15);
    ck_assert_uint_eq(half_way(&half), 1);
}
END_TEST

START_TEST(a_crash_leaves_what_the_flags_say)
{
    /* Whatever was in flight, a half is PREPARED or EXPIRED again. */
    struct half half = {.state = HALF_COMMITTING, .flags = HALF_F_USED | HALF_F_APPLIED};

    ck_assert_int_eq(half_durable_state(&half), HALF_PREPARED);
    half.flags |= HALF_F_EXPIRED;
    ck_assert_int_eq(half_durable_state(&half), HALF_EXPIRED);
}
END_TEST

/* Flags with which half_check() accepts each state; everything else has to abort. */
static bool is_consistent(int state, unsigned flags)
{
    unsigned place = flags & (HALF_F_IN_WHEEL | HALF_F_IN_READY);
    bool is_applied = (flags & HALF_F_APPLIED) != 0;
    bool is_expired = (flags & HALF_F_EXPIRED) != 0;

    if ((flags & HALF_F_USED) == 0 || (flags & HALF_F_PICKED) != 0 || (is_expired && !is_applied)) {
        return false;
    }
    switch (state) {
    case HALF_APPENDING:
        return !is_applied && place == 0;
    case HALF_PREPARED:
        return is_applied && !is_expired && (place == HALF_F_IN_WHEEL || place == HALF_F_IN_READY);
    case HALF_CHECKING:
        return is_applied && !is_expired && place == HALF_F_IN_WHEEL;
    case HALF_EXPIRING:
        return is_applied && !is_expired && place == 0;
    case HALF_EXPIRED:
        return is_expired && place == 0;
    case HALF_COMMITTING:
    case HALF_ROLLING_BACK:
        return place == 0;
    default:
        return false;
    }
}

START_TEST(consistent_halves_pass_their_check)
{
    /* All states with all flags that the round flags do not touch. */
    unsigned passed = 0;

    for (int state = 0; state < HALF_STATE_COUNT; state++) {
        for (unsigned flags = 0; flags < 256; flags++) {
            struct half half = {.state = (uint8_t)state, .flags = (uint8_t)flags};
            if (is_consistent(state, flags)) {
                half_check(&half);
                passed++;
            }
        }
    }
    ck_assert_uint_gt(passed, 20);
}
END_TEST

START_TEST(a_prepared_half_that_waits_nowhere_fails_its_check)
{
    /* It would never be asked about again. */
    struct half half = {.state = HALF_PREPARED, .flags = HALF_F_USED | HALF_F_APPLIED};

    half_check(&half);
}
END_TEST

START_TEST(an_expired_half_with_a_timer_fails_its_check)
{
    /* It would be asked about for ever. */
    struct half half = {.state = HALF_EXPIRED,
                        .flags = HALF_F_USED | HALF_F_APPLIED | HALF_F_EXPIRED | HALF_F_IN_WHEEL};

    half_check(&half);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/half");
    TCase *tc = tcase_create("half");

    tcase_add_test(tc, the_document_has_exactly_the_moves_of_the_table);
    tcase_add_test(tc, every_move_of_the_table_is_made);
    tcase_add_loop_test_raise_signal(tc, every_other_move_aborts, SIGABRT, 0,
                                     HALF_STATE_COUNT * HALF_STATE_COUNT);
    tcase_add_test(tc, a_decision_cannot_be_turned_around);
    tcase_add_test(tc, packed_fields_come_back_and_saturate);
    tcase_add_test(tc, a_crash_leaves_what_the_flags_say);
    tcase_add_test(tc, consistent_halves_pass_their_check);
    tcase_add_test_raise_signal(tc, a_prepared_half_that_waits_nowhere_fails_its_check, SIGABRT);
    tcase_add_test_raise_signal(tc, an_expired_half_with_a_timer_fails_its_check, SIGABRT);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
