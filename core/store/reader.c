/*
 * Delivery: queue entries lead to records, neighbouring records are read in one go straight into
 * the answer, verified, and moved together so that the payloads lie back to back. The envelopes
 * between them are overwritten; nothing else is copied.
 *
 * A record that does not verify, or is not the one its entry speaks of, is an error and never a
 * message. The pull stops before it, unless a SKIPPED record lets it go on behind it.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "core/store/fetch.h"
#include "core/store/recovery.h"

#include <inttypes.h>

/* Records read in one go, unless a single one is bigger. */
#define RUN_BYTES_MAX ((size_t)256 << 10)

/* bytes of other queues' records that are cheaper to read than to skip */
#define RUN_GAP_MAX      4096u
#define PULL_ENTRIES_MAX 8192u /* entries a filter may reject in one call */

/* ------------------------------------------------------------------ one record */

static const char *verify_message(const struct entry_ref *ref, const struct store_record *rec)
{
    bool is_parked = slice_eq_str(queue_topic(ref->queue), TOPIC_EXPIRED);

    if (!store_type_is_message(rec->type)) {
        return "record is no message";
    }
    if (rec->type == STORE_MESSAGE && (uint64_t)rec->queue_offset != ref->number) {
        return "record has another queue offset";
    }
    if (rec->type == STORE_HALF && is_parked) {
        return NULL;
    }
    if (!slice_eq(rec->topic, queue_topic(ref->queue)) || rec->queue_id != ref->queue->id) {
        return "record is of another queue";
    }
    return NULL;
}

/* A message that was held for a time counts as stored when it was due. */
static int64_t shown_store_ms(const struct entry_ref *ref, const struct store_record *rec)
{
    int64_t due_ms;

    if (!store_type_is_held(rec->type) || slice_eq_str(queue_topic(ref->queue), TOPIC_EXPIRED)) {
        return rec->store_ms;
    }
    due_ms = props_find_i64(rec->properties, prop_name(PROP_TIMER_OUT_MS), rec->store_ms);
    return due_ms > rec->store_ms ? due_ms : rec->store_ms;
}

int reader_verify(const struct store *st, const struct entry_ref *ref,
                  const struct queue_entry *entry, uint8_t *bytes, struct store_record *rec,
                  struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    size_t length = ENVELOPE_SIZE + (size_t)entry->size_bytes;
    struct envelope_source src = {
        .bytes = bytes,
        .have = (size_t)envelope_padded(length),
        .offset = entry->offset,
        .room = segments_end_of(&st->segs, entry->offset) - entry->offset,
        .seed = st->seed,
    };
    struct envelope e = {0};
    size_t need;
    enum envelope_verdict verdict = envelope_verify(&src, &e, &need);
    const char *why = verdict == ENVELOPE_SHORT ? "record is longer than its entry says"
                                                : envelope_verdict_text(verdict);

    if (verdict == ENVELOPE_VALID) {
        why = e.length == length ? NULL : "record is shorter than its entry says";
        if (why == NULL &&
            store_record_fill(rec, &e, slice_of(bytes + ENVELOPE_SIZE, entry->size_bytes)) != 0) {
            why = "payload makes no sense";
        }
        if (why == NULL) {
            why = verify_message(ref, rec);
        }
    }
    if (why != NULL) {
        return err_set(err, ESCROW_ECORRUPT, "%s: %s: entry %" PRIu64 " of queue %.*s/%u",
                       recovery_where(&st->segs, entry->offset, where), why, ref->number,
                       SLICE_ARGS(queue_topic(ref->queue)), (unsigned)ref->queue->id);
    }
    rec->store_ms = shown_store_ms(ref, rec);
    return 0;
}

