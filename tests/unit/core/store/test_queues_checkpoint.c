#include "core/base/bytes.h"
#include "tests/unit/core/store/queues_test.h"

START_TEST(entries_ahead_of_the_checkpoint_are_cut)
{
    /*
     * H10: files ahead of the log, at a file boundary and across it; of a queue without a row too.
     */
    struct queue *q = get("t", 0);
    struct buf old;
    struct queues_open_report report;

    put(q, FILE_ENTRIES - 10);
    ck_assert_int_eq(checkpoint(), 0);
    buf_init(&old, 0);
    buf_append_slice(&old, buf_slice(&section));
    put(q, 2 * FILE_ENTRIES);
    put(get("new|%", 9), 5000);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 4);
    buf_clear(&section);
    buf_append_slice(&section, buf_slice(&old));
    report = reopen();
    ck_assert_uint_eq(report.file_count, 1);
    ck_assert_uint_eq(report.cut_count, 1);
    ck_assert_uint_eq(report.cut_entries, 10);
    ck_assert_uint_eq(report.unlink_count, 3);
    ck_assert_uint_eq(file_count(), 1);
    q = queues_find(qs, SLICE_LIT("t"), 0);
    ck_assert_uint_eq(q->visible, FILE_ENTRIES - 10);
    put(q, 3000); /* the replay */
    check_all(qs);
    ck_assert_int_eq(checkpoint(), 0);
    check_all(qs);
    buf_fini(&old);
}
END_TEST

static void check_start_tells(const char *words)
{
    uint64_t ops = sim_disk_op_count(disk);
    struct queues_open_report report = reopen();

    ck_assert_uint_eq(report.lost_count, 1);
    ck_assert_msg(strstr(report.lost, words) != NULL, "%s", report.lost);
    ck_assert_uint_eq(sim_disk_op_count(disk), ops);
}

START_TEST(a_missing_file_is_told_at_the_start_with_its_name)
{
    /* The first, or one in the middle: the checkpoint counts on it. Reading it is an error. */
    struct queue_entry entry;
    struct queues_read read;

    put(get("t", 0), 2 * FILE_ENTRIES + 5);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(disk_unlink(disk, "queues/t/0/00000000000006000000", NULL), 0);
    check_start_tells("queues/t/0/00000000000006000000: missing");
    ck_assert_int_eq(queues_read_take(qs, get("t", 0), FILE_ENTRIES, 1, &entry, &read), 0);
    ck_assert_int_eq(queues_read_run(&read, NULL), ESCROW_ENOTFOUND);
    queues_read_done(&read);
}
END_TEST

START_TEST(a_short_file_is_told_at_the_start_with_its_name)
{
    /* Shorter by one byte than the entries the checkpoint counts. */
    struct disk_file *f = NULL;

    put(get("t", 0), FILE_ENTRIES + 2000);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(disk_open(disk, "queues/t/0/00000000000006000000", DISK_WRITE, &f, NULL), 0);
    ck_assert_int_eq(disk_truncate(f, 2000 * QUEUE_ENTRY_SIZE - 1, NULL), 0);
    disk_close(&f);
    check_start_tells("queues/t/0/00000000000006000000: 39999 bytes");
}
END_TEST

START_TEST(a_count_the_folder_does_not_bear_out_costs_no_time)
{
    /* A row may count 2^50 entries; what it costs to see that goes by the files there are. */
    const uint64_t files = (QUEUE_NUMBER_MAX + FILE_ENTRIES - 1) / FILE_ENTRIES;
    struct queues_open_report report;

    put(get("t", 0), 3 * FILE_ENTRIES);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(disk_unlink(disk, "queues/t/0/00000000000006000000", NULL), 0);
    put_le64(section.ptr + 4 + 16, QUEUE_NUMBER_MAX); /* flushed, visible */
    put_le64(section.ptr + 4 + 24, QUEUE_NUMBER_MAX);
    report = reopen();
    ck_assert_uint_eq(report.file_count, 2);
    ck_assert_uint_eq(report.lost_count, files - 2);
    ck_assert_msg(strstr(report.lost, "/00000000000006000000: missing") != NULL, "%s", report.lost);
}
END_TEST

