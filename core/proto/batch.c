#include "core/proto/batch.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "escrow/errors.h"

enum { AT_SIZE = 0, AT_MAGIC = 4, AT_CRC = 8, AT_FLAG = 12, AT_BODY_LEN = 16, AT_BODY = 20 };

_Static_assert(BATCH_ITEM_SIZE_MIN == AT_BODY + 2, "no body, no properties");

int batch_next(struct batch_iter *iter, struct batch_item *item)
{
    struct slice in = iter->rest;
    uint32_t size, body_len;
    uint16_t properties_len;

    if (in.len == 0) {
        return 0;
    }
    if (in.len < BATCH_ITEM_SIZE_MIN) {
        return ESCROW_EPROTO;
    }
    size = get_be32(in.ptr + AT_SIZE);
    body_len = get_be32(in.ptr + AT_BODY_LEN);
    if (size < BATCH_ITEM_SIZE_MIN || size > in.len || body_len > size - BATCH_ITEM_SIZE_MIN) {
        return ESCROW_EPROTO;
    }
    properties_len = get_be16(in.ptr + AT_BODY + body_len);
    if (properties_len != size - BATCH_ITEM_SIZE_MIN - body_len ||
        properties_len > PROPERTIES_LEN_MAX) {
        return ESCROW_EPROTO;
    }
    item->flag = (int32_t)get_be32(in.ptr + AT_FLAG);
    item->body = slice_of(in.ptr + AT_BODY, body_len);
    item->properties = slice_of(in.ptr + AT_BODY + body_len + 2, properties_len);
    iter->rest = slice_of(in.ptr + size, in.len - size);
    return 1;
}

int batch_check(struct slice body, uint32_t *count)
{
    struct batch_iter iter = batch_begin(body);
    struct batch_item item;
    uint32_t n = 0;
    int more;

    while ((more = batch_next(&iter, &item)) == 1) {
        if (n == BATCH_ITEMS_MAX || item.body.len > MESSAGE_BODY_MAX) {
            return ESCROW_ETOOBIG;
        }
        n++;
    }
    if (more < 0 || n == 0) {
        return ESCROW_EPROTO;
    }
    *count = n;
    return 0;
}

size_t batch_item_size(const struct batch_item *item)
{
    return BATCH_ITEM_SIZE_MIN + item->body.len + item->properties.len;
}

int batch_append(struct buf *body, const struct batch_item *item)
{
    size_t size = batch_item_size(item);
    uint8_t *dst;

    if (item->body.len > MESSAGE_BODY_MAX || item->properties.len > PROPERTIES_LEN_MAX) {
        return ESCROW_ETOOBIG;
    }
    dst = buf_reserve(body, size);
    if (dst == NULL) {
        return ESCROW_ENOMEM;
    }
    put_be32(dst + AT_SIZE, (uint32_t)size);
    put_be32(dst + AT_MAGIC, 0);
    put_be32(dst + AT_CRC, 0);
    put_be32(dst + AT_FLAG, (uint32_t)item->flag);
    put_be32(dst + AT_BODY_LEN, (uint32_t)item->body.len);
    buf_commit(body, AT_BODY);
    buf_append_slice(body, item->body);
    buf_append_be16(body, (uint16_t)item->properties.len);
    buf_append_slice(body, item->properties);
    CHECK(!buf_failed(body)); /* the room was reserved */
    return 0;
}
