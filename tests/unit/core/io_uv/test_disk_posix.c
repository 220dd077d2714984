#include "core/io_uv/disk_posix.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/lib/temp_folder.h"
#include "tests/unit/core/base/unit_main.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((uint64_t)1024)

static char base[TEMP_FOLDER_MAX]; /* removed by teardown */
static char root[TEMP_FOLDER_MAX + 8];
static struct disk *disk;
static struct err_ctx err;

static void setup(void)
{
    ck_assert(temp_folder_make(base, "disk"));
    (void)snprintf(root, sizeof root, "%s/data", base);
    ck_assert_msg(disk_posix_new(root, &disk, &err) == 0, "%s", err.text);
}

/* Empties a folder of ours; none is deeper than a few levels. */
static int remove_entry(void *arg, const char *name, bool is_dir)
{
    const char *folder = arg;
    char path[512];

    (void)snprintf(path, sizeof path, "%s%s%s", folder, folder[0] == '\0' ? "" : "/", name);
    if (is_dir) {
        ck_assert_int_eq(disk_list(disk, path, remove_entry, path, NULL), 0);
        return disk_rmdir(disk, path, &err);
    }
    return disk_unlink(disk, path, &err);
}

static void teardown(void)
{
    char none[] = "";

    ck_assert_msg(disk_list(disk, "", remove_entry, none, NULL) == 0, "%s", err.text);
    disk_free(&disk);
    disk_free(&disk);
    ck_assert_int_eq(rmdir(root), 0);
    ck_assert_int_eq(rmdir(base), 0);
    ck_assert_int_eq(mem_live_count(), 0);
}

static struct disk_file *create(const char *path)
{
    struct disk_file *f;

    ck_assert_msg(disk_open(disk, path, DISK_WRITE | DISK_CREATE, &f, &err) == 0, "%s", err.text);
    return f;
}

static int write_at(struct disk_file *f, const void *data, size_t len, uint64_t offset)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};

    return disk_pwritev(f, &iov, 1, offset, &err);
}

START_TEST(what_is_no_regular_file_is_refused)
{
    /* A pipe without another end, which open(2) would wait for; a folder. */
    static const unsigned ways[] = {DISK_READ, DISK_WRITE, DISK_WRITE | DISK_CREATE};
    char path[TEMP_FOLDER_MAX + 16];
    struct disk_file *f = NULL;

    (void)snprintf(path, sizeof path, "%s/pipe", root);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(disk_mkdir(disk, "folder", &err), 0);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        ck_assert_int_lt(disk_open(disk, "pipe", ways[i], &f, &err), 0);
        ck_assert_int_eq(err.code, ESCROW_EIO);
        ck_assert_ptr_nonnull(strstr(err.text, "pipe: not a regular file"));
        ck_assert_int_lt(disk_open(disk, "folder", ways[i], &f, &err), 0);
    }
    ck_assert_ptr_null(f);
}
END_TEST

static bool is_zero(struct disk_file *f, uint64_t offset, size_t len)
{
    uint8_t *data = mem_alloc(len);
    bool all = true;
    size_t got;

    ck_assert_int_eq(disk_pread(f, data, len, offset, &got, &err), 0);
    ck_assert_uint_eq(got, len);
    for (size_t i = 0; i < len; i++) {
        all = all && data[i] == 0;
    }
    mem_free(data);
    return all;
}

static uint64_t size_of(struct disk_file *f)
{
    uint64_t size;

    ck_assert_int_eq(disk_size(f, &size, &err), 0);
    return size;
}

/* ---- data ---- */

