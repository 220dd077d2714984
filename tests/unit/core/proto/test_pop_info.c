#include "core/proto/pop_info.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

START_TEST(a_handle_survives_the_round_trip)
{
    /* Shows: the text that Java's client makes of an answer. */
    struct pop_handle handle;
    struct buf out;

    buf_init(&out, 0);
    ck_assert_int_eq(
        pop_handle_decode(SLICE_LIT("5 1700000000123 60000 3 0 escrow-a 7 9"), &handle), 0);
    ck_assert_int_eq(handle.start_offset, 5);
    ck_assert_int_eq(handle.pop_ms, 1700000000123);
    ck_assert_int_eq(handle.invisible_ms, 60000);
    ck_assert_int_eq(handle.revive_queue, 3);
    ck_assert_int_eq(handle.kind, POP_KIND_TOPIC);
    assert_slice(handle.broker_name, "escrow-a");
    ck_assert_int_eq(handle.queue_id, 7);
    ck_assert_int_eq(handle.offset, 9);
    pop_handle_encode(&out, &handle);
    assert_slice(buf_slice(&out), "5 1700000000123 60000 3 0 escrow-a 7 9");
    buf_fini(&out);
}
END_TEST

START_TEST(what_is_no_handle_is_refused)
{
    /* Shows: too few and too many words, empty ones, letters, negative and overlong numbers. */
    static const char *const bad[] = {
        "",
        " ",
        "5",
        "5 1 2 0 0 b 0",
        "5 1 2 0 0 b 0 ",
        " 5 1 2 0 0 b 0 5",
        "5 1 2 0 0 b 0 5 6",
        "5 1 2 0 0  0 5",
        "x 1 2 0 0 b 0 5",
        "5 y 2 0 0 b 0 5",
        "5 1 2 0 0 b -1 5",
        "5 1 2 0 0 b 0 -5",
        "-5 1 2 0 0 b 0 5",
        "5 -1 2 0 0 b 0 5",
        "5 1 -2 0 0 b 0 5",
        "5 1 2 0 0 b 4294967296 5",
        "5 1 2 0 0 b 0 99999999999999999999",
    };
    struct pop_handle handle;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct slice text = copy_exact(slice_str(bad[i]));
        ck_assert_msg(pop_handle_decode(text, &handle) == ESCROW_EINVAL, "'%s'", bad[i]);
        free_copy(text);
    }
}
END_TEST

START_TEST(each_queue_has_its_entry)
{
    /* Shows: the lowest offset begins the queue, and the order of the records is kept. */
    static const int64_t due[] = {9, 4, 7};
    static const int64_t new_ones[] = {100};
    struct buf start;
    struct buf offsets;

    buf_init(&start, 0);
    buf_init(&offsets, 0);
    pop_info_add(&start, &offsets, 2, due, 3);
    pop_info_add(&start, &offsets, 0, new_ones, 1);
    assert_slice(buf_slice(&start), "0 2 4;0 0 100");
    assert_slice(buf_slice(&offsets), "0 2 9,4,7;0 0 100");
    buf_fini(&start);
    buf_fini(&offsets);
}
END_TEST

START_TEST(an_ordered_pop_counts_its_messages)
{
    /* Shows: messages that had retries by offset, and of each queue the lowest number. */
    static const int64_t offsets[] = {4, 5, 7};
    static const int32_t some[] = {2, 0, 1};
    static const int32_t all[] = {2, 3, 4};
    struct buf counts;

    buf_init(&counts, 0);
    pop_info_add_counts(&counts, 2, offsets, some, 3);
    assert_slice(buf_slice(&counts), "0 qo2%4 2;0 qo2%7 1;0 2 0");
    pop_info_add_counts(&counts, 0, offsets, all, 2);
    assert_slice(buf_slice(&counts), "0 qo2%4 2;0 qo2%7 1;0 2 0;0 qo0%4 2;0 qo0%5 3;0 0 2");
    buf_fini(&counts);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("pop_info");

    tcase_add_test(tc, a_handle_survives_the_round_trip);
    tcase_add_test(tc, what_is_no_handle_is_refused);
    tcase_add_test(tc, each_queue_has_its_entry);
    tcase_add_test(tc, an_ordered_pop_counts_its_messages);
    return run_tests(tc, "core/proto/pop_info");
}
