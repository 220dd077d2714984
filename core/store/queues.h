/*
 * The set of all consume queues, by topic and queue id, with their files
 * `queues/<topic>/<id>/<first byte, 20 digits>`. FORMAT.md, "Consume queues", has the bytes.
 *
 * New entries stay in memory. A flush job writes those of busy queues (and of queues that went
 * quiet) to their files; the few entries of the others ride in the checkpoint, so that 10,000 slow
 * queues do not cost 10,000 syncs per checkpoint. Order of a checkpoint, all of it in the store's
 * hands:
 *
 *     loop  queues_flush_take; queues_encode into the checkpoint's section
 *     job   queues_flush_run (write, sync); replace the checkpoint; queues_flush_trim (unlink what
 *           it no longer names)
 *     loop  queues_flush_done
 *
 * A flush without a checkpoint is take, run, done. It writes only when queues_flush_is_due(), to
 * bound memory: entries in a file beyond the count in the checkpoint are cut at the next start and
 * come back from the log.
 *
 * A long replay puts entries as live traffic does: run a flush inline whenever one is due.
 *
 * Retention is queue_set_min() of queue.h: the files below go with the next checkpoint, the last
 * one too when nothing is left.
 *
 * Owns:    every struct queue, their chunks, read handles of files (bounded, least recently used
 *          closed first).
 * Thread:  loop, except *_run and *_trim of a job: any one thread. A struct queue lives as long as
 *          the set.
 * Errors:  ESCROW_ENOMEM leaves everything as it was.
 * Holds:   each queue is in the dirty list iff it has pending entries and no flush has taken all of
 *          them; at most one flush job exists; pending_count is the sum over all queues.
 *          queues_check() asserts it.
 */
#ifndef CORE_STORE_QUEUES_H
#define CORE_STORE_QUEUES_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/hash.h"
#include "core/base/slice.h"
#include "core/io/disk.h"
#include "core/store/queue.h"

#define QUEUES_SECTION "queues" /* name of the checkpoint's section */

#define QUEUES_FILES_OPEN_MAX  256u       /* default of queues_options.files_open_max */
#define QUEUES_TAIL_MAX        1024u      /* entries of one queue that may ride in the checkpoint */
#define QUEUES_TAIL_TOTAL_MAX  (1u << 20) /* and of all queues together: 20 MB */
#define QUEUES_PENDING_MAX     (2u << 20) /* entries in memory that make a flush due: 40 MB */
#define QUEUES_QUIET_FLUSH_MAX 256u       /* quiet queues one flush may write: bounds its syncs */

struct queues;

struct queues_options {
    struct disk *disk;        /* borrowed, outlives the set */
    struct hash_key hash_key; /* of the map of topics */
    uint32_t files_open_max;  /* 0 = QUEUES_FILES_OPEN_MAX */
};

ESCROW_MUST_USE int queues_new(struct queues **out, const struct queues_options *options);

/* No job may be under way. NULL inside is fine. */
void queues_free(struct queues **qs);

/* ---- the map ---- */

/* NULL when there is no such queue. */
struct queue *queues_find(const struct queues *qs, struct slice topic, uint32_t id);

/*
 * Find or create. Touches no file. Returns 0, ESCROW_ENOMEM, ESCROW_ELIMIT (too many topics), or
 * ESCROW_EINVAL: topic empty or longer than RETRY_TOPIC_LEN_MAX, or id >= QUEUES_PER_TOPIC_MAX. The
 * name may hold any byte: the folder name is an encoding of it.
 */
ESCROW_MUST_USE int queues_get(struct queues *qs, struct slice topic, uint32_t id,
                               struct queue **out);

/* Name of the queue's topic; valid as long as the set. */
struct slice queue_topic(const struct queue *q);

uint64_t queues_count(const struct queues *qs);

/* The topic is gone, and with it every entry that is visible: as queue_set_min of each queue. */
void queues_drop_topic(struct queues *qs, struct slice topic);

/*
 * Iterate over all queues, in no order; {0} to begin, NULL at the end. Do not queues_get meanwhile.
 */
struct queues_cursor {
    size_t topic;
    uint32_t id;
};
struct queue *queues_next(const struct queues *qs, struct queues_cursor *cursor);

/* ---- entries ---- */

/*
 * Numbers are handed out with queue_reserve (queue.h), and taken back with queue_unreserve; then,
 * when the record is applied, the entry is put here. Live and in recovery alike. Returns the
 * entry's number.
 */
uint64_t queues_put(struct queues *qs, struct queue *q, const struct queue_entry *entry);

/*
 * Up to count_max entries from number `first`, without waiting for a device. 0 with *got >= 1
 * (fewer than asked for at `visible`, or where the next one is cold); ESCROW_ENOTFOUND when `first`
 * is below min or not below visible; ESCROW_EAGAIN when the first one is cold: use a read job;
 * ESCROW_EIO, ESCROW_ECORRUPT (the first one is missing in its file, or damaged). The reader of the
 * record still compares topic and queue id (FORMAT.md, Q6).
 */
ESCROW_MUST_USE int queues_read_nowait(struct queues *qs, const struct queue *q, uint64_t first,
                                       uint32_t count_max, struct queue_entry *entries,
                                       uint32_t *got);

