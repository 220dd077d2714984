/*
 * Happy path: one pass over the log, in which every message is looked up in its queue; then one
 * pass over the entries of those queues that also have releases, which are the entries no MESSAGE
 * accounts for. Damage is reported and walked around, so that one run shows all of it.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "core/store/damage.h"
#include "core/store/fetch.h"
#include "core/store/inspect_private.h"
#include "core/store/key_index.h"
#include "core/store/queues.h"
#include "core/store/store_private.h"

#include <inttypes.h>
#include <stdio.h>

#define PROGRESS_RECORDS 4096u
#define ENTRIES_AT_ONCE  256u

struct verify {
    struct inspect *in;
    const struct inspect_verify *how;
    struct inspect_report *report;
    struct queues *queues; /* NULL without a checkpoint */
    uint64_t position;     /* of the checkpoint: queue entries of records below exist */
    uint64_t log_end;      /* UINT64_MAX when it was not found */
    uint64_t total;
};

static void finding(struct verify *v, int code, const char *text)
{
    v->report->findings++;
    if (v->how->finding != NULL) {
        v->how->finding(v->how->arg, code, text);
    }
}

static void progress(const struct verify *v, uint64_t done)
{
    if (v->how->progress != NULL) {
        v->how->progress(v->how->arg, done, v->total);
    }
}

/* ------------------------------------------------------------------ queues */

static int open_queues(struct verify *v)
{
    struct queues_options options = {.disk = v->in->disk};
    struct queues_open_report report;
    struct skips skips = {.count = 0};
    struct slice section;
    struct err_ctx err = {.code = 0};
    int rc;

    rc = inspect_check(v->in, &err);
    if (rc == ESCROW_ENOMEM) {
        return rc;
    }
    if (rc != 0) {
        finding(v, rc, err.text);
    }
    if (v->in->checkpoint_rc != 0) {
        return 0;
    }
    rc = queues_new(&v->queues, &options);
    if (rc == 0 && checkpoint_find(&v->in->checkpoint, QUEUES_SECTION, &section)) {
        rc = queues_decode(v->queues, section, &err);
    }
    if (rc == 0) {
        rc = queues_verify(v->queues, &report, &err);
    }
    if (rc == 0 && checkpoint_find(&v->in->checkpoint, DAMAGE_SECTION, &section)) {
        rc = skips_load(&skips, v->queues, section, &err);
    }
    if (rc == 0 && report.lost_count > 0) {
        rc = err_set(&err, ESCROW_ECORRUPT, "%s; it is rebuilt from the log when it is read",
                     report.lost);
    }
    skips_fini(&skips);
    if (rc != 0 && rc != ESCROW_ENOMEM) {
        finding(v, rc, err.text);
        queues_free(&v->queues);
        return 0;
    }
    v->position = v->in->checkpoint.head.position;
    return rc;
}

/* One entry, from wherever it is. */
static int read_entries(struct verify *v, const struct entry_ref *ref, uint32_t count,
                        struct queue_entry *entries, uint32_t *got, struct err_ctx *err)
{
    const struct queue *q = ref->queue;
    uint64_t number = ref->number;
    struct queues_read read;
    int rc = queues_read_nowait(v->queues, q, number, count, entries, got);

    if (rc != ESCROW_EAGAIN) {
        return rc == 0 ? 0
                       : err_set(err, rc, "queues: entry %" PRIu64 " of queue %.*s/%u: %s", number,
                                 SLICE_ARGS(queue_topic(q)), (unsigned)q->id, escrow_strerror(rc));
    }
    rc = queues_read_take(v->queues, q, number, count, entries, &read);
    if (rc == 0) {
        rc = queues_read_run(&read, err);
        *got = read.got;
        queues_read_done(&read);
    }
    return rc == 0 && *got == 0
               ? err_set(err, ESCROW_ECORRUPT, "queues: entry %" PRIu64 " is missing", number)
               : rc;
}

