#include "outbox/backoff.h"

#include "tests/unit/outbox/outbox_main.h"

START_TEST(waits_grow_to_the_maximum_and_stay_inside_their_bounds)
{
    /* Attempt n waits between base and base * 2^n, never more than the maximum. */
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct backoff b;
        uint64_t ceiling = 100;
        backoff_init(&b, 100, 10000, seed);
        for (int i = 0; i < 100; i++) {
            uint32_t wait_ms = backoff_next(&b);
            ceiling = ceiling * 2 > 10000 ? 10000 : ceiling * 2;
            ck_assert_uint_ge(wait_ms, 100);
            ck_assert_uint_le(wait_ms, ceiling);
        }
    }
}
END_TEST

START_TEST(relays_that_fail_together_do_not_come_back_together)
{
    /* Thirty seeds: the tenth waits are spread over the whole range. */
    uint32_t low = UINT32_MAX;
    uint32_t high = 0;

    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct backoff b;
        uint32_t wait_ms = 0;
        backoff_init(&b, 100, 10000, seed);
        for (int i = 0; i < 10; i++) {
            wait_ms = backoff_next(&b);
        }
        low = wait_ms < low ? wait_ms : low;
        high = wait_ms > high ? wait_ms : high;
    }
    ck_assert_uint_lt(low, 2500);
    ck_assert_uint_gt(high, 7500);
}
END_TEST

START_TEST(success_starts_again_from_the_base)
{
    /* After a reset the first wait is short again. */
    struct backoff b;

    backoff_init(&b, 100, 10000, 7);
    for (int i = 0; i < 20; i++) {
        (void)backoff_next(&b); /* only the count matters */
    }
    backoff_reset(&b);
    ck_assert_uint_le(backoff_next(&b), 200);
}
END_TEST

START_TEST(what_a_person_must_mend_is_not_tried_in_a_tight_loop)
{
    /* Slow waits are at least a fifth of the maximum from the first one on. */
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct backoff b;
        backoff_init(&b, 100, 10000, seed);
        ck_assert_uint_ge(backoff_next_slow(&b), 2000);
        ck_assert_uint_le(backoff_next_slow(&b), 10000);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox/backoff");
    TCase *tc = tcase_create("backoff");

    tcase_add_test(tc, waits_grow_to_the_maximum_and_stay_inside_their_bounds);
    tcase_add_test(tc, relays_that_fail_together_do_not_come_back_together);
    tcase_add_test(tc, success_starts_again_from_the_base);
    tcase_add_test(tc, what_a_person_must_mend_is_not_tried_in_a_tight_loop);
    suite_add_tcase(suite, tc);
    return outbox_run(suite);
}
