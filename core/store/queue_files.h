/*
 * Read handles of consume queue files: at most so many are open, the least recently used one is
 * closed first.
 *
 * Owns:    the handles. A pinned handle is in use by a job and stays open until it is unpinned.
 * Thread:  loop. A job uses the disk_file of a handle that was pinned for it.
 * Holds:   count <= max; every handle is in exactly one bucket, or dropped and pinned.
 *          queue_files_check().
 */
#ifndef CORE_STORE_QUEUE_FILES_H
#define CORE_STORE_QUEUE_FILES_H

#include "core/base/attr.h"
#include "core/base/list.h"
#include "core/io/disk.h"
#include "core/store/queue.h"

struct queue_file {
    struct queue_file *bucket_next;
    struct list recent; /* in queue_files.recent, most recent last; alone when dropped */
    const struct queue *queue;
    struct disk_file *disk_file;
    uint32_t number; /* of the file */
    uint32_t pins;
    bool is_dropped; /* the file was removed: closed by the last unpin */
};

struct queue_files {
    struct queue_file **buckets;
    struct list recent;
    uint32_t bucket_mask;
    uint32_t count;
    uint32_t max;
    uint32_t dropped_count;
};

ESCROW_MUST_USE int queue_files_init(struct queue_files *files, uint32_t max);
void queue_files_fini(struct queue_files *files); /* CHECKs that nothing is pinned */

/* The handle, now the most recently used; NULL when it is not open. */
struct queue_file *queue_files_find(struct queue_files *files, const struct queue *q,
                                    uint32_t number);

/*
 * Take a handle opened elsewhere; *f becomes NULL. Closes it when there is one already, when all
 * others are pinned, or without memory: a handle is only a shortcut.
 */
void queue_files_put(struct queue_files *files, const struct queue *q, uint32_t number,
                     struct disk_file **f);

void queue_files_pin(struct queue_file *file);
void queue_files_unpin(struct queue_files *files, struct queue_file *file);

/* Close the handles of files [first, end) of `q`: they are removed, or may be other files now. */
void queue_files_drop(struct queue_files *files, const struct queue *q, uint32_t first,
                      uint32_t end);

void queue_files_check(const struct queue_files *files);

#endif
