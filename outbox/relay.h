/*
 * The relay as a step machine: which question to ask the database or the broker next, and what
 * their answers mean.
 *
 * Event and time in, commands out; the I/O layer (outbox/pg/relay_loop.h) obeys. STATES.md draws
 * the states and says why every row is published exactly once.
 *
 * Owns:    its position, the rows read and not yet sent, and the batches in flight (lent to the
 *          sink until its cb).
 * Thread:  the relay's loop.
 * Pure:    no clock, no I/O, no log. Time comes in with each event.
 * Holds:   at most one database command is outstanding; batches are sent in the order of their
 *          positions, each with the one before as `prev`; a batch is sent only for rows whose
 *          transactions are durable.
 */
#ifndef OUTBOX_RELAY_H
#define OUTBOX_RELAY_H

#include "core/base/attr.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/sm.h"
#include "outbox/backoff.h"
#include "outbox/batcher.h"
#include "outbox/position.h"
#include "outbox/row.h"
#include "outbox/sink.h"

#include <stdbool.h>
#include <stdint.h>

#define RELAY_NAME_MAX  127
#define RELAY_NEVER_MS  INT64_MAX
#define RELAY_STEPS_MAX 64 /* intermediate snapshots taken over in one question */

#define RELAY_STATES(X)                                                                            \
    X(STOPPED)     /* not started, or stopped: nothing outstanding */                              \
    X(CONNECTING)  /* to the database */                                                           \
    X(OPENING)     /* asking the broker for its position, and then for the next epoch */           \
    X(ADOPTING)    /* the database is being taken over under a new identity */                     \
    X(PARKING)     /* a row that the broker refuses is being set aside */                          \
    X(SNAPSHOT)    /* asking what is new */                                                        \
    X(READING)     /* COPY of one difference */                                                    \
    X(PUBLISHING)  /* nothing to read until the broker has taken some of what was sent */          \
    X(REPLAYING)   /* COPY of parked rows that are to be published again */                        \
    X(SETTLING)    /* those are sent: waiting until the broker has them all */                     \
    X(MAINTAINING) /* telling the database what is passed; rotation */                             \
    X(IDLE)        /* nothing new; waiting for a wake-up or the next poll */                       \
    X(REFUSING)    /* the database is told why, and that a person has to say what is right */      \
    X(DRAINING)    /* something failed or stops: waiting until the sink gives all batches back */  \
    X(BACKOFF)     /* waiting before the next attempt */                                           \
    X(FENCED)      /* another relay took over: this one must not go on */                          \
    X(REFUSED) /* database and position do not belong together; a person has to say what is right */

enum relay_state {
#define X(name) RELAY_##name,
    RELAY_STATES(X)
#undef X
        RELAY_STATE_COUNT
};

/* What a person said about a database that is not the one of the stored position. */
enum relay_foreign {
    RELAY_FOREIGN_REFUSE,
    RELAY_FOREIGN_ADOPT,  /* it continues that one: publish what it does not know to be published */
    RELAY_FOREIGN_DISCARD /* it is another one: publish only what comes from now on */
};

struct relay_config {
    const char *source; /* borrowed for the relay's life */
    const char *owner;
    uint32_t lane;
    size_t batch_rows_max;
    size_t batch_bytes_max;
    size_t sort_bytes_max; /* a difference bigger than that is sorted by the database */
    size_t window_bytes;   /* sent and unanswered; at least one batch is always allowed */
    uint32_t poll_min_ms;  /* after rows: the next look */
    uint32_t poll_max_ms;  /* nothing for long: the fallback when no wake-up comes */
    uint32_t maintain_ms;  /* between two reports to the database */
    uint32_t backoff_base_ms;
    uint32_t backoff_max_ms;
    uint32_t topic_wait_ms; /* a topic that takes nothing: so long all wait, then its rows alone */
    uint32_t db_timeout_ms; /* for one answer of the database */
    enum relay_foreign foreign;
    struct db_identity
        foreign_db; /* the identity that ADOPT and DISCARD speak of: no other is taken over */
    uint64_t seed;
};

