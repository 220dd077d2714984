/*
 * Happy path: what is asked for lies in the fetch's block or in the page cache, and is copied.
 * Otherwise the wish is written down (file, offset, length), the job reads it, and the caller asks
 * again. A block that was read stays until the next wish of its kind, so that each round gets
 * further.
 */
#include "core/store/fetch.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/recovery.h"

#include <inttypes.h>

struct store_fetch *store_fetch_new(struct store *st)
{
    struct store_fetch *fetch = mem_calloc(1, sizeof *fetch);

    if (fetch != NULL) {
        fetch->st = st;
        buf_init(&fetch->scratch, 0);
    }
    return fetch;
}

/* Give back what the wish has borrowed. */
static void fetch_complete(struct store_fetch *fetch)
{
    struct segments *segs = &fetch->st->segs;

    switch (fetch->wish) {
    case FETCH_NOTHING:
        break;
    case FETCH_LOG:
        if (fetch->file != NULL) {
            segments_unpin(segs, fetch->at);
            fetch->file = NULL;
        }
        if (fetch->opened != NULL) {
            segments_adopt(segs, fetch->at, &fetch->opened);
        }
        if (!fetch->has_run || fetch->rc != 0) {
            fetch->len = 0;
        }
        break;
    case FETCH_QUEUE:
        queues_read_done(&fetch->read);
        fetch->entry_count = fetch->has_run && fetch->rc == 0 ? fetch->read.got : 0;
        break;
    case FETCH_INDEX:
        if (!fetch->has_run || fetch->rc != 0) {
            key_index_find_done(&fetch->find);
        }
        break;
    case FETCH_REBUILD:
        fetch->rebuild_outcome = store_rebuild_done(fetch->st, &fetch->rebuild, fetch->has_run);
        break;
    }
    fetch->wish = FETCH_NOTHING;
}

void store_fetch_free(struct store_fetch **fetch)
{
    struct store_fetch *f = *fetch;

    if (f == NULL) {
        return;
    }
    fetch_complete(f);
    key_index_find_done(&f->find);
    mem_free(f->buf);
    mem_free(f->entries);
    mem_free(f->hits);
    buf_fini(&f->scratch);
    mem_free(f);
    *fetch = NULL;
}

/* What was wished for has been given up meanwhile: its file may be gone, and nobody wants it. */
static bool is_given_up(const struct store_fetch *fetch)
{
    return (fetch->wish == FETCH_LOG && fetch->at < fetch->st->low) ||
           (fetch->wish == FETCH_QUEUE && fetch->entry_first < fetch->queue->min);
}

int fetch_settle(struct store_fetch *fetch, struct err_ctx *err)
{
    int rc;

    if (fetch == NULL || fetch->wish == FETCH_NOTHING) {
        return 0;
    }
    rc = fetch->has_run && !is_given_up(fetch) ? fetch->rc : 0;
    if (rc == ESCROW_ENOTFOUND && fetch->wish == FETCH_QUEUE) {
        rc = ESCROW_ECORRUPT; /* the file is missing */
    }
    fetch->bad_rc = 0;
    if (store_is_damage(rc) && fetch->wish != FETCH_INDEX) {
        fetch->bad_rc = fetch->is_narrow ? rc : 0;
        fetch->bad_wish = fetch->wish;
        fetch->is_narrow = true;
        rc = 0;
    } else if (rc != 0 && err != NULL) {
        *err = fetch->err;
    }
    fetch_complete(fetch);
    fetch->has_run = false;
    fetch->rc = 0;
    return rc;
}

/* The error, once, if just this was asked for, alone, and cannot be read. */
static int take_bad(struct store_fetch *fetch, enum fetch_wish wish, uint64_t at,
                    struct err_ctx *err)
{
    uint64_t asked = wish == FETCH_LOG ? fetch->at : fetch->entry_first;
    int rc = fetch->bad_wish == wish && asked == at ? fetch->bad_rc : 0;

    if (rc != 0 && err != NULL) {
        *err = fetch->err;
    }
    fetch->bad_rc = rc != 0 ? 0 : fetch->bad_rc;
    return rc;
}

bool fetch_resumes(struct store_fetch *fetch, enum fetch_op op, uint64_t hash)
{
    if (fetch->op == op && fetch->op_hash == hash) {
        return true;
    }
    fetch->op = op;
    fetch->op_hash = hash;
    fetch->has_hits = false;
    fetch->hit_count = 0;
    fetch->hit_next = 0;
    fetch->found_count = 0;
    key_index_find_done(&fetch->find);
    return false;
}

