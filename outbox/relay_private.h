/*
 * Shared by the relay's files: relay.c (what next), relay_open.c (the source), relay_read.c
 * (rounds), relay_publish.c (rows to batches to the sink), relay_park.c (what is refused). Thread
 * and Holds: relay.h.
 */
#ifndef OUTBOX_RELAY_PRIVATE_H
#define OUTBOX_RELAY_PRIVATE_H

#include "outbox/relay.h"
#include "outbox/sorter.h"

struct relay {
    struct relay_config cfg;
    struct sink_source source;
    uint8_t state;    /* enum relay_state */
    uint8_t drain_to; /* DRAINING: where to when all batches are back */
    bool needs_person;
    bool is_opening; /* the sink owes an OPENED */
    bool is_peeking; /* which only tells the position: opened is what can be gone on from */
    bool is_woken;   /* a wake-up came while something else was going on */
    bool has_news;
    bool has_told; /* the database was told an error, by this relay or one before */
    struct err_ctx error;
    struct backoff backoff;
    struct relay_stats stats;

    /* Reading. */
    struct position cursor;
    uint64_t db_reports;         /* of this source that the database has */
    uint64_t db_rows;            /* that it was told to be published */
    struct snapshot db_stored;   /* of the broker's position, as it was told */
    struct snapshot db_given_up; /* sees all rows that are truncated */
    uint64_t db_cleared;         /* replayed rows are gone up to this number */
    bool is_put_back;  /* the broker's position is before db_stored: the database is to be told */
    bool must_report;  /* it was never told the broker's position (an older version): soon, then */
    bool accepts_loss; /* and before what is gone, and a person has said that it stays missing */
    uint64_t seen_order_id; /* last row fed, for the order check */
    uint64_t seen_id;
    struct snapshot
        steps[RELAY_STEPS_MAX]; /* differences still to read end at these, one after the other */
    size_t step_count;
    size_t step_index;
    uint64_t round_rows;     /* rows since the last SNAPSHOT */
    uint32_t empty_polls;    /* in a row */
    uint64_t progress_rows;  /* READING: rows_read at the last deadline */
    uint64_t progress_acked; /* and batches_acked */

    /*
     * What the broker refuses: the rows of such a batch go out again, first every transaction in
     * a batch of its own, then every row of the one that was refused; and a row that is refused
     * alone, twice, with the source opened in between, is parked; if it is its topic that takes
     * nothing, after some time.
     */
    struct {
        uint64_t order_id;
        uint64_t id;
    } alone[2];              /* up to here: transactions; rows of this one transaction */
    uint64_t suspect_id;     /* the last one refused alone; 0: none */
    bool is_row_refused;     /* the suspect was, for what it is */
    bool is_topic_refused;   /* for its topic */
    uint64_t alone_replayed; /* the same among the replayed: up to this number, each alone */
    int64_t topic_due_ms;    /* the suspect's topic takes nothing: then it is parked for that */
    uint64_t park_id;        /* refused again, and not parked yet; 0: none */
    bool is_whole_topic;     /* the row of park_id is parked for its topic */
    struct buf refused_at; /* position before the row of park_id: parked only if it still is that */
    bool is_narrowing;     /* DRAINING for this reason: go on at once */
    bool is_waiting;       /* DRAINING for want of a topic */
    bool has_parked;       /* as of the last SNAPSHOT */
    bool must_claim;       /* the database has not been told that the source was opened */
    char refusal[200];

    /* Publishing. */
    uint64_t epoch;
    struct sorter sorter;
    bool sorts_here;   /* the present READ */
    bool is_big;       /* the last difference did not fit into the sorter */
    uint64_t big_xmax; /* and ended here: small ones before it say nothing */
    size_t step_bytes; /* of the present difference */
    struct batcher batcher;
    struct list sealed;              /* struct batch with its positions, in order; not yet taken */
    struct list flight;              /* struct batch, lent to the sink, in order */
    size_t flight_bytes;             /* of both lists */
    struct buf sent;                 /* position after the last batch made: `prev` of the next */
    struct buf acked;                /* position stored by the broker */
    struct position acked_position;  /* decoded when asked for */
    struct position stored_position; /* the same without what is later by nothing but time */

    /* Time. */
    int64_t deadline_ms;
    int64_t maintain_due_ms;
    uint64_t maintained_acked; /* rows_acked at the last report */
};

/* ---- relay.c ---- */

void relay_move(struct relay *r, enum relay_state to, const char *event);

/* Ask the database; its answer is awaited until the deadline. */
void relay_ask(struct relay *r, int64_t now_ms, enum relay_state state, enum relay_db_command cmd,
               struct relay_update *out, const char *event);