/* Defaults for everything but source, owner and seed. */
void relay_config_init(struct relay_config *cfg);

enum relay_event_type {
    RELAY_EV_START,
    RELAY_EV_STOP,
    RELAY_EV_TICK,         /* the deadline has come (early is harmless) */
    RELAY_EV_WAKE,         /* the database says that something was published */
    RELAY_EV_DB_CONNECTED, /* db, reports, rows_published, stored, given_up, cleared, knows_error */
    RELAY_EV_DB_FAILED,    /* code, text: the connection is gone or useless, and closed */
    RELAY_EV_SNAPSHOT,     /* snapshots, count, has_rows, has_parked, wants_replay */
    RELAY_EV_READ_DONE,    /* all rows were fed with relay_row */
    RELAY_EV_MAINTAINED,   /* reports */
    RELAY_EV_ADOPTED,      /* snapshots[0]: what is passed now */
    RELAY_EV_PARKED,       /* durably */
    RELAY_EV_TOLD,         /* durably: why the relay ends */
    RELAY_EV_OPENED        /* code, text, epoch, position */
};

struct relay_event {
    enum relay_event_type type;
    int64_t now_ms; /* monotonic */
    int code;
    const char *text;  /* borrowed; may be NULL */
    bool needs_person; /* DB_FAILED: trying again soon cannot help (password, schema) */
    struct db_identity db;
    uint64_t reports;                /* of this source that the database has durably */
    uint64_t rows_published;         /* the sum of those reports */
    const struct snapshot *stored;   /* of the broker's position, as last reported; NULL: never */
    const struct snapshot *given_up; /* sees all rows that were truncated; NULL: none were */
    uint64_t cleared;                /* replayed rows are removed up to this number; 0: none */
    bool knows_error;                /* the database was told one that has not been taken back */
    struct snapshot *snapshots;      /* ascending; the last is the present. Contents may be taken */
    size_t snapshot_count;
    bool is_cut; /* there are more steps between the last but one and the present than were named */
    bool has_rows;     /* rows between the position and the present exist */
    bool has_parked;   /* rows of this source are parked, or keys or topics held */
    bool wants_replay; /* and some of them are to be published now */
    uint64_t epoch;
    struct slice position;
};

enum relay_db_command {
    RELAY_DB_NONE,
    RELAY_DB_CONNECT,  /* -> DB_CONNECTED with the identity; the database is told relay_error() */
    RELAY_DB_REFUSE,   /* -> TOLD; the database is told relay_error(), with which the relay ends */
    RELAY_DB_CLOSE,    /* whatever is outstanding is forgotten; no event follows */
    RELAY_DB_SNAPSHOT, /* -> SNAPSHOT: what is new since relay_cursor()->old; hold_wake. When there
                          are rows, all that the present snapshot sees is made durable first */
    RELAY_DB_READ, /* -> relay_row for each row, then READ_DONE; the difference in relay_cursor() */
    RELAY_DB_MAINTAIN, /* -> MAINTAINED; relay_acked()->old is passed */
    RELAY_DB_ADOPT,    /* -> ADOPTED; keep_rows */
    RELAY_DB_PARK,     /* -> PARKED; park_id, is_whole_topic, relay_refusal() */
    RELAY_DB_REPLAY    /* -> relay_row for each parked row that is to be published behind
                          relay_cursor()->replayed, in order, then READ_DONE */
};

/*
 * What to do now. Then feed the batches of relay_take_batch to the sink, and TICK at deadline_ms.
 */
