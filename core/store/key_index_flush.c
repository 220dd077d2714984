/*
 * Happy path: each sealed buffer is copied, sorted by hash, and written as a file; a merge goes on
 * for a while; the folder is synced once; then the new files are opened for look-ups. done puts
 * them in the place of the buffers.
 *
 * Failure modes: an error leaves temporary files, or whole files whose buffers are still in memory:
 * a later flush writes the same names again, and after a crash the whole ones are simply there.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/key_index_private.h"

struct key_index_flush {
    struct key_index *ix;
    struct key_index_buffer **buffers; /* taken */
    struct key_index_file **files;     /* one for each */
    uint32_t count;
    struct key_index_file *garbage;
    struct key_index_merge *merge; /* of the index, for this flush to work on */
    bool is_folder_synced;
};

bool key_index_flush_is_due(const struct key_index *ix)
{
    return ix->flush == NULL && (ix->sealed_count > 0 || ix->garbage != NULL);
}

/* ------------------------------------------------------------------ take */

static void flush_free(struct key_index_flush *flush)
{
    for (uint32_t i = 0; flush->files != NULL && i < flush->count; i++) {
        if (flush->files[i] != NULL) {
            disk_close(&flush->files[i]->disk_file);
            mem_free(flush->files[i]);
        }
    }
    mem_free((void *)flush->files);
    mem_free((void *)flush->buffers);
    mem_free(flush);
}

static struct key_index_flush *flush_new(struct key_index *ix)
{
    struct key_index_flush *flush = mem_calloc(1, sizeof *flush);

    if (flush == NULL) {
        return NULL;
    }
    flush->ix = ix;
    flush->count = ix->sealed_count;
    flush->buffers = mem_calloc(ix->sealed_count, sizeof(struct key_index_buffer *));
    flush->files = mem_calloc(ix->sealed_count, sizeof(struct key_index_file *));
    if (flush->buffers == NULL || flush->files == NULL) {
        flush_free(flush);
        return NULL;
    }
    for (uint32_t i = 0; i < flush->count; i++) {
        const struct key_index_buffer *b = ix->sealed[i];
        struct key_index_file *file = mem_calloc(1, sizeof *file);
        if (file == NULL) {
            flush_free(flush);
            return NULL;
        }
        flush->files[i] = file;
        file->meta = (struct key_index_meta){.begin = b->begin,
                                             .end = b->end,
                                             .min_ms = b->count > 0 ? b->min_ms : 0,
                                             .max_ms = b->count > 0 ? b->max_ms : 0,
                                             .entry_count = b->count};
        key_index_path(file->path, b->begin, b->end);
    }
    return flush;
}

int key_index_flush_take(struct key_index *ix, struct key_index_flush **out)
{
    struct key_index_flush *flush;

    CHECK(ix->flush == NULL);
    *out = NULL;
    /* One more for the result of a merge. */
    if (key_index_files_reserve(ix, ix->sealed_count + 1) != 0) {
        return ESCROW_ENOMEM;
    }
    flush = flush_new(ix);
    if (flush == NULL) {
        return ESCROW_ENOMEM;
    }
    for (uint32_t i = 0; i < flush->count; i++) {
        flush->buffers[i] = ix->sealed[i];
        ix->sealed[i]->is_taken = true;
    }
    key_index_merge_start(ix);
    flush->merge = ix->merge;
    flush->garbage = ix->garbage;
    flush->is_folder_synced = ix->is_folder_synced;
    ix->garbage = NULL;
    ix->flush = flush;
    *out = flush;
    return 0;
}

/* ------------------------------------------------------------------ run */

/*
 * Sort by hash, keeping the order of equal ones: radix sort, one byte at a time from the lowest,
 * `count` entries in two arrays of that size. Returns the array the result is in. Its time does not
 * depend on the keys, which strangers choose.
 */
static struct key_index_entry *sort_by_hash(struct key_index_entry *from,
                                            struct key_index_entry *to, uint32_t count)
{
    for (unsigned shift = 0; shift < 64; shift += 8) {
        uint32_t place[256] = {0};
        uint32_t sum = 0;
        struct key_index_entry *swap = from;

        for (uint32_t i = 0; i < count; i++) {
            place[(from[i].hash >> shift) & 255]++;
        }
        for (unsigned digit = 0; digit < 256; digit++) {
            uint32_t n = place[digit];
            place[digit] = sum;
            sum += n;
        }
        for (uint32_t i = 0; i < count; i++) {
            to[place[(from[i].hash >> shift) & 255]++] = from[i];
        }
        from = to;
        to = swap;
    }
    return from;
}

