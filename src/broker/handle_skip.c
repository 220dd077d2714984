/*
 * ESCROW_SKIP_DAMAGED 30008: an operator lets consumers go on behind damaged messages (PROTOCOL.md,
 * "Requests of our own").
 *
 * Happy path: the first message is read, from the page cache or by the pool, and is damaged; a
 * SKIPPED record is appended; the answer comes when it is durable.
 *
 * Failures: a message that reads well is not skipped: who names a wrong one is told.
 */
#include "core/base/log.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"

#include <inttypes.h>

/* topic, queue_id; number and number2: the range [number, number2) */
static int skip_step(struct read_job *job, struct err_ctx *err)
{
    struct store_entry_ref entry = {
        .topic = slice_str(job->topic), .queue_id = job->queue_id, .offset = job->number};
    struct store_record rec;
    int rc = store_read_entry(job->broker->store, &entry, job->fetch, &job->body, &rec, err);

    if (rc == 0) {
        return err_set(err, ESCROW_EINVAL,
                       "the message at offset %" PRId64 " is not damaged: nothing is skipped",
                       job->number);
    }
    return damage_is_error(rc) ? 0 : rc;
}

static void skip_answered(struct broker *b, struct pending *p, int error)
{
    (void)b;
    if (error == 0) {
        deferred_ok(&p->deferred);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
}

static void skip_append(struct read_job *job)
{
    struct broker *b = job->broker;
    struct store_skip skip = {.topic = slice_str(job->topic),
                              .queue_id = job->queue_id,
                              .first = job->number,
                              .end = job->number2};
    struct store_receipt receipt;
    int rc = pump_reserve(&b->pump);

    if (rc == 0) {
        rc = store_append_skip(b->store, &skip, &receipt);
    }
    if (rc != 0) {
        deferred_fail(&job->deferred, -1, rc,
                      rc == ESCROW_ENOTFOUND ? "the queue does not have all of these offsets"
                      : rc == ESCROW_ELIMIT  ? "busy, or too many ranges are skipped already: name "
                                               "fewer and longer ones"
                                             : NULL);
        return;
    }
    log_warn("store.skip",
             "topic %s queue %u: an operator lets consumers go on behind damaged messages at "
             "offsets %" PRId64 " to %" PRId64,
             job->topic, job->queue_id, skip.first, skip.end - 1);
    (void)pump_wait(&b->pump, receipt.wait_for, false, skip_answered, job->deferred);
}

void handle_skip_damaged(struct request *req)
{
    struct slice topic = SLICE_EMPTY;
    int32_t queue_id = -1;
    int64_t first = -1;
    int64_t last;
    struct read_job *job;

    if (header_get_str(req->header, "topic", &topic) != 0 || topic.len > RETRY_TOPIC_LEN_MAX ||
        header_get_i32(req->header, "queueId", &queue_id) != 0 || queue_id < 0 ||
        header_get_i64(req->header, "offset", &first) != 0 || first < 0) {
        request_fail(req, -1, ESCROW_EINVAL,
                     "field topic, queueId or offset is missing or malformed");
        return;
    }
    last = first;
    if (header_opt_i64(req->header, "lastOffset", &last) != 0 || last < first ||
        last == INT64_MAX) {
        request_fail(req, -1, ESCROW_EINVAL, "field lastOffset is malformed, or before offset");
        return;
    }
    job = read_job_new(req, skip_step, skip_append);
    if (job != NULL) {
        (void)slice_to_cstr(topic, job->topic, sizeof job->topic);
        job->queue_id = (uint32_t)queue_id;
        job->number = first;
        job->number2 = last + 1;
        read_job_start(job);
    }
}
