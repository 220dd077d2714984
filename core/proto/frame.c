#include "core/proto/frame.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "escrow/errors.h"

#define HEADER_LEN_MASK 0x00ffffffu

_Static_assert(HEADER_SIZE_MAX <= HEADER_LEN_MASK, "a header length has 24 bits");
_Static_assert(FRAME_SIZE_MAX <= 0x16000000u, "a first byte of 0x16 must stay TLS");

int frame_decode(struct slice in, struct frame *out)
{
    uint32_t total;
    uint32_t word;
    uint32_t header_len;

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
    word = get_be32(in.ptr + 4);
    header_len = word & HEADER_LEN_MASK;
    if (word >> 24 >= HEADER_TYPE_COUNT || header_len > total - 4) {
        return ESCROW_EPROTO;
    }
    if (header_len > HEADER_SIZE_MAX) {
        return ESCROW_ETOOBIG;
    }
    out->size = (size_t)total + 4;
    if (in.len < out->size) {
        return ESCROW_EAGAIN;
    }
    out->type = (enum header_type)(word >> 24);
    out->header = slice_of(in.ptr + FRAME_PREFIX_BYTES, header_len);
    out->body = slice_of(out->header.ptr + header_len, total - 4 - header_len);
    DCHECK(FRAME_PREFIX_BYTES + out->header.len + out->body.len == out->size);
    return 0;
}
