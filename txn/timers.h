/*
 * Messages that are held for a time: delayed and timed ones, retries, and committed halves that
 * asked for a delay. A table of step functions beside txn.h, with the same rules: event and time
 * in, records to append out.
 *
 * How the broker obeys:
 *
 *   message arrives     timers_accept -> append the HELD record (or HALF) -> timers_appended.
 *   timer, at timers_next_ms
 *                       timers_tick -> append update.payload as a RELEASE record, naming
 *                       update.queues -> timers_release_appended; timers_release_refused when the
 *                       append is refused. Again at once while update.more.
 *   recall              timers_recall -> the same.
 *   record durable      in log order, live and in recovery alike: timers_apply_message (HELD, and
 *                       HALF with a time), timers_apply_decided (DECISION about such a half),
 *                       timers_apply_release (RELEASE).
 *
 * Two clocks. A delay runs on the monotonic clock while the process lives: a step of the wall
 * clock neither shortens nor stretches it. A time of day is compared with the wall clock. A restart
 * knows only the wall clock, by which every record says when it is due.
 *
 * Memory: 48 bytes for a message, 4 in its heap, 4 to 8 in the index by offset, and its topic's
 * name once: at most 64 bytes each when there are many.
 *
 * Owns:    the table, its heaps, the names of topics.
 * Thread:  loop.
 * Pure:    no clock, no I/O. Allocates through mem.h.
 * Errors:  each function says; after an error nothing has changed, except where "fatal" is written.
 * Holds:   timers_check().
 */
#ifndef TXN_TIMERS_H
#define TXN_TIMERS_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/slice.h"
#include "core/store/store.h"
#include "txn/held.h"
#include "txn/release.h"
#include "txn/txn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timers;

struct timers_config {
    size_t held_max; /* more are refused with ESCROW_ELIMIT; a recovery takes what there is */
};

/* `seed`: 64 unpredictable bits; they key the map of topics. */
ESCROW_MUST_USE int timers_new(const struct timers_config *config, uint64_t seed,
                               struct txn_now now, struct timers **out);
void timers_free(struct timers *t); /* NULL is fine */

/*
 * Recovery is over: from now on delays run on the monotonic clock, and timers_tick may be called.
 * Until then records are read, and only the wall clock of their time counts.
 */
void timers_recovered(struct timers *t, struct txn_now now);

/* ---- messages -------------------------------------------------------------------------------- */

/* From the request before it is appended, from its record afterwards. */
struct timer_info {
    struct slice topic;  /* where it goes, 1..RETRY_TOPIC_LEN_MAX bytes */
    uint32_t queue;      /* < QUEUES_PER_TOPIC_MAX */
    uint32_t size_bytes; /* of the message record */
    int32_t tag_hash;
    int64_t store_ms; /* broker's time */
    int64_t due_ms;   /* TIMER_OUT_MS; of a half with a delay: if it were committed at once */
    bool is_relative; /* a delay, not a time of day */
    bool is_half;
};

/*
 * Fill *info from the payload of a HELD or HALF record. ESCROW_ENOTFOUND: it has no TIMER_OUT_MS.
 * ESCROW_EPROTO: it is not a message record. Slices are borrowed from the payload.
 */
ESCROW_MUST_USE int timer_info_decode(struct slice payload, bool is_half, struct timer_info *info);

/*
 * May this message be held? After 0, timers_appended cannot fail. ESCROW_EINVAL (a length or number
 * out of bounds), ESCROW_ELIMIT (held_max, or too many topics), ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int timers_accept(struct timers *t, const struct timer_info *info);

/* The record is in the log's buffer. Only after timers_accept for the same info. */
void timers_appended(struct timers *t, const struct timer_info *info, uint64_t offset,
                     struct txn_now now);

/*
 * The record is durable. A message that is not in the table (recovery) is made. ESCROW_ENOMEM,
 * ESCROW_ELIMIT (topics), ESCROW_ECORRUPT (it was applied before): fatal.
 */
ESCROW_MUST_USE int timers_apply_message(struct timers *t, const struct timer_info *info,
                                         uint64_t offset, struct err_ctx *err);

/*
 * A half with a time was committed at at_ms (its delay begins) or rolled back (it is forgotten).
 * ESCROW_ECORRUPT: no such half: fatal.
 */
ESCROW_MUST_USE int timers_apply_decided(struct timers *t, uint64_t offset, bool is_commit,
                                         int64_t at_ms, struct txn_now now, struct err_ctx *err);

/* ---- releases -------------------------------------------------------------------------------- */

