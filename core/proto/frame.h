/*
 * Remoting frames: finding one frame in a stream of bytes.
 *
 *   0  4  length L of everything after this field
 *   4  1  header type (enum header_type)
 *   5  3  header length H
 *   8  H  header
 *   .. L-4-H  body
 *
 * All big-endian. Nothing is allocated and nothing is copied here; every limit is tested before the
 * bytes it speaks of have arrived, so that a hostile length costs a connection and no memory.
 * Writing frames: header.h.
 *
 * Owns:    nothing. Both slices point into the input.
 * Thread:  any.
 * Holds:   8 <= size <= FRAME_SIZE_MAX; header.len <= HEADER_SIZE_MAX; 8 + header.len + body.len ==
 * size.
 */
#ifndef CORE_PROTO_FRAME_H
#define CORE_PROTO_FRAME_H

#include "core/base/attr.h"
#include "core/base/slice.h"

#include <stddef.h>
#include <stdint.h>

#define FRAME_PREFIX_BYTES 8 /* length, type, header length */

enum header_type {
    HEADER_JSON = 0,     /* RocketMQ's default, the only one old clients understand */
    HEADER_ROCKETMQ = 1, /* RocketMQ's binary form */
    HEADER_MSGPACK = 2   /* ours */
};

#define HEADER_TYPE_COUNT 3

struct frame {
    size_t size; /* whole frame, length field included */
    enum header_type type;
    struct slice header;
    struct slice body; /* len 0 = absent */
};

/*
 * Look at the first frame of `in`, which may hold less than one frame or more than one.
 *
 * Returns 0: *out is filled; the next frame starts at in.ptr + out->size.
 * ESCROW_EAGAIN: the frame is not complete yet; out->size is its size once known (8 bytes seen),
 * else 8: read until at least that many bytes are there. ESCROW_ETOOBIG (frame or header above its
 * limit), ESCROW_EPROTO (length below 4, unknown type, header longer than the frame): the stream
 * cannot be read any further; close the connection without an answer. *out is undefined.
 */
ESCROW_MUST_USE int frame_decode(struct slice in, struct frame *out);

/*
 * The header of a frame that will not be read, so that it can be refused by name: `in` begins with
 * it. 0: type and header are filled, the body is empty; ESCROW_EAGAIN: the header is not complete;
 * ESCROW_ETOOBIG, ESCROW_EPROTO as above, whatever the frame's own size.
 */
ESCROW_MUST_USE int frame_decode_header(struct slice in, struct frame *out);

#endif