START_TEST(many_pieces_are_written_as_one)
{
    /*
     * More pieces than the kernel is given at once, empty ones among them; the array is unchanged.
     */
    static uint8_t data[300][10];
    struct iovec iov[300];
    struct iovec copy[300];
    uint8_t got[3000];
    struct disk_file *f = create("a");
    size_t want = 0;
    size_t n;

    for (size_t i = 0; i < 300; i++) {
        memset(data[i], (int)i, 10);
        iov[i] = (struct iovec){.iov_base = data[i], .iov_len = i % 11};
        want += i % 11;
    }
    memcpy(copy, iov, sizeof iov);
    ck_assert_int_eq(disk_pwritev(f, iov, 300, 5000, &err), 0);
    ck_assert_mem_eq(copy, iov, sizeof iov);
    ck_assert_uint_eq(size_of(f), 5000 + want);
    ck_assert_int_eq(disk_pread(f, got, sizeof got, 5000, &n, &err), 0);
    ck_assert_uint_eq(n, want);
    for (size_t i = 0, at = 0; i < 300; at += i % 11, i++) {
        ck_assert_mem_eq(got + at, data[i], i % 11);
    }
    ck_assert(is_zero(f, 0, 5000));
    ck_assert_int_eq(disk_sync(f, &err), 0);
    disk_close(&f);
    ck_assert_ptr_null(f);
    disk_close(&f);
}
END_TEST

START_TEST(a_read_is_short_only_at_the_end)
{
    /* Within, across, at and behind the end of the file; with and without waiting. */
    static const struct {
        uint64_t offset;
        size_t len;
        size_t got;
    } reads[] = {{0, 100, 100}, {50, 10, 10}, {90, 20, 10}, {100, 5, 0}, {5000, 5, 0}, {0, 0, 0}};
    uint8_t data[100];
    uint8_t dst[200];
    struct disk_file *f = create("a");

    for (uint8_t i = 0; i < 100; i++) {
        data[i] = i;
    }
    ck_assert_int_eq(write_at(f, data, 100, 0), 0);
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        size_t got = 999;

        ck_assert_int_eq(disk_pread(f, dst, reads[i].len, reads[i].offset, &got, &err), 0);
        ck_assert_uint_eq(got, reads[i].got);
        ck_assert_mem_eq(dst, data + (reads[i].got > 0 ? reads[i].offset : 0), got);
        /* Just written: in memory, so that it need not wait (where the file system can tell). */
        if (disk_pread_nowait(f, dst, reads[i].len, reads[i].offset, &got) == 0) {
            ck_assert_uint_eq(got, reads[i].got);
        }
    }
    disk_close(&f);
}
END_TEST

START_TEST(what_is_not_in_memory_is_not_waited_for)
{
    /* After the pages were dropped a nowait read says so; a plain one brings them back. */
    static uint8_t data[256 * 1024];
    struct disk_file *f = create("a");
    char path[128];
    size_t got;
    int rc;
    int fd;

    memset(data, 'x', sizeof data);
    ck_assert_int_eq(write_at(f, data, sizeof data, 0), 0);
    ck_assert_int_eq(disk_sync(f, &err), 0);
    (void)snprintf(path, sizeof path, "%s/a", root);
    fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    ck_assert_int_eq(close(fd), 0);
    memset(data, 0, sizeof data);
    rc = disk_pread_nowait(f, data, sizeof data, 0, &got);
    ck_assert(rc == ESCROW_EAGAIN || rc == 0); /* a file system in memory never lets go */
    if (rc == 0) {
        ck_assert_uint_eq(got, sizeof data);
        ck_assert_int_eq(data[sizeof data - 1], 'x');
    }
    ck_assert_int_eq(disk_pread(f, data, sizeof data, 0, &got, &err), 0);
    ck_assert_uint_eq(got, sizeof data);
    ck_assert_int_eq(data[sizeof data - 1], 'x');
    disk_close(&f);
}
END_TEST

START_TEST(allocated_space_reads_as_zeros)
{
    /* What was there stays; allocating less than there is changes nothing; nothing is nothing. */
    struct disk_file *f = create("a");
    struct stat st;
    char path[128];

    ck_assert_int_eq(disk_allocate(f, 0, &err), 0);
    ck_assert_uint_eq(size_of(f), 0);
    ck_assert_int_eq(write_at(f, "hello", 5, 0), 0);
    ck_assert_int_eq(disk_allocate(f, 1024 * KIB, &err), 0);
    ck_assert_uint_eq(size_of(f), 1024 * KIB);
    ck_assert(is_zero(f, 5, 1024 * 1024 - 5));
    ck_assert(!is_zero(f, 0, 5));
    ck_assert_int_eq(disk_allocate(f, 10 * KIB, &err), 0);
    ck_assert_uint_eq(size_of(f), 1024 * KIB);
    (void)snprintf(path, sizeof path, "%s/a", root);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_ge(st.st_blocks * 512, 1024 * 1024);
    disk_close(&f);
}
END_TEST

