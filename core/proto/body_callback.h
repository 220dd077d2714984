/*
 * Body of an HTTP check-back: what the broker posts to the callback URL of a producer group, and
 * the one answer it believes.
 *
 *   request  {"transactionId":"..","nonce":"<16 hex
 *   digits>","producerGroup":"..","topic":"..","checks":n,
 *             "storedAt":ms, "xid":"..",
 *             "database":{"systemIdentifier":"..","timeline":n,"name":".."}}
 *            xid and database only when the half message carries them (properties ESCROW_XID,
 *            ESCROW_DB_...)
 *   answer   {"transactionId":"..","nonce":"..","state":"commit"|"rollback"|"in_progress"|"unknown"|
 *            "not_mine"}
 *            both ids echoed exactly; status 200. Anything else is no answer.
 *
 * Owns:    nothing.
 * Thread:  any.
 */
#ifndef CORE_PROTO_BODY_CALLBACK_H
#define CORE_PROTO_BODY_CALLBACK_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"

#include <stdint.h>

struct callback_request {
    struct slice transaction_id;
    struct slice group;
    struct slice topic;
    struct slice db_system; /* empty = the half carries no database */
    struct slice db_name;
    struct slice xid; /* empty = unknown */
    int64_t db_timeline;
    int64_t store_ms;
    uint64_t nonce;
    uint32_t checks;
};

/* Append the body. Errors: buf_failed. */
void callback_request_encode(struct buf *out, const struct callback_request *req);

enum callback_state {
    CALLBACK_COMMIT,
    CALLBACK_ROLLBACK,
    CALLBACK_IN_PROGRESS,
    CALLBACK_UNKNOWN,
    CALLBACK_NOT_MINE /* who answers can never know this transaction */
};

/*
 * Read an answer to the question with this id and nonce. 0 and *state; ESCROW_EPROTO when it is not
 * exactly such an answer; ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int callback_answer_decode(struct slice body, struct slice transaction_id,
                                           uint64_t nonce, enum callback_state *state);

#endif
