/*
 * The store: commit log, consume queues, key index and checkpoint behind one door. Everybody above
 * core/store uses this header; the others of this folder are its parts.
 *
 * The store is passive. It makes no thread and asks for no clock. The loop appends (encodes into
 * memory); what has to touch the disk is packed into a *job*, which the loop takes, any one thread
 * runs, and the loop completes:
 *
 *     b = store_batch_take(st)         loop     what was appended since the last one
 *     rc = log_batch_run(b, err)       log thread (or inline when idle): one pwritev, one fdatasync
 *     store_batch_done(st, &b, err)    loop     watermarks rise; apply() for every record, in order
 *
 * A record changes nothing when it is appended: it becomes true in apply(), which is called with
 * the same records in the same order live and in recovery. The exceptions are numbers handed out in
 * advance (queue offsets), which apply() then finds to be what it would have chosen.
 *
 * Owns:    everything in it. Slices in a struct store_record are borrowed for the call.
 * Thread:  loop, except functions marked [job], which any one thread may run while the loop goes
 *          on.
 * Holds:   appended >= written >= durable >= visible; every queue's entries are in log order; space
 *          for every reservation of store_reserve_add is allocated on disk beyond `appended`.
 * Errors:  err (may be NULL) names file and offset. An error of class FATAL from a *_done function
 *          means: stop the process; nothing durable is lost, and a restart says what is wrong.
 */
#ifndef CORE_STORE_STORE_H
#define CORE_STORE_STORE_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/slice.h"
#include "core/io/disk.h"
#include "core/proto/record.h"
#include "core/store/envelope.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

/* ------------------------------------------------------------------ configuration and owner */

#define STORE_SEGMENT_BYTES_MIN (UINT64_C(1) << 20)
#define STORE_SEGMENT_BYTES_MAX (UINT64_C(1) << 32)

/* Part of the format: recovery relies on it when it searches behind a bad record. */
#define STORE_BATCH_BYTES_MAX ((size_t)32 << 20)

/*
 * Allocated log space that one undecided half keeps free for its decision, envelope and padding
 * included.
 */
#define STORE_DECISION_RESERVE 320u

/*
 * The same for one message held until it is due: the RELEASE record that holds it alone
 * (txn/release.h), without its topic.
 */
#define STORE_RELEASE_BYTES 83u

static inline uint64_t store_release_reserve(size_t topic_len)
{
    return envelope_padded(STORE_RELEASE_BYTES + topic_len);
}

struct store_config {
    /* Of a new store: multiple of 4096 within the bounds above. An existing store keeps its own. */
    uint64_t segment_bytes;
    /* Allocated space wanted beyond the end and the reservations; 0 = half a segment. */
    uint64_t ahead_bytes;
    /* Unwritten bytes before appends answer ESCROW_ELIMIT; at most STORE_BATCH_BYTES_MAX. */
    size_t batch_bytes_max;
    /* Log between two checkpoints, at least; also 4 x the size of the last one. */
    uint64_t checkpoint_bytes;
    uint64_t random_seed; /* for hash keys and, in a new store, its salt */
    uint32_t new_id;      /* random too: store_id of a new store */
    int64_t now_ms;       /* wall clock, for the START record */
};

/*
 * Defaults: 1 GiB, half a segment, 32 MiB, 64 MiB. random_seed, new_id and now_ms are the caller's
 * to set.
 */
void store_config_init(struct store_config *cfg);

/* A record as apply() sees it. */
struct store_record {
    uint64_t offset; /* physical; of its envelope */
    uint64_t end;    /* first byte behind it, padding included */
    uint32_t length; /* envelope and payload */
    uint32_t epoch;
    enum store_type type;
    bool is_more;   /* the next record belongs to the same atomic group */
    bool is_replay; /* recovery, not live */
    struct slice payload;
    void *cookie; /* what was given to the append; NULL in replay */

    /* MESSAGE, HALF and HELD only */
    struct slice topic;
    struct slice properties;
    uint32_t queue_id;
    int64_t queue_offset; /* -1 for a HALF and a HELD */
    int64_t tag_code;
    int64_t store_ms;
    uint64_t first; /* HALF and HELD: of a copy, where the message was first stored; otherwise 0 */
};

