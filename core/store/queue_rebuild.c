/*
 * Happy path: read the file, find what is bad in it, ask the log (queue_rebuild_log.c), put what it
 * gives into the image, write the chunks that changed, sync.
 *
 * Chunks are whole pages, so that a page that the disk cannot read is written without being read:
 * disks replace a bad sector when it is written.
 *
 * Failure modes: memory; the disk, on every step. Written in place: a crash in between leaves a
 * part of it, which the next reader who meets what is left has rebuilt.
 */
#include "core/store/queue_rebuild.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/queue_path.h"
#include "core/store/queue_rebuild_private.h"
#include "core/store/queues_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)QUEUE_REBUILD_CHUNK * QUEUE_ENTRY_SIZE)
_Static_assert(CHUNK_BYTES % 4096 == 0, "chunks are whole pages");

/* ------------------------------------------------------------------ the file */

/* Read [at, end) of the image; what cannot be read stays zeros, and is bad. */
static void read_chunk(struct disk_file *f, struct rebuild_work *w, uint64_t at, uint64_t end)
{
    uint64_t file_first = (uint64_t)w->r->file * QUEUE_FILE_ENTRIES;
    size_t len = (size_t)(end - at) * QUEUE_ENTRY_SIZE;
    size_t got = 0;
    int rc =
        disk_pread(f, rebuild_bytes(w, at), len, (at - file_first) * QUEUE_ENTRY_SIZE, &got, NULL);

    got = rc == 0 ? got : 0;
    memset(rebuild_bytes(w, at) + got, 0, len - got);
}

static void read_file(struct rebuild_work *w)
{
    const struct queue_rebuild *r = w->r;
    struct disk_file *f = NULL;
    struct queue_path path;

    queue_path_file(&path, queue_topic(r->queue), r->queue->id, r->file);
    if (disk_open(r->disk, path.text, DISK_READ, &f, NULL) != 0) {
        return; /* missing: all of it is bad */
    }
    for (uint64_t at = w->image_first; at < r->end; at += QUEUE_REBUILD_CHUNK) {
        read_chunk(f, w, at, r->end - at < QUEUE_REBUILD_CHUNK ? r->end : at + QUEUE_REBUILD_CHUNK);
    }
    disk_close(&f);
}

/* Does a sound entry lead to a record that the log still has? Then it says where to begin. */
static bool is_anchor(const struct queue_rebuild *r, const struct queue_entry *entry)
{
    return entry->offset >= r->low && entry->offset < r->log_end &&
           entry->offset % ENVELOPE_ALIGN == 0;
}

/* The last sound entry before the damage, in this file. */
static void anchor_before(struct rebuild_work *w)
{
    const struct queue_rebuild *r = w->r;
    struct queue_entry entry;

    for (uint64_t n = r->bad_first; n-- > r->first && !w->has_before;) {
        CHECK(queue_entry_decode(rebuild_bytes(w, n), n, &entry));
        if (is_anchor(r, &entry)) {
            w->has_before = true;
            w->before = (struct rebuild_anchor){.number = n, .offset = entry.offset};
        }
    }
}

/* The last entry of the file before, when nothing in this one will do. */
static void anchor_of_file_before(struct rebuild_work *w)
{
    const struct queue_rebuild *r = w->r;
    uint8_t raw[QUEUE_ENTRY_SIZE];
    struct disk_file *f = NULL;
    struct queue_entry entry;
    struct queue_path path;
    size_t got = 0;
    int rc;

    if (w->has_before || r->file == 0 || r->first <= r->min || r->first % QUEUE_FILE_ENTRIES != 0) {
        return;
    }
    queue_path_file(&path, queue_topic(r->queue), r->queue->id, r->file - 1);
    if (disk_open(r->disk, path.text, DISK_READ, &f, NULL) != 0) {
        return;
    }
    rc = disk_pread(f, raw, sizeof raw, QUEUE_FILE_SIZE - sizeof raw, &got, NULL);
    disk_close(&f);
    if (rc == 0 && got == sizeof raw && queue_entry_decode(raw, r->first - 1, &entry) &&
        is_anchor(r, &entry)) {
        w->has_before = true;
        w->before = (struct rebuild_anchor){.number = r->first - 1, .offset = entry.offset};
    }
}

