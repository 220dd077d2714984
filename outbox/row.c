#include "outbox/row.h"

#include "core/base/bytes.h"
#include "escrow/errors.h"

#include <string.h>

/* PostgreSQL documentation, COPY, "Binary Format". Integers are big-endian. */
#define SIGNATURE        "PGCOPY\n\377\r\n"
#define SIGNATURE_BYTES  11
#define HEADER_BYTES     19
#define TRAILER          0xffffu
#define COLUMNS          9
#define UNIX_TO_PG_MS    INT64_C(946684800000) /* PostgreSQL counts microseconds from 2000-01-01 */
#define TEXT_OID         25
#define ARRAY_HEAD_BYTES 20 /* dimensions, flags, element type, size, lower bound */

struct cursor {
    const uint8_t *p;
    size_t left;
};

static bool take(struct cursor *c, size_t n, const uint8_t **out)
{
    if (c->left < n) {
        return false;
    }
    *out = c->p;
    c->p += n;
    c->left -= n;
    return true;
}

/* Length-prefixed field; *is_null when the length is -1. */
static bool take_field(struct cursor *c, struct slice *out, bool *is_null)
{
    const uint8_t *raw;
    uint32_t len;

    if (!take(c, 4, &raw)) {
        return false;
    }
    len = get_be32(raw);
    *is_null = len == UINT32_MAX;
    if (*is_null) {
        *out = SLICE_EMPTY;
        return true;
    }
    if (len > INT32_MAX || !take(c, len, &raw)) {
        return false;
    }
    *out = slice_of(raw, len);
    return true;
}

static bool take_text(struct cursor *c, struct slice *out, bool may_be_null)
{
    bool is_null;

    return take_field(c, out, &is_null) && (may_be_null || !is_null);
}

static bool take_i64(struct cursor *c, int64_t *out)
{
    struct slice field;
    bool is_null;

    if (!take_field(c, &field, &is_null) || is_null || field.len != 8) {
        return false;
    }
    *out = (int64_t)get_be64(field.ptr);
    return true;
}

static bool take_row(struct cursor *c, struct outbox_row *row)
{
    int64_t order_id;
    int64_t id;
    int64_t created_us;

    if (!take_i64(c, &order_id) || !take_i64(c, &id) || !take_i64(c, &created_us) || id <= 0 ||
        order_id <= 0) {
        return false;
    }
    row->order_id = (uint64_t)order_id;
    row->id = (uint64_t)id;
    row->created_ms = created_us / 1000 + UNIX_TO_PG_MS;
    return take_text(c, &row->topic, false) && take_text(c, &row->tag, true) &&
           take_text(c, &row->keys, true) && take_text(c, &row->ordering_key, true) &&
           take_text(c, &row->properties, true) && take_text(c, &row->body, false);
}

int row_decode(struct row_decoder *d, struct slice bytes, struct outbox_row *row)
{
    struct cursor c = {bytes.ptr, bytes.len};
    const uint8_t *raw;
    uint16_t columns;

    if (d->is_done) {
        return ESCROW_EPROTO;
    }
    if (!d->has_header) {
        if (!take(&c, HEADER_BYTES, &raw) || memcmp(raw, SIGNATURE, SIGNATURE_BYTES) != 0 ||
            get_be32(raw + 11) != 0 || get_be32(raw + 15) != 0) {
            return ESCROW_EPROTO;
        }
        d->has_header = true;
        if (c.left == 0) {
            return 0;
        }
    }
    if (!take(&c, 2, &raw)) {
        return ESCROW_EPROTO;
    }
    columns = get_be16(raw);
    if (columns == TRAILER) {
        d->is_done = true;
        return c.left == 0 ? 0 : ESCROW_EPROTO;
    }
    *row = (struct outbox_row){0};
    return columns == COLUMNS && take_row(&c, row) && c.left == 0 ? 1 : ESCROW_EPROTO;
}

int row_properties(struct slice array, struct buf *out)
{
    struct cursor c = {array.ptr, array.len};
    const uint8_t *raw;
    uint32_t count;

    if (array.len == 0) {
        return 0;
    }
    if (c.left >= 12 && get_be32(c.p) == 0) {
        return get_be32(c.p + 8) == TEXT_OID && c.left == 12 ? 0 : ESCROW_EPROTO; /* '{}' */
    }
    if (!take(&c, ARRAY_HEAD_BYTES, &raw) || get_be32(raw) != 1 || get_be32(raw + 8) != TEXT_OID) {
        return ESCROW_EPROTO;
    }
    count = get_be32(raw + 12);
    if (count % 2 != 0 || count > c.left / 4) {
        return ESCROW_EPROTO;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct slice field;
        if (!take_text(&c, &field, false)) {
            return ESCROW_EPROTO;
        }
        buf_append_slice(out, field);
        buf_append_u8(out, i % 2 == 0 ? 0x01 : 0x02);
    }
    return c.left == 0 ? 0 : ESCROW_EPROTO;
}
