/*
 * Happy path: take notes, for every queue that is written, which bytes of which chunks go where.
 * run writes each run to its file in as few calls as possible and syncs it; folders of new files
 * are synced too, the top ones once at the end. done raises the flushed counts and frees the
 * chunks.
 *
 * Which queues are written: those with more than their share of the entries that may ride in the
 * checkpoint, and some of those that have been quiet since the last checkpoint, so that an idle
 * queue ends with no chunk at all. A flush that neither goes with a checkpoint nor is needed for
 * memory writes nothing.
 *
 * Failure modes: any error of the disk leaves bytes beyond the flushed count in files, which nobody
 * reads, a later flush overwrites, and the next start cuts.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/queue_path.h"
#include "core/store/queues_private.h"

#define WRITE_IOVECS 64

/* Entries of one queue that are contiguous in memory. */
struct flush_piece {
    const uint8_t *bytes;
    uint64_t count;
};

struct flush_range {
    struct queue *queue;
    uint64_t flushed; /* as it was */
    uint64_t first;   /* to write; == end when retention took all of it */
    uint64_t end;
    size_t piece; /* index of its first piece */
};

struct flush_trim {
    struct queue *queue;
    uint32_t first_file;
    uint32_t end_file;
    bool is_empty; /* the queue has no entry any more: no file, and no folder */
};

struct queues_flush {
    struct queues *set;
    struct flush_range *ranges;
    size_t range_count;
    size_t range_cap;
    struct flush_piece *pieces;
    size_t piece_count;
    size_t piece_cap;
    struct flush_trim *trims;
    size_t trim_count;
    size_t trim_cap;
    bool is_due;     /* memory has to be freed, checkpoint or not */
    bool is_encoded; /* it goes with a checkpoint */
    bool is_skipped; /* neither: run wrote nothing */
    bool is_created; /* run created a file: the top folder has to be synced */
    bool is_trimmed;
};

bool queues_flush_is_due(const struct queues *qs)
{
    return qs->flush == NULL && qs->pending_count >= QUEUES_PENDING_MAX;
}

/* ------------------------------------------------------------------ take */

static int array_room(void **array, size_t *cap, size_t count, size_t item_size)
{
    size_t grown = *cap == 0 ? 64 : *cap * 2;
    void *moved;

    if (count < *cap) {
        return 0;
    }
    moved = mem_realloc(*array, grown * item_size);
    if (moved == NULL) {
        return ESCROW_ENOMEM;
    }
    *array = moved;
    *cap = grown;
    return 0;
}

/*
 * What retention has taken meanwhile is not written: the file has a hole there, or does not begin
 * before it.
 */
static uint64_t write_begin(const struct queue *q)
{
    return q->min > q->flushed ? q->min : q->flushed;
}

static int take_pieces(struct queues_flush *flush, const struct queue *q)
{
    uint64_t next = write_begin(q);

    while (next < q->visible) {
        const uint8_t *bytes;
        uint32_t count;
        int rc = array_room((void **)&flush->pieces, &flush->piece_cap, flush->piece_count,
                            sizeof *flush->pieces);
        if (rc != 0) {
            return rc;
        }
        count = queue_memory(q, next, UINT32_MAX, &bytes);
        CHECK(count > 0);
        flush->pieces[flush->piece_count++] = (struct flush_piece){.bytes = bytes, .count = count};
        next += count;
    }
    return 0;
}

static int take_range(struct queues_flush *flush, struct queue *q)
{
    int rc = array_room((void **)&flush->ranges, &flush->range_cap, flush->range_count,
                        sizeof *flush->ranges);

    if (rc != 0) {
        return rc;
    }
    flush->ranges[flush->range_count++] = (struct flush_range){.queue = q,
                                                               .flushed = q->flushed,
                                                               .first = write_begin(q),
                                                               .end = q->visible,
                                                               .piece = flush->piece_count};
    return take_pieces(flush, q);
}

static void flush_free(struct queues_flush *flush)
{
    mem_free(flush->ranges);
    mem_free(flush->pieces);
    mem_free(flush->trims);
    mem_free(flush);
}

/*
 * Nothing can fail any more: the queues of the flush leave the dirty list, the others wait for
 * their turn.
 */
static void take_commit(struct queues *qs, struct queues_flush *flush)
{
    struct queue **at = &qs->dirty;

    for (size_t i = 0; i < flush->range_count; i++) {
        flush->ranges[i].queue->is_dirty = false;
    }
    while (*at != NULL) {
        struct queue *q = *at;
        if (q->is_dirty) {
            at = &q->dirty_next;
        } else {
            *at = q->dirty_next;
            q->dirty_next = NULL;
            qs->dirty_count--;
        }
    }
    qs->flush = flush;
}

