#include "core/proto/frame.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "escrow/errors.h"

#define HEADER_LEN_MASK 0x00ffffffu

_Static_assert(HEADER_SIZE_MAX <= HEADER_LEN_MASK, "a header length has 24 bits");
_Static_assert(FRAME_SIZE_MAX <= 0x16000000u, "a first byte of 0x16 must stay TLS");

/* Type and header length; `in` has the prefix, `total` is what it says of the rest. */
static int prefix_decode(struct slice in, uint32_t total, struct frame *out)
{
    uint32_t word = get_be32(in.ptr + 4);
    uint32_t header_len = word & HEADER_LEN_MASK;

    if (total < 4 || word >> 24 >= HEADER_TYPE_COUNT || header_len > total - 4) {
        return ESCROW_EPROTO;
    }
    out->type = (enum header_type)(word >> 24);
    out->header = slice_of(in.ptr + FRAME_PREFIX_BYTES, header_len);
    out->body = SLICE_EMPTY;
    return header_len > HEADER_SIZE_MAX ? ESCROW_ETOOBIG : 0;
}

int frame_decode_header(struct slice in, struct frame *out)
{
    int rc;

    out->size = FRAME_PREFIX_BYTES;
    if (in.len < FRAME_PREFIX_BYTES) {
        return ESCROW_EAGAIN;
    }
    rc = prefix_decode(in, get_be32(in.ptr), out);
    if (rc == 0) {
        out->size += out->header.len;
    }
    return rc == 0 && in.len < out->size ? ESCROW_EAGAIN : rc;
}

int frame_decode(struct slice in, struct frame *out)
{
    uint32_t total;
    int rc;

    out->size = FRAME_PREFIX_BYTES;
    if (in.len < 4) {
        return ESCROW_EAGAIN;
    }
    total = get_be32(in.ptr);
    if (total > FRAME_SIZE_MAX - 4) {
        return ESCROW_ETOOBIG;
    }
    if (total < 4) {
        return ESCROW_EPROTO;
    }
    if (in.len < FRAME_PREFIX_BYTES) {
        return ESCROW_EAGAIN;
    }
    rc = prefix_decode(in, total, out);
    if (rc != 0) {
        return rc;
    }
    out->size = (size_t)total + 4;
    if (in.len < out->size) {
        return ESCROW_EAGAIN;
    }
    out->body = slice_of(out->header.ptr + out->header.len, total - 4 - out->header.len);
    DCHECK(FRAME_PREFIX_BYTES + out->header.len + out->body.len == out->size);
    return 0;
}
