#include "core/io_uv/pool.h"

#include "core/base/check.h"
#include "escrow/errors.h"

void pool_init(struct pool *p, struct loop *l, size_t limit)
{
    DCHECK_THREAD(l);
    CHECK(limit > 0);
    *p = (struct pool){.loop = l, .limit = limit};
}

void pool_fini(struct pool *p)
{
    CHECK(p->in_flight == 0);
}

static void on_run(uv_work_t *req)
{
    struct pool_job *job = LIST_ENTRY(req, struct pool_job, uv);

    job->run(job);
}

static void on_done(uv_work_t *req, int status)
{
    struct pool_job *job = LIST_ENTRY(req, struct pool_job, uv);
    struct pool *p = job->pool;

    CHECK(status == 0); /* only uv_cancel gives anything else, and nobody calls it */
    CHECK(p->in_flight > 0);
    p->in_flight--;
    job->done(job); /* may free the job and submit others */
}

int pool_submit(struct pool *p, struct pool_job *job)
{
    DCHECK_THREAD(p->loop);
    CHECK(job->run != NULL && job->done != NULL);
    if (p->in_flight == p->limit) {
        return ESCROW_ELIMIT;
    }
    job->pool = p;
    CHECK(uv_queue_work(&p->loop->uv, &job->uv, on_run, on_done) ==
          0); /* fails without a callback only */
    p->in_flight++;
    return 0;
}