static void verify_message(struct verify *v, const struct store_record *rec)
{
    const struct queue *q = NULL;
    struct queue_entry entry = {0};
    struct err_ctx err = {.code = 0};
    char text[ERR_TEXT_MAX];
    uint64_t number = (uint64_t)rec->queue_offset;
    uint32_t got = 0;
    int rc = 0;

    if (v->queues == NULL || rec->offset >= v->position) {
        return;
    }
    q = queues_find(v->queues, rec->topic, rec->queue_id);
    if (q != NULL && number < q->min) {
        return; /* retention */
    }
    if (q != NULL && number < q->visible) {
        struct entry_ref ref = {.queue = q, .number = number};
        rc = read_entries(v, &ref, 1, &entry, &got, &err);
    }
    if (rc != 0) {
        finding(v, rc, err.text);
    } else if (got == 0 || entry.offset != rec->offset || entry.size_bytes != rec->payload.len ||
               entry.tag_hash != rec->tag_code) {
        (void)snprintf(text, sizeof text,
                       "queues: entry %" PRIu64
                       " of queue %.*s/%u is not the message at log offset "
                       "%" PRIu64,
                       number, SLICE_ARGS(rec->topic), rec->queue_id, rec->offset);
        finding(v, ESCROW_ECORRUPT, text);
    }
}

/* An entry that should be a released half, or a message that verify_message has seen. */
static void verify_entry(struct verify *v, const struct queue *q, uint64_t number,
                         const struct queue_entry *entry)
{
    struct log_scan *scan = &v->in->scan;
    struct store_record rec;
    struct envelope e;
    struct slice payload;
    struct err_ctx err = {.code = 0};
    char text[ERR_TEXT_MAX];
    const char *why = NULL;
    bool is_parked = slice_eq_str(queue_topic(q), TOPIC_EXPIRED);
    int rc;

    if (entry->offset < v->in->segs.first) {
        return; /* released late, and retention took its record */
    }
    if (entry->offset % ENVELOPE_ALIGN != 0 || entry->offset >= v->position) {
        why = "does not point into the log";
    } else {
        log_scan_seek(scan, entry->offset);
        rc = log_scan_next(scan, &e, &payload, &err);
        if (rc != 1) {
            why = "points to no valid record";
        } else if (store_record_fill(&rec, &e, payload) != 0 || !store_type_is_message(rec.type) ||
                   payload.len != entry->size_bytes || rec.tag_code != entry->tag_hash) {
            why = "points to another record";
        } else if (rec.type == STORE_MESSAGE && (uint64_t)rec.queue_offset != number) {
            why = "points to a message of another number";
        } else if (!is_parked && (!slice_eq(rec.topic, queue_topic(q)) || rec.queue_id != q->id)) {
            why = "points to a message of another queue";
        }
    }
    if (why != NULL) {
        (void)snprintf(text, sizeof text, "queues: entry %" PRIu64 " of queue %.*s/%u %s", number,
                       SLICE_ARGS(queue_topic(q)), (unsigned)q->id, why);
        finding(v, ESCROW_ECORRUPT, text);
    }
}

static int verify_queue(struct verify *v, const struct queue *q)
{
    struct queue_entry entries[ENTRIES_AT_ONCE];
    struct entry_ref ref = {.queue = q, .number = q->min};

    v->report->queues++;
    while (ref.number < q->visible) {
        uint64_t left = q->visible - ref.number;
        struct err_ctx err = {.code = 0};
        uint32_t got = 0;
        int rc = read_entries(v, &ref, left < ENTRIES_AT_ONCE ? (uint32_t)left : ENTRIES_AT_ONCE,
                              entries, &got, &err);
        if (rc == ESCROW_ENOMEM) {
            return rc;
        }
        if (rc != 0) {
            finding(v, rc, err.text);
            ref.number++; /* the next one may be good */
            continue;
        }
        for (uint32_t i = 0; i < got; i++) {
            verify_entry(v, q, ref.number + i, &entries[i]);
        }
        v->report->queue_entries += got;
        ref.number += got;
    }
    return 0;
}

static int verify_queues(struct verify *v)
{
    struct queues_cursor cursor = {0};
    const struct queue *q;
    int rc = 0;

    while (rc == 0 && v->queues != NULL && (q = queues_next(v->queues, &cursor)) != NULL) {
        rc = verify_queue(v, q);
    }
    return rc;
}

