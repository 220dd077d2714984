/*
 * Decisions: ESCROW_END_TRANSACTION to an escrowd, answered when durable and repeated until then
 * (repeating is harmless: the first one wins and the same again is success); END_TRANSACTION,
 * one-way, to anything else.
 */
#include "src/client/decide.h"

#include "core/base/mem.h"
#include "core/proto/body_end_txn.h"
#include "core/proto/codes.h"
#include "src/client/client_private.h"
#include "src/client/end_fields.h"

#include <stdio.h>

static void decide_try(struct decide *d);
static void decide_without_answer(struct decide *d);

/* Physical offset of a half: its offset id carries it, wherever it is stored. */
static int64_t half_offset(const struct escrow_receipt *r)
{
    struct record_host host;
    int64_t offset = r->offset;

    return msgid_decode(slice_str(r->offset_id), &host, &offset) == 0 ? offset : r->offset;
}

void decide_fini(struct decide *d)
{
    buf_fini(&d->body);
}

static void decide_end(struct decide *d, int error)
{
    d->error = error;
    loop_timer_stop(&d->producer->client->loop, &d->timer);
    d->done(d);
}

static void decide_again(void *arg)
{
    decide_try(arg);
}

static void decide_failed(struct decide *d, int error)
{
    struct escrow_client *c = d->producer->client;
    enum escrow_class class_ = escrow_error_class(error);

    if (c->remote.is_stopping) {
        decide_end(d, ESCROW_ETIMEOUT);
    } else if ((class_ == ESCROW_CLASS_RETRY || class_ == ESCROW_CLASS_UNKNOWN) &&
               loop_mono_ms(&c->loop) < d->deadline_ms) {
        loop_timer_start(&c->loop, &d->timer, client_backoff_ms(c, d->tries), 0, decide_again, d);
    } else {
        decide_end(d, class_ == ESCROW_CLASS_RETRY ? ESCROW_ETIMEOUT : error);
    }
}

static enum decide_said said_of(const struct end_txn_result *r)
{
    if (r->error == 0) {
        return DECIDE_DONE;
    }
    return r->error == ESCROW_ECONFLICT && r->decided == TXN_NONE ? DECIDE_HELD_BACK
                                                                  : DECIDE_REFUSED;
}

/* One row for each half, in their order; returns what the decision as a whole comes to. */
static int read_results(struct decide *d, struct end_txn_answer *answer)
{
    struct end_txn_result result;
    int refused = 0;
    int held_back = 0;

    for (size_t i = 0; end_txn_next_result(answer, &result); i++) {
        enum decide_said said = said_of(&result);
        if (d->said != NULL) {
            d->said[i] = (uint8_t)said;
        }
        if (said == DECIDE_REFUSED && refused == 0) {
            refused = result.error;
        } else if (said == DECIDE_HELD_BACK) {
            held_back = result.error;
        }
    }
    return refused != 0 ? refused : held_back;
}

static void decide_answered(struct remote_call *call, int error, struct header *header,
                            struct slice body)
{
    struct decide *d = LIST_ENTRY(call, struct decide, call);
    struct end_txn_answer answer;

    (void)header;
    if (error == ESCROW_ENOTSUP) { /* not an escrowd */
        decide_without_answer(d);
        return;
    }
    if (error == 0 && (end_txn_answer_decode(body, &answer) != 0 || answer.count != d->count)) {
        error = ESCROW_ETIMEOUT; /* an answer that says nothing */
    }
    if (error != 0) {
        decide_failed(d, error);
        return;
    }
    decide_end(d, read_results(d, &answer));
}

static void decide_body(struct decide *d)
{
    struct end_txn_request req = {.producer_group = slice_str(d->producer->group),
                                  .decision =
                                      d->state == ESCROW_TXN_COMMIT ? TXN_COMMIT : TXN_ROLLBACK};
    struct end_txn_half *halves = mem_calloc(d->count, sizeof *halves);

    if (halves == NULL) {
        d->body.failed = true;
        return;
    }
    for (size_t i = 0; i < d->count; i++) {
        halves[i] = (struct end_txn_half){.transaction_id = slice_str(d->halves[i]->message_id),
                                          .offset = half_offset(d->halves[i])};
    }
    buf_clear(&d->body);
    end_txn_request_encode(&d->body, &req, halves, (uint32_t)d->count);
    mem_free(halves);
}

/* Anything but an escrowd: one request per half, and nobody says whether it arrived. */
static int decide_oneway(struct decide *d)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < d->count; i++) {
        struct end_fields fields = {.group = slice_str(d->producer->group),
                                    .txn_id = slice_str(d->halves[i]->message_id),
                                    .log_offset = half_offset(d->halves[i]),
                                    .table_offset = d->halves[i]->offset,
                                    .state = (int32_t)d->state};
        struct remote_request req = {.addr = d->halves[i]->addr,
                                     .code = REQUEST_END_TRANSACTION,
                                     .fields = end_fields_write,
                                     .fields_arg = &fields};
        rc = remote_oneway(&d->producer->client->remote, &req);
    }
    return rc;
}

static void decide_without_answer(struct decide *d)
{
    int rc = decide_oneway(d);

    if (rc == 0) {
        decide_end(d, 0);
    } else {
        decide_failed(d, rc);
    }
}

static void decide_try(struct decide *d)
{
    struct escrow_client *c = d->producer->client;
    const char *addr = d->halves[0]->addr;
    struct remote_request req = {.addr = addr,
                                 .code = REQUEST_ESCROW_END_TRANSACTION,
                                 .timeout_ms = d->producer->timeout_ms};

    d->tries++;
    if (remote_is_open(&c->remote, addr) && !remote_is_escrowd(&c->remote, addr) &&
        c->encoding == REMOTE_AUTO) {
        decide_without_answer(d);
        return;
    }
    decide_body(d);
    if (buf_failed(&d->body)) {
        decide_end(d, ESCROW_ENOMEM);
        return;
    }
    req.body = buf_slice(&d->body);
    remote_call(&c->remote, &d->call, &req, decide_answered);
}

void decide_start(struct decide *d)
{
    buf_init(&d->body, 0);
    decide_try(d);
}

/* ---- and wait ---- */

struct decide_call {
    struct task task;
    struct decide decide;
    uint64_t timeout_ms;
    struct waiter waiter;
};

static void call_done(struct decide *d)
{
    decide_fini(d);
    waiter_signal(&LIST_ENTRY(d, struct decide_call, decide)->waiter);
}

static void call_run(struct task *task)
{
    struct decide_call *call = LIST_ENTRY(task, struct decide_call, task);
    struct escrow_client *c = call->decide.producer->client;

    call->decide.deadline_ms = loop_mono_ms(&c->loop) + (int64_t)call->timeout_ms;
    decide_start(&call->decide);
}

int decide_wait(struct escrow_producer *p, enum escrow_txn_state state,
                const struct escrow_receipt *const *halves, size_t count, uint64_t timeout_ms)
{
    struct decide_call call = {.task.run = call_run,
                               .decide = {.producer = p,
                                          .halves = halves,
                                          .count = count,
                                          .state = state,
                                          .done = call_done},
                               .timeout_ms = timeout_ms};
    int rc = client_may_block(p->client);

    if (rc == 0) {
        rc = waiter_init(&call.waiter);
    }
    if (rc != 0) {
        return rc;
    }
    rc = client_post(p->client, &call.task);
    if (rc == 0) {
        rc = waiter_wait(&call.waiter, -1);
    }
    waiter_fini(&call.waiter);
    return rc == 0 ? call.decide.error : rc;
}
