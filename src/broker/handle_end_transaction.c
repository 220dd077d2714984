/*
 * END_TRANSACTION 37: RocketMQ's, usually one-way; answered, if an answer is asked for, when the
 * decision is durable. STATES.md says what each state answers; handle_end_confirmed.c is the same
 * for our own clients.
 */
#include "core/base/log.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/transactions.h"

#define END_UNKNOWN  0
#define END_COMMIT   8
#define END_ROLLBACK 12

struct end_request {
    struct slice group;
    struct slice msg_id;
    int64_t offset;
    int64_t table_offset; /* where it is given: the same number, as in the answer to the half */
    int32_t outcome;
    bool from_check;
};

static int end_decode(struct header *h, struct end_request *in)
{
    int rc = header_get_str(h, "producerGroup", &in->group);

    if (rc == 0) {
        rc = header_get_i64(h, "commitLogOffset", &in->offset);
    }
    if (rc == 0) {
        rc = header_get_i32(h, "commitOrRollback", &in->outcome);
    }
    if (rc == 0) {
        in->table_offset = in->offset;
        rc = header_opt_i64(h, "tranStateTableOffset", &in->table_offset);
    }
    if (rc == 0) {
        rc = header_opt_bool(h, "fromTransactionCheck", &in->from_check);
    }
    if (rc == 0) {
        rc = header_opt_str(h, "transactionId", &in->msg_id);
    }
    if (rc == 0 && in->msg_id.len == 0) {
        rc = header_opt_str(h, "msgId", &in->msg_id);
    }
    return rc == 0 && in->offset < 0 ? ESCROW_EINVAL : rc;
}

static void end_answered(struct broker *b, struct pending *p, int error)
{
    (void)b;
    if (error == 0) {
        error = -(int)p->arg.number; /* stored as a positive number: 0 = success */
    }
    if (error == 0) {
        deferred_ok(&p->deferred);
    } else if (error == ESCROW_ECONFLICT) {
        deferred_fail(&p->deferred, -1, error, "the transaction was committed before");
    } else if (error == ESCROW_EROLLEDBACK) {
        deferred_fail(&p->deferred, -1, error, "the transaction was rolled back before");
    } else if (error == ESCROW_EPERM) {
        deferred_fail(&p->deferred, RESPONSE_TRANSACTION_STATE_GROUP_WRONG, error,
                      "the half message belongs to another producer group");
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
}

/* Answer `error` once everything appended so far is a fact. */
static void end_wait(struct request *req, int error)
{
    struct broker *b = req->broker;
    struct pending *p =
        pump_wait(&b->pump, pump_tail(&b->pump), false, end_answered, request_defer(req));

    p->arg.number = (uint64_t)-error;
}

static void end_unknown(struct request *req, const struct end_request *in,
                        const struct txn_end_item *item)
{
    struct broker *b = req->broker;
    int rc = 0;

    if (in->from_check) {
        rc = txn_check_unknown(b->txn, in->group, item, broker_txn_now(b), &b->update);
        if (rc == 0) {
            transactions_obey(b, &b->update);
            transactions_reschedule(b);
        }
    }
    if (rc == 0 || rc == ESCROW_ENOTFOUND) {
        request_ok(req); /* nothing was decided, as asked */
    } else {
        request_fail(req, -1, rc, NULL);
    }
}

void handle_end_transaction(struct request *req)
{
    struct broker *b = req->broker;
    struct end_request in = {.offset = -1};
    struct txn_end_item item;
    struct txn_end_result result;
    struct txn_end end;
    int rc = end_decode(req->header, &in);

    if (rc != 0) {
        request_fail(req, -1, rc, "END_TRANSACTION: a field is missing or malformed");
        return;
    }
    item = (struct txn_end_item){.offset = (uint64_t)in.offset, .txn_id = in.msg_id};
    if (in.outcome != END_UNKNOWN && in.outcome != END_COMMIT && in.outcome != END_ROLLBACK) {
        request_fail(req, -1, ESCROW_EINVAL,
                     "END_TRANSACTION: commitOrRollback %d is none of 0 (unknown), 8 (commit) and "
                     "12 (rollback)",
                     in.outcome);
        return;
    }
    if (in.outcome == END_UNKNOWN) {
        end_unknown(req, &in, &item);
        return;
    }
    if (in.table_offset != in.offset) {
        request_fail(req, RESPONSE_SYSTEM_ERROR, ESCROW_EINVAL,
                     "tranStateTableOffset %lld is not the one of the half at %lld",
                     (long long)in.table_offset, (long long)in.offset);
        return;
    }
    end = (struct txn_end){.kind = in.outcome == END_COMMIT ? DECISION_COMMIT : DECISION_ROLLBACK,
                           .by = in.from_check ? DECISION_BY_CHECK : DECISION_BY_PRODUCER,
                           .group = in.group,
                           .items = &item,
                           .count = 1};
    rc = pump_reserve(&b->pump);
    if (rc == 0) {
        rc = txn_end(b->txn, &end, broker_txn_now(b), &result, &b->update);
    }
    if (rc == 0) {
        rc = transactions_append_decision(b, &b->update);
    }
    if (rc != 0) {
        log_peer_warn("txn.end.refused", "END_TRANSACTION at %lld: %s", (long long)in.offset,
                      escrow_strerror(rc));
        request_fail(req, -1, rc, NULL);
        return;
    }
    transactions_reschedule(b);
    end_wait(req, txn_end_error(&result));
}