static int write_sorted(struct disk *d, const struct key_index_file *file,
                        const struct key_index_entry *sorted, struct err_ctx *err)
{
    struct key_index_writer w;
    int rc = key_index_writer_open(&w, d, &file->meta, err);

    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; rc == 0 && i < file->meta.entry_count; i++) {
        rc = key_index_writer_put(&w, &sorted[i], err);
    }
    if (rc == 0) {
        rc = key_index_writer_finish(&w, err);
    }
    key_index_writer_close(&w);
    return rc;
}

static int write_buffer(struct disk *d, const struct key_index_file *file,
                        const struct key_index_buffer *b, struct err_ctx *err)
{
    struct key_index_entry *first = mem_alloc(b->count * sizeof *first);
    struct key_index_entry *second = mem_alloc(b->count * sizeof *second);
    int rc;

    if (first == NULL || second == NULL) {
        rc = err_set(err, ESCROW_ENOMEM, "%s: out of memory", file->path);
    } else {
        if (b->count > 0) {
            memcpy(first, b->entries, b->count * sizeof *first);
        }
        rc = write_sorted(d, file, sort_by_hash(first, second, b->count), err);
    }
    mem_free(first);
    mem_free(second);
    return rc;
}

static void unlink_garbage(struct key_index_flush *flush)
{
    while (flush->garbage != NULL) {
        struct key_index_file *file = flush->garbage;
        int rc = disk_unlink(flush->ix->disk, file->path, NULL);
        (void)rc; /* what stays is found again by the next start */
        flush->garbage = file->garbage_next;
        mem_free(file);
    }
}

/* New names are durable, and the folder itself. */
static int sync_folder(struct key_index_flush *flush, struct err_ctx *err)
{
    struct disk *d = flush->ix->disk;
    int rc = disk_sync_dir(d, KEY_INDEX_FOLDER, err);

    if (rc == 0 && !flush->is_folder_synced) {
        rc = disk_sync_dir(d, "", err);
        flush->is_folder_synced = rc == 0;
    }
    return rc;
}

int key_index_flush_run(struct key_index_flush *flush, struct err_ctx *err)
{
    struct disk *d = flush->ix->disk;
    bool is_renamed = false;
    int rc = 0;

    unlink_garbage(flush); /* first: a new file may have the name of a bad one */
    if (flush->count > 0) {
        rc = disk_mkdir(d, KEY_INDEX_FOLDER, err);
    }
    for (uint32_t i = 0; rc == 0 && i < flush->count; i++) {
        rc = write_buffer(d, flush->files[i], flush->buffers[i], err);
    }
    if (rc == 0 && flush->merge != NULL) {
        rc = key_index_merge_step(flush->merge, &is_renamed, err);
    }
    if (rc == 0 && (flush->count > 0 || is_renamed)) {
        rc = sync_folder(flush, err);
    }
    for (uint32_t i = 0; rc == 0 && i < flush->count; i++) {
        rc = key_index_file_open(d, flush->files[i], err);
    }
    if (rc == 0 && flush->merge != NULL) {
        rc = key_index_merge_open(flush->merge, err);
    }
    return rc;
}

/* ------------------------------------------------------------------ done */

static void take_out_buffers(struct key_index *ix)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < ix->sealed_count; i++) {
        if (ix->sealed[i]->is_taken) {
            key_index_buffer_recycle(ix, ix->sealed[i]);
        } else {
            ix->sealed[kept++] = ix->sealed[i];
        }
    }
    ix->sealed_count = kept;
}

void key_index_flush_done(struct key_index_flush **flush_at, int rc)
{
    struct key_index_flush *flush = *flush_at;
    struct key_index *ix;

    if (flush == NULL) {
        return;
    }
    ix = flush->ix;
    CHECK(ix->flush == flush);
    while (flush->garbage != NULL) { /* run was never called */
        struct key_index_file *file = flush->garbage;
        flush->garbage = file->garbage_next;
        file->garbage_next = ix->garbage;
        ix->garbage = file;
    }
    if (rc == 0) {
        take_out_buffers(ix);
        for (uint32_t i = 0; i < flush->count; i++) {
            key_index_files_insert(ix, flush->files[i]);
            flush->files[i] = NULL;
        }
        ix->is_folder_synced = flush->is_folder_synced;
        key_index_merge_done(ix);
    } else {
        for (uint32_t i = 0; i < flush->count; i++) {
            flush->buffers[i]->is_taken = false;
        }
    }
    ix->flush = NULL;
    flush_free(flush);
    *flush_at = NULL;
    key_index_trim(ix, 0); /* files that came too late for the last trim */
}
