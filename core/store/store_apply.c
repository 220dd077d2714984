/*
 * Records become true here, and nowhere else: live from the descriptors of a batch, in recovery
 * from the decoded log. Both end in apply_record(), in log order. Live, a queue number that differs
 * from the one handed out is our bug; in recovery it means that the log is not what was written.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "core/proto/tags.h"
#include "core/store/recovery.h"
#include "core/store/store_private.h"

#include <inttypes.h>

struct slice release_mark_key(struct release_mark *mark, uint64_t half_offset)
{
    put_be64(mark->bytes, half_offset);
    return slice_of(mark->bytes, sizeof mark->bytes);
}

void store_index_message(struct store *st, const struct store_record *rec, struct slice uniq,
                         struct slice keys)
{
    struct slice key;

    if (uniq.len > 0) {
        key_index_put(st->index, rec->offset, rec->offset, rec->store_ms, rec->topic, uniq);
    }
    while (props_next_key(&keys, &key)) {
        if (!slice_eq(key, uniq)) {
            key_index_put(st->index, rec->offset, rec->offset, rec->store_ms, rec->topic, key);
        }
    }
}

/* Say of which record the owner complained. */
static void name_record(const struct store *st, const struct store_record *rec, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];

    if (err != NULL) {
        err_prefix(err, "%s: %s record", recovery_where(&st->segs, rec->offset, where),
                   store_type_name(rec->type));
    }
}

static int show_owner(struct store *st, const struct store_record *rec, struct err_ctx *err)
{
    int rc = 0;

    st->visible = rec->end;
    st->last_offset = rec->offset;
    if (rec->type == STORE_SKIPPED) {
        rc = store_apply_skip(st, rec->payload, err);
    } else if (rec->type != STORE_START && rec->type != STORE_WITNESS && st->owner.apply != NULL) {
        st->is_applying = true;
        st->apply_offset = rec->offset;
        rc = st->owner.apply(st->owner.arg, rec, err);
        st->is_applying = false;
    }
    if (rc != 0) {
        name_record(st, rec, err);
    }
    return rc;
}

/* Where a held message was first stored, if this is a copy; otherwise 0. */
static uint64_t first_place(enum store_type type, int64_t prepared_offset)
{
    return store_type_is_held(type) ? (uint64_t)prepared_offset : 0;
}

/* ------------------------------------------------------------------ live */

static void record_from_desc(const struct store *st, const struct log_desc *desc,
                             struct store_record *rec)
{
    const uint8_t *payload = desc->record + ENVELOPE_SIZE;
    uint64_t end = desc->offset + envelope_padded(desc->length);
    uint64_t segment_end = segments_end_of(&st->segs, desc->offset);

    *rec = (struct store_record){
        .offset = desc->offset,
        .end = segment_end - end < ENVELOPE_SIZE ? segment_end : end,
        .length = desc->length,
        .epoch = st->epoch,
        .type = (enum store_type)desc->type,
        .is_more = (desc->flags & ENVELOPE_MORE) != 0,
        .payload = slice_of(payload, desc->length - ENVELOPE_SIZE),
        .cookie = desc->cookie,
        .queue_offset = -1,
    };
    if (store_type_is_message(rec->type)) {
        /* ... topic, 2 bytes of properties length, properties. */
        uint32_t topic_at = desc->properties_at - 2 - desc->topic_len;
        rec->topic = slice_of(payload + topic_at, desc->topic_len);
        rec->properties = slice_of(payload + desc->properties_at, desc->properties_len);
        rec->queue_id = (uint32_t)record_peek_queue_id(payload);
        rec->queue_offset = desc->queue_offset;
        rec->tag_code = desc->tag_hash;
        rec->store_ms = record_peek_store_ms(payload);
        rec->first = first_place(rec->type, record_peek_prepared_offset(payload));
    }
}

static void apply_message(struct store *st, const struct log_desc *desc,
                          const struct store_record *rec)
{
    const uint8_t *properties = rec->properties.ptr;

    if (desc->queue != NULL) {
        struct queue_entry entry = {
            .offset = rec->offset,
            .size_bytes = (uint32_t)rec->payload.len,
            .tag_hash = rec->tag_code,
        };
        uint64_t number = queues_put(st->queues, desc->queue, &entry);
        CHECK(number == (uint64_t)desc->queue_offset);
    }
    segments_note_stored(&st->segs, rec->offset, rec->store_ms);
    store_index_message(st, rec, slice_of(properties + desc->uniq_at, desc->uniq_len),
                        slice_of(properties + desc->keys_at, desc->keys_len));
}

int store_apply_batch(struct store *st, struct log_batch *batch, struct err_ctx *err)
{
    size_t release_at = 0;
    int rc = 0;

    for (size_t i = 0; i < batch->desc_count && rc == 0; i++) {
        const struct log_desc *desc = &batch->descs[i];
        struct store_record rec;

        record_from_desc(st, desc, &rec);
        if (store_type_is_message(rec.type)) {
            apply_message(st, desc, &rec);
        }
        st->apply_releases = desc->release_count > 0 ? &batch->releases[release_at] : NULL;
        st->apply_release_count = desc->release_count;
        st->last_crc = get_le32(desc->record + ENVELOPE_AT_CRC);
        rc = show_owner(st, &rec, err);
        /*
         * Every number that was handed out has to become an entry: a hole would stop the queue for
         * ever.
         */
        CHECK_IMPLIES(rc == 0, st->apply_release_count == 0);
        release_at += desc->release_count;
    }
    if (rc == 0) {
        st->visible = batch->end;
    }
    return rc;
}

/* ------------------------------------------------------------------ recovery */

