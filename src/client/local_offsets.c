/*
 * Happy path: the table is read once, changes in memory, and is written whole beside the old file
 * and renamed over it. A failed write leaves the old file: messages come again, none is left out.
 */
#include "src/client/local_offsets.h"

#include "core/base/check.h"
#include "core/base/list.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/utf8.h"
#include "core/io_uv/disk_posix.h"
#include "core/proto/body_queues.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LEN_MAX 255 /* of a topic, of a broker */

struct local_row {
    int64_t offset;
    uint32_t queue_id;
    char *broker; /* both in the same block */
    char *topic;
};

/* ---- where ---- */

/* Create the folder and those above it, from `from` on. */
static int make_folders(char *path, size_t from, struct err_ctx *err)
{
    for (size_t i = from;; i++) {
        char c = path[i];
        struct disk *disk = NULL;
        int rc;
        if (c != '/' && c != '\0') {
            continue;
        }
        path[i] = '\0';
        rc = disk_posix_new(path, &disk, err);
        path[i] = c;
        disk_free(&disk);
        if (rc != 0 || c == '\0') {
            return rc;
        }
    }
}

int local_offsets_default(const char *group, char *path, size_t size, struct err_ctx *err)
{
    /* Nobody but the program itself changes its environment, and says so in its documentation. */
    const char *state = getenv("XDG_STATE_HOME"); /* NOLINT(concurrency-mt-unsafe) */
    const char *home = getenv("HOME");            /* NOLINT(concurrency-mt-unsafe) */
    bool has_state = state != NULL && state[0] == '/';
    const char *base = has_state ? state : home;
    char folder[LOCAL_OFFSETS_PATH_MAX];
    int len;
    int rc;

    if (base == NULL || base[0] != '/') {
        return err_set(err, ESCROW_ECONFIG,
                       "neither XDG_STATE_HOME nor HOME names a folder: give offsets.file");
    }
    len = snprintf(folder, sizeof folder, "%s%s/escrow/offsets", base,
                   has_state ? "" : "/.local/state");
    if (len < 0 || (size_t)len >= sizeof folder) {
        return err_set(err, ESCROW_ECONFIG, "%.100s...: too long for a path", base);
    }
    rc = make_folders(folder, strlen(base), err);
    if (rc != 0) {
        return rc;
    }
    len = snprintf(path, size, "%s/%s.json", folder, group);
    return len > 0 && (size_t)len < size
               ? 0
               : err_set(err, ESCROW_ECONFIG, "%.100s...: too long for a path", folder);
}

/* ---- the table ---- */

/* NULL when it does not fit. */
static const char *row_key(const struct local_queue *queue, char *key, size_t size)
{
    int len = snprintf(key, size, "%s@%u@%s", queue->broker, queue->queue_id, queue->topic);

    return len > 0 && (size_t)len < size ? key : NULL;
}

bool local_offsets_find(const struct local_offsets *o, const struct local_queue *queue,
                        int64_t *offset)
{
    char key[600];
    const char *text = row_key(queue, key, sizeof key);
    const struct local_row *row = text == NULL ? NULL : strmap_find(&o->rows, slice_str(text));

    if (row != NULL) {
        *offset = row->offset;
    }
    return row != NULL;
}

/* Is it text that comes back from the file as it was written? */
static bool is_name(struct slice text)
{
    size_t len = 1;

    for (size_t at = 0; at < text.len && len > 0; at += len) {
        len = text.ptr[at] == 0 ? 0 : utf8_len(text.ptr + at, text.len - at);
    }
    return text.len > 0 && text.len <= NAME_LEN_MAX && len > 0;
}

static struct local_row *row_new(const struct local_queue *queue)
{
    size_t broker = strlen(queue->broker) + 1;
    size_t topic = strlen(queue->topic) + 1;
    struct local_row *row = mem_alloc(sizeof *row + broker + topic);

    if (row != NULL) {
        row->queue_id = queue->queue_id;
        row->broker = (char *)(row + 1);
        row->topic = row->broker + broker;
        memcpy(row->broker, queue->broker, broker);
        memcpy(row->topic, queue->topic, topic);
    }
    return row;
}

int local_offsets_set(struct local_offsets *o, const struct local_queue *queue, int64_t offset)
{
    char key[600];
    const char *text = row_key(queue, key, sizeof key);
    struct local_row *row;

    if (text == NULL) {
        return ESCROW_ELIMIT;
    }
    row = strmap_find(&o->rows, slice_str(text));
    if (row == NULL) {
        if (o->rows.count >= LOCAL_OFFSETS_MAX) {
            return ESCROW_ELIMIT;
        }
        if (!is_name(slice_str(queue->topic)) || !is_name(slice_str(queue->broker))) {
            return ESCROW_EINVAL;
        }
        row = row_new(queue);
        if (row == NULL || strmap_put(&o->rows, slice_str(text), row) != 0) {
            mem_free(row);
            return ESCROW_ENOMEM;
        }
    } else if (row->offset == offset) {
        return 0;
    }
    row->offset = offset;
    o->is_dirty = true;
    return 0;
}

void local_offsets_encode(const struct local_offsets *o, struct buf *out)
{
    struct queue_stats *rows = mem_calloc(o->rows.count + 1, sizeof *rows);
    struct queue_table table = {.rows = rows};
    const struct strmap_slot *slot;
    size_t cursor = 0;

    if (rows == NULL) {
        out->failed = true;
        return;
    }
    while ((slot = strmap_next(&o->rows, &cursor)) != NULL) {
        const struct local_row *row = slot->value;
        rows[table.count++] = (struct queue_stats){.queue = {.topic = slice_str(row->topic),
                                                             .broker_name = slice_str(row->broker),
                                                             .queue_id = (int32_t)row->queue_id},
                                                   .consumer_offset = row->offset};
    }
    queue_table_encode(out, QUEUE_TABLE_OFFSETS, &table);
    mem_free(rows);
}

