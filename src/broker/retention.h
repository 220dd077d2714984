/*
 * Retention: deletes what is old enough, or what the disk has no room for, and refuses new messages
 * before the disk is full. core/store/retention.h decides; this asks the disk, says what is still
 * needed, and has the store give up the front of its log.
 *
 * Every retention.interval.ms one job asks how full the disk is; when segments may go a second one
 * finds where the queues begin then; the checkpoint that follows unlinks the files. A step takes at
 * most RETENTION_STEP_SEGMENTS; the next follows soon while there are more.
 *
 * Thread:  loop; the jobs run in the pump's pool, one at a time.
 * Errors:  none: what fails is logged and tried again.
 *          A clock that is set forward makes nothing old before the next start.
 * Holds:   nothing below the oldest undecided half, or the oldest message held for a time, goes.
 */
#ifndef SRC_BROKER_RETENTION_H
#define SRC_BROKER_RETENTION_H

#include "core/base/slice.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/pool.h"
#include "core/store/retention.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;

struct retention {
    struct loop_timer timer;
    struct pool_job usage_job;
    struct pool_job retain_pool_job;
    struct retain_job *retain; /* on its way */
    struct retention_verdict verdict;
    struct disk_usage usage;
    int usage_rc;
    struct err_ctx usage_err;
    int64_t
        pinned_said_ms; /* monotonic; when it was last said that something pins the log; 0 = not */
    int64_t begin_ms;   /* wall clock at the start */
    int64_t begin_mono_ms;
    bool has_said_ahead; /* that the wall clock was set forward */
    uint64_t stuck_said; /* tries to delete that failed, when that was last said */
    uint64_t wanted;     /* where the log would begin if nothing were needed */
    uint64_t needed;     /* the log is pinned from here on; UINT64_MAX = it is not */
    uint64_t needed_by;  /* first offset of the message that pins it */
    bool is_busy;        /* a job is on its way */
    bool is_asked;       /* whatever the hour, until there is nothing more to delete */
    bool is_stopping;
};

void retention_start(struct broker *b);

/* Delete what is old enough now, whatever the hour. */
void retention_ask(struct broker *b);

/* What was held has been carried forward, or could not be (carry.h): look again. */
void retention_resume(struct broker *b, bool was_carried);

/* No new job. One that is on its way ends before the pump does. */
void retention_stop(struct broker *b);

/*
 * Hours of the day, as in "04" or "4;16", as a set of bits; "any" is all of them. ESCROW_EINVAL:
 * not of this form.
 */
ESCROW_MUST_USE int retention_hours_parse(struct slice text, uint32_t *hours);

#endif
