#include "txn/decision.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/proto/names.h"
#include "escrow/errors.h"

/*
 * A half keeps STORE_DECISION_RESERVE bytes of the log free: enough to expire it and then to
 * decide it.
 */
_Static_assert(((ENVELOPE_SIZE + DECISION_HEAD_BYTES + DECISION_EXPIRE_BYTES + 7) & ~7u) +
                       ((ENVELOPE_SIZE + DECISION_HEAD_BYTES + DECISION_COMMIT_BYTES +
                         TOPIC_LEN_MAX + 7) &
                        ~7u) <=
                   STORE_DECISION_RESERVE,
               "the reserve must hold both records");

#define QUEUE_HELD 0x8000u /* in the queue of an entry */

size_t decision_entry_bytes(enum decision_kind kind, size_t topic_len)
{
    switch (kind) {
    case DECISION_COMMIT:
        return DECISION_COMMIT_BYTES + topic_len;
    case DECISION_EXPIRE:
        return DECISION_EXPIRE_BYTES;
    case DECISION_ROLLBACK:
        return DECISION_ROLLBACK_BYTES;
    case DECISION_NONE:
        break;
    }
    UNREACHABLE("no such kind of decision");
}

size_t decision_record_bytes(enum decision_kind kind, size_t topic_len)
{
    return (size_t)envelope_padded(ENVELOPE_SIZE + DECISION_HEAD_BYTES +
                                   decision_entry_bytes(kind, topic_len));
}

void decision_encode_head(struct buf *b, const struct decision_head *head)
{
    CHECK(head->count >= 1 && head->count <= END_TXN_HALVES_MAX);
    buf_append_u8(b, DECISION_VERSION);
    buf_append_u8(b, (uint8_t)head->kind);
    buf_append_u8(b, (uint8_t)head->by);
    buf_append_u8(b, 0);
    buf_append_le32(b, head->count);
    buf_append_le64(b, (uint64_t)head->at_ms);
}

void decision_encode_entry(struct buf *b, enum decision_kind kind,
                           const struct decision_entry *entry)
{
    buf_append_le64(b, entry->offset);
    if (kind == DECISION_ROLLBACK) {
        return;
    }
    buf_append_le32(b, entry->size_bytes);
    buf_append_le32(b, (uint32_t)entry->tag_hash);
    buf_append_le64(b, (uint64_t)entry->store_ms);
    if (kind == DECISION_EXPIRE) {
        return;
    }
    CHECK(entry->queue < QUEUES_PER_TOPIC_MAX);
    CHECK(entry->topic.len >= 1 && entry->topic.len <= TOPIC_LEN_MAX);
    buf_append_le16(b, (uint16_t)(entry->queue | (entry->is_held ? QUEUE_HELD : 0)));
    buf_append_u8(b, (uint8_t)entry->topic.len);
    buf_append_slice(b, entry->topic);
}

/* Bytes of the first entry of `rest`, or 0 when it is not one. */
static size_t decision_entry_measure(struct slice rest, enum decision_kind kind, uint8_t version)
{
    size_t size = decision_entry_bytes(kind, 0);

    if (rest.len < size) {
        return 0;
    }
    if (kind == DECISION_COMMIT) {
        size_t topic_len = rest.ptr[DECISION_COMMIT_BYTES - 1];
        unsigned queue = get_le16(rest.ptr + 24);
        if (version > 1) {
            queue &= ~QUEUE_HELD;
        }
        if (topic_len < 1 || topic_len > TOPIC_LEN_MAX || rest.len - size < topic_len ||
            queue >= QUEUES_PER_TOPIC_MAX) {
            return 0;
        }
        size += topic_len;
    }
    return size;
}

static struct slice slice_behind(struct slice s, size_t n)
{
    return slice_of(s.ptr + n, s.len - n);
}

static bool decision_head_decode(struct slice payload, struct decision_head *head)
{
    const uint8_t *p = payload.ptr;

    if (payload.len < DECISION_HEAD_BYTES || p[0] < 1 || p[0] > DECISION_VERSION || p[3] != 0) {
        return false;
    }
    if (p[1] < DECISION_COMMIT || p[1] > DECISION_EXPIRE || p[2] < DECISION_BY_PRODUCER ||
        p[2] > DECISION_BY_BROKER) {
        return false;
    }
    head->kind = (enum decision_kind)p[1];
    head->by = (enum decision_by)p[2];
    head->count = get_le32(p + 4);
    head->at_ms = (int64_t)get_le64(p + 8);
    return head->count >= 1 && head->count <= END_TXN_HALVES_MAX && head->at_ms >= 0;
}