/* ------------------------------------------------------------------ the job */

static int run_log(struct store_fetch *fetch)
{
    const struct segments *segs = &fetch->st->segs; /* disk and segment_bytes never change */
    struct disk_file *file = fetch->file;
    char path[SEGMENT_PATH_MAX];
    size_t got = 0;
    int rc = 0;

    segment_path(segments_start_of(segs, fetch->at), path);
    if (file == NULL) {
        rc = disk_open(segs->disk, path, DISK_READ, &fetch->opened, &fetch->err);
        file = fetch->opened;
    }
    if (rc == 0) {
        rc = disk_pread(file, fetch->buf, fetch->len, fetch->at % segs->segment_bytes, &got,
                        &fetch->err);
    }
    if (rc == 0 && got < fetch->len) {
        rc = err_set(&fetch->err, ESCROW_ECORRUPT, "%s: file is shorter than its segment", path);
    }
    return rc;
}

void store_fetch_run(struct store_fetch *fetch)
{
    CHECK(!fetch->has_run);
    switch (fetch->wish) {
    case FETCH_NOTHING:
        return;
    case FETCH_LOG:
        fetch->rc = run_log(fetch);
        break;
    case FETCH_QUEUE:
        fetch->rc = queues_read_run(&fetch->read, &fetch->err);
        break;
    case FETCH_INDEX:
        fetch->rc = key_index_find_run(fetch->find, &fetch->err);
        if (fetch->rc == ESCROW_ECORRUPT) {
            fetch->rc =
                0; /* what was found elsewhere counts; the file is rebuilt by the next start */
        }
        break;
    case FETCH_REBUILD:
        queue_rebuild_run(fetch->rebuild); /* what came of it is looked at when it is done */
        break;
    }
    fetch->has_run = true;
}

/* ------------------------------------------------------------------ log bytes */

static int wish_log(struct store *st, struct store_fetch *fetch, const struct log_range *range)
{
    uint64_t end = segments_end_of(&st->segs, range->offset);
    size_t len = range->len;
    uint8_t *grown;

    if (fetch == NULL) {
        return ESCROW_EAGAIN;
    }
    len += fetch->is_narrow ? 0 : range->ahead;
    CHECK(fetch->wish == FETCH_NOTHING);
    end = end < st->visible ? end : st->visible;
    if (len > end - range->offset) {
        len = (size_t)(end - range->offset);
    }
    CHECK(len >= range->len);
    if (fetch->cap < len) {
        grown = mem_realloc(fetch->buf, len);
        if (grown == NULL) {
            return ESCROW_ENOMEM;
        }
        fetch->buf = grown;
        fetch->cap = len;
    }
    fetch->at = range->offset;
    fetch->len = len;
    fetch->file = segments_file(&st->segs, range->offset);
    if (fetch->file != NULL) {
        segments_pin(&st->segs, range->offset);
    }
    fetch->wish = FETCH_LOG;
    return ESCROW_EAGAIN;
}

int fetch_log(struct store *st, struct store_fetch *fetch, const struct log_range *range,
              uint8_t *dst, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    struct disk_file *file;
    size_t got = 0;
    int rc;

    CHECK(range->offset + range->len <= st->visible);
    CHECK(range->offset + range->len <= segments_end_of(&st->segs, range->offset));
    if (fetch != NULL && range->offset >= fetch->at &&
        range->offset + range->len <= fetch->at + fetch->len) {
        memcpy(dst, fetch->buf + (range->offset - fetch->at), range->len);
        return 0;
    }
    rc = fetch != NULL ? take_bad(fetch, FETCH_LOG, range->offset, err) : 0;
    if (rc != 0) {
        return rc;
    }
    file = segments_file(&st->segs, range->offset);
    if (file == NULL) {
        return wish_log(st, fetch, range);
    }
    rc = disk_pread_nowait(file, dst, range->len, range->offset % st->segs.segment_bytes, &got);
    if (rc == ESCROW_EAGAIN) {
        return wish_log(st, fetch, range);
    }
    if (rc != 0 || got < range->len) {
        rc = rc != 0 ? rc : ESCROW_ECORRUPT;
        return err_set(err, rc, "%s: %s", recovery_where(&st->segs, range->offset, where),
                       rc == ESCROW_ECORRUPT ? "file is shorter than its segment"
                                             : escrow_strerror(rc));
    }
    return 0;
}

