/*
 * A request that reads from the store and may have to wait for the disk: look-ups, searches,
 * listings.
 *
 *     job = read_job_new(req, step, done);     the request is deferred
 *     ... fill the arguments ...
 *     read_job_start(job);
 *
 * `step` is called on the loop, again and again while it returns ESCROW_EAGAIN, with a fetch in
 * between. A step that reads one thing begins from its arguments each time. One that reads several
 * goes on where it had to wait: the fetch keeps what it read last, and only that. A step that has
 * looked at much returns ESCROW_EBUSY: it is called again after others had their turn. On 0 `done`
 * writes the answer; on anything else the job answers the error. Then the job is freed.
 *
 * Owns:    itself, from start on; the session is held by the deferred request.
 * Thread:  loop; the fetch runs in the pool.
 */
#ifndef SRC_BROKER_READ_JOB_H
#define SRC_BROKER_READ_JOB_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/limits.h"
#include "core/io_uv/pool.h"
#include "core/store/store.h"
#include "src/broker/fair.h"
#include "src/broker/session.h"

#include <stdint.h>

struct read_job;

typedef int read_step_fn(struct read_job *job, struct err_ctx *err);
typedef void read_done_fn(struct read_job *job);

struct read_job {
    struct pool_job job;
    struct fair_item slot; /* of pump.reads */
    struct broker *broker;
    struct deferred deferred;
    struct store_fetch *fetch;
    read_step_fn *step;
    read_done_fn *done;
    /* Arguments and results; what each means is the request's business. */
    char topic[RETRY_TOPIC_LEN_MAX + 1];
    struct buf key;
    struct buf body;
    int64_t number;
    int64_t number2;
    int64_t result;
    uint64_t offset;
    uint32_t queue_id;
    uint32_t count;
    void *ptr; /* freed with mem_free when the job ends */
    /* NULL, or called before ptr is freed: frees what hangs on it */
    void (*fini)(struct read_job *job);
    int32_t not_found_code; /* response code for ESCROW_ENOTFOUND; -1 = answer_code */
};

/* NULL when out of memory; the request was answered then. */
struct read_job *read_job_new(struct request *req, read_step_fn *step, read_done_fn *done);
/* The same for a request that was deferred before; taken from *d. */
struct read_job *read_job_deferred(struct broker *b, struct deferred *d, read_step_fn *step,
                                   read_done_fn *done);
void read_job_start(struct read_job *job);

/*
 * A step: the message whose record begins at job->offset, as consumers see it, is in job->body
 * (handle_query.c). ESCROW_ENOTFOUND: there is none, or a half that was not committed.
 */
int read_message_step(struct read_job *job, struct err_ctx *err);

/* Instead of start: answer the error and free. */
void read_job_end(struct read_job *job, int error, const char *text);

#endif
