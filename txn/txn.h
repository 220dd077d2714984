/*
 * Transactions: the half-message store as step functions. Event and time in; verdict, records to
 * append, questions to ask and the next deadline out. STATES.md draws what happens; this header is
 * what the broker calls.
 *
 * How the broker obeys, always in this order and with nothing in between:
 *
 *   half arrives            txn_prepare -> TXN_NEW -> append the HALF record ->
 *                           txn_half_appended. Answer when durable.
 *   decision arrives        txn_end -> if update.decision is not empty: append it as a DECISION
 *                           record -> txn_decision_appended. Answer each half's result; if
 *                           update.wait, only when all that is in the log by now is applied.
 *   timer, at txn_next_ms   txn_tick -> the same with update.decision; append update.check as a
 *                           CHECK record if there is room (dropping it is allowed); ask every
 *                           update.asks. Again at once while update.more.
 *   question settled        txn_check_answered, or txn_ask_failed -> as after txn_tick.
 *   record durable          in log order, live and in recovery alike: txn_apply_half,
 *                           txn_apply_decision, txn_apply_check.
 *
 * When an append is refused after txn_prepare, txn_end, txn_tick or txn_check_answered, the
 * ..._appended call is left out and nothing has happened: a half was not accepted, a decision was
 * not made, an expiry is proposed again a second later.
 *
 * Owns:    the half table, the memory of decided halves, the scanner.
 * Thread:  loop.
 * Pure:    no clock, no I/O, no randomness but the seed given to txn_new. Allocates through mem.h.
 * Errors:  each function says; after an error nothing has changed, except where "fatal" is written:
 *          then the log and this program disagree, and the process stops.
 * Holds:   txn_check().
 */
#ifndef TXN_TXN_H
#define TXN_TXN_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/limits.h"
#include "core/base/slice.h"
#include "txn/decided.h"
#include "txn/decision.h"
#include "txn/half.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct txn;

/*
 * The moment of an event. Timers use mono_ms; wall_ms goes into records and measures age across
 * restarts.
 */
struct txn_now {
    int64_t mono_ms;
    int64_t wall_ms;
};

/* Ways to ask, in the order in which they are tried. X(name, text) */
#define TXN_WAYS(X)                                                                                \
    X(LIVE, "live")                                                                                \
    X(HTTP, "http")

enum txn_way {
#define X(name, text) TXN_WAY_##name,
    TXN_WAYS(X)
#undef X
        TXN_WAY_COUNT
};

const char *txn_way_name(enum txn_way way);

struct txn_config {
    int64_t immunity_ms;              /* first check of a half without an immunity of its own */
    int64_t immunity_max_ms;          /* a message may ask for at most this */
    int64_t interval_ms;              /* between rounds; doubles ... */
    int64_t interval_max_ms;          /* ... up to this */
    int64_t answer_ms[TXN_WAY_COUNT]; /* a question without an answer for so long has none */
    int64_t pause_ms;                 /* of a group that cannot be reached; doubles ... */
    int64_t pause_max_ms;             /* ... up to this */
    uint32_t checks_max;              /* rounds counted before a half expires, 1..255 */
    uint32_t group_rate;              /* questions per second and producer group, 1..1,000,000 */
    uint32_t group_window;            /* questions of one producer group out at once, >= 1 */
    uint32_t ways;                    /* set of 1 << enum txn_way, not empty */
    size_t halves_max;                /* undecided halves; more are refused with ESCROW_ELIMIT */
    size_t decided_max;               /* decided halves remembered */
};

/*
 * 6 s, 30 s to 10 min, 15 checks, 500/s and 256 out per group, both ways, 16 Mi halves, 1 Mi
 * decided.
 */
void txn_config_default(struct txn_config *config);

/* ESCROW_ECONFIG with the name of the option that is out of range in *err. */
ESCROW_MUST_USE int txn_config_check(const struct txn_config *config, struct err_ctx *err);

/*
 * `seed`: 64 unpredictable bits; they key the hash of ids, the nonces and the jitter. config
 * must have passed its check.
 */
ESCROW_MUST_USE int txn_new(const struct txn_config *config, uint64_t seed, struct txn_now now,
                            struct txn **out);
void txn_free(struct txn *t); /* NULL is fine */

/* ---- half messages --------------------------------------------------------------------------- */

/*
 * What the store needs to know of a half message; from the request before it is appended, from
 * its record afterwards.
 */
