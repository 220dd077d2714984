/*
 * Checkpoints. On the loop everything that changes is copied or encoded, at one point of the log:
 * `visible`. What takes long the owner writes in pieces, over several turns (store_flush_more), and
 * sees to it that it is still of that point. The job writes queue entries, then index files, then
 * the checkpoint that names them, each synced before the next. So whatever a checkpoint speaks of
 * is on disk, and what is on disk beyond it is cut and written again by the next start.
 *
 * A checkpoint that follows store_retain_done also says that the log begins later. When it is
 * durable the job unlinks the segments below, oldest first; whatever stays is unlinked by the next
 * start. So there is never a moment at which a segment that the checkpoint counts on is missing.
 *
 * A flush without a checkpoint only bounds memory: when checkpoints are far apart because they are
 * big.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/store_private.h"

/* Log between two checkpoints, in checkpoint sizes: bounds what they cost. */
#define CHECKPOINT_SPACING 4
#define FLUSH_RETRY_BYTES  (UINT64_C(1) << 20)

struct flush_job {
    struct store *st;
    struct queues_flush *queues;
    struct key_index_flush *index;
    struct buf buf; /* the checkpoint */
    uint64_t position;
    uint64_t unlinked;  /* segments below have no file any more; grows as the job goes on */
    uint64_t unlink_to; /* up to here they may go */
    bool has_checkpoint;
    bool has_more; /* the owner has not written everything yet */
    bool is_stuck; /* one could not be unlinked */
    int rc;
    struct err_ctx err;
};

struct store_sections {
    struct checkpoint_writer writer;
    struct buf *buf;
};

struct buf *store_section(struct store_sections *sections, const char *name)
{
    if (sections->writer.is_open) {
        checkpoint_section_end(&sections->writer);
    }
    checkpoint_section_begin(&sections->writer, name);
    return buf_failed(sections->buf) ? NULL : sections->buf;
}

static int encode_log_section(const struct store *st, struct store_sections *sections)
{
    struct buf *b = store_section(sections, STORE_LOG_SECTION);

    if (b == NULL) {
        return ESCROW_ENOMEM;
    }
    buf_append_le64(b, st->last_offset);
    buf_append_le32(b, st->last_crc);
    return 0;
}

static int encode_checkpoint(struct store *st, struct flush_job *job, bool is_clean)
{
    struct checkpoint_head head = {
        .position = st->visible,
        .epoch = st->epoch,
        .salt = st->format.salt,
        .is_clean = is_clean,
        .log_end = is_clean ? st->visible : 0,
        .log_first = st->low,
        .index_end = key_index_end(st->index),
    };
    struct store_sections sections = {.buf = &job->buf};
    int rc;

    checkpoint_begin(&sections.writer, &job->buf, &head);
    rc = encode_log_section(st, &sections);
    if (rc == 0 && store_section(&sections, STORE_SEGMENTS_SECTION) == NULL) {
        rc = ESCROW_ENOMEM;
    }
    if (rc == 0) {
        rc = store_segments_encode(st, &job->buf);
    }
    if (rc == 0 && store_section(&sections, QUEUES_SECTION) == NULL) {
        rc = ESCROW_ENOMEM;
    }
    if (rc == 0) {
        rc = queues_encode(st->queues, job->queues, &job->buf);
    }
    if (rc == 0 && store_section(&sections, KEY_INDEX_SECTION) == NULL) {
        rc = ESCROW_ENOMEM;
    }
    if (rc == 0) {
        rc = key_index_encode(st->index, job->index, st->visible, &job->buf);
    }
    skips_prune(&st->skips);
    if (rc == 0 && st->skips.count > 0) {
        struct buf *out = store_section(&sections, DAMAGE_SECTION);
        if (out == NULL) {
            rc = ESCROW_ENOMEM;
        } else {
            skips_save(&st->skips, out);
        }
    }
    if (rc == 0 && st->owner.checkpoint_save != NULL) {
        rc = st->owner.checkpoint_save(st->owner.arg, &sections);
    }
    if (sections.writer.is_open) {
        checkpoint_section_end(&sections.writer);
    }
    return rc != 0 ? rc : checkpoint_end(&sections.writer);
}

static bool checkpoint_is_due(const struct store *st, bool force)
{
    uint64_t spacing = CHECKPOINT_SPACING * st->checkpoint_size;

    if (st->is_trim_due) {
        return true;
    }
    if (force) {
        return st->visible > st->checkpoint_at;
    }
    return st->visible >= st->flush_retry_at &&
           st->visible - st->checkpoint_at >=
               (spacing > st->cfg.checkpoint_bytes ? spacing : st->cfg.checkpoint_bytes);
}

static bool flush_is_due(const struct store *st)
{
    return st->visible >= st->flush_retry_at &&
           (queues_flush_is_due(st->queues) || key_index_flush_is_due(st->index));
}

static void flush_free(struct flush_job *job, int rc)
{
    queues_flush_done(&job->queues, rc);
    key_index_flush_done(&job->index, rc);
    buf_fini(&job->buf);
    mem_free(job);
}

