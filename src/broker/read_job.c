#include "src/broker/read_job.h"

#include "core/base/list.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"

struct read_job *read_job_deferred(struct broker *b, struct deferred *d, read_step_fn *step,
                                   read_done_fn *done)
{
    struct read_job *job = mem_calloc(1, sizeof *job);

    if (job == NULL) {
        deferred_fail(d, -1, ESCROW_ENOMEM, NULL);
        return NULL;
    }
    job->broker = b;
    job->step = step;
    job->done = done;
    job->not_found_code = -1;
    buf_init(&job->key, 0);
    buf_init(&job->body, FRAME_SIZE_MAX);
    job->deferred = *d;
    return job;
}

struct read_job *read_job_new(struct request *req, read_step_fn *step, read_done_fn *done)
{
    struct deferred d = request_defer(req);

    return read_job_deferred(req->broker, &d, step, done);
}

static void read_job_free(struct read_job *job)
{
    store_fetch_free(&job->fetch);
    pump_read_leave(&job->broker->pump, &job->slot);
    if (job->fini != NULL) {
        job->fini(job);
    }
    buf_fini(&job->key);
    buf_fini(&job->body);
    mem_free(job->ptr);
    mem_free(job);
}

void read_job_end(struct read_job *job, int error, const char *text)
{
    if (damage_is_error(error)) {
        log_peer_info("store.read", "%s", text); /* what a table led to has been told (damage.h) */
    }
    deferred_fail(&job->deferred, error == ESCROW_ENOTFOUND ? job->not_found_code : -1, error,
                  text[0] == '\0' ? NULL : text);
    read_job_free(job);
}

static void fetch_run(struct pool_job *pool_job)
{
    store_fetch_run(LIST_ENTRY(pool_job, struct read_job, job)->fetch);
}

static void run_nothing(struct pool_job *pool_job)
{
    (void)pool_job; /* the way there and back lets others in */
}

static void fetch_done(struct pool_job *pool_job)
{
    struct read_job *job = LIST_ENTRY(pool_job, struct read_job, job);

    if (job->deferred.session->is_closed) {
        deferred_cancel(&job->deferred);
        read_job_free(job);
    } else {
        read_job_start(job);
    }
}

static void read_job_turn(struct fair_item *slot)
{
    struct read_job *job = LIST_ENTRY(slot, struct read_job, slot);

    if (job->deferred.session->is_closed) {
        deferred_cancel(&job->deferred);
        read_job_free(job);
        return;
    }
    job->fetch = store_fetch_new(job->broker->store);
    if (job->fetch == NULL) {
        read_job_end(job, ESCROW_ENOMEM, "");
    } else {
        read_job_start(job); /* the fetch notes what is missing */
    }
}

void read_job_start(struct read_job *job)
{
    struct err_ctx err = {.code = 0};
    int rc = job->step(job, &err);

    bool must_wait = rc == ESCROW_EAGAIN || rc == ESCROW_EBUSY;

    if (must_wait && job->slot.state == FAIR_OUT) {
        pump_read_enter(&job->broker->pump, job->deferred.session, &job->slot,
                        read_job_turn); /* it may be gone now */
        return;
    }
    if (must_wait) {
        job->job.run = rc == ESCROW_EAGAIN ? fetch_run : run_nothing;
        job->job.done = fetch_done;
        pump_read(&job->broker->pump, &job->job);
        return;
    }
    if (rc != 0) {
        read_job_end(job, rc, err.text);
        return;
    }
    job->done(job);
    read_job_free(job);
}
