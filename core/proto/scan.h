/*
 * MessagePack from strangers: a checked walk and a checked, zero-copy reader.
 *
 * msgpack-c 4.0 trusts the counts it reads: the 5 bytes dd 04 00 00 00 make msgpack_unpack ask for
 * 2 GiB (upstream issue 1013). So nothing received is given to it before scan_check has walked it
 * with no memory but a small stack: every count at most the bytes left, a budget of elements over
 * the whole object (a check per array alone is beaten by nesting), a limit of depth. What has a
 * fixed shape is read with struct scan directly and needs no unpacking at all.
 *
 * Owns:    nothing; slices point into the input.
 * Thread:  any.
 */
#ifndef CORE_PROTO_SCAN_H
#define CORE_PROTO_SCAN_H

#include "core/base/attr.h"
#include "core/base/limits.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scan_limits {
    uint32_t elements_max; /* every value counts, containers and map keys too */
    uint32_t depth_max;    /* containers inside each other; at most HEADER_DEPTH_MAX */
};

#define SCAN_LIMITS_BODY ((struct scan_limits){BODY_ELEMENTS_MAX, HEADER_DEPTH_MAX})

/*
 * Is `in` exactly one well-formed object within the limits?
 *
 * Returns 0, ESCROW_EPROTO (truncated, trailing bytes, a count above the bytes left, byte 0xc1) or
 * ESCROW_ELIMIT.
 */
ESCROW_MUST_USE int scan_check(struct slice in, struct scan_limits limits);

enum scan_kind {
    SCAN_NIL,
    SCAN_BOOL,
    SCAN_INT,
    SCAN_FLOAT,
    SCAN_STR,
    SCAN_BIN,
    SCAN_ARRAY,
    SCAN_MAP,
    SCAN_EXT,
    SCAN_END /* no byte left, or 0xc1 */
};

/* Reader. Each function reads one value and moves on, or returns ESCROW_EPROTO and stays where it
 * is. */
struct scan {
    const uint8_t *ptr;
    const uint8_t *end;
};

void scan_init(struct scan *s, struct slice in);
enum scan_kind scan_peek(const struct scan *s);
size_t scan_left(const struct scan *s);

/* Counts are at most the bytes left (arrays) or half of them (maps): safe to allocate count *
 * small. */
ESCROW_MUST_USE int scan_array(struct scan *s, uint32_t *count);
ESCROW_MUST_USE int scan_map(struct scan *s, uint32_t *pairs);

/* Any integer format; ESCROW_EPROTO too when it does not fit. */
ESCROW_MUST_USE int scan_i64(struct scan *s, int64_t *out);
ESCROW_MUST_USE int scan_u64(struct scan *s, uint64_t *out);
ESCROW_MUST_USE int scan_u32(struct scan *s, uint32_t *out);
ESCROW_MUST_USE int scan_i32(struct scan *s, int32_t *out);
ESCROW_MUST_USE int scan_bool(struct scan *s, bool *out);
ESCROW_MUST_USE int scan_nil(struct scan *s);
ESCROW_MUST_USE int scan_str(struct scan *s, struct slice *out);
ESCROW_MUST_USE int scan_bin(struct scan *s, struct slice *out);   /* bin only */
ESCROW_MUST_USE int scan_bytes(struct scan *s, struct slice *out); /* str or bin */

/* Skip one value of any kind. Returns 0, ESCROW_EPROTO or ESCROW_ELIMIT; stays where it is after an
 * error. */
ESCROW_MUST_USE int scan_skip(struct scan *s, struct scan_limits limits);

#endif
