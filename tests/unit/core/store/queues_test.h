/*
 * What the tests of the set of queues share: one set on a simulated disk, entries that can be
 * recognised, whole checkpoints and restarts.
 *
 * Owns:    the disk and the set, from setup to teardown.
 * Thread:  one.
 */
#ifndef TESTS_UNIT_CORE_STORE_QUEUES_TEST_H
#define TESTS_UNIT_CORE_STORE_QUEUES_TEST_H

#include "core/base/mem.h"
#include "core/store/queue_path.h"
#include "core/store/queues.h"
#include "core/store/queues_private.h"
#include "tests/lib/sim_disk.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

#define FILE_ENTRIES QUEUE_FILE_ENTRIES

static struct disk *disk;
static struct queues *qs;
static struct buf section; /* of the last durable checkpoint */
static uint64_t op_counts[SIM_OP_SYNC_DIR + 1];
static enum sim_op_kind last_op;

static inline struct queues *new_set(struct disk *d)
{
    struct queues_options options = {.disk = d, .hash_key = {1, 2}, .files_open_max = 8};
    struct queues *set = NULL;

    ck_assert_int_eq(queues_new(&set, &options), 0);
    return set;
}

static inline void count_op(void *arg, const struct sim_op *op)
{
    (void)arg;
    op_counts[op->kind]++;
    last_op = op->kind;
}

static inline void setup(void)
{
    disk = sim_disk_new();
    memset(op_counts, 0, sizeof op_counts);
    sim_disk_set_hook(disk, count_op, NULL);
    qs = new_set(disk);
    buf_init(&section, 0);
}

static inline void teardown(void)
{
    queues_check(qs);
    queues_free(&qs);
    disk_free(&disk);
    buf_fini(&section);
    ck_assert_int_eq(mem_live_count(), 0);
}

static inline struct queue *get(const char *topic, uint32_t id)
{
    struct queue *q = NULL;

    ck_assert_int_eq(queues_get(qs, slice_str(topic), id, &q), 0);
    return q;
}

/* What entry `n` of a queue holds depends on both. */
static inline struct queue_entry entry_of(const struct queue *q, uint64_t n)
{
    uint64_t mix = n * 1000003 + q->id * 17 + queue_topic(q).len;

    return (struct queue_entry){.offset = mix, .size_bytes = (uint32_t)n, .tag_hash = -(int64_t)n};
}

/* Check writes to a pipe at every ck_assert: in loops over entries there is one at the end. */
static inline void put_to(struct queues *set, struct queue *q, uint64_t count)
{
    bool is_right = true;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = 0;
        struct queue_entry entry;

        is_right = is_right && queue_reserve(q, &number) == 0;
        entry = entry_of(q, number);
        is_right = is_right && queues_put(set, q, &entry) == number;
    }
    ck_assert(is_right);
}

static inline void put(struct queue *q, uint64_t count)
{
    put_to(qs, q, count);
}

static inline void check_entries(const struct queue *q, uint64_t first,
                                 const struct queue_entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct queue_entry want = entry_of(q, first + i);

        if (entries[i].offset != want.offset || entries[i].size_bytes != want.size_bytes ||
            entries[i].tag_hash != want.tag_hash) {
            ck_abort_msg("entry %llu is not what was put", (unsigned long long)(first + i));
        }
    }
}

static inline int read_cold(struct queues *set, const struct queue *q, uint64_t first,
                            uint32_t count, struct queue_entry *entries, uint32_t *got)
{
    struct queues_read read;
    int rc = queues_read_take(set, q, first, count, entries, &read);

    *got = 0;
    if (rc == 0) {
        rc = queues_read_run(&read, NULL);
        *got = rc == 0 ? read.got : 0;
        queues_read_done(&read);
    }
    return rc;
}

/* Read [first, end) as the store does: without waiting, and as a job where that is cold. */
static inline void check_range(struct queues *set, const struct queue *q, uint64_t first,
                               uint64_t end)
{
    static struct queue_entry entries[1000];

    while (first < end) {
        uint32_t want = end - first < 1000 ? (uint32_t)(end - first) : 1000;
        uint32_t got = 0;
        int rc = queues_read_nowait(set, q, first, want, entries, &got);

        if (rc == ESCROW_EAGAIN) {
            rc = read_cold(set, q, first, want, entries, &got);
        }
        ck_assert_int_eq(rc, 0);
        ck_assert_uint_gt(got, 0);
        ck_assert_uint_le(got, want);
        check_entries(q, first, entries, got);
        first += got;
    }
}

static inline void check_all(struct queues *set)
{
    struct queues_cursor cursor = {0};
    const struct queue *q;

    while ((q = queues_next(set, &cursor)) != NULL) {
        check_range(set, q, q->min, q->visible);
    }
    queues_check(set);
}

/* A whole checkpoint; the section is replaced when it succeeds. */
static inline int checkpoint(void)
{
    struct queues_flush *flush = NULL;
    struct buf b;
    int rc = queues_flush_take(qs, &flush);

    buf_init(&b, 0);
    if (rc == 0) {
        rc = queues_encode(qs, flush, &b);
    }
    if (rc == 0) {
        rc = queues_flush_run(flush, NULL);
    }
    if (rc == 0) {
        buf_clear(&section);
        buf_append_slice(&section, buf_slice(&b));
        (void)queues_flush_trim(flush);
    }
    queues_flush_done(&flush, rc);
    buf_fini(&b);
    queues_check(qs);
    return rc;
}

static inline int flush_only(void)
{
    struct queues_flush *flush = NULL;
    int rc = queues_flush_take(qs, &flush);

    if (rc == 0) {
        rc = queues_flush_run(flush, NULL);
    }
    queues_flush_done(&flush, rc);
    queues_check(qs);
    return rc;
}

static inline int open_set(struct queues *set, struct slice bytes,
                           struct queues_open_report *report, struct err_ctx *err)
{
    int rc = bytes.len == 0 ? 0 : queues_decode(set, bytes, err);

    if (rc == 0) {
        rc = queues_verify(set, report, err);
    }
    if (rc == 0) {
        rc = queues_cut(set, report, err);
    }
    return rc;
}

/* Stop, and start again from the last checkpoint. */
static inline struct queues_open_report reopen(void)
{
    struct queues_open_report report = {0};

    queues_free(&qs);
    qs = new_set(disk);
    ck_assert_int_eq(open_set(qs, buf_slice(&section), &report, NULL), 0);
    queues_check(qs);
    return report;
}

static inline void count_file(void *arg, const char *path, uint64_t size_bytes)
{
    (void)path;
    (void)size_bytes;
    ++*(uint64_t *)arg;
}

static inline uint64_t file_count(void)
{
    uint64_t count = 0;

    sim_disk_visit(disk, count_file, &count);
    return count;
}

/* Make a file, with its folders. */
static inline void make_file(const char *path, const char *text)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct disk_file *f = NULL;
    char folder[QUEUE_PATH_MAX];

    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
        ck_assert_int_eq(disk_mkdir(disk, folder, NULL), 0);
    }
    ck_assert_int_eq(disk_open(disk, path, DISK_WRITE | DISK_CREATE, &f, NULL), 0);
    ck_assert_int_eq(disk_pwritev(f, &iov, 1, 0, NULL), 0);
    disk_close(&f);
}

#endif
