/*
 * Key index: from topic + key (+ time range) to the records that carry the key. FORMAT.md, "Key
 * index", has the bytes.
 *
 * Entries gather in memory buffers of KEY_INDEX_FILE_ENTRIES; a full one is sealed, and a flush job
 * writes it as an immutable file `index/<begin, 20 digits>-<end, 20 digits>`, sorted by hash. Files
 * name the range of the log they cover; ranges tile the log, so the folder describes itself. The
 * buffer that is not full yet rides in the checkpoint. More than KEY_INDEX_MERGE_FILES files of one
 * level are merged into one of the next level by a later flush, so that a lookup opens few files.
 *
 * A long replay fills buffers as live traffic does: run a flush inline whenever one is due, or puts
 * beyond KEY_INDEX_SEALED_MAX buffers are dropped.
 *
 * The index is a help, not the truth: a file that is missing or fails its checksum never stops the
 * start. It is dropped, and its range of the log is a gap: key_index_gap() tells, the fill
 * functions below repair it from the log.
 *
 * Owns:    buffers, file handles (all open, a few dozen), jobs until done.
 * Thread:  loop, except *_run of a job: any one thread.
 * Errors:  key_index_put cannot fail: without memory the entry is dropped, counted, and the range
 *          becomes a gap.
 * Holds:   files and buffers are ordered by range and do not overlap; at most one flush exists.
 *          key_index_check().
 */
#ifndef CORE_STORE_KEY_INDEX_H
#define CORE_STORE_KEY_INDEX_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/io/disk.h"

#include <stdbool.h>
#include <stdint.h>

#define KEY_INDEX_SECTION      "index"        /* name of the checkpoint's section */
#define KEY_INDEX_FILE_ENTRIES (128u * 1024)  /* a buffer is sealed at this many: 3 MiB */
#define KEY_INDEX_MERGE_FILES  16u            /* of one level that stay, and that one merge takes */
#define KEY_INDEX_LEVEL_MAX    2u             /* 33 million entries: a merge needs 800 MB more */
#define KEY_INDEX_MERGE_STEP   (1400u * 1024) /* entries one flush merges: 32 MiB */
#define KEY_INDEX_SEALED_MAX   64u          /* 300 MiB wait for a flush; beyond, puts are dropped */
#define KEY_INDEX_HITS_MAX     1024u        /* results of one lookup */
#define KEY_INDEX_LINK_MAX     (64u * 1024) /* entries that one call of a lookup puts in order */

struct key_index;

/* A file is damaged; text says which, where and how. */
typedef void key_index_damage_fn(void *arg, const char *text);

struct key_index_options {
    struct disk *disk;         /* borrowed, outlives the index */
    uint64_t log_min;          /* first offset the log has: as key_index_trim */
    uint32_t file_entries;     /* 0 = KEY_INDEX_FILE_ENTRIES; small in tests */
    uint32_t merge_files;      /* 0 = KEY_INDEX_MERGE_FILES; at least 2 */
    key_index_damage_fn *lost; /* a look-up or a merge met damage: once for a file, which is a gap
                                  from now on; on the loop. May be NULL */
    void *lost_arg;
};

/* What key_index_open found, for log lines. */
struct key_index_report {
    uint64_t file_count;
    uint64_t entry_count;       /* in files */
    uint64_t tail_count;        /* taken from the checkpoint */
    uint64_t dropped_count;     /* bad files: removed */
    uint64_t gap_count;         /* ranges of the log that are not indexed (key_index_gap) */
    char dropped[ERR_TEXT_MAX]; /* why, for the first dropped file; "" when none */
};

/*
 * Read the folder and the checkpoint's section (empty without a checkpoint, or when it had none).
 * Changes nothing on the disk: what is bad, replaced or left over is unlinked by the first flush.
 * ESCROW_ENOMEM, ESCROW_EIO, ESCROW_EVERSION (a file of a newer format), ESCROW_ECORRUPT (the
 * section).
 */
ESCROW_MUST_USE int key_index_open(struct key_index **out, const struct key_index_options *options,
                                   struct slice section, struct key_index_report *report,
                                   struct err_ctx *err);

/*
 * Read every page of every file: damage that a look-up would meet. Blocks. fn is called for each
 * file that is damaged, with the first place. ESCROW_ENOMEM, or what the disk answers.
 */
ESCROW_MUST_USE int key_index_verify(const struct key_index *ix, key_index_damage_fn *fn, void *arg,
                                     struct err_ctx *err);

/* No job may be under way. NULL inside is fine. */
void key_index_free(struct key_index **ix);

/*
 * Everything below this log offset is indexed (but for gaps). After key_index_open it is at least
 * the position of the checkpoint whose section was given, and may be more; a log that ends below it
 * has lost durable records.
 */
