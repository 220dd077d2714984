/*
 * What a start demands of a data folder before it changes anything: format, segments and checkpoint
 * are there and fit together. FORMAT.md, "Recovery", steps 1, 2 and 5. store_open.c refuses to
 * start by it, `escrow verify` and `escrow dump` report by it: a folder that they call sound is one
 * that a server takes.
 *
 * Owns:    nothing.
 * Thread:  any one thread; blocks.
 * Errors:  ESCROW_ECORRUPT names the file; what the disk answers. Nothing is changed.
 */
#ifndef CORE_STORE_FOLDER_CHECK_H
#define CORE_STORE_FOLDER_CHECK_H

#include "core/store/checkpoint.h"
#include "core/store/recovery.h"
#include "core/store/segment.h"
#include "core/store/store_format.h"

#define STORE_LOG_SECTION "log" /* offset of the last record below the position, its checksum */

/*
 * The file `format`. ESCROW_ENOTFOUND: there is none, nor anything else of a store: a new one may
 * begin here.
 */
ESCROW_MUST_USE int folder_read_format(struct disk *disk, struct store_format *out,
                                       struct err_ctx *err);

/*
 * The file `checkpoint`, if it is this store's: as checkpoint_read. ESCROW_ECORRUPT also says what
 * can be done about it.
 */
ESCROW_MUST_USE int folder_read_checkpoint(struct disk *disk, const struct store_format *format,
                                           struct checkpoint *out, struct err_ctx *err);

struct folder {
    struct disk *disk;
    struct segments *segs; /* loaded */
    uint32_t seed;
    const struct checkpoint *ckpt; /* NULL: there is none */
};

/* The last record below the checkpoint's position. */
struct folder_record {
    uint64_t offset;
    uint32_t crc;
};

/*
 * Are the segments there that the checkpoint counts on, and the record that it remembers? *last is
 * filled when there is a checkpoint. Without one the log must have its beginning.
 */
ESCROW_MUST_USE int folder_check_segments(const struct folder *in, struct folder_record *last,
                                          struct err_ctx *err);

/* The log ends at end->cut: has the checkpoint seen more of it? */
ESCROW_MUST_USE int folder_check_end(const struct segments *segs, const struct checkpoint *ckpt,
                                     const struct recovery_end *end, struct err_ctx *err);

/* Has the key index? */
ESCROW_MUST_USE int folder_check_index(uint64_t log_end, uint64_t index_end, struct err_ctx *err);

#endif
