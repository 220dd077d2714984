#include "tests/unit/core/store/key_index_test.h"

START_TEST(the_tail_rides_in_the_checkpoint)
{
    /* Entries in no file are found after a restart, and what is replayed is not counted twice. */
    struct rand r;
    struct key_index_report report;

    rand_init(&r, 21);
    put_records(&r, 60);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_gt(ix->active->count, 0);
    put_records(&r, 5);
    report = reopen();
    ck_assert_uint_gt(report.tail_count, 0);
    ck_assert_uint_eq(report.gap_count, 0);
    ck_assert_uint_ge(key_index_end(ix), position);
    check_all();
    position = 0; /* replayed from the beginning: most of it is indexed already */
    (void)reopen();
    check_all();
}
END_TEST

START_TEST(without_a_checkpoint_everything_comes_from_the_replay)
{
    /* No files either: the first start, or derived files deleted. */
    struct rand r;
    char path[KEY_INDEX_NAME_MAX];

    rand_init(&r, 22);
    put_records(&r, 100);
    ck_assert_int_eq(flush(), 0);
    for (uint32_t i = 0; i < ix->file_count; i++) {
        key_index_path(path, ix->files[i]->meta.begin, ix->files[i]->meta.end);
        ck_assert(sim_disk_remove(disk, path));
    }
    ck_assert_uint_eq(reopen().gap_count, 0);
    ck_assert_uint_gt(model_count, 0);
    check_all();
}
END_TEST

START_TEST(files_may_be_ahead_of_the_checkpoint)
{
    /* H10: flushed after it. They are right, and replay adds only what is behind them. */
    struct rand r;

    rand_init(&r, 23);
    put_records(&r, 60);
    ck_assert_int_eq(checkpoint(), 0);
    put_records(&r, 200);
    ck_assert_int_eq(flush(), 0);
    put_records(&r, 3);
    ck_assert_uint_eq(reopen().tail_count, 0);
    ck_assert_uint_gt(key_index_end(ix), position);
    check_all();
    ck_assert_uint_eq(reopen().gap_count, 0);
    check_all();
}
END_TEST

START_TEST(an_index_without_keys_has_no_gaps)
{
    /* Records without keys: nothing to index is not the same as not indexed. */
    log_end = 100000;
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(section.len, 24);
    ck_assert_uint_eq(reopen().gap_count, 0);
    ck_assert_uint_eq(key_index_end(ix), 100000);
    log_end = 200000;
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(reopen().gap_count, 0);
}
END_TEST

START_TEST(a_section_that_does_not_fit_the_files_leaves_a_gap)
{
    /* An old checkpoint put back, or files of another folder: reported, not trusted. */
    struct rand r;
    struct key_index_report report;
    struct buf b;

    rand_init(&r, 24);
    put_records(&r, 60);
    ck_assert_int_eq(checkpoint(), 0);
    key_index_free(&ix);
    buf_init(&b, 0);
    buf_append_le64(&b, 1); /* begins inside the files, ends behind them */
    buf_append_le64(&b, log_end + 1000);
    buf_append_le32(&b, 1);
    buf_append_le32(&b, 0);
    buf_append_le64(&b, 1);
    buf_append_le64(&b, 2);
    buf_append_le64(&b, 3);
    ix = open_index(disk, &small_options, buf_slice(&b), &report);
    ck_assert_uint_eq(report.tail_count, 0);
    ck_assert_uint_eq(report.gap_count, 1);
    ck_assert_uint_eq(key_index_end(ix), log_end + 1000);
    buf_fini(&b);
}
END_TEST

START_TEST(a_section_cut_anywhere_is_refused)
{
    /* Every prefix but the empty one, which means that there was none. */
    struct rand r;
    struct key_index_options options = small_options;

    rand_init(&r, 25);
    put_records(&r, 10);
    ck_assert_int_eq(checkpoint(), 0);
    options.disk = disk;
    for (size_t len = 1; len <= section.len; len++) {
        struct key_index_report report;
        struct key_index *other = NULL;
        int rc = key_index_open(&other, &options, slice_of(section.ptr, len), &report, NULL);

        ck_assert_int_eq(rc, len == section.len ? 0 : ESCROW_ECORRUPT);
        key_index_free(&other);
    }
}
END_TEST

