#include "tests/unit/core/store/queues_test.h"

START_TEST(a_flush_under_way_disturbs_neither_reading_nor_putting)
{
    /* Between take and done everything stays readable, and what comes meanwhile stays pending. */
    struct queue *q = get("t", 0);
    struct queues_flush *flush = NULL;
    struct buf b;

    buf_init(&b, 0);
    put(q, 5000);
    ck_assert_int_eq(queues_flush_take(qs, &flush), 0);
    ck_assert_int_eq(queues_encode(qs, flush, &b), 0);
    put(q, 3000);
    check_range(qs, q, 0, 8000);
    ck_assert_int_eq(queues_flush_run(flush, NULL), 0);
    check_range(qs, q, 0, 8000);
    ck_assert_uint_eq(q->flushed, 0);
    queues_flush_done(&flush, 0);
    ck_assert_uint_eq(q->flushed, 5000);
    ck_assert_uint_eq(queues_pending_count(qs), 3000);
    check_all(qs);
    buf_fini(&b);
}
END_TEST

START_TEST(slow_queues_ride_in_the_checkpoint)
{
    /* Few entries: no file, no sync; many: a file. After a restart both are there. */
    for (uint32_t id = 0; id < 100; id++) {
        put(get("slow", id), 5);
    }
    put(get("busy", 0), 100000);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 1);
    ck_assert_uint_eq(op_counts[SIM_OP_SYNC], 1);
    (void)reopen();
    ck_assert_uint_eq(queues_pending_count(qs), 500);
    for (uint32_t id = 0; id < 100; id++) {
        ck_assert_uint_eq(get("slow", id)->visible, 5);
    }
    check_all(qs);
}
END_TEST

START_TEST(quiet_queues_end_without_memory)
{
    /* Nothing put since the last checkpoint: written, a bounded number each time. */
    for (uint32_t id = 0; id < 600; id++) {
        put(get("quiet", id), 5);
    }
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 0);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), QUEUES_QUIET_FLUSH_MAX);
    put(get("quiet", 599), 1);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(queues_pending_count(qs), 0);
    for (uint32_t id = 0; id < 600; id++) {
        ck_assert_ptr_null(get("quiet", id)->chunk_head);
    }
    check_all(qs);
}
END_TEST

START_TEST(without_a_checkpoint_a_flush_writes_only_when_memory_asks_for_it)
{
    /* The index may ask for a flush often; queues then cost nothing. */
    struct queue *q = get("t", 0);
    uint64_t n = 0;

    put(q, 5000);
    ck_assert_int_eq(flush_only(), 0);
    ck_assert_uint_eq(sim_disk_op_count(disk), 0);
    ck_assert_uint_eq(queues_pending_count(qs), 5000);
    while (!queues_flush_is_due(qs)) {
        put(q, 1000);
        n++;
    }
    ck_assert_uint_ge(n, 1000);
    ck_assert_int_eq(flush_only(), 0);
    ck_assert_uint_eq(queues_pending_count(qs), 0);
    check_range(qs, q, q->visible - 3000, q->visible);
    /* No checkpoint names these files: they are removed, and the log brings the entries back. */
    ck_assert_uint_ge(reopen().unlink_count, 6);
    ck_assert_ptr_null(queues_find(qs, SLICE_LIT("t"), 0));
    ck_assert_uint_eq(file_count(), 0);
}
END_TEST

START_TEST(a_queue_may_begin_in_the_middle_of_a_file)
{
    /* Its first file has a hole; size and content fit all the same. */
    struct queue *q = get("t", 0);

    queue_begin_at(q, FILE_ENTRIES + 77);
    put(q, 5000);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 1);
    check_all(qs);
    ck_assert_uint_eq(reopen().file_count, 1);
    q = queues_find(qs, SLICE_LIT("t"), 0);
    ck_assert_uint_eq(q->min, FILE_ENTRIES + 77);
    check_all(qs);
}
END_TEST