START_TEST(things_of_others_are_left_alone)
{
    /* Names that no queue could have, also another split of a long name. */
    char deep[400] = "queues/";

    memset(deep + 7, 'x', 100);
    (void)snprintf(deep + 107, sizeof deep - 107, "+/y/0/00000000000000000000");
    make_file(deep, "abc");
    make_file("queues/README", "abc");
    make_file("queues/a.b/0/00000000000000000000", "abc");
    make_file("queues/t/x/00000000000000000000", "abc");
    make_file("queues/t/0/notes", "abc");
    make_file("queues/t/0/00000000000006000000", "abc");
    ck_assert_uint_eq(reopen().unlink_count, 1);
    ck_assert_uint_eq(file_count(), 5);
}
END_TEST

START_TEST(long_and_odd_topics_survive_a_restart)
{
    /* Names whose folders are nested, and every byte a name may have. */
    char name[RETRY_TOPIC_LEN_MAX + 1] = {0};
    struct queue *q;

    for (size_t len = 70; len <= RETRY_TOPIC_LEN_MAX; len += 37) {
        memset(name, 'x', len);
        put(get(name, 2), 1500);
        memset(name, '%', len / 4);
        put(get(name, 1), 1500);
    }
    put(get("%RETRY%a|b", 0), 1500);
    put(get("..", 0), 1500);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(reopen().unlink_count, 0);
    q = queues_find(qs, SLICE_LIT(".."), 0);
    ck_assert_ptr_nonnull(q);
    ck_assert_uint_eq(q->visible, 1500);
    check_all(qs);
}
END_TEST

START_TEST(a_section_cut_anywhere_is_refused)
{
    /* Every prefix of a valid section, and one byte too many. */
    put(get("a", 0), 3);
    put(get("bb", 5), 2000);
    ck_assert_int_eq(checkpoint(), 0);
    for (size_t len = 0; len <= section.len + 1; len++) {
        uint8_t *copy = mem_alloc(len);
        struct queues *set = new_set(disk);
        int rc;

        ck_assert_ptr_nonnull(copy);
        memset(copy, 0, len);
        memcpy(copy, section.ptr, len < section.len ? len : section.len);
        rc = queues_decode(set, slice_of(copy, len), NULL);
        ck_assert_int_eq(rc, len == section.len ? 0 : ESCROW_ECORRUPT);
        queues_free(&set);
        mem_free(copy);
    }
}
END_TEST

