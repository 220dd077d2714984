/*
 * What the tests of the key index share: an index on a simulated disk, beside it a plain list of
 * everything that was put, and the comparison of the two.
 *
 * Owns:    disk, index and list, from setup to teardown.
 * Thread:  one.
 */
#ifndef TESTS_UNIT_CORE_STORE_KEY_INDEX_TEST_H
#define TESTS_UNIT_CORE_STORE_KEY_INDEX_TEST_H

#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "core/store/key_index.h"
#include "core/store/key_index_private.h"
#include "tests/lib/sim_disk.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <stdlib.h>

#define MODEL_MAX    60000
#define MODEL_TOPICS 3
#define MODEL_KEYS   40

struct model_entry {
    uint64_t at;
    uint64_t offset;
    int64_t store_ms;
    uint32_t topic;
    uint32_t key;
};

static struct disk *disk;
static struct key_index *ix;
static struct buf section; /* of the last durable checkpoint */
static uint64_t position;  /* of that checkpoint */
static struct model_entry model[MODEL_MAX];
static uint32_t model_count;
static uint64_t log_end;
static uint64_t log_min;
static uint32_t key_step = 1; /* check_all looks at every so many keys */

static const struct key_index_options small_options = {.file_entries = 8, .merge_files = 4};

static inline struct key_index *open_index(struct disk *d, const struct key_index_options *options,
                                           struct slice bytes, struct key_index_report *report)
{
    struct key_index_options o = *options;
    struct key_index *opened = NULL;
    struct err_ctx err = {0};
    int rc;

    o.disk = d;
    o.log_min = log_min;
    rc = key_index_open(&opened, &o, bytes, report, &err);
    ck_assert_msg(rc == 0, "%s", err.text);
    key_index_check(opened);
    return opened;
}

static inline void setup(void)
{
    struct key_index_report report;

    disk = sim_disk_new();
    model_count = 0;
    log_end = 0;
    log_min = 0;
    position = 0;
    buf_init(&section, 0);
    ix = open_index(disk, &small_options, SLICE_EMPTY, &report);
}

static inline void teardown(void)
{
    key_index_check(ix);
    key_index_free(&ix);
    disk_free(&disk);
    buf_fini(&section);
    ck_assert_int_eq(mem_live_count(), 0);
}

static inline void restart_fixture(void)
{
    teardown();
    setup();
}

static inline struct slice topic_of(uint32_t i)
{
    static const char *const topics[MODEL_TOPICS] = {"orders", "%RETRY%billing", "x"};

    return slice_str(topics[i % MODEL_TOPICS]);
}

static inline struct slice key_of(uint32_t i, char text[32])
{
    memcpy(text, "key-00", 6);
    text[4] = (char)('0' + i / 10);
    text[5] = (char)('0' + i % 10);
    return slice_of(text, 6);
}

static inline void put_entry(const struct model_entry *e)
{
    char text[32];

    key_index_put(ix, e->at, e->offset, e->store_ms, topic_of(e->topic), key_of(e->key, text));
}

/* One more record in the log; 0 to 3 keys, mostly of itself, sometimes of an older record. */
static inline void put_record(struct rand *r)
{
    uint64_t keys = rand_below(r, 4);

    for (uint64_t k = 0; k < keys && model_count < MODEL_MAX; k++) {
        struct model_entry *e = &model[model_count++];

        *e = (struct model_entry){.at = log_end,
                                  .offset = log_end,
                                  .store_ms = (int64_t)(log_end / 10),
                                  .topic = (uint32_t)rand_below(r, MODEL_TOPICS),
                                  .key = (uint32_t)rand_below(r, MODEL_KEYS)};
        if (rand_below(r, 5) == 0 && log_end > 0) { /* a released half */
            e->offset = rand_below(r, log_end) / 8 * 8;
            e->store_ms = (int64_t)(e->offset / 10);
        }
        put_entry(e);
    }
    log_end += 8 + rand_below(r, 50) * 8;
}

static inline void put_records(struct rand *r, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        put_record(r);
    }
}