struct txn_half_info {
    struct slice group;  /* PGROUP, 1..GROUP_LEN_MAX bytes */
    struct slice txn_id; /* UNIQ_KEY, 1..TXN_ID_LEN_MAX bytes */
    struct slice topic;  /* where it goes when committed, 1..TOPIC_LEN_MAX bytes */
    uint32_t queue;      /* < QUEUES_PER_TOPIC_MAX */
    uint32_t size_bytes; /* of the message record */
    int32_t tag_hash;
    int64_t store_ms;    /* broker's time */
    int64_t immunity_ms; /* CHECK_IMMUNITY_TIME_IN_SECONDS in ms; -1 when it has none */
    bool is_held;        /* has TIMER_OUT_MS: after its commit it waits for its time (timers.h) */
};

/* Where expired halves are shown, queue 0. RocketMQ's name, so that its tools find them. */
#define TXN_PARKING_TOPIC "TRANS_CHECK_MAX_TIME_TOPIC"

/*
 * Fill group, txn_id, immunity_ms and is_held from a message's properties (PGROUP, UNIQ_KEY,
 * CHECK_IMMUNITY_TIME_IN_SECONDS, TIMER_OUT_MS). ESCROW_EINVAL: one of the first two is missing or
 * too long. Slices are borrowed from `properties`.
 */
ESCROW_MUST_USE int txn_half_info_props(struct txn_half_info *info, struct slice properties);

/*
 * Fill all of *info from the payload of a HALF record: a message record whose TOPIC and QUEUEID are
 * the real ones. ESCROW_EPROTO: it is not a message record. ESCROW_EINVAL as above. Slices are
 * borrowed from the payload.
 */
ESCROW_MUST_USE int txn_half_info_decode(struct slice payload, struct txn_half_info *info);

enum txn_prepare_verdict {
    TXN_NEW,       /* append it */
    TXN_DUPLICATE, /* the same (group, id) is undecided: with the same body it is the first one */
    TXN_DECIDED,   /* the same (group, id) was decided */
    TXN_OTHER,     /* the same (group, id) is undecided, and another message: refuse it */
};

struct txn_prepare_result {
    enum txn_prepare_verdict verdict;
    uint64_t offset;          /* DUPLICATE, DECIDED, OTHER: of the first one */
    bool wait;                /* DUPLICATE: answer when all that is in the log now is applied */
    struct decided_fact fact; /* DECIDED */
};

/*
 * May this half be appended? Two halves of one (group, id) are the same message if the topic
 * agrees. The queue may differ, since producers try again on another one; and the size, since what
 * the broker adds depends on the encoding of the request. Returns 0 and a verdict;
 * after TXN_NEW txn_half_appended cannot fail. ESCROW_EINVAL (a length or number out of bounds),
 * ESCROW_ELIMIT (halves_max, or too many distinct group and topic pairs), ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int txn_prepare(struct txn *t, const struct txn_half_info *info,
                                struct txn_prepare_result *result);

/*
 * The record is in the log's buffer at `offset` (larger than all before). Only after TXN_NEW for
 * the same info.
 */
void txn_half_appended(struct txn *t, const struct txn_half_info *info, uint64_t offset);

/*
 * A HALF record is durable. A half that is not in the table (recovery) is made. ESCROW_ENOMEM or
 * ESCROW_ELIMIT in recovery: fatal. ESCROW_ECORRUPT: its id is undecided already under another
 * offset, or offsets do not rise: fatal.
 */
ESCROW_MUST_USE int txn_apply_half(struct txn *t, const struct txn_half_info *info, uint64_t offset,
                                   struct txn_now now, struct err_ctx *err);

/* ---- what the broker has to do -------------------------------------------------------------- */

#define TXN_ASKS_MAX 64

/*
 * A question to the producer group of a half. The half's record at `offset` holds all that goes
 * into it.
 */
struct txn_ask {
    uint64_t offset;
    uint32_t size_bytes;
    enum txn_way way;
    uint64_t nonce;      /* never 0; to be echoed by answers that can */
    uint32_t checks;     /* rounds counted before */
    int64_t deadline_ms; /* monotonic; later answers are stale */
    struct slice group;  /* borrowed until the next call */
    struct slice topic;
};

struct txn_update {
    struct buf decision; /* payload of one DECISION record to append; empty = none */
    struct buf check;    /* payload of one CHECK record to append; empty = none */
    bool wait;           /* answers speak of what is not durable yet: see txn_end */
    bool more; /* txn_tick stopped at a bound: call it again after this update was obeyed */
    size_t ask_count;
    struct txn_ask asks[TXN_ASKS_MAX];
};

void txn_update_init(struct txn_update *u);
void txn_update_fini(struct txn_update *u);

