/*
 * The segment files of the commit log: which there are, and open handles of some.
 *
 * Every segment has the same size and is named by its first physical offset, a multiple of that
 * size, so that a physical offset leads to file and position by division. Segments are allocated
 * ahead of the end of the log; [first, allocated) is what exists on disk.
 *
 * A segment also knows when it was last of use: retention goes by that (FORMAT.md, "Deletion").
 *
 * Handles of segments that are written (at and behind the end of the log) stay open. Of the others
 * at most SEGMENTS_OPEN_MAX are: opening happens in a job (it may wait for the device),
 * segments_adopt puts the handle here, and the least recently used one that nobody pins is closed
 * for it.
 *
 * Owns:    the handles.
 * Thread:  loop. A pinned handle may be read by one job meanwhile, a writable one also written by
 *          the log thread.
 * Holds:   allocated - first == count x segment_bytes.
 */
#ifndef CORE_STORE_SEGMENT_H
#define CORE_STORE_SEGMENT_H

#include "core/base/attr.h"
#include "core/io/disk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEGMENT_FOLDER   "log"
#define SEGMENT_PATH_MAX 40u /* "log/" and 20 digits and ".tmp" */
/* Of a process limit that is often 1024; queues and clients want theirs too. */
#define SEGMENTS_OPEN_MAX 128u

struct segment {
    struct disk_file *file; /* NULL = not open */
    int64_t begin_ms;       /* store time of its first message; 0 = it has none */
    int64_t used_ms; /* the latest time a message was stored in it, or released from it; 0 = none */
    uint64_t last_used;
    uint32_t pins;
    bool is_writable;
};

struct segments {
    struct disk *disk;
    struct segment *list;
    size_t count;
    size_t cap;
    uint64_t segment_bytes;
    uint64_t first;     /* physical offset of list[0] */
    uint64_t allocated; /* physical offset behind the last segment */
    uint64_t clock;     /* counts uses */
    uint32_t open_count;
};

/* "log/00000000001073741824"; first is a segment's first offset. */
void segment_path(uint64_t first, char path[SEGMENT_PATH_MAX]);

void segments_init(struct segments *segs, struct disk *disk, uint64_t segment_bytes);
void segments_fini(struct segments *segs);

/*
 * List the folder and check names, sizes and that there is no gap from `first` on, where the log
 * begins. Leftover "*.tmp" files, and segments below `first`, are ignored here
 * (segments_remove_leftovers). ESCROW_ECORRUPT names the file, or the folder if there is none.
 */
ESCROW_MUST_USE int segments_load(struct segments *segs, uint64_t first, struct err_ctx *err);

/*
 * Delete what a crash left of segments that were being prepared, or being deleted: that the log
 * begins at segs->first has to be durable. *count: deleted segments.
 */
ESCROW_MUST_USE int segments_remove_leftovers(struct segments *segs, uint64_t *count,
                                              struct err_ctx *err);

static inline uint64_t segments_start_of(const struct segments *segs, uint64_t offset)
{
    return offset - offset % segs->segment_bytes;
}

/* The end of the segment in which `offset` stands. */
static inline uint64_t segments_end_of(const struct segments *segs, uint64_t offset)
{
    return segments_start_of(segs, offset) + segs->segment_bytes;
}

/*
 * Open handle of the segment with this physical offset; NULL when it is not open. Counts as a use.
 * The offset must exist.
 */
struct disk_file *segments_file(struct segments *segs, uint64_t offset);

/* Open now, on this thread. A handle that becomes writable stays open until segments_retire. */
ESCROW_MUST_USE int segments_open(struct segments *segs, uint64_t offset, bool writable,
                                  struct disk_file **out, struct err_ctx *err);

/*
 * Hand in a handle that a job opened for reading (taken; closed when there is one already, when too
 * many are pinned, or when the segment was given up meanwhile).
 */
void segments_adopt(struct segments *segs, uint64_t offset, struct disk_file **file);

/* A pinned handle is not closed. The segment must be open. */
void segments_pin(struct segments *segs, uint64_t offset);
void segments_unpin(struct segments *segs, uint64_t offset);

/* A new segment at `allocated`, with its handle (taken). ESCROW_ENOMEM: nothing has changed. */
ESCROW_MUST_USE int segments_append(struct segments *segs, struct disk_file **file);

/*
 * The log has moved on: handles of segments wholly below `offset` count as ordinary read handles
 * from now on.
 */
void segments_retire(struct segments *segs, uint64_t offset);

/* A message was stored at this offset, or the one at this offset was released, at that time. */
void segments_note_stored(struct segments *segs, uint64_t offset, int64_t ms);
void segments_note_released(struct segments *segs, uint64_t offset, int64_t ms);

/*
 * Forget the segments below `first`, up to the first one that is pinned; their handles are closed.
 * Never those that are written. Their files are the caller's to unlink. Returns the new first.
 */
uint64_t segments_give_up(struct segments *segs, uint64_t first);

/*
 * Create one segment file: allocate under a temporary name, sync, rename, sync the folder; any one
 * thread. ESCROW_ENOSPC: nothing is left behind. *out is its handle, for reading and writing.
 */
ESCROW_MUST_USE int segment_create(struct disk *disk, uint64_t first, uint64_t segment_bytes,
                                   struct disk_file **out, struct err_ctx *err);

/*
 * Read bytes of the log at `offset`, up to `len`, not beyond the end of its segment. Blocks; opens
 * the segment if needed. *got is what was read: less than asked for only at the end of the segment.
 */
ESCROW_MUST_USE int segments_read(struct segments *segs, uint64_t offset, void *dst, size_t len,
                                  size_t *got, struct err_ctx *err);

void segments_check(const struct segments *segs);

#endif
