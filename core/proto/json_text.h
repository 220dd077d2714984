/*
 * JSON from strangers, and from fastjson, which writes JSON that is none: unquoted numeric keys
 * ({0:"x"}), unquoted names
 * ({codeSet:[1]}) and whole objects as keys ({{"brokerName":"b","queueId":0,"topic":"t"}:5}).
 *
 * json_text_normalize walks the text once, without recursion, bounds depth and number of elements,
 * and writes what a strict parser reads: bare keys are quoted, an object key becomes a string that
 * holds the object's text. Only then does jansson see it. Depth and budget are tested before
 * anything is allocated for an element.
 *
 * Owns:    nothing; `out` is the caller's.
 * Thread:  any.
 */
#ifndef CORE_PROTO_JSON_TEXT_H
#define CORE_PROTO_JSON_TEXT_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/slice.h"

#include <stdint.h>

#define JSON_DEPTH_MAX (HEADER_DEPTH_MAX * 2)

struct json_limits {
    uint32_t elements_max; /* values, containers and keys */
    uint32_t depth_max;    /* at most JSON_DEPTH_MAX */
};

#define JSON_LIMITS_BODY ((struct json_limits){BODY_ELEMENTS_MAX, JSON_DEPTH_MAX})

/*
 * Append standard JSON to out, at most twice as long as `in` plus two bytes for each element. What
 * it lets through has balanced brackets, closed strings, keys and values in their places; numbers,
 * escapes and UTF-8 are left to the parser behind it. An object as a key may not have another one
 * inside.
 *
 * Returns 0, ESCROW_EPROTO (malformed, or nothing), ESCROW_ELIMIT (depth, elements), ESCROW_ENOMEM
 * (buf_failed). After an error out holds a part.
 */
ESCROW_MUST_USE int json_text_normalize(struct slice in, struct json_limits limits,
                                        struct buf *out);

#endif
