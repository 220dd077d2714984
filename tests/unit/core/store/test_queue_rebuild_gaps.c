/*
 * Queue files are rebuilt although the log is damaged elsewhere. A release does not name its
 * number: it is counted from whatever is known on either side of the damage.
 */
#include "tests/unit/core/store/queue_rebuild_test.h"

static struct store_receipt others[10]; /* of another topic, the n-th before the n-th of T */
static uint8_t file[200];

/* Ten halves of T/0, each committed by a DECISION of its own, in the queue's file. */
static void setup(void)
{
    begin();
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(test_send(&ts, "other", 0, "not of T", &others[i]), 0);
        send_released(i);
    }
    into_files();
    ck_assert(sim_disk_peek(disk, FILE_T, 0, file, sizeof file));
}

static void damage_log(int number)
{
    flip(SEGMENT, others[number].offset + 60);
}

static void damage_entry(uint32_t number)
{
    flip(FILE_T, (uint64_t)number * QUEUE_ENTRY_SIZE + 3);
}

static void lose_file(void)
{
    test_store_close(&ts);
    ck_assert(sim_disk_remove(disk, FILE_T));
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
}

static void check_rebuilt(uint64_t count)
{
    uint8_t now[sizeof file];

    ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN);
    ck_assert_uint_eq(ts.rebuilt_count, count);
    ck_assert_uint_eq(ts.left_count + ts.damage_count, 0);
    ck_assert(sim_disk_peek(disk, FILE_T, 0, now, sizeof now));
    ck_assert_int_eq(memcmp(now, file, sizeof file), 0);
}

START_TEST(every_sound_entry_tells_where_the_count_stands)
{
    /* The log is damaged between two that are bad: those between the two are known. */
    damage_entry(1);
    damage_entry(8);
    damage_log(4);
    check_rebuilt(2);
}
END_TEST

START_TEST(between_two_damages_one_sound_entry_is_enough)
{
    for (uint32_t i = 0; i < 10; i++) {
        if (i != 5) {
            damage_entry(i);
        }
    }
    damage_log(3);
    damage_log(7);
    check_rebuilt(9);
}
END_TEST

START_TEST(a_file_that_is_gone_is_counted_from_both_ends)
{
    /* The log has its beginning, and its end is the queue's. */
    lose_file();
    damage_log(4);
    check_rebuilt(10);
}
END_TEST

START_TEST(what_lies_between_two_damages_without_a_number_is_left)
{
    lose_file();
    damage_log(3);
    damage_log(6);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "ESCROW_ECORRUPT");
    ck_assert_uint_eq(ts.rebuilt_count, 7); /* 0 to 2, and 6 to 9 */
    ck_assert_uint_eq(ts.left_count, 3);
    ck_assert_ptr_nonnull(strstr(ts.err.text, FILE_T ": entry 3 at byte 60 is damaged"));
    damage_log(3); /* the file of the log is put right */
    test_store_close(&ts);
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
    ts.rebuilt_count = ts.left_count = ts.damage_count = 0;
    check_rebuilt(3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/queue_rebuild_gaps");
    TCase *t = tcase_create("queue_rebuild_gaps");

    tcase_add_checked_fixture(t, setup, shut);
    tcase_add_test(t, every_sound_entry_tells_where_the_count_stands);
    tcase_add_test(t, between_two_damages_one_sound_entry_is_enough);
    tcase_add_test(t, a_file_that_is_gone_is_counted_from_both_ends);
    tcase_add_test(t, what_lies_between_two_damages_without_a_number_is_left);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
