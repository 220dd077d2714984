/*
 * The checkpoint's section of the queues, and the comparison of folder and set at start.
 *
 * Section: u32 count of rows; a row is 32 bytes, the topic's name, and the entries that are in no
 * file.
 *
 * Failure modes: the section is untrusted (every length is compared with what is left before it is
 * used, and no work is done for a count that the folder does not bear out); the folder may lack
 * files (told, and rebuilt when they are read), have too much (cut), or hold things that are not
 * ours (left alone).
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/queue_path.h"
#include "core/store/queues_private.h"

#include <stdio.h>
#include <stdlib.h>

#define ROW_SIZE 32u /* topic length u16, id u16, zero u32, min u64, flushed u64, visible u64 */

/* ------------------------------------------------------------------ section */

static void encode_row(const struct queue *q, uint64_t flushed, struct buf *b)
{
    struct slice topic = queue_topic(q);
    uint64_t next = flushed;

    buf_append_le16(b, (uint16_t)topic.len);
    buf_append_le16(b, q->id);
    buf_append_le32(b, 0);
    buf_append_le64(b, q->min);
    buf_append_le64(b, flushed);
    buf_append_le64(b, q->visible);
    buf_append_slice(b, topic);
    while (next < q->visible) {
        const uint8_t *bytes;
        uint32_t count = queue_memory(q, next, UINT32_MAX / QUEUE_ENTRY_SIZE, &bytes);
        CHECK(count > 0);
        buf_append(b, bytes, (size_t)count * QUEUE_ENTRY_SIZE);
        next += count;
    }
}

int queues_encode(struct queues *qs, struct queues_flush *flush, struct buf *b)
{
    struct queues_cursor cursor = {0};
    size_t start = b->len;
    uint32_t rows = 0;
    struct queue *q;
    int rc = 0;

    CHECK(flush != NULL);
    CHECK(qs->flush == flush);
    buf_append_le32(b, 0);
    while (rc == 0 && (q = queues_next(qs, &cursor)) != NULL) {
        if (q->visible > 0) {
            /* Not in the dirty list: nothing is pending, or the flush writes all of it. */
            encode_row(q, q->is_dirty ? q->flushed : q->visible, b);
            rows++;
            rc = queues_flush_note_trim(flush, q);
        }
        q->is_touched = false;
    }
    if (rc == 0 && buf_failed(b)) {
        rc = ESCROW_ENOMEM;
    }
    if (rc == 0) {
        put_le32(b->ptr + start, rows);
        queues_flush_encoded(flush);
    }
    return rc;
}

struct row {
    struct slice topic;
    uint32_t id;
    uint64_t min;
    uint64_t flushed;
    uint64_t visible;
    const uint8_t *entries;
};

/* Take a row off the front of *left; false when it makes no sense. */
static bool row_decode(struct slice *left, struct row *row)
{
    uint16_t topic_len;
    uint64_t tail;

    if (left->len < ROW_SIZE) {
        return false;
    }
    topic_len = get_le16(left->ptr);
    row->id = get_le16(left->ptr + 2);
    row->min = get_le64(left->ptr + 8);
    row->flushed = get_le64(left->ptr + 16);
    row->visible = get_le64(left->ptr + 24);
    if (get_le32(left->ptr + 4) != 0 || left->len - ROW_SIZE < topic_len ||
        row->visible > QUEUE_NUMBER_MAX || row->visible == 0 || row->min > row->visible ||
        row->flushed > row->visible) {
        return false;
    }
    row->topic = slice_of(left->ptr + ROW_SIZE, topic_len);
    *left = slice_of(left->ptr + ROW_SIZE + topic_len, left->len - ROW_SIZE - topic_len);
    tail = row->visible - row->flushed;
    if (left->len / QUEUE_ENTRY_SIZE < tail) {
        return false;
    }
    row->entries = left->ptr;
    *left = slice_of(left->ptr + tail * QUEUE_ENTRY_SIZE, left->len - tail * QUEUE_ENTRY_SIZE);
    return true;
}

static int row_apply(struct queues *qs, const struct row *row)
{
    struct queue *q;
    int rc;

    if (queues_find(qs, row->topic, row->id) != NULL) {
        return ESCROW_ECORRUPT;
    }
    rc = queues_get(qs, row->topic, row->id, &q);
    if (rc != 0) {
        return rc == ESCROW_ENOMEM ? rc : ESCROW_ECORRUPT;
    }
    queue_begin_at(q, row->flushed);
    q->min = row->min < row->flushed ? row->min : row->flushed;
    for (uint64_t i = 0; i < row->visible - row->flushed; i++) {
        struct queue_entry entry;
        uint64_t number;
        rc = queue_reserve(q, &number);
        if (rc != 0) {
            return rc;
        }
        if (!queue_entry_decode(row->entries + i * QUEUE_ENTRY_SIZE, number, &entry)) {
            return ESCROW_ECORRUPT;
        }
        (void)queues_put(qs, q, &entry); /* the number is what it must be: queue_put checks */
    }
    queue_set_min(q, row->min);
    q->first_file = (uint32_t)(row->min / QUEUE_FILE_ENTRIES);
    q->is_touched = false;
    return 0;
}