START_TEST(zeroed_bytes_are_exactly_those)
{
    /* Neighbours and size stay, also for odd ranges and beyond the end; blocks stay reserved. */
    static uint8_t data[100000];
    struct disk_file *f = create("a");
    struct stat before;
    struct stat after;
    char path[128];

    (void)snprintf(path, sizeof path, "%s/a", root);
    memset(data, 'x', sizeof data);
    ck_assert_int_eq(write_at(f, data, sizeof data, 0), 0);
    ck_assert_int_eq(disk_sync(f, &err), 0);
    ck_assert_int_eq(stat(path, &before), 0);
    ck_assert_int_eq(disk_zero(f, 1001, 50000, &err), 0);
    ck_assert_int_eq(disk_zero(f, 99999, 50000, &err), 0);
    ck_assert_int_eq(disk_zero(f, 500000, 1, &err), 0);
    ck_assert_int_eq(disk_zero(f, 0, 0, &err), 0);
    ck_assert_uint_eq(size_of(f), sizeof data);
    ck_assert(is_zero(f, 1001, 50000));
    ck_assert(is_zero(f, 99999, 1));
    ck_assert(!is_zero(f, 1000, 1));
    ck_assert(!is_zero(f, 51001, 1));
    ck_assert(!is_zero(f, 99998, 1));
    ck_assert(!is_zero(f, 0, 1));
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_int_ge(after.st_blocks, before.st_blocks);
    disk_close(&f);
}
END_TEST

START_TEST(truncation_cuts_and_extends)
{
    /* Both are exact, and what comes in is zero. */
    struct disk_file *f = create("a");

    ck_assert_int_eq(write_at(f, "0123456789", 10, 0), 0);
    ck_assert_int_eq(disk_truncate(f, 4, &err), 0);
    ck_assert_uint_eq(size_of(f), 4);
    ck_assert_int_eq(disk_truncate(f, 10, &err), 0);
    ck_assert(is_zero(f, 4, 6));
    ck_assert(!is_zero(f, 0, 4));
    disk_close(&f);
}
END_TEST

/* ---- names ---- */

START_TEST(files_are_opened_as_asked)
{
    /* Missing, existing, exclusive; what is open for reading cannot be written. */
    struct disk_file *f;

    ck_assert_int_eq(disk_open(disk, "a", DISK_READ, &f, &err), ESCROW_ENOTFOUND);
    ck_assert_ptr_null(f);
    ck_assert_ptr_nonnull(strstr(err.text, root));
    ck_assert_ptr_nonnull(strstr(err.text, "/a: No such file"));
    ck_assert_int_eq(disk_open(disk, "a", DISK_WRITE, &f, &err), ESCROW_ENOTFOUND);
    ck_assert_int_eq(disk_open(disk, "a", DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &f, &err), 0);
    disk_close(&f);
    ck_assert_int_eq(disk_open(disk, "a", DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &f, &err),
                     ESCROW_EEXIST);
    ck_assert_int_eq(disk_open(disk, "a", DISK_READ, &f, &err), 0);
    ck_assert_int_eq(write_at(f, "x", 1, 12345), ESCROW_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "/a at offset 12345"));
    disk_close(&f);
    ck_assert_int_eq(disk_open(disk, "no/such/folder", DISK_WRITE | DISK_CREATE, &f, &err),
                     ESCROW_ENOTFOUND);
}
END_TEST

