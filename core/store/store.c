/*
 * Open, close, watermarks and the loop's side of the jobs. Recovery is in store_open.c, appends in
 * store_append.c, what records do in store_apply.c, checkpoints in store_flush.c, reading in
 * fetch.c and reader.c.
 */
#include "core/store/store.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/log_job.h"
#include "core/store/store_private.h"

#define PREPARE_RETRY_MS 1000 /* a full disk is asked again this often */

void store_config_init(struct store_config *cfg)
{
    *cfg = (struct store_config){
        .segment_bytes = UINT64_C(1) << 30,
        .batch_bytes_max = STORE_BATCH_BYTES_MAX,
        .checkpoint_bytes = UINT64_C(64) << 20,
    };
}

int store_open(struct disk *disk, const struct store_config *cfg, const struct store_owner *owner,
               struct store **out, struct store_recovery *recovery, struct err_ctx *err)
{
    struct store_recovery ignored;
    struct store *st;
    int rc;

    *out = NULL;
    if (recovery == NULL) {
        recovery = &ignored;
    }
    *recovery = (struct store_recovery){.is_new = false};
    if (!store_format_is_segment_size(cfg->segment_bytes) || cfg->batch_bytes_max == 0 ||
        cfg->batch_bytes_max > STORE_BATCH_BYTES_MAX) {
        return err_set(err, ESCROW_EINVAL, "store: segment or batch size out of range");
    }
    st = mem_calloc(1, sizeof *st);
    if (st == NULL) {
        return err_set(err, ESCROW_ENOMEM, "store: out of memory");
    }
    st->disk = disk;
    st->cfg = *cfg;
    st->owner = *owner;
    st->last_offset = UINT64_MAX;
    *out = st; /* before the replay: apply() releases halves through it */
    rc = store_recover(st, recovery, err);
    if (rc != 0) {
        store_close(out);
    }
    return rc;
}

void store_close(struct store **st)
{
    struct store *s = *st;

    if (s == NULL) {
        return;
    }
    CHECK(s->flush == NULL);
    CHECK(s->retain == NULL);
    if (s->log.segs != NULL) {
        commit_log_fini(&s->log);
    }
    skips_fini(&s->skips);
    damage_fini(&s->damage);
    queues_free(&s->queues);
    key_index_free(&s->index);
    if (s->segs.disk != NULL) {
        segments_fini(&s->segs);
    }
    disk_close(&s->lock);
    mem_free(s);
    *st = NULL;
}

struct store_watermarks store_watermarks(const struct store *st)
{
    return (struct store_watermarks){
        .first = st->low,
        .visible = st->visible,
        .durable = st->log.durable,
        .written = st->log.written,
        .appended = st->log.appended,
    };
}

uint32_t store_epoch(const struct store *st)
{
    return st->epoch;
}

uint32_t store_id(const struct store *st)
{
    return st->format.id;
}

static int64_t oldest_ms(const struct store *st)
{
    size_t skip = (size_t)((st->low - st->segs.first) / st->segs.segment_bytes);

    for (size_t i = skip; i < st->segs.count; i++) {
        if (st->segs.list[i].begin_ms != 0) {
            return st->segs.list[i].begin_ms;
        }
    }
    return 0;
}

static uint64_t damaged_stops(const struct store *st)
{
    struct store_damage damage;
    uint64_t cursor = 0;
    uint64_t count = 0;

    while (store_damage_next(st, &cursor, &damage)) {
        count += damage.has_entry && !damage.is_skipped ? 1 : 0;
    }
    return count;
}

struct store_stats store_stats(const struct store *st)
{
    return (struct store_stats){
        .records_appended = st->log.records,
        .bytes_appended = st->log.bytes,
        .batches = st->log.batch_count,
        .allocated_bytes = commit_log_allocated(&st->log),
        .reserved_bytes = st->log.reserved,
        .batch_memory_bytes = st->log.memory_bytes,
        .checkpoint_offset = st->checkpoint_at,
        .segment_count = (st->segs.allocated - st->unlinked) / st->segs.segment_bytes,
        .segment_bytes = st->segs.segment_bytes,
        .segments_deleted = st->segments_deleted,
        .segments_stuck = st->segments_stuck,
        .oldest_ms = oldest_ms(st),
        .damaged = st->damage.met,
        .damaged_stops = damaged_stops(st),
        .entries_rebuilt = st->entries_rebuilt,
        .skips = st->skips.count,
        .index_lost = st->index_lost,
        .is_disk_full = st->log.is_disk_full,
        .is_refusing = st->is_refusing,
    };
}

