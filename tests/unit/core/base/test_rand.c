#include "core/base/rand.h"

#include "tests/unit/core/base/unit_main.h"

#include <signal.h>

START_TEST(a_seed_gives_the_published_sequence)
{
    /*
     * xoshiro256** seeded by splitmix64(0): a failed run can be replayed on any machine, for ever.
     */
    static const uint64_t want[] = {UINT64_C(0x99ec5f36cb75f2b4), UINT64_C(0xbf6e1f784956452a),
                                    UINT64_C(0x1a5f849d4933e6e0), UINT64_C(0x6aa594f1262d2d2c),
                                    UINT64_C(0xbba5ad4a1f842e59)};
    struct rand r;

    rand_init(&r, 0);
    for (int i = 0; i < 5; i++) {
        ck_assert_uint_eq(rand_u64(&r), want[i]);
    }
}
END_TEST

START_TEST(a_bound_is_kept_and_used_up)
{
    /* Every value below it comes, none above; also for bounds that are no power of two. */
    struct rand r;
    unsigned seen[7] = {0};

    rand_init(&r, 3);
    for (int i = 0; i < 7000; i++) {
        seen[rand_below(&r, 7)]++;
    }
    for (int i = 0; i < 7; i++) {
        ck_assert_uint_gt(seen[i], 800);
        ck_assert_uint_lt(seen[i], 1200);
    }
    ck_assert_uint_eq(rand_below(&r, 1), 0);
}
END_TEST

START_TEST(a_bound_of_zero_aborts)
{
    /* There is no such number: a bug. */
    struct rand r;

    rand_init(&r, 3);
    (void)rand_below(&r, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/rand");
    TCase *tc = tcase_create("rand");

    tcase_add_test(tc, a_seed_gives_the_published_sequence);
    tcase_add_test(tc, a_bound_is_kept_and_used_up);
    tcase_add_test_raise_signal(tc, a_bound_of_zero_aborts, SIGABRT);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
