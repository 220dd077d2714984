/*
 * Header type 1, ROCKETMQ's binary form. Use through header.h.
 *
 *   code i16 | language u8 | version i16 | opaque i32 | flag i32 | remark length i32 | remark |
 *   fields length i32 | fields: key length i16, key, value length i32, value ...
 *
 * Big-endian. Length 0 = no remark. The lengths must add up to the header exactly.
 *
 * Owns: nothing.    Thread: that of the header or the writer.
 */
#ifndef CORE_PROTO_HEADER_ROCKETMQ_H
#define CORE_PROTO_HEADER_ROCKETMQ_H

#include "core/proto/header.h"

/* As header_decode. */
ESCROW_MUST_USE int header_rocketmq_decode(struct header *h, struct slice in);

/*
 * Steps of the writer; failures stay in the buf, a code that needs more than 16 bits in w->error.
 */
void header_rocketmq_begin(struct header_writer *w);
void header_rocketmq_put(struct header_writer *w, struct slice key, struct slice value);
void header_rocketmq_end(struct header_writer *w);

#endif
