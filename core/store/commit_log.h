/*
 * The append side of the commit log: where the next record goes, the memory it waits in, the batch
 * on its way to disk, the segments prepared ahead, and the watermarks up to `durable`. It knows
 * records as bytes; what they mean is store.c's.
 *
 * An append has two steps, so that everything that can fail comes first:
 *
 *     rc = commit_log_place(log, type, length, &slot) room in the log, in the batch and in memory;
 *     nothing has changed ... put the payload at slot.dst + ENVELOPE_SIZE ... desc =
 *     commit_log_put(log, &slot) cannot fail
 *
 * Owns:    batches, their memory. The segments are borrowed from the store.
 * Thread:  loop; a batch that was taken belongs to whoever runs it until it comes back.
 * Holds:   appended >= written >= durable; a batch begins where the one before ended; see
 *          FORMAT.md, invariants 4 to 6 and 8. commit_log_check() asserts it.
 */
#ifndef CORE_STORE_COMMIT_LOG_H
#define CORE_STORE_COMMIT_LOG_H

#include "core/base/err.h"
#include "core/base/limits.h"
#include "core/store/envelope.h"
#include "core/store/segment.h"
#include "core/store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue;

/* What apply() needs of a record, kept from its append so that nothing is parsed twice. */
struct log_desc {
    uint64_t offset;
    uint8_t *record; /* envelope and payload in the batch's memory */
    void *cookie;
    struct queue *queue;  /* MESSAGE: its number is reserved there. DECISION: NULL, see releases */
    int64_t queue_offset; /* -1 for everything but MESSAGE */
    int32_t tag_hash;
    uint32_t length;
    uint32_t release_count; /* DECISION: queues in the batch's list of releases */
    uint32_t properties_at; /* in the payload; MESSAGE and HALF, like the rest */
    uint16_t properties_len;
    uint16_t topic_len;
    uint16_t uniq_at; /* in the properties; both of length 0 when absent */
    uint16_t uniq_len;
    uint16_t keys_at;
    uint16_t keys_len;
    uint8_t type;
    uint8_t flags;
};

#define LOG_CHUNK_BYTES ((size_t)64 << 10)
/* Records of one batch: bounds their descriptors to about 24 MB. */
#define LOG_DESCS_MAX ((size_t)256 << 10)

/*
 * Now and then a batch is written with zeros behind it, into space that reads as zeros already:
 * blocks that were only allocated become written ones, which the file system has to note on disk,
 * and so the syncs of the next batches cost one write less each. So many bytes at once:
 * LOG_ZERO_FACTOR batches, within these bounds; nothing behind a batch that is large itself, or
 * that comes soon after a large one: the next large one would write over the zeros at once. One
 * write goes up to a multiple of LOG_CHUNK_BYTES, the next from there (README.md, "pieces").
 */
#define LOG_ZERO_FACTOR    16
#define LOG_ZERO_BYTES_MIN (UINT64_C(256) << 10)
#define LOG_ZERO_BYTES_MAX (UINT64_C(1) << 20)
#define LOG_ZERO_BATCH_MAX (UINT64_C(96) << 10)
#define LOG_ZERO_PAGE      UINT64_C(4096) /* they end where one does */
#define LOG_ZERO_IOVS      ((size_t)(LOG_ZERO_BYTES_MAX / LOG_CHUNK_BYTES) + 1)

/*
 * Reserved for START records, which every restart adds also when the disk is full: 1,170 of them.
 */
#define LOG_START_RESERVE (UINT64_C(64) << 10)

/* Longest DECISION record. */
#define LOG_DECISION_MAX ((uint64_t)STORE_DECISION_RESERVE * END_TXN_HALVES_MAX)

struct log_chunk {
    uint8_t *mem;
    size_t cap;
    size_t len;
    uint64_t at; /* log offset of mem[0] */
};

/* One write of a batch: what goes to one segment, or a piece of the zeros behind it. */
struct log_piece {
    struct disk_file *file;
    uint64_t file_offset;
    int iov_first;
    int iov_count;
};

struct log_batch {
    uint64_t first; /* log offset where it begins: the `synced` of all its records */
    uint64_t end;
    struct log_chunk *chunks;
    size_t chunk_count;
    size_t chunk_cap;
    struct log_desc *descs;
    size_t desc_count;
    size_t desc_cap;
    struct queue **releases; /* queues in which DECISION records have reserved a number, in order */
    size_t release_count;
    size_t release_cap;
    /* what the job uses; filled when the batch is taken */
    struct iovec *iovs;
    size_t iov_cap;
    struct log_piece *pieces;
    size_t piece_count;
    size_t piece_cap;
    int rc;
    struct err_ctx err;
};