int queues_decode(struct queues *qs, struct slice section, struct err_ctx *err)
{
    struct slice left = section;
    uint32_t rows;

    CHECK(qs->queue_count == 0);
    if (left.len < 4) {
        return err_set(err, ESCROW_ECORRUPT, "queues: %zu bytes, too short for a count", left.len);
    }
    rows = get_le32(left.ptr);
    left = slice_of(left.ptr + 4, left.len - 4);
    for (uint32_t i = 0; i < rows; i++) {
        struct row row;
        size_t at = section.len - left.len;
        int rc = row_decode(&left, &row) ? row_apply(qs, &row) : ESCROW_ECORRUPT;
        if (rc != 0) {
            return err_set(err, rc, "queues: row %u of %u at byte %zu: %s", i, rows, at,
                           rc == ESCROW_ENOMEM ? "out of memory" : "makes no sense");
        }
    }
    if (left.len != 0) {
        return err_set(err, ESCROW_ECORRUPT, "queues: %zu bytes behind the last row", left.len);
    }
    return 0;
}

/* ------------------------------------------------------------------ folders */

/* Names of a folder, each followed by a NUL: folders or files. */
struct names {
    struct buf buf;
    bool want_dirs;
};

static int names_add(void *arg, const char *name, bool is_dir)
{
    struct names *names = arg;

    if (is_dir == names->want_dirs) {
        buf_append(&names->buf, name, strlen(name) + 1);
    }
    return buf_failed(&names->buf) ? ESCROW_ENOMEM : 0;
}

/* A missing folder has no names. On an error nothing has to be freed. */
static int names_list(struct names *names, struct disk *d, const char *path, bool want_dirs,
                      struct err_ctx *err)
{
    int rc;

    buf_init(&names->buf, 0);
    names->want_dirs = want_dirs;
    rc = disk_list(d, path, names_add, names, err);
    if (rc == ESCROW_ENOTFOUND) {
        buf_clear(&names->buf);
        rc = 0;
    }
    if (rc == ESCROW_ENOMEM) {
        (void)err_set(err, rc, "%s: out of memory", path); /* rc is the result */
    }
    if (rc != 0) {
        buf_fini(&names->buf);
    }
    return rc;
}

static const char *names_next(const struct names *names, size_t *cursor)
{
    const char *name;

    if (*cursor >= names->buf.len) {
        return NULL;
    }
    name = (const char *)names->buf.ptr + *cursor;
    *cursor += strlen(name) + 1;
    return name;
}

/* ------------------------------------------------------------------ verify */

/* Files [*first, *end) must exist. */
static void files_of(const struct queue *q, uint32_t *first, uint32_t *end)
{
    *first = (uint32_t)(q->min / QUEUE_FILE_ENTRIES);
    *end = q->flushed <= q->min
               ? *first
               : (uint32_t)((q->flushed + QUEUE_FILE_ENTRIES - 1) / QUEUE_FILE_ENTRIES);
}

/* Bytes that file `number` must have. */
static uint64_t file_size_of(const struct queue *q, uint32_t number)
{
    uint64_t begin = (uint64_t)number * QUEUE_FILE_ENTRIES;
    uint64_t end =
        begin + QUEUE_FILE_ENTRIES < q->flushed ? begin + QUEUE_FILE_ENTRIES : q->flushed;

    CHECK(begin < end);
    return (end - begin) * QUEUE_ENTRY_SIZE;
}

static void report_lost(struct queues_open_report *report, uint64_t count, const char *text)
{
    if (report->lost_count == 0) {
        (void)snprintf(report->lost, sizeof report->lost, "%s", text); /* cut when too long */
    }
    report->lost_count += count;
}

/* Files [number, end) are not there. */
static void report_missing(struct queues_open_report *report, const struct queue *q,
                           uint32_t number, uint32_t end)
{
    struct err_ctx text = {.code = 0};
    struct queue_path path;

    if (number == end) {
        return;
    }
    queue_path_file(&path, queue_topic(q), q->id, number);
    (void)err_set(&text, ESCROW_ECORRUPT, "%s: missing; the checkpoint counts %llu entries",
                  path.text, (unsigned long long)q->flushed); /* only the text is wanted */
    report_lost(report, end - number, text.text);
}