int queues_flush_take(struct queues *qs, struct queues_flush **out)
{
    struct queues_flush *flush = mem_calloc(1, sizeof *flush);
    uint64_t share =
        qs->dirty_count == 0 ? QUEUES_TAIL_MAX : QUEUES_TAIL_TOTAL_MAX / qs->dirty_count;
    uint32_t quiet = 0;
    int rc = 0;

    CHECK(qs->flush == NULL);
    *out = NULL;
    if (flush == NULL) {
        return ESCROW_ENOMEM;
    }
    flush->set = qs;
    flush->is_due = queues_flush_is_due(qs);
    share = share > QUEUES_TAIL_MAX ? QUEUES_TAIL_MAX : share;
    for (struct queue *q = qs->dirty; rc == 0 && q != NULL; q = q->dirty_next) {
        bool is_quiet = !q->is_touched && quiet < QUEUES_QUIET_FLUSH_MAX;
        if (queue_pending_count(q) > share) {
            rc = take_range(flush, q);
        } else if (is_quiet) {
            quiet++;
            rc = take_range(flush, q);
        }
    }
    if (rc != 0) {
        flush_free(flush);
        return rc;
    }
    take_commit(qs, flush);
    *out = flush;
    return 0;
}

void queues_flush_encoded(struct queues_flush *flush)
{
    flush->is_encoded = true;
}

int queues_flush_note_trim(struct queues_flush *flush, struct queue *q)
{
    bool is_empty = q->min >= q->visible;
    uint64_t gone = is_empty ? q->visible + QUEUE_FILE_ENTRIES - 1 : q->min;
    uint32_t end = (uint32_t)(gone / QUEUE_FILE_ENTRIES);
    int rc;

    if (end <= q->first_file) {
        return 0;
    }
    rc = array_room((void **)&flush->trims, &flush->trim_cap, flush->trim_count,
                    sizeof *flush->trims);
    if (rc == 0) {
        flush->trims[flush->trim_count++] = (struct flush_trim){
            .queue = q, .first_file = q->first_file, .end_file = end, .is_empty = is_empty};
    }
    return rc;
}

/* ------------------------------------------------------------------ run */

/*
 * Make every folder of `path` (which ends in a folder), and let `each` be called for it, outermost
 * first.
 */
static int each_folder(struct disk *d, const struct queue_path *path,
                       int (*each)(struct disk *, const char *, struct err_ctx *),
                       struct err_ctx *err)
{
    char folder[QUEUE_PATH_MAX];
    int rc = 0;

    for (size_t i = 0; rc == 0 && i <= path->len; i++) {
        if (path->text[i] == '/' || path->text[i] == '\0') {
            memcpy(folder, path->text, i);
            folder[i] = '\0';
            rc = each(d, folder, err);
        }
    }
    return rc;
}

static int sync_below_root(struct disk *d, const char *folder, struct err_ctx *err)
{
    /* The top folder is synced once, at the end of the flush. */
    return strchr(folder, '/') == NULL ? 0 : disk_sync_dir(d, folder, err);
}

int queue_file_open(struct disk *d, const struct queue *q, uint32_t number, struct disk_file **f,
                    bool *is_new, struct err_ctx *err)
{
    struct queue_path path;
    int rc;

    queue_path_file(&path, queue_topic(q), q->id, number);
    *is_new = false;
    rc = disk_open(d, path.text, DISK_WRITE, f, err);
    if (rc == ESCROW_ENOTFOUND) {
        struct queue_path folder;
        queue_path_queue(&folder, queue_topic(q), q->id);
        *is_new = true;
        rc = each_folder(d, &folder, disk_mkdir, err);
        if (rc == 0) {
            rc = disk_open(d, path.text, DISK_WRITE | DISK_CREATE, f, err);
        }
    }
    return rc;
}

int queue_file_sync_folders(struct disk *d, const struct queue *q, struct err_ctx *err)
{
    struct queue_path folder;

    queue_path_queue(&folder, queue_topic(q), q->id);
    return each_folder(d, &folder, sync_below_root, err);
}

int queue_files_sync_root(struct disk *d, struct err_ctx *err)
{
    int rc = disk_sync_dir(d, QUEUE_PATH_ROOT, err);

    return rc == 0 ? disk_sync_dir(d, "", err) : rc;
}

/* Where the writing of a range stands. */
struct flush_cursor {
    const struct flush_piece *piece;
    uint64_t used;  /* entries of *piece already written */
    uint64_t first; /* next entry */
};