START_TEST(files_below_min_go_after_the_checkpoint_that_says_so)
{
    /* H9, H10: a stop between raising min and the durable checkpoint must find the files. */
    struct queue *q = get("t", 0);
    struct queues_flush *flush = NULL;
    struct buf b;

    put(q, 3 * FILE_ENTRIES);
    ck_assert_int_eq(checkpoint(), 0);
    queue_set_min(q, 2 * FILE_ENTRIES + 5);
    buf_init(&b, 0);
    ck_assert_int_eq(queues_flush_take(qs, &flush), 0);
    ck_assert_int_eq(queues_encode(qs, flush, &b), 0);
    ck_assert_int_eq(queues_flush_run(flush, NULL), 0);
    ck_assert_uint_eq(file_count(), 3);
    queues_flush_done(&flush, 0); /* the checkpoint was not written */
    buf_fini(&b);
    (void)reopen();
    q = queues_find(qs, SLICE_LIT("t"), 0);
    ck_assert_uint_eq(q->min, 0);
    check_range(qs, q, 0, 10);
    queue_set_min(q, 2 * FILE_ENTRIES + 5);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 1);
    ck_assert_uint_eq(q->first_file, 2);
    check_all(qs);
    (void)reopen();
    ck_assert_uint_eq(queues_find(qs, SLICE_LIT("t"), 0)->min, 2 * FILE_ENTRIES + 5);
    check_all(qs);
}
END_TEST

START_TEST(entries_that_retention_took_before_they_were_written_are_not_written)
{
    /* min above flushed, even by files: nothing below min is needed, and what follows is right. */
    struct queue *q = get("t", 0);

    put(q, 100);
    ck_assert_int_eq(checkpoint(), 0);
    put(q, 2 * FILE_ENTRIES);
    queue_set_min(q, 2 * FILE_ENTRIES + 50);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 1);
    check_all(qs);
    queue_set_min(q, q->visible);
    put(q, 20);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(checkpoint(), 0);
    check_all(qs);
    (void)reopen();
    check_all(qs);
    ck_assert_uint_eq(queues_find(qs, SLICE_LIT("t"), 0)->visible, 2 * FILE_ENTRIES + 120);
}
END_TEST

START_TEST(every_failing_disk_operation_leaves_the_set_whole)
{
    /*
     * The n-th operation of a checkpoint fails, for every n: all readable, and the next succeeds.
     */
    uint64_t n = 0;
    bool fired = true;

    for (n = 1; fired; n++) {
        struct queues_open_report report;
        enum sim_op_kind failed;
        int rc;

        ck_assert_uint_lt(n, 500);
        teardown();
        setup();
        for (uint32_t id = 0; id < 4; id++) {
            put(get("topic", id), 1500);
            put(get("%RETRY%g", id), 2);
        }
        queue_set_min(get("topic", 2), 100);
        ck_assert_int_eq(checkpoint(), 0);
        put(get("topic", 0), 2000);
        put(get("other", 0), 2000);
        put(get("%RETRY%g", 0), 1);
        sim_disk_fault_at(disk, n, n % 2 == 0 ? SIM_FAULT_SHORT : SIM_FAULT_EIO);
        rc = checkpoint();
        fired = sim_disk_fault_fired(disk);
        failed = last_op;
        sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
        ck_assert(fired == (rc != 0));
        check_all(qs);
        ck_assert_int_eq(checkpoint(), 0);
        /* What a failed sync had to write is lost for good: there the store stops. */
        ck_assert(!fired || failed == SIM_OP_SYNC || !sim_disk_has_pending(disk));
        check_all(qs);
        report = reopen();
        ck_assert_uint_eq(report.cut_count, 0);
        ck_assert_uint_eq(get("topic", 0)->visible, 3500);
        ck_assert_uint_eq(get("other", 0)->visible, 2000);
        ck_assert_uint_eq(get("%RETRY%g", 0)->visible, 3);
        check_all(qs);
    }
    ck_assert_uint_gt(n, 15);
}
END_TEST

/* Everything that allocates, once; stops at the first error. */
static int allocate_everything(struct disk *d, struct buf *b)
{
    struct queues_options options = {.disk = d, .hash_key = {1, 2}, .files_open_max = 8};
    struct queues *set = NULL;
    struct queues *back = NULL;
    struct queues_flush *flush = NULL;
    struct queues_open_report report;
    int rc = queues_new(&set, &options);

    for (uint32_t id = 0; rc == 0 && id < 20; id += 5) {
        struct queue *q = NULL;
        rc = queues_get(set, SLICE_LIT("t"), id, &q);
        for (int i = 0; rc == 0 && i < 1200; i++) {
            uint64_t number;
            rc = queue_reserve(q, &number);
            if (rc == 0) {
                struct queue_entry entry = entry_of(q, number);
                (void)queues_put(set, q, &entry);
            }
        }
    }
    if (rc == 0) {
        rc = queues_flush_take(set, &flush);
    }
    if (rc == 0) {
        rc = queues_encode(set, flush, b);
    }
    if (rc == 0) {
        rc = queues_flush_run(flush, NULL);
    }
    queues_flush_done(&flush, rc);
    if (rc == 0) {
        rc = queues_new(&back, &options);
    }
    if (rc == 0) {
        rc = open_set(back, buf_slice(b), &report, NULL);
    }
    if (set != NULL) {
        queues_check(set);
    }
    queues_free(&set);
    queues_free(&back);
    return rc;
}