/* A file that was in its folder a moment ago. */
static int verify_file(const struct queues *qs, const struct queue *q, uint32_t number,
                       struct queues_open_report *report, struct err_ctx *err)
{
    uint64_t want = file_size_of(q, number);
    struct err_ctx text = {.code = 0};
    struct queue_path path;
    struct disk_file *f = NULL;
    uint64_t size = 0;
    int rc;

    queue_path_file(&path, queue_topic(q), q->id, number);
    rc = disk_open(qs->disk, path.text, DISK_READ, &f, err);
    if (rc == 0) {
        rc = disk_size(f, &size, err);
    }
    if (rc == 0 && size < want) {
        (void)err_set(&text, ESCROW_ECORRUPT,
                      "%s: %llu bytes; the checkpoint counts %llu entries, which need %llu",
                      path.text, (unsigned long long)size, (unsigned long long)q->flushed,
                      (unsigned long long)want); /* only the text is wanted */
        report_lost(report, 1, text.text);
    } else if (rc == 0) {
        report->file_count++;
    }
    disk_close(&f);
    return rc;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint32_t *x = a;
    const uint32_t *y = b;

    return (*x > *y) - (*x < *y);
}

/* Append those of [first, end) that the queue's folder has to *numbers, ascending u32. */
static int list_numbers(const struct queues *qs, const struct queue *q, uint32_t first,
                        uint32_t end, struct buf *numbers, struct err_ctx *err)
{
    struct queue_path folder;
    struct names names;
    size_t cursor = 0;
    const char *name;
    int rc;

    queue_path_queue(&folder, queue_topic(q), q->id);
    rc = names_list(&names, qs->disk, folder.text, false, err);
    if (rc != 0) {
        return rc;
    }
    while ((name = names_next(&names, &cursor)) != NULL) {
        uint32_t number;
        if (queue_path_file_decode(slice_str(name), &number) && number >= first && number < end) {
            buf_append(numbers, &number, sizeof number);
        }
    }
    buf_fini(&names.buf);
    if (buf_failed(numbers)) {
        return err_set(err, ESCROW_ENOMEM, "%s: out of memory", folder.text);
    }
    if (numbers->len > 0) {
        qsort(numbers->ptr, numbers->len / sizeof(uint32_t), sizeof(uint32_t), compare_numbers);
    }
    return 0;
}

/* By what the folder has, not by what the checkpoint counts: that may be anything. */
static int verify_queue(const struct queues *qs, const struct queue *q,
                        struct queues_open_report *report, struct err_ctx *err)
{
    struct buf numbers;
    uint32_t next;
    uint32_t end;
    int rc = 0;

    files_of(q, &next, &end);
    if (next == end) {
        return 0;
    }
    buf_init(&numbers, 0);
    rc = list_numbers(qs, q, next, end, &numbers, err);
    for (size_t at = 0; rc == 0 && at < numbers.len; at += sizeof(uint32_t)) {
        uint32_t number;
        memcpy(&number, numbers.ptr + at, sizeof number);
        report_missing(report, q, next, number);
        rc = verify_file(qs, q, number, report, err);
        next = number + 1;
    }
    if (rc == 0) {
        report_missing(report, q, next, end);
    }
    buf_fini(&numbers);
    return rc;
}

int queues_verify(struct queues *qs, struct queues_open_report *report, struct err_ctx *err)
{
    struct queues_cursor cursor = {0};
    const struct queue *q;
    int rc = 0;

    *report = (struct queues_open_report){0};
    while (rc == 0 && (q = queues_next(qs, &cursor)) != NULL) {
        rc = verify_queue(qs, q, report, err);
    }
    return rc;
}

/* ------------------------------------------------------------------ cut */

static int cut_file(struct queues *qs, const struct queue *q, uint32_t number,
                    struct queues_open_report *report, struct err_ctx *err)
{
    uint64_t want = file_size_of(q, number);
    struct queue_path path;
    struct disk_file *f = NULL;
    uint64_t size = 0;
    int rc;

    queue_path_file(&path, queue_topic(q), q->id, number);
    rc = disk_open(qs->disk, path.text, DISK_READ, &f, err);
    if (rc == 0) {
        rc = disk_size(f, &size, err);
    }
    disk_close(&f);
    if (rc != 0 || size <= want) {
        return rc;
    }
    rc = disk_open(qs->disk, path.text, DISK_WRITE, &f, err);
    if (rc == 0) {
        rc = disk_truncate(f, want, err);
    }
    disk_close(&f);
    if (rc == 0) {
        report->cut_count++;
        report->cut_entries += (size - want + QUEUE_ENTRY_SIZE - 1) / QUEUE_ENTRY_SIZE;
    }
    return rc;
}

