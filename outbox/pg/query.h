/*
 * The statements of the relay, as text. COPY takes no parameters, so positions are written into it:
 * numbers that were parsed before, never text from outside. The one name that is, the source's, is
 * quoted here.
 *
 * Owns:    nothing. Errors: buf_failed of `out`. Thread: any. Pure.
 */
#ifndef OUTBOX_PG_QUERY_H
#define OUTBOX_PG_QUERY_H

#include "core/base/buf.h"
#include "outbox/position.h"

#include <stdbool.h>
#include <stdint.h>

#define QUERY_MILESTONES_MAX 32 /* steps asked for at a time; below RELAY_STEPS_MAX */

/*
 * First message of a session: settings, LISTEN, registration. Each message below may give several
 * results; the one that counts is that with QUERY_..._COLUMNS columns. error: why the last attempt
 * failed, any text; NULL: it did not, which takes back nothing that was said before. Columns:
 * system identifier, timeline, database oid, database name, version of the schema, reports of this
 * source, rows that it has reported as published, snapshots `stored` and `given_up` of the reader,
 * `cleared` (NULL: none, or an older schema), whether it has said an error that it has not taken
 * back.
 */
#define QUERY_SETUP_COLUMNS 11
void query_setup(struct buf *out, const char *source, uint32_t lane, const char *error);

/* The relay ends with this error, and a person has to say what is right. */
void query_refuse(struct buf *out, const char *source, uint32_t lane, const char *error);

/* To go before another statement: the reader works. */
void query_recovered(struct buf *out, const char *source, uint32_t lane);

/*
 * To go before the first statement that the source was opened for: the relay with this epoch is at
 * work now. Here and in what else an owner alone may do: one row with this column; false: another
 * relay is at work.
 */
#define QUERY_OWNER_COLUMN "is_owner"
struct query_owner {
    const char *source;
    uint32_t lane;
    uint64_t epoch;
};
void query_claim(struct buf *out, const struct query_owner *owner);

/*
 * To go behind that: the broker's position is only `at` (put back). given_up: what `at` was
 * compared with; if it is not that any more, the statement fails, unless the loss is accepted.
 */
void query_put_back(struct buf *out, const struct query_owner *owner, const struct position *at,
                    const struct snapshot *given_up, bool accepts_loss);

enum query_wake {
    QUERY_WAKE_KEEP,
    QUERY_WAKE_HOLD,   /* take the lock: nobody need wake us */
    QUERY_WAKE_RELEASE /* give it back, before looking */
};

/*
 * What is new since `old`. When there are rows, the statement's end makes durable what its snapshot
 * sees, on synchronous standbys too. Columns: present snapshot, are there rows, milestones
 * separated by blanks (or NULL), how many, was the wake lock taken (NULL: not asked), where it was
 * made durable, is anything parked or held, and is any of that to be published, behind what is
 * (position `at`).
 */
#define QUERY_SNAPSHOT_COLUMNS 8
void query_snapshot(struct buf *out, const char *source, uint32_t lane, const struct position *at,
                    enum query_wake wake);

/*
 * To go before a read: rows of the difference of position `at`, behind its last row, that are held
 * are parked, durably.
 */
void query_set_aside(struct buf *out, const struct query_owner *owner, const struct position *at);

/*
 * Number the parked rows that are to be published, durably, and COPY them in order, behind
 * `replayed`. The first column is that number.
 */
void query_replay(struct buf *out, const struct query_owner *owner, uint64_t replayed);

/* To go before a report: what is published, and passed, need not be parked or held any more. */
void query_clear(struct buf *out, const struct query_owner *owner, const struct position *acked);

enum query_read {
    QUERY_READ_SHORT, /* few rows: without planning, which would cost more than reading them */
    QUERY_READ_LONG,  /* many */
    /* in order, after the position's last row; the others give all, in any order */
    QUERY_READ_SORTED,
    /* the same two, and parked rows come with an empty topic and without anything else */
    QUERY_READ_LONG_PARKED,
    QUERY_READ_SORTED_PARKED
};

/*
 * COPY of the difference of position `at`. The first column is the order id when sorted, otherwise
 * the transaction's id. owner: whose parked rows; else NULL.
 */
void query_read(struct buf *out, const struct position *at, enum query_read how,
                const struct query_owner *owner);

/*
 * Report, durably, and rotate. Columns: reports made, partitions emptied, is another one being
 * filled now, partitions left because of a lock.
 */
#define QUERY_MAINTAIN_COLUMNS 4
struct query_report {
    const struct snapshot *passed;
    const struct snapshot *stored; /* of the broker's position; NULL: it has none */
    uint64_t rows;
};
void query_maintain(struct buf *out, const char *source, uint32_t lane,
                    const struct query_report *report, uint64_t switch_bytes);

/*
 * Set a row aside, durably, and hold its key, or all of its topic. why: as relay_refusal() has it.
 */
void query_park(struct buf *out, const struct query_owner *owner, uint64_t row_id,
                bool is_whole_topic, const char *why);

/* One row, one column: the snapshot that is passed now. */
#define QUERY_ADOPT_COLUMNS 1
void query_adopt(struct buf *out, const char *source, uint32_t lane, bool keep_rows);

#endif