START_TEST(no_path_leads_outside)
{
    /* Absolute ones, empty parts, dots; and no file is reached through a symbolic link. */
    static const char *const paths[] = {"/etc/passwd", "", "a//b", "a/", "/", ".", "a/./b"};
    struct disk_file *f;
    char link[128];

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        ck_assert_int_eq(disk_open(disk, paths[i], DISK_READ, &f, &err), ESCROW_EINVAL);
        ck_assert_int_eq(disk_unlink(disk, paths[i], &err), ESCROW_EINVAL);
        ck_assert_int_eq(disk_mkdir(disk, paths[i], &err), ESCROW_EINVAL);
        ck_assert_int_eq(disk_rename(disk, paths[i], "b", &err), ESCROW_EINVAL);
        ck_assert_int_eq(disk_rename(disk, "b", paths[i], &err), ESCROW_EINVAL);
    }
    ck_assert_int_eq(disk_mkdir(disk, "../x", &err), ESCROW_EINVAL);
    ck_assert_int_eq(disk_unlink(disk, "a/../../x", &err), ESCROW_EINVAL);
    (void)snprintf(link, sizeof link, "%s/link", root);
    ck_assert_int_eq(symlink("/etc/passwd", link), 0);
    ck_assert_int_lt(disk_open(disk, "link", DISK_READ, &f, &err), 0);
    ck_assert_int_lt(disk_open(disk, "link", DISK_WRITE | DISK_CREATE, &f, &err), 0);
}
END_TEST

struct listing {
    int files;
    int folders;
    int stop_at;
};

static int count_entry(void *arg, const char *name, bool is_dir)
{
    struct listing *l = arg;

    ck_assert_str_ne(name, ".");
    ck_assert_str_ne(name, "..");
    l->files += is_dir ? 0 : 1;
    l->folders += is_dir ? 1 : 0;
    return l->files + l->folders == l->stop_at ? ESCROW_EBUSY : 0;
}

START_TEST(folders_are_made_listed_and_removed)
{
    /* Making one that exists is fine, making one over a file is not; a full one is not removed. */
    struct listing l = {0};
    struct disk_file *f;

    ck_assert_int_eq(disk_mkdir(disk, "q", &err), 0);
    ck_assert_int_eq(disk_mkdir(disk, "q", &err), 0);
    ck_assert_int_eq(disk_mkdir(disk, "q/0", &err), 0);
    for (int i = 0; i < 3; i++) {
        char path[32];

        (void)snprintf(path, sizeof path, "q/file-%d", i);
        f = create(path);
        disk_close(&f);
    }
    ck_assert_int_eq(disk_mkdir(disk, "q/file-0", &err), ESCROW_EEXIST);
    ck_assert_int_eq(disk_list(disk, "q", count_entry, &l, &err), 0);
    ck_assert_int_eq(l.files, 3);
    ck_assert_int_eq(l.folders, 1);
    l = (struct listing){.stop_at = 2};
    ck_assert_int_eq(disk_list(disk, "q", count_entry, &l, &err), ESCROW_EBUSY);
    ck_assert_int_eq(l.files + l.folders, 2);
    ck_assert_int_eq(disk_list(disk, "nowhere", count_entry, &l, &err), ESCROW_ENOTFOUND);
    ck_assert_int_lt(disk_rmdir(disk, "q", &err), 0);
    ck_assert_int_eq(disk_rmdir(disk, "q/0", &err), 0);
    ck_assert_int_eq(disk_sync_dir(disk, "q", &err), 0);
    ck_assert_int_eq(disk_sync_dir(disk, "", &err), 0);
    ck_assert_int_eq(disk_sync_dir(disk, "nowhere", &err), ESCROW_ENOTFOUND);
}
END_TEST

START_TEST(renaming_replaces)
{
    /* The old name is gone, the new one has the content; a missing one is reported. */
    struct disk_file *f = create("new");
    uint8_t *data;
    size_t len;

    ck_assert_int_eq(write_at(f, "new", 3, 0), 0);
    disk_close(&f);
    f = create("old");
    disk_close(&f);
    ck_assert_int_eq(disk_rename(disk, "new", "old", &err), 0);
    ck_assert_int_eq(disk_rename(disk, "new", "old", &err), ESCROW_ENOTFOUND);
    ck_assert_int_eq(disk_read_all(disk, "old", 100, &data, &len, &err), 0);
    ck_assert_uint_eq(len, 3);
    ck_assert_mem_eq(data, "new", 3);
    mem_free(data);
    ck_assert_int_eq(disk_unlink(disk, "old", &err), 0);
    ck_assert_int_eq(disk_unlink(disk, "old", &err), ESCROW_ENOTFOUND);
}
END_TEST

