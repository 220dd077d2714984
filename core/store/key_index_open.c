/*
 * Start and end of an index, and its part of the checkpoint.
 *
 * Happy path: every file in the folder whose name is a range is opened and its header read; sorted
 * by range they tile the log; the entries behind them come from the checkpoint.
 *
 * Failure modes: a bad file is set aside and reported. A file within the range of another one was
 * merged into it. The section is untrusted.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/key_index_private.h"

#include <stdio.h>
#include <stdlib.h>

#define VERIFY_PAGES 64u

#define SECTION_HEAD 24u /* begin u64, end u64, count u32, zero u32 */

/* ------------------------------------------------------------------ folder */

struct scan {
    struct key_index *ix;
    struct key_index_file *found; /* list through garbage_next */
    uint32_t count;
};

static bool is_temporary(const char *name)
{
    size_t len = strlen(name);

    return len > 4 && len < KEY_INDEX_NAME_MAX - sizeof KEY_INDEX_FOLDER &&
           strcmp(name + len - 4, ".tmp") == 0;
}

static int scan_name(void *arg, const char *name, bool is_dir)
{
    struct scan *scan = arg;
    struct key_index_file *file;
    uint64_t begin = 0;
    uint64_t end = 0;
    bool is_file = !is_dir && key_index_name_decode(name, &begin, &end);

    if (!is_file && (is_dir || !is_temporary(name))) {
        return 0; /* not ours */
    }
    file = mem_calloc(1, sizeof *file);
    if (file == NULL) {
        return ESCROW_ENOMEM;
    }
    (void)snprintf(file->path, sizeof file->path, KEY_INDEX_FOLDER "/%s", name);
    if (is_file) {
        file->meta.begin = begin;
        file->meta.end = end;
        file->garbage_next = scan->found;
        scan->found = file;
        scan->count++;
    } else {
        key_index_file_discard(scan->ix, file);
    }
    return 0;
}

static void set_aside(struct key_index *ix, struct key_index_file *file,
                      struct key_index_report *report, const char *why)
{
    if (why != NULL) {
        if (report->dropped_count == 0) {
            (void)snprintf(report->dropped, sizeof report->dropped, "%s", why);
        }
        report->dropped_count++;
    }
    key_index_file_discard(ix, file);
}

static int compare_files(const void *a, const void *b)
{
    const struct key_index_meta *x = &(*(struct key_index_file *const *)a)->meta;
    const struct key_index_meta *y = &(*(struct key_index_file *const *)b)->meta;

    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return x->end == y->end ? 0 : x->end > y->end ? -1 : 1; /* the merged one first */
}

/* Open what was found; bad files are set aside. */
static int open_found(struct scan *scan, struct key_index_report *report, struct err_ctx *err)
{
    struct key_index *ix = scan->ix;
    int rc = key_index_files_reserve(ix, scan->count);

    if (rc != 0) {
        (void)err_set(err, rc, KEY_INDEX_FOLDER ": out of memory"); /* rc is the result */
    }
    while (scan->found != NULL) {
        struct key_index_file *file = scan->found;
        struct err_ctx why = {0};
        int one = rc != 0 ? rc : key_index_file_open(ix->disk, file, &why);
        scan->found = file->garbage_next;
        file->garbage_next = NULL;
        if (one == 0) {
            ix->files[ix->file_count++] = file;
        } else if (one == ESCROW_ECORRUPT) {
            set_aside(ix, file, report, why.text);
        } else {
            mem_free(file);
            rc = rc != 0 ? rc : err_set(err, one, "%s", why.text);
        }
    }
    return rc;
}

/*
 * Sort; files within the range of the one before were merged into it; files that only overlap
 * cannot be ours.
 */
static void arrange(struct key_index *ix, struct key_index_report *report)
{
    uint32_t kept = 0;
    uint64_t end = 0;

    if (ix->file_count > 0) {
        qsort((void *)ix->files, ix->file_count, sizeof(struct key_index_file *), compare_files);
    }
    for (uint32_t i = 0; i < ix->file_count; i++) {
        struct key_index_file *file = ix->files[i];
        if (file->meta.begin >= end) {
            end = file->meta.end;
            ix->files[kept++] = file;
        } else {
            set_aside(ix, file, report,
                      file->meta.end <= end ? NULL : "index: ranges of two files overlap");
        }
    }
    ix->file_count = kept;
}

/*
 * Everything below `position` is in files or in the section, or is a gap; what is above will be
 * replayed. Files there are kept as long as they follow each other: a crash may have kept the later
 * of two and not the earlier one, and then replay indexes from the hole on.
 */
