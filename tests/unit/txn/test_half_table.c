#include "txn/half_table.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <malloc.h>
#include <signal.h>

static const struct hash_key key = {3, 4};

static struct hash128 id_of(uint64_t n)
{
    return (struct hash128){.lo = hash_u64(n + 1), .hi = hash_u64(~n)};
}

static struct half *insert(struct half_table *t, uint64_t n)
{
    uint32_t route = 0;

    CHECK(half_table_reserve(t) == 0);
    CHECK(routes_intern(&t->routes, SLICE_LIT("group"), SLICE_LIT("topic"), &route) == 0);
    return half_table_insert(t, id_of(n), n * 1000, route);
}

START_TEST(a_half_is_found_by_id_and_by_offset)
{
    /* And nothing else is. */
    struct half_table t;
    struct half *half;

    half_table_init(&t, key, 100);
    half = insert(&t, 1);
    (void)insert(&t, 2);
    ck_assert_ptr_eq(half_table_find_id(&t, id_of(1)), half);
    ck_assert_ptr_eq(half_table_find_offset(&t, 1000), half);
    ck_assert_ptr_null(half_table_find_offset(&t, 1001));
    ck_assert_ptr_null(half_table_find_id(&t, (struct hash128){.lo = id_of(1).lo, .hi = 0}));
    ck_assert_ptr_eq(half_table_at(&t, half_table_slot(&t, half)), half);
    half_table_check(&t);
    half_table_remove(&t, half);
    ck_assert_ptr_null(half_table_find_offset(&t, 1000));
    ck_assert_ptr_null(half_table_find_id(&t, id_of(1)));
    half_table_check(&t);
    half_table_fini(&t);
}
END_TEST

START_TEST(halves_are_walked_in_log_order_whatever_was_removed)
{
    /* First, middle and last removed; the oldest is always the smallest offset. */
    struct half_table t;
    uint64_t want[] = {3000, 4000, 6000};
    size_t i = 0;

    half_table_init(&t, key, 100);
    for (uint64_t n = 2; n <= 7; n++) {
        (void)insert(&t, n);
    }
    half_table_remove(&t, half_table_find_offset(&t, 2000));
    half_table_remove(&t, half_table_find_offset(&t, 5000));
    half_table_remove(&t, half_table_find_offset(&t, 7000));
    for (struct half *h = half_table_oldest(&t); h != NULL; h = half_table_next(&t, h)) {
        ck_assert_uint_eq(h->offset, want[i++]);
    }
    ck_assert_uint_eq(i, 3);
    half_table_fini(&t);
}
END_TEST

START_TEST(a_full_table_refuses_and_changes_nothing)
{
    /* ESCROW_ELIMIT, until one leaves. */
    struct half_table t;

    half_table_init(&t, key, 2);
    (void)insert(&t, 1);
    (void)insert(&t, 2);
    ck_assert_int_eq(half_table_reserve(&t), ESCROW_ELIMIT);
    half_table_remove(&t, half_table_find_offset(&t, 1000));
    (void)insert(&t, 3);
    half_table_check(&t);
    half_table_fini(&t);
}
END_TEST

START_TEST(offsets_that_do_not_rise_abort)
{
    /* The log hands them out; anything else is a bug. */
    struct half_table t;

    half_table_init(&t, key, 10);
    (void)insert(&t, 5);
    (void)insert(&t, 5);
}
END_TEST

START_TEST(states_are_counted_as_they_change)
{
    /* by_state follows every move and every removal. */
    struct half_table t;
    struct half *half;

    half_table_init(&t, key, 10);
    half = insert(&t, 1);
    ck_assert_uint_eq(t.by_state[HALF_APPENDING], 1);
    half->flags |= HALF_F_APPLIED;
    half_table_move(&t, half, HALF_COMMITTING, "test");
    ck_assert_uint_eq(t.by_state[HALF_APPENDING], 0);
    ck_assert_uint_eq(t.by_state[HALF_COMMITTING], 1);
    half_table_check(&t);
    half_table_remove(&t, half);
    ck_assert_uint_eq(t.by_state[HALF_COMMITTING], 0);
    half_table_fini(&t);
}
END_TEST