/* What the owner writes in pieces: one of them. */
static int encode_more(struct flush_job *job)
{
    const struct store_owner *owner = &job->st->owner;
    int rc = owner->checkpoint_more == NULL ? 0 : owner->checkpoint_more(owner->arg, job->buf.ptr);

    job->has_more = rc == 1;
    return rc < 0 ? rc : 0;
}

/* Memory is short: try again later. */
static void flush_give_up(struct flush_job *job, int rc)
{
    struct store *st = job->st;

    flush_free(job, rc);
    st->flush_retry_at = st->visible + FLUSH_RETRY_BYTES;
    st->is_trim_due = false; /* store_retain_take asks again */
}

static struct flush_job *flush_take(struct store *st, bool has_checkpoint, bool is_clean)
{
    struct flush_job *job = mem_calloc(1, sizeof *job);
    int rc;

    CHECK(!st->is_applying);
    CHECK(st->flush == NULL);
    if (job == NULL) {
        return NULL;
    }
    job->st = st;
    job->position = st->visible;
    job->has_checkpoint = has_checkpoint;
    buf_init(&job->buf, 0);
    rc = queues_flush_take(st->queues, &job->queues);
    if (rc == 0) {
        rc = key_index_flush_take(st->index, &job->index);
    }
    if (rc == 0 && has_checkpoint) {
        rc = encode_checkpoint(st, job, is_clean);
        if (rc == 0) {
            rc = encode_more(job);
        }
    }
    if (rc != 0) {
        flush_give_up(job, rc);
        return NULL;
    }
    if (has_checkpoint) {
        job->unlinked = st->unlinked;
        job->unlink_to = segments_give_up(&st->segs, st->low);
        st->is_trim_due = false;
    }
    st->flush = job;
    return job;
}

struct flush_job *store_flush_take(struct store *st, bool force)
{
    bool has_checkpoint = checkpoint_is_due(st, force);

    if (st->flush != NULL || st->retain != NULL || (!has_checkpoint && !flush_is_due(st))) {
        return NULL;
    }
    return flush_take(st, has_checkpoint, force && st->visible == st->log.appended);
}

bool store_flush_more(struct store *st, struct flush_job **job)
{
    struct flush_job *j = *job;
    int rc = 0;

    CHECK(j == st->flush);
    if (j->has_more) {
        rc = encode_more(j);
    }
    if (rc != 0) {
        *job = NULL;
        st->flush = NULL;
        flush_give_up(j, rc);
        return false;
    }
    return j->has_more;
}

int store_flush_replay(struct store *st, struct err_ctx *err)
{
    struct flush_job *job = flush_is_due(st) ? flush_take(st, false, false) : NULL;
    int rc;

    if (job == NULL) {
        return 0; /* without memory now: entries wait a little longer */
    }
    flush_job_run(job);
    rc = store_flush_done(st, &job, err);
    return rc == ESCROW_ENOSPC ? 0 : rc;
}

/* The checkpoint says that the log begins later: it is durable. Oldest first. */
static void unlink_segments(struct flush_job *job)
{
    const struct store *st = job->st; /* disk and segment_bytes never change */

    while (job->unlinked < job->unlink_to && !job->is_stuck) {
        char path[SEGMENT_PATH_MAX];
        int rc;

        segment_path(job->unlinked, path);
        rc = disk_unlink(st->disk, path, NULL);
        job->is_stuck = rc != 0 && rc != ESCROW_ENOTFOUND;
        job->unlinked += job->is_stuck ? 0 : st->segs.segment_bytes;
    }
}

void flush_job_run(struct flush_job *job)
{
    CHECK(job->rc == 0);
    CHECK(!job->has_more); /* store_flush_more first */
    job->rc = queues_flush_run(job->queues, &job->err);
    if (job->rc == 0) {
        job->rc = key_index_flush_run(job->index, &job->err);
    }
    if (job->rc == 0 && job->has_checkpoint) {
        job->rc = checkpoint_write(job->st->disk, &job->buf, &job->err);
        if (job->rc == 0) {
            (void)queues_flush_trim(job->queues); /* what stays is removed by the next start */
            unlink_segments(job);
        }
    }
}

int store_flush_done(struct store *st, struct flush_job **job, struct err_ctx *err)
{
    struct flush_job *j = *job;
    int rc = j->rc;

    CHECK(j == st->flush);
    *job = NULL;
    st->flush = NULL;
    if (rc == 0 && j->has_checkpoint) {
        st->checkpoint_at = j->position;
        st->checkpoint_size = j->buf.len;
        st->segments_deleted += (j->unlinked - st->unlinked) / st->segs.segment_bytes;
        st->segments_stuck += j->is_stuck ? 1 : 0;
        st->unlinked = j->unlinked;
        store_rebuild_again(st);
    } else if (rc != 0) {
        st->flush_retry_at = st->visible + FLUSH_RETRY_BYTES;
        if (err != NULL) {
            *err = j->err;
            err_prefix(err, "checkpoint");
        }
    }
    flush_free(j, rc);
    return rc;
}
