/* main() of the unit tests of this folder. Thread: the test's. */
#ifndef TESTS_UNIT_SRC_CLIENT_CLIENT_MAIN_H
#define TESTS_UNIT_SRC_CLIENT_CLIENT_MAIN_H

#include <check.h>
#include <stddef.h>

static inline int client_main(const char *name, const TTest *const *tests, size_t count)
{
    Suite *s = suite_create(name);
    TCase *tc = tcase_create(name);
    SRunner *sr = srunner_create(s);
    int failed;

    suite_add_tcase(s, tc);
    for (size_t i = 0; i < count; i++) {
        tcase_add_test(tc, tests[i]);
    }
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? 0 : 1;
}

#endif
