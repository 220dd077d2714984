/* Transactions with callbacks: half, local transaction, durable decision. */
#include "src/client/client_private.h"

int escrow_txn_send(struct escrow_producer *producer, const struct escrow_message *message,
                    escrow_txn_execute_fn *execute, void *arg, enum escrow_txn_state *state,
                    struct escrow_receipt **receipt)
{
    struct escrow_receipt r;
    const struct escrow_receipt *half = &r;
    enum escrow_txn_state outcome;
    int rc;

    if (state != NULL) {
        *state = ESCROW_TXN_UNKNOWN;
    }
    rc = receipt_new(receipt);
    if (rc != 0) {
        return rc;
    }
    rc = send_wait(producer, message, SEND_HALF, &r);
    if (receipt_give(rc, &r, receipt) != 0) {
        /* the local transaction has not run; a half that was stored all the same is checked back */
        return rc;
    }
    outcome = execute(message, r.message_id, arg);
    if (state != NULL) {
        *state = outcome;
    }
    if (outcome == ESCROW_TXN_COMMIT || outcome == ESCROW_TXN_ROLLBACK) {
        rc = decide_wait(producer, outcome, &half, 1, producer->timeout_ms);
    }
    if (rc != 0) {
        rc = last_error_set(
            rc, "transaction %s: the decision was not confirmed: %s; check-back will finish it",
            r.message_id, escrow_strerror(rc));
    }
    return rc;
}