/* Sections that the owner puts into a checkpoint. */
struct store_sections;

struct store_release;
typedef void store_release_fn(void *fn_arg, const struct store_release *release);

/*
 * Begin the section `name` (1..16 characters, each name once; "log", "queues" and "index" are the
 * store's) and write into the buffer until the next call. NULL when out of memory: return
 * ESCROW_ENOMEM then.
 */
struct buf *store_section(struct store_sections *sections, const char *name);

struct store_damage;
struct store_rebuilt;

struct store_owner {
    void *arg;

    /*
     * A record is durable. Called once per record, in log order, also for messages (the store has
     * put a MESSAGE into its queue before). Never calls an append; may call store_release. START
     * and FILLER are not shown. Non-zero stops the process: ESCROW_ENOMEM, or ESCROW_ECORRUPT for a
     * payload that makes no sense.
     */
    int (*apply)(void *arg, const struct store_record *rec, struct err_ctx *err);

    /* Write the state that all records applied so far have made. May be NULL. */
    int (*checkpoint_save)(void *arg, struct store_sections *sections);

    /*
     * Some more of what checkpoint_save only left room for: as much as one turn of the loop has
     * time for. `bytes` is where the buffer of the sections begins now, and stays. Called at once
     * after checkpoint_save, then as long as it returns 1, with records applied in between: what it
     * writes is what held at checkpoint_save. 0: complete. ESCROW_ENOMEM: this checkpoint is given
     * up. May be NULL.
     */
    int (*checkpoint_more)(void *arg, uint8_t *bytes);

    /*
     * One section of the checkpoint; called for each before the first apply(). Unknown name:
     * ESCROW_EVERSION.
     */
    int (*checkpoint_load)(void *arg, struct slice name, struct slice data, struct err_ctx *err);

    /*
     * A reader met damage that was not known (see "damage"), on the loop; everything is borrowed.
     * May be NULL.
     */
    void (*damaged)(void *arg, const struct store_damage *damage);

    /* Entries of a queue were damaged, and what became of it; as above. */
    void (*rebuilt)(void *arg, const struct store_rebuilt *rebuilt);

    /*
     * A file of the key index was found damaged and given up, on the loop; text says which and
     * where. Messages whose place in the log it covered are not found by key until the next
     * store_open, which builds it again. May be NULL.
     */
    void (*index_lost)(void *arg, const char *text);

    /*
     * [job] For repair of the key index and of queues: call fn for every message that this DECISION
     * or RELEASE record puts into a queue, in order, as its apply() calls store_release, but with
     * the offset of the first record of a message that was carried. Changes nothing, uses nothing
     * but its arguments. May be NULL: such messages are then not found by key, and their entries
     * cannot be rebuilt.
     */
    int (*list_releases)(void *arg, enum store_type type, struct slice payload,
                         store_release_fn *fn, void *fn_arg);
};

/* What store_open found and did; for the log line and for tests. */
struct store_recovery {
    bool is_new;            /* no store was here */
    bool is_bare;           /* one was, but without a segment: never used, or its log was removed */
    uint64_t checkpoint;    /* log position of the checkpoint, where the scan began */
    uint64_t end;           /* where the log ended after recovery */
    uint64_t scanned_bytes; /* log bytes behind the checkpoint that were read as records */
    uint64_t records;       /* replayed */
    uint64_t cut_offset;    /* first physical offset that was cut */
    uint64_t cut_bytes;     /* bytes that were there and not zero; 0 = nothing was cut */
    uint64_t cut_records;   /* of these, valid records (an incomplete group) */
    char cut_reason[128];   /* "" when nothing was cut */
    char index_lost
        [ERR_TEXT_MAX]; /* why a file of the key index was dropped and built again, or "" */
    char queues_lost[ERR_TEXT_MAX]; /* a queue file that is missing or too short, or "" */
    uint64_t queue_files_lost;      /* how many: each is rebuilt from the log when it is read */
    uint64_t queue_entries_cut; /* entries ahead of the checkpoint, written again from the log */
    uint64_t segments_removed;  /* files of segments that had been given up before */
    uint32_t epoch;             /* the new one */
    uint64_t segment_bytes;
};

