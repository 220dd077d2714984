/*
 * The simulated disk itself: what survives a power cut is what the calls promised, and what might
 * survive does now and then.
 */
#include "tests/lib/sim_disk.h"

#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

static struct disk *disk;

static void setup(void)
{
    disk = sim_disk_new();
}

static void teardown(void)
{
    disk_free(&disk);
}

static void put(const char *path, uint64_t offset, const char *text, bool sync)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct disk_file *f;

    ck_assert_int_eq(disk_open(disk, path, DISK_WRITE | DISK_CREATE, &f, NULL), 0);
    ck_assert_int_eq(disk_pwritev(f, &iov, 1, offset, NULL), 0);
    if (sync) {
        ck_assert_int_eq(disk_sync(f, NULL), 0);
    }
    disk_close(&f);
}

static bool holds(const struct disk *d, const char *path, const char *text)
{
    char got[64];

    return strlen(text) <= sizeof got && sim_disk_peek(d, path, 0, got, strlen(text)) &&
           memcmp(got, text, strlen(text)) == 0;
}

START_TEST(only_what_was_synced_is_sure)
{
    /* Content needs disk_sync, the name needs disk_sync_dir. */
    struct disk *after;
    uint64_t size;

    put("a", 0, "synced", true);
    put("b", 0, "synced", true);
    ck_assert_int_eq(disk_sync_dir(disk, "", NULL), 0);
    put("a", 0, "hidden", false);
    put("c", 0, "nameless", true);
    ck_assert(sim_disk_has_pending(disk));
    after = sim_disk_crash(disk, SIM_DROP_UNSYNCED, 1);
    ck_assert(holds(after, "a", "synced"));
    ck_assert(holds(after, "b", "synced"));
    ck_assert(!sim_disk_file_size(after, "c", &size));
    disk_free(&after);
    after = sim_disk_crash(disk, SIM_KEEP_ALL, 1);
    ck_assert(holds(after, "a", "hidden"));
    ck_assert(holds(after, "c", "nameless"));
    ck_assert(sim_disk_equal(after, disk));
    disk_free(&after);
}
END_TEST

START_TEST(a_rename_is_atomic_and_pending_until_the_folder_is_synced)
{
    /* Old or new content under the name, never neither. */
    bool old = false;
    bool new = false;

    put("x", 0, "old", true);
    ck_assert_int_eq(disk_sync_dir(disk, "", NULL), 0);
    put("x.tmp", 0, "new", true);
    ck_assert_int_eq(disk_rename(disk, "x.tmp", "x", NULL), 0);
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct disk *after = sim_disk_crash(disk, SIM_KEEP_SOME, seed);
        old = old || holds(after, "x", "old");
        new = new || holds(after, "x", "new");
        ck_assert(holds(after, "x", "old") || holds(after, "x", "new"));
        disk_free(&after);
    }
    ck_assert(old);
    ck_assert(new);
}
END_TEST

START_TEST(size_and_data_survive_apart)
{
    /* A file system may have the size and not the data: zeros. */
    bool zeros = false;
    bool data = false;
    bool empty = false;

    put("x", 0, "", true);
    ck_assert_int_eq(disk_sync_dir(disk, "", NULL), 0);
    put("x", 0, "data", false);
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct disk *after = sim_disk_crash(disk, SIM_KEEP_SOME, seed);
        uint64_t size = 0;
        ck_assert(sim_disk_file_size(after, "x", &size));
        empty = empty || size == 0;
        data = data || (size == 4 && holds(after, "x", "data"));
        zeros = zeros || (size == 4 && !holds(after, "x", "data"));
        disk_free(&after);
    }
    ck_assert(zeros);
    ck_assert(data);
    ck_assert(empty);
}
END_TEST

