#include "core/base/sm.h"

#include "core/base/check.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum door { DOOR_SHUT, DOOR_OPEN, DOOR_GONE };

static const struct sm_state door_states[] = {
    {.name = "SHUT", .next = SM_BIT(DOOR_OPEN) | SM_BIT(DOOR_GONE)},
    {.name = "OPEN", .next = SM_BIT(DOOR_SHUT)},
    {.name = "GONE", .final = true},
};

static const struct sm_table door_table = {.object = "door", .states = door_states, .count = 3};

START_TEST(moves_follow_the_table)
{
    /* Asking does not move; names and ends come from the table. */
    uint8_t state = DOOR_SHUT;

    ck_assert(sm_can(&door_table, DOOR_SHUT, DOOR_OPEN));
    ck_assert(!sm_can(&door_table, DOOR_OPEN, DOOR_GONE));
    ck_assert(!sm_can(&door_table, DOOR_GONE, DOOR_SHUT));
    ck_assert(!sm_can(&door_table, DOOR_SHUT, DOOR_SHUT));
    ck_assert_int_eq(state, DOOR_SHUT);
    sm_move(&door_table, &state, DOOR_OPEN, 7, "pull");
    ck_assert_int_eq(state, DOOR_OPEN);
    ck_assert_str_eq(sm_name(&door_table, state), "OPEN");
    ck_assert(!sm_is_final(&door_table, DOOR_OPEN));
    ck_assert(sm_is_final(&door_table, DOOR_GONE));
}
END_TEST

START_TEST(a_move_that_is_not_in_the_table_aborts)
{
    /* A bug, whoever asked for it. */
    uint8_t state = DOOR_GONE;

    sm_move(&door_table, &state, DOOR_OPEN, 7, "pull");
}
END_TEST

START_TEST(a_state_that_does_not_exist_aborts)
{
    /* Also when only its name is asked for. */
    (void)sm_name(&door_table, 3);
}
END_TEST

START_TEST(a_failed_check_prints_the_last_moves)
{
    /* Oldest first, at most SM_TRACE_MAX, with the illegal move at the end. */
    static char text[32 * 1024];
    size_t len = 0;
    ssize_t got;
    int err[2];
    pid_t pid;

    ck_assert_int_eq(pipe(err), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        uint8_t state = DOOR_SHUT;

        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(err[1], STDERR_FILENO);
        for (uint64_t id = 0; id < 100; id++) {
            sm_move(&door_table, &state, id % 2 == 0 ? DOOR_OPEN : DOOR_SHUT, id, "push");
        }
        state = DOOR_OPEN;
        sm_move(&door_table, &state, DOOR_GONE, 100, "lift");
    }
    (void)close(err[1]);
    while ((got = read(err[0], text + len, sizeof text - 1 - len)) > 0) {
        len += (size_t)got;
    }
    text[len] = '\0';
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert_ptr_nonnull(strstr(text, "door 37: OPEN -> SHUT (push)\n"));
    ck_assert_ptr_nonnull(strstr(text, "door 99: OPEN -> SHUT (push)\n"));
    ck_assert_ptr_nonnull(strstr(text, "door 100: OPEN -> GONE (lift)\n"));
    ck_assert_ptr_null(strstr(text, "door 36:"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/sm");
    TCase *tc = tcase_create("sm");

    tcase_add_test(tc, moves_follow_the_table);
    tcase_add_test_raise_signal(tc, a_move_that_is_not_in_the_table_aborts, SIGABRT);
    tcase_add_test_raise_signal(tc, a_state_that_does_not_exist_aborts, SIGABRT);
    tcase_add_test(tc, a_failed_check_prints_the_last_moves);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