static void keep_contiguous(struct key_index *ix, uint64_t position)
{
    uint32_t kept = 0;
    uint64_t needed = position > ix->log_min ? position : ix->log_min;
    uint64_t end = needed;

    for (uint32_t i = 0; i < ix->file_count; i++) {
        struct key_index_file *file = ix->files[i];
        if (file->meta.begin < needed || file->meta.begin == end) {
            end = file->meta.end > end ? file->meta.end : end;
            ix->files[kept++] = file;
        } else {
            key_index_file_discard(ix, file);
        }
    }
    ix->file_count = kept;
    ix->floor = end;
    ix->next_begin = end;
}

static int open_folder(struct key_index *ix, struct key_index_report *report, struct err_ctx *err)
{
    struct scan scan = {.ix = ix};
    int rc = disk_list(ix->disk, KEY_INDEX_FOLDER, scan_name, &scan, err);
    int opened;

    if (rc == ESCROW_ENOTFOUND) {
        rc = 0;
    } else if (rc == ESCROW_ENOMEM) {
        rc = err_set(err, rc, KEY_INDEX_FOLDER ": out of memory");
    }
    opened = open_found(&scan, report, rc == 0 ? err : NULL); /* also frees what was found */
    return rc != 0 ? rc : opened;
}

/* ------------------------------------------------------------------ section */

int key_index_encode(const struct key_index *ix, const struct key_index_flush *flush,
                     uint64_t position, struct buf *b)
{
    const struct key_index_buffer *tail = ix->active;
    uint64_t begin = ix->is_lost ? position : ix->next_begin;
    uint8_t *dst;

    CHECK(flush != NULL);
    CHECK(ix->flush == flush);
    CHECK(position >= key_index_end(ix));
    for (uint32_t i = 0; i < ix->sealed_count; i++) {
        CHECK(ix->sealed[i]->is_taken);
    }
    buf_append_le64(b, tail != NULL ? tail->begin : begin);
    buf_append_le64(b, position);
    buf_append_le32(b, tail != NULL ? tail->count : 0);
    buf_append_le32(b, 0);
    dst = tail == NULL ? NULL : buf_reserve(b, (size_t)tail->count * KEY_INDEX_ENTRY_SIZE);
    if (dst != NULL) {
        for (uint32_t i = 0; i < tail->count; i++) {
            key_index_entry_encode(&tail->entries[i], dst + (size_t)i * KEY_INDEX_ENTRY_SIZE);
        }
        buf_commit(b, (size_t)tail->count * KEY_INDEX_ENTRY_SIZE);
    }
    return buf_failed(b) ? ESCROW_ENOMEM : 0;
}

/* What the section says; without one, that nothing was indexed and all of the log is replayed. */
struct tail {
    uint64_t begin;
    uint64_t end;
    uint32_t count;
    const uint8_t *entries;
};

static int decode_section(const struct key_index *ix, struct slice section, struct tail *tail,
                          struct err_ctx *err)
{
    *tail = (struct tail){.begin = ix->log_min, .end = ix->log_min};
    if (section.len == 0) {
        return 0;
    }
    if (section.len < SECTION_HEAD) {
        return err_set(err, ESCROW_ECORRUPT, "index: %zu bytes in the checkpoint, too short",
                       section.len);
    }
    tail->begin = get_le64(section.ptr);
    tail->end = get_le64(section.ptr + 8);
    tail->count = get_le32(section.ptr + 16);
    tail->entries = section.ptr + SECTION_HEAD;
    if (tail->begin > tail->end || get_le32(section.ptr + 20) != 0 ||
        (tail->begin == tail->end && tail->count > 0) ||
        section.len - SECTION_HEAD != (uint64_t)tail->count * KEY_INDEX_ENTRY_SIZE) {
        return err_set(err, ESCROW_ECORRUPT, "index: its part of the checkpoint makes no sense");
    }
    return 0;
}

/*
 * Take the entries that were in no file when the checkpoint was written, if they still are in none.
 */
static int load_tail(struct key_index *ix, const struct tail *tail, struct key_index_report *report)
{
    uint64_t end = ix->file_count == 0 ? 0 : ix->files[ix->file_count - 1]->meta.end;

    if (end >= tail->end) {
        return 0; /* files written after the checkpoint have these entries, and more */
    }
    if (tail->begin < end || tail->count > ix->file_entries + KEY_INDEX_RECORD_KEYS) {
        return 0; /* of another run of the program: what is between shows as a gap */
    }
    ix->next_begin = tail->begin;
    report->tail_count = tail->count;
    if (tail->count > 0) {
        ix->active = key_index_buffer_new(ix, tail->begin);
        if (ix->active == NULL) {
            return ESCROW_ENOMEM;
        }
    }
    for (uint32_t i = 0; i < tail->count; i++) {
        struct key_index_entry entry;
        key_index_entry_decode(tail->entries + (size_t)i * KEY_INDEX_ENTRY_SIZE, &entry);
        key_index_buffer_put(ix->active, &entry);
    }
    return 0;
}

