/*
 * Read-only look at a data folder that no server has open: `escrow dump` and `escrow verify`.
 * Nothing is created, cut or repaired; a folder on a read-only disk is fine.
 *
 * Owns:    what it opened. Slices in a record are borrowed until the next call.
 * Thread:  any one thread.
 * Errors:  ESCROW_ELOCKED a server has the folder (the lock is shared out to one at a time);
 *          ESCROW_EVERSION; ESCROW_ENOTFOUND there is no store here; ESCROW_ECORRUPT `format` is
 *          damaged or missing, or segments are; ESCROW_EIO.
 */
#ifndef CORE_STORE_INSPECT_H
#define CORE_STORE_INSPECT_H

#include "core/base/err.h"
#include "core/io/disk.h"
#include "core/store/store.h"

struct inspect;

ESCROW_MUST_USE int inspect_open(struct disk *disk, struct inspect **out, struct err_ctx *err);
void inspect_close(struct inspect **in); /* NULL inside is fine */

struct inspect_info {
    uint32_t version;
    uint64_t segment_bytes;
    uint64_t first;      /* log offset of the first segment */
    uint64_t allocated;  /* log offset behind the last one */
    uint64_t checkpoint; /* log position of the checkpoint; `first` when there is none */
    uint32_t segments;
};
void inspect_info(const struct inspect *in, struct inspect_info *info);

/*
 * Do segments and checkpoint fit together? What a start refuses besides damaged records
 * (folder_check.h): ESCROW_ECORRUPT, ESCROW_EVERSION, with the file.
 */
ESCROW_MUST_USE int inspect_check(struct inspect *in, struct err_ctx *err);

/*
 * Continue at this physical offset, which must be the start of a record (a segment's first offset
 * always is, when in the log). Before the first segment: at its first record; behind the last one:
 * at the end.
 */
void inspect_seek(struct inspect *in, uint64_t offset);

/*
 * The next record, START and FILLER included (store_record.is_replay is true, queue_offset as
 * recorded). 1 and *rec; 0 at the end of the log (what follows are zeros, or a torn tail that the
 * next start will cut: inspect_tail says which); ESCROW_ECORRUPT with file and offset: the record
 * had been durable. A record of an unknown type is returned with its number.
 */
ESCROW_MUST_USE int inspect_next(struct inspect *in, struct store_record *rec, struct err_ctx *err);

/*
 * After ESCROW_ECORRUPT: the offset of the next record that can be read, for inspect_seek. 1 and
 * *next; 0: there is none; ESCROW_EIO.
 */
ESCROW_MUST_USE int inspect_find_next(struct inspect *in, uint64_t *next, struct err_ctx *err);

/* After inspect_next returned 0: bytes that the next start would cut. */
uint64_t inspect_tail(const struct inspect *in);

/* One thing that is wrong, in one line with file and offset. */
typedef void inspect_finding_fn(void *arg, int code, const char *text);

/* Called now and then with how far it is; total may be 0. */
typedef void inspect_progress_fn(void *arg, uint64_t done_bytes, uint64_t total_bytes);

struct inspect_report {
    uint64_t records;
    uint64_t messages;
    uint64_t halves;
    uint64_t held;
    uint64_t decisions;
    uint64_t releases;
    uint64_t bytes;      /* of the log, up to its end */
    uint64_t torn_bytes; /* would be cut by the next start */
    uint64_t queues;
    uint64_t queue_entries;
    uint64_t findings; /* 0 = the store is sound */
};

/*
 * Verify everything: every record of the log, every queue entry against the record it points to,
 * zeros where nothing was written, the key index page by page, the checkpoint, and all for which a
 * start of the store refuses. 0 when it went through (report->findings says whether the store is
 * sound), otherwise why it could not.
 */
struct inspect_verify {
    inspect_finding_fn *finding;   /* may be NULL */
    inspect_progress_fn *progress; /* may be NULL */
    void *arg;
};
ESCROW_MUST_USE int inspect_verify(struct inspect *in, const struct inspect_verify *how,
                                   struct inspect_report *report, struct err_ctx *err);

#endif
