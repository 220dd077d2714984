#include "core/base/check.h"

#include "tests/unit/core/base/unit_main.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

START_TEST(a_true_check_does_nothing)
{
    /* What holds passes, an assignment's value and a comparison included. */
    int a = 2;
    int b = 2;

    CHECK(a == b);
    CHECK(a);
    CHECK_IMPLIES(a == 3, a == 4);
    CHECK_IMPLIES(a == 2, b == 2);
    DCHECK(a == b);
}
END_TEST

START_TEST(a_false_comparison_aborts)
{
    /* CHECK(a == b) negates the whole expression: !a == b would pass here. */
    int a = 0;
    int b = 1;

    CHECK(a == b);
}
END_TEST

START_TEST(a_false_alternative_aborts)
{
    /* The expression keeps its own precedence. */
    int a = 0;

    CHECK(a == 1 || a == 2);
}
END_TEST

START_TEST(an_implication_that_does_not_hold_aborts)
{
    /* a without b. */
    int a = 1;

    CHECK_IMPLIES(a == 1, a == 2);
}
END_TEST

START_TEST(unreachable_aborts)
{
    /* A branch that must not be taken. */
    UNREACHABLE("test");
}
END_TEST

START_TEST(an_implication_evaluates_its_right_side_only_when_needed)
{
    /* So that it may guard a pointer. */
    const int *p = NULL;

    CHECK_IMPLIES(p != NULL, *p == 1);
}
END_TEST

START_TEST(a_check_in_an_if_binds_no_else)
{
    /* The macro is one statement: the else belongs to the if in front of it. */
    int path = 0;

    /* NOLINTBEGIN(readability-braces-around-statements): the braces would hide the point */
    if (path != 0)
        CHECK(path == 1);
    else
        path = 2;
    /* NOLINTEND(readability-braces-around-statements) */
    ck_assert_int_eq(path, 2);
}
END_TEST

static int hook_pipe[2];

static void hook_that_writes(void)
{
    ck_assert_int_eq((int)write(hook_pipe[1], "x", 1), 1);
}

static void hook_that_fails(void)
{
    hook_that_writes();
    CHECK(1 == 2);
}

static void abort_in_child(void (*hook)(void))
{
    pid_t pid = fork();
    int status;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        check_set_hook(hook);
        CHECK(hook == NULL);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGABRT);
}

START_TEST(the_hook_runs_once_before_the_abort)
{
    /* Also when a check fails inside it. */
    char got[4];

    ck_assert_int_eq(pipe(hook_pipe), 0);
    abort_in_child(hook_that_writes);
    ck_assert_int_eq((int)read(hook_pipe[0], got, sizeof got), 1);
    abort_in_child(hook_that_fails);
    ck_assert_int_eq((int)read(hook_pipe[0], got, sizeof got), 1);
}
END_TEST

START_TEST(the_message_names_the_place_and_the_expression)
{
    /* What a person sees first. */
    char text[256];
    ssize_t got;
    int err[2];
    pid_t pid;

    ck_assert_int_eq(pipe(err), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(err[1], STDERR_FILENO);
        CHECK(pid == 12345);
    }
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    got = read(err[0], text, sizeof text - 1);
    ck_assert_int_gt((int)got, 0);
    text[got] = '\0';
    ck_assert_ptr_nonnull(strstr(text, "test_check.c:"));
    ck_assert_ptr_nonnull(strstr(text, "pid == 12345"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/check");
    TCase *tc = tcase_create("check");

    tcase_add_test(tc, a_true_check_does_nothing);
    tcase_add_test_raise_signal(tc, a_false_comparison_aborts, SIGABRT);
    tcase_add_test_raise_signal(tc, a_false_alternative_aborts, SIGABRT);
    tcase_add_test_raise_signal(tc, an_implication_that_does_not_hold_aborts, SIGABRT);
    tcase_add_test_raise_signal(tc, unreachable_aborts, SIGABRT);
    tcase_add_test(tc, an_implication_evaluates_its_right_side_only_when_needed);
    tcase_add_test(tc, a_check_in_an_if_binds_no_else);
    tcase_add_test(tc, the_hook_runs_once_before_the_abort);
    tcase_add_test(tc, the_message_names_the_place_and_the_expression);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
