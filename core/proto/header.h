/*
 * Headers: one form in memory for the three encodings on the wire (JSON, ROCKETMQ, MSGPACK), read
 * without copying and written without intermediate structures.
 *
 * Reading:
 *     header_init(&h)                       once, the struct is reused for every frame
 *     header_decode(&h, frame.type, frame.header)
 *     header_get_str(&h, "topic", &topic)   or header_opt_... for fields that may be absent
 * Writing:
 *     header_begin(&w, out, type, &(struct header_out){.code = ..., .opaque = ...})
 *     header_put_str(&w, "msgId", id)       header_put_i64, header_put_bool: fields, any number
 *     header_end(&w)                        now the body may be appended to `out`
 *     header_frame_end(&w, 0)               patches the lengths; the only call that reports errors
 *
 * Owns:    struct header: a scratch block and an overflow table, both kept for reuse; header_fini
 *          frees them.
 * Thread:  whoever owns the struct.
 * Holds:   every slice handed out points into the decoded bytes or into the struct, and is valid
 *          until the next header_decode/header_fini or until those bytes go, whichever is first.
 *          Copy what is kept longer. field_count <= HEADER_FIELDS_MAX; keys are unique (of
 *          duplicates the last value wins, as in Java).
 */
#ifndef CORE_PROTO_HEADER_H
#define CORE_PROTO_HEADER_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/slice.h"
#include "core/proto/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEADER_FLAG_RESPONSE 1
#define HEADER_FLAG_ONEWAY   2
#define HEADER_VERSION       409 /* V4_9_8: what we say we are */

#define HEADER_FIELDS_INLINE  32   /* the largest known request has about 30 */
#define HEADER_SCRATCH_INLINE 1536 /* unescaped JSON text of an ordinary request fits */

enum header_kind {
    HEADER_TEXT, /* as on the wire: JSON (strings, numbers, true/false) and ROCKETMQ always */
    HEADER_I64,  /* MSGPACK only */
    HEADER_BOOL  /* MSGPACK only; number is 0 or 1 */
};

struct header_field {
    struct slice key;
    struct slice
        value; /* of the number kinds: made on the first header_get_str, empty until then */
    int64_t number;
    enum header_kind kind;
};

struct header {
    enum header_type type;
    int32_t code;
    int32_t version;
    int32_t opaque;
    int32_t flag;
    uint8_t language;    /* enum language; LANGUAGE_OTHER for a name or number not in the table */
    struct slice remark; /* ptr NULL = absent */
    uint32_t field_count;

    /* ---- private from here ---- */
    uint32_t field_cap;
    uint32_t cursor;      /* where the last look-up ended: fields are mostly asked for in order */
    uint32_t source_len;  /* length of the decoded bytes: bound of what unescaping needs */
    uint64_t seen[4];     /* filter over the keys added so far, finds possible duplicates */
    uint16_t letters[26]; /* index + 1 of the one-letter keys of SEND_MESSAGE_V2 */
    struct header_field *fields;   /* fields_inline or overflow */
    struct header_field *overflow; /* HEADER_FIELDS_MAX entries, NULL until needed */
    uint8_t *scratch;              /* scratch_inline or block */
    size_t scratch_used, scratch_cap;
    uint8_t *block;
    size_t block_cap;
    struct header_field fields_inline[HEADER_FIELDS_INLINE];
    uint8_t scratch_inline[HEADER_SCRATCH_INLINE];
};

void header_init(struct header *h);
void header_fini(struct header *h);

/*
 * Decode one header. The previous content is gone, whatever the result.
 *
 * Returns 0, ESCROW_EPROTO (malformed, a number out of range, nesting above HEADER_DEPTH_MAX),
 * ESCROW_ETOOBIG (more than HEADER_FIELDS_MAX fields, or longer than HEADER_SIZE_MAX),
 * ESCROW_ENOMEM. After an error the header is empty (code and opaque 0, no fields); for the first
 * two close the connection.
 */
ESCROW_MUST_USE int header_decode(struct header *h, enum header_type type, struct slice in);

static inline bool header_is_response(const struct header *h)
{
    return (h->flag & HEADER_FLAG_RESPONSE) != 0;
}

static inline bool header_is_oneway(const struct header *h)
{
    return (h->flag & HEADER_FLAG_ONEWAY) != 0;
}