int local_offsets_decode(struct local_offsets *o, struct slice text)
{
    struct queue_table table;
    int rc = queue_table_decode(text, QUEUE_TABLE_OFFSETS, &table);

    for (size_t i = 0; rc == 0 && i < table.count; i++) {
        const struct queue_stats *row = &table.rows[i];
        char topic[NAME_LEN_MAX + 1];
        char broker[NAME_LEN_MAX + 1];
        struct local_queue queue = {topic, broker, (uint32_t)row->queue.queue_id};
        if (!is_name(row->queue.topic) || !is_name(row->queue.broker_name) ||
            row->consumer_offset < 0) {
            rc = ESCROW_ECORRUPT;
            break;
        }
        (void)slice_to_cstr(row->queue.topic, topic, sizeof topic);
        (void)slice_to_cstr(row->queue.broker_name, broker, sizeof broker);
        rc = local_offsets_set(o, &queue, row->consumer_offset);
    }
    queue_table_fini(&table);
    o->is_dirty = false;
    return rc == 0 || rc == ESCROW_ENOMEM ? rc : ESCROW_ECORRUPT;
}

/* ---- the file ---- */

static int lock_take(struct local_offsets *o, struct err_ctx *err)
{
    char name[LOCAL_OFFSETS_PATH_MAX];
    int rc;

    (void)snprintf(name, sizeof name, "%s.lock", o->name); /* shorter than the path by its check */
    rc = disk_open(o->disk, name, DISK_WRITE | DISK_CREATE, &o->lock, err);
    return rc == 0 ? disk_lock(o->lock, err) : rc;
}

static int file_read(struct local_offsets *o, struct err_ctx *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    int rc = disk_read_all(o->disk, o->name, LOCAL_OFFSETS_BYTES_MAX, &data, &len, err);

    if (rc == ESCROW_ENOTFOUND) {
        return 0;
    }
    if (rc == 0) {
        rc = local_offsets_decode(o, slice_of(data, len));
        if (rc != 0) {
            rc = err_set(err, rc, "%s: %s; remove it to begin where `from` says", o->path,
                         escrow_strerror(rc));
        }
    }
    mem_free(data);
    return rc;
}

int local_offsets_open(const char *path, struct hash_key key, struct local_offsets *o,
                       struct err_ctx *err)
{
    char *slash;
    int rc;

    *o = (struct local_offsets){.is_dirty = false};
    strmap_init(&o->rows, key);
    buf_init(&o->text, LOCAL_OFFSETS_BYTES_MAX);
    if (strlen(path) + sizeof "/.lock" > sizeof o->path) {
        return err_set(err, ESCROW_ECONFIG, "%.100s...: too long for a path", path);
    }
    (void)snprintf(o->path, sizeof o->path, "%s", path); /* fits */
    slash = strrchr(o->path, '/');
    o->name = slash == NULL ? o->path : slash + 1;
    if (o->name[0] == '\0') {
        return err_set(err, ESCROW_ECONFIG, "%s: expected a file, not a folder", path);
    }
    if (slash != NULL) {
        *slash = '\0';
    }
    rc = disk_posix_new(slash == NULL ? "." : slash == o->path ? "/" : o->path, &o->disk, err);
    if (slash != NULL) {
        *slash = '/';
    }
    if (rc == 0) {
        rc = lock_take(o, err);
    }
    if (rc == 0) {
        rc = file_read(o, err);
    }
    if (rc != 0) {
        local_offsets_close(o);
    }
    return rc;
}

void local_offsets_close(struct local_offsets *o)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    CHECK(!o->is_writing);
    while ((slot = strmap_next(&o->rows, &cursor)) != NULL) {
        mem_free(slot->value);
    }
    strmap_fini(&o->rows);
    disk_close(&o->lock);
    disk_free(&o->disk);
    buf_fini(&o->text);
}

/* ---- writing ---- */

/* In the pool. */
static void write_run(struct pool_job *job)
{
    struct local_offsets *o = LIST_ENTRY(job, struct local_offsets, job);

    o->error = disk_replace(o->disk, o->name, o->text.ptr, o->text.len, &o->err);
}

static void write_done(struct pool_job *job)
{
    struct local_offsets *o = LIST_ENTRY(job, struct local_offsets, job);

    o->is_writing = false;
    buf_clear(&o->text);
    if (o->error != 0) {
        o->is_dirty = true;
        log_warn("consumer.offsets", "%s was not written: %s", o->path, o->err.text);
    }
    o->written(o->arg);
}

void local_offsets_write(struct local_offsets *o, struct loop *l, void (*written)(void *arg),
                         void *arg)
{
    if (o->is_writing || !o->is_dirty) {
        return;
    }
    pool_init(&o->pool, l, 1);
    local_offsets_encode(o, &o->text);
    if (buf_failed(&o->text)) {
        buf_fini(&o->text);
        buf_init(&o->text, LOCAL_OFFSETS_BYTES_MAX);
        log_warn("consumer.offsets", "%s was not written: out of memory", o->path);
        return;
    }
    o->job.run = write_run;
    o->job.done = write_done;
    o->written = written;
    o->arg = arg;
    if (pool_submit(&o->pool, &o->job) != 0) {
        UNREACHABLE("one job, and the pool takes one");
    }
    o->is_dirty = false;
    o->is_writing = true;
}
