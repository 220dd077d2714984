/*
 * One row of the outbox, and its decoder: PostgreSQL's binary COPY format.
 *
 * The relay reads with COPY (SELECT order_id or xid, id, created_at, topic, tag, keys,
 * ordering_key, properties, body ...) TO STDOUT (FORMAT binary). The bytes come from a server that
 * may be anything, so every length is checked.
 *
 * Owns:    nothing; slices are borrowed from the bytes that were decoded.
 * Thread:  any. Pure.
 */
#ifndef OUTBOX_ROW_H
#define OUTBOX_ROW_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct outbox_row {
    uint64_t order_id; /* highest id in the row's transaction, which its rows share; while the rows
                          are not sorted yet: the transaction's id */
    uint64_t id;
    int64_t created_ms; /* Unix time */
    struct slice topic; /* empty: the row is parked, and nothing else of it is here */
    struct slice tag;
    struct slice keys;
    struct slice ordering_key;
    struct slice properties; /* binary text[]: name, value, name, value, ...; see row_properties */
    struct slice body;
};

/* Where the decoder is in the stream. Zeroed = at the start (the file header comes first). */
struct row_decoder {
    bool has_header;
    bool is_done; /* the trailer was seen */
};

/*
 * Decode one CopyData message. 1 and *row; 0 for a message without a row (header or trailer alone).
 * ESCROW_EPROTO:
 * malformed, a NULL where none may be, a negative id, or something behind the trailer.
 */
ESCROW_MUST_USE int row_decode(struct row_decoder *d, struct slice bytes, struct outbox_row *row);

/*
 * Append the pairs as name 0x01 value 0x02 ...; ESCROW_EPROTO: not a one-dimensional text[] of
 * pairs without NULLs.
 */
ESCROW_MUST_USE int row_properties(struct slice array, struct buf *out);

/*
 * The row may come after the row (order_id, id) in the order of publication; 0, 0: after none. What
 * the database sends is not believed: a batcher takes rows in this order only.
 */
static inline bool row_follows(const struct outbox_row *row, uint64_t order_id, uint64_t id)
{
    return row->order_id >= row->id &&
           (row->order_id > order_id || (row->order_id == order_id && row->id > id));
}

/* Bytes of all slices. */
static inline size_t row_size_bytes(const struct outbox_row *row)
{
    return row->topic.len + row->tag.len + row->keys.len + row->ordering_key.len +
           row->properties.len + row->body.len;
}

#endif