uint64_t key_index_end(const struct key_index *ix);

/*
 * `at`: physical offset of the log record being applied, never lower than before; a record below
 * key_index_end() as it was after open is indexed already, and ignored. `offset`, `store_ms`: the
 * record to find, which is an older one when `at` releases a held message. Any topic, any key.
 * Costs a hash and two cache lines.
 */
void key_index_put(struct key_index *ix, uint64_t at, uint64_t offset, int64_t store_ms,
                   struct slice topic, struct slice key);

/* The hash on disk, of topic and key (FORMAT.md): fixed for ever. */
uint64_t key_index_hash(struct slice topic, struct slice key);

/* Entries dropped for want of memory since the start. */
uint64_t key_index_lost_count(const struct key_index *ix);

/* Give back the memory kept for the next buffer (4 MiB); for an idle timer. */
void key_index_shrink(struct key_index *ix);

/* ---- lookup ---- */

struct key_index_query {
    struct slice topic; /* borrowed until find_take returns, like key */
    struct slice key;
    int64_t begin_ms; /* both inclusive */
    int64_t end_ms;
    uint64_t log_min;   /* first offset the log still has; what is below is skipped */
    uint32_t count_max; /* 1..KEY_INDEX_HITS_MAX */
};

struct key_index_hit {
    uint64_t offset;
    int64_t store_ms;
};

struct key_index_find;

/*
 * A lookup job. ESCROW_ENOMEM, ESCROW_EINVAL (count_max). Several may be under way. ESCROW_EAGAIN:
 * much was put since the last one, and has to be put in order first; call again in another turn of
 * the loop, each does some of it.
 */
ESCROW_MUST_USE int key_index_find_take(struct key_index *ix, const struct key_index_query *query,
                                        struct key_index_find **out);

/*
 * Reads files, newest first. ESCROW_EIO, ESCROW_ENOMEM; ESCROW_ECORRUPT when a page fails its
 * checksum: what was found elsewhere is still there, and the file is a gap after done.
 */
ESCROW_MUST_USE int key_index_find_run(struct key_index_find *find, struct err_ctx *err);

/*
 * After run: candidates, the latest put first; borrowed until done. The caller compares the
 * record's topic and keys.
 */
const struct key_index_hit *key_index_find_hits(const struct key_index_find *find, uint32_t *count);

/* Frees the job, sets *find NULL (NULL inside is fine). */
void key_index_find_done(struct key_index_find **find);

/* ---- flush ---- */

struct key_index_flush;

/* A buffer is full, or files wait to be unlinked; false while a flush is under way. */
bool key_index_flush_is_due(const struct key_index *ix);

/*
 * Takes the sealed buffers, and the next KEY_INDEX_MERGE_STEP entries of a merge if one is due or
 * under way: a big merge is spread over many flushes. CHECKs that no other flush is under way.
 * ESCROW_ENOMEM: nothing has changed.
 */
ESCROW_MUST_USE int key_index_flush_take(struct key_index *ix, struct key_index_flush **out);

/*
 * Write, sync, rename. As queues_flush_run: ESCROW_ENOSPC may be tried again, anything else stops
 * the process. A merge that finds no space, no memory or a bad page is given up without an error,
 * and tried again much later.
 */
ESCROW_MUST_USE int key_index_flush_run(struct key_index_flush *flush, struct err_ctx *err);

/* As queues_flush_done. */
void key_index_flush_done(struct key_index_flush **flush, int rc);

/* Retention: the log begins at log_min now. Files wholly below go with the next flush. */
void key_index_trim(struct key_index *ix, uint64_t log_min);

/* ---- checkpoint ---- */

/*
 * Append the section's bytes: the entries that will be in no file when `flush` (taken just before,
 * in the same turn) has succeeded. `position`: the log is applied up to here. ESCROW_ENOMEM when
 * the buffer failed.
 */
ESCROW_MUST_USE int key_index_encode(const struct key_index *ix,
                                     const struct key_index_flush *flush, uint64_t position,
                                     struct buf *b);

/* ---- gaps ---- */

/*
 * The lowest gap that reaches above `from`: false when there is none. Ranges are [*begin, *end) of
 * the log.
 */
bool key_index_gap(const struct key_index *ix, uint64_t from, uint64_t *begin, uint64_t *end);

/*
 * Fill a gap, or the front part of one, from the log: start, then put every record of [begin, end)
 * with at in that range, then finish. Nothing else may be put meanwhile, so do it before the
 * replay. The result is flushed like any other buffer.
 */
void key_index_fill_start(struct key_index *ix, uint64_t begin, uint64_t end);
void key_index_fill_finish(struct key_index *ix);

/* Asserts what "Holds" says. */
void key_index_check(const struct key_index *ix);

#endif