struct commit_log_options {
    uint32_t seed;
    uint32_t epoch;
    size_t batch_bytes_max;
    uint64_t ahead_bytes;
};

/* Where a batch stood when a group began. */
struct log_mark {
    uint64_t end;
    size_t chunk_count;
    size_t chunk_len;
    size_t desc_count;
    size_t release_count;
    uint64_t records;
    uint64_t bytes;
};

struct commit_log {
    struct segments *segs;
    struct commit_log_options opt;
    struct log_batch batches[2];
    struct log_batch *filling;
    struct log_batch *flying; /* NULL when none is out */
    struct log_chunk *spare;  /* chunks of LOG_CHUNK_BYTES that are not in use */
    size_t spare_count;
    size_t spare_cap;
    size_t plain_count;  /* chunks of LOG_CHUNK_BYTES, in use or spare */
    size_t memory_bytes; /* of all chunks, in use or spare */
    uint64_t appended;
    uint64_t written;
    uint64_t durable;
    uint64_t zeroed; /* zeros were written up to here, or more than zeros */
    uint64_t
        recent_bytes; /* size of a large batch fades from here, by a quarter with each after it */
    uint64_t reserved;
    struct log_mark mark; /* valid while is_group */
    bool is_group;
    bool is_disk_full;
    bool is_starved; /* an append found no space: a segment is wanted whatever is left */
    bool is_preparing;
    bool has_failed;  /* a batch could not be written: nothing may follow it */
    int64_t retry_ms; /* do not prepare again before; INT64_MIN = at once */
    uint64_t records;
    uint64_t bytes;
    uint64_t batch_count;
};

/*
 * The log continues at `end`, which everything before is durable up to. The segment at `end`, when
 * there is one, is open.
 */
void commit_log_init(struct commit_log *log, struct segments *segs,
                     const struct commit_log_options *opt, uint64_t end);

/* No batch is out. Forgets what was not taken. */
void commit_log_fini(struct commit_log *log);

struct log_slot {
    uint8_t *dst;    /* envelope_padded(length) bytes */
    uint64_t offset; /* physical */
    uint32_t length;
    enum store_type type;
    bool has_filler;     /* the segment ends before it */
    size_t filler_chunk; /* then: where the FILLER goes */
};

/*
 * Find a place for a record of `length` bytes (envelope and payload). reserve_more: what this
 * record will reserve for later (HALF). Errors as in store.h: ESCROW_ENOSPC, ESCROW_ELIMIT,
 * ESCROW_ETOOBIG, ESCROW_ENOMEM. Valid until the next call.
 */
ESCROW_MUST_USE int commit_log_place(struct commit_log *log, enum store_type type, size_t length,
                                     uint64_t reserve_more, struct log_slot *slot);

/* Make room for `count` more releases; then commit_log_put_release cannot fail. ESCROW_ENOMEM. */
ESCROW_MUST_USE int commit_log_want_releases(struct commit_log *log, size_t count);

/*
 * The record is complete but for its envelope. Returns its descriptor, with offset, record, length,
 * type and flags set.
 */
struct log_desc *commit_log_put(struct commit_log *log, const struct log_slot *slot);
void commit_log_put_release(struct commit_log *log, struct queue *queue);

void commit_log_group_begin(struct commit_log *log);
void commit_log_group_end(struct commit_log *log);

/*
 * Take back what was put since begin. The caller has given the queue numbers back (descriptors and
 * releases from the mark on).
 */
void commit_log_group_abort(struct commit_log *log);

/* As store_batch_take. ESCROW_ENOMEM cannot happen: the room was made with each append. */
struct log_batch *commit_log_take(struct commit_log *log);

/*
 * The batch is back and was written and synced: watermarks rise. Its descriptors stay until
 * commit_log_recycle.
 */
void commit_log_synced(struct commit_log *log, struct log_batch *batch);
void commit_log_recycle(struct commit_log *log, struct log_batch *batch);

void commit_log_trim(struct commit_log *log);

/* Bytes allocated behind `appended`, and whether the next segment should be prepared. */
uint64_t commit_log_allocated(const struct commit_log *log);
bool commit_log_wants_segment(const struct commit_log *log);

void commit_log_check(const struct commit_log *log);

#endif
