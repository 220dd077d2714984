/*
 * Giving up the front of the log. FORMAT.md, "Deletion", has the order on disk; here is what
 * happens before it: each queue's first entry that stays is found, in a job, by reading its entries
 * from the front, since records that were held are older than their place in the queue and entries
 * are not in the order of the log. Then, in one turn of the loop, nobody reads below any more, and
 * a checkpoint is due.
 *
 * Entries behind a queue's first one may lead to what was given up too; readers go on behind them.
 *
 * Failure modes: memory and errors of the disk: nothing has changed. An entry that is damaged, or
 * in a file that is missing or cannot be read, stays the first one of its queue, for its first
 * reader to have it rebuilt; unless a SKIPPED record covers it: then it goes with its neighbours.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/queue_path.h"
#include "core/store/store_private.h"

#define SCAN_ENTRIES_FIRST 64u   /* most queues lose a part of what one file holds */
#define SCAN_ENTRIES       4096u /* 80 KiB at a time for those that lose much */

/* Section "segments": first u64, count u32, zero u32; rows of begin and use, ms, i64 each. */
#define SECTION_HEAD 16u
#define SECTION_ROW  16u

struct retain_queue {
    struct queue *queue;
    uint64_t first; /* the first entry that stays; the job raises it */
    uint64_t end;   /* of the entries in files */
};

struct retain_job {
    struct disk *disk;
    uint64_t low;
    struct retain_queue *queues;
    size_t count;
    struct skips skips; /* a copy */
    uint8_t *buf;       /* SCAN_ENTRIES */
    int rc;
    struct err_ctx err;
};

/* ------------------------------------------------------------------ what there is */

/* Segments that hold records, the last one included. */
static size_t segments_in_use(const struct store *st)
{
    uint64_t last = segments_start_of(&st->segs, st->last_offset);

    return (size_t)((last - st->low) / st->segs.segment_bytes) + 1;
}

uint32_t store_segments(const struct store *st, struct store_segment *rows, uint32_t max)
{
    const struct segments *segs = &st->segs;
    size_t skip = (size_t)((st->low - segs->first) / segs->segment_bytes);
    size_t count = segments_in_use(st) - 1;
    uint32_t i = 0;

    for (; i < max && i < count; i++) {
        const struct segment *seg = &segs->list[skip + i];
        rows[i] = (struct store_segment){
            .first = st->low + i * segs->segment_bytes,
            .begin_ms = seg->begin_ms,
            .used_ms = seg->used_ms,
        };
    }
    return i;
}

void store_segments_not_after(struct store *st, int64_t now_ms)
{
    for (size_t i = 0; i < st->segs.count; i++) {
        struct segment *seg = &st->segs.list[i];
        seg->used_ms = seg->used_ms > now_ms ? now_ms : seg->used_ms;
    }
}

void store_refuse(struct store *st, bool is_refusing)
{
    st->is_refusing = is_refusing;
}

/* ------------------------------------------------------------------ checkpoint */

int store_segments_encode(const struct store *st, struct buf *b)
{
    size_t skip = (size_t)((st->low - st->segs.first) / st->segs.segment_bytes);
    size_t count = segments_in_use(st);

    buf_append_le64(b, st->low);
    buf_append_le32(b, (uint32_t)count);
    buf_append_le32(b, 0);
    for (size_t i = 0; i < count; i++) {
        const struct segment *seg = &st->segs.list[skip + i];
        buf_append_le64(b, (uint64_t)seg->begin_ms);
        buf_append_le64(b, (uint64_t)seg->used_ms);
    }
    return buf_failed(b) ? ESCROW_ENOMEM : 0;
}

int store_segments_decode(struct segments *segs, const struct checkpoint *ckpt, int64_t now_ms,
                          struct err_ctx *err)
{
    struct slice section;
    uint32_t count;

    if (!checkpoint_find(ckpt, STORE_SEGMENTS_SECTION, &section)) {
        /* Of an older version: nobody knows how old they are, so their time begins now. */
        for (size_t i = 0; i < segs->count; i++) {
            bool is_used = segs->first + i * segs->segment_bytes < ckpt->head.position;
            segs->list[i].used_ms = is_used ? now_ms : 0;
        }
        return 0;
    }
    count = section.len < SECTION_HEAD ? 0 : get_le32(section.ptr + 8);
    if (section.len < SECTION_HEAD || get_le64(section.ptr) != segs->first ||
        get_le32(section.ptr + 12) != 0 || count > segs->count ||
        section.len != SECTION_HEAD + (size_t)count * SECTION_ROW) {
        return err_set(err, ESCROW_ECORRUPT, "%s: section \"%s\" makes no sense", CHECKPOINT_PATH,
                       STORE_SEGMENTS_SECTION);
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = section.ptr + SECTION_HEAD + (size_t)i * SECTION_ROW;
        segs->list[i].begin_ms = (int64_t)get_le64(row);
        segs->list[i].used_ms = (int64_t)get_le64(row + 8);
    }
    return 0;
}

/* ------------------------------------------------------------------ take */

static void job_free(struct retain_job *job)
{
    mem_free(job->queues);
    skips_fini(&job->skips);
    mem_free(job->buf);
    mem_free(job);
}

/* Queues with entries in files that may lead to what is given up. */
static void list_queues(struct store *st, struct retain_job *job)
{
    struct queues_cursor cursor = {0};
    struct queue *q;

    while ((q = queues_next(st->queues, &cursor)) != NULL) {
        if (q->min < q->flushed) {
            job->queues[job->count++] =
                (struct retain_queue){.queue = q, .first = q->min, .end = q->flushed};
        }
    }
}

struct retain_job *store_retain_take(struct store *st, uint64_t first)
{
    struct retain_job *job;