/* ------------------------------------------------------------------ the log */

static void count_record(struct verify *v, const struct store_record *rec)
{
    struct err_ctx err = {.code = 0};
    int rc;

    v->report->records++;
    v->report->messages += rec->type == STORE_MESSAGE;
    v->report->halves += rec->type == STORE_HALF;
    v->report->held += rec->type == STORE_HELD;
    v->report->decisions += rec->type == STORE_DECISION;
    v->report->releases += rec->type == STORE_RELEASE;
    if (rec->type == STORE_MESSAGE) {
        verify_message(v, rec);
    }
    rc = recovery_check_version(&v->in->segs, rec->offset, (unsigned)rec->type, rec->payload, &err);
    if (rc != 0) {
        finding(v, rc, err.text);
    }
}

/* Behind damage: the next record that can be read. false when there is none. */
static bool walk_around(struct verify *v, uint64_t bad, struct err_ctx *err)
{
    uint64_t next = 0;
    int rc = recovery_find_next(&v->in->scan, bad, &next, err);

    if (rc == 1) {
        inspect_seek(v->in, next);
    }
    return rc == 1;
}

static int verify_log(struct verify *v, struct err_ctx *err)
{
    struct inspect *in = v->in;
    int rc;

    inspect_seek(in, in->segs.first);
    for (;;) {
        struct store_record rec;
        struct err_ctx why = {.code = 0};
        uint64_t at = in->scan.pos;

        rc = inspect_next(in, &rec, &why);
        if (rc == 1) {
            count_record(v, &rec);
            if (v->report->records % PROGRESS_RECORDS == 0) {
                progress(v, in->scan.pos - in->segs.first);
            }
            continue;
        }
        if (rc == 0) {
            v->log_end = in->group;
            break;
        }
        if (rc != ESCROW_ECORRUPT) {
            if (err != NULL) {
                *err = why;
            }
            return rc;
        }
        finding(v, rc, why.text);
        if (in->scan.pos == at && !walk_around(v, at, err)) {
            break;
        }
    }
    v->report->bytes = in->scan.pos - in->segs.first;
    v->report->torn_bytes = in->tail;
    return 0;
}

static void index_damaged(void *arg, const char *text)
{
    finding(arg, ESCROW_ECORRUPT, text);
}

static int verify_index(struct verify *v)
{
    struct key_index_options options = {.disk = v->in->disk};
    struct key_index_report report = {0};
    struct key_index *index = NULL;
    struct slice section = SLICE_EMPTY;
    struct err_ctx err = {.code = 0};
    int rc;

    if (v->in->checkpoint_rc == 0) {
        (void)checkpoint_find(&v->in->checkpoint, KEY_INDEX_SECTION, &section);
    }
    rc = key_index_open(&index, &options, section, &report, &err);
    if (rc == 0 && report.dropped_count > 0) {
        finding(v, ESCROW_ECORRUPT, report.dropped);
    }
    if (rc == 0) {
        rc = key_index_verify(index, index_damaged, v, &err);
    }
    if (rc == 0) {
        rc = folder_check_index(v->log_end, key_index_end(index), &err);
    }
    key_index_free(&index);
    if (rc != 0 && rc != ESCROW_ENOMEM) {
        finding(v, rc, err.text);
        rc = 0;
    }
    return rc;
}

int inspect_verify(struct inspect *in, const struct inspect_verify *how,
                   struct inspect_report *report, struct err_ctx *err)
{
    struct verify v = {.in = in,
                       .how = how,
                       .report = report,
                       .log_end = UINT64_MAX,
                       .total = in->segs.allocated - in->segs.first};
    int rc;

    *report = (struct inspect_report){.records = 0};
    rc = open_queues(&v);
    if (rc == 0) {
        rc = verify_log(&v, err);
    }
    if (rc == 0) {
        rc = verify_queues(&v);
    }
    if (rc == 0) {
        rc = verify_index(&v);
    }
    if (rc == 0) {
        progress(&v, v.total);
    }
    queues_free(&v.queues);
    inspect_seek(in, in->segs.first);
    return rc;
}
