#include "core/base/mem.h"

#include "tests/unit/core/base/unit_main.h"

#include <malloc.h>
#include <stdint.h>

START_TEST(what_is_allocated_is_counted_until_freed)
{
    /* Every way in and the one way out; growing in place is not a second allocation. */
    int64_t before = mem_live_count();
    void *a = mem_alloc(10);
    void *b = mem_calloc(3, 4);
    char *c = mem_strdup("text");
    void *d = mem_realloc(NULL, 5);

    ck_assert_int_eq(mem_live_count(), before + 4);
    d = mem_realloc(d, 50000);
    ck_assert_ptr_nonnull(d);
    ck_assert_int_eq(mem_live_count(), before + 4);
    ck_assert_str_eq(c, "text");
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(d);
    mem_free(NULL);
    ck_assert_int_eq(mem_live_count(), before);
}
END_TEST

START_TEST(nothing_is_something)
{
    /* A size of 0 gives a pointer of its own, in every function. */
    void *a = mem_alloc(0);
    void *b = mem_calloc(0, 8);
    void *c = mem_calloc(8, 0);
    void *d = mem_realloc(NULL, 0);

    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(b);
    ck_assert_ptr_nonnull(c);
    ck_assert_ptr_nonnull(d);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(d);
}
END_TEST

START_TEST(calloc_refuses_an_overflow)
{
    /* count * size beyond the address space is no memory, not a small block. */
    volatile size_t huge = SIZE_MAX / 2; /* or the compiler sees it, and warns */

    ck_assert_ptr_null(mem_calloc(huge, 3));
}
END_TEST

START_TEST(the_nth_allocation_fails_once)
{
    /* Only that one; the next works again. */
    int64_t before = mem_live_count();
    void *a;
    void *b;
    void *c;

    mem_fault_at(2);
    a = mem_alloc(1);
    ck_assert_int_eq(mem_fault_fired(), 0);
    b = mem_alloc(1);
    ck_assert_int_eq(mem_fault_fired(), 1);
    c = mem_alloc(1);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_null(b);
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(mem_live_count(), before + 2);
    mem_free(a);
    mem_free(c);
}
END_TEST

START_TEST(a_failed_realloc_keeps_the_old_block)
{
    /* The caller still owns it. */
    char *a = mem_strdup("kept");

    mem_fault_at(1);
    ck_assert_ptr_null(mem_realloc(a, 100));
    ck_assert_str_eq(a, "kept");
    mem_free(a);
}
END_TEST

START_TEST(faults_can_be_switched_off)
{
    /* 0 forgets the countdown. */
    void *a;

    mem_fault_at(1);
    mem_fault_at(0);
    a = mem_alloc(1);
    ck_assert_ptr_nonnull(a);
    ck_assert_int_eq(mem_fault_fired(), 0);
    mem_free(a);
}
END_TEST

START_TEST(a_large_block_goes_back_to_the_system_when_freed)
{
    /* Also the second time: without mem_map_large the allocator keeps it from then on. */
    mem_map_large();
    for (int i = 0; i < 3; i++) {
        size_t before;
        size_t during;
        void *p;

        before = mallinfo2().hblkhd;
        p = mem_alloc(3 * MEM_LARGE_BYTES);
        ck_assert_ptr_nonnull(p);
        during = mallinfo2().hblkhd;
        mem_free(p);
        ck_assert_uint_eq(mallinfo2().hblkhd, before);
        if (mallinfo2().arena > 0) { /* sanitizers have an allocator of their own */
            ck_assert_uint_ge(during, before + 3 * MEM_LARGE_BYTES);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/mem");
    TCase *tc = tcase_create("mem");

    tcase_add_test(tc, what_is_allocated_is_counted_until_freed);
    tcase_add_test(tc, nothing_is_something);
    tcase_add_test(tc, calloc_refuses_an_overflow);
    tcase_add_test(tc, the_nth_allocation_fails_once);
    tcase_add_test(tc, a_failed_realloc_keeps_the_old_block);
    tcase_add_test(tc, faults_can_be_switched_off);
    tcase_add_test(tc, a_large_block_goes_back_to_the_system_when_freed);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
