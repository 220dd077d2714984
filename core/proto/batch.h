/*
 * Body of SEND_BATCH_MESSAGE (320): items back to back, big-endian:
 *   totalSize 4 | magic 4 = 0 | bodyCRC 4 = 0 | flag 4 | bodyLen 4 | body | propertiesLen 2 |
 * properties The request header's fields (topic, queue, sysFlag, bornTimestamp ...) hold for every
 * item.
 *
 * Owns:    nothing; an item's slices are borrowed from the body.
 * Thread:  any. Pure, except that batch_append grows the caller's buf.
 */
#ifndef CORE_PROTO_BATCH_H
#define CORE_PROTO_BATCH_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"

#include <stdint.h>

/* An item with neither body nor properties. */
#define BATCH_ITEM_SIZE_MIN 22

struct batch_item {
    int32_t flag;
    struct slice body;
    struct slice properties;
};

struct batch_iter {
    struct slice rest;
};

static inline struct batch_iter batch_begin(struct slice body)
{
    return (struct batch_iter){body};
}

/*
 * 1 and *item; 0 at the end; ESCROW_EPROTO when lengths do not add up (the iterator then stays
 * where it is). Magic and bodyCRC are not looked at: clients write 0, and the record gets its own
 * CRC.
 */
ESCROW_MUST_USE int batch_next(struct batch_iter *iter, struct batch_item *item);

/*
 * Walk the whole body: number of items (at least 1) in *count. ESCROW_EPROTO when malformed or
 * empty, ESCROW_ETOOBIG when there are more than BATCH_ITEMS_MAX or one item's body or properties
 * exceed the limits of a message.
 */
ESCROW_MUST_USE int batch_check(struct slice body, uint32_t *count);

/* Bytes batch_append adds. */
size_t batch_item_size(const struct batch_item *item);

/* Append one item. ESCROW_ETOOBIG (limits of a message) or ESCROW_ENOMEM (buf_failed), and then
 * nothing was appended. */
ESCROW_MUST_USE int batch_append(struct buf *body, const struct batch_item *item);

#endif
