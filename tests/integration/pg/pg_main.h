/*
 * main() of a test program with one server for all its tests. The file defines add_tests(suite), a
 * list of ADD(suite, test); each test is a case of its own, so that CK_RUN_CASE=test runs it alone.
 */
#ifndef TESTS_INTEGRATION_PG_PG_MAIN_H
#define TESTS_INTEGRATION_PG_PG_MAIN_H

#include "tests/lib/pg_fixture.h"

#include <check.h>
#include <stdlib.h>

#define PG_TEST_SECONDS 100

static struct pg_fixture fixture;

static void add_tests(Suite *suite);

#define ADD(suite, test)                                                                           \
    do {                                                                                           \
        TCase *tc = tcase_create(#test);                                                           \
        tcase_set_timeout(tc, PG_TEST_SECONDS);                                                    \
        tcase_add_test(tc, test);                                                                  \
        suite_add_tcase(suite, tc);                                                                \
    } while (0)

int main(void)
{
    Suite *suite = suite_create("integration/pg");
    SRunner *runner;
    int failed;

    add_tests(suite);
    runner = srunner_create(suite);
    pg_fixture_start(&fixture, NULL);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    pg_fixture_stop(&fixture);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