/*
 * Open or create. Takes the folder's lock, reads format and checkpoint, replays the rest of the log
 * through owner->apply, cuts a torn tail, and writes the START record of the new epoch (all of it
 * on the calling thread).
 *
 * *out is set before the first callback, which may use it for store_release and store_reserve_*,
 * and is NULL after an error. The disk is borrowed until store_close. *recovery
 * (may be NULL) is filled as far as it went, also on an error.
 * Errors: ESCROW_ELOCKED another process has the folder; ESCROW_EVERSION format, checkpoint or
 *         record type from another
 * version; ESCROW_ECORRUPT a record that had been durable is damaged or missing, with file and
 * offset: nothing has been changed; ESCROW_EROFS, ESCROW_ENOSPC, ESCROW_EIO, ESCROW_ENOMEM,
 * ESCROW_EINVAL (configuration).
 */
ESCROW_MUST_USE int store_open(struct disk *disk, const struct store_config *cfg,
                               const struct store_owner *owner, struct store **out,
                               struct store_recovery *recovery, struct err_ctx *err);

/*
 * Close. All jobs must have been completed, all fetches freed. Does not write: for a clean stop,
 * first run batches until store_batch_take returns NULL, then one store_flush_take(st, true). Sets
 * *st to NULL; NULL inside is fine.
 */
void store_close(struct store **st);

/* ------------------------------------------------------------------ append */

struct store_receipt {
    uint64_t offset;      /* physical offset of the record */
    int64_t queue_offset; /* MESSAGE: its place in the queue; otherwise -1 */
    uint64_t wait_for; /* the record is written (durable, visible) once that watermark is >= this */
};

/*
 * Errors of every append; nothing has changed then:
 *   ESCROW_ENOSPC   the disk is full: what is allocated is kept for decisions; or store_refuse
 *   ESCROW_ELIMIT   batch memory full, or the next segment is still being prepared: try again after
 *                   the next *_done
 *   ESCROW_ETOOBIG  does not fit in a segment, or breaks a limit of the record
 *   ESCROW_EINVAL   no topic, queue id out of range, host of a wrong size
 *   ESCROW_ENOMEM
 *   ESCROW_EIO      a batch failed: this store writes no more
 * STORE_DECISION and STORE_RELEASE (and nothing else) may use the space of store_reserve_add.
 */

/*
 * MESSAGE, HALF or HELD. f->queue_offset, physical_offset are ignored: the store assigns them (a
 * HALF and a HELD have queue offset 0, and PREPAREDTRANSACTIONOFFSET 0). One that is held for a
 * time says so in its property TIMER_OUT_MS: there has to be room for its RELEASE too, and readers
 * show it as stored then. Body, topic and properties are copied. The broker sets f->store_ms, which
 * should not go back from one append to the next, and sys_flag (PREPARED for a half). cookie comes
 * back in apply().
 */
ESCROW_MUST_USE int store_append_message(struct store *st, enum store_type type,
                                         const struct record_fields *f, void *cookie,
                                         struct store_receipt *out);

/*
 * The payload of a HALF or HELD record that is in the log, once more: it was first stored at
 * `first`, which the copy names as its PREPAREDTRANSACTIONOFFSET. No room is kept for its decision
 * or release: that was done for the first one. Fits also while store_refuse holds. Copied.
 * ESCROW_ECORRUPT: not a message record.
 */
ESCROW_MUST_USE int store_append_copy(struct store *st, enum store_type type, struct slice payload,
                                      uint64_t first, struct store_receipt *out);

/*
 * CHECK, TOPIC, OFFSETS, POSITION, GROUP: payload as the owner of the type defines it in FORMAT.md.
 * Copied.
 */
ESCROW_MUST_USE int store_append_raw(struct store *st, enum store_type type, struct slice payload,
                                     void *cookie, struct store_receipt *out);