/* ------------------------------------------------------------------ queue entries */

static int wish_entries(struct store *st, struct store_fetch *fetch, const struct queue *queue,
                        uint64_t first)
{
    int rc;

    if (fetch == NULL) {
        return ESCROW_EAGAIN;
    }
    CHECK(fetch->wish == FETCH_NOTHING);
    if (fetch->entries == NULL) {
        fetch->entries = mem_alloc(FETCH_ENTRIES * sizeof *fetch->entries);
        if (fetch->entries == NULL) {
            return ESCROW_ENOMEM;
        }
    }
    fetch->entry_count = 0;
    rc = queues_read_take(st->queues, queue, first, fetch->is_narrow ? 1 : FETCH_ENTRIES,
                          fetch->entries, &fetch->read);
    if (rc != 0) {
        return rc;
    }
    fetch->queue = queue;
    fetch->entry_first = first;
    fetch->wish = FETCH_QUEUE;
    return ESCROW_EAGAIN;
}

/* The entry is damaged, or its file missing: rebuilt first, by the job of this fetch. */
static int wish_rebuild(struct store *st, struct store_fetch *fetch, const struct entry_ref *ref,
                        struct err_ctx *err)
{
    struct store_rebuild_ask ask = {.ref = ref};
    int rc;

    if (fetch != NULL && fetch->rebuild_queue == ref->queue &&
        fetch->rebuild_number == ref->number) {
        ask.before = fetch->rebuild_outcome;
    }
    rc = store_rebuild_may(st, &ask, err);
    if (rc != 0 || fetch == NULL) {
        return rc != 0 ? rc : ESCROW_EAGAIN;
    }
    rc = store_rebuild_take(st, ref, &fetch->rebuild);
    if (rc != 0) {
        return rc;
    }
    CHECK(fetch->wish == FETCH_NOTHING);
    fetch->rebuild_queue = ref->queue;
    fetch->rebuild_number = ref->number;
    fetch->rebuild_outcome = REBUILD_NONE;
    fetch->wish = FETCH_REBUILD;
    return ESCROW_EAGAIN;
}

int fetch_entries(struct store *st, struct store_fetch *fetch, const struct entry_ref *first,
                  struct entry_run *run, struct err_ctx *err)
{
    uint64_t number = first->number;
    int rc;

    run->count = 0;
    if (fetch != NULL && fetch->queue == first->queue && number >= fetch->entry_first &&
        number < fetch->entry_first + fetch->entry_count) {
        run->entries = fetch->entries + (number - fetch->entry_first);
        run->count = (uint32_t)(fetch->entry_first + fetch->entry_count - number);
        return 0;
    }
    rc = fetch != NULL && fetch->queue == first->queue ? take_bad(fetch, FETCH_QUEUE, number, err)
                                                       : 0;
    if (rc == 0) {
        run->entries = run->local;
        rc = queues_read_nowait(st->queues, first->queue, number, FETCH_LOCAL_ENTRIES, run->local,
                                &run->count);
    }
    if (rc == ESCROW_EAGAIN) {
        rc = wish_entries(st, fetch, first->queue, number);
    }
    if (store_is_damage(rc)) {
        return wish_rebuild(st, fetch, first, err);
    }
    if (rc != 0 && rc != ESCROW_EAGAIN) {
        (void)err_set(err, rc, "queues: entry %" PRIu64 " of queue %.*s/%u: %s", number,
                      SLICE_ARGS(queue_topic(first->queue)), (unsigned)first->queue->id,
                      escrow_strerror(rc));
    }
    return rc;
}

/* ------------------------------------------------------------------ the key index */

int fetch_hits(struct store_fetch *fetch, const struct key_index_query *query,
               const struct key_index_hit **hits, uint32_t *count)
{
    uint64_t hash = key_index_hash(query->topic, query->key);
    int rc;

    CHECK(fetch->wish == FETCH_NOTHING);
    if (fetch->find != NULL && fetch->find_hash == hash) {
        *hits = key_index_find_hits(fetch->find, count);
        return 0;
    }
    key_index_find_done(&fetch->find);
    rc = key_index_find_take(fetch->st->index, query, &fetch->find);
    if (rc != 0) {
        /* ESCROW_EAGAIN: the job has nothing to do, its way there and back lets others in */
        return rc;
    }
    fetch->find_hash = hash;
    fetch->wish = FETCH_INDEX;
    return ESCROW_EAGAIN;
}
