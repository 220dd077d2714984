/*
 * What queues.c (map, entries, reading), queues_flush.c and queues_checkpoint.c share. Contracts
 * are in queues.h.
 */
#ifndef CORE_STORE_QUEUES_PRIVATE_H
#define CORE_STORE_QUEUES_PRIVATE_H

#include "core/base/limits.h"
#include "core/base/strmap.h"
#include "core/store/queue_files.h"
#include "core/store/queues.h"

/* Every topic has at most a retry topic and a dead-letter queue per consumer group beside it. */
#define QUEUES_TOPICS_MAX ((size_t)4 * TOPICS_MAX)

struct queue_topic {
    struct queue **by_id; /* cap places, NULL where there is no queue; &one at first */
    struct queue *one;    /* most retry topics have one queue: no array for it */
    uint16_t cap;
    uint16_t name_len;
    uint8_t name[];
};

struct queues {
    struct disk *disk;
    struct strmap topics; /* name -> struct queue_topic */
    struct queue_files files;
    struct queue *dirty; /* list through dirty_next */
    uint64_t dirty_count;
    uint64_t queue_count;
    uint64_t pending_count;
    uint64_t read_count;        /* read jobs under way */
    struct queues_flush *flush; /* the one under way */
};

/* Put `q` in the dirty list if it has pending entries and is not in it. */
void queues_mark_dirty(struct queues *qs, struct queue *q);

/* `flush` goes with a checkpoint. */
void queues_flush_encoded(struct queues_flush *flush);

/*
 * [job] A file of `q`, to be written; made, with its folders, when it is missing (*is_new: sync
 * them when it is synced; those above all queues once, at the end).
 */
ESCROW_MUST_USE int queue_file_open(struct disk *d, const struct queue *q, uint32_t number,
                                    struct disk_file **f, bool *is_new, struct err_ctx *err);
ESCROW_MUST_USE int queue_file_sync_folders(struct disk *d, const struct queue *q,
                                            struct err_ctx *err);
ESCROW_MUST_USE int queue_files_sync_root(struct disk *d, struct err_ctx *err);

/*
 * Files of `q` below its min may go once the checkpoint that is being encoded is durable.
 * ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int queues_flush_note_trim(struct queues_flush *flush, struct queue *q);

#endif