void reader_patch(const struct entry_ref *ref, const struct store_record *rec, uint8_t *payload)
{
    bool is_parked = slice_eq_str(queue_topic(ref->queue), TOPIC_EXPIRED);
    int32_t flags = record_peek_sys_flag(payload) & ~SYSFLAG_TXN_MASK;

    CHECK(store_type_is_held(rec->type));
    record_patch_queue_offset(payload, (int64_t)ref->number);
    record_patch_store_ms(payload, rec->store_ms);
    if (rec->type != STORE_HALF) {
        record_patch_prepared_offset(payload, 0); /* of a copy: where it was first */
        return;
    }
    record_patch_sys_flag(payload, flags | (is_parked ? SYSFLAG_TXN_NONE : SYSFLAG_TXN_COMMIT));
    record_patch_prepared_offset(payload, (int64_t)rec->offset);
}

/* ------------------------------------------------------------------ pull */

struct pull {
    struct store *st;
    const struct store_pull_request *req;
    struct store_fetch *fetch;
    struct buf *body;
    struct store_pull_result *res;
    struct err_ctx *err;
    const struct queue *queue;
    size_t body_start;
    uint32_t looked_at;
    bool is_stopped; /* by the reader's match */
    bool is_single;  /* one record at a time: something could not be read, and which one is asked */
};

/* Entries that are read in one go: numbers of those wanted, their place in the log. */
struct run {
    uint64_t start;
    uint64_t end;
    uint32_t count;
    uint32_t index[PULL_MESSAGES_MAX]; /* in the array of entries */
};

/* Entries that were read together, and how far they are dealt with. */
struct round {
    const struct queue_entry *entries;
    uint64_t first; /* number of entries[0] */
    uint32_t next;  /* entries below are dealt with, or in the run */
    uint32_t done;  /* of the run */
    bool was_read;  /* the run's bytes are there: what is wrong is wrong with one record */
    struct run run;
};

static bool is_sane(const struct pull *p, const struct queue_entry *entry)
{
    uint64_t end = entry->offset + envelope_padded(ENVELOPE_SIZE + (uint64_t)entry->size_bytes);

    return entry->offset % ENVELOPE_ALIGN == 0 && entry->offset >= p->st->low &&
           entry->offset < p->st->visible && entry->size_bytes <= ENVELOPE_LENGTH_MAX &&
           end <= p->st->visible && end <= segments_end_of(&p->st->segs, entry->offset);
}

static int insane_entry(const struct pull *p, uint64_t number, const struct queue_entry *entry)
{
    return err_set(p->err, ESCROW_ECORRUPT,
                   "queues: entry %" PRIu64 " of queue %.*s/%u points to log offset %" PRIu64
                   ", %u bytes: not in the log",
                   number, SLICE_ARGS(queue_topic(p->queue)), (unsigned)p->queue->id, entry->offset,
                   entry->size_bytes);
}

static bool run_takes(const struct run *run, const struct pull *p, const struct queue_entry *entry,
                      uint64_t end)
{
    return !p->is_single && entry->offset >= run->end && entry->offset - run->end <= RUN_GAP_MAX &&
           end - run->start <= RUN_BYTES_MAX && end <= segments_end_of(&p->st->segs, run->start);
}

/*
 * Collect a run from r->next on. Advances r->next over everything that is in the run or not wanted.
 * An entry that cannot be right ends the run, and is an error if it is the first.
 */
static int collect_run(struct pull *p, struct round *r, uint32_t count)
{
    struct run *run = &r->run;
    size_t room = p->req->bytes_max;
    size_t used = p->body->len - p->body_start;

    run->start = 0;
    run->end = 0;
    run->count = 0;
    while (r->next < count && p->res->count + run->count < p->req->count_max) {
        const struct queue_entry *entry = &r->entries[r->next];
        uint64_t end = entry->offset + envelope_padded(ENVELOPE_SIZE + (uint64_t)entry->size_bytes);

        p->looked_at++;
        if (entry->offset < p->st->low) {
            r->next++; /* released late, and retention took its record */
            continue;
        }
        if (p->req->filter != NULL && !p->req->filter(p->req->filter_arg, entry->tag_hash)) {
            r->next++;
            continue;
        }
        if (!is_sane(p, entry)) {
            return run->count > 0 ? 0 : insane_entry(p, r->first + r->next, entry);
        }
        if (run->count == 0) {
            run->start = entry->offset;
            run->end = entry->offset;
        } else if (!run_takes(run, p, entry, end)) {
            break;
        }
        if (used + entry->size_bytes > room && p->res->count + run->count > 0) {
            break;
        }
        used += entry->size_bytes;
        run->end = end;
        run->index[run->count++] = r->next;
        r->next++;
    }
    return 0;
}