START_TEST(a_small_file_is_replaced_whole)
{
    /* Through a temporary one; reading has a limit; empty is allowed. */
    uint8_t *data;
    size_t len;

    ck_assert_int_eq(disk_replace(disk, "c", "first content", 13, &err), 0);
    ck_assert_int_eq(disk_replace(disk, "c", "second", 6, &err), 0);
    ck_assert_int_eq(disk_read_all(disk, "c", 6, &data, &len, &err), 0);
    ck_assert_uint_eq(len, 6);
    ck_assert_mem_eq(data, "second", 6);
    mem_free(data);
    ck_assert_int_eq(disk_read_all(disk, "c", 5, &data, &len, &err), ESCROW_ETOOBIG);
    ck_assert_ptr_null(data);
    ck_assert_int_eq(disk_replace(disk, "c", "", 0, &err), 0);
    ck_assert_int_eq(disk_read_all(disk, "c", 5, &data, &len, &err), 0);
    ck_assert_uint_eq(len, 0);
    mem_free(data);
    ck_assert_int_eq(disk_unlink(disk, "c.tmp", &err), ESCROW_ENOTFOUND);
}
END_TEST

START_TEST(a_failed_allocation_is_reported)
{
    /* The n-th, for every n; nothing leaks (teardown counts). */
    bool fired = true;

    for (uint64_t n = 1; fired; n++) {
        struct disk *other = NULL;
        uint8_t *data = NULL;
        size_t len;
        int rc;

        mem_fault_at(n);
        rc = disk_posix_new(root, &other, &err);
        if (rc == 0) {
            rc = disk_replace(other, "c", "content", 7, &err);
        }
        if (rc == 0) {
            rc = disk_read_all(other, "c", 100, &data, &len, &err);
        }
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        mem_free(data);
        disk_free(&other);
    }
}
END_TEST

/* ---- locks ---- */

START_TEST(a_lock_has_one_owner)
{
    /* A second open file of this process, or another process, is refused until it is closed. */
    struct disk_file *mine = create("lock");
    struct disk_file *other = create("lock");
    int status;
    pid_t pid;

    ck_assert_int_eq(disk_lock(mine, &err), 0);
    ck_assert_int_eq(disk_lock(mine, &err), 0);
    ck_assert_int_eq(disk_lock(other, &err), ESCROW_ELOCKED);
    ck_assert_ptr_nonnull(strstr(err.text, "in use by another process"));
    ck_assert_ptr_nonnull(strstr(err.text, root));
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct disk_file *f = create("lock");

        _exit(disk_lock(f, NULL) == ESCROW_ELOCKED ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    disk_close(&mine);
    ck_assert_int_eq(disk_lock(other, &err), 0);
    disk_close(&other);
}
END_TEST

/* ---- what a disk can refuse ---- */

START_TEST(a_root_that_cannot_be_one_is_refused)
{
    /* Its parent is missing, or it is a file: one line that names it. */
    struct disk *other;
    struct disk_file *f = create("file");
    char path[128];

    disk_close(&f);
    (void)snprintf(path, sizeof path, "%s/no/such", root);
    ck_assert_int_eq(disk_posix_new(path, &other, &err), ESCROW_ENOTFOUND);
    ck_assert_ptr_null(other);
    ck_assert_ptr_nonnull(strstr(err.text, path));
    (void)snprintf(path, sizeof path, "%s/file", root);
    ck_assert_int_lt(disk_posix_new(path, &other, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.text, "Not a directory"));
}
END_TEST

START_TEST(free_space_is_known)
{
    /* Some is used, some is free, and both are less than all there could be. */
    struct disk_usage usage = {.used_bytes = 0};

    ck_assert_int_eq(disk_usage(disk, &usage, &err), 0);
    ck_assert_uint_gt(usage.used_bytes, 0);
    ck_assert_uint_lt(usage.used_bytes, UINT64_C(1) << 60);
    ck_assert_uint_gt(usage.available_bytes, 0);
    ck_assert_uint_lt(usage.available_bytes, UINT64_C(1) << 60);
}
END_TEST

START_TEST(a_file_that_may_not_grow_is_a_full_disk)
{
    /* A limit in the middle of a write: the kernel writes a part, then refuses; EFBIG is ENOSPC. */
    static uint8_t data[64 * 1024];
    struct rlimit limit = {.rlim_cur = 100 * KIB, .rlim_max = RLIM_INFINITY};
    struct disk_file *f = create("a");

    ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 100 * KIB;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(write_at(f, data, sizeof data, 0), 0);
    ck_assert_int_eq(write_at(f, data, sizeof data, 64 * KIB), ESCROW_ENOSPC);
    ck_assert_int_eq(err.code, ESCROW_ENOSPC);
    ck_assert_ptr_nonnull(strstr(err.text, "/a at offset 102400"));
    ck_assert_uint_eq(size_of(f), 100 * KIB);
    ck_assert_int_eq(disk_allocate(f, 200 * KIB, &err), ESCROW_ENOSPC);
    ck_assert_uint_eq(size_of(f), 100 * KIB);
    ck_assert_int_eq(disk_truncate(f, 200 * KIB, &err), ESCROW_ENOSPC);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    disk_close(&f);
}
END_TEST

/* Write text to a file of /proc/self; false when that is not allowed. */
static bool write_proc(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0) {
        ck_assert_int_eq(close(fd), 0);
    }
    return ok;
}

