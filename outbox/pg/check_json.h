/*
 * The JSON of a check-back, as the broker posts it and as we answer it.
 *
 *   question  {"transactionId", "nonce", "producerGroup"?, "topic"?, "xid"?,
 *              "database"?: {"systemIdentifier", "timeline", "name"}}, anything else is skipped
 *   answer    {"transactionId", "nonce", "state": "commit"|"rollback"|"in_progress"|"not_mine"}
 * Numbers that may be large (xid, systemIdentifier) are texts; an integer is taken too.
 *
 * Owns:    nothing. Thread: any. Pure.
 */
#ifndef OUTBOX_PG_CHECK_JSON_H
#define OUTBOX_PG_CHECK_JSON_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "outbox/pg/check.h"

#define CHECK_JSON_MAX  16384 /* bytes of a question */
#define CHECK_NONCE_MAX 64

/*
 * ESCROW_EPROTO: not such a question, a name that is too long, a database that is named in part.
 * ESCROW_ETOOBIG. ESCROW_ENOMEM. cb and arg of *q are left alone.
 */
ESCROW_MUST_USE int check_json_decode(struct slice body, struct check_question *q,
                                      char nonce[CHECK_NONCE_MAX + 1]);

/* Errors: buf_failed. */
void check_json_encode(struct buf *out, const char *txn_id, const char *nonce,
                       enum check_state state);

#endif