int decision_decode(struct slice payload, struct decision_head *head, struct decision_iter *iter)
{
    struct slice rest;

    if (!decision_head_decode(payload, head)) {
        return ESCROW_ECORRUPT;
    }
    rest = slice_behind(payload, DECISION_HEAD_BYTES);
    *iter = (struct decision_iter){.rest = rest, .kind = head->kind, .version = payload.ptr[0]};
    for (uint32_t i = 0; i < head->count; i++) {
        size_t size = decision_entry_measure(rest, head->kind, iter->version);
        if (size == 0) {
            return ESCROW_ECORRUPT;
        }
        rest = slice_behind(rest, size);
    }
    return rest.len == 0 ? 0 : ESCROW_ECORRUPT;
}

bool decision_next(struct decision_iter *iter, struct decision_entry *entry)
{
    const uint8_t *p = iter->rest.ptr;
    size_t size;

    if (iter->rest.len == 0) {
        return false;
    }
    size = decision_entry_measure(iter->rest, iter->kind, iter->version);
    CHECK(size > 0);
    *entry = (struct decision_entry){.offset = get_le64(p)};
    if (iter->kind != DECISION_ROLLBACK) {
        entry->size_bytes = get_le32(p + 8);
        entry->tag_hash = (int32_t)get_le32(p + 12);
        entry->store_ms = (int64_t)get_le64(p + 16);
    }
    if (iter->kind == DECISION_COMMIT) {
        entry->queue = get_le16(p + 24) & ~QUEUE_HELD;
        entry->is_held = (get_le16(p + 24) & QUEUE_HELD) != 0;
        entry->topic = slice_of(p + DECISION_COMMIT_BYTES, p[DECISION_COMMIT_BYTES - 1]);
    }
    iter->rest = slice_behind(iter->rest, size);
    return true;
}

int decision_each_shown(struct slice payload, store_release_fn *fn, void *arg)
{
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;
    int rc = decision_decode(payload, &head, &iter);

    if (rc != 0) {
        return rc;
    }
    while (head.kind != DECISION_ROLLBACK && decision_next(&iter, &entry)) {
        bool is_parked = head.kind == DECISION_EXPIRE;
        struct store_release release = {
            .topic = is_parked ? SLICE_LIT(TOPIC_EXPIRED) : entry.topic,
            .queue_id = is_parked ? 0 : entry.queue,
            .half_offset = entry.offset,
            .payload_size = entry.size_bytes,
            .tag_code = entry.tag_hash,
            .store_ms = entry.store_ms,
            .at_ms = head.at_ms,
        };
        if (!entry.is_held) {
            fn(arg, &release);
        }
    }
    return 0;
}

void check_encode_head(struct buf *b, uint32_t count, int64_t at_ms)
{
    CHECK(count >= 1 && count <= END_TXN_HALVES_MAX);
    buf_append_le32(b, CHECK_VERSION); /* and three zeros */
    buf_append_le32(b, count);
    buf_append_le64(b, (uint64_t)at_ms);
}

void check_encode_entry(struct buf *b, const struct check_entry *entry)
{
    buf_append_le64(b, entry->offset);
    buf_append_le32(b, entry->checks);
}

int check_decode(struct slice payload, uint32_t *count, int64_t *at_ms, struct check_iter *iter)
{
    if (payload.len < DECISION_HEAD_BYTES || get_le32(payload.ptr) != CHECK_VERSION) {
        return ESCROW_ECORRUPT;
    }
    *count = get_le32(payload.ptr + 4);
    *at_ms = (int64_t)get_le64(payload.ptr + 8);
    if (*count < 1 || *count > END_TXN_HALVES_MAX || *at_ms < 0 ||
        payload.len != DECISION_HEAD_BYTES + (size_t)*count * CHECK_ENTRY_BYTES) {
        return ESCROW_ECORRUPT;
    }
    iter->rest = slice_behind(payload, DECISION_HEAD_BYTES);
    return 0;
}

bool check_next(struct check_iter *iter, struct check_entry *entry)
{
    if (iter->rest.len == 0) {
        return false;
    }
    CHECK(iter->rest.len >= CHECK_ENTRY_BYTES);
    entry->offset = get_le64(iter->rest.ptr);
    entry->checks = get_le32(iter->rest.ptr + 8);
    iter->rest = slice_behind(iter->rest, CHECK_ENTRY_BYTES);
    return true;
}

const char *decision_kind_name(enum decision_kind kind)
{
    switch (kind) {
    case DECISION_COMMIT:
        return "commit";
    case DECISION_ROLLBACK:
        return "rollback";
    case DECISION_EXPIRE:
        return "expire";
    case DECISION_NONE:
        break;
    }
    return "?";
}

const char *decision_by_name(enum decision_by by)
{
    switch (by) {
    case DECISION_BY_PRODUCER:
        return "producer";
    case DECISION_BY_CHECK:
        return "check";
    case DECISION_BY_OPERATOR:
        return "operator";
    case DECISION_BY_BROKER:
        return "broker";
    case DECISION_BY_NOBODY:
        break;
    }
    return "?";
}