START_TEST(a_write_is_torn_at_sectors)
{
    /* Some of 16 sectors of 512 bytes, each whole or not at all; pages of 4096 likewise. */
    static char big[8193];
    static const enum sim_crash kinds[] = {SIM_TEAR_512, SIM_TEAR_4096};

    memset(big, 'x', sizeof big - 1);
    put("x", 0, "", true);
    struct disk_file *f;
    ck_assert_int_eq(disk_open(disk, "x", DISK_WRITE, &f, NULL), 0);
    ck_assert_int_eq(disk_allocate(f, 8192, NULL), 0);
    ck_assert_int_eq(disk_sync(f, NULL), 0);
    disk_close(&f);
    ck_assert_int_eq(disk_sync_dir(disk, "", NULL), 0);
    put("x", 0, big, false);
    for (size_t k = 0; k < 2; k++) {
        size_t unit = kinds[k] == SIM_TEAR_512 ? 512 : 4096;
        bool mixed = false;
        for (uint64_t seed = 0; seed < 20; seed++) {
            struct disk *after = sim_disk_crash(disk, kinds[k], seed);
            static char got[8192];
            size_t kept = 0;
            ck_assert(sim_disk_peek(after, "x", 0, got, sizeof got));
            for (size_t at = 0; at < sizeof got; at += unit) {
                ck_assert(got[at] == 'x' || got[at] == 0);
                for (size_t i = 0; i < unit; i++) {
                    ck_assert_int_eq(got[at + i], got[at]);
                }
                kept += got[at] == 'x';
            }
            mixed = mixed || (kept > 0 && kept < sizeof got / unit);
            disk_free(&after);
        }
        ck_assert(mixed);
    }
}
END_TEST

START_TEST(later_writes_may_survive_without_earlier_ones)
{
    /* Within a file and over two files. */
    bool seen = false;

    put("a", 0, "1", true);
    put("b", 0, "1", true);
    ck_assert_int_eq(disk_sync_dir(disk, "", NULL), 0);
    put("a", 0, "2", false);
    put("b", 0, "2", false);
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct disk *after = sim_disk_crash(disk, SIM_REORDER, seed);
        seen = seen || (holds(after, "a", "1") && holds(after, "b", "2"));
        disk_free(&after);
    }
    ck_assert(seen);
}
END_TEST

START_TEST(a_failed_sync_loses_what_was_pending)
{
    /* The next sync succeeds and the data is still not there: why a sync must never be retried. */
    struct disk_file *f;
    struct disk *after;

    put("x", 0, "old", true);
    ck_assert_int_eq(disk_sync_dir(disk, "", NULL), 0);
    put("x", 0, "new", false);
    ck_assert_int_eq(disk_open(disk, "x", DISK_WRITE, &f, NULL), 0);
    sim_disk_fault_at(disk, 1, SIM_FAULT_EIO);
    ck_assert_int_eq(disk_sync(f, NULL), ESCROW_EIO);
    ck_assert_int_eq(disk_sync(f, NULL), 0);
    disk_close(&f);
    ck_assert(holds(disk, "x", "new"));
    after = sim_disk_crash(disk, SIM_KEEP_ALL, 1);
    ck_assert(holds(after, "x", "old"));
    disk_free(&after);
}
END_TEST

START_TEST(a_folder_that_was_not_synced_takes_its_files_along)
{
    /* Files synced in a folder whose own name was not. */
    struct disk *after;
    uint64_t size;

    ck_assert_int_eq(disk_mkdir(disk, "d", NULL), 0);
    put("d/x", 0, "text", true);
    ck_assert_int_eq(disk_sync_dir(disk, "d", NULL), 0);
    after = sim_disk_crash(disk, SIM_DROP_UNSYNCED, 1);
    ck_assert(!sim_disk_file_size(after, "d/x", &size));
    disk_free(&after);
    ck_assert_int_eq(disk_sync_dir(disk, "", NULL), 0);
    after = sim_disk_crash(disk, SIM_DROP_UNSYNCED, 1);
    ck_assert(holds(after, "d/x", "text"));
    disk_free(&after);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_disk)
{
    /* And a clone keeps what is pending. */
    struct disk *a;
    struct disk *b;
    struct disk *clone;

    put("x", 0, "synced", true);
    put("y", 0, "pending", false);
    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        a = sim_disk_crash(disk, (enum sim_crash)how, 7);
        clone = sim_disk_clone(disk);
        b = sim_disk_crash(clone, (enum sim_crash)how, 7);
        ck_assert(sim_disk_equal(clone, disk));
        ck_assert(sim_disk_equal(a, b));
        disk_free(&a);
        disk_free(&b);
        disk_free(&clone);
    }
}
END_TEST

