#include "core/proto/body_pack.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "escrow/errors.h"

/* ---- writing: append never reports a failure, so the results of the packer say nothing ---- */

static int append(void *data, const char *bytes, size_t len)
{
    buf_append((struct buf *)data, bytes, len);
    return 0;
}

msgpack_packer pack_to(struct buf *out)
{
    msgpack_packer pk;

    msgpack_packer_init(&pk, out, append);
    return pk;
}

void pack_map(msgpack_packer *pk, size_t pairs)
{
    (void)msgpack_pack_map(pk, pairs); /* here and below: see append */
}

void pack_array(msgpack_packer *pk, size_t count)
{
    (void)msgpack_pack_array(pk, count);
}

void pack_text(msgpack_packer *pk, struct slice text)
{
    (void)msgpack_pack_str(pk, text.len);
    (void)msgpack_pack_str_body(pk, text.ptr, text.len);
}

void pack_text_or_nil(msgpack_packer *pk, struct slice text)
{
    if (text.len == 0) {
        pack_nil(pk);
    } else {
        pack_text(pk, text);
    }
}

void pack_bytes(msgpack_packer *pk, struct slice bytes)
{
    (void)msgpack_pack_bin(pk, bytes.len);
    (void)msgpack_pack_bin_body(pk, bytes.ptr, bytes.len);
}

void pack_i64(msgpack_packer *pk, int64_t value)
{
    (void)msgpack_pack_int64(pk, value);
}

void pack_i64_or_nil(msgpack_packer *pk, int64_t value, int64_t nil)
{
    if (value == nil) {
        pack_nil(pk);
    } else {
        pack_i64(pk, value);
    }
}

void pack_u64(msgpack_packer *pk, uint64_t value)
{
    (void)msgpack_pack_uint64(pk, value);
}

void pack_bool(msgpack_packer *pk, bool value)
{
    (void)(value ? msgpack_pack_true(pk) : msgpack_pack_false(pk));
}

void pack_nil(msgpack_packer *pk)
{
    (void)msgpack_pack_nil(pk);
}

void pack_key(msgpack_packer *pk, const char *key)
{
    pack_text(pk, slice_str(key));
}

size_t pack_open_array(struct buf *out)
{
    buf_append_u8(out, 0xdd); /* array 32: the count always has four bytes */
    buf_append_be32(out, 0);
    return out->len - 4;
}

void pack_patch_count(struct buf *out, size_t count_at, uint32_t count)
{
    if (!buf_failed(out)) {
        CHECK(count_at + 4 <= out->len);
        put_be32(out->ptr + count_at, count);
    }
}

/* ---- reading ---- */

/* Step over an array of rows; where they begin and how many they are goes to the field's places. */
static int read_rows(struct scan *s, const struct pack_field *field, uint8_t *base)
{
    struct scan rows = *s;
    uint32_t count;
    int error = scan_skip(s, PACK_LIMITS);

    if (error == 0) {
        error = scan_array(&rows, &count);
    }
    if (error == 0) {
        memcpy(base + field->at, &rows, sizeof rows);
        memcpy(base + field->count_at, &count, sizeof count);
    }
    return error;
}

static int read_value(struct scan *s, const struct pack_field *field, uint8_t *base)
{
    void *at = base + field->at;

    switch (field->kind) {
    case PACK_TEXT:
        return scan_str(s, at);
    case PACK_BYTES:
        return scan_bin(s, at);
    case PACK_I64:
        return scan_i64(s, at);
    case PACK_U64:
        return scan_u64(s, at);
    case PACK_U32:
        return scan_u32(s, at);
    case PACK_BOOL:
        return scan_bool(s, at);
    case PACK_ROWS:
        return read_rows(s, field, base);
    }
    UNREACHABLE("kind is one of its values");
}

/* Index of a key, or count. */
static size_t find_field(const struct pack_field *fields, size_t count, struct slice key)
{
    size_t i = 0;

    while (i < count && !slice_eq_str(key, fields[i].key)) {
        i++;
    }
    return i;
}

static int read_pair(struct scan *s, const struct pack_field *fields, size_t count, uint8_t *base,
                     uint32_t *seen)
{
    struct slice key;
    size_t i;
    int error = scan_str(s, &key);

    if (error != 0) {
        return error;
    }
    i = find_field(fields, count, key);
    if (i == count) {
        return scan_skip(s, PACK_LIMITS);
    }
    if (scan_peek(s) == SCAN_NIL) {
        return scan_nil(s);
    }
    *seen |= UINT32_C(1) << i;
    return read_value(s, &fields[i], base);
}

int pack_read_map(struct scan *s, const struct pack_field *fields, size_t count, void *out)
{
    uint32_t pairs;
    uint32_t seen = 0;
    int error = scan_map(s, &pairs);

    CHECK(count <= 32);
    for (uint32_t i = 0; error == 0 && i < pairs; i++) {
        error = read_pair(s, fields, count, out, &seen);
    }
    for (size_t i = 0; error == 0 && i < count; i++) {
        if (fields[i].is_required && (seen & (UINT32_C(1) << i)) == 0) {
            error = ESCROW_EPROTO;
        }
    }
    return error;
}

int pack_read_body(struct slice body, const struct pack_field *fields, size_t count, void *out)
{
    struct scan s;
    int error;

    scan_init(&s, body);
    error = pack_read_map(&s, fields, count, out);
    return error == 0 && scan_left(&s) != 0 ? ESCROW_EPROTO : error;
}

int pack_row_begin(struct scan *s, uint32_t known, struct pack_row *row)
{
    uint32_t count;
    int error = scan_array(s, &count);

    if (error == 0 && count < known) {
        error = ESCROW_EPROTO;
    }
    if (error == 0) {
        row->left = count - known;
    }
    return error;
}

int pack_row_end(struct scan *s, const struct pack_row *row)
{
    int error = 0;

    for (uint32_t i = 0; error == 0 && i < row->left; i++) {
        error = scan_skip(s, PACK_LIMITS);
    }
    return error;
}

int pack_read_text_or_nil(struct scan *s, struct slice *out)
{
    *out = SLICE_EMPTY;
    return scan_peek(s) == SCAN_NIL ? scan_nil(s) : scan_str(s, out);
}

int pack_read_i64_or_nil(struct scan *s, int64_t nil, int64_t *out)
{
    *out = nil;
    return scan_peek(s) == SCAN_NIL ? scan_nil(s) : scan_i64(s, out);
}