START_TEST(memory_comes_back_when_halves_leave)
{
    /* 50,000 in, all but one out in random order: a few chunks are left, not a hundred. */
    struct half_table t;
    struct rand rand;
    size_t full;

    rand_init(&rand, 7);
    half_table_init(&t, key, 100000);
    for (uint64_t n = 1; n <= 50000; n++) {
        (void)insert(&t, n);
    }
    full = half_table_bytes(&t);
    while (t.count > 1) {
        uint64_t n = 1 + rand_below(&rand, 50000);
        struct half *half = half_table_find_offset(&t, n * 1000);
        if (half != NULL) {
            half_table_remove(&t, half);
        }
    }
    half_table_check(&t);
    ck_assert_uint_lt(half_table_bytes(&t), full / 20);
    for (uint64_t n = 50001; n <= 60000; n++) {
        (void)insert(&t, n);
    }
    half_table_check(&t);
    half_table_fini(&t);
}
END_TEST

START_TEST(one_half_that_comes_and_goes_does_not_allocate)
{
    /* The commonest life of a half: alone in an idle broker. */
    struct half_table t;

    half_table_init(&t, key, 10);
    (void)insert(&t, 1);
    (void)insert(&t, 2);
    half_table_remove(&t, half_table_find_offset(&t, 2000));
    mem_fault_at(1);
    for (uint64_t n = 3; n < 3000; n++) {
        half_table_remove(&t, insert(&t, n));
    }
    ck_assert_int_eq(mem_fault_fired(), 0);
    mem_fault_at(0);
    half_table_fini(&t);
}
END_TEST

START_TEST(every_failed_allocation_of_a_reservation_leaves_the_table_usable)
{
    /* Fail the 1st, 2nd, ... until none fires. */
    int64_t live = mem_live_count();
    uint64_t n = 0;
    bool fired = true;

    while (fired) {
        struct half_table t;
        int rc;

        half_table_init(&t, key, 10);
        mem_fault_at(++n);
        rc = half_table_reserve(&t);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        half_table_check(&t);
        (void)insert(&t, 1);
        half_table_check(&t);
        half_table_fini(&t);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_uint_gt(n, 4);
}
END_TEST

START_TEST(a_million_halves_take_less_than_84_bytes_each)
{
    /* Counted twice: by our own accounts, and by what the allocator says is in use. */
    struct half_table t;
    const uint64_t million = 1000000;
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    size_t used;

    half_table_init(&t, key, 2 * million);
    for (uint64_t n = 1; n <= million; n++) {
        (void)insert(&t, n);
    }
    used = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    ck_assert_uint_lt(half_table_bytes(&t), 84 * million);
    if (used > 0) { /* sanitizers have an allocator of their own, which does not tell */
        ck_assert_uint_lt(used, 84 * million);
        ck_assert_uint_ge(used, half_table_bytes(&t));
    }
    ck_assert_ptr_eq(half_table_find_id(&t, id_of(777777)),
                     half_table_find_offset(&t, UINT64_C(777777000)));
    half_table_fini(&t);
}
END_TEST

START_TEST(random_use_agrees_with_an_array)
{
    /* Insert, remove, find in random order against the plainest table there is. */
    struct half_table t;
    struct rand rand;
    bool is_in[4000] = {false};
    uint64_t next = 1;

    rand_init(&rand, (uint64_t)_i + 99);
    half_table_init(&t, key, 1500);
    for (int step = 0; step < 8000 && next < 4000; step++) {
        uint64_t n = rand_below(&rand, next) + 0;
        if (rand_below(&rand, 2) == 0 && t.count < 1500) {
            (void)insert(&t, next);
            is_in[next++] = true;
        } else if (n > 0 && is_in[n]) {
            half_table_remove(&t, half_table_find_id(&t, id_of(n)));
            is_in[n] = false;
        }
        if (step % 500 == 0) {
            half_table_check(&t);
        }
    }
    for (uint64_t n = 1; n < next; n++) {
        CHECK((half_table_find_offset(&t, n * 1000) != NULL) == is_in[n]);
        CHECK((half_table_find_id(&t, id_of(n)) != NULL) == is_in[n]);
    }
    half_table_check(&t);
    half_table_fini(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/half_table");
    TCase *tc = tcase_create("half_table");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_half_is_found_by_id_and_by_offset);
    tcase_add_test(tc, halves_are_walked_in_log_order_whatever_was_removed);
    tcase_add_test(tc, a_full_table_refuses_and_changes_nothing);
    tcase_add_test_raise_signal(tc, offsets_that_do_not_rise_abort, SIGABRT);
    tcase_add_test(tc, states_are_counted_as_they_change);
    tcase_add_test(tc, memory_comes_back_when_halves_leave);
    tcase_add_test(tc, one_half_that_comes_and_goes_does_not_allocate);
    tcase_add_test(tc, every_failed_allocation_of_a_reservation_leaves_the_table_usable);
    tcase_add_test(tc, a_million_halves_take_less_than_84_bytes_each);
    tcase_add_loop_test(tc, random_use_agrees_with_an_array, 0, 5);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
