/*
 * main() of a test with one suite: UNIT_MAIN("core/base/buf", case_a, case_b). Needs fork mode (see
 * tests/README.md).
 */
#ifndef TESTS_UNIT_CORE_BASE_UNIT_MAIN_H
#define TESTS_UNIT_CORE_BASE_UNIT_MAIN_H

#include <check.h>
#include <stdlib.h>

/* Runs the suite; the result is the process's exit status. */
static inline int unit_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    int failed;

    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