/*
 * A record whose only content is its `synced`: everything before it was durable. Without one, a
 * damaged byte in the last batch cannot be told from a write that a crash tore. For the quiet after
 * work: nothing is in flight. Does nothing when the last record is one already, or begins an epoch.
 * 0, or ESCROW_ENOSPC, ESCROW_ENOMEM and the like, which do no harm.
 */
ESCROW_MUST_USE int store_append_witness(struct store *st);

struct store_queue_ref {
    struct slice topic;
    uint32_t queue_id;
};

/*
 * DECISION. `releases` names, in the order in which apply() of this record will call store_release,
 * the queue of every half that it makes visible (none for a rollback); the queue numbers are
 * reserved now, so that messages appended behind it get later ones. The record must not be longer
 * than STORE_DECISION_RESERVE for each half it decides.
 */
ESCROW_MUST_USE int store_append_decision(struct store *st, struct slice payload,
                                          const struct store_queue_ref *releases, size_t count,
                                          void *cookie, struct store_receipt *out);

/*
 * RELEASE: the same for messages that are due. At most store_release_reserve for each message it
 * names.
 */
ESCROW_MUST_USE int store_append_release(struct store *st, struct slice payload,
                                         const struct store_queue_ref *releases, size_t count,
                                         void *cookie, struct store_receipt *out);

/*
 * Atomic group: the appends between begin and end are in the log all or none, whatever crashes, and
 * become visible in one store_batch_done. Groups do not nest; no batch is taken while one is open.
 * abort takes back every append since begin (receipts and queue numbers included; not what the
 * caller added to the reserve or took from it). An error of an append inside leaves the group open:
 * abort it. end of an empty group does nothing.
 */
void store_group_begin(struct store *st);
void store_group_end(struct store *st);
void store_group_abort(struct store *st);

/*
 * Space for decisions and releases. The owner of the half table keeps reserved bytes == undecided
 * halves x STORE_DECISION_RESERVE (+ store_release_reserve for each message that is held for a
 * time): add right after the append of a HALF (which tested that there is room),
 * and in recovery when a half comes from the checkpoint or from apply(); sub when its decision is
 * appended. An expired half is still undecided and needs a second decision: give back its share
 * only with that one (the append of the first then also uses the reserve: add once more when it is
 * applied).
 */
void store_reserve_add(struct store *st, uint64_t bytes);
void store_reserve_sub(struct store *st, uint64_t bytes); /* bytes <= what is reserved */

/*
 * SKIPPED: from when it is applied, pulls go on behind damage at entries [first, end) of the queue,
 * which must exist. ESCROW_ENOTFOUND: they do not. ESCROW_ELIMIT also: too many ranges are in
 * force.
 */
struct store_skip {
    struct slice topic;
    uint32_t queue_id;
    int64_t first;
    int64_t end;
};
ESCROW_MUST_USE int store_append_skip(struct store *st, const struct store_skip *skip,
                                      struct store_receipt *out);

/* ------------------------------------------------------------------ watermarks */

struct store_watermarks {
    uint64_t first;    /* oldest byte of the log */
    uint64_t visible;  /* applied; what consumers may see */
    uint64_t durable;  /* synced */
    uint64_t written;  /* handed to the kernel */
    uint64_t appended; /* end of the log in memory */
};

struct store_watermarks store_watermarks(const struct store *st);
uint32_t store_epoch(const struct store *st);

/* Drawn when the store was made, kept in its format file: tells it from every other. No secret. */
uint32_t store_id(const struct store *st);

struct store_stats {
    uint64_t records_appended; /* since the start, by count and by bytes */
    uint64_t bytes_appended;
    uint64_t batches;         /* completed: one sync each, more when a batch crosses segments */
    uint64_t allocated_bytes; /* space behind `appended` that exists on disk */
    uint64_t reserved_bytes;  /* of it, kept for decisions */
    uint64_t batch_memory_bytes;
    uint64_t checkpoint_offset; /* of the last checkpoint: the next start replays what is behind */
    uint64_t segment_count;     /* files of the log */
    uint64_t segment_bytes;     /* of each */
    uint64_t segments_deleted;  /* since the start */
    uint64_t segments_stuck;    /* tries to delete one that failed; each is tried again */
    int64_t oldest_ms;          /* about when the oldest message was stored; 0 = there is none */
    uint64_t damaged;           /* places where damage was met, since the start */
    uint64_t damaged_stops;     /* of those that are known, entries at which a pull stops */
    uint64_t entries_rebuilt;   /* of queues, from the log, since the start */
    uint64_t skips;             /* ranges in which pulls go on behind damage */
    uint64_t index_lost;        /* files of the key index found damaged since the start */
    bool is_disk_full;          /* the last preparation of a segment found no space */
    bool is_refusing;           /* store_refuse */
};

