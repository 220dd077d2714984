/*
 * Header type 2, MessagePack, ours. Use through header.h.
 *
 *   [code, flag, opaque, version, language, remark or nil, {key: value, ...}]
 *
 * An array of 7, all integers in 32 bits, language as its number. Keys are str; values are str,
 * integers within 64 bits signed, booleans, or nil (= absent). An array longer than 7 comes from a
 * later version: what follows is skipped.
 *
 * Owns: nothing.    Thread: that of the header or the writer.
 */
#ifndef CORE_PROTO_HEADER_MSGPACK_H
#define CORE_PROTO_HEADER_MSGPACK_H

#include "core/proto/header.h"

/* As header_decode. */
ESCROW_MUST_USE int header_msgpack_decode(struct header *h, struct slice in);

/* Steps of the writer; failures stay in the buf. */
void header_msgpack_begin(struct header_writer *w);
void header_msgpack_put_str(struct header_writer *w, struct slice key, struct slice value);
void header_msgpack_put_i64(struct header_writer *w, struct slice key, int64_t value);
void header_msgpack_put_bool(struct header_writer *w, struct slice key, bool value);
void header_msgpack_end(struct header_writer *w);

#endif
