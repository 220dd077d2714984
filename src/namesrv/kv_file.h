/*
 * The file of a name server's key-value configuration: namesrv/kv below the data folder
 * (core/store/FORMAT.md, "Name server").
 *
 * The folder namesrv/ is made with the first entry: a name server without any writes nothing. Its
 * lock is taken when the folder is there, and held until the end.
 *
 * Owns:    nothing; the lock's file is the caller's.
 * Thread:  encode, decode: any, pure. open, write: any one at a time; they wait for the disk.
 */
#ifndef SRC_NAMESRV_KV_FILE_H
#define SRC_NAMESRV_KV_FILE_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/slice.h"
#include "core/io/disk.h"
#include "src/namesrv/registry.h"

#include <stdbool.h>

#define KV_FILE_PATH   "namesrv/kv"
#define KV_FILE_FOLDER "namesrv"
#define KV_FILE_LOCK   "namesrv/lock"
/* head, what the registry may hold, lengths of each entry, checksum */
#define KV_FILE_BYTES_MAX (REGISTRY_KV_BYTES_MAX + (size_t)REGISTRY_KV_MAX * 8 + 32)

/* One entry that is set, or taken away. */
struct kv_change {
    struct slice ns;
    struct slice key;
    struct slice value;
    bool is_delete; /* value counts for nothing */
};

/* Append the registry's entries as they are after `change`, all but the checksum: errors of buf. */
void kv_file_encode(const struct registry *r, const struct kv_change *change, struct buf *out);

/* The checksum. buf: as kv_file_encode left it; may have failed. */
void kv_file_seal(struct buf *out);

/*
 * Enter what a file says into a registry without entries. ESCROW_ECORRUPT, ESCROW_EVERSION (of a
 * later format), ESCROW_ENOMEM, with one line in *err; entries may have been entered then.
 */
ESCROW_MUST_USE int kv_file_decode(struct slice file, struct registry *r, struct err_ctx *err);

/*
 * Take the lock and read the file, when they are there. ESCROW_ELOCKED: another process has it.
 * Errors as of the disk and of kv_file_decode. *lock stays NULL when the folder is not there.
 */
ESCROW_MUST_USE int kv_file_open(struct disk *d, struct registry *r, struct disk_file **lock,
                                 struct err_ctx *err);

/*
 * Replace the file, durably; the first time make the folder and take the lock. After an error the
 * file is as it was, or, when the folder could not be synced, as it was to be.
 */
ESCROW_MUST_USE int kv_file_write(struct disk *d, struct slice file, struct disk_file **lock,
                                  struct err_ctx *err);

#endif
