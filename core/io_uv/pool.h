/*
 * Pool: unordered background work on libuv's thread pool (cold reads, segment preparation, flushes
 * of derived files).
 *
 * Jobs run in any order and side by side; work that needs an order goes to a worker.
 *
 * Owns:    nothing. A job is the caller's struct; from submit until done it belongs to the pool.
 * Thread:  all functions and done(job): the loop. run(job): a pool thread.
 * Holds:   in_flight <= limit; done is called exactly once per submitted job.
 */
#ifndef CORE_IO_UV_POOL_H
#define CORE_IO_UV_POOL_H

#include "core/base/attr.h"
#include "core/io_uv/loop.h"

struct pool;

struct pool_job {
    uv_work_t uv;
    struct pool *pool;
    void (*run)(struct pool_job *job);
    void (*done)(struct pool_job *job);
};

struct pool {
    struct loop *loop;
    size_t in_flight;
    size_t limit;
};

void pool_init(struct pool *p, struct loop *l, size_t limit);
void pool_fini(struct pool *p); /* in_flight is 0 (CHECK): run the loop until then */

/* Set job->run and job->done before. ESCROW_ELIMIT when `limit` jobs are in flight; the job is the
 * caller's then. */
ESCROW_MUST_USE int pool_submit(struct pool *p, struct pool_job *job);

static inline size_t pool_in_flight(const struct pool *p)
{
    return p->in_flight;
}

#endif