START_TEST(a_section_with_any_bit_wrong_does_no_harm)
{
    /* It is refused, or taken and sound; never a crash, never memory beyond its own size. */
    put(get("a", 0), 3);
    put(get("a", 1), 1);
    ck_assert_int_eq(checkpoint(), 0);
    for (size_t bit = 0; bit < section.len * 8; bit++) {
        struct queues *set = new_set(disk);
        int rc;

        section.ptr[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        rc = queues_decode(set, buf_slice(&section), NULL);
        section.ptr[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert(rc == 0 || rc == ESCROW_ECORRUPT);
        queues_check(set);
        queues_free(&set);
    }
}
END_TEST

START_TEST(a_queue_named_twice_is_refused)
{
    /* Two rows for one queue contradict each other. */
    struct buf b;
    struct queues *set = new_set(disk);

    put(get("a", 0), 3);
    ck_assert_int_eq(checkpoint(), 0);
    buf_init(&b, 0);
    buf_append_le32(&b, 2);
    buf_append(&b, section.ptr + 4, section.len - 4);
    buf_append(&b, section.ptr + 4, section.len - 4);
    ck_assert_int_eq(queues_decode(set, buf_slice(&b), NULL), ESCROW_ECORRUPT);
    queues_free(&set);
    buf_fini(&b);
}
END_TEST

START_TEST(a_start_after_any_failing_operation_finds_the_last_checkpoint)
{
    /* As above, but the process stops at the failure: the folder and the old section must fit. */
    uint64_t n = 0;
    bool fired = true;

    for (n = 1; fired; n++) {
        teardown();
        setup();
        queue_begin_at(get("topic", 0), FILE_ENTRIES - 1600);
        put(get("topic", 0), 1500);
        put(get("topic", 1), 2);
        ck_assert_int_eq(checkpoint(), 0);
        put(get("topic", 0), 2000);
        put(get("topic", 1), 2000);
        put(get("other", 0), 2000);
        sim_disk_fault_at(disk, n, SIM_FAULT_DEAD);
        (void)checkpoint();
        fired = sim_disk_fault_fired(disk);
        sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
        if (fired) {
            (void)reopen();
            ck_assert_uint_eq(get("topic", 0)->visible, FILE_ENTRIES - 100);
            ck_assert_uint_eq(get("topic", 1)->visible, 2);
            ck_assert_ptr_null(queues_find(qs, SLICE_LIT("other"), 0));
            put(get("topic", 0), 2000);
            check_all(qs);
        }
    }
    ck_assert_uint_gt(n, 15);
}
END_TEST

START_TEST(every_failing_operation_of_a_start_is_reported)
{
    /* verify and cut with the n-th operation failing: an error, and then a start that works. */
    bool fired = true;

    queue_begin_at(get("topic", 0), FILE_ENTRIES - 100);
    put(get("topic", 0), 1600);
    put(get("topic", 1), 2);
    ck_assert_int_eq(checkpoint(), 0);
    put(get("topic", 0), 2000);
    put(get("zz", 0), 2000);
    for (uint64_t n = 1; fired; n++) {
        struct queues_open_report report;
        struct err_ctx err = {0};
        struct disk *copy = sim_disk_clone(disk);
        struct queues *set = new_set(copy);
        int rc;

        sim_disk_fault_at(copy, n, SIM_FAULT_EIO);
        rc = open_set(set, buf_slice(&section), &report, &err);
        fired = sim_disk_fault_fired(copy);
        ck_assert_int_eq(rc, fired ? ESCROW_EIO : 0);
        sim_disk_fault_at(copy, 0, SIM_FAULT_EIO);
        queues_free(&set);
        set = new_set(copy);
        ck_assert_int_eq(open_set(set, buf_slice(&section), &report, &err), 0);
        check_all(set);
        queues_free(&set);
        disk_free(&copy);
    }
}
END_TEST

START_TEST(a_start_without_memory_says_so_and_the_next_one_works)
{
    /* verify with the n-th allocation refused, of those for the list of files. */
    struct queues *set = new_set(disk);
    struct queues_open_report report;
    uint64_t n = 0;
    bool fired = true;

    put(get("t", 0), 2 * FILE_ENTRIES + 5);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(queues_decode(set, buf_slice(&section), NULL), 0);
    while (fired) {
        struct err_ctx err = {0};
        int rc;
        mem_fault_at(++n);
        rc = queues_verify(set, &report, &err);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        ck_assert(!fired || strstr(err.text, "out of memory") != NULL);
    }
    ck_assert_uint_gt(n, 2);
    ck_assert_uint_eq(report.file_count, 3);
    queues_free(&set);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/queues_checkpoint");
    TCase *t = tcase_create("queues_checkpoint");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, entries_ahead_of_the_checkpoint_are_cut);
    tcase_add_test(t, a_missing_file_is_told_at_the_start_with_its_name);
    tcase_add_test(t, a_short_file_is_told_at_the_start_with_its_name);
    tcase_add_test(t, a_count_the_folder_does_not_bear_out_costs_no_time);
    tcase_add_test(t, things_of_others_are_left_alone);
    tcase_add_test(t, long_and_odd_topics_survive_a_restart);
    tcase_add_test(t, a_section_cut_anywhere_is_refused);
    tcase_add_test(t, a_section_with_any_bit_wrong_does_no_harm);
    tcase_add_test(t, a_queue_named_twice_is_refused);
    tcase_add_test(t, a_start_after_any_failing_operation_finds_the_last_checkpoint);
    tcase_add_test(t, every_failing_operation_of_a_start_is_reported);
    tcase_add_test(t, a_start_without_memory_says_so_and_the_next_one_works);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