static int by_offset(const void *a, const void *b)
{
    const struct rebuild_anchor *x = a;
    const struct rebuild_anchor *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

bool rebuild_find_sound(const struct rebuild_work *w, uint64_t offset, uint64_t *number)
{
    struct rebuild_anchor key = {.offset = offset};
    const struct rebuild_anchor *found =
        bsearch(&key, w->sound, w->sound_count, sizeof *w->sound, by_offset);

    *number = found != NULL ? found->number : 0;
    return found != NULL;
}

/* What is bad, and what is known around it. */
static void judge_file(struct rebuild_work *w)
{
    struct queue_rebuild *r = w->r;

    for (uint64_t n = r->first; n < r->end; n++) {
        struct queue_entry entry;
        if (!queue_entry_decode(rebuild_bytes(w, n), n, &entry)) {
            w->is_bad[n - r->first] = 1;
            r->bad_first = r->bad_count == 0 ? n : r->bad_first;
            r->bad_count++;
            w->bad_last = n;
        } else if (is_anchor(r, &entry)) {
            w->sound[w->sound_count++] =
                (struct rebuild_anchor){.number = n, .offset = entry.offset};
        }
    }
    qsort(w->sound, w->sound_count, sizeof *w->sound, by_offset);
    anchor_before(w);
    anchor_of_file_before(w);
}

/* Write the chunk that holds entry `number`; the number of the first entry behind it. */
static int write_chunk(const struct rebuild_work *w, struct disk_file *f, uint64_t number,
                       uint64_t *behind, struct err_ctx *err)
{
    const struct queue_rebuild *r = w->r;
    uint64_t file_first = (uint64_t)r->file * QUEUE_FILE_ENTRIES;
    uint64_t at =
        w->image_first + (number - w->image_first) / QUEUE_REBUILD_CHUNK * QUEUE_REBUILD_CHUNK;
    uint64_t end = r->end - at < QUEUE_REBUILD_CHUNK ? r->end : at + QUEUE_REBUILD_CHUNK;
    struct iovec iov = {.iov_base = rebuild_bytes(w, at),
                        .iov_len = (size_t)(end - at) * QUEUE_ENTRY_SIZE};

    *behind = end;
    return disk_pwritev(f, &iov, 1, (at - file_first) * QUEUE_ENTRY_SIZE, err);
}

static int write_found(const struct rebuild_work *w, struct err_ctx *err)
{
    const struct queue_rebuild *r = w->r;
    struct disk_file *f = NULL;
    bool is_new = false;
    uint64_t behind = 0;
    int rc = queue_file_open(r->disk, r->queue, r->file, &f, &is_new, err);

    for (uint32_t i = 0; rc == 0 && i < w->found_count; i++) {
        if (w->found[i].number >= behind) {
            rc = write_chunk(w, f, w->found[i].number, &behind, err);
        }
    }
    if (rc == 0) {
        rc = disk_sync(f, err);
    }
    disk_close(&f);
    if (rc == 0 && is_new) {
        rc = queue_file_sync_folders(r->disk, r->queue, err);
        if (rc == 0) {
            rc = queue_files_sync_root(r->disk, err);
        }
    }
    return rc;
}

/* ------------------------------------------------------------------ all of it */

static int work_begin(struct rebuild_work *w)
{
    const struct queue_rebuild *r = w->r;
    uint64_t file_first = (uint64_t)r->file * QUEUE_FILE_ENTRIES;
    size_t bytes;

    CHECK(r->first >= file_first);
    CHECK(r->first < r->end);
    CHECK(r->end <= file_first + QUEUE_FILE_ENTRIES);
    w->image_first =
        file_first + (r->first - file_first) / QUEUE_REBUILD_CHUNK * QUEUE_REBUILD_CHUNK;
    bytes = (size_t)(r->end - w->image_first) * QUEUE_ENTRY_SIZE;
    w->image = mem_calloc(1, bytes);
    w->is_bad = mem_calloc(1, (size_t)(r->end - r->first));
    w->sound = mem_alloc((size_t)(r->end - r->first) * sizeof *w->sound);
    return w->image == NULL || w->is_bad == NULL || w->sound == NULL ? ESCROW_ENOMEM : 0;
}

/* Into the image; says which are left. */
static void put_found(struct rebuild_work *w)
{
    struct queue_rebuild *r = w->r;

    for (uint32_t i = 0; i < w->found_count; i++) {
        const struct rebuilt_entry *e = &w->found[i];
        queue_entry_encode(&e->entry, e->number, rebuild_bytes(w, e->number));
        w->is_bad[e->number - r->first] = 0;
    }
    for (uint64_t n = r->bad_first; n <= w->bad_last; n++) {
        if (w->is_bad[n - r->first] != 0) {
            r->left_first = r->left_end == 0 ? n : r->left_first;
            r->left_end = n + 1;
        }
    }
}

/* Those whose place is not sure stay as they are. */
static void drop_unsure(struct rebuild_work *w)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < w->found_count; i++) {
        if (!w->found[i].is_unsure) {
            w->found[kept++] = w->found[i];
        }
    }
    w->found_count = kept;
}

static int rebuild(struct rebuild_work *w, struct err_ctx *err)
{
    struct queue_rebuild *r = w->r;
    int rc = work_begin(w);

    if (rc != 0) {
        return err_set(err, rc, "out of memory");
    }
    read_file(w);
    judge_file(w);
    if (r->bad_count == 0) {
        return 0;
    }
    w->found = mem_alloc(r->bad_count * sizeof *w->found);
    if (w->found == NULL) {
        return err_set(err, ESCROW_ENOMEM, "out of memory");
    }
    rc = rebuild_read_log(w, err);
    if (rc != 0) {
        r->is_final = rc == ESCROW_ECORRUPT || rc == ESCROW_EIO;
        return rc;
    }
    drop_unsure(w);
    put_found(w);
    rc = w->found_count > 0 ? write_found(w, err) : 0;
    r->rebuilt_count = rc == 0 ? w->found_count : 0;
    if (rc == 0 && r->rebuilt_count < r->bad_count) {
        r->is_final = true;
        (void)err_set(err, ESCROW_ECORRUPT, "%s",
                      w->log_damage[0] != '\0' ? w->log_damage : "the log does not have it");
    }
    return rc;
}

void queue_rebuild_run(struct queue_rebuild *r)
{
    struct rebuild_work w = {.r = r};

    r->rc = rebuild(&w, &r->err);
    mem_free(w.image);
    mem_free(w.is_bad);
    mem_free(w.sound);
    mem_free(w.found);
}
