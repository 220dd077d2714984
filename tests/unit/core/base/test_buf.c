#include "core/base/buf.h"

#include "core/base/mem.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>

START_TEST(integers_are_appended_in_their_byte_order)
{
    /* Every width, both ends. */
    static const uint8_t want[] = {0x01, 0x12, 0x34, 0x01, 0x02, 0x03, 0x04, 1, 2, 3, 4, 5, 6, 7, 8,
                                   0x34, 0x12, 4,    3,    2,    1,    8,    7, 6, 5, 4, 3, 2, 1};
    struct buf b;

    buf_init(&b, 0);
    buf_append_u8(&b, 1);
    buf_append_be16(&b, 0x1234);
    buf_append_be32(&b, 0x01020304);
    buf_append_be64(&b, UINT64_C(0x0102030405060708));
    buf_append_le16(&b, 0x1234);
    buf_append_le32(&b, 0x01020304);
    buf_append_le64(&b, UINT64_C(0x0102030405060708));
    ck_assert(!buf_failed(&b));
    ck_assert(slice_eq(buf_slice(&b), slice_of(want, sizeof want)));
    buf_fini(&b);
}
END_TEST

START_TEST(formatted_text_of_any_length_fits)
{
    /* Below, at and above the size of the small buffer inside. */
    static const int lens[] = {0, 1, 255, 256, 257, 5000};

    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct buf b;

        buf_init(&b, 0);
        buf_append_str(&b, "<");
        buf_append_fmt(&b, "%*s", lens[i], "");
        buf_append_str(&b, ">");
        ck_assert_uint_eq(b.len, (size_t)lens[i] + 2);
        ck_assert_int_eq(b.ptr[b.len - 1], '>');
        buf_fini(&b);
    }
}
END_TEST

START_TEST(the_limit_is_exact)
{
    /* As many bytes as the limit, not one more; what is refused changes nothing. */
    struct buf b;

    buf_init(&b, 300);
    for (int i = 0; i < 300; i++) {
        buf_append_u8(&b, (uint8_t)i);
    }
    ck_assert(!buf_failed(&b));
    ck_assert_uint_eq(b.cap, 300);
    buf_append_u8(&b, 0);
    ck_assert(buf_failed(&b));
    ck_assert_uint_eq(b.len, 300);
    ck_assert_ptr_null(buf_reserve(&b, 0)); /* failed stays failed */
    buf_clear(&b);
    ck_assert(!buf_failed(&b));
    buf_append_u8(&b, 7);
    ck_assert_uint_eq(b.len, 1);
    buf_fini(&b);
}
END_TEST

START_TEST(a_limit_below_the_smallest_capacity_holds)
{
    /* The first allocation is cut to the limit. */
    struct buf b;

    buf_init(&b, 10);
    buf_append(&b, "0123456789", 10);
    ck_assert(!buf_failed(&b));
    ck_assert_uint_eq(b.cap, 10);
    buf_append(&b, "a", 1);
    ck_assert(buf_failed(&b));
    buf_fini(&b);
}
END_TEST

START_TEST(reserve_refuses_a_size_that_overflows)
{
    /* len + more must not wrap around. */
    struct buf b;

    buf_init(&b, 0);
    buf_append_u8(&b, 1);
    ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX));
    ck_assert(buf_failed(&b));
    buf_clear(&b);
    ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX - 10));
    buf_fini(&b);
}
END_TEST

START_TEST(reserve_and_commit_write_in_place)
{
    /*
     * What is committed counts, what is only reserved does not; reserving nothing gives a pointer.
     */
    struct buf b;
    uint8_t *dst;

    buf_init(&b, 0);
    ck_assert_ptr_nonnull(buf_reserve(&b, 0));
    dst = buf_reserve(&b, 1000);
    ck_assert_ptr_nonnull(dst);
    memcpy(dst, "abc", 3);
    buf_commit(&b, 3);
    ck_assert(slice_eq(buf_slice(&b), SLICE_LIT("abc")));
    buf_fini(&b);
}
END_TEST

START_TEST(consume_moves_the_rest_to_the_front)
{
    /* Nothing, some, all. */
    struct buf b;

    buf_init(&b, 0);
    buf_append_str(&b, "abcdef");
    buf_consume(&b, 0);
    ck_assert_uint_eq(b.len, 6);
    buf_consume(&b, 2);
    ck_assert(slice_eq(buf_slice(&b), SLICE_LIT("cdef")));
    buf_consume(&b, 4);
    ck_assert_uint_eq(b.len, 0);
    buf_fini(&b);
}
END_TEST

START_TEST(consuming_more_than_there_is_aborts)
{
    /* A bug of the caller, not input. */
    struct buf b;

    buf_init(&b, 0);
    buf_append_u8(&b, 1);
    buf_consume(&b, 2);
}
END_TEST

START_TEST(committing_more_than_was_reserved_aborts)
{
    /* A bug of the caller, not input. */
    struct buf b;

    buf_init(&b, 0);
    (void)buf_reserve(&b, 10);
    buf_commit(&b, b.cap + 1);
}
END_TEST

static void fill(struct buf *b)
{
    for (int i = 0; i < 100; i++) {
        buf_append_fmt(b, "line %d of the text that makes the buffer grow, %0300d;", i, i);
    }
}

START_TEST(every_failed_allocation_is_reported_and_leaks_nothing)
{
    /* The n-th allocation fails, for every n; then the same again works. */
    int64_t live = mem_live_count();
    uint64_t n = 0;
    bool fired = true;

    while (fired) {
        struct buf b;

        buf_init(&b, 0);
        mem_fault_at(++n);
        fill(&b);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(buf_failed(&b), fired);
        buf_clear(&b);
        fill(&b);
        ck_assert(!buf_failed(&b));
        buf_fini(&b);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_uint_gt(n, 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/buf");
    TCase *tc = tcase_create("buf");

    tcase_add_test(tc, integers_are_appended_in_their_byte_order);
    tcase_add_test(tc, formatted_text_of_any_length_fits);
    tcase_add_test(tc, the_limit_is_exact);
    tcase_add_test(tc, a_limit_below_the_smallest_capacity_holds);
    tcase_add_test(tc, reserve_refuses_a_size_that_overflows);
    tcase_add_test(tc, reserve_and_commit_write_in_place);
    tcase_add_test(tc, consume_moves_the_rest_to_the_front);
    tcase_add_test_raise_signal(tc, consuming_more_than_there_is_aborts, SIGABRT);
    tcase_add_test_raise_signal(tc, committing_more_than_was_reserved_aborts, SIGABRT);
    tcase_add_test(tc, every_failed_allocation_is_reported_and_leaks_nothing);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
