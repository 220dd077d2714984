/*
 * Appends: everything that can refuse the record is asked before anything changes, the queue number
 *          last. A record is complete
 * in memory when the function returns; its effects come in store_apply.c.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/properties.h"
#include "core/proto/tags.h"
#include "core/store/store_private.h"

void message_keys_scan(struct slice properties, struct message_keys *keys)
{
    struct props_iter iter = props_begin(properties);
    struct slice name;
    struct slice value;

    *keys = (struct message_keys){.tags = SLICE_EMPTY};
    while (props_next(&iter, &name, &value)) {
        if (name.len == 4 && memcmp(name.ptr, "TAGS", 4) == 0) {
            keys->tags = value;
        } else if (name.len == 4 && memcmp(name.ptr, "KEYS", 4) == 0) {
            keys->keys = value;
        } else if (name.len == 8 && memcmp(name.ptr, "UNIQ_KEY", 8) == 0) {
            keys->uniq = value;
        }
    }
}

static void receipt_fill(const struct store *st, const struct log_desc *desc,
                         struct store_receipt *out)
{
    *out = (struct store_receipt){
        .offset = desc->offset,
        .queue_offset = desc->queue_offset,
        .wait_for = st->log.appended,
    };
}

/* Position of a slice in what it was cut from; 0 for an empty one. */
static uint16_t slice_at(struct slice outer, struct slice inner)
{
    return inner.len == 0 ? 0 : (uint16_t)(inner.ptr - outer.ptr);
}

static void describe_message(struct log_desc *desc, const struct record_fields *f)
{
    struct message_keys keys;

    message_keys_scan(f->properties, &keys);
    desc->properties_len = (uint16_t)f->properties.len;
    desc->properties_at = desc->length - ENVELOPE_SIZE - (uint32_t)f->properties.len;
    desc->topic_len = (uint16_t)f->topic.len;
    desc->uniq_at = slice_at(f->properties, keys.uniq);
    desc->uniq_len = (uint16_t)keys.uniq.len;
    desc->keys_at = slice_at(f->properties, keys.keys);
    desc->keys_len = (uint16_t)keys.keys.len;
    desc->tag_hash = (int32_t)tag_code(keys.tags);
}

/* Bytes of the log that a held message keeps free for the records that it needs later. */
static uint64_t reserve_wanted(enum store_type type, const struct record_fields *f)
{
    uint64_t bytes = type == STORE_HALF ? STORE_DECISION_RESERVE : 0;
    struct slice due;

    if (type == STORE_HELD ||
        (type == STORE_HALF && props_find(f->properties, prop_name(PROP_TIMER_OUT_MS), &due))) {
        bytes += store_release_reserve(f->topic.len);
    }
    return bytes;
}

int store_append_message(struct store *st, enum store_type type, const struct record_fields *f,
                         void *cookie, struct store_receipt *out)
{
    struct record_fields fields;
    struct log_slot slot;
    struct log_desc *desc;
    struct queue *queue = NULL;
    uint64_t number = 0;
    size_t size;
    int rc = record_check(f);

    CHECK(store_type_is_message(type));
    CHECK(!st->is_applying);
    if (rc == 0 && (f->queue_id < 0 || f->queue_id >= QUEUES_PER_TOPIC_MAX)) {
        rc = ESCROW_EINVAL;
    }
    if (rc == 0 && st->is_refusing) {
        rc = ESCROW_ENOSPC;
    }
    if (rc != 0) {
        return rc;
    }
    size = record_size(f);
    rc = commit_log_place(&st->log, type, ENVELOPE_SIZE + size, reserve_wanted(type, f), &slot);
    if (rc == 0 && type == STORE_MESSAGE) {
        rc = queues_get(st->queues, f->topic, (uint32_t)f->queue_id, &queue);
        if (rc == 0) {
            rc = queue_reserve(queue, &number);
        }
    }
    if (rc != 0) {
        return rc;
    }
    fields = *f;
    fields.queue_offset = (int64_t)number;
    fields.physical_offset = (int64_t)slot.offset;
    if (store_type_is_held(type)) {
        fields.prepared_offset = 0; /* other than 0 it is a copy */
    }
    CHECK(record_encode(slot.dst + ENVELOPE_SIZE, &fields) == size);
    desc = commit_log_put(&st->log, &slot);
    desc->cookie = cookie;
    desc->queue = queue;
    desc->queue_offset = queue == NULL ? -1 : (int64_t)number;
    describe_message(desc, &fields);
    receipt_fill(st, desc, out);
    return 0;
}

int store_append_copy(struct store *st, enum store_type type, struct slice payload, uint64_t first,
                      struct store_receipt *out)
{
    struct record_view view;
    struct log_slot slot;
    struct log_desc *desc;
    uint8_t *dst;
    int rc;

    CHECK(store_type_is_held(type));
    CHECK(!st->is_applying);
    CHECK(first > 0 && first < st->log.appended);
    if (record_decode(payload, &view) != 0 || view.record.len != payload.len) {
        return ESCROW_ECORRUPT;
    }
    rc = commit_log_place(&st->log, type, ENVELOPE_SIZE + payload.len, 0, &slot);
    if (rc != 0) {
        return rc;
    }
    dst = slot.dst + ENVELOPE_SIZE;
    memcpy(dst, payload.ptr, payload.len);
    record_patch_physical_offset(dst, (int64_t)slot.offset);
    record_patch_prepared_offset(dst, (int64_t)first);
    desc = commit_log_put(&st->log, &slot);
    desc->queue_offset = -1;
    describe_message(desc, &view.f);
    receipt_fill(st, desc, out);
    return 0;
}

