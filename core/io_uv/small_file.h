/*
 * Small file: reads a whole file that people edit, and tells whether it changed since.
 *
 * Owns:    nothing; the text is the caller's buf.
 * Thread:  any but a running loop (it waits for the disk): a pool thread, or before the loop runs.
 */
#ifndef CORE_IO_UV_SMALL_FILE_H
#define CORE_IO_UV_SMALL_FILE_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* What tells two states of a file apart. All zero: no file was there. */
struct file_stamp {
    uint64_t device, inode, size;
    int64_t changed_s, changed_ns;
    uint32_t mode; /* permission bits */
};

/*
 * Read the file unless it is as *stamp says. *stamp gets what it is now, zero when it could not be
 * opened.
 *
 * Returns 1 (read, appended to out), 0 (unchanged, nothing read; never when `force`), or an error
 * with its line in *err: ESCROW_ENOTFOUND, ESCROW_EPERM, ESCROW_EIO and what else the system says;
 * ESCROW_ETOOBIG (more than size_max bytes), ESCROW_EINVAL (not a regular file).
 */
ESCROW_MUST_USE int small_file_read(const char *path, size_t size_max, bool force,
                                    struct file_stamp *stamp, struct buf *out, struct err_ctx *err);

/* Do the permission bits let others than the owner and the group read it, or others write? */
static inline bool small_file_is_open_to_others(const struct file_stamp *stamp)
{
    return (stamp->mode & 0037) != 0;
}

/*
 * A file that holds one secret: its only line, without the end of line, into out[size]. The log
 * warns when others can read the file.
 *
 * Errors as small_file_read; ESCROW_ECONFIG: empty, more than one line, a control character, or
 * longer than size - 1.
 */
ESCROW_MUST_USE int secret_file_read(const char *path, char *out, size_t size, struct err_ctx *err);

#endif
