/*
 * Compressed bytes: message bodies (SYSFLAG says how, record.h), registrations.
 *
 * zlib is RFC 1950, which every RocketMQ client reads; LZ4 and ZSTD are the frame formats, which
 * its clients from 5.0 on may send. Those two are there where their libraries were when this was
 * built.
 *
 * Owns:    nothing.
 * Thread:  any; large input takes milliseconds: not for a loop.
 * Errors:  compressed bytes are hostile: output is bounded by the caller, and what does not decode
 *          is an error.
 */
#ifndef CORE_PROTO_COMPRESS_H
#define CORE_PROTO_COMPRESS_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"

#include <stddef.h>
#include <stdint.h>

/* X(identifier, text) */
#define COMPRESSIONS(X)                                                                            \
    X(NONE, "none")                                                                                \
    X(ZLIB, "zlib")                                                                                \
    X(LZ4, "lz4")                                                                                  \
    X(ZSTD, "zstd")                                                                                \
    X(UNKNOWN, "unknown") /* compressed, in a way that has no meaning */

enum compression {
#define X(id, text) COMPRESSION_##id,
    COMPRESSIONS(X)
#undef X
};

/* Text of one, static storage. */
const char *compression_name(enum compression how);

/* How the body of a record with this SYSFLAG is compressed. */
enum compression compression_of(int32_t sys_flag);

/* What SYSFLAG says of a body that is compressed so; the reverse of compression_of. */
int32_t compression_flags(enum compression how);

/*
 * Append `in`, compressed. level: 1 (fast) to 9 (small), zlib's also to 12; LZ4 has none. With an
 * empty `in` it can be found out what there is. ESCROW_ENOTSUP: built without its library, NONE or
 * UNKNOWN; ESCROW_ENOMEM; buf_failed (the buf's limit).
 */
ESCROW_MUST_USE int compress_as(struct buf *out, enum compression how, struct slice in, int level);

/*
 * Append what `in` stands for. ESCROW_EPROTO: it is nothing of that kind, or a ZSTD frame that
 * wants a window of more than 8 MiB; ESCROW_ETOOBIG: more than max bytes; ESCROW_ENOTSUP:
 * built without its library, or UNKNOWN; ESCROW_ENOMEM. After an error out is as before.
 */
ESCROW_MUST_USE int decompress(struct buf *out, enum compression how, struct slice in, size_t max);

#endif
