/*
 * Bodies of Escrow's own requests, 30001 to 30007, in MessagePack whatever the header's encoding.
 * This file includes them all and says what they have in common; each has its own header with the
 * exact layout:
 *
 *   30001 ESCROW_END_TRANSACTION    body_end_txn.h  decide 1..1024 halves, answered when durable
 *   30002 ESCROW_PUBLISH_BATCH      body_publish.h  a relay's messages with their position
 *   30003 ESCROW_SOURCE_OPEN        body_publish.h  take the next epoch of a source
 *   30004 ESCROW_LIST_TRANSACTIONS  body_inspect.h  halves with age and state
 *   30005 ESCROW_STATUS             body_inspect.h  counters and gauges
 *   30006 ESCROW_LIST_GROUPS        body_inspect.h  consumer groups with their lag
 *   30007 ESCROW_TXN_HORIZON        body_inspect.h  born time of the oldest undecided half
 *
 * Common rules. An object is a map with text keys, in any order; a reader skips keys it does not
 * know and takes the stated default for optional ones that are absent; a key that appears twice:
 * the last one counts. A row in a long list is an array with fixed positions; a reader skips
 * elements beyond those it knows, so that rows can grow at the end. "text" is str, "bytes" is bin,
 * "uint" is an integer not below 0, "or nil" means the value may be nil, read as absent. Times are
 * milliseconds since 1970, UTC. An error inside a body is a number of escrow/errors.h (0 or
 * negative). The answer's header code is 0 when the body is there; otherwise the header says what
 * is wrong and there is no body.
 *
 * Reading is hostile-safe, without allocation, straight from the received bytes: slices point into
 * them. Every decode function returns 0, ESCROW_EPROTO (malformed, wrong type, something missing or
 * trailing), ESCROW_ELIMIT or ESCROW_ETOOBIG (a stated bound is exceeded). Encoders append to a
 * buf; their errors are those of buf (test buf_failed once at the end).
 */
#ifndef CORE_PROTO_BODY_ESCROW_H
#define CORE_PROTO_BODY_ESCROW_H

#include "core/proto/body_end_txn.h"
#include "core/proto/body_inspect.h"
#include "core/proto/body_publish.h"

#endif