static int unlink_file(struct queues *qs, const struct queue_path *folder, const char *name,
                       struct queues_open_report *report, struct err_ctx *err)
{
    struct queue_path path = *folder;
    int rc;

    CHECK(queue_path_append(&path, name)); /* 20 digits behind a folder of ours */
    rc = disk_unlink(qs->disk, path.text, err);
    report->unlink_count += rc == 0 ? 1 : 0;
    return rc;
}

/* Every file of one queue's folder. q is NULL when the set has no such queue. */
static int cut_queue(struct queues *qs, const struct queue_path *folder, const struct queue *q,
                     struct queues_open_report *report, struct err_ctx *err)
{
    struct names names;
    size_t cursor = 0;
    uint32_t first = 0;
    uint32_t end = 0;
    const char *name;
    int rc = names_list(&names, qs->disk, folder->text, false, err);

    if (rc != 0) {
        return rc;
    }
    if (q != NULL) {
        files_of(q, &first, &end);
    }
    while (rc == 0 && (name = names_next(&names, &cursor)) != NULL) {
        uint32_t number;
        if (!queue_path_file_decode(slice_str(name), &number)) {
            continue;
        }
        if (number >= first && number < end) {
            rc = cut_file(qs, q, number, report, err);
        } else {
            rc = unlink_file(qs, folder, name, report, err);
        }
    }
    buf_fini(&names.buf);
    return rc;
}

/* Every queue of one topic's folder. */
static int cut_topic(struct queues *qs, const struct queue_path *folder, struct slice topic,
                     struct queues_open_report *report, struct err_ctx *err)
{
    struct names names;
    size_t cursor = 0;
    const char *name;
    int rc = names_list(&names, qs->disk, folder->text, true, err);

    if (rc != 0) {
        return rc;
    }
    while (rc == 0 && (name = names_next(&names, &cursor)) != NULL) {
        struct queue_path path = *folder;
        uint32_t id;
        if (!queue_path_id_decode(slice_str(name), &id) || !queue_path_append(&path, name)) {
            continue;
        }
        rc = cut_queue(qs, &path, queues_find(qs, topic, id), report, err);
    }
    buf_fini(&names.buf);
    return rc;
}

/* Is `path` where the files of `topic` are? Another split of a long name is not ours. */
static bool is_path_of(const struct queue_path *path, struct slice topic)
{
    struct queue_path ours;

    queue_path_topic(&ours, topic);
    return strcmp(ours.text, path->text) == 0;
}

/* Every topic below `folder`; `encoded` is what the parts above make of a long name. */
static int cut_folder(struct queues *qs, const struct queue_path *folder, struct slice encoded,
                      struct queues_open_report *report, struct err_ctx *err)
{
    struct names names;
    size_t cursor = 0;
    const char *name;
    int rc = names_list(&names, qs->disk, folder->text, true, err);

    if (rc != 0) {
        return rc;
    }
    while (rc == 0 && (name = names_next(&names, &cursor)) != NULL) {
        uint8_t joined[3 * RETRY_TOPIC_LEN_MAX];
        uint8_t topic[RETRY_TOPIC_LEN_MAX];
        struct queue_path path = *folder;
        size_t name_len = strlen(name);
        bool is_part = name[name_len - 1] == '+';
        size_t topic_len;
        size_t len = encoded.len + name_len - (is_part ? 1 : 0);

        if (len > sizeof joined || !queue_path_append(&path, name)) {
            continue;
        }
        if (encoded.len > 0) {
            memcpy(joined, encoded.ptr, encoded.len);
        }
        memcpy(joined + encoded.len, name, len - encoded.len);
        if (is_part && len > encoded.len) {
            rc = cut_folder(qs, &path, slice_of(joined, len), report, err);
        } else if (queue_path_topic_decode(slice_of(joined, len), topic, &topic_len) &&
                   is_path_of(&path, slice_of(topic, topic_len))) {
            rc = cut_topic(qs, &path, slice_of(topic, topic_len), report, err);
        }
    }
    buf_fini(&names.buf);
    return rc;
}

int queues_cut(struct queues *qs, struct queues_open_report *report, struct err_ctx *err)
{
    struct queue_path root = {.text = QUEUE_PATH_ROOT, .len = sizeof QUEUE_PATH_ROOT - 1};

    return cut_folder(qs, &root, SLICE_EMPTY, report, err);
}
