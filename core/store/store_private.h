/*
 * What the files of the facade share: store.c, store_open.c, store_append.c, store_apply.c,
 * store_flush.c, fetch.c, reader.c.
 */
#ifndef CORE_STORE_STORE_PRIVATE_H
#define CORE_STORE_STORE_PRIVATE_H

#include "core/store/checkpoint.h"
#include "core/store/commit_log.h"
#include "core/store/damage.h"
#include "core/store/folder_check.h"
#include "core/store/key_index.h"
#include "core/store/queue_rebuild.h"
#include "core/store/queues.h"
#include "core/store/segment.h"
#include "core/store/store.h"
#include "core/store/store_format.h"

#define STORE_SEGMENTS_SECTION "segments"

/* A queue file of which not everything could be rebuilt: not tried again for each reader. */
#define REBUILD_LEFT_MAX 16u
struct rebuild_left {
    const struct queue *queue; /* NULL: unused */
    uint64_t first;            /* entries [first, end) */
    uint64_t end;
    bool is_final; /* the log does not give them; otherwise the next checkpoint forgets it */
    char why[ERR_TEXT_MAX];
};

struct store {
    struct disk *disk;
    struct disk_file *lock;
    struct store_config cfg;
    struct store_owner owner;
    struct store_format format;
    struct segments segs;
    struct commit_log log;
    struct queues *queues;
    struct key_index *index;
    struct skips skips;
    struct damage damage;
    uint64_t index_lost; /* files of the key index, since the start */
    uint32_t seed;
    uint32_t epoch;
    uint64_t visible;
    uint64_t last_offset; /* of the last record applied; UINT64_MAX before the first */
    uint32_t last_crc;    /* its checksum */

    uint64_t checkpoint_at; /* log position of the last checkpoint */
    uint64_t checkpoint_size;
    uint64_t flush_retry_at; /* after a full disk: not before the log has come this far */
    struct flush_job *flush; /* the one under way */

    uint64_t low;              /* where the log begins: nothing below is read any more */
    uint64_t unlinked;         /* segments below have no file any more */
    struct retain_job *retain; /* the one under way */
    bool is_trim_due;          /* something was given up: a checkpoint says so, then files go */
    bool is_refusing;          /* new messages: the owner says that the disk is too full */
    uint64_t segments_deleted; /* since the start */
    uint64_t segments_stuck;   /* could not be unlinked, by count of tries */

    bool is_rebuilding;       /* a queue file: one at a time */
    atomic_bool is_stopping;  /* none is begun, and the one under way ends; its job looks too */
    uint64_t entries_rebuilt; /* since the start */
    uint32_t rebuild_left_next;
    struct rebuild_left rebuild_left[REBUILD_LEFT_MAX]; /* the oldest is forgotten first */

    bool is_open;   /* the log is ready to append */
    bool is_replay; /* recovery is feeding apply */
    bool is_applying;
    uint64_t witnessed;            /* end of the last record that says all before it was durable */
    uint64_t apply_offset;         /* of the record being applied */
    struct queue **apply_releases; /* live: queues that its append reserved numbers in */
    uint32_t apply_release_count;
};

/* Words of the properties that the store itself looks at. */
struct message_keys {
    struct slice tags;
    struct slice uniq;
    struct slice keys;
};
void message_keys_scan(struct slice properties, struct message_keys *keys);

/*
 * Fill *rec from a record's envelope and payload, decoding a message. ESCROW_ECORRUPT when the
 * payload of a MESSAGE or HALF is none, or says it stands elsewhere.
 */
ESCROW_MUST_USE int store_record_fill(struct store_record *rec, const struct envelope *e,
                                      struct slice payload);

/* Enter a message or half into the key index under its UNIQ_KEY and its KEYS. */
void store_index_message(struct store *st, const struct store_record *rec, struct slice uniq,
                         struct slice keys);

/* One record of the log in recovery: update queues and index, show it to the owner. */
ESCROW_MUST_USE int store_replay(struct store *st, const struct store_record *rec, uint32_t crc,
                                 struct err_ctx *err);

/*
 * Recovery of a long log: write queue entries and index when memory is full of them. No checkpoint.
 */
ESCROW_MUST_USE int store_flush_replay(struct store *st, struct err_ctx *err);

/* Every record of a batch that is durable. */
ESCROW_MUST_USE int store_apply_batch(struct store *st, struct log_batch *batch,
                                      struct err_ctx *err);

/* Key under which a released half is marked in the index: empty topic, offset in 8 bytes. */
struct release_mark {
    uint8_t bytes[8];
};
struct slice release_mark_key(struct release_mark *mark, uint64_t half_offset);

/* ---- store_damage.c ---- */

/* Where a reader met damage. */
struct damage_met {
    uint64_t offset;           /* of the record; DAMAGE_NO_OFFSET: of the entry itself */
    const struct queue *queue; /* NULL: by its place in the log */
    uint64_t number;
};

/* Is this the error of a reader that met damage? */
static inline bool store_is_damage(int rc)
{
    return rc == ESCROW_ECORRUPT || rc == ESCROW_EIO;
}

/* Remember it, and tell the owner if it is new. err has the words. */
void store_note_damage(struct store *st, const struct damage_met *met, int rc,
                       const struct err_ctx *err);

/* key_index_options.lost: arg is the store. */
void store_note_index_lost(void *arg, const char *text);

/* A SKIPPED record is applied. */
ESCROW_MUST_USE int store_apply_skip(struct store *st, struct slice payload, struct err_ctx *err);

/* ---- store_rebuild.c ---- */

struct entry_ref;

/* What came of a run. */
enum rebuild_outcome {
    REBUILD_NONE, /* none, or it failed: the store remembers why */
    REBUILD_DONE,
    REBUILD_VOID, /* it was stopped, or the log lost its front: what is left may be rebuilt still */
};

/* A reader met a damaged entry. */
struct store_rebuild_ask {
    const struct entry_ref *ref;
    enum rebuild_outcome before; /* just now, for the same reader */
};

/*
 * May it be rebuilt? 0; ESCROW_ELIMIT: ask again, another file is being rebuilt, or retention took
 * the front of the log meanwhile; ESCROW_ECORRUPT: it was tried; ESCROW_ESHUTDOWN: not before the
 * next start. err says which file and where.
 */
ESCROW_MUST_USE int store_rebuild_may(const struct store *st, const struct store_rebuild_ask *ask,
                                      struct err_ctx *err);

/* The job: run it with queue_rebuild_run. ESCROW_ENOMEM. */
ESCROW_MUST_USE int store_rebuild_take(struct store *st, const struct entry_ref *ref,
                                       struct queue_rebuild **out);
enum rebuild_outcome store_rebuild_done(struct store *st, struct queue_rebuild **rebuild,
                                        bool has_run);

/* A checkpoint was written: what failed for want of space or memory may be tried again. */
void store_rebuild_again(struct store *st);

/* ---- store_retain.c: also for the checkpoint and recovery ---- */

ESCROW_MUST_USE int store_segments_encode(const struct store *st, struct buf *b);

/* What the checkpoint says of each segment; one without the section is of an older version. */
ESCROW_MUST_USE int store_segments_decode(struct segments *segs, const struct checkpoint *ckpt,
                                          int64_t now_ms, struct err_ctx *err);

/* Recovery's part of store_open: everything from the lock to the START record. */
ESCROW_MUST_USE int store_recover(struct store *st, struct store_recovery *recovery,
                                  struct err_ctx *err);

#endif