/* ---- decisions ------------------------------------------------------------------------------- */

#define TXN_OFFSET_NONE UINT64_MAX /* not given: the half is looked up by group and id */

struct txn_end_item {
    uint64_t offset;     /* commitLogOffset, or TXN_OFFSET_NONE */
    struct slice txn_id; /* empty = not given; must match when given */
};

struct txn_end {
    enum decision_kind kind; /* COMMIT or ROLLBACK */
    enum decision_by by;     /* PRODUCER, CHECK or OPERATOR */
    struct slice group;      /* must match; empty only for OPERATOR: any */
    const struct txn_end_item *items;
    size_t count; /* 1..END_TXN_HALVES_MAX */
};

enum txn_end_code {
    TXN_END_PERSIST,  /* decided by this request, once update.decision is durable */
    TXN_END_PENDING,  /* the same decision is on its way to the disk: success, after update.wait */
    TXN_END_SAME,     /* was decided so before: success */
    TXN_END_CONFLICT, /* decided, or being decided, the other way: `fact` */
    TXN_END_NOTFOUND, /* neither undecided nor remembered */
    TXN_END_WRONG_GROUP, /* another producer group's half */
    TXN_END_WRONG_ID,    /* the half at this offset has another transaction id */
    TXN_END_HELD_BACK,   /* could be decided, but another of the request cannot */
};

struct txn_end_result {
    enum txn_end_code code;
    struct decided_fact fact; /* SAME, CONFLICT, PENDING; at_ms 0: in flight */
};

/*
 * Decide halves: all of them by one record, or none. Returns 0 with results[count] filled, and
 * update.decision when there is something to append. ESCROW_EINVAL (count, kind, by),
 * ESCROW_ENOMEM; nothing has changed.
 *
 * results of PENDING and CONFLICT may speak of a decision that is still in flight: then update.wait
 * is true.
 */
ESCROW_MUST_USE int txn_end(struct txn *t, const struct txn_end *end, struct txn_now now,
                            struct txn_end_result *results, struct txn_update *u);

/*
 * The error a result stands for: 0, ESCROW_ECONFLICT (it was committed), ESCROW_EROLLEDBACK,
 * ESCROW_ENOTFOUND, ESCROW_EPERM.
 */
int txn_end_error(const struct txn_end_result *result);

/* update.decision was appended. The payload must be what the last call put there. */
void txn_decision_appended(struct txn *t, struct slice payload);

/*
 * A half becomes visible: a consume queue entry is due. Or, when it is_held, its time begins
 * (commit) or it is forgotten (rollback): timers_apply_decided. Slices are borrowed for the call.
 */
struct txn_release {
    uint64_t offset; /* of the HALF record */
    uint32_t size_bytes;
    int32_t tag_hash;
    int64_t store_ms;
    enum decision_kind
        kind;       /* COMMIT: into topic and queue; EXPIRE: into queue 0 of the parking topic */
    bool is_held;   /* COMMIT, ROLLBACK; ROLLBACK only when it is */
    int64_t at_ms;  /* when it was decided */
    uint32_t queue; /* of the message; 0 when expired */
    struct slice topic; /* of the message; TXN_PARKING_TOPIC when expired */
};

/* Non-zero results stop the apply and are returned from it: fatal. */
typedef int txn_release_fn(void *arg, const struct txn_release *release);

/*
 * A DECISION record is durable: the halves leave the table (or are parked) and `release` is called
 * for each committed or expired one, and for those rolled back that are held for a time, in the
 * record's order. ESCROW_ECORRUPT: malformed, or it names a half that is not undecided; fatal.
 */
ESCROW_MUST_USE int txn_apply_decision(struct txn *t, struct slice payload, txn_release_fn *release,
                                       void *arg, struct err_ctx *err);

/*
 * A CHECK record is durable. Halves that were decided meanwhile are passed over.
 * ESCROW_ECORRUPT: malformed; fatal.
 */
ESCROW_MUST_USE int txn_apply_check(struct txn *t, struct slice payload, struct txn_now now,
                                    struct err_ctx *err);

/* ---- check-back ------------------------------------------------------------------------------ */

/* Monotonic time at which txn_tick wants to be called; INT64_MAX = not before another event. */
int64_t txn_next_ms(const struct txn *t);

/*
 * What is due now: questions, expiries, deadlines. Bounded work per call; u->more asks for
 * another. ESCROW_ENOMEM: retry.
 */
ESCROW_MUST_USE int txn_tick(struct txn *t, struct txn_now now, struct txn_update *u);

