/*
 * What the files of the scanner share: check_back.c asks and counts, check_back_group.c knows when
 * a group has its turn, check_back_check.c walks it all.
 *
 * Owns:    nothing.
 * Thread:  loop.
 * Holds:   see check_back.h.
 */
#ifndef TXN_CHECK_BACK_PRIVATE_H
#define TXN_CHECK_BACK_PRIVATE_H

#include "txn/check_back.h"

static inline struct group *check_back_group(const struct check_back *c, const struct half *half)
{
    return half_table_route(c->table, half)->group;
}

/* base doubled `step` times, at most max, and up to a quarter more. */
int64_t check_back_delay(struct check_back *c, int64_t base, int64_t max, unsigned step);

/* ---- its lists ---- */

void group_ready_push_tail(struct check_back *c, struct group *group, struct half *half);
void group_ready_push_head(struct check_back *c, struct group *group, struct half *half);

/* Out of whichever of the two lists it is in. */
void group_ready_remove(struct check_back *c, struct group *group, struct half *half);

/* The half waits behind all others of its group, and for longer each time. */
void group_away_push(struct check_back *c, struct group *group, struct half *half, int64_t now_ms);

/* Nothing is left to ask about but halves that whoever was reached can never know. */
bool group_is_away(const struct group *group);

/* ---- its turn ---- */

/* A group that could not be reached gets one question at a time until somebody is there. */
bool group_is_open(const struct check_back *c, const struct group *group);

/* Earliest moment at which pause and rate allow a question. */
int64_t group_turn_ms(const struct group *group);

/* Keep `Holds`: scheduled iff something is ready and the window is open. */
void group_schedule(struct check_back *c, struct group *group, int64_t now_ms);

/* Its turn may be another: group_schedule follows. */
void group_unschedule(struct check_back *c, struct group *group);

/* A question went out: count it against the rate. */
void group_charge(const struct check_back *c, struct group *group, int64_t now_ms);

/* Nobody was there. */
void group_pause(struct check_back *c, struct group *group, int64_t now_ms);

#endif