/* Does the reader want this message? */
static enum store_match match_of(const struct pull *p, const struct store_record *rec)
{
    return p->req->match == NULL ? STORE_TAKE : p->req->match(p->req->filter_arg, rec);
}

/*
 * Read the run behind the body, then close the ranks over what is not wanted. r->done: how many of
 * it are dealt with.
 */
static int deliver_run(struct pull *p, struct round *r)
{
    const struct run *run = &r->run;
    struct log_range range = {
        .offset = run->start,
        .len = (size_t)(run->end - run->start),
        .ahead = FETCH_AHEAD_BYTES,
    };
    size_t at = p->body->len;
    uint8_t *bytes;
    int rc;

    if (p->body->limit != 0 && range.len > p->body->limit - p->body->len) {
        return ESCROW_ELIMIT;
    }
    bytes = buf_reserve(p->body, range.len);
    if (bytes == NULL) {
        return ESCROW_ENOMEM;
    }
    rc = fetch_log(p->st, p->fetch, &range, bytes, p->err);
    r->was_read = rc == 0;
    for (uint32_t i = 0; rc == 0 && !p->is_stopped && i < run->count; i++) {
        const struct queue_entry *entry = &r->entries[run->index[i]];
        struct entry_ref ref = {.queue = p->queue, .number = r->first + run->index[i]};
        uint8_t *src = p->body->ptr + at + (entry->offset - run->start);
        struct store_record rec = {.offset = 0};
        enum store_match match = STORE_SKIP;

        rc = reader_verify(p->st, &ref, entry, src, &rec, p->err);
        if (rc == 0) {
            match = match_of(p, &rec);
            p->is_stopped = match == STORE_STOP;
            r->done += p->is_stopped ? 0 : 1;
        }
        if (match == STORE_TAKE) {
            uint8_t *dst = p->body->ptr + p->body->len;
            memmove(dst, src + ENVELOPE_SIZE, entry->size_bytes);
            if (store_type_is_held(rec.type)) {
                reader_patch(&ref, &rec, dst);
            }
            p->body->len += entry->size_bytes;
            p->res->last_store_ms = rec.store_ms;
            p->res->count++;
        }
    }
    return rc;
}

/* Damage at entry `number`, which leads to `offset`: remembered. May the pull go on behind it? */
static bool may_pass(const struct pull *p, uint64_t number, uint64_t offset, int rc)
{
    struct damage_met met = {.offset = offset, .queue = p->queue, .number = number};

    if (!store_is_damage(rc)) {
        return false;
    }
    store_note_damage(p->st, &met, rc, p->err);
    return skips_allow(&p->st->skips, p->queue, number);
}

/* The entry that begins a round cannot be read. 1: passed over. */
static int entry_failed(struct pull *p, uint64_t number, int rc)
{
    if (!may_pass(p, number, DAMAGE_NO_OFFSET, rc)) {
        return rc;
    }
    p->looked_at++;
    p->res->next_offset = (int64_t)number + 1;
    return p->looked_at < PULL_ENTRIES_MAX ? 1 : 0;
}

/* A run has failed with rc. 0: r->next says where to go on; else where it failed. */
static int run_failed(struct pull *p, struct round *r, int rc)
{
    const struct queue_entry *entry;

    if (store_is_damage(rc) && r->run.count > 1 && !r->was_read) {
        p->is_single = true; /* which record is it? */
        r->next = r->run.index[0];
        return 0;
    }
    r->next = r->run.count == 0 ? r->next : r->run.index[r->done];
    entry = &r->entries[r->next];
    if (!may_pass(p, r->first + r->next, is_sane(p, entry) ? entry->offset : DAMAGE_NO_OFFSET,
                  rc)) {
        return rc;
    }
    r->next++;
    return 0;
}

