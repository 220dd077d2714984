/*
 * Merging: the oldest KEY_INDEX_MERGE_FILES files of one level, adjacent in the log, become one
 * file of the next level. The inputs are sorted by hash, so it is one pass over all of them; among
 * equal hashes the older file goes first, which keeps the order in which entries were put.
 *
 * A merge lives across flushes: each moves KEY_INDEX_MERGE_STEP entries. Its temporary file is
 * forgotten by a crash.
 *
 * Failure modes: no space, no memory, a bad input: given up, with nothing changed but, for a bad
 * input, that file dropped. Any other error of the disk is the flush's.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/key_index_private.h"

#define READ_PAGES    16u
#define HOLD_FLUSHES  16u
#define MERGE_FAN_MAX 64u

enum merge_state { MERGE_RUNNING, MERGE_RENAMED, MERGE_GIVEN_UP };

struct merge_input {
    struct key_index_file *file;
    uint8_t *pages;              /* READ_PAGES */
    uint32_t first;              /* index of the first entry in `pages` */
    uint32_t loaded;             /* entries in `pages` */
    uint32_t next;               /* index of the entry after `head` */
    bool is_end;                 /* no head */
    bool is_bad;                 /* a page failed its checksum */
    struct err_ctx why;          /* then */
    struct key_index_entry head; /* the smallest entry not merged yet */
};

struct key_index_merge {
    struct disk *disk;
    enum merge_state state;
    bool is_started; /* the writer is open and every input has a head */
    struct key_index_writer writer;
    struct key_index_file *result;
    uint32_t input_count;
    struct merge_input inputs[];
};

/* ------------------------------------------------------------------ start */

/*
 * The oldest run of adjacent files of the lowest level that has too many: index of its first file,
 * or false.
 */
static bool merge_is_due(const struct key_index *ix, uint32_t *first)
{
    for (uint32_t level = 0; level < KEY_INDEX_LEVEL_MAX; level++) {
        uint32_t run = 0;
        for (uint32_t i = 0; i < ix->file_count; i++) {
            const struct key_index_file *file = ix->files[i];
            bool is_adjacent = run == 0 || ix->files[i - 1]->meta.end == file->meta.begin;
            bool is_fit = file->meta.level == level && !file->is_bad;
            run = !is_fit ? 0 : is_adjacent ? run + 1 : 1;
            if (run > ix->merge_files) {
                *first = i - ix->merge_files;
                return true;
            }
        }
    }
    return false;
}

static void merge_mem_free(struct key_index_merge *merge)
{
    for (uint32_t i = 0; i < merge->input_count; i++) {
        mem_free(merge->inputs[i].pages);
    }
    mem_free(merge->result);
    mem_free(merge);
}

static struct key_index_merge *merge_new(const struct key_index *ix)
{
    uint32_t count = ix->merge_files < MERGE_FAN_MAX ? ix->merge_files : MERGE_FAN_MAX;
    struct key_index_merge *merge =
        mem_calloc(1, sizeof *merge + count * sizeof(struct merge_input));

    if (merge == NULL) {
        return NULL;
    }
    merge->disk = ix->disk;
    merge->input_count = count;
    merge->result = mem_calloc(1, sizeof *merge->result);
    for (uint32_t i = 0; i < count; i++) {
        merge->inputs[i].pages = mem_alloc((size_t)READ_PAGES * KEY_INDEX_PAGE_SIZE);
        if (merge->inputs[i].pages == NULL || merge->result == NULL) {
            merge_mem_free(merge);
            return NULL;
        }
    }
    return merge;
}