    CHECK(!st->is_applying);
    CHECK(first % st->segs.segment_bytes == 0);
    CHECK(first <= segments_start_of(&st->segs, st->last_offset));
    if (st->flush != NULL || st->retain != NULL) {
        return NULL;
    }
    if (st->unlinked < st->low) {
        st->is_trim_due = true;
    }
    if (first <= st->low) {
        return NULL;
    }
    job = mem_calloc(1, sizeof *job);
    if (job == NULL) {
        return NULL;
    }
    job->disk = st->disk;
    job->low = first;
    job->queues = mem_calloc(queues_count(st->queues) + 1, sizeof *job->queues);
    job->buf = mem_alloc((size_t)SCAN_ENTRIES * QUEUE_ENTRY_SIZE);
    if (job->queues == NULL || job->buf == NULL || skips_copy(&job->skips, &st->skips) != 0) {
        job_free(job);
        return NULL;
    }
    list_queues(st, job);
    st->retain = job;
    return job;
}

/* ------------------------------------------------------------------ run */

/* What entries of a queue are asked for. */
struct passing {
    const struct queue *queue;
    const struct skips *skips;
    uint64_t low;
};

/*
 * Raise first over the entries of these `count` that lead below `low`; false at the first that does
 * not, or is damaged.
 */
static bool pass_entries(uint64_t *first, const uint8_t *bytes, uint64_t count,
                         const struct passing *p)
{
    for (uint64_t i = 0; i < count; i++) {
        struct queue_entry entry;
        bool is_good = queue_entry_decode(bytes + i * QUEUE_ENTRY_SIZE, *first, &entry);
        if (is_good ? entry.offset >= p->low : !skips_allow(p->skips, p->queue, *first)) {
            return false;
        }
        (*first)++;
    }
    return true;
}

/* One file of a queue, from rq->first on. 1: all of it is below; 0: found; or an error. */
static int scan_file(struct retain_job *job, struct retain_queue *rq, struct disk_file *f,
                     uint64_t file_end)
{
    const struct passing passing = {.queue = rq->queue, .skips = &job->skips, .low = job->low};
    uint64_t want = SCAN_ENTRIES_FIRST;

    while (rq->first < file_end) {
        uint64_t at = rq->first % QUEUE_FILE_ENTRIES * QUEUE_ENTRY_SIZE;
        size_t got = 0;
        int rc;

        want = want < file_end - rq->first ? want : file_end - rq->first;
        rc = disk_pread(f, job->buf, (size_t)want * QUEUE_ENTRY_SIZE, at, &got, &job->err);
        if (rc != 0) {
            return rc;
        }
        if (!pass_entries(&rq->first, job->buf, got / QUEUE_ENTRY_SIZE, &passing) ||
            got < (size_t)want * QUEUE_ENTRY_SIZE) {
            return 0;
        }
        want = SCAN_ENTRIES;
    }
    return 1;
}

static int scan_queue(struct retain_job *job, struct retain_queue *rq)
{
    int rc = 1;

    while (rc == 1 && rq->first < rq->end) {
        uint64_t file_end = (rq->first / QUEUE_FILE_ENTRIES + 1) * QUEUE_FILE_ENTRIES;
        struct queue_path path;
        struct disk_file *f = NULL;

        queue_path_file(&path, queue_topic(rq->queue), rq->queue->id,
                        (uint32_t)(rq->first / QUEUE_FILE_ENTRIES));
        rc = disk_open(job->disk, path.text, DISK_READ, &f, &job->err);
        if (rc == 0) {
            rc = scan_file(job, rq, f, file_end < rq->end ? file_end : rq->end);
        }
        disk_close(&f);
    }
    return rc < 0 && rc != ESCROW_ENOTFOUND && rc != ESCROW_EIO ? rc : 0;
}

void retain_job_run(struct retain_job *job)
{
    for (size_t i = 0; i < job->count && job->rc == 0; i++) {
        job->rc = scan_queue(job, &job->queues[i]);
    }
}

/* ------------------------------------------------------------------ done */

/* Entries that are in no file: no flush has run since the job was taken. */
static void pass_memory(struct store *st, struct queue *q, uint64_t low)
{
    const struct passing passing = {.queue = q, .skips = &st->skips, .low = low};
    uint64_t first = q->min;
    const uint8_t *bytes;
    uint32_t count;

    while (first >= q->flushed && first < q->visible) {
        count = queue_memory(q, first, UINT32_MAX, &bytes);
        if (count == 0 || !pass_entries(&first, bytes, count, &passing)) {
            break;
        }
    }
    queue_set_min(q, first);
}

int store_retain_done(struct store *st, struct retain_job **job, struct err_ctx *err)
{
    struct retain_job *j = *job;
    struct queues_cursor cursor = {0};
    struct queue *q;
    int rc = j->rc;

    CHECK(j == st->retain);
    *job = NULL;
    st->retain = NULL;
    if (rc != 0) {
        if (err != NULL) {
            *err = j->err;
            err_prefix(err, "retention");
        }
        job_free(j);
        return rc;
    }
    for (size_t i = 0; i < j->count; i++) {
        queue_set_min(j->queues[i].queue, j->queues[i].first);
    }
    while ((q = queues_next(st->queues, &cursor)) != NULL) {
        pass_memory(st, q, j->low);
    }
    st->low = j->low;
    damage_prune(&st->damage, st->low);
    key_index_trim(st->index, j->low);
    st->is_trim_due = true;
    job_free(j);
    return 0;
}

void store_drop_topic(struct store *st, struct slice topic)
{
    CHECK(st->is_applying);
    queues_drop_topic(st->queues, topic);
    st->is_trim_due = true;
}