struct store_stats store_stats(const struct store *st);

/* ------------------------------------------------------------------ jobs */

/* One write and one sync. At most one exists. */
struct log_batch;

/* NULL when nothing was appended, one is in flight, or a group is open. */
struct log_batch *store_batch_take(struct store *st);

/*
 * [job] write, then sync. The two halves are for asynchronous flush, where producers are answered
 * after the first. A failed batch must not be run again: ESCROW_EIO and the like are final.
 */
ESCROW_MUST_USE int log_batch_run(struct log_batch *batch, struct err_ctx *err);
ESCROW_MUST_USE int log_batch_write(struct log_batch *batch, struct err_ctx *err);
ESCROW_MUST_USE int log_batch_sync(struct log_batch *batch, struct err_ctx *err);

/*
 * After log_batch_write came back and before log_batch_sync does: raise `written`. Optional;
 * touches no field of the job.
 */
void store_batch_written(struct store *st);

/*
 * The batch has come back: raise written and durable, apply every record, raise visible. Takes the
 * batch. Returns the error of the run, or of apply; both FATAL, and no watermark rises beyond what
 * is true.
 */
ESCROW_MUST_USE int store_batch_done(struct store *st, struct log_batch **batch,
                                     struct err_ctx *err);

/* Give unused batch memory back. For the broker's idle timer. */
void store_trim(struct store *st);

/* Allocate the next segment. At most one exists. */
struct segment_job;

/*
 * NULL when enough is allocated, one is in flight, or the last one found the disk full less than a
 * second ago.
 */
struct segment_job *store_prepare_take(struct store *st, int64_t now_ms);
void segment_job_run(struct segment_job *job); /* [job] */

/*
 * Takes the job. 0 also when the disk is full (store_stats says so, appends answer ESCROW_ENOSPC).
 * Anything else is FATAL.
 */
ESCROW_MUST_USE int store_prepare_done(struct store *st, struct segment_job **job, int64_t now_ms,
                                       struct err_ctx *err);

/* Write queue entries, key index and a checkpoint. At most one exists. */
struct flush_job;

/*
 * NULL when too little was logged since the last one, one is in flight, or memory is short. `force`
 * asks for one whenever anything is newer than the last checkpoint. Calls owner->checkpoint_save.
 */
struct flush_job *store_flush_take(struct store *st, bool force);

/*
 * Before the job may run: write some more of the owner's state (owner->checkpoint_more). Bounded
 * work, for one turn of the loop; true while there is more. When memory is short the job is given
 * up, as if there had been none: *job is NULL then.
 */
ESCROW_MUST_USE bool store_flush_more(struct store *st, struct flush_job **job);
void flush_job_run(struct flush_job *job); /* [job] */

/*
 * Takes the job. 0; ESCROW_ENOSPC: nothing is lost, entries stay in memory, the old checkpoint
 * counts, and the next take tries again; anything else is FATAL.
 */
ESCROW_MUST_USE int store_flush_done(struct store *st, struct flush_job **job, struct err_ctx *err);

/* ------------------------------------------------------------------ apply time */

/* A held message becomes an entry of a queue. */
struct store_release {
    struct slice topic; /* the queue: of the message itself, or of the topic for expired halves */
    uint32_t queue_id;
    uint64_t half_offset;  /* physical offset of the HALF or HELD record */
    uint32_t payload_size; /* of that record: store_record.payload.len */
    int64_t tag_code;
    int64_t store_ms; /* of the message */
    int64_t at_ms;    /* of this release: retention counts from here */
};

