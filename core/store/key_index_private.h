/*
 * What key_index.c (memory, look-up), key_index_open.c (start, checkpoint), key_index_flush.c and
 * key_index_merge.c share. Contracts are in key_index.h and key_index_file.h.
 */
#ifndef CORE_STORE_KEY_INDEX_PRIVATE_H
#define CORE_STORE_KEY_INDEX_PRIVATE_H

#include "core/base/limits.h"
#include "core/store/key_index.h"
#include "core/store/key_index_file.h"

#define KEY_INDEX_HEADS 65536u /* chains of a buffer: two entries each when it is full */
#define KEY_INDEX_RECORD_KEYS                                                                      \
    16384u /* words that fit in PROPERTIES_LEN_MAX: room beyond a full buffer */

/* Entries that are in no file, in the order they were put. */
struct key_index_buffer {
    uint64_t begin;
    uint64_t end;     /* valid once sealed */
    uint64_t last_at; /* of the last put */
    int64_t min_ms;   /* valid when count > 0 */
    int64_t max_ms;
    uint32_t count;
    uint32_t cap;
    uint32_t linked;                 /* entries below are in the chains; <= count */
    bool is_taken;                   /* a flush is writing it */
    struct key_index_entry *entries; /* cap */
    uint32_t *next;  /* cap: index + 1 of the entry before in the same chain, 0 = none */
    uint32_t *heads; /* KEY_INDEX_HEADS: index + 1 of the latest entry */
};

struct key_index {
    struct disk *disk;
    uint32_t file_entries;
    uint32_t merge_files;
    key_index_damage_fn *lost;
    void *lost_arg;
    struct key_index_file **files; /* by begin */
    uint32_t file_count;
    uint32_t file_cap;
    struct key_index_buffer **sealed; /* by begin */
    uint32_t sealed_count;
    uint32_t sealed_cap;
    struct key_index_buffer *active; /* NULL when nothing was put since the last one was sealed */
    struct key_index_buffer *spare;  /* written out, for the next one: saves unmapping and faults */
    uint64_t next_begin;             /* where the next active buffer begins */
    uint64_t floor;   /* puts of records below are ignored: indexed before the start */
    uint64_t at;      /* of the last put */
    uint64_t lost_at; /* of the last put that was dropped for want of memory */
    bool is_lost;     /* and nothing was put since */
    uint64_t lost_count;
    uint64_t log_min;

    bool is_filling;
    bool is_fill_lost;
    struct key_index_buffer *fill;
    uint64_t fill_begin; /* where the next fill buffer begins */
    uint64_t fill_end;

    struct key_index_file *garbage; /* closed; to be unlinked by the next flush */
    struct key_index_flush *flush;
    struct key_index_merge *merge;
    uint32_t merge_hold; /* flushes to wait before the next merge begins */
    bool is_folder_synced;
    uint64_t find_count; /* look-ups under way */

    uint64_t topic_hash; /* of `topic`: one topic is often put many times in a row */
    size_t topic_len;    /* 0 = none */
    uint8_t topic[RETRY_TOPIC_LEN_MAX];
};

/* ---- memory ---- */

struct key_index_buffer *key_index_buffer_new(struct key_index *ix, uint64_t begin);
void key_index_buffer_free(struct key_index_buffer *b);

/* Keep it as the spare one, or free it. */
void key_index_buffer_recycle(struct key_index *ix, struct key_index_buffer *b);
void key_index_buffer_put(struct key_index_buffer *b, const struct key_index_entry *entry);

/*
 * Put into the chains what was put since the last call, at most `max` entries: before a look-up.
 * How many they were.
 */
uint32_t key_index_buffer_link(struct key_index_buffer *b, uint32_t max);

/* ---- files ---- */

/* Room for `more` further files. */
ESCROW_MUST_USE int key_index_files_reserve(struct key_index *ix, uint32_t more);

/* At its place by begin; room was reserved. */
void key_index_files_insert(struct key_index *ix, struct key_index_file *file);

/* Out of the set; unlinked by the next flush once nobody uses it. */
void key_index_file_retire(struct key_index *ix, struct key_index_file *file);

/*
 * The same, because it is damaged: its range is a gap now, and the owner is told. text: where; ""
 * when that is not known any more.
 */
void key_index_file_lose(struct key_index *ix, struct key_index_file *file, const char *text);
void key_index_file_unpin(struct key_index *ix, struct key_index_file *file);

/* Close it and put it in the garbage. */
void key_index_file_discard(struct key_index *ix, struct key_index_file *file);

/* ---- merge ---- */

struct key_index_merge;

/* Begin a merge if one is due; out of memory is no reason to fail. */
void key_index_merge_start(struct key_index *ix);

/* In the job: some more of it. Errors that are only the merge's end it, and are not returned. */
ESCROW_MUST_USE int key_index_merge_step(struct key_index_merge *merge, bool *is_renamed,
                                         struct err_ctx *err);

/* In the job, when the folder has been synced: open the result, if there is one. */
ESCROW_MUST_USE int key_index_merge_open(struct key_index_merge *merge, struct err_ctx *err);

/*
 * On the loop: if it ended, put its result in the place of its inputs. Room for one file was
 * reserved.
 */
void key_index_merge_done(struct key_index *ix);

/* Give up, whatever its state; for key_index_free. */
void key_index_merge_free(struct key_index *ix);

#endif