enum txn_answer {
    TXN_ANSWER_COMMIT,
    TXN_ANSWER_ROLLBACK,
    TXN_ANSWER_IN_PROGRESS,
    TXN_ANSWER_UNKNOWN,  /* somebody answered, and said that he does not know: counts */
    TXN_ANSWER_NOT_MINE, /* whoever answered can never know this half: as if nobody were there */
    TXN_ANSWER_INVALID,  /* any other status or text, wrong id or nonce: does not count */
};

#define TXN_NONCE_NONE 0 /* the way cannot carry a nonce (RocketMQ's END_TRANSACTION) */

/*
 * An answer to the question that is out for the half at `offset`. ESCROW_ENOTFOUND: no such
 * question (any more), or another nonce; nothing has changed. ESCROW_ENOMEM. TXN_NONCE_NONE fits
 * any question on the live way; commit and rollback that arrive without nonce go through txn_end
 * (by = CHECK) instead, which needs no question.
 */
ESCROW_MUST_USE int txn_check_answered(struct txn *t, uint64_t offset, uint64_t nonce,
                                       enum txn_answer answer, struct txn_now now,
                                       struct txn_update *u);

/*
 * RocketMQ's END_TRANSACTION(unknown, from check): as txn_check_answered(UNKNOWN) after testing
 * group and id as txn_end does.
 */
ESCROW_MUST_USE int txn_check_unknown(struct txn *t, struct slice group,
                                      const struct txn_end_item *item, struct txn_now now,
                                      struct txn_update *u);

enum txn_ask_failure {
    TXN_ASK_UNDELIVERABLE, /* nobody connected, no URL, connection refused */
    TXN_ASK_UNANSWERED,    /* it may have arrived; no answer will come */
};

/* The question could not be asked or lost its answer. ESCROW_ENOTFOUND: stale. */
ESCROW_MUST_USE int txn_ask_failed(struct txn *t, uint64_t offset, uint64_t nonce,
                                   enum txn_ask_failure why, struct txn_now now,
                                   struct txn_update *u);

/* A producer of the group has connected (or its URL changed): ask at once what waits for it. */
void txn_group_reachable(struct txn *t, struct slice group, struct txn_now now);

/* ---- looking at it --------------------------------------------------------------------------- */

struct txn_row {
    uint64_t offset; /* the HALF record holds transaction id, keys, body */
    uint32_t size_bytes;
    enum half_state state;
    struct slice group; /* borrowed until the next call that changes something */
    struct slice topic;
    uint32_t queue;
    int64_t store_ms;
    uint32_t checks;
    int64_t next_check_ms; /* monotonic; 0 when none is planned */
    bool is_not_mine;      /* who was asked last can never know it, and nobody else was there */
};

struct txn_filter {
    struct slice group;       /* empty = any */
    struct slice topic;       /* empty = any */
    uint32_t states;          /* set of 1 << enum half_state; 0 = any */
    int64_t stored_before_ms; /* 0 = any */
};

/*
 * Rows in log order, oldest first. *cursor starts at 0 and is the offset to continue from; returns
 * the number of rows. Looks at a bounded number of halves per call: *is_end says whether that was
 * all.
 */
size_t txn_list(const struct txn *t, const struct txn_filter *filter, uint64_t *cursor,
                struct txn_row *rows, size_t rows_max, bool *is_end);

/*
 * One half by its offset; false when it is not undecided (then `fact` may tell: kind
 * DECISION_NONE = not remembered).
 */
bool txn_find(const struct txn *t, uint64_t offset, struct txn_row *row, struct decided_fact *fact);

/*
 * All that is known of a transaction id whoever's it is: undecided halves, and decided ones that
 * are remembered (state COMMITTED or ROLLED_BACK; only offset, state and group are told). At most
 * rows_max rows, no group twice. Costs a look-up for each group that is known.
 */
size_t txn_find_id(const struct txn *t, struct slice txn_id, struct txn_row *rows, size_t rows_max);

/*
 * Broker store time of the oldest undecided half (parked ones included); now.wall_ms when there is
 * none. After the clock was set back it may be later than now. txn_oldest_offset is exact; this is
 * for whoever has a marker per transaction that does not say where its half is.
 */
int64_t txn_horizon_ms(const struct txn *t, struct txn_now now);

/*
 * Physical offset of the oldest undecided half's first record, and of the oldest one that was
 * stored at `from` or behind. UINT64_MAX when there is none.
 */
uint64_t txn_oldest_offset(const struct txn *t);
uint64_t txn_oldest_from(const struct txn *t, uint64_t from);