/*
 * Only inside apply() of a DECISION or RELEASE, once per queue named in its append, in the same
 * order. *queue_offset is the entry's number. Readers get the payload with queue offset and store
 * time (TIMER_OUT_MS, if that is later) patched, of a half also transaction bits and prepared
 * offset. After the release key look-ups find it too.
 * ESCROW_ENOMEM, ESCROW_ECORRUPT (replay: the offset is not in the log).
 */
ESCROW_MUST_USE int store_release(struct store *st, const struct store_release *release,
                                  int64_t *queue_offset, struct err_ctx *err);

/*
 * Only inside apply(), of the record that deletes the topic: none of its messages is there any
 * more, their queue files go with the next checkpoint. Numbers go on where they were when the topic
 * comes back.
 */
void store_drop_topic(struct store *st, struct slice topic);

/* ------------------------------------------------------------------ retention */

/*
 * The store gives up the front of its log, whole segments, when it is told to;
 * core/store/retention.h decides which. FORMAT.md, "Deletion", has the order on disk:
 *
 *     job = store_retain_take(st, first)     loop
 *     retain_job_run(job)                    pool   find each queue's first entry that stays
 *     rc = store_retain_done(st, &job, err)  loop   from now on nobody reads below `first`
 *     store_flush_take ...                          a checkpoint says so; then files are unlinked
 */
struct store_segment {
    uint64_t first;
    int64_t begin_ms; /* store time of its first message; 0 = it has none */
    int64_t used_ms;  /* the last time one was stored in it, or released from it; 0 = none */
};

/*
 * The oldest segments that the log could do without, oldest first: never the one that holds the
 * last record. What the owner still needs of them is the owner's to know.
 */
uint32_t store_segments(const struct store *st, struct store_segment *rows, uint32_t max);

/* The clock was ahead once: no segment was of use later than now. */
void store_segments_not_after(struct store *st, int64_t now_ms);

struct retain_job;

/*
 * `first` is the beginning of a segment, at most that of the last record's. NULL: a flush or
 * another one is under way, there is nothing to give up, or memory is short. Also tries again to
 * unlink what could not be before.
 */
struct retain_job *store_retain_take(struct store *st, uint64_t first);
void retain_job_run(struct retain_job *job); /* [job] */

/* Takes the job. An error of the disk: nothing has changed, and it may be tried again. */
ESCROW_MUST_USE int store_retain_done(struct store *st, struct retain_job **job,
                                      struct err_ctx *err);

/*
 * From now on (until told otherwise) new messages, halves and messages held for a time are answered
 * ESCROW_ENOSPC; everything else still fits.
 */
void store_refuse(struct store *st, bool is_refusing);

/* ------------------------------------------------------------------ damage */

/*
 * An entry of a queue that is damaged, or whose file is missing, is rebuilt from the log by the
 * first reader with a fetch who meets it, all that is bad in its file at once; the owner is told
 * (store_owner.rebuilt). ESCROW_ELIMIT of a reading function: ask again, another file is being
 * rebuilt, or this one could not be written yet, or the front of the log was given up meanwhile.
 * ESCROW_ESHUTDOWN: store_stop_rebuilds.
 */
struct store_rebuilt {
    struct slice topic;
    uint32_t queue_id;
    int64_t first;    /* the first one that was damaged */
    uint32_t count;   /* that were rebuilt; */
    uint32_t left;    /* that could not be: damage from now on */
    const char *text; /* file, entry, byte in it */
    const char *why;  /* some are left, or "" */
};

/*
 * The process is about to end: from now on nothing is rebuilt. A run that is under way ends before
 * its next record, and readers who need one are answered ESCROW_ESHUTDOWN. Nothing is lost and
 * nothing is told: what is damaged is rebuilt when it is read after the next store_open.
 */
void store_stop_rebuilds(struct store *st);

/*
 * A record behind the checkpoint that is not what was written, or that the disk cannot read; or an
 * entry of a queue that could not be rebuilt. Whoever reads it gets ESCROW_ECORRUPT or ESCROW_EIO,
 * every time; the owner is told once for each place (store_owner.damaged). Nothing is removed and
 * nothing is delivered: a pull stops there until the file is put right, or a SKIPPED record lets it
 * go on. What reads well inside of a skip is delivered as ever.
 */
