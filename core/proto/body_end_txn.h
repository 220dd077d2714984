/*
 * 30001 ESCROW_END_TRANSACTION: decide one or several halves, all of one producer group, answered
 * when the decision is durable.
 *
 *   request  { "producerGroup": text, "decision": 1 commit | 2 rollback,
 *              "operator": bool (default false),
 *              "halves": [ [transactionId text, commitLogOffset uint or nil], ... ] }
 *   answer   { "results": [ [transactionId text, error int,
 *                            decided 0 none | 1 commit | 2 rollback], ... ] }
 *
 * 1 to END_TXN_HALVES_MAX halves; results in the order of the halves.
 *
 * The offset is the identity of a half where the caller knows it (SEND_MESSAGE's msgId carries it);
 * with nil the broker looks the transaction id up. Where both are given they must belong to the
 * same half. With "operator" a person decides: the group may be empty, and expired halves can be
 * decided too. All halves of one request that can be decided are decided by one record: all or none
 * survive a crash. A half that was decided before, the same way, gives error 0.
 *
 * Owns:    nothing; slices are borrowed from the body.
 * Thread:  any. Pure.
 */
#ifndef CORE_PROTO_BODY_END_TXN_H
#define CORE_PROTO_BODY_END_TXN_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/scan.h"

#include <stdbool.h>
#include <stdint.h>

enum txn_decision { TXN_NONE = 0, TXN_COMMIT = 1, TXN_ROLLBACK = 2 };

#define END_TXN_OFFSET_NONE (-1)

struct end_txn_half {
    struct slice transaction_id;
    int64_t offset; /* END_TXN_OFFSET_NONE = look it up */
};

struct end_txn_request {
    struct slice producer_group;
    enum txn_decision decision; /* commit or rollback */
    bool is_operator;
    uint32_t half_count;
    uint32_t half_index; /* halves read so far */
    struct scan halves;  /* private: read with end_txn_next_half */
};

/* Checks all rows too: end_txn_next_half cannot fail afterwards. ESCROW_ELIMIT: too many halves. */
ESCROW_MUST_USE int end_txn_request_decode(struct slice body, struct end_txn_request *req);

/* false after half_count rows. */
bool end_txn_next_half(struct end_txn_request *req, struct end_txn_half *half);

/* producer_group, decision and is_operator are taken from req, the rows from halves[0..count). */
void end_txn_request_encode(struct buf *out, const struct end_txn_request *req,
                            const struct end_txn_half *halves, uint32_t count);

struct end_txn_result {
    struct slice transaction_id;
    int error;                 /* 0 or ESCROW_E... */
    enum txn_decision decided; /* what holds now */
};

/* Answer: begin with the number of rows, then exactly that many puts. */
void end_txn_answer_begin(struct buf *out, uint32_t count);
void end_txn_answer_put(struct buf *out, const struct end_txn_result *result);

struct end_txn_answer {
    uint32_t count;
    uint32_t index;      /* results read so far */
    struct scan results; /* private: read with end_txn_next_result */
};

/* Checks everything, the rows too: end_txn_next_result cannot fail afterwards. */
ESCROW_MUST_USE int end_txn_answer_decode(struct slice body, struct end_txn_answer *answer);
bool end_txn_next_result(struct end_txn_answer *answer, struct end_txn_result *result);

#endif
