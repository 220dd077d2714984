/*
 * MessagePack bodies: what body_end_txn.c, body_publish.c and body_inspect.c share. For these and
 * their tests only.
 *
 * Writing goes through msgpack-c's packer into a buf. Reading goes through scan.h: a map is read by
 * a table of its known keys, the rest is skipped.
 *
 * Owns:    nothing.
 * Thread:  any.
 */
#ifndef CORE_PROTO_BODY_PACK_H
#define CORE_PROTO_BODY_PACK_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/scan.h"

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- writing; failures stay in the buf ---- */

msgpack_packer pack_to(struct buf *out);

void pack_map(msgpack_packer *pk, size_t pairs);
void pack_array(msgpack_packer *pk, size_t count);
void pack_text(msgpack_packer *pk, struct slice text);
void pack_text_or_nil(msgpack_packer *pk, struct slice text); /* empty = nil */
void pack_bytes(msgpack_packer *pk, struct slice bytes);
void pack_i64(msgpack_packer *pk, int64_t value);
void pack_i64_or_nil(msgpack_packer *pk, int64_t value, int64_t nil);
void pack_u64(msgpack_packer *pk, uint64_t value);
void pack_bool(msgpack_packer *pk, bool value);
void pack_nil(msgpack_packer *pk);
void pack_key(msgpack_packer *pk, const char *key);

/* The head of an array whose count is patched later; returns where the count lies. */
size_t pack_open_array(struct buf *out);
void pack_patch_count(struct buf *out, size_t count_at, uint32_t count);

/* ---- reading ---- */

/*
 * Structure of a value that is skipped or read later; there is no memory per element, so the size
 * of a frame bounds it.
 */
#define PACK_LIMITS ((struct scan_limits){FRAME_SIZE_MAX, HEADER_DEPTH_MAX})

enum pack_kind {
    PACK_TEXT,  /* struct slice */
    PACK_BYTES, /* struct slice */
    PACK_I64,   /* int64_t */
    PACK_U64,   /* uint64_t */
    PACK_U32,   /* uint32_t */
    PACK_BOOL,  /* bool */
    PACK_ROWS   /* struct scan that stands on the first row, and at count_at their number */
};

/* One known key: where its value goes, as an offset into the caller's struct. */
struct pack_field {
    const char *key;
    enum pack_kind kind;
    size_t at;
    size_t count_at; /* PACK_ROWS: where the number of rows goes, a uint32_t; else 0 */
    bool is_required;
};

/* A field that is no list. */
#define PACK_FIELD(type, member, name, kind_, required)                                            \
    {                                                                                              \
        .key = (name), .kind = (kind_), .at = offsetof(type, member), .is_required = (required)    \
    }

#define PACK_COUNT(fields) (sizeof(fields) / sizeof(fields)[0])

/*
 * Read one map. Members whose key is absent or nil are left alone. ESCROW_EPROTO: malformed, wrong
 * kind, a required key absent or nil. ESCROW_ELIMIT: nested too deeply. At most 32 fields.
 */
ESCROW_MUST_USE int pack_read_map(struct scan *s, const struct pack_field *fields, size_t count,
                                  void *out);

/* The same for a body that is one map and nothing else. */
ESCROW_MUST_USE int pack_read_body(struct slice body, const struct pack_field *fields, size_t count,
                                   void *out);

/*
 * A row: begin reads the head of an array of at least `known` elements; end skips what is beyond
 * them. Both return 0 or ESCROW_EPROTO.
 */
struct pack_row {
    uint32_t left; /* elements beyond the known ones */
};
ESCROW_MUST_USE int pack_row_begin(struct scan *s, uint32_t known, struct pack_row *row);
ESCROW_MUST_USE int pack_row_end(struct scan *s, const struct pack_row *row);

/* Elements of a row; nil reads as empty or as `nil`. */
ESCROW_MUST_USE int pack_read_text_or_nil(struct scan *s, struct slice *out);
ESCROW_MUST_USE int pack_read_i64_or_nil(struct scan *s, int64_t nil, int64_t *out);

#endif