struct store_damage {
    uint64_t offset; /* of the record; UINT64_MAX: the entry itself is damaged */
    bool has_entry;  /* the rest but `error` and `text` is known */
    bool is_skipped; /* a SKIPPED record covers it */
    uint32_t queue_id;
    int64_t queue_offset;
    struct slice topic;
    int error;        /* ESCROW_ECORRUPT or ESCROW_EIO */
    const char *text; /* file, offset in it, reason */
};

/* Places that are remembered at a time; beyond them nothing is told or counted any more. */
#define STORE_DAMAGED_MAX 1024u

/* Places that are known; *cursor starts at 0; false at the end. */
bool store_damage_next(const struct store *st, uint64_t *cursor, struct store_damage *out);

/* Ranges in force; *cursor starts at 0; false at the end. The topic is borrowed. */
bool store_skips_next(const struct store *st, uint64_t *cursor, struct store_skip *out);

/* Is the record at this place known to be damaged? */
bool store_is_damaged(const struct store *st, uint64_t offset);

/* ------------------------------------------------------------------ reading */

/*
 * All reading happens on the loop, from memory or from the page cache. What is not there would
 * block: the call then returns ESCROW_EAGAIN and has noted in the fetch what it needs. Run the
 * fetch in the pool and call again with the same fetch and the same arguments, until it is no
 * longer ESCROW_EAGAIN:
 *
 *     while ((rc = store_pull(st, &req, fetch, &res, err)) == ESCROW_EAGAIN) pool:
 *     store_fetch_run(fetch)
 *
 * Each round reads at least one new block and keeps those it has, so it ends. A fetch of NULL asks
 * once: ESCROW_EAGAIN then means "make a fetch". A fetch may be kept for the next read of the same
 * consumer: it reads ahead. Its memory is bounded by STORE_FETCH_BYTES_MAX plus one record.
 */
struct store_fetch;

#define STORE_FETCH_BYTES_MAX ((size_t)1 << 20)

/* NULL when out of memory. */
struct store_fetch *store_fetch_new(struct store *st);
void store_fetch_run(struct store_fetch *fetch);   /* [job]; an error shows in the next call */
void store_fetch_free(struct store_fetch **fetch); /* not while it runs; NULL inside is fine */

/* Which entries does the reader want? NULL = all. */
typedef bool store_filter_fn(void *arg, int64_t tag_code);

/*
 * Which of those, once the message is at hand (its record was checked, its slices are borrowed)?
 * NULL = all. STORE_STOP ends the pull before this message: enough was looked at. The first one of
 * a pull may not be stopped at, or nobody gets further.
 */
enum store_match { STORE_SKIP, STORE_TAKE, STORE_STOP };
struct store_record;
typedef enum store_match store_match_fn(void *arg, const struct store_record *rec);

struct store_pull_request {
    struct slice topic;
    uint32_t queue_id;
    int64_t offset;
    uint32_t count_max; /* 1..PULL_MESSAGES_MAX */
    size_t bytes_max;   /* of bodies; the first message always fits */
    store_filter_fn *filter;
    store_match_fn *match;
    void *filter_arg; /* of both */
};

enum store_pull_status {
    STORE_PULL_FOUND,       /* at least one message */
    STORE_PULL_NO_MATCH,    /* entries were looked at, none was wanted (or still there): go on at
                            next_offset */
    STORE_PULL_NO_QUEUE,    /* nothing was ever in this queue */
    STORE_PULL_AT_END,      /* offset == max_offset: wait */
    STORE_PULL_BEYOND_END,  /* offset > max_offset */
    STORE_PULL_BEFORE_FIRST /* offset < min_offset */
};

struct store_pull_result {
    enum store_pull_status status;
    uint32_t count;
    int64_t next_offset;
    int64_t min_offset;
    int64_t max_offset;
    int64_t last_store_ms; /* of the last message found; 0 when none */
};