/*
 * Mount a small file system in memory over `where`, in a mount namespace of this test's own: as
 * root, or as the root of a user namespace. It disappears with the process.
 */
static void mount_small(const char *where, const char *options)
{
    char uid_map[64];
    char gid_map[64];

    (void)snprintf(uid_map, sizeof uid_map, "0 %u 1", (unsigned)getuid());
    (void)snprintf(gid_map, sizeof gid_map, "0 %u 1", (unsigned)getgid());
    if (unshare(CLONE_NEWNS) != 0) {
        ck_assert_msg(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0,
                      "needs root or user namespaces: %s", strerror(errno));
        ck_assert(write_proc("/proc/self/uid_map", uid_map));
        ck_assert(write_proc("/proc/self/setgroups", "deny"));
        ck_assert(write_proc("/proc/self/gid_map", gid_map)); /* or no file could be made */
    }
    ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    ck_assert_msg(mount("tmpfs", where, "tmpfs", 0, options) == 0, "mount: %s", strerror(errno));
}

START_TEST(a_full_disk_is_told_apart)
{
    /* Write, allocate and replace refuse with ENOSPC and lose nothing; freeing space is enough. */
    static uint8_t data[600 * 1024];
    struct disk *small;
    struct disk_file *f;
    struct disk_file *g;
    struct disk_usage usage;

    mount_small(base, "size=1m");
    ck_assert_int_eq(disk_posix_new(root, &small, &err), 0);
    ck_assert_int_eq(disk_open(small, "a", DISK_WRITE | DISK_CREATE, &f, &err), 0);
    ck_assert_int_eq(disk_open(small, "b", DISK_WRITE | DISK_CREATE, &g, &err), 0);
    ck_assert_int_eq(write_at(f, data, sizeof data, 0), 0);
    ck_assert_int_eq(disk_allocate(g, 600 * KIB, &err), ESCROW_ENOSPC);
    ck_assert_ptr_nonnull(strstr(err.text, "/b at offset 614400: No space left"));
    ck_assert_uint_eq(size_of(g), 0);
    ck_assert_int_eq(disk_allocate(g, 300 * KIB, &err), 0);
    ck_assert_int_eq(write_at(f, data, sizeof data, sizeof data), ESCROW_ENOSPC);
    ck_assert_ptr_nonnull(strstr(err.text, "/a at offset"));
    ck_assert_int_eq(write_at(g, data, 300 * 1024, 0), 0); /* what was allocated is there */
    ck_assert_int_eq(disk_replace(small, "c", data, sizeof data, &err), ESCROW_ENOSPC);
    ck_assert_int_eq(disk_usage(small, &usage, &err), 0);
    ck_assert_uint_gt(usage.used_bytes, 900 * KIB);
    ck_assert_uint_lt(usage.available_bytes, 124 * KIB);
    ck_assert_int_eq(disk_zero(g, 0, 300 * KIB, &err), 0); /* this one cannot zero by itself */
    ck_assert(is_zero(g, 0, 300 * 1024));
    ck_assert_int_eq(disk_zero(g, 200 * KIB, 300 * KIB, &err), 0);
    ck_assert_uint_eq(size_of(g), 300 * KIB);
    disk_close(&f);
    ck_assert_int_eq(disk_unlink(small, "a", &err), 0);
    ck_assert_int_eq(disk_unlink(small, "c.tmp", &err), 0);
    ck_assert_int_eq(disk_allocate(g, 600 * KIB, &err), 0);
    disk_close(&g);
    disk_free(&small);
    ck_assert_int_eq(umount(base), 0);
}
END_TEST