static void put_payload(struct store *st, const struct log_slot *slot, struct slice payload,
                        void *cookie, struct store_receipt *out)
{
    struct log_desc *desc;

    if (payload.len > 0) {
        memcpy(slot->dst + ENVELOPE_SIZE, payload.ptr, payload.len);
    }
    desc = commit_log_put(&st->log, slot);
    desc->cookie = cookie;
    receipt_fill(st, desc, out);
}

int store_append_raw(struct store *st, enum store_type type, struct slice payload, void *cookie,
                     struct store_receipt *out)
{
    struct log_slot slot;
    int rc;

    CHECK(type == STORE_CHECK || type == STORE_TOPIC || type == STORE_OFFSETS ||
          type == STORE_POSITION || type == STORE_GROUP || type == STORE_MODE ||
          type == STORE_SKIPPED);
    CHECK(!st->is_applying);
    if (payload.len > ENVELOPE_LENGTH_MAX - ENVELOPE_SIZE) {
        return ESCROW_ETOOBIG;
    }
    rc = commit_log_place(&st->log, type, ENVELOPE_SIZE + payload.len, 0, &slot);
    if (rc == 0) {
        put_payload(st, &slot, payload, cookie, out);
    }
    return rc;
}

int store_append_witness(struct store *st)
{
    struct store_receipt receipt;
    struct log_slot slot;
    int rc;

    CHECK(st->visible == st->log.appended);
    if (st->log.appended == st->witnessed) {
        return 0;
    }
    rc = commit_log_place(&st->log, STORE_WITNESS, ENVELOPE_SIZE, 0, &slot);
    if (rc == 0) {
        put_payload(st, &slot, SLICE_EMPTY, NULL, &receipt);
        st->witnessed = st->log.appended;
    }
    return rc;
}

/* Give back the numbers of the last `count` releases of the filling batch. */
static void unreserve_releases(struct store *st, size_t count)
{
    struct log_batch *b = st->log.filling;

    CHECK(count <= b->release_count);
    for (size_t i = 0; i < count; i++) {
        struct queue *queue = b->releases[--b->release_count];
        queue_unreserve(queue, queue->append_next - 1);
    }
}

/* The next `count` releases of the filling batch. On an error none. */
static int reserve_releases(struct store *st, const struct store_queue_ref *releases, size_t count)
{
    size_t reserved = 0;
    int rc = commit_log_want_releases(&st->log, count);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct queue *queue;
        uint64_t number;
        rc = queues_get(st->queues, releases[i].topic, releases[i].queue_id, &queue);
        if (rc == 0) {
            rc = queue_reserve(queue, &number);
        }
        if (rc == 0) {
            commit_log_put_release(&st->log, queue);
            reserved++;
        }
    }
    if (rc != 0) {
        unreserve_releases(st, reserved);
    }
    return rc;
}

/* Where the record goes and what it says. */
struct releasing {
    enum store_type type;
    struct slice payload;
    void *cookie;
};

static int append_releasing(struct store *st, const struct releasing *r,
                            const struct store_queue_ref *releases, size_t count,
                            struct store_receipt *out)
{
    struct log_batch *b = st->log.filling;
    struct log_slot slot;
    int rc;

    CHECK(!st->is_applying);
    if (count > END_TXN_HALVES_MAX || r->payload.len > LOG_DECISION_MAX - ENVELOPE_SIZE) {
        return ESCROW_ETOOBIG;
    }
    rc = commit_log_place(&st->log, r->type, ENVELOPE_SIZE + r->payload.len, 0, &slot);
    if (rc == 0) {
        rc = reserve_releases(st, releases, count);
    }
    if (rc == 0) {
        put_payload(st, &slot, r->payload, r->cookie, out);
        b->descs[b->desc_count - 1].release_count = (uint32_t)count;
    }
    return rc;
}

int store_append_decision(struct store *st, struct slice payload,
                          const struct store_queue_ref *releases, size_t count, void *cookie,
                          struct store_receipt *out)
{
    struct releasing r = {.type = STORE_DECISION, .payload = payload, .cookie = cookie};

    return append_releasing(st, &r, releases, count, out);
}

int store_append_release(struct store *st, struct slice payload,
                         const struct store_queue_ref *releases, size_t count, void *cookie,
                         struct store_receipt *out)
{
    struct releasing r = {.type = STORE_RELEASE, .payload = payload, .cookie = cookie};

    return append_releasing(st, &r, releases, count, out);
}

void store_group_begin(struct store *st)
{
    CHECK(!st->is_applying);
    commit_log_group_begin(&st->log);
}

void store_group_end(struct store *st)
{
    commit_log_group_end(&st->log);
}

void store_group_abort(struct store *st)
{
    struct log_batch *b = st->log.filling;

    CHECK(st->log.is_group);
    for (size_t i = b->desc_count; i > st->log.mark.desc_count; i--) {
        struct log_desc *desc = &b->descs[i - 1];
        if (desc->queue != NULL) {
            queue_unreserve(desc->queue, (uint64_t)desc->queue_offset);
        }
        unreserve_releases(st, desc->release_count);
    }
    commit_log_group_abort(&st->log);
}

void store_reserve_add(struct store *st, uint64_t bytes)
{
    CHECK(bytes <= UINT64_MAX - st->log.reserved);
    st->log.reserved += bytes;
}

void store_reserve_sub(struct store *st, uint64_t bytes)
{
    CHECK(bytes <= st->log.reserved);
    st->log.reserved -= bytes;
}
