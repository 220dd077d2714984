/*
 * Worker: one dedicated thread that runs jobs in the order they were submitted (the log thread).
 *
 * Owns:    its thread and two mailboxes. A job is the caller's struct, embedded in the caller's
 *          object; from submit until done it belongs to the worker.
 * Thread:  all functions: the loop. run(job): the worker's thread (or the loop, see
 *          worker_try_inline). done(job): the loop.
 * Holds:   jobs run one at a time, in order; done is called exactly once per job, in the same
 *          order.
 */
#ifndef CORE_IO_UV_WORKER_H
#define CORE_IO_UV_WORKER_H

#include "core/base/attr.h"
#include "core/io_uv/mailbox.h"

struct job {
    struct mail mail;
    void (*run)(struct job *job);
    void (*done)(struct job *job);
};

struct worker {
    struct loop *loop;
    struct mailbox in;  /* loop -> thread */
    struct mailbox out; /* thread -> loop */
    pthread_t thread;
    size_t in_flight; /* submitted, done not yet called */
    size_t jobs_max;
    bool is_running;
    bool is_delivering; /* inside done */
    char name[16];      /* as ps -L and the debugger show it */
};

/* `name`: at most 15 characters. ESCROW_ELIMIT when no thread can be made. */
ESCROW_MUST_USE int worker_start(struct worker *w, struct loop *l, const char *name,
                                 size_t jobs_max);

/*
 * Run every job submitted so far, wait for the thread to end, call what is left of done. Blocks the
 * caller. Jobs cannot be submitted from then on. Not inside done. Not running is fine.
 */
void worker_stop(struct worker *w);

/*
 * ESCROW_ELIMIT when jobs_max jobs are in flight, ESCROW_ESHUTDOWN when not running: the job is the
 * caller's then. done comes later, never inside this call.
 */
ESCROW_MUST_USE int worker_submit(struct worker *w, struct job *job);

/*
 * When the worker has nothing queued and nothing running, and this is not inside done: run the job
 * here and now and return true; run AND done were both called before it returns (the one exception
 * to "never inside the submitting call"). Otherwise false, and nothing was called. For lone
 * requests: handing over costs about 25 us each way, more than most of what it would hide.
 */
ESCROW_MUST_USE bool worker_try_inline(struct worker *w, struct job *job);

static inline bool worker_is_idle(const struct worker *w)
{
    return w->in_flight == 0;
}

#endif
