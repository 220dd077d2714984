#include "core/store/segment.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/lib/sim_disk.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define SIZE UINT64_C(65536)

static struct disk *disk;
static struct segments segs;

static void setup(void)
{
    disk = sim_disk_new();
    ck_assert_int_eq(disk_mkdir(disk, "log", NULL), 0);
    segments_init(&segs, disk, SIZE);
}

static void teardown(void)
{
    segments_fini(&segs);
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

static void create(uint64_t first)
{
    struct disk_file *f;

    ck_assert_int_eq(segment_create(disk, first, SIZE, &f, NULL), 0);
    disk_close(&f);
}

START_TEST(a_segment_appears_whole_or_not_at_all)
{
    /*
     * A crash at any operation of its creation, of any kind: no file of that name, or one of full
     * size that reads as zeros.
     */
    for (uint64_t n = 1;; n++) {
        struct disk *d = sim_disk_new();
        struct disk_file *f = NULL;
        bool fired;

        ck_assert_int_eq(disk_mkdir(d, "log", NULL), 0);
        ck_assert_int_eq(disk_sync_dir(d, "", NULL), 0);
        sim_disk_fault_at(d, n, SIM_FAULT_DEAD);
        if (segment_create(d, SIZE, SIZE, &f, NULL) == 0) {
            disk_close(&f);
        }
        fired = sim_disk_fault_fired(d);
        for (int how = 0; how < SIM_CRASH_COUNT; how++) {
            struct disk *after = sim_disk_crash(d, (enum sim_crash)how, n);
            uint64_t size;
            if (sim_disk_file_size(after, "log/00000000000000065536", &size)) {
                ck_assert_uint_eq(size, SIZE);
            } else {
                ck_assert(fired);
            }
            disk_free(&after);
        }
        disk_free(&d);
        if (!fired) {
            break;
        }
    }
}
END_TEST

START_TEST(errors_of_a_new_segment_name_a_file_that_exists)
{
    /* It was made under another name. */
    struct disk *d = sim_disk_new();
    struct disk_file *f = NULL;
    struct err_ctx err = {.code = 0};

    ck_assert_int_eq(disk_mkdir(d, "log", NULL), 0);
    ck_assert_int_eq(segment_create(d, SIZE, SIZE, &f, NULL), 0);
    sim_disk_fault_at(d, 1, SIM_FAULT_EIO);
    ck_assert_int_eq(disk_sync(f, &err), ESCROW_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "log/00000000000000065536: "));
    disk_close(&f);
    disk_free(&d);
}
END_TEST

START_TEST(a_full_disk_leaves_nothing_behind)
{
    /* ESCROW_ENOSPC, and the temporary file is gone. */
    struct disk_file *f = NULL;
    uint64_t size;

    sim_disk_set_capacity(disk, SIZE - 1);
    ck_assert_int_eq(segment_create(disk, 0, SIZE, &f, NULL), ESCROW_ENOSPC);
    ck_assert_ptr_null(f);
    ck_assert(!sim_disk_file_size(disk, "log/00000000000000000000.tmp", &size));
    ck_assert_uint_eq(sim_disk_used(disk), 0);
}
END_TEST

START_TEST(the_folder_is_a_row_without_gaps)
{
    /* Any first offset; leftovers of a crash are passed over, and removed when asked. */
    struct disk_file *f;
    uint64_t count = 1;
    uint64_t size;

    create(3 * SIZE);
    create(4 * SIZE);
    create(5 * SIZE);
    ck_assert_int_eq(
        disk_open(disk, "log/00000000000000393216.tmp", DISK_WRITE | DISK_CREATE, &f, NULL), 0);
    disk_close(&f);
    ck_assert_int_eq(segments_load(&segs, 0, NULL), 0);
    ck_assert_uint_eq(segs.count, 3);
    ck_assert_uint_eq(segs.first, 3 * SIZE);
    ck_assert_uint_eq(segs.allocated, 6 * SIZE);
    ck_assert_int_eq(segments_remove_leftovers(&segs, &count, NULL), 0);
    ck_assert_uint_eq(count, 0);
    ck_assert(!sim_disk_file_size(disk, "log/00000000000000393216.tmp", &size));
    segments_check(&segs);
}
END_TEST