/* Power cuts at every operation of a checkpoint: the old section, or the new one at the end. */
struct cuts {
    struct slice old;
    uint64_t count;
    uint64_t topic_visible;
};

static void check_cut(const struct disk *d, struct slice bytes, uint64_t visible)
{
    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        struct disk *after = sim_disk_crash(d, (enum sim_crash)how, 7);
        struct queues *set = new_set(after);
        struct queues_open_report report;
        struct err_ctx err = {0};
        int rc = open_set(set, bytes, &report, &err);

        ck_assert_msg(rc == 0, "%s: %s", sim_crash_name((enum sim_crash)how), err.text);
        ck_assert_uint_eq(queues_find(set, SLICE_LIT("topic"), 0)->visible, visible);
        check_all(set);
        queues_free(&set);
        disk_free(&after);
    }
}

static void cut_here(void *arg, const struct sim_op *op)
{
    struct cuts *cuts = arg;

    (void)op;
    cuts->count++;
    check_cut(disk, cuts->old, cuts->topic_visible);
}

START_TEST(power_may_fail_at_any_moment_of_a_checkpoint)
{
    /* H9: files of new and old queues, across a file boundary; dropped, kept, torn, reordered. */
    struct cuts cuts = {0};
    struct buf old;

    queue_begin_at(get("topic", 0), FILE_ENTRIES - 2000);
    put(get("topic", 0), 1500);
    put(get("%RETRY%g", 0), 1500);
    put(get("slow", 3), 3);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert(!sim_disk_has_pending(disk));
    buf_init(&old, 0);
    buf_append_slice(&old, buf_slice(&section));
    cuts.old = buf_slice(&old);
    cuts.topic_visible = get("topic", 0)->visible;
    put(get("topic", 0), 3000);
    put(get("slow", 3), 1500);
    put(get("new", 0), 1500);
    sim_disk_set_hook(disk, cut_here, &cuts);
    ck_assert_int_eq(checkpoint(), 0);
    sim_disk_set_hook(disk, NULL, NULL);
    ck_assert_uint_gt(cuts.count, 20);
    check_cut(disk, buf_slice(&section), get("topic", 0)->visible);
    buf_fini(&old);
}
END_TEST

START_TEST(a_file_whose_creation_failed_half_way_is_made_durable_by_the_next_flush)
{
    /* Disk full behind the creation: the name must be synced when the flush is tried again. */
    for (uint64_t n = 1; n < 12; n++) {
        teardown();
        setup();
        queue_begin_at(get("topic", 0), 777);
        put(get("topic", 0), 1500);
        sim_disk_fault_at(disk, n, SIM_FAULT_ENOSPC);
        if (checkpoint() != 0) {
            ck_assert_int_eq(checkpoint(), 0);
        }
        sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
        check_cut(disk, buf_slice(&section), 777 + 1500);
    }
}
END_TEST

START_TEST(every_failing_allocation_is_an_error_and_no_leak)
{
    /* The n-th allocation fails, until none does: ESCROW_ENOMEM, everything freed. */
    int fired = 1;
    int n = 0;

    for (n = 1; fired; n++) {
        struct disk *d = sim_disk_new();
        int64_t live = mem_live_count();
        struct buf b;
        int rc;

        buf_init(&b, 0);
        mem_fault_at((uint64_t)n);
        rc = allocate_everything(d, &b);
        fired = mem_fault_fired();
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        buf_fini(&b);
        disk_free(&d);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_int_gt(n, 30);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/queues_flush");
    TCase *t = tcase_create("queues_flush");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_flush_under_way_disturbs_neither_reading_nor_putting);
    tcase_add_test(t, slow_queues_ride_in_the_checkpoint);
    tcase_add_test(t, quiet_queues_end_without_memory);
    tcase_add_test(t, without_a_checkpoint_a_flush_writes_only_when_memory_asks_for_it);
    tcase_add_test(t, a_queue_may_begin_in_the_middle_of_a_file);
    tcase_add_test(t, files_below_min_go_after_the_checkpoint_that_says_so);
    tcase_add_test(t, entries_that_retention_took_before_they_were_written_are_not_written);
    tcase_add_test(t, every_failing_disk_operation_leaves_the_set_whole);
    tcase_add_test(t, power_may_fail_at_any_moment_of_a_checkpoint);
    tcase_add_test(t, a_file_whose_creation_failed_half_way_is_made_durable_by_the_next_flush);
    tcase_add_test(t, every_failing_allocation_is_an_error_and_no_leak);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
