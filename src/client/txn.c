/* Transactions with callbacks: half, local transaction, durable decision. */
#include "src/client/client_private.h"

static _Thread_local const struct escrow_producer *executing;

bool txn_is_executing(const struct escrow_producer *p)
{
    return executing == p;
}

static enum escrow_txn_state run(escrow_txn_execute_fn *execute,
                                 const struct escrow_producer *producer,
                                 const struct escrow_message *message, const char *id, void *arg)
{
    const struct escrow_producer *outer = executing;
    enum escrow_txn_state outcome;

    executing = producer;
    outcome = execute(message, id, arg);
    executing = outer;
    return outcome;
}

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
    producer_ref(producer); /* from the half to its decision */
    rc = send_wait(producer, message, SEND_HALF, &r);
    if (receipt_give(rc, &r, receipt) != 0) {
        /* the local transaction has not run; a half that was stored all the same is checked back */
        producer_unref(producer);
        return rc;
    }
    outcome = run(execute, producer, message, r.message_id, arg);
    if (state != NULL) {
        *state = outcome;
    }
    if (outcome == ESCROW_TXN_COMMIT || outcome == ESCROW_TXN_ROLLBACK) {
        rc = decide_wait(producer, outcome, &half, 1, producer->timeout_ms);
    }
    producer_unref(producer);
    if (rc != 0) {
        rc = last_error_set(
            rc, "transaction %s: the decision was not confirmed: %s; check-back will finish it",
            r.message_id, escrow_strerror(rc));
    }
    return rc;
}