/* Leave: drop what was read, close the database, wait for the sink, then go to `to`. */
void relay_leave(struct relay *r, int64_t now_ms, enum relay_state to, struct relay_update *out);

/* In DRAINING, and everything is back: go to where the relay was leaving for. */
void relay_drained(struct relay *r, int64_t now_ms);

/*
 * relay_error() says why a person has to decide: tell the database, then end. Only in OPENING: what
 * a snapshot told (the database is behind its position) stays untold, for the transaction ids that
 * are written with are what the database is behind by, and it would be ahead in the end.
 */
void relay_refuse(struct relay *r, int64_t now_ms, struct relay_update *out);

/* Something failed: say it, count it, leave. */
void relay_fail(struct relay *r, int64_t now_ms, int code, const char *what, const char *text,
                struct relay_update *out);

/* ---- relay_open.c ---- */

void relay_on_connected(struct relay *r, const struct relay_event *ev, struct relay_update *out);
void relay_on_opened(struct relay *r, const struct relay_event *ev, struct relay_update *out);
void relay_on_adopted(struct relay *r, const struct relay_event *ev, struct relay_update *out);

/* The database turns out to be behind the position, which is of `theirs`. */
void relay_open_behind(struct relay *r, int64_t now_ms, const struct db_identity *theirs,
                       struct relay_update *out);

/* ---- relay_read.c ---- */

void relay_on_snapshot(struct relay *r, const struct relay_event *ev, struct relay_update *out);
void relay_on_read_done(struct relay *r, const struct relay_event *ev, struct relay_update *out);
void relay_on_maintained(struct relay *r, const struct relay_event *ev, struct relay_update *out);

/* Ask what is new. */
void relay_look(struct relay *r, int64_t now_ms, struct relay_update *out, const char *event);

/* Start the COPY of the current step, or wait for room. */
void relay_read_step(struct relay *r, int64_t now_ms, struct relay_update *out);

/* All steps are read. */
void relay_after_round(struct relay *r, int64_t now_ms, struct relay_update *out);

bool relay_is_report_due(const struct relay *r, int64_t now_ms);
void relay_report(struct relay *r, int64_t now_ms, struct relay_update *out);

/* READING makes progress as long as rows or answers come. */
bool relay_has_progress(struct relay *r);

/* ---- relay_publish.c ---- */

/*
 * Give the batches that the batcher has complete their positions. is_end: the difference ends here,
 * and the cursor moves to its end. 0 or ESCROW_ENOMEM, ESCROW_ELIMIT (a snapshot too big for a
 * position).
 */
ESCROW_MUST_USE int relay_seal(struct relay *r, bool is_end);

/*
 * Queue a batch without messages that moves the stored position to the cursor. Errors as
 * relay_seal.
 */
ESCROW_MUST_USE int relay_seal_empty(struct relay *r);

/* READ is done: what the sorter has goes to the batcher, in order. Errors as relay_seal. */
ESCROW_MUST_USE int relay_unsort(struct relay *r);

/* The same in REPLAYING; the cursor counts what was replayed. */
ESCROW_MUST_USE int relay_seal_replayed(struct relay *r, bool is_end);

/* Everything that was read is stored by the broker. */
bool relay_is_settled(const struct relay *r);

/* Is the window open? */
bool relay_has_room(const struct relay *r);

/* Nothing is lent to the sink. */
bool relay_is_drained(const struct relay *r);

/* Drop what was read and not handed to the sink. */
void relay_unread(struct relay *r);

/*
 * A batch came back. 0: acknowledged (or dropped while DRAINING). Else its error: nothing sent
 * later can have been stored unless this one was.
 */
ESCROW_MUST_USE int relay_settle(struct relay *r, struct batch *batch);

/* ---- relay_park.c ---- */

/*
 * The broker refused the batch for what is in it, and would again. false: it did not; the failure
 * is like any other.
 */
bool relay_refused(struct relay *r, const struct batch *batch, int64_t now_ms);

/* Which rows go out alone: up to here, whole transactions; rows of one transaction. */
enum { RELAY_ALONE_TRANSACTION, RELAY_ALONE_ROW };
bool relay_is_alone(const struct relay *r, int what, uint64_t order_id, uint64_t id);

/*
 * Is the row that was refused still the next one? If the position has moved since, somebody else
 * has published or parked it: what is read from here on says it.
 */
bool relay_must_park(struct relay *r, struct slice position);

void relay_on_parked(struct relay *r, const struct relay_event *ev, struct relay_update *out);

#endif