/* The field, or NULL. One-letter keys are found in constant time. */
struct header_field *header_find(struct header *h, struct slice key);

/* Field number i (< field_count) with its value as text whatever its kind. */
const struct header_field *header_field_at(struct header *h, uint32_t i);

/*
 * Fields that must be there.
 *
 * Return 0, ESCROW_ENOTFOUND (absent; for the numbers also when the text is empty, which is how
 * Java writes null) or ESCROW_EINVAL (not a decimal number, out of range, not a boolean). *out is
 * unchanged after an error. Booleans: true, false in any case, 1, 0.
 */
ESCROW_MUST_USE int header_get_str(struct header *h, const char *key, struct slice *out);
ESCROW_MUST_USE int header_get_i64(struct header *h, const char *key, int64_t *out);
ESCROW_MUST_USE int header_get_i32(struct header *h, const char *key, int32_t *out);
ESCROW_MUST_USE int header_get_bool(struct header *h, const char *key, bool *out);

/* Fields that may be absent: as above, but absent is 0 and leaves *out, set by the caller to the
 * default, alone. */
ESCROW_MUST_USE int header_opt_str(struct header *h, const char *key, struct slice *out);
ESCROW_MUST_USE int header_opt_i64(struct header *h, const char *key, int64_t *out);
ESCROW_MUST_USE int header_opt_i32(struct header *h, const char *key, int32_t *out);
ESCROW_MUST_USE int header_opt_bool(struct header *h, const char *key, bool *out);

/* Text of a field, SLICE_EMPTY when absent. */
struct slice header_str(struct header *h, const char *key);

/* ---- writing ---- */

struct header_out {
    int32_t code;
    int32_t opaque;      /* never 0 in a request we originate */
    int32_t flag;        /* HEADER_FLAG_... */
    struct slice remark; /* ptr NULL = none; borrowed until header_end */
};

/*
 * One frame being appended to a buf. Between begin and frame_end nobody else may append to that
 * buf.
 *
 * Owns: nothing. The buf is the caller's and may already hold earlier frames.
 */
struct header_writer {
    struct buf *buf;
    enum header_type type;
    struct header_out head;
    size_t start;     /* where this frame begins in buf */
    size_t fields_at; /* where the field section (ROCKETMQ: its length, MSGPACK: its count) was left
                         open */
    uint32_t field_count;
    int error;    /* first error, reported by header_frame_end */
    bool is_open; /* between header_begin and header_end */
};

void header_begin(struct header_writer *w, struct buf *out, enum header_type type,
                  const struct header_out *head);

/* Write one field. Keys must be unique; at most HEADER_FIELDS_MAX. An empty string is written as
 * such. */
void header_put_slice(struct header_writer *w, struct slice key, struct slice value);
void header_put_number(struct header_writer *w, struct slice key, int64_t value);
void header_put_truth(struct header_writer *w, struct slice key, bool value);

static inline void header_put_str(struct header_writer *w, const char *key, struct slice value)
{
    header_put_slice(w, slice_str(key), value);
}

static inline void header_put_i64(struct header_writer *w, const char *key, int64_t value)
{
    header_put_number(w, slice_str(key), value);
}

static inline void header_put_bool(struct header_writer *w, const char *key, bool value)
{
    header_put_truth(w, slice_str(key), value);
}

/* Close the header. After it the body may be appended to the buf. */
void header_end(struct header_writer *w);

/*
 * Close the frame: patch both lengths. `body_follows` bytes of the body are not in the buf; the
 * caller sends them right behind it (0 = the whole body, if any, is in the buf).
 *
 * Returns 0, ESCROW_ENOMEM (the buf could not grow or met its limit), ESCROW_ETOOBIG (header or
 * frame above its limit, too many fields) or ESCROW_ENOTSUP (code does not fit the ROCKETMQ
 * encoding). After an error the buf is as it was before header_begin, so that a smaller answer can
 * be written instead.
 */
ESCROW_MUST_USE int header_frame_end(struct header_writer *w, size_t body_follows);

/* A whole frame without fields in one call; errors as header_frame_end. */
ESCROW_MUST_USE int header_encode(struct buf *out, enum header_type type,
                                  const struct header_out *head, struct slice body);

#endif