START_TEST(a_section_with_any_bit_wrong_does_no_harm)
{
    /* Refused, or taken and sound. */
    struct rand r;
    struct key_index_options options = small_options;

    rand_init(&r, 26);
    put_records(&r, 10);
    ck_assert_int_eq(checkpoint(), 0);
    options.disk = disk;
    for (size_t bit = 0; bit < section.len * 8; bit++) {
        struct key_index_report report;
        struct key_index *other = NULL;
        int rc;

        section.ptr[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        rc = key_index_open(&other, &options, buf_slice(&section), &report, NULL);
        section.ptr[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (rc == 0) {
            key_index_check(other);
        } else if (rc != ESCROW_ECORRUPT) {
            ck_abort_msg("bit %zu: %d", bit, rc);
        }
        key_index_free(&other);
    }
}
END_TEST

/* Buffers to write, files to merge, garbage to unlink. */
static void prepare(uint64_t seed)
{
    struct rand r;

    rand_init(&r, seed);
    for (int i = 0; i < 6; i++) {
        put_records(&r, 10);
        ck_assert_int_eq(checkpoint(), 0);
    }
    put_records(&r, 30);
}

START_TEST(every_failing_disk_operation_leaves_the_index_whole)
{
    /* The n-th operation of a flush fails, for every n: all found, and the next flush succeeds. */
    bool fired = true;
    uint64_t n;

    for (n = 1; fired; n++) {
        int rc;

        restart_fixture();
        prepare(31);
        sim_disk_fault_at(disk, n, n % 2 == 0 ? SIM_FAULT_SHORT : SIM_FAULT_EIO);
        rc = checkpoint();
        fired = sim_disk_fault_fired(disk);
        sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
        ck_assert(rc == 0 || fired); /* clean-up that fails is no error */
        check_all();
        ck_assert_int_eq(checkpoint(), 0);
        check_all();
        flush_all();
        ck_assert_uint_eq(reopen().gap_count, 0);
        check_all();
    }
    ck_assert_uint_gt(n, 20);
}
END_TEST

START_TEST(a_full_disk_stops_flushes_and_not_merges_for_ever)
{
    /* H8: a flush without space is tried again; a merge without space costs nothing but time. */
    bool fired = true;
    uint64_t n;

    for (n = 1; fired; n++) {
        int rc;

        restart_fixture();
        prepare(32);
        sim_disk_fault_at(disk, n, SIM_FAULT_ENOSPC);
        rc = checkpoint();
        fired = sim_disk_fault_fired(disk);
        sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
        ck_assert(rc == 0 || rc == ESCROW_ENOSPC);
        check_all();
        ck_assert_int_eq(checkpoint(), 0);
        check_all();
    }
    ck_assert_uint_gt(n, 20);
}
END_TEST

struct cuts {
    const struct buf *section;
    uint64_t position;
    uint64_t count;
};

/* A power cut here, in every way: the start finds everything, with the replay. */
static void check_cut(struct disk *d, struct slice bytes, uint64_t from)
{
    struct key_index *live = ix;
    uint64_t saved = position;

    position = from;
    key_step = 5;
    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        struct disk *after = sim_disk_crash(d, (enum sim_crash)how, 5);
        struct key_index_report report;

        ix = open_index(after, &small_options, bytes, &report);
        if (report.dropped_count != 0 || report.gap_count != 0) {
            ck_abort_msg("%s: %s", sim_crash_name((enum sim_crash)how), report.dropped);
        }
        replay();
        check_all();
        key_index_free(&ix);
        disk_free(&after);
    }
    ix = live;
    position = saved;
    key_step = 1;
}

static void cut_here(void *arg, const struct sim_op *op)
{
    struct cuts *cuts = arg;

    (void)op;
    cuts->count++;
    check_cut(disk, buf_slice(cuts->section), cuts->position);
}

START_TEST(power_may_fail_at_any_moment_of_a_flush)
{
    /* H9, I1: new files, a merge, unlinked inputs; against the checkpoint before. */
    struct buf old;
    struct cuts cuts = {.section = &old};

    prepare(33);
    buf_init(&old, 0);
    buf_append_slice(&old, buf_slice(&section));
    cuts.position = position;
    sim_disk_set_hook(disk, cut_here, &cuts);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(flush(), 0);
    flush_all();
    sim_disk_set_hook(disk, NULL, NULL);
    ck_assert_uint_gt(cuts.count, 20);
    check_cut(disk, buf_slice(&section), position);
    buf_fini(&old);
}
END_TEST

START_TEST(every_failing_operation_of_a_start_is_reported)
{
    /* Reading the folder and the headers: an error, no leak, and then a start that works. */
    struct key_index_options options = small_options;
    struct key_index_report report;
    struct key_index *other = NULL;
    bool fired = true;
    int fault = 1;
    int64_t live;

    prepare(34);
    options.disk = disk;
    live = mem_live_count();
    for (uint64_t n = 1; fired; n++) {
        struct err_ctx err = {0};
        int rc;

        sim_disk_read_fault_at(disk, n);
        rc = key_index_open(&other, &options, buf_slice(&section), &report, &err);
        fired = sim_disk_fault_fired(disk);
        sim_disk_read_fault_at(disk, 0);
        ck_assert_int_eq(rc, fired ? ESCROW_EIO : 0);
        ck_assert(!fired || err.text[0] != '\0');
        key_index_free(&other);
        ck_assert_int_eq(mem_live_count(), live);
    }
    for (uint64_t n = 1; fault; n++) {
        struct err_ctx err = {0};
        int rc;

        mem_fault_at(n);
        rc = key_index_open(&other, &options, buf_slice(&section), &report, &err);
        fault = mem_fault_fired();
        mem_fault_at(0);
        ck_assert_int_eq(rc, fault ? ESCROW_ENOMEM : 0);
        ck_assert(!fault || err.text[0] != '\0');
        key_index_free(&other);
        ck_assert_int_eq(mem_live_count(), live);
    }
}
END_TEST

START_TEST(every_failing_allocation_of_a_flush_is_an_error_and_no_loss)
{
    /* Also of a merge, which then is only put off. */
    int fired = 1;
    uint64_t n;

    for (n = 1; fired; n++) {
        int rc;

        restart_fixture();
        prepare(35);
        mem_fault_at(n);
        rc = checkpoint();
        fired = mem_fault_fired();
        mem_fault_at(0);
        ck_assert(rc == 0 || (fired && rc == ESCROW_ENOMEM));
        check_all();
        ck_assert_int_eq(checkpoint(), 0);
        check_all();
    }
    ck_assert_uint_gt(n, 20);
}
END_TEST

START_TEST(a_flush_that_never_ran_gives_everything_back)
{
    /* The store gave up between take and run. */
    struct key_index_flush *flush_job = NULL;
    uint32_t before;

    prepare(36);
    before = ix->sealed_count;
    ck_assert_uint_gt(before, 0);
    ck_assert_int_eq(key_index_flush_take(ix, &flush_job), 0);
    ck_assert(!key_index_flush_is_due(ix));
    key_index_flush_done(&flush_job, ESCROW_ENOMEM);
    ck_assert_uint_eq(ix->sealed_count, before);
    check_all();
    flush_all();
    ck_assert_uint_eq(file_count(), ix->file_count);
    check_all();
}
END_TEST

START_TEST(puts_and_look_ups_go_on_during_a_flush)
{
    /* Between take and done, and between run and done. */
    struct key_index_flush *flush_job = NULL;
    struct rand r;

    prepare(37);
    rand_init(&r, 38);
    ck_assert_int_eq(key_index_flush_take(ix, &flush_job), 0);
    put_records(&r, 30);
    check_all();
    ck_assert_int_eq(key_index_flush_run(flush_job, NULL), 0);
    put_records(&r, 30);
    check_all();
    key_index_flush_done(&flush_job, 0);
    ck_assert(key_index_flush_is_due(ix));
    check_all();
    flush_all();
    check_all();
}
END_TEST

static void random_step(struct rand *r)
{
    uint64_t what = rand_below(r, 20);

    if (ix->sealed_count > KEY_INDEX_SEALED_MAX / 2) {
        ck_assert_int_eq(flush(), 0); /* the store does so all the time */
    }
    if (what < 12) {
        put_records(r, (uint32_t)rand_below(r, 40));
    } else if (what < 15) {
        ck_assert_int_eq(checkpoint(), 0);
    } else if (what == 15) {
        ck_assert_int_eq(flush(), 0);
    } else if (what == 16) {
        sim_disk_fault_at(disk, 1 + rand_below(r, 30), SIM_FAULT_SHORT);
        (void)checkpoint();
        sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
    } else if (what == 17) {
        log_min += rand_below(r, (log_end - log_min) / 4 + 1);
        key_index_trim(ix, log_min);
    } else if (what == 18) {
        ck_assert_uint_eq(reopen().dropped_count, 0);
    } else {
        check_all();
    }
}

START_TEST(any_run_with_faults_and_restarts_finds_every_key)
{
    /* Random puts, flushes that fail, retention, restarts; against the plain list. */
    key_step = 7;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct rand r;
        uint64_t begin;
        uint64_t end;

        restart_fixture();
        rand_init(&r, seed);
        for (int step = 0; step < 80; step++) {
            random_step(&r);
        }
        check_all();
        ck_assert(!key_index_gap(ix, 0, &begin, &end));
    }
    key_step = 1;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/key_index_flush");
    TCase *t = tcase_create("key_index_flush");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_tail_rides_in_the_checkpoint);
    tcase_add_test(t, without_a_checkpoint_everything_comes_from_the_replay);
    tcase_add_test(t, files_may_be_ahead_of_the_checkpoint);
    tcase_add_test(t, an_index_without_keys_has_no_gaps);
    tcase_add_test(t, a_section_that_does_not_fit_the_files_leaves_a_gap);
    tcase_add_test(t, a_section_cut_anywhere_is_refused);
    tcase_add_test(t, a_section_with_any_bit_wrong_does_no_harm);
    tcase_add_test(t, every_failing_disk_operation_leaves_the_index_whole);
    tcase_add_test(t, a_full_disk_stops_flushes_and_not_merges_for_ever);
    tcase_add_test(t, power_may_fail_at_any_moment_of_a_flush);
    tcase_add_test(t, every_failing_operation_of_a_start_is_reported);
    tcase_add_test(t, every_failing_allocation_of_a_flush_is_an_error_and_no_loss);
    tcase_add_test(t, a_flush_that_never_ran_gives_everything_back);
    tcase_add_test(t, puts_and_look_ups_go_on_during_a_flush);
    tcase_add_test(t, any_run_with_faults_and_restarts_finds_every_key);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
