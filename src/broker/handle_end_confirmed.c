/*
 * ESCROW_END_TRANSACTION 30001: decide 1 to 1024 halves of one producer group, answered when the
 * decision is durable. Also what the command line decides by hand with.
 */
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/body_escrow.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/transactions.h"

/* One confirmed request that waits for the log: its results, and the ids they are answered with. */
struct confirmed {
    uint32_t count;
    struct buf ids; /* all transaction ids, one behind the other */
    struct confirmed_row {
        struct txn_end_result result;
        uint32_t id_len;
    } rows[];
};

static void confirmed_free(struct confirmed *c)
{
    if (c != NULL) {
        buf_fini(&c->ids);
        mem_free(c);
    }
}

/*
 * What holds for a half now. confirmed_decide has put this request's own decision into `fact` too.
 */
static enum txn_decision decided_of(const struct txn_end_result *r)
{
    if (r->fact.kind == DECISION_COMMIT) {
        return TXN_COMMIT;
    }
    return r->fact.kind == DECISION_ROLLBACK ? TXN_ROLLBACK : TXN_NONE;
}

static void confirmed_answered(struct broker *b, struct pending *p, int error)
{
    struct confirmed *c = p->arg.ptr;
    struct header_writer w;
    size_t at = 0;

    (void)b;
    if (error != 0) {
        deferred_fail(&p->deferred, -1, error, NULL);
    } else if (deferred_begin(&p->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        end_txn_answer_begin(w.buf, c->count);
        for (uint32_t i = 0; i < c->count; i++) {
            const struct confirmed_row *row = &c->rows[i];
            struct end_txn_result result = {.transaction_id =
                                                slice_of(c->ids.ptr + at, row->id_len),
                                            .error = txn_end_error(&row->result),
                                            .decided = decided_of(&row->result)};
            end_txn_answer_put(w.buf, &result);
            at += row->id_len;
        }
        deferred_end(&p->deferred, &w);
    }
    confirmed_free(c);
}

/* Decide all halves of the request; *c gets what each is answered with. */
static int confirmed_decide(struct broker *b, struct end_txn_request *in, struct confirmed *c)
{
    static struct txn_end_item
        items[END_TXN_HALVES_MAX]; /* loop thread only: too large for its stack */
    static struct txn_end_result results[END_TXN_HALVES_MAX];
    struct txn_end end = {
        .kind = in->decision == TXN_COMMIT ? DECISION_COMMIT : DECISION_ROLLBACK,
        .by = in->is_operator ? DECISION_BY_OPERATOR : DECISION_BY_PRODUCER,
        .group = in->producer_group,
        .items = items,
        .count = in->half_count,
    };
    struct end_txn_half half;
    int rc;

    for (uint32_t i = 0; end_txn_next_half(in, &half); i++) {
        items[i] = (struct txn_end_item){
            .offset = half.offset == END_TXN_OFFSET_NONE ? TXN_OFFSET_NONE : (uint64_t)half.offset,
            .txn_id = half.transaction_id};
        buf_append_slice(&c->ids, half.transaction_id);
        c->rows[i].id_len = (uint32_t)half.transaction_id.len;
    }
    if (buf_failed(&c->ids)) {
        return ESCROW_ENOMEM;
    }
    rc = txn_end(b->txn, &end, broker_txn_now(b), results, &b->update);
    if (rc == 0) {
        rc = transactions_append_decision(b, &b->update);
    }
    for (uint32_t i = 0; rc == 0 && i < c->count; i++) {
        c->rows[i].result = results[i];
        if (results[i].code == TXN_END_PERSIST) {
            c->rows[i].result.fact.kind = end.kind;
        }
    }
    return rc;
}

void handle_end_confirmed(struct request *req)
{
    struct broker *b = req->broker;
    struct end_txn_request in;
    struct confirmed *c = NULL;
    struct pending *p;
    int rc = end_txn_request_decode(req->body, &in);

    if (rc != 0) {
        request_fail(req, -1, rc, "ESCROW_END_TRANSACTION: malformed body");
        return;
    }
    c = mem_calloc(1, sizeof *c + in.half_count * sizeof c->rows[0]);
    rc = c == NULL ? ESCROW_ENOMEM : pump_reserve(&b->pump);
    if (rc == 0) {
        c->count = in.half_count;
        buf_init(&c->ids, 0);
        rc = confirmed_decide(b, &in, c);
    }
    if (rc != 0) {
        confirmed_free(c);
        request_fail(req, -1, rc, NULL);
        return;
    }
    transactions_reschedule(b);
    p = pump_wait(&b->pump, pump_tail(&b->pump), false, confirmed_answered, request_defer(req));
    p->arg.ptr = c;
}
