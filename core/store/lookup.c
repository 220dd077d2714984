/*
 * Look-ups: one record by its place, one message of a queue, the offset for a time, messages by
 * key. Those that take several steps keep their progress in the fetch, so that a cold step does not
 * repeat the ones before.
 */
#include "core/base/bytes.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/proto/properties.h"
#include "core/store/fetch.h"
#include "core/store/recovery.h"

#include <inttypes.h>

#define RECORD_AHEAD_BYTES 4096u /* a message of ordinary size comes with its envelope */

/* ------------------------------------------------------------------ one record */

/* The envelope says how long the record is; one that cannot be is no record. */
static int read_length(struct store *st, uint64_t offset, struct store_fetch *fetch,
                       uint32_t *length, struct err_ctx *err)
{
    struct log_range range = {.offset = offset, .len = ENVELOPE_SIZE, .ahead = RECORD_AHEAD_BYTES};
    uint8_t head[ENVELOPE_SIZE];
    uint64_t room;
    int rc;

    if (offset % ENVELOPE_ALIGN != 0 || offset < st->low || offset >= st->visible) {
        return ESCROW_ENOTFOUND;
    }
    room = segments_end_of(&st->segs, offset) - offset;
    room = room < st->visible - offset ? room : st->visible - offset;
    if (room < ENVELOPE_SIZE) {
        return ESCROW_ENOTFOUND;
    }
    rc = fetch_log(st, fetch, &range, head, err);
    if (rc != 0) {
        return rc;
    }
    *length = get_le32(head + 4);
    if (get_le32(head) != ENVELOPE_MAGIC || get_le64(head + 8) != offset ||
        *length < ENVELOPE_SIZE || *length > ENVELOPE_LENGTH_MAX ||
        envelope_padded(*length) > room) {
        return ESCROW_ENOTFOUND;
    }
    return 0;
}

static int read_bytes(struct store *st, uint64_t offset, uint32_t length, struct store_fetch *fetch,
                      struct buf *scratch, struct err_ctx *err)
{
    struct log_range range = {.offset = offset, .len = (size_t)envelope_padded(length)};
    uint8_t *dst;
    int rc;

    buf_clear(scratch);
    dst = buf_reserve(scratch, range.len);
    if (dst == NULL) {
        return ESCROW_ENOMEM;
    }
    rc = fetch_log(st, fetch, &range, dst, err);
    if (rc == 0) {
        buf_commit(scratch, range.len);
    }
    return rc;
}

/* As store_read_record, after fetch_settle. */
static int read_record(struct store *st, uint64_t offset, struct store_fetch *fetch,
                       struct buf *scratch, struct store_record *rec, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    struct envelope_source src = {.offset = offset, .seed = st->seed};
    enum envelope_verdict verdict;
    struct envelope e = {0};
    uint32_t length = 0;
    size_t need;
    int rc = read_length(st, offset, fetch, &length, err);

    if (rc == ESCROW_ENOTFOUND) {
        return err_set(err, rc, "log offset %" PRIu64 ": no record begins here", offset);
    }
    if (rc == 0) {
        rc = read_bytes(st, offset, length, fetch, scratch, err);
    }
    if (rc != 0) {
        return rc;
    }
    src.bytes = scratch->ptr;
    src.have = scratch->len;
    src.room = segments_end_of(&st->segs, offset) - offset;
    verdict = envelope_verify(&src, &e, &need);
    if (verdict != ENVELOPE_VALID ||
        store_record_fill(rec, &e,
                          slice_of(scratch->ptr + ENVELOPE_SIZE, length - ENVELOPE_SIZE)) != 0) {
        return err_set(err, ESCROW_ECORRUPT, "%s: %s", recovery_where(&st->segs, offset, where),
                       verdict != ENVELOPE_VALID ? envelope_verdict_text(verdict)
                                                 : "payload makes no sense");
    }
    return 0;
}

