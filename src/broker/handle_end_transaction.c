/*
 * END_TRANSACTION 37 (RocketMQ's, usually one-way) and ESCROW_END_TRANSACTION 30001 (ours: 1 to 1024 halves, answered when the
 * decision is durable). Both end in txn_end; STATES.md says what each state answers.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/body_escrow.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/transactions.h"

#define END_COMMIT   8
#define END_ROLLBACK 12

/* ---- 37 ---- */

struct end_request {
    struct slice group;
    struct slice msg_id;
    int64_t offset;
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
    if (in.outcome != END_COMMIT && in.outcome != END_ROLLBACK) {
        end_unknown(req, &in, &item);
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
        log_warn("txn.end.refused", "END_TRANSACTION at %lld: %s", (long long)in.offset,
                 escrow_strerror(rc));
        request_fail(req, -1, rc, NULL);
        return;
    }
    transactions_reschedule(b);
    end_wait(req, txn_end_error(&result));
}

/* ---- 30001 ---- */

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

/* What holds for a half now. confirmed_decide has put this request's own decision into `fact` too. */
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
