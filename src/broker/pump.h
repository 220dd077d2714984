/*
 * Pump: takes the store's jobs to the threads that run them and gives answers that wait for the
 * log.
 *
 * One batch is on its way to disk; meanwhile the next one fills. When it is done its records are
 * applied and the answers that waited for it are written, in the order of the log. A lone batch is
 * written and synced on the loop itself, because the hand-over costs more than it would hide; under
 * load the log thread does it beside the loop.
 *
 * Owns:    the log thread, the jobs on their way, the queue of waiting answers.
 * Thread:  loop.
 * Errors:  a job that fails for good ends the process through broker_fatal: nothing acknowledged is
 *          lost, and nothing more is acknowledged.
 * Holds:   wait_for never decreases along a queue; every pending is completed or, at the end,
 *          cancelled exactly once.
 */
#ifndef SRC_BROKER_PUMP_H
#define SRC_BROKER_PUMP_H

#include "core/io_uv/loop.h"
#include "core/io_uv/pool.h"
#include "core/io_uv/worker.h"
#include "core/proto/msgid.h"
#include "core/store/store.h"
#include "src/broker/fair.h"
#include "src/broker/session.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct broker;
struct pending;

/*
 * Write the answer of p->deferred (and free p->arg.ptr if it owns something). error is 0, or
 * ESCROW_ESHUTDOWN at the end.
 */
typedef void pending_fn(struct broker *b, struct pending *p, int error);

/* What the answer to a send says; inline, so that a send allocates nothing. */
struct pending_send {
    uint64_t offset;      /* physical, of the first message */
    int64_t queue_offset; /* of the first message */
    int32_t queue_id;
    uint8_t id_len;
    char id[MSGID_TEXT_MAX + 8]; /* UNIQ_KEY; longer ones are left out of the answer */
};

struct pending {
    uint64_t
        wait_for; /* log position that has to be durable and applied (written, when is_early) */
    pending_fn *fn;
    struct deferred deferred;
    union {
        struct pending_send send;
        void *ptr;
        uint64_t number;
    } arg;
};

struct pending_ring {
    struct pending *items;
    size_t cap; /* power of two */
    size_t head;
    size_t count;
};

struct pump {
    struct broker *broker;
    struct worker log_worker;
    struct pool pool;  /* reads; as large as `reads` */
    struct fair reads; /* who may read from disk now: connections in turn */
    struct pool jobs;  /* segments, flushes, retention: never behind reads for a place */
    struct job batch_job;
    struct log_batch *batch; /* on its way; NULL = none */
    int batch_error;
    struct err_ctx batch_err;
    struct pool_job segment_pool_job;
    struct segment_job *segment;
    struct pool_job flush_pool_job;
    struct flush_job *flush;
    bool is_flush_out;           /* the pool has it; before, the loop writes to it piece by piece */
    struct pending_ring visible; /* wait for the record to be applied */
    struct pending_ring written; /* asynchronous flush: wait for the write only */
    struct loop_hook hook;
    struct loop_timer trim;
    struct loop_timer witness; /* armed by a batch: is it quiet now? */
    uint64_t witness_tail;     /* the end of the log when it was armed */
    int64_t batch_started_ns;
    int64_t sync_ns;             /* smoothed duration of a batch */
    struct loop_deferred gather; /* take what has arrived before a batch starts */
    int64_t gather_ns;           /* since when; 0 = not */
    uint32_t looks_in_vain;      /* that found nothing, one after the other */
    uint32_t looks_skipped;      /* since the last one */
    size_t answers_last;         /* that waited when the last batch started */
    uint64_t batches_inline;
    uint64_t batches_handed;
    uint64_t records_last; /* appended when the trim timer last looked */
    bool is_trimmed;       /* idle, and memory was given back */
    bool is_stopping;
};

/* Start the log thread and the hooks. The store is open. */
ESCROW_MUST_USE int pump_start(struct pump *p, struct broker *b);

/*
 * Run the loop until everything appended so far is visible. For the start, before ports are open.
 */
void pump_settle(struct pump *p);

/*
 * Room for one more waiting answer, or ESCROW_ENOMEM; call it before the append, so that an
 * appended record always gets its answer.
 */
ESCROW_MUST_USE int pump_reserve(struct pump *p);

/*
 * Answer when the log has passed wait_for. Takes over the deferred. Never fails after pump_reserve.
 * is_early: in asynchronous flush mode the write is enough. Returns the entry so that the caller
 * fills arg.
 */
struct pending *pump_wait(struct pump *p, uint64_t wait_for, bool is_early, pending_fn *fn,
                          struct deferred deferred);

/*
 * Reads from disk: enter; when start(slot) is called make a fetch, and run it any number of times,
 * one read at a time; leave when the request is answered, or waits for something else. The fetch
 * goes with the slot, so that what all fetches hold is bounded. Holds the session meanwhile. leave
 * does nothing for a slot that is not entered.
 */
void pump_read_enter(struct pump *p, struct session *s, struct fair_item *slot,
                     void (*start)(struct fair_item *slot));
void pump_read(struct pump *p, struct pool_job *job);
void pump_read_leave(struct pump *p, struct fair_item *slot);

/* A job of retention: at most one at a time. pump_stop waits for it. */
void pump_job(struct pump *p, struct pool_job *job);

/*
 * Position behind everything appended so far: waiting for it makes an answer about in-flight facts
 * true.
 */
uint64_t pump_tail(const struct pump *p);

/*
 * Stop: write and sync everything appended, give every answer, take a last checkpoint, end the log
 * thread. Runs the loop meanwhile; blocks the caller. Pending answers that cannot be given are
 * cancelled. A rebuild of a queue file is not waited for: it ends at once, and is made when the
 * file is read after the next start.
 */
void pump_stop(struct pump *p);

#endif
