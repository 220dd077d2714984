/*
 * Reading without waiting, and the fetch that waits instead. store.h, "reading", has the contract;
 * this header is for reader.c and lookup.c only.
 *
 * Owns:    a struct store_fetch its block of log bytes, its queue entries, the handle it opened,
 *          its index look-up.
 * Thread:  loop, but store_fetch_run.
 * Holds:   at most one wish is open; a block never reaches beyond what was visible when it was
 *          wished for, so that it never goes stale.
 */
#ifndef CORE_STORE_FETCH_H
#define CORE_STORE_FETCH_H

#include "core/store/store_private.h"

#define FETCH_ENTRIES 1024u
/* What a wish reads at least: a backlog is read in big pieces. */
#define FETCH_AHEAD_BYTES ((size_t)256 << 10)

enum fetch_wish {
    FETCH_NOTHING = 0,
    FETCH_LOG,
    FETCH_QUEUE,
    FETCH_INDEX,
    FETCH_REBUILD, /* of a queue file in which an entry was damaged */
};

/* The look-up of several steps that is under way. */
enum fetch_op {
    FETCH_OP_NONE = 0,
    FETCH_OP_SEARCH, /* store_offset_by_time */
    FETCH_OP_QUERY,  /* store_query_key */
};

struct store_fetch {
    struct store *st;
    enum fetch_wish wish;
    bool has_run;
    /*
     * Something that was read ahead could not be read: from now on only what is asked for is read,
     * so that an error belongs to it and to nothing beside it.
     */
    bool is_narrow;
    int rc;
    struct err_ctx err;
    int bad_rc; /* of `wish` bad_wish: what it asked for cannot be read. 0 = nothing is known */
    enum fetch_wish bad_wish;

    /* log: a block, and how it is read */
    uint8_t *buf;
    size_t cap;
    size_t len;
    uint64_t at;
    struct disk_file *file;   /* pinned, or NULL: */
    struct disk_file *opened; /* the job opens it for itself */

    /* queue */
    struct queue_entry *entries; /* FETCH_ENTRIES, allocated with the first wish */
    uint32_t entry_count;
    uint64_t entry_first;
    const struct queue *queue;
    struct queues_read read;

    /* rebuild */
    struct queue_rebuild *rebuild;
    const struct queue *rebuild_queue; /* the entry it was last wished for */
    uint64_t rebuild_number;
    enum rebuild_outcome rebuild_outcome; /* once is enough */

    /* index */
    struct key_index_find *find;
    uint64_t find_hash; /* of what `find` has found, when it has run */

    /* the operation under way: its arguments as a hash, its progress */
    enum fetch_op op;
    uint64_t op_hash;
    struct queue_search search;
    uint64_t *hits; /* KEY_INDEX_HITS_MAX */
    bool has_hits;
    uint32_t hit_count;
    uint32_t hit_next;
    uint32_t found_count; /* verified ones, at the front of hits */
    struct buf scratch;
};

/*
 * Complete what has run. First thing in every reading function; fetch may be NULL. What could not
 * be read is said by the call that asks for it again (fetch_log, fetch_entries), so that its caller
 * knows which record it is; any other error of the run is returned here, once.
 */
ESCROW_MUST_USE int fetch_settle(struct store_fetch *fetch, struct err_ctx *err);

/*
 * Is this operation, with these arguments, under way? If not, it begins now: its progress is reset.
 */
bool fetch_resumes(struct store_fetch *fetch, enum fetch_op op, uint64_t hash);

/*
 * Bytes [offset, offset + len) of the log, below `visible` and within one segment, copied to dst.
 * ESCROW_EAGAIN: wished for; `ahead` more are worth reading in the same go. ESCROW_EIO,
 * ESCROW_ENOMEM.
 */
struct log_range {
    uint64_t offset;
    size_t len;
    size_t ahead;
};
ESCROW_MUST_USE int fetch_log(struct store *st, struct store_fetch *fetch,
                              const struct log_range *range, uint8_t *dst, struct err_ctx *err);

/* An entry by its number. */
struct entry_ref {
    const struct queue *queue;
    uint64_t number;
};

/* Entries that follow each other; they lie in `local` or in the fetch. */
#define FETCH_LOCAL_ENTRIES 64u
struct entry_run {
    const struct queue_entry *entries;
    uint32_t count;
    struct queue_entry local[FETCH_LOCAL_ENTRIES];
};

/*
 * Entries from `first` on, at least one with 0; borrowed until the next call with this fetch. One
 * that is damaged in its file is rebuilt from the log first (ESCROW_EAGAIN); ESCROW_ECORRUPT: that
 * was tried; ESCROW_ELIMIT: ask again, with another fetch; ESCROW_ESHUTDOWN.
 */
ESCROW_MUST_USE int fetch_entries(struct store *st, struct store_fetch *fetch,
                                  const struct entry_ref *first, struct entry_run *run,
                                  struct err_ctx *err);

/*
 * Candidates for a key. ESCROW_EAGAIN the first time, always: index files are read in the pool.
 * fetch must not be NULL.
 */
ESCROW_MUST_USE int fetch_hits(struct store_fetch *fetch, const struct key_index_query *query,
                               const struct key_index_hit **hits, uint32_t *count);

/* ---- reader.c, also for lookup.c and inspect ---- */

/*
 * Is `bytes` (envelope, payload and padding; `have` of them) the record that entry `number` of
 * `queue` speaks of? Fills *rec, whose slices point into bytes. ESCROW_ECORRUPT with place and
 * reason.
 */
ESCROW_MUST_USE int reader_verify(const struct store *st, const struct entry_ref *ref,
                                  const struct queue_entry *entry, uint8_t *bytes,
                                  struct store_record *rec, struct err_ctx *err);

/* Make the payload of a released half or held message what consumers expect of entry `number`. */
void reader_patch(const struct entry_ref *ref, const struct store_record *rec, uint8_t *payload);

#endif
