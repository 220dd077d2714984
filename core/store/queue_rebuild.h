/*
 * A file of a consume queue in which entries are damaged, or which is missing, short or unreadable,
 * is put right from the log. README.md and FORMAT.md, "Rebuilding", have the idea.
 *
 * The job reads the file, and the log from the last sound entry before the damage (or from where
 * the log begins) on. It numbers what the records there put into the queue, by what names a number:
 * a MESSAGE, a sound entry of the file, the end of the queue. What it found is compared with the
 * sound entries of the file, and only then written in place of the damaged ones, and synced.
 *
 * Owns:    nothing between its functions; all memory is given back at the end of the run.
 * Thread:  filled and looked at on the loop, run on any one thread, of which there may be only one
 *          for each file. It opens handles of its own. The loop may set is_stopped meanwhile.
 * Errors:  the run leaves an error in rc and err; what it wrote then is right all the same.
 *          ESCROW_ESHUTDOWN: it was stopped before it wrote.
 * Holds:   an entry that is written is the one that the log gives for its number, or leads nowhere
 *          because the log no longer has its record. A sound entry is never changed.
 */
#ifndef CORE_STORE_QUEUE_REBUILD_H
#define CORE_STORE_QUEUE_REBUILD_H

#include "core/base/err.h"
#include "core/io/disk.h"
#include "core/store/queue.h"
#include "core/store/store.h"

#include <stdatomic.h>

/* Entries that are read, and written, in one go: whole pages of every size up to 4 KiB. */
#define QUEUE_REBUILD_CHUNK 1024u

struct queue_rebuild {
    /* What is asked for; as it was in one turn of the loop. */
    struct disk *disk;
    const struct queue *queue;
    const struct store_owner *owner; /* list_releases */
    atomic_bool *is_stopped;         /* looked at before each record: a long log takes minutes */
    uint64_t segment_bytes;
    uint32_t seed;
    uint32_t file;    /* number of the file */
    uint64_t low;     /* where the log begins */
    uint64_t log_end; /* visible */
    uint64_t min;     /* of the queue */
    uint64_t visible; /* of the queue, at log_end */
    uint64_t first;   /* entries [first, end) are the file's */
    uint64_t end;

    /* What came of it. */
    uint64_t bad_first; /* number of the first damaged entry, if bad_count > 0 */
    uint32_t bad_count;
    uint32_t rebuilt_count;
    uint64_t left_first; /* those that are left are in [left_first, left_end) */
    uint64_t left_end;
    bool is_final;      /* what is left is not in the log: trying again is of no use */
    int rc;             /* the run came to no end */
    struct err_ctx err; /* with rc; or why entries are left */
};

/* Memory, not more than 20 MB for a file of which nothing is left. */
void queue_rebuild_run(struct queue_rebuild *r);

#endif
