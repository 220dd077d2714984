/*
 * Growable byte buffer.
 *
 * Owns:    its memory.
 * Thread:  whoever owns the struct.
 * Errors:  an append that cannot grow sets `failed` and changes nothing; later appends do nothing.
 *          Callers append freely and test buf_failed() once at the end.
 * Holds:   len <= cap; limit == 0 or len <= limit.
 */
#ifndef CORE_BASE_BUF_H
#define CORE_BASE_BUF_H

#include "core/base/attr.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *ptr;
    size_t len;
    size_t cap;
    size_t limit; /* most bytes it may ever hold; 0 = no limit */
    bool failed;
};

void buf_init(struct buf *b, size_t limit);
void buf_fini(struct buf *b);
void buf_clear(struct buf *b); /* len = 0, failed = false; keeps the memory */

/* Room for `more` bytes after len: pointer to it, or NULL (and failed). Follow with buf_commit. */
uint8_t *buf_reserve(struct buf *b, size_t more);
void buf_commit(struct buf *b, size_t used); /* used <= what was reserved */

void buf_append(struct buf *b, const void *data, size_t len);
void buf_append_slice(struct buf *b, struct slice s);
void buf_append_str(struct buf *b, const char *text);
void buf_append_fmt(struct buf *b, const char *fmt, ...) ESCROW_PRINTF(2, 3);
void buf_append_u8(struct buf *b, uint8_t v);
void buf_append_be16(struct buf *b, uint16_t v);
void buf_append_be32(struct buf *b, uint32_t v);
void buf_append_be64(struct buf *b, uint64_t v);
void buf_append_le16(struct buf *b, uint16_t v);
void buf_append_le32(struct buf *b, uint32_t v);
void buf_append_le64(struct buf *b, uint64_t v);

/* Drop the first `n` bytes (n <= len), moving the rest to the front. */
void buf_consume(struct buf *b, size_t n);

static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->ptr, b->len);
}

static inline bool buf_failed(const struct buf *b)
{
    return b->failed;
}

#endif