/* ------------------------------------------------------------------ open, free */

int key_index_open(struct key_index **out, const struct key_index_options *options,
                   struct slice section, struct key_index_report *report, struct err_ctx *err)
{
    struct key_index *ix = mem_calloc(1, sizeof *ix);
    struct tail tail;
    uint64_t begin;
    uint64_t end = 0;
    int rc;

    *out = NULL;
    *report = (struct key_index_report){0};
    if (ix == NULL) {
        return err_set(err, ESCROW_ENOMEM, "index: out of memory");
    }
    ix->disk = options->disk;
    ix->file_entries = options->file_entries == 0 ? KEY_INDEX_FILE_ENTRIES : options->file_entries;
    ix->merge_files = options->merge_files == 0 ? KEY_INDEX_MERGE_FILES : options->merge_files;
    ix->log_min = options->log_min;
    ix->lost = options->lost;
    ix->lost_arg = options->lost_arg;
    CHECK(ix->merge_files >= 2);
    rc = decode_section(ix, section, &tail, err);
    if (rc == 0) {
        rc = open_folder(ix, report, err);
    }
    if (rc == 0) {
        arrange(ix, report);
        keep_contiguous(ix, tail.end);
        rc = load_tail(ix, &tail, report);
        if (rc != 0) {
            (void)err_set(err, rc, KEY_INDEX_FOLDER ": out of memory"); /* rc is the result */
        }
    }
    if (rc != 0) {
        key_index_free(&ix);
        return rc;
    }
    key_index_trim(ix, options->log_min);
    report->file_count = ix->file_count;
    for (uint32_t i = 0; i < ix->file_count; i++) {
        report->entry_count += ix->files[i]->meta.entry_count;
    }
    while (key_index_gap(ix, end, &begin, &end)) {
        report->gap_count++;
    }
    *out = ix;
    return 0;
}

static int verify_file(const struct key_index_file *file, uint8_t *pages, struct err_ctx *err)
{
    uint64_t left = key_index_file_size(file->meta.entry_count) / KEY_INDEX_PAGE_SIZE;
    uint32_t at = 0;
    int rc = 0;

    while (rc == 0 && left > 0) {
        uint32_t count = left < VERIFY_PAGES ? (uint32_t)left : VERIFY_PAGES;
        rc = key_index_file_read(file, at, count, pages, err);
        at += count;
        left -= count;
    }
    return rc;
}

int key_index_verify(const struct key_index *ix, key_index_damage_fn *fn, void *arg,
                     struct err_ctx *err)
{
    uint8_t *pages = mem_alloc((size_t)VERIFY_PAGES * KEY_INDEX_PAGE_SIZE);
    int rc = pages == NULL ? err_set(err, ESCROW_ENOMEM, "index: out of memory") : 0;

    for (uint32_t i = 0; rc == 0 && i < ix->file_count; i++) {
        struct err_ctx why = {.code = 0};
        int one = verify_file(ix->files[i], pages, &why);
        if (one == ESCROW_ECORRUPT || one == ESCROW_EIO) {
            fn(arg, why.text);
        } else if (one != 0) {
            rc = err_set(err, one, "%s", why.text);
        }
    }
    mem_free(pages);
    return rc;
}

static void free_garbage(struct key_index *ix)
{
    while (ix->garbage != NULL) {
        struct key_index_file *file = ix->garbage;
        ix->garbage = file->garbage_next;
        mem_free(file);
    }
}

void key_index_free(struct key_index **out)
{
    struct key_index *ix = *out;

    if (ix == NULL) {
        return;
    }
    CHECK(ix->flush == NULL);
    CHECK(ix->find_count == 0);
    key_index_merge_free(ix);
    for (uint32_t i = 0; i < ix->file_count; i++) {
        CHECK(ix->files[i]->pins == 0);
        disk_close(&ix->files[i]->disk_file);
        mem_free(ix->files[i]);
    }
    for (uint32_t i = 0; i < ix->sealed_count; i++) {
        key_index_buffer_free(ix->sealed[i]);
    }
    key_index_buffer_free(ix->active);
    key_index_buffer_free(ix->fill);
    key_index_buffer_free(ix->spare);
    free_garbage(ix);
    mem_free((void *)ix->files);
    mem_free((void *)ix->sealed);
    mem_free(ix);
    *out = NULL;
}