START_TEST(a_read_only_disk_is_told_apart)
{
    /* Reading works; opening to write, making and removing say EROFS. */
    struct disk *small;
    struct disk_file *f;
    uint8_t *data;
    size_t len;

    mount_small(base, "size=1m");
    ck_assert_int_eq(disk_posix_new(root, &small, &err), 0);
    ck_assert_int_eq(disk_replace(small, "a", "text", 4, &err), 0);
    disk_free(&small);
    ck_assert_int_eq(mount(NULL, base, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    ck_assert_int_eq(disk_posix_new(root, &small, &err), 0);
    ck_assert_int_eq(disk_read_all(small, "a", 10, &data, &len, &err), 0);
    ck_assert_uint_eq(len, 4);
    mem_free(data);
    ck_assert_int_eq(disk_open(small, "a", DISK_WRITE, &f, &err), ESCROW_EROFS);
    ck_assert_ptr_nonnull(strstr(err.text, "/a: Read-only file system"));
    ck_assert_int_eq(disk_open(small, "b", DISK_WRITE | DISK_CREATE, &f, &err), ESCROW_EROFS);
    ck_assert_int_eq(disk_mkdir(small, "q", &err), ESCROW_EROFS);
    ck_assert_int_eq(disk_unlink(small, "a", &err), ESCROW_EROFS);
    ck_assert_int_eq(disk_replace(small, "a", "x", 1, &err), ESCROW_EROFS);
    disk_free(&small);
    ck_assert_int_eq(umount(base), 0);
}
END_TEST

/* From now on this system call fails with `errnum` in this process. */
static void break_syscall(unsigned number, unsigned errnum)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errnum),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = sizeof code / sizeof code[0], .filter = code};

    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_msg(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0, "seccomp: %s",
                  strerror(errno));
}

START_TEST(a_file_system_that_cannot_allocate_is_written_to)
{
    /* Zeros are written from the end of the file on, exactly up to the size. */
    struct disk_file *f = create("a");
    struct stat st;
    char path[128];

    break_syscall(SYS_fallocate, EOPNOTSUPP);
    ck_assert_int_eq(write_at(f, "hello", 5, 0), 0);
    ck_assert_int_eq(disk_allocate(f, 600 * KIB + 1, &err), 0);
    ck_assert_uint_eq(size_of(f), 600 * KIB + 1);
    ck_assert(is_zero(f, 5, 600 * 1024 - 4));
    ck_assert(!is_zero(f, 0, 5));
    (void)snprintf(path, sizeof path, "%s/a", root);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_ge(st.st_blocks * 512, 600 * 1024);
    ck_assert_int_eq(disk_allocate(f, 10, &err), 0);
    ck_assert_uint_eq(size_of(f), 600 * KIB + 1);
    disk_close(&f);
}
END_TEST

