/*
 * The one door to disk. core/store and everything above it touch files only through a struct disk,
 * so that the crash explorer can stand in the same place as the kernel (tests/lib/sim_disk.h).
 *
 * Paths are relative to the disk's root folder, with '/' between parts, never with "..".
 *
 * Owns:    a struct disk_file belongs to whoever opened it until disk_close.
 * Thread:  any thread, but one file is written, synced and closed by one thread at a time
 *          (ownership is handed over through a mailbox). disk_pread and disk_pread_nowait may run
 *          beside a writer of other bytes of the file.
 * Errors:  negative ESCROW_E..., with file, offset and reason in *err (err may be NULL). A failed
 *          disk_sync must never be retried: the pages are clean and not on disk (style.md 6.10);
 *          the caller stops the process.
 */
#ifndef CORE_IO_DISK_H
#define CORE_IO_DISK_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct disk;
struct disk_file;

enum disk_open_flags {
    DISK_READ = 0,      /* existing file, read only */
    DISK_WRITE = 1,     /* existing file, read and write */
    DISK_CREATE = 2,    /* with DISK_WRITE: create when missing */
    DISK_EXCLUSIVE = 4, /* with DISK_CREATE: ESCROW_EEXIST when it exists */
};

/*
 * Called once per entry of a folder, without "." and ".."; a non-zero result ends the listing with
 * that result.
 */
typedef int disk_list_fn(void *arg, const char *name, bool is_dir);

/* The file system that the disk's root is on, everything that is not ours included. */
struct disk_usage {
    uint64_t used_bytes;
    uint64_t available_bytes; /* to us: without what is kept for root */
};

struct disk_ops {
    int (*open)(struct disk *d, const char *path, unsigned flags, struct disk_file **out,
                struct err_ctx *err);
    void (*close)(struct disk_file *f);
    int (*size)(struct disk_file *f, uint64_t *size_bytes, struct err_ctx *err);
    int (*pread)(struct disk_file *f, void *dst, size_t len, uint64_t offset, size_t *got,
                 struct err_ctx *err);
    int (*pread_nowait)(struct disk_file *f, void *dst, size_t len, uint64_t offset, size_t *got);
    int (*pwritev)(struct disk_file *f, const struct iovec *iov, int count, uint64_t offset,
                   struct err_ctx *err);
    int (*allocate)(struct disk_file *f, uint64_t size_bytes, struct err_ctx *err);
    int (*zero)(struct disk_file *f, uint64_t offset, uint64_t len, struct err_ctx *err);
    int (*truncate)(struct disk_file *f, uint64_t size_bytes, struct err_ctx *err);
    int (*sync)(struct disk_file *f, struct err_ctx *err);
    int (*lock)(struct disk_file *f, struct err_ctx *err);
    int (*rename)(struct disk *d, const char *from, const char *to, struct err_ctx *err);
    int (*unlink)(struct disk *d, const char *path, struct err_ctx *err);
    int (*mkdir)(struct disk *d, const char *path, struct err_ctx *err);
    int (*rmdir)(struct disk *d, const char *path, struct err_ctx *err);
    int (*sync_dir)(struct disk *d, const char *path, struct err_ctx *err);
    int (*list)(struct disk *d, const char *path, disk_list_fn *fn, void *arg, struct err_ctx *err);
    int (*usage)(struct disk *d, struct disk_usage *usage, struct err_ctx *err);
    void (*free)(struct disk *d);
};

/* First member of every implementation's own struct. */
struct disk {
    const struct disk_ops *ops;
};

/* First member of every implementation's file struct. */
struct disk_file {
    struct disk *disk;
};

ESCROW_MUST_USE int disk_open(struct disk *d, const char *path, unsigned flags,
                              struct disk_file **out, struct err_ctx *err);
void disk_close(struct disk_file **f); /* sets *f to NULL; NULL inside is fine */
ESCROW_MUST_USE int disk_size(struct disk_file *f, uint64_t *size_bytes, struct err_ctx *err);

/*
 * Up to `len` bytes; *got < len only at the end of the file. Retries EINTR and short reads itself.
 */
ESCROW_MUST_USE int disk_pread(struct disk_file *f, void *dst, size_t len, uint64_t offset,
                               size_t *got, struct err_ctx *err);

/*
 * As disk_pread, but only if it need not wait for the device: ESCROW_EAGAIN when part of it is not
 * in memory, and then dst is undefined. For the loop thread; everything else reads in the pool.
 */
ESCROW_MUST_USE int disk_pread_nowait(struct disk_file *f, void *dst, size_t len, uint64_t offset,
                                      size_t *got);

/* All of it or an error; on an error any part may have been written. The array is not changed. */
ESCROW_MUST_USE int disk_pwritev(struct disk_file *f, const struct iovec *iov, int count,
                                 uint64_t offset, struct err_ctx *err);

/*
 * Reserve blocks so that [0, size) can be overwritten without ENOSPC; the file then has that size
 * and reads as zeros.
 */
ESCROW_MUST_USE int disk_allocate(struct disk_file *f, uint64_t size_bytes, struct err_ctx *err);

/* Make [offset, offset+len) read as zeros, keeping the blocks. */
ESCROW_MUST_USE int disk_zero(struct disk_file *f, uint64_t offset, uint64_t len,
                              struct err_ctx *err);
ESCROW_MUST_USE int disk_truncate(struct disk_file *f, uint64_t size_bytes, struct err_ctx *err);

/* Data and size are on stable storage (fdatasync). */
ESCROW_MUST_USE int disk_sync(struct disk_file *f, struct err_ctx *err);

/* Exclusive advisory lock until close; ESCROW_ELOCKED when another process holds it. */
ESCROW_MUST_USE int disk_lock(struct disk_file *f, struct err_ctx *err);
ESCROW_MUST_USE int disk_rename(struct disk *d, const char *from, const char *to,
                                struct err_ctx *err);
ESCROW_MUST_USE int disk_unlink(struct disk *d, const char *path, struct err_ctx *err);
ESCROW_MUST_USE int disk_mkdir(struct disk *d, const char *path,
                               struct err_ctx *err); /* existing is fine */
ESCROW_MUST_USE int disk_rmdir(struct disk *d, const char *path, struct err_ctx *err);

/* Creations, renames and unlinks in this folder ("" = the root) are on stable storage. */
ESCROW_MUST_USE int disk_sync_dir(struct disk *d, const char *path, struct err_ctx *err);
ESCROW_MUST_USE int disk_list(struct disk *d, const char *path, disk_list_fn *fn, void *arg,
                              struct err_ctx *err);

/* May wait for the device (a network file system): not for the loop. */
ESCROW_MUST_USE int disk_usage(struct disk *d, struct disk_usage *usage, struct err_ctx *err);
void disk_free(struct disk **d); /* all files closed before */

/*
 * Replace a whole small file: write "<path>.tmp", sync, rename over `path`, sync the folder. After
 * an error `path` has its old content.
 */
ESCROW_MUST_USE int disk_replace(struct disk *d, const char *path, const void *data, size_t len,
                                 struct err_ctx *err);

/*
 * Read a whole file of at most `limit` bytes into mem_alloc'ed *data (caller frees).
 * ESCROW_ENOTFOUND when missing.
 */
ESCROW_MUST_USE int disk_read_all(struct disk *d, const char *path, size_t limit, uint8_t **data,
                                  size_t *len, struct err_ctx *err);

#endif