/* What the header of the result says; false when it would be too big. */
static bool merge_meta(const struct key_index_merge *merge, struct key_index_meta *meta)
{
    uint64_t entries = 0;
    bool is_empty = true;

    *meta = (struct key_index_meta){.begin = merge->inputs[0].file->meta.begin,
                                    .end = merge->inputs[merge->input_count - 1].file->meta.end,
                                    .level = merge->inputs[0].file->meta.level + 1};
    for (uint32_t i = 0; i < merge->input_count; i++) {
        const struct key_index_meta *m = &merge->inputs[i].file->meta;
        entries += m->entry_count;
        if (m->entry_count > 0) {
            meta->min_ms = is_empty || m->min_ms < meta->min_ms ? m->min_ms : meta->min_ms;
            meta->max_ms = is_empty || m->max_ms > meta->max_ms ? m->max_ms : meta->max_ms;
            is_empty = false;
        }
    }
    meta->entry_count = (uint32_t)entries;
    return entries <= KEY_INDEX_COUNT_MAX;
}

void key_index_merge_start(struct key_index *ix)
{
    struct key_index_merge *merge;
    uint32_t first;

    if (ix->merge != NULL) {
        return;
    }
    if (ix->merge_hold > 0) {
        ix->merge_hold--;
        return;
    }
    if (!merge_is_due(ix, &first)) {
        return;
    }
    merge = merge_new(ix);
    if (merge == NULL) {
        ix->merge_hold = HOLD_FLUSHES;
        return;
    }
    for (uint32_t i = 0; i < merge->input_count; i++) {
        merge->inputs[i].file = ix->files[first + i];
    }
    if (!merge_meta(merge, &merge->result->meta)) {
        merge_mem_free(merge);
        ix->merge_hold = HOLD_FLUSHES;
        return;
    }
    for (uint32_t i = 0; i < merge->input_count; i++) {
        merge->inputs[i].file->pins++;
        merge->inputs[i].file->is_merging = true;
    }
    key_index_path(merge->result->path, merge->result->meta.begin, merge->result->meta.end);
    ix->merge = merge;
}

/* ------------------------------------------------------------------ step */

/* Load the next entry of an input into its head. */
static int input_advance(struct merge_input *in, struct err_ctx *err)
{
    uint32_t at;
    int rc = 0;

    if (in->next == in->file->meta.entry_count) {
        in->is_end = true;
        return 0;
    }
    if (in->next == in->first + in->loaded) {
        uint32_t page = in->next / KEY_INDEX_PAGE_ENTRIES;
        uint32_t left = in->file->meta.entry_count - in->next;
        uint32_t pages = (left + KEY_INDEX_PAGE_ENTRIES - 1) / KEY_INDEX_PAGE_ENTRIES;
        pages = pages < READ_PAGES ? pages : READ_PAGES;
        rc = key_index_file_read(in->file, 1 + page, pages, in->pages, &in->why);
        in->first = in->next;
        in->loaded = left < pages * KEY_INDEX_PAGE_ENTRIES ? left : pages * KEY_INDEX_PAGE_ENTRIES;
    }
    if (rc == 0) {
        uint64_t last = in->next == 0 ? 0 : in->head.hash;
        at = in->next++ - in->first;
        key_index_entry_decode(in->pages +
                                   (size_t)(at / KEY_INDEX_PAGE_ENTRIES) * KEY_INDEX_PAGE_SIZE +
                                   (size_t)(at % KEY_INDEX_PAGE_ENTRIES) * KEY_INDEX_ENTRY_SIZE,
                               &in->head);
        if (in->head.hash < last) {
            rc = err_set(&in->why, ESCROW_ECORRUPT, "%s: entry %u is out of order", in->file->path,
                         in->next - 1);
        }
    }
    if (rc == ESCROW_ECORRUPT) {
        in->is_bad = true; /* the file's own flag is the loop's */
    }
    if (rc != 0 && err != NULL) {
        *err = in->why;
    }
    return rc;
}

static int merge_begin(struct key_index_merge *merge, struct err_ctx *err)
{
    int rc = key_index_writer_open(&merge->writer, merge->disk, &merge->result->meta, err);

    for (uint32_t i = 0; rc == 0 && i < merge->input_count; i++) {
        rc = input_advance(&merge->inputs[i], err);
    }
    merge->is_started = rc == 0;
    return rc;
}