START_TEST(a_failed_sync_is_reported_with_its_file)
{
    /* Of a file and of a folder: as an I/O error, which stops the process that hears of it. */
    struct disk_file *f = create("a");

    break_syscall(SYS_fdatasync, EIO);
    break_syscall(SYS_fsync, EIO);
    ck_assert_int_eq(disk_sync(f, &err), ESCROW_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "sync "));
    ck_assert_ptr_nonnull(strstr(err.text, "/data/a at offset 0: Input/output error"));
    ck_assert_int_eq(disk_sync_dir(disk, "", &err), ESCROW_EIO);
    ck_assert_int_eq(disk_replace(disk, "b", "x", 1, &err), ESCROW_EIO);
    disk_close(&f);
}
END_TEST

START_TEST(any_other_failure_of_a_sync_is_an_io_error)
{
    /* "No space left" would sound as if one could try again; the pages are gone all the same. */
    struct disk_file *f = create("a");

    break_syscall(SYS_fdatasync, ENOSPC);
    ck_assert_int_eq(disk_sync(f, &err), ESCROW_EIO);
    ck_assert_int_eq(err.code, ESCROW_EIO);
    disk_close(&f);
}
END_TEST

START_TEST(a_kernel_that_cannot_tell_makes_every_read_wait)
{
    /* RWF_NOWAIT unknown to the file system: the loop must not try. */
    struct disk_file *f = create("a");
    size_t got;
    char byte;

    ck_assert_int_eq(write_at(f, "x", 1, 0), 0);
    break_syscall(SYS_preadv2, EOPNOTSUPP);
    ck_assert_int_eq(disk_pread_nowait(f, &byte, 1, 0, &got), ESCROW_EAGAIN);
    ck_assert_int_eq(disk_pread(f, &byte, 1, 0, &got, &err), 0);
    disk_close(&f);
}
END_TEST

START_TEST(a_failed_read_names_file_and_offset)
{
    /* Where a person would have to look. */
    struct disk_file *f = create("a");
    size_t got;
    char byte;

    break_syscall(SYS_pread64, EIO);
    ck_assert_int_eq(disk_pread(f, &byte, 1, 777, &got, &err), ESCROW_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "read "));
    ck_assert_ptr_nonnull(strstr(err.text, "/data/a at offset 777: Input/output error"));
    disk_close(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/disk_posix");
    TCase *tc = tcase_create("disk_posix");

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_is_no_regular_file_is_refused);
    tcase_add_test(tc, many_pieces_are_written_as_one);
    tcase_add_test(tc, a_read_is_short_only_at_the_end);
    tcase_add_test(tc, what_is_not_in_memory_is_not_waited_for);
    tcase_add_test(tc, allocated_space_reads_as_zeros);
    tcase_add_test(tc, zeroed_bytes_are_exactly_those);
    tcase_add_test(tc, truncation_cuts_and_extends);
    tcase_add_test(tc, files_are_opened_as_asked);
    tcase_add_test(tc, no_path_leads_outside);
    tcase_add_test(tc, folders_are_made_listed_and_removed);
    tcase_add_test(tc, renaming_replaces);
    tcase_add_test(tc, a_small_file_is_replaced_whole);
    tcase_add_test(tc, a_failed_allocation_is_reported);
    tcase_add_test(tc, a_lock_has_one_owner);
    tcase_add_test(tc, a_root_that_cannot_be_one_is_refused);
    tcase_add_test(tc, free_space_is_known);
    tcase_add_test(tc, a_file_that_may_not_grow_is_a_full_disk);
    tcase_add_test(tc, a_full_disk_is_told_apart);
    tcase_add_test(tc, a_read_only_disk_is_told_apart);
    tcase_add_test(tc, a_file_system_that_cannot_allocate_is_written_to);
    tcase_add_test(tc, a_failed_sync_is_reported_with_its_file);
    tcase_add_test(tc, any_other_failure_of_a_sync_is_an_io_error);
    tcase_add_test(tc, a_kernel_that_cannot_tell_makes_every_read_wait);
    tcase_add_test(tc, a_failed_read_names_file_and_offset);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
