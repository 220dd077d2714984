#include "txn/release.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/store/store.h"
#include "escrow/errors.h"

/* What the store keeps free for a message is what its RELEASE takes when it is alone in it. */
_Static_assert(STORE_RELEASE_BYTES == ENVELOPE_SIZE + RELEASE_HEAD_BYTES + RELEASE_DUE_BYTES,
               "the reserve is one record");
_Static_assert(RELEASE_COUNT_MAX <= END_TXN_HALVES_MAX, "as many queues as a record may name");

void release_encode_head(struct buf *b, const struct release_head *head)
{
    CHECK(head->count >= 1 && head->count <= RELEASE_COUNT_MAX);
    buf_append_u8(b, RELEASE_VERSION);
    buf_append_u8(b, (uint8_t)head->kind);
    buf_append_le16(b, 0);
    buf_append_le32(b, head->count);
    buf_append_le64(b, (uint64_t)head->at_ms);
}

void release_encode_entry(struct buf *b, enum release_kind kind, const struct release_entry *entry)
{
    buf_append_le64(b, entry->offset);
    if (kind == RELEASE_RECALLED) {
        return;
    }
    CHECK(entry->queue < QUEUES_PER_TOPIC_MAX);
    CHECK(entry->topic.len >= 1 && entry->topic.len <= RETRY_TOPIC_LEN_MAX);
    buf_append_le32(b, entry->size_bytes);
    buf_append_le32(b, (uint32_t)entry->tag_hash);
    buf_append_le64(b, (uint64_t)entry->store_ms);
    buf_append_le16(b, (uint16_t)entry->queue);
    buf_append_u8(b, (uint8_t)entry->topic.len);
    buf_append_slice(b, entry->topic);
}

/* Bytes of the first entry of `rest`, or 0 when it is not one. */
static size_t entry_measure(struct slice rest, enum release_kind kind)
{
    size_t topic_len;

    if (kind == RELEASE_RECALLED) {
        return rest.len < RELEASE_RECALLED_BYTES ? 0 : RELEASE_RECALLED_BYTES;
    }
    if (rest.len < RELEASE_DUE_BYTES) {
        return 0;
    }
    topic_len = rest.ptr[RELEASE_DUE_BYTES - 1];
    if (topic_len < 1 || rest.len - RELEASE_DUE_BYTES < topic_len ||
        get_le16(rest.ptr + 24) >= QUEUES_PER_TOPIC_MAX) {
        return 0;
    }
    return RELEASE_DUE_BYTES + topic_len;
}

static struct slice slice_behind(struct slice s, size_t n)
{
    return slice_of(s.ptr + n, s.len - n);
}

static bool head_decode(struct slice payload, struct release_head *head)
{
    const uint8_t *p = payload.ptr;

    if (payload.len < RELEASE_HEAD_BYTES || p[0] != RELEASE_VERSION || get_le16(p + 2) != 0 ||
        (p[1] != RELEASE_DUE && p[1] != RELEASE_RECALLED)) {
        return false;
    }
    head->kind = (enum release_kind)p[1];
    head->count = get_le32(p + 4);
    head->at_ms = (int64_t)get_le64(p + 8);
    return head->count >= 1 && head->count <= RELEASE_COUNT_MAX && head->at_ms >= 0;
}

int release_decode(struct slice payload, struct release_head *head, struct release_iter *iter)
{
    struct slice rest;

    if (!head_decode(payload, head)) {
        return ESCROW_ECORRUPT;
    }
    rest = slice_behind(payload, RELEASE_HEAD_BYTES);
    *iter = (struct release_iter){.rest = rest, .kind = head->kind, .at_ms = head->at_ms};
    for (uint32_t i = 0; i < head->count; i++) {
        size_t size = entry_measure(rest, head->kind);
        if (size == 0) {
            return ESCROW_ECORRUPT;
        }
        rest = slice_behind(rest, size);
    }
    return rest.len == 0 ? 0 : ESCROW_ECORRUPT;
}

bool release_next(struct release_iter *iter, struct release_entry *entry)
{
    const uint8_t *p = iter->rest.ptr;
    size_t size;

    if (iter->rest.len == 0) {
        return false;
    }
    size = entry_measure(iter->rest, iter->kind);
    CHECK(size > 0);
    *entry = (struct release_entry){.offset = get_le64(p), .at_ms = iter->at_ms};
    if (iter->kind == RELEASE_DUE) {
        entry->size_bytes = get_le32(p + 8);
        entry->tag_hash = (int32_t)get_le32(p + 12);
        entry->store_ms = (int64_t)get_le64(p + 16);
        entry->queue = get_le16(p + 24);
        entry->topic = slice_of(p + RELEASE_DUE_BYTES, p[RELEASE_DUE_BYTES - 1]);
    }
    iter->rest = slice_behind(iter->rest, size);
    return true;
}

int release_each_due(struct slice payload, store_release_fn *fn, void *arg)
{
    struct release_head head;
    struct release_iter iter;
    struct release_entry entry;
    int rc = release_decode(payload, &head, &iter);

    while (rc == 0 && head.kind == RELEASE_DUE && release_next(&iter, &entry)) {
        struct store_release due = {
            .topic = entry.topic,
            .queue_id = entry.queue,
            .half_offset = entry.offset,
            .payload_size = entry.size_bytes,
            .tag_code = entry.tag_hash,
            .store_ms = entry.store_ms,
            .at_ms = entry.at_ms,
        };
        fn(arg, &due);
    }
    return rc;
}

const char *release_kind_name(enum release_kind kind)
{
    switch (kind) {
    case RELEASE_DUE:
        return "due";
    case RELEASE_RECALLED:
        return "recalled";
    }
    return "?";
}
