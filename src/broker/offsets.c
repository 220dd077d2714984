/*
 * One entry per (group, topic), keyed by "group 0x01 topic": neither name can contain 0x01
 * (name_check). An entry holds an array over the queues, which is what clients ask for together.
 *
 * Record and section layout: repeated { group length u16, group, topic length u16, topic, queue
 * u32, offset u64 }.
 */
#include "src/broker/offsets.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"

#include <string.h>

#define OFFSET_FIXED_BYTES 16
#define PAIR_KEY_MAX       (GROUP_LEN_MAX + 1 + RETRY_TOPIC_LEN_MAX)

struct pair_key {
    uint8_t bytes[PAIR_KEY_MAX];
    size_t len;
};

static bool pair_key_make(struct pair_key *key, struct slice group, struct slice topic)
{
    if (group.len == 0 || group.len > GROUP_LEN_MAX || topic.len == 0 ||
        topic.len > RETRY_TOPIC_LEN_MAX || memchr(group.ptr, 0x01, group.len) != NULL) {
        return false;
    }
    memcpy(key->bytes, group.ptr, group.len);
    key->bytes[group.len] = 0x01;
    memcpy(key->bytes + group.len + 1, topic.ptr, topic.len);
    key->len = group.len + 1 + topic.len;
    return true;
}

static void pair_free(struct offset_pair *pair)
{
    if (pair != NULL) {
        mem_free(pair->group);
        mem_free(pair->by_queue);
        mem_free(pair->dirty);
        mem_free(pair);
    }
}

void offsets_init(struct offsets *o, struct hash_key key)
{
    *o = (struct offsets){.dirty = NULL};
    strmap_init(&o->by_pair, key);
}

void offsets_fini(struct offsets *o)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&o->by_pair, &cursor)) != NULL) {
        pair_free(slot->value);
    }
    strmap_fini(&o->by_pair);
    o->dirty = NULL;
}

bool offsets_find(const struct offsets *o, struct slice group, struct slice topic, uint32_t queue,
                  int64_t *offset)
{
    struct pair_key key;
    const struct offset_pair *pair;

    if (!pair_key_make(&key, group, topic)) {
        return false;
    }
    pair = strmap_find(&o->by_pair, slice_of(key.bytes, key.len));
    if (pair == NULL || queue >= pair->queue_count || pair->by_queue[queue] < 0) {
        return false;
    }
    *offset = pair->by_queue[queue];
    return true;
}

static struct offset_pair *pair_new(struct slice group, struct slice topic)
{
    struct offset_pair *pair = mem_calloc(1, sizeof *pair);

    if (pair == NULL) {
        return NULL;
    }
    pair->group = mem_alloc(group.len + topic.len + 1);
    if (pair->group == NULL) {
        pair_free(pair);
        return NULL;
    }
    memcpy(pair->group, group.ptr, group.len);
    memcpy(pair->group + group.len, topic.ptr, topic.len);
    pair->group[group.len + topic.len] = '\0';
    pair->group_len = (uint32_t)group.len;
    pair->topic_len = (uint32_t)topic.len;
    return pair;
}

/* Room for `queue`; the arrays only grow. */
static int pair_grow(struct offset_pair *pair, uint32_t queue)
{
    uint32_t count = 4;
    int64_t *by_queue;
    uint64_t *dirty;

    if (queue < pair->queue_count) {
        return 0;
    }
    while (count <= queue) {
        count *= 2;
    }
    by_queue = mem_realloc(pair->by_queue, count * sizeof *by_queue);
    if (by_queue == NULL) {
        return ESCROW_ENOMEM;
    }
    pair->by_queue = by_queue;
    dirty = mem_realloc(pair->dirty, ((count + 63) / 64) * sizeof *dirty);
    if (dirty == NULL) {
        return ESCROW_ENOMEM; /* by_queue is larger than queue_count says: harmless */
    }
    pair->dirty = dirty;
    for (uint32_t i = pair->queue_count; i < count; i++) {
        pair->by_queue[i] = -1;
    }
    for (uint32_t w = (pair->queue_count + 63) / 64; w < (count + 63) / 64; w++) {
        pair->dirty[w] = 0;
    }
    pair->queue_count = count;
    return 0;
}

static int pair_get(struct offsets *o, struct slice group, struct slice topic, uint32_t queue,
                    struct offset_pair **out)
{
    struct pair_key key;
    struct offset_pair *pair;
    int rc;

    if (queue >= QUEUES_PER_TOPIC_MAX || !pair_key_make(&key, group, topic)) {
        return ESCROW_EINVAL;
    }
    pair = strmap_find(&o->by_pair, slice_of(key.bytes, key.len));
    if (pair == NULL) {
        if (o->by_pair.count >= OFFSETS_PAIRS_MAX) {
            return ESCROW_ELIMIT;
        }
        pair = pair_new(group, topic);
        if (pair == NULL) {
            return ESCROW_ENOMEM;
        }
        rc = strmap_put(&o->by_pair, slice_of(key.bytes, key.len), pair);
        if (rc != 0) {
            pair_free(pair);
            return rc;
        }
    }
    rc = pair_grow(pair, queue);
    *out = pair;
    return rc;
}

static void pair_mark_dirty(struct offsets *o, struct offset_pair *pair, uint32_t queue)
{
    pair->dirty[queue / 64] |= UINT64_C(1) << (queue % 64);
    if (!pair->is_dirty) {
        pair->is_dirty = true;
        pair->next_dirty = o->dirty;
        o->dirty = pair;
    }
}