static inline int find(const struct key_index_query *q, struct key_index_hit *hits, uint32_t *count)
{
    struct key_index_find *job = NULL;
    const struct key_index_hit *found;
    int rc = key_index_find_take(ix, q, &job);

    *count = 0;
    if (rc == 0) {
        rc = key_index_find_run(job, NULL);
        found = key_index_find_hits(job, count);
        memcpy(hits, found, *count * sizeof *hits);
    }
    key_index_find_done(&job);
    return rc;
}

/*
 * A look-up must give what going through the whole list backwards gives. Check writes to a pipe at
 * every ck_assert: there is none on the good path.
 */
static inline void check_query(const struct key_index_query *q)
{
    static struct key_index_hit hits[KEY_INDEX_HITS_MAX];
    uint32_t count = 0;
    uint32_t n = 0;

    if (find(q, hits, &count) != 0) {
        ck_abort_msg("look-up failed");
    }
    for (uint32_t i = model_count; i > 0 && n < q->count_max; i--) {
        const struct model_entry *e = &model[i - 1];
        char text[32];

        if (e->offset < q->log_min || e->store_ms < q->begin_ms || e->store_ms > q->end_ms ||
            !slice_eq(topic_of(e->topic), q->topic) || !slice_eq(key_of(e->key, text), q->key)) {
            continue;
        }
        if (n >= count || hits[n].offset != e->offset || hits[n].store_ms != e->store_ms) {
            ck_abort_msg("hit %u of %u is not offset %llu", n, count,
                         (unsigned long long)e->offset);
        }
        n++;
    }
    if (count != n) {
        ck_abort_msg("%u hits instead of %u", count, n);
    }
}

static inline void check_all(void)
{
    for (uint32_t t = 0; t < MODEL_TOPICS; t++) {
        for (uint32_t k = 0; k <= MODEL_KEYS; k += key_step) {
            char text[32];
            struct key_index_query q = {.topic = topic_of(t),
                                        .key = key_of(k, text),
                                        .begin_ms = INT64_MIN,
                                        .end_ms = INT64_MAX,
                                        .log_min = log_min,
                                        .count_max = KEY_INDEX_HITS_MAX};
            check_query(&q);
        }
    }
    key_index_check(ix);
}

/* A flush, with a checkpoint or without. */
static inline int flush_with(bool has_checkpoint)
{
    struct key_index_flush *flush = NULL;
    struct buf b;
    int rc = key_index_flush_take(ix, &flush);

    buf_init(&b, 0);
    if (rc == 0 && has_checkpoint) {
        rc = key_index_encode(ix, flush, log_end, &b);
    }
    if (rc == 0) {
        rc = key_index_flush_run(flush, NULL);
    }
    if (rc == 0 && has_checkpoint) {
        buf_clear(&section);
        buf_append_slice(&section, buf_slice(&b));
        position = log_end;
    }
    key_index_flush_done(&flush, rc);
    buf_fini(&b);
    key_index_check(ix);
    return rc;
}

static inline int flush(void)
{
    return flush_with(false);
}

/* Until nothing waits to be written or unlinked. */
static inline void flush_all(void)
{
    while (key_index_flush_is_due(ix)) {
        ck_assert_int_eq(flush(), 0);
    }
}

static inline int checkpoint(void)
{
    return flush_with(true);
}

/* The replay: everything in the log from the last checkpoint on. */
static inline void replay(void)
{
    for (uint32_t i = 0; i < model_count; i++) {
        if (model[i].at >= position) {
            put_entry(&model[i]);
        }
        if (ix->sealed_count > KEY_INDEX_SEALED_MAX / 2) {
            ck_assert_int_eq(flush(), 0);
        }
    }
}

/* Stop, start from the last checkpoint, and replay. */
static inline struct key_index_report reopen(void)
{
    struct key_index_report report;

    key_index_free(&ix);
    ix = open_index(disk, &small_options, buf_slice(&section), &report);
    replay();
    return report;
}

static inline void count_file(void *arg, const char *path, uint64_t size_bytes)
{
    (void)path;
    (void)size_bytes;
    ++*(uint32_t *)arg;
}

static inline uint32_t file_count(void)
{
    uint32_t count = 0;

    sim_disk_visit(disk, count_file, &count);
    return count;
}

#endif
