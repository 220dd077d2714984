#include "core/proto/header_rocketmq.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/proto/codes.h"
#include "core/proto/header_private.h"
#include "escrow/errors.h"

/* Offsets of the fixed part. */
enum {
    AT_CODE = 0,
    AT_LANGUAGE = 2,
    AT_VERSION = 3,
    AT_OPAQUE = 5,
    AT_FLAG = 9,
    AT_REMARK_LEN = 13,
    FIXED_BYTES = 17
};

/* Take `len` bytes off the front; false when there are fewer. */
static bool take(struct slice *in, size_t len, struct slice *out)
{
    if (len > in->len) {
        return false;
    }
    *out = slice_of(in->ptr, len);
    in->ptr += len;
    in->len -= len;
    return true;
}

/* A length of 32 bits and that many bytes. A negative length is one above what is left. */
static bool take_long(struct slice *in, struct slice *out)
{
    struct slice len;

    return take(in, 4, &len) && take(in, get_be32(len.ptr), out);
}

static bool take_short(struct slice *in, struct slice *out)
{
    struct slice len;

    return take(in, 2, &len) && get_be16(len.ptr) <= INT16_MAX && take(in, get_be16(len.ptr), out);
}

int header_rocketmq_decode(struct header *h, struct slice in)
{
    struct slice fields;
    struct slice key;
    struct slice value;

    if (in.len < FIXED_BYTES) {
        return ESCROW_EPROTO;
    }
    h->code = (int16_t)get_be16(in.ptr + AT_CODE);
    h->language = language_by_number(in.ptr[AT_LANGUAGE]);
    h->version = (int16_t)get_be16(in.ptr + AT_VERSION);
    h->opaque = (int32_t)get_be32(in.ptr + AT_OPAQUE);
    h->flag = (int32_t)get_be32(in.ptr + AT_FLAG);
    in = slice_of(in.ptr + AT_REMARK_LEN, in.len - AT_REMARK_LEN);
    if (!take_long(&in, &h->remark) || !take_long(&in, &fields) || in.len != 0) {
        return ESCROW_EPROTO;
    }
    if (h->remark.len == 0) {
        h->remark = SLICE_EMPTY;
    }
    while (fields.len > 0) {
        int rc;

        if (!take_short(&fields, &key) || !take_long(&fields, &value)) {
            return ESCROW_EPROTO;
        }
        rc = header_add_text(h, key, value);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

void header_rocketmq_begin(struct header_writer *w)
{
    uint8_t *dst;

    if (w->head.code < INT16_MIN || w->head.code > INT16_MAX) {
        w->error = ESCROW_ENOTSUP;
        return;
    }
    dst = buf_reserve(w->buf, FIXED_BYTES);
    if (dst == NULL) {
        return;
    }
    put_be16(dst + AT_CODE, (uint16_t)w->head.code);
    dst[AT_LANGUAGE] = LANGUAGE_JAVA;
    put_be16(dst + AT_VERSION, HEADER_VERSION);
    put_be32(dst + AT_OPAQUE, (uint32_t)w->head.opaque);
    put_be32(dst + AT_FLAG, (uint32_t)w->head.flag);
    put_be32(dst + AT_REMARK_LEN, 0);
    buf_commit(w->buf, FIXED_BYTES);
    if (w->head.remark.len > HEADER_SIZE_MAX) {
        w->error = ESCROW_ETOOBIG;
        return;
    }
    put_be32(dst + AT_REMARK_LEN, (uint32_t)w->head.remark.len);
    buf_append_slice(w->buf, w->head.remark);
    w->fields_at = w->buf->len;
    buf_append_be32(w->buf, 0);
}

void header_rocketmq_put(struct header_writer *w, struct slice key, struct slice value)
{
    uint8_t *dst;

    if (key.len > INT16_MAX || value.len > HEADER_SIZE_MAX) {
        w->error = ESCROW_ETOOBIG;
        return;
    }
    dst = buf_reserve(w->buf, 2 + key.len + 4 + value.len);
    if (dst == NULL) {
        return;
    }
    put_be16(dst, (uint16_t)key.len);
    if (key.len > 0) {
        memcpy(dst + 2, key.ptr, key.len);
    }
    put_be32(dst + 2 + key.len, (uint32_t)value.len);
    if (value.len > 0) {
        memcpy(dst + 6 + key.len, value.ptr, value.len);
    }
    buf_commit(w->buf, 6 + key.len + value.len);
}

void header_rocketmq_end(struct header_writer *w)
{
    size_t len = w->buf->len - w->fields_at - 4;

    if (len > HEADER_SIZE_MAX) {
        w->error = ESCROW_ETOOBIG;
        return;
    }
    put_be32(w->buf->ptr + w->fields_at, (uint32_t)len);
}