START_TEST(faults_and_limits_fire_where_they_are_set)
{
    /* ENOSPC by capacity and by fault, half a write, a dead disk, a read-only disk. */
    char text[] = "12345678";
    struct iovec iov = {.iov_base = text, .iov_len = 8};
    struct disk_file *f;
    uint64_t size = 0;
    char got[8];
    size_t len;

    ck_assert_int_eq(disk_open(disk, "x", DISK_WRITE | DISK_CREATE, &f, NULL), 0);
    sim_disk_set_capacity(disk, 4);
    ck_assert_int_eq(disk_pwritev(f, &iov, 1, 0, NULL), ESCROW_ENOSPC);
    sim_disk_set_capacity(disk, UINT64_MAX);
    sim_disk_fault_at(disk, 1, SIM_FAULT_SHORT);
    ck_assert_int_eq(disk_pwritev(f, &iov, 1, 0, NULL), ESCROW_EIO);
    ck_assert(sim_disk_fault_fired(disk));
    ck_assert(sim_disk_file_size(disk, "x", &size));
    ck_assert_uint_eq(size, 4);
    sim_disk_read_fault_at(disk, 2);
    ck_assert_int_eq(disk_pread(f, got, 4, 0, &len, NULL), 0);
    ck_assert_int_eq(disk_pread(f, got, 4, 0, &len, NULL), ESCROW_EIO);
    sim_disk_set_read_only(disk, true);
    ck_assert_int_eq(disk_pwritev(f, &iov, 1, 0, NULL), ESCROW_EROFS);
    sim_disk_set_read_only(disk, false);
    sim_disk_fault_at(disk, 1, SIM_FAULT_DEAD);
    ck_assert_int_eq(disk_sync(f, NULL), ESCROW_EIO);
    ck_assert_int_eq(disk_sync(f, NULL), ESCROW_EIO);
    disk_close(&f);
}
END_TEST

START_TEST(a_lock_has_one_holder)
{
    /* Until its handle is closed; a clone begins without. */
    struct disk_file *a;
    struct disk_file *b;

    ck_assert_int_eq(disk_open(disk, "lock", DISK_WRITE | DISK_CREATE, &a, NULL), 0);
    ck_assert_int_eq(disk_open(disk, "lock", DISK_WRITE, &b, NULL), 0);
    ck_assert_int_eq(disk_lock(a, NULL), 0);
    ck_assert_int_eq(disk_lock(a, NULL), 0);
    ck_assert_int_eq(disk_lock(b, NULL), ESCROW_ELOCKED);
    disk_close(&a);
    ck_assert_int_eq(disk_lock(b, NULL), 0);
    disk_close(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core/store/sim_disk");
    TCase *tc = tcase_create("sim_disk");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, only_what_was_synced_is_sure);
    tcase_add_test(tc, a_rename_is_atomic_and_pending_until_the_folder_is_synced);
    tcase_add_test(tc, size_and_data_survive_apart);
    tcase_add_test(tc, a_write_is_torn_at_sectors);
    tcase_add_test(tc, later_writes_may_survive_without_earlier_ones);
    tcase_add_test(tc, a_failed_sync_loses_what_was_pending);
    tcase_add_test(tc, a_folder_that_was_not_synced_takes_its_files_along);
    tcase_add_test(tc, the_same_seed_gives_the_same_disk);
    tcase_add_test(tc, faults_and_limits_fire_where_they_are_set);
    tcase_add_test(tc, a_lock_has_one_holder);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