START_TEST(names_that_are_no_segments_are_refused)
{
    /* Too short, not a number, not a multiple, out of range. */
    static const char *const names[] = {"log/1", "log/0000000000000000000x",
                                        "log/00000000000000000001", "log/99999999999999999999"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct err_ctx err;
        struct disk_file *f;
        ck_assert_int_eq(disk_open(disk, names[i], DISK_WRITE | DISK_CREATE, &f, NULL), 0);
        disk_close(&f);
        ck_assert_int_eq(segments_load(&segs, 0, &err), ESCROW_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(err.text, names[i]));
        ck_assert(sim_disk_remove(disk, names[i]));
    }
}
END_TEST

START_TEST(read_handles_are_bounded)
{
    /* More segments than may be open: the one used longest ago is closed, pinned ones stay. */
    uint64_t count = SEGMENTS_OPEN_MAX + 20;
    struct disk_file *f;

    for (uint64_t i = 0; i < count; i++) {
        create(i * SIZE);
    }
    ck_assert_int_eq(segments_load(&segs, 0, NULL), 0);
    ck_assert_int_eq(segments_open(&segs, 0, false, &f, NULL), 0);
    segments_pin(&segs, 0);
    for (uint64_t i = 1; i < count; i++) {
        ck_assert_int_eq(segments_open(&segs, i * SIZE, false, &f, NULL), 0);
        ck_assert_uint_le(segs.open_count, SEGMENTS_OPEN_MAX);
    }
    ck_assert_ptr_nonnull(segments_file(&segs, 0));
    ck_assert_ptr_null(segments_file(&segs, SIZE));
    ck_assert_ptr_nonnull(segments_file(&segs, (count - 1) * SIZE));
    segments_check(&segs);
    segments_unpin(&segs, 0);
}
END_TEST

START_TEST(writable_handles_stay_until_they_are_retired)
{
    /*
     * What the log writes is not closed by readers; behind the durable end it counts like any
     * other.
     */
    struct disk_file *f;

    create(0);
    create(SIZE);
    create(2 * SIZE);
    ck_assert_int_eq(segments_load(&segs, 0, NULL), 0);
    for (uint64_t i = 0; i < 3; i++) {
        ck_assert_int_eq(segments_open(&segs, i * SIZE, true, &f, NULL), 0);
    }
    segments_retire(&segs, SIZE + 100);
    ck_assert(!segs.list[0].is_writable);
    ck_assert(segs.list[1].is_writable);
    ck_assert(segs.list[2].is_writable);
    segments_retire(&segs, 3 * SIZE);
    ck_assert(!segs.list[2].is_writable);
    segments_check(&segs);
}
END_TEST

START_TEST(an_adopted_handle_is_kept_or_closed)
{
    /* A job opened a segment that somebody else opened meanwhile. */
    struct disk_file *a;
    struct disk_file *b;

    create(0);
    ck_assert_int_eq(segments_load(&segs, 0, NULL), 0);
    ck_assert_int_eq(disk_open(disk, "log/00000000000000000000", DISK_READ, &a, NULL), 0);
    ck_assert_int_eq(disk_open(disk, "log/00000000000000000000", DISK_READ, &b, NULL), 0);
    segments_adopt(&segs, 5, &a);
    ck_assert_ptr_null(a);
    segments_adopt(&segs, 5, &b);
    ck_assert_ptr_null(b);
    ck_assert_uint_eq(segs.open_count, 1);
}
END_TEST

START_TEST(an_offset_outside_the_log_is_a_bug)
{
    /* Callers ask only for what is allocated. */
    (void)segments_file(&segs, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core/store/segment");
    TCase *tc = tcase_create("segment");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_segment_appears_whole_or_not_at_all);
    tcase_add_test(tc, errors_of_a_new_segment_name_a_file_that_exists);
    tcase_add_test(tc, a_full_disk_leaves_nothing_behind);
    tcase_add_test(tc, the_folder_is_a_row_without_gaps);
    tcase_add_test(tc, names_that_are_no_segments_are_refused);
    tcase_add_test(tc, read_handles_are_bounded);
    tcase_add_test(tc, writable_handles_stay_until_they_are_retired);
    tcase_add_test(tc, an_adopted_handle_is_kept_or_closed);
    tcase_add_test_raise_signal(tc, an_offset_outside_the_log_is_a_bug, SIGABRT);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