int store_record_fill(struct store_record *rec, const struct envelope *e, struct slice payload)
{
    struct record_view view;
    struct message_keys keys;

    *rec = (struct store_record){
        .offset = e->offset,
        .end = e->offset + envelope_padded(e->length),
        .length = e->length,
        .epoch = e->epoch,
        .type = (enum store_type)e->type,
        .is_more = (e->flags & ENVELOPE_MORE) != 0,
        .is_replay = true,
        .payload = payload,
        .queue_offset = -1,
    };
    if (!store_type_is_message(rec->type)) {
        return 0;
    }
    if (record_decode(payload, &view) != 0 || view.record.len != payload.len ||
        (uint64_t)view.f.physical_offset != e->offset || view.f.queue_id < 0 ||
        view.f.queue_id >= QUEUES_PER_TOPIC_MAX || view.f.queue_offset < 0 ||
        first_place((enum store_type)e->type, view.f.prepared_offset) >= e->offset) {
        return ESCROW_ECORRUPT;
    }
    message_keys_scan(view.f.properties, &keys);
    rec->topic = view.f.topic;
    rec->properties = view.f.properties;
    rec->queue_id = (uint32_t)view.f.queue_id;
    rec->queue_offset = e->type == STORE_MESSAGE ? view.f.queue_offset : -1;
    rec->tag_code = tag_code(keys.tags);
    rec->store_ms = view.f.store_ms;
    rec->first = first_place(rec->type, view.f.prepared_offset);
    return 0;
}

/* Recovery hands out the number and uses it at once. */
static int replay_entry(struct store *st, struct slice topic, uint32_t queue_id,
                        const struct queue_entry *entry, uint64_t *number)
{
    struct queue *queue;
    int rc = queues_get(st->queues, topic, queue_id, &queue);

    if (rc == 0) {
        rc = queue_reserve(queue, number);
    }
    if (rc == 0) {
        CHECK(queues_put(st->queues, queue, entry) == *number);
    }
    return rc;
}

static int replay_message(struct store *st, const struct store_record *rec, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    struct message_keys keys;

    if (rec->type == STORE_MESSAGE) {
        struct queue_entry entry = {
            .offset = rec->offset,
            .size_bytes = (uint32_t)rec->payload.len,
            .tag_hash = rec->tag_code,
        };
        uint64_t number = 0;
        int rc = replay_entry(st, rec->topic, rec->queue_id, &entry, &number);
        if (rc != 0) {
            return err_set(err, rc, "%s: %s", recovery_where(&st->segs, rec->offset, where),
                           escrow_strerror(rc));
        }
        if (number != (uint64_t)rec->queue_offset) {
            return err_set(err, ESCROW_ECORRUPT,
                           "%s: message %" PRId64 " of queue %.*s/%u comes after %" PRIu64
                           " others",
                           recovery_where(&st->segs, rec->offset, where), rec->queue_offset,
                           SLICE_ARGS(rec->topic), rec->queue_id, number);
        }
    }
    segments_note_stored(&st->segs, rec->offset, rec->store_ms);
    message_keys_scan(rec->properties, &keys);
    store_index_message(st, rec, keys.uniq, keys.keys);
    return 0;
}

int store_replay(struct store *st, const struct store_record *rec, uint32_t crc,
                 struct err_ctx *err)
{
    int rc = 0;

    CHECK(st->is_replay);
    if (store_type_is_message(rec->type)) {
        rc = replay_message(st, rec, err);
    }
    if (rc == 0) {
        st->last_crc = crc;
        rc = show_owner(st, rec, err);
    }
    return rc;
}

/* ------------------------------------------------------------------ releases */

int store_release(struct store *st, const struct store_release *release, int64_t *queue_offset,
                  struct err_ctx *err)
{
    struct queue_entry entry = {
        .offset = release->half_offset,
        .size_bytes = release->payload_size,
        .tag_hash = release->tag_code,
    };
    struct release_mark mark;
    uint64_t number = 0;

    CHECK(st->is_applying);
    if (release->half_offset < st->low || release->half_offset >= st->apply_offset ||
        (int32_t)release->tag_code != release->tag_code) {
        return err_set(err, ESCROW_ECORRUPT,
                       "releases a message at log offset %" PRIu64 ", out of range",
                       release->half_offset);
    }
    if (st->is_replay) {
        int rc = replay_entry(st, release->topic, release->queue_id, &entry, &number);
        if (rc != 0) {
            return err_set(err, rc, "releases a message: %s", escrow_strerror(rc));
        }
    } else {
        struct queue *queue = queues_find(st->queues, release->topic, release->queue_id);
        CHECK(st->apply_release_count > 0);
        CHECK(queue == st->apply_releases[0]);
        st->apply_releases++;
        st->apply_release_count--;
        number = queues_put(st->queues, queue, &entry);
    }
    segments_note_released(&st->segs, release->half_offset, release->at_ms);
    if (!slice_eq_str(release->topic, TOPIC_EXPIRED)) {
        /* Its own keys were indexed when it was applied; the mark lets look-ups show it. */
        key_index_put(st->index, st->apply_offset, release->half_offset, release->store_ms,
                      SLICE_EMPTY, release_mark_key(&mark, release->half_offset));
    }
    if (damage_is_known(&st->damage, release->half_offset)) {
        /* The message is damaged, and somebody met it before it had this place. */
        struct err_ctx known = {.code = 0};
        struct damage_met met = {.offset = release->half_offset,
                                 .queue =
                                     queues_find(st->queues, release->topic, release->queue_id),
                                 .number = number};
        store_note_damage(st, &met, ESCROW_ECORRUPT, &known);
    }
    *queue_offset = (int64_t)number;
    return 0;
}