int offsets_note(struct offsets *o, struct slice group, struct slice topic, uint32_t queue,
                 int64_t offset)
{
    struct offset_pair *pair = NULL;
    int rc;

    if (offset < 0) {
        return ESCROW_EINVAL;
    }
    rc = pair_get(o, group, topic, queue, &pair);
    if (rc == 0 && pair->by_queue[queue] != offset) {
        pair->by_queue[queue] = offset;
        pair_mark_dirty(o, pair, queue);
    }
    return rc;
}

bool offsets_is_dirty(const struct offsets *o)
{
    return o->dirty != NULL;
}

static void entry_encode(struct buf *out, const struct offset_pair *pair, uint32_t queue)
{
    buf_append_le16(out, (uint16_t)pair->group_len);
    buf_append(out, pair->group, pair->group_len);
    buf_append_le16(out, (uint16_t)pair->topic_len);
    buf_append(out, pair->group + pair->group_len, pair->topic_len);
    buf_append_le32(out, queue);
    buf_append_le64(out, (uint64_t)pair->by_queue[queue]);
}

bool offsets_take_dirty(struct offsets *o, struct buf *payload, size_t limit_bytes)
{
    if (o->dirty != NULL && limit_bytes > payload->len &&
        buf_reserve(payload, limit_bytes - payload->len) == NULL) {
        return true;
    }
    while (o->dirty != NULL) {
        struct offset_pair *pair = o->dirty;
        size_t entry_bytes = OFFSET_FIXED_BYTES + pair->group_len + pair->topic_len;
        for (uint32_t q = 0; q < pair->queue_count; q++) {
            if ((pair->dirty[q / 64] & (UINT64_C(1) << (q % 64))) == 0) {
                continue;
            }
            if (payload->len + entry_bytes > limit_bytes) {
                return true;
            }
            entry_encode(payload, pair, q);
            pair->dirty[q / 64] &= ~(UINT64_C(1) << (q % 64));
        }
        o->dirty = pair->next_dirty;
        pair->is_dirty = false;
        pair->next_dirty = NULL;
    }
    return false;
}

struct offset_entry {
    struct slice group;
    struct slice topic;
    uint32_t queue;
    uint64_t offset;
};

/* Decode one entry at the start of *in and advance past it. */
static bool entry_decode(struct slice *in, struct offset_entry *e)
{
    size_t group_len;
    size_t topic_len;
    const uint8_t *p = in->ptr;

    if (in->len < OFFSET_FIXED_BYTES) {
        return false;
    }
    group_len = get_le16(p);
    if (in->len < OFFSET_FIXED_BYTES + group_len) {
        return false;
    }
    topic_len = get_le16(p + 2 + group_len);
    if (in->len < OFFSET_FIXED_BYTES + group_len + topic_len) {
        return false;
    }
    e->group = slice_of(p + 2, group_len);
    e->topic = slice_of(p + 4 + group_len, topic_len);
    p += 4 + group_len + topic_len;
    e->queue = get_le32(p);
    e->offset = get_le64(p + 4);
    *in = slice_of(p + 12, in->len - OFFSET_FIXED_BYTES - group_len - topic_len);
    return e->offset <= INT64_MAX;
}

void offsets_redirty(struct offsets *o, struct slice payload)
{
    struct offset_entry e;

    while (payload.len > 0) {
        struct offset_pair *pair = NULL;
        CHECK(entry_decode(&payload, &e));                         /* our own encoding */
        CHECK(pair_get(o, e.group, e.topic, e.queue, &pair) == 0); /* exists: no allocation */
        pair_mark_dirty(o, pair, e.queue);
    }
}

static int entries_apply(struct offsets *o, struct slice in)
{
    struct offset_entry e;

    while (in.len > 0) {
        struct offset_pair *pair = NULL;
        int rc;
        if (!entry_decode(&in, &e)) {
            return ESCROW_ECORRUPT;
        }
        rc = pair_get(o, e.group, e.topic, e.queue, &pair);
        if (rc != 0) {
            return rc == ESCROW_ENOMEM ? rc : ESCROW_ECORRUPT;
        }
        if ((pair->dirty[e.queue / 64] & (UINT64_C(1) << (e.queue % 64))) == 0) {
            pair->by_queue[e.queue] = (int64_t)e.offset;
        }
    }
    return 0;
}

int offsets_apply(struct offsets *o, struct slice payload, struct err_ctx *err)
{
    int rc = entries_apply(o, payload);

    return rc == 0 ? 0 : err_set(err, rc, "OFFSETS record: %s", escrow_strerror(rc));
}

static void pair_save(const struct offset_pair *pair, struct buf *out)
{
    for (uint32_t q = 0; q < pair->queue_count; q++) {
        if (pair->by_queue[q] >= 0) {
            entry_encode(out, pair, q);
        }
    }
}

void offsets_save(const struct offsets *o, struct buf *out)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&o->by_pair, &cursor)) != NULL) {
        pair_save(slot->value, out);
    }
}

int offsets_load(struct offsets *o, struct slice section, struct err_ctx *err)
{
    int rc = entries_apply(o, section);

    return rc == 0 ? 0 : err_set(err, rc, "checkpoint section offsets: %s", escrow_strerror(rc));
}

void offsets_visit(const struct offsets *o, offsets_visit_fn *fn, void *arg)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&o->by_pair, &cursor)) != NULL) {
        const struct offset_pair *pair = slot->value;
        for (uint32_t q = 0; q < pair->queue_count; q++) {
            if (pair->by_queue[q] >= 0) {
                fn(arg, slice_of(pair->group, pair->group_len),
                   slice_of(pair->group + pair->group_len, pair->topic_len), q, pair->by_queue[q]);
            }
        }
    }
}