/*
 * Append the records of a PULL answer to *body, back to back, as RocketMQ clients expect them.
 * Every byte was checked against its checksum. 0 or ESCROW_EAGAIN; ESCROW_ECORRUPT (err names file
 * and offset; messages before the bad one are delivered first, the error comes when it is the
 * first, and the queue offset of the bad one is then the one that was asked for), ESCROW_EIO (the
 * same), ESCROW_ENOMEM; ESCROW_ELIMIT: *body is full before the first. On an error *body is as
 * before. Where a SKIPPED record allows it, damage is passed over instead.
 */
ESCROW_MUST_USE int store_pull(struct store *st, const struct store_pull_request *req,
                               struct store_fetch *fetch, struct buf *body,
                               struct store_pull_result *res, struct err_ctx *err);

/*
 * The record at a physical offset, whatever its type. The bytes are copied to *scratch (cleared
 * first), which rec's slices point into. ESCROW_ENOTFOUND: no record begins there, or it is not
 * visible yet; ESCROW_EAGAIN; ESCROW_EIO; ESCROW_ENOMEM. An offset that came from a client may
 * point into the middle of a record: that is ESCROW_ENOTFOUND, not corruption.
 */
ESCROW_MUST_USE int store_read_record(struct store *st, uint64_t offset, struct store_fetch *fetch,
                                      struct buf *scratch, struct store_record *rec,
                                      struct err_ctx *err);

/*
 * The same for an offset at which a record is known to begin, because a table says so: that none
 * does is damage then, and damage is noted. ESCROW_ENOTFOUND: not visible yet, or given up.
 */
ESCROW_MUST_USE int store_read_known(struct store *st, uint64_t offset, struct store_fetch *fetch,
                                     struct buf *scratch, struct store_record *rec,
                                     struct err_ctx *err);

/*
 * The message at an offset of a queue, as store_pull would deliver it (released halves patched).
 * ESCROW_ENOTFOUND too when the offset is outside [min, max), or retention took the message.
 */
struct store_entry_ref {
    struct slice topic;
    uint32_t queue_id;
    int64_t offset;
};
ESCROW_MUST_USE int store_read_entry(struct store *st, const struct store_entry_ref *entry,
                                     struct store_fetch *fetch, struct buf *scratch,
                                     struct store_record *rec, struct err_ctx *err);

/*
 * May this HALF or HELD be shown to consumers and look-ups: has store_release been called for it?
 * ESCROW_EAGAIN; 1 yes, 0 no.
 */
ESCROW_MUST_USE int store_half_is_released(struct store *st, uint64_t half_offset,
                                           struct store_fetch *fetch, struct err_ctx *err);

/*
 * [min, max) of a queue. false, and both 0, when nothing was ever in it. Behind min there may be
 * messages that retention took too: of halves and messages held for a time, whose records are older
 * than their place in the queue. A pull goes on behind them.
 */
bool store_queue_range(const struct store *st, const struct store_queue_ref *queue,
                       int64_t *min_offset, int64_t *max_offset);

/*
 * The first offset whose message was stored at or after `time_ms`; max when there is none.
 * ESCROW_ENOTFOUND: no such queue.
 */
ESCROW_MUST_USE int store_offset_by_time(struct store *st, const struct store_queue_ref *queue,
                                         int64_t time_ms, struct store_fetch *fetch,
                                         int64_t *offset, struct err_ctx *err);

/*
 * Messages of a topic with a key (UNIQ_KEY or a word of KEYS), newest first. Fills at most `max`
 * physical offsets of visible messages and released halves, each verified against its record.
 * ESCROW_EAGAIN as with every read.
 */
struct store_key_query {
    struct slice topic;
    struct slice key;
    int64_t begin_ms; /* store time, both ends included */
    int64_t end_ms;
    uint32_t max;
};
ESCROW_MUST_USE int store_query_key(struct store *st, const struct store_key_query *query,
                                    struct store_fetch *fetch, uint64_t *offsets, uint32_t *count,
                                    struct err_ctx *err);

/* Walks everything and CHECKs the invariants; for tests and debug builds. */
void store_check(const struct store *st);

#endif
