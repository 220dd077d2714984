/*
 * Runs one suite of this folder; the result is the process's exit status. Needs fork mode
 * (tests/README.md).
 */
#ifndef TESTS_UNIT_OUTBOX_OUTBOX_MAIN_H
#define TESTS_UNIT_OUTBOX_OUTBOX_MAIN_H

#include <check.h>
#include <stdlib.h>

static inline int outbox_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    int failed;

    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
