#include "src/tools/histogram.h"

#include "core/base/rand.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdlib.h>

static struct histogram h; /* large: not on the stack */

START_TEST(an_empty_one_has_zeros)
{
    /* No division by nothing, no minimum of 2^64 - 1. */
    histogram_init(&h);
    ck_assert_uint_eq(histogram_at(&h, 500), 0);
    ck_assert_uint_eq(histogram_at(&h, 1000), 0);
    ck_assert(histogram_mean(&h) == 0.0);
}
END_TEST

START_TEST(small_values_are_exact)
{
    /* Below 256 each value has a bucket of its own. */
    histogram_init(&h);
    for (uint64_t v = 0; v < 200; v++) {
        histogram_put(&h, v);
    }
    ck_assert_uint_eq(histogram_at(&h, 5), 0);
    ck_assert_uint_eq(histogram_at(&h, 500), 99);
    ck_assert_uint_eq(histogram_at(&h, 990), 197);
    ck_assert_uint_eq(histogram_at(&h, 1000), 199);
    ck_assert(histogram_mean(&h) == 99.5);
}
END_TEST

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

START_TEST(percentiles_are_within_one_percent_of_the_sorted_values)
{
    /* Values of every magnitude, against the exact answer. */
    enum { N = 20000 };
    static uint64_t values[N];
    static const uint32_t permilles[] = {1, 10, 500, 900, 990, 999};
    struct rand r;

    rand_init(&r, 7);
    histogram_init(&h);
    for (int i = 0; i < N; i++) {
        values[i] = rand_u64(&r) >> rand_below(&r, 60);
        histogram_put(&h, values[i]);
    }
    qsort(values, N, sizeof values[0], by_value);
    for (size_t i = 0; i < sizeof permilles / sizeof permilles[0]; i++) {
        uint64_t want = values[(uint64_t)N * permilles[i] / 1000 - 1];
        uint64_t got = histogram_at(&h, permilles[i]);
        ck_assert_uint_ge(got, want);
        ck_assert_uint_le(got - want, want / 100 + 1);
    }
    ck_assert_uint_eq(histogram_at(&h, 1000), values[N - 1]);
}
END_TEST

START_TEST(the_largest_value_has_a_bucket)
{
    /* The last index is inside the array, and the maximum stays exact. */
    histogram_init(&h);
    histogram_put(&h, UINT64_MAX);
    histogram_put(&h, 1);
    ck_assert_uint_eq(histogram_at(&h, 500), 1);
    ck_assert_uint_eq(histogram_at(&h, 999), UINT64_MAX);
}
END_TEST

START_TEST(merging_equals_putting_all_in_one)
{
    /* Two halves of one stream. */
    static struct histogram a;
    static struct histogram b;

    histogram_init(&h);
    histogram_init(&a);
    histogram_init(&b);
    for (uint64_t v = 1; v < 5000; v += 7) {
        histogram_put(&h, v * v);
        histogram_put(v % 2 == 0 ? &a : &b, v * v);
    }
    histogram_merge(&a, &b);
    ck_assert_uint_eq(a.count, h.count);
    ck_assert_uint_eq(a.min, h.min);
    for (uint32_t p = 0; p <= 1000; p++) {
        ck_assert_uint_eq(histogram_at(&a, p), histogram_at(&h, p));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/tools/histogram");
    TCase *tc = tcase_create("histogram");

    tcase_add_test(tc, an_empty_one_has_zeros);
    tcase_add_test(tc, small_values_are_exact);
    tcase_add_test(tc, percentiles_are_within_one_percent_of_the_sorted_values);
    tcase_add_test(tc, the_largest_value_has_a_bucket);
    tcase_add_test(tc, merging_equals_putting_all_in_one);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