/* Write entries up to `end`, all of them in one file. */
static int write_entries(struct disk_file *f, struct flush_cursor *at, uint64_t end,
                         struct err_ctx *err)
{
    while (at->first < end) {
        struct iovec iov[WRITE_IOVECS];
        uint64_t offset = at->first % QUEUE_FILE_ENTRIES * QUEUE_ENTRY_SIZE;
        int count = 0;
        int rc;

        while (count < WRITE_IOVECS && at->first < end) {
            uint64_t left = at->piece->count - at->used;
            uint64_t run = end - at->first < left ? end - at->first : left;
            iov[count++] = (struct iovec){
                .iov_base = (void *)(uintptr_t)(at->piece->bytes + at->used * QUEUE_ENTRY_SIZE),
                .iov_len = (size_t)run * QUEUE_ENTRY_SIZE};
            at->first += run;
            at->used += run;
            if (at->used == at->piece->count) {
                at->piece++;
                at->used = 0;
            }
        }
        rc = disk_pwritev(f, iov, count, offset, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int flush_file(struct queues_flush *flush, const struct queue *q, struct flush_cursor *at,
                      uint64_t end, struct err_ctx *err)
{
    struct disk_file *f = NULL;
    bool is_new = false;
    int rc = queue_file_open(flush->set->disk, q, (uint32_t)(at->first / QUEUE_FILE_ENTRIES), &f,
                             &is_new, err);

    if (rc == 0) {
        rc = write_entries(f, at, end, err);
    }
    if (rc == 0) {
        rc = disk_sync(f, err);
    }
    disk_close(&f);
    if (rc == 0 && (is_new || q->is_unsure)) { /* the loop changes it only between flushes */
        flush->is_created = true;
        rc = queue_file_sync_folders(flush->set->disk, q, err);
    }
    return rc;
}

int queues_flush_run(struct queues_flush *flush, struct err_ctx *err)
{
    int rc = 0;

    flush->is_skipped = !flush->is_due && !flush->is_encoded;
    for (size_t i = 0; rc == 0 && !flush->is_skipped && i < flush->range_count; i++) {
        const struct flush_range *range = &flush->ranges[i];
        struct flush_cursor at = {.piece = &flush->pieces[range->piece], .first = range->first};
        while (rc == 0 && at.first < range->end) {
            uint64_t file_end = (at.first / QUEUE_FILE_ENTRIES + 1) * QUEUE_FILE_ENTRIES;
            rc = flush_file(flush, range->queue, &at, range->end < file_end ? range->end : file_end,
                            err);
        }
    }
    if (rc == 0 && flush->is_created) {
        rc = queue_files_sync_root(flush->set->disk, err);
    }
    return rc;
}

/*
 * The folder of a queue, and those above it that hold nothing else. The next file makes them again.
 */
static void remove_folders(struct disk *d, const struct queue *q)
{
    struct queue_path path;
    int rc;

    queue_path_queue(&path, queue_topic(q), q->id);
    do {
        char *slash = strrchr(path.text, '/');
        rc = disk_rmdir(d, path.text, NULL);
        *slash = '\0';
    } while (rc == 0 && strchr(path.text, '/') != NULL); /* the top folder stays */
}

uint32_t queues_flush_trim(struct queues_flush *flush)
{
    uint32_t failed = 0;

    for (size_t i = 0; i < flush->trim_count; i++) {
        const struct flush_trim *trim = &flush->trims[i];
        for (uint32_t number = trim->first_file; number < trim->end_file; number++) {
            struct queue_path path;
            queue_path_file(&path, queue_topic(trim->queue), trim->queue->id, number);
            /* Clean-up after the durable decision: what stays is removed by the next start. */
            failed += disk_unlink(flush->set->disk, path.text, NULL) == 0 ? 0 : 1;
        }
        if (trim->is_empty) {
            remove_folders(flush->set->disk, trim->queue);
        }
    }
    flush->is_trimmed = true;
    return failed;
}

void queues_flush_done(struct queues_flush **flush_at, int rc)
{
    struct queues_flush *flush = *flush_at;
    struct queues *qs;

    if (flush == NULL) {
        return;
    }
    qs = flush->set;
    CHECK(qs->flush == flush);
    for (size_t i = 0; i < flush->range_count; i++) {
        const struct flush_range *range = &flush->ranges[i];
        struct queue *q = range->queue;
        CHECK(q->flushed == range->flushed);
        if (rc == 0 && !flush->is_skipped) {
            uint32_t file = (uint32_t)(range->first / QUEUE_FILE_ENTRIES);
            if (range->first < range->end && file < q->first_file) {
                q->first_file = file; /* none was left before */
            }
            queue_flushed(q, range->end);
            qs->pending_count -= range->end - range->flushed;
            q->is_unsure = false;
        } else {
            queues_mark_dirty(qs, q);
            q->is_unsure = q->is_unsure || rc != 0;
        }
    }
    for (size_t i = 0; flush->is_trimmed && i < flush->trim_count; i++) {
        const struct flush_trim *trim = &flush->trims[i];
        queue_files_drop(&qs->files, trim->queue, 0, trim->end_file);
        trim->queue->first_file = trim->end_file;
    }
    qs->flush = NULL;
    flush_free(flush);
    *flush_at = NULL;
}