/* Called for one held message: where its first record is, and the bytes of that record. */
typedef void held_fn(void *arg, uint64_t offset, uint32_t size_bytes);

/* Every undecided half that was first stored in [from, to), in log order. */
void txn_each_between(const struct txn *t, uint64_t from, uint64_t to, held_fn *fn, void *arg);

/*
 * Is there an undecided half that was first stored at `offset`? Also while its decision is written.
 */
bool txn_holds(const struct txn *t, uint64_t offset);

/*
 * Room in the log that the decisions of all undecided halves will need at most:
 * STORE_DECISION_RESERVE for each, less what an EXPIRE record has used, nothing once the decision
 * is appended. Whenever it has changed the broker passes the difference to store_reserve_add or
 * store_reserve_sub.
 */
uint64_t txn_reserve_bytes(const struct txn *t);

/* Counters since the start; X(name, help). Names become metrics. */
#define TXN_COUNTERS(X)                                                                            \
    X(halves_accepted, "half messages accepted")                                                   \
    X(halves_duplicate, "half messages that were there already")                                   \
    X(committed, "halves committed")                                                               \
    X(rolled_back, "halves rolled back")                                                           \
    X(expired, "halves parked after their checks were used up")                                    \
    X(decided_by_check, "halves decided by the answer to a check")                                 \
    X(decided_after_expiry, "halves decided after they were parked")                               \
    X(decisions_repeated, "decisions that had been made before")                                   \
    X(decisions_refused, "decisions refused because the other was made before")                    \
    X(decisions_not_found, "decisions for a half that is not known")                               \
    X(asks_live, "questions over a live connection")                                               \
    X(asks_http, "questions over HTTP")                                                            \
    X(answers_commit, "check answers: commit")                                                     \
    X(answers_rollback, "check answers: rollback")                                                 \
    X(answers_in_progress, "check answers: in progress")                                           \
    X(answers_unknown, "check answers: unknown")                                                   \
    X(answers_not_mine, "check answers: not mine")                                                 \
    X(answers_invalid, "check answers that were none")                                             \
    X(answers_stale, "check answers that came too late or to no question")                         \
    X(asks_undeliverable, "questions that reached nobody")                                         \
    X(asks_unanswered, "questions without an answer")                                              \
    X(rounds_counted, "check rounds counted toward expiry")                                        \
    X(group_pauses, "times a producer group could not be reached")

struct txn_counters {
#define X(name, help) uint64_t name;
    TXN_COUNTERS(X)
#undef X
};

struct txn_gauges {
    size_t by_state[HALF_STATE_COUNT];
    size_t halves;
    size_t decided; /* remembered */
    size_t groups;
    size_t asking;       /* questions out */
    size_t bytes_halves; /* memory of the half table */
    size_t bytes_decided;
    size_t bytes_save;  /* of halves as a checkpoint under way wants them */
    uint64_t scan_work; /* halves and groups touched by timers since the start */
};

const struct txn_counters *txn_counters(const struct txn *t);
void txn_counters_reset(struct txn *t); /* after recovery: what it read was counted before */
void txn_gauges(const struct txn *t, struct txn_gauges *gauges);

/* ---- checkpoint ------------------------------------------------------------------------------ */

/*
 * The section in two steps, so that the loop serves others while a million halves are written.
 * txn_save appends it (buf_failed when memory is short), with room for halves and decisions.
 * txn_save_more writes at most `max` of them there: 1 while there are more, 0 when it is complete,
 * ESCROW_ENOMEM: give the checkpoint up. `bytes` is where the buffer's bytes begin, which from the
 * first call on may not move; that call follows before anything else happens to *t, or never does.
 *
 * The section says what was durable and applied at txn_save, nothing in flight, whatever is applied
 * until it is complete. A half that changes before it was written costs 60 bytes until then.
 */
#define TXN_SAVE_PIECE 8192u /* halves, or decisions, for one turn of the loop */

void txn_save(struct txn *t, struct txn_now now, struct buf *out);
ESCROW_MUST_USE int txn_save_more(struct txn *t, uint8_t *bytes, uint32_t max);

/*
 * Read a section into a struct txn just made. ESCROW_ECORRUPT, ESCROW_EVERSION, ESCROW_ENOMEM:
 * fatal; then only txn_free.
 */
ESCROW_MUST_USE int txn_load(struct txn *t, struct slice section, struct txn_now now,
                             struct err_ctx *err);

/*
 * CHECK everything that must hold. For tests, and after each event in builds with ESCROW_DCHECK
 * and few halves.
 */
void txn_check(const struct txn *t);

#endif