int store_read_record(struct store *st, uint64_t offset, struct store_fetch *fetch,
                      struct buf *scratch, struct store_record *rec, struct err_ctx *err)
{
    int rc = fetch_settle(fetch, err);

    return rc != 0 ? rc : read_record(st, offset, fetch, scratch, rec, err);
}

/* As store_read_known, after fetch_settle; err is there. */
static int read_known(struct store *st, uint64_t offset, struct store_fetch *fetch,
                      struct buf *scratch, struct store_record *rec, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    struct damage_met met = {.offset = offset};
    int rc = read_record(st, offset, fetch, scratch, rec, err);

    if (rc == ESCROW_ENOTFOUND && offset >= st->low && offset < st->visible) {
        rc = err_set(err, ESCROW_ECORRUPT, "%s: %s", recovery_where(&st->segs, offset, where),
                     "no record begins here any more");
    }
    if (store_is_damage(rc)) {
        store_note_damage(st, &met, rc, err);
    }
    return rc;
}

int store_read_known(struct store *st, uint64_t offset, struct store_fetch *fetch,
                     struct buf *scratch, struct store_record *rec, struct err_ctx *err)
{
    struct err_ctx own = {.code = 0};
    int rc;

    err = err != NULL ? err : &own;
    rc = fetch_settle(fetch, err);
    return rc != 0 ? rc : read_known(st, offset, fetch, scratch, rec, err);
}

/*
 * As store_read_entry, without patching; err is there. ESCROW_ENOTFOUND: retention took it.
 */
static int read_entry(struct store *st, const struct entry_ref *ref, struct store_fetch *fetch,
                      struct buf *scratch, struct store_record *rec, struct err_ctx *err)
{
    struct damage_met met = {
        .offset = DAMAGE_NO_OFFSET, .queue = ref->queue, .number = ref->number};
    struct entry_run run;
    int rc = fetch_entries(st, fetch, ref, &run, err);

    if (rc == ESCROW_ENOTFOUND) {
        return rc;
    }
    if (rc == 0 && run.entries[0].offset < st->low) {
        return err_set(err, ESCROW_ENOTFOUND, "queue %.*s/%u: message %" PRIu64 " is gone",
                       SLICE_ARGS(queue_topic(ref->queue)), (unsigned)ref->queue->id, ref->number);
    }
    if (rc == 0) {
        met.offset = run.entries[0].offset;
        rc = read_record(st, met.offset, fetch, scratch, rec, err);
    }
    if (rc == ESCROW_ENOTFOUND) {
        rc = err_set(err, ESCROW_ECORRUPT,
                     "queues: entry %" PRIu64 " of queue %.*s/%u points to log offset %" PRIu64
                     ", where no record begins",
                     ref->number, SLICE_ARGS(queue_topic(ref->queue)), (unsigned)ref->queue->id,
                     met.offset);
    }
    if (rc == 0) {
        rc = reader_verify(st, ref, &run.entries[0], scratch->ptr, rec, err);
    }
    if (store_is_damage(rc)) {
        store_note_damage(st, &met, rc, err);
    }
    return rc;
}

int store_read_entry(struct store *st, const struct store_entry_ref *entry,
                     struct store_fetch *fetch, struct buf *scratch, struct store_record *rec,
                     struct err_ctx *err)
{
    struct entry_ref ref = {.queue = queues_find(st->queues, entry->topic, entry->queue_id),
                            .number = (uint64_t)entry->offset};
    struct err_ctx own = {.code = 0};
    int rc;

    err = err != NULL ? err : &own;
    rc = fetch_settle(fetch, err);
    if (rc != 0) {
        return rc;
    }
    if (ref.queue == NULL || entry->offset < 0 || ref.number < ref.queue->min ||
        ref.number >= ref.queue->visible) {
        return err_set(err, ESCROW_ENOTFOUND, "queue %.*s/%u has no message %" PRId64,
                       SLICE_ARGS(entry->topic), entry->queue_id, entry->offset);
    }
    rc = read_entry(st, &ref, fetch, scratch, rec, err);
    if (rc == 0 && store_type_is_held(rec->type)) {
        reader_patch(&ref, rec, scratch->ptr + ENVELOPE_SIZE);
        rec->queue_offset = entry->offset;
    }
    return rc;
}