struct relay_update {
    bool must_close_db; /* before anything else; no event follows */
    enum relay_db_command db;
    bool must_open_sink; /* -> OPENED; sink_source, may_adopt and is_peek */
    bool may_adopt;
    bool is_peek;
    bool hold_wake;    /* SNAPSHOT: wake-ups are not wanted while the relay polls anyway */
    bool must_claim;   /* SNAPSHOT, PARK: say relay_epoch() first */
    bool is_put_back;  /* SNAPSHOT: and then that the broker's position is only relay_cursor()->old,
                            relay_given_up() being what was compared with */
    bool accepts_loss; /* is_put_back: a person said that what is missing stays missing */
    bool has_parked;   /* READ: park what is held before, and give parked rows an empty topic.
                         MAINTAIN: clear what is published */
    bool is_short;     /* READ: few rows are expected */
    bool is_sorted;    /* READ: rows must come sorted, with their order id; else with their xid */
    bool keep_rows;    /* ADOPT */
    uint64_t park_id;  /* PARK: id of the row */
    bool is_whole_topic;  /* PARK: all of its topic is held, not only its key */
    uint64_t report_rows; /* MAINTAIN: rows acknowledged since the last one */
    bool has_recovered;   /* MAINTAIN: whatever error the database was told is over */
    bool has_news;        /* relay_error() says something that has not been reported yet */
    int64_t deadline_ms;
};

struct relay_stats {
    uint64_t rows_read;
    uint64_t rows_acked;
    uint64_t bytes_acked;
    uint64_t batches_acked;
    uint64_t differences;
    uint64_t failures;
    uint64_t rows_parked;   /* because they were refused themselves */
    uint64_t rows_replayed; /* of rows_acked: that had been parked */
    uint64_t topic_waits;   /* of `failures`: waited for a topic */
    uint64_t auth_failures; /* of `failures`: the broker did not accept who is asking */
};

struct relay;

/* NULL: out of memory. cfg is copied, its strings are borrowed. */
struct relay *relay_new(const struct relay_config *cfg) ESCROW_MUST_USE;

/* In a final state, or with nothing lent to the sink. NULL is fine. */
void relay_free(struct relay *r);

/*
 * Feed one event. Events that do not belong to the current state (answers that crossed a close) are
 * ignored.
 */
void relay_step(struct relay *r, const struct relay_event *ev, struct relay_update *out);

/*
 * One row of the COPY, in READING, as the command said: sorted or not; a row without a topic is
 * parked. In REPLAYING, sorted, order_id being the row's number among the replayed. 0, or an error
 * after which the caller feeds DB_FAILED with that code: ESCROW_ENOMEM, ESCROW_EPROTO (malformed
 * properties, or rows out of order: the query is not what this code believes), ESCROW_ELIMIT (too
 * big to be sorted here).
 */
ESCROW_MUST_USE int relay_row(struct relay *r, const struct outbox_row *row);

/*
 * READING: is there room for more rows? When not, stop reading from the socket until a batch came
 * back.
 */
bool relay_wants_rows(const struct relay *r);

/*
 * Next batch to hand to the sink, lent to it until its cb; NULL when none. sink.cb and sink.arg are
 * the caller's to set.
 */
struct sink_batch *relay_take_batch(struct relay *r);

/* The sink gave a batch back; batch->code says how it went. The batch is freed. */
void relay_batch_done(struct relay *r, struct sink_batch *batch, int64_t now_ms,
                      struct relay_update *out);

enum relay_state relay_state(const struct relay *r);
const char *relay_state_name(const struct relay *r);
bool relay_is_final(const struct relay *r); /* STOPPED, FENCED, REFUSED */

/* Read up to here; while READING the difference that is being read, and after which row. */
const struct position *relay_cursor(const struct relay *r);

/* Everything that its `old` sees is stored by the broker. As of the last MAINTAIN. */
const struct position *relay_acked(const struct relay *r);

/* Of the position that the broker has, as of the last MAINTAIN; NULL: it has none. */
const struct snapshot *relay_stored(const struct relay *r);

/* What the database said of given_up when it was connected last; sees nothing: none. */
const struct snapshot *relay_given_up(const struct relay *r);

/* Given by the broker when the source was opened last. */
uint64_t relay_epoch(const struct relay *r);

const struct sink_source *relay_sink_source(const struct relay *r);

/* Why the broker refused the row that is to be parked: visible ASCII without quotes. */
const char *relay_refusal(const struct relay *r);

/*
 * The last failure; code 0 when everything works again: what failed to be published has been.
 */
const struct err_ctx *relay_error(const struct relay *r);

const struct relay_stats *relay_stats(const struct relay *r);

/* Invariants; aborts when one does not hold. */
void relay_check(const struct relay *r);

#endif
