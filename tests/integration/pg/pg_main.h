/* main() of a test program with one server for all its tests: PG_MAIN("name", ADD(test) ADD(test)). */
#ifndef TESTS_INTEGRATION_PG_PG_MAIN_H
#define TESTS_INTEGRATION_PG_PG_MAIN_H

#include "tests/lib/pg_fixture.h"

#include <check.h>
#include <stdlib.h>

#define PG_TEST_SECONDS 100

static struct pg_fixture fixture;

/* A case of its own, so that CK_RUN_CASE=test runs it alone. */
#define ADD(test)                                                                                  \
    {                                                                                              \
        TCase *tc = tcase_create(#test);                                                           \
        tcase_set_timeout(tc, PG_TEST_SECONDS);                                                    \
        tcase_add_test(tc, test);                                                                  \
        suite_add_tcase(suite, tc);                                                                \
    }

#define PG_MAIN(name, tests)                                                                       \
    int main(void)                                                                                 \
    {                                                                                              \
        Suite *suite = suite_create("integration/pg/" name);                                       \
        SRunner *runner = srunner_create(suite);                                                   \
        int failed;                                                                                \
        tests;                                                                                     \
        pg_fixture_start(&fixture, NULL);                                                          \
        srunner_run_all(runner, CK_NORMAL);                                                        \
        failed = srunner_ntests_failed(runner);                                                    \
        srunner_free(runner);                                                                      \
        pg_fixture_stop(&fixture);                                                                 \
        return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;                                          \
    }

#endif
