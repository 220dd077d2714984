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
 * failed, any text; NULL: it did not. Columns: system identifier, timeline, database oid, database
 * name, version of the schema, reports of this source, the row that it parked last (or NULL), rows
 * that it has reported as published.
 */
#define QUERY_SETUP_COLUMNS 8
void query_setup(struct buf *out, const char *source, uint32_t lane, const char *error);

/* To go before another statement: the reader works again. */
void query_recovered(struct buf *out, const char *source, uint32_t lane);

enum query_wake {
    QUERY_WAKE_KEEP,
    QUERY_WAKE_HOLD,   /* take the lock: nobody need wake us */
    QUERY_WAKE_RELEASE /* give it back, before looking */
};

/*
 * What is new since `old`. When there are rows, the statement's end makes durable what its snapshot
 * sees, on synchronous standbys too. Columns: present snapshot, are there rows, milestones
 * separated by blanks (or NULL), how many, was the wake lock taken (NULL: not asked), where it was
 * made durable.
 */
#define QUERY_SNAPSHOT_COLUMNS 6
void query_snapshot(struct buf *out, const struct snapshot *old, enum query_wake wake);

enum query_read {
    QUERY_READ_SHORT, /* few rows: without planning, which would cost more than reading them */
    QUERY_READ_LONG,  /* many */
    /* in order, after the position's last row; the others give all, in any order */
    QUERY_READ_SORTED
};

/*
 * COPY of the difference of position `at`. The first column is the order id when sorted, otherwise
 * the transaction's id.
 */
void query_read(struct buf *out, const struct position *at, enum query_read how);

/*
 * Report, durably, and rotate. Columns: reports made, partitions emptied, is another one being
 * filled now, partitions left because of a lock.
 */
#define QUERY_MAINTAIN_COLUMNS 4
void query_maintain(struct buf *out, const char *source, uint32_t lane,
                    const struct snapshot *passed, uint64_t rows, uint64_t switch_bytes);

/* Set a row aside, durably. why: as relay_refusal() has it. */
void query_park(struct buf *out, const char *source, uint32_t lane, uint64_t row_id,
                const char *why);

/* One row, one column: the snapshot that is passed now. */
#define QUERY_ADOPT_COLUMNS 1
void query_adopt(struct buf *out, const char *source, uint32_t lane, bool keep_rows);

#endif
