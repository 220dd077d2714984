/* Builds messages of PostgreSQL's binary COPY, for tests. */
#ifndef TESTS_UNIT_OUTBOX_COPY_BYTES_H
#define TESTS_UNIT_OUTBOX_COPY_BYTES_H

#include "core/base/buf.h"

static inline void copy_header(struct buf *b)
{
    buf_append(b, "PGCOPY\n\377\r\n\0", 11);
    buf_append_be32(b, 0);
    buf_append_be32(b, 0);
}

static inline void copy_i64(struct buf *b, int64_t v)
{
    buf_append_be32(b, 8);
    buf_append_be64(b, (uint64_t)v);
}

/* NULL text: a NULL field. */
static inline void copy_text(struct buf *b, const char *text)
{
    if (text == NULL) {
        buf_append_be32(b, UINT32_MAX);
        return;
    }
    buf_append_be32(b, (uint32_t)strlen(text));
    buf_append_str(b, text);
}

/* text[] of `count` elements as a field. */
static inline void copy_array(struct buf *b, const char *const *items, uint32_t count)
{
    size_t at = b->len;
    uint32_t len;

    buf_append_be32(b, 0);
    buf_append_be32(b, 1);
    buf_append_be32(b, 0);
    buf_append_be32(b, 25);
    buf_append_be32(b, count);
    buf_append_be32(b, 1);
    for (uint32_t i = 0; i < count; i++) {
        copy_text(b, items[i]);
    }
    len = (uint32_t)(b->len - at - 4);
    b->ptr[at] = (uint8_t)(len >> 24);
    b->ptr[at + 1] = (uint8_t)(len >> 16);
    b->ptr[at + 2] = (uint8_t)(len >> 8);
    b->ptr[at + 3] = (uint8_t)len;
}

static inline void copy_row(struct buf *b, int64_t order_id, int64_t id, const char *topic,
                            const char *body)
{
    buf_append_be16(b, 9);
    copy_i64(b, order_id);
    copy_i64(b, id);
    copy_i64(b, INT64_C(1000000)); /* one second into 2000 */
    copy_text(b, topic);
    copy_text(b, "tag");
    copy_text(b, NULL);
    copy_text(b, "order");
    copy_text(b, NULL);
    copy_text(b, body);
}

#endif