struct timers_update {
    struct buf payload; /* of one RELEASE record to append; empty = none */
    size_t count;       /* messages that become visible, and their queues in this order; names are
                           good until the record is applied */
    struct store_queue_ref queues[RELEASE_COUNT_MAX];
    bool more; /* more is due: again after this one was obeyed */
};

void timers_update_init(struct timers_update *u);
void timers_update_fini(struct timers_update *u);

/*
 * What is due now, in the order of its time, then of the log. Nothing moves until
 * timers_release_appended. ESCROW_ENOMEM: try again.
 */
ESCROW_MUST_USE int timers_tick(struct timers *t, struct txn_now now, struct timers_update *u);

/*
 * Take one message back: it has to wait for its time, in this topic. ESCROW_ENOTFOUND: it does not
 * (any more); ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int timers_recall(struct timers *t, uint64_t offset, struct slice topic,
                                  struct txn_now now, struct timers_update *u);

/* The payload of the last timers_tick or timers_recall was appended, or was not. */
void timers_release_appended(struct timers *t);
void timers_release_refused(struct timers *t);

/* A message becomes visible: a consume queue entry is due. Non-zero stops the apply: fatal. */
typedef int timers_release_fn(void *arg, const struct release_entry *entry);

/*
 * A RELEASE record is durable: its messages leave the table, `release` is called for each that is
 * due, in the record's order. ESCROW_ECORRUPT: malformed, or it names a message that does not wait;
 * fatal.
 */
ESCROW_MUST_USE int timers_apply_release(struct timers *t, struct slice payload,
                                         timers_release_fn *release, void *arg,
                                         struct err_ctx *err);

/*
 * Monotonic time at which timers_tick wants to be called, INT64_MAX = not before another event.
 * With times of day in the table at most a second ahead, so that a step of the wall clock is seen.
 */
int64_t timers_next_ms(const struct timers *t, struct txn_now now);

/* ---- looking at it --------------------------------------------------------------------------- */

/* Log space that the releases of all held messages need: store_release_reserve of each. */
uint64_t timers_reserve_bytes(const struct timers *t);

/*
 * Smallest physical offset at `from` or behind of what is still held; UINT64_MAX when none. Walks
 * the table.
 */
uint64_t timers_oldest_from(const struct timers *t, uint64_t from);

/*
 * Every message that was first stored in [from, to), in no order; halves only once they are
 * committed (txn_each_between has the others). Walks the table.
 */
void timers_each_between(const struct timers *t, uint64_t from, uint64_t to, held_fn *fn,
                         void *arg);

/* Is the message that was first stored at `offset` held? Also while its release is written. */
bool timers_holds(const struct timers *t, uint64_t offset);

/* Counters since the start; X(name, help). Names become metrics. */
#define TIMERS_COUNTERS(X)                                                                         \
    X(held_accepted, "messages accepted that are held for a time")                                 \
    X(held_refused, "messages refused because too many are held")                                  \
    X(held_released, "held messages that became visible when they were due")                       \
    X(held_recalled, "held messages that their producers took back")

struct timers_counters {
#define X(name, help) uint64_t name;
    TIMERS_COUNTERS(X)
#undef X
};

struct timers_gauges {
    size_t by_state[HELD_STATE_COUNT];
    size_t held;
    size_t bytes;
    int64_t late_ms; /* how long ago the first one that still waits was due; 0 = none is */
};

const struct timers_counters *timers_counters(const struct timers *t);
void timers_counters_reset(struct timers *t);
void timers_gauges(const struct timers *t, struct txn_now now, struct timers_gauges *gauges);

/* ---- checkpoint ------------------------------------------------------------------------------ */

/*
 * The section "timers" in steps, so that the loop serves others while a million messages are
 * written: what is applied, nothing in flight.
 *
 * timers_save appends it (buf_failed when memory is short), with room for the messages.
 * timers_save_more writes at most `max` of them there: 1 while there are more, 0 when it is
 * complete. `bytes` is where the buffer's bytes begin, which from the first call on may not move;
 * that call (`max` may be 0) follows before anything else happens to *t, or never does. After it
 * anything may be applied: the section is what held at timers_save. timers_save_stop gives it up;
 * where none is being written it does nothing.
 */
void timers_save(struct timers *t, struct txn_now now, struct buf *out);
ESCROW_MUST_USE int timers_save_more(struct timers *t, uint8_t *bytes, uint32_t max);
void timers_save_stop(struct timers *t);

/* Into a struct timers just made. ESCROW_ECORRUPT, ESCROW_EVERSION, ESCROW_ENOMEM: fatal. */
ESCROW_MUST_USE int timers_load(struct timers *t, struct slice section, struct err_ctx *err);

/* CHECK everything that must hold; for tests. */
void timers_check(const struct timers *t);

#endif