/* One round: some entries, as many runs as they make. 1: go on; 0: enough. */
static int pull_round(struct pull *p)
{
    struct entry_run got;
    struct round r = {.first = (uint64_t)p->res->next_offset};
    struct entry_ref ref = {.queue = p->queue, .number = r.first};
    int rc = fetch_entries(p->st, p->fetch, &ref, &got, p->err);

    if (rc != 0) {
        return entry_failed(p, r.first, rc);
    }
    r.entries = got.entries;
    while (r.next < got.count && p->res->count < p->req->count_max) {
        uint32_t before = r.next;

        r.done = 0;
        rc = collect_run(p, &r, got.count);
        if (rc == 0 && r.run.count > 0) {
            rc = deliver_run(p, &r);
        }
        if (rc != 0) {
            rc = run_failed(p, &r, rc);
            if (rc == 0) {
                continue;
            }
            /* Everything before the entry that failed has been dealt with. */
            p->res->next_offset = (int64_t)(r.first + r.next);
            return rc;
        }
        if (p->is_stopped) {
            p->res->next_offset = (int64_t)(r.first + r.run.index[r.done]);
            return 0;
        }
        if (r.next == before) {
            p->res->next_offset = (int64_t)(r.first + r.next);
            return 0; /* the next one is too big for this answer */
        }
    }
    p->res->next_offset = (int64_t)(r.first + r.next);
    return p->res->count < p->req->count_max && p->looked_at < PULL_ENTRIES_MAX ? 1 : 0;
}

static bool pull_range(struct pull *p)
{
    struct store_pull_result *res = p->res;
    int64_t offset = p->req->offset;

    *res = (struct store_pull_result){.status = STORE_PULL_NO_QUEUE, .next_offset = offset};
    p->queue = queues_find(p->st->queues, p->req->topic, p->req->queue_id);
    if (p->queue == NULL || p->queue->visible == 0) {
        res->next_offset = 0;
        return false;
    }
    res->min_offset = (int64_t)p->queue->min;
    res->max_offset = (int64_t)p->queue->visible;
    if (offset < res->min_offset) {
        res->status = STORE_PULL_BEFORE_FIRST;
        res->next_offset = res->min_offset;
        return false;
    }
    if (offset >= res->max_offset) {
        res->status = offset == res->max_offset ? STORE_PULL_AT_END : STORE_PULL_BEYOND_END;
        res->next_offset = res->max_offset;
        return false;
    }
    return true;
}

int store_pull(struct store *st, const struct store_pull_request *req, struct store_fetch *fetch,
               struct buf *body, struct store_pull_result *res, struct err_ctx *err)
{
    struct err_ctx own = {.code = 0};
    struct pull p = {.st = st,
                     .req = req,
                     .fetch = fetch,
                     .body = body,
                     .res = res,
                     .err = err != NULL ? err : &own,
                     .body_start = body->len};
    int rc = fetch_settle(fetch, p.err);

    CHECK(req->count_max >= 1);
    CHECK(req->count_max <= PULL_MESSAGES_MAX);
    if (rc != 0 || !pull_range(&p)) {
        return rc;
    }
    p.is_single = fetch != NULL && fetch->is_narrow;
    do {
        rc = res->next_offset < res->max_offset ? pull_round(&p) : 0;
    } while (rc == 1);
    if (rc < 0 && res->count == 0 && res->next_offset == req->offset) {
        body->len = p.body_start;
        return rc;
    }
    /*
     * Cold, full or damaged further on: what was found is an answer, the rest is for the next call.
     */
    res->status = res->count > 0 ? STORE_PULL_FOUND : STORE_PULL_NO_MATCH;
    return 0;
}