/* ------------------------------------------------------------------ by time */

int store_offset_by_time(struct store *st, const struct store_queue_ref *queue, int64_t time_ms,
                         struct store_fetch *fetch, int64_t *offset, struct err_ctx *err)
{
    const struct queue *q = queues_find(st->queues, queue->topic, queue->queue_id);
    struct queue_search local = {.low = 0};
    struct queue_search *search = fetch != NULL ? &fetch->search : &local;
    struct err_ctx own = {.code = 0};
    struct buf scratch;
    uint64_t number;
    int rc;

    err = err != NULL ? err : &own;
    rc = fetch_settle(fetch, err);
    if (rc != 0) {
        return rc;
    }
    if (q == NULL || q->visible == 0) {
        return err_set(err, ESCROW_ENOTFOUND, "queue %.*s/%u has no message",
                       SLICE_ARGS(queue->topic), queue->queue_id);
    }
    if (fetch == NULL ||
        !fetch_resumes(fetch, FETCH_OP_SEARCH,
                       hash_u64((uint64_t)(uintptr_t)q) ^ hash_u64((uint64_t)time_ms + 1))) {
        queue_search_begin(search, q, time_ms);
    }
    buf_init(&scratch, 0);
    while (rc == 0 && queue_search_next(search, &number)) {
        struct entry_ref ref = {.queue = q, .number = number};
        struct store_record rec;
        rc = read_entry(st, &ref, fetch, &scratch, &rec, err);
        if (rc == 0) {
            queue_search_feed(search, number, rec.store_ms);
        } else if (rc == ESCROW_ENOTFOUND || store_is_damage(rc)) {
            queue_search_gone(search, number); /* nobody knows when it was stored */
            rc = 0;
        }
    }
    buf_fini(&scratch);
    if (rc == 0) {
        *offset = (int64_t)search->low;
    }
    if (rc != ESCROW_EAGAIN && fetch != NULL) {
        fetch->op = FETCH_OP_NONE;
    }
    return rc;
}

/* ------------------------------------------------------------------ by key */

static bool record_has_key(const struct store_record *rec, const struct store_key_query *query)
{
    struct message_keys keys;
    struct slice key;

    if (!slice_eq(rec->topic, query->topic) || rec->store_ms < query->begin_ms ||
        rec->store_ms > query->end_ms) {
        return false;
    }
    message_keys_scan(rec->properties, &keys);
    if (slice_eq(keys.uniq, query->key)) {
        return true;
    }
    while (props_next_key(&keys.keys, &key)) {
        if (slice_eq(key, query->key)) {
            return true;
        }
    }
    return false;
}

/* 1 released, 0 not. The mark of a release is an entry of the key index (store_apply.c). */
static int half_is_released(struct store *st, uint64_t half_offset, struct store_fetch *fetch)
{
    const struct key_index_hit *hits;
    struct release_mark mark;
    struct key_index_query query = {
        .topic = SLICE_EMPTY,
        .key = release_mark_key(&mark, half_offset),
        .begin_ms = INT64_MIN,
        .end_ms = INT64_MAX,
        .log_min = st->low,
        .count_max = KEY_INDEX_HITS_MAX,
    };
    uint32_t count = 0;
    int rc = fetch_hits(fetch, &query, &hits, &count);

    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        rc = hits[i].offset == half_offset ? 1 : 0;
    }
    key_index_find_done(&fetch->find);
    return rc;
}

int store_half_is_released(struct store *st, uint64_t half_offset, struct store_fetch *fetch,
                           struct err_ctx *err)
{
    int rc = fetch_settle(fetch, err);

