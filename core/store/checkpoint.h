/*
 * Checkpoint: one file, replaced atomically, from which a start continues instead of reading the
 * whole log. A head of a few numbers and named sections, each the business of its owner. FORMAT.md,
 * "Checkpoint", has the bytes.
 *
 * Writing:   checkpoint_begin, then for each section: checkpoint_section_begin, append to the
 *            buffer, _section_end; then checkpoint_end (loop), checkpoint_write (job).
 * Reading:   checkpoint_read or checkpoint_decode, checkpoint_find, checkpoint_fini.
 *
 * Owns:    the writer nothing but its place in the caller's buffer; a struct checkpoint from
 *          checkpoint_read its bytes.
 * Thread:  the owner's; checkpoint_write and checkpoint_read any one thread.
 * Errors:  whatever the file holds, reading ends in an error and never in a crash or in more memory
 *          than its size.
 */
#ifndef CORE_STORE_CHECKPOINT_H
#define CORE_STORE_CHECKPOINT_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/io/disk.h"

#include <stdbool.h>
#include <stdint.h>

#define CHECKPOINT_PATH         "checkpoint"
#define CHECKPOINT_VERSION      1u
#define CHECKPOINT_SECTIONS_MAX 32u
#define CHECKPOINT_NAME_MAX     31u                 /* bytes of a section's name */
#define CHECKPOINT_SIZE_MAX     (UINT64_C(4) << 30) /* ten million halves would take about 1 GiB */

struct checkpoint_head {
    uint64_t position;  /* everything in the log below is in this checkpoint; replay begins here */
    uint32_t epoch;     /* of the process that wrote it */
    uint32_t salt;      /* of the store: a file that was copied from another folder shows */
    bool is_clean;      /* written by a clean shutdown: log_end is set */
    uint64_t log_end;   /* end of the log at the clean shutdown, >= position; 0 otherwise */
    uint64_t log_first; /* first offset the log has (retention), <= position */
    uint64_t index_end; /* key_index_end() when it was written */
};

/* ---- writing ---- */

struct checkpoint_writer {
    struct buf *buf;
    size_t section_start; /* first byte of the open section in the buffer */
    uint32_t section_count;
    bool is_open;
};

/* The buffer is empty, the caller's, and lives until the end; its errors show in checkpoint_end. */
void checkpoint_begin(struct checkpoint_writer *w, struct buf *b,
                      const struct checkpoint_head *head);

/*
 * 1..CHECKPOINT_NAME_MAX characters, each name once. Then append the bytes to the buffer, in any
 * way.
 */
void checkpoint_section_begin(struct checkpoint_writer *w, const char *name);
void checkpoint_section_end(struct checkpoint_writer *w);

/* ESCROW_ENOMEM when the buffer failed, ESCROW_ETOOBIG when it exceeds CHECKPOINT_SIZE_MAX. */
ESCROW_MUST_USE int checkpoint_end(struct checkpoint_writer *w);

/*
 * Put the checksum in: done by checkpoint_write, apart for tests. `b` holds exactly one ended
 * checkpoint.
 */
void checkpoint_seal(struct buf *b);

/* Seal and replace the file; after an error the old one is still there. */
ESCROW_MUST_USE int checkpoint_write(struct disk *d, struct buf *b, struct err_ctx *err);

/* ---- reading ---- */

struct checkpoint_section {
    struct slice name;
    struct slice bytes;
};

struct checkpoint {
    struct checkpoint_head head;
    uint32_t section_count;
    struct checkpoint_section sections[CHECKPOINT_SECTIONS_MAX];
    uint8_t *mem; /* what the sections point into; NULL when it is the caller's */
    uint64_t size_bytes;
};

/*
 * ESCROW_ENOTFOUND: no file. ESCROW_ECORRUPT, ESCROW_EVERSION, ESCROW_ENOMEM, ESCROW_EIO; *out is
 * then empty.
 */
ESCROW_MUST_USE int checkpoint_read(struct disk *d, struct checkpoint *out, struct err_ctx *err);

/* The same from bytes in memory, borrowed as long as *out. */
ESCROW_MUST_USE int checkpoint_decode(struct slice file, struct checkpoint *out,
                                      struct err_ctx *err);

/* Bytes of a section; false, and *bytes empty, when there is none of that name. */
bool checkpoint_find(const struct checkpoint *ckpt, const char *name, struct slice *bytes);

void checkpoint_fini(struct checkpoint *ckpt);

#endif
