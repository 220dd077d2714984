/*
 * Happy path: wait for the log, read the first half's record, compare, answer. Bodies are compared
 * by a keyed 128-bit hash: the second body goes with its request. Properties are not compared: what
 * the broker adds differs between header encodings.
 *
 * Failures: the record cannot be read: the error is answered; the producer may try again.
 */
#include "src/broker/half_again.h"

#include "core/base/mem.h"
#include "core/proto/record.h"
#include "src/broker/broker.h"
#include "src/broker/read_job.h"

#include <stdio.h>

struct half_again {
    struct pending_send first;
    half_is_same_fn *same;
    struct hash128 body; /* of the message that was sent again */
};

void half_refuse_other(struct deferred *d, const struct pending_send *first)
{
    char text[160];

    (void)snprintf(text, sizeof text,
                   "transaction %.*s has another half message already: each message needs a "
                   "UNIQ_KEY of its own",
                   (int)first->id_len, first->id); /* fits: an id is at most 64 bytes */
    deferred_fail(d, RESPONSE_MESSAGE_ILLEGAL, ESCROW_ECONFLICT, text);
}

/* result = 1: the same body. */
static int compare_step(struct read_job *job, struct err_ctx *err)
{
    const struct half_again *again = job->ptr;
    struct record_view view;
    struct store_record rec;
    struct hash128 first;
    int rc = store_read_known(job->broker->store, carry_where(job->broker, job->offset), job->fetch,
                              &job->body, &rec, err);

    if (rc != 0) {
        return rc;
    }
    if (rec.type != STORE_HALF || record_decode(rec.payload, &view) != 0) {
        return err_set(err, ESCROW_ECORRUPT, "half at %llu cannot be read",
                       (unsigned long long)job->offset);
    }
    first = hash_wide(&job->broker->hash_key, view.f.body);
    job->result = first.lo == again->body.lo && first.hi == again->body.hi;
    return 0;
}

static void compared(struct read_job *job)
{
    const struct half_again *again = job->ptr;

    if (job->result == 1) {
        again->same(job->broker, &job->deferred, &again->first);
    } else {
        half_refuse_other(&job->deferred, &again->first);
    }
}

/* The first half is durable by now, so it can be read. */
static void again_durable(struct broker *b, struct pending *p, int error)
{
    struct half_again *again = p->arg.ptr;
    struct read_job *job;

    if (error != 0) {
        deferred_fail(&p->deferred, -1, error, NULL);
        mem_free(again);
        return;
    }
    job = read_job_deferred(b, &p->deferred, compare_step, compared);
    if (job == NULL) {
        mem_free(again);
        return;
    }
    job->ptr = again;
    job->offset = again->first.offset;
    read_job_start(job);
}

void half_again(struct request *req, const struct pending_send *first, half_is_same_fn *same)
{
    struct broker *b = req->broker;
    struct half_again *again = mem_alloc(sizeof *again);

    if (again == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    *again = (struct half_again){
        .first = *first, .same = same, .body = hash_wide(&b->hash_key, req->body)};
    pump_wait(&b->pump, pump_tail(&b->pump), false, again_durable, request_defer(req))->arg.ptr =
        again;
}