    if (rc != 0 || fetch == NULL) {
        return rc != 0 ? rc : ESCROW_EAGAIN;
    }
    return half_is_released(st, half_offset, fetch);
}

static bool was_found(const struct store_fetch *fetch, uint64_t offset)
{
    for (uint32_t i = 0; i < fetch->found_count; i++) {
        if (fetch->hits[i] == offset) {
            return true;
        }
    }
    return false;
}

/* Candidates that the index names; 0 when they are in fetch->hits. */
static int query_candidates(struct store *st, const struct store_key_query *query,
                            struct store_fetch *fetch)
{
    struct key_index_query find = {
        .topic = query->topic,
        .key = query->key,
        .begin_ms = query->begin_ms,
        .end_ms = query->end_ms,
        .log_min = st->low,
        .count_max = KEY_INDEX_HITS_MAX,
    };
    const struct key_index_hit *hits;
    uint32_t count = 0;
    int rc;

    if (fetch->hits == NULL) {
        fetch->hits = mem_alloc(KEY_INDEX_HITS_MAX * sizeof *fetch->hits);
        if (fetch->hits == NULL) {
            return ESCROW_ENOMEM;
        }
    }
    rc = fetch_hits(fetch, &find, &hits, &count);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; i < count; i++) {
        fetch->hits[i] = hits[i].offset;
    }
    fetch->hit_count = count;
    fetch->has_hits = true;
    key_index_find_done(&fetch->find);
    return 0;
}

/* Is the next candidate a message with this key that may be shown? 1, 0, or an error. */
static int query_verify(struct store *st, const struct store_key_query *query,
                        struct store_fetch *fetch, uint64_t offset, struct err_ctx *err)
{
    struct store_record rec;
    int rc;

    if (was_found(fetch, offset)) {
        return 0;
    }
    rc = read_known(st, offset, fetch, &fetch->scratch, &rec, err);
    if (rc != 0) {
        /* What is damaged has no key any more; the others are found all the same. */
        return rc == ESCROW_ENOTFOUND || store_is_damage(rc) ? 0 : rc;
    }
    if (!store_type_is_message(rec.type) || !record_has_key(&rec, query)) {
        return 0;
    }
    return rec.type == STORE_MESSAGE ? 1 : half_is_released(st, offset, fetch);
}

int store_query_key(struct store *st, const struct store_key_query *query,
                    struct store_fetch *fetch, uint64_t *offsets, uint32_t *count,
                    struct err_ctx *err)
{
    struct err_ctx own = {.code = 0};
    int rc;

    *count = 0;
    err = err != NULL ? err : &own;
    rc = fetch_settle(fetch, err);
    if (rc != 0 || fetch == NULL) {
        return rc != 0 ? rc : ESCROW_EAGAIN;
    }
    (void)fetch_resumes(fetch, FETCH_OP_QUERY,
                        key_index_hash(query->topic, query->key) ^
                            hash_u64((uint64_t)query->begin_ms) ^
                            hash_u64((uint64_t)query->end_ms + query->max));
    if (!fetch->has_hits) {
        rc = query_candidates(st, query, fetch);
    }
    while (rc == 0 && fetch->hit_next < fetch->hit_count && fetch->found_count < query->max) {
        uint64_t offset = fetch->hits[fetch->hit_next];
        rc = query_verify(st, query, fetch, offset, err);
        if (rc == ESCROW_EAGAIN) {
            return rc;
        }
        if (rc == 1) {
            fetch->hits[fetch->found_count++] = offset; /* found_count <= hit_next */
            rc = 0;
        }
        fetch->hit_next++;
    }
    if (rc == 0) {
        memcpy(offsets, fetch->hits, fetch->found_count * sizeof *offsets);
        *count = fetch->found_count;
    }
    if (rc != ESCROW_EAGAIN) {
        fetch->op = FETCH_OP_NONE;
        fetch->has_hits = false;
    }
    return rc;
}