/*
 * The same as a job, for what is cold. The struct is the caller's, embedded in its own job; only
 * `entries` and `got` are for reading. It reads up to the end of one file, so that *got may be less
 * than count_max.
 */
struct queues_read {
    struct queue_entry *entries; /* the caller's, borrowed until queues_read_done */
    uint32_t got;
    uint32_t count;
    uint64_t first;
    struct queues *set;
    const struct queue *queue;
    struct queue_file *file;  /* pinned handle of the set, or NULL */
    struct disk_file *opened; /* opened by this job; given to the set by done */
};

/* ESCROW_ENOTFOUND as above. On an error the job does not exist: neither run nor done. */
ESCROW_MUST_USE int queues_read_take(struct queues *qs, const struct queue *q, uint64_t first,
                                     uint32_t count_max, struct queue_entry *entries,
                                     struct queues_read *read);
/*
 * ESCROW_ENOTFOUND: no such file: retention removed it meanwhile, or, when `first` is not below
 * min, somebody else did.
 */
ESCROW_MUST_USE int queues_read_run(struct queues_read *read, struct err_ctx *err);
void queues_read_done(struct queues_read *read);

/* Its file `number` may be another one now: close the handle. */
void queues_reopen(struct queues *qs, const struct queue *q, uint32_t number);

/*
 * Store time of the record at a physical offset: 0, ESCROW_EAGAIN when it is cold, or another
 * error.
 */
typedef int queues_store_ms_fn(void *arg, const struct queue_entry *entry, int64_t *store_ms);

/*
 * Drive `search` (begun with queue_search_begin) as far as memory allows. 0: search->low is the
 * answer. ESCROW_EAGAIN: the entry queue_search_next names, or its record, is cold; fetch, feed,
 * and call again. Any other error ends the search.
 */
ESCROW_MUST_USE int queues_search(struct queues *qs, const struct queue *q,
                                  struct queue_search *search, queues_store_ms_fn *store_ms,
                                  void *arg);

/* ---- flush ---- */

struct queues_flush;

/* Entries in memory that are in no file. */
uint64_t queues_pending_count(const struct queues *qs);

/*
 * So much is pending that a flush is wanted now, checkpoint or not; false while one is under way.
 */
bool queues_flush_is_due(const struct queues *qs);

/* CHECKs that no other flush is under way. ESCROW_ENOMEM: nothing has changed, *out is NULL. */
ESCROW_MUST_USE int queues_flush_take(struct queues *qs, struct queues_flush **out);

/*
 * Write and sync. After an error the files may hold anything beyond the flushed counts.
 * ESCROW_ENOSPC may be tried again later with a new flush; anything else must stop the process (a
 * failed sync is never retried).
 */
ESCROW_MUST_USE int queues_flush_run(struct queues_flush *flush, struct err_ctx *err);

/*
 * The checkpoint encoded with this flush is durable: unlink files below the min it names, and
 * folders that are empty then. Returns how many could not be unlinked: worth a warning, no more;
 * the next start removes them.
 */
uint32_t queues_flush_trim(struct queues_flush *flush);

/*
 * rc is the result of run, or of what followed it. With 0 the entries are read from files from now
 * on, otherwise all of them stay pending. Frees the job, sets *flush NULL (NULL inside is fine).
 */
void queues_flush_done(struct queues_flush **flush, int rc);

/* ---- checkpoint and start ---- */

/*
 * Append the section's bytes: every queue as it is now, on the assumption that `flush` (taken just
 * before, in the same turn) succeeds. Also notes in `flush` what trim may unlink. ESCROW_ENOMEM
 * when the buffer failed.
 */
ESCROW_MUST_USE int queues_encode(struct queues *qs, struct queues_flush *flush, struct buf *b);

/*
 * Fill an empty set from the section. ESCROW_ECORRUPT or ESCROW_ENOMEM: free the set. The bytes may
 * be anything.
 */
ESCROW_MUST_USE int queues_decode(struct queues *qs, struct slice section, struct err_ctx *err);

/* What was found and done, for one log line. */
struct queues_open_report {
    uint64_t file_count;   /* files in use */
    uint64_t cut_count;    /* files with entries beyond the checkpoint's count, cut */
    uint64_t cut_entries;  /* in these and in unlinked files beyond the count */
    uint64_t unlink_count; /* files of no queue of the checkpoint, below min, or beyond the count */
    uint64_t lost_count;   /* files that are missing, or too short: */
    char lost[ERR_TEXT_MAX]; /* the first of them, or "" */
};

/*
 * Once, after queues_decode (or on an empty set, without a checkpoint): are all files there and
 * long enough? Changes nothing on the disk. Those that are not are counted and named: reading them
 * is an error (queue_rebuild.h). ESCROW_EIO, ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int queues_verify(struct queues *qs, struct queues_open_report *report,
                                  struct err_ctx *err);

/*
 * After queues_verify and before anything is put: cut what is beyond the counts and unlink files
 * nobody names. Both come back from the log. Names that no queue could have are left alone.
 */
ESCROW_MUST_USE int queues_cut(struct queues *qs, struct queues_open_report *report,
                               struct err_ctx *err);

/* Asserts what "Holds" says, for every queue. */
void queues_check(const struct queues *qs);

#endif
