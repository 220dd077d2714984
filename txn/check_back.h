/*
 * The check-back scanner: decides when to ask about an undecided half, whom, and when to stop
 * asking (STATES.md, "The check-back scanner"). Used by txn.c only.
 *
 * Owns:    two timing wheels (halves; groups whose turn depends on time). The half table is
 *          borrowed.
 * Thread:  loop.
 * Pure:    time comes in; jitter from its own struct rand; questions go out.
 * Holds:   PREPARED and applied <=> in the wheel or in a list of its group; CHECKING => in
 *          the wheel, and counted in its group's `asking`; no other state is in either. A group is
 *          in the wheel of groups iff is_scheduled, and it is scheduled whenever halves are ready
 *          and its window is open. check_back_check() asserts it.
 */
#ifndef TXN_CHECK_BACK_H
#define TXN_CHECK_BACK_H

#include "core/base/rand.h"
#include "core/base/wheel.h"
#include "txn/half_table.h"
#include "txn/txn.h"

#define CHECK_BACK_TICK_MS                                                                         \
    100 /* resolution of both wheels: 32-bit ticks last for 13 years of uptime */
#define CHECK_BACK_BATCH                                                                           \
    64 /* expiries, and counted rounds, of one tick: bounds the size of its records */
#define CHECK_BACK_WORK_MAX 4096 /* wheel nodes touched by one tick: well under a millisecond */
#define CHECK_BACK_EXPIRE_RETRY_MS                                                                 \
    1000 /* an expiry that was not appended is proposed again after this */
#define CHECK_BACK_RATE_BURST_US                                                                   \
    100000 /* an idle group may catch up on this much of its rate at once */

struct check_back {
    const struct txn_config *config; /* borrowed */
    struct half_table *table;        /* borrowed */
    struct txn_counters *counters;   /* borrowed */
    struct wheel halves;
    struct wheel groups;
    struct rand rand;
    struct hash_key nonce_key;
    size_t asking;
    int64_t now_ms; /* the latest time seen */
};

/*
 * What one call wants done. The caller turns `expired` into an EXPIRE record and `counted` into
 * a CHECK record.
 */
struct check_back_out {
    struct txn_update *u; /* asks are appended here */
    struct half *expired[CHECK_BACK_BATCH];
    size_t expired_count;
    struct half *counted[CHECK_BACK_BATCH]; /* their rounds so far + 1 */
    size_t counted_count;
};

enum check_back_outcome {
    CHECK_BACK_IN_PROGRESS,
    CHECK_BACK_UNKNOWN,
    CHECK_BACK_UNANSWERED,
    CHECK_BACK_NOT_MINE, /* of this half; others of its group it may know */
    CHECK_BACK_UNDELIVERABLE,
};

void check_back_init(struct check_back *c, const struct txn_config *config,
                     struct half_table *table, struct txn_counters *counters, uint64_t seed,
                     int64_t now_ms);

/* The half has become PREPARED: first check after delay_ms. */
void check_back_start(struct check_back *c, struct half *half, int64_t delay_ms, int64_t now_ms);

/*
 * The half is about to leave PREPARED or CHECKING for good: no more timers, no more questions.
 * Harmless elsewhere.
 */
void check_back_cancel(struct check_back *c, struct half *half);

/* The half's rounds were raised to the maximum: look at it in the next tick. */
void check_back_hurry(struct check_back *c, struct half *half, int64_t now_ms);

/* What is due. u->more is set when a bound was reached. */
void check_back_tick(struct check_back *c, int64_t now_ms, struct check_back_out *out);

/*
 * The question that is out for a CHECKING half is settled without a decision: ask on the next
 * way, or back off.
 */
void check_back_settle(struct check_back *c, struct half *half, enum check_back_outcome outcome,
                       int64_t now_ms, struct check_back_out *out);

/* End the pause of a group. */
void check_back_reachable(struct check_back *c, struct group *group, int64_t now_ms);

/* Nonce of the question that is out for a CHECKING half. */
uint64_t check_back_nonce(const struct check_back *c, const struct half *half);

int64_t check_back_next_ms(const struct check_back *c);

/*
 * Time to the next check, for listings and checkpoints: ms from now, 0 when due, -1 when none is
 * planned.
 */
int64_t check_back_remaining_ms(const struct check_back *c, const struct half *half,
                                int64_t now_ms);

void check_back_check(const struct check_back *c);

#endif