/* ------------------------------------------------------------------ batches */

struct log_batch *store_batch_take(struct store *st)
{
    CHECK(!st->is_applying);
    return commit_log_take(&st->log);
}

void store_batch_written(struct store *st)
{
    CHECK(st->log.flying != NULL);
    st->log.written = st->log.flying->end;
}

int store_batch_done(struct store *st, struct log_batch **batch, struct err_ctx *err)
{
    struct log_batch *b = *batch;
    int rc = b->rc;

    *batch = NULL;
    CHECK(b == st->log.flying);
    if (rc != 0) {
        /*
         * What reached the disk is unknown. Nothing may follow: the next record would make a hole
         * look durable.
         */
        st->log.has_failed = true;
        if (err != NULL) {
            *err = b->err;
            err_prefix(err, "commit log: a batch could not be written");
        }
        commit_log_recycle(&st->log, b);
        return rc;
    }
    commit_log_synced(&st->log, b);
    rc = store_apply_batch(st, b, err);
    st->log.has_failed = rc != 0;
    commit_log_recycle(&st->log, b);
    return rc;
}

void store_trim(struct store *st)
{
    commit_log_trim(&st->log);
}

/* ------------------------------------------------------------------ segments */

struct segment_job *store_prepare_take(struct store *st, int64_t now_ms)
{
    struct segment_job *job;

    if (st->log.is_preparing || !commit_log_wants_segment(&st->log) || now_ms < st->log.retry_ms) {
        return NULL;
    }
    job = segment_job_new(st->disk, st->segs.allocated, st->segs.segment_bytes);
    st->log.is_preparing = job != NULL;
    return job;
}

int store_prepare_done(struct store *st, struct segment_job **job, int64_t now_ms,
                       struct err_ctx *err)
{
    struct segment_job *j = *job;
    int rc = j->rc;

    CHECK(st->log.is_preparing);
    CHECK(j->first == st->segs.allocated);
    *job = NULL;
    st->log.is_preparing = false;
    if (rc == 0) {
        rc = segments_append(&st->segs, &j->file);
        st->log.is_disk_full = false;
        st->log.is_starved = false;
        st->log.retry_ms = INT64_MIN;
        st->flush_retry_at = 0;
    }
    if (rc == ESCROW_ENOSPC || rc == ESCROW_ENOMEM || rc == ESCROW_ELIMIT) {
        /*
         * Not prepared, but nothing is broken either (a file that was created is found by name next
         * time).
         */
        st->log.is_disk_full = rc == ESCROW_ENOSPC;
        st->log.retry_ms = now_ms + PREPARE_RETRY_MS;
        rc = 0;
    } else if (rc != 0 && err != NULL) {
        *err = j->err;
        err_prefix(err, "preparing the next segment");
    }
    segment_job_free(&j);
    return rc;
}

/* ------------------------------------------------------------------ queues */

bool store_queue_range(const struct store *st, const struct store_queue_ref *queue,
                       int64_t *min_offset, int64_t *max_offset)
{
    const struct queue *q = queues_find(st->queues, queue->topic, queue->queue_id);

    *min_offset = q == NULL ? 0 : (int64_t)q->min;
    *max_offset = q == NULL ? 0 : (int64_t)q->visible;
    return q != NULL && q->visible > 0;
}

void store_check(const struct store *st)
{
    CHECK(st->visible <= st->log.durable);
    CHECK(st->checkpoint_at <= st->visible);
    CHECK(st->unlinked <= st->segs.first);
    CHECK(st->segs.first <= st->low);
    CHECK(st->low <= segments_start_of(&st->segs, st->last_offset));
    CHECK(st->log.reserved <= commit_log_allocated(&st->log));
    segments_check(&st->segs);
    commit_log_check(&st->log);
    queues_check(st->queues);
    key_index_check(st->index);
}