/* Move the smallest entry of all inputs; *moved is false when there is none left. */
static int merge_one(struct key_index_merge *merge, bool *moved, struct err_ctx *err)
{
    struct merge_input *least = NULL;
    int rc;

    for (uint32_t i = 0; i < merge->input_count; i++) {
        struct merge_input *in = &merge->inputs[i];
        if (!in->is_end && (least == NULL || in->head.hash < least->head.hash)) {
            least = in;
        }
    }
    *moved = least != NULL;
    if (least == NULL) {
        return 0;
    }
    rc = key_index_writer_put(&merge->writer, &least->head, err);
    return rc == 0 ? input_advance(least, err) : rc;
}

static int merge_run(struct key_index_merge *merge, struct err_ctx *err)
{
    bool moved = true;
    int rc = merge->is_started ? 0 : merge_begin(merge, err);

    for (uint32_t i = 0; rc == 0 && moved && i < KEY_INDEX_MERGE_STEP; i++) {
        rc = merge_one(merge, &moved, err);
    }
    if (rc == 0 && !moved) {
        rc = key_index_writer_finish(&merge->writer, err);
        if (rc == 0) {
            key_index_writer_close(&merge->writer);
            merge->state = MERGE_RENAMED;
        }
    }
    return rc;
}

static void merge_give_up(struct key_index_merge *merge)
{
    bool is_open = merge->writer.disk_file != NULL || merge->writer.chunk != NULL;

    key_index_writer_close(&merge->writer);
    if (is_open) {
        int rc = disk_unlink(merge->disk, merge->writer.path, NULL);
        (void)rc; /* what stays is removed after the next start */
    }
    merge->state = MERGE_GIVEN_UP;
}

int key_index_merge_step(struct key_index_merge *merge, bool *is_renamed, struct err_ctx *err)
{
    int rc = 0;

    if (merge->state == MERGE_RUNNING) {
        rc = merge_run(merge, err);
        if (rc != 0) {
            merge_give_up(merge);
        }
    }
    *is_renamed = merge->state == MERGE_RENAMED;
    return rc == ESCROW_ENOSPC || rc == ESCROW_ENOMEM || rc == ESCROW_ECORRUPT ? 0 : rc;
}

int key_index_merge_open(struct key_index_merge *merge, struct err_ctx *err)
{
    if (merge->state != MERGE_RENAMED || merge->result->disk_file != NULL) {
        return 0;
    }
    return key_index_file_open(merge->disk, merge->result, err);
}

/* ------------------------------------------------------------------ end */

static void release_inputs(struct key_index *ix, struct key_index_merge *merge, bool are_replaced)
{
    for (uint32_t i = 0; i < merge->input_count; i++) {
        struct key_index_file *file = merge->inputs[i].file;
        file->is_merging = false;
        file->is_bad = file->is_bad || merge->inputs[i].is_bad;
        if (are_replaced) {
            key_index_file_retire(ix, file);
        } else if (file->is_bad) {
            key_index_file_lose(ix, file, merge->inputs[i].why.text);
        }
        key_index_file_unpin(ix, file);
    }
}

void key_index_merge_done(struct key_index *ix)
{
    struct key_index_merge *merge = ix->merge;

    if (merge == NULL || merge->state == MERGE_RUNNING) {
        return;
    }
    if (merge->state == MERGE_RENAMED) {
        /*
         * Also when a look-up found a bad page in an input meanwhile: the merge had read it while
         * it was good.
         */
        release_inputs(ix, merge, true);
        key_index_files_insert(ix, merge->result);
        merge->result = NULL;
    } else {
        release_inputs(ix, merge, false);
        ix->merge_hold = HOLD_FLUSHES;
    }
    merge_mem_free(merge);
    ix->merge = NULL;
}

void key_index_merge_free(struct key_index *ix)
{
    struct key_index_merge *merge = ix->merge;

    if (merge != NULL) {
        key_index_writer_close(&merge->writer);
        if (merge->result != NULL) {
            disk_close(&merge->result->disk_file);
        }
        for (uint32_t i = 0; i < merge->input_count; i++) {
            merge->inputs[i].file->is_merging = false;
            merge->inputs[i].file->pins--;
        }
        merge_mem_free(merge);
        ix->merge = NULL;
    }
}
